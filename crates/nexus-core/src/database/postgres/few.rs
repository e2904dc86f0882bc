//! A few rows into tables, in one transaction: the database's own constraints judge them, triggers and rules sleep meanwhile.
//!
//! Unlike a load of whole tables it takes no lock that keeps others from reading, unless something has to be put to sleep.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::error::SqlState;

use super::catalogue::{Relation, identifier, literal};
use super::connect::Session;
use super::copy_text;
use super::load::{raise, require_committed};
use super::place::PostgresDatabase;
use super::relations::{Known, known, prepare, row_at, strange, text_of};
use super::sleepers::Sleepers;
use crate::database::load::{Ending, FewRows, LoadedTable, changed_since, unlike, written_since};
use crate::database::relations::{Ask, Seen};
use crate::database::source::{RecordFile, object};
use crate::error::{Error, Result};

impl PostgresDatabase {
    /// Puts the rows into their tables, parents first as they are given; each must read back as it was. Those that were seen must
    /// be as they were.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] when another row stands in the way; [`Error::Changed`] when a row that is to be replaced is another one by now;
    /// [`Error::Usage`] when a row would point at one that is not there; as the server says. Nothing is committed then.
    pub async fn put_rows(
        &self,
        (few, seen): (&[FewRows], &[Seen]),
        lock_wait: Duration,
        ending: Ending,
    ) -> Result<Vec<LoadedTable>> {
        let session = Session::open(self).await?;
        prepare(&session).await?;
        let begin =
            format!("begin; set local lock_timeout={}; set constraints all deferred", lock_wait.as_millis().max(1));
        session.run(&begin, "begin a transaction").await?;
        let known = known(&session).await?;
        let oids: BTreeSet<u32> = few.iter().filter_map(|rows| Some(known.get(&rows.records.table)?.0.oid)).collect();
        session.follow_no_path().await?;
        let sleepers = Sleepers::acting(&session, &oids).await?;
        sleepers.put_to_sleep(&session).await?;
        session.follow_path(None).await?;
        require_seen(&session, &known, seen).await?;
        let mut loaded = Vec::with_capacity(few.len());
        for rows in few {
            loaded.push(put(&session, &known, rows).await?);
        }
        session
            .client()
            .batch_execute("set constraints all immediate")
            .await
            .map_err(|cause| refused(&session, &cause))?;
        session.follow_no_path().await?;
        sleepers.wake(&session).await?;
        if ending == Ending::Undo {
            session.run("rollback", "undo").await?;
            return Ok(loaded);
        }
        // Last, and never in a trial: what a sequence has given out no rollback takes back.
        for rows in few {
            let Some((relation, _)) = known.get(&rows.records.table) else { continue };
            for (column, value) in &rows.records.sequences {
                let from = alone(relation);
                session.run(&raise((&relation.quoted, &from), column, *value), "set the sequences").await?;
            }
        }
        let transaction = session.value("select pg_current_xact_id()", "ask for its transaction").await?;
        if let Err(error) = session.run("commit", "commit").await {
            require_committed(self, session.place(), &transaction, error).await?;
        }
        Ok(loaded)
    }
}

/// As SQL names it to be read or changed: a partitioned table with its partitions, any other without its heirs.
fn alone(relation: &Relation) -> String {
    if relation.partitioned { relation.quoted.clone() } else { format!("only {}", relation.quoted) }
}

/// Refuses to go on when a row that shall stay is another one by now; where this role may, it is held until the end.
async fn require_seen(session: &Session, known: &Known, seen: &[Seen]) -> Result<()> {
    let mut locks: BTreeMap<u32, &str> = BTreeMap::new();
    for Seen { ask, line } in seen {
        let Some((relation, _)) = known.get(&ask.table) else { return Err(changed_since(&ask.table)) };
        let lock = if let Some(lock) = locks.get(&relation.oid).copied() {
            lock
        } else {
            let sql = format!("select has_table_privilege({}, 'UPDATE')", relation.oid);
            let may = session.value(&sql, "look at its rights").await? == "t" && !relation.has_foreign_partitions();
            let lock = if may { "for share" } else { "" };
            locks.insert(relation.oid, lock);
            lock
        };
        if row_at(session, known, ask, lock).await?.as_ref() != Some(line) {
            return Err(changed_since(&ask.table));
        }
    }
    Ok(())
}

/// Columns whose change would spread to rows that point at them, each with the foreign key that says so.
async fn spreading(session: &Session, relation: &Relation) -> Result<Vec<(String, String)>> {
    let oid = relation.oid;
    let sql = format!(
        "select a.attname, quote_ident(c.conname) || ' of ' || c.conrelid::regclass::text
           from pg_constraint c
          cross join unnest(c.confkey) k(place)
           join pg_attribute a on a.attrelid = c.confrelid and a.attnum = k.place
          where c.contype = 'f' and c.confupdtype not in ('a', 'r')
            and (c.confrelid = {oid} or c.confrelid in (select relid from pg_partition_tree({oid})))"
    );
    let rows = session.rows(&sql, "list the foreign keys").await?;
    Ok(rows.iter().map(|row| (row.text(0).to_owned(), row.text(1).to_owned())).collect())
}

async fn put(session: &Session, known: &Known, few: &FewRows) -> Result<LoadedTable> {
    let table = &few.records.table;
    let Some((relation, _)) = known.get(table) else {
        return Err(Error::usage(format!("there is no table {table} in {}", session.place())));
    };
    let stored: Vec<usize> = (0..few.records.columns.len()).filter(|at| !few.records.columns[*at].generated).collect();
    let names: Vec<String> = stored.iter().map(|at| identifier(&few.records.columns[*at].name)).collect();
    let mut loaded = LoadedTable { table: table.clone(), records: few.records.rows, ..LoadedTable::default() };
    let mut source = RecordFile::open(&few.file, &few.records, "")?;
    let (mut fresh, mut lines) = (BytesMut::new(), Vec::new());
    let replaces = few.present.iter().any(Option::is_some);
    let spreading = if replaces { spreading(session, relation).await? } else { Vec::new() };
    let mut present = few.present.iter();
    while source.advance()? {
        let line = String::from_utf8_lossy(source.line()).into_owned();
        let values = source.values()?;
        let by = |at: &usize| (few.records.columns[*at].name.clone(), values[*at].to_owned());
        let by: Vec<(String, String)> = few.key.iter().map(by).collect();
        let columns = few.records.columns.iter().map(|column| column.name.clone()).collect();
        let ask = Ask { table: table.clone(), columns, by, keyed: few.keyed };
        if let Some(was) = present.next().and_then(Option::as_ref) {
            // Whoever changed it since it was looked at would lose that.
            if row_at(session, known, &ask, "for update").await?.as_ref() != Some(was) {
                return Err(written_since(table));
            }
            let then: BTreeMap<String, String> = object(was).unwrap_or_default().into_iter().collect();
            // Those that it was found by are as they were, and an identity takes no value.
            let is_other = |(name, value): &(&str, &str)| {
                !ask.by.iter().any(|(key, _)| key == name) && then.get(*name).is_none_or(|there| there != value)
            };
            let pair = |at: &usize| (few.records.columns[*at].name.as_str(), values[*at]);
            let set: Vec<(&str, &str)> = stored.iter().map(pair).filter(is_other).collect();
            replace(session, relation, &ask, &set, &spreading).await?;
            loaded.removed += 1;
        } else {
            let fields = source.fields()?;
            for (nth, at) in stored.iter().enumerate() {
                if nth > 0 {
                    fresh.extend_from_slice(b"\t");
                }
                copy_text::write(&mut fresh, &fields[*at]).ok_or_else(|| strange(table))?;
            }
            fresh.extend_from_slice(b"\n");
        }
        loaded.added += 1;
        lines.push((ask, line));
    }
    let into = format!("copy {} ({}) from stdin", relation.quoted, names.join(", "));
    copy(session, &into, fresh.freeze()).await?;
    for (ask, line) in lines {
        if row_at(session, known, &ask, "").await?.as_deref() != Some(line.as_str()) {
            return Err(unlike(&few.records));
        }
    }
    Ok(loaded)
}

/// Gives the row that is there those values of the record that differ: to remove it would take what points at it along, or fail.
async fn replace(
    session: &Session,
    relation: &Relation,
    ask: &Ask,
    values: &[(&str, &str)],
    spreading: &[(String, String)],
) -> Result<()> {
    if values.is_empty() {
        // What differs the database computes, which shows when the row is read back.
        return Ok(());
    }
    let spreads = |(column, _): &&(String, String)| values.iter().any(|(name, _)| name == column);
    if let Some((column, key)) = spreading.iter().find(spreads) {
        return Err(Error::usage_hint(
            format!("rows point at `{column}` of {}, and would change with it by the foreign key {key}", ask.table),
            "change that column by hand first",
        ));
    }
    let mut set = Vec::with_capacity(values.len());
    for (name, value) in values {
        let text = text_of(&ask.table, value)?;
        let text = text.map_or_else(|| "null".to_owned(), |text| literal(&text));
        set.push(format!("{} = {text}", identifier(name)));
    }
    let mut same = Vec::with_capacity(ask.by.len());
    for (name, value) in &ask.by {
        let text = text_of(&ask.table, value)?.ok_or_else(|| strange(&ask.table))?;
        same.push(format!("{} = {}", identifier(name), literal(&text)));
    }
    let (set, same) = (set.join(", "), same.join(" and "));
    let sql = format!("update {} set {set} where {same} returning 1", alone(relation));
    let changed = session.rows_of(&sql).await.map_err(|cause| refused(session, &cause))?;
    if changed.len() == 1 { Ok(()) } else { Err(changed_since(&ask.table)) }
}

async fn copy(session: &Session, into: &str, rows: Bytes) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let failed = |cause: tokio_postgres::Error| refused(session, &cause);
    let sink = session.client().copy_in::<_, Bytes>(into).await.map_err(failed)?;
    let mut sink = pin!(sink);
    sink.send(rows).await.map_err(failed)?;
    sink.finish().await.map(drop).map_err(failed)
}

fn refused(session: &Session, cause: &tokio_postgres::Error) -> Error {
    let said = cause.as_db_error();
    let words = said.map_or_else(
        || cause.to_string(),
        |said| {
            let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!("{}{detail}", said.message())
        },
    );
    match cause.code() {
        Some(code) if *code == SqlState::UNIQUE_VIOLATION || *code == SqlState::EXCLUSION_VIOLATION => {
            Error::Exists { what: format!("cannot put the records back: another row stands in the way: {words}") }
        }
        Some(code) if *code == SqlState::FOREIGN_KEY_VIOLATION => Error::usage_hint(
            format!("cannot put the records back: a row that they point at is not there: {words}"),
            "name that row with another --record; where it is among them, the rows point at one another, and the foreign key \
             must be deferrable: ALTER TABLE … ALTER CONSTRAINT … DEFERRABLE",
        ),
        _ => session.failed("put the records back", cause),
    }
}
