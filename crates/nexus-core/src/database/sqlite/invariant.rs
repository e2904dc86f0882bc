//! Queries that must answer no row: everything but reading is refused while they are prepared.

use std::time::Duration;

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;

use super::SqliteDatabase;
use super::open::{self, failed};
use crate::database::invariant::{self, LIMIT, Violations};
use crate::error::{Error, Result};

/// Pragmas that only look, and that an invariant may want.
const LOOKING: [&str; 10] = [
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];
/// Bytes of a blob that are shown.
const BLOB_BYTES: usize = 16;

impl SqliteDatabase {
    pub(crate) fn try_invariant(&self, sql: &str, lock_wait: Duration) -> Result<()> {
        self.ask(sql, lock_wait, |_| Ok(()))
    }

    pub(crate) fn violations(&self, sql: &str, lock_wait: Duration) -> Result<Violations> {
        self.ask(sql, lock_wait, |statement| {
            let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
            let mut found = Violations::default();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let mut values = Vec::with_capacity(names.len());
                for (at, name) in names.iter().enumerate() {
                    values.push((name.as_str(), text(row.get_ref(at)?)));
                }
                if !found.take(invariant::row(values.into_iter())) {
                    break;
                }
            }
            Ok(found)
        })
    }

    fn ask<T>(
        &self,
        sql: &str,
        lock_wait: Duration,
        work: impl FnOnce(&mut rusqlite::Statement<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let what = || invariant::what(sql, &format!("the database `{}`", self.path().display()));
        let sql_failed = |cause| failed(what(), cause);
        let mut reader = open::Reader::open(self.path(), lock_wait)?;
        let connection = reader.connection_mut();
        connection.busy_timeout(lock_wait).map_err(sql_failed)?;
        connection.authorizer(Some(reading)).map_err(sql_failed)?;
        open::limit_time(connection, LIMIT).map_err(sql_failed)?;
        let mut statement = connection.prepare(sql).map_err(sql_failed)?;
        if statement.column_count() == 0 || !statement.readonly() {
            return Err(Error::usage_hint(what(), "it must be one query that answers rows, such as SELECT …"));
        }
        if statement.parameter_count() > 0 {
            return Err(Error::usage_hint(what(), "it must be complete: nobody gives its parameters values"));
        }
        work(&mut statement).map_err(sql_failed)
    }
}

/// Lets a statement read, and nothing else: not even attach a file.
fn reading(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Function { .. } | AuthAction::Recursive => {
            Authorization::Allow
        }
        AuthAction::Pragma { pragma_name, .. } if LOOKING.contains(&pragma_name) => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => {
            let shown = super::hexadecimal(&bytes[..bytes.len().min(BLOB_BYTES)]);
            let more = if bytes.len() > BLOB_BYTES { "…" } else { "" };
            Some(format!("x'{shown}{more}'"))
        }
    }
}
