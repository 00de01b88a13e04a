//! `vws cluster`: workspaces that are leased together and know each other.

use super::each::{self, Chosen};
use crate::context::Context;
use crate::find;
use crate::follow::{Wait, follow};
use crate::launch::unreadable;
use crate::output::{WORKSPACE_HEADER, table, workspace_row};
use crate::record::{Record, array};
use crate::units::{disk_gib, lease_seconds, memory_mib, now};
use crate::{Result, screen};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys::{self, Key};
use zbus::Variant;

/// The verbs of clusters.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Cluster {
    /// Lease a cluster: every member is placed, or none
    Launch(Box<Launch>),
    /// List clusters
    #[command(visible_alias = "ls")]
    List,
    /// Show the members of a cluster
    Show {
        /// Name of the cluster
        name: String,
    },
    /// Start its members
    Start(Named),
    /// Stop its members
    Stop(Named),
    /// Let its members stand still
    Pause(Named),
    /// Let its members go on, from pause or from their bundles
    Resume(Named),
    /// Write its members into bundles
    Serialize(Named),
    /// End its members
    Destroy(Named),
    /// Set a new end of the lease of all
    Renew {
        #[command(flatten)]
        named: Named,
        /// How long from now, for instance 2h; none: without end
        #[arg(long, alias = "for", value_parser = lease_seconds, value_name = "TIME")]
        lease: u64,
    },
}

/// One cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// Name of the cluster
    name: String,
    #[command(flatten)]
    wait: Wait,
}

/// Arguments of `vws cluster launch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A file has one table a role, with the keys of the D-Bus contract's CreateWorkspace:

  [head]
  image = \"debian-12\"
  memory-mib = 4096
  [worker]
  count = 8
  image = \"debian-12\"
  apart-from = [\"worker\"]")]
pub(crate) struct Launch {
    /// Name of the cluster
    name: String,
    /// Roles and what they are, as TOML
    #[arg(long, value_name = "FILE", required_unless_present = "role")]
    file: Option<PathBuf>,
    /// A role: NAME=IMAGE, then count=, memory=, vcpus=, disk=, apart-from=, together-with=, preemptible joined by commas; repeatable
    #[arg(long, value_parser = role, value_name = "ROLE")]
    role: Vec<RoleArgs>,
    /// How long, for all [default: what the policies give]
    #[arg(long, value_parser = lease_seconds, value_name = "TIME")]
    lease: Option<u64>,
    /// What happens at the lease's end [default: stop]
    #[arg(long, value_parser = ["stop", "serialize", "destroy"], value_name = "ACTION")]
    end_action: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

/// A role as the bus wants it.
type RoleArgs = BTreeMap<String, Variant<'static>>;

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Cluster) -> Result<()> {
    let (named, word, lease) = match verb {
        Cluster::Launch(launch) => return run_launch(context, launch).await,
        Cluster::List => return list(context).await,
        Cluster::Show { name } => return show(context, name).await,
        Cluster::Start(named) => (named, "start", None),
        Cluster::Stop(named) => (named, "stop", None),
        Cluster::Pause(named) => (named, "pause", None),
        Cluster::Resume(named) => (named, "resume", None),
        Cluster::Serialize(named) => (named, "serialize", None),
        Cluster::Destroy(named) => (named, "destroy", None),
        Cluster::Renew { named, lease } => (named, "renew", Some(*lease)),
    };
    let chosen = Chosen { cluster: Some(named.name.clone()), ..Chosen::default() };
    each::act(context, word, &chosen, lease, None, &named.wait).await
}

async fn run_launch(context: &Context, verb: &Launch) -> Result<()> {
    let mut roles = match &verb.file {
        Some(file) => read(file)?,
        None => Vec::new(),
    };
    roles.extend(verb.role.iter().cloned());
    let mut cluster = Args::new();
    cluster.insert(keys::ROLES, Variant::from(roles));
    if let Some(lease) = verb.lease {
        cluster.insert(keys::LEASE_SECONDS, Variant::from(lease));
    }
    if let Some(action) = &verb.end_action {
        cluster.insert(keys::END_ACTION, Variant::from(action.clone()));
    }
    let manager = context.client.manager().await?;
    let (_, job) = manager.create_cluster(&verb.name, &cluster, &verb.wait.options()).await?;
    let job = follow(context, job.as_str(), &format!("launch cluster {}", verb.name), &verb.wait).await?;
    let members = members(context, &verb.name).await?;
    context.emit(&json!({ "members": array(&members), "job": job.0 }), || rows(&members))
}

async fn members(context: &Context, name: &str) -> Result<Vec<Record>> {
    let mut filter = Args::new();
    filter.insert(keys::CLUSTER, Variant::from(name.to_owned()));
    let mut found = find::workspaces(context, &filter).await?;
    found.sort_by(|a, b| a.text("name").cmp(b.text("name")));
    Ok(found)
}

fn rows(members: &[Record]) -> String {
    let now = now();
    table(&WORKSPACE_HEADER, members.iter().map(|member| workspace_row(member, now)).collect())
}

async fn show(context: &Context, name: &str) -> Result<()> {
    let members = members(context, name).await?;
    if members.is_empty() {
        return Err(Failure::of_kind("NotFound", format!("cluster `{name}`: not found; `vws cluster list` shows clusters")));
    }
    context.emit(&array(&members), || rows(&members))
}

async fn list(context: &Context) -> Result<()> {
    let mut clusters: BTreeMap<(String, u64), Vec<Record>> = BTreeMap::new();
    for workspace in find::workspaces(context, &Args::new()).await? {
        if !workspace.text("cluster").is_empty() {
            let key = (workspace.text("cluster").to_owned(), workspace.number("owner"));
            clusters.entry(key).or_default().push(workspace);
        }
    }
    let data: Vec<_> = clusters
        .iter()
        .map(|((name, owner), members)| {
            let mut roles: BTreeMap<&str, u64> = BTreeMap::new();
            let mut states: BTreeMap<&str, u64> = BTreeMap::new();
            for member in members {
                *roles.entry(member.text("role")).or_default() += 1;
                *states.entry(member.text("state")).or_default() += 1;
            }
            json!({ "name": name, "owner": owner, "roles": roles, "states": states })
        })
        .collect();
    let counted = |value: &serde_json::Value| {
        let pairs = value.as_object().into_iter().flatten();
        pairs.map(|(name, count)| format!("{} {name}", count)).collect::<Vec<_>>().join(", ")
    };
    let lines = data
        .iter()
        .map(|cluster| {
            vec![
                screen::shown(cluster["name"].as_str().unwrap_or_default()).to_string(),
                cluster["owner"].to_string(),
                counted(&cluster["roles"]),
                counted(&cluster["states"]),
            ]
        })
        .collect();
    context.emit(&json!(data), || table(&["NAME", "OWNER", "ROLES", "STATES"], lines))
}

/// `head=debian-12,count=2,memory=1G`.
fn role(text: &str) -> std::result::Result<RoleArgs, String> {
    let form =
        "write NAME=IMAGE, then count=N, memory=SIZE, vcpus=N, disk=SIZE, apart-from=ROLE, together-with=ROLE, preemptible";
    let mut words = text.split(',');
    let (name, image) = words.next().and_then(|word| word.split_once('=')).ok_or(form)?;
    let mut role = RoleArgs::from([
        (keys::ROLE_NAME.to_owned(), Variant::from(name.to_owned())),
        (keys::IMAGE.to_owned(), Variant::from(image.to_owned())),
    ]);
    let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for word in words {
        if word == "preemptible" {
            role.insert(keys::PREEMPTIBLE.to_owned(), Variant::from(true));
            continue;
        }
        let (key, value) = word.split_once('=').ok_or(form)?;
        let number = || value.parse::<u64>().map_err(|_| format!("`{word}` is not a whole number"));
        let (key, amount) = match key {
            "count" => (keys::COUNT, number()?),
            "vcpus" => (keys::VCPUS, number()?),
            "memory" => (keys::MEMORY_MIB, memory_mib(value)?),
            "disk" => (keys::DISK_GIB, disk_gib(value)?),
            "apart-from" => {
                lists.entry(keys::APART_FROM).or_default().push(value.to_owned());
                continue;
            }
            "together-with" => {
                lists.entry(keys::TOGETHER_WITH).or_default().push(value.to_owned());
                continue;
            }
            _ => return Err(format!("`{key}` is not known; {form}")),
        };
        role.insert(key.to_owned(), Variant::from(amount));
    }
    role.extend(lists.into_iter().map(|(key, roles)| (key.to_owned(), Variant::from(roles))));
    Ok(role)
}

/// The roles of a file.
fn read(file: &Path) -> Result<Vec<RoleArgs>> {
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    let wrong = |what: String| Failure::of_kind("InvalidArgument", format!("file `{}`: {what}", file.display()));
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let known: Vec<Key> = [keys::ROLE, keys::SPEC].concat();
    table
        .into_iter()
        .map(|(name, role)| {
            let toml::Value::Table(role) = role else {
                return Err(wrong(format!("`{name}` is not a table; a role is one")));
            };
            let mut args = RoleArgs::from([(keys::ROLE_NAME.to_owned(), Variant::from(name.clone()))]);
            for (key, value) in role {
                let signature = known.iter().find(|known| known.name == key).map_or("", |known| known.signature);
                let value = typed(value, signature).map_err(|what| wrong(format!("`{key}` of role `{name}`: {what}")))?;
                args.insert(key, value);
            }
            Ok(args)
        })
        .collect()
}

/// A value of the file as the contract wants it; the daemon names what it does not know.
fn typed(value: toml::Value, signature: &str) -> std::result::Result<Variant<'static>, String> {
    match (signature, value) {
        (_, toml::Value::String(text)) => Ok(Variant::from(text)),
        (_, toml::Value::Boolean(flag)) => Ok(Variant::from(flag)),
        (_, toml::Value::Integer(number)) => {
            u64::try_from(number).map(Variant::from).map_err(|_| format!("{number} is below zero"))
        }
        ("as", toml::Value::Array(list)) => list
            .into_iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| "has an element that is no text".to_owned()))
            .collect::<std::result::Result<Vec<String>, _>>()
            .map(Variant::from),
        ("aa{sv}", toml::Value::Array(list)) => {
            let mut elements: Vec<RoleArgs> = Vec::new();
            for item in list {
                let toml::Value::Table(item) = item else { return Err("has an element that is no table".to_owned()) };
                let element = item.into_iter().map(|(key, value)| typed(value, "").map(|value| (key, value)));
                elements.push(element.collect::<std::result::Result<_, String>>()?);
            }
            Ok(Variant::from(elements))
        }
        ("a{ss}", toml::Value::Table(pairs)) => pairs
            .into_iter()
            .map(|(key, value)| value.as_str().map(|text| (key.clone(), text.to_owned())).ok_or(format!("`{key}` is no text")))
            .collect::<std::result::Result<BTreeMap<String, String>, _>>()
            .map(Variant::from),
        (_, other) => Err(format!("{} does not fit", other.type_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::{role, typed};
    use vws_bus::keys::{self, check};

    #[test]
    fn words_become_a_role_of_the_contract() {
        let role = role("worker=debian,count=8,memory=1G,vcpus=2,disk=10G,apart-from=worker,apart-from=head").unwrap();
        let known = [keys::ROLE, keys::SPEC].concat();
        for (key, value) in &role {
            assert_eq!(check(&known, key, &value.value_signature().to_string()), Ok(()), "{key}");
        }
        assert_eq!(role.len(), 7);
    }

    #[test]
    fn a_file_has_the_types_of_the_contract() {
        let table: toml::Table = "ssh-keys = [\"a\"]\nlabels = { a = \"b\" }\nnics = [{ kind = \"user\" }]".parse().unwrap();
        for (key, value) in table {
            let signature = keys::SPEC.iter().find(|known| known.name == key).unwrap().signature;
            assert_eq!(typed(value, signature).unwrap().value_signature().to_string(), signature);
        }
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for bad in ["", "head", "head=x,count=many", "head=x,colour=red", "head=x,memory=much"] {
            assert!(role(bad).is_err(), "{bad}");
        }
    }
}
