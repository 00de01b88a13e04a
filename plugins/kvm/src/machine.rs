//! What is done to one machine on its host: stage, start, stop, pause, look, destroy.
//!
//! Owns: the order of steps between definition and files, so that each can be repeated after a crash at any point. The definition is
//! made anew from the machine's document each time; what libvirt kept is never trusted. Must not know: how a connection is kept.

use crate::bundle::{Saved, cpu_of};
use crate::errors;
use crate::host::{Gauge, Host, lock};
use crate::network;
use crate::probe::{self, Seen};
use crate::readback::{self, Element};
use crate::settings::Settings;
use crate::storage::{Site, Trouble, is_digest, is_workspace, names};
use crate::xml::{self, Frame, Size};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
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
    /// Defined, and its memory is saved.
    Saved,
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

/// What there is of the workspace's machine.
pub fn state(site: &Site, workspace: &str) -> Result<Virtual, Error> {
    match find(site, workspace)? {
        Some(domain) => state_of(site, &domain, workspace),
        None => Ok(Virtual::None),
    }
}

/// What there is of the machine of this domain.
pub fn state_of(site: &Site, domain: &Domain, workspace: &str) -> Result<Virtual, Error> {
    let Some((state, reason)) = unless_gone(domain.state())? else { return Ok(Virtual::None) };
    let state = match (state, reason) {
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
    };
    if matches!(state, Virtual::Off(_))
        && Saved::of(domain)?.is_some_and(|saved| !saved.restoring)
        && site.has_memory(workspace)?
    {
        return Ok(Virtual::Saved);
    }
    Ok(state)
}

/// The status of a machine.
pub fn status(workspace: &str, state: &Virtual) -> MachineStatus {
    let (state, reason) = match state {
        Virtual::Running => (MachineState::Running, ""),
        Virtual::Paused(reason) => (MachineState::Paused, *reason),
        Virtual::Saved => (MachineState::Saved, ""),
        Virtual::Off(reason) => (MachineState::Stopped, *reason),
        Virtual::None => (MachineState::Absent, ""),
    };
    MachineStatus {
        workspace: workspace.to_owned(),
        state,
        reason: reason.to_owned(),
        cpu: String::new(),
        plugin_state: serde_json::Value::Null,
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
        work: impl FnOnce(&Site, &str) -> Result<T, Error> + Send + 'static,
    ) -> Outcome<T> {
        let workspace = self.workspace.clone();
        self.host.run(self.call, what, &self.object(), move |site| work(site, &workspace))
    }

    /// Runs `work` that may fail in words of its own.
    pub fn work<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&Site, &str) -> Result<T, Trouble> + Send + 'static,
    ) -> Outcome<T> {
        let workspace = self.workspace.clone();
        self.host.work(self.call, what, &self.object(), move |site, _gauge| work(site, &workspace))
    }

    /// Runs `work` that moves bytes.
    pub fn pump<T: Send + 'static>(
        &self,
        phase: &str,
        work: impl FnOnce(&Site, &str, &Gauge) -> Result<T, Trouble> + Send + 'static,
    ) -> Outcome<T> {
        let workspace = self.workspace.clone();
        self.host.pump(self.call, phase, 0, &self.object(), move |site, gauge| work(site, &workspace, gauge))
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

    /// What there is of it.
    pub fn state(&self) -> Outcome<Virtual> {
        self.run("look at the machine", state)
    }

    /// Its status now, remembered as told.
    pub fn inspect(&self) -> Outcome<MachineStatus> {
        self.told_with_cpu(&self.state()?)
    }

    /// The same as [`Machine::told`], with the CPU model of a guest that runs.
    pub fn told_with_cpu(&self, state: &Virtual) -> Outcome<MachineStatus> {
        let mut status = self.told(state);
        if matches!(state, Virtual::Running | Virtual::Paused(_)) {
            status.cpu = self.work("look at the machine's CPU", |site, workspace| {
                let Some(domain) = find(site, workspace)? else { return Ok(String::new()) };
                let live = unless_gone(domain.xml_desc(0))?;
                Ok(live.map(|live| Element::parse(&live)).transpose()?.map(|live| cpu_of(&live)).unwrap_or_default())
            })?;
        }
        Ok(status)
    }

    /// The status for what there is of it, remembered as told.
    pub fn told(&self, state: &Virtual) -> MachineStatus {
        let status = status(&self.workspace, state);
        self.host.note(&status);
        status
    }

    /// A failure because of the machine's state.
    pub fn wrong_state(&self, fact: &str) -> Failure {
        Failure::new(codes::STATE, fact).about(self.object())
    }

    /// What there is of it; a failure if the domain under this workspace's id is somebody else's.
    pub fn own(&self) -> Outcome<Virtual> {
        let state = self.run("look at the machine", |site, workspace| {
            let Some(domain) = find(site, workspace)? else { return Ok(Some(Virtual::None)) };
            if !is_ours(&domain, &site.folder) {
                return Ok(None);
            }
            state_of(site, &domain, workspace).map(Some)
        })?;
        state.ok_or_else(|| {
            self.wrong_state("a domain with its UUID is on the host, but was not made by this backend")
                .remedy("look at it with `virsh list --all --uuid --name`, and remove it if it is of no use")
        })
    }

    /// Definition, disks and seed; not started. The definition is there first and goes last: it says whose the files are.
    pub fn stage(&self, args: &MachineArgs) -> Outcome<MachineStatus> {
        let machine = &args.machine;
        check(machine, self.host, self.call)?;
        let was = self.own()?;
        if !matches!(was, Virtual::None | Virtual::Off(_)) {
            return Ok(self.told(&was));
        }
        let staged = self.plan(machine, None).and_then(|plan| self.make(plan));
        if let Err(failure) = staged {
            // Nothing is left of a machine that was not there before. If that fails too, destroy does it later.
            if was == Virtual::None {
                let _reported_by_the_first = self.clear();
            }
            return Err(failure);
        }
        Ok(self.told(&Virtual::Off("")))
    }

    /// Everything that work on the machine needs to know, gathered before it begins.
    pub fn plan(&self, machine: &MachineDoc, saved: Option<Saved>) -> Outcome<Plan> {
        Ok(Plan {
            machine: machine.clone(),
            settings: self.host.settings.clone(),
            seen: probe::seen(self.host, self.call)?,
            saved,
            now: None,
            loader: None,
            seed: self.new_seed(machine)?,
        })
    }

    /// The seed's volume, unless the machine has that very seed.
    fn new_seed(&self, machine: &MachineDoc) -> Outcome<Option<Vec<u8>>> {
        if lock(&self.host.seeds).get(&self.workspace) == Some(&seed_mark(machine)) {
            return Ok(None);
        }
        crate::seed::volume(&machine.seed)
            .map(Some)
            .map_err(|error| errors::system(&error, "cannot make the seed", &self.object()))
    }

    /// Remembers that the machine has this seed now.
    pub fn has_seed(&self, machine: &MachineDoc) {
        lock(&self.host.seeds).insert(self.workspace.clone(), seed_mark(machine));
    }

    /// Definition, then disks and seed.
    fn make(&self, plan: Plan) -> Outcome<()> {
        let machine = plan.machine.clone();
        self.call.progress("make disks", 0, machine.disks.len() as u64);
        self.work("make the machine", move |site, workspace| {
            plan.images(site)?;
            network::prepare(site, &plan.machine)?;
            plan.define(site)?;
            for disk in &plan.machine.disks {
                site.make_disk(workspace, disk)?;
            }
            plan.write_seed(site)
        })?;
        self.has_seed(&machine);
        Ok(())
    }

    /// Removes every file, then the definition.
    pub fn clear(&self) -> Outcome<()> {
        self.leave_networks()?;
        self.run("remove the machine's files", |site, workspace| site.remove_workspace(workspace))?;
        self.undefine()
    }

    /// Takes the machine, as it is defined, out of the DHCP services of its networks.
    pub fn leave_networks(&self) -> Outcome<()> {
        lock(&self.host.seeds).remove(&self.workspace);
        self.work("leave the machine's networks", |site, workspace| {
            let Some(domain) = find(site, workspace)? else { return Ok(()) };
            let Some(defined) = unless_gone(domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE))? else { return Ok(()) };
            let defined = Element::parse(&defined)?;
            let Some(devices) = defined.at(&["devices"]) else { return Ok(()) };
            for nic in devices.all("interface").filter(|nic| nic.attribute("type") == "network") {
                let of = |name: &str, attribute: &str| nic.at(&[name]).map_or("", |element| element.attribute(attribute));
                network::leave_one(site, of("source", "network"), of("mac", "address"))?;
            }
            Ok(())
        })
    }

    /// Removes the definition of a machine that is off.
    fn undefine(&self) -> Outcome<()> {
        self.undefine_here(false)
    }

    /// The same; with `keep` the firmware's variables stay, which another host uses.
    pub fn undefine_here(&self, keep: bool) -> Outcome<()> {
        let flags =
            if keep { UNDEFINE & !sys::VIR_DOMAIN_UNDEFINE_NVRAM | sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM } else { UNDEFINE };
        self.run("remove the definition", move |connection, workspace| {
            let Some(domain) = find(connection, workspace)? else { return Ok(()) };
            unless_gone(domain.undefine_flags(flags)).map(drop)
        })
    }

    /// Starts it under a definition made anew.
    pub fn start(&self, args: &MachineArgs) -> Outcome<MachineStatus> {
        let machine = &args.machine;
        check(machine, self.host, self.call)?;
        match self.own()? {
            Virtual::None | Virtual::Off(_) => {}
            Virtual::Saved => {
                return Err(self.wrong_state("its memory is saved; starting it would throw that away").remedy("restore it"));
            }
            runs => return self.told_with_cpu(&runs),
        }
        let plan = self.plan(machine, None)?;
        let flags = if args.paused { sys::VIR_DOMAIN_START_PAUSED } else { 0 };
        self.work("start the machine", move |site, workspace| {
            plan.kernel(site)?;
            network::prepare(site, &plan.machine)?;
            let domain = plan.define(site)?;
            plan.write_seed(site)?;
            // Of an interrupted restore: from now on its disks change.
            site.remove(&names::memory(workspace))?;
            site.new_log(workspace)?;
            match domain.create_with_flags(flags) {
                Err(error) if error.code().is(ErrorNumber::OperationInvalid) && domain.is_active().unwrap_or(false) => Ok(()),
                Err(error) => Err(plan.why_not(site, error)),
                Ok(_started) => Ok(()),
            }
        })?;
        self.has_seed(machine);
        self.told_with_cpu(if args.paused { &Virtual::Paused("") } else { &Virtual::Running })
    }

    /// Asks the guest to end, waits, then forces it. The answer's reason says which it was.
    pub fn stop(&self, args: &WorkspaceStop) -> Outcome<MachineStatus> {
        self.own()?;
        let end = Instant::now() + Duration::from_millis(args.guest_timeout_ms);
        let mut pressed: Option<Instant> = None;
        let mut forced = false;
        loop {
            match self.state()? {
                Virtual::None | Virtual::Off(_) | Virtual::Saved => break,
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
        let mut state = self.own()?;
        let end = Instant::now() + VANISH;
        let was = state.clone();
        while matches!(state, Virtual::Running | Virtual::Paused(_)) {
            self.unless_off("end the machine", |domain| domain.destroy())?;
            self.call.check().map_err(|failure| failure.about(self.object()))?;
            state = self.state()?;
        }
        loop {
            match self.clear() {
                // "Off" may be said before the tear-down has ended; then the definition is still held.
                Err(failure) if failure.code == codes::STATE && Instant::now() < end => {
                    self.call.check().map_err(|failure| failure.about(self.object()))?;
                    std::thread::sleep(GLANCE);
                }
                other => break other?,
            }
        }
        if was == Virtual::None {
            // Nobody knows what there was: files that libvirt has not read yet are looked for as well.
            self.run("remove the machine's files", |site, workspace| {
                site.refresh()?;
                site.remove_workspace(workspace)
            })?;
        }
        loop {
            match self.state()? {
                Virtual::None => return Ok(self.told(&Virtual::None)),
                _ if Instant::now() >= end => {
                    return Err(self
                        .wrong_state("libvirt does not let go of it")
                        .remedy("see the log of libvirt on the host")
                        .retry(Retry::Later));
                }
                _ => {
                    self.call.check().map_err(|failure| failure.about(self.object()))?;
                    std::thread::sleep(GLANCE);
                }
            }
        }
    }
}

/// What work on a machine needs to know; it is done on another thread.
pub struct Plan {
    /// The machine.
    pub machine: MachineDoc,
    /// Settings of the host.
    pub settings: Settings,
    /// What the probe saw.
    pub seen: Seen,
    /// What its memory was saved with.
    pub saved: Option<Saved>,
    /// How large it is, if its memory says so.
    pub now: Option<Size>,
    /// Its firmware's file, if its memory says so.
    pub loader: Option<String>,
    seed: Option<Vec<u8>>,
}

impl Plan {
    /// What the definition needs to know.
    pub fn frame(&self, site: &Site) -> Frame {
        let machine = &self.machine;
        let of = |name: String| site.path(&name);
        let own_cpu = if !self.settings.cpu.is_empty() {
            self.settings.cpu.clone()
        } else if self.seen.is_kvm() {
            // Its definition stays what it was when the machine is saved; `host-model` is replaced by its parts.
            "host-passthrough".to_owned()
        } else {
            "qemu64".to_owned()
        };
        let kept = |kept: Option<&String>, own: String| kept.filter(|kept| !kept.is_empty()).cloned().unwrap_or(own);
        let kernel = match &machine.boot {
            BootDoc::Kernel { kernel, initrd, .. } => {
                let initrd = if initrd.is_empty() { String::new() } else { of(names::image(initrd)) };
                Some((of(names::image(kernel)), initrd))
            }
            BootDoc::Disk { .. } => None,
        };
        let saved = self.saved.as_ref();
        Frame {
            kind: self.seen.domain_type(),
            arch: self.seen.arch.clone(),
            machine_type: kept(saved.map(|saved| &saved.machine_type), self.settings.machine.clone()),
            cpu: kept(saved.map(|saved| &saved.cpu), own_cpu),
            tb_cache_mib: self.settings.emulation_tb_cache_mib,
            directory: site.folder.clone(),
            kernel,
            disks: machine.disks.iter().map(|disk| of(names::disk(&machine.workspace, &disk.name))).collect(),
            seed: of(names::seed(&machine.workspace)),
            console_log: of(names::console(&machine.workspace)),
            nvram: of(names::nvram(&machine.workspace)),
            loader: self.loader.clone(),
            now: self.now.clone(),
            saved: self.saved.clone(),
        }
    }

    /// Refuses images that are not here, or not what they have to be.
    pub fn images(&self, site: &Site) -> Result<(), Trouble> {
        self.kernel(site)?;
        for disk in &self.machine.disks {
            site.disk_plan(&self.machine.workspace, disk)?;
        }
        Ok(())
    }

    /// Refuses a kernel that is not here.
    pub fn kernel(&self, site: &Site) -> Result<(), Trouble> {
        if let BootDoc::Kernel { kernel, initrd, .. } = &self.machine.boot {
            for digest in [kernel, initrd].into_iter().filter(|digest| !digest.is_empty()) {
                site.checked_image(digest, "raw")?;
            }
        }
        Ok(())
    }

    /// Writes the seed, whatever is there.
    pub fn write_new_seed(&self, site: &Site) -> Result<(), Trouble> {
        let seed = crate::seed::volume(&self.machine.seed).map_err(|error| errors::system(&error, "cannot make the seed", ""))?;
        site.write(&names::seed(&self.machine.workspace), &seed)
    }

    /// Writes the seed, if the machine has not that very one.
    pub fn write_seed(&self, site: &Site) -> Result<(), Trouble> {
        match &self.seed {
            Some(seed) => site.write(&names::seed(&self.machine.workspace), seed),
            None => Ok(()),
        }
    }

    /// Defines the machine anew and compares what libvirt made of it; unless it is defined so already, by us.
    pub fn define(&self, site: &Site) -> Result<Domain, Trouble> {
        let frame = self.frame(site);
        let xml = xml::domain(&self.machine, &frame)?;
        let workspace = &self.machine.workspace;
        if let Some(domain) = find(site, workspace)?
            && site.defined().is(workspace, &xml, &domain)?
        {
            return Ok(domain);
        }
        let shape = self.shape(&frame)?;
        // A definition without autostart: after the host's own restart the machine is off until the daemon says otherwise.
        let domain = site.define_domain_xml_flags(&xml, site.defined().flags(&shape))?;
        let back = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
        if let Err(failure) = readback::compare(&back, &self.machine, &frame) {
            domain.undefine_flags(UNDEFINE)?;
            return Err(failure.detail(back).into());
        }
        site.defined().note(workspace, shape, xml, back);
        Ok(domain)
    }

    /// The definition without what is this machine's alone and was checked.
    fn shape(&self, frame: &Frame) -> Outcome<String> {
        let mut machine = self.machine.clone();
        machine.name.clear();
        machine.nics.iter_mut().for_each(|nic| nic.mac.clear());
        let id = &self.machine.workspace;
        Ok(xml::domain(&machine, frame)?.replace(id, "").replace(&xml::uuid(id), ""))
    }

    /// The failure for a machine that did not start: a file that is missing is named.
    fn why_not(&self, site: &Site, error: Error) -> Trouble {
        let object = errors::workspace(&self.machine.workspace);
        for disk in &self.machine.disks {
            if matches!(site.seek(&names::disk(&self.machine.workspace, &disk.name)), Ok(None)) {
                return Failure::new(codes::NOT_FOUND, format!("its disk `{}` is not on the host", disk.name))
                    .about(object)
                    .remedy("stage it first")
                    .into();
            }
        }
        error.into()
    }
}

/// What tells one seed from another.
fn seed_mark(machine: &MachineDoc) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&machine.seed.meta_data, &machine.seed.user_data, &machine.seed.network_config).hash(&mut hasher);
    hasher.finish()
}

/// Everything that libvirt keeps of a domain goes with its definition.
const UNDEFINE: u32 = sys::VIR_DOMAIN_UNDEFINE_NVRAM
    | sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;

/// Whether a domain carries this backend's mark, with this folder.
fn is_ours(domain: &Domain, directory: &str) -> bool {
    let mark = domain.metadata(sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed(), Some(xml::NAMESPACE), 0);
    mark.ok().and_then(|mark| Element::parse(&mark).ok()).is_some_and(|mark| mark.attribute("directory") == directory)
}

/// Every machine of the daemon's on the host, and what the others use.
pub fn list(host: &Arc<Host>, call: &Call) -> Outcome<HostListing> {
    let (ours, foreign) = host.run(call, "list machines", &host.object(), move |site| {
        let mut ours = Vec::new();
        let mut foreign = Foreign::default();
        for domain in site.list_all_domains(0)? {
            let Some(name) = unless_gone(domain.name())? else { continue };
            if name.starts_with(probe::GUEST_PREFIX) {
                continue;
            }
            let id = name.strip_prefix("vws-").filter(|id| is_workspace(id));
            if let Some(id) = id.filter(|_id| is_ours(&domain, &site.folder)) {
                ours.push(status(id, &state_of(site, &domain, id)?));
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
    let mut workspaces: Vec<_> = ours.into_iter().filter(|status| status.state != MachineState::Absent).collect();
    workspaces.sort_by(|one, other| one.workspace.cmp(&other.workspace));
    workspaces.iter().for_each(|status| host.note(status));
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
    if machine.vcpus_max > u64::from(u16::MAX) || machine.memory_max_mib > 1 << 30 {
        return invalid(format!(
            "a ceiling of {} vCPUs and {} MiB is above {} and {}",
            machine.vcpus_max,
            machine.memory_max_mib,
            u16::MAX,
            1u64 << 30
        ));
    }
    let mut names = BTreeSet::new();
    for disk in &machine.disks {
        let plain = !disk.name.is_empty()
            && disk.name.len() <= 32
            && disk.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !plain || !names.insert(&disk.name) {
            return invalid(format!("disk name `{}` is not a label of its own", disk.name.escape_default()));
        }
        if disk.size_mib > i64::MAX.cast_unsigned() >> 20 {
            return invalid(format!("disk `{}`: {} MiB are more than a disk can have", disk.name, disk.size_mib));
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
        if nic.anti_spoofing {
            needs.insert(capabilities::ANTI_SPOOFING);
            if nic.kind == "user" {
                return invalid("a NIC of kind `user` has no filter: what it sends has the host's address".to_owned());
            }
            let four = |address: &String| address.split('/').next().is_some_and(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok());
            if let Some(other) = nic.addresses.iter().find(|address| !four(address)) {
                return Err(Failure::new(
                    codes::UNSUPPORTED,
                    format!("`{}` is no IPv4 address, and the host's filter knows no other", other.escape_default()),
                )
                .about(object.clone())
                .remedy("leave that address out, or the filter"));
            }
        }
        if nic.dhcp {
            needs.insert(capabilities::DHCP);
            if nic.kind != "network" {
                return invalid(format!("a NIC of kind `{}` has no DHCP service of libvirt's", nic.kind));
            }
        }
        if limited {
            needs.insert(if nic.kind == "user" { capabilities::NIC_LIMITS_USER } else { capabilities::NIC_LIMITS });
        }
    }
    for need in needs {
        match probe::ability(host, need, call)? {
            None => {}
            Some(reason) => {
                return Err(Failure::new(
                    codes::UNSUPPORTED,
                    format!("it needs `{need}`, which {} cannot do: {reason}", host.object()),
                )
                .about(object)
                .remedy("leave that out, or use a host that can"));
            }
        }
    }
    Ok(())
}
