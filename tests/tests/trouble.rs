//! A host that goes away while a job is at work on it, simulated: nothing is concluded from its silence, what it may still hold is not
//! freed, whoever asks is told for which host a job waits, and when the host answers the job goes to its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use vws_tests::{Plan, Site, until};

const WAITS: &str = "waits for host `h1`";

fn site() -> Site {
    let site = Site::start(&Plan {
        settings: "latency_ms = 200".to_owned(),
        config: "[lease]\ngrace-seconds = 0\n[operate]\nreconcile-seconds = 1\ncall-seconds = 4\nlong-call-seconds = 8\n"
            .to_owned(),
        ..Plan::default()
    });
    site.import("tiny");
    site
}

/// Cuts the host's cable: `refused` answers at once that it is not there, `silent` does not answer.
fn cut(site: &Site, how: &str) {
    std::fs::write(site.dir().join("sim/h1/cable"), how).unwrap();
}

fn mend(site: &Site) {
    std::fs::remove_file(site.dir().join("sim/h1/cable")).unwrap();
}

fn job(site: &Site, id: &str) -> Value {
    site.ok(&["job", "show", id])
}

fn id_of(begun: &Value) -> String {
    let id = begun["job"]["id"].as_str().or(begun[0]["id"].as_str());
    id.unwrap_or_else(|| panic!("{begun}")).to_owned()
}

fn until_phase(site: &Site, id: &str, phase: &str) -> Value {
    until(&format!("the job is at `{phase}`"), || {
        let seen = job(site, id);
        assert_eq!(seen["ended_at"], 0, "it ended before `{phase}`: {seen}\n{}", site.log());
        seen["phase"].as_str().unwrap().contains(phase).then_some(seen)
    })
}

fn until_ended(site: &Site, id: &str) -> Value {
    until("the job has ended", || Some(job(site, id)).filter(|seen| seen["ended_at"] != 0))
}

fn launch(site: &Site) {
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M"]);
}

/// Begins a launch and cuts the cable while disks are being made.
fn cut_in_mid_deploy(site: &Site, how: &str) -> String {
    let id = id_of(&site.ok(&["launch", "tiny", "--name", "one", "--memory", "64M", "--no-wait"]));
    until_phase(site, &id, "stage");
    cut(site, how);
    id
}

/// Unknown, and everything that it holds is held.
fn assert_held(site: &Site) {
    let one = site.ok(&["info", "one"]);
    assert_eq!((&one["state"], &one["description"]["reservation"]["host"]), (&"unknown".into(), &"h1".into()), "{one}");
    assert!(one["cause"].to_string().contains("h1"), "{one}");
    let host = site.ok(&["host", "show", "h1"]);
    assert_eq!(host["state"], "down", "{host}");
    assert_ne!(host["free"], host["capacity"], "{host}");
}

#[test]
fn a_deploy_is_taken_back_when_its_host_answers_again_and_until_then_nothing_is_freed() {
    for how in ["refused", "silent"] {
        let mut site = site();
        let id = cut_in_mid_deploy(&site, how);
        let seen = until_phase(&site, &id, WAITS);
        assert_eq!(
            (&seen["state"], &seen["phase"]),
            (&"undoing".into(), &format!("undo stage, {WAITS}").into()),
            "{how}: {seen}"
        );
        assert_held(&site);
        // It waits on disk, not in a process.
        site.kill_daemon();
        site.start_daemon();
        until_phase(&site, &id, WAITS);
        assert_held(&site);
        mend(&site);
        let ended = until_ended(&site, &id);
        assert_eq!(ended["state"], "failed", "{how}: {ended}");
        assert!(!ended["phase"].as_str().unwrap().contains("waits"), "{how}: {ended}");
        assert_eq!(site.state("one"), "gone", "{how}");
        site.assert_empty(&["h1"]);
    }
}

#[test]
fn the_end_of_a_workspace_that_is_being_taken_back_is_accepted_and_takes_over() {
    let site = site();
    let id = cut_in_mid_deploy(&site, "refused");
    until_phase(&site, &id, WAITS);
    // A cancel asks for what is being done already.
    site.run(&["cancel", &id]);
    until_phase(&site, &id, WAITS);
    assert_held(&site);
    let destroy = id_of(&site.ok(&["destroy", "one", "--no-wait"]));
    let ended = until_ended(&site, &id);
    assert_eq!(ended["state"], "failed", "{ended}");
    let seen = until_phase(&site, &destroy, WAITS);
    assert_eq!(seen["phase"], format!("machine, {WAITS}"), "{seen}");
    let one = site.ok(&["info", "one"]);
    assert_eq!((&one["state"], &one["description"]["reservation"]["host"]), (&"destroying".into(), &"h1".into()), "{one}");
    mend(&site);
    assert_eq!(until_ended(&site, &destroy)["state"], "done");
    site.assert_empty(&["h1"]);
}

#[test]
fn the_end_of_a_workspace_whose_host_is_away_waits_for_it() {
    let mut site = site();
    launch(&site);
    cut(&site, "silent");
    site.until_state("one", "unknown");
    let destroy = id_of(&site.ok(&["destroy", "one", "--no-wait"]));
    until_phase(&site, &destroy, WAITS);
    site.kill_daemon();
    site.start_daemon();
    until_phase(&site, &destroy, WAITS);
    let host = site.ok(&["host", "show", "h1"]);
    assert_ne!(host["free"], host["capacity"], "{host}");
    assert_eq!(site.machines("h1").len(), 1);
    mend(&site);
    assert_eq!(until_ended(&site, &destroy)["state"], "done");
    site.assert_empty(&["h1"]);
}

#[test]
fn a_guest_whose_save_was_cut_short_goes_on_when_its_host_answers_again() {
    let site = site();
    launch(&site);
    let id = id_of(&site.ok(&["serialize", "one", "--no-wait"]));
    until_phase(&site, &id, "export");
    cut(&site, "refused");
    let seen = until_phase(&site, &id, WAITS);
    assert_eq!(seen["phase"], format!("undo save, {WAITS}"), "{seen}");
    assert_held(&site);
    mend(&site);
    let ended = until_ended(&site, &id);
    assert_eq!(ended["state"], "failed", "{ended}");
    assert_eq!(site.state("one"), "running");
    assert_eq!(site.machines("h1")[0].1["boots"], 1, "it went on and was not started anew");
    assert_eq!(site.findings(), Vec::<String>::new());
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn a_bundle_is_whole_again_when_the_host_that_it_was_on_its_way_to_answers() {
    let site = site();
    launch(&site);
    site.run(&["serialize", "one"]);
    let id = id_of(&site.ok(&["resume", "one", "--no-wait"]));
    until_phase(&site, &id, "import");
    cut(&site, "refused");
    until_phase(&site, &id, WAITS);
    assert_held(&site);
    mend(&site);
    assert_eq!(until_ended(&site, &id)["state"], "failed");
    assert_eq!(site.state("one"), "serialized");
    assert!(site.machines("h1").is_empty());
    site.run(&["resume", "one"]);
    assert_eq!(site.state("one"), "running");
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn an_undo_that_a_host_refuses_although_it_answers_ends_as_broken_and_says_why() {
    let fails = "fail = [{ method = \"workspace.start\" }, { method = \"workspace.destroy\", nth = 1 }, { method = \"workspace.destroy\", nth = 2 }, { method = \"workspace.destroy\", nth = 3 }, { method = \"workspace.destroy\", nth = 4 }]";
    let site = Site::start(&Plan { settings: fails.to_owned(), ..Plan::default() });
    site.import("tiny");
    assert_ne!(site.vws(&["launch", "tiny", "--name", "one", "--memory", "64M"]).code, 0);
    let one = site.ok(&["info", "one"]);
    assert_eq!((&one["state"], &one["description"]["reservation"]["host"]), (&"broken".into(), &"h1".into()), "{one}");
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}
