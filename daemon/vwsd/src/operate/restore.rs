//! Restore: a bundle back onto a host, here or another. A bundle has one life: it is used up in the same transaction in which its
//! workspace is seen to go on, and until then it stays whole.

use super::args::RestoreArgs;
use super::document;
use super::engine::{Effect, Run, Step, StepError, Undo, nothing};
use super::hosts::observed;
use super::image::blocking;
use std::fs::File;
use std::io::Seek;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vws_domain::{BundleFile, BundleId, Error, ErrorKind, Manifest, StateEvent};
use vws_plugin_api::doc;

/// The table.
pub static STEPS: &[Step] = &[
    Step { name: "verify", run: |run| Box::pin(verify(run)), undo: Undo::By(|run| Box::pin(back_to_bundle(run))) },
    Step { name: "room", run: |run| Box::pin(room(run)), undo: Undo::Nothing(super::room::NO_UNDO) },
    Step { name: "images", run: |run| Box::pin(images(run)), undo: Undo::Nothing("images on a host are a cache") },
    Step { name: "import", run: |run| Box::pin(import(run)), undo: Undo::By(|run| Box::pin(remove(run))) },
    Step { name: "restore", run: |run| Box::pin(restore(run)), undo: Undo::Nothing("the undo of `import` removes the machine") },
    Step { name: "discard", run: |run| Box::pin(discard(run)), undo: Undo::Never("the guest goes on: its bundle is used up") },
];

/// Every byte of the bundle against its digest, before anything touches a host. The files stay open for the step that sends them.
async fn verify(run: &Run) -> Result<Effect, StepError> {
    let files = verified(run).await?;
    run.operate.hand_over(run.job.id, files);
    Ok(nothing())
}

/// The bundle's files, verified and at their start, in the order of its record.
async fn verified(run: &Run) -> Result<Vec<File>, StepError> {
    let (id, _) = bundle_of(run)?;
    let files = files_of(run, id)?;
    let library = Arc::clone(&run.operate.library);
    let flag = run.cancel_flag();
    let reports = run.operate.progress.clone();
    let job = run.job.id;
    let (_, streams) = blocking(move || {
        library.bundle_open(id, &files, &mut |done, total| {
            let _ = reports.send(super::engine::Report { job, done, total });
            if *flag.borrow() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    })
    .await?;
    Ok(streams.into_iter().map(|(_, file)| file).collect())
}

fn files_of(run: &Run, id: BundleId) -> Result<Vec<BundleFile>, StepError> {
    Ok(run.operate.core.read(|site| site.bundle(id).map(|bundle| bundle.files.clone())).ok_or_else(|| used_up(id))?)
}

async fn room(run: &Run) -> Result<Effect, StepError> {
    let args: RestoreArgs = run.args()?;
    super::room::made(run, &run.host()?, &args.room).await
}

async fn images(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    super::image_cache::put_images(run, &host, run.workspace()?).await?;
    Ok(nothing())
}

/// The last undo: the workspace is its bundle again.
async fn back_to_bundle(run: &Run) -> Result<Effect, StepError> {
    let why = run.job.error.as_ref().map(ToString::to_string).unwrap_or_default();
    Ok(Box::new(move |edit| {
        if edit.in_doubt() {
            return Ok(());
        }
        edit.workspace(|workspace| {
            workspace.host = None;
            workspace.plugin_state.clear();
        });
        edit.state(StateEvent::RestoreUndone, "restore-failed", &format!("restore failed: {why}; the bundle is whole"))
    }))
}

async fn import(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    let workspace = run.workspace()?;
    let (id, manifest) = bundle_of(run)?;
    let names: Vec<String> = files_of(run, id)?.into_iter().map(|file| file.name).collect();
    // Verified by the step before; after a restart, again.
    let mut files = run.operate.handed_to(run.job.id)?;
    if files.is_empty() {
        files = verified(run).await?;
    }
    for file in &mut files {
        // A try before this one may have read from it.
        file.rewind().map_err(|error| Error::internal(format!("bundle {id}"), error.to_string()))?;
    }
    let machine = run.operate.core.read(|site| document::machine(site, workspace))?;
    let exported = document::exported(&manifest);
    let ask = doc::WorkspaceImport { host: host.to_string(), machine, streams: names, exported };
    let fds = files.into_iter().map(OwnedFd::from).collect();
    let (status, _): (doc::MachineStatus, _) =
        run.call(&host, doc::methods::IMPORT, &ask, run.operate.limits.long_deadline, fds).await?;
    let state = document::kept_state(&status.plugin_state)?;
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| workspace.plugin_state = state);
        Ok(())
    }))
}

async fn remove(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    super::destroy::remove_machine(run, &host, run.workspace()?).await?;
    Ok(nothing())
}

async fn restore(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    let workspace = run.workspace()?;
    let (id, manifest) = bundle_of(run)?;
    let args = super::create::machine_args(run, workspace, &host, manifest.paused)?;
    let (status, _): (doc::MachineStatus, _) =
        run.call(&host, doc::methods::RESTORE, &args, run.operate.limits.long_deadline, Vec::new()).await?;
    let state = document::kept_state(&status.plugin_state)?;
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| {
            workspace.plugin_state = state;
            workspace.cpu = status.cpu;
            workspace.bundle = None;
        });
        super::bundle::use_up(edit.tx, id);
        match observed(status.state) {
            Some(event) => edit.state(event, "requested", "resumed from its bundle"),
            None => Err(Error::internal("a restored machine", "the backend says that it is still saved")),
        }
    }))
}

async fn discard(run: &Run) -> Result<Effect, StepError> {
    let args: RestoreArgs = run.args()?;
    let id = BundleId::parse(&args.bundle)?;
    let library = Arc::clone(&run.operate.library);
    blocking(move || library.bundle_remove(id)).await?;
    Ok(nothing())
}

/// The bundle's id and its manifest.
fn bundle_of(run: &Run) -> Result<(BundleId, Manifest), StepError> {
    let args: RestoreArgs = run.args()?;
    let id = BundleId::parse(&args.bundle)?;
    let text = run.operate.core.read(|site| site.bundle(id).map(|bundle| bundle.manifest.clone())).ok_or_else(|| used_up(id))?;
    Ok((id, vws_bundle::parse(&text)?))
}

fn used_up(id: BundleId) -> Error {
    Error::new(
        ErrorKind::InvalidState,
        format!("bundle {id}"),
        "was resumed already; a bundle has one life",
        "look at its workspace",
    )
}
