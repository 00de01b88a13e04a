//! Drain: takes every workspace off a host, live or through a bundle, each judged again when its turn comes. It never stops at the first
//! bad one: it reports on each, and fails at its end if some stay. What is done with a workspace is a job of its own, so that a drain
//! that is taken up after a restart finds them where they are.
//!
//! Must not know: the policies. Who judges and admits a move is handed in: [`Mover`].

use super::Operate;
use super::args::{self, DrainArgs};
use super::engine::{Effect, Run, Step, StepError, Undo};
use crate::change;
use crate::core::Tx;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use vws_domain::{Error, ErrorKind, HostName, Job, JobId, JobState, Result, State, Way, Workspace, WorkspaceId, ways_off};

/// The table.
pub static STEPS: &[Step] = &[Step {
    name: "moves",
    run: |run| Box::pin(moves(run)),
    undo: Undo::Nothing("what has moved stays where it is, and the host stays disabled"),
}];

/// Workspaces that are on their way at a time.
const MOVES_AT_ONCE: usize = 4;
/// How long another's job on a workspace is waited for before the workspace counts as one that stays.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(600);
/// A job is looked at at least so often.
const LOOK: Duration = Duration::from_millis(500);
/// Workspaces that a message names one by one.
const NAMED: usize = 20;

/// Judges and admits what a drain does with a workspace.
pub trait Mover: Send + Sync {
    /// Begins the next job that takes the workspace off its host: a migration, a serialize, or, out of the bundle, a restore.
    ///
    /// # Errors
    /// Why it cannot be: the refusal, recorded like every other.
    fn begin(&self, tx: &mut Tx<'_>, workspace: &Arc<Workspace>, way: Way) -> Result<JobId>;
}

/// What has become of a workspace.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Entry {
    name: String,
    /// The drain has put it into a bundle; and means to leave it there.
    bundled: bool,
    store: bool,
    ended: bool,
    /// It has left the host.
    left: bool,
    text: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Scratch {
    workspaces: BTreeMap<String, Entry>,
}

impl Scratch {
    fn read(operate: &Operate, job: JobId) -> Result<Self> {
        let text = operate.core.read(|site| site.job(job).map(|job| job.scratch.clone())).unwrap_or_else(|| "{}".to_owned());
        args::read(&text)
    }

    fn counts(&self) -> (usize, usize, usize) {
        let left = self.workspaces.values().filter(|entry| entry.left).count();
        let stay = self.workspaces.values().filter(|entry| entry.ended && !entry.left).count();
        (left, stay, self.workspaces.len())
    }

    fn lines(&self, pick: impl Fn(&Entry) -> bool) -> String {
        let picked: Vec<_> = self.workspaces.values().filter(|entry| pick(entry)).collect();
        let mut lines: Vec<String> = picked.iter().take(NAMED).map(|entry| format!("`{}` {}", entry.name, entry.text)).collect();
        if picked.len() > NAMED {
            lines.push(format!("and {} more", picked.len() - NAMED));
        }
        lines.join("; ")
    }

    fn message(&self) -> String {
        let (left, stay, all) = self.counts();
        let lines = self.lines(|entry| entry.ended);
        let stay = if stay > 0 { format!(", {stay} stay") } else { String::new() };
        let colon = if lines.is_empty() { "" } else { ": " };
        format!("{left} of {all} workspaces have left{stay}{colon}{lines}")
    }
}

async fn moves(run: &Run) -> std::result::Result<Effect, StepError> {
    let host = run.job.host.clone().ok_or_else(|| Error::internal("a drain", "has no host"))?;
    let args: DrainArgs = run.args()?;
    loop {
        let scratch = Scratch::read(&run.operate, run.job.id)?;
        let todo = todo(run, &host, &scratch);
        if todo.is_empty() || run.cancelled() {
            break;
        }
        for workspace in &todo {
            note(run, *workspace, |_| {}).await?;
        }
        let mut waiting = todo.into_iter();
        let mut at_work: FuturesUnordered<_> =
            waiting.by_ref().take(MOVES_AT_ONCE).map(|id| move_off(run, &host, args, id)).collect();
        while let Some(moved) = at_work.next().await {
            moved?;
            at_work.extend(waiting.next().map(|id| move_off(run, &host, args, id)));
        }
        if run.cancelled() {
            break;
        }
    }
    let scratch = Scratch::read(&run.operate, run.job.id)?;
    let (left, stay, all) = scratch.counts();
    let object = format!("drain of host `{host}`");
    if run.cancelled() {
        let fact = format!("was cancelled; {left} of {all} workspaces have left");
        let remedy = format!("the host stays disabled: `vws host enable {host}` lets new ones come again");
        return Err(Error::new(ErrorKind::Cancelled, object, fact, remedy).into());
    }
    if stay > 0 {
        let fact = format!("{stay} of {all} workspaces stay: {}", scratch.lines(|entry| entry.ended && !entry.left));
        let error = Error::new(ErrorKind::InvalidState, object, fact, "see to these and drain it again; the host stays disabled");
        return Err(error.with_code("workspaces-stay").into());
    }
    Ok(Box::new(move |edit| {
        edit.job.message = format!("{}; the host stays disabled", scratch.message());
        Ok(())
    }))
}

/// Workspaces that are on the host, or come to it, or were taken off it half-way, and of which nothing was reported yet.
fn todo(run: &Run, host: &HostName, scratch: &Scratch) -> Vec<WorkspaceId> {
    let ended = |id: WorkspaceId| scratch.workspaces.get(&id.to_string()).is_some_and(|entry| entry.ended);
    let begun = |id: WorkspaceId| scratch.workspaces.contains_key(&id.to_string());
    run.operate.core.read(|site| {
        let mut on_it: Vec<&Arc<Workspace>> = site
            .workspaces()
            .filter(|workspace| {
                let comes = workspace.also_on.as_ref() == Some(host) && workspace.job.is_some();
                let here = workspace.host.as_ref() == Some(host);
                !ended(workspace.id) && (here || comes || begun(workspace.id))
            })
            .collect();
        on_it.sort_by(|one, two| two.resources.memory_mib.cmp(&one.resources.memory_mib).then(one.id.cmp(&two.id)));
        on_it.into_iter().map(|workspace| workspace.id).collect()
    })
}

/// Changes what is noted of a workspace, and with it what the job tells.
async fn note(run: &Run, id: WorkspaceId, change: impl FnOnce(&mut Entry) + Send + 'static) -> Result<()> {
    run.operate
        .edit(run.job.id, move |edit| {
            let mut scratch: Scratch = args::read(&edit.job.scratch)?;
            let entry = scratch.workspaces.entry(id.to_string()).or_default();
            if let Some(workspace) = edit.tx.site.workspace(id) {
                entry.name.clone_from(&workspace.spec.name);
            }
            change(entry);
            edit.job.scratch = args::write(&scratch)?;
            let (left, stay, all) = scratch.counts();
            edit.job.message = scratch.message();
            edit.job.progress.done = (left + stay) as u64;
            edit.job.progress.total = all as u64;
            Ok(())
        })
        .await
}

async fn ends(run: &Run, id: WorkspaceId, left: bool, text: String) -> Result<()> {
    note(run, id, move |entry| {
        entry.ended = true;
        entry.left = left;
        entry.text = text;
    })
    .await
}

/// Takes one workspace off the host, in the best way that works. What fails is reported, not answered.
async fn move_off(run: &Run, host: &HostName, drain: DrainArgs, id: WorkspaceId) -> Result<()> {
    let mut tried: Vec<Way> = Vec::new();
    let mut reason = String::new();
    let began = Instant::now();
    loop {
        let entry = Scratch::read(&run.operate, run.job.id)?.workspaces.remove(&id.to_string()).unwrap_or_default();
        let (here, workspace) = run.operate.core.read(|site| (site.host(host).cloned(), site.workspace(id).cloned()));
        let (Some(here), Some(workspace)) = (here, workspace) else {
            return ends(run, id, true, "is gone".to_owned()).await;
        };
        if let Some(job) = workspace.job {
            if began.elapsed() > WAIT_FOR_OTHERS {
                return ends(run, id, false, "stays: a job of somebody else's is at work on it".to_owned()).await;
            }
            wait_for(run, job).await?;
            if run.cancelled() && workspace.host.as_ref() == Some(host) && !entry.bundled {
                return Ok(());
            }
            continue;
        }
        if workspace.state == State::Serialized {
            if !entry.bundled {
                return ends(run, id, true, "is in a bundle, as somebody asked".to_owned()).await;
            }
            if entry.store {
                return ends(run, id, true, "is in its bundle: no host has room for it".to_owned()).await;
            }
            // It was taken off to be brought back: that is done even if the drain was cancelled meanwhile.
            let brought = match begin(run, id, Way::Bundle).await {
                Ok(job) => ended_well(run, job).await?,
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = brought {
                return ends(run, id, true, format!("is in its bundle: {why}")).await;
            }
            continue;
        }
        if workspace.host.as_ref() != Some(host) {
            let now = workspace.host.as_ref().map_or("is on no host".to_owned(), |now| format!("is on host `{now}`"));
            return ends(run, id, true, now).await;
        }
        if run.cancelled() {
            return Ok(());
        }
        let ways = match ways_off(&here, &workspace, drain.evacuate) {
            Ok(ways) => ways,
            Err(why) => return ends(run, id, false, format!("stays: {why}")).await,
        };
        let Some(way) = ways.into_iter().find(|way| !tried.contains(way)) else {
            return ends(run, id, false, format!("stays: {reason}")).await;
        };
        match begin(run, id, way).await {
            Ok(job) => {
                if let Err(why) = ended_well(run, job).await? {
                    reason = why;
                    tried.push(way);
                }
            }
            Err(error) => {
                reason = error.to_string();
                tried.push(way);
            }
        }
    }
}

/// Begins a job on the workspace; that the drain did it is noted in the same transaction.
async fn begin(run: &Run, id: WorkspaceId, way: Way) -> Result<JobId> {
    let mover = run.operate.mover.get().cloned().ok_or_else(|| Error::internal("a drain", "nobody admits its moves"))?;
    let drain = run.job.id;
    run.operate
        .core
        .transact(move |tx| {
            let Some(workspace) = tx.site.workspace(id).cloned() else { return Err(Error::not_found(format!("workspace {id}"))) };
            if workspace.job.is_some() {
                return Err(Error::new(ErrorKind::Busy, workspace.object(), "another job is at work on it", "drain again"));
            }
            let Some(job) = tx.site.job(drain).cloned() else { return Err(Error::internal("a drain", "is forgotten")) };
            let mut scratch: Scratch = args::read(&job.scratch)?;
            let begun = mover.begin(tx, &workspace, way)?;
            if workspace.state != State::Serialized {
                let entry = scratch.workspaces.entry(id.to_string()).or_default();
                entry.bundled = way != Way::Live;
                entry.store = way == Way::Store;
            }
            let mut job = job.as_ref().clone();
            job.scratch = args::write(&scratch)?;
            change::put_job(tx, job);
            Ok(begun)
        })
        .await
}

/// Waits for a job of the drain's own; why it did not end well.
async fn ended_well(run: &Run, id: JobId) -> Result<std::result::Result<(), String>> {
    let job = wait_for(run, id).await?;
    Ok(match job {
        Some(job) if job.state != JobState::Done => Err(job.error.as_ref().map(ToString::to_string).unwrap_or_default()),
        _ => Ok(()),
    })
}

/// Waits until a job has ended. If the drain is cancelled, its own jobs are asked to stop, others' are no longer waited for.
async fn wait_for(run: &Run, id: JobId) -> Result<Option<Arc<Job>>> {
    let mut events = run.operate.core.events();
    let mut cancel = run.cancel_flag();
    let mut told = false;
    let began = Instant::now();
    loop {
        let Some(job) = run.operate.core.read(|site| site.job(id).cloned()) else { return Ok(None) };
        if job.state.ended() {
            return Ok(Some(job));
        }
        let own = job.actor == ACTOR;
        if !own && (run.cancelled() || began.elapsed() > WAIT_FOR_OTHERS) {
            return Ok(Some(job));
        }
        if own && run.cancelled() && !told {
            told = true;
            stop(run, id).await?;
        }
        tokio::select! {
            _ = events.recv() => {}
            _ = cancel.changed(), if !told => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Name of the system actor that a drain's jobs have.
pub const ACTOR: &str = "vwsd/drain";

/// Asks a job to stop, if it can still be taken back.
async fn stop(run: &Run, id: JobId) -> Result<()> {
    run.operate
        .core
        .transact(move |tx| {
            if let Some(job) = tx.site.job(id).filter(|job| !job.state.ended() && !super::past_return(job)).cloned() {
                let mut job = job.as_ref().clone();
                job.cancel_requested = true;
                change::put_job(tx, job);
            }
            Ok(())
        })
        .await?;
    run.operate.wake_cancelled(id);
    Ok(())
}
