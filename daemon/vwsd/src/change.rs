//! How records change: a workspace's new value, its reservation and the event that tells of it always go together. The only place that
//! writes workspaces, reservations and jobs into a transaction.

use crate::core::{About, Tx};
use std::sync::Arc;
use vws_domain::{
    Address, Caller, Cause, Change, Error, Job, JobId, JobKind, JobState, Progress, Reservation, Result, State, StateEvent,
    Workspace,
};

/// What the workspace holds.
#[must_use]
pub fn reservation_of(workspace: &Workspace) -> Reservation {
    Reservation {
        workspace: workspace.id,
        name: workspace.spec.name.clone(),
        owner: workspace.owner,
        group: workspace.group.clone(),
        host: workspace.host.clone(),
        also_on: workspace.also_on.clone(),
        resources: workspace.resources,
        running: workspace.state.runs(),
        preemptible: workspace.spec.preemptible,
        labels: workspace.spec.labels.clone(),
        lease_from: workspace.lease.from,
        lease_until: workspace.lease.until,
        addresses: workspace.spec.nics.iter().filter(|nic| nic.address.is_some()).count() as u64,
    }
}

/// Writes a new workspace with its reservation and the addresses that its NICs got.
pub fn create_workspace(tx: &mut Tx<'_>, workspace: Workspace, addresses: Vec<Arc<Address>>) {
    let about = About { workspace: Some(workspace.id), job: workspace.job, host: workspace.host.clone(), image: None };
    tx.put(Change::PutReservation(Arc::new(reservation_of(&workspace))));
    for address in addresses {
        tx.put(Change::PutAddress(address));
    }
    tx.event(
        "workspace.created",
        about,
        workspace.owner,
        format!("workspace `{}` is {}", workspace.spec.name, workspace.state.name()),
    );
    tx.put(Change::PutWorkspace(Arc::new(workspace)));
}

/// Writes the new value of a workspace, its reservation if that changed, and one event. A workspace that is `gone` gives its
/// reservation and its addresses up: whoever makes it gone has seen the machine's absence. A serialized one keeps its addresses.
pub fn change_workspace(tx: &mut Tx<'_>, old: &Workspace, mut new: Workspace) {
    if *old == new {
        return;
    }
    new.version = old.version + 1;
    new.changed_at = tx.now;
    let about = About { workspace: Some(new.id), job: new.job, host: new.host.clone(), image: None };
    if new.state == State::Gone {
        tx.put(Change::ReleaseReservation(new.id));
        let held: Vec<Arc<Address>> = tx.site.addresses().held_by(new.id).cloned().collect();
        for address in held {
            tx.put(Change::PutAddress(Arc::new(Address { released_at: Some(tx.now), ..address.as_ref().clone() })));
        }
    } else {
        let reservation = reservation_of(&new);
        if tx.site.reservation(new.id).is_none_or(|held| **held != reservation) {
            tx.put(Change::PutReservation(Arc::new(reservation)));
        }
    }
    let (kind, text) = if old.state == new.state {
        ("workspace.changed", format!("workspace `{}` changed", new.spec.name))
    } else {
        let because = if new.cause.text.is_empty() { String::new() } else { format!(": {}", new.cause.text) };
        ("workspace.state", format!("workspace `{}` is {}{because}", new.spec.name, new.state.name()))
    };
    tx.event(kind, about, new.owner, text);
    tx.put(Change::PutWorkspace(Arc::new(new)));
}

/// The workspace after `event`, for `cause`.
///
/// # Errors
/// Internal: the event cannot happen in its state.
pub fn after(mut workspace: Workspace, event: StateEvent, code: &str, text: &str) -> Result<Workspace> {
    workspace.state = workspace.state.next(event).map_err(|illegal| Error::internal(workspace.object(), illegal.to_string()))?;
    workspace.cause = Cause { code: code.to_owned(), text: text.to_owned() };
    Ok(workspace)
}

/// Writes a job and the event that tells of it.
pub fn put_job(tx: &mut Tx<'_>, job: Job) {
    let about = About::job(&job);
    let what = job.kind.name();
    let (kind, text) = match job.state {
        JobState::Queued => ("job.accepted", format!("{what} accepted")),
        JobState::Running => ("job.progress", format!("{what}: {}", job.progress.phase)),
        JobState::Undoing => ("job.undoing", format!("{what} is being taken back: {}", job.progress.phase)),
        JobState::Done => ("job.ended", format!("{what} done{}", joined(&job.message))),
        JobState::Failed => {
            let why = job.error.as_ref().map(ToString::to_string).unwrap_or_default();
            ("job.ended", format!("{what} failed{}", joined(&why)))
        }
        JobState::Cancelled => ("job.ended", format!("{what} cancelled")),
    };
    tx.event(kind, about, job.owner, text);
    tx.put(Change::PutJob(Arc::new(job)));
}

fn joined(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// A queued job that somebody asked for, about nothing yet.
#[must_use]
pub fn new_job(tx: &Tx<'_>, id: JobId, kind: JobKind, caller: &Caller, args: String) -> Job {
    let steps = u32::try_from(crate::operate::steps_of(kind).len()).unwrap_or(u32::MAX);
    Job {
        id,
        kind,
        workspace: None,
        image: None,
        host: None,
        owner: caller.uid,
        actor: caller.user.clone(),
        args,
        state: JobState::Queued,
        step: 0,
        scratch: "{}".to_owned(),
        progress: Progress { steps, ..Progress::default() },
        cancel_requested: false,
        error: None,
        message: String::new(),
        created_at: tx.now,
        ended_at: None,
    }
}
