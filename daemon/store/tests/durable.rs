//! What was acknowledged is there after a crash; what must not be opened is refused untouched; a failure harms no neighbour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{plain_event, shape};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use vws_domain::*;
use vws_store::{Batch, Reader, Store};

/// A batch that writes one event of its own number.
fn batch(sequence: u64) -> Batch {
    Batch { sequence, at: Timestamp(sequence), changes: vec![plain_event(sequence)] }
}

/// Every file of a folder but locks, with its bytes.
fn bytes_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().to_string_lossy().ends_with(".lock"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn outcomes_come_in_order_and_all_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("vws.db")).unwrap();
    let (told, heard) = mpsc::channel();
    for sequence in 1..=1000 {
        let told = told.clone();
        store.commit(batch(sequence), move |outcome| told.send(outcome.unwrap()).unwrap());
    }
    drop(told);
    assert_eq!(heard.iter().collect::<Vec<_>>(), (1..=1000).collect::<Vec<_>>());
    assert_eq!(store.reader().unwrap().events_since(0, 2000).unwrap().len(), 1000);
}

#[test]
fn a_batch_that_is_refused_leaves_those_before_it_and_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("vws.db")).unwrap();
    let named = |sequence, id, name: &str| {
        let workspace = Arc::new(common::plain_workspace(id, name));
        Batch { sequence, at: Timestamp(sequence), changes: vec![plain_event(sequence), Change::PutWorkspace(workspace)] }
    };
    let (told, heard) = mpsc::channel();
    for batch in [named(1, 1, "web"), named(2, 2, "db"), named(3, 3, "web"), named(4, 4, "mail")] {
        let told = told.clone();
        store.commit(batch, move |outcome| told.send(outcome.map_err(|error| (error.kind, error.code))).unwrap());
    }
    drop(told);
    assert_eq!(
        heard.iter().collect::<Vec<_>>(),
        [
            Ok(1),
            Ok(2),
            Err((ErrorKind::Conflict, "constraint".to_owned())),
            // Decided on a state that never came to be.
            Err((ErrorKind::Conflict, "sequence".to_owned())),
        ]
    );
    let site = store.reader().unwrap().rebuild().unwrap();
    assert_eq!((site.sequence, site.event_sequence, site.workspace_count()), (2, 2, 2));
    assert_eq!(store.commit_wait(named(3, 4, "mail")).unwrap(), 3);
}

#[test]
fn a_reservation_without_a_workspace_is_refused() {
    use proptest::strategy::{Strategy, ValueTree};
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("vws.db")).unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let reservation = common::reservation().new_tree(&mut runner).unwrap().current();
    let changes = vec![Change::PutReservation(Arc::new(reservation))];
    let error = store.commit_wait(Batch { sequence: 1, at: Timestamp(1), changes }).unwrap_err();
    assert_eq!(error.code, "constraint");
}

#[test]
fn numbers_must_follow() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("vws.db")).unwrap();
    for wrong in [0, 2, u64::MAX] {
        assert_eq!(store.commit_wait(batch(wrong)).unwrap_err().code, "sequence", "{wrong}");
    }
    store.commit_wait(batch(1)).unwrap();
    assert_eq!(store.commit_wait(batch(1)).unwrap_err().code, "sequence");
}

#[test]
fn a_second_opener_is_refused_and_told_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vws.db");
    let (store, _) = Store::open(&path).unwrap();
    let impatient = vws_store::Limits { lock_wait_ms: 10, ..vws_store::Limits::default() };
    let error = Store::open_with(&path, impatient).unwrap_err();
    assert_eq!(error.code, "state-in-use");
    assert!(error.fact.contains(&std::process::id().to_string()), "{error}");
    store.close();
    Store::open(&path).unwrap();
}

#[test]
fn an_opener_waits_for_one_that_is_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vws.db");
    let (dying, _) = Store::open(&path).unwrap();
    let opening = {
        let path = path.clone();
        std::thread::spawn(move || {
            Store::open_with(&path, vws_store::Limits { lock_wait_ms: 60_000, ..vws_store::Limits::default() })
        })
    };
    // The opener is at it when it has the lock file open; this process has it open already.
    let lock = folder.path().join("vws.db.lock");
    let openers = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        open.filter(|target| *target == lock).count()
    };
    while openers() < 2 {
        assert!(!opening.is_finished(), "{:?}", opening.join());
        std::thread::yield_now();
    }
    dying.close();
    opening.join().unwrap().unwrap();
}

#[test]
fn a_newer_database_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vws.db");
    let (store, _) = Store::open(&path).unwrap();
    store.commit_wait(batch(1)).unwrap();
    store.close();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 4711).unwrap();
    connection.close().unwrap();

    let before = bytes_in(folder.path());
    let error = Store::open(&path).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Unsupported, "newer-database"));
    assert!(error.fact.contains("4711") && error.fact.contains("version 1"), "{error}");
    assert_eq!(bytes_in(folder.path()), before);
}

#[test]
fn a_newer_version_that_stands_only_in_the_log_is_seen_and_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vws.db");
    Store::open(&path).unwrap().0.close();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 4711).unwrap();
    // As a crash leaves it: the main file still has the old number.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["vws.db", "vws.db-wal"] {
        std::fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    let before = bytes_in(crashed.path());
    let error = Store::open(&crashed.path().join("vws.db")).unwrap_err();
    assert_eq!(error.code, "newer-database");
    let mut after = bytes_in(crashed.path());
    // An index of the log, made anew by whoever opens it.
    after.remove("vws.db-shm");
    assert_eq!(after, before);
}

#[test]
fn what_is_not_ours_is_refused_untouched() {
    let write = |path: &Path, kind: &str| match kind {
        "text" => {
            std::fs::write(path, "these are my notes, and they are longer than the header of a database is, by a good deal of it")
                .unwrap()
        }
        "short" => std::fs::write(path, "SQLite format 3\0").unwrap(),
        "foreign" => {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.execute_batch("CREATE TABLE theirs (a); PRAGMA application_id = 42; PRAGMA user_version = 1").unwrap();
        }
        _ => {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.execute_batch("CREATE TABLE theirs (a)").unwrap();
        }
    };
    for kind in ["text", "short", "foreign", "unmarked"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vws.db");
        write(&path, kind);
        let before = bytes_in(folder.path());
        let error = Store::open(&path).unwrap_err();
        assert_eq!(error.code, "not-ours", "{kind}: {error}");
        assert_eq!(bytes_in(folder.path()), before, "{kind}");
    }
}

#[test]
fn a_state_folder_that_is_not_there_is_named() {
    let error = Store::open(Path::new("/nonexistent/vws.db")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidState);
    assert!(error.to_string().contains("/nonexistent/vws.db"), "{error}");
}

#[test]
fn nobody_else_may_read_the_database() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vws.db");
    let (store, _) = Store::open(&path).unwrap();
    store.commit_wait(batch(1)).unwrap();
    for name in ["vws.db", "vws.db-wal"] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

#[test]
fn damage_is_found_after_an_unclean_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vws.db");
    let (store, _) = Store::open(&path).unwrap();
    (1..=200).for_each(|sequence| assert_eq!(store.commit_wait(batch(sequence)).unwrap(), sequence));
    store.close();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE meta SET value = 0 WHERE key = 'clean'", []).unwrap();
    let page_bytes: u64 =
        connection.pragma_query_value(None, "page_size", |row| row.get(0)).map(|n: i64| n.try_into().unwrap()).unwrap();
    let root: i64 =
        connection.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'events'", [], |row| row.get(0)).unwrap();
    connection.close().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let at = (u64::try_from(root).unwrap() - 1) * page_bytes;
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], at).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Damaged, "{error}");
}

#[test]
fn a_backup_is_one_instant_of_a_busy_database() {
    let folder = tempfile::tempdir().unwrap();
    let (store, site) = Store::open(&folder.path().join("vws.db")).unwrap();
    let store = Arc::new(store);
    let padding = "x".repeat(10_000);
    let made = |sequence: u64| {
        let mut workspace = common::plain_workspace(u128::from(sequence % 300), &format!("w{}", sequence % 300));
        (workspace.version, workspace.plugin_state) = (sequence, padding.clone());
        vec![Change::PutWorkspace(Arc::new(workspace)), plain_event(sequence)]
    };
    for sequence in 1..=300 {
        store.commit_wait(Batch { sequence, at: Timestamp(sequence), changes: made(sequence) }).unwrap();
    }
    let stop = AtomicBool::new(false);
    let to = folder.path().join("copy.db");
    let mut steps = Vec::new();
    std::thread::scope(|scope| {
        let (started, begun) = mpsc::channel();
        let (stop, store, made) = (&stop, &store, &made);
        scope.spawn(move || {
            let mut sequence = 300;
            while !stop.load(Ordering::Relaxed) {
                sequence += 1;
                store.commit_wait(Batch { sequence, at: Timestamp(sequence), changes: made(sequence) }).unwrap();
                let _ = started.send(());
            }
        });
        begun.recv().unwrap();
        store
            .backup(&to, |done, total| {
                // One commit of the other thread between any two steps.
                while begun.try_recv().is_ok() {}
                begun.recv().unwrap();
                steps.push((done, total));
            })
            .unwrap();
        stop.store(true, Ordering::Relaxed);
    });
    assert!(steps.len() > 1 && steps.is_sorted(), "{steps:?}");
    assert_eq!(steps.last().map(|(done, total)| done == total), Some(true));

    let copy = Reader::open(&to).unwrap().rebuild().unwrap();
    let mut expected = site;
    for sequence in 1..=copy.sequence {
        made(sequence).iter().for_each(|change| expected.apply(change));
    }
    expected.sequence = copy.sequence;
    assert_eq!(shape(&copy), shape(&expected));
    let (opened, site) = Store::open(&to).unwrap();
    assert_eq!(shape(&site), shape(&expected));
    assert_eq!(opened.commit_wait(batch(site.sequence + 1)).unwrap(), site.sequence + 1);

    assert_eq!(store.backup(&to, |_, _| ()).unwrap_err().kind, ErrorKind::AlreadyExists);
    let nowhere = folder.path().join("no/such/folder.db");
    assert_eq!(store.backup(&nowhere, |_, _| ()).unwrap_err().kind, ErrorKind::InvalidArgument);
    let left: Vec<String> = bytes_in(folder.path()).into_keys().filter(|name| name.contains(".part")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_full_device_takes_the_group_back_and_the_store_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::tmpfs(folder.path(), "4m") else {
        eprintln!("SKIPPED a_full_device_...: mounting a tmpfs needs root");
        return;
    };
    let path = folder.path().join("vws.db");
    let (store, mut site) = Store::open(&path).unwrap();
    let filler = folder.path().join("filler");
    std::fs::write(&filler, vec![1; 2 << 20]).unwrap();
    let mut last = 0;
    let error = loop {
        let mut workspace = common::plain_workspace(u128::from(last), &format!("w{last}"));
        workspace.plugin_state = "x".repeat(50_000);
        let changes = vec![Change::PutWorkspace(Arc::new(workspace))];
        match store.commit_wait(Batch { sequence: last + 1, at: Timestamp(1), changes: changes.clone() }) {
            Ok(sequence) => {
                changes.iter().for_each(|change| site.apply(change));
                site.sequence = sequence;
                last = sequence;
            }
            Err(error) => break error,
        }
        assert!(last < 1000, "the device never fills");
    };
    assert_eq!(error.kind, ErrorKind::NoSpace, "{error}: {}", error.detail);
    assert_eq!(shape(&store.reader().unwrap().rebuild().unwrap()), shape(&site));
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(store.commit_wait(Batch { sequence: last + 1, at: Timestamp(2), changes: Vec::new() }).unwrap(), last + 1);
    site.sequence = last + 1;
    store.close();
    let (store, reopened) = Store::open(&path).unwrap();
    assert_eq!(shape(&reopened), shape(&site));
    store.close();
}

/// A tmpfs over a folder, unmounted at the end.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(on: &Path, size: &str) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(on).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(on.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
    }
}

/// Rounds of the crash test; acknowledgements that each waits for before it kills.
const CRASHES: usize = 5;
const ACKNOWLEDGED: usize = 300;

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vws.db");
    let mut acknowledged = 0;
    for round in 0..CRASHES {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "committing_child", "--ignored", "--nocapture"])
            .env("VWS_STORE_TEST_DATABASE", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let number = |line: std::io::Result<String>| line.unwrap().strip_prefix("committed ").and_then(|n| n.parse::<u64>().ok());
        let wait = ACKNOWLEDGED + round * 37;
        assert_eq!(lines.by_ref().filter_map(number).take(wait).count(), wait, "the child ended too early");
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died.
        acknowledged = lines.filter_map(number).last().unwrap_or(acknowledged + u64::try_from(wait).unwrap());

        let (store, site) = Store::open(&path).unwrap();
        assert!(site.sequence >= acknowledged, "round {round}: {acknowledged} was acknowledged, {} is there", site.sequence);
        let events = store.reader().unwrap().events_since(0, usize::MAX).unwrap();
        let numbers: Vec<u64> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(numbers, (1..=site.sequence).collect::<Vec<_>>(), "round {round}");
        let mut expected = Site::default();
        (1..=site.sequence).for_each(|sequence| child_changes(sequence).iter().for_each(|change| expected.apply(change)));
        expected.sequence = site.sequence;
        assert_eq!(shape(&site), shape(&expected), "round {round}");
        acknowledged = site.sequence;
        store.close();
    }
}

/// What the child writes under a number.
fn child_changes(sequence: u64) -> Vec<Change> {
    let id = sequence % 20;
    let mut workspace = common::plain_workspace(id.into(), &format!("w{id}"));
    workspace.version = sequence;
    let reservation = Reservation {
        workspace: workspace.id,
        name: workspace.spec.name.clone(),
        owner: 1,
        group: "g".to_owned(),
        host: None,
        also_on: None,
        preemptible: false,
        resources: Resources { vcpus: sequence, memory_mib: 1, disk_gib: 1 },
        running: false,
        labels: BTreeMap::new(),
        lease_from: Timestamp(1),
        lease_until: None,
        addresses: 0,
    };
    vec![plain_event(sequence), Change::PutWorkspace(Arc::new(workspace)), Change::PutReservation(Arc::new(reservation))]
}

/// Not a test: the process that the crash test kills. Commits without waiting and says what was acknowledged.
#[test]
#[ignore = "run by what_was_acknowledged_survives_a_kill"]
fn committing_child() {
    let Some(path) = std::env::var_os("VWS_STORE_TEST_DATABASE") else { return };
    let (store, site) = Store::open(Path::new(&path)).unwrap();
    // At most so many in flight: the next one waits for an answer.
    let (answered, answers) = mpsc::channel();
    (0..64).for_each(|_| answered.send(()).unwrap());
    for sequence in site.sequence + 1.. {
        answers.recv().unwrap();
        let answered = answered.clone();
        let batch = Batch { sequence, at: Timestamp(sequence), changes: child_changes(sequence) };
        store.commit(batch, move |outcome| {
            let mut out = std::io::stdout().lock();
            writeln!(out, "committed {}", outcome.unwrap()).unwrap();
            out.flush().unwrap();
            let _ = answered.send(());
        });
    }
}
