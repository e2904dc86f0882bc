//! A SQLite database: captured whole and consistent from under its writers, checked, and put back.
//!
//! The live file is opened by SQLite alone: plain file I/O on it in this process would drop the locks SQLite holds there
//! (<https://www.sqlite.org/howtocorrupt.html>, the section on advisory locks that a close in another thread cancels).

mod check;
mod condition;
mod content;
mod invariant;
mod load;
mod open;
mod relations;
mod restore;
mod rows;
mod tables;
mod target;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local;
use crate::point::SqliteFacts;

pub(crate) use crate::point::hexadecimal;
pub use condition::{Condition, Ownership, PutAside};
pub use load::SqliteLoad;
pub(crate) use open::{Useless, failed, open_copy};
pub use restore::{Restore, Restored};
pub(crate) use rows::write_rows;
pub(crate) use tables::{ROWID_FIELD, Table, catalogue, most_rows, sequence};

/// Bytes wanted free beside what a copy will need.
const SLACK: u64 = 16 * 1024 * 1024;
/// How much of a file is hashed at a time.
const READ_BYTES: usize = 256 * 1024;

/// A SQLite database by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteDatabase {
    path: PathBuf,
}

/// A copy of a database as it is at one instant, of which nothing counts before [`Copied::check`] has passed.
#[derive(Debug)]
pub struct Copied {
    path: PathBuf,
    source: PathBuf,
    journal_mode: String,
    held: Duration,
    useless: Useless,
}

/// A consistent copy of a database, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Captured {
    /// What the copy's header and pragmas say.
    pub facts: SqliteFacts,
    /// Rows of every table that the records export writes.
    pub tables: BTreeMap<String, u64>,
    /// How long the source was read-locked, in milliseconds.
    pub read_milliseconds: u64,
    /// The copy's bytes.
    pub bytes: u64,
    /// SHA-256 of the copy, hexadecimal.
    pub sha256: String,
}

impl SqliteDatabase {
    /// The database at an absolute path.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the database as it is at one instant to the new private file `to`, and checks the copy.
    ///
    /// One step of the backup API: commits in the `-wal` are in it, and in rollback-journal mode writers wait until it is
    /// done (`read_milliseconds`). Nothing is checkpointed. SQLite itself rolls back or recovers what a killed writer
    /// left, as for any reader. `lock_wait` bounds the wait for a writer.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Denied`], [`Error::Usage`] (a folder); [`Error::Damaged`] when it is empty, not SQLite,
    /// or its copy fails `integrity_check`; [`Error::Busy`] naming who holds it; [`Error::Full`] before or while copying.
    /// After an error there is no file at `to`, unless it was there before.
    pub fn capture(&self, to: &Path, lock_wait: Duration, events: &Events) -> Result<Captured> {
        self.copy(to, lock_wait, events)?.check(events)
    }

    /// The first half of [`SqliteDatabase::capture`]: the copy, unchecked, so that others may read it meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`SqliteDatabase::capture`] but for what only the check finds.
    pub fn copy(&self, to: &Path, lock_wait: Duration, events: &Events) -> Result<Copied> {
        let bytes = self.size()?;
        self.require_room(to, bytes)?;
        drop(local::create_private(to)?);
        let copied = self.copy_from(to, lock_wait, bytes, events);
        if copied.is_err() {
            // The first error is the one to tell; the scratch folder goes away with the rest.
            let _ = fs::remove_file(to);
        }
        copied
    }

    fn copy_from(&self, to: &Path, lock_wait: Duration, bytes: u64, events: &Events) -> Result<Copied> {
        events.started(Stage::CopyDatabase, None, Some(bytes));
        let source = open::Reader::open(&self.path, lock_wait)?;
        let held = self.copy_in_one_step(source.connection(), to, lock_wait)?;
        let journal_mode = source.journal_mode().to_owned();
        drop(source);
        events.advanced(Stage::CopyDatabase, 0, bytes);
        events.ended(Stage::CopyDatabase);
        let (path, source) = (to.to_owned(), self.path.clone());
        Ok(Copied { path, source, journal_mode, held, useless: Useless::default() })
    }

    /// Answers how long the step took.
    ///
    /// In several steps a busy writer makes SQLite start over after each of its commits.
    fn copy_in_one_step(&self, source: &Connection, to: &Path, lock_wait: Duration) -> Result<Duration> {
        let what = || format!("cannot copy the database `{}` to `{}`", self.path.display(), to.display());
        let sql = |cause| failed(what(), cause);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut copy = Connection::open_with_flags(to, flags).map_err(sql)?;
        // The copy is private and worthless until it is whole: no journal, no syncs.
        copy.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE")
            .map_err(sql)?;
        let backup = Backup::new(source, &mut copy).map_err(sql)?;
        open::patiently(&self.path, lock_wait, || {
            let start = Instant::now();
            let step = backup.step(-1)?;
            Ok((step == StepResult::Done).then(|| start.elapsed()))
        })
        .map_err(|stop| stop.into_error(&what()))
    }

    /// Checks a private file that nobody writes to, as a captured copy is checked; answers its facts and rows by table.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it fails `integrity_check`.
    pub(crate) fn facts(&self, events: &Events) -> Result<(SqliteFacts, BTreeMap<String, u64>)> {
        check::copy(&self.path, &self.path, "", &Useless::default(), events)
    }

    /// The file's size together with its `-wal`, after refusing what cannot be a database at all.
    fn size(&self) -> Result<u64> {
        let shown = self.path.display();
        let file = fs::metadata(&self.path).map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Missing { what: format!("there is no database at `{shown}`"), cause: Some(cause.into()) }
            }
            _ => Error::local(format!("cannot look at the database `{shown}`"), cause),
        })?;
        if !file.is_file() {
            let kind = if file.is_dir() { "a folder" } else { "not a regular file" };
            return Err(Error::usage_hint(
                format!("`{shown}` is {kind}, not a SQLite database"),
                "name the database file itself",
            ));
        }
        if file.len() == 0 {
            return Err(Error::damaged(format!(
                "`{shown}` is an empty file: there is no database in it, and a backup of nothing would look like one"
            )));
        }
        rustix::fs::access(&self.path, rustix::fs::Access::READ_OK)
            .map_err(|cause| Error::local(format!("cannot read the database `{shown}`"), cause.into()))?;
        let log = fs::metadata(super::holders::beside(&self.path, "-wal")).map_or(0, |log| log.len());
        Ok(file.len() + log)
    }

    fn require_room(&self, to: &Path, bytes: u64) -> Result<()> {
        let folder = to.parent().unwrap_or(Path::new("/"));
        let free = local::free_bytes(folder)?;
        if free >= bytes + SLACK {
            return Ok(());
        }
        Err(Error::Full {
            what: format!(
                "the copy of `{}` needs {} MiB in `{}`, where {} MiB are free",
                self.path.display(),
                (bytes + SLACK) >> 20,
                folder.display(),
                free >> 20
            ),
            cause: None,
        })
    }
}

impl Copied {
    /// Ends those who read the copy once it is known to be of no use.
    pub(crate) fn useless(&self) -> Useless {
        self.useless.clone()
    }

    /// The second half of [`SqliteDatabase::capture`]; after an error the copy is gone.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it fails `integrity_check`.
    pub fn check(self, events: &Events) -> Result<Captured> {
        events.started(Stage::CheckDatabase, None, None);
        let Self { path, source, journal_mode, held, useless } = &self;
        let (checked, hashed) = std::thread::scope(|scope| {
            let hashed = scope.spawn(|| hash(path));
            (check::copy(path, source, journal_mode, useless, events), hashed.join())
        });
        let hashed = hashed.map_err(|_| Error::damaged("hashing the database's copy broke off")).flatten();
        let checked = checked.and_then(|(facts, tables)| hashed.map(|hashed| (facts, tables, hashed)));
        if checked.is_err() {
            useless.say();
            // The first error is the one to tell; the scratch folder goes away with the rest.
            let _ = fs::remove_file(path);
        }
        let (facts, tables, (bytes, sha256)) = checked?;
        events.ended(Stage::CheckDatabase);
        let read_milliseconds = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
        Ok(Captured { facts, tables, read_milliseconds, bytes, sha256 })
    }
}

impl Copied {
    /// The same for a copy of which only rows are taken: nothing of it is counted or hashed, since none of it is stored.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it fails `integrity_check`.
    pub fn check_pages(self, events: &Events) -> Result<()> {
        events.started(Stage::CheckDatabase, None, None);
        let checked = check::pages(&self.path, &self.source, &self.useless, events);
        if checked.is_err() {
            self.useless.say();
            // The first error is the one to tell; the scratch folder goes away with the rest.
            let _ = fs::remove_file(&self.path);
        }
        checked?;
        events.ended(Stage::CheckDatabase);
        Ok(())
    }
}

/// Bytes and SHA-256 of a file that no connection of this process has open.
fn hash(path: &Path) -> Result<(u64, String)> {
    let cannot = |cause| Error::local(format!("cannot read `{}`", path.display()), cause);
    let mut file = File::open(path).map_err(cannot)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(cannot)?;
        if read == 0 {
            return Ok((bytes, hexadecimal(&hash.finalize())));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}
