//! The plugin interface: what a vendor builds against, and all that a plugin shares with the daemon.
//!
//! Owns: the documents (`doc`), the C ABI's mirror (`abi`), the Rust SDK (`sdk`).
//! Must not know: the daemon, its policies, its database. Depends on no other package of this project.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking"))]

pub mod abi;
pub mod doc;
pub mod sdk;
