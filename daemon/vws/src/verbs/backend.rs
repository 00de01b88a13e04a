//! `vws backend`: the plugins.

use crate::context::Context;
use crate::output::table;
use crate::{Result, find, record};

/// Verbs of `vws backend`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Backend {
    /// List backends
    #[command(visible_alias = "ls")]
    List,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Backend) -> Result<()> {
    let Backend::List = verb;
    let backends = find::few(context, "backends").await?;
    context.emit(&record::array(&backends), || {
        let rows = backends
            .iter()
            .map(|b| {
                vec![
                    b.text("name").to_owned(),
                    b.text("state").to_owned(),
                    b.text("version").to_owned(),
                    b.text("licence").to_owned(),
                    b.number("hosts").to_string(),
                    b.number("restarts").to_string(),
                    b.text("path").to_owned(),
                ]
            })
            .collect();
        table(&["NAME", "STATE", "VERSION", "LICENCE", "HOSTS", "RESTARTS", "FILE"], rows)
    })
}
