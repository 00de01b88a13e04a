//! `vws destroy`: ends workspaces.

use crate::Result;
use crate::action::on_workspaces;
use crate::context::Context;
use crate::follow::Wait;

/// Arguments of `vws destroy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Destroy {
    /// Names or ids of workspaces
    #[arg(required = true, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Destroy) -> Result<()> {
    let options = verb.wait.options();
    on_workspaces(context, &verb.workspaces, "destroy", &verb.wait, &options, async |workspace, options| {
        workspace.destroy(options).await
    })
    .await
}
