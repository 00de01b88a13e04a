//! One method call with everything that answering it takes, and the shape of a handler.

use super::State;
use super::decode;
use super::error::Failure;
use super::keys::{Dict, Keys};
use super::limits;
use super::object::Object;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use vws_domain::{Caller, Error, ErrorKind, Result};
use zbus::Message;

/// The answer to a call.
pub type Reply = std::result::Result<Message, Failure>;

/// An answer that takes a while.
pub type Later = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// How a handler answers.
pub enum Outcome {
    /// At once, without waiting for anything.
    Now(Reply),
    /// Later, as a task of its own.
    Later(Later),
}

/// A method and its handler.
pub struct Method {
    /// Its name; its signature is the contract's, and was checked before the handler runs.
    pub name: &'static str,
    /// The handler.
    pub run: fn(Call) -> Outcome,
}

/// A method that is answered at once.
pub fn now(reply: Reply) -> Outcome {
    Outcome::Now(reply)
}

/// A method that is answered by a task.
pub fn later(reply: impl Future<Output = Reply> + Send + 'static) -> Outcome {
    Outcome::Later(Box::pin(reply))
}

/// A method call on an object that the caller may see.
pub struct Call {
    /// The message.
    pub message: Message,
    /// Who sent it.
    pub caller: Arc<Caller>,
    /// What the edge knows.
    pub state: Arc<State>,
    /// The object that it goes to.
    pub object: Object,
}

impl Call {
    /// The arguments. Their signature was compared with the contract's already.
    ///
    /// # Errors
    /// [`Failure::Standard`] when the bytes are not what the signature says.
    pub fn arguments<T>(&self) -> std::result::Result<T, Failure>
    where
        T: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        let body = self.message.body();
        body.deserialize().map_err(|error| Failure::Standard("InvalidArgs", format!("the arguments cannot be read: {error}")))
    }

    /// The answer with these results (a tuple, one element for each).
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] when the answer is larger than a bus message may be.
    pub fn reply<B: serde::Serialize + zbus::wire::DynamicType>(&self, results: &B) -> Reply {
        let message = Message::method_return(&self.message.header()).build(results)?;
        let bytes = message.data().len();
        if bytes > limits::REPLY_BYTES {
            return Err(Error::new(
                ErrorKind::Busy,
                "answer",
                format!("would have {bytes} bytes, a bus message may have {}", limits::REPLY_BYTES),
                "ask for less at a time: a smaller `limit`, or Manager.List page by page",
            )
            .with_code("reply-bytes")
            .into());
        }
        Ok(message)
    }

    /// The options, checked against the keys that the method has.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] naming the key.
    pub fn options(&self, interface: &str, given: Dict) -> Result<Keys> {
        let header = self.message.header();
        decode::options(interface, header.member().map_or("", |member| member.as_str()), given)
    }

    /// Name of the connection that sent it.
    pub fn sender(&self) -> String {
        self.message.header().sender().map(ToString::to_string).unwrap_or_default()
    }
}
