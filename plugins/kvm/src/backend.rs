//! The backend trait's one implementation: finds the host, marks the machine as busy, and calls what does the work.
//!
//! Owns: the table of open hosts. Must not know: libvirt.

use crate::host::{Host, lock};
use crate::machine::{self, Machine};
use crate::{console, probe, settings, stats};
use serde_json::Value;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use vws_plugin_api::doc::{
    Concurrency, Description, Exported, Failure, HostFacts, HostListing, HostOpen, HostProbe, HostRef, HostStats, ImageListing,
    ImagePut, ImageRemove, ImagesMissing, ImagesPresent, LogDoc, MachineArgs, MachineResize, MachineStatus, MigrateArgs,
    MigratePrepare, MigrationOffer, Resized, SavedDisk, SnapshotArgs, SnapshotListing, VERSION, WorkspaceExport, WorkspaceForget,
    WorkspaceImport, WorkspaceRef, WorkspaceStop, codes, methods,
};
use vws_plugin_api::sdk::{Backend, Call, Emitter, Outcome};

/// The KVM backend.
pub struct Kvm {
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    emitter: Emitter,
}

impl Kvm {
    fn host(&self, name: &str) -> Outcome<Arc<Host>> {
        lock(&self.hosts).get(name).cloned().ok_or_else(|| {
            Failure::new(codes::NOT_FOUND, "it is not open in this backend")
                .about(format!("host `{}`", name.escape_default()))
                .remedy("open it with `host.open`")
        })
    }

    /// Runs `work` on a machine, whose changes are the daemon's own meanwhile.
    fn change<T>(&self, host: &str, workspace: &str, call: &Call, work: impl FnOnce(&Machine<'_>) -> Outcome<T>) -> Outcome<T> {
        let host = self.host(host)?;
        let machine = Machine::new(&host, workspace, call)?;
        let _busy = host.busy(workspace);
        work(&machine)
    }
}

fn one_descriptor(fds: Vec<OwnedFd>, what: &str) -> Outcome<OwnedFd> {
    let count = fds.len();
    match <[OwnedFd; 1]>::try_from(fds) {
        Ok([fd]) => Ok(fd),
        Err(_other) => Err(Failure::new(codes::INVALID, format!("`{what}` needs one descriptor, {count} came"))),
    }
}

impl Backend for Kvm {
    fn description() -> Description {
        Description {
            name: "kvm".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            licence: "Apache-2.0 AND LGPL-2.1-or-later".to_owned(),
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
                methods::IMAGE_LIST,
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
                methods::RESIZE,
                methods::MIGRATE_PREPARE,
                methods::MIGRATE,
                methods::FORGET,
                methods::SNAPSHOT,
                methods::REVERT,
                methods::SNAPSHOT_REMOVE,
                methods::SNAPSHOTS,
            ]
            .map(str::to_owned)
            .to_vec(),
            settings_schema: settings::schema(),
        }
    }

    fn open(_config: Value, emitter: Emitter) -> Outcome<Self> {
        Ok(Self { hosts: Mutex::new(HashMap::new()), emitter })
    }

    /// A host that does not answer now stays open: it is connected as soon as it does, and a `host` event says so.
    fn host_open(&self, args: HostOpen, call: &mut Call) -> Outcome<()> {
        let settings = settings::read(args.settings)?;
        let host = Host::open(args.host.clone(), settings, self.emitter.clone())?;
        if let Some(before) = lock(&self.hosts).insert(args.host, Arc::clone(&host)) {
            before.close();
        }
        host.wait_for_link(call)
    }

    fn host_close(&self, args: HostRef, _call: &mut Call) -> Outcome<()> {
        if let Some(host) = lock(&self.hosts).remove(&args.host) {
            host.close();
        }
        Ok(())
    }

    fn host_probe(&self, args: HostProbe, call: &mut Call) -> Outcome<HostFacts> {
        probe::facts(&self.host(&args.host)?, args.fresh, call)
    }

    fn host_list(&self, args: HostRef, call: &mut Call) -> Outcome<HostListing> {
        machine::list(&self.host(&args.host)?, call)
    }

    fn image_present(&self, args: ImagesPresent, call: &mut Call) -> Outcome<ImagesMissing> {
        let host = self.host(&args.host)?;
        let missing = host.work(call, "look for images", &host.object(), |site, _gauge| site.missing_images(args.digests))?;
        Ok(ImagesMissing { missing })
    }

    fn image_put(&self, args: ImagePut, call: &mut Call) -> Outcome<()> {
        let from = one_descriptor(std::mem::take(&mut call.fds), methods::IMAGE_PUT)?;
        let object = format!("image `{}`", args.digest.escape_default());
        self.host(&args.host)?.pump(call, "copy the image to the host", args.size_bytes, &object, move |site, gauge| {
            site.put_image(&args.digest, args.size_bytes, from, gauge)
        })
    }

    fn image_remove(&self, args: ImageRemove, call: &mut Call) -> Outcome<()> {
        let object = format!("image `{}`", args.digest.escape_default());
        let host = self.host(&args.host)?;
        host.work(call, "remove the image", &object, move |site, _gauge| site.remove_image(&args.digest))
    }

    fn image_list(&self, args: HostRef, call: &mut Call) -> Outcome<ImageListing> {
        let host = self.host(&args.host)?;
        Ok(ImageListing { images: host.run(call, "list images", &host.object(), |site| site.images())? })
    }

    fn stage(&self, args: MachineArgs, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.machine.workspace, call, |machine| machine.stage(&args))
    }

    fn start(&self, args: MachineArgs, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.machine.workspace, call, |machine| machine.start(&args))
    }

    fn stop(&self, args: WorkspaceStop, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.workspace, call, |machine| machine.stop(&args))
    }

    fn reboot(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.workspace, call, |machine| machine.reboot())
    }

    fn pause(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.workspace, call, |machine| machine.pause())
    }

    fn resume(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.workspace, call, |machine| machine.resume())
    }

    fn inspect(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        Machine::new(&self.host(&args.host)?, &args.workspace, call)?.inspect()
    }

    fn save(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.workspace, call, |machine| machine.save())
    }

    fn export(&self, args: WorkspaceExport, call: &mut Call) -> Outcome<Exported> {
        let fds = std::mem::take(&mut call.fds);
        self.change(&args.host, &args.workspace, call, |machine| machine.export(&args, fds))
    }

    fn import(&self, args: WorkspaceImport, call: &mut Call) -> Outcome<MachineStatus> {
        let fds = std::mem::take(&mut call.fds);
        self.change(&args.host, &args.machine.workspace, call, |machine| machine.import(&args, fds))
    }

    fn restore(&self, args: MachineArgs, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.machine.workspace, call, |machine| machine.restore(&args))
    }

    fn save_disk(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<SavedDisk> {
        let to = one_descriptor(std::mem::take(&mut call.fds), methods::SAVE_DISK)?;
        self.change(&args.host, &args.workspace, call, |machine| machine.save_disk(to))
    }

    fn console(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<()> {
        let fd = console::open(&Machine::new(&self.host(&args.host)?, &args.workspace, call)?)?;
        call.reply_fds.push(fd);
        Ok(())
    }

    fn log(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<LogDoc> {
        let host = self.host(&args.host)?;
        let machine = Machine::new(&host, &args.workspace, call)?;
        let keep_bytes = host.settings.console_log_kib << 10;
        machine.run("read the console's log", move |site, workspace| site.log(workspace, keep_bytes))
    }

    fn destroy(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.workspace, call, |machine| machine.destroy())
    }

    fn host_stats(&self, args: HostRef, call: &mut Call) -> Outcome<HostStats> {
        stats::of(&self.host(&args.host)?, call)
    }

    fn resize(&self, args: MachineResize, call: &mut Call) -> Outcome<Resized> {
        self.change(&args.host, &args.machine.workspace, call, |machine| machine.resize(&args))
    }

    fn migrate_prepare(&self, args: MigratePrepare, call: &mut Call) -> Outcome<MigrationOffer> {
        self.change(&args.host, &args.machine.workspace, call, |machine| machine.migrate_prepare(&args))
    }

    fn migrate(&self, args: MigrateArgs, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.machine.workspace, call, |machine| machine.migrate(&args))
    }

    fn forget(&self, args: WorkspaceForget, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.workspace, call, |machine| machine.forget(&args))
    }

    fn snapshot(&self, args: SnapshotArgs, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.machine.workspace, call, |machine| machine.snapshot(&args))
    }

    fn revert(&self, args: SnapshotArgs, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.machine.workspace, call, |machine| machine.revert(&args))
    }

    fn snapshot_remove(&self, args: SnapshotArgs, call: &mut Call) -> Outcome<MachineStatus> {
        self.change(&args.host, &args.machine.workspace, call, |machine| machine.snapshot_remove(&args))
    }

    fn snapshots(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<SnapshotListing> {
        Machine::new(&self.host(&args.host)?, &args.workspace, call)?.snapshots()
    }
}

impl Drop for Kvm {
    fn drop(&mut self) {
        for host in lock(&self.hosts).values() {
            host.close();
        }
    }
}
