//! The configuration: `vwsd.toml` and the flags over it, checked once. Every limit has a name, a default and a reason.
//!
//! Unknown keys are refused by name: a typo must not be a default.

use crate::service::{HostChange, NetworkChange};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vws_domain::{Caller, Error, ErrorKind, NetworkKind, Result};

/// `vwsd.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// The administrators' group, beside root. Default `vws-admin`.
    pub admin_group: Option<String>,
    /// Folders below which any user may name an image by path. Administrators may name any path. Default: none.
    pub image_directories: Vec<PathBuf>,
    /// Leases.
    pub lease: LeaseFile,
    /// Policies.
    pub policy: PolicyFile,
    /// Operations.
    pub operate: OperateFile,
    /// Metrics.
    pub metrics: MetricsFile,
    /// Plugins, by name.
    pub plugins: BTreeMap<String, PluginFile>,
    /// Hosts, by name. They are added when the daemon first sees them; later changes in the file are applied at a start.
    pub hosts: BTreeMap<String, HostFile>,
    /// Networks, by name. They are added when the daemon first sees them; later changes in the file are applied at a start.
    pub networks: BTreeMap<String, NetworkFile>,
}

/// `[lease]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LeaseFile {
    /// Seconds between the end of a lease and its action. Default 120.
    pub grace_seconds: Option<u64>,
    /// Running time is charged in units of so many minutes, 1 to 1440; a unit that has begun is charged in full. Default 1.
    pub charge_minutes: Option<u64>,
}

impl LeaseFile {
    /// The charge unit in minutes.
    ///
    /// # Errors
    /// InvalidArgument: outside its range.
    pub fn charge_unit(&self) -> Result<u64> {
        let most = vws_domain::CHARGE_MINUTES_MOST;
        match self.charge_minutes.unwrap_or(1) {
            minutes if (1..=most).contains(&minutes) => Ok(minutes),
            minutes => Err(Error::invalid(
                "lease.charge-minutes",
                format!("is {minutes}, must be 1 to {most}"),
                "choose for instance 1, 15 or 60",
            )),
        }
    }
}

/// `[policy]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PolicyFile {
    /// Milliseconds that a script has for one decision. Default 50.
    pub deadline_ms: Option<u64>,
    /// Memory of a script, in MiB. Default 16.
    pub memory_mib: Option<u64>,
    /// Decisions kept, newest first: how far back `vws why` and replays reach. Default 1,000,000.
    pub decisions_kept: Option<u64>,
    /// Decisions are kept for so many days at most. Default 400.
    pub decisions_kept_days: Option<u64>,
    /// What new policies have to pass.
    pub gate: GateFile,
}

/// `[policy.gate]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GateFile {
    /// What it leads to when a test of the folder (`*_test.lua`) fails: `block`, `warn` or `off`. Default `block`.
    pub tests: Option<String>,
    /// What it leads to when new policies would decide recorded requests otherwise: `block`, `warn` or `off`. Default `warn`.
    pub replay: Option<String>,
    /// Newest decisions that are replayed. Default 2000.
    pub replay_decisions: Option<u64>,
    /// With `block`: so many may change. Default 0.
    pub replay_changes: Option<u64>,
    /// First decisions of a new set that are watched; 0: none. Default 50.
    pub watch_decisions: Option<u64>,
    /// The set before is put back when more than so many percent of them fail. Default 10.
    pub watch_errors_percent: Option<u64>,
}

/// `[operate]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OperateFile {
    /// Calls at work on one host at a time. Default 8.
    pub calls_per_host: Option<usize>,
    /// Tries of a step that failed in a way that may pass. Default 4.
    pub step_tries: Option<u32>,
    /// Deadline of a call that should be quick, in seconds. Default 60.
    pub call_seconds: Option<u64>,
    /// Deadline of a call that moves bytes, in seconds. Default 3600.
    pub long_call_seconds: Option<u64>,
    /// Deadline of a host's probe, in seconds. Default 120.
    pub probe_seconds: Option<u64>,
    /// How often each host is asked what it runs, in seconds. Default 30.
    pub reconcile_seconds: Option<u64>,
    /// How often each host is asked, in one call, for the figures of all its machines, in seconds; 0: never. Default 10.
    pub stats_seconds: Option<u64>,
    /// Ended jobs are shown for so long, in hours. Default 24.
    pub jobs_kept_hours: Option<u64>,
}

/// `[metrics]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MetricsFile {
    /// File that the metrics are written to. Default: none.
    pub file: Option<PathBuf>,
    /// How often, in seconds. Default 15.
    pub seconds: Option<u64>,
    /// Workspaces whose own figures are told, at most. Default 1000.
    pub workspaces: Option<usize>,
}

/// `[plugins.NAME]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PluginFile {
    /// The library. Default: `NAME.so` or `libvws_plugin_NAME.so` in the plugins folder.
    pub path: Option<PathBuf>,
    /// `process` (default) or `in-process`.
    pub isolation: Option<String>,
    /// Hosts that one child process serves. Default 64.
    pub hosts_per_child: Option<usize>,
    /// The plugin's own section.
    pub config: Option<toml::Table>,
}

/// `[hosts.NAME]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostFile {
    /// Backend plugin.
    pub backend: String,
    /// The plugin's settings for this host.
    pub settings: Option<toml::Table>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// vCPUs given out per real one, percent. Default 100.
    pub cpu_overcommit_percent: Option<u64>,
    /// Memory given out per real memory, percent. Default 100.
    pub memory_overcommit_percent: Option<u64>,
    /// What the host keeps for itself.
    pub reserve_vcpus: Option<u64>,
    /// MiB.
    pub reserve_memory_mib: Option<u64>,
    /// GiB.
    pub reserve_disk_gib: Option<u64>,
    /// What images in its cache may take, in GiB. Default 0: no limit.
    pub image_cache_gib: Option<u64>,
    /// Whether it takes new workspaces. Default true.
    pub enabled: Option<bool>,
}

impl HostFile {
    /// The same as a change that an administrator asks for.
    ///
    /// # Errors
    /// InvalidArgument: settings that JSON cannot hold.
    pub fn change(&self) -> Result<HostChange> {
        Ok(HostChange {
            backend: Some(self.backend.clone()),
            settings: self.settings.as_ref().map(json_text).transpose()?,
            labels: self.labels.clone(),
            cpu_overcommit_percent: self.cpu_overcommit_percent,
            memory_overcommit_percent: self.memory_overcommit_percent,
            reserve_vcpus: self.reserve_vcpus,
            reserve_memory_mib: self.reserve_memory_mib,
            reserve_disk_gib: self.reserve_disk_gib,
            image_cache_gib: self.image_cache_gib,
            enabled: self.enabled,
        })
    }
}

/// `[networks.NAME]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkFile {
    /// `user`, `bridge` or `network` (one that the hypervisor manages).
    pub kind: String,
    /// The bridge, or the hypervisor's network, by its name on the hosts.
    pub source: Option<String>,
    /// Subnet from which NICs get addresses, `10.0.0.0/24`. Default: none, NICs get their addresses elsewhere.
    pub subnet: Option<String>,
    /// The way out.
    pub gateway: Option<String>,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// What is given out, `10.0.0.10-10.0.0.99`. Default: the whole subnet.
    pub ranges: Option<Vec<String>>,
    /// Enter addresses into the DHCP service of the hypervisor's network. Default false.
    pub dhcp: Option<bool>,
    /// Stop guests that send from a MAC or address that is not theirs. Default true with a subnet.
    pub anti_spoofing: Option<bool>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether new workspaces may be on it. Default true.
    pub enabled: Option<bool>,
}

impl NetworkFile {
    /// The same as a change that an administrator asks for.
    ///
    /// # Errors
    /// InvalidArgument: an unknown kind.
    pub fn change(&self, name: &str) -> Result<NetworkChange> {
        let kind = NetworkKind::from_name(&self.kind).ok_or_else(|| {
            let fact = format!("`kind` is `{}`, must be user, bridge or network", vws_domain::shown(&self.kind));
            Error::invalid(format!("[networks.{name}] in the configuration"), fact, "choose one of them")
        })?;
        Ok(NetworkChange {
            kind: Some(kind),
            source: self.source.clone(),
            subnet: self.subnet.clone(),
            gateway: self.gateway.clone(),
            dns: self.dns.clone(),
            ranges: self.ranges.clone(),
            dhcp: self.dhcp,
            anti_spoofing: self.anti_spoofing,
            labels: self.labels.clone(),
            enabled: self.enabled,
        })
    }
}

fn json_text(table: &toml::Table) -> Result<String> {
    serde_json::to_string(table)
        .map_err(|error| Error::invalid("the configuration", error.to_string(), "use values that JSON can hold"))
}

impl File {
    /// Reads a file; a file that is not there is an empty one unless it was named.
    ///
    /// # Errors
    /// InvalidArgument with line and key.
    pub fn read(path: &Path, named: bool) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(Self::default()),
            Err(error) => {
                return Err(Error::invalid(
                    format!("configuration `{}`", path.display()),
                    format!("cannot be read: {error}"),
                    "name another with --config",
                ));
            }
        };
        toml::from_str(&text).map_err(|error| {
            Error::invalid(
                format!("configuration `{}`", path.display()),
                error.to_string().trim_end().to_owned(),
                "mend the file",
            )
        })
    }
}

/// Where the daemon's four places are, before flags.
#[derive(Clone, Debug)]
pub struct Places {
    /// `vwsd.toml`.
    pub config: PathBuf,
    /// Policy folder.
    pub policies: PathBuf,
    /// Plugins folder.
    pub plugins: PathBuf,
    /// State folder.
    pub state: PathBuf,
}

impl Places {
    /// The system's places for root and system users, XDG's for an ordinary user.
    #[must_use]
    pub fn default_for(uid: u32, variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let plugins = PathBuf::from("/usr/lib/vws/plugins");
        if uid < 1000 {
            return Self {
                config: "/etc/vws/vwsd.toml".into(),
                policies: "/etc/vws/policies".into(),
                plugins,
                state: "/var/lib/vws".into(),
            };
        }
        let home = variable("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let config = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("vws");
        let state = variable("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state")).join("vws");
        Self { config: config.join("vwsd.toml"), policies: config.join("policies"), plugins, state }
    }
}

/// What admission needs of the configuration.
#[derive(Clone, Debug)]
pub struct Admission {
    /// State folder.
    pub state: PathBuf,
    /// uid that the daemon runs as.
    pub uid: u32,
    /// Seconds between the end of a lease and its action.
    pub lease_grace_seconds: u64,
    /// Charge unit of running time, in minutes.
    pub charge_minutes: u64,
    /// Folders below which any user may name an image by path.
    pub image_directories: Vec<PathBuf>,
    /// Workspaces whose own figures the metrics tell, at most.
    pub metrics_workspaces: usize,
}

impl Admission {
    /// The real path behind `path`, if the caller may have the daemon read it. The daemon reads with its own rights, so a path from
    /// just anybody would be a way round the file system's: ordinary users hand over an open file instead, as `vws` does.
    ///
    /// # Errors
    /// NotFound, AccessDenied.
    pub fn readable_path(&self, path: &str, caller: &Caller) -> Result<String> {
        let object = format!("file `{}`", vws_domain::shown(path));
        let denied = || {
            Error::new(
                ErrorKind::AccessDenied,
                object.clone(),
                "is not below a folder from which users may name images",
                "hand the open file over: `vws image import NAME FILE`",
            )
        };
        let free = caller.admin || caller.uid == self.uid;
        let real = match Path::new(path).canonicalize() {
            Ok(real) => real,
            // Whether a file exists elsewhere is not told to those who may not name it.
            Err(_) if !free && !self.image_directories.iter().any(|folder| Path::new(path).starts_with(folder)) => {
                return Err(denied());
            }
            Err(error) => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    object,
                    format!("cannot be opened: {error}"),
                    "give the path of a file that the daemon can read",
                ));
            }
        };
        let below = |folder: &PathBuf| folder.canonicalize().is_ok_and(|folder| real.starts_with(folder));
        if !free && !self.image_directories.iter().any(below) {
            return Err(denied());
        }
        real.into_os_string().into_string().map_err(|_| Error::invalid(object, "has a name that is not UTF-8", "rename it"))
    }
}
