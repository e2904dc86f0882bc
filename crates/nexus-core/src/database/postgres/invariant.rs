//! Queries that must answer no row: asked through a cursor in a read-only transaction.

use std::time::Duration;

use super::connect::{Session, failed};
use super::place::PostgresDatabase;
use crate::database::invariant::{self, LIMIT, SHOWN, Violations};
use crate::error::{Error, Result};

impl PostgresDatabase {
    pub(crate) async fn try_invariant(&self, sql: &str, lock_wait: Duration) -> Result<()> {
        self.ask(sql, lock_wait).await.map(drop)
    }

    pub(crate) async fn violations(&self, sql: &str, lock_wait: Duration) -> Result<Violations> {
        let (session, names) = self.ask(sql, lock_wait).await?;
        let what = invariant::what(sql, session.place());
        let told = |cause: tokio_postgres::Error| failed(what.clone(), &cause);
        let rows = session.rows_of(&format!("fetch {} from nexus_invariant", SHOWN + 1)).await.map_err(told)?;
        let mut found = Violations::default();
        for row in rows {
            let values = names.iter().enumerate().map(|(at, name)| (name.as_str(), row.maybe(at).map(str::to_owned)));
            if !found.take(invariant::row(values)) {
                break;
            }
        }
        Ok(found)
    }

    /// Opens a cursor on the query, which makes sure that it is one query; answers its columns.
    async fn ask(&self, sql: &str, lock_wait: Duration) -> Result<(Session, Vec<String>)> {
        let session = Session::open(self).await?;
        session.follow_path(None).await?;
        let (wait, limit) = (lock_wait.as_millis(), LIMIT.as_millis());
        session
            .run(&format!("set lock_timeout={wait}; set statement_timeout={limit}; begin read only"), "begin to read")
            .await?;
        let what = invariant::what(sql, session.place());
        let told = |cause: tokio_postgres::Error| failed(what.clone(), &cause);
        // Prepared alone it cannot hold a second statement that would end the transaction.
        let statement = session.client().prepare(sql).await.map_err(told)?;
        if statement.columns().is_empty() {
            return Err(Error::usage_hint(what, "it must be one query that answers rows, such as select …"));
        }
        let names = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        let declare = format!("declare nexus_invariant no scroll cursor for {sql}");
        session.client().batch_execute(&declare).await.map_err(told)?;
        Ok((session, names))
    }
}
