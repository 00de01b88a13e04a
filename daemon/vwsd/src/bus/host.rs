//! `org.virtualworkspaces1.Host`: a machine with a hypervisor. Everybody may look; changes are for administrators.

use super::call::{Call, Method, Reply, later};
use super::decode;
use super::encode::{self, Map, pairs, resources, text};
use super::error::Failure;
use super::keys::Dict;
use super::object::Object;
use super::value::{Property, Value};
use crate::service::{CallOptions, ShownHost};
use vws_bus::{keys, names};
use vws_domain::{Connection, HostName};

/// Its methods.
pub const METHODS: &[Method] = &[
    Method { name: "Probe", run: |call| later(probe(call)) },
    Method { name: "Change", run: |call| later(change(call)) },
    Method { name: "Remove", run: |call| later(remove(call)) },
    Method { name: "PlanDrain", run: |call| later(plan_drain(call)) },
    Method { name: "Drain", run: |call| later(drain(call)) },
    Method { name: "Images", run: |call| later(images(call)) },
    Method { name: "RemoveImage", run: |call| later(remove_image(call)) },
];

/// Its properties.
pub const PROPERTIES: &[Property<ShownHost>] = &[
    Property { name: "Name", get: |shown| shown.host.name.as_str().into() },
    Property { name: "Backend", get: |shown| text(&shown.host.backend) },
    Property { name: "Enabled", get: |shown| shown.host.enabled.into() },
    Property { name: "Labels", get: |shown| pairs(&shown.host.labels) },
    Property { name: "State", get: |shown| connection(&shown.host.connection).0.into() },
    Property { name: "Reason", get: |shown| text(connection(&shown.host.connection).1) },
    Property { name: "Hypervisor", get: |shown| text(&shown.host.facts.hypervisor) },
    Property { name: "Accelerator", get: |shown| text(&shown.host.facts.accelerator.name) },
    Property { name: "AcceleratorReason", get: |shown| text(&shown.host.facts.accelerator.reason) },
    Property { name: "Arch", get: |shown| text(&shown.host.facts.arch) },
    Property { name: "Total", get: |shown| resources(shown.host.facts.total) },
    Property { name: "Capacity", get: |shown| resources(shown.host.capacity()) },
    Property { name: "ImageCacheGib", get: |shown| shown.host.image_cache_gib.into() },
    Property { name: "Free", get: |shown| resources(shown.free) },
    Property { name: "Capabilities", get: |shown| pairs(&shown.host.facts.capabilities) },
    Property { name: "ForeignGuests", get: |shown| shown.host.foreign.guests.into() },
    Property { name: "Workspaces", get: |shown| shown.workspaces.into() },
];

fn connection(connection: &Connection) -> (&'static str, &str) {
    match connection {
        Connection::Unprobed => ("unprobed", ""),
        Connection::Up => ("up", ""),
        Connection::Down(reason) => ("down", reason),
    }
}

async fn probe(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::HOST, options)?)?;
    let job = call.state.service.probe_host(&call.caller, name(&call)?, options).await?;
    call.reply(&(encode::job(job),))
}

async fn change(call: Call) -> Reply {
    let (changes, options): (Dict, Dict) = call.arguments()?;
    call.options(names::HOST, options)?;
    let change = decode::host_change(changes)?;
    call.state.service.change_host(&call.caller, name(&call)?, change, CallOptions::default()).await?;
    call.reply(&())
}

async fn remove(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::HOST, options)?;
    call.state.service.remove_host(&call.caller, name(&call)?, CallOptions::default()).await?;
    call.reply(&())
}

async fn plan_drain(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    let evacuate = call.options(names::HOST, options)?.flag(keys::EVACUATE).unwrap_or(false);
    let plan = call.state.service.plan_drain(&call.caller, name(&call)?, evacuate).await?;
    let plan: Vec<Map<'_>> = plan.iter().map(encode::departure).collect();
    call.reply(&(plan,))
}

async fn drain(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    let mut options = call.options(names::HOST, options)?;
    let evacuate = options.flag(keys::EVACUATE).unwrap_or(false);
    let options = decode::call_options(&mut options)?;
    let job = call.state.service.drain_host(&call.caller, name(&call)?, evacuate, options).await?;
    call.reply(&(encode::job(job),))
}

async fn images(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::HOST, options)?;
    let images = call.state.service.images_on(&call.caller, name(&call)?).await?;
    let images: Vec<encode::Map<'_>> = images.iter().map(|(image, names)| encode::cached_image(image, names)).collect();
    call.reply(&(images,))
}

async fn remove_image(call: Call) -> Reply {
    let (digest, options): (String, Dict) = call.arguments()?;
    call.options(names::HOST, options)?;
    call.state.service.remove_image_from(&call.caller, name(&call)?, digest).await?;
    call.reply(&())
}

fn name(call: &Call) -> Result<HostName, Failure> {
    match &call.object {
        Object::One(Value::Host(shown)) => Ok(shown.host.name.clone()),
        _ => Err(Failure::misrouted()),
    }
}
