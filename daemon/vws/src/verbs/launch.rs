//! `vws launch`: leases a new workspace.

use crate::Result;
use crate::action::jobs_table;
use crate::context::Context;
use crate::find;
use crate::follow::{Wait, follow};
use crate::launch::Description;
use crate::output::{WORKSPACE_HEADER, table, workspace_row};
use crate::record::Record;
use crate::units::now;
use serde_json::json;
use vws_bus::path::Object;

/// Arguments of `vws launch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Launch {
    #[command(flatten)]
    description: Description,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Launch) -> Result<()> {
    let name = verb.description.name();
    let spec = verb.description.spec()?;
    let manager = context.client.manager().await?;
    let (workspace, job) = manager.create_workspace(&name, &spec, &verb.wait.options()).await?;
    let job = follow(context, job.as_str(), &format!("launch {name}"), &verb.wait).await?;
    let record = match Object::parse(workspace.as_str()) {
        Some(object) => find::at(context, &object).await?.map(|found| found.record).unwrap_or_default(),
        None => Record::default(),
    };
    context.emit(&json!({ "workspace": record.0, "job": job.0 }), || {
        if verb.wait.no_wait {
            jobs_table(std::slice::from_ref(&job))
        } else {
            table(&WORKSPACE_HEADER, vec![workspace_row(&record, now())])
        }
    })?;
    if verb.wait.no_wait {
        context.say(&format!("job {id}: `vws job show {id} --follow`", id = job.text("id")));
    } else {
        context.say(&format!("next: `vws console {name}`, `vws logs {name}`, `vws why {name}`, `vws destroy {name}`"));
    }
    Ok(())
}
