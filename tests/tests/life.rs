//! The life of a workspace, from import to nothing left, as a person goes through it with `vws`; and the ends of leases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::json;
use vws_tests::{Plan, Site, until};

/// What a dry run must leave as it is. The doctor and this look themselves are decided upon, so only launches are compared.
fn everything(site: &Site) -> Vec<serde_json::Value> {
    let launches: Vec<_> =
        site.ok(&["decisions"]).as_array().unwrap().iter().filter(|one| one["verb"] == "launch").cloned().collect();
    vec![
        site.ok(&["list"]),
        site.ok(&["image", "list"]),
        site.ok(&["jobs", "--all"]),
        site.ok(&["host", "show", "h1"])["free"].clone(),
        json!(launches),
        json!(site.findings()),
    ]
}

fn counted(site: &Site, workspace: &str) -> u64 {
    let text = site.ok(&["logs", workspace]).to_string();
    text.split("TICK ")
        .filter_map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok())
        .max()
        .unwrap_or(0)
}

#[test]
fn a_workspace_lives_and_leaves_nothing() {
    let site = Site::start(&Plan { hosts: vec!["h1", "h2"], ..Plan::default() });
    site.import("tiny");
    let ask = ["tiny", "--name", "one", "--memory", "256M", "--lease", "1h", "--host", "h1"];

    let before = everything(&site);
    let explained = site.ok(&[["explain", "launch"].as_slice(), &ask].concat());
    assert_eq!((&explained["permitted"], &explained["host"]), (&json!(true), &json!("h1")), "{explained}");
    assert_eq!(everything(&site), before, "a dry run changed something");

    let launched = site.ok(&[["launch"].as_slice(), &ask].concat());
    assert_eq!(launched["workspace"]["state"], "running", "{launched}");
    assert_eq!(launched["job"]["state"], "done");
    let id = launched["workspace"]["id"].as_str().unwrap().to_owned();
    assert_eq!(site.machines("h1").iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), [id.clone()]);
    let reserved = site.ok(&["info", "one"])["description"]["reservation"].clone();
    assert_eq!(
        (&reserved["host"], &reserved["memory_mib"], &reserved["running"]),
        (&json!("h1"), &json!(256), &json!(true)),
        "{reserved}"
    );

    site.run(&["pause", "one"]);
    assert_eq!(site.state("one"), "paused");
    assert_eq!(site.machines("h1")[0].1["state"], "paused");
    site.run(&["resume", "one"]);
    assert_eq!(site.machines("h1")[0].1["state"], "running");
    until("the guest counts", || (counted(&site, "one") >= 2).then_some(()));

    site.run(&["serialize", "one"]);
    assert_eq!(site.state("one"), "serialized");
    assert!(site.machines("h1").is_empty(), "it has left its host");
    let bundle = site.ok(&["info", "one"])["description"]["bundle"].clone();
    assert!(bundle["files"].as_array().unwrap().iter().all(|file| file["digest"].as_str().unwrap().len() == 64), "{bundle}");
    assert_eq!(site.ok(&["host", "show", "h1"])["free"], site.ok(&["host", "show", "h1"])["capacity"]);

    site.run(&["resume", "one", "--host", "h2"]);
    assert_eq!(site.ok(&["info", "one"])["host"], "h2");
    let (_, machine) = site.machines("h2").remove(0);
    assert_eq!(machine["boots"], 1, "it was resumed, not booted: {machine}");
    assert!(counted(&site, "one") >= 2, "its memory went on");

    site.run(&["reboot", "one"]);
    assert_eq!(site.machines("h2")[0].1["boots"], 2);
    site.run(&["stop", "one"]);
    assert_eq!(site.state("one"), "stopped");
    let saved = site.ok(&["save-image", "one", "second", "--public"]);
    assert_eq!((&saved["image"]["state"], &saved["job"]["state"]), (&json!("ready"), &json!("done")), "{saved}");
    assert_eq!(site.ok(&["image", "verify", "second"])[0]["state"], "done");
    site.run(&["start", "one"]);
    assert_eq!(site.machines("h2")[0].1["boots"], 3);
    let until_before = site.ok(&["info", "one"])["lease_until"].as_u64().unwrap();
    site.run(&["renew", "one", "--lease", "3h"]);
    let renewed = site.ok(&["info", "one"])["lease_until"].as_u64().unwrap();
    assert!(renewed > until_before + 3_600_000_000, "{until_before} -> {renewed}");

    site.run(&["launch", "second", "--name", "two", "--memory", "64M", "--host", "h1"]);
    for name in ["one", "two"] {
        site.run(&["destroy", name]);
        assert_eq!(site.state(name), "gone");
    }
    site.assert_empty(&["h1", "h2"]);
    for image in ["tiny", "second"] {
        site.run(&["image", "remove", image]);
    }
    let blobs = site.dir().join("state/library/blobs/sha256");
    let left: Vec<_> = std::fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(site.findings(), Vec::<String>::new());
}

#[test]
fn every_state_can_be_destroyed() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    for (name, target) in [("off", "stopped"), ("on", "running"), ("still", "paused"), ("packed", "running")] {
        let launched = site.ok(&["launch", "tiny", "--name", name, "--memory", "64M", "--target", target]);
        assert_eq!(launched["workspace"]["state"], target);
    }
    site.run(&["serialize", "packed"]);
    // And one that is still being made.
    site.run(&["launch", "tiny", "--name", "new", "--memory", "64M", "--no-wait"]);
    for name in ["off", "on", "still", "packed", "new"] {
        site.run(&["destroy", name]);
        assert_eq!(site.state(name), "gone");
    }
    site.assert_empty(&["h1"]);
}

#[test]
fn what_is_not_possible_now_is_refused_with_the_state() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "off", "--memory", "64M", "--target", "stopped"]);
    for verb in ["pause", "reboot", "serialize", "resume"] {
        let said = site.vws(&[verb, "off"]);
        let (name, code, message) = said.error();
        assert_eq!((name.as_str(), code.as_str()), ("InvalidState", "state"), "{verb}: {message}");
        assert!(message.contains("`off`") && message.contains("stopped"), "{verb}: {message}");
    }
    // What is so already is no failure.
    site.run(&["stop", "off"]);
    assert_eq!(site.machines("h1")[0].1["boots"], 0);
}

#[test]
fn a_request_id_makes_a_launch_once() {
    let mut site = Site::start(&Plan::default());
    site.import("tiny");
    let launch = |site: &Site, memory: &str| {
        site.vws(&[
            "launch",
            "tiny",
            "--name",
            "one",
            "--memory",
            memory,
            "--target",
            "stopped",
            "--request-id",
            "mine",
            "--no-wait",
        ])
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(|| launch(&site, "64M"))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    for answer in &answers {
        assert_eq!(answer.code, 0, "{}", answer.talk);
        assert_eq!(answer.data["job"]["id"], answers[0].data["job"]["id"]);
        assert_eq!(answer.data["workspace"]["id"], answers[0].data["workspace"]["id"]);
    }
    site.until_state("one", "stopped");
    site.kill_daemon();
    site.start_daemon();
    let again = launch(&site, "64M");
    assert_eq!(again.data["job"]["id"], answers[0].data["job"]["id"], "{}", again.talk);
    assert_eq!(site.ok(&["list"]).as_array().unwrap().len(), 1);
    assert_eq!(site.machines("h1").len(), 1);
    let other = launch(&site, "128M").error();
    assert_eq!((other.0.as_str(), other.1.as_str()), ("Conflict", "request-id-reused"), "{}", other.2);
    assert_eq!(site.ok(&["list"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_lease_ends_with_its_action() {
    let site = Site::start(&Plan { config: "[lease]\ngrace-seconds = 1\n".to_owned(), ..Plan::default() });
    site.import("tiny");
    let actions = [("stop", "stopped"), ("serialize", "serialized"), ("destroy", "gone")];
    for (action, _) in actions {
        site.run(&["launch", "tiny", "--name", action, "--memory", "64M", "--lease", "2s", "--end-action", action]);
    }
    for (action, state) in actions {
        site.until_state(action, state);
    }
    let events = site.ok(&["events"]).to_string();
    assert_eq!(events.matches("lease.ended").count(), 3, "{events}");
    // The grace was given: the action began a second after the end.
    let stopped = site.ok(&["info", "stop"]);
    let jobs = site.ok(&["jobs", "--all"]);
    let job = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "stop").unwrap().clone();
    let (ended, began) = (stopped["lease_until"].as_u64().unwrap(), job["created_at"].as_u64().unwrap());
    assert!(began >= ended + 1_000_000, "ended at {ended}, stopped from {began}");
    for name in ["stop", "serialize"] {
        site.run(&["destroy", name]);
    }
    site.assert_empty(&["h1"]);
}

#[test]
fn an_end_that_was_missed_gets_its_grace() {
    let mut site = Site::start(&Plan { config: "[lease]\ngrace-seconds = 2\n".to_owned(), ..Plan::default() });
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "late", "--memory", "64M", "--lease", "1s", "--end-action", "destroy"]);
    let lease_until = site.ok(&["info", "late"])["lease_until"].as_u64().unwrap();
    site.kill_daemon();
    let now = || u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros()).unwrap();
    until("end and grace have passed unseen", || (now() > lease_until + 2_000_000).then_some(()));
    site.start_daemon();
    let back = now();
    let info = site.ok(&["info", "late"]);
    assert_eq!(info["state"], "running", "it is still there: {info}");
    site.until_state("late", "gone");
    let jobs = site.ok(&["jobs", "--all"]);
    let job = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "destroy").unwrap().clone();
    assert_eq!(job["actor"], "vwsd/lease", "{job}");
    // The daemon watched leases from shortly before it answered.
    assert!(job["created_at"].as_u64().unwrap() + 500_000 >= back + 2_000_000 - 1_500_000, "{job} back at {back}");
    assert!(site.ok(&["events"]).to_string().contains("lease.deferred"));
    site.assert_empty(&["h1"]);
}
