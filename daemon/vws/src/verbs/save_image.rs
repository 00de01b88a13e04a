//! `vws save-image`: the root disk of a stopped workspace as a new image.

use crate::action::jobs_table;
use crate::context::Context;
use crate::find;
use crate::follow::{Wait, follow};
use crate::verbs::image::images_table;
use crate::{Result, screen};
use serde_json::json;
use vws_bus::keys;
use vws_bus::path::Object;
use zbus::Variant;

/// Arguments of `vws save-image`.
#[derive(Debug, clap::Args)]
pub(crate) struct SaveImage {
    /// Name or id of the workspace
    workspace: String,
    /// Name of the new image
    name: String,
    /// Everybody may see and use it
    #[arg(long)]
    public: bool,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &SaveImage) -> Result<()> {
    let found = find::workspace(context, &verb.workspace).await?;
    let mut options = verb.wait.options();
    if verb.public {
        options.insert(keys::VISIBILITY, Variant::from("public"));
    }
    let (image, job) = context.client.workspace(&found.path).await?.save_image(&verb.name, &options).await?;
    let title = format!("save {}", screen::shown(found.record.text("name")));
    let job = follow(context, job.as_str(), &title, &verb.wait).await?;
    let record = match Object::parse(image.as_str()) {
        Some(object) => find::at(context, &object).await?.map(|found| found.record).unwrap_or_default(),
        None => crate::record::Record::default(),
    };
    context.emit(&json!({ "image": record.0, "job": job.0 }), || {
        if verb.wait.no_wait { jobs_table(std::slice::from_ref(&job)) } else { images_table(std::slice::from_ref(&record)) }
    })
}
