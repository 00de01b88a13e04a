//! `kill -9` of the daemon in the middle of jobs on real machines: after a restart each job has ended well, the guest was booted once
//! and went on where it was, and nothing is orphaned.

use vws_tests::Plan;
use vws_tests::Site;
use vws_tests::bus::{number, run, word};
use vws_tests::libvirt::{KvmHost, Libvirt, until};

const LAUNCH: &[&str] = &["launch", "guest", "--name", "one", "--memory", "128M", "--no-wait"];

/// Begins a job, kills the daemon when it is at `step`, starts it again, and waits until the job has ended well. Says where it hit.
fn killed_in(site: &mut Site, begin: &[&str], step: &str) -> String {
    let begun = site.ok(begin);
    let job = begun["job"]["path"].as_str().or(begun[0]["path"].as_str()).unwrap_or_else(|| panic!("{begun}")).to_owned();
    let hit = run(async {
        let client = site.client().await;
        loop {
            let seen = client.object(&job).await.unwrap();
            let (state, phase) = (word(&seen, "State"), word(&seen, "Phase"));
            if number(&seen, "EndedAt") > 0 || (state == "running" && phase == step) {
                return format!("{} {state} {phase}", word(&seen, "Kind"));
            }
        }
    });
    site.kill_daemon();
    site.start_daemon();
    let ended = until(&format!("the job that was killed at {hit} has ended"), || {
        let seen = run(async { site.client().await.object(&job).await });
        let seen = seen.unwrap_or_else(|error| panic!("the job that was killed at {hit} is forgotten: {error}"));
        (number(&seen, "EndedAt") > 0).then_some(seen)
    });
    assert_eq!(word(&ended, "State"), "done", "killed at {hit}: {ended:?}\n{}", site.log());
    hit
}

/// One workspace is there, once: in libvirt, as a process, on the disk, in the ledger; the doctor finds nothing.
fn assert_runs_once(site: &Site, libvirt: &Libvirt, host: &KvmHost, what: &str) {
    let listed = site.ok(&["list"]);
    let id = listed[0]["id"].as_str().unwrap_or_else(|| panic!("{what}: {listed}")).to_owned();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["state"]), (1, &"running".into()), "{what}: {listed}");
    assert_eq!(libvirt.domains().len(), 1, "{what}");
    assert!(libvirt.domains()[0].contains(&id), "{what}: {:?}", libvirt.domains());
    assert_eq!(libvirt.guests(), 1, "{what}: guests");
    assert_eq!(host.kept(), [id], "{what}: files");
    let shown = site.ok(&["host", "show", host.name]);
    assert_eq!(shown["workspaces"], 1, "{what}: {shown}");
    assert_eq!(site.findings(), Vec::<String>::new(), "{what}");
}

/// It is in its bundle and nowhere else.
fn assert_packed(site: &Site, libvirt: &Libvirt, host: &KvmHost, what: &str) {
    assert_eq!(site.state("one"), "serialized", "{what}");
    assert_eq!((libvirt.domains().len(), libvirt.guests(), host.kept().len()), (0, 0, 0), "{what}");
    let shown = site.ok(&["host", "show", host.name]);
    assert_eq!((&shown["workspaces"], &shown["free"]), (&0.into(), &shown["capacity"]), "{what}: {shown}");
    assert_eq!(site.findings(), Vec::<String>::new(), "{what}");
}

#[test]
fn a_killed_daemon_loses_repeats_and_orphans_nothing() {
    let Some(libvirt) = Libvirt::start(&[]) else { return };
    let host = libvirt.host("here");
    let mut site = Site::start(&Plan { hosts: Vec::new(), kvm: vec![host.clone()], ..Plan::default() });
    site.import_guest();
    let mut hits = Vec::new();

    // Made once, booted once, wherever the daemon died.
    for step in ["images", "stage", "start"] {
        let hit = killed_in(&mut site, LAUNCH, step);
        site.until_tick("one", 2);
        assert_eq!(site.boots("one"), 1, "killed at {hit}: {}", site.console("one"));
        assert_runs_once(&site, &libvirt, &host, &hit);
        hits.push((step, hit));
        if step != "start" {
            let hit = killed_in(&mut site, &["destroy", "one", "--no-wait"], "machine");
            site.assert_empty_on(&libvirt, std::slice::from_ref(&host));
            hits.push(("machine", hit));
        }
    }

    // Packed and unpacked, killed at another step each time: one guest that goes on counting and never boots again.
    let mut count = site.ticks("one").last().copied().unwrap();
    for (pack, unpack) in [("save", "images"), ("export", "import"), ("leave", "restore")] {
        let hit = killed_in(&mut site, &["serialize", "one", "--no-wait"], pack);
        assert_packed(&site, &libvirt, &host, &hit);
        hits.push((pack, hit));
        let hit = killed_in(&mut site, &["resume", "one", "--no-wait"], unpack);
        let next = site.until_tick("one", count + 1);
        assert_eq!(site.boots("one"), 0, "killed at {hit}: it booted again: {}", site.console("one"));
        let first = site.ticks("one")[0];
        assert!(first > count, "killed at {hit}: it went back from {count} to {first}");
        count = next;
        assert_runs_once(&site, &libvirt, &host, &hit);
        hits.push((unpack, hit));
    }
    let hit = killed_in(&mut site, &["destroy", "one", "--no-wait"], "machine");
    site.assert_empty_on(&libvirt, std::slice::from_ref(&host));
    hits.push(("machine", hit));
    eprintln!("{hits:#?}");

    // Steps that take long enough to be hit for sure were hit at work: otherwise this would prove nothing.
    for step in ["start", "save", "export", "import", "restore"] {
        let meant = hits.iter().any(|(at, hit)| *at == step && hit.ends_with(&format!("running {step}")));
        assert!(meant, "no kill hit {step}: {hits:#?}");
    }
}
