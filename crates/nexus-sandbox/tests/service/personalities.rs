//! Services that are not Amazon S3: each differs in what is known of it, and in nothing else.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart, Delete, EncodingType, ObjectAttributes, ObjectIdentifier,
    ObjectLockLegalHoldStatus, ServerSideEncryption, StorageClass,
};
use nexus_sandbox::{Fault, FaultAt, NewObject, Personality, Quirks, ServiceOptions};

use crate::rig::{BUCKET, Rig, quirky, refusal, strict, with};

fn like(personality: Personality) -> Rig {
    with(ServiceOptions { smallest_part: 1, ..ServiceOptions::like(personality) })
}

/// Uploads parts of these bodies and answers the id of the upload and what completes it.
async fn uploaded(client: &Client, bodies: &[&'static [u8]]) -> (String, CompletedMultipartUpload) {
    let create = client.create_multipart_upload().bucket(BUCKET).key("multi").send().await.expect("an upload");
    let id = create.upload_id().expect("an id").to_owned();
    let mut whole = CompletedMultipartUpload::builder();
    for (number, body) in (1..).zip(bodies) {
        let part = client.upload_part().bucket(BUCKET).key("multi").upload_id(&id).part_number(number);
        let part = part.body(ByteStream::from_static(body)).send().await.expect("a part");
        let part = CompletedPart::builder().part_number(number).e_tag(part.e_tag().expect("an ETag"));
        whole = whole.parts(part.build());
    }
    (id, whole.build())
}

/// Uploads one part that is a copy of `k`, and completes the upload; answers the `ETag` of the part.
async fn copied_part(rig: &Rig) -> String {
    let create = rig.client.create_multipart_upload().bucket(BUCKET).key("multi").send().await.expect("an upload");
    let id = create.upload_id().expect("an id");
    let part = rig.client.upload_part_copy().bucket(BUCKET).key("multi").upload_id(id).part_number(1);
    let part = part.copy_source("clinic/k").send().await.expect("a part");
    let etag = part.copy_part_result().and_then(|result| result.e_tag()).expect("an ETag").to_owned();
    let part = CompletedPart::builder().part_number(1).e_tag(&etag).build();
    let whole = CompletedMultipartUpload::builder().parts(part).build();
    let complete = rig.client.complete_multipart_upload().bucket(BUCKET).key("multi").upload_id(id);
    complete.multipart_upload(whole).send().await.expect("an object");
    etag
}

#[test]
fn amazon_has_no_quirks_and_every_other_has_some_and_a_name() {
    for personality in Personality::ALL {
        let plain = personality.quirks() == Quirks::default();
        assert_eq!(plain, personality == Personality::Aws, "{personality:?}");
        assert_eq!(Personality::named(personality.name()), Some(personality));
    }
    assert_eq!(Personality::named("s4"), None);
}

#[tokio::test]
async fn r2_has_no_tags_and_no_versions_though_it_names_some() {
    let rig = like(Personality::R2);
    let id = rig.put("k", "x").await;
    assert!(id.is_some());
    let status = rig.client.get_bucket_versioning().bucket(BUCKET).send().await.expect("an answer");
    assert_eq!(status.status(), None);
    assert_eq!(refusal(rig.client.list_object_versions().bucket(BUCKET).send().await), "NotImplemented");
    let put = rig.client.put_object().bucket(BUCKET).key("k").tagging("a=b").send().await;
    assert_eq!(refusal(put), "NotImplemented");
    let get = rig.client.get_object_tagging().bucket(BUCKET).key("k").send().await;
    assert_eq!(refusal(get), "NotImplemented");
    let hold = rig.client.put_object().bucket(BUCKET).key("k");
    let hold = hold.object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On).send().await;
    assert_eq!(refusal(hold), "NotImplemented");
}

#[tokio::test]
async fn r2_wants_equal_parts_and_loses_an_upload_whose_condition_fails() {
    let rig = like(Personality::R2);
    for bodies in [[b"12".as_slice(), b"345"], [b"12", b"123"]] {
        let (id, whole) = uploaded(&rig.client, &bodies).await;
        let complete = rig.client.complete_multipart_upload().bucket(BUCKET).key("multi").upload_id(&id);
        assert_eq!(refusal(complete.multipart_upload(whole).send().await), "InvalidPart");
    }
    rig.put("multi", "x").await;
    let (id, whole) = uploaded(&rig.client, &[b"12", b"34", b"5"]).await;
    let complete = || {
        let complete = rig.client.complete_multipart_upload().bucket(BUCKET).key("multi").upload_id(&id);
        complete.multipart_upload(whole.clone())
    };
    assert_eq!(refusal(complete().if_none_match("*").send().await), "PreconditionFailed");
    assert_eq!(refusal(complete().send().await), "NoSuchUpload");
}

#[tokio::test]
async fn b2_refuses_checksums_and_tags_by_their_headers() {
    let rig = like(Personality::B2);
    let put = |client: &Client| client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"x"));
    assert_eq!(refusal(put(&rig.client).send().await), "InvalidArgument");
    let plain = rig.without_checksums();
    put(&plain).send().await.expect("no checksum is sent");
    assert_eq!(refusal(put(&plain).tagging("a=b").send().await), "InvalidArgument");
    let named = ObjectIdentifier::builder().key("k").build().expect("a key");
    let delete = Delete::builder().objects(named).build().expect("keys");
    // The client sends a checksum with a batch whatever it is told.
    assert_eq!(refusal(plain.delete_objects().bucket(BUCKET).delete(delete).send().await), "InvalidArgument");
}

#[tokio::test]
async fn minio_writes_what_was_to_match_nothing_and_takes_only_paths() {
    let rig = like(Personality::MinIo);
    let put = |key: &str| rig.client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(b"x"));
    put("k").if_match("\"abc\"").send().await.expect("nothing is there");
    assert_eq!(refusal(put("k").if_match("\"abc\"").send().await), "PreconditionFailed");
    assert_eq!(refusal(put("a//b").send().await), "XMinioInvalidObjectName");
    put("a/").send().await.expect("a folder");
    copied_part(&rig).await;
    assert_eq!(rig.service.store().get(BUCKET, "multi").expect("it").checksum, None);
}

#[tokio::test]
async fn seaweedfs_alters_keys_and_says_nothing() {
    let rig = like(Personality::SeaweedFs);
    rig.put("/lead", "one").await;
    rig.put("lead", "two").await;
    rig.put("a//b", "x").await;
    rig.put("folder/", "lost").await;
    assert_eq!(rig.service.store().keys(BUCKET, ""), ["a/b", "folder/", "lead"]);
    assert_eq!(rig.service.store().get(BUCKET, "/lead").expect("it").body, "two");
    assert_eq!(rig.service.store().get(BUCKET, "folder/").expect("it").body, "");
    let put = |key: String| rig.client.put_object().bucket(BUCKET).key(key).send();
    assert_eq!(refusal(put("a/../b".to_owned()).await), "InvalidRequest");
    assert_eq!(refusal(put("k".repeat(256)).await), "KeyTooLongError");
}

#[tokio::test]
async fn seaweedfs_has_only_checksums_that_were_sent_and_answers_few_of_them() {
    let rig = like(Personality::SeaweedFs);
    let plain = rig.without_checksums();
    plain.put_object().bucket(BUCKET).key("plain").send().await.expect("a put");
    assert_eq!(rig.service.store().get(BUCKET, "plain").expect("it").checksum, None);
    rig.put("k", "x").await;
    assert!(rig.service.store().get(BUCKET, "k").expect("it").checksum.is_some());
    let attributes = rig.client.get_object_attributes().bucket(BUCKET).key("k");
    let attributes = attributes.object_attributes(ObjectAttributes::Checksum).send().await.expect("attributes");
    assert!(attributes.checksum().is_none());
    copied_part(&rig).await;
    assert_eq!(rig.service.store().get(BUCKET, "multi").expect("it").checksum, None);
    let copy = rig.client.copy_object().bucket(BUCKET).key("copy").copy_source("clinic/k");
    let copied = copy.checksum_algorithm("SHA256".into()).send().await.expect("a copy");
    let result = copied.copy_object_result().expect("a result");
    assert_eq!(result.checksum_sha256(), None);
    let kept = rig.service.store().get(BUCKET, "copy").expect("it");
    assert_eq!(result.e_tag(), Some(kept.etag.as_str()), "without quotes");
    let put = rig.client.put_object().bucket(BUCKET).key("none").if_match("\"abc\"").send().await;
    assert_eq!(refusal(put), "PreconditionFailed");
}

#[tokio::test]
async fn a_part_that_seaweedfs_copies_is_not_known_by_its_md5() {
    let rig = like(Personality::SeaweedFs);
    rig.service.store().put(BUCKET, "k", NewObject::new(vec![7; 5 << 20])).expect("the bucket");
    let plain = strict();
    plain.service.store().put(BUCKET, "k", NewObject::new(vec![7; 5 << 20])).expect("the bucket");
    let (part, sent) = (copied_part(&rig).await, copied_part(&plain).await);
    assert!(part.ends_with("-2") && !sent.contains('-'), "{part} {sent}");
    let etag = |rig: &Rig| rig.service.store().get(BUCKET, "multi").expect("it").etag.clone();
    assert_ne!(etag(&rig), etag(&plain));
}

#[tokio::test]
async fn seaweedfs_fails_on_encryption_and_keeps_other_things_its_own_way() {
    let rig = like(Personality::SeaweedFs);
    let put = || rig.client.put_object().bucket(BUCKET).key("k");
    assert_eq!(refusal(put().server_side_encryption(ServerSideEncryption::Aes256).send().await), "InternalError");
    put()
        .storage_class(StorageClass::Glacier)
        .website_redirect_location("/x")
        .metadata("who", "Zoë")
        .send()
        .await
        .expect("a put");
    let got = rig.client.get_object().bucket(BUCKET).key("k").send().await.expect("it can be read at once");
    assert_eq!((got.storage_class(), got.website_redirect_location()), (Some(&StorageClass::Glacier), None));
    assert_eq!(rig.service.store().get(BUCKET, "k").expect("it").fields.metadata["who"], "Zo\u{c3}\u{ab}");
    assert_eq!(refusal(rig.client.get_public_access_block().bucket(BUCKET).send().await), "NotImplemented");
}

#[tokio::test]
async fn garage_keeps_neither_conditions_nor_tags_nor_locks_nor_classes() {
    let rig = like(Personality::Garage);
    let put = || rig.client.put_object().bucket(BUCKET).key("k").if_none_match("*").tagging("a=b");
    let put =
        || put().storage_class(StorageClass::StandardIa).object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On);
    put().send().await.expect("a put");
    put().send().await.expect("no condition");
    let kept = rig.service.store().get(BUCKET, "k").expect("it");
    assert!(kept.tags.is_empty() && kept.lock == nexus_sandbox::Lock::default());
    assert_eq!(kept.storage_class, "STANDARD");
    for refused in [
        refusal(rig.client.get_object_tagging().bucket(BUCKET).key("k").send().await),
        refusal(rig.client.get_object_acl().bucket(BUCKET).key("k").send().await),
        refusal(rig.client.get_object_lock_configuration().bucket(BUCKET).send().await),
        refusal(rig.client.list_object_versions().bucket(BUCKET).send().await),
    ] {
        assert_eq!(refused, "NotImplemented");
    }
}

#[tokio::test]
async fn ceph_ignores_conditions_on_parts_and_completions() {
    let rig = like(Personality::Ceph);
    rig.put("k", "x").await;
    let (id, whole) = uploaded(&rig.client, &[b"x"]).await;
    let part = rig.client.upload_part_copy().bucket(BUCKET).key("multi").upload_id(&id).part_number(2);
    let part = part.copy_source("clinic/k").copy_source_if_match("abc").send().await.expect("no condition");
    let etag = part.copy_part_result().and_then(|result| result.e_tag()).expect("an ETag");
    assert!(!etag.contains('"'), "{etag}");
    rig.put("multi", "x").await;
    let complete = rig.client.complete_multipart_upload().bucket(BUCKET).key("multi").upload_id(&id);
    let done = complete.multipart_upload(whole).if_none_match("*").send().await.expect("no condition");
    assert!(done.e_tag().is_some_and(|etag| !etag.contains('"')));
    let copy = rig.client.copy_object().bucket(BUCKET).key("l").copy_source("clinic/k").copy_source_if_match("abc");
    assert_eq!(refusal(copy.send().await), "PreconditionFailed");
}

#[tokio::test]
async fn gcs_deletes_one_at_a_time_and_copies_no_parts() {
    let rig = like(Personality::Gcs);
    let named = ObjectIdentifier::builder().key("k").build().expect("a key");
    let delete = Delete::builder().objects(named).build().expect("keys");
    assert_eq!(refusal(rig.client.delete_objects().bucket(BUCKET).delete(delete).send().await), "NotImplemented");
    rig.put("k", "x").await;
    let (id, _) = uploaded(&rig.client, &[b"x"]).await;
    let part = rig.client.upload_part_copy().bucket(BUCKET).key("multi").upload_id(&id).part_number(2);
    assert_eq!(refusal(part.copy_source("clinic/k").send().await), "NotImplemented");
}

#[tokio::test]
async fn each_service_turns_requests_away_in_its_own_words_for_as_long_as_it_is_told() {
    for (rig, word, status) in
        [(strict(), "SlowDown", 503), (like(Personality::Wasabi), "RequestRateLimitExceeded", 403)]
    {
        rig.service.inject(Fault::Throttled, FaultAt::Span { first: 2, count: 2 });
        let mut seen = Vec::new();
        for _ in 0..4 {
            match rig.client.list_buckets().send().await {
                Ok(_) => seen.push("ok".to_owned()),
                Err(error) => {
                    assert_eq!(error.raw_response().map(|answer| answer.status().as_u16()), Some(status));
                    seen.push(refusal::<(), _>(Err(error)));
                }
            }
        }
        assert_eq!(seen, ["ok", word, word, "ok"]);
    }
}

#[tokio::test]
async fn a_service_may_list_without_encoding_and_only_in_the_old_way() {
    let rig = quirky(Quirks { no_url_encoding: true, missing: &["ListObjectsV2"], ..Quirks::default() });
    rig.service.store().put(BUCKET, "a b", NewObject::new("x")).expect("the bucket");
    assert_eq!(refusal(rig.client.list_objects_v2().bucket(BUCKET).send().await), "NotImplemented");
    let page = rig.client.list_objects().bucket(BUCKET).encoding_type(EncodingType::Url).send().await;
    let page = page.expect("a page");
    assert_eq!((page.contents()[0].key(), page.encoding_type()), (Some("a b"), None));
}
