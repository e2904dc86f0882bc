//! Two listings of one source, in the order of their keys: which files came, changed and went, by category.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::told::Telling;
use super::{Change, EXAMPLES};
use crate::bucket::sorted::Sorted;
use crate::error::Result;
use crate::files::rules::Rules;
use crate::listing::{FileKind, ListingReader, Side};
use crate::point::{Count, FileRules};

/// A file at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    /// Its key in the source.
    pub key: String,
    /// The category its key belongs to.
    pub category: String,
    /// What it is.
    pub kind: FileKind,
    /// What the listing says of it.
    pub side: Side,
}

/// How the files of a category differ between two moments. Bytes of changed files are those of now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryChanges {
    /// Files that came.
    pub added: Count,
    /// Files that are others.
    pub changed: Count,
    /// Files that went.
    pub removed: Count,
    /// Files that are as they were.
    pub same: Count,
    /// How many of the changed and the same ones only seem so: their size is the same, and nothing else that is known of both tells.
    #[serde(skip)]
    pub untold: u64,
    /// The first keys that came, at most [`EXAMPLES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_added: Vec<String>,
    /// The first keys that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_changed: Vec<String>,
    /// The first keys that went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_removed: Vec<String>,
}

impl CategoryChanges {
    /// True when files came, changed or went.
    pub fn has_files(&self) -> bool {
        self.added.files + self.changed.files + self.removed.files > 0
    }
}

/// When a file counts as the one it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// Size and ETag or checksum are equal, whenever it was written; without ETags, as in folders, size and time of change.
    Content,
    /// Nobody has written it since, not even the same bytes: size, ETag, time of change and storage class are equal, and in
    /// a folder owner, mode and inode.
    Untouched,
}

/// The lines of a point's listing. Folders, and what was never opened, are left out.
pub fn recorded(listing: ListingReader) -> impl Iterator<Item = Result<FileState>> {
    let state = |entry: crate::listing::FileEntry| FileState {
        key: entry.key,
        category: entry.category,
        kind: entry.kind,
        side: entry.source,
    };
    listing.map(move |entry| entry.map(state)).filter(counts)
}

/// What lies below the prefix `lies_at` of a bucket or folder, as files of the source that these rules are for: those that
/// the rules take, under the keys they would have there. Folders, and what is never opened, are left out.
///
/// # Errors
///
/// As for [`Rules::new`].
pub fn listed(
    listed: Sorted,
    lies_at: &str,
    rules: &FileRules,
) -> Result<impl Iterator<Item = Result<FileState>> + use<>> {
    let (rules, lies_at) = (Rules::new(rules)?, lies_at.to_owned());
    let states = listed.filter_map(move |object| match object {
        Err(error) => Some(Err(error)),
        Ok(object) => {
            let key = format!("{}{}", rules.prefix(), object.key.strip_prefix(&lies_at)?);
            rules.takes(&key).then(|| {
                let category = rules.category(&key).to_owned();
                Ok(FileState { key, category, kind: object.kind, side: object.side })
            })
        }
    });
    Ok(states.filter(counts))
}

/// Compares two listings, both in byte order of their keys; categories without files are left out.
///
/// A file's category is the one of now.
///
/// # Errors
///
/// What either listing fails with.
pub fn between(
    before: impl Iterator<Item = Result<FileState>>,
    after: impl Iterator<Item = Result<FileState>>,
    likeness: Likeness,
) -> Result<BTreeMap<String, CategoryChanges>> {
    compare(before, after, likeness, &mut None)
}

/// The same, and every file that differs goes into the new file `into` as a [`super::told::FileChange`] a line, in the order of
/// their keys.
///
/// # Errors
///
/// As for [`between`], and what writing fails with.
pub fn every_file(
    before: impl Iterator<Item = Result<FileState>>,
    after: impl Iterator<Item = Result<FileState>>,
    likeness: Likeness,
    into: &std::path::Path,
) -> Result<BTreeMap<String, CategoryChanges>> {
    let mut telling = Some(Telling::begin(into)?);
    let changes = compare(before, after, likeness, &mut telling)?;
    telling.map_or(Ok(()), Telling::finish)?;
    Ok(changes)
}

fn compare(
    before: impl Iterator<Item = Result<FileState>>,
    after: impl Iterator<Item = Result<FileState>>,
    likeness: Likeness,
    told: &mut Option<Telling>,
) -> Result<BTreeMap<String, CategoryChanges>> {
    let (mut before, mut after) = (before, after);
    let mut changes: BTreeMap<String, CategoryChanges> = BTreeMap::new();
    let (mut then, mut now) = (before.next().transpose()?, after.next().transpose()?);
    loop {
        let order = match (&then, &now) {
            (None, None) => return Ok(changes),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(then), Some(now)) => then.key.as_bytes().cmp(now.key.as_bytes()),
        };
        let left = if order.is_le() { std::mem::replace(&mut then, before.next().transpose()?) } else { None };
        let right = if order.is_ge() { std::mem::replace(&mut now, after.next().transpose()?) } else { None };
        let category = right.as_ref().or(left.as_ref()).map(|file| file.category.clone()).unwrap_or_default();
        let change = changes.entry(category).or_default().count(left.as_ref(), right.as_ref(), likeness);
        if let (Some(change), Some(telling)) = (change, &mut *told) {
            telling.file(change, left.as_ref(), right.as_ref())?;
        }
    }
}

impl CategoryChanges {
    /// Counts a file; answers how it differs, if it does.
    fn count(&mut self, before: Option<&FileState>, after: Option<&FileState>, likeness: Likeness) -> Option<Change> {
        let (is_alike, is_told) = before.zip(after).map_or((false, true), |(then, now)| alike(then, now, likeness));
        self.untold += u64::from(!is_told);
        let (number, first, file, change) = match (before, after) {
            (Some(_), Some(after)) if is_alike => {
                self.same.add(after.side.size);
                return None;
            }
            (Some(_), Some(after)) => (&mut self.changed, &mut self.first_changed, after, Change::Changed),
            (None, Some(after)) => (&mut self.added, &mut self.first_added, after, Change::Added),
            (Some(before), None) => (&mut self.removed, &mut self.first_removed, before, Change::Removed),
            (None, None) => return None,
        };
        number.add(file.side.size);
        if first.len() < EXAMPLES {
            first.push(file.key.clone());
        }
        Some(change)
    }
}

/// Folders come and go with the files in them, and bear the time of that.
fn counts(file: &Result<FileState>) -> bool {
    !matches!(file, Ok(FileState { kind: FileKind::Folder | FileKind::Special(_), .. }))
}

/// Whether a file counts as the one it was, and whether that is known.
fn alike(before: &FileState, after: &FileState, likeness: Likeness) -> (bool, bool) {
    let (then, now) = (&before.side, &after.side);
    if before.kind != after.kind || then.size != now.size {
        return (false, true);
    }
    // A link is its target, which the kind holds.
    let is_link = before.kind != FileKind::File;
    match likeness {
        Likeness::Content if is_link => (true, true),
        Likeness::Content => has_content(then, now),
        Likeness::Untouched => {
            let written = then.etag != now.etag || then.modified != now.modified;
            (!written && then.class == now.class && then.unix == now.unix, true)
        }
    }
}

/// The same for two files of one size.
fn has_content(then: &Side, now: &Side) -> (bool, bool) {
    if then.etag.is_some() && then.etag == now.etag {
        return (true, true);
    }
    if let (Some(one), Some(other)) = (&then.checksum, &now.checksum)
        && one.split(':').next() == other.split(':').next()
    {
        return (one == other, true);
    }
    match (&then.etag, &now.etag) {
        // Of several parts it is a hash of hashes, with their number behind a hyphen.
        (Some(one), Some(other)) => (false, parts(one) == parts(other)),
        // Of what an older tool has copied into a folder only the size is known.
        _ => match (&then.modified, &now.modified) {
            (Some(one), Some(other)) => (one == other, true),
            _ => (true, false),
        },
    }
}

/// The number of parts in an ETag.
fn parts(etag: &str) -> Option<&str> {
    etag.split_once('-').map(|(_, parts)| parts)
}
