//! `org.freedesktop.DBus.ObjectManager`, on the root object: every object that the caller may see, with its properties.
//!
//! For small and middling sites: above a named number of objects it is refused and points to `Manager.List` and its kin.

use super::call::{Call, Method, Reply, later};
use super::limits;
use super::value::{Properties, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use vws_bus::names;
use vws_domain::{Error, ErrorKind, Result};
use zbus::ObjectPath;

/// Its methods.
pub const METHODS: &[Method] = &[Method { name: "GetManagedObjects", run: |call| later(get_managed_objects(call)) }];

async fn get_managed_objects(call: Call) -> Reply {
    let visible = visible(&call, names::MANAGED_OBJECTS_MAX).await?;
    let mut objects: BTreeMap<ObjectPath<'_>, BTreeMap<&str, Properties<'_>>> = BTreeMap::new();
    for value in &visible {
        objects.insert(value.path(), BTreeMap::from([(value.interface(), value.all())]));
    }
    call.reply(&(objects,))
}

/// Every object below the root that the caller may see.
async fn visible(call: &Call, most: usize) -> Result<Vec<Value>> {
    let mut visible = Vec::new();
    for (at, value) in all(call).into_iter().enumerate() {
        if value.visible(&call.state, &call.caller) {
            visible.push(value);
        }
        if visible.len() > most {
            return Err(Error::new(
                ErrorKind::Busy,
                "GetManagedObjects",
                format!("more than {most} objects are visible to you"),
                "use Manager.List, ListImages, ListHosts, ListNetworks and ListJobs, which are paged",
            )
            .with_code("managed-objects"));
        }
        if at % limits::JUDGED_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(visible)
}

/// Every object below the root.
fn all(call: &Call) -> Vec<Value> {
    let service = &call.state.service;
    let mut all: Vec<Value> = service.read(|site| {
        let workspaces = site.workspaces().cloned().map(Value::Workspace);
        let images = site.images().cloned().map(Value::Image);
        workspaces.chain(images).chain(site.jobs().cloned().map(Value::Job)).collect()
    });
    all.extend(service.hosts().into_iter().map(|shown| Value::Host(Arc::new(shown))));
    all.extend(service.networks().into_iter().map(|shown| Value::Network(Arc::new(shown))));
    all.extend(service.backends().into_iter().map(|plugin| Value::Backend(Arc::new(plugin))));
    all
}
