//! Blobs: import, look up, verify, remove. A blob's name is its sha256, so that the same bytes are there once.
//!
//! An import always reads all of its source, also when the digest that it names is there already: to know a digest is not to
//! have the bytes.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use vws_domain::{Error, ErrorKind, Result, checked_digest};

use crate::copy::{self, Copied, Stopped, Watch};
use crate::fail;
use crate::keep::Imported;
use crate::library::{Blob, Library};
use crate::part::Part;

/// What a mismatch says of a file or download.
const OTHER_BYTES: &str = "the file is not the one that was meant, or was damaged on its way: see to the source or the digest";

impl Library {
    /// Imports all of `from`, a regular file, from its start. With `expect`, its sha256 must be that. The same bytes again
    /// give the same blob, and mend one that was damaged.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] for another digest (both are named), [`ErrorKind::NoSpace`], [`ErrorKind::Cancelled`],
    /// [`ErrorKind::InvalidArgument`] for what is no regular file, or is empty or too long. Nothing is left behind.
    pub fn import_file(&self, mut from: File, expect: Option<&str>, watch: Watch<'_>) -> Result<Imported> {
        let object = "the file to import";
        let expect = expect.map(checked_digest).transpose()?;
        let facts = from.metadata().map_err(|error| unreadable(object, &error))?;
        if !facts.is_file() {
            return Err(Error::invalid(object, "is not a regular file", "give an image file, not a folder, device or pipe"));
        }
        if facts.len() == 0 {
            return Err(empty(object));
        }
        if facts.len() > self.limits.blob_bytes {
            return Err(self.too_long(object));
        }
        // Holes of a sparse file take no room here either.
        self.room_for(object, facts.len().min(facts.blocks().saturating_mul(512)))?;
        from.rewind().map_err(|error| unreadable(object, &error))?;
        self.import(object, &mut from, expect.as_deref(), facts.len(), watch, unreadable)
    }

    /// Imports what a reader gives, which must have this sha256. `size_bytes` is how long it says that it is; a failed read is
    /// told by `read_failed`.
    ///
    /// # Errors
    /// As [`Self::import_file`].
    pub fn import_reader(
        &self,
        object: &str,
        from: &mut dyn Read,
        digest: &str,
        size_bytes: u64,
        watch: Watch<'_>,
        read_failed: impl FnOnce(&std::io::Error) -> Error,
    ) -> Result<Imported> {
        let digest = checked_digest(digest)?;
        self.import(object, from, Some(&digest), size_bytes, watch, |_, error| read_failed(error))
    }

    /// Refuses what would leave less than [`crate::Limits::keep_free_bytes`].
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`].
    pub fn room_for(&self, object: &str, bytes: u64) -> Result<()> {
        let folder = self.blobs();
        let needed = bytes.saturating_add(self.limits.keep_free_bytes);
        let free = fail::free_bytes(&folder).map_err(|error| fail::failed(object, "statvfs", &folder, Some(needed), &error))?;
        if free < needed { Err(fail::no_space(object, &folder, Some(needed))) } else { Ok(()) }
    }

    /// Copies `from` into a part, checks it, publishes it. `total` is 0 when it is not known.
    pub(crate) fn import(
        &self,
        object: &str,
        from: &mut dyn Read,
        expect: Option<&str>,
        total: u64,
        watch: Watch<'_>,
        read_failed: impl FnOnce(&str, &std::io::Error) -> Error,
    ) -> Result<Imported> {
        let folder = self.blobs();
        let needed = Some(total).filter(|total| *total > 0);
        let failed = |doing: &str, error: &std::io::Error| fail::failed(object, doing, &folder, needed, error);
        let mut part = Part::new(&folder).map_err(|error| failed("create", &error))?;
        let copied = copy::copy(from, &mut part.file, self.limits.blob_bytes, total, watch).map_err(|stopped| match stopped {
            Stopped::Cancelled => fail::cancelled(object),
            Stopped::TooLong => self.too_long(object),
            Stopped::Read(error) => read_failed(object, &error),
            Stopped::Write(error) => failed("write", &error),
        })?;
        let Copied { digest, size_bytes } = copied;
        if let Some(expected) = expect.filter(|expected| *expected != digest) {
            return Err(fail::wrong_digest(object, expected, &digest, OTHER_BYTES));
        }
        if size_bytes == 0 {
            return Err(empty(object));
        }
        let path = folder.join(&digest);
        let imported = self.keeping.keep(Blob { digest, size_bytes });
        part.publish(&path).map_err(|error| failed("sync", &error))?;
        Ok(imported)
    }

    pub(crate) fn too_long(&self, object: &str) -> Error {
        let most = fail::amount(self.limits.blob_bytes);
        Error::invalid(object, format!("is longer than {most}, the limit of one image"), "give a smaller image")
    }

    /// The blob, open for reading from its start.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn blob(&self, digest: &str) -> Result<File> {
        let path = self.blob_path(digest)?;
        File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, blob_object(digest), "is not in the library", "import the image again")
            }
            _ => Error::internal(blob_object(digest), format!("open: {error}")),
        })
    }

    /// Whether the blob is there. Its bytes are not looked at.
    #[must_use]
    pub fn has(&self, digest: &str) -> bool {
        self.blob_path(digest).is_ok_and(|path| path.is_file())
    }

    /// Reads the blob and compares.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] naming both digests, [`ErrorKind::NotFound`], [`ErrorKind::Cancelled`].
    pub fn verify(&self, digest: &str, watch: Watch<'_>) -> Result<()> {
        let digest = checked_digest(digest)?;
        let mut file = self.blob(&digest)?;
        let read = |file: &mut File, watch: Watch<'_>| {
            let total = file.metadata()?.len();
            copy::digest(file, total, 0, watch)
        };
        match read(&mut file, watch) {
            Ok(Some(found)) if found.digest == digest => Ok(()),
            Ok(Some(found)) => Err(fail::wrong_digest(
                blob_object(&digest),
                &digest,
                &found.digest,
                "import the image again from its source; workspaces that were made from it may be damaged, too",
            )),
            Ok(None) => Err(fail::cancelled(blob_object(&digest))),
            // Sectors that cannot be read are damage as well.
            Err(error) => Err(Error::new(
                ErrorKind::Damaged,
                blob_object(&digest),
                format!("cannot be read: {error}"),
                "see to the device, then import the image again",
            )),
        }
    }

    /// Removes the blob unless somebody has just imported it or `used` says that it is needed; `false` when it stays or was not
    /// there. `used` is asked when no import of the same bytes can come in between any more. Who has it open keeps it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn remove_unless(&self, digest: &str, used: impl FnOnce() -> bool) -> Result<bool> {
        let path = self.blob_path(digest)?;
        let remove = || {
            if used() {
                return Ok(false);
            }
            match std::fs::remove_file(&path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(Error::internal(blob_object(digest), format!("remove: {error}"))),
            }
        };
        self.keeping.unless_kept(&checked_digest(digest)?, remove).unwrap_or(Ok(false))
    }

    /// A digest is checked before it becomes a file name.
    fn blob_path(&self, digest: &str) -> Result<PathBuf> {
        Ok(self.blobs().join(checked_digest(digest)?))
    }
}

/// "blob `<digest>`", for messages.
pub(crate) fn blob_object(digest: &str) -> String {
    format!("blob `{}`", vws_domain::shown(digest))
}

fn empty(object: &str) -> Error {
    Error::invalid(object, "is empty", "give an image file with something in it")
}

fn unreadable(object: &str, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::InvalidArgument, object, format!("cannot be read: {error}"), "see to the file and its device")
}
