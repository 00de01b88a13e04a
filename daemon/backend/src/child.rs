//! One process that holds a plugin, as the daemon sees it: its socket, the calls in flight, its end.
//!
//! Owns: start and handshake, sending and receiving, deadlines of calls, the process's end and its reason.
//! Must not know: which hosts are where, restarts, breakers (that is `shard`).

use crate::error::CallError;
use crate::frame::{Decoder, Frame, FrameError, HEADER_BYTES, Kind, encodable, header};
use crate::host::{Ready, serve};
use crate::socket::{Got, ReadError, pair, read, send};
use crate::spawner::Spawner;
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child as Process, Command};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use vws_plugin_api::doc::{self, Description, PluginEvent, codes};

/// From the start of the process to its description.
pub const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long a cancelled call may take to end before its process is retired.
pub const CANCEL_GRACE: Duration = Duration::from_millis(500);
/// How long a process may take to end by itself once its socket is closed.
pub const EXIT_GRACE: Duration = Duration::from_secs(4);
/// How long a process whose socket was closed by itself may take to be seen dead, before it is killed.
const DEATH_GRACE: Duration = Duration::from_millis(500);
/// Bytes that may wait for a child to read them.
pub const MAX_QUEUED_BYTES: usize = 256 * 1024 * 1024;
/// Calls that may be on their way to one child.
pub const MAX_CALLS_IN_FLIGHT: usize = 16 * 1024;
/// Events that a child may send in a second. Beyond that the daemon reads from it more slowly, which slows only itself.
pub const EVENTS_PER_SECOND: u32 = 5_000;

/// Where a plugin's code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// In a process of its own.
    #[default]
    Process,
    /// On threads of the daemon: for plugins without foreign code, such as `sim`. A crash of it is a crash of the daemon.
    InProcess,
}

/// How a plugin is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) config: Vec<u8>,
    pub(crate) isolation: Isolation,
    pub(crate) host_program: Option<PathBuf>,
}

/// How a child ended.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    pub(crate) signal: Option<i32>,
    pub(crate) code: Option<i32>,
    pub(crate) reason: String,
}

/// A call that was entered.
pub(crate) struct Reserved {
    number: u64,
    waiting: oneshot::Receiver<Result<Frame, Death>>,
}

/// Why a call was not entered.
pub(crate) enum Refusal {
    /// The child is retired or dead: a fresh one takes it.
    Gone,
    /// A limit.
    Busy(CallError),
}

/// What a child tells its shard.
pub(crate) trait Keeper: Send + Sync {
    /// An event of the plugin.
    fn event(&self, child: &Child, event: PluginEvent);
    /// A call did not end although it was cancelled.
    fn overdue(&self, child: &Arc<Child>, host: &str, workspace: &str, method: &str);
    /// The process has ended; the hosts are those that had calls in flight.
    fn died(&self, child: &Arc<Child>, death: &Death, hosts: Vec<String>);
}

struct InFlight {
    host: String,
    /// Empty for a call to the host itself.
    workspace: String,
    id: String,
    method: String,
    overdue: bool,
    answer: oneshot::Sender<Result<Frame, Death>>,
}

#[derive(Default)]
struct Calls {
    in_flight: HashMap<u64, InFlight>,
    dead: Option<Death>,
}

struct Outgoing {
    header: [u8; HEADER_BYTES],
    payload: Vec<u8>,
    fds: Vec<OwnedFd>,
    done: usize,
}

#[derive(Default)]
struct Outbox {
    queue: VecDeque<Outgoing>,
    bytes: usize,
}

/// One child.
pub(crate) struct Child {
    pub(crate) backend: String,
    pub(crate) description: Description,
    pub(crate) version: String,
    pub(crate) pid: Option<u32>,
    socket: UnixStream,
    outbox: Mutex<Outbox>,
    outbox_waits: Notify,
    calls: Mutex<Calls>,
    next: AtomicU64,
    /// Gets no new calls; its end is no accident.
    retired: AtomicBool,
    stop: watch::Sender<Stop>,
    /// Calls in flight that are not overdue.
    healthy: watch::Sender<usize>,
    death: watch::Sender<Option<Death>>,
    keeper: Box<dyn Keeper>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    /// Close the socket; kill after a grace.
    Gently,
    Kill,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads until a frame is complete; `None` at the end.
async fn next_frame(socket: &UnixStream, decoder: &mut Decoder) -> Result<Option<Frame>, ReadError> {
    loop {
        if let Some(frame) = decoder.next().map_err(ReadError::Frame)? {
            return Ok(Some(frame));
        }
        socket.readable().await.map_err(|_| ReadError::Os(Errno::IO))?;
        let got = socket.try_io(Interest::READABLE, || match read(socket.as_fd(), decoder) {
            Err(ReadError::Os(Errno::AGAIN)) => Err(Errno::AGAIN.into()),
            other => Ok(other),
        });
        match got {
            // `try_io` has noted that there is nothing more to read.
            Err(_) | Ok(Ok(Got::Bytes)) => {}
            Ok(Ok(Got::End) | Err(ReadError::Os(Errno::CONNRESET))) => return Ok(None),
            Ok(Err(error)) => return Err(error),
        }
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        _ => return format!("killed by signal {signal}"),
    };
    format!("killed by signal {signal}, {name}")
}

/// Ends a process and says how it ended.
async fn reap(process: Option<&mut Process>, grace: Duration, why: &str) -> Death {
    let Some(process) = process else {
        return Death { signal: None, code: None, reason: format!("{why}; it ran inside the daemon") };
    };
    let mut status = timeout(grace, process.wait()).await.ok();
    let killed = status.is_none();
    if killed {
        // It fails only for a process that has ended, which `wait` reports.
        let _killed = process.start_kill();
        status = Some(process.wait().await);
    }
    match status {
        Some(Ok(status)) => {
            let how = match (status.signal(), status.code()) {
                _ if killed => format!("killed by the daemon: {why}"),
                (Some(signal), _) => signal_name(signal),
                (None, code) => {
                    let code = code.unwrap_or(-1);
                    if why.is_empty() { format!("ended with code {code}") } else { format!("{why}, ended with code {code}") }
                }
            };
            Death { signal: status.signal(), code: status.code(), reason: how }
        }
        Some(Err(error)) => Death { signal: None, code: None, reason: format!("{why}; its end cannot be seen: {error}") },
        None => Death { signal: None, code: None, reason: why.to_owned() },
    }
}

impl Child {
    /// Starts a child and waits for its description.
    pub(crate) async fn start(launch: &Launch, spawner: &Spawner, keeper: Box<dyn Keeper>) -> Result<Arc<Self>, CallError> {
        let load = |reason: String, remedy: &str| CallError::Load {
            backend: launch.name.clone(),
            path: launch.path.clone(),
            reason,
            remedy: remedy.to_owned(),
        };
        let system = "look at the machine's limits (processes, open files, memory)";
        let (ours, theirs) = pair().map_err(|error| load(format!("no socket: {error}"), system))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|error| load(format!("no socket: {error}"), system))?;
        let socket = UnixStream::from_std(ours.into()).map_err(|error| load(format!("no socket: {error}"), system))?;
        let mut process = match launch.isolation {
            Isolation::InProcess => {
                let path = launch.path.clone();
                let name = launch.name.clone();
                std::thread::Builder::new()
                    .name(format!("vws:{:.11}", launch.name))
                    .spawn(move || {
                        if let Err(error) = serve(theirs, &path) {
                            tracing::debug!(backend = %name, %error, "a plugin inside the daemon has ended");
                        }
                    })
                    .map_err(|error| load(format!("no thread: {error}"), system))?;
                None
            }
            Isolation::Process => Some(spawn(launch, spawner, theirs).await.map_err(|(reason, remedy)| load(reason, remedy))?),
        };
        let mut decoder = Decoder::default();
        let shake = async {
            let head = header(Kind::Open, 0, launch.config.len(), 0);
            let mut done = 0;
            while done < HEADER_BYTES + launch.config.len() {
                socket.writable().await.map_err(|_| ReadError::Os(Errno::IO))?;
                let sent = socket.try_io(Interest::WRITABLE, || {
                    match send(socket.as_fd(), &head, &launch.config, done, &[], SendFlags::DONTWAIT) {
                        Err(Errno::AGAIN) => Err(Errno::AGAIN.into()),
                        other => Ok(other),
                    }
                });
                match sent {
                    Ok(Ok(count)) => done += count,
                    // It takes no more now.
                    Err(_) => {}
                    // It has ended already: reading says how.
                    Ok(Err(Errno::PIPE | Errno::CONNRESET)) => break,
                    Ok(Err(error)) => return Err(ReadError::Os(error)),
                }
            }
            next_frame(&socket, &mut decoder).await
        };
        let report = "report it to the plugin's maker";
        let ready: Ready = match timeout(START_DEADLINE, shake).await {
            Ok(Ok(Some(Frame { kind: Kind::Ready, payload, .. }))) => serde_json::from_slice(&payload)
                .map_err(|error| load(format!("its process does not say what it is: {error}"), report))?,
            Ok(Ok(None)) => {
                let death = reap(process.as_mut(), DEATH_GRACE, "closed its socket").await;
                return Err(load(format!("its process ended while the plugin was loaded ({})", death.reason), report));
            }
            Ok(Ok(Some(frame))) => return Err(load(format!("its process began with a frame of kind {:?}", frame.kind), report)),
            Ok(Err(ReadError::Frame(error))) => return Err(load(format!("its process sent {error}"), report)),
            Ok(Err(ReadError::Os(error))) => return Err(load(format!("its socket failed: {error}"), system)),
            Err(_) => return Err(load(format!("it was not ready after {} s", START_DEADLINE.as_secs()), report)),
        };
        let description = match ready {
            Ready { refused: Some(refused), .. } => {
                reap(process.as_mut(), DEATH_GRACE, "refused the plugin").await;
                return Err(load(refused.reason, &refused.remedy));
            }
            Ready { description: Some(description), .. } => description,
            Ready { .. } => return Err(load("its process does not say what it is".to_owned(), report)),
        };
        let child = Arc::new(Self {
            backend: launch.name.clone(),
            description,
            version: ready.version,
            pid: process.as_ref().and_then(Process::id),
            socket,
            outbox: Mutex::default(),
            outbox_waits: Notify::new(),
            calls: Mutex::default(),
            next: AtomicU64::new(1),
            retired: AtomicBool::new(false),
            stop: watch::Sender::new(Stop::No),
            healthy: watch::Sender::new(0),
            death: watch::Sender::new(None),
            keeper,
        });
        tokio::spawn(Arc::clone(&child).supervise(process, decoder));
        Ok(child)
    }

    /// From the first call to the end.
    async fn supervise(self: Arc<Self>, mut process: Option<Process>, mut decoder: Decoder) {
        let mut stopped = self.stop.subscribe();
        let (why, grace) = tokio::select! {
            why = self.receive(&mut decoder) => (why, DEATH_GRACE),
            why = self.transmit() => (why, DEATH_GRACE),
            gently = async { stopped.wait_for(|stop| *stop != Stop::No).await.is_ok_and(|stop| *stop == Stop::Gently) } => {
                if gently { ("stopped".to_owned(), EXIT_GRACE) } else { ("a call of it hangs".to_owned(), Duration::ZERO) }
            }
        };
        // Both ways: the other side sees the end even where it shares this process.
        let _shut = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let death = if grace == EXIT_GRACE {
            // A stop can still become a kill.
            tokio::select! {
                death = reap(process.as_mut(), grace, &why) => death,
                () = async { drop(stopped.wait_for(|stop| *stop == Stop::Kill).await) } => reap(process.as_mut(), Duration::ZERO, &why).await,
            }
        } else {
            reap(process.as_mut(), grace, &why).await
        };
        let in_flight = {
            let mut calls = locked(&self.calls);
            calls.dead = Some(death.clone());
            std::mem::take(&mut calls.in_flight)
        };
        let mut outbox = locked(&self.outbox);
        outbox.queue.clear();
        drop(outbox);
        let mut hosts: Vec<String> = in_flight.values().map(|call| call.host.clone()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        self.healthy.send_replace(0);
        // The shard first, so that a caller who tries again at once meets the fresh child.
        self.keeper.died(&self, &death, hosts);
        self.death.send_replace(Some(death.clone()));
        for call in in_flight.into_values() {
            // A caller that is gone needs no answer.
            let _told = call.answer.send(Err(death.clone()));
        }
    }

    /// Hands frames out until the connection ends; says why it did.
    async fn receive(self: &Arc<Self>, decoder: &mut Decoder) -> String {
        let mut budget = Budget::new();
        loop {
            let frame = match next_frame(&self.socket, decoder).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return String::new(),
                Err(ReadError::Frame(error)) => return format!("its process sent {error}"),
                Err(ReadError::Os(error)) => return format!("its socket failed: {error}"),
            };
            match frame.kind {
                Kind::Reply => {
                    let call = {
                        let mut calls = locked(&self.calls);
                        let call = calls.in_flight.remove(&frame.call);
                        self.count_healthy(&calls);
                        call
                    };
                    if let Some(call) = call {
                        // A caller that is gone needs no answer.
                        let _told = call.answer.send(Ok(frame));
                    }
                }
                Kind::Event => {
                    budget.take().await;
                    match serde_json::from_slice::<PluginEvent>(&frame.payload) {
                        Ok(event) => self.keeper.event(self, event),
                        Err(error) => tracing::warn!(backend = %self.backend, %error, "an event that is none"),
                    }
                }
                kind => return format!("its process sent {}", FrameError::Garbage(kind as u8)),
            }
        }
    }

    /// Sends what could not be sent at once. Ends only if the socket fails.
    async fn transmit(&self) -> String {
        loop {
            self.outbox_waits.notified().await;
            loop {
                if self.socket.writable().await.is_err() {
                    return "its socket failed".to_owned();
                }
                let sent = self.socket.try_io(Interest::WRITABLE, || match self.flush(&mut locked(&self.outbox)) {
                    Ok(false) => Err(Errno::AGAIN.into()),
                    other => Ok(other),
                });
                match sent {
                    Ok(Ok(_)) => break,
                    // It takes no more now.
                    Err(_) => {}
                    // The other side is gone: the receiving side sees the end and what came before it.
                    Ok(Err(Errno::PIPE | Errno::CONNRESET)) => break,
                    Ok(Err(error)) => return format!("its socket failed: {error}"),
                }
            }
        }
    }

    /// Sends as much as the socket takes. Whether all is sent.
    fn flush(&self, outbox: &mut Outbox) -> Result<bool, Errno> {
        while let Some(first) = outbox.queue.front_mut() {
            let fds: Vec<BorrowedFd<'_>> = first.fds.iter().map(AsFd::as_fd).collect();
            match send(self.socket.as_fd(), &first.header, &first.payload, first.done, &fds, SendFlags::DONTWAIT) {
                Ok(count) => first.done += count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
            if first.done == HEADER_BYTES + first.payload.len() {
                outbox.bytes = outbox.bytes.saturating_sub(first.payload.len());
                outbox.queue.pop_front();
            }
        }
        Ok(true)
    }

    fn post(&self, kind: Kind, call: u64, payload: Vec<u8>, fds: Vec<OwnedFd>) -> Result<(), String> {
        encodable(kind, payload.len(), fds.len()).map_err(|error| error.to_string())?;
        let mut outbox = locked(&self.outbox);
        if outbox.bytes.saturating_add(payload.len()) > MAX_QUEUED_BYTES {
            return Err(format!("{MAX_QUEUED_BYTES} bytes wait for its process to read them"));
        }
        outbox.bytes += payload.len();
        let at_once = outbox.queue.is_empty();
        outbox.queue.push_back(Outgoing { header: header(kind, call, payload.len(), fds.len()), payload, fds, done: 0 });
        // An error of the socket is the end of the child, which the receiving side reports to every call.
        if at_once && !self.flush(&mut outbox).unwrap_or(true) {
            self.outbox_waits.notify_one();
        }
        Ok(())
    }

    fn count_healthy(&self, calls: &Calls) {
        if self.retired.load(Ordering::Relaxed) {
            self.healthy.send_replace(calls.in_flight.values().filter(|call| !call.overdue).count());
        }
    }

    /// Whether it takes calls.
    pub(crate) fn usable(&self) -> bool {
        !self.retired.load(Ordering::Relaxed) && locked(&self.calls).dead.is_none()
    }

    /// Whether it was retired or stopped on purpose.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Waits for its end.
    pub(crate) async fn dead(&self) {
        // The sender lives in `self`, so the only way out is a death.
        let mut death = self.death.subscribe();
        let _death = death.wait_for(Option::is_some).await;
    }

    /// No more new calls; when those in flight have ended (all but the overdue ones), it is killed.
    pub(crate) fn retire(self: &Arc<Self>) {
        if self.retired.swap(true, Ordering::Relaxed) {
            return;
        }
        self.count_healthy(&locked(&self.calls));
        let child = Arc::clone(self);
        tokio::spawn(async move {
            let mut healthy = child.healthy.subscribe();
            let mut death = child.death.subscribe();
            tokio::select! {
                _ = healthy.wait_for(|count| *count == 0) => {}
                _ = death.wait_for(Option::is_some) => {}
            }
            let hangs = !locked(&child.calls).in_flight.is_empty();
            child.stop.send_replace(if hangs { Stop::Kill } else { Stop::Gently });
        });
    }

    /// Ends it: gently, then by force. Returns when it is gone.
    pub(crate) async fn stop(self: &Arc<Self>) {
        self.retired.store(true, Ordering::Relaxed);
        self.stop.send_if_modified(|stop| {
            let first = *stop == Stop::No;
            if first {
                *stop = Stop::Gently;
            }
            first
        });
        self.dead().await;
    }

    /// Asks the calls of `host` with this id to end soon.
    pub(crate) fn cancel(&self, host: &str, id: &str) {
        let numbers: Vec<u64> = locked(&self.calls)
            .in_flight
            .iter()
            .filter(|(_, call)| call.host == host && call.id == id)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.send_cancel(number);
        }
    }

    fn send_cancel(&self, number: u64) {
        if let Err(reason) = self.post(Kind::Cancel, number, Vec::new(), Vec::new()) {
            tracing::warn!(backend = %self.backend, %reason, "a cancel could not be sent");
        }
    }

    fn died(&self, method: &str, death: Death) -> CallError {
        CallError::ChildDied {
            backend: self.backend.clone(),
            method: method.to_owned(),
            signal: death.signal,
            code: death.code,
            reason: death.reason,
        }
    }

    /// Enters a call; nothing is sent yet. From here on the child, even when it is retired, lives until the call has ended.
    pub(crate) fn reserve(&self, host: &str, workspace: &str, method: &str, id: &str) -> Result<Reserved, Refusal> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, waiting) = oneshot::channel();
        let mut calls = locked(&self.calls);
        if self.is_retired() || calls.dead.is_some() {
            return Err(Refusal::Gone);
        }
        if calls.in_flight.len() >= MAX_CALLS_IN_FLIGHT {
            return Err(Refusal::Busy(CallError::Busy {
                backend: self.backend.clone(),
                fact: format!("{MAX_CALLS_IN_FLIGHT} calls are in flight in one process"),
            }));
        }
        let call = InFlight {
            host: host.to_owned(),
            workspace: workspace.to_owned(),
            id: id.to_owned(),
            method: method.to_owned(),
            overdue: false,
            answer,
        };
        calls.in_flight.insert(number, call);
        Ok(Reserved { number, waiting })
    }

    /// One call: the request document in, the reply's bytes and descriptors out. If it is given up (deadline, or the future is
    /// dropped) it is cancelled; if that does not help, the child is retired.
    pub(crate) async fn call(
        self: &Arc<Self>,
        reserved: Reserved,
        host: &str,
        method: &str,
        request: Vec<u8>,
        fds: Vec<OwnedFd>,
        until: Instant,
        deadline: Duration,
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), CallError> {
        let Reserved { number, mut waiting } = reserved;
        if let Err(reason) = self.post(Kind::Call, number, request, fds) {
            let mut calls = locked(&self.calls);
            calls.in_flight.remove(&number);
            self.count_healthy(&calls);
            return Err(CallError::Request { backend: self.backend.clone(), method: method.to_owned(), reason });
        }
        let mut guard = GivenUp { child: self, number, until, answered: false };
        let first = timeout_at(until, &mut waiting).await;
        let (answer, late) = match first {
            Ok(answer) => (answer, false),
            Err(_) => {
                self.send_cancel(number);
                match timeout(CANCEL_GRACE, &mut waiting).await {
                    Ok(answer) => (answer, true),
                    Err(_) => {
                        guard.answered = true;
                        self.overdue(number);
                        return Err(self.timed_out(
                            host,
                            method,
                            deadline,
                            "the plugin did not react to a cancel either: its process is replaced",
                        ));
                    }
                }
            }
        };
        guard.answered = true;
        match answer {
            Ok(Ok(frame)) => {
                if late && was_cancelled(&frame.payload) {
                    return Err(self.timed_out(host, method, deadline, "the call was cancelled"));
                }
                Ok((frame.payload, frame.fds))
            }
            Ok(Err(death)) => Err(self.died(method, death)),
            // The sending half is dropped unused only when the runtime goes down.
            Err(_) => Err(CallError::ShuttingDown { backend: self.backend.clone() }),
        }
    }

    pub(crate) fn timed_out(&self, host: &str, method: &str, deadline: Duration, phase: &'static str) -> CallError {
        CallError::TimedOut {
            backend: self.backend.clone(),
            host: host.to_owned(),
            method: method.to_owned(),
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            phase,
        }
    }

    /// A call goes on although it was cancelled.
    fn overdue(self: &Arc<Self>, number: u64) {
        let found = {
            let mut calls = locked(&self.calls);
            let found = calls.in_flight.get_mut(&number).map(|call| {
                call.overdue = true;
                (call.host.clone(), call.workspace.clone(), call.method.clone())
            });
            self.count_healthy(&calls);
            found
        };
        if let Some((host, workspace, method)) = found {
            self.keeper.overdue(self, &host, &workspace, &method);
        }
    }
}

fn was_cancelled(reply: &[u8]) -> bool {
    serde_json::from_slice::<doc::Reply>(reply)
        .ok()
        .and_then(|reply| reply.err)
        .is_some_and(|failure| matches!(failure.code.as_str(), codes::CANCELLED | codes::TIMED_OUT))
}

/// Looks after a call whose caller went away.
struct GivenUp<'a> {
    child: &'a Arc<Child>,
    number: u64,
    until: Instant,
    answered: bool,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        self.child.send_cancel(self.number);
        let (child, number) = (Arc::clone(self.child), self.number);
        let last = self.until.max(Instant::now()) + CANCEL_GRACE;
        runtime.spawn(async move {
            sleep_until(last).await;
            child.overdue(number);
        });
    }
}

/// A second's worth of events, refilled as time passes.
struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    fn new() -> Self {
        Self { left: f64::from(EVENTS_PER_SECOND), at: Instant::now() }
    }

    async fn take(&mut self) {
        loop {
            if self.left >= 1.0 {
                self.left -= 1.0;
                return;
            }
            let now = Instant::now();
            let rate = f64::from(EVENTS_PER_SECOND);
            self.left = (self.left + now.duration_since(self.at).as_secs_f64() * rate).min(rate);
            self.at = now;
            if self.left < 1.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn spawn(launch: &Launch, spawner: &Spawner, socket: OwnedFd) -> Result<Process, (String, &'static str)> {
    let program = match &launch.host_program {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .map_err(|error| (format!("the daemon's own program is not found: {error}"), "restart the daemon"))?,
    };
    let mut command = Command::new(&program);
    command
        .arg("plugin-host")
        .arg("--plugin")
        .arg(&launch.path)
        .arg("--name")
        .arg(&launch.name)
        // As standard input, a descriptor is handed to this child and to no other, without unsafe code.
        .args(["--fd", "0"])
        .stdin(Stdio::from(socket))
        // The child puts its output with its errors; its errors are the daemon's.
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    spawner.spawn(command).await.map_err(|error| {
        (
            format!("{} cannot be started: {error}", program.display()),
            "see whether the program was replaced, and the machine's limits",
        )
    })
}
