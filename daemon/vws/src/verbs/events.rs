//! `vws events`: what happened, from the daemon's record, and on.

use crate::context::Context;
use crate::output::{emit_next, leaf, table};
use crate::record::{self, Record};
use crate::units::local;
use crate::{Result, screen};
use futures_util::StreamExt;
use serde_json::json;
use vws_bus::client::Args;
use vws_bus::failure::Failure;

/// Arguments of `vws events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    /// Begin after this sequence number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    since: u64,
    /// Go on with what happens, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Events) -> Result<()> {
    if verb.follow {
        return follow(context, Some(verb.since), None).await;
    }
    let (events, _) = since(context, verb.since).await?;
    context.emit(&record::array(&events), || {
        let rows = events
            .iter()
            .map(|e| {
                vec![
                    e.number("sequence").to_string(),
                    local(e.number("at")),
                    e.text("kind").to_owned(),
                    leaf(e.text("object")),
                    e.text("text").to_owned(),
                ]
            })
            .collect();
        table(&["NUMBER", "AT", "KIND", "ON", "TEXT"], rows)
    })
}

/// Every event after a number, and the number up to which they are complete.
async fn since(context: &Context, mut sequence: u64) -> Result<(Vec<Record>, u64)> {
    let manager = context.client.manager().await?;
    let mut all = Vec::new();
    loop {
        let (page, last) = manager.events_since(sequence, &Args::new()).await?;
        all.extend(page.iter().map(Record::new));
        if last <= sequence {
            return Ok((all, sequence));
        }
        sequence = last;
    }
}

/// Prints events as they happen; first those after `from`, if given. `object` keeps only those about one object.
pub(crate) async fn follow(context: &Context, from: Option<u64>, object: Option<&str>) -> Result<()> {
    let manager = context.client.manager().await?;
    let mut signals = manager.receive_event().await?;
    context.subscribe().await?;
    let mut seen = 0;
    if let Some(from) = from {
        let (events, last) = since(context, from).await?;
        for event in events {
            print(context, &event, object)?;
        }
        seen = last;
    }
    let mut interrupts = crate::follow::interrupts()?;
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            Some(()) = interrupts.recv() => return Ok(()),
        };
        let Some(signal) = signal else {
            return Err(Failure::new("org.freedesktop.DBus.Error.Disconnected", "the bus closed the connection"));
        };
        let args = signal.args()?;
        if args.sequence <= seen {
            continue;
        }
        seen = args.sequence;
        let details = Record::new(&args.details);
        let event = Record(json!({
            "sequence": args.sequence, "at": args.at, "kind": args.kind, "object": args.object.as_str(), "text": details.text("text"),
        }));
        print(context, &event, object)?;
    }
}

fn print(context: &Context, event: &Record, object: Option<&str>) -> Result<()> {
    if object.is_some_and(|object| object != event.text("object")) {
        return Ok(());
    }
    emit_next(context.format, &event.0, || {
        screen::shown(&format!(
            "{}  {:16}  {}  {}",
            local(event.number("at")),
            event.text("kind"),
            leaf(event.text("object")),
            event.text("text")
        ))
    })
}
