//! `vws change`: name, labels and access list of a workspace.

use crate::context::Context;
use crate::launch::{Pairs, elements, grant, labels, pair};
use crate::{Result, find};
use std::collections::BTreeMap;
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys;
use zbus::Variant;

/// Arguments of `vws change`.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// Name or id of the workspace
    workspace: String,
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// The labels from now on, all of them; repeatable
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE")]
    label: Vec<(String, String)>,
    /// No labels any more
    #[arg(long, conflicts_with = "label")]
    no_labels: bool,
    /// The access list from now on, all of it: user:NAME=RIGHT or group:NAME=RIGHT; repeatable
    #[arg(long, value_parser = grant, value_name = "GRANT")]
    grant: Vec<Pairs>,
    /// Nobody else any more
    #[arg(long, conflicts_with = "grant")]
    no_grants: bool,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Change) -> Result<()> {
    let mut changes = Args::new();
    if let Some(name) = &verb.name {
        changes.insert(keys::NAME, Variant::from(name.clone()));
    }
    if verb.no_labels {
        changes.insert(keys::LABELS, Variant::from(BTreeMap::<String, String>::new()));
    } else if !verb.label.is_empty() {
        changes.insert(keys::LABELS, labels(&verb.label));
    }
    if verb.no_grants || !verb.grant.is_empty() {
        changes.insert(keys::ACCESS, elements(&verb.grant));
    }
    if changes.is_empty() {
        return Err(Failure::of_kind("InvalidArgument", "nothing to change; give --name, --label or --grant"));
    }
    let found = find::workspace(context, &verb.workspace).await?;
    context.client.workspace(&found.path).await?.change(&changes, &Args::new()).await?;
    let record = find::workspace(context, &found.path).await?.record;
    context.emit(&record.0, String::new)
}
