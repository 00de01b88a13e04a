//! Serialize: memory into a file on the host, everything into a bundle of the library, then the host is left.
//!
//! Until the bundle is complete and recorded, each step is taken back; from then on there is only forward.

use super::args::SerializeArgs;
use super::document;
use super::engine::{Effect, Run, Step, StepError, Undo, nothing};
use super::hosts::observed;
use super::image::blocking;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vws_domain::{Bundle, BundleId, Change, Error, PREEMPTER, StateEvent};
use vws_plugin_api::doc;

/// The table.
pub static STEPS: &[Step] = &[
    Step { name: "save", run: |run| Box::pin(save(run)), undo: Undo::By(|run| Box::pin(unsave(run))) },
    Step { name: "export", run: |run| Box::pin(export(run)), undo: Undo::By(|run| Box::pin(discard(run))) },
    Step {
        name: "leave",
        run: |run| Box::pin(leave(run)),
        undo: Undo::Never("the bundle is complete: it is the workspace now, and what is on the host is a copy"),
    },
];

async fn save(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    // A request of a workspace with snapshots was refused: this is its lease's end, and they cannot go into a bundle.
    for snapshot in &run.workspace()?.snapshots {
        super::snapshot::remove(run, &snapshot.name).await?;
    }
    let ask = document::reference(&host, run.workspace()?);
    let (status, _): (doc::MachineStatus, _) =
        run.call(&host, doc::methods::SAVE, &ask, run.operate.limits.long_deadline, Vec::new()).await?;
    let state = document::kept_state(&status.plugin_state)?;
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| {
            workspace.plugin_state = state;
            workspace.snapshots.clear();
        });
        Ok(())
    }))
}

/// The machine goes on from the file on its host, as it was.
async fn unsave(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    let workspace = run.workspace()?;
    let args: SerializeArgs = run.args()?;
    let ask = document::reference(&host, workspace);
    let (status, _): (doc::MachineStatus, _) =
        run.call(&host, doc::methods::INSPECT, &ask, run.operate.limits.call_deadline, Vec::new()).await?;
    match status.state {
        doc::MachineState::Saved => {}
        // It was not saved yet: nothing to take back.
        doc::MachineState::Running | doc::MachineState::Paused => return Ok(nothing()),
        // It ran when it was to be saved and has no memory now: that is no success, and must not look like a plain stop.
        doc::MachineState::Stopped | doc::MachineState::Absent => {
            return Err(Error::new(
                vws_domain::ErrorKind::BackendFailure,
                workspace.object(),
                format!("its machine is {:?} after a save that failed: the guest's memory may be lost", status.state)
                    .to_lowercase(),
                "look for its memory in the host's folder before it is destroyed; its disks are whole",
            )
            .into());
        }
    }
    let restore = super::create::machine_args(run, workspace, &host, args.paused)?;
    let (status, _): (doc::MachineStatus, _) =
        run.call(&host, doc::methods::RESTORE, &restore, run.operate.limits.long_deadline, Vec::new()).await?;
    let state = document::kept_state(&status.plugin_state)?;
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| {
            workspace.plugin_state = state;
            workspace.cpu = status.cpu;
        });
        match observed(status.state) {
            Some(event) => edit.state(event, "serialize-undone", "goes on where it was"),
            None => Ok(()),
        }
    }))
}

async fn export(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    let workspace = Arc::clone(run.workspace()?);
    let args: SerializeArgs = run.args()?;
    let bundle = BundleId::parse(&args.bundle)?;
    let machine = run.operate.core.read(|site| document::machine(site, &workspace))?;
    let mut streams = vec!["memory".to_owned()];
    streams.extend(machine.disks.iter().map(|disk| disk.name.clone()));
    if matches!(&machine.boot, doc::BootDoc::Disk { firmware } if firmware == "uefi") {
        streams.push("nvram".to_owned());
    }

    let library = Arc::clone(&run.operate.library);
    let names = streams.clone();
    let (writer, files) = blocking(move || {
        // A repeat after a crash begins anew.
        library.bundle_discard(bundle)?;
        library.bundle_remove(bundle)?;
        let writer = library.bundle_begin(bundle)?;
        let files = names.iter().map(|name| writer.stream(name)).collect::<vws_domain::Result<Vec<_>>>()?;
        Ok((writer, files))
    })
    .await?;
    let ask = doc::WorkspaceExport {
        host: host.to_string(),
        workspace: workspace.id.to_string(),
        streams,
        plugin_state: document::plugin_state(&workspace),
    };
    let fds = files.into_iter().map(OwnedFd::from).collect();
    let (mut exported, _): (doc::Exported, _) =
        run.call(&host, doc::methods::EXPORT, &ask, run.operate.limits.long_deadline, fds).await?;
    exported.paused = args.paused;

    let backend = run
        .operate
        .core
        .read(|site| site.host(&host).map(|host| host.backend.clone()))
        .ok_or_else(|| Error::not_found(format!("host `{host}`")))?;
    let manifest = document::manifest(bundle, &workspace, backend.clone(), &machine, &exported, run.operate.env.now())?;
    let manifest = vws_bundle::to_json(&manifest)?;
    let text = manifest.to_string();
    let files = blocking(move || writer.finish(manifest)).await?;
    Ok(Box::new(move |edit| {
        edit.tx.put(Change::PutBundle(Arc::new(Bundle {
            id: bundle,
            workspace: workspace.id,
            backend,
            manifest: text,
            files,
            created_at: edit.tx.now,
            consumed_at: None,
        })));
        Ok(())
    }))
}

async fn discard(run: &Run) -> Result<Effect, StepError> {
    let args: SerializeArgs = run.args()?;
    let bundle = BundleId::parse(&args.bundle)?;
    let library = Arc::clone(&run.operate.library);
    blocking(move || {
        library.bundle_discard(bundle)?;
        library.bundle_remove(bundle)
    })
    .await?;
    Ok(Box::new(move |edit| {
        if edit.tx.site.bundle(bundle).is_some() {
            edit.tx.put(Change::RemoveBundle(bundle));
        }
        Ok(())
    }))
}

async fn leave(run: &Run) -> Result<Effect, StepError> {
    let workspace = run.workspace()?;
    let args: SerializeArgs = run.args()?;
    let bundle = BundleId::parse(&args.bundle)?;
    if let Some(host) = &workspace.host {
        super::destroy::remove_machine(run, host, workspace).await?;
    }
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| {
            workspace.host = None;
            workspace.bundle = Some(bundle);
            workspace.cpu.clear();
            workspace.plugin_state.clear();
        });
        edit.job.message = format!("bundle {bundle}");
        // Its owner finds it in a bundle, and shall find why.
        let displaced =
            edit.workspace.as_ref().filter(|_| edit.job.actor == PREEMPTER).map(|workspace| workspace.cause.text.clone());
        match displaced {
            Some(text) => edit.state(StateEvent::Serialized, "displaced", &text),
            None => edit.state(StateEvent::Serialized, "requested", "in a bundle"),
        }
    }))
}
