//! A new database beside the live one: filled, compared, and only then given its name.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::catalogue::{self, identifier, literal};
use super::connect::{APPLICATION, Session};
use super::dress::dress;
use super::group::Group;
use super::place::PostgresDatabase;
use super::restore::{Place, PostgresPlan, PostgresRestored, compare};
use super::scratch;
use super::script::{self, Around};
use super::swap::Swap;
use super::tools::{self, Access};
use crate::database::scratch::Purpose;
use crate::database::sqlite::hexadecimal;
use crate::error::{Error, Result, chain};
use crate::event::Events;
use crate::local::Scratch;

/// The longest name that PostgreSQL keeps, bytes
/// (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html>, `NAMEDATALEN` less one).
const LONGEST_NAME: usize = 63;
/// Sessions of a restore at once.
const JOBS: u32 = 4;
/// How a database is marked while it is filled.
const MARK: &str = "nexus: being restored from ";
/// How long a session that was told to end may take.
const END_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Where the locale of a database may come from.
const PROVIDERS: [&str; 3] = ["libc", "icu", "builtin"];

/// What a restore has made on a server, and the session that makes it: for whoever must clean up after it.
#[derive(Debug)]
pub(super) struct Begun {
    /// The catalogue's number of the database that is filled.
    pub(super) oid: u32,
    /// The server's process of the session that holds the lock; a lost session is replaced.
    pub(super) pid: AtomicI32,
}

/// A database that holds everything it should and waits for the live one's name.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) plan: PostgresPlan,
    /// The database that is filled.
    pub(super) fresh: String,
    /// What the live one will be called.
    pub(super) kept: Option<String>,
    pub(super) oid: u32,
    session: Session,
    restored: PostgresRestored,
}

impl Beside {
    /// Makes, fills, compares and dresses the new database; the live one is not touched.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when another restore into the same database runs. After any error the new database was removed
    /// again, or it was told that it was not.
    pub(super) async fn prepare(
        plan: &PostgresPlan,
        (fresh, kept): (&str, Option<&str>),
        dump: &Path,
        tables: &BTreeMap<String, u64>,
        (folder, events): (&Scratch, &Events),
    ) -> Result<Self> {
        let session = Session::open(&plan.maintenance).await?;
        if plan.scratch.is_some() {
            scratch::require_dead(&session, fresh).await?;
        }
        lock(&plan.target, &session).await?;
        if plan.scratch.is_some() {
            scratch::require_dead(&session, fresh).await?;
        }
        if require_ours(&plan.target, &session, fresh).await? {
            drop_database(&session, fresh).await?;
        }
        session.run(&creation(plan, fresh)?, "create a database").await?;
        let oid = oid_of(&session, fresh).await?.ok_or_else(|| Error::missing(format!("{fresh} is gone again")))?;
        // Whoever cleans up needs it from now on; a plan is carried out once, so that it is not set yet.
        let _ = plan.begun.set(Begun { oid, pid: session.pid().into() });
        let (fresh, kept) = (fresh.to_owned(), kept.map(str::to_owned));
        let mut beside = Self { plan: plan.clone(), fresh, kept, oid, session, restored: PostgresRestored::default() };
        match beside.fill(dump, tables, folder).await {
            Ok(restored) => {
                beside.restored = restored;
                Ok(beside)
            }
            Err(error) => {
                beside.remove(events).await;
                Err(error)
            }
        }
    }

    /// Gives it the live one's name.
    ///
    /// # Errors
    ///
    /// Any error but [`Error::Unreachable`] means that the live database is as it was, and that the new one was removed
    /// again or told of. When the server does not answer any more, the error says what is not known.
    pub(super) async fn finish(self, events: &Events) -> Result<PostgresRestored> {
        if let Err(error) = (Swap { beside: &self }).carry_out(&self.session).await {
            self.remove(events).await;
            return Err(error);
        }
        Ok(PostgresRestored { go_back: self.way_back(), kept: self.kept, ..self.restored })
    }

    /// What it was found to be.
    pub(super) fn restored(&self) -> &PostgresRestored {
        &self.restored
    }

    fn way_back(&self) -> Vec<String> {
        let Some(kept) = &self.kept else { return Vec::new() };
        let name = &self.plan.target.name;
        let (live, aside) = (identifier(name), identifier(&beside(name, "undone", &self.plan.point)));
        let renamed = |from: &str, to: &str| format!("ALTER DATABASE {from} RENAME TO {to};");
        vec![renamed(&live, &aside), renamed(&identifier(kept), &live)]
    }

    /// Removes it, unless it has the live one's name by now; tells its name when that fails.
    pub(super) async fn remove(self, events: &Events) {
        // The session holds the lock: without it, what is called so may be another restore's.
        self.plan.remove_unfinished(events).await;
    }

    async fn fill(&self, dump: &Path, tables: &BTreeMap<String, u64>, folder: &Scratch) -> Result<PostgresRestored> {
        let mark = match self.plan.scratch {
            Some(purpose) => scratch::mark(purpose, &self.plan.point, &self.session).await?,
            None => format!("{MARK}{}", self.plan.point),
        };
        let comment = format!("comment on database {} is {}", identifier(&self.fresh), literal(&mark));
        self.session.run(&comment, "mark the new database").await?;
        let fresh = self.plan.target.with_name(&self.fresh);
        let filled = fill(&self.plan, &fresh, dump, folder).await;
        filled.map_err(|error| if self.plan.scratch.is_some() { scratch::refused(error) } else { error })?;
        let session = Session::open(&fresh).await?;
        let counted = compare(&session, tables, &self.plan.facts).await?;
        session.run("analyze", "gather statistics").await?;
        drop(session);
        self.try_owner().await?;
        let unkept = dress(&self.plan, &self.fresh, &self.session).await?;
        Ok(PostgresRestored { unkept: [self.plan.unkept.clone(), unkept].concat(), ..counted })
    }

    /// The owner comes with the name; that it can come is seen now, while nothing else was touched.
    async fn try_owner(&self) -> Result<()> {
        if self.plan.liberties.without_owners {
            return Ok(());
        }
        let (name, owner) = (identifier(&self.fresh), identifier(&self.plan.facts.owner));
        let sql = format!("begin; alter database {name} owner to {owner}");
        let tried = self.session.run(&sql, "give away a database").await;
        self.session.run("rollback", "undo that").await?;
        tried
    }
}

impl PostgresPlan {
    /// Removes the database that this plan has made, however far its restore came; says so when the names were swapped
    /// already, and names what could not be removed.
    pub async fn remove_unfinished(&self, events: &Events) {
        let (Some(begun), Some(fresh)) = (self.begun.get(), self.fresh()) else { return };
        let verb = self.scratch.map_or("restore of this point", Purpose::word);
        let told = |why: &Error| {
            events.warn(format!(
                "the unfinished database {fresh} could not be removed: {}; the next {verb} does it",
                chain(why)
            ));
        };
        let looked = async {
            let session = Session::open(&self.maintenance).await?;
            // Its last statement may be on its way still, and would swap the names when nobody expects it any more.
            end_backend(&session, begun.pid.load(Ordering::Relaxed)).await?;
            let sql = format!("select datname from pg_database where oid = {}", begun.oid);
            let name = session.value(&sql, "look for the unfinished database").await?;
            Ok::<_, Error>((session, name))
        };
        match looked.await {
            Ok((_, name)) if name == self.target.name && self.scratch.is_none() => {
                events
                    .warn(format!("{} is the restored database: its name was swapped already", self.target.location()));
            }
            Ok((session, name)) if name == fresh => {
                events.note(format!("removing the unfinished database {fresh}"));
                if let Err(error) = drop_database(&session, fresh).await {
                    told(&error);
                }
            }
            Ok(_) => {}
            Err(error) => told(&error),
        }
    }

    fn fresh(&self) -> Option<&str> {
        match &self.place {
            Place::Beside { fresh, .. } => Some(fresh),
            Place::Within => None,
        }
    }
}

/// Lets nobody else restore into the same database for as long as the session lives.
///
/// Roles that reach different databases of a server do not see each other's locks; the swap then still takes only what was
/// filled by it.
pub(super) async fn lock(target: &PostgresDatabase, session: &Session) -> Result<()> {
    let digest = Sha256::digest(format!("nexus restore {}", target.name));
    let key = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)).cast_signed();
    let sql = format!("select pg_try_advisory_lock({key})");
    if session.value(&sql, "lock out other restores").await? == "t" {
        return Ok(());
    }
    Err(Error::Busy { what: format!("another restore into {} is running", target.location()) })
}

/// The catalogue's number of a database, when there is one.
pub(super) async fn oid_of(session: &Session, name: &str) -> Result<Option<u32>> {
    let sql = format!("select oid from pg_database where datname = {}", literal(name));
    let oid = session.value(&sql, "look for a database").await?;
    Ok(oid.parse().ok())
}

/// Ends one of our own sessions and waits until it is gone: what it had begun is undone or done then.
pub(super) async fn end_backend(session: &Session, pid: i32) -> Result<()> {
    let ours = format!("from pg_stat_activity where pid = {pid} and application_name = {}", literal(APPLICATION));
    session.run(&format!("select pg_terminate_backend(pid) {ours}"), "end an earlier session").await?;
    let until = Instant::now() + END_WITHIN;
    while !session.rows(&format!("select 1 {ours}"), "look for an earlier session").await?.is_empty() {
        if Instant::now() > until {
            return Err(Error::Busy { what: format!("process {pid} of {} does not end", session.place()) });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

pub(super) async fn drop_database(session: &Session, name: &str) -> Result<()> {
    let name = identifier(name);
    // A template is not dropped.
    let sql = format!("alter database {name} is_template false");
    session.run(&sql, "remove the unfinished database").await?;
    session.run(&format!("drop database {name} with (force)"), "remove the unfinished database").await
}

fn creation(plan: &PostgresPlan, fresh: &str) -> Result<String> {
    let facts = &plan.facts;
    if !PROVIDERS.contains(&facts.locale_provider.as_str()) {
        return Err(Error::Unsupported {
            what: format!("the database's locale comes from {:?}, which is not known here", facts.locale_provider),
        });
    }
    let mut sql = format!(
        "create database {} template template0 encoding {} lc_collate {} lc_ctype {}",
        identifier(fresh),
        literal(&facts.encoding),
        literal(&facts.collate),
        literal(&facts.ctype)
    );
    if plan.server >= 15 {
        sql.push_str(" locale_provider ");
        sql.push_str(&facts.locale_provider);
    }
    if let Some(locale) = &facts.locale {
        let name = if facts.locale_provider == "builtin" { "builtin_locale" } else { "icu_locale" };
        sql = format!("{sql} {name} {}", literal(locale));
    }
    if let (Some(rules), true) = (&facts.icu_rules, plan.server >= 16) {
        sql = format!("{sql} icu_rules {}", literal(rules));
    }
    if let Some(tablespace) = &plan.tablespace {
        sql = format!("{sql} tablespace {}", identifier(tablespace));
    }
    Ok(sql)
}

async fn fill(plan: &PostgresPlan, fresh: &PostgresDatabase, dump: &Path, scratch: &Scratch) -> Result<()> {
    let what = format!("cannot restore the dump into {}", fresh.location());
    let (access, program) = (Access::prepare(fresh, scratch)?, &plan.program);
    if script::is_needed(program, plan.server) {
        let mut restore = tools::offline(program);
        restore.args(plan.flags()).arg(dump);
        return script::run(&access, program, restore, &Around::default(), &what).await;
    }
    let mut command = access.command(program, "");
    command.arg("--exit-on-error").arg(format!("--jobs={JOBS}")).args(plan.flags()).arg(dump);
    let child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| Error::local(format!("cannot run `{}`", program.path.display()), cause))?;
    let group = Group::of(&child);
    let finished = tools::finish(child, &what).await;
    group.ended();
    finished
}

/// A name beside another: `clinic_restore_reimport_20251115_064233`, shortened so that no two become one.
pub(super) fn beside(name: &str, word: &str, point: &str) -> String {
    let whole = format!("{name}_{word}_{point}");
    if whole.len() <= LONGEST_NAME {
        return whole;
    }
    // The time is what people look for; the hash tells apart what was cut.
    let stamp = point.rsplit('_').take(2).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("_");
    let hash = &hexadecimal(&Sha256::digest(&whole))[..8];
    let ending = format!("_{word}_{stamp}_{hash}");
    let room = LONGEST_NAME - ending.len();
    let cut = (0..=room.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{ending}", &name[..cut])
}

/// The name that the live database gets: one that nothing has.
pub(super) async fn free_name(session: &Session, name: &str, point: &str) -> Result<String> {
    let taken = session.rows("select datname from pg_database", "list the databases").await?;
    let mut number = 1;
    loop {
        let word = if number == 1 { "before".to_owned() } else { format!("before{number}") };
        let candidate = beside(name, &word, point);
        if !taken.iter().any(|row| row.text(0) == candidate) {
            return Ok(candidate);
        }
        number += 1;
    }
}

/// What a broken-off restore left is ours to remove; anything else of that name is not.
pub(super) async fn require_ours(target: &PostgresDatabase, session: &Session, fresh: &str) -> Result<bool> {
    let sql = format!(
        "select coalesce(shobj_description(oid, 'pg_database'), '') from pg_database where datname = {}",
        literal(fresh)
    );
    let rows = session.rows(&sql, "look for an earlier try").await?;
    match rows.first() {
        None => Ok(false),
        Some(row) if row.text(0).starts_with(MARK) || row.text(0).starts_with(scratch::MARK) => Ok(true),
        // A server that died between making it and marking it: nothing is in it.
        Some(row) if row.text(0).is_empty() && is_empty(&target.with_name(fresh)).await => Ok(true),
        Some(_) => Err(Error::Exists {
            what: format!("a database {fresh:?} is at {} already, and not one that a restore left", session.place()),
        }),
    }
}

pub(super) async fn is_empty(database: &PostgresDatabase) -> bool {
    let Ok(session) = Session::open(database).await else { return false };
    catalogue::relations(&session).await.is_ok_and(|relations| relations.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_another_fit_and_stay_apart() {
        let point = "reimport_20251115_064233";
        assert_eq!(beside("clinic", "before", point), "clinic_before_reimport_20251115_064233");
        let long = "ž".repeat(31);
        let longer = format!("{long}x");
        for name in [long.as_str(), longer.as_str()] {
            let beside = beside(name, "restore", point);
            assert!(beside.len() <= LONGEST_NAME && beside.contains("20251115_064233"), "{beside}");
        }
        assert_ne!(beside(&long, "restore", point), beside(&longer, "restore", point));
        let label = "x".repeat(32);
        assert!(beside("clinic", "before12", &format!("{label}_20251115_064233")).len() <= LONGEST_NAME);
    }
}
