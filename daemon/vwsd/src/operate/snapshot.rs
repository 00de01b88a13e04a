//! Snapshots: keep, go back, drop. The record and the backend's own list go together: a name that is recorded is on the host.

use super::args::SnapshotArgs;
use super::document;
use super::engine::{Effect, Run, Step, StepError, Undo};
use super::hosts::observed;
use vws_domain::{Snapshot, State, Target};
use vws_plugin_api::doc;

/// Keep the present state.
pub static SNAPSHOT: &[Step] =
    &[Step { name: "snapshot", run: |run| Box::pin(snapshot(run)), undo: Undo::By(|run| Box::pin(drop_snapshot(run))) }];

/// Go back.
pub static REVERT: &[Step] = &[Step {
    name: "revert",
    run: |run| Box::pin(revert(run)),
    undo: Undo::Nothing("the backend goes back as a whole or not at all; its state is looked at"),
}];

/// Drop.
pub static REMOVE: &[Step] = &[Step {
    name: "remove",
    run: |run| Box::pin(drop_snapshot(run)),
    undo: Undo::Nothing("what was dropped cannot be brought back; a name that is still there stays in the list"),
}];

fn ask(run: &Run, name: &str, memory: bool) -> Result<doc::SnapshotArgs, StepError> {
    let workspace = run.workspace()?;
    let machine = run.operate.core.read(|site| document::machine(site, workspace))?;
    Ok(doc::SnapshotArgs {
        host: run.host()?.to_string(),
        machine,
        name: name.to_owned(),
        memory,
        plugin_state: document::plugin_state(workspace),
    })
}

async fn call(run: &Run, method: &'static str, ask: &doc::SnapshotArgs) -> Result<doc::MachineStatus, StepError> {
    let (status, _) = run.call(&run.host()?, method, ask, run.operate.limits.long_deadline, Vec::new()).await?;
    Ok(status)
}

async fn snapshot(run: &Run) -> Result<Effect, StepError> {
    let args: SnapshotArgs = run.args()?;
    let status = call(run, doc::methods::SNAPSHOT, &ask(run, &args.name, args.memory)?).await?;
    let state = document::kept_state(&status.plugin_state)?;
    let created_at = run.job.created_at;
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| {
            workspace.plugin_state = state;
            workspace.snapshots.retain(|known| known.name != args.name);
            workspace.snapshots.push(Snapshot { name: args.name, memory: args.memory, created_at });
        });
        Ok(())
    }))
}

async fn drop_snapshot(run: &Run) -> Result<Effect, StepError> {
    let args: SnapshotArgs = run.args()?;
    remove(run, &args.name).await?;
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| workspace.snapshots.retain(|known| known.name != args.name));
        Ok(())
    }))
}

/// Drops one snapshot on the host.
pub async fn remove(run: &Run, name: &str) -> Result<(), StepError> {
    call(run, doc::methods::SNAPSHOT_REMOVE, &ask(run, name, false)?).await?;
    Ok(())
}

async fn revert(run: &Run) -> Result<Effect, StepError> {
    let args: SnapshotArgs = run.args()?;
    let status = call(run, doc::methods::REVERT, &ask(run, &args.name, args.memory)?).await?;
    let state = document::kept_state(&status.plugin_state)?;
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| {
            workspace.plugin_state = state;
            workspace.cpu = status.cpu;
        });
        edit.job.message = format!("back at snapshot {}", args.name);
        if let Some(event) = observed(status.state) {
            edit.state(event, "reverted", &format!("back at snapshot `{}`", args.name))?;
        }
        edit.workspace(|workspace| {
            workspace.target = match workspace.state {
                State::Running => Target::Running,
                State::Paused => Target::Paused,
                State::Stopped => Target::Stopped,
                _ => workspace.target,
            };
        });
        Ok(())
    }))
}
