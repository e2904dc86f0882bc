//! Rows from record files back into tables: what is asked for, and what came of it.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::point::{RecordColumn, RecordTable};

/// What to do about a table that records do not fit.
const OR_ELSE: &str = "restore the database with --only database, or choose other tables with --table";
/// How many keys of a kind are named.
pub(crate) const EXAMPLES: usize = 5;

/// What becomes of rows that are in a table already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadMode {
    /// They all go: afterwards the table holds the records and nothing else.
    Replace,
    /// They stay, and records whose key is not there are added.
    AddMissing(Conflict),
}

/// What happens when a key is there with other values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// Nothing is changed, and the keys are named.
    Refuse,
    /// The row that is there stays.
    KeepPresent,
    /// The record takes its place.
    Overwrite,
}

/// A table before its records come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableToLoad {
    /// What its records are.
    pub records: RecordTable,
    /// Rows in it now.
    pub present: u64,
}

/// What the plan's look at the tables found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TablesLook {
    /// The tables that will be loaded.
    pub tables: Vec<TableToLoad>,
    /// Those that cannot be, in words.
    pub left: Vec<String>,
}

/// A few rows of one table on their way in.
#[derive(Debug, Clone)]
pub struct FewRows {
    /// What they are: only columns that the table has now.
    pub records: RecordTable,
    /// Which of those columns tell rows apart, by their places; all of them where the table has no key.
    pub key: Vec<usize>,
    /// True when the table has a key.
    pub keyed: bool,
    /// The file that they lie in, as records do.
    pub file: std::path::PathBuf,
    /// Of each the row that is there now with other values and is to be replaced.
    pub present: Vec<Option<String>>,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It counts.
    Commit,
    /// It was a trial, and all of it is undone.
    Undo,
}

/// What became of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedTable {
    /// Its name in the database.
    pub table: String,
    /// Its records.
    pub records: u64,
    /// Rows that were added.
    pub added: u64,
    /// Rows that were in it and are not any more.
    pub removed: u64,
    /// Keys that were there with other values.
    pub conflicts: u64,
    /// Some of those keys, in words.
    pub examples: Vec<String>,
}

/// What became of all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The tables, in the order they were loaded.
    pub tables: Vec<LoadedTable>,
    /// False when conflicts stood in the way: then nothing was changed.
    pub committed: bool,
    /// What does not follow the tables by itself, in words.
    pub left: Vec<String>,
}

impl LoadMode {
    /// True when rows that are there may go.
    pub fn removes(self) -> bool {
        matches!(self, Self::Replace | Self::AddMissing(Conflict::Overwrite))
    }
}

impl Loaded {
    /// Rows that are there with other values and stayed so, as was asked, in all tables.
    pub fn kept(&self) -> u64 {
        let stayed = |table: &LoadedTable| if table.removed == 0 { table.conflicts } else { 0 };
        self.tables.iter().map(stayed).sum()
    }

    /// Keys that were there with other values, in all tables.
    pub fn conflicts(&self) -> u64 {
        self.tables.iter().map(|table| table.conflicts).sum()
    }
}

/// The tables of a point that were asked for, by record name or by their own; all when none was named.
///
/// # Errors
///
/// [`Error::Usage`] for a name that no table has.
pub fn selected(tables: &[RecordTable], asked: &[String]) -> Result<Vec<RecordTable>> {
    let is = |table: &RecordTable, name: &String| table.name == *name || table.table == *name;
    if let Some(name) = asked.iter().find(|name| !tables.iter().any(|table| is(table, name))) {
        let known: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        return Err(Error::usage_hint(
            format!("the point has no records of a table {name:?}"),
            format!("its records are {}", known.join(", ")),
        ));
    }
    let wanted = |table: &&RecordTable| asked.is_empty() || asked.iter().any(|name| is(table, name));
    Ok(tables.iter().filter(wanted).cloned().collect())
}

/// Refuses records of another schema than the table's.
///
/// # Errors
///
/// [`Error::Usage`] naming the columns that differ.
pub(crate) fn require_same_columns(records: &RecordTable, there: &[RecordColumn]) -> Result<()> {
    let shown = |column: &RecordColumn| {
        let generated = if column.generated { " generated" } else { "" };
        format!("{} {}{generated}", column.name, column.declared.to_ascii_lowercase())
    };
    let ours: BTreeSet<String> = records.columns.iter().map(shown).collect();
    let theirs: BTreeSet<String> = there.iter().map(shown).collect();
    let named =
        |columns: Vec<&String>| columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
    let (gone, new) = (ours.difference(&theirs).collect::<Vec<_>>(), theirs.difference(&ours).collect::<Vec<_>>());
    if gone.is_empty() && new.is_empty() {
        return Ok(());
    }
    let mut differences = Vec::new();
    if !gone.is_empty() {
        differences.push(format!("it lacks {}", named(gone)));
    }
    if !new.is_empty() {
        differences.push(format!("it has {}", named(new)));
    }
    Err(Error::usage_hint(
        format!("the table {} has another schema than its records: {}", records.table, differences.join(" and ")),
        OR_ELSE,
    ))
}

/// A table that does not read as its records although they are in it: something there computes other values now.
pub(crate) fn unlike(records: &RecordTable) -> Error {
    Error::usage_hint(
        format!(
            "the table {} does not read as its records once they are in it: a generated column, a type or a setting of \
             the database is another than it was",
            records.table
        ),
        OR_ELSE,
    )
}

/// A table that was written to between the safety point and the lock.
pub(crate) fn written_since(table: &str) -> Error {
    Error::Changed {
        what: format!(
            "the table {table} was written to after the safety point was taken, so its newest rows would be lost: \
             nothing was changed"
        ),
    }
}

/// A row that shall stay as it was looked at, and is another by now.
pub(crate) fn changed_since(table: &str) -> Error {
    Error::Changed {
        what: format!("a row of {table} is another one than it was when it was looked at: nothing was changed"),
    }
}

/// A table that is not in the database.
pub(crate) fn no_table(records: &RecordTable, place: &str) -> Error {
    Error::usage_hint(format!("there is no table {} in {place} to load records into", records.table), OR_ELSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[(&str, &str)]) -> RecordTable {
        RecordTable {
            name: "patients".to_owned(),
            table: "clinic_patient".to_owned(),
            file: "patients.json".to_owned(),
            rows: 0,
            bytes: 0,
            sha256: String::new(),
            index: None,
            columns: columns
                .iter()
                .map(|(name, declared)| RecordColumn {
                    name: (*name).to_owned(),
                    declared: (*declared).to_owned(),
                    generated: false,
                })
                .collect(),
            order: Vec::new(),
            rowid: false,
            sequence: None,
            sequences: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn columns_that_differ_are_named_and_their_order_does_not_count() {
        let records = table(&[("id", "INTEGER"), ("name", "text")]);
        require_same_columns(&records, &table(&[("name", "TEXT"), ("id", "integer")]).columns).expect("the same");
        let error = require_same_columns(&records, &table(&[("id", "bigint"), ("more", "text")]).columns);
        let text = error.expect_err("another schema").to_string();
        for word in ["`id integer`", "`name text`", "`id bigint`", "`more text`"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn tables_are_named_by_their_records_or_by_themselves() {
        let tables = [table(&[])];
        assert_eq!(selected(&tables, &[]).expect("all").len(), 1);
        for name in ["patients", "clinic_patient"] {
            assert_eq!(selected(&tables, &[name.to_owned()]).expect("one").len(), 1);
        }
        assert!(matches!(selected(&tables, &["nobody".to_owned()]), Err(Error::Usage { .. })));
    }
}
