//! Objects deleted, one or a thousand at a time. Deleting what is not there succeeds.

use s3s::dto::{DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::{Operations, only_null_version};
use crate::checksum::Algorithm;

/// The most keys in one request.
const BATCH: usize = 1_000;

impl Operations {
    pub(super) async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<DeleteObjectOutput> {
        let input = request.input;
        only_null_version(input.version_id.as_deref())?;
        let condition = self.write_condition(input.if_match, None)?;
        self.store.with_bucket(&input.bucket, |bucket| {
            condition.admit(bucket.objects.get(&input.key).map(AsRef::as_ref))?;
            bucket.objects.remove(&input.key);
            Ok(DeleteObjectOutput::default())
        })
    }

    pub(super) async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> S3Result<DeleteObjectsOutput> {
        let proven = request.headers.contains_key("content-md5")
            || request.headers.contains_key("x-amz-trailer")
            || Algorithm::ALL.iter().any(|algorithm| request.headers.contains_key(algorithm.header()));
        if !proven && !self.options.quirks.no_checksums {
            return Err(S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
            ));
        }
        let input = request.input;
        if input.delete.objects.is_empty() || input.delete.objects.len() > BATCH {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let quiet = input.delete.quiet == Some(true);
        let mut output = DeleteObjectsOutput::default();
        self.store.with_bucket(&input.bucket, |bucket| {
            for wanted in input.delete.objects {
                if only_null_version(wanted.version_id.as_deref()).is_err() {
                    output.errors.get_or_insert_default().push(error(
                        "NoSuchVersion",
                        "The specified version does not exist.",
                        wanted.key,
                    ));
                    continue;
                }
                // The request is let in; each object is refused on its own, as Amazon S3 does it.
                if self.store.access.denies("DeleteObject") {
                    output.errors.get_or_insert_default().push(error("AccessDenied", "Access Denied", wanted.key));
                    continue;
                }
                bucket.objects.remove(&wanted.key);
                if !quiet {
                    output
                        .deleted
                        .get_or_insert_default()
                        .push(DeletedObject { key: Some(wanted.key), ..DeletedObject::default() });
                }
            }
            Ok(())
        })?;
        Ok(output)
    }
}

fn error(code: &str, message: &str, key: String) -> s3s::dto::Error {
    s3s::dto::Error { code: Some(code.to_owned()), message: Some(message.to_owned()), key: Some(key), version_id: None }
}
