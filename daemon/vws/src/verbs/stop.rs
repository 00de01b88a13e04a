//! `vws stop`: asks guests to shut down, and forces them off after a time; the job says which it was.

use crate::Result;
use crate::action::on_workspaces;
use crate::context::Context;
use crate::follow::Wait;
use crate::units::duration;
use std::time::Duration;
use vws_bus::keys;
use zbus::Variant;

/// Arguments of `vws stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    /// Names or ids of workspaces
    #[arg(required = true, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
    /// How long a guest has to shut down by itself [default: 1m]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    guest_timeout: Option<Duration>,
    /// Force off at once, as if the power failed
    #[arg(long, conflicts_with = "guest_timeout")]
    force: bool,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Stop) -> Result<()> {
    let mut options = verb.wait.options();
    let guest_timeout = if verb.force { Some(Duration::ZERO) } else { verb.guest_timeout };
    if let Some(time) = guest_timeout {
        options.insert(keys::GUEST_TIMEOUT_MS, Variant::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
    }
    on_workspaces(context, &verb.workspaces, "stop", &verb.wait, &options, async |workspace, options| {
        workspace.stop(options).await
    })
    .await
}
