//! `vws host`: the machines. Everybody may look; changes are for administrators.

use crate::context::Context;
use crate::follow::{Wait, follow};
use crate::launch::{labels, pair};
use crate::output::{fields, table};
use crate::record::{self, Record};
use crate::units::{bytes, disk_gib, local, memory_mib, mib};
use crate::{Result, action, find};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys;
use vws_bus::path::Object;
use zbus::Variant;

/// Verbs of `vws host`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Host {
    /// List hosts
    #[command(visible_alias = "ls")]
    List,
    /// Show a host
    Show(Target),
    /// Add a host, and probe it by booting a tiny guest on it
    Add(Box<Add>),
    /// Change what is configured of a host
    Change(Box<Change>),
    /// Find out anew what a host can do, by booting a tiny guest on it
    Probe(Probe),
    /// Let new workspaces be placed on a host
    Enable(Target),
    /// Place no new workspaces on a host; those on it stay
    Disable(Target),
    /// Disable a host and move what is on it to others; shows the plan and asks first
    Drain(super::drain::Drain),
    /// Drain a host that is to be left at once: what cannot move live goes through a bundle, or stays in one
    Evacuate(super::drain::Drain),
    /// Let new workspaces come again: the same as enable
    Undrain(Target),
    /// List the images in a host's cache, or remove one
    Images(Images),
    /// Forget a host on which no workspace is
    #[command(visible_alias = "rm")]
    Remove(Target),
}

/// A host.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Name of the host
    host: String,
}

/// Arguments of `vws host images`.
#[derive(Debug, clap::Args)]
pub(crate) struct Images {
    /// Name of the host
    host: String,
    /// Remove this one, by its digest or the beginning of it; it comes back when a workspace needs it
    #[arg(long, value_name = "DIGEST")]
    remove: Option<String>,
}

/// Arguments of `vws host probe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Probe {
    /// Name of the host
    host: String,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `vws host add`.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// Name of the host
    host: String,
    /// Backend that administers it; `vws backend list` shows them
    #[arg(long)]
    backend: String,
    #[command(flatten)]
    settings: Settings,
    /// Place nothing on it yet
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `vws host change`.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// Name of the host
    host: String,
    #[command(flatten)]
    settings: Settings,
}

/// What is configured of a host.
#[derive(Debug, clap::Args)]
struct Settings {
    /// libvirt's URI of it, short for --setting uri=URI
    #[arg(long)]
    uri: Option<String>,
    /// Setting for the backend; true, false and numbers are taken as such; repeatable; changing replaces all
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE")]
    setting: Vec<(String, String)>,
    /// Label; repeatable; changing replaces all
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE")]
    label: Vec<(String, String)>,
    /// vCPUs given out per real CPU, in percent [default: 100]
    #[arg(long, value_name = "PERCENT")]
    cpu_overcommit_percent: Option<u64>,
    /// Memory given out per real memory, in percent [default: 100]
    #[arg(long, value_name = "PERCENT")]
    memory_overcommit_percent: Option<u64>,
    /// vCPUs that it keeps for itself
    #[arg(long, value_name = "N")]
    reserve_vcpus: Option<u64>,
    /// Memory that it keeps for itself, for instance 2G
    #[arg(long, value_parser = memory_mib, value_name = "SIZE")]
    reserve_memory: Option<u64>,
    /// Disk that it keeps for itself, for instance 20G
    #[arg(long, value_parser = disk_gib, value_name = "SIZE")]
    reserve_disk: Option<u64>,
    /// What images in its cache may take, for instance 200G; 0 is no limit
    #[arg(long, value_parser = disk_gib, value_name = "SIZE")]
    image_cache: Option<u64>,
}

impl Settings {
    fn args(&self) -> Args<'static> {
        let mut args = Args::new();
        let mut settings: BTreeMap<String, Variant<'static>> =
            self.setting.iter().map(|(key, value)| (key.clone(), scalar(value))).collect();
        if let Some(uri) = &self.uri {
            settings.insert("uri".to_owned(), Variant::from(uri.clone()));
        }
        if !settings.is_empty() {
            args.insert(keys::SETTINGS, Variant::from(settings));
        }
        if !self.label.is_empty() {
            args.insert(keys::LABELS, labels(&self.label));
        }
        let numbers = [
            (keys::CPU_OVERCOMMIT_PERCENT, self.cpu_overcommit_percent),
            (keys::MEMORY_OVERCOMMIT_PERCENT, self.memory_overcommit_percent),
            (keys::RESERVE_VCPUS, self.reserve_vcpus),
            (keys::RESERVE_MEMORY_MIB, self.reserve_memory),
            (keys::RESERVE_DISK_GIB, self.reserve_disk),
            (keys::IMAGE_CACHE_GIB, self.image_cache),
        ];
        args.extend(numbers.into_iter().filter_map(|(key, value)| value.map(|value| (key, Variant::from(value)))));
        args
    }
}

/// A word as the type that it looks like.
fn scalar(word: &str) -> Variant<'static> {
    if let Ok(truth) = word.parse::<bool>() {
        return Variant::from(truth);
    }
    if let Ok(number) = word.parse::<u64>() {
        return Variant::from(number);
    }
    Variant::from(word.to_owned())
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Host) -> Result<()> {
    match verb {
        Host::List => {
            let mut hosts = find::list(context, find::Noun::Hosts, &Args::new()).await?;
            hosts.sort_by(|a, b| a.text("name").cmp(b.text("name")));
            context.emit(&record::array(&hosts), || hosts_table(&hosts))?;
            if hosts.is_empty() {
                context.say("no hosts; `vws host add NAME --backend kvm --uri qemu:///system` adds one");
            }
            Ok(())
        }
        Host::Show(target) => {
            let found = find::host(context, &target.host).await?;
            context.emit(&found.record.0, || text(&found.record))
        }
        Host::Add(add) => {
            let mut host = add.settings.args();
            host.insert(keys::BACKEND, Variant::from(add.backend.clone()));
            host.insert(keys::ENABLED, Variant::from(!add.disabled));
            let (path, job) = context.client.manager().await?.add_host(&add.host, &host, &add.wait.options()).await?;
            let job = follow(context, job.as_str(), &format!("probe {}", add.host), &add.wait).await?;
            let record = match Object::parse(path.as_str()) {
                Some(object) => find::at(context, &object).await?.map(|found| found.record).unwrap_or_default(),
                None => Record::default(),
            };
            context.emit(&json!({ "host": record.0, "job": job.0 }), || {
                if add.wait.no_wait {
                    action::jobs_table(std::slice::from_ref(&job))
                } else {
                    hosts_table(std::slice::from_ref(&record))
                }
            })
        }
        Host::Change(change) => {
            let changes = change.settings.args();
            if changes.is_empty() {
                return Err(Failure::of_kind("InvalidArgument", "nothing to change; `vws host change --help` shows what can be"));
            }
            changed(context, &change.host, changes).await
        }
        Host::Probe(probe) => {
            let found = find::host(context, &probe.host).await?;
            let job = context.client.host(&found.path).await?.probe(&probe.wait.options()).await?;
            let job = follow(context, job.as_str(), &format!("probe {}", probe.host), &probe.wait).await?;
            if probe.wait.no_wait {
                return action::jobs_out(context, &[job], &probe.wait);
            }
            let record = find::host(context, &probe.host).await?.record;
            context.emit(&json!({ "host": record.0, "job": job.0 }), || text(&record))
        }
        Host::Images(verb) => images(context, verb).await,
        Host::Drain(drain) => super::drain::run(context, drain, false).await,
        Host::Evacuate(drain) => super::drain::run(context, drain, true).await,
        Host::Enable(target) | Host::Undrain(target) => {
            changed(context, &target.host, [(keys::ENABLED, Variant::from(true))].into()).await
        }
        Host::Disable(target) => changed(context, &target.host, [(keys::ENABLED, Variant::from(false))].into()).await,
        Host::Remove(target) => {
            let found = find::host(context, &target.host).await?;
            context.client.host(&found.path).await?.remove(&Args::new()).await?;
            context.emit(&json!({ "removed": found.record.0 }), String::new)
        }
    }
}

async fn changed(context: &Context, name: &str, changes: Args<'_>) -> Result<()> {
    let found = find::host(context, name).await?;
    context.client.host(&found.path).await?.change(&changes, &Args::new()).await?;
    let record = find::host(context, name).await?.record;
    context.emit(&record.0, || hosts_table(std::slice::from_ref(&record)))
}

async fn images(context: &Context, verb: &Images) -> Result<()> {
    let found = find::host(context, &verb.host).await?;
    let host = context.client.host(&found.path).await?;
    let list = async || -> Result<Vec<Record>> { Ok(host.images(&Args::new()).await?.iter().map(Record::new).collect()) };
    let mut images = list().await?;
    if let Some(word) = &verb.remove {
        let matching: Vec<&str> =
            images.iter().map(|image| image.text("digest")).filter(|digest| digest.starts_with(word.as_str())).collect();
        let digest = match matching.as_slice() {
            [one] => one,
            [] => word.as_str(),
            [_, _, ..] => {
                let text = format!("{} images begin with `{word}`; write more of the digest", matching.len());
                return Err(Failure::of_kind("InvalidArgument", &text));
            }
        };
        host.remove_image(digest, &Args::new()).await?;
        images = list().await?;
    }
    images.sort_by_key(|image| std::cmp::Reverse(image.number("last_used")));
    context.emit(&record::array(&images), || {
        let rows = images
            .iter()
            .map(|image| {
                vec![
                    image.text("digest").chars().take(12).collect(),
                    bytes(image.number("size_bytes")),
                    image.number("workspaces").to_string(),
                    local(image.number("last_used")),
                    image.texts("names").join(" "),
                ]
            })
            .collect();
        table(&["DIGEST", "SIZE", "WORKSPACES", "LAST USED", "NAMES"], rows)
    })
}

/// `free/capacity` of a resource.
fn of(host: &Record, key: &str, show: fn(u64) -> String) -> String {
    format!("{}/{}", show(host.inner("free").number(key)), show(host.inner("capacity").number(key)))
}

fn hosts_table(hosts: &[Record]) -> String {
    let rows = hosts
        .iter()
        .map(|host| {
            vec![
                host.text("name").to_owned(),
                host.text("state").to_owned(),
                if host.flag("enabled") { "yes" } else { "no" }.to_owned(),
                host.text("backend").to_owned(),
                host.text("accelerator").to_owned(),
                of(host, "vcpus", |n| n.to_string()),
                of(host, "memory_mib", mib),
                of(host, "disk_gib", |n| format!("{n}G")),
                host.number("workspaces").to_string(),
                host.pairs("labels"),
            ]
        })
        .collect();
    table(
        &["NAME", "STATE", "ENABLED", "BACKEND", "RUNS BY", "FREE VCPUS", "FREE MEMORY", "FREE DISK", "WORKSPACES", "LABELS"],
        rows,
    )
}

fn text(host: &Record) -> String {
    let accelerator = match (host.text("accelerator"), host.text("accelerator_reason")) {
        (name, "") => name.to_owned(),
        (name, reason) => format!("{name} - {reason}"),
    };
    let mut parts = vec![fields(&[
        ("name", host.text("name").to_owned()),
        ("state", host.text("state").to_owned()),
        ("reason", host.text("reason").to_owned()),
        ("enabled", if host.flag("enabled") { "yes" } else { "no: nothing new is placed here" }.to_owned()),
        ("backend", host.text("backend").to_owned()),
        ("hypervisor", host.text("hypervisor").to_owned()),
        ("runs by", accelerator),
        ("arch", host.text("arch").to_owned()),
        ("vcpus", format!("{} free, {} in all", of(host, "vcpus", |n| n.to_string()), host.inner("total").number("vcpus"))),
        ("memory", format!("{} free, {} in all", of(host, "memory_mib", mib), mib(host.inner("total").number("memory_mib")))),
        (
            "disk",
            format!("{} free, {}G in all", of(host, "disk_gib", |n| format!("{n}G")), host.inner("total").number("disk_gib")),
        ),
        ("workspaces", host.number("workspaces").to_string()),
        ("others' guests", host.number("foreign_guests").to_string()),
        ("labels", host.pairs("labels")),
    ])];
    if let Some(capabilities) = host.0.get("capabilities").and_then(Value::as_object)
        && !capabilities.is_empty()
    {
        let rows = capabilities
            .iter()
            .map(|(name, reason)| match reason.as_str().unwrap_or("") {
                "" => vec![name.clone(), "yes".to_owned(), String::new()],
                reason => vec![name.clone(), "no".to_owned(), reason.to_owned()],
            })
            .collect();
        parts.push(table(&["CAPABILITY", "HERE", "WHY NOT"], rows));
    }
    parts.join("\n\n")
}
