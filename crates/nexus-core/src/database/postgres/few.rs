//! A few rows into tables, in one transaction: the database's own constraints judge them, triggers and rules sleep meanwhile.
//!
//! Unlike a load of whole tables it takes no lock that keeps others from reading, unless something has to be put to sleep.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::error::SqlState;

use super::catalogue::{identifier, literal};
use super::connect::Session;
use super::copy_text;
use super::load::{raise, require_committed};
use super::place::PostgresDatabase;
use super::relations::{Known, known, prepare, row_at, strange, text_of};
use super::sleepers::Sleepers;
use crate::database::load::{Ending, FewRows, LoadedTable, unlike};
use crate::database::relations::Ask;
use crate::database::source::RecordFile;
use crate::error::{Error, Result};

impl PostgresDatabase {
    /// Puts the rows into their tables, parents first as they are given; each must read back as it was.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] when another row stands in the way; [`Error::Changed`] when a row that is to be replaced is another one by now;
    /// [`Error::Usage`] when a row would point at one that is not there; as the server says. Nothing is committed then.
    pub async fn put_rows(&self, few: &[FewRows], lock_wait: Duration, ending: Ending) -> Result<Vec<LoadedTable>> {
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
        for rows in few {
            let Some((relation, _)) = known.get(&rows.records.table) else { continue };
            for (column, value) in &rows.records.sequences {
                let from =
                    if relation.partitioned { relation.quoted.clone() } else { format!("only {}", relation.quoted) };
                session.run(&raise((&relation.quoted, &from), column, *value), "set the sequences").await?;
            }
        }
        if ending == Ending::Undo {
            session.run("rollback", "undo").await?;
            return Ok(loaded);
        }
        let transaction = session.value("select pg_current_xact_id()", "ask for its transaction").await?;
        if let Err(error) = session.run("commit", "commit").await {
            require_committed(self, session.place(), &transaction, error).await?;
        }
        Ok(loaded)
    }
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
                return Err(crate::database::load::written_since(table));
            }
            replace(session, &relation.quoted, &ask, (&names, &stored, &values)).await?;
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

/// Gives the row that is there the record's values: to remove it would take what points at it along, or fail.
async fn replace(
    session: &Session,
    quoted: &str,
    ask: &Ask,
    (names, stored, values): (&[String], &[usize], &[&str]),
) -> Result<()> {
    let mut set = Vec::with_capacity(names.len());
    // Those that it was found by are as they were, and an identity takes no value.
    let by = |name: &String| ask.by.iter().any(|(key, _)| identifier(key) == *name);
    for (name, at) in names.iter().zip(stored).filter(|(name, _)| !by(name)) {
        let text = text_of(&ask.table, values[*at])?;
        set.push(format!("{name} = {}", text.map_or_else(|| "null".to_owned(), |text| literal(&text))));
    }
    let mut same = Vec::with_capacity(ask.by.len());
    for (name, value) in &ask.by {
        let text = text_of(&ask.table, value)?.ok_or_else(|| strange(&ask.table))?;
        same.push(format!("{} = {}", identifier(name), literal(&text)));
    }
    let sql = format!("update {quoted} set {} where {}", set.join(", "), same.join(" and "));
    session.client().batch_execute(&sql).await.map_err(|cause| refused(session, &cause))
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
            "name that row with another --record",
        ),
        _ => session.failed("put the records back", cause),
    }
}
