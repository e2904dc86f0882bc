//! A database and files as they are at one moment, and what differs between two.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::bucket::Reader;
use crate::bucket::sorted::{Sorted, Sorter};
use crate::changes::files::{self as file_changes, CategoryChanges, Likeness};
use crate::changes::{self, State, TableChanges};
use crate::clock::Clock;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::local::Scratch;
use crate::point::{FileRules, RecordTable};
use crate::records::export::Export;
use crate::records::now::export_now;
use crate::vault::RecoveryPoint;

/// A database and files that are looked at: the scratch, or the app's own.
#[derive(Debug, Clone)]
pub struct Place {
    /// The database.
    pub database: Option<Database>,
    /// The files.
    pub files: Option<FilesPlace>,
}

/// Files that are looked at.
#[derive(Debug, Clone)]
pub struct FilesPlace {
    /// The right to list them.
    pub reader: Reader,
    /// The prefix they lie below.
    pub lies_at: String,
    /// The rules that say which of them count, and under which keys.
    pub rules: FileRules,
    /// What it means when the folder is not there.
    pub absent: Absent,
}

/// What it means when a folder of files is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// A command has removed it: it has no files.
    Empty,
    /// It cannot be looked at.
    Unseen,
}

/// What is kept of a look at a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The rows, so that single ones can be told.
    Kept,
    /// A hash and a number for each table.
    Hashed,
}

/// What a place was at one moment.
pub struct Seen {
    tables: State,
    skipped: BTreeMap<String, String>,
    files: Option<(Sorted, FilesPlace)>,
}

/// What differs between two looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tables that differ, by name.
    pub tables: Vec<TableChanges>,
    /// Files by category; a category without files is left out.
    pub files: BTreeMap<String, CategoryChanges>,
    /// Tables that have no records and so were not compared, each with the reason.
    pub uncompared: BTreeMap<String, String>,
}

impl Changes {
    /// True when nothing differs.
    pub fn is_none(&self) -> bool {
        self.tables.is_empty() && !self.files.values().any(CategoryChanges::has_files)
    }
}

impl Place {
    /// Looks, reading only.
    ///
    /// # Errors
    ///
    /// As for [`export_now`], and what listing the files fails with.
    pub async fn look(
        &self,
        point: &RecoveryPoint,
        (rows, lock_wait): (Rows, Duration),
        scratch: &Scratch,
        (clock, events): (&Clock, &Events),
    ) -> Result<Seen> {
        let (mut tables, mut skipped) = (State::default(), BTreeMap::new());
        if let Some(database) = &self.database {
            let folder = scratch.file(&format!("rows-{}", clock.nonce()));
            let export = Export {
                folder: folder.clone(),
                names: BTreeMap::new(),
                app: point.manifest().app.clone(),
                point: point.id().clone(),
                instant: clock.now(),
            };
            let exported = export_now(database, export, lock_wait, scratch, (clock, events)).await?;
            tables = keep(rows, &folder, &exported.tables)?;
            skipped = exported.skipped;
        }
        let files = match &self.files {
            Some(place) if place.absent == Absent::Empty && !place.reader.is_made() => {
                Some((Sorter::new(scratch.path()).finish()?, place.clone()))
            }
            Some(place) => Some((place.reader.list(&place.lies_at, scratch.path(), events).await?, place.clone())),
            None => None,
        };
        Ok(Seen { tables, skipped, files })
    }
}

fn keep(rows: Rows, folder: &Path, tables: &[RecordTable]) -> Result<State> {
    if rows == Rows::Kept {
        return Ok(State::in_folder(folder, tables));
    }
    let what = || format!("cannot remove `{}`", folder.display());
    std::fs::remove_dir_all(folder).map_err(|cause| Error::local(what(), cause))?;
    Ok(State::hashed(tables))
}

/// Compares two looks at one place.
///
/// # Errors
///
/// As for [`changes::between`].
pub async fn compare(before: Seen, after: Seen, likeness: Likeness, scratch: &Scratch) -> Result<Changes> {
    let tables = changes::between(&before.tables, &after.tables, scratch).await?;
    let files = match (before.files, after.files) {
        (Some((then, was)), Some((now, is))) => file_changes::between(
            file_changes::listed(then, &was.lies_at, &was.rules)?,
            file_changes::listed(now, &is.lies_at, &is.rules)?,
            likeness,
        )?,
        _ => BTreeMap::new(),
    };
    let uncompared = before.skipped.into_iter().chain(after.skipped).collect();
    Ok(Changes { tables, files, uncompared })
}
