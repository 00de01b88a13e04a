//! `vws explain`: what the policies would say. Nothing is done and nothing is recorded.

use crate::context::Context;
use crate::launch::Description;
use crate::record::Record;
use crate::units::lease_seconds;
use crate::{Result, decision, find};
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys;
use zbus::{ObjectPath, Variant};

/// Arguments of `vws explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "A refusal is an answer: the exit code is 0 either way; `--json` has `permitted`.")]
pub(crate) struct Explain {
    #[command(subcommand)]
    request: Request,
}

/// The requests that can be explained.
#[derive(Debug, clap::Subcommand)]
enum Request {
    /// A launch; takes the options of `vws launch`
    Launch(Box<Description>),
    /// A start
    Start(Target),
    /// A stop
    Stop(Target),
    /// A reboot
    Reboot(Target),
    /// A pause
    Pause(Target),
    /// A resume, from pause or from the bundle
    Resume {
        #[command(flatten)]
        target: Target,
        /// Host to insist on
        #[arg(long)]
        host: Option<String>,
    },
    /// A move to another host
    Migrate {
        #[command(flatten)]
        target: Target,
        /// Host to insist on
        #[arg(long)]
        host: Option<String>,
    },
    /// A serialize
    Serialize(Target),
    /// A new lease
    Renew {
        #[command(flatten)]
        target: Target,
        /// How long from now, for instance 2h; none: without end
        #[arg(long, alias = "for", value_parser = lease_seconds, value_name = "TIME")]
        lease: u64,
    },
    /// A resize; takes the options of `vws resize`
    Resize {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        change: Box<crate::verbs::resize::Change>,
    },
    /// Making or removing a snapshot
    Snapshot(Target),
    /// Going back to a snapshot
    Revert(Target),
    /// Saving the disk as an image
    SaveImage(Target),
    /// A destroy
    Destroy(Target),
    /// Opening the console
    Console(Target),
    /// A change of name, labels or access list
    Change(Target),
    /// Seeing it
    View(Target),
}

#[derive(Debug, clap::Args)]
struct Target {
    /// Name or id of the workspace
    workspace: String,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Explain) -> Result<()> {
    let mut request = Args::new();
    let (name, target) = match &verb.request {
        Request::Launch(description) => {
            request = description.spec()?;
            request.insert(keys::NAME, Variant::from(description.name()));
            ("launch", None)
        }
        Request::Start(target) => ("start", Some(target)),
        Request::Stop(target) => ("stop", Some(target)),
        Request::Reboot(target) => ("reboot", Some(target)),
        Request::Pause(target) => ("pause", Some(target)),
        Request::Resume { target, host } => {
            if let Some(host) = host {
                request.insert(keys::HOST, Variant::from(host.clone()));
            }
            ("resume", Some(target))
        }
        Request::Migrate { target, host } => {
            if let Some(host) = host {
                request.insert(keys::HOST, Variant::from(host.clone()));
            }
            ("migrate", Some(target))
        }
        Request::Serialize(target) => ("serialize", Some(target)),
        Request::Renew { target, lease } => {
            request.insert(keys::LEASE_SECONDS, Variant::from(*lease));
            ("renew", Some(target))
        }
        Request::Resize { target, change } => {
            request = change.changes();
            ("resize", Some(target))
        }
        Request::Snapshot(target) => ("snapshot", Some(target)),
        Request::Revert(target) => ("revert", Some(target)),
        Request::SaveImage(target) => ("save-image", Some(target)),
        Request::Destroy(target) => ("destroy", Some(target)),
        Request::Console(target) => ("console", Some(target)),
        Request::Change(target) => ("change", Some(target)),
        Request::View(target) => ("view", Some(target)),
    };
    let (name, path) = match target {
        None => (name, "/".to_owned()),
        Some(target) => {
            let found = find::workspace(context, &target.workspace).await?;
            // From the bundle it is another verb: a host is looked for.
            let name = if name == "resume" && found.record.text("state") == "serialized" { "restore" } else { name };
            (name, found.path)
        }
    };
    let path = ObjectPath::try_from(path).map_err(Failure::from)?;
    let manager = context.client.manager().await?;
    let answer = Record::new(&manager.explain(name, &path, &request, &Args::new()).await?);
    context.emit(&answer.0, || decision::text(&answer))
}
