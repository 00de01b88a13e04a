//! The keys of every `a{sv}` that a method takes, with their types, so that an unknown key or a wrong type is refused by
//! name. Each key's meaning, range and default stand in the interface files; a test holds both together.

use crate::names;

/// A key of an `a{sv}` argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name: lower case, with dashes.
    pub name: &'static str,
    /// D-Bus signature of its value.
    pub signature: &'static str,
}

const fn key(name: &'static str, signature: &'static str) -> Key {
    Key { name, signature }
}

macro_rules! names {
    ($($constant:ident = $text:literal),+ $(,)?) => {
        $(#[doc = concat!("`", $text, "`")] pub const $constant: &str = $text;)+
    };
}

names! {
    ACCEPT = "accept",
    ACCESS = "access",
    ADDRESS = "address",
    ANTI_SPOOFING = "anti-spoofing",
    ALL = "all",
    APART_FROM = "apart-from",
    BACKEND = "backend",
    CALLER = "caller",
    CLUSTER = "cluster",
    CMDLINE = "cmdline",
    COUNT = "count",
    CPU_OVERCOMMIT_PERCENT = "cpu-overcommit-percent",
    CPU_SHARES = "cpu-shares",
    CURSOR = "cursor",
    DATA_DISKS = "data-disks",
    DHCP = "dhcp",
    DIGEST = "digest",
    DISK_GIB = "disk-gib",
    DISK_IOPS = "disk-iops",
    DISK_KIB_PER_SECOND = "disk-kib-per-second",
    DNS = "dns",
    ENABLED = "enabled",
    ENDED = "ended",
    END_ACTION = "end-action",
    EVACUATE = "evacuate",
    FILE = "file",
    FIRMWARE = "firmware",
    FORMAT = "format",
    GATEWAY = "gateway",
    GID = "gid",
    GROUP = "group",
    GUEST_TIMEOUT_MS = "guest-timeout-ms",
    HOST = "host",
    ID = "id",
    IMAGE = "image",
    INBOUND_KIB_PER_SECOND = "inbound-kib-per-second",
    INDEX = "index",
    INITRD = "initrd",
    INITRD_PATH = "initrd-path",
    IOPS = "iops",
    KERNEL = "kernel",
    KERNEL_PATH = "kernel-path",
    KIB_PER_SECOND = "kib-per-second",
    KIND = "kind",
    LABEL = "label",
    LABELS = "labels",
    LEASE_SECONDS = "lease-seconds",
    LIMIT = "limit",
    MAC = "mac",
    MEMORY = "memory",
    MEMORY_MAX_MIB = "memory-max-mib",
    MEMORY_MIB = "memory-mib",
    MEMORY_OVERCOMMIT_PERCENT = "memory-overcommit-percent",
    MIB_PER_SECOND = "mib-per-second",
    NAME = "name",
    NETWORK = "network",
    NETWORK_CONFIG = "network-config",
    NICS = "nics",
    OPERATING_SYSTEM = "operating-system",
    OUTBOUND_KIB_PER_SECOND = "outbound-kib-per-second",
    OWNER = "owner",
    PATH = "path",
    PREEMPTIBLE = "preemptible",
    RANGES = "ranges",
    REQUEST_ID = "request-id",
    RESERVE_DISK_GIB = "reserve-disk-gib",
    IMAGE_CACHE_GIB = "image-cache-gib",
    RESERVE_MEMORY_MIB = "reserve-memory-mib",
    RESERVE_VCPUS = "reserve-vcpus",
    RIGHT = "right",
    ROLE_NAME = "role",
    ROLES = "roles",
    SETTINGS = "settings",
    SINCE = "since",
    SIZE_GIB = "size-gib",
    SOURCE = "source",
    SSH_KEYS = "ssh-keys",
    STATE = "state",
    SUBNET = "subnet",
    TARGET = "target",
    TOGETHER_WITH = "together-with",
    UID = "uid",
    UNTIL = "until",
    URL = "url",
    USER = "user",
    USER_DATA = "user-data",
    VCPUS = "vcpus",
    VCPUS_MAX = "vcpus-max",
    VERB = "verb",
    VERDICT = "verdict",
    VISIBILITY = "visibility",
    WITH_IMAGES = "with-images",
    WORKSPACE = "workspace",
}

/// `Manager.CreateWorkspace`: spec.
pub const SPEC: &[Key] = &[
    key(IMAGE, "s"),
    key(VCPUS, "t"),
    key(VCPUS_MAX, "t"),
    key(CPU_SHARES, "t"),
    key(MEMORY_MIB, "t"),
    key(MEMORY_MAX_MIB, "t"),
    key(DISK_GIB, "t"),
    key(DISK_IOPS, "t"),
    key(DISK_KIB_PER_SECOND, "t"),
    key(DATA_DISKS, "aa{sv}"),
    key(NICS, "aa{sv}"),
    key(OPERATING_SYSTEM, "s"),
    key(USER_DATA, "s"),
    key(NETWORK_CONFIG, "s"),
    key(SSH_KEYS, "as"),
    key(ACCESS, "aa{sv}"),
    key(LABELS, "a{ss}"),
    key(GROUP, "s"),
    key(LEASE_SECONDS, "t"),
    key(END_ACTION, "s"),
    key(TARGET, "s"),
    key(PREEMPTIBLE, "b"),
    key(HOST, "s"),
];
/// An element of `data-disks`.
pub const DATA_DISK: &[Key] = &[key(IMAGE, "s"), key(SIZE_GIB, "t"), key(IOPS, "t"), key(KIB_PER_SECOND, "t")];
/// An element of `nics`.
pub const NIC: &[Key] = &[
    key(NETWORK, "s"),
    key(ADDRESS, "s"),
    key(KIND, "s"),
    key(SOURCE, "s"),
    key(MAC, "s"),
    key(INBOUND_KIB_PER_SECOND, "t"),
    key(OUTBOUND_KIB_PER_SECOND, "t"),
];
/// An element of `access`: a right and one of the others.
pub const GRANT: &[Key] = &[key(RIGHT, "s"), key(USER, "s"), key(GROUP, "s"), key(UID, "u"), key(GID, "u")];
/// `Manager.CreateCluster`: cluster.
pub const CLUSTER_SPEC: &[Key] = &[key(ROLES, "aa{sv}"), key(LEASE_SECONDS, "t"), key(END_ACTION, "s")];
/// An element of `roles`, beside the keys of [`SPEC`] without the lease's.
pub const ROLE: &[Key] = &[key(ROLE_NAME, "s"), key(COUNT, "t"), key(APART_FROM, "as"), key(TOGETHER_WITH, "as")];
/// `Manager.Act`: filter, beside the keys of [`LIST_FILTER`].
pub const ACT_FILTER: &[Key] = &[key(ALL, "b")];
/// `Manager.ImportImage`: source.
pub const IMAGE_SOURCE: &[Key] = &[
    key(FILE, "h"),
    key(PATH, "s"),
    key(URL, "s"),
    key(DIGEST, "s"),
    key(FORMAT, "s"),
    key(FIRMWARE, "s"),
    key(KERNEL, "h"),
    key(KERNEL_PATH, "s"),
    key(INITRD, "h"),
    key(INITRD_PATH, "s"),
    key(CMDLINE, "s"),
    key(VISIBILITY, "s"),
];
/// `Manager.AddHost`: host.
pub const HOST_SPEC: &[Key] = &[
    key(BACKEND, "s"),
    key(SETTINGS, "a{sv}"),
    key(LABELS, "a{ss}"),
    key(CPU_OVERCOMMIT_PERCENT, "t"),
    key(MEMORY_OVERCOMMIT_PERCENT, "t"),
    key(RESERVE_VCPUS, "t"),
    key(RESERVE_MEMORY_MIB, "t"),
    key(RESERVE_DISK_GIB, "t"),
    key(IMAGE_CACHE_GIB, "t"),
    key(ENABLED, "b"),
];
/// `Host.Change`: changes.
pub const HOST_CHANGES: &[Key] = &[
    key(SETTINGS, "a{sv}"),
    key(LABELS, "a{ss}"),
    key(CPU_OVERCOMMIT_PERCENT, "t"),
    key(MEMORY_OVERCOMMIT_PERCENT, "t"),
    key(RESERVE_VCPUS, "t"),
    key(RESERVE_MEMORY_MIB, "t"),
    key(RESERVE_DISK_GIB, "t"),
    key(IMAGE_CACHE_GIB, "t"),
    key(ENABLED, "b"),
];
/// `Manager.AddNetwork`: network.
pub const NETWORK_SPEC: &[Key] = &[
    key(KIND, "s"),
    key(SOURCE, "s"),
    key(SUBNET, "s"),
    key(GATEWAY, "s"),
    key(DNS, "as"),
    key(RANGES, "as"),
    key(DHCP, "b"),
    key(ANTI_SPOOFING, "b"),
    key(LABELS, "a{ss}"),
    key(ENABLED, "b"),
];
/// `Network.Change`: changes.
pub const NETWORK_CHANGES: &[Key] = &[
    key(SOURCE, "s"),
    key(SUBNET, "s"),
    key(GATEWAY, "s"),
    key(DNS, "as"),
    key(RANGES, "as"),
    key(DHCP, "b"),
    key(ANTI_SPOOFING, "b"),
    key(LABELS, "a{ss}"),
    key(ENABLED, "b"),
];
/// `Workspace.Change`: changes.
pub const WORKSPACE_CHANGES: &[Key] = &[key(NAME, "s"), key(LABELS, "a{ss}"), key(ACCESS, "aa{sv}")];
/// `Workspace.Resize`: changes; also `Manager.Explain`: request, for resize.
pub const RESIZE: &[Key] = &[
    key(VCPUS, "t"),
    key(VCPUS_MAX, "t"),
    key(MEMORY_MIB, "t"),
    key(MEMORY_MAX_MIB, "t"),
    key(CPU_SHARES, "t"),
    key(DISK_GIB, "t"),
    key(DISK_IOPS, "t"),
    key(DISK_KIB_PER_SECOND, "t"),
    key(DATA_DISKS, "aa{sv}"),
    key(NICS, "aa{sv}"),
];
/// An element of `data-disks` of a resize.
pub const DISK_RESIZE: &[Key] = &[key(INDEX, "t"), key(SIZE_GIB, "t"), key(IOPS, "t"), key(KIB_PER_SECOND, "t")];
/// An element of `nics` of a resize.
pub const NIC_RESIZE: &[Key] = &[key(INDEX, "t"), key(INBOUND_KIB_PER_SECOND, "t"), key(OUTBOUND_KIB_PER_SECOND, "t")];
/// `Image.Change`: changes.
pub const IMAGE_CHANGES: &[Key] = &[key(NAME, "s"), key(VISIBILITY, "s")];
/// `Manager.List`: filter.
pub const LIST_FILTER: &[Key] =
    &[key(NAME, "s"), key(OWNER, "u"), key(STATE, "s"), key(HOST, "s"), key(CLUSTER, "s"), key(LABEL, "a{ss}")];
/// `Manager.ListImages`: filter.
pub const IMAGES_FILTER: &[Key] = &[key(NAME, "s"), key(OWNER, "u"), key(STATE, "s"), key(VISIBILITY, "s")];
/// `Manager.ListHosts`: filter.
pub const HOSTS_FILTER: &[Key] = &[key(NAME, "s"), key(BACKEND, "s"), key(STATE, "s"), key(LABEL, "a{ss}")];
/// `Manager.ListNetworks`: filter.
pub const NETWORKS_FILTER: &[Key] = &[key(NAME, "s"), key(KIND, "s"), key(LABEL, "a{ss}")];
/// `Manager.ListJobs`: filter.
pub const JOBS_FILTER: &[Key] = &[key(KIND, "s"), key(STATE, "s"), key(WORKSPACE, "o"), key(OWNER, "u"), key(ENDED, "b")];
/// `Manager.Decisions`: filter.
pub const DECISIONS_FILTER: &[Key] = &[
    key(WORKSPACE, "o"),
    key(ID, "s"),
    key(NAME, "s"),
    key(CALLER, "u"),
    key(VERDICT, "s"),
    key(VERB, "s"),
    key(SINCE, "t"),
    key(UNTIL, "t"),
];
/// `Manager.ListBundles`: filter.
pub const BUNDLES_FILTER: &[Key] = &[key(WORKSPACE, "o")];
/// `Manager.Usage`: filter.
pub const USAGE_FILTER: &[Key] = &[key(OWNER, "u"), key(GROUP, "s"), key(SINCE, "t"), key(UNTIL, "t")];
/// `Manager.Explain`: request, for launch; beside the keys of [`SPEC`].
pub const EXPLAIN_LAUNCH: &[Key] = &[key(NAME, "s")];
/// `Manager.Explain`: request, for renew.
pub const EXPLAIN_RENEW: &[Key] = &[key(LEASE_SECONDS, "t")];
/// `Manager.Explain`: request, for resume, restore and migrate.
pub const EXPLAIN_RESUME: &[Key] = &[key(HOST, "s")];

const NONE: &[Key] = &[];
const RID: &[Key] = &[key(REQUEST_ID, "s")];

/// A method with its `a{sv}` arguments.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its interface.
    pub interface: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Name and keys of its `a{sv}` arguments other than `options`.
    pub dicts: &'static [(&'static str, &'static [Key])],
    /// Keys of `options`.
    pub options: &'static [Key],
}

const fn method(
    interface: &'static str,
    name: &'static str,
    dicts: &'static [(&'static str, &'static [Key])],
    options: &'static [Key],
) -> Method {
    Method { interface, name, dicts, options }
}

/// Every method of ours.
pub const METHODS: &[Method] = &[
    method(names::MANAGER, "CreateWorkspace", &[("spec", SPEC)], RID),
    method(names::MANAGER, "CreateCluster", &[("cluster", CLUSTER_SPEC)], RID),
    method(
        names::MANAGER,
        "Act",
        &[("filter", ACT_FILTER)],
        &[key(GUEST_TIMEOUT_MS, "t"), key(LEASE_SECONDS, "t"), key(REQUEST_ID, "s")],
    ),
    method(names::MANAGER, "ImportImage", &[("source", IMAGE_SOURCE)], RID),
    method(names::MANAGER, "ImportBundle", &[], &[key(OWNER, "u"), key(NAME, "s"), key(REQUEST_ID, "s")]),
    method(names::MANAGER, "ListBundles", &[("filter", BUNDLES_FILTER)], &[key(LIMIT, "t")]),
    // What `request` may hold depends on the verb: EXPLAIN_LAUNCH with SPEC, EXPLAIN_RENEW, EXPLAIN_RESUME or nothing.
    method(names::MANAGER, "Explain", &[("request", EXPLAIN_LAUNCH)], NONE),
    method(names::MANAGER, "List", &[("filter", LIST_FILTER)], &[key(CURSOR, "s"), key(LIMIT, "t")]),
    method(names::MANAGER, "ListImages", &[("filter", IMAGES_FILTER)], &[key(CURSOR, "s"), key(LIMIT, "t")]),
    method(names::MANAGER, "ListHosts", &[("filter", HOSTS_FILTER)], &[key(CURSOR, "s"), key(LIMIT, "t")]),
    method(names::MANAGER, "ListNetworks", &[("filter", NETWORKS_FILTER)], &[key(CURSOR, "s"), key(LIMIT, "t")]),
    method(names::MANAGER, "ListJobs", &[("filter", JOBS_FILTER)], &[key(CURSOR, "s"), key(LIMIT, "t")]),
    method(names::MANAGER, "Stats", &[("filter", LIST_FILTER)], &[key(CURSOR, "s"), key(LIMIT, "t")]),
    method(names::MANAGER, "Metrics", &[], NONE),
    method(names::MANAGER, "Decisions", &[("filter", DECISIONS_FILTER)], &[key(LIMIT, "t")]),
    method(names::MANAGER, "Subscribe", &[], NONE),
    method(names::MANAGER, "Unsubscribe", &[], NONE),
    method(names::MANAGER, "EventsSince", &[], &[key(LIMIT, "t")]),
    method(names::MANAGER, "AddHost", &[("host", HOST_SPEC)], RID),
    method(names::MANAGER, "AddNetwork", &[("network", NETWORK_SPEC)], RID),
    method(names::MANAGER, "Backup", &[], NONE),
    method(names::MANAGER, "Doctor", &[], NONE),
    method(names::MANAGER, "Usage", &[("filter", USAGE_FILTER)], NONE),
    method(names::WORKSPACE, "Start", &[], RID),
    method(names::WORKSPACE, "Stop", &[], &[key(GUEST_TIMEOUT_MS, "t"), key(REQUEST_ID, "s")]),
    method(names::WORKSPACE, "Reboot", &[], RID),
    method(names::WORKSPACE, "Pause", &[], RID),
    method(names::WORKSPACE, "Resume", &[], &[key(HOST, "s"), key(REQUEST_ID, "s")]),
    method(names::WORKSPACE, "Serialize", &[], RID),
    method(names::WORKSPACE, "ExportBundle", &[], &[key(WITH_IMAGES, "b"), key(REQUEST_ID, "s")]),
    method(names::WORKSPACE, "VerifyBundle", &[], RID),
    method(names::WORKSPACE, "Migrate", &[], &[key(HOST, "s"), key(MIB_PER_SECOND, "t"), key(REQUEST_ID, "s")]),
    method(names::WORKSPACE, "Destroy", &[], RID),
    method(names::WORKSPACE, "Renew", &[], NONE),
    method(names::WORKSPACE, "SaveImage", &[], &[key(VISIBILITY, "s"), key(REQUEST_ID, "s")]),
    method(names::WORKSPACE, "Change", &[("changes", WORKSPACE_CHANGES)], NONE),
    method(names::WORKSPACE, "Resize", &[("changes", RESIZE)], RID),
    method(names::WORKSPACE, "Snapshot", &[], &[key(MEMORY, "b"), key(REQUEST_ID, "s")]),
    method(names::WORKSPACE, "Revert", &[], RID),
    method(names::WORKSPACE, "RemoveSnapshot", &[], RID),
    method(names::WORKSPACE, "OpenConsole", &[], NONE),
    method(names::WORKSPACE, "Log", &[], NONE),
    method(names::WORKSPACE, "Describe", &[], NONE),
    method(names::HOST, "Probe", &[], RID),
    method(names::HOST, "Change", &[("changes", HOST_CHANGES)], NONE),
    method(names::HOST, "Remove", &[], NONE),
    method(names::HOST, "PlanDrain", &[], &[key(EVACUATE, "b")]),
    method(names::HOST, "Drain", &[], &[key(EVACUATE, "b"), key(REQUEST_ID, "s")]),
    method(names::HOST, "Images", &[], NONE),
    method(names::HOST, "RemoveImage", &[], NONE),
    method(names::IMAGE, "Verify", &[], RID),
    method(names::IMAGE, "Change", &[("changes", IMAGE_CHANGES)], NONE),
    method(names::IMAGE, "Remove", &[], NONE),
    method(names::NETWORK, "Change", &[("changes", NETWORK_CHANGES)], RID),
    method(names::NETWORK, "Remove", &[], RID),
    method(names::NETWORK, "Addresses", &[], NONE),
    method(names::JOB, "Cancel", &[], NONE),
    method(names::POLICY, "Reload", &[], &[key(ACCEPT, "b")]),
    method(names::POLICY, "Check", &[], NONE),
    method(names::POLICY, "History", &[], NONE),
    method(names::POLICY, "Rollback", &[], NONE),
    method(names::POLICY, "Replay", &[], &[key(SINCE, "t"), key(VERB, "s"), key(CALLER, "u"), key(LIMIT, "t")]),
    method(names::POLICY, "StartShadow", &[], NONE),
    method(names::POLICY, "Shadow", &[], NONE),
    method(names::POLICY, "StopShadow", &[], NONE),
    method(names::POLICY, "Audit", &[], NONE),
];

/// The method with this name, if it is one of ours.
#[must_use]
pub fn find_method(interface: &str, name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.interface == interface && method.name == name)
}

/// What is wrong with a key that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// No such key here; the known one that is spelt most like it, if any is near.
    Unknown(Option<&'static str>),
    /// The value has another type; the signature that it must have.
    Type(&'static str),
}

/// Compares a given key, and the signature of its value, with the known ones.
///
/// # Errors
/// [`Misfit`], saying what would have been right.
pub fn check(known: &[Key], name: &str, signature: &str) -> Result<(), Misfit> {
    match known.iter().find(|key| key.name == name) {
        Some(key) if key.signature == signature => Ok(()),
        Some(key) => Err(Misfit::Type(key.signature)),
        None => Err(Misfit::Unknown(nearest(name, known.iter().map(|key| key.name)))),
    }
}

/// The word that is spelt most like `word`, if any is near enough to be meant: at most a third of the letters differ.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= word.chars().count().max(candidate.chars().count()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, removals and replacements of letters between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = row.get(j).copied().unwrap_or(0) + usize::from(from != *to);
            let removed = row.get(j + 1).copied().unwrap_or(0) + 1;
            let inserted = next.get(j).copied().unwrap_or(0) + 1;
            next.push(replaced.min(removed).min(inserted));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{DATA_DISK, EXPLAIN_RENEW, EXPLAIN_RESUME, GRANT, Key, METHODS, Misfit, NIC, SPEC, check, nearest};
    use crate::interfaces;

    /// The text of a method in its interface file.
    fn method_text(interface: &str, name: &str) -> &'static str {
        let (_, file) = interfaces::ALL.into_iter().find(|(known, _)| *known == interface).unwrap();
        let begin = file.find(&format!("<method name=\"{name}\">")).unwrap_or_else(|| panic!("{interface}.{name} has no prose"));
        file[begin..].split("</method>").next().unwrap()
    }

    fn assert_documented(text: &str, keys: &[Key], place: &str) {
        for key in keys {
            let at = text.find(&format!("`{}` (", key.name)).unwrap_or_else(|| panic!("{place}: no prose for `{}`", key.name));
            let rest = &text[at + key.name.len() + 4..];
            assert!(rest.starts_with(key.signature), "{place}: `{}` is documented as {}", key.name, &rest[..8.min(rest.len())]);
        }
    }

    #[test]
    fn every_key_is_documented_with_its_type() {
        for method in METHODS {
            let text = method_text(method.interface, method.name);
            for (dict, keys) in method.dicts {
                let arg = text.split("<arg ").find(|arg| arg.starts_with(&format!("name=\"{dict}\" type=\"a{{sv}}\""))).unwrap();
                assert_documented(arg, keys, &format!("{}.{} {dict}", method.interface, method.name));
            }
            let arg = text.split("<arg ").find(|arg| arg.starts_with("name=\"options\"")).unwrap();
            assert_documented(arg, method.options, &format!("{}.{} options", method.interface, method.name));
            assert_eq!(
                arg.matches("` (").count(),
                method.options.len(),
                "{}.{} documents other options",
                method.interface,
                method.name
            );
        }
        let create = method_text(crate::names::MANAGER, "CreateWorkspace");
        for keys in [DATA_DISK, NIC, GRANT] {
            assert_documented(create, keys, "CreateWorkspace spec");
        }
        let spec = create.split("<arg ").find(|arg| arg.starts_with("name=\"spec\"")).unwrap();
        let keys = SPEC.len() + DATA_DISK.len() + NIC.len() + GRANT.len();
        assert_eq!(spec.matches("` (").count(), keys, "the spec documents other keys");
        let explain = method_text(crate::names::MANAGER, "Explain");
        for keys in [EXPLAIN_RENEW, EXPLAIN_RESUME] {
            assert_documented(explain, keys, "Explain request");
        }
    }

    #[test]
    fn every_method_has_its_keys() {
        let count: usize = interfaces::ALL
            .into_iter()
            .filter(|(name, _)| name.starts_with("org.virtualworkspaces1"))
            .map(|(_, file)| file.matches("<method ").count())
            .sum();
        assert_eq!(count, METHODS.len());
    }

    #[test]
    fn a_wrong_key_is_told_what_is_right() {
        assert_eq!(check(SPEC, "vcpus", "t"), Ok(()));
        assert_eq!(check(SPEC, "vcpus", "u"), Err(Misfit::Type("t")));
        assert_eq!(check(SPEC, "memory-mb", "t"), Err(Misfit::Unknown(Some("memory-mib"))));
        assert_eq!(check(SPEC, "colour", "s"), Err(Misfit::Unknown(None)));
        assert_eq!(nearest("webb", ["db", "web", "mail"]), Some("web"));
        assert_eq!(nearest("webb", ["mail"]), None);
    }
}
