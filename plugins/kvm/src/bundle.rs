//! Serializing: memory into a file, streams out of the host and into another, and going on from there.
//!
//! Owns: which stream is which file, and what is checked before bytes from elsewhere are used. A memory file embeds a
//! definition of its own; it is never looked at: restoring replaces it by one made anew. Must not know: where streams lead.

use crate::errors;
use crate::events;
use crate::machine::{self, Machine, Virtual, check};
use crate::probe;
use crate::readback::Element;
use crate::storage::{self, Part, is_digest, part_name, remove_quietly, settle};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use virt_sys as sys;
use vws_plugin_api::doc::{
    Exported, ExportedDisk, Failure, MachineArgs, MachineDoc, MachineStatus, SavedDisk, WorkspaceExport, WorkspaceImport, codes,
};
use vws_plugin_api::sdk::Outcome;

/// What a memory file was made with, and needs again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Whether the machine was paused.
    pub paused: bool,
    /// `kvm` or `emulation`.
    pub accelerator: String,
    /// Machine type with its version.
    pub machine_type: String,
    /// CPU model or mode.
    pub cpu: String,
    /// Emulator and version.
    pub emulator: String,
    /// Hypervisor and version.
    pub hypervisor: String,
}

/// Whether `name` can be a disk stream's.
fn is_disk(name: &str) -> bool {
    name.strip_prefix("disk-")
        .is_some_and(|number| !number.is_empty() && number.len() <= 4 && number.bytes().all(|b| b.is_ascii_digit()))
}

impl Machine<'_> {
    fn saved(&self) -> Outcome<Saved> {
        let path = self.host.storage.file(&self.workspace, "saved.json");
        let bytes = fs::read(&path)
            .map_err(|error| errors::system(&error, "cannot read what its memory was saved with", &self.object()))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::new(codes::DAMAGED, format!("`{}`: {error}", path.display())).about(self.object()))
    }

    fn write_saved(&self, saved: &Saved) -> Outcome<()> {
        let bytes = serde_json::to_vec_pretty(saved).map_err(|error| Failure::new(codes::INTERNAL, error.to_string()))?;
        self.host.storage.write(&self.host.storage.file(&self.workspace, "saved.json"), &bytes)
    }

    /// Memory into a file on the host; the machine is off then.
    pub fn save(&self) -> Outcome<MachineStatus> {
        let storage = &self.host.storage;
        let paused = match self.state()? {
            Virtual::Running => false,
            Virtual::Paused(_) => true,
            _ if storage.is_saved(&self.workspace) => return self.inspect(),
            _ => return Err(self.wrong_state("it does not run: there is no memory to save").remedy("start it first")),
        };
        let seen = probe::seen(self.host, self.call)?;
        let live = Element::parse(&self.with_domain("read the machine's definition", |domain| domain.xml_desc(0))?)?;
        let cpu = match live.at(&["cpu"]) {
            Some(cpu) if cpu.attribute("mode") == "custom" => cpu.text_at(&["model"]).to_owned(),
            Some(cpu) => cpu.attribute("mode").to_owned(),
            None => String::new(),
        };
        self.write_saved(&Saved {
            paused,
            accelerator: seen.accelerator.clone(),
            machine_type: live.at(&["os", "type"]).map_or("", |kind| kind.attribute("machine")).to_owned(),
            cpu,
            emulator: seen.emulator(),
            hypervisor: seen.hypervisor(),
        })?;
        let path = storage.file(&self.workspace, "memory.save");
        let part = part_name(&path);
        remove_quietly(&part);
        self.call.progress("save memory", 0, 0);
        let to = part.to_string_lossy().into_owned();
        let saved = self.with_domain("save the machine's memory", move |domain| events::save(domain, &to, paused));
        if let Err(failure) = saved {
            if failure.code == codes::CANCELLED || failure.code == codes::TIMED_OUT {
                let workspace = self.workspace.clone();
                // The machine goes on; if even that fails, the first failure is the one to tell.
                let _first_told = self.host.run_own("give up saving", &self.object(), move |connection| {
                    machine::find(connection, &workspace)?.map_or(Ok(()), |domain| events::abort(&domain))
                });
            }
            // libvirt marks a file as complete at the very end: such a one is the machine's only memory.
            if !storage::is_save_file(&part) {
                remove_quietly(&part);
            }
            return Err(failure);
        }
        settle(&part, &path)?;
        self.inspect()
    }

    /// Copies the saved machine into descriptors.
    pub fn export(&self, args: &WorkspaceExport, fds: Vec<OwnedFd>) -> Outcome<Exported> {
        let storage = &self.host.storage;
        if fds.len() != args.streams.len() {
            return Err(Failure::new(
                codes::INVALID,
                format!("{} streams came with {} descriptors", args.streams.len(), fds.len()),
            )
            .about(self.object()));
        }
        if !matches!(self.state()?, Virtual::None | Virtual::Off(_)) || !storage.is_saved(&self.workspace) {
            return Err(self.wrong_state("its memory is not saved").remedy("save it first"));
        }
        let saved = self.saved()?;
        let mut disks = Vec::new();
        for (name, fd) in args.streams.iter().zip(fds) {
            if name == "memory" {
                storage::send(&storage.file(&self.workspace, "memory.save"), fd, "export memory", self.call)?;
            } else if is_disk(name) {
                let path = storage.disk(&self.workspace, name);
                let info = storage::info(&path, "qcow2")?;
                let backing = info.backing_filename.rsplit('/').next().unwrap_or_default().to_owned();
                if !backing.is_empty() && !is_digest(&backing) {
                    return Err(Failure::new(
                        codes::DAMAGED,
                        format!("its disk `{name}` is made from `{backing}`, which is no image"),
                    )
                    .about(self.object()));
                }
                storage::send(&path, fd, &format!("export {name}"), self.call)?;
                disks.push(ExportedDisk {
                    name: name.clone(),
                    format: "qcow2".to_owned(),
                    backing_digest: backing,
                    backing_format: info.backing_filename_format,
                });
            } else {
                return Err(
                    Failure::new(codes::INVALID, format!("there is no stream `{}`", name.escape_default())).about(self.object())
                );
            }
        }
        Ok(Exported {
            hypervisor: saved.hypervisor,
            accelerator: saved.accelerator,
            machine_type: saved.machine_type,
            cpu: saved.cpu,
            emulator: saved.emulator,
            paused: saved.paused,
            disks,
        })
    }

    /// Puts a bundle's streams on the host as a saved machine.
    pub fn import(&self, args: &WorkspaceImport, fds: Vec<OwnedFd>) -> Outcome<MachineStatus> {
        check(&args.machine, self.host, self.call)?;
        let storage = &self.host.storage;
        if fds.len() != args.streams.len() {
            return Err(Failure::new(
                codes::INVALID,
                format!("{} streams came with {} descriptors", args.streams.len(), fds.len()),
            )
            .about(self.object()));
        }
        if !matches!(self.state()?, Virtual::None | Virtual::Off(_)) {
            return Err(self.wrong_state("it runs on this host already"));
        }
        // The memory is put in place last: being there, it says that everything is.
        if storage.is_saved(&self.workspace) {
            return self.inspect();
        }
        self.runs_here(&args.exported.accelerator)?;
        let new = storage.make_folder(&self.workspace)?;
        let done = self.import_streams(args, fds);
        if let Err(failure) = done {
            if new {
                // If that fails too, destroy does it later.
                let _first_told = self.destroy();
            }
            return Err(failure);
        }
        self.inspect()
    }

    fn import_streams(&self, args: &WorkspaceImport, fds: Vec<OwnedFd>) -> Outcome<()> {
        let storage = &self.host.storage;
        let machine = &args.machine;
        let wanted: Vec<&str> = std::iter::once("memory").chain(machine.disks.iter().map(|disk| disk.name.as_str())).collect();
        for name in &wanted {
            if args.streams.iter().filter(|stream| stream == name).count() != 1 {
                return Err(Failure::new(codes::INVALID, format!("the bundle has not one stream `{name}`")).about(self.object()));
            }
        }
        if args.streams.len() != wanted.len() {
            return Err(
                Failure::new(codes::INVALID, "the bundle has streams that the machine does not know").about(self.object())
            );
        }
        let mut memory = None;
        for (name, fd) in args.streams.iter().zip(fds) {
            if name == "memory" {
                let part = Part::create(&storage.file(&self.workspace, "memory.import"), 0o600, &self.object())?;
                storage::copy(&mut File::from(fd), &part.file, 0, "import memory", self.call, &self.object())?;
                if !storage::is_save_file(&part.path()) {
                    return Err(Failure::new(codes::DAMAGED, "its memory stream is not a complete memory file of libvirt")
                        .about(self.object()));
                }
                memory = Some(part);
            } else {
                self.import_disk(machine, name, args.exported.disks.iter().find(|disk| &disk.name == name), fd)?;
            }
        }
        self.make_files(machine)?;
        let exported = &args.exported;
        let saved = Saved {
            paused: exported.paused,
            accelerator: exported.accelerator.clone(),
            machine_type: exported.machine_type.clone(),
            cpu: exported.cpu.clone(),
            emulator: exported.emulator.clone(),
            hypervisor: exported.hypervisor.clone(),
        };
        let frame = self.frame(machine, Some(&saved))?;
        self.define(machine, &frame)?;
        self.write_saved(&saved)?;
        if let Some(memory) = memory {
            memory.keep()?;
            settle(&storage.file(&self.workspace, "memory.import"), &storage.file(&self.workspace, "memory.save"))?;
        }
        Ok(())
    }

    fn import_disk(&self, machine: &MachineDoc, name: &str, exported: Option<&ExportedDisk>, fd: OwnedFd) -> Outcome<()> {
        let storage = &self.host.storage;
        let object = format!("disk `{name}` of {}", self.object());
        let exported =
            exported.ok_or_else(|| Failure::new(codes::INVALID, "the bundle does not say how to read it").about(&object))?;
        if exported.format != "qcow2" {
            return Err(Failure::new(codes::UNSUPPORTED, format!("its format is `{}`", exported.format.escape_default()))
                .about(object)
                .remedy("this backend reads `qcow2`"));
        }
        let part = Part::create(&storage.disk(&self.workspace, name), 0o600, &object)?;
        storage::copy(&mut File::from(fd), &part.file, 0, &format!("import {name}"), self.call, &object)?;
        let info = storage::info(&part.path(), "qcow2")?;
        if info.has_data_file() {
            return Err(Failure::new(codes::INVALID, "its bytes are in another file").about(object));
        }
        // What the stream itself names as its image is a path of another host, and nothing is ever opened by it.
        match (exported.backing_digest.as_str(), info.backing_filename.is_empty()) {
            ("", true) => {}
            ("", false) => {
                return Err(
                    Failure::new(codes::INVALID, "it refers to another file, of which the bundle says nothing").about(object)
                );
            }
            (_, true) => {
                return Err(
                    Failure::new(codes::DAMAGED, "the bundle says that it is made from an image, but it is not").about(object)
                );
            }
            (digest, false) => {
                let image = storage.checked_image(digest, &exported.backing_format)?;
                storage::rebase(&part.path(), &image, &exported.backing_format, self.call)?;
            }
        }
        let size_mib = machine.disks.iter().find(|disk| disk.name == name).map_or(0, |disk| disk.size_mib);
        if size_mib > 0 && info.virtual_size != size_mib << 20 {
            return Err(Failure::new(codes::DAMAGED, format!("it has {} bytes instead of {size_mib} MiB", info.virtual_size))
                .about(object));
        }
        part.keep()
    }

    /// Memory cannot change the accelerator that it was made with.
    fn runs_here(&self, accelerator: &str) -> Outcome<()> {
        let seen = probe::seen(self.host, self.call)?;
        if accelerator == seen.accelerator {
            return Ok(());
        }
        Err(Failure::new(
            codes::UNSUPPORTED,
            format!(
                "its memory was saved under `{}`, {} runs guests under `{}`",
                accelerator.escape_default(),
                self.host.object(),
                seen.accelerator
            ),
        )
        .about(self.object())
        .remedy("restore it on a host with the same accelerator, or start it anew from its disks"))
    }

    /// Goes on from the saved memory under a definition made anew.
    pub fn restore(&self, args: &MachineArgs) -> Outcome<MachineStatus> {
        let machine = &args.machine;
        check(machine, self.host, self.call)?;
        let storage = &self.host.storage;
        if !matches!(self.state()?, Virtual::None | Virtual::Off(_)) {
            // An earlier attempt came so far: the old memory must never be used again.
            storage.end_restore(&self.workspace)?;
            return self.inspect();
        }
        storage.recover_restore(&self.workspace, &machine.disks)?;
        if !storage.is_saved(&self.workspace) {
            return Err(self.wrong_state("its memory is not saved on the host").remedy("start it, or import its bundle"));
        }
        let saved = self.saved()?;
        self.runs_here(&saved.accelerator)?;
        let frame = self.frame(machine, Some(&saved))?;
        let xml = self.define(machine, &frame)?;
        let path = storage.begin_restore(&self.workspace)?.to_string_lossy().into_owned();
        let flags = if args.paused { sys::VIR_DOMAIN_SAVE_PAUSED } else { sys::VIR_DOMAIN_SAVE_RUNNING };
        self.call.progress("restore memory", 0, 0);
        let restored = self.run("restore the machine's memory", move |connection, _workspace| {
            connection.restore_domain_flags(&path, Some(&xml), flags)
        });
        if let Err(failure) = restored {
            let unknown =
                [codes::CANCELLED, codes::TIMED_OUT, codes::UNREACHABLE, codes::INTERNAL].contains(&failure.code.as_str());
            // While nobody knows whether it runs, its memory is not offered again; the next attempt finds out.
            if !unknown && matches!(self.state()?, Virtual::None | Virtual::Off(_)) {
                storage.undo_restore(&self.workspace)?;
            }
            return Err(failure);
        }
        storage.end_restore(&self.workspace)?;
        self.inspect()
    }

    /// The root disk, complete in itself, into a descriptor.
    pub fn save_disk(&self, to: OwnedFd) -> Outcome<SavedDisk> {
        let storage = &self.host.storage;
        if !matches!(self.state()?, Virtual::None | Virtual::Off(_)) {
            return Err(self.wrong_state("it runs: its disk changes").remedy("stop it first"));
        }
        if storage.is_saved(&self.workspace) {
            return Err(self
                .wrong_state("its memory is saved: its disk alone is not consistent")
                .remedy("restore it, then stop it"));
        }
        let disk = storage.disk(&self.workspace, "disk-0");
        if !disk.exists() {
            return Err(Failure::new(codes::NOT_FOUND, "it has no root disk on the host").about(self.object()));
        }
        let virtual_size = storage::info(&disk, "qcow2")?.virtual_size;
        // The tool needs a file that it can seek in; the descriptor may be anything.
        let part = Part::create(&storage.file(&self.workspace, "flat"), 0o600, &self.object())?;
        self.call.progress("flatten the disk", 0, 0);
        storage::flatten(&disk, &part.path(), self.call)?;
        storage::send(&part.path(), to, "export the disk", self.call)?;
        Ok(SavedDisk { format: "qcow2".to_owned(), virtual_size_mib: virtual_size.div_ceil(1 << 20) })
    }
}
