//! The way back: a new database beside the live one, filled, checked, and only then given its name.
//!
//! Until the names are swapped, in one transaction, the live database is not touched; afterwards it is there under another
//! name. `pg_restore --clean` into the live one would leave new tables and ignore what it could not drop.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::beside::{self, Beside};
use super::catalogue::{self, literal};
use super::connect::Session;
use super::place::PostgresDatabase;
use super::requirements::{self, in_the_way, sessions};
use super::tools::{self, Program};
use super::within::Within;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local::Scratch;
use crate::point::PostgresFacts;

/// Databases to connect to while the one to be restored is renamed.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];
/// How many names a message lists.
const NAMED: usize = 10;

/// What a restore may do to the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Liberties {
    /// Sessions in the live database are ended; else they are in the way.
    pub ends_sessions: bool,
    /// Everything belongs to the role that restores, and no grants are made.
    pub without_owners: bool,
    /// The live database is emptied and filled in one transaction, instead of making a new one beside it.
    pub in_place: bool,
}

impl Liberties {
    /// What they mean to `pg_restore`.
    pub(super) fn flags(self) -> &'static [&'static str] {
        if self.without_owners { &["--no-owner", "--no-acl"] } else { &[] }
    }
}

/// Where a dump goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Into a new database, which takes the name once it is right.
    Beside {
        /// The database that is filled.
        fresh: String,
        /// What the live database will be called, when there is one.
        kept: Option<String>,
    },
    /// Into the live database, in one transaction.
    Within,
}

/// What will be done; nothing is done yet.
#[derive(Debug, Clone)]
pub struct PostgresPlan {
    pub(super) target: PostgresDatabase,
    pub(super) maintenance: PostgresDatabase,
    pub(super) program: Program,
    pub(super) server: u32,
    pub(super) liberties: Liberties,
    pub(super) facts: PostgresFacts,
    pub(super) point: String,
    /// Where the dump goes.
    pub place: Place,
    /// Bytes of the live database.
    pub size: u64,
    /// Who is in it, in words.
    pub sessions: Vec<String>,
    /// What could not be looked at beforehand, in words.
    pub unknown: Vec<String>,
    pub(super) lock_wait: Duration,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresRestored {
    /// Tables that should be there.
    pub tables: u64,
    /// Tables with as many rows as they had.
    pub equal_tables: u64,
    /// Rows.
    pub rows: u64,
    /// The database of before, under the name it has now.
    pub kept: Option<String>,
    /// What could not be brought back, in words.
    pub unkept: Vec<String>,
}

impl PostgresDatabase {
    /// Looks whether the database can be restored here: versions, rights, extensions, roles, room, sessions.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a server older than the point's, a missing `pg_restore` or a missing extension;
    /// [`Error::Denied`] for a role that may not create databases; [`Error::Missing`] for roles that are not there;
    /// [`Error::Busy`] for sessions that were not asked to be ended; [`Error::Full`] when there is no room for both.
    pub async fn plan_restore(
        &self,
        facts: &PostgresFacts,
        point: &str,
        liberties: Liberties,
        lock_wait: Duration,
    ) -> Result<PostgresPlan> {
        // Whoever may not create databases may not even reach another one.
        let (maintenance, session) =
            if liberties.in_place { (self.clone(), Session::open(self).await?) } else { self.maintenance().await? };
        let made_by = leading_number(facts.client.trim_start_matches("pg_dump "));
        let program = tools::program(self, "pg_restore", made_by.max(session.major())).await?;
        requirements::require_version(&session, facts)?;
        if liberties.in_place {
            requirements::require_ownership(&session).await?;
        } else {
            requirements::require_creation(&session).await?;
        }
        requirements::require_extensions(&session, facts).await?;
        if !liberties.without_owners {
            requirements::require_roles(&session, facts).await?;
        }
        let mut unknown = Vec::new();
        if let Some(reason) = requirements::require_room(self, &session, facts).await? {
            unknown.push(reason);
        }
        let name = literal(&self.name);
        let size = session
            .value(
                &format!("select pg_database_size(oid) from pg_database where datname = {name}"),
                "look for the database",
            )
            .await?;
        let exists = !size.is_empty();
        let sessions = sessions(&session, &self.name).await?;
        if !sessions.is_empty() && !liberties.ends_sessions {
            return Err(in_the_way(&self.location(), &sessions));
        }
        let place = if liberties.in_place {
            Place::Within
        } else {
            let fresh = beside::beside(&self.name, "restore", point);
            beside::require_ours(self, &session, &fresh).await?;
            let kept = if exists { Some(beside::free_name(&session, &self.name, point).await?) } else { None };
            Place::Beside { fresh, kept }
        };
        Ok(PostgresPlan {
            target: self.clone(),
            maintenance,
            program,
            server: session.major(),
            liberties,
            facts: facts.clone(),
            point: point.to_owned(),
            place,
            size: size.parse().unwrap_or(0),
            sessions,
            unknown,
            lock_wait,
        })
    }

    /// A session in another database of the same server.
    async fn maintenance(&self) -> Result<(Self, Session)> {
        let mut failure = None;
        for name in MAINTENANCE.into_iter().filter(|name| *name != self.name) {
            let database = self.with_name(name);
            match Session::open(&database).await {
                Ok(session) => return Ok((database, session)),
                Err(error @ (Error::Missing { .. } | Error::Denied { .. })) => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::missing(format!("no other database is at {}", self.location()))))
    }
}

impl PostgresPlan {
    /// Where the database goes.
    pub fn target(&self) -> &PostgresDatabase {
        &self.target
    }

    /// True when something is there that will not be there under its name any more.
    pub fn loses(&self) -> bool {
        match &self.place {
            Place::Beside { kept, .. } => kept.is_some(),
            Place::Within => true,
        }
    }

    /// Puts the dump where it goes, and compares rows by table with what they were.
    ///
    /// # Errors
    ///
    /// Any error means that the live database is as it was, and that a new one was removed again.
    pub async fn carry_out(
        &self,
        dump: &Path,
        tables: &BTreeMap<String, u64>,
        scratch: &Scratch,
        events: &Events,
    ) -> Result<PostgresRestored> {
        events.started(Stage::RestoreDatabase, None, None);
        let restored = match &self.place {
            Place::Beside { fresh, kept } => {
                let beside = Beside { plan: self, fresh, kept: kept.as_deref() };
                beside.carry_out(dump, tables, scratch).await?
            }
            Place::Within => Within { plan: self }.carry_out(dump, tables, scratch).await?,
        };
        events.ended(Stage::RestoreDatabase);
        Ok(restored)
    }
}

/// Compares rows by table with what they were, and lets the planner know them.
pub(super) async fn compare(fresh: &PostgresDatabase, tables: &BTreeMap<String, u64>) -> Result<PostgresRestored> {
    let session = Session::open(fresh).await?;
    let relations = catalogue::relations(&session).await?;
    let mut wrong = Vec::new();
    let mut rows = 0;
    for (name, expected) in tables {
        let Some(relation) = relations.iter().find(|relation| relation.name == *name) else {
            wrong.push(format!("{name} is not there"));
            continue;
        };
        let sql = format!("select count(*) from {}", relation.source());
        let count: u64 = session.value(&sql, &format!("count the rows of {name}")).await?.parse().unwrap_or(0);
        rows += count;
        if count != *expected {
            wrong.push(format!("{name} has {count} rows, not {expected}"));
        }
    }
    let more =
        relations.iter().filter(|relation| relation.left_out().is_none() && !tables.contains_key(&relation.name));
    wrong.extend(more.map(|relation| format!("{} was not in the point", relation.name)));
    if !wrong.is_empty() {
        let some: Vec<&str> = wrong.iter().take(NAMED).map(String::as_str).collect();
        return Err(Error::damaged(format!("the restored database is not as it was: {}", some.join("; "))));
    }
    session.run("analyze", "gather statistics").await?;
    let count = tables.len() as u64;
    Ok(PostgresRestored { tables: count, equal_tables: count, rows, kept: None, unkept: Vec::new() })
}

/// The number a text begins with: the major version.
pub(crate) fn leading_number(text: &str) -> u32 {
    text.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_their_beginning() {
        assert_eq!(leading_number("15.18 (Debian 15.18-0+deb12u1)"), 15);
        assert_eq!(leading_number("18beta1"), 18);
        assert_eq!(leading_number(""), 0);
    }
}
