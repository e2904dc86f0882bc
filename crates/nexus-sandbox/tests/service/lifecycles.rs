//! Lifecycle configurations: kept as they were put, refused where Amazon S3 refuses them.

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, NoncurrentVersionExpiration,
};

use crate::rig::{BUCKET, Rig, refusal, strict};

/// A rule for everything, without an action.
fn rule(id: &str) -> aws_sdk_s3::types::builders::LifecycleRuleBuilder {
    let filter = LifecycleRuleFilter::builder().prefix("").build();
    LifecycleRule::builder().id(id).status(ExpirationStatus::Enabled).filter(filter)
}

fn noncurrent(days: i32) -> NoncurrentVersionExpiration {
    NoncurrentVersionExpiration::builder().noncurrent_days(days).build()
}

/// Puts a configuration; the code of the refusal, or nothing.
async fn put(rig: &Rig, rules: Vec<LifecycleRule>) -> String {
    let configuration = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build().expect("rules");
    let put = rig.client.put_bucket_lifecycle_configuration().bucket(BUCKET).lifecycle_configuration(configuration);
    match put.send().await {
        Ok(_) => String::new(),
        Err(error) => refusal::<(), _>(Err(error)),
    }
}

#[tokio::test]
async fn a_configuration_is_answered_as_it_was_put_until_it_is_deleted() {
    let rig = strict();
    let get = || rig.client.get_bucket_lifecycle_configuration().bucket(BUCKET).send();
    assert_eq!(refusal(get().await), "NoSuchLifecycleConfiguration");
    let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(2).build();
    let rules = [
        rule("old versions").noncurrent_version_expiration(noncurrent(30)).build().expect("a rule"),
        rule("uploads").abort_incomplete_multipart_upload(abort).build().expect("a rule"),
    ];
    assert_eq!(put(&rig, rules.to_vec()).await, "");
    assert_eq!(get().await.expect("it").rules(), rules);
    rig.client.delete_bucket_lifecycle().bucket(BUCKET).send().await.expect("it goes");
    assert_eq!(refusal(get().await), "NoSuchLifecycleConfiguration");
    assert_eq!(rig.service.operations()["DeleteBucketLifecycle"], 1);
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused() {
    let rig = strict();
    let built = |rule: aws_sdk_s3::types::builders::LifecycleRuleBuilder| vec![rule.build().expect("a rule")];
    let expires = |days| LifecycleExpiration::builder().days(days).build();
    assert_eq!(put(&rig, Vec::new()).await, "MalformedXML");
    assert_eq!(put(&rig, built(rule("none"))).await, "InvalidRequest");
    assert_eq!(put(&rig, built(rule("zero").expiration(expires(0)))).await, "InvalidArgument");
    assert_eq!(put(&rig, built(rule("no scope").expiration(expires(1)).set_filter(None))).await, "MalformedXML");
    assert_eq!(put(&rig, built(rule(&"k".repeat(256)).expiration(expires(1)))).await, "InvalidArgument");
    let twice = [built(rule("same").expiration(expires(1))), built(rule("same").expiration(expires(2)))].concat();
    assert_eq!(put(&rig, twice).await, "InvalidArgument");
}
