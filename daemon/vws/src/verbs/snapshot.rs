//! `vws snapshot`: kept states of a workspace's disks, with or without its memory.

use crate::action::jobs_table;
use crate::context::Context;
use crate::follow::{Wait, follow};
use crate::output::table;
use crate::record::array;
use crate::units::local;
use crate::{Result, find, screen};
use serde_json::json;
use vws_bus::keys;
use zbus::Variant;

/// The verbs of snapshots.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Snapshot {
    /// Keep the present state
    Create {
        #[command(flatten)]
        which: Which,
        /// With the guest's memory: it goes on from there after a revert
        #[arg(long)]
        memory: bool,
    },
    /// List the snapshots of a workspace, oldest first
    #[command(visible_alias = "ls")]
    List {
        /// Name or id of the workspace
        workspace: String,
    },
    /// Go back to a snapshot; everything since is lost
    Revert {
        #[command(flatten)]
        which: Which,
    },
    /// Drop a snapshot; the workspace stays as it is
    #[command(visible_alias = "rm")]
    Remove {
        #[command(flatten)]
        which: Which,
    },
}

/// One snapshot.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Name or id of the workspace
    workspace: String,
    /// Name of the snapshot
    name: String,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Snapshot) -> Result<()> {
    let (which, what) = match verb {
        Snapshot::List { workspace } => return list(context, workspace).await,
        Snapshot::Create { which, .. } => (which, "snapshot"),
        Snapshot::Revert { which } => (which, "revert"),
        Snapshot::Remove { which } => (which, "remove snapshot of"),
    };
    let found = find::workspace(context, &which.workspace).await?;
    let workspace = context.client.workspace(&found.path).await?;
    let mut options = which.wait.options();
    let job = match verb {
        Snapshot::Create { memory, .. } => {
            options.insert(keys::MEMORY, Variant::from(*memory));
            workspace.snapshot(&which.name, &options).await?
        }
        Snapshot::Revert { .. } => workspace.revert(&which.name, &options).await?,
        Snapshot::Remove { .. } | Snapshot::List { .. } => workspace.remove_snapshot(&which.name, &options).await?,
    };
    let title = format!("{what} {}", screen::shown(found.record.text("name")));
    let job = follow(context, job.as_str(), &title, &which.wait).await?;
    context.emit(&json!({ "workspace": found.record.text("id"), "job": job.0 }), || jobs_table(std::slice::from_ref(&job)))
}

async fn list(context: &Context, workspace: &str) -> Result<()> {
    let found = find::workspace(context, workspace).await?;
    let snapshots = found.record.list("snapshots");
    let rows = snapshots
        .iter()
        .map(|snapshot| {
            vec![
                screen::shown(snapshot.text("name")).to_string(),
                if snapshot.flag("memory") { "yes" } else { "no" }.to_owned(),
                local(snapshot.number("created_at")),
            ]
        })
        .collect();
    context.emit(&array(&snapshots), || table(&["NAME", "MEMORY", "CREATED"], rows))
}
