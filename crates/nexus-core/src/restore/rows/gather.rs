//! Records found in a point's files, and, pass by pass, those that point at them.
//!
//! A table's file is read once for the records that are asked for, and once for each pass in which what it points at has grown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::database::relations::{ForeignKey, Schema};
use crate::database::source::RecordFile;
use crate::database::sqlite::ROWID_FIELD;
use crate::error::{Error, Result};
use crate::local::{Scratch, blocking};
use crate::point::{RecordTable, RecordsPart};
use crate::records::fields;
use crate::records::names::distance;
use crate::vault::RecoveryPoint;

use super::super::tables::{Files, records_of, require_files};
use super::key::{comparable, is_real, key_names, name, places, plain, wanted};
use super::{Asked, Gathered, Obstacle};

/// The most that is gathered, bytes: beyond that whole tables are meant.
const MOST_BYTES: usize = 64 << 20;
/// How many names or keys an error suggests.
const SUGGESTIONS: usize = 3;
/// The longest key that others are compared with letter by letter.
const LONGEST_COMPARED: usize = 40;

/// Rows of one table.
#[derive(Debug, Clone)]
pub struct FoundTable {
    /// What its records are.
    pub records: RecordTable,
    /// The rows, in the order they were found.
    pub rows: Vec<FoundRow>,
}

/// A row as the point has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRow {
    /// How it is named: `patients/42`.
    pub name: String,
    /// The record, as it is written.
    pub line: String,
    /// Where it begins in its file.
    start: u64,
    /// True when it was asked for by its key.
    pub(super) asked: bool,
}

/// Which rows of a table are looked for: those whose values in these places are among these.
type Wanted = Vec<(Vec<usize>, BTreeSet<Vec<String>>)>;

pub(super) struct Gathering<'a> {
    point: &'a RecoveryPoint,
    records: &'a RecordsPart,
    scratch: &'a Scratch,
    /// Where record files are that were fetched already.
    files: BTreeMap<String, PathBuf>,
    found: Vec<FoundTable>,
    bytes: usize,
    /// What points at rows and had no part in the point that is known.
    notes: BTreeSet<String>,
    /// What points at rows and was in the point, but cannot be looked at.
    unseen: BTreeSet<String>,
}

impl<'a> Gathering<'a> {
    pub(super) fn begin(point: &'a RecoveryPoint, scratch: &'a Scratch) -> Result<Self> {
        let records = records_of(point)?;
        if point.manifest().adopted.is_some() {
            return Err(Error::usage_hint(
                format!(
                    "the records of {} were written by an older tool, and nothing says what their keys are",
                    point.id()
                ),
                format!("nexus restore {} --only records --to-records FOLDER puts the files into a folder", point.id()),
            ));
        }
        require_files(point, records)?;
        Ok(Self {
            point,
            records,
            scratch,
            files: BTreeMap::new(),
            found: Vec::new(),
            bytes: 0,
            notes: BTreeSet::new(),
            unseen: BTreeSet::new(),
        })
    }

    pub(super) fn found(self) -> Gathered {
        let obstacle = |what| Obstacle {
            what,
            remedy: Some("without --with-children, name the rows that belong to it with --record".to_owned()),
        };
        Gathered {
            tables: self.found,
            notes: self.notes.into_iter().collect(),
            obstacles: self.unseen.into_iter().map(obstacle).collect(),
        }
    }

    /// Finds a record that is asked for.
    pub(super) async fn add(&mut self, asked: &Asked) -> Result<()> {
        let table = self.table(&asked.table)?.clone();
        let values = wanted(&table, asked)?;
        let names = key_names(&table);
        let Some(places) = places(&table, &names) else {
            return Err(Error::damaged(format!("the records of {} do not hold their own key", table.name)));
        };
        let path = self.file(&table).await?;
        let rows = scan(&path, &table, vec![(places.clone(), BTreeSet::from([values.clone()]))]).await?;
        if rows.is_empty() {
            let close = close(&path, &table, (places, values)).await?;
            let hint = match close.as_slice() {
                [] => format!("{} has no records of {}", self.point.id(), table.name),
                close => format!("it has {}", close.join(", ")),
            };
            let what = format!("{} has no record {}/{}", self.point.id(), asked.table, asked.key);
            return Err(Error::usage_hint(what, hint));
        }
        let starts: BTreeSet<u64> = rows.iter().map(|(start, _)| *start).collect();
        self.keep(&table, rows)?;
        let kept = self.found.iter_mut().filter(|found| found.records.table == table.table);
        for row in kept.flat_map(|found| &mut found.rows).filter(|row| starts.contains(&row.start)) {
            row.asked = true;
        }
        Ok(())
    }

    /// Finds what points at the records that were found, and at those in turn.
    pub(super) async fn add_children(&mut self, schema: &Schema) -> Result<()> {
        // How many rows of each parent have been looked after already, for each key.
        let mut done: BTreeMap<usize, usize> = BTreeMap::new();
        loop {
            let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
            for (at, key) in schema.keys.iter().enumerate() {
                let rows =
                    self.found.iter().find(|table| table.records.table == key.parent).map(|table| table.rows.len());
                let from = done.insert(at, rows.unwrap_or(0)).unwrap_or(0);
                if rows.unwrap_or(0) > from {
                    self.doubt(key);
                }
                if let Some(looked) = self.pointing(key, from) {
                    wanted.entry(key.table.clone()).or_default().push(looked);
                }
            }
            if wanted.is_empty() {
                return Ok(());
            }
            for (child, wanted) in wanted {
                let Some(table) = self.records.tables.iter().find(|table| table.table == child).cloned() else {
                    continue;
                };
                let path = self.file(&table).await?;
                let rows = scan(&path, &table, wanted).await?;
                self.keep(&table, rows)?;
            }
        }
    }

    /// Says of a foreign key if rows that point by it may be overlooked.
    fn doubt(&mut self, key: &ForeignKey) {
        let shown = format!("{} ({})", key.table, key.columns.join(", "));
        let parent = &key.parent;
        let child = self.records.tables.iter().find(|table| table.table == key.table);
        let Some(child) = child else {
            if let Some(reason) = self.records.skipped.get(&key.table) {
                let what = format!("{shown} points at {parent}, and the point has no records of it: {reason}");
                self.unseen.insert(what);
            } else {
                self.notes.insert(format!("{shown} points at {parent} now, and the point has no such table"));
            }
            return;
        };
        let parents = self.found.iter().find(|table| table.records.table == *parent);
        let known = parents.is_none_or(|table| places(&table.records, &key.parent_columns).is_some());
        if !known || places(child, &key.columns).is_none() {
            self.notes.insert(format!("{shown} points at {parent} now, and did not by these columns in the point"));
        } else if !key.exact {
            self.unseen.insert(format!(
                "{shown} points at {parent} ({}), where values count as equal that are written in different ways",
                key.parent_columns.join(", ")
            ));
        }
    }

    /// What a foreign key's columns hold in rows that point at those of its parent found since.
    fn pointing(&self, key: &ForeignKey, from: usize) -> Option<(Vec<usize>, BTreeSet<Vec<String>>)> {
        let parent = self.found.iter().find(|table| table.records.table == key.parent)?;
        let child = self.records.tables.iter().find(|table| table.table == key.table)?;
        let (own, theirs) = (places(child, &key.columns)?, places(&parent.records, &key.parent_columns)?);
        let values = |row: &FoundRow| {
            let fields = crate::database::source::object(&row.line)?;
            theirs.iter().map(|place| known(&fields.get(*place)?.1, comparable)).collect::<Option<Vec<String>>>()
        };
        let wanted: BTreeSet<Vec<String>> = parent.rows.get(from..)?.iter().filter_map(values).collect();
        (!wanted.is_empty()).then_some((own, wanted))
    }

    fn keep(&mut self, table: &RecordTable, rows: Vec<(u64, String)>) -> Result<usize> {
        let at = self.found.iter().position(|found| found.records.table == table.table).unwrap_or_else(|| {
            self.found.push(FoundTable { records: table.clone(), rows: Vec::new() });
            self.found.len() - 1
        });
        let found = &mut self.found[at];
        let seen: BTreeSet<u64> = found.rows.iter().map(|row| row.start).collect();
        let (mut names, mut added) = (key_names(table), 0);
        if names.is_empty() {
            names = fields(table);
        }
        let places = places(table, &names).unwrap_or_default();
        for (start, line) in rows.into_iter().filter(|(start, _)| !seen.contains(start)) {
            self.bytes += line.len();
            if self.bytes > MOST_BYTES {
                return Err(Error::usage_hint(
                    format!("more than {} MiB of rows belong to these records", MOST_BYTES >> 20),
                    "restore whole tables with --table, or the records without --with-children",
                ));
            }
            let fields = crate::database::source::object(&line).unwrap_or_default();
            let values: Vec<String> =
                places.iter().filter_map(|place| fields.get(*place)).map(|(_, value)| plain(value)).collect();
            found.rows.push(FoundRow { name: name(table, &names, &values), line, start, asked: false });
            added += 1;
        }
        Ok(added)
    }

    /// A table by the name of its records, else by its own.
    fn table(&self, asked: &str) -> Result<&RecordTable> {
        let tables = &self.records.tables;
        let by_name = tables.iter().find(|table| table.name == asked);
        by_name.or_else(|| tables.iter().find(|table| table.table == asked)).ok_or_else(|| {
            let known: BTreeSet<&str> =
                tables.iter().flat_map(|table| [table.name.as_str(), table.table.as_str()]).collect();
            let mut close: Vec<(usize, &str)> = known.into_iter().map(|name| (distance(asked, name), name)).collect();
            close.sort_unstable();
            let close: Vec<&str> = close.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect();
            Error::usage_hint(
                format!("{} has no records of a table {asked:?}", self.point.id()),
                format!("it has {}", close.join(", ")),
            )
        })
    }

    /// The file of a table, as it was written.
    async fn file(&mut self, table: &RecordTable) -> Result<PathBuf> {
        if let Some(path) = self.files.get(&table.table) {
            return Ok(path.clone());
        }
        let spool = format!("rows-of-{}.json", self.files.len());
        let files = Files { point: self.point, scratch: self.scratch };
        let path = files.one(&table.file, &table.sha256, &spool).await?;
        self.files.insert(table.table.clone(), path.clone());
        Ok(path)
    }
}

/// A value that something may point at; NULL points at nothing.
fn known(value: &str, read: fn(&str) -> String) -> Option<String> {
    (value != "null").then(|| read(value))
}

/// Rows of a file that have one of these values, with where they begin.
async fn scan(path: &std::path::Path, table: &RecordTable, wanted: Wanted) -> Result<Vec<(u64, String)>> {
    let (path, table) = (path.to_owned(), table.clone());
    blocking(move || {
        let mut file = RecordFile::open(&path, &table, ROWID_FIELD)?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while file.advance()? {
            let values = file.values()?;
            let fits = |(places, wanted): &(Vec<usize>, BTreeSet<Vec<String>>)| {
                let own = |read: fn(&str) -> String| -> Option<Vec<String>> {
                    places.iter().map(|place| known(values[*place], read)).collect()
                };
                let has = |own: Option<Vec<String>>| own.is_some_and(|own| wanted.contains(&own));
                has(own(plain)) || places.iter().any(|place| is_real(values[*place])) && has(own(comparable))
            };
            // What is too much is told by whoever keeps it.
            if wanted.iter().any(fits) && bytes <= MOST_BYTES {
                bytes += file.line().len();
                rows.push((file.start(), String::from_utf8_lossy(file.line()).into_owned()));
            }
        }
        Ok(rows)
    })
    .await
}

/// Names of records whose keys are like one that is not there.
async fn close(
    path: &std::path::Path,
    table: &RecordTable,
    (places, values): (Vec<usize>, Vec<String>),
) -> Result<Vec<String>> {
    let (path, table) = (path.to_owned(), table.clone());
    blocking(move || {
        let wanted: String = values.join(",").chars().take(LONGEST_COMPARED).collect();
        let mut file = RecordFile::open(&path, &table, ROWID_FIELD)?;
        let mut close: Vec<(usize, String)> = Vec::new();
        while file.advance()? {
            let fields = file.values()?;
            let own: Vec<String> = places.iter().map(|place| plain(fields[*place])).collect();
            let shown: String = own.join(",").chars().take(LONGEST_COMPARED).collect();
            close.push((distance(&wanted, &shown), name(&table, &key_names(&table), &own)));
            close.sort();
            close.truncate(SUGGESTIONS);
        }
        Ok(close.into_iter().map(|(_, name)| name).collect())
    })
    .await
}
