//! Domain types into what stands on the bus, where that is not a property: decisions, events, problems, descriptions.
//!
//! The words of keys are the contract's; what they mean is written in its interface files.

use super::limits;
use crate::operate::Figures;
use crate::policies::Gated;
use crate::replay::Replayed;
use crate::service::{Audited, Charged, Finding, ShadowStatus, ShownBundle, ShownDecision, UsageReport};
use std::collections::BTreeMap;
use vws_bus::path;
use vws_domain::{
    Account, Bundle, BundleFile, CachedImage, Decision, Departure, DiskSource, Event, HostJudgement, HostName, HostOutcome,
    ImageId, JobId, Lease, NetworkName, Nic, NicNetwork, Reservation, Resources, Snapshot, Spec, Subject, Timestamp, Verdict,
    Way, Workspace, WorkspaceId,
};
use vws_policy::Problem;
use vws_store::PolicyGeneration;
use zbus::{ObjectPath, Variant};

/// A dictionary with variants, in the order of its keys.
pub type Map<'a> = BTreeMap<&'static str, Variant<'a>>;

/// A text as the bus can hold it: it has no zero bytes.
pub fn text<'a>(text: &'a str) -> Variant<'a> {
    if text.contains('\0') { Variant::from(text.replace('\0', "\u{fffd}")) } else { Variant::from(text) }
}

/// An object path that was made by this daemon, and is valid by construction.
pub fn object(path: &path::Object) -> ObjectPath<'static> {
    known_path(path.to_string())
}

fn known_path(path: String) -> ObjectPath<'static> {
    // A path that is not valid cannot be made from escaped names and hexadecimal digits; `/` is what "none" is on the bus.
    ObjectPath::try_from(path).unwrap_or_else(|_| none())
}

/// The path that stands for no object.
pub fn none() -> ObjectPath<'static> {
    ObjectPath::from_static_str_unchecked(path::NONE)
}

/// The path of a workspace.
pub fn workspace(id: WorkspaceId) -> ObjectPath<'static> {
    object(&path::Object::Workspace(id.0))
}

/// The path of a job.
pub fn job(id: JobId) -> ObjectPath<'static> {
    object(&path::Object::Job(id.0))
}

/// The path of an image.
pub fn image(id: ImageId) -> ObjectPath<'static> {
    object(&path::Object::Image(id.0))
}

/// The path of a host.
pub fn host(name: &HostName) -> ObjectPath<'static> {
    object(&path::Object::Host(name.as_str().to_owned()))
}

/// The path of a network.
pub fn network(name: &NetworkName) -> ObjectPath<'static> {
    object(&path::Object::Network(name.as_str().to_owned()))
}

/// What a NIC is plugged into, its MAC and its address.
pub fn nic(nic: &Nic) -> Map<'_> {
    let mut map = Map::from([("mac", text(&nic.mac))]);
    match &nic.network {
        NicNetwork::User => drop(map.insert("kind", "user".into())),
        NicNetwork::Bridge(name) => map.extend([("kind", "bridge".into()), ("source", text(name))]),
        NicNetwork::Network(name) => map.extend([("kind", "network".into()), ("source", text(name))]),
        NicNetwork::Named(name) => drop(map.insert("network", name.as_str().into())),
    }
    if let Some(address) = nic.address {
        map.insert("address", address.to_string().into());
    }
    map
}

/// Amounts by name.
pub fn resources(amounts: Resources) -> Variant<'static> {
    Variant::from(BTreeMap::from([("vcpus", amounts.vcpus), ("memory-mib", amounts.memory_mib), ("disk-gib", amounts.disk_gib)]))
}

/// Labels, capabilities.
pub fn pairs(map: &BTreeMap<String, String>) -> Variant<'_> {
    let pairs: BTreeMap<&str, &str> = map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    Variant::from(pairs)
}

/// What an event is about: the workspace first, then the job, the image, the host.
pub fn subject(event: &Event) -> ObjectPath<'static> {
    if let Some(id) = event.workspace {
        workspace(id)
    } else if let Some(id) = event.job {
        job(id)
    } else if let Some(id) = event.image {
        image(id)
    } else if let Some(name) = &event.host {
        host(name)
    } else {
        none()
    }
}

/// An event of `EventsSince`.
pub fn event(event: &Event) -> Map<'_> {
    Map::from([
        ("sequence", event.sequence.into()),
        ("at", event.at.0.into()),
        ("kind", text(&event.kind)),
        ("object", subject(event).into()),
        ("text", text(&event.text)),
    ])
}

/// A problem of a policy set.
pub fn problem(problem: &Problem) -> Map<'_> {
    Map::from([
        ("file", text(&problem.file)),
        ("line", problem.line.into()),
        ("text", text(&problem.text)),
        ("source", text(&problem.source)),
        ("code", text(&problem.code)),
    ])
}

/// A finding of the self-check.
pub fn finding(finding: &Finding) -> Map<'_> {
    Map::from([
        ("severity", text(&finding.severity)),
        ("object", text(&finding.object)),
        ("fact", text(&finding.fact)),
        ("remedy", text(&finding.remedy)),
    ])
}

/// An image in a host's cache, with its names in the catalogue.
pub fn cached_image<'a>(image: &'a CachedImage, names: &'a [String]) -> Map<'a> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Map::from([
        ("digest", text(&image.digest)),
        ("size-bytes", image.size_bytes.into()),
        ("names", names.into()),
        ("workspaces", image.workspaces.into()),
        ("last-used", image.last_used.0.into()),
    ])
}

/// What a user or a group has used and holds.
pub fn account<'a>(report: &'a UsageReport, charged: &'a Charged, account: &'a Account) -> Map<'a> {
    let mut map = Map::from([
        ("since", report.period.since.0.into()),
        ("until", report.period.until.0.into()),
        ("charge-minutes", report.charge_minutes.into()),
        ("used-minutes", account.used_minutes.into()),
        ("ahead-minutes", account.ahead_minutes.into()),
        ("workspaces", account.workspaces.into()),
        ("running", account.running.into()),
        ("vcpus", account.resources.vcpus.into()),
        ("memory-mib", account.resources.memory_mib.into()),
        ("disk-gib", account.resources.disk_gib.into()),
    ]);
    match charged {
        Charged::Owner(uid, name) => map.extend([("kind", "owner".into()), ("owner", (*uid).into()), ("name", text(name))]),
        Charged::Group(group) => map.extend([("kind", "group".into()), ("name", text(group))]),
    }
    map
}

/// What a drain's plan says of a workspace.
pub fn departure(departure: &Departure) -> Map<'_> {
    let one = &departure.workspace;
    Map::from([
        ("workspace", workspace(one.id).into()),
        ("name", text(&one.spec.name)),
        ("owner-name", text(&one.owner_name)),
        ("state", one.state.name().into()),
        ("way", departure.way.map_or("stay", Way::name).into()),
        ("host", departure.to.as_ref().map_or("", HostName::as_str).into()),
        ("reason", text(&departure.reason)),
    ])
}

/// A decision as it is recorded.
pub fn decision(shown: &ShownDecision) -> Map<'_> {
    let mut map = dry_decision(shown);
    map.insert("id", shown.decision.id.to_string().into());
    map
}

/// An explanation: the decision, what would pass, and the limits of the evaluation.
pub fn explanation(shown: &ShownDecision) -> Map<'_> {
    let mut map = dry_decision(shown);
    map.insert("nearest", shown.nearest.iter().map(|way| text(way)).collect::<Vec<_>>().into());
    if let Some(limits) = &shown.limits {
        let number = |number: usize| Variant::from(u64::try_from(number).unwrap_or(u64::MAX));
        let limits = Map::from([
            ("deadline-ms", Variant::from(u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX))),
            ("memory-bytes", number(limits.memory_bytes)),
            ("text-chars", number(limits.text_chars)),
            ("consider", number(limits.consider)),
            ("terms", number(limits.terms)),
            ("placements", number(limits.placements)),
        ]);
        map.insert("limits", limits.into());
    }
    map
}

/// What a replay or a shadow found.
pub fn replayed(found: &Replayed) -> Map<'_> {
    let kinds: BTreeMap<&str, u64> = found.kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    let examples: Vec<Map<'_>> = found
        .examples
        .iter()
        .map(|one| {
            Map::from([
                ("id", one.id.to_string().into()),
                ("at", one.at.0.into()),
                ("verb", one.verb.name().into()),
                ("name", text(&one.name)),
                ("caller", text(&one.user)),
                ("kind", text(&one.kind)),
                ("was", text(&one.was)),
                ("is", text(&one.is)),
            ])
        })
        .collect();
    Map::from([
        ("judged", found.judged.into()),
        ("changed", found.changed.into()),
        ("left-out", found.left_out.into()),
        ("not-reached", found.not_reached.into()),
        ("micros", found.micros.into()),
        ("summary", found.sentence().into()),
        ("kinds", kinds.into()),
        ("examples", examples.into()),
    ])
}

/// A shadow.
pub fn shadow(shadow: &ShadowStatus) -> Map<'_> {
    let mut map = replayed(&shadow.found);
    map.insert("hash", text(&shadow.hash));
    map.insert("since", shadow.since.0.into());
    map
}

/// A workspace that would be refused.
pub fn audited(one: &Audited) -> Map<'_> {
    Map::from([
        ("workspace", workspace(one.workspace).into()),
        ("name", text(&one.name)),
        ("owner", text(&one.owner)),
        ("policy", text(&one.policy)),
        ("code", text(&one.code)),
        ("text", text(&one.text)),
        ("rule", text(&one.rule)),
        ("source", text(&one.source)),
    ])
}

/// That a policy set came into force.
pub fn policy_generation(entry: &PolicyGeneration) -> Map<'_> {
    Map::from([
        ("generation", entry.generation.into()),
        ("hash", text(&entry.hash.0)),
        ("at", entry.at.0.into()),
        ("cause", text(&entry.cause)),
        ("actor", text(&entry.actor)),
        ("report", text(&entry.report)),
        ("pinned-over", text(&entry.pinned_over)),
    ])
}

/// What became of the newest policy files.
pub fn gated(gated: &Gated) -> Map<'_> {
    Map::from([
        ("at", gated.at.0.into()),
        ("hash", text(&gated.hash)),
        ("outcome", text(&gated.outcome)),
        ("tests", text(&gated.tests)),
        ("replay", text(&gated.replay)),
    ])
}

/// A decision that was only explained: it has no id under which it could be read again.
fn dry_decision(shown: &ShownDecision) -> Map<'_> {
    let Decision { request, caller, .. } = &shown.decision;
    let decision = &shown.decision;
    let mut verdicts: Vec<Map<'_>> = decision.verdicts.iter().map(verdict).collect();
    for (verdict, line) in verdicts.iter_mut().zip(&shown.lines) {
        verdict.insert("source", text(line));
    }
    let hosts: Vec<Map<'_>> = decision.hosts.iter().take(limits::JUDGED_HOSTS).map(judgement).collect();
    Map::from([
        ("id", "".into()),
        ("at", decision.at.0.into()),
        ("verb", request.verb.name().into()),
        ("name", text(&request.name)),
        ("caller", text(&caller.user)),
        ("uid", caller.uid.into()),
        ("workspace", decision.workspace.map_or_else(none, workspace).into()),
        ("permitted", decision.permitted.into()),
        ("native", decision.native.into()),
        ("generation", decision.generation.into()),
        ("policy", text(&decision.policy.0)),
        ("ledger", decision.ledger.into()),
        ("host", decision.host.as_ref().map_or("", HostName::as_str).into()),
        ("verdicts", verdicts.into()),
        ("hosts", hosts.into()),
        ("source", text(&shown.source)),
    ])
}

fn verdict(verdict: &Verdict) -> Map<'_> {
    let mut map = Map::from([
        ("policy", text(&verdict.policy)),
        ("kind", verdict.kind.name().into()),
        ("code", text(&verdict.code)),
        ("text", text(&verdict.text)),
        ("file", text(&verdict.rule.file)),
        ("line", verdict.rule.line.into()),
        ("micros", verdict.micros.into()),
    ]);
    let restriction = verdict.restriction;
    let lowered = [
        ("duration-seconds", restriction.duration_seconds),
        ("memory-mib", restriction.memory_mib),
        ("vcpus", restriction.vcpus),
    ];
    map.extend(lowered.into_iter().filter_map(|(key, amount)| Some((key, amount?.into()))));
    if restriction.preemptible {
        map.insert("preemptible", true.into());
    }
    map
}

fn judgement(judgement: &HostJudgement) -> Map<'_> {
    let mut map = Map::from([
        ("host", judgement.host.as_str().into()),
        ("score", 0.0_f64.into()),
        ("code", "".into()),
        ("text", "".into()),
        ("file", "".into()),
        ("line", 0_u32.into()),
    ]);
    match &judgement.outcome {
        HostOutcome::Scored(score) => {
            map.insert("outcome", "scored".into());
            map.insert("score", (*score).into());
        }
        HostOutcome::Displaces { score, text: who } => {
            map.insert("outcome", "displaces".into());
            map.insert("score", (*score).into());
            map.insert("text", text(who));
        }
        HostOutcome::NotConsidered => {
            map.insert("outcome", "not-considered".into());
        }
        HostOutcome::Filtered { rule, code, text: why } => {
            map.insert("outcome", "filtered".into());
            map.insert("code", text(code));
            map.insert("text", text(why));
            map.insert("file", text(&rule.file));
            map.insert("line", rule.line.into());
        }
    }
    map
}

/// Everything that is known of a workspace but its user data. `job` are the properties of the job at work.
pub fn description<'a>(
    workspace: &'a Workspace,
    reservation: Option<&'a Reservation>,
    job: Option<Map<'a>>,
    bundle: Option<&'a Bundle>,
) -> Map<'a> {
    let mut map = Map::from([
        ("spec", spec(&workspace.spec).into()),
        ("user-data-bytes", (workspace.spec.user_data.len() as u64).into()),
        ("lease", lease(&workspace.lease).into()),
        ("deployments", workspace.deployments.into()),
    ]);
    if let Some(held) = reservation {
        let held = Map::from([
            ("host", held.host.as_ref().map_or("", HostName::as_str).into()),
            ("vcpus", held.resources.vcpus.into()),
            ("memory-mib", held.resources.memory_mib.into()),
            ("disk-gib", held.resources.disk_gib.into()),
            ("running", held.running.into()),
        ]);
        map.insert("reservation", held.into());
    }
    if let Some(job) = job {
        map.insert("job", job.into());
    }
    if let Some(bundle) = bundle {
        let bundle = Map::from([
            ("id", bundle.id.to_string().into()),
            ("backend", text(&bundle.backend)),
            ("created-at", bundle.created_at.0.into()),
            ("files", bundle_files(&bundle.files).into()),
        ]);
        map.insert("bundle", bundle.into());
    }
    map
}

/// What a workspace's machine does; what is not known is left out.
pub fn figures<'a>(of: &'a Workspace, figures: &Figures, now: Timestamp) -> Map<'a> {
    let mut map = Map::from([
        ("workspace", workspace(of.id).into()),
        ("name", text(&of.spec.name)),
        ("owner", of.owner.into()),
        ("state", of.state.name().into()),
        ("host", of.host.as_ref().map_or("", |host| host.as_str()).into()),
        ("vcpus", of.resources.vcpus.into()),
        ("at", figures.at.0.into()),
        ("age-ms", (now.0.saturating_sub(figures.at.0) / 1000).into()),
    ]);
    let sums = &figures.sums;
    let amounts = [
        ("cpu-time-ms", sums.cpu_time_ns.map(|ns| ns / 1_000_000)),
        ("memory-mib", sums.memory_mib),
        ("resident-mib", sums.resident_mib),
        ("disk-read-bytes", sums.disk_read_bytes),
        ("disk-written-bytes", sums.disk_written_bytes),
        ("net-received-bytes", sums.net_received_bytes),
        ("net-sent-bytes", sums.net_sent_bytes),
        ("disk-read-bytes-per-second", figures.disk_read_rate),
        ("disk-written-bytes-per-second", figures.disk_written_rate),
        ("net-received-bytes-per-second", figures.net_received_rate),
        ("net-sent-bytes-per-second", figures.net_sent_rate),
    ];
    map.extend(amounts.into_iter().filter_map(|(name, amount)| Some((name, amount?.into()))));
    map.extend(figures.cpu_percent.map(|percent| ("cpu-percent", percent.into())));
    map
}

/// Snapshots, oldest first.
pub fn snapshots(snapshots: &[Snapshot]) -> Variant<'_> {
    let list: Vec<Map<'_>> = snapshots
        .iter()
        .map(|snapshot| {
            Map::from([
                ("name", text(&snapshot.name)),
                ("memory", snapshot.memory.into()),
                ("created-at", snapshot.created_at.0.into()),
            ])
        })
        .collect();
    Variant::from(list)
}

/// A bundle: what it is, what it needs, its files.
pub fn bundle(shown: &ShownBundle) -> Map<'_> {
    let ShownBundle { bundle, workspace: owner, manifest } = shown;
    let origin = &manifest.origin;
    let size = bundle.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size_bytes));
    Map::from([
        ("id", bundle.id.to_string().into()),
        ("workspace", workspace(owner.id).into()),
        ("name", text(&owner.spec.name)),
        ("owner", owner.owner.into()),
        ("backend", text(&bundle.backend)),
        ("created-at", bundle.created_at.0.into()),
        ("size-bytes", size.into()),
        ("paused", manifest.paused.into()),
        ("vcpus", manifest.vcpus.into()),
        ("memory-mib", manifest.memory_mib.into()),
        ("hypervisor", text(&origin.hypervisor)),
        ("accelerator", text(&origin.accelerator)),
        ("machine-type", text(&origin.machine_type)),
        ("cpu", text(&origin.cpu)),
        ("emulator", text(&origin.emulator)),
        ("needs", manifest.needs().into()),
        ("images", manifest.image_digests().into()),
        ("files", bundle_files(&bundle.files).into()),
    ])
}

fn bundle_files(files: &[BundleFile]) -> Vec<Map<'_>> {
    let one = |file: &BundleFile| -> Map<'static> {
        Map::from([
            ("name", file.name.clone().into()),
            ("digest", file.digest.clone().into()),
            ("size-bytes", file.size_bytes.into()),
        ])
    };
    files.iter().map(one).collect()
}

fn lease(lease: &Lease) -> Map<'static> {
    Map::from([
        ("from", lease.from.0.into()),
        ("until", lease.until.map_or(0, |at| at.0).into()),
        ("action", lease.action.name().into()),
        ("grace-seconds", lease.grace_seconds.into()),
        ("deferred-until", lease.deferred_until.map_or(0, |at| at.0).into()),
        ("ended", lease.ended.into()),
    ])
}

/// A spec under the keys of `CreateWorkspace`, without the user data.
fn spec(spec: &Spec) -> Map<'_> {
    let disks: Vec<Map<'_>> = spec
        .data_disks
        .iter()
        .map(|disk| {
            let mut map = Map::from([
                ("size-gib", disk.size_gib.into()),
                ("iops", disk.limits.iops.into()),
                ("kib-per-second", disk.limits.kib_per_second.into()),
            ]);
            if let DiskSource::Image(image) = &disk.source {
                map.insert("image", image.to_string().into());
            }
            map
        })
        .collect();
    let nics: Vec<Map<'_>> = spec
        .nics
        .iter()
        .map(|nic| {
            let mut map = self::nic(nic);
            map.insert("inbound-kib-per-second", nic.limits.inbound_kib_per_second.into());
            map.insert("outbound-kib-per-second", nic.limits.outbound_kib_per_second.into());
            map
        })
        .collect();
    let access: Vec<Map<'_>> = spec
        .access
        .iter()
        .map(|grant| {
            let subject = match grant.subject {
                Subject::User(uid) => ("uid", uid.into()),
                Subject::Group(gid) => ("gid", gid.into()),
            };
            Map::from([("right", grant.right.name().into()), subject])
        })
        .collect();
    let ssh_keys: Vec<&str> = spec.ssh_keys.iter().map(String::as_str).collect();
    let mut map = Map::from([
        ("image", spec.image.to_string().into()),
        ("vcpus", spec.vcpus.into()),
        ("vcpus-max", spec.vcpus_max.into()),
        ("cpu-shares", spec.cpu_shares.into()),
        ("memory-mib", spec.memory_mib.into()),
        ("memory-max-mib", spec.memory_max_mib.into()),
        ("disk-gib", spec.disk_gib.into()),
        ("disk-iops", spec.disk_limits.iops.into()),
        ("disk-kib-per-second", spec.disk_limits.kib_per_second.into()),
        ("data-disks", disks.into()),
        ("nics", nics.into()),
        ("operating-system", text(&spec.operating_system)),
        ("network-config", text(&spec.network_config)),
        ("ssh-keys", ssh_keys.into()),
        ("access", access.into()),
        ("labels", pairs(&spec.labels)),
        ("group", text(&spec.group)),
        ("lease-seconds", spec.lease_seconds.into()),
        ("end-action", spec.end_action.name().into()),
        ("target", spec.target.name().into()),
        ("preemptible", spec.preemptible.into()),
    ]);
    if let Some(host) = &spec.host {
        map.insert("host", host.as_str().into());
    }
    map
}

#[cfg(test)]
mod tests {
    use super::{event, spec, subject, text};
    use crate::bus::decode;
    use crate::bus::keys::Dict;
    use vws_bus::keys;
    use vws_domain::{
        DataDisk, DiskLimits, DiskSource, Event, Grant, HostName, ImageRef, JobId, NetworkName, Nic, NicLimits, NicNetwork,
        Right, Spec, Subject, Timestamp,
    };
    use zbus::OwnedVariant;

    fn whole() -> Spec {
        let mut whole = Spec::new("web", ImageRef::Path("/srv/a.raw".into()));
        whole.data_disks = vec![
            DataDisk { source: DiskSource::Empty, size_gib: 3, limits: DiskLimits { iops: 1, kib_per_second: 2 } },
            DataDisk { source: DiskSource::Image(ImageRef::Name("data".into())), size_gib: 0, limits: DiskLimits::default() },
        ];
        whole.nics.push(Nic {
            mac: "52:54:00:00:00:03".into(),
            address: Some("10.0.0.5".parse().unwrap()),
            ..Nic::on(NicNetwork::Named(NetworkName::parse("lan").unwrap()))
        });
        whole.nics.push(Nic {
            network: NicNetwork::Network("lan".into()),
            mac: "52:54:00:00:00:02".into(),
            address: None,
            limits: NicLimits { inbound_kib_per_second: 5, outbound_kib_per_second: 6 },
        });
        whole.ssh_keys = vec!["ssh-ed25519 AAAA".into()];
        whole.labels.insert("a".into(), "b".into());
        whole.user_data = "secret".into();
        whole.host = HostName::parse("node-1").ok();
        whole
    }

    #[test]
    fn what_is_described_can_be_asked_for_again() {
        let whole = whole();
        let given: Dict =
            spec(&whole).into_iter().map(|(key, value)| (key.to_owned(), OwnedVariant::try_from(value).unwrap())).collect();
        assert!(!given.contains_key(keys::USER_DATA), "user data is never shown");
        assert_eq!(given.len() + 1, keys::SPEC.len());
        let (again, access) = decode::spec("web", given).unwrap();
        assert!(access.is_empty());
        assert_eq!(again, Spec { user_data: String::new(), ..whole });
    }

    #[test]
    fn an_access_list_is_described_by_number() {
        let mut with = whole();
        with.access = vec![Grant { subject: Subject::Group(7), right: Right::Use }];
        let given: Dict =
            spec(&with).into_iter().map(|(key, value)| (key.to_owned(), OwnedVariant::try_from(value).unwrap())).collect();
        let (_, access) = decode::spec("web", given).unwrap();
        assert_eq!(access, [(crate::bus::accounts::Who::Gid(7), Right::Use)]);
    }

    #[test]
    fn an_event_names_its_object() {
        let mut about = Event {
            sequence: 3,
            at: Timestamp(9),
            kind: "job.ended".into(),
            workspace: None,
            job: Some(JobId(1)),
            host: None,
            image: None,
            owner: 0,
            text: "done".into(),
        };
        assert_eq!(subject(&about).as_str(), "/org/virtualworkspaces1/jobs/j00000000000000000000000000000001");
        assert_eq!(event(&about).len(), 5);
        about.job = None;
        assert_eq!(subject(&about).as_str(), "/");
    }

    #[test]
    fn a_zero_byte_does_not_reach_the_bus() {
        assert_eq!(text("a\0b"), "a\u{fffd}b".into());
    }
}
