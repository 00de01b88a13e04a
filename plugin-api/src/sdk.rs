//! The Rust SDK: implement [`Backend`], write `vws_plugin_api::export_backend!(MyBackend);`, build a `cdylib`.
//!
//! Owns: the typed trait, the dispatch from documents to it. The C side of the macro is in `abi`.
//! A method that is not implemented answers `unsupported`; a panic becomes an `internal` failure.

use crate::doc::{
    Description, Exported, Failure, HostFacts, HostListing, HostOpen, HostProbe, HostRef, HostStats, ImageListing, ImagePut,
    ImageRemove, ImagesMissing, ImagesPresent, LogDoc, MachineArgs, MachineResize, MachineStatus, MigrateArgs, MigratePrepare,
    MigrationOffer, PluginEvent, Resized, Retry, SavedDisk, SnapshotArgs, SnapshotListing, WorkspaceExport, WorkspaceForget,
    WorkspaceImport, WorkspaceRef, WorkspaceStop, codes, methods,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Sends events to the daemon. Cheap to clone; may be used from any thread.
#[derive(Clone)]
pub struct Emitter(Arc<dyn Fn(&PluginEvent) + Send + Sync>);

impl Emitter {
    /// An emitter that gives each event to `send`.
    pub fn new(send: impl Fn(&PluginEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(send))
    }

    /// Sends one event.
    pub fn emit(&self, event: &PluginEvent) {
        (self.0)(event);
    }
}

/// One call in flight: its key, its deadline, its descriptors.
pub struct Call {
    /// Idempotency key.
    pub id: String,
    /// When the daemon gives up.
    pub deadline: Instant,
    /// Descriptors that came with the call, in order.
    pub fds: Vec<OwnedFd>,
    /// Descriptors to send with the answer, in order.
    pub reply_fds: Vec<OwnedFd>,
    cancelled: Arc<AtomicBool>,
    emitter: Emitter,
}

impl Call {
    /// A call. `cancelled` is set from another thread when the daemon cancels it.
    #[must_use]
    pub fn new(id: String, deadline: Instant, fds: Vec<OwnedFd>, cancelled: Arc<AtomicBool>, emitter: Emitter) -> Self {
        Self { id, deadline, fds, reply_fds: Vec::new(), cancelled, emitter }
    }

    /// Whether the daemon has cancelled it: stop at the next safe point and answer [`Failure::cancelled`].
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Time left until the deadline.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Tells how far the call is.
    pub fn progress(&self, phase: &str, done: u64, total: u64) {
        self.emitter.emit(&PluginEvent::Progress { id: self.id.clone(), done, total, phase: phase.to_owned() });
    }

    /// A failure if the call was cancelled or its deadline has passed.
    ///
    /// # Errors
    /// `cancelled` or `timed-out`.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_cancelled() {
            return Err(Failure::new(codes::CANCELLED, "the call was cancelled"));
        }
        if self.remaining().is_zero() {
            return Err(Failure::new(codes::TIMED_OUT, "the deadline passed").retry(Retry::Later));
        }
        Ok(())
    }
}

impl Failure {
    /// A failure with `code` that will fail again.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            retry: Retry::Never,
            object: String::new(),
            message: message.into(),
            remedy: String::new(),
            detail: String::new(),
        }
    }

    /// `unsupported`, naming what.
    pub fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new(codes::UNSUPPORTED, format!("{what} is not offered by this backend"))
    }

    /// The same, about `object`.
    #[must_use]
    pub fn about(mut self, object: impl Into<String>) -> Self {
        self.object = object.into();
        self
    }

    /// The same, with a remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// The same, with a retry class.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The same, with what only the operator should read.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// Result of a backend's method.
pub type Outcome<T> = Result<T, Failure>;

/// A backend. One value serves every host that the daemon opens in this process; methods are called from several threads at
/// once as far as [`Description::concurrency`] allows.
#[expect(unused_variables, reason = "the provided methods answer `unsupported` and use none of their arguments")]
pub trait Backend: Send + Sync + Sized + 'static {
    /// What the plugin is. Without side effects.
    fn description() -> Description;
    /// Makes the backend. `config` is the plugin's own section of the configuration.
    ///
    /// # Errors
    /// When the configuration is wrong.
    fn open(config: Value, emitter: Emitter) -> Outcome<Self>;
    /// A call with this id should stop soon. Called from another thread; the call's own flag is set already.
    fn cancel(&self, id: &str) {}

    fn host_open(&self, args: HostOpen, call: &mut Call) -> Outcome<()> {
        Err(Failure::unsupported(methods::HOST_OPEN))
    }
    fn host_close(&self, args: HostRef, call: &mut Call) -> Outcome<()> {
        Err(Failure::unsupported(methods::HOST_CLOSE))
    }
    fn host_probe(&self, args: HostProbe, call: &mut Call) -> Outcome<HostFacts> {
        Err(Failure::unsupported(methods::HOST_PROBE))
    }
    fn host_list(&self, args: HostRef, call: &mut Call) -> Outcome<HostListing> {
        Err(Failure::unsupported(methods::HOST_LIST))
    }
    fn image_present(&self, args: ImagesPresent, call: &mut Call) -> Outcome<ImagesMissing> {
        Err(Failure::unsupported(methods::IMAGE_PRESENT))
    }
    fn image_put(&self, args: ImagePut, call: &mut Call) -> Outcome<()> {
        Err(Failure::unsupported(methods::IMAGE_PUT))
    }
    fn image_remove(&self, args: ImageRemove, call: &mut Call) -> Outcome<()> {
        Err(Failure::unsupported(methods::IMAGE_REMOVE))
    }
    fn stage(&self, args: MachineArgs, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::STAGE))
    }
    fn start(&self, args: MachineArgs, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::START))
    }
    fn stop(&self, args: WorkspaceStop, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::STOP))
    }
    fn reboot(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::REBOOT))
    }
    fn pause(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::PAUSE))
    }
    fn resume(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::RESUME))
    }
    fn inspect(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::INSPECT))
    }
    fn save(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::SAVE))
    }
    fn export(&self, args: WorkspaceExport, call: &mut Call) -> Outcome<Exported> {
        Err(Failure::unsupported(methods::EXPORT))
    }
    fn import(&self, args: WorkspaceImport, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::IMPORT))
    }
    fn restore(&self, args: MachineArgs, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::RESTORE))
    }
    fn save_disk(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<SavedDisk> {
        Err(Failure::unsupported(methods::SAVE_DISK))
    }
    fn console(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<()> {
        Err(Failure::unsupported(methods::CONSOLE))
    }
    fn log(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<LogDoc> {
        Err(Failure::unsupported(methods::LOG))
    }
    fn destroy(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::DESTROY))
    }
    fn host_stats(&self, args: HostRef, call: &mut Call) -> Outcome<HostStats> {
        Err(Failure::unsupported(methods::HOST_STATS))
    }
    fn image_list(&self, args: HostRef, call: &mut Call) -> Outcome<ImageListing> {
        Err(Failure::unsupported(methods::IMAGE_LIST))
    }
    fn resize(&self, args: MachineResize, call: &mut Call) -> Outcome<Resized> {
        Err(Failure::unsupported(methods::RESIZE))
    }
    fn migrate_prepare(&self, args: MigratePrepare, call: &mut Call) -> Outcome<MigrationOffer> {
        Err(Failure::unsupported(methods::MIGRATE_PREPARE))
    }
    fn migrate(&self, args: MigrateArgs, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::MIGRATE))
    }
    fn forget(&self, args: WorkspaceForget, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::FORGET))
    }
    fn snapshot(&self, args: SnapshotArgs, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::SNAPSHOT))
    }
    fn revert(&self, args: SnapshotArgs, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::REVERT))
    }
    fn snapshot_remove(&self, args: SnapshotArgs, call: &mut Call) -> Outcome<MachineStatus> {
        Err(Failure::unsupported(methods::SNAPSHOT_REMOVE))
    }
    fn snapshots(&self, args: WorkspaceRef, call: &mut Call) -> Outcome<SnapshotListing> {
        Err(Failure::unsupported(methods::SNAPSHOTS))
    }
}

/// Calls the method named `method` with the document `args`.
///
/// # Errors
/// What the method answers; `invalid` for a document that does not fit; `unsupported` for an unknown method.
pub fn dispatch<B: Backend>(backend: &B, method: &str, args: Value, call: &mut Call) -> Outcome<Value> {
    fn read<T: DeserializeOwned>(method: &str, args: Value) -> Outcome<T> {
        serde_json::from_value(args).map_err(|error| Failure::new(codes::INVALID, format!("arguments of `{method}`: {error}")))
    }
    fn write<T: Serialize>(result: Outcome<T>) -> Outcome<Value> {
        result.and_then(|value| {
            serde_json::to_value(value)
                .map_err(|error| Failure::new(codes::INTERNAL, format!("cannot write the answer: {error}")))
        })
    }
    match method {
        methods::DESCRIBE => write(Ok(B::description())),
        methods::HOST_OPEN => write(backend.host_open(read(method, args)?, call)),
        methods::HOST_CLOSE => write(backend.host_close(read(method, args)?, call)),
        methods::HOST_PROBE => write(backend.host_probe(read(method, args)?, call)),
        methods::HOST_LIST => write(backend.host_list(read(method, args)?, call)),
        methods::IMAGE_PRESENT => write(backend.image_present(read(method, args)?, call)),
        methods::IMAGE_PUT => write(backend.image_put(read(method, args)?, call)),
        methods::IMAGE_REMOVE => write(backend.image_remove(read(method, args)?, call)),
        methods::STAGE => write(backend.stage(read(method, args)?, call)),
        methods::START => write(backend.start(read(method, args)?, call)),
        methods::STOP => write(backend.stop(read(method, args)?, call)),
        methods::REBOOT => write(backend.reboot(read(method, args)?, call)),
        methods::PAUSE => write(backend.pause(read(method, args)?, call)),
        methods::RESUME => write(backend.resume(read(method, args)?, call)),
        methods::INSPECT => write(backend.inspect(read(method, args)?, call)),
        methods::SAVE => write(backend.save(read(method, args)?, call)),
        methods::EXPORT => write(backend.export(read(method, args)?, call)),
        methods::IMPORT => write(backend.import(read(method, args)?, call)),
        methods::RESTORE => write(backend.restore(read(method, args)?, call)),
        methods::SAVE_DISK => write(backend.save_disk(read(method, args)?, call)),
        methods::CONSOLE => write(backend.console(read(method, args)?, call)),
        methods::LOG => write(backend.log(read(method, args)?, call)),
        methods::DESTROY => write(backend.destroy(read(method, args)?, call)),
        methods::HOST_STATS => write(backend.host_stats(read(method, args)?, call)),
        methods::IMAGE_LIST => write(backend.image_list(read(method, args)?, call)),
        methods::RESIZE => write(backend.resize(read(method, args)?, call)),
        methods::MIGRATE_PREPARE => write(backend.migrate_prepare(read(method, args)?, call)),
        methods::MIGRATE => write(backend.migrate(read(method, args)?, call)),
        methods::FORGET => write(backend.forget(read(method, args)?, call)),
        methods::SNAPSHOT => write(backend.snapshot(read(method, args)?, call)),
        methods::REVERT => write(backend.revert(read(method, args)?, call)),
        methods::SNAPSHOT_REMOVE => write(backend.snapshot_remove(read(method, args)?, call)),
        methods::SNAPSHOTS => write(backend.snapshots(read(method, args)?, call)),
        _ => Err(Failure::unsupported(format!("method `{method}`"))),
    }
}
