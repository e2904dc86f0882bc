//! Invariants of an app: queries that must answer no row, asked of the live database without a right to change it.

use std::fmt::Write as _;
use std::time::Duration;

use super::Database;
use crate::error::Result;
use crate::local::blocking;

/// Rows that are shown of those that should not be there.
pub(crate) const SHOWN: usize = 5;
/// The longest value that is shown, in characters.
const LONGEST_VALUE: usize = 80;
/// The longest query that is named whole, in characters.
const LONGEST_QUERY: usize = 200;
/// How long one query may take.
pub(crate) const LIMIT: Duration = Duration::from_mins(10);

/// The rows that a query answered although it must answer none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations {
    /// The first of them, each as `column=value, …`.
    pub rows: Vec<String>,
    /// True when there are more.
    pub more: bool,
}

impl Violations {
    /// True when there was no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes a row in; false when there are enough.
    pub(crate) fn take(&mut self, row: String) -> bool {
        self.more = self.rows.len() == SHOWN;
        if !self.more {
            self.rows.push(row);
        }
        !self.more
    }
}

impl Database {
    /// Finds out whether a query can be asked; answers nothing of it.
    ///
    /// # Errors
    ///
    /// Whatever the database says against it; [`crate::error::Error::Usage`] when it is not one query.
    pub async fn try_invariant(&self, sql: &str, lock_wait: Duration) -> Result<()> {
        match self.clone() {
            Database::Sqlite(file) => {
                let sql = sql.to_owned();
                blocking(move || file.try_invariant(&sql, lock_wait)).await
            }
            Database::Postgres(server) => server.try_invariant(sql, lock_wait).await,
        }
    }

    /// The rows that a query answers, which must be none; whatever it tries to change is refused.
    ///
    /// # Errors
    ///
    /// As for [`Database::try_invariant`]; a query of more than ten minutes is given up.
    pub async fn violations(&self, sql: &str, lock_wait: Duration) -> Result<Violations> {
        match self.clone() {
            Database::Sqlite(file) => {
                let sql = sql.to_owned();
                blocking(move || file.violations(&sql, lock_wait)).await
            }
            Database::Postgres(server) => server.violations(sql, lock_wait).await,
        }
    }
}

/// What is attempted, for an error.
pub(crate) fn what(sql: &str, place: &str) -> String {
    format!("cannot ask `{}` of {place}", shortened(sql, LONGEST_QUERY))
}

/// A row in words.
pub(crate) fn row<'a>(values: impl Iterator<Item = (&'a str, Option<String>)>) -> String {
    let mut text = String::new();
    for (column, value) in values {
        let before = if text.is_empty() { "" } else { ", " };
        let value = value.as_deref().map_or_else(|| "NULL".to_owned(), |value| shortened(value, LONGEST_VALUE));
        // Writing to a string cannot fail.
        let _ = write!(text, "{before}{column}={value}");
    }
    text
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
