//! Which blobs somebody is at work on. A blob that was just imported is in no catalogue yet, so who removes orphans cannot know of
//! it from there: it is kept here until the importer lets go of it. Removal looks here and at the catalogue under one lock.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::library::Blob;

/// Digests that are kept, and how many keep each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keeping(Arc<Mutex<HashMap<String, usize>>>);

impl Keeping {
    /// Keeps the blob from now on. Called before it gets its name, so that no removal comes in between.
    pub(crate) fn keep(&self, blob: Blob) -> Imported {
        *self.lock().entry(blob.digest.clone()).or_default() += 1;
        Imported { blob, keeping: self.clone() }
    }

    /// Runs `remove` unless somebody keeps the digest; nobody can begin to meanwhile.
    pub(crate) fn unless_kept<T>(&self, digest: &str, remove: impl FnOnce() -> T) -> Option<T> {
        let kept = self.lock();
        if kept.contains_key(digest) { None } else { Some(remove()) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A blob that was imported. It is not removed as long as this lives: hold it until the catalogue's entry is durable.
#[derive(Debug)]
#[must_use = "the blob may be removed as soon as this is dropped"]
pub struct Imported {
    blob: Blob,
    keeping: Keeping,
}

impl Deref for Imported {
    type Target = Blob;
    fn deref(&self) -> &Blob {
        &self.blob
    }
}

impl Drop for Imported {
    fn drop(&mut self) {
        let mut kept = self.keeping.lock();
        if let Some(count) = kept.get_mut(&self.blob.digest) {
            *count -= 1;
            if *count == 0 {
                kept.remove(&self.blob.digest);
            }
        }
    }
}
