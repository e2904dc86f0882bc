//! Removal from a bucket that keeps versions or locks objects: by key and version id, or nothing would be freed.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_s3::types::EncodingType;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::blank::marked;
use super::failure::{FailureKind, failure};
use super::questions::{Answer, Versioning};
use super::removal::{Named, Refused};
use super::s3::{BATCH, S3, decode, timestamp};
use super::{Bucket, Remover};
use crate::error::{Error, Result};

/// How often a key is looked at again whose versions were removed.
const ROUNDS: usize = 4;
/// Keys whose versions are asked for one by one rather than by listing what lies between them.
const FEW: usize = 20;
/// Pages of a common listing beyond those that the keys themselves fill.
const SPARE_PAGES: usize = 10;
/// Versions on a page (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>).
const PAGE: usize = 1_000;
/// Pages of versions of one key that are looked at.
const PAGES_OF_ONE: usize = 100;
/// Questions at once.
const AT_ONCE: usize = 32;
/// The version id of what was stored while a bucket kept none.
const NO_VERSION: &str = "null";

/// A version that a lock keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The object's key.
    pub key: String,
    /// What keeps it, and until when where the service says so.
    pub why: String,
}

impl Remover {
    /// Removes objects so that nothing of them is left: where the bucket keeps versions, each version and each marker of
    /// exactly these keys. Answers those that a lock keeps; one that is gone already is no error.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] when versions may not be listed or removed: nothing is hidden behind a marker then.
    pub async fn erase_all(&self, keys: &[String]) -> Result<Vec<Locked>> {
        for key in keys {
            self.writer().allow(key)?;
        }
        let s3 = match self.writer().reader().bucket() {
            Bucket::S3(s3) => s3,
            Bucket::Folder(_) => return self.remove(keys).await.map(|()| Vec::new()),
        };
        match s3.versioning().await? {
            Answer::Known(Versioning::Off) | Answer::Unsupported => self.remove(keys).await.map(|()| Vec::new()),
            Answer::Known(_) | Answer::Denied => self.erase_every_version(s3, keys).await,
        }
    }

    /// Removes a delete marker, so that what lies under it shows again; one that is gone is no error.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] when it may not be removed (s3:DeleteObjectVersion).
    pub(crate) async fn remove_marker(&self, key: &str, id: &str) -> Result<()> {
        self.writer().allow(key)?;
        let Bucket::S3(s3) = self.writer().reader().bucket() else { return Ok(()) };
        let removed = s3
            .attempt(0, async || {
                let request = s3.client().delete_object().bucket(s3.name()).key(marked(key)).version_id(id);
                request.send().await.map_err(failure)
            })
            .await;
        match removed {
            Ok(_) => Ok(()),
            Err(failure) if failure.kind == FailureKind::Gone => Ok(()),
            Err(failure) => {
                let what =
                    format!("cannot remove a delete marker of s3://{}/{key} (s3:DeleteObjectVersion)", s3.name());
                Err(failure.into_error(what))
            }
        }
    }

    async fn erase_every_version(&self, s3: &S3, keys: &[String]) -> Result<Vec<Locked>> {
        let mut left: BTreeSet<String> = keys.iter().cloned().collect();
        let mut locked = Vec::new();
        for round in 0..ROUNDS {
            let found = s3.versions_of(&left).await?;
            let unseen: Vec<String> = left.iter().filter(|key| !found.contains_key(*key)).cloned().collect();
            if round == 0 && !unseen.is_empty() {
                // Gone already, or of a service that lists no versions of them: either way this leaves no marker behind
                // that the next round does not see.
                self.remove_those_there(s3, &unseen).await?;
            }
            // What was stored before versions were kept goes like any other object, and leaves a marker.
            let plain: Vec<String> = found
                .iter()
                .filter(|(_, versions)| {
                    round == 0 && versions.iter().any(|version| version.id == NO_VERSION && !version.marker)
                })
                .map(|(key, _)| key.clone())
                .collect();
            self.remove(&plain).await?;
            let named: Vec<(String, String)> = found
                .into_iter()
                .flat_map(|(key, versions)| versions.into_iter().map(move |version| (key.clone(), version)))
                .filter(|(_, version)| round > 0 || version.id != NO_VERSION || version.marker)
                .map(|(key, version)| (key, version.id))
                .collect();
            for batch in named.chunks(BATCH) {
                for one in s3.remove_versions(batch).await? {
                    left.remove(&one.key);
                    locked.push(one);
                }
            }
            let again: BTreeSet<String> = plain.into_iter().chain(unseen.into_iter().filter(|_| round == 0)).collect();
            left.retain(|key| again.contains(key));
            if left.is_empty() {
                return Ok(locked);
            }
        }
        let some = left.first().map_or("", String::as_str);
        Err(Error::Unsupported { what: format!("versions of s3://{}/{some} come back as they are removed", s3.name()) })
    }

    async fn remove_those_there(&self, s3: &S3, keys: &[String]) -> Result<()> {
        let there: Vec<Option<String>> = stream::iter(keys)
            .map(async |key| Ok::<_, Error>(s3.head(key).await?.map(|_| key.clone())))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        self.remove(&there.into_iter().flatten().collect::<Vec<_>>()).await
    }
}

/// One version of a key, or a marker that it was removed.
#[derive(Debug, Clone)]
struct Version {
    id: String,
    marker: bool,
}

/// Where a listing of versions goes on.
type Marker = (String, Option<String>);

/// A page of versions, with their keys, and where the listing goes on.
type Listed = (Vec<(String, Version)>, Option<Marker>);

impl S3 {
    /// Every version and marker of exactly these keys.
    async fn versions_of(&self, keys: &BTreeSet<String>) -> Result<BTreeMap<String, Vec<Version>>> {
        let mut found = if keys.len() > FEW { self.versions_between(keys).await? } else { BTreeMap::new() };
        let rest: Vec<&String> = keys.iter().filter(|key| !found.contains_key(*key)).collect();
        let each: Vec<(String, Vec<Version>)> = stream::iter(rest)
            .map(async |key| Ok::<_, Error>((key.clone(), self.versions_of_one(key).await?)))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        found.extend(each.into_iter().filter(|(_, versions)| !versions.is_empty()));
        Ok(found)
    }

    /// Those that one listing of what the keys have in common shows, as long as it takes few pages more than they fill.
    async fn versions_between(&self, keys: &BTreeSet<String>) -> Result<BTreeMap<String, Vec<Version>>> {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(BTreeMap::new()) };
        let common: String =
            first.chars().zip(last.chars()).take_while(|(left, right)| left == right).map(|(left, _)| left).collect();
        let mut found: BTreeMap<String, Vec<Version>> = BTreeMap::new();
        // Just before the first key: most of a large folder may lie before it.
        let mut marker = first.char_indices().next_back().map(|(at, _)| (first[..at].to_owned(), None));
        for page in 0.. {
            let (versions, next) = self.page_of_versions(&common, marker).await?;
            let cut = versions.last().map(|(key, _)| key.clone());
            for (key, version) in versions.into_iter().filter(|(key, _)| keys.contains(key)) {
                found.entry(key).or_default().push(version);
            }
            let Some(next) = next else { break };
            if page >= keys.len() / PAGE + SPARE_PAGES || cut.as_ref().is_some_and(|cut| cut > last) {
                // The last one may go on where this stops, whichever order the service lists in.
                for key in cut.iter().chain([&next.0]) {
                    found.remove(key);
                }
                break;
            }
            marker = Some(next);
        }
        Ok(found)
    }

    async fn versions_of_one(&self, key: &str) -> Result<Vec<Version>> {
        let (mut found, mut marker) = (Vec::new(), None);
        for _ in 0..PAGES_OF_ONE {
            let (versions, next) = self.page_of_versions(key, marker).await?;
            let others = versions.iter().any(|(other, _)| other != key);
            found.extend(versions.into_iter().filter(|(other, _)| other == key).map(|(_, version)| version));
            match next {
                Some(next) if !others || found.is_empty() => marker = Some(next),
                _ => return Ok(found),
            }
        }
        // To remove the newest ones alone would bring an old one back.
        Err(Error::Unsupported { what: format!("s3://{}/{key} has too many versions to remove them all", self.name()) })
    }

    async fn page_of_versions(&self, prefix: &str, marker: Option<Marker>) -> Result<Listed> {
        let (key, id) = marker.map_or((None, None), |(key, id)| (Some(key), id));
        let listed = self
            .attempt(0, async || {
                let request = self.client().list_object_versions().bucket(self.name()).prefix(prefix);
                let request = request
                    .encoding_type(EncodingType::Url)
                    .set_key_marker(key.clone())
                    .set_version_id_marker(id.clone());
                request.send().await.map_err(failure)
            })
            .await;
        let page = match listed {
            Ok(page) => page,
            Err(failure) if failure.kind == FailureKind::Unsupported => return Ok((Vec::new(), None)),
            Err(failure) if failure.kind == FailureKind::Denied => {
                let what = format!(
                    "cannot list versions in s3://{} (s3:ListBucketVersions), so nothing is removed from it",
                    self.name()
                );
                return Err(failure.into_error(what));
            }
            Err(failure) => {
                return Err(failure.into_error(format!("cannot list versions in s3://{}/{prefix}", self.name())));
            }
        };
        let encoded = page.encoding_type() == Some(&EncodingType::Url);
        let of = |key: Option<&str>, id: Option<&str>, marker: bool| {
            Some((decode(key?, encoded)?, Version { id: id.unwrap_or(NO_VERSION).to_owned(), marker }))
        };
        let versions = page.versions().iter().filter_map(|one| of(one.key(), one.version_id(), false));
        let markers = page.delete_markers().iter().filter_map(|one| of(one.key(), one.version_id(), true));
        let mut all: Vec<(String, Version)> = versions.chain(markers).collect();
        all.sort_by(|(left, _), (right, _)| left.as_bytes().cmp(right.as_bytes()));
        let more = page.is_truncated() == Some(true);
        let next = page.next_key_marker().filter(|_| more);
        let next = next.and_then(|key| decode(key, encoded));
        Ok((all, next.map(|key| (key, page.next_version_id_marker().map(str::to_owned)))))
    }

    /// Removes versions; answers those that a lock keeps.
    async fn remove_versions(&self, versions: &[(String, String)]) -> Result<Vec<Locked>> {
        let named: Vec<Named<'_>> = versions.iter().map(|(key, id)| (key.as_str(), Some(id.as_str()))).collect();
        let mut locked = Vec::new();
        for Refused { key, version, failure } in self.remove_named(&named).await? {
            let Some(why) = self.lock_of(&key, version.as_deref().unwrap_or_default()).await else {
                let what = format!("cannot remove a version of s3://{}/{key} (s3:DeleteObjectVersion)", self.name());
                return Err(failure.into_error(what));
            };
            locked.push(Locked { key, why });
        }
        Ok(locked)
    }

    /// What keeps a version, as far as the service says.
    async fn lock_of(&self, key: &str, id: &str) -> Option<String> {
        let asked = self
            .attempt(0, async || {
                let request = self.client().get_object_legal_hold().bucket(self.name()).key(marked(key)).version_id(id);
                request.send().await.map_err(failure)
            })
            .await;
        let status = asked.ok().and_then(|answer| answer.legal_hold().and_then(|hold| hold.status().cloned()));
        if status.is_some_and(|status| status == aws_sdk_s3::types::ObjectLockLegalHoldStatus::On) {
            return Some("a legal hold".to_owned());
        }
        let kept = self
            .attempt(0, async || {
                let request = self.client().get_object_retention().bucket(self.name()).key(marked(key)).version_id(id);
                request.send().await.map_err(failure)
            })
            .await;
        let retention = kept.ok().and_then(|answer| answer.retention().cloned())?;
        let until: Timestamp = retention.retain_until_date().and_then(timestamp)?;
        let mode = retention.mode().map_or_else(|| "locked".to_owned(), |mode| mode.as_str().to_lowercase());
        Some(format!("{mode} until {}", until.strftime("%Y-%m-%d %H:%M UTC")))
    }
}
