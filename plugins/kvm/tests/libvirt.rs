//! The backend against a private libvirt and real guests under whatever accelerator the probe finds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod lab;

use lab::{Lab, call, shell, ticks, until, wanted};
use std::cell::RefCell;
use std::fs::{self, File};
use std::time::{Duration, Instant};
use vws_plugin_api::doc::*;
use vws_plugin_api::sdk::Backend;

fn probe(lab: &Lab, fresh: bool) -> HostFacts {
    lab.backend.host_probe(HostProbe { host: "here".into(), fresh }, &mut call(vec![])).unwrap()
}

#[test]
fn without_kvm_the_probe_says_so_and_remembers_what_it_saw() {
    if !wanted("without_kvm_the_probe_says_so_and_remembers_what_it_saw") {
        return;
    }
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: /dev/kvm can be hidden by root only");
        return;
    }
    let lab = Lab::start(&[]);
    let facts = probe(&lab, false);
    eprintln!("{facts:#?}");
    assert_eq!(facts.accelerator, "emulation");
    assert!(facts.accelerator_reason.contains("offers no kvm"), "{}", facts.accelerator_reason);
    assert!(facts.accelerator_reason.contains("ran under emulation"), "{}", facts.accelerator_reason);
    assert!(facts.vcpus > 0 && facts.memory_mib > 0 && facts.disk_gib > 0);
    assert_eq!(facts.foreign, Foreign::default(), "the test guest is not counted");
    assert_eq!(facts.capabilities["boot-bios"], "");
    assert!(facts.capabilities["cpu-shares"].contains("cgroup"), "no cgroups here: {:?}", facts.capabilities);
    assert!(!facts.capabilities["nic-limits-user"].is_empty());
    assert_eq!(lab.virsh(&["list", "--all", "--name"]).trim(), "", "the test guest is gone");
    assert_eq!(lab.files("here", "vws-probe-"), Vec::<String>::new(), "and so are its files");

    // Another process remembers: no guest is booted.
    lab.open("here", "here").unwrap();
    let began = Instant::now();
    let again = probe(&lab, false);
    assert_eq!(again.accelerator_reason, facts.accelerator_reason, "the same words with the same milliseconds: the same run");
    eprintln!("remembered in {:?}", began.elapsed());
    assert_eq!(probe(&lab, true).accelerator, "emulation");
}

#[test]
fn kvm_counts_only_if_a_guest_ran_under_it() {
    if !wanted("kvm_counts_only_if_a_guest_ran_under_it") {
        return;
    }
    if !std::path::Path::new("/dev/kvm").exists() {
        eprintln!("skipped: there is no /dev/kvm on this machine");
        return;
    }
    let lab = Lab::start(&["--kvm"]);
    let facts = probe(&lab, false);
    eprintln!("{}: {}", facts.accelerator, facts.accelerator_reason);
    match facts.accelerator.as_str() {
        "kvm" => assert!(facts.accelerator_reason.contains("ran under kvm"), "{}", facts.accelerator_reason),
        "emulation" => assert!(
            facts.accelerator_reason.contains("kvm") && facts.accelerator_reason.contains("ran under emulation"),
            "{}",
            facts.accelerator_reason
        ),
        other => panic!("accelerator {other}"),
    }
    // Whichever it chose: a real kernel comes up under it.
    let machine = lab.kernel_machine(1);
    lab.stage(&machine).unwrap();
    lab.start_machine(&machine).unwrap();
    lab.line("here", &machine, "READY host=guest-1");
}

#[test]
fn a_workspace_lives_moves_and_ends() {
    if !wanted("a_workspace_lives_moves_and_ends") {
        return;
    }
    let lab = Lab::start(&[]);
    lab.open("there", "there").unwrap();
    let mut machine = lab.disk_machine(2);
    machine.disks.push(DiskDoc { name: "disk-1".into(), source: DiskSourceDoc::Empty, size_mib: 16, iops: 0, kib_per_second: 0 });
    let me = || lab.reference("here", &machine);

    probe(&lab, false);
    let began = Instant::now();
    assert_eq!(lab.stage(&machine).unwrap().state, MachineState::Stopped);
    eprintln!("stage {:?}", began.elapsed());
    assert_eq!(lab.stage(&machine).unwrap().state, MachineState::Stopped, "staged twice is staged");
    let began = Instant::now();
    assert_eq!(lab.start_machine(&machine).unwrap().state, MachineState::Running);
    eprintln!("start {:?}", began.elapsed());
    assert_eq!(lab.start_machine(&machine).unwrap().state, MachineState::Running, "started twice runs once");
    let ready = lab.line("here", &machine, "READY");
    eprintln!("ready {:?}: {ready}", began.elapsed());
    assert!(ready.contains("host=guest-2") && ready.contains("cpus=1"), "{ready}");
    let seed = lab.line("here", &machine, "SEED");
    assert!(seed.contains("instance-id=i-2 key=ssh-ed25519 AAAAC3Nza2"), "{seed}");
    lab.line("here", &machine, "USER-DATA runcmd");
    lab.tick_to("here", &machine, 2);

    // Paused, nothing counts; resumed, it goes on.
    assert_eq!(lab.backend.pause(me(), &mut call(vec![])).unwrap().state, MachineState::Paused);
    let stood = lab.tick("here", &machine);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(lab.tick("here", &machine), stood);
    assert_eq!(lab.backend.resume(me(), &mut call(vec![])).unwrap().state, MachineState::Running);
    let count = lab.tick_to("here", &machine, stood + 1);

    // Serialized, moved to another host's folder, restored: it remembers, it did not boot.
    let began = Instant::now();
    assert_eq!(lab.backend.save(me(), &mut call(vec![])).unwrap().state, MachineState::Saved);
    assert_eq!(lab.backend.save(me(), &mut call(vec![])).unwrap().state, MachineState::Saved, "saved twice is saved");
    eprintln!("save {:?}", began.elapsed());
    assert_eq!(lab.start_machine(&machine).unwrap_err().code, codes::STATE, "starting would throw the memory away");
    let streams: Vec<String> = ["memory", "disk-0", "disk-1"].map(str::to_owned).to_vec();
    let files: Vec<File> = streams.iter().map(|_| tempfile::tempfile().unwrap()).collect();
    let fds = || files.iter().map(|file| file.try_clone().unwrap().into()).collect::<Vec<_>>();
    let export = WorkspaceExport {
        host: "here".into(),
        workspace: machine.workspace.clone(),
        streams: streams.clone(),
        plugin_state: serde_json::Value::Null,
    };
    let exported = lab.backend.export(export, &mut call(fds())).unwrap();
    eprintln!("{exported:#?}");
    assert!(exported.machine_type.starts_with("pc-") && !exported.paused);
    assert_eq!(exported.disks[0].backing_format, "qcow2");
    assert_eq!(exported.disks[1].backing_digest, "");
    assert_eq!(lab.backend.destroy(me(), &mut call(vec![])).unwrap().state, MachineState::Absent);
    assert_eq!(lab.backend.destroy(me(), &mut call(vec![])).unwrap().state, MachineState::Absent, "absent is success");
    lab.assert_gone(&machine);

    let import = || WorkspaceImport {
        host: "there".into(),
        machine: machine.clone(),
        streams: streams.clone(),
        exported: exported.clone(),
    };
    let rewound = || {
        use std::io::Seek;
        files.iter().for_each(|mut file| file.rewind().unwrap());
        fds()
    };
    let without = lab.backend.import(import(), &mut call(rewound())).unwrap_err();
    assert_eq!(without.code, codes::NOT_FOUND, "the image is not there yet: {without:?}");
    lab.assert_gone(&machine);
    lab.put("there", "guest.qcow2");
    assert_eq!(lab.backend.import(import(), &mut call(rewound())).unwrap().state, MachineState::Saved);
    let began = Instant::now();
    let paused = lab.backend.restore(lab.args("there", &machine, true), &mut call(vec![])).unwrap();
    assert_eq!(paused.state, MachineState::Paused);
    let there = || lab.reference("there", &machine);
    assert_eq!(lab.backend.resume(there(), &mut call(vec![])).unwrap().state, MachineState::Running);
    eprintln!("restore and resume {:?}", began.elapsed());
    assert_eq!(
        lab.backend.restore(lab.args("there", &machine, false), &mut call(vec![])).unwrap().state,
        MachineState::Running,
        "restored twice runs once"
    );
    let on = lab.tick_to("there", &machine, count + 2);
    let log = lab.log("there", &machine);
    let first = ticks(&log)[0];
    assert!(first >= count && first <= count + 3, "it went on from {count}: {first} .. {on}");
    assert!(!log.contains("READY"), "it did not boot: {log}");
    assert_eq!(lab.files("there", &format!("vws-{}-memory", machine.workspace)), Vec::<String>::new());
    assert_eq!(lab.backend.destroy(there(), &mut call(vec![])).unwrap().state, MachineState::Absent);
    lab.assert_gone(&machine);
}

#[test]
fn a_kernel_guest_is_talked_to_rebooted_and_stopped() {
    if !wanted("a_kernel_guest_is_talked_to_rebooted_and_stopped") {
        return;
    }
    let lab = Lab::start(&[]);
    let mut machine = lab.kernel_machine(3);
    machine.nics = vec![NicDoc {
        mac: "52:54:00:00:00:03".into(),
        kind: "user".into(),
        source: String::new(),
        inbound_kib_per_second: 0,
        outbound_kib_per_second: 0,
        addresses: vec![],
        anti_spoofing: false,
        dhcp: false,
    }];
    let me = || lab.reference("here", &machine);
    lab.stage(&machine).unwrap();
    let digest = lab.put("here", "vmlinuz");
    let used = lab.backend.image_remove(ImageRemove { host: "here".into(), digest }, &mut call(vec![])).unwrap_err();
    assert_eq!(used.code, codes::STATE, "its kernel is kept");
    lab.start_machine(&machine).unwrap();
    lab.tick_to("here", &machine, 1);

    let mut console = lab.console(&machine);
    assert_eq!(shell(&mut console, "hostname").trim().lines().last().unwrap().trim(), "guest-3");
    for n in 0..4 {
        assert!(shell(&mut console, &format!("echo $((40 + {n})); sleep 1")).contains(&(40 + n).to_string()));
    }
    assert!(shell(&mut console, "ls /sys/class/net").contains("eth0"));

    let boots = |lab: &Lab| lab.log("here", &machine).matches("READY").count();
    assert_eq!(boots(&lab), 1);
    let rebooted = lab.backend.reboot(me(), &mut call(vec![])).unwrap();
    assert_eq!((rebooted.state, rebooted.reason.as_str()), (MachineState::Running, "shutdown"));
    until("a second boot", || Some(()).filter(|()| boots(&lab) == 2));

    let stopped = lab.stop(&machine, 60_000);
    assert_eq!((stopped.state, stopped.reason.as_str()), (MachineState::Stopped, "shutdown"));
    // The next start begins a new log; a guest that is paused is forced.
    let paused = lab.backend.start(lab.args("here", &machine, true), &mut call(vec![])).unwrap();
    assert_eq!(paused.state, MachineState::Paused);
    assert_eq!(boots(&lab), 0);
    let stopped = lab.stop(&machine, 60_000);
    assert_eq!((stopped.state, stopped.reason.as_str()), (MachineState::Stopped, "forced"));
    let no_memory = lab.backend.save(me(), &mut call(vec![])).unwrap_err();
    assert_eq!(no_memory.code, codes::STATE);
    assert_eq!(lab.backend.pause(me(), &mut call(vec![])).unwrap_err().code, codes::STATE);
    lab.backend.destroy(me(), &mut call(vec![])).unwrap();
    lab.assert_gone(&machine);
}

#[test]
fn a_guest_that_ends_by_itself_is_told_and_its_disk_becomes_an_image() {
    if !wanted("a_guest_that_ends_by_itself_is_told_and_its_disk_becomes_an_image") {
        return;
    }
    let lab = Lab::start(&[]);
    let machine = lab.disk_machine(4);
    lab.stage(&machine).unwrap();
    lab.start_machine(&machine).unwrap();
    lab.tick_to("here", &machine, 1);
    let refused = lab
        .backend
        .save_disk(lab.reference("here", &machine), &mut call(vec![tempfile::tempfile().unwrap().into()]))
        .unwrap_err();
    assert_eq!(refused.code, codes::STATE);
    use std::io::Write;
    // What is typed before the shell's first prompt is thrown away by the shell.
    lab.line("here", &machine, "/ #");
    // The client goes at once: what it said arrives all the same.
    lab.console(&machine).write_all(b"poweroff -f\n").unwrap();
    let told = until("an event about the end", || {
        lab.events.lock().unwrap().iter().find_map(|event| match event {
            PluginEvent::Workspace { status, .. } if status.workspace == machine.workspace => Some(status.clone()),
            _ => None,
        })
    });
    assert_eq!((told.state, told.reason.as_str()), (MachineState::Stopped, "shutdown"));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.qcow2");
    let saved =
        lab.backend.save_disk(lab.reference("here", &machine), &mut call(vec![File::create(&path).unwrap().into()])).unwrap();
    assert_eq!((saved.format.as_str(), saved.virtual_size_mib), ("qcow2", 64));
    let info = std::process::Command::new("qemu-img").args(["info", "-f", "qcow2"]).arg(&path).output().unwrap();
    let info = String::from_utf8(info.stdout).unwrap();
    assert!(info.contains("64 MiB") && !info.contains("backing"), "{info}");

    lab.backend.destroy(lab.reference("here", &machine), &mut call(vec![])).unwrap();
    lab.assert_gone(&machine);
    let own: Vec<_> =
        lab.events.lock().unwrap().iter().filter(|event| matches!(event, PluginEvent::Workspace { .. })).cloned().collect();
    assert_eq!(own.len(), 1, "what the daemon did itself is not told: {own:?}");
}

#[test]
fn firmware_that_the_host_has_starts() {
    if !wanted("firmware_that_the_host_has_starts") {
        return;
    }
    let lab = Lab::start(&[]);
    let missing = probe(&lab, false).capabilities["boot-uefi"].clone();
    let mut machine = lab.disk_machine(13);
    machine.boot = BootDoc::Disk { firmware: "uefi".into() };
    if !missing.is_empty() {
        let failure = lab.stage(&machine).unwrap_err();
        assert!(failure.code == codes::UNSUPPORTED && failure.message.contains(&missing), "{failure:?}");
        eprintln!("skipped: {missing}");
        return;
    }
    lab.stage(&machine).unwrap();
    assert_eq!(lab.start_machine(&machine).unwrap().state, MachineState::Running);
    // The test guest boots with BIOS only; that the firmware runs is seen by its own words on the console.
    lab.line("here", &machine, "BdsDxe");
    // Its variables travel with it.
    lab.open("there", "there").unwrap();
    lab.put("there", "guest.qcow2");
    lab.backend.save(lab.reference("here", &machine), &mut call(vec![])).unwrap();
    let streams: Vec<String> = ["nvram", "disk-0", "memory"].map(str::to_owned).to_vec();
    let files: Vec<File> = streams.iter().map(|_| tempfile::tempfile().unwrap()).collect();
    let fds = || {
        use std::io::Seek;
        files.iter().for_each(|mut file| file.rewind().unwrap());
        files.iter().map(|file| file.try_clone().unwrap().into()).collect::<Vec<_>>()
    };
    let export = WorkspaceExport {
        host: "here".into(),
        workspace: machine.workspace.clone(),
        streams: streams.clone(),
        plugin_state: serde_json::Value::Null,
    };
    let exported = lab.backend.export(export, &mut call(fds())).unwrap();
    assert!(files[0].metadata().unwrap().len() > 0);
    lab.backend.destroy(lab.reference("here", &machine), &mut call(vec![])).unwrap();
    lab.assert_gone(&machine);
    let import = WorkspaceImport { host: "there".into(), machine: machine.clone(), streams, exported };
    lab.backend.import(import, &mut call(fds())).unwrap();
    let nvram = lab.directory("there").join(format!("vws-{}-nvram.fd", machine.workspace));
    assert_eq!(fs::metadata(&nvram).unwrap().len(), files[0].metadata().unwrap().len());
    let restored = lab.backend.restore(lab.args("there", &machine, false), &mut call(vec![])).unwrap();
    assert_eq!(restored.state, MachineState::Running);
    lab.backend.destroy(lab.reference("there", &machine), &mut call(vec![])).unwrap();
    lab.assert_gone(&machine);
}

#[test]
fn images_are_whole_or_not_there() {
    if !wanted("images_are_whole_or_not_there") {
        return;
    }
    use std::io::{Seek, Write};
    let lab = Lab::start(&[]);
    let file = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        std::os::fd::OwnedFd::from(file)
    };
    let put = |digest: &str, size_bytes: u64, call: &mut vws_plugin_api::sdk::Call| {
        lab.backend.image_put(ImagePut { host: "here".into(), digest: digest.into(), size_bytes }, call)
    };
    let missing = |digest: &str| {
        let args = ImagesPresent { host: "here".into(), digests: vec![digest.into()] };
        lab.backend.image_present(args, &mut call(vec![])).map(|answer| !answer.missing.is_empty())
    };
    let remove =
        |digest: &str| lab.backend.image_remove(ImageRemove { host: "here".into(), digest: digest.into() }, &mut call(vec![]));
    let one = "a".repeat(64);
    assert!(missing(&one).unwrap());
    assert_eq!(missing("../x").unwrap_err().code, codes::INVALID);
    assert_eq!(remove("../x").unwrap_err().code, codes::INVALID);
    assert_eq!(put(&one, 5, &mut call(vec![file(b"four")])).unwrap_err().code, codes::DAMAGED);
    assert_eq!(lab.files("here", "vws-image-"), Vec::<String>::new(), "nothing is left of a failed copy");

    // A sender that stops in the middle, and a call that is given up meanwhile.
    let (read, write) = rustix::pipe::pipe().unwrap();
    File::from(write.try_clone().unwrap()).write_all(&[1; 1000]).unwrap();
    let cancelled = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = std::sync::Arc::clone(&cancelled);
    let emitter = vws_plugin_api::sdk::Emitter::new(|_| {});
    let end = Instant::now() + lab::PATIENCE;
    let mut given_up = vws_plugin_api::sdk::Call::new("job/step".into(), end, vec![read], cancelled, emitter);
    let failed = std::thread::scope(|scope| {
        let work = scope.spawn(|| put(&one, 2000, &mut given_up));
        until("the upload", || Some(()).filter(|()| !lab.files("here", "vws-image-").is_empty()));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        work.join().unwrap().unwrap_err()
    });
    drop(write);
    assert_eq!(failed.code, codes::CANCELLED, "{failed:?}");
    until("a clean folder", || Some(()).filter(|()| lab.files("here", "vws-image-").is_empty()));
    assert!(missing(&one).unwrap());

    // Holes stay holes, and what is there is not sent again.
    let mut sparse = vec![0; 8 << 20];
    sparse[5 << 20] = 7;
    put(&one, sparse.len() as u64, &mut call(vec![file(&sparse)])).unwrap();
    put(&one, 4, &mut call(vec![file(b"else")])).unwrap();
    let path = lab.directory("here").join(format!("vws-image-{one}"));
    assert_eq!(fs::read(&path).unwrap(), sparse);
    assert!(std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap()) * 512 < 1 << 20);
    // A file without its mark was not completed.
    fs::remove_file(lab.directory("here").join(format!("vws-image-{one}.done"))).unwrap();
    lab.open("here", "here").unwrap();
    lab.virsh(&["pool-refresh", lab.virsh(&["pool-list", "--name"]).lines().next().unwrap().trim()]);
    assert!(missing(&one).unwrap());
    put(&one, 4, &mut call(vec![file(b"four")])).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"four");
    let images = lab.backend.image_list(HostRef { host: "here".into() }, &mut call(vec![])).unwrap().images;
    assert_eq!(images.iter().map(|image| (image.digest.as_str(), image.size_bytes)).collect::<Vec<_>>(), [(one.as_str(), 4)]);
    remove(&one).unwrap();
    remove(&one).unwrap();
    assert_eq!(lab.files("here", "vws-image-"), Vec::<String>::new());

    // Disks: linked, never smaller than their image, and no image leads to another file.
    let folder = tempfile::tempdir().unwrap();
    let tool = |arguments: &[&str]| {
        let done = std::process::Command::new("qemu-img").args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    fs::write(folder.path().join("raw"), vec![7; 3 << 20]).unwrap();
    tool(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "raw", "backed"]);
    tool(&["create", "-q", "-f", "qcow2", "-o", "data_file=outside,data_file_raw=on", "outsider", "1M"]);
    let stage = |letter: &str, name: &str, format: &str, size_mib| {
        let digest = letter.repeat(64);
        let bytes = fs::read(folder.path().join(name)).unwrap();
        put(&digest, bytes.len() as u64, &mut call(vec![file(&bytes)])).unwrap();
        let source = DiskSourceDoc::Image { digest, format: format.into() };
        let disk = DiskDoc { name: "disk-0".into(), source, size_mib, iops: 0, kib_per_second: 0 };
        let machine = lab::machine(14, BootDoc::Disk { firmware: "bios".into() }, vec![disk]);
        lab.stage(&machine).map(|_| machine)
    };
    let small = stage("b", "raw", "raw", 2).unwrap_err();
    assert!(small.message.contains("2 MiB") && small.message.contains("3 MiB"), "{small:?}");
    for (letter, name) in [("c", "backed"), ("d", "outsider")] {
        assert_eq!(stage(letter, name, "qcow2", 0).unwrap_err().code, codes::INVALID);
    }
    assert_eq!(stage("e", "raw", "qcow2", 0).unwrap_err().code, codes::DAMAGED);
    assert_eq!(stage("e", "raw", "vmdk", 0).unwrap_err().code, codes::INVALID);
    assert_eq!(lab.files("here", "vws-0"), Vec::<String>::new());
    let machine = stage("b", "raw", "raw", 8).unwrap();
    let used = remove(&"b".repeat(64)).unwrap_err();
    assert!(used.code == codes::STATE && used.message.contains(&machine.workspace), "{used:?}");
    let disk = lab.directory("here").join(format!("vws-{}-disk-0.qcow2", machine.workspace));
    tool(&["compare", "-q", "-f", "qcow2", "-F", "qcow2", disk.to_str().unwrap(), disk.to_str().unwrap()]);
    // One that was cut while it was made is made anew.
    File::options().write(true).open(&disk).unwrap().set_len(100).unwrap();
    lab.stage(&machine).unwrap();
    tool(&["check", "-q", "-f", "qcow2", disk.to_str().unwrap()]);
    lab.backend.destroy(lab.reference("here", &machine), &mut call(vec![])).unwrap();
    remove(&"b".repeat(64)).unwrap();
}

#[test]
fn memory_is_used_again_only_while_the_disks_stand_still() {
    if !wanted("memory_is_used_again_only_while_the_disks_stand_still") {
        return;
    }
    let lab = Lab::start(&[]);
    let mut machine = lab.kernel_machine(15);
    machine.disks =
        vec![DiskDoc { name: "disk-0".into(), source: DiskSourceDoc::Empty, size_mib: 8, iops: 0, kib_per_second: 0 }];
    lab.stage(&machine).unwrap();
    lab.start_machine(&machine).unwrap();
    let count = lab.tick_to("here", &machine, 1);
    lab.backend.save(lab.reference("here", &machine), &mut call(vec![])).unwrap();
    // As an interrupted restore leaves it.
    let domain = format!("vws-{}", machine.workspace);
    let space = "urn:virtualworkspaces1:saved";
    let said = lab.virsh(&["metadata", &domain, space, "--config"]);
    let interrupted = |written: &str| {
        let mark = said.trim().replace("restoring=\"no\"", "restoring=\"yes\"").replace("restoring='no'", "restoring='yes'");
        let mark =
            mark.replace("written=\"\"", &format!("written='{written}'")).replace("written=''", &format!("written='{written}'"));
        assert!(mark.contains("restoring='yes'") || mark.contains("restoring=\"yes\""), "{mark}");
        lab.virsh(&["metadata", &domain, space, "--config", "--key", "vws-saved", "--set", &mark]);
        assert_eq!(lab.backend.inspect(lab.reference("here", &machine), &mut call(vec![])).unwrap().state, MachineState::Stopped);
    };
    interrupted("1.5");
    let restore = || lab.backend.restore(lab.args("here", &machine, false), &mut call(vec![]));
    let changed = restore().unwrap_err();
    assert!(changed.code == codes::STATE && changed.message.contains("changed since"), "{changed:?}");
    let pool = lab.virsh(&["pool-list", "--name"]).lines().next().unwrap().trim().to_owned();
    let disk = lab.virsh(&["vol-dumpxml", "--pool", &pool, &format!("{domain}-disk-0.qcow2")]);
    let written = disk.split("<mtime>").nth(1).unwrap().split('<').next().unwrap();
    interrupted(written);
    assert_eq!(restore().unwrap().state, MachineState::Running, "nobody wrote since: it goes on");
    lab.tick_to("here", &machine, count + 2);
    assert_eq!(lab.log("here", &machine).matches("READY").count(), 1, "it did not boot again");
    // Started instead, the old memory is gone for good.
    lab.backend.save(lab.reference("here", &machine), &mut call(vec![])).unwrap();
    interrupted("1.5");
    lab.start_machine(&machine).unwrap();
    assert_eq!(lab.files("here", &format!("{domain}-memory")), Vec::<String>::new());
    lab.backend.destroy(lab.reference("here", &machine), &mut call(vec![])).unwrap();
    lab.assert_gone(&machine);
}

#[test]
fn guests_of_others_count_and_are_never_touched() {
    if !wanted("guests_of_others_count_and_are_never_touched") {
        return;
    }
    let lab = Lab::start(&[]);
    let kind = probe(&lab, false).accelerator;
    let kind = if kind == "kvm" { "kvm" } else { "qemu" };
    let stranger = |name: &str, uuid: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stranger.xml");
        let xml = format!(
            "<domain type='{kind}'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>33</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"
        );
        fs::write(&path, xml).unwrap();
        lab.virsh(&["create", path.to_str().unwrap()]);
    };
    let machine = lab.kernel_machine(5);
    stranger("somebody", "99999999-0000-0000-0000-000000000001");
    // One that looks like ours, by name and by UUID, but does not carry the mark.
    stranger(
        &format!("vws-{}", machine.workspace),
        &format!(
            "{}-{}-{}-{}-{}",
            &machine.workspace[..8],
            &machine.workspace[8..12],
            &machine.workspace[12..16],
            &machine.workspace[16..20],
            &machine.workspace[20..]
        ),
    );
    let listing = lab.backend.host_list(HostRef { host: "here".into() }, &mut call(vec![])).unwrap();
    assert!(listing.workspaces.is_empty(), "{listing:?}");
    assert_eq!((listing.foreign.guests, listing.foreign.vcpus, listing.foreign.memory_mib), (2, 4, 66));
    for refused in [
        lab.stage(&machine).map(drop).unwrap_err(),
        lab.start_machine(&machine).map(drop).unwrap_err(),
        lab.backend.destroy(lab.reference("here", &machine), &mut call(vec![])).map(drop).unwrap_err(),
    ] {
        assert_eq!(refused.code, codes::STATE);
        assert!(refused.message.contains("not made by this backend"), "{refused:?}");
    }
    assert_eq!(lab.virsh(&["list", "--name"]).split_whitespace().count(), 2);

    // Ours beside them is listed as ours.
    let ours = MachineDoc { workspace: format!("{:032x}", 6), ..machine };
    lab.stage(&ours).unwrap();
    let listing = lab.backend.host_list(HostRef { host: "here".into() }, &mut call(vec![])).unwrap();
    assert_eq!(listing.workspaces.iter().map(|status| status.workspace.as_str()).collect::<Vec<_>>(), [ours.workspace.as_str()]);
    assert_eq!(listing.foreign.guests, 2);
}

#[test]
fn what_somebody_changed_between_staging_and_starting_is_not_started() {
    if !wanted("what_somebody_changed_between_staging_and_starting_is_not_started") {
        return;
    }
    let lab = Lab::start(&[]);
    let machine = lab.kernel_machine(21);
    lab.stage(&machine).unwrap();
    let name = format!("vws-{}", machine.workspace);
    let memory = |live: &[&str]| {
        let xml = lab.virsh(&[&["dumpxml", &name], live].concat());
        xml.lines().find(|line| line.trim().starts_with("<memory ")).unwrap().trim().to_owned()
    };
    let meant = memory(&["--inactive"]);
    // It grows.
    let mut xml = lab.virsh(&["dumpxml", "--inactive", &name]);
    let larger = format!("<memory unit='KiB'>{}</memory>", (machine.memory_mib + 64) << 10);
    xml = xml.replace(&meant, &larger);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.xml");
    fs::write(&path, xml).unwrap();
    lab.virsh(&["define", path.to_str().unwrap()]);
    assert_eq!(memory(&["--inactive"]), larger, "it was changed");

    let started = lab.backend.start(lab.args("here", &machine, true), &mut call(vec![])).unwrap();
    assert_eq!(started.state, MachineState::Paused);
    assert_eq!((memory(&[]), memory(&["--inactive"])), (meant.clone(), meant), "it was defined anew");
    lab.backend.destroy(lab.reference("here", &machine), &mut call(vec![])).unwrap();
    lab.assert_gone(&machine);
}

#[test]
fn hostile_texts_and_wrong_requests_leave_nothing_behind() {
    if !wanted("hostile_texts_and_wrong_requests_leave_nothing_behind") {
        return;
    }
    let lab = Lab::start(&[]);
    let good = lab.kernel_machine(7);
    // Accepted, as a text and nothing else.
    for name in ["</title><vcpu>64</vcpu>", "a'b\"c&d;<!--", "]]>", &"x".repeat(300)] {
        let machine = MachineDoc { name: name.into(), ..good.clone() };
        lab.stage(&machine).unwrap();
        let xml = lab.virsh(&["dumpxml", &format!("vws-{}", machine.workspace)]);
        assert!(xml.contains("<vcpu placement='static'>1</vcpu>") && !xml.contains("64</vcpu>"), "{xml}");
        lab.backend.destroy(lab.reference("here", &machine), &mut call(vec![])).unwrap();
        lab.assert_gone(&machine);
    }
    let disk = |source, size_mib| vec![DiskDoc { name: "disk-0".into(), source, size_mib, iops: 0, kib_per_second: 0 }];
    let nic = |kind: &str, source: &str, mac: &str, rate| {
        vec![NicDoc {
            mac: mac.into(),
            kind: kind.into(),
            source: source.into(),
            inbound_kib_per_second: rate,
            outbound_kib_per_second: 0,
            addresses: vec![],
            anti_spoofing: false,
            dhcp: false,
        }]
    };
    let cases = [
        (codes::INVALID, MachineDoc { name: "bell\u{7}".into(), ..good.clone() }),
        (codes::INVALID, MachineDoc { workspace: "../../etc".into(), ..good.clone() }),
        (codes::INVALID, MachineDoc { memory_mib: 0, ..good.clone() }),
        (codes::INVALID, MachineDoc { memory_mib: 1 << 63, ..good.clone() }),
        (codes::INVALID, MachineDoc { vcpus: 0, ..good.clone() }),
        (
            codes::NOT_FOUND,
            MachineDoc { disks: disk(DiskSourceDoc::Image { digest: "a".repeat(64), format: "raw".into() }, 0), ..good.clone() },
        ),
        (
            codes::INVALID,
            MachineDoc { disks: disk(DiskSourceDoc::Image { digest: "../x".into(), format: "raw".into() }, 0), ..good.clone() },
        ),
        (codes::INVALID, MachineDoc { disks: disk(DiskSourceDoc::Empty, 0), ..good.clone() }),
        (codes::INVALID, MachineDoc { disks: disk(DiskSourceDoc::Empty, u64::MAX), ..good.clone() }),
        (codes::INVALID, MachineDoc { nics: nic("user", "", "52:54:00", 0), ..good.clone() }),
        (codes::INVALID, MachineDoc { nics: nic("pci", "", "52:54:00:00:00:01", 0), ..good.clone() }),
        (codes::UNSUPPORTED, MachineDoc { nics: nic("user", "", "52:54:00:00:00:01", 100), ..good.clone() }),
        (codes::UNSUPPORTED, MachineDoc { cpu_shares: 100, ..good.clone() }),
        (codes::INVALID, MachineDoc { boot: BootDoc::Disk { firmware: "bios".into() }, ..good.clone() }),
    ];
    for (code, machine) in cases {
        let failure = lab.stage(&machine).unwrap_err();
        eprintln!("{}: {} | {} | {}", failure.code, failure.object, failure.message, failure.remedy);
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(!failure.object.is_empty());
        lab.assert_gone(&good);
        assert_eq!(lab.files("here", "vws-0"), Vec::<String>::new());
    }
    assert_eq!(lab.virsh(&["list", "--all", "--name"]).trim(), "");
}

#[test]
fn a_libvirt_that_dies_is_told_and_found_again() {
    if !wanted("a_libvirt_that_dies_is_told_and_found_again") {
        return;
    }
    let lab = Lab::start(&[]);
    let machine = lab.kernel_machine(8);
    lab.stage(&machine).unwrap();
    lab.start_machine(&machine).unwrap();
    let count = lab.tick_to("here", &machine, 1);
    let host_is = |up: bool| {
        until(&format!("host up={up}"), || {
            let events = lab.events.lock().unwrap();
            let last = events.iter().rev().find_map(|event| match event {
                PluginEvent::Host { up, reason, .. } => Some((*up, reason.clone())),
                _ => None,
            });
            last.filter(|(is, _)| *is == up)
        })
    };
    lab.script("crash");
    eprintln!("down: {}", host_is(false).1);
    let failure = lab.backend.inspect(lab.reference("here", &machine), &mut call(vec![])).unwrap_err();
    assert_eq!(failure.code, codes::UNREACHABLE, "{failure:?}");
    assert!(failure.retry == Retry::Later && !failure.remedy.is_empty());
    lab.script("restart");
    host_is(true);
    assert_eq!(
        lab.backend.inspect(lab.reference("here", &machine), &mut call(vec![])).unwrap().state,
        MachineState::Running,
        "guests outlive libvirt"
    );
    lab.tick_to("here", &machine, count + 1);
    // Events come again on the new connection.
    lab.virsh(&["destroy", &format!("vws-{}", machine.workspace)]);
    until("an event about the end", || {
        lab.events.lock().unwrap().iter().any(|event| matches!(event, PluginEvent::Workspace { status, .. } if status.state == MachineState::Stopped && status.reason == "destroyed")).then_some(())
    });
    lab.backend.destroy(lab.reference("here", &machine), &mut call(vec![])).unwrap();
}

#[test]
fn a_host_that_is_not_there_fails_soon_and_comes_later() {
    if !wanted("a_host_that_is_not_there_fails_soon_and_comes_later") {
        return;
    }
    let lab = Lab::start(&[]);
    lab.script("crash");
    let failure = lab.open("here", "here").unwrap_err();
    assert_eq!(failure.code, codes::UNREACHABLE, "{failure:?}");
    assert!(failure.object.contains("here") && failure.retry == Retry::Later);
    lab.script("restart");
    until("the host", || lab.backend.host_list(HostRef { host: "here".into() }, &mut call(vec![])).ok());
}

#[test]
fn disk_limits_bite_in_the_guest() {
    if !wanted("disk_limits_bite_in_the_guest") {
        return;
    }
    let lab = Lab::start(&[]);
    let mut machine = lab.kernel_machine(9);
    let disk = |name: &str, kib_per_second, iops| DiskDoc {
        name: name.into(),
        source: DiskSourceDoc::Empty,
        size_mib: 64,
        iops,
        kib_per_second,
    };
    machine.disks = vec![disk("disk-0", 0, 0), disk("disk-1", 1024, 0), disk("disk-2", 0, 20)];
    lab.stage(&machine).unwrap();
    lab.start_machine(&machine).unwrap();
    lab.tick_to("here", &machine, 1);
    let mut console = lab.console(&machine);
    shell(&mut console, "ticks-off");
    let mut seconds = |device: &str, size: &str, count: u32| -> f64 {
        let said = shell(
            &mut console,
            &format!(
                "read a b </proc/uptime; dd if=/dev/zero of=/dev/{device} bs={size} count={count} oflag=direct 2>/dev/null; read c d </proc/uptime; echo TOOK $a $c"
            ),
        );
        let line = said.lines().find(|line| line.starts_with("TOOK ")).unwrap_or_else(|| panic!("{said}"));
        let times: Vec<f64> = line[5..].split_whitespace().map(|time| time.parse().unwrap()).collect();
        times[1] - times[0]
    };
    // 6 MiB: at once without a limit; at 1 MiB/s five seconds after the first second's burst.
    let (free, rate) = (seconds("vda", "64k", 96), seconds("vdb", "64k", 96));
    // 100 writes at 20 a second.
    let (free_small, operations) = (seconds("vda", "4k", 100), seconds("vdc", "4k", 100));
    eprintln!("6 MiB: {free} s, limited {rate} s; 100 writes: {free_small} s, limited {operations} s");
    assert!(rate > 4.0 && rate > free * 2.0);
    assert!(operations > 3.0 && operations > free_small * 2.0);
}

#[test]
fn cpu_shares_reach_the_control_group() {
    if !wanted("cpu_shares_reach_the_control_group") {
        return;
    }
    if !rustix::process::getuid().is_root() || !std::path::Path::new("/sys/fs/cgroup/cpu").exists() {
        eprintln!("skipped: needs root and cgroup v1");
        return;
    }
    let lab = Lab::start(&["--cgroups"]);
    let facts = probe(&lab, false);
    assert_eq!(facts.capabilities["cpu-shares"], "", "{:?}", facts.capabilities);
    // Two guests that compute, on one CPU: one has four times the other's weight.
    let machines: Vec<MachineDoc> =
        [(10, 2048), (11, 512)].map(|(number, cpu_shares)| MachineDoc { cpu_shares, ..lab.kernel_machine(number) }).to_vec();
    for machine in &machines {
        lab.stage(machine).unwrap();
        lab.start_machine(machine).unwrap();
    }
    for machine in &machines {
        lab.tick_to("here", machine, 1);
        lab.virsh(&["vcpupin", &format!("vws-{}", machine.workspace), "0", "0"]);
        lab.virsh(&["emulatorpin", &format!("vws-{}", machine.workspace), "0"]);
    }
    let mut consoles: Vec<_> = machines.iter().map(|machine| lab.console(machine)).collect();
    for console in &mut consoles {
        shell(console, "ticks-off; while :; do :; done & sleep 1");
    }
    let used = || machines.iter().map(|machine| cpu_seconds(&lab, machine)).collect::<Vec<f64>>();
    let before = used();
    std::thread::sleep(Duration::from_secs(6));
    let after = used();
    let ratio = (after[0] - before[0]) / (after[1] - before[1]);
    eprintln!("CPU time {ratio:.2} : 1 (weights 4 : 1)");
    assert!(ratio > 2.0, "the weight does not bite: {before:?} {after:?}");
}

fn cpu_seconds(lab: &Lab, machine: &MachineDoc) -> f64 {
    let said = lab.virsh(&["domstats", "--cpu-total", &format!("vws-{}", machine.workspace)]);
    let line = said.lines().find_map(|line| line.trim().strip_prefix("cpu.time=")).unwrap();
    line.parse::<f64>().unwrap() / 1e9
}

/// A small file system, unmounted in the end.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(path: std::path::PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let done =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&path).status().unwrap();
        assert!(done.success());
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        assert!(std::process::Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left() {
    if !wanted("a_full_disk_is_named_and_nothing_is_left") {
        return;
    }
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    let small = RefCell::new(None);
    let lab = Lab::start_in(&[], |hosts| *small.borrow_mut() = Some(Small::mount(hosts.join("small"))));
    let small = small.into_inner().unwrap();
    lab.open("small", "small").unwrap();
    let path = lab::guest().join("guest.qcow2");
    let size_bytes = fs::metadata(&path).unwrap().len();
    let args = ImagePut { host: "small".into(), digest: "a".repeat(64), size_bytes };
    let failure = lab.backend.image_put(args, &mut call(vec![File::open(&path).unwrap().into()])).unwrap_err();
    assert_eq!(failure.code, codes::NO_SPACE, "{failure:?}");
    assert!(!failure.remedy.is_empty());
    assert_eq!(lab.files("small", "vws-image-"), Vec::<String>::new());

    // No room for a disk's tables.
    let mut machine = lab.disk_machine(12);
    machine.boot = BootDoc::Disk { firmware: "bios".into() };
    machine.disks[0].source = DiskSourceDoc::Empty;
    fs::write(small.0.join("ballast"), vec![1; 9 << 20]).unwrap_err();
    let failure = lab.backend.stage(lab.args("small", &machine, false), &mut call(vec![])).unwrap_err();
    assert_eq!(failure.code, codes::NO_SPACE, "{failure:?}");
    assert_eq!(lab.files("small", "vws-0"), Vec::<String>::new());
    lab.backend.host_close(HostRef { host: "small".into() }, &mut call(vec![])).unwrap();
}
