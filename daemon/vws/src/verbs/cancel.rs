//! `vws cancel`: asks a job to stop.

use crate::context::Context;
use crate::{Result, find};
use vws_bus::client::Args;

/// Arguments of `vws cancel`.
#[derive(Debug, clap::Args)]
pub(crate) struct Cancel {
    /// Id of the job, or its beginning
    job: String,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Cancel) -> Result<()> {
    let found = find::job(context, &verb.job).await?;
    context.client.job(&found.path).await?.cancel(&Args::new()).await?;
    let id = found.record.text("id").to_owned();
    let record = find::job(context, &found.path).await?.record;
    context.say(&format!("asked to stop; `vws job show {id} --follow` goes along to its end"));
    context.emit(&record.0, String::new)
}
