//! `vws watch`: what happens from now on, to everything or to one workspace.

use crate::context::Context;
use crate::verbs::events::follow;
use crate::{Result, find};

/// Arguments of `vws watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    /// Only what is about this workspace
    workspace: Option<String>,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Watch) -> Result<()> {
    match &verb.workspace {
        Some(word) => {
            let found = find::workspace(context, word).await?;
            follow(context, None, Some(&found.path)).await
        }
        None => follow(context, None, None).await,
    }
}
