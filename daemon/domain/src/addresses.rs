//! Who has which address: pairs of address and MAC, held or remembered. A pair is made when an address is first given out; it is
//! held until its machine was seen to be gone, and remembered after that, so that an address keeps its MAC.
//!
//! Owns: the pairs, and indexes over them that are derived from nothing else. Must not know: which address is next (`allot.rs`).

use crate::Timestamp;
use crate::id::{NetworkName, WorkspaceId};
use crate::network::{Mac, Network};
use core::net::Ipv4Addr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An address of a network's pool, its MAC, and who has it or had it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The network.
    pub network: NetworkName,
    /// The address.
    pub address: Ipv4Addr,
    /// The MAC that goes with it.
    pub mac: Mac,
    /// Who has it, or had it last.
    pub workspace: WorkspaceId,
    /// On which of its NICs, from 0.
    pub nic: u32,
    /// uid of the workspace's owner.
    pub owner: u32,
    /// The workspace's name when it got the address.
    pub name: String,
    /// Since when it is held.
    pub since: Timestamp,
    /// When the machine was seen to be gone; `None`: held.
    pub released_at: Option<Timestamp>,
}

/// Every pair of the site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressBook {
    networks: BTreeMap<NetworkName, Pairs>,
    /// Held ones, by workspace and NIC.
    held: BTreeMap<WorkspaceId, BTreeSet<(u32, NetworkName, Ipv4Addr)>>,
    /// Held and remembered ones, by MAC.
    macs: BTreeMap<Mac, BTreeSet<(NetworkName, Ipv4Addr)>>,
}

/// The pairs of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pairs {
    all: BTreeMap<Ipv4Addr, Arc<Address>>,
    /// Remembered ones, the longest free first.
    idle: BTreeSet<(Timestamp, Ipv4Addr)>,
    /// The same by the owner that had it last.
    idle_of: BTreeMap<u32, BTreeSet<(Timestamp, Ipv4Addr)>>,
}

impl AddressBook {
    /// A pair is new or has changed.
    pub(crate) fn put(&mut self, address: &Arc<Address>) {
        self.forget(&address.network, address.address);
        let pairs = self.networks.entry(address.network.clone()).or_default();
        pairs.all.insert(address.address, Arc::clone(address));
        match address.released_at {
            None => {
                let place = (address.nic, address.network.clone(), address.address);
                self.held.entry(address.workspace).or_default().insert(place);
            }
            Some(at) => {
                pairs.idle.insert((at, address.address));
                pairs.idle_of.entry(address.owner).or_default().insert((at, address.address));
            }
        }
        self.macs.entry(address.mac).or_default().insert((address.network.clone(), address.address));
    }

    fn forget(&mut self, network: &NetworkName, address: Ipv4Addr) {
        let Some(pairs) = self.networks.get_mut(network) else { return };
        let Some(old) = pairs.all.remove(&address) else { return };
        match old.released_at {
            None => {
                if let Some(held) = self.held.get_mut(&old.workspace) {
                    held.remove(&(old.nic, network.clone(), address));
                    if held.is_empty() {
                        self.held.remove(&old.workspace);
                    }
                }
            }
            Some(at) => {
                pairs.idle.remove(&(at, address));
                if let Some(idle) = pairs.idle_of.get_mut(&old.owner) {
                    idle.remove(&(at, address));
                    if idle.is_empty() {
                        pairs.idle_of.remove(&old.owner);
                    }
                }
            }
        }
        if let Some(places) = self.macs.get_mut(&old.mac) {
            places.remove(&(network.clone(), address));
            if places.is_empty() {
                self.macs.remove(&old.mac);
            }
        }
    }

    /// The network is no more: its pairs are forgotten.
    pub(crate) fn forget_network(&mut self, network: &NetworkName) {
        let addresses: Vec<Ipv4Addr> = self.of(network).map(|pair| pair.address).collect();
        for address in addresses {
            self.forget(network, address);
        }
        self.networks.remove(network);
    }

    /// The same pairs with every index built anew.
    pub(crate) fn recomputed(&self) -> Self {
        let mut fresh = Self::default();
        for pair in self.networks.values().flat_map(|pairs| pairs.all.values()) {
            fresh.put(pair);
        }
        fresh
    }

    /// A pair.
    #[must_use]
    pub fn get(&self, network: &NetworkName, address: Ipv4Addr) -> Option<&Arc<Address>> {
        self.networks.get(network)?.all.get(&address)
    }

    /// Every pair.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Address>> {
        self.networks.values().flat_map(|pairs| pairs.all.values())
    }

    /// Every pair of a network, by address.
    pub fn of(&self, network: &NetworkName) -> impl Iterator<Item = &Arc<Address>> {
        self.networks.get(network).into_iter().flat_map(|pairs| pairs.all.values())
    }

    /// What a workspace holds, by NIC.
    pub fn held_by(&self, workspace: WorkspaceId) -> impl Iterator<Item = &Arc<Address>> {
        self.held.get(&workspace).into_iter().flatten().filter_map(|(_, network, address)| self.get(network, *address))
    }

    /// Remembered pairs with this MAC.
    pub fn with_mac(&self, mac: Mac) -> impl Iterator<Item = &Arc<Address>> {
        self.macs.get(&mac).into_iter().flatten().filter_map(|(network, address)| self.get(network, *address))
    }

    /// Remembered pairs of a network that this owner had last, the longest free first.
    pub fn idle_of(&self, network: &NetworkName, owner: u32) -> impl Iterator<Item = &Arc<Address>> {
        let pairs = self.networks.get(network);
        let idle = pairs.and_then(|pairs| pairs.idle_of.get(&owner));
        idle.into_iter().flatten().filter_map(move |(_, address)| pairs?.all.get(address))
    }

    /// Remembered pairs of a network, the longest free first.
    pub fn idle(&self, network: &NetworkName) -> impl Iterator<Item = &Arc<Address>> {
        let pairs = self.networks.get(network);
        pairs.into_iter().flat_map(|pairs| pairs.idle.iter().filter_map(|(_, address)| pairs.all.get(address)))
    }

    /// Held addresses of a network, in the pool or beside it.
    #[must_use]
    pub fn held(&self, network: &NetworkName) -> u64 {
        self.networks.get(network).map_or(0, |pairs| (pairs.all.len() - pairs.idle.len()) as u64)
    }

    /// Addresses that the network could give out now.
    #[must_use]
    pub fn free(&self, network: &Network) -> u64 {
        let Some(pool) = &network.pool else { return 0 };
        let held = self.of(&network.name).filter(|pair| pair.released_at.is_none() && pool.gives(pair.address)).count();
        pool.size().saturating_sub(held as u64)
    }
}
