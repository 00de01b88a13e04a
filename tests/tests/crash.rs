//! The daemon is killed at every step of every kind of job that makes or moves machines. After a restart the job has ended well,
//! nothing is orphaned, nothing ran twice.
//!
//! Hosts answer slowly, so that a step that calls one is seen at work; steps without calls are killed as near as it goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use vws_tests::bus::{none, number, run, word};
use vws_tests::{Plan, Site, until};
use zbus::Variant;

/// Kind of job; what is there before it; its steps, with whether they call the host; what the workspace is after it; boots then.
struct Row {
    kind: &'static str,
    before: &'static [&'static [&'static str]],
    steps: &'static [(&'static str, bool)],
    after: &'static str,
    boots: u64,
}

const LAUNCH: &[&str] = &["launch", "tiny", "--name", "one", "--memory", "64M"];
const LAUNCH_OFF: &[&str] = &["launch", "tiny", "--name", "one", "--memory", "64M", "--target", "stopped"];

const TABLE: &[Row] = &[
    Row {
        kind: "create",
        before: &[],
        steps: &[("import", false), ("room", false), ("images", true), ("stage", true), ("start", true)],
        after: "running",
        boots: 1,
    },
    Row { kind: "start", before: &[LAUNCH_OFF], steps: &[("images", true), ("start", true)], after: "running", boots: 1 },
    Row {
        kind: "serialize",
        before: &[LAUNCH],
        steps: &[("save", true), ("export", true), ("leave", true)],
        after: "serialized",
        boots: 0,
    },
    Row {
        kind: "restore",
        before: &[LAUNCH, &["serialize", "one"]],
        steps: &[("verify", false), ("room", false), ("images", true), ("import", true), ("restore", true), ("discard", false)],
        after: "running",
        boots: 1,
    },
    Row {
        kind: "destroy",
        before: &[LAUNCH],
        steps: &[("begin", false), ("machine", true), ("release", false)],
        after: "gone",
        boots: 0,
    },
];

/// Begins the job; its path.
async fn begin(client: &vws_bus::client::Client, kind: &str, workspace: &str) -> String {
    if kind == "create" {
        let mut spec = none();
        spec.insert("image", Variant::from("tiny"));
        spec.insert("memory-mib", Variant::from(64_u64));
        return client.manager().await.unwrap().create_workspace("one", &spec, &none()).await.unwrap().1.to_string();
    }
    let workspace = client.workspace(workspace).await.unwrap();
    let job = match kind {
        "start" => workspace.start(&none()).await,
        "serialize" => workspace.serialize(&none()).await,
        "restore" => workspace.resume(&none()).await,
        _ => workspace.destroy(&none()).await,
    };
    job.unwrap().to_string()
}

/// One kill. Says at which step it hit.
fn killed_at(row: &Row, step: usize) -> String {
    let mut site = Site::start(&Plan { settings: "latency_ms = 150".to_owned(), ..Plan::default() });
    site.import("tiny");
    for arguments in row.before {
        site.run(arguments);
    }
    let workspace =
        if row.before.is_empty() { String::new() } else { site.ok(&["info", "one"])["path"].as_str().unwrap().to_owned() };
    let (job, hit) = run(async {
        let client = site.client().await;
        let job = begin(&client, row.kind, &workspace).await;
        loop {
            let seen = client.object(&job).await.unwrap();
            let ended = ["done", "failed", "cancelled"].contains(&word(&seen, "State").as_str());
            let at_work = word(&seen, "State") == "running" && usize::try_from(number(&seen, "Step")).unwrap() >= step;
            if ended || at_work {
                return (job, if ended { word(&seen, "State") } else { word(&seen, "Phase") });
            }
        }
    });
    site.kill_daemon();
    let what = format!("{} killed at {hit}, meant {}", row.kind, row.steps[step].0);
    site.start_daemon();
    let ended = until(&format!("{what}: the job ended"), || {
        run(async {
            let seen =
                site.client().await.object(&job).await.unwrap_or_else(|error| panic!("{what}: the job is forgotten: {error}"));
            (number(&seen, "EndedAt") > 0).then_some(seen)
        })
    });
    assert_eq!(word(&ended, "State"), "done", "{what}: {ended:?}\n{}", site.log());
    assert_eq!(word(&ended, "Kind"), row.kind);
    assert_eq!(site.state("one"), row.after, "{what}");
    let machines = site.machines("h1");
    let listed = site.ok(&["list", "--host", "h1"]);
    let on_host: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(machines.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), on_host, "{what}: machines and workspaces");
    assert_eq!(machines.iter().map(|(_, machine)| machine["boots"].as_u64().unwrap()).sum::<u64>(), row.boots, "{what}: boots");
    assert_eq!(site.findings(), Vec::<String>::new(), "{what}");
    if row.after != "gone" {
        site.run(&["destroy", "one"]);
    }
    site.assert_empty(&["h1"]);
    hit
}

#[test]
fn a_kill_at_any_step_loses_nothing_and_repeats_nothing() {
    let cases: Vec<(&Row, usize)> = TABLE.iter().flat_map(|row| (0..row.steps.len()).map(move |step| (row, step))).collect();
    let left = Mutex::new(cases);
    let hits = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((row, step)) = left.lock().unwrap().pop() else { return };
                    let hit = killed_at(row, step);
                    hits.lock().unwrap().insert((row.kind, step), hit);
                }
            });
        }
    });
    // A step that calls its host was seen at work when the daemon died: otherwise this would prove nothing.
    let hits = hits.into_inner().unwrap();
    let missed: Vec<_> = TABLE
        .iter()
        .flat_map(|row| row.steps.iter().enumerate().map(move |(at, (name, calls))| (row.kind, at, *name, *calls)))
        .filter(|(kind, at, name, calls)| *calls && hits.get(&(*kind, *at)).is_none_or(|hit| hit != name))
        .collect();
    assert!(missed.is_empty(), "not hit as meant: {missed:?} of {hits:?}");
}
