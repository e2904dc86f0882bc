//! Records into the tables of a live database, in one transaction, compared before it is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Statement, ToSql, params_from_iter};
use sha2::{Digest, Sha256};

use crate::database::digest::RowsDigest;
use crate::database::load::{
    Conflict, EXAMPLES, LoadMode, LoadedTable, TableToLoad, TablesLook, no_table, require_same_columns, unlike,
    written_since,
};
use crate::database::sink::Sink;
use crate::database::source::{Field, RecordFile};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::point::RecordTable;

use super::open::{Reader, failed, let_checkpoint, open_to_write, patiently};
use super::rows::{digest_table, record, write_rows};
use super::tables::{Catalogue, ROWID_FIELD, Table, catalogue, quoted};
use super::{Condition, SqliteDatabase};

/// How often the number of rows is told.
const ROWS_BETWEEN_NEWS: u64 = 4096;

/// Tables that are being loaded: nothing of it counts before [`SqliteLoad::finish`].
pub struct SqliteLoad {
    connection: Connection,
    path: PathBuf,
    lock_wait: Duration,
    tables: BTreeMap<String, Table>,
    /// Names of the tables that are loaded.
    chosen: BTreeSet<String>,
    mode: LoadMode,
    dangling: BTreeMap<Arrow, u64>,
    conflicts: u64,
    /// Indexes whose text lies in other tables, which may not be loaded yet; with what their rows must be.
    indexes: Vec<(Table, RecordTable, RowsDigest)>,
}

/// A table whose rows point at another's.
type Arrow = (String, String);

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
    /// [`Error::Usage`] for a database or a table that is not there, and for one of another schema; [`Error::Busy`] and
    /// the like as for any reader.
    pub fn look_at_tables(&self, records: Vec<RecordTable>, lock_wait: Duration) -> Result<TablesLook> {
        let shown = self.path().display();
        match self.condition(lock_wait)? {
            Condition::Healthy { .. } => {}
            Condition::Absent | Condition::Empty | Condition::Broken(_) => {
                return Err(Error::usage_hint(
                    format!("there is no sound database at `{shown}` to load records into"),
                    "restore it first, with --only database",
                ));
            }
        }
        let reader = Reader::open(self.path(), lock_wait)?;
        let connection = reader.connection();
        let known = by_name(catalogue(connection)?);
        let mut look = TablesLook::default();
        for records in records {
            let table = known.get(&records.table).ok_or_else(|| no_table(&records, &shown.to_string()))?;
            require_same_columns(&records, &table.columns)?;
            if Content::of(connection, table)? == Content::Nowhere {
                look.left.push(format!("{} is computed and was not loaded", records.table));
                continue;
            }
            require_same_key(&records, table)?;
            let present = count(connection, table)?;
            look.tables.push(TableToLoad { records, present });
        }
        Ok(look)
    }

    /// Begins a transaction in which tables are loaded; triggers and foreign keys sleep in it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] naming who holds the database.
    pub fn load(&self, records: &[RecordTable], mode: LoadMode, lock_wait: Duration) -> Result<SqliteLoad> {
        let what = || format!("cannot load records into `{}`", self.path().display());
        let sql = |cause| failed(what(), cause);
        let connection = open_to_write(self.path()).map_err(sql)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).map_err(sql)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(sql)?;
        connection.pragma_update(None, "foreign_keys", false).map_err(sql)?;
        patiently(self.path(), lock_wait, || connection.execute_batch("BEGIN IMMEDIATE").map(Some))
            .map_err(|stop| stop.into_error(&what()))?;
        // In rollback mode a reader may keep pages from being written before the end.
        connection.busy_timeout(lock_wait).map_err(sql)?;
        let tables = by_name(catalogue(&connection)?);
        let chosen: BTreeSet<String> = records.iter().map(|records| records.table.clone()).collect();
        let dangling = dangling(&connection, &tables, &chosen).map_err(sql)?;
        let path = self.path().to_owned();
        Ok(SqliteLoad {
            connection,
            path,
            lock_wait,
            tables,
            chosen,
            mode,
            dangling,
            conflicts: 0,
            indexes: Vec::new(),
        })
    }
}

impl SqliteLoad {
    /// Refuses to go on when a table is not what the safety point holds of it.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] naming the table.
    pub fn require_unchanged(&self, safe: &[RecordTable]) -> Result<()> {
        for records in safe {
            let Some(table) = self.tables.get(&records.table).filter(|table| self.chosen.contains(&table.name)) else {
                continue;
            };
            if digest_table(&self.connection, table)? != (records.rows, records.sha256.clone()) {
                return Err(written_since(records));
            }
        }
        Ok(())
    }

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
        require_same_key(records, &table)?;
        let mut source = RecordFile::open(file, records, ROWID_FIELD)?;
        if matches!(Content::of(&self.connection, &table)?, Content::Elsewhere(_)) {
            while source.advance()? {
                source.fields()?;
            }
            self.indexes.push((table.clone(), records.clone(), source.digest()));
            return Ok(LoadedTable { table: table.name, records: records.rows, ..LoadedTable::default() });
        }
        let mut target = Target::new(&self.connection, &table, records, self.mode)?;
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
        self.rebuild()?;
        let now = dangling(&self.connection, &self.tables, &self.chosen).map_err(sql)?;
        // Where both tables were replaced their rows are those of the point, whatever they point at.
        let given = |(child, parent): &Arrow| {
            self.mode == LoadMode::Replace && self.chosen.contains(child) && self.chosen.contains(parent)
        };
        let worse =
            now.iter().find(|(arrow, rows)| !given(arrow) && **rows > self.dangling.get(*arrow).copied().unwrap_or(0));
        if let Some(((child, parent), rows)) = worse {
            return Err(Error::usage_hint(
                format!("{rows} rows of `{child}` would point at rows of `{parent}` that are not there"),
                format!("load both: --table {child} --table {parent}"),
            ));
        }
        let what = format!("cannot load records into `{}`", self.path.display());
        patiently(&self.path, self.lock_wait, || self.connection.execute_batch("COMMIT").map(Some))
            .map_err(|stop| stop.into_error(&what))?;
        // Only now is the log this connection's to empty.
        let_checkpoint(&self.connection).map_err(sql)?;
        Ok(true)
    }

    /// Makes indexes anew whose text lies in tables that were loaded: triggers, which keep them, slept.
    fn rebuild(&self) -> Result<()> {
        for table in self.tables.values() {
            let Content::Elsewhere(of) = Content::of(&self.connection, table)? else { continue };
            if self.chosen.contains(&of) || self.chosen.contains(&table.name) {
                let name = quoted(&table.name);
                self.connection
                    .execute(&format!("INSERT INTO main.{name} ({name}) VALUES ('rebuild')"), [])
                    .map_err(|cause| failed(format!("cannot make the index `{}` anew", table.name), cause))?;
            }
        }
        for (table, records, read) in self.indexes.iter().filter(|_| self.mode == LoadMode::Replace) {
            self.require_equal(table, records, *read)?;
        }
        Ok(())
    }

    fn require_equal(&self, table: &Table, records: &RecordTable, read: RowsDigest) -> Result<()> {
        let mut sink = Sink::rows();
        let shown = Table { columns: records.columns.clone(), ..table.clone() };
        write_rows(&self.connection, &shown, &mut sink, &|_| {})?;
        if sink.finish_rows()? == read {
            return Ok(());
        }
        Err(unlike(records))
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
fn require_same_key(records: &RecordTable, table: &Table) -> Result<()> {
    if records.rowid == table.shows_rowid() {
        return Ok(());
    }
    Err(Error::usage_hint(
        format!("the table {} has another key than its records", records.table),
        "restore the database with --only database, or choose other tables with --table",
    ))
}

/// Where a table's rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// From itself.
    Own,
    /// An index of the text in this table, from which it is made anew.
    Elsewhere(String),
    /// A module computes them, or keeps an index and no text.
    Nowhere,
}

impl Content {
    /// Source: <https://www.sqlite.org/fts5.html>, "External Content and Contentless Tables".
    fn of(connection: &Connection, table: &Table) -> Result<Self> {
        if !table.is_virtual {
            return Ok(Self::Own);
        }
        let sql: String = connection
            .query_row("SELECT coalesce(sql, '') FROM main.sqlite_schema WHERE name = ?1", [&table.name], |row| {
                row.get(0)
            })
            .map_err(|cause| failed(format!("cannot read what `{}` is", table.name), cause))?;
        Ok(Self::said_by(&sql))
    }

    fn said_by(sql: &str) -> Self {
        let Some((_, module)) = split_at_word(sql, "using") else { return Self::Nowhere };
        let (name, arguments) = module.split_once('(').unwrap_or((module, ""));
        let name = name.trim().to_ascii_lowercase();
        if !matches!(name.as_str(), "fts3" | "fts4" | "fts5") {
            return if matches!(name.as_str(), "rtree" | "rtree_i32") { Self::Own } else { Self::Nowhere };
        }
        let option = arguments.split(',').find_map(|argument| {
            let (option, value) = argument.split_once('=')?;
            option.trim().eq_ignore_ascii_case("content").then(|| value.trim().trim_end_matches(')').trim())
        });
        match option.map(|value| value.trim_matches(['"', '\'', '`', '[', ']'])) {
            None => Self::Own,
            Some("") => Self::Nowhere,
            Some(of) => Self::Elsewhere(of.to_owned()),
        }
    }
}

/// What comes before and after a word, in any case of letters.
fn split_at_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let lower = text.to_ascii_lowercase();
    let at = lower.match_indices(word).map(|(at, _)| at).find(|at| {
        let blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        blank(at.checked_sub(1).and_then(|before| lower.as_bytes().get(before)))
            && blank(lower.as_bytes().get(at + word.len()))
    })?;
    Some((&text[..at], &text[at + word.len()..]))
}

fn count(connection: &Connection, table: &Table) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM main.{}", quoted(&table.name));
    connection
        .query_row(&sql, [], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
        .map_err(|cause| failed(format!("cannot count the rows of `{}`", table.name), cause))
}

/// Rows that point at nothing, of the chosen tables and of those that point at them.
fn dangling(
    connection: &Connection,
    tables: &BTreeMap<String, Table>,
    chosen: &BTreeSet<String>,
) -> rusqlite::Result<BTreeMap<Arrow, u64>> {
    let mut found = BTreeMap::new();
    for name in tables.keys() {
        let parents: Vec<String> = {
            let mut statement = connection.prepare("SELECT DISTINCT \"table\" FROM pragma_foreign_key_list(?1)")?;
            let parents = statement.query_map([name], |row| row.get(0))?;
            parents.collect::<rusqlite::Result<_>>()?
        };
        let concerned = chosen.contains(name) || parents.iter().any(|parent| chosen.contains(parent));
        if parents.is_empty() || !concerned {
            continue;
        }
        let mut statement = connection.prepare(&format!("PRAGMA main.foreign_key_check({})", quoted(name)))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            *found.entry((row.get(0)?, row.get(2)?)).or_default() += 1;
        }
    }
    Ok(found)
}

/// A table that rows come into.
struct Target<'a> {
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
    fn new(connection: &'a Connection, table: &'a Table, records: &'a RecordTable, mode: LoadMode) -> Result<Self> {
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
            (true, None) => "?".to_owned(),
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

    /// Adds a record unless it is there.
    fn merge(&mut self, values: &[Bound<'_>], line: &[u8], conflict: Conflict, loaded: &mut LoadedTable) -> Result<()> {
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
enum Bound<'a> {
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

fn values<'a>(fields: &'a [Field<'_>], records: &RecordTable) -> Result<Vec<Bound<'a>>> {
    let value = |field: &'a Field<'_>| -> Option<Bound<'a>> {
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
    };
    let values: Option<Vec<Bound<'a>>> = fields.iter().map(value).collect();
    values.ok_or_else(|| Error::damaged(format!("a record of `{}` has a value that SQLite has not", records.table)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_index_has_its_text_is_read_from_its_options() {
        let elsewhere = Content::Elsewhere("patient".to_owned());
        for (sql, content) in [
            ("CREATE VIRTUAL TABLE a USING fts5(body)", Content::Own),
            ("CREATE VIRTUAL TABLE a USING fts5(body, content='patient', content_rowid='id')", elsewhere.clone()),
            ("create virtual table \"using x\" using FTS4 (content=\"patient\", name)", elsewhere.clone()),
            ("CREATE VIRTUAL TABLE a USING fts5(x, content = patient)", elsewhere),
            ("CREATE VIRTUAL TABLE a USING fts5(x, content='')", Content::Nowhere),
            ("CREATE VIRTUAL TABLE a USING fts5vocab('words', 'row')", Content::Nowhere),
            ("CREATE VIRTUAL TABLE a USING rtree(id, x, y)", Content::Own),
        ] {
            assert_eq!(Content::said_by(sql), content, "{sql}");
        }
    }
}
