//! The foreign keys of a database's tables, and single rows by their values.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::{self, Column, Layout, Relation, identifier, literal};
use super::connect::Session;
use super::place::PostgresDatabase;
use super::rows;
use crate::database::relations::{Ask, ForeignKey, LiveColumn, LiveTable, Schema};
use crate::database::source::{Field, field};
use crate::error::{Error, Result};

/// The tables by name, with their columns.
pub(super) type Known = BTreeMap<String, (Relation, Layout)>;

impl PostgresDatabase {
    /// Reads which tables there are, and which point at which.
    pub(in crate::database) async fn schema(&self) -> Result<Schema> {
        let session = Session::open(self).await?;
        let known = known(&session).await?;
        let required = required(&session).await?;
        let mut schema = Schema { keys: foreign_keys(&session, &known).await?, ..Schema::default() };
        for (name, (relation, layout)) in &known {
            let column = |column: &Column| LiveColumn {
                name: column.name.clone(),
                generated: column.generated,
                required: required.contains(&(relation.oid, column.name.clone())),
            };
            let table = LiveTable {
                columns: layout.columns.iter().map(column).collect(),
                key: layout.key.iter().map(|at| layout.columns[*at].name.clone()).collect(),
            };
            schema.tables.insert(name.clone(), table);
        }
        Ok(schema)
    }

    /// Looks rows up.
    pub(in crate::database) async fn rows_at(&self, asks: &[Ask]) -> Result<Vec<Option<String>>> {
        let session = Session::open(self).await?;
        let known = known(&session).await?;
        prepare(&session).await?;
        let mut found = Vec::with_capacity(asks.len());
        for ask in asks {
            found.push(row_at(&session, &known, ask, "").await?);
        }
        Ok(found)
    }
}

/// Sets a session up so that it reads and writes values as records have them.
pub(super) async fn prepare(session: &Session) -> Result<()> {
    let encoding = "select pg_encoding_to_char(encoding) from pg_database where datname = current_database()";
    let encoding = session.value(encoding, "ask for its encoding").await?;
    rows::prepare(session, &encoding).await
}

/// The tables whose rows are exported on their own.
pub(super) async fn known(session: &Session) -> Result<Known> {
    let mut layouts = catalogue::layouts(session).await?;
    let relations = catalogue::relations(session).await?.into_iter().filter(|relation| relation.left_out().is_none());
    Ok(relations
        .map(|relation| {
            let layout = layouts.remove(&relation.oid).unwrap_or_default();
            (relation.name.clone(), (relation, layout))
        })
        .collect())
}

/// The first row that has these values, as a record; `lock` is what stands behind the query.
pub(super) async fn row_at(session: &Session, known: &Known, ask: &Ask, lock: &str) -> Result<Option<String>> {
    let Some((relation, layout)) = known.get(&ask.table) else { return Ok(None) };
    let shape = |name: &String| layout.columns.iter().find(|column| column.name == *name);
    let columns: Option<Vec<&Column>> = ask.columns.iter().map(shape).collect();
    let Some(columns) = columns else { return Ok(None) };
    let list: Vec<String> = columns.iter().map(|column| format!("t.{}", column.quoted)).collect();
    let list = if list.is_empty() { "1".to_owned() } else { list.join(", ") };
    let mut filter = vec!["true".to_owned()];
    for (name, value) in &ask.by {
        let column = format!("t.{}", identifier(name));
        // Not every type knows an equality; those of keys do, and `1.0` is `1.00` there.
        filter.push(match text_of(&ask.table, value)? {
            None => format!("{column} is null"),
            Some(text) if ask.keyed => format!("{column} = {}", literal(&text)),
            Some(text) => format!("{column}::text = {}", literal(&text)),
        });
    }
    let sql = format!("select {list} from {} where {} limit 1 {lock}", relation.source(), filter.join(" and "));
    let rows = session.rows(&sql, &format!("look a row of {} up", relation.name)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut line = vec![b'{'];
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            line.push(b',');
        }
        crate::database::json::string(&mut line, &column.name);
        line.push(b':');
        rows::plain(&mut line, row.maybe(at), column.shape);
    }
    line.push(b'}');
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// A record's value as the server reads it; none: NULL.
pub(super) fn text_of(table: &str, value: &str) -> Result<Option<String>> {
    match field(value) {
        Some(Field::Null) => Ok(None),
        Some(Field::Boolean(value)) => Ok(Some(if value { "t" } else { "f" }.to_owned())),
        Some(Field::Number(text)) => Ok(Some(text.to_owned())),
        Some(Field::Text(text)) => Ok(Some(text.into_owned())),
        Some(Field::Integer(_) | Field::Real(_) | Field::Blob(_) | Field::Bytes(_)) | None => Err(strange(table)),
    }
}

pub(super) fn strange(table: &str) -> Error {
    Error::damaged(format!("a record of {table} has a value that PostgreSQL has not"))
}

/// Columns that a row must give a value, by the catalogue's number of their table.
async fn required(session: &Session) -> Result<BTreeSet<(u32, String)>> {
    let sql = "select attrelid, attname from pg_attribute
                where attnum > 0 and not attisdropped and attnotnull and not atthasdef and attidentity = ''";
    let rows = session.rows(sql, "list the columns").await?;
    Ok(rows.iter().map(|row| (row.number(0), row.text(1).to_owned())).collect())
}

async fn foreign_keys(session: &Session, known: &Known) -> Result<Vec<ForeignKey>> {
    // Numbers of a kind, texts, and what is written in one way alone: of these, equal values are alike as records have them.
    let sql = "select c.oid, c.conrelid, c.confrelid, a.attname, f.attname,
                      coalesce(l.collisdeterministic, true) and coalesce(m.collisdeterministic, true)
                      and (a.atttypid in (20, 21, 23) and f.atttypid in (20, 21, 23)
                           or a.atttypid in (25, 1043) and f.atttypid in (25, 1043)
                           or a.atttypid = f.atttypid and a.atttypmod = f.atttypmod
                              and (a.atttypid in (16, 17, 26, 1042, 1082, 1083, 1114, 1184, 2950)
                                   or a.atttypid = 1700 and a.atttypmod <> -1
                                   or (select t.typtype = 'e' from pg_type t where t.oid = a.atttypid)))
                 from pg_constraint c
                cross join unnest(c.conkey, c.confkey) with ordinality k(own, other, place)
                 join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.own
                 join pg_attribute f on f.attrelid = c.confrelid and f.attnum = k.other
                 left join pg_collation l on l.oid = a.attcollation
                 left join pg_collation m on m.oid = f.attcollation
                where c.contype = 'f' and c.conparentid = 0
                order by c.oid, k.place";
    let name = |oid: u32| known.iter().find(|(_, (relation, _))| relation.oid == oid).map(|(name, _)| name.clone());
    let mut keys: Vec<(u32, ForeignKey)> = Vec::new();
    for row in session.rows(sql, "list the foreign keys").await? {
        let oid: u32 = row.number(0);
        let (Some(table), Some(parent)) = (name(row.number(1)), name(row.number(2))) else { continue };
        if keys.last().is_none_or(|(last, _)| *last != oid) {
            let (columns, parent_columns) = (Vec::new(), Vec::new());
            keys.push((oid, ForeignKey { table, columns, parent, parent_columns, exact: true }));
        }
        if let Some((_, key)) = keys.last_mut() {
            key.columns.push(row.text(3).to_owned());
            key.parent_columns.push(row.text(4).to_owned());
            key.exact &= row.is_true(5);
        }
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}
