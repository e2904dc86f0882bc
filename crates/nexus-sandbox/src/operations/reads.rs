//! Objects read: whole, by range, by part, and their header fields alone.

use std::ops;
use std::sync::Arc;

use hyper::StatusCode;
use s3s::dto::{
    ChecksumMode, ETag, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, Range,
    ServerSideEncryption, StorageClass, StreamingBlob,
};
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Result};

use super::locks::describe_lock;
use super::{Operations, refusal, signed};
use crate::checksum::write_object_checksum;
use crate::condition::ReadCondition;
use crate::object::{STANDARD, StoredObject};
use crate::version::Found;

/// The bytes of an object that an answer carries.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Extent {
    bytes: ops::Range<u64>,
    /// The `Content-Range` header, when the answer is a part of the object.
    content_range: Option<String>,
    parts: Option<i32>,
}

/// Writes what both kinds of answer say about the object.
macro_rules! described {
    ($output:expr, $object:expr, $extent:expr, $checksum:expr, $access:expr) => {{
        let object: &StoredObject = $object;
        let fields = object.fields.clone();
        $output.accept_ranges = Some("bytes".to_owned());
        $output.content_length = Some(signed($extent.bytes.end - $extent.bytes.start));
        $output.content_range = $extent.content_range.clone();
        $output.parts_count = $extent.parts;
        $output.e_tag = Some(ETag::Strong(object.etag.clone()));
        $output.last_modified = Some(object.last_modified.into());
        $output.content_type = fields.content_type.or_else(|| Some("binary/octet-stream".to_owned()));
        $output.cache_control = fields.cache_control;
        $output.content_disposition = fields.content_disposition;
        $output.content_encoding = fields.content_encoding;
        $output.content_language = fields.content_language;
        $output.expires = fields.expires.map(Into::into);
        $output.website_redirect_location = fields.website_redirect;
        $output.metadata = Some(fields.metadata.into_iter().collect());
        $output.storage_class =
            (object.storage_class != STANDARD).then(|| StorageClass::from(object.storage_class.clone()));
        $output.server_side_encryption = object.encryption.algorithm.clone().map(ServerSideEncryption::from);
        $output.ssekms_key_id = object.encryption.kms_key.clone();
        describe_lock!($output, &object.lock, $access);
        if $checksum {
            write_object_checksum!($output, &object.checksum);
        }
    }};
}

impl Operations {
    pub(super) async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<GetObjectOutput> {
        let input = request.input;
        let Found { object, version_id } = self.store.found(&input.bucket, &input.key, input.version_id.as_deref())?;
        let condition = ReadCondition {
            matching: input.if_match,
            not_matching: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        condition.admit_read(&object)?;
        self.must_not_be_archived(&object)?;
        let extent = extent(&object, input.range.as_ref(), input.part_number)?;
        let mut output = GetObjectOutput { version_id, ..GetObjectOutput::default() };
        described!(output, &object, extent, wants_checksum(input.checksum_mode.as_ref(), &extent), self.store.access);
        output.tag_count = i32::try_from(object.tags.len()).ok().filter(|count| *count > 0);
        output.body = Some(slice(&object, &extent.bytes));
        Ok(output)
    }

    pub(super) async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<HeadObjectOutput> {
        let input = request.input;
        let Found { object, version_id } = self.store.found(&input.bucket, &input.key, input.version_id.as_deref())?;
        let condition = ReadCondition {
            matching: input.if_match,
            not_matching: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        condition.admit_read(&object)?;
        let extent = extent(&object, input.range.as_ref(), input.part_number)?;
        let mut output = HeadObjectOutput { version_id, ..HeadObjectOutput::default() };
        described!(output, &object, extent, wants_checksum(input.checksum_mode.as_ref(), &extent), self.store.access);
        Ok(output)
    }

    /// Refuses an object whose bytes lie in an archive.
    pub(super) fn must_not_be_archived(&self, object: &StoredObject) -> S3Result<()> {
        if object.archived() && !self.options.quirks.open_archives {
            return Err(S3Error::with_message(
                S3ErrorCode::InvalidObjectState,
                "The operation is not valid for the object's storage class",
            ));
        }
        Ok(())
    }
}

/// The checksum of a whole object says nothing about a range of it.
fn wants_checksum(mode: Option<&ChecksumMode>, extent: &Extent) -> bool {
    extent.content_range.is_none() && mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

fn slice(object: &Arc<StoredObject>, range: &ops::Range<u64>) -> StreamingBlob {
    // The range was cut from the length of these bytes, so that it fits a usize.
    let start = usize::try_from(range.start).unwrap_or(usize::MAX);
    let end = usize::try_from(range.end).unwrap_or(usize::MAX);
    StreamingBlob::from(Body::from(object.body.slice(start..end)))
}

fn extent(object: &StoredObject, range: Option<&Range>, part: Option<i32>) -> S3Result<Extent> {
    let size = object.size();
    match (range, part) {
        (Some(_), Some(_)) => Err(S3Error::with_message(
            S3ErrorCode::InvalidRequest,
            "Cannot specify both Range header and partNumber query parameter",
        )),
        (Some(range), None) => {
            let bytes = range.check(size).map_err(|_| range_not_satisfiable())?;
            Ok(Extent { content_range: Some(content_range(&bytes, size)), bytes, parts: None })
        }
        (None, Some(number)) => part_extent(object, number),
        (None, None) => Ok(Extent { bytes: 0..size, content_range: None, parts: None }),
    }
}

fn part_extent(object: &StoredObject, number: i32) -> S3Result<Extent> {
    let single = [object.size()];
    let parts: &[u64] = if object.parts.is_empty() { &single } else { &object.parts };
    let index = usize::try_from(number - 1).map_err(|_| range_not_satisfiable())?;
    let length = *parts.get(index).ok_or_else(|| {
        let mut error = refusal("InvalidPartNumber", "The requested partnumber is not satisfiable");
        error.set_status_code(StatusCode::RANGE_NOT_SATISFIABLE);
        error
    })?;
    let start: u64 = parts[..index].iter().sum();
    let bytes = start..start + length;
    Ok(Extent {
        content_range: (length > 0).then(|| content_range(&bytes, object.size())),
        bytes,
        parts: i32::try_from(object.parts.len()).ok().filter(|count| *count > 0),
    })
}

fn content_range(bytes: &ops::Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1)
}

fn range_not_satisfiable() -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidRange, "The requested range is not satisfiable")
}
