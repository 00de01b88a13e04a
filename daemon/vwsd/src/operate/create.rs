//! Create: import what was named by path or URL, wait for room if some have to leave first, bring images to the host, stage disks and seed, start.

use super::args::CreateArgs;
use super::document;
use super::engine::{Effect, Run, Step, StepError, Undo, nothing};
use super::hosts::observed;
use super::image_cache::put_images;
use vws_domain::{HostName, StateEvent, Target, Workspace};
use vws_plugin_api::doc;

/// The table.
pub static STEPS: &[Step] = &[
    Step { name: "import", run: |run| Box::pin(import(run)), undo: Undo::By(|run| Box::pin(drop_imports(run))) },
    Step { name: "room", run: |run| Box::pin(room(run)), undo: Undo::Nothing(super::room::NO_UNDO) },
    Step { name: "images", run: |run| Box::pin(images(run)), undo: Undo::Nothing("images on a host are a cache") },
    Step { name: "stage", run: |run| Box::pin(stage(run)), undo: Undo::By(|run| Box::pin(unstage(run))) },
    Step {
        name: "start",
        run: |run| Box::pin(start(run)),
        undo: Undo::Nothing("the undo of `stage` removes the machine whatever it does"),
    },
];

/// Images that the request named by path or URL come into the library first.
async fn import(run: &Run) -> Result<Effect, StepError> {
    let args: CreateArgs = run.args()?;
    let mut imported = Vec::new();
    for import in &args.imports {
        imported.push(super::image::fetch(run, import).await?);
    }
    Ok(Box::new(move |edit| {
        for image in imported {
            edit.tx.put(vws_domain::Change::PutImage(std::sync::Arc::new(image)));
        }
        Ok(())
    }))
}

/// The last undo: the workspace is gone, and so are catalogue entries that were made for it alone and never became ready.
async fn drop_imports(run: &Run) -> Result<Effect, StepError> {
    let args: CreateArgs = run.args()?;
    Ok(Box::new(move |edit| {
        for import in &args.imports {
            let id = vws_domain::ImageId::parse(&import.image)?;
            if edit.tx.site.image(id).is_some_and(|image| image.state == vws_domain::ImageState::Importing) {
                edit.tx.put(vws_domain::Change::RemoveImage(id));
            }
        }
        if edit.in_doubt() {
            return Ok(());
        }
        let why = edit.job.error.as_ref().map(ToString::to_string).unwrap_or_default();
        edit.state(StateEvent::DestroyBegan, "create-failed", &why)?;
        edit.state(StateEvent::Destroyed, "create-failed", &why)
    }))
}

async fn room(run: &Run) -> Result<Effect, StepError> {
    let args: CreateArgs = run.args()?;
    super::room::made(run, &run.host()?, &args.room).await
}

async fn images(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    put_images(run, &host, run.workspace()?).await?;
    Ok(Box::new(|edit| {
        edit.workspace(|workspace| workspace.deployments = workspace.deployments.max(1));
        edit.state(StateEvent::StageBegan, "requested", "its disks are being made")
    }))
}

async fn stage(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    let workspace = run.workspace()?;
    let args = machine_args(run, workspace, &host, false)?;
    let (status, _): (doc::MachineStatus, _) =
        run.call(&host, doc::methods::STAGE, &args, run.operate.limits.long_deadline, Vec::new()).await?;
    let state = document::kept_state(&status.plugin_state)?;
    let starts = workspace.spec.target != Target::Stopped;
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| workspace.plugin_state = state);
        edit.state(StateEvent::Staged, "requested", "staged")?;
        if starts {
            edit.state(StateEvent::StartBegan, "requested", "starting")?;
        }
        Ok(())
    }))
}

/// The machine's document with its host, as `stage`, `start` and `restore` want it.
pub fn machine_args(run: &Run, workspace: &Workspace, host: &HostName, paused: bool) -> Result<doc::MachineArgs, StepError> {
    let machine = run.operate.core.read(|site| document::machine(site, workspace))?;
    Ok(doc::MachineArgs { host: host.to_string(), machine, paused, plugin_state: document::plugin_state(workspace) })
}

async fn unstage(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    super::destroy::remove_machine(run, &host, run.workspace()?).await?;
    Ok(nothing())
}

async fn start(run: &Run) -> Result<Effect, StepError> {
    let workspace = run.workspace()?;
    if workspace.spec.target == Target::Stopped {
        return Ok(nothing());
    }
    start_machine(run, workspace.spec.target == Target::Paused).await
}

/// Starts the machine; its state becomes what the backend saw.
pub async fn start_machine(run: &Run, paused: bool) -> Result<Effect, StepError> {
    let host = run.host()?;
    let workspace = run.workspace()?;
    let args = machine_args(run, workspace, &host, paused)?;
    let (status, _): (doc::MachineStatus, _) =
        run.call(&host, doc::methods::START, &args, run.operate.limits.call_deadline, Vec::new()).await?;
    let state = document::kept_state(&status.plugin_state)?;
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| {
            workspace.plugin_state = state;
            workspace.cpu = status.cpu;
        });
        match observed(status.state) {
            Some(event) => edit.state(event, "requested", "started"),
            None => Ok(()),
        }
    }))
}
