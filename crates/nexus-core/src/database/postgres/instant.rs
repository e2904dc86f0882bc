//! One moment of a PostgreSQL database, held open: every table locked against being emptied or changed, then an exported
//! snapshot that the dump, the records and the counts share.
//!
//! A snapshot alone is not enough: `TRUNCATE`, and an `ALTER TABLE` that rewrites, show an older snapshot an empty table
//! (<https://www.postgresql.org/docs/current/mvcc-caveats.html>). So the locks come first. Everybody who reads from the
//! snapshot takes the same locks before the instant counts: a lock that is asked for later could queue behind somebody who
//! waits for ours, and neither would ever go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use tokio_postgres::error::SqlState;

use super::catalogue::{self, Layout, Relation};
use super::connect::{APPLICATION, Session};
use super::dump::{Dump, start_dump};
use super::place::PostgresDatabase;
use super::requirements::WORDS;
use super::tools;
use crate::error::{DatabaseWords, Error, Result};
use crate::event::Events;
use crate::local::Scratch;
use crate::point::PostgresFacts;

/// How often an instant is tried for at least, however short the lock wait: tables are made and dropped, locks are queued
/// for.
const TRIES: u32 = 5;
/// How long to wait between two tries, at most: longer with each of them.
const PAUSE: Duration = Duration::from_millis(500);
/// Of a server's room for locks, how many tenths may be filled: the rest is for others.
const TENTHS_OF_LOCKS: u64 = 8;
/// Tables locked by one statement.
const BATCH: usize = 500;
/// How long a wait lasts before somebody is told who is waited for.
const QUIET: Duration = Duration::from_secs(2);
/// How often it is looked whether somebody queues for a lock that ours stands against.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a session runs before it reads from the snapshot of another.
const BEGIN: &str = "begin isolation level repeatable read read only";

/// What is to be taken from the instant.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Start a dump.
    pub dump: bool,
    /// Sessions that will read rows.
    pub readers: usize,
    /// How long to wait for locks.
    pub lock_wait: Duration,
}

/// One moment, for as long as this lives.
#[derive(Debug)]
pub struct PostgresInstant {
    pub(super) holder: Session,
    /// The tables, locked.
    pub(crate) relations: Vec<Relation>,
    /// Their columns and keys.
    pub(crate) layouts: BTreeMap<u32, Layout>,
    /// What the database is beyond them.
    pub(crate) facts: PostgresFacts,
    /// Sessions in the snapshot, every table locked.
    readers: Vec<Reader>,
    pub(super) dump: Option<Dump>,
    /// The moment, by this machine's clock: directly before the snapshot was taken.
    moment: Timestamp,
    /// Tables whose rows lie elsewhere.
    pub(crate) elsewhere: BTreeMap<String, String>,
    /// What `pg_dump` warned of, once it has ended.
    pub(super) warned: Arc<OnceLock<String>>,
    since: Instant,
}

/// A dump while it is made.
pub type Reading = BoxStream<'static, Result<Bytes>>;

/// A session that reads rows at an instant.
#[derive(Debug)]
pub struct Reader(pub(crate) Session);

/// Why a try gave no instant.
pub(super) enum Stop {
    /// Another try may succeed: the tables are others, or somebody queues between our locks.
    Again(String),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl PostgresDatabase {
    /// Holds the database at one moment.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] naming who holds a table for longer than the lock wait; [`Error::Denied`] naming tables that the
    /// role may not read; [`Error::Unsupported`] for a server that is newer than every `pg_dump` here, with the package
    /// to install; [`Error::Unreachable`], [`Error::Missing`] and the like from the connection.
    /// `now` is asked directly before the snapshot is taken.
    pub async fn instant(
        &self,
        wanted: Wanted,
        now: &(dyn Fn() -> Timestamp + Sync),
        scratch: &Scratch,
        events: &Events,
    ) -> Result<PostgresInstant> {
        let until = Instant::now() + wanted.lock_wait;
        let mut tries = 0;
        loop {
            match self.try_instant(wanted, now, scratch, events).await {
                Ok(instant) => return Ok(instant),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Again(why)) => {
                    tries += 1;
                    if tries == 1 {
                        events.note(format!("{why}: the database is asked again until it holds still"));
                    }
                    if tries >= TRIES && Instant::now() > until {
                        let what = format!("{} did not hold still in {tries} tries: {why}", self.location());
                        return Err(Error::Changed { what });
                    }
                    tokio::time::sleep(PAUSE * tries.min(TRIES) / TRIES).await;
                }
            }
        }
    }

    async fn try_instant(
        &self,
        wanted: Wanted,
        now: &(dyn Fn() -> Timestamp + Sync),
        scratch: &Scratch,
        events: &Events,
    ) -> std::result::Result<PostgresInstant, Stop> {
        let holder = Session::open(self).await?;
        let program = if wanted.dump { Some(tools::program(self, "pg_dump", holder.major()).await?) } else { None };
        let before = catalogue::relations(&holder).await?;
        require_readable(&holder, &before)?;
        let since = Instant::now();
        holder.run(BEGIN, "begin a transaction").await?;
        lock(self, &holder, &before, wanted.lock_wait, events).await?;
        let moment = now();
        let snapshot = holder.value("select pg_export_snapshot()", "export a snapshot").await?;
        let relations = catalogue::relations(&holder).await?;
        require_locked(&holder, &relations).await?;
        let layouts = catalogue::layouts(&holder).await?;
        let elsewhere = catalogue::elsewhere(&holder).await?;
        let mut facts = catalogue::facts(&holder).await?;
        facts.lacks.extend(catalogue::in_part(&holder).await?);
        facts.lacks.extend(lacking(&relations, &elsewhere));
        let company = Company { database: self, holder: &holder, snapshot: &snapshot, lock_wait: wanted.lock_wait };
        let readers = readers_for(&holder, &relations, wanted).await?;
        let dump = async {
            match program {
                Some(program) => Ok(Some(start_dump(&company, program, &facts.encoding, scratch).await?)),
                None => Ok(None),
            }
        };
        let readers = stream::iter(0..readers)
            .map(|_| open_reader(&company, &relations, events))
            .buffered(readers.max(1))
            .map_ok(Reader)
            .try_collect::<Vec<_>>();
        let both = async { futures::try_join!(dump, readers) };
        let both = tokio::select! {
            both = both => both,
            // Whoever queues behind our locks would keep our own readers waiting for ever.
            queue = queue(&holder) => Err(queue?),
        };
        if both.is_err() {
            // They wait for locks and hold others, which whoever they wait for may be waiting for.
            company.send_away().await;
        }
        let (dump, readers) = both?;
        if let Some(dump) = &dump {
            facts.client.clone_from(&dump.client);
            dump.compression.clone_into(&mut facts.compression);
        }
        let warned = Arc::default();
        Ok(PostgresInstant { holder, relations, layouts, facts, readers, dump, moment, elsewhere, warned, since })
    }
}

/// What the dump has nothing of, in a person's words.
fn lacking(relations: &[Relation], elsewhere: &BTreeMap<String, String>) -> Vec<String> {
    let unlogged = relations.iter().filter(|table| table.unlogged_on_standby);
    let unlogged = unlogged.map(|table| format!("the rows of {}: it is unlogged, and a standby has none", table.name));
    let foreign = elsewhere.iter().map(|(name, why)| format!("the rows of {name}: {why}"));
    unlogged.chain(foreign).collect()
}

/// Those who read at one instant beside the session that holds it.
pub(super) struct Company<'a> {
    pub(super) database: &'a PostgresDatabase,
    pub(super) holder: &'a Session,
    pub(super) snapshot: &'a str,
    pub(super) lock_wait: Duration,
}

impl Company<'_> {
    /// Under which name the server lists them: no other run's sessions have it.
    pub(super) fn name(&self) -> String {
        format!("{APPLICATION} with {}", self.holder.pid())
    }

    /// Ends what they are waiting for.
    async fn send_away(&self) {
        let sql = format!(
            "select pg_cancel_backend(pid) from pg_stat_activity where application_name = {}",
            catalogue::literal(&self.name())
        );
        // The error that led here is the one to tell; without this they wait for as long as they may.
        let _ = self.holder.rows(&sql, "end what waits for locks").await;
    }
}

/// How many sessions may read rows beside the holder and the dump: each locks every table, and in the end the indexes that
/// it has read by.
async fn readers_for(holder: &Session, relations: &[Relation], wanted: Wanted) -> Result<usize> {
    if wanted.readers < 2 {
        return Ok(wanted.readers);
    }
    let sql = "select current_setting('max_locks_per_transaction')::bigint
                      * (current_setting('max_connections')::bigint
                         + current_setting('max_prepared_transactions')::bigint),
                      (select count(*) from pg_locks where locktype = 'relation' and pid <> pg_backend_pid()),
                      (select count(*) from pg_index)";
    let rows = holder.rows(sql, "ask how many locks there may be").await?;
    let number = |column| rows.first().map_or(0, |row| row.number::<u64>(column));
    let room = (number(0) * TENTHS_OF_LOCKS / 10).saturating_sub(number(1) + number(2));
    let tables = relations.iter().filter(|relation| !relation.made_by_script).count().max(1) as u64;
    let sessions = usize::try_from(room / tables).unwrap_or(usize::MAX);
    Ok(wanted.readers.min(sessions.saturating_sub(1 + usize::from(wanted.dump))).max(1))
}

pub(super) fn require_readable(session: &Session, relations: &[Relation]) -> Result<()> {
    let closed = relations.iter().filter(|table| !table.readable && !table.made_by_script);
    let closed: Vec<&str> = closed.map(|table| table.name.as_str()).collect();
    if closed.is_empty() {
        return Ok(());
    }
    let some = closed.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    Err(Error::Denied {
        what: format!("{} tables in {} may not be read by this role: {some}", closed.len(), session.place()),
        cause: Some(DatabaseWords("grant it pg_read_all_data, or SELECT on every table".into()).into()),
    })
}

/// Locks every table against being emptied, rewritten or dropped.
async fn lock(
    database: &PostgresDatabase,
    session: &Session,
    relations: &[Relation],
    wait: Duration,
    events: &Events,
) -> std::result::Result<(), Stop> {
    let until = Instant::now() + wait;
    // What an extension's script makes is neither dumped nor exported.
    let relations: Vec<&Relation> = relations.iter().filter(|relation| !relation.made_by_script).collect();
    for batch in relations.chunks(BATCH) {
        let left = until.saturating_duration_since(Instant::now()).as_millis().max(1);
        let names: Vec<String> = batch.iter().map(|relation| format!("only {}", relation.quoted)).collect();
        let sql = format!("set local lock_timeout={left}; lock table {} in access share mode", names.join(", "));
        let mut blockers = String::new();
        let locking = std::pin::pin!(session.client().batch_execute(&sql));
        let told = async {
            tokio::time::sleep(QUIET.min(wait / 2)).await;
            blockers = blocking(database, session.pid()).await;
            if !blockers.is_empty() {
                events.warn(format!("waiting for a lock that is held by {blockers}"));
            }
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! { outcome = locking => outcome, () = told => unreachable!("it never ends") };
        let Err(cause) = outcome else { continue };
        return Err(match cause.code() {
            Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => {
                Stop::Again("a table was dropped while the tables were being locked".to_owned())
            }
            // Somebody who changes several tables in another order; the server has ended one of both.
            Some(&SqlState::T_R_DEADLOCK_DETECTED) => Stop::Again("the locks of another session cross ours".to_owned()),
            Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                let who = if blockers.is_empty() { "another session".to_owned() } else { blockers };
                Stop::Failed(Error::Busy {
                    what: format!(
                        "a table in {} was held by {who} for longer than the lock wait of {} s",
                        session.place(),
                        wait.as_secs_f64()
                    ),
                })
            }
            _ => Stop::Failed(session.failed("lock the tables", &cause)),
        });
    }
    session.run("set local lock_timeout=0", "set up a session").await?;
    Ok(())
}

/// Who stands in the way of a session, in words without what they are running: that may hold patients' names.
async fn blocking(database: &PostgresDatabase, pid: i32) -> String {
    let sql = format!(
        "select {WORDS} || ', for ' ||
                round(extract(epoch from clock_timestamp() - coalesce(a.xact_start, a.query_start))) || ' s'
           from pg_stat_activity a where a.pid = any(pg_blocking_pids({pid})) order by a.pid"
    );
    let Ok(session) = Session::open(database).await else { return String::new() };
    let rows = session.rows(&sql, "ask who holds a lock").await.unwrap_or_default();
    rows.iter().map(|row| row.text(0).to_owned()).collect::<Vec<_>>().join(", ")
}

/// A table that came between the list and the snapshot is in the snapshot and not locked: then all is done again.
async fn require_locked(session: &Session, relations: &[Relation]) -> std::result::Result<(), Stop> {
    let sql = "select relation from pg_locks
                where locktype = 'relation' and mode = 'AccessShareLock' and granted and pid = pg_backend_pid()";
    let held: BTreeSet<u32> = session.rows(sql, "list its own locks").await?.iter().map(|row| row.number(0)).collect();
    match relations.iter().find(|relation| !relation.made_by_script && !held.contains(&relation.oid)) {
        None => Ok(()),
        Some(missed) => {
            Err(Stop::Again(format!("the table {} was made while the others were being locked", missed.name)))
        }
    }
}

/// Ends when somebody waits for a lock that this session stands against.
async fn queue(holder: &Session) -> Result<Stop> {
    let sql = format!(
        "select 1 from pg_locks w where not w.granted and w.mode = 'AccessExclusiveLock'
                                    and {} = any(pg_blocking_pids(w.pid)) limit 1",
        holder.pid()
    );
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !holder.rows(&sql, "look who waits for it").await?.is_empty() {
            return Ok(Stop::Again("another session queues for a table between our own".to_owned()));
        }
    }
}

async fn open_reader(
    company: &Company<'_>,
    relations: &[Relation],
    events: &Events,
) -> std::result::Result<Session, Stop> {
    let session = Session::open(company.database).await?;
    let begin = format!(
        "set application_name = {}; {BEGIN}; set transaction snapshot {}",
        catalogue::literal(&company.name()),
        catalogue::literal(company.snapshot)
    );
    session.run(&begin, "join the snapshot").await?;
    lock(company.database, &session, relations, company.lock_wait, events).await?;
    Ok(session)
}

impl PostgresInstant {
    /// The moment, by the clock that was handed in.
    pub fn moment(&self) -> Timestamp {
        self.moment
    }

    /// Tables of which the dump has no row, though they stand for themselves.
    pub(crate) fn empty_here(&self) -> impl Iterator<Item = (String, u64)> {
        self.relations
            .iter()
            .filter(|table| table.unlogged_on_standby && !table.partition && table.extension.is_none())
            .map(|table| (table.name.clone(), 0))
    }

    /// What the database is beyond its tables.
    pub fn facts(&self) -> &PostgresFacts {
        &self.facts
    }

    /// How long the tables have been locked, in milliseconds.
    pub fn held_milliseconds(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What `pg_dump` warned of, once the dump was read to its end.
    pub fn warned(&self) -> Option<&str> {
        self.warned.get().map(String::as_str)
    }

    /// The sessions that read rows.
    pub fn take_readers(&mut self) -> Vec<Reader> {
        std::mem::take(&mut self.readers)
    }

    /// Rows of every table that stands for itself, counted in the snapshot.
    pub(crate) async fn count(&self) -> Result<BTreeMap<String, u64>> {
        let mut counts: BTreeMap<String, u64> = self.empty_here().collect();
        self.holder.follow_path(None).await?;
        for relation in self.relations.iter().filter(|relation| relation.left_out().is_none()) {
            let sql = format!("select count(*) from {}", relation.source());
            let count = catalogue::count(&self.holder, &sql, &format!("count the rows of {}", relation.name)).await?;
            counts.insert(relation.name.clone(), count);
        }
        self.holder.follow_no_path().await?;
        Ok(counts)
    }
}
