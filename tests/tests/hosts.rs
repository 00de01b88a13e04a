//! Several hosts with real libvirts: what the test bed promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::time::{Duration, Instant};
use vws_tests::lab::{HOSTS, Lab};

fn answers_within(lab: &Lab, host: &str, seconds: &str) -> bool {
    lab.enter(&["timeout", seconds, "virsh", "-q", "-c", &lab.uri(host), "uri"]).status.success()
}

fn answers(lab: &Lab, host: &str) -> bool {
    answers_within(lab, host, "20")
}

#[test]
fn the_hosts_are_apart_and_nothing_leaves_the_machine() {
    let Some(lab) = Lab::start() else { return };
    let state = tempfile::Builder::new().prefix("vws-state.").tempdir().unwrap();
    println!("{}", lab.hosts(&["check", state.path().to_str().unwrap()]));
    // The check can fail: a path that every host has is refused.
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lab.hosts(&["check", "/usr/bin/env"])));
    assert!(seen.is_err(), "a host sees /usr, and the check did not say so");

    // A host that is off is unreachable at once; the check looks at that too.
    lab.power_off("b");
    let began = Instant::now();
    assert!(!answers(&lab, "b"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    lab.hosts(&["check"]);
    lab.power_on("b");
    assert!(answers(&lab, "b"));

    // A silent one is not: nobody says no, and nobody answers.
    lab.cut("a");
    assert!(!answers_within(&lab, "a", "2"));
    assert!(answers(&lab, "b") && answers(&lab, "c"), "a cable is one host's");
    lab.mend("a");
    assert!(answers(&lab, "a"));

    lab.kill_libvirtd("c");
    assert!(!answers(&lab, "c"));
    lab.start_libvirtd("c");
    for host in HOSTS {
        assert!(answers(&lab, host), "{host}");
        assert_eq!(lab.virsh(host, &["hostname"]).trim(), format!("host-{host}"));
        assert!(lab.domains(host).is_empty());
    }
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let Some(lab) = Lab::start() else { return };
    let folder = lab.dir().to_owned();
    let began = |folder: &std::path::Path| {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|entry| {
                let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&command).contains(folder.to_str().unwrap())
            })
            .count()
    };
    assert!(began(&folder) > 3, "the site's and the hosts' first processes name the folder");
    drop(lab);
    assert!(!folder.exists());
    assert_eq!(began(&folder), 0);
}
