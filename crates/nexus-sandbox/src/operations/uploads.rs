//! Multipart uploads: opened, filled, completed, aborted.

use std::collections::BTreeMap;

use bytes::Bytes;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumType, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyPartResult, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag,
    ServerSideEncryption, StorageClass, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::acls::sent_acl;
use super::copies::source_condition;
use super::locks::sent_lock;
use super::received::{Claims, Received, must_be_redirect, no_customer_key};
use super::writes::sent_fields;
use super::{Operations, signed};
use crate::checksum::{Algorithm, Checksum, Span, sent_checksums, write_checksum, write_object_checksum};
use crate::condition::{ReadCondition, WriteCondition};
use crate::object::NewObject;
use crate::upload::{LAST_PART, Part, Upload};

impl Operations {
    pub(super) async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<CreateMultipartUploadOutput> {
        let mut input = request.input;
        no_customer_key(input.sse_customer_algorithm.as_ref())?;
        must_be_redirect(input.website_redirect_location.as_deref())?;
        let object = NewObject {
            body: Bytes::new(),
            fields: self.kept_fields(sent_fields!(input)),
            storage_class: self.asked_class(input.storage_class.as_ref().map(StorageClass::as_str))?,
            encryption: self.asked_encryption(
                input.server_side_encryption.as_ref().map(ServerSideEncryption::as_str),
                input.ssekms_key_id.take(),
            )?,
            tags: self.asked_tags(input.tagging.as_deref())?,
            lock: self.asked_lock(&input.bucket, &sent_lock!(input))?,
            acl: self.asked_acl(&input.bucket, &sent_acl!(input))?,
        };
        let algorithm = input.checksum_algorithm.as_ref();
        let kind = checksum_kind(
            algorithm.map(|name| Algorithm::named(name.as_str())).transpose()?,
            input.checksum_type.as_ref(),
        )?;
        let id = format!("upload-{}", self.store.serial());
        let output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            upload_id: Some(id.clone()),
            checksum_algorithm: input.checksum_algorithm.clone(),
            checksum_type: algorithm.map(|_| kind.1.dto()),
            server_side_encryption: object.encryption.algorithm.clone().map(Into::into),
            ssekms_key_id: object.encryption.kms_key.clone(),
            ..CreateMultipartUploadOutput::default()
        };
        let upload = Upload {
            initiated: self.store.now(),
            object,
            checksum: (!self.options.quirks.no_checksums).then_some(kind),
            checksum_asked: input.checksum_algorithm.is_some(),
            parts: BTreeMap::new(),
        };
        self.store.with_bucket(&input.bucket, |bucket| {
            bucket.uploads.insert((input.key, id), upload);
            Ok(())
        })?;
        Ok(output)
    }

    pub(super) async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<UploadPartOutput> {
        let trailers = request.trailing_headers;
        let mut input = request.input;
        must_be_part_number(input.part_number)?;
        let kind = self.checksum_of_upload(&input.bucket, &input.key, &input.upload_id)?;
        let lock = self
            .store
            .with_bucket(&input.bucket, |bucket| Ok(bucket.upload(&input.key, &input.upload_id)?.object.lock))?;
        self.must_vouch(&request.headers, &input.bucket, &lock)?;
        let claims = Claims {
            length: input.content_length,
            content_md5: input.content_md5.take(),
            checksums: sent_checksums!(input),
            trailers,
        };
        let (received, checksum) = match kind {
            None => (claims.take(input.body).await?, None),
            Some(algorithm) => {
                let (received, checksum) = claims.admit(input.body, algorithm).await?;
                (received, Some(checksum))
            }
        };
        let (received, checksum) = self.written(received, checksum);
        let part = self.part(received, checksum);
        let mut output = UploadPartOutput { e_tag: Some(ETag::Strong(part.etag())), ..UploadPartOutput::default() };
        if let Some((algorithm, value)) = &part.checksum {
            write_checksum!(output, algorithm, value.clone());
        }
        self.store.with_bucket(&input.bucket, |bucket| {
            let upload = bucket.upload(&input.key, &input.upload_id)?;
            output.server_side_encryption = upload.object.encryption.algorithm.clone().map(Into::into);
            upload.parts.insert(input.part_number, part);
            Ok(())
        })?;
        Ok(output)
    }

    pub(super) async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<UploadPartCopyOutput> {
        let mut input = request.input;
        must_be_part_number(input.part_number)?;
        let kind = self.checksum_of_upload(&input.bucket, &input.key, &input.upload_id)?;
        let condition = source_condition!(input);
        let heeded = if self.options.quirks.ignore_part_conditions { ReadCondition::default() } else { condition };
        let source = self.copy_source(&input.copy_source, &heeded)?;
        let body = match &input.copy_source_range {
            Some(range) => part_of(&source.object.body, range)?,
            None => source.object.body.clone(),
        };
        let checksum = kind.map(|algorithm| algorithm.whole(&body));
        let part = Part { copied: true, ..self.part(Received::of(body), checksum) };
        let part = if self.options.quirks.piecemeal_parts { part.piecemeal() } else { part };
        let mut result = CopyPartResult {
            e_tag: Some(ETag::Strong(part.etag())),
            last_modified: Some(part.last_modified.into()),
            ..CopyPartResult::default()
        };
        if let Some((algorithm, value)) = &part.checksum {
            write_checksum!(result, algorithm, value.clone());
        }
        self.store.with_bucket(&input.bucket, |bucket| {
            let upload = bucket.upload(&input.key, &input.upload_id)?;
            upload.parts.insert(input.part_number, part);
            Ok(())
        })?;
        Ok(UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: source.version_id,
            ..UploadPartCopyOutput::default()
        })
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let mut input = request.input;
        let mut condition = self.write_condition(input.if_match.take(), input.if_none_match.take())?;
        if self.options.quirks.ignore_completion_conditions {
            condition = WriteCondition::Always;
        }
        let sent = sent_checksums!(input);
        let wanted = input.multipart_upload.and_then(|list| list.parts).unwrap_or_default();
        // The bytes are joined outside the lock; a copy of an upload shares them.
        let upload =
            self.store.with_bucket(&input.bucket, |bucket| bucket.upload(&input.key, &input.upload_id).cloned())?;
        let parts = upload.chosen(&wanted, self.options.smallest_part)?;
        if self.options.quirks.equal_parts {
            must_be_equal(&parts)?;
        }
        let mut stored = upload.completed(&parts, Upload::etag(&parts));
        let copied = parts.iter().any(|part| part.copied) && self.options.quirks.no_checksum_of_copied_parts;
        if !upload.checksum_asked && (copied || self.options.quirks.no_own_checksum) {
            stored.checksum = None;
        }
        if input.mpu_object_size.is_some_and(|size| size != signed(stored.size())) {
            return Err(S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                "The provided 'x-amz-mp-object-size' header does not match what was computed.",
            ));
        }
        if let Some(checksum) = &stored.checksum {
            for (_, value) in sent.iter().filter(|claim| claim.0 == checksum.algorithm) {
                checksum.must_equal(value)?;
            }
        }
        let mut output = CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, crate::percent::encoded(&input.key))),
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            e_tag: Some(ETag::Strong(stored.etag.clone())),
            server_side_encryption: stored.encryption.algorithm.clone().map(Into::into),
            ssekms_key_id: stored.encryption.kms_key.clone(),
            ..CompleteMultipartUploadOutput::default()
        };
        write_object_checksum!(output, &stored.checksum);
        self.store.with_bucket(&input.bucket, |bucket| {
            bucket.upload(&input.key, &input.upload_id)?;
            let present = bucket.current(&input.key).map(AsRef::as_ref);
            let admitted = condition.admit(present, self.options.quirks.match_of_absent);
            if admitted.is_ok() || self.options.quirks.failed_completion_aborts {
                bucket.uploads.remove(&(input.key.clone(), input.upload_id));
            }
            admitted?;
            output.version_id = bucket.write(&input.key, stored, self.store.number()).version_id;
            Ok(())
        })?;
        Ok(output)
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<AbortMultipartUploadOutput> {
        let input = request.input;
        self.store.with_bucket(&input.bucket, |bucket| {
            bucket.upload(&input.key, &input.upload_id)?;
            bucket.uploads.remove(&(input.key, input.upload_id));
            Ok(AbortMultipartUploadOutput::default())
        })
    }

    /// The algorithm that parts of this upload are summed by; none if this service keeps no checksums.
    fn checksum_of_upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<Option<Algorithm>> {
        self.store.with_bucket(bucket, |bucket| {
            let upload = bucket.upload(key, id)?;
            Ok(upload.checksum.map(|(algorithm, _)| algorithm))
        })
    }

    fn part(&self, received: Received, checksum: Option<Checksum>) -> Part {
        Part {
            md5: received.md5,
            body: received.body,
            copied: false,
            pieces: 1,
            last_modified: self.store.now(),
            checksum: checksum.map(|sum| (sum.algorithm, sum.value)),
        }
    }
}

/// The checksum that an upload's object will have, given what was asked for.
fn checksum_kind(algorithm: Option<Algorithm>, asked: Option<&ChecksumType>) -> S3Result<(Algorithm, Span)> {
    let algorithm = algorithm.unwrap_or(Algorithm::Crc64Nvme);
    let span = match (asked.map(ChecksumType::as_str), algorithm) {
        (None | Some(ChecksumType::FULL_OBJECT), Algorithm::Crc64Nvme)
        | (Some(ChecksumType::FULL_OBJECT), Algorithm::Crc32 | Algorithm::Crc32c) => Span::FullObject,
        (
            None | Some(ChecksumType::COMPOSITE),
            Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Sha1 | Algorithm::Sha256,
        ) => Span::Composite,
        _ => {
            return Err(S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                "The checksum type cannot be used with the checksum algorithm.",
            ));
        }
    };
    Ok((algorithm, span))
}

fn must_be_part_number(number: i32) -> S3Result<()> {
    if (1..=LAST_PART).contains(&number) {
        return Ok(());
    }
    Err(S3Error::with_message(
        S3ErrorCode::InvalidArgument,
        "Part number must be an integer between 1 and 10000, inclusive",
    ))
}

/// Refuses parts that are not all of one size, but for the last, which may be smaller.
fn must_be_equal(parts: &[&Part]) -> S3Result<()> {
    let sizes: Vec<usize> = parts.iter().map(|part| part.body.len()).collect();
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    if sizes[..sizes.len() - 1].iter().all(|size| *size == first) && last <= first {
        return Ok(());
    }
    Err(S3Error::with_message(S3ErrorCode::InvalidPart, "All non-trailing parts must have the same length."))
}

/// The bytes of `x-amz-copy-source-range`, which has both ends and must lie within the source.
fn part_of(body: &Bytes, range: &str) -> S3Result<Bytes> {
    let ends = range
        .strip_prefix("bytes=")
        .and_then(|ends| ends.split_once('-'))
        .and_then(|(first, last)| Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?)));
    match ends {
        None => Err(S3Error::with_message(
            S3ErrorCode::InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
        )),
        Some((first, last)) if first <= last && last < body.len() => Ok(body.slice(first..=last)),
        Some(_) => Err(S3Error::with_message(
            S3ErrorCode::InvalidArgument,
            format!("Range specified is not valid for source object of size: {}", body.len()),
        )),
    }
}
