//! Removal where a bucket keeps versions or locks objects: nothing of it is left, or it is said what keeps it.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockRetention,
    ObjectLockRetentionMode, VersioningConfiguration,
};
use nexus_core::bucket::{Bucket, Reader};
use nexus_testkit::bucket::{client, make_bucket, put_object};
use nexus_testkit::services::{self, Endpoint, unique_bucket};

use crate::conformance::service;

/// A bucket as the core sees it and as a test looks at it.
struct Place {
    reader: Reader,
    client: Client,
    bucket: String,
}

impl Place {
    async fn new(endpoint: &Endpoint) -> Self {
        let (client, bucket) = (client(endpoint), unique_bucket("versions"));
        make_bucket(&client, &bucket).await;
        Self { reader: reader(endpoint, &bucket), client, bucket }
    }

    /// A bucket whose objects can be locked; its versioning is on from the start.
    async fn lockable(endpoint: &Endpoint) -> Self {
        let (client, bucket) = (client(endpoint), unique_bucket("locks"));
        let made = client.create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(true).send().await;
        made.expect("a bucket with Object Lock");
        Self { reader: reader(endpoint, &bucket), client, bucket }
    }

    async fn versioning(&self, status: BucketVersioningStatus) {
        let wanted = VersioningConfiguration::builder().status(status).build();
        let set = self.client.put_bucket_versioning().bucket(&self.bucket).versioning_configuration(wanted);
        set.send().await.expect("the bucket's versioning");
    }

    async fn put(&self, key: &str, body: &str) {
        put_object(&self.client, &self.bucket, key, body.as_bytes()).await;
    }

    async fn delete(&self, key: &str) {
        self.client.delete_object().bucket(&self.bucket).key(key).send().await.expect("a marker");
    }

    /// Versions and markers by key.
    async fn left(&self) -> BTreeMap<String, usize> {
        self.counted(true).await
    }

    async fn counted(&self, markers: bool) -> BTreeMap<String, usize> {
        let page = self.client.list_object_versions().bucket(&self.bucket).send().await.expect("a listing");
        let keys = page.versions().iter().filter_map(|version| version.key());
        let marked = page.delete_markers().iter().filter(|_| markers).filter_map(|marker| marker.key());
        let mut left = BTreeMap::new();
        for key in keys.chain(marked) {
            *left.entry(key.to_owned()).or_default() += 1;
        }
        left
    }

    async fn erase(&self, keys: &[&str]) -> Vec<(String, String)> {
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let locked = self.reader.writer("").remover().erase_all(&keys).await.expect("a removal");
        locked.into_iter().map(|locked| (locked.key, locked.why)).collect()
    }
}

fn reader(endpoint: &Endpoint, bucket: &str) -> Reader {
    Bucket::S3(service(endpoint.clone()).bucket(bucket)).reader()
}

async fn every_version_goes(endpoint: Endpoint) {
    let place = Place::new(&endpoint).await;
    for key in ["a", "a+b &c", "stays"] {
        place.put(key, "before versions were kept").await;
    }
    place.versioning(BucketVersioningStatus::Enabled).await;
    for (key, body) in [("a", "2"), ("a", "3"), ("a/b", "1"), ("a/c", "1"), ("ab", "1"), ("gone", "1")] {
        place.put(key, body).await;
    }
    place.delete("gone").await;
    assert_eq!(place.erase(&["a", "a+b &c", "a/b", "gone", "never there"]).await, []);
    let left = place.left().await;
    assert_eq!(left.keys().collect::<Vec<_>>(), ["a/c", "ab", "stays"], "{left:?}");
    place.versioning(BucketVersioningStatus::Suspended).await;
    place.put("ab", "2").await;
    place.put("stays", "2").await;
    assert_eq!(place.erase(&["ab"]).await, []);
    // SeaweedFS cannot remove the marker that a suspended bucket has for what had no version; it holds no bytes.
    let left = place.counted(false).await;
    assert_eq!(left.keys().collect::<Vec<_>>(), ["a/c", "stays"], "{left:?}");
}

#[tokio::test]
async fn every_version_of_exactly_these_keys_goes_on_seaweedfs() {
    every_version_goes(services::seaweedfs()).await;
}

#[tokio::test]
async fn every_version_of_exactly_these_keys_goes_on_ministack() {
    every_version_goes(services::ministack()).await;
}

#[tokio::test]
async fn many_keys_among_others_go_with_few_requests() {
    let place = Place::new(&services::seaweedfs()).await;
    place.versioning(BucketVersioningStatus::Enabled).await;
    let keys: Vec<String> = (0..120).map(|number| format!("point/images/{number:04}.jpg")).collect();
    for key in &keys {
        place.put(key, "x").await;
    }
    let doomed: Vec<&str> = keys.iter().skip(5).step_by(2).map(String::as_str).collect();
    let before = place.reader.requests();
    assert_eq!(place.erase(&doomed).await, []);
    let asked = place.reader.requests() - before;
    assert!(asked < 10, "{asked} requests for {} keys", doomed.len());
    let left = place.left().await;
    assert_eq!(left.len(), keys.len() - doomed.len());
    assert!(doomed.iter().all(|key| !left.contains_key(*key)));
}

async fn a_lock_keeps(endpoint: Endpoint) {
    let place = Place::lockable(&endpoint).await;
    for key in ["free", "governed", "held"] {
        place.put(key, "1").await;
    }
    let tomorrow = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let retention = ObjectLockRetention::builder()
        .mode(ObjectLockRetentionMode::Governance)
        .retain_until_date(DateTime::from_secs(tomorrow.as_second()))
        .build();
    let locked = place.client.put_object_retention().bucket(&place.bucket).key("governed").retention(retention);
    locked.send().await.expect("a retention");
    let on = ObjectLockLegalHold::builder().status(ObjectLockLegalHoldStatus::On).build();
    let held = place.client.put_object_legal_hold().bucket(&place.bucket).key("held").legal_hold(on);
    held.send().await.expect("a legal hold");
    let mut kept = place.erase(&["free", "governed", "held"]).await;
    kept.sort();
    let [(governed, until), (held, why)] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!((governed.as_str(), held.as_str(), why.as_str()), ("governed", "held", "a legal hold"));
    assert!(until.starts_with("governance until "), "{until}");
    let left = place.left().await;
    assert_eq!(left.keys().collect::<Vec<_>>(), ["governed", "held"], "{left:?}");
}

#[tokio::test]
async fn what_a_lock_keeps_is_named_and_the_rest_goes_on_seaweedfs() {
    a_lock_keeps(services::seaweedfs()).await;
}

#[tokio::test]
async fn what_a_lock_keeps_is_named_and_the_rest_goes_on_ministack() {
    a_lock_keeps(services::ministack()).await;
}
