//! Snapshots: kept states of a workspace's disks, with or without its memory. They stay with the machine on its host.

use crate::Timestamp;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::lifecycle::State;
use crate::spec::limits;
use crate::workspace::Workspace;

/// A snapshot as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name, unique within the workspace.
    pub name: String,
    /// Whether the memory is kept too.
    pub memory: bool,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// Whether a snapshot of this name can be made of the workspace as it is.
///
/// # Errors
/// `InvalidArgument`, `AlreadyExists`, `InvalidState`, `Busy` (too many).
pub fn new_snapshot(workspace: &Workspace, name: &str, memory: bool) -> Result<()> {
    let good = !name.is_empty()
        && name.len() <= limits::NAME_CHARS
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !name.starts_with('-');
    if !good {
        return Err(Error::invalid(
            format!("snapshot name `{}`", shown(name)),
            format!("is not 1 to {} characters of a-z A-Z 0-9 and -, no - in front", limits::NAME_CHARS),
            "choose another name",
        ));
    }
    if workspace.snapshots.iter().any(|known| known.name == name) {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("snapshot `{name}` of {}", workspace.object()),
            "there is one of this name",
            "choose another name, or remove that one",
        ));
    }
    if workspace.snapshots.len() >= limits::SNAPSHOTS {
        return Err(Error::new(
            ErrorKind::Busy,
            workspace.object(),
            format!("has {} snapshots, the most that one can have", limits::SNAPSHOTS),
            "remove one first",
        ));
    }
    match workspace.state {
        State::Running | State::Paused => Ok(()),
        State::Stopped if !memory => Ok(()),
        State::Stopped => Err(Error::new(
            ErrorKind::InvalidState,
            workspace.object(),
            "is stopped: there is no memory to keep",
            "leave the memory out, or start it first",
        )),
        other => Err(Error::new(
            ErrorKind::InvalidState,
            workspace.object(),
            format!("is {}: a snapshot needs it running, paused or stopped", other.name()),
            "wait until it is at rest",
        )),
    }
}

/// The workspace's snapshot of this name.
///
/// # Errors
/// `NotFound`, naming those that there are.
pub fn snapshot_named<'a>(workspace: &'a Workspace, name: &str) -> Result<&'a Snapshot> {
    workspace.snapshots.iter().find(|known| known.name == name).ok_or_else(|| {
        let names: Vec<&str> = workspace.snapshots.iter().map(|known| known.name.as_str()).collect();
        let fact = if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
        Error::new(
            ErrorKind::NotFound,
            format!("snapshot `{}` of {}", shown(name), workspace.object()),
            fact,
            "`vws snapshot list` shows them",
        )
    })
}
