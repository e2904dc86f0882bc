//! Listings: their order, their pages, their spelling.

use aws_sdk_s3::types::EncodingType;
use nexus_sandbox::{Quirks, ServiceOptions};

use crate::keys::awkward;
use crate::rig::{BUCKET, Rig, quirky, refusal, strict, with};

fn small_pages(size: usize) -> Rig {
    with(ServiceOptions { page_size: size, ..ServiceOptions::default() })
}

fn fill(rig: &Rig, keys: &[&str]) {
    for key in keys {
        rig.service.store().put(BUCKET, key, "x").expect("the bucket");
    }
}

/// Keys and common prefixes of all pages, as the service spelled them.
async fn walk(rig: &Rig, prefix: &str, delimiter: Option<&str>, url: bool) -> Vec<String> {
    let mut token = None;
    let mut seen = Vec::new();
    for _ in 0..100 {
        let page = rig
            .client
            .list_objects_v2()
            .bucket(BUCKET)
            .prefix(prefix)
            .set_delimiter(delimiter.map(str::to_owned))
            .set_encoding_type(url.then_some(EncodingType::Url))
            .set_continuation_token(token)
            .send()
            .await
            .expect("a page");
        let keys = page.contents().iter().filter_map(|object| object.key());
        seen.extend(keys.map(str::to_owned));
        let prefixes = page.common_prefixes().iter().filter_map(|entry| entry.prefix());
        seen.extend(prefixes.map(str::to_owned));
        token = page.next_continuation_token().map(str::to_owned);
        assert_eq!(page.is_truncated(), Some(token.is_some()));
        if token.is_none() {
            return seen;
        }
    }
    panic!("the listing does not end");
}

fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first == b'%' {
            let digits = std::str::from_utf8(&rest[..2]).expect("digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("digits"));
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

#[tokio::test]
async fn lists_in_byte_order_with_url_encoding_over_many_pages() {
    let rig = small_pages(5);
    let mut expected = awkward();
    for key in &expected {
        rig.service.store().put(BUCKET, key, "x").expect("the bucket");
    }
    expected.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    let listed = walk(&rig, "", None, true).await;
    let keys: Vec<String> = listed.iter().map(|key| decoded(key)).collect();
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn spells_keys_as_amazon_does_when_asked_for_url_encoding() {
    let rig = strict();
    fill(&rig, &["a b+c/d(1)~é"]);
    assert_eq!(walk(&rig, "a b", None, true).await, ["a+b%2Bc/d%281%29%7E%C3%A9"]);
}

#[tokio::test]
async fn control_characters_come_as_references_unless_url_encoding_is_asked_for() {
    let rig = strict();
    fill(&rig, &["bell\u{7}", "cr\r"]);
    assert_eq!(walk(&rig, "", None, false).await, ["bell\u{7}", "cr\r"]);
    assert_eq!(walk(&rig, "", None, true).await, ["bell%07", "cr%0D"]);
}

#[tokio::test]
async fn rolls_up_behind_a_delimiter_across_pages() {
    for size in [1, 2, 3, 1_000] {
        let rig = small_pages(size);
        fill(&rig, &["a", "a/1", "a/2", "a/\u{10ffff}z", "a0", "b/1", "b/2", "c"]);
        let mut listed = walk(&rig, "", Some("/"), false).await;
        listed.sort();
        assert_eq!(listed, ["a", "a/", "a0", "b/", "c"], "pages of {size}");
        assert_eq!(walk(&rig, "a/", Some("/"), false).await, ["a/1", "a/2", "a/\u{10ffff}z"]);
    }
}

#[tokio::test]
async fn starts_after_a_key() {
    let rig = strict();
    fill(&rig, &["a", "b", "c"]);
    let page = rig.client.list_objects_v2().bucket(BUCKET).start_after("a").send().await;
    let page = page.expect("a page");
    let keys: Vec<_> = page.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!(keys, ["b", "c"]);
    assert_eq!(page.key_count(), Some(2));
}

#[tokio::test]
async fn the_first_version_of_the_listing_pages_by_marker() {
    let rig = small_pages(1);
    fill(&rig, &["a/1", "a/2", "b", "c/1"]);
    let mut marker = String::new();
    let mut seen = Vec::new();
    loop {
        let page = rig.client.list_objects().bucket(BUCKET).delimiter("/").marker(&marker);
        let page = page.send().await.expect("a page");
        seen.extend(page.contents().iter().filter_map(|object| object.key()).map(str::to_owned));
        seen.extend(page.common_prefixes().iter().filter_map(|p| p.prefix()).map(str::to_owned));
        match page.next_marker() {
            Some(next) => next.clone_into(&mut marker),
            None => break,
        }
    }
    assert_eq!(seen, ["a/", "b", "c/"]);
}

#[tokio::test]
async fn refuses_a_token_it_did_not_give_and_a_bucket_it_does_not_have() {
    let rig = strict();
    let page = rig.client.list_objects_v2().bucket(BUCKET).continuation_token("?").send().await;
    assert_eq!(refusal(page), "InvalidArgument");
    let page = rig.client.list_objects_v2().bucket("another").send().await;
    assert_eq!(refusal(page), "NoSuchBucket");
}

#[tokio::test]
async fn an_unordered_listing_comes_as_a_walk_of_directories_and_misses_nothing() {
    let quirks = Quirks { unordered_listing: true, ..Quirks::default() };
    let rig = with(ServiceOptions { page_size: 1, quirks, ..ServiceOptions::default() });
    fill(&rig, &["a", "a!", "a/b", "b"]);
    assert_eq!(walk(&rig, "", None, false).await, ["a", "a/b", "a!", "b"]);
}

#[tokio::test]
async fn a_repeated_token_is_the_one_that_was_given() {
    let quirks = Quirks { repeat_token: true, ..Quirks::default() };
    let rig = with(ServiceOptions { page_size: 1, quirks, ..ServiceOptions::default() });
    fill(&rig, &["a", "b", "c"]);
    let first = rig.client.list_objects_v2().bucket(BUCKET).send().await.expect("a page");
    let token = first.next_continuation_token().expect("a token");
    let second = rig.client.list_objects_v2().bucket(BUCKET).continuation_token(token).send().await;
    assert_eq!(second.expect("a page").next_continuation_token(), Some(token));
}

#[tokio::test]
async fn opaque_etags_differ_for_equal_bytes() {
    let rig = quirky(Quirks { opaque_etags: true, ..Quirks::default() });
    fill(&rig, &["a", "b"]);
    let etag = |key| rig.service.store().get(BUCKET, key).expect("an object").etag.clone();
    assert_ne!(etag("a"), etag("b"));
    assert_eq!(etag("a").len(), 32);
}
