//! What has properties: one interface's worth of an object, as it was when it was looked up.
//!
//! Each interface file owns the table of its properties; here they are looked up by name, listed, and compared.

use super::contract::{Contract, Emits};
use super::{State, backend, encode, host, image, job, manager, network, policy, workspace};
use crate::policies::PolicyStatus;
use crate::service::{ShownHost, ShownNetwork};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::sync::Arc;
use vws_backend::PluginStatus;
use vws_bus::{names, path};
use vws_domain::{Caller, Image, Job, Workspace};
use zbus::wire::{Signature, Type};
use zbus::{ObjectPath, Variant};

/// A property and how it is read.
pub struct Property<T> {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub get: for<'a> fn(&'a T) -> Variant<'a>,
}

/// Properties with their values, in the order of the interface's table.
#[derive(Debug, Default, PartialEq)]
pub struct Properties<'a>(pub Vec<(&'static str, Variant<'a>)>);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Type for Properties<'_> {
    const SIGNATURE: &'static Signature = <std::collections::HashMap<&str, Variant<'_>> as Type>::SIGNATURE;
}

/// One interface of one object. Cheap to clone but for hosts, backends and the policies, of which there are few.
#[derive(Clone)]
pub enum Value {
    /// The root object's Manager.
    Manager(Arc<State>),
    /// The root object's Policy.
    Policy(Arc<PolicyStatus>),
    /// A workspace.
    Workspace(Arc<Workspace>),
    /// A host.
    Host(Arc<ShownHost>),
    /// An image.
    Image(Arc<Image>),
    /// A job.
    Job(Arc<Job>),
    /// A backend.
    Backend(Arc<PluginStatus>),
    /// A network.
    Network(Arc<ShownNetwork>),
}

/// Calls `$body` with the table and the subject of whatever `$value` is.
macro_rules! with_table {
    ($value:expr, |$table:ident, $subject:ident| $body:expr) => {
        match $value {
            Value::Manager(subject) => {
                let ($table, $subject) = (manager::PROPERTIES, subject.as_ref());
                $body
            }
            Value::Policy(subject) => {
                let ($table, $subject) = (policy::PROPERTIES, subject.as_ref());
                $body
            }
            Value::Workspace(subject) => {
                let ($table, $subject) = (workspace::PROPERTIES, subject.as_ref());
                $body
            }
            Value::Host(subject) => {
                let ($table, $subject) = (host::PROPERTIES, subject.as_ref());
                $body
            }
            Value::Image(subject) => {
                let ($table, $subject) = (image::PROPERTIES, subject.as_ref());
                $body
            }
            Value::Job(subject) => {
                let ($table, $subject) = (job::PROPERTIES, subject.as_ref());
                $body
            }
            Value::Backend(subject) => {
                let ($table, $subject) = (backend::PROPERTIES, subject.as_ref());
                $body
            }
            Value::Network(subject) => {
                let ($table, $subject) = (network::PROPERTIES, subject.as_ref());
                $body
            }
        }
    };
}

impl Value {
    /// The interface whose properties it has.
    pub fn interface(&self) -> &'static str {
        match self {
            Self::Manager(_) => names::MANAGER,
            Self::Policy(_) => names::POLICY,
            Self::Workspace(_) => names::WORKSPACE,
            Self::Host(_) => names::HOST,
            Self::Image(_) => names::IMAGE,
            Self::Job(_) => names::JOB,
            Self::Backend(_) => names::BACKEND,
            Self::Network(_) => names::NETWORK,
        }
    }

    /// Where the object is.
    pub fn place(&self) -> path::Object {
        match self {
            Self::Manager(_) | Self::Policy(_) => path::Object::Root,
            Self::Workspace(workspace) => path::Object::Workspace(workspace.id.0),
            Self::Host(shown) => path::Object::Host(shown.host.name.as_str().to_owned()),
            Self::Image(image) => path::Object::Image(image.id.0),
            Self::Job(job) => path::Object::Job(job.id.0),
            Self::Backend(plugin) => path::Object::Backend(plugin.name.clone()),
            Self::Network(shown) => path::Object::Network(shown.network.name.as_str().to_owned()),
        }
    }

    /// The object's path.
    pub fn path(&self) -> ObjectPath<'static> {
        encode::object(&self.place())
    }

    /// Whether the caller may see it. Hosts, networks, backends and the policies' state are for everybody.
    pub fn visible(&self, state: &State, caller: &Caller) -> bool {
        match self {
            Self::Workspace(workspace) => state.service.may_view(caller, workspace),
            Self::Image(image) => state.service.may_view_image(caller, image),
            Self::Job(job) => state.service.may_view_job(caller, job),
            Self::Manager(_) | Self::Policy(_) | Self::Host(_) | Self::Backend(_) | Self::Network(_) => true,
        }
    }

    /// One property.
    pub fn get(&self, name: &str) -> Option<Variant<'_>> {
        with_table!(self, |table, subject| {
            let property = table.iter().find(|property| property.name == name)?;
            Some((property.get)(subject))
        })
    }

    /// Every property.
    pub fn all(&self) -> Properties<'_> {
        with_table!(self, |table, subject| {
            Properties(table.iter().map(|property| (property.name, (property.get)(subject))).collect())
        })
    }

    /// The properties that are not what they were in `old`, if their change is to be told.
    pub fn changed_since(&self, old: &Self, contract: &Contract) -> Properties<'_> {
        let interface = self.interface();
        let told =
            self.all().0.into_iter().filter(|(name, value)| {
                contract.emits(interface, name) == Emits::Changed && old.get(name).as_ref() != Some(value)
            });
        Properties(told.collect())
    }

    /// Whether it is the very same record, so that nothing can have changed.
    pub fn same_record(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Workspace(one), Self::Workspace(two)) => Arc::ptr_eq(one, two),
            (Self::Image(one), Self::Image(two)) => Arc::ptr_eq(one, two),
            (Self::Job(one), Self::Job(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

/// Names of the properties of an interface that have a reader.
#[cfg(test)]
pub fn handled(interface: &str) -> Vec<&'static str> {
    fn of<T>(table: &[Property<T>]) -> Vec<&'static str> {
        table.iter().map(|property| property.name).collect()
    }
    match interface {
        names::MANAGER => of(manager::PROPERTIES),
        names::POLICY => of(policy::PROPERTIES),
        names::WORKSPACE => of(workspace::PROPERTIES),
        names::HOST => of(host::PROPERTIES),
        names::IMAGE => of(image::PROPERTIES),
        names::JOB => of(job::PROPERTIES),
        names::BACKEND => of(backend::PROPERTIES),
        names::NETWORK => of(network::PROPERTIES),
        _ => Vec::new(),
    }
}
