//! The daemon's own bytes: disk images, kernels and initial RAM disks by their sha256, and bundles by their id.
//!
//! Owns: the library's folder. A file appears under its final name only when it is complete, verified and synced; until then
//! it is a `.part` that a restart removes. Nothing is trusted by its name: what leaves a bundle was hashed again before.
//! Must not know: the catalogue, workspaces, hosts, who may use what. Everything here blocks: callers choose the thread.
//!
//! ```text
//! blobs/sha256/<64 digits>                     0444
//! bundles/<bundle id>/{manifest.json,memory,disk-0,...}
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking"))]

mod blob;
mod bundle;
mod copy;
mod disk;
mod fail;
mod fetch;
mod keep;
mod kernel;
mod library;
mod limits;
mod part;
mod qcow2;

pub use bundle::BundleWriter;
pub use copy::Watch;
pub use disk::{DiskFacts, inspect_file, inspect_overlay};
pub use keep::Imported;
pub use library::{Blob, Library, Usage};
pub use limits::Limits;
pub use vws_domain::without_credentials;
