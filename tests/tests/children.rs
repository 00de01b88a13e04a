//! A plugin's child process dies in the middle of a deploy: the job goes on, nothing runs twice, and the daemon answers meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use vws_tests::bus::{number, run, word};
use vws_tests::{Plan, Site, until};

const LAUNCH: &[&str] = &["launch", "tiny", "--name", "one", "--memory", "64M", "--no-wait"];

/// Launches, sends `signal` to the child while the job is at `phase`, and sees the workspace run.
fn child_hit_at(phase: &str, signal: Signal) {
    let what = format!("{signal:?} at {phase}");
    let site = Site::start(&Plan { settings: "latency_ms = 300".to_owned(), ..Plan::default() });
    site.import("tiny");
    let launched = site.ok(LAUNCH);
    let job = launched["job"]["path"].as_str().unwrap().to_owned();
    until(&format!("{what}: the job is there"), || {
        let seen = run(async { site.client().await.object(&job).await.unwrap() });
        assert_eq!(number(&seen, "EndedAt"), 0, "{what}: it ended before");
        (word(&seen, "Phase") == phase).then_some(())
    });
    let old = site.hit_plugin_child(signal);

    // All the while, what needs no host is answered, and what was acknowledged is there.
    let over = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let mut answered = 0;
            while !over.load(Ordering::Acquire) {
                let listed = site.ok(&["list"]);
                assert_eq!(listed[0]["name"], "one", "{what}: {listed}");
                site.run(&["explain", "launch", "tiny", "--name", "two", "--memory", "64M"]);
                answered += 1;
            }
            answered
        });
        site.until_state("one", "running");
        over.store(true, Ordering::Release);
        calls.join().unwrap()
    });
    assert!(answered > 0, "{what}");
    let ended = run(async { site.client().await.object(&job).await.unwrap() });
    assert_eq!(word(&ended, "State"), "done", "{what}: {ended:?}");
    assert!(!site.plugin_children().contains(&old), "{what}: the old child is still there");
    let machines = site.machines("h1");
    assert_eq!(machines.len(), 1, "{what}: {machines:?}");
    assert_eq!(machines[0].1["boots"], 1, "{what}: {machines:?}");
    let backends = site.ok(&["backend", "list"]);
    assert!(backends[0]["restarts"].as_u64().unwrap() >= 1, "{what}: it was not started again: {backends}");
    until(&format!("{what}: the doctor is content"), || site.findings().is_empty().then_some(()));
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn a_deploy_survives_its_plugins_child() {
    std::thread::scope(|scope| {
        for signal in [Signal::KILL, Signal::SEGV] {
            for phase in ["images", "stage", "start"] {
                scope.spawn(move || child_hit_at(phase, signal));
            }
        }
    });
}
