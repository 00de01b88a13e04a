//! `vws resume`: lets a paused guest go on, or brings a serialized workspace back, here or on another host.

use crate::Result;
use crate::action::on_workspaces;
use crate::context::Context;
use crate::follow::Wait;
use vws_bus::keys;
use zbus::Variant;

/// Arguments of `vws resume`.
#[derive(Debug, clap::Args)]
pub(crate) struct Resume {
    /// Names or ids of workspaces
    #[arg(required = true, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
    /// Host to bring a serialized workspace back on [default: the placement's choice]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Resume) -> Result<()> {
    let mut options = verb.wait.options();
    if let Some(host) = &verb.host {
        options.insert(keys::HOST, Variant::from(host.clone()));
    }
    on_workspaces(context, &verb.workspaces, "resume", &verb.wait, &options, async |workspace, options| {
        workspace.resume(options).await
    })
    .await
}
