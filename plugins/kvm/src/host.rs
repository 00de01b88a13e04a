//! One host: its connection to libvirt, kept up by a thread of its own, and what is remembered of its machines.
//!
//! Owns: connecting with a deadline, reconnecting with back-off, a deadline for every libvirt call, and telling the daemon what
//! others did. A libvirt that hangs holds threads of its own host only. Must not know: what the calls are for.

use crate::errors;
use crate::events::{self, Told};
use crate::machine;
use crate::probe::Seen;
use crate::settings::Settings;
use crate::storage::{Storage, is_workspace};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use virt::connect::Connect;
use virt::error::Error;
use vws_plugin_api::doc::{Failure, MachineState, MachineStatus, PluginEvent, Retry, codes};
use vws_plugin_api::sdk::{Call, Emitter, Outcome};

/// How often a waiting call looks whether it was cancelled.
const GLANCE: Duration = Duration::from_millis(50);
/// How often console logs are bounded and an idle connection is looked at.
const ROUND: Duration = Duration::from_secs(5);
/// First and longest pause between two connection attempts.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Keep-alive: a dead connection is noticed after interval * (count + 1) seconds.
const KEEP_ALIVE: (i32, u32) = (5, 3);
/// Calls that may hang in libvirt at once before new ones are refused.
const STUCK_AT_MOST: usize = 32;
/// How long the connection's own thread lets libvirt think about one machine.
const OWN_DEADLINE: Duration = Duration::from_secs(10);

/// What the connection is.
enum Link {
    /// No attempt has ended yet.
    New,
    /// It answers.
    Up(Arc<Connect>),
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

/// A host.
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// Its files.
    pub storage: Storage,
    /// What the last probe saw.
    pub seen: Mutex<Option<Seen>>,
    /// One probe at a time.
    pub probing: Mutex<()>,
    emitter: Emitter,
    link: Mutex<Link>,
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
    /// Opens the host: its folder is there, its thread tries to connect.
    pub fn open(name: String, settings: Settings, emitter: Emitter) -> Outcome<Arc<Self>> {
        events::start_loop().map_err(|error| Failure::new(codes::INTERNAL, format!("libvirt's event loop: {error}")))?;
        let storage = Storage::open(&settings.directory)?;
        let (told, hear) = mpsc::channel();
        let host = Arc::new(Self {
            name,
            settings,
            storage,
            seen: Mutex::new(None),
            probing: Mutex::new(()),
            emitter,
            link: Mutex::new(Link::New),
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
        self.changed.notify_all();
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

    fn connection(&self) -> Outcome<Arc<Connect>> {
        match &*lock(&self.link) {
            Link::Up(connection) => Ok(Arc::clone(connection)),
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
        work: impl FnOnce(&Connect) -> Result<T, Error> + Send + 'static,
    ) -> Outcome<T> {
        self.run_until(&|| call.check(), what, object, work)
    }

    fn run_until<T: Send + 'static>(
        &self,
        check: &dyn Fn() -> Outcome<()>,
        what: &str,
        object: &str,
        work: impl FnOnce(&Connect) -> Result<T, Error> + Send + 'static,
    ) -> Outcome<T> {
        let connection = self.connection()?;
        if self.stuck.load(Ordering::Relaxed) >= STUCK_AT_MOST {
            return Err(Failure::new(codes::UNREACHABLE, format!("{STUCK_AT_MOST} calls hang in libvirt"))
                .about(self.object())
                .remedy("restart libvirt on the host")
                .retry(Retry::Later));
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let stuck = Arc::clone(&self.stuck);
        stuck.fetch_add(1, Ordering::Relaxed);
        let spawned = std::thread::Builder::new().name("libvirt-call".to_owned()).spawn(move || {
            // The crate panics when libvirt refuses to free an object: that ends here, not in the daemon.
            let result = catch_unwind(AssertUnwindSafe(|| {
                let result = work(&connection);
                drop(connection);
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
                Ok(Ok(Err(error))) => return Err(errors::libvirt(&error, what, object)),
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(
                        Failure::new(codes::INTERNAL, format!("{what}: the call to libvirt ended abnormally")).about(object)
                    );
                }
                Err(RecvTimeoutError::Timeout) => check().map_err(|failure| {
                    let message = format!("{what}: {}", failure.message);
                    Failure { message, ..failure }.about(object)
                })?,
            }
        }
    }

    /// Like [`Host::run`] for calls that the host makes of its own accord.
    pub fn run_own<T: Send + 'static>(
        &self,
        what: &str,
        object: &str,
        work: impl FnOnce(&Connect) -> Result<T, Error> + Send + 'static,
    ) -> Outcome<T> {
        let end = Instant::now() + OWN_DEADLINE;
        let check = || if Instant::now() < end { Ok(()) } else { Err(Failure::new(codes::TIMED_OUT, "libvirt did not answer")) };
        self.run_until(&check, what, object, work)
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
        let Ok(domain) = self.run_own("look at the machine", &object, move |connection| machine::state(connection, &id)) else {
            return;
        };
        let status = machine::status(&self.storage, workspace, domain);
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

    /// Bounds the console logs of machines that are here.
    fn tidy(&self) {
        for workspace in self.storage.workspaces().unwrap_or_default() {
            if let Err(failure) = self.storage.bound_log(&workspace, self.settings.console_log_kib << 10) {
                // A file system without holes: the log is bounded when the machine starts anew, and this says why it grows.
                self.emitter.emit(&PluginEvent::Log {
                    level: "debug".to_owned(),
                    message: format!("{}: {}", failure.object, failure.message),
                });
            }
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

/// Connects, no longer than the settings allow. An attempt that hangs keeps its thread and nothing else.
fn connect(uri: &str, deadline: Duration, object: &str) -> Outcome<Connect> {
    let (answer, answered) = mpsc::sync_channel(1);
    let asked = uri.to_owned();
    std::thread::Builder::new()
        .name("libvirt-connect".to_owned())
        .spawn(move || {
            let opened = catch_unwind(AssertUnwindSafe(|| Connect::open(Some(&asked))));
            // Nobody waits any more: the connection is closed here.
            let _late = catch_unwind(AssertUnwindSafe(|| answer.send(opened)));
        })
        .map_err(|error| {
            Failure::new(codes::INTERNAL, format!("cannot start a thread: {error}")).about(object).retry(Retry::Later)
        })?;
    match answered.recv_timeout(deadline) {
        Ok(Ok(Ok(connection))) => Ok(connection),
        // Whatever libvirt says about a connection that did not come about: the host is not reachable.
        Ok(Ok(Err(error))) => Err(Failure {
            code: codes::UNREACHABLE.to_owned(),
            ..errors::libvirt(&error, &format!("connect to `{uri}`"), object)
        }
        .remedy("see that libvirt runs on the host and that its URI is right")
        .retry(Retry::Later)),
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
        let linked = connect(&strong.settings.uri, Duration::from_millis(strong.settings.connect_deadline_ms), &object).and_then(
            |connection| {
                // The test and local drivers know no keep-alive; they need none.
                let _optional = connection.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1);
                events::subscribe(&connection, &strong.told)
                    .map_err(|error| errors::libvirt(&error, "subscribe to events", &object))?;
                Ok(connection)
            },
        );
        match linked {
            Ok(connection) => {
                pause = BACK_OFF.0;
                let connection = Arc::new(connection);
                if !strong.set_link(Link::Up(Arc::clone(&connection))) {
                    return;
                }
                strong.emitter.emit(&PluginEvent::Host { host: strong.name.clone(), up: true, reason: String::new() });
                // What changed while nobody listened.
                let known: Vec<_> = lock(&strong.known).keys().cloned().collect();
                known.iter().for_each(|workspace| strong.look(workspace));
                drop(strong);
                let Some(reason) = listen(host, hear, &connection) else { return };
                let Some(strong) = host.upgrade() else { return };
                let failure = Failure::new(codes::UNREACHABLE, reason.clone())
                    .about(object)
                    .remedy("see that libvirt runs on the host")
                    .retry(Retry::Later);
                if !strong.set_link(Link::Down(failure)) {
                    return;
                }
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
        if tidied.elapsed() >= ROUND {
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
