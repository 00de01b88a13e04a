//! Every domain type comes back as it went in, with any text and any number in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use vws_domain::*;
use vws_store::{Batch, Store};

/// A store to which a test hands one batch after the other.
struct Bench {
    store: Store,
    next: u64,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, site) = Store::open(&folder.path().join("vws.db")).unwrap();
        Self { store, next: site.sequence + 1, _folder: folder }
    }

    fn put(&mut self, changes: Vec<Change>) {
        self.store.commit_wait(Batch { sequence: self.next, at: Timestamp(self.next), changes }).unwrap();
        self.next += 1;
    }
}

/// One store serves all cases of a property: each case brings its own ids.
fn for_all<S: Strategy>(strategy: S, cases: u32, mut check: impl FnMut(&mut Bench, S::Value)) {
    let bench = std::cell::RefCell::new((Bench::new(), &mut check));
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    runner
        .run(&strategy, |value| {
            let mut guard = bench.borrow_mut();
            let (bench, check) = &mut *guard;
            check(bench, value);
            Ok(())
        })
        .unwrap();
}

#[test]
fn workspaces() {
    for_all(common::workspace(), 64, |bench, mut workspace| {
        // Two live ones of a name and an owner may not be.
        workspace.spec.name.push_str(&workspace.id.to_string());
        bench.put(vec![Change::PutWorkspace(Arc::new(workspace.clone()))]);
        let read = bench.store.reader().unwrap().workspace(workspace.id).unwrap().unwrap();
        if workspace.state == State::Gone {
            workspace.spec.user_data.clear();
        }
        assert_eq!(read, workspace);
    });
}

#[test]
fn reservations_and_hosts() {
    for_all((common::reservation(), common::host()), 64, |bench, (mut reservation, host)| {
        reservation.host = Some(host.name.clone());
        let mut workspace = common::plain_workspace(reservation.workspace.0, "w");
        workspace.spec.name = workspace.id.to_string();
        bench.put(vec![
            Change::PutReservation(Arc::new(reservation.clone())),
            Change::PutHost(Arc::new(host.clone())),
            Change::PutWorkspace(Arc::new(workspace)),
        ]);
        let site = bench.store.reader().unwrap().rebuild().unwrap();
        assert_eq!(site.reservation(reservation.workspace).unwrap().as_ref(), &reservation);
        assert_eq!(site.host(&host.name).unwrap().as_ref(), &host);
        bench.put(vec![Change::ReleaseReservation(reservation.workspace), Change::RemoveHost(host.name)]);
    });
}

#[test]
fn networks_and_addresses() {
    for_all((common::network(), common::address()), 64, |bench, (network, mut address)| {
        address.network = network.name.clone();
        bench.put(vec![Change::PutNetwork(Arc::new(network.clone())), Change::PutAddress(Arc::new(address.clone()))]);
        let site = bench.store.reader().unwrap().rebuild().unwrap();
        assert_eq!(site.network(&network.name).unwrap().as_ref(), &network);
        assert_eq!(site.addresses().get(&network.name, address.address).unwrap().as_ref(), &address);
        bench.put(vec![Change::RemoveNetwork(network.name)]);
        assert_eq!(bench.store.reader().unwrap().rebuild().unwrap().addresses().all().count(), 0);
    });
}

#[test]
fn images() {
    for_all(common::image(), 64, |bench, mut image| {
        image.name.push_str(&image.id.to_string());
        bench.put(vec![Change::PutImage(Arc::new(image.clone()))]);
        let site = bench.store.reader().unwrap().rebuild().unwrap();
        assert_eq!(site.image(image.id).unwrap().as_ref(), &image);
        bench.put(vec![Change::RemoveImage(image.id)]);
    });
}

#[test]
fn bundles() {
    for_all(common::bundle(), 64, |bench, bundle| {
        bench.put(vec![Change::PutBundle(Arc::new(bundle.clone()))]);
        assert_eq!(bench.store.reader().unwrap().bundle(bundle.id).unwrap().unwrap(), bundle);
    });
}

#[test]
fn jobs() {
    for_all(common::job(), 64, |bench, job| {
        bench.put(vec![Change::PutJob(Arc::new(job.clone()))]);
        assert_eq!(bench.store.reader().unwrap().job(job.id).unwrap().unwrap(), job);
    });
}

#[test]
fn decisions() {
    for_all(common::decision(), 64, |bench, decision| {
        bench.put(vec![Change::PutDecision(Arc::new(decision.clone()))]);
        assert_eq!(bench.store.reader().unwrap().decision(decision.id).unwrap().unwrap(), decision);
    });
}

#[test]
fn a_score_that_is_not_a_number_survives() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut decision = common::decision().new_tree(&mut runner).unwrap().current();
    decision.hosts = vec![HostJudgement { host: HostName::parse("h").unwrap(), outcome: HostOutcome::Scored(f64::NAN) }];
    let mut bench = Bench::new();
    bench.put(vec![Change::PutDecision(Arc::new(decision.clone()))]);
    let read = bench.store.reader().unwrap().decision(decision.id).unwrap().unwrap();
    assert!(matches!(read.hosts[0].outcome, HostOutcome::Scored(score) if score.is_nan()));
}

#[test]
fn events() {
    let mut seen = std::collections::BTreeSet::new();
    for_all(common::event(), 64, |bench, event| {
        if !seen.insert(event.sequence) {
            return;
        }
        bench.put(vec![Change::Event(Arc::new(event.clone()))]);
        if event.sequence > 0 {
            let read = bench.store.reader().unwrap().events_since(event.sequence - 1, 1).unwrap();
            assert_eq!(read, vec![event]);
        }
    });
}

#[test]
fn answered_requests() {
    for_all(common::answered(), 64, |bench, request| {
        bench.put(vec![Change::PutRequest(Arc::new(request.clone()))]);
        let site = bench.store.reader().unwrap().rebuild().unwrap();
        assert_eq!(site.answered(request.uid, &request.request_id).unwrap().as_ref(), &request);
    });
}

#[test]
fn policy_sets_are_kept_once() {
    let bench = Bench::new();
    let hash = PolicyHash("ab".repeat(32));
    let files = BTreeMap::from([("access.lua".to_owned(), "return \"a\"\n-- ü\n".to_owned())]);
    bench.store.put_policy_set(&hash, &files).unwrap();
    bench.store.put_policy_set(&hash, &BTreeMap::new()).unwrap();
    let reader = bench.store.reader().unwrap();
    assert_eq!(reader.policy_set(&hash).unwrap().unwrap(), files);
    assert!(reader.policy_set(&PolicyHash("cd".repeat(32))).unwrap().is_none());
}

#[test]
fn user_data_is_in_one_column_and_goes_with_the_workspace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vws.db");
    let secret = "#cloud-config password: hunter2-hunter2-hunter2";
    let mut workspace = common::plain_workspace(7, "web");
    workspace.spec.user_data = secret.to_owned();
    let batch = |sequence, workspace: &Workspace| Batch {
        sequence,
        at: Timestamp(sequence),
        changes: vec![Change::PutWorkspace(Arc::new(workspace.clone()))],
    };
    let (store, _) = Store::open(&path).unwrap();
    store.commit_wait(batch(1, &workspace)).unwrap();
    assert_eq!(store.reader().unwrap().workspace(workspace.id).unwrap().unwrap().spec.user_data, secret);
    store.close();
    assert_eq!(count(&path, secret), 1, "the user data stands in the database once");

    let (store, site) = Store::open(&path).unwrap();
    assert_eq!(site.workspace(workspace.id).unwrap().spec.user_data, secret, "a redeployment has it");
    workspace.state = State::Gone;
    store.commit_wait(batch(2, &workspace)).unwrap();
    assert_eq!(store.reader().unwrap().workspace(workspace.id).unwrap().unwrap().spec.user_data, "");
    store.close();
    assert_eq!(count(&path, secret), 0, "nothing of it lingers in freed pages");
}

/// How often `needle` stands in a file.
fn count(path: &Path, needle: &str) -> usize {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(needle.len()).filter(|window| *window == needle.as_bytes()).count()
}

#[test]
fn what_cannot_be_stored_is_refused_by_name() {
    let bench = Bench::new();
    let mut workspace = common::plain_workspace(1, "web");
    workspace.version = u64::MAX;
    let changes = vec![Change::PutWorkspace(Arc::new(workspace))];
    let error = bench.store.commit_wait(Batch { sequence: 1, at: Timestamp(1), changes }).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.fact.contains(&u64::MAX.to_string()), "{error}");
}
