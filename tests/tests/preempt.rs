//! Pre-emptible workspaces make room for those that are not: where the policy lets them, for whom the quota lets, and so that no host ever
//! has more on it than it has, whoever fails, dies or changes their mind in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::{Value, json};
use vws_tests::bus::{may_become_others, none};
use vws_tests::{Plan, Site, until};

/// Hosts of 4 vCPUs.
fn plan(settings: &str) -> Plan {
    let config = "[lease]\ngrace-seconds = 0\n[operate]\nreconcile-seconds = 1\nstep-tries = 2\n".to_owned();
    Plan { settings: format!("vcpus = 4\nmemory_mib = 8192\n{settings}"), config, ..Plan::default() }
}

fn small(settings: &str) -> Site {
    let site = Site::start(&plan(settings));
    site.import("tiny");
    site
}

/// The shipped policies with this placement.lua.
fn with_placement(text: &str) -> Vec<(&'static str, String)> {
    let read = |name: &str| std::fs::read_to_string(vws_tests::root().join("policies").join(name)).unwrap();
    vec![("access.lua", read("access.lua")), ("quota.lua", read("quota.lua")), ("placement.lua", text.to_owned())]
}

fn launch<'a>(name: &'a str, vcpus: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["launch", "tiny", "--name", name, "--vcpus", vcpus, "--memory", "64M"], more].concat()
}

const LOW: &[&str] = &["--preemptible"];
const LATER: &[&str] = &["--no-wait"];

/// Begins a launch; its job.
fn begun(site: &Site, name: &str, vcpus: &str) -> String {
    let said = site.ok(&launch(name, vcpus, LATER));
    let path = said["job"]["path"].as_str().unwrap_or_else(|| panic!("{said}"));
    path.rsplit('/').next().unwrap().trim_start_matches('j').to_owned()
}

fn job(site: &Site, id: &str) -> Value {
    site.ok(&["job", "show", id])
}

fn ended(site: &Site, id: &str) -> Value {
    until("the job ends", || Some(job(site, id)).filter(|job| job["ended_at"].as_u64().unwrap() > 0))
}

fn waits(site: &Site, id: &str) {
    until("it waits for room", || (job(site, id)["phase"] == "room").then_some(()));
}

/// vCPUs of the machines on a host.
fn there(site: &Site, host: &str) -> u64 {
    let machines = site.machines(host);
    let listed = site.ok(&["list"]);
    let vcpus =
        |id: &str| listed.as_array().unwrap().iter().find(|one| one["id"] == id).map_or(0, |one| one["vcpus"].as_u64().unwrap());
    machines.iter().map(|(id, _)| vcpus(id)).sum()
}

fn cause(site: &Site, name: &str) -> String {
    site.ok(&["info", name])["cause"].to_string()
}

#[test]
fn one_that_is_preemptible_makes_room_and_comes_back_when_there_is_some() {
    let site = small("");
    site.run(&launch("low", "4", LOW));
    let shown = site.ok(&["info", "low"]);
    assert_eq!((&shown["preemptible"], &shown["description"]["spec"]["preemptible"]), (&json!(true), &json!(true)));

    let explained = site.ok(&["explain", "launch", "tiny", "--name", "high", "--vcpus", "3"]);
    assert_eq!((&explained["permitted"], &explained["host"]), (&json!(true), &json!("h1")), "{explained}");
    assert_eq!(explained["hosts"][0]["outcome"], "displaces", "{explained}");
    assert_eq!(explained["hosts"][0]["text"], "`low` (serialize)");
    assert_eq!(site.state("low"), "running", "an explanation displaces nobody");

    site.run(&launch("high", "3", &[]));
    assert_eq!((site.state("high"), site.state("low")), ("running".to_owned(), "serialized".to_owned()));
    assert!(cause(&site, "low").contains("displaced by the launch of `high` by user"), "{}", cause(&site, "low"));
    let why = site.ok(&["why", "low"]);
    let last = &why[0];
    assert_eq!((&last["caller"], &last["verb"]), (&json!("vwsd/preempt"), &json!("serialize")), "{why}");
    assert_eq!(
        (&last["verdicts"][0]["code"], &last["verdicts"][0]["file"]),
        (&json!("displaced"), &json!("placement.lua")),
        "{why}"
    );
    assert!(last["verdicts"][0]["text"].as_str().unwrap().contains("`high`"), "{why}");
    assert_eq!(site.findings(), Vec::<String>::new());

    // It is judged like everybody's when it comes back: no room now, and it displaces nobody.
    let (name, code, _) = site.vws(&["resume", "low"]).error();
    assert_eq!((name.as_str(), code.as_str()), ("NoHost", "no-room-now"));
    site.run(&["destroy", "high"]);
    site.run(&["resume", "low"]);
    assert_eq!(site.state("low"), "running");
    site.run(&["destroy", "low"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn as_few_as_possible_are_displaced_and_only_for_those_who_are_not() {
    let site = small("");
    for (name, vcpus) in [("one", "1"), ("two", "2"), ("three", "1")] {
        site.run(&launch(name, vcpus, LOW));
    }
    let (_, code, _) = site.vws(&launch("lower", "1", LOW)).error();
    assert_eq!(code, "no-room-now", "the pre-emptible displace nobody");
    site.run(&launch("high", "2", &[]));
    let states = ["one", "two", "three"].map(|name| site.state(name));
    assert_eq!(states, ["running", "serialized", "running"], "the one that is enough");
    let (_, code, _) = site.vws(&launch("huge", "4", &[])).error();
    assert_eq!(code, "no-room-now", "one that is not pre-emptible stays");
}

#[test]
fn the_policy_has_the_last_word() {
    let site = Site::start(&Plan { policies: with_placement("return {}"), ..plan("") });
    site.import("tiny");
    site.run(&launch("low", "4", LOW));
    let denied = || site.vws(&launch("high", "4", &[])).error();
    let (_, code, message) = denied();
    assert_eq!(code, "no-room-now");
    assert!(!message.contains("low"), "{message}");

    let decide = r#"return { preempt = function(input, host, victims)
    if input.request.labels.urgent ~= "yes" then
        return deny("not-urgent", string.format("`%s` stays on `%s` (%d free without it)", victims[1].name, host.name, host.free.vcpus))
    end
    return #victims == 1 and victims[1].preemptible and not input.request.preemptible
end }"#;
    std::fs::write(site.policy("placement.lua"), decide).unwrap();
    site.run(&["policy", "reload"]);
    let (_, code, message) = denied();
    assert_eq!(code, "no-room-now");
    assert!(message.contains("`low` stays on `h1` (4 free without it) (placement.lua:3)"), "{message}");
    assert_eq!(site.state("low"), "running");
    let explained = site.ok(&["explain", "launch", "tiny", "--name", "high", "--vcpus", "4"]);
    assert_eq!(
        (&explained["hosts"][0]["code"], &explained["hosts"][0]["line"]),
        (&json!("not-urgent"), &json!(3)),
        "{explained}"
    );
    site.run(&launch("high", "4", &["--label", "urgent=yes"]));
    assert_eq!((site.state("high"), site.state("low")), ("running".to_owned(), "serialized".to_owned()));
}

#[test]
fn a_policy_can_make_a_request_preemptible() {
    let site = small("");
    let quota = "return { decide = function() return restrict{ preemptible = true, code = \"spare\" } end }";
    std::fs::write(site.policy("quota.lua"), quota).unwrap();
    site.run(&["policy", "reload"]);
    site.run(&launch("low", "4", &[]));
    assert_eq!(site.ok(&["info", "low"])["preemptible"], true);
    let (_, code, _) = site.vws(&launch("other", "1", &[])).error();
    assert_eq!(code, "no-room-now", "and so displaces nobody");
}

#[test]
fn the_quota_of_who_displaces_counts_first() {
    let site = small("");
    site.run(&launch("low", "4", LOW));
    let quota = "return { decide = function(input)\n\
                 if input.usage.owner.vcpus + input.request.vcpus > 5 then return deny(\"much\", \"too much\") end\n\
                 return permit() end }";
    std::fs::write(site.policy("quota.lua"), quota).unwrap();
    site.run(&["policy", "reload"]);
    let (name, code, _) = site.vws(&launch("high", "2", &[])).error();
    assert_eq!((name.as_str(), code.as_str()), ("QuotaExceeded", "much"));
    assert_eq!(site.state("low"), "running");
    site.run(&launch("high", "1", &[]));
    assert_eq!(site.state("low"), "serialized");
}

#[test]
fn what_cannot_be_serialized_stays_unless_its_owner_lets_it_be_destroyed() {
    let site = small("cannot = { serialize = \"no memory files here\" }");
    site.run(&launch("keep", "2", LOW));
    let (_, code, _) = site.vws(&launch("high", "4", &[])).error();
    assert_eq!(code, "no-room-now");
    site.run(&launch("scratch", "2", &["--preemptible", "--end-action", "destroy"]));
    let explained = site.ok(&["explain", "launch", "tiny", "--name", "high", "--vcpus", "2"]);
    assert_eq!(explained["hosts"][0]["text"], "`scratch` (destroy)", "{explained}");
    site.run(&launch("high", "2", &[]));
    assert_eq!(["keep", "scratch", "high"].map(|name| site.state(name)), ["running", "gone", "running"]);
    let why = site.ok(&["why", "scratch"]);
    assert_eq!((&why[0]["caller"], &why[0]["verb"]), (&json!("vwsd/preempt"), &json!("destroy")), "{why}");
    // A stopped one keeps its place: it has no memory to serialize.
    site.run(&["stop", "keep", "--force"]);
    let (_, code, _) = site.vws(&launch("higher", "2", &[])).error();
    assert_eq!(code, "no-room-now");
}

#[test]
fn a_victim_that_stays_lets_the_launch_fail_and_give_up_its_booking() {
    let site = small("fail = [{ method = \"workspace.export\" }]");
    site.run(&launch("low", "4", LOW));
    let (name, code, message) = site.vws(&launch("high", "4", &[])).error();
    assert_eq!((name.as_str(), code.as_str()), ("NoHost", "room-not-made"), "{message}");
    assert!(message.contains("could not make room: workspace `low` stays on host `h1`"), "{message}");
    site.until_state("low", "running");
    assert_eq!(site.state("high"), "gone");
    let shown = site.ok(&["host", "show", "h1"]);
    assert_eq!((&shown["workspaces"], &shown["free"]["vcpus"]), (&json!(1), &json!(0)), "{shown}");
    assert_eq!(site.findings(), Vec::<String>::new());
    site.run(&["destroy", "low"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn requests_that_want_the_same_room_share_it_and_no_more() {
    let site = small("latency_ms = 300");
    site.run(&launch("low", "4", LOW));
    let jobs = ["a", "b"].map(|name| begun(&site, name, "2"));
    let (_, code, _) = site.vws(&launch("c", "1", &[])).error();
    assert_eq!(code, "no-room-now", "what they wait for is theirs");
    waits(&site, &jobs[1]);
    assert_eq!(site.machines("h1").len(), 1, "nobody is on the host before the room is there");
    assert_eq!(site.ok(&["host", "show", "h1"])["free"]["vcpus"], 0);
    assert_eq!(site.findings(), Vec::<String>::new());
    // The owner of the job that makes room asks for nothing that is not there: it leaves once.
    let made = site.ok(&["info", "low"])["job"].as_str().unwrap().to_owned();
    assert!(made.len() > 1, "{made}");
    for id in &jobs {
        until("done", || {
            assert!(there(&site, "h1") <= 4, "{}", there(&site, "h1"));
            let state = job(&site, id)["state"].clone();
            assert!(state != "failed", "{}", job(&site, id));
            (state == "done").then_some(())
        });
    }
    assert_eq!(["a", "b", "low"].map(|name| site.state(name)), ["running", "running", "serialized"]);
    assert_eq!(site.ok(&["why", "low"]).as_array().unwrap().iter().filter(|one| one["caller"] == "vwsd/preempt").count(), 1);
}

#[test]
fn a_launch_that_is_cancelled_while_it_waits_holds_nothing() {
    let site = small("latency_ms = 300");
    site.run(&launch("low", "4", LOW));
    let id = begun(&site, "high", "4");
    waits(&site, &id);
    site.run(&["cancel", &id]);
    assert_eq!(ended(&site, &id)["state"], "cancelled");
    assert_eq!(site.state("high"), "gone");
    // What has begun to leave leaves, and can come back at once.
    site.until_state("low", "serialized");
    site.run(&["resume", "low"]);
    site.run(&["destroy", "low"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn a_victim_that_its_owner_destroys_meanwhile_has_made_room() {
    let site = small("latency_ms = 300");
    site.run(&launch("low", "4", LOW));
    let id = begun(&site, "high", "4");
    waits(&site, &id);
    site.run(&["destroy", "low"]);
    assert_eq!(ended(&site, &id)["state"], "done");
    assert_eq!((site.state("low"), site.state("high")), ("gone".to_owned(), "running".to_owned()));
}

#[test]
fn a_kill_of_the_daemon_in_the_middle_loses_nobody() {
    let ends: Vec<String> = std::thread::scope(|scope| {
        let at = ["save", "export", "leave"].map(|phase| scope.spawn(move || killed_at(phase)));
        at.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ends, ["save", "export", "leave"], "not hit as meant");
}

/// Kills the daemon while the displaced one is at this step; the step that it was at indeed.
fn killed_at(phase: &str) -> String {
    let mut site = small("latency_ms = 400");
    site.run(&launch("low", "4", LOW));
    let id = begun(&site, "high", "4");
    waits(&site, &id);
    let leaving =
        site.ok(&["info", "low"])["job"].as_str().unwrap().rsplit('/').next().unwrap().trim_start_matches('j').to_owned();
    let hit = until("it is at that step", || {
        let job = job(&site, &leaving);
        let ended = job["ended_at"].as_u64().unwrap() > 0;
        (ended || job["phase"] == phase).then(|| job["phase"].as_str().unwrap().to_owned())
    });
    site.kill_daemon();
    site.start_daemon();
    until("the launch is done", || {
        assert!(there(&site, "h1") <= 4, "killed at {hit}");
        let job = job(&site, &id);
        assert!(job["state"] != "failed", "killed at {hit}: {job}\n{}", site.log());
        (job["state"] == "done").then_some(())
    });
    assert_eq!((site.state("high"), site.state("low")), ("running".to_owned(), "serialized".to_owned()), "killed at {hit}");
    assert_eq!(site.findings(), Vec::<String>::new(), "killed at {hit}");
    site.run(&["destroy", "high"]);
    site.run(&["resume", "low"]);
    site.run(&["destroy", "low"]);
    site.assert_empty(&["h1"]);
    hit
}

#[test]
fn one_that_comes_back_or_moves_displaces_too() {
    let site = Site::start(&Plan { hosts: vec!["a", "b"], ..plan("") });
    site.import("tiny");
    site.run(&launch("high", "3", &["--host", "a"]));
    site.run(&["serialize", "high"]);
    site.run(&launch("one", "4", &["--preemptible", "--host", "a"]));
    site.run(&launch("two", "4", &["--preemptible", "--host", "b"]));
    site.run(&["resume", "high", "--host", "a"]);
    assert_eq!(["high", "one", "two"].map(|name| site.state(name)), ["running", "serialized", "running"]);
    let explained = site.ok(&["explain", "migrate", "high"]);
    assert_eq!((&explained["host"], &explained["permitted"]), (&json!("b"), &json!(true)), "{explained}");
    site.run(&["migrate", "high"]);
    let shown = site.ok(&["info", "high"]);
    assert_eq!((&shown["host"], &shown["state"]), (&json!("b"), &json!("running")));
    assert_eq!(site.state("two"), "serialized");
    assert!(cause(&site, "two").contains("displaced by the migrate of `high`"), "{}", cause(&site, "two"));
    assert_eq!(site.findings(), Vec::<String>::new());
}

#[test]
fn a_cluster_displaces_as_a_whole_and_changes_no_others_lease() {
    let site = small("");
    for name in ["one", "two"] {
        site.run(&launch(name, "2", LOW));
    }
    let lease = |name: &str| site.ok(&["info", name])["lease_until"].clone();
    let before = ["one", "two"].map(lease);
    let (_, code, _) = site.vws(&["cluster", "launch", "calc", "--role", "worker=tiny,count=3,vcpus=2,memory=64M"]).error();
    assert_eq!(code, "no-room-now");
    assert_eq!(["one", "two"].map(|name| site.state(name)), ["running", "running"], "all of them or none");
    site.run(&["cluster", "launch", "calc", "--role", "worker=tiny,count=2,vcpus=2,memory=64M", "--lease", "1h"]);
    assert_eq!(["one", "two"].map(|name| site.state(name)), ["serialized", "serialized"]);
    assert_eq!(["one", "two"].map(lease), before);
    site.run(&["cluster", "destroy", "calc"]);
    let role = "worker=tiny,count=2,vcpus=2,memory=64M,preemptible";
    site.run(&["cluster", "launch", "spare", "--role", role]);
    assert_eq!(site.ok(&["info", "spare-worker-1"])["preemptible"], true);
}

#[test]
fn others_workspaces_are_counted_and_not_named_and_their_owner_cannot_keep_their_place() {
    const ANN: u32 = 1;
    const BOB: u32 = 2;
    if !may_become_others() {
        return;
    }
    let site = small("latency_ms = 300");
    let spec = |vcpus: u64, preemptible: bool| {
        let mut spec = none();
        spec.insert("image", zbus::Variant::from("tiny"));
        spec.insert("memory-mib", zbus::Variant::from(64_u64));
        spec.insert("vcpus", zbus::Variant::from(vcpus));
        spec.insert("preemptible", zbus::Variant::from(preemptible));
        spec
    };
    let low = spec(4, true);
    site.as_user(ANN, |client| async move {
        client.manager().await.unwrap().create_workspace("secret", &low, &none()).await.unwrap();
    });
    site.until_state("secret", "running");
    let high = spec(4, false);
    let decisions = site.as_user(BOB, |client| async move {
        let manager = client.manager().await.unwrap();
        let (_, job) = manager.create_workspace("his", &high, &none()).await.unwrap();
        let decisions = manager.decisions(&none(), &none()).await.unwrap();
        (job.to_string(), format!("{decisions:?}"))
    });
    let (launch, said) = decisions;
    assert!(said.contains("displaces 1 of others") && !said.contains("secret"), "{said}");
    let leaving = site.ok(&["info", "secret"])["job"].as_str().unwrap().to_owned();
    let refused = site.as_user(ANN, move |client| async move {
        client.job(&leaving).await.unwrap().cancel(&none()).await.unwrap_err().to_string()
    });
    assert!(refused.contains("makes room for another's request"), "{refused}");
    let id = launch.rsplit('/').next().unwrap().trim_start_matches('j').to_owned();
    assert_eq!(ended(&site, &id)["state"], "done");
    assert_eq!(site.state("secret"), "serialized");
}
