//! What a service turns out not to do while it is used, and what is done instead.

use std::time::Duration;

use bytes::Bytes;
use nexus_core::bucket::pace::Limits;
use nexus_core::bucket::{Bucket, StoreOptions};
use nexus_core::point::Part;
use nexus_sandbox::{FaultAt, NewObject, Personality, Quirks, Service, ServiceOptions};

use crate::world::{BUCKET, World, client, hasty};

/// Copied in three parts under these limits.
const LARGE: usize = 17 << 20;
const KEY: &str = "images/large.jpg";

fn limits() -> Limits {
    Limits { copy_cutoff: 8 << 20, patience: Duration::from_secs(30), ..hasty(3) }
}

fn large(salt: usize) -> Vec<u8> {
    (0..LARGE).map(|at| u8::try_from((at / 1_000 + at + salt) % 251).expect("it is below 251")).collect()
}

/// A world with one large file that has every property.
fn world(options: ServiceOptions) -> World {
    let world = World::on_s3(options, limits());
    let object = NewObject::new(large(0)).content_type("image/x-large").metadata("ward", "3").tag("kind", "scan");
    world.store().put(BUCKET, KEY, object).expect("a bucket");
    world
}

/// Backs up, damages, restores: the large file is as it was. Answers what was asked of the service for that.
async fn there_and_back(world: &World) -> std::collections::BTreeMap<String, u64> {
    let service = world.service.as_ref().expect("a service");
    let before = world.store().get(BUCKET, KEY).expect("it is there");
    service.reset_counts();
    let report = world.backup().await.expect("a backup");
    let id = report.point.id();
    world.put(KEY, b"overwritten");
    world.restore(&id.to_string()).await.expect("a restore");
    let after = world.store().get(BUCKET, KEY).expect("it is there");
    assert!(after.body == before.body, "other bytes came back");
    assert_eq!((&after.fields, &after.tags), (&before.fields, &before.tags));
    service.operations()
}

fn count(operations: &std::collections::BTreeMap<String, u64>, name: &str) -> u64 {
    operations.get(name).copied().unwrap_or(0)
}

#[tokio::test]
async fn every_service_brings_back_a_file_that_is_copied_in_parts() {
    for personality in Personality::ALL {
        // Those of the others have no tags that could be lost.
        let mut options = ServiceOptions::like(personality);
        options.quirks.missing = match personality {
            Personality::Gcs => options.quirks.missing,
            _ => &[],
        };
        if matches!(personality, Personality::R2 | Personality::B2) {
            options.quirks.refused_headers = &["UploadPartCopy x-amz-copy-source-if-*"];
        }
        options.quirks.drop_tags = false;
        options.quirks.failing_encryption = false;
        let operations = there_and_back(&world(options)).await;
        assert!(count(&operations, "UploadPartCopy") > 0, "{personality:?}: {operations:?}");
    }
}

#[tokio::test]
async fn without_copies_of_parts_a_large_file_goes_in_one_request_where_the_service_takes_it_else_through_this_machine()
{
    let quirks = Personality::Gcs.quirks();
    let operations = there_and_back(&world(ServiceOptions { quirks, ..ServiceOptions::default() })).await;
    // Asked for in vain by the first large copy of the run alone: as many parts as it has, with and without a condition.
    assert!((1..=6).contains(&count(&operations, "UploadPartCopy")), "{operations:?}");
    assert_eq!(count(&operations, "UploadPart"), 0, "{operations:?}");
    let options = ServiceOptions { quirks, copy_limit: 8 << 20, ..ServiceOptions::default() };
    let operations = there_and_back(&world(options)).await;
    assert!(count(&operations, "UploadPart") >= 4, "{operations:?}");
}

#[tokio::test]
async fn where_no_condition_on_parts_is_taken_or_kept_a_source_that_changes_between_them_is_copied_whole_or_not_at_all()
{
    let refusing = Quirks { refused_headers: &["UploadPartCopy x-amz-copy-source-if-*"], ..Quirks::default() };
    for quirks in [Personality::Ceph.quirks(), refusing] {
        let world = world(ServiceOptions { quirks, ..ServiceOptions::default() });
        let service = world.service.as_ref().expect("a service");
        // Parts that are refused for their condition are asked for again without it.
        let nth = if quirks.ignore_part_conditions { 2 } else { 5 };
        let mut waiting = service.stop_at(FaultAt::Operation { name: "UploadPartCopy".to_owned(), nth });
        let change = async {
            waiting.arrived().await;
            world.store().put(BUCKET, KEY, NewObject::new(large(9))).expect("a bucket");
            drop(waiting);
        };
        let (report, ()) = tokio::join!(world.backup(), change);
        let id = report.expect("a backup").point.id().to_string();
        world.delete(KEY);
        world.restore(&id).await.expect("a restore");
        assert!(world.store().get(BUCKET, KEY).expect("it is there").body == large(9), "it is a mixture");
    }
}

/// `MiniStack` loses tags that are sent when an upload begins; what is set afterwards stays. This one loses both.
#[tokio::test]
async fn a_copy_in_parts_whose_tags_are_dropped_without_a_word_fails_by_name() {
    let world =
        world(ServiceOptions { quirks: Quirks { drop_tags: true, ..Quirks::default() }, ..ServiceOptions::default() });
    match world.backup().await {
        Err(error) => {
            let told = error.to_string();
            assert!(told.contains(KEY) && told.contains("1 tags (kind)"), "{told}");
        }
        Ok(report) => {
            // It keeps what is set afterwards.
            let key = format!("backup/{}/images/{KEY}", report.point.id());
            assert_eq!(world.store().get(BUCKET, &key).expect("a copy").tags.len(), 1);
        }
    }
}

#[tokio::test]
async fn of_two_writers_at_once_one_has_written_also_where_conditions_are_ignored() {
    let quirks = Quirks { ignore_put_conditions: true, ..Quirks::default() };
    let service = Service::start(ServiceOptions { quirks, ..ServiceOptions::default() }).expect("a free port");
    service.store().create_bucket(BUCKET);
    // Each of another process: neither knows what the other has learned.
    let writer = || Bucket::S3(client(&service, hasty(3)).bucket(BUCKET)).reader().writer("");
    let options = StoreOptions::default();
    for round in 0..5 {
        let key = format!("claim-{round}");
        let (one, two) = (writer(), writer());
        let written = tokio::join!(
            one.create(&key, Bytes::from_static(b"one"), &options),
            two.create(&key, Bytes::from_static(b"two"), &options)
        );
        let (one_has, two_has) = (written.0.expect("an answer"), written.1.expect("an answer"));
        assert!(one_has != two_has, "round {round}: {one_has} and {two_has}");
        let there = service.store().get(BUCKET, &key).expect("it is there").body.clone();
        assert_eq!(&there[..], if one_has { b"one" } else { b"two" });
        // Whoever comes later sees it.
        assert!(!writer().create(&key, Bytes::from_static(b"three"), &options).await.expect("an answer"));
        assert_eq!(service.store().get(BUCKET, &key).expect("it is there").body, there);
    }
}

#[tokio::test]
async fn a_key_that_no_batch_takes_does_not_keep_the_others_from_being_removed() {
    for personality in [Personality::Gcs, Personality::B2, Personality::Aws] {
        let service = Service::start(ServiceOptions::like(personality)).expect("a free port");
        service.store().create_bucket(BUCKET);
        let remover = Bucket::S3(client(&service, hasty(3)).bucket(BUCKET)).reader().writer("").remover();
        let keys: Vec<String> = ["a", "b\u{1}", "c d", "e/", "absent"].map(str::to_owned).to_vec();
        for key in &keys[..4] {
            service.store().put(BUCKET, key, "x").expect("a bucket");
        }
        remover.remove(&keys).await.expect("they go");
        assert_eq!(service.store().count(BUCKET), 0, "{personality:?}");
    }
}

/// The whole job with every part, on a service that does as little as any.
#[tokio::test]
async fn a_service_that_lacks_nearly_everything_still_makes_a_whole_point() {
    let quirks = Quirks {
        ignore_put_conditions: true,
        ignore_copy_conditions: true,
        ignore_completion_conditions: true,
        no_checksums: true,
        no_classes: true,
        no_encryption: true,
        no_url_encoding: true,
        equal_parts: true,
        unordered_listing: true,
        missing: &["DeleteObjects", "UploadPartCopy", "ListObjectVersions", "GetObjectTagging"],
        ..Quirks::default()
    };
    let world = World::on_s3(ServiceOptions { quirks, ..ServiceOptions::default() }, limits());
    let before = world.files();
    let report = world.backup_as(&world.plan(&Part::ALL)).await.expect("a backup");
    world.put("images/a.jpg", b"overwritten");
    world.put("junk", b"new");
    world.restore(&report.point.id().to_string()).await.expect("a restore");
    let kept = |files: std::collections::BTreeMap<String, Vec<u8>>| {
        files.into_iter().filter(|(key, _)| !key.starts_with("tmp/")).collect::<Vec<_>>()
    };
    assert_eq!(kept(world.files()), kept(before));
}
