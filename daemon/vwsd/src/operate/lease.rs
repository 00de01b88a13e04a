//! Lease ends: watches for the next one and acts as the daemon's own system actor. An end that was missed while the daemon was down
//! gets its grace anew, counted from the return.

use super::Operate;
use super::args::{self, SerializeArgs, StopArgs};
use crate::change;
use crate::core::{About, Tx};
use std::sync::Arc;
use std::time::Duration;
use vws_domain::{
    Caller, Cause, EndAction, JobId, JobKind, LeaseDue, Result, State, StateEvent, Target, Timestamp, Workspace, WorkspaceId,
};

/// Milliseconds that a guest gets to end by itself when its lease is over.
pub const STOP_TIMEOUT_MS: u64 = 60_000;
/// The watcher looks at all leases at least so often, whatever the clock does.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A job that is not yet written.
pub struct NewJob {
    /// Its kind.
    pub kind: JobKind,
    /// Arguments of its kind, as JSON.
    pub args: String,
}

impl Operate {
    /// Watches leases for ever.
    pub(super) async fn watch_leases(self: Arc<Self>) {
        let since = self.env.now();
        loop {
            let now = self.env.now();
            let (due, next) = self.core.read(|site| {
                let mut due: Vec<WorkspaceId> = Vec::new();
                let mut next: Option<Timestamp> = None;
                for workspace in site.workspaces() {
                    match workspace.lease.due(now, since) {
                        LeaseDue::Not(None) => {}
                        LeaseDue::Not(Some(at)) => next = Some(next.map_or(at, |next| next.min(at))),
                        LeaseDue::Defer(_) | LeaseDue::Act(_) => due.push(workspace.id),
                    }
                }
                (due, next)
            });
            let mut busy = false;
            for id in due {
                match self.lease_due(id, since).await {
                    Ok(settled) => busy |= !settled,
                    Err(error) => {
                        tracing::error!(%error, detail = %error.detail, workspace = %id, "a lease's end could not be acted upon");
                        busy = true;
                    }
                }
            }
            let wait = if busy {
                Duration::from_secs(1)
            } else {
                next.map_or(LOOK_EVERY, |at| Duration::from_micros(at.0.saturating_sub(self.env.now().0)).min(LOOK_EVERY))
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.core.leases_changed() => {}
            }
        }
    }

    /// Acts on one lease. Answers whether it is settled; a workspace that a job is at work on is tried again.
    async fn lease_due(&self, id: WorkspaceId, since: Timestamp) -> Result<bool> {
        self.core
            .transact(move |tx| {
                let Some(workspace) = tx.site.workspace(id).cloned() else { return Ok(true) };
                match workspace.lease.due(tx.now, since) {
                    LeaseDue::Not(_) => Ok(true),
                    LeaseDue::Defer(until) => {
                        let mut changed = workspace.as_ref().clone();
                        changed.lease.deferred_until = Some(until);
                        let text =
                            format!("the lease of `{}` ended while the daemon was down; it gets its grace", changed.spec.name);
                        tx.event("lease.deferred", About::workspace(id), changed.owner, text);
                        change::change_workspace(tx, &workspace, changed);
                        Ok(true)
                    }
                    LeaseDue::Act(action) => {
                        if workspace.job.is_some() {
                            return Ok(false);
                        }
                        end(tx, &workspace, action)?;
                        Ok(true)
                    }
                }
            })
            .await
    }
}

/// Ends a lease: the job that its action asks for, if the workspace is not there already.
fn end(tx: &mut Tx<'_>, workspace: &Arc<Workspace>, action: EndAction) -> Result<()> {
    let text = format!("the lease of `{}` ended: {}", workspace.spec.name, action.name());
    tx.event("lease.ended", About::workspace(workspace.id), workspace.owner, text);
    let mut changed = workspace.as_ref().clone();
    changed.lease.ended = true;
    changed.cause = Cause { code: "lease-ended".to_owned(), text: format!("its lease ended: {}", action.name()) };
    let runs = matches!(changed.state, State::Running | State::Paused);
    let job = match action {
        EndAction::Destroy => Some(NewJob { kind: JobKind::Destroy, args: "{}".to_owned() }),
        EndAction::Stop if runs => {
            Some(NewJob { kind: JobKind::Stop, args: args::write(&StopArgs { guest_timeout_ms: STOP_TIMEOUT_MS })? })
        }
        EndAction::Serialize if runs => Some(serialize_job(tx, &changed)?),
        EndAction::Stop | EndAction::Serialize => None,
    };
    match job {
        Some(job) => {
            begin(tx, workspace, changed, job, &Caller::system("lease"), "lease-ended")?;
        }
        None => change::change_workspace(tx, workspace, changed),
    }
    Ok(())
}

/// A serialize job for the workspace, with a new bundle's id.
///
/// # Errors
/// Internal: arguments that JSON cannot hold.
pub fn serialize_job(tx: &Tx<'_>, workspace: &Workspace) -> Result<NewJob> {
    let args = SerializeArgs { bundle: vws_domain::BundleId(tx.id()).to_string(), paused: workspace.state == State::Paused };
    Ok(NewJob { kind: JobKind::Serialize, args: args::write(&args)? })
}

/// Writes a job on a workspace and what the workspace becomes by it: its state and target, and that the job is at work on it.
///
/// # Errors
/// Internal: the job's beginning cannot happen in the workspace's state.
pub fn begin(
    tx: &mut Tx<'_>,
    old: &Workspace,
    mut workspace: Workspace,
    job: NewJob,
    caller: &Caller,
    code: &str,
) -> Result<JobId> {
    let id = JobId(tx.id());
    let (event, target) = match job.kind {
        JobKind::Start => (Some(StateEvent::StartBegan), Some(Target::Running)),
        JobKind::Stop => (Some(StateEvent::StopBegan), Some(Target::Stopped)),
        JobKind::Serialize => (Some(StateEvent::SerializeBegan), Some(Target::Serialized)),
        JobKind::Restore => (Some(StateEvent::RestoreBegan), Some(Target::Running)),
        JobKind::Migrate => (Some(StateEvent::MigrateBegan), None),
        // Its own first step says `destroying`: a job that is at work now ends first.
        JobKind::Destroy => (None, Some(Target::Gone)),
        JobKind::Pause => (None, Some(Target::Paused)),
        JobKind::Resume => (None, Some(Target::Running)),
        JobKind::Create
        | JobKind::Reboot
        | JobKind::SaveImage
        | JobKind::ImportImage
        | JobKind::VerifyImage
        | JobKind::ProbeHost
        | JobKind::Resize
        | JobKind::Snapshot
        | JobKind::Revert
        | JobKind::RemoveSnapshot
        | JobKind::CreateCluster
        | JobKind::ExportBundle
        | JobKind::ImportBundle
        | JobKind::VerifyBundle
        | JobKind::Forget
        | JobKind::Drain => (None, None),
    };
    if let Some(event) = event {
        let text = workspace.cause.text.clone();
        let text = if code == "requested" { format!("{} asked for it", caller.user) } else { text };
        workspace = change::after(workspace, event, code, &text)?;
    }
    if let Some(target) = target {
        workspace.target = target;
    }
    workspace.job = Some(id);
    let mut record = change::new_job(tx, id, job.kind, caller, job.args);
    record.workspace = Some(workspace.id);
    record.host.clone_from(&workspace.host);
    if caller.system {
        record.owner = workspace.owner;
    }
    change::put_job(tx, record);
    change::change_workspace(tx, old, workspace);
    Ok(id)
}
