//! Resize: each part of what was asked for is a step of its own, so that what was done can be taken back on its own. While it goes on,
//! the larger of both sizes is booked; at the end what the machine really has.

use super::args::{ResizeArgs, SizesArgs};
use super::document;
use super::engine::{Effect, Run, Step, StepError, Undo};
use vws_domain::{Error, Part, Resources, Site, Sizes, State, Workspace};
use vws_plugin_api::doc;

/// The table.
pub static STEPS: &[Step] = &[
    Step {
        name: "limits",
        run: |run| Box::pin(apply(run, Part::Limits)),
        undo: Undo::By(|run| Box::pin(take_back(run, Part::Limits))),
    },
    Step {
        name: "memory",
        run: |run| Box::pin(apply(run, Part::Memory)),
        undo: Undo::By(|run| Box::pin(take_back(run, Part::Memory))),
    },
    Step {
        name: "vcpus",
        run: |run| Box::pin(apply(run, Part::Vcpus)),
        undo: Undo::By(|run| Box::pin(take_back(run, Part::Vcpus))),
    },
    Step {
        name: "disks",
        run: |run| Box::pin(apply(run, Part::Disks)),
        undo: Undo::By(|run| Box::pin(take_back(run, Part::Disks))),
    },
];

/// What the workspace takes, by its description.
#[must_use]
pub fn resources_of(site: &Site, workspace: &Workspace) -> Resources {
    let root = workspace.images.first().copied().flatten().and_then(|id| site.image(id));
    workspace.spec.resources(root.map_or(0, |image| image.virtual_size_mib))
}

/// Asks the backend to bring the machine to the sizes of one part.
async fn bring(run: &Run, part: Part, to: &Sizes) -> Result<(Workspace, doc::Resized), StepError> {
    let host = run.host()?;
    let mut workspace = run.workspace()?.as_ref().clone();
    to.put(part, &mut workspace.spec);
    let machine = run.operate.core.read(|site| document::machine(site, &workspace))?;
    let ask = doc::MachineResize { host: host.to_string(), machine, plugin_state: document::plugin_state(&workspace) };
    let (resized, _): (doc::Resized, _) =
        run.call(&host, doc::methods::RESIZE, &ask, run.operate.limits.call_deadline, Vec::new()).await?;
    Ok((workspace, resized))
}

async fn apply(run: &Run, part: Part) -> Result<Effect, StepError> {
    let args: ResizeArgs = run.args()?;
    let (old, new) = (Sizes::from(args.old), Sizes::from(args.new));
    let last = part == Part::Disks;
    let settle = move |edit: &mut super::engine::Edit<'_, '_>| {
        if last && let Some(workspace) = &mut edit.workspace {
            workspace.resources = resources_of(edit.tx.site, workspace);
        }
    };
    let (mut probe, mut same) = (run.workspace()?.spec.clone(), run.workspace()?.spec.clone());
    old.put(part, &mut same);
    new.put(part, &mut probe);
    if probe == same {
        return Ok(Box::new(move |edit| {
            settle(edit);
            Ok(())
        }));
    }
    let (sized, resized) = bring(run, part, &new).await?;
    let runs = run.workspace()?.state == State::Running;
    if runs && !resized.after_restart.is_empty() {
        return Err(Error::new(
            vws_domain::ErrorKind::InvalidState,
            sized.object(),
            format!("runs, and its host takes {} at the next start only", resized.after_restart.join(", ")),
            "stop it, resize it, start it again",
        )
        .with_code("needs-restart")
        .into());
    }
    let state = document::kept_state(&resized.status.plugin_state)?;
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| {
            new.put(part, &mut workspace.spec);
            workspace.plugin_state = state;
        });
        settle(edit);
        Ok(())
    }))
}

/// Takes one part back. What cannot be taken back (a larger disk, a plugged vCPU) stays, is booked and said.
async fn take_back(run: &Run, part: Part) -> Result<Effect, StepError> {
    let args: ResizeArgs = run.args()?;
    let (old, new) = (Sizes::from(args.old), Sizes::from(args.new));
    let (mut before, mut after) = (run.workspace()?.spec.clone(), run.workspace()?.spec.clone());
    old.put(part, &mut before);
    new.put(part, &mut after);
    let stays = if before == after {
        None
    } else if part == Part::Disks {
        Some("disks are not made smaller".to_owned())
    } else {
        match bring(run, part, &old).await {
            Ok(_) => None,
            // The engine waits for it, and asks again.
            Err(error) if run.operate.away(run, &error.error).await.is_some() => return Err(error),
            Err(error) => Some(error.error.to_string()),
        }
    };
    let first = part == Part::Limits;
    Ok(Box::new(move |edit| {
        match stays {
            None => edit.workspace(|workspace| old.put(part, &mut workspace.spec)),
            Some(why) => {
                edit.workspace(|workspace| new.put(part, &mut workspace.spec));
                let name = format!("{part:?}").to_lowercase();
                edit.job.message = format!("{name} could not be taken back and may be as asked for: {why}");
            }
        }
        if first && let Some(workspace) = &mut edit.workspace {
            workspace.resources = resources_of(edit.tx.site, workspace);
        }
        Ok(())
    }))
}

impl From<&Sizes> for SizesArgs {
    fn from(sizes: &Sizes) -> Self {
        Self {
            vcpus: sizes.vcpus,
            vcpus_max: sizes.vcpus_max,
            memory_mib: sizes.memory_mib,
            memory_max_mib: sizes.memory_max_mib,
            cpu_shares: sizes.cpu_shares,
            disk_gib: sizes.disk_gib,
            disk_limits: [sizes.disk_limits.iops, sizes.disk_limits.kib_per_second],
            data_disks: sizes.data_disks.iter().map(|(size, limits)| [*size, limits.iops, limits.kib_per_second]).collect(),
            nics: sizes.nics.iter().map(|nic| [nic.inbound_kib_per_second, nic.outbound_kib_per_second]).collect(),
        }
    }
}

impl From<SizesArgs> for Sizes {
    fn from(args: SizesArgs) -> Self {
        let limits = |iops, kib_per_second| vws_domain::DiskLimits { iops, kib_per_second };
        Self {
            vcpus: args.vcpus,
            vcpus_max: args.vcpus_max,
            memory_mib: args.memory_mib,
            memory_max_mib: args.memory_max_mib,
            cpu_shares: args.cpu_shares,
            disk_gib: args.disk_gib,
            disk_limits: limits(args.disk_limits[0], args.disk_limits[1]),
            data_disks: args.data_disks.into_iter().map(|[size, iops, kib]| (size, limits(iops, kib))).collect(),
            nics: args
                .nics
                .into_iter()
                .map(|[inbound, outbound]| vws_domain::NicLimits {
                    inbound_kib_per_second: inbound,
                    outbound_kib_per_second: outbound,
                })
                .collect(),
        }
    }
}
