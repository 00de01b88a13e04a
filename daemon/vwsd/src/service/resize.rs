//! Resize and snapshots: what changes about a workspace's machine while it stays what and where it is.

use super::act::{ask, denied};
use super::{CallOptions, Service, answered, digest_of, remember, seen};
use crate::admit::{self, Asked};
use crate::operate::args::{self, ResizeArgs, SizesArgs, SnapshotArgs};
use crate::operate::{NewJob, begin, resources_of};
use std::sync::Arc;
use vws_domain::{
    Boot, Caller, JobId, JobKind, Part, Resize, Resources, Result, Site, Sizes, State, Verb, Workspace, WorkspaceId,
    new_snapshot, resized, snapshot_named,
};

/// What is to be done with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotAct {
    /// Make it; with memory or without.
    Make {
        /// With memory.
        memory: bool,
    },
    /// Go back to it.
    Revert,
    /// Drop it.
    Remove,
}

/// A resize of this workspace, ready to be judged, and the sizes that it leads to.
///
/// # Errors
/// What makes it impossible whatever the policies say.
pub(super) fn prepare(site: &Site, caller: &Caller, workspace: &Arc<Workspace>, change: &Resize) -> Result<(Asked, Sizes)> {
    let running_on = match workspace.state {
        State::Stopped => None,
        State::Running => Some(
            workspace
                .host
                .as_ref()
                .and_then(|name| site.host(name))
                .ok_or_else(|| vws_domain::Error::internal(workspace.object(), "runs on a host that is not known"))?,
        ),
        other => {
            return Err(denied(
                workspace,
                &format!("is {}: it can be resized while it runs or is stopped", other.name()),
                "wait until it is at rest; a paused one is resumed first",
                "state",
            ));
        }
    };
    let root = workspace.images.first().copied().flatten().and_then(|id| site.image(id));
    let sizes = resized(&workspace.spec, root.map_or(0, |image| image.virtual_size_mib), running_on.map(AsRef::as_ref), change)?;
    let mut wanted = workspace.as_ref().clone();
    Part::ALL.into_iter().for_each(|part| sizes.put(part, &mut wanted.spec));
    let mut asked = ask(site, caller, workspace, Verb::Resize, None, None)?;
    let boot: Option<Boot> = root.map(|image| image.boot.clone());
    asked.request.resources = resources_of(site, &wanted);
    asked.request.needs = admit::needs(site, &wanted.spec, boot.as_ref());
    Ok((asked, sizes))
}

fn larger(one: Resources, two: Resources) -> Resources {
    Resources {
        vcpus: one.vcpus.max(two.vcpus),
        memory_mib: one.memory_mib.max(two.memory_mib),
        disk_gib: one.disk_gib.max(two.disk_gib),
    }
}

fn at_rest(site: &Site, workspace: &Workspace) -> Result<()> {
    match workspace.job.and_then(|job| site.job(job)).filter(|job| !job.state.ended()) {
        None => Ok(()),
        Some(job) => Err(denied(
            workspace,
            &format!("a {} job is at work on it", job.kind.name()),
            &format!("wait for it, or `vws cancel {}`", job.id),
            "job-at-work",
        )),
    }
}

impl Service {
    /// Resizes a workspace. `None`: it has these sizes already.
    ///
    /// # Errors
    /// NotFound, AccessDenied, QuotaExceeded, NoHost, PolicyFailure, InvalidArgument, InvalidState, Unsupported, Conflict.
    pub async fn resize(&self, caller: &Caller, id: WorkspaceId, change: Resize, options: CallOptions) -> Result<Option<JobId>> {
        let digest = digest_of(&format!("resize {id} {change:?}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                let workspace = seen(tx.site, &policies, &caller, id)?;
                if let Some(known) = answered(tx.site, &caller, &options, &digest)? {
                    return Ok(known.job);
                }
                at_rest(tx.site, &workspace)?;
                let (asked, mut new) = prepare(tx.site, &caller, &workspace, &change)?;
                let judged = admit::gate(tx, &policies, asked)?;
                // The policies may have granted less.
                new.memory_mib = judged.request.resources.memory_mib;
                new.vcpus = judged.request.resources.vcpus;
                let old = Sizes::of(&workspace.spec);
                if new == old {
                    remember(tx, &caller, &options, &digest, Some(id), None, None);
                    return Ok(None);
                }
                let mut next = workspace.as_ref().clone();
                next.resources = larger(workspace.resources, judged.request.resources);
                let args = args::write(&ResizeArgs { old: SizesArgs::from(&old), new: SizesArgs::from(&new) })?;
                let job = begin(tx, &workspace, next, NewJob { kind: JobKind::Resize, args }, &caller, "requested")?;
                remember(tx, &caller, &options, &digest, Some(id), Some(job), None);
                Ok(Some(job))
            })
            .await
    }

    /// Makes, goes back to or drops a snapshot.
    ///
    /// # Errors
    /// NotFound, AccessDenied, PolicyFailure, InvalidArgument, AlreadyExists, InvalidState, Unsupported, Busy, Conflict.
    pub async fn snapshot(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        name: &str,
        act: SnapshotAct,
        options: CallOptions,
    ) -> Result<JobId> {
        let digest = digest_of(&format!("snapshot {id} {name} {act:?}"));
        let (caller, name) = (caller.clone(), name.to_owned());
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                let workspace = seen(tx.site, &policies, &caller, id)?;
                if let Some(job) = answered(tx.site, &caller, &options, &digest)?.and_then(|known| known.job) {
                    return Ok(job);
                }
                let verb = if act == SnapshotAct::Revert { Verb::Revert } else { Verb::Snapshot };
                admit::gate(tx, &policies, ask(tx.site, &caller, &workspace, verb, None, None)?)?;
                at_rest(tx.site, &workspace)?;
                let (kind, memory) = possible(tx.site, &workspace, &name, act)?;
                let args = args::write(&SnapshotArgs { name: name.clone(), memory })?;
                let job = begin(tx, &workspace, workspace.as_ref().clone(), NewJob { kind, args }, &caller, "requested")?;
                remember(tx, &caller, &options, &digest, Some(id), Some(job), None);
                Ok(job)
            })
            .await
    }
}

/// The job of a snapshot act, and whether memory is part of it.
fn possible(site: &Site, workspace: &Workspace, name: &str, act: SnapshotAct) -> Result<(JobKind, bool)> {
    match act {
        SnapshotAct::Make { memory } => {
            new_snapshot(workspace, name, memory)?;
            super::act::offered(site, workspace, if memory { "snapshot-memory" } else { "snapshot" })?;
            Ok((JobKind::Snapshot, memory))
        }
        SnapshotAct::Remove => match workspace.state {
            State::Running | State::Paused | State::Stopped => {
                Ok((JobKind::RemoveSnapshot, snapshot_named(workspace, name)?.memory))
            }
            other => Err(denied(workspace, &format!("is {}", other.name()), "wait until it is at rest", "state")),
        },
        SnapshotAct::Revert => {
            let snapshot = snapshot_named(workspace, name)?;
            match (workspace.state, snapshot.memory) {
                (State::Stopped, _) | (State::Running | State::Paused, true) => Ok((JobKind::Revert, snapshot.memory)),
                (State::Running | State::Paused, false) => Err(denied(
                    workspace,
                    &format!("is {}, and snapshot `{name}` has no memory to go on with", workspace.state.name()),
                    "stop it first",
                    "state",
                )),
                (other, _) => Err(denied(workspace, &format!("is {}", other.name()), "wait until it is at rest", "state")),
            }
        }
    }
}
