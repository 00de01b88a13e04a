//! A device that fails while the daemon writes: reads go on, changes are refused and say why, and when it works again so does the daemon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use rustix::process::{Resource, Rlimit, prlimit};
use std::process::Command;
use vws_tests::{Plan, Site, until};

/// Lets every write of the daemon to a file fail, or work again: the kernel answers EFBIG, which is to SQLite what a broken disk is.
fn let_writes_fail(site: &Site, fail: bool) {
    let limit = Rlimit { current: fail.then_some(0), maximum: None };
    prlimit(Some(site.daemon_pid()), Resource::Fsize, limit).unwrap();
}

#[test]
fn a_device_that_fails_and_works_again_needs_no_restart() {
    let mut site = Site::prepare(&Plan::default());
    // A write that fails is an error and no signal; its log goes elsewhere, so that it is not a file that fails.
    let daemon = site.daemon_command();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\" 2>/dev/null"]).arg(daemon.get_program()).args(daemon.get_args());
    site.start_daemon_by(command);
    until("the host is probed", || (site.ok(&["host", "show", "h1"])["state"] == "up").then_some(()));
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "before"]);

    let_writes_fail(&site, true);
    let (name, code, message) = site.vws(&["launch", "tiny", "--name", "meanwhile"]).error();
    assert_eq!((name.as_str(), code.as_str()), ("Internal", "store-failed"), "{message}");
    assert!(message.contains("database") && message.contains("vws doctor"), "{message}");
    for _ in 0..3 {
        let (_, code, _) = site.vws(&["destroy", "before"]).error();
        assert_eq!(code, "store-failed");
    }
    assert_eq!(site.state("before"), "running", "reads are answered from what is committed");
    let findings = site.findings();
    assert!(findings.iter().any(|finding| finding.contains("cannot be written") && finding.contains("error")), "{findings:?}");

    let_writes_fail(&site, false);
    until("changes are taken again", || (site.vws(&["launch", "tiny", "--name", "after"]).code == 0).then_some(()));
    assert_eq!(site.findings(), Vec::<String>::new());
    // Whether the launch whose commit failed was kept was open; it is whole, or it is not there.
    if site.state("meanwhile") != "gone" {
        site.until_state("meanwhile", "running");
        site.run(&["destroy", "meanwhile"]);
    }
    for name in ["before", "after"] {
        assert_eq!(site.state(name), "running");
        site.run(&["destroy", name]);
    }
    site.assert_empty(&["h1"]);
    site.kill_daemon();
    site.start_daemon();
    site.assert_empty(&["h1"]);
}
