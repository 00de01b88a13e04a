//! `vws usage`: what users and groups have used and hold.

use crate::context::Context;
use crate::output::table;
use crate::record::{self, Record};
use crate::{Result, units};
use vws_bus::client::Args;
use vws_bus::keys;
use zbus::Variant;

/// Arguments of `vws usage`.
#[derive(Debug, clap::Args)]
pub(crate) struct Usage {
    /// Of this user id alone
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,
    /// What is charged to this group
    #[arg(long)]
    group: Option<String>,
    /// Minutes used since a local time (2027-01-31, 2027-01-31T08:00), or of the last so long (30d) [default: all that is kept]
    #[arg(long, value_parser = units::instant, value_name = "WHEN")]
    since: Option<u64>,
    /// Minutes used before a local time, or before so long ago [default: now]
    #[arg(long, value_parser = units::instant, value_name = "WHEN")]
    until: Option<u64>,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Usage) -> Result<()> {
    let mut filter = Args::new();
    if let Some(owner) = verb.owner {
        filter.insert(keys::OWNER, Variant::from(owner));
    }
    if let Some(group) = &verb.group {
        filter.insert(keys::GROUP, Variant::from(group.clone()));
    }
    for (key, instant) in [(keys::SINCE, verb.since), (keys::UNTIL, verb.until)] {
        if let Some(instant) = instant {
            filter.insert(key, Variant::from(instant));
        }
    }
    let accounts = context.client.manager().await?.usage(&filter, &Args::new()).await?;
    let accounts: Vec<Record> = accounts.iter().map(Record::new).collect();
    context.emit(&record::array(&accounts), || shown(&accounts))?;
    if accounts.is_empty() {
        context.say("nothing was used, and nothing is held");
    }
    Ok(())
}

fn shown(accounts: &[Record]) -> String {
    if accounts.is_empty() {
        return String::new();
    }
    let rows = accounts
        .iter()
        .map(|account| {
            let number = |key: &str| account.number(key).to_string();
            vec![
                account.text("name").to_owned(),
                if account.text("kind") == "owner" { "user" } else { "group" }.to_owned(),
                number("used_minutes"),
                number("ahead_minutes"),
                number("workspaces"),
                number("running"),
                number("vcpus"),
                units::mib(account.number("memory_mib")),
                format!("{}G", account.number("disk_gib")),
            ]
        })
        .collect();
    table(&["WHO", "KIND", "USED MIN", "AHEAD MIN", "WORKSPACES", "RUNNING", "VCPUS", "MEMORY", "DISK"], rows)
}
