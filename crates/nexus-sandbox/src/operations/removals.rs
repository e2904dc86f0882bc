//! Objects and versions deleted, one or a thousand at a time. Deleting what is not there succeeds.

use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ObjectIdentifier,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::Operations;
use crate::bucket::Bucket;
use crate::lock::Governance;

/// The most keys in one request.
const BATCH: usize = 1_000;

impl Operations {
    pub(super) async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<DeleteObjectOutput> {
        let input = request.input;
        let condition = self.write_condition(input.if_match, None)?;
        let governance = self.governance(input.bypass_governance_retention);
        let (now, number) = (self.store.now(), self.store.number());
        self.store.with_bucket(&input.bucket, |bucket| {
            condition.admit(bucket.current(&input.key).map(AsRef::as_ref), self.options.quirks.match_of_absent)?;
            let deletion = match &input.version_id {
                Some(id) => {
                    bucket.must_let_go(&input.key, id, now, governance)?;
                    bucket.remove(&input.key, id)?
                }
                None => bucket.delete(&input.key, now, number),
            };
            Ok(DeleteObjectOutput {
                delete_marker: deletion.marker.then_some(true),
                version_id: deletion.version_id,
                ..DeleteObjectOutput::default()
            })
        })
    }

    pub(super) async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> S3Result<DeleteObjectsOutput> {
        self.must_be_proven(&request.headers)?;
        let input = request.input;
        if input.delete.objects.is_empty() || input.delete.objects.len() > BATCH {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let governance = self.governance(input.bypass_governance_retention);
        let quiet = input.delete.quiet == Some(true);
        let mut output = DeleteObjectsOutput::default();
        self.store.with_bucket(&input.bucket, |bucket| {
            for wanted in input.delete.objects {
                match self.deleted(bucket, &wanted, governance) {
                    Ok(deleted) if !quiet => output.deleted.get_or_insert_default().push(deleted),
                    Ok(_) => {}
                    Err(cause) => output.errors.get_or_insert_default().push(error(&cause, wanted)),
                }
            }
            Ok(())
        })?;
        Ok(output)
    }

    /// Deletes one of many: the request is let in, and each object refused on its own, as Amazon S3 does it.
    fn deleted(
        &self,
        bucket: &mut Bucket,
        wanted: &ObjectIdentifier,
        governance: Governance,
    ) -> S3Result<DeletedObject> {
        let action = if wanted.version_id.is_some() { "DeleteObjectVersion" } else { "DeleteObject" };
        if self.store.access.denies(action) {
            return Err(S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied"));
        }
        let deletion = match &wanted.version_id {
            Some(id) => {
                bucket.must_let_go(&wanted.key, id, self.store.now(), governance)?;
                bucket.remove(&wanted.key, id)?
            }
            None => bucket.delete(&wanted.key, self.store.now(), self.store.number()),
        };
        Ok(DeletedObject {
            key: Some(wanted.key.clone()),
            version_id: wanted.version_id.clone(),
            delete_marker: deletion.marker.then_some(true),
            delete_marker_version_id: deletion.version_id.filter(|_| deletion.marker),
        })
    }
}

fn error(cause: &S3Error, wanted: ObjectIdentifier) -> s3s::dto::Error {
    s3s::dto::Error {
        code: Some(cause.code().as_str().to_owned()),
        message: cause.message().map(str::to_owned),
        key: Some(wanted.key),
        version_id: wanted.version_id,
    }
}
