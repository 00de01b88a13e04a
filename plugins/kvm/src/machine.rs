//! What is done to one machine on its host: stage, start, stop, pause, look, destroy.
//!
//! Owns: the order of steps between files and libvirt, so that each can be repeated after a crash at any point. The definition is
//! made anew from the machine's document each time; what libvirt kept is never trusted. Must not know: how a connection is kept.

use crate::errors;
use crate::host::Host;
use crate::probe;
use crate::readback::{self, Element};
use crate::storage::{Storage, is_digest, is_workspace};
use crate::xml::{self, Frame};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use virt::connect::Connect;
use virt::domain::{Domain, DomainPausedReason, DomainShutoffReason, DomainState, DomainStateReason};
use virt::enumutil::Enum;
use virt::error::{Error, ErrorNumber};
use virt_sys as sys;
use vws_plugin_api::doc::{
    BootDoc, DiskSourceDoc, Failure, Foreign, HostListing, MachineArgs, MachineDoc, MachineState, MachineStatus, Retry,
    WorkspaceStop, capabilities, codes,
};
use vws_plugin_api::sdk::{Call, Outcome};

/// How often a waiting call looks at the machine.
const GLANCE: Duration = Duration::from_millis(50);
/// A guest that is still booting misses the power button: it is pressed again after this time.
const PRESS_AGAIN: Duration = Duration::from_secs(3);
/// How long a guest may take to begin a reboot before it is reset.
const REBOOT_PATIENCE: Duration = Duration::from_secs(20);
/// How long a machine may take to vanish after it was destroyed.
const VANISH: Duration = Duration::from_secs(30);

/// What libvirt says of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Virtual {
    /// It has no such domain.
    None,
    /// Defined, not running, and why.
    Off(&'static str),
    /// Runs.
    Running,
    /// Stands still, and why.
    Paused(&'static str),
}

/// The domain of a workspace, if there is one.
pub fn find(connection: &Connect, workspace: &str) -> Result<Option<Domain>, Error> {
    match connection.lookup_domain_by_uuid_string(&xml::uuid(workspace)) {
        Ok(domain) => Ok(Some(domain)),
        Err(error) if error.code().is(ErrorNumber::NoDomain) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An answer of libvirt in which "there is no such domain" is an answer.
fn unless_gone<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code().is(ErrorNumber::NoDomain) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What libvirt says of the workspace's domain.
pub fn state(connection: &Connect, workspace: &str) -> Result<Virtual, Error> {
    let Some(domain) = find(connection, workspace)? else { return Ok(Virtual::None) };
    let Some((state, reason)) = unless_gone(domain.state())? else { return Ok(Virtual::None) };
    Ok(match (state, reason) {
        (Enum::Known(DomainState::Shutoff | DomainState::Crashed), Enum::Known(DomainStateReason::Shutoff(reason))) => {
            Virtual::Off(match reason.known() {
                Some(DomainShutoffReason::Shutdown) => "shutdown",
                Some(DomainShutoffReason::Destroyed) => "destroyed",
                Some(DomainShutoffReason::Crashed) => "crashed",
                Some(DomainShutoffReason::Migrated) => "migrated",
                Some(DomainShutoffReason::Saved) => "saved",
                Some(DomainShutoffReason::Failed) => "failed",
                Some(DomainShutoffReason::Daemon) => "hypervisor",
                _ => "",
            })
        }
        (Enum::Known(DomainState::Shutoff), _) => Virtual::Off(""),
        (Enum::Known(DomainState::Crashed), _) => Virtual::Off("crashed"),
        (Enum::Known(DomainState::Paused | DomainState::PMSuspended), reason) => Virtual::Paused(match reason {
            Enum::Known(DomainStateReason::Paused(reason)) => match reason.known() {
                Some(DomainPausedReason::IOError) => "io-error",
                Some(DomainPausedReason::Watchdog) => "watchdog",
                Some(DomainPausedReason::Crashed) => "crashed",
                _ => "",
            },
            _ => "",
        }),
        _ => Virtual::Running,
    })
}

/// The status of a machine, from libvirt's answer and from its files.
pub fn status(storage: &Storage, workspace: &str, domain: Virtual) -> MachineStatus {
    let of = |state, reason: &str| MachineStatus {
        workspace: workspace.to_owned(),
        state,
        reason: reason.to_owned(),
        plugin_state: serde_json::Value::Null,
    };
    match domain {
        Virtual::Running => of(MachineState::Running, ""),
        Virtual::Paused(reason) => of(MachineState::Paused, reason),
        _ if storage.is_saved(workspace) => of(MachineState::Saved, ""),
        Virtual::Off(reason) => of(MachineState::Stopped, reason),
        Virtual::None if storage.folder(workspace).exists() => of(MachineState::Stopped, ""),
        Virtual::None => of(MachineState::Absent, ""),
    }
}

/// One machine on one host, for the time of one call.
pub struct Machine<'a> {
    /// The host.
    pub host: &'a Arc<Host>,
    /// Its workspace.
    pub workspace: String,
    /// The call.
    pub call: &'a Call,
}

impl<'a> Machine<'a> {
    /// The machine of `workspace`.
    pub fn new(host: &'a Arc<Host>, workspace: &str, call: &'a Call) -> Outcome<Self> {
        if !is_workspace(workspace) {
            return Err(Failure::new(codes::INVALID, "a workspace id has 32 lower-case hexadecimal digits")
                .about(errors::workspace(&workspace.escape_default().to_string())));
        }
        Ok(Self { host, workspace: workspace.to_owned(), call })
    }

    /// How it is named in failures.
    pub fn object(&self) -> String {
        errors::workspace(&self.workspace)
    }

    /// Runs `work` with libvirt.
    pub fn run<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&Connect, &str) -> Result<T, Error> + Send + 'static,
    ) -> Outcome<T> {
        let workspace = self.workspace.clone();
        self.host.run(self.call, what, &self.object(), move |connection| work(connection, &workspace))
    }

    /// Runs `work` with its domain, which has to be there.
    pub fn with_domain<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&Domain) -> Result<T, Error> + Send + 'static,
    ) -> Outcome<T> {
        self.run(what, |connection, workspace| find(connection, workspace)?.map(|domain| work(&domain)).transpose())?
            .ok_or_else(|| self.wrong_state("the machine is not defined on the host"))
    }

    /// What libvirt says of it.
    pub fn state(&self) -> Outcome<Virtual> {
        self.run("look at the machine", state)
    }

    /// Its status now, remembered as told.
    pub fn inspect(&self) -> Outcome<MachineStatus> {
        let status = status(&self.host.storage, &self.workspace, self.state()?);
        self.host.note(&status);
        Ok(status)
    }

    /// A failure because of the machine's state.
    pub fn wrong_state(&self, fact: &str) -> Failure {
        Failure::new(codes::STATE, fact).about(self.object())
    }

    /// Refuses to go on if the domain under this workspace's id is somebody else's.
    fn own(&self) -> Outcome<()> {
        let directory = self.host.storage.root().to_string_lossy().into_owned();
        let foreign = self.run("look at the machine", move |connection, workspace| {
            Ok(find(connection, workspace)?.is_some_and(|domain| !is_ours(&domain, &directory)))
        })?;
        if !foreign {
            return Ok(());
        }
        Err(self
            .wrong_state("a domain with its UUID is on the host, but was not made by this backend")
            .remedy("look at it with `virsh list --all --uuid --name`, and remove it if it is of no use"))
    }

    /// Disks and seed, definition; not started.
    pub fn stage(&self, args: &MachineArgs) -> Outcome<MachineStatus> {
        let machine = &args.machine;
        check(machine, self.host, self.call)?;
        self.own()?;
        if !matches!(self.state()?, Virtual::None | Virtual::Off(_)) {
            return self.inspect();
        }
        let storage = &self.host.storage;
        let new = storage.make_folder(&self.workspace)?;
        let staged = self.make_files(machine).and_then(|()| {
            let frame = self.frame(machine, None)?;
            self.define(machine, &frame).map(drop)
        });
        if let Err(failure) = staged {
            // Nothing is left of a machine that was not there before. If that fails too, destroy does it later.
            if new {
                let _reported_by_the_first = self.forget().and_then(|()| storage.remove(&self.workspace));
            }
            return Err(failure);
        }
        self.inspect()
    }

    /// Everything on the disk that the machine needs.
    pub fn make_files(&self, machine: &MachineDoc) -> Outcome<()> {
        let storage = &self.host.storage;
        if let BootDoc::Kernel { kernel, initrd, .. } = &machine.boot {
            for digest in [kernel, initrd].into_iter().filter(|digest| !digest.is_empty()) {
                storage.checked_image(digest, "raw")?;
            }
            storage.note_uses(&self.workspace, &[kernel, initrd])?;
        }
        for (index, disk) in machine.disks.iter().enumerate() {
            self.call.check()?;
            self.call.progress("make disks", index as u64, machine.disks.len() as u64);
            storage.make_disk(&self.workspace, disk, self.call)?;
        }
        self.write_seed(machine)
    }

    /// The seed.
    pub fn write_seed(&self, machine: &MachineDoc) -> Outcome<()> {
        let volume =
            crate::seed::volume(&machine.seed).map_err(|error| errors::system(&error, "cannot make the seed", &self.object()))?;
        self.host.storage.write(&self.host.storage.file(&self.workspace, "seed.img"), &volume)
    }

    /// What the definition needs to know; `saved` is what a memory file was made with.
    pub fn frame(&self, machine: &MachineDoc, saved: Option<&crate::bundle::Saved>) -> Outcome<Frame> {
        let seen = probe::seen(self.host, self.call)?;
        let storage = &self.host.storage;
        let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        let file = |name: &str| text(storage.file(&self.workspace, name));
        let own_cpu = if !self.host.settings.cpu.is_empty() {
            self.host.settings.cpu.clone()
        } else if seen.is_kvm() {
            // Its definition stays what it was when the machine is saved; `host-model` is replaced by its parts.
            "host-passthrough".to_owned()
        } else {
            "qemu64".to_owned()
        };
        let kept = |kept: Option<&String>, own: String| kept.filter(|kept| !kept.is_empty()).cloned().unwrap_or(own);
        let kernel = match &machine.boot {
            BootDoc::Kernel { kernel, initrd, .. } => {
                let initrd = if initrd.is_empty() { String::new() } else { text(storage.image(initrd)) };
                Some((text(storage.image(kernel)), initrd))
            }
            BootDoc::Disk { .. } => None,
        };
        Ok(Frame {
            kind: seen.domain_type(),
            arch: seen.arch.clone(),
            machine_type: kept(saved.map(|saved| &saved.machine_type), self.host.settings.machine.clone()),
            cpu: kept(saved.map(|saved| &saved.cpu), own_cpu),
            tb_cache_mib: self.host.settings.emulation_tb_cache_mib,
            directory: text(storage.root().to_owned()),
            kernel,
            disks: machine.disks.iter().map(|disk| text(storage.disk(&self.workspace, &disk.name))).collect(),
            seed: file("seed.img"),
            console_log: file("console.log"),
            nvram: file("nvram.fd"),
        })
    }

    /// Defines the machine anew and compares what libvirt made of it. Returns the definition that was sent.
    pub fn define(&self, machine: &MachineDoc, frame: &Frame) -> Outcome<String> {
        let xml = xml::domain(machine, frame)?;
        let sent = xml.clone();
        let back = self.run("define the machine", move |connection, _workspace| {
            // A definition without autostart: after the host's own restart the machine is off until the daemon says otherwise.
            let domain = connection.define_domain_xml_flags(&sent, sys::VIR_DOMAIN_DEFINE_VALIDATE)?;
            domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)
        })?;
        if let Err(failure) = readback::compare(&back, machine, frame) {
            self.forget()?;
            return Err(failure.detail(back));
        }
        Ok(xml)
    }

    /// Removes the definition of a machine that is off.
    fn forget(&self) -> Outcome<()> {
        self.run("remove the definition", |connection, workspace| {
            let Some(domain) = find(connection, workspace)? else { return Ok(()) };
            let flags = sys::VIR_DOMAIN_UNDEFINE_NVRAM
                | sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
            unless_gone(domain.undefine_flags(flags)).map(drop)
        })
    }

    /// Starts it under a definition made anew.
    pub fn start(&self, args: &MachineArgs) -> Outcome<MachineStatus> {
        let machine = &args.machine;
        check(machine, self.host, self.call)?;
        self.own()?;
        if !matches!(self.state()?, Virtual::None | Virtual::Off(_)) {
            return self.inspect();
        }
        let storage = &self.host.storage;
        if storage.is_saved(&self.workspace) {
            return Err(self.wrong_state("its memory is saved; starting it would throw that away").remedy("restore it"));
        }
        for disk in &machine.disks {
            if !storage.disk(&self.workspace, &disk.name).exists() {
                return Err(Failure::new(codes::NOT_FOUND, format!("its disk `{}` is not on the host", disk.name))
                    .about(self.object())
                    .remedy("stage it first"));
            }
        }
        storage.make_folder(&self.workspace)?;
        storage.end_restore(&self.workspace)?;
        self.write_seed(machine)?;
        let frame = self.frame(machine, None)?;
        self.define(machine, &frame)?;
        storage.clear_log(&self.workspace)?;
        let flags = if args.paused { sys::VIR_DOMAIN_START_PAUSED } else { 0 };
        self.with_domain("start the machine", move |domain| domain.create_with_flags(flags))?;
        self.inspect()
    }

    /// Asks the guest to end, waits, then forces it. The answer's reason says which it was.
    pub fn stop(&self, args: &WorkspaceStop) -> Outcome<MachineStatus> {
        self.own()?;
        let end = Instant::now() + Duration::from_millis(args.guest_timeout_ms);
        let mut pressed: Option<Instant> = None;
        let mut forced = false;
        loop {
            match self.state()? {
                Virtual::None | Virtual::Off(_) => break,
                // A machine that stands still hears no button.
                Virtual::Running if Instant::now() < end => {
                    if pressed.is_none_or(|at| at.elapsed() >= PRESS_AGAIN) {
                        self.unless_off("press the power button", |domain| {
                            domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
                        })?;
                        pressed = Some(Instant::now());
                    }
                    self.call.check().map_err(|failure| failure.about(self.object()))?;
                    std::thread::sleep(GLANCE);
                }
                _ => {
                    forced = true;
                    self.unless_off("end the machine", |domain| domain.destroy())?;
                }
            }
        }
        let mut status = self.inspect()?;
        if forced {
            status.reason = "forced".to_owned();
        } else if pressed.is_some() {
            status.reason = "shutdown".to_owned();
        }
        Ok(status)
    }

    /// Does `work` to a running machine; that it is off by now is fine.
    fn unless_off(&self, what: &str, work: impl FnOnce(&Domain) -> Result<(), Error> + Send + 'static) -> Outcome<()> {
        self.run(what, move |connection, workspace| {
            let Some(domain) = find(connection, workspace)? else { return Ok(()) };
            match work(&domain) {
                Err(error) if error.code().is(ErrorNumber::OperationInvalid) || error.code().is(ErrorNumber::NoDomain) => Ok(()),
                other => other,
            }
        })
    }

    /// Asks the guest to reboot; resets it if it does not begin to.
    pub fn reboot(&self) -> Outcome<MachineStatus> {
        match self.state()? {
            Virtual::Running => {}
            _ => return Err(self.wrong_state("it does not run").remedy("start or resume it")),
        }
        let before = self.host.reboots(&self.workspace);
        let end = Instant::now() + REBOOT_PATIENCE.min(self.call.remaining() / 2);
        let mut pressed: Option<Instant> = None;
        while self.host.reboots(&self.workspace) == before {
            self.call.check().map_err(|failure| failure.about(self.object()))?;
            if Instant::now() >= end {
                self.with_domain("reset the machine", |domain| domain.reset())?;
                let mut status = self.inspect()?;
                status.reason = "forced".to_owned();
                return Ok(status);
            }
            if pressed.is_none_or(|at| at.elapsed() >= PRESS_AGAIN) {
                self.with_domain("press the power button", |domain| domain.reboot(sys::VIR_DOMAIN_REBOOT_ACPI_POWER_BTN))?;
                pressed = Some(Instant::now());
            }
            std::thread::sleep(GLANCE);
        }
        let mut status = self.inspect()?;
        status.reason = "shutdown".to_owned();
        Ok(status)
    }

    /// Lets it stand still.
    pub fn pause(&self) -> Outcome<MachineStatus> {
        match self.state()? {
            Virtual::Paused(_) => {}
            Virtual::Running => self.with_domain("pause the machine", |domain| domain.suspend().map(drop))?,
            _ => return Err(self.wrong_state("it does not run").remedy("start it")),
        }
        self.inspect()
    }

    /// Lets it go on.
    pub fn resume(&self) -> Outcome<MachineStatus> {
        match self.state()? {
            Virtual::Running => {}
            Virtual::Paused(_) => self.with_domain("resume the machine", |domain| domain.resume().map(drop))?,
            _ => return Err(self.wrong_state("it does not run").remedy("start it, or restore it if it is saved")),
        }
        self.inspect()
    }

    /// Removes the machine and everything of it, from any state. Answers when libvirt has reported its absence.
    pub fn destroy(&self) -> Outcome<MachineStatus> {
        self.own()?;
        let end = Instant::now() + VANISH;
        loop {
            match self.state()? {
                Virtual::None => break,
                Virtual::Running | Virtual::Paused(_) => self.unless_off("end the machine", |domain| domain.destroy())?,
                Virtual::Off(_) => match self.forget() {
                    // "Off" may be said before the tear-down has ended; then the definition is still held.
                    Err(failure) if failure.code == codes::STATE && Instant::now() < end => {}
                    other => other?,
                },
            }
            if Instant::now() >= end {
                return Err(self
                    .wrong_state("libvirt does not let go of it")
                    .remedy("see the log of libvirt on the host")
                    .retry(Retry::Later));
            }
            self.call.check().map_err(|failure| failure.about(self.object()))?;
            if self.state()? != Virtual::None {
                std::thread::sleep(GLANCE);
            }
        }
        self.host.storage.remove(&self.workspace)?;
        self.inspect()
    }
}

/// Whether a domain carries this backend's mark, with this folder.
fn is_ours(domain: &Domain, directory: &str) -> bool {
    let mark = domain.metadata(sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed(), Some(xml::NAMESPACE), 0);
    mark.ok().and_then(|mark| Element::parse(&mark).ok()).is_some_and(|mark| mark.attribute("directory") == directory)
}

/// Every machine of the daemon's on the host, and what the others use.
pub fn list(host: &Arc<Host>, call: &Call) -> Outcome<HostListing> {
    let directory = host.storage.root().to_string_lossy().into_owned();
    let (ours, foreign) = host.run(call, "list machines", &host.object(), move |connection| {
        let mut ours = BTreeSet::new();
        let mut foreign = Foreign::default();
        for domain in connection.list_all_domains(0)? {
            let Some(name) = unless_gone(domain.name())? else { continue };
            if name.starts_with(probe::GUEST_PREFIX) {
                continue;
            }
            let id = name.strip_prefix("vws-").filter(|id| is_workspace(id));
            if let Some(id) = id.filter(|_id| is_ours(&domain, &directory)) {
                ours.insert(id.to_owned());
                continue;
            }
            // A guest that does not run uses no vCPU and no memory.
            let Some(info) = unless_gone(domain.info())? else { continue };
            if !matches!(info.state, Enum::Known(DomainState::Shutoff | DomainState::Crashed)) {
                foreign.guests += 1;
                foreign.vcpus += u64::from(info.nr_virt_cpu);
                foreign.memory_mib += info.max_mem.div_ceil(1024);
            }
        }
        Ok((ours, foreign))
    })?;
    let mut all = ours;
    all.extend(host.storage.workspaces()?);
    let workspaces = all.iter().map(|workspace| Machine::new(host, workspace, call)?.inspect()).collect::<Outcome<Vec<_>>>()?;
    let workspaces = workspaces.into_iter().filter(|status| status.state != MachineState::Absent).collect();
    Ok(HostListing { workspaces, foreign })
}

/// Refuses a machine that is malformed, or that needs what this host cannot do or enforce.
pub fn check(machine: &MachineDoc, host: &Arc<Host>, call: &Call) -> Outcome<()> {
    let object = errors::workspace(&machine.workspace);
    let invalid = |what: String| Err(Failure::new(codes::INVALID, what).about(object.clone()));
    if machine.vcpus == 0 || machine.vcpus > u64::from(u16::MAX) {
        return invalid(format!("{} vCPUs are not between 1 and {}", machine.vcpus, u16::MAX));
    }
    if machine.memory_mib == 0 || machine.memory_mib > 1 << 30 {
        return invalid(format!("{} MiB of memory are not between 1 and {}", machine.memory_mib, 1u64 << 30));
    }
    let mut names = BTreeSet::new();
    for disk in &machine.disks {
        let plain = !disk.name.is_empty()
            && disk.name.len() <= 32
            && disk.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !plain || !names.insert(&disk.name) {
            return invalid(format!("disk name `{}` is not a label of its own", disk.name.escape_default()));
        }
        if let DiskSourceDoc::Image { digest, .. } = &disk.source
            && !is_digest(digest)
        {
            return invalid(format!("disk `{}` names no image", disk.name));
        }
    }
    let mut needs = BTreeSet::new();
    match &machine.boot {
        BootDoc::Kernel { .. } => {
            needs.insert(capabilities::BOOT_KERNEL);
        }
        BootDoc::Disk { firmware } => {
            if machine.disks.is_empty() {
                return invalid("it is to boot from its root disk, but has none".to_owned());
            }
            needs.insert(match firmware.as_str() {
                "bios" => capabilities::BOOT_BIOS,
                "uefi" => capabilities::BOOT_UEFI,
                other => return invalid(format!("firmware `{}` is neither `bios` nor `uefi`", other.escape_default())),
            });
        }
    }
    if machine.cpu_shares > 0 {
        needs.insert(capabilities::CPU_SHARES);
    }
    if machine.disks.iter().any(|disk| disk.iops > 0 || disk.kib_per_second > 0) {
        needs.insert(capabilities::DISK_LIMITS);
    }
    for nic in &machine.nics {
        let octets: Vec<_> = nic.mac.split(':').collect();
        if octets.len() != 6 || octets.iter().any(|octet| octet.len() != 2 || u8::from_str_radix(octet, 16).is_err()) {
            return invalid(format!("`{}` is not a MAC address", nic.mac.escape_default()));
        }
        let limited = nic.inbound_kib_per_second > 0 || nic.outbound_kib_per_second > 0;
        needs.insert(match nic.kind.as_str() {
            "user" => capabilities::NIC_USER,
            "bridge" => capabilities::NIC_BRIDGE,
            "network" => capabilities::NIC_NETWORK,
            other => return invalid(format!("NIC kind `{}` is none of `user`, `bridge`, `network`", other.escape_default())),
        });
        if nic.kind != "user" && nic.source.is_empty() {
            return invalid(format!("a NIC of kind `{}` needs the name of its {}", nic.kind, nic.kind));
        }
        if limited {
            needs.insert(if nic.kind == "user" { capabilities::NIC_LIMITS_USER } else { capabilities::NIC_LIMITS });
        }
    }
    let can = probe::abilities(host, call)?;
    for need in needs {
        match can.get(need).map(String::as_str) {
            Some("") => {}
            reason => {
                return Err(Failure::new(
                    codes::UNSUPPORTED,
                    format!("it needs `{need}`, which {} cannot do: {}", host.object(), reason.unwrap_or("unknown to it")),
                )
                .about(object)
                .remedy("leave that out, or use a host that can"));
            }
        }
    }
    Ok(())
}
