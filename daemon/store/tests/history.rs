//! The ledger: after any history, what is rebuilt from the tables is the projection, now and at every number of the past.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::shape;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeSet;
use std::sync::Arc;
use vws_domain::*;
use vws_store::{Batch, DecisionFilter, Limits, Store};

/// A change of one of a few objects, so that histories come back to the same ones.
fn change() -> impl Strategy<Value = Change> {
    let few = 0_u128..4;
    let name = |n: u128| HostName::parse(&format!("host-{n}")).unwrap();
    prop_oneof![
        (common::workspace(), few.clone()).prop_map(|(mut workspace, id)| {
            workspace.id = WorkspaceId(id);
            workspace.spec.name = format!("w{id}");
            Change::PutWorkspace(Arc::new(workspace))
        }),
        (common::reservation(), few.clone(), proptest::option::of(few.clone())).prop_map(move |(mut reservation, id, host)| {
            reservation.workspace = WorkspaceId(id);
            reservation.host = host.map(name);
            Change::PutReservation(Arc::new(reservation))
        }),
        few.clone().prop_map(|id| Change::ReleaseReservation(WorkspaceId(id))),
        (common::host(), few.clone()).prop_map(move |(mut host, id)| {
            host.name = name(id);
            Change::PutHost(Arc::new(host))
        }),
        few.clone().prop_map(move |id| Change::RemoveHost(name(id))),
        (common::network(), "[ab]").prop_map(|(mut network, name)| {
            network.name = NetworkName::parse(&name).unwrap();
            Change::PutNetwork(Arc::new(network))
        }),
        "[ab]".prop_map(|name| Change::RemoveNetwork(NetworkName::parse(&name).unwrap())),
        (common::address(), "[ab]").prop_map(|(mut address, name)| {
            address.network = NetworkName::parse(&name).unwrap();
            Change::PutAddress(Arc::new(address))
        }),
        (common::image(), few.clone()).prop_map(|(mut image, id)| {
            image.id = ImageId(id);
            image.name = format!("i{id}");
            Change::PutImage(Arc::new(image))
        }),
        few.clone().prop_map(|id| Change::RemoveImage(ImageId(id))),
        (common::bundle(), few.clone()).prop_map(|(mut bundle, id)| {
            bundle.id = BundleId(id);
            Change::PutBundle(Arc::new(bundle))
        }),
        few.clone().prop_map(|id| Change::RemoveBundle(BundleId(id))),
        (common::job(), few.clone()).prop_map(|(mut job, id)| {
            job.id = JobId(id);
            Change::PutJob(Arc::new(job))
        }),
        few.prop_map(|id| Change::ForgetJob(JobId(id))),
        common::decision().prop_map(|decision| Change::PutDecision(Arc::new(decision))),
        (common::answered(), 0_u32..2, "[xy]").prop_map(|(mut request, uid, request_id)| {
            (request.uid, request.request_id) = (uid, request_id);
            // Of one age: old ones are forgotten at a start.
            request.at = Timestamp(1_000_000);
            Change::PutRequest(Arc::new(request))
        }),
        common::event().prop_map(|event| Change::Event(Arc::new(event))),
    ]
}

/// Numbers events, and puts a workspace before the first reservation that refers to it.
fn consistent(history: Vec<Vec<Change>>) -> Vec<Batch> {
    let mut known = BTreeSet::new();
    let mut event = 0;
    let mut batches = Vec::new();
    for changes in history {
        let mut made = Vec::new();
        for change in changes {
            match change {
                Change::PutReservation(reservation) => {
                    if known.insert(reservation.workspace) {
                        let id = reservation.workspace.0;
                        made.push(Change::PutWorkspace(Arc::new(common::plain_workspace(id, &format!("w{id}")))));
                    }
                    made.push(Change::PutReservation(reservation));
                }
                Change::PutWorkspace(workspace) => {
                    known.insert(workspace.id);
                    made.push(Change::PutWorkspace(workspace));
                }
                Change::Event(old) => {
                    event += 1;
                    made.push(Change::Event(Arc::new(Event { sequence: event, ..old.as_ref().clone() })));
                }
                other => made.push(other),
            }
        }
        let sequence = u64::try_from(batches.len()).unwrap() + 1;
        batches.push(Batch { sequence, at: Timestamp(1_000_000 + sequence), changes: made });
    }
    batches
}

/// Of a projection, what the ledger keeps of the past.
fn ledger_of(site: &Site) -> Site {
    let mut ledger = Site::default();
    ledger.sequence = site.sequence;
    site.hosts().for_each(|host| ledger.apply(&Change::PutHost(Arc::clone(host))));
    site.networks().for_each(|network| ledger.apply(&Change::PutNetwork(Arc::clone(network))));
    site.addresses().all().for_each(|address| ledger.apply(&Change::PutAddress(Arc::clone(address))));
    site.reservations().for_each(|reservation| ledger.apply(&Change::PutReservation(Arc::clone(reservation))));
    ledger
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_rebuilt_is_the_projection(history in vec(vec(change(), 0..6), 1..12)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vws.db");
        let (store, mut site) = Store::open(&path).unwrap();
        let mut past = vec![ledger_of(&site)];
        for batch in consistent(history) {
            batch.changes.iter().for_each(|change| site.apply(change));
            site.sequence = batch.sequence;
            store.commit_wait(batch).unwrap();
            past.push(ledger_of(&site));
        }
        let reader = store.reader().unwrap();
        prop_assert_eq!(shape(&reader.rebuild().unwrap()), shape(&site));
        prop_assert!(site.same_sums(&site.recomputed()));
        for then in &past {
            prop_assert_eq!(shape(&reader.rebuild_at(then.sequence).unwrap()), shape(then));
        }
        // Step by step the same comes out as by building each anew, in windows of any size.
        let mut walked = Site::default();
        for then in &past {
            for step in reader.steps(walked.sequence, then.sequence).unwrap() {
                walked.apply(&step.change);
            }
            walked.sequence = then.sequence;
            prop_assert_eq!(shape(&walked), shape(then));
        }
        let mut walked = Site::default();
        for step in reader.steps(0, site.sequence).unwrap() {
            walked.apply(&step.change);
        }
        walked.sequence = site.sequence;
        prop_assert_eq!(shape(&walked), shape(past.last().unwrap_or(&Site::default())));
        drop(reader);
        store.close();
        let (_store, reopened) = Store::open(&path).unwrap();
        prop_assert_eq!(shape(&reopened), shape(&site));
    }
}

#[test]
fn a_number_beyond_the_ledger_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("vws.db")).unwrap();
    let error = store.reader().unwrap().rebuild_at(1).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::NotFound, "ledger-range"));
}

/// A decision that saw the ledger at `ledger`.
fn decision(id: u128, ledger: u64, uid: u32, generation: u64, policy: &str) -> Change {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut decision = common::decision().new_tree(&mut runner).unwrap().current();
    decision.id = DecisionId(id);
    decision.at = Timestamp(u64::try_from(id).unwrap());
    decision.ledger = ledger;
    decision.caller.uid = uid;
    decision.request.verb = Verb::Launch;
    decision.request.name = "web".to_owned();
    decision.workspace = Some(WorkspaceId(id % 2));
    decision.permitted = id.is_multiple_of(3);
    decision.policy = PolicyHash(policy.to_owned());
    decision.generation = generation;
    Change::PutDecision(Arc::new(decision))
}

#[test]
fn decisions_are_found_by_what_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("vws.db")).unwrap();
    for id in 1..=12_u64 {
        let uid = u32::try_from(id % 4).unwrap();
        let policy = if id < 7 { "old" } else { "new" };
        let changes = vec![decision(id.into(), id - 1, uid, id, policy)];
        store.commit_wait(Batch { sequence: id, at: Timestamp(id), changes }).unwrap();
    }
    let reader = store.reader().unwrap();
    let ids = |filter: DecisionFilter, limit| -> Vec<u128> {
        reader.decisions(&filter, limit).unwrap().iter().map(|decision| decision.id.0).collect()
    };
    let all = DecisionFilter::default;
    assert_eq!(ids(all(), 3), [12, 11, 10]);
    assert_eq!(ids(DecisionFilter { before: Some(DecisionId(10)), ..all() }, 3), [9, 8, 7]);
    assert_eq!(ids(DecisionFilter { uid: Some(1), ..all() }, 99), [9, 5, 1]);
    assert_eq!(ids(DecisionFilter { uid: Some(1), policy: Some(PolicyHash("new".to_owned())), ..all() }, 99), [9]);
    assert_eq!(ids(DecisionFilter { permitted: Some(true), ..all() }, 99), [12, 9, 6, 3]);
    assert_eq!(ids(DecisionFilter { name: Some("web".to_owned()), ..all() }, 1), [12]);
    assert!(ids(DecisionFilter { name: Some("we".to_owned()), ..all() }, 9).is_empty());
    let between = DecisionFilter { since: Some(Timestamp(3)), until: Some(Timestamp(4)), ..all() };
    assert_eq!(ids(between, 99), [4, 3]);
    assert_eq!(ids(DecisionFilter { since: Some(Timestamp(11)), ..all() }, 99), [12, 11]);
    assert_eq!(ids(DecisionFilter { workspace: Some(WorkspaceId(1)), ..all() }, 2), [11, 9]);
    assert_eq!(ids(DecisionFilter { verb: Some(Verb::Launch), ..all() }, 1), [12]);
    assert!(ids(DecisionFilter { verb: Some(Verb::Stop), ..all() }, 99).is_empty());
    assert_eq!(reader.last_generation().unwrap(), 12);
    let unknown = DecisionFilter { before: Some(DecisionId(99)), ..all() };
    assert_eq!(reader.decisions(&unknown, 1).unwrap_err().kind, ErrorKind::NotFound);
}

#[test]
fn old_records_go_and_the_projection_stays() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        group_batches: 1,
        prune_every: 1,
        events: 5,
        ended_jobs: 3,
        decisions: 4,
        gone_workspaces: 2,
        consumed_bundles: 1,
        policy_sets: 1,
        ledger_versions: 1000,
        request_seconds: 60,
        ..Limits::default()
    };
    let path = folder.path().join("vws.db");
    let (store, mut site) = Store::open_with(&path, limits).unwrap();
    let host = sample(common::host());
    let last = 40_u64;
    for n in 1..=last {
        let id = u128::from(n);
        let hash = PolicyHash(format!("set-{n}"));
        store.put_policy_set(&hash, &std::collections::BTreeMap::new()).unwrap();
        let mut workspace = common::plain_workspace(id, &format!("w{n}"));
        workspace.state = State::Gone;
        workspace.changed_at = Timestamp(n);
        let mut job = sample(common::job());
        (job.id, job.ended_at) = (JobId(id), Some(Timestamp(n)));
        let mut bundle = sample(common::bundle());
        (bundle.id, bundle.consumed_at) = (BundleId(id), Some(Timestamp(n)));
        bundle.manifest = "{}".to_owned();
        let mut host = host.clone();
        host.version = n;
        let changes = vec![
            Change::PutWorkspace(Arc::new(workspace)),
            Change::PutJob(Arc::new(job)),
            Change::ForgetJob(JobId(id)),
            Change::PutBundle(Arc::new(bundle)),
            Change::PutHost(Arc::new(host)),
            decision(id, n - 1, 0, n, &hash.0),
            common::plain_event(n),
        ];
        changes.iter().for_each(|change| site.apply(change));
        site.sequence = n;
        store.commit_wait(Batch { sequence: n, at: Timestamp(n), changes }).unwrap();
    }
    // Closing waits for the last pruning.
    store.close();
    let (store, reopened) = Store::open_with(&path, limits).unwrap();
    assert_eq!(shape(&reopened), shape(&site));
    let reader = store.reader().unwrap();
    let kept = |wanted: fn(&vws_store::Reader, u64) -> bool| (1..=last).filter(|n| wanted(&reader, *n)).collect::<Vec<_>>();
    assert_eq!(
        kept(|reader, n| reader.events_since(n - 1, 1).unwrap().first().is_some_and(|event| event.sequence == n)),
        [36, 37, 38, 39, 40]
    );
    assert_eq!(reader.oldest_event().unwrap(), Some(36));
    assert_eq!(kept(|reader, n| reader.job(JobId(n.into())).unwrap().is_some()), [38, 39, 40]);
    assert_eq!(kept(|reader, n| reader.decision(DecisionId(n.into())).unwrap().is_some()), [37, 38, 39, 40]);
    assert_eq!(kept(|reader, n| reader.workspace(WorkspaceId(n.into())).unwrap().is_some()), [39, 40]);
    assert_eq!(kept(|reader, n| reader.bundle(BundleId(n.into())).unwrap().is_some_and(|it| !it.manifest.is_empty())), [40]);
    // A bundle's id is never forgotten: it does not live twice.
    assert_eq!(kept(|reader, n| reader.bundle(BundleId(n.into())).unwrap().is_some()).len(), 40);
    // Those that a kept decision names, though only one is kept for its own sake.
    assert_eq!(kept(|reader, n| reader.policy_set(&PolicyHash(format!("set-{n}"))).unwrap().is_some()), [37, 38, 39, 40]);
    // The ledger reaches back as far as the oldest decision, which saw 36.
    assert_eq!(kept(|reader, n| reader.rebuild_at(n).is_ok()), [36, 37, 38, 39, 40]);
    assert_eq!(reader.rebuild_at(36).unwrap().host(&host.name).unwrap().version, 36);
    assert_eq!(reader.last_generation().unwrap(), last);
}

#[test]
fn ledger_versions_are_bounded_even_for_an_old_decision() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { prune_every: 1, ledger_versions: 3, ..Limits::default() };
    let (store, _) = Store::open_with(&folder.path().join("vws.db"), limits).unwrap();
    let mut host = sample(common::host());
    for n in 1..=20_u64 {
        host.version = n;
        let mut changes = vec![Change::PutHost(Arc::new(host.clone()))];
        if n == 1 {
            changes.push(decision(1, 0, 0, 1, "set"));
        }
        store.commit_wait(Batch { sequence: n, at: Timestamp(n), changes }).unwrap();
    }
    // The pruning behind the last batch is over when the next answer comes.
    store.put_policy_set(&PolicyHash("x".to_owned()), &std::collections::BTreeMap::new()).unwrap();
    let reader = store.reader().unwrap();
    assert!(reader.rebuild_at(16).is_err());
    assert_eq!(reader.rebuild_at(17).unwrap().host(&host.name).unwrap().version, 17);
}

/// A reservation of workspace 1 by user 7, that runs or not.
fn held(running: bool) -> Change {
    let mut reservation = sample(common::reservation());
    (reservation.workspace, reservation.owner, reservation.running) = (WorkspaceId(1), 7, running);
    reservation.group = "lab".to_owned();
    Change::PutReservation(Arc::new(reservation))
}

#[test]
fn running_versions_outlive_the_history_for_accounts_and_only_as_long_as_told() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { prune_every: 1, decisions: 1, account_seconds: 100, ..Limits::default() };
    let path = folder.path().join("vws.db");
    let (store, _) = Store::open_with(&path, limits).unwrap();
    let second = |n: u64| Timestamp(n * 1_000_000);
    let commit = |sequence, at, changes| store.commit_wait(Batch { sequence, at: second(at), changes }).unwrap();
    let workspace = Change::PutWorkspace(Arc::new(common::plain_workspace(1, "w")));
    commit(1, 10, vec![workspace, held(true)]);
    commit(2, 30, vec![held(false)]);
    commit(3, 40, vec![held(true)]);
    // The same but for its labels: one interval.
    commit(4, 45, vec![held(true)]);
    commit(5, 50, vec![Change::ReleaseReservation(WorkspaceId(1))]);
    commit(6, 60, vec![decision(1, 5, 0, 1, "set")]);
    commit(7, 120, Vec::new());
    store.put_policy_set(&PolicyHash("x".to_owned()), &std::collections::BTreeMap::new()).unwrap();
    let reader = store.reader().unwrap();
    assert!(reader.rebuild_at(4).is_err(), "the history went");
    let told = |since, owner, group| {
        let (ran, from) = reader.ran(second(since), owner, group).unwrap();
        (ran.iter().map(|one| (one.from, one.until)).collect::<Vec<_>>(), from)
    };
    let whole = vec![(second(10), Some(second(30))), (second(40), Some(second(50)))];
    assert_eq!(told(0, None, None), (whole.clone(), Timestamp(0)));
    assert_eq!(told(0, Some(7), Some("lab")).0, whole);
    assert_eq!(told(30, None, None).0, whole[1..]);
    assert!(told(0, Some(8), None).0.is_empty() && told(0, None, Some("other")).0.is_empty());
    // 131 s: what ended at 30 s is older than the limit, what ended at 50 s is not.
    commit(8, 131, Vec::new());
    store.put_policy_set(&PolicyHash("y".to_owned()), &std::collections::BTreeMap::new()).unwrap();
    assert_eq!(told(0, None, None), (whole[1..].to_vec(), second(31)));
}

#[test]
fn versions_for_accounts_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { prune_every: 1, account_versions: 2, ..Limits::default() };
    let (store, _) = Store::open_with(&folder.path().join("vws.db"), limits).unwrap();
    let workspace = Change::PutWorkspace(Arc::new(common::plain_workspace(1, "w")));
    store.commit_wait(Batch { sequence: 1, at: Timestamp(1), changes: vec![workspace] }).unwrap();
    for n in 2..12_u64 {
        store.commit_wait(Batch { sequence: n, at: Timestamp(n), changes: vec![held(n % 2 == 0)] }).unwrap();
    }
    store.put_policy_set(&PolicyHash("x".to_owned()), &std::collections::BTreeMap::new()).unwrap();
    let (ran, from) = store.reader().unwrap().ran(Timestamp(0), None, None).unwrap();
    assert_eq!(ran.iter().map(|one| one.from.0).collect::<Vec<_>>(), [8, 10]);
    assert_eq!(from, Timestamp(7));
}

#[test]
fn event_numbers_go_on_when_every_event_is_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vws.db");
    let limits = Limits { prune_every: 1, events: 0, ..Limits::default() };
    let (store, _) = Store::open_with(&path, limits).unwrap();
    store.commit_wait(Batch { sequence: 1, at: Timestamp(1), changes: vec![common::plain_event(41)] }).unwrap();
    store.close();
    let (store, site) = Store::open_with(&path, limits).unwrap();
    assert_eq!(store.reader().unwrap().oldest_event().unwrap(), None);
    assert_eq!(site.event_sequence, 41);
}

#[test]
fn request_ids_are_forgotten_at_a_start_when_they_are_old() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vws.db");
    let limits = Limits { request_seconds: 60, ..Limits::default() };
    let (store, _) = Store::open_with(&path, limits).unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut request = common::answered().new_tree(&mut runner).unwrap().current();
    request.uid = 1;
    for (sequence, id, at) in [(1, "old", 0), (2, "new", 50_000_000)] {
        (request.request_id, request.at) = (id.to_owned(), Timestamp(at));
        let changes = vec![Change::PutRequest(Arc::new(request.clone()))];
        store.commit_wait(Batch { sequence, at: Timestamp(at), changes }).unwrap();
    }
    store.commit_wait(Batch { sequence: 3, at: Timestamp(61_000_000), changes: Vec::new() }).unwrap();
    store.close();
    let (_store, site) = Store::open_with(&path, limits).unwrap();
    assert!(site.answered(1, "old").is_none());
    assert!(site.answered(1, "new").is_some());
}

fn sample<S: Strategy>(strategy: S) -> S::Value {
    strategy.new_tree(&mut proptest::test_runner::TestRunner::deterministic()).unwrap().current()
}
