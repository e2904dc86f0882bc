//! Records into the tables of a live database, in one transaction, compared before it is committed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Statement, ToSql, params_from_iter};

use crate::database::digest::RowsDigest;
use crate::database::load::{Conflict, EXAMPLES, LoadMode, LoadedTable, TableToLoad, no_table, require_same_columns};
use crate::database::sink::Sink;
use crate::database::source::{Field, RecordFile};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::point::RecordTable;

use super::SqliteDatabase;
use super::open::{Reader, failed, let_checkpoint, open_to_write, patiently};
use super::rows::{record, write_rows};
use super::tables::{Catalogue, ROWID_FIELD, Table, catalogue, quoted};

/// How often the number of rows is told.
const ROWS_BETWEEN_NEWS: u64 = 4096;

/// Tables that are being loaded: nothing of it counts before [`SqliteLoad::finish`].
pub struct SqliteLoad {
    connection: Connection,
    path: PathBuf,
    tables: BTreeMap<String, Table>,
    mode: LoadMode,
    dangling: BTreeMap<String, u64>,
    conflicts: u64,
    /// Indexes whose text lies in other tables, which may not be loaded yet; with what their rows must be.
    indexes: Vec<(Table, RecordTable, RowsDigest)>,
}

impl std::fmt::Debug for SqliteLoad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a load into {}", self.path.display())
    }
}

impl SqliteDatabase {
    /// Looks at the tables that records shall be loaded into, reading only.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a table that is not there, and for one of another schema; [`Error::Unsupported`] for what
    /// cannot be loaded; [`Error::Busy`] and [`Error::Damaged`] as for any reader.
    pub fn look_at_tables(&self, records: Vec<RecordTable>, lock_wait: Duration) -> Result<Vec<TableToLoad>> {
        self.size()?;
        let reader = Reader::open(self.path(), lock_wait)?;
        let connection = reader.connection();
        let known = by_name(catalogue(connection)?);
        let look = |records: RecordTable| {
            let table =
                known.get(&records.table).ok_or_else(|| no_table(&records, &self.path().display().to_string()))?;
            require_same_columns(&records, &table.columns)?;
            require_loadable(connection, &records, table)?;
            let present = count(connection, table)?;
            Ok(TableToLoad { records, present })
        };
        records.into_iter().map(look).collect()
    }

    /// Begins a transaction in which tables are loaded; triggers and foreign keys sleep in it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] naming who holds the database.
    pub fn load(&self, mode: LoadMode, lock_wait: Duration) -> Result<SqliteLoad> {
        let what = || format!("cannot load records into `{}`", self.path().display());
        let sql = |cause| failed(what(), cause);
        let connection = open_to_write(self.path()).map_err(sql)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).map_err(sql)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(sql)?;
        connection.pragma_update(None, "foreign_keys", false).map_err(sql)?;
        patiently(self.path(), lock_wait, || connection.execute_batch("BEGIN IMMEDIATE").map(Some))
            .map_err(|stop| stop.into_error(&what()))?;
        let tables = by_name(catalogue(&connection)?);
        let dangling = dangling(&connection).map_err(sql)?;
        Ok(SqliteLoad {
            connection,
            path: self.path().to_owned(),
            tables,
            mode,
            dangling,
            conflicts: 0,
            indexes: Vec::new(),
        })
    }
}

impl SqliteLoad {
    /// Loads one table from its record file, and compares what is there then with the file.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when the file is not what was exported, or the table does not read back as the file;
    /// [`Error::Exists`] when another row stands in the way of a record; as SQLite says. Nothing is committed.
    pub fn table(&mut self, records: &RecordTable, file: &Path, events: &Events) -> Result<LoadedTable> {
        let Some(table) = self.tables.get(&records.table).cloned() else {
            return Err(no_table(records, &self.path.display().to_string()));
        };
        require_same_columns(records, &table.columns)?;
        let mut source = RecordFile::open(file, records, ROWID_FIELD)?;
        if content(&self.connection, &table)? == Content::Elsewhere {
            while source.advance()? {
                source.fields()?;
            }
            self.indexes.push((table.clone(), records.clone(), source.digest()));
            return Ok(LoadedTable { table: table.name, records: records.rows, ..LoadedTable::default() });
        }
        let mut target = Target::new(&self.connection, &table, records)?;
        let before = count(&self.connection, &table)?;
        let mut loaded = LoadedTable { table: table.name.clone(), records: records.rows, ..LoadedTable::default() };
        if self.mode == LoadMode::Replace {
            target.clear()?;
            loaded.removed = before;
        }
        let mut told = 0;
        while source.advance()? {
            let fields = source.fields()?;
            let values = values(&fields, records)?;
            match self.mode {
                LoadMode::Replace => target.insert(&values)?,
                LoadMode::AddMissing(conflict) => target.merge(&values, source.line(), conflict, &mut loaded)?,
            }
            told += 1;
            if told % ROWS_BETWEEN_NEWS == 0 {
                events.advanced(Stage::LoadRecords, ROWS_BETWEEN_NEWS, 0);
            }
        }
        events.advanced(Stage::LoadRecords, told % ROWS_BETWEEN_NEWS, 0);
        let read = source.digest();
        if read.rows != records.rows {
            let (rows, wanted) = (read.rows, records.rows);
            return Err(Error::damaged(format!("`{}` has {rows} records, not {wanted}", file.display())));
        }
        match self.mode {
            LoadMode::Replace => {
                loaded.added = read.rows;
                self.require_equal(&table, records, read)?;
            }
            LoadMode::AddMissing(_) => self.require_count(&table, before, &loaded)?,
        }
        self.conflicts += loaded.conflicts;
        self.raise_sequence(records)?;
        Ok(loaded)
    }

    /// Commits, unless conflicts were to be refused; answers whether it did.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] when rows would point at nothing that did not before; as SQLite says. Nothing is committed.
    pub fn finish(self) -> Result<bool> {
        let sql = |cause| failed(format!("cannot load records into `{}`", self.path.display()), cause);
        if self.conflicts > 0 && self.mode == LoadMode::AddMissing(Conflict::Refuse) {
            self.connection.execute_batch("ROLLBACK").map_err(sql)?;
            return Ok(false);
        }
        for (table, records, read) in &self.indexes {
            let name = quoted(&table.name);
            self.connection
                .execute(&format!("INSERT INTO main.{name} ({name}) VALUES ('rebuild')"), [])
                .map_err(sql)?;
            if self.mode == LoadMode::Replace {
                self.require_equal(table, records, *read)?;
            }
        }
        let now = dangling(&self.connection).map_err(sql)?;
        let worse = now.iter().find(|(table, rows)| **rows > self.dangling.get(*table).copied().unwrap_or(0));
        if let Some((table, rows)) = worse {
            return Err(Error::Unsupported {
                what: format!(
                    "{rows} rows of `{table}` would point at rows that are not there: load the tables they point at as well"
                ),
            });
        }
        self.connection.execute_batch("COMMIT").map_err(sql)?;
        // Only now is the log this connection's to empty.
        let_checkpoint(&self.connection).map_err(sql)?;
        Ok(true)
    }

    fn require_equal(&self, table: &Table, records: &RecordTable, read: RowsDigest) -> Result<()> {
        let mut sink = Sink::rows();
        let shown = Table { columns: records.columns.clone(), ..table.clone() };
        write_rows(&self.connection, &shown, &mut sink, &|_| {})?;
        if sink.finish_rows()? == read {
            return Ok(());
        }
        Err(Error::damaged(format!("the table `{}` does not read as its records once they are in it", table.name)))
    }

    fn require_count(&self, table: &Table, before: u64, loaded: &LoadedTable) -> Result<()> {
        let now = count(&self.connection, table)?;
        let wanted = before + loaded.added - loaded.removed;
        if now == wanted {
            return Ok(());
        }
        Err(Error::damaged(format!("the table `{}` has {now} rows where {wanted} should be", table.name)))
    }

    /// AUTOINCREMENT goes on after the highest number that was ever given out, here or there.
    fn raise_sequence(&self, records: &RecordTable) -> Result<()> {
        let Some(sequence) = records.sequence else { return Ok(()) };
        let raise = || {
            let there = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
            if self.connection.execute(there, (&records.table, sequence))? == 0 {
                let new = "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)";
                self.connection.execute(new, (&records.table, sequence))?;
            }
            Ok(())
        };
        raise().map_err(|cause| failed(format!("cannot set the sequence of `{}`", records.table), cause))
    }
}

fn by_name(catalogue: Catalogue) -> BTreeMap<String, Table> {
    catalogue.tables.into_iter().map(|table| (table.name.clone(), table)).collect()
}

/// A table's rows as SQL gives them must be what its records say, or they would be loaded under wrong ids.
fn require_loadable(connection: &Connection, records: &RecordTable, table: &Table) -> Result<()> {
    if content(connection, table)? == Content::Nowhere {
        return Err(Error::Unsupported {
            what: format!(
                "the index {} keeps no text of its own: restore the database, or choose other tables",
                table.name
            ),
        });
    }
    if records.rowid == table.shows_rowid() {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("the table {} has another key than its records: restore the database", records.table),
    })
}

/// Where a full-text index has its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// In itself, or it is no such index.
    Own,
    /// In another table, from which it is made anew.
    Elsewhere,
    /// In no table.
    Nowhere,
}

/// Source: <https://www.sqlite.org/fts5.html>, "External Content and Contentless Tables".
fn content(connection: &Connection, table: &Table) -> Result<Content> {
    if !table.is_virtual {
        return Ok(Content::Own);
    }
    let sql: String = connection
        .query_row("SELECT coalesce(sql, '') FROM main.sqlite_schema WHERE name = ?1", [&table.name], |row| row.get(0))
        .map_err(|cause| failed(format!("cannot read what `{}` is", table.name), cause))?;
    let plain: String = sql.chars().filter(|letter| !letter.is_whitespace()).collect::<String>().to_ascii_lowercase();
    let is_index = ["usingfts3", "usingfts4", "usingfts5"].iter().any(|module| plain.contains(module));
    let option = plain.find(",content=").filter(|_| is_index).map(|at| &plain[at + ",content=".len()..]);
    Ok(match option {
        None => Content::Own,
        Some(value) if value.starts_with("''") || value.starts_with("\"\"") => Content::Nowhere,
        Some(_) => Content::Elsewhere,
    })
}

fn count(connection: &Connection, table: &Table) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM main.{}", quoted(&table.name));
    connection
        .query_row(&sql, [], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
        .map_err(|cause| failed(format!("cannot count the rows of `{}`", table.name), cause))
}

/// Rows that point at nothing, by table.
fn dangling(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut statement = connection.prepare("PRAGMA main.foreign_key_check")?;
    let mut rows = statement.query([])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        *found.entry(row.get(0)?).or_default() += 1;
    }
    Ok(found)
}

/// A table that rows come into.
struct Target<'a> {
    connection: &'a Connection,
    table: &'a Table,
    insert: Statement<'a>,
    /// Which of a record's values are stored: generated ones are not.
    stored: Vec<usize>,
    /// Which of a record's values are its key.
    key: Vec<usize>,
    /// The rows of a key, as records.
    find: Option<Statement<'a>>,
    remove: Option<Statement<'a>>,
    fields: Vec<String>,
}

impl<'a> Target<'a> {
    fn new(connection: &'a Connection, table: &'a Table, records: &RecordTable) -> Result<Self> {
        let sql = |cause| failed(format!("cannot write to the table `{}`", table.name), cause);
        let rowid = table.rowid.filter(|_| table.shows_rowid()).map(str::to_owned);
        let named = records.columns.iter().map(|column| (column.name.clone(), quoted(&column.name), column.generated));
        let all: Vec<(String, String, bool)> =
            rowid.into_iter().map(|name| (ROWID_FIELD.to_owned(), name, false)).chain(named).collect();
        let stored: Vec<usize> = (0..all.len()).filter(|at| !all[*at].2).collect();
        let columns: Vec<&str> = stored.iter().map(|at| all[*at].1.as_str()).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let name = quoted(&table.name);
        let insert = if columns.is_empty() {
            format!("INSERT INTO main.{name} DEFAULT VALUES")
        } else {
            format!("INSERT INTO main.{name} ({}) VALUES ({marks})", columns.join(", "))
        };
        let key_names: Vec<String> =
            if table.shows_rowid() { vec![ROWID_FIELD.to_owned()] } else { table.primary_key.clone() };
        let key: Vec<usize> =
            key_names.iter().filter_map(|key| all.iter().position(|(field, ..)| field == key)).collect();
        let (mut find, mut remove) = (None, None);
        if !key.is_empty() {
            let same: Vec<String> = key.iter().map(|at| format!("{} IS ?", all[*at].1)).collect();
            let same = same.join(" AND ");
            let shown: Vec<&str> = all.iter().map(|(_, column, _)| column.as_str()).collect();
            let select = format!("SELECT {} FROM main.{name} WHERE {same}", shown.join(", "));
            find = Some(connection.prepare(&select).map_err(sql)?);
            remove = Some(connection.prepare(&format!("DELETE FROM main.{name} WHERE {same}")).map_err(sql)?);
        }
        let fields = all.into_iter().map(|(field, ..)| field).collect();
        let insert = connection.prepare(&insert).map_err(sql)?;
        Ok(Self { connection, table, insert, stored, key, find, remove, fields })
    }

    fn clear(&self) -> Result<()> {
        let sql = format!("DELETE FROM main.{}", quoted(&self.table.name));
        self.connection
            .execute(&sql, [])
            .map(drop)
            .map_err(|cause| failed(format!("cannot empty the table `{}`", self.table.name), cause))
    }

    fn insert(&mut self, values: &[Bound<'_>]) -> Result<()> {
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

    /// Adds a record unless a row with its key is there.
    fn merge(&mut self, values: &[Bound<'_>], line: &[u8], conflict: Conflict, loaded: &mut LoadedTable) -> Result<()> {
        let there = self.rows_of(values)?;
        if there.iter().any(|row| row == line) {
            return Ok(());
        }
        // A key with NULL in it is no key: rows that bear it are others.
        let is_key = self.key.iter().all(|at| values[*at] != Bound::Owned(Value::Null));
        if !there.is_empty() && is_key {
            loaded.conflicts += 1;
            if loaded.examples.len() < EXAMPLES {
                loaded.examples.push(self.shown_key(values));
            }
            if conflict != Conflict::Overwrite {
                return Ok(());
            }
            loaded.removed += self.remove_key(values)?;
        }
        self.insert(values)?;
        loaded.added += 1;
        if self.rows_of(values)?.iter().any(|row| row == line) {
            return Ok(());
        }
        Err(Error::damaged(format!("a row of `{}` does not read as its record once it is in it", self.table.name)))
    }

    /// The rows that have a record's key, each as it would be exported.
    fn rows_of(&mut self, values: &[Bound<'_>]) -> Result<Vec<Vec<u8>>> {
        let Some(find) = &mut self.find else {
            return Err(Error::Unsupported {
                what: format!(
                    "the table `{}` has no key, so what is missing in it cannot be told: load it with --mode replace",
                    self.table.name
                ),
            });
        };
        let sql = |cause| failed(format!("cannot read the table `{}`", self.table.name), cause);
        let mut rows = find.query(params_from_iter(self.key.iter().map(|at| &values[*at]))).map_err(sql)?;
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
enum Bound<'a> {
    Owned(Value),
    Text(&'a str),
    Bytes(Vec<u8>),
}

impl Bound<'_> {
    fn shown(&self) -> String {
        match self {
            Self::Owned(Value::Null) => "NULL".to_owned(),
            Self::Owned(Value::Integer(number)) => number.to_string(),
            Self::Owned(Value::Real(number)) => number.to_string(),
            Self::Owned(Value::Text(text)) => format!("{text:?}"),
            Self::Text(text) => format!("{text:?}"),
            Self::Owned(Value::Blob(_)) | Self::Bytes(_) => "bytes".to_owned(),
        }
    }
}

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Owned(value) => ToSqlOutput::Borrowed(value.into()),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Text(bytes)),
        })
    }
}

fn values<'a>(fields: &'a [Field<'_>], records: &RecordTable) -> Result<Vec<Bound<'a>>> {
    let value = |field: &'a Field<'_>| -> Option<Bound<'a>> {
        Some(match field {
            Field::Null => Bound::Owned(Value::Null),
            Field::Number(text) if text.contains(['.', 'e', 'E']) => Bound::Owned(Value::Real(text.parse().ok()?)),
            Field::Number(text) => Bound::Owned(Value::Integer(text.parse().ok()?)),
            Field::Integer(text) => Bound::Owned(Value::Integer(text.parse().ok()?)),
            Field::Real(text) => Bound::Owned(Value::Real(text.parse().ok()?)),
            Field::Text(text) => Bound::Text(text),
            Field::Blob(bytes) => Bound::Owned(Value::Blob(bytes.clone())),
            Field::Bytes(bytes) => Bound::Bytes(bytes.clone()),
            Field::Boolean(_) => return None,
        })
    };
    let values: Option<Vec<Bound<'a>>> = fields.iter().map(value).collect();
    values.ok_or_else(|| Error::damaged(format!("a record of `{}` has a value that SQLite has not", records.table)))
}
