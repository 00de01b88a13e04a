//! The cache of images on a host: which of them give way to another one.

use crate::Timestamp;

/// An image on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedImage {
    /// sha256 of its bytes.
    pub digest: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Live workspaces that are on the host, or on their way to it, and need the image there.
    pub workspaces: u64,
    /// When a workspace last used it there; the beginning of time where the ledger knows of none.
    pub last_used: Timestamp,
}

/// The images that must go so that `incoming_bytes` more fit below `limit_bytes`: the least recently used ones that no workspace
/// uses, no more than needed. Among those of one time the larger goes first, then by digest.
///
/// # Errors
/// The bytes that would be too many with all of those gone.
pub fn evicted(cached: &[CachedImage], incoming_bytes: u64, limit_bytes: u64) -> Result<Vec<&CachedImage>, u64> {
    let held = cached.iter().fold(incoming_bytes, |sum, image| sum.saturating_add(image.size_bytes));
    let mut over = held.saturating_sub(limit_bytes);
    let mut idle: Vec<&CachedImage> = cached.iter().filter(|image| image.workspaces == 0).collect();
    idle.sort_by_key(|image| (image.last_used, std::cmp::Reverse(image.size_bytes), image.digest.as_str()));
    let mut out = Vec::new();
    for image in idle {
        if over == 0 {
            break;
        }
        over = over.saturating_sub(image.size_bytes);
        out.push(image);
    }
    if over == 0 { Ok(out) } else { Err(over) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use super::{CachedImage, evicted};
    use crate::Timestamp;

    fn image(digest: &str, size_bytes: u64, workspaces: u64, last_used: u64) -> CachedImage {
        CachedImage { digest: digest.to_owned(), size_bytes, workspaces, last_used: Timestamp(last_used) }
    }

    #[test]
    fn the_least_recently_used_go_and_no_more_than_needed() {
        let cached = [image("new", 10, 0, 9), image("used", 50, 1, 1), image("old", 10, 0, 2), image("never", 5, 0, 0)];
        let gone = |incoming, limit| {
            evicted(&cached, incoming, limit).map(|gone| gone.iter().map(|image| image.digest.as_str()).collect::<Vec<_>>())
        };
        assert_eq!(gone(25, 100), Ok(vec![]));
        assert_eq!(gone(26, 100), Ok(vec!["never"]));
        assert_eq!(gone(31, 100), Ok(vec!["never", "old"]));
        assert_eq!(gone(50, 100), Ok(vec!["never", "old", "new"]));
        assert_eq!(gone(51, 100), Err(1));
        assert_eq!(gone(u64::MAX, 100), Err(u64::MAX - 100 - 25));
    }
}
