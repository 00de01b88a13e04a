//! `vws pause`: lets guests stand still.

use crate::Result;
use crate::action::on_workspaces;
use crate::context::Context;
use crate::follow::Wait;

/// Arguments of `vws pause`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pause {
    /// Names or ids of workspaces
    #[arg(required = true, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Pause) -> Result<()> {
    let options = verb.wait.options();
    on_workspaces(context, &verb.workspaces, "pause", &verb.wait, &options, async |workspace, options| {
        workspace.pause(options).await
    })
    .await
}
