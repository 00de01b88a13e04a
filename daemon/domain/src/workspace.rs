//! A workspace as it is stored: the nouns of its life in one record.

use crate::Timestamp;
use crate::capacity::Resources;
use crate::id::{BundleId, HostName, ImageId, JobId, WorkspaceId};
use crate::lease::Lease;
use crate::lifecycle::{State, Target};
use crate::snapshot::Snapshot;
use crate::spec::Spec;

/// Why a workspace is in its state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// A stable code, for instance `requested`, `lease-ended`, `host-unreachable`, `guest-stopped`.
    pub code: String,
    /// A sentence.
    pub text: String,
}

/// The record of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Its id, for its whole life.
    pub id: WorkspaceId,
    /// uid of its owner.
    pub owner: u32,
    /// Name of its owner when it was created, for display.
    pub owner_name: String,
    /// Group that is charged.
    pub group: String,
    /// What was asked for, after restrictions.
    pub spec: Spec,
    /// Catalogue ids of its images: the root disk's first, then the data disks' in order (`None` for empty disks).
    pub images: Vec<Option<ImageId>>,
    /// What it takes.
    pub resources: Resources,
    /// What it is.
    pub state: State,
    /// What is wanted.
    pub target: Target,
    /// Why it is what it is.
    pub cause: Cause,
    /// The host it is on.
    pub host: Option<HostName>,
    /// While it moves: a second host on which it holds room. First the target; once the guest is seen there, the one it left,
    /// until its absence there was seen.
    pub also_on: Option<HostName>,
    /// The job at work on it.
    pub job: Option<JobId>,
    /// Its lease.
    pub lease: Lease,
    /// The bundle it is in, when serialized.
    pub bundle: Option<BundleId>,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// CPU model that its guest runs with, as its backend said when it last ran; empty: not told.
    pub cpu: String,
    /// What the backend wants to get back with each call: opaque, at most 64 KiB.
    pub plugin_state: String,
    /// Counts up at each deployment: the guest's instance-id changes with it.
    pub deployments: u64,
    /// Counts up with each change.
    pub version: u64,
    /// When it was admitted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
}

impl Workspace {
    /// "workspace `name`", for messages.
    #[must_use]
    pub fn object(&self) -> String {
        format!("workspace `{}`", self.spec.name)
    }
}
