//! What jobs carry: arguments, and what steps leave for later ones, as JSON. Written by admission, read by the steps, also after a restart.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use vws_domain::{Error, Result};

/// Where the bytes of an image come from, as far as it survives a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Source {
    /// An open file in the daemon's memory, by its place in the list that was handed over. Lost at a restart.
    Handed {
        /// Place in the list.
        index: usize,
    },
    /// A path.
    Path {
        /// The path.
        path: String,
    },
    /// A URL.
    Url {
        /// The URL.
        url: String,
        /// The sha256 that its bytes must have.
        digest: String,
    },
}

/// Bytes to import for an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportArgs {
    /// The image, by id.
    pub image: String,
    /// Root disk.
    pub disk: Option<Source>,
    /// sha256 that the disk must have.
    pub digest: Option<String>,
    /// Kernel.
    pub kernel: Option<Source>,
    /// Initial RAM disk.
    pub initrd: Option<Source>,
    /// Size that the disk may have at most, in MiB, if room was reserved for it already.
    pub most_mib: Option<u64>,
}

/// Arguments of a create job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CreateArgs {
    /// Images to import first: those that the request named by path or URL.
    pub imports: Vec<ImportArgs>,
    /// Who leaves its host first.
    #[serde(default)]
    pub room: Vec<RoomArgs>,
}

/// One that leaves a host to make room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoomArgs {
    /// It, by id.
    pub workspace: String,
    /// The job by which it leaves, by id.
    pub job: String,
}

/// Arguments of a stop job.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct StopArgs {
    /// Milliseconds to wait for the guest; 0: force at once.
    pub guest_timeout_ms: u64,
}

/// Arguments of a serialize job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SerializeArgs {
    /// The bundle to make, by id.
    pub bundle: String,
    /// Whether the guest stood still when it was asked for.
    pub paused: bool,
}

/// Arguments of a restore job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RestoreArgs {
    /// The bundle, by id.
    pub bundle: String,
    /// Who leaves its host first.
    #[serde(default)]
    pub room: Vec<RoomArgs>,
}

/// Arguments of a resize job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResizeArgs {
    /// What it had.
    pub old: SizesArgs,
    /// What it shall have.
    pub new: SizesArgs,
}

/// `vws_domain::Sizes`, as it is written; limits are operations and KiB per second, or KiB per second in and out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the members are those of the domain's type")]
pub struct SizesArgs {
    pub vcpus: u64,
    pub vcpus_max: u64,
    pub memory_mib: u64,
    pub memory_max_mib: u64,
    pub cpu_shares: u64,
    pub disk_gib: u64,
    pub disk_limits: [u64; 2],
    pub data_disks: Vec<[u64; 3]>,
    pub nics: Vec<[u64; 2]>,
}

/// Arguments of the snapshot jobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotArgs {
    /// The snapshot.
    pub name: String,
    /// With memory.
    pub memory: bool,
}

/// Arguments of the job of a new cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterArgs {
    /// Its name.
    pub cluster: String,
    /// Its members.
    pub members: Vec<MemberArgs>,
}

/// A member of a new cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberArgs {
    /// Its name.
    pub name: String,
    /// Its workspace, by id.
    pub workspace: String,
    /// Its create job, by id.
    pub job: String,
}

/// Arguments of an export of a bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportBundleArgs {
    /// The bundle, by id.
    pub bundle: String,
    /// Whether the images that its disks lie on go with it.
    pub with_images: bool,
}

/// Arguments of an import of a bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportBundleArgs {
    /// The bundle that the file says it is, by id.
    pub bundle: String,
    /// Name of the workspace here.
    pub name: String,
    /// uid of its owner here.
    pub owner: u32,
    /// Name of its owner.
    pub owner_name: String,
    /// Group that is charged.
    pub group: String,
    /// sha256 of the images that come along.
    pub images: Vec<String>,
}

/// Arguments of a check of a bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerifyBundleArgs {
    /// The bundle, by id.
    pub bundle: String,
}

/// Arguments of a migrate job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MigrateArgs {
    /// The source.
    pub from: String,
    /// The target.
    pub to: String,
    /// MiB per second at most; 0 for no limit.
    pub mib_per_second: u64,
    /// The source's storage, as its probe named it.
    pub from_storage: String,
    /// The target's storage, as its probe named it.
    pub to_storage: String,
    /// Who leaves the target first.
    #[serde(default)]
    pub room: Vec<RoomArgs>,
}

impl MigrateArgs {
    /// Whether both hosts were seen to share their storage: then disks are no copies, and are never removed.
    #[must_use]
    pub fn shares_storage(&self) -> bool {
        !self.from_storage.is_empty() && self.from_storage == self.to_storage
    }
}

/// Arguments of a job that removes what a move left on a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForgetArgs {
    /// The workspace, by id.
    pub workspace: String,
    /// Whether the disks are those that the workspace uses elsewhere.
    pub keep_disks: bool,
}

/// Arguments of a drain.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct DrainArgs {
    /// Whether running workspaces may be interrupted: through a bundle, or left in one.
    pub evacuate: bool,
}

/// Arguments of a probe.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ProbeArgs {
    /// Whether to boot a guest anew even if an earlier result is remembered.
    pub fresh: bool,
}

/// Writes arguments.
///
/// # Errors
/// Internal: a value that JSON cannot hold.
pub fn write(args: &impl Serialize) -> Result<String> {
    serde_json::to_string(args).map_err(|error| Error::internal("a job's arguments", error.to_string()))
}

/// Reads arguments.
///
/// # Errors
/// Internal: the database holds what this version did not write.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::internal("a job's arguments", format!("{error} in {text}")))
}
