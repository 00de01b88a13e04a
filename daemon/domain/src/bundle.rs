//! A bundle: a serialized workspace. It holds no host; one bundle, one life.

use crate::Timestamp;
use crate::id::{BundleId, WorkspaceId};

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
