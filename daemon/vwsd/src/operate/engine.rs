//! The engine: takes a job through its table of steps, forward, or back when a step fails or somebody cancels.
//!
//! ```text
//! queued -> running: step 0 .. n -> done
//!             | a step failed, or cancel            (before a point of no return)
//!             v
//!           undoing: step k .. 0 -> failed | cancelled      an undo fails -> failed, workspace broken
//!                                                           its host is away -> it waits for it: see `away`
//! ```
//!
//! `job.step` on disk is the next step to do (or to undo). A step is repeated after a crash with the same key, so every call it makes
//! must be idempotent by that key; what it found goes into the same transaction that moves `job.step` on.

use super::away::Waited;
use super::{Operate, args};
use crate::change;
use crate::core::Tx;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use vws_backend::CallError;
use vws_domain::{
    Cause, Error, ErrorKind, HostName, Job, JobId, JobKind, JobState, Progress, Result, State, StateEvent, Workspace,
};
use vws_plugin_api::doc;

/// What a step's future answers.
pub type StepFuture<'a> = Pin<Box<dyn Future<Output = std::result::Result<Effect, StepError>> + Send + 'a>>;

/// What a step found out, written in the transaction that ends the step.
pub type Effect = Box<dyn FnOnce(&mut Edit<'_, '_>) -> Result<()> + Send>;

/// One step of a job.
pub struct Step {
    /// Its name: a part of the idempotency key, and the phase that people see.
    pub name: &'static str,
    /// Does it.
    pub run: for<'a> fn(&'a Run) -> StepFuture<'a>,
    /// Takes it back.
    pub undo: Undo,
}

/// How a step is taken back.
pub enum Undo {
    /// By this.
    By(for<'a> fn(&'a Run) -> StepFuture<'a>),
    /// Nothing is needed; why.
    Nothing(&'static str),
    /// It cannot be taken back, and from here on the job only goes forward: it is tried until it works; why.
    Never(&'static str),
}

/// Why a step failed.
#[derive(Clone, Debug)]
pub struct StepError {
    /// The failure.
    pub error: Error,
    /// Whether it may pass by itself.
    pub may_pass: bool,
}

impl StepError {
    /// The same, with the host in the message: a plugin names what it worked on, and may leave out where.
    fn on(mut self, host: &HostName) -> Self {
        let named = format!("host `{host}`");
        if !self.error.object.contains(&named) && !self.error.fact.contains(&named) {
            self.error.fact = format!("on {named}: {}", self.error.fact);
        }
        self
    }
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        Self { error, may_pass: false }
    }
}

impl From<CallError> for StepError {
    fn from(error: CallError) -> Self {
        let may_pass = match &error {
            // It had its time: to give it the same again would only be told later.
            CallError::Failure(failure) => failure.retry != doc::Retry::Never && failure.code != doc::codes::TIMED_OUT,
            CallError::TimedOut { .. } => false,
            _ => true,
        };
        Self { error: error.into(), may_pass }
    }
}

/// When a call is cancelled before its deadline.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// Never.
    Never,
    /// When its job is.
    WithJob,
    /// After so long: time for the plugin to join what is at work already, and then to end it.
    After(Duration),
}

impl Ending {
    async fn after(self) {
        match self {
            Self::After(time) => tokio::time::sleep(time).await,
            Self::Never | Self::WithJob => std::future::pending().await,
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug)]
pub struct CallFailed {
    /// The failure.
    pub error: StepError,
    /// Whether the plugin answered it, from what it knows of the hypervisor. Otherwise nothing is known of what the call did or does.
    pub answered: bool,
}

impl From<CallError> for CallFailed {
    fn from(error: CallError) -> Self {
        let unknown = [doc::codes::UNREACHABLE, doc::codes::TIMED_OUT, doc::codes::INTERNAL];
        let answered = matches!(&error, CallError::Failure(failure) if !unknown.contains(&failure.code.as_str()));
        Self { error: error.into(), answered }
    }
}

/// The cause of a workspace of which a job could not be taken back.
const UNDO_FAILED: &str = "undo-failed";

/// A job's records being changed in one transaction.
pub struct Edit<'a, 't> {
    /// The transaction.
    pub tx: &'a mut Tx<'t>,
    /// The job.
    pub job: Job,
    /// The workspace it works on, if it still is.
    pub workspace: Option<Workspace>,
}

impl Edit<'_, '_> {
    /// Lets `event` happen to the workspace.
    ///
    /// # Errors
    /// Internal: it cannot happen in the workspace's state.
    pub fn state(&mut self, event: StateEvent, code: &str, text: &str) -> Result<()> {
        if let Some(workspace) = self.workspace.take() {
            self.workspace = Some(change::after(workspace, event, code, text)?);
        }
        Ok(())
    }

    /// Whether an undo before this one failed: then nobody knows what is left on the host, and nothing that it may hold is given up.
    pub fn in_doubt(&self) -> bool {
        self.workspace.as_ref().is_some_and(|workspace| workspace.cause.code == UNDO_FAILED)
    }

    /// Changes the workspace.
    pub fn workspace(&mut self, edit: impl FnOnce(&mut Workspace)) {
        if let Some(workspace) = &mut self.workspace {
            edit(workspace);
        }
    }
}

/// Progress of a call, on its way to the store.
#[derive(Clone, Debug)]
pub struct Report {
    /// The job.
    pub job: JobId,
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// A job at work.
pub struct Run {
    /// The operations.
    pub operate: Arc<Operate>,
    /// The job as it was when the step began.
    pub job: Job,
    /// The workspace as it was when the step began.
    pub workspace: Option<Arc<Workspace>>,
    /// Name of the step at work.
    pub step: &'static str,
    cancel: watch::Receiver<bool>,
    undoing: bool,
}

impl Run {
    /// The workspace.
    ///
    /// # Errors
    /// Internal: the job has none.
    pub fn workspace(&self) -> Result<&Arc<Workspace>> {
        self.workspace.as_ref().ok_or_else(|| Error::internal("a job", format!("job {} has no workspace", self.job.id)))
    }

    /// The host the workspace is on.
    ///
    /// # Errors
    /// Internal: it is on none.
    pub fn host(&self) -> Result<HostName> {
        let workspace = self.workspace()?;
        workspace.host.clone().ok_or_else(|| Error::internal(workspace.object(), "is on no host"))
    }

    /// Arguments of the job.
    ///
    /// # Errors
    /// Internal: they are not what this version writes.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T> {
        args::read(&self.job.args)
    }

    /// Calls the host's backend under the step's key. While it runs, a cancellation of the job is passed on.
    ///
    /// # Errors
    /// What the backend answers.
    pub async fn call<A: Serialize + Sync, R: DeserializeOwned>(
        &self,
        host: &HostName,
        method: &str,
        args: &A,
        deadline: Duration,
        fds: Vec<OwnedFd>,
    ) -> std::result::Result<(R, Vec<OwnedFd>), StepError> {
        let ending = if self.undoing { Ending::Never } else { Ending::WithJob };
        self.ask(host, method, args, deadline, fds, ending).await.map_err(|failed| failed.error)
    }

    /// Calls the host's backend, and says of a failure whether the plugin answered it. `ending` says when the call is cancelled.
    ///
    /// # Errors
    /// What the backend answers.
    pub async fn ask<A: Serialize + Sync, R: DeserializeOwned>(
        &self,
        host: &HostName,
        method: &str,
        args: &A,
        deadline: Duration,
        fds: Vec<OwnedFd>,
        ending: Ending,
    ) -> std::result::Result<(R, Vec<OwnedFd>), CallFailed> {
        // After a start of the daemon a job may be taken up before its host's watcher has opened the host.
        let unanswered = |error: StepError| CallFailed { error, answered: false };
        self.operate.open_host(host).await.map_err(|error| {
            unanswered(StepError {
                may_pass: matches!(error.kind, ErrorKind::HostUnavailable | ErrorKind::BackendFailure | ErrorKind::TimedOut),
                error,
            })
        })?;
        let turn = self.operate.calls_on(host);
        let _turn =
            turn.acquire().await.map_err(|error| unanswered(Error::internal("a host's queue", error.to_string()).into()))?;
        let back = if self.undoing { "/undo" } else { "" };
        let id = format!("{}/{}{back}/{method}", self.job.id, self.step);
        let call = self.operate.backends.call(host.as_str(), method, &id, args, deadline, fds);
        tokio::pin!(call);
        let mut cancel = self.cancel.clone();
        let mut told = false;
        loop {
            tokio::select! {
                answer = &mut call => {
                    return answer.map_err(|error| {
                        let mut failed = CallFailed::from(error);
                        failed.error = failed.error.on(host);
                        failed
                    });
                }
                changed = cancel.changed(), if !told && matches!(ending, Ending::WithJob) => {
                    told = true;
                    if changed.is_ok() {
                        self.operate.backends.cancel(host.as_str(), &id);
                    }
                }
                () = ending.after(), if !told && matches!(ending, Ending::After(_)) => {
                    told = true;
                    self.operate.backends.cancel(host.as_str(), &id);
                }
            }
        }
    }

    /// Tells how far the step is.
    pub fn progress(&self, done: u64, total: u64) {
        let _ = self.operate.progress.send(Report { job: self.job.id, done, total });
    }

    /// Whether somebody asked to cancel the job.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        !self.undoing && *self.cancel.borrow()
    }

    /// Whether the step is being taken back.
    #[must_use]
    pub fn undoing(&self) -> bool {
        self.undoing
    }

    /// A receiver that becomes true when the job is cancelled: for work on other threads.
    #[must_use]
    pub fn cancel_flag(&self) -> watch::Receiver<bool> {
        self.cancel.clone()
    }
}

/// The effect of a step that found out nothing.
pub fn nothing() -> Effect {
    Box::new(|_| Ok(()))
}

/// The table of a kind of job.
#[must_use]
pub fn steps_of(kind: JobKind) -> &'static [Step] {
    match kind {
        JobKind::Create => super::create::STEPS,
        JobKind::Start => super::power::START,
        JobKind::Stop => super::power::STOP,
        JobKind::Reboot => super::power::REBOOT,
        JobKind::Pause => super::power::PAUSE,
        JobKind::Resume => super::power::RESUME,
        JobKind::Serialize => super::serialize::STEPS,
        JobKind::Restore => super::restore::STEPS,
        JobKind::SaveImage => super::image::SAVE,
        JobKind::Destroy => super::destroy::STEPS,
        JobKind::ImportImage => super::image::IMPORT,
        JobKind::VerifyImage => super::image::VERIFY,
        JobKind::ProbeHost => super::probe::STEPS,
        JobKind::Resize => super::resize::STEPS,
        JobKind::Snapshot => super::snapshot::SNAPSHOT,
        JobKind::Revert => super::snapshot::REVERT,
        JobKind::RemoveSnapshot => super::snapshot::REMOVE,
        JobKind::CreateCluster => super::cluster::STEPS,
        JobKind::ExportBundle => super::bundle::EXPORT,
        JobKind::ImportBundle => super::bundle::IMPORT,
        JobKind::VerifyBundle => super::bundle::VERIFY,
        JobKind::Migrate => super::migrate::STEPS,
        JobKind::Forget => super::forget::STEPS,
        JobKind::Drain => super::drain::STEPS,
    }
}

/// Whether the job only goes forward now.
#[must_use]
pub fn past_return(job: &Job) -> bool {
    steps_of(job.kind).iter().take(job.step as usize + 1).any(|step| matches!(step.undo, Undo::Never(_)))
}

impl Operate {
    /// Takes one job to its end.
    pub(super) async fn drive(self: Arc<Self>, id: JobId) {
        let Some(job) = self.core.read(|site| site.job(id).cloned()) else { return };
        let (cancel, cancelled) = watch::channel(job.cancel_requested);
        {
            // A job is announced by each transaction that leaves it queued; it is driven once.
            let mut driving = self.driving.lock().unwrap_or_else(PoisonError::into_inner);
            if driving.contains_key(&id) {
                return;
            }
            driving.insert(id, cancel);
        }
        let order = job.workspace.map(|workspace| self.order_of(workspace));
        let turn = match &order {
            Some(order) => Some(order.lock().await),
            None => None,
        };
        let ended = self.persist(id, cancelled).await;
        drop(turn);
        self.driving.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.drop_handed(id);
        if ended.is_ok() {
            self.let_go(id).await;
        }
        if let Err(error) = ended {
            // A defect: the job stays as it is on disk and is taken up at the next start.
            tracing::error!(%error, detail = %error.detail, job = %id, "a job stopped where it is");
        }
    }

    /// Takes the job on, also past a store that cannot write for a while: its steps are made to be repeated.
    async fn persist(self: &Arc<Self>, id: JobId, cancel: watch::Receiver<bool>) -> Result<()> {
        let mut pause = self.limits.retry_first;
        loop {
            match self.advance(id, cancel.clone()).await {
                Err(error) if error.kind == ErrorKind::NoSpace || matches!(error.code.as_str(), "store-failed" | "sequence") => {
                    tracing::warn!(job = %id, %error, detail = %error.detail, "a job waits until its progress can be recorded");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.limits.retry_most);
                }
                ended => return ended,
            }
        }
    }

    async fn advance(self: &Arc<Self>, id: JobId, cancel: watch::Receiver<bool>) -> Result<()> {
        loop {
            let Some((job, workspace)) = self.core.read(|site| {
                site.job(id)
                    .map(|job| (job.as_ref().clone(), job.workspace.and_then(|workspace| site.workspace(workspace)).cloned()))
            }) else {
                return Ok(());
            };
            let steps = steps_of(job.kind);
            match job.state {
                JobState::Done | JobState::Failed | JobState::Cancelled => return Ok(()),
                JobState::Queued => {
                    self.edit(id, |edit| {
                        edit.job.state = JobState::Running;
                        edit.job.progress = progress_of(steps, 0);
                        Ok(())
                    })
                    .await?;
                }
                JobState::Running => {
                    let index = job.step as usize;
                    let Some(step) = steps.get(index) else {
                        self.finish(id).await?;
                        continue;
                    };
                    let forward_only = past_return(&job);
                    if job.cancel_requested && !forward_only {
                        self.turn_back(id, steps, cancelled_error(&job)).await?;
                        continue;
                    }
                    let run = Run {
                        operate: Arc::clone(self),
                        job,
                        workspace,
                        step: step.name,
                        cancel: cancel.clone(),
                        undoing: false,
                    };
                    match self.attempt(&run, step.run, forward_only).await {
                        Ok(effect) => self.step_done(id, steps, effect).await?,
                        Err(error) => self.turn_back(id, steps, error.error).await?,
                    }
                }
                JobState::Undoing => {
                    let (effect, undo_error) = match steps.get(job.step as usize) {
                        Some(Step { name, undo: Undo::By(undo), .. }) => {
                            let run = Run {
                                operate: Arc::clone(self),
                                job,
                                workspace,
                                step: name,
                                cancel: cancel.clone(),
                                undoing: true,
                            };
                            match self.attempt(&run, *undo, false).await {
                                Ok(effect) => (effect, None),
                                Err(error) => {
                                    tracing::error!(job = %id, step = name, error = %error.error, "an undo failed");
                                    (nothing(), Some(error.error))
                                }
                            }
                        }
                        _ => (nothing(), None),
                    };
                    self.undo_done(id, steps, effect, undo_error).await?;
                }
            }
        }
    }

    /// Runs a step, again and again while its failure may pass: a limited number of times, or for ever when the job cannot go back.
    /// For a host that is away a job that can only end there waits, and that is no try.
    async fn attempt(
        &self,
        run: &Run,
        step: for<'a> fn(&'a Run) -> StepFuture<'a>,
        for_ever: bool,
    ) -> std::result::Result<Effect, StepError> {
        let mut pause = self.limits.retry_first;
        let mut tries = 0;
        loop {
            let error = match step(run).await {
                Ok(effect) => return Ok(effect),
                Err(error) => error,
            };
            if (for_ever || run.undoing)
                && let Some(host) = self.away(run, &error.error).await
            {
                match self.wait_for(run, &host).await? {
                    Waited::Back => {
                        tokio::time::sleep(self.limits.retry_first).await;
                        continue;
                    }
                    Waited::TakenOver => return Err(error),
                }
            }
            tries += 1;
            let may_pass = error.may_pass || (run.undoing && error.error.kind == ErrorKind::TimedOut);
            let again = for_ever || (may_pass && tries < self.limits.step_tries && !run.cancelled());
            if !again {
                return Err(error);
            }
            tracing::warn!(job = %run.job.id, step = run.step, tries, error = %error.error, detail = %error.error.detail, "a step is tried again");
            let host = run.workspace.as_ref().and_then(|workspace| workspace.host.clone());
            let back = host.map(|host| self.standing(&host));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = async { match &back { Some(host) => host.came_back.notified().await, None => std::future::pending().await } } => {}
            }
            pause = (pause * 2).min(self.limits.retry_most);
        }
    }

    async fn step_done(&self, id: JobId, steps: &'static [Step], effect: Effect) -> Result<()> {
        self.edit(id, move |edit| {
            effect(edit)?;
            edit.job.step += 1;
            edit.job.progress = progress_of(steps, edit.job.step);
            if edit.job.step as usize >= steps.len() {
                end_well(edit);
            }
            Ok(())
        })
        .await
    }

    async fn finish(&self, id: JobId) -> Result<()> {
        self.edit(id, |edit| {
            end_well(edit);
            Ok(())
        })
        .await
    }

    /// Begins to take the job back, with the step that failed first: it may be half done.
    async fn turn_back(&self, id: JobId, steps: &'static [Step], error: Error) -> Result<()> {
        tracing::warn!(job = %id, %error, detail = %error.detail, "a job is taken back");
        self.edit(id, move |edit| {
            edit.job.state = JobState::Undoing;
            edit.job.error = Some(error);
            edit.job.progress = undo_of(steps, edit.job.step);
            Ok(())
        })
        .await
    }

    async fn undo_done(&self, id: JobId, steps: &'static [Step], effect: Effect, undo_error: Option<Error>) -> Result<()> {
        let last = self.core.read(|site| site.job(id).is_none_or(|job| job.step == 0));
        let seen = if last { self.look(id).await } else { None };
        self.edit(id, move |edit| {
            effect(edit)?;
            if edit.job.state == JobState::Running {
                // The undo saw that there is nothing to take back: the deed is done, and the job goes on from there.
                return Ok(());
            }
            if last {
                return end_badly(edit, undo_error, seen);
            }
            if let Some(error) = undo_error {
                // Goes into the record now: the steps before it are still taken back.
                if let Some(first) = &mut edit.job.error {
                    first.detail = format!("{}; undo failed: {error}", first.detail);
                }
                edit.workspace(|workspace| {
                    workspace.cause = Cause { code: UNDO_FAILED.to_owned(), text: error.to_string() };
                });
            }
            edit.job.step -= 1;
            edit.job.progress = undo_of(steps, edit.job.step);
            Ok(())
        })
        .await
    }

    /// What the workspace's machine is doing, for a job that failed: its state is what is seen, not what was hoped.
    async fn look(&self, id: JobId) -> Option<StateEvent> {
        let (workspace, host) = self.core.read(|site| {
            let workspace =
                site.job(id).and_then(|job| job.workspace).and_then(|workspace| site.workspace(workspace)).cloned()?;
            let host = workspace.host.clone()?;
            Some((workspace, host))
        })?;
        let ask = super::document::reference(&host, &workspace);
        let answer: std::result::Result<(doc::MachineStatus, _), _> = self
            .backends
            .call(host.as_str(), doc::methods::INSPECT, &format!("{id}/look"), &ask, self.limits.call_deadline, Vec::new())
            .await;
        match answer {
            Ok((status, _)) => super::hosts::observed(status.state),
            Err(error) => {
                tracing::warn!(%error, workspace = %workspace.id, "the machine of a failed job could not be looked at");
                Some(StateEvent::ContactLost)
            }
        }
    }

    /// One transaction on a job and its workspace.
    pub(super) async fn edit(
        &self,
        id: JobId,
        edit: impl FnOnce(&mut Edit<'_, '_>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.core
            .transact(move |tx| {
                let Some(old) = tx.site.job(id).cloned() else { return Ok(()) };
                let held = old.workspace.and_then(|workspace| tx.site.workspace(workspace)).cloned();
                let mut records = Edit { workspace: held.as_deref().cloned(), job: old.as_ref().clone(), tx };
                edit(&mut records)?;
                let Edit { tx, job, workspace } = records;
                if let (Some(old), Some(new)) = (held, workspace) {
                    change::change_workspace(tx, &old, new);
                }
                if *old != job {
                    change::put_job(tx, job);
                }
                Ok(())
            })
            .await
    }

    /// Writes progress reports, at most one per job and interval.
    pub(super) async fn write_progress(self: Arc<Self>, mut reports: mpsc::UnboundedReceiver<Report>) {
        let mut last: std::collections::HashMap<JobId, Instant> = std::collections::HashMap::new();
        while let Some(report) = reports.recv().await {
            let now = Instant::now();
            if last.get(&report.job).is_some_and(|at| now.duration_since(*at) < self.limits.progress_every) {
                continue;
            }
            if last.len() > 10_000 {
                last.clear();
            }
            last.insert(report.job, now);
            let written = self
                .edit(report.job, move |edit| {
                    if edit.job.state == JobState::Running {
                        edit.job.progress.done = report.done;
                        edit.job.progress.total = report.total;
                    }
                    Ok(())
                })
                .await;
            if let Err(error) = written {
                tracing::warn!(%error, "progress could not be written");
            }
        }
    }

    /// A progress event of a plugin: its id is `<job>/<step>/...`.
    pub(super) fn report(&self, id: &str, done: u64, total: u64) {
        if let Some(job) = id.split('/').next().and_then(|job| JobId::parse(job).ok()) {
            let _ = self.progress.send(Report { job, done, total });
        }
    }
}

fn progress_of(steps: &[Step], step: u32) -> Progress {
    let phase = steps.get(step as usize).map_or_else(String::new, |step| step.name.to_owned());
    Progress { phase, step, steps: u32::try_from(steps.len()).unwrap_or(u32::MAX), done: 0, total: 0 }
}

/// The same while the step is taken back.
fn undo_of(steps: &[Step], step: u32) -> Progress {
    let progress = progress_of(steps, step);
    Progress { phase: format!("undo {}", progress.phase), ..progress }
}

fn end_well(edit: &mut Edit<'_, '_>) {
    edit.job.state = JobState::Done;
    edit.job.error = None;
    edit.job.ended_at = Some(edit.tx.now);
    let id = edit.job.id;
    edit.workspace(|workspace| {
        if workspace.job == Some(id) {
            workspace.job = None;
        }
    });
}

/// The end of a job that was taken back. The workspace becomes what was seen; broken if an undo failed.
fn end_badly(edit: &mut Edit<'_, '_>, undo_error: Option<Error>, seen: Option<StateEvent>) -> Result<()> {
    edit.job.ended_at = Some(edit.tx.now);
    let cancelled = edit.job.error.as_ref().is_some_and(|error| error.kind == ErrorKind::Cancelled);
    edit.job.state = if cancelled { JobState::Cancelled } else { JobState::Failed };
    let id = edit.job.id;
    let what = edit.job.kind.name();
    let why = edit.job.error.as_ref().map(ToString::to_string).unwrap_or_default();
    edit.workspace(|workspace| {
        if workspace.job == Some(id) {
            workspace.job = None;
        }
    });
    let Some(workspace) = &edit.workspace else { return Ok(()) };
    let undo_failed = undo_error.or_else(|| {
        (workspace.cause.code == UNDO_FAILED).then(|| Error::new(ErrorKind::BackendFailure, "", workspace.cause.text.clone(), ""))
    });
    if workspace.state == State::Gone {
        return Ok(());
    }
    if let Some(error) = undo_failed {
        return edit.state(
            StateEvent::Broke,
            UNDO_FAILED,
            &format!("{what} failed ({why}) and could not be taken back ({error}); destroy is possible"),
        );
    }
    match seen {
        // States that no job leads out of are left alone: they were settled by the undo itself.
        Some(event) if workspace.state.next(event).is_ok() => {
            edit.state(event, &format!("{what}-failed"), &format!("{what} failed: {why}"))
        }
        _ => Ok(()),
    }
}

fn cancelled_error(job: &Job) -> Error {
    Error::new(ErrorKind::Cancelled, format!("job {}", job.id), "was cancelled", "what it had done was taken back")
}
