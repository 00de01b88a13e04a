//! Real guests on several real hosts: what moves, what grows, what is connected, and that nothing of it stays where it left.
//!
//! One lab at a time, since its guests are emulated and share few CPUs. What simulated hosts can show is shown elsewhere; here the
//! guest's own counter and libvirt's own lists have the word.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use vws_tests::crafted::Crafted;
use vws_tests::lab::{HOSTS, Lab};
use vws_tests::libvirt::{KvmHost, guest, until};
use vws_tests::{Plan, Site, program};

/// The lab, and the right to be the only one. It ends before that right.
struct Alone {
    lab: Lab,
    _alone: MutexGuard<'static, ()>,
}

fn lab() -> Option<Alone> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Some(Alone { lab: Lab::start()?, _alone: alone })
}

const LOCAL: &str = "/var/lib/vws-pool";
const SHARED: &str = "/var/lib/vws-shared";

/// A daemon over these hosts, with everything in one folder of theirs, and the guest as the image `tiny`.
fn site(lab: &Lab, hosts: &[&'static str], folder: &str, config: &str) -> Site {
    let kvm = hosts.iter().map(|name| KvmHost { directory: folder.into(), ..Lab::host(name, lab.uri(name)) }).collect();
    let site = Site::start(&Plan {
        hosts: vec![],
        kvm,
        config: format!("[lease]\ngrace-seconds = 0\n[operate]\nreconcile-seconds = 2\n{config}"),
        entrance: lab.entrance(),
        ..Plan::default()
    });
    let part = |name: &str| guest().join(name).to_str().unwrap().to_owned();
    let (disk, kernel, initrd) = (part("guest.qcow2"), part("vmlinuz"), part("initrd.img"));
    let import = ["image", "import", "tiny", &disk, "--format", "qcow2", "--public"];
    // On a busy machine an emulated timer comes so late that the kernel takes it for broken.
    let boot = ["--kernel", &kernel, "--initrd", &initrd, "--cmdline", "console=ttyS0 panic=-1 quiet no_timer_check"];
    site.run(&[import.as_slice(), &boot].concat());
    site
}

fn launch(site: &Site, name: &str, more: &[&str]) {
    site.run(&[&["launch", "tiny", "--name", name, "--memory", "128M", "--lease", "1h"], more].concat());
}

/// A workspace's files in a folder of a host; images and what a host keeps of itself are no workspace's.
fn files(lab: &Lab, host: &str, folder: &str) -> Vec<String> {
    let found = lab.hosts(&["exec", host, "find", folder, "-type", "f", "-printf", "%P\n"]);
    let kept = ["vws-image-", "vws-seen-", "vws-storage-"];
    found.lines().filter(|file| !kept.iter().any(|start| file.starts_with(start))).map(str::to_owned).collect()
}

/// The workspace runs on `here` and nowhere else: libvirt, processes, files, ledger and doctor agree.
fn assert_only_on(lab: &Lab, site: &Site, name: &str, here: &str, hosts: &[&str], what: &str) {
    until(&format!("{what}: `{name}` is on `{here}` alone"), || {
        let seen = site.ok(&["info", name]);
        (seen["host"] == here && seen["state"] == "running" && seen["also_on"] == "").then_some(())
    });
    for host in hosts {
        let there = usize::from(*host == here);
        assert_eq!((lab.domains(host).len(), lab.guests(host)), (there, there), "{what}: machines on {host}");
        if *host != here {
            let shown = site.ok(&["host", "show", host]);
            assert_eq!(shown["free"], shown["capacity"], "{what}: room is held on {host}");
        }
    }
    assert_eq!(site.findings(), Vec::<String>::new(), "{what}");
}

fn assert_nothing_left(lab: &Lab, site: &Site, hosts: &[&str], folder: &str) {
    for host in hosts {
        assert_eq!((lab.domains(host), lab.guests(host)), (Vec::<String>::new(), 0), "{host}");
        assert_eq!(files(lab, host, folder), Vec::<String>::new(), "files on {host}");
    }
    site.assert_nothing_held(hosts);
}

/// How far a guest has counted, and when it was seen.
#[derive(Clone, Copy)]
struct Count {
    tick: u64,
    at: Instant,
}

fn counted(site: &Site, name: &str, least: u64) -> Count {
    Count { tick: site.until_tick(name, least), at: Instant::now() }
}

/// Waits until the guest has counted on, and has neither begun anew nor left a number out. Where its log begins anew with its move,
/// it goes on with what a second each allows.
fn goes_on(site: &Site, name: &str, before: Count, what: &str) -> Count {
    let now = counted(site, name, before.tick + 1);
    let ticks = site.ticks(name);
    let gaps: Vec<_> = ticks.windows(2).filter(|pair| pair[1] != pair[0] + 1).collect();
    assert!(gaps.is_empty(), "{what}: the counter jumps: {gaps:?}");
    let most = before.tick + before.at.elapsed().as_secs() + 3;
    let moved = ticks[0] > before.tick && ticks[0] <= most;
    assert!(moved || ticks.contains(&before.tick), "{what}: it had counted to {} and goes on at {}", before.tick, ticks[0]);
    now
}

fn ended(site: &Site, job: &str) -> Value {
    until("the job ends", || Some(site.ok(&["job", "show", job])).filter(|job| job["ended_at"].as_u64().unwrap() > 0))
}

/// Begins a slow migration from `a` to `b`, and waits until the guest is on its way.
fn under_way(lab: &Lab, site: &Site, name: &str) -> String {
    let begun = site.ok(&["migrate", name, "--host", "b", "--limit", "4", "--no-wait"]);
    let job = begun[0]["id"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
    until("the guest is on its way", || {
        let seen = site.ok(&["job", "show", &job]);
        assert_eq!(seen["ended_at"], 0, "it was too fast to be disturbed: {seen}");
        (seen["phase"] == "migrate" && lab.domains("b").len() == 1 && lab.guests("b") == 1).then_some(())
    });
    job
}

#[test]
fn a_running_guest_moves_with_its_disks_and_whatever_happens_runs_once() {
    let Some(Alone { lab, _alone }) = lab() else { return };
    let hosts = ["a", "b"];
    let mut site = site(&lab, &hosts, LOCAL, "");
    launch(&site, "one", &["--host", "a"]);
    let mut count = counted(&site, "one", 2);

    let began = Instant::now();
    site.run(&["migrate", "one", "--host", "b"]);
    println!("migrated with its disk in {:?}", began.elapsed());
    count = goes_on(&site, "one", count, "moved");
    assert_only_on(&lab, &site, "one", "b", &hosts, "moved");
    assert_eq!(files(&lab, "a", LOCAL), Vec::<String>::new(), "what is left on a");
    site.run(&["migrate", "one", "--host", "a"]);
    count = goes_on(&site, "one", count, "moved back");
    assert_only_on(&lab, &site, "one", "a", &hosts, "moved back");
    assert_eq!(files(&lab, "b", LOCAL), Vec::<String>::new(), "what is left on b");

    let job = under_way(&lab, &site, "one");
    site.run(&["cancel", &job]);
    let seen = ended(&site, &job);
    assert_eq!(seen["state"], "cancelled", "{seen}");
    count = goes_on(&site, "one", count, "cancelled");
    assert_only_on(&lab, &site, "one", "a", &hosts, "cancelled");
    assert_eq!(files(&lab, "b", LOCAL), Vec::<String>::new(), "what a cancelled move left on b");

    // The power of the target fails: the guest never left.
    let job = under_way(&lab, &site, "one");
    lab.power_off("b");
    count = goes_on(&site, "one", count, "the target has no power");
    lab.power_on("b");
    let seen = ended(&site, &job);
    assert_ne!(seen["state"], "done", "{seen}");
    until("b is back", || (site.ok(&["host", "show", "b"])["state"] == "up").then_some(()));
    assert_only_on(&lab, &site, "one", "a", &hosts, "the target lost its power");
    until("nothing is left on b", || files(&lab, "b", LOCAL).is_empty().then_some(()));

    // libvirt moves it on when nobody watches: the daemon that starts again finds it, wherever it is.
    let job = under_way(&lab, &site, "one");
    site.kill_daemon();
    site.start_daemon();
    let seen = ended(&site, &job);
    let here = site.ok(&["info", "one"])["host"].as_str().unwrap().to_owned();
    println!("killed while it moved: the job is {}, the guest on {here}", seen["state"]);
    assert_eq!(here == "b", seen["state"] == "done", "{seen}");
    goes_on(&site, "one", count, "the daemon was killed");
    assert_only_on(&lab, &site, "one", &here, &hosts, "the daemon was killed");
    let other = if here == "a" { "b" } else { "a" };
    assert_eq!(files(&lab, other, LOCAL), Vec::<String>::new(), "what is left on {other}");

    site.run(&["destroy", "one"]);
    assert_nothing_left(&lab, &site, &hosts, LOCAL);
}

#[test]
fn on_storage_that_both_hosts_share_only_memory_moves() {
    let Some(Alone { lab, _alone }) = lab() else { return };
    let hosts = ["a", "b"];
    let site = site(&lab, &hosts, SHARED, "");
    launch(&site, "one", &["--host", "a"]);
    let mut count = counted(&site, "one", 2);
    assert_eq!(site.boots("one"), 1);
    let disks = || -> Vec<_> { files(&lab, "a", SHARED).into_iter().filter(|file| file.contains("-disk-0")).collect() };
    let before = disks();
    assert_eq!(before.len(), 1, "{:?}", files(&lab, "a", SHARED));

    let job = under_way(&lab, &site, "one");
    site.run(&["cancel", &job]);
    assert_eq!(ended(&site, &job)["state"], "cancelled");
    count = goes_on(&site, "one", count, "cancelled");
    assert_only_on(&lab, &site, "one", "a", &hosts, "cancelled");
    assert_eq!(disks(), before, "the target's end took the disk with it");

    let began = Instant::now();
    site.run(&["migrate", "one", "--host", "b"]);
    println!("migrated on shared storage in {:?}", began.elapsed());
    goes_on(&site, "one", count, "moved");
    assert_only_on(&lab, &site, "one", "b", &hosts, "moved");
    assert_eq!(disks(), before);
    assert_eq!(site.boots("one"), 1, "its log says so from its start on: {}", site.console("one"));

    site.run(&["destroy", "one"]);
    assert_nothing_left(&lab, &site, &hosts, SHARED);
}

#[test]
fn a_guest_with_uefi_firmware_takes_its_variables_along() {
    let Some(Alone { lab, _alone }) = lab() else { return };
    let site = site(&lab, &HOSTS, LOCAL, "");
    let cannot = site.ok(&["host", "show", "a"])["capabilities"]["boot-uefi"].as_str().unwrap_or_default().to_owned();
    let disk = guest().join("guest.qcow2");
    let import = ["image", "import", "uefi", disk.to_str().unwrap(), "--format", "qcow2", "--firmware", "uefi", "--public"];
    site.run(&import);
    let launch = ["launch", "uefi", "--name", "one", "--memory", "128M", "--lease", "1h", "--host", "a"];
    if !cannot.is_empty() {
        let (_, _, message) = site.vws(&launch).error();
        assert!(message.contains(&cannot), "{message}");
        vws_tests::skipped(&cannot);
        return;
    }
    site.run(&launch);
    // The disk boots with BIOS only: the firmware's own shell is the guest. It has written its boot entries by then.
    until("the firmware's shell", || site.console("one").contains("Shell>").then_some(()));
    let variables = |host: &str| {
        let found: Vec<_> = files(&lab, host, LOCAL).into_iter().filter(|file| file.ends_with("-nvram.fd")).collect();
        assert_eq!(found.len(), 1, "{host}: {:?}", files(&lab, host, LOCAL));
        let said = lab.hosts(&["exec", host, "sha256sum", &format!("{LOCAL}/{}", found[0])]);
        said.split_whitespace().next().unwrap().to_owned()
    };
    let kept = variables("a");
    let fresh = lab.hosts(&["exec", "a", "sh", "-c", "sha256sum /usr/share/OVMF/OVMF_VARS*"]);
    assert!(!fresh.contains(&kept), "the firmware has kept nothing: {fresh}");

    site.run(&["migrate", "one", "--host", "b"]);
    assert_only_on(&lab, &site, "one", "b", &HOSTS, "moved");
    assert_eq!(files(&lab, "a", LOCAL), Vec::<String>::new(), "what is left on a");
    assert_eq!(variables("b"), kept, "moved");

    site.run(&["serialize", "one"]);
    assert_eq!((lab.domains("b"), files(&lab, "b", LOCAL)), (vec![], vec![]), "serialized");
    let listed = site.ok(&["bundle", "show", "one"]);
    assert!(listed["files"].as_array().unwrap().iter().any(|file| file["name"] == "nvram"), "{listed}");
    site.run(&["resume", "one", "--host", "c"]);
    assert_only_on(&lab, &site, "one", "c", &HOSTS, "resumed");
    assert_eq!(variables("c"), kept, "resumed");
    site.run(&["stop", "one", "--force"]);
    site.run(&["start", "one"]);
    until("the firmware's shell", || site.console("one").contains("Shell>").then_some(()));
    site.run(&["destroy", "one"]);
    assert_nothing_left(&lab, &site, &HOSTS, LOCAL);
}

#[test]
fn a_drained_host_is_empty_and_its_guests_go_on() {
    let Some(Alone { lab, _alone }) = lab() else { return };
    let site = site(&lab, &HOSTS, LOCAL, "");
    let names = ["one", "two"];
    for name in names {
        launch(&site, name, &["--host", "a", "--no-wait"]);
    }
    let counts = names.map(|name| counted(&site, name, 2));
    let plan = site.ok(&["host", "drain", "a", "--plan"]);
    assert_eq!(plan.as_array().unwrap().len(), 2, "{plan}");
    let began = Instant::now();
    let said = site.ok(&["host", "drain", "a", "--yes"]);
    println!("drained of two guests in {:?}", began.elapsed());
    assert_eq!(said["job"]["state"], "done", "{said}");
    for (name, count) in names.into_iter().zip(counts) {
        goes_on(&site, name, count, "drained");
        let seen = site.ok(&["info", name]);
        assert!(seen["state"] == "running" && (seen["host"] == "b" || seen["host"] == "c"), "{seen}");
    }
    let shown = site.ok(&["host", "show", "a"]);
    assert_eq!((&shown["enabled"], &shown["workspaces"]), (&false.into(), &0.into()), "{shown}");
    assert_eq!((lab.domains("a"), lab.guests("a")), (Vec::<String>::new(), 0));
    assert_eq!(files(&lab, "a", LOCAL), Vec::<String>::new());
    assert_eq!(lab.domains("b").len() + lab.domains("c").len(), 2);
    site.run(&["destroy", "one", "two"]);
    site.run(&["host", "undrain", "a"]);
    assert_nothing_left(&lab, &site, &HOSTS, LOCAL);
}

/// Types a line at the guest's shell, and says what it answers behind `word`. The line itself, which the terminal shows as well,
/// must not have `word` with an answer behind it.
fn ask(site: &Site, name: &str, line: &str, word: &str) -> String {
    let heard = || {
        let console = site.console(name);
        let said = console.lines().filter_map(|line| line.trim().strip_prefix(word)?.strip_prefix(' ')).map(str::to_owned);
        said.collect::<Vec<_>>()
    };
    let before = heard().len();
    let mut console = Command::new(program("vws"))
        .args(["console", name])
        .env("VWS_BUS", site.address())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut typed = console.stdin.take().unwrap();
    writeln!(typed, "{line}").unwrap();
    typed.flush().unwrap();
    let answer = until(&format!("the guest answers `{line}`"), || heard().into_iter().nth(before));
    drop(typed);
    console.kill().unwrap();
    console.wait().unwrap();
    answer
}

#[test]
fn a_running_guest_sees_its_new_size_and_goes_back_to_what_was_kept() {
    let Some(Alone { lab, _alone }) = lab() else { return };
    let hosts = ["a", "b"];
    let site = site(&lab, &hosts, LOCAL, "");
    let size = ["--memory-max", "384M", "--vcpus-max", "2", "--disk", "1G", "--host", "a"];
    site.run(&[["launch", "tiny", "--name", "one", "--memory", "192M", "--lease", "1h"].as_slice(), &size].concat());
    site.until_tick("one", 2);

    // Snapshots: what was in memory is there again.
    site.run(&["snapshot", "create", "one", "early", "--memory"]);
    let kept = counted(&site, "one", 1).tick;
    let later = site.until_tick("one", kept + 8);
    site.run(&["snapshot", "revert", "one", "early"]);
    let back = until("it counts again", || {
        let ticks = site.ticks("one");
        // The log goes on behind what was written before, or begins anew.
        let turn = ticks.windows(2).rposition(|pair| pair[1] < pair[0]).map_or(0, |at| at + 1);
        ticks.get(turn).copied().filter(|tick| *tick < later)
    });
    assert!(back >= kept.saturating_sub(1) && back <= kept + 4, "kept at {kept}, counted to {later}, back at {back}");
    assert!(site.boots("one") <= 1, "it booted again: {}", site.console("one"));
    let refused = site.refused(&["snapshot", "create", "one", "disks"], 1);
    assert!(refused.contains("stop"), "{refused}");
    site.run(&["snapshot", "remove", "one", "early"]);
    assert_eq!(site.ok(&["snapshot", "list", "one"]), serde_json::json!([]));

    let memory = |site: &Site| -> u64 {
        ask(site, "one", "echo MEMORY $(awk '/MemTotal/ {print $2}' /proc/meminfo)", "MEMORY").parse().unwrap()
    };
    let small = memory(&site);
    site.run(&["resize", "one", "--memory", "320M"]);
    let large = until("the guest has more memory", || Some(memory(&site)).filter(|kib| *kib > small + (100 << 10)));
    site.run(&["resize", "one", "--memory", "192M"]);
    until("the guest has less memory", || (memory(&site) + (100 << 10) < large).then_some(()));
    let above = site.refused(&["resize", "one", "--memory", "1G"], 1);
    assert!(above.contains("ceiling"), "{above}");

    site.run(&["resize", "one", "--disk", "2G", "--vcpus", "2"]);
    assert_eq!(ask(&site, "one", "echo SECTORS $(cat /sys/class/block/vda/size)", "SECTORS"), "4194304");
    let online = "for c in /sys/devices/system/cpu/cpu[1-9]*; do echo 1 >$c/online; done 2>/dev/null; echo CPUS $(nproc)";
    until("the guest has two CPUs", || (ask(&site, "one", online, "CPUS") == "2").then_some(()));
    let fewer = site.refused(&["resize", "one", "--vcpus", "1"], 1);
    assert!(fewer.contains("shrink-vcpus") || fewer.contains("vCPU"), "{fewer}");
    let smaller = site.refused(&["resize", "one", "--disk", "1G"], 2);
    assert!(smaller.contains("disk"), "{smaller}");
    let seen = site.ok(&["info", "one"]);
    assert_eq!((&seen["vcpus"], &seen["memory_mib"], &seen["disk_gib"]), (&2.into(), &192.into(), &2.into()), "{seen}");

    // A machine that grew leaves as it is, and comes as it was.
    let count = counted(&site, "one", 1);
    site.run(&["serialize", "one"]);
    assert!(lab.domains("a").is_empty());
    site.run(&["resume", "one", "--host", "b"]);
    goes_on(&site, "one", count, "resumed after it grew");
    assert_eq!(site.boots("one"), 0, "{}", site.console("one"));
    assert_eq!(ask(&site, "one", "echo CPUS $(nproc)", "CPUS"), "2");
    let count = counted(&site, "one", 1);
    site.run(&["migrate", "one", "--host", "a"]);
    goes_on(&site, "one", count, "moved after it grew");
    site.run(&["stop", "one", "--force"]);
    site.run(&["snapshot", "create", "one", "disks"]);
    site.run(&["snapshot", "revert", "one", "disks"]);
    site.run(&["snapshot", "remove", "one", "disks"]);
    site.run(&["destroy", "one"]);
    assert_nothing_left(&lab, &site, &hosts, LOCAL);
}

/// The memory stream of a bundle, whose own definition of the machine now names other files of the host.
fn crafted(memory: &[u8], disk: &str, console: &str) -> Vec<u8> {
    const HEAD: usize = 92;
    let word = |at: usize| usize::try_from(u32::from_le_bytes(memory[at..at + 4].try_into().unwrap())).unwrap();
    assert_eq!(&memory[..16], b"LibvirtQemudSave", "libvirt's own format");
    // Behind the magic: version, length of what follows the head, was-running, compressed, offset of the cookie in that.
    let (length, cookie) = (word(20), word(32));
    let data = &memory[HEAD..HEAD + length];
    let end = data.iter().position(|byte| *byte == 0).unwrap();
    let xml = std::str::from_utf8(&data[..end]).unwrap();
    let between = |start: &str| {
        let from = xml.find(start).unwrap_or_else(|| panic!("no {start} in {xml}")) + start.len();
        xml[from..].split('\'').next().unwrap().to_owned()
    };
    let other = xml.replace(&between("<source file='"), disk).replace(&between("<log file='"), console);
    assert!(other.contains(disk) && other.contains(console));
    let mut made = memory[..HEAD].to_vec();
    let rest = if cookie > 0 { &data[cookie..] } else { &[] };
    let put = |made: &mut Vec<u8>, at: usize, value: usize| {
        made[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
    };
    put(&mut made, 20, other.len() + 1 + rest.len());
    if cookie > 0 {
        put(&mut made, 32, other.len() + 1);
    }
    made.extend(other.as_bytes());
    made.push(0);
    made.extend(rest);
    made.extend(&memory[HEAD + length..]);
    made
}

/// Writes a bundle's file anew with another memory, whose digest and size are right.
fn craft(from: &Path, to: &Path, disk: &str, console: &str) {
    let mut bundle = Crafted::read(from);
    let memory = bundle.manifest["files"].as_array().unwrap().iter().position(|file| file["name"] == "memory").unwrap();
    let other = crafted(&bundle.contents[memory], disk, console);
    bundle.replace("files", memory, other);
    // Another one, to the sites that it comes to.
    let id = bundle.manifest["bundle"].as_str().unwrap();
    let turned = if id.ends_with('0') { '1' } else { '0' };
    bundle.manifest["bundle"] = format!("{}{turned}", &id[..id.len() - 1]).into();
    bundle.write(to);
}

#[test]
fn a_bundle_goes_on_at_another_site_and_a_crafted_one_gets_no_file_of_the_host() {
    let Some(Alone { lab, _alone }) = lab() else { return };
    let folder = tempfile::Builder::new().prefix("vws-bundles.").tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut here = site(&lab, &["a"], LOCAL, "");
    launch(&here, "one", &["--host", "a"]);
    let count = counted(&here, "one", 2);
    here.run(&["serialize", "one"]);
    assert!(lab.domains("a").is_empty());
    here.kill_daemon();
    here.start_daemon();
    here.run(&["bundle", "export", "one", &file("one.vwsb")]);
    assert_eq!(here.state("one"), "gone");
    assert_nothing_left(&lab, &here, &["a"], LOCAL);
    drop(here);

    let there = site(&lab, &["b"], LOCAL, "");
    there.run(&["bundle", "verify", &file("one.vwsb")]);
    there.run(&["bundle", "import", &file("one.vwsb"), "--name", "two"]);
    let explained = there.ok(&["explain", "resume", "two"]);
    assert_eq!(explained["permitted"], true, "{explained}");
    there.run(&["resume", "two"]);
    let count = goes_on(&there, "two", count, "at another site");
    assert_eq!(there.boots("two"), 0, "{}", there.console("two"));
    assert_eq!(there.vws(&["bundle", "import", &file("one.vwsb")]).error().1, "bundle-known");

    there.run(&["serialize", "two"]);
    there.run(&["bundle", "export", "two", &file("two.vwsb")]);
    let (disk, log) = ("/var/lib/not-yours.img", "/var/lib/not-yours.log");
    lab.hosts(&["exec", "b", "sh", "-c", &format!("truncate -s 64M {disk} && echo mine >{log} && chmod 666 {disk} {log}")]);
    craft(Path::new(&file("two.vwsb")), Path::new(&file("crafted.vwsb")), disk, log);
    there.run(&["bundle", "verify", &file("crafted.vwsb")]);
    there.run(&["bundle", "import", &file("crafted.vwsb"), "--name", "three"]);
    there.run(&["resume", "three"]);
    goes_on(&there, "three", count, "a crafted bundle");
    let domain = lab.domains("b").remove(0);
    for more in [&["--inactive"][..], &[]] {
        let defined = lab.virsh("b", &[&["dumpxml", &domain], more].concat());
        assert!(!defined.contains("not-yours"), "{defined}");
    }
    let open = lab.hosts(&["exec", "b", "sh", "-c", "ls -l /proc/[0-9]*/fd 2>/dev/null || true"]);
    assert!(open.contains("disk-0"), "the guest's own disk is seen: {open}");
    assert!(!open.contains("not-yours"), "{open}");
    assert_eq!(lab.hosts(&["exec", "b", "cat", log]), "mine\n");
    there.run(&["destroy", "three"]);
    assert_nothing_left(&lab, &there, &["b"], LOCAL);
}

/// Whether something answers at this address from the hosts' segment: it refuses the connection.
fn answers(lab: &Lab, address: &str) -> bool {
    let said = lab.enter(&["timeout", "3", "bash", "-c", &format!("exec 3<>/dev/tcp/{address}/9")]);
    String::from_utf8_lossy(&said.stderr).contains("refused")
}

fn address(site: &Site, name: &str) -> String {
    site.ok(&["info", name])["nics"][0]["address"].as_str().unwrap_or_else(|| panic!("{name} has no address")).to_owned()
}

const LAN: &str =
    "[networks.lan]\nkind = \"bridge\"\nsource = \"br0\"\nsubnet = \"10.77.0.0/16\"\nranges = [\"10.77.1.10-10.77.1.30\"]\n";

#[test]
fn a_guest_has_the_address_it_was_promised_and_no_other() {
    let Some(Alone { lab, _alone }) = lab() else { return };
    let nat = "[networks.nat]\nkind = \"network\"\nsource = \"default\"\nsubnet = \"192.168.122.0/24\"\n\
               ranges = [\"192.168.122.50-192.168.122.60\"]\ndhcp = true\n";
    let open = "[networks.open]\nkind = \"bridge\"\nsource = \"br0\"\nsubnet = \"10.77.0.0/16\"\n\
                ranges = [\"10.77.1.40-10.77.1.60\"]\nanti-spoofing = false\n";
    let site = site(&lab, &["a", "b"], LOCAL, &format!("{LAN}{nat}{open}"));
    launch(&site, "one", &["--host", "a", "--nic", "network=lan", "--no-wait"]);
    launch(&site, "leased", &["--host", "a", "--nic", "network=nat", "--no-wait"]);
    launch(&site, "free", &["--host", "b", "--nic", "network=open", "--no-wait"]);
    for name in ["one", "free", "leased"] {
        site.until_tick(name, 1);
    }
    let (one, free, leased) = (address(&site, "one"), address(&site, "free"), address(&site, "leased"));
    assert_eq!((one.as_str(), free.as_str()), ("10.77.1.10", "10.77.1.40"));
    for (name, wanted) in [("one", format!("{one}/16")), ("free", format!("{free}/16")), ("leased", format!("{leased}/24"))] {
        until(&format!("`{name}` has its address"), || site.console(name).contains(&format!("NET eth0 {wanted}")).then_some(()));
    }
    for own in [&one, &free] {
        until(&format!("{own} answers"), || answers(&lab, own).then_some(()));
    }
    // A second address that is nobody's: it works where nothing is filtered, so the filter is what stops it.
    for (name, stolen, works) in [("free", "10.77.1.59", true), ("one", "10.77.1.29", false)] {
        assert_eq!(ask(&site, name, &format!("ip addr add {stolen}/16 dev eth0; echo STOLEN $?"), "STOLEN"), "0");
        assert_eq!(answers(&lab, stolen), works, "{name} with {stolen}");
    }
    assert!(answers(&lab, &one), "its own address goes on");
    site.run(&["destroy", "one", "free", "leased"]);
    assert!(!lab.virsh("a", &["net-dumpxml", "default"]).contains(&leased), "its DHCP entry is gone");
    for network in ["lan", "open", "nat"] {
        let shown = site.ok(&["network", "show", network]);
        // Its last owner may get it again, and nobody holds it.
        assert_eq!(shown["held"], 0, "{shown}");
    }
    assert_nothing_left(&lab, &site, &["a", "b"], LOCAL);
}

#[test]
fn a_guest_that_made_room_counts_on_when_there_is_some_again() {
    let Some(alone) = lab() else { return };
    let lab = &alone.lab;
    let site = site(lab, &["a"], LOCAL, "");
    // All CPUs but one are the host's own.
    let vcpus = site.ok(&["host", "show", "a"])["capacity"]["vcpus"].as_u64().unwrap();
    site.run(&["host", "change", "a", "--reserve-vcpus", &(vcpus - 1).to_string()]);
    launch(&site, "low", &["--preemptible"]);
    let before = counted(&site, "low", 2);
    launch(&site, "high", &[]);
    assert_eq!((site.state("low"), site.state("high")), ("serialized".to_owned(), "running".to_owned()));
    assert_eq!((lab.domains("a").len(), lab.guests("a")), (1, 1), "one after the other, never both");
    assert_eq!(site.findings(), Vec::<String>::new());
    site.run(&["destroy", "high"]);
    site.run(&["resume", "low"]);
    goes_on(&site, "low", before, "back after it made room");
    site.run(&["destroy", "low"]);
    assert_nothing_left(lab, &site, &["a"], LOCAL);
}

#[test]
fn a_clusters_members_are_apart_and_know_each_other() {
    let Some(Alone { lab, _alone }) = lab() else { return };
    let mut site = site(&lab, &HOSTS, LOCAL, LAN);
    let roles = site.dir().join("cluster.toml");
    let role = |name: &str, count: u32| {
        format!(
            "[{name}]\ncount = {count}\nimage = \"tiny\"\nmemory-mib = 128\napart-from = [\"head\", \"worker\"]\nnics = [{{ network = \"lan\" }}]\n"
        )
    };
    std::fs::write(&roles, role("head", 1) + &role("worker", 2)).unwrap();
    let began = Instant::now();
    site.run(&["cluster", "launch", "calc", "--file", roles.to_str().unwrap(), "--lease", "1h"]);
    println!("a cluster of three in {:?}", began.elapsed());
    let all = site.ok(&["cluster", "show", "calc"]).as_array().unwrap().clone();
    let on: BTreeSet<&str> = all.iter().map(|member| member["host"].as_str().unwrap()).collect();
    assert_eq!(on, BTreeSet::from(HOSTS), "{all:?}");
    let names: Vec<&str> = all.iter().map(|member| member["name"].as_str().unwrap()).collect();
    let mut told = BTreeSet::new();
    for name in &names {
        let own = address(&site, name);
        let line = until(&format!("`{name}` tells of its cluster"), || {
            let console = site.console(name);
            console.lines().find_map(|line| line.trim().strip_prefix("CLUSTER ")).map(str::to_owned)
        });
        let cluster: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(cluster["name"], "calc");
        let peers = cluster["peers"].as_array().unwrap();
        for peer in peers {
            let peer_name = peer["name"].as_str().unwrap();
            assert_eq!(peer["addresses"], serde_json::json!([address(&site, peer_name)]), "{line}");
            assert!(peer["addresses"][0].as_str().unwrap().parse::<Ipv4Addr>().is_ok());
        }
        let known: BTreeSet<&str> = peers.iter().map(|peer| peer["name"].as_str().unwrap()).chain([*name]).collect();
        assert_eq!(known, names.iter().copied().collect(), "{line}");
        // They are on one segment, over all hosts.
        until(&format!("{own} answers"), || answers(&lab, &own).then_some(()));
        told.insert(own);
    }
    assert_eq!(told.len(), 3);
    site.run(&["cluster", "destroy", "calc"]);
    assert_nothing_left(&lab, &site, &HOSTS, LOCAL);
    site.stop_daemon();
}
