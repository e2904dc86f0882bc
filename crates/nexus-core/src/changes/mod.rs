//! What changed between two states of an app: rows by table, files by category.
//!
//! It only tells: nothing here writes outside its scratch folder.

mod entries;
pub mod files;
pub mod point;
mod rows;
pub mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::local::{Scratch, blocking};
use crate::point::{RecordColumn, RecordTable};
use told::Telling;

/// The most examples of each kind that are kept of a table or category: the first by key.
pub const EXAMPLES: usize = 5;

/// The tables of a database at one moment, and where their record files lie.
#[derive(Debug, Clone, Default)]
pub struct State {
    held: Vec<Held>,
}

/// A table at one moment.
#[derive(Debug, Clone)]
struct Held {
    table: RecordTable,
    /// Its record file; without one only its hash and its number of rows are known.
    file: Option<PathBuf>,
}

impl State {
    /// The tables whose record files lie in a folder, as [`crate::records::now::export_now`] answers them.
    pub fn in_folder(folder: &Path, tables: &[RecordTable]) -> Self {
        let held = |table: &RecordTable| Held { table: table.clone(), file: Some(folder.join(&table.file)) };
        Self { held: tables.iter().map(held).collect() }
    }

    /// The tables by hash and number of rows alone: which of them differ can be told, and not in which rows.
    pub fn hashed(tables: &[RecordTable]) -> Self {
        Self { held: tables.iter().map(|table| Held { table: table.clone(), file: None }).collect() }
    }

    /// Its tables by name, with their rows.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        self.held.iter().map(|held| (held.table.table.clone(), held.table.rows)).collect()
    }

    fn by_table(&self) -> BTreeMap<&str, &Held> {
        self.held.iter().map(|held| (held.table.table.as_str(), held)).collect()
    }
}

/// How a table differs between two moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChanges {
    /// The table's own name in the database.
    pub table: String,
    /// Whether it was there before, is there now, or both.
    pub presence: Presence,
    /// Rows then.
    pub rows_before: u64,
    /// Rows now.
    pub rows_after: u64,
    /// Rows that came.
    pub added: u64,
    /// Rows whose values differ in a column that was there both times.
    pub changed: u64,
    /// Rows that went.
    pub removed: u64,
    /// Columns that came: every row has them, which does not count as a change of the row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns_added: Vec<String>,
    /// Columns that went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns_removed: Vec<String>,
    /// Columns whose declared type is another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns_retyped: Vec<String>,
    /// The declared types of those columns, then and now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, Types>,
    /// What the numbers of rows rest on.
    pub basis: Basis,
    /// A few rows, first by key: at most [`EXAMPLES`] of each kind of change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
}

/// The declared types of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Types {
    /// Then.
    pub before: String,
    /// Now.
    pub after: String,
}

/// When a table was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Then and now.
    Both,
    /// Only now.
    New,
    /// Only then.
    Gone,
}

/// What the numbers of rows that came, changed and went rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Every row was compared.
    Rows,
    /// The rows of then cannot be read: only their number is known, so that a row that changed, or went while another one
    /// came, does not show.
    Counts,
}

/// One row that differs, each text cut to a length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// How it differs.
    pub change: Change,
    /// What tells it from others: `id=7`, values as in record files; absent where a table has no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The record then; of a changed row only the fields that differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The record now; of a changed row only the fields that differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It came.
    Added,
    /// Its values are others.
    Changed,
    /// It went.
    Removed,
}

impl TableChanges {
    /// True when rows came, changed or went.
    pub fn has_rows(&self) -> bool {
        self.added + self.changed + self.removed > 0
    }

    fn of(table: &str, presence: Presence, basis: Basis) -> Self {
        Self {
            table: table.to_owned(),
            presence,
            rows_before: 0,
            rows_after: 0,
            added: 0,
            changed: 0,
            removed: 0,
            columns_added: Vec::new(),
            columns_removed: Vec::new(),
            columns_retyped: Vec::new(),
            types: BTreeMap::new(),
            basis,
            examples: Vec::new(),
        }
    }
}

/// Compares all tables of two states of one database; those that are equal are left out, the others come by name.
///
/// Rows are told apart by the table's primary key; where it has none, by the rowid; where there is neither, or the key is
/// another one by now, by all their values, equal rows as often as they are there. The order of rows counts for nothing.
/// Tables of equal hash are not read. Memory does not grow with the rows: they are sorted by hashes on disk, in `scratch`.
///
/// # Errors
///
/// [`crate::error::Error::Damaged`] when a record file is not what its table says it is; [`crate::error::Error::Full`] and the
/// like from the disk.
pub async fn between(before: &State, after: &State, scratch: &Scratch) -> Result<Vec<TableChanges>> {
    let (before, after, folder) = (before.clone(), after.clone(), scratch.path().to_owned());
    blocking(move || compare(&before, &after, &folder, &mut None)).await
}

/// The same, and every row that differs goes into the new file `into` as a [`told::RowChange`] a line: table by table, in each
/// those that came, changed and went, as they follow one another in the record files.
///
/// # Errors
///
/// As for [`between`].
pub async fn every_row(before: &State, after: &State, into: &Path, scratch: &Scratch) -> Result<Vec<TableChanges>> {
    let (before, after, folder) = (before.clone(), after.clone(), scratch.path().to_owned());
    let mut telling = Some(Telling::begin(into)?);
    blocking(move || {
        let changes = compare(&before, &after, &folder, &mut telling)?;
        telling.map_or(Ok(()), Telling::finish)?;
        Ok(changes)
    })
    .await
}

fn compare(before: &State, after: &State, scratch: &Path, told: &mut Option<Telling>) -> Result<Vec<TableChanges>> {
    let (before, after) = (before.by_table(), after.by_table());
    let mut names: Vec<&str> = before.keys().chain(after.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let mut changes = Vec::new();
    for name in names {
        changes.extend(match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) if is_same(&before.table, &after.table) => None,
            (Some(before), Some(after)) => Some(both(before, after, scratch, told)?),
            (Some(before), None) => Some(one(before, Presence::Gone, told)?),
            (None, Some(after)) => Some(one(after, Presence::New, told)?),
            (None, None) => None,
        });
    }
    Ok(changes)
}

/// True when two tables hold the same rows in the same columns, as far as their hashes tell.
fn is_same(before: &RecordTable, after: &RecordTable) -> bool {
    before.sha256 == after.sha256 && before.rows == after.rows && before.columns == after.columns
}

fn both(before: &Held, after: &Held, scratch: &Path, told: &mut Option<Telling>) -> Result<TableChanges> {
    let mut changes = TableChanges::of(&after.table.table, Presence::Both, Basis::Rows);
    columns(&before.table.columns, &after.table.columns, &mut changes);
    (changes.rows_before, changes.rows_after) = (before.table.rows, after.table.rows);
    match (&before.file, &after.file) {
        // The same bytes under the same names are the same rows.
        _ if before.table.sha256 == after.table.sha256 && before.table.rows == after.table.rows => {}
        (Some(then), Some(now)) => {
            rows::compare((&before.table, then), (&after.table, now), scratch, (&mut changes, told))?;
        }
        _ => count(&mut changes),
    }
    Ok(changes)
}

/// Numbers of rows are all that is known.
fn count(changes: &mut TableChanges) {
    changes.basis = Basis::Counts;
    changes.added = changes.rows_after.saturating_sub(changes.rows_before);
    changes.removed = changes.rows_before.saturating_sub(changes.rows_after);
}

/// A table that was there only once: all its rows came or went with it.
fn one(held: &Held, presence: Presence, told: &mut Option<Telling>) -> Result<TableChanges> {
    let mut changes = TableChanges::of(&held.table.table, presence, Basis::Rows);
    let rows = held.table.rows;
    let change = if presence == Presence::New {
        (changes.rows_after, changes.added) = (rows, rows);
        Change::Added
    } else {
        (changes.rows_before, changes.removed) = (rows, rows);
        Change::Removed
    };
    if let Some(file) = &held.file {
        changes.examples = rows::all(&held.table, file, change, told)?;
    }
    Ok(changes)
}

fn columns(before: &[RecordColumn], after: &[RecordColumn], changes: &mut TableChanges) {
    let type_of = |columns: &[RecordColumn], name: &str| {
        columns.iter().find(|column| column.name == name).map(|column| column.declared.clone())
    };
    for column in after {
        match type_of(before, &column.name) {
            None => changes.columns_added.push(column.name.clone()),
            Some(before) if before != column.declared => {
                changes.columns_retyped.push(column.name.clone());
                changes.types.insert(column.name.clone(), Types { before, after: column.declared.clone() });
            }
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|column| type_of(after, &column.name).is_none());
    changes.columns_removed = gone.map(|column| column.name.clone()).collect();
}
