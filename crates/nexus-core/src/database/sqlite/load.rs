//! Records into the tables of a live database, in one transaction, compared before it is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::database::digest::RowsDigest;
use crate::database::load::{
    Conflict, Ending, FewRows, LoadMode, LoadedTable, TableToLoad, TablesLook, changed_since, no_table,
    require_same_columns, unlike, written_since,
};
use crate::database::relations::{Ask, Seen};
use crate::database::sink::Sink;
use crate::database::source::{RecordFile, object};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::point::RecordTable;

use super::content::Content;
use super::open::{Reader, failed, let_checkpoint, open_to_write, patiently};
use super::relations::{change_row, row_at};
use super::rows::{digest_table, write_rows};
use super::tables::{Catalogue, ROWID_FIELD, Table, catalogue, quoted};
use super::target::{Target, values};
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
    /// True when records may lack columns that the table has by now.
    may_lack: bool,
    dangling: BTreeMap<Arrow, Dangling>,
    conflicts: u64,
    /// Indexes whose text lies in other tables, which may not be loaded yet; with what their rows must be.
    indexes: Vec<(Table, RecordTable, RowsDigest)>,
}

/// A table whose rows point at another's.
type Arrow = (String, String);
/// How many rows of a table point at nothing: by their ids, where they have some, and the number of the foreign key.
type Dangling = BTreeMap<(Option<i64>, i64), u64>;

/// How rows that point at nothing are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Not at all: they may be removed and added anew.
    Numbers,
    /// Each: one that comes does not make up for one that goes.
    Rows,
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
        let dangling = dangling(&connection, &tables, &chosen, Detail::Numbers).map_err(sql)?;
        let path = self.path().to_owned();
        Ok(SqliteLoad {
            connection,
            path,
            lock_wait,
            tables,
            chosen,
            mode,
            may_lack: false,
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
        for name in &self.chosen {
            let (table, held) = (self.tables.get(name), safe.iter().find(|records| records.table == *name));
            // One that the safety point does not hold at all came after it.
            let (Some(table), Some(held)) = (table, held) else { return Err(written_since(name)) };
            if digest_table(&self.connection, table)? != (held.rows, held.sha256.clone()) {
                return Err(written_since(name));
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
        if !self.may_lack {
            require_same_columns(records, &table.columns)?;
        }
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

    /// Puts a few rows into their tables; with [`Ending::Undo`] only to see whether they could be. Those that were `seen` must be
    /// as they were.
    ///
    /// # Errors
    ///
    /// As for [`SqliteLoad::table`] and [`SqliteLoad::finish`]; [`Error::Changed`] when a row is another one by now. Nothing is
    /// committed then.
    pub fn put_rows(mut self, few: &[FewRows], seen: &[Seen], ending: Ending) -> Result<Vec<LoadedTable>> {
        self.may_lack = true;
        self.dangling = self.dangling_now()?;
        self.require_seen(seen)?;
        let mut loaded = Vec::with_capacity(few.len());
        for rows in few {
            self.require_own(&rows.records)?;
            let replaced = self.replace(rows)?;
            let mut put = self.table(&rows.records, &rows.file, &Events::none())?;
            put.added += replaced;
            put.removed += replaced;
            loaded.push(put);
        }
        let in_the_way = || {
            let what = "a row that was not there is there by now, with other values: nothing was changed".to_owned();
            Error::Changed { what }
        };
        if self.conflicts > 0 {
            return Err(in_the_way());
        }
        if ending == Ending::Undo {
            self.rebuild()?;
            self.require_no_worse()?;
        } else if !self.finish()? {
            return Err(in_the_way());
        }
        Ok(loaded)
    }

    /// Refuses to go on when a row that shall stay is another one by now.
    fn require_seen(&self, seen: &[Seen]) -> Result<()> {
        for Seen { ask, line } in seen {
            let table = self.tables.get(&ask.table).ok_or_else(|| changed_since(&ask.table))?;
            if row_at(&self.connection, table, ask)?.as_ref() != Some(line) {
                return Err(changed_since(&ask.table));
            }
        }
        Ok(())
    }

    /// Refuses a table that does not hold its rows itself: one that is put into it is not there.
    fn require_own(&self, records: &RecordTable) -> Result<()> {
        let Some(table) = self.tables.get(&records.table) else { return Ok(()) };
        let (what, hint) = match Content::of(&self.connection, table)? {
            Content::Own => return Ok(()),
            Content::Elsewhere(of) => (
                format!("{} is an index of {of}, and has no rows of its own to put back", records.name),
                format!("name the row of {of}: the index is made anew with it"),
            ),
            Content::Nowhere => (
                format!("the rows of {} are computed, and cannot be put back", records.name),
                "--to-json writes the record".to_owned(),
            ),
        };
        Err(Error::usage_hint(what, hint))
    }

    /// Gives rows that are to be replaced the values of their records, and leaves columns alone that records do not know; answers
    /// how many there were. Removed and added anew they would lose those.
    fn replace(&self, few: &FewRows) -> Result<u64> {
        let Some(table) = self.tables.get(&few.records.table) else { return Ok(0) };
        let mut source = RecordFile::open(&few.file, &few.records, ROWID_FIELD)?;
        let mut replaced = 0;
        for present in &few.present {
            source.advance()?;
            let Some(was) = present else { continue };
            let values = source.values()?;
            let first = usize::from(few.records.rowid);
            let named = |at: usize| (few.records.columns[at].name.as_str(), values[at + first]);
            let by: Vec<(String, String)> =
                few.key.iter().map(|at| named(*at)).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let columns = few.records.columns.iter().map(|column| column.name.clone()).collect();
            let ask = Ask { table: table.name.clone(), columns, by, keyed: few.keyed };
            // Whoever changed it since it was looked at would lose that.
            if row_at(&self.connection, table, &ask)?.as_ref() != Some(was) {
                return Err(written_since(&table.name));
            }
            let then: BTreeMap<String, String> = object(was).unwrap_or_default().into_iter().collect();
            let is_other = |(name, value): &(&str, &str)| then.get(*name).is_none_or(|there| there != value);
            let stored = (0..few.records.columns.len()).filter(|at| !few.records.columns[*at].generated);
            let columns: Vec<(&str, &str)> = stored.map(named).filter(is_other).collect();
            if columns.is_empty() {
                // What differs the database computes.
                return Err(unlike(&few.records));
            }
            let changed = change_row(&self.connection, table, &columns, &ask.by)?;
            if changed != 1 {
                let what = format!("{changed} rows of `{}` have one key, so none was replaced", table.name);
                return Err(Error::damaged(what));
            }
            replaced += 1;
        }
        Ok(replaced)
    }

    /// Commits, unless conflicts were to be refused; answers whether it did.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when rows would point at nothing that did not before; as SQLite says. Nothing is committed.
    pub fn finish(self) -> Result<bool> {
        let sql = |cause| failed(format!("cannot load records into `{}`", self.path.display()), cause);
        if self.conflicts > 0 && self.mode == LoadMode::AddMissing(Conflict::Refuse) {
            self.connection.execute_batch("ROLLBACK").map_err(sql)?;
            return Ok(false);
        }
        self.rebuild()?;
        self.require_no_worse()?;
        let what = format!("cannot load records into `{}`", self.path.display());
        patiently(&self.path, self.lock_wait, || self.connection.execute_batch("COMMIT").map(Some))
            .map_err(|stop| stop.into_error(&what))?;
        // Only now is the log this connection's to empty; that it stays full a while is no failure of what is committed.
        let _ = let_checkpoint(&self.connection);
        Ok(true)
    }

    /// Refuses rows that would point at nothing and did not before.
    fn require_no_worse(&self) -> Result<()> {
        // Where both tables were replaced their rows are those of the point, whatever they point at.
        let given = |(child, parent): &Arrow| {
            self.mode == LoadMode::Replace && is_among(&self.chosen, child) && is_among(&self.chosen, parent)
        };
        let now = self.dangling_now()?;
        let worse = now.iter().filter(|(arrow, _)| !given(arrow)).find_map(|(arrow, rows)| {
            let before = self.dangling.get(arrow);
            let known = |row: &(Option<i64>, i64)| before.and_then(|before| before.get(row)).copied().unwrap_or(0);
            let more: u64 = rows.iter().filter(|(row, number)| **number > known(row)).map(|(_, number)| *number).sum();
            (more > 0).then_some((arrow, more))
        });
        if let Some(((child, parent), rows)) = worse {
            let both = format!("load both: --table {child} --table {parent}");
            let hint = if self.may_lack { "name those as well with --record".to_owned() } else { both };
            return Err(Error::usage_hint(
                format!("{rows} rows of `{child}` would point at rows of `{parent}` that are not there"),
                hint,
            ));
        }
        Ok(())
    }

    /// Rows that point at nothing: of single rows each counts, of whole tables their number.
    fn dangling_now(&self) -> Result<BTreeMap<Arrow, Dangling>> {
        let detail = if self.may_lack { Detail::Rows } else { Detail::Numbers };
        dangling(&self.connection, &self.tables, &self.chosen, detail)
            .map_err(|cause| failed(format!("cannot load records into `{}`", self.path.display()), cause))
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
    detail: Detail,
) -> rusqlite::Result<BTreeMap<Arrow, Dangling>> {
    let mut found: BTreeMap<Arrow, Dangling> = BTreeMap::new();
    for name in tables.keys() {
        let parents: Vec<String> = {
            let mut statement = connection.prepare("SELECT DISTINCT \"table\" FROM pragma_foreign_key_list(?1)")?;
            let parents = statement.query_map([name], |row| row.get(0))?;
            parents.collect::<rusqlite::Result<_>>()?
        };
        let concerned = chosen.contains(name) || parents.iter().any(|parent| is_among(chosen, parent));
        if parents.is_empty() || !concerned {
            continue;
        }
        let mut statement = connection.prepare(&format!("PRAGMA main.foreign_key_check({})", quoted(name)))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let which = if detail == Detail::Rows { (row.get(1)?, row.get(3)?) } else { (None, 0) };
            *found.entry((row.get(0)?, row.get(2)?)).or_default().entry(which).or_default() += 1;
        }
    }
    Ok(found)
}

/// Foreign keys name tables whatever the case of letters.
fn is_among(names: &BTreeSet<String>, wanted: &str) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(wanted))
}
