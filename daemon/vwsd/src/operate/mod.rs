//! Durable operations. A job is a straight line of steps; each has an idempotency key (`<job>/<step>`) and an undo, or says why it
//! needs none. Commit, act, commit, tell: `kill -9` at any instant leaves a job that is finished or taken back at the next start.
//!
//! Owns: the step tables (one file a kind), the engine, recovery, reconciliation with what hosts report, lease ends.
//! Must not know: D-Bus, the policies.

pub mod args;
mod away;
mod bundle;
mod cluster;
mod create;
mod destroy;
mod document;
mod drain;
mod engine;
mod forget;
mod hosts;
mod image;
mod image_cache;
mod lease;
mod migrate;
mod power;
mod probe;
mod resize;
mod restore;
mod room;
mod serialize;
mod snapshot;
mod stats;

pub use bundle::{addresses_of, known as known_bundle, landing};
pub use document::reference as reference_document;
pub use drain::Mover;
pub use engine::{past_return, steps_of};
pub use image::{blocking, open_path};
pub use lease::{NewJob, begin, serialize_job};
pub use resize::resources_of;
pub use stats::{Figures, Stats, StatsCalls, Sums};

use crate::core::Core;
use crate::env::Env;
use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use vws_backend::{BackendEvent, Backends};
use vws_domain::{HostName, JobId, Result, WorkspaceId};
use vws_library::{Imported, Library};
use vws_store::Store;

/// The named limits of operations.
#[derive(Clone, Debug)]
pub struct OperateLimits {
    /// Calls at work on one host at a time.
    pub calls_per_host: usize,
    /// Tries of a step that failed in a way that may pass.
    pub step_tries: u32,
    /// Pause before the first new try; doubles.
    pub retry_first: Duration,
    /// Longest pause between tries.
    pub retry_most: Duration,
    /// Deadline of a call that should be quick.
    pub call_deadline: Duration,
    /// Deadline of a call that moves bytes or boots.
    pub long_deadline: Duration,
    /// Deadline of a probe.
    pub probe_deadline: Duration,
    /// How often each host is asked what it runs.
    pub reconcile_every: Duration,
    /// How often each host is asked for the figures of its machines; `None`: never.
    pub stats_every: Option<Duration>,
    /// Ended jobs are shown on the bus for so long.
    pub jobs_kept: Duration,
    /// Least time between two written progress reports of a job.
    pub progress_every: Duration,
}

impl Default for OperateLimits {
    fn default() -> Self {
        Self {
            calls_per_host: 8,
            step_tries: 4,
            retry_first: Duration::from_millis(200),
            retry_most: Duration::from_secs(30),
            call_deadline: Duration::from_secs(60),
            long_deadline: Duration::from_secs(3600),
            probe_deadline: Duration::from_secs(120),
            reconcile_every: Duration::from_secs(30),
            stats_every: Some(Duration::from_secs(10)),
            jobs_kept: Duration::from_secs(24 * 3600),
            progress_every: Duration::from_millis(500),
        }
    }
}

/// Held by whom it is the turn of.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// The operations at work.
pub struct Operate {
    pub(crate) core: Arc<Core>,
    pub(crate) backends: Arc<Backends>,
    pub(crate) library: Arc<Library>,
    pub(crate) store: Arc<Store>,
    pub(crate) env: Arc<Env>,
    pub(crate) limits: OperateLimits,
    hosts: Mutex<HashMap<HostName, Arc<hosts::HostStanding>>>,
    order: Mutex<HashMap<WorkspaceId, Turn>>,
    /// The jobs at work, and how each is woken to be cancelled.
    driving: Mutex<HashMap<JobId, watch::Sender<bool>>>,
    handed: Mutex<HashMap<JobId, Vec<File>>>,
    /// What jobs at work brought into the library.
    imported: Mutex<HashMap<JobId, Vec<Imported>>>,
    staging: Mutex<HashMap<(HostName, String), Turn>>,
    /// Who admits the moves of drains.
    mover: OnceLock<Arc<dyn Mover>>,
    stats: Stats,
    progress: mpsc::UnboundedSender<engine::Report>,
    reports: Mutex<Option<mpsc::UnboundedReceiver<engine::Report>>>,
}

impl Operate {
    /// Operations over these parts; nothing runs before [`Self::run`].
    #[must_use]
    pub fn new(
        core: Arc<Core>,
        backends: Arc<Backends>,
        library: Arc<Library>,
        store: Arc<Store>,
        env: Arc<Env>,
        limits: OperateLimits,
    ) -> Arc<Self> {
        let (progress, reports) = mpsc::unbounded_channel();
        Arc::new(Self {
            core,
            backends,
            library,
            store,
            env,
            limits,
            hosts: Mutex::default(),
            order: Mutex::default(),
            driving: Mutex::default(),
            handed: Mutex::default(),
            imported: Mutex::default(),
            staging: Mutex::default(),
            mover: OnceLock::new(),
            stats: Stats::default(),
            progress,
            reports: Mutex::new(Some(reports)),
        })
    }

    /// Runs for ever: takes up what a stopped daemon left, then queued jobs as they are committed, what backends tell, and lease ends.
    pub async fn run(
        self: Arc<Self>,
        mut queued: mpsc::UnboundedReceiver<JobId>,
        mut events: mpsc::UnboundedReceiver<BackendEvent>,
    ) {
        let left: Vec<JobId> = self.core.read(|site| site.jobs().filter(|job| !job.state.ended()).map(|job| job.id).collect());
        for name in self.core.read(|site| site.hosts().map(|host| host.name.clone()).collect::<Vec<_>>()) {
            self.watch_host(&name);
        }
        for job in left {
            tracing::info!(%job, "taking up a job that waits in the database");
            tokio::spawn(Arc::clone(&self).drive(job));
        }
        if let Some(reports) = self.reports.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tokio::spawn(Arc::clone(&self).write_progress(reports));
        }
        tokio::spawn(Arc::clone(&self).watch_leases());
        tokio::spawn(Arc::clone(&self).forget_jobs());
        loop {
            tokio::select! {
                Some(job) = queued.recv() => { tokio::spawn(Arc::clone(&self).drive(job)); }
                Some(event) = events.recv() => self.hear(event),
                else => return,
            }
        }
    }

    /// Says who admits the moves of drains; once, before [`Self::run`].
    pub fn admit_moves_by(&self, mover: Arc<dyn Mover>) {
        if self.mover.set(mover).is_err() {
            tracing::error!("who admits the moves of drains was said twice");
        }
    }

    /// Keeps files that a client handed over until their job wants them.
    pub fn hand_over(&self, job: JobId, files: Vec<File>) {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner).insert(job, files);
    }

    /// Copies of what was handed over to a job, or was kept open for it by an earlier step; none after a restart.
    fn handed_to(&self, job: JobId) -> Result<Vec<File>> {
        let handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let copies = handed.get(&job).into_iter().flatten().map(File::try_clone).collect::<std::io::Result<_>>();
        copies.map_err(|error| vws_domain::Error::internal("a file of a job", error.to_string()))
    }

    /// Lets go of files that no job will want.
    pub fn drop_handed(&self, job: JobId) {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
    }

    /// Wakes the job so that it sees that it shall be cancelled.
    pub fn wake_cancelled(&self, job: JobId) {
        if let Some(cancel) = self.driving.lock().unwrap_or_else(PoisonError::into_inner).get(&job) {
            let _ = cancel.send(true);
        }
    }

    fn order_of(&self, id: WorkspaceId) -> Turn {
        Arc::clone(self.order.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default())
    }

    fn staging_of(&self, host: &HostName, digest: &str) -> Turn {
        let key = (host.clone(), digest.to_owned());
        Arc::clone(self.staging.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    fn calls_on(&self, host: &HostName) -> Arc<Semaphore> {
        Arc::clone(&self.standing(host).calls)
    }

    /// Forgets ended jobs after their time.
    async fn forget_jobs(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let kept = self.limits.jobs_kept.as_secs();
            let forgotten = self
                .core
                .transact(move |tx| {
                    let now = tx.now;
                    let old: Vec<JobId> = tx
                        .site
                        .jobs()
                        .filter(|job| job.ended_at.is_some_and(|ended| now.seconds_since(ended) >= kept))
                        .map(|job| job.id)
                        .collect();
                    for job in old {
                        tx.put(vws_domain::Change::ForgetJob(job));
                    }
                    Ok(())
                })
                .await;
            if let Err(error) = forgotten {
                tracing::warn!(%error, "old jobs could not be forgotten");
            }
            let idle = |lock: &Turn| Arc::strong_count(lock) > 1;
            self.order.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, lock| idle(lock));
            self.staging.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, lock| idle(lock));
        }
    }
}
