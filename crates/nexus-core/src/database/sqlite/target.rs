//! A table that records come into, a row at a time.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Statement, ToSql, params_from_iter};
use sha2::{Digest, Sha256};

use crate::database::load::{Conflict, EXAMPLES, LoadMode, LoadedTable, unlike};
use crate::database::source::Field;
use crate::error::{Error, Result};
use crate::point::RecordTable;

use super::open::failed;
use super::rows::record;
use super::tables::{ROWID_FIELD, Table, quoted};

/// A table that rows come into.
pub(super) struct Target<'a> {
    connection: &'a Connection,
    table: &'a Table,
    records: &'a RecordTable,
    insert: Statement<'a>,
    /// Which of a record's values are stored: generated ones are not, and neither is a row's id where it is no key.
    stored: Vec<usize>,
    /// Which of a record's values are its key; none: a row is its own.
    key: Vec<usize>,
    /// The rows of a key, as records; without a key those of a row's id.
    find: Statement<'a>,
    remove: Option<Statement<'a>>,
    fields: Vec<String>,
}

/// Rows of which only the number counts, by their hash: those that are there and that no record has claimed yet.
const UNCLAIMED: &str = "temp.nexus_unclaimed";

impl<'a> Target<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        table: &'a Table,
        records: &'a RecordTable,
        mode: LoadMode,
    ) -> Result<Self> {
        let sql = |cause| failed(format!("cannot write to the table `{}`", table.name), cause);
        let rowid = table.rowid.filter(|_| table.shows_rowid()).map(str::to_owned);
        let keyless = table.primary_key.is_empty() && mode != LoadMode::Replace;
        let named = records.columns.iter().map(|column| (column.name.clone(), quoted(&column.name), column.generated));
        // A row's id is not what makes it the same row: VACUUM may change it.
        let first = rowid.iter().map(|name| (ROWID_FIELD.to_owned(), name.clone(), keyless));
        let all: Vec<(String, String, bool)> = first.chain(named).collect();
        let stored: Vec<usize> = (0..all.len()).filter(|at| !all[*at].2).collect();
        let columns: Vec<&str> = stored.iter().map(|at| all[*at].1.as_str()).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let name = quoted(&table.name);
        let insert = if columns.is_empty() {
            format!("INSERT INTO main.{name} DEFAULT VALUES")
        } else {
            format!("INSERT INTO main.{name} ({}) VALUES ({marks})", columns.join(", "))
        };
        let place = |key: &String| all.iter().position(|(field, ..)| field == key);
        let key: Vec<usize> = table.primary_key.iter().filter_map(place).collect();
        let same = match (key.is_empty(), &rowid) {
            (false, _) => key.iter().map(|at| format!("{} IS ?", all[*at].1)).collect::<Vec<_>>().join(" AND "),
            (true, Some(rowid)) => format!("{rowid} = ?"),
            // Columns have taken every name of the row's id: any of the rows may be it.
            (true, None) => "? IS NOT NULL".to_owned(),
        };
        let shown: Vec<&str> = all.iter().map(|(_, column, _)| column.as_str()).collect();
        let find = format!("SELECT {} FROM main.{name} WHERE {same}", shown.join(", "));
        let find = connection.prepare(&find).map_err(sql)?;
        let remove = format!("DELETE FROM main.{name} WHERE {same}");
        let remove = if key.is_empty() { None } else { Some(connection.prepare(&remove).map_err(sql)?) };
        let fields = all.into_iter().map(|(field, ..)| field).collect();
        let insert = connection.prepare(&insert).map_err(sql)?;
        let target = Self { connection, table, records, insert, stored, key, find, remove, fields };
        if mode != LoadMode::Replace {
            target.count_unclaimed()?;
        }
        Ok(target)
    }

    pub(super) fn clear(&self) -> Result<()> {
        let sql = format!("DELETE FROM main.{}", quoted(&self.table.name));
        self.connection
            .execute(&sql, [])
            .map(drop)
            .map_err(|cause| failed(format!("cannot empty the table `{}`", self.table.name), cause))
    }

    pub(super) fn insert(&mut self, values: &[Bound<'_>]) -> Result<()> {
        let stored = self.stored.iter().map(|at| &values[*at]);
        let Err(cause) = self.insert.execute(params_from_iter(stored)) else { return Ok(()) };
        if cause.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) {
            let key = self.shown_key(values);
            return Err(Error::Exists {
                what: format!("the record {key} of `{}` cannot be added: {cause}", self.table.name),
            });
        }
        Err(failed(format!("cannot write to the table `{}`", self.table.name), cause))
    }

    /// Adds a record unless it is there.
    pub(super) fn merge(
        &mut self,
        values: &[Bound<'_>],
        line: &[u8],
        conflict: Conflict,
        loaded: &mut LoadedTable,
    ) -> Result<()> {
        // A key with NULL in it is no key.
        let is_key = !self.key.is_empty() && self.key.iter().all(|at| values[*at] != Bound::Owned(Value::Null));
        if is_key {
            let there = self.rows_of(values)?;
            if there.iter().any(|row| row == line) {
                return Ok(());
            }
            if !there.is_empty() {
                loaded.conflicts += 1;
                if loaded.examples.len() < EXAMPLES {
                    loaded.examples.push(self.shown_key(values));
                }
                if conflict != Conflict::Overwrite {
                    return Ok(());
                }
                loaded.removed += self.remove_key(values)?;
            }
        } else if self.claim(self.own(line))? {
            return Ok(());
        }
        self.insert(values)?;
        loaded.added += 1;
        let there = if self.key.is_empty() { self.last_row()? } else { self.rows_of(values)? };
        if there.iter().any(|row| self.own(row) == self.own(line)) {
            return Ok(());
        }
        Err(unlike(self.records))
    }

    /// A record without its row's id.
    fn own<'l>(&self, line: &'l [u8]) -> &'l [u8] {
        if !self.table.shows_rowid() {
            return line;
        }
        line.iter().position(|byte| *byte == b',').map_or(&[], |at| &line[at..])
    }

    /// Counts the rows that have no key, by their hash, in a temporary table: there may be many.
    fn count_unclaimed(&self) -> Result<()> {
        let sql = |cause| failed(format!("cannot count the rows of `{}`", self.table.name), cause);
        let begin = format!(
            "DROP TABLE IF EXISTS {UNCLAIMED}; CREATE TABLE {UNCLAIMED} (hash BLOB PRIMARY KEY, rows INTEGER) WITHOUT ROWID"
        );
        self.connection.execute_batch(&begin).map_err(sql)?;
        let name = quoted(&self.table.name);
        let columns: Vec<String> = self.fields.iter().map(|field| self.column(field)).collect();
        let nulls: Vec<String> = self.table.primary_key.iter().map(|key| format!("{} IS NULL", quoted(key))).collect();
        let filter = if nulls.is_empty() { String::new() } else { format!(" WHERE {}", nulls.join(" OR ")) };
        let mut read =
            self.connection.prepare(&format!("SELECT {} FROM main.{name}{filter}", columns.join(", "))).map_err(sql)?;
        let add = format!("INSERT INTO {UNCLAIMED} VALUES (?1, 1) ON CONFLICT DO UPDATE SET rows = rows + 1");
        let mut add = self.connection.prepare(&add).map_err(sql)?;
        let mut rows = read.query([]).map_err(sql)?;
        let mut line = Vec::new();
        while let Some(row) = rows.next().map_err(sql)? {
            line.clear();
            record(&mut line, row, &self.fields).map_err(sql)?;
            add.execute([Sha256::digest(self.own(&line)).as_slice()]).map_err(sql)?;
        }
        Ok(())
    }

    fn column(&self, field: &str) -> String {
        let rowid = self.table.rowid.filter(|_| field == ROWID_FIELD && self.table.shows_rowid());
        rowid.map_or_else(|| quoted(field), str::to_owned)
    }

    /// True when such a row is there that no record has claimed yet.
    fn claim(&self, row: &[u8]) -> Result<bool> {
        let sql = format!("UPDATE {UNCLAIMED} SET rows = rows - 1 WHERE hash = ?1 AND rows > 0");
        let claimed =
            self.connection.prepare(&sql).and_then(|mut claim| claim.execute([Sha256::digest(row).as_slice()]));
        claimed
            .map(|rows| rows > 0)
            .map_err(|cause| failed(format!("cannot count the rows of `{}`", self.table.name), cause))
    }

    /// The rows that have a record's key, each as it would be exported.
    fn rows_of(&mut self, values: &[Bound<'_>]) -> Result<Vec<Vec<u8>>> {
        let key: Vec<&Bound<'_>> = self.key.iter().map(|at| &values[*at]).collect();
        self.found(&key)
    }

    /// The row that was inserted last, as it would be exported.
    fn last_row(&mut self) -> Result<Vec<Vec<u8>>> {
        let id = Bound::Owned(Value::Integer(self.connection.last_insert_rowid()));
        self.found(&[&id])
    }

    fn found(&mut self, key: &[&Bound<'_>]) -> Result<Vec<Vec<u8>>> {
        let sql = |cause| failed(format!("cannot read the table `{}`", self.table.name), cause);
        let mut rows = self.find.query(params_from_iter(key)).map_err(sql)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(sql)? {
            let mut line = Vec::new();
            record(&mut line, row, &self.fields).map_err(sql)?;
            found.push(line);
        }
        Ok(found)
    }

    fn remove_key(&mut self, values: &[Bound<'_>]) -> Result<u64> {
        let Some(remove) = &mut self.remove else { return Ok(0) };
        let removed = remove.execute(params_from_iter(self.key.iter().map(|at| &values[*at])));
        removed
            .map(|rows| rows as u64)
            .map_err(|cause| failed(format!("cannot write to the table `{}`", self.table.name), cause))
    }

    fn shown_key(&self, values: &[Bound<'_>]) -> String {
        let shown = self.key.iter().map(|at| format!("{}={}", self.fields[*at], values[*at].shown()));
        shown.collect::<Vec<_>>().join(", ")
    }
}

/// A value on its way into a statement.
#[derive(Debug, PartialEq)]
pub(super) enum Bound<'a> {
    Owned(Value),
    Text(&'a str),
    /// Text that is not UTF-8.
    Bytes(&'a [u8]),
    Blob(&'a [u8]),
}

impl Bound<'_> {
    fn shown(&self) -> String {
        match self {
            Self::Owned(Value::Null) => "NULL".to_owned(),
            Self::Owned(Value::Integer(number)) => number.to_string(),
            Self::Owned(Value::Real(number)) => number.to_string(),
            Self::Owned(Value::Text(text)) => format!("{text:?}"),
            Self::Text(text) => format!("{text:?}"),
            Self::Owned(Value::Blob(_)) | Self::Bytes(_) | Self::Blob(_) => "bytes".to_owned(),
        }
    }
}

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Owned(value) => ToSqlOutput::Borrowed(value.into()),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Text(bytes)),
            Self::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

/// A field as a value of SQLite's; none: it has no such value.
pub(super) fn bound<'a>(field: &'a Field<'_>) -> Option<Bound<'a>> {
    Some(match field {
        Field::Null => Bound::Owned(Value::Null),
        Field::Number(text) if text.contains(['.', 'e', 'E']) => Bound::Owned(Value::Real(text.parse().ok()?)),
        Field::Number(text) => Bound::Owned(Value::Integer(text.parse().ok()?)),
        Field::Integer(text) => Bound::Owned(Value::Integer(text.parse().ok()?)),
        Field::Real(text) => Bound::Owned(Value::Real(text.parse().ok()?)),
        Field::Text(text) => Bound::Text(text),
        Field::Blob(bytes) => Bound::Blob(bytes),
        Field::Bytes(bytes) => Bound::Bytes(bytes),
        Field::Boolean(_) => return None,
    })
}

pub(super) fn values<'a>(fields: &'a [Field<'_>], records: &RecordTable) -> Result<Vec<Bound<'a>>> {
    let values: Option<Vec<Bound<'a>>> = fields.iter().map(bound).collect();
    values.ok_or_else(|| Error::damaged(format!("a record of `{}` has a value that SQLite has not", records.table)))
}
