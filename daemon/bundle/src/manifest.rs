//! The manifest as JSON, version 1: kebab-case members, unknown ones are ignored, another version is refused.
//!
//! In the library it says what the machine is; the portable file adds the guest's description (so that the workspace's record
//! can be made anew elsewhere) and the images.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use vws_domain::{
    Boot, BundleDisk, BundleFile, BundleId, BundleImage, DiskFormat, DiskLimits, EndAction, Error, ErrorKind, Firmware, Manifest,
    NetworkName, Nic, NicLimits, NicNetwork, Origin, Result, Spec, Timestamp, WorkspaceId, checked_digest, shown,
};

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// What only a guest's description knows: needed to make a workspace's record again, not to find a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The description. Its image, host, access list, group and lease are never carried over: they are of the site that it left.
    pub spec: Spec,
    /// How often it was deployed: the guest knows its instance-id by it.
    pub deployments: u64,
}

/// An image in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// sha256 of its bytes.
    pub digest: String,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// Everything that a portable file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portable {
    /// The machine.
    pub manifest: Manifest,
    /// The guest.
    pub guest: Guest,
    /// The streams, in the file's order.
    pub files: Vec<BundleFile>,
    /// The images that the overlays lie on, in the file's order; none when it was written without.
    pub images: Vec<ImageFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Wire {
    version: u32,
    bundle: String,
    workspace: String,
    name: String,
    backend: String,
    created_at: u64,
    origin: WireOrigin,
    paused: bool,
    vcpus: u64,
    vcpus_max: u64,
    cpu_shares: u64,
    memory_mib: u64,
    memory_max_mib: u64,
    boot: WireBoot,
    disks: Vec<WireDisk>,
    nics: Vec<WireNic>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireOrigin {
    hypervisor: String,
    accelerator: String,
    machine_type: String,
    cpu: String,
    emulator: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
enum WireBoot {
    Disk { firmware: String },
    Kernel { kernel: String, initrd: String, cmdline: String },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireDisk {
    name: String,
    format: String,
    size_mib: u64,
    iops: u64,
    kib_per_second: u64,
    image: Option<WireBase>,
}

#[derive(Serialize, Deserialize)]
struct WireBase {
    sha256: String,
    format: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireNic {
    kind: String,
    source: String,
    mac: String,
    /// Address on a network of the site; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<Ipv4Addr>,
    inbound_kib_per_second: u64,
    outbound_kib_per_second: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireFile {
    name: String,
    sha256: String,
    size_bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireImage {
    sha256: String,
    size_bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireGuest {
    operating_system: String,
    user_data: String,
    network_config: String,
    ssh_keys: Vec<String>,
    labels: BTreeMap<String, String>,
    end_action: String,
    deployments: u64,
}

#[derive(Serialize, Deserialize)]
struct WirePortable {
    #[serde(flatten)]
    machine: Wire,
    guest: WireGuest,
    files: Vec<WireFile>,
    images: Vec<WireImage>,
}

/// Only the version, to say what is wrong with a file of another one.
#[derive(Deserialize)]
struct WireVersion {
    version: u32,
}

pub(crate) fn damaged(fact: impl Into<String>) -> Error {
    Error::new(ErrorKind::Damaged, "the bundle's manifest", fact, "get the bundle again from where it was made")
}

/// The manifest as the library keeps it, without the list of files.
///
/// # Errors
/// Internal: a value that JSON cannot hold.
pub fn to_json(manifest: &Manifest) -> Result<Value> {
    serde_json::to_value(wire(manifest)).map_err(|error| Error::internal("a manifest", error.to_string()))
}

/// Reads the manifest of a bundle in the library.
///
/// # Errors
/// [`ErrorKind::Damaged`]; [`ErrorKind::Unsupported`] for another version.
pub fn parse(text: &str) -> Result<Manifest> {
    machine(read::<Wire>(text.as_bytes())?)
}

fn read<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T> {
    let version: WireVersion =
        serde_json::from_slice(text).map_err(|error| damaged(format!("is not one: {}", shown(&error.to_string()))))?;
    if version.version != VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the bundle's manifest",
            format!("is of version {}; version {VERSION} can be read", version.version),
            "use a daemon of the version that made it, or newer",
        )
        .with_code("bundle-version"));
    }
    serde_json::from_slice(text).map_err(|error| damaged(format!("cannot be read: {}", shown(&error.to_string()))))
}

impl Portable {
    /// The text that stands in a file.
    ///
    /// # Errors
    /// Internal: a value that JSON cannot hold.
    pub(crate) fn to_text(&self) -> Result<Vec<u8>> {
        let spec = &self.guest.spec;
        let wire = WirePortable {
            machine: wire(&self.manifest),
            guest: WireGuest {
                operating_system: spec.operating_system.clone(),
                user_data: spec.user_data.clone(),
                network_config: spec.network_config.clone(),
                ssh_keys: spec.ssh_keys.clone(),
                labels: spec.labels.clone(),
                end_action: spec.end_action.name().to_owned(),
                deployments: self.guest.deployments,
            },
            files: self
                .files
                .iter()
                .map(|file| WireFile { name: file.name.clone(), sha256: file.digest.clone(), size_bytes: file.size_bytes })
                .collect(),
            images: self
                .images
                .iter()
                .map(|image| WireImage { sha256: image.digest.clone(), size_bytes: image.size_bytes })
                .collect(),
        };
        serde_json::to_vec_pretty(&wire).map_err(|error| Error::internal("a manifest", error.to_string()))
    }

    /// Reads the text, which is not checked yet beyond its form: see `check.rs`.
    pub(crate) fn from_text(text: &[u8]) -> Result<Self> {
        let wire: WirePortable = read(text)?;
        let manifest = machine(wire.machine)?;
        let guest = wire.guest;
        let mut spec = Spec::new(&manifest.name, vws_domain::ImageRef::Name("none".to_owned()));
        spec.operating_system = guest.operating_system;
        spec.user_data = guest.user_data;
        spec.network_config = guest.network_config;
        spec.ssh_keys = guest.ssh_keys;
        spec.labels = guest.labels;
        spec.end_action = EndAction::from_name(&guest.end_action).ok_or_else(|| word("end-action", &guest.end_action))?;
        Ok(Self {
            manifest,
            guest: Guest { spec, deployments: guest.deployments },
            files: wire
                .files
                .into_iter()
                .map(|file| Ok(BundleFile { digest: digest(&file.sha256)?, name: file.name, size_bytes: file.size_bytes }))
                .collect::<Result<_>>()?,
            images: wire
                .images
                .into_iter()
                .map(|image| Ok(ImageFile { digest: digest(&image.sha256)?, size_bytes: image.size_bytes }))
                .collect::<Result<_>>()?,
        })
    }
}

fn wire(manifest: &Manifest) -> Wire {
    let origin = manifest.origin.clone();
    Wire {
        version: VERSION,
        bundle: manifest.bundle.to_string(),
        workspace: manifest.workspace.to_string(),
        name: manifest.name.clone(),
        backend: manifest.backend.clone(),
        created_at: manifest.created_at.0,
        origin: WireOrigin {
            hypervisor: origin.hypervisor,
            accelerator: origin.accelerator,
            machine_type: origin.machine_type,
            cpu: origin.cpu,
            emulator: origin.emulator,
        },
        paused: manifest.paused,
        vcpus: manifest.vcpus,
        vcpus_max: manifest.vcpus_max,
        cpu_shares: manifest.cpu_shares,
        memory_mib: manifest.memory_mib,
        memory_max_mib: manifest.memory_max_mib,
        boot: match &manifest.boot {
            Boot::Disk(Firmware::Bios) => WireBoot::Disk { firmware: "bios".to_owned() },
            Boot::Disk(Firmware::Uefi) => WireBoot::Disk { firmware: "uefi".to_owned() },
            Boot::Kernel { kernel, initrd, cmdline } => {
                WireBoot::Kernel { kernel: kernel.clone(), initrd: initrd.clone(), cmdline: cmdline.clone() }
            }
        },
        disks: manifest
            .disks
            .iter()
            .map(|disk| WireDisk {
                name: disk.name.clone(),
                format: disk.format.name().to_owned(),
                size_mib: disk.size_mib,
                iops: disk.limits.iops,
                kib_per_second: disk.limits.kib_per_second,
                image: disk
                    .image
                    .as_ref()
                    .map(|image| WireBase { sha256: image.digest.clone(), format: image.format.name().to_owned() }),
            })
            .collect(),
        nics: manifest.nics.iter().map(wire_nic).collect(),
    }
}

fn wire_nic(nic: &Nic) -> WireNic {
    let (kind, source) = match &nic.network {
        NicNetwork::User => ("user", ""),
        NicNetwork::Bridge(name) => ("bridge", name.as_str()),
        NicNetwork::Network(name) => ("network", name.as_str()),
        NicNetwork::Named(name) => ("site", name.as_str()),
    };
    WireNic {
        kind: kind.to_owned(),
        source: source.to_owned(),
        mac: nic.mac.clone(),
        address: nic.address,
        inbound_kib_per_second: nic.limits.inbound_kib_per_second,
        outbound_kib_per_second: nic.limits.outbound_kib_per_second,
    }
}

fn machine(wire: Wire) -> Result<Manifest> {
    Ok(Manifest {
        bundle: BundleId::parse(&wire.bundle).map_err(|error| damaged(error.fact))?,
        workspace: WorkspaceId::parse(&wire.workspace).map_err(|error| damaged(error.fact))?,
        name: wire.name,
        backend: wire.backend,
        created_at: Timestamp(wire.created_at),
        origin: Origin {
            hypervisor: wire.origin.hypervisor,
            accelerator: wire.origin.accelerator,
            machine_type: wire.origin.machine_type,
            cpu: wire.origin.cpu,
            emulator: wire.origin.emulator,
        },
        paused: wire.paused,
        vcpus: wire.vcpus,
        vcpus_max: wire.vcpus_max,
        cpu_shares: wire.cpu_shares,
        memory_mib: wire.memory_mib,
        memory_max_mib: wire.memory_max_mib,
        boot: match wire.boot {
            WireBoot::Disk { firmware } => Boot::Disk(match firmware.as_str() {
                "bios" => Firmware::Bios,
                "uefi" => Firmware::Uefi,
                other => return Err(word("firmware", other)),
            }),
            WireBoot::Kernel { kernel, initrd, cmdline } => Boot::Kernel {
                kernel: digest(&kernel)?,
                initrd: if initrd.is_empty() { initrd } else { digest(&initrd)? },
                cmdline,
            },
        },
        disks: wire.disks.into_iter().map(disk).collect::<Result<_>>()?,
        nics: wire.nics.into_iter().map(nic).collect::<Result<_>>()?,
    })
}

fn disk(wire: WireDisk) -> Result<BundleDisk> {
    let base = |base: WireBase| Ok(BundleImage { digest: digest(&base.sha256)?, format: format(&base.format)? });
    Ok(BundleDisk {
        format: format(&wire.format)?,
        name: wire.name,
        size_mib: wire.size_mib,
        limits: DiskLimits { iops: wire.iops, kib_per_second: wire.kib_per_second },
        image: wire.image.map(base).transpose()?,
    })
}

fn nic(wire: WireNic) -> Result<Nic> {
    let network = match (wire.kind.as_str(), wire.source.as_str()) {
        ("user", "") => NicNetwork::User,
        ("bridge", _) => NicNetwork::Bridge(wire.source),
        ("network", _) => NicNetwork::Network(wire.source),
        ("site", _) => NicNetwork::Named(NetworkName::parse(&wire.source)?),
        (other, _) => return Err(word("kind of a NIC", other)),
    };
    let limits =
        NicLimits { inbound_kib_per_second: wire.inbound_kib_per_second, outbound_kib_per_second: wire.outbound_kib_per_second };
    Ok(Nic { network, mac: wire.mac, address: wire.address, limits })
}

fn format(text: &str) -> Result<DiskFormat> {
    [DiskFormat::Raw, DiskFormat::Qcow2].into_iter().find(|format| format.name() == text).ok_or_else(|| word("format", text))
}

fn digest(text: &str) -> Result<String> {
    checked_digest(text)
        .ok()
        .filter(|digest| digest == text)
        .ok_or_else(|| damaged(format!("has the digest `{}`, which is none: 64 digits of 0-9 a-f", shown(text))))
}

fn word(member: &str, text: &str) -> Error {
    damaged(format!("has the {member} `{}`, which is not known", shown(text)))
}
