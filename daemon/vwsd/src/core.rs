//! The one task that decides, and the one way in which anything changes.
//!
//! Owns: the pending projection (what was admitted), the committed projection (what is on disk), the hand-over to the store,
//! the order of events. A change is a [`Tx`]: a closure that looks at the pending projection and leaves [`Change`]s; it runs alone,
//! in arrival order, on the core's own thread, so two calls cannot both take the last vCPU. Its answer waits for the fsync.
//! Must not know: D-Bus, plugins, what a policy is.

use crate::env::Env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::sync::{broadcast, mpsc, oneshot};
use vws_domain::{
    Change, Error, Event, HostName, ImageId, Job, JobId, JobState, Result, Site, Timestamp, Workspace, WorkspaceId,
};
use vws_store::{Batch, Store};

/// Committed events kept for subscribers that are slow; who falls behind further reads `EventsSince`.
pub const EVENT_QUEUE: usize = 16_384;

/// A transaction in the making.
pub struct Tx<'a> {
    /// What was admitted so far, this transaction's own changes not included.
    pub site: &'a Site,
    /// Now.
    pub now: Timestamp,
    env: &'a Env,
    changes: Vec<Change>,
    next_event: u64,
    keep: bool,
}

impl Tx<'_> {
    /// A new id.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.env.id()
    }

    /// Adds a change.
    pub fn put(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Keeps the changes made so far although the answer will be an error: a refusal is recorded too.
    pub fn keep_on_error(&mut self) {
        self.keep = true;
    }

    /// Does `work` for each item, each seeing what those before it did. All of them or none: when one fails, the changes of all are
    /// dropped but what that one kept of its own refusal.
    ///
    /// # Errors
    /// The first one's.
    pub fn each<I, T>(&mut self, items: Vec<I>, mut work: impl FnMut(&mut Tx<'_>, I) -> Result<T>) -> Result<Vec<T>> {
        let (before, first_event) = (self.changes.len(), self.next_event);
        let mut site = self.site.clone();
        let mut answers = Vec::with_capacity(items.len());
        for item in items {
            let mut one =
                Tx { site: &site, now: self.now, env: self.env, changes: Vec::new(), next_event: self.next_event, keep: false };
            let answer = work(&mut one, item);
            let Tx { changes, next_event, keep, .. } = one;
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    self.changes.truncate(before);
                    self.next_event = first_event;
                    if keep {
                        // A refusal is a decision and no event: the numbers of events stay without gaps.
                        self.changes.extend(changes.into_iter().filter(|change| matches!(change, Change::PutDecision(_))));
                        self.keep = true;
                    }
                    return Err(error);
                }
            }
            for change in &changes {
                site.apply(change);
            }
            self.changes.extend(changes);
            self.next_event = next_event;
        }
        Ok(answers)
    }

    /// Edits every workspace that this transaction has written so far, with its reservation.
    pub fn edit_workspaces(&mut self, edit: impl Fn(&mut Workspace)) {
        for change in &mut self.changes {
            if let Change::PutWorkspace(workspace) = change {
                edit(Arc::make_mut(workspace));
            }
        }
        let written: Vec<_> = self
            .changes
            .iter()
            .filter_map(|change| if let Change::PutWorkspace(workspace) = change { Some(Arc::clone(workspace)) } else { None })
            .collect();
        for change in &mut self.changes {
            if let Change::PutReservation(held) = change
                && let Some(workspace) = written.iter().find(|workspace| workspace.id == held.workspace)
            {
                *held = Arc::new(crate::change::reservation_of(workspace));
            }
        }
    }

    /// Adds an event; its number follows the last one.
    pub fn event(&mut self, kind: &str, about: About, owner: u32, text: impl Into<String>) {
        self.next_event += 1;
        self.changes.push(Change::Event(Arc::new(Event {
            sequence: self.next_event,
            at: self.now,
            kind: kind.to_owned(),
            workspace: about.workspace,
            job: about.job,
            host: about.host,
            image: about.image,
            owner,
            text: text.into(),
        })));
    }
}

/// What an event is about.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// A workspace.
    pub workspace: Option<WorkspaceId>,
    /// A job.
    pub job: Option<JobId>,
    /// A host.
    pub host: Option<HostName>,
    /// An image.
    pub image: Option<ImageId>,
}

impl About {
    /// A workspace.
    #[must_use]
    pub fn workspace(id: WorkspaceId) -> Self {
        Self { workspace: Some(id), ..Self::default() }
    }
    /// A job and what it is about.
    #[must_use]
    pub fn job(job: &Job) -> Self {
        Self { workspace: job.workspace, job: Some(job.id), host: job.host.clone(), image: job.image }
    }
    /// A host.
    #[must_use]
    pub fn host(name: &HostName) -> Self {
        Self { host: Some(name.clone()), ..Self::default() }
    }
    /// An image.
    #[must_use]
    pub fn image(id: ImageId) -> Self {
        Self { image: Some(id), ..Self::default() }
    }
}

type Work = Box<dyn FnOnce(&mut Pending) + Send>;

/// The core's handle.
pub struct Core {
    work: std::sync::mpsc::Sender<Work>,
    shared: Arc<Shared>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// Decisions that were recorded since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Those that permitted.
    pub permitted: u64,
    /// Those that refused.
    pub refused: u64,
}

/// What the core's thread, the store's callback and readers share.
struct Shared {
    permitted: AtomicU64,
    refused: AtomicU64,
    committed: RwLock<Site>,
    events: broadcast::Sender<Arc<Event>>,
    queued: mpsc::UnboundedSender<JobId>,
    leases_changed: tokio::sync::Notify,
    decided: tokio::sync::Notify,
}

/// What only the core's thread touches.
struct Pending {
    site: Site,
    store: Arc<Store>,
    env: Arc<Env>,
    shared: Arc<Shared>,
    work: std::sync::mpsc::Sender<Work>,
}

impl Core {
    /// Starts the core on a store and the projection that it loaded. Jobs that become `queued` are sent to `queued` once they are on disk.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(store: Arc<Store>, site: Site, env: Arc<Env>, queued: mpsc::UnboundedSender<JobId>) -> Result<Arc<Self>> {
        let (work, inbox) = std::sync::mpsc::channel::<Work>();
        let shared = Arc::new(Shared {
            permitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            committed: RwLock::new(site.clone()),
            events: broadcast::channel(EVENT_QUEUE).0,
            queued,
            leases_changed: tokio::sync::Notify::new(),
            decided: tokio::sync::Notify::new(),
        });
        store.on_reopened({
            let (shared, work) = (Arc::clone(&shared), work.clone());
            move |site| {
                shared.replace(site);
                let _ = work.send(Box::new(|pending: &mut Pending| pending.take_back()));
            }
        });
        let mut pending = Pending { site, store, env, shared: Arc::clone(&shared), work: work.clone() };
        let thread = std::thread::Builder::new()
            .name("core".to_owned())
            .spawn(move || {
                while let Ok(job) = inbox.recv() {
                    job(&mut pending);
                }
            })
            .map_err(|error| Error::internal("the core's thread", error.to_string()))?;
        Ok(Arc::new(Self { work, shared, thread: std::sync::Mutex::new(Some(thread)) }))
    }

    /// Runs `decide` alone on the core's thread and answers once its changes, and all before them, are on disk. An `Err`
    /// leaves no change but what [`Tx::keep_on_error`] kept.
    ///
    /// # Errors
    /// What `decide` answers, or the store's failure (then nothing of it happened).
    pub async fn transact<T: Send + 'static>(&self, decide: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |pending| pending.run(decide, reply));
        if self.work.send(work).is_err() {
            return Err(Error::internal("the daemon", "the core has ended"));
        }
        answer.await.unwrap_or_else(|_| Err(Error::internal("the daemon", "the core dropped a request")))
    }

    /// Runs `look` on the pending projection, after everything that was admitted before, and changes nothing: for explanations.
    ///
    /// # Errors
    /// What `look` answers.
    pub async fn consider<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Site, Timestamp) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |pending| {
            let _ = reply.send(look(&pending.site, pending.env.now()));
        });
        if self.work.send(work).is_err() {
            return Err(Error::internal("the daemon", "the core has ended"));
        }
        answer.await.unwrap_or_else(|_| Err(Error::internal("the daemon", "the core dropped a request")))
    }

    /// Reads the committed projection under a short lock.
    pub fn read<R>(&self, look: impl FnOnce(&Site) -> R) -> R {
        look(&self.shared.committed.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decisions that were recorded since the daemon started.
    #[must_use]
    pub fn decisions(&self) -> Decisions {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Decisions { permitted: now(&self.shared.permitted), refused: now(&self.shared.refused) }
    }

    /// Committed events from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.shared.events.subscribe()
    }

    /// Completes when a workspace (and so perhaps a lease) changed since the last time.
    pub async fn leases_changed(&self) {
        self.shared.leases_changed.notified().await;
    }

    /// Completes when a decision was recorded since the last time. For one waiter.
    pub async fn decided(&self) {
        self.shared.decided.notified().await;
    }

    /// Ends the core's thread after what was sent to it.
    pub fn stop(&self) {
        let (done, wait) = std::sync::mpsc::channel();
        let _ = self.work.send(Box::new(move |_| {
            let _ = done.send(());
        }));
        let _ = wait.recv_timeout(std::time::Duration::from_secs(10));
        // The thread holds senders of its own inbox; it ends with the process. Nothing is lost: every answer waited for the disk.
        drop(self.thread.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Pending {
    fn run<T: Send + 'static>(&mut self, decide: impl FnOnce(&mut Tx<'_>) -> Result<T>, reply: oneshot::Sender<Result<T>>) {
        let mut tx = Tx {
            site: &self.site,
            now: self.env.now(),
            env: &self.env,
            changes: Vec::new(),
            next_event: self.site.event_sequence,
            keep: false,
        };
        let decided = decide(&mut tx);
        let (at, keep, changes) = (tx.now, tx.keep, tx.changes);
        if decided.is_err() && !keep {
            let _ = reply.send(decided);
            return;
        }
        let sequence = self.site.sequence + 1;
        for change in &changes {
            self.site.apply(change);
        }
        self.site.sequence = sequence;
        let shared = Arc::clone(&self.shared);
        let work = self.work.clone();
        let batch = Batch { sequence, at, changes: changes.clone() };
        self.store.commit(batch, move |written| match written {
            Ok(_) => {
                shared.publish(sequence, &changes);
                let _ = reply.send(decided);
            }
            Err(error) => {
                tracing::error!(%error, detail = %error.detail, sequence, "a transaction could not be written and was taken back");
                // Everything behind it is refused by the store, because it would leave a gap; the projection goes back to the disk's.
                let _ = work.send(Box::new(|pending: &mut Self| pending.take_back()));
                let _ = reply.send(Err(error));
            }
        });
    }

    fn take_back(&mut self) {
        self.site = self.shared.committed.read().unwrap_or_else(PoisonError::into_inner).clone();
    }
}

impl Shared {
    /// The store has loaded the projection anew. What its last transactions told nobody is found by their jobs and leases being looked
    /// at again, and by `EventsSince`.
    fn replace(&self, site: Site) {
        let waiting: Vec<JobId> = site.jobs().filter(|job| !job.state.ended()).map(|job| job.id).collect();
        *self.committed.write().unwrap_or_else(PoisonError::into_inner) = site;
        for job in waiting {
            let _ = self.queued.send(job);
        }
        self.leases_changed.notify_one();
    }

    /// Makes a written transaction visible, then tells of it. Called in order.
    fn publish(&self, sequence: u64, changes: &[Change]) {
        {
            let mut committed = self.committed.write().unwrap_or_else(PoisonError::into_inner);
            for change in changes {
                committed.apply(change);
            }
            committed.sequence = sequence;
        }
        for change in changes {
            match change {
                Change::Event(event) => {
                    // No receiver is no failure: nobody has subscribed.
                    let _ = self.events.send(Arc::clone(event));
                }
                Change::PutJob(job) if job.state == JobState::Queued => {
                    let _ = self.queued.send(job.id);
                }
                Change::PutWorkspace(_) => self.leases_changed.notify_one(),
                Change::PutDecision(decision) => {
                    let counter = if decision.permitted { &self.permitted } else { &self.refused };
                    counter.fetch_add(1, Ordering::Relaxed);
                    self.decided.notify_one();
                }
                _ => {}
            }
        }
    }
}
