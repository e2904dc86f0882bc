//! Buckets: made, looked at, removed.

use s3s::dto::{
    self, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput, GetBucketLocationInput,
    GetBucketLocationOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::acls::ownership;
use super::{Operations, REGION};
use crate::acl::OWNER;
use crate::lock::BucketLock;
use crate::store::no_such_bucket;
use crate::version::Versioning;

impl Operations {
    pub(super) async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> S3Result<ListBucketsOutput> {
        let prefix = request.input.prefix;
        let wanted = prefix.clone().unwrap_or_default();
        let buckets = self
            .store
            .read()
            .iter()
            .filter(|(name, _)| name.starts_with(&wanted))
            .map(|(name, bucket)| dto::Bucket {
                name: Some(name.clone()),
                creation_date: Some(bucket.created.into()),
                bucket_region: Some(REGION.to_owned()),
            })
            .collect();
        Ok(ListBucketsOutput { buckets: Some(buckets), prefix, owner: Some(owner()), ..ListBucketsOutput::default() })
    }

    pub(super) async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<CreateBucketOutput> {
        let input = request.input;
        let name = input.bucket;
        let ownership = ownership(input.object_ownership.as_ref()).ok_or_else(|| {
            S3Error::with_message(S3ErrorCode::InvalidArgument, "Invalid x-amz-object-ownership header")
        })?;
        if self.store.create_bucket(&name) {
            self.store.with_bucket(&name, |bucket| {
                bucket.ownership = ownership;
                if input.object_lock_enabled_for_bucket == Some(true) && !self.options.quirks.drop_locks {
                    bucket.versioning = Versioning::Enabled;
                    bucket.lock = Some(BucketLock::default());
                }
                Ok(())
            })?;
            return Ok(CreateBucketOutput { location: Some(format!("/{name}")) });
        }
        Err(S3Error::with_message(
            S3ErrorCode::BucketAlreadyOwnedByYou,
            "Your previous request to create the named bucket succeeded and you already own it.",
        ))
    }

    pub(super) async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<HeadBucketOutput> {
        self.store.look(&request.input.bucket, |_| {
            Ok(HeadBucketOutput { bucket_region: Some(REGION.to_owned()), ..HeadBucketOutput::default() })
        })
    }

    pub(super) async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<DeleteBucketOutput> {
        let name = request.input.bucket;
        let mut buckets = self.store.write();
        let bucket = buckets.get(&name).ok_or_else(no_such_bucket)?;
        if !bucket.keys.is_empty() {
            let message = match bucket.versioning {
                Versioning::Never => "The bucket you tried to delete is not empty",
                Versioning::Enabled | Versioning::Suspended => {
                    "The bucket you tried to delete is not empty. You must delete all versions in the bucket."
                }
            };
            return Err(S3Error::with_message(S3ErrorCode::BucketNotEmpty, message));
        }
        buckets.remove(&name);
        Ok(DeleteBucketOutput::default())
    }

    pub(super) async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<GetBucketLocationOutput> {
        // Amazon S3 answers an empty element for us-east-1.
        self.store.look(&request.input.bucket, |_| Ok(GetBucketLocationOutput::default()))
    }
}

/// The one owner of everything.
pub(super) fn owner() -> dto::Owner {
    dto::Owner { display_name: Some(OWNER.to_owned()), id: Some(OWNER.to_owned()) }
}
