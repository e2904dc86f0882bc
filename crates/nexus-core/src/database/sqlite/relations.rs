//! The foreign keys of a database's tables, and single rows by their values.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::{Connection, params_from_iter};

use crate::database::relations::{Ask, ForeignKey, LiveColumn, LiveTable, Schema};
use crate::database::source::field;
use crate::error::{Error, Result};

use super::SqliteDatabase;
use super::open::{Reader, failed};
use super::rows::record;
use super::tables::{Catalogue, ROWID_FIELD, Table, catalogue, quoted};
use super::target::bound;

impl SqliteDatabase {
    /// Reads which tables there are, and which point at which.
    pub(in crate::database) fn schema(&self, lock_wait: Duration) -> Result<Schema> {
        let reader = Reader::open(self.path(), lock_wait)?;
        let connection = reader.connection();
        let found = catalogue(connection)?;
        let sql = |cause| failed(format!("cannot read the foreign keys of `{}`", self.path().display()), cause);
        let mut schema = Schema::default();
        for table in &found.tables {
            let required = required(connection, &table.name).map_err(sql)?;
            let column = |column: &crate::point::RecordColumn| LiveColumn {
                name: column.name.clone(),
                generated: column.generated,
                required: required.contains(&column.name),
            };
            let live =
                LiveTable { columns: table.columns.iter().map(column).collect(), key: table.primary_key.clone() };
            schema.tables.insert(table.name.clone(), live);
            schema.keys.extend(foreign_keys(connection, table, &found).map_err(sql)?);
        }
        Ok(schema)
    }

    /// Looks rows up.
    pub(in crate::database) fn rows_at(&self, asks: &[Ask], lock_wait: Duration) -> Result<Vec<Option<String>>> {
        let reader = Reader::open(self.path(), lock_wait)?;
        let connection = reader.connection();
        let found = catalogue(connection)?;
        let row = |ask: &Ask| match found.tables.iter().find(|table| table.name == ask.table) {
            Some(table) => row_at(connection, table, ask),
            None => Ok(None),
        };
        asks.iter().map(row).collect()
    }
}

/// The first row that has these values, as a record.
pub(super) fn row_at(connection: &Connection, table: &Table, ask: &Ask) -> Result<Option<String>> {
    let expression = |name: &String| {
        let rowid = table.rowid.filter(|_| name == ROWID_FIELD && table.shows_rowid());
        rowid.map_or_else(|| quoted(name), str::to_owned)
    };
    let shown: Vec<String> = ask.columns.iter().map(expression).collect();
    // All of a row's values are those that it has, whatever a column takes for equal; a key is what its index says.
    let collation = if ask.keyed { "" } else { " COLLATE BINARY" };
    let same: Vec<String> = ask.by.iter().map(|(name, _)| format!("{}{collation} IS ?", expression(name))).collect();
    let (list, filter) = (shown.join(", "), if same.is_empty() { "1".to_owned() } else { same.join(" AND ") });
    let list = if list.is_empty() { "NULL".to_owned() } else { list };
    let sql = format!("SELECT {list} FROM main.{} WHERE {filter} LIMIT 1", quoted(&table.name));
    let failed = |cause| failed(format!("cannot look a row of `{}` up", table.name), cause);
    let fields: Option<Vec<_>> = ask.by.iter().map(|(_, value)| field(value)).collect();
    let fields = fields.ok_or_else(|| strange(table))?;
    let values: Option<Vec<_>> = fields.iter().map(bound).collect();
    let values = values.ok_or_else(|| strange(table))?;
    let mut statement = connection.prepare(&sql).map_err(failed)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(failed)?;
    let Some(row) = rows.next().map_err(failed)? else { return Ok(None) };
    let mut line = Vec::new();
    record(&mut line, row, &ask.columns).map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// Gives the row that has the values of `by` those of `columns`, each as records have it; answers how many rows it were.
pub(super) fn change_row(
    connection: &Connection,
    table: &Table,
    columns: &[(&str, &str)],
    by: &[(String, String)],
) -> Result<usize> {
    let set: Vec<String> = columns.iter().map(|(name, _)| format!("{} = ?", quoted(name))).collect();
    let same: Vec<String> = by.iter().map(|(name, _)| format!("{} IS ?", quoted(name))).collect();
    let (set, same) = (set.join(", "), same.join(" AND "));
    let sql = format!("UPDATE main.{} SET {set} WHERE {same}", quoted(&table.name));
    let all = columns.iter().map(|(_, value)| *value).chain(by.iter().map(|(_, value)| value.as_str()));
    let fields: Option<Vec<_>> = all.map(field).collect();
    let fields = fields.ok_or_else(|| strange(table))?;
    let values: Option<Vec<_>> = fields.iter().map(bound).collect();
    let changed = connection.execute(&sql, params_from_iter(values.ok_or_else(|| strange(table))?));
    changed.map_err(|cause| {
        if cause.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) {
            return Error::Exists { what: format!("a record of `{}` cannot be put back: {cause}", table.name) };
        }
        failed(format!("cannot write to the table `{}`", table.name), cause)
    })
}

fn strange(table: &Table) -> Error {
    Error::damaged(format!("a record of `{}` has a value that SQLite has not", table.name))
}

/// Columns that a row must give a value.
fn required(connection: &Connection, table: &str) -> rusqlite::Result<BTreeSet<String>> {
    let sql = "SELECT name FROM pragma_table_xinfo(?1) WHERE \"notnull\" AND dflt_value IS NULL AND hidden = 0";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([table], |row| row.get(0))?;
    names.collect()
}

/// Source: `PRAGMA foreign_key_list`; names count whatever their case, and a parent's columns that are not named are its key.
fn foreign_keys(connection: &Connection, table: &Table, found: &Catalogue) -> rusqlite::Result<Vec<ForeignKey>> {
    let sql = "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1) ORDER BY id, seq";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([&table.name], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, Option<String>>(3)?,
        ))
    })?;
    let mut keys: Vec<(i64, ForeignKey)> = Vec::new();
    for row in rows {
        let (id, parent, from, to) = row?;
        let Some(parent) = found.tables.iter().find(|table| table.name.eq_ignore_ascii_case(&parent)) else { continue };
        if keys.last().is_none_or(|(last, _)| *last != id) {
            let (name, to) = (table.name.clone(), parent.name.clone());
            let (columns, parent_columns) = (Vec::new(), Vec::new());
            let key = ForeignKey { table: name, columns, parent: to, parent_columns, exact: true };
            keys.push((id, key));
        }
        let Some((_, key)) = keys.last_mut() else { continue };
        let spelled = |table: &Table, name: &str| {
            let known = table.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
            known.map_or_else(|| name.to_owned(), |column| column.name.clone())
        };
        let at = key.columns.len();
        key.columns.push(spelled(table, &from));
        let to = to.or_else(|| parent.primary_key.get(at).cloned());
        key.parent_columns.push(to.map_or_else(String::new, |to| spelled(parent, &to)));
    }
    let mut keys: Vec<ForeignKey> = keys.into_iter().map(|(_, key)| key).collect();
    for key in &mut keys {
        key.exact = is_exact(connection, key)?;
    }
    Ok(keys)
}

/// True when the key that is pointed at tells texts apart byte by byte. Source: `PRAGMA index_xinfo`.
fn is_exact(connection: &Connection, key: &ForeignKey) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM pragma_index_list(?1) AS l, pragma_index_xinfo(l.name) AS x
                WHERE l.\"unique\" AND x.\"key\" AND lower(x.name) = lower(?2) AND upper(x.coll) <> 'BINARY'";
    let mut statement = connection.prepare(sql)?;
    for column in &key.parent_columns {
        if statement.exists([&key.parent, column])? {
            return Ok(false);
        }
    }
    Ok(true)
}
