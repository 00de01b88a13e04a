//! A whole site in memory: the backend for trying things out and for tests.
//!
//! Owns: simulated hosts, machines and images; what a host is told to get wrong. Every method of the interface is there.
//! A file `down` in a host's folder cuts its cable: it answers nothing, and what is on its way to or from it is broken off.
//! Must not know: the daemon. A host without the setting `directory` forgets everything with its process, as a host whose disks
//! are wiped by a power cut would; with it, machines run on while nobody looks.

mod machine;
mod moving;
mod settings;
mod store;
mod stream;
mod trouble;

use machine::{Machine, TICK_MS, check_capabilities, needed_images};
use serde_json::Value;
use settings::{CAPABILITIES, FOREIGN_MEMORY_MIB, Settings};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use store::Store;
use stream::{Disk, Memory};
use trouble::Trouble;
use vws_plugin_api::doc::{
    BootDoc, Concurrency, Description, DiskSourceDoc, Exported, ExportedDisk, Failure, Foreign, HostFacts, HostListing, HostOpen,
    HostProbe, HostRef, HostStats, ImageListing, ImageOnHost, ImagePut, ImageRemove, ImagesMissing, ImagesPresent, LogDoc,
    MachineArgs, MachineResize, MachineState, MachineStats, MachineStatus, MigrateArgs, MigratePrepare, MigrationOffer,
    PluginEvent, Resized, Retry, SavedDisk, SnapshotArgs, SnapshotListing, VERSION, WorkspaceExport, WorkspaceForget,
    WorkspaceImport, WorkspaceRef, WorkspaceStop, capabilities as cap, codes, methods,
};
use vws_plugin_api::sdk::{Backend, Call, Emitter, Outcome};

/// What the simulated hypervisor calls itself.
const HYPERVISOR: &str = concat!("sim ", env!("CARGO_PKG_VERSION"));
/// What a guest reads from its disk when it boots, in bytes.
const BOOT_BYTES: u64 = 1024 * 1024;
/// Size of a disk that `save_disk` writes, in bytes.
const SAVED_DISK_BYTES: u64 = 1024 * 1024;

/// The backend.
pub struct Sim {
    emitter: Emitter,
    hosts: RwLock<HashMap<String, Arc<Host>>>,
}

struct Host {
    name: String,
    inner: Mutex<Inner>,
}

struct Inner {
    settings: Settings,
    store: Store,
    trouble: Trouble,
}

impl Host {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn absent(workspace: &str) -> MachineStatus {
    MachineStatus {
        workspace: workspace.to_owned(),
        state: MachineState::Absent,
        reason: String::new(),
        cpu: String::new(),
        plugin_state: Value::Null,
    }
}

fn not_found(workspace: &str) -> Failure {
    Failure::new(codes::NOT_FOUND, "it is not on this host")
        .about(format!("workspace `{workspace}`"))
        .remedy("look where it is, or stage it")
}

fn wrong_state(machine: &Machine, wanted: &str) -> Failure {
    let state = serde_json::to_value(machine.state).ok().and_then(|state| state.as_str().map(str::to_owned)).unwrap_or_default();
    Failure::new(codes::STATE, format!("it is {state}, which does not allow `{wanted}`"))
        .about(format!("workspace `{}`", machine.doc.workspace))
        .remedy("bring it into another state first")
}

/// The descriptor of `index`, as a file.
fn file(call: &mut Call, index: usize, what: &str) -> Outcome<File> {
    match call.fds.get(index) {
        // Each is taken once, in order; a copy would share its position anyway.
        Some(fd) => fd
            .try_clone()
            .map(File::from)
            .map_err(|error| Failure::new(codes::INTERNAL, format!("descriptor of {what}: {error}"))),
        None => Err(Failure::new(codes::INVALID, format!("the call has no descriptor for {what}"))),
    }
}

impl Sim {
    fn host(&self, name: &str) -> Outcome<Arc<Host>> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned().ok_or_else(|| {
            Failure::new(codes::NOT_FOUND, "it is not open").about(format!("host `{name}`")).remedy("call `host.open` first")
        })
    }

    /// The host, after the trouble that it makes for this call.
    fn enter(&self, name: &str, method: &str, call: &Call) -> Outcome<Arc<Host>> {
        let host = self.host(name)?;
        let ordeal = {
            let mut inner = host.lock();
            let Inner { settings, trouble, .. } = &mut *inner;
            trouble.ordeal(settings, name, method)
        };
        ordeal.endure(call)?;
        if host.lock().store.folders().is_some_and(|folders| moving::is_down(&folders.host)) {
            return Err(Failure::new(codes::UNREACHABLE, "its cable is cut, as a file `down` in its folder says")
                .about(format!("host `{name}`"))
                .retry(Retry::Later));
        }
        Ok(host)
    }

    /// Changes a machine that is there, keeps it, tells of it.
    fn change(
        &self,
        host: &str,
        workspace: &str,
        method: &str,
        call: &Call,
        change: impl FnOnce(&Settings, &mut Machine) -> Outcome<bool>,
    ) -> Outcome<MachineStatus> {
        let host = self.enter(host, method, call)?;
        let mut inner = host.lock();
        let mut machine = inner.store.machine(workspace)?.ok_or_else(|| not_found(workspace))?;
        let changed = change(&inner.settings, &mut machine)?;
        let status = machine.status();
        if changed {
            inner.store.put_machine(machine)?;
        }
        let settings = inner.settings.clone();
        drop(inner);
        if changed {
            self.tell(&host.name, &status);
        }
        trouble::after(&settings, &host.name, method);
        Ok(status)
    }

    fn tell(&self, host: &str, status: &MachineStatus) {
        self.emitter.emit(&PluginEvent::Workspace { host: host.to_owned(), status: status.clone() });
    }
}

fn foreign(settings: &Settings) -> Foreign {
    Foreign {
        guests: settings.foreign_guests,
        vcpus: settings.foreign_guests,
        memory_mib: settings.foreign_guests.saturating_mul(FOREIGN_MEMORY_MIB),
    }
}

fn images_there(store: &Store, machine: &vws_plugin_api::doc::MachineDoc) -> Outcome<()> {
    for digest in needed_images(machine) {
        if store.image(digest)?.is_none() {
            return Err(Failure::new(codes::NOT_FOUND, "it is not on this host")
                .about(format!("image {digest}"))
                .remedy("send it with `image.put` first"));
        }
    }
    Ok(())
}

/// Memory goes on only under what it was made under.
fn same_kind(settings: &Settings, exported: &Exported) -> Outcome<()> {
    let had = [
        ("accelerator", &exported.accelerator, std::slice::from_ref(&settings.accelerator)),
        ("CPU model", &exported.cpu, settings.cpus.as_slice()),
        ("machine type", &exported.machine_type, settings.machine_types.as_slice()),
    ];
    match had.into_iter().find(|(_, name, here)| !name.is_empty() && !here.contains(name)) {
        None => Ok(()),
        Some((what, name, _)) => {
            Err(Failure::new(codes::UNSUPPORTED, format!("this host has no {what} `{}`", name.escape_default()))
                .remedy("resume it on a host that has"))
        }
    }
}

fn need(settings: &Settings, capability: &str) -> Outcome<()> {
    match settings.lacks(capability) {
        None => Ok(()),
        Some(reason) => Err(Failure::new(codes::UNSUPPORTED, format!("this host lacks `{capability}`: {reason}"))),
    }
}

impl Backend for Sim {
    fn description() -> Description {
        Description {
            name: "sim".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            licence: "Apache-2.0".to_owned(),
            documents: vec![VERSION],
            concurrency: Concurrency::PerWorkspace,
            methods: [
                methods::DESCRIBE,
                methods::HOST_OPEN,
                methods::HOST_CLOSE,
                methods::HOST_PROBE,
                methods::HOST_LIST,
                methods::IMAGE_PRESENT,
                methods::IMAGE_PUT,
                methods::IMAGE_REMOVE,
                methods::STAGE,
                methods::START,
                methods::STOP,
                methods::REBOOT,
                methods::PAUSE,
                methods::RESUME,
                methods::INSPECT,
                methods::SAVE,
                methods::EXPORT,
                methods::IMPORT,
                methods::RESTORE,
                methods::SAVE_DISK,
                methods::CONSOLE,
                methods::LOG,
                methods::DESTROY,
                methods::HOST_STATS,
                methods::IMAGE_LIST,
                methods::RESIZE,
                methods::SNAPSHOT,
                methods::REVERT,
                methods::SNAPSHOT_REMOVE,
                methods::SNAPSHOTS,
                methods::MIGRATE_PREPARE,
                methods::MIGRATE,
                methods::FORGET,
            ]
            .map(str::to_owned)
            .to_vec(),
            settings_schema: Settings::schema(),
        }
    }

    fn open(config: Value, emitter: Emitter) -> Outcome<Self> {
        match config {
            Value::Null => {}
            Value::Object(members) if members.is_empty() => {}
            _ => {
                return Err(Failure::new(codes::INVALID, "`sim` has no configuration of its own, only settings of its hosts")
                    .remedy("leave the section empty"));
            }
        }
        Ok(Self { emitter, hosts: RwLock::default() })
    }

    fn host_open(&self, args: HostOpen, call: &mut Call) -> Outcome<()> {
        let settings = Settings::read(&args.host, args.settings)?;
        // The trouble of opening is judged by the new settings.
        let mut trouble = Trouble::new(settings.seed);
        trouble.ordeal(&settings, &args.host, methods::HOST_OPEN).endure(call)?;
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        let kept = hosts
            .get(&args.host)
            .filter(|host| {
                let now = host.lock();
                now.settings.directory == settings.directory && now.settings.storage == settings.storage
            })
            .cloned();
        match kept {
            Some(host) => host.lock().settings = settings,
            None => {
                let store = Store::open(settings.directory.as_deref(), &args.host, settings.storage.as_deref())?;
                let inner = Mutex::new(Inner { settings, store, trouble });
                hosts.insert(args.host.clone(), Arc::new(Host { name: args.host.clone(), inner }));
            }
        }
        drop(hosts);
        self.emitter.emit(&PluginEvent::Host { host: args.host, up: true, reason: String::new() });
        Ok(())
    }

    fn host_close(&self, args: HostRef, _call: &mut Call) -> Outcome<()> {
        self.host(&args.host)?;
        self.hosts.write().unwrap_or_else(PoisonError::into_inner).remove(&args.host);
        Ok(())
    }

    fn host_probe(&self, args: HostProbe, call: &mut Call) -> Outcome<HostFacts> {
        let host = self.enter(&args.host, methods::HOST_PROBE, call)?;
        let inner = host.lock();
        let settings = &inner.settings;
        Ok(HostFacts {
            hypervisor: HYPERVISOR.to_owned(),
            accelerator: settings.accelerator.clone(),
            accelerator_reason: "there is no guest".to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            vcpus: settings.vcpus,
            memory_mib: settings.memory_mib,
            disk_gib: settings.disk_gib,
            capabilities: CAPABILITIES
                .into_iter()
                .map(|name| (name.to_owned(), settings.lacks(name).unwrap_or_default().to_owned()))
                .chain(settings.named().map(|name| (name, String::new())))
                .collect(),
            foreign: foreign(settings),
            storage_id: settings.storage.clone().unwrap_or_default(),
        })
    }

    fn host_list(&self, args: HostRef, call: &mut Call) -> Outcome<HostListing> {
        let host = self.enter(&args.host, methods::HOST_LIST, call)?;
        let inner = host.lock();
        let mut workspaces: Vec<_> = inner.store.machines()?.iter().map(Machine::status).collect();
        if let Some(folders) = inner.store.folders() {
            workspaces.extend(moving::coming(&folders.host)?);
        }
        Ok(HostListing { workspaces, foreign: foreign(&inner.settings) })
    }

    fn image_present(&self, args: ImagesPresent, call: &mut Call) -> Outcome<ImagesMissing> {
        let host = self.enter(&args.host, methods::IMAGE_PRESENT, call)?;
        let inner = host.lock();
        let mut missing = Vec::new();
        for digest in args.digests {
            if inner.store.image(&digest)?.is_none() {
                missing.push(digest);
            }
        }
        Ok(ImagesMissing { missing })
    }

    fn image_put(&self, args: ImagePut, call: &mut Call) -> Outcome<()> {
        let host = self.enter(&args.host, methods::IMAGE_PUT, call)?;
        let mut image = file(call, 0, "the image")?;
        let mut buffer = vec![0; 256 * 1024];
        let mut total = 0_u64;
        loop {
            call.check()?;
            let count = image
                .read(&mut buffer)
                .map_err(|error| Failure::new(codes::HYPERVISOR, format!("cannot read the image: {error}")))?;
            if count == 0 {
                break;
            }
            total += count as u64;
            call.progress("image", total, args.size_bytes);
        }
        if total != args.size_bytes {
            return Err(Failure::new(codes::DAMAGED, format!("it has {total} bytes, {} were announced", args.size_bytes))
                .about(format!("image {}", args.digest))
                .remedy("verify the image"));
        }
        let mut inner = host.lock();
        inner.store.put_image(&args.digest, total)?;
        trouble::after(&inner.settings, &args.host, methods::IMAGE_PUT);
        Ok(())
    }

    fn image_remove(&self, args: ImageRemove, call: &mut Call) -> Outcome<()> {
        let host = self.enter(&args.host, methods::IMAGE_REMOVE, call)?;
        let mut inner = host.lock();
        for machine in inner.store.machines()? {
            if needed_images(&machine.doc).contains(&args.digest.as_str()) {
                return Err(Failure::new(codes::STATE, format!("workspace `{}` uses it", machine.doc.workspace))
                    .about(format!("image {}", args.digest))
                    .remedy("destroy the workspace first"));
            }
        }
        inner.store.remove_image(&args.digest)
    }

    fn stage(&self, args: MachineArgs, call: &mut Call) -> Outcome<MachineStatus> {
        let host = self.enter(&args.host, methods::STAGE, call)?;
        let mut inner = host.lock();
        check_capabilities(&inner.settings, &args.machine)?;
        images_there(&inner.store, &args.machine)?;
        let status = match inner.store.machine(&args.machine.workspace)? {
            Some(mut machine) => {
                if machine.state == MachineState::Stopped {
                    machine.doc = args.machine;
                    inner.store.put_machine(machine.clone())?;
                }
                machine.status()
            }
            None => {
                inner.store.make_disks(&args.machine.workspace)?;
                let machine = Machine::staged(args.machine);
                let status = machine.status();
                inner.store.put_machine(machine)?;
                status
            }
        };
        trouble::after(&inner.settings, &args.host, methods::STAGE);
        Ok(status)
    }

    fn start(&self, args: MachineArgs, call: &mut Call) -> Outcome<MachineStatus> {
        let wanted = if args.paused { MachineState::Paused } else { MachineState::Running };
        self.change(&args.host, &args.machine.workspace, methods::START, call, |settings, machine| match machine.state {
            MachineState::Stopped => {
                check_capabilities(settings, &args.machine)?;
                machine.doc = args.machine.clone();
                machine.cpu = settings.cpus.first().cloned().unwrap_or_default();
                machine.boot(wanted, "booted");
                Ok(true)
            }
            state if state == wanted => Ok(false),
            _ => Err(wrong_state(machine, methods::START)),
        })
    }

    fn stop(&self, args: WorkspaceStop, call: &mut Call) -> Outcome<MachineStatus> {
        let deaf = self.host(&args.host)?.lock().settings.deaf_guests;
        let host = self.enter(&args.host, methods::STOP, call)?;
        let state = host.lock().store.machine(&args.workspace)?.ok_or_else(|| not_found(&args.workspace))?.state;
        let mut reason = "forced";
        if args.guest_timeout_ms > 0 && state == MachineState::Running {
            if deaf {
                trouble::wait(call, Duration::from_millis(args.guest_timeout_ms))?;
            } else {
                reason = "shutdown";
            }
        }
        let mut inner = host.lock();
        let mut machine = inner.store.machine(&args.workspace)?.ok_or_else(|| not_found(&args.workspace))?;
        match machine.state {
            // A repeat tells how it went off the first time.
            MachineState::Stopped => return Ok(machine.status()),
            MachineState::Running | MachineState::Paused => machine.off(reason),
            MachineState::Saved | MachineState::Absent => return Err(wrong_state(&machine, methods::STOP)),
        }
        let status = machine.status();
        inner.store.put_machine(machine)?;
        let settings = inner.settings.clone();
        drop(inner);
        self.tell(&args.host, &status);
        trouble::after(&settings, &args.host, methods::STOP);
        Ok(status)
    }

    fn reboot(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.workspace, methods::REBOOT, call, |_, machine| match machine.state {
            MachineState::Running => {
                machine.boot(MachineState::Running, "rebooted");
                Ok(true)
            }
            _ => Err(wrong_state(machine, methods::REBOOT)),
        })
    }

    fn pause(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.workspace, methods::PAUSE, call, |settings, machine| {
            need(settings, cap::PAUSE)?;
            match machine.state {
                MachineState::Running => {
                    machine.become_state(MachineState::Paused, "paused");
                    Ok(true)
                }
                MachineState::Paused => Ok(false),
                _ => Err(wrong_state(machine, methods::PAUSE)),
            }
        })
    }

    fn resume(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.workspace, methods::RESUME, call, |_, machine| match machine.state {
            MachineState::Paused => {
                machine.become_state(MachineState::Running, "resumed");
                Ok(true)
            }
            MachineState::Running => Ok(false),
            _ => Err(wrong_state(machine, methods::RESUME)),
        })
    }

    fn inspect(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        let host = self.enter(&args.host, methods::INSPECT, call)?;
        let inner = host.lock();
        // What comes may have arrived: it is looked at first.
        let comes = match inner.store.folders() {
            Some(folders) => moving::comes(&folders.host, &args.workspace)?,
            None => None,
        };
        let machine = inner.store.machine(&args.workspace)?;
        Ok(machine.map(|machine| machine.status()).or(comes).unwrap_or_else(|| absent(&args.workspace)))
    }

    fn save(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.workspace, methods::SAVE, call, |settings, machine| {
            need(settings, cap::SERIALIZE)?;
            match machine.state {
                MachineState::Running | MachineState::Paused => {
                    let reason = if machine.state == MachineState::Paused { "saved-paused" } else { "saved" };
                    machine.become_state(MachineState::Saved, reason);
                    Ok(true)
                }
                MachineState::Saved => Ok(false),
                _ => Err(wrong_state(machine, methods::SAVE)),
            }
        })
    }

    fn export(&self, args: WorkspaceExport, call: &mut Call) -> Outcome<Exported> {
        let host = self.enter(&args.host, methods::EXPORT, call)?;
        let (machine, settings) = {
            let inner = host.lock();
            (inner.store.machine(&args.workspace)?.ok_or_else(|| not_found(&args.workspace))?, inner.settings.clone())
        };
        if machine.state != MachineState::Saved {
            return Err(wrong_state(&machine, methods::EXPORT));
        }
        let mut disks = Vec::new();
        for (index, name) in args.streams.iter().enumerate() {
            call.check()?;
            let mut out = file(call, index, name)?;
            if name == "memory" {
                let memory = Memory {
                    workspace: args.workspace.clone(),
                    count: machine.count,
                    boots: machine.boots,
                    memory_mib: machine.doc.memory_mib,
                    boot_log: machine.boot_log.clone(),
                };
                stream::write(&mut out, name, &memory)?;
            } else if name == "nvram" && matches!(&machine.doc.boot, BootDoc::Disk { firmware } if firmware == "uefi") {
                let variables = Disk { workspace: args.workspace.clone(), name: name.clone(), backing_digest: String::new() };
                stream::write(&mut out, name, &variables)?;
            } else {
                let disk = machine.doc.disks.iter().find(|disk| disk.name == *name).ok_or_else(|| {
                    Failure::new(codes::INVALID, format!("it has no stream `{}`", name.escape_default()))
                        .about(format!("workspace `{}`", args.workspace))
                })?;
                let (backing_digest, backing_format) = match &disk.source {
                    DiskSourceDoc::Image { digest, format } => (digest.clone(), format.clone()),
                    DiskSourceDoc::Empty => (String::new(), String::new()),
                };
                let content =
                    Disk { workspace: args.workspace.clone(), name: name.clone(), backing_digest: backing_digest.clone() };
                stream::write(&mut out, name, &content)?;
                disks.push(ExportedDisk { name: name.clone(), format: "raw".to_owned(), backing_digest, backing_format });
            }
            call.progress("export", index as u64 + 1, args.streams.len() as u64);
        }
        trouble::after(&settings, &args.host, methods::EXPORT);
        Ok(Exported {
            hypervisor: HYPERVISOR.to_owned(),
            accelerator: settings.accelerator.clone(),
            machine_type: settings.machine_types.first().cloned().unwrap_or_default(),
            cpu: machine.cpu.clone(),
            emulator: HYPERVISOR.to_owned(),
            paused: machine.reason == "saved-paused",
            disks,
        })
    }

    fn import(&self, args: WorkspaceImport, call: &mut Call) -> Outcome<MachineStatus> {
        let host = self.enter(&args.host, methods::IMPORT, call)?;
        {
            let inner = host.lock();
            need(&inner.settings, cap::SERIALIZE)?;
            check_capabilities(&inner.settings, &args.machine)?;
            same_kind(&inner.settings, &args.exported)?;
            images_there(&inner.store, &args.machine)?;
            if let Some(machine) = inner.store.machine(&args.machine.workspace)?
                && machine.state != MachineState::Saved
            {
                return Err(wrong_state(&machine, methods::IMPORT));
            }
        }
        if !args.exported.hypervisor.starts_with("sim ") {
            return Err(Failure::new(
                codes::UNSUPPORTED,
                format!("the bundle was written by `{}`", args.exported.hypervisor.escape_default()),
            )
            .remedy("resume it with the backend that wrote it"));
        }
        let foreign_stream = |name: &str, whose: &str| {
            Failure::new(codes::DAMAGED, format!("it belongs to workspace `{}`", whose.escape_default()))
                .about(format!("stream `{name}`"))
        };
        let mut memory = None;
        for (index, name) in args.streams.iter().enumerate() {
            call.check()?;
            let mut input = file(call, index, name)?;
            if name == "memory" {
                let read: Memory = stream::read(&mut input, name)?;
                if read.workspace != args.machine.workspace {
                    return Err(foreign_stream(name, &read.workspace));
                }
                memory = Some(read);
            } else {
                let read: Disk = stream::read(&mut input, name)?;
                if read.workspace != args.machine.workspace || read.name != *name {
                    return Err(foreign_stream(name, &read.workspace));
                }
            }
            call.progress("import", index as u64 + 1, args.streams.len() as u64);
        }
        let memory = memory.ok_or_else(|| Failure::new(codes::DAMAGED, "the bundle has no stream `memory`"))?;
        let mut machine = Machine::staged(args.machine);
        machine.become_state(MachineState::Saved, if args.exported.paused { "saved-paused" } else { "saved" });
        machine.count = memory.count;
        machine.boots = memory.boots;
        machine.boot_log = memory.boot_log;
        machine.cpu = args.exported.cpu;
        let status = machine.status();
        let mut inner = host.lock();
        inner.store.make_disks(&status.workspace)?;
        inner.store.put_machine(machine)?;
        trouble::after(&inner.settings, &args.host, methods::IMPORT);
        Ok(status)
    }

    fn restore(&self, args: MachineArgs, call: &mut Call) -> Outcome<MachineStatus> {
        let wanted = if args.paused { MachineState::Paused } else { MachineState::Running };
        self.change(&args.host, &args.machine.workspace, methods::RESTORE, call, |settings, machine| match machine.state {
            MachineState::Saved => {
                check_capabilities(settings, &args.machine)?;
                machine.doc = args.machine.clone();
                machine.become_state(wanted, "restored");
                Ok(true)
            }
            state if state == wanted => Ok(false),
            _ => Err(wrong_state(machine, methods::RESTORE)),
        })
    }

    fn save_disk(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<SavedDisk> {
        let host = self.enter(&args.host, methods::SAVE_DISK, call)?;
        let machine = host.lock().store.machine(&args.workspace)?.ok_or_else(|| not_found(&args.workspace))?;
        if machine.state != MachineState::Stopped {
            return Err(wrong_state(&machine, methods::SAVE_DISK));
        }
        if machine.doc.disks.is_empty() {
            return Err(Failure::new(codes::STATE, "it has no disk").about(format!("workspace `{}`", args.workspace)));
        }
        // A boot sector with its signature: a raw image as small as one gets.
        let mut sector = format!("vws-sim disk-0 of {}", args.workspace).into_bytes();
        sector.resize(510, 0);
        sector.extend([0x55, 0xaa]);
        let mut out = file(call, 0, "the disk")?;
        out.write_all(&sector)
            .and_then(|()| out.set_len(SAVED_DISK_BYTES))
            .map_err(|error| Failure::new(codes::HYPERVISOR, format!("cannot write the disk: {error}")))?;
        call.progress("disk", SAVED_DISK_BYTES, SAVED_DISK_BYTES);
        Ok(SavedDisk { format: "raw".to_owned(), virtual_size_mib: SAVED_DISK_BYTES / (1024 * 1024) })
    }

    fn console(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<()> {
        let host = self.enter(&args.host, methods::CONSOLE, call)?;
        let machine = {
            let inner = host.lock();
            need(&inner.settings, cap::CONSOLE)?;
            inner.store.machine(&args.workspace)?.ok_or_else(|| not_found(&args.workspace))?
        };
        if !matches!(machine.state, MachineState::Running | MachineState::Paused) {
            return Err(wrong_state(&machine, methods::CONSOLE));
        }
        let no_console = |error: std::io::Error| Failure::new(codes::INTERNAL, format!("no console: {error}"));
        let (ours, theirs) = UnixStream::pair().map_err(no_console)?;
        std::thread::Builder::new()
            .name("console".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || console(&host, &args.workspace, &machine, ours))
            .map_err(no_console)?;
        call.reply_fds.push(OwnedFd::from(theirs));
        Ok(())
    }

    fn log(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<LogDoc> {
        let host = self.enter(&args.host, methods::LOG, call)?;
        let machine = host.lock().store.machine(&args.workspace)?.ok_or_else(|| not_found(&args.workspace))?;
        Ok(LogDoc { text: machine.log(), omitted_bytes: 0 })
    }

    fn destroy(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        let host = self.enter(&args.host, methods::DESTROY, call)?;
        let mut inner = host.lock();
        if let Some(folders) = inner.store.folders() {
            moving::break_off(&folders.host, &args.workspace)?;
            moving::forget(&folders.host, &args.workspace)?;
        }
        inner.store.remove_machine(&args.workspace)?;
        inner.store.remove_disks(&args.workspace)?;
        let settings = inner.settings.clone();
        drop(inner);
        let status = absent(&args.workspace);
        self.tell(&args.host, &status);
        trouble::after(&settings, &args.host, methods::DESTROY);
        Ok(status)
    }

    fn host_stats(&self, args: HostRef, call: &mut Call) -> Outcome<HostStats> {
        let host = self.enter(&args.host, methods::HOST_STATS, call)?;
        let machines = host.lock().store.machines()?;
        let workspaces = machines
            .iter()
            .filter(|machine| matches!(machine.state, MachineState::Running | MachineState::Paused))
            .map(|machine| {
                // A guest works for a hundredth of each of its counts, writes it down and sends it.
                let count = machine.counted();
                MachineStats {
                    workspace: machine.doc.workspace.clone(),
                    cpu_time_ns: Some(count.saturating_mul(TICK_MS * 10_000)),
                    memory_mib: Some(machine.doc.memory_mib),
                    resident_mib: Some(machine.doc.memory_mib / 2),
                    disk_read_bytes: Some(BOOT_BYTES),
                    disk_written_bytes: Some(count.saturating_mul(512)),
                    net_received_bytes: None,
                    net_sent_bytes: Some(count.saturating_mul(64)),
                }
            })
            .collect();
        Ok(HostStats { workspaces })
    }

    fn image_list(&self, args: HostRef, call: &mut Call) -> Outcome<ImageListing> {
        let host = self.enter(&args.host, methods::IMAGE_LIST, call)?;
        let images = host.lock().store.images()?;
        Ok(ImageListing { images: images.into_iter().map(|(digest, size_bytes)| ImageOnHost { digest, size_bytes }).collect() })
    }

    fn resize(&self, args: MachineResize, call: &mut Call) -> Outcome<Resized> {
        let wanted = args.machine.clone();
        let status = self.change(&args.host, &args.machine.workspace, methods::RESIZE, call, |settings, machine| {
            check_capabilities(settings, &wanted)?;
            let now = &machine.doc;
            let smaller = now.disks.iter().zip(&wanted.disks).any(|(now, wanted)| wanted.size_mib < now.size_mib);
            if smaller {
                return Err(Failure::new(codes::INVALID, "a disk is not made smaller")
                    .about(format!("workspace `{}`", now.workspace))
                    .remedy("ask for at least the size that it has"));
            }
            if matches!(machine.state, MachineState::Running | MachineState::Paused) {
                let top = |max: u64, now: u64| max.max(now);
                if wanted.memory_mib > top(now.memory_max_mib, now.memory_mib) || wanted.vcpus > top(now.vcpus_max, now.vcpus) {
                    return Err(Failure::new(codes::STATE, "it is above the ceiling that the machine was started with")
                        .about(format!("workspace `{}`", now.workspace))
                        .remedy("stop it first"));
                }
                for (changes, capability) in [
                    (wanted.memory_mib != now.memory_mib, cap::RESIZE_MEMORY),
                    (wanted.vcpus > now.vcpus, cap::RESIZE_VCPUS),
                    (wanted.vcpus < now.vcpus, cap::SHRINK_VCPUS),
                ] {
                    if changes {
                        need(settings, capability)?;
                    }
                }
            }
            machine.doc = wanted;
            Ok(true)
        })?;
        Ok(Resized { status, after_restart: Vec::new() })
    }

    fn snapshot(&self, args: SnapshotArgs, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.machine.workspace, methods::SNAPSHOT, call, |settings, machine| {
            need(settings, if args.memory { cap::SNAPSHOT_MEMORY } else { cap::SNAPSHOT })?;
            match machine.state {
                MachineState::Running | MachineState::Paused => Ok(machine.keep(&args.name, args.memory)),
                MachineState::Stopped if !args.memory => Ok(machine.keep(&args.name, false)),
                _ => Err(wrong_state(machine, methods::SNAPSHOT)),
            }
        })
    }

    fn revert(&self, args: SnapshotArgs, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.machine.workspace, methods::REVERT, call, |_, machine| {
            let kept = machine.snapshots.iter().find(|kept| kept.name == args.name).cloned().ok_or_else(|| {
                Failure::new(codes::NOT_FOUND, "there is none of this name")
                    .about(format!("snapshot `{}` of workspace `{}`", args.name.escape_default(), args.machine.workspace))
                    .remedy("`workspace.snapshots` lists them")
            })?;
            machine.revert(&kept);
            Ok(true)
        })
    }

    fn snapshot_remove(&self, args: SnapshotArgs, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.machine.workspace, methods::SNAPSHOT_REMOVE, call, |_, machine| {
            let before = machine.snapshots.len();
            machine.snapshots.retain(|kept| kept.name != args.name);
            Ok(machine.snapshots.len() != before)
        })
    }

    fn snapshots(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<SnapshotListing> {
        let host = self.enter(&args.host, methods::SNAPSHOTS, call)?;
        let machine = host.lock().store.machine(&args.workspace)?.ok_or_else(|| not_found(&args.workspace))?;
        Ok(SnapshotListing { names: machine.snapshots.into_iter().map(|kept| kept.name).collect() })
    }

    fn migrate_prepare(&self, args: MigratePrepare, call: &mut Call) -> Outcome<MigrationOffer> {
        let host = self.enter(&args.host, methods::MIGRATE_PREPARE, call)?;
        let inner = host.lock();
        need(&inner.settings, cap::MIGRATE)?;
        check_capabilities(&inner.settings, &args.machine)?;
        images_there(&inner.store, &args.machine)?;
        if let Some(machine) = inner.store.machine(&args.machine.workspace)? {
            return Err(wrong_state(&machine, methods::MIGRATE_PREPARE));
        }
        let shared = inner.settings.storage.as_ref().is_some_and(|storage| *storage == args.source_storage_id);
        if !shared {
            inner.store.make_disks(&args.machine.workspace)?;
        }
        let folders = inner.store.folders().ok_or_else(|| Failure::unsupported(methods::MIGRATE_PREPARE))?;
        moving::prepare(&folders.host, &args.machine.workspace)?;
        let offer = serde_json::json!({ "folder": folders.host });
        trouble::after(&inner.settings, &args.host, methods::MIGRATE_PREPARE);
        Ok(MigrationOffer { shared, offer })
    }

    fn migrate(&self, args: MigrateArgs, call: &mut Call) -> Outcome<MachineStatus> {
        let host = self.enter(&args.host, methods::MIGRATE, call)?;
        let (settings, from) = {
            let inner = host.lock();
            need(&inner.settings, cap::MIGRATE)?;
            let folders = inner.store.folders().ok_or_else(|| Failure::unsupported(methods::MIGRATE))?;
            (inner.settings.clone(), folders.host.clone())
        };
        let to = args.offer.offer.get("folder").and_then(Value::as_str).map(std::path::PathBuf::from);
        let to = to.ok_or_else(|| Failure::new(codes::INVALID, "the offer is none of `sim`'s"))?;
        moving::run(&from, &to, &args, settings.migrate_mib_per_second, call)?;
        let status = absent(&args.machine.workspace);
        self.tell(&args.host, &status);
        trouble::after(&settings, &args.host, methods::MIGRATE);
        Ok(status)
    }

    fn forget(&self, args: WorkspaceForget, call: &mut Call) -> Outcome<MachineStatus> {
        let host = self.enter(&args.host, methods::FORGET, call)?;
        let mut inner = host.lock();
        if let Some(folders) = inner.store.folders() {
            if moving::comes(&folders.host, &args.workspace)?.is_some_and(|status| status.state == MachineState::Paused) {
                return Err(Failure::new(codes::STATE, "it is on its way to this host")
                    .about(format!("workspace `{}`", args.workspace))
                    .retry(Retry::Later));
            }
            moving::forget(&folders.host, &args.workspace)?;
        }
        if let Some(machine) = inner.store.machine(&args.workspace)?
            && matches!(machine.state, MachineState::Running | MachineState::Paused)
        {
            return Err(wrong_state(&machine, methods::FORGET));
        }
        inner.store.remove_machine(&args.workspace)?;
        if !args.keep_disks {
            inner.store.remove_disks(&args.workspace)?;
        }
        let settings = inner.settings.clone();
        drop(inner);
        trouble::after(&settings, &args.host, methods::FORGET);
        Ok(absent(&args.workspace))
    }
}

/// A guest's console: what was printed at the boot, then each count, and what is typed comes back. Ends with the machine, or when
/// the other side closes it.
fn console(host: &Host, workspace: &str, machine: &Machine, mut line: UnixStream) {
    let mut typed = [0; 4096];
    let mut shown = machine.counted();
    if line.set_read_timeout(Some(Duration::from_millis(TICK_MS / 2))).is_err()
        || line.write_all(machine.boot_log.as_bytes()).is_err()
    {
        return;
    }
    loop {
        match line.read(&mut typed) {
            Ok(0) => return,
            Ok(count) => {
                if line.write_all(typed.get(..count).unwrap_or_default()).is_err() {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        let now = host.lock().store.machine(workspace).ok().flatten();
        match now {
            Some(now) if matches!(now.state, MachineState::Running | MachineState::Paused) => {
                let counted = now.counted();
                if counted < shown {
                    // It was booted anew.
                    shown = 0;
                    if line.write_all(now.boot_log.as_bytes()).is_err() {
                        return;
                    }
                }
                if counted > shown && line.write_all(format!("TICK {counted}\n").as_bytes()).is_err() {
                    return;
                }
                shown = counted;
            }
            _ => return,
        }
    }
}

vws_plugin_api::export_backend!(Sim);
