//! A database on a server that is filled like a restored one and never gets a live one's name: for a drill or a rehearsal.
//!
//! Nothing but a run that goes on keeps it: its comment names the session that holds it, and the next run removes those
//! whose session is gone. That session is looked for in the server's own list of all sessions, since an advisory lock is
//! seen only by those who happen to be in the same database.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::beside::{self, Beside, drop_database, is_empty};
use super::connect::{APPLICATION, Session};
use super::place::PostgresDatabase;
use super::requirements;
use super::restore::{Liberties, Place, PostgresPlan, PostgresRestored, restorer};
use crate::database::scratch::Purpose;
use crate::error::{DatabaseWords, Error, Result, chain};
use crate::event::{Events, Stage};
use crate::local::Scratch;
use crate::point::PostgresFacts;

/// How the comment of such a database begins.
pub(super) const MARK: &str = "nexus: scratch of ";
/// Before the session that holds it.
const HELD: &str = ", held by session ";
/// Parts of what `pg_restore` says when it is ended, or the server has not what it takes, or the role may not.
const ELSEWHERE: [&str; 10] = [
    "signal: 9 ",
    "signal: 15 ",
    "out of memory",
    "out of shared memory",
    "Cannot allocate memory",
    "terminating connection",
    "the database system is",
    "canceling statement",
    "too many clients",
    "superuser",
];
/// What a session is known by: processes are numbered anew after a while, but not at the same microsecond.
const SESSION: &str = "pid || ' of ' || coalesce(extract(epoch from backend_start)::text, '')";

/// A filled database, and the session whose life keeps it from being removed.
#[derive(Debug)]
pub(crate) struct PostgresScratch {
    beside: Beside,
}

impl PostgresDatabase {
    /// Looks whether a point's database can be restored as a new one on this server, whatever its own is called.
    ///
    /// Everything in it will belong to this role, so that roles which are not there stand in nobody's way; what that leaves
    /// out is among the plan's doubts.
    ///
    /// # Errors
    ///
    /// As for [`PostgresDatabase::plan_restore`]; [`Error::Exists`] when a database of its name is there that is not ours.
    pub(crate) async fn plan_scratch(
        &self,
        facts: &PostgresFacts,
        point: &str,
        purpose: Purpose,
        lock_wait: Duration,
    ) -> Result<PostgresPlan> {
        let (maintenance, session) = self.maintenance().await?;
        let program = restorer(self, &session, facts).await?;
        requirements::require_version(&session, facts)?;
        requirements::require_primary(&session).await?;
        requirements::require_creation(&session).await.map_err(|error| elsewhere(error, purpose))?;
        requirements::require_extensions(&session, facts).await?;
        let mut unknown = requirements::doubts(&session, facts).await?;
        unknown.extend(requirements::require_room(self, &session, facts).await?);
        if let Err(error) = requirements::require_roles(&session, facts).await {
            unknown.push(format!("whether owners and grants can be brought back: {error}"));
        }
        let fresh = beside::beside("nexus", purpose.word(), point);
        beside::require_ours(self, &session, &fresh).await?;
        let lost = requirements::missing_tablespaces(&session, facts).await?;
        // Who works in it must not be kept out by what the app's own database allows.
        let facts = PostgresFacts { connection_limit: -1, is_template: false, ..facts.clone() };
        Ok(PostgresPlan {
            target: self.with_name(&fresh),
            maintenance,
            program,
            server: session.major(),
            liberties: Liberties { without_owners: true, ..Liberties::default() },
            point: point.to_owned(),
            live: None,
            tablespace: facts.tablespace.as_ref().filter(|name| !lost.contains(name)).cloned(),
            without_tablespaces: facts.tablespaces.iter().any(|name| lost.contains(name)),
            unkept: Vec::new(),
            begun: Arc::default(),
            scratch: Some(purpose),
            place: Place::Beside { fresh, kept: None },
            size: 0,
            sessions: Vec::new(),
            unknown,
            lock_wait,
            facts,
        })
    }
}

impl PostgresDatabase {
    /// Removes the scratch databases that runs which are dead have left on this server, and tells which.
    ///
    /// # Errors
    ///
    /// That the server cannot be asked; one that cannot be removed is only told of.
    pub async fn sweep_scratch(&self, events: &Events) -> Result<()> {
        let (_, session) = self.maintenance().await?;
        sweep(&session, self, events).await
    }
}

impl PostgresScratch {
    /// Removes what dead runs left on the server, then makes, fills and compares the database of a plan.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when the dump does not restore, or restores to something else; [`Error::Busy`] when another run
    /// has one of the same name. After any error it was removed again, or it was told that it was not.
    pub(crate) async fn create(
        plan: &PostgresPlan,
        dump: &Path,
        tables: &BTreeMap<String, u64>,
        (scratch, events): (&Scratch, &Events),
    ) -> Result<Self> {
        let Place::Beside { fresh, .. } = &plan.place else {
            return Err(Error::usage("a scratch database is never the live one"));
        };
        sweep(&Session::open(&plan.maintenance).await?, &plan.target, events).await?;
        events.started(Stage::RestoreDatabase, None, None);
        let beside = Beside::prepare(plan, (fresh, None), dump, tables, (scratch, events)).await?;
        events.ended(Stage::RestoreDatabase);
        Ok(Self { beside })
    }

    /// Where it is.
    pub(crate) fn database(&self) -> PostgresDatabase {
        self.beside.plan.target.clone()
    }

    /// What it was found to be.
    pub(crate) fn restored(&self) -> &PostgresRestored {
        self.beside.restored()
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// What the server fails with; the next run removes it then.
    pub(crate) async fn remove(self) -> Result<()> {
        // Its mark names the session that ends afterwards: one that could not be removed is the next run's to remove.
        let session = Session::open(&self.beside.plan.maintenance).await?;
        match drop_database(&session, &self.beside.fresh).await {
            // Whoever worked in it has removed it.
            Err(Error::Missing { .. }) => Ok(()),
            removed => removed,
        }
    }
}

/// The comment that says whose a scratch database is.
pub(super) async fn mark(purpose: Purpose, point: &str, session: &Session) -> Result<String> {
    let sql = format!("select {SESSION} from pg_stat_activity where pid = pg_backend_pid()");
    let holder = session.value(&sql, "look at its own session").await?;
    Ok(format!("{MARK}a {} of {point}{HELD}{holder}", purpose.word()))
}

/// Fails when a scratch database of this name belongs to a run that goes on.
pub(super) async fn require_dead(session: &Session, name: &str) -> Result<()> {
    let is_held = |marked: &Marked| marked.name == name && marked.lives && !marked.comment.is_empty();
    let held = marked(session).await?.into_iter().find(is_held);
    match held {
        None => Ok(()),
        Some(marked) => Err(Error::Busy {
            what: format!("{name} at {} is in use: {}", session.place(), marked.comment.trim_start_matches("nexus: ")),
        }),
    }
}

/// Removes the scratch databases of runs that are dead; one that cannot be removed is told of and stands in nobody's way.
async fn sweep(session: &Session, server: &PostgresDatabase, events: &Events) -> Result<()> {
    for dead in marked(session).await?.into_iter().filter(|marked| !marked.lives) {
        let name = &dead.name;
        if dead.comment.is_empty() && !is_empty(&server.with_name(name)).await {
            continue;
        }
        match drop_database(session, name).await {
            Ok(()) => events.note(format!("removed {name}, which a run that was killed had left")),
            // Another run removes it this moment.
            Err(Error::Missing { .. }) => {}
            Err(error) => events.warn(format!(
                "{name} at {} was left by a run that was killed and could not be removed: {}",
                session.place(),
                chain(&error)
            )),
        }
    }
    Ok(())
}

/// A database that is called like scratch and marked so, or not yet.
struct Marked {
    name: String,
    /// The mark; empty: none.
    comment: String,
    /// The session that holds it is there, as far as this role may see.
    lives: bool,
}

/// The scratch databases of a server. One without a mark was made a moment ago, or by a run that was killed before it could
/// mark it.
async fn marked(session: &Session) -> Result<Vec<Marked>> {
    let sql = "select d.datname, coalesce(shobj_description(d.oid, 'pg_database'), '') from pg_database d
                where d.datname ~ '^nexus_(drill|rehearse)_' order by 1";
    let rows = session.rows(sql, "look for scratch databases").await?;
    // Asked for afterwards: whoever makes one of those that are listed has a session.
    let sql = format!("select {SESSION}, application_name from pg_stat_activity where pid <> pg_backend_pid()");
    let sessions = session.rows(&sql, "list the sessions").await?;
    let lives = |comment: &str| match comment.rsplit_once(HELD) {
        Some((_, holder)) => sessions.iter().any(|row| is_session(row.text(0), holder)),
        None => !comment.is_empty() || sessions.iter().any(|row| row.text(1).starts_with(APPLICATION)),
    };
    let ours = |comment: &str| comment.is_empty() || comment.starts_with(MARK);
    Ok(rows
        .iter()
        .filter(|row| ours(row.text(1)))
        .map(|row| {
            let comment = row.text(1).to_owned();
            Marked { name: row.text(0).to_owned(), lives: lives(&comment), comment }
        })
        .collect())
}

/// Of a session of another role only the number may be seen: it counts as the one that is meant.
fn is_session(there: &str, meant: &str) -> bool {
    let pid = |session: &str| session.split(' ').next().unwrap_or_default().to_owned();
    there == meant || (there.ends_with("of ") && pid(there) == pid(meant))
}

/// A dump of the right bytes that `pg_restore` does not take is a point that cannot be restored, unless its words are about
/// the server, this role or this machine.
pub(super) fn refused(error: Error) -> Error {
    match error {
        Error::Service { what, cause } if !cause.as_ref().is_some_and(|cause| is_elsewhere(&cause.to_string())) => {
            Error::Damaged { what, cause }
        }
        other => other,
    }
}

/// True for words of `pg_restore` that say nothing of the dump: another server, role or hour would take it.
fn is_elsewhere(words: &str) -> bool {
    // What was to be run is told after the error, and may hold any word.
    let said: Vec<&str> = words.lines().take_while(|line| !line.trim_start().starts_with("Command was:")).collect();
    let lacks_role = |line: &&str| line.contains("role \"") && line.contains("does not exist");
    // A worker that met damage said so before it died.
    let was_killed = said.len() == 1 && said[0].contains("a worker process died unexpectedly");
    was_killed || said.iter().any(|line| lacks_role(line) || ELSEWHERE.iter().any(|words| line.contains(words)))
}

/// What to do where a role may not make databases.
fn elsewhere(error: Error, purpose: Purpose) -> Error {
    let Error::Denied { .. } = error else { return error };
    let word = purpose.word();
    Error::Denied {
        what: format!("a {word} restores into a new database, and this role may not create one: {error}"),
        cause: Some(
            DatabaseWords(
                "name a role that may (ALTER ROLE … CREATEDB), or another server, with --database postgres://…".into(),
            )
            .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pg_restore_says_of_the_server_is_no_damage_of_the_dump() {
        let judged = |words: &str| {
            let cause = Some(DatabaseWords(words.to_owned()).into());
            refused(Error::Service { what: "cannot restore".to_owned(), cause })
        };
        for words in [
            "signal: 9 (SIGKILL)",
            "exit status: 1: pg_restore: error: a worker process died unexpectedly",
            "exit status: 1: pg_restore: error: could not execute query: ERROR:  role \"reader\" does not exist\nCommand was: CREATE POLICY p ON t TO reader",
            "exit status: 1: ERROR:  must be superuser to create a base type",
            "exit status: 1: ERROR:  out of shared memory\nHINT:  You might need to increase max_locks_per_transaction.",
        ] {
            assert!(matches!(judged(words), Error::Service { .. }), "{words}");
        }
        for words in [
            "exit status: 1: pg_restore: error: could not read from input file: end of file",
            "exit status: 1: ERROR:  relation \"superb\" does not exist\nCommand was: ALTER TABLE superb ADD note text DEFAULT 'out of memory, superuser'",
            "exit status: 1: pg_restore: error: could not uncompress data\npg_restore: error: a worker process died unexpectedly",
            "signal: 11 (SIGSEGV)",
        ] {
            assert!(matches!(judged(words), Error::Damaged { .. }), "{words}");
        }
    }
}
