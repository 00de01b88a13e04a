//! The daemon is killed at every step of a job that is being taken back. After a restart it is taken back to its end: the job has
//! failed with its first reason, the workspace is what it was before, nothing is orphaned and nothing ran twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use vws_tests::bus::{number, run, word};
use vws_tests::{Plan, Site, until};

/// Kind of job; what is there before it; how it begins; the call that fails in it; its undo, last step first, with whether it calls
/// the host; what the workspace is after it; boots of machines then.
struct Row {
    kind: &'static str,
    before: &'static [&'static [&'static str]],
    begin: &'static [&'static str],
    fails: &'static str,
    undo: &'static [(&'static str, bool)],
    after: &'static str,
    boots: u64,
}

const LAUNCH: &[&str] = &["launch", "tiny", "--name", "one", "--memory", "64M"];
const LAUNCH_ONLY: &[&str] = &["launch", "tiny", "--name", "one", "--memory", "64M", "--no-wait"];

const TABLE: &[Row] = &[
    Row {
        kind: "create",
        before: &[],
        begin: LAUNCH_ONLY,
        fails: "workspace.start",
        undo: &[("start", false), ("stage", true), ("images", false), ("room", false), ("import", false)],
        after: "gone",
        boots: 0,
    },
    Row {
        kind: "serialize",
        before: &[LAUNCH],
        begin: &["serialize", "one", "--no-wait"],
        fails: "workspace.export",
        undo: &[("export", false), ("save", true)],
        after: "running",
        boots: 1,
    },
    Row {
        kind: "restore",
        before: &[LAUNCH, &["serialize", "one"]],
        begin: &["resume", "one", "--no-wait"],
        fails: "workspace.restore",
        undo: &[("restore", false), ("import", true), ("images", false), ("room", false), ("verify", false)],
        after: "serialized",
        boots: 0,
    },
];

/// One kill, at the `at`-th step of the undo. Says at which it hit.
fn killed_at(row: &Row, at: usize) -> String {
    let settings = format!("latency_ms = 150\nfail = [{{ method = \"{}\" }}]", row.fails);
    let mut site = Site::start(&Plan { settings, ..Plan::default() });
    site.import("tiny");
    for arguments in row.before {
        site.run(arguments);
    }
    let begun = site.ok(row.begin);
    let job = begun["job"]["path"].as_str().or(begun[0]["path"].as_str()).unwrap_or_else(|| panic!("{begun}")).to_owned();
    let step = u64::try_from(row.undo.len() - 1 - at).unwrap();
    let hit = run(async {
        let client = site.client().await;
        loop {
            let seen = client.object(&job).await.unwrap();
            if number(&seen, "EndedAt") > 0 {
                return word(&seen, "State");
            }
            if word(&seen, "State") == "undoing" && number(&seen, "Step") <= step {
                return word(&seen, "Phase");
            }
        }
    });
    site.kill_daemon();
    let what = format!("{} killed at `{hit}`, meant `undo {}`", row.kind, row.undo[at].0);
    site.start_daemon();
    let ended = until(&format!("{what}: the job ended"), || {
        run(async {
            let seen =
                site.client().await.object(&job).await.unwrap_or_else(|error| panic!("{what}: the job is forgotten: {error}"));
            (number(&seen, "EndedAt") > 0).then_some(seen)
        })
    });
    assert_eq!((word(&ended, "State").as_str(), word(&ended, "Kind").as_str()), ("failed", row.kind), "{what}\n{}", site.log());
    assert!(format!("{ended:?}").contains(row.fails), "{what}: its first reason is not kept: {ended:?}");
    assert_eq!(site.state("one"), row.after, "{what}");
    let machines = site.machines("h1");
    let expected = usize::from(row.boots > 0);
    assert_eq!(machines.len(), expected, "{what}: {machines:?}");
    assert_eq!(machines.iter().map(|(_, machine)| machine["boots"].as_u64().unwrap()).sum::<u64>(), row.boots, "{what}: boots");
    assert_eq!(site.findings(), Vec::<String>::new(), "{what}");
    if row.after != "gone" {
        site.run(&["destroy", "one"]);
    }
    site.assert_empty(&["h1"]);
    hit
}

#[test]
fn a_kill_while_a_job_is_taken_back_changes_nothing() {
    let cases: Vec<(&Row, usize)> = TABLE.iter().flat_map(|row| (0..row.undo.len()).map(move |at| (row, at))).collect();
    let left = Mutex::new(cases);
    let hits = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((row, at)) = left.lock().unwrap().pop() else { return };
                    let hit = killed_at(row, at);
                    hits.lock().unwrap().insert((row.kind, at), hit);
                }
            });
        }
    });
    // A step that calls its host was seen at work when the daemon died: otherwise this would prove nothing.
    let hits = hits.into_inner().unwrap();
    for row in TABLE {
        for (at, (name, calls)) in row.undo.iter().enumerate() {
            let hit = hits.get(&(row.kind, at)).map_or("", String::as_str);
            assert!(!calls || hit == format!("undo {name}"), "{} was to be hit at `undo {name}`: {hits:?}", row.kind);
        }
    }
}
