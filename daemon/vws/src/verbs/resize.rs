//! `vws resize`: more or less of vCPUs, memory, disk and rates, running or stopped.

use crate::action::jobs_table;
use crate::context::Context;
use crate::follow::{Wait, follow};
use crate::launch::{Pairs, disk_change, elements, nic_change};
use crate::units::{disk_gib, memory_mib};
use crate::{Result, find, screen};
use serde_json::json;
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::{keys, path};
use zbus::Variant;

/// Arguments of `vws resize`.
#[derive(Debug, clap::Args)]
pub(crate) struct Resize {
    /// Name or id of the workspace
    pub(crate) workspace: String,
    #[command(flatten)]
    pub(crate) change: Change,
    #[command(flatten)]
    wait: Wait,
}

/// What it shall become.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// vCPUs
    #[arg(long, value_name = "N")]
    vcpus: Option<u64>,
    /// vCPUs that it can have without a restart; only while it is stopped
    #[arg(long, value_name = "N")]
    vcpus_max: Option<u64>,
    /// Memory, for instance 2G
    #[arg(long, value_parser = memory_mib, value_name = "SIZE")]
    memory: Option<u64>,
    /// Memory that it can have without a restart; only while it is stopped
    #[arg(long, value_parser = memory_mib, value_name = "SIZE")]
    memory_max: Option<u64>,
    /// Relative weight of its CPU time, 2 to 262144; 0: the hypervisor's own
    #[arg(long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// Size of the root disk, for instance 20G; never less than it has
    #[arg(long, value_parser = disk_gib, value_name = "SIZE")]
    disk: Option<u64>,
    /// Operations per second of the root disk, at most; 0: no limit
    #[arg(long, value_name = "N")]
    disk_iops: Option<u64>,
    /// KiB per second of the root disk, at most; 0: no limit
    #[arg(long, value_name = "N")]
    disk_kib_per_second: Option<u64>,
    /// A data disk: its number from 1, then size=, iops=, kib-per-second= joined by commas; repeatable
    #[arg(long, value_parser = disk_change, value_name = "DISK")]
    data_disk: Vec<Pairs>,
    /// A NIC: its number from 0, then inbound-kib-per-second=, outbound-kib-per-second= joined by commas; repeatable
    #[arg(long, value_parser = nic_change, value_name = "NIC")]
    nic: Vec<Pairs>,
}

impl Change {
    /// The keys of Workspace.Resize's `changes`.
    pub(crate) fn changes(&self) -> Args<'static> {
        let numbers = [
            (keys::VCPUS, self.vcpus),
            (keys::VCPUS_MAX, self.vcpus_max),
            (keys::MEMORY_MIB, self.memory),
            (keys::MEMORY_MAX_MIB, self.memory_max),
            (keys::CPU_SHARES, self.cpu_shares),
            (keys::DISK_GIB, self.disk),
            (keys::DISK_IOPS, self.disk_iops),
            (keys::DISK_KIB_PER_SECOND, self.disk_kib_per_second),
        ];
        let mut changes: Args<'static> =
            numbers.into_iter().filter_map(|(key, value)| value.map(|value| (key, Variant::from(value)))).collect();
        let lists = [(keys::DATA_DISKS, &self.data_disk), (keys::NICS, &self.nic)];
        changes.extend(lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key, elements(list))));
        changes
    }
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Resize) -> Result<()> {
    let changes = verb.change.changes();
    if changes.is_empty() {
        return Err(Failure::of_kind(
            "InvalidArgument",
            "nothing to resize: name what it shall become, for instance --memory 2G",
        ));
    }
    let found = find::workspace(context, &verb.workspace).await?;
    let name = screen::shown(found.record.text("name"));
    let job = context.client.workspace(&found.path).await?.resize(&changes, &verb.wait.options()).await?;
    if job.as_str() == path::NONE {
        context.say(&format!("{name} has these sizes already"));
        return context.emit(&json!({ "workspace": found.record.0, "job": null }), String::new);
    }
    let job = follow(context, job.as_str(), &format!("resize {name}"), &verb.wait).await?;
    context.emit(&json!({ "workspace": found.record.text("id"), "job": job.0 }), || jobs_table(std::slice::from_ref(&job)))
}
