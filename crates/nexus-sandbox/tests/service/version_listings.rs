//! Listings of versions: their order, their pages, their spelling.

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::types::{EncodingType, ObjectVersion};
use nexus_sandbox::{NULL_VERSION, ServiceOptions, Versioning};

use crate::rig::{BUCKET, Rig, refusal, strict, with};

fn small_pages(size: usize) -> Rig {
    let rig = with(ServiceOptions { page_size: size, ..ServiceOptions::default() });
    rig.service.store().set_versioning(BUCKET, Versioning::Enabled).expect("the bucket");
    rig
}

fn fill(rig: &Rig, keys: &[&str]) {
    for key in keys {
        rig.service.store().put(BUCKET, key, "x").expect("the bucket");
    }
}

/// What the store holds: key and version id, newest first within a key.
fn held(rig: &Rig, keys: &[&str]) -> Vec<String> {
    let store = rig.service.store();
    let versions = keys.iter().flat_map(|key| store.versions(BUCKET, key).into_iter().map(move |one| (*key, one.id)));
    versions.map(|(key, id)| format!("{key} {id}")).collect()
}

/// All pages of a listing; each entry is `key id`, or a common prefix.
async fn walk(rig: &Rig, prefix: &str, delimiter: Option<&str>) -> Vec<String> {
    let (mut key, mut id) = (None, None);
    let mut seen = Vec::new();
    for _ in 0..200 {
        let page = rig.client.list_object_versions().bucket(BUCKET).prefix(prefix);
        let page = page.set_delimiter(delimiter.map(str::to_owned)).set_key_marker(key).set_version_id_marker(id);
        let page = page.send().await.expect("a page");
        seen.extend(entries(&page));
        if page.is_truncated() != Some(true) {
            assert_eq!((page.next_key_marker(), page.next_version_id_marker()), (None, None));
            return seen;
        }
        key = page.next_key_marker().map(str::to_owned);
        id = page.next_version_id_marker().map(str::to_owned);
    }
    panic!("the listing does not end");
}

fn entries(page: &ListObjectVersionsOutput) -> Vec<String> {
    let versions = page.versions().iter().map(|one| (one.key(), one.version_id()));
    let markers = page.delete_markers().iter().map(|one| (one.key(), one.version_id()));
    let named = versions.chain(markers).map(|(key, id)| format!("{} {}", key.unwrap_or("?"), id.unwrap_or("?")));
    named.chain(page.common_prefixes().iter().map(|one| one.prefix().unwrap_or("?").to_owned())).collect()
}

#[tokio::test]
async fn pages_cut_within_a_key_go_on_with_its_next_older_version() {
    for size in [1, 2, 3, 1_000] {
        let rig = small_pages(size);
        fill(&rig, &["a", "b", "a", "b", "a", "c/d"]);
        rig.service.store().delete(BUCKET, "b");
        fill(&rig, &["b"]);
        let mut expected = held(&rig, &["a", "b", "c/d"]);
        assert_eq!(expected.len(), 8);
        let mut listed = walk(&rig, "", None).await;
        if size > 1 {
            // One page has its markers apart from its versions.
            expected.sort();
            listed.sort();
        }
        assert_eq!(listed, expected, "pages of {size}");
        assert_eq!(walk(&rig, "a", None).await, held(&rig, &["a"]));
    }
}

#[tokio::test]
async fn versions_of_rolled_up_keys_are_one_entry() {
    for size in [1, 2, 1_000] {
        let rig = small_pages(size);
        fill(&rig, &["a", "a/", "a/1", "a/1", "a/2", "a0", "a0"]);
        rig.service.store().delete(BUCKET, "a/2");
        let mut expected = held(&rig, &["a", "a0"]);
        expected.push("a/".to_owned());
        let mut listed = walk(&rig, "", Some("/")).await;
        expected.sort();
        listed.sort();
        assert_eq!(listed, expected, "pages of {size}");
        let mut below = walk(&rig, "a/", Some("/")).await;
        let mut expected = held(&rig, &["a/", "a/1", "a/2"]);
        expected.sort();
        below.sort();
        assert_eq!(below, expected, "pages of {size}");
    }
}

#[tokio::test]
async fn only_the_newest_is_latest_and_objects_from_before_are_null() {
    let rig = strict();
    fill(&rig, &["k"]);
    let before = rig.client.list_object_versions().bucket(BUCKET).send().await.expect("a page");
    assert_eq!(entries(&before), [format!("k {NULL_VERSION}")]);
    assert_eq!(before.versions()[0].is_latest(), Some(true));
    rig.service.store().set_versioning(BUCKET, Versioning::Enabled).expect("the bucket");
    fill(&rig, &["k"]);
    rig.service.store().delete(BUCKET, "k");
    let page = rig.client.list_object_versions().bucket(BUCKET).send().await.expect("a page");
    assert_eq!(page.versions().iter().map(ObjectVersion::is_latest).collect::<Vec<_>>(), [Some(false), Some(false)]);
    assert_eq!(page.delete_markers()[0].is_latest(), Some(true));
    assert_eq!(page.versions()[1].version_id(), Some(NULL_VERSION));
}

#[tokio::test]
async fn a_page_goes_on_where_it_was_though_the_version_it_ended_with_is_gone() {
    let rig = small_pages(2);
    fill(&rig, &["k", "k", "k", "k"]);
    let all = held(&rig, &["k"]);
    let first = rig.client.list_object_versions().bucket(BUCKET).send().await.expect("a page");
    let id = first.next_version_id_marker().expect("a marker");
    assert!(rig.service.store().remove_version(BUCKET, "k", id));
    let second = rig.client.list_object_versions().bucket(BUCKET).key_marker("k").version_id_marker(id).send().await;
    assert_eq!(entries(&second.expect("a page")), all[2..]);
}

#[tokio::test]
async fn keys_are_spelled_as_asked_and_ids_are_not() {
    let rig = small_pages(1);
    fill(&rig, &["a b+c", "d"]);
    let page = rig.client.list_object_versions().bucket(BUCKET).encoding_type(EncodingType::Url).send().await;
    let page = page.expect("a page");
    assert_eq!(page.versions()[0].key(), Some("a+b%2Bc"));
    assert_eq!(page.next_key_marker(), Some("a+b%2Bc"));
    assert_eq!(page.next_version_id_marker(), page.versions()[0].version_id());
}

#[tokio::test]
async fn markers_that_no_page_ended_with_are_refused() {
    let rig = small_pages(1);
    let list = || rig.client.list_object_versions().bucket(BUCKET);
    assert_eq!(refusal(list().version_id_marker(NULL_VERSION).send().await), "InvalidArgument");
    assert_eq!(refusal(list().key_marker("k").version_id_marker("").send().await), "InvalidArgument");
    assert_eq!(refusal(list().key_marker("k").version_id_marker("made-up").send().await), "InvalidArgument");
    assert_eq!(refusal(list().max_keys(-1).send().await), "InvalidArgument");
    assert_eq!(refusal(rig.client.list_object_versions().bucket("another").send().await), "NoSuchBucket");
}

#[tokio::test]
async fn the_first_listing_goes_on_behind_a_key_that_ends_with_the_delimiter() {
    let rig = small_pages(1);
    fill(&rig, &["a/", "a/1"]);
    let page = rig.client.list_objects().bucket(BUCKET).prefix("a/").delimiter("/").marker("a/").send().await;
    let page = page.expect("a page");
    assert_eq!(page.contents().iter().filter_map(|one| one.key()).collect::<Vec<_>>(), ["a/1"]);
}
