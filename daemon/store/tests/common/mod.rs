//! Arbitrary values of every domain type that is stored, for the round trips and the random histories.
#![allow(dead_code, reason = "each test file uses its part")]

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use vws_domain::*;

/// Any text: quotes, newlines, NUL, outside the basic plane.
pub fn text() -> impl Strategy<Value = String> {
    "(?s).{0,12}"
}

/// A number that a column can hold.
pub fn column() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..1000, 0..=i64::MAX.unsigned_abs()]
}

pub fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3)
}

fn when() -> impl Strategy<Value = Timestamp> {
    column().prop_map(Timestamp)
}

pub fn host_name() -> impl Strategy<Value = HostName> {
    "[a-zA-Z0-9._-]{1,63}".prop_map(|name| HostName::parse(&name).unwrap())
}

pub fn network_name() -> impl Strategy<Value = NetworkName> {
    "[ab]|[a-zA-Z0-9._-]{1,63}".prop_map(|name| NetworkName::parse(&name).unwrap())
}

fn ip() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![(0_u32..4).prop_map(Ipv4Addr::from), any::<u32>().prop_map(Ipv4Addr::from)]
}

fn mac() -> impl Strategy<Value = Mac> {
    (0_u128..8, 0_u32..3).prop_map(|(id, nic)| Mac::made(WorkspaceId(id), nic, 0))
}

fn pool() -> impl Strategy<Value = Pool> {
    let subnet = (any::<u32>(), 8_u32..31).prop_map(|(base, prefix)| {
        let base = Ipv4Addr::from(base & (u32::MAX << (32 - prefix)));
        Subnet::parse(&format!("{base}/{prefix}")).unwrap()
    });
    let range = (ip(), ip()).prop_map(|(a, b)| AddressRange { first: a.min(b), last: a.max(b) });
    (subnet, option::of(ip()), vec(ip(), 0..3), vec(range, 0..3)).prop_map(|(subnet, gateway, dns, ranges)| Pool {
        subnet,
        gateway,
        dns,
        ranges,
    })
}

pub fn network() -> impl Strategy<Value = Network> {
    let flags = any::<(bool, bool, bool)>();
    (network_name(), select(NetworkKind::ALL.to_vec()), text(), option::of(pool()), flags, labels(), column()).prop_map(
        |(name, kind, source, pool, (dhcp, anti_spoofing, enabled), labels, version)| Network {
            name,
            kind,
            source,
            pool,
            dhcp,
            anti_spoofing,
            labels,
            enabled,
            version,
        },
    )
}

pub fn address() -> impl Strategy<Value = Address> {
    ((network_name(), ip(), mac(), (0_u128..4).prop_map(WorkspaceId), 0_u32..3), (0_u32..3, text(), when(), option::of(when())))
        .prop_map(|((network, address, mac, workspace, nic), (owner, name, since, released_at))| Address {
            network,
            address,
            mac,
            workspace,
            nic,
            owner,
            name,
            since,
            released_at,
        })
}

macro_rules! ids {
    ($($name:ident => $type:ident),+) => { $(
        pub fn $name() -> impl Strategy<Value = $type> { any::<u128>().prop_map($type) }
    )+ };
}
ids!(workspace_id => WorkspaceId, job_id => JobId, decision_id => DecisionId, image_id => ImageId, bundle_id => BundleId);

pub fn resources() -> impl Strategy<Value = Resources> {
    (column(), column(), column()).prop_map(|(vcpus, memory_mib, disk_gib)| Resources { vcpus, memory_mib, disk_gib })
}

fn any_resources() -> impl Strategy<Value = Resources> {
    any::<(u64, u64, u64)>().prop_map(|(vcpus, memory_mib, disk_gib)| Resources { vcpus, memory_mib, disk_gib })
}

fn image_ref() -> impl Strategy<Value = ImageRef> {
    prop_oneof![
        text().prop_map(ImageRef::Name),
        text().prop_map(ImageRef::Path),
        (text(), text()).prop_map(|(url, digest)| ImageRef::Url { url, digest }),
    ]
}

fn disk_limits() -> impl Strategy<Value = DiskLimits> {
    any::<(u64, u64)>().prop_map(|(iops, kib_per_second)| DiskLimits { iops, kib_per_second })
}

fn data_disk() -> impl Strategy<Value = DataDisk> {
    let source = prop_oneof![Just(DiskSource::Empty), image_ref().prop_map(DiskSource::Image)];
    (source, any::<u64>(), disk_limits()).prop_map(|(source, size_gib, limits)| DataDisk { source, size_gib, limits })
}

fn nic() -> impl Strategy<Value = Nic> {
    let network = prop_oneof![
        Just(NicNetwork::User),
        text().prop_map(NicNetwork::Bridge),
        text().prop_map(NicNetwork::Network),
        network_name().prop_map(NicNetwork::Named),
    ];
    let mac = prop_oneof![text(), mac().prop_map(|mac| mac.to_string())];
    (network, mac, option::of(ip()), any::<(u64, u64)>()).prop_map(|(network, mac, address, (inbound, outbound))| Nic {
        network,
        mac,
        address,
        limits: NicLimits { inbound_kib_per_second: inbound, outbound_kib_per_second: outbound },
    })
}

fn grant() -> impl Strategy<Value = Grant> {
    let subject = prop_oneof![any::<u32>().prop_map(Subject::User), any::<u32>().prop_map(Subject::Group)];
    (subject, select(vec![Right::View, Right::Use, Right::Manage])).prop_map(|(subject, right)| Grant { subject, right })
}

fn end_action() -> impl Strategy<Value = EndAction> {
    select(vec![EndAction::Stop, EndAction::Serialize, EndAction::Destroy])
}

pub fn spec() -> impl Strategy<Value = Spec> {
    (
        (text(), image_ref(), any::<[u64; 7]>(), disk_limits(), vec(data_disk(), 0..3), vec(nic(), 0..3)),
        (text(), text(), text(), vec(text(), 0..3), vec(grant(), 0..3), labels()),
        (text(), end_action(), select(Target::ALL.to_vec()), option::of(host_name()), any::<bool>(), option::of(membership())),
    )
        .prop_map(
            |(
                (
                    name,
                    image,
                    [vcpus, vcpus_max, cpu_shares, memory_mib, memory_max_mib, disk_gib, lease_seconds],
                    disk_limits,
                    data_disks,
                    nics,
                ),
                (operating_system, user_data, network_config, ssh_keys, access, labels),
                (group, end_action, target, host, preemptible, membership),
            )| Spec {
                name,
                image,
                vcpus,
                vcpus_max,
                cpu_shares,
                memory_mib,
                memory_max_mib,
                disk_gib,
                disk_limits,
                data_disks,
                nics,
                operating_system,
                user_data,
                network_config,
                ssh_keys,
                access,
                labels,
                group,
                lease_seconds,
                end_action,
                target,
                host,
                preemptible,
                membership,
            },
        )
}

fn lease() -> impl Strategy<Value = Lease> {
    let stamp = || any::<u64>().prop_map(Timestamp);
    (stamp(), option::of(stamp()), end_action(), any::<u64>(), option::of(stamp()), any::<bool>()).prop_map(
        |(from, until, action, grace_seconds, deferred_until, ended)| Lease {
            from,
            until,
            action,
            grace_seconds,
            deferred_until,
            ended,
        },
    )
}

fn membership() -> impl Strategy<Value = Membership> {
    (text(), text(), any::<u64>(), vec(text(), 0..3), vec(text(), 0..3)).prop_map(
        |(cluster, role, index, apart_from, together_with)| Membership { cluster, role, index, apart_from, together_with },
    )
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (text(), any::<bool>(), any::<u64>().prop_map(Timestamp)).prop_map(|(name, memory, created_at)| Snapshot {
        name,
        memory,
        created_at,
    })
}

pub fn workspace() -> impl Strategy<Value = Workspace> {
    (
        (workspace_id(), any::<u32>(), text(), text(), spec(), vec(option::of(image_id()), 0..3), resources()),
        (
            select(State::ALL.to_vec()),
            select(Target::ALL.to_vec()),
            text(),
            text(),
            option::of(host_name()),
            option::of(host_name()),
            option::of(job_id()),
        ),
        (lease(), option::of(bundle_id()), vec(snapshot(), 0..3), (text(), text()), column(), column(), when(), when()),
    )
        .prop_map(
            |(
                (id, owner, owner_name, group, spec, images, resources),
                (state, target, code, text, host, also_on, job),
                (lease, bundle, snapshots, (cpu, plugin_state), deployments, version, created_at, changed_at),
            )| Workspace {
                id,
                owner,
                owner_name,
                group,
                spec,
                images,
                resources,
                state,
                target,
                cause: Cause { code, text },
                host,
                also_on,
                job,
                lease,
                bundle,
                snapshots,
                cpu,
                plugin_state,
                deployments,
                version,
                created_at,
                changed_at,
            },
        )
}

/// Amounts stay small: the projection sums them.
pub fn reservation() -> impl Strategy<Value = Reservation> {
    let small = (0_u64..100, 0_u64..100_000, 0_u64..1000);
    (
        (workspace_id(), text(), 0_u32..3, "[ab]", option::of(host_name()), option::of(host_name())),
        (small, any::<[bool; 2]>(), labels(), 0_u64..1 << 40, option::of(0_u64..1 << 40), 0_u64..9),
    )
        .prop_map(
            |(
                (workspace, name, owner, group, host, also_on),
                ((vcpus, memory_mib, disk_gib), [running, preemptible], labels, from, until, addresses),
            )| {
                Reservation {
                    workspace,
                    name,
                    owner,
                    group,
                    host,
                    also_on,
                    resources: Resources { vcpus, memory_mib, disk_gib },
                    running,
                    preemptible,
                    labels,
                    lease_from: Timestamp(from),
                    lease_until: until.map(Timestamp),
                    addresses,
                }
            },
        )
}

pub fn host() -> impl Strategy<Value = Host> {
    let connection = prop_oneof![Just(Connection::Unprobed), Just(Connection::Up), text().prop_map(Connection::Down)];
    let facts = (text(), text(), text(), any_resources(), labels(), text(), text()).prop_map(
        |(hypervisor, name, reason, total, capabilities, arch, storage_id)| HostFacts {
            hypervisor,
            accelerator: Accelerator { name, reason },
            total,
            capabilities,
            arch,
            storage_id,
        },
    );
    (
        (host_name(), text(), text(), labels(), column(), column(), any_resources(), any::<bool>()),
        (facts, any::<u64>(), any_resources(), connection, column(), when(), column()),
    )
        .prop_map(
            |(
                (name, backend, settings, labels, cpu_overcommit_percent, memory_overcommit_percent, reserve, enabled),
                (facts, guests, resources, connection, version, seen_at, image_cache_gib),
            )| Host {
                name,
                backend,
                settings,
                labels,
                cpu_overcommit_percent,
                memory_overcommit_percent,
                reserve,
                image_cache_gib,
                enabled,
                facts,
                foreign: ForeignUse { guests, resources },
                connection,
                version,
                seen_at,
            },
        )
}

fn boot() -> impl Strategy<Value = Boot> {
    prop_oneof![
        select(vec![Firmware::Bios, Firmware::Uefi]).prop_map(Boot::Disk),
        (text(), text(), text()).prop_map(|(kernel, initrd, cmdline)| Boot::Kernel { kernel, initrd, cmdline }),
    ]
}

pub fn image() -> impl Strategy<Value = Image> {
    (
        (image_id(), text(), text(), select(vec![DiskFormat::Raw, DiskFormat::Qcow2]), column(), column(), boot()),
        (
            any::<u32>(),
            select(vec![Visibility::Private, Visibility::Public]),
            select(vec![ImageState::Importing, ImageState::Ready, ImageState::Damaged]),
            text(),
            when(),
        ),
    )
        .prop_map(
            |((id, name, digest, format, size_bytes, virtual_size_mib, boot), (owner, visibility, state, source, created_at))| {
                Image {
                    id,
                    name,
                    digest,
                    format,
                    size_bytes,
                    virtual_size_mib,
                    boot,
                    owner,
                    visibility,
                    state,
                    source,
                    created_at,
                }
            },
        )
}

pub fn bundle() -> impl Strategy<Value = Bundle> {
    let file = (text(), text(), any::<u64>()).prop_map(|(name, digest, size_bytes)| BundleFile { name, digest, size_bytes });
    (bundle_id(), workspace_id(), text(), text(), vec(file, 0..3), when(), option::of(when())).prop_map(
        |(id, workspace, backend, manifest, files, created_at, consumed_at)| Bundle {
            id,
            workspace,
            backend,
            manifest,
            files,
            created_at,
            consumed_at,
        },
    )
}

fn error() -> impl Strategy<Value = Error> {
    (select(ErrorKind::ALL.to_vec()), text(), text(), text(), text(), option::of(decision_id()), text()).prop_map(
        |(kind, code, object, fact, remedy, decision, detail)| Error { kind, code, object, fact, remedy, decision, detail },
    )
}

pub fn job() -> impl Strategy<Value = Job> {
    let progress = (text(), any::<(u32, u32, u64, u64)>()).prop_map(|(phase, (step, steps, done, total))| Progress {
        phase,
        step,
        steps,
        done,
        total,
    });
    (
        (job_id(), select(JobKind::ALL.to_vec()), option::of(workspace_id()), option::of(image_id()), option::of(host_name())),
        (any::<u32>(), text(), text(), select(JobState::ALL.to_vec()), any::<u32>(), text()),
        (progress, any::<bool>(), option::of(error()), text(), when(), option::of(when())),
    )
        .prop_map(
            |(
                (id, kind, workspace, image, host),
                (owner, actor, args, state, step, scratch),
                (progress, cancel_requested, error, message, created_at, ended_at),
            )| Job {
                id,
                kind,
                workspace,
                image,
                host,
                owner,
                actor,
                args,
                state,
                step,
                scratch,
                progress,
                cancel_requested,
                error,
                message,
                created_at,
                ended_at,
            },
        )
}

pub fn caller() -> impl Strategy<Value = Caller> {
    (any::<(u32, u32, bool, bool)>(), text(), vec(any::<u32>(), 0..3), vec(text(), 0..3), text()).prop_map(
        |((uid, pid, admin, system), user, gids, groups, label)| Caller { uid, user, gids, groups, pid, label, admin, system },
    )
}

fn request() -> impl Strategy<Value = Request> {
    (
        (select(Verb::ALL.to_vec()), text(), vec(image().prop_map(Arc::new), 0..2), any_resources(), any::<u64>(), text()),
        (vec(nic(), 0..2), labels(), text(), text(), text(), option::of(host_name())),
        (
            option::of(text()),
            vec(host_name(), 0..2),
            option::of(membership()),
            vec(text(), 0..2),
            vec(grant(), 0..2),
            vec(network().prop_map(Arc::new), 0..2),
            any::<(u64, bool)>(),
            option::of(host_name()),
        ),
    )
        .prop_map(
            |(
                (verb, name, images, resources, duration_seconds, end_action),
                (nics, labels, operating_system, group, target, host),
                (backend, avoid, membership, needs, access, networks, (addresses, preemptible), leaves),
            )| Request {
                verb,
                name,
                images,
                resources,
                duration_seconds,
                end_action,
                nics,
                labels,
                operating_system,
                group,
                target,
                host,
                backend,
                avoid: avoid.into_iter().collect(),
                membership,
                needs,
                access,
                networks,
                addresses,
                leaves,
                preemptible,
            },
        )
}

fn rule() -> impl Strategy<Value = Rule> {
    (text(), any::<u32>()).prop_map(|(file, line)| Rule { file, line })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let kinds = vec![VerdictKind::Permit, VerdictKind::Deny, VerdictKind::Restrict, VerdictKind::Error];
    let restriction =
        any::<(Option<u64>, Option<u64>, Option<u64>, bool)>().prop_map(|(duration_seconds, memory_mib, vcpus, preemptible)| {
            Restriction { duration_seconds, memory_mib, vcpus, preemptible }
        });
    (text(), select(kinds), text(), text(), rule(), restriction, any::<u64>()).prop_map(
        |(policy, kind, code, text, rule, restriction, micros)| Verdict { policy, kind, code, text, rule, restriction, micros },
    )
}

fn judgement() -> impl Strategy<Value = HostJudgement> {
    // NaN is unequal to itself; it has a test of its own.
    let score = any::<f64>().prop_filter("comparable", |score| !score.is_nan());
    let extremes = select(vec![f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, -0.0, 0.1 + 0.2]);
    let outcome = prop_oneof![
        (rule(), text(), text()).prop_map(|(rule, code, text)| HostOutcome::Filtered { rule, code, text }),
        prop_oneof![score, extremes].prop_map(HostOutcome::Scored),
        Just(HostOutcome::NotConsidered),
        (-9.0..9.0, text()).prop_map(|(score, text)| HostOutcome::Displaces { score, text }),
    ];
    (host_name(), outcome).prop_map(|(host, outcome)| HostJudgement { host, outcome })
}

pub fn decision() -> impl Strategy<Value = Decision> {
    (
        (decision_id(), when(), column(), request(), caller(), option::of(workspace_id()), text()),
        (column(), vec(verdict(), 0..3), any::<bool>(), any::<bool>(), option::of(host_name()), vec(judgement(), 0..3)),
    )
        .prop_map(
            |((id, at, ledger, request, caller, workspace, policy), (generation, verdicts, permitted, native, host, hosts))| {
                Decision {
                    id,
                    at,
                    ledger,
                    before: Before {
                        resources: request.resources,
                        duration_seconds: generation,
                        nics: permitted.then(|| request.nics.clone()),
                        host: host.clone(),
                        preemptible: permitted,
                    },
                    seen: native.then(|| Seen::of(&plain_workspace(7, "seen"))),
                    request,
                    caller,
                    workspace,
                    policy: PolicyHash(policy),
                    generation,
                    verdicts,
                    permitted,
                    native,
                    host,
                    hosts,
                }
            },
        )
}

pub fn event() -> impl Strategy<Value = Event> {
    (
        (column(), when(), text(), option::of(workspace_id()), option::of(job_id())),
        (option::of(host_name()), option::of(image_id()), any::<u32>(), text()),
    )
        .prop_map(|((sequence, at, kind, workspace, job), (host, image, owner, text))| Event {
            sequence,
            at,
            kind,
            workspace,
            job,
            host,
            image,
            owner,
            text,
        })
}

pub fn answered() -> impl Strategy<Value = AnsweredRequest> {
    (any::<u32>(), text(), text(), option::of(workspace_id()), option::of(job_id()), option::of(image_id()), when()).prop_map(
        |(uid, request_id, digest, workspace, job, image, at)| AnsweredRequest {
            uid,
            request_id,
            digest,
            workspace,
            job,
            image,
            at,
        },
    )
}

/// An event with a number, for tests that only need something to write.
pub fn plain_event(sequence: u64) -> Change {
    Change::Event(Arc::new(Event {
        sequence,
        at: Timestamp(sequence),
        kind: "test".to_owned(),
        workspace: None,
        job: None,
        host: None,
        image: None,
        owner: 0,
        text: format!("event {sequence}"),
    }))
}

/// A live workspace, small and plain.
pub fn plain_workspace(id: u128, name: &str) -> Workspace {
    let spec = Spec::new(name, ImageRef::Name("debian".to_owned()));
    Workspace {
        id: WorkspaceId(id),
        owner: 1000,
        owner_name: "ann".to_owned(),
        group: "staff".to_owned(),
        resources: spec.resources(0),
        spec,
        images: vec![Some(ImageId(1))],
        state: State::Running,
        target: Target::Running,
        cause: Cause::default(),
        host: None,
        also_on: None,
        job: None,
        snapshots: Vec::new(),
        lease: Lease {
            from: Timestamp(1),
            until: None,
            action: EndAction::Stop,
            grace_seconds: 0,
            deferred_until: None,
            ended: false,
        },
        bundle: None,
        cpu: String::new(),
        plugin_state: String::new(),
        deployments: 1,
        version: 1,
        created_at: Timestamp(1),
        changed_at: Timestamp(1),
    }
}

/// Every field of two projections, compared as text: the projection offers no equality of its own.
pub fn shape(site: &Site) -> String {
    format!("{site:#?}")
}
