//! What ties the rows of a database together as it is now, and single rows of it by their values.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Database;
use crate::error::Result;
use crate::local::blocking;

/// A table's columns that hold the key of another table's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The table whose rows point.
    pub table: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The table that they point at.
    pub parent: String,
    /// That table's columns, in the same order.
    pub parent_columns: Vec<String>,
    /// False when values that are equal to the database may be written in different ways, such as `a` and `A`.
    pub exact: bool,
}

/// A column as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveColumn {
    /// Its name.
    pub name: String,
    /// True when the database computes it.
    pub generated: bool,
    /// True when a row must give it a value.
    pub required: bool,
}

/// A table as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveTable {
    /// Its columns.
    pub columns: Vec<LiveColumn>,
    /// The primary key's columns.
    pub key: Vec<String>,
}

impl LiveTable {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&LiveColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Tables and what ties them together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// The tables, by the names that manifests give them.
    pub tables: BTreeMap<String, LiveTable>,
    /// The foreign keys.
    pub keys: Vec<ForeignKey>,
}

/// A row that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The table.
    pub table: String,
    /// The columns that its record shall have, in this order.
    pub columns: Vec<String>,
    /// The values that it must have, by column, as records have them.
    pub by: Vec<(String, String)>,
    /// True when these columns are a key, whose types know an equality; else values are held against one another as text.
    pub keyed: bool,
}

/// A row as it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it was asked for by.
    pub ask: Ask,
    /// What it was, as a record.
    pub line: String,
}

impl Database {
    /// Reads which tables there are, and which point at which.
    ///
    /// # Errors
    ///
    /// What opening the database fails with.
    pub async fn schema(&self, lock_wait: Duration) -> Result<Schema> {
        match self.clone() {
            Self::Sqlite(file) => blocking(move || file.schema(lock_wait)).await,
            Self::Postgres(server) => server.schema().await,
        }
    }

    /// Looks rows up, one after the other; answers the first that fits as a record, or none.
    ///
    /// # Errors
    ///
    /// What opening the database fails with; as it says.
    pub async fn rows_at(&self, asks: Vec<Ask>, lock_wait: Duration) -> Result<Vec<Option<String>>> {
        match self.clone() {
            Self::Sqlite(file) => blocking(move || file.rows_at(&asks, lock_wait)).await,
            Self::Postgres(server) => server.rows_at(&asks).await,
        }
    }
}
