//! Guests on their way from host to host.
//!
//! A move is a file in the source's folder that says when it ends; at that time the machine's file is renamed into the target's folder.
//! Whoever looks first does it. So a move goes on when the process that began it dies, as a hypervisor's does, and at any
//! instant exactly one host has the machine. Taking the move's file away breaks it off; only one of both can succeed.

use crate::machine::now_ms;
use crate::store::{io, names, read, remove, write};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vws_plugin_api::doc::{Failure, MachineState, MachineStatus, MigrateArgs, codes};
use vws_plugin_api::sdk::Call;

/// Folder of a host with what leaves it.
pub const MOVING: &str = "moving";
/// Folder of a host with what was prepared to come.
pub const INCOMING: &str = "incoming";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
const MIB: u64 = 1024 * 1024;

/// What leaves a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Moving {
    /// The target's folder.
    to: PathBuf,
    /// When it began, and when it is there.
    begun_ms: u64,
    ends_ms: u64,
    /// Bytes to move.
    bytes: u64,
}

/// What was prepared to come.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Incoming {
    /// The source's folder, once it has begun.
    from: Option<PathBuf>,
}

fn file(host: &Path, part: &str, workspace: &str) -> PathBuf {
    host.join(part).join(format!("{workspace}.json"))
}

/// A move that is over, and whose machine is being carried over.
fn claimed(host: &Path, workspace: &str) -> PathBuf {
    host.join(MOVING).join(format!("{workspace}.over"))
}

/// Renames; whether the file was there.
fn rename(from: &Path, to: &Path) -> Result<bool, Failure> {
    match std::fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io(from, &error)),
    }
}

/// Whether the host's cable is cut.
pub fn is_down(host: &Path) -> bool {
    host.join("down").exists()
}

/// Brings a move off this host to where it is by now: over when its time has come, broken off when a cable is cut.
pub fn settle(host: &Path, workspace: &str) -> Result<(), Failure> {
    let record = file(host, MOVING, workspace);
    let over = claimed(host, workspace);
    if let Some(moving) = read::<Moving>(&record)? {
        if is_down(host) || is_down(&moving.to) {
            return remove(&record);
        }
        if now_ms() >= moving.ends_ms {
            rename(&record, &over)?;
        }
    }
    if let Some(moving) = read::<Moving>(&over)? {
        rename(&file(host, "machines", workspace), &file(&moving.to, "machines", workspace))?;
        remove(&file(&moving.to, INCOMING, workspace))?;
        remove(&over)?;
    }
    Ok(())
}

/// Breaks a move off this host off, if it is not over.
pub fn break_off(host: &Path, workspace: &str) -> Result<(), Failure> {
    settle(host, workspace)?;
    remove(&file(host, MOVING, workspace))
}

/// A host makes ready.
pub fn prepare(host: &Path, workspace: &str) -> Result<(), Failure> {
    write(&file(host, INCOMING, workspace), &Incoming { from: None })
}

/// What was prepared is dropped.
pub fn forget(host: &Path, workspace: &str) -> Result<(), Failure> {
    remove(&file(host, INCOMING, workspace))
}

/// What a host that made ready says of the machine: paused while it is on its way, else stopped. `None`: it did not, or it has arrived.
pub fn comes(host: &Path, workspace: &str) -> Result<Option<MachineStatus>, Failure> {
    let Some(incoming) = read::<Incoming>(&file(host, INCOMING, workspace))? else { return Ok(None) };
    let mut on_its_way = false;
    if let Some(from) = incoming.from {
        settle(&from, workspace)?;
        if file(host, "machines", workspace).exists() {
            return Ok(None);
        }
        on_its_way = file(&from, MOVING, workspace).exists();
    }
    let (state, reason) = if on_its_way { (MachineState::Paused, "incoming") } else { (MachineState::Stopped, "prepared") };
    Ok(Some(MachineStatus {
        workspace: workspace.to_owned(),
        state,
        reason: reason.to_owned(),
        cpu: String::new(),
        plugin_state: Value::Null,
    }))
}

/// Everything that comes to a host.
pub fn coming(host: &Path) -> Result<Vec<MachineStatus>, Failure> {
    let mut all = Vec::new();
    for workspace in names(&host.join(INCOMING))? {
        all.extend(comes(host, &workspace)?);
    }
    Ok(all)
}

/// Moves a machine, or waits for a move of it that is at work. Answers when the target has it.
pub fn run(from: &Path, to: &Path, args: &MigrateArgs, mib_per_second: u64, call: &Call) -> Result<(), Failure> {
    let workspace = args.machine.workspace.as_str();
    let about = || format!("workspace `{workspace}`");
    let record = file(from, MOVING, workspace);
    settle(from, workspace)?;
    if !record.exists() {
        if !file(from, "machines", workspace).exists() {
            // It may have moved already, or never have been here.
            return if file(to, "machines", workspace).exists() {
                Ok(())
            } else {
                Err(Failure::new(codes::NOT_FOUND, "it is not on this host").about(about()))
            };
        }
        call.check()?;
        if is_down(to) {
            return Err(Failure::new(codes::HYPERVISOR, "the other host does not answer").about(about()));
        }
        if !file(to, INCOMING, workspace).exists() {
            return Err(Failure::new(codes::STATE, "the other host has not made ready for it").about(about()));
        }
        write(&file(to, INCOMING, workspace), &Incoming { from: Some(from.to_path_buf()) })?;
        write(&record, &planned(to, args, mib_per_second))?;
    }
    loop {
        settle(from, workspace)?;
        let Some(moving) = read::<Moving>(&record)? else {
            return if file(from, "machines", workspace).exists() {
                Err(Failure::new(codes::HYPERVISOR, "the move was broken off: it runs on where it was")
                    .about(about())
                    .remedy("see whether the other host answers, then try again"))
            } else {
                Ok(())
            };
        };
        let span = moving.ends_ms.saturating_sub(moving.begun_ms).max(1);
        let gone = now_ms().saturating_sub(moving.begun_ms).min(span);
        call.progress("migrate", moving.bytes / span * gone, moving.bytes);
        if call.is_cancelled() && rename(&record, &record.with_extension("cancelled"))? {
            remove(&record.with_extension("cancelled"))?;
            call.check()?;
        }
        if call.remaining().is_zero() {
            // It goes on without this call.
            call.check()?;
        }
        std::thread::sleep(LOOK);
    }
}

/// A move that begins now.
fn planned(to: &Path, args: &MigrateArgs, mib_per_second: u64) -> Moving {
    let disks: u64 = if args.offer.shared { 0 } else { args.machine.disks.iter().map(|disk| disk.size_mib).sum() };
    let mib = args.machine.memory_mib.saturating_add(disks);
    let speed = [mib_per_second, args.mib_per_second].into_iter().filter(|speed| *speed > 0).min();
    let begun_ms = now_ms();
    let takes_ms = speed.map_or(0, |speed| mib.saturating_mul(1000) / speed);
    Moving { to: to.to_path_buf(), begun_ms, ends_ms: begun_ms.saturating_add(takes_ms), bytes: mib.saturating_mul(MIB) }
}
