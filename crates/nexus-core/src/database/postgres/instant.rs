//! One moment of a PostgreSQL database, held open: every table locked against being emptied or changed, then an exported
//! snapshot that the dump, the records and the counts share.
//!
//! A snapshot alone is not enough: `TRUNCATE`, and an `ALTER TABLE` that rewrites, show an older snapshot an empty table
//! (<https://www.postgresql.org/docs/current/mvcc-caveats.html>). So the locks come first. Everybody who reads from the
//! snapshot takes the same locks before the instant counts: a lock that is asked for later could queue behind somebody who
//! waits for ours, and neither would ever go on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout};
use tokio_postgres::error::SqlState;

use super::catalogue::{self, Layout, Relation};
use super::connect::Session;
use super::place::PostgresDatabase;
use super::tools::{self, Access, Program};
use crate::database::sqlite::hexadecimal;
use crate::error::{DatabaseWords, Error, Result};
use crate::event::Events;
use crate::local::{self, Scratch};
use crate::point::{FileHash, PostgresFacts};

/// How often an instant is tried for at least, however short the lock wait: tables are made and dropped, locks are queued
/// for.
const TRIES: u32 = 5;
/// Tables locked by one statement.
const BATCH: usize = 500;
/// How long a wait lasts before somebody is told who is waited for.
const QUIET: Duration = Duration::from_secs(2);
/// How often it is looked whether somebody queues for a lock that ours stands against.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How much of a dump is read at a time.
const CHUNK: usize = 256 * 1024;
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
    holder: Session,
    /// The tables, locked.
    pub(crate) relations: Vec<Relation>,
    /// Their columns and keys.
    pub(crate) layouts: BTreeMap<u32, Layout>,
    /// What the database is beyond them.
    pub(crate) facts: PostgresFacts,
    /// Sessions in the snapshot, every table locked.
    readers: Vec<Reader>,
    dump: Option<Dump>,
    since: Instant,
}

/// A dump while it is made.
pub type Reading = BoxStream<'static, Result<Bytes>>;

/// A session that reads rows at an instant.
#[derive(Debug)]
pub struct Reader(pub(crate) Session);

/// A `pg_dump` that has its locks and stands ready.
#[derive(Debug)]
struct Dump {
    child: Child,
    stdout: ChildStdout,
    first: Bytes,
    /// What made it.
    client: String,
    /// How it is compressed.
    compression: &'static str,
}

/// Why a try gave no instant.
enum Stop {
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
    /// Looks whether it could be dumped now, and says what is there: `PostgreSQL 15.18, 12 tables, 83 MB`.
    ///
    /// # Errors
    ///
    /// As for [`PostgresDatabase::instant`], but for locks.
    pub async fn look(&self) -> Result<(String, u64, u64)> {
        let session = Session::open(self).await?;
        tools::program(self, "pg_dump", session.major()).await?;
        let relations = catalogue::relations(&session).await?;
        require_readable(&session, &relations)?;
        let facts = catalogue::facts(&session).await?;
        let tables = relations.iter().filter(|relation| relation.left_out().is_none()).count();
        Ok((facts.server, tables as u64, facts.size))
    }

    /// Holds the database at one moment.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] naming who holds a table for longer than the lock wait; [`Error::Denied`] naming tables that the
    /// role may not read; [`Error::Unsupported`] for a server that is newer than every `pg_dump` here, with the package
    /// to install; [`Error::Unreachable`], [`Error::Missing`] and the like from the connection.
    pub async fn instant(&self, wanted: Wanted, scratch: &Scratch, events: &Events) -> Result<PostgresInstant> {
        let until = Instant::now() + wanted.lock_wait;
        let mut tries = 0;
        loop {
            match self.try_instant(wanted, scratch, events).await {
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
                }
            }
        }
    }

    async fn try_instant(
        &self,
        wanted: Wanted,
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
        let snapshot = holder.value("select pg_export_snapshot()", "export a snapshot").await?;
        let relations = catalogue::relations(&holder).await?;
        require_locked(&holder, &relations).await?;
        let layouts = catalogue::layouts(&holder).await?;
        let mut facts = catalogue::facts(&holder).await?;
        let dump = async {
            match program {
                Some(program) => {
                    let dump = start_dump(self, program, &snapshot, wanted.lock_wait, scratch).await?;
                    Ok(Some(dump))
                }
                None => Ok(None),
            }
        };
        let readers = stream::iter(0..wanted.readers)
            .map(|_| open_reader(self, &snapshot, &relations, wanted.lock_wait, events))
            .buffered(wanted.readers.max(1))
            .map_ok(Reader)
            .try_collect::<Vec<_>>();
        let both = async { futures::try_join!(dump, readers) };
        let (dump, readers) = tokio::select! {
            both = both => both?,
            // Whoever queues behind our locks would keep our own readers waiting for ever.
            queue = queue(&holder) => return Err(queue?),
        };
        if let Some(dump) = &dump {
            facts.client.clone_from(&dump.client);
            dump.compression.clone_into(&mut facts.compression);
        }
        Ok(PostgresInstant { holder, relations, layouts, facts, readers, dump, since })
    }
}

fn require_readable(session: &Session, relations: &[Relation]) -> Result<()> {
    let closed: Vec<&str> = relations.iter().filter(|table| !table.readable).map(|table| table.name.as_str()).collect();
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
        "select format('process %s (role %s, application %s, %s for %s s)', a.pid, a.usename,
                       coalesce(nullif(a.application_name, ''), 'unnamed'), a.state,
                       round(extract(epoch from clock_timestamp() - coalesce(a.xact_start, a.query_start))))
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
    match relations.iter().find(|relation| !held.contains(&relation.oid)) {
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
    database: &PostgresDatabase,
    snapshot: &str,
    relations: &[Relation],
    wait: Duration,
    events: &Events,
) -> std::result::Result<Session, Stop> {
    let session = Session::open(database).await?;
    let begin = format!("{BEGIN}; set transaction snapshot {}", catalogue::literal(snapshot));
    session.run(&begin, "join the snapshot").await?;
    lock(database, &session, relations, wait, events).await?;
    Ok(session)
}

/// The compression that pays: zstd where the program has it, else the quickest gzip.
async fn compression(program: &Program) -> &'static str {
    if program.major >= 16 && tools::takes(program, "zstd:3").await { "zstd:3" } else { "gzip:1" }
}

/// Starts a dump and waits for its first bytes: it locks every table before it writes anything.
async fn start_dump(
    database: &PostgresDatabase,
    program: Program,
    snapshot: &str,
    wait: Duration,
    scratch: &Scratch,
) -> std::result::Result<Dump, Stop> {
    let what = dump_of(database);
    let access = Access::prepare(database, scratch)?;
    let mut command = access.command(&program, "");
    command.arg("--format=custom").arg(format!("--snapshot={snapshot}"));
    command.arg(format!("--lock-wait-timeout={}", wait.as_millis().max(1)));
    let level = compression(&program).await;
    // Before 16 the option takes a bare level, for gzip.
    command.arg(format!("--compress={}", if program.major >= 16 { level } else { &level[5..] }));
    let failed = |cause| Error::local(format!("cannot run `{}`", program.path.display()), cause);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let mut stdout = child.stdout.take().expect("it was piped");
    let first = read_some(&mut stdout).await.map_err(failed)?;
    if first.is_empty() {
        let words = tools::last_words(child.stderr.take()).await;
        let status = child.wait().await.map_err(failed)?;
        if words.contains("lock timeout") {
            return Err(Stop::Again("pg_dump waited too long for a lock".to_owned()));
        }
        tools::require_success(&what, status, &words)?;
        return Err(Stop::Failed(Error::damaged(format!("{what}: pg_dump wrote nothing"))));
    }
    Ok(Dump { child, stdout, first, client: format!("pg_dump {}", program.version), compression: level })
}

fn dump_of(database: &PostgresDatabase) -> String {
    format!("cannot dump {}", database.location())
}

async fn read_some(stdout: &mut ChildStdout) -> std::io::Result<Bytes> {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    stdout.read_buf(&mut buffer).await?;
    Ok(buffer.freeze())
}

impl PostgresDatabase {
    /// Writes the server's roles and tablespaces to a private file, without passwords.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] or [`Error::Service`] when the role may not read them.
    pub async fn globals(&self, instant: &PostgresInstant, scratch: &Scratch) -> Result<(PathBuf, FileHash)> {
        let program = tools::program(self, "pg_dumpall", instant.holder.major()).await?;
        let what = format!("cannot read the roles of {}", self.location());
        let mut command = Access::prepare(self, scratch)?.command(&program, "");
        command.args(["--globals-only", "--no-role-passwords", "--database"]).arg(&self.name);
        let failed = |cause| Error::local(format!("cannot run `{}`", program.path.display()), cause);
        let output = command.stdin(Stdio::null()).output().await.map_err(failed)?;
        tools::require_success(&what, output.status, String::from_utf8_lossy(&output.stderr).trim())?;
        let path = scratch.file("globals.sql");
        let written = local::create_private(&path)?.write_all(&output.stdout);
        written.map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
        let sha256 = hexadecimal(&Sha256::digest(&output.stdout));
        Ok((path, FileHash { bytes: output.stdout.len() as u64, sha256 }))
    }
}

impl PostgresInstant {
    /// What the database is beyond its tables.
    pub fn facts(&self) -> &PostgresFacts {
        &self.facts
    }

    /// How long the tables have been locked, in milliseconds.
    pub fn held_milliseconds(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The dump as it is made: it ends well only after `pg_dump` did. What `pg_dump` warns of is told.
    pub fn take_dump(&mut self, database: &PostgresDatabase, events: &Events) -> Option<Reading> {
        let Dump { mut child, stdout, first, .. } = self.dump.take()?;
        let what = dump_of(database);
        let words = tokio::spawn(tools::last_words(child.stderr.take()));
        let events = events.clone();
        let state = Some((child, stdout, Some(first), words));
        let chunks = stream::try_unfold(state, move |state| {
            let (what, events) = (what.clone(), events.clone());
            async move {
                let Some((mut child, mut stdout, first, words)) = state else { return Ok(None) };
                let chunk = match first {
                    Some(first) => first,
                    None => read_some(&mut stdout).await.map_err(|cause| Error::local(what.clone(), cause))?,
                };
                if !chunk.is_empty() {
                    return Ok(Some((chunk, Some((child, stdout, None, words)))));
                }
                let status = child.wait().await.map_err(|cause| Error::local(what.clone(), cause))?;
                let words = words.await.unwrap_or_default();
                tools::require_success(&what, status, &words)?;
                if !words.is_empty() {
                    events.warn(format!("pg_dump: {words}"));
                }
                Ok(None)
            }
        });
        Some(chunks.boxed())
    }

    /// The sessions that read rows.
    pub fn take_readers(&mut self) -> Vec<Reader> {
        std::mem::take(&mut self.readers)
    }

    /// Rows of every table that stands for itself, counted in the snapshot.
    pub(crate) async fn count(&self) -> Result<BTreeMap<String, u64>> {
        let mut counts = BTreeMap::new();
        for relation in self.relations.iter().filter(|relation| relation.left_out().is_none()) {
            let sql = format!("select count(*) from {}", relation.source());
            let count = catalogue::count(&self.holder, &sql, &format!("count the rows of {}", relation.name)).await?;
            counts.insert(relation.name.clone(), count);
        }
        Ok(counts)
    }
}
