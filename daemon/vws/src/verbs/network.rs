//! `vws network`: what NICs are plugged into, and who has which address. Everybody may look; changes are for administrators.

use crate::context::Context;
use crate::launch::{labels, pair};
use crate::output::{fields, table};
use crate::record::{self, Record};
use crate::units::local;
use crate::{Result, find};
use serde_json::json;
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys;
use vws_bus::path::Object;
use zbus::Variant;

/// Verbs of `vws network`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Network {
    /// List networks
    #[command(visible_alias = "ls")]
    List,
    /// Show a network, and who has which of its addresses
    Show(Target),
    /// Add a network
    Add(Box<Add>),
    /// Change what is configured of a network
    Change(Box<Change>),
    /// Let new workspaces be on a network
    Enable(Target),
    /// Let no new workspaces be on a network; those on it stay
    Disable(Target),
    /// Forget a network that no workspace is on, and the addresses that it remembers
    #[command(visible_alias = "rm")]
    Remove(Target),
}

/// A network.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Name of the network
    network: String,
}

/// Arguments of `vws network add`.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// Name of the network
    network: String,
    /// What NICs on it are plugged into; network is one that the hypervisor manages
    #[arg(long, value_parser = ["user", "bridge", "network"], value_name = "KIND")]
    kind: String,
    #[command(flatten)]
    settings: Settings,
    /// Let no workspaces be on it yet
    #[arg(long)]
    disabled: bool,
}

/// Arguments of `vws network change`.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// Name of the network
    network: String,
    #[command(flatten)]
    settings: Settings,
}

/// What is configured of a network.
#[derive(Debug, clap::Args)]
struct Settings {
    /// The bridge, or the hypervisor's network, by its name on the hosts
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Subnet from which NICs get addresses, for instance 10.0.0.0/24; an empty one: the network gives out none
    #[arg(long, value_name = "SUBNET")]
    subnet: Option<String>,
    /// The way out, an address of the subnet; an empty one: none
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<String>,
    /// Name server; repeatable; changing replaces all
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// What is given out, for instance 10.0.0.10-10.0.0.99; repeatable; changing replaces all [default: the whole subnet]
    #[arg(long, value_name = "FROM-TO")]
    range: Vec<String>,
    /// Enter addresses into the DHCP service of the hypervisor's network [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    dhcp: Option<bool>,
    /// Stop guests that send from a MAC or address that is not theirs [default: true with a subnet]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    anti_spoofing: Option<bool>,
    /// Label; repeatable; changing replaces all
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE")]
    label: Vec<(String, String)>,
}

impl Settings {
    fn args(&self) -> Args<'static> {
        let mut args = Args::new();
        let words = [(keys::SOURCE, &self.source), (keys::SUBNET, &self.subnet), (keys::GATEWAY, &self.gateway)];
        args.extend(words.into_iter().filter_map(|(key, word)| word.clone().map(|word| (key, Variant::from(word)))));
        let lists = [(keys::DNS, &self.dns), (keys::RANGES, &self.range)];
        args.extend(lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key, Variant::from(list.clone()))));
        let flags = [(keys::DHCP, self.dhcp), (keys::ANTI_SPOOFING, self.anti_spoofing)];
        args.extend(flags.into_iter().filter_map(|(key, flag)| flag.map(|flag| (key, Variant::from(flag)))));
        if !self.label.is_empty() {
            args.insert(keys::LABELS, labels(&self.label));
        }
        args
    }
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Network) -> Result<()> {
    match verb {
        Network::List => {
            let mut networks = find::list(context, find::Noun::Networks, &Args::new()).await?;
            networks.sort_by(|a, b| a.text("name").cmp(b.text("name")));
            context.emit(&record::array(&networks), || networks_table(&networks))?;
            if networks.is_empty() {
                context.say("no networks; `vws network add NAME --kind bridge --source br0 --subnet 10.0.0.0/24` adds one");
            }
            Ok(())
        }
        Network::Show(target) => {
            let found = find::network(context, &target.network).await?;
            let addresses = context.client.network(&found.path).await?.addresses(&Args::new()).await?;
            let addresses: Vec<Record> = addresses.iter().map(Record::new).collect();
            let whole = found.record.clone().with("addresses", record::array(&addresses));
            context.emit(&whole.0, || text(&found.record, &addresses))
        }
        Network::Add(add) => {
            let mut network = add.settings.args();
            network.insert(keys::KIND, Variant::from(add.kind.clone()));
            network.insert(keys::ENABLED, Variant::from(!add.disabled));
            let path = context.client.manager().await?.add_network(&add.network, &network, &Args::new()).await?;
            let record = match Object::parse(path.as_str()) {
                Some(object) => find::at(context, &object).await?.map(|found| found.record).unwrap_or_default(),
                None => Record::default(),
            };
            context.emit(&record.0, || networks_table(std::slice::from_ref(&record)))
        }
        Network::Change(change) => {
            let changes = change.settings.args();
            if changes.is_empty() {
                let message = "nothing to change; `vws network change --help` shows what can be";
                return Err(Failure::of_kind("InvalidArgument", message));
            }
            changed(context, &change.network, changes).await
        }
        Network::Enable(target) => changed(context, &target.network, [(keys::ENABLED, Variant::from(true))].into()).await,
        Network::Disable(target) => changed(context, &target.network, [(keys::ENABLED, Variant::from(false))].into()).await,
        Network::Remove(target) => {
            let found = find::network(context, &target.network).await?;
            context.client.network(&found.path).await?.remove(&Args::new()).await?;
            context.emit(&json!({ "removed": found.record.0 }), String::new)
        }
    }
}

async fn changed(context: &Context, name: &str, changes: Args<'_>) -> Result<()> {
    let found = find::network(context, name).await?;
    context.client.network(&found.path).await?.change(&changes, &Args::new()).await?;
    let record = find::network(context, name).await?.record;
    context.emit(&record.0, || networks_table(std::slice::from_ref(&record)))
}

fn pool(network: &Record) -> String {
    if network.text("subnet").is_empty() {
        "-".to_owned()
    } else {
        format!("{}/{}", network.number("free"), network.number("size"))
    }
}

fn networks_table(networks: &[Record]) -> String {
    let rows = networks
        .iter()
        .map(|network| {
            vec![
                network.text("name").to_owned(),
                if network.flag("enabled") { "yes" } else { "no" }.to_owned(),
                network.text("kind").to_owned(),
                network.text("source").to_owned(),
                network.text("subnet").to_owned(),
                network.text("gateway").to_owned(),
                pool(network),
                network.pairs("labels"),
            ]
        })
        .collect();
    table(&["NAME", "ENABLED", "KIND", "SOURCE", "SUBNET", "GATEWAY", "FREE", "LABELS"], rows)
}

fn text(network: &Record, addresses: &[Record]) -> String {
    let words = |key: &str| network.texts(key).join(", ");
    let yes = |key: &str| if network.flag(key) { "yes" } else { "no" }.to_owned();
    let mut parts = vec![fields(&[
        ("name", network.text("name").to_owned()),
        ("enabled", if network.flag("enabled") { "yes" } else { "no: nothing new comes onto it" }.to_owned()),
        ("kind", network.text("kind").to_owned()),
        ("source", network.text("source").to_owned()),
        ("subnet", network.text("subnet").to_owned()),
        ("gateway", network.text("gateway").to_owned()),
        ("dns", words("dns")),
        ("ranges", words("ranges")),
        ("free", pool(network)),
        ("held", network.number("held").to_string()),
        ("dhcp", yes("dhcp")),
        ("anti-spoofing", yes("anti_spoofing")),
        ("labels", network.pairs("labels")),
    ])];
    if !addresses.is_empty() {
        let rows = addresses
            .iter()
            .map(|address| {
                let released = address.number("released_at");
                vec![
                    address.text("address").to_owned(),
                    address.text("mac").to_owned(),
                    address.text("name").to_owned(),
                    address.number("owner").to_string(),
                    local(address.number("since")),
                    if released == 0 { String::new() } else { local(released) },
                ]
            })
            .collect();
        parts.push(table(&["ADDRESS", "MAC", "WORKSPACE", "OWNER", "SINCE", "FREE SINCE"], rows));
    }
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use clap::Parser;
    use vws_bus::keys::{self, check};

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn options_have_the_types_of_the_contract() {
        let words = ["vws", "--source=br0", "--subnet=10.0.0.0/24", "--gateway=10.0.0.1", "--dns=10.0.0.2", "--dns=9.9.9.9"];
        let more = ["--range=10.0.0.5-10.0.0.9", "--dhcp", "--anti-spoofing=false", "--label=a=b"];
        let args = Line::try_parse_from(words.into_iter().chain(more)).unwrap().settings.args();
        // All but `enabled`, which has verbs of its own.
        assert_eq!(args.len() + 1, keys::NETWORK_CHANGES.len());
        for (key, value) in args {
            assert_eq!(check(keys::NETWORK_CHANGES, key, &value.value_signature().to_string()), Ok(()), "{key}");
        }
    }
}
