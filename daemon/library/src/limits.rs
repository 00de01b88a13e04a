//! The named limits of the library.

use std::time::Duration;

/// Limits of a [`crate::Library`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one imported file, at most.
    pub blob_bytes: u64,
    /// To resolve a name and to connect.
    pub connect: Duration,
    /// Until the headers of an answer are complete.
    pub headers: Duration,
    /// Without a byte of the body.
    pub stall: Duration,
    /// For one download in all.
    pub download: Duration,
    /// Redirects followed in one download.
    pub redirects: u32,
    /// Bytes that stay free on the library's device: an import that would go below is refused before it begins.
    pub keep_free_bytes: u64,
    /// Bytes of a bundle's manifest, at most.
    pub manifest_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blob_bytes: 4 << 40,
            connect: Duration::from_secs(20),
            headers: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            download: Duration::from_secs(24 * 3600),
            redirects: 5,
            keep_free_bytes: 64 << 20,
            manifest_bytes: 4 << 20,
        }
    }
}
