//! What an operator writes about a host, and its published schema.
//!
//! Owns: names, defaults and bounds of the settings. Must not know: libvirt.

use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use vws_plugin_api::doc::{Failure, codes};
use vws_plugin_api::sdk::Outcome;

/// How guests are to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// By what a tiny guest shows.
    Probe,
    /// KVM or nothing: the probe fails if the tiny guest does not run under it.
    Kvm,
    /// Emulation, even if KVM would work.
    Emulation,
}

/// Settings of one host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// libvirt connection URI.
    pub uri: String,
    /// Folder on the host for images, disks, seeds, saves and console logs: a storage pool is found or defined there.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Instead: name of a storage pool of the host's libvirt whose volumes are files.
    #[serde(default)]
    pub pool: Option<String>,
    /// URI by which other hosts reach this host's libvirt, for migrations to it; empty: `uri`.
    #[serde(default)]
    pub migrate_uri: String,
    /// How guests run.
    #[serde(default = "accelerator")]
    pub accelerator: Accelerator,
    /// How long the tiny guest may take, for each accelerator tried.
    #[serde(default = "probe_deadline_ms")]
    pub probe_deadline_ms: u64,
    /// Machine type of new machines; a restored one keeps its own.
    #[serde(default = "machine")]
    pub machine: String,
    /// CPU model; empty: `host-passthrough` with KVM, `qemu64` under emulation.
    #[serde(default)]
    pub cpu: String,
    /// Memory for translated code, for each guest under emulation.
    #[serde(default = "emulation_tb_cache_mib")]
    pub emulation_tb_cache_mib: u64,
    /// How much console output is kept on disk for each machine.
    #[serde(default = "console_log_kib")]
    pub console_log_kib: u64,
    /// How long a connection attempt may take.
    #[serde(default = "connect_deadline_ms")]
    pub connect_deadline_ms: u64,
}

fn accelerator() -> Accelerator {
    Accelerator::Probe
}
fn probe_deadline_ms() -> u64 {
    8_000
}
fn machine() -> String {
    "pc".to_owned()
}
fn emulation_tb_cache_mib() -> u64 {
    32
}
fn console_log_kib() -> u64 {
    256
}
fn connect_deadline_ms() -> u64 {
    10_000
}

/// The settings in `value`, checked.
pub fn read(value: Value) -> Outcome<Settings> {
    let settings: Settings = serde_json::from_value(value).map_err(|error| {
        Failure::new(codes::INVALID, format!("{error}"))
            .about("settings of the host")
            .remedy("see the settings schema in the backend's description")
    })?;
    let wrong =
        |member: &str, fact: &str| Err(Failure::new(codes::INVALID, fact).about(format!("setting `{member}` of the host")));
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if let Some(directory) = &settings.directory
        && (!directory.is_absolute() || directory.to_str().is_none_or(|path| path.contains(|c: char| c.is_control())))
    {
        return wrong("directory", "it has to be an absolute path in UTF-8, without control characters");
    }
    if settings.pool.as_ref().is_some_and(|pool| pool.is_empty() || pool.contains(|c: char| c.is_control())) {
        return wrong("pool", "it has to be the name of a storage pool");
    }
    match (&settings.directory, &settings.pool) {
        (Some(_), None) | (None, Some(_)) => {}
        (Some(_), Some(_)) => return wrong("pool", "`directory` is set as well; only one of the two says where files are"),
        (None, None) => return wrong("directory", "neither it nor `pool` is set; for instance /var/lib/vws/host"),
    }
    if settings.uri.is_empty() {
        return wrong("uri", "it is empty; for instance qemu:///system");
    }
    if settings.machine.is_empty() || !plain(&settings.machine) {
        return wrong("machine", "it has to be a machine type such as `pc` or `q35`");
    }
    if !plain(&settings.cpu) {
        return wrong("cpu", "it has to be a CPU model's name, or empty");
    }
    for (member, value, low, high) in [
        ("probe_deadline_ms", settings.probe_deadline_ms, 500, 600_000),
        ("emulation_tb_cache_mib", settings.emulation_tb_cache_mib, 1, 4096),
        ("console_log_kib", settings.console_log_kib, 16, 1 << 20),
        ("connect_deadline_ms", settings.connect_deadline_ms, 100, 600_000),
    ] {
        if !(low..=high).contains(&value) {
            return wrong(member, &format!("{value} is not between {low} and {high}"));
        }
    }
    Ok(settings)
}

/// JSON Schema of the settings.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["uri"],
        "oneOf": [{"required": ["directory"]}, {"required": ["pool"]}],
        "additionalProperties": false,
        "properties": {
            "uri": {"type": "string", "minLength": 1, "description": "libvirt connection URI, for instance qemu:///system, qemu:///session, qemu+ssh://host/system?no_tty=1"},
            "directory": {"type": "string", "pattern": "^/", "description": "folder on the host for images, disks, seeds, saves and console logs; a libvirt storage pool is found or defined there. One folder for each host, or one that hosts share"},
            "pool": {"type": "string", "minLength": 1, "description": "instead of `directory`: name of a storage pool of the host's libvirt whose volumes are files"},
            "migrate_uri": {"type": "string", "default": "", "description": "URI by which other hosts reach this host's libvirt, for live migrations to it; empty: the same as `uri`"},
            "accelerator": {"enum": ["probe", "kvm", "emulation"], "default": "probe", "description": "how guests run; `probe` decides by booting a tiny guest"},
            "probe_deadline_ms": {"type": "integer", "minimum": 500, "maximum": 600_000, "default": probe_deadline_ms(), "description": "how long the tiny guest may take, for each accelerator tried"},
            "machine": {"type": "string", "default": machine(), "description": "machine type of new machines"},
            "cpu": {"type": "string", "default": "", "description": "CPU model; empty: host-passthrough with KVM, qemu64 under emulation. A site that moves bundles between unequal hosts sets the smallest common model"},
            "emulation_tb_cache_mib": {"type": "integer", "minimum": 1, "maximum": 4096, "default": emulation_tb_cache_mib(), "description": "memory for translated code, for each guest under emulation"},
            "console_log_kib": {"type": "integer", "minimum": 16, "maximum": 1 << 20, "default": console_log_kib(), "description": "console output kept for each machine: half from its start, half the newest"},
            "connect_deadline_ms": {"type": "integer", "minimum": 100, "maximum": 600_000, "default": connect_deadline_ms(), "description": "how long a connection attempt may take"}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_names_every_setting_with_its_default() {
        let settings = read(json!({"uri": "qemu:///system", "directory": "/srv/vws"})).unwrap();
        let schema = schema();
        let of = |name: &str| schema["properties"][name]["default"].clone();
        assert_eq!(of("probe_deadline_ms"), settings.probe_deadline_ms);
        assert_eq!(of("machine"), settings.machine);
        assert_eq!(of("console_log_kib"), settings.console_log_kib);
        assert_eq!(of("accelerator"), "probe");
        assert_eq!(settings.accelerator, Accelerator::Probe);
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        let with = |member: &str, value: Value| {
            let mut settings = json!({"uri": "qemu:///system", "directory": "/srv/vws"});
            settings[member] = value;
            read(settings).unwrap_err()
        };
        assert!(with("directory", json!("srv")).object.contains("directory"));
        assert!(with("pool", json!("default")).message.contains("directory"));
        assert!(read(json!({"uri": "qemu:///system"})).unwrap_err().object.contains("directory"));
        assert_eq!(read(json!({"uri": "qemu:///system", "pool": "default"})).unwrap().pool.as_deref(), Some("default"));
        assert!(with("machine", json!("pc' x='")).object.contains("machine"));
        assert!(with("probe_deadline_ms", json!(0)).message.contains("500"));
        assert!(with("colour", json!(1)).message.contains("colour"));
    }
}
