//! `vws jobs`: the jobs that the caller may see.

use crate::action::jobs_table;
use crate::context::Context;
use crate::{Result, find, record};

/// Arguments of `vws jobs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Jobs {
    /// Ended ones too, as long as they are kept
    #[arg(short, long)]
    all: bool,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Jobs) -> Result<()> {
    let mut jobs = find::collection(context, "jobs").await?;
    jobs.retain(|job| verb.all || job.number("ended_at") == 0);
    jobs.sort_by_key(|job| job.number("created_at"));
    context.emit(&record::array(&jobs), || jobs_table(&jobs))
}
