//! What tables a database has, and how each is read.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension};

use crate::error::Result;
use crate::point::RecordColumn;

use super::open::failed;

/// The names under which SQLite shows a row's implicit id, unless a column takes them.
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];
/// The field of a record that has no primary key.
pub(crate) const ROWID_FIELD: &str = "$rowid";

/// The tables of a database's main schema.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogue {
    /// Those whose rows are the app's: ordinary and readable virtual ones, in the order of their names.
    pub tables: Vec<Table>,
    /// Those that hold rows for SQLite or for a virtual table: shadow tables, `sqlite_sequence`, statistics.
    pub inner: Vec<Table>,
    /// What is not exported, each with the reason.
    pub skipped: BTreeMap<String, String>,
}

/// One table and how to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Its name.
    pub name: String,
    /// Its columns that are not hidden.
    pub columns: Vec<RecordColumn>,
    /// The primary key's columns in the key's order.
    pub primary_key: Vec<String>,
    /// The columns its rows are ordered by: the primary key, unless sorting it needs a collation only the app has.
    pub order: Vec<String>,
    /// A name that answers the row's id; none for WITHOUT ROWID tables and when columns have taken all of them.
    pub rowid: Option<&'static str>,
    /// True when a module computes its rows.
    pub is_virtual: bool,
}

impl Table {
    /// True when each record starts with the row's id.
    pub(crate) fn shows_rowid(&self) -> bool {
        self.primary_key.is_empty()
            && self.rowid.is_some()
            && !self.columns.iter().any(|column| column.name == ROWID_FIELD)
    }

    /// What its rows are ordered by, as a select's `ORDER BY`; empty when there is nothing to order by.
    pub(crate) fn ordering(&self) -> String {
        // Rows whose key is NULL are not unique; the rowid keeps their order the same every time.
        let keys = self.order.iter().map(|key| format!("t.{}", quoted(key)));
        let order: Vec<String> = keys.chain(self.rowid.map(|name| format!("t.{name}"))).collect();
        if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) }
    }
}

impl Table {
    fn probe(&self) -> String {
        format!("SELECT 1 FROM main.{} AS t{}", quoted(&self.name), self.ordering())
    }
}

/// A name as SQL takes it, whatever it contains.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Reads which tables there are. Sources: `PRAGMA table_list`, `PRAGMA table_xinfo`.
pub(crate) fn catalogue(connection: &Connection) -> Result<Catalogue> {
    let sql = |cause| failed("cannot read which tables the database has".to_owned(), cause);
    let mut catalogue = Catalogue::default();
    for (name, kind, without_rowid) in listed(connection).map_err(sql)? {
        let internal = name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"));
        if kind == "view" || matches!(name.as_str(), "sqlite_schema" | "sqlite_temp_schema") {
            continue;
        }
        match described(connection, &name, kind == "virtual", without_rowid) {
            Ok(table) if kind == "shadow" => {
                catalogue.skipped.insert(name, "shadow table of a virtual table, which holds its rows".to_owned());
                catalogue.inner.push(table);
            }
            Ok(table) if internal => {
                let reason = match table.name.as_str() {
                    "sqlite_sequence" => "kept as `sequence` of the tables it counts for",
                    _ => "statistics for SQLite's query planner",
                };
                catalogue.skipped.insert(name, reason.to_owned());
                catalogue.inner.push(table);
            }
            Ok(table) => catalogue.tables.push(table),
            Err(cause) => match missing_module(&cause).filter(|_| kind == "virtual") {
                Some(module) => {
                    catalogue.skipped.insert(name, format!("virtual table of module {module}, which is not available"));
                }
                None => return Err(failed(format!("cannot read the columns of the table `{name}`"), cause)),
            },
        }
    }
    catalogue.tables.sort_by(|one, other| one.name.cmp(&other.name));
    catalogue.inner.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(catalogue)
}

/// The last value AUTOINCREMENT gave out for a table.
pub(crate) fn sequence(connection: &Connection, table: &str) -> rusqlite::Result<Option<i64>> {
    let known = "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'";
    if connection.query_row(known, [], |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    // What is in `sqlite_sequence` is the app's to spoil: values that are not integers count for nothing.
    let value = "SELECT max(seq) FROM sqlite_sequence WHERE name = ?1 AND typeof(seq) = 'integer'";
    connection.query_row(value, [table], |row| row.get(0))
}

/// How many rows a table has at most, where that is quickly said, else 0: only an order of tables may hang on it.
pub(crate) fn most_rows(connection: &Connection, table: &Table) -> i64 {
    let Some(rowid) = table.rowid.filter(|_| !table.is_virtual) else { return 0 };
    let sql = format!("SELECT max(t.{rowid}) FROM main.{} AS t", quoted(&table.name));
    connection.query_row(&sql, [], |row| row.get(0)).unwrap_or(0)
}

/// Name, kind and WITHOUT ROWID of all that `PRAGMA table_list` shows of the main schema.
fn listed(connection: &Connection) -> rusqlite::Result<Vec<(String, String, bool)>> {
    let mut statement = connection.prepare("PRAGMA main.table_list")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>("name")?, row.get::<_, String>("type")?, row.get::<_, bool>("wr")?))
    })?;
    rows.collect()
}

fn described(connection: &Connection, name: &str, is_virtual: bool, without_rowid: bool) -> rusqlite::Result<Table> {
    let mut statement = connection.prepare(&format!("PRAGMA main.table_xinfo({})", quoted(name)))?;
    let mut rows = statement.query([])?;
    let (mut columns, mut keys, mut taken) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    while let Some(row) = rows.next()? {
        let column: String = row.get("name")?;
        let declared: Option<String> = row.get("type")?;
        let hidden: i64 = row.get("hidden")?;
        taken.insert(column.to_ascii_lowercase());
        match row.get::<_, i64>("pk")? {
            0 => {}
            place => drop(keys.insert(place, column.clone())),
        }
        // 1 is a virtual table's parameter or its like, 2 and 3 are generated columns.
        if hidden != 1 {
            columns.push(RecordColumn { name: column, declared: declared.unwrap_or_default(), generated: hidden > 1 });
        }
    }
    drop(rows);
    let free = ROWID_NAMES.into_iter().find(|name| !taken.contains(*name));
    let primary_key: Vec<String> = keys.into_values().collect();
    let mut table =
        Table { name: name.to_owned(), columns, order: primary_key.clone(), primary_key, rowid: None, is_virtual };
    if connection.prepare(&table.probe()).is_err() {
        table.order.clear();
    }
    // Virtual tables may be WITHOUT ROWID, which only preparing a statement shows.
    table.rowid = free.filter(|_| !without_rowid);
    if connection.prepare(&table.probe()).is_err() {
        table.rowid = None;
    }
    Ok(table)
}

fn missing_module(cause: &rusqlite::Error) -> Option<String> {
    let text = cause.to_string();
    let (_, rest) = text.split_once("no such module: ")?;
    Some(rest.split_whitespace().next().unwrap_or("unknown").to_owned())
}
