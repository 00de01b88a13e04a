//! Domain records -> plugin documents. The only place where the daemon says to a plugin what a machine is.

use crate::operate::engine::StepError;
use serde_json::{Value, json};
use vws_domain::{
    Boot, BundleDisk, BundleId, BundleImage, DiskFormat, DiskLimits, Error, Firmware, HostName, Manifest, Membership, Network,
    Nic, NicNetwork, Origin, Result, Site, Timestamp, Workspace,
};
use vws_plugin_api::doc;

/// What a workspace's backend wants back with each call.
#[must_use]
pub fn plugin_state(workspace: &Workspace) -> Value {
    serde_json::from_str(&workspace.plugin_state).unwrap_or(Value::Null)
}

/// What is stored of a plugin's state.
///
/// # Errors
/// `BackendFailure` when it is larger than [`PLUGIN_STATE_BYTES`].
pub fn kept_state(state: &Value) -> std::result::Result<String, StepError> {
    let text = if state.is_null() { String::new() } else { state.to_string() };
    if text.len() > PLUGIN_STATE_BYTES {
        return Err(Error::new(
            vws_domain::ErrorKind::BackendFailure,
            "the backend's state of a workspace",
            format!("has {} bytes, {PLUGIN_STATE_BYTES} are kept", text.len()),
            "report it to the plugin's vendor",
        )
        .into());
    }
    Ok(text)
}

/// Bytes of `plugin_state` that are kept for a workspace.
pub const PLUGIN_STATE_BYTES: usize = 64 * 1024;

/// A reference to a workspace's machine.
#[must_use]
pub fn reference(host: &HostName, workspace: &Workspace) -> doc::WorkspaceRef {
    doc::WorkspaceRef { host: host.to_string(), workspace: workspace.id.to_string(), plugin_state: plugin_state(workspace) }
}

/// The digests that a host must have before the machine can be staged there.
///
/// # Errors
/// NotFound: an image left the catalogue.
pub fn digests(site: &Site, workspace: &Workspace) -> Result<Vec<String>> {
    let mut digests = Vec::new();
    for (index, id) in workspace.images.iter().enumerate() {
        let Some(id) = id else { continue };
        let image = site.image(*id).ok_or_else(|| gone(workspace))?;
        if !image.digest.is_empty() {
            digests.push(image.digest.clone());
        }
        if let (0, Boot::Kernel { kernel, initrd, .. }) = (index, &image.boot) {
            digests.push(kernel.clone());
            if !initrd.is_empty() {
                digests.push(initrd.clone());
            }
        }
    }
    digests.sort();
    digests.dedup();
    Ok(digests)
}

fn gone(workspace: &Workspace) -> Error {
    Error::new(
        vws_domain::ErrorKind::NotFound,
        workspace.object(),
        "one of its images left the catalogue",
        "import the image again under a new name and launch again",
    )
}

/// The machine that a workspace is.
///
/// # Errors
/// NotFound: an image left the catalogue.
pub fn machine(site: &Site, workspace: &Workspace) -> Result<doc::MachineDoc> {
    let spec = &workspace.spec;
    let mut disks = Vec::new();
    let mut boot = None;
    for (index, id) in workspace.images.iter().enumerate() {
        let image = match id {
            Some(id) => Some(site.image(*id).ok_or_else(|| gone(workspace))?),
            None => None,
        };
        let data = index.checked_sub(1).and_then(|index| spec.data_disks.get(index));
        let (size_gib, limits) = data.map_or((spec.disk_gib, spec.disk_limits), |disk| (disk.size_gib, disk.limits));
        if index == 0 {
            boot = image.map(|image| boot_document(&image.boot));
        }
        let source = match image {
            Some(image) if !image.digest.is_empty() => {
                doc::DiskSourceDoc::Image { digest: image.digest.clone(), format: image.format.name().to_owned() }
            }
            // A kernel image without a disk: a root disk only if a size was asked for.
            Some(_) if size_gib == 0 => continue,
            _ => doc::DiskSourceDoc::Empty,
        };
        disks.push(doc::DiskDoc {
            name: format!("disk-{index}"),
            source,
            size_mib: size_gib.saturating_mul(1024),
            iops: limits.iops,
            kib_per_second: limits.kib_per_second,
        });
    }
    let nics = spec.nics.iter().map(|nic| nic_document(site, nic)).collect::<Result<_>>()?;
    Ok(doc::MachineDoc {
        workspace: workspace.id.to_string(),
        name: spec.name.clone(),
        vcpus: spec.vcpus,
        cpu_shares: spec.cpu_shares,
        memory_mib: spec.memory_mib,
        vcpus_max: spec.vcpus_max,
        memory_max_mib: spec.memory_max_mib,
        boot: boot.ok_or_else(|| gone(workspace))?,
        disks,
        nics,
        seed: seed(site, workspace)?,
        deployment: workspace.deployments,
    })
}

/// The manifest of a bundle: the machine as it was described to the plugin, and what the plugin said of its streams.
///
/// # Errors
/// `BackendFailure`: the plugin said nothing, or nonsense, of a disk.
pub fn manifest(
    bundle: BundleId,
    workspace: &Workspace,
    backend: String,
    machine: &doc::MachineDoc,
    exported: &doc::Exported,
    now: Timestamp,
) -> Result<Manifest> {
    let nonsense = |fact: String| {
        Error::new(
            vws_domain::ErrorKind::BackendFailure,
            workspace.object(),
            format!("its backend {fact}"),
            "report it to the plugin's vendor",
        )
    };
    let format = |text: &str| {
        [DiskFormat::Raw, DiskFormat::Qcow2]
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| nonsense(format!("exported a disk in the format `{}`", vws_domain::shown(text))))
    };
    let disk = |disk: &doc::DiskDoc| {
        let told = exported.disks.iter().find(|told| told.name == disk.name);
        let told = told.ok_or_else(|| nonsense(format!("did not say how to read the disk `{}`", disk.name)))?;
        let image = match told.backing_digest.as_str() {
            "" => None,
            digest => Some(BundleImage { digest: digest.to_owned(), format: format(&told.backing_format)? }),
        };
        Ok(BundleDisk {
            name: disk.name.clone(),
            format: format(&told.format)?,
            size_mib: disk.size_mib,
            limits: DiskLimits { iops: disk.iops, kib_per_second: disk.kib_per_second },
            image,
        })
    };
    Ok(Manifest {
        bundle,
        workspace: workspace.id,
        name: workspace.spec.name.clone(),
        backend,
        created_at: now,
        origin: Origin {
            hypervisor: exported.hypervisor.clone(),
            accelerator: exported.accelerator.clone(),
            machine_type: exported.machine_type.clone(),
            cpu: exported.cpu.clone(),
            emulator: exported.emulator.clone(),
        },
        paused: exported.paused,
        vcpus: machine.vcpus,
        vcpus_max: workspace.spec.vcpus_max,
        cpu_shares: machine.cpu_shares,
        memory_mib: machine.memory_mib,
        memory_max_mib: workspace.spec.memory_max_mib,
        boot: match &machine.boot {
            doc::BootDoc::Disk { firmware } if firmware == "uefi" => Boot::Disk(Firmware::Uefi),
            doc::BootDoc::Disk { .. } => Boot::Disk(Firmware::Bios),
            doc::BootDoc::Kernel { kernel, initrd, cmdline } => {
                Boot::Kernel { kernel: kernel.clone(), initrd: initrd.clone(), cmdline: cmdline.clone() }
            }
        },
        disks: machine.disks.iter().map(disk).collect::<Result<_>>()?,
        nics: workspace.spec.nics.clone(),
    })
}

/// What the plugin that reads a bundle's streams is told of them: what the one that wrote them said.
#[must_use]
pub fn exported(manifest: &Manifest) -> doc::Exported {
    let origin = &manifest.origin;
    doc::Exported {
        hypervisor: origin.hypervisor.clone(),
        accelerator: origin.accelerator.clone(),
        machine_type: origin.machine_type.clone(),
        cpu: origin.cpu.clone(),
        emulator: origin.emulator.clone(),
        paused: manifest.paused,
        disks: manifest
            .disks
            .iter()
            .map(|disk| doc::ExportedDisk {
                name: disk.name.clone(),
                format: disk.format.name().to_owned(),
                backing_digest: disk.image.as_ref().map(|image| image.digest.clone()).unwrap_or_default(),
                backing_format: disk.image.as_ref().map_or_else(String::new, |image| image.format.name().to_owned()),
            })
            .collect(),
    }
}

fn boot_document(boot: &Boot) -> doc::BootDoc {
    match boot {
        Boot::Disk(firmware) => doc::BootDoc::Disk {
            firmware: match firmware {
                Firmware::Bios => "bios".to_owned(),
                Firmware::Uefi => "uefi".to_owned(),
            },
        },
        Boot::Kernel { kernel, initrd, cmdline } => {
            doc::BootDoc::Kernel { kernel: kernel.clone(), initrd: initrd.clone(), cmdline: cmdline.clone() }
        }
    }
}

/// The site's network that a NIC names. A network with live workspaces on it cannot be removed.
///
/// # Errors
/// NotFound.
fn network_of<'a>(site: &'a Site, nic: &Nic) -> Result<Option<&'a Network>> {
    match &nic.network {
        NicNetwork::Named(name) => {
            site.network(name).map(|network| Some(network.as_ref())).ok_or_else(|| Network::not_found(name))
        }
        _ => Ok(None),
    }
}

fn nic_document(site: &Site, nic: &Nic) -> Result<doc::NicDoc> {
    let network = network_of(site, nic)?;
    let (kind, source) = match (&nic.network, network) {
        (NicNetwork::Bridge(name), _) => ("bridge", name.as_str()),
        (NicNetwork::Network(name), _) => ("network", name.as_str()),
        (NicNetwork::Named(_), Some(network)) => (network.kind.name(), network.source.as_str()),
        (NicNetwork::User | NicNetwork::Named(_), _) => ("user", ""),
    };
    Ok(doc::NicDoc {
        mac: nic.mac.clone(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        inbound_kib_per_second: nic.limits.inbound_kib_per_second,
        outbound_kib_per_second: nic.limits.outbound_kib_per_second,
        addresses: with_prefix(nic, network).into_iter().collect(),
        anti_spoofing: network.is_some_and(|network| network.anti_spoofing),
        dhcp: nic.address.is_some() && network.is_some_and(|network| network.dhcp),
    })
}

/// The NIC's address with the length of its subnet's prefix, `10.0.0.5/24`.
fn with_prefix(nic: &Nic, network: Option<&Network>) -> Option<String> {
    let pool = network?.pool.as_ref()?;
    Some(format!("{}/{}", nic.address?, pool.subnet.prefix()))
}

/// The NoCloud network configuration, version 2, that tells the guest its addresses; empty if it has none of ours, so that the
/// guest does what it does by default. NICs are found by their MAC: the names that guests give them differ. A NIC without an
/// address of ours asks by DHCP. The first NIC with a gateway is the way out; a second one would compete with it.
fn network_config(site: &Site, workspace: &Workspace) -> Result<String> {
    if workspace.spec.nics.iter().all(|nic| nic.address.is_none()) {
        return Ok(String::new());
    }
    let mut ethernets = serde_json::Map::new();
    let mut way_out = false;
    for (index, nic) in workspace.spec.nics.iter().enumerate() {
        let network = network_of(site, nic)?;
        let mut config = serde_json::Map::from_iter([("match".to_owned(), json!({ "macaddress": nic.mac }))]);
        match (with_prefix(nic, network), network.and_then(|network| network.pool.as_ref())) {
            (Some(address), Some(pool)) => {
                config.insert("addresses".to_owned(), json!([address]));
                if let Some(gateway) = pool.gateway.filter(|_| !way_out) {
                    way_out = true;
                    config.insert("routes".to_owned(), json!([{ "to": "0.0.0.0/0", "via": gateway }]));
                }
                if !pool.dns.is_empty() {
                    config.insert("nameservers".to_owned(), json!({ "addresses": pool.dns }));
                }
            }
            _ => drop(config.insert("dhcp4".to_owned(), json!(true))),
        }
        ethernets.insert(format!("nic{index}"), Value::Object(config));
    }
    serde_json::to_string_pretty(&json!({ "version": 2, "ethernets": ethernets }))
        .map_err(|error| Error::internal(workspace.object(), error.to_string()))
}

/// What a member of a cluster is told of itself and of the others, as one line of JSON: software in the guest configures itself by it.
fn cluster(site: &Site, workspace: &Workspace, membership: &Membership) -> Value {
    let peers: Vec<Value> = vws_domain::peers(site, workspace.owner, membership, Some(workspace.id))
        .iter()
        .map(|peer| {
            let role = peer.spec.membership.as_ref().map_or("", |member| member.role.as_str());
            let addresses: Vec<String> =
                peer.spec.nics.iter().filter_map(|nic| nic.address.map(|address| address.to_string())).collect();
            serde_json::json!({ "role": role, "name": peer.spec.name, "addresses": addresses })
        })
        .collect();
    serde_json::json!({
        "name": membership.cluster,
        "role": membership.role,
        "index": membership.index,
        "peers": peers,
    })
}

/// The NoCloud seed. The instance-id changes with each deployment, so that cloud-init runs again; a resume from a bundle is no new
/// deployment. YAML is a superset of JSON, so the strings are written as JSON: no value can break out of its place.
fn seed(site: &Site, workspace: &Workspace) -> Result<doc::SeedDoc> {
    let spec = &workspace.spec;
    let quoted = |text: &str| serde_json::to_string(text).map_err(|error| Error::internal(workspace.object(), error.to_string()));
    let mut meta = format!(
        "instance-id: {}\nlocal-hostname: {}\n",
        quoted(&format!("{}-{}", workspace.id, workspace.deployments))?,
        quoted(&spec.name)?
    );
    if !spec.ssh_keys.is_empty() {
        meta.push_str("public-keys:\n");
        for key in &spec.ssh_keys {
            meta.push_str(&format!("  - {}\n", quoted(key)?));
        }
    }
    if let Some(membership) = &spec.membership {
        meta.push_str(&format!("cluster: {}\n", cluster(site, workspace, membership)));
    }
    // Who brings a configuration of his own is taken at his word; his addresses are held and shown all the same.
    let network_config =
        if spec.network_config.is_empty() { network_config(site, workspace)? } else { spec.network_config.clone() };
    Ok(doc::SeedDoc { meta_data: meta, user_data: spec.user_data.clone(), network_config })
}

#[cfg(test)]
mod tests {
    use super::{network_config, nic_document};
    use serde_json::Value;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use vws_domain::{
        Cause, Change, EndAction, ImageRef, Lease, Network, NetworkKind, NetworkName, Nic, NicNetwork, Pool, Resources, Site,
        Spec, State, Subnet, Target, Timestamp, Workspace, WorkspaceId,
    };

    fn network(name: &str, kind: NetworkKind, subnet: &str, gateway: &str) -> Change {
        Change::PutNetwork(Arc::new(Network {
            name: NetworkName::parse(name).unwrap(),
            kind,
            source: "br0".to_owned(),
            pool: Some(Pool {
                subnet: Subnet::parse(subnet).unwrap(),
                gateway: gateway.parse().ok(),
                dns: vec!["9.9.9.9".parse().unwrap()],
                ranges: Vec::new(),
            }),
            dhcp: kind == NetworkKind::Network,
            anti_spoofing: true,
            labels: BTreeMap::new(),
            enabled: true,
            version: 1,
        }))
    }

    fn nic(network: &str, mac: &str, address: &str) -> Nic {
        let network = NicNetwork::Named(NetworkName::parse(network).unwrap());
        Nic { mac: mac.to_owned(), address: address.parse().ok(), ..Nic::on(network) }
    }

    fn workspace(nics: Vec<Nic>) -> Workspace {
        Workspace {
            id: WorkspaceId(1),
            owner: 1,
            owner_name: String::new(),
            group: String::new(),
            spec: Spec { nics, ..Spec::new("web", ImageRef::Name("a".to_owned())) },
            images: Vec::new(),
            resources: Resources::default(),
            state: State::Reserved,
            target: Target::Running,
            cause: Cause::default(),
            host: None,
            also_on: None,
            job: None,
            lease: Lease {
                from: Timestamp(0),
                until: None,
                action: EndAction::Stop,
                grace_seconds: 0,
                deferred_until: None,
                ended: false,
            },
            bundle: None,
            cpu: String::new(),
            plugin_state: String::new(),
            snapshots: Vec::new(),
            deployments: 1,
            version: 1,
            created_at: Timestamp(0),
            changed_at: Timestamp(0),
        }
    }

    #[test]
    fn guests_are_told_their_addresses_and_one_way_out() {
        let mut site = Site::default();
        site.apply(&network("lan", NetworkKind::Bridge, "10.0.0.0/24", "10.0.0.1"));
        site.apply(&network("san", NetworkKind::Network, "10.1.0.0/16", "10.1.0.1"));
        let nics = vec![
            nic("lan", "52:54:00:00:00:01", "10.0.0.5"),
            nic("san", "52:54:00:00:00:02", "10.1.0.9"),
            Nic { mac: "52:54:00:00:00:03".to_owned(), ..Nic::on(NicNetwork::User) },
        ];
        let text = network_config(&site, &workspace(nics.clone())).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            config,
            serde_json::json!({ "version": 2, "ethernets": {
                "nic0": {
                    "match": { "macaddress": "52:54:00:00:00:01" }, "addresses": ["10.0.0.5/24"],
                    "routes": [{ "to": "0.0.0.0/0", "via": "10.0.0.1" }], "nameservers": { "addresses": ["9.9.9.9"] }
                },
                "nic1": {
                    "match": { "macaddress": "52:54:00:00:00:02" }, "addresses": ["10.1.0.9/16"],
                    "nameservers": { "addresses": ["9.9.9.9"] }
                },
                "nic2": { "match": { "macaddress": "52:54:00:00:00:03" }, "dhcp4": true }
            } })
        );
        let documents: Vec<_> = nics.iter().map(|nic| nic_document(&site, nic).unwrap()).collect();
        let said: Vec<_> = documents
            .iter()
            .map(|nic| (nic.kind.as_str(), nic.source.as_str(), nic.addresses.join(""), nic.anti_spoofing, nic.dhcp))
            .collect();
        assert_eq!(
            said,
            [
                ("bridge", "br0", "10.0.0.5/24".to_owned(), true, false),
                ("network", "br0", "10.1.0.9/16".to_owned(), true, true),
                ("user", "", String::new(), false, false)
            ]
        );
    }

    #[test]
    fn a_guest_without_addresses_of_ours_is_left_to_its_default() {
        let user = Nic { mac: "52:54:00:00:00:03".to_owned(), ..Nic::on(NicNetwork::User) };
        assert_eq!(network_config(&Site::default(), &workspace(vec![user])).unwrap(), "");
    }
}
