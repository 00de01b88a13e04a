//! `vws each`: one verb on many workspaces. Each answers on its own; the first that refuses stops nothing.

use crate::context::Context;
use crate::follow::{Wait, follow};
use crate::launch::{labels, pair};
use crate::output::table;
use crate::record::Record;
use crate::units::lease_seconds;
use crate::{Result, screen};
use serde_json::{Value, json};
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::{keys, path};
use zbus::Variant;

/// Arguments of `vws each`.
#[derive(Debug, clap::Args)]
pub(crate) struct Each {
    /// What is done to each of them
    #[arg(value_parser = ["start", "stop", "reboot", "pause", "resume", "serialize", "destroy", "renew"])]
    verb: String,
    #[command(flatten)]
    chosen: Chosen,
    /// For renew: how long from now, for instance 2h; none: without end
    #[arg(long, value_parser = lease_seconds, value_name = "TIME")]
    lease: Option<u64>,
    /// For stop: do not ask the guests, force them off
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: Wait,
}

/// Which workspaces are meant: all given options must match.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Chosen {
    /// Those of this user id
    #[arg(long, value_name = "UID")]
    pub(crate) owner: Option<u32>,
    /// Those on this host
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Those in this state
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// The members of this cluster
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// Those with this label; repeatable
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<(String, String)>,
    /// Every workspace that you may see
    #[arg(long)]
    pub(crate) all: bool,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Each) -> Result<()> {
    act(context, &verb.verb, &verb.chosen, verb.lease, verb.force.then_some(0), &verb.wait).await
}

/// Does `verb` to those that are meant, follows their jobs, and tells of each. Fails if one of them did.
pub(crate) async fn act(
    context: &Context,
    verb: &str,
    chosen: &Chosen,
    lease: Option<u64>,
    guest_timeout_ms: Option<u64>,
    wait: &Wait,
) -> Result<()> {
    let mut filter = Args::new();
    let words = [(keys::HOST, &chosen.host), (keys::STATE, &chosen.state), (keys::CLUSTER, &chosen.cluster)];
    filter.extend(words.into_iter().filter_map(|(key, value)| value.clone().map(|value| (key, Variant::from(value)))));
    if let Some(owner) = chosen.owner {
        filter.insert(keys::OWNER, Variant::from(owner));
    }
    if !chosen.label.is_empty() {
        filter.insert(keys::LABEL, labels(&chosen.label));
    }
    if chosen.all {
        filter.insert(keys::ALL, Variant::from(true));
    }
    let mut options = wait.options();
    if let Some(lease) = lease {
        options.insert(keys::LEASE_SECONDS, Variant::from(lease));
    }
    if let Some(timeout) = guest_timeout_ms {
        options.insert(keys::GUEST_TIMEOUT_MS, Variant::from(timeout));
    }
    let answers = context.client.manager().await?.act(verb, &filter, &options).await?;
    if answers.is_empty() {
        let what = chosen
            .cluster
            .as_ref()
            .map_or_else(|| "no workspace is meant".to_owned(), |name| format!("cluster `{name}`: not found"));
        return Err(Failure::of_kind("NotFound", format!("{what}; `vws list` and `vws cluster list` show what is there")));
    }
    let mut data: Vec<Value> = Vec::new();
    let mut failed = 0;
    for answer in answers.iter().map(Record::new) {
        let name = screen::shown(answer.text("name")).to_string();
        let mut result = "done".to_owned();
        if !answer.text("error").is_empty() {
            result = answer.text("message").to_owned();
            failed += 1;
        } else if verb == "renew" {
            result = crate::units::local(answer.number("until"));
        } else if answer.text("job") == path::NONE {
            result = "is so already".to_owned();
        } else if wait.no_wait {
            result = "begun".to_owned();
        } else if let Err(failure) = follow(context, answer.text("job"), &format!("{verb} {name}"), wait).await {
            result = failure.to_string();
            failed += 1;
        }
        let mut told = answer.0.clone();
        if let Value::Object(told) = &mut told {
            told.insert("result".to_owned(), json!(result));
        }
        data.push(told);
    }
    let rows = data
        .iter()
        .map(|told| {
            ["name", "owner", "result"]
                .map(|key| told[key].as_str().map_or_else(|| told[key].to_string(), str::to_owned))
                .to_vec()
        })
        .collect();
    context.emit(&json!(data), || table(&["NAME", "OWNER", "RESULT"], rows))?;
    if failed > 0 {
        return Err(Failure::of_kind("BackendFailure", format!("{verb}: {failed} of {} failed; each says why", data.len())));
    }
    Ok(())
}
