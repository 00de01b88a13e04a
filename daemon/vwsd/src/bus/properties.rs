//! `org.freedesktop.DBus.Properties`: reading, and the refusal of writing.

use super::State;
use super::call::{Call, Method, Reply, now};
use super::error::Failure;
use super::object::Object;
use super::value::Value;
use std::borrow::Cow;
use std::sync::Arc;
use vws_bus::names;
use zbus::OwnedVariant;

/// Its methods. All are answered at once: what may take time, finding the object, is behind them.
pub const METHODS: &[Method] = &[
    Method { name: "Get", run: |call| now(get(&call)) },
    Method { name: "GetAll", run: |call| now(get_all(&call)) },
    Method { name: "Set", run: |call| now(set(&call)) },
];

fn get(call: &Call) -> Reply {
    let body = call.message.body();
    let (interface, property): (&str, &str) = body.deserialize().map_err(unreadable)?;
    let value = value(call, interface)?;
    match value.get(property) {
        Some(got) => call.reply(&(got,)),
        None => Err(Failure::unknown_property(value.interface(), property)),
    }
}

fn get_all(call: &Call) -> Reply {
    let body = call.message.body();
    let (interface,): (&str,) = body.deserialize().map_err(unreadable)?;
    if interface == names::OBJECT_MANAGER && call.object.interfaces().contains(&interface) {
        return call.reply(&(super::value::Properties::default(),));
    }
    let value = value(call, interface)?;
    call.reply(&(value.all(),))
}

fn set(call: &Call) -> Reply {
    let (interface, property, _): (String, String, OwnedVariant) = call.arguments()?;
    let value = value(call, &interface)?;
    Err(match value.get(&property) {
        Some(_) => Failure::read_only(value.interface(), &property),
        None => Failure::unknown_property(value.interface(), &property),
    })
}

fn unreadable(error: zbus::Error) -> Failure {
    Failure::Standard("InvalidArgs", format!("the arguments cannot be read: {error}"))
}

/// The interface of the object that is meant; an empty name means the object's main one.
fn value<'a>(call: &'a Call, interface: &str) -> Result<Cow<'a, Value>, Failure> {
    find(&call.state, &call.object, interface).ok_or_else(|| {
        let header = call.message.header();
        Failure::unknown_interface(header.path().map_or("", |path| path.as_str()), interface)
    })
}

fn find<'a>(state: &Arc<State>, object: &'a Object, interface: &str) -> Option<Cow<'a, Value>> {
    match object {
        Object::Branch(_) => None,
        Object::One(value) => (interface.is_empty() || interface == value.interface()).then_some(Cow::Borrowed(value)),
        Object::Root => match interface {
            "" | names::MANAGER => Some(Cow::Owned(Value::Manager(Arc::clone(state)))),
            names::POLICY => Some(Cow::Owned(Value::Policy(Arc::new(state.service.policy_status())))),
            _ => None,
        },
    }
}
