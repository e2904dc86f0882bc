//! What lets the public in, and what keeps it out.

use s3s::dto::{
    GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput, GetPublicAccessBlockInput, GetPublicAccessBlockOutput,
    PolicyStatus, PublicAccessBlockConfiguration, PutPublicAccessBlockInput, PutPublicAccessBlockOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::Operations;

impl Operations {
    pub(super) async fn get_bucket_policy_status(
        &self,
        request: S3Request<GetBucketPolicyStatusInput>,
    ) -> S3Result<GetBucketPolicyStatusOutput> {
        self.store.look(&request.input.bucket, |_| Ok(()))?;
        if !self.store.access.is_public() {
            return Err(S3Error::with_message(S3ErrorCode::NoSuchBucketPolicy, "The bucket policy does not exist"));
        }
        Ok(GetBucketPolicyStatusOutput { policy_status: Some(PolicyStatus { is_public: Some(true) }) })
    }

    pub(super) async fn get_public_access_block(
        &self,
        request: S3Request<GetPublicAccessBlockInput>,
    ) -> S3Result<GetPublicAccessBlockOutput> {
        self.store.look(&request.input.bucket, |_| Ok(()))?;
        let on = Some(self.store.access.is_blocked());
        let configuration = PublicAccessBlockConfiguration {
            block_public_acls: on,
            block_public_policy: on,
            ignore_public_acls: on,
            restrict_public_buckets: on,
        };
        Ok(GetPublicAccessBlockOutput { public_access_block_configuration: Some(configuration) })
    }

    pub(super) async fn put_public_access_block(
        &self,
        request: S3Request<PutPublicAccessBlockInput>,
    ) -> S3Result<PutPublicAccessBlockOutput> {
        let input = request.input;
        self.store.look(&input.bucket, |_| Ok(()))?;
        let asked = input.public_access_block_configuration;
        let all = [
            asked.block_public_acls,
            asked.block_public_policy,
            asked.ignore_public_acls,
            asked.restrict_public_buckets,
        ];
        self.store.access.block(all.iter().all(|one| *one == Some(true)));
        Ok(PutPublicAccessBlockOutput::default())
    }
}
