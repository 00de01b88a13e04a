//! Addresses: whatever is launched, destroyed and kept, no address and no MAC is ever with two machines, and what was given back
//! comes back to whom it was with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use core::net::Ipv4Addr;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vws_domain::{
    Address, AddressRange, Allotment, Asker, Caller, Change, ErrorKind, Mac, Network, NetworkKind, NetworkName, Nic, NicNetwork,
    Pool, Result, Site, Subnet, Timestamp, WorkspaceId,
};

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn pool(subnet: &str, ranges: &[&str]) -> Pool {
    Pool {
        subnet: Subnet::parse(subnet).unwrap(),
        gateway: None,
        dns: Vec::new(),
        ranges: ranges.iter().map(|range| AddressRange::parse(range).unwrap()).collect(),
    }
}

fn network(name: &str, pool: Option<Pool>) -> Network {
    Network {
        name: NetworkName::parse(name).unwrap(),
        kind: NetworkKind::Bridge,
        source: "br0".to_owned(),
        pool,
        dhcp: false,
        anti_spoofing: true,
        labels: BTreeMap::new(),
        enabled: true,
        version: 1,
    }
}

fn site(networks: Vec<Network>) -> Site {
    let mut site = Site::default();
    networks.into_iter().for_each(|network| site.apply(&Change::PutNetwork(Arc::new(network.validated().unwrap()))));
    site
}

fn caller(uid: u32) -> Caller {
    Caller { uid, user: format!("u{uid}"), ..Caller::system("test") }
}

fn on(network: &str) -> Nic {
    Nic::on(NicNetwork::Named(NetworkName::parse(network).unwrap()))
}

/// Gives NICs their addresses and writes them; the addresses.
fn launch(site: &mut Site, id: u128, name: &str, owner: u32, at: u64, mut nics: Vec<Nic>) -> Result<Vec<Nic>> {
    let caller = Caller { system: false, admin: false, ..caller(owner) };
    let whom = Asker { caller: &caller, workspace: WorkspaceId(id), name, owner, now: Timestamp(at) };
    let pairs = Allotment::new(site).nics(&whom, &mut nics)?;
    pairs.iter().for_each(|pair| site.apply(&Change::PutAddress(Arc::clone(pair))));
    Ok(nics)
}

fn release(site: &mut Site, id: u128, at: u64) {
    let held: Vec<Arc<Address>> = site.addresses().held_by(WorkspaceId(id)).cloned().collect();
    for pair in held {
        site.apply(&Change::PutAddress(Arc::new(Address { released_at: Some(Timestamp(at)), ..pair.as_ref().clone() })));
    }
}

fn addresses(nics: &[Nic]) -> Vec<String> {
    nics.iter().map(|nic| nic.address.map(|address| address.to_string()).unwrap_or_default()).collect()
}

#[test]
fn a_pool_gives_what_no_machine_of_the_network_has() {
    let mut lan = pool("10.0.0.0/29", &[]);
    lan.gateway = Some(ip("10.0.0.1"));
    lan.dns = vec![ip("10.0.0.3"), ip("9.9.9.9")];
    let lan = lan.validated().unwrap();
    assert_eq!(
        lan.addresses().map(|address| address.to_string()).collect::<Vec<_>>(),
        ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    );
    assert_eq!(lan.size(), 4);
    assert_eq!(lan.reserved(ip("10.0.0.7")), Some("the broadcast address"));
    let ranged = pool("10.0.0.0/24", &["10.0.0.20-10.0.0.21", "10.0.0.9"]).validated().unwrap();
    assert_eq!(ranged.addresses().map(|address| address.to_string()).collect::<Vec<_>>(), ["10.0.0.9", "10.0.0.20", "10.0.0.21"]);
    assert!(!ranged.gives(ip("10.0.0.10")));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for bad in ["10.0.0.1/24", "10.0.0.0/31", "10.0.0.0/7", "10.0.0.0", "lan/24"] {
        assert!(Subnet::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(Subnet::parse("10.0.0.9/24").unwrap_err().remedy, "its subnet is 10.0.0.0/24");
    for bad in ["", "10.0.0.9-10.0.0.2", "x-y"] {
        assert!(AddressRange::parse(bad).is_err(), "{bad}");
    }
    for bad in ["", "52:54:00:00:00", "01:00:5e:00:00:01", "52:54:00:00:00:0g", "52:54:00:00:00:01:02", "00:00:00:00:00:00"] {
        assert!(Mac::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(Mac::parse("52:54:00:AB:cd:01").unwrap().to_string(), "52:54:00:ab:cd:01");
    assert!(pool("10.0.0.0/24", &["10.0.1.1-10.0.1.2"]).validated().is_err(), "outside");
    assert!(pool("10.0.0.0/24", &["10.0.0.0-10.0.0.2"]).validated().is_err(), "the subnet's own");
    assert!(pool("10.0.0.0/24", &["10.0.0.1-10.0.0.5", "10.0.0.5-10.0.0.9"]).validated().is_err(), "overlap");
    assert!(pool("10.0.0.0/8", &[]).validated().is_err(), "too many");
    let lan = || network("lan", Some(pool("10.0.0.0/24", &[])));
    assert!(Network { kind: NetworkKind::User, source: String::new(), ..lan() }.validated().is_err(), "user mode with a pool");
    assert!(Network { source: String::new(), ..lan() }.validated().is_err(), "no source");
    assert!(Network { dhcp: true, ..lan() }.validated().is_err(), "DHCP on a bridge");
    assert!(Network { dhcp: true, kind: NetworkKind::Network, ..lan() }.validated().is_ok());
}

#[test]
fn new_addresses_come_first_and_the_longest_free_after_them() {
    let mut site = site(vec![network("lan", Some(pool("10.0.0.0/24", &["10.0.0.1-10.0.0.3"])))]);
    let first = launch(&mut site, 1, "a", 1, 10, vec![on("lan")]).unwrap();
    launch(&mut site, 2, "b", 2, 10, vec![on("lan")]).unwrap();
    release(&mut site, 1, 20);
    release(&mut site, 2, 30);
    assert_eq!(addresses(&launch(&mut site, 3, "c", 3, 40, vec![on("lan")]).unwrap()), ["10.0.0.3"], "never given");
    assert_eq!(addresses(&launch(&mut site, 4, "d", 4, 40, vec![on("lan")]).unwrap()), ["10.0.0.1"], "longest free");
    let pair = site.addresses().get(&NetworkName::parse("lan").unwrap(), ip("10.0.0.1")).unwrap();
    assert_eq!(pair.mac.to_string(), first[0].mac, "an address keeps its MAC");
    launch(&mut site, 5, "e", 5, 40, vec![on("lan")]).unwrap();
    let error = launch(&mut site, 6, "f", 6, 40, vec![on("lan")]).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::NoAddress, "pool-empty"));
    assert_eq!(error.fact, "0 of 3 addresses are free, 1 more is needed");
}

#[test]
fn a_pair_comes_back_to_whom_it_was_with() {
    let mut site = site(vec![network("lan", Some(pool("10.0.0.0/24", &[])))]);
    let web = launch(&mut site, 1, "web", 1, 10, vec![on("lan")]).unwrap();
    let db = launch(&mut site, 2, "db", 1, 10, vec![on("lan")]).unwrap();
    release(&mut site, 1, 20);
    release(&mut site, 2, 30);
    assert_eq!(addresses(&launch(&mut site, 3, "x", 9, 40, vec![on("lan")]).unwrap()), ["10.0.0.3"], "not to a stranger");
    let again = launch(&mut site, 4, "db", 1, 40, vec![on("lan")]).unwrap();
    assert_eq!(again, db, "the same name has the same pair, MAC included");
    let other = launch(&mut site, 5, "mail", 1, 40, vec![on("lan")]).unwrap();
    assert_eq!(other, web, "another name of the same owner has what the owner had");
    // And a MAC that is asked for brings its address along.
    release(&mut site, 4, 50);
    let mac = Nic { mac: db[0].mac.to_uppercase(), ..on("lan") };
    assert_eq!(launch(&mut site, 6, "y", 9, 60, vec![mac]).unwrap(), db);
}

#[test]
fn addresses_and_macs_that_are_asked_for_are_checked() {
    let mut lan = pool("10.0.0.0/24", &["10.0.0.10-10.0.0.19"]);
    lan.gateway = Some(ip("10.0.0.1"));
    let mut site = site(vec![network("lan", Some(lan)), network("bare", None)]);
    let at = |address: &str| Nic { address: Some(ip(address)), ..on("lan") };
    // Beside the ranges, and so never given to anybody else.
    assert_eq!(addresses(&launch(&mut site, 1, "a", 1, 1, vec![at("10.0.0.200")]).unwrap()), ["10.0.0.200"]);
    for (address, code) in [("10.0.1.5", "address-outside"), ("10.0.0.1", "address-reserved"), ("10.0.0.255", "address-reserved")]
    {
        assert_eq!(launch(&mut site, 2, "b", 2, 1, vec![at(address)]).unwrap_err().code, code, "{address}");
    }
    let stranger = launch(&mut site, 2, "b", 2, 1, vec![at("10.0.0.200")]).unwrap_err();
    assert_eq!((stranger.kind, stranger.fact.as_str()), (ErrorKind::Conflict, "is taken"), "a stranger is told no name");
    let owner = launch(&mut site, 2, "b", 1, 1, vec![at("10.0.0.200")]).unwrap_err();
    assert_eq!(owner.fact, "is held by workspace `a`");
    let twice = launch(&mut site, 2, "b", 2, 1, vec![at("10.0.0.11"), at("10.0.0.11")]).unwrap_err();
    assert_eq!(twice.code, "address-taken");
    // One without does not take what the next one names.
    let both = launch(&mut site, 2, "b", 2, 1, vec![on("lan"), at("10.0.0.10")]).unwrap();
    assert_eq!(addresses(&both), ["10.0.0.11", "10.0.0.10"]);
    let nowhere = Nic { address: Some(ip("10.0.0.9")), ..on("bare") };
    assert_eq!(launch(&mut site, 3, "c", 3, 1, vec![nowhere]).unwrap_err().kind, ErrorKind::InvalidArgument);
    assert_eq!(launch(&mut site, 3, "c", 3, 1, vec![on("none")]).unwrap_err().kind, ErrorKind::NotFound);
    let mac = Nic { mac: "52:54:00:00:00:01".to_owned(), ..on("bare") };
    assert_eq!(launch(&mut site, 3, "c", 3, 1, vec![mac.clone(), mac]).unwrap_err().code, "mac-taken");
    // Several NICs on several networks.
    let nics = launch(&mut site, 3, "c", 3, 1, vec![on("bare"), on("lan"), Nic::on(NicNetwork::User)]).unwrap();
    assert_eq!(addresses(&nics), ["", "10.0.0.12", ""]);
    assert_eq!(nics.iter().map(|nic| &nic.mac).collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn a_removed_network_forgets_its_pairs() {
    let mut site = site(vec![network("lan", Some(pool("10.0.0.0/24", &[])))]);
    launch(&mut site, 1, "a", 1, 10, vec![on("lan")]).unwrap();
    release(&mut site, 1, 20);
    site.apply(&Change::RemoveNetwork(NetworkName::parse("lan").unwrap()));
    assert_eq!(site.addresses().all().count(), 0);
    assert!(site.same_sums(&site.recomputed()));
}

#[derive(Clone, Debug)]
enum Act {
    Launch { name: u8, owner: u32, nics: Vec<(bool, Option<u8>)> },
    Destroy(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let nic = (any::<bool>(), proptest::option::weighted(0.2, 0_u8..20));
    prop_oneof![
        3 => (0_u8..4, 1_u32..4, proptest::collection::vec(nic, 1..4)).prop_map(|(name, owner, nics)| Act::Launch { name, owner, nics }),
        2 => (0_usize..12).prop_map(Act::Destroy),
    ]
}

proptest! {
    #[test]
    fn no_address_and_no_mac_is_with_two(acts in proptest::collection::vec(act(), 0..60)) {
        let mut site = site(vec![
            network("lan", Some(pool("10.0.0.0/28", &[]))),
            network("san", Some(pool("10.1.0.0/24", &["10.1.0.1-10.1.0.8"]))),
        ]);
        let mut live: BTreeMap<u128, Vec<Nic>> = BTreeMap::new();
        for (step, act) in acts.into_iter().enumerate() {
            let id = step as u128;
            match act {
                Act::Launch { name, owner, nics } => {
                    let nics = nics.into_iter().map(|(lan, last)| Nic {
                        address: last.map(|last| Ipv4Addr::new(10, u8::from(!lan), 0, last)),
                        ..on(if lan { "lan" } else { "san" })
                    }).collect();
                    match launch(&mut site, id, &format!("w{name}"), owner, step as u64, nics) {
                        Ok(nics) => { live.insert(id, nics); }
                        Err(error) => prop_assert!(
                            matches!(error.kind, ErrorKind::NoAddress | ErrorKind::Conflict | ErrorKind::InvalidArgument), "{}", error),
                    }
                }
                Act::Destroy(which) => {
                    if let Some(id) = live.keys().nth(which).copied() {
                        release(&mut site, id, step as u64);
                        live.remove(&id);
                    }
                }
            }
            let nics: Vec<&Nic> = live.values().flatten().collect();
            let mut places: Vec<_> = nics.iter().map(|nic| format!("{:?}", (&nic.network, nic.address))).collect();
            let mut macs: Vec<_> = nics.iter().map(|nic| &nic.mac).collect();
            places.sort();
            macs.sort();
            prop_assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", places);
            prop_assert!(macs.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", macs);
            let held: Vec<_> = site.addresses().all().filter(|pair| pair.released_at.is_none()).collect();
            prop_assert_eq!(held.len(), nics.len());
            for (id, nics) in &live {
                let of: Vec<_> = site.addresses().held_by(WorkspaceId(*id)).map(|pair| (pair.address, pair.mac.to_string())).collect();
                let want: Vec<_> = nics.iter().map(|nic| (nic.address.unwrap(), nic.mac.clone())).collect();
                prop_assert_eq!(of, want);
            }
            prop_assert!(site.same_sums(&site.recomputed()));
        }
        for id in live.into_keys() {
            release(&mut site, id, 1000);
        }
        for network in site.networks() {
            prop_assert_eq!(site.addresses().held(&network.name), 0);
            prop_assert_eq!(site.addresses().free(network), network.pool.as_ref().unwrap().size());
        }
    }
}
