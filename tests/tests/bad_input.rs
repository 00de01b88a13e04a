//! Requests that cannot be: refused with a name, an object, a fact and a remedy, and nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use vws_bus::client::Args;
use vws_tests::bus::{none, run};
use vws_tests::refusal::{Refusal, assert_refusal};
use vws_tests::{Plan, Site, until};
use zbus::Variant;

#[test]
fn names_are_host_name_labels() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    let long = "x".repeat(300);
    let bad = ["<b>", "it's", "say\"so\"", "a\nb", "a;b", "a b", "-a", "a-", "", "\u{e9}t\u{e9}", "../a", &long];
    for name in bad {
        let shown = if name.contains('\n') { "a\\nb" } else { &name[..name.len().min(60)] };
        site.assert_refuses(
            &["launch", "tiny", &format!("--name={name}")],
            "InvalidArgument",
            "",
            &["workspace name", shown, "1 to 63 characters"],
        );
        site.assert_refuses(&["explain", "launch", "tiny", &format!("--name={name}")], "InvalidArgument", "", &["1 to 63"]);
        site.assert_refuses(&["info", "--", &format!("{name}!")], "NotFound", "", &[]);
    }
    // The same for a change, and for names of images and hosts.
    site.run(&["launch", "tiny", "--name", "good", "--memory", "64M", "--target", "stopped"]);
    let disk = site.disk("other.raw");
    let disk = disk.to_str().unwrap();
    for name in ["<b>", "it's", "say\"so\"", "a\nb", &long] {
        site.assert_refuses(&["change", "good", "--name", name], "InvalidArgument", "", &["1 to 63"]);
        site.assert_refuses(&["image", "import", name, disk, "--format", "raw"], "InvalidArgument", "", &["image name"]);
        site.assert_refuses(&["host", "add", name, "--backend", "sim"], "InvalidArgument", "", &["host name"]);
    }
    assert_eq!(site.ok(&["image", "list"]).as_array().unwrap().len(), 1);
    assert_eq!(site.ok(&["host", "list"]).as_array().unwrap().len(), 1);
    site.run(&["destroy", "good"]);
    site.assert_empty(&["h1"]);
}

/// Asks for a workspace with one key set, over the bus, as a client that checks nothing would.
fn asked(site: &Site, key: &'static str, value: Variant<'static>) -> Option<(String, String, String)> {
    let answer = run(async {
        let manager = site.client().await.manager().await.unwrap();
        let mut spec: Args<'_> = none();
        spec.insert("image", Variant::from("tiny"));
        spec.insert(key, value);
        manager.create_workspace("one", &spec, &none()).await
    });
    let failure = vws_bus::failure::Failure::from(answer.err()?);
    Some((failure.name.rsplit('.').next().unwrap().to_owned(), failure.code, failure.message))
}

#[test]
fn numbers_out_of_range_are_refused_with_the_range() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    let most = 1_u64 << 63;
    let cases: &[(&'static str, u64, &[&str])] = &[
        ("memory-mib", 0, &["memory-mib", "0", "1 to 67108864"]),
        ("memory-mib", most, &["9223372036854775808", "67108864"]),
        ("memory-mib", u64::MAX, &["18446744073709551615"]),
        ("vcpus", 0, &["vcpus", "1 to 1024"]),
        ("vcpus", most, &["vcpus"]),
        ("disk-gib", most, &["disk-gib", "1048576"]),
        ("cpu-shares", 1, &["cpu-shares", "2 to 262144"]),
        ("lease-seconds", most, &["lease-seconds", "316224000"]),
        ("lease-seconds", u64::MAX, &["lease-seconds"]),
    ];
    for (key, value, words) in cases {
        let (name, code, message) = asked(&site, key, Variant::from(*value)).unwrap_or_else(|| panic!("{key} = {value}: taken"));
        let expected = Refusal { name: "InvalidArgument", code: "", words };
        assert_refusal(&format!("{key} = {value}"), expected, &name, &code, &message);
    }
    let (name, _, message) = asked(&site, "colour", Variant::from("red")).unwrap();
    assert!(name == "InvalidArgument" && message.contains("`colour`"), "{name}: {message}");
    let (name, _, message) = asked(&site, "memory-mib", Variant::from("much")).unwrap();
    assert!(name == "InvalidArgument" && message.contains("memory-mib"), "{name}: {message}");
    site.assert_empty(&["h1"]);
}

#[test]
fn too_large_for_ever_and_too_large_for_now_are_told_apart() {
    let site = Site::start(&Plan { settings: "memory_mib = 1024".to_owned(), ..Plan::default() });
    site.import("tiny");
    let launch = |name: &'static str, memory: &'static str| ["launch", "tiny", "--name", name, "--memory", memory];
    let ever = ["too large for every host", "`h1`", "1024", "2048", "waiting does not help"];
    site.assert_refuses(&launch("big", "2G"), "NoHost", "too-large-for-every-host", &ever);
    site.run(&launch("one", "900M"));
    site.assert_refuses(&launch("two", "900M"), "NoHost", "no-room-now", &["900", "124", "when something has ended"]);
    // Still too large for ever, however little is free.
    site.assert_refuses(&launch("big", "2G"), "NoHost", "too-large-for-every-host", &ever);
    // The remedy is one.
    site.run(&["destroy", "one"]);
    site.run(&launch("two", "900M"));
    site.run(&["destroy", "two"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn leases_are_in_the_future_and_end() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    for lease in ["-5s", "0s", "2001-01-01", "yesterday", "99999999999999999999s"] {
        let lease = format!("--lease={lease}");
        let said = site.vws(&["launch", "tiny", "--name", "one", &lease]);
        assert_eq!((said.code, said.error().0.as_str()), (2, "InvalidArgument"), "{lease}: {said:?}");
        assert!(said.error().2.contains("--lease"), "{lease}: {said:?}");
    }
    let too_long = ["lease-seconds", "is outside", "316224000"];
    site.assert_refuses(&["launch", "tiny", "--name", "one", "--lease", "4000d"], "InvalidArgument", "", &too_long);
    assert_eq!(site.ok(&["list"]), serde_json::json!([]));
    // Longer than the site allows is cut to what it allows, and the decision says so; none at all gets the site's own.
    let seconds = |workspace: &serde_json::Value| {
        (workspace["lease_until"].as_u64().unwrap() - workspace["created_at"].as_u64().unwrap()) / 1_000_000
    };
    for (lease, granted, code) in [("1000d", 14 * 86_400, "lease-maximum"), ("none", 8 * 3600, "lease-default")] {
        let launched = site.ok(&["launch", "tiny", "--name", "one", "--memory", "64M", "--lease", lease]);
        assert_eq!(seconds(&launched["workspace"]), granted, "{lease}");
        let why = site.ok(&["why", "one"]).to_string();
        assert!(why.contains(code), "{lease}: {why}");
        let renew = site.vws(&["renew", "one", "--lease", "4000d"]);
        renew.assert_refused("renew", Refusal { name: "InvalidArgument", code: "", words: &["lease"] });
        site.run(&["destroy", "one"]);
    }
    site.assert_empty(&["h1"]);
}

#[test]
fn what_is_not_there_is_named() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    site.assert_refuses(&["launch", "nosuch", "--name", "a"], "NotFound", "", &["image `nosuch`", "vws image"]);
    site.assert_refuses(&["launch", "tiny", "--name", "a", "--host", "nosuch"], "NotFound", "", &["host `nosuch`", "vws host"]);
    site.assert_refuses(&["host", "add", "h9", "--backend", "nosuch"], "NotFound", "", &["backend `nosuch`", "sim"]);
    site.assert_refuses(&["info", "nosuch"], "NotFound", "", &["`nosuch`", "vws list"]);
    let over = &["launch", "tiny", "--name", "a", "--memory", "60T"];
    site.assert_refuses(over, "QuotaExceeded", "memory-mib-per-user", &["quota.lua", "262144", "62914560"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn a_host_that_is_down_takes_nothing_and_what_is_on_it_is_unknown() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "on-it", "--memory", "64M"]);
    // Its folder becomes a file: every call fails. The death of the plugin's child makes the daemon look at once.
    let (folder, away) = (site.dir().join("sim/h1"), site.dir().join("sim/away"));
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    site.hit_plugin_child(rustix::process::Signal::KILL);
    until("the host is seen to be down", || (site.ok(&["host", "show", "h1"])["state"] == "down").then_some(()));
    let reason = site.ok(&["host", "show", "h1"])["reason"].as_str().unwrap().to_owned();
    assert!(!reason.is_empty());

    let launch = &["launch", "tiny", "--name", "new", "--memory", "64M"];
    site.assert_refuses(launch, "NoHost", "no-eligible-host", &["launch of `new`", "down"]);
    site.assert_refuses(&[launch.as_slice(), &["--host", "h1"]].concat(), "NoHost", "no-eligible-host", &["down"]);
    assert_eq!(site.state("on-it"), "unknown", "unknown is not off");
    let words = ["`on-it`", "h1", "until its host answers again"];
    for verb in ["pause", "stop", "serialize", "reboot"] {
        site.assert_refuses(&[verb, "on-it"], "HostUnavailable", "", &words);
    }
    assert_eq!(site.ok(&["list"]).as_array().unwrap().len(), 1, "nothing was taken, nothing was lost");
    assert_eq!(site.ok(&["host", "show", "h1"])["workspaces"], 1, "what it holds is not given to others");

    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    site.hit_plugin_child(rustix::process::Signal::KILL);
    site.until_state("on-it", "running");
    assert_eq!(site.machines("h1")[0].1["boots"], 1, "it ran all the while");
    site.run(&["destroy", "on-it"]);
    site.assert_empty(&["h1"]);
}
