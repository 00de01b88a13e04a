//! Files and folders in the making. A part is locked by who makes it and removed when it is dropped unfinished; what a crash
//! leaves behind is a part without a lock, which the next start removes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How names of unfinished things end.
pub(crate) const SUFFIX: &str = ".part";

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A file in the making.
#[derive(Debug)]
pub(crate) struct Part {
    /// Where the bytes go.
    pub(crate) file: File,
    path: PathBuf,
    kept: bool,
}

impl Part {
    /// A new, empty part in `folder`, readable to its owner alone.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        loop {
            let name = format!("{}-{}{SUFFIX}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
            let path = folder.join(name);
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    file.try_lock().map_err(io::Error::from)?;
                    return Ok(Self { file, path, kept: false });
                }
                // The name of a process with the same number before a restart.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes it durable and gives it its name, mode 0444. What stood there is replaced: it has the same digest.
    pub(crate) fn publish(mut self, to: &Path) -> io::Result<()> {
        rustix::fs::fchmod(&self.file, rustix::fs::Mode::from_raw_mode(0o444))?;
        self.file.sync_all()?;
        std::fs::rename(&self.path, to)?;
        self.kept = true;
        match to.parent() {
            Some(folder) => sync_folder(folder),
            None => Ok(()),
        }
    }

    /// The file without a name: it is gone when the last descriptor is closed.
    pub(crate) fn anonymous(self) -> io::Result<File> {
        // The drop removes the name.
        let file = self.file.try_clone()?;
        file.unlock()?;
        Ok(file)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(file = %self.path.display(), %error, "an unfinished file could not be removed");
        }
    }
}

/// Makes a folder's entries durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Locks a folder or file for as long as the returned descriptor lives; `None` when somebody else holds it.
pub(crate) fn hold(path: &Path) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes the parts in `folder` that nobody works on and names them in the log.
pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().ends_with(SUFFIX) {
            continue;
        }
        let path = entry.path();
        let Some(_lock) = hold(&path)? else { continue };
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(&path)?;
        } else {
            std::fs::remove_file(&path)?;
        }
        tracing::info!(part = %path.display(), "removed what an earlier run had left unfinished");
    }
    Ok(())
}
