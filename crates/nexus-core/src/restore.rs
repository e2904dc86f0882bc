//! Restore: a plan first, then files, then the database, last, which makes it visible; then the comparison.

mod look;
pub mod rows;
mod tables;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Clock;
use crate::database::Database;
use crate::database::load::{Ending, Loaded};
use crate::database::postgres::{Liberties, Place, PostgresPlan, PostgresPrepared};
use crate::database::sqlite::{Condition, PutAside, Restore, SqliteDatabase};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::files::restore::{self as files, FilesPlanned, FilesRestored, FilesTarget};
use crate::local::{self, Scratch, blocking};
use crate::point::{DatabaseKind, JournalEvent, Part, PointId, StoredObject};
use crate::vault::{PointState, RecoveryPoint};
use crate::verify::{self, hash_local, record_files};
use rows::RowsPlanned;
pub use tables::{RecordsTarget, TablesPlanned, TablesTarget};

/// A hold that a broken-off restore left counts as its own for this long.
const RESUMABLE: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
/// The most findings that one message names.
const NAMED: usize = 5;

/// What goes where.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The files' target, when they are to be restored.
    pub files: Option<FilesTarget>,
    /// The database's target, when it is to be restored.
    pub database: Option<Database>,
    /// Where the records go, when they are wanted.
    pub records: Option<RecordsTarget>,
    /// How long to wait for the database's locks.
    pub lock_wait: Duration,
    /// What the restore may do to a database server.
    pub liberties: Liberties,
}

impl RestoreRequest {
    /// The parts that are asked for.
    pub fn parts(&self) -> Vec<Part> {
        let asked = [
            (Part::Database, self.database.is_some()),
            (Part::Files, self.files.is_some()),
            (Part::Records, self.records.is_some()),
        ];
        asked.into_iter().filter(|(_, asked)| *asked).map(|(part, _)| part).collect()
    }

    /// What goes where, as one text: a restore that is run again is the same only if this is.
    fn target(&self) -> String {
        let database = self.database.as_ref().map(|database| format!("database to {}", database.location()));
        let files = self.files.as_ref().map(|files| format!("files to {}", files.address));
        let records = self.records.as_ref().map(|records| match records {
            RecordsTarget::Folder(folder) => format!("records to {}", folder.display()),
            RecordsTarget::Tables(tables) => format!("records into {}", tables.database.location()),
            RecordsTarget::Rows(_) => "single records".to_owned(),
        });
        [database, files, records].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// What a restore will do; nothing is done yet, and everything it needs from the vault was looked at.
#[derive(Debug)]
pub struct RestorePlan {
    /// The point.
    pub point: RecoveryPoint,
    /// What was asked for.
    pub request: RestoreRequest,
    /// What becomes of the files.
    pub files: Option<FilesPlanned>,
    /// What becomes of the database.
    pub database: Option<DatabasePlanned>,
    /// What becomes of tables that records are loaded into.
    pub tables: Option<TablesPlanned>,
    /// What becomes of single records.
    pub rows: Option<RowsPlanned>,
    /// The point of the state before that a broken-off restore of this point has taken already.
    pub resumes: Option<PointId>,
    scratch: Scratch,
    /// What the second look at the files has written.
    again: Option<Scratch>,
}

/// What becomes of the database.
#[derive(Debug)]
pub struct DatabasePlanned {
    /// Where it goes.
    pub target: String,
    /// What becomes of what is there now.
    pub way: Way,
    /// Rows that will be there.
    pub rows: u64,
    copy: PathBuf,
}

/// How a database is put back.
#[derive(Debug)]
pub enum Way {
    /// Into the live file, in one transaction; what is there now is this.
    IntoFile(Condition),
    /// On a server: as a new database beside the live one, or into the live one.
    OnServer(Box<PostgresPlan>),
}

/// How a restored database compares with the point, and what became of the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseRestored {
    /// Tables that should be as they were.
    pub tables: u64,
    /// Tables that are.
    pub equal_tables: u64,
    /// Rows.
    pub rows: u64,
    /// The journal mode it has now; SQLite only.
    pub journal_mode: Option<String>,
    /// The database of before, under the name it has now; PostgreSQL only.
    pub kept: Option<String>,
    /// SQL that swaps the two again, for another database of the server; PostgreSQL only.
    pub go_back: Vec<String>,
    /// What could not be brought back, in words.
    pub unkept: Vec<String>,
}

/// What was done, compared afterwards.
#[derive(Debug)]
pub struct RestoreReport {
    /// The database, compared table by table.
    pub database: Option<DatabaseRestored>,
    /// What was put aside byte for byte because it was broken.
    pub put_aside: Option<PutAside>,
    /// The files, compared by a listing.
    pub files: Option<FilesRestored>,
    /// Record files written, each with its hash compared.
    pub records: Option<u64>,
    /// Records loaded into tables.
    pub loaded: Option<Loaded>,
    /// Single rows that were replaced, by their tables' own names.
    pub replaced_rows: Vec<String>,
    /// The keys of files that were replaced beside single rows; where they are many, of all that these rows name.
    pub replaced_files: Vec<String>,
    /// Why the journal does not say that it was restored, if it does not.
    pub unrecorded: Option<Error>,
}

impl RestoreReport {
    /// That of a plan of which nothing is done yet.
    fn of(plan: &RestorePlan) -> Self {
        let replaced_files = match (&plan.rows, &plan.files) {
            (Some(rows), Some(files)) if files.different.files > files.first_different.len() as u64 => {
                rows.files.clone()
            }
            (Some(_), Some(files)) => files.first_different.clone(),
            _ => Vec::new(),
        };
        Self {
            database: None,
            put_aside: None,
            files: None,
            records: None,
            loaded: None,
            replaced_rows: plan.rows.as_ref().map(|rows| rows.replaced.clone()).unwrap_or_default(),
            replaced_files,
            unrecorded: None,
        }
    }
}

impl RestorePlan {
    /// The parts whose present state would be lost, so that a safety point must hold it.
    pub fn at_risk(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        // A database with a new one beside it is not overwritten: it is kept whole under another name.
        let overwritten = |planned: &DatabasePlanned| match &planned.way {
            Way::IntoFile(condition) => matches!(condition, Condition::Healthy { .. }),
            Way::OnServer(plan) => plan.place == Place::Within,
        };
        if self.database.as_ref().is_some_and(overwritten) {
            parts.push(Part::Database);
        }
        // With the records of its instant it can be seen later whether a table was written to since.
        if self.tables.as_ref().is_some_and(|planned| planned.mode.removes()) {
            parts.extend([Part::Database, Part::Records]);
        }
        if self.rows.as_ref().is_some_and(RowsPlanned::replaces) {
            parts.extend([Part::Database, Part::Records]);
        }
        let changes = |planned: &FilesPlanned| planned.different.files + planned.extra.files > 0;
        if self.files.as_ref().is_some_and(changes) {
            parts.push(Part::Files);
        }
        parts
    }

    /// The parts that are put back whole where they came from.
    fn put_back(&self) -> Vec<Part> {
        let parts = &self.point.manifest().parts;
        let database = match (&parts.database, &self.request.database) {
            (Some(part), Some(target)) => target.location() == part.source,
            _ => false,
        };
        let files = match (&parts.files, &self.request.files) {
            (Some(part), Some(target)) => {
                target.address.to_string() == part.source
                    && target.reader.endpoint() == part.endpoint.as_deref()
                    && target.selection.is_all()
            }
            _ => false,
        };
        let back = [(Part::Database, database), (Part::Files, files)];
        back.into_iter().filter(|(_, whole)| *whole).map(|(part, _)| part).collect()
    }

    /// What must be removed from a server when the restore is broken off: [`PostgresPlan::remove_unfinished`].
    pub fn unfinished(&self) -> Option<PostgresPlan> {
        match &self.database.as_ref()?.way {
            Way::OnServer(server) => Some(server.as_ref().clone()),
            Way::IntoFile(_) => None,
        }
    }

    /// Compares the files once more: whoever was just stopped may have written since the plan was made.
    ///
    /// # Errors
    ///
    /// As for [`plan`].
    pub async fn look_again(&mut self, events: &Events) -> Result<()> {
        if let Some(target) = &self.request.files {
            let scratch = Scratch::create(self.scratch.path())?;
            let planned = files::plan(&self.point, target, (&self.scratch, &scratch), events).await?;
            Box::pin(look::at_copies(&self.point, &self.request, Some(&planned), &self.scratch, events)).await?;
            self.files = Some(planned);
            self.again = Some(scratch);
        }
        Ok(())
    }

    /// True when the point that a broken-off restore has taken holds all that would be lost now.
    ///
    /// # Errors
    ///
    /// Those of reading it.
    pub async fn is_held_by(&self, taken: &PointId) -> Result<bool> {
        let state = self.point.vault().state(taken.clone()).await?;
        let manifest = state.as_ref().and_then(PointState::manifest);
        Ok(self.at_risk().iter().all(|part| manifest.is_some_and(|manifest| manifest.has(*part))))
    }

    /// Takes the database for broken after all: it will be put aside.
    pub fn treat_database_as_broken(&mut self, reason: String) {
        if let Some(planned) = &mut self.database {
            planned.way = Way::IntoFile(Condition::Broken(reason));
        }
    }
}

/// Makes the plan: looks at the point at default depth, fetches the database's copy, compares the files' target.
///
/// # Errors
///
/// [`Error::Damaged`] when the point is not as it was written: nothing was changed.
pub async fn plan(
    point: RecoveryPoint,
    mut request: RestoreRequest,
    scratch: &Path,
    clock: &Clock,
    events: &Events,
) -> Result<RestorePlan> {
    let scratch = Scratch::create(scratch)?;
    let parts = request.parts();
    if parts.is_empty() {
        return Err(Error::usage("nothing was asked to be restored"));
    }
    point.require_kept(&parts).await?;
    let rows = rows::plan(&point, &mut request, &scratch).await?;
    // Both below read the listing, which is fetched once. Of a damaged one the look tells, beside whatever else is.
    if request.files.is_some()
        && let Err(error) = point.listing(&scratch).await
    {
        if matches!(error, Error::Damaged { .. }) {
            Box::pin(look::at_point(&point, &parts, &request, &scratch, events)).await?;
        }
        return Err(error);
    }
    // Both read only, and each waits for another answer.
    let plan_files = async {
        match &request.files {
            Some(target) => files::plan(&point, target, (&scratch, &scratch), events).await.map(Some),
            None => Ok(None),
        }
    };
    let looked = Box::pin(look::at_point(&point, &parts, &request, &scratch, events));
    let (looked, files) = futures::join!(looked, Box::pin(plan_files));
    looked?;
    let files = files?;
    Box::pin(look::at_copies(&point, &request, files.as_ref(), &scratch, events)).await?;
    let database = match &request.database {
        Some(target) => Some(plan_database(&point, target, &request, &scratch).await?),
        None => None,
    };
    let tables = match &request.records {
        Some(RecordsTarget::Tables(target)) => Some(tables::plan(&point, target, request.lock_wait).await?),
        Some(RecordsTarget::Folder(_) | RecordsTarget::Rows(_)) | None => None,
    };
    let rows = rows.map(|rows| rows::with_files(rows, &request, files.as_ref()));
    // A load that broke off has changed nothing, and the app may have gone on since.
    let resumes = if tables.is_some() || rows.is_some() { None } else { broken_off(&point, &request.target(), clock) };
    Ok(RestorePlan { point, request, files, database, tables, rows, resumes, scratch, again: None })
}

async fn plan_database(
    point: &RecoveryPoint,
    target: &Database,
    request: &RestoreRequest,
    scratch: &Scratch,
) -> Result<DatabasePlanned> {
    let Some(part) = &point.manifest().parts.database else {
        return Err(Error::missing(format!("{} has no database", point.id())));
    };
    let copy = point.database_copy(scratch).await?;
    let way = match (target.clone(), &part.kind) {
        (Database::Sqlite(database), DatabaseKind::Sqlite { .. }) => {
            let wait = request.lock_wait;
            Way::IntoFile(blocking(move || database.condition(wait)).await?)
        }
        (Database::Postgres(database), DatabaseKind::Postgres { postgres }) => {
            let id = point.id().to_string();
            Way::OnServer(Box::new(database.plan_restore(postgres, &id, request.liberties, request.lock_wait).await?))
        }
        (other, _) => {
            return Err(Error::usage(format!(
                "the database of {} came from {} and cannot be restored into {}",
                point.id(),
                part.source,
                other.location()
            )));
        }
    };
    Ok(DatabasePlanned { target: target.location(), way, rows: part.tables.values().sum(), copy })
}

/// The safety point of a restore of this point that began lately and never ended.
fn broken_off(point: &RecoveryPoint, target: &str, clock: &Clock) -> Option<PointId> {
    let entries = &point.entries().read;
    let released = |nonce: &str| {
        entries.iter().any(|entry| matches!(&entry.event, JournalEvent::Released { hold } if hold == nonce))
    };
    entries.iter().rev().find_map(|entry| match &entry.event {
        JournalEvent::Hold { by, safety: Some(safety), target: Some(same) }
            if by == "restore"
                && same == target
                && !released(&entry.nonce)
                && clock.now().duration_since(entry.at) < RESUMABLE =>
        {
            Some(safety.clone())
        }
        _ => None,
    })
}

/// Says that the point is needed from now on, while the app is stopped and a safety point is taken: that may take hours. Answers
/// what to release when the restore itself holds it, or is not made.
///
/// # Errors
///
/// As [`RecoveryPoint::require_still_kept`]: nothing was touched.
pub async fn hold(plan: &RestorePlan, clock: &Clock, events: &Events) -> Result<Option<String>> {
    let announced = JournalEvent::Hold { by: "restore-to-come".to_owned(), safety: None, target: None };
    let journal = plan.point.journal();
    let held = journal.hold(announced, clock, events).await?;
    if let Err(error) = plan.point.require_still_kept(&plan.request.parts()).await {
        // The first error is the one to tell.
        let _ = journal.release(held, clock).await;
        return Err(error);
    }
    Ok(held)
}

/// Carries a plan out: a new database on a server is filled beside the live one, then files, then the database, then the
/// records; compares; says so in the journal.
pub async fn restore(
    plan: RestorePlan,
    safety: Option<PointId>,
    clock: &Clock,
    events: &Events,
) -> Result<RestoreReport> {
    let announced =
        JournalEvent::Hold { by: "restore".to_owned(), safety: safety.clone(), target: Some(plan.request.target()) };
    let held = plan.point.journal().hold(announced, clock, events).await?;
    if let Err(error) = plan.point.require_still_kept(&plan.request.parts()).await {
        return Err(released(&plan, held, clock, error).await);
    }
    let mut report = RestoreReport::of(&plan);
    // What the tables will not take of single records shows before the first file is written.
    if let Err(error) = rows::try_out(&plan, events).await {
        return Err(released(&plan, held, clock, error).await);
    }
    // What a server refuses shows before the first file is written.
    let prepared = prepare_on_server(&plan, events).await?;
    report.files = match restore_files(&plan, events).await {
        Ok(restored) => restored,
        Err(error) => {
            if let Some(prepared) = prepared {
                prepared.give_up(events).await;
            }
            return Err(error);
        }
    };
    if let (Some(target), Some(planned)) = (plan.request.database.clone(), &plan.database) {
        match (target, &planned.way) {
            (Database::Sqlite(target), Way::IntoFile(condition)) => {
                let (aside, restored) = restore_file(&plan, target, (planned, condition), clock, events).await?;
                report.put_aside = aside;
                report.database = Some(restored);
            }
            (_, Way::OnServer(_)) => {
                let prepared = prepared.ok_or_else(|| Error::usage("no database was prepared"))?;
                report.database = Some(finish_on_server(&plan, prepared, events).await?);
            }
            (Database::Postgres(_), Way::IntoFile(_)) => {
                return Err(Error::usage("a database on a server cannot be restored into a file"));
            }
        }
    }
    match &plan.request.records {
        Some(RecordsTarget::Folder(folder)) => {
            report.records = Some(restore_records(&plan.point, folder, &plan.scratch, events).await?);
        }
        Some(RecordsTarget::Tables(_) | RecordsTarget::Rows(_)) => {
            report.loaded = match load_records(&plan, safety.as_ref(), events).await {
                Ok(loaded) => loaded,
                Err(error) => {
                    // A load is done or not, and nothing of it is left to go on with.
                    let files = report.files.map_or(0, |files| files.copied.files);
                    let error = rows::after_files(error, files, safety.as_ref());
                    return Err(released(&plan, held, clock, error).await);
                }
            };
        }
        None => {}
    }
    // Where conflicts stood in the way nothing was restored.
    report.unrecorded = if report.loaded.as_ref().is_some_and(|loaded| !loaded.committed) {
        plan.point.journal().release(held, clock).await.err()
    } else {
        record(&plan, held, clock).await.err()
    };
    Ok(report)
}

/// The error of a restore that holds its point no more: the first is the one to tell.
async fn released(plan: &RestorePlan, held: Option<String>, clock: &Clock, error: Error) -> Error {
    let _ = plan.point.journal().release(held, clock).await;
    error
}

/// Loads records into tables, whole ones or single rows.
async fn load_records(plan: &RestorePlan, safety: Option<&PointId>, events: &Events) -> Result<Option<Loaded>> {
    match &plan.request.records {
        Some(RecordsTarget::Tables(target)) if plan.tables.is_some() => {
            let safe = tables::held_by(&plan.point, safety, target.mode).await?;
            tables::load(plan, target, safe, events).await.map(Some)
        }
        Some(RecordsTarget::Rows(_)) => rows::put(plan, Ending::Commit).await.map(Some),
        _ => Ok(None),
    }
}

async fn record(plan: &RestorePlan, held: Option<String>, clock: &Clock) -> Result<()> {
    let journal = plan.point.journal();
    journal.add(JournalEvent::Restored { parts: plan.request.parts(), back: plan.put_back() }, clock).await?;
    journal.release(held, clock).await
}

/// Puts back the files that differ; all of them must be as they were before a database is touched.
async fn restore_files(plan: &RestorePlan, events: &Events) -> Result<Option<FilesRestored>> {
    let (Some(target), Some(planned)) = (&plan.request.files, &plan.files) else { return Ok(None) };
    let restored = files::carry_out(&plan.point, target, planned, &plan.scratch, events).await?;
    if restored.equal != restored.wanted {
        let (equal, wanted) = (restored.equal.files, restored.wanted.files);
        return Err(Error::Changed {
            what: format!("only {equal} of {wanted} files are as they were, so the database was left alone"),
        });
    }
    Ok(Some(restored))
}

/// Does what can be done on a server while nothing that is there is touched.
async fn prepare_on_server(plan: &RestorePlan, events: &Events) -> Result<Option<PostgresPrepared>> {
    let Some((planned, Way::OnServer(server))) = plan.database.as_ref().map(|planned| (planned, &planned.way)) else {
        return Ok(None);
    };
    let part = plan.point.manifest().parts.database.as_ref();
    let tables = part.map(|part| part.tables.clone()).unwrap_or_default();
    server.prepare(&planned.copy, &tables, &plan.scratch, events).await.map(Some)
}

async fn finish_on_server(plan: &RestorePlan, prepared: PostgresPrepared, events: &Events) -> Result<DatabaseRestored> {
    let restored = prepared.finish(&plan.scratch, events).await?;
    Ok(DatabaseRestored {
        tables: restored.tables,
        equal_tables: restored.equal_tables,
        rows: restored.rows,
        journal_mode: None,
        kept: restored.kept,
        go_back: restored.go_back,
        unkept: restored.unkept,
    })
}

async fn restore_file(
    plan: &RestorePlan,
    target: SqliteDatabase,
    (planned, condition): (&DatabasePlanned, &Condition),
    clock: &Clock,
    events: &Events,
) -> Result<(Option<PutAside>, DatabaseRestored)> {
    let (copy, wait, told) = (planned.copy.clone(), plan.request.lock_wait, events.clone());
    let broken = matches!(condition, Condition::Broken(_) | Condition::Empty);
    let absent = *condition == Condition::Absent;
    let stamp = PointId::new(plan.point.id().label().clone(), clock.now()).stamp().to_owned();
    blocking(move || {
        // A log without its database would be played into the new one: it goes aside as well.
        let aside = if broken || absent { Some(target.put_aside(&format!("broken-{stamp}"))?) } else { None };
        let ownership = aside.as_ref().and_then(|aside| aside.ownership);
        let restored = Restore { copy: &copy, target: &target, lock_wait: wait, ownership }.carry_out(&told)?;
        let restored = DatabaseRestored {
            tables: restored.tables,
            equal_tables: restored.equal_tables,
            rows: restored.rows,
            journal_mode: Some(restored.journal_mode),
            ..DatabaseRestored::default()
        };
        Ok((aside.filter(|aside| !aside.moved.is_empty()), restored))
    })
    .await
}

async fn restore_records(point: &RecoveryPoint, folder: &Path, scratch: &Scratch, events: &Events) -> Result<u64> {
    let records = tables::records_of(point)?;
    tables::require_files(point, records)?;
    // Records come back without what finds one of them quickly.
    let files: Vec<StoredObject> =
        record_files(point, records).filter(|object| !verify::is_index(records, &object.key)).collect();
    let named = |file: &StoredObject| folder.join(file.key.rsplit('/').next().unwrap_or(&file.key));
    let mut missing = Vec::with_capacity(files.len());
    for (at, file) in files.iter().enumerate() {
        let path = named(file);
        let there = hash_local(&path);
        match there.map_err(|cause| Error::local(format!("cannot read `{}`", path.display()), cause))? {
            None => missing.push((at, file)),
            Some(hash) if hash.sha256 == file.sha256 => {}
            // It may be the only copy of another point's.
            Some(_) => {
                return Err(Error::usage_hint(
                    format!("`{}` is there already, and is another file", path.display()),
                    "name a folder that is empty or not there yet with --to-records",
                ));
            }
        }
    }
    local::create_private_folder(folder)?;
    events.started(Stage::RestoreRecords, Some(missing.len() as u64), None);
    for (at, file) in missing {
        let name = file.key.rsplit('/').next().unwrap_or(&file.key);
        let path = tables::Files { point, scratch }.one(name, &file.sha256, &format!("record-{at}")).await?;
        place(&path, &named(file), &file.sha256)?;
        events.advanced(Stage::RestoreRecords, 1, file.bytes);
    }
    local::sync_folder(folder)?;
    events.ended(Stage::RestoreRecords);
    Ok(files.len() as u64)
}

/// Copies a file into place, whole and as it is to be or not at all.
fn place(from: &Path, to: &Path, sha256: &str) -> Result<()> {
    let what = || format!("cannot write `{}`", to.display());
    let beside = to.with_extension("nexus-unfinished");
    let copied = std::fs::copy(from, &beside).and_then(|_| {
        std::fs::File::open(&beside)?.sync_all()?;
        hash_local(&beside)
    });
    let placed = match copied {
        Ok(Some(hash)) if hash.sha256 == sha256 => {
            std::fs::rename(&beside, to).map_err(|cause| Error::local(what(), cause))
        }
        Ok(_) => Err(Error::damaged(format!("`{}` changed while it was copied", from.display()))),
        Err(cause) => Err(Error::local(what(), cause)),
    };
    if placed.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    placed
}
