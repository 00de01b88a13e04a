//! The SQLite edge: the only package that names rusqlite.
//!
//! Owns: the database file, its schema and migrations, the writer thread, readers, retention, online backup.
//! What the daemon acknowledges is durable: a commit's callback runs after the fsync of its transaction.
//! The ledger is `hosts` and `reservations`, versioned by the sequence number of the transaction that wrote them, so that
//! the input of any recorded decision can be rebuilt ([`Reader::rebuild_at`]).
//! Must not know: what a change means. It stores [`vws_domain::Change`]s and gives back the [`vws_domain::Site`] that they make.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking"))]

mod fail;
mod limits;
mod load;
mod migrate;
mod open;
mod packed;
mod prune;
mod reader;
mod rows;
mod store;
mod tables;
mod walk;
mod write;
mod writer;

pub use limits::Limits;
pub use reader::{DecisionFilter, Reader, Recorded};
pub use store::{Batch, PolicyGeneration, Store};
pub use walk::Step;
