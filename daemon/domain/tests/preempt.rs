//! Making room, over random sites: who is named is pre-emptible and no more than needed, and however displacements, failures and
//! departures follow each other, no host ever has more on it than its capacity.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vws_domain::{
    Cause, Change, Connection, EndAction, Exit, ForeignUse, Host, HostFacts, HostName, ImageRef, Job, JobId, JobKind, JobState,
    Lease, Offer, PREEMPTER, Progress, Request, Reservation, Resources, RoomWait, Site, Snapshot, Spec, State, Target, Timestamp,
    Verb, Workspace, WorkspaceId, exit_of, leaves_for, offers, room_wait,
};

fn name(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

fn host(at: &str, total: Resources, serialize: bool) -> Host {
    let can = if serialize { String::new() } else { "not here".to_owned() };
    Host {
        name: name(at),
        backend: "sim".to_owned(),
        settings: String::new(),
        labels: BTreeMap::new(),
        cpu_overcommit_percent: 100,
        memory_overcommit_percent: 100,
        reserve: Resources::default(),
        image_cache_gib: 0,
        enabled: true,
        facts: HostFacts { total, capabilities: BTreeMap::from([("serialize".to_owned(), can)]), ..HostFacts::default() },
        foreign: ForeignUse::default(),
        connection: Connection::Up,
        version: 1,
        seen_at: Timestamp(0),
    }
}

#[derive(Clone, Copy, Debug)]
struct Guest {
    preemptible: bool,
    state: State,
    end: EndAction,
    snapshots: usize,
    vcpus: u64,
    memory_mib: u64,
}

fn workspace(id: u128, on: &HostName, guest: &Guest) -> Workspace {
    let mut spec = Spec::new(&format!("w{id}"), ImageRef::Name("tiny".to_owned()));
    spec.preemptible = guest.preemptible;
    let snapshot = Snapshot { name: "s".to_owned(), memory: false, created_at: Timestamp(0) };
    Workspace {
        id: WorkspaceId(id),
        owner: 1000,
        owner_name: "ann".to_owned(),
        group: "staff".to_owned(),
        spec,
        images: Vec::new(),
        resources: Resources { vcpus: guest.vcpus, memory_mib: guest.memory_mib, disk_gib: 1 },
        state: guest.state,
        target: Target::Running,
        cause: Cause::default(),
        host: Some(on.clone()),
        also_on: None,
        job: None,
        snapshots: vec![snapshot; guest.snapshots],
        lease: Lease { from: Timestamp(0), until: None, action: guest.end, grace_seconds: 0, deferred_until: None, ended: false },
        bundle: None,
        cpu: String::new(),
        plugin_state: String::new(),
        deployments: 1,
        version: 1,
        created_at: Timestamp(0),
        changed_at: Timestamp(0),
    }
}

fn held(workspace: &Workspace) -> Reservation {
    Reservation {
        workspace: workspace.id,
        name: workspace.spec.name.clone(),
        owner: workspace.owner,
        group: workspace.group.clone(),
        host: workspace.host.clone(),
        also_on: None,
        resources: workspace.resources,
        running: workspace.state.runs(),
        preemptible: workspace.spec.preemptible,
        labels: BTreeMap::new(),
        lease_from: Timestamp(0),
        lease_until: None,
        addresses: 0,
    }
}

fn put(site: &mut Site, workspace: Workspace) {
    site.apply(&Change::PutReservation(Arc::new(held(&workspace))));
    site.apply(&Change::PutWorkspace(Arc::new(workspace)));
}

fn request(vcpus: u64, memory_mib: u64, preemptible: bool) -> Request {
    Request {
        verb: Verb::Launch,
        name: "new".to_owned(),
        images: Vec::new(),
        resources: Resources { vcpus, memory_mib, disk_gib: 1 },
        duration_seconds: 0,
        end_action: String::new(),
        nics: Vec::new(),
        labels: BTreeMap::new(),
        operating_system: String::new(),
        group: String::new(),
        target: "running".to_owned(),
        host: None,
        backend: None,
        avoid: BTreeSet::new(),
        membership: None,
        needs: Vec::new(),
        leaves: None,
        access: Vec::new(),
        networks: Vec::new(),
        addresses: 0,
        preemptible,
    }
}

fn job(id: u128, workspace: WorkspaceId, kind: JobKind, state: JobState) -> Job {
    Job {
        id: JobId(id),
        kind,
        workspace: Some(workspace),
        image: None,
        host: None,
        owner: 1000,
        actor: PREEMPTER.to_owned(),
        args: String::new(),
        state,
        step: 0,
        scratch: String::new(),
        progress: Progress::default(),
        cancel_requested: false,
        error: None,
        message: String::new(),
        created_at: Timestamp(0),
        ended_at: None,
    }
}

fn guest() -> impl Strategy<Value = Guest> {
    let states =
        prop_oneof![6 => Just(State::Running), 1 => Just(State::Paused), 1 => Just(State::Stopped), 1 => Just(State::Broken)];
    let ends = prop_oneof![3 => Just(EndAction::Stop), 2 => Just(EndAction::Destroy)];
    (prop::bool::weighted(0.8), states, ends, prop::bool::weighted(0.1), 1_u64..4, 1_u64..5).prop_map(
        |(preemptible, state, end, kept, vcpus, memory)| Guest {
            preemptible,
            state,
            end,
            snapshots: usize::from(kept),
            vcpus,
            memory_mib: memory * 100,
        },
    )
}

/// A host that guests, as many as fit, are on.
fn filled(vcpus: u64, memory_mib: u64, serialize: bool, guests: &[Guest]) -> Site {
    let mut site = Site::default();
    site.apply(&Change::PutHost(Arc::new(host("a", Resources { vcpus, memory_mib, disk_gib: 1000 }, serialize))));
    for (id, guest) in guests.iter().enumerate() {
        let workspace = workspace(id as u128 + 1, &name("a"), guest);
        if workspace.resources.shortage(site.candidates()[0].free).is_none() {
            put(&mut site, workspace);
        }
    }
    site
}

/// Destroyed, all, memory, vCPUs of the cheapest set, found by trying every one.
fn cheapest(site: &Site, request: &Request) -> Option<(usize, usize, u64, u64)> {
    let here = site.host(&name("a")).unwrap();
    let could: Vec<(Resources, Exit)> =
        site.workspaces().filter_map(|one| Some((one.resources, exit_of(here, one).ok()?))).collect();
    let held = site.usage_of_host(&here.name).resources;
    (1_u32..1 << could.len())
        .filter_map(|set| {
            let chosen: Vec<_> = could.iter().enumerate().filter(|(at, _)| set & (1 << at) != 0).map(|(_, one)| one).collect();
            let gone = chosen.iter().fold(Resources::default(), |sum, (held, _)| sum.plus(*held));
            let fits = request.resources.plus(held.minus(gone)).shortage(here.capacity()).is_none();
            let destroyed = chosen.iter().filter(|(_, exit)| *exit == Exit::Destroy).count();
            fits.then_some((destroyed, chosen.len(), gone.memory_mib, gone.vcpus))
        })
        .min()
}

fn cost(offer: &Offer) -> (usize, usize, u64, u64) {
    let destroyed = offer.victims.iter().filter(|victim| victim.exit == Exit::Destroy).count();
    let gone = offer.victims.iter().fold(Resources::default(), |sum, victim| sum.plus(victim.workspace.resources));
    (destroyed, offer.victims.len(), gone.memory_mib, gone.vcpus)
}

proptest! {
    #[test]
    fn the_smallest_set_that_makes_room_is_named_and_no_other(
        (vcpus, memory) in (2_u64..16, 2_u64..16),
        serialize in prop::bool::weighted(0.8),
        guests in prop::collection::vec(guest(), 0..10),
        (asked, asked_memory) in (1_u64..8, 1_u64..8),
    ) {
        let site = filled(vcpus, memory * 100, serialize, &guests);
        let request = request(asked, asked_memory * 100, false);
        let found = offers(&site, &request);
        prop_assert!(found.len() <= 1);
        let fits_now = request.resources.shortage(site.candidates()[0].free).is_none();
        let best = cheapest(&site, &request).filter(|_| !fits_now);
        prop_assert_eq!(found.first().map(cost), best);
        let Some(offer) = found.first() else { return Ok(()) };
        prop_assert!(request.resources.shortage(offer.candidate.free).is_none());
        prop_assert!(offer.leaving.is_empty());
        for victim in &offer.victims {
            let one = &victim.workspace;
            prop_assert!(one.spec.preemptible);
            match victim.exit {
                Exit::Serialize => prop_assert!(matches!(one.state, State::Running | State::Paused) && one.snapshots.is_empty() && serialize),
                Exit::Destroy => prop_assert!(one.lease.action == EndAction::Destroy && one.state != State::Broken),
            }
        }
        let again: Vec<_> = offers(&site, &request).iter().map(|offer| offer.victims.clone()).collect();
        prop_assert_eq!(again, vec![offer.victims.clone()], "the same question has the same answer");
    }

    #[test]
    fn the_preemptible_displace_nobody(guests in prop::collection::vec(guest(), 0..10), asked in 1_u64..8) {
        let site = filled(8, 800, true, &guests);
        prop_assert!(offers(&site, &request(asked, 100, true)).is_empty());
    }
}

/// What happens to a site next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request arrives: vCPUs, hundreds of MiB, whether pre-emptible.
    Ask(u64, u64, bool),
    /// One that leaves has left, by its place.
    Leaves(usize),
    /// One that leaves could not, and stays.
    Stays(usize),
    /// One that waits looks whether its room is there.
    Look(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u64..6, 1_u64..6, prop::bool::weighted(0.4)).prop_map(|(vcpus, memory, class)| Step::Ask(vcpus, memory, class)),
        3 => (0_usize..8).prop_map(Step::Leaves),
        1 => (0_usize..8).prop_map(Step::Stays),
        4 => (0_usize..8).prop_map(Step::Look),
    ]
}

/// One that was admitted and waits for room.
struct Waiting {
    id: WorkspaceId,
    room: Vec<(WorkspaceId, JobId)>,
}

/// A site with what is really on its host.
struct World {
    site: Site,
    next: u128,
    waiting: Vec<Waiting>,
    /// Those whose machine is on the host.
    there: BTreeSet<WorkspaceId>,
}

impl World {
    fn id(&mut self) -> u128 {
        self.next += 1;
        self.next
    }

    fn ask(&mut self, vcpus: u64, memory: u64, preemptible: bool) {
        let asked = request(vcpus, memory * 100, preemptible);
        let fits = asked.resources.shortage(self.site.candidates()[0].free).is_none();
        let mut room = Vec::new();
        if !fits {
            let Some(offer) = offers(&self.site, &asked).into_iter().next() else { return };
            room.extend(offer.leaving);
            for victim in offer.victims {
                let (id, job_id) = (victim.workspace.id, self.id());
                self.site.apply(&Change::PutJob(Arc::new(job(job_id, id, JobKind::Serialize, JobState::Running))));
                let leaving =
                    Workspace { state: State::Serializing, job: Some(JobId(job_id)), ..victim.workspace.as_ref().clone() };
                put(&mut self.site, leaving);
                room.push((id, JobId(job_id)));
            }
        }
        let guest =
            Guest { preemptible, state: State::Running, end: EndAction::Stop, snapshots: 0, vcpus, memory_mib: memory * 100 };
        let id = self.id();
        // Until it is made its own job is at work on it.
        let made = self.id();
        self.site.apply(&Change::PutJob(Arc::new(Job {
            actor: "ann".to_owned(),
            ..job(made, WorkspaceId(id), JobKind::Create, JobState::Running)
        })));
        put(&mut self.site, Workspace { job: Some(JobId(made)), ..workspace(id, &name("a"), &guest) });
        self.waiting.push(Waiting { id: WorkspaceId(id), room });
    }

    /// The place-th of those that leave to make room, and its job.
    fn leaving(&self, place: usize) -> Option<(Workspace, Job)> {
        let leaving: Vec<_> = self.site.workspaces().filter(|one| leaves_for(&self.site, one).is_some()).collect();
        let one = leaving.get(place % leaving.len().max(1))?;
        Some((one.as_ref().clone(), self.site.job(one.job?)?.as_ref().clone()))
    }

    fn end(&mut self, place: usize, left: bool) {
        let Some((workspace, job)) = self.leaving(place) else { return };
        let state = if left { JobState::Done } else { JobState::Failed };
        self.site.apply(&Change::PutJob(Arc::new(Job { state, ..job })));
        let (state, host) = if left { (State::Serialized, None) } else { (State::Running, workspace.host.clone()) };
        if left {
            self.there.remove(&workspace.id);
        }
        put(&mut self.site, Workspace { state, host, job: None, ..workspace });
    }

    fn look(&mut self, place: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let at = place % self.waiting.len();
        let one = &self.waiting[at];
        let waits: Vec<_> = one.room.iter().map(|(id, job)| room_wait(&self.site, &name("a"), *id, *job)).collect();
        let mine = self.site.workspace(one.id).unwrap().as_ref().clone();
        if waits.iter().any(|wait| matches!(wait, RoomWait::Stays(_))) {
            self.site.apply(&Change::ReleaseReservation(mine.id));
            self.site.apply(&Change::PutWorkspace(Arc::new(Workspace { state: State::Gone, ..mine })));
        } else if waits.iter().all(|wait| *wait == RoomWait::Made) {
            self.there.insert(mine.id);
            put(&mut self.site, Workspace { job: None, ..mine });
        } else {
            return;
        }
        self.waiting.remove(at);
    }

    fn on_host(&self) -> Resources {
        let held = self.there.iter().filter_map(|id| self.site.reservation(*id));
        held.fold(Resources::default(), |sum, held| sum.plus(held.resources))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn what_is_on_a_host_never_exceeds_its_capacity(
        guests in prop::collection::vec(guest(), 0..8),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let site = filled(8, 800, true, &guests);
        let there = site.workspaces().map(|one| one.id).collect();
        let mut world = World { site, next: 100, waiting: Vec::new(), there };
        let capacity = world.site.host(&name("a")).unwrap().capacity();
        for step in steps {
            match step {
                Step::Ask(vcpus, memory, preemptible) => world.ask(vcpus, memory, preemptible),
                Step::Leaves(place) => world.end(place, true),
                Step::Stays(place) => world.end(place, false),
                Step::Look(place) => world.look(place),
            }
            prop_assert!(world.on_host().shortage(capacity).is_none(), "{step:?}: {:?} on a host of {capacity:?}", world.on_host());
            prop_assert!(world.site.same_sums(&world.site.recomputed()));
        }
        // When all have left or been taken back, nobody waits any more and the books are in order.
        for _ in 0..200 {
            world.end(0, true);
            world.look(0);
        }
        prop_assert!(world.waiting.is_empty());
        let booked = world.site.usage_of_host(&name("a")).resources;
        prop_assert_eq!(booked, world.on_host());
        prop_assert!(booked.shortage(capacity).is_none());
    }
}

fn running(vcpus: u64) -> Guest {
    Guest { preemptible: true, state: State::Running, end: EndAction::Stop, snapshots: 0, vcpus, memory_mib: 100 }
}

#[test]
fn a_second_request_waits_for_those_that_leave_already_before_it_displaces_more() {
    let mut site = filled(8, 8000, true, &[running(6), running(2)]);
    let first = offers(&site, &request(2, 100, false)).remove(0);
    // One that holds enough is enough, and the smaller one is.
    assert_eq!(first.victims.iter().map(|victim| victim.workspace.spec.name.as_str()).collect::<Vec<_>>(), ["w2"]);
    let large = offers(&site, &request(3, 100, false)).remove(0);
    let leaving = large.victims[0].workspace.as_ref().clone();
    assert_eq!(leaving.spec.name, "w1");
    site.apply(&Change::PutJob(Arc::new(job(50, leaving.id, JobKind::Serialize, JobState::Queued))));
    put(&mut site, Workspace { job: Some(JobId(50)), state: State::Serializing, ..leaving });
    put(&mut site, workspace(9, &name("a"), &running(3)));
    // 6 leave, 3 of them are promised: 3 more fit without another victim.
    let second = offers(&site, &request(3, 100, false)).remove(0);
    assert_eq!((second.victims.len(), second.leaving), (0, vec![(WorkspaceId(1), JobId(50))]));
    assert_eq!(second.candidate.free.vcpus, 3);
    // 4 do not: one more has to go.
    assert_eq!(offers(&site, &request(4, 100, false)).remove(0).victims.len(), 1);
}

#[test]
fn what_became_of_one_that_was_to_leave_is_read_from_the_ledger() {
    let a = name("a");
    let mut site = filled(8, 8000, true, &[running(6)]);
    let one = site.workspace(WorkspaceId(1)).unwrap().as_ref().clone();
    let look = |site: &Site| room_wait(site, &a, one.id, JobId(50));
    site.apply(&Change::PutJob(Arc::new(job(50, one.id, JobKind::Serialize, JobState::Running))));
    put(&mut site, Workspace { job: Some(JobId(50)), ..one.clone() });
    assert_eq!(look(&site), RoomWait::Waits);
    // Cancelled in favour of a destroy: that makes the room as well.
    site.apply(&Change::PutJob(Arc::new(job(50, one.id, JobKind::Serialize, JobState::Cancelled))));
    site.apply(&Change::PutJob(Arc::new(job(51, one.id, JobKind::Destroy, JobState::Queued))));
    put(&mut site, Workspace { job: Some(JobId(51)), ..one.clone() });
    assert_eq!(look(&site), RoomWait::Waits);
    // Failed, and it is there: it stays, whatever else is done with it.
    put(&mut site, Workspace { job: None, ..one.clone() });
    assert!(matches!(look(&site), RoomWait::Stays(_)));
    // Its job is forgotten and it is there still: the same.
    site.apply(&Change::ForgetJob(JobId(50)));
    assert!(matches!(look(&site), RoomWait::Stays(_)));
    // Done: the room was made, even if it is back.
    site.apply(&Change::PutJob(Arc::new(job(50, one.id, JobKind::Serialize, JobState::Done))));
    assert_eq!(look(&site), RoomWait::Made);
    // Gone altogether.
    site.apply(&Change::ForgetJob(JobId(50)));
    site.apply(&Change::ReleaseReservation(one.id));
    assert_eq!(look(&site), RoomWait::Made);
}

#[test]
fn many_small_ones_are_searched_in_bounded_time() {
    let mut site = Site::default();
    site.apply(&Change::PutHost(Arc::new(host("a", Resources { vcpus: 2000, memory_mib: 200_000, disk_gib: 100_000 }, true))));
    for id in 1..=400_u64 {
        let guest = Guest { memory_mib: 100 + id * 37 % 400, ..running(1 + id % 5) };
        let workspace = workspace(u128::from(id), &name("a"), &guest);
        if workspace.resources.shortage(site.candidates()[0].free).is_none() {
            put(&mut site, workspace);
        }
    }
    let free = site.candidates()[0].free;
    let asked = request(free.vcpus + 40, free.memory_mib + 5000, false);
    let offer = offers(&site, &asked).remove(0);
    assert!(asked.resources.shortage(offer.candidate.free).is_none());
    assert!((9..=14).contains(&offer.victims.len()), "{}", offer.victims.len());
    // More than one request may displace is not offered.
    assert!(offers(&site, &request(free.vcpus + 500, 1, false)).is_empty());
}
