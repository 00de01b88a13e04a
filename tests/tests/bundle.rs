//! Bundles: here and there, later, once; what a host must have for one; what is refused and what is left then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use vws_tests::{Plan, Site, until};

/// A site whose hosts have settings of their own: name and the inside of a TOML table.
fn site(hosts: &[(&'static str, &str)]) -> Site {
    let mut site = Site::prepare(&Plan { hosts: Vec::new(), ..Plan::default() });
    let path = site.dir().join("vwsd.toml");
    let mut config = std::fs::read_to_string(&path).unwrap();
    for (host, settings) in hosts {
        let sim = site.dir().join("sim");
        config.push_str(&format!(
            "[hosts.{host}]\nbackend = \"sim\"\n[hosts.{host}.settings]\ndirectory = \"{}\"\n{settings}\n",
            sim.display()
        ));
    }
    std::fs::write(path, config).unwrap();
    site.start_daemon();
    for (host, _) in hosts {
        until("a host is probed", || (site.ok(&["host", "show", host])["state"] == "up").then_some(()));
    }
    site
}

/// The newest count that the guest printed.
fn counted(site: &Site, workspace: &str) -> u64 {
    let log = site.ok(&["logs", workspace]);
    let text = log["text"].as_str().unwrap().to_owned();
    text.lines().rev().find_map(|line| line.strip_prefix("TICK ")?.parse().ok()).unwrap_or(0)
}

/// The folder of the one bundle in the library.
fn bundle_folder(site: &Site) -> PathBuf {
    let mut found = std::fs::read_dir(site.dir().join("state/library/bundles")).unwrap();
    let folder = found.next().expect("there is a bundle").unwrap().path();
    assert!(found.next().is_none(), "there is one bundle");
    folder
}

fn outcome<'a>(explained: &'a Value, host: &str) -> (&'a str, &'a str, &'a str) {
    let found = explained["hosts"].as_array().unwrap().iter().find(|one| one["host"] == host);
    let found = found.unwrap_or_else(|| panic!("nothing is said of {host}: {explained}"));
    let word = |key: &str| found[key].as_str().unwrap_or("");
    (word("outcome"), word("code"), word("text"))
}

#[test]
fn a_guest_goes_on_elsewhere_after_a_restart_and_only_once() {
    let newer = "machine_types = [\"sim-2\", \"sim-1\"]\ncpus = [\"sim-big\", \"sim\"]";
    let mut site = site(&[("h1", ""), ("h2", newer)]);
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M", "--host", "h1"]);
    until("the guest counts", || (counted(&site, "one") >= 3).then_some(()));
    let before = counted(&site, "one");
    site.run(&["serialize", "one"]);
    assert!(site.machines("h1").is_empty(), "it has left its host");
    site.kill_daemon();
    // The host that it came from is no more; the other one never saw the image.
    std::fs::remove_dir_all(site.dir().join("sim/h1")).unwrap();
    site.start_daemon();
    site.run(&["host", "remove", "h1"]);
    site.run(&["resume", "one"]);
    assert_eq!(site.ok(&["info", "one"])["host"], "h2");
    let (_, machine) = site.machines("h2").remove(0);
    assert_eq!(machine["boots"], 1, "it was resumed, not booted: {machine}");
    assert!(counted(&site, "one") >= before, "its memory went on");
    let again = site.vws(&["resume", "one"]);
    assert_eq!((again.code, site.machines("h2").len()), (0, 1), "it is running already: {}", again.talk);
    let bundles: Vec<_> = std::fs::read_dir(site.dir().join("state/library/bundles")).unwrap().collect();
    assert!(bundles.is_empty(), "the bundle is used up: {bundles:?}");
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h2"]);
}

#[test]
fn each_host_says_whether_it_can_and_if_not_why() {
    let site = site(&[
        ("h0", "networks = [\"lab\"]"),
        ("cpu", "networks = [\"lab\"]\ncpus = [\"other\"]"),
        ("machine", "networks = [\"lab\"]\nmachine_types = [\"sim-2\", \"sim-3\"]"),
        ("accel", "networks = [\"lab\"]\naccelerator = \"magic\""),
        ("net", "networks = [\"default\", \"dmz\"]"),
        ("small", "networks = [\"lab\"]\nmemory_mib = 32"),
        ("newer", "networks = [\"lab\"]\nmachine_types = [\"sim-2\", \"sim-1\"]"),
        ("cannot", "networks = [\"lab\"]\ncannot = { serialize = \"its disk is too slow\" }"),
    ]);
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M", "--host", "h0", "--nic", "network=lab"]);
    site.run(&["serialize", "one"]);
    let explained = site.ok(&["explain", "resume", "one"]);
    assert_eq!(explained["permitted"], true, "{explained}");
    for (host, code, words) in [
        ("cpu", "cpu", "has no CPU model `sim`, which the guest was started with (it has other)"),
        (
            "machine",
            "machine",
            "its emulator knows no machine type `sim-1`, which the guest was started as (it has sim-2, sim-3)",
        ),
        (
            "accel",
            "accelerator",
            "runs guests with magic; the guest's memory was made with `simulation` and goes on with nothing else",
        ),
        ("net", "network", "has no network `lab` (it has default, dmz)"),
        ("small", "too-large", "64 memory_mib asked, the host gives out 32 at most"),
        ("cannot", "unsupported", "`serialize`: its disk is too slow"),
    ] {
        assert_eq!(outcome(&explained, host), ("filtered", code, words));
    }
    for host in ["h0", "newer"] {
        assert_eq!(outcome(&explained, host).0, "scored", "{host}: {explained}");
    }
    // The real call says the same.
    let refused = site.vws(&["resume", "one", "--host", "cpu"]).error();
    assert!(refused.0 == "NoHost" && refused.2.contains("has no CPU model `sim`"), "{refused:?}");
    assert_eq!(site.state("one"), "serialized");
    site.run(&["resume", "one", "--host", "newer"]);
    assert_eq!(site.ok(&["info", "one"])["host"], "newer");
}

#[test]
fn a_damaged_bundle_touches_no_host_and_is_kept() {
    let site = site(&[("h1", ""), ("h2", "")]);
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M", "--host", "h1"]);
    site.run(&["serialize", "one"]);
    let memory = OpenOptions::new().read(true).write(true).open(bundle_folder(&site).join("memory")).unwrap();
    let mut byte = [0_u8];
    memory.read_exact_at(&mut byte, 200).unwrap();
    memory.write_all_at(&[byte[0] ^ 1], 200).unwrap();
    let refused = site.vws(&["resume", "one", "--host", "h2"]).error();
    assert!(refused.0 == "Damaged" && refused.2.contains("file `memory` of bundle"), "{refused:?}");
    assert_eq!(site.state("one"), "serialized");
    assert!(site.machines("h2").is_empty());
    assert!(!site.dir().join("sim/h2/images").read_dir().is_ok_and(|mut images| images.next().is_some()), "no image was sent");
    memory.write_all_at(&byte, 200).unwrap();
    site.run(&["resume", "one", "--host", "h2"]);
    assert_eq!(site.state("one"), "running");
}
