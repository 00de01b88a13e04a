//! A question for a policy, read from a partial document: what is given is laid over a plain case (user `ann` launches `web`).
//!
//! Owns: the defaults, and the way from documents in files (tests, `vws policy eval`) to the inputs that the daemon builds from
//! its records. Field names and types are those of `schema`; whatever is not one of them is a problem that names it.

mod part;

use crate::POLICIES;
use crate::schema;
use part::{Part, kind, names};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use vws_domain::{
    Accelerator, AccessInput, Boot, Caller, Candidate, Cause, Connection, DiskFormat, EndAction, Firmware, ForeignUse, Grant,
    Host, HostFacts, Image, ImageId, ImageRef, ImageState, Lease, Membership, Network, NetworkKind, NetworkName, Nic, NicLimits,
    NicNetwork, PlacementInput, QuotaInput, Request, Reservation, Resources, Right, Spec, State, Subject, Target, Timestamp,
    Usage, UsageSet, Verb, Visibility, Workspace, WorkspaceId,
};

/// When a question is asked that does not say: Friday, 2027-01-15 08:00 UTC.
const NOW: u64 = 1_800_000_000_000_000;
/// Fields of a host in a file that no script sees.
const HOST_MORE: [&str; 2] = ["enabled", "up"];

/// A question to one policy.
#[derive(Clone, Debug)]
pub enum Question {
    /// To access.lua.
    Access(AccessInput),
    /// To quota.lua.
    Quota(QuotaInput),
    /// To placement.lua, about these hosts.
    Placement(PlacementInput, Vec<Candidate>),
}

impl Question {
    /// Reads the input of `policy` (`access`, `quota`, `placement`) as far as it is given; the rest is a plain case. `hosts` are for
    /// placement: name to host.
    ///
    /// # Errors
    /// Everything that is not understood, with its path.
    pub fn read(policy: &str, input: &Value, hosts: &Value) -> Result<Self, Vec<String>> {
        let mut found = Vec::new();
        let problems = &mut found;
        let Some(document) = schema::document(&format!("{policy}_input")) else {
            return Err(vec![format!("policy `{}` is none of {}", vws_domain::shown(policy), POLICIES.join(", "))]);
        };
        let input = Part::of("", Some(input), &document.names().collect::<Vec<_>>(), problems);
        let caller = caller(&input.part("caller", "caller", problems), problems);
        let asked = input.part("request", "request", problems);
        let verb = asked.word("verb", "launch", Verb::from_name, "a verb; the manual has them all", problems);
        let verb = verb.unwrap_or(Verb::Launch);
        let workspace = match input.value("workspace") {
            Some(Value::Null | Value::Bool(false)) => None,
            None if !about_workspace(verb) => None,
            _ => Some(Arc::new(workspace(verb, &input.part("workspace", "workspace", problems), problems))),
        };
        let request = request(verb, &asked, &caller, workspace.as_deref(), problems);
        let now = Timestamp(input.instant("now", Some(NOW), problems).unwrap_or(NOW));
        let question = match policy {
            "access" => Self::Access(AccessInput { request, caller, workspace, now }),
            "quota" => {
                let usage = input.part("usage", "usage", problems);
                let mut of = |name: &str| sums(&usage.part(name, "sums", problems), problems);
                let usage = UsageSet { owner: of("owner"), group: of("group"), site: of("site") };
                Self::Quota(QuotaInput { request, caller, workspace, usage, now })
            }
            _ => {
                let placements = input.parts("placements", "placement", problems);
                let placements = placements.iter().zip(1..).map(|(part, id)| Arc::new(placement(part, id, problems))).collect();
                let hosts = hosts_of(hosts, problems);
                Self::Placement(PlacementInput { request, caller, workspace, placements, now }, hosts)
            }
        };
        if found.is_empty() { Ok(question) } else { Err(found) }
    }

    /// What is asked.
    #[must_use]
    pub fn request(&self) -> &Request {
        match self {
            Self::Access(input) => &input.request,
            Self::Quota(input) => &input.request,
            Self::Placement(input, _) => &input.request,
        }
    }

    /// Who asks.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        match self {
            Self::Access(input) => &input.caller,
            Self::Quota(input) => &input.caller,
            Self::Placement(input, _) => &input.caller,
        }
    }
}

/// Whether a request with this verb is about a workspace that exists.
pub(crate) fn about_workspace(verb: Verb) -> bool {
    !matches!(
        verb,
        Verb::Launch
            | Verb::ImageImport
            | Verb::ImageManage
            | Verb::HostManage
            | Verb::PolicyManage
            | Verb::SiteManage
            | Verb::NetworkManage
            | Verb::BundleImport
            | Verb::Drain
    )
}

/// The caller. A name or a uid alone is enough; `ann` is 1000, anybody else 1001.
fn caller(part: &Part<'_>, problems: &mut Vec<String>) -> Caller {
    let (uid, user) = person(part, "uid", "user", problems);
    let admin = part.flag("admin", uid == 0, problems);
    let (gids, groups) = match (part.ids("gids", problems), part.texts("groups", problems)) {
        (None, None) => (vec![uid, 50], vec![user.clone(), "staff".to_owned()]),
        (Some(gids), None) => (gids.clone(), gids.iter().map(|gid| format!("group{gid}")).collect()),
        (None, Some(groups)) => ((0..groups.len()).map(|n| 5000 + n as u32).collect(), groups),
        (Some(gids), Some(groups)) => {
            if gids.len() != groups.len() {
                problems.push(format!(
                    "{}: gids and groups are one list, {} and {} are given",
                    part.path,
                    gids.len(),
                    groups.len()
                ));
            }
            (gids, groups)
        }
    };
    Caller { uid, user, gids, groups, pid: 1, label: String::new(), admin, system: part.flag("system", false, problems) }
}

/// A uid and the name that goes with it.
fn person(part: &Part<'_>, uid: &str, user: &str, problems: &mut Vec<String>) -> (u32, String) {
    let named = part.text(user, "", problems);
    let id = match (part.value(uid).is_some(), named.as_str()) {
        (true, _) => part.id(uid, 1000, problems),
        (false, "" | "ann") => 1000,
        (false, "root") => 0,
        (false, _) => 1001,
    };
    let name = match (named.is_empty(), id) {
        (false, _) => named,
        (true, 0) => "root".to_owned(),
        (true, 1000) => "ann".to_owned(),
        (true, 1001) => "bob".to_owned(),
        (true, id) => format!("user{id}"),
    };
    (id, name)
}

const PLAIN: Resources = Resources { vcpus: 2, memory_mib: 2048, disk_gib: 10 };

fn grants(part: &Part<'_>, default: &[Grant], problems: &mut Vec<String>) -> Vec<Grant> {
    if part.value("access").is_none() {
        return default.to_vec();
    }
    let mut grants = Vec::new();
    for grant in part.parts("access", "grant", problems) {
        let id = grant.id("id", 1001, problems);
        let subject = match grant.text("kind", "user", problems).as_str() {
            "user" => Subject::User(id),
            "group" => Subject::Group(id),
            other => {
                problems.push(format!("{}: `{}` is not user or group", grant.at("kind"), vws_domain::shown(other)));
                continue;
            }
        };
        if let Some(right) = grant.word("right", "use", Right::from_name, "view, use or manage", problems) {
            grants.push(Grant { subject, right });
        }
    }
    grants
}

/// The workspace that a request with `verb` is about: running, unless the verb needs another state.
fn workspace(verb: Verb, part: &Part<'_>, problems: &mut Vec<String>) -> Workspace {
    let state = match verb {
        Verb::Start => "stopped",
        Verb::Restore | Verb::BundleExport => "serialized",
        Verb::Resume => "paused",
        Verb::SaveImage | Verb::Revert => "stopped",
        _ => "running",
    };
    let state = part.word("state", state, State::from_name, "a state", problems).unwrap_or(State::Running);
    let (owner, owner_name) = person(part, "owner", "owner_name", problems);
    let image = part.text("image", "debian-12", problems);
    let image = ImageRef::parse(&image).unwrap_or_else(|error| {
        problems.push(format!("{}: {error}", part.at("image")));
        ImageRef::Name(image.clone())
    });
    let mut spec = Spec::new(&part.text("name", "web", problems), image);
    spec.access = grants(part, &[], problems);
    spec.labels = part.labels("labels", problems);
    spec.operating_system = part.text("operating_system", "debian-12", problems);
    spec.preemptible = part.flag("preemptible", false, problems);
    let id = part.word("id", &format!("{:032x}", 9), |text| WorkspaceId::parse(text).ok(), "32 hexadecimal digits", problems);
    let from = part.instant("lease_from", Some(NOW - 3_600_000_000), problems).unwrap_or(NOW);
    let created = part.instant("created_at", Some(from), problems).unwrap_or(from);
    let resources = part.resources(PLAIN, problems);
    let (vcpus, memory_mib, disk_gib) = (resources.vcpus, resources.memory_mib, resources.disk_gib);
    (spec.vcpus, spec.memory_mib, spec.disk_gib) = (vcpus, memory_mib, disk_gib);
    let action = part.word("end_action", "stop", EndAction::from_name, "stop, serialize or destroy", problems);
    let on = if state == State::Serialized { "" } else { "h1" };
    Workspace {
        id: id.unwrap_or(WorkspaceId(9)),
        owner,
        owner_name,
        group: part.text("group", "staff", problems),
        spec,
        images: Vec::new(),
        resources,
        state,
        target: part.word("target", "running", Target::from_name, "a state to bring it to", problems).unwrap_or(Target::Running),
        cause: Cause::default(),
        host: part.host_name("host", on, problems),
        also_on: None,
        job: None,
        lease: Lease {
            from: Timestamp(from),
            until: part.instant("lease_until", Some(from + 8 * 3_600_000_000), problems).map(Timestamp),
            action: action.unwrap_or(EndAction::Stop),
            grace_seconds: 60,
            deferred_until: None,
            ended: false,
        },
        bundle: None,
        snapshots: Vec::new(),
        cpu: String::new(),
        plugin_state: String::new(),
        deployments: 1,
        version: 1,
        created_at: Timestamp(created),
        changed_at: Timestamp(created),
    }
}

fn image(part: &Part<'_>, problems: &mut Vec<String>) -> Arc<Image> {
    let visibility = match part.text("visibility", "public", problems).as_str() {
        "private" => Visibility::Private,
        "public" => Visibility::Public,
        other => {
            problems.push(format!("{}: `{}` is not private or public", part.at("visibility"), vws_domain::shown(other)));
            Visibility::Public
        }
    };
    let format = match part.text("format", "qcow2", problems).as_str() {
        "raw" => DiskFormat::Raw,
        "qcow2" => DiskFormat::Qcow2,
        other => {
            problems.push(format!("{}: `{}` is not raw or qcow2", part.at("format"), vws_domain::shown(other)));
            DiskFormat::Qcow2
        }
    };
    let id = part.word("id", &format!("{:032x}", 3), |text| ImageId::parse(text).ok(), "32 hexadecimal digits", problems);
    Arc::new(Image {
        id: id.unwrap_or(ImageId(3)),
        name: part.text("name", "debian-12", problems),
        digest: part.text("digest", &"0".repeat(64), problems),
        format,
        size_bytes: part.number("size_bytes", 1 << 30, problems),
        virtual_size_mib: part.number("size_mib", 2048, problems),
        boot: Boot::Disk(Firmware::Bios),
        owner: part.id("owner", 0, problems),
        visibility,
        state: ImageState::Ready,
        source: String::new(),
        created_at: Timestamp(0),
    })
}

/// A NIC, and the site's network that it names, made up from what the NIC says of it.
fn nic(part: &Part<'_>, networks: &mut Vec<Arc<Network>>, problems: &mut Vec<String>) -> Nic {
    let source = part.text("source", "", problems);
    let named = part.word("network", "", |text| NetworkName::parse(text).ok(), "the name of a network", problems);
    let labels = part.labels("labels", problems);
    let word = if named.is_some() { "bridge" } else { "user" };
    let kind = part.word("kind", word, NetworkKind::from_name, "user, bridge or network", problems);
    let kind = kind.unwrap_or(NetworkKind::User);
    let network = match (named, kind) {
        (Some(name), kind) => {
            let source = if source.is_empty() && kind != NetworkKind::User { "br0".to_owned() } else { source };
            networks.push(Arc::new(Network {
                name: name.clone(),
                kind,
                source,
                pool: None,
                dhcp: false,
                anti_spoofing: true,
                labels,
                enabled: true,
                version: 1,
            }));
            NicNetwork::Named(name)
        }
        (None, _) if !labels.is_empty() => {
            problems.push(format!("{}: labels are the network's; say `network` too", part.path));
            NicNetwork::User
        }
        (None, NetworkKind::User) => NicNetwork::User,
        (None, NetworkKind::Bridge) => NicNetwork::Bridge(source),
        (None, NetworkKind::Network) => NicNetwork::Network(source),
    };
    let address = part.word("address", "", |text| text.parse().ok(), "an IPv4 address", problems);
    let limits = NicLimits {
        inbound_kib_per_second: part.number("inbound_kib_per_second", 0, problems),
        outbound_kib_per_second: part.number("outbound_kib_per_second", 0, problems),
    };
    Nic { network, mac: part.text("mac", "", problems), address, limits }
}

/// The request. Where it is about a workspace, it has that one's facts, as the daemon's has.
fn request(verb: Verb, part: &Part<'_>, caller: &Caller, about: Option<&Workspace>, problems: &mut Vec<String>) -> Request {
    // Neither: something that is no workspace is named, nothing is taken.
    let plain = about.is_some() || verb == Verb::Launch;
    let word = |text: &'static str| if plain { text } else { "" };
    let group = about.map_or_else(|| caller.groups.first().map_or("", String::as_str), |workspace| workspace.group.as_str());
    let seconds = about.map_or(3600, |workspace| {
        workspace.lease.until.map_or(0, |until| until.0.saturating_sub(workspace.lease.from.0) / 1_000_000)
    });
    let mut networks = Vec::new();
    let nics = match part.value("nics") {
        None if plain => vec![Nic::on(NicNetwork::User)],
        _ => part.parts("nics", "nic", problems).iter().map(|part| nic(part, &mut networks, problems)).collect(),
    };
    let images = match part.value("images") {
        None if matches!(verb, Verb::Launch | Verb::ImageImport | Verb::ImageManage) => {
            vec![image(&Part { path: String::new(), map: None }, problems)]
        }
        _ => part.parts("images", "image", problems).iter().map(|part| image(part, problems)).collect(),
    };
    let cluster = part.text("cluster", "", problems);
    let role = part.text("role", "", problems);
    if cluster.is_empty() != role.is_empty() {
        problems.push(format!("{}: a member of a cluster has `cluster` and `role`", part.path));
    }
    let held = about.map_or(if plain { PLAIN } else { Resources::default() }, |workspace| workspace.resources);
    let named = about.map_or(if plain { "web" } else { "debian-12" }, |workspace| workspace.spec.name.as_str());
    let action = about.map_or(word("stop"), |workspace| workspace.lease.action.name());
    let system = about.map_or(word("debian-12"), |workspace| workspace.spec.operating_system.as_str());
    let target = about.map_or(word("running"), |workspace| workspace.target.name());
    Request {
        verb,
        name: part.text("name", named, problems),
        images,
        resources: part.resources(held, problems),
        duration_seconds: part.number("duration_seconds", if plain { seconds } else { 0 }, problems),
        end_action: part.text("end_action", action, problems),
        addresses: part.number("addresses", nics.iter().filter(|nic| nic.address.is_some()).count() as u64, problems),
        nics,
        labels: match (part.value("labels"), about) {
            (None, Some(workspace)) => workspace.spec.labels.clone(),
            _ => part.labels("labels", problems),
        },
        operating_system: part.text("operating_system", system, problems),
        group: part.text("group", if plain { group } else { "" }, problems),
        target: part.text("target", target, problems),
        host: part.host_name("host", "", problems),
        backend: Some(part.text("backend", "", problems)).filter(|text| !text.is_empty()),
        avoid: Default::default(),
        membership: (!cluster.is_empty()).then(|| Membership {
            cluster,
            role,
            index: 0,
            apart_from: Vec::new(),
            together_with: Vec::new(),
        }),
        needs: part.texts("needs", problems).unwrap_or_default(),
        preemptible: part.flag("preemptible", about.is_some_and(|workspace| workspace.spec.preemptible), problems),
        leaves: about.filter(|_| verb == Verb::Migrate).and_then(|workspace| workspace.host.clone()),
        access: grants(part, about.map_or(&[], |workspace| &workspace.spec.access), problems),
        networks,
    }
}

fn sums(part: &Part<'_>, problems: &mut Vec<String>) -> Usage {
    Usage {
        workspaces: part.number("workspaces", 0, problems),
        running: part.number("running", 0, problems),
        resources: part.resources(Resources::default(), problems),
        reserved_minutes: part.number("reserved_minutes", 0, problems),
        addresses: part.number("addresses", 0, problems),
    }
}

fn placement(part: &Part<'_>, id: u128, problems: &mut Vec<String>) -> Reservation {
    Reservation {
        workspace: WorkspaceId(id),
        name: part.text("name", &format!("w{id}"), problems),
        owner: part.id("owner", 1000, problems),
        group: part.text("group", "staff", problems),
        host: part.host_name("host", "", problems),
        also_on: None,
        resources: part.resources(PLAIN, problems),
        running: part.flag("running", true, problems),
        preemptible: part.flag("preemptible", false, problems),
        labels: part.labels("labels", problems),
        lease_from: Timestamp(NOW),
        lease_until: None,
        addresses: 0,
    }
}

/// The hosts: name to host, in a table, or a list of hosts with names; two plain ones when none are given.
fn hosts_of(value: &Value, problems: &mut Vec<String>) -> Vec<Candidate> {
    let known: Vec<&str> = names("host").into_iter().filter(|name| !name.starts_with("workspaces_of")).chain(HOST_MORE).collect();
    let one = |name: &str, value: &Value, problems: &mut Vec<String>| {
        host(name, &Part::of(&format!("hosts.{name}"), Some(value), &known, problems), problems)
    };
    let empty = Value::Object(Map::new());
    match value {
        Value::Null => ["h1", "h2"].into_iter().filter_map(|name| one(name, &empty, problems)).collect(),
        Value::Object(map) => map.iter().filter_map(|(name, value)| one(name, value, problems)).collect(),
        Value::Array(list) => list
            .iter()
            .filter_map(|value| one(value.get("name").and_then(Value::as_str).unwrap_or_default(), value, problems))
            .collect(),
        other => {
            problems.push(format!("hosts: a table of hosts is needed, it is {}", kind(other)));
            Vec::new()
        }
    }
}

fn host(name: &str, part: &Part<'_>, problems: &mut Vec<String>) -> Option<Candidate> {
    let Some(name) = part.host_name("name", name, problems) else {
        problems.push(format!("{}: the host has no name", part.path));
        return None;
    };
    let whole = Resources { vcpus: 32, memory_mib: 64 * 1024, disk_gib: 1000 };
    let given = part.part("free", "amounts", problems).resources(Resources::default(), problems);
    // What is free is part of what there is: a host that has more free than the plain one is larger.
    let larger = Resources {
        vcpus: whole.vcpus.max(given.vcpus),
        memory_mib: whole.memory_mib.max(given.memory_mib),
        disk_gib: whole.disk_gib.max(given.disk_gib),
    };
    let total = part.part("capacity", "amounts", problems).resources(larger, problems);
    let free = part.part("free", "amounts", problems).resources(total, problems);
    let mut capabilities = BTreeMap::new();
    match part.value("capabilities") {
        Some(Value::Object(map)) => {
            capabilities.extend(map.keys().map(|name| (name.clone(), String::new())));
        }
        _ => capabilities
            .extend(part.texts("capabilities", problems).unwrap_or_default().into_iter().map(|name| (name, String::new()))),
    }
    let up = part.flag("up", true, problems);
    let accelerator = Accelerator { name: part.text("accelerator", "kvm", problems), reason: "given".to_owned() };
    let host = Host {
        name,
        backend: part.text("backend", "kvm", problems),
        settings: "{}".to_owned(),
        labels: part.labels("labels", problems),
        cpu_overcommit_percent: 100,
        memory_overcommit_percent: 100,
        reserve: Resources::default(),
        image_cache_gib: 0,
        enabled: part.flag("enabled", true, problems),
        facts: HostFacts {
            hypervisor: part.text("hypervisor", "QEMU 9", problems),
            accelerator,
            total,
            capabilities,
            arch: part.text("arch", "x86_64", problems),
            storage_id: String::new(),
        },
        foreign: ForeignUse::default(),
        connection: if up { Connection::Up } else { Connection::Down("it is said to be down".to_owned()) },
        version: 1,
        seen_at: Timestamp(0),
    };
    Some(Candidate { free, workspaces: part.number("workspaces", 0, problems), host: Arc::new(host) })
}

#[cfg(test)]
mod tests {
    use super::Question;
    use serde_json::{Value, json};

    #[test]
    fn what_is_not_understood_is_named() {
        let read = |input: Value| Question::read("quota", &input, &Value::Null).unwrap_err().join("\n");
        assert_eq!(read(json!({ "request": { "vcpu": 1 } })), "request: unknown field `vcpu`; did you mean `vcpus`?");
        assert_eq!(read(json!({ "request": { "vcpus": "two" } })), "request.vcpus: a whole number from 0 is needed, it is `two`");
        assert_eq!(
            read(json!({ "request": { "verb": "lunch" } })),
            "request.verb: `lunch` is not a verb; the manual has them all"
        );
        assert_eq!(read(json!({ "usage": { "owner": 5 } })), "usage.owner: a table is needed, it is 5");
        assert_eq!(read(json!({ "placements": [] })), "the document: unknown field `placements`");
        assert!(Question::read("quotas", &json!({}), &Value::Null).unwrap_err()[0].contains("none of access, quota, placement"));
    }

    #[test]
    fn a_request_about_a_workspace_has_its_facts() {
        let input = json!({ "request": { "verb": "start" }, "workspace": { "vcpus": 7, "group": "staff", "name": "db" } });
        let question = Question::read("quota", &input, &Value::Null).unwrap();
        let request = question.request();
        assert_eq!((request.resources.vcpus, request.group.as_str(), request.name.as_str()), (7, "staff", "db"));
        let Question::Quota(input) = question else { panic!("quota was asked") };
        assert_eq!(input.workspace.unwrap().state.name(), "stopped");
    }
}
