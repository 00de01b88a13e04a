//! `org.virtualworkspaces1.Backend`: a plugin, as its supervisor sees it. It has no methods.

use super::call::Method;
use super::encode::text;
use super::value::Property;
use vws_backend::PluginStatus;
use zbus::Variant;

/// No methods: backends come and go with their files.
pub const METHODS: &[Method] = &[];

/// Its properties.
pub const PROPERTIES: &[Property<PluginStatus>] = &[
    Property { name: "Name", get: |plugin| text(&plugin.name) },
    Property { name: "Path", get: |plugin| text(&plugin.path) },
    Property { name: "Version", get: |plugin| text(&plugin.version) },
    Property { name: "Licence", get: |plugin| text(&plugin.licence) },
    Property { name: "State", get: |plugin| text(&plugin.state) },
    Property { name: "Restarts", get: |plugin| plugin.restarts.into() },
    Property { name: "Hosts", get: |plugin| plugin.hosts.into() },
    Property { name: "Concurrency", get: |plugin| text(&plugin.concurrency) },
    Property { name: "Methods", get: |plugin| Variant::from(plugin.methods.iter().map(String::as_str).collect::<Vec<_>>()) },
    Property { name: "Digest", get: |plugin| text(&plugin.digest) },
];
