//! The writer thread: the only one that changes the database. It takes whatever waits, up to a limit, writes it in one
//! transaction, and answers after the fsync, in order. While one group is being synced the next one gathers.

use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use vws_domain::{Error, ErrorKind, Result, Site};

use crate::fail::{Fail, Tried};
use crate::limits::Limits;
use crate::store::Batch;
use crate::write::{self, Statements};
use crate::{open, prune};

/// Called once with the outcome; on its drop at the latest, so that nobody waits for ever.
pub(crate) struct Done<T>(Option<Box<dyn FnOnce(Result<T>) + Send>>);

impl<T> Done<T> {
    pub(crate) fn new(call: impl FnOnce(Result<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(call)))
    }

    pub(crate) fn call(mut self, outcome: Result<T>) {
        if let Some(call) = self.0.take() {
            call(outcome);
        }
    }
}

impl<T> Drop for Done<T> {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call(Err(Error::new(
                ErrorKind::Busy,
                "the store",
                "is closed: nothing was written",
                "repeat the request when the daemon is back",
            )
            .with_code("store-closed")));
        }
    }
}

/// What a transaction writes, ready to be run; or why it cannot be stored.
pub(crate) struct Prepared {
    /// Its number; `None` for what is no transaction of the ledger.
    pub(crate) sequence: Option<u64>,
    pub(crate) statements: Tried<Statements>,
}

impl Prepared {
    /// A batch of the ledger.
    pub(crate) fn batch(batch: &Batch) -> Self {
        Self { sequence: Some(batch.sequence), statements: write::batch(batch) }
    }

    fn object(&self) -> String {
        self.sequence.map_or_else(|| "policy set".to_owned(), |sequence| format!("transaction {sequence}"))
    }
}

/// What the writer is asked.
pub(crate) enum Command {
    Commit(Prepared, Done<u64>),
    Stop,
}

/// Pause before the first try to open the database again; doubles up to [`REOPEN_MOST`].
const REOPEN_FIRST: Duration = Duration::from_millis(100);
const REOPEN_MOST: Duration = Duration::from_secs(30);

/// What the writer and the store's front share.
#[derive(Default)]
pub(crate) struct Health {
    /// Why nothing is written now.
    pub(crate) trouble: Mutex<Option<String>>,
    /// Told of the projection that was loaded when the database was opened again.
    pub(crate) reopened: Mutex<Option<Box<dyn Fn(Site) + Send>>>,
}

/// A commit failed in a way that leaves open what is on the disk: until the database has been opened again nothing is written.
pub(crate) struct Broken {
    pub(crate) detail: String,
    next_try: Instant,
    pause: Duration,
}

impl Broken {
    pub(crate) fn new(detail: String) -> Self {
        Self { detail, next_try: Instant::now() + REOPEN_FIRST, pause: REOPEN_FIRST }
    }
}

/// A committed group: the new last number, and the outcome of each command.
type Written = (u64, Vec<Result<u64>>);

/// Why a transaction was not committed.
enum Stopped {
    /// One of several failed by its own fault, and they were not kept apart.
    Own,
    /// It failed as a whole; whether while committing.
    Failed(Fail, bool),
}

impl From<Fail> for Stopped {
    fn from(fail: Fail) -> Self {
        Self::Failed(fail, false)
    }
}

impl From<rusqlite::Error> for Stopped {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.into(), false)
    }
}

/// The writer thread's own.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) commands: Receiver<Command>,
    pub(crate) limits: Limits,
    pub(crate) path: PathBuf,
    /// Sequence number of the last transaction.
    pub(crate) last: u64,
    /// Batches since the last pruning.
    pub(crate) since_prune: u64,
    /// Set while the device's failure keeps anything from being written.
    pub(crate) broken: Option<Broken>,
    pub(crate) health: Arc<Health>,
}

impl Writer {
    /// Works until it is told to stop or nobody is left to tell.
    pub(crate) fn run(mut self) {
        while let Some(first) = self.next() {
            let mut group = vec![first];
            while group.len() < self.limits.group_batches {
                match self.commands.try_recv() {
                    Ok(command) => group.push(command),
                    Err(_) => break,
                }
            }
            let stop = group.iter().position(|command| matches!(command, Command::Stop));
            let behind = stop.map(|stop| group.split_off(stop));
            self.group(group);
            self.prune();
            if behind.is_some() {
                // What stands behind the stop is answered by its drop, here.
                break;
            }
        }
        self.close();
    }

    /// The next command; `None` when nobody is left to give one. While the store is broken it is opened again in between.
    fn next(&mut self) -> Option<Command> {
        loop {
            let Some(broken) = &self.broken else { return self.commands.recv().ok() };
            match self.commands.recv_timeout(broken.next_try.saturating_duration_since(Instant::now())) {
                Ok(command) => return Some(command),
                Err(RecvTimeoutError::Timeout) => self.reopen(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn break_off(&mut self, detail: String) {
        *self.health.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(detail.clone());
        self.broken = Some(Broken::new(detail));
    }

    /// Opens the database again; what is on the disk then is what there is.
    fn reopen(&mut self) {
        let Some(broken) = &mut self.broken else { return };
        match open::again(&self.path) {
            Ok((connection, site)) => {
                let old = std::mem::replace(&mut self.connection, connection);
                if let Err((_, error)) = old.close() {
                    tracing::warn!(%error, "the connection to the database that had failed could not be closed");
                }
                tracing::info!(database = %self.path.display(), sequence = site.sequence, "the database could be opened again");
                self.last = site.sequence;
                self.broken = None;
                // The projection first: what is asked from now on is decided on it.
                if let Some(reopened) = &*self.health.reopened.lock().unwrap_or_else(PoisonError::into_inner) {
                    reopened(site);
                }
                *self.health.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            Err(error) => {
                broken.pause = (broken.pause * 2).min(REOPEN_MOST);
                broken.next_try = Instant::now() + broken.pause;
                tracing::warn!(%error, detail = %error.detail, next_try_ms = broken.pause.as_millis(), "the database cannot be opened again yet");
            }
        }
    }

    fn group(&mut self, group: Vec<Command>) {
        if group.is_empty() {
            return;
        }
        if let Some(broken) = &self.broken {
            let error = self.refused(&broken.detail);
            return refuse(group, &error);
        }
        let written = match self.transaction(&group, false) {
            // Rare: the others are written again, each apart, so that the one that failed takes back nothing of theirs.
            Err(Stopped::Own) => {
                self.roll_back();
                self.transaction(&group, true)
            }
            written => written,
        };
        match written {
            Ok((last, outcomes)) => {
                self.last = last;
                self.since_prune += u64::try_from(outcomes.len()).unwrap_or(u64::MAX);
                for (command, outcome) in group.into_iter().zip(outcomes) {
                    if let Command::Commit(_, done) = command {
                        done.call(outcome);
                    }
                }
            }
            Err(stopped) => {
                let (fail, committing) = match stopped {
                    Stopped::Failed(fail, committing) => (fail, committing),
                    Stopped::Own => (Fail::Row("a transaction of one failed twice in two ways".to_owned()), false),
                };
                tracing::error!(error = %fail, "a transaction could not be written");
                self.roll_back();
                if committing && !fail.is_full() {
                    // Whether the log holds it is unknown, and a later fsync may claim a success that it has not: stop here.
                    self.break_off(fail.to_string());
                    let error = self.in_doubt(&fail.to_string());
                    return refuse(group, &error);
                }
                let error = fail.about(open::object(&self.path));
                refuse(group, &error);
            }
        }
    }

    /// Writes the group in one transaction. Own failures of a command are among the outcomes, if the commands are written `apart`: in
    /// a savepoint each, which costs a copy of every page that it touches.
    fn transaction(&self, group: &[Command], apart: bool) -> std::result::Result<Written, Stopped> {
        self.run_sql("BEGIN IMMEDIATE")?;
        let mut last = self.last;
        let mut outcomes = Vec::with_capacity(group.len());
        for command in group {
            let Command::Commit(prepared, _) = command else { continue };
            outcomes.push(self.one(prepared, &mut last, apart)?);
        }
        self.run_sql("COMMIT").map_err(|error| Stopped::Failed(error.into(), true))?;
        Ok((last, outcomes))
    }

    /// One command's share of a transaction. The outer error is the whole transaction's.
    fn one(&self, prepared: &Prepared, last: &mut u64, apart: bool) -> std::result::Result<Result<u64>, Stopped> {
        let next = last.saturating_add(1);
        if let Some(sequence) = prepared.sequence.filter(|sequence| *sequence != next) {
            return Ok(Err(Error::new(
                ErrorKind::Conflict,
                format!("transaction {sequence}"),
                format!("does not follow: the ledger is at {last}, {next} comes next"),
                "repeat the request",
            )
            .with_code("sequence")));
        }
        let statements = match &prepared.statements {
            Ok(statements) => statements,
            Err(fail) => return Ok(Err(fail.about(prepared.object()))),
        };
        if apart {
            self.run_sql("SAVEPOINT one")?;
        }
        let outcome = match statements.run(&self.connection) {
            Ok(()) => {
                *last = prepared.sequence.unwrap_or(*last);
                Ok(*last)
            }
            Err(fail) if fail.is_own() && apart => {
                self.run_sql("ROLLBACK TO one")?;
                tracing::warn!(of = prepared.object(), error = %fail, "a transaction was refused by the database");
                Err(fail.about(prepared.object()))
            }
            Err(fail) if fail.is_own() => return Err(Stopped::Own),
            Err(fail) => return Err(fail.into()),
        };
        if apart {
            self.run_sql("RELEASE one")?;
        }
        Ok(outcome)
    }

    fn run_sql(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    fn roll_back(&mut self) {
        // SQLite has rolled back by itself after some failures.
        if !self.connection.is_autocommit()
            && let Err(error) = self.run_sql("ROLLBACK")
        {
            self.break_off(format!("rollback: {error}"));
        }
    }

    /// For those whose commit failed.
    fn in_doubt(&self, detail: &str) -> Error {
        Error::new(
            ErrorKind::Internal,
            open::object(&self.path),
            "its device failed while this was being written; whether it was kept is open until the database could be opened again",
            "see to the device (`vws doctor` tells when it works again), then look, or repeat with the same request-id",
        )
        .with_code("store-failed")
        .with_detail(detail)
    }

    /// For those who come while nothing is written.
    fn refused(&self, detail: &str) -> Error {
        Error::new(
            ErrorKind::Internal,
            open::object(&self.path),
            "cannot be written, its device failed; nothing of this happened, and it is being opened again",
            "see to the device (`vws doctor` tells when it works again), then repeat the request",
        )
        .with_code("store-failed")
        .with_detail(detail)
    }

    fn prune(&mut self) {
        if self.since_prune < self.limits.prune_every || self.broken.is_some() {
            return;
        }
        self.since_prune = 0;
        if let Err(fail) = prune::run(&mut self.connection, &self.limits) {
            tracing::warn!(error = %fail, "old records could not be pruned; they stay for now");
            self.roll_back();
        }
    }

    fn close(self) {
        if self.broken.is_none()
            && let Err(fail) = open::mark_clean(&self.connection, true)
        {
            tracing::warn!(error = %fail, "the database could not be marked as closed; the next start checks it");
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(error = %error, "the database could not be closed");
        }
    }
}

fn refuse(group: Vec<Command>, error: &Error) {
    for command in group {
        if let Command::Commit(_, done) = command {
            done.call(Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc;
    use vws_domain::{Change, Event, Timestamp};

    fn commit(sequence: u64, text: &str, told: &mpsc::Sender<(u64, Result<u64>)>) -> Command {
        let event = Event {
            sequence,
            at: Timestamp(1),
            kind: "test".to_owned(),
            workspace: None,
            job: None,
            host: None,
            image: None,
            owner: 0,
            text: text.to_owned(),
        };
        let told = told.clone();
        let batch = Batch { sequence, at: Timestamp(1), changes: vec![Change::Event(Arc::new(event))] };
        Command::Commit(Prepared::batch(&batch), Done::new(move |outcome| told.send((sequence, outcome)).unwrap()))
    }

    fn writer(folder: &std::path::Path) -> (Writer, mpsc::Sender<Command>) {
        let path = folder.join("vws.db");
        let opened = open::open(&path, &Limits::default()).unwrap();
        let (commands, receiver) = mpsc::channel();
        let writer = Writer {
            connection: opened.connection,
            commands: receiver,
            limits: Limits::default(),
            path,
            last: 0,
            since_prune: 0,
            broken: None,
            health: Arc::default(),
        };
        (writer, commands)
    }

    #[test]
    fn a_database_that_is_full_takes_back_the_whole_group_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, _commands) = writer(folder.path());
        let (told, heard) = mpsc::channel();
        writer.group(vec![commit(1, "small", &told)]);
        assert_eq!(heard.recv().unwrap(), (1, Ok(1)));
        let pages: i64 = writer.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        writer.connection.pragma_update_and_check(None, "max_page_count", pages + 4, |_| Ok(())).unwrap();
        let large = "x".repeat(100_000);
        writer.group(vec![commit(2, "small", &told), commit(3, &large, &told), commit(4, "small", &told)]);
        for sequence in [2, 3, 4] {
            let (of, outcome) = heard.recv().unwrap();
            assert_eq!((of, outcome.unwrap_err().kind), (sequence, ErrorKind::NoSpace));
        }
        assert_eq!(writer.last, 1);
        writer.connection.pragma_update_and_check(None, "max_page_count", pages + 4000, |_| Ok(())).unwrap();
        writer.group(vec![commit(2, &large, &told)]);
        assert_eq!(heard.recv().unwrap(), (2, Ok(2)));
    }

    #[test]
    fn a_broken_store_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, _commands) = writer(folder.path());
        writer.break_off("fsync: input/output error".to_owned());
        let (told, heard) = mpsc::channel();
        writer.group(vec![commit(1, "small", &told)]);
        let error = heard.recv().unwrap().1.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Internal, "store-failed"));
        assert_eq!(crate::load::sequence(&writer.connection).unwrap(), 0);
    }

    #[test]
    fn a_broken_store_is_opened_again_with_what_is_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, commands) = writer(folder.path());
        let health = Arc::clone(&writer.health);
        let (seen, projections) = mpsc::channel();
        *health.reopened.lock().unwrap() = Some(Box::new(move |site: Site| seen.send(site.sequence).unwrap()));
        let (told, heard) = mpsc::channel();
        writer.group(vec![commit(1, "small", &told)]);
        assert_eq!(heard.recv().unwrap(), (1, Ok(1)));
        // What the writer believes is older than what is on the disk: the failed commit was kept.
        writer.last = 0;
        writer.break_off("fsync: input/output error".to_owned());
        let working = std::thread::spawn(move || writer.run());
        commands.send(commit(1, "too early", &told)).unwrap();
        assert_eq!(heard.recv().unwrap().1.unwrap_err().code, "store-failed");
        assert_eq!(projections.recv_timeout(Duration::from_secs(20)).unwrap(), 1);
        commands.send(commit(2, "again", &told)).unwrap();
        assert_eq!(heard.recv().unwrap(), (2, Ok(2)));
        assert!(health.trouble.lock().unwrap().is_none());
        commands.send(Command::Stop).unwrap();
        working.join().unwrap();
    }

    #[test]
    fn what_stands_behind_a_stop_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, commands) = writer(folder.path());
        let (told, heard) = mpsc::channel();
        for command in [commit(1, "before", &told), Command::Stop, commit(2, "behind", &told)] {
            commands.send(command).unwrap();
        }
        writer.run();
        assert_eq!(heard.recv().unwrap(), (1, Ok(1)));
        let (sequence, outcome) = heard.recv().unwrap();
        assert_eq!((sequence, outcome.unwrap_err().code.as_str()), (2, "store-closed"));
    }
}
