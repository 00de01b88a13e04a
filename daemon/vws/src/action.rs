//! Verbs that do one thing to one or more workspaces: all names are resolved first, then all requests made, then all jobs
//! followed.

use crate::context::Context;
use crate::find::{self, Found};
use crate::follow::{Wait, follow};
use crate::output::table;
use crate::record::{self, Record};
use crate::{Result, screen};
use vws_bus::client::{Args, WorkspaceProxy};
use vws_bus::path;
use zbus::OwnedObjectPath;

/// Does `call` to every workspace named.
pub(crate) async fn on_workspaces<F>(
    context: &Context,
    words: &[String],
    verb: &str,
    wait: &Wait,
    options: &Args<'_>,
    call: F,
) -> Result<()>
where
    F: AsyncFn(&WorkspaceProxy<'static>, &Args<'_>) -> zbus::Result<OwnedObjectPath>,
{
    let mut found: Vec<Found> = Vec::new();
    for word in words {
        found.push(find::workspace(context, word).await?);
    }
    let mut jobs = Vec::new();
    for workspace in found {
        let proxy = context.client.workspace(&workspace.path).await?;
        let job = call(&proxy, options).await?;
        jobs.push((workspace, job));
    }
    let mut ended = Vec::new();
    for (workspace, job) in jobs {
        let name = screen::shown(workspace.record.text("name"));
        if job.as_str() == path::NONE {
            context.say(&format!("{name}: is {} already", workspace.record.text("state")));
            continue;
        }
        let title = format!("{verb} {name}");
        ended.push(follow(context, job.as_str(), &title, wait).await?);
    }
    jobs_out(context, &ended, wait)
}

/// Jobs as data. A person who waited for them has seen their end.
pub(crate) fn jobs_out(context: &Context, jobs: &[Record], wait: &Wait) -> Result<()> {
    context.emit(&record::array(jobs), || if wait.no_wait { jobs_table(jobs) } else { String::new() })
}

/// A table of jobs.
pub(crate) fn jobs_table(jobs: &[Record]) -> String {
    let rows = jobs
        .iter()
        .map(|job| {
            let phase = match job.number("steps") {
                0 => job.text("phase").to_owned(),
                steps => format!("{} {}/{steps}", job.text("phase"), job.number("step")),
            };
            vec![
                job.text("id").to_owned(),
                job.text("kind").to_owned(),
                job.text("state").to_owned(),
                phase.trim().to_owned(),
                job.text("actor").to_owned(),
                crate::units::local(job.number("created_at")),
                crate::output::leaf(if job.text("workspace") == "/" { job.text("image") } else { job.text("workspace") }),
            ]
        })
        .collect();
    table(&["ID", "KIND", "STATE", "PHASE", "BY", "SINCE", "ON"], rows)
}
