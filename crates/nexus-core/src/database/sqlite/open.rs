//! Connections: a live file to read, a live file to write, a private copy; and what SQLite's refusals mean.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::database::holders::{beside, by, lockers};
use crate::error::{Error, Result};

/// How long to wait between two attempts to get a lock.
const PAUSE: Duration = Duration::from_millis(5);
/// Pages that a connection to a copy keeps, in KiB: rows are read in their order. The file is not mapped into memory: SQLite
/// would check every cell of a page each time it looks at one (`cell_size_check`), and what is mapped counts as this
/// process's memory.
const CACHE_KIB: i64 = 4 * 1024;
/// The same for one that looks up the entries of indexes, which lie anywhere.
const LARGE_CACHE_KIB: i64 = 12 * 1024;
/// Virtual machine steps between two looks at the time limit.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// A connection that reads the live file and leaves nothing beside it that was not there.
pub(super) struct Reader {
    // Taken out only when dropped.
    connection: Option<Connection>,
    path: PathBuf,
    journal_mode: String,
    had_log: bool,
}

impl Reader {
    /// Opens the file read-only and reads its schema, waiting for a lock no longer than `lock_wait`.
    ///
    /// Only when SQLite says that it must first roll back or recover is the file opened for writing.
    pub(super) fn open(path: &Path, lock_wait: Duration) -> Result<Self> {
        let what = format!("cannot open the database `{}`", path.display());
        let had_log = beside(path, "-wal").exists();
        let mut reader = Self { connection: None, path: path.to_owned(), journal_mode: String::new(), had_log };
        let first = reader.attempt(OpenFlags::SQLITE_OPEN_READ_ONLY, lock_wait);
        match first {
            Ok(()) => return Ok(reader),
            Err(Stop::Sql(cause)) if needs_writing(&cause) => {}
            Err(stop) => return Err(stop.into_error(&what)),
        }
        reader.attempt(OpenFlags::SQLITE_OPEN_READ_WRITE, lock_wait).map_err(|stop| stop.into_error(&what))?;
        Ok(reader)
    }

    fn attempt(&mut self, access: OpenFlags, lock_wait: Duration) -> std::result::Result<(), Stop> {
        drop(self.connection.take());
        let connection = Connection::open_with_flags(&self.path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        harden(&connection)?;
        let connection = self.connection.insert(connection);
        self.journal_mode = patiently(&self.path, lock_wait, || {
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            connection.pragma_query_value(Some("main"), "journal_mode", |row| row.get(0)).map(Some)
        })?;
        Ok(())
    }

    pub(super) fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("taken out only when dropped")
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("taken out only when dropped")
    }

    /// `PRAGMA journal_mode` of the live file.
    pub(super) fn journal_mode(&self) -> &str {
        &self.journal_mode
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.connection.take());
        // A read-only connection makes an empty `-wal` and cannot remove it. A writing one that finds itself the last
        // does, under SQLite's own locks; when somebody else has opened the database meanwhile, it leaves the log to them.
        if !self.had_log && beside(&self.path, "-wal").exists() {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            if let Ok(connection) = Connection::open_with_flags(&self.path, flags) {
                let _ = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
            }
        }
    }
}

/// Opens the live file for writing; it must exist.
///
/// Closed before [`let_checkpoint`], it leaves what lies beside the file alone: SQLite would remove a `-wal` it cannot use.
pub(super) fn open_to_write(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

/// Lets the connection move the log into the file and remove it when it closes as the last one.
pub(super) fn let_checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop)
}

/// Opens a private copy that nobody writes to: no locks, and no files beside it even when it is in WAL mode.
///
/// What is in it is not trusted: no triggers or functions of its schema run with side effects, shadow tables cannot be
/// written, malformed cells are noticed.
pub(crate) fn open_copy(path: &Path) -> Result<Connection> {
    let what = || format!("cannot open the database's copy `{}`", path.display());
    // A missing file would be reported in SQLite's words only.
    fs::metadata(path).map_err(|cause| Error::local(what(), cause))?;
    let encoded = path.to_str().map(|text| text.split('/').map(encode).collect::<Vec<_>>().join("/"));
    let Some(encoded) = encoded else { return Err(Error::usage(format!("{}: its path is not UTF-8", what()))) };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let open = || {
        let connection = Connection::open_with_flags(format!("file:{encoded}?immutable=1"), flags)?;
        harden(&connection)?;
        connection.pragma_update(None, "mmap_size", 0)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    open().map_err(|cause| failed(what(), cause))
}

/// Has a connection keep more pages, because it will look them up in no order.
pub(super) fn keep_more(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cache_size", -LARGE_CACHE_KIB)
}

fn encode(segment: &str) -> String {
    percent_encode(segment.as_bytes(), NON_ALPHANUMERIC).to_string()
}

/// Sets what keeps a hostile or broken file from doing harm. Source: <https://www.sqlite.org/security.html>.
fn harden(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.busy_timeout(Duration::ZERO)
}

/// Interrupts every statement of the connection that still runs when the time is over.
pub(super) fn limit_time(connection: &mut Connection, limit: Duration) -> rusqlite::Result<()> {
    Useless::default().limit(connection, limit)
}

/// Says to all who read a copy that it is of no use: reading on, a damaged one might never end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Useless(Arc<AtomicBool>);

impl Useless {
    /// Ends all that the connections which know this are doing.
    pub(crate) fn say(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Has a connection listen, which works no longer than `limit`.
    pub(crate) fn limit(&self, connection: &mut Connection, limit: Duration) -> rusqlite::Result<()> {
        let (start, useless) = (Instant::now(), self.0.clone());
        let over = move || useless.load(Ordering::Relaxed) || start.elapsed() > limit;
        connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(over))
    }
}

/// Why an attempt was given up.
pub(super) enum Stop {
    /// Somebody else held the lock all the time.
    Busy { path: PathBuf, waited: Duration },
    /// SQLite said something else.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(cause: rusqlite::Error) -> Self {
        Self::Sql(cause)
    }
}

impl Stop {
    /// The error that says what was attempted and, where it can be found out, who is in the way.
    pub(super) fn into_error(self, what: &str) -> Error {
        match self {
            Self::Busy { path, waited } => Error::Busy {
                what: format!(
                    "{what}: it was locked{} for longer than {} s",
                    by(&lockers(&path)),
                    waited.as_secs_f32().ceil()
                ),
            },
            Self::Sql(cause) => failed(what.to_owned(), cause),
        }
    }
}

/// Tries until it is done, as long as a lock is what stands in the way and `lock_wait` is not over.
///
/// `Ok(None)` from the attempt means a lock, as the backup API says it.
pub(super) fn patiently<T>(
    path: &Path,
    lock_wait: Duration,
    mut attempt: impl FnMut() -> rusqlite::Result<Option<T>>,
) -> std::result::Result<T, Stop> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(Some(done)) => return Ok(done),
            Ok(None) => {}
            Err(cause) if is_lock(&cause) => {}
            Err(cause) => return Err(Stop::Sql(cause)),
        }
        if start.elapsed() >= lock_wait {
            return Err(Stop::Busy { path: path.to_owned(), waited: lock_wait });
        }
        std::thread::sleep(PAUSE);
    }
}

fn is_lock(cause: &rusqlite::Error) -> bool {
    matches!(cause.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// True when SQLite cannot read without first writing: a hot journal, a log to recover.
fn needs_writing(cause: &rusqlite::Error) -> bool {
    matches!(cause.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen))
}

/// True when the bytes themselves are wrong, whoever looks and whenever.
pub(super) fn is_damage(cause: &rusqlite::Error) -> bool {
    matches!(cause.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// SQLite's refusal, sorted by what the user can do about it.
pub(crate) fn failed(what: String, cause: rusqlite::Error) -> Error {
    let boxed = |cause: rusqlite::Error| Some(cause.into());
    match cause.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            Error::damaged_by(format!("{what}: it is not a SQLite database, or it is encrypted"), cause)
        }
        Some(ErrorCode::DatabaseCorrupt) => Error::damaged_by(format!("{what}: it is damaged"), cause),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::Busy { what: format!("{what}: it is locked") }
        }
        Some(ErrorCode::DiskFull) => Error::Full { what, cause: boxed(cause) },
        Some(ErrorCode::CannotOpen) => Error::Denied {
            what: format!(
                "{what}: SQLite cannot open it or the files beside it (in WAL mode the folder must be writable)"
            ),
            cause: boxed(cause),
        },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Error::Denied { what, cause: boxed(cause) },
        Some(ErrorCode::OperationInterrupted) => {
            Error::Local { what: format!("{what}: it took longer than such a database should"), cause: boxed(cause) }
        }
        _ => Error::Local { what, cause: boxed(cause) },
    }
}
