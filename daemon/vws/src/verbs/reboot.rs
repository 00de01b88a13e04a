//! `vws reboot`: reboots guests.

use crate::Result;
use crate::action::on_workspaces;
use crate::context::Context;
use crate::follow::Wait;

/// Arguments of `vws reboot`.
#[derive(Debug, clap::Args)]
pub(crate) struct Reboot {
    /// Names or ids of workspaces
    #[arg(required = true, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Reboot) -> Result<()> {
    let options = verb.wait.options();
    on_workspaces(context, &verb.workspaces, "reboot", &verb.wait, &options, async |workspace, options| {
        workspace.reboot(options).await
    })
    .await
}
