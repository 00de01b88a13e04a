//! Networks of a host: which there are, whether a machine's NICs can be plugged in, and its entries in their DHCP service.
//!
//! Owns: the change of libvirt's networks, which is one host entry for each NIC with a fixed address. Must not know: machines.

use crate::readback::Element;
use crate::storage::{Site, Trouble};
use crate::xml::Tree;
use std::net::Ipv4Addr;
use virt::error::{Error, ErrorNumber};
use virt::network::Network;
use virt_sys as sys;
use vws_plugin_api::doc::{Failure, MachineDoc, NicDoc, codes};
use vws_plugin_api::sdk::Outcome;

/// Networks of libvirt, active ones and others that can be started, and bridges of the host.
pub fn on(site: &Site) -> Result<(Vec<String>, Vec<String>), Error> {
    let mut networks = Vec::new();
    for network in site.list_all_networks(0)? {
        networks.push(network.name()?);
    }
    let mut bridges = Vec::new();
    // A libvirt that cannot list interfaces names no bridges; a machine's start says then what is missing.
    for interface in site.list_all_interfaces(0).unwrap_or_default() {
        let described = interface.xml_desc(0).ok().and_then(|xml| Element::parse(&xml).ok());
        if described.is_some_and(|interface| interface.attribute("type") == "bridge") {
            bridges.push(interface.name()?);
        }
    }
    networks.sort();
    bridges.sort();
    Ok((networks, bridges))
}

/// Makes ready what the machine's NICs are plugged into: networks are started, their DHCP service knows the machine.
pub fn prepare(site: &Site, machine: &MachineDoc) -> Result<(), Trouble> {
    for nic in &machine.nics {
        match nic.kind.as_str() {
            "network" => {
                let network = active(site, &nic.source)?;
                if nic.dhcp {
                    enter(&network, machine, nic)?;
                }
            }
            "bridge" => {
                // Only where libvirt can tell.
                if let Ok(known) = site.list_all_interfaces(0) {
                    let names: Vec<_> = known.iter().filter_map(|interface| interface.name().ok()).collect();
                    if !names.is_empty() && !names.contains(&nic.source) {
                        return Err(Failure::new(codes::NOT_FOUND, "the host has no such bridge")
                            .about(format!("bridge `{}`", nic.source.escape_default()))
                            .remedy("make that bridge on the host, or use another host or network")
                            .into());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes the machine out of the DHCP services. A network that is gone knows nobody.
pub fn leave(site: &Site, machine: &MachineDoc) -> Result<(), Error> {
    for nic in machine.nics.iter().filter(|nic| nic.kind == "network" && nic.dhcp) {
        leave_one(site, &nic.source, &nic.mac)?;
    }
    Ok(())
}

/// The same, for one NIC.
pub fn leave_one(site: &Site, network: &str, mac: &str) -> Result<(), Error> {
    let network = match site.lookup_network_by_name(network) {
        Ok(network) => network,
        Err(error) if error.code().is(ErrorNumber::NoNetwork) => return Ok(()),
        Err(error) => return Err(error),
    };
    let Ok(described) = Element::parse(&network.xml_desc(0)?) else { return Ok(()) };
    for (_, entry) in entries(&described).filter(|(_, entry)| entry.attribute("mac").eq_ignore_ascii_case(mac)) {
        remove(&network, entry.attribute("mac"), entry.attribute("ip"))?;
    }
    Ok(())
}

fn active(site: &Site, name: &str) -> Result<Network, Trouble> {
    let network = site.lookup_network_by_name(name).map_err(|error| -> Trouble {
        if error.code().is(ErrorNumber::NoNetwork) {
            return Failure::new(codes::NOT_FOUND, "libvirt on the host has no such network")
                .about(format!("network `{}`", name.escape_default()))
                .remedy("define that network on the host, or use another host or network")
                .into();
        }
        error.into()
    })?;
    if !network.is_active()? {
        match network.create() {
            // Somebody else was faster.
            Err(_started) if network.is_active()? => {}
            other => {
                other?;
            }
        }
    }
    Ok(network)
}

/// Entries of a network's DHCP service, each with the index of its address block.
fn entries(network: &Element) -> impl Iterator<Item = (usize, &Element)> {
    network
        .all("ip")
        .enumerate()
        .filter_map(|(index, ip)| Some((index, ip.at(&["dhcp"])?)))
        .flat_map(|(index, dhcp)| dhcp.all("host").map(move |host| (index, host)))
}

/// Index of the address block of version 4 with DHCP whose range of addresses holds `address`.
fn block(network: &Element, address: Ipv4Addr) -> Option<usize> {
    network.all("ip").enumerate().find_map(|(index, ip)| {
        ip.at(&["dhcp"])?;
        let own: Ipv4Addr = ip.attribute("address").parse().ok()?;
        let prefix = match (ip.attribute("prefix").parse::<u32>(), ip.attribute("netmask").parse::<Ipv4Addr>()) {
            (Ok(prefix), _) => prefix,
            (_, Ok(mask)) => u32::from(mask).leading_ones(),
            _ => return None,
        };
        let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
        (u32::from(own) & mask == u32::from(address) & mask).then_some(index)
    })
}

fn enter(network: &Network, machine: &MachineDoc, nic: &NicDoc) -> Result<(), Trouble> {
    let named = || format!("network `{}`", nic.source.escape_default());
    for address in &nic.addresses {
        let address = address.split('/').next().unwrap_or_default();
        let Ok(fixed) = address.parse::<Ipv4Addr>() else {
            return Err(Failure::new(
                codes::UNSUPPORTED,
                format!("`{address}` is no IPv4 address, and DHCP here knows no other"),
            )
            .about(named())
            .remedy("give that address by the seed's network-config")
            .into());
        };
        let described = Element::parse(&network.xml_desc(0)?)?;
        let mut there = false;
        for (_, entry) in entries(&described) {
            let (mac, ip) = (entry.attribute("mac"), entry.attribute("ip"));
            let same_mac = mac.eq_ignore_ascii_case(&nic.mac);
            if same_mac && ip == address {
                there = true;
            } else if same_mac || ip == address {
                // Left over: addresses and MACs are given out by the daemon, which says that this one is free.
                remove(network, mac, ip)?;
            }
        }
        if there {
            continue;
        }
        let Some(index) = block(&described, fixed) else {
            return Err(Failure::new(codes::INVALID, format!("`{address}` is in none of its address blocks with DHCP"))
                .about(named())
                .remedy("correct the network's definition on the host or the pool of addresses")
                .into());
        };
        // The name goes into the DHCP service's own file as well: only a plain label does.
        let plain = machine.name.len() <= 63 && machine.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let mut attributes = vec![("mac", nic.mac.as_str()), ("ip", address)];
        if plain && !machine.name.is_empty() {
            attributes.push(("name", &machine.name));
        }
        let xml = entry(&attributes)?;
        update(network, sys::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, index, &xml)?;
    }
    Ok(())
}

fn entry(attributes: &[(&str, &str)]) -> Outcome<String> {
    let mut tree = Tree::new();
    tree.leaf("host", attributes).map_err(|error| Failure::new(codes::INTERNAL, format!("network XML: {error}")))?;
    tree.finish()
}

fn remove(network: &Network, mac: &str, ip: &str) -> Result<(), Error> {
    let Ok(xml) = entry(&[("mac", mac), ("ip", ip)]) else { return Ok(()) };
    // -1: whichever block has it.
    match update_at(network, sys::VIR_NETWORK_UPDATE_COMMAND_DELETE, -1, &xml) {
        // Gone by now, which is what was wanted.
        Err(error) if error.code().is(ErrorNumber::OperationInvalid) => Ok(()),
        other => other,
    }
}

fn update(network: &Network, command: u32, index: usize, xml: &str) -> Result<(), Error> {
    update_at(network, command, i32::try_from(index).unwrap_or(0), xml)
}

fn update_at(network: &Network, command: u32, index: i32, xml: &str) -> Result<(), Error> {
    let mut flags = 0;
    if network.is_active()? {
        flags |= sys::VIR_NETWORK_UPDATE_AFFECT_LIVE;
    }
    if network.is_persistent()? {
        flags |= sys::VIR_NETWORK_UPDATE_AFFECT_CONFIG;
    }
    network.update(command, sys::VIR_NETWORK_SECTION_IP_DHCP_HOST, index, xml, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_finds_its_block() {
        let network = Element::parse(
            "<network><ip family='ipv6' address='fd00::1' prefix='64'><dhcp/></ip>\
             <ip address='10.1.0.1' netmask='255.255.0.0'><dhcp><host mac='m' ip='10.1.0.9'/></dhcp></ip>\
             <ip address='192.168.1.1' prefix='24'><dhcp/></ip><ip address='192.168.2.1' prefix='24'/></network>",
        )
        .unwrap();
        let of = |address: &str| block(&network, address.parse().unwrap());
        assert_eq!(of("10.1.200.3"), Some(1));
        assert_eq!(of("192.168.1.77"), Some(2));
        assert_eq!(of("192.168.2.77"), None, "that block has no DHCP");
        assert_eq!(of("172.16.0.1"), None);
        assert_eq!(entries(&network).map(|(index, host)| (index, host.attribute("ip"))).collect::<Vec<_>>(), [(1, "10.1.0.9")]);
    }
}
