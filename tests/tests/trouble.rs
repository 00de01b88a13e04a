//! A host that goes away in the middle of a deploy, simulated: what it may still hold is not freed on a guess.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use vws_tests::bus::{number, run, word};
use vws_tests::{Plan, Site, until};

#[test]
fn a_deploy_that_cannot_be_taken_back_frees_nothing_before_the_machine_was_seen_to_be_gone() {
    let site = Site::start(&Plan {
        settings: "latency_ms = 250".to_owned(),
        config: "[operate]\nreconcile-seconds = 1\ncall-seconds = 4\nlong-call-seconds = 8\n".to_owned(),
        ..Plan::default()
    });
    site.import("tiny");
    let launched = site.ok(&["launch", "tiny", "--name", "one", "--memory", "64M", "--no-wait"]);
    let job = launched["job"]["path"].as_str().unwrap().to_owned();
    let seen = || run(async { site.client().await.object(&job).await.unwrap() });
    until("disks are being made", || (word(&seen(), "Phase") == "stage").then_some(()));
    let cable = site.dir().join("sim/h1/cable");
    std::fs::write(&cable, "refused").unwrap();
    let ended = until("the job has ended", || Some(seen()).filter(|seen| number(seen, "EndedAt") > 0));
    assert_eq!(word(&ended, "State"), "failed", "{ended:?}");
    // The machine may be there: its place stays taken, and that is said.
    let one = site.ok(&["info", "one"]);
    assert_eq!(one["description"]["reservation"]["host"], "h1", "{one}");
    assert!(one["state"] == "broken" || one["state"] == "unknown", "{one}");
    let host = site.ok(&["host", "show", "h1"]);
    assert_ne!(host["free"], host["capacity"], "{host}");
    std::fs::remove_file(&cable).unwrap();
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h1"]);
}
