//! The one map from I/O failures to the product's error.

use std::io;
use std::path::Path;
use vws_domain::{Error, ErrorKind};

/// Bytes in the unit that a reader grasps at once.
pub(crate) fn amount(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes < 10 * MIB { format!("{bytes} bytes") } else { format!("{} MiB", bytes / MIB) }
}

/// Bytes that may be written to the device of `folder`.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(folder)?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// No room for `needed` bytes (`None`: not known).
pub(crate) fn no_space(object: impl Into<String>, folder: &Path, needed: Option<u64>) -> Error {
    let free = free_bytes(folder).map_or_else(|_| "an unknown amount".to_owned(), amount);
    let needed = needed.map_or_else(|| "more is needed".to_owned(), |needed| format!("{} are needed", amount(needed)));
    Error::new(
        ErrorKind::NoSpace,
        object,
        format!("does not fit: the device of `{}` has {free} free, {needed}", folder.display()),
        "free space there or remove images that nobody uses, then repeat the request",
    )
}

/// An I/O failure about `object`, while writing below `folder`.
pub(crate) fn failed(object: impl Into<String>, doing: &str, folder: &Path, needed: Option<u64>, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => no_space(object, folder, needed),
        io::ErrorKind::FileTooLarge => Error::new(
            ErrorKind::NoSpace,
            object,
            format!("is larger than the library's file system, or the daemon's file size limit, allows ({doing}: {error})"),
            "raise the limit, or put the library on another file system",
        ),
        _ => Error::internal(object, format!("{doing}: {error}")),
    }
}

/// The bytes are not what was expected.
pub(crate) fn wrong_digest(object: impl Into<String>, expected: &str, found: &str, remedy: &str) -> Error {
    Error::new(ErrorKind::Damaged, object, format!("has the sha256 {found}, expected was {expected}"), remedy).with_code("digest")
}

/// Somebody asked to stop.
pub(crate) fn cancelled(object: impl Into<String>) -> Error {
    Error::new(ErrorKind::Cancelled, object, "was cancelled; nothing of it was kept", "repeat it when it is wanted after all")
}
