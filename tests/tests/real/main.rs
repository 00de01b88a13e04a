//! The daemon on a real libvirt with real guests. `VWS_TEST_LIBVIRT=1` turns these tests on; otherwise each says that it is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod child;
mod crash;
mod space;
