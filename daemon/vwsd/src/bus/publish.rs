//! Committed events into signals, unicast to the connections that have subscribed and may see the object.
//!
//! One publisher follows the events, looks at what the object is now, and compares it with what was told of it last. Each
//! subscriber has a bounded queue and a task of its own that judges and sends, so that neither a slow connection nor a
//! costly policy holds up another. What does not fit into a queue is left out; then, and when the daemon itself fell behind,
//! the subscriber gets an `Event` of kind `overflow` with the number up to which it may have missed some: it should ask
//! `EventsSince` and read again what it keeps. An `Event` of kind `policy.loaded` can change what it may see as well.
//!
//! Order: for each event first what changed of the object (and Job.Completed), then the `Event` itself.

use super::State;
use super::encode::{self, Map, text};
use super::job;
use super::limits;
use super::value::{Properties, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use vws_bus::{names, path};
use vws_domain::{Caller, Error, ErrorKind, Event, HostName, ImageId, JobId, Result, WorkspaceId};
use zbus::{Message, ObjectPath};

/// The kind of the event that says that others were left out.
const OVERFLOW: &str = "overflow";

/// What a subscriber may have to be told.
enum Notice {
    /// An object is not what it was.
    Changed {
        /// What was told last; `None`: nothing.
        old: Option<Value>,
        /// What it is now; `None`: it is gone.
        new: Option<Value>,
    },
    /// Something was committed.
    Happened(Arc<Event>),
    /// The daemon fell behind, and events were left out.
    Gap,
}

struct Subscriber {
    queue: mpsc::Sender<Arc<Notice>>,
    /// Set when something did not fit into the queue.
    gap: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who is subscribed, by the name of the connection.
#[derive(Default)]
pub struct Subscriptions {
    table: Mutex<HashMap<String, Subscriber>>,
}

impl Subscriptions {
    fn table(&self) -> MutexGuard<'_, HashMap<String, Subscriber>> {
        // Nothing panics while it is held, and the map is whole between any two operations.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes a connection; one that is subscribed already stays so.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] when there are too many.
    pub fn add(&self, state: &Arc<State>, name: String, caller: Arc<Caller>) -> Result<()> {
        let mut table = self.table();
        if table.contains_key(&name) {
            return Ok(());
        }
        if table.len() >= limits::SUBSCRIBERS {
            return Err(Error::new(
                ErrorKind::Busy,
                "subscription",
                format!("{} connections are subscribed, which is the limit", limits::SUBSCRIBERS),
                "ask EventsSince from time to time, or try again later",
            )
            .with_code("subscribers"));
        }
        let (queue, notices) = mpsc::channel(limits::NOTICES_PER_SUBSCRIBER);
        let gap = Arc::new(AtomicBool::new(false));
        let listener = Listener { state: Arc::clone(state), name: name.clone(), caller, gap: Arc::clone(&gap) };
        let task = tokio::spawn(listener.run(notices)).abort_handle();
        table.insert(name, Subscriber { queue, gap, task });
        Ok(())
    }

    /// Ends a subscription, if there is one.
    pub fn remove(&self, name: &str) {
        self.table().remove(name);
    }

    /// Ends all of them.
    pub fn clear(&self) {
        self.table().clear();
    }

    fn tell(&self, notice: Notice) {
        let table = self.table();
        if table.is_empty() {
            return;
        }
        let notice = Arc::new(notice);
        for subscriber in table.values() {
            if subscriber.queue.try_send(Arc::clone(&notice)).is_err() {
                subscriber.gap.store(true, Ordering::Release);
            }
        }
    }
}

/// Follows the committed events.
pub struct Publisher {
    state: Arc<State>,
    events: Receiver<Arc<Event>>,
    told: BTreeMap<path::Object, Value>,
    policy: Option<Value>,
}

impl Publisher {
    /// A publisher for which everything that is there now is told already.
    pub fn new(state: Arc<State>) -> Self {
        // Subscribed before looking: what is committed in between is compared once more, and nothing is missed.
        let events = state.service.events();
        let mut publisher = Self { state, events, told: BTreeMap::new(), policy: None };
        publisher.told = publisher.everything();
        publisher.policy = Some(publisher.policy_now());
        publisher
    }

    /// Publishes until the daemon commits nothing any more.
    pub async fn run(mut self) {
        loop {
            match self.events.recv().await {
                Ok(event) => self.publish(&event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "the publisher fell behind; subscribers are told to catch up");
                    self.catch_up();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn publish(&mut self, event: &Arc<Event>) {
        let objects = [
            event.workspace.map(|id| path::Object::Workspace(id.0)),
            event.job.map(|id| path::Object::Job(id.0)),
            event.image.map(|id| path::Object::Image(id.0)),
            event.host.as_ref().map(|name| path::Object::Host(name.as_str().to_owned())),
        ];
        for place in objects.into_iter().flatten() {
            let new = self.now(&place);
            self.compare(place, new);
        }
        if event.kind.starts_with("policy.") {
            self.compare_policy();
        }
        if event.kind.starts_with("backend.") {
            let now = self.backends().collect();
            self.compare_all(|place| matches!(place, path::Object::Backend(_)), now);
        }
        if event.kind.starts_with("network.") {
            let now = self.networks().collect();
            self.compare_all(|place| matches!(place, path::Object::Network(_)), now);
        }
        self.state.subscriptions.tell(Notice::Happened(Arc::clone(event)));
    }

    /// After missed events: compares everything.
    fn catch_up(&mut self) {
        let mut everything = self.everything();
        let known: Vec<path::Object> = self.told.keys().cloned().collect();
        for place in known {
            let new = everything.remove(&place);
            self.compare(place, new);
        }
        for (place, new) in everything {
            self.compare(place, Some(new));
        }
        self.compare_policy();
        self.state.subscriptions.tell(Notice::Gap);
    }

    fn compare(&mut self, place: path::Object, new: Option<Value>) {
        let old = match &new {
            Some(new) => self.told.insert(place, new.clone()),
            None => self.told.remove(&place),
        };
        match (&old, &new) {
            (None, None) => {}
            (Some(old), Some(new)) if old.same_record(new) => {}
            _ => self.state.subscriptions.tell(Notice::Changed { old, new }),
        }
    }

    fn compare_policy(&mut self) {
        let new = self.policy_now();
        let old = self.policy.replace(new.clone());
        self.state.subscriptions.tell(Notice::Changed { old, new: Some(new) });
    }

    /// Compares every object of a kind of which there are few.
    fn compare_all(&mut self, of_the_kind: fn(&path::Object) -> bool, mut now: BTreeMap<path::Object, Value>) {
        let known: Vec<path::Object> = self.told.keys().filter(|place| of_the_kind(place)).cloned().collect();
        for place in known {
            let new = now.remove(&place);
            self.compare(place, new);
        }
        for (place, new) in now {
            self.compare(place, Some(new));
        }
    }

    fn policy_now(&self) -> Value {
        Value::Policy(Arc::new(self.state.service.policy_status()))
    }

    fn backends(&self) -> impl Iterator<Item = (path::Object, Value)> + use<> {
        self.state.service.backends().into_iter().map(|plugin| {
            let value = Value::Backend(Arc::new(plugin));
            (value.place(), value)
        })
    }

    fn networks(&self) -> impl Iterator<Item = (path::Object, Value)> + use<> {
        self.state.service.networks().into_iter().map(|shown| {
            let value = Value::Network(Arc::new(shown));
            (value.place(), value)
        })
    }

    fn now(&self, place: &path::Object) -> Option<Value> {
        let service = &self.state.service;
        match place {
            path::Object::Workspace(id) => service.read(|site| site.workspace(WorkspaceId(*id)).cloned()).map(Value::Workspace),
            path::Object::Job(id) => service.read(|site| site.job(JobId(*id)).cloned()).map(Value::Job),
            path::Object::Image(id) => service.read(|site| site.image(ImageId(*id)).cloned()).map(Value::Image),
            path::Object::Host(name) => {
                let name = HostName::parse(name).ok()?;
                service.host(&name).ok().map(|shown| Value::Host(Arc::new(shown)))
            }
            path::Object::Root | path::Object::Backend(_) | path::Object::Network(_) => None,
        }
    }

    fn everything(&self) -> BTreeMap<path::Object, Value> {
        let service = &self.state.service;
        let mut all: Vec<Value> = service.read(|site| {
            let workspaces = site.workspaces().cloned().map(Value::Workspace);
            workspaces.chain(site.images().cloned().map(Value::Image)).chain(site.jobs().cloned().map(Value::Job)).collect()
        });
        all.extend(service.hosts().into_iter().map(|shown| Value::Host(Arc::new(shown))));
        all.into_iter().map(|value| (value.place(), value)).chain(self.backends()).chain(self.networks()).collect()
    }
}

/// Tells one connection what it may see.
struct Listener {
    state: Arc<State>,
    name: String,
    caller: Arc<Caller>,
    gap: Arc<AtomicBool>,
}

impl Listener {
    async fn run(self, mut notices: mpsc::Receiver<Arc<Notice>>) {
        while let Some(notice) = notices.recv().await {
            let mut messages = self.messages(&notice);
            // When the queue was full: said as soon as what was in it before is sent.
            if notices.is_empty() && self.gap.swap(false, Ordering::AcqRel) {
                messages.push(self.overflow());
            }
            for message in messages {
                let sent = match message {
                    Ok(message) => self.state.connection.send(&message).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = sent {
                    tracing::debug!(%error, subscriber = %self.name, "a signal could not be sent");
                }
            }
        }
    }

    fn messages(&self, notice: &Notice) -> Vec<zbus::Result<Message>> {
        match notice {
            Notice::Changed { old, new } => self.changed(old.as_ref(), new.as_ref()),
            Notice::Happened(event) if self.state.service.may_view_event(&self.caller, event) => vec![self.event(event)],
            Notice::Happened(_) => Vec::new(),
            Notice::Gap => vec![self.overflow()],
        }
    }

    fn changed(&self, old: Option<&Value>, new: Option<&Value>) -> Vec<zbus::Result<Message>> {
        let sees = |value: &&Value| value.visible(&self.state, &self.caller);
        match (old.filter(sees), new.filter(sees)) {
            (None, None) => Vec::new(),
            (None, Some(new)) => {
                let mut out = vec![self.added(new)];
                out.extend(self.completed(old, new));
                out
            }
            (Some(old), None) => vec![self.removed(old)],
            (Some(old), Some(new)) => {
                let changed = new.changed_since(old, &self.state.contract);
                let mut out = Vec::new();
                if !changed.0.is_empty() {
                    out.push(self.properties_changed(new, &changed));
                }
                out.extend(self.completed(Some(old), new));
                out
            }
        }
    }

    fn added(&self, value: &Value) -> zbus::Result<Message> {
        let interfaces = BTreeMap::from([(value.interface(), value.all())]);
        self.signal(&root(), names::OBJECT_MANAGER, "InterfacesAdded", &(value.path(), interfaces))
    }

    fn removed(&self, value: &Value) -> zbus::Result<Message> {
        self.signal(&root(), names::OBJECT_MANAGER, "InterfacesRemoved", &(value.path(), [value.interface()].as_slice()))
    }

    fn properties_changed(&self, value: &Value, changed: &Properties<'_>) -> zbus::Result<Message> {
        let body = (value.interface(), changed, Vec::<&str>::new());
        self.signal(&value.path(), names::PROPERTIES, "PropertiesChanged", &body)
    }

    /// Job.Completed, when that is what happened.
    fn completed(&self, old: Option<&Value>, new: &Value) -> Option<zbus::Result<Message>> {
        let Value::Job(new_job) = new else { return None };
        let ended_before = matches!(old, Some(Value::Job(old)) if old.state.ended());
        if ended_before || !new_job.state.ended() {
            return None;
        }
        let (name, message, _) = job::failure(new_job);
        let message = if message.is_empty() { new_job.message.replace('\0', "\u{fffd}") } else { message };
        Some(self.signal(&new.path(), names::JOB, "Completed", &(new_job.state.name(), name, message)))
    }

    fn event(&self, event: &Event) -> zbus::Result<Message> {
        let details = Map::from([("text", text(&event.text))]);
        let body = (event.sequence, event.at.0, event.kind.as_str(), encode::subject(event), details);
        self.signal(&root(), names::MANAGER, "Event", &body)
    }

    /// The event that says that others were left out. Its number is the last one committed, its time is not known: 0.
    fn overflow(&self) -> zbus::Result<Message> {
        let last = self.state.service.read(|site| site.event_sequence);
        let details = Map::from([("text", "events were left out: ask EventsSince, and read again what you keep".into())]);
        self.signal(&root(), names::MANAGER, "Event", &(last, 0_u64, OVERFLOW, encode::none(), details))
    }

    fn signal<B>(&self, path: &ObjectPath<'_>, interface: &'static str, member: &'static str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::wire::DynamicType,
    {
        Message::signal(path, interface, member).destination(self.name.as_str()).build(body)
    }
}

fn root() -> ObjectPath<'static> {
    encode::object(&path::Object::Root)
}
