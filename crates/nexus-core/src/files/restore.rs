//! The files of a point put back: one listing of the target against the point's, and only what differs is copied.

mod copies;
mod jobs;
mod same;
mod surplus;

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures::stream::{self, StreamExt};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use self::copies::{confirms, keys, lies};
use self::jobs::{Jobs, jobs};
use self::same::is_same;
use self::surplus::{Mapping, Surplus};
use super::rules::{Rules, Selection};
use super::versions::{uncover, version_of};
use crate::bucket::access::{self, GRANTS};
use crate::bucket::marks::Marks;
use crate::bucket::sorted::{Sorted, Sorter};
use crate::bucket::transfer::{self, Copied, Target};
use crate::bucket::{Address, Object, Reader, StoreOptions, Writer};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::{FileEntry, FileKind, Side};
use crate::local::Scratch;
use crate::point::{Count, FilesPart};
use crate::vault::RecoveryPoint;

/// Files between the first whose copy is not done and the last that was begun.
const WINDOW: usize = 1_024;
/// The most files that are named as not being as they were.
const NAMED: usize = 10;
/// How far a service's clock may be behind this machine's.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(15);
/// Keys removed at once.
const BATCH: usize = 1_000;

/// Where the files go, and which.
#[derive(Debug, Clone)]
pub struct FilesTarget {
    /// The bucket or folder.
    pub reader: Reader,
    /// The same as it was named.
    pub address: Address,
    /// Which files.
    pub selection: Selection,
    /// What to do with files that the point would have and has not.
    pub extra: Extra,
}

/// What to do with files in the target that the point would have and has not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extra {
    /// Leave them.
    #[default]
    Keep,
    /// Remove them: exactly the state then.
    Delete,
}

/// What putting the files back would do; nothing is done yet.
#[derive(Debug)]
pub struct FilesPlanned {
    /// Files that are as they were.
    pub same: Count,
    /// Files that are missing in the target.
    pub missing: Count,
    /// Files that are there and differ.
    pub different: Count,
    /// Files that the point would have and has not.
    pub extra: Count,
    /// Folders of a folder target that are missing or have another mode.
    pub folders: u64,
    /// The first keys of files that are there and differ.
    pub first_different: Vec<String>,
    /// Prefixes of the target that hold other vaults or backups, below which nothing is called extra.
    pub spared: Vec<String>,
    /// Copies that are read to put files back, or to confirm what was put back before.
    needed: u64,
    /// Some of the keys that the target is to have.
    keys: Marks,
    work: PathBuf,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FilesRestored {
    /// Files copied back.
    pub copied: Count,
    /// Files removed.
    pub removed: Count,
    /// Files of the selection that are as they were, by a listing made afterwards.
    pub equal: Count,
    /// Files of the selection.
    pub wanted: Count,
}

#[derive(Serialize, Deserialize)]
enum Job {
    Put(Box<FileEntry>),
    Confirm(Box<FileEntry>),
    Remove(String),
}

/// Compares the target with the point; writes only into `scratch`. The listing of the point lies in `fetched`, or is fetched there.
pub async fn plan(
    point: &RecoveryPoint,
    target: &FilesTarget,
    (fetched, scratch): (&Scratch, &Scratch),
    events: &Events,
) -> Result<FilesPlanned> {
    let mapping = Mapping::new(&files(point)?.rules.prefix, &target.address);
    // A folder is listed by itself, whatever is known of it.
    let expected =
        async { if target.reader.is_folder() { Ok(Marks::default()) } else { keys(point, &mapping, fetched).await } };
    let reached = async { if target.reader.is_made() { target.reader.check().await } else { Ok(()) } };
    let (keys, ()) = futures::try_join!(expected, reached)?;
    compare(point, (target, keys), None, (fetched, scratch), events).await
}

/// Compares the target, some of whose keys are expected, with the point; `written` is what this run has put there, in the order of its
/// keys; `fetched` is where the listing of the point may lie already.
///
/// A service whose ETags are no MD5 gives every copy another one: then only the answer to our own copy tells which
/// object in the target is it.
async fn compare(
    point: &RecoveryPoint,
    (target, keys): (&FilesTarget, Marks),
    written: Option<Sorted>,
    (fetched, scratch): (&Scratch, &Scratch),
    events: &Events,
) -> Result<FilesPlanned> {
    let mut written = written.map(Iterator::peekable);
    let part = files(point)?;
    let rules = Rules::new(&part.rules)?;
    let present = target.reader.is_made();
    let mapping = Mapping::new(&part.rules.prefix, &target.address);
    let mut planned = FilesPlanned::nothing(keys, scratch.file("restore.work"));
    let confirms = if written.is_none() { confirms(point, &target.reader)? } else { (false, false) };
    let mut unholdable = Vec::new();
    let mut work = Jobs::create(&planned.work)?;
    let beside = scratch.file("restore.extra");
    let mut surplus = Surplus { extra: Jobs::create(&beside)?, spared: BTreeSet::new() };
    let there = if present {
        target.reader.list_along((&mapping.to, &planned.keys), scratch.path(), events).await?
    } else {
        Sorter::new(scratch.path()).finish()?
    };
    let mut there = there.peekable();
    for entry in point.listing(fetched).await? {
        let entry = entry?;
        while let Some(object) = before(&mut there, &mapping, Some(&entry.key))? {
            surplus.meet(&object, &rules, &mapping, target)?;
        }
        let object = at(&mut there, &mapping, &entry.key)?;
        if let Some(object) = &object {
            surplus.look(&object.key);
        }
        let ours = written.as_mut().map(|written| pass_to(written, &entry.key)).transpose()?.flatten();
        if !target.selection.takes(&entry.category, &entry.key) {
            continue;
        }
        let size = entry.source.size;
        if mapping.target(&entry.key).is_empty() {
            // The marker of the source's own prefix is the target folder itself.
            planned.same.add(size);
            continue;
        }
        if !is_holdable(&entry, &mapping, target) {
            unholdable.push(entry.key);
            continue;
        }
        if entry.kind == FileKind::Folder {
            let there = match &object {
                Some(object) => is_same(&entry, object, None, target).await?,
                None => !target.reader.is_folder(),
            };
            if !there {
                planned.folders += 1;
                work.push(&Job::Put(Box::new(entry)))?;
            }
            continue;
        }
        match object {
            Some(object) if is_same(&entry, &object, ours.as_ref(), target).await? => {
                planned.same.add(size);
                let granted = written.is_none() && entry.headers.contains_key(GRANTS);
                let confirms = if version_of(&entry).is_some() { confirms.1 } else { confirms.0 };
                if granted || confirms && may_lack_properties(point, &object) {
                    planned.needed += 1;
                    work.push(&Job::Confirm(Box::new(entry)))?;
                }
            }
            Some(_) => {
                planned.different.add(size);
                planned.needed += 1;
                if planned.first_different.len() < NAMED {
                    planned.first_different.push(entry.key.clone());
                }
                work.push(&Job::Put(Box::new(entry)))?;
            }
            None => {
                planned.missing.add(size);
                planned.needed += 1;
                work.push(&Job::Put(Box::new(entry)))?;
            }
        }
    }
    while let Some(object) = before(&mut there, &mapping, None)? {
        surplus.meet(&object, &rules, &mapping, target)?;
    }
    planned.spared = surplus.spared.into_iter().collect();
    surplus.extra.finish()?;
    planned.decide_on(jobs(&beside)?, &mapping, target.extra, &mut work)?;
    work.finish()?;
    if let Some(first) = unholdable.first() {
        let place = &target.address;
        return Err(Error::usage_hint(
            format!("{} keys of the point cannot be files in {place}, the first is {first:?}", unholdable.len()),
            "restore them into a bucket, or choose others with --key",
        ));
    }
    Ok(planned)
}

/// Carries a plan out, then compares once more.
pub async fn carry_out(
    point: &RecoveryPoint,
    target: &FilesTarget,
    planned: &FilesPlanned,
    scratch: &Scratch,
    events: &Events,
) -> Result<FilesRestored> {
    let part = files(point)?;
    let mapping = Mapping::new(&part.rules.prefix, &target.address);
    target.reader.make_folder()?;
    let writer = target.reader.writer(&mapping.to);
    let (files, bytes) =
        (planned.missing.files + planned.different.files, planned.missing.bytes + planned.different.bytes);
    events.started(Stage::RestoreFiles, Some(files), Some(bytes));
    let mut restored = FilesRestored::default();
    let again = Scratch::create(scratch.path())?;
    let mut written = Sorter::new(again.path());
    {
        let mut done = stream::iter(jobs(&planned.work)?)
            .map(async |job| match job? {
                Job::Put(entry) => {
                    let object = put(point, &entry, &mapping, &writer, events).await?;
                    given(&entry, &mapping, &writer, object).await.map(Some)
                }
                Job::Confirm(entry) => confirm(point, &entry, &mapping, &writer).await,
                Job::Remove(_) => Ok(None),
            })
            .buffer_unordered(WINDOW);
        while let Some(outcome) = done.next().await {
            let Some(object) = outcome? else { continue };
            if object.kind != FileKind::Folder {
                restored.copied.add(object.side.size);
            }
            written.push(object)?;
        }
    }
    if target.extra == Extra::Delete {
        restored.removed = remove(planned, &mapping, writer, events).await?;
    }
    events.ended(Stage::RestoreFiles);
    let expected = (target, planned.keys.clone());
    let after = compare(point, expected, Some(written.finish()?), (scratch, &again), events).await?;
    if after.folders > 0 {
        return Err(Error::Changed { what: format!("{} folders could not be made as they were", after.folders) });
    }
    for job in jobs(&after.work)?.take(NAMED) {
        if let Job::Put(entry) = job? {
            events.warn(format!("{:?} is not as it was", entry.key));
        }
    }
    restored.equal = after.same;
    for count in [after.same, after.missing, after.different] {
        restored.wanted.files += count.files;
        restored.wanted.bytes += count.bytes;
    }
    Ok(restored)
}

async fn remove(planned: &FilesPlanned, mapping: &Mapping, writer: Writer, events: &Events) -> Result<Count> {
    let remover = writer.remover();
    let mut gone = Count::default();
    let mut batch = Vec::new();
    // Longest first within a batch, so that a folder's content goes before the folder.
    for job in jobs(&planned.work)? {
        let Job::Remove(key) = job? else { continue };
        // In a bucket a key that ends so is an object like any other.
        if !key.ends_with('/') || !remover.writer().reader().is_folder() {
            gone.files += 1;
        }
        batch.push(mapping.target(&key));
        if batch.len() == BATCH {
            batch.reverse();
            remover.remove(&batch).await?;
            batch.clear();
        }
    }
    batch.reverse();
    remover.remove(&batch).await?;
    events.note(format!("{} files that the point does not have were removed", gone.files));
    Ok(gone)
}

async fn put(
    point: &RecoveryPoint,
    entry: &FileEntry,
    mapping: &Mapping,
    writer: &Writer,
    events: &Events,
) -> Result<Object> {
    let key = mapping.target(&entry.key);
    if is_marker(entry, writer.reader()) {
        writer.make(&key, &FileKind::Folder, &Side::default())?;
        events.advanced(Stage::RestoreFiles, 1, 0);
        return Ok(Object { key: entry.key.clone(), side: Side::default(), kind: FileKind::File });
    }
    if let Some(version) = version_of(entry) {
        return put_version(point, entry, &version, (key, writer), events).await;
    }
    let Some((vault, object)) = lies(point, entry)? else {
        writer.make(&key, &entry.kind, &entry.source)?;
        return Ok(Object { key: entry.key.clone(), side: Side::default(), kind: entry.kind.clone() });
    };
    let name = || point.vault().name(entry.at.as_ref().and_then(|at| at.vault_key()).unwrap_or_default());
    match transfer::copy(&vault, &object, writer, &as_it_was(entry, key)).await? {
        Copied::Done(done)
            if done.copy.size == entry.source.size && !done.is_rotten(entry, object.side.etag.as_ref()) =>
        {
            events.advanced(Stage::RestoreFiles, 1, entry.source.size);
            Ok(Object { key: entry.key.clone(), side: done.copy, kind: FileKind::File })
        }
        Copied::Done(_) => Err(Error::damaged(format!("the copy {} is not as it was written", name()))),
        Copied::Vanished => Err(Error::damaged(format!("the copy {} is not there", name()))),
    }
}

/// A file with all that it had, under `key`.
fn as_it_was(entry: &FileEntry, key: String) -> Target {
    let class = entry.source.class.clone();
    let options = StoreOptions { class, encryption: None, headers: entry.headers.clone() };
    Target { key, fallback: None, options, like: Some(entry.source.clone()) }
}

/// Brings a version of the source back: made current again where it came from, when nothing but delete markers lies over it;
/// else copied.
async fn put_version(
    point: &RecoveryPoint,
    entry: &FileEntry,
    version: &Object,
    (key, writer): (String, &Writer),
    events: &Events,
) -> Result<Object> {
    let source = point.source()?;
    let id = version.side.version.as_deref().unwrap_or_default();
    let own =
        source.shares_service_with(writer.reader()) && source.place() == writer.reader().place() && key == entry.key;
    if own && uncover(writer, &key, id).await? {
        events.advanced(Stage::RestoreFiles, 1, entry.source.size);
        return Ok(Object { key: entry.key.clone(), side: entry.source.clone(), kind: FileKind::File });
    }
    match transfer::copy(&source, version, writer, &as_it_was(entry, key)).await? {
        Copied::Done(done) => {
            events.advanced(Stage::RestoreFiles, 1, entry.source.size);
            Ok(Object { key: entry.key.clone(), side: done.copy, kind: FileKind::File })
        }
        Copied::Vanished => {
            Err(Error::damaged(format!("the version {id} of {:?} is not in {} any more", entry.key, source.place())))
        }
    }
}

/// True for an object that an earlier restore may have written and not confirmed, because the service did not keep all of it.
fn may_lack_properties(point: &RecoveryPoint, object: &Object) -> bool {
    let since = point.manifest().committed - CLOCKS_APART;
    object.side.modified.is_none_or(|modified| modified > since) && object.kind == FileKind::File
}

/// Fails unless an object that is there already has the tags and metadata that it would have been put with. Answers what it is, if
/// it had to be written over itself.
async fn confirm(
    point: &RecoveryPoint,
    entry: &FileEntry,
    mapping: &Mapping,
    writer: &Writer,
) -> Result<Option<Object>> {
    let Some((from, object)) = lies(point, entry)? else { return Ok(None) };
    let target = as_it_was(entry, mapping.target(&entry.key));
    transfer::confirm(&from, &object, writer.reader(), &target).await?;
    let etag = access::give(writer, &target.key, &entry.headers, entry.source.class.as_deref()).await?;
    let side = etag.map(|etag| Side { size: entry.source.size, etag: Some(etag), ..Side::default() });
    Ok(side.map(|side| Object { key: entry.key.clone(), side, kind: FileKind::File }))
}

/// The object that was put back, with who may do what with it, where the point knows that.
async fn given(entry: &FileEntry, mapping: &Mapping, writer: &Writer, object: Object) -> Result<Object> {
    let etag = access::give(writer, &mapping.target(&entry.key), &entry.headers, entry.source.class.as_deref()).await?;
    Ok(match etag {
        Some(etag) => Object { side: Side { etag: Some(etag), ..object.side }, ..object },
        None => object,
    })
}

impl FilesPlanned {
    /// Nothing is known yet but which keys the target may have.
    fn nothing(keys: Marks, work: PathBuf) -> Self {
        Self {
            same: Count::default(),
            missing: Count::default(),
            different: Count::default(),
            extra: Count::default(),
            folders: 0,
            first_different: Vec::new(),
            spared: Vec::new(),
            needed: 0,
            keys,
            work,
        }
    }

    /// Counts what is extra, now that it is known which prefixes are spared, and plans its removal where that was asked for.
    fn decide_on(
        &mut self,
        extra: impl Iterator<Item = Result<(String, Option<u64>)>>,
        mapping: &Mapping,
        wish: Extra,
        work: &mut Jobs,
    ) -> Result<()> {
        for met in extra {
            let (key, size) = met?;
            let target = mapping.target(&key);
            if self.spared.iter().any(|prefix| target.starts_with(prefix.as_str())) {
                continue;
            }
            if let Some(size) = size {
                self.extra.add(size);
            }
            if wish == Extra::Delete {
                work.push(&Job::Remove(key))?;
            }
        }
        Ok(())
    }
}

/// True for a bucket's zero-byte `dir/` that goes into a folder: there it is a folder.
fn is_marker(entry: &FileEntry, target: &Reader) -> bool {
    entry.kind == FileKind::File && entry.key.ends_with('/') && entry.source.size == 0 && target.is_folder()
}

/// False for a key that the target cannot hold; the marker of a folder becomes that folder.
fn is_holdable(entry: &FileEntry, mapping: &Mapping, target: &FilesTarget) -> bool {
    let key = mapping.target(&entry.key);
    let folder = is_marker(entry, &target.reader) || entry.kind == FileKind::Folder;
    target.reader.can_hold(key.strip_suffix('/').filter(|_| folder).unwrap_or(&key))
}

type There = std::iter::Peekable<Sorted>;

/// The next object of the target that comes before `key`, or any when there is no key left.
fn before(there: &mut There, mapping: &Mapping, key: Option<&str>) -> Result<Option<Object>> {
    let Some(next) = there.peek() else { return Ok(None) };
    let earlier = match (next, key) {
        (Err(_), _) | (Ok(_), None) => true,
        (Ok(object), Some(key)) => mapping.source(&object.key).as_bytes() < key.as_bytes(),
    };
    if earlier { there.next().transpose() } else { Ok(None) }
}

/// What this run has put under `key`, if it has.
fn pass_to(written: &mut There, key: &str) -> Result<Option<Object>> {
    while let Some(next) =
        written.next_if(|next| next.as_ref().map_or(true, |object| object.key.as_bytes() <= key.as_bytes()))
    {
        let object = next?;
        if object.key == key {
            return Ok(Some(object));
        }
    }
    Ok(None)
}

fn at(there: &mut There, mapping: &Mapping, key: &str) -> Result<Option<Object>> {
    let same = there.peek().is_some_and(|next| next.as_ref().is_ok_and(|object| mapping.source(&object.key) == key));
    if same { there.next().transpose() } else { Ok(None) }
}

fn files(point: &RecoveryPoint) -> Result<&FilesPart> {
    point.manifest().parts.files.as_ref().ok_or_else(|| Error::missing(format!("{} has no files", point.id())))
}
