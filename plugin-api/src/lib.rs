//! The plugin interface: what a vendor builds against, and all that a plugin shares with the daemon.
//!
//! Owns: the documents (`doc`), the C ABI's mirror (`abi`), the Rust SDK (`sdk`).
//! Must not know: the daemon, its policies, its database. Depends on no other package of this project.

pub mod doc;
pub mod sdk;
