//! The app's invariants: queries that must answer no row after the command.

use std::time::Duration;

use nexus_core::database::Database;
use nexus_core::database::invariant::Violations;
use nexus_core::error::{Error, Result};

use crate::run::Run;

/// The queries and the database they are asked of.
#[derive(Debug)]
pub struct Checks<'a> {
    queries: &'a [String],
    database: Option<Database>,
    lock_wait: Duration,
}

/// What one query came to.
#[derive(Debug)]
pub struct Asked {
    /// The query.
    pub sql: String,
    /// The rows it answered, or why it could not be asked.
    pub answer: Result<Violations>,
}

impl Asked {
    /// True when it was asked and answered no row.
    pub fn holds(&self) -> bool {
        self.answer.as_ref().is_ok_and(Violations::is_empty)
    }
}

impl<'a> Checks<'a> {
    /// The queries on the database of the settings.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when there are some and no database is named.
    pub fn of(run: &Run, queries: &'a [String]) -> Result<Self> {
        let setting = run.settings.database.as_ref().map(|setting| &setting.value);
        let database = setting.map(|location| run.settings.database_at(&location.text, &location.base)).transpose()?;
        if database.is_none() && !queries.is_empty() {
            return Err(Error::usage_hint(
                "--check asks the database, and nothing says where it is",
                "name it with --database, or in nexus.toml under [database] as `url`",
            ));
        }
        Ok(Self { queries, database, lock_wait: run.settings.lock_wait.duration() })
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// The database they are asked of.
    pub fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// Finds out whether all of them can be asked: a typo must not show after the deed.
    pub async fn try_all(&self) -> Result<()> {
        for (sql, database) in self.each() {
            database.try_invariant(sql, self.lock_wait).await?;
        }
        Ok(())
    }

    /// Asks all of them.
    pub async fn ask_all(&self) -> Vec<Asked> {
        let mut asked = Vec::with_capacity(self.queries.len());
        for (sql, database) in self.each() {
            asked.push(Asked { sql: sql.clone(), answer: database.violations(sql, self.lock_wait).await });
        }
        asked
    }

    fn each(&self) -> impl Iterator<Item = (&String, &Database)> {
        self.queries.iter().zip(std::iter::repeat(self.database.as_ref())).filter_map(|(sql, of)| Some((sql, of?)))
    }
}
