//! A host's settings: how large it is, what it cannot do, what trouble it makes.

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use vws_plugin_api::doc::{Failure, capabilities as cap, codes};

/// Every capability that the documents name.
pub const CAPABILITIES: [&str; 23] = [
    cap::BOOT_BIOS,
    cap::BOOT_UEFI,
    cap::BOOT_KERNEL,
    cap::CPU_SHARES,
    cap::DISK_LIMITS,
    cap::NIC_LIMITS_USER,
    cap::NIC_LIMITS,
    cap::NIC_USER,
    cap::NIC_BRIDGE,
    cap::NIC_NETWORK,
    cap::PAUSE,
    cap::SERIALIZE,
    cap::CONSOLE,
    cap::RESIZE_MEMORY,
    cap::RESIZE_VCPUS,
    cap::SHRINK_VCPUS,
    cap::RESIZE_DISK,
    cap::SNAPSHOT,
    cap::SNAPSHOT_MEMORY,
    cap::STATS,
    cap::ANTI_SPOOFING,
    cap::DHCP,
    cap::MIGRATE,
];

/// Memory of a guest that is not the daemon's, in MiB; each has one vCPU.
pub const FOREIGN_MEMORY_MIB: u64 = 512;

/// The settings. Unknown ones are refused: they are a person's typing.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// CPUs.
    pub vcpus: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Room for disks in GiB.
    pub disk_gib: u64,
    /// How long each call takes, in milliseconds.
    pub latency_ms: u64,
    /// Seed of the host's chance.
    pub seed: u64,
    /// Guests that are not the daemon's.
    pub foreign_guests: u64,
    /// Where machines and images are kept, in a folder named after the host. Without it they are lost with the process.
    pub directory: Option<PathBuf>,
    /// Capability -> the reason why the host lacks it.
    pub cannot: BTreeMap<String, String>,
    /// Accelerator that guests run with.
    pub accelerator: String,
    /// CPU models that guests can have; they get the first.
    pub cpus: Vec<String>,
    /// Machine types that guests can be; they become the first.
    pub machine_types: Vec<String>,
    /// Networks of the hypervisor; absent: any name is one.
    pub networks: Option<Vec<String>>,
    /// Bridges of the host; absent: any name is one.
    pub bridges: Option<Vec<String>>,
    /// Name of the storage that its disks are on: hosts that name the same one share it. Without it they are the host's own.
    pub storage: Option<String>,
    /// How fast a guest is moved to another host, in MiB per second; 0: at once.
    pub migrate_mib_per_second: u64,
    /// Guests do not react to the power button: a stop has to force them.
    pub deaf_guests: bool,
    /// Calls that fail.
    pub fail: Vec<Fail>,
    /// Calls that hang.
    pub hang: Vec<Hang>,
    /// Each call is noted, as a line with its method, in the file `calls` of the host's folder in `directory`.
    pub journal: bool,
    /// The process aborts when this method is called, before anything is done: once, which a file in `directory` remembers.
    pub die: Option<String>,
    /// The same, after everything was done and before the answer.
    pub die_after: Option<String>,
}

/// A call that fails: the `nth` of its method (from 1), or each with a `probability` (0 to 1), or, with neither, every one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// Method.
    pub method: String,
    /// Which call of it.
    #[serde(default)]
    pub nth: Option<u64>,
    /// How often.
    #[serde(default)]
    pub probability: Option<f64>,
    /// Code of the failure.
    #[serde(default = "hypervisor")]
    pub code: String,
}

fn hypervisor() -> String {
    codes::HYPERVISOR.to_owned()
}

/// A call that hangs: the `nth` of its method (from 1), or every one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hang {
    /// Method.
    pub method: String,
    /// Which call of it.
    #[serde(default)]
    pub nth: Option<u64>,
    /// Whether a cancel ends it.
    #[serde(default)]
    pub heeds_cancel: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vcpus: 16,
            memory_mib: 64 * 1024,
            disk_gib: 1024,
            latency_ms: 0,
            seed: 1,
            foreign_guests: 0,
            directory: None,
            cannot: BTreeMap::new(),
            accelerator: "simulation".to_owned(),
            cpus: vec!["sim".to_owned()],
            machine_types: vec!["sim-1".to_owned()],
            networks: None,
            bridges: None,
            storage: None,
            migrate_mib_per_second: 0,
            deaf_guests: false,
            fail: Vec::new(),
            hang: Vec::new(),
            journal: false,
            die: None,
            die_after: None,
        }
    }
}

impl Settings {
    /// Reads them; `null` stands for the defaults.
    pub fn read(host: &str, value: Value) -> Result<Self, Failure> {
        let wrong = |message: String| {
            Failure::new(codes::INVALID, message)
                .about(format!("settings of host `{host}`"))
                .remedy("correct them in the host's configuration")
        };
        if host.is_empty() || host.starts_with('.') || host.contains('/') {
            return Err(wrong("the host's name cannot be a folder's name".to_owned()));
        }
        if value.is_null() {
            return Ok(Self::default());
        }
        let settings: Self = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        if let Some(unknown) = settings.cannot.keys().find(|name| !CAPABILITIES.contains(&name.as_str())) {
            return Err(wrong(format!("`cannot` names `{unknown}`; capabilities are {}", CAPABILITIES.join(", "))));
        }
        let plain = |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if settings.storage.as_ref().is_some_and(|name| !plain(name)) {
            return Err(wrong("`storage` is made of letters, digits and dashes".to_owned()));
        }
        if (settings.die.is_some() || settings.die_after.is_some()) && settings.directory.is_none() {
            return Err(wrong("`die` needs a `directory`, where it is remembered that it happened".to_owned()));
        }
        if settings.cpus.is_empty() || settings.machine_types.is_empty() {
            return Err(wrong("`cpus` or `machine_types` is empty: guests need one".to_owned()));
        }
        Ok(settings)
    }

    /// What the host has of each kind that is told by name, as capabilities.
    pub fn named(&self) -> impl Iterator<Item = String> {
        let of = |prefix: &'static str, names: &[String]| names.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>();
        [
            of(cap::ACCELERATOR, std::slice::from_ref(&self.accelerator)),
            of(cap::CPU, &self.cpus),
            of(cap::MACHINE, &self.machine_types),
            of(cap::NETWORK, self.networks.as_deref().unwrap_or_default()),
            of(cap::BRIDGE, self.bridges.as_deref().unwrap_or_default()),
        ]
        .into_iter()
        .flatten()
    }

    /// JSON Schema of the settings.
    pub fn schema() -> Value {
        let amount = json!({ "type": "integer", "minimum": 0 });
        let names = json!({ "type": "array", "items": { "type": "string" } });
        json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "vcpus": amount, "memory_mib": amount, "disk_gib": amount, "latency_ms": amount, "seed": amount,
                "foreign_guests": amount,
                "directory": { "type": "string" },
                "cannot": { "type": "object", "propertyNames": { "enum": CAPABILITIES }, "additionalProperties": { "type": "string" } },
                "accelerator": { "type": "string" }, "cpus": names, "machine_types": names, "networks": names, "bridges": names,
                "storage": { "type": "string", "minLength": 1 }, "migrate_mib_per_second": amount,
                "deaf_guests": { "type": "boolean" }, "journal": { "type": "boolean" },
                "fail": { "type": "array", "items": {
                    "type": "object", "required": ["method"], "additionalProperties": false,
                    "properties": {
                        "method": { "type": "string" }, "nth": { "type": "integer", "minimum": 1 },
                        "probability": { "type": "number", "minimum": 0, "maximum": 1 }, "code": { "type": "string" }
                    } } },
                "hang": { "type": "array", "items": {
                    "type": "object", "required": ["method"], "additionalProperties": false,
                    "properties": {
                        "method": { "type": "string" }, "nth": { "type": "integer", "minimum": 1 },
                        "heeds_cancel": { "type": "boolean" }
                    } } },
                "die": { "type": "string" }, "die_after": { "type": "string" }
            }
        })
    }

    /// Why the host lacks a capability, if it does.
    pub fn lacks(&self, capability: &str) -> Option<&str> {
        let told = self.cannot.get(capability).map(String::as_str);
        // A guest moves from folder to folder.
        told.or((capability == cap::MIGRATE && self.directory.is_none()).then_some("the host has no `directory`"))
    }
}
