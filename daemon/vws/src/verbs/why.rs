//! `vws why`: the recorded decisions about a workspace, with the rules that made them; also after it is gone, and by the id of
//! a decision.

use crate::context::Context;
use crate::record::{self, Record};
use crate::{Result, decision, find};
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::{keys, names};
use zbus::{ObjectPath, Variant};

/// Arguments of `vws why`.
#[derive(Debug, clap::Args)]
pub(crate) struct Why {
    /// Name or id of a workspace, or id of a decision
    object: String,
    /// So many decisions at most, the newest first
    #[arg(short = 'l', long, default_value_t = 10, value_name = "N")]
    limit: u64,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Why) -> Result<()> {
    let found = match find::workspace(context, &verb.object).await {
        Ok(found) => {
            let path = ObjectPath::try_from(found.path).map_err(Failure::from)?;
            ask(context, [(keys::WORKSPACE, Variant::from(path))].into(), verb.limit).await?
        }
        Err(failure) if failure.is_kind("NotFound") => {
            let by_word = recorded(context, &verb.object, verb.limit).await?;
            if by_word.is_empty() {
                return Err(failure);
            }
            by_word
        }
        Err(failure) => return Err(failure),
    };
    context.emit(&record::array(&found), || found.iter().map(decision::text).collect::<Vec<_>>().join("\n\n--\n\n"))
}

/// Decisions by their own id, or about a name or an id that no workspace has any more. A name is looked for among the newest
/// only: the record is kept by workspace.
async fn recorded(context: &Context, word: &str, limit: u64) -> Result<Vec<Record>> {
    let hexadecimal = word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
    if hexadecimal {
        let by_id = ask(context, [(keys::ID, Variant::from(word.to_ascii_lowercase()))].into(), limit).await?;
        if !by_id.is_empty() {
            return Ok(by_id);
        }
    }
    let all = ask(context, Args::new(), names::DECISIONS_LIMIT_MAX).await?;
    let about = all.into_iter().filter(|decision| {
        decision.text("name") == word
            || (hexadecimal && decision.text("workspace").ends_with(&format!("/w{}", word.to_ascii_lowercase())))
    });
    Ok(about.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
}

/// Decisions that fit a filter.
pub(crate) async fn ask(context: &Context, filter: Args<'_>, limit: u64) -> Result<Vec<Record>> {
    let options: Args<'_> = [(keys::LIMIT, Variant::from(limit))].into();
    let manager = context.client.manager().await?;
    Ok(manager.decisions(&filter, &options).await?.iter().map(Record::new).collect())
}
