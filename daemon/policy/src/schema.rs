//! What scripts see, as a table: every document, its fields, their types, what they mean. The one source for the strict documents
//! of the sandbox, for "did you mean", for reading documents from files (`facts`) and for the editors' stubs (`stubs`).

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Text.
    Text,
    /// One of some words.
    Words(&'static [&'static str]),
    /// A number: an amount, an id, an instant.
    Number,
    /// `true` or `false`.
    Flag,
    /// Text to text.
    Labels,
    /// Name to `true`.
    Names,
    /// A list of texts.
    Texts,
    /// A list of numbers.
    Numbers,
    /// Another document, by key.
    One(&'static str),
    /// A list of documents, by key.
    Many(&'static str),
}

/// A field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether it can be `nil`.
    pub(crate) optional: bool,
    pub(crate) about: &'static str,
}

/// A document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document {
    /// How the prelude calls it.
    pub(crate) key: &'static str,
    /// How errors call it.
    pub(crate) noun: &'static str,
    /// How editors call it.
    pub(crate) type_name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) fields: &'static [Field],
}

impl Document {
    /// The names of its fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|field| field.name)
    }
}

const fn field(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, optional: false, about }
}

/// A field that is `nil` where it does not apply.
const fn maybe(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, optional: true, about }
}

use Kind::{Flag, Labels, Many, Names, Number, Numbers, One, Text, Texts, Words};

/// The document with this key.
pub(crate) fn document(key: &str) -> Option<&'static Document> {
    DOCUMENTS.iter().find(|document| document.key == key)
}

/// Every document that scripts see.
pub(crate) const DOCUMENTS: &[Document] = &[
    Document {
        key: "image",
        noun: "image",
        type_name: "Image",
        about: "An image of the catalogue.",
        fields: &[
            field("id", Text, "32 hexadecimal digits"),
            field("name", Text, "its name in the catalogue"),
            field("digest", Text, "sha256 of its bytes; empty while it is being imported"),
            field("owner", Number, "uid"),
            field("visibility", Words(&["private", "public"]), "who may use it"),
            field("format", Words(&["raw", "qcow2"]), "format of the disk"),
            field("size_mib", Number, "size that the guest sees"),
            field("size_bytes", Number, "size of the file"),
        ],
    },
    Document {
        key: "nic",
        noun: "nic",
        type_name: "Nic",
        about: "A network interface.",
        fields: &[
            field("kind", Words(&["user", "bridge", "network"]), "what it is plugged into"),
            maybe("source", Text, "name of the bridge or network on the hosts"),
            maybe("mac", Text, "MAC address"),
            field("inbound_kib_per_second", Number, "limit; 0: none"),
            field("outbound_kib_per_second", Number, "limit; 0: none"),
            maybe("network", Text, "the site's network that it names"),
            maybe("address", Text, "address asked for, or, once there is a workspace, given"),
            field("labels", Labels, "the network's labels"),
        ],
    },
    Document {
        key: "grant",
        noun: "entry of an access list",
        type_name: "Grant",
        about: "Who else may do what with a workspace.",
        fields: &[
            field("kind", Words(&["user", "group"]), "whose id it is"),
            field("id", Number, "uid or gid"),
            field("right", Words(&["view", "use", "manage"]), "each includes the ones before it"),
        ],
    },
    Document {
        key: "request",
        noun: "request",
        type_name: "Request",
        about: "What is asked.",
        fields: &[
            field("verb", Text, "launch, start, view, ... (the manual has them all)"),
            field("name", Text, "of the workspace or object"),
            field("images", Many("image"), "the root disk's first"),
            field("memory_mib", Number, "memory"),
            field("vcpus", Number, "virtual processors"),
            field("disk_gib", Number, "sum of all disks"),
            field("duration_seconds", Number, "lease asked for; 0: none was named"),
            maybe("end_action", Words(&["stop", "serialize", "destroy"]), "what happens at the lease's end"),
            field("nics", Many("nic"), "network interfaces"),
            field("labels", Labels, "any key may be asked for"),
            maybe("operating_system", Text, "what the caller says the guest is"),
            maybe("group", Text, "group that is charged"),
            maybe("target", Words(&["stopped", "running", "paused"]), "state asked for"),
            maybe("host", Text, "host that the caller insists on"),
            maybe("backend", Text, "backend that the request is bound to"),
            field("needs", Texts, "capabilities that the host must have"),
            field("access", Many("grant"), "who else may"),
            field("addresses", Number, "addresses of networks' pools that it takes, or has"),
            maybe("cluster", Text, "the cluster that it is a member of"),
            maybe("role", Text, "its role in the cluster"),
            field("preemptible", Flag, "whether others may have its room"),
        ],
    },
    Document {
        key: "caller",
        noun: "caller",
        type_name: "Caller",
        about: "Who asks, as the bus says.",
        fields: &[
            field("uid", Number, "user id"),
            field("user", Text, "user name"),
            field("gids", Numbers, "group ids, primary first"),
            field("groups", Texts, "their names, same order"),
            field("admin", Flag, "root, or in the administrators' group"),
            field("system", Flag, "the daemon itself"),
        ],
    },
    Document {
        key: "workspace",
        noun: "workspace",
        type_name: "Workspace",
        about: "What it is about.",
        fields: &[
            field("id", Text, "32 hexadecimal digits"),
            field("name", Text, "its name"),
            field("owner", Number, "uid"),
            field("owner_name", Text, "user name"),
            maybe("group", Text, "group that is charged"),
            field("state", Text, "running, stopped, serialized, ..."),
            field("target", Text, "the state that it is on its way to"),
            maybe("host", Text, "the host that it is on"),
            field("labels", Labels, "any key may be asked for"),
            field("access", Many("grant"), "who else may"),
            maybe("operating_system", Text, "what the guest is said to be"),
            field("image", Text, "what its root disk was made from"),
            field("vcpus", Number, "virtual processors"),
            field("memory_mib", Number, "memory"),
            field("disk_gib", Number, "sum of all disks"),
            field("lease_from", Number, "microseconds since 1970 UTC"),
            maybe("lease_until", Number, "microseconds since 1970 UTC; nil: no end"),
            field("end_action", Words(&["stop", "serialize", "destroy"]), "what happens at the lease's end"),
            field("created_at", Number, "microseconds since 1970 UTC"),
            field("preemptible", Flag, "whether others may have its room"),
        ],
    },
    Document {
        key: "sums",
        noun: "usage",
        type_name: "Sums",
        about: "What somebody has; the workspace that the request is about is not counted.",
        fields: &[
            field("workspaces", Number, "serialized ones too"),
            field("running", Number, "that run"),
            field("vcpus", Number, "held on hosts"),
            field("memory_mib", Number, "held on hosts"),
            field("disk_gib", Number, "held on hosts"),
            field("reserved_minutes", Number, "leases from begin to end"),
            field("addresses", Number, "of networks' pools, of serialized ones too"),
        ],
    },
    Document {
        key: "usage",
        noun: "usage",
        type_name: "Usage",
        about: "What is used and reserved now.",
        fields: &[
            field("owner", One("sums"), "of the workspace's owner, or the caller"),
            field("group", One("sums"), "of the group that is charged"),
            field("site", One("sums"), "of everybody"),
        ],
    },
    Document {
        key: "placement",
        noun: "placement",
        type_name: "Placement",
        about: "A present workspace of the same owner or the charged group.",
        fields: &[
            field("name", Text, "its name"),
            field("owner", Number, "uid"),
            maybe("group", Text, "group that is charged"),
            maybe("host", Text, "nil: serialized"),
            field("labels", Labels, "any key may be asked for"),
            field("running", Flag, "whether it runs"),
            field("preemptible", Flag, "whether others may have its room"),
            field("vcpus", Number, "virtual processors"),
            field("memory_mib", Number, "memory"),
            field("disk_gib", Number, "disks"),
        ],
    },
    Document {
        key: "amounts",
        noun: "amounts of a host",
        type_name: "Amounts",
        about: "What a host has or has left.",
        fields: &[
            field("vcpus", Number, "virtual processors"),
            field("memory_mib", Number, "memory"),
            field("disk_gib", Number, "disk"),
        ],
    },
    Document {
        key: "host",
        noun: "host",
        type_name: "Host",
        about: "A host that has room.",
        fields: &[
            field("name", Text, "its name"),
            field("backend", Text, "the plugin that it is reached by"),
            field("labels", Labels, "the site's labels; any key may be asked for"),
            field("free", One("amounts"), "what is free for new workspaces"),
            field("capacity", One("amounts"), "what it gives out"),
            field("workspaces", Number, "workspaces on it"),
            field("workspaces_of_owner", Number, "of the request's owner"),
            field("workspaces_of_group", Number, "of the charged group"),
            maybe("accelerator", Text, "how guests run: kvm, tcg, ..."),
            maybe("arch", Text, "for instance x86_64"),
            maybe("hypervisor", Text, "its name and version"),
            field("capabilities", Names, "what it can do"),
        ],
    },
    Document {
        key: "access_input",
        noun: "the input of access.lua",
        type_name: "AccessInput",
        about: "What access.lua is asked.",
        fields: &[
            field("request", One("request"), "what is asked"),
            field("caller", One("caller"), "who asks"),
            maybe("workspace", One("workspace"), "what it is about; nil for a launch"),
            field("now", Number, "microseconds since 1970 UTC"),
        ],
    },
    Document {
        key: "quota_input",
        noun: "the input of quota.lua",
        type_name: "QuotaInput",
        about: "What quota.lua is asked.",
        fields: &[
            field("request", One("request"), "what is asked"),
            field("caller", One("caller"), "who asks"),
            maybe("workspace", One("workspace"), "what it is about; nil for a launch"),
            field("usage", One("usage"), "what is used and reserved now"),
            field("now", Number, "microseconds since 1970 UTC"),
        ],
    },
    Document {
        key: "placement_input",
        noun: "the input of placement.lua",
        type_name: "PlacementInput",
        about: "What placement.lua is asked.",
        fields: &[
            field("request", One("request"), "what is asked"),
            field("caller", One("caller"), "who asks"),
            maybe("workspace", One("workspace"), "what it is about; nil for a launch"),
            field("placements", Many("placement"), "the first 256"),
            field("placements_total", Number, "how many there are"),
            field("now", Number, "microseconds since 1970 UTC"),
        ],
    },
    // The next one goes here.
];

#[cfg(test)]
mod tests {
    use super::{DOCUMENTS, Kind, document};

    #[test]
    fn every_document_that_is_named_is_there() {
        for field in DOCUMENTS.iter().flat_map(|document| document.fields) {
            if let Kind::One(key) | Kind::Many(key) = field.kind {
                assert!(document(key).is_some(), "{} names {key}", field.name);
            }
        }
    }
}
