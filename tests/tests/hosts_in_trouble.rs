//! Real hosts in trouble under a daemon: libvirt killed, the cable cut, guests ended or started by others. Unknown is not off: nothing is
//! started twice, nothing is freed on a guess, other hosts go on, and all is known again when the host answers.
//!
//! The guest's own counter, libvirt's lists and the hosts' processes have the word. How jobs wait for a host is tested on simulated ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use vws_tests::lab::Lab;
use vws_tests::libvirt::{guest, until};
use vws_tests::{Plan, Site};

/// One lab at a time: its guests are emulated and share few CPUs.
static ALONE: Mutex<()> = Mutex::new(());

/// A call's deadline here. One that does not wait for a host in trouble takes far less.
const CALL: Duration = Duration::from_secs(20);

const LAN: &str =
    "[networks.lan]\nkind = \"bridge\"\nsource = \"br0\"\nsubnet = \"10.77.0.0/16\"\nranges = [\"10.77.1.10-10.77.1.30\"]\n";

fn site(lab: &Lab) -> Site {
    let site = Site::start(&Plan {
        hosts: vec![],
        kvm: ["a", "b"].map(|name| Lab::host(name, lab.uri(name))).to_vec(),
        config: format!(
            "[lease]\ngrace-seconds = 0\n[operate]\nreconcile-seconds = 2\ncall-seconds = {}\nlong-call-seconds = 60\n{LAN}",
            CALL.as_secs()
        ),
        entrance: lab.entrance(),
        ..Plan::default()
    });
    // Room for more guests than this machine has CPUs.
    for host in ["a", "b"] {
        site.run(&["host", "change", host, "--cpu-overcommit-percent", "800"]);
    }
    let part = |name: &str| guest().join(name).to_str().unwrap().to_owned();
    let (disk, kernel, initrd) = (part("guest.qcow2"), part("vmlinuz"), part("initrd.img"));
    let import = ["image", "import", "tiny", &disk, "--format", "qcow2", "--public"];
    // On a busy machine an emulated timer comes so late that the kernel takes it for broken.
    let boot = ["--kernel", &kernel, "--initrd", &initrd, "--cmdline", "console=ttyS0 panic=-1 quiet no_timer_check"];
    site.run(&[import.as_slice(), &boot].concat());
    site
}

/// Begins a launch, and says which job it is.
fn begin(site: &Site, name: &str, host: &str, more: &[&str]) -> String {
    let words = ["launch", "tiny", "--name", name, "--memory", "128M", "--lease", "1h", "--host", host, "--no-wait"];
    let begun = site.ok(&[words.as_slice(), more].concat());
    begun["job"]["id"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned()
}

fn job(site: &Site, id: &str) -> Value {
    site.ok(&["job", "show", id])
}

fn until_ended(site: &Site, id: &str) -> Value {
    until("the job has ended", || Some(job(site, id)).filter(|seen| seen["ended_at"] != 0))
}

/// Begins a launch on `a`, makes trouble while it is at work on the host, and says which job that is.
fn in_mid_deploy(site: &Site, name: &str, trouble: impl Fn()) -> String {
    let id = begin(site, name, "a", &[]);
    until("it is at work on the host", || (job(site, &id)["phase"] == "stage").then_some(()));
    trouble();
    let seen = job(site, &id);
    assert_eq!(seen["ended_at"], 0, "it was too fast to be disturbed: {seen}");
    println!("trouble in mid-deploy, at `{}`", seen["phase"].as_str().unwrap());
    id
}

/// Waits for the end of a deploy that met trouble: it is finished or taken back, and there is one guest or none.
fn finished_or_taken_back(lab: &Lab, site: &Site, id: &str, name: &str, beside: usize) {
    let seen = until_ended(site, id);
    let there = usize::from(seen["state"] == "done");
    println!("the deploy is {}: {}", seen["state"], seen["error"]);
    if there == 1 {
        site.until_tick(name, 1);
        assert_eq!(site.boots(name), 1, "{}", site.console(name));
        site.run(&["destroy", name]);
    } else {
        assert_eq!(seen["state"], "failed", "{seen}");
    }
    assert_eq!(site.state(name), "gone");
    assert_eq!((lab.domains("a").len(), lab.guests("a")), (beside, beside), "machines on a");
}

fn until_host(site: &Site, name: &str, state: &str) {
    until(&format!("host `{name}` is {state}"), || (site.ok(&["host", "show", name])["state"] == state).then_some(()));
}

fn until_state(site: &Site, name: &str, state: &str) {
    until(&format!("`{name}` is {state}"), || (site.state(name) == state).then_some(()));
}

/// The guest runs on, has counted without a gap, and was started once.
fn assert_goes_on(site: &Site, name: &str, before: u64) {
    until_state(site, name, "running");
    site.until_tick(name, before + 1);
    let ticks = site.ticks(name);
    assert!(ticks.windows(2).all(|pair| pair[1] == pair[0] + 1), "its counter jumps: {ticks:?}");
    assert_eq!(site.boots(name), 1, "{}", site.console(name));
}

/// What does not need a host in trouble answers within a call's deadline, which is what that host takes.
fn promptly<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = act();
    println!("{what}: {:?}", began.elapsed());
    assert!(began.elapsed() < CALL, "{what} took {:?}", began.elapsed());
    done
}

/// Unknown, and all that it holds is held.
fn assert_held(site: &Site, name: &str) {
    let seen = site.ok(&["info", name]);
    assert_eq!((&seen["state"], &seen["description"]["reservation"]["host"]), (&"unknown".into(), &"a".into()), "{seen}");
    let host = site.ok(&["host", "show", "a"]);
    assert_eq!(host["state"], "down", "{host}");
    assert_ne!(host["free"], host["capacity"], "{host}");
}

fn held(site: &Site) -> u64 {
    site.ok(&["network", "show", "lan"])["held"].as_u64().unwrap()
}

fn assert_nothing_left(lab: &Lab, site: &Site) {
    let kept = ["vws-image-", "vws-seen-", "vws-storage-"];
    for host in ["a", "b"] {
        assert_eq!((lab.domains(host), lab.guests(host)), (Vec::<String>::new(), 0), "{host}");
        let files = lab.files(host);
        let left: Vec<_> = files.iter().filter(|file| !kept.iter().any(|start| file.starts_with(start))).collect();
        assert!(left.is_empty(), "files on {host}: {left:?}");
    }
    assert_eq!(held(site), 0, "addresses");
    site.assert_nothing_held(&["a", "b"]);
}

/// `virsh` on the host itself, whatever its cable does.
fn virsh_on(lab: &Lab, host: &str, words: &[&str]) -> String {
    lab.hosts(&[&["exec", host, "virsh", "-q", "-c", "qemu:///system"], words].concat())
}

#[test]
fn guests_outlive_their_libvirt_and_what_others_did_meanwhile_is_seen() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(lab) = Lab::start() else { return };
    let site = site(&lab);
    begin(&site, "one", "a", &["--nic", "network=lan"]);
    let before = site.until_tick("one", 2);

    let id = in_mid_deploy(&site, "two", || lab.kill_libvirtd("a"));
    until_state(&site, "one", "unknown");
    assert_held(&site, "one");
    assert!(lab.guests("a") >= 1, "guests go on without libvirt");
    lab.start_libvirtd("a");
    until_host(&site, "a", "up");
    assert_goes_on(&site, "one", before);
    finished_or_taken_back(&lab, &site, &id, "two", 1);
    assert_eq!(site.findings(), Vec::<String>::new());

    // While nobody can look, somebody ends the guest and takes its definition, and starts one of his own.
    lab.cut("a");
    let domain = virsh_on(&lab, "a", &["list", "--name"]).trim().to_owned();
    virsh_on(&lab, "a", &["destroy", &domain]);
    virsh_on(&lab, "a", &["undefine", &domain]);
    let foreign = "<domain type='qemu'><name>foreign</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
                   <os><type arch='x86_64'>hvm</type></os></domain>";
    lab.hosts(&["exec", "a", "sh", "-c", &format!("echo \"{foreign}\" >/tmp/foreign.xml")]);
    virsh_on(&lab, "a", &["create", "/tmp/foreign.xml"]);
    until_state(&site, "one", "unknown");
    assert_held(&site, "one");
    let free = site.ok(&["host", "show", "a"])["free"].clone();
    lab.mend("a");
    until_host(&site, "a", "up");
    until_state(&site, "one", "broken");
    let seen = site.ok(&["info", "one"]);
    assert!(seen["cause"].to_string().contains("no longer has its machine"), "{seen}");
    // Its files may be there: its place and its address are its own until its end was seen.
    assert_eq!(seen["description"]["reservation"]["host"], "a", "{seen}");
    assert_eq!(held(&site), 1);
    let host = until("the guest of others is counted", || {
        Some(site.ok(&["host", "show", "a"])).filter(|host| host["foreign_guests"] == 1)
    });
    assert_ne!(host["free"], free, "what it takes is used: {host}");
    site.run(&["destroy", "one"]);
    assert_eq!(site.state("one"), "gone");
    assert_eq!(lab.domains("a"), ["foreign"], "a guest of others is not touched");
    assert_eq!(site.findings(), Vec::<String>::new());
    virsh_on(&lab, "a", &["destroy", "foreign"]);
    until("it is counted no longer", || (site.ok(&["host", "show", "a"])["foreign_guests"] == 0).then_some(()));
    assert_nothing_left(&lab, &site);
}

#[test]
fn a_cut_cable_is_waited_for_and_hurts_only_its_host() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(lab) = Lab::start() else { return };
    let mut site = site(&lab);
    begin(&site, "stay", "a", &["--nic", "network=lan"]);
    begin(&site, "leave", "a", &["--nic", "network=lan"]);
    begin(&site, "other", "b", &[]);
    let before = site.until_tick("stay", 2);
    until_state(&site, "leave", "running");
    let other = site.until_tick("other", 1);

    let id = in_mid_deploy(&site, "two", || lab.cut("a"));
    // The listing of `a` hangs now. What the store knows is told, and other hosts work.
    promptly("a read", || site.ok(&["list"]));
    promptly("a stop elsewhere", || site.run(&["stop", "other", "--force"]));
    promptly("a start elsewhere", || site.run(&["start", "other"]));
    promptly("a deploy elsewhere", || site.run(&["launch", "tiny", "--name", "new", "--memory", "128M", "--host", "b"]));
    for name in ["stay", "leave"] {
        until_state(&site, name, "unknown");
        assert_held(&site, name);
    }
    assert_eq!(held(&site), 2);
    promptly("a read of an unknown one", || site.ok(&["info", "stay"]));
    promptly("a stop elsewhere, once it is known", || site.run(&["stop", "new", "--force"]));
    assert_eq!(site.ok(&["host", "show", "b"])["state"], "up");
    println!("`other` had counted to {other}");

    // Ends and undos wait for the host, and a restart of the daemon changes nothing.
    let destroy = site.ok(&["destroy", "leave", "--no-wait"])[0]["id"].as_str().unwrap().to_owned();
    let waits = |site: &Site, id: &str| {
        until("the job waits for the host", || {
            let seen = job(site, id);
            assert_eq!(seen["ended_at"], 0, "{seen}\n{}", site.log());
            seen["phase"].as_str().unwrap().contains("waits for host `a`").then_some(())
        });
    };
    for restarted in [false, true] {
        for id in [&id, &destroy] {
            waits(&site, id);
        }
        until_state(&site, "two", "unknown");
        assert_eq!(site.state("leave"), "destroying");
        assert_eq!(held(&site), 2);
        if !restarted {
            site.kill_daemon();
            site.start_daemon();
        }
    }
    lab.mend("a");
    until_host(&site, "a", "up");
    assert_eq!(until_ended(&site, &destroy)["state"], "done");
    assert_eq!(held(&site), 1);
    assert_goes_on(&site, "stay", before);
    finished_or_taken_back(&lab, &site, &id, "two", 1);
    assert_eq!(site.findings(), Vec::<String>::new());
    site.run(&["destroy", "stay", "other", "new"]);
    assert_nothing_left(&lab, &site);
}
