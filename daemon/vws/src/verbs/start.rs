//! `vws start`: starts stopped workspaces.

use crate::Result;
use crate::action::on_workspaces;
use crate::context::Context;
use crate::follow::Wait;

/// Arguments of `vws start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// Names or ids of workspaces
    #[arg(required = true, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Start) -> Result<()> {
    let options = verb.wait.options();
    on_workspaces(context, &verb.workspaces, "start", &verb.wait, &options, async |workspace, options| {
        workspace.start(options).await
    })
    .await
}
