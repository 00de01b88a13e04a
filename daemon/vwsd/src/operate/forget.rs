//! Forget: removes what a move left on a host that did not answer then. Begun when the host answers again and the ledger still holds
//! room there ([`Operate::begin_forgets`]); the room is given back when the machine's absence was seen.
//!
//! It is no job of the workspace, which runs elsewhere meanwhile and must not wait for a host that it has left.

use super::Operate;
use super::args::{self, ForgetArgs, MigrateArgs};
use super::engine::{Effect, Run, Step, StepError, Undo};
use crate::change;
use crate::core::Tx;
use std::sync::Arc;
use vws_domain::{Caller, Error, HostName, Job, JobKind, JobState, Result, Site, Timestamp, Workspace, WorkspaceId};

/// The table.
pub static STEPS: &[Step] = &[Step {
    name: "forget",
    run: |run| Box::pin(forget(run)),
    undo: Undo::Nothing("what is left stays accounted for, and is tried again when the host is looked at"),
}];

/// Seconds until one that failed is tried again.
const AGAIN_SECONDS: u64 = 600;

async fn forget(run: &Run) -> std::result::Result<Effect, StepError> {
    let args: ForgetArgs = run.args()?;
    let id = WorkspaceId::parse(&args.workspace)?;
    let host = run.job.host.clone().ok_or_else(|| Error::internal("a forget job", "has no host"))?;
    super::migrate::remove_left(run, &host, &args.workspace, args.keep_disks)
        .await
        .map_err(|error| StepError { error, may_pass: true })?;
    Ok(Box::new(move |edit| {
        edit.job.message = format!("nothing of it is left on host `{host}`");
        if let Some(old) = edit.tx.site.workspace(id).cloned()
            && old.also_on.as_ref() == Some(&host)
        {
            let mut new = old.as_ref().clone();
            new.also_on = None;
            change::change_workspace(edit.tx, &old, new);
        }
        Ok(())
    }))
}

/// Whether the disks on the two hosts of a moved workspace are the same ones: as the hosts say now, or as they said when it moved.
#[must_use]
pub fn keeps_disks(site: &Site, workspace: &Workspace) -> bool {
    let storage = |name: &Option<HostName>| {
        let host = name.as_ref().and_then(|name| site.host(name));
        host.map(|host| host.facts.storage_id.clone()).filter(|id| !id.is_empty())
    };
    let (one, two) = (storage(&workspace.host), storage(&workspace.also_on));
    let same_now = one.is_some() && one == two;
    let moves = |job: &&Arc<Job>| job.kind == JobKind::Migrate && job.workspace == Some(workspace.id);
    let shared_then = site.jobs().filter(moves).any(|job| {
        let named = args::read::<MigrateArgs>(&job.args).is_ok_and(|args| args.shares_storage());
        let offered = serde_json::from_str::<serde_json::Value>(&job.scratch)
            .is_ok_and(|scratch| scratch.pointer("/offer/shared").and_then(serde_json::Value::as_bool).unwrap_or(false));
        named || offered
    });
    same_now || shared_then
}

impl Operate {
    /// Begins to remove what moves left on a host that answers: in the transaction that looks at it.
    ///
    /// # Errors
    /// Internal: arguments that JSON cannot hold.
    pub(super) fn begin_forgets(tx: &mut Tx<'_>, name: &HostName, seen_at: Timestamp) -> Result<()> {
        let left: Vec<_> = tx
            .site
            .workspaces()
            .filter(|workspace| workspace.also_on.as_ref() == Some(name) && workspace.job.is_none())
            .filter(|workspace| workspace.changed_at <= seen_at)
            .cloned()
            .collect();
        for workspace in left {
            let text =
                args::write(&ForgetArgs { workspace: workspace.id.to_string(), keep_disks: keeps_disks(tx.site, &workspace) })?;
            let now = tx.now;
            let about_it = |job: &&Arc<Job>| {
                let same = args::read::<ForgetArgs>(&job.args).is_ok_and(|args| args.workspace == workspace.id.to_string());
                job.kind == JobKind::Forget && job.host.as_ref() == Some(name) && same
            };
            let too_soon = tx.site.jobs().filter(about_it).any(|job| {
                !job.state.ended()
                    || (job.state == JobState::Failed
                        && job.ended_at.is_some_and(|ended| now.seconds_since(ended) < AGAIN_SECONDS))
            });
            if too_soon {
                continue;
            }
            let id = vws_domain::JobId(tx.id());
            let mut job = change::new_job(tx, id, JobKind::Forget, &Caller::system("reconcile"), text);
            job.host = Some(name.clone());
            job.owner = workspace.owner;
            change::put_job(tx, job);
        }
        Ok(())
    }
}
