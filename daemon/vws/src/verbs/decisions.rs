//! `vws decisions`: the record of decisions, newest first.

use crate::context::Context;
use crate::output::table;
use crate::units::{duration, local, now};
use crate::verbs::why::ask;
use crate::{Result, decision, find, record};
use std::time::Duration;
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys;
use zbus::{ObjectPath, Variant};

/// Arguments of `vws decisions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Decisions {
    /// Only about this workspace
    #[arg(long)]
    workspace: Option<String>,
    /// Only about what has this name, also what is gone
    #[arg(long, conflicts_with = "workspace")]
    name: Option<String>,
    /// Only what this user id asked for
    #[arg(long, value_name = "UID")]
    caller: Option<u32>,
    /// Only about this verb
    #[arg(long)]
    verb: Option<String>,
    /// Only `permit`ted or `deny`ed ones
    #[arg(long, value_parser = ["permit", "deny"], conflicts_with_all = ["denied", "permitted"])]
    verdict: Option<String>,
    /// Only refusals
    #[arg(long)]
    denied: bool,
    /// Only permissions
    #[arg(long, conflicts_with = "denied")]
    permitted: bool,
    /// Only of the last so long, for instance 1h
    #[arg(long, value_parser = duration, value_name = "TIME")]
    since: Option<Duration>,
    /// Only of before so long ago, for instance 10m
    #[arg(long, value_parser = duration, value_name = "TIME")]
    until: Option<Duration>,
    /// So many at most
    #[arg(short = 'l', long, default_value_t = vws_bus::names::DECISIONS_LIMIT, value_name = "N")]
    limit: u64,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Decisions) -> Result<()> {
    let mut filter = Args::new();
    if let Some(word) = &verb.workspace {
        let path = ObjectPath::try_from(find::workspace(context, word).await?.path).map_err(Failure::from)?;
        filter.insert(keys::WORKSPACE, Variant::from(path));
    }
    if verb.denied || verb.permitted {
        filter.insert(keys::VERDICT, Variant::from(if verb.denied { "deny" } else { "permit" }));
    }
    if let Some(verdict) = &verb.verdict {
        filter.insert(keys::VERDICT, Variant::from(verdict.clone()));
    }
    if let Some(of) = &verb.verb {
        filter.insert(keys::VERB, Variant::from(of.clone()));
    }
    if let Some(name) = &verb.name {
        filter.insert(keys::NAME, Variant::from(name.clone()));
    }
    if let Some(caller) = verb.caller {
        filter.insert(keys::CALLER, Variant::from(caller));
    }
    let ago = |time: Duration| Variant::from(now().saturating_sub(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)));
    if let Some(since) = verb.since {
        filter.insert(keys::SINCE, ago(since));
    }
    if let Some(until) = verb.until {
        filter.insert(keys::UNTIL, ago(until));
    }
    let found = ask(context, filter, verb.limit).await?;
    context.emit(&record::array(&found), || {
        let rows = found
            .iter()
            .map(|d| {
                let last = d.list("verdicts").pop().unwrap_or_default();
                vec![
                    local(d.number("at")),
                    d.text("verb").to_owned(),
                    d.text("name").to_owned(),
                    d.text("caller").to_owned(),
                    decision::outcome(d).to_owned(),
                    last.text("code").to_owned(),
                    decision::rule(&last),
                    d.text("host").to_owned(),
                    d.text("id").to_owned(),
                ]
            })
            .collect();
        table(&["AT", "VERB", "NAME", "BY", "VERDICT", "CODE", "RULE", "HOST", "ID"], rows)
    })
}
