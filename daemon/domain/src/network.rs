//! A network of the site: what NICs are plugged into on the hosts, and the pool of addresses that it gives out.
//!
//! Owns: the nouns of networks (MAC, subnet, range, pool, network) and their validation. Which address is held by whom is
//! `addresses.rs`, which one is given next `allot.rs`.

use crate::error::{Error, Result, shown};
use crate::id::{NetworkName, WorkspaceId};
use core::net::Ipv4Addr;
use std::collections::BTreeMap;
use std::fmt;

/// The named limits of networks.
pub mod network_limits {
    /// Addresses of one pool: as many as a /16 has.
    pub const POOL_ADDRESSES: u64 = 65_536;
    /// Ranges of one pool.
    pub const RANGES: usize = 64;
    /// Name servers of one pool.
    pub const DNS: usize = 8;
    /// Length of a subnet's prefix, from and to. A longer one has no room for guests.
    pub const PREFIX: (u8, u8) = (8, 30);
}

/// A MAC address of a NIC: never a multicast one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// Reads `52:54:00:xx:xx:xx`, in either case.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidArgument`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut octets = [0; 6];
        let mut words = text.split(':');
        let mut good = true;
        for octet in &mut octets {
            let word = words.next().filter(|word| word.len() == 2 && word.bytes().all(|b| b.is_ascii_hexdigit()));
            match word.and_then(|word| u8::from_str_radix(word, 16).ok()) {
                Some(value) => *octet = value,
                None => good = false,
            }
        }
        let [first, ..] = octets;
        if good && words.next().is_none() && first & 1 == 0 && octets != [0; 6] {
            return Ok(Self(octets));
        }
        Err(Error::invalid(
            format!("MAC address `{}`", shown(text)),
            "is not six two-digit hexadecimal numbers joined by `:`, or is a multicast address or zero",
            "leave it out to have one made",
        ))
    }

    /// The address that is made for a NIC: the same for the same workspace, NIC and attempt.
    #[must_use]
    pub fn made(workspace: WorkspaceId, nic: u32, attempt: u32) -> Self {
        // The low bits of a time-ordered id are its random ones; the multiplier spreads NICs and attempts over all 24 bits.
        let place = u64::from(nic).wrapping_add(u64::from(attempt) << 32);
        let bits = (workspace.0 as u64).wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mixed = bits ^ (bits >> 24) ^ (bits >> 48);
        let [.., a, b, c] = mixed.to_be_bytes();
        Self([0x52, 0x54, 0, a, b, c])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An IPv4 subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    base: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// Reads `10.0.0.0/24`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidArgument`]: not a subnet, bits of hosts set, or a prefix that leaves no room.
    pub fn parse(text: &str) -> Result<Self> {
        let object = || format!("subnet `{}`", shown(text));
        let parts = text.split_once('/').and_then(|(base, prefix)| Some((base.parse().ok()?, prefix.parse().ok()?)));
        let Some((base, prefix)) = parts else {
            return Err(Error::invalid(object(), "is not an IPv4 subnet", "write it as 10.0.0.0/24"));
        };
        let (least, most) = network_limits::PREFIX;
        if !(least..=most).contains(&prefix) {
            return Err(Error::invalid(object(), format!("has a prefix outside {least} to {most}"), "choose one in that range"));
        }
        let subnet = Self { base, prefix };
        let masked = Ipv4Addr::from(u32::from(base) & subnet.mask());
        if masked == base {
            return Ok(subnet);
        }
        Err(Error::invalid(object(), "has bits of a host set", format!("its subnet is {masked}/{prefix}")))
    }

    fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }

    /// Its first address, which names the subnet itself.
    #[must_use]
    pub fn base(self) -> Ipv4Addr {
        self.base
    }

    /// Length of its prefix in bits.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Its last address, which reaches every machine.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) | !self.mask())
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == u32::from(self.base)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// Addresses from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    /// The first.
    pub first: Ipv4Addr,
    /// The last.
    pub last: Ipv4Addr,
}

impl AddressRange {
    /// Reads `10.0.0.10-10.0.0.99`, or one address.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidArgument`].
    pub fn parse(text: &str) -> Result<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(Error::invalid(
                format!("range `{}`", shown(text)),
                "is not a range of IPv4 addresses",
                "write it as 10.0.0.10-10.0.0.99, the lower address first",
            )),
        }
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    fn count(self) -> u64 {
        u64::from(u32::from(self.last) - u32::from(self.first)) + 1
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The addresses that a network gives out, and what guests are told with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The subnet that they are in.
    pub subnet: Subnet,
    /// The way out, if there is one. Never given out.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers. Those within the subnet are never given out.
    pub dns: Vec<Ipv4Addr>,
    /// What is given out, in order, without overlap; empty: the whole subnet.
    pub ranges: Vec<AddressRange>,
}

impl Pool {
    /// The pool itself if it makes sense; its ranges come back in order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidArgument`] naming what is wrong.
    pub fn validated(mut self) -> Result<Self> {
        let subnet = self.subnet;
        let within = |what: String, address: Ipv4Addr| {
            if subnet.contains(address) && address != subnet.base && address != subnet.broadcast() {
                return Ok(());
            }
            Err(Error::invalid(what, format!("is not the address of a machine in subnet {subnet}"), "name one inside of it"))
        };
        if let Some(gateway) = self.gateway {
            within(format!("gateway {gateway}"), gateway)?;
        }
        crate::spec::count("dns", self.dns.len(), network_limits::DNS)?;
        crate::spec::count("ranges", self.ranges.len(), network_limits::RANGES)?;
        self.ranges.sort_unstable();
        for range in &self.ranges {
            within(format!("range {range}"), range.first)?;
            within(format!("range {range}"), range.last)?;
        }
        for pair in self.ranges.windows(2) {
            if let [one, two] = pair
                && two.first <= one.last
            {
                return Err(Error::invalid(format!("range {two}"), format!("overlaps {one}"), "join them"));
            }
        }
        let size = self.size();
        if (1..=network_limits::POOL_ADDRESSES).contains(&size) {
            return Ok(self);
        }
        Err(Error::invalid(
            format!("pool of subnet {subnet}"),
            format!("has {size} addresses to give out, must have 1 to {}", network_limits::POOL_ADDRESSES),
            "give `ranges` that hold as many",
        ))
    }

    /// What is given out.
    fn spans(&self) -> Vec<AddressRange> {
        if self.ranges.is_empty() {
            vec![AddressRange { first: self.subnet.base, last: self.subnet.broadcast() }]
        } else {
            self.ranges.clone()
        }
    }

    /// What the address is, if no guest may ever have it.
    #[must_use]
    pub fn reserved(&self, address: Ipv4Addr) -> Option<&'static str> {
        if address == self.subnet.base {
            Some("the subnet's own address")
        } else if address == self.subnet.broadcast() {
            Some("the broadcast address")
        } else if self.gateway == Some(address) {
            Some("the gateway")
        } else if self.dns.contains(&address) {
            Some("a name server")
        } else {
            None
        }
    }

    /// Whether the address may be given out unasked.
    #[must_use]
    pub fn gives(&self, address: Ipv4Addr) -> bool {
        let inside =
            if self.ranges.is_empty() { self.subnet.contains(address) } else { self.ranges.iter().any(|r| r.contains(address)) };
        inside && self.reserved(address).is_none()
    }

    /// How many addresses may be given out.
    #[must_use]
    pub fn size(&self) -> u64 {
        let spans = self.spans();
        let mut never: Vec<Ipv4Addr> = vec![self.subnet.base, self.subnet.broadcast()];
        never.extend(self.gateway);
        never.extend(&self.dns);
        never.sort_unstable();
        never.dedup();
        let lost = never.into_iter().filter(|address| spans.iter().any(|span| span.contains(*address))).count() as u64;
        spans.into_iter().map(AddressRange::count).sum::<u64>().saturating_sub(lost)
    }

    /// Every address that may be given out, lowest first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let all = self.spans().into_iter().flat_map(|span| u32::from(span.first)..=u32::from(span.last)).map(Ipv4Addr::from);
        all.filter(|address| self.reserved(*address).is_none())
    }
}

/// What NICs on a network are plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkKind {
    /// The hypervisor's user-mode network.
    User,
    /// A bridge of the host.
    Bridge,
    /// A network that the host's hypervisor manages.
    Network,
}

impl NetworkKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::User, Self::Bridge, Self::Network];

    /// The word on the bus.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Bridge => "bridge",
            Self::Network => "network",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A network of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// What NICs are plugged into.
    pub kind: NetworkKind,
    /// Name of the bridge, or of the hypervisor's network, on every host that has it; empty for user mode.
    pub source: String,
    /// What it gives out; `None`: guests get addresses elsewhere.
    pub pool: Option<Pool>,
    /// Whether its addresses are entered into the DHCP service of the hypervisor's network.
    pub dhcp: bool,
    /// Whether a guest that sends from another MAC or address than its own is stopped.
    pub anti_spoofing: bool,
    /// The site's labels.
    pub labels: BTreeMap<String, String>,
    /// Whether new workspaces may have NICs on it.
    pub enabled: bool,
    /// Counts up with each change.
    pub version: u64,
}

impl Network {
    /// The network itself if its parts go together.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidArgument`] naming what does not.
    pub fn validated(mut self) -> Result<Self> {
        let object = self.object();
        let wrong = |fact: &str, remedy: &str| Err(Error::invalid(object.clone(), fact, remedy));
        match self.kind {
            NetworkKind::User if !self.source.is_empty() => return wrong("user mode has no source", "leave `source` out"),
            // QEMU and its like give every guest of a user-mode network the same address behind a network of its own.
            NetworkKind::User if self.pool.is_some() => {
                return wrong("user mode has its own addresses", "leave the subnet out, or choose kind bridge or network");
            }
            NetworkKind::User if self.anti_spoofing => {
                return wrong("nothing can be forged on a user-mode network", "leave `anti-spoofing` out");
            }
            NetworkKind::Bridge | NetworkKind::Network if self.source.is_empty() => {
                return wrong("names no bridge or network of the hosts", "give `source`");
            }
            _ => {}
        }
        if !self.source.is_empty() {
            crate::spec::checked_catalogue_name(&self.source, "network source")?;
        }
        if self.dhcp && (self.kind != NetworkKind::Network || self.pool.is_none()) {
            return wrong(
                "`dhcp` is for addresses of a pool on a network of the hypervisor",
                "choose kind network and give a subnet, or leave `dhcp` out",
            );
        }
        crate::spec::checked_labels(&self.labels)?;
        self.pool = self.pool.map(Pool::validated).transpose()?;
        Ok(self)
    }

    /// The error when there is none of this name.
    #[must_use]
    pub fn not_found(name: &NetworkName) -> Error {
        let remedy = "`vws network list` shows the site's networks";
        Error::new(crate::ErrorKind::NotFound, format!("network `{name}`"), "not found", remedy)
    }

    /// "network `name`", for messages.
    #[must_use]
    pub fn object(&self) -> String {
        format!("network `{}`", self.name)
    }

    /// The capabilities that a NIC on it needs of a host.
    #[must_use]
    pub fn needs(&self) -> Vec<String> {
        let mut needs = match self.kind {
            NetworkKind::User => vec!["nic-user".to_owned()],
            NetworkKind::Bridge => vec!["nic-bridge".to_owned(), format!("bridge:{}", self.source)],
            NetworkKind::Network => vec!["nic-network".to_owned(), format!("network:{}", self.source)],
        };
        if self.anti_spoofing {
            needs.push("anti-spoofing".to_owned());
        }
        if self.dhcp {
            needs.push("dhcp".to_owned());
        }
        needs
    }
}
