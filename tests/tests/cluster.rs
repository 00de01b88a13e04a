//! Clusters: all members placed or none, apart or together as their roles say, one lease, taken back as a whole; and verbs on many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use std::collections::BTreeSet;
use vws_tests::{Plan, Site};

fn site(settings: &str) -> Site {
    let settings = format!("vcpus = 4\nmemory_mib = 1024\n{settings}");
    let site = Site::start(&Plan { hosts: vec!["h1", "h2", "h3"], settings, ..Plan::default() });
    site.import("tiny");
    site
}

fn members(site: &Site, cluster: &str) -> Vec<Value> {
    site.ok(&["cluster", "show", cluster]).as_array().unwrap().clone()
}

fn hosts(members: &[Value], role: &str) -> BTreeSet<String> {
    members.iter().filter(|member| member["role"] == role).map(|member| member["host"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn members_are_placed_apart_and_together_know_their_peers_and_share_one_lease() {
    let site = site("");
    site.run(&[
        "cluster",
        "launch",
        "calc",
        "--role",
        "head=tiny,memory=256M",
        "--role",
        "worker=tiny,count=3,memory=64M,apart-from=worker",
        "--role",
        "log=tiny,memory=64M,together-with=head",
        "--lease",
        "1h",
    ]);
    let all = members(&site, "calc");
    let names: Vec<&str> = all.iter().map(|member| member["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["calc-head", "calc-log", "calc-worker-0", "calc-worker-1", "calc-worker-2"]);
    assert_eq!(hosts(&all, "worker").len(), 3, "{all:?}");
    assert_eq!(hosts(&all, "log"), hosts(&all, "head"));
    let leases: BTreeSet<u64> = all.iter().map(|member| member["lease_until"].as_u64().unwrap()).collect();
    assert_eq!(leases.len(), 1);
    assert!(all.iter().all(|member| member["state"] == "running"));
    // The seed of each lists the others.
    let log = site.ok(&["logs", "calc-head"])["text"].as_str().unwrap().to_owned();
    assert!(log.contains("calc-worker-2") && log.contains("\"role\":\"worker\""), "{log}");

    let stopped = site.ok(&["cluster", "stop", "calc"]);
    assert_eq!(stopped.as_array().unwrap().len(), 5);
    assert!(members(&site, "calc").iter().all(|member| member["state"] == "stopped"));
    site.run(&["cluster", "renew", "calc", "--lease", "2h"]);
    let listed = site.ok(&["cluster", "list"]);
    assert_eq!((&listed[0]["name"], &listed[0]["states"]["stopped"]), (&Value::from("calc"), &Value::from(5)));
    site.run(&["cluster", "destroy", "calc"]);
    site.assert_empty(&["h1", "h2", "h3"]);
}

#[test]
fn what_does_not_fit_as_a_whole_leaves_nothing() {
    let site = site("");
    let refused = site.refused(&["cluster", "launch", "wide", "--role", "worker=tiny,count=4,memory=64M,apart-from=worker"], 6);
    assert!(refused.contains("member `wide-worker-3`"), "{refused}");
    let large = site.refused(&["cluster", "launch", "big", "--role", "worker=tiny,count=5,memory=700M"], 6);
    assert!(large.contains("member `big-worker-3`"), "{large}");
    site.assert_empty(&["h1", "h2", "h3"]);
    // The refusals are recorded, and nothing else.
    assert_eq!(site.ok(&["jobs", "--all"]).as_array().unwrap().iter().filter(|job| job["kind"] == "create-cluster").count(), 0);
}

#[test]
fn a_member_that_fails_takes_all_of_them_back() {
    let site = site("fail = [{ method = \"workspace.start\", nth = 2, code = \"hypervisor\" }]");
    let failed = site.refused(&["cluster", "launch", "calc", "--role", "worker=tiny,count=6,memory=64M"], 1);
    assert!(failed.contains("calc-worker-"), "{failed}");
    site.assert_empty(&["h1", "h2", "h3"]);
}

#[test]
fn many_are_acted_on_and_the_first_refusal_stops_nothing() {
    let site = site("");
    for name in ["one", "two", "three"] {
        site.run(&["launch", "tiny", "--name", name, "--memory", "64M", "--label", "tier=web"]);
    }
    site.run(&["stop", "two"]);
    let said = site.vws(&["each", "pause", "--label", "tier=web"]);
    assert_eq!(said.code, 1, "{said:?}");
    let results = said.data.as_array().unwrap().clone();
    assert_eq!(results.len(), 3);
    assert_eq!(results.iter().filter(|result| result["error"].is_string()).count(), 1);
    assert_eq!((site.state("one"), site.state("two"), site.state("three")), ("paused".into(), "stopped".into(), "paused".into()));
    let none = site.refused(&["each", "destroy"], 2);
    assert!(none.contains("`all`"), "{none}");
    site.run(&["each", "destroy", "--all"]);
    site.assert_empty(&["h1", "h2", "h3"]);
}

#[test]
fn a_cluster_survives_a_kill_of_the_daemon() {
    let mut site = site("latency_ms = 100");
    site.run(&["cluster", "launch", "calc", "--role", "worker=tiny,count=4,memory=64M", "--no-wait"]);
    site.kill_daemon();
    site.start_daemon();
    for name in ["calc-worker-0", "calc-worker-1", "calc-worker-2", "calc-worker-3"] {
        site.until_state(name, "running");
    }
    let ended = vws_tests::until("the cluster's job has ended", || {
        let jobs = site.ok(&["jobs", "--all"]);
        jobs.as_array().unwrap().iter().find(|job| job["kind"] == "create-cluster" && job["ended_at"] != 0).cloned()
    });
    assert_eq!(ended["state"], "done", "{ended}");
    site.run(&["cluster", "destroy", "calc"]);
    site.assert_empty(&["h1", "h2", "h3"]);
}
