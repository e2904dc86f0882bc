//! Copies within the service: the bytes are shared with the source, not read again.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>

use hyper::HeaderMap;
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, ETag, ETagCondition, MetadataDirective,
    ServerSideEncryption, StorageClass, TaggingDirective,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::Operations;
use super::acls::sent_acl;
use super::locks::sent_lock;
use super::received::{must_be_redirect, no_customer_key};
use super::writes::sent_fields;
use crate::checksum::{Algorithm, Checksum, Span, md5_hex, write_object_checksum};
use crate::condition::ReadCondition;
use crate::object::StoredObject;
use crate::version::Found;

/// Reads the conditions that a copy sets on its source.
macro_rules! source_condition {
    ($input:expr) => {
        $crate::condition::ReadCondition {
            matching: $input.copy_source_if_match.take(),
            not_matching: $input.copy_source_if_none_match.take(),
            modified_since: $input.copy_source_if_modified_since.take(),
            unmodified_since: $input.copy_source_if_unmodified_since.take(),
        }
    };
}

pub(super) use source_condition;

impl Operations {
    pub(super) async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<CopyObjectOutput> {
        let destination = destination_conditions(&request.headers)?;
        let mut input = request.input;
        no_customer_key(input.sse_customer_algorithm.as_ref())?;
        must_be_redirect(input.website_redirect_location.as_deref())?;
        let condition = self.write_condition(destination.0, destination.1)?;
        let Found { object: source, version_id: source_id } =
            self.copy_source(&input.copy_source, &source_condition!(input))?;
        if source.size() > self.options.copy_limit {
            return Err(S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120",
            ));
        }
        must_change_something(&input)?;
        let stored = self.copy_of(&source, &mut input)?;
        let mut result = CopyObjectResult {
            e_tag: Some(ETag::Strong(stored.etag.clone())),
            last_modified: Some(stored.last_modified.into()),
            ..CopyObjectResult::default()
        };
        write_object_checksum!(result, &stored.checksum);
        let mut output = CopyObjectOutput {
            copy_object_result: Some(result),
            copy_source_version_id: source_id,
            server_side_encryption: stored.encryption.algorithm.clone().map(Into::into),
            ssekms_key_id: stored.encryption.kms_key.clone(),
            ..CopyObjectOutput::default()
        };
        output.version_id = self.store.put_if(&input.bucket, &input.key, stored, &condition)?;
        Ok(output)
    }

    /// The source of a copy, if it is there, may be read and satisfies the conditions.
    pub(super) fn copy_source(&self, named: &CopySource, condition: &ReadCondition) -> S3Result<Found> {
        let CopySource::Bucket { bucket, key, version_id } = named else {
            return Err(S3Error::with_message(S3ErrorCode::NotImplemented, "Access points are not implemented."));
        };
        if version_id.is_some() && self.store.access.denies("GetObjectVersion") {
            return Err(S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied"));
        }
        let mut source = self.store.found(bucket, key, version_id.as_deref()).map_err(of_source)?;
        if !self.options.quirks.ignore_copy_conditions {
            condition.admit_copy(&source.object)?;
        }
        self.must_not_be_archived(&source.object)?;
        if self.options.quirks.unnamed_source_version {
            source.version_id = None;
        }
        Ok(source)
    }

    fn copy_of(&self, source: &StoredObject, input: &mut CopyObjectInput) -> S3Result<StoredObject> {
        let encryption = self.asked_encryption(
            input.server_side_encryption.as_ref().map(ServerSideEncryption::as_str),
            input.ssekms_key_id.take(),
        )?;
        let redirect = input.website_redirect_location.clone();
        let mut fields =
            if replaces_fields(input) { self.kept_fields(sent_fields!(input)) } else { source.fields.clone() };
        fields.website_redirect = redirect.filter(|_| !self.options.quirks.drop_redirects);
        let tags = match input.tagging_directive.as_ref().map(TaggingDirective::as_str) {
            Some(TaggingDirective::REPLACE) => self.asked_tags(input.tagging.as_deref())?,
            _ => source.tags.clone(),
        };
        let asked = input.checksum_algorithm.as_ref();
        let algorithm = asked.map(|name| Algorithm::named(name.as_str())).transpose()?;
        Ok(StoredObject {
            body: source.body.clone(),
            etag: self.store.etag(md5_of(source), encryption.algorithm.as_deref()),
            last_modified: self.store.now(),
            fields,
            storage_class: self.asked_class(input.storage_class.as_ref().map(StorageClass::as_str))?,
            encryption,
            tags,
            lock: self.asked_lock(&input.bucket, &sent_lock!(input))?,
            acl: self.asked_acl(&input.bucket, &sent_acl!(input))?,
            checksum: self.checksum_of_copy(source, algorithm),
            parts: Vec::new(),
        })
    }

    /// The source's checksum, taken again only if it is of other bytes or another algorithm.
    fn checksum_of_copy(&self, source: &StoredObject, asked: Option<Algorithm>) -> Option<Checksum> {
        if self.options.quirks.no_checksums {
            return None;
        }
        if self.options.quirks.copies_keep_checksum {
            return source.checksum.clone();
        }
        let kept = source.checksum.as_ref();
        let algorithm = asked.or(kept.map(|sum| sum.algorithm)).unwrap_or(Algorithm::Crc64Nvme);
        match kept {
            Some(sum) if sum.algorithm == algorithm && sum.span == Span::FullObject => Some(sum.clone()),
            _ => Some(algorithm.whole(&source.body)),
        }
    }
}

/// Why a source cannot be had, as a copy says it: a marker that is named is no bad method but a bad request.
fn of_source(error: S3Error) -> S3Error {
    if *error.code() == S3ErrorCode::MethodNotAllowed {
        return S3Error::with_message(
            S3ErrorCode::InvalidRequest,
            "The source of a copy request may not specifically refer to a delete marker by version id.",
        );
    }
    error
}

/// The MD5 of the source's bytes: its `ETag` if that is one, for only a single put has a plain MD5.
fn md5_of(source: &StoredObject) -> String {
    let kms = source.encryption.algorithm.as_deref();
    if source.parts.is_empty() && kms.is_none_or(|name| name == "AES256") {
        return source.etag.clone();
    }
    md5_hex(&source.body)
}

fn replaces_fields(input: &CopyObjectInput) -> bool {
    let directive = input.metadata_directive.as_ref().map(MetadataDirective::as_str);
    directive == Some(MetadataDirective::REPLACE)
}

fn must_change_something(input: &CopyObjectInput) -> S3Result<()> {
    let CopySource::Bucket { bucket, key, version_id } = &input.copy_source else {
        return Ok(());
    };
    // A version that is named becomes the newest, which is a change.
    let onto_itself = **bucket == *input.bucket && **key == *input.key && version_id.is_none();
    let changes = replaces_fields(input)
        || input.storage_class.is_some()
        || input.server_side_encryption.is_some()
        || input.website_redirect_location.is_some()
        || input.checksum_algorithm.is_some();
    if onto_itself && !changes {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    Ok(())
}

/// `If-Match` and `If-None-Match`, which the S3 crate does not read from copies yet.
fn destination_conditions(headers: &HeaderMap) -> S3Result<(Option<ETagCondition>, Option<ETagCondition>)> {
    let condition = |name: &str| {
        headers
            .get(name)
            .map(|value| ETagCondition::parse_http_header(value.as_bytes()))
            .transpose()
            .map_err(|cause| S3Error::with_source(S3ErrorCode::InvalidArgument, Box::new(cause)))
    };
    Ok((condition("if-match")?, condition("if-none-match")?))
}
