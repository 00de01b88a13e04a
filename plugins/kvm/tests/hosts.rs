//! The backend against three hosts that share nothing with this machine: remote, stock Debian, moved between, cut off.
//!
//! Each test runs itself once more inside the site's network, where alone the hosts can be reached.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod lab;

use lab::site::site;
use lab::{call, shell, until};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vws_plugin_api::doc::*;
use vws_plugin_api::sdk::{Backend, Call, Emitter};

#[test]
fn a_stock_host_far_away_is_served_and_a_bundle_goes_on_elsewhere() {
    let Some(site) = site("a_stock_host_far_away_is_served_and_a_bundle_goes_on_elsewhere") else { return };
    site.open_at("c", "tls", "vws").unwrap();
    site.open(&["a"]);
    let facts = site.facts("c");
    eprintln!("{facts:#?}");
    assert_eq!(facts.accelerator, "emulation");
    assert_eq!(facts.capabilities["bridge:br0"], "");
    assert_eq!(facts.capabilities["network:default"], "");
    assert_eq!(facts.capabilities["cpu:qemu64"], "");
    assert_eq!(facts.capabilities["accelerator:emulation"], "");
    assert!(facts.capabilities.keys().any(|name| name.starts_with("machine:pc-i440fx-")));
    assert!(!facts.storage_id.is_empty() && facts.storage_id != site.facts("a").storage_id, "local storage is not shared");
    assert_eq!(facts.storage_id, site.facts("c").storage_id, "and stays what it is");

    let machine = site.disk_machine("c", 1);
    let images = site.backend.image_list(HostRef { host: "c".into() }, &mut call(vec![])).unwrap().images;
    assert_eq!(images.len(), 1);
    site.run("c", &machine);
    let count = site.tick_to("c", &machine, 2);
    assert!(site.log("c", &machine).contains("READY host=guest-1"), "the boot lines are kept");
    let mut console = site.console("c", &machine);
    assert!(shell(&mut console, "hostname").contains("guest-1"));
    drop(console);
    let owner =
        site.script(&["exec", "c", "stat", "-c", "%U", &format!("/var/lib/vws-pool/vws-{}-disk-0.qcow2", machine.workspace)]);
    assert_eq!(owner.trim(), "libvirt-qemu", "guests run as Debian lets them run");

    assert_eq!(site.backend.save(site.of("c", &machine), &mut call(vec![])).unwrap().state, MachineState::Saved);
    let streams: Vec<String> = ["memory", "disk-0"].map(str::to_owned).to_vec();
    let files: Vec<File> = streams.iter().map(|_| tempfile::tempfile().unwrap()).collect();
    let fds = || {
        use std::io::Seek;
        files.iter().for_each(|mut file| file.rewind().unwrap());
        files.iter().map(|file| file.try_clone().unwrap().into()).collect::<Vec<_>>()
    };
    let export = WorkspaceExport {
        host: "c".into(),
        workspace: machine.workspace.clone(),
        streams: streams.clone(),
        plugin_state: serde_json::Value::Null,
    };
    let exported = site.backend.export(export, &mut call(fds())).unwrap();
    site.destroy("c", &machine);
    site.put("a", "guest.qcow2");
    let import = WorkspaceImport { host: "a".into(), machine: machine.clone(), streams, exported };
    // A bundle that ends too early is no bundle.
    let short = tempfile::tempfile().unwrap();
    let failed = site.backend.import(import.clone(), &mut call(vec![short.into(), fds().pop().unwrap()])).unwrap_err();
    assert_eq!(failed.code, codes::DAMAGED, "{failed:?}");
    assert_eq!(site.state("a", &machine), MachineState::Absent);
    assert_eq!(site.files("a", "pool", &machine), Vec::<String>::new());
    assert_eq!(site.backend.import(import, &mut call(fds())).unwrap().state, MachineState::Saved);
    site.backend.restore(site.args("a", &machine), &mut call(vec![])).unwrap();
    site.tick_to("a", &machine, count + 2);
    assert!(!site.log("a", &machine).contains("READY"), "it did not boot");
    site.destroy("a", &machine);
}

#[test]
fn a_running_machine_moves_without_and_with_shared_storage() {
    let Some(site) = site("a_running_machine_moves_without_and_with_shared_storage") else { return };
    site.open(&["a", "b", "c"]);
    let machine = site.disk_machine("a", 2);
    for host in ["b", "c"] {
        site.put(host, "guest.qcow2");
    }
    site.run("a", &machine);
    let mut count = site.tick_to("a", &machine, 2);
    for (from, to) in [("a", "b"), ("b", "c")] {
        let offer = site.prepare(to, &machine, &site.facts(from).storage_id).unwrap();
        assert!(!offer.shared);
        assert_eq!(serde_json::to_value(site.prepare(to, &machine, "").unwrap()).unwrap(), serde_json::to_value(&offer).unwrap());
        let began = Instant::now();
        assert_eq!(site.migrate(from, &machine, &offer, 0, &mut call(vec![])).unwrap().state, MachineState::Absent);
        eprintln!("{from} to {to}: {:?}", began.elapsed());
        assert_eq!(
            site.migrate(from, &machine, &offer, 0, &mut call(vec![])).unwrap().state,
            MachineState::Absent,
            "moved is moved"
        );
        assert_eq!(site.state(to, &machine), MachineState::Running);
        assert_eq!(site.forget(to, &machine, false).unwrap_err().code, codes::STATE, "it runs there");
        assert_eq!(site.forget(from, &machine, false).unwrap().state, MachineState::Absent);
        assert_eq!(site.forget(from, &machine, false).unwrap().state, MachineState::Absent, "forgotten is forgotten");
        assert_eq!(site.files(from, "pool", &machine), Vec::<String>::new());
        assert!(!site.virsh(from, &["list", "--all", "--name"]).contains(&machine.workspace), "no stale definition");
        count = site.tick_to(to, &machine, count + 2);
        let log = site.log(to, &machine);
        assert!(!log.contains("READY"), "it did not boot: {log}");
        assert!(site.virsh(to, &["list", "--persistent", "--name"]).contains(&machine.workspace), "it survives a restart there");
    }
    site.destroy("c", &machine);

    // The same folder on both: nothing is copied, nothing removed.
    for host in ["a", "b"] {
        site.open_at(host, "tcp", "shared").unwrap();
    }
    // Two hosts that put the same image there at once: one sends, the other waits.
    std::thread::scope(|scope| {
        let both = ["a", "b"].map(|host| scope.spawn(|| site.put(host, "initrd.img")));
        both.into_iter().for_each(|one| assert_eq!(one.join().unwrap().len(), 64));
    });
    let images = site.script(&["exec", "a", "ls", "/var/lib/vws-shared"]);
    assert!(!images.contains(".put"), "{images}");
    let machine = site.disk_machine("a", 3);
    let shared = site.facts("a").storage_id;
    assert_eq!(shared, site.facts("b").storage_id);
    site.run("a", &machine);
    let count = site.tick_to("a", &machine, 1);
    let listed = site.backend.host_list(HostRef { host: "b".into() }, &mut call(vec![])).unwrap();
    assert!(listed.workspaces.is_empty(), "its files are seen there, but it is not there: {listed:?}");
    let offer = site.prepare("b", &machine, &shared).unwrap();
    assert!(offer.shared);
    assert_eq!(site.migrate("a", &machine, &offer, 0, &mut call(vec![])).unwrap().state, MachineState::Absent);
    site.forget("a", &machine, true).unwrap();
    site.tick_to("b", &machine, count + 2);
    assert!(site.files("b", "shared", &machine).iter().any(|name| name.ends_with("disk-0.qcow2")));
    site.backend.destroy(site.of("b", &machine), &mut call(vec![])).unwrap();
    assert_eq!(site.files("b", "shared", &machine), Vec::<String>::new());
}

#[test]
fn a_migration_that_is_given_up_or_cut_leaves_one_guest() {
    let Some(site) = site("a_migration_that_is_given_up_or_cut_leaves_one_guest") else { return };
    site.open(&["a", "b"]);
    let machine = site.disk_machine("a", 4);
    let DiskSourceDoc::Image { digest, .. } = machine.disks[0].source.clone() else { panic!("it has an image") };
    site.backend.image_remove(ImageRemove { host: "b".into(), digest }, &mut call(vec![])).unwrap();
    let missing = site.prepare("b", &machine, "").unwrap_err();
    assert_eq!(missing.code, codes::NOT_FOUND, "the image is not there: {missing:?}");
    site.put("b", "guest.qcow2");
    site.run("a", &machine);
    let count = site.tick_to("a", &machine, 1);
    let offer = site.prepare("b", &machine, "").unwrap();
    // Slow, and given up when it was seen to be at work.
    let (cancelled, moved) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
    let (stop, seen) = (Arc::clone(&cancelled), Arc::clone(&moved));
    let hear = Emitter::new(move |event| {
        if let PluginEvent::Progress { done, total, .. } = event
            && *done > 0
        {
            *seen.lock().unwrap() = *done;
            assert!(*total > 0);
            stop.store(true, Ordering::Relaxed);
        }
    });
    let mut given_up = Call::new("job/step".into(), Instant::now() + lab::PATIENCE, vec![], cancelled, hear);
    let failed = site.migrate("a", &machine, &offer, 2, &mut given_up).unwrap_err();
    assert_eq!(failed.code, codes::CANCELLED, "{failed:?}");
    eprintln!("given up after {} bytes", moved.lock().unwrap());
    assert_eq!(site.state("a", &machine), MachineState::Running);
    until("an end of it on the target", || Some(()).filter(|()| site.state("b", &machine) == MachineState::Absent));
    let count = site.tick_to("a", &machine, count + 1);

    // The target's power goes.
    let offer = site.prepare("b", &machine, "").unwrap();
    let (source, target) = (&site, &site);
    let failed = std::thread::scope(|scope| {
        let work = scope.spawn(|| source.migrate("a", &machine, &offer, 2, &mut call(vec![])));
        until("a migration under way", || {
            let job = target.virsh("a", &["domjobinfo", &format!("vws-{}", machine.workspace)]);
            Some(()).filter(|()| job.contains("Outgoing migration"))
        });
        target.script(&["power-off", "b"]);
        work.join().unwrap().unwrap_err()
    });
    eprintln!("{}: {}", failed.code, failed.message);
    assert_eq!(site.state("a", &machine), MachineState::Running);
    site.tick_to("a", &machine, count + 1);
    site.script(&["power-on", "b"]);
    until("host b", || site.backend.host_list(HostRef { host: "b".into() }, &mut call(vec![])).ok());
    // A repeat after that finds a clean way; one that comes while it is at work, as after this process's death, waits for it.
    let offer = site.prepare("b", &machine, "").unwrap();
    let again = lab::site::Site::new(site.folder.clone());
    again.open(&["a"]);
    std::thread::scope(|scope| {
        let work = scope.spawn(|| site.migrate("a", &machine, &offer, 8, &mut call(vec![])));
        until("a migration under way", || {
            let job = again.virsh("a", &["domjobinfo", &format!("vws-{}", machine.workspace)]);
            Some(()).filter(|()| job.contains("Outgoing migration"))
        });
        let waited = again.migrate("a", &machine, &offer, 0, &mut call(vec![])).unwrap();
        assert_eq!(waited.state, MachineState::Absent);
        assert_eq!(work.join().unwrap().unwrap().state, MachineState::Absent);
    });
    assert_eq!(site.state("b", &machine), MachineState::Running);
    site.forget("a", &machine, false).unwrap();
    site.destroy("b", &machine);
}

#[test]
fn a_machine_grows_while_it_runs_and_goes_back_to_what_it_was() {
    let Some(site) = site("a_machine_grows_while_it_runs_and_goes_back_to_what_it_was") else { return };
    site.open(&["c"]);
    let mut machine = site.kernel_machine("c", 5);
    machine.disks =
        vec![DiskDoc { name: "disk-0".into(), source: DiskSourceDoc::Empty, size_mib: 16, iops: 0, kib_per_second: 0 }];
    machine.nics = vec![nic("bridge", "br0", 5)];
    (machine.vcpus_max, machine.memory_max_mib) = (2, 192);
    site.run("c", &machine);
    site.tick_to("c", &machine, 1);
    let mut console = site.console("c", &machine);
    let size = |console: &mut UnixStream| {
        shell(console, "cat /sys/block/vda/size; grep MemTotal /proc/meminfo; ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l")
    };
    // Snapshots: with memory while it runs.
    let before = machine.clone();
    let snapshot = |name: &str, memory| SnapshotArgs {
        host: "c".into(),
        machine: before.clone(),
        name: name.into(),
        memory,
        plugin_state: serde_json::Value::Null,
    };
    assert!(shell(&mut console, "echo before >/dev/vda; sync; echo before >/tmp/mark; cat /tmp/mark").contains("before"));
    assert_eq!(site.backend.snapshot(snapshot("one", true), &mut call(vec![])).unwrap().state, MachineState::Running);
    site.backend.snapshot(snapshot("one", true), &mut call(vec![])).unwrap();
    assert!(shell(&mut console, "echo after >/dev/vda; sync; echo after >/tmp/mark; cat /tmp/mark").contains("after"));
    site.backend.snapshot(snapshot("two", true), &mut call(vec![])).unwrap();
    assert_eq!(site.backend.snapshots(site.of("c", &before), &mut call(vec![])).unwrap().names, ["one", "two"]);
    drop(console);
    assert_eq!(site.backend.revert(snapshot("one", true), &mut call(vec![])).unwrap().state, MachineState::Running);
    let mut console = site.console("c", &machine);
    assert!(shell(&mut console, "cat /tmp/mark; head -c 6 /dev/vda").matches("before").count() >= 2);
    drop(console);
    let listed = || site.backend.snapshots(site.of("c", &before), &mut call(vec![])).unwrap().names;
    assert_eq!(listed(), ["one", "two"]);
    site.backend.snapshot_remove(snapshot("one", false), &mut call(vec![])).unwrap();
    site.backend.snapshot_remove(snapshot("one", false), &mut call(vec![])).unwrap();
    site.backend.snapshot_remove(snapshot("two", false), &mut call(vec![])).unwrap();
    assert_eq!(listed(), Vec::<String>::new());
    let gone = site.backend.revert(snapshot("one", true), &mut call(vec![])).unwrap_err();
    assert_eq!(gone.code, codes::NOT_FOUND);
    let mut console = site.console("c", &machine);
    eprintln!("before: {}", size(&mut console));
    let resize = |machine: &MachineDoc| {
        let args = MachineResize { host: "c".into(), machine: machine.clone(), plugin_state: serde_json::Value::Null };
        site.backend.resize(args, &mut call(vec![]))
    };
    (machine.vcpus, machine.memory_mib, machine.disks[0].size_mib, machine.disks[0].kib_per_second) = (2, 160, 32, 4096);
    (machine.nics[0].inbound_kib_per_second, machine.nics[0].outbound_kib_per_second) = (0, 0);
    assert_eq!(resize(&machine).unwrap().after_restart, Vec::<String>::new());
    let is = until("the guest's new size", || {
        let is = size(&mut console);
        let cpus = is.lines().rev().find(|line| line.trim().parse::<u32>().is_ok()).map(str::trim) == Some("2");
        Some(is.clone()).filter(|is| is.contains("65536") && cpus)
    });
    eprintln!("after: {is}");
    let live = site.virsh("c", &["dumpxml", &format!("vws-{}", machine.workspace)]);
    assert!(live.contains("<total_bytes_sec>4194304<"), "{live}");
    let refused = |change: &dyn Fn(&mut MachineDoc)| {
        let mut other = machine.clone();
        change(&mut other);
        resize(&other).unwrap_err()
    };
    let shrink = refused(&|machine| machine.disks[0].size_mib = 16);
    assert!(shrink.code == codes::INVALID && shrink.message.contains("not made smaller"), "{shrink:?}");
    let unplug = refused(&|machine| machine.vcpus = 1);
    assert!(unplug.code == codes::UNSUPPORTED && unplug.message.contains("hang"), "{unplug:?}");
    let ceiling = resize(&MachineDoc { memory_mib: 256, ..machine.clone() }).unwrap();
    assert_eq!(ceiling.after_restart, ["memory_mib", "memory_max_mib"]);

    let stats = site.backend.host_stats(HostRef { host: "c".into() }, &mut call(vec![])).unwrap();
    eprintln!("{stats:?}");
    let one = stats.workspaces.iter().find(|one| one.workspace == machine.workspace).unwrap();
    assert!(one.cpu_time_ns.unwrap() > 0 && one.resident_mib.unwrap() > 0 && one.memory_mib.unwrap() > 0);
    assert!(one.disk_read_bytes.is_some() && one.net_sent_bytes.is_some());

    // What was plugged in is there after a serialization, and no snapshot is taken that could not be reverted.
    drop(console);
    let args = SnapshotArgs {
        host: "c".into(),
        machine: machine.clone(),
        name: "late".into(),
        memory: true,
        plugin_state: serde_json::Value::Null,
    };
    let late = site.backend.snapshot(args, &mut call(vec![])).unwrap_err();
    assert!(late.code == codes::UNSUPPORTED && late.message.contains("vCPUs"), "{late:?}");
    assert_eq!(site.backend.save(site.of("c", &machine), &mut call(vec![])).unwrap().state, MachineState::Saved);
    site.backend.restore(site.args("c", &machine), &mut call(vec![])).unwrap();
    let mut console = site.console("c", &machine);
    assert!(size(&mut console).contains("65536"));
    drop(console);
    // Without memory while it is off; its disk grows there as well.
    let stop = WorkspaceStop {
        host: "c".into(),
        workspace: machine.workspace.clone(),
        guest_timeout_ms: 0,
        plugin_state: serde_json::Value::Null,
    };
    site.backend.stop(stop, &mut call(vec![])).unwrap();
    let off = || SnapshotArgs {
        host: "c".into(),
        machine: machine.clone(),
        name: "off".into(),
        memory: false,
        plugin_state: serde_json::Value::Null,
    };
    let mut larger = machine.clone();
    larger.disks[0].size_mib = 48;
    assert_eq!(resize(&larger).unwrap().status.state, MachineState::Stopped);
    assert_eq!(site.backend.snapshot(off(), &mut call(vec![])).unwrap().state, MachineState::Stopped);
    assert_eq!(site.backend.revert(off(), &mut call(vec![])).unwrap().state, MachineState::Stopped);
    site.destroy("c", &machine);
}

fn nic(kind: &str, source: &str, last: u8) -> NicDoc {
    NicDoc {
        mac: format!("52:54:00:00:00:{last:02x}"),
        kind: kind.into(),
        source: source.into(),
        inbound_kib_per_second: 0,
        outbound_kib_per_second: 0,
        addresses: vec![],
        anti_spoofing: false,
        dhcp: false,
    }
}

#[test]
fn a_nic_gets_its_address_and_speaks_for_nobody_else() {
    let Some(site) = site("a_nic_gets_its_address_and_speaks_for_nobody_else") else { return };
    site.open(&["c"]);
    let facts = site.facts("c");
    assert_eq!(facts.capabilities["dhcp"], "");
    let mut machine = site.kernel_machine("c", 6);
    let fixed = |address: &str| NicDoc {
        addresses: vec![address.into()],
        dhcp: true,
        anti_spoofing: facts.capabilities["anti-spoofing"].is_empty(),
        ..nic("network", "default", 6)
    };
    eprintln!("anti-spoofing: {:?}", facts.capabilities["anti-spoofing"]);
    machine.nics = vec![NicDoc { source: "none-such".into(), ..fixed("192.168.122.50/24") }];
    let missing = site.backend.stage(site.args("c", &machine), &mut call(vec![])).unwrap_err();
    assert!(missing.code == codes::NOT_FOUND && missing.object.contains("none-such"), "{missing:?}");
    machine.nics = vec![fixed("10.9.9.9/24")];
    let outside = site.backend.stage(site.args("c", &machine), &mut call(vec![])).unwrap_err();
    assert_eq!(outside.code, codes::INVALID, "{outside:?}");
    assert_eq!(site.state("c", &machine), MachineState::Absent);
    machine.nics = vec![fixed("192.168.122.50/24")];
    site.run("c", &machine);
    site.tick_to("c", &machine, 1);
    let network = site.virsh("c", &["net-dumpxml", "default"]);
    assert_eq!(network.matches("192.168.122.50").count(), 1, "{network}");
    let mut console = site.console("c", &machine);
    shell(&mut console, "ticks-off");
    let lease = shell(&mut console, "ip link set eth0 up; udhcpc -i eth0 -n -q -f -t 8 2>&1");
    assert!(lease.contains("192.168.122.50"), "{lease}");
    let ping = |console: &mut UnixStream, address: &str| {
        let said =
            shell(console, &format!("ip addr flush dev eth0; ip addr add {address}/24 dev eth0; ping -c 2 -W 3 192.168.122.1"));
        said.contains(" 0% packet loss") || said.contains("1 packets received")
    };
    assert!(ping(&mut console, "192.168.122.50"));
    if facts.capabilities["anti-spoofing"].is_empty() {
        assert!(!ping(&mut console, "192.168.122.51"), "it spoke from another's address");
    }
    site.destroy("c", &machine);
    let network = site.virsh("c", &["net-dumpxml", "--inactive", "default"]);
    assert!(!network.contains("192.168.122.50"), "{network}");
}

#[test]
fn a_long_console_log_is_bounded_on_the_host() {
    let Some(site) = site("a_long_console_log_is_bounded_on_the_host") else { return };
    let uri = site.script(&["uri", "c"]);
    let settings = serde_json::json!({"uri": uri.trim(), "pool": "vws", "console_log_kib": 16});
    site.backend.host_open(HostOpen { host: "c".into(), settings }, &mut call(vec![])).unwrap();
    let machine = site.kernel_machine("c", 8);
    site.run("c", &machine);
    site.tick_to("c", &machine, 1);
    let mut console = site.console("c", &machine);
    shell(&mut console, "ticks-off; seq 1 40000; echo the last of it");
    let path = format!("/var/lib/vws-pool/vws-{}-console.log", machine.workspace);
    let size = || site.script(&["exec", "c", "stat", "-c", "%s", &path]).trim().parse::<u64>().unwrap();
    until("a shorter log", || Some(()).filter(|()| size() <= 32 << 10));
    let log = site.log("c", &machine);
    eprintln!("{} bytes on the host, {} told", size(), log.len());
    assert!(log.contains("READY host=guest-8") && log.contains("the last of it") && log.contains("[...]"), "{log}");
    // It goes on behind the cut.
    shell(&mut console, "echo and on it goes");
    until("the newest line", || Some(()).filter(|()| site.log("c", &machine).contains("and on it goes")));
    site.destroy("c", &machine);
}

#[test]
fn a_cut_cable_hurts_only_its_host_and_ends_in_time() {
    let Some(site) = site("a_cut_cable_hurts_only_its_host_and_ends_in_time") else { return };
    site.open(&["a", "b"]);
    let machine = site.kernel_machine("a", 7);
    site.run("a", &machine);
    site.tick_to("a", &machine, 1);
    let list = |host: &str| site.backend.host_list(HostRef { host: host.into() }, &mut call(vec![]));
    site.script(&["cut", "a"]);
    let began = Instant::now();
    let failed = list("a").unwrap_err();
    eprintln!("{} after {:?}: {}", failed.code, began.elapsed(), failed.message);
    assert_eq!(failed.code, codes::UNREACHABLE, "{failed:?}");
    assert!(began.elapsed() < Duration::from_secs(45));
    let began = Instant::now();
    list("b").unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "another host is not slowed");
    until("the news", || {
        let events = site.events.lock().unwrap();
        events.iter().any(|event| matches!(event, PluginEvent::Host { host, up: false, .. } if host == "a")).then_some(())
    });
    let began = Instant::now();
    assert_eq!(list("a").unwrap_err().code, codes::UNREACHABLE);
    assert!(began.elapsed() < Duration::from_secs(2), "known to be gone: told at once");
    site.script(&["mend", "a"]);
    until("the host again", || list("a").ok());
    assert_eq!(site.state("a", &machine), MachineState::Running);
    site.script(&["kill-libvirtd", "a"]);
    until("the news", || list("a").err());
    site.script(&["start-libvirtd", "a"]);
    until("the host again", || list("a").ok());
    site.virsh("a", &["destroy", &format!("vws-{}", machine.workspace)]);
    until("an event about the end", || {
        let events = site.events.lock().unwrap();
        let ended =
            |event: &PluginEvent| matches!(event, PluginEvent::Workspace { status, .. } if status.state == MachineState::Stopped);
        events.iter().any(ended).then_some(())
    });
    site.destroy("a", &machine);
}
