//! What is told to subscribers. Made only from committed changes, numbered without gaps per daemon.

use crate::Timestamp;
use crate::id::{HostName, ImageId, JobId, WorkspaceId};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Rises by one with each event; `EventsSince` takes it.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What, for instance `workspace.state`, `job.ended`, `host.down`, `policy.loaded`.
    pub kind: String,
    /// The workspace it is about: subscribers see the event only if they may see that.
    pub workspace: Option<WorkspaceId>,
    /// The job it is about.
    pub job: Option<JobId>,
    /// The host it is about.
    pub host: Option<HostName>,
    /// The image it is about.
    pub image: Option<ImageId>,
    /// uid of the owner of the object: decides who may see events about jobs and images.
    pub owner: u32,
    /// A sentence.
    pub text: String,
}
