//! A simulated machine: what it is, what its guest counts and prints.
//!
//! The guest counts ten a second while it runs. Paused or saved it stands still; restored it goes on; rebooted it begins anew.

use crate::settings::Settings;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};
use vws_plugin_api::doc::{BootDoc, DiskSourceDoc, Failure, MachineDoc, MachineState, MachineStatus, capabilities as cap, codes};

/// Milliseconds between two counts of a guest.
pub const TICK_MS: u64 = 100;
/// Newest counts that the log shows.
const LOG_TICKS: u64 = 5;

/// Milliseconds since the epoch. A guest runs on while no plugin looks, so its count is taken from the clock.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A machine on a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// What it was made from.
    pub doc: MachineDoc,
    /// What it is doing.
    pub state: MachineState,
    /// Why.
    pub reason: String,
    /// Counted up to `since_ms`.
    pub count: u64,
    /// When it began to run on, if it runs.
    pub since_ms: u64,
    /// How often it was booted on this host or before.
    pub boots: u64,
    /// What the guest printed when it booted.
    pub boot_log: String,
    /// CPU model that it booted with.
    #[serde(default)]
    pub cpu: String,
    /// Its snapshots, oldest first.
    #[serde(default)]
    pub snapshots: Vec<Kept>,
}

/// A snapshot of a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// What the guest had counted and its boots and log, if the memory is kept; and whether it stood still.
    pub memory: Option<(u64, u64, String, bool)>,
}

impl Machine {
    /// Keeps the present state under a name; one of this name is kept as it is.
    pub fn keep(&mut self, name: &str, memory: bool) -> bool {
        if self.snapshots.iter().any(|kept| kept.name == name) {
            return false;
        }
        let memory = memory.then(|| (self.counted(), self.boots, self.boot_log.clone(), self.state == MachineState::Paused));
        self.snapshots.push(Kept { name: name.to_owned(), memory });
        true
    }

    /// Goes back to a snapshot.
    pub fn revert(&mut self, kept: &Kept) {
        match &kept.memory {
            None => self.off("reverted"),
            Some((count, boots, log, paused)) => {
                self.become_state(if *paused { MachineState::Paused } else { MachineState::Running }, "reverted");
                self.count = *count;
                self.boots = *boots;
                self.boot_log.clone_from(log);
            }
        }
    }
}

impl Machine {
    /// A machine whose disks are made.
    pub fn staged(doc: MachineDoc) -> Self {
        Self {
            doc,
            state: MachineState::Stopped,
            reason: "staged".to_owned(),
            count: 0,
            since_ms: 0,
            boots: 0,
            boot_log: String::new(),
            cpu: String::new(),
            snapshots: Vec::new(),
        }
    }

    /// What the guest has counted.
    pub fn counted(&self) -> u64 {
        let ran = if self.state == MachineState::Running { now_ms().saturating_sub(self.since_ms) / TICK_MS } else { 0 };
        self.count.saturating_add(ran)
    }

    /// Goes into another state; the count stands still or goes on accordingly.
    pub fn become_state(&mut self, state: MachineState, reason: &str) {
        self.count = self.counted();
        self.since_ms = now_ms();
        self.state = state;
        reason.clone_into(&mut self.reason);
    }

    /// Boots: the count and the log begin anew.
    pub fn boot(&mut self, state: MachineState, reason: &str) {
        self.become_state(state, reason);
        self.count = 0;
        self.boots += 1;
        self.boot_log = self.boot_lines();
    }

    /// Off: the memory is gone.
    pub fn off(&mut self, reason: &str) {
        self.become_state(MachineState::Stopped, reason);
        self.count = 0;
    }

    fn boot_lines(&self) -> String {
        let doc = &self.doc;
        let how = match &doc.boot {
            BootDoc::Disk { firmware } => format!("{firmware} from disk-0"),
            BootDoc::Kernel { cmdline, .. } => format!("kernel `{cmdline}`"),
        };
        let mut text =
            format!("sim: boot {} of {}: {} vCPUs, {} MiB, {how}\n", self.boots, doc.workspace, doc.vcpus, doc.memory_mib);
        for disk in &doc.disks {
            let source = match &disk.source {
                DiskSourceDoc::Image { digest, format } => format!("clone of {format} image {digest:.12}"),
                DiskSourceDoc::Empty => "empty".to_owned(),
            };
            // Writing to a String cannot fail, here and below.
            let _w = writeln!(text, "sim: {}: {} MiB, {source}", disk.name, disk.size_mib);
        }
        for nic in &doc.nics {
            let _w = writeln!(text, "sim: nic {} on {} {}", nic.mac, nic.kind, nic.source);
            if nic.dhcp {
                let _w = writeln!(text, "sim: dhcp gives {} to {}", nic.addresses.join(" "), nic.mac);
            }
        }
        for line in doc.seed.meta_data.lines() {
            let _w = writeln!(text, "seed: {line}");
        }
        for line in doc.seed.network_config.lines() {
            let _w = writeln!(text, "seed: network {line}");
        }
        let _w = writeln!(text, "seed: user-data of {} bytes", doc.seed.user_data.len());
        let _w = writeln!(text, "{} login: ", self.host_name());
        text
    }

    /// The guest's host name: from the seed, else the machine's name.
    pub fn host_name(&self) -> String {
        self.doc
            .seed
            .meta_data
            .lines()
            .find_map(|line| line.trim().strip_prefix("local-hostname:"))
            .map_or_else(|| self.doc.name.clone(), |name| name.trim().trim_matches('"').to_owned())
    }

    /// What the console showed: the boot, and the newest counts.
    pub fn log(&self) -> String {
        let mut text = self.boot_log.clone();
        let counted = self.counted();
        for count in counted.saturating_sub(LOG_TICKS)..counted {
            let _w = writeln!(text, "TICK {}", count + 1);
        }
        text
    }

    /// Its status.
    pub fn status(&self) -> MachineStatus {
        MachineStatus {
            workspace: self.doc.workspace.clone(),
            state: self.state,
            reason: self.reason.clone(),
            cpu: self.cpu.clone(),
            plugin_state: serde_json::json!({ "boots": self.boots, "deployment": self.doc.deployment }),
        }
    }
}

/// Refuses what the host lacks.
pub fn check_capabilities(settings: &Settings, doc: &MachineDoc) -> Result<(), Failure> {
    let mut needs = vec![match &doc.boot {
        BootDoc::Kernel { .. } => cap::BOOT_KERNEL,
        BootDoc::Disk { firmware } if firmware == "uefi" => cap::BOOT_UEFI,
        BootDoc::Disk { firmware } if firmware == "bios" => cap::BOOT_BIOS,
        BootDoc::Disk { firmware } => {
            return Err(
                Failure::new(codes::INVALID, format!("firmware `{firmware}` is neither `bios` nor `uefi`")).about(about(doc))
            );
        }
    }];
    if doc.cpu_shares > 0 {
        needs.push(cap::CPU_SHARES);
    }
    if doc.disks.iter().any(|disk| disk.iops > 0 || disk.kib_per_second > 0) {
        needs.push(cap::DISK_LIMITS);
    }
    for nic in &doc.nics {
        let (kind, limits) = match nic.kind.as_str() {
            "user" => (cap::NIC_USER, cap::NIC_LIMITS_USER),
            "bridge" => (cap::NIC_BRIDGE, cap::NIC_LIMITS),
            "network" => (cap::NIC_NETWORK, cap::NIC_LIMITS),
            other => return Err(Failure::new(codes::INVALID, format!("NIC kind `{other}` is unknown")).about(about(doc))),
        };
        needs.push(kind);
        let known = match nic.kind.as_str() {
            "bridge" => settings.bridges.as_ref(),
            "network" => settings.networks.as_ref(),
            _ => None,
        };
        if known.is_some_and(|known| !known.contains(&nic.source)) {
            return Err(Failure::new(
                codes::UNSUPPORTED,
                format!("this host has no {} `{}`", nic.kind, nic.source.escape_default()),
            )
            .about(about(doc))
            .remedy("ask for one that it has, or for another host"));
        }
        if nic.inbound_kib_per_second > 0 || nic.outbound_kib_per_second > 0 {
            needs.push(limits);
        }
        if nic.anti_spoofing {
            needs.push(cap::ANTI_SPOOFING);
        }
        if nic.dhcp {
            needs.push(cap::DHCP);
        }
    }
    match needs.into_iter().find_map(|need| settings.lacks(need).map(|reason| (need, reason))) {
        None => Ok(()),
        Some((need, reason)) => Err(Failure::new(codes::UNSUPPORTED, format!("needs `{need}`, which this host lacks: {reason}"))
            .about(about(doc))
            .remedy("ask for a machine without it, or for another host")),
    }
}

/// Digests that a machine needs on its host.
pub fn needed_images(doc: &MachineDoc) -> Vec<&str> {
    let mut digests = Vec::new();
    if let BootDoc::Kernel { kernel, initrd, .. } = &doc.boot {
        digests.push(kernel.as_str());
        if !initrd.is_empty() {
            digests.push(initrd);
        }
    }
    for disk in &doc.disks {
        if let DiskSourceDoc::Image { digest, .. } = &disk.source {
            digests.push(digest);
        }
    }
    digests
}

fn about(doc: &MachineDoc) -> String {
    format!("workspace `{}`", doc.workspace)
}
