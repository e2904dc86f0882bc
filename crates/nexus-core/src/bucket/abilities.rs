//! What a service can do beyond what every one does: tried by the checklist only, on objects that are gone afterwards.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::EncodingType;

use super::blank::marked;
use super::failure::{Failure, FailureKind, failure};
use super::hashes::content_md5;
use super::part_copy::PartCopy;
use super::s3::{S3, stored};
use super::tags::Tags;
use super::transfer::copy_source;
use super::{Bucket, Reader, Writer};
use crate::error::{Error, Result};

/// An ETag that no object has.
pub(super) const NO_ETAG: &str = "\"00000000000000000000000000000000\"";

/// What a service makes of a copy into a part of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartCopies {
    /// It copies, unless the source is another than was said.
    Conditional,
    /// It copies, whatever was said of the source.
    Regardless,
    /// It does not copy parts.
    None,
}

impl Reader {
    /// False when the service was asked to remove many objects in one request and could not.
    pub fn removes_in_batches(&self) -> bool {
        match self.bucket() {
            Bucket::S3(s3) => s3.service.learned.knows_batches(),
            Bucket::Folder(_) => true,
        }
    }

    /// True when the service has a checksum over the whole of an object that was sent without one.
    ///
    /// # Errors
    ///
    /// What the service fails with.
    pub async fn has_checksum(&self, key: &str) -> Result<bool> {
        match self.bucket() {
            Bucket::S3(s3) => Ok(s3.head(key).await?.is_some_and(|there| there.checksummed.is_some())),
            Bucket::Folder(_) => Ok(true),
        }
    }

    /// True when listings can name keys that XML cannot carry.
    ///
    /// # Errors
    ///
    /// What the service fails with.
    pub async fn lists_any_key(&self, prefix: &str) -> Result<bool> {
        let Bucket::S3(s3) = self.bucket() else { return Ok(true) };
        let listed = s3
            .attempt(0, async || {
                let request = s3.client().list_objects_v2().bucket(s3.name()).prefix(prefix).max_keys(1);
                request.encoding_type(EncodingType::Url).send().await.map_err(failure)
            })
            .await;
        let page = listed.map_err(|failure| failure.into_error(format!("cannot list s3://{}/{prefix}", s3.name())))?;
        Ok(page.encoding_type() == Some(&EncodingType::Url))
    }
}

impl Writer {
    /// What the service makes of copies into parts, tried on an upload that is given up; `None` where the two places have no
    /// service in common, and where it does not tell.
    ///
    /// # Errors
    ///
    /// What an upload cannot be begun or given up for.
    pub async fn part_copies(&self, source: &Reader, from: &str, key: &str) -> Result<Option<PartCopies>> {
        self.allow(key)?;
        match (source.bucket(), self.reader().bucket()) {
            (Bucket::S3(source), Bucket::S3(s3)) if source.shares_service_with(s3) => {
                s3.part_copies(source, from, key).await
            }
            _ => Ok(None),
        }
    }

    /// True when an object that is stored with a tag has it afterwards.
    ///
    /// # Errors
    ///
    /// What storing it fails with, but for the tag.
    pub async fn keeps_tags(&self, key: &str) -> Result<bool> {
        self.allow(key)?;
        match self.reader().bucket() {
            Bucket::S3(s3) => s3.keeps_tags(key).await,
            Bucket::Folder(_) => Ok(false),
        }
    }
}

impl S3 {
    async fn part_copies(&self, source: &S3, from: &str, key: &str) -> Result<Option<PartCopies>> {
        let what = || format!("cannot try copies in parts in s3://{}", self.name());
        let begun = self.begin_upload(self.client().create_multipart_upload(), key).await;
        let upload = begun.map_err(|failure| failure.into_error(what()))?;
        let source = copy_source(source, from, None);
        let part = PartCopy { upload: &upload, number: 1, source: &source, range: None, bytes: 0 };
        let mut copied =
            self.copy_part_once(key, &part, Some(NO_ETAG.to_owned())).await.map(|_| PartCopies::Regardless);
        let of_condition =
            |failure: &Failure| failure.kind == FailureKind::Unsupported || failure.mentions("x-amz-copy-source-if");
        if copied.as_ref().is_err_and(of_condition) {
            copied = self.copy_part_once(key, &part, None).await.map(|_| PartCopies::Regardless);
        }
        self.abort(key, &upload).await;
        match copied {
            Ok(found) => Ok(Some(found)),
            Err(failure) => match failure.kind {
                FailureKind::Precondition => Ok(Some(PartCopies::Conditional)),
                FailureKind::Unsupported => Ok(Some(PartCopies::None)),
                // Some refuse a source that is too small for a part, and a gateway that knows no such request may answer anything.
                FailureKind::Fatal | FailureKind::Denied | FailureKind::Gone => Ok(None),
                _ => Err::<_, Error>(failure.into_error(what())),
            },
        }
    }

    async fn keeps_tags(&self, key: &str) -> Result<bool> {
        let what = |failure: Failure| failure.into_error(format!("cannot try tags in s3://{}", self.name()));
        let (content, tags) = (b"tagged", Tags::of(&[("nexus", "probe")]));
        let put = self
            .attempt(0, async || {
                let request =
                    self.client().put_object().bucket(self.name()).key(marked(key)).set_tagging(tags.header());
                let request = request.content_md5(content_md5(content)).body(ByteStream::from_static(content));
                stored(request.send().await.map_err(failure)?.e_tag())
            })
            .await;
        match put {
            Ok(_) => self.has_tags(key, &tags).await.map_err(what),
            Err(failure) if matches!(failure.kind, FailureKind::Unsupported | FailureKind::Fatal) => Ok(false),
            Err(failure) => Err(what(failure)),
        }
    }
}
