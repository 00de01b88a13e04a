//! `vws migrate`: moves running workspaces to other hosts.

use crate::Result;
use crate::action::on_workspaces;
use crate::context::Context;
use crate::follow::Wait;
use vws_bus::keys;
use zbus::Variant;

/// Arguments of `vws migrate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The guest runs on while it moves. `vws explain migrate NAME` shows which hosts can take it, and why not.\n\
                  `vws cancel JOB` stops a move: the guest then runs on where it was."
)]
pub(crate) struct Migrate {
    /// Names or ids of workspaces
    #[arg(required = true, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
    /// Host to move to [default: the placement's choice]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// MiB per second at most [default: no limit]
    #[arg(long, value_name = "MIB/S")]
    limit: Option<u64>,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Migrate) -> Result<()> {
    let mut options = verb.wait.options();
    if let Some(host) = &verb.host {
        options.insert(keys::HOST, Variant::from(host.clone()));
    }
    if let Some(limit) = verb.limit {
        options.insert(keys::MIB_PER_SECOND, Variant::from(limit));
    }
    on_workspaces(context, &verb.workspaces, "migrate", &verb.wait, &options, async |workspace, options| {
        workspace.migrate(options).await
    })
    .await
}
