//! Start, stop, reboot, pause, resume: one step each. What they leave behind when they fail is looked at, not guessed.

use super::args::StopArgs;
use super::document;
use super::engine::{Effect, Run, Step, StepError, Undo};
use super::hosts::observed;
use std::time::Duration;
use vws_domain::StateEvent;
use vws_plugin_api::doc;

const LOOKED_AT: &str = "the machine is looked at after a failure and its state is what is seen";

/// Start.
pub static START: &[Step] = &[
    Step { name: "images", run: |run| Box::pin(images(run)), undo: Undo::Nothing("images on a host are a cache") },
    Step { name: "start", run: |run| Box::pin(super::create::start_machine(run, false)), undo: Undo::Nothing(LOOKED_AT) },
];
/// Stop.
pub static STOP: &[Step] = &[Step { name: "stop", run: |run| Box::pin(stop(run)), undo: Undo::Nothing(LOOKED_AT) }];
/// Reboot.
pub static REBOOT: &[Step] =
    &[Step { name: "reboot", run: |run| Box::pin(simple(run, doc::methods::REBOOT)), undo: Undo::Nothing(LOOKED_AT) }];
/// Pause.
pub static PAUSE: &[Step] =
    &[Step { name: "pause", run: |run| Box::pin(simple(run, doc::methods::PAUSE)), undo: Undo::Nothing(LOOKED_AT) }];
/// Resume from pause.
pub static RESUME: &[Step] =
    &[Step { name: "resume", run: |run| Box::pin(simple(run, doc::methods::RESUME)), undo: Undo::Nothing(LOOKED_AT) }];

async fn images(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    super::image_cache::put_images(run, &host, run.workspace()?).await?;
    Ok(super::engine::nothing())
}

async fn simple(run: &Run, method: &'static str) -> Result<Effect, StepError> {
    let host = run.host()?;
    let ask = document::reference(&host, run.workspace()?);
    let (status, _): (doc::MachineStatus, _) =
        run.call(&host, method, &ask, run.operate.limits.call_deadline, Vec::new()).await?;
    seen(status, None)
}

async fn stop(run: &Run) -> Result<Effect, StepError> {
    let host = run.host()?;
    let args: StopArgs = run.args()?;
    let workspace = run.workspace()?;
    let ask = doc::WorkspaceStop {
        host: host.to_string(),
        workspace: workspace.id.to_string(),
        guest_timeout_ms: args.guest_timeout_ms,
        plugin_state: document::plugin_state(workspace),
    };
    let deadline = run.operate.limits.call_deadline + Duration::from_millis(args.guest_timeout_ms);
    let (status, _): (doc::MachineStatus, _) = run.call(&host, doc::methods::STOP, &ask, deadline, Vec::new()).await?;
    let how = match status.reason.as_str() {
        "forced" if args.guest_timeout_ms == 0 => "forced off".to_owned(),
        "forced" => format!("forced off: the guest did not end within {} s", args.guest_timeout_ms.div_ceil(1000)),
        "shutdown" => "the guest shut itself down".to_owned(),
        other => other.to_owned(),
    };
    seen(status, Some(how))
}

/// The workspace becomes what the backend saw.
fn seen(status: doc::MachineStatus, message: Option<String>) -> Result<Effect, StepError> {
    let state = document::kept_state(&status.plugin_state)?;
    Ok(Box::new(move |edit| {
        edit.workspace(|workspace| workspace.plugin_state = state);
        let text = message.clone().unwrap_or_else(|| "as requested".to_owned());
        if let Some(message) = message {
            edit.job.message = message;
        }
        match observed(status.state) {
            Some(StateEvent::SeenAbsent) | None => Ok(()),
            Some(event) => edit.state(event, "requested", &text),
        }
    }))
}
