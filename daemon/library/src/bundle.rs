//! Bundles: a folder of streams and a manifest, built beside its name and given it when every byte is hashed and synced.

use serde_json::Value;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use vws_domain::{BundleFile, BundleId, Error, ErrorKind, Result};

use crate::copy::{self, Stopped, Watch};
use crate::fail;
use crate::library::Library;
use crate::part;

/// The manifest's file name; no stream can have it.
const MANIFEST: &str = "manifest.json";
/// The member of the manifest that lists the streams with their digests.
const FILES: &str = "files";
/// Characters of a stream's name, at most.
const NAME_CHARS: usize = 64;

/// A bundle in the making. Dropped unfinished, it is removed.
#[derive(Debug)]
pub struct BundleWriter {
    id: BundleId,
    part: PathBuf,
    whole: PathBuf,
    /// Held as long as somebody works on it.
    _lock: File,
    finished: bool,
}

fn object(id: BundleId) -> String {
    format!("bundle `{id}`")
}

impl Library {
    /// Begins a bundle. One that was begun before under this id and not finished is removed.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when somebody is at work on it; [`ErrorKind::NoSpace`].
    pub fn bundle_begin(&self, id: BundleId) -> Result<BundleWriter> {
        self.bundle_discard(id)?;
        let part = self.part_path(id);
        let failed = |doing: &str, error: &std::io::Error| fail::failed(object(id), doing, &self.bundles(), None, error);
        DirBuilder::new().mode(0o700).create(&part).map_err(|error| failed("create", &error))?;
        let lock = part::hold(&part).map_err(|error| failed("lock", &error))?.ok_or_else(|| in_work(id))?;
        Ok(BundleWriter { id, part, whole: self.whole_path(id), _lock: lock, finished: false })
    }

    /// Removes what was begun under this id and not finished; `false` when there was nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when somebody is at work on it.
    pub fn bundle_discard(&self, id: BundleId) -> Result<bool> {
        let part = self.part_path(id);
        match part::hold(&part) {
            Ok(Some(_lock)) => remove_folder(id, &part),
            Ok(None) => Err(in_work(id)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::internal(object(id), format!("lock: {error}"))),
        }
    }

    /// Opens a bundle: its manifest, and each of `files` in that order, verified and at its start.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] for a file that is not what its digest says, is missing or not listed, and for a manifest that
    /// cannot be read or lists other digests; [`ErrorKind::NotFound`]; [`ErrorKind::Cancelled`].
    pub fn bundle_open(&self, id: BundleId, files: &[BundleFile], watch: Watch<'_>) -> Result<(Value, Vec<(String, File)>)> {
        let folder = self.whole_path(id);
        if !folder.is_dir() {
            return Err(Error::new(
                ErrorKind::NotFound,
                object(id),
                "is not in the library",
                "`vws doctor` says what became of it",
            ));
        }
        let manifest = self.manifest(id, &folder)?;
        if manifest.get(FILES) != Some(&listed(files)) {
            return Err(damaged(id, "its manifest lists other files or digests than were recorded when it was made"));
        }
        let total = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size_bytes));
        let mut done = 0_u64;
        let mut opened = Vec::with_capacity(files.len());
        for expected in files {
            let path = folder.join(checked_name(id, &expected.name)?);
            let mut file = File::open(&path)
                .map_err(|error| damaged(id, &format!("its file `{}` cannot be opened: {error}", expected.name)))?;
            let unreadable =
                |error: std::io::Error| damaged(id, &format!("its file `{}` cannot be read: {error}", expected.name));
            let found = copy::digest(&mut file, total, done, &mut *watch)
                .map_err(unreadable)?
                .ok_or_else(|| fail::cancelled(object(id)))?;
            if found.digest != expected.digest {
                let of = format!("file `{}` of {}", expected.name, object(id));
                return Err(fail::wrong_digest(
                    of,
                    &expected.digest,
                    &found.digest,
                    "put back a copy of the bundle; what is there cannot be resumed",
                ));
            }
            std::io::Seek::rewind(&mut file).map_err(unreadable)?;
            done = done.saturating_add(found.size_bytes);
            opened.push((expected.name.clone(), file));
        }
        Ok((manifest, opened))
    }

    /// Opens the files of a bundle for a reader that checks their digests itself.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Damaged`] for one that is missing.
    pub fn bundle_files(&self, id: BundleId, files: &[BundleFile]) -> Result<Vec<File>> {
        let folder = self.whole_path(id);
        let open = |expected: &BundleFile| {
            let path = folder.join(checked_name(id, &expected.name)?);
            File::open(path).map_err(|error| damaged(id, &format!("its file `{}` cannot be opened: {error}", expected.name)))
        };
        files.iter().map(open).collect()
    }

    /// Removes a complete bundle; `false` when it was not there. Who has its files open keeps them.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn bundle_remove(&self, id: BundleId) -> Result<bool> {
        let whole = self.whole_path(id);
        if !whole.exists() {
            return Ok(false);
        }
        // Out of sight first: a bundle is there whole or not at all, also when a crash comes in between.
        self.bundle_discard(id)?;
        let part = self.part_path(id);
        std::fs::rename(&whole, &part).map_err(|error| Error::internal(object(id), format!("remove: {error}")))?;
        remove_folder(id, &part)
    }

    fn manifest(&self, id: BundleId, folder: &Path) -> Result<Value> {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut text = Vec::new();
            File::open(folder.join(MANIFEST))?.take(self.limits.manifest_bytes.saturating_add(1)).read_to_end(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|error| damaged(id, &format!("its manifest cannot be read: {error}")))?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > self.limits.manifest_bytes {
            return Err(damaged(id, &format!("its manifest is longer than {} bytes", self.limits.manifest_bytes)));
        }
        serde_json::from_slice(&text).map_err(|error| damaged(id, &format!("its manifest is no JSON: {error}")))
    }

    fn part_path(&self, id: BundleId) -> PathBuf {
        self.bundles().join(format!("{id}{}", part::SUFFIX))
    }

    fn whole_path(&self, id: BundleId) -> PathBuf {
        self.bundles().join(id.to_string())
    }
}

impl BundleWriter {
    /// A new, empty stream, to be written (and read back) by whoever gets it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a name that is taken or is not 1 to 64 characters of `a-z 0-9 - _ .`;
    /// [`ErrorKind::NoSpace`].
    pub fn stream(&self, name: &str) -> Result<File> {
        let path = self.part.join(checked_name(self.id, name)?);
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::invalid(object(self.id), format!("has a stream `{name}` already"), "choose another name")
            }
            _ => fail::failed(object(self.id), "create a stream", &self.part, None, &error),
        })
    }

    /// A new stream with all that a reader gives, at most `size_bytes`; runs of zeros become holes. The file, to be looked at.
    ///
    /// # Errors
    /// As [`Self::stream`]; what `read_failed` makes of a failed read; [`ErrorKind::Cancelled`].
    pub fn fill(
        &self,
        name: &str,
        from: &mut dyn Read,
        size_bytes: u64,
        watch: Watch<'_>,
        read_failed: impl FnOnce(&std::io::Error) -> Error,
    ) -> Result<File> {
        let mut file = self.stream(name)?;
        match copy::copy(from, &mut file, size_bytes, size_bytes, watch) {
            Ok(_) => Ok(file),
            Err(Stopped::Cancelled) => Err(fail::cancelled(object(self.id))),
            Err(Stopped::TooLong) => Err(damaged(self.id, &format!("its stream `{name}` is longer than it says"))),
            Err(Stopped::Read(error)) => Err(read_failed(&error)),
            Err(Stopped::Write(error)) => {
                Err(fail::failed(object(self.id), "write a stream", &self.part, Some(size_bytes), &error))
            }
        }
    }

    /// A stream that was made before, to be looked at.
    ///
    /// # Errors
    /// Internal: it cannot be opened.
    pub fn reopen(&self, name: &str) -> Result<File> {
        File::open(self.part.join(checked_name(self.id, name)?))
            .map_err(|error| Error::internal(object(self.id), format!("open `{name}`: {error}")))
    }

    /// Completes the bundle: hashes and syncs every stream, writes `manifest` (a JSON object) with the member `files` (name,
    /// sha256, size of each stream) added, and gives the bundle its name. A complete one of the same id, from a run that
    /// crashed before this was recorded, is replaced. The streams, sorted by name.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`]; nothing is left behind.
    pub fn finish(mut self, mut manifest: Value) -> Result<Vec<BundleFile>> {
        let id = self.id;
        let files = self.hashed().map_err(|error| fail::failed(object(id), "hash", &self.part, None, &error))?;
        let Some(members) = manifest.as_object_mut() else {
            return Err(Error::internal(object(id), "its manifest is not a JSON object"));
        };
        members.insert(FILES.to_owned(), listed(&files));
        self.publish(&manifest).map_err(|error| fail::failed(object(id), "complete", &self.part, None, &error))?;
        self.finished = true;
        Ok(files)
    }

    fn hashed(&self) -> std::io::Result<Vec<BundleFile>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.part)? {
            let entry = entry?;
            let mut file = File::open(entry.path())?;
            file.sync_all()?;
            let total = file.metadata()?.len();
            let mut go_on = |_, _| std::ops::ControlFlow::Continue(());
            let Some(found) = copy::digest(&mut file, total, 0, &mut go_on)? else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push(BundleFile { name, digest: found.digest, size_bytes: found.size_bytes });
        }
        files.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(files)
    }

    fn publish(&self, manifest: &Value) -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.part.join(MANIFEST))?;
        writeln!(file, "{manifest:#}")?;
        file.sync_all()?;
        part::sync_folder(&self.part)?;
        if self.whole.exists() {
            std::fs::remove_dir_all(&self.whole)?;
        }
        std::fs::rename(&self.part, &self.whole)?;
        match self.whole.parent() {
            Some(folder) => part::sync_folder(folder),
            None => Ok(()),
        }
    }
}

impl Drop for BundleWriter {
    fn drop(&mut self) {
        if !self.finished
            && self.part.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.part)
        {
            tracing::warn!(bundle = %self.id, %error, "an unfinished bundle could not be removed");
        }
    }
}

/// The streams as the manifest lists them.
fn listed(files: &[BundleFile]) -> Value {
    files
        .iter()
        .map(|file| serde_json::json!({ "name": file.name, "sha256": file.digest, "size-bytes": file.size_bytes }))
        .collect()
}

/// A stream's name becomes a file name: nothing that leads elsewhere.
fn checked_name(id: BundleId, name: &str) -> Result<&str> {
    let good = !name.is_empty()
        && name.len() <= NAME_CHARS
        && name != MANIFEST
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
    if good {
        return Ok(name);
    }
    Err(Error::invalid(
        object(id),
        format!("cannot have a stream `{}`", vws_domain::shown(name)),
        format!("name streams with 1 to {NAME_CHARS} characters of a-z 0-9 - _ ."),
    ))
}

fn damaged(id: BundleId, fact: &str) -> Error {
    Error::new(ErrorKind::Damaged, object(id), fact, "put back a copy of the bundle; what is there cannot be resumed")
}

fn in_work(id: BundleId) -> Error {
    Error::new(ErrorKind::Conflict, object(id), "is being written by somebody else", "wait for the job that is at work on it")
}

fn remove_folder(id: BundleId, folder: &Path) -> Result<bool> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::internal(object(id), format!("remove: {error}"))),
    }
}
