//! The objects of a point carried into another vault: each lies there by itself, whatever it was reused from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures::stream::{self, StreamExt};
use sha2::{Digest, Sha256};

use super::capture::{SCRIPT, WINDOW, store_listing, store_script};
use super::compare::{self, Groups, list_groups};
use super::versions::version_of;
use crate::bucket::access;
use crate::bucket::folder::Folder;
use crate::bucket::marks::Marks;
use crate::bucket::transfer::{self, Copied, Done, Target};
use crate::bucket::{Bucket, Object, Reader, StoreOptions};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::{
    FileEntry, FileKind, ListingReader, ListingWriter, Place, ProofKind, Side, Written, hex, is_md5_shaped,
};
use crate::local::Scratch;
use crate::point::{Copies, Count, FilesPart, PointId, StoredObject};
use crate::vault::draft::Draft;
use crate::vault::{RecoveryPoint, layout};

/// Stores one of a point's own objects in another vault.
///
/// # Errors
///
/// [`Error::Damaged`] when it is not there, or is seen not to be as it was written.
pub(crate) async fn object(
    point: &RecoveryPoint,
    stored: &StoredObject,
    draft: &Draft,
    (key, options): (String, StoreOptions),
    (stage, events): (Stage, &Events),
) -> Result<StoredObject> {
    let (from, to) = (point.vault(), draft.vault());
    let what = || from.name(&stored.key);
    let there = from.reader().head(&from.full(&stored.key)).await?;
    let there = there.ok_or_else(|| Error::damaged(format!("{} is not there", what())))?;
    if there.side.size != stored.bytes {
        return Err(Error::damaged(format!("{} has {} bytes, not {}", what(), there.side.size, stored.bytes)));
    }
    let target = Target { key: to.full(&key), fallback: None, options, like: None };
    match transfer::copy(from.reader(), &there, to.writer(), &target).await? {
        Copied::Vanished => Err(Error::damaged(format!("{} is not there", what()))),
        Copied::Done(done) => {
            let sha256 = format!("sha256:{}", stored.sha256);
            let read = [&done.source, &done.copy].into_iter().filter_map(|side| side.checksum.as_deref());
            if read.filter(|checksum| checksum.starts_with("sha256:")).any(|checksum| checksum != sha256) {
                return Err(Error::damaged(format!("{} is not as it was written: its SHA-256 is another", what())));
            }
            events.advanced(stage, 1, stored.bytes);
            Ok(StoredObject { key, bytes: stored.bytes, sha256: stored.sha256.clone() })
        }
    }
}

/// Copies every file of a point, and writes the listing that says where each lies now.
///
/// What an earlier run of the same copy has stored is used where equal ETags prove it.
///
/// # Errors
///
/// [`Error::Damaged`] when a copy is not there or not as it was recorded; [`Error::Changed`] when what was copied does not stay as
/// it was written; [`Error::Busy`] when another run may have gone on with this copy meanwhile.
pub(crate) async fn carry(
    point: &RecoveryPoint,
    draft: &Draft,
    (clock, scratch): (&Clock, &Scratch),
    events: &Events,
) -> Result<FilesPart> {
    let Some(part) = &point.manifest().parts.files else {
        return Err(Error::missing(format!("{} has no files", point.id())));
    };
    events.started(Stage::CopyFiles, Some(part.total.files), Some(part.total.bytes));
    let path = scratch.file("carried.jsonl.zst");
    let mut tally = Tally::default();
    let written = copy_all(point, draft, (&path, scratch), &mut tally, (clock, events)).await?;
    events.ended(Stage::CopyFiles);
    check(draft, &path, events).await?;
    let (bytes, sha256) = (written.bytes, written.sha256.clone());
    let listing = match store_listing(draft, &path, written, events).await {
        // That of an earlier run, which came so far: it says the same in other words.
        Err(Error::Exists { .. }) => {
            let object = StoredObject { key: layout::listing(draft.id()), bytes, sha256 };
            replace(draft, (&path, object), "application/zstd", clock).await?
        }
        stored => stored?,
    };
    let script = match store_script(draft, scratch, events).await {
        Err(Error::Exists { .. }) => {
            let (bytes, sha256) = (SCRIPT.len() as u64, hex(&Sha256::digest(SCRIPT.as_bytes())));
            let object = StoredObject { key: layout::script(draft.id()), bytes, sha256 };
            replace(draft, (&scratch.file("restore-files.sh"), object), "text/x-shellscript", clock).await?
        }
        stored => stored?,
    };
    Ok(FilesPart {
        copies: Copies::Full,
        listing,
        script,
        categories: tally.categories,
        total: tally.total,
        copied: tally.total,
        reused: Count::default(),
        proofs: tally.proofs,
        ..part.clone()
    })
}

/// Stores a file of a claim of ours over what an earlier run of it has stored; what a later one has committed is not touched.
async fn replace(
    draft: &Draft,
    (path, object): (&Path, StoredObject),
    content_type: &str,
    clock: &Clock,
) -> Result<StoredObject> {
    draft.require_own(clock).await?;
    let (vault, name) = (draft.vault(), path.file_name().and_then(|name| name.to_str()).unwrap_or_default());
    let folder = Bucket::Folder(Folder::new(path.parent().unwrap_or(path).to_owned())).reader();
    let what = || Error::damaged(format!("`{}` is gone before it was stored", path.display()));
    let here = folder.head(name).await?.ok_or_else(what)?;
    let options = StoreOptions {
        class: None,
        encryption: vault.rules().encryption.clone(),
        headers: [("content-type".to_owned(), content_type.to_owned())].into(),
    };
    let target = Target { key: vault.full(&object.key), fallback: None, options, like: None };
    match transfer::copy(&folder, &here, vault.writer(), &target).await? {
        Copied::Done(_) => Ok(object),
        Copied::Vanished => Err(what()),
    }
}

#[derive(Default)]
struct Tally {
    categories: BTreeMap<String, Count>,
    total: Count,
    proofs: BTreeMap<ProofKind, u64>,
}

impl Tally {
    fn take(&mut self, entry: &FileEntry) {
        if entry.kind == FileKind::Folder {
            return;
        }
        self.total.add(entry.source.size);
        self.categories.entry(entry.category.clone()).or_default().add(entry.source.size);
        if let Some(proof) = entry.proof {
            *self.proofs.entry(proof).or_default() += 1;
        }
    }
}

async fn copy_all(
    point: &RecoveryPoint,
    draft: &Draft,
    (path, scratch): (&Path, &Scratch),
    tally: &mut Tally,
    (clock, events): (&Clock, &Events),
) -> Result<Written> {
    let mut there = already_there(point, draft, scratch).await?;
    let mut listing = ListingWriter::create(path)?;
    let entries = point.listing(scratch).await?.map(|entry| {
        let entry = entry?;
        let present = present(&mut there, draft, &entry)?;
        Ok((entry, present))
    });
    let mut done = stream::iter(entries)
        .map(async |work: Result<(FileEntry, Option<Object>)>| {
            let (entry, present) = work?;
            draft.require_lively(clock)?;
            carry_one(point, draft, entry, present, events).await
        })
        .buffered(WINDOW);
    while let Some(entry) = done.next().await {
        let entry = entry?;
        tally.take(&entry);
        listing.push(&entry)?;
    }
    drop(done);
    listing.finish()
}

/// What an earlier run of this copy has stored.
async fn already_there(point: &RecoveryPoint, draft: &Draft, scratch: &Scratch) -> Result<Groups> {
    let mut categories = BTreeSet::new();
    for entry in point.listing(scratch).await? {
        categories.insert(entry?.category);
    }
    let folder = layout::point(draft.id());
    let name = |category| (format!("{folder}{category}/"), Marks::default());
    list_groups(draft.vault(), categories.into_iter().map(name).collect()).await
}

fn key_of(draft: &Draft, entry: &FileEntry) -> String {
    layout::copy(&draft.vault().full(""), draft.id(), &entry.category, &entry.key)
}

fn present(there: &mut Groups, draft: &Draft, entry: &FileEntry) -> Result<Option<Object>> {
    let key = key_of(draft, entry);
    let group = layout::group(&key).filter(|_| !layout::is_long(&key)).and_then(|group| there.get_mut(group));
    match group {
        Some(group) => compare::take(group, &draft.vault().full(&key)),
        None => Ok(None),
    }
}

async fn carry_one(
    point: &RecoveryPoint,
    draft: &Draft,
    mut entry: FileEntry,
    present: Option<Object>,
    events: &Events,
) -> Result<FileEntry> {
    let prefix = draft.vault().full("");
    let key = key_of(draft, &entry);
    let (from, object, name) = match (version_of(&entry), &entry.copy, entry.at.as_ref().and_then(Place::vault_key)) {
        (Some(version), ..) => (point.source()?, version, format!("the version of {:?}", entry.key)),
        (None, Some(copy), Some(place)) => {
            let vault = point.vault();
            let side = Side { checksum: None, ..copy.clone() };
            let object = Object { key: vault.full(place), side, kind: FileKind::File };
            (vault.reader().clone(), object, format!("the copy {}", vault.name(place)))
        }
        _ => return Ok(entry),
    };
    let recorded = entry.copy.clone().unwrap_or_else(|| entry.source.clone());
    let target = Target {
        key: format!("{prefix}{key}"),
        fallback: Some(format!("{prefix}{}", layout::long(draft.id(), &entry.key))),
        options: StoreOptions {
            class: entry.source.class.clone().filter(|_| from.shares_service_with(draft.vault().reader())),
            encryption: draft.vault().rules().copies_encryption.clone(),
            headers: entry.headers.clone(),
        },
        like: None,
    };
    if let Some(present) = present.filter(|present| serves(&recorded, &present.side)) {
        transfer::confirm(&from, &object, draft.vault().reader(), &target).await?;
        (entry.copy, entry.at) = (Some(present.side), Some(at(draft.id(), key)));
        entry.proof = entry.proof.map(|proof| if proof == ProofKind::Version { ProofKind::Etag } else { proof });
        events.advanced(Stage::CopyFiles, 1, entry.source.size);
        return Ok(entry);
    }
    match transfer::copy(&from, &object, &draft.copies(), &target).await? {
        Copied::Vanished => Err(Error::damaged(format!("{name} is not there"))),
        Copied::Done(done) if differs(&recorded, &done) || done.is_rotten(&entry, object.side.etag.as_ref()) => {
            Err(Error::damaged(format!("{name} is not as it was written")))
        }
        Copied::Done(done) => {
            events.advanced(Stage::CopyFiles, 1, entry.source.size);
            Ok(carried(entry, *done, (draft.id(), &prefix), draft.vault().reader()))
        }
    }
}

/// True when what was copied is seen by its size or ETag not to be what was recorded; [`Done::is_rotten`] goes by its bytes.
fn differs(recorded: &Side, done: &Done) -> bool {
    done.copy.size != recorded.size || done.source.etag != recorded.etag
}

/// The line of a file whose copy was copied: original and copy are as equal as the weaker of the two proofs says.
fn carried(mut entry: FileEntry, done: Done, (id, prefix): (&PointId, &str), to: &Reader) -> FileEntry {
    entry.proof = match entry.proof {
        Some(ProofKind::Version) | None => Some(done.proof),
        Some(proof) => Some(proof.max(done.proof)),
    };
    let checksum = done.copy.checksum.clone().or(done.source.checksum);
    entry.copy = Some(Side { checksum, ..done.copy });
    entry.at = Some(at(id, done.key[prefix.len()..].to_owned()));
    let beside = access::only(&entry.headers);
    // A bucket has them beside the bytes.
    entry.headers = match (to.is_folder(), done.headers.is_empty()) {
        (true, false) => done.headers,
        (true, true) => entry.headers,
        (false, _) => BTreeMap::new(),
    };
    entry.headers.extend(beside);
    entry
}

fn at(id: &PointId, key: String) -> Place {
    Place::Vault { point: id.clone(), key }
}

/// True when an object that lies there is what would be copied now.
fn serves(copy: &Side, present: &Side) -> bool {
    let same =
        copy.etag.as_ref().zip(present.etag.as_ref()).is_some_and(|(copy, there)| copy == there && is_md5_shaped(copy));
    same && copy.size == present.size
}

async fn check(draft: &Draft, path: &Path, events: &Events) -> Result<()> {
    events.started(Stage::CompareFiles, None, None);
    let listing = ListingReader::open(path, "the listing just written")?;
    let compared = compare::compare(draft.vault(), listing, events).await?;
    events.ended(Stage::CompareFiles);
    match compared.wrong.values().next() {
        None => Ok(()),
        Some(first) => Err(Error::Changed {
            what: format!(
                "{} copies do not stay as they were written, the first is {:?} ({})",
                compared.wrong.len(),
                first.name,
                first.detail
            ),
        }),
    }
}
