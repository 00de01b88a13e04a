//! `vws bundle`: serialized workspaces as files: export, import, check, list. A file is checked here, without a daemon.

use crate::context::Context;
use crate::follow::{Wait, follow};
use crate::launch::unreadable;
use crate::output::{Format, fields, table};
use crate::record::{self, Record};
use crate::units::{bytes, local, mib};
use crate::{Result, action, find, screen};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::BufReader;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use vws_bundle::{Limits, Portable};
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys;
use vws_bus::path::Object;
use zbus::{Fd, ObjectPath, Variant};

/// Verbs of `vws bundle`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bundle {
    /// Write a serialized workspace into a file; it is no longer here then
    Export(Export),
    /// Bring a bundle in from a file, for administrators; it becomes a serialized workspace
    Import(Import),
    /// Compare every byte with the digests: of a file (no daemon needed), or of a workspace's bundle
    Verify(Verify),
    /// List the bundles that are here
    #[command(visible_alias = "ls")]
    List,
    /// Show what a bundle is and needs: of a file (no daemon needed), or of a workspace
    Show(Target),
}

/// Arguments of `vws bundle export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Name or id of the workspace
    workspace: String,
    /// File to write; it must not be there yet
    file: PathBuf,
    /// Leave the images out on which its disks lie: for a site that has them
    #[arg(long)]
    without_images: bool,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `vws bundle import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// File that `vws bundle export` wrote
    file: PathBuf,
    /// Name of the workspace [default: the name that it had]
    #[arg(long)]
    name: Option<String>,
    /// Owner, as a uid [default: you]
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `vws bundle verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// A file, if there is one of this name; else name or id of a workspace
    #[arg(value_name = "FILE|WORKSPACE")]
    object: String,
    #[command(flatten)]
    wait: Wait,
}

/// A file or a workspace.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// A file, if there is one of this name; else name or id of a workspace
    #[arg(value_name = "FILE|WORKSPACE")]
    object: String,
}

impl Bundle {
    /// The file that the verb is about, if it needs no daemon.
    pub(crate) fn offline(&self) -> Option<&Path> {
        let (Self::Verify(Verify { object, .. }) | Self::Show(Target { object })) = self else { return None };
        Some(Path::new(object)).filter(|path| path.is_file())
    }
}

/// Does it without a daemon.
pub(crate) fn run_offline(format: Format, verb: &Bundle, path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let input = BufReader::with_capacity(1 << 20, file);
    let most = Limits::default();
    let portable = match verb {
        Bundle::Verify(_) => vws_bundle::verify(input, &most, &mut |_, _| ControlFlow::Continue(())),
        _ => vws_bundle::Reader::open(input, &most).map(|reader| reader.portable().clone()),
    };
    let portable = portable.map_err(|error| {
        let failure = Failure::of_kind(error.kind.name(), format!("file `{}`: {error}", path.display()));
        Failure { code: error.code.clone(), ..failure }
    })?;
    crate::output::emit(format, &described(&portable), || shown_file(&portable, matches!(verb, Bundle::Verify(_))))
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Bundle) -> Result<()> {
    match verb {
        Bundle::Export(verb) => export(context, verb).await,
        Bundle::Import(verb) => import(context, verb).await,
        Bundle::Verify(verb) => {
            let found = find::workspace(context, &verb.object).await?;
            let job = context.client.workspace(&found.path).await?.verify_bundle(&verb.wait.options()).await?;
            let title = format!("verify {}", screen::shown(found.record.text("name")));
            let job = follow(context, job.as_str(), &title, &verb.wait).await?;
            action::jobs_out(context, &[job], &verb.wait)
        }
        Bundle::List => {
            let bundles = listed(context, Args::new()).await?;
            context.emit(&record::array(&bundles), || bundles_table(&bundles))?;
            if bundles.is_empty() {
                context.say("no bundles; `vws serialize WORKSPACE` makes one");
            }
            Ok(())
        }
        Bundle::Show(target) => {
            let found = find::workspace(context, &target.object).await?;
            let path = ObjectPath::try_from(found.path).map_err(Failure::from)?;
            let bundles = listed(context, [(keys::WORKSPACE, Variant::from(path))].into()).await?;
            match bundles.into_iter().next() {
                Some(bundle) => context.emit(&bundle.0, || shown_bundle(&bundle)),
                None => Err(Failure::of_kind(
                    "NotFound",
                    format!(
                        "workspace `{}`: is in no bundle, it is {}",
                        screen::shown(found.record.text("name")),
                        found.record.text("state")
                    ),
                )),
            }
        }
    }
}

async fn listed(context: &Context, filter: Args<'_>) -> Result<Vec<Record>> {
    let options: Args<'_> = [(keys::LIMIT, Variant::from(vws_bus::names::LIST_LIMIT_MAX))].into();
    Ok(context.client.manager().await?.list_bundles(&filter, &options).await?.iter().map(Record::new).collect())
}

/// The file is made here, with the rights of who asks. One that did not become a bundle is removed again.
async fn export(context: &Context, verb: &Export) -> Result<()> {
    if verb.wait.no_wait {
        return Err(Failure::of_kind(
            "InvalidArgument",
            "an export is waited for: whether the file is the bundle is known at its end; leave --no-wait out",
        ));
    }
    let found = find::workspace(context, &verb.workspace).await?;
    let path = &verb.file;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        Failure::of_kind(
            "InvalidArgument",
            format!("file `{}`: cannot be made: {error}; name one that is not there", path.display()),
        )
    })?;
    let ours = file.try_clone().map_err(|error| unreadable(path, &error))?;
    let exported = export_to(context, verb, &found, file).await;
    match exported {
        Ok(job) => {
            // Its bytes are synced; now the name.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| unreadable(folder, &error))?;
            let size = ours.metadata().map_err(|error| unreadable(path, &error))?.len();
            context.emit(&json!({ "file": path.display().to_string(), "size_bytes": size, "job": job.0 }), || {
                format!("{}: {}, mode 0600: it holds the guest's memory", path.display(), bytes(size))
            })
        }
        Err(failure) if matches!(failure.name.as_str(), crate::follow::INTERRUPTED) || failure.is_kind("TimedOut") => {
            context
                .say(&format!("the export goes on; `{}` is the bundle when its job is done, else throw it away", path.display()));
            Err(failure)
        }
        Err(failure) if failure.exit_code() == vws_bus::failure::exit::UNREACHABLE => {
            context.say(&format!(
                "nobody knows whether `{}` is the bundle: look at its job when the daemon is back",
                path.display()
            ));
            Err(failure)
        }
        Err(failure) => {
            std::fs::remove_file(path).map_err(|error| unreadable(path, &error))?;
            Err(failure)
        }
    }
}

async fn export_to(context: &Context, verb: &Export, found: &find::Found, file: File) -> Result<Record> {
    let mut options = verb.wait.options();
    options.insert(keys::WITH_IMAGES, Variant::from(!verb.without_images));
    let workspace = context.client.workspace(&found.path).await?;
    let job = workspace.export_bundle(Fd::from(OwnedFd::from(file)), &options).await?;
    follow(context, job.as_str(), &format!("export {}", screen::shown(found.record.text("name"))), &verb.wait).await
}

async fn import(context: &Context, verb: &Import) -> Result<()> {
    let file = File::open(&verb.file).map_err(|error| unreadable(&verb.file, &error))?;
    let mut options = verb.wait.options();
    if let Some(name) = &verb.name {
        options.insert(keys::NAME, Variant::from(name.clone()));
    }
    if let Some(owner) = verb.owner {
        options.insert(keys::OWNER, Variant::from(owner));
    }
    let manager = context.client.manager().await?;
    let (workspace, job) = manager.import_bundle(Fd::from(OwnedFd::from(file)), &options).await?;
    let job = follow(context, job.as_str(), &format!("import {}", verb.file.display()), &verb.wait).await?;
    let record = match Object::parse(workspace.as_str()) {
        Some(object) => find::at(context, &object).await?.map(|found| found.record).unwrap_or_default(),
        None => Record::default(),
    };
    let name = record.text("name").to_owned();
    context.emit(&json!({ "workspace": record.0, "job": job.0 }), || {
        if verb.wait.no_wait { action::jobs_table(std::slice::from_ref(&job)) } else { String::new() }
    })?;
    if !verb.wait.no_wait {
        context.say(&format!("next: `vws explain resume {0}`, `vws resume {0}`", screen::shown(&name)));
    }
    Ok(())
}

fn bundles_table(bundles: &[Record]) -> String {
    let rows = bundles
        .iter()
        .map(|bundle| {
            vec![
                bundle.text("name").to_owned(),
                bundle.text("id").to_owned(),
                bytes(bundle.number("size_bytes")),
                mib(bundle.number("memory_mib")),
                bundle.text("backend").to_owned(),
                bundle.text("cpu").to_owned(),
                bundle.text("machine_type").to_owned(),
                local(bundle.number("created_at")),
            ]
        })
        .collect();
    table(&["NAME", "BUNDLE", "SIZE", "MEMORY", "BACKEND", "CPU", "MACHINE", "SINCE"], rows)
}

fn words(bundle: &Record, key: &str) -> String {
    let all = bundle.0.get(key).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

fn shown_bundle(bundle: &Record) -> String {
    let about = fields(&[
        ("bundle", bundle.text("id").to_owned()),
        ("workspace", bundle.text("name").to_owned()),
        ("made", local(bundle.number("created_at"))),
        ("by", format!("{}, {}", bundle.text("backend"), bundle.text("hypervisor"))),
        ("guest", format!("{} vCPUs, {}", bundle.number("vcpus"), mib(bundle.number("memory_mib")))),
        ("paused", if bundle.flag("paused") { "yes" } else { "no" }.to_owned()),
        ("needs", words(bundle, "needs")),
        ("images", words(bundle, "images")),
    ]);
    let rows = bundle
        .list("files")
        .iter()
        .map(|file| vec![file.text("name").to_owned(), bytes(file.number("size_bytes")), file.text("digest").to_owned()])
        .collect();
    format!("{about}\n\n{}", table(&["FILE", "SIZE", "SHA256"], rows))
}

/// What a file says of itself, in the words of `Manager.ListBundles`.
fn described(portable: &Portable) -> Value {
    let it = &portable.manifest;
    json!({
        "id": it.bundle.to_string(),
        "workspace": it.workspace.to_string(),
        "name": it.name,
        "backend": it.backend,
        "created_at": it.created_at.0,
        "size_bytes": portable.total_bytes(),
        "paused": it.paused,
        "vcpus": it.vcpus,
        "memory_mib": it.memory_mib,
        "hypervisor": it.origin.hypervisor,
        "accelerator": it.origin.accelerator,
        "machine_type": it.origin.machine_type,
        "cpu": it.origin.cpu,
        "emulator": it.origin.emulator,
        "needs": it.needs(),
        "images": it.image_digests(),
        "files": portable.entries().iter().map(|entry| json!({
            "name": entry.stream.clone().unwrap_or_else(|| "image".to_owned()),
            "digest": entry.digest,
            "size_bytes": entry.size_bytes,
        })).collect::<Vec<_>>(),
        "with_images": !portable.images.is_empty(),
    })
}

fn shown_file(portable: &Portable, verified: bool) -> String {
    let shown = shown_bundle(&Record(described(portable)));
    if verified { format!("{shown}\n\nevery byte is what its digest says") } else { shown }
}
