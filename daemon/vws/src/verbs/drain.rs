//! `vws host drain` and `vws host evacuate`: shows the plan, asks, applies it.

use crate::context::Context;
use crate::follow::{Wait, follow};
use crate::output::table;
use crate::record::{self, Record};
use crate::{Result, find, screen};
use serde_json::json;
use std::io::{BufRead, IsTerminal};
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys;
use zbus::Variant;

/// Arguments of `vws host drain` and `vws host evacuate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Running workspaces move live, paused ones through a bundle, stopped ones stay. Each is judged again when its\n\
                  turn comes. Exit code 1 if some stay. `vws cancel JOB` stops it; the host stays disabled until\n\
                  `vws host undrain`."
)]
pub(crate) struct Drain {
    /// Name of the host
    host: String,
    /// Show the plan and do nothing
    #[arg(long, conflicts_with = "yes")]
    plan: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Drain, evacuate: bool) -> Result<()> {
    let found = find::host(context, &verb.host).await?;
    let host = context.client.host(&found.path).await?;
    let how = Args::from([(keys::EVACUATE, Variant::from(evacuate))]);
    let plan: Vec<Record> = host.plan_drain(&how).await?.iter().map(Record::new).collect();
    if verb.plan {
        return context.emit(&record::array(&plan), || plan_table(&plan));
    }
    if !verb.yes {
        context.say(&plan_table(&plan));
        if !std::io::stdin().is_terminal() {
            return Err(Failure::of_kind(
                "InvalidArgument",
                "this moves other people's workspaces: give --yes, or --plan to see what would be done",
            ));
        }
        screen::say(&format!("Disable host {} and do this? [y/N]", screen::shown(&verb.host)));
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        if read.is_err() || !matches!(answer.trim(), "y" | "Y" | "yes") {
            context.say("nothing was done");
            return Ok(());
        }
    }
    let mut options = verb.wait.options();
    options.extend(how);
    let job = host.drain(&options).await?;
    let title = format!("{} {}", if evacuate { "evacuate" } else { "drain" }, verb.host);
    let job = follow(context, job.as_str(), &title, &verb.wait).await?;
    context.emit(&json!({ "job": job.0, "plan": record::array(&plan) }), || {
        if verb.wait.no_wait { crate::action::jobs_table(std::slice::from_ref(&job)) } else { String::new() }
    })
}

fn plan_table(plan: &[Record]) -> String {
    if plan.is_empty() {
        return "no workspace is on the host".to_owned();
    }
    let rows = plan
        .iter()
        .map(|one| {
            ["name", "owner_name", "state", "way", "host", "reason"].into_iter().map(|key| one.text(key).to_owned()).collect()
        })
        .collect();
    table(&["NAME", "OWNER", "STATE", "WAY", "TO", "REASON"], rows)
}
