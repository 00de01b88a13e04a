//! `vws top`: what the machines of workspaces do, once or again and again. The daemon asks each host once a period and answers from
//! memory, so looking often costs hosts nothing.

use crate::context::Context;
use crate::output::{self, Format, table};
use crate::record::{self, Record};
use crate::units::{bytes, duration, mib};
use crate::{Result, find};
use std::cmp::Reverse;
use std::io::IsTerminal;
use std::time::Duration;
use vws_bus::client::Args;
use vws_bus::keys;
use zbus::Variant;

/// To the upper left corner, and everything below it away.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Arguments of `vws top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    /// Show it once and end, as without a terminal and with JSON or YAML
    #[arg(long)]
    once: bool,
    /// How often to show it anew
    #[arg(long, value_parser = duration, default_value = "2s", value_name = "DURATION")]
    every: Duration,
    /// What stands above: the most first, names in order
    #[arg(long, value_enum, default_value_t = Sort::Cpu)]
    sort: Sort,
    /// Only on this host
    #[arg(long)]
    host: Option<String>,
    /// Only of this user id
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// CPU
    Cpu,
    /// Memory on the host
    Memory,
    /// Bytes from and to disks
    Disk,
    /// Bytes from and to networks
    Net,
    /// Name
    Name,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Top) -> Result<()> {
    let mut filter = Args::new();
    if let Some(host) = &verb.host {
        filter.insert(keys::HOST, Variant::from(host.clone()));
    }
    if let Some(owner) = verb.owner {
        filter.insert(keys::OWNER, Variant::from(owner));
    }
    let once = verb.once || context.format != Format::Table || !std::io::stdout().is_terminal();
    let mut interrupts = crate::follow::interrupts()?;
    loop {
        let mut all = find::list(context, find::Noun::Stats, &filter).await?;
        sort(&mut all, verb.sort);
        if once {
            context.emit(&record::array(&all), || rows(&all))?;
            if all.is_empty() {
                context.say("no figures: nothing runs, or its host has not told yet");
            }
            return Ok(());
        }
        output::write(format!("{CLEAR}{}\n", rows(&all)).as_bytes())?;
        tokio::select! {
            () = tokio::time::sleep(verb.every.max(Duration::from_millis(100))) => {}
            Some(()) = interrupts.recv() => return Ok(()),
        }
    }
}

/// The sum of rates; what is not known counts as nothing.
fn rate(one: &Record, keys: [&str; 2]) -> u64 {
    keys.into_iter().map(|key| one.number(key)).fold(0, u64::saturating_add)
}

const DISK: [&str; 2] = ["disk_read_bytes_per_second", "disk_written_bytes_per_second"];
const NET: [&str; 2] = ["net_received_bytes_per_second", "net_sent_bytes_per_second"];

fn percent(one: &Record) -> Option<f64> {
    one.0.get("cpu_percent").and_then(serde_json::Value::as_f64)
}

fn sort(all: &mut [Record], by: Sort) {
    all.sort_by(|a, b| (a.text("name"), a.text("workspace")).cmp(&(b.text("name"), b.text("workspace"))));
    match by {
        Sort::Cpu => all.sort_by(|a, b| percent(b).unwrap_or(-1.0).total_cmp(&percent(a).unwrap_or(-1.0))),
        Sort::Memory => all.sort_by_key(|one| Reverse(one.number("resident_mib").max(one.number("memory_mib")))),
        Sort::Disk => all.sort_by_key(|one| Reverse(rate(one, DISK))),
        Sort::Net => all.sort_by_key(|one| Reverse(rate(one, NET))),
        Sort::Name => {}
    }
}

fn rows(all: &[Record]) -> String {
    let known = |one: &Record, key: &str, shown: fn(u64) -> String| {
        if one.has(key) { shown(one.number(key)) } else { "-".to_owned() }
    };
    let speed = |one: &Record, key: &str| known(one, key, |rate| format!("{}/s", bytes(rate)));
    let rows = all
        .iter()
        .map(|one| {
            vec![
                one.text("name").to_owned(),
                one.text("host").to_owned(),
                one.number("vcpus").to_string(),
                percent(one).map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}")),
                known(one, "memory_mib", mib),
                known(one, "resident_mib", mib),
                speed(one, DISK[0]),
                speed(one, DISK[1]),
                speed(one, NET[0]),
                speed(one, NET[1]),
                format!("{}s", one.number("age_ms") / 1000),
            ]
        })
        .collect();
    table(&["NAME", "HOST", "VCPUS", "CPU%", "MEMORY", "RESIDENT", "READ", "WRITTEN", "RECEIVED", "SENT", "AGE"], rows)
}

#[cfg(test)]
mod tests {
    use super::{Record, Sort, rows, sort};
    use serde_json::json;

    #[test]
    fn the_most_is_above_and_the_unknown_below() {
        let mut all: Vec<Record> = [
            json!({ "name": "a", "cpu_percent": 1.5, "memory_mib": 64, "age_ms": 1999 }),
            json!({ "name": "b" }),
            json!({ "name": "c", "cpu_percent": 99.94, "resident_mib": 32, "net_sent_bytes_per_second": 2048 }),
        ]
        .map(Record)
        .into();
        let names = |all: &[Record]| all.iter().map(|one| one.text("name").to_owned()).collect::<String>();
        for (by, order) in
            [(Sort::Cpu, "cab"), (Sort::Memory, "acb"), (Sort::Net, "cab"), (Sort::Name, "abc"), (Sort::Disk, "abc")]
        {
            sort(&mut all, by);
            assert_eq!(names(&all), order, "{by:?}");
        }
        let text = rows(&all);
        for word in ["99.9", "64M", "2.0 KiB/s", "1s", "-"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
