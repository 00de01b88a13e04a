//! The store's front: open, commit, read, back up, close.

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use vws_domain::{Change, Error, ErrorKind, PolicyHash, Result, Site, Timestamp};

use crate::fail::{Fail, Tried};
use crate::limits::Limits;
use crate::open;
use crate::reader::Reader;
use crate::write;
use crate::writer::{Command, Done, Health, Prepared, Writer};

/// Pages that a backup copies between two reports of progress.
const BACKUP_PAGES: i32 = 256;

/// What one transaction of the ledger writes: all of it or nothing.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its number: the last one's plus one.
    pub sequence: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// What it writes. Workspaces are written first, everything else in this order.
    pub changes: Vec<Change>,
}

/// That a policy set came into force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyGeneration {
    /// Counts up.
    pub generation: u64,
    /// The set.
    pub hash: PolicyHash,
    /// When.
    pub at: Timestamp,
    /// How: `files`, `start`, `reload`, `rollback`, `put-back`.
    pub cause: String,
    /// By whom: a user, or the daemon.
    pub actor: String,
    /// What the gate found, in a sentence.
    pub report: String,
    /// Hash of the folder's files over which an older set was put back; empty: the set is that of the folder.
    pub pinned_over: String,
}

/// The database of a daemon. One process has it open; others are kept out by a lock.
pub struct Store {
    path: PathBuf,
    commands: Sender<Command>,
    writer: Mutex<Option<JoinHandle<()>>>,
    health: Arc<Health>,
    /// Held as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens or creates the database at `path` and loads the projection.
    ///
    /// # Errors
    /// What it refuses it leaves untouched: a database of a newer version ([`ErrorKind::Unsupported`], code
    /// `newer-database`), one that another process has open ([`ErrorKind::InvalidState`], `state-in-use`, names its pid), a
    /// file that is not ours (`not-ours`), a damaged one ([`ErrorKind::Damaged`]).
    pub fn open(path: &Path) -> Result<(Self, Site)> {
        Self::open_with(path, Limits::default())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(path: &Path, limits: Limits) -> Result<(Self, Site)> {
        let opened = open::open(path, &limits)?;
        let (commands, receiver) = mpsc::channel();
        let health = Arc::<Health>::default();
        let writer = Writer {
            connection: opened.connection,
            commands: receiver,
            limits,
            path: path.to_owned(),
            last: opened.site.sequence,
            since_prune: 0,
            broken: None,
            health: Arc::clone(&health),
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| Error::internal(open::object(path), format!("its writer thread did not start: {error}")))?;
        Ok((Self { path: path.to_owned(), commands, writer: Mutex::new(Some(writer)), health, _lock: opened.lock }, opened.site))
    }

    /// Hands a batch to the writer; what it writes is made ready here, on the caller's thread. `done` is called once, on the writer's thread, in the order of the commits, after the
    /// fsync of the transaction that holds the batch; it should only pass the news on.
    ///
    /// Errors that `done` gets, by code:
    /// - `constraint` or [`ErrorKind::InvalidArgument`]: the batch itself was refused. Those before it stand. Its number stays
    ///   free, so that those already handed in behind it get `sequence`: they were decided on a state that never came to be.
    /// - `sequence`: the number is not the last one's plus one; nothing was written.
    /// - [`ErrorKind::NoSpace`]: the whole group was taken back. The next batch begins again at the last committed number
    ///   plus one.
    /// - `store-failed`: the device failed while it was told to sync, so that it is open what is on it. The store takes
    ///   no more until it could open the database again, which it tries by itself ([`Store::on_reopened`]).
    /// - `store-closed`: the store was closed before.
    pub fn commit(&self, batch: Batch, done: impl FnOnce(Result<u64>) + Send + 'static) {
        // A send that fails drops the command, and the drop answers.
        drop(self.commands.send(Command::Commit(Prepared::batch(&batch), Done::new(done))));
    }

    /// [`Store::commit`] that waits for the outcome.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn commit_wait(&self, batch: Batch) -> Result<u64> {
        let (answer, wait) = mpsc::sync_channel(1);
        self.commit(batch, move |outcome| drop(answer.send(outcome)));
        wait.recv().unwrap_or_else(|_| Err(Error::internal(open::object(&self.path), "the writer thread is gone")))
    }

    /// Keeps the sources of a policy set, once by its hash: file name to text. Waits until it is durable.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`], or the store failed.
    pub fn put_policy_set(&self, hash: &PolicyHash, files: &BTreeMap<String, String>) -> Result<()> {
        self.policy_set(hash, files, None)
    }

    /// The same for a set that is about to come into force, with its entry in the history, in one transaction.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`], or the store failed.
    pub fn put_policy_generation(&self, generation: PolicyGeneration, files: &BTreeMap<String, String>) -> Result<()> {
        let hash = generation.hash.clone();
        self.policy_set(&hash, files, Some(generation))
    }

    fn policy_set(
        &self,
        hash: &PolicyHash,
        files: &BTreeMap<String, String>,
        generation: Option<PolicyGeneration>,
    ) -> Result<()> {
        let (answer, wait) = mpsc::sync_channel(1);
        let done = Done::new(move |outcome: Result<u64>| drop(answer.send(outcome.map(drop))));
        let prepared = Prepared { sequence: None, statements: write::policy_set(&hash.0, files, generation.as_ref()) };
        drop(self.commands.send(Command::Commit(prepared, done)));
        wait.recv().unwrap_or_else(|_| Err(Error::internal(open::object(&self.path), "the writer thread is gone")))
    }

    /// Why nothing is written now: the device's failure. `None` when all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.health.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After a failure of its device the store opens the database again, as soon as that works. `told` then gets the projection of what
    /// is on the disk, on the writer's thread, before anything more is written: a commit whose outcome was open may be in it or not.
    pub fn on_reopened(&self, told: impl Fn(Site) + Send + 'static) {
        *self.health.reopened.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(told));
    }

    /// A reader with a connection of its own. It sees what is committed, and never waits for the writer.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn reader(&self) -> Result<Reader> {
        Reader::open(&self.path)
    }

    /// Writes a copy of one instant to the new file `to` while the daemon goes on. `progress` gets pages done and pages in
    /// all. The file is complete when it appears under its name.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], [`ErrorKind::NoSpace`], or the file cannot be written. Nothing is left behind.
    pub fn backup(&self, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<()> {
        let object = format!("backup `{}`", to.display());
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::InvalidArgument, object.clone(), format!("cannot be written: {error}"), "choose another place")
        };
        if to.symlink_metadata().is_ok() {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                object,
                "is there already",
                "choose another name, or remove it first",
            ));
        }
        let part = open::beside(to, ".part");
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
        let outcome = copy(&self.path, &part, &mut progress).map_err(|fail| fail.about(object.clone())).and_then(|()| {
            File::open(&part).and_then(|file| file.sync_all()).map_err(failed)?;
            // A hard link, unlike a rename, never replaces what appeared there in between.
            std::fs::hard_link(&part, to).map_err(failed)
        });
        for leftover in ["", "-journal", "-wal", "-shm"] {
            let path = open::beside(&part, leftover);
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(file = %path.display(), error = %error, "a part of a backup could not be removed");
            }
        }
        outcome?;
        open::sync_folder(to)
    }

    /// Finishes what was handed in, notes the orderly end, and takes nothing more. Dropping does the same.
    pub fn end(&self) {
        drop(self.commands.send(Command::Stop));
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!(database = %self.path.display(), "the store's writer thread had failed");
        }
    }

    /// [`Store::end`], and lets go of the file.
    pub fn close(self) {
        drop(self);
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).field("trouble", &self.trouble()).finish_non_exhaustive()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.end();
    }
}

/// Copies the database at one instant: an open read transaction holds it, so that commits in between do not restart the copy.
fn copy(from: &Path, to: &Path, progress: &mut impl FnMut(u64, u64)) -> Tried<()> {
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let mut target = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let instant = source.unchecked_transaction()?;
    instant.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
    {
        let backup = Backup::new(&source, &mut target)?;
        loop {
            let step = backup.step(BACKUP_PAGES)?;
            let at = backup.progress();
            let pages = |count: i32| u64::try_from(count).unwrap_or(0);
            progress(pages(at.pagecount).saturating_sub(pages(at.remaining)), pages(at.pagecount));
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                // Nobody else knows the target, and the source is a snapshot: somebody else's lock is a defect.
                _ => return Err(Fail::Row("another process holds a lock on the copy".to_owned())),
            }
        }
    }
    target.close().map_err(|(_, error)| error)?;
    Ok(())
}
