//! Live migration, as seen from outside: the guest runs on exactly one host at any time, the ledger says on which, and nothing stale
//! is left on the other, whoever dies or falls silent in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use vws_tests::bus::{number, run, word};
use vws_tests::{Plan, Site, until};

const HOSTS: [&str; 2] = ["a", "b"];

/// Two hosts and a running guest `one` on `a`. The guest's 64 MiB take as long as `speed` (MiB/s; 0: no time) says.
fn moved_site(speed: u64, settings: &str) -> Site {
    let site = Site::start(&Plan {
        hosts: HOSTS.to_vec(),
        settings: format!("migrate_mib_per_second = {speed}\n{settings}"),
        config: "[lease]\ngrace-seconds = 0\n[operate]\nreconcile-seconds = 1\nstep-tries = 2\n".to_owned(),
        ..Plan::default()
    });
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M", "--host", "a"]);
    site
}

fn on(site: &Site, host: &str) -> Vec<String> {
    site.machines(host).into_iter().map(|(id, _)| id).collect()
}

fn disks(site: &Site, folder: &str) -> usize {
    std::fs::read_dir(site.dir().join("sim").join(folder)).unwrap().count()
}

fn cut(site: &Site, host: &str) {
    std::fs::write(site.dir().join("sim").join(host).join("down"), "").unwrap();
}

fn mend(site: &Site, host: &str) {
    std::fs::remove_file(site.dir().join("sim").join(host).join("down")).unwrap();
}

/// Begins a migration and waits until bytes are on their way; the job.
fn begun(site: &Site) -> String {
    let job = site.ok(&["migrate", "one", "--no-wait"])[0]["id"].as_str().unwrap().to_owned();
    until("the move is at work", || {
        let moving = site.dir().join("sim/a/moving");
        std::fs::read_dir(moving)
            .unwrap()
            .any(|entry| entry.unwrap().path().extension().is_some_and(|kind| kind == "json"))
            .then_some(())
    });
    job
}

fn job(site: &Site, id: &str) -> Value {
    site.ok(&["job", "show", id])
}

fn ended(site: &Site, id: &str) -> Value {
    until("the job ends", || Some(job(site, id)).filter(|job| job["ended_at"].as_u64().unwrap() > 0))
}

/// The guest runs on `here` and nowhere else, and everything agrees on it.
fn assert_only_on(site: &Site, here: &str, what: &str) {
    let there = HOSTS.into_iter().find(|host| *host != here).unwrap();
    until(&format!("{what}: nothing is left on `{there}`"), || {
        let info = site.ok(&["info", "one"]);
        (info["also_on"] == "" && info["host"] == here && info["state"] == "running").then_some(())
    });
    assert_eq!(on(site, here).len(), 1, "{what}");
    assert_eq!(on(site, there), Vec::<String>::new(), "{what}");
    let machine = &site.machines(here)[0].1;
    assert_eq!((&machine["state"], &machine["boots"]), (&json!("running"), &json!(1)), "{what}");
    for folder in ["moving", "incoming"] {
        for host in HOSTS {
            assert_eq!(disks(site, &format!("{host}/{folder}")), 0, "{what}: something is left in {host}/{folder}");
        }
    }
    let free = site.ok(&["host", "show", there]);
    assert_eq!(free["free"], free["capacity"], "{what}: room is held on `{there}`: {free}");
    assert_eq!(site.findings(), Vec::<String>::new(), "{what}");
}

fn assert_gone(site: &Site) {
    site.run(&["destroy", "one"]);
    site.assert_empty(&HOSTS);
    for host in HOSTS {
        assert_eq!(disks(site, &format!("{host}/disks")), 0);
    }
}

#[test]
fn a_guest_moves_with_its_disks_and_goes_on() {
    let site = moved_site(0, "");
    let counted = |host: &str| site.machines(host)[0].1["since_ms"].as_u64().unwrap();
    let since = counted("a");
    let explained = site.ok(&["explain", "migrate", "one"]);
    assert_eq!((&explained["permitted"], &explained["host"]), (&json!(true), &json!("b")), "{explained}");
    let leaves = explained["hosts"].as_array().unwrap().iter().find(|host| host["host"] == "a").unwrap();
    assert_eq!(leaves["code"], "leaves", "{explained}");

    let jobs = site.ok(&["migrate", "one"]);
    assert_eq!((&jobs[0]["state"], &jobs[0]["message"]), (&json!("done"), &json!("runs on host `b`")), "{jobs}");
    assert_only_on(&site, "b", "moved");
    assert_eq!(counted("b"), since, "it counted on without a gap");
    assert_eq!((disks(&site, "a/disks"), disks(&site, "b/disks")), (0, 1));
    // And back, named.
    site.run(&["migrate", "one", "--host", "a", "--limit", "1000"]);
    assert_only_on(&site, "a", "moved back");
    assert_gone(&site);
}

#[test]
fn disks_on_storage_that_both_share_stay_where_they_are() {
    let site = moved_site(0, "storage = \"pool\"");
    site.run(&["migrate", "one"]);
    assert_only_on(&site, "b", "moved");
    assert_eq!(disks(&site, "storage-pool"), 1, "the disks were removed under the guest, or copied");
    // A move that fails leaves them too.
    cut(&site, "a");
    assert_ne!(site.vws(&["migrate", "one", "--host", "a"]).code, 0);
    mend(&site, "a");
    until("`a` is free of it", || (site.ok(&["info", "one"])["also_on"] == "").then_some(()));
    assert_only_on(&site, "b", "failed");
    assert_eq!(disks(&site, "storage-pool"), 1);
    site.run(&["destroy", "one"]);
    assert_eq!(disks(&site, "storage-pool"), 0);
    site.assert_empty(&HOSTS);
}

#[test]
fn what_cannot_move_is_told_why() {
    let site = moved_site(0, "cannot = { migrate = \"too old\" }");
    let (_, code, message) = site.vws(&["migrate", "one"]).error();
    assert!(code == "no-eligible-host" || message.contains("too old"), "{code}: {message}");
    let hosts = site.ok(&["explain", "migrate", "one"])["hosts"].clone();
    let b = hosts.as_array().unwrap().iter().find(|host| host["host"] == "b").unwrap().clone();
    assert!(b["code"] == "unsupported" && b["text"].as_str().unwrap().contains("too old"), "{b}");
    let site = moved_site(0, "");
    site.run(&["pause", "one"]);
    let (_, _, message) = site.vws(&["migrate", "one"]).error();
    assert!(message.contains("paused") && message.contains("resume it first"), "{message}");
    site.run(&["resume", "one"]);
    let (name, _, message) = site.vws(&["migrate", "one", "--host", "a"]).error();
    assert_eq!(name, "NoHost", "{message}");
    let (_, _, message) = site.vws(&["migrate", "one", "--host", "nowhere"]).error();
    assert!(!message.is_empty());
    assert_only_on(&site, "a", "refused");
}

#[test]
fn a_guest_moves_only_to_where_its_cpu_is() {
    let both = "cpus = [\"sim-big\", \"sim\"]";
    let mut site = Site::of(&[("a", "cpus = [\"sim\"]"), ("other", "cpus = [\"sim-big\"]"), ("both", both)]);
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M", "--host", "a"]);
    let outcome = |site: &Site, verb: &str, host: &str| {
        let explained = site.ok(&["explain", verb, "one"]);
        let found = explained["hosts"].as_array().unwrap().iter().find(|one| one["host"] == host).cloned();
        let found = found.unwrap_or_else(|| panic!("nothing is said of {host}: {explained}"));
        let word = |key: &str| found[key].as_str().unwrap_or("").to_owned();
        (word("outcome"), word("code"), word("text"))
    };
    // What it runs with is not forgotten.
    site.kill_daemon();
    site.start_daemon();
    until("the hosts answer", || (site.ok(&["host", "show", "both"])["state"] == "up").then_some(()));
    let lacks = outcome(&site, "migrate", "other");
    assert_eq!((lacks.0.as_str(), lacks.1.as_str()), ("filtered", "cpu"));
    assert_eq!(lacks.2, "has no CPU model `sim`, which the guest was started with (it has sim-big)");
    assert_eq!(outcome(&site, "migrate", "both").0, "scored");
    let (name, _, message) = site.vws(&["migrate", "one", "--host", "other"]).error();
    assert!(name == "NoHost" && message.contains("has no CPU model `sim`"), "{name}: {message}");

    // The guest keeps its CPU on a host that gives others to guests that start there, and gets such a one when it starts anew.
    site.run(&["migrate", "one"]);
    assert_eq!(site.ok(&["info", "one"])["host"], "both");
    assert_eq!(outcome(&site, "migrate", "other").1, "cpu");
    assert_eq!(outcome(&site, "migrate", "a").0, "scored");
    site.run(&["stop", "one", "--force"]);
    site.run(&["start", "one"]);
    assert_eq!(outcome(&site, "migrate", "a").2, "has no CPU model `sim-big`, which the guest was started with (it has sim)");

    // A bundle is refused in the same words, and what comes out of one is known again.
    let moved = outcome(&site, "migrate", "a");
    site.run(&["serialize", "one"]);
    assert_eq!(outcome(&site, "resume", "a"), moved);
    site.run(&["resume", "one", "--host", "both"]);
    assert_eq!(outcome(&site, "migrate", "a"), moved);
    site.run(&["migrate", "one"]);
    assert_eq!(site.ok(&["info", "one"])["host"], "other");
    site.run(&["destroy", "one"]);
    site.assert_empty(&["a", "other", "both"]);
}

#[test]
fn a_kill_of_the_daemon_at_any_step_leaves_one_guest_and_a_true_ledger() {
    // `room` calls no host, and nobody had to leave: it is over before it is seen.
    const STEPS: [&str; 5] = ["images", "room", "prepare", "migrate", "forget"];
    let left = Mutex::new((0..STEPS.len()).collect::<Vec<_>>());
    let hits = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(step) = left.lock().unwrap().pop() else { return };
                    let mut site = moved_site(128, "latency_ms = 150");
                    let job = site.ok(&["migrate", "one", "--no-wait"])[0]["path"].as_str().unwrap().to_owned();
                    let hit = run(async {
                        let client = site.client().await;
                        loop {
                            let seen = client.object(&job).await.unwrap();
                            let ended = number(&seen, "EndedAt") > 0;
                            if ended || number(&seen, "Step") >= step as u64 && word(&seen, "State") == "running" {
                                return if ended { word(&seen, "State") } else { word(&seen, "Phase") };
                            }
                        }
                    });
                    site.kill_daemon();
                    hits.lock().unwrap().insert(step, hit.clone());
                    let what = format!("killed at {hit}");
                    site.start_daemon();
                    let seen = until(&format!("{what}: the job ended"), || {
                        run(async {
                            Some(site.client().await.object(&job).await.unwrap()).filter(|seen| number(seen, "EndedAt") > 0)
                        })
                    });
                    assert_eq!(word(&seen, "State"), "done", "{what}: {seen:?}\n{}", site.log());
                    assert_only_on(&site, "b", &what);
                    assert_gone(&site);
                }
            });
        }
    });
    let hits = hits.into_inner().unwrap();
    let missed: Vec<_> = STEPS.iter().enumerate().filter(|(at, name)| hits[at] != **name && **name != "room").collect();
    assert!(missed.is_empty(), "not hit as meant: {missed:?} of {hits:?}");
}

#[test]
fn a_move_that_went_on_without_the_daemon_is_found_out() {
    let mut site = moved_site(64, "");
    let id = begun(&site);
    // The daemon and the plugin's process with it; the hypervisors go on by themselves.
    site.kill_daemon();
    until("it is over", || {
        let moving = site.dir().join("sim/a/moving");
        let left = std::fs::read_dir(moving).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).next()?;
        let ends = serde_json::from_slice::<Value>(&left).unwrap()["ends_ms"].as_u64().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        (now > u128::from(ends)).then_some(())
    });
    site.start_daemon();
    assert_eq!(ended(&site, &id)["state"], "done");
    assert_only_on(&site, "b", "went on without the daemon");
    assert_gone(&site);
}

#[test]
fn a_plugin_that_dies_before_or_after_the_deed_changes_nothing() {
    for (when, method) in [
        ("die", "workspace.migrate_prepare"),
        ("die_after", "workspace.migrate_prepare"),
        ("die", "workspace.migrate"),
        ("die_after", "workspace.migrate"),
        ("die", "workspace.forget"),
        ("die_after", "workspace.forget"),
    ] {
        let site = moved_site(0, &format!("{when} = \"{method}\""));
        let said = site.vws(&["migrate", "one"]);
        assert_eq!(said.code, 0, "{when} {method}: {}\n{}", said.talk, site.log());
        assert_only_on(&site, "b", &format!("{when} {method}"));
    }
}

#[test]
fn a_cancelled_move_leaves_the_guest_where_it_was() {
    let site = moved_site(8, "");
    let id = begun(&site);
    let seen = until("bytes are counted", || Some(job(&site, &id)).filter(|job| job["done"].as_u64().unwrap() > 0));
    assert!(seen["total"].as_u64().unwrap() >= 64 << 20, "{seen}");
    let held = site.ok(&["host", "show", "b"]);
    assert_ne!(held["free"], held["capacity"], "room is held on the target while it moves");
    assert_eq!((site.state("one"), &site.ok(&["info", "one"])["also_on"]), ("migrating".to_owned(), &json!("b")));
    site.run(&["cancel", &id]);
    assert_eq!(ended(&site, &id)["state"], "cancelled");
    assert_only_on(&site, "a", "cancelled");
    assert_eq!((disks(&site, "a/disks"), disks(&site, "b/disks")), (1, 0));

    // The same with a daemon that dies before it could do it.
    let mut site = moved_site(8, "");
    let id = begun(&site);
    site.run(&["cancel", &id]);
    site.kill_daemon();
    site.start_daemon();
    assert_eq!(ended(&site, &id)["state"], "cancelled");
    assert_only_on(&site, "a", "cancelled and killed");
    assert_gone(&site);
}

#[test]
fn a_destroy_in_mid_move_leaves_nothing_on_either_host() {
    let site = moved_site(8, "");
    begun(&site);
    assert_gone(&site);
}

#[test]
fn a_target_that_vanishes_keeps_its_room_until_it_answers() {
    let site = moved_site(8, "");
    let id = begun(&site);
    cut(&site, "b");
    assert_eq!(ended(&site, &id)["state"], "failed");
    let info = site.ok(&["info", "one"]);
    assert_eq!((&info["state"], &info["host"], &info["also_on"]), (&json!("running"), &json!("a"), &json!("b")));
    let (_, code, message) = site.vws(&["migrate", "one"]).error();
    assert!(!message.is_empty(), "{code}");
    mend(&site, "b");
    assert_only_on(&site, "a", "the target came back");
    assert_eq!((disks(&site, "a/disks"), disks(&site, "b/disks")), (1, 0));
    site.run(&["migrate", "one"]);
    assert_only_on(&site, "b", "and took it");
}

#[test]
fn a_source_that_falls_silent_is_waited_for() {
    let mut site = moved_site(8, "");
    let id = begun(&site);
    cut(&site, "a");
    let waits = until("the job says for whom it waits", || {
        Some(job(&site, &id)).filter(|job| job["message"].as_str().unwrap().contains("waits for host `a`"))
    });
    assert_eq!(waits["state"], "running", "nothing is concluded from silence");
    assert_eq!(site.state("one"), "migrating");
    // Not by a new daemon either.
    site.kill_daemon();
    site.start_daemon();
    until("the job waits again", || (job(&site, &id)["state"] == "running").then_some(()));
    assert_eq!(site.state("one"), "migrating");
    mend(&site, "a");
    // The cable broke the move off, or the daemon takes it up again: in each case there is one guest, and the ledger knows where.
    let end = ended(&site, &id);
    let here = if end["state"] == "done" { "b" } else { "a" };
    assert_only_on(&site, here, "the source came back");
    assert_gone(&site);
}

#[test]
fn a_source_that_is_silent_after_the_move_does_not_hold_the_guest_back() {
    let silent = "fail = [{ method = \"workspace.forget\", code = \"unreachable\", nth = 1 }, \
                  { method = \"workspace.forget\", code = \"unreachable\", nth = 2 }]";
    let site = moved_site(0, silent);
    let jobs = site.ok(&["migrate", "one"]);
    assert!(jobs[0]["message"].as_str().unwrap().contains("what is left on host `a`"), "{jobs}");
    // It is free for other verbs while the room is held.
    site.run(&["pause", "one"]);
    site.run(&["resume", "one"]);
    assert_only_on(&site, "b", "the source answers");
    let forgets = site.ok(&["jobs", "--all"]);
    assert!(forgets.as_array().unwrap().iter().any(|job| job["kind"] == "forget" && job["state"] == "done"), "{forgets}");
    assert_eq!((disks(&site, "a/disks"), disks(&site, "b/disks")), (0, 1));
    assert_gone(&site);
}

/// Three hosts; on `a`, which is large: one that fits elsewhere, one too large for any other host, a paused one and a stopped one.
fn mixed_site(speed: u64) -> Site {
    let site = Site::start(&Plan {
        hosts: vec!["a", "b", "c"],
        settings: format!("migrate_mib_per_second = {speed}"),
        config: "[lease]\ngrace-seconds = 0\n[operate]\nreconcile-seconds = 1\n".to_owned(),
        ..Plan::default()
    });
    let folder = format!("directory={}", site.dir().join("sim").display());
    let speed = format!("migrate_mib_per_second={speed}");
    for host in ["b", "c"] {
        site.run(&["host", "change", host, "--setting", &folder, "--setting", &speed, "--setting", "memory_mib=1024"]);
        site.run(&["host", "probe", host]);
    }
    site.import("tiny");
    for (name, memory, more) in [
        ("small", "64M", None),
        ("middle", "512M", None),
        ("huge", "2G", None),
        ("still", "128M", Some(["--target", "paused"])),
        ("off", "64M", Some(["--target", "stopped"])),
    ] {
        let ask = ["launch", "tiny", "--name", name, "--memory", memory, "--host", "a"];
        site.run(&[ask.as_slice(), more.as_ref().map_or(&[], |more| more.as_slice())].concat());
    }
    site
}

/// Name -> way and host of a plan.
fn planned(plan: &Value) -> BTreeMap<String, (String, bool)> {
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let row = |one: &Value| (text(one, "name"), (text(one, "way"), text(one, "host").is_empty()));
    plan.as_array().unwrap().iter().map(row).collect()
}

fn ways(expected: [(&str, &str, bool); 5]) -> BTreeMap<String, (String, bool)> {
    expected.into_iter().map(|(name, way, nowhere)| (name.to_owned(), (way.to_owned(), nowhere))).collect()
}

#[test]
fn a_drain_moves_what_can_move_and_reports_on_the_rest() {
    let site = mixed_site(0);
    let plan = site.ok(&["host", "drain", "a", "--plan"]);
    let expected = ways([
        ("small", "live", false),
        ("middle", "live", false),
        ("huge", "stay", true),
        ("still", "bundle", false),
        ("off", "stay", true),
    ]);
    assert_eq!(planned(&plan), expected, "{plan}");
    assert_eq!(site.ok(&["host", "show", "a"])["enabled"], true, "a plan changes nothing");
    let unasked = site.vws(&["host", "drain", "a"]);
    assert_ne!(unasked.code, 0, "nothing is done unasked");
    assert_eq!(site.ok(&["host", "show", "a"])["enabled"], true);

    let said = site.vws(&["host", "drain", "a", "--yes"]);
    let (name, code, message) = said.error();
    assert_eq!((name.as_str(), code.as_str()), ("InvalidState", "workspaces-stay"), "{message}");
    for part in ["2 of 5 workspaces stay", "`huge` stays", "too large", "`off` stays: is stopped"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(site.ok(&["host", "show", "a"])["enabled"], false);
    for (name, state) in [("small", "running"), ("middle", "running"), ("still", "paused")] {
        let info = site.ok(&["info", name]);
        assert_eq!(info["state"], state, "{name}: {info}");
        assert!(info["host"] == "b" || info["host"] == "c", "{name}: {info}");
    }
    for name in ["huge", "off"] {
        assert_eq!(site.ok(&["info", name])["host"], "a");
    }
    let refused = site.vws(&["launch", "tiny", "--name", "new", "--memory", "64M", "--host", "a"]);
    assert_ne!(refused.code, 0, "nothing new is placed on it");
    assert_eq!(site.findings(), Vec::<String>::new());

    // What stayed is seen to, and it is drained again.
    site.run(&["destroy", "off"]);
    let plan = site.ok(&["host", "evacuate", "a", "--plan"]);
    assert_eq!((&plan[0]["way"], &plan[0]["name"]), (&json!("store"), &json!("huge")), "{plan}");
    site.run(&["host", "evacuate", "a", "--yes"]);
    assert_eq!(site.state("huge"), "serialized");
    assert_eq!(on(&site, "a"), Vec::<String>::new());
    site.run(&["host", "undrain", "a"]);
    assert_eq!(site.ok(&["host", "show", "a"])["enabled"], true);
    site.run(&["resume", "huge"]);
    assert_eq!(site.ok(&["info", "huge"])["host"], "a");
    for name in ["small", "middle", "huge", "still"] {
        site.run(&["destroy", name]);
    }
    site.assert_empty(&["a", "b", "c"]);
}

#[test]
fn a_drain_goes_on_after_a_kill_and_can_be_cancelled() {
    let mut site = mixed_site(256);
    site.run(&["destroy", "huge", "off"]);
    let id = site.ok(&["host", "drain", "a", "--yes", "--no-wait"])["job"]["id"].as_str().unwrap().to_owned();
    let again = site.ok(&["host", "drain", "a", "--yes", "--no-wait"])["job"]["id"].clone();
    assert_eq!(again, id, "one that is being drained answers with the job at work");
    until("a move is at work", || (disks(&site, "a/moving") > 0).then_some(()));
    site.kill_daemon();
    site.start_daemon();
    let end = ended(&site, &id);
    assert_eq!(end["state"], "done", "{end}\n{}", site.log());
    assert!(end["message"].as_str().unwrap().starts_with("3 of 3 workspaces have left"), "{end}");
    assert_eq!(on(&site, "a"), Vec::<String>::new());
    assert_eq!(site.findings(), Vec::<String>::new());

    // The way back, cancelled in the middle: what is on its way is taken back or ends, and the host stays disabled.
    site.run(&["host", "undrain", "a"]);
    let full = site.ok(&["info", "middle"])["host"].as_str().unwrap().to_owned();
    let id = site.ok(&["host", "drain", &full, "--yes", "--no-wait"])["job"]["id"].as_str().unwrap().to_owned();
    until("a move is at work", || (disks(&site, &format!("{full}/moving")) > 0).then_some(()));
    site.run(&["cancel", &id]);
    let end = ended(&site, &id);
    assert_eq!(end["state"], "cancelled", "{end}");
    assert_eq!(site.ok(&["host", "show", &full])["enabled"], false);
    until("nothing is on its way", || {
        let all = site.ok(&["list"]);
        let rest = ["running", "paused", "serialized"];
        all.as_array().unwrap().iter().all(|one| rest.contains(&one["state"].as_str().unwrap())).then_some(())
    });
    assert_eq!(site.state("middle"), "running");
    assert_eq!(site.findings(), Vec::<String>::new());
    site.run(&["destroy", "small", "middle", "still"]);
    site.assert_empty(&["a", "b", "c"]);
}

#[test]
fn a_drain_is_for_administrators() {
    if !vws_tests::bus::may_become_others() {
        return;
    }
    let site = moved_site(0, "");
    let path = site.ok(&["host", "show", "a"])["path"].as_str().unwrap().to_owned();
    let said = site.as_user(65534, async move |client| {
        let host = client.host(&path).await.unwrap();
        let plan = host.plan_drain(&Default::default()).await.map(drop);
        let drain = host.drain(&Default::default()).await.map(drop);
        [plan, drain].map(|answer| answer.unwrap_err().to_string())
    });
    for answer in said {
        assert!(answer.contains("for administrators"), "{answer}");
    }
    assert_eq!(site.ok(&["host", "show", "a"])["enabled"], true);
}
