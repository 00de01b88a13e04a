//! The child role: a process that holds one plugin and answers the daemon's calls over a socket pair.
//!
//! Owns: the command line of `plugin-host`, the threads, the way of a call through the plugin.
//! Must not know: the daemon's state, other plugins. It ends when the socket does.
//!
//! The threads take turns: one waits on the socket, hands its place to another when it has read a call, and runs the call itself,
//! so that a call costs no hand-over between threads. Cancels are dealt with by whoever waits on the socket, at once; a cancel is
//! repeated until its call has ended, so that none is lost between two steps of a call.

use crate::frame::{Decoder, Frame, FrameError, Kind, MAX_EVENT_BYTES, encodable, header};
use crate::load::{Instance, LoadFault, Loaded, inherited};
use crate::schedule::{Job, Schedule};
use crate::socket::{Got, ReadError, read, send};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use vws_plugin_api::doc::{self, Concurrency, Description, Failure, Request, Retry, codes, methods};

/// Threads of one plugin's process, at most; they are started as calls need them.
pub const MAX_THREADS: usize = 512;
/// Threads that stay when there is nothing to do.
const IDLE_THREADS: usize = 4;
/// How often a cancel is repeated while its call runs on.
const CANCEL_REPEAT: Duration = Duration::from_millis(50);
/// How long a plugin may take to close before its process is ended anyway.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// The descriptor of the socket when the command line names none.
const DEFAULT_FD: i32 = 3;

/// `vwsd plugin-host --plugin FILE --name NAME [--fd N]`; `args` is what follows `plugin-host`. The socket is descriptor N, 3 by
/// default. Ends when the socket is closed, or with the process that started it.
pub fn plugin_host_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        // The daemon has been told why.
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("plugin-host: {error}");
            ExitCode::from(2)
        }
    }
}

struct Arguments {
    plugin: PathBuf,
    name: String,
    fd: i32,
}

fn arguments(args: impl IntoIterator<Item = OsString>) -> Result<Arguments, String> {
    let (mut plugin, mut name, mut fd) = (None, None, DEFAULT_FD);
    let mut args = args.into_iter();
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("option {} needs a value", option.display()))?;
        match option.to_str() {
            Some("--plugin") => plugin = Some(PathBuf::from(value)),
            Some("--name") => name = value.into_string().ok(),
            Some("--fd") => {
                fd = value.to_str().and_then(|text| text.parse().ok()).ok_or("option --fd needs a number")?;
            }
            _ => return Err(format!("unknown option {}; known: --plugin FILE --name NAME --fd N", option.display())),
        }
    }
    Ok(Arguments {
        plugin: plugin.ok_or("option --plugin FILE is missing")?,
        name: name.ok_or("option --name NAME is missing")?,
        fd,
    })
}

/// Whether the plugin could be used.
fn run(args: impl IntoIterator<Item = OsString>) -> Result<bool, String> {
    let arguments = arguments(args)?;
    // Should the daemon be killed, this process goes with it, even while a call hangs inside the plugin.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| format!("cannot ask to end with the daemon: {error}"))?;
    let socket = inherited(arguments.fd)
        .ok()
        .filter(|fd| rustix::net::sockopt::socket_type(fd).is_ok())
        .ok_or_else(|| format!("descriptor {} is no socket; this program is started by vwsd", arguments.fd))?;
    detach(arguments.fd)?;
    if let Ok(name) = CString::new(format!("vws:{:.11}", arguments.name)) {
        // Only what `ps` shows.
        let _shown = rustix::thread::set_name(&name);
    }
    match serve(socket, &arguments.plugin) {
        Ok(()) => Ok(true),
        Err(ServeError::Refused) => Ok(false),
        Err(error) => Err(format!("backend `{}`: {error}", arguments.name)),
    }
}

/// The plugin's code must find neither the socket nor the daemon's output at descriptors 0 and 1.
fn detach(fd: i32) -> Result<(), String> {
    let said = |error: Errno| format!("cannot set up the standard descriptors: {error}");
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(said)?;
    rustix::stdio::dup2_stdin(&null).map_err(said)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr()).map_err(said)?;
    if fd > 2 {
        crate::load::close_inherited(fd);
    }
    Ok(())
}

/// Why serving ended otherwise than by the daemon's closing the socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("the plugin cannot be used")]
    Refused,
    #[error("the daemon sent {0}")]
    Frame(#[from] FrameError),
    #[error("the socket failed: {0}")]
    Os(Errno),
    #[error("the daemon's first frame is not the configuration")]
    Handshake,
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What the daemon is told first.
#[derive(serde::Serialize, Deserialize)]
pub(crate) struct Ready {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<Description>,
    /// The descriptor's version, which is there even if the plugin cannot be opened.
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<Refused>,
}

/// Why the plugin cannot be used.
#[derive(serde::Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

/// The sending side; whole frames under one lock.
struct Outlet {
    socket: Arc<OwnedFd>,
    turn: Mutex<()>,
}

impl Outlet {
    fn frame(&self, kind: Kind, call: u64, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let head = header(kind, call, payload.len(), fds.len());
        let whole = head.len() + payload.len();
        let _turn = locked(&self.turn);
        let mut done = 0;
        while done < whole {
            done += send(self.socket.as_fd(), &head, payload, done, fds, SendFlags::empty())?;
        }
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Loads the plugin and answers calls until the socket is closed. Blocks.
pub(crate) fn serve(socket: OwnedFd, plugin: &Path) -> Result<(), ServeError> {
    let socket = Arc::new(socket);
    let outlet = Arc::new(Outlet { socket: Arc::clone(&socket), turn: Mutex::new(()) });
    let mut decoder = Decoder::default();
    let config = loop {
        if let Some(frame) = decoder.next()? {
            break if frame.kind == Kind::Open { frame.payload } else { return Err(ServeError::Handshake) };
        }
        match read(socket.as_fd(), &mut decoder) {
            Ok(Got::Bytes) => {}
            Ok(Got::End) => return Ok(()),
            Err(ReadError::Os(error)) => return Err(ServeError::Os(error)),
            Err(ReadError::Frame(error)) => return Err(error.into()),
        }
    };
    let mut version = String::new();
    let opened = open(plugin, &config, &outlet, &mut version);
    let (ready, instance) = match opened {
        Ok((instance, description)) => (Ready { description: Some(description), version, refused: None }, Some(instance)),
        Err(fault) => {
            let refused = Refused { reason: fault.reason, remedy: fault.remedy };
            (Ready { description: None, version, refused: Some(refused) }, None)
        }
    };
    let concurrency = ready.description.as_ref().map_or(Concurrency::Serial, |description| description.concurrency);
    let bytes = serde_json::to_vec(&ready).map_err(|_| ServeError::Handshake)?;
    outlet.frame(Kind::Ready, 0, &bytes, &[]).map_err(ServeError::Os)?;
    let instance = instance.ok_or(ServeError::Refused)?;
    Pool::new(instance, concurrency, outlet, socket, decoder).run()
}

fn open(plugin: &Path, config: &[u8], outlet: &Arc<Outlet>, version: &mut String) -> Result<(Instance, Description), LoadFault> {
    let loaded = Loaded::load(plugin)?;
    loaded.version.clone_into(version);
    let label = loaded.name.clone();
    let report = "report it to the plugin's maker";
    let events = Arc::clone(outlet);
    let instance = Instance::open(
        loaded,
        config,
        Box::new(move |bytes| {
            if bytes.len() <= MAX_EVENT_BYTES {
                // A socket that fails is seen by whoever reads from it.
                let _sent = events.frame(Kind::Event, 0, bytes, &[]);
            } else {
                eprintln!("plugin-host: an event of {} bytes was dropped; the limit is {MAX_EVENT_BYTES}", bytes.len());
            }
        }),
    )
    .map_err(|bytes| match serde_json::from_slice::<doc::Reply>(&bytes) {
        Ok(doc::Reply { err: Some(failure), .. }) => LoadFault {
            reason: format!(
                "plugin `{label}` refuses its configuration: {}{}",
                failure.message,
                if failure.detail.is_empty() { String::new() } else { format!(" ({})", failure.detail) }
            ),
            remedy: if failure.remedy.is_empty() {
                "correct the plugin's section of the configuration".to_owned()
            } else {
                failure.remedy
            },
        },
        _ => LoadFault { reason: format!("plugin `{label}` gave neither an instance nor a reason"), remedy: report.to_owned() },
    })?;
    let fault = |reason: String| LoadFault { reason: format!("`describe`: {reason}"), remedy: report.to_owned() };
    let request = Request {
        v: doc::VERSION,
        id: "describe".to_owned(),
        method: methods::DESCRIBE.to_owned(),
        deadline_ms: 10_000,
        args: serde_json::Value::Object(serde_json::Map::new()),
    };
    let request = serde_json::to_vec(&request).map_err(|error| fault(error.to_string()))?;
    let answer = instance.call(&request, &[]);
    let bytes = answer.bytes().map_err(fault)?;
    let reply: doc::Reply = serde_json::from_slice(bytes).map_err(|error| fault(error.to_string()))?;
    let description: Description = match reply {
        doc::Reply { err: Some(failure), .. } => return Err(fault(failure.message)),
        doc::Reply { ok: Some(value), .. } => serde_json::from_value(value).map_err(|error| fault(error.to_string()))?,
        _ => return Err(fault("the reply has neither `ok` nor `err`".to_owned())),
    };
    drop(answer);
    if !description.documents.contains(&doc::VERSION) {
        return Err(LoadFault {
            reason: format!("it speaks documents {:?}, this daemon speaks {}", description.documents, doc::VERSION),
            remedy: "install the plugin's build for this daemon".to_owned(),
        });
    }
    Ok((instance, description))
}

/// What the scheduler has to know of a request.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    args: PeekArgs<'a>,
}

#[derive(Deserialize, Default)]
struct PeekArgs<'a> {
    #[serde(borrow, default)]
    host: Cow<'a, str>,
    #[serde(borrow, default)]
    workspace: Cow<'a, str>,
    #[serde(borrow, default)]
    machine: PeekMachine<'a>,
}

#[derive(Deserialize, Default)]
struct PeekMachine<'a> {
    #[serde(borrow, default)]
    workspace: Cow<'a, str>,
}

/// What a request document is about: its id, host and workspace (empty for a call to the host itself).
pub(crate) fn subject(request: &[u8]) -> Result<(String, String, String), serde_json::Error> {
    let Peek { id, args } = serde_json::from_slice::<Peek<'_>>(request)?;
    let workspace = if args.workspace.is_empty() { args.machine.workspace } else { args.workspace };
    Ok((id.into_owned(), args.host.into_owned(), workspace.into_owned()))
}

struct Work {
    request: Vec<u8>,
    fds: Vec<OwnedFd>,
}

struct Running {
    id: String,
    cancelled: bool,
}

struct State {
    schedule: Schedule<Work>,
    /// Calls that were submitted and have not ended, for `cancel`.
    calls: HashMap<u64, Running>,
    decoder: Option<Decoder>,
    threads: usize,
    handles: Vec<JoinHandle<()>>,
    idle: usize,
    wake_ups: usize,
    ended: Option<Result<(), ServeError>>,
}

impl State {
    fn anything_cancelled(&self) -> bool {
        self.calls.values().any(|call| call.cancelled)
    }
}

struct Pool {
    instance: Instance,
    outlet: Arc<Outlet>,
    socket: Arc<OwnedFd>,
    state: Mutex<State>,
    wake: Condvar,
    end: Condvar,
}

/// What a thread does next.
enum Turn {
    Run(Job<Work>),
    Read(Decoder),
    Leave,
}

impl Pool {
    fn new(
        instance: Instance,
        concurrency: Concurrency,
        outlet: Arc<Outlet>,
        socket: Arc<OwnedFd>,
        decoder: Decoder,
    ) -> Arc<Self> {
        let state = State {
            schedule: Schedule::new(concurrency),
            calls: HashMap::new(),
            decoder: Some(decoder),
            threads: 0,
            handles: Vec::new(),
            idle: 0,
            wake_ups: 0,
            ended: None,
        };
        Arc::new(Self { instance, outlet, socket, state: Mutex::new(state), wake: Condvar::new(), end: Condvar::new() })
    }

    fn run(self: Arc<Self>) -> Result<(), ServeError> {
        {
            let mut state = locked(&self.state);
            self.start_thread(&mut state).map_err(ServeError::Thread)?;
        }
        let mut state = locked(&self.state);
        let result = loop {
            if let Some(result) = state.ended.take() {
                break result;
            }
            state = self.end.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        // Give what still runs, and the plugin's own end, a moment; then the process goes.
        state.ended = Some(Ok(()));
        let (mut state, late) =
            self.end.wait_timeout_while(state, CLOSE_GRACE, |state| state.threads > 0).unwrap_or_else(PoisonError::into_inner);
        let handles = std::mem::take(&mut state.handles);
        drop(state);
        if late.timed_out() {
            return result;
        }
        for handle in handles {
            // A thread of the pool that panicked has said so; what counts is that it is gone.
            let _gone = handle.join();
        }
        if let Some(pool) = Arc::into_inner(self) {
            let (told, done) = std::sync::mpsc::channel();
            let closing = std::thread::Builder::new().spawn(move || {
                drop(pool);
                // Nobody waits any more if the grace is over.
                let _late = told.send(());
            });
            if closing.is_ok() {
                // Either way the process ends now.
                let _closed = done.recv_timeout(CLOSE_GRACE);
            }
        }
        result
    }

    fn start_thread(self: &Arc<Self>, state: &mut State) -> std::io::Result<()> {
        let pool = Arc::clone(self);
        let handle = std::thread::Builder::new().name("call".to_owned()).stack_size(2 * 1024 * 1024).spawn(move || {
            pool.work();
            locked(&pool.state).threads -= 1;
            pool.end.notify_all();
        })?;
        state.threads += 1;
        state.handles.retain(|handle| !handle.is_finished());
        state.handles.push(handle);
        Ok(())
    }

    /// Lets another thread go on beside this one. Whether there is one.
    fn second(self: &Arc<Self>, state: &mut State) -> bool {
        if state.idle > 0 {
            state.idle -= 1;
            state.wake_ups += 1;
            self.wake.notify_one();
            return true;
        }
        // If the system gives no thread, this one goes on reading and the call waits: slower, never stuck.
        state.threads < MAX_THREADS && self.start_thread(state).is_ok()
    }

    fn turn(self: &Arc<Self>) -> Turn {
        let mut state = locked(&self.state);
        loop {
            if state.ended.is_some() {
                return Turn::Leave;
            }
            if state.schedule.has_runnable() {
                let someone_reads = state.decoder.is_none();
                if let Some(job) = state.schedule.take() {
                    let wants_second = !someone_reads || state.schedule.has_runnable();
                    let second = wants_second && self.second(&mut state);
                    // Somebody always watches the socket: else a cancel would wait for the call that it is about.
                    if someone_reads || second {
                        return Turn::Run(job);
                    }
                    state.schedule.put_back(job);
                }
            }
            if let Some(decoder) = state.decoder.take() {
                return Turn::Read(decoder);
            }
            if state.idle >= IDLE_THREADS {
                return Turn::Leave;
            }
            state.idle += 1;
            while state.wake_ups == 0 && state.ended.is_none() {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            // Whoever woke this thread has counted it as no longer idle.
            state.wake_ups = state.wake_ups.saturating_sub(1);
        }
    }

    fn work(self: &Arc<Self>) {
        loop {
            match self.turn() {
                Turn::Leave => return,
                Turn::Run(job) => {
                    self.answer(&job);
                    let mut state = locked(&self.state);
                    state.calls.remove(&job.call);
                    state.schedule.finish(&job.key, &job.host);
                }
                Turn::Read(mut decoder) => {
                    let outcome = self.read(&mut decoder);
                    let mut state = locked(&self.state);
                    state.decoder = Some(decoder);
                    if let Some(result) = outcome {
                        state.ended = Some(result);
                        drop(state);
                        self.wake.notify_all();
                        self.end.notify_all();
                        return;
                    }
                }
            }
        }
    }

    /// Takes in what has come, waiting for more if it is no whole frame. `Some` at the end of the connection.
    fn read(&self, decoder: &mut Decoder) -> Option<Result<(), ServeError>> {
        let mut taken = false;
        loop {
            match decoder.next() {
                Ok(Some(frame)) => {
                    taken = true;
                    if let Err(error) = self.take_in(frame) {
                        return Some(Err(error));
                    }
                }
                Ok(None) if taken => return None,
                Ok(None) => {
                    self.repeat_cancels();
                    match read(self.socket.as_fd(), decoder) {
                        Ok(Got::Bytes) => {}
                        // Closed by the daemon, or the daemon was killed.
                        Ok(Got::End) | Err(ReadError::Os(Errno::CONNRESET)) => return Some(Ok(())),
                        Err(ReadError::Os(error)) => return Some(Err(ServeError::Os(error))),
                        Err(ReadError::Frame(error)) => return Some(Err(error.into())),
                    }
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    /// While a cancelled call runs on, tells the plugin again; returns when there is something to read or nothing to repeat.
    fn repeat_cancels(&self) {
        while locked(&self.state).anything_cancelled() {
            let mut fds = [PollFd::new(&*self.socket, PollFlags::IN)];
            let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(CANCEL_REPEAT.subsec_nanos()) };
            match poll(&mut fds, Some(&pause)) {
                Ok(0) => {
                    let ids: Vec<String> =
                        locked(&self.state).calls.values().filter(|call| call.cancelled).map(|call| call.id.clone()).collect();
                    for id in ids {
                        self.instance.cancel(&id);
                    }
                }
                Err(Errno::INTR) => {}
                // Readable, or broken: reading will say.
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn take_in(&self, frame: Frame) -> Result<(), ServeError> {
        match frame.kind {
            Kind::Call => {
                match subject(&frame.payload) {
                    Ok((id, host, workspace)) => {
                        let mut state = locked(&self.state);
                        state.calls.insert(frame.call, Running { id, cancelled: false });
                        state.schedule.submit(frame.call, &host, &workspace, Work { request: frame.payload, fds: frame.fds });
                    }
                    Err(error) => {
                        self.fail(frame.call, Failure::new(codes::INVALID, format!("the request document: {error}")));
                    }
                }
                Ok(())
            }
            Kind::Cancel => {
                let mut state = locked(&self.state);
                if state.schedule.withdraw(frame.call).is_some() {
                    state.calls.remove(&frame.call);
                    drop(state);
                    self.fail(frame.call, Failure::new(codes::CANCELLED, "the call was cancelled before it began"));
                } else if let Some(call) = state.calls.get_mut(&frame.call) {
                    call.cancelled = true;
                    let id = call.id.clone();
                    drop(state);
                    self.instance.cancel(&id);
                }
                Ok(())
            }
            kind => Err(ServeError::Frame(FrameError::Garbage(kind as u8))),
        }
    }

    fn answer(&self, job: &Job<Work>) {
        let answer = self.instance.call(&job.what.request, &job.what.fds);
        let checked = answer.bytes().and_then(|bytes| answer.fds().map(|fds| (bytes, fds)));
        match checked {
            Ok((bytes, fds)) => match encodable(Kind::Reply, bytes.len(), fds.len()) {
                // A socket that fails is seen by whoever reads from it.
                Ok(()) => match self.outlet.frame(Kind::Reply, job.call, bytes, &fds) {
                    Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => {}
                    Err(Errno::BADF) => {
                        self.fail(job.call, Failure::new(codes::INTERNAL, "a descriptor of the plugin's reply is not open"))
                    }
                    Err(error) => self.fail(
                        job.call,
                        Failure::new(codes::INTERNAL, format!("the reply cannot be sent: {error}")).retry(Retry::Later),
                    ),
                },
                Err(error) => self.fail(job.call, Failure::new(codes::INTERNAL, format!("the plugin answered with {error}"))),
            },
            Err(reason) => self.fail(job.call, Failure::new(codes::INTERNAL, reason)),
        }
    }

    fn fail(&self, call: u64, failure: Failure) {
        let reply = doc::Reply { v: doc::VERSION, ok: None, err: Some(failure) };
        if let Ok(bytes) = serde_json::to_vec(&reply) {
            // As above.
            let _sent = self.outlet.frame(Kind::Reply, call, &bytes, &[]);
        }
    }
}
