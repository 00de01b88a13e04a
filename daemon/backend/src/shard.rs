//! A shard: some hosts of one plugin, and the child that serves them now.
//!
//! Owns: starting a child when it is needed, opening the hosts in it, back-off and breakers, and the change from a child that
//! died or hangs to a fresh one. Must not know: other shards, what calls mean.
//!
//! One host's trouble stays its own: its `host.open` runs beside the others', its breaker is its own. After a call hung a fresh child
//! takes the host's other calls at once; what is about the same workspace (for a call that changes the host itself: what changes it
//! again) waits until the process with the hanging call is gone, so that the two never work on one thing.

use crate::breaker::{Breaker, CHILD_FAILURES, COOL_DOWN, HOST_FAILURES, WINDOW};
use crate::child::{Child, Death, Keeper, Launch, Refusal};
use crate::error::CallError;
use crate::host::subject;
use crate::registry::BackendEvent;
use crate::spawner::Spawner;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant as Clock};
use tokio::sync::{mpsc::UnboundedSender, watch};
use tokio::time::{Instant, sleep, timeout_at};
use vws_plugin_api::doc::{self, Description, Failure, HostOpen, HostRef, PluginEvent, codes, methods};

/// Deadline of `host.open`.
pub const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline of `host.close`.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// Methods that change nothing: when one hangs, nothing has to wait for its end.
const READS: [&str; 9] = [
    methods::HOST_OPEN,
    methods::HOST_PROBE,
    methods::HOST_LIST,
    methods::HOST_STATS,
    methods::IMAGE_PRESENT,
    methods::IMAGE_LIST,
    methods::INSPECT,
    methods::LOG,
    methods::SNAPSHOTS,
];

/// The outcome of something that many wait for and one task does.
type Shared<T> = watch::Receiver<Option<Result<T, CallError>>>;

async fn outcome<T: Clone>(mut shared: Shared<T>, backend: &str) -> Result<T, CallError> {
    match shared.wait_for(Option::is_some).await {
        Ok(value) => match &*value {
            Some(result) => result.clone(),
            None => Err(CallError::ShuttingDown { backend: backend.to_owned() }),
        },
        // The task was dropped: the runtime goes down.
        Err(_) => Err(CallError::ShuttingDown { backend: backend.to_owned() }),
    }
}

/// What the shards of one plugin have in common.
pub(crate) struct Common {
    pub(crate) name: String,
    pub(crate) launch: Mutex<Arc<Launch>>,
    pub(crate) description: Mutex<Option<(Description, String)>>,
    pub(crate) fault: Mutex<Option<String>>,
    pub(crate) restarts: AtomicU64,
    pub(crate) spawner: Arc<Spawner>,
    pub(crate) events: UnboundedSender<BackendEvent>,
}

impl Common {
    pub(crate) fn tell(&self, event: BackendEvent) {
        // Nobody listens any more: the daemon is on its way out.
        let _told = self.events.send(event);
    }
}

/// A child and what is open in it.
#[derive(Clone)]
struct Serving {
    child: Arc<Child>,
    opened: Arc<Mutex<HashMap<String, Shared<()>>>>,
}

struct HostEntry {
    settings: Value,
    breaker: Breaker,
    /// Retired children in which a call of this host hangs, each with the workspace that it is about (empty: the host itself).
    fences: Vec<(String, Arc<Child>)>,
    /// Its last `host.open` hung.
    open_hung: bool,
}

struct State {
    hosts: BTreeMap<String, HostEntry>,
    current: Option<Serving>,
    starting: Option<Shared<()>>,
    /// Children that finish their calls, or hang.
    retired: Vec<Arc<Child>>,
    breaker: Breaker,
    closing: bool,
}

/// See the module.
pub(crate) struct Shard {
    pub(crate) common: Arc<Common>,
    state: Mutex<State>,
    opens: AtomicU64,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Serialize)]
struct RequestRef<'a, A: ?Sized> {
    v: u32,
    id: &'a str,
    method: &'a str,
    deadline_ms: u64,
    args: &'a A,
}

/// `"ok": null` is an answer, a missing `ok` is none.
#[derive(Deserialize)]
#[serde(bound(deserialize = "R: DeserializeOwned"))]
struct ReplyOf<R> {
    #[serde(default = "Option::default", deserialize_with = "present")]
    ok: Option<R>,
    #[serde(default)]
    err: Option<Failure>,
}

fn present<'de, D: Deserializer<'de>, R: DeserializeOwned>(value: D) -> Result<Option<R>, D::Error> {
    R::deserialize(value).map(Some)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The workspace that arguments are about; empty for a call to the host itself, and for arguments that are no document.
fn workspace_of<A: Serialize + ?Sized>(args: &A) -> String {
    let document = RequestRef { v: doc::VERSION, id: "", method: "", deadline_ms: 0, args };
    serde_json::to_vec(&document).and_then(|document| subject(&document)).map(|(_, _, workspace)| workspace).unwrap_or_default()
}

impl Shard {
    pub(crate) fn new(common: Arc<Common>) -> Arc<Self> {
        let state = State {
            hosts: BTreeMap::new(),
            current: None,
            starting: None,
            retired: Vec::new(),
            breaker: Breaker::new(CHILD_FAILURES),
            closing: false,
        };
        Arc::new(Self { common, state: Mutex::new(state), opens: AtomicU64::new(1) })
    }

    pub(crate) fn host_names(&self) -> Vec<String> {
        locked(&self.state).hosts.keys().cloned().collect()
    }

    pub(crate) fn host_count(&self) -> usize {
        locked(&self.state).hosts.len()
    }

    /// Whether a child serves, whether one is on its way, and how long the breaker still refuses.
    pub(crate) fn condition(&self) -> (bool, bool, Option<Duration>) {
        let state = locked(&self.state);
        (state.current.is_some(), state.starting.is_some(), state.breaker.refuses_for(Clock::now()))
    }

    /// Process ids of the children, the serving one first.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let state = locked(&self.state);
        state.current.iter().map(|serving| &serving.child).chain(&state.retired).filter_map(|child| child.pid).collect()
    }

    /// Enters a host, or gives it other settings; it is opened by the next [`Shard::ready`].
    pub(crate) fn enter_host(&self, host: &str, settings: Value) -> Option<Value> {
        let mut state = locked(&self.state);
        if let Some(serving) = &state.current {
            locked(&serving.opened).remove(host);
        }
        match state.hosts.get_mut(host) {
            Some(entry) => Some(std::mem::replace(&mut entry.settings, settings)),
            None => {
                let entry = HostEntry { settings, breaker: Breaker::new(HOST_FAILURES), fences: Vec::new(), open_hung: false };
                state.hosts.insert(host.to_owned(), entry);
                None
            }
        }
    }

    /// Takes a host out, without telling the child.
    pub(crate) fn forget_host(&self, host: &str) {
        let mut state = locked(&self.state);
        state.hosts.remove(host);
        if let Some(serving) = &state.current {
            locked(&serving.opened).remove(host);
        }
    }

    /// Takes a host out and has the child close it; a shard without hosts ends its child.
    pub(crate) async fn close_host(self: &Arc<Self>, host: &str) -> Result<(), CallError> {
        let (serving, open) = {
            let state = locked(&self.state);
            let serving = state.current.clone();
            let open = serving.as_ref().is_some_and(|serving| locked(&serving.opened).contains_key(host));
            (serving, open)
        };
        let closed = match serving {
            Some(serving) if open => {
                let id = format!("close/{host}/{}", self.opens.fetch_add(1, Ordering::Relaxed));
                let until = Instant::now() + CLOSE_DEADLINE;
                let args = HostRef { host: host.to_owned() };
                match self
                    .send::<_, Value>(
                        &serving.child,
                        host,
                        methods::HOST_CLOSE,
                        &id,
                        &args,
                        until,
                        CLOSE_DEADLINE,
                        &mut Vec::new(),
                    )
                    .await
                {
                    Some(Err(CallError::Failure(failure)))
                        if matches!(failure.code.as_str(), codes::NOT_FOUND | codes::UNSUPPORTED) =>
                    {
                        Ok(())
                    }
                    Some(Err(error)) => Err(error),
                    Some(Ok(_)) | None => Ok(()),
                }
            }
            _ => Ok(()),
        };
        let idle = {
            let mut state = locked(&self.state);
            state.hosts.remove(host);
            let idle = if state.hosts.is_empty() { state.current.take() } else { None };
            if let Some(serving) = state.current.as_ref() {
                locked(&serving.opened).remove(host);
            }
            idle
        };
        if let Some(serving) = idle {
            serving.child.stop().await;
        }
        closed
    }

    /// Lets the present child finish its calls and has a fresh one take over: the plugin's file or configuration changed.
    pub(crate) fn renew(self: &Arc<Self>) {
        let mut state = locked(&self.state);
        if let Some(serving) = state.current.take() {
            serving.child.retire();
            state.retired.push(serving.child);
            if !state.hosts.is_empty() {
                self.begin_start(&mut state);
            }
        }
    }

    /// Ends every child.
    pub(crate) async fn shutdown(&self) {
        let children = {
            let mut state = locked(&self.state);
            state.closing = true;
            let mut children: Vec<_> = state.retired.drain(..).collect();
            children.extend(state.current.take().map(|serving| serving.child));
            children
        };
        let stops: Vec<_> = children.into_iter().map(|child| tokio::spawn(async move { child.stop().await })).collect();
        for stop in stops {
            // A stop that panicked has said so; the others go on.
            let _stopped = stop.await;
        }
    }

    /// Asks the calls of a host with this id to end soon, in whatever child they are.
    pub(crate) fn cancel(&self, host: &str, id: &str) {
        let state = locked(&self.state);
        for child in state.current.iter().map(|serving| &serving.child).chain(&state.retired) {
            child.cancel(host, id);
        }
    }

    /// A child in which the host is open, by `until`.
    /// `workspace` tells what the call is about; it is asked only after a call of the host hung.
    async fn ready(
        self: &Arc<Self>,
        host: &str,
        method: &str,
        workspace: impl Fn() -> String,
        until: Instant,
        deadline: Duration,
    ) -> Result<Arc<Child>, CallError> {
        let timed_out = |phase| CallError::TimedOut {
            backend: self.common.name.clone(),
            host: host.to_owned(),
            method: method.to_owned(),
            deadline_ms: millis(deadline),
            phase,
        };
        let unknown = || CallError::UnknownHost { host: host.to_owned() };
        loop {
            enum Next {
                Open(Shared<()>, Arc<Child>),
                Start(Shared<()>),
                Fence(Arc<Child>),
            }
            let next = {
                let mut state = locked(&self.state);
                if state.closing {
                    return Err(CallError::ShuttingDown { backend: self.common.name.clone() });
                }
                let entry = state.hosts.get_mut(host).ok_or_else(unknown)?;
                if let Some(retry_in) = entry.breaker.refuses_for(Clock::now()) {
                    return Err(self.refused(format!("host `{host}`"), HOST_FAILURES, retry_in));
                }
                let fence = if entry.fences.is_empty() {
                    None
                } else {
                    let about = workspace();
                    let passes = about.is_empty() && READS.contains(&method);
                    entry.fences.iter().find(|(hangs, _)| !passes && *hangs == about).map(|(_, child)| Arc::clone(child))
                };
                if let Some(fence) = fence {
                    Next::Fence(fence)
                } else if let Some(serving) = state.current.clone().filter(|serving| serving.child.usable()) {
                    Next::Open(self.opening(&serving, host, &state)?, serving.child)
                } else if let Some(starting) = state.starting.clone() {
                    Next::Start(starting)
                } else if let Some(retry_in) = state.breaker.refuses_for(Clock::now()) {
                    return Err(self.refused(format!("backend `{}`", self.common.name), CHILD_FAILURES, retry_in));
                } else {
                    Next::Start(self.begin_start(&mut state))
                }
            };
            match next {
                Next::Open(open, child) => {
                    timeout_at(until, outcome(open, &self.common.name))
                        .await
                        .map_err(|_| timed_out("it waited for the host to be opened"))??;
                    if child.usable() {
                        return Ok(child);
                    }
                }
                Next::Start(start) => {
                    timeout_at(until, outcome(start, &self.common.name))
                        .await
                        .map_err(|_| timed_out("it waited for the plugin's process to start"))??;
                }
                Next::Fence(child) => {
                    timeout_at(until, child.dead())
                        .await
                        .map_err(|_| timed_out("it waited for the process in which an earlier call of the same hangs"))?;
                    self.lift_fences(&mut locked(&self.state), &child);
                }
            }
        }
    }

    fn refused(&self, object: String, failures: usize, retry_in: Duration) -> CallError {
        CallError::Breaker { object, failures, window_seconds: WINDOW.as_secs(), retry_in }
    }

    /// A child is gone, and with it what hung in it.
    fn lift_fences(&self, state: &mut State, child: &Arc<Child>) {
        for entry in state.hosts.values_mut() {
            entry.fences.retain(|(_, fence)| !Arc::ptr_eq(fence, child));
        }
    }

    /// Counts a failure of a host, and tells when its breaker opens.
    fn host_failed(self: &Arc<Self>, state: &mut State, host: &str) {
        let opened = state.hosts.get_mut(host).is_some_and(|entry| entry.breaker.failed(Clock::now()));
        if opened {
            self.tell_breaker(Some(host.to_owned()));
        }
    }

    /// Counts a failure of the child, and tells when the shard's breaker opens.
    fn child_failed(self: &Arc<Self>, state: &mut State) {
        if state.breaker.failed(Clock::now()) {
            self.tell_breaker(None);
        }
    }

    /// Tells that a breaker has opened and, when it lets through again, that it has closed.
    fn tell_breaker(self: &Arc<Self>, host: Option<String>) {
        let backend = self.common.name.clone();
        self.common.tell(BackendEvent::BreakerOpened { backend: backend.clone(), host: host.clone(), cool_down: COOL_DOWN });
        let shard = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = COOL_DOWN;
            loop {
                sleep(pause).await;
                let Some(shard) = shard.upgrade() else { return };
                let left = {
                    let state = locked(&shard.state);
                    let breaker = match &host {
                        Some(host) => state.hosts.get(host).map(|entry| &entry.breaker),
                        None => Some(&state.breaker),
                    };
                    breaker.and_then(|breaker| breaker.refuses_for(Clock::now()))
                };
                match left {
                    Some(left) => pause = left,
                    None => return shard.common.tell(BackendEvent::BreakerClosed { backend, host }),
                }
            }
        });
    }

    /// Starts a child in a task of its own, after the back-off. Called with the state locked.
    fn begin_start(self: &Arc<Self>, state: &mut State) -> Shared<()> {
        let pause = state.breaker.back_off(Clock::now());
        let (done, shared) = watch::channel(None);
        state.starting = Some(shared.clone());
        let shard = Arc::clone(self);
        tokio::spawn(async move {
            sleep(pause).await;
            let launch = Arc::clone(&locked(&shard.common.launch));
            let keeper = Box::new(ShardKeeper(Arc::downgrade(&shard)));
            let result = Child::start(&launch, &shard.common.spawner, keeper).await;
            let result = shard.started(result);
            done.send_replace(Some(result));
        });
        shared
    }

    fn started(self: &Arc<Self>, result: Result<Arc<Child>, CallError>) -> Result<(), CallError> {
        let mut state = locked(&self.state);
        state.starting = None;
        match result {
            Ok(child) => {
                *locked(&self.common.description) = Some((child.description.clone(), child.version.clone()));
                *locked(&self.common.fault) = None;
                if state.closing {
                    let backend = self.common.name.clone();
                    drop(state);
                    tokio::spawn(async move { child.stop().await });
                    return Err(CallError::ShuttingDown { backend });
                }
                let serving = Serving { child, opened: Arc::default() };
                state.current = Some(serving.clone());
                self.common.tell(BackendEvent::ChildStarted { backend: self.common.name.clone() });
                // A host whose breaker is open, or whose opening hung, is opened by its next call.
                let now = Clock::now();
                for (host, entry) in &state.hosts {
                    if !entry.open_hung && entry.breaker.refuses_for(now).is_none() {
                        // The outcome is kept for whoever calls; a failure is logged by the task.
                        let _opening = self.opening(&serving, host, &state);
                    }
                }
                Ok(())
            }
            Err(error) => {
                self.child_failed(&mut state);
                *locked(&self.common.fault) = Some(error.to_string());
                tracing::error!(backend = %self.common.name, %error, "a plugin's process could not be started");
                Err(error)
            }
        }
    }

    /// The one `host.open` of this host in this child: begun now, or before.
    fn opening(self: &Arc<Self>, serving: &Serving, host: &str, state: &State) -> Result<Shared<()>, CallError> {
        let mut opened = locked(&serving.opened);
        if let Some(open) = opened.get(host) {
            return Ok(open.clone());
        }
        let entry = state.hosts.get(host).ok_or_else(|| CallError::UnknownHost { host: host.to_owned() })?;
        let args = HostOpen { host: host.to_owned(), settings: entry.settings.clone() };
        let (done, shared) = watch::channel(None);
        opened.insert(host.to_owned(), shared.clone());
        drop(opened);
        let (shard, serving, host) = (Arc::clone(self), serving.clone(), host.to_owned());
        let mine = shared.clone();
        tokio::spawn(async move {
            let id = format!("open/{host}/{}", shard.opens.fetch_add(1, Ordering::Relaxed));
            let until = Instant::now() + OPEN_DEADLINE;
            let sent = shard
                .send::<_, Value>(&serving.child, &host, methods::HOST_OPEN, &id, &args, until, OPEN_DEADLINE, &mut Vec::new())
                .await;
            let result = match sent {
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(error),
                // The child is gone; whoever waits looks for the next one.
                None => {
                    done.send_replace(Some(Ok(())));
                    return;
                }
            };
            if result.is_ok()
                && let Some(entry) = locked(&shard.state).hosts.get_mut(&host)
            {
                entry.open_hung = false;
            }
            if let Err(error) = &result {
                tracing::warn!(backend = %shard.common.name, %host, %error, "a host could not be opened");
                let mut opened = locked(&serving.opened);
                if opened.get(&host).is_some_and(|open| open.same_channel(&mine)) {
                    opened.remove(&host);
                }
            }
            done.send_replace(Some(result));
        });
        Ok(shared)
    }

    /// Sends one request to one child; `None` (and `fds` untouched) if the child takes no calls any more.
    async fn send<A: Serialize + Sync + ?Sized, R: DeserializeOwned>(
        &self,
        child: &Arc<Child>,
        host: &str,
        method: &str,
        id: &str,
        args: &A,
        until: Instant,
        deadline: Duration,
        fds: &mut Vec<OwnedFd>,
    ) -> Option<Result<(R, Vec<OwnedFd>), CallError>> {
        let refused =
            |reason: String| CallError::Request { backend: self.common.name.clone(), method: method.to_owned(), reason };
        let left = until.saturating_duration_since(Instant::now());
        let request = RequestRef { v: doc::VERSION, id, method, deadline_ms: millis(left), args };
        let request = match serde_json::to_vec(&request) {
            Ok(request) => request,
            Err(error) => return Some(Err(refused(error.to_string()))),
        };
        let workspace = match subject(&request) {
            Ok((_, _, workspace)) => workspace,
            Err(error) => return Some(Err(refused(error.to_string()))),
        };
        let reserved = match child.reserve(host, &workspace, method, id) {
            Ok(reserved) => reserved,
            Err(Refusal::Gone) => return None,
            Err(Refusal::Busy(error)) => return Some(Err(error)),
        };
        let answer = child.call(reserved, host, method, request, std::mem::take(fds), until, deadline).await;
        Some(answer.and_then(|(bytes, fds)| {
            let protocol =
                |reason: String| CallError::Protocol { backend: self.common.name.clone(), method: method.to_owned(), reason };
            match serde_json::from_slice::<ReplyOf<R>>(&bytes) {
                Ok(ReplyOf { err: Some(failure), .. }) => Err(CallError::Failure(failure)),
                Ok(ReplyOf { ok: Some(value), .. }) => Ok((value, fds)),
                Ok(_) => Err(protocol("it has neither `ok` nor `err`".to_owned())),
                Err(error) => Err(protocol(error.to_string())),
            }
        }))
    }

    /// A call to a host: waits for a child with the host open, then for the answer, by the deadline.
    pub(crate) async fn call<A: Serialize + Sync + ?Sized, R: DeserializeOwned>(
        self: &Arc<Self>,
        host: &str,
        method: &str,
        id: &str,
        args: &A,
        deadline: Duration,
        mut fds: Vec<OwnedFd>,
    ) -> Result<(R, Vec<OwnedFd>), CallError> {
        let until = Instant::now().checked_add(deadline).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
        loop {
            let about = || workspace_of(args);
            let child = self.ready(host, method, about, until, deadline).await?;
            if let Some(answer) = self.send(&child, host, method, id, args, until, deadline, &mut fds).await {
                return answer;
            }
        }
    }

    /// Opens a host that was entered, and waits for it.
    pub(crate) async fn open(self: &Arc<Self>, host: &str) -> Result<(), CallError> {
        let deadline = OPEN_DEADLINE + crate::child::CANCEL_GRACE + crate::child::START_DEADLINE;
        self.ready(host, methods::HOST_OPEN, String::new, Instant::now() + deadline, deadline).await.map(drop)
    }

    fn on_overdue(self: &Arc<Self>, child: &Arc<Child>, host: &str, workspace: &str, method: &str) {
        let mut state = locked(&self.state);
        tracing::warn!(backend = %self.common.name, host, workspace, method, "a call hangs: its process is replaced");
        self.host_failed(&mut state, host);
        if let Some(entry) = state.hosts.get_mut(host) {
            entry.open_hung |= method == methods::HOST_OPEN;
            if !READS.contains(&method) {
                entry.fences.push((workspace.to_owned(), Arc::clone(child)));
            }
        }
        if state.current.as_ref().is_some_and(|serving| Arc::ptr_eq(&serving.child, child)) {
            state.current = None;
            state.retired.push(Arc::clone(child));
            self.common.restarts.fetch_add(1, Ordering::Relaxed);
            self.common.tell(BackendEvent::ChildReplaced {
                backend: self.common.name.clone(),
                host: host.to_owned(),
                method: method.to_owned(),
            });
            if !state.closing && state.starting.is_none() {
                self.begin_start(&mut state);
            }
        }
        child.retire();
    }

    fn on_death(self: &Arc<Self>, child: &Arc<Child>, death: &Death, hosts: Vec<String>) {
        let mut state = locked(&self.state);
        let now = Clock::now();
        state.retired.retain(|other| !Arc::ptr_eq(other, child));
        self.lift_fences(&mut state, child);
        let current = state.current.as_ref().is_some_and(|serving| Arc::ptr_eq(&serving.child, child));
        if current {
            state.current = None;
        }
        if child.is_retired() {
            // It was to end. Hosts whose calls ended with it have to be looked at all the same.
            if !hosts.is_empty() {
                let backend = self.common.name.clone();
                self.common.tell(BackendEvent::ChildDied { backend, hosts, reason: death.reason.clone() });
            }
            return;
        }
        self.child_failed(&mut state);
        for host in &hosts {
            self.host_failed(&mut state, host);
        }
        tracing::error!(backend = %self.common.name, reason = %death.reason, "a plugin's process ended");
        self.common.restarts.fetch_add(1, Ordering::Relaxed);
        self.common.tell(BackendEvent::ChildDied {
            backend: self.common.name.clone(),
            hosts: state.hosts.keys().cloned().collect(),
            reason: death.reason.clone(),
        });
        let refused = state.breaker.refuses_for(now).is_some();
        if !state.closing && !state.hosts.is_empty() && state.starting.is_none() && !refused {
            self.begin_start(&mut state);
        }
    }
}

/// Passes on what a child tells, as long as the shard is there.
struct ShardKeeper(Weak<Shard>);

impl Keeper for ShardKeeper {
    fn event(&self, child: &Child, event: PluginEvent) {
        let Some(shard) = self.0.upgrade() else { return };
        let of_a_host = matches!(event, PluginEvent::Workspace { .. } | PluginEvent::Host { .. });
        // A fresh child watches the hosts now and tells the same.
        if of_a_host && child.is_retired() {
            return;
        }
        shard.common.tell(BackendEvent::Plugin { backend: shard.common.name.clone(), event });
    }

    fn overdue(&self, child: &Arc<Child>, host: &str, workspace: &str, method: &str) {
        if let Some(shard) = self.0.upgrade() {
            shard.on_overdue(child, host, workspace, method);
        }
    }

    fn died(&self, child: &Arc<Child>, death: &Death, hosts: Vec<String>) {
        if let Some(shard) = self.0.upgrade() {
            shard.on_death(child, death, hosts);
        }
    }
}
