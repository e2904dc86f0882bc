//! Objects written in one request.

use std::time::SystemTime;

use s3s::dto::{ETag, PutObjectInput, PutObjectOutput, ServerSideEncryption, StorageClass, Timestamp};
use s3s::{S3Request, S3Result};

use super::Operations;
use super::acls::sent_acl;
use super::locks::sent_lock;
use super::received::{Claims, must_be_redirect, no_customer_key, sends_checksum};
use crate::checksum::{Algorithm, hexadecimal, sent_checksums, write_object_checksum};
use crate::condition::WriteCondition;
use crate::object::{NewObject, StoredObject};
use crate::timestamps::instant;

/// Reads the header fields that travel with an object from any of the writing requests.
macro_rules! sent_fields {
    ($input:expr) => {
        $crate::object::Fields {
            content_type: $input.content_type.take(),
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $crate::operations::writes::own_encoding($input.content_encoding.as_deref()),
            content_language: $input.content_language.take(),
            expires: $crate::operations::writes::expiry($input.expires.as_ref()),
            website_redirect: $input.website_redirect_location.take(),
            metadata: $input.metadata.take().unwrap_or_default().into_iter().collect(),
        }
    };
}

pub(super) use sent_fields;

impl Operations {
    pub(super) async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<PutObjectOutput> {
        let trailers = request.trailing_headers;
        let mut input = request.input;
        no_customer_key(input.sse_customer_algorithm.as_ref())?;
        must_be_redirect(input.website_redirect_location.as_deref())?;
        let condition = self.write_condition(input.if_match.take(), input.if_none_match.take())?;
        let mut object = NewObject {
            body: bytes::Bytes::new(),
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
        // A bucket that is missing, like a lock without a checksum, is said so before the body is read.
        self.must_vouch(&request.headers, &input.bucket, &object.lock)?;
        let claims = Claims {
            length: input.content_length,
            content_md5: input.content_md5.take(),
            checksums: sent_checksums!(input),
            trailers,
        };
        let asked = input.checksum_algorithm.as_ref();
        let algorithm = asked.map_or(Ok(Algorithm::Crc64Nvme), |name| Algorithm::named(name.as_str()))?;
        let (received, checksum) = if self.options.quirks.no_checksums {
            (claims.take(input.body).await?, None)
        } else {
            let (received, checksum) = claims.admit(input.body, algorithm).await?;
            let own = input.checksum_algorithm.is_none() && !sends_checksum(&request.headers);
            (received, Some(checksum).filter(|_| !(own && self.options.quirks.no_own_checksum)))
        };
        let (received, checksum) = self.written(received, checksum);
        object.body = received.body;
        let stored = self.stamped(object, received.md5, checksum);
        let mut output = PutObjectOutput {
            e_tag: Some(ETag::Strong(stored.etag.clone())),
            server_side_encryption: stored.encryption.algorithm.clone().map(Into::into),
            ssekms_key_id: stored.encryption.kms_key.clone(),
            ..PutObjectOutput::default()
        };
        write_object_checksum!(output, &stored.checksum);
        output.version_id = self.store.put_if(&input.bucket, &input.key, stored, &condition)?;
        Ok(output)
    }

    /// The condition that a write bears, none if this service does not heed them.
    pub(super) fn write_condition(
        &self,
        if_match: Option<s3s::dto::ETagCondition>,
        if_none_match: Option<s3s::dto::ETagCondition>,
    ) -> S3Result<WriteCondition> {
        if self.options.quirks.ignore_put_conditions {
            Ok(WriteCondition::Always)
        } else {
            WriteCondition::new(if_match, if_none_match)
        }
    }

    fn stamped(&self, object: NewObject, md5: [u8; 16], checksum: Option<crate::checksum::Checksum>) -> StoredObject {
        StoredObject {
            etag: self.store.etag(hexadecimal(&md5), object.encryption.algorithm.as_deref()),
            last_modified: self.store.now(),
            body: object.body,
            fields: object.fields,
            storage_class: object.storage_class,
            encryption: object.encryption,
            tags: object.tags,
            lock: object.lock,
            acl: object.acl,
            checksum,
            parts: Vec::new(),
        }
    }
}

/// The content encoding without `aws-chunked`, which is of the transfer and not of the object.
pub(super) fn own_encoding(sent: Option<&str>) -> Option<String> {
    let kept: Vec<&str> = sent?
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// The moment of an `Expires` header.
pub(super) fn expiry(sent: Option<&Timestamp>) -> Option<SystemTime> {
    sent.map(instant)
}
