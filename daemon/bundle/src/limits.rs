//! The named limits of what a bundle's file may claim.

/// Limits of a file that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the manifest, at most.
    pub manifest_bytes: u64,
    /// Bytes of one stream or image as it will be on a disk, holes included, at most.
    pub stream_bytes: u64,
    /// The same of everything in the file together.
    pub total_bytes: u64,
    /// Bytes of the memory stream beyond the guest's memory: devices, and what the hypervisor adds.
    pub memory_slack_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { manifest_bytes: 4 << 20, stream_bytes: 4 << 40, total_bytes: 16 << 40, memory_slack_bytes: 1 << 30 }
    }
}
