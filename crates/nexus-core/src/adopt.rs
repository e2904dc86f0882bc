//! Adopt: what older scripts left in the vault's place becomes points, where it lies; nothing is copied, changed or removed.
//!
//! A script's run left a database file and a folder of copies, each with a time of its own in its name. They are no instant, and
//! nothing is known of the originals: such a point says so wherever it is shown, and no later backup reuses it.

mod find;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::bucket::Object;
use crate::bucket::sorted::Sorter;
use crate::clock::Clock;
use crate::database::Database;
use crate::database::postgres::PostgresDatabase;
use crate::database::sqlite::SqliteDatabase;
use crate::error::{Error, Result, chain};
use crate::event::Events;
use crate::files::capture::{store_listing, store_script};
use crate::listing::{FileEntry, FileKind, ListingWriter, Place, ProofKind, Side, Written};
use crate::local::{Scratch, blocking};
use crate::point::{
    Adopted, Copies, Count, DatabaseKind, DatabasePart, FORMAT, FileRules, FilesPart, Manifest, Part, Parts, PointId,
    RecordsPart, StoredObject,
};
use crate::vault::{PointState, SOFTWARE, Vault, layout};
use find::{Found, Run};

/// How long another process may hold the private copy that is checked: nobody does.
const NO_WAIT: Duration = Duration::from_secs(5);

/// What to adopt by.
#[derive(Debug, Clone)]
pub struct AdoptRequest {
    /// Where the database was, and goes back to; copies of its kind are adopted, and without it none.
    pub database: Option<Database>,
    /// Where the files came from, and go back to; without it no files are adopted.
    pub files: Option<FilesOrigin>,
    /// The name that old databases bear: `<name>_sqlite_backup_…`, `<name>_postgres_backup_…`. Others may be another app's.
    pub name: String,
    /// The zone of the times in the names.
    pub timezone: TimeZone,
    /// A folder on this machine with folders of the records of old runs; they stay there, as parts of the points.
    pub local: Option<PathBuf>,
    /// Record names and the tables that they stand for; others are called by their files.
    pub tables: BTreeMap<String, String>,
    /// How long each part is meant to be kept, in seconds.
    pub kept_for: BTreeMap<Part, u64>,
}

/// Where files came from.
#[derive(Debug, Clone)]
pub struct FilesOrigin {
    /// `s3://bucket/prefix` or `file:///folder`.
    pub source: String,
    /// The S3 service, when it is not AWS.
    pub endpoint: Option<String>,
    /// What a restore there may take away: the rules of today.
    pub rules: FileRules,
}

/// What will become points; nothing is written yet.
#[derive(Debug)]
pub struct AdoptPlan {
    /// The points, oldest first.
    pub points: Vec<OldPoint>,
    /// What is left alone, each with the reason.
    pub left: Vec<(String, String)>,
    request: AdoptRequest,
    scratch: Scratch,
}

/// One run of an older script, as a point.
#[derive(Debug, Serialize)]
pub struct OldPoint {
    /// The id it will have.
    pub id: PointId,
    /// When its database was taken, as far as its name says.
    pub instant: Timestamp,
    /// How many seconds its parts are apart.
    pub apart_seconds: u64,
    /// Its database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<OldDatabase>,
    /// Its files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<OldFiles>,
    /// Its records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<OldRecords>,
}

/// The records of one.
#[derive(Debug, Serialize)]
pub struct OldRecords {
    /// Their folder on this machine.
    pub folder: PathBuf,
    /// Its files.
    pub files: u64,
    /// Records in them.
    pub rows: u64,
    /// False when the older tool left no summary: then nothing says whether a file is missing.
    pub has_summary: bool,
    #[serde(skip)]
    part: RecordsPart,
}

/// The database of one.
#[derive(Debug, Serialize)]
pub struct OldDatabase {
    /// Its key, relative to the vault.
    pub key: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its tables.
    pub tables: u64,
    /// Rows of all of them.
    pub rows: u64,
    #[serde(skip)]
    kind: DatabaseKind,
    #[serde(skip)]
    sha256: String,
    #[serde(skip)]
    counts: BTreeMap<String, u64>,
}

/// The files of one.
#[derive(Debug, Serialize)]
pub struct OldFiles {
    /// Its folder, relative to the vault.
    pub folder: String,
    /// By category.
    pub categories: BTreeMap<String, Count>,
    /// All of them.
    pub total: Count,
    #[serde(skip)]
    listing: PathBuf,
    #[serde(skip)]
    written: Written,
}

/// Looks at what lies in the vault's place, and pairs what belongs together. Nothing is written.
///
/// # Errors
///
/// What the vault cannot be listed or read for.
pub async fn plan(vault: &Vault, request: AdoptRequest, events: &Events) -> Result<AdoptPlan> {
    let scratch = Scratch::create(vault.scratch())?;
    let mut looked = Looked::default();
    let (records, unread) = match request.local.clone() {
        Some(local) => {
            let (zone, tables) = (request.timezone.clone(), request.tables.clone());
            let states = vault.points().await?;
            let known =
                states.iter().filter_map(PointState::manifest).filter_map(|manifest| manifest.parts.records.as_ref());
            let known: BTreeSet<String> = known.filter_map(|records| records.folder.clone()).collect();
            blocking(move || find::records(&local, (&zone, &known), &tables)).await?
        }
        None => Default::default(),
    };
    // One that cannot be read must not take the folder from one that can: it is left out, and the rest paired anew.
    let Found { runs, mut left } = loop {
        let found = find::find(vault, &request, &looked.unfinished, &records).await?;
        let before = looked.unfinished.len();
        if let Some(home) = &request.database {
            for old in found.runs.iter().filter_map(|run| run.database.as_ref()) {
                looked.at(vault, (&old.name, home), &scratch, events).await?;
            }
        }
        if looked.unfinished.len() == before {
            break found;
        }
    };
    left.extend(unread);
    let mut points = Vec::new();
    for run in runs {
        points.extend(old_point(vault, &run, &request, (&scratch, &mut looked), &mut left).await?);
    }
    Ok(AdoptPlan { points, left, request, scratch })
}

/// The databases that were looked at.
#[derive(Default)]
struct Looked {
    whole: BTreeMap<String, OldDatabase>,
    /// Those that are none, each with the reason.
    unfinished: BTreeMap<String, String>,
}

impl Looked {
    async fn at(
        &mut self,
        vault: &Vault,
        (key, home): (&str, &Database),
        scratch: &Scratch,
        events: &Events,
    ) -> Result<()> {
        if !self.whole.contains_key(key) && !self.unfinished.contains_key(key) {
            match database(vault, (key, home), scratch, events).await? {
                Ok(database) => drop(self.whole.insert(key.to_owned(), database)),
                Err(why) => drop(self.unfinished.insert(key.to_owned(), why)),
            }
        }
        Ok(())
    }
}

async fn old_point(
    vault: &Vault,
    run: &Run,
    request: &AdoptRequest,
    (scratch, looked): (&Scratch, &mut Looked),
    left: &mut Vec<(String, String)>,
) -> Result<Option<OldPoint>> {
    let leave = |left: &mut find::Left, why: &str| left.extend(run.names().map(|name| (name, why.to_owned())));
    if run.database.is_some() && request.database.is_none() {
        leave(left, "nothing says where its database was: name it with --database");
        return Ok(None);
    }
    let database = run.database.as_ref().and_then(|old| looked.whole.remove(&old.name));
    let files = match (&run.files, &request.files) {
        (None, _) => None,
        (Some(_), None) => {
            leave(left, "nothing says where its files came from: name them with --files");
            return Ok(None);
        }
        (Some(old), Some(_)) => Some(files(vault, &old.name, &run.id, scratch, left).await?),
    };
    let files = files.filter(|files| files.total.files > 0);
    if database.is_none() && files.is_none() {
        leave(left, "it holds no files below a category");
        return Ok(None);
    }
    let records = run.records.as_ref().map(|(folder, part)| OldRecords {
        folder: folder.clone(),
        files: part.tables.len() as u64,
        rows: part.rows,
        has_summary: part.summary.is_some(),
        part: part.clone(),
    });
    Ok(Some(OldPoint {
        id: run.id.clone(),
        instant: run.instant(),
        apart_seconds: run.apart_seconds(),
        database,
        files,
        records,
    }))
}

/// The database, fetched, hashed and checked; or why it is none.
async fn database(
    vault: &Vault,
    (key, home): (&str, &Database),
    scratch: &Scratch,
    events: &Events,
) -> Result<std::result::Result<OldDatabase, String>> {
    let fetched = scratch.file("old-database");
    let _ = std::fs::remove_file(&fetched);
    let hash = vault.reader().download(&vault.full(key), &fetched).await?;
    let Some(hash) = hash else { return Ok(Err("it is gone".to_owned())) };
    let looked = match home {
        Database::Sqlite(_) => sqlite(&fetched, scratch, events).await,
        Database::Postgres(home) => postgres(&fetched, home).await,
    };
    let _ = std::fs::remove_file(&fetched);
    Ok(looked?.map(|(kind, counts)| OldDatabase {
        key: key.to_owned(),
        bytes: hash.bytes,
        tables: counts.len() as u64,
        rows: counts.values().sum(),
        kind,
        sha256: hash.sha256,
        counts,
    }))
}

/// What a database is, and its rows by table; or why it is none.
type Seen = std::result::Result<(DatabaseKind, BTreeMap<String, u64>), String>;

async fn sqlite(fetched: &Path, scratch: &Scratch, events: &Events) -> Result<Seen> {
    let (from, copy, events) = (fetched.to_owned(), scratch.file("old-copy.db"), events.clone());
    let _ = std::fs::remove_file(&copy);
    let captured = blocking(move || SqliteDatabase::new(from).capture(&copy, NO_WAIT, &events)).await;
    match captured {
        Ok(captured) if captured.tables.is_empty() => Ok(Err("unfinished: it holds no table".to_owned())),
        Ok(captured) => Ok(Ok((DatabaseKind::Sqlite { sqlite: captured.facts }, captured.tables))),
        Err(
            error @ (Error::Damaged { .. } | Error::Usage { .. } | Error::Missing { .. } | Error::Unsupported { .. }),
        ) => Ok(Err(format!("unfinished: {}", chain(&error)))),
        Err(error) => Err(error),
    }
}

async fn postgres(fetched: &Path, home: &PostgresDatabase) -> Result<Seen> {
    let contents = home.contents(fetched).await?;
    Ok(contents.map(|contents| (DatabaseKind::Postgres { postgres: Box::new(contents.facts) }, contents.tables)))
}

/// Between a key and its category while they are sorted; no key of S3 or of a folder holds it.
const BEHIND: char = '\u{0}';

/// The files below a folder by their own keys, as a listing on this machine.
async fn files(
    vault: &Vault,
    folder: &str,
    id: &PointId,
    scratch: &Scratch,
    left: &mut Vec<(String, String)>,
) -> Result<OldFiles> {
    let mut sorter = Sorter::new(scratch.path());
    let prefix = vault.full(folder);
    for object in vault.reader().list(&prefix, scratch.path(), &Events::none()).await? {
        let object = object?;
        let rest = &object.key[prefix.len()..];
        if object.kind == FileKind::Folder && vault.reader().is_folder() {
            continue;
        }
        if object.kind != FileKind::File {
            left.push((format!("{folder}{rest}"), "a link or a special file".to_owned()));
            continue;
        }
        match (layout::in_point(rest), rest.split_once('/')) {
            (layout::InPoint::Copy, Some((category, key))) => {
                sorter.push(Object { key: format!("{key}{BEHIND}{category}"), ..object.clone() })?;
            }
            // Ours, of an adoption that broke off.
            (layout::InPoint::Claim | layout::InPoint::Listing | layout::InPoint::Journal, _) => {}
            _ => left.push((format!("{folder}{rest}"), "no file below a category".to_owned())),
        }
    }
    let listing = scratch.file(&format!("{id}.adopted.jsonl.zst"));
    let _ = std::fs::remove_file(&listing);
    let mut writer = ListingWriter::create(&listing)?;
    let (mut categories, mut total) = (BTreeMap::<String, Count>::new(), Count::default());
    let mut last: Option<String> = None;
    for object in sorter.finish()? {
        let object = object?;
        let Some((key, category)) = object.key.rsplit_once(BEHIND) else { continue };
        if last.as_deref() == Some(key) {
            left.push((
                format!("{folder}{category}/{key}"),
                "its key is that of a file of another category".to_owned(),
            ));
            continue;
        }
        last = Some(key.to_owned());
        writer.push(&entry(id, folder, key, category, object.side.clone()))?;
        categories.entry(category.to_owned()).or_default().add(object.side.size);
        total.add(object.side.size);
    }
    let written = writer.finish()?;
    Ok(OldFiles { folder: folder.to_owned(), categories, total, listing, written })
}

/// A line that says what is known: of the original no more than that the copy is to be like it.
fn entry(id: &PointId, folder: &str, key: &str, category: &str, copy: Side) -> FileEntry {
    let source = Side { size: copy.size, etag: copy.etag.clone(), ..Side::default() };
    FileEntry {
        key: key.to_owned(),
        category: category.to_owned(),
        kind: FileKind::File,
        source,
        at: Some(Place::Vault { point: id.clone(), key: format!("{folder}{category}/{key}") }),
        copy: Some(copy),
        proof: Some(ProofKind::Adopted),
        headers: BTreeMap::new(),
    }
}

/// Writes the claims, listings and manifests that make points of it. What was adopted when it fails stays adopted, and the same
/// again goes on.
///
/// # Errors
///
/// What the vault cannot be written for.
pub async fn adopt(vault: &Vault, plan: &AdoptPlan, clock: &Clock, events: &Events) -> Result<Vec<PointId>> {
    let mut adopted = Vec::new();
    for old in &plan.points {
        take(vault, plan, old, clock, events).await?;
        adopted.push(old.id.clone());
    }
    Ok(adopted)
}

async fn take(vault: &Vault, plan: &AdoptPlan, old: &OldPoint, clock: &Clock, events: &Events) -> Result<()> {
    let from: BTreeMap<Part, String> = [
        old.database.as_ref().map(|database| (Part::Database, database.key.clone())),
        old.files.as_ref().map(|files| (Part::Files, files.folder.clone())),
        old.records.as_ref().map(|records| (Part::Records, records.folder.display().to_string())),
    ]
    .into_iter()
    .flatten()
    .collect();
    let present: Vec<Part> = from.keys().copied().collect();
    let draft = vault.begin_adoption(&old.id, &present, clock).await?;
    let files = match (&old.files, &plan.request.files) {
        (Some(files), Some(origin)) => {
            let listing = stored(
                vault,
                store_listing(&draft, &files.listing, files.written.clone(), events).await,
                &layout::listing(&old.id),
                &files.written.sha256,
            )
            .await?;
            let work = Scratch::create(plan.scratch.path())?;
            let script = script(vault, store_script(&draft, &work, events).await, &old.id).await?;
            Some(files_part(files, origin, listing, script))
        }
        _ => None,
    };
    let claim = draft.claim();
    let manifest = Manifest {
        format: FORMAT,
        point: claim.point.clone(),
        app: claim.app.clone(),
        nonce: claim.nonce.clone(),
        software: SOFTWARE.to_owned(),
        started: claim.started,
        instant: old.instant,
        committed: clock.now(),
        base: None,
        kept_for: plan
            .request
            .kept_for
            .iter()
            .filter(|(part, _)| present.contains(part))
            .map(|(part, kept)| (*part, *kept))
            .collect(),
        parts: Parts {
            database: old.database.as_ref().map(|old| database_part(old, &plan.request)),
            files,
            records: old.records.as_ref().map(|records| records.part.clone()),
        },
        findings: Vec::new(),
        references: None,
        adopted: Some(Adopted {
            apart_seconds: old.apart_seconds,
            from,
            timezone: plan.request.timezone.iana_name().unwrap_or("UTC").to_owned(),
        }),
        copy_of: None,
    };
    draft.commit(&manifest, clock).await.map(|_| ())
}

/// What was stored, now or by an adoption that broke off; something else in its place is an error.
async fn stored(vault: &Vault, stored: Result<StoredObject>, key: &str, sha256: &str) -> Result<StoredObject> {
    match stored {
        Err(Error::Exists { what }) => match vault.reader().hash(&vault.full(key)).await? {
            Some(hash) if hash.sha256 == sha256 => {
                Ok(StoredObject { key: key.to_owned(), bytes: hash.bytes, sha256: hash.sha256 })
            }
            _ => Err(Error::Exists { what }),
        },
        stored => stored,
    }
}

async fn script(vault: &Vault, written: Result<StoredObject>, id: &PointId) -> Result<StoredObject> {
    use sha2::{Digest, Sha256};
    let sha256 = crate::listing::hex(&Sha256::digest(crate::files::capture::SCRIPT.as_bytes()));
    stored(vault, written, &layout::script(id), &sha256).await
}

fn files_part(files: &OldFiles, origin: &FilesOrigin, listing: StoredObject, script: StoredObject) -> FilesPart {
    FilesPart {
        source: origin.source.clone(),
        endpoint: origin.endpoint.clone(),
        rules: origin.rules.clone(),
        copies: Copies::Full,
        listing,
        script,
        categories: files.categories.clone(),
        total: files.total,
        copied: files.total,
        reused: Count::default(),
        excluded: Count::default(),
        proofs: [(ProofKind::Adopted, files.total.files)].into(),
        properties: Vec::new(),
    }
}

fn database_part(old: &OldDatabase, request: &AdoptRequest) -> DatabasePart {
    DatabasePart {
        kind: old.kind.clone(),
        source: request.database.as_ref().map(Database::location).unwrap_or_default(),
        object: StoredObject { key: old.key.clone(), bytes: old.bytes, sha256: old.sha256.clone() },
        tables: old.counts.clone(),
        read_milliseconds: 0,
    }
}
