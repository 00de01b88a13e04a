//! `vws doctor`: the daemon's self-check. An error among the findings is a failure.

use crate::context::Context;
use crate::record::{self, Record};
use crate::{Result, screen};
use vws_bus::client::Args;
use vws_bus::failure::Failure;

/// Arguments of `vws doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {}

/// Does it.
pub(crate) async fn run(context: &Context, _verb: &Doctor) -> Result<()> {
    let manager = context.client.manager().await?;
    let findings: Vec<Record> = manager.doctor(&Args::new()).await?.iter().map(Record::new).collect();
    context.emit(&record::array(&findings), || {
        if findings.is_empty() {
            return "all is well: ledger, database, hosts and policies agree".to_owned();
        }
        let one = |f: &Record| {
            let text = format!("{}: {}: {}", f.text("severity"), f.text("object"), f.text("fact"));
            let remedy =
                if f.text("remedy").is_empty() { String::new() } else { format!("\n  do: {}", screen::shown(f.text("remedy"))) };
            screen::shown(&text) + &remedy
        };
        findings.iter().map(one).collect::<Vec<_>>().join("\n")
    })?;
    match findings.iter().filter(|finding| finding.text("severity") == "error").count() {
        0 => Ok(()),
        count => {
            Err(Failure::new("org.freedesktop.DBus.Error.Failed", &format!("{count} of {} findings are errors", findings.len())))
        }
    }
}
