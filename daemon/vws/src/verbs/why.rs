//! `vws why`: the recorded decisions about a workspace, with the rules that made them; also after it is gone, and by the id of
//! a decision.

use crate::context::Context;
use crate::record::{self, Record};
use crate::{Result, decision, find};
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys;
use vws_bus::path::Object;
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

/// Decisions by their own id, or about an id or a name that no workspace has any more.
async fn recorded(context: &Context, word: &str, limit: u64) -> Result<Vec<Record>> {
    if let Some(id) = find::whole_id(word, 'w') {
        let by_id = ask(context, [(keys::ID, Variant::from(format!("{id:032x}")))].into(), limit).await?;
        if !by_id.is_empty() {
            return Ok(by_id);
        }
        let path = ObjectPath::try_from(Object::Workspace(id).to_string()).map_err(Failure::from)?;
        let about = ask(context, [(keys::WORKSPACE, Variant::from(path))].into(), limit).await?;
        if !about.is_empty() {
            return Ok(about);
        }
    }
    ask(context, [(keys::NAME, Variant::from(word))].into(), limit).await
}

/// Decisions that fit a filter.
pub(crate) async fn ask(context: &Context, filter: Args<'_>, limit: u64) -> Result<Vec<Record>> {
    let options: Args<'_> = [(keys::LIMIT, Variant::from(limit))].into();
    let manager = context.client.manager().await?;
    Ok(manager.decisions(&filter, &options).await?.iter().map(Record::new).collect())
}
