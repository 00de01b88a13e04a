//! The plan of a drain, over random sites: nothing is placed where it does not fit, nothing is forgotten, nothing stays without need.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use vws_domain::{
    Cause, Change, Connection, EndAction, ForeignUse, Host, HostFacts, HostName, ImageRef, Lease, Reservation, Resources, Site,
    Spec, State, Target, Timestamp, Way, Workspace, WorkspaceId, plan_departures, ways_off,
};

fn name(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

fn host(at: usize, memory_mib: u64, enabled: bool, migrate: bool, serialize: bool) -> Host {
    let can = |yes: bool| if yes { String::new() } else { "not here".to_owned() };
    Host {
        name: name(["a", "b", "c", "d"][at]),
        backend: "sim".to_owned(),
        settings: String::new(),
        labels: BTreeMap::new(),
        cpu_overcommit_percent: 100,
        memory_overcommit_percent: 100,
        reserve: Resources::default(),
        image_cache_gib: 0,
        enabled,
        facts: HostFacts {
            total: Resources { vcpus: 1000, memory_mib, disk_gib: 1000 },
            capabilities: BTreeMap::from([("migrate".to_owned(), can(migrate)), ("serialize".to_owned(), can(serialize))]),
            ..HostFacts::default()
        },
        foreign: ForeignUse::default(),
        connection: Connection::Up,
        version: 1,
        seen_at: Timestamp(0),
    }
}

fn workspace(id: u128, state: State, memory_mib: u64, on: &HostName) -> Workspace {
    let spec = Spec::new(&format!("w{id}"), ImageRef::Name("tiny".to_owned()));
    Workspace {
        id: WorkspaceId(id),
        owner: 1000,
        owner_name: "ann".to_owned(),
        group: "staff".to_owned(),
        spec,
        images: Vec::new(),
        resources: Resources { vcpus: 1, memory_mib, disk_gib: 1 },
        state,
        target: Target::Running,
        cause: Cause::default(),
        host: Some(on.clone()),
        also_on: None,
        job: None,
        snapshots: Vec::new(),
        lease: Lease {
            from: Timestamp(0),
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
        created_at: Timestamp(0),
        changed_at: Timestamp(0),
    }
}

fn reservation(workspace: &Workspace) -> Reservation {
    Reservation {
        workspace: workspace.id,
        name: workspace.spec.name.clone(),
        owner: workspace.owner,
        group: workspace.group.clone(),
        host: workspace.host.clone(),
        also_on: workspace.also_on.clone(),
        resources: workspace.resources,
        running: workspace.state.runs(),
        preemptible: false,
        labels: BTreeMap::new(),
        lease_from: Timestamp(0),
        lease_until: None,
        addresses: 0,
    }
}

type Machine = (usize, State, u64);

fn site(hosts: &[(u64, bool, bool, bool)], machines: &[Machine]) -> Site {
    let mut site = Site::default();
    for (at, (memory, enabled, migrate, serialize)) in hosts.iter().enumerate() {
        site.apply(&Change::PutHost(Arc::new(host(at, *memory, *enabled || at == 0, *migrate, *serialize))));
    }
    for (id, (at, state, memory)) in machines.iter().enumerate() {
        let workspace = workspace(id as u128 + 1, *state, *memory, &name(["a", "b", "c", "d"][*at]));
        site.apply(&Change::PutReservation(Arc::new(reservation(&workspace))));
        site.apply(&Change::PutWorkspace(Arc::new(workspace)));
    }
    site
}

/// The first host, by name, that is enabled and has room.
fn first_fit(site: &Site, workspace: &Arc<Workspace>, way: Way) -> Result<HostName, String> {
    let need = if way == Way::Live { "migrate" } else { "serialize" };
    let fits = |candidate: &&vws_domain::Candidate| {
        candidate.host.enabled
            && Some(&candidate.host.name) != workspace.host.as_ref()
            && candidate.host.cannot(need).is_none()
            && workspace.resources.shortage(candidate.free).is_none()
    };
    site.candidates().iter().find(fits).map(|candidate| candidate.host.name.clone()).ok_or_else(|| "no room".to_owned())
}

fn states() -> impl Strategy<Value = State> {
    prop_oneof![6 => Just(State::Running), 2 => Just(State::Paused), 1 => proptest::sample::select(State::ALL[..12].to_vec())]
}

proptest! {
    #[test]
    fn a_plan_keeps_to_the_room_there_is(
        hosts in proptest::collection::vec((0_u64..8_000, any::<bool>(), any::<bool>(), any::<bool>()), 2..5),
        machines in proptest::collection::vec((0_usize..4, states(), 1_u64..2_000), 0..24),
        evacuate in any::<bool>(),
    ) {
        let machines: Vec<Machine> = machines.into_iter().map(|(at, state, memory)| (at % hosts.len(), state, memory)).collect();
        let site = site(&hosts, &machines);
        let a = name("a");
        let plan = plan_departures(&site, &a, evacuate, first_fit);
        prop_assert_eq!(&plan, &plan_departures(&site, &a, evacuate, first_fit), "the same question has the same answer");

        // Each workspace of the host once, no other.
        let mut planned: Vec<WorkspaceId> = plan.iter().map(|departure| departure.workspace.id).collect();
        planned.sort();
        let mut there: Vec<WorkspaceId> =
            site.workspaces().filter(|one| one.host.as_ref() == Some(&a)).map(|one| one.id).collect();
        there.sort();
        prop_assert_eq!(planned, there);

        // Applied, it overbooks no host that was not overbooked before.
        let here = site.host(&a).unwrap();
        let mut applied = site.clone();
        for departure in &plan {
            let way = departure.way;
            match &departure.to {
                Some(to) => {
                    prop_assert!(matches!(way, Some(Way::Live | Way::Bundle)));
                    prop_assert!(*to != a && site.host(to).unwrap().enabled);
                    let mut held = site.reservation(departure.workspace.id).unwrap().as_ref().clone();
                    held.host = Some(to.clone());
                    applied.apply(&Change::PutReservation(Arc::new(held)));
                }
                None => prop_assert!(matches!(way, None | Some(Way::Store))),
            }
            // What stays says why; what is interrupted was to be, or stood still.
            prop_assert!(way.is_some() || !departure.reason.is_empty());
            let runs = departure.workspace.state == State::Running;
            prop_assert!(!(runs && matches!(way, Some(Way::Bundle | Way::Store))) || evacuate);
            prop_assert!(way != Some(Way::Store) || evacuate);
            prop_assert!(way.is_none() || matches!(departure.workspace.state, State::Running | State::Paused));
        }
        for candidate in site.candidates().iter().filter(|candidate| candidate.host.name != a) {
            let (before, after) = (site.usage_of_host(&candidate.host.name), applied.usage_of_host(&candidate.host.name));
            let fits = after.resources.shortage(candidate.host.capacity()).is_none();
            prop_assert!(fits || before.resources == after.resources, "{} is overbooked by the plan", candidate.host.name);
        }

        // Nothing stays for want of room that would fit after everything that goes.
        for departure in plan.iter().filter(|departure| departure.way.is_none()) {
            if let Ok(ways) = ways_off(here, &departure.workspace, evacuate) {
                for way in ways.into_iter().filter(|way| *way != Way::Store) {
                    prop_assert!(first_fit(&applied, &departure.workspace, way).is_err(), "{:?} would fit", departure);
                }
            }
        }
        // An evacuation leaves nothing behind that could be saved.
        if evacuate && here.cannot("serialize").is_none() {
            for departure in &plan {
                let saved = matches!(departure.workspace.state, State::Running | State::Paused);
                prop_assert!(!saved || departure.way.is_some(), "{departure:?}");
            }
        }
    }
}

#[test]
fn the_large_ones_go_first_and_take_their_room() {
    let site = site(
        &[(8000, true, true, true), (1000, true, true, true)],
        &[(0, State::Running, 300), (0, State::Running, 800), (0, State::Stopped, 100)],
    );
    let plan = plan_departures(&site, &name("a"), false, first_fit);
    let said: Vec<_> = plan.iter().map(|one| (one.workspace.spec.name.as_str(), one.way, one.reason.is_empty())).collect();
    assert_eq!(said, [("w2", Some(Way::Live), true), ("w1", None, false), ("w3", None, false)]);
}
