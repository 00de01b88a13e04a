//! Networks: add, change, remove, and who has which address. For administrators; always through the gate.

use super::{CallOptions, NetworkChange, Service, ShownNetwork, answered, digest_of, remember};
use crate::admit::{self, Asked};
use crate::core::{About, Tx};
use crate::policies::Policies;
use std::net::Ipv4Addr;
use std::sync::Arc;
use vws_domain::{
    Address, AddressRange, Caller, Change, Error, ErrorKind, Network, NetworkName, NicNetwork, Pool, Result, Site, Subnet, Verb,
};

/// A network as first described.
pub(crate) fn new_network(name: NetworkName, change: &NetworkChange) -> Result<Network> {
    let kind = change
        .kind
        .ok_or_else(|| Error::invalid(format!("network `{name}`"), "names no kind", "give `kind`: user, bridge or network"))?;
    let network = Network {
        name,
        kind,
        source: String::new(),
        pool: None,
        dhcp: false,
        // A pool promises that an address is whose it was given to.
        anti_spoofing: change.subnet.as_ref().is_some_and(|subnet| !subnet.is_empty()),
        labels: std::collections::BTreeMap::new(),
        enabled: true,
        version: 0,
    };
    changed_network(network, change)
}

/// The network after a change.
pub(crate) fn changed_network(mut network: Network, change: &NetworkChange) -> Result<Network> {
    let object = network.object();
    if change.kind.is_some_and(|kind| kind != network.kind) {
        return Err(Error::invalid(object, "its kind cannot be changed", "remove it and add it anew"));
    }
    if let Some(source) = &change.source {
        network.source.clone_from(source);
    }
    match change.subnet.as_deref() {
        Some("") => network.pool = None,
        Some(text) => {
            let subnet = Subnet::parse(text)?;
            match &mut network.pool {
                Some(pool) => pool.subnet = subnet,
                None => network.pool = Some(Pool { subnet, gateway: None, dns: Vec::new(), ranges: Vec::new() }),
            }
        }
        None => {}
    }
    match &mut network.pool {
        Some(pool) => {
            if let Some(gateway) = &change.gateway {
                pool.gateway = if gateway.is_empty() { None } else { Some(address("gateway", gateway)?) };
            }
            if let Some(dns) = &change.dns {
                pool.dns = dns.iter().map(|server| address("name server", server)).collect::<Result<_>>()?;
            }
            if let Some(ranges) = &change.ranges {
                pool.ranges = ranges.iter().map(|range| AddressRange::parse(range)).collect::<Result<_>>()?;
            }
        }
        None => {
            let given = [
                ("gateway", change.gateway.as_ref().is_some_and(|gateway| !gateway.is_empty())),
                ("dns", change.dns.as_ref().is_some_and(|dns| !dns.is_empty())),
                ("ranges", change.ranges.as_ref().is_some_and(|ranges| !ranges.is_empty())),
            ];
            if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err(Error::invalid(object, format!("has no subnet that `{key}` could go with"), "give `subnet` too"));
            }
        }
    }
    network.dhcp = change.dhcp.unwrap_or(network.dhcp);
    network.anti_spoofing = change.anti_spoofing.unwrap_or(network.anti_spoofing);
    if let Some(labels) = &change.labels {
        network.labels.clone_from(labels);
    }
    network.enabled = change.enabled.unwrap_or(network.enabled);
    network.version += 1;
    network.validated()
}

fn address(what: &str, text: &str) -> Result<Ipv4Addr> {
    text.parse().map_err(|_| {
        Error::invalid(format!("{what} `{}`", vws_domain::shown(text)), "is not an IPv4 address", "write it as 10.0.0.1")
    })
}

/// Refuses a network on which an address that somebody holds would have no place.
pub(crate) fn keeps_held(site: &Site, network: &Network) -> Result<()> {
    let held = || site.addresses().of(&network.name).filter(|pair| pair.released_at.is_none());
    let lost = |pair: &&Arc<Address>| {
        network.pool.as_ref().is_none_or(|pool| !pool.subnet.contains(pair.address) || pool.reserved(pair.address).is_some())
    };
    let Some(first) = held().find(lost) else { return Ok(()) };
    Err(Error::new(
        ErrorKind::InvalidState,
        network.object(),
        format!(
            "{} of {} addresses that are held would have no place on it, the first is {} of workspace `{}`",
            held().filter(lost).count(),
            held().count(),
            first.address,
            first.name
        ),
        "leave the subnet, gateway and name servers so, or destroy these workspaces first",
    )
    .with_code("addresses-held"))
}

/// Live workspaces, serialized ones included, that have a NIC on the network.
fn on_it(site: &Site, name: &NetworkName) -> usize {
    let named = |nic: &vws_domain::Nic| matches!(&nic.network, NicNetwork::Named(network) if network == name);
    site.workspaces().filter(|workspace| workspace.spec.nics.iter().any(named)).count()
}

fn gate(tx: &mut Tx<'_>, policies: &Policies, caller: &Caller, name: &NetworkName) -> Result<()> {
    let request = admit::request_named(Verb::NetworkManage, name.as_str(), Vec::new());
    let asked = Asked { request, caller: caller.clone(), workspace: None, fresh: None, neighbours: None };
    admit::gate(tx, policies, asked).map(drop)
}

fn shown(site: &Site, network: &Arc<Network>) -> ShownNetwork {
    let book = site.addresses();
    ShownNetwork { network: Arc::clone(network), free: book.free(network), held: book.held(&network.name) }
}

impl Service {
    /// Every network with what is free on it, by name.
    #[must_use]
    pub fn networks(&self) -> Vec<ShownNetwork> {
        self.core.read(|site| site.networks().map(|network| shown(site, network)).collect())
    }

    /// So many networks after this one, by name.
    #[must_use]
    pub fn networks_after(&self, cursor: Option<&NetworkName>, most: usize) -> Vec<ShownNetwork> {
        self.core.read(|site| site.networks_after(cursor).take(most).map(|network| shown(site, network)).collect())
    }

    /// One network.
    ///
    /// # Errors
    /// NotFound.
    pub fn network(&self, name: &NetworkName) -> Result<ShownNetwork> {
        self.core.read(|site| site.network(name).map(|network| shown(site, network)).ok_or_else(|| Network::not_found(name)))
    }

    /// Who has which address, by address: of the workspaces that the caller may see; for administrators also what is remembered.
    #[must_use]
    pub fn addresses(&self, caller: &Caller, name: &NetworkName) -> Vec<Arc<Address>> {
        let pairs = self.core.read(|site| {
            let pairs = site.addresses().of(name).filter(|pair| caller.admin || pair.released_at.is_none());
            pairs.map(|pair| (Arc::clone(pair), site.workspace(pair.workspace).cloned())).collect::<Vec<_>>()
        });
        let may = |holder: &Option<Arc<vws_domain::Workspace>>| {
            caller.admin || holder.as_ref().is_some_and(|holder| self.may_view(caller, holder))
        };
        pairs.into_iter().filter(|(_, holder)| may(holder)).map(|(pair, _)| pair).collect()
    }

    /// Adds a network.
    ///
    /// # Errors
    /// AccessDenied, InvalidArgument, AlreadyExists, PolicyFailure, Conflict.
    pub async fn add_network(
        &self,
        caller: &Caller,
        name: NetworkName,
        wanted: NetworkChange,
        options: CallOptions,
    ) -> Result<()> {
        let digest = digest_of(&format!("add-network {name} {wanted:?}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                if answered(tx.site, &caller, &options, &digest)?.is_some() {
                    return Ok(());
                }
                gate(tx, &policies, &caller, &name)?;
                if tx.site.network(&name).is_some() {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("network `{name}`"),
                        "there is one of this name",
                        "change that one, or choose another name",
                    ));
                }
                let network = new_network(name.clone(), &wanted)?;
                tx.event("network.added", About::default(), 0, format!("network `{name}` was added"));
                tx.put(Change::PutNetwork(Arc::new(network)));
                remember(tx, &caller, &options, &digest, None, None, None);
                Ok(())
            })
            .await
    }

    /// Changes a network.
    ///
    /// # Errors
    /// AccessDenied, NotFound, InvalidArgument, InvalidState, PolicyFailure, Conflict.
    pub async fn change_network(
        &self,
        caller: &Caller,
        name: NetworkName,
        wanted: NetworkChange,
        options: CallOptions,
    ) -> Result<()> {
        let digest = digest_of(&format!("change-network {name} {wanted:?}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                if answered(tx.site, &caller, &options, &digest)?.is_some() {
                    return Ok(());
                }
                gate(tx, &policies, &caller, &name)?;
                let network = tx.site.network(&name).cloned().ok_or_else(|| Network::not_found(&name))?;
                let network = changed_network(network.as_ref().clone(), &wanted)?;
                keeps_held(tx.site, &network)?;
                tx.event("network.changed", About::default(), 0, format!("network `{name}` was changed"));
                tx.put(Change::PutNetwork(Arc::new(network)));
                remember(tx, &caller, &options, &digest, None, None, None);
                Ok(())
            })
            .await
    }

    /// Removes a network that no workspace is on.
    ///
    /// # Errors
    /// AccessDenied, NotFound, InvalidState, PolicyFailure, Conflict.
    pub async fn remove_network(&self, caller: &Caller, name: NetworkName, options: CallOptions) -> Result<()> {
        let digest = digest_of(&format!("remove-network {name}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                if answered(tx.site, &caller, &options, &digest)?.is_some() {
                    return Ok(());
                }
                gate(tx, &policies, &caller, &name)?;
                if tx.site.network(&name).is_none() {
                    return Err(Network::not_found(&name));
                }
                let (workspaces, held) = (on_it(tx.site, &name), tx.site.addresses().held(&name));
                if workspaces > 0 || held > 0 {
                    return Err(Error::new(
                        ErrorKind::InvalidState,
                        format!("network `{name}`"),
                        format!("{workspaces} workspaces are on it and hold {held} of its addresses"),
                        "disable it so that nothing new comes, and destroy them first",
                    )
                    .with_code("addresses-held"));
                }
                tx.event("network.removed", About::default(), 0, format!("network `{name}` was removed"));
                tx.put(Change::RemoveNetwork(name));
                remember(tx, &caller, &options, &digest, None, None, None);
                Ok(())
            })
            .await
    }
}
