//! Records into the tables of a live database, in one transaction, compared before it is committed.
//!
//! Triggers and rules sleep meanwhile, and foreign keys are taken away and put back, which checks every row: rows may then
//! come in any order and in cycles, and no deletion spreads to tables that were not asked for. All of it needs no
//! superuser, only the tables' owner, and all of it is undone with the transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::error::SqlState;

use super::catalogue::{self, Column, Layout, Relation, identifier, literal};
use super::connect::Session;
use super::copy_text;
use super::place::PostgresDatabase;
use super::requirements::table_holders;
use super::rows;
use super::sleepers::{self, Sleepers};
use crate::database::load::{
    Conflict, LoadMode, LoadedTable, TableToLoad, TablesLook, no_table, require_same_columns, unlike, written_since,
};
use crate::database::sink::Sink;
use crate::database::source::RecordFile;
use crate::error::{DatabaseWords, Error, Result};
use crate::event::{Events, Stage};
use crate::point::RecordTable;

/// How much is gathered before it is sent.
const BUFFER: usize = 256 * 1024;
/// How often the number of rows is told.
const ROWS_BETWEEN_NEWS: u64 = 4096;
/// How long to wait before tables in use are tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Tables that are being loaded: nothing of it counts before [`PostgresLoad::finish`].
#[derive(Debug)]
pub struct PostgresLoad {
    pub(super) session: Session,
    mode: LoadMode,
    tables: BTreeMap<String, Table>,
    database: PostgresDatabase,
    sleepers: Sleepers,
    sequences: Vec<String>,
    conflicts: u64,
}

/// A table that is being loaded.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) relation: Relation,
    /// The columns in the order of the records' fields.
    columns: Vec<Column>,
    /// The primary key's columns in the order of the index.
    pub(super) key: Vec<Column>,
    /// Rows before.
    pub(super) present: u64,
}

impl PostgresDatabase {
    /// Looks at the tables that records shall be loaded into, reading only.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a table that is not there, and for one of another schema; [`Error::Denied`] for one that is
    /// another role's, and for missing rights; [`Error::Unsupported`] for what cannot sleep.
    pub async fn look_at_tables(&self, records: Vec<RecordTable>, mode: LoadMode) -> Result<TablesLook> {
        let session = Session::open(self).await?;
        let tables = find(&session, &records).await?;
        sleepers::require_rights(&session, &oids(&tables)).await?;
        Sleepers::find(&session, &oids(&tables)).await?;
        if mode != LoadMode::Replace {
            require_temporary(&session).await?;
        }
        let mut look = TablesLook::default();
        session.follow_path(None).await?;
        for records in records {
            let present = count(&session, &tables[&records.table]).await?;
            look.tables.push(TableToLoad { records, present });
        }
        Ok(look)
    }

    /// Begins a transaction in which tables are loaded: they are locked, and those that point at them.
    ///
    /// No lock is waited for while others are held: nobody queues behind a load that waits, and no deadlock ends an app's
    /// transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when one of them is in use for longer than `lock_wait`; else as for
    /// [`PostgresDatabase::look_at_tables`].
    pub async fn load(&self, records: &[RecordTable], mode: LoadMode, lock_wait: Duration) -> Result<PostgresLoad> {
        let session = Session::open(self).await?;
        let encoding = "select pg_encoding_to_char(encoding) from pg_database where datname = current_database()";
        let encoding = session.value(encoding, "ask for its encoding").await?;
        rows::prepare(&session, &encoding).await?;
        session.follow_no_path().await?;
        lock(&session, records, lock_wait).await?;
        // Only now nobody changes them any more.
        let mut tables = find(&session, records).await?;
        session.follow_path(None).await?;
        for table in tables.values_mut() {
            table.present = count(&session, table).await?;
        }
        session.follow_no_path().await?;
        let sleepers = Sleepers::find(&session, &oids(&tables)).await?;
        Ok(PostgresLoad {
            session,
            mode,
            tables,
            database: self.clone(),
            sleepers,
            sequences: Vec::new(),
            conflicts: 0,
        })
    }
}

impl PostgresLoad {
    /// Refuses to go on when a table is not what the safety point holds of it.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] naming the table.
    pub async fn require_unchanged(&self, safe: &[RecordTable]) -> Result<()> {
        let layouts = catalogue::layouts(&self.session).await?;
        self.session.follow_path(None).await?;
        for (name, table) in &self.tables {
            // One that the safety point does not hold at all came after it.
            let Some(held) = safe.iter().find(|records| records.table == *name) else {
                return Err(written_since(name));
            };
            let layout = layouts.get(&table.relation.oid).cloned().unwrap_or_default();
            let mut sink = Sink::hash_only();
            rows::write_rows(&self.session, &table.relation, &layout, &mut sink, &|_| {}).await?;
            if sink.finish()?.1 != held.sha256 {
                return Err(written_since(name));
            }
        }
        self.session.follow_no_path().await
    }

    /// Puts to sleep what would act on rows, and empties the tables whose rows shall be replaced.
    ///
    /// # Errors
    ///
    /// As the server says.
    pub async fn begin(&self) -> Result<()> {
        self.sleepers.put_to_sleep(&self.session).await?;
        if self.mode == LoadMode::Replace && !self.tables.is_empty() {
            let names: Vec<String> = self.tables.values().map(Table::name).collect();
            self.session.run(&format!("truncate {}", names.join(", ")), "empty the tables").await?;
        }
        Ok(())
    }

    /// Loads one table from its record file, and compares what is there then with the file.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when the file is not what was exported, or the table does not read back as the file;
    /// [`Error::Exists`] when another row stands in the way of a record; as the server says. Nothing is committed.
    pub async fn table(&mut self, records: &RecordTable, file: &Path, events: &Events) -> Result<LoadedTable> {
        let Some(table) = self.tables.get(&records.table).cloned() else {
            return Err(no_table(records, self.session.place()));
        };
        let mut source = RecordFile::open(file, records, "")?;
        let mut loaded = LoadedTable { table: records.table.clone(), records: records.rows, ..LoadedTable::default() };
        self.session.follow_path(None).await?;
        match self.mode {
            LoadMode::Replace => {
                self.copy(&table, &table.relation.quoted, &mut source, events).await?;
                loaded.removed = table.present;
                loaded.added = source.digest().rows;
            }
            LoadMode::AddMissing(conflict) => {
                self.stage(&table, &mut source, events).await?;
                self.merge(&table, conflict, &mut loaded).await?;
            }
        }
        let read = source.digest();
        if read.rows != records.rows {
            let (rows, wanted) = (read.rows, records.rows);
            return Err(Error::damaged(format!("`{}` has {rows} records, not {wanted}", file.display())));
        }
        if self.mode == LoadMode::Replace {
            let layout = Layout { columns: table.columns.clone(), ..Layout::default() };
            let mut sink = Sink::rows();
            rows::write_rows(&self.session, &table.relation, &layout, &mut sink, &|_| {}).await?;
            if sink.finish_rows()? != read {
                return Err(unlike(records));
            }
        }
        self.session.follow_no_path().await?;
        self.conflicts += loaded.conflicts;
        for (column, value) in &records.sequences {
            self.sequences.push(raise((&table.relation.quoted, &table.name()), column, *value));
        }
        Ok(loaded)
    }

    /// Wakes what slept, which checks every foreign key, raises sequences, and commits, unless conflicts were to be
    /// refused. Answers whether it committed, and what does not follow the tables by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when rows would point at rows that are not there; as the server says. Nothing is committed, unless
    /// the connection broke while it was: then the text says so.
    pub async fn finish(self) -> Result<(bool, Vec<String>)> {
        let session = &self.session;
        if self.conflicts > 0 && self.mode == LoadMode::AddMissing(Conflict::Refuse) {
            session.run("rollback", "undo").await?;
            return Ok((false, Vec::new()));
        }
        // What the app may put off to its commit is said while it can still be said what it was.
        if let Err(cause) = session.client().batch_execute("set constraints all immediate").await {
            return Err(self.refused("load records", &cause));
        }
        self.sleepers.wake(session).await?;
        for sql in &self.sequences {
            session.run(sql, "set the sequences").await?;
        }
        let views = views_of(&oids(&self.tables));
        let views = session.rows(&views, "list the materialized views").await?;
        if !self.tables.is_empty() {
            let names: Vec<&str> = self.tables.values().map(|table| table.relation.quoted.as_str()).collect();
            session.follow_path(None).await?;
            session.run(&format!("analyze {}", names.join(", ")), "gather statistics").await?;
        }
        let transaction = session.value("select pg_current_xact_id()", "ask for its transaction").await?;
        if let Err(error) = session.run("commit", "commit").await {
            require_committed(&self.database, session.place(), &transaction, error).await?;
        }
        let left = views.iter().map(|row| format!("REFRESH MATERIALIZED VIEW {};", row.text(0)));
        Ok((true, left.collect()))
    }

    /// Streams a record file into a table that has these columns.
    pub(super) async fn copy(&self, table: &Table, into: &str, source: &mut RecordFile, events: &Events) -> Result<()> {
        let stored: Vec<usize> = (0..table.columns.len()).filter(|at| !table.columns[*at].generated).collect();
        if stored.is_empty() {
            return self.repeat(into, source).await;
        }
        let what = format!("load records into {}", table.relation.name);
        let columns: Vec<&str> = stored.iter().map(|at| table.columns[*at].quoted.as_str()).collect();
        let sql = format!("copy {into} ({}) from stdin", columns.join(", "));
        let failed = |cause: tokio_postgres::Error| self.refused(&what, &cause);
        let sink = self.session.client().copy_in::<_, Bytes>(&sql).await.map_err(failed)?;
        let mut sink = pin!(sink);
        let mut buffer = BytesMut::with_capacity(2 * BUFFER);
        let mut told = 0;
        while source.advance()? {
            let fields = source.fields()?;
            for (nth, at) in stored.iter().enumerate() {
                if nth > 0 {
                    buffer.extend_from_slice(b"\t");
                }
                copy_text::write(&mut buffer, &fields[*at]).ok_or_else(|| unknown(table))?;
            }
            buffer.extend_from_slice(b"\n");
            if buffer.len() >= BUFFER {
                sink.send(buffer.split().freeze()).await.map_err(failed)?;
            }
            told += 1;
            if told % ROWS_BETWEEN_NEWS == 0 {
                events.advanced(Stage::LoadRecords, ROWS_BETWEEN_NEWS, 0);
            }
        }
        events.advanced(Stage::LoadRecords, told % ROWS_BETWEEN_NEWS, 0);
        sink.send(buffer.freeze()).await.map_err(failed)?;
        sink.finish().await.map_err(failed)?;
        Ok(())
    }

    /// Adds as many rows as there are records of a table in which nothing is stored.
    async fn repeat(&self, into: &str, source: &mut RecordFile) -> Result<()> {
        while source.advance()? {
            source.fields()?;
        }
        let rows = source.digest().rows;
        let sql = format!("insert into {into} select from generate_series(1, {rows})");
        self.session.run(&sql, "load records").await
    }

    pub(super) fn refused(&self, what: &str, cause: &tokio_postgres::Error) -> Error {
        let constraint = cause.as_db_error().and_then(|error| error.constraint()).unwrap_or("a constraint");
        if cause.code() == Some(&SqlState::UNIQUE_VIOLATION) || cause.code() == Some(&SqlState::EXCLUSION_VIOLATION) {
            let what = format!("cannot {what}: another row stands in the way of a record ({constraint})");
            return Error::Exists { what };
        }
        self.session.failed(what, cause)
    }
}

impl Table {
    /// As SQL names it to be locked, emptied or read: a partitioned table with its partitions, any other without its heirs.
    pub(super) fn name(&self) -> String {
        if self.relation.partitioned { self.relation.quoted.clone() } else { format!("only {}", self.relation.quoted) }
    }

    pub(super) fn stored(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.generated)
    }

    /// True for rows of one key, by the equality of its index: `1.0` and `1.00` are one number.
    pub(super) fn same_key(&self) -> String {
        let one = |column: &Column| {
            let (name, equals) = (&column.quoted, column.equals.as_deref().unwrap_or("operator(pg_catalog.=)"));
            format!("s.{name} {equals} t.{name}")
        };
        self.key.iter().map(one).collect::<Vec<_>>().join(" and ")
    }
}

/// The answer to a commit may be lost although it was done: the server is asked.
pub(super) async fn require_committed(
    database: &PostgresDatabase,
    place: &str,
    transaction: &str,
    error: Error,
) -> Result<()> {
    if !matches!(error, Error::Unreachable { .. }) {
        return Err(error);
    }
    let sql = format!("select pg_xact_status('{transaction}'::xid8)");
    let asked = match Session::open(database).await {
        Ok(session) => session.value(&sql, "ask what became of it").await,
        Err(error) => Err(error),
    };
    match asked.as_deref() {
        Ok("committed") => Ok(()),
        Ok("aborted") => Err(error),
        _ => Err(Error::Unreachable {
            what: format!(
                "the connection to {place} broke in the commit, and whether the records are there could not be asked"
            ),
            cause: Some(DatabaseWords(format!("{}; look at the tables first", crate::error::chain(&error))).into()),
        }),
    }
}

/// Locks the tables and those that point at them, all at once or none.
async fn lock(session: &Session, records: &[RecordTable], wait: Duration) -> Result<()> {
    let until = Instant::now() + wait;
    let begin = format!("begin; set local lock_timeout={}", wait.as_millis().max(1));
    loop {
        session.run(&begin, "begin a transaction").await?;
        let tables = find(session, records).await?;
        let names = sleepers::all_names(session, &oids(&tables)).await?;
        if names.is_empty() {
            return Ok(());
        }
        let sql = format!("lock table {} in access exclusive mode nowait", names.join(", "));
        let Err(cause) = session.client().batch_execute(&sql).await else { return Ok(()) };
        let is_held = cause.code() == Some(&SqlState::LOCK_NOT_AVAILABLE);
        if !is_held {
            return Err(session.failed("lock the tables", &cause));
        }
        if Instant::now() > until {
            let waited = wait.as_secs_f64();
            let place = session.place();
            let words = cause.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
            // Whoever it was may be gone by now, or not be seen.
            let by = holders(session, &tables).await.unwrap_or_default();
            let by = if by.is_empty() { String::new() } else { format!("; held by {}", by.join(", ")) };
            return Err(Error::Busy {
                what: format!("tables in {place} were in use for longer than the lock wait of {waited} s: {words}{by}"),
            });
        }
        session.run("rollback", "begin again").await?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Who holds a lock on one of the tables, once ours are given up.
async fn holders(session: &Session, tables: &BTreeMap<String, Table>) -> Result<Vec<String>> {
    session.run("rollback", "give up the locks").await?;
    let oids: Vec<String> = oids(tables).iter().map(u32::to_string).collect();
    table_holders(session, &oids.join(", ")).await
}

async fn require_temporary(session: &Session) -> Result<()> {
    let sql = "select has_database_privilege(current_database(), 'TEMPORARY')";
    if session.value(sql, "look at its rights").await? == "t" {
        return Ok(());
    }
    Err(Error::Denied {
        what: format!("this role may not make temporary tables in {}, where records are compared", session.place()),
        cause: Some(DatabaseWords("GRANT TEMPORARY ON DATABASE …, or load with --mode replace".into()).into()),
    })
}

/// The materialized views that show rows of these tables, directly or through other views.
fn views_of(tables: &BTreeSet<u32>) -> String {
    let oids: Vec<String> = tables.iter().map(u32::to_string).collect();
    format!(
        "with recursive shown(oid) as (
             select unnest('{{{}}}'::oid[])
             union
             select r.ev_class from shown s
               join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = s.oid
                               and d.classid = 'pg_rewrite'::regclass
               join pg_rewrite r on r.oid = d.objid)
         select c.oid::regclass::text from pg_class c join shown s on s.oid = c.oid
          where c.relkind = 'm' and c.relispopulated order by 1",
        oids.join(",")
    )
}

/// The tables that records are of, by name, with their columns in the records' order.
async fn find(session: &Session, records: &[RecordTable]) -> Result<BTreeMap<String, Table>> {
    let relations = catalogue::relations(session).await?;
    let layouts = catalogue::layouts(session).await?;
    let mut found = BTreeMap::new();
    for records in records {
        let relation = relations.iter().find(|relation| relation.name == records.table);
        let Some(relation) = relation.filter(|relation| relation.left_out().is_none()) else {
            return Err(no_table(records, session.place()));
        };
        if relation.has_foreign_partitions() {
            return Err(Error::Unsupported {
                what: format!(
                    "partitions of {} lie on another server, and would be emptied there: restore the database",
                    records.table
                ),
            });
        }
        let layout = layouts.get(&relation.oid).cloned().unwrap_or_default();
        let there: Vec<_> = layout.columns.iter().map(Column::recorded).collect();
        require_same_columns(records, &there)?;
        let key = layout.key.iter().map(|at| layout.columns[*at].clone()).collect();
        let place = |name: &str| records.columns.iter().position(|column| column.name == name);
        let mut columns = layout.columns;
        columns.sort_by_key(|column| place(&column.name));
        let table = Table { relation: relation.clone(), columns, key, present: 0 };
        found.insert(records.table.clone(), table);
    }
    Ok(found)
}

fn oids(tables: &BTreeMap<String, Table>) -> BTreeSet<u32> {
    tables.values().map(|table| table.relation.oid).collect()
}

async fn count(session: &Session, table: &Table) -> Result<u64> {
    let sql = format!("select count(*) from {}", table.name());
    catalogue::count(session, &sql, &format!("count the rows of {}", table.relation.name)).await
}

fn unknown(table: &Table) -> Error {
    Error::damaged(format!("a record of {} has a value that PostgreSQL has not", table.relation.name))
}

/// SQL that lets a column's sequence go on after the last number that was ever given out, here or there; it never goes back.
pub(super) fn raise((quoted, source): (&str, &str), column: &str, value: i64) -> String {
    let sequence = format!("pg_get_serial_sequence({}, {})", literal(quoted), literal(column));
    let column = identifier(column);
    format!(
        "select setval(w.seqrelid, w.wanted)
           from (select s.seqrelid, s.seqincrement > 0 as rises, pg_sequence_last_value(s.seqrelid) as there,
                        case when s.seqincrement > 0
                             then least(greatest({value}, (select max({column}) from {source})), s.seqmax)
                             else greatest(least({value}, (select min({column}) from {source})), s.seqmin) end as wanted
                   from pg_sequence s where s.seqrelid = {sequence}::regclass) w
          where w.there is null or case when w.rises then w.wanted > w.there else w.wanted < w.there end"
    )
}
