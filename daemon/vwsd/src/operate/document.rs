//! Domain records -> plugin documents. The only place where the daemon says to a plugin what a machine is.

use crate::operate::engine::StepError;
use serde_json::Value;
use vws_domain::{
    Boot, BundleDisk, BundleId, BundleImage, DiskFormat, DiskLimits, Error, Firmware, HostName, Manifest, Nic, NicNetwork,
    Origin, Result, Site, Timestamp, Workspace, WorkspaceId,
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

/// A MAC address for a workspace's NIC, made from the workspace's id: the same on every host.
#[must_use]
pub fn mac_of(id: WorkspaceId, index: usize) -> String {
    // The low bits of a time-ordered id are its random ones.
    let bits = (id.0 as u64).wrapping_add((index as u64).wrapping_mul(0x1_0001));
    let [.., a, b, c] = bits.to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
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
    let nics = spec.nics.iter().map(nic_document).collect();
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
        seed: seed(workspace)?,
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
        cpu_shares: machine.cpu_shares,
        memory_mib: machine.memory_mib,
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

fn nic_document(nic: &Nic) -> doc::NicDoc {
    let (kind, source) = match &nic.network {
        NicNetwork::User => ("user", ""),
        NicNetwork::Bridge(name) => ("bridge", name.as_str()),
        NicNetwork::Network(name) => ("network", name.as_str()),
    };
    doc::NicDoc {
        mac: nic.mac.clone(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        inbound_kib_per_second: nic.limits.inbound_kib_per_second,
        outbound_kib_per_second: nic.limits.outbound_kib_per_second,
        addresses: Vec::new(),
        anti_spoofing: false,
        dhcp: false,
    }
}

/// The NoCloud seed. The instance-id changes with each deployment, so that cloud-init runs again; a resume from a bundle is no new
/// deployment. YAML is a superset of JSON, so the strings are written as JSON: no value can break out of its place.
fn seed(workspace: &Workspace) -> Result<doc::SeedDoc> {
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
    Ok(doc::SeedDoc { meta_data: meta, user_data: spec.user_data.clone(), network_config: spec.network_config.clone() })
}
