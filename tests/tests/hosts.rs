//! Several hosts with real libvirts: what the test bed promises, and a daemon over them that shares no folder with any.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::time::{Duration, Instant};
use vws_tests::lab::{HOSTS, Lab};
use vws_tests::libvirt::{guest, until};
use vws_tests::{Plan, Site};

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

/// Users whose processes the guests of a host are.
fn users(lab: &Lab, host: &str) -> Vec<String> {
    let all = lab.hosts(&["exec", host, "ps", "-eo", "user:20,comm"]);
    let of = |line: &str| {
        Some(line.split_once(char::is_whitespace)?).filter(|(_, what)| what.contains("qemu")).map(|(who, _)| who.to_owned())
    };
    all.lines().filter_map(of).collect()
}

#[test]
fn an_unprivileged_daemon_runs_guests_on_hosts_that_share_nothing_with_it() {
    const NOBODY: u32 = 65534;
    let Some(lab) = Lab::start() else { return };
    let certificates = tempfile::Builder::new().prefix("vws-tls.").tempdir_in("/tmp").unwrap();
    let kvm = vec![
        Lab::host("a", lab.uri("a")),
        Lab::host("b", lab.tls_uri("b", certificates.path(), "nobody")),
        Lab::host("c", lab.uri("c")),
    ];
    let site = Site::start(&Plan {
        hosts: vec![],
        kvm,
        config: "[lease]\ngrace-seconds = 0\n[operate]\nreconcile-seconds = 2\n".to_owned(),
        entrance: lab.entrance(),
        user: Some(NOBODY),
        ..Plan::default()
    });
    let listed = site.ok(&["host", "list"]);
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|host| host["name"].as_str().unwrap()).collect();
    assert_eq!(names, HOSTS, "{listed}");
    // While a daemon works, its state is as invisible to the hosts as everything else of the machine.
    lab.hosts(&["check", site.dir().join("state").to_str().unwrap()]);

    let part = |name: &str| guest().join(name).to_str().unwrap().to_owned();
    let (disk, kernel, initrd) = (part("guest.qcow2"), part("vmlinuz"), part("initrd.img"));
    let import = ["image", "import", "tiny", &disk, "--format", "qcow2", "--public"];
    let boot = ["--kernel", &kernel, "--initrd", &initrd, "--cmdline", "console=ttyS0 panic=-1 quiet"];
    site.run(&[import.as_slice(), &boot].concat());

    for host in HOSTS {
        let name = format!("on-{host}");
        site.run(&["launch", "tiny", "--name", &name, "--memory", "128M", "--lease", "1h", "--host", host]);
        site.until_tick(&name, 2);
        assert_eq!((lab.domains(host).len(), lab.guests(host)), (1, 1), "{host}");
        let who = if host == "c" { "libvirt-qemu" } else { "root" };
        assert_eq!(users(&lab, host), [who], "{host}");
    }

    // Its memory goes on where nothing of the host it left can be seen: from a permissive host over TLS to a stock one.
    site.run(&["destroy", "on-c"]);
    site.run(&["serialize", "on-a"]);
    assert!(lab.domains("a").is_empty());
    let before = site.ticks("on-b").last().copied().unwrap();
    site.run(&["serialize", "on-b"]);
    site.run(&["resume", "on-b", "--host", "c"]);
    let first = until("the guest goes on at c", || site.ticks("on-b").first().copied());
    assert!(first >= before, "it counted to {before} and then from {first}");
    assert_eq!(site.boots("on-b"), 0, "its console since says that it booted");
    assert_eq!(users(&lab, "c"), ["libvirt-qemu"]);

    // A host without power takes its guests along; another one's are not touched.
    site.run(&["resume", "on-a", "--host", "b"]);
    lab.power_off("c");
    until("c is seen to be away", || (site.state("on-b") == "unknown").then_some(()));
    assert_eq!(site.state("on-a"), "running");
    lab.power_on("c");
    until("c is back", || (site.ok(&["host", "show", "c"])["state"] == "up").then_some(()));
    until("what became of it is known", || (site.state("on-b") != "unknown").then_some(()));
    assert_ne!(site.state("on-b"), "running");

    for name in ["on-a", "on-b"] {
        site.run(&["destroy", name]);
    }
    for host in HOSTS {
        assert_eq!((lab.domains(host), lab.guests(host)), (Vec::<String>::new(), 0), "{host}");
        // What a host keeps: images, what was seen of it, and its storage's identity. Nothing is a workspace's.
        let kept = ["vws-image-", "vws-seen-", "vws-storage-"];
        let left: Vec<_> = lab.files(host).into_iter().filter(|file| !kept.iter().any(|start| file.starts_with(start))).collect();
        assert_eq!(left, Vec::<String>::new(), "files on {host}");
        let shown = site.ok(&["host", "show", host]);
        assert_eq!(shown["free"], shown["capacity"], "{host}: something is reserved: {shown}");
    }
    assert_eq!(site.findings(), Vec::<String>::new());
}
