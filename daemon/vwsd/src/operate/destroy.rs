//! Destroy: works from every state and is tried until the machine is seen to be gone. Only then is what it held given up.

use super::document;
use super::engine::{Effect, Run, Step, StepError, Undo};
use vws_domain::{BundleId, Error, ErrorKind, HostName, StateEvent, Workspace};
use vws_plugin_api::doc;

const ONE_WAY: &str = "an end that was asked for is not taken back; it is tried until the machine is seen to be gone";

/// The table.
pub static STEPS: &[Step] = &[
    Step { name: "begin", run: |run| Box::pin(begin(run)), undo: Undo::Never(ONE_WAY) },
    Step { name: "machine", run: |run| Box::pin(machine(run)), undo: Undo::Never(ONE_WAY) },
    Step { name: "release", run: |run| Box::pin(release(run)), undo: Undo::Never(ONE_WAY) },
];

/// The job that was at work before, if any, has ended by now: it was cancelled. If it was the workspace's creation, nothing is left.
async fn begin(_run: &Run) -> Result<Effect, StepError> {
    Ok(Box::new(|edit| {
        let who = edit.job.actor.clone();
        edit.state(StateEvent::DestroyBegan, "requested", &format!("{who} asked for it"))
    }))
}

async fn machine(run: &Run) -> Result<Effect, StepError> {
    if let Some((workspace, host)) = run.workspace.as_ref().and_then(|workspace| Some((workspace, workspace.host.as_ref()?))) {
        remove_machine(run, host, workspace).await?;
    }
    // What a move left on a second host goes with it, and its absence is seen there too.
    if let Some((workspace, host)) = run.workspace.as_ref().and_then(|workspace| Some((workspace, workspace.also_on.as_ref()?))) {
        let keep_disks = run.operate.core.read(|site| super::forget::keeps_disks(site, workspace));
        super::migrate::remove_left(run, host, &workspace.id.to_string(), keep_disks)
            .await
            .map_err(|error| StepError { error, may_pass: true })?;
    }
    Ok(super::engine::nothing())
}

/// Asks the host to remove the machine, its disks, seed and logs; answers when the backend has reported its absence.
pub async fn remove_machine(run: &Run, host: &HostName, workspace: &Workspace) -> Result<(), StepError> {
    let ask = document::reference(host, workspace);
    let (status, _): (doc::MachineStatus, _) =
        run.call(host, doc::methods::DESTROY, &ask, run.operate.limits.call_deadline, Vec::new()).await?;
    if status.state == doc::MachineState::Absent {
        return Ok(());
    }
    Err(StepError {
        error: Error::new(
            ErrorKind::BackendFailure,
            workspace.object(),
            format!("is still {:?} on host `{host}` after a destroy", status.state),
            "it is tried again",
        ),
        may_pass: true,
    })
}

/// Bundles that belong to the workspace, waiting or half made, go with it.
async fn release(run: &Run) -> Result<Effect, StepError> {
    let Some(id) = run.job.workspace else { return Ok(super::engine::nothing()) };
    let bundles: Vec<BundleId> =
        run.operate.core.read(|site| site.bundles().filter(|bundle| bundle.workspace == id).map(|bundle| bundle.id).collect());
    let library = std::sync::Arc::clone(&run.operate.library);
    let files = bundles.clone();
    super::image::blocking(move || {
        for bundle in &files {
            library.bundle_remove(*bundle)?;
        }
        Ok(())
    })
    .await?;
    Ok(Box::new(move |edit| {
        for bundle in bundles {
            super::bundle::use_up(edit.tx, bundle);
        }
        edit.workspace(|workspace| {
            workspace.bundle = None;
            workspace.also_on = None;
            workspace.job = None;
        });
        edit.state(StateEvent::Destroyed, "destroyed", "seen to be gone")
    }))
}
