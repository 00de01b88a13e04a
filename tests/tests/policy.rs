//! Policies are changed while the daemon runs: edited, renamed into place, swapped by a link; broken and mended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use vws_tests::{Plan, Site, root, until};

fn status(site: &Site) -> (String, u64) {
    let status = site.ok(&["policy", "status"]);
    (status["state"].as_str().unwrap().to_owned(), status["generation"].as_u64().unwrap())
}

fn until_status(site: &Site, state: &str, generation: u64) {
    until(&format!("policies are {state}, generation {generation}"), || {
        (status(site) == (state.to_owned(), generation)).then_some(())
    });
}

fn shipped(name: &str) -> String {
    std::fs::read_to_string(root().join("policies").join(name)).unwrap()
}

fn refusing(code: &str) -> String {
    format!("return {{ decide = function(input)\n  return deny(\"{code}\", \"not today\")\nend }}\n")
}

const LAUNCH: &[&str] = &["launch", "tiny", "--name", "one", "--memory", "64M", "--target", "stopped"];

#[test]
fn every_way_of_editing_takes_effect() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    assert_eq!(status(&site), ("good".to_owned(), 1));

    std::fs::write(site.policy("quota.lua"), refusing("in-place")).unwrap();
    until_status(&site, "good", 2);
    let (name, code, message) = site.vws(LAUNCH).error();
    assert_eq!((name.as_str(), code.as_str()), ("QuotaExceeded", "in-place"), "{message}");
    assert!(message.contains("not today") && message.contains("quota.lua:2"), "{message}");

    let beside = site.policy("quota.lua.new");
    std::fs::write(&beside, refusing("renamed")).unwrap();
    std::fs::rename(&beside, site.policy("quota.lua")).unwrap();
    until_status(&site, "good", 3);
    assert_eq!(site.vws(LAUNCH).error().1, "renamed");

    // A broken file leaves the last good set in force, and says so.
    std::fs::write(site.policy("quota.lua"), "return {\n  decide = = 1\n}\n").unwrap();
    until_status(&site, "stale", 3);
    let told = site.ok(&["policy", "status"]);
    assert_eq!((&told["errors"][0]["file"], &told["errors"][0]["line"]), (&Value::from("quota.lua"), &Value::from(2)), "{told}");
    assert_eq!(site.vws(LAUNCH).error().1, "renamed");

    std::fs::write(site.policy("quota.lua"), shipped("quota.lua")).unwrap();
    until_status(&site, "good", 4);
    site.run(LAUNCH);
}

#[test]
fn a_folder_behind_a_link_is_swapped_at_once() {
    let mut site = Site::prepare(&Plan::default());
    let first = site.dir().join("set-1");
    std::fs::rename(site.dir().join("policies"), &first).unwrap();
    std::os::unix::fs::symlink(&first, site.dir().join("policies")).unwrap();
    site.start_daemon();
    let second = site.dir().join("set-2");
    std::fs::create_dir(&second).unwrap();
    for name in ["access.lua", "placement.lua"] {
        std::fs::write(second.join(name), shipped(name)).unwrap();
    }
    std::fs::write(second.join("quota.lua"), refusing("swapped")).unwrap();
    let link = site.dir().join("link");
    std::os::unix::fs::symlink(&second, &link).unwrap();
    std::fs::rename(&link, site.dir().join("policies")).unwrap();
    until_status(&site, "good", 2);
    site.import("tiny");
    assert_eq!(site.vws(LAUNCH).error().1, "swapped");
}

#[test]
fn restrictions_are_applied_and_refusals_can_be_looked_up() {
    let quota = "return { decide = function(input)\n  if input.request.name == \"no\" then\n    return deny(\"no-such\", \"never\")\n  end\n  \
                 return restrict({ memory_mib = 128, duration_seconds = 600, code = \"small\", text = \"small ones only\" })\nend }\n";
    let policies =
        vec![("access.lua", shipped("access.lua")), ("quota.lua", quota.to_owned()), ("placement.lua", shipped("placement.lua"))];
    let site = Site::start(&Plan { policies, ..Plan::default() });
    site.import("tiny");
    let workspace = site.ok(&["launch", "tiny", "--name", "one", "--memory", "4G", "--lease", "9h"])["workspace"].clone();
    assert_eq!(workspace["memory_mib"], 128, "{workspace}");
    let lease = workspace["lease_until"].as_u64().unwrap() - workspace["created_at"].as_u64().unwrap();
    assert_eq!(lease, 600_000_000, "{workspace}");
    assert_eq!(site.machines("h1")[0].1["doc"]["memory_mib"], 128);

    let (_, _, message) = site.vws(&["launch", "tiny", "--name", "no", "--memory", "64M"]).error();
    let id = message
        .split(|c: char| !c.is_ascii_hexdigit())
        .find(|word| word.len() == 32)
        .unwrap_or_else(|| panic!("no decision: {message}"));
    let why = site.ok(&["why", id]);
    assert_eq!((&why[0]["permitted"], &why[0]["generation"]), (&Value::from(false), &Value::from(1)), "{why}");
    assert!(why[0]["source"].as_str().unwrap().contains("deny(\"no-such\""), "{why}");
}
