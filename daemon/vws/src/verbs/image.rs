//! `vws image`: the catalogue.

use crate::context::Context;
use crate::follow::{Wait, follow};
use crate::launch::unreadable;
use crate::output::{fields, table};
use crate::record::{self, Record};
use crate::units::{bytes, local, mib};
use crate::{Result, action, find, screen};
use serde_json::json;
use std::path::{Path, PathBuf};
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys;
use vws_bus::path::Object;
use zbus::{Fd, Variant};

/// Verbs of `vws image`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Image {
    /// Bring an image into the catalogue, from files of yours or from a URL
    Import(Box<Import>),
    /// List images
    #[command(visible_alias = "ls")]
    List,
    /// Show an image
    Info(Target),
    /// Read all its bytes again and compare them with the digest
    Verify(Verify),
    /// Change name or visibility
    Change(Change),
    /// Take an image out of the catalogue
    #[command(visible_alias = "rm")]
    Remove(Target),
}

/// Arguments of `vws image import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// Name in the catalogue
    name: String,
    /// Root disk: a file of yours, or an http(s) URL; may be left out with --kernel
    #[arg(value_name = "FILE|URL", required_unless_present = "kernel")]
    disk: Option<String>,
    /// Format of the root disk; never guessed
    #[arg(long, value_parser = ["raw", "qcow2"], requires = "disk")]
    format: Option<String>,
    /// sha256 that the root disk must have; required with a URL
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,
    /// Firmware of a whole disk [default: bios]
    #[arg(long, value_parser = ["bios", "uefi"], conflicts_with = "kernel")]
    firmware: Option<String>,
    /// Kernel to boot
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The kernel's command line
    #[arg(long, value_name = "TEXT", requires = "kernel", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// Everybody may see and use it
    #[arg(long)]
    public: bool,
    #[command(flatten)]
    wait: Wait,
}

/// An image.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Name or id of the image
    image: String,
}

/// Arguments of `vws image verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Name or id of the image
    image: String,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `vws image change`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Change {
    /// Name or id of the image
    image: String,
    /// New name
    #[arg(long, group = "what")]
    name: Option<String>,
    /// Who may see and use it
    #[arg(long, value_parser = ["private", "public"], group = "what")]
    visibility: Option<String>,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Image) -> Result<()> {
    match verb {
        Image::Import(import) => import_image(context, import).await,
        Image::List => {
            let mut images = find::list(context, find::Noun::Images, &Args::new()).await?;
            images.sort_by(|a, b| a.text("name").cmp(b.text("name")));
            context.emit(&record::array(&images), || images_table(&images))?;
            if images.is_empty() {
                context.say("no images; `vws image import NAME FILE --format qcow2` brings one in");
            }
            Ok(())
        }
        Image::Info(target) => {
            let found = find::image(context, &target.image).await?;
            context.emit(&found.record.0, || text(&found.record))
        }
        Image::Verify(verify) => {
            let found = find::image(context, &verify.image).await?;
            let job = context.client.image(&found.path).await?.verify(&verify.wait.options()).await?;
            let title = format!("verify {}", screen::shown(found.record.text("name")));
            let job = follow(context, job.as_str(), &title, &verify.wait).await?;
            action::jobs_out(context, &[job], &verify.wait)
        }
        Image::Change(change) => {
            let found = find::image(context, &change.image).await?;
            let mut changes = Args::new();
            for (key, value) in [(keys::NAME, &change.name), (keys::VISIBILITY, &change.visibility)] {
                if let Some(value) = value {
                    changes.insert(key, Variant::from(value.clone()));
                }
            }
            context.client.image(&found.path).await?.change(&changes, &Args::new()).await?;
            let record = find::image(context, &found.path).await?.record;
            context.emit(&record.0, String::new)
        }
        Image::Remove(target) => {
            let found = find::image(context, &target.image).await?;
            context.client.image(&found.path).await?.remove(&Args::new()).await?;
            context.emit(&json!({ "removed": found.record.0 }), String::new)
        }
    }
}

async fn import_image(context: &Context, import: &Import) -> Result<()> {
    let source = source(import)?;
    let (image, job) = context.client.manager().await?.import_image(&import.name, &source, &import.wait.options()).await?;
    let job = follow(context, job.as_str(), &format!("import {}", import.name), &import.wait).await?;
    let record = match Object::parse(image.as_str()) {
        Some(object) => find::at(context, &object).await?.map(|found| found.record).unwrap_or_default(),
        None => Record::default(),
    };
    context.emit(&json!({ "image": record.0, "job": job.0 }), || {
        if import.wait.no_wait {
            action::jobs_table(std::slice::from_ref(&job))
        } else {
            images_table(std::slice::from_ref(&record))
        }
    })?;
    if !import.wait.no_wait {
        context.say(&format!("next: `vws launch {}`", import.name));
    }
    Ok(())
}

/// The `source` of ImportImage: files are opened here, with the rights of who asks, and handed over.
fn source(import: &Import) -> Result<Args<'static>> {
    let mut source = Args::new();
    if let Some(disk) = &import.disk {
        let Some(format) = &import.format else {
            return Err(Failure::of_kind(
                "InvalidArgument",
                "the format of a disk is never guessed; give --format qcow2 or --format raw",
            ));
        };
        source.insert(keys::FORMAT, Variant::from(format.clone()));
        if disk.starts_with("http://") || disk.starts_with("https://") {
            if import.digest.is_none() {
                return Err(Failure::of_kind(
                    "InvalidArgument",
                    format!(
                        "URL `{}`: has no digest; give --digest with its sha256, so that what comes is what you meant",
                        screen::shown(disk)
                    ),
                ));
            }
            source.insert(keys::URL, Variant::from(disk.clone()));
        } else {
            source.insert(keys::FILE, open(Path::new(disk))?);
        }
    }
    for (key, value) in [(keys::DIGEST, &import.digest), (keys::FIRMWARE, &import.firmware), (keys::CMDLINE, &import.cmdline)] {
        if let Some(value) = value {
            source.insert(key, Variant::from(value.clone()));
        }
    }
    for (key, file) in [(keys::KERNEL, &import.kernel), (keys::INITRD, &import.initrd)] {
        if let Some(file) = file {
            source.insert(key, open(file)?);
        }
    }
    if import.public {
        source.insert(keys::VISIBILITY, Variant::from("public"));
    }
    Ok(source)
}

fn open(file: &Path) -> Result<Variant<'static>> {
    let opened = std::fs::File::open(file).map_err(|error| unreadable(file, &error))?;
    if !opened.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(Failure::of_kind("InvalidArgument", format!("file `{}`: is not a regular file", file.display())));
    }
    Ok(Variant::Fd(Fd::from(std::os::fd::OwnedFd::from(opened))))
}

/// A table of images.
pub(crate) fn images_table(images: &[Record]) -> String {
    let rows = images
        .iter()
        .map(|image| {
            vec![
                image.text("name").to_owned(),
                image.text("state").to_owned(),
                image.text("boot").to_owned(),
                image.text("format").to_owned(),
                bytes(image.number("size_bytes")),
                mib(image.number("virtual_size_mib")),
                image.text("visibility").to_owned(),
                image.text("digest").to_owned(),
            ]
        })
        .collect();
    table(&["NAME", "STATE", "BOOT", "FORMAT", "SIZE", "DISK", "VISIBILITY", "SHA256"], rows)
}

fn text(image: &Record) -> String {
    fields(&[
        ("name", image.text("name").to_owned()),
        ("id", image.text("id").to_owned()),
        ("state", image.text("state").to_owned()),
        ("sha256", image.text("digest").to_owned()),
        ("format", image.text("format").to_owned()),
        ("file", bytes(image.number("size_bytes"))),
        ("disk", mib(image.number("virtual_size_mib"))),
        ("boots", format!("from its {} {}", image.text("boot"), image.text("firmware")).trim().to_owned()),
        ("owner", format!("uid {}", image.number("owner"))),
        ("visibility", image.text("visibility").to_owned()),
        ("source", image.text("source").to_owned()),
        ("imported", local(image.number("created_at"))),
    ])
}
