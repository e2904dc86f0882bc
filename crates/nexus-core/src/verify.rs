//! Verify: what a point says of itself against what the vault holds, at a stated depth, with a proof in its journal.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use crate::bucket::hashes::Hashes;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::files::capture::SeenCopies;
use crate::files::compare;
use crate::listing::{FileEntry, Place, is_md5_shaped};
use crate::local::Scratch;
use crate::point::{
    Claim, DatabaseKind, DatabasePart, Depth, FileHash, FilesPart, Finding, FindingKind, JournalEvent, Part, Proof,
    RecordTable, RecordsPart, StoredObject, Verdict, parse,
};
use crate::records::export::SUMMARY_FILE;
use crate::vault::{RecoveryPoint, layout};

/// The most findings that a proof lists; it counts all.
pub(crate) const LISTED: usize = 1_000;
/// Record files read at once.
pub(crate) const RECORDS_AT_ONCE: usize = 4;
/// Record files on this machine that are hashed at once.
const HASHED_AT_ONCE: usize = 2;
/// Objects read at once at full depth.
pub(crate) const AT_ONCE: usize = 16;

/// What to look at.
#[derive(Debug, Clone)]
pub struct VerifyRequest {
    /// How deep.
    pub depth: Depth,
    /// Which parts; empty: all that the point has.
    pub parts: Vec<Part>,
    /// Whether record files on this machine are looked at as well.
    pub local: LocalRecords,
}

/// Whether record files on this machine are looked at as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LocalRecords {
    /// They are, where they are here.
    #[default]
    Look,
    /// They do not matter.
    Ignore,
}

impl VerifyRequest {
    /// The look that proves a point: all parts at default depth.
    pub fn whole() -> Self {
        Self { depth: Depth::Default, parts: Vec::new(), local: LocalRecords::Look }
    }
}

/// What a look came to.
#[derive(Debug)]
pub struct Verified {
    /// What was looked at and found.
    pub proof: Proof,
    /// Why it could not be looked at, where the verdict says so.
    pub trouble: Option<Error>,
    /// Why the proof could not be added to the journal, if it could not.
    pub unrecorded: Option<Error>,
    /// What is wrong with record files on this machine, where they are here: the point is whole without them as long
    /// as the vault holds them, so they are no part of the proof.
    pub local_records: Option<Vec<Finding>>,
}

impl Verified {
    /// The outcome of a look that did not even begin.
    pub(crate) fn unseen(request: &VerifyRequest, trouble: Error) -> Self {
        let proof = Proof {
            depth: request.depth,
            verdict: Verdict::CouldNotVerify,
            parts: request.parts.clone(),
            files: 0,
            rows: 0,
            bytes_read: 0,
            milliseconds: 0,
            findings_total: 0,
            findings: Vec::new(),
            sampled: None,
            measured: std::collections::BTreeMap::new(),
        };
        Self { proof, trouble: Some(trouble), unrecorded: None, local_records: None }
    }
}

/// Looks, and adds what it saw to the point's journal.
pub async fn verify(
    point: &RecoveryPoint,
    request: &VerifyRequest,
    scratch: &Path,
    clock: &Clock,
    events: &Events,
) -> Result<Verified> {
    verify_seen(point, request, None, scratch, clock, events).await
}

/// The same for the run that made the point: copies that it compared a moment ago are not listed twice.
pub(crate) async fn verify_seen(
    point: &RecoveryPoint,
    request: &VerifyRequest,
    seen: Option<SeenCopies>,
    scratch: &Path,
    clock: &Clock,
    events: &Events,
) -> Result<Verified> {
    let copies = seen.map_or(Copies::AreListed, Copies::WereSeen);
    let mut verified = look(point, request, copies, &Scratch::create(scratch)?, events).await?;
    if verified.proof.verdict == Verdict::Failed {
        leave_out_what_goes(point, &mut verified.proof).await?;
    }
    let proof = as_recorded(point, &verified.proof, verified.trouble.is_some());
    let entry = JournalEvent::Verified(proof);
    verified.unrecorded = point.journal().add(entry, clock).await.err();
    Ok(verified)
}

/// What the journal says of a look: where nothing but indexes are bad the point stays as good as any, since nothing that is restored
/// needs one. Whoever looked hears of it.
pub(crate) fn as_recorded(point: &RecoveryPoint, proof: &Proof, troubled: bool) -> Proof {
    let only_indexes = !troubled && !proof.findings.is_empty() && bad_indexes(point, proof).is_some();
    let verdict = if only_indexes { Verdict::Verified } else { proof.verdict };
    Proof { verdict, ..proof.clone() }
}

/// The name of the index that a finding is about; none for a finding about anything else.
fn index_of(point: &RecoveryPoint, finding: &Finding) -> Option<String> {
    let records = point.manifest().parts.records.as_ref().filter(|_| finding.part == Some(Part::Records))?;
    is_index(records, &finding.name).then(|| finding.name.rsplit('/').next().unwrap_or(&finding.name).to_owned())
}

/// True for the index of a table, by its key or path.
pub(crate) fn is_index(records: &RecordsPart, name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    records.tables.iter().any(|table| table.index.is_some() && table.index_file() == last)
}

/// The files of the indexes that are not as they were written; none when anything else is wrong with the point as well.
pub(crate) fn bad_indexes(point: &RecoveryPoint, proof: &Proof) -> Option<Vec<String>> {
    if proof.findings.len() as u64 != proof.findings_total {
        return None;
    }
    proof.findings.iter().map(|finding| index_of(point, finding)).collect()
}

/// What a prune takes away meanwhile is no damage; what is wrong with the rest is.
///
/// # Errors
///
/// As [`RecoveryPoint::require_still_kept`], when nothing but that was found.
async fn leave_out_what_goes(point: &RecoveryPoint, proof: &mut Proof) -> Result<()> {
    let state = point.vault().state(point.id().clone()).await?;
    let going = match state {
        Some(state) if state.manifest().is_some() => state.journal.going(),
        _ => return point.require_still_kept(&proof.parts).await,
    };
    let before = proof.findings.len() as u64;
    proof.findings.retain(|finding| finding.part.is_none_or(|part| !going.contains(&part)));
    proof.findings_total -= before - proof.findings.len() as u64;
    if proof.findings.is_empty() { point.require_still_kept(&proof.parts).await } else { Ok(()) }
}

/// Looks, and tells nobody.
pub async fn check(
    point: &RecoveryPoint,
    request: &VerifyRequest,
    scratch: &Path,
    events: &Events,
) -> Result<Verified> {
    look(point, request, Copies::AreListed, &Scratch::create(scratch)?, events).await
}

/// The same but for the copies of files. A listing of the point that was fetched into `scratch` is not fetched again.
pub(crate) async fn check_but_copies(
    point: &RecoveryPoint,
    request: &VerifyRequest,
    scratch: &Scratch,
    events: &Events,
) -> Result<Verified> {
    look(point, request, Copies::AreLeftOut, scratch, events).await
}

/// How the copies of files are looked at.
enum Copies {
    /// By a listing of the vault.
    AreListed,
    /// They were, by the run that made the point.
    WereSeen(SeenCopies),
    /// Not here.
    AreLeftOut,
}

async fn look(
    point: &RecoveryPoint,
    request: &VerifyRequest,
    copies: Copies,
    scratch: &Scratch,
    events: &Events,
) -> Result<Verified> {
    let begun = Instant::now();
    let present = point.manifest().present();
    let parts: Vec<Part> = if request.parts.is_empty() { point.kept() } else { request.parts.clone() };
    if let Some(part) = parts.iter().find(|part| !present.contains(part)) {
        return Err(Error::usage(format!("{} has no {part} to look at", point.id())));
    }
    if parts.iter().any(|part| point.entries().expired().contains(part)) {
        point.require_kept(&parts).await?;
    }
    events.started(Stage::Verify, None, None);
    let mut look = Look {
        point,
        depth: request.depth,
        copies,
        findings: Vec::new(),
        files: 0,
        rows: 0,
        bytes: 0,
        local: None,
        at_local: request.local == LocalRecords::Look,
    };
    let trouble = look.all(&parts, scratch, events).await.err();
    events.ended(Stage::Verify);
    let verdict = match (&trouble, look.findings.is_empty()) {
        // Damage that was seen stays damage, even when the look broke off later.
        (_, false) => Verdict::Failed,
        (None, true) => Verdict::Verified,
        (Some(_), true) => Verdict::CouldNotVerify,
    };
    let proof = Proof {
        depth: request.depth,
        verdict,
        parts,
        files: look.files,
        rows: look.rows,
        bytes_read: look.bytes,
        milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        findings_total: look.findings.len() as u64,
        findings: look.findings.into_iter().take(LISTED).collect(),
        sampled: None,
        measured: std::collections::BTreeMap::new(),
    };
    Ok(Verified { proof, trouble, unrecorded: None, local_records: look.local })
}

/// What is seen beside the database's copy and the record files.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// What is wrong.
    pub(crate) findings: Vec<Finding>,
    /// Files whose copies were compared with a listing of the vault.
    pub(crate) files: u64,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Why not all of it could be looked at.
    pub(crate) trouble: Option<Error>,
}

/// Looks at all that the default depth looks at but the database's copy and the record files: a drill reads those itself.
pub(crate) async fn beside(point: &RecoveryPoint, parts: &[Part], scratch: &Scratch, events: &Events) -> Beside {
    let mut look = Look {
        point,
        depth: Depth::Default,
        copies: Copies::AreListed,
        findings: Vec::new(),
        files: 0,
        rows: 0,
        bytes: 0,
        local: None,
        at_local: false,
    };
    let trouble = look.beside(parts, scratch, events).await.err();
    Beside { findings: look.findings, files: look.files, bytes: look.bytes, trouble }
}

struct Look<'a> {
    point: &'a RecoveryPoint,
    depth: Depth,
    copies: Copies,
    findings: Vec<Finding>,
    files: u64,
    rows: u64,
    bytes: u64,
    local: Option<Vec<Finding>>,
    at_local: bool,
}

impl Look<'_> {
    async fn all(&mut self, parts: &[Part], scratch: &Scratch, events: &Events) -> Result<()> {
        self.documents().await?;
        if self.depth == Depth::Quick {
            return self.quickly(parts, scratch).await;
        }
        let manifest = self.point.manifest();
        if let (Some(database), true) = (&manifest.parts.database, parts.contains(&Part::Database)) {
            self.object(Part::Database, &database.object, events).await?;
        }
        self.parts_beside(parts, scratch, events).await?;
        if let (Some(records), true) = (&manifest.parts.records, parts.contains(&Part::Records)) {
            self.records(records, events).await?;
        }
        Ok(())
    }

    async fn beside(&mut self, parts: &[Part], scratch: &Scratch, events: &Events) -> Result<()> {
        self.documents().await?;
        self.parts_beside(parts, scratch, events).await
    }

    async fn parts_beside(&mut self, parts: &[Part], scratch: &Scratch, events: &Events) -> Result<()> {
        let manifest = self.point.manifest();
        let database = manifest.parts.database.as_ref().filter(|_| parts.contains(&Part::Database));
        if let Some(globals) = database.and_then(globals) {
            self.object(Part::Database, globals, events).await?;
        }
        if let (Some(files), true) = (&manifest.parts.files, parts.contains(&Part::Files)) {
            self.files(files, scratch, events).await?;
        }
        Ok(())
    }

    fn find(&mut self, part: Option<Part>, kind: FindingKind, name: impl Into<String>, detail: impl Into<String>) {
        self.findings.push(Finding { part, kind, name: name.into(), detail: detail.into() });
    }

    /// The claim and the journal: small, and read at every depth.
    async fn documents(&mut self) -> Result<()> {
        let (point, vault) = (self.point, self.point.vault());
        let (key, journal) = (layout::claim(point.id()), point.journal());
        let (claim, entries) = futures::try_join!(vault.read(&key), journal.entries())?;
        match claim {
            None => self.find(None, FindingKind::Missing, &key, "the claim is not there"),
            Some(bytes) => {
                self.bytes += bytes.len() as u64;
                match parse::<Claim>(&bytes, &vault.name(&key)) {
                    Err(error) => self.find(None, FindingKind::Changed, &key, error.to_string()),
                    Ok(claim) if claim.nonce != point.manifest().nonce || claim.point != *point.id() => {
                        self.find(None, FindingKind::Inconsistent, &key, "it is the claim of another point");
                    }
                    Ok(_) => {}
                }
            }
        }
        for (key, reason) in entries.unreadable {
            self.find(None, FindingKind::Changed, key, reason);
        }
        Ok(())
    }

    /// One listing against the manifest: is everything there, with the size it had?
    async fn quickly(&mut self, parts: &[Part], scratch: &Scratch) -> Result<()> {
        let vault = self.point.vault();
        for (part, object) in self.objects(parts) {
            match vault.reader().head(&vault.full(&object.key)).await? {
                None => self.find(Some(part), FindingKind::Missing, object.key, "it is not there"),
                Some(there) if there.side.size != object.bytes => {
                    let detail = format!("it has {} bytes, not {}", there.side.size, object.bytes);
                    self.find(Some(part), FindingKind::Changed, object.key, detail);
                }
                Some(_) => {}
            }
        }
        let records = self.point.manifest().parts.records.as_ref();
        if let Some(records) = records.filter(|records| !records.in_vault && parts.contains(&Part::Records)) {
            self.local_sizes(records)?;
        }
        let whole = self.findings.iter().all(|finding| index_of(self.point, finding).is_some());
        if parts.contains(&Part::Files) && whole {
            self.compare(scratch, &Events::none()).await?;
        }
        Ok(())
    }

    /// Of records that this machine alone has, whether the files are there with their sizes.
    fn local_sizes(&mut self, records: &RecordsPart) -> Result<()> {
        let folder = records.folder.as_deref().map(Path::new).filter(|folder| folder.is_dir());
        let folder = folder.ok_or_else(|| self.only_elsewhere())?;
        for object in record_files(self.point, records) {
            let path = folder.join(object.key.rsplit('/').next().unwrap_or(&object.key));
            let there = std::fs::metadata(&path).map(|meta| meta.len());
            let finding = match there {
                Ok(bytes) if bytes == object.bytes => continue,
                Ok(bytes) => (FindingKind::Changed, format!("it has {bytes} bytes, not {}", object.bytes)),
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                    (FindingKind::Missing, "it is not there".to_owned())
                }
                Err(cause) => return Err(Error::local(format!("cannot read `{}`", path.display()), cause)),
            };
            self.find(Some(Part::Records), finding.0, path.display().to_string(), finding.1);
        }
        Ok(())
    }

    fn only_elsewhere(&self) -> Error {
        Error::missing(format!(
            "the records of {} are kept on the machine that made it only, and are not here",
            self.point.id()
        ))
    }

    /// The objects that the point itself consists of, but for its files' copies.
    fn objects(&self, parts: &[Part]) -> Vec<(Part, StoredObject)> {
        let manifest = self.point.manifest();
        let mut objects = Vec::new();
        if let Some(database) = &manifest.parts.database {
            objects.push((Part::Database, database.object.clone()));
            objects.extend(globals(database).map(|globals| (Part::Database, globals.clone())));
        }
        if let Some(records) = manifest.parts.records.as_ref().filter(|records| records.in_vault) {
            objects.extend(record_files(self.point, records).map(|object| (Part::Records, object)));
        }
        if let Some(files) = &manifest.parts.files {
            objects.push((Part::Files, files.listing.clone()));
            objects.push((Part::Files, files.script.clone()));
        }
        objects.retain(|(part, _)| parts.contains(part));
        objects
    }

    /// Reads one object from end to end.
    async fn object(&mut self, part: Part, object: &StoredObject, events: &Events) -> Result<bool> {
        let vault = self.point.vault();
        let hash = vault.reader().hash(&vault.full(&object.key)).await?;
        Ok(self.judge_read(part, object, hash.as_ref(), events))
    }

    fn judge_read(&mut self, part: Part, object: &StoredObject, hash: Option<&FileHash>, events: &Events) -> bool {
        if let Some(hash) = hash {
            self.bytes += hash.bytes;
            events.advanced(Stage::Verify, 1, hash.bytes);
        }
        let expected = FileHash { bytes: object.bytes, sha256: object.sha256.clone() };
        self.judge(part, &object.key, &expected, hash)
    }

    fn judge(&mut self, part: Part, name: &str, expected: &FileHash, hash: Option<&FileHash>) -> bool {
        match hash {
            None => self.find(Some(part), FindingKind::Missing, name, "it is not there"),
            Some(hash) if hash.bytes != expected.bytes => {
                self.find(
                    Some(part),
                    FindingKind::Changed,
                    name,
                    format!("it has {} bytes, not {}", hash.bytes, expected.bytes),
                );
            }
            Some(hash) if hash.sha256 != expected.sha256 => {
                self.find(Some(part), FindingKind::Changed, name, "its SHA-256 is not the one it had");
            }
            Some(_) => return true,
        }
        false
    }

    async fn records(&mut self, records: &RecordsPart, events: &Events) -> Result<()> {
        if records.in_vault {
            let vault = self.point.vault();
            let read = stream::iter(record_files(self.point, records))
                .map(async |object| Ok::<_, Error>((vault.reader().hash(&vault.full(&object.key)).await?, object)))
                .buffered(RECORDS_AT_ONCE);
            let mut read = std::pin::pin!(read);
            while let Some((hash, object)) = read.try_next().await? {
                if self.judge_read(Part::Records, &object, hash.as_ref(), events) {
                    self.rows += rows_of(records, &object.key);
                }
            }
        }
        let folder = records.folder.as_deref().map(Path::new).filter(|folder| folder.is_dir());
        match folder {
            Some(folder) if self.at_local || !records.in_vault => self.local_records(records, folder),
            // On another machine, or cleared away: no damage as long as the vault holds them.
            _ if records.in_vault => Ok(()),
            _ => Err(self.only_elsewhere()),
        }
    }

    fn local_records(&mut self, records: &RecordsPart, folder: &Path) -> Result<()> {
        let before = self.findings.len();
        let name = |object: &StoredObject| object.key.rsplit('/').next().unwrap_or(&object.key).to_owned();
        let files: Vec<_> =
            record_files(self.point, records).map(|object| (folder.join(name(&object)), object)).collect();
        let hashes = hash_all(&files.iter().map(|(path, _)| path.as_path()).collect::<Vec<_>>());
        for ((path, object), hash) in files.into_iter().zip(hashes) {
            let hash = hash.map_err(|cause| Error::local(format!("cannot read `{}`", path.display()), cause))?;
            self.bytes += hash.as_ref().map_or(0, |hash| hash.bytes);
            let expected = FileHash { bytes: object.bytes, sha256: object.sha256 };
            if self.judge(Part::Records, &path.display().to_string(), &expected, hash.as_ref()) && !records.in_vault {
                self.rows += rows_of(records, &object.key);
            }
        }
        self.local = Some(Vec::new());
        if records.in_vault {
            self.local = Some(self.findings.split_off(before));
        }
        Ok(())
    }

    async fn files(&mut self, files: &FilesPart, scratch: &Scratch, events: &Events) -> Result<()> {
        self.object(Part::Files, &files.script, events).await?;
        if !self.compare(scratch, events).await? {
            return Ok(());
        }
        if self.depth >= Depth::Full {
            self.every_byte(scratch, events).await?;
        }
        Ok(())
    }

    /// Reads the listing and compares what it names with what the vault lists; false when the listing is no use.
    async fn compare(&mut self, scratch: &Scratch, events: &Events) -> Result<bool> {
        let (point, Some(files)) = (self.point, &self.point.manifest().parts.files) else { return Ok(false) };
        match point.listing(scratch).await {
            Ok(_) => self.bytes += files.listing.bytes,
            Err(error @ Error::Damaged { .. }) => {
                self.find(Some(Part::Files), FindingKind::Changed, &files.listing.key, error.to_string());
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        let seen = match &self.copies {
            Copies::WereSeen(seen) => seen.of(&files.listing.sha256),
            Copies::AreListed | Copies::AreLeftOut => None,
        };
        if let Some(files) = seen {
            // What was read is what was written and counted a moment ago.
            self.files += files;
            return Ok(true);
        }
        if !matches!(self.copies, Copies::AreLeftOut) {
            let compared = compare::copies(point, scratch, events).await?;
            self.files += compared.all.files;
            self.findings.extend(compared.wrong.into_values());
        }
        let recorded: u64 = files.total.files;
        let listed = point
            .listing(scratch)
            .await?
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.kind != crate::listing::FileKind::Folder))
            .count();
        if listed as u64 != recorded {
            let detail = format!("it has {listed} lines for files, the manifest counts {recorded}");
            self.find(Some(Part::Files), FindingKind::Inconsistent, &files.listing.key, detail);
        }
        Ok(true)
    }

    /// Reads every copy and compares its bytes with what is known of them.
    async fn every_byte(&mut self, scratch: &Scratch, events: &Events) -> Result<()> {
        let point = self.point;
        let lacking: std::collections::BTreeSet<String> =
            self.findings.iter().map(|finding| finding.name.clone()).collect();
        let entries = point
            .listing(scratch)
            .await?
            .filter(|entry| entry.as_ref().map_or(true, |entry| entry.at.is_some() && !lacking.contains(&entry.key)));
        let read: Vec<Finding> = Vec::new();
        let (bytes, found) = stream::iter(entries)
            .map(async |entry| content(point, &entry?, (Stage::Verify, events)).await)
            .buffer_unordered(AT_ONCE)
            .try_fold((0_u64, read), async |(bytes, mut found), (count, finding)| {
                found.extend(finding);
                Ok((bytes + count, found))
            })
            .await?;
        self.bytes += bytes;
        self.findings.extend(found);
        Ok(())
    }
}

/// Reads one copy from end to end; says how many bytes that were, and what is wrong with them.
pub(crate) async fn content(
    point: &RecoveryPoint,
    entry: &FileEntry,
    (stage, events): (Stage, &Events),
) -> Result<(u64, Option<Finding>)> {
    let finding =
        |kind, detail: String| Some(Finding { part: Some(Part::Files), kind, name: entry.key.clone(), detail });
    let (key, read) = match &entry.at {
        None => return Ok((0, None)),
        Some(Place::Vault { key, .. }) => (key, point.vault().reader().hashes(&point.vault().full(key)).await?),
        Some(Place::Version { id }) => (&entry.key, point.source()?.hashes_of_version(&entry.key, id).await?),
    };
    let Some(hashes) = read else {
        return Ok((0, finding(FindingKind::Missing, format!("its copy {key} is not there"))));
    };
    events.advanced(stage, 1, hashes.hash.bytes);
    let same = sameness(point, entry, &hashes).await?;
    let wrong = || finding(FindingKind::Changed, format!("its copy {key} has other bytes than it had"));
    Ok((hashes.hash.bytes, if same.is_some() { None } else { wrong() }))
}

/// By what the bytes of a copy were found to be those that the file had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sameness {
    /// A checksum of them.
    Checksum,
    /// An ETag that is their MD5.
    Etag,
    /// Their number alone: nothing else is known of them.
    Size,
}

/// Holds the bytes of a copy against all that is known of the file; none when they are other ones.
pub(crate) async fn sameness(point: &RecoveryPoint, entry: &FileEntry, hashes: &Hashes) -> Result<Option<Sameness>> {
    let copy = entry.copy.as_ref();
    let sides = [copy, Some(&entry.source)].into_iter().flatten();
    let as_recorded = sides.filter_map(|side| hashes.have(side.checksum.as_deref()?)).reduce(|one, other| one && other);
    let etag = copy.and_then(|copy| copy.etag.as_deref()).filter(|etag| is_md5_shaped(etag));
    // An MD5-shaped ETag counts only when the original had the same: an encrypting service's is a random number.
    let etag = etag.filter(|_| entry.proof == Some(crate::listing::ProofKind::Etag));
    let as_etag = etag.map(|etag| etag == hashes.md5);
    if hashes.hash.bytes != entry.source.size || as_recorded.or(as_etag) == Some(false) {
        return Ok(None);
    }
    // Of a version its ETag may be the MD5, or a random number; then the service's own checksum is the measure.
    let as_version = match &entry.at {
        Some(Place::Version { .. }) if entry.source.etag.as_deref() == Some(hashes.md5.as_str()) => {
            return Ok(Some(if as_recorded.is_some() { Sameness::Checksum } else { Sameness::Etag }));
        }
        Some(Place::Version { id }) => {
            let kept = point.source()?.checksum_of_version(&entry.key, id).await?;
            kept.and_then(|checksum| hashes.have(&checksum))
        }
        _ => None,
    };
    Ok(match (as_recorded.or(as_version), as_etag) {
        _ if as_version == Some(false) => None,
        (Some(_), _) => Some(Sameness::Checksum),
        (None, Some(_)) => Some(Sameness::Etag),
        (None, None) => Some(Sameness::Size),
    })
}

/// The files of a point's records: of each table the records and, where there is one, their index; then the summary.
pub(crate) fn record_files<'a>(
    point: &'a RecoveryPoint,
    records: &'a RecordsPart,
) -> impl Iterator<Item = StoredObject> + use<'a> {
    let object = |file: &str, hash: FileHash| StoredObject {
        key: layout::record(point.id(), file),
        bytes: hash.bytes,
        sha256: hash.sha256,
    };
    let tables = records.tables.iter().flat_map(RecordTable::files).map(move |(file, hash)| object(&file, hash));
    let summary = records.summary.iter().map(move |summary| object(SUMMARY_FILE, summary.clone()));
    tables.chain(summary)
}

fn globals(database: &DatabasePart) -> Option<&StoredObject> {
    match &database.kind {
        DatabaseKind::Postgres { postgres } => postgres.globals.as_ref(),
        DatabaseKind::Sqlite { .. } => None,
    }
}

fn rows_of(records: &RecordsPart, key: &str) -> u64 {
    records
        .tables
        .iter()
        .find(|table| key.rsplit('/').next() == Some(table.file.as_str()))
        .map_or(0, |table| table.rows)
}

/// Bytes and SHA-256 of files on this machine, some at once; of one that is not there nothing.
fn hash_all(paths: &[&Path]) -> Vec<std::io::Result<Option<FileHash>>> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let next = AtomicUsize::new(0);
    let work = || {
        let mut hashed = Vec::new();
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            hashed.push((*path, hash_local(path)));
        }
        hashed
    };
    let mut all: BTreeMap<&Path, _> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..HASHED_AT_ONCE.min(paths.len())).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let broke_off = || Err(std::io::Error::other("a thread that hashed it broke off"));
    paths.iter().map(|path| all.remove(path).unwrap_or_else(broke_off)).collect()
}

pub(crate) fn hash_local(path: &Path) -> std::io::Result<Option<FileHash>> {
    Ok(crate::local::sha256(path)?.map(|(bytes, sha256)| FileHash { bytes, sha256 }))
}
