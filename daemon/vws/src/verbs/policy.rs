//! `vws policy`: the policies in force; those in a folder, without a daemon, are in `policy_offline`.

use crate::context::Context;
use crate::output::{Format, fields};
use crate::record::Record;
use crate::units::local;
use crate::verbs::policy_offline::{self, Offline, problems};
use crate::{Result, screen};
use serde_json::json;
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::names;

/// Verbs of `vws policy`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Policy {
    /// Show which policies are in force, and what is wrong with newer files
    Status,
    /// Read the policy folder now; for administrators
    Reload,
    #[command(flatten)]
    Offline(Offline),
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Policy) -> Result<()> {
    match verb {
        Policy::Status => status(context).await,
        Policy::Reload => match context.client.policy().await?.reload(&Args::new()).await.map_err(Failure::from) {
            Ok(generation) => context.emit(&json!({ "generation": generation }), || format!("generation {generation}")),
            Err(failure) => {
                if failure.is_kind("PolicyFailure") && context.format == Format::Table {
                    let record = Record::new(&context.client.properties(names::ROOT, names::POLICY).await?);
                    screen::say(&problems(&record.list("errors")));
                }
                Err(failure)
            }
        },
        Policy::Offline(verb) => policy_offline::run(verb, context.format),
    }
}

async fn status(context: &Context) -> Result<()> {
    let record = Record::new(&context.client.properties(names::ROOT, names::POLICY).await?);
    context.emit(&record.0, || {
        let state = match record.text("state") {
            "good" => "good: the newest files are in force",
            "stale" => "stale: the newest files are not in force, the last good ones are",
            "none" => "none: no policy is in force, every request is refused",
            other => other,
        };
        let mut text = fields(&[
            ("state", state.to_owned()),
            ("generation", record.number("generation").to_string()),
            ("hash", record.text("hash").to_owned()),
            ("in force since", local(record.number("loaded_at"))),
            ("folder", record.text("directory").to_owned()),
            ("files", record.texts("files").join(" ")),
            ("reads", reads(&record)),
        ]);
        let errors = record.list("errors");
        if !errors.is_empty() {
            text.push_str("\n\n");
            text.push_str(&problems(&errors));
        }
        text
    })
}

/// How often the policies were asked who may see what.
fn reads(record: &Record) -> String {
    format!(
        "{} judged, {} answered from memory, {} refused",
        record.number("reads_judged"),
        record.number("reads_remembered"),
        record.number("reads_refused")
    )
}
