//! `org.freedesktop.DBus.Introspectable` and `.Peer`.
//!
//! The interfaces' texts are the contract's files as they are, with their prose. Children are those that the caller may
//! see, up to a named number: nobody learns from the tree what it could not read.

use super::State;
use super::call::{Call, Method, Reply, later, now};
use super::contract::STANDARD;
use super::error::Failure;
use super::limits;
use super::object::{Branch, Object};
use super::value::Value;
use std::sync::Arc;
use vws_bus::{interfaces, names, path};
use vws_domain::Caller;

/// Methods of Introspectable.
pub const INTROSPECTABLE: &[Method] = &[Method { name: "Introspect", run: |call| later(introspect(call)) }];

/// Methods of Peer. They are about the connection: any path will do.
pub const PEER: &[Method] = &[
    Method { name: "Ping", run: |call| now(call.reply(&())) },
    Method { name: "GetMachineId", run: |call| now(machine_id(&call)) },
];

const HEAD: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
                    \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n";

fn machine_id(call: &Call) -> Reply {
    if call.state.machine_id.is_empty() {
        return Err(Failure::Standard(
            "FileNotFound",
            "this machine has neither /etc/machine-id nor /var/lib/dbus/machine-id".to_owned(),
        ));
    }
    call.reply(&(call.state.machine_id.as_str(),))
}

async fn introspect(call: Call) -> Reply {
    let children = match &call.object {
        Object::Branch(Branch::Top) => vec!["org".to_owned()],
        Object::Branch(Branch::Org) => vec![names::ROOT.trim_start_matches("/org/").to_owned()],
        Object::Branch(Branch::Collection(collection)) => children(&call.state, &call.caller, collection).await,
        Object::Root => path::COLLECTIONS.into_iter().map(str::to_owned).collect(),
        Object::One(_) => Vec::new(),
    };
    call.reply(&(text(call.object.interfaces(), matches!(call.object, Object::Branch(_)), &children),))
}

/// The introspection data of an object.
fn text(own: &[&str], branch: bool, children: &[String]) -> String {
    let mut out = HEAD.to_owned();
    for interface in own {
        let file = interfaces::ALL.into_iter().find(|(name, _)| name == interface);
        out.push_str(file.map_or("", |(_, text)| interfaces::element(text)));
    }
    let standard = STANDARD.trim_start_matches("<node>\n").trim_end_matches("</node>\n");
    // A branch has no properties.
    let end = if branch { standard.find("  <interface name=\"org.freedesktop.DBus.Properties\">") } else { None };
    out.push_str(end.and_then(|end| standard.get(..end)).unwrap_or(standard));
    for child in children {
        out.push_str(&format!("  <node name=\"{child}\"/>\n"));
    }
    out.push_str("</node>\n");
    out
}

/// The last path elements of the visible objects of a collection, in its order, up to a bound.
async fn children(state: &Arc<State>, caller: &Caller, collection: &str) -> Vec<String> {
    let service = &state.service;
    let all: Vec<Value> = match collection {
        "workspaces" => service.read(|site| site.workspaces().take(limits::LOOKED_AT).cloned().map(Value::Workspace).collect()),
        "images" => service.read(|site| site.images().take(limits::LOOKED_AT).cloned().map(Value::Image).collect()),
        "jobs" => service.read(|site| site.jobs().take(limits::LOOKED_AT).cloned().map(Value::Job).collect()),
        "hosts" => service.hosts().into_iter().map(|shown| Value::Host(Arc::new(shown))).collect(),
        "networks" => service.networks().into_iter().map(|shown| Value::Network(Arc::new(shown))).collect(),
        "backends" => service.backends().into_iter().map(|plugin| Value::Backend(Arc::new(plugin))).collect(),
        _ => Vec::new(),
    };
    let mut children = Vec::new();
    for (at, value) in all.into_iter().enumerate() {
        if children.len() == limits::INTROSPECTED_CHILDREN {
            break;
        }
        if value.visible(state, caller) {
            let path = value.path();
            children.extend(path.as_str().rsplit('/').next().map(str::to_owned));
        }
        if at % limits::JUDGED_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    children
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::bus::contract::{Contract, STANDARD};
    use vws_bus::names;

    #[test]
    fn introspection_data_is_whole_xml() {
        let root = text(&[names::OBJECT_MANAGER, names::MANAGER, names::POLICY], false, &["workspaces".into()]);
        let mut reader = quick_xml::Reader::from_str(&root);
        let mut depth = 0;
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Start(_) => depth += 1,
                quick_xml::events::Event::End(_) => depth -= 1,
                quick_xml::events::Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(depth, 0);
        assert_eq!(root.matches("<interface ").count(), 6);
        assert!(root.contains("  <node name=\"workspaces\"/>\n</node>\n"));
    }

    #[test]
    fn a_branch_has_no_properties() {
        let branch = text(&[], true, &["org".into()]);
        assert!(branch.contains(names::PEER) && branch.contains(names::INTROSPECTABLE));
        assert!(!branch.contains(names::PROPERTIES));
        assert!(STANDARD.contains(names::PROPERTIES));
        assert!(Contract::load().unwrap().interface(names::PROPERTIES).is_some());
    }
}
