//! `org.virtualworkspaces1.Network`: what NICs are plugged into, and a pool of addresses. Everybody may look; changes are for
//! administrators, and whose an address is is told to who may see the workspace.

use super::call::{Call, Method, Reply, later};
use super::decode;
use super::encode::{self, Map, pairs, text};
use super::error::Failure;
use super::keys::Dict;
use super::object::Object;
use super::value::{Property, Value};
use crate::service::ShownNetwork;
use vws_bus::names;
use vws_domain::{Address, NetworkName, Pool};
use zbus::Variant;

/// Its methods.
pub const METHODS: &[Method] = &[
    Method { name: "Change", run: |call| later(change(call)) },
    Method { name: "Remove", run: |call| later(remove(call)) },
    Method { name: "Addresses", run: |call| later(addresses(call)) },
];

/// Its properties.
pub const PROPERTIES: &[Property<ShownNetwork>] = &[
    Property { name: "Name", get: |shown| shown.network.name.as_str().into() },
    Property { name: "Kind", get: |shown| shown.network.kind.name().into() },
    Property { name: "Source", get: |shown| text(&shown.network.source) },
    Property { name: "Subnet", get: |shown| pool(shown).map_or_else(String::new, |pool| pool.subnet.to_string()).into() },
    Property { name: "Gateway", get: |shown| pool(shown).and_then(|pool| pool.gateway).map_or_else(String::new, word).into() },
    Property { name: "Dns", get: |shown| words(pool(shown).map_or(&[], |pool| &pool.dns)) },
    Property { name: "Ranges", get: |shown| words(pool(shown).map_or(&[], |pool| &pool.ranges)) },
    Property { name: "Dhcp", get: |shown| shown.network.dhcp.into() },
    Property { name: "AntiSpoofing", get: |shown| shown.network.anti_spoofing.into() },
    Property { name: "Labels", get: |shown| pairs(&shown.network.labels) },
    Property { name: "Enabled", get: |shown| shown.network.enabled.into() },
    Property { name: "Size", get: |shown| pool(shown).map_or(0, Pool::size).into() },
    Property { name: "Free", get: |shown| shown.free.into() },
    Property { name: "Held", get: |shown| shown.held.into() },
    Property { name: "Version", get: |shown| shown.network.version.into() },
];

fn pool(shown: &ShownNetwork) -> Option<&Pool> {
    shown.network.pool.as_ref()
}

fn word(value: impl ToString) -> String {
    value.to_string()
}

fn words<T: ToString>(values: &[T]) -> Variant<'static> {
    Variant::from(values.iter().map(ToString::to_string).collect::<Vec<_>>())
}

async fn change(call: Call) -> Reply {
    let (changes, options): (Dict, Dict) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::NETWORK, options)?)?;
    let change = decode::network_change(changes)?;
    call.state.service.change_network(&call.caller, name(&call)?, change, options).await?;
    call.reply(&())
}

async fn remove(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::NETWORK, options)?)?;
    call.state.service.remove_network(&call.caller, name(&call)?, options).await?;
    call.reply(&())
}

async fn addresses(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::NETWORK, options)?;
    let addresses = call.state.service.addresses(&call.caller, &name(&call)?);
    let addresses: Vec<Map<'_>> = addresses.iter().map(|address| told(address)).collect();
    call.reply(&(addresses,))
}

fn told(address: &Address) -> Map<'_> {
    let workspace = if address.released_at.is_none() { encode::workspace(address.workspace) } else { encode::none() };
    Map::from([
        ("address", address.address.to_string().into()),
        ("mac", address.mac.to_string().into()),
        ("workspace", workspace.into()),
        ("name", text(&address.name)),
        ("owner", address.owner.into()),
        ("nic", address.nic.into()),
        ("since", address.since.0.into()),
        ("released-at", address.released_at.map_or(0, |at| at.0).into()),
    ])
}

fn name(call: &Call) -> Result<NetworkName, Failure> {
    match &call.object {
        Object::One(Value::Network(shown)) => Ok(shown.network.name.clone()),
        _ => Err(Failure::misrouted()),
    }
}
