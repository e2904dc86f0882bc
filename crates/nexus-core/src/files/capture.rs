//! The files of a point: what is unchanged since the base is reused, the rest is copied, then all is compared.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::{self, Either};
use futures::stream::{self, StreamExt};
use sha2::{Digest, Sha256};

use super::base::Base;
use super::compare::{self, Compared, Groups, Met, Outline, Walk};
use super::decide::{Decided, decide, look};
use super::moment;
use super::work::{Job, WorkReader};
use crate::bucket::access;
use crate::bucket::history::Moment;
use crate::bucket::transfer::{self, Copied, Target};
use crate::bucket::{Address, Object, Reader, StoreOptions};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::{FileEntry, FileKind, ListingReader, ListingWriter, Place, ProofKind, Side, Written, hex};
use crate::local::{Given, Scratch, create_private};
use crate::point::{Copies, Count, FileRules, FilesPart, Finding, FindingKind, Part, PointId, StoredObject};
use crate::vault::draft::Draft;
use crate::vault::layout;

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
/// What is asked for besides, object by object.
const KEPT_OF_ALL: &[&str] = &["acl", "website redirect"];
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
    /// What is kept of each object.
    pub properties: Properties,
}

/// What is kept of each object beside its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Properties {
    /// What a copy carries.
    #[default]
    Copied,
    /// Also who may do what with it and where a website sends those who ask for it: a request more for each object in each run, two
    /// for one that is copied.
    All,
}

impl Properties {
    /// Those that a point was made with.
    pub fn of(part: &FilesPart) -> Self {
        if part.properties.iter().any(|kept| kept == KEPT_OF_ALL[0]) { Self::All } else { Self::Copied }
    }
}

impl FilesPlan {
    /// Fails where more is asked for than a folder has.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] saying so.
    pub fn require_properties(&self) -> Result<()> {
        if self.properties == Properties::All && self.source.is_folder() {
            return Err(Error::usage_hint(
                format!("{} is a folder, whose files have no access control lists", self.address),
                "leave out properties = \"all\" under [files]: modes and owners are kept",
            ));
        }
        Ok(())
    }

    /// Fails unless points without copies would last, where such are asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] with the reason.
    pub async fn require_lasting(&self, kept_for: Option<u64>) -> Result<()> {
        moment::require_versions(self, kept_for).await
    }
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
    /// Where the listing lies on this machine, until the scratch goes.
    pub(crate) listing: PathBuf,
    /// What the comparison with the vault's own listing saw; none where it is not all that there is to see.
    pub(crate) seen: Option<SeenCopies>,
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

#[derive(Default)]
pub(super) struct Tally {
    categories: BTreeMap<String, Count>,
    total: Count,
    copied: Count,
    reused: Count,
    pub(super) excluded: Count,
    /// Copies of backups that broke off.
    pub(super) left: Count,
    proofs: BTreeMap<crate::listing::ProofKind, u64>,
    pub(super) findings: Vec<Finding>,
    /// Points and categories in which copies lie.
    groups: Outline,
    /// Lines that name one in the vault.
    copies: u64,
    /// Of the vault that they lie in.
    prefix: String,
}

/// What may serve instead of copies that are made anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct Earlier<'a> {
    /// The point before.
    pub(crate) base: Option<&'a Base>,
    /// Backups that broke off, the newest first.
    pub left: &'a [PointId],
    /// The moment of which they are to be, by the service's clock, where their bucket keeps versions.
    pub at: Option<Moment>,
}

/// Takes the files into a draft: listed now, so after the instant of the database.
pub async fn capture(
    plan: &FilesPlan,
    draft: &Draft,
    earlier: Earlier<'_>,
    scratch: &Scratch,
    events: &Events,
) -> Result<FilesCapture> {
    let base = earlier.base;
    events.started(Stage::ListFiles, None, None);
    // The claim names the base by now, so what is seen of its copies from here on holds, for as long as it is fresh.
    let begun = Instant::now();
    let quietly = Events::none();
    let (groups, decided, script) = futures::try_join!(
        Box::pin(look(base, draft)),
        Box::pin(decide(plan, draft, earlier, scratch, events)),
        Box::pin(store_script(draft, scratch, &quietly))
    )?;
    let Decided { work, mut tally, to_copy } = decided;
    tally.prefix = draft.vault().full("");
    let groups = if begun.elapsed() < FRESH { groups } else { Groups::new() };
    events.ended(Stage::ListFiles);
    if tally.left.files > 0 {
        events.note(format!("{} copies of a backup that broke off are used where they lie", tally.left.files));
    }

    let mut path = scratch.file("files.jsonl.zst");
    let to_copy = if plan.copies == Copies::Versions { Count::default() } else { to_copy };
    events.started(Stage::CopyFiles, Some(to_copy.files), Some(to_copy.bytes));
    let mut walk = Walk::begin(draft.vault(), groups)?;
    let mut written = copy_all(plan, draft, &work, (&path, walk.as_mut()), &mut tally, events).await?;
    events.ended(Stage::CopyFiles);

    // What was compared while the listing was written.
    let mut met = match walk.filter(|_| begun.elapsed() < FRESH) {
        Some(walk) => Some(walk.end(draft.vault()).await?),
        None => None,
    };
    let mut round = 0;
    let (files, since) = loop {
        // The oldest look among those that are compared counts.
        let since = if met.is_none() { Instant::now() } else { begun };
        let outline = std::mem::take(&mut tally.groups);
        let compared = check(draft, met.take(), outline, &path, events).await?;
        if compared.all.files != tally.copies {
            let (seen, all) = (compared.all.files, tally.copies);
            // Nothing that a vault or a service does leads here; if anything else does, no point may come of it.
            let what = format!(
                "of {all} copies that the new listing names {seen} were compared: nothing was committed, run it again"
            );
            return Err(Error::Local { what, cause: None });
        }
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
        let Tally { excluded, findings, prefix, .. } = tally;
        tally = Tally { excluded, findings, prefix, ..Tally::default() };
        written = copy_again(plan, draft, &path, &next, &compared, &mut tally, events).await?;
        path = next;
    };
    let stored = store_listing(draft, &path, written, events).await?;
    // Versions of the source are in no listing of the vault.
    let seen = SeenCopies { listing: stored.sha256.clone(), files, since };
    let seen = (plan.copies != Copies::Versions).then_some(seen);
    let findings = std::mem::take(&mut tally.findings);
    Ok(FilesCapture { findings, part: part(plan, tally, stored, script), listing: path, seen })
}

fn part(plan: &FilesPlan, tally: Tally, listing: StoredObject, script: StoredObject) -> FilesPart {
    let kept = if plan.source.is_folder() { KEPT_OF_FILES } else { KEPT_OF_OBJECTS };
    let beside = if plan.properties == Properties::All { KEPT_OF_ALL } else { &[] };
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
        properties: kept.iter().chain(beside).map(ToString::to_string).collect(),
    }
}

async fn copy_all(
    plan: &FilesPlan,
    draft: &Draft,
    work: &Path,
    (path, mut walk): (&Path, Option<&mut Walk>),
    tally: &mut Tally,
    events: &Events,
) -> Result<Written> {
    let jobs = WorkReader::open(work)?;
    let mut listing = ListingWriter::create(path)?;
    let mut vanished = Vec::new();
    {
        let begun = jobs.map(|job| match job {
            // What is used again takes no work, and is too much to be carried around as if it did.
            Ok(Job { reuse: Some(earlier), category, .. }) if plan.properties == Properties::Copied => {
                let headers = access::without(earlier.headers);
                let earlier = FileEntry { headers, ..earlier };
                let entry = Box::new(FileEntry { category, ..earlier });
                Either::Right(future::ready(Ok(Outcome::Reused(entry))))
            }
            Ok(job) => Either::Left(Box::pin(carry_out(plan, draft, job, events))),
            Err(error) => Either::Right(future::ready(Err(error))),
        });
        let mut done = stream::iter(begun).buffered(WINDOW);
        while let Some(outcome) = done.next().await {
            let (entry, way) = match outcome? {
                Outcome::Kept(entry) => (entry, Way::Kept),
                Outcome::Reused(entry) => (entry, Way::Reused),
                Outcome::Copied(entry) => (entry, Way::Copied),
                Outcome::Vanished(key) => {
                    vanished.push(key);
                    continue;
                }
            };
            tally.take(&entry, way, &mut listing)?;
            if let Some(walk) = &mut walk {
                // One that lies in no group of the walk is compared when all are there.
                walk.meet(&entry)?;
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

/// Copies a file, or takes over what has no bytes or is used again, and asks for what no copy has where that is to be kept.
async fn carry_out(plan: &FilesPlan, draft: &Draft, job: Job, events: &Events) -> Result<Outcome> {
    let object = job.object.clone();
    let mut outcome = match job {
        Job { reuse: Some(earlier), category, .. } => Outcome::Reused(Box::new(FileEntry { category, ..earlier })),
        job => copy_one(plan, draft, job, events).await?,
    };
    let entry = match &mut outcome {
        Outcome::Kept(entry) | Outcome::Reused(entry) | Outcome::Copied(entry)
            if plan.properties == Properties::All =>
        {
            entry
        }
        _ => return Ok(outcome),
    };
    if entry.kind == FileKind::File && !access::ask(&plan.source, &object, &mut entry.headers).await? {
        return Ok(Outcome::Vanished(object.key));
    }
    Ok(outcome)
}

async fn copy_one(plan: &FilesPlan, draft: &Draft, job: Job, events: &Events) -> Result<Outcome> {
    let Job { object, category, .. } = job;
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
    pub(super) fn of(findings: Vec<Finding>) -> Self {
        Self { findings, ..Self::default() }
    }

    fn take(&mut self, entry: &FileEntry, way: Way, listing: &mut ListingWriter) -> Result<()> {
        listing.push(entry)?;
        if entry.kind == FileKind::Folder {
            return Ok(());
        }
        let size = entry.source.size;
        self.total.add(size);
        match self.categories.get_mut(&entry.category) {
            Some(count) => count.add(size),
            None => self.categories.entry(entry.category.clone()).or_default().add(size),
        }
        self.copies += u64::from(entry.at.as_ref().is_some_and(|at| at.vault_key().is_some()));
        compare::note_copy(entry, &self.prefix, &mut self.groups);
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

async fn check(draft: &Draft, met: Option<Met>, outline: Outline, path: &Path, events: &Events) -> Result<Compared> {
    events.started(Stage::CompareFiles, None, None);
    let listing = ListingReader::open(path, "the listing just written")?;
    let compared = compare::compare_rest(draft.vault(), met, outline, listing, events).await?;
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
