//! A decision: what the policies are asked, what they answer, what is recorded of it.
//!
//! The inputs are plain facts. The same inputs and the same policy set give the same verdict, today and in a replay.

use crate::Timestamp;
use crate::caller::Caller;
use crate::capacity::Resources;
use crate::cluster::Membership;
use crate::id::{DecisionId, HostName, PolicyHash, WorkspaceId};
use crate::image::Image;
use crate::lease::{EndAction, Lease};
use crate::lifecycle::{State, Target};
use crate::network::Network;
use crate::site::{Reservation, Usage};
use crate::spec::{Grant, ImageRef, Nic, Spec};
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a caller wants to do. Every method of the bus that passes the gate is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Create a workspace.
    Launch,
    /// See a workspace: lists, properties, signals.
    View,
    /// Start a stopped workspace.
    Start,
    /// Stop.
    Stop,
    /// Reboot.
    Reboot,
    /// Pause.
    Pause,
    /// Resume from pause.
    Resume,
    /// Serialize into a bundle.
    Serialize,
    /// Resume from a bundle, here or on another host.
    Restore,
    /// Extend or shorten the lease.
    Renew,
    /// Save the root disk as a new image.
    SaveImage,
    /// End it.
    Destroy,
    /// Open the console, or read its kept lines.
    Console,
    /// Change name, labels or access list.
    Change,
    /// Import an image into the catalogue.
    ImageImport,
    /// Change, verify or remove an image.
    ImageManage,
    /// Add, change, probe or remove a host.
    HostManage,
    /// Reload policies.
    PolicyManage,
    /// Back the database up, run the self-check.
    SiteManage,
    /// More or less of vCPUs, memory, disk, rates.
    Resize,
    /// Make or remove a snapshot.
    Snapshot,
    /// Go back to a snapshot.
    Revert,
    /// Add, change or remove a network.
    NetworkManage,
    /// Take a workspace's bundle away as a file: it is no longer here then.
    BundleExport,
    /// Bring a bundle in from a file.
    BundleImport,
    /// Move a running workspace to another host.
    Migrate,
    /// Disable a host and move what is on it to others.
    Drain,
}

impl Verb {
    /// Every verb; the next one goes at the end.
    pub const ALL: [Self; 27] = [
        Self::Launch,
        Self::View,
        Self::Start,
        Self::Stop,
        Self::Reboot,
        Self::Pause,
        Self::Resume,
        Self::Serialize,
        Self::Restore,
        Self::Renew,
        Self::SaveImage,
        Self::Destroy,
        Self::Console,
        Self::Change,
        Self::ImageImport,
        Self::ImageManage,
        Self::HostManage,
        Self::PolicyManage,
        Self::SiteManage,
        Self::Resize,
        Self::Snapshot,
        Self::Revert,
        Self::NetworkManage,
        Self::BundleExport,
        Self::BundleImport,
        Self::Migrate,
        Self::Drain,
    ];

    /// The word that policies and the decision log use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::View => "view",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reboot => "reboot",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Serialize => "serialize",
            Self::Restore => "restore",
            Self::Renew => "renew",
            Self::SaveImage => "save-image",
            Self::Destroy => "destroy",
            Self::Console => "console",
            Self::Change => "change",
            Self::ImageImport => "image-import",
            Self::ImageManage => "image-manage",
            Self::HostManage => "host-manage",
            Self::PolicyManage => "policy-manage",
            Self::SiteManage => "site-manage",
            Self::Resize => "resize",
            Self::Snapshot => "snapshot",
            Self::Revert => "revert",
            Self::NetworkManage => "network-manage",
            Self::BundleExport => "bundle-export",
            Self::BundleImport => "bundle-import",
            Self::Migrate => "migrate",
            Self::Drain => "drain",
        }
    }

    /// The verb with this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == name)
    }

    /// Whether the verb asks for running time or room, so that quota judges it.
    #[must_use]
    pub fn takes_quota(self) -> bool {
        matches!(self, Self::Launch | Self::Start | Self::Restore | Self::Renew | Self::Resize | Self::Revert)
    }

    /// Whether the verb asks for a host, so that placement judges it.
    #[must_use]
    pub fn takes_host(self) -> bool {
        matches!(self, Self::Launch | Self::Restore | Self::Migrate)
    }

    /// Whether administrators keep this verb when every script refuses or is broken: to look, stop, destroy, and mend
    /// policies and hosts.
    #[must_use]
    pub fn native_for_admins(self) -> bool {
        matches!(
            self,
            Self::View
                | Self::Stop
                | Self::Destroy
                | Self::PolicyManage
                | Self::HostManage
                | Self::SiteManage
                | Self::NetworkManage
                | Self::Drain
        )
    }

    /// Whether the verb is always for administrators alone, whatever the policies say.
    #[must_use]
    pub fn admins_only(self) -> bool {
        matches!(
            self,
            Self::HostManage | Self::PolicyManage | Self::SiteManage | Self::NetworkManage | Self::BundleImport | Self::Drain
        )
    }
}

/// A request as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is wanted.
    pub verb: Verb,
    /// Name of the workspace or object.
    pub name: String,
    /// The images, root disk first.
    pub images: Vec<Arc<Image>>,
    /// What it takes.
    pub resources: Resources,
    /// Lease asked for, in seconds; 0: none named.
    pub duration_seconds: u64,
    /// What happens at its end: `stop`, `serialize` or `destroy`.
    pub end_action: String,
    /// NICs.
    pub nics: Vec<Nic>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the guest is.
    pub operating_system: String,
    /// Group that is charged.
    pub group: String,
    /// State asked for.
    pub target: String,
    /// Host that the caller insists on.
    pub host: Option<HostName>,
    /// Backend that the request is bound to (a bundle is), if any.
    pub backend: Option<String>,
    /// Hosts that the request must not be placed on, because of its cluster.
    pub avoid: BTreeSet<HostName>,
    /// The cluster it belongs to and its role there, if any.
    pub membership: Option<Membership>,
    /// Capabilities that the request needs of a host, for instance `disk-limits`.
    pub needs: Vec<String>,
    /// Host that the workspace is on and shall leave, or that it has not left completely: no candidate.
    pub leaves: Option<HostName>,
    /// Access list of the workspace.
    pub access: Vec<Grant>,
    /// The site's networks that `nics` name, each once.
    pub networks: Vec<Arc<Network>>,
    /// Addresses of pools that the workspace takes, or has.
    pub addresses: u64,
    /// Whether the workspace may be displaced, and so displaces nobody.
    pub preemptible: bool,
}

/// What access.lua is asked.
#[derive(Clone, Debug)]
pub struct AccessInput {
    /// The request.
    pub request: Request,
    /// Who asks.
    pub caller: Caller,
    /// The workspace it is about, if it exists already.
    pub workspace: Option<Arc<Workspace>>,
    /// Now.
    pub now: Timestamp,
}

/// What quota.lua sees of usage. The request itself is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageSet {
    /// Of the owner.
    pub owner: Usage,
    /// Of the charged group.
    pub group: Usage,
    /// Of everybody.
    pub site: Usage,
}

/// What quota.lua is asked.
#[derive(Clone, Debug)]
pub struct QuotaInput {
    /// The request.
    pub request: Request,
    /// Who asks.
    pub caller: Caller,
    /// The workspace it is about, if it exists already; its own reservation is not counted in `usage`.
    pub workspace: Option<Arc<Workspace>>,
    /// What is used and reserved now.
    pub usage: UsageSet,
    /// Now.
    pub now: Timestamp,
}

/// What placement.lua is asked, before hosts are looked at.
#[derive(Clone, Debug)]
pub struct PlacementInput {
    /// The request.
    pub request: Request,
    /// Who asks.
    pub caller: Caller,
    /// The workspace it is about, if it exists already.
    pub workspace: Option<Arc<Workspace>>,
    /// Present placements, for affinity: the reservations of the same owner and of the charged group.
    pub placements: Vec<Arc<Reservation>>,
    /// Now.
    pub now: Timestamp,
}

/// Which rule spoke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `access.lua`, `quota.lua`, `placement.lua`, or `native` for a rule of the core.
    pub file: String,
    /// Line of the script, from 1; 0 when there is none.
    pub line: u32,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}", self.file, self.line) }
    }
}

/// What a policy may lower in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restriction {
    /// Lease at most, in seconds. Also sets one where none was asked for.
    pub duration_seconds: Option<u64>,
    /// Memory at most, in MiB.
    pub memory_mib: Option<u64>,
    /// vCPUs at most.
    pub vcpus: Option<u64>,
    /// Only as a pre-emptible workspace.
    pub preemptible: bool,
}

impl Restriction {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The three answers, and the failure that counts as a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VerdictKind {
    /// Go on.
    Permit,
    /// No.
    Deny,
    /// Go on with less.
    Restrict,
    /// The script failed, overran a limit, or answered nonsense: no.
    Error,
}

impl VerdictKind {
    /// The word on the bus.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
            Self::Restrict => "restrict",
            Self::Error => "error",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Permit, Self::Deny, Self::Restrict, Self::Error].into_iter().find(|kind| kind.name() == name)
    }
}

/// What one policy answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `access`, `quota` or `placement`.
    pub policy: String,
    /// The answer.
    pub kind: VerdictKind,
    /// A stable code, for instance `owner` or `memory-per-user`.
    pub code: String,
    /// A sentence with the numbers compared.
    pub text: String,
    /// The rule that spoke.
    pub rule: Rule,
    /// What it lowers; empty unless `kind` is Restrict.
    pub restriction: Restriction,
    /// Microseconds that the script took.
    pub micros: u64,
}

/// What became of a host in a placement.
#[derive(Clone, Debug, PartialEq)]
pub enum HostOutcome {
    /// Not eligible: who says so and why.
    Filtered {
        /// `native` or the rule of the script.
        rule: Rule,
        /// A stable code, for instance `memory`, `disabled`, `site`.
        code: String,
        /// A sentence with the numbers.
        text: String,
    },
    /// Eligible, with its score: the highest wins, ties go to the first name.
    Scored(f64),
    /// Eligible and not looked at by the script: the native ranking put it below the bound.
    NotConsidered,
    /// Eligible once pre-emptible workspaces have left it.
    Displaces {
        /// Its score as it would be then.
        score: f64,
        /// Who would leave, in words.
        text: String,
    },
}

/// A host and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct HostJudgement {
    /// The host.
    pub host: HostName,
    /// What became of it.
    pub outcome: HostOutcome,
}

/// What a request was before it was judged, in what judging may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// What it took.
    pub resources: Resources,
    /// Lease asked for, in seconds.
    pub duration_seconds: u64,
    /// NICs, if MACs or addresses were given to them.
    pub nics: Option<Vec<Nic>>,
    /// Host that the caller insisted on.
    pub host: Option<HostName>,
    /// Whether it was pre-emptible.
    pub preemptible: bool,
}

/// A workspace as policies see it. What they do not see is not recorded with a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// uid of its owner.
    pub owner: u32,
    /// Name of its owner.
    pub owner_name: String,
    /// Group that is charged.
    pub group: String,
    /// What it was.
    pub state: State,
    /// What was wanted.
    pub target: Target,
    /// The host it was on.
    pub host: Option<HostName>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Access list.
    pub access: Vec<Grant>,
    /// What the guest is.
    pub operating_system: String,
    /// Whether it may be displaced.
    pub preemptible: bool,
    /// Its image, a URL without what may be secret in it.
    pub image: ImageRef,
    /// What it took.
    pub resources: Resources,
    /// When its lease began.
    pub lease_from: Timestamp,
    /// When it ends.
    pub lease_until: Option<Timestamp>,
    /// What happens then.
    pub end_action: EndAction,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Seen {
    /// What policies see of a workspace.
    #[must_use]
    pub fn of(workspace: &Workspace) -> Self {
        let spec = &workspace.spec;
        Self {
            id: workspace.id,
            name: spec.name.clone(),
            owner: workspace.owner,
            owner_name: workspace.owner_name.clone(),
            group: workspace.group.clone(),
            state: workspace.state,
            target: workspace.target,
            host: workspace.host.clone(),
            labels: spec.labels.clone(),
            access: spec.access.clone(),
            operating_system: spec.operating_system.clone(),
            preemptible: spec.preemptible,
            image: spec.image.open(),
            resources: workspace.resources,
            lease_from: workspace.lease.from,
            lease_until: workspace.lease.until,
            end_action: workspace.lease.action,
            created_at: workspace.created_at,
        }
    }

    /// A workspace of which policies see this.
    #[must_use]
    pub fn workspace(&self) -> Workspace {
        let mut spec = Spec::new(&self.name, self.image.clone());
        spec.labels.clone_from(&self.labels);
        spec.access.clone_from(&self.access);
        spec.operating_system.clone_from(&self.operating_system);
        spec.preemptible = self.preemptible;
        Workspace {
            id: self.id,
            owner: self.owner,
            owner_name: self.owner_name.clone(),
            group: self.group.clone(),
            spec,
            images: Vec::new(),
            resources: self.resources,
            state: self.state,
            target: self.target,
            cause: crate::workspace::Cause::default(),
            host: self.host.clone(),
            also_on: None,
            job: None,
            lease: Lease {
                from: self.lease_from,
                until: self.lease_until,
                action: self.end_action,
                grace_seconds: 0,
                deferred_until: None,
                ended: false,
            },
            bundle: None,
            snapshots: Vec::new(),
            plugin_state: String::new(),
            deployments: 0,
            version: 0,
            cpu: String::new(),
            created_at: self.created_at,
            changed_at: self.created_at,
        }
    }
}

/// A decision as it is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Its id.
    pub id: DecisionId,
    /// When.
    pub at: Timestamp,
    /// Sequence number of the ledger that it saw: hosts and reservations are versioned by it.
    pub ledger: u64,
    /// The request, as it was after restrictions and with what it was given.
    pub request: Request,
    /// What it was before that.
    pub before: Before,
    /// Who asked.
    pub caller: Caller,
    /// The workspace that it was about, as policies saw it; `None` for what makes one.
    pub seen: Option<Seen>,
    /// The workspace it was about or that it made.
    pub workspace: Option<WorkspaceId>,
    /// The policy set's hash.
    pub policy: PolicyHash,
    /// The policy set's generation.
    pub generation: u64,
    /// The answers, in order, up to the first refusal.
    pub verdicts: Vec<Verdict>,
    /// Whether it was permitted in the end.
    pub permitted: bool,
    /// Whether an administrator's native way was used against the scripts.
    pub native: bool,
    /// The host that was chosen.
    pub host: Option<HostName>,
    /// The judged hosts: all of them in an explanation, the best few in a record.
    pub hosts: Vec<HostJudgement>,
}
