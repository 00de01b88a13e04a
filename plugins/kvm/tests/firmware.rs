//! Machines with UEFI firmware on hosts that share nothing: the firmware's variables go where the machine goes, and stay nowhere else.
//!
//! The firmware's own shell is the guest. It keeps a variable in the machine's NVRAM; a machine that starts anew, with no memory of
//! what was, can know it from there only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod lab;

use lab::site::{Site, site};
use lab::{call, machine, until};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::net::UnixStream;
use vws_plugin_api::doc::*;
use vws_plugin_api::sdk::Backend;

/// Namespace of the variable, and its value as the shell prints it.
const NAMESPACE: &str = "6d4f2f0e-5b0c-4b43-9d2c-2f1c5b8f0a11";
const VALUE: &str = "77 6F 72 6B 73 70 61 63 65";

/// A machine whose one disk is empty, so that its firmware's shell is what starts.
fn uefi(number: u32) -> MachineDoc {
    let disk = DiskDoc { name: "disk-0".into(), source: DiskSourceDoc::Empty, size_mib: 16, iops: 0, kib_per_second: 0 };
    machine(number, BootDoc::Disk { firmware: "uefi".into() }, vec![disk])
}

/// What the firmware says until it says `what`.
fn hear(console: &mut UnixStream, what: &str) -> String {
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    until(&format!("`{what}` from the firmware"), || {
        match console.read(&mut buffer) {
            Ok(0) => panic!("the console ended; heard so far: {heard}"),
            Ok(count) => heard.push_str(&String::from_utf8_lossy(&buffer[..count])),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}"),
        }
        heard.contains(what).then_some(())
    });
    heard
}

/// Waits for the prompt of a firmware that starts.
fn started(site: &Site, host: &str, machine: &MachineDoc) -> UnixStream {
    let mut console = site.console(host, machine);
    hear(&mut console, "skip");
    // Escape: no script is looked for.
    console.write_all(b"\x1b").unwrap();
    hear(&mut console, "Shell> ");
    console
}

/// Says a line to the firmware's shell; what it answers up to its next prompt.
fn say(console: &mut UnixStream, line: &str) -> String {
    console.write_all(format!("{line}\r").as_bytes()).unwrap();
    hear(console, "Shell> ")
}

fn keep(console: &mut UnixStream) {
    let said = say(console, &format!("setvar VwsKept -guid {NAMESPACE} -bs -nv =\"workspace\""));
    assert!(!said.contains("rror"), "{said}");
    assert_kept(console, "kept");
}

fn assert_kept(console: &mut UnixStream, what: &str) {
    let said = say(console, &format!("setvar VwsKept -guid {NAMESPACE}"));
    assert!(said.to_uppercase().contains(VALUE), "{what}: the variable is not there: {said}");
}

/// By force.
fn stop(host: &str, machine: &MachineDoc) -> WorkspaceStop {
    WorkspaceStop {
        host: host.into(),
        workspace: machine.workspace.clone(),
        guest_timeout_ms: 0,
        plugin_state: serde_json::Value::Null,
    }
}

fn snapshot(host: &str, machine: &MachineDoc, memory: bool) -> SnapshotArgs {
    SnapshotArgs {
        host: host.into(),
        machine: machine.clone(),
        name: "one".into(),
        memory,
        plugin_state: serde_json::Value::Null,
    }
}

/// As libvirt does: once it does no more, neither should this backend.
fn refuses_snapshots_with_memory(site: &Site, host: &str, machine: &MachineDoc) {
    let refused = site.backend.snapshot(snapshot(host, machine, true), &mut call(vec![])).unwrap_err();
    assert!(refused.code == codes::UNSUPPORTED && refused.message.contains("UEFI"), "{refused:?}");
    let domain = format!("vws-{}", machine.workspace);
    let own =
        format!("virsh snapshot-create-as {domain} one --diskspec vda,snapshot=internal --diskspec vdb,snapshot=no 2>&1 || true");
    let said = site.script(&["exec", host, "sh", "-c", &own]);
    assert!(said.contains("pflash"), "{said}");
}

/// Started anew: its memory is gone, and what it still knows comes from the file.
fn start_anew(site: &Site, host: &str, machine: &MachineDoc) -> UnixStream {
    assert_eq!(site.backend.stop(stop(host, machine), &mut call(vec![])).unwrap().state, MachineState::Stopped);
    site.backend.start(site.args(host, machine), &mut call(vec![])).unwrap();
    started(site, host, machine)
}

fn nvram(site: &Site, host: &str, pool: &str, machine: &MachineDoc) -> String {
    let path = format!("/var/lib/vws-{pool}/vws-{}-nvram.fd", machine.workspace);
    site.script(&["exec", host, "sha256sum", &path]).split_whitespace().next().unwrap().to_owned()
}

#[test]
fn firmware_keeps_its_variables_wherever_its_machine_goes() {
    let Some(site) = site("firmware_keeps_its_variables_wherever_its_machine_goes") else { return };
    site.open(&["a", "b", "c"]);
    let missing = site.facts("a").capabilities["boot-uefi"].clone();
    if !missing.is_empty() {
        eprintln!("skipped: {missing}");
        return;
    }
    let machine = uefi(1);
    site.run("a", &machine);
    let mut console = started(&site, "a", &machine);
    keep(&mut console);
    drop(console);
    let was = nvram(&site, "a", "pool", &machine);

    // Live, with nothing shared.
    let offer = site.prepare("b", &machine, &site.facts("a").storage_id).unwrap();
    assert!(!offer.shared);
    assert_eq!(site.migrate("a", &machine, &offer, 0, &mut call(vec![])).unwrap().state, MachineState::Absent);
    site.forget("a", &machine, false).unwrap();
    assert_eq!(site.files("a", "pool", &machine), Vec::<String>::new(), "nothing stays behind");
    assert_eq!(site.backend.inspect(site.of("b", &machine), &mut call(vec![])).unwrap().cpu, "qemu64");
    assert_kept(&mut site.console("b", &machine), "moved");
    assert_eq!(nvram(&site, "b", "pool", &machine), was, "the file of the variables is not the one that it had");
    drop(start_anew(&site, "b", &machine));
    let mut console = start_anew(&site, "b", &machine);
    assert_kept(&mut console, "moved and started anew");
    drop(console);

    // Through a bundle, to a host that runs guests as another user.
    let was = nvram(&site, "b", "pool", &machine);
    assert_eq!(site.backend.save(site.of("b", &machine), &mut call(vec![])).unwrap().state, MachineState::Saved);
    let streams: Vec<String> = ["memory", "nvram", "disk-0"].map(str::to_owned).to_vec();
    let files: Vec<File> = streams.iter().map(|_| tempfile::tempfile().unwrap()).collect();
    let fds = || {
        files.iter().for_each(|mut file| file.rewind().unwrap());
        files.iter().map(|file| file.try_clone().unwrap().into()).collect::<Vec<_>>()
    };
    let export = WorkspaceExport {
        host: "b".into(),
        workspace: machine.workspace.clone(),
        streams: streams.clone(),
        plugin_state: serde_json::Value::Null,
    };
    let exported = site.backend.export(export, &mut call(fds())).unwrap();
    site.destroy("b", &machine);
    let import = WorkspaceImport { host: "c".into(), machine: machine.clone(), streams, exported };
    // A bundle without its variables is no bundle of this machine.
    let without = WorkspaceImport { streams: vec!["memory".into(), "disk-0".into()], ..import.clone() };
    let two = || fds().into_iter().enumerate().filter(|(at, _)| *at != 1).map(|(_, fd)| fd).collect::<Vec<_>>();
    let refused = site.backend.import(without, &mut call(two())).unwrap_err();
    assert!(refused.code == codes::INVALID && refused.message.contains("nvram"), "{refused:?}");
    assert_eq!(site.files("c", "pool", &machine), Vec::<String>::new());
    assert_eq!(site.backend.import(import, &mut call(fds())).unwrap().state, MachineState::Saved);
    assert_eq!(nvram(&site, "c", "pool", &machine), was);
    site.backend.restore(site.args("c", &machine), &mut call(vec![])).unwrap();
    assert_kept(&mut site.console("c", &machine), "resumed");
    let mut console = start_anew(&site, "c", &machine);
    assert_kept(&mut console, "resumed and started anew");
    drop(console);
    site.destroy("c", &machine);
}

#[test]
fn firmware_on_shared_storage_keeps_its_variables_where_they_are() {
    let Some(site) = site("firmware_on_shared_storage_keeps_its_variables_where_they_are") else { return };
    for host in ["a", "b"] {
        site.open_at(host, "tcp", "shared").unwrap();
    }
    let missing = site.facts("a").capabilities["boot-uefi"].clone();
    if !missing.is_empty() {
        eprintln!("skipped: {missing}");
        return;
    }
    let machine = uefi(2);
    let shared = site.facts("a").storage_id;
    site.run("a", &machine);
    let mut console = started(&site, "a", &machine);
    keep(&mut console);
    drop(console);
    refuses_snapshots_with_memory(&site, "a", &machine);
    let was = nvram(&site, "a", "shared", &machine);
    let there = || site.files("a", "shared", &machine).into_iter().filter(|name| name.ends_with("nvram.fd")).count();

    // A target that made ready and is not gone to takes nothing away.
    assert!(site.prepare("b", &machine, &shared).unwrap().shared);
    site.forget("b", &machine, true).unwrap();
    assert_eq!((there(), nvram(&site, "a", "shared", &machine)), (1, was.clone()));
    let offer = site.prepare("b", &machine, &shared).unwrap();
    assert_eq!(site.migrate("a", &machine, &offer, 0, &mut call(vec![])).unwrap().state, MachineState::Absent);
    site.forget("a", &machine, true).unwrap();
    assert_eq!((there(), nvram(&site, "b", "shared", &machine)), (1, was), "the source's end took the variables with it");
    assert_kept(&mut site.console("b", &machine), "moved");
    let mut console = start_anew(&site, "b", &machine);
    assert_kept(&mut console, "moved and started anew");
    drop(console);
    site.backend.stop(stop("b", &machine), &mut call(vec![])).unwrap();
    // Its disks alone can be kept; the variables stay what they are.
    let was = nvram(&site, "b", "shared", &machine);
    let disks = || snapshot("b", &machine, false);
    assert_eq!(site.backend.snapshot(disks(), &mut call(vec![])).unwrap().state, MachineState::Stopped);
    assert_eq!(site.backend.revert(disks(), &mut call(vec![])).unwrap().state, MachineState::Stopped);
    site.backend.snapshot_remove(disks(), &mut call(vec![])).unwrap();
    assert_eq!(nvram(&site, "b", "shared", &machine), was);
    site.destroy_in("b", "shared", &machine);
}
