//! A new cluster: its members were admitted together and have create jobs of their own. This job sees all of them to their end; if one
//! fails, or somebody cancels, all are taken back: a cluster is there as a whole or not at all.

use super::Operate;
use super::args::ClusterArgs;
use super::engine::{Effect, Run, Step, StepError, Undo, nothing};
use super::lease::{NewJob, begin};
use crate::change;
use vws_domain::{Caller, Error, ErrorKind, JobId, JobKind, JobState, Result, Workspace, WorkspaceId};

/// The table.
pub static STEPS: &[Step] =
    &[Step { name: "members", run: |run| Box::pin(members(run)), undo: Undo::By(|run| Box::pin(take_back(run))) }];

/// What has become of the members so far: how many are there, and the first failure.
fn progress(operate: &Operate, args: &ClusterArgs) -> Result<(u64, Option<Error>)> {
    operate.core.read(|site| {
        let mut there = 0;
        for member in &args.members {
            let id = WorkspaceId::parse(&member.workspace)?;
            let job = site.job(JobId::parse(&member.job)?);
            match job.map(|job| job.state) {
                Some(JobState::Queued | JobState::Running | JobState::Undoing) => {}
                Some(JobState::Failed | JobState::Cancelled) => {
                    let why = job.and_then(|job| job.error.clone()).map_or_else(String::new, |error| error.to_string());
                    return Ok((there, Some(failed(&member.name, &why))));
                }
                // A job that is no longer shown has ended; whether well is seen by its workspace.
                Some(JobState::Done) | None if site.workspace(id).is_some() => there += 1,
                Some(JobState::Done) | None => return Ok((there, Some(failed(&member.name, "it has ended meanwhile")))),
            }
        }
        Ok((there, None))
    })
}

fn failed(member: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::BackendFailure,
        format!("member `{member}`"),
        format!("could not be made: {why}"),
        "the other members are taken back; mend the cause and ask again",
    )
    .with_code("member-failed")
}

/// Waits for all members.
async fn members(run: &Run) -> std::result::Result<Effect, StepError> {
    let args: ClusterArgs = run.args()?;
    let total = args.members.len() as u64;
    let mut events = run.operate.core.events();
    let mut cancel = run.cancel_flag();
    loop {
        if run.cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, format!("cluster `{}`", args.cluster), "was cancelled", "").into());
        }
        let (there, failure) = progress(&run.operate, &args)?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        run.progress(there, total);
        if there == total {
            break;
        }
        tokio::select! {
            // A receiver that fell behind looks at everything again, as it does after each event.
            _ = events.recv() => {}
            _ = cancel.changed() => {}
        }
    }
    let message = format!("cluster `{}` has {total} members", args.cluster);
    Ok(Box::new(move |edit| {
        edit.job.message = message;
        Ok(())
    }))
}

/// Ends every member that is there, and waits until each was seen to be gone.
async fn take_back(run: &Run) -> std::result::Result<Effect, StepError> {
    let args: ClusterArgs = run.args()?;
    let ids: Vec<WorkspaceId> = args.members.iter().map(|member| WorkspaceId::parse(&member.workspace)).collect::<Result<_>>()?;
    let mut events = run.operate.core.events();
    for id in &ids {
        run.operate.end_workspace(*id, "cluster").await?;
    }
    while run.operate.core.read(|site| ids.iter().any(|id| site.workspace(*id).is_some())) {
        let _ = events.recv().await;
    }
    Ok(nothing())
}

impl Operate {
    /// Destroys a workspace as the daemon's own act; what is at work on it is cancelled first. Gone is success.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn end_workspace(&self, id: WorkspaceId, actor: &'static str) -> Result<()> {
        let cancelled = self
            .core
            .transact(move |tx| {
                let Some(workspace) = tx.site.workspace(id).cloned() else { return Ok(None) };
                let at_work = workspace.job.and_then(|job| tx.site.job(job)).filter(|job| !job.state.ended()).cloned();
                if at_work.as_ref().is_some_and(|job| job.kind == JobKind::Destroy) {
                    return Ok(None);
                }
                let cancelled = at_work.as_ref().map(|job| job.id);
                if let Some(job) = at_work {
                    change::put_job(tx, vws_domain::Job { cancel_requested: true, ..job.as_ref().clone() });
                }
                let next: Workspace = workspace.as_ref().clone();
                let job = NewJob { kind: JobKind::Destroy, args: "{}".to_owned() };
                begin(tx, &workspace, next, job, &Caller::system(actor), "cluster-failed")?;
                Ok(cancelled)
            })
            .await?;
        if let Some(job) = cancelled {
            self.wake_cancelled(job);
        }
        Ok(())
    }
}
