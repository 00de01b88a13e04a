//! Opening: whose file is it, is anybody else at work on it, is it whole. What cannot be accepted is refused untouched.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind as IoKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vws_domain::{Error, ErrorKind, Result, Site};

use crate::fail::{Fail, Tried, damaged};
use crate::limits::Limits;
use crate::{load, migrate, prune};

/// The first bytes of every SQLite database.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Length of the header that holds them.
const HEADER_BYTES: usize = 100;
/// Where the header keeps `user_version` and `application_id`, big-endian.
const USER_VERSION_AT: usize = 60;
const APPLICATION_ID_AT: usize = 68;
/// Milliseconds that a connection waits for another one's lock.
const BUSY_MS: u64 = 10_000;
/// Prepared statements kept by a connection.
const STATEMENTS: usize = 64;
/// Between two tries to take the lock.
const LOCK_LOOK: Duration = Duration::from_millis(5);
/// Pages in the write-ahead log that make a commit move it into the database: at the default of 1000 a busy writer did so
/// several times a second.
const CHECKPOINT_PAGES: i64 = 4000;
/// KiB of pages that the writer keeps at hand. At the default of 2000 a busy writer read pages back that it had just written.
const CACHE_KIB: i64 = 8 * 1024;
/// Bytes to which the write-ahead log is cut back after a checkpoint.
const WAL_KEPT_BYTES: i64 = 64 * 1024 * 1024;

/// An accepted database: the writer's connection, the lock that keeps others out, the projection.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) lock: File,
    pub(crate) site: Site,
}

/// "database `path`", for messages.
pub(crate) fn object(path: &Path) -> String {
    format!("database `{}`", path.display())
}

pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Opened> {
    let lock = lock(path, limits)?;
    let fresh = !path.exists();
    check_header(path)?;
    create_private(path)?;
    let mut connection = accepted(path)?;
    let say = |fail: Fail| fail.about(object(path));
    prepare(&connection).map_err(say)?;
    let version = version(&connection).map_err(say)?;
    migrate::run(&mut connection, version).map_err(say)?;
    if fresh {
        sync_folder(path)?;
    }
    if load::meta(&connection, "clean").map_err(say)? == 0 {
        quick_check(&connection, path)?;
    }
    prune::requests(&connection, limits).map_err(say)?;
    mark_clean(&connection, false).map_err(say)?;
    let site = load::site(&connection).map_err(say)?;
    Ok(Opened { connection, lock, site })
}

/// The database again, by who has its lock, after its device had failed. After a failed fsync the kernel may hold pages that it takes
/// for written and that are not on the device. So everything in the write-ahead log is written anew, into the database, and synced
/// there, before anything else is: what is read back afterwards is what is there.
pub(crate) fn again(path: &Path) -> Result<(Connection, Site)> {
    let connection = accepted(path)?;
    let work = || -> Tried<Site> {
        prepare(&connection)?;
        let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy != 0 {
            return Err(Fail::Row("a reader keeps its write-ahead log from being written back".to_owned()));
        }
        // A write of its own: an opening that can only read is none.
        mark_clean(&connection, false)?;
        load::site(&connection)
    };
    let site = work().map_err(|fail| fail.about(object(path)))?;
    quick_check(&connection, path)?;
    Ok((connection, site))
}

/// A read-only connection of its own.
pub(crate) fn reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> Tried<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_millis(BUSY_MS))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    };
    open().map_err(|fail| fail.about(object(path)))
}

/// Notes whether the database was closed in an orderly way.
pub(crate) fn mark_clean(connection: &Connection, clean: bool) -> Tried<()> {
    connection.execute("UPDATE meta SET value = ? WHERE key = 'clean'", [clean])?;
    Ok(())
}

/// The folder's entry of a file that is new must survive a power cut, too.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::internal(format!("folder `{}`", folder.display()), format!("fsync: {error}")))
}

/// `path` with `suffix` behind its whole name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn lock(path: &Path, limits: &Limits) -> Result<File> {
    let beside = beside(path, ".lock");
    let failed = |error: std::io::Error| {
        let remedy = match error.kind() {
            IoKind::NotFound => "create the state folder, or name another one with --state",
            IoKind::PermissionDenied => "run the daemon as the owner of the state folder, or name another one with --state",
            _ => "see to the state folder's file system",
        };
        Error::new(
            ErrorKind::InvalidState,
            object(path),
            format!("its lock file `{}` cannot be used: {error}", beside.display()),
            remedy,
        )
    };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&beside).map_err(failed)?;
    match lock_within(&file, Duration::from_millis(limits.lock_wait_ms)) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let who = if known { format!("process {}", pid.trim()) } else { "another process".to_owned() };
            return Err(Error::new(
                ErrorKind::InvalidState,
                object(path),
                format!("is in use by {who}"),
                "two daemons cannot share one state: stop the other one, or give this one another --state folder",
            )
            .with_code("state-in-use"));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let write_pid = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write_pid(&mut file).map_err(failed)?;
    Ok(file)
}

/// Locks the file. Who has it may be at its end: it is tried again until `patience` is over, because the kernel cannot be asked for a
/// lock with a deadline.
fn lock_within(file: &File, patience: Duration) -> std::result::Result<(), TryLockError> {
    let end = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOCK_LOOK),
            outcome => return outcome,
        }
    }
}

/// Looks at the header with plain reads, so that a file that is refused is not even opened by SQLite.
fn check_header(path: &Path) -> Result<()> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    match File::open(path) {
        Ok(file) => {
            let limit = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
            file.take(limit).read_to_end(&mut header).map_err(|error| unreadable(path, &error))?;
        }
        Err(error) if error.kind() == IoKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(path, &error)),
    }
    if header.is_empty() {
        return Ok(());
    }
    if header.len() < HEADER_BYTES || !header.starts_with(MAGIC) {
        return Err(not_ours(path, "is not a SQLite database"));
    }
    judge(path, number(&header, APPLICATION_ID_AT), number(&header, USER_VERSION_AT))
}

fn number(header: &[u8], at: usize) -> u32 {
    header.get(at..at + 4).map_or(0, |bytes| bytes.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte)))
}

fn judge(path: &Path, application: u32, version: u32) -> Result<()> {
    if application != migrate::APPLICATION_ID && (application, version) != (0, 0) {
        return Err(not_ours(path, "belongs to another program"));
    }
    if version > migrate::VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            object(path),
            format!("has version {version}, this daemon writes version {}", migrate::VERSION),
            "start the newer daemon again, or restore the backup that was made before it; nothing was changed",
        )
        .with_code("newer-database"));
    }
    Ok(())
}

fn not_ours(path: &Path, fact: &str) -> Error {
    Error::new(ErrorKind::InvalidState, object(path), fact, "give the daemon another --state folder; nothing was changed")
        .with_code("not-ours")
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::InvalidState, object(path), format!("cannot be read: {error}"), "see to the file's owner and mode")
}

/// User data is in it: nobody else may read it. SQLite gives its side files the same mode.
fn create_private(path: &Path) -> Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop).map_err(|error| {
        Error::new(
            ErrorKind::InvalidState,
            object(path),
            format!("cannot be written: {error}"),
            "see to the file's owner and mode",
        )
    })
}

/// Asks SQLite the same questions, because the newest header may still stand in the write-ahead log.
fn accepted(path: &Path) -> Result<Connection> {
    let ask = || -> Tried<(Connection, u32, u32, bool)> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(Duration::from_millis(BUSY_MS))?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version = version(&connection)?;
        let empty = connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((connection, application, version, empty))
    };
    let (connection, application, version, empty) = ask().map_err(|fail| fail.about(object(path)))?;
    judge(path, application, version)?;
    if version == 0 && !empty {
        return Err(not_ours(path, "belongs to another program"));
    }
    Ok(connection)
}

fn version(connection: &Connection) -> Tried<u32> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn prepare(connection: &Connection) -> Tried<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fail::Row(format!("its journal mode stays `{mode}`, `wal` is needed")));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Wiped user data must not linger in freed pages.
    connection.pragma_update(None, "secure_delete", "FAST")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT_BYTES, |_| Ok(()))?;
    Ok(())
}

/// Reads the whole file once. Only after an unclean end: on a large site it takes its time.
fn quick_check(connection: &Connection, path: &Path) -> Result<()> {
    tracing::info!(database = %path.display(), "checking the database: it was not closed in an orderly way, or its device had failed");
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| Fail::from(error).about(object(path)))?;
    if verdict == "ok" { Ok(()) } else { Err(damaged(object(path), &verdict)) }
}
