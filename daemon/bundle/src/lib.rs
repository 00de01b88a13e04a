//! A bundle's manifest and the portable file of a whole bundle: how they are written, read and checked.
//!
//! Owns: the one reading of a manifest (text to [`vws_domain::Manifest`]), the file's format, and every check that needs no
//! daemon, so that the daemon's import and the command line's offline `verify` are the same code. Whatever stands in a file is a
//! stranger's: it is checked against the named [`Limits`] before anything is made of it, and every byte against its digest.
//! Must not know: the library's folders, the catalogue, hosts. It reads and writes what it is handed, and blocks.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking"))]

mod check;
mod file;
mod limits;
mod manifest;

pub use file::{Content, Entry, Reader, Watch, Writer, error_of, verify};
pub use limits::Limits;
pub use manifest::{Guest, ImageFile, Portable, VERSION, parse, to_json};
