//! vws-bus: the contract between the daemon and its clients, in one place: the names, the option keys, the object
//! paths, the annotated introspection files that the daemon serves, and typed proxies for clients in Rust.
//!
//! Owns: every word that stands on the bus. The prose of the contract is in `interfaces/*.xml`; the tables here are
//! tested against it. Must not know: what a workspace is inside the daemon, policies, the store.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking"))]

pub mod client;
pub mod failure;
pub mod interfaces;
pub mod keys;
pub mod names;
pub mod path;
