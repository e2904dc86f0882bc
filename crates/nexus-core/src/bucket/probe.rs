//! What a service makes of one small object: tried by the checklist only.

use aws_sdk_s3::types::{EncodingType, ObjectIdentifier};

use super::failure::{Failure, FailureKind, failure};
use super::s3::{S3, listed, stored};
use super::transfer::copy_source;
use super::upload::part_size;
use super::{Bucket, Reader, Remover, Writer};
use crate::error::{Error, Result};

/// Pages of versions of one key that are looked at: a probe has two versions at most.
const PAGES: usize = 10;
/// An ETag that no object has.
const NO_ETAG: &str = "\"00000000000000000000000000000000\"";

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

    /// Bytes above which an object is copied in parts, and how large these are for one of `bytes`.
    pub(crate) fn parts(&self, bytes: u64) -> u64 {
        match self.bucket() {
            Bucket::S3(s3) if bytes > s3.limits().copy_cutoff => bytes.div_ceil(part_size(bytes)),
            _ => 1,
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
            (Bucket::S3(source), Bucket::S3(s3)) if source.endpoint() == s3.endpoint() => {
                s3.copy_plainly(source, from, None, key).await.map(|()| true).map_err(|failure| {
                    failure.into_error(format!("cannot copy s3://{}/{from} to s3://{}/{key}", source.name(), s3.name()))
                })
            }
            _ => Ok(false),
        }
    }
}

impl Remover {
    /// Removes an object with every version and delete marker of it.
    pub async fn erase(&self, key: &str) -> Result<()> {
        self.remove(&[key.to_owned()]).await?;
        match self.writer().reader().bucket() {
            Bucket::S3(s3) => s3.erase_versions(key).await,
            Bucket::Folder(_) => Ok(()),
        }
    }
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
        Ok(objects.filter(|(_, size)| *size > 0).min_by_key(|(_, size)| *size))
    }

    /// Asks as somebody without credentials would; what is refused, or not answered, is not open.
    async fn is_open_to_all(&self, key: &str) -> Result<bool> {
        let config = self.client().config().to_builder();
        let anybody = aws_sdk_s3::Client::from_conf(config.allow_no_auth().build());
        let asked = self
            .attempt(0, async || {
                let schemes = aws_sdk_s3::config::Builder::default().auth_scheme_preference(["noAuth".into()]);
                let request = anybody.get_object().bucket(self.name()).key(key);
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
                let asked = self.client().create_multipart_upload().bucket(self.name()).key(key).send().await;
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
                let asked = self.client().abort_multipart_upload().bucket(self.name()).key(key).upload_id(id);
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
            let request = self.client().copy_object().bucket(self.name()).key(key).copy_source(&source);
            let answer = request.set_copy_source_if_match(etag.map(str::to_owned)).send().await.map_err(failure)?;
            stored(answer.copy_object_result().and_then(|copied| copied.e_tag())).map(|_| ())
        })
        .await
    }

    /// Removes what versions of a key are left; where none are kept, there are none to see.
    async fn erase_versions(&self, key: &str) -> Result<()> {
        let what = || format!("cannot remove the versions of s3://{}/{key}", self.name());
        for _ in 0..PAGES {
            let listed = self
                .attempt(0, async || {
                    let asked = self.client().list_object_versions().bucket(self.name()).prefix(key).send().await;
                    asked.map_err(failure)
                })
                .await;
            let page = match listed {
                Ok(page) => page,
                Err(failure) if failure.kind == FailureKind::Unsupported => return Ok(()),
                Err(failure) => return Err(failure.into_error(what())),
            };
            let versions = page.versions().iter().map(|version| (version.key(), version.version_id()));
            let markers = page.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
            let left: Vec<ObjectIdentifier> = versions
                .chain(markers)
                .filter(|(name, _)| *name == Some(key))
                .filter_map(|(name, id)| {
                    ObjectIdentifier::builder()
                        .set_key(name.map(str::to_owned))
                        .set_version_id(id.map(str::to_owned))
                        .build()
                        .ok()
                })
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            for version in left {
                let removed = self
                    .attempt(0, async || {
                        let asked = self.client().delete_object().bucket(self.name()).key(key);
                        let asked = asked.set_version_id(version.version_id().map(str::to_owned));
                        asked.send().await.map(|_| ()).map_err(failure)
                    })
                    .await;
                removed.map_err(|failure| failure.into_error(what()))?;
            }
        }
        Err(Error::Unsupported { what: format!("{}: they stay", what()) })
    }
}

fn listed_as(object: &aws_sdk_s3::types::Object, encoded: bool) -> Option<(String, u64)> {
    let object = listed(object, encoded)?;
    // What lies in an archive can be neither read nor copied.
    object.side.class.is_none().then_some((object.key, object.side.size))
}
