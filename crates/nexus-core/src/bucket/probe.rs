//! What a service makes of one small object: tried by the checklist only.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::EncodingType;
use jiff::Timestamp;

use super::abilities::NO_ETAG;
use super::blank::marked;
use super::failure::{Failure, FailureKind, failure};
use super::questions::{Answer, Versioning};
use super::s3::{S3, listed, stored, timestamp};
use super::transfer::{copy_part_size, copy_source};
use super::{Bucket, Reader, Remover, Writer, send, upload};
use crate::error::{Error, Result};

/// Pages of versions of one key that are looked at: a probe has two versions at most.
const PAGES: usize = 10;
/// The version id of what a bucket keeps no versions of.
const NO_VERSION: &str = "null";
/// Requests that look, around the parts of a copy: the object before and after, and its tags.
const LOOKS: u64 = 3;

/// How an object lies there, as the service says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lying {
    /// `x-amz-server-side-encryption`.
    pub encryption: Option<String>,
    /// The storage class, when it is not `STANDARD`.
    pub class: Option<String>,
}

impl Reader {
    /// Requests that were made of the service so far, by whoever shares this connection; of a folder none.
    pub fn requests(&self) -> u64 {
        match self.bucket() {
            Bucket::S3(s3) => s3.service.pace.asked(),
            Bucket::Folder(_) => 0,
        }
    }

    /// Requests that bring a file of so many bytes from here to another place: those that write, and those that look and read.
    pub(crate) fn requests_to_copy(&self, to: &Self, bytes: u64) -> (u64, u64) {
        match self.bucket() {
            // It is read, in parts when it is large, and its tags are asked for.
            Bucket::S3(_) if to.is_folder() => (0, 2),
            Bucket::S3(_) if !self.shares_service_with(to) => match upload::requests(bytes) {
                1 => (1, 2),
                parts => (parts, parts),
            },
            Bucket::S3(s3) => in_parts(bytes, s3.limits().copy_cutoff).map_or((1, 0), |parts| (parts + 2, LOOKS)),
            Bucket::Folder(_) => (send::requests(bytes), 0),
        }
    }

    /// The largest object, in bytes, that is copied into this bucket in one request.
    pub(crate) fn copied_at_once(&self) -> u64 {
        match self.bucket() {
            Bucket::S3(s3) => s3.limits().copy_cutoff,
            Bucket::Folder(_) => u64::MAX,
        }
    }

    /// One of the objects below a prefix, a small one, if there is any; of a folder none.
    pub async fn small_object(&self, prefix: &str) -> Result<Option<(String, u64)>> {
        match self.bucket() {
            Bucket::S3(s3) => s3.small_object(prefix).await,
            Bucket::Folder(_) => Ok(None),
        }
    }

    /// True when somebody without credentials reads an object.
    pub async fn is_open_to_all(&self, key: &str) -> Result<bool> {
        match self.bucket() {
            Bucket::S3(s3) => s3.is_open_to_all(key).await,
            Bucket::Folder(_) => Ok(false),
        }
    }

    /// How an object lies there; `None` when it does not.
    pub async fn lying(&self, key: &str) -> Result<Option<Lying>> {
        match self.bucket() {
            Bucket::S3(s3) => {
                let there = s3.head(key).await?;
                Ok(there.map(|there| Lying { encryption: there.encryption, class: there.object.side.class }))
            }
            Bucket::Folder(folder) => Ok(folder.head(key)?.map(|_| Lying { encryption: None, class: None })),
        }
    }
}

impl Writer {
    /// Finds out whether an object could be stored, without one that anybody sees: an upload is begun and given up.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] when the role may not.
    pub async fn may_store(&self, key: &str) -> Result<()> {
        self.allow(key)?;
        match self.reader().bucket() {
            Bucket::S3(s3) => s3.may_store(key).await,
            Bucket::Folder(folder) => folder.may_store(),
        }
    }

    /// True when a copy goes through although its condition on the source does not hold.
    pub async fn copies_regardless(&self, source: &Reader, from: &str, key: &str) -> Result<bool> {
        self.allow(key)?;
        match (source.bucket(), self.reader().bucket()) {
            (Bucket::S3(source), Bucket::S3(s3)) => s3.copies_regardless(source, from, key).await,
            _ => Ok(false),
        }
    }

    /// Copies an object on the service's side; false when the two places have no service in common.
    pub async fn copy_beside(&self, source: &Reader, from: &str, key: &str) -> Result<bool> {
        self.allow(key)?;
        match (source.bucket(), self.reader().bucket()) {
            (Bucket::S3(source), Bucket::S3(s3)) if source.shares_service_with(s3) => {
                s3.copy_plainly(source, from, None, key).await.map(|()| true).map_err(|failure| {
                    failure.into_error(format!("cannot copy s3://{}/{from} to s3://{}/{key}", source.name(), s3.name()))
                })
            }
            _ => Ok(false),
        }
    }
}

impl Remover {
    /// Finds out whether objects could be removed, by the key of one that is not there; nothing is left of that either.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] when the role may not.
    pub async fn may_remove(&self, key: &str) -> Result<()> {
        match self.writer().reader().bucket() {
            Bucket::S3(s3) => {
                s3.versions(key).await?;
                match s3.versioning().await? {
                    Answer::Known(Versioning::Off) | Answer::Unsupported => self.remove(&[key.to_owned()]).await,
                    // Removing what is not there would leave a marker that says so; a version that is not there leaves none.
                    Answer::Known(_) | Answer::Denied => match s3.remove_version(key, NO_VERSION).await {
                        Err(failure)
                            if failure.kind == FailureKind::Denied || failure.kind == FailureKind::Transient =>
                        {
                            Err(failure.into_error(format!("cannot remove versions from s3://{}", s3.name())))
                        }
                        // Services differ in what they say of a version that is not there.
                        _ => Ok(()),
                    },
                }
            }
            Bucket::Folder(_) => self.remove(&[key.to_owned()]).await,
        }
    }

    /// Removes an object with every version and delete marker of it.
    pub async fn erase(&self, key: &str) -> Result<()> {
        match self.writer().reader().bucket() {
            Bucket::S3(s3) => self.erase_versions(s3, key).await,
            Bucket::Folder(_) => self.remove(&[key.to_owned()]).await,
        }
    }

    /// Erases the objects whose keys begin so and that were stored before a moment; counts them.
    pub async fn sweep(&self, beginning: &str, before: Timestamp) -> Result<usize> {
        let stored = match self.writer().reader().bucket() {
            Bucket::S3(s3) => s3.begun_so(beginning).await?,
            Bucket::Folder(folder) => {
                let objects = folder.begun_so(beginning)?.into_iter();
                objects.map(|object| (object.key, object.side.modified)).collect()
            }
        };
        let mut newest = BTreeMap::<String, Option<Timestamp>>::new();
        for (key, modified) in stored {
            let known = newest.entry(key).or_insert(modified);
            // One whose age is not known is somebody's who may be at work.
            *known = known.zip(modified).map(|(one, other)| one.max(other));
        }
        let old = newest.into_iter().filter(|(_, modified)| modified.is_some_and(|modified| modified < before));
        let mut swept = 0;
        for (key, _) in old {
            self.erase(&key).await?;
            swept += 1;
        }
        Ok(swept)
    }

    /// An object of a bucket that keeps versions is removed version by version, so that no marker takes its place.
    async fn erase_versions(&self, s3: &S3, key: &str) -> Result<()> {
        let what = || format!("cannot remove the versions of s3://{}/{key}", s3.name());
        let plainly = || async { self.remove(&[key.to_owned()]).await };
        for round in 0..PAGES {
            let versions = match s3.versions(key).await {
                Ok(versions) => versions.into_iter().filter(|version| version.key == key).collect::<Vec<_>>(),
                Err(error) => {
                    // What can be done is done.
                    plainly().await?;
                    return Err(error);
                }
            };
            if versions.is_empty() {
                let unseen = round == 0 && !matches!(s3.head(key).await, Ok(None));
                return if unseen { plainly().await } else { Ok(()) };
            }
            for version in versions {
                if version.id == NO_VERSION && !version.marker && round == 0 {
                    plainly().await?;
                    continue;
                }
                let removed = s3.remove_version(key, &version.id).await;
                removed.map_err(|failure| failure.into_error(what()))?;
            }
        }
        Err(Error::Unsupported { what: format!("{}: they stay", what()) })
    }
}

/// One version of an object, or a marker that it was removed.
struct Version {
    key: String,
    id: String,
    marker: bool,
    modified: Option<Timestamp>,
}

impl S3 {
    async fn small_object(&self, prefix: &str) -> Result<Option<(String, u64)>> {
        let what = || format!("cannot list s3://{}/{prefix}", self.name());
        let listed = self
            .attempt(0, async || {
                let request = self.client().list_objects_v2().bucket(self.name()).prefix(prefix);
                request.encoding_type(EncodingType::Url).send().await.map_err(failure)
            })
            .await;
        let page = listed.map_err(|failure| failure.into_error(what()))?;
        let encoded = page.encoding_type() == Some(&EncodingType::Url);
        let objects = page.contents().iter().filter_map(|object| listed_as(object, encoded));
        Ok(objects.filter(|(_, size)| (1..=self.limits().copy_cutoff).contains(size)).min_by_key(|(_, size)| *size))
    }

    /// Asks as somebody without credentials would; what is refused, or not answered, is not open.
    async fn is_open_to_all(&self, key: &str) -> Result<bool> {
        let config = self.client().config().to_builder();
        let anybody = aws_sdk_s3::Client::from_conf(config.allow_no_auth().build());
        let asked = self
            .attempt(0, async || {
                let schemes = aws_sdk_s3::config::Builder::default().auth_scheme_preference(["noAuth".into()]);
                let request = anybody.get_object().bucket(self.name()).key(marked(key));
                request.customize().config_override(schemes).send().await.map(|_| ()).map_err(failure)
            })
            .await;
        match asked {
            Ok(()) => Ok(true),
            Err(failure) if matches!(failure.kind, FailureKind::Denied | FailureKind::Gone | FailureKind::Fatal) => {
                Ok(false)
            }
            Err(failure) => {
                Err(failure.into_error(format!("cannot ask without credentials for s3://{}/{key}", self.name())))
            }
        }
    }

    async fn may_store(&self, key: &str) -> Result<()> {
        let begun = self
            .attempt(0, async || {
                let asked = self.client().create_multipart_upload().bucket(self.name()).key(marked(key)).send().await;
                asked.map_err(failure)
            })
            .await;
        let what = || format!("cannot store objects in s3://{}", self.name());
        let begun = begun.map_err(|failure| failure.into_error(what()))?;
        let Some(id) = begun.upload_id() else {
            return Err(Error::Unsupported { what: format!("{}: an upload has no id", what()) });
        };
        self.begun(key, id);
        let given_up = self
            .attempt(0, async || {
                let asked = self.client().abort_multipart_upload().bucket(self.name()).key(marked(key)).upload_id(id);
                asked.send().await.map(|_| ()).map_err(failure)
            })
            .await;
        given_up.map_err(|failure| failure.into_error(format!("cannot give up an upload in s3://{}", self.name())))?;
        self.ended(key, id);
        Ok(())
    }

    async fn copies_regardless(&self, source: &S3, from: &str, key: &str) -> Result<bool> {
        match self.copy_plainly(source, from, Some(NO_ETAG), key).await {
            Ok(()) => Ok(true),
            Err(failure) if matches!(failure.kind, FailureKind::Precondition | FailureKind::Gone) => Ok(false),
            Err(failure) => Err(failure.into_error(format!("cannot copy s3://{}/{from}", source.name()))),
        }
    }

    /// One request for one copy, under a condition on the source's ETag if there is one.
    async fn copy_plainly(
        &self,
        source: &S3,
        from: &str,
        etag: Option<&str>,
        key: &str,
    ) -> std::result::Result<(), Failure> {
        let source = copy_source(source, from, None);
        self.attempt(0, async || {
            let request = self.client().copy_object().bucket(self.name()).key(marked(key)).copy_source(&source);
            let answer = request.set_copy_source_if_match(etag.map(str::to_owned)).send().await.map_err(failure)?;
            stored(answer.copy_object_result().and_then(|copied| copied.e_tag())).map(|_| ())
        })
        .await
    }

    /// One page of the versions of keys that begin so; none where a service knows no versions.
    async fn versions(&self, beginning: &str) -> Result<Vec<Version>> {
        let listed = self
            .attempt(0, async || {
                let asked = self.client().list_object_versions().bucket(self.name()).prefix(beginning).send().await;
                asked.map_err(failure)
            })
            .await;
        let page = match listed {
            Ok(page) => page,
            Err(failure) if failure.kind == FailureKind::Unsupported => return Ok(Vec::new()),
            Err(failure) => {
                return Err(failure.into_error(format!("cannot list versions in s3://{}/{beginning}", self.name())));
            }
        };
        let version = |(key, id, marker, modified): (Option<&str>, Option<&str>, bool, Option<&DateTime>)| {
            let (key, id) = (key?.to_owned(), id.unwrap_or(NO_VERSION).to_owned());
            Some(Version { key, id, marker, modified: modified.and_then(timestamp) })
        };
        let versions = page.versions().iter();
        let versions = versions.map(|one| (one.key(), one.version_id(), false, one.last_modified()));
        let markers = page.delete_markers().iter();
        let markers = markers.map(|one| (one.key(), one.version_id(), true, one.last_modified()));
        Ok(versions.chain(markers).filter_map(version).collect())
    }

    async fn remove_version(&self, key: &str, id: &str) -> std::result::Result<(), Failure> {
        self.attempt(0, async || {
            let asked = self.client().delete_object().bucket(self.name()).key(marked(key)).version_id(id).send().await;
            asked.map(|_| ()).map_err(failure)
        })
        .await
    }

    /// Objects and versions whose keys begin so, a page of each, with when they were stored.
    async fn begun_so(&self, beginning: &str) -> Result<Vec<(String, Option<Timestamp>)>> {
        let versions = self.versions(beginning).await?.into_iter();
        let mut stored: Vec<_> = versions.map(|version| (version.key, version.modified)).collect();
        let asked = self
            .attempt(0, async || {
                let request = self.client().list_objects_v2().bucket(self.name()).prefix(beginning);
                request.encoding_type(EncodingType::Url).send().await.map_err(failure)
            })
            .await;
        let page =
            asked.map_err(|failure| failure.into_error(format!("cannot list s3://{}/{beginning}", self.name())))?;
        let encoded = page.encoding_type() == Some(&EncodingType::Url);
        let objects = page.contents().iter().filter_map(|object| listed(object, encoded));
        stored.extend(objects.map(|object| (object.key, object.side.modified)));
        Ok(stored)
    }
}

fn listed_as(object: &aws_sdk_s3::types::Object, encoded: bool) -> Option<(String, u64)> {
    let object = listed(object, encoded)?;
    // What lies in an archive can be neither read nor copied.
    object.side.class.is_none().then_some((object.key, object.side.size))
}

/// The parts that an object is copied in; `None` when it goes in one request.
fn in_parts(bytes: u64, cutoff: u64) -> Option<u64> {
    (bytes > cutoff).then(|| bytes.div_ceil(copy_part_size(bytes, cutoff)))
}

#[cfg(test)]
mod tests {
    use super::super::pace::Limits;
    use super::*;

    #[test]
    fn a_large_object_is_foretold_in_the_parts_that_it_is_copied_in() {
        let cutoff = Limits::default().copy_cutoff;
        assert_eq!(in_parts(cutoff, cutoff), None);
        assert_eq!(in_parts(10 << 30, cutoff), Some(160));
        assert_eq!(in_parts(6 << 20, 5 << 20), Some(1));
    }
}
