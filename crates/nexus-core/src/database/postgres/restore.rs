//! The way back: a new database beside the live one, filled, checked, and only then given its name.
//!
//! Until the names are swapped, in one transaction, the live database is not touched; afterwards it is there under another
//! name. `pg_restore --clean` into the live one would leave new tables and ignore what it could not drop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::beside::{self, Begun, Beside};
use super::catalogue;
use super::connect::Session;
use super::place::PostgresDatabase;
use super::requirements::{self, CLIENT, HINDERS, in_the_way, sessions};
use super::tools::{self, Program};
use super::within::Within;
use crate::database::scratch::Purpose;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local::Scratch;
use crate::point::{PostgresFacts, PostgresSetting};

/// Databases to connect to while the one to be restored is renamed.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];
/// How many names a message lists.
const NAMED: usize = 10;
/// How often it is looked whether sessions have left.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What becomes of sessions that keep a database from getting another name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sessions {
    /// They are in the way, and the plan is refused.
    #[default]
    InTheWay,
    /// They are expected to leave before the restore begins: [`PostgresPlan::require_calm`] then waits for them.
    Leaving,
    /// They are ended when the names are swapped.
    Ended,
}

/// What a restore may do to the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Liberties {
    /// What becomes of sessions in the live database.
    pub sessions: Sessions,
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
    /// The catalogue's number of the live database, when there is one.
    pub(super) live: Option<u32>,
    /// The tablespace of the new database, where it is not the server's usual one.
    pub(super) tablespace: Option<String>,
    /// Tablespaces that are not there: everything lies in the usual one.
    pub(super) without_tablespaces: bool,
    /// What is known beforehand not to come back, in words.
    pub(super) unkept: Vec<String>,
    /// What was made on the server already; copies of a plan share it.
    pub(super) begun: Arc<OnceLock<Begun>>,
    /// What the new database is for, when it is never to get a live one's name.
    pub(super) scratch: Option<Purpose>,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostgresRestored {
    /// Tables that should be there.
    pub tables: u64,
    /// Tables with as many rows as they had.
    pub equal_tables: u64,
    /// Rows.
    pub rows: u64,
    /// The database of before, under the name it has now.
    pub kept: Option<String>,
    /// SQL, to be run in another database, that swaps the names back.
    pub go_back: Vec<String>,
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
        let program = restorer(self, &session, facts).await?;
        requirements::require_version(&session, facts)?;
        requirements::require_primary(&session).await?;
        if liberties.in_place {
            requirements::require_ownership(&session).await?;
        } else {
            requirements::require_creation(&session).await?;
        }
        requirements::require_extensions(&session, facts).await?;
        if !liberties.without_owners {
            requirements::require_roles(&session, facts).await?;
        }
        let mut unknown = requirements::doubts(&session, facts).await?;
        unknown.extend(requirements::require_room(self, &session, facts).await?);
        let live = requirements::live(&session, &self.name).await?;
        if let (Some(live), false) = (&live, liberties.in_place) {
            requirements::require_own(live, &self.location())?;
        }
        let sessions = self.require_calm(&session, liberties).await?;
        let place = if liberties.in_place {
            Place::Within
        } else {
            let fresh = beside::beside(&self.name, "restore", point);
            beside::require_ours(self, &session, &fresh).await?;
            let kept = if live.is_some() { Some(beside::free_name(&session, &self.name, point).await?) } else { None };
            Place::Beside { fresh, kept }
        };
        let lost = requirements::missing_tablespaces(&session, facts).await?;
        let usable = |name: &&String| !liberties.in_place && !lost.contains(name);
        Ok(PostgresPlan {
            target: self.clone(),
            maintenance,
            program,
            server: session.major(),
            liberties,
            facts: facts.clone(),
            point: point.to_owned(),
            live: live.as_ref().map(|live| live.oid),
            tablespace: facts.tablespace.as_ref().filter(usable).cloned(),
            without_tablespaces: facts.tablespaces.iter().any(|name| lost.contains(name)),
            unkept: lost
                .iter()
                .map(|name| format!("the tablespace {name}, which is not there for this role"))
                .collect(),
            begun: Arc::default(),
            scratch: None,
            place,
            size: live.map_or(0, |live| live.size),
            sessions,
            unknown,
            lock_wait,
        })
    }

    /// Who is in the database and will be ended; nobody may be there who stays.
    async fn require_calm(&self, session: &Session, liberties: Liberties) -> Result<Vec<String>> {
        let which = if liberties.in_place { CLIENT } else { HINDERS };
        let there = sessions(session, &self.name, which).await?;
        match liberties.sessions {
            Sessions::InTheWay if !there.is_empty() => return Err(in_the_way(&self.location(), &there)),
            Sessions::Leaving => return Ok(there),
            Sessions::InTheWay | Sessions::Ended => {}
        }
        if !liberties.in_place {
            requirements::require_no_prepared(session, &self.name).await?;
            if let Some(error) = requirements::unendable(session, &self.name).await? {
                return Err(error);
            }
        }
        Ok(there)
    }

    /// A session in another database of the same server.
    pub(super) async fn maintenance(&self) -> Result<(Self, Session)> {
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
    /// Waits until nobody is in the live database whom this plan does not end; for as long as locks are waited for.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] naming those who are there still.
    pub async fn require_calm(&self) -> Result<()> {
        let liberties = match self.liberties.sessions {
            Sessions::Leaving => Liberties { sessions: Sessions::InTheWay, ..self.liberties },
            Sessions::InTheWay | Sessions::Ended => self.liberties,
        };
        let session = Session::open(&self.maintenance).await?;
        let until = Instant::now() + self.lock_wait;
        loop {
            match self.target.require_calm(&session, liberties).await {
                Ok(_) => return Ok(()),
                Err(Error::Usage { .. }) if Instant::now() < until => tokio::time::sleep(LOOK_EVERY).await,
                Err(error) => return Err(error),
            }
        }
    }

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

    /// What this restore means to `pg_restore`.
    pub(super) fn flags(&self) -> Vec<&'static str> {
        let tablespaces = self.without_tablespaces.then_some("--no-tablespaces");
        self.liberties.flags().iter().copied().chain(tablespaces).collect()
    }

    /// Does all that can be done while the live database is not touched: a new one is filled beside it and compared.
    ///
    /// # Errors
    ///
    /// Any error means that a new database was removed again, or that it was told which one was not.
    pub async fn prepare(
        &self,
        dump: &Path,
        tables: &BTreeMap<String, u64>,
        scratch: &Scratch,
        events: &Events,
    ) -> Result<PostgresPrepared> {
        let Place::Beside { fresh, kept } = &self.place else {
            let step = Step::Within { plan: self.clone(), dump: dump.to_owned(), tables: tables.clone() };
            return Ok(PostgresPrepared(Box::new(step)));
        };
        events.started(Stage::RestoreDatabase, None, None);
        let names = (fresh.as_str(), kept.as_deref());
        let beside = Beside::prepare(self, names, dump, tables, (scratch, events)).await?;
        events.ended(Stage::RestoreDatabase);
        Ok(PostgresPrepared(Box::new(Step::Beside(beside))))
    }
}

/// A restore of which everything is done but what touches the live database.
#[derive(Debug)]
pub struct PostgresPrepared(Box<Step>);

#[derive(Debug)]
enum Step {
    Beside(Beside),
    Within { plan: PostgresPlan, dump: PathBuf, tables: BTreeMap<String, u64> },
}

impl PostgresPrepared {
    /// Gives the new database the live one's name, or puts the dump into the live one in one transaction.
    ///
    /// # Errors
    ///
    /// Any error but [`Error::Unreachable`] means that the live database is as it was; that one says what is not known.
    pub async fn finish(self, scratch: &Scratch, events: &Events) -> Result<PostgresRestored> {
        match *self.0 {
            Step::Beside(beside) => beside.finish(events).await,
            Step::Within { plan, dump, tables } => {
                events.started(Stage::RestoreDatabase, None, None);
                let restored = Within { plan: &plan }.carry_out(&dump, &tables, scratch).await?;
                events.ended(Stage::RestoreDatabase);
                Ok(restored)
            }
        }
    }

    /// Removes what was made.
    pub async fn give_up(self, events: &Events) {
        if let Step::Beside(beside) = *self.0 {
            beside.remove(events).await;
        }
    }
}

/// The `pg_restore` that reads what the point's `pg_dump` wrote and knows the server.
pub(super) async fn restorer(database: &PostgresDatabase, session: &Session, facts: &PostgresFacts) -> Result<Program> {
    let made_by = leading_number(facts.client.trim_start_matches("pg_dump "));
    let found = tools::program(database, "pg_restore", made_by.max(session.major())).await;
    found.map_err(|error| match error {
        Error::Unsupported { what } if made_by > session.major() => Error::Unsupported {
            what: format!("the dump was made by {}, and no older one reads it: {what}", facts.client),
        },
        other => other,
    })
}

/// Compares rows by table, and large objects, with what they were.
pub(super) async fn compare(
    session: &Session,
    tables: &BTreeMap<String, u64>,
    facts: &PostgresFacts,
) -> Result<PostgresRestored> {
    let relations = catalogue::relations(session).await?;
    let mut wrong = Vec::new();
    let mut rows = 0;
    // The database's own settings may not be there yet.
    let of_database = |setting: &&PostgresSetting| setting.role.is_none() && setting.name == "search_path";
    let path = facts.settings.iter().find(of_database).map(|setting| setting.value.as_str());
    session.follow_path(path).await?;
    for (name, expected) in tables {
        let Some(relation) = relations.iter().find(|relation| relation.name == *name) else {
            wrong.push(format!("{name} is not there"));
            continue;
        };
        let sql = format!("select count(*) from {}", relation.source());
        let count = catalogue::count(session, &sql, &format!("count the rows of {name}")).await?;
        rows += count;
        if count != *expected {
            wrong.push(format!("{name} has {count} rows, not {expected}"));
        }
    }
    session.follow_no_path().await?;
    let more =
        relations.iter().filter(|relation| relation.left_out().is_none() && !tables.contains_key(&relation.name));
    wrong.extend(more.map(|relation| format!("{} was not in the point", relation.name)));
    let objects = catalogue::count(session, catalogue::LARGE_OBJECTS, "count the large objects").await?;
    if objects != facts.large_objects {
        wrong.push(format!("{objects} large objects are there, not {}", facts.large_objects));
    }
    if !wrong.is_empty() {
        let some: Vec<&str> = wrong.iter().take(NAMED).map(String::as_str).collect();
        return Err(Error::damaged(format!("the restored database is not as it was: {}", some.join("; "))));
    }
    let count = tables.len() as u64;
    Ok(PostgresRestored { tables: count, equal_tables: count, rows, ..PostgresRestored::default() })
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
