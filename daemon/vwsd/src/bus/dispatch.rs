//! The message loop: takes each call off the connection, finds out who sent it and what it is for, and sees that it is
//! answered. Written here instead of using the library's object server, because an object that a caller may not see must
//! answer exactly as one that does not exist, in every method of every interface, and because a hundred thousand objects
//! need no registration this way.
//!
//! Invariants: the loop waits for nothing but messages and the socket: what may take time is a task. It makes no call on
//! the bus itself: the reply would come through the queue that it is to empty. Calls of one connection start in their order.

use super::call::{Call, Method, Outcome, Reply};
use super::error::Failure;
use super::object::{self, Object};
use super::{
    State, backend, caller, host, image, introspect, job, limits, manager, network, object_manager, policy, properties, workspace,
};
use futures_util::{FutureExt, StreamExt};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use vws_bus::names;
use vws_domain::{Caller, Error, ErrorKind, Result};
use zbus::message::{Flags, Type};
use zbus::{Message, MessageStream};

/// Handlers of an interface.
pub fn methods(interface: &str) -> &'static [Method] {
    match interface {
        names::OBJECT_MANAGER => object_manager::METHODS,
        names::MANAGER => manager::METHODS,
        names::POLICY => policy::METHODS,
        names::WORKSPACE => workspace::METHODS,
        names::HOST => host::METHODS,
        names::IMAGE => image::METHODS,
        names::NETWORK => network::METHODS,
        names::JOB => job::METHODS,
        names::BACKEND => backend::METHODS,
        names::PROPERTIES => properties::METHODS,
        names::INTROSPECTABLE => introspect::INTROSPECTABLE,
        names::PEER => introspect::PEER,
        _ => &[],
    }
}

/// What is known of a connection that calls.
enum Sender {
    /// The bus is being asked who it is; its calls wait.
    Asked(Vec<Message>),
    /// It is known.
    Known { caller: Arc<Caller>, room: Room },
}

/// What a connection may keep the daemon busy with.
///
/// A caller may send the next call as soon as it has a reply: the place of the call before is free by then, and the reply that is
/// being sent counts by itself.
#[derive(Clone)]
struct Room {
    /// Calls in work.
    work: Arc<Semaphore>,
    /// The same and the replies that are not sent yet.
    replies: Arc<Semaphore>,
}

/// A call's place in both.
struct Place {
    work: OwnedSemaphorePermit,
    _reply: OwnedSemaphorePermit,
}

impl Room {
    fn new() -> Self {
        let of = |count| Arc::new(Semaphore::new(count));
        Self { work: of(limits::CALLS_PER_SENDER), replies: of(limits::REPLIES_PER_SENDER) }
    }

    fn is_idle(&self) -> bool {
        self.replies.available_permits() == limits::REPLIES_PER_SENDER
    }

    fn place(&self) -> Option<Place> {
        let work = Arc::clone(&self.work).try_acquire_owned().ok()?;
        Some(Place { work, _reply: Arc::clone(&self.replies).try_acquire_owned().ok()? })
    }
}

impl Place {
    /// The work is done; sends the reply.
    async fn answer(self, state: &State, call: &Message, reply: Reply) {
        drop(self.work);
        answer(state, call, reply).await;
    }
}

/// Who a connection is, as the bus told.
type Identified = (String, Result<Caller>);

/// The loop and what it remembers.
pub struct Dispatcher {
    state: Arc<State>,
    senders: HashMap<String, Sender>,
    answers: (mpsc::UnboundedSender<Identified>, mpsc::UnboundedReceiver<Identified>),
}

impl Dispatcher {
    /// A dispatcher that knows nobody yet.
    pub fn new(state: Arc<State>) -> Self {
        Self { state, senders: HashMap::new(), answers: mpsc::unbounded_channel() }
    }

    /// Serves until the connection ends.
    pub async fn run(mut self, mut messages: MessageStream) {
        loop {
            tokio::select! {
                Some((name, answer)) = self.answers.1.recv() => self.identified(name, answer).await,
                message = messages.next() => match message {
                    Some(Ok(message)) => self.take(message).await,
                    Some(Err(error)) => tracing::warn!(%error, "a bus message could not be read"),
                    None => break,
                },
            }
        }
        tracing::info!("the connection to the bus has ended");
    }

    async fn take(&mut self, message: Message) {
        match message.message_type() {
            Type::MethodCall => self.called(message).await,
            Type::Signal => self.signalled(&message),
            _ => {}
        }
    }

    async fn called(&mut self, message: Message) {
        let header = message.header();
        // Without a sender there is no bus between, and nobody who vouches for one.
        let Some(name) = header.sender().map(|sender| sender.as_str()) else { return };
        match self.senders.get_mut(name) {
            Some(Sender::Known { caller, room }) => {
                let (caller, room) = (Arc::clone(caller), room.clone());
                drop(header);
                self.start(message, caller, &room).await;
            }
            Some(Sender::Asked(waiting)) if waiting.len() < limits::CALLS_PER_SENDER => {
                drop(header);
                waiting.push(message);
            }
            Some(Sender::Asked(_)) => answer(&self.state, &message, Err(too_many())).await,
            None => {
                let name = name.to_owned();
                drop(header);
                self.ask(name, message);
            }
        }
    }

    /// Asks the bus who a connection is; its calls wait until it is known.
    fn ask(&mut self, name: String, message: Message) {
        if self.senders.len() >= limits::SENDERS {
            // The idle ones are asked for again when they call again; subscriptions are kept elsewhere.
            self.senders.retain(|_, sender| match sender {
                Sender::Asked(_) => true,
                Sender::Known { room, .. } => !room.is_idle(),
            });
        }
        self.senders.insert(name.clone(), Sender::Asked(vec![message]));
        let (state, answers) = (Arc::clone(&self.state), self.answers.0.clone());
        tokio::spawn(async move {
            let asked = caller::identify(&state.connection, &name, &state.admins);
            let answer = AssertUnwindSafe(asked).catch_unwind().await.unwrap_or_else(|_| Err(defect()));
            // The loop is gone only when the daemon ends.
            drop(answers.send((name, answer)));
        });
    }

    async fn identified(&mut self, name: String, answer_of_bus: Result<Caller>) {
        // It went away meanwhile.
        let Some(Sender::Asked(waiting)) = self.senders.remove(&name) else { return };
        match answer_of_bus {
            Ok(caller) => {
                let (caller, room) = (Arc::new(caller), Room::new());
                let known = Sender::Known { caller: Arc::clone(&caller), room: room.clone() };
                self.senders.insert(name, known);
                for message in waiting {
                    self.start(message, Arc::clone(&caller), &room).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, detail = %error.detail, "a caller could not be identified");
                for message in waiting {
                    answer(&self.state, &message, Err(error.clone().into())).await;
                }
            }
        }
    }

    /// A connection went away: unique names are never given again, so this is about memory and subscriptions only.
    fn signalled(&mut self, message: &Message) {
        let header = message.header();
        let from_bus = header.sender().is_some_and(|sender| sender.as_str() == "org.freedesktop.DBus");
        if !from_bus || header.member().is_none_or(|member| member.as_str() != "NameOwnerChanged") {
            return;
        }
        let body = message.body();
        let Ok((name, _, owner)) = body.deserialize::<(&str, &str, &str)>() else { return };
        if owner.is_empty() {
            self.senders.remove(name);
            // Also when it was forgotten here for being idle.
            self.state.subscriptions.remove(name);
        }
    }

    async fn start(&self, message: Message, caller: Arc<Caller>, room: &Room) {
        let Some(place) = room.place() else {
            return answer(&self.state, &message, Err(too_many())).await;
        };
        let judged = message.header().path().is_some_and(|path| object::judged(path.as_str()));
        if judged {
            let state = Arc::clone(&self.state);
            tokio::spawn(async move { serve(state, message, caller, place).await });
            return;
        }
        // A defect of one call must end neither the loop nor the caller's wait.
        let routed = std::panic::catch_unwind(AssertUnwindSafe(|| route(&self.state, message.clone(), caller)));
        match routed.unwrap_or_else(|_| Outcome::Now(Err(defect().into()))) {
            Outcome::Now(reply) => place.answer(&self.state, &message, reply).await,
            Outcome::Later(reply) => {
                let state = Arc::clone(&self.state);
                tokio::spawn(async move { finish(&state, &message, reply, place).await });
            }
        }
    }
}

/// Routes and answers a call whose object has to be judged first.
async fn serve(state: Arc<State>, message: Message, caller: Arc<Caller>, place: Place) {
    let routed = std::panic::catch_unwind(AssertUnwindSafe(|| route(&state, message.clone(), caller)));
    match routed.unwrap_or_else(|_| Outcome::Now(Err(defect().into()))) {
        Outcome::Now(reply) => place.answer(&state, &message, reply).await,
        Outcome::Later(reply) => finish(&state, &message, reply, place).await,
    }
}

async fn finish(state: &State, message: &Message, reply: super::call::Later, place: Place) {
    let reply = AssertUnwindSafe(reply).catch_unwind().await.unwrap_or_else(|_| Err(defect().into()));
    place.answer(state, message, reply).await;
}

/// Finds the object and the handler and lets it answer.
fn route(state: &Arc<State>, message: Message, caller: Arc<Caller>) -> Outcome {
    match find(state, &message, &caller) {
        Ok((object, method)) => (method.run)(Call { message, caller, state: Arc::clone(state), object }),
        Err(failure) => Outcome::Now(Err(failure)),
    }
}

fn find(state: &Arc<State>, message: &Message, caller: &Caller) -> std::result::Result<(Object, &'static Method), Failure> {
    let header = message.header();
    let path = header.path().map_or("", |path| path.as_str());
    let member = header.member().map_or("", |member| member.as_str());
    let interface = header.interface().map(|interface| interface.as_str());
    let object = match interface {
        // About the connection, not about an object.
        Some(names::PEER) => Object::Root,
        _ => Object::find(state, caller, path).ok_or_else(|| Failure::unknown_object(path))?,
    };
    let standard: &[&'static str] = match &object {
        Object::Branch(_) => &[names::PEER, names::INTROSPECTABLE],
        _ => &[names::PROPERTIES, names::PEER, names::INTROSPECTABLE],
    };
    let mut candidates = object.interfaces().iter().chain(standard).copied();
    let found = match interface {
        Some(wanted) => {
            let known = candidates.find(|name| *name == wanted).ok_or_else(|| Failure::unknown_interface(path, wanted))?;
            methods(known).iter().find(|method| method.name == member).map(|method| (known, method))
        }
        None => {
            candidates.find_map(|name| methods(name).iter().find(|method| method.name == member).map(|method| (name, method)))
        }
    };
    let (known, method) = found.ok_or_else(|| Failure::unknown_method(path, interface, member))?;
    let expected = state.contract.method(known, member).ok_or_else(|| Failure::unknown_method(path, interface, member))?;
    let body = message.body();
    let got = body.signature().to_string_no_parens();
    if got != expected.inputs {
        return Err(Failure::arguments(member, &expected.inputs, &got));
    }
    Ok((object, method))
}

/// Sends the answer, unless the caller wants none.
async fn answer(state: &State, call: &Message, reply: Reply) {
    let wanted = !call.primary_header().flags().contains(Flags::NO_REPLY_EXPECTED);
    let message = match reply {
        Ok(message) => Ok(message),
        Err(failure) => failure.message(&call.header()),
    };
    if !wanted {
        return;
    }
    let sent = match message {
        Ok(message) => state.connection.send(&message).await,
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "an answer could not be sent");
    }
}

fn too_many() -> Failure {
    Error::new(
        ErrorKind::Busy,
        "connection",
        format!("has {} calls in work, which is the limit", limits::CALLS_PER_SENDER),
        "wait for the answer of one of them",
    )
    .with_code("calls-per-connection")
    .into()
}

fn defect() -> Error {
    Error::internal("bus call", "a handler panicked")
}

#[cfg(test)]
mod tests {
    use super::methods;
    use crate::bus::contract::Contract;
    use crate::bus::value;
    use std::collections::BTreeSet;
    use vws_bus::names;

    #[test]
    fn contract_and_handlers_are_the_same() {
        let contract = Contract::load().unwrap();
        for (interface, members) in contract.interfaces() {
            let promised: BTreeSet<&str> = members.methods.keys().map(String::as_str).collect();
            let handled: BTreeSet<&str> = methods(interface).iter().map(|method| method.name).collect();
            assert_eq!(promised, handled, "methods of {interface}");
            assert_eq!(handled.len(), methods(interface).len(), "{interface} has a handler twice");
            let promised: BTreeSet<&str> = members.properties.keys().map(String::as_str).collect();
            let handled: BTreeSet<&str> = value::handled(interface).into_iter().collect();
            assert_eq!(promised, handled, "properties of {interface}");
        }
        assert_eq!(contract.interfaces().count(), 12);
    }

    #[test]
    fn signatures_are_those_of_the_agreed_contract() {
        let contract = Contract::load().unwrap();
        let signature = |interface: &str, method: &str| {
            let method = contract.method(interface, method).unwrap();
            (method.inputs.clone(), method.outputs.clone(), method.reads)
        };
        let entry = |inputs: &str, outputs: &str, reads| (inputs.to_owned(), outputs.to_owned(), reads);
        assert_eq!(signature(names::MANAGER, "CreateWorkspace"), entry("sa{sv}a{sv}", "oo", false));
        assert_eq!(signature(names::MANAGER, "List"), entry("a{sv}a{sv}", "aa{sv}s", true));
        assert_eq!(signature(names::WORKSPACE, "Renew"), entry("ta{sv}", "t", false));
        assert_eq!(signature(names::WORKSPACE, "OpenConsole"), entry("a{sv}", "h", false));
        assert_eq!(signature(names::PROPERTIES, "Get"), entry("ss", "v", true));
        assert_eq!(contract.interface(names::JOB).unwrap().signals["Completed"], "sss");
    }
}
