//! Serializing: memory into a volume, streams out of the host and into another, and going on from there.
//!
//! Owns: which stream is which volume, what the definition says of a saved memory, and what is checked before bytes from elsewhere
//! are used. A memory file embeds a definition of its own: restoring replaces it by one made anew.
//! Must not know: where streams lead.

use crate::events;
use crate::machine::{self, Machine, Virtual, check};
use crate::network;
use crate::probe;
use crate::qcow2;
use crate::readback::Element;
use crate::resize;
use crate::storage::{SAVED_MAGIC, Site, Trouble, is_digest, names};
use crate::stream::{self, Source};
use crate::xml::{self, Size, Tree};
use std::os::fd::OwnedFd;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::storage_vol::StorageVol;
use virt_sys as sys;
use vws_plugin_api::doc::{
    BootDoc, Exported, ExportedDisk, Failure, MachineArgs, MachineDoc, MachineStatus, SavedDisk, WorkspaceExport,
    WorkspaceImport, codes,
};
use vws_plugin_api::sdk::Outcome;

/// Namespace of the element in a definition that says with what its memory was saved.
pub const NAMESPACE: &str = "urn:virtualworkspaces1:saved";

/// What a memory file was made with, and needs again. It stands in the machine's definition, which changes as a whole or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// A restore has begun: the memory may have been used.
    pub restoring: bool,
    /// When the disks were written last, before it began.
    pub written: String,
}

impl Saved {
    /// What the domain's definition says.
    pub fn of(domain: &Domain) -> Result<Option<Self>, Error> {
        let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
        let said = match domain.metadata(kind, Some(NAMESPACE), sys::VIR_DOMAIN_AFFECT_CONFIG) {
            Ok(said) => said,
            Err(error) if error.code().is(ErrorNumber::NoDomainMetadata) || error.code().is(ErrorNumber::NoDomain) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Ok(element) = Element::parse(&said) else { return Ok(None) };
        let of = |name: &str| element.attribute(name).to_owned();
        Ok(Some(Self {
            paused: of("paused") == "yes",
            accelerator: of("accelerator"),
            machine_type: of("machine-type"),
            cpu: of("cpu"),
            emulator: of("emulator"),
            hypervisor: of("hypervisor"),
            restoring: of("restoring") == "yes",
            written: of("written"),
        }))
    }

    fn attributes(&self) -> [(&str, &str); 8] {
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        [
            ("paused", yes(self.paused)),
            ("accelerator", &self.accelerator),
            ("machine-type", &self.machine_type),
            ("cpu", &self.cpu),
            ("emulator", &self.emulator),
            ("hypervisor", &self.hypervisor),
            ("restoring", yes(self.restoring)),
            ("written", &self.written),
        ]
    }

    /// Writes the element into a definition.
    pub fn write(&self, tree: &mut Tree) -> std::io::Result<()> {
        let mut attributes = vec![("xmlns:vws-saved", NAMESPACE)];
        attributes.extend(self.attributes());
        tree.leaf("vws-saved:saved", &attributes)
    }

    /// Puts the element into the definition of a domain.
    fn mark(&self, domain: &Domain) -> Result<(), Trouble> {
        let mut tree = Tree::new();
        // libvirt itself adds the namespace.
        tree.leaf("saved", &self.attributes()).map_err(|error| Failure::new(codes::INTERNAL, format!("domain XML: {error}")))?;
        let element = tree.finish()?;
        let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
        domain.set_metadata(kind, Some(&element), Some("vws-saved"), Some(NAMESPACE), sys::VIR_DOMAIN_AFFECT_CONFIG)?;
        Ok(())
    }
}

/// Whether `name` can be a disk stream's.
fn is_disk(name: &str) -> bool {
    name.strip_prefix("disk-")
        .is_some_and(|number| !number.is_empty() && number.len() <= 4 && number.bytes().all(|b| b.is_ascii_digit()))
}

/// CPU model or mode of a definition.
pub fn cpu_of(domain: &Element) -> String {
    match domain.at(&["cpu"]) {
        Some(cpu) if cpu.attribute("mode") == "custom" => cpu.text_at(&["model"]).to_owned(),
        Some(cpu) => cpu.attribute("mode").to_owned(),
        None => String::new(),
    }
}

/// Whether the machine has variables of a firmware.
pub fn has_nvram(machine: &MachineDoc) -> bool {
    matches!(&machine.boot, BootDoc::Disk { firmware } if firmware == "uefi")
}

fn needed(site: &Site, name: &str) -> Result<StorageVol, Trouble> {
    site.seek(name)?.ok_or_else(|| Failure::new(codes::NOT_FOUND, format!("volume `{name}` is not on the host")).into())
}

/// How large the machine was when its memory was saved. These numbers, and the firmware's name, are all that is taken from the
/// definition in the memory file, and only up to what the machine may have: memory can go on under no others.
fn saved_size(embedded: &Element, machine: &MachineDoc) -> Outcome<Size> {
    let (was, may) = (resize::size_of(embedded), Size::of(machine));
    let fits = (1..=may.vcpus_max).contains(&was.vcpus)
        && (was.vcpus..=may.vcpus_max).contains(&was.vcpus_max)
        && (was.each.is_empty() || was.each.len() as u64 == was.vcpus_max)
        && (1..=may.memory_max_kib).contains(&was.memory_kib)
        && (was.memory_kib..=may.memory_max_kib).contains(&was.memory_max_kib);
    if fits {
        return Ok(was);
    }
    Err(Failure::new(
        codes::INVALID,
        format!(
            "its memory was saved with {} of {} vCPUs and {} of {} KiB, which is more than the {} vCPUs and {} KiB that it may have",
            was.vcpus, was.vcpus_max, was.memory_kib, was.memory_max_kib, may.vcpus_max, may.memory_max_kib
        ),
    )
    .remedy("restore it with the size that it had"))
}

/// The firmware's file that a machine began with, by the definition that goes with its memory: its memory goes on under no other.
/// It is taken only if the host itself offers that very file as a firmware.
pub fn loader(began: &Element, machine: &MachineDoc, offered: &[String]) -> Outcome<Option<String>> {
    if !has_nvram(machine) {
        return Ok(None);
    }
    let loader = began.text_at(&["os", "loader"]);
    if offered.iter().any(|known| known == loader) {
        return Ok(Some(loader.to_owned()));
    }
    Err(Failure::new(codes::UNSUPPORTED, format!("its firmware is `{}`, which the host does not offer", loader.escape_default()))
        .remedy("use a host with the same firmware, or start it anew from its disks"))
}

impl Machine<'_> {
    /// Memory into a volume of the host; the machine is off then.
    pub fn save(&self) -> Outcome<MachineStatus> {
        let paused = match self.own()? {
            Virtual::Running => false,
            Virtual::Paused(_) => true,
            Virtual::Saved => return Ok(self.told(&Virtual::Saved)),
            _ => return Err(self.wrong_state("it does not run: there is no memory to save").remedy("start it first")),
        };
        let seen = probe::seen(self.host, self.call)?;
        self.call.progress("save memory", 0, 0);
        let saved = self.work("save the machine's memory", move |site, workspace| {
            let Some(domain) = machine::find(site, workspace)? else {
                return Err(Failure::new(codes::STATE, "the machine is not defined on the host").into());
            };
            let live = Element::parse(&domain.xml_desc(0)?)?;
            let saved = Saved {
                paused,
                accelerator: seen.accelerator.clone(),
                machine_type: live.at(&["os", "type"]).map_or("", |kind| kind.attribute("machine")).to_owned(),
                cpu: cpu_of(&live),
                emulator: seen.emulator(),
                hypervisor: seen.hypervisor(),
                ..Saved::default()
            };
            // libvirt marks the file as complete at the very end: until then the mark in the definition means nothing.
            site.create_anew(&names::memory(workspace))?;
            saved.mark(&domain)?;
            Ok(events::save(&domain, &site.path(&names::memory(workspace)), paused)?)
        });
        if let Err(failure) = saved {
            if failure.code == codes::CANCELLED || failure.code == codes::TIMED_OUT {
                self.abort("give up saving");
            }
            return Err(failure);
        }
        Ok(self.told(&Virtual::Saved))
    }

    /// Gives up the long job that the machine is in. It goes on; if even that fails, the first failure is the one to tell.
    pub fn abort(&self, what: &str) {
        let workspace = self.workspace.clone();
        let _first_told = self.host.run_own(what, &self.object(), move |site| {
            machine::find(site, &workspace)?.map_or(Ok(()), |domain| events::abort(&domain))
        });
    }

    fn each_has_a_descriptor(&self, streams: &[String], fds: &[OwnedFd]) -> Outcome<()> {
        if streams.len() == fds.len() {
            return Ok(());
        }
        Err(Failure::new(codes::INVALID, format!("{} streams came with {} descriptors", streams.len(), fds.len()))
            .about(self.object()))
    }

    /// Copies the saved machine into descriptors.
    pub fn export(&self, args: &WorkspaceExport, fds: Vec<OwnedFd>) -> Outcome<Exported> {
        self.each_has_a_descriptor(&args.streams, &fds)?;
        if self.own()? != Virtual::Saved {
            return Err(self.wrong_state("its memory is not saved").remedy("save it first"));
        }
        let saved = self.run("read what its memory was saved with", |site, workspace| {
            machine::find(site, workspace)?.map_or(Ok(None), |domain| Saved::of(&domain))
        })?;
        let saved = saved.ok_or_else(|| self.wrong_state("its memory is not saved"))?;
        let mut disks = Vec::new();
        for (name, fd) in args.streams.iter().zip(fds) {
            let volume = match name.as_str() {
                "memory" => names::memory(&self.workspace),
                "nvram" => names::nvram(&self.workspace),
                disk if is_disk(disk) => names::disk(&self.workspace, disk),
                other => {
                    return Err(Failure::new(codes::INVALID, format!("there is no stream `{}`", other.escape_default()))
                        .about(self.object()));
                }
            };
            if is_disk(name) {
                disks.push(self.exported_disk(name)?);
            }
            self.pump(&format!("export {name}"), move |site, _workspace, gauge| {
                stream::download(site, &needed(site, &volume)?, fd, gauge)
            })?;
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

    fn exported_disk(&self, name: &str) -> Outcome<ExportedDisk> {
        let volume = names::disk(&self.workspace, name);
        let header = self.work("read the disk's header", move |site, _workspace| {
            Ok(qcow2::read(&site.head(&needed(site, &volume)?, qcow2::ENOUGH)?)?)
        })?;
        let file = header.backing.rsplit('/').next().unwrap_or_default();
        let digest = file.strip_prefix("vws-image-").unwrap_or_default();
        if !header.backing.is_empty() && !is_digest(digest) {
            return Err(Failure::new(codes::DAMAGED, format!("its disk `{name}` is made from `{file}`, which is no image"))
                .about(self.object()));
        }
        Ok(ExportedDisk {
            name: name.to_owned(),
            format: "qcow2".to_owned(),
            backing_digest: digest.to_owned(),
            backing_format: header.backing_format,
        })
    }

    /// Puts a bundle's streams on the host as a saved machine.
    pub fn import(&self, args: &WorkspaceImport, fds: Vec<OwnedFd>) -> Outcome<MachineStatus> {
        check(&args.machine, self.host, self.call)?;
        self.each_has_a_descriptor(&args.streams, &fds)?;
        let was = self.own()?;
        match was {
            Virtual::None | Virtual::Off(_) => {}
            Virtual::Saved => return Ok(self.told(&was)),
            _ => return Err(self.wrong_state("it runs on this host already")),
        }
        self.runs_here(&args.exported.accelerator)?;
        if let Err(failure) = self.import_streams(args, fds) {
            if was == Virtual::None {
                // If that fails too, destroy does it later.
                let _first_told = self.destroy();
            }
            return Err(failure);
        }
        Ok(self.told(&Virtual::Saved))
    }

    fn import_streams(&self, args: &WorkspaceImport, fds: Vec<OwnedFd>) -> Outcome<()> {
        let machine = &args.machine;
        let nvram = has_nvram(machine).then_some("nvram");
        let disks = machine.disks.iter().map(|disk| disk.name.as_str());
        let wanted: Vec<&str> = std::iter::once("memory").chain(nvram).chain(disks).collect();
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
        let exported = &args.exported;
        let plan = self.plan(
            machine,
            Some(Saved {
                paused: exported.paused,
                accelerator: exported.accelerator.clone(),
                machine_type: exported.machine_type.clone(),
                cpu: exported.cpu.clone(),
                emulator: exported.emulator.clone(),
                hypervisor: exported.hypervisor.clone(),
                ..Saved::default()
            }),
        )?;
        self.work("define the machine", move |site, workspace| {
            plan.images(site)?;
            // The memory is put in place last: being there, it says that everything is.
            site.remove(&names::memory(workspace))?;
            plan.define(site)?;
            plan.write_seed(site)
        })?;
        self.has_seed(machine);
        let mut memory = None;
        for (name, fd) in args.streams.iter().zip(fds) {
            match name.as_str() {
                "memory" => memory = Some(fd),
                "nvram" => self.import_nvram(fd)?,
                disk => self.import_disk(machine, disk, exported.disks.iter().find(|known| known.name == disk), fd)?,
            }
        }
        match memory {
            Some(fd) => self.import_memory(fd),
            None => Ok(()),
        }
    }

    /// The memory without its first words, then these: they say that all of it is there.
    fn import_memory(&self, fd: OwnedFd) -> Outcome<()> {
        self.pump("import memory", move |site, workspace, gauge| {
            let mut source = Source::new(fd);
            let head = source.head(SAVED_MAGIC.len(), gauge)?;
            if head.as_slice() != SAVED_MAGIC {
                let said = "its memory stream is not a complete memory file of libvirt";
                return Err(Failure::new(codes::DAMAGED, said).into());
            }
            head.fill(0);
            let volume = site.create_anew(&names::memory(workspace))?;
            stream::upload(site, &volume, 0, &mut source, gauge)?;
            stream::write(site, &volume, 0, SAVED_MAGIC)
        })
    }

    fn import_nvram(&self, fd: OwnedFd) -> Outcome<()> {
        self.pump("import nvram", move |site, workspace, gauge| {
            let volume = site.create_anew(&names::nvram(workspace))?;
            stream::upload(site, &volume, 0, &mut Source::new(fd), gauge).map(drop)
        })
    }

    fn import_disk(&self, machine: &MachineDoc, name: &str, exported: Option<&ExportedDisk>, fd: OwnedFd) -> Outcome<()> {
        let object = format!("disk `{name}` of {}", self.object());
        let exported =
            exported.ok_or_else(|| Failure::new(codes::INVALID, "the bundle does not say how to read it").about(&object))?;
        if exported.format != "qcow2" {
            return Err(Failure::new(codes::UNSUPPORTED, format!("its format is `{}`", exported.format.escape_default()))
                .about(object)
                .remedy("this backend reads `qcow2`"));
        }
        let size_mib = machine.disks.iter().find(|disk| disk.name == name).map_or(0, |disk| disk.size_mib);
        let (digest, format) = (exported.backing_digest.clone(), exported.backing_format.clone());
        let volume = names::disk(&self.workspace, name);
        self.pump(&format!("import {name}"), move |site, _workspace, gauge| {
            let about = |failure: Failure| failure.about(&object);
            let mut source = Source::new(fd);
            let head = source.head(qcow2::ENOUGH, gauge)?;
            let header = qcow2::read(head).map_err(about)?;
            if header.has_data_file {
                return Err(about(Failure::new(codes::INVALID, "its bytes are in another file")).into());
            }
            if size_mib > 0 && header.virtual_size != size_mib << 20 {
                let said = format!("it has {} bytes instead of {size_mib} MiB", header.virtual_size);
                return Err(about(Failure::new(codes::DAMAGED, said)).into());
            }
            // What the stream itself names as its image is a path of another host, and nothing is ever opened by it.
            match (digest.is_empty(), header.backing.is_empty()) {
                (true, true) => {}
                (true, false) => {
                    let said = "it refers to another file, of which the bundle says nothing";
                    return Err(about(Failure::new(codes::INVALID, said)).into());
                }
                (false, true) => {
                    let said = "the bundle says that it is made from an image, but it is not";
                    return Err(about(Failure::new(codes::DAMAGED, said)).into());
                }
                (false, false) => {
                    site.checked_image(&digest, &format)?;
                    qcow2::rebase(head, &site.path(&names::image(&digest)), &format).map_err(about)?;
                }
            }
            let volume = site.create_anew(&volume)?;
            stream::upload(site, &volume, 0, &mut source, gauge).map(drop)
        })
    }

    /// Memory cannot change the accelerator that it was made with.
    pub fn runs_here(&self, accelerator: &str) -> Outcome<()> {
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
        let was = self.own()?;
        if matches!(was, Virtual::Running | Virtual::Paused(_)) {
            // An earlier attempt came so far: the old memory must never be used again.
            self.run("remove the old memory", |site, workspace| site.remove(&names::memory(workspace)))?;
            return self.told_with_cpu(&was);
        }
        let disks = machine.disks.clone();
        let saved = self.work("read what its memory was saved with", move |site, workspace| {
            let Some(domain) = machine::find(site, workspace)? else { return Ok(None) };
            let Some(saved) = Saved::of(&domain)? else { return Ok(None) };
            if !site.has_memory(workspace)? {
                return Ok(None);
            }
            let written = site.written(workspace, &disks)?;
            if saved.restoring && saved.written != written {
                // The guest would wake up with disks that it does not remember.
                return Err(Failure::new(
                    codes::STATE,
                    "the restore was interrupted after the guest had run, and its disks have changed since",
                )
                .remedy("start it: it boots from its disks")
                .into());
            }
            Ok(Some(Saved { restoring: true, written, ..saved }))
        })?;
        let Some(saved) = saved else {
            return Err(self.wrong_state("its memory is not saved on the host").remedy("start it, or import its bundle"));
        };
        self.runs_here(&saved.accelerator)?;
        let mut plan = self.plan(machine, Some(saved))?;
        let paused = args.paused;
        self.call.progress("restore memory", 0, 0);
        let restored = self.work("restore the machine's memory", move |site, workspace| {
            let embedded = Element::parse(&site.save_image_xml_desc(&site.path(&names::memory(workspace)), 0)?)?;
            plan.now = Some(saved_size(&embedded, &plan.machine)?);
            plan.loader = loader(&embedded, &plan.machine, &plan.seen.loaders)?;
            let frame = plan.frame(site);
            let xml = xml::domain(&plan.machine, &frame)?;
            network::prepare(site, &plan.machine)?;
            plan.define(site)?;
            if site.find(&names::console(workspace))?.is_none() {
                site.new_log(workspace)?;
            }
            let flags = if paused { sys::VIR_DOMAIN_SAVE_PAUSED } else { sys::VIR_DOMAIN_SAVE_RUNNING };
            site.restore_domain_flags(&site.path(&names::memory(workspace)), Some(&xml), flags)?;
            if plan.now.as_ref().is_some_and(|now| now.memory_kib != Size::of(&plan.machine).memory_kib)
                && let Some(domain) = machine::find(site, workspace)?
            {
                // It goes on with what it had; where a balloon cannot move, a resize says so.
                let wanted = Size::of(&plan.machine).memory_kib;
                let _stays_as_it_was = domain.set_memory_flags(wanted, sys::VIR_DOMAIN_AFFECT_LIVE);
            }
            Ok(())
        });
        if let Err(failure) = restored {
            let unknown =
                [codes::CANCELLED, codes::TIMED_OUT, codes::UNREACHABLE, codes::INTERNAL].contains(&failure.code.as_str());
            // While nobody knows whether it runs, its memory is not offered again; the next attempt finds out.
            if !unknown && matches!(self.state()?, Virtual::None | Virtual::Off(_)) {
                self.work("offer the memory again", |site, workspace| {
                    let Some(domain) = machine::find(site, workspace)? else { return Ok(()) };
                    match Saved::of(&domain)? {
                        Some(saved) => Saved { restoring: false, ..saved }.mark(&domain),
                        None => Ok(()),
                    }
                })?;
            }
            return Err(failure);
        }
        self.run("remove the old memory", |site, workspace| site.remove(&names::memory(workspace)))?;
        self.told_with_cpu(if paused { &Virtual::Paused("") } else { &Virtual::Running })
    }

    /// The root disk, complete in itself, into a descriptor.
    pub fn save_disk(&self, to: OwnedFd) -> Outcome<SavedDisk> {
        match self.own()? {
            Virtual::None | Virtual::Off(_) => {}
            Virtual::Saved => {
                return Err(self
                    .wrong_state("its memory is saved: its disk alone is not consistent")
                    .remedy("restore it, then stop it"));
            }
            _ => return Err(self.wrong_state("it runs: its disk changes").remedy("stop it first")),
        }
        self.call.progress("flatten the disk", 0, 0);
        let virtual_size = self.work("flatten the disk", |site, workspace| {
            let Some(disk) = site.seek(&names::disk(workspace, "disk-0"))? else {
                return Err(Failure::new(codes::NOT_FOUND, "it has no root disk on the host").into());
            };
            let virtual_size = qcow2::read(&site.head(&disk, qcow2::ENOUGH)?)?.virtual_size;
            site.remove(&names::flat(workspace))?;
            site.flatten(&names::flat(workspace), virtual_size, &disk)?;
            Ok(virtual_size)
        })?;
        let sent = self.pump("export the disk", move |site, workspace, gauge| {
            let flat = needed(site, &names::flat(workspace))?;
            stream::download(site, &flat, to, gauge).map(drop)
        });
        let removed = self.run("remove the copy", |site, workspace| site.remove(&names::flat(workspace)));
        sent.and(removed)?;
        Ok(SavedDisk { format: "qcow2".to_owned(), virtual_size_mib: virtual_size.div_ceil(1 << 20) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_on_under_the_firmware_that_it_began_with_and_no_other() {
        let machine = |firmware: &str| -> MachineDoc {
            serde_json::from_value(serde_json::json!({
                "workspace": "0".repeat(32), "name": "one", "vcpus": 1, "memory_mib": 64, "deployment": 1, "disks": [], "nics": [],
                "boot": BootDoc::Disk { firmware: firmware.to_owned() },
                "seed": { "meta_data": "", "user_data": "", "network_config": "" },
            }))
            .unwrap()
        };
        let began = Element::parse("<domain><os><loader>/usr/share/OVMF/CODE.fd</loader></os></domain>").unwrap();
        let offered = ["/usr/share/OVMF/CODE.fd".to_owned()];
        assert_eq!(loader(&began, &machine("uefi"), &offered).unwrap().as_deref(), Some("/usr/share/OVMF/CODE.fd"));
        assert_eq!(loader(&began, &machine("bios"), &offered).unwrap(), None);
        let refused = loader(&began, &machine("uefi"), &["/usr/share/OVMF/OTHER.fd".to_owned()]).unwrap_err();
        assert!(refused.code == codes::UNSUPPORTED && refused.message.contains("/usr/share/OVMF/CODE.fd"), "{refused:?}");
        let crafted = Element::parse("<domain><os><loader>/etc/shadow</loader></os></domain>").unwrap();
        assert!(loader(&crafted, &machine("uefi"), &offered).is_err());
    }

    #[test]
    fn only_disks_of_a_bundle_are_disk_streams() {
        assert!(is_disk("disk-0") && is_disk("disk-17"));
        for wrong in ["disk-", "disk-x", "disk-00000", "memory", "disk-0/../x"] {
            assert!(!is_disk(wrong), "{wrong}");
        }
    }
}
