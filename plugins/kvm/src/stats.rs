//! Figures of the machines that run on a host: one call to libvirt for all of them.
//!
//! Owns: which of libvirt's numbers is which member. Must not know: who asks, and how often.

use crate::events::{self, Figures};
use crate::host::Host;
use crate::storage::is_workspace;
use std::sync::Arc;
use vws_plugin_api::doc::{HostStats, MachineStats};
use vws_plugin_api::sdk::{Call, Outcome};

/// The figures of every machine of the daemon's that runs or stands still.
pub fn of(host: &Arc<Host>, call: &Call) -> Outcome<HostStats> {
    let all = host.run(call, "ask for the machines' figures", &host.object(), |site| events::figures(site))?;
    let mut workspaces: Vec<_> = all.iter().filter_map(machine).collect();
    workspaces.sort_by(|one, other| one.workspace.cmp(&other.workspace));
    Ok(HostStats { workspaces })
}

fn machine((name, figures): &Figures) -> Option<MachineStats> {
    let workspace = name.strip_prefix("vws-").filter(|id| is_workspace(id))?;
    let one = |name: &str| figures.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
    // `block.0.rd.bytes`, `block.1.rd.bytes`, ...: the sum, if there is any.
    let sum = |begin: &str, end: &str| {
        let part = figures.iter().filter(|(name, _)| name.starts_with(begin) && name.ends_with(end)).map(|(_, value)| *value);
        part.fold(None, |sum: Option<u64>, value| Some(sum.unwrap_or(0).saturating_add(value)))
    };
    Some(MachineStats {
        workspace: workspace.to_owned(),
        cpu_time_ns: one("cpu.time"),
        memory_mib: one("balloon.current").map(|kib| kib / 1024),
        resident_mib: one("balloon.rss").map(|kib| kib / 1024),
        disk_read_bytes: sum("block.", ".rd.bytes"),
        disk_written_bytes: sum("block.", ".wr.bytes"),
        net_received_bytes: sum("net.", ".rx.bytes"),
        net_sent_bytes: sum("net.", ".tx.bytes"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_summed_over_devices_and_what_is_not_told_is_absent() {
        let figure = |name: &str, value: u64| (name.to_owned(), value);
        let figures = vec![
            figure("state.state", 1),
            figure("cpu.time", 5_000_000_000),
            figure("balloon.current", 128 << 10),
            figure("block.count", 2),
            figure("block.0.rd.bytes", 10),
            figure("block.1.rd.bytes", 32),
            figure("block.0.rd.reqs", 99),
            figure("net.0.rx.bytes", 7),
        ];
        let one = machine(&(format!("vws-{}", "a".repeat(32)), figures)).unwrap();
        assert_eq!((one.cpu_time_ns, one.memory_mib, one.disk_read_bytes), (Some(5_000_000_000), Some(128), Some(42)));
        assert_eq!((one.net_received_bytes, one.net_sent_bytes, one.resident_mib), (Some(7), None, None));
        assert!(machine(&("somebody".into(), vec![])).is_none());
    }
}
