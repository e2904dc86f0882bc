//! The files of a point: what is unchanged since the base is reused, the rest is copied, then all is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use sha2::{Digest, Sha256};

use super::compare::{self, Compared, Groups};
use super::left::Left;
use super::moment;
use super::rules::Rules;
use crate::bucket::sorted::Sorted;
use crate::bucket::transfer::{self, Copied, Target};
use crate::bucket::{Address, Object, Reader, StoreOptions};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::{FileEntry, FileKind, ListingReader, ListingWriter, Place, ProofKind, Side, Written, hex};
use crate::local::{Given, Scratch, create_private};
use crate::point::{Copies, Count, FileRules, FilesPart, Finding, FindingKind, Part, PointId, StoredObject};
use crate::vault::draft::Draft;
use crate::vault::{RecoveryPoint, layout};

/// Files between the first whose copy is not done and the last that was begun.
pub(super) const WINDOW: usize = 1_024;
/// How often copies that are not as they should be are made again before the backup fails.
const REPAIRS: u32 = 3;
/// A look at earlier copies that began longer ago than this is not relied on.
const FRESH: Duration = Duration::from_mins(1);
/// More files than this that vanish while they are copied fail the run, even when vanishing is allowed: something is
/// removing them, and a point without them is not what anybody asked for.
const VANISHED: usize = 1_000;
/// The same as a share of all files: one in so many, where that is more than [`VANISHED_FEW`].
const VANISHED_SHARE: u64 = 10;
/// So many may vanish of however few there are.
const VANISHED_FEW: usize = 10;
/// The most wrong files that one message names.
const NAMED: usize = 10;
/// What is kept of each file of a folder beside its bytes.
const KEPT_OF_FILES: &[&str] = &["mode", "owner", "modified", "symbolic links", "folders"];
/// What a copy on the service's side keeps of each object beside its bytes
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>).
const KEPT_OF_OBJECTS: &[&str] = &[
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "user metadata",
    "tags",
    "storage class",
];
/// The script that brings the files back with stock tools.
pub(crate) const SCRIPT: &str = include_str!("restore-files.sh");

/// What to take.
#[derive(Debug, Clone)]
pub struct FilesPlan {
    /// The source's bucket or folder.
    pub source: Reader,
    /// The source as it was named.
    pub address: Address,
    /// Which files, and their categories.
    pub rules: FileRules,
    /// Reuse what is unchanged, or copy all.
    pub copies: Copies,
    /// What to do about files that were listed and are gone when they are copied.
    pub vanished: Vanished,
}

/// What to do about files that were listed and are gone when they are copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Vanished {
    /// Fail the run, naming them.
    #[default]
    Fail,
    /// Record them in the manifest as findings, and go on.
    Record,
}

/// What was taken.
#[derive(Debug)]
pub struct FilesCapture {
    /// The part for the manifest.
    pub part: FilesPart,
    /// What was left out or gone.
    pub findings: Vec<Finding>,
    /// What the comparison with the vault's own listing saw.
    pub(crate) seen: SeenCopies,
}

/// Copies of files that were compared with the vault's own listing, line by line of one stored listing.
#[derive(Debug, Clone)]
pub(crate) struct SeenCopies {
    /// SHA-256 of the listing whose lines they are, hexadecimal: it counts only for a point with this very listing.
    listing: String,
    /// How many they were; all of them as they should be.
    files: u64,
    /// When the vault was asked first.
    since: Instant,
}

impl SeenCopies {
    /// How many copies were seen to be as this listing says, if that was a moment ago.
    pub(crate) fn of(&self, listing: &str) -> Option<u64> {
        (self.listing == listing && self.since.elapsed() < FRESH).then_some(self.files)
    }
}

/// One line of work: a file, and the earlier copy that may serve.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Job {
    pub(super) object: Object,
    pub(super) category: String,
    pub(super) reuse: Option<FileEntry>,
}

#[derive(Default)]
pub(super) struct Tally {
    categories: BTreeMap<String, Count>,
    total: Count,
    copied: Count,
    reused: Count,
    pub(super) excluded: Count,
    /// Copies of backups that broke off.
    left: Count,
    proofs: BTreeMap<crate::listing::ProofKind, u64>,
    findings: Vec<Finding>,
}

/// What may serve instead of copies that are made anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct Earlier<'a> {
    /// The point before.
    pub base: Option<&'a RecoveryPoint>,
    /// Backups that broke off, the newest first.
    pub left: &'a [PointId],
    /// The moment of which they are to be, by the service's clock, where their bucket keeps versions.
    pub at: Option<jiff::Timestamp>,
}

/// Takes the files into a draft: listed now, so after the instant of the database.
pub async fn capture(
    plan: &FilesPlan,
    draft: &Draft,
    Earlier { base, left, at }: Earlier<'_>,
    scratch: &Scratch,
    events: &Events,
) -> Result<FilesCapture> {
    let rules = Rules::new(&plan.rules)?;
    events.started(Stage::ListFiles, None, None);
    let earlier = match base {
        Some(point) => compare::group_names(point.listing(scratch).await?)?,
        None => BTreeSet::new(),
    };
    // The claim names the base by now, so what is seen of its copies from here on holds.
    let begun = Instant::now();
    let ((listed, unsure), groups) = futures::try_join!(
        moment::listed(plan, (&rules, at), scratch, events),
        compare::list_groups(draft.vault(), earlier)
    )?;
    let groups = if begun.elapsed() < FRESH { groups } else { Groups::new() };
    let base = match base {
        Some(point) => Some(point.listing(scratch).await?),
        None => None,
    };
    let left = Left::of(draft.vault(), left, &rules).await?;
    let work = scratch.file("files.work");
    let mut tally = Tally { findings: unsure, ..Tally::default() };
    let to_copy = sort_out(listed, (base, left), &rules, &work, &mut tally)?;
    events.ended(Stage::ListFiles);
    if tally.left.files > 0 {
        events.note(format!("{} copies of a backup that broke off are used where they lie", tally.left.files));
    }

    let mut path = scratch.file("files.jsonl.zst");
    let to_copy = if plan.copies == Copies::Versions { Count::default() } else { to_copy };
    events.started(Stage::CopyFiles, Some(to_copy.files), Some(to_copy.bytes));
    let mut written = copy_all(plan, draft, &work, &path, &mut tally, events).await?;
    events.ended(Stage::CopyFiles);

    let mut groups = if begun.elapsed() < FRESH { groups } else { Groups::new() };
    let mut round = 0;
    let (files, since) = loop {
        // The oldest look among those that are compared counts.
        let since = if groups.is_empty() { Instant::now() } else { begun };
        let compared = check(draft, std::mem::take(&mut groups), &path, events).await?;
        if compared.wrong.is_empty() {
            break (compared.equal.files, since);
        }
        round += 1;
        if round > REPAIRS {
            return Err(Error::Changed {
                what: format!("copies in the vault do not stay as they were written: {}", names(&compared)),
            });
        }
        events.warn(format!("{} copies are not as they were recorded and are made again", compared.wrong.len()));
        let next = scratch.file(&format!("files-{round}.jsonl.zst"));
        tally = Tally { findings: tally.findings, excluded: tally.excluded, ..Tally::default() };
        written = copy_again(plan, draft, &path, &next, &compared, &mut tally, events).await?;
        path = next;
    };
    let listing = store_listing(draft, &path, written, events).await?;
    let script = store_script(draft, scratch, events).await?;
    let seen = SeenCopies { listing: listing.sha256.clone(), files, since };
    Ok(FilesCapture { findings: std::mem::take(&mut tally.findings), part: part(plan, tally, listing, script), seen })
}

fn part(plan: &FilesPlan, tally: Tally, listing: StoredObject, script: StoredObject) -> FilesPart {
    let kept = if plan.source.is_folder() { KEPT_OF_FILES } else { KEPT_OF_OBJECTS };
    FilesPart {
        source: plan.address.to_string(),
        endpoint: plan.source.endpoint().map(str::to_owned),
        rules: plan.rules.clone(),
        copies: plan.copies,
        listing,
        script,
        categories: tally.categories,
        total: tally.total,
        copied: tally.copied,
        reused: tally.reused,
        excluded: tally.excluded,
        proofs: tally.proofs,
        properties: kept.iter().map(ToString::to_string).collect(),
    }
}

/// Decides for every listed file: left out, reused, or to be copied; nothing is copied before all are decided.
pub(super) fn sort_out(
    listed: Sorted,
    (base, mut left): (Option<ListingReader>, Left),
    rules: &Rules,
    work: &Path,
    tally: &mut Tally,
) -> Result<Count> {
    let what = || format!("cannot write `{}`", work.display());
    let mut out = BufWriter::new(create_private(work)?);
    let mut base = base.map(Iterator::peekable);
    let mut to_copy = Count::default();
    let mut frozen = Vec::new();
    for object in listed {
        let object = object?;
        if !rules.takes(&object.key) {
            tally.excluded.add(object.side.size);
            continue;
        }
        if let FileKind::Special(kind) = &object.kind {
            let detail = format!("a {kind} is recorded and not opened");
            tally.findings.push(Finding {
                part: Some(Part::Files),
                kind: FindingKind::LeftOut,
                name: object.key,
                detail,
            });
            continue;
        }
        if is_frozen(&object.side) {
            frozen.push(object.key);
            continue;
        }
        let earlier = base.as_mut().map(|base| find(base, &object.key)).transpose()?.flatten();
        let category = rules.category(&object.key).to_owned();
        let mut reuse = earlier.filter(|earlier| unchanged(earlier, &object));
        if reuse.is_none() && object.kind == FileKind::File {
            reuse = left.copy_of(&object, &category)?;
            let count = if reuse.is_some() { &mut tally.left } else { &mut to_copy };
            count.add(object.side.size);
        }
        serde_json::to_writer(&mut out, &Job { object, category, reuse })
            .map_err(|cause| Error::local(what(), cause.into()))?;
        out.write_all(b"\n").map_err(|cause| Error::local(what(), cause))?;
    }
    out.flush().map_err(|cause| Error::local(what(), cause))?;
    if let Some(first) = frozen.first() {
        let count = frozen.len();
        return Err(Error::usage_hint(
            format!("{count} objects lie in an archive class that cannot be copied, the first is {first:?}"),
            "copy them to another storage class first (a restored object keeps its archive class), or leave them out with `exclude`",
        ));
    }
    Ok(to_copy)
}

/// Classes whose objects S3 neither reads nor copies until they are restored from the archive.
fn is_frozen(side: &Side) -> bool {
    matches!(side.class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
}

fn find(base: &mut std::iter::Peekable<ListingReader>, key: &str) -> Result<Option<FileEntry>> {
    while let Some(next) = base.peek() {
        match next {
            Ok(entry) if entry.key.as_bytes() > key.as_bytes() => return Ok(None),
            _ => {}
        }
        let entry = base.next().expect("it was just looked at")?;
        if entry.key == key {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Size, ETag, last modified, storage class; for folders also inode and time of change.
fn unchanged(earlier: &FileEntry, now: &Object) -> bool {
    let (before, after) = (&earlier.source, &now.side);
    earlier.kind == now.kind
        && (earlier.at.is_some() || earlier.kind != FileKind::File)
        && before.size == after.size
        && before.etag == after.etag
        && before.modified == after.modified
        && before.class == after.class
        && before.unix == after.unix
}

async fn copy_all(
    plan: &FilesPlan,
    draft: &Draft,
    work: &Path,
    path: &Path,
    tally: &mut Tally,
    events: &Events,
) -> Result<Written> {
    let what = || format!("cannot read `{}`", work.display());
    let file = std::fs::File::open(work).map_err(|cause| Error::local(what(), cause))?;
    let jobs = BufReader::new(file).lines().map(|line| {
        let line = line.map_err(|cause| Error::local(what(), cause))?;
        serde_json::from_str::<Job>(&line).map_err(|cause| Error::local(what(), cause.into()))
    });
    let mut listing = ListingWriter::create(path)?;
    let mut vanished = Vec::new();
    {
        let mut done = stream::iter(jobs).map(async |job| carry_out(plan, draft, job?, events).await).buffered(WINDOW);
        while let Some(outcome) = done.next().await {
            match outcome? {
                Outcome::Kept(entry) => tally.take(&entry, Way::Kept, &mut listing)?,
                Outcome::Reused(entry) => tally.take(&entry, Way::Reused, &mut listing)?,
                Outcome::Copied(entry) => tally.take(&entry, Way::Copied, &mut listing)?,
                Outcome::Vanished(key) => vanished.push(key),
            }
        }
    }
    gone(plan, vanished, tally, events)?;
    listing.finish()
}

/// Makes again what is wrong, wherever its copy lay, and writes the listing anew.
async fn copy_again(
    plan: &FilesPlan,
    draft: &Draft,
    before: &Path,
    after: &Path,
    compared: &Compared,
    tally: &mut Tally,
    events: &Events,
) -> Result<Written> {
    let mut listing = ListingWriter::create(after)?;
    let mut vanished = Vec::new();
    for entry in ListingReader::open(before, "the listing just written")? {
        let entry = entry?;
        if !compared.wrong.contains_key(&entry.key) {
            let mine = entry
                .at
                .as_ref()
                .and_then(Place::vault_key)
                .is_some_and(|key| key.starts_with(&layout::point(draft.id())));
            tally.take(&entry, if mine { Way::Copied } else { Way::Reused }, &mut listing)?;
            continue;
        }
        let object = Object { key: entry.key, side: Side { checksum: None, ..entry.source }, kind: entry.kind };
        let job = Job { object, category: entry.category, reuse: None };
        match carry_out(plan, draft, job, events).await? {
            Outcome::Copied(entry) | Outcome::Reused(entry) | Outcome::Kept(entry) => {
                tally.take(&entry, Way::Copied, &mut listing)?;
            }
            Outcome::Vanished(key) => vanished.push(key),
        }
    }
    gone(plan, vanished, tally, events)?;
    listing.finish()
}

enum Outcome {
    /// No copy: the source's bucket keeps it.
    Kept(Box<FileEntry>),
    Reused(Box<FileEntry>),
    Copied(Box<FileEntry>),
    Vanished(String),
}

async fn carry_out(plan: &FilesPlan, draft: &Draft, job: Job, events: &Events) -> Result<Outcome> {
    let Job { object, category, reuse } = job;
    if let Some(mut earlier) = reuse {
        earlier.category = category;
        return Ok(Outcome::Reused(Box::new(earlier)));
    }
    if object.kind == FileKind::File
        && plan.copies == Copies::Versions
        && let Some(id) = object.side.version.clone()
    {
        return Ok(Outcome::Kept(Box::new(FileEntry {
            key: object.key,
            category,
            kind: FileKind::File,
            source: object.side,
            copy: None,
            at: Some(Place::Version { id }),
            proof: Some(ProofKind::Version),
            headers: BTreeMap::new(),
        })));
    }
    if object.kind != FileKind::File {
        let entry = FileEntry {
            key: object.key,
            category,
            kind: object.kind,
            source: object.side,
            copy: None,
            at: None,
            proof: None,
            headers: BTreeMap::new(),
        };
        return Ok(Outcome::Copied(Box::new(entry)));
    }
    let prefix = draft.vault().full("");
    let key = layout::copy(&prefix, draft.id(), &category, &object.key);
    let target = Target {
        key: format!("{prefix}{key}"),
        fallback: Some(format!("{prefix}{}", layout::long(draft.id(), &object.key))),
        options: StoreOptions {
            class: object.side.class.clone(),
            encryption: draft.vault().rules().copies_encryption.clone(),
            headers: BTreeMap::new(),
        },
        like: None,
    };
    match transfer::copy(&plan.source, &object, &draft.copies(), &target).await? {
        Copied::Vanished => Ok(Outcome::Vanished(object.key)),
        Copied::Done(done) => {
            events.advanced(Stage::CopyFiles, 1, done.source.size);
            Ok(Outcome::Copied(Box::new(FileEntry {
                key: object.key,
                category,
                kind: FileKind::File,
                source: done.source,
                copy: Some(done.copy),
                at: Some(Place::Vault { point: draft.id().clone(), key: done.key[prefix.len()..].to_owned() }),
                proof: Some(done.proof),
                headers: done.headers,
            })))
        }
    }
}

/// How a file came into the point.
#[derive(Debug, Clone, Copy)]
enum Way {
    Copied,
    Reused,
    /// The source's bucket keeps it.
    Kept,
}

impl Tally {
    fn take(&mut self, entry: &FileEntry, way: Way, listing: &mut ListingWriter) -> Result<()> {
        listing.push(entry)?;
        if entry.kind == FileKind::Folder {
            return Ok(());
        }
        let size = entry.source.size;
        self.total.add(size);
        self.categories.entry(entry.category.clone()).or_default().add(size);
        match way {
            Way::Copied => self.copied.add(size),
            Way::Reused => self.reused.add(size),
            Way::Kept => {}
        }
        if let Some(proof) = entry.proof {
            *self.proofs.entry(proof).or_default() += 1;
        }
        Ok(())
    }
}

/// Files that were listed and are gone are named, and fail the run unless recording them was asked for.
fn gone(plan: &FilesPlan, vanished: Vec<String>, tally: &mut Tally, events: &Events) -> Result<()> {
    if vanished.is_empty() {
        return Ok(());
    }
    if plan.vanished == Vanished::Fail {
        let some: Vec<_> = vanished.iter().take(NAMED).map(|key| format!("{key:?}")).collect();
        return Err(Error::Changed {
            what: format!("{} files were listed and gone when they were copied: {}", vanished.len(), some.join(", ")),
        });
    }
    let share = usize::try_from(tally.total.files / VANISHED_SHARE).unwrap_or(VANISHED);
    if vanished.len() > share.clamp(VANISHED_FEW, VANISHED) {
        return Err(Error::Changed {
            what: format!(
                "{} files were listed and gone when they were copied, {} were copied: something is removing them",
                vanished.len(),
                tally.total.files
            ),
        });
    }
    events.warn(format!("{} files vanished while they were copied; the manifest names them", vanished.len()));
    tally.findings.extend(vanished.into_iter().map(|name| Finding {
        part: Some(Part::Files),
        kind: FindingKind::Missing,
        name,
        detail: "it was listed and gone when it was copied".to_owned(),
    }));
    Ok(())
}

async fn check(draft: &Draft, groups: Groups, path: &Path, events: &Events) -> Result<Compared> {
    events.started(Stage::CompareFiles, None, None);
    let open = || ListingReader::open(path, "the listing just written");
    let compared = compare::compare(draft.vault(), groups, open, events).await?;
    events.ended(Stage::CompareFiles);
    Ok(compared)
}

fn names(compared: &Compared) -> String {
    let some: Vec<_> =
        compared.wrong.values().take(NAMED).map(|finding| format!("{:?} ({})", finding.name, finding.detail)).collect();
    some.join(", ")
}

pub(crate) async fn store_listing(
    draft: &Draft,
    path: &Path,
    written: Written,
    events: &Events,
) -> Result<StoredObject> {
    let object = StoredObject { key: layout::listing(draft.id()), bytes: written.bytes, sha256: written.sha256 };
    draft.add_file(object, (path, Given::Copied), "application/zstd", Stage::CompareFiles, events).await
}

pub(crate) async fn store_script(draft: &Draft, scratch: &Scratch, events: &Events) -> Result<StoredObject> {
    let path = scratch.file("restore-files.sh");
    let what = || format!("cannot write `{}`", path.display());
    create_private(&path)?.write_all(SCRIPT.as_bytes()).map_err(|cause| Error::local(what(), cause))?;
    let object = StoredObject {
        key: layout::script(draft.id()),
        bytes: SCRIPT.len() as u64,
        sha256: hex(&Sha256::digest(SCRIPT.as_bytes())),
    };
    draft.add_file(object, (&path, Given::Copied), "text/x-shellscript", Stage::CompareFiles, events).await
}
