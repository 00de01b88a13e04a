//! A bundle: a serialized workspace. It holds no host; one bundle, one life.

use crate::Timestamp;
use crate::id::{BundleId, WorkspaceId};
use crate::image::{Boot, DiskFormat};
use crate::spec::{DiskLimits, Nic, NicNetwork};

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFile {
    /// File name inside the bundle, for instance `memory` or `disk-0`.
    pub name: String,
    /// sha256 of the bytes.
    pub digest: String,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// What the store knows of a bundle; the manifest beside the streams holds the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Its id.
    pub id: BundleId,
    /// The workspace that it is.
    pub workspace: WorkspaceId,
    /// The backend that wrote it.
    pub backend: String,
    /// The manifest, a JSON object as text: versions, machine, CPU, NIC identities, what it needs.
    pub manifest: String,
    /// The files, manifest excluded.
    pub files: Vec<BundleFile>,
    /// When it was complete.
    pub created_at: Timestamp,
    /// When it was resumed; a bundle is resumed once.
    pub consumed_at: Option<Timestamp>,
}

/// What a machine's memory was made under. A host must match it for the guest to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Hypervisor and version, for display.
    pub hypervisor: String,
    /// Accelerator; empty: not said.
    pub accelerator: String,
    /// Machine type with its version; empty: not said.
    pub machine_type: String,
    /// CPU model; empty: not said.
    pub cpu: String,
    /// Emulator and version, for display: another version will do where it offers the machine type.
    pub emulator: String,
}

/// The image that a disk of a bundle is an overlay of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleImage {
    /// sha256 of its bytes.
    pub digest: String,
    /// How to read it.
    pub format: DiskFormat,
}

/// A disk of a bundle: one of its streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleDisk {
    /// `disk-0`, ...
    pub name: String,
    /// How to read the stream.
    pub format: DiskFormat,
    /// Size that was asked for in MiB; 0: the image's own.
    pub size_mib: u64,
    /// Limits.
    pub limits: DiskLimits,
    /// What it lies on; `None`: it is complete in itself.
    pub image: Option<BundleImage>,
}

/// A bundle's manifest: what the machine is, without any host, path or device of where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The bundle.
    pub bundle: BundleId,
    /// The workspace that it is.
    pub workspace: WorkspaceId,
    /// Name of the workspace when it was serialized.
    pub name: String,
    /// The backend that wrote the streams.
    pub backend: String,
    /// When.
    pub created_at: Timestamp,
    /// What its memory was made under.
    pub origin: Origin,
    /// Whether it stood still: then it is resumed standing still.
    pub paused: bool,
    /// vCPUs.
    pub vcpus: u64,
    /// vCPUs that it can be given while it runs; 0: no more than it has.
    pub vcpus_max: u64,
    /// Relative weight of its CPU time; 0 for the default.
    pub cpu_shares: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Memory in MiB that it can be given while it runs; 0: no more than it has.
    pub memory_max_mib: u64,
    /// How it was started.
    pub boot: Boot,
    /// Its disks, the root disk first.
    pub disks: Vec<BundleDisk>,
    /// Its NICs, with their MAC addresses.
    pub nics: Vec<Nic>,
}

/// What a guest's memory needs of a host to go on there, from a bundle or moved while it runs: as capabilities. Empty: not known.
#[must_use]
pub fn needs_of_memory(accelerator: &str, cpu: &str, machine_type: &str) -> Vec<String> {
    let named = [("accelerator", accelerator), ("cpu", cpu), ("machine", machine_type)];
    named.into_iter().filter(|(_, name)| !name.is_empty()).map(|(kind, name)| format!("{kind}:{name}")).collect()
}

impl Manifest {
    /// What a host must have for the guest to go on there, beside what every machine of its description needs: the words that
    /// backends declare as capabilities. The one place where a bundle's needs are derived; placement compares them.
    #[must_use]
    pub fn needs(&self) -> Vec<String> {
        let origin = &self.origin;
        let mut needs = vec!["serialize".to_owned()];
        needs.extend(needs_of_memory(&origin.accelerator, &origin.cpu, &origin.machine_type));
        needs.extend(self.nics.iter().filter_map(|nic| match &nic.network {
            // What a network of the site needs is for the site to say: its networks may have changed in the meantime.
            NicNetwork::User | NicNetwork::Named(_) => None,
            NicNetwork::Bridge(name) => Some(format!("bridge:{name}")),
            NicNetwork::Network(name) => Some(format!("network:{name}")),
        }));
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    /// The sha256 of every image that must be on the host before the guest can go on there.
    #[must_use]
    pub fn image_digests(&self) -> Vec<String> {
        let mut digests: Vec<String> =
            self.disks.iter().filter_map(|disk| disk.image.as_ref()).map(|image| image.digest.clone()).collect();
        if let Boot::Kernel { kernel, initrd, .. } = &self.boot {
            digests.extend([kernel, initrd].into_iter().filter(|digest| !digest.is_empty()).cloned());
        }
        digests.sort_unstable();
        digests.dedup();
        digests
    }
}
