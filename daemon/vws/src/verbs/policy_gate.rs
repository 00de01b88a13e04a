//! `vws policy history|rollback|replay|shadow|audit`: what was in force, going back, and what other policies would say.

use crate::context::Context;
use crate::output::{fields, table};
use crate::record::{self, Record};
use crate::units::{duration, local, now};
use crate::{Result, screen};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys;
use zbus::Variant;

/// Arguments of `vws policy rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// Generation, or the first 8 or more digits of a hash; default: the newest set with other files
    target: Option<String>,
}

/// Arguments of `vws policy replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// Folder with the other policies
    #[arg(long, value_name = "DIR")]
    with: PathBuf,
    /// Only decisions of the last so long, for instance 7d
    #[arg(long, value_parser = duration, value_name = "TIME")]
    since: Option<Duration>,
    /// Only decisions about this verb
    #[arg(long)]
    verb: Option<String>,
    /// Only what this user id asked for
    #[arg(long, value_name = "UID")]
    caller: Option<u32>,
    /// The newest so many
    #[arg(short = 'l', long, value_name = "N")]
    limit: Option<u64>,
}

/// Verbs of `vws policy shadow`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Shadow {
    /// Let the policies of a folder judge beside those in force from now on; they decide nothing
    Start {
        /// Folder with the other policies
        directory: PathBuf,
    },
    /// Show what would have come out otherwise since
    Status,
    /// End it
    Stop,
}

/// Arguments of `vws policy audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    /// Judge by the policies of this folder instead of those in force
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
}

/// The files of a folder, as the daemon would read them.
fn sources(directory: &Path) -> Result<BTreeMap<String, String>> {
    vws_policy::Sources::read_dir(directory).map(|sources| sources.files).map_err(|problems| {
        let problem = problems.first().map(ToString::to_string).unwrap_or_default();
        Failure::of_kind("PolicyFailure", format!("policies in `{}`: {problem}", directory.display()))
    })
}

/// `vws policy history`
pub(crate) async fn history(context: &Context) -> Result<()> {
    let found: Vec<Record> = context.client.policy().await?.history(&Args::new()).await?.iter().map(Record::new).collect();
    context.emit(&record::array(&found), || {
        let rows = found
            .iter()
            .map(|entry| {
                let hash: String = entry.text("hash").chars().take(12).collect();
                let pinned = if entry.text("pinned_over").is_empty() { "" } else { "pinned" };
                vec![
                    entry.number("generation").to_string(),
                    hash,
                    local(entry.number("at")),
                    entry.text("cause").to_owned(),
                    entry.text("actor").to_owned(),
                    pinned.to_owned(),
                    entry.text("report").to_owned(),
                ]
            })
            .collect();
        table(&["GENERATION", "HASH", "AT", "CAUSE", "BY", "PINNED", "REPORT"], rows)
    })
}

/// `vws policy rollback`
pub(crate) async fn rollback(context: &Context, verb: &Rollback) -> Result<()> {
    let target = verb.target.as_deref().unwrap_or_default();
    let generation = context.client.policy().await?.rollback(target, &Args::new()).await?;
    context.emit(&json!({ "generation": generation }), || {
        format!("generation {generation} is in force; it stays until the folder's files change or `vws policy reload`")
    })
}

/// `vws policy replay`
pub(crate) async fn replay(context: &Context, verb: &Replay) -> Result<()> {
    let files = sources(&verb.with)?;
    let mut options = Args::new();
    if let Some(since) = verb.since {
        let ago = now().saturating_sub(u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
        options.insert(keys::SINCE, Variant::from(ago));
    }
    if let Some(name) = &verb.verb {
        options.insert(keys::VERB, Variant::from(name.clone()));
    }
    if let Some(caller) = verb.caller {
        options.insert(keys::CALLER, Variant::from(caller));
    }
    if let Some(limit) = verb.limit {
        options.insert(keys::LIMIT, Variant::from(limit));
    }
    let found = Record::new(&context.client.policy().await?.replay(&files, &options).await?);
    context.emit(&found.0, || {
        let seconds = found.number("micros") as f64 / 1e6;
        let rate = if seconds > 0.0 { found.number("judged") as f64 / seconds } else { 0.0 };
        format!("{}\n({rate:.0} decisions/s)", differences(&found))
    })
}

/// The sentence and the examples.
fn differences(found: &Record) -> String {
    let mut text = screen::shown_lines(found.text("summary"));
    let examples = found.list("examples");
    if !examples.is_empty() {
        let rows = examples
            .iter()
            .map(|one| {
                vec![
                    one.text("kind").to_owned(),
                    one.text("verb").to_owned(),
                    one.text("name").to_owned(),
                    one.text("caller").to_owned(),
                    one.text("was").to_owned(),
                    one.text("is").to_owned(),
                    one.text("id").to_owned(),
                ]
            })
            .collect();
        text.push_str("\n\n");
        text.push_str(&table(&["CHANGE", "VERB", "NAME", "BY", "WAS", "WOULD BE", "DECISION"], rows));
    }
    text
}

/// `vws policy shadow`
pub(crate) async fn shadow(context: &Context, verb: &Shadow) -> Result<()> {
    let policy = context.client.policy().await?;
    match verb {
        Shadow::Start { directory } => {
            let hash = policy.start_shadow(&sources(directory)?, &Args::new()).await?;
            context.emit(&json!({ "hash": hash }), || format!("shadow {hash} judges what is decided from now on"))
        }
        Shadow::Status => {
            let found = Record::new(&policy.shadow(&Args::new()).await?);
            context.emit(&found.0, || {
                if found.text("hash").is_empty() {
                    return "no shadow".to_owned();
                }
                let head = fields(&[("shadow", found.text("hash").to_owned()), ("since", local(found.number("since")))]);
                format!("{head}\n\n{}", differences(&found))
            })
        }
        Shadow::Stop => {
            policy.stop_shadow(&Args::new()).await?;
            context.emit(&json!({}), || "ended".to_owned())
        }
    }
}

/// `vws policy audit`
pub(crate) async fn audit(context: &Context, verb: &Audit) -> Result<()> {
    let files = verb.with.as_deref().map(sources).transpose()?.unwrap_or_default();
    let (refused, judged) = context.client.policy().await?.audit(&files, &Args::new()).await?;
    let refused: Vec<Record> = refused.iter().map(Record::new).collect();
    context.emit(&json!({ "judged": judged, "refused": record::array(&refused) }), || {
        let head = format!("{} of {judged} workspaces would be refused today", refused.len());
        if refused.is_empty() {
            return head;
        }
        let rows = refused
            .iter()
            .map(|one| ["name", "owner", "policy", "code", "text", "rule", "source"].map(|key| one.text(key).to_owned()).to_vec())
            .collect();
        format!("{head}\n\n{}", table(&["NAME", "OWNER", "POLICY", "CODE", "TEXT", "RULE", "SOURCE"], rows))
    })
}
