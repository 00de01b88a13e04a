//! The verbs: everything the bus edge can ask of the daemon, one method each, in domain types.
//!
//! Owns: the order validate -> gate -> transaction -> reply for each verb. Must not know: D-Bus, SQL, Lua, plugins' documents.
//! Who may not see an object gets the same [`ErrorKind::NotFound`] as for one that does not exist.

use crate::core::Core;
use crate::env::Env;
use crate::operate::Operate;
use crate::policies::{Policies, PolicyStatus};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::broadcast;
use vws_domain::{
    Caller, Decision, DecisionId, DiskFormat, Error, Event, Firmware, Grant, Host, HostName, Image, ImageId, Job, JobId,
    Resources, Result, Site, Spec, Timestamp, Verb, Visibility, Workspace, WorkspaceId,
};

/// Options that every mutating verb takes.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// Idempotency: the same id with the same request gets the same answer, also after a restart.
    pub request_id: Option<String>,
}

/// What a caller wants of an existing workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start it.
    Start,
    /// Ask the guest to end, force it after so many milliseconds (0: at once).
    Stop {
        /// Milliseconds.
        guest_timeout_ms: u64,
    },
    /// Reboot it.
    Reboot,
    /// Let it stand still.
    Pause,
    /// Let it go on: from pause, or from its bundle on `host` (or wherever placement says).
    Resume {
        /// The host to resume a bundle on.
        host: Option<HostName>,
    },
    /// Into a bundle.
    Serialize,
    /// End it.
    Destroy,
}

/// The answer to an accepted launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Its create job.
    pub job: JobId,
}

/// Where an image's bytes come from.
#[derive(Debug)]
pub enum ByteSource {
    /// An open file that the client handed over.
    File(File),
    /// A path on the daemon's machine: for administrators, and below the configured `image_directories`.
    Path(String),
    /// An http(s) URL with its sha256.
    Url {
        /// Where.
        url: String,
        /// 64 digits.
        digest: String,
    },
}

/// What to import.
#[derive(Debug)]
pub struct ImageImport {
    /// Name in the catalogue.
    pub name: String,
    /// The root disk; may be absent for a kernel image.
    pub disk: Option<ByteSource>,
    /// Expected sha256 of the disk, if the client knows it.
    pub digest: Option<String>,
    /// Format of the disk; never probed.
    pub format: DiskFormat,
    /// Firmware of a whole-disk image.
    pub firmware: Firmware,
    /// Kernel: makes it a kernel image.
    pub kernel: Option<ByteSource>,
    /// Initial RAM disk.
    pub initrd: Option<ByteSource>,
    /// Kernel command line.
    pub cmdline: String,
    /// Who may use it.
    pub visibility: Visibility,
}

/// What to change of a workspace; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct WorkspaceChange {
    /// New name.
    pub name: Option<String>,
    /// New labels, replacing all.
    pub labels: Option<BTreeMap<String, String>>,
    /// New access list, replacing all.
    pub access: Option<Vec<Grant>>,
}

/// What to change of an image; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct ImageChange {
    /// New name.
    pub name: Option<String>,
    /// New visibility.
    pub visibility: Option<Visibility>,
}

/// A host as an administrator describes it; `None` leaves it, or means the default for a new one.
#[derive(Clone, Debug, Default)]
pub struct HostChange {
    /// Backend plugin: required for a new host, cannot be changed.
    pub backend: Option<String>,
    /// Settings for the plugin, a JSON object as text.
    pub settings: Option<String>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// vCPUs given out per real one, percent (default 100).
    pub cpu_overcommit_percent: Option<u64>,
    /// Memory given out per real memory, percent (default 100).
    pub memory_overcommit_percent: Option<u64>,
    /// What it keeps for itself; each member on its own.
    pub reserve_vcpus: Option<u64>,
    /// MiB.
    pub reserve_memory_mib: Option<u64>,
    /// GiB.
    pub reserve_disk_gib: Option<u64>,
    /// Whether it takes new workspaces.
    pub enabled: Option<bool>,
}

/// What to explain.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    /// The verb.
    pub verb: Verb,
    /// The workspace, for every verb but launch.
    pub workspace: Option<WorkspaceId>,
    /// For launch.
    pub spec: Option<Spec>,
    /// For renew.
    pub lease_seconds: Option<u64>,
    /// For restore.
    pub host: Option<HostName>,
}

/// Which decisions to show.
#[derive(Clone, Debug, Default)]
pub struct DecisionQuery {
    /// One by id.
    pub id: Option<DecisionId>,
    /// About a workspace (also one that is gone).
    pub workspace: Option<WorkspaceId>,
    /// Only permitted, or only refused ones.
    pub permitted: Option<bool>,
    /// Not older than.
    pub since: Option<Timestamp>,
    /// At most so many.
    pub limit: u64,
}

/// A decision with the source line of the rule that refused, as it was then.
#[derive(Clone, Debug)]
pub struct ShownDecision {
    /// The decision.
    pub decision: Decision,
    /// The line; empty if there is none.
    pub source: String,
}

/// A finding of the self-check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `ok`, `warning` or `error`.
    pub severity: String,
    /// What it is about.
    pub object: String,
    /// What is the case.
    pub fact: String,
    /// What to do.
    pub remedy: String,
}

/// A host with what is free on it.
#[derive(Clone, Debug)]
pub struct ShownHost {
    /// The host.
    pub host: Arc<Host>,
    /// Free for new workspaces.
    pub free: Resources,
    /// Workspaces placed on it.
    pub workspaces: u64,
}

/// The daemon's verbs. One value for the whole process; cheap to share.
pub struct Service {
    pub(crate) core: Arc<Core>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) operate: Arc<Operate>,
    pub(crate) env: Arc<Env>,
}

#[allow(unused_variables, clippy::unused_async, reason = "being filled in")]
impl Service {
    /// Reads the committed projection under a short lock. Do not block inside.
    pub fn read<R>(&self, look: impl FnOnce(&Site) -> R) -> R {
        self.core.read(look)
    }
    /// Committed events, for signals.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.core.events()
    }
    /// Whether the caller may see the workspace. Judged by the access policy, remembered per (policy set, caller, version).
    pub fn may_view(&self, caller: &Caller, workspace: &Arc<Workspace>) -> bool {
        todo!()
    }
    /// Whether the caller may see the image: public, own, or an administrator.
    pub fn may_view_image(&self, caller: &Caller, image: &Image) -> bool {
        todo!()
    }
    /// Whether the caller may see the job: own, about a visible workspace or image, or an administrator.
    pub fn may_view_job(&self, caller: &Caller, job: &Job) -> bool {
        todo!()
    }
    /// Whether the caller may see the event: about a visible object, or a site event and an administrator (host and policy events
    /// are for everybody).
    pub fn may_view_event(&self, caller: &Caller, event: &Event) -> bool {
        todo!()
    }
    /// The visible workspace with this id, or NotFound.
    pub fn workspace(&self, caller: &Caller, id: WorkspaceId) -> Result<Arc<Workspace>> {
        todo!()
    }
    /// Every host with what is free on it, by name.
    pub fn hosts(&self) -> Vec<ShownHost> {
        todo!()
    }
    /// One host.
    pub fn host(&self, name: &HostName) -> Result<ShownHost> {
        todo!()
    }
    /// Creates a workspace.
    pub async fn launch(&self, caller: &Caller, spec: Spec, options: CallOptions) -> Result<Launched> {
        todo!()
    }
    /// Acts on a workspace. `None`: it is already so, nothing to do.
    pub async fn act(&self, caller: &Caller, id: WorkspaceId, action: Action, options: CallOptions) -> Result<Option<JobId>> {
        todo!()
    }
    /// New lease of so many seconds from now (0: without end, if the policies allow); answers its end.
    pub async fn renew(&self, caller: &Caller, id: WorkspaceId, seconds: u64, options: CallOptions) -> Result<Option<Timestamp>> {
        todo!()
    }
    /// Saves the root disk of a stopped workspace as a new image.
    pub async fn save_image(&self, caller: &Caller, id: WorkspaceId, name: &str, visibility: Visibility, options: CallOptions) -> Result<(ImageId, JobId)> {
        todo!()
    }
    /// Changes name, labels or access list.
    pub async fn change_workspace(&self, caller: &Caller, id: WorkspaceId, change: WorkspaceChange, options: CallOptions) -> Result<()> {
        todo!()
    }
    /// A descriptor for the serial console: bytes both ways.
    pub async fn console(&self, caller: &Caller, id: WorkspaceId) -> Result<OwnedFd> {
        todo!()
    }
    /// The kept console lines and how many bytes were left out.
    pub async fn log(&self, caller: &Caller, id: WorkspaceId) -> Result<(String, u64)> {
        todo!()
    }
    /// Imports an image.
    pub async fn import_image(&self, caller: &Caller, import: ImageImport, options: CallOptions) -> Result<(ImageId, JobId)> {
        todo!()
    }
    /// Checks an image's bytes.
    pub async fn verify_image(&self, caller: &Caller, id: ImageId, options: CallOptions) -> Result<JobId> {
        todo!()
    }
    /// Changes an image's name or visibility.
    pub async fn change_image(&self, caller: &Caller, id: ImageId, change: ImageChange, options: CallOptions) -> Result<()> {
        todo!()
    }
    /// Removes an image that nothing uses.
    pub async fn remove_image(&self, caller: &Caller, id: ImageId, options: CallOptions) -> Result<()> {
        todo!()
    }
    /// Adds a host and begins to probe it.
    pub async fn add_host(&self, caller: &Caller, name: HostName, host: HostChange, options: CallOptions) -> Result<JobId> {
        todo!()
    }
    /// Changes a host.
    pub async fn change_host(&self, caller: &Caller, name: HostName, change: HostChange, options: CallOptions) -> Result<()> {
        todo!()
    }
    /// Removes a host that has no workspaces.
    pub async fn remove_host(&self, caller: &Caller, name: HostName, options: CallOptions) -> Result<()> {
        todo!()
    }
    /// Probes a host anew by booting a guest on it.
    pub async fn probe_host(&self, caller: &Caller, name: HostName, options: CallOptions) -> Result<JobId> {
        todo!()
    }
    /// What would be decided, by the same function, without any effect.
    pub async fn explain(&self, caller: &Caller, request: ExplainRequest) -> Result<ShownDecision> {
        todo!()
    }
    /// Recorded decisions that the caller may see: own ones, about visible workspaces, or all for administrators. Newest first.
    pub async fn decisions(&self, caller: &Caller, query: DecisionQuery) -> Result<Vec<ShownDecision>> {
        todo!()
    }
    /// Committed events after `sequence` that the caller may see, at most `limit`; with the last sequence number looked at.
    pub async fn events_since(&self, caller: &Caller, sequence: u64, limit: u64) -> Result<(Vec<Event>, u64)> {
        todo!()
    }
    /// Asks a job to stop.
    pub async fn cancel_job(&self, caller: &Caller, id: JobId, options: CallOptions) -> Result<()> {
        todo!()
    }
    /// Reloads the policies now; answers the generation in force.
    pub async fn reload_policies(&self, caller: &Caller) -> Result<u64> {
        todo!()
    }
    /// What is in force and what is wrong with the newest files.
    pub fn policy_status(&self) -> PolicyStatus {
        todo!()
    }
    /// Checks policy sources without putting them in force: the problems found.
    pub async fn check_policies(&self, caller: &Caller, files: BTreeMap<String, String>) -> Result<Vec<vws_policy::Problem>> {
        todo!()
    }
    /// The backend plugins.
    pub fn backends(&self) -> Vec<vws_backend::PluginStatus> {
        todo!()
    }
    /// Writes a consistent copy of the database into the descriptor.
    pub async fn backup(&self, caller: &Caller, to: File) -> Result<()> {
        todo!()
    }
    /// Compares ledger, projection, library and hosts.
    pub async fn doctor(&self, caller: &Caller) -> Result<Vec<Finding>> {
        todo!()
    }
}
