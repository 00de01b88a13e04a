//! More and less of a workspace while it runs, and its snapshots: through quota and capacity, with nothing booked for what failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use vws_tests::{Plan, Site};

fn site(settings: &str) -> Site {
    let site = Site::start(&Plan { settings: format!("vcpus = 8\nmemory_mib = 4096\n{settings}"), ..Plan::default() });
    site.import("tiny");
    site
}

fn sizes(site: &Site) -> (u64, u64, u64, u64) {
    let seen = site.ok(&["info", "one"]);
    let held = &seen["description"]["reservation"];
    assert_eq!(held["memory_mib"], seen["memory_mib"], "{seen}");
    assert_eq!(held["vcpus"], seen["vcpus"], "{seen}");
    let of = |key: &str| seen[key].as_u64().unwrap_or_else(|| panic!("{key} of {seen}"));
    (of("vcpus"), of("memory_mib"), of("memory_max_mib"), of("disk_gib"))
}

#[test]
fn it_grows_and_shrinks_within_its_ceilings_while_it_runs() {
    let site = site("");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "512M", "--memory-max", "2G", "--vcpus-max", "4", "--disk", "2G"]);
    site.run(&["resize", "one", "--memory", "1G", "--vcpus", "2", "--disk", "3G", "--disk-iops", "100"]);
    assert_eq!(sizes(&site), (2, 1024, 2048, 3));
    let limit = site.ok(&["info", "one"])["description"]["spec"]["disk_iops"].as_u64();
    assert_eq!(limit, Some(100));
    site.run(&["resize", "one", "--memory", "256M"]);
    assert_eq!(sizes(&site).1, 256);
    // It can grow back: the ceiling is that of its start.
    site.run(&["resize", "one", "--memory", "2G"]);
    let again = site.ok(&["resize", "one", "--memory", "2G"]);
    assert!(again["job"].is_null(), "{again}");
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn what_needs_a_restart_says_so_and_is_done_when_it_is_stopped() {
    let site = site("");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "512M"]);
    let refused = site.refused(&["resize", "one", "--memory", "1G"], 1);
    assert!(refused.contains("above its ceiling of 512 MiB") && refused.contains("stop it"), "{refused}");
    let explained = site.refused(&["explain", "resize", "one", "--memory", "1G"], 1);
    assert!(explained.contains("above its ceiling"), "{explained}");
    site.run(&["stop", "one"]);
    site.run(&["resize", "one", "--memory", "1G"]);
    assert_eq!(sizes(&site).1, 1024);
    site.run(&["start", "one"]);
    let smaller = site.refused(&["resize", "one", "--disk", "0"], 2);
    assert!(smaller.contains("disk"), "{smaller}");
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn quota_and_room_judge_it_and_a_refusal_books_nothing() {
    let site = site("");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "512M", "--memory-max", "64G", "--vcpus-max", "64"]);
    let before = sizes(&site);
    let refused = site.refused(&["resize", "one", "--memory", "8G"], 6);
    assert!(refused.contains("host `h1`") && refused.contains("free"), "{refused}");
    let explained = site.ok(&["explain", "resize", "one", "--memory", "8G"]);
    assert_eq!(explained["permitted"], false, "{explained}");
    assert_eq!(sizes(&site), before);
    let permitted = site.ok(&["explain", "resize", "one", "--memory", "1G"]);
    assert_eq!(permitted["permitted"], true, "{permitted}");
    assert_eq!(sizes(&site), before, "explain changes nothing");
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn a_failed_resize_books_what_the_machine_has() {
    // The first call (memory) passes, the second (vCPUs) fails, the third takes the memory back.
    let site = site("fail = [{ method = \"workspace.resize\", nth = 2, code = \"hypervisor\" }]");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "512M", "--memory-max", "1G", "--vcpus-max", "4"]);
    let before = sizes(&site);
    let failed = site.refused(&["resize", "one", "--memory", "1G", "--vcpus", "4"], 1);
    assert!(failed.contains("resize"), "{failed}");
    assert_eq!(sizes(&site), before);
    assert_eq!(site.ok(&["info", "one"])["state"], "running");
    site.run(&["resize", "one", "--memory", "1G", "--vcpus", "4"]);
    assert_eq!((sizes(&site).0, sizes(&site).1), (4, 1024));
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn a_host_that_cannot_is_named_with_its_reason() {
    let site = site("cannot = { \"shrink-vcpus\" = \"it would hang every later save\" }");
    site.run(&["launch", "tiny", "--name", "one", "--vcpus", "2"]);
    let refused = site.refused(&["resize", "one", "--vcpus", "1"], 1);
    assert!(refused.contains("cannot shrink-vcpus: it would hang every later save"), "{refused}");
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn snapshots_are_kept_reverted_to_and_dropped() {
    let site = site("");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M"]);
    site.run(&["snapshot", "create", "one", "before", "--memory"]);
    site.run(&["snapshot", "create", "one", "disks"]);
    let list = site.ok(&["snapshot", "list", "one"]);
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|kept| kept["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["before", "disks"]);
    let twice = site.refused(&["snapshot", "create", "one", "before"], 1);
    assert!(twice.contains("there is one of this name"), "{twice}");
    let bundle = site.refused(&["serialize", "one"], 1);
    assert!(bundle.contains("2 snapshots") && bundle.contains("vws snapshot remove"), "{bundle}");
    let running = site.refused(&["snapshot", "revert", "one", "disks"], 1);
    assert!(running.contains("stop it first"), "{running}");
    site.run(&["stop", "one"]);
    site.run(&["snapshot", "revert", "one", "before"]);
    assert_eq!(site.ok(&["info", "one"])["state"], "running");
    site.run(&["snapshot", "remove", "one", "before"]);
    let gone = site.refused(&["snapshot", "revert", "one", "before"], 3);
    assert!(gone.contains("it has disks"), "{gone}");
    site.run(&["snapshot", "remove", "one", "disks"]);
    site.run(&["serialize", "one"]);
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}
