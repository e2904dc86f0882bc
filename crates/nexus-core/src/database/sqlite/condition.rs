//! In what state a database file is, before something is written over it; and how a broken one is put aside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::database::holders::{SIDECARS, beside, by, is_held_by};
use crate::error::{Error, Result};
use crate::local;

use super::SqliteDatabase;
use super::check::time_for;
use super::open::{Reader, failed, is_damage, limit_time};

/// How many names are tried for a file put aside before it is given up.
const MOST_NAMES: u32 = 1000;

/// The state of a database file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is no file.
    Absent,
    /// There is a file without a byte.
    Empty,
    /// It opens and `quick_check` finds nothing.
    Healthy {
        /// Its size without what lies in the `-wal`.
        bytes: u64,
        /// `PRAGMA page_size`.
        page_size: u64,
        /// `PRAGMA journal_mode`.
        journal_mode: String,
    },
    /// It is not a database, or a damaged one; with how that shows.
    Broken(String),
}

/// Whose a file is and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// The user's id.
    pub user: u32,
    /// The group's id.
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
}

/// What was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutAside {
    /// Each file: where it was and where it is now.
    pub moved: Vec<(PathBuf, PathBuf)>,
    /// Whose the database file was; none when there was no such file.
    pub ownership: Option<Ownership>,
}

impl SqliteDatabase {
    /// Looks at the file as it is now, reading it only.
    ///
    /// `quick_check` overlooks damaged indexes and changed text: a healthy file may still turn out damaged when it is
    /// captured.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] naming the holder when a lock hinders looking; [`Error::Usage`] for a folder; [`Error::Denied`] and
    /// [`Error::Local`] when it cannot be read.
    pub fn condition(&self, lock_wait: Duration) -> Result<Condition> {
        match fs::metadata(&self.path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Condition::Absent),
            Ok(file) if file.is_file() && file.len() == 0 => return Ok(Condition::Empty),
            _ => {}
        }
        let bytes = self.size()?;
        let what = || format!("cannot look at the database `{}`", self.path.display());
        let mut reader = match Reader::open(&self.path, lock_wait) {
            Ok(reader) => reader,
            Err(Error::Damaged { what, .. }) => return Ok(Condition::Broken(what)),
            Err(error) => return Err(error),
        };
        limit_time(reader.connection_mut(), time_for(&self.path)).map_err(|cause| failed(what(), cause))?;
        match look(reader.connection()) {
            Ok((Some(finding), _)) => Ok(Condition::Broken(finding)),
            Ok((None, page_size)) => {
                Ok(Condition::Healthy { bytes, page_size, journal_mode: reader.journal_mode().to_owned() })
            }
            Err(cause) if is_damage(&cause) => Ok(Condition::Broken(cause.to_string())),
            Err(cause) => Err(failed(what(), cause)),
        }
    }

    /// Renames the file and its `-wal`, `-journal` and `-shm`, byte for byte, so that another can take its place.
    ///
    /// `db.sqlite3` becomes `db.sqlite3.<suffix>`, or `db.sqlite3.<suffix>.2` and so on where that exists: nothing is ever
    /// overwritten, and SQLite finds the four together under the new name. A link is followed: what it leads to is put
    /// aside. The database file goes last, so that a run that breaks off never leaves its log to a new database.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] naming the processes that have it open: they would go on writing to what was put aside.
    pub fn put_aside(&self, suffix: &str) -> Result<PutAside> {
        let holders = is_held_by(&self.path)?;
        if !holders.is_empty() {
            return Err(Error::Busy {
                what: format!("`{}` cannot be put aside: it is held open{}", self.path.display(), by(&holders)),
            });
        }
        let real = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let ownership = ownership(&real);
        let aside = free_name(&real, suffix)?;
        let mut moved = Vec::new();
        for part in SIDECARS.into_iter().chain([""]) {
            let (from, to) = (beside(&real, part), beside(&aside, part));
            if fs::symlink_metadata(&from).is_ok() {
                rename_to_new(&from, &to)?;
                moved.push((from, to));
            }
        }
        local::sync_folder(real.parent().unwrap_or(Path::new("/")))?;
        Ok(PutAside { moved, ownership })
    }
}

fn ownership(path: &Path) -> Option<Ownership> {
    let file = fs::metadata(path).ok()?;
    Some(Ownership { user: file.uid(), group: file.gid(), mode: file.permissions().mode() & 0o7777 })
}

/// The first finding, if there is one, and the page size.
fn look(connection: &Connection) -> rusqlite::Result<(Option<String>, u64)> {
    let page_size: i64 = connection.pragma_query_value(Some("main"), "page_size", |row| row.get(0))?;
    let first: String = connection.query_row("PRAGMA main.quick_check(1)", [], |row| row.get(0))?;
    let harmless = first == "ok" || super::check::breaks_a_rule(&first);
    Ok(((!harmless).then_some(first), page_size.unsigned_abs()))
}

fn free_name(path: &Path, suffix: &str) -> Result<PathBuf> {
    let taken =
        |name: &Path| SIDECARS.into_iter().chain([""]).any(|part| fs::symlink_metadata(beside(name, part)).is_ok());
    let names = (1..=MOST_NAMES).map(|number| match number {
        1 => beside(path, &format!(".{suffix}")),
        more => beside(path, &format!(".{suffix}.{more}")),
    });
    names.into_iter().find(|name| !taken(name)).ok_or_else(|| Error::Exists {
        what: format!("`{}` cannot be put aside: {MOST_NAMES} files with that name exist", path.display()),
    })
}

/// Renames to a name that must be free; the file system itself refuses when it is not.
fn rename_to_new(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let what = || format!("cannot rename `{}` to `{}`", from.display(), to.display());
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system has that kind of rename: a second name and the removal of the first are the same.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to).and_then(|()| fs::remove_file(from)).map_err(|cause| Error::local(what(), cause))
        }
        other => other.map_err(|cause| Error::local(what(), cause.into())),
    }
}
