//! `org.virtualworkspaces1.Backend`: a plugin, as its supervisor sees it. It has no methods.

use super::call::Method;
use super::encode::text;
use super::value::Property;
use vws_backend::{PluginState, PluginStatus};
use zbus::Variant;

/// No methods: backends come and go with their files.
pub const METHODS: &[Method] = &[];

/// Its properties.
pub const PROPERTIES: &[Property<PluginStatus>] = &[
    Property { name: "Name", get: |plugin| text(&plugin.name) },
    Property { name: "Path", get: |plugin| Variant::from(plugin.path.to_string_lossy().replace('\0', "\u{fffd}")) },
    Property { name: "Version", get: |plugin| text(&plugin.version) },
    Property { name: "Licence", get: |plugin| text(&plugin.licence) },
    Property { name: "State", get: |plugin| state(&plugin.state).into() },
    Property { name: "Restarts", get: |plugin| u32::try_from(plugin.restarts).unwrap_or(u32::MAX).into() },
    Property { name: "Hosts", get: |plugin| u32::try_from(plugin.hosts.len()).unwrap_or(u32::MAX).into() },
    Property { name: "Concurrency", get: |plugin| text(&plugin.concurrency) },
    Property { name: "Methods", get: |plugin| Variant::from(plugin.methods.iter().map(String::as_str).collect::<Vec<_>>()) },
    Property { name: "Digest", get: |plugin| text(&plugin.sha256) },
];

/// The contract's words: a plugin without hosts needs no process and is stopped; one that failed is tried again after a while.
fn state(state: &PluginState) -> &'static str {
    match state {
        PluginState::Idle => "stopped",
        PluginState::Running => "running",
        PluginState::Starting => "starting",
        PluginState::Failed(_) => "backing-off",
    }
}
