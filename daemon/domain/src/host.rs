//! A host: a machine with a hypervisor that a backend plugin administers.

use crate::Timestamp;
use crate::capacity::Resources;
use crate::id::HostName;
use std::collections::BTreeMap;

/// How guests run on the host, as seen by booting one, not as claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accelerator {
    /// The plugin's word for it, for instance `kvm` or `emulation`. Empty: not probed yet.
    pub name: String,
    /// What was seen that made the plugin choose it.
    pub reason: String,
}

/// What a host has, as its backend reported it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The hypervisor and its version, for display.
    pub hypervisor: String,
    /// How guests run.
    pub accelerator: Accelerator,
    /// Everything the machine has.
    pub total: Resources,
    /// What the backend can do or enforce here: capability name to empty text, or to the reason why it cannot.
    pub capabilities: BTreeMap<String, String>,
    /// CPU architecture, for instance `x86_64`.
    pub arch: String,
    /// Identity of the storage that holds disks: hosts with the same one share it. Empty: unknown, so not shared.
    pub storage_id: String,
}

/// Guests on the host that are not ours: they count as used and are never touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForeignUse {
    /// How many.
    pub guests: u64,
    /// What they use.
    pub resources: Resources,
}

/// Whether the host answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// Not tried yet.
    #[default]
    Unprobed,
    /// It answers.
    Up,
    /// It does not; the reason. Its workspaces are unknown, not off.
    Down(String),
}

/// A host as configured and as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// The backend plugin that administers it.
    pub backend: String,
    /// Settings for the plugin, a JSON object as text; the plugin's schema says what may stand here.
    pub settings: String,
    /// The site's labels, for instance `rack = r2`.
    pub labels: BTreeMap<String, String>,
    /// How many vCPUs are given out per real CPU, in percent: 100 is no overcommit.
    pub cpu_overcommit_percent: u64,
    /// How much memory is given out per real memory, in percent: 100 is no overcommit.
    pub memory_overcommit_percent: u64,
    /// What the host keeps for itself.
    pub reserve: Resources,
    /// What images in its cache may take, in GiB; 0 is no limit.
    pub image_cache_gib: u64,
    /// Whether new workspaces may be placed here.
    pub enabled: bool,
    /// What the backend reported last.
    pub facts: HostFacts,
    /// Guests that are not ours.
    pub foreign: ForeignUse,
    /// Whether it answers.
    pub connection: Connection,
    /// Counts up with each change: the host's version in the ledger.
    pub version: u64,
    /// When the facts were last reported.
    pub seen_at: Timestamp,
}

impl Host {
    /// What may be given out to workspaces when none is placed: facts x overcommit - reserve - foreign guests.
    #[must_use]
    pub fn capacity(&self) -> Resources {
        let scaled = Resources {
            vcpus: self.facts.total.vcpus.saturating_mul(self.cpu_overcommit_percent) / 100,
            memory_mib: self.facts.total.memory_mib.saturating_mul(self.memory_overcommit_percent) / 100,
            disk_gib: self.facts.total.disk_gib,
        };
        scaled.minus(self.reserve).minus(self.foreign.resources)
    }

    /// What may ever be given out: the same without foreign guests. A request above this is too large for the host.
    #[must_use]
    pub fn ceiling(&self) -> Resources {
        self.capacity().plus(self.foreign.resources)
    }

    /// Why the backend cannot do or enforce `capability` here, in words for people; `None` if it can.
    ///
    /// A need such as `bridge:br0` names one of a kind. A backend that declares none of the kind (nothing that begins with
    /// `bridge:`) does not say what there is: that is unknown, and no reason. It finds out itself when it is asked to do it.
    #[must_use]
    pub fn cannot(&self, capability: &str) -> Option<String> {
        if let Some(arch) = capability.strip_prefix("arch:") {
            let other = || format!("guests of `{arch}` do not run on its `{}`", self.facts.arch);
            return (arch != self.facts.arch).then(other);
        }
        let declared = &self.facts.capabilities;
        match (declared.get(capability), capability.split_once(':')) {
            (Some(reason), _) if reason.is_empty() => None,
            (Some(reason), _) => Some(reason.clone()),
            (None, Some((kind, name))) => self.has_not(kind, name),
            (None, None) => Some(format!("backend `{}` does not offer `{capability}`", self.backend)),
        }
    }

    /// Why there is no `name` of this kind here.
    fn has_not(&self, kind: &str, name: &str) -> Option<String> {
        let prefix = format!("{kind}:");
        let of_kind = || self.facts.capabilities.range(prefix.clone()..).take_while(|(one, _)| one.starts_with(&prefix));
        of_kind().next()?;
        let there: Vec<&str> =
            of_kind().filter(|(_, reason)| reason.is_empty()).filter_map(|(one, _)| one.strip_prefix(&prefix)).collect();
        let shown = match there.get(..NAMES_SHOWN) {
            None if there.is_empty() => "none".to_owned(),
            None => there.join(", "),
            Some(first) => format!("{} and {} more", first.join(", "), there.len() - NAMES_SHOWN),
        };
        Some(match kind {
            "cpu" => format!("has no CPU model `{name}`, which the guest was started with (it has {shown})"),
            "machine" => format!("its emulator knows no machine type `{name}`, which the guest was started as (it has {shown})"),
            "accelerator" => {
                format!("runs guests with {shown}; the guest's memory was made with `{name}` and goes on with nothing else")
            }
            "network" => format!("has no network `{name}` (it has {shown})"),
            "bridge" => format!("has no bridge `{name}` (it has {shown})"),
            _ => format!("has no {kind} `{name}` (it has {shown})"),
        })
    }
}

/// Names of a kind that a reason lists.
const NAMES_SHOWN: usize = 4;
