//! Records into the tables of a live database, in one transaction, compared before it is committed.
//!
//! Triggers and rules sleep meanwhile, and foreign keys are taken away and put back, which checks every row: rows may then
//! come in any order and in cycles, and no deletion spreads to tables that were not asked for. All of it needs no
//! superuser, only the tables' owner, and all of it is undone with the transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::error::SqlState;

use super::catalogue::{self, Column, Layout, Relation, identifier, literal};
use super::connect::Session;
use super::place::PostgresDatabase;
use super::rows;
use super::sleepers::Sleepers;
use crate::database::load::{Conflict, EXAMPLES, LoadMode, LoadedTable, TableToLoad, no_table, require_same_columns};
use crate::database::sink::Sink;
use crate::database::source::{Field, RecordFile};
use crate::error::{DatabaseWords, Error, Result};
use crate::event::{Events, Stage};
use crate::point::RecordTable;

/// How much is gathered before it is sent.
const BUFFER: usize = 256 * 1024;
/// How often the number of rows is told.
const ROWS_BETWEEN_NEWS: u64 = 4096;
/// Where the records of a table wait while they are compared with its rows.
const STAGE: &str = "pg_temp.nexus_records";

/// Tables that are being loaded: nothing of it counts before [`PostgresLoad::finish`].
#[derive(Debug)]
pub struct PostgresLoad {
    session: Session,
    mode: LoadMode,
    tables: BTreeMap<String, Table>,
    sleepers: Sleepers,
    sequences: Vec<String>,
    conflicts: u64,
}

#[derive(Debug, Clone)]
struct Table {
    relation: Relation,
    /// The columns in the order of the records' fields.
    columns: Vec<Column>,
    /// The names of the primary key's columns, quoted.
    key: Vec<String>,
    /// Rows before.
    present: u64,
}

impl PostgresDatabase {
    /// Looks at the tables that records shall be loaded into, reading only.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a table that is not there, and for one of another schema;
    /// [`Error::Denied`] for one that is another role's.
    pub async fn look_at_tables(&self, records: Vec<RecordTable>) -> Result<Vec<TableToLoad>> {
        let session = Session::open(self).await?;
        let tables = find(&session, &records).await?;
        Sleepers::require_ownership(&session, &oids(&tables)).await?;
        let mut found = Vec::with_capacity(records.len());
        for records in records {
            let present = count(&session, &tables[&records.table]).await?;
            found.push(TableToLoad { records, present });
        }
        Ok(found)
    }

    /// Begins a transaction in which tables are loaded: they are locked, and emptied where their rows shall be replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when somebody holds one of them for longer than `lock_wait`; else as for
    /// [`PostgresDatabase::look_at_tables`].
    pub async fn load(&self, records: &[RecordTable], mode: LoadMode, lock_wait: Duration) -> Result<PostgresLoad> {
        let session = Session::open(self).await?;
        let encoding = "select pg_encoding_to_char(encoding) from pg_database where datname = current_database()";
        let encoding = session.value(encoding, "ask for its encoding").await?;
        rows::prepare(&session, &encoding).await?;
        let wait = lock_wait.as_millis().max(1);
        session.run(&format!("begin; set local lock_timeout={wait}"), "begin a transaction").await?;
        let mut tables = find(&session, records).await?;
        let names = |tables: &BTreeMap<String, Table>| {
            tables.values().map(|table| table.relation.source()).collect::<Vec<_>>().join(", ")
        };
        if !tables.is_empty() {
            session.run(&format!("lock table {} in access exclusive mode", names(&tables)), "lock the tables").await?;
            // Only now nobody changes them any more.
            tables = find(&session, records).await?;
        }
        for table in tables.values_mut() {
            table.present = count(&session, table).await?;
        }
        let sleepers = Sleepers::find(&session, &oids(&tables)).await?;
        sleepers.put_to_sleep(&session).await?;
        if mode == LoadMode::Replace && !tables.is_empty() {
            session.run(&format!("truncate {}", names(&tables)), "empty the tables").await?;
        }
        Ok(PostgresLoad { session, mode, tables, sleepers, sequences: Vec::new(), conflicts: 0 })
    }
}

impl PostgresLoad {
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
        self.conflicts += loaded.conflicts;
        for (column, value) in &records.sequences {
            self.sequences.push(raise(&table, column, *value));
        }
        Ok(loaded)
    }

    /// Wakes what slept, which checks every foreign key, raises sequences, and commits, unless conflicts were to be
    /// refused. Answers whether it committed, and what does not follow the tables by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] when rows would point at rows that are not there; as the server says. Nothing is committed,
    /// unless the connection broke while it was.
    pub async fn finish(self) -> Result<(bool, Vec<String>)> {
        let session = &self.session;
        if self.conflicts > 0 && self.mode == LoadMode::AddMissing(Conflict::Refuse) {
            session.run("rollback", "undo").await?;
            return Ok((false, Vec::new()));
        }
        self.sleepers.wake(session).await?;
        for sql in &self.sequences {
            session.run(sql, "set the sequences").await?;
        }
        if !self.tables.is_empty() {
            let names: Vec<&str> = self.tables.values().map(|table| table.relation.quoted.as_str()).collect();
            session.run(&format!("analyze {}", names.join(", ")), "gather statistics").await?;
        }
        let views = "select format('%I.%I', schemaname, matviewname) from pg_matviews where ispopulated order by 1";
        let views = session.rows(views, "list the materialized views").await?;
        session.run("commit", "commit").await?;
        let left = views.iter().map(|row| format!("REFRESH MATERIALIZED VIEW {};", row.text(0)));
        Ok((true, left.collect()))
    }

    /// Streams a record file into a table that has these columns.
    async fn copy(&self, table: &Table, into: &str, source: &mut RecordFile, events: &Events) -> Result<()> {
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
                write(&mut buffer, &fields[*at]).ok_or_else(|| unknown(table))?;
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

    /// Puts the records beside the table, in a table of the same types.
    async fn stage(&self, table: &Table, source: &mut RecordFile, events: &Events) -> Result<()> {
        let columns: Vec<&str> = table.stored().map(|column| column.quoted.as_str()).collect();
        let sql = format!(
            "drop table if exists {STAGE}; create temporary table nexus_records on commit drop as
             select {} from {} with no data",
            columns.join(", "),
            table.relation.source()
        );
        self.session.run(&sql, "make a temporary table").await?;
        self.copy(table, STAGE, source, events).await
    }

    /// Adds the records whose key is not in the table, and sees to those whose key is there with other values.
    async fn merge(&self, table: &Table, conflict: Conflict, loaded: &mut LoadedTable) -> Result<()> {
        let (quoted, source) = (&table.relation.quoted, table.relation.source());
        let columns: Vec<&str> = table.stored().map(|column| column.quoted.as_str()).collect();
        let list = columns.join(", ");
        let equal = same(&columns);
        if columns.is_empty() {
            // All rows are alike: only their number counts.
            let missing = loaded.records.saturating_sub(table.present);
            let sql = format!("insert into {quoted} select from generate_series(1, {missing})");
            loaded.added = self.change(&sql, table).await?;
            return Ok(());
        }
        if table.key.is_empty() {
            // Without a key a row is its own: as many are added as there are fewer.
            let texts: Vec<String> = columns.iter().map(|column| format!("s.{column}::text")).collect();
            let sql = format!(
                "insert into {quoted} ({list}) overriding system value
                 select {list} from (select s.*, row_number() over (partition by {}) as \"nexus: number\" from {STAGE} s) s
                  where s.\"nexus: number\" > (select count(*) from {source} t where {equal})",
                texts.join(", ")
            );
            loaded.added = self.change(&sql, table).await?;
            return Ok(());
        }
        let key = same(&table.key.iter().map(String::as_str).collect::<Vec<_>>());
        let other = format!("from {STAGE} s join {source} t on {key} where not ({equal})");
        let shown: Vec<String> =
            table.key.iter().map(|column| format!("{} || s.{column}::text", literal(&format!("{column}=")))).collect();
        let shown = shown.join(" || ', ' || ");
        let found = self.session.value(&format!("select count(*) {other}"), "compare the records").await?;
        loaded.conflicts = found.parse().unwrap_or(0);
        if loaded.conflicts > 0 {
            let sql = format!("select {shown} as key {other} order by 1 limit {EXAMPLES}");
            let rows = self.session.rows(&sql, "compare the records").await?;
            loaded.examples = rows.iter().map(|row| row.text(0).to_owned()).collect();
            if conflict == Conflict::Overwrite {
                let sql = format!("delete from {source} t using {STAGE} s where {key} and not ({equal})");
                loaded.removed = self.change(&sql, table).await?;
            }
        }
        let sql = format!(
            "insert into {quoted} ({list}) overriding system value
             select {list} from {STAGE} s where not exists (select from {source} t where {key})"
        );
        loaded.added = self.change(&sql, table).await?;
        let sql = format!("select count(*) from {STAGE} s where not exists (select from {source} t where {equal})");
        let unlike = self.session.value(&sql, "compare the records").await?;
        let kept = if conflict == Conflict::Overwrite { 0 } else { loaded.conflicts };
        if unlike == kept.to_string() {
            return Ok(());
        }
        Err(Error::damaged(format!(
            "{unlike} records of {} are not in the table after they were added",
            table.relation.name
        )))
    }

    async fn change(&self, sql: &str, table: &Table) -> Result<u64> {
        let what = format!("load records into {}", table.relation.name);
        self.session.client().execute(sql, &[]).await.map_err(|cause| self.refused(&what, &cause))
    }

    fn refused(&self, what: &str, cause: &tokio_postgres::Error) -> Error {
        let constraint = cause.as_db_error().and_then(|error| error.constraint()).unwrap_or("a constraint");
        if cause.code() == Some(&SqlState::UNIQUE_VIOLATION) || cause.code() == Some(&SqlState::EXCLUSION_VIOLATION) {
            let what = format!("cannot {what}: another row stands in the way of a record ({constraint})");
            return Error::Exists { what };
        }
        self.session.failed(what, cause)
    }
}

impl Table {
    fn stored(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.generated)
    }
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
        let layout = layouts.get(&relation.oid).cloned().unwrap_or_default();
        let there: Vec<_> = layout.columns.iter().map(Column::recorded).collect();
        require_same_columns(records, &there)?;
        let key = layout.key.iter().map(|at| layout.columns[*at].quoted.clone()).collect();
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
    let sql = format!("select count(*) from {}", table.relation.source());
    let what = format!("count the rows of {}", table.relation.name);
    let count = session.value(&sql, &what).await?;
    count
        .parse()
        .map_err(|_| Error::Service { what: format!("cannot {what}"), cause: Some(DatabaseWords(count).into()) })
}

fn unlike(records: &RecordTable) -> Error {
    Error::damaged(format!("the table {} does not read as its records once they are in it", records.table))
}

fn unknown(table: &Table) -> Error {
    Error::damaged(format!("a record of {} has a value that PostgreSQL has not", table.relation.name))
}

/// True for rows that have the same text in these columns: some types know no equality, and for others it hides a change.
fn same(columns: &[&str]) -> String {
    let one = |column: &&str| format!("s.{column}::text is not distinct from t.{column}::text");
    if columns.is_empty() { "true".to_owned() } else { columns.iter().map(one).collect::<Vec<_>>().join(" and ") }
}

/// SQL that lets a column's sequence go on after the last number that was ever given out, here or there.
fn raise(table: &Table, column: &str, value: i64) -> String {
    let sequence = format!("pg_get_serial_sequence({}, {})", literal(&table.relation.quoted), literal(column));
    let column = identifier(column);
    let source = table.relation.source();
    format!(
        "select setval(s.seqrelid, case when s.seqincrement > 0
                then greatest({value}, pg_sequence_last_value(s.seqrelid), least((select max({column}) from {source}), s.seqmax))
                else least({value}, pg_sequence_last_value(s.seqrelid), greatest((select min({column}) from {source}), s.seqmin))
                end)
           from pg_sequence s where s.seqrelid = {sequence}::regclass"
    )
}

/// Writes a value as the server's text format has it
/// (<https://www.postgresql.org/docs/current/sql-copy.html>, "Text Format").
fn write(to: &mut BytesMut, field: &Field<'_>) -> Option<()> {
    match field {
        Field::Null => to.extend_from_slice(b"\\N"),
        Field::Boolean(value) => to.extend_from_slice(if *value { b"t" } else { b"f" }),
        Field::Number(text) => to.extend_from_slice(text.as_bytes()),
        Field::Text(text) => escaped(to, text.as_bytes()),
        Field::Bytes(bytes) => escaped(to, bytes),
        Field::Integer(_) | Field::Real(_) | Field::Blob(_) => return None,
    }
    Some(())
}

fn escaped(to: &mut BytesMut, mut bytes: &[u8]) {
    let special = |byte: &u8| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t');
    while let Some(at) = bytes.iter().position(special) {
        to.extend_from_slice(&bytes[..at]);
        let letter = match bytes[at] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => other,
        };
        to.extend_from_slice(&[b'\\', letter]);
        bytes = &bytes[at + 1..];
    }
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_for_the_server_is_read_back_by_the_export() {
        let text = "a\tb\nc\rd\\e\\N\u{1}\u{7f}\"";
        let mut written = BytesMut::new();
        write(&mut written, &Field::Text(text.into())).expect("text");
        assert!(!written.contains(&b'\n') && !written.contains(&b'\t'));
        let mut read = Vec::new();
        rows::unescape(&written, &mut read);
        assert_eq!(read, text.as_bytes());
    }
}
