//! The verbs: everything the bus edge can ask of the daemon, one method each, in domain types.
//!
//! Owns: the order validate -> gate -> transaction -> reply for each verb. Must not know: D-Bus, SQL, Lua, plugins' documents.
//! Who may not see an object gets the same [`ErrorKind::NotFound`] as for one that does not exist.

mod act;
mod backup;
mod bundles;
mod cluster;
mod displace;
mod drain;
mod hosts;
mod images;
mod launch;
mod metrics;
mod networks;
mod policy;
mod resize;
mod site;
mod usage;

pub use cluster::{ManyAction, ManyAnswer};
pub use policy::{Audited, ReplayQuery, ShadowStatus};
pub use resize::SnapshotAct;
pub(crate) use site::CHECK_BYTES;
pub use usage::{Charged, UsageQuery, UsageReport};

pub use metrics::{MetricsFile, WORKSPACES as METRICS_WORKSPACES, write_file as write_metrics};

pub(crate) use backup::clear_scratch;
pub use bundles::{NewOwner, ShownBundle};
pub(crate) use drain::Moves;
pub(crate) use hosts::{changed_host, new_host, put_probe};
pub(crate) use networks::{changed_network, keeps_held, new_network};

use crate::admit;
use crate::config::Admission;
use crate::core::{Core, Tx};
use crate::env::Env;
use crate::gate::Gate;
use crate::operate::{Figures, Operate};
use crate::policies::Policies;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use tokio::sync::broadcast;
use vws_backend::Backends;
use vws_domain::{
    AnsweredRequest, Caller, Change, Decision, DecisionId, DiskFormat, Error, ErrorKind, Event, Firmware, Grant, Host, HostName,
    Image, ImageId, Job, JobId, Network, NetworkKind, Resize, Resources, Result, Site, Spec, Timestamp, Verb, Visibility,
    Workspace, WorkspaceId,
};
use vws_library::Library;
use vws_store::Store;

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
    /// To another host, while it runs.
    Migrate {
        /// The host; `None`: the placement's choice.
        host: Option<HostName>,
        /// MiB per second at most; 0 for no limit.
        mib_per_second: u64,
    },
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
    /// What images in its cache may take, in GiB; 0 is no limit.
    pub image_cache_gib: Option<u64>,
    /// Whether it takes new workspaces.
    pub enabled: Option<bool>,
}

/// A network as an administrator describes it; `None` leaves it, or means the default for a new one.
#[derive(Clone, Debug, Default)]
pub struct NetworkChange {
    /// Kind: required for a new network, cannot be changed.
    pub kind: Option<NetworkKind>,
    /// Bridge or network of the hypervisor, by its name on the hosts.
    pub source: Option<String>,
    /// Subnet, `10.0.0.0/24`; empty: no pool.
    pub subnet: Option<String>,
    /// Gateway; empty: none.
    pub gateway: Option<String>,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// Ranges, `10.0.0.10-10.0.0.99`; empty: the whole subnet.
    pub ranges: Option<Vec<String>>,
    /// Whether addresses are entered into the hypervisor's DHCP.
    pub dhcp: Option<bool>,
    /// Whether forged packets are stopped (default: if it has a subnet).
    pub anti_spoofing: Option<bool>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether new workspaces may be on it.
    pub enabled: Option<bool>,
}

/// A network with what is free on it.
#[derive(Clone, Debug)]
pub struct ShownNetwork {
    /// The network.
    pub network: Arc<Network>,
    /// Addresses of its pool that nobody holds.
    pub free: u64,
    /// Addresses that are held.
    pub held: u64,
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
    /// For restore and migrate.
    pub host: Option<HostName>,
    /// For resize.
    pub resize: Option<Resize>,
    /// Of what is no workspace.
    pub name: Option<String>,
}

/// Which decisions to show.
#[derive(Clone, Debug, Default)]
pub struct DecisionQuery {
    /// One by id.
    pub id: Option<DecisionId>,
    /// About a workspace (also one that is gone).
    pub workspace: Option<WorkspaceId>,
    /// About something of this name, also one that is gone.
    pub name: Option<String>,
    /// Asked by this user.
    pub caller: Option<u32>,
    /// Only permitted, or only refused ones.
    pub permitted: Option<bool>,
    /// Only of this verb.
    pub verb: Option<Verb>,
    /// Not older than.
    pub since: Option<Timestamp>,
    /// Not newer than.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub limit: u64,
}

/// A decision with the source lines of the rules that spoke, as they were then.
#[derive(Clone, Debug)]
pub struct ShownDecision {
    /// The decision.
    pub decision: Decision,
    /// The line of the rule that refused; empty if there is none.
    pub source: String,
    /// The line of each verdict's rule; empty if there is none.
    pub lines: Vec<String>,
    /// In an explanation of a refusal: what would pass, and what becomes free when.
    pub nearest: Vec<String>,
    /// In an explanation: the limits of one decision's evaluation.
    pub limits: Option<vws_policy::Limits>,
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
    pub(crate) gate: Arc<Gate>,
    pub(crate) shadow: std::sync::Mutex<Option<policy::Shadow>>,
    pub(crate) operate: Arc<Operate>,
    pub(crate) env: Arc<Env>,
    pub(crate) store: Arc<Store>,
    pub(crate) library: Arc<Library>,
    pub(crate) backends: Arc<Backends>,
    pub(crate) admission: Admission,
}

impl Service {
    /// Reads the committed projection under a short lock. Do not block inside.
    pub fn read<R>(&self, look: impl FnOnce(&Site) -> R) -> R {
        self.core.read(look)
    }

    /// Committed events, for signals.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.core.events()
    }

    /// Whether the caller may see the workspace. Judged by the access policy, remembered per (policy set, caller, version).
    #[must_use]
    pub fn may_view(&self, caller: &Caller, workspace: &Arc<Workspace>) -> bool {
        self.policies.may_view(caller, workspace)
    }

    /// Whether the caller may see the image: public, own, or an administrator.
    #[must_use]
    pub fn may_view_image(&self, caller: &Caller, image: &Image) -> bool {
        admit::may_use_image(caller, image)
    }

    /// Whether the caller may see the job: own, about a visible workspace or image, or an administrator.
    #[must_use]
    pub fn may_view_job(&self, caller: &Caller, job: &Job) -> bool {
        caller.admin || job.owner == caller.uid || self.may_view_objects(caller, job.workspace, job.image)
    }

    /// Whether the caller may see the event: about a visible object, or about hosts and policies, which are for everybody.
    #[must_use]
    pub fn may_view_event(&self, caller: &Caller, event: &Event) -> bool {
        let site_wide = event.workspace.is_none() && event.job.is_none() && event.image.is_none();
        caller.admin
            || site_wide
            || self.may_view_objects(caller, event.workspace, event.image)
            || (event.owner == caller.uid && (event.workspace.is_some() || event.job.is_some() || event.image.is_some()))
    }

    fn may_view_objects(&self, caller: &Caller, workspace: Option<WorkspaceId>, image: Option<ImageId>) -> bool {
        let (workspace, image) = self
            .core
            .read(|site| (workspace.and_then(|id| site.workspace(id)).cloned(), image.and_then(|id| site.image(id)).cloned()));
        workspace.is_some_and(|workspace| self.may_view(caller, &workspace))
            || image.is_some_and(|image| admit::may_use_image(caller, &image))
    }

    /// What a workspace's machine does, if its host has told.
    #[must_use]
    pub fn figures(&self, workspace: &Workspace) -> Option<Figures> {
        self.operate.stats().figures(workspace)
    }

    /// The visible workspace with this id.
    ///
    /// # Errors
    /// NotFound, also for one that the caller may not see.
    pub fn workspace(&self, caller: &Caller, id: WorkspaceId) -> Result<Arc<Workspace>> {
        let found = self.core.read(|site| site.workspace(id).cloned());
        found.filter(|workspace| self.may_view(caller, workspace)).ok_or_else(|| Error::not_found(format!("workspace {id}")))
    }
}

/// sha256 of a request, by which a repeated request id is recognised.
fn digest_of(request: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(request.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The answer that the caller's request id got before.
///
/// # Errors
/// Conflict: it was another request.
fn answered(site: &Site, caller: &Caller, options: &CallOptions, digest: &str) -> Result<Option<Arc<AnsweredRequest>>> {
    let Some(id) = &options.request_id else { return Ok(None) };
    match site.answered(caller.uid, id) {
        None => Ok(None),
        Some(known) if known.digest == digest => Ok(Some(Arc::clone(known))),
        Some(_) => Err(Error::new(
            ErrorKind::Conflict,
            format!("request-id `{}`", vws_domain::shown(id)),
            "was used with another request",
            "choose a new id for a new request",
        )
        .with_code("request-id-reused")),
    }
}

/// Remembers the answer to a request id.
fn remember(
    tx: &mut Tx<'_>,
    caller: &Caller,
    options: &CallOptions,
    digest: &str,
    workspace: Option<WorkspaceId>,
    job: Option<JobId>,
    image: Option<ImageId>,
) {
    if let Some(id) = &options.request_id {
        tx.put(Change::PutRequest(Arc::new(AnsweredRequest {
            uid: caller.uid,
            request_id: id.clone(),
            digest: digest.to_owned(),
            workspace,
            job,
            image,
            at: tx.now,
        })));
    }
}

/// A workspace that the caller may see, as admission sees it.
fn seen(site: &Site, policies: &Policies, caller: &Caller, id: WorkspaceId) -> Result<Arc<Workspace>> {
    site.workspace(id)
        .filter(|workspace| policies.may_view(caller, workspace))
        .cloned()
        .ok_or_else(|| Error::not_found(format!("workspace {id}")))
}
