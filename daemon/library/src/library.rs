//! The library's folder: opening it, what is in it, how much it takes.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use vws_domain::{BundleId, Error, ErrorKind, Result};

use crate::fail;
use crate::keep::Keeping;
use crate::limits::Limits;
use crate::part::{self, Part};

/// The bytes of a daemon. Shared freely: every method takes `&self` and blocks.
#[derive(Debug)]
pub struct Library {
    folder: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) keeping: Keeping,
}

/// An imported file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// sha256, 64 lower-case hexadecimal digits: its name in the library.
    pub digest: String,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// What the library takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs.
    pub blobs: u64,
    /// Bytes that they take on the device: holes do not count.
    pub blob_bytes: u64,
    /// Complete bundles.
    pub bundles: u64,
    /// Bytes that they take on the device.
    pub bundle_bytes: u64,
    /// Bytes that are free on the device.
    pub free_bytes: u64,
}

impl Library {
    /// Opens the library in `folder`, makes its folders, and removes what an earlier run left unfinished. The folder is for
    /// the daemon alone: private images and memories of guests are in it.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self> {
        let library = Self { folder: folder.to_owned(), limits, keeping: Keeping::default() };
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::InvalidState,
                format!("library `{}`", folder.display()),
                format!("cannot be used: {error}"),
                "see to the folder's owner and mode, or name another --state folder",
            )
        };
        for folder in [library.blobs(), library.bundles()] {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
            part::sweep(&folder).map_err(failed)?;
        }
        Ok(library)
    }

    /// Where blobs are.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.folder.join("blobs").join("sha256")
    }

    /// Where bundles are.
    pub(crate) fn bundles(&self) -> PathBuf {
        self.folder.join("bundles")
    }

    /// A file without a name, for bytes on their way through: it is gone when its last descriptor is closed.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`], or the folder cannot be written.
    pub fn scratch_file(&self) -> Result<File> {
        let folder = self.blobs();
        Part::new(&folder)
            .and_then(Part::anonymous)
            .map_err(|error| fail::failed("a scratch file", "create", &folder, None, &error))
    }

    /// All blobs with the lengths of their files, sorted by digest.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list_blobs(&self) -> Result<Vec<Blob>> {
        let mut found = Vec::new();
        for (name, path) in self.entries(&self.blobs())? {
            if vws_domain::checked_digest(&name).is_ok_and(|digest| digest == name) {
                match path.metadata() {
                    Ok(facts) => found.push(Blob { digest: name, size_bytes: facts.len() }),
                    // Removed in between.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(self.unreadable(&error)),
                }
            }
        }
        Ok(found)
    }

    /// Ids of all complete bundles, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list_bundles(&self) -> Result<Vec<BundleId>> {
        Ok(self.entries(&self.bundles())?.iter().filter_map(|(name, _)| BundleId::parse(name).ok()).collect())
    }

    /// Counts and sizes.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for (name, path) in self.entries(&self.blobs())? {
            usage.blobs += u64::from(!name.ends_with(part::SUFFIX));
            usage.blob_bytes += self.taken(&path)?;
        }
        for (name, path) in self.entries(&self.bundles())? {
            usage.bundles += u64::from(!name.ends_with(part::SUFFIX));
            for (_, file) in self.entries(&path)? {
                usage.bundle_bytes += self.taken(&file)?;
            }
        }
        usage.free_bytes = fail::free_bytes(&self.folder).map_err(|error| self.unreadable(&error))?;
        Ok(usage)
    }

    /// Bytes that a file takes on its device.
    fn taken(&self, path: &Path) -> Result<u64> {
        match path.symlink_metadata() {
            Ok(facts) => Ok(facts.blocks() * 512),
            // Removed in between.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    fn entries(&self, folder: &Path) -> Result<Vec<(String, PathBuf)>> {
        let read = || -> std::io::Result<Vec<(String, PathBuf)>> {
            let mut entries = Vec::new();
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                entries.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
            }
            entries.sort();
            Ok(entries)
        };
        match read() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            outcome => outcome.map_err(|error| self.unreadable(&error)),
        }
    }

    fn unreadable(&self, error: &std::io::Error) -> Error {
        Error::internal(format!("library `{}`", self.folder.display()), error.to_string())
    }
}
