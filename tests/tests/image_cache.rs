//! Images on hosts: one transfer an image and host however many want it at once, and a cache that keeps below its limit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use std::path::PathBuf;
use vws_tests::bus::{none, run};
use vws_tests::{Plan, Site, root, until};
use zbus::Variant;

/// Transfers that a host saw.
fn transfers(site: &Site, host: &str) -> usize {
    let told = std::fs::read_to_string(site.dir().join("sim").join(host).join("transfers")).unwrap_or_default();
    told.lines().count()
}

/// The shipped policies, with room for more workspaces of one user.
fn policies() -> Vec<(&'static str, String)> {
    let read = |name: &str| std::fs::read_to_string(root().join("policies").join(name)).unwrap();
    let quota = read("quota.lua");
    let roomy = quota.replace("workspaces = 50,", "workspaces = 500,");
    assert_ne!(quota, roomy);
    vec![("access.lua", read("access.lua")), ("quota.lua", roomy), ("placement.lua", read("placement.lua"))]
}

/// Launches so many stopped workspaces at once, in turn on these hosts, and waits until they are there.
fn launch(site: &Site, count: usize, hosts: &[&'static str]) {
    let hosts = hosts.to_vec();
    run(async {
        let client = site.client().await;
        let manager = client.manager().await.unwrap();
        let calls = (0..count).map(|at| {
            let (manager, host) = (manager.clone(), hosts[at % hosts.len()]);
            async move {
                let mut spec = none();
                for (key, word) in [("image", "tiny"), ("host", host), ("target", "stopped")] {
                    spec.insert(key, Variant::from(word));
                }
                spec.insert("memory-mib", Variant::from(64_u64));
                manager.create_workspace(&format!("w{at}"), &spec, &none()).await.unwrap();
            }
        });
        futures_util::future::join_all(calls).await;
    });
    until("all are there", || {
        let all = site.ok(&["list", "--state", "stopped"]);
        (all.as_array().unwrap().len() == count).then_some(())
    });
}

#[test]
fn many_launches_of_an_image_on_one_host_are_one_transfer() {
    let settings = "vcpus = 128\nlatency_ms = 20\n".to_owned();
    let site = Site::start(&Plan { settings, policies: policies(), ..Plan::default() });
    site.import("tiny");
    launch(&site, 64, &["h1"]);
    assert_eq!(transfers(&site, "h1"), 1);
}

#[test]
fn over_three_hosts_it_is_one_each_also_below_a_limit() {
    let settings = "vcpus = 128\nlatency_ms = 20\n".to_owned();
    let site = Site::start(&Plan { hosts: vec!["h1", "h2", "h3"], settings, policies: policies(), ..Plan::default() });
    site.run(&["host", "change", "h3", "--image-cache", "1G"]);
    site.import("tiny");
    launch(&site, 64, &["h1", "h2", "h3"]);
    assert_eq!(["h1", "h2", "h3"].map(|host| transfers(&site, host)), [1, 1, 1]);
}

fn cached(site: &Site, host: &str) -> Vec<Value> {
    site.ok(&["host", "images", host]).as_array().unwrap().clone()
}

fn names(images: &[Value]) -> Vec<&str> {
    images.iter().filter_map(|image| image["names"][0].as_str()).collect()
}

/// Lets the host say that an image of its cache is so large.
fn grow(site: &Site, name: &str, mib: u64) {
    let digest = site.ok(&["image", "info", name])["digest"].as_str().unwrap().to_owned();
    let file: PathBuf = site.dir().join("sim/h1/images").join(format!("{digest}.json"));
    assert!(file.exists(), "{name} is not on the host");
    std::fs::write(file, (mib << 20).to_string()).unwrap();
}

#[test]
fn the_least_recently_used_image_that_nobody_uses_makes_room() {
    let mut site = Site::start(&Plan::default());
    site.run(&["host", "change", "h1", "--image-cache", "1G"]);
    assert_eq!(site.ok(&["host", "show", "h1"])["image_cache_gib"], 1);
    for name in ["one", "two", "three", "four"] {
        site.import(name);
    }
    let launch = |site: &Site, image: &str| site.run(&["launch", image, "--name", image, "--memory", "64M", "--disk", "1G"]);
    for name in ["one", "two"] {
        launch(&site, name);
        grow(&site, name, 500);
    }
    for name in ["two", "one"] {
        site.run(&["destroy", name]);
    }
    // Both fit; a third of 100 MiB does not, and `two` was left first.
    launch(&site, "three");
    grow(&site, "three", 100);
    assert_eq!(cached(&site, "h1").len(), 3, "1002 MiB are below the limit");
    // After a restart the order is still known.
    site.kill_daemon();
    site.start_daemon();
    until("the host is back", || (site.ok(&["host", "show", "h1"])["state"] == "up").then_some(()));
    launch(&site, "four");
    let images = cached(&site, "h1");
    assert_eq!(names(&images).len(), 3, "{images:?}");
    assert!(!names(&images).contains(&"two"), "{images:?}");
    let one = images.iter().find(|image| image["names"][0] == "one").unwrap();
    assert!(one["workspaces"] == 0 && one["last_used"].as_u64().unwrap() > 0 && one["size_bytes"] == 500 << 20, "{one}");

    // What is in use stays, whatever it takes: the launch fails, says why and leaves nothing.
    grow(&site, "four", 1000);
    let said = site.vws(&["launch", "two", "--name", "two", "--memory", "64M", "--disk", "1G"]);
    let (_, code, text) = said.error();
    assert_eq!(code, "image-cache-full", "{said:?}");
    assert!(text.contains("limit of 1 GiB") && text.contains("raises `image-cache-gib`"), "{text}");
    assert_eq!(site.state("two"), "gone");

    // By hand: not what is in use.
    let digest = |name: &str| site.ok(&["image", "info", name])["digest"].as_str().unwrap().to_owned();
    let refused = site.refused(&["host", "images", "h1", "--remove", &digest("four")], 1);
    assert!(refused.contains("1 workspaces there use it"), "{refused}");
    let missing = site.refused(&["host", "images", "h1", "--remove", &"0".repeat(64)], 3);
    assert!(missing.contains("not found"), "{missing}");
    site.run(&["destroy", "four"]);
    site.run(&["host", "images", "h1", "--remove", &digest("four")[..12]]);
    assert!(!names(&cached(&site, "h1")).contains(&"four"));
    launch(&site, "four");
}
