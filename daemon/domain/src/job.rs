//! A job: one durable operation, as its owner sees it and as recovery finds it.

use crate::Timestamp;
use crate::error::Error;
use crate::id::{HostName, ImageId, JobId, WorkspaceId};

/// What a job does. Each kind has a table of steps in `vwsd`'s `operate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobKind {
    /// Stage disks, define the machine, bring it to the target state.
    Create,
    /// Start a stopped workspace.
    Start,
    /// Stop: ask the guest, then force.
    Stop,
    /// Reboot.
    Reboot,
    /// Pause: the guest stands still, its memory stays.
    Pause,
    /// Resume a paused workspace.
    Resume,
    /// Memory, disks and identity into a bundle; the host is left.
    Serialize,
    /// A bundle back onto a host.
    Restore,
    /// A copy of the root disk as a new image.
    SaveImage,
    /// End it, from any state.
    Destroy,
    /// Bring an image into the catalogue.
    ImportImage,
    /// Check an image's bytes against its digest.
    VerifyImage,
    /// Find out what a host is, by booting a tiny guest on it.
    ProbeHost,
    /// More or less of vCPUs, memory, disk, rates.
    Resize,
    /// Keep the present state.
    Snapshot,
    /// Back to a snapshot.
    Revert,
    /// Drop a snapshot.
    RemoveSnapshot,
    /// See every member of a new cluster to its target, or take all of them back.
    CreateCluster,
    /// A bundle into a file, and away from here.
    ExportBundle,
    /// A bundle from a file, as a workspace.
    ImportBundle,
    /// Check a bundle's bytes against their digests.
    VerifyBundle,
    /// Move a running workspace to another host.
    Migrate,
    /// Remove what a move left on a host that did not answer then.
    Forget,
    /// Move what is on a host to others.
    Drain,
}

impl JobKind {
    /// Every kind; the next one goes at the end.
    pub const ALL: [Self; 24] = [
        Self::Create,
        Self::Start,
        Self::Stop,
        Self::Reboot,
        Self::Pause,
        Self::Resume,
        Self::Serialize,
        Self::Restore,
        Self::SaveImage,
        Self::Destroy,
        Self::ImportImage,
        Self::VerifyImage,
        Self::ProbeHost,
        Self::Resize,
        Self::Snapshot,
        Self::Revert,
        Self::RemoveSnapshot,
        Self::CreateCluster,
        Self::ExportBundle,
        Self::ImportBundle,
        Self::VerifyBundle,
        Self::Migrate,
        Self::Forget,
        Self::Drain,
    ];

    /// The word on the bus and in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reboot => "reboot",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Serialize => "serialize",
            Self::Restore => "restore",
            Self::SaveImage => "save-image",
            Self::Destroy => "destroy",
            Self::ImportImage => "import-image",
            Self::VerifyImage => "verify-image",
            Self::ProbeHost => "probe-host",
            Self::Resize => "resize",
            Self::Snapshot => "snapshot",
            Self::Revert => "revert",
            Self::RemoveSnapshot => "remove-snapshot",
            Self::CreateCluster => "create-cluster",
            Self::ExportBundle => "export-bundle",
            Self::ImportBundle => "import-bundle",
            Self::VerifyBundle => "verify-bundle",
            Self::Migrate => "migrate",
            Self::Forget => "forget",
            Self::Drain => "drain",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Waiting for its turn.
    Queued,
    /// Doing its steps.
    Running,
    /// A step failed or it was cancelled: taking the done steps back.
    Undoing,
    /// Ended well.
    Done,
    /// Ended with an error.
    Failed,
    /// Ended because somebody cancelled it.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 6] = [Self::Queued, Self::Running, Self::Undoing, Self::Done, Self::Failed, Self::Cancelled];

    /// The word on the bus.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Undoing => "undoing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// How far a job is, for display.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Name of the step at work.
    pub phase: String,
    /// Steps done.
    pub step: u32,
    /// Steps in all.
    pub steps: u32,
    /// Units done within the step (bytes, mostly); 0 of 0 when the step cannot tell.
    pub done: u64,
    /// Units in the step.
    pub total: u64,
}

/// A job as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id; `id/step` is the idempotency key that plugins get.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// The workspace it works on, if any.
    pub workspace: Option<WorkspaceId>,
    /// The image it works on, if any.
    pub image: Option<ImageId>,
    /// The host it works on or places on, if any.
    pub host: Option<HostName>,
    /// uid of who asked.
    pub owner: u32,
    /// Name of who asked (`vwsd/lease` for the daemon's own acts).
    pub actor: String,
    /// Arguments of its kind, a JSON object as text.
    pub args: String,
    /// Where it is.
    pub state: JobState,
    /// Index of the next step to do, or of the next to undo.
    pub step: u32,
    /// What steps left for later ones, a JSON object as text.
    pub scratch: String,
    /// How far it is.
    pub progress: Progress,
    /// Whether somebody asked to cancel it.
    pub cancel_requested: bool,
    /// Why it failed.
    pub error: Option<Error>,
    /// What it says at its end, for instance that the guest had to be forced off.
    pub message: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}
