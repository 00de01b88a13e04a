//! Which addresses and MACs the NICs of a new workspace get: a pure function of the site and of what was given before in the same
//! transaction, so that no address is given twice and an explanation shows what a launch would get.
//!
//! The order: the address that was asked for; the pair of a MAC that was asked for; a pair that the same owner had, that of a
//! workspace of the same name first; the lowest address that was never given out; the one that is free for the longest time.

use crate::Timestamp;
use crate::addresses::Address;
use crate::caller::Caller;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{NetworkName, WorkspaceId};
use crate::network::{Mac, Network, Pool};
use crate::site::Site;
use crate::spec::{Nic, NicNetwork};
use core::net::Ipv4Addr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// For whom.
#[derive(Clone, Debug)]
pub struct Asker<'a> {
    /// Who asks: decides what a refusal may tell of others.
    pub caller: &'a Caller,
    /// The new workspace.
    pub workspace: WorkspaceId,
    /// Its name.
    pub name: &'a str,
    /// uid of its owner.
    pub owner: u32,
    /// Now.
    pub now: Timestamp,
}

/// What one transaction gives out.
#[derive(Debug)]
pub struct Allotment<'a> {
    site: &'a Site,
    given: BTreeMap<(NetworkName, Ipv4Addr), Arc<Address>>,
    macs: BTreeSet<Mac>,
}

impl<'a> Allotment<'a> {
    /// Nothing is given yet.
    #[must_use]
    pub fn new(site: &'a Site) -> Self {
        Self { site, given: BTreeMap::new(), macs: BTreeSet::new() }
    }

    /// Fills in the MAC of every NIC, and the address of those on a network with a pool; answers the pairs, to be written.
    ///
    /// # Errors
    /// NotFound (network), InvalidState (disabled network), InvalidArgument and Conflict (address or MAC asked for), NoAddress.
    pub fn nics(&mut self, whom: &Asker<'_>, nics: &mut [Nic]) -> Result<Vec<Arc<Address>>> {
        // MACs that were asked for come first: none of them is made or taken along with an address by a NIC before.
        let mut asked = Vec::with_capacity(nics.len());
        for nic in nics.iter() {
            let mac = if nic.mac.is_empty() { None } else { Some(Mac::parse(&nic.mac)?) };
            if let Some(mac) = mac {
                self.unused(whom, mac)?;
                self.macs.insert(mac);
            }
            asked.push(mac);
        }
        // And so do addresses: a NIC without one does not take what the next one names.
        let mut named = BTreeSet::new();
        for nic in nics.iter() {
            if let (NicNetwork::Named(network), Some(address)) = (&nic.network, nic.address)
                && !named.insert((network.clone(), address))
            {
                return Err(taken(network, address, "is asked for twice"));
            }
        }
        let mut out = Vec::new();
        for (index, (nic, mac)) in nics.iter_mut().zip(asked).enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let pool = match &nic.network {
                NicNetwork::Named(name) => {
                    let network = usable(self.site, name)?;
                    network.pool.as_ref().map(|pool| (network, pool))
                }
                _ => None,
            };
            let Some((network, pool)) = pool else {
                if let (NicNetwork::Named(name), Some(address)) = (&nic.network, nic.address) {
                    return Err(Error::invalid(
                        format!("address {address}"),
                        format!("is asked for on network `{name}`, which gives out none"),
                        "leave the address out",
                    ));
                }
                nic.mac = mac.unwrap_or_else(|| self.made(whom, index)).to_string();
                continue;
            };
            let address = match nic.address {
                Some(address) => self.fixed(whom, network, pool, address)?,
                None => self.next(whom, network, pool, mac, &named)?,
            };
            let remembered = self.site.addresses().get(&network.name, address).map(|pair| pair.mac);
            let mac = mac
                .or_else(|| remembered.filter(|mac| !self.macs.contains(mac) && self.site.nic_with(*mac).is_none()))
                .unwrap_or_else(|| self.made(whom, index));
            self.macs.insert(mac);
            nic.mac = mac.to_string();
            nic.address = Some(address);
            let pair = Arc::new(Address {
                network: network.name.clone(),
                address,
                mac,
                workspace: whom.workspace,
                nic: index,
                owner: whom.owner,
                name: whom.name.to_owned(),
                since: whom.now,
                released_at: None,
            });
            self.given.insert((network.name.clone(), address), Arc::clone(&pair));
            out.push(pair);
        }
        Ok(out)
    }

    /// Whether nobody has the address.
    fn is_free(&self, network: &NetworkName, address: Ipv4Addr) -> bool {
        !self.given.contains_key(&(network.clone(), address))
            && self.site.addresses().get(network, address).is_none_or(|pair| pair.released_at.is_some())
    }

    /// An address that was asked for.
    fn fixed(&self, whom: &Asker<'_>, network: &Network, pool: &Pool, address: Ipv4Addr) -> Result<Ipv4Addr> {
        let object = format!("address {address}");
        let remedy = "choose another, or leave it out to get the next free one";
        if !pool.subnet.contains(address) {
            let fact = format!("is not in subnet {} of network `{}`", pool.subnet, network.name);
            return Err(Error::invalid(object, fact, remedy).with_code("address-outside"));
        }
        if let Some(what) = pool.reserved(address) {
            let fact = format!("is {what} of network `{}`", network.name);
            return Err(Error::invalid(object, fact, remedy).with_code("address-reserved"));
        }
        if self.is_free(&network.name, address) {
            return Ok(address);
        }
        let holder = self
            .given
            .get(&(network.name.clone(), address))
            .or_else(|| self.site.addresses().get(&network.name, address))
            .filter(|pair| whom.caller.admin || pair.owner == whom.caller.uid);
        let fact = holder.map_or_else(|| "is taken".to_owned(), |pair| format!("is held by workspace `{}`", pair.name));
        Err(taken(&network.name, address, &fact))
    }

    /// The next address; not one that another NIC of the same workspace names.
    fn next(
        &self,
        whom: &Asker<'_>,
        network: &Network,
        pool: &Pool,
        mac: Option<Mac>,
        named: &BTreeSet<(NetworkName, Ipv4Addr)>,
    ) -> Result<Ipv4Addr> {
        let book = self.site.addresses();
        let name = &network.name;
        let good =
            |address: Ipv4Addr| pool.gives(address) && self.is_free(name, address) && !named.contains(&(name.clone(), address));
        let found = match mac {
            Some(mac) => book.with_mac(mac).find(|pair| pair.network == *name && good(pair.address)).map(|pair| pair.address),
            // A pair is not broken up for a MAC that was asked for: its owner's others stay whole.
            None => {
                let mut own = book.idle_of(name, whom.owner).filter(|pair| good(pair.address));
                let first = own.next();
                match first {
                    Some(pair) if pair.name == whom.name => Some(pair.address),
                    Some(pair) => Some(own.find(|other| other.name == whom.name).unwrap_or(pair).address),
                    None => None,
                }
            }
        };
        let found = found
            .or_else(|| self.never_given(network, pool).find(|address| good(*address)))
            .or_else(|| book.idle(name).map(|pair| pair.address).find(|address| good(*address)));
        found.ok_or_else(|| {
            let given = self.given.keys().filter(|(of, address)| of == name && pool.gives(*address)).count() as u64;
            Error::new(
                ErrorKind::NoAddress,
                network.object(),
                format!("{} of {} addresses are free, 1 more is needed", book.free(network).saturating_sub(given), pool.size()),
                "destroy what is not needed, choose another network, or ask an administrator to widen the pool",
            )
            .with_code("pool-empty")
        })
    }

    /// Addresses without a pair, lowest first: the pool and the pairs are walked side by side, both in order.
    fn never_given<'b>(&'b self, network: &'b Network, pool: &'b Pool) -> impl Iterator<Item = Ipv4Addr> + 'b {
        let mut pairs = self.site.addresses().of(&network.name).map(|pair| pair.address).peekable();
        pool.addresses().filter(move |address| {
            while pairs.next_if(|paired| paired < address).is_some() {}
            pairs.peek() != Some(address)
        })
    }

    /// A MAC that nobody has, also no remembered pair.
    fn made(&mut self, whom: &Asker<'_>, nic: u32) -> Mac {
        let mut attempt = 0;
        loop {
            let mac = Mac::made(whom.workspace, nic, attempt);
            let unused = self.site.nic_with(mac).is_none()
                && self.site.addresses().with_mac(mac).next().is_none()
                && self.macs.insert(mac);
            // 2^24 are there: the site is full of machines long before they are, and the bound only keeps this loop finite.
            if unused || attempt == u32::from(u16::MAX) {
                return mac;
            }
            attempt += 1;
        }
    }

    /// Refuses a MAC that somebody has.
    fn unused(&self, whom: &Asker<'_>, mac: Mac) -> Result<()> {
        let object = format!("MAC address {mac}");
        let remedy = "choose another, or leave it out to have one made";
        let conflict = |fact: String| Error::new(ErrorKind::Conflict, object.clone(), fact, remedy).with_code("mac-taken");
        if self.macs.contains(&mac) {
            return Err(conflict("is asked for twice".to_owned()));
        }
        let Some(holder) = self.site.nic_with(mac) else { return Ok(()) };
        let told = self.site.workspace(holder).filter(|holder| whom.caller.admin || holder.owner == whom.caller.uid);
        Err(conflict(told.map_or_else(|| "is taken".to_owned(), |holder| format!("is that of {}", holder.object()))))
    }
}

fn taken(network: &NetworkName, address: Ipv4Addr, fact: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("address {address} of network `{network}`"),
        fact,
        "choose another, or leave it out to get the next free one",
    )
    .with_code("address-taken")
}

/// A network that a new NIC may be on.
fn usable<'a>(site: &'a Site, name: &NetworkName) -> Result<&'a Network> {
    let network = site.network(name).ok_or_else(|| Network::not_found(name))?;
    if network.enabled {
        return Ok(network);
    }
    Err(Error::new(
        ErrorKind::InvalidState,
        network.object(),
        "is disabled: it takes no new workspaces",
        "choose another; `vws network list` shows them",
    )
    .with_code("network-disabled"))
}
