//! Object Lock: what keeps a version, who may go past it, and what is said where there is none.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, DefaultRetention, Delete, ObjectIdentifier, ObjectLockConfiguration,
    ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode, ObjectLockRule, VersioningConfiguration,
};
use nexus_sandbox::{Period, Retention, RetentionMode, Versioning};

use crate::rig::{BUCKET, Rig, refusal, strict};

const DAY: i64 = 86_400;

/// A strict service whose bucket takes locks and gives none of itself.
fn lockable() -> Rig {
    let rig = strict();
    rig.service.store().set_object_lock(BUCKET, None).expect("the bucket");
    rig
}

impl Rig {
    /// So many seconds from now, by the service's clock.
    fn later(&self, seconds: i64) -> DateTime {
        let now = self.service.store().now().duration_since(std::time::SystemTime::UNIX_EPOCH).expect("after 1970");
        DateTime::from_secs(i64::try_from(now.as_secs()).expect("a time") + seconds)
    }

    /// Puts an object that is kept for some days; answers its version id.
    async fn kept(&self, key: &str, mode: ObjectLockMode, days: i64) -> String {
        let put = self.client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(b"x"));
        let put = put.object_lock_mode(mode).object_lock_retain_until_date(self.later(days * DAY));
        put.send().await.expect("a locked put").version_id().expect("an id").to_owned()
    }

    /// Sets the retention of the newest version; the code of the refusal, or nothing.
    async fn retain(&self, mode: &str, days: i64, bypass: Option<bool>) -> String {
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::from(mode))
            .retain_until_date(self.later(days * DAY));
        let put = self.client.put_object_retention().bucket(BUCKET).key("k").retention(retention.build());
        match put.set_bypass_governance_retention(bypass).send().await {
            Ok(_) => String::new(),
            Err(error) => refusal::<(), _>(Err(error)),
        }
    }

    /// Removes a version; the code of the refusal, or nothing.
    async fn removed(&self, key: &str, id: &str, bypass: Option<bool>) -> String {
        let delete = self.client.delete_object().bucket(BUCKET).key(key).version_id(id);
        match delete.set_bypass_governance_retention(bypass).send().await {
            Ok(_) => String::new(),
            Err(error) => refusal::<(), _>(Err(error)),
        }
    }

    async fn hold(&self, status: ObjectLockLegalHoldStatus) {
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let put = self.client.put_object_legal_hold().bucket(BUCKET).key("k").legal_hold(hold);
        put.send().await.expect("the hold is set");
    }
}

fn rule(days: Option<i32>, years: Option<i32>) -> ObjectLockConfiguration {
    let default = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance);
    let default = default.set_days(days).set_years(years).build();
    ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(ObjectLockRule::builder().default_retention(default).build())
        .build()
}

#[tokio::test]
async fn where_there_is_no_lock_each_question_has_the_refusal_of_amazon() {
    let rig = strict();
    rig.put("k", "x").await;
    let get = || rig.client.get_object_lock_configuration().bucket(BUCKET).send();
    assert_eq!(refusal(get().await), "ObjectLockConfigurationNotFoundError");
    let retention = || rig.client.get_object_retention().bucket(BUCKET).key("k").send();
    let hold = || rig.client.get_object_legal_hold().bucket(BUCKET).key("k").send();
    assert_eq!(refusal(retention().await), "InvalidRequest");
    assert_eq!(refusal(hold().await), "InvalidRequest");
    assert_eq!(rig.retain("GOVERNANCE", 1, None).await, "InvalidRequest");
    let put = rig.client.put_object().bucket(BUCKET).key("k");
    let put = put.object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On).send().await;
    assert_eq!(refusal(put), "InvalidRequest");
    rig.service.store().set_object_lock(BUCKET, None).expect("the bucket");
    assert_eq!(refusal(retention().await), "NoSuchObjectLockConfiguration");
    assert_eq!(refusal(hold().await), "NoSuchObjectLockConfiguration");
    assert!(get().await.expect("a configuration").object_lock_configuration().expect("it").rule().is_none());
}

#[tokio::test]
async fn a_bucket_made_with_lock_keeps_versions_for_ever() {
    let rig = strict();
    let create = rig.client.create_bucket().bucket("locked").object_lock_enabled_for_bucket(true);
    create.send().await.expect("a bucket");
    let status = rig.client.get_bucket_versioning().bucket("locked").send().await.expect("an answer");
    assert_eq!(status.status(), Some(&BucketVersioningStatus::Enabled));
    let suspended = VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended).build();
    let put = rig.client.put_bucket_versioning().bucket("locked").versioning_configuration(suspended);
    assert_eq!(refusal(put.send().await), "InvalidBucketState");
}

#[tokio::test]
async fn a_lock_configuration_needs_versions_and_a_period_that_makes_sense() {
    let rig = strict();
    let put = |configuration: ObjectLockConfiguration| {
        let put = rig.client.put_object_lock_configuration().bucket(BUCKET);
        put.object_lock_configuration(configuration).send()
    };
    assert_eq!(refusal(put(rule(Some(1), None)).await), "InvalidBucketState");
    rig.service.store().set_versioning(BUCKET, Versioning::Enabled).expect("the bucket");
    assert_eq!(refusal(put(rule(Some(1), Some(1))).await), "MalformedXML");
    assert_eq!(refusal(put(rule(None, None)).await), "MalformedXML");
    assert_eq!(refusal(put(rule(Some(0), None)).await), "InvalidRetentionPeriod");
    assert_eq!(refusal(put(rule(None, Some(-1))).await), "InvalidRetentionPeriod");
    assert_eq!(refusal(put(ObjectLockConfiguration::builder().build()).await), "MalformedXML");
    put(rule(None, Some(2))).await.expect("it is set");
    let got = rig.client.get_object_lock_configuration().bucket(BUCKET).send().await.expect("a configuration");
    assert_eq!(got.object_lock_configuration(), Some(&rule(None, Some(2))));
}

#[tokio::test]
async fn new_versions_get_the_default_retention_and_old_ones_do_not() {
    let rig = lockable();
    rig.put("k", "old").await;
    let default = nexus_sandbox::DefaultRetention { mode: RetentionMode::Governance, period: Period::Days(3) };
    rig.service.store().set_object_lock(BUCKET, Some(default)).expect("the bucket");
    rig.put("k", "new").await;
    let copy = rig.client.copy_object().bucket(BUCKET).key("copy").copy_source("clinic/k").send().await;
    copy.expect("a copy");
    let create = rig.client.create_multipart_upload().bucket(BUCKET).key("multi").send().await.expect("an upload");
    let id = create.upload_id().expect("an id");
    let part = rig.client.upload_part().bucket(BUCKET).key("multi").upload_id(id).part_number(1);
    let part = part.body(ByteStream::from_static(b"x")).send().await.expect("a part");
    let part = aws_sdk_s3::types::CompletedPart::builder().part_number(1).e_tag(part.e_tag().expect("one")).build();
    let parts = aws_sdk_s3::types::CompletedMultipartUpload::builder().parts(part).build();
    let complete = rig.client.complete_multipart_upload().bucket(BUCKET).key("multi").upload_id(id);
    complete.multipart_upload(parts).send().await.expect("an object");
    for key in ["k", "copy", "multi"] {
        let object = rig.service.store().get(BUCKET, key).expect("it");
        let until = object.last_modified + std::time::Duration::from_hours(72);
        assert_eq!(object.lock.retention, Some(Retention { mode: RetentionMode::Governance, until }), "{key}");
    }
    let head = rig.client.head_object().bucket(BUCKET).key("k").send().await.expect("a head");
    assert_eq!(head.object_lock_mode(), Some(&ObjectLockMode::Governance));
    assert!(head.object_lock_retain_until_date().is_some() && head.object_lock_legal_hold_status().is_none());
    assert_eq!(rig.service.store().versions(BUCKET, "k")[1].object.as_ref().expect("it").lock.retention, None);
}

#[tokio::test]
async fn a_locked_version_is_not_removed_until_its_time_and_a_marker_may_always_be_written() {
    let rig = lockable();
    let id = rig.kept("k", ObjectLockMode::Compliance, 1).await;
    assert_eq!(rig.removed("k", &id, None).await, "AccessDenied");
    assert_eq!(rig.removed("k", &id, Some(true)).await, "AccessDenied");
    let marker = rig.client.delete_object().bucket(BUCKET).key("k").send().await.expect("a marker");
    assert_eq!(rig.removed("k", marker.version_id().expect("an id"), None).await, "");
    let named = ObjectIdentifier::builder().key("k").version_id(&id).build().expect("a key");
    let batch = Delete::builder().objects(named).build().expect("keys");
    let batch = rig.client.delete_objects().bucket(BUCKET).delete(batch).send().await.expect("an answer");
    assert_eq!(batch.errors().iter().map(|one| one.code()).collect::<Vec<_>>(), [Some("AccessDenied")]);
    rig.service.store().shift_clock(DAY + 1);
    assert_eq!(rig.removed("k", &id, None).await, "");
}

#[tokio::test]
async fn governance_gives_way_to_those_who_may_go_past_it() {
    let rig = lockable();
    let id = rig.kept("k", ObjectLockMode::Governance, 1).await;
    assert_eq!(rig.removed("k", &id, None).await, "AccessDenied");
    rig.service.deny("BypassGovernanceRetention");
    assert_eq!(rig.removed("k", &id, Some(true)).await, "AccessDenied");
    rig.service.allow_all();
    assert_eq!(rig.removed("k", &id, Some(true)).await, "");
}

#[tokio::test]
async fn a_legal_hold_gives_way_to_nobody_until_it_is_lifted() {
    let rig = lockable();
    let id = rig.put("k", "x").await.expect("an id");
    rig.hold(ObjectLockLegalHoldStatus::On).await;
    assert_eq!(rig.removed("k", &id, Some(true)).await, "AccessDenied");
    let head = rig.client.head_object().bucket(BUCKET).key("k").send().await.expect("a head");
    assert_eq!(head.object_lock_legal_hold_status(), Some(&ObjectLockLegalHoldStatus::On));
    rig.hold(ObjectLockLegalHoldStatus::Off).await;
    let got = rig.client.get_object_legal_hold().bucket(BUCKET).key("k").send().await.expect("a hold");
    assert_eq!(got.legal_hold().expect("it").status(), Some(&ObjectLockLegalHoldStatus::Off));
    assert_eq!(rig.removed("k", &id, None).await, "");
}

#[tokio::test]
async fn governance_is_extended_by_all_and_shortened_by_few_and_compliance_only_extended() {
    let rig = lockable();
    rig.put("k", "x").await;
    assert_eq!(rig.retain("GOVERNANCE", -1, None).await, "InvalidArgument");
    assert_eq!(rig.retain("abc", 1, None).await, "MalformedXML");
    assert_eq!(rig.retain("GOVERNANCE", 2, None).await, "");
    assert_eq!(rig.retain("GOVERNANCE", 3, None).await, "");
    assert_eq!(rig.retain("GOVERNANCE", 1, None).await, "AccessDenied");
    assert_eq!(rig.retain("COMPLIANCE", 3, None).await, "AccessDenied");
    assert_eq!(rig.retain("GOVERNANCE", 1, Some(true)).await, "");
    assert_eq!(rig.retain("COMPLIANCE", 1, Some(true)).await, "");
    assert_eq!(rig.retain("COMPLIANCE", 2, None).await, "");
    assert_eq!(rig.retain("COMPLIANCE", 1, Some(true)).await, "AccessDenied");
    assert_eq!(rig.retain("GOVERNANCE", 2, Some(true)).await, "AccessDenied");
    let got = rig.client.get_object_retention().bucket(BUCKET).key("k").send().await.expect("a retention");
    let retention = got.retention().expect("it");
    assert_eq!(retention.mode(), Some(&ObjectLockRetentionMode::Compliance));
    assert!(retention.retain_until_date().expect("a date").secs() >= rig.later(2 * DAY - 60).secs());
}

#[tokio::test]
async fn lock_headers_must_be_whole_and_say_a_time_to_come() {
    let rig = lockable();
    let put = || rig.client.put_object().bucket(BUCKET).key("k");
    assert_eq!(refusal(put().object_lock_mode(ObjectLockMode::Governance).send().await), "InvalidArgument");
    let past = put().object_lock_mode(ObjectLockMode::Governance).object_lock_retain_until_date(rig.later(-DAY));
    assert_eq!(refusal(past.send().await), "InvalidArgument");
    let strange = put().object_lock_mode("abc".into()).object_lock_retain_until_date(rig.later(DAY));
    assert_eq!(refusal(strange.send().await), "InvalidArgument");
    rig.service.deny("PutObjectRetention");
    let denied = put().object_lock_mode(ObjectLockMode::Governance).object_lock_retain_until_date(rig.later(DAY));
    assert_eq!(refusal(denied.send().await), "AccessDenied");
}

#[tokio::test]
async fn copies_and_uploads_take_the_lock_of_their_request_and_none_of_their_source() {
    let rig = lockable();
    rig.kept("k", ObjectLockMode::Governance, 5).await;
    let copy = || rig.client.copy_object().bucket(BUCKET).copy_source("clinic/k");
    copy().key("plain").send().await.expect("a copy");
    assert_eq!(rig.service.store().get(BUCKET, "plain").expect("it").lock, nexus_sandbox::Lock::default());
    let held = copy().key("held").object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On).send().await;
    held.expect("a copy");
    assert_eq!(rig.service.store().get(BUCKET, "held").expect("it").lock.legal_hold, Some(true));
    let create = rig.client.create_multipart_upload().bucket(BUCKET).key("multi");
    let create = create.object_lock_mode(ObjectLockMode::Compliance).object_lock_retain_until_date(rig.later(DAY));
    let id = create.send().await.expect("an upload").upload_id().expect("an id").to_owned();
    let part = rig.client.upload_part_copy().bucket(BUCKET).key("multi").upload_id(&id).part_number(1);
    let part = part.copy_source("clinic/k").send().await.expect("a part");
    let etag = part.copy_part_result().and_then(|result| result.e_tag()).expect("an ETag").to_owned();
    let part = aws_sdk_s3::types::CompletedPart::builder().part_number(1).e_tag(etag).build();
    let parts = aws_sdk_s3::types::CompletedMultipartUpload::builder().parts(part).build();
    let complete = rig.client.complete_multipart_upload().bucket(BUCKET).key("multi").upload_id(&id);
    complete.multipart_upload(parts).send().await.expect("an object");
    let lock = rig.service.store().get(BUCKET, "multi").expect("it").lock;
    assert_eq!(lock.retention.expect("one").mode, RetentionMode::Compliance);
}

#[tokio::test]
async fn a_locked_put_must_bear_a_checksum() {
    let rig = lockable();
    let plain = rig.without_checksums();
    let put = || plain.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"x"));
    put().send().await.expect("nothing is locked");
    let locked = || put().object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On);
    assert_eq!(refusal(locked().send().await), "InvalidRequest");
    // An algorithm alone is not sent by a client that sends checksums only where it must.
    assert_eq!(refusal(locked().checksum_algorithm(ChecksumAlgorithm::Sha256).send().await), "InvalidRequest");
    locked().content_md5("ndTkYSaMgDT1yFZOFVxnpg==").send().await.expect("it bears one");
    let default = nexus_sandbox::DefaultRetention { mode: RetentionMode::Governance, period: Period::Years(1) };
    rig.service.store().set_object_lock(BUCKET, Some(default)).expect("the bucket");
    assert_eq!(refusal(put().send().await), "InvalidRequest");
}
