//! Starts that must not succeed, and such that must although something is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use vws_tests::{Plan, Site};

/// Every file of the database, with its bytes; not the lock, in which the last one that tried stands.
fn database(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let of_database = |entry: &std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        name.starts_with("vws.db") && !name.ends_with(".lock")
    };
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap).filter(of_database);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

/// Where SQLite's header keeps `user_version`, big-endian.
const USER_VERSION: usize = 60;

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let mut site = Site::start(&Plan::default());
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M"]);
    site.stop_daemon();
    let path = site.dir().join("state/vws.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let version = u32::from_be_bytes(bytes[USER_VERSION..USER_VERSION + 4].try_into().unwrap());
    assert!(version > 0, "the version stands in the header");
    bytes[USER_VERSION..USER_VERSION + 4].copy_from_slice(&(version + 1).to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let before = database(&site.dir().join("state"));

    let refused = site.daemon_command().output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    for word in ["vws.db", &format!("version {}", version + 1), &format!("{version}"), "newer"] {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    let after = database(&site.dir().join("state"));
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(after == before, "a file was changed");
    assert_eq!(site.machines("h1").len(), 1, "its machine goes on");

    // With its own version it is what it was.
    bytes[USER_VERSION..USER_VERSION + 4].copy_from_slice(&version.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    site.start_daemon();
    site.until_state("one", "running");
    assert_eq!(site.findings(), Vec::<String>::new());
}

#[test]
fn a_file_that_is_no_database_of_ours_is_refused_and_left_alone() {
    for bytes in
        [b"this is no database, and long enough to be looked at as one ........................................".to_vec()]
    {
        let mut site = Site::prepare(&Plan::default());
        let state = site.dir().join("state");
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(state.join("vws.db"), &bytes).unwrap();
        let refused = site.daemon_command().output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("vws.db") && !said.contains("panicked"), "{said}");
        assert_eq!(std::fs::read(state.join("vws.db")).unwrap(), bytes);
        std::fs::remove_file(state.join("vws.db")).unwrap();
        site.start_daemon();
    }
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    let second = site.daemon_command().output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success());
    assert!(said.contains("is in use by process") && said.contains("--state"), "{said}");
    // The first one does not notice.
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M"]);
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}

/// The daemon serves, decides nothing, and says why; with good policies it goes on.
fn decides_nothing_until_mended(files: &[(&str, &str)], says: &[&str]) {
    let mut site = Site::prepare(&Plan::default());
    let good: Vec<_> = ["access.lua", "quota.lua", "placement.lua"]
        .into_iter()
        .map(|name| (name, std::fs::read_to_string(site.policy(name)).unwrap()))
        .collect();
    for (name, _) in &good {
        std::fs::remove_file(site.policy(name)).unwrap();
    }
    for (name, text) in files {
        std::fs::write(site.policy(name), text).unwrap();
    }
    site.start_daemon();
    let status = site.ok(&["policy", "status"]);
    assert_eq!((&status["state"], &status["generation"]), (&"none".into(), &0.into()), "{status}");
    let told = status["errors"].to_string();
    let log = site.log();
    for word in says {
        assert!(told.contains(word), "status: no `{word}` in {told}");
        assert!(log.contains(word), "log: no `{word}` in {log}");
    }
    let disk = site.disk("tiny.raw");
    let import = ["image", "import", "tiny", disk.to_str().unwrap(), "--format", "raw", "--public"];
    let said = site.vws(&import);
    assert_eq!(said.code, 9, "{said:?}");
    site.assert_refuses(&import, "PolicyFailure", "policy-unavailable", &["image-import of `tiny`", "vws policy status"]);
    assert_eq!(site.ok(&["list"]), serde_json::json!([]), "an administrator can look");
    assert_eq!(site.ok(&["image", "list"]), serde_json::json!([]), "nothing is left");
    for (name, text) in &good {
        std::fs::write(site.policy(name), text).unwrap();
    }
    vws_tests::until("the policies are in force", || (site.ok(&["policy", "status"])["state"] == "good").then_some(()));
    site.import("tiny");
}

#[test]
fn an_empty_policy_folder_refuses_every_decision() {
    decides_nothing_until_mended(&[], &["access.lua"]);
}

#[test]
fn a_syntax_error_at_the_first_start_refuses_every_decision() {
    let broken = "local rule = 1\nreturn {\n  decide = = 2\n}\n";
    let access = "return { decide = function() return permit(\"all\") end }\n";
    let placement = "return {}\n";
    decides_nothing_until_mended(
        &[("access.lua", access), ("quota.lua", broken), ("placement.lua", placement)],
        &["quota.lua", "3"],
    );
}
