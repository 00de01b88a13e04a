//! The KVM backend: machines through libvirt and QEMU, accelerated where a guest was seen to run, emulated elsewhere.
//!
//! Owns: everything between the backend trait and libvirt. `backend` is the trait's one implementation, `host` one libvirt
//! connection, `machine` and `bundle` what is done to a machine, `xml` the definition, `storage` the host's volumes, `probe` what
//! the host can really do. Must not know: users, leases, policies, the daemon's database.
//! Unsafe code stands in `events` alone: the few libvirt calls that the safe crate lacks.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking"))]

mod backend;
mod bootsector;
mod bundle;
mod console;
mod defined;
mod errors;
mod events;
mod host;
mod machine;
mod migrate;
mod network;
mod probe;
mod qcow2;
mod readback;
mod resize;
mod seed;
mod settings;
mod snapshot;
mod stats;
mod storage;
mod stream;
mod xml;

pub use backend::Kvm;

vws_plugin_api::export_backend!(Kvm);
