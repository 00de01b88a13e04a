//! `vws serialize`: writes workspaces into bundles.

use crate::Result;
use crate::action::on_workspaces;
use crate::context::Context;
use crate::follow::Wait;

/// Arguments of `vws serialize`.
#[derive(Debug, clap::Args)]
pub(crate) struct Serialize {
    /// Names or ids of workspaces
    #[arg(required = true, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Serialize) -> Result<()> {
    let options = verb.wait.options();
    on_workspaces(context, &verb.workspaces, "serialize", &verb.wait, &options, async |workspace, options| {
        workspace.serialize(options).await
    })
    .await
}
