//! New policies on their way into force: replayed, watched, put back, rolled back; and what others would have decided.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use std::path::PathBuf;
use vws_tests::{Plan, Site, root, until};

fn shipped(name: &str) -> String {
    std::fs::read_to_string(root().join("policies").join(name)).unwrap()
}

fn status(site: &Site) -> Value {
    site.ok(&["policy", "status"])
}

fn until_generation(site: &Site, state: &str, generation: u64) {
    until(&format!("policies are {state}, generation {generation}"), || {
        let status = status(site);
        (status["state"] == state && status["generation"] == generation).then_some(())
    });
}

/// A folder with the shipped policies, one of them replaced.
fn folder(site: &Site, name: &str, file: &str, text: &str) -> PathBuf {
    let folder = site.dir().join(name);
    std::fs::create_dir(&folder).unwrap();
    for policy in ["access.lua", "quota.lua", "placement.lua"] {
        std::fs::write(folder.join(policy), if policy == file { text.to_owned() } else { shipped(policy) }).unwrap();
    }
    folder
}

fn path(folder: &std::path::Path) -> &str {
    folder.to_str().unwrap()
}

/// Refuses launches of more than 96 MiB.
const SMALL: &str = "return { decide = function(input)\n  if input.request.verb == \"launch\" and input.request.memory_mib > 96 then\n    \
                     return deny(\"too-big\", \"96 MiB at most\")\n  end\n  return permit()\nend }\n";

/// Lets a site live: launches on changing hosts and networks, a cluster, refusals, leases, moves.
fn live(site: &Site) {
    site.import("tiny");
    site.run(&["host", "disable", "h4"]);
    site.run(&["network", "add", "lan", "--kind", "bridge", "--source", "br0", "--subnet", "10.9.0.0/28"]);
    let launch = |name: &str, more: &[&str]| {
        let mut words = vec!["launch", "tiny", "--name", name, "--target", "stopped"];
        words.extend(more);
        site.vws(&words)
    };
    for n in 0..4 {
        let said = launch(&format!("w{n}"), &["--memory", if n % 2 == 0 { "64M" } else { "128M" }, "--lease", "2h"]);
        assert_eq!(said.code, 0, "{}", said.talk);
    }
    assert_eq!(launch("far", &["--memory", "64M", "--nic", "network=lan"]).code, 0);
    // Too large for every host.
    assert_ne!(launch("huge", &["--memory", "4000G"]).code, 0);
    site.run(&["host", "disable", "h2"]);
    assert_eq!(launch("after", &["--memory", "64M"]).code, 0);
    site.run(&["network", "disable", "lan"]);
    site.run(&["host", "enable", "h2"]);
    site.run(&["host", "change", "h2", "--label", "rack=r2"]);
    site.run(&["renew", "w0", "--lease", "1h"]);
    site.run(&["start", "w0"]);
    site.run(&["serialize", "w0"]);
    site.run(&["resume", "w0"]);
    site.run(&["resize", "w1", "--memory", "96M"]);
    site.run(&["destroy", "w2"]);
    site.run(&["host", "remove", "h4"]);
    assert_eq!(launch("last", &["--memory", "64M"]).code, 0);
}

#[test]
fn a_replay_by_the_same_policies_decides_as_it_was_decided() {
    let site = Site::start(&Plan { hosts: vec!["h1", "h2", "h3", "h4"], ..Plan::default() });
    live(&site);
    let same = site.dir().join("policies");
    let found = site.ok(&["policy", "replay", "--with", path(&same)]);
    assert_eq!((&found["changed"], &found["left_out"]), (&Value::from(0), &Value::from(0)), "{found:#}");
    let recorded = site.ok(&["decisions", "--limit", "1000"]).as_array().unwrap().len() as u64;
    assert_eq!(found["judged"].as_u64().unwrap(), recorded, "each decision but the replay's own later ones: {found:#}");
    // Another rule changes exactly what it is about.
    let other = folder(&site, "small", "quota.lua", SMALL);
    let found = site.ok(&["policy", "replay", "--with", path(&other), "--verb", "launch"]);
    assert_eq!(found["kinds"]["permit to deny"], 2, "{found:#}");
    let example = &found["examples"][0];
    assert!(example["is"].as_str().unwrap().contains("quota.lua:3 too-big"), "{example}");
    assert_eq!(site.ok(&["policy", "replay", "--with", path(&other), "--caller", "4711"])["judged"], 0);
    // What is wrong is told, and nothing is done.
    let broken = folder(&site, "broken", "quota.lua", "return {");
    assert_eq!(site.vws(&["policy", "replay", "--with", path(&broken)]).error().0, "PolicyFailure");
    assert_eq!(site.vws(&["policy", "replay", "--with", path(&other), "--verb", "lanch"]).error().0, "InvalidArgument");
    assert_eq!(status(&site)["generation"], 1);
}

#[test]
fn what_changes_too_much_is_blocked_until_an_administrator_accepts_it() {
    let config = "[policy.gate]\nreplay = \"block\"\nreplay-changes = 1\n".to_owned();
    let site = Site::start(&Plan { config, ..Plan::default() });
    site.import("tiny");
    for name in ["a", "b"] {
        site.run(&["launch", "tiny", "--name", name, "--memory", "128M", "--target", "stopped"]);
    }
    std::fs::write(site.policy("quota.lua"), SMALL).unwrap();
    until_generation(&site, "stale", 1);
    let told = status(&site);
    assert_eq!(told["last_reload"]["outcome"], "blocked", "{told:#}");
    assert!(told["last_reload"]["replay"].as_str().unwrap().contains("2 permit to deny"), "{told:#}");
    assert_eq!(told["errors"][0]["code"], "replay-blocked", "{told:#}");
    assert_eq!(site.vws(&["policy", "reload"]).error().0, "PolicyFailure");
    assert_eq!(site.ok(&["policy", "reload", "--accept"])["generation"], 2);
    assert_eq!(site.vws(&["launch", "tiny", "--name", "c", "--memory", "128M"]).error().1, "too-big");
    let history = site.ok(&["policy", "history"]);
    assert_eq!(history[0]["cause"], "reload");
    assert!(history[0]["report"].as_str().unwrap().contains("2 permit to deny"), "{history:#}");
    assert_eq!(history.as_array().unwrap().len(), 2);
}

#[test]
fn a_set_that_fails_at_once_is_put_back_and_a_rollback_stays() {
    let config = "[policy.gate]\nreplay = \"off\"\nwatch-decisions = 10\nwatch-errors-percent = 20\n".to_owned();
    let mut site = Site::start(&Plan { config, ..Plan::default() });
    site.import("tiny");
    // Compiles and checks; fails at each launch.
    let failing = "return { decide = function(input) return permit(input.request.host.name, 1) end }\n";
    std::fs::write(site.policy("quota.lua"), failing).unwrap();
    until_generation(&site, "good", 2);
    for n in 0..3 {
        let said = site.vws(&["launch", "tiny", "--name", &format!("w{n}"), "--memory", "64M", "--target", "stopped"]);
        assert_eq!(said.error().0, "PolicyFailure", "{}", said.talk);
    }
    until_generation(&site, "pinned", 3);
    let told = status(&site);
    assert_eq!(told["last_reload"]["outcome"], "put-back", "{told:#}");
    let events = site.ok(&["events", "--since", "0"]).to_string();
    assert!(events.contains("policy.put-back") && events.contains("3 of its first"), "{events}");
    site.run(&["launch", "tiny", "--name", "good", "--memory", "64M", "--target", "stopped"]);
    // It stays over a restart, although the broken files are still there.
    site.stop_daemon();
    site.start_daemon();
    until_generation(&site, "pinned", 3);
    site.run(&["launch", "tiny", "--name", "better", "--memory", "64M", "--target", "stopped"]);
    // Changed files come into force as ever.
    std::fs::write(site.policy("quota.lua"), SMALL).unwrap();
    until_generation(&site, "good", 4);
    // An administrator goes back by himself, by generation, by hash, and to what was before; also when every script is broken.
    assert_eq!(site.ok(&["policy", "rollback", "1"])["generation"], 5);
    assert_eq!(status(&site)["state"], "pinned");
    let history = site.ok(&["policy", "history"]);
    let hash = history.as_array().unwrap().iter().find(|entry| entry["generation"] == 4).unwrap()["hash"].as_str().unwrap();
    assert_eq!(site.ok(&["policy", "rollback", &hash[..12]])["generation"], 6);
    assert_eq!(status(&site)["state"], "good", "these are the folder's files");
    assert_eq!(site.vws(&["policy", "rollback", "4711"]).error().0, "NotFound");
    assert_eq!(site.vws(&["policy", "rollback", "no-hash"]).error().0, "InvalidArgument");
    std::fs::write(site.policy("access.lua"), "return { decide = function() while true do end end }").unwrap();
    until_generation(&site, "good", 7);
    assert_eq!(site.ok(&["policy", "rollback"])["generation"], 8);
    let verbs = site.ok(&["decisions", "--verb", "policy-manage", "--limit", "1"]);
    assert_eq!((&verbs[0]["permitted"], &verbs[0]["native"]), (&Value::from(true), &Value::from(true)), "{verbs}");
    site.run(&["launch", "tiny", "--name", "again", "--memory", "64M", "--target", "stopped"]);
    // Asked for, the folder's files come back.
    assert_eq!(site.ok(&["policy", "reload"])["generation"], 9);
}

#[test]
fn why_shows_the_line_as_it_was_and_secrets_are_not_kept() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    std::fs::write(site.policy("quota.lua"), SMALL).unwrap();
    until_generation(&site, "good", 2);
    let secret = "hush-4a5b6c";
    let data = site.dir().join("user-data");
    std::fs::write(&data, format!("#cloud-config\npassword: {secret}\n")).unwrap();
    let data = data.to_str().unwrap();
    let launch = |name, memory| {
        site.vws(&["launch", "tiny", "--name", name, "--memory", memory, "--user-data", data, "--target", "stopped"])
    };
    assert_eq!(launch("big", "128M").error().1, "too-big");
    assert_eq!(launch("small", "64M").code, 0);
    std::fs::write(site.policy("quota.lua"), shipped("quota.lua")).unwrap();
    until_generation(&site, "good", 3);
    let why = site.ok(&["why", "big"]);
    assert!(why[0]["source"].as_str().unwrap().contains("return deny(\"too-big\""), "{why:#}");
    let told = site.ok(&["decisions", "--limit", "1000"]).to_string();
    assert!(!told.contains(secret), "{told}");
    assert_eq!(site.ok(&["decisions", "--verdict", "deny", "--verb", "launch"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_shadow_judges_beside_and_an_audit_what_is_there() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    let other = folder(&site, "small", "quota.lua", SMALL);
    site.run(&["launch", "tiny", "--name", "before", "--memory", "128M", "--target", "stopped"]);
    assert_eq!(site.ok(&["policy", "shadow", "status"]), serde_json::json!({}));
    site.run(&["policy", "shadow", "start", path(&other)]);
    site.run(&["launch", "tiny", "--name", "big", "--memory", "128M", "--target", "stopped"]);
    site.run(&["launch", "tiny", "--name", "small", "--memory", "64M", "--target", "stopped"]);
    let found = until("the shadow has judged", || {
        let found = site.ok(&["policy", "shadow", "status"]);
        (found["judged"].as_u64().unwrap() >= 2).then_some(found)
    });
    // The small one is let through by both, without the shipped policies' limit of the lease.
    assert_eq!(found["kinds"], serde_json::json!({ "permit to deny": 1, "other limits": 1 }), "{found:#}");
    assert_eq!(found["examples"][0]["name"], "big", "{found:#}");
    assert_eq!(status(&site)["generation"], 1);
    site.run(&["policy", "shadow", "stop"]);
    assert_eq!(site.vws(&["policy", "shadow", "stop"]).error().0, "NotFound");

    let now = site.ok(&["policy", "audit"]);
    assert_eq!((&now["judged"], &now["refused"]), (&Value::from(3), &serde_json::json!([])), "{now:#}");
    let then = site.ok(&["policy", "audit", "--with", path(&other)]);
    let names: Vec<&str> = then["refused"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2, "{then:#}");
    assert!(names.contains(&"before") && names.contains(&"big"), "{then:#}");
    assert_eq!(then["refused"][0]["source"], "return deny(\"too-big\", \"96 MiB at most\")", "{then:#}");
}

#[test]
fn a_set_whose_own_tests_fail_is_blocked() {
    let site = Site::start(&Plan::default());
    let test = "return { { name = \"launches are let through\", input = { request = { memory_mib = 64 } }, expect = { verdict = \"permit\" } } }\n";
    std::fs::write(site.policy("quota_test.lua"), test).unwrap();
    let refusing = "return { decide = function(input)\n  return deny(\"closed\", \"not today\")\nend }\n";
    std::fs::write(site.policy("quota.lua"), refusing).unwrap();
    until_generation(&site, "stale", 1);
    let told = status(&site);
    assert_eq!(
        (&told["errors"][0]["code"], &told["errors"][0]["file"]),
        (&"test-failed".into(), &"quota_test.lua".into()),
        "{told:#}"
    );
    assert_eq!(told["last_reload"]["tests"], "1 of 1 tests failed", "{told:#}");
    std::fs::write(site.policy("quota.lua"), SMALL).unwrap();
    until_generation(&site, "good", 2);
    assert_eq!(status(&site)["last_reload"]["tests"], "1 tests passed");
}
