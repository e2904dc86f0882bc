//! Backup: one instant of the app into one point, committed once, then proven.

pub(crate) mod earlier;
mod held;
mod left;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::{self, Either};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::clock::Clock;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::files::capture::{self, Earlier, FilesCapture, FilesPlan, SeenCopies};
use crate::files::moment;
use crate::local::{self, Given, Scratch};
use crate::point::references::{Reference, References};
use crate::point::{
    DatabaseKind, DatabasePart, FORMAT, FileHash, Finding, FindingKind, Label, Manifest, Part, Parts, PointId,
    RecordTable, RecordsPart, StoredObject,
};
use crate::records::export::{RecordsExport, SUMMARY_FILE};
use crate::references;
use crate::vault::draft::Draft;
use crate::vault::{RecoveryPoint, SOFTWARE, Vault, layout};
use crate::verify::{self, Verified, VerifyRequest};
use earlier::ReadBase;
use held::{Held, Rows};

/// Record files stored at once.
const AT_ONCE: usize = 4;

/// What to back up.
#[derive(Debug, Clone)]
pub struct BackupPlan {
    /// What kind of run this is.
    pub label: Label,
    /// The parts to take; a part named here and not configured below is a usage error.
    pub parts: Vec<Part>,
    /// The database.
    pub database: Option<Database>,
    /// How long to wait for the database's locks.
    pub lock_wait: Duration,
    /// The files.
    pub files: Option<FilesPlan>,
    /// The records.
    pub records: Option<RecordsPlan>,
    /// Columns whose values are keys of the files.
    pub references: Vec<Reference>,
    /// How long each part is meant to be kept, in seconds.
    pub kept_for: BTreeMap<Part, u64>,
    /// Where work in progress may lie; it needs room for the database's copy.
    pub scratch: PathBuf,
}

/// Where records go.
#[derive(Debug, Clone)]
pub struct RecordsPlan {
    /// The local folder; `None` keeps them in the vault only.
    pub folder: Option<PathBuf>,
    /// Keep them in the vault too.
    pub in_vault: bool,
    /// Record names and the tables they stand for.
    pub names: BTreeMap<String, String>,
}

/// What a backup came to.
#[derive(Debug)]
pub struct BackupReport {
    /// The point.
    pub point: RecoveryPoint,
    /// Its first proof, or why there is none.
    pub verified: Verified,
    /// How long each part took, in milliseconds.
    pub milliseconds: BTreeMap<Part, u64>,
    /// Local folder of the records, when they are there.
    pub records_folder: Option<PathBuf>,
    /// Why the records, which the vault holds, are not in their local folder, if they should be and are not.
    pub records_unplaced: Option<Error>,
}

/// Takes a point: claim, capture, commit, verify.
///
/// # Errors
///
/// Any error means that no point was committed, but for one that happens after the commit, while it is verified:
/// that is in [`BackupReport::verified`].
pub async fn backup(vault: &Vault, plan: &BackupPlan, clock: &Clock, events: &Events) -> Result<BackupReport> {
    // What is joined is large: kept off the stack.
    let found = Box::pin(earlier::look_for(vault, plan, clock.now()));
    let ((), found) = futures::try_join!(Box::pin(look_before(vault, plan)), found)?;
    let scratch = Scratch::create(&plan.scratch)?;
    let exported = Exported::prepare(plan, &scratch)?;
    let reuses = found.ids();
    let claim = async {
        let held = Held::open(plan, &scratch, &exported.work, clock, events).await?;
        if let Some(held) = &held {
            held.require_references(plan)?;
        }
        let files = plan.files.as_ref().filter(|_| plan.parts.contains(&Part::Files));
        let files = files.map(|files| files.address.to_string());
        let draft = vault.begin_with(&plan.label, &plan.parts, (&reuses, files), clock).await?;
        Ok::<_, Error>((held, draft))
    };
    // Whatever comes of reading, a claim that is being made is not left alone.
    let read = Box::pin(earlier::read(found.base, &scratch));
    let (base, claimed, ()) = futures::join!(read, Box::pin(claim), Box::pin(vault.sweep_uploads(clock, events)));
    let (held, draft) = claimed?;
    let earlier = (base, found.left);
    let point = match Box::pin(fill(&draft, plan, earlier, held, exported, &scratch, clock, events)).await {
        Ok(point) => point,
        Err(error) => {
            // A part that was still under way when another failed was dropped with its upload.
            vault.reader().give_up_uploads().await;
            // The claim is over either way; this only spares others the wait for it.
            let _ = draft.abandon("the backup failed", clock).await;
            return Err(error);
        }
    };
    let Filled { point, milliseconds, records_folder, records_unplaced, seen } = point;
    let request = VerifyRequest::whole();
    let verified = match verify::verify_seen(&point, &request, seen, &plan.scratch, clock, events).await {
        Ok(verified) => verified,
        // The point is there all the same; that nobody could look at it is its verdict.
        Err(error) => Verified::unseen(&request, error),
    };
    Ok(BackupReport { point, verified, milliseconds, records_folder, records_unplaced })
}

/// Fails on what can be seen to be wrong before anything is claimed.
async fn look_before(vault: &Vault, plan: &BackupPlan) -> Result<()> {
    if plan.parts.is_empty() {
        return Err(Error::usage("a backup of no part was asked for"));
    }
    for part in &plan.parts {
        let configured = match part {
            Part::Database => plan.database.is_some(),
            Part::Files => plan.files.is_some(),
            // Records are rows of the database.
            Part::Records => plan.records.is_some() && plan.database.is_some(),
        };
        if !configured {
            return Err(Error::usage_hint(
                format!("the part `{part}` is to be backed up and nothing says where to find it"),
                "name it in the config or by a flag (`nexus init` writes a config), or choose parts with --only",
            ));
        }
    }
    if let Some(files) = plan.files.as_ref().filter(|_| plan.parts.contains(&Part::Files)) {
        if vault.address().prefix_of(&files.address).is_some() {
            return Err(Error::usage_hint(
                format!("the vault at {} lies over the files at {}", vault.address(), files.address),
                format!("give the vault a place of its own, for example --vault {}/backup", files.address),
            ));
        }
        files.require_properties()?;
        files.source.check().await?;
        moment::require_versions(files, plan.kept_for.get(&Part::Files).copied()).await?;
    }
    if let Some(folder) = records_folder(plan) {
        prepare_records_folder(folder)?;
    }
    Ok(())
}

fn records_folder(plan: &BackupPlan) -> Option<&Path> {
    plan.records.as_ref().filter(|_| plan.parts.contains(&Part::Records))?.folder.as_deref()
}

/// The folder is private, and holds a `.gitignore` that keeps patient data out of every repository.
fn prepare_records_folder(folder: &Path) -> Result<()> {
    local::create_private_folder(folder)?;
    let ignore = folder.join(".gitignore");
    if ignore.exists() { Ok(()) } else { local::write_durably(&ignore, b"*\n") }
}

/// A committed point, and what of it is not in the manifest.
struct Filled {
    point: RecoveryPoint,
    milliseconds: BTreeMap<Part, u64>,
    records_folder: Option<PathBuf>,
    records_unplaced: Option<Error>,
    seen: Option<SeenCopies>,
}

/// Fills a draft and commits it, saying now and then that it lives.
#[expect(clippy::too_many_arguments, reason = "each is of another room, and none goes with another")]
async fn fill(
    draft: &Draft,
    plan: &BackupPlan,
    (base, left): (ReadBase, Vec<PointId>),
    held: Option<Held>,
    exported: Exported,
    scratch: &Scratch,
    clock: &Clock,
    events: &Events,
) -> Result<Filled> {
    let files = plan.files.as_ref().filter(|_| plan.parts.contains(&Part::Files));
    let (instant, opened) = held.as_ref().map(|held| (held.instant, held.milliseconds)).unzip();
    let at = async {
        match files {
            Some(files) => moment::of(files, instant, || clock.now(), events).await,
            None => Ok(None),
        }
    };
    let (left, base, at) =
        futures::try_join!(left::still_there(draft, left, clock), earlier::still_there(draft, base, events), at)?;
    let base_id = base.as_ref().map(|base| base.point.id().clone());
    let work = async {
        let begun = Instant::now();
        let rows = take_held(draft, plan, held, &exported, scratch, events);
        let files = async {
            let files =
                capture_files(draft, plan, Earlier { base: base.as_ref(), left: &left, at }, scratch, events).await?;
            Ok((files, (Part::Files, milliseconds(begun))))
        };
        let (rows, files) = futures::try_join!(rows, files)?;
        let listed = (files.0.as_ref(), instant.unwrap_or(draft.claim().started));
        let references = check_references(plan, rows.records.as_ref(), listed, (&exported, scratch), events).await;
        Ok((rows, files, references))
    };
    let work = std::pin::pin!(work);
    let alive = std::pin::pin!(draft.keep_alive(clock));
    let (OfDatabase { database, records, times: [first, second] }, (files, third), references) =
        match future::select(work, alive).await {
            Either::Left((done, _)) => done?,
            Either::Right((error, _)) => return Err(error),
        };
    let mut times: BTreeMap<Part, u64> =
        [first, second, third].into_iter().filter(|(part, _)| plan.parts.contains(part)).collect();
    if let (Some(opened), Some(time)) = (opened, times.get_mut(&Part::Database)) {
        *time += opened;
    }
    let folder = Exported::place(plan, draft)?;
    // Records that only this machine holds are in place before the commit: a point without them must not exist. Those
    // that the vault holds come after it: a run killed in between leaves none of a point that does not exist.
    let only_here = plan.records.as_ref().is_some_and(|records| !records.in_vault);
    if let (Some(place), true) = (&folder, only_here) {
        exported.publish(place)?;
    }
    let records = records.map(|exported| records_part(exported, plan, folder.as_deref()));
    let seen = files.as_ref().and_then(|files| files.seen.clone());
    let taken = Taken { database, files, records, references, instant };
    let manifest = manifest(draft, plan, base_id, taken, clock);
    let committed = draft.commit(&manifest, clock).await;
    if committed.is_err() && only_here && !may_be_there(draft).await {
        Exported::take_back(folder.as_deref());
    }
    let mut point = committed?;
    if let Some(files) = &plan.files {
        point = point.with_source(files.source.clone());
    }
    let unplaced = match &folder {
        Some(place) if !only_here => exported.publish(place).err(),
        _ => None,
    };
    Ok(Filled {
        point,
        milliseconds: times,
        records_folder: folder.filter(|_| unplaced.is_none()),
        records_unplaced: unplaced,
        seen,
    })
}

/// What the database gave, and how long each part of it took.
struct OfDatabase {
    database: Option<DatabasePart>,
    records: Option<RecordsExport>,
    times: [(Part, u64); 2],
}

/// Takes what the database gives, and lets go of it: files may take hours more, and its tables are locked no longer than
/// they are read.
async fn take_held(
    draft: &Draft,
    plan: &BackupPlan,
    mut held: Option<Held>,
    exported: &Exported,
    scratch: &Scratch,
    events: &Events,
) -> Result<OfDatabase> {
    let begun = Instant::now();
    let mut sources = held.as_mut().map(|held| held.take(events)).unwrap_or_default();
    let (dump, rows, now) = (sources.dump(), sources.rows(), held.as_ref());
    let database = async {
        let stored = match now {
            Some(held) => held.store(draft, plan, dump, scratch, events).await?,
            None => None,
        };
        Ok::<_, Error>((stored, (Part::Database, milliseconds(begun))))
    };
    let records = async {
        let exported = export_records(draft, plan, now, rows, exported, events).await?;
        Ok((exported, (Part::Records, milliseconds(begun))))
    };
    let ((database, first), (records, second)) = futures::try_join!(database, records)?;
    let database = held.and_then(|held| held.complete(database, records.as_ref()));
    Ok(OfDatabase { database, records, times: [first, second] })
}

/// True unless the vault itself says that the point was not committed: an answer may have been lost.
async fn may_be_there(draft: &Draft) -> bool {
    match draft.vault().state(draft.id().clone()).await {
        Ok(Some(state)) => state.manifest().is_some(),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Where records are written before the point is committed.
struct Exported {
    work: PathBuf,
    // A scratch folder of its own beside the published ones, so that publishing is a rename.
    beside: Option<Scratch>,
}

impl Exported {
    fn prepare(plan: &BackupPlan, scratch: &Scratch) -> Result<Self> {
        match records_folder(plan) {
            Some(folder) => {
                let beside = Scratch::create(folder)?;
                Ok(Self { work: beside.file("records"), beside: Some(beside) })
            }
            None => Ok(Self { work: scratch.file("records"), beside: None }),
        }
    }

    /// Where people will look for the records.
    fn place(plan: &BackupPlan, draft: &Draft) -> Result<Option<PathBuf>> {
        let place = records_folder(plan).map(|folder| folder.join(draft.id().to_string()));
        match &place {
            Some(place) if place.exists() => {
                Err(Error::Exists { what: format!("`{}` is there already", place.display()) })
            }
            _ => Ok(place),
        }
    }

    /// Puts the records there.
    fn publish(&self, place: &Path) -> Result<()> {
        let what = || format!("cannot put the records into `{}`", place.display());
        std::fs::rename(&self.work, place).map_err(|cause| Error::local(what(), cause))?;
        local::sync_folder(place.parent().unwrap_or(Path::new("/")))
    }

    /// The commit failed: the records of a point that does not exist go again.
    fn take_back(published: Option<&Path>) {
        if let Some(folder) = published {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

async fn export_records(
    draft: &Draft,
    plan: &BackupPlan,
    held: Option<&Held>,
    rows: Rows,
    place: &Exported,
    events: &Events,
) -> Result<Option<RecordsExport>> {
    let (Some(records), Some(held), true) = (&plan.records, held, plan.parts.contains(&Part::Records)) else {
        return Ok(None);
    };
    let exported = held.export(draft, records, rows, &place.work, events).await?;
    if records.in_vault {
        // What is put into the local folder is for people, who may edit it: the vault's must be other files.
        let given = if place.beside.is_some() { Given::Copied } else { Given::Away };
        store_records(draft, &exported, (&place.work, given), events).await?;
    }
    Ok(Some(exported))
}

async fn store_records(
    draft: &Draft,
    exported: &RecordsExport,
    (folder, given): (&Path, Given),
    events: &Events,
) -> Result<()> {
    let file = |(name, hash): (String, FileHash)| {
        let key = layout::record(draft.id(), &name);
        (folder.join(name), StoredObject { key, bytes: hash.bytes, sha256: hash.sha256 })
    };
    let tables = exported.tables.iter().flat_map(RecordTable::files).map(file);
    let summary = file((SUMMARY_FILE.to_owned(), exported.summary.clone()));
    let files: Vec<_> = tables.chain([summary]).collect();
    let bytes = files.iter().map(|(_, object)| object.bytes).sum();
    events.started(Stage::UploadRecords, Some(files.len() as u64), Some(bytes));
    stream::iter(files)
        .map(async |(path, object)| {
            let kind = layout::content_type(&object.key);
            draft.add_file(object, (&path, given), kind, Stage::UploadRecords, events).await
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| future::ready(Ok(())))
        .await?;
    events.ended(Stage::UploadRecords);
    Ok(())
}

async fn capture_files(
    draft: &Draft,
    plan: &BackupPlan,
    earlier: Earlier<'_>,
    scratch: &Scratch,
    events: &Events,
) -> Result<Option<FilesCapture>> {
    match &plan.files {
        Some(files) if plan.parts.contains(&Part::Files) => {
            Box::pin(capture::capture(files, draft, earlier, scratch, events)).await.map(Some)
        }
        _ => Ok(None),
    }
}

/// Holds the rows that were just written against the files that were just listed.
///
/// The point is whole without it, so that what keeps it from being done is told and recorded, and fails nothing.
async fn check_references(
    plan: &BackupPlan,
    records: Option<&RecordsExport>,
    (files, instant): (Option<&FilesCapture>, Timestamp),
    (exported, scratch): (&Exported, &Scratch),
    events: &Events,
) -> Option<References> {
    let wanted = plan.references.as_slice();
    if wanted.is_empty() {
        return None;
    }
    let (Some(records), Some(files)) = (records, files) else {
        let lacking = if records.is_none() { Part::Records } else { Part::Files };
        return Some(References::unchecked(wanted, format!("the point has no {lacking}")));
    };
    let rows = (records.tables.as_slice(), exported.work.as_path());
    let counted = references::count(wanted, rows, (files.listing.as_path(), instant), scratch, events).await;
    Some(counted.unwrap_or_else(|error| References::unchecked(wanted, crate::error::chain(&error))))
}

fn records_part(exported: RecordsExport, plan: &BackupPlan, folder: Option<&Path>) -> RecordsPart {
    RecordsPart {
        folder: folder.map(|folder| folder.display().to_string()),
        in_vault: plan.records.as_ref().is_some_and(|records| records.in_vault),
        tables: exported.tables,
        skipped: exported.skipped,
        summary: Some(exported.summary),
        rows: exported.rows,
    }
}

/// What the parts' rooms gave.
struct Taken {
    database: Option<DatabasePart>,
    files: Option<FilesCapture>,
    records: Option<RecordsPart>,
    references: Option<References>,
    instant: Option<Timestamp>,
}

fn manifest(draft: &Draft, plan: &BackupPlan, base: Option<PointId>, taken: Taken, clock: &Clock) -> Manifest {
    let claim = draft.claim();
    let (files, mut findings) = taken.files.map_or((None, Vec::new()), |files| (Some(files.part), files.findings));
    if let Some(DatabasePart { kind: DatabaseKind::Sqlite { sqlite }, .. }) = &taken.database {
        findings.extend(sqlite.foreign_key_violations.iter().map(|(table, count)| Finding {
            part: Some(Part::Database),
            kind: FindingKind::Dangling,
            name: table.clone(),
            detail: format!("{count} rows have a foreign key that points at nothing, as they had in the source"),
        }));
    }
    let taken_parts = |(part, _): &(&Part, &u64)| plan.parts.contains(part);
    Manifest {
        format: FORMAT,
        point: claim.point.clone(),
        app: claim.app.clone(),
        nonce: claim.nonce.clone(),
        software: SOFTWARE.to_owned(),
        started: claim.started,
        instant: taken.instant.unwrap_or(claim.started),
        committed: clock.now(),
        base,
        kept_for: plan.kept_for.iter().filter(taken_parts).map(|(part, time)| (*part, *time)).collect(),
        parts: Parts { database: taken.database, files, records: taken.records },
        findings,
        references: taken.references,
        adopted: None,
        copy_of: None,
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
