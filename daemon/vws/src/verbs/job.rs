//! `vws job`: one job.

use crate::context::Context;
use crate::follow::{Wait, follow, next};
use crate::output::{fields, leaf};
use crate::record::Record;
use crate::units::local;
use crate::verbs::cancel::{self, Cancel};
use crate::{Result, find};

/// Arguments of `vws job`.
#[derive(Debug, clap::Args)]
pub(crate) struct Job {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// Show a job
    Show {
        /// Id of the job, or its beginning
        job: String,
        /// Go along with it to its end
        #[arg(short, long)]
        follow: bool,
    },
    /// Cancel a job: what it did is taken back
    Cancel(Cancel),
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Job) -> Result<()> {
    match &verb.act {
        Act::Cancel(verb) => cancel::run(context, verb).await,
        Act::Show { job, follow: along } => {
            let found = find::job(context, job).await?;
            let record = if *along {
                follow(context, &found.path, found.record.text("kind"), &Wait::default()).await?
            } else {
                found.record
            };
            context.emit(&record.0, || text(&record))
        }
    }
}

fn text(job: &Record) -> String {
    let object = |key: &str| if job.text(key) == "/" { String::new() } else { leaf(job.text(key)) };
    let step = if job.number("steps") == 0 {
        String::new()
    } else {
        format!(" ({} of {} steps done)", job.number("step"), job.number("steps"))
    };
    fields(&[
        ("id", job.text("id").to_owned()),
        ("kind", job.text("kind").to_owned()),
        ("state", job.text("state").to_owned()),
        ("phase", format!("{}{step}", job.text("phase")).trim().to_owned()),
        ("workspace", object("workspace")),
        ("image", object("image")),
        ("by", job.text("actor").to_owned()),
        ("since", local(job.number("created_at"))),
        ("ended", if job.number("ended_at") == 0 { String::new() } else { local(job.number("ended_at")) }),
        ("error", job.texts("error").get(1).copied().unwrap_or("").to_owned()),
        ("message", job.text("message").to_owned()),
        ("next", next(job)),
    ])
}
