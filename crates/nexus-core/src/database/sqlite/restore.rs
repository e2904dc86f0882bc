//! A copy back into the live file, through SQLite and its locks, and the proof that it arrived.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::database::holders::beside;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local;

use super::check::{integrity, time_for};
use super::condition::Ownership;
use super::open::{Reader, Stop, failed, let_checkpoint, limit_time, open_copy, open_to_write, patiently};
use super::rows::digest_table;
use super::tables::{Catalogue, Table, catalogue};
use super::{SLACK, SqliteDatabase};

/// How many differing tables an error names.
const NAMED_TABLES: usize = 5;

/// What goes where.
#[derive(Debug, Clone)]
pub struct Restore<'a> {
    /// The private, checked copy.
    pub copy: &'a Path,
    /// The live database, or where there will be one.
    pub target: &'a SqliteDatabase,
    /// How long to wait for those who hold the target.
    pub lock_wait: Duration,
    /// Whose a newly made file shall be; without it, it is ours alone (0600).
    pub ownership: Option<Ownership>,
}

/// What a restored database was found to be, by a connection opened afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Tables of the copy, those that SQLite and virtual tables keep for themselves included.
    pub tables: u64,
    /// How many of them have the same rows in the target: all, or there would be an error.
    pub equal_tables: u64,
    /// Rows compared.
    pub rows: u64,
    /// The target's journal mode now.
    pub journal_mode: String,
}

impl Restore<'_> {
    /// Puts the copy into the live file in one transaction, then compares every table with the copy.
    ///
    /// The file stays the same file: connections that hold it open see the restored rows in their next transaction, a
    /// stale `-wal` is recovered and superseded by SQLite itself, and a kill at any moment leaves the old state or the new.
    /// An absent or empty target is made; its folder must exist.
    ///
    /// With the pages come `user_version`, `application_id`, encoding, `auto_vacuum` and page size. SQLite raises the
    /// schema version and the change counter, so the file is never byte for byte the copy. The journal mode becomes the
    /// copy's where nobody hinders that; else the target keeps its own. A target in WAL mode with another page size has to
    /// leave WAL mode first, which needs that nobody else has it open.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] naming the holder, with the target unchanged; [`Error::Missing`] for its folder; [`Error::Exists`]
    /// when an absent target has a log beside it; [`Error::Full`]; [`Error::Damaged`] when the target is not a database (put
    /// it aside first), or differs from the copy afterwards; [`Error::Changed`] when somebody wrote to it in between.
    pub fn carry_out(self, events: &Events) -> Result<Restored> {
        let bytes = fs::metadata(self.copy)
            .map_err(|cause| Error::local(format!("cannot read `{}`", self.copy.display()), cause))?
            .len();
        events.started(Stage::RestoreDatabase, None, Some(bytes));
        let made = self.prepare(bytes)?;
        let written = self.write();
        if written.is_err() && made {
            // What was made for this is still empty or half a database: it never existed.
            let _ = fs::remove_file(self.target.path());
            let _ = fs::remove_file(beside(self.target.path(), "-journal"));
        }
        let writer = written?;
        let version = data_version(&writer);
        events.advanced(Stage::RestoreDatabase, 0, bytes);
        let restored = self.compare(events).map_err(|error| match error {
            // Our own connection sees a different number only when another one has committed.
            Error::Damaged { what, .. } if data_version(&writer) != version => Error::Changed {
                what: format!("{what}; somebody wrote to it right after it was restored, so this may be their change"),
            },
            other => other,
        })?;
        events.ended(Stage::RestoreDatabase);
        Ok(restored)
    }

    fn what(&self) -> String {
        format!("cannot restore the database `{}`", self.target.path().display())
    }

    /// Looks whether there is a place to write to, makes the file when there is none, and answers whether it was made.
    fn prepare(&self, bytes: u64) -> Result<bool> {
        let path = self.target.path();
        let folder = path.parent().unwrap_or(Path::new("/"));
        let present = match fs::metadata(path) {
            Ok(file) if file.is_file() => Some(file.len()),
            Ok(_) => return Err(Error::usage(format!("{}: it is not a file", self.what()))),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => None,
            Err(cause) => return Err(Error::local(self.what(), cause)),
        };
        if !folder.is_dir() {
            return Err(Error::missing(format!("{}: there is no folder `{}`", self.what(), folder.display())));
        }
        let old = present.unwrap_or(0);
        // Either the journal takes the old pages or the log the new ones; the file grows beside it.
        let wanted = old.max(bytes) + bytes.saturating_sub(old) + SLACK;
        let free = local::free_bytes(folder)?;
        if free < wanted {
            return Err(Error::Full {
                what: format!("{}: it may need {} MiB, {} MiB are free", self.what(), wanted >> 20, free >> 20),
                cause: None,
            });
        }
        if old > 0 {
            return Ok(false);
        }
        for suffix in ["-wal", "-journal"] {
            let log = beside(path, suffix);
            if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
                return Err(Error::Exists {
                    what: format!("{}: `{}` of another database lies there; put it aside", self.what(), log.display()),
                });
            }
        }
        if present.is_some() {
            return Ok(false);
        }
        let file = local::create_private(path)?;
        if let Some(owner) = self.ownership {
            let cannot = |cause| Error::local(format!("cannot give `{}` its owner and mode", path.display()), cause);
            chown(path, Some(owner.user), Some(owner.group)).map_err(cannot)?;
            file.set_permissions(fs::Permissions::from_mode(owner.mode)).map_err(cannot)?;
        }
        drop(file);
        local::sync_folder(folder)?;
        Ok(true)
    }

    /// Writes the copy into the target and answers the connection that did.
    fn write(&self) -> Result<Connection> {
        let sql = |cause| failed(self.what(), cause);
        let stopped = |stop: Stop| stop.into_error(&self.what());
        let path = self.target.path();
        let copy = open_copy(self.copy)?;
        let mut target = open_to_write(path).map_err(sql)?;
        let size = |connection: &Connection| {
            connection.pragma_query_value(Some("main"), "page_size", |row| row.get::<_, i64>(0))
        };
        let mode = patiently(path, self.lock_wait, || {
            target.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            journal_mode(&target).map(Some)
        })
        .map_err(stopped)?;
        if mode == "wal" && size(&copy).map_err(sql)? != size(&target).map_err(sql)? {
            self.leave_wal(&target)?;
        }
        let backup = Backup::new(&copy, &mut target).map_err(sql)?;
        patiently(path, self.lock_wait, || Ok((backup.step(-1)? == StepResult::Done).then_some(())))
            .map_err(stopped)?;
        drop(backup);
        let_checkpoint(&target).map_err(sql)?;
        self.settle(&target);
        Ok(target)
    }

    /// A log has one page size for ever, so a database with another cannot be written through it.
    fn leave_wal(&self, target: &Connection) -> Result<()> {
        let what = format!("{}: its pages have another size, and leaving WAL mode needs it alone", self.what());
        patiently(self.target.path(), self.lock_wait, || {
            let mode: String = target.query_row("PRAGMA main.journal_mode=DELETE", [], |row| row.get(0))?;
            Ok((mode == "delete").then_some(()))
        })
        .map_err(|stop| stop.into_error(&what))
    }

    /// Takes the copy's journal mode and empties the log, where nobody hinders it: both are as good a bit later.
    fn settle(&self, target: &Connection) {
        let now = journal_mode(target).unwrap_or_default();
        let wanted = if is_wal(self.copy) { "wal" } else { "delete" };
        if (now == "wal") != (wanted == "wal") {
            let _ = target.query_row(&format!("PRAGMA main.journal_mode={wanted}"), [], |_| Ok(()));
        }
        let _ = target.query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    /// Opens the target anew and compares it with the copy: integrity, schema, every table's rows.
    fn compare(&self, events: &Events) -> Result<Restored> {
        let path = self.target.path();
        let what = || format!("cannot compare the restored database `{}` with its copy", path.display());
        let sql = |cause| failed(what(), cause);
        let mut reader = Reader::open(path, self.lock_wait)?;
        limit_time(reader.connection_mut(), time_for(self.copy)).map_err(sql)?;
        let target = reader.connection();
        // One transaction: all tables are compared as they are at one instant.
        patiently(path, self.lock_wait, || {
            if target.is_autocommit() {
                target.execute_batch("BEGIN")?;
            }
            target.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(Some(())))
        })
        .map_err(|stop| stop.into_error(&what()))?;
        let found = integrity(target, &catalogue(target)?).map_err(sql)?;
        if !found.damage.is_empty() {
            let shown = path.display();
            return Err(Error::damaged_by(
                format!("the restored database `{shown}` fails its integrity check"),
                found.damage.join("; "),
            ));
        }
        found.warn(path, events);
        let (ours, theirs) = std::thread::scope(|scope| {
            let ours = scope.spawn(|| open_copy(self.copy).and_then(|copy| State::of(&copy)));
            let theirs = State::of(target);
            (ours.join(), theirs)
        });
        let ours = ours.map_err(|_| Error::damaged("reading the database's copy broke off"))??;
        let mut restored = ours.equal(&theirs?, path)?;
        reader.journal_mode().clone_into(&mut restored.journal_mode);
        Ok(restored)
    }
}

/// All that must be the same in copy and target.
struct State {
    schema: Vec<String>,
    settings: Vec<(&'static str, String)>,
    tables: Vec<(String, u64, String)>,
}

impl State {
    fn of(connection: &Connection) -> Result<Self> {
        let sql = |cause| failed("cannot read the schema".to_owned(), cause);
        let Catalogue { tables, inner, .. } = catalogue(connection)?;
        // Virtual tables compute their rows from shadow tables, which are among the inner ones.
        let stored = tables.iter().filter(|table| !table.is_virtual).chain(&inner);
        let digest =
            |table: &Table| digest_table(connection, table).map(|(rows, hash)| (table.name.clone(), rows, hash));
        Ok(Self {
            schema: schema(connection).map_err(sql)?,
            settings: settings(connection).map_err(sql)?,
            tables: stored.map(digest).collect::<Result<_>>()?,
        })
    }

    fn equal(&self, other: &Self, path: &Path) -> Result<Restored> {
        let differing: Vec<&str> = self
            .tables
            .iter()
            .filter(|table| !other.tables.contains(table))
            .chain(other.tables.iter().filter(|table| !self.tables.iter().any(|ours| ours.0 == table.0)))
            .map(|table| table.0.as_str())
            .collect();
        let setting = self.settings.iter().zip(&other.settings).find(|(ours, theirs)| ours != theirs);
        let shown = path.display();
        if !differing.is_empty() {
            let first = differing.iter().take(NAMED_TABLES).map(|name| format!("`{name}`")).collect::<Vec<_>>();
            return Err(Error::damaged(format!(
                "the restored database `{shown}` differs from its copy in {} of {} tables: {}",
                differing.len(),
                self.tables.len(),
                first.join(", ")
            )));
        }
        if let Some((ours, theirs)) = setting {
            return Err(Error::damaged(format!(
                "the restored database `{shown}` has {} {} where its copy has {}",
                ours.0, theirs.1, ours.1
            )));
        }
        if self.schema != other.schema {
            return Err(Error::damaged(format!("the restored database `{shown}` has another schema than its copy")));
        }
        let tables = self.tables.len() as u64;
        let rows = self.tables.iter().map(|table| table.1).sum();
        Ok(Restored { tables, equal_tables: tables, rows, journal_mode: String::new() })
    }
}

fn schema(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT json_array(type, name, tbl_name, sql) FROM sqlite_schema ORDER BY type, name, tbl_name, sql",
    )?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn settings(connection: &Connection) -> rusqlite::Result<Vec<(&'static str, String)>> {
    let names = ["application_id", "user_version", "page_size", "encoding", "auto_vacuum"];
    let read = |name| {
        let value = connection.pragma_query_value(Some("main"), name, |row| row.get::<_, rusqlite::types::Value>(0))?;
        Ok((name, format!("{value:?}")))
    };
    names.into_iter().map(read).collect()
}

fn journal_mode(connection: &Connection) -> rusqlite::Result<String> {
    connection.pragma_query_value(Some("main"), "journal_mode", |row| row.get(0))
}

/// A number that changes for a connection only when another one commits; none when it cannot be read.
fn data_version(connection: &Connection) -> Option<i64> {
    connection.pragma_query_value(Some("main"), "data_version", |row| row.get(0)).ok()
}

/// True when the copy's header says WAL; opened immutable, SQLite itself says otherwise.
///
/// Source: <https://www.sqlite.org/fileformat.html>, bytes 18 and 19.
fn is_wal(copy: &Path) -> bool {
    use std::os::unix::fs::FileExt;
    let mut header = [0; 20];
    fs::File::open(copy).and_then(|file| file.read_exact_at(&mut header, 0)).is_ok() && header[19] == 2
}
