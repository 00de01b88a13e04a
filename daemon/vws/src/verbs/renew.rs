//! `vws renew`: a new end of the lease, and what the policies made of the wish.

use crate::context::Context;
use crate::units::{lease_seconds, left, local, now};
use crate::{Result, find, screen};
use serde_json::json;
use vws_bus::client::Args;

/// A grant this much (in seconds) below the wish is said; less is the time that the call took.
const NOTICEABLE_SECONDS: u64 = 5;

/// Arguments of `vws renew`.
#[derive(Debug, clap::Args)]
pub(crate) struct Renew {
    /// Name or id of the workspace
    workspace: String,
    /// How long from now, for instance 2h; none: without end
    #[arg(long, alias = "for", value_parser = lease_seconds, value_name = "TIME")]
    lease: u64,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Renew) -> Result<()> {
    let found = find::workspace(context, &verb.workspace).await?;
    let until = context.client.workspace(&found.path).await?.renew(verb.lease, &Args::new()).await?;
    let now = now();
    let wished = now.saturating_add(verb.lease.saturating_mul(1_000_000));
    let shortened = until != 0 && (verb.lease == 0 || until.saturating_add(NOTICEABLE_SECONDS * 1_000_000) < wished);
    if shortened {
        context.say(&format!(
            "the policies gave less than was asked for: `vws why {}` says which rule",
            screen::shown(found.record.text("name"))
        ));
    }
    context.emit(&json!({ "id": found.record.text("id"), "lease_until": until, "shortened": shortened }), || match until {
        0 => "no end".to_owned(),
        until => format!("until {} ({} left)", local(until), left(until, now)),
    })
}
