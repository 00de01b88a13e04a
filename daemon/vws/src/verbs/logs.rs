//! `vws logs`: what the guest wrote to its console.

use crate::context::Context;
use crate::output::Format;
use crate::verbs::console::open;
use crate::{Result, find, output, screen};
use serde_json::json;
use std::io::IsTerminal;
use vws_bus::client::Args;
use vws_bus::failure::Failure;

/// Arguments of `vws logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// Name or id of the workspace
    workspace: String,
    /// Go on with what it writes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Logs) -> Result<()> {
    if verb.follow && context.format != Format::Table {
        return Err(Failure::of_kind("InvalidArgument", "`--follow` writes text as it comes; leave out -o or --follow"));
    }
    let found = find::workspace(context, &verb.workspace).await?;
    // A terminal gets no commands from a guest; a file gets every byte.
    let terminal = std::io::stdout().is_terminal();
    if verb.follow {
        let mut guest = open(context, &found.path).await?;
        let mut interrupts = crate::follow::interrupts()?;
        loop {
            let bytes = tokio::select! {
                bytes = guest.heard.recv() => bytes,
                Some(()) = interrupts.recv() => return Ok(()),
            };
            let Some(bytes) = bytes else { return Ok(()) };
            if terminal {
                output::write(screen::plain(&String::from_utf8_lossy(&bytes)).as_bytes())?;
            } else {
                output::write(&bytes)?;
            }
        }
    }
    let (text, omitted) = context.client.workspace(&found.path).await?.log(&Args::new()).await?;
    if context.format != Format::Table {
        return context.emit(&json!({ "text": text, "omitted_bytes": omitted }), String::new);
    }
    if omitted > 0 {
        context.say(&format!("({omitted} bytes before this are no longer kept)"));
    }
    let shown = if terminal { screen::plain(&text) } else { text };
    output::write(shown.as_bytes())
}
