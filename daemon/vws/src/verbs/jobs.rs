//! `vws jobs`: the jobs that the caller may see.

use crate::action::jobs_table;
use crate::context::Context;
use crate::find::Noun;
use crate::{Result, find, record};
use vws_bus::client::Args;
use vws_bus::keys;
use zbus::Variant;

/// Arguments of `vws jobs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Jobs {
    /// Ended ones too, as long as they are kept
    #[arg(short, long)]
    all: bool,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Jobs) -> Result<()> {
    let filter: Args<'_> = if verb.all { Args::new() } else { [(keys::ENDED, Variant::from(false))].into() };
    let mut jobs = find::list(context, Noun::Jobs, &filter).await?;
    jobs.sort_by_key(|job| job.number("created_at"));
    context.emit(&record::array(&jobs), || jobs_table(&jobs))
}
