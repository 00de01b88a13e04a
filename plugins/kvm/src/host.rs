//! One host: its connection to libvirt, kept up by a thread of its own, and what is remembered of its machines.
//!
//! Owns: connecting with a deadline, the storage pool that belongs to the connection, reconnecting with back-off, a deadline for
//! every libvirt call, and telling the daemon what others did. A libvirt that hangs holds threads of its own host only. Must not know: what the calls are for.

use crate::errors;
use crate::events::{self, Told};
use crate::machine;
use crate::probe::Seen;
use crate::settings::Settings;
use crate::storage::{Memory, Site, Trouble, is_workspace};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use virt::connect::Connect;
use virt::error::Error;
use vws_plugin_api::doc::{Failure, MachineState, MachineStatus, PluginEvent, Retry, codes};
use vws_plugin_api::sdk::{Call, Emitter, Outcome};

/// How often a waiting call looks whether it was cancelled.
const GLANCE: Duration = Duration::from_millis(50);
/// How often an idle connection is looked at.
const ROUND: Duration = Duration::from_secs(5);
/// First and longest pause between two connection attempts.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Keep-alive: a dead connection is noticed after interval * (count + 1) seconds.
const KEEP_ALIVE: (i32, u32) = (5, 3);
/// Calls that may hang in libvirt at once before new ones are refused.
const STUCK_AT_MOST: usize = 32;
/// What is done on a connection that stays with what was opened on it.
pub const APART: &str = "open the console";
/// How often console logs are bounded.
const TIDY: Duration = Duration::from_secs(20);
/// How long work that was stopped may take to clean up behind itself before it is left to itself.
const CLEAN_UP: Duration = Duration::from_secs(3);
/// How long the connection's own thread lets libvirt think about one machine.
const OWN_DEADLINE: Duration = Duration::from_secs(10);

/// What the connection is.
enum Link {
    /// No attempt has ended yet.
    New,
    /// It answers.
    Up(Arc<Site>),
    /// It does not, and why.
    Down(Failure),
}

/// What is remembered of a machine.
#[derive(Default)]
struct Known {
    /// What the daemon was told last.
    state: Option<MachineState>,
    /// Calls of the daemon that are changing it.
    busy: usize,
    /// It changed while it was busy.
    dirty: bool,
    /// How often it was reset, as far as libvirt told.
    reboots: u64,
}

/// Between a call that waits and the thread that works for it: how far that is, and whether it shall stop.
#[derive(Default)]
pub struct Gauge {
    stop: AtomicBool,
    moved: AtomicU64,
    total: AtomicU64,
}

impl Gauge {
    /// A failure if the work shall stop.
    pub fn check(&self) -> Outcome<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failure::new(codes::CANCELLED, "the call was given up"));
        }
        Ok(())
    }

    /// So many bytes in all, of so many.
    pub fn set(&self, bytes: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.moved.store(bytes, Ordering::Relaxed);
    }

    /// So many bytes more.
    pub fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A host.
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// What the last probe saw.
    pub seen: Mutex<Option<Seen>>,
    /// Which seed a machine has, so that the same one is not sent twice.
    pub seeds: Mutex<HashMap<String, u64>>,
    /// One probe at a time.
    pub probing: Mutex<()>,
    emitter: Emitter,
    link: Mutex<Link>,
    /// Connections that no call uses now. Each call has one of its own: in libvirt before 10.4 two threads that call over one
    /// connection can leave behind what crashes the process later (CVE-2024-4418).
    idle: Arc<Mutex<Vec<Arc<Site>>>>,
    memory: Arc<Memory>,
    changed: Condvar,
    known: Mutex<HashMap<String, Known>>,
    told: Sender<Told>,
    stuck: Arc<AtomicUsize>,
    closing: Arc<AtomicBool>,
}

/// A lock whose holder panicked is used on: every value behind these locks is valid between any two statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    /// Opens the host: its thread tries to connect.
    pub fn open(name: String, settings: Settings, emitter: Emitter) -> Outcome<Arc<Self>> {
        events::start_loop().map_err(|error| Failure::new(codes::INTERNAL, format!("libvirt's event loop: {error}")))?;
        let (told, hear) = mpsc::channel();
        let host = Arc::new(Self {
            name,
            settings,
            seen: Mutex::new(None),
            seeds: Mutex::new(HashMap::new()),
            probing: Mutex::new(()),
            emitter,
            link: Mutex::new(Link::New),
            idle: Arc::default(),
            memory: Arc::default(),
            changed: Condvar::new(),
            known: Mutex::new(HashMap::new()),
            told,
            stuck: Arc::new(AtomicUsize::new(0)),
            closing: Arc::new(AtomicBool::new(false)),
        });
        let weak = Arc::downgrade(&host);
        std::thread::Builder::new()
            .name("libvirt-host".to_owned())
            .spawn(move || keep(&weak, &hear))
            .map_err(|error| Failure::new(codes::INTERNAL, format!("cannot start a thread: {error}")).retry(Retry::Later))?;
        Ok(host)
    }

    /// Ends the host's thread and its connection. What runs on the host runs on.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        let _thread_gone = self.told.send(Told::Closed("the host was closed".to_owned()));
        *lock(&self.link) = Link::Down(Failure::new(codes::UNREACHABLE, "the host was closed").about(self.object()));
        self.let_go();
        self.changed.notify_all();
    }

    /// Closes the connections that no call uses. Each says farewell to its host, which may not answer: that is waited for elsewhere.
    fn let_go(&self) {
        let idle = std::mem::take(&mut *lock(&self.idle));
        let _closed_here = std::thread::Builder::new()
            .name("libvirt-close".to_owned())
            .spawn(move || catch_unwind(AssertUnwindSafe(|| drop(idle))).is_ok());
    }

    /// How the host is named in failures.
    pub fn object(&self) -> String {
        format!("host `{}`", self.name)
    }

    /// Waits for the end of the first attempt to connect.
    pub fn wait_for_link(&self, call: &Call) -> Outcome<()> {
        let mut link = lock(&self.link);
        loop {
            match &*link {
                Link::Up(_) => return Ok(()),
                Link::Down(failure) => return Err(failure.clone()),
                Link::New => {}
            }
            call.check().map_err(|failure| failure.about(self.object()))?;
            link = self.changed.wait_timeout(link, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn site(&self) -> Outcome<Arc<Site>> {
        match &*lock(&self.link) {
            Link::Up(site) => Ok(Arc::clone(site)),
            Link::Down(failure) => Err(failure.clone()),
            Link::New => Err(Failure::new(codes::UNREACHABLE, "the first connection attempt has not ended yet")
                .about(self.object())
                .retry(Retry::Later)),
        }
    }

    /// Runs `work` on the connection, on a thread of its own, no longer than the call may take.
    pub fn run<T: Send + 'static>(
        &self,
        call: &Call,
        what: &str,
        object: &str,
        work: impl FnOnce(&Site) -> Result<T, Error> + Send + 'static,
    ) -> Outcome<T> {
        self.run_until(&|_| call.check(), Duration::ZERO, what, object, move |site, _gauge| Ok(work(site)?))
    }

    /// Like [`Host::run`] for work that may fail in words of its own.
    pub fn work<T: Send + 'static>(
        &self,
        call: &Call,
        what: &str,
        object: &str,
        work: impl FnOnce(&Site, &Gauge) -> Result<T, Trouble> + Send + 'static,
    ) -> Outcome<T> {
        self.run_until(&|_| call.check(), Duration::ZERO, what, object, work)
    }

    /// Like [`Host::work`] for work that moves bytes: the call's listener hears how far it is.
    pub fn pump<T: Send + 'static>(
        &self,
        call: &Call,
        phase: &str,
        total: u64,
        object: &str,
        work: impl FnOnce(&Site, &Gauge) -> Result<T, Trouble> + Send + 'static,
    ) -> Outcome<T> {
        let told = AtomicU64::new(u64::MAX);
        let watch = |gauge: &Gauge| {
            let moved = gauge.moved.load(Ordering::Relaxed);
            if told.swap(moved, Ordering::Relaxed) != moved {
                call.progress(phase, moved, gauge.total.load(Ordering::Relaxed).max(total));
            }
            call.check()
        };
        call.progress(phase, 0, total);
        self.run_until(&watch, CLEAN_UP, &format!("cannot {phase}"), object, work)
    }

    fn run_until<T: Send + 'static>(
        &self,
        check: &dyn Fn(&Gauge) -> Outcome<()>,
        clean_up: Duration,
        what: &str,
        object: &str,
        work: impl FnOnce(&Site, &Gauge) -> Result<T, Trouble> + Send + 'static,
    ) -> Outcome<T> {
        // The connection that listens is up: others can be had.
        self.site()?;
        if self.stuck.load(Ordering::Relaxed) >= STUCK_AT_MOST {
            return Err(Failure::new(codes::UNREACHABLE, format!("{STUCK_AT_MOST} calls hang in libvirt"))
                .about(self.object())
                .remedy("restart libvirt on the host")
                .retry(Retry::Later));
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let stuck = Arc::clone(&self.stuck);
        stuck.fetch_add(1, Ordering::Relaxed);
        let gauge = Arc::new(Gauge::default());
        let theirs = Arc::clone(&gauge);
        let (idle, memory, settings) = (Arc::clone(&self.idle), Arc::clone(&self.memory), self.settings.clone());
        let keep = what != APART;
        let spawned = std::thread::Builder::new().name("libvirt-call".to_owned()).spawn(move || {
            // The crate panics when libvirt refuses to free an object: that ends here, not in the daemon.
            let result = catch_unwind(AssertUnwindSafe(|| {
                let lent = lock(&idle).pop();
                let site = match lent.filter(|site| site.is_alive().unwrap_or(false)) {
                    Some(site) => site,
                    None => Arc::new(open_site(&settings, memory).map_err(|(_, trouble)| trouble)?),
                };
                let result = work(&site, &theirs);
                // What is not alive any more, or still has a stream, is closed by whoever drops it last.
                if keep && site.is_alive().unwrap_or(false) {
                    lock(&idle).push(site);
                }
                result
            }));
            stuck.fetch_sub(1, Ordering::Relaxed);
            let _given_up = answer.send(result);
        });
        if let Err(error) = spawned {
            self.stuck.fetch_sub(1, Ordering::Relaxed);
            return Err(Failure::new(codes::INTERNAL, format!("cannot start a thread: {error}"))
                .about(object)
                .retry(Retry::Later));
        }
        loop {
            match answered.recv_timeout(GLANCE) {
                Ok(Ok(Ok(value))) => return Ok(value),
                Ok(Ok(Err(Trouble::Libvirt(error)))) => return Err(errors::libvirt(&error, what, object)),
                Ok(Ok(Err(Trouble::Plain(failure)))) => {
                    let object = if failure.object.is_empty() { object.to_owned() } else { failure.object.clone() };
                    return Err(failure.about(object));
                }
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(
                        Failure::new(codes::INTERNAL, format!("{what}: the call to libvirt ended abnormally")).about(object)
                    );
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(failure) = check(&gauge) {
                        // It may leave half a file otherwise.
                        gauge.stop.store(true, Ordering::Relaxed);
                        let _left_to_itself = answered.recv_timeout(clean_up);
                        let message = format!("{what}: {}", failure.message);
                        return Err(Failure { message, ..failure }.about(object));
                    }
                }
            }
        }
    }

    /// Like [`Host::run`] for calls that the host makes of its own accord.
    pub fn run_own<T: Send + 'static>(
        &self,
        what: &str,
        object: &str,
        work: impl FnOnce(&Site) -> Result<T, Error> + Send + 'static,
    ) -> Outcome<T> {
        self.work_own(what, object, move |site| Ok(work(site)?))
    }

    /// Like [`Host::run_own`] for work that may fail in words of its own.
    pub fn work_own<T: Send + 'static>(
        &self,
        what: &str,
        object: &str,
        work: impl FnOnce(&Site) -> Result<T, Trouble> + Send + 'static,
    ) -> Outcome<T> {
        let end = Instant::now() + OWN_DEADLINE;
        let check =
            |_: &Gauge| if Instant::now() < end { Ok(()) } else { Err(Failure::new(codes::TIMED_OUT, "libvirt did not answer")) };
        self.run_until(&check, Duration::ZERO, what, object, move |site, _gauge| work(site))
    }

    // ---- what is remembered of machines ------------------------------------------------------------------------------

    /// Marks a machine as being changed by the daemon, until the guard is dropped.
    pub fn busy(self: &Arc<Self>, workspace: &str) -> Busy {
        lock(&self.known).entry(workspace.to_owned()).or_default().busy += 1;
        Busy { host: Arc::clone(self), workspace: workspace.to_owned() }
    }

    /// Remembers what the daemon is told of a machine.
    pub fn note(&self, status: &MachineStatus) {
        let mut known = lock(&self.known);
        if status.state == MachineState::Absent && known.get(&status.workspace).is_none_or(|known| known.busy == 0) {
            known.remove(&status.workspace);
        } else {
            known.entry(status.workspace.clone()).or_default().state = Some(status.state);
        }
    }

    /// How often the machine was reset so far.
    pub fn reboots(&self, workspace: &str) -> u64 {
        lock(&self.known).get(workspace).map_or(0, |known| known.reboots)
    }

    /// A machine changed: tells the daemon if it was not the daemon's doing.
    fn look(&self, workspace: &str) {
        {
            let mut known = lock(&self.known);
            // Machines that the daemon never spoke of here are found by its own listing.
            let Some(known) = known.get_mut(workspace) else { return };
            if known.busy > 0 {
                known.dirty = true;
                return;
            }
        }
        let id = workspace.to_owned();
        let object = errors::workspace(workspace);
        let Ok(domain) = self.run_own("look at the machine", &object, move |site| machine::state(site, &id)) else {
            return;
        };
        let status = machine::status(workspace, &domain);
        let news = {
            let mut known = lock(&self.known);
            let Some(known) = known.get_mut(workspace) else { return };
            if known.busy > 0 {
                known.dirty = true;
                return;
            }
            known.state.replace(status.state) != Some(status.state)
        };
        if news {
            self.emitter.emit(&PluginEvent::Workspace { host: self.name.clone(), status });
        }
    }

    fn hear(&self, told: &Told) {
        match told {
            Told::Changed(name) | Told::Rebooted(name) => {
                let Some(workspace) = name.strip_prefix("vws-").filter(|id| is_workspace(id)) else { return };
                if matches!(told, Told::Rebooted(_))
                    && let Some(known) = lock(&self.known).get_mut(workspace)
                {
                    known.reboots += 1;
                }
                self.look(workspace);
            }
            Told::Closed(_) => {}
        }
    }

    /// Bounds the console logs of machines that run here.
    fn tidy(&self) {
        let runs = |known: &Known| matches!(known.state, Some(MachineState::Running));
        let running: Vec<_> =
            lock(&self.known).iter().filter(|(_, known)| runs(known)).map(|(workspace, _)| workspace.clone()).collect();
        if running.is_empty() {
            return;
        }
        let keep_bytes = self.settings.console_log_kib << 10;
        let bounded = self.work_own("bound console logs", &self.object(), move |site| {
            running.iter().try_for_each(|workspace| site.bound_log(workspace, keep_bytes))
        });
        if let Err(failure) = bounded {
            // A log that is not bounded now is bounded later or when the machine starts anew; this says why it grows.
            self.emitter.emit(&PluginEvent::Log {
                level: "debug".to_owned(),
                message: format!("{}: {}", failure.object, failure.message),
            });
        }
    }
}

/// While it lives, the machine's changes are the daemon's own.
pub struct Busy {
    host: Arc<Host>,
    workspace: String,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut known = lock(&self.host.known);
        let Some(entry) = known.get_mut(&self.workspace) else { return };
        entry.busy = entry.busy.saturating_sub(1);
        if entry.busy > 0 {
            return;
        }
        if entry.state == Some(MachineState::Absent) {
            known.remove(&self.workspace);
        } else if std::mem::take(&mut entry.dirty) {
            // Looked at once more, now that whatever is different is somebody else's doing.
            let _thread_gone = self.host.told.send(Told::Changed(crate::xml::domain_name(&self.workspace)));
        }
    }
}

/// Connects and finds the pool. A failure says whether the connection itself did not come about.
fn open_site(settings: &Settings, memory: Arc<Memory>) -> Result<Site, (bool, Trouble)> {
    let connection = Connect::open(Some(&settings.uri)).map_err(|error| (true, error.into()))?;
    // The test and local drivers know no keep-alive; they need none.
    let _optional = connection.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1);
    Site::open(connection, settings, memory).map_err(|trouble| (false, trouble))
}

/// Connects and finds the pool, no longer than the settings allow. An attempt that hangs keeps its thread and nothing else.
fn connect(settings: &Settings, memory: Arc<Memory>, object: &str) -> Outcome<Site> {
    let (answer, answered) = mpsc::sync_channel(1);
    let (asked, deadline) = (settings.clone(), Duration::from_millis(settings.connect_deadline_ms));
    let uri = &settings.uri;
    std::thread::Builder::new()
        .name("libvirt-connect".to_owned())
        .spawn(move || {
            let opened = catch_unwind(AssertUnwindSafe(|| open_site(&asked, memory)));
            // Nobody waits any more: the connection is closed here.
            let _late = catch_unwind(AssertUnwindSafe(|| answer.send(opened)));
        })
        .map_err(|error| {
            Failure::new(codes::INTERNAL, format!("cannot start a thread: {error}")).about(object).retry(Retry::Later)
        })?;
    match answered.recv_timeout(deadline) {
        Ok(Ok(Ok(site))) => Ok(site),
        // Whatever libvirt says about a connection that did not come about: the host is not reachable.
        Ok(Ok(Err((true, Trouble::Libvirt(error))))) => Err(Failure {
            code: codes::UNREACHABLE.to_owned(),
            ..errors::libvirt(&error, &format!("connect to `{uri}`"), object)
        }
        .remedy("see that libvirt runs on the host and that its URI is right")
        .retry(Retry::Later)),
        Ok(Ok(Err((_, Trouble::Libvirt(error))))) => Err(errors::libvirt(&error, "open its storage pool", object)),
        Ok(Ok(Err((_, Trouble::Plain(failure))))) => Err(failure.about(object)),
        _ => Err(Failure::new(codes::UNREACHABLE, format!("connect to `{uri}`: no answer within {} ms", deadline.as_millis()))
            .about(object)
            .remedy("see that the host is up and its network works")
            .retry(Retry::Later)),
    }
}

/// The host's thread: connects, listens, reconnects, until the host is closed or dropped.
fn keep(host: &Weak<Host>, hear: &Receiver<Told>) {
    let mut pause = BACK_OFF.0;
    let mut told_down = false;
    loop {
        let Some(strong) = host.upgrade() else { return };
        if strong.closing.load(Ordering::SeqCst) {
            return;
        }
        let object = strong.object();
        let linked = connect(&strong.settings, Arc::clone(&strong.memory), &object).and_then(|site| {
            events::subscribe(&site, &strong.told).map_err(|error| errors::libvirt(&error, "subscribe to events", &object))?;
            Ok(site)
        });
        match linked {
            Ok(site) => {
                pause = BACK_OFF.0;
                let site = Arc::new(site);
                strong.memory.defined.forget();
                if !strong.set_link(Link::Up(Arc::clone(&site))) {
                    return;
                }
                strong.emitter.emit(&PluginEvent::Host { host: strong.name.clone(), up: true, reason: String::new() });
                // What changed while nobody listened.
                let known: Vec<_> = lock(&strong.known).keys().cloned().collect();
                known.iter().for_each(|workspace| strong.look(workspace));
                drop(strong);
                let Some(reason) = listen(host, hear, &site) else { return };
                let Some(strong) = host.upgrade() else { return };
                let failure = Failure::new(codes::UNREACHABLE, reason.clone())
                    .about(object)
                    .remedy("see that libvirt runs on the host")
                    .retry(Retry::Later);
                if !strong.set_link(Link::Down(failure)) {
                    return;
                }
                strong.let_go();
                strong.emitter.emit(&PluginEvent::Host { host: strong.name.clone(), up: false, reason });
                told_down = true;
            }
            Err(failure) => {
                if !std::mem::replace(&mut told_down, true) {
                    strong.emitter.emit(&PluginEvent::Host {
                        host: strong.name.clone(),
                        up: false,
                        reason: failure.message.clone(),
                    });
                }
                if !strong.set_link(Link::Down(failure)) {
                    return;
                }
                drop(strong);
                // The pause ends early when the host is closed.
                if let Ok(Told::Closed(_)) = hear.recv_timeout(pause) {
                    pause = BACK_OFF.0;
                }
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }
}

/// Listens until the connection is gone (then says why) or the host is closed.
fn listen(host: &Weak<Host>, hear: &Receiver<Told>, connection: &Connect) -> Option<String> {
    let mut tidied = Instant::now();
    loop {
        let told = hear.recv_timeout(ROUND);
        let strong = host.upgrade()?;
        if strong.closing.load(Ordering::SeqCst) {
            return None;
        }
        match told {
            // A late farewell of an earlier connection does not end this one.
            Ok(Told::Closed(reason)) => {
                if !connection.is_alive().unwrap_or(false) {
                    return Some(reason);
                }
            }
            Ok(told) => strong.hear(&told),
            Err(_quiet) => {
                if !connection.is_alive().unwrap_or(false) {
                    return Some("the connection to libvirt broke".to_owned());
                }
            }
        }
        if tidied.elapsed() >= TIDY {
            strong.tidy();
            tidied = Instant::now();
        }
    }
}

impl Host {
    /// Sets the link, unless the host was closed meanwhile.
    fn set_link(&self, to: Link) -> bool {
        let mut link = lock(&self.link);
        if self.closing.load(Ordering::SeqCst) {
            return false;
        }
        *link = to;
        self.changed.notify_all();
        true
    }
}
