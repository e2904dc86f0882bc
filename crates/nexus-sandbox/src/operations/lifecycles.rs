//! The lifecycle configuration of buckets: kept and answered, never carried out.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html>

use std::collections::BTreeSet;

use s3s::dto::{
    DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput, ExpirationStatus, GetBucketLifecycleConfigurationInput,
    GetBucketLifecycleConfigurationOutput, LifecycleRule, PutBucketLifecycleConfigurationInput,
    PutBucketLifecycleConfigurationOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::Operations;

/// The most rules in a configuration, and the most characters in the id of one.
const MOST_RULES: usize = 1_000;
const LONGEST_ID: usize = 255;

impl Operations {
    pub(super) async fn get_bucket_lifecycle_configuration(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<GetBucketLifecycleConfigurationOutput> {
        let rules = self.store.look(&request.input.bucket, |bucket| Ok(bucket.lifecycle.clone()))?;
        if rules.is_empty() {
            return Err(S3Error::with_message(
                S3ErrorCode::NoSuchLifecycleConfiguration,
                "The lifecycle configuration does not exist",
            ));
        }
        Ok(GetBucketLifecycleConfigurationOutput {
            rules: Some(rules),
            ..GetBucketLifecycleConfigurationOutput::default()
        })
    }

    pub(super) async fn put_bucket_lifecycle_configuration(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<PutBucketLifecycleConfigurationOutput> {
        self.must_be_proven(&request.headers)?;
        let input = request.input;
        let mut rules = input.lifecycle_configuration.ok_or(S3ErrorCode::MalformedXML)?.rules;
        if rules.is_empty() || rules.len() > MOST_RULES {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let mut ids = BTreeSet::new();
        for rule in &mut rules {
            must_be_rule(rule)?;
            let id = rule.id.get_or_insert_with(|| format!("rule-{}", self.store.serial()));
            if !ids.insert(id.clone()) {
                return Err(invalid("Rule ID must be unique. Found same ID for more than one rule"));
            }
        }
        self.store.with_bucket(&input.bucket, |bucket| {
            bucket.lifecycle = rules;
            Ok(PutBucketLifecycleConfigurationOutput::default())
        })
    }

    pub(super) async fn delete_bucket_lifecycle(
        &self,
        request: S3Request<DeleteBucketLifecycleInput>,
    ) -> S3Result<DeleteBucketLifecycleOutput> {
        self.store.with_bucket(&request.input.bucket, |bucket| {
            bucket.lifecycle.clear();
            Ok(DeleteBucketLifecycleOutput::default())
        })
    }
}

fn must_be_rule(rule: &LifecycleRule) -> S3Result<()> {
    if rule.id.as_ref().is_some_and(|id| id.chars().count() > LONGEST_ID) {
        return Err(invalid("ID length should not exceed allowed limit of 255"));
    }
    let known = [ExpirationStatus::ENABLED, ExpirationStatus::DISABLED].contains(&rule.status.as_str());
    if !known || (rule.filter.is_some() == rule.prefix.is_some()) {
        return Err(S3ErrorCode::MalformedXML.into());
    }
    let acts = rule.expiration.is_some()
        || rule.noncurrent_version_expiration.is_some()
        || rule.abort_incomplete_multipart_upload.is_some()
        || rule.transitions.as_ref().is_some_and(|all| !all.is_empty())
        || rule.noncurrent_version_transitions.as_ref().is_some_and(|all| !all.is_empty());
    if !acts {
        return Err(S3Error::with_message(
            S3ErrorCode::InvalidRequest,
            "At least one action needs to be specified in a rule",
        ));
    }
    let expiration = rule.expiration.as_ref().and_then(|expiration| expiration.days);
    let noncurrent = rule.noncurrent_version_expiration.as_ref().and_then(|expiration| expiration.noncurrent_days);
    if expiration.is_some_and(|days| days < 1) || noncurrent.is_some_and(|days| days < 1) {
        return Err(invalid("'Days' for Expiration action must be a positive integer"));
    }
    Ok(())
}

fn invalid(message: &'static str) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
}
