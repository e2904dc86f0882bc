//! A point's database in scratch: really restored, where nothing of the app's is touched, and removed again.
//!
//! A SQLite file lies in the private folder of the run that asked for it and goes away with it. On a server it is a database
//! of its own, `nexus_drill_<point>`, that lives no longer than the session which made it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Database;
use super::holders::{SIDECARS, beside};
use super::postgres::scratch::PostgresScratch;
use super::postgres::{PostgresDatabase, PostgresPlan};
use super::sqlite::{Restore, SqliteDatabase};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::local::{Scratch, blocking};
use crate::point::{DatabaseKind, DatabasePart, PointId};

/// What a scratch database is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be checked and measured.
    Drill,
    /// To run a command on.
    Rehearse,
}

impl Purpose {
    /// The word that its name bears.
    pub fn word(self) -> &'static str {
        match self {
            Self::Drill => "drill",
            Self::Rehearse => "rehearse",
        }
    }
}

/// What will be made; nothing is made yet.
#[derive(Debug, Clone)]
pub struct ScratchPlan {
    ground: Ground,
    /// Rows by table that must be there afterwards.
    tables: BTreeMap<String, u64>,
    lock_wait: Duration,
}

#[derive(Debug, Clone)]
enum Ground {
    /// A file of this name in the run's own folder.
    File(String),
    Server(Box<PostgresPlan>),
}

impl ScratchPlan {
    /// Looks whether a point's database can be made anew; `server` is where, for one of PostgreSQL.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when a server is needed and none is named. For a server: [`Error::Unsupported`] when it is older than
    /// the point's, or `pg_restore` or an extension is missing; [`Error::Denied`] for a role that may not create databases;
    /// [`Error::Full`] when its disk has no room; [`Error::Exists`] when a database of that name is somebody else's.
    pub async fn make(
        part: &DatabasePart,
        (point, purpose): (&PointId, Purpose),
        server: Option<&PostgresDatabase>,
        lock_wait: Duration,
    ) -> Result<Self> {
        let word = purpose.word();
        let ground = match (&part.kind, server) {
            (DatabaseKind::Sqlite { .. }, _) => Ground::File(format!("nexus_{word}_{point}.sqlite3")),
            (DatabaseKind::Postgres { postgres }, Some(server)) => {
                Ground::Server(Box::new(server.plan_scratch(postgres, &point.to_string(), purpose, lock_wait).await?))
            }
            (DatabaseKind::Postgres { .. }, None) => {
                return Err(Error::usage_hint(
                    format!("the database of {point} is a PostgreSQL one, and no server is named to restore it on"),
                    "name one with --database postgres://user@host/name; a new database is made there and removed again",
                ));
            }
        };
        Ok(Self { ground, tables: part.tables.clone(), lock_wait })
    }

    /// Where it will be, without secrets; a file is only named, since it lies in the run's own folder.
    pub fn place(&self) -> String {
        match &self.ground {
            Ground::File(name) => name.clone(),
            Ground::Server(plan) => plan.target().location(),
        }
    }

    /// What could not be looked at beforehand, in words.
    pub fn doubts(&self) -> &[String] {
        match &self.ground {
            Ground::File(_) => &[],
            Ground::Server(plan) => &plan.unknown,
        }
    }

    /// What must be removed from a server when the run is broken off: [`PostgresPlan::remove_unfinished`].
    pub fn unfinished(&self) -> Option<PostgresPlan> {
        match &self.ground {
            Ground::File(_) => None,
            Ground::Server(plan) => Some(plan.as_ref().clone()),
        }
    }

    /// Makes it from the point's copy, which was fetched and hashed before, and compares: on a server row counts by table,
    /// in a file every row. What dead runs left on the server is removed first.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when the copy does not restore, or to something else than it was; what else the disk or the server
    /// fails with. After any error nothing of it is left, or it was told what is.
    pub async fn create(self, copy: &Path, scratch: &Scratch, events: &Events) -> Result<ScratchDatabase> {
        match self.ground {
            Ground::File(name) => {
                let target = SqliteDatabase::new(scratch.file(&name));
                let (copy, database, told) = (copy.to_owned(), target.clone(), events.clone());
                let restored = blocking(move || {
                    Restore { copy: &copy, target: &target, lock_wait: self.lock_wait, ownership: None }
                        .carry_out(&told)
                })
                .await?;
                let rows = restored.rows;
                Ok(ScratchDatabase { database: Database::Sqlite(database), rows, unkept: Vec::new(), held: None })
            }
            Ground::Server(plan) => {
                let held = PostgresScratch::create(&plan, copy, &self.tables, (scratch, events)).await?;
                let database = Database::Postgres(Box::new(held.database()));
                let restored = held.restored();
                let (rows, unkept) = (restored.rows, restored.unkept.clone());
                Ok(ScratchDatabase { database, rows, unkept, held: Some(held) })
            }
        }
    }
}

/// A restored database in scratch. It must be removed; what is left of it when it is not, the next run removes.
#[derive(Debug)]
pub struct ScratchDatabase {
    database: Database,
    /// Rows that were compared or counted.
    pub rows: u64,
    /// What could not be brought back, in words.
    pub unkept: Vec<String>,
    held: Option<PostgresScratch>,
}

impl ScratchDatabase {
    /// The database: for a file of SQLite's its path, for a server's one how it is reached.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// What the disk or the server fails with.
    pub async fn remove(self) -> Result<()> {
        match (self.held, self.database) {
            (Some(held), _) => held.remove().await,
            (None, Database::Sqlite(file)) => remove_file(file.path()),
            (None, Database::Postgres(_)) => Ok(()),
        }
    }
}

fn remove_file(path: &Path) -> Result<()> {
    for suffix in SIDECARS.into_iter().chain([""]) {
        match std::fs::remove_file(beside(path, suffix)) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::local(format!("cannot remove `{}`", path.display()), cause));
            }
            _ => {}
        }
    }
    Ok(())
}
