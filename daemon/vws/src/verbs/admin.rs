//! `vws admin`: for administrators.

use crate::context::Context;
use crate::units::bytes;
use crate::{Result, screen};
use serde_json::json;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use zbus::Fd;

/// Verbs of `vws admin`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Admin {
    /// Write a consistent copy of the database to a new file, while the daemon works
    Backup {
        /// The new file
        file: PathBuf,
    },
    /// Print the site in numbers, in the Prometheus text format
    Metrics,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Admin) -> Result<()> {
    match verb {
        Admin::Backup { file } => back_up(context, file).await,
        Admin::Metrics => {
            let text = context.client.manager().await?.metrics(&Args::new()).await?;
            context.emit(&json!({ "text": text }), || text.clone())
        }
    }
}

async fn back_up(context: &Context, file: &Path) -> Result<()> {
    let failed = |error: std::io::Error| {
        Failure::of_kind("InvalidArgument", format!("file `{}`: cannot be made: {error}; name a new file", file.display()))
    };
    // The copy has everybody's data in it: nobody else may read it.
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    let done = backup(context, &opened).await;
    if done.is_err() {
        remove(file);
    }
    done?;
    let size = opened.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    context.emit(&json!({ "file": file.display().to_string(), "size_bytes": size }), || {
        format!("{} {}", file.display(), bytes(size))
    })
}

async fn backup(context: &Context, file: &std::fs::File) -> Result<()> {
    context.client.manager().await?.backup(Fd::from(file.as_fd()), &Args::new()).await?;
    file.sync_all()
        .map_err(|error| Failure::new("org.freedesktop.DBus.Error.IOError", &format!("the copy cannot be made durable: {error}")))
}

/// Half a copy is none.
fn remove(file: &Path) {
    if let Err(error) = std::fs::remove_file(file) {
        screen::say(&format!("vws: the unfinished file `{}` cannot be removed: {error}", file.display()));
    }
}
