//! What a bucket that keeps versions held at a moment, and every version of it.
//!
//! A listing of versions names versions and delete markers apart, each newest first within a key
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>); `LastModified` has a grain of one second, and that of
//! a multipart upload is its start. What these two leave open is named, never guessed.

use std::collections::HashSet;
use std::iter::Peekable;
use std::path::Path;
use std::sync::Mutex;

use aws_sdk_s3::types::EncodingType;
use jiff::{SignedDuration, Timestamp};

use super::failure::{FailureKind, failure};
use super::s3::{S3, bare, decode, timestamp};
use super::sorted::{Sorted, Sorter};
use super::{Bucket, Object, Reader};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::{FileKind, Side};

/// Versions that were written so near to the moment that a clock of whole seconds leaves open on which side they lie.
pub const UNSURE: SignedDuration = SignedDuration::from_secs(2);
/// A multipart upload bears the time it was begun: one that was begun so long before a moment may have been there only later.
const UPLOADING: SignedDuration = SignedDuration::from_hours(1);
/// What ends the ETag of an object that came in parts, with their number.
const PARTS: char = '-';
/// The most keys that are named as unsure; all of them are counted.
const NAMED: usize = 1_000;
/// What a delete marker is called where it stands among objects.
const MARKER: &str = "delete marker";
/// Between a key and what sorts its versions; no key of S3 holds it.
const BEHIND: char = '\u{0}';

/// One version of an object, or the word that it was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its id: `null` for what was stored while the bucket kept none.
    pub id: String,
    /// What the listing says of it.
    pub side: Side,
    /// True for a delete marker.
    pub marker: bool,
    /// True for the newest of its key.
    pub latest: bool,
}

/// An object's versions, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Its key.
    pub key: String,
    /// Versions and delete markers; at least one.
    pub versions: Vec<Version>,
}

/// A moment by the clock of a service, and how far it may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The moment.
    pub at: Timestamp,
    /// What was written nearer to it than this lies on either side.
    pub unsure: SignedDuration,
}

/// What a bucket held at a moment.
pub struct AsOf {
    /// The objects, each with the id of its version.
    pub objects: Sorted,
    /// Keys of which it cannot be told for certain what they held, with the reason; the first of them.
    pub unsure: Vec<(String, String)>,
    /// How many such keys there are.
    pub unsure_total: usize,
}

/// Histories in byte order of their keys.
pub struct Histories(Peekable<Sorted>);

impl Reader {
    /// Every version of every object below a prefix.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] when versions may not be listed; [`Error::Unsupported`] for a folder, and a service that knows none.
    pub async fn histories(&self, prefix: &str, scratch: &Path, events: &Events) -> Result<Histories> {
        match self.bucket() {
            Bucket::S3(s3) => s3.histories(prefix, scratch, events).await,
            Bucket::Folder(folder) => {
                Err(Error::Unsupported { what: format!("the folder `{}` keeps no versions", folder.root().display()) })
            }
        }
    }

    /// The versions of one key; `None` when it never was there.
    ///
    /// # Errors
    ///
    /// As [`Reader::histories`].
    pub(crate) async fn history_of(&self, key: &str) -> Result<Option<History>> {
        match self.bucket() {
            Bucket::S3(s3) => s3.history_of(key).await,
            Bucket::Folder(_) => Ok(None),
        }
    }

    /// The objects below a prefix as they were at a moment, told by the service's clock; only of keys that are wanted is said what
    /// cannot be told.
    ///
    /// # Errors
    ///
    /// As [`Reader::histories`].
    pub async fn list_at(
        &self,
        (prefix, moment): (&str, Moment),
        wanted: impl Fn(&str) -> bool,
        scratch: &Path,
        events: &Events,
    ) -> Result<AsOf> {
        let mut sorter = Sorter::new(scratch);
        let (mut unsure, mut unsure_total) = (Vec::new(), 0);
        for history in self.histories(prefix, scratch, events).await? {
            let history = history?;
            if let Some(why) = history.leaves_open(moment).filter(|_| wanted(&history.key)) {
                unsure_total += 1;
                if unsure.len() < NAMED {
                    unsure.push((history.key.clone(), why));
                }
            }
            if let Some(version) = history.at(moment.at).filter(|version| !version.marker) {
                sorter.push(Object { key: history.key.clone(), side: version.side.clone(), kind: FileKind::File })?;
            }
        }
        Ok(AsOf { objects: sorter.finish()?, unsure, unsure_total })
    }
}

impl History {
    /// What the key held at a moment: the newest version or marker that is not later.
    pub fn at(&self, at: Timestamp) -> Option<&Version> {
        self.versions.iter().find(|version| version.side.modified.is_none_or(|modified| modified <= at))
    }

    /// Why it cannot be told for certain what the key held at a moment, if it cannot.
    fn leaves_open(&self, Moment { at, unsure }: Moment) -> Option<String> {
        let near = |version: &&Version| {
            version.side.modified.is_some_and(|modified| at.duration_since(modified).abs() <= unsure)
        };
        if let Some(version) = self.versions.iter().find(near) {
            let did = if version.marker { "removed" } else { "written" };
            return Some(format!("it was {did} within {} s of the instant (version {})", unsure.as_secs(), version.id));
        }
        let held = self.at(at)?;
        let in_parts = held.side.etag.as_ref().is_some_and(|etag| etag.contains(PARTS));
        if in_parts && held.side.modified.is_some_and(|begun| at.duration_since(begun) <= UPLOADING) {
            let id = &held.id;
            return Some(format!(
                "version {id} came in parts, begun within an hour of the instant: it may have been there only later"
            ));
        }
        let other = |other: &&Version| other.marker != held.marker || other.side.etag != held.side.etag;
        let twin = |other: &&Version| other.side.modified == held.side.modified && other.id != held.id;
        let twin = self.versions.iter().filter(twin).find(other).filter(|_| !held.latest)?;
        Some(format!("versions {} and {} are of one second", held.id, twin.id))
    }
}

impl Iterator for Histories {
    type Item = Result<History>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, first) = match read(self.0.next()?) {
            Ok(one) => one,
            Err(error) => return Some(Err(error)),
        };
        let mut versions = vec![first];
        loop {
            let same = |next: &Result<Object>| {
                next.as_ref().is_ok_and(|next| next.key.split(BEHIND).next() == Some(key.as_str()))
            };
            match self.0.next_if(same).map(read) {
                None => return Some(Ok(History { key, versions })),
                Some(Ok((_, version))) => versions.push(version),
                Some(Err(error)) => return Some(Err(error)),
            }
        }
    }
}

/// Whether more of a listing is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Go {
    NoFurther,
    On,
}

/// Undoes what [`sortable`] made.
fn read(object: Result<Object>) -> Result<(String, Version)> {
    let object = object?;
    let broken = || Error::damaged("a listing of versions that was put aside");
    let (key, order) = object.key.split_once(BEHIND).ok_or_else(broken)?;
    let id = object.side.version.clone().ok_or_else(broken)?;
    let marker = object.kind != FileKind::File;
    let latest = order.starts_with('0');
    Ok((key.to_owned(), Version { id, side: object.side, marker, latest }))
}

/// A version as an object whose key sorts it: by key, then the newest first, in the order in which the service names them.
fn sortable(key: &str, version: Version, seen: usize) -> Object {
    // Nineteen digits, as the longest number of that type has.
    let age = i64::MAX - version.side.modified.map_or(0, Timestamp::as_millisecond);
    // The latest comes first whatever its time: that of an upload in parts is its beginning.
    let order = format!("{}{age:019}{seen:012}", if version.latest { '0' } else { '1' });
    let kind = if version.marker { FileKind::Special(MARKER.to_owned()) } else { FileKind::File };
    Object { key: format!("{key}{BEHIND}{order}"), side: version.side, kind }
}

impl S3 {
    async fn histories(&self, prefix: &str, scratch: &Path, events: &Events) -> Result<Histories> {
        let sorter = Mutex::new(Sorter::new(scratch));
        self.every_version(prefix, |seen, key, version| {
            if version.latest && !version.marker {
                events.advanced(Stage::ListFiles, 1, version.side.size);
            }
            let mut sorter = sorter.lock().map_err(|_| Error::damaged("a listing broke off"))?;
            sorter.push(sortable(key, version, seen)).map(|()| Go::On)
        })
        .await?;
        let sorter = sorter.into_inner().map_err(|_| Error::damaged("a listing broke off"))?;
        Ok(Histories(sorter.finish()?.peekable()))
    }

    /// The versions of one key, the newest first.
    async fn history_of(&self, key: &str) -> Result<Option<History>> {
        let versions = Mutex::new(Vec::new());
        self.every_version(key, |seen, other, version| {
            if other != key {
                // The key itself is the first of all that begin with it.
                return Ok(Go::NoFurther);
            }
            let mut versions = versions.lock().map_err(|_| Error::damaged("a listing broke off"))?;
            versions.push((sortable(key, version.clone(), seen).key, version));
            Ok(Go::On)
        })
        .await?;
        let mut versions = versions.into_inner().map_err(|_| Error::damaged("a listing broke off"))?;
        versions.sort_by(|(left, _), (right, _)| left.cmp(right));
        let versions: Vec<Version> = versions.into_iter().map(|(_, version)| version).collect();
        Ok((!versions.is_empty()).then(|| History { key: key.to_owned(), versions }))
    }

    /// Hands over every version and marker below a prefix, with how many came before it, to the end of the page that was enough.
    async fn every_version(&self, prefix: &str, take: impl Fn(usize, &str, Version) -> Result<Go>) -> Result<()> {
        let what = || format!("cannot list the versions of s3://{}/{prefix} (s3:ListBucketVersions)", self.name());
        let mut markers = HashSet::new();
        let (mut marker, mut seen, mut go): (Option<(String, Option<String>)>, _, _) = (None, 0, Go::On);
        loop {
            let (key, id) = marker.clone().map_or((None, None), |(key, id)| (Some(key), id));
            let page = self
                .attempt(0, async || {
                    let request = self.client().list_object_versions().bucket(self.name()).prefix(prefix);
                    let request = request.encoding_type(EncodingType::Url).set_key_marker(key.clone());
                    request.set_version_id_marker(id.clone()).send().await.map_err(failure)
                })
                .await
                .map_err(|failure| match failure.kind {
                    FailureKind::Unsupported => Error::Unsupported { what: what() },
                    _ => failure.into_error(what()),
                })?;
            let encoded = page.encoding_type() == Some(&EncodingType::Url);
            let unusable = || Error::Unsupported { what: format!("{}: one has no usable key or id", what()) };
            for one in page.versions() {
                let key = one.key().and_then(|key| decode(key, encoded)).ok_or_else(unusable)?;
                let id = one.version_id().ok_or_else(unusable)?.to_owned();
                let side = Side {
                    size: one.size().and_then(|size| u64::try_from(size).ok()).ok_or_else(unusable)?,
                    etag: one.e_tag().map(bare),
                    modified: one.last_modified().and_then(timestamp),
                    version: Some(id.clone()),
                    class: one
                        .storage_class()
                        .map(|class| class.as_str().to_owned())
                        .filter(|class| class != "STANDARD"),
                    ..Side::default()
                };
                go = go.min(take(
                    seen,
                    &key,
                    Version { id, side, marker: false, latest: one.is_latest() == Some(true) },
                )?);
                seen += 1;
            }
            for one in page.delete_markers() {
                let key = one.key().and_then(|key| decode(key, encoded)).ok_or_else(unusable)?;
                let id = one.version_id().ok_or_else(unusable)?.to_owned();
                let modified = one.last_modified().and_then(timestamp);
                let side = Side { modified, version: Some(id.clone()), ..Side::default() };
                go = go.min(take(
                    seen,
                    &key,
                    Version { id, side, marker: true, latest: one.is_latest() == Some(true) },
                )?);
                seen += 1;
            }
            if go == Go::NoFurther {
                return Ok(());
            }
            match page.is_truncated() {
                Some(true) => {}
                Some(false) => return Ok(()),
                None => {
                    return Err(Error::Unsupported {
                        what: format!("{}: the service does not say whether there is more", what()),
                    });
                }
            }
            let next = page.next_key_marker().and_then(|key| decode(key, encoded));
            let next = next.map(|key| (key, page.next_version_id_marker().map(str::to_owned)));
            // One that comes a second time would be gone round in circles for ever.
            if next.as_ref().is_none_or(|next| !markers.insert(next.clone())) {
                return Err(Error::Unsupported {
                    what: format!("{}: the service says there is more and does not say where to go on", what()),
                });
            }
            marker = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(1_700_000_000 + second, 0).expect("a time")
    }

    fn moment(second: i64) -> Moment {
        Moment { at: at(second), unsure: UNSURE }
    }

    fn history(versions: &[(&str, i64, bool)]) -> History {
        let one = |(at_index, (id, second, marker)): (usize, &(&str, i64, bool))| Version {
            id: (*id).to_owned(),
            side: Side { modified: Some(at(*second)), version: Some((*id).to_owned()), ..Side::default() },
            marker: *marker,
            latest: at_index == 0,
        };
        History { key: "k".to_owned(), versions: versions.iter().enumerate().map(one).collect() }
    }

    fn held(history: &History, second: i64) -> Option<&str> {
        history.at(at(second)).filter(|version| !version.marker).map(|version| version.id.as_str())
    }

    #[test]
    fn a_key_held_the_newest_version_that_is_not_later() {
        let history = history(&[("d", 400, false), ("c", 300, true), ("b", 200, false), ("a", 100, false)]);
        let all: Vec<_> = [50, 150, 250, 350, 450].into_iter().map(|second| held(&history, second)).collect();
        assert_eq!(all, [None, Some("a"), Some("b"), None, Some("d")]);
    }

    #[test]
    fn what_lies_too_near_to_the_moment_is_named() {
        let history = history(&[("b", 200, false), ("a", 100, false)]);
        for (second, open) in [(203, false), (202, true), (198, true), (197, false), (101, true)] {
            assert_eq!(history.leaves_open(moment(second)).is_some(), open, "{second}");
        }
    }

    #[test]
    fn a_version_and_a_removal_of_one_second_leave_open_which_came_last() {
        let older = history(&[("c", 300, false), ("b", 200, true), ("a", 200, false)]);
        assert!(older.leaves_open(moment(250)).is_some());
        // The latest of all is known as such.
        assert!(history(&[("b", 200, true), ("a", 200, false)]).leaves_open(moment(250)).is_none());
        assert!(history(&[("c", 300, false), ("b", 200, false), ("a", 200, false)]).leaves_open(moment(250)).is_none());
    }

    #[test]
    fn versions_put_aside_come_back_as_they_were() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut sorter = Sorter::new(folder.path());
        let wanted = history(&[("c", 300, false), ("b", 200, true), ("a", 200, false)]);
        for (seen, version) in wanted.versions.iter().enumerate().rev() {
            sorter.push(sortable("k", version.clone(), seen)).expect("room on the disk");
            sorter.push(sortable("k!", version.clone(), seen)).expect("room on the disk");
        }
        let read: Vec<History> =
            Histories(sorter.finish().expect("runs").peekable()).map(|one| one.expect("a history")).collect();
        assert_eq!(read, [wanted.clone(), History { key: "k!".to_owned(), ..wanted }]);
    }
}
