//! Nouns for tests: a request, a caller, a workspace, hosts, and a set from a few texts.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use vws_domain::*;
use vws_policy::{Evaluator, Limits, PolicySet, Problem, Sources};

pub const PERMIT: &str = "return { decide = function(input) return permit() end }";
pub const ANY_HOST: &str = "return {}";

/// A set of the three texts.
pub fn sources(access: &str, quota: &str, placement: &str) -> Sources {
    let files = [("access.lua", access), ("quota.lua", quota), ("placement.lua", placement)];
    Sources { files: files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect() }
}

pub fn evaluator_with(sources: Sources, limits: Limits) -> Evaluator {
    match PolicySet::load(sources, limits) {
        Ok(set) => Arc::new(set).evaluator(7).unwrap(),
        Err(problems) => panic!("{}", problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")),
    }
}

pub fn access(text: &str) -> Evaluator {
    evaluator_with(sources(text, PERMIT, ANY_HOST), Limits::default())
}

pub fn placement(text: &str) -> Evaluator {
    evaluator_with(sources(PERMIT, PERMIT, text), Limits::default())
}

/// access.lua whose `decide` has this body.
pub fn deciding(body: &str) -> Evaluator {
    access(&format!("return {{ decide = function(input)\n{body}\nend }}"))
}

/// The shipped policies.
pub fn shipped() -> Sources {
    Sources::read_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")).unwrap()
}

pub fn request(verb: Verb) -> Request {
    Request {
        verb,
        name: "web".to_owned(),
        images: Vec::new(),
        resources: Resources { vcpus: 2, memory_mib: 2048, disk_gib: 10 },
        duration_seconds: 3600,
        end_action: "stop".to_owned(),
        nics: vec![Nic::on(NicNetwork::User)],
        labels: BTreeMap::new(),
        operating_system: "debian-12".to_owned(),
        group: "staff".to_owned(),
        target: "running".to_owned(),
        host: None,
        backend: None,
        avoid: Default::default(),
        membership: None,
        preemptible: false,
        needs: Vec::new(),
        access: Vec::new(),
        networks: Vec::new(),
        addresses: 0,
        leaves: None,
    }
}

pub fn caller(uid: u32, user: &str) -> Caller {
    Caller {
        uid,
        user: user.to_owned(),
        gids: vec![uid, 50],
        groups: vec![user.to_owned(), "staff".to_owned()],
        pid: 1,
        label: String::new(),
        admin: uid == 0,
        system: false,
    }
}

pub fn workspace(owner: u32, access: Vec<Grant>) -> Arc<Workspace> {
    let mut spec = Spec::new("web", ImageRef::Name("debian".to_owned()));
    spec.access = access;
    Arc::new(Workspace {
        id: WorkspaceId(9),
        owner,
        owner_name: "ann".to_owned(),
        group: "staff".to_owned(),
        spec,
        images: Vec::new(),
        resources: Resources { vcpus: 2, memory_mib: 2048, disk_gib: 10 },
        state: State::Running,
        target: Target::Running,
        cause: Cause::default(),
        host: Some(HostName::parse("h1").unwrap()),
        also_on: None,
        job: None,
        lease: Lease {
            from: Timestamp(1_000_000),
            until: None,
            action: EndAction::Stop,
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
        created_at: Timestamp(1_000_000),
        changed_at: Timestamp(1_000_000),
    })
}

pub fn image(name: &str, owner: u32, visibility: Visibility) -> Arc<Image> {
    Arc::new(Image {
        id: ImageId(3),
        name: name.to_owned(),
        digest: "0".repeat(64),
        format: DiskFormat::Qcow2,
        size_bytes: 1 << 30,
        virtual_size_mib: 2048,
        boot: Boot::Disk(Firmware::Bios),
        owner,
        visibility,
        state: ImageState::Ready,
        source: "/images/a".to_owned(),
        created_at: Timestamp(0),
    })
}

pub fn access_input(verb: Verb) -> AccessInput {
    AccessInput { request: request(verb), caller: caller(1000, "ann"), workspace: None, now: Timestamp(1_800_000_000_000_000) }
}

pub fn placement_input() -> PlacementInput {
    PlacementInput {
        request: request(Verb::Launch),
        caller: caller(1000, "ann"),
        workspace: None,
        placements: Vec::new(),
        now: Timestamp(1_800_000_000_000_000),
    }
}

pub fn host(name: &str, labels: &[(&str, &str)]) -> Host {
    Host {
        name: HostName::parse(name).unwrap(),
        backend: "sim".to_owned(),
        settings: "{}".to_owned(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        cpu_overcommit_percent: 100,
        memory_overcommit_percent: 100,
        reserve: Resources::default(),
        image_cache_gib: 0,
        enabled: true,
        facts: HostFacts {
            hypervisor: "sim 1".to_owned(),
            accelerator: Accelerator { name: "kvm".to_owned(), reason: "seen".to_owned() },
            total: Resources { vcpus: 32, memory_mib: 64 * 1024, disk_gib: 1000 },
            capabilities: BTreeMap::from([
                ("disk-limits".to_owned(), String::new()),
                ("uefi".to_owned(), "no firmware".to_owned()),
            ]),
            arch: "x86_64".to_owned(),
            storage_id: String::new(),
        },
        foreign: ForeignUse::default(),
        connection: Connection::Up,
        version: 1,
        seen_at: Timestamp(0),
    }
}

pub fn candidate(host: Host, used: Resources, workspaces: u64) -> Candidate {
    Candidate { free: host.capacity().minus(used), host: Arc::new(host), workspaces }
}

/// Empty hosts of these names.
pub fn hosts(names: &[&str]) -> Vec<Candidate> {
    names.iter().map(|name| candidate(host(name, &[]), Resources::default(), 0)).collect()
}

pub fn reservation(id: u128, owner: u32, group: &str, on: &str) -> Arc<Reservation> {
    Arc::new(Reservation {
        workspace: WorkspaceId(id),
        name: format!("w{id}"),
        owner,
        group: group.to_owned(),
        host: Some(HostName::parse(on).unwrap()),
        also_on: None,
        preemptible: false,
        resources: Resources { vcpus: 1, memory_mib: 1024, disk_gib: 1 },
        running: true,
        labels: BTreeMap::new(),
        lease_from: Timestamp(0),
        lease_until: None,
        addresses: 0,
    })
}
