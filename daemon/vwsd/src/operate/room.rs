//! Waiting for room: what was admitted to a host that others have to leave first touches it when they are gone. Whether they are is read
//! from the ledger (`vws_domain::room_wait`), so a wait that a restart cut short goes on.
//!
//! Those who leave are not called back when the wait ends without them, by a cancel or because one of them stays: what has begun to leave
//! leaves, and its owner resumes it as usual.

use super::args::RoomArgs;
use super::engine::{Effect, Run, StepError, nothing};
use vws_domain::{Error, ErrorKind, HostName, JobId, Result, RoomWait, WorkspaceId, room_wait};

/// Why the step needs no undo of its own.
pub const NO_UNDO: &str = "who left has left; the room that was held is given up with the workspace's place";

/// Waits until everybody in `room` has left the host.
///
/// # Errors
/// One of them stays; or the job is cancelled.
pub async fn made(run: &Run, host: &HostName, room: &[RoomArgs]) -> std::result::Result<Effect, StepError> {
    let leaving = room
        .iter()
        .map(|one| Ok((WorkspaceId::parse(&one.workspace)?, JobId::parse(&one.job)?)))
        .collect::<Result<Vec<(WorkspaceId, JobId)>>>()?;
    let object = run.workspace()?.object();
    let mut events = run.operate.core.events();
    let mut cancel = run.cancel_flag();
    loop {
        if run.cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, object, "was cancelled while it waited for room", "").into());
        }
        let waits: Vec<RoomWait> = run
            .operate
            .core
            .read(|site| leaving.iter().map(|(workspace, job)| room_wait(site, host, *workspace, *job)).collect());
        if let Some(RoomWait::Stays(why)) = waits.iter().find(|wait| matches!(wait, RoomWait::Stays(_))) {
            let fact = format!("could not make room: {why}");
            let error = Error::new(ErrorKind::NoHost, object, fact, "see to that, or try again: others may be displaced then");
            return Err(error.with_code("room-not-made").into());
        }
        let made = waits.iter().filter(|wait| **wait == RoomWait::Made).count();
        if made == leaving.len() {
            return Ok(nothing());
        }
        run.progress(made as u64, leaving.len() as u64);
        tokio::select! {
            // A receiver that fell behind looks at everything again, as it does after each event.
            _ = events.recv() => {}
            _ = cancel.changed() => {}
        }
    }
}
