//! `vws policy`: the policies in force; those in a folder, without a daemon, are in `policy_offline`.

use crate::context::Context;
use crate::output::{Format, fields};
use crate::record::Record;
use crate::units::local;
use crate::verbs::policy_gate;
use crate::verbs::policy_offline::{self, Offline, problems};
use crate::{Result, screen};
use serde_json::json;
use vws_bus::client::Args;
use vws_bus::{keys, names};
use zbus::Variant;

/// Verbs of `vws policy`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Policy {
    /// Show which policies are in force, and what is wrong with newer files
    Status,
    /// Read the policy folder now; for administrators
    Reload {
        /// Take the files also when the replay of recorded decisions would block them
        #[arg(long)]
        accept: bool,
    },
    /// Show which policies were in force when; for administrators
    History,
    /// Put older policies in force again; for administrators, also when every script is broken
    Rollback(policy_gate::Rollback),
    /// Show which recorded decisions the policies of a folder would decide otherwise; for administrators
    Replay(policy_gate::Replay),
    /// Let the policies of a folder judge beside those in force; for administrators
    #[command(subcommand)]
    Shadow(policy_gate::Shadow),
    /// Show which workspaces would be refused if they were launched today; for administrators
    Audit(policy_gate::Audit),
    #[command(flatten)]
    Offline(Offline),
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Policy) -> Result<()> {
    match verb {
        Policy::Status => status(context).await,
        Policy::History => policy_gate::history(context).await,
        Policy::Rollback(verb) => policy_gate::rollback(context, verb).await,
        Policy::Replay(verb) => policy_gate::replay(context, verb).await,
        Policy::Shadow(verb) => policy_gate::shadow(context, verb).await,
        Policy::Audit(verb) => policy_gate::audit(context, verb).await,
        Policy::Reload { accept } => match reload(context, *accept).await {
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

async fn reload(context: &Context, accept: bool) -> Result<u64> {
    let mut options = Args::new();
    if accept {
        options.insert(keys::ACCEPT, Variant::from(true));
    }
    Ok(context.client.policy().await?.reload(&options).await?)
}

async fn status(context: &Context) -> Result<()> {
    let record = Record::new(&context.client.properties(names::ROOT, names::POLICY).await?);
    context.emit(&record.0, || {
        let state = match record.text("state") {
            "good" => "good: the newest files are in force",
            "stale" => "stale: the newest files are not in force, the last good ones are",
            "pinned" => "pinned: older policies were put back; they stay until the files change or `vws policy reload`",
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
            ("last reload", last_reload(&record)),
        ]);
        let errors = record.list("errors");
        if !errors.is_empty() {
            text.push_str("\n\n");
            text.push_str(&problems(&errors));
        }
        text
    })
}

/// What became of the newest files.
fn last_reload(record: &Record) -> String {
    let last = record.0.get("last_reload").cloned().map(Record).unwrap_or_default();
    let found: Vec<&str> =
        [last.text("outcome"), last.text("tests"), last.text("replay")].into_iter().filter(|text| !text.is_empty()).collect();
    if found.is_empty() {
        "none since the start".to_owned()
    } else {
        format!("{}: {}", local(last.number("at")), found.join("; "))
    }
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
