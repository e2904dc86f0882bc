//! A local file into a bucket under a key that nobody has used: one put, or a multipart upload in parallel.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use aws_sdk_s3::operation::upload_part::UploadPartOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumType, CompletedMultipartUpload, CompletedPart, EncodingType, ServerSideEncryption, StorageClass,
};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::StoreOptions;
use super::blank::marked;
use super::failure::{Failure, FailureKind, failure};
use super::hashes::content_md5;
use super::s3::{S3, decode, quoted, stored, timestamp};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local::Given;

/// Files up to this many bytes go in one request.
pub(crate) const SINGLE: u64 = 8 * 1024 * 1024;
/// The smallest part of a larger one; parts grow so that [`PARTS`] suffice.
pub(super) const PART: u64 = 8 * 1024 * 1024;
/// The most parts an upload may have (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
pub(crate) const PARTS: u64 = 10_000;
/// Parts of one upload in flight.
const PARTS_IN_FLIGHT: usize = 4;
/// User metadata that tells our own upload from another's when an answer was lost.
const DIGEST: &str = "nexus-sha256";

/// Whom to tell about an upload, and as which stage.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Whom.
    pub events: &'a Events,
    /// As what.
    pub stage: Stage,
    /// The file's SHA-256, hexadecimal: stored beside it, so that an upload whose answer was lost is known as ours.
    pub sha256: &'a str,
    /// What becomes of the file where it lies.
    pub given: Given,
}

/// The size of the parts for a whole of `bytes`.
pub(crate) fn part_size(bytes: u64) -> u64 {
    PART.max(bytes.div_ceil(PARTS - 1).next_multiple_of(1024 * 1024))
}

/// Requests that store one object of so many bytes.
pub(crate) fn requests(bytes: u64) -> u64 {
    if bytes <= SINGLE { 1 } else { bytes.div_ceil(part_size(bytes)) + 2 }
}

impl S3 {
    pub(crate) async fn upload_new(
        &self,
        key: &str,
        path: &Path,
        options: &StoreOptions,
        progress: &Progress<'_>,
    ) -> Result<bool> {
        let what = || format!("cannot store `{}` as s3://{}/{key}", path.display(), self.name());
        let file = File::open(path).map_err(|cause| Error::local(what(), cause))?;
        let bytes = file.metadata().map_err(|cause| Error::local(what(), cause))?.len();
        let outcome = if bytes <= SINGLE {
            self.put_file(key, &file, bytes, options, progress).await
        } else {
            self.put_parts(key, Arc::new(file), bytes, options, progress).await
        };
        match outcome {
            Ok(encryption) => {
                self.confirm_encryption(key, options, encryption.as_deref(), progress.events).await;
                Ok(true)
            }
            Err(failure) if matches!(failure.kind, FailureKind::Precondition | FailureKind::NoUpload) => {
                // Either somebody else's object, or our own whose answer was lost.
                let there = self.head(key).await?;
                let name = format!("x-amz-meta-{DIGEST}");
                Ok(there.is_some_and(|there| {
                    there.object.side.size == bytes
                        && there.headers.get(&name).is_some_and(|sha| sha == progress.sha256)
                }))
            }
            Err(failure) => Err(failure.into_error(what())),
        }
    }

    /// A service that was asked to encrypt and does not say that it did is named, never passed over.
    ///
    /// Some say so only of an object that lies there, not when an upload of many parts is completed.
    pub(crate) async fn confirm_encryption(
        &self,
        key: &str,
        options: &StoreOptions,
        got: Option<&str>,
        events: &Events,
    ) {
        let Some(asked) = &options.encryption else { return };
        let lies_encrypted = async || {
            let there = self.head(key).await.ok().flatten();
            there.is_some_and(|there| there.encryption.as_ref() == Some(asked))
        };
        if got != Some(asked) && !lies_encrypted().await {
            events.warn(format!(
                "s3://{}/{key} was to be encrypted with {asked} and the service did not confirm it",
                self.name()
            ));
        }
    }

    async fn put_file(
        &self,
        key: &str,
        file: &File,
        bytes: u64,
        options: &StoreOptions,
        progress: &Progress<'_>,
    ) -> std::result::Result<Option<String>, Failure> {
        let _memory = self.service.pace.memory(bytes).await;
        let content = read_range(file, 0, bytes)?;
        let md5 = content_md5(&content);
        self.service.pace.through(bytes).await;
        let encryption = self
            .attempt(bytes, async || {
                let request = self.client().put_object().bucket(self.name()).key(marked(key)).if_none_match("*");
                let answer = request
                    .body(ByteStream::from(content.clone()))
                    .content_md5(&md5)
                    .set_content_type(options.headers.get("content-type").cloned())
                    .metadata(DIGEST, progress.sha256)
                    .set_storage_class(options.class.as_deref().map(StorageClass::from))
                    .set_server_side_encryption(options.encryption.as_deref().map(ServerSideEncryption::from))
                    .send()
                    .await
                    .map_err(failure)?;
                stored(answer.e_tag())?;
                Ok(answer.server_side_encryption().map(|kind| kind.as_str().to_owned()))
            })
            .await?;
        progress.events.advanced(progress.stage, 1, bytes);
        Ok(encryption)
    }

    async fn put_parts(
        &self,
        key: &str,
        file: Arc<File>,
        bytes: u64,
        options: &StoreOptions,
        progress: &Progress<'_>,
    ) -> std::result::Result<Option<String>, Failure> {
        let created = self
            .attempt(0, async || {
                let request = self.client().create_multipart_upload();
                let request = request
                    .set_content_type(options.headers.get("content-type").cloned())
                    .metadata(DIGEST, progress.sha256)
                    .set_storage_class(options.class.as_deref().map(StorageClass::from))
                    .set_server_side_encryption(options.encryption.as_deref().map(ServerSideEncryption::from));
                self.begin_upload(request, key).await
            })
            .await?;
        let finished = self.send_parts(key, &created, &file, bytes, progress).await;
        let finished = match finished {
            Ok(parts) => self.complete(key, &created, parts, true).await,
            Err(failure) => Err(failure),
        };
        if finished.is_err() {
            self.abort(key, &created).await;
        }
        finished.map(|completed| completed.encryption)
    }

    async fn send_parts(
        &self,
        key: &str,
        upload: &str,
        file: &Arc<File>,
        bytes: u64,
        progress: &Progress<'_>,
    ) -> std::result::Result<Vec<CompletedPart>, Failure> {
        let size = part_size(bytes);
        let numbers = (0..bytes.div_ceil(size)).map(|index| (index, (bytes - index * size).min(size)));
        stream::iter(numbers)
            .map(async |(index, length)| {
                let _memory = self.service.pace.memory(length).await;
                let content = read_range(file, index * size, length)?;
                let md5 = content_md5(&content);
                self.service.pace.through(length).await;
                let number = i32::try_from(index + 1).map_err(Failure::fatal)?;
                let part = self
                    .attempt(length, async || {
                        let request =
                            self.client().upload_part().bucket(self.name()).key(marked(key)).upload_id(upload);
                        let request =
                            request.part_number(number).content_md5(&md5).body(ByteStream::from(content.clone()));
                        sent_part(number, &request.send().await.map_err(failure)?)
                    })
                    .await?;
                progress.events.advanced(progress.stage, 0, length);
                Ok(part)
            })
            .buffered(PARTS_IN_FLIGHT)
            .try_collect()
            .await
    }

    /// Ends a multipart upload; `new` asks that nothing be there yet.
    pub(crate) async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: Vec<CompletedPart>,
        new: bool,
    ) -> std::result::Result<Completed, Failure> {
        let list = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let completed = self
            .attempt(0, async || {
                let request =
                    self.client().complete_multipart_upload().bucket(self.name()).key(marked(key)).upload_id(upload);
                let request = request.multipart_upload(list.clone()).set_if_none_match(new.then(|| "*".to_owned()));
                let answer = request.send().await.map_err(failure)?;
                let encryption = answer.server_side_encryption().map(|kind| kind.as_str().to_owned());
                let whole = answer.checksum_type() == Some(&ChecksumType::FullObject);
                let crc64 = answer.checksum_crc64_nvme().filter(|_| whole).map(str::to_owned);
                Ok(Completed { etag: stored(answer.e_tag())?, crc64, encryption })
            })
            .await;
        if completed.is_ok() {
            self.ended(key, upload);
        }
        completed
    }

    /// Gives a multipart upload up; one that cannot be is swept by a backup a day later.
    pub(crate) async fn abort(&self, key: &str, upload: &str) {
        let _ = self
            .attempt(0, async || {
                let request =
                    self.client().abort_multipart_upload().bucket(self.name()).key(marked(key)).upload_id(upload);
                request.send().await.map_err(failure)
            })
            .await;
        self.ended(key, upload);
    }
}

/// Pages of open uploads that are looked at.
const PAGES: u32 = 100;

impl S3 {
    /// The multipart uploads below a prefix that were begun before `before` and never ended: keys and upload ids.
    pub(crate) async fn old_uploads(
        &self,
        prefix: &str,
        before: jiff::Timestamp,
    ) -> std::result::Result<Vec<(String, String)>, Failure> {
        let mut old = Vec::new();
        let mut marker: Option<(String, String)> = None;
        for _ in 0..PAGES {
            let page = self
                .attempt(0, async || {
                    let request = self.client().list_multipart_uploads().bucket(self.name()).prefix(prefix);
                    let (key, id) = marker.clone().unzip();
                    let request = request.encoding_type(EncodingType::Url);
                    request.set_key_marker(key).set_upload_id_marker(id).send().await.map_err(failure)
                })
                .await?;
            let encoded = page.encoding_type() == Some(&EncodingType::Url);
            for upload in page.uploads() {
                let is_old = upload.initiated().and_then(timestamp).is_some_and(|begun| begun < before);
                let key = upload.key().and_then(|key| decode(key, encoded));
                if let (true, Some(key), Some(id)) = (is_old, key, upload.upload_id()) {
                    old.push((key, id.to_owned()));
                }
            }
            let next = page.next_key_marker().zip(page.next_upload_id_marker());
            let next = next.and_then(|(key, id)| Some((decode(key, encoded)?, id.to_owned())));
            let next = next.filter(|next| marker.as_ref() != Some(next));
            match next.filter(|_| page.is_truncated() == Some(true)) {
                Some(next) => marker = Some(next),
                None => break,
            }
        }
        Ok(old)
    }
}

/// A part as its completion must name it: where the service keeps checksums of parts it wants them said again.
pub(crate) fn sent_part(number: i32, answer: &UploadPartOutput) -> std::result::Result<CompletedPart, Failure> {
    let etag = stored(answer.e_tag())?;
    Ok(CompletedPart::builder()
        .part_number(number)
        .e_tag(quoted(&etag))
        .set_checksum_crc32(answer.checksum_crc32().map(str::to_owned))
        .set_checksum_crc64_nvme(answer.checksum_crc64_nvme().map(str::to_owned))
        .build())
}

/// What completing a multipart upload gave.
pub(crate) struct Completed {
    pub(crate) etag: String,
    /// The CRC64NVME of the whole object, as S3 writes it, where the service tells one.
    pub(crate) crc64: Option<String>,
    pub(crate) encryption: Option<String>,
}

pub(crate) fn read_range(file: &File, offset: u64, length: u64) -> std::result::Result<bytes::Bytes, Failure> {
    let mut content = vec![0; usize::try_from(length).map_err(Failure::fatal)?];
    file.read_exact_at(&mut content, offset).map_err(Failure::fatal)?;
    Ok(content.into())
}
