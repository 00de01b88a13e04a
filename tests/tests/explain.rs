//! Explain and the real call cannot differ, and explain changes nothing: each verb is explained, then done, and what was recorded compared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use vws_tests::{Plan, Site, root};

/// Refuses more than 96 MiB, and leases of more than an hour.
const TIGHT: &str = "return { decide = function(input)\n  if input.request.memory_mib > 96 then\n    return deny(\"too-big\", \"96 MiB at most\")\n  end\n  \
                     if input.request.verb == \"renew\" and input.request.duration_seconds > 3600 then\n    return deny(\"too-long\", \"an hour at most\")\n  end\n  \
                     return permit()\nend }\n";

fn site(quota: &str) -> Site {
    let read = |name: &str| std::fs::read_to_string(root().join("policies").join(name)).unwrap();
    let policies =
        vec![("access.lua", read("access.lua")), ("quota.lua", quota.to_owned()), ("placement.lua", read("placement.lua"))];
    let site = Site::start(&Plan { hosts: vec!["h1", "h2"], policies, ..Plan::default() });
    site.import("tiny");
    site
}

/// What explain must leave as it is: everything, and the number of the ledger's last event.
fn everything(site: &Site) -> Vec<Value> {
    [
        ["list", "--all"].as_slice(),
        &["image", "list"],
        &["jobs", "--all"],
        &["host", "list"],
        &["decisions", "--limit", "1000"],
        &["events", "--since", "0"],
    ]
    .iter()
    .map(|words| site.vws(words).data)
    .collect()
}

/// What of a decision has to be the same: the answers but for the time they took, the host.
fn essence(decision: &Value) -> Value {
    let mut verdicts = decision["verdicts"].clone();
    for verdict in verdicts.as_array_mut().unwrap() {
        verdict.as_object_mut().unwrap().remove("micros");
        // A new workspace's MAC is made from its id, which an explanation does not have.
        if verdict["policy"] == "network" {
            verdict.as_object_mut().unwrap().remove("text");
        }
    }
    serde_json::json!([
        decision["permitted"],
        decision["native"],
        decision["host"],
        decision["verb"],
        verdicts,
        decision["generation"]
    ])
}

/// Explains, does, and compares.
fn same(site: &Site, explain: &[&str], act: &[&str]) -> Value {
    let before = everything(site);
    let explained = site.ok(&[&["explain"], explain].concat());
    assert_eq!(everything(site), before, "explain {explain:?} changed something");
    let said = site.vws(act);
    let recorded = site.ok(&["decisions", "--limit", "1"])[0].clone();
    assert_eq!(essence(&explained), essence(&recorded), "{explain:?}: {}", said.talk);
    assert_eq!(explained["permitted"].as_bool().unwrap(), said.code == 0, "{explain:?}: {}", said.talk);
    explained
}

#[test]
fn explain_says_what_the_call_does_for_every_verb() {
    let site = site(TIGHT);
    let launch = ["launch", "tiny", "--name", "one", "--memory", "64M", "--lease", "1h"];
    let explained = same(&site, &launch, &launch);
    assert!(explained["limits"]["deadline_ms"].as_u64().unwrap() > 0, "{explained:#}");
    assert_eq!(explained["verdicts"][1]["source"], "return permit()", "{explained:#}");
    let big = ["launch", "tiny", "--name", "two", "--memory", "512M"];
    same(&site, &big, &big);
    let huge = ["launch", "tiny", "--name", "three", "--memory", "64M", "--vcpus", "1000"];
    same(&site, &huge, &huge);
    for words in [
        ["pause", "one"].as_slice(),
        &["resume", "one"],
        &["reboot", "one"],
        &["stop", "one"],
        &["start", "one"],
        &["migrate", "one"],
        &["renew", "one", "--lease", "30m"],
        &["renew", "one", "--lease", "2h"],
        &["serialize", "one"],
        &["resume", "one"],
        &["stop", "one"],
        &["resize", "one", "--memory", "80M"],
        &["resize", "one", "--memory", "256M"],
        &["destroy", "one"],
    ] {
        same(&site, words, words);
    }
}

#[test]
fn the_nearest_change_passes_and_the_next_one_does_not() {
    let site = site(TIGHT);
    let explained = site.ok(&["explain", "launch", "tiny", "--name", "one", "--memory", "512M"]);
    let ways = explained["nearest"].to_string();
    // In steps of 64 MiB.
    assert!(ways.contains("with 64 MiB of memory instead of 512 it would pass"), "{explained:#}");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M", "--vcpus", "2", "--lease", "1h"]);
    let ways = site.ok(&["explain", "renew", "one", "--lease", "9h"])["nearest"].to_string();
    assert!(ways.contains("with a lease of 3600 s instead of 32400 it would pass"), "{ways}");
    site.run(&["renew", "one", "--lease", "1h"]);
    // A full host: less fits, another host would do, and somebody's lease ends.
    let host = site.ok(&["info", "one"])["host"].as_str().unwrap().to_owned();
    let free = site.ok(&["host", "show", &host])["free"]["vcpus"].as_u64().unwrap();
    let wanted = (free + 1).to_string();
    let explained =
        site.ok(&["explain", "launch", "tiny", "--name", "more", "--memory", "64M", "--vcpus", &wanted, "--host", &host]);
    let ways = explained["nearest"].to_string();
    assert!(ways.contains(&format!("with {free} vCPUs instead of {wanted} it would pass")), "{explained:#}");
    assert!(ways.contains(&format!("without insisting on host `{host}` it would pass")), "{explained:#}");
    assert!(ways.contains(&format!("host `{host}` has the room when the lease of `one` ends (2 vCPUs")), "{explained:#}");
}
