//! The backend edge: plugins, the processes that hold them, the calls to them.
//!
//! Owns: loading a plugin (`load`, the daemon's only unsafe code), the child role (`host`), frames between the two, and on the
//! daemon's side the children, their supervision and the registry of hosts.
//! Must not know: the store, the bus, the policies, operations. It moves documents and descriptors and does not read them.
//!
//! ```text
//! Backends -> Plugin -> Shard (hosts of one child) -> Child ==socket pair==> host -> the vendor's .so
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking"))]

mod breaker;
mod child;
mod error;
mod file;
mod frame;
mod host;
mod load;
mod registry;
mod schedule;
mod shard;
mod socket;
mod spawner;

pub use child::{CANCEL_GRACE, Isolation};
pub use error::CallError;
pub use host::plugin_host_main;
pub use registry::{BackendEvent, Backends, HOSTS_PER_CHILD, PluginConfig, PluginState, PluginStatus};

/// The named limits of this edge.
pub mod limits {
    pub use crate::breaker::{BACK_OFF_FIRST, BACK_OFF_MAX, CHILD_FAILURES, COOL_DOWN, HOST_FAILURES, WINDOW};
    pub use crate::child::{CANCEL_GRACE, EVENTS_PER_SECOND, EXIT_GRACE, MAX_CALLS_IN_FLIGHT, MAX_QUEUED_BYTES, START_DEADLINE};
    pub use crate::frame::{MAX_EVENT_BYTES, MAX_FRAME_BYTES, MAX_FRAME_FDS};
    pub use crate::host::MAX_THREADS;
    pub use crate::schedule::MAX_CALLS_PER_HOST;
    pub use crate::shard::{CLOSE_DEADLINE, OPEN_DEADLINE};
}
