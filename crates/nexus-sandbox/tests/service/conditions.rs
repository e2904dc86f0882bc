//! Conditions on reads and writes, and who may ask at all.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use nexus_sandbox::{NewObject, Quirks};

use crate::rig::{BUCKET, client, quirky, refusal, strict};

#[tokio::test]
async fn a_wrong_secret_or_access_key_is_refused() {
    let rig = strict();
    let wrong_secret = client(rig.service.endpoint(), "nexus-sandbox", "wrong");
    assert_eq!(refusal(wrong_secret.list_buckets().send().await), "SignatureDoesNotMatch");
    let wrong_key = client(rig.service.endpoint(), "wrong", "nexus-sandbox-secret");
    assert_eq!(refusal(wrong_key.list_buckets().send().await), "InvalidAccessKeyId");
}

#[test]
fn an_unsigned_request_is_refused_and_dated() {
    let rig = strict();
    let address = rig.service.endpoint().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(b"GET /clinic HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.to_lowercase().contains("\r\ndate: "), "{answer}");
}

#[tokio::test]
async fn creates_only_if_absent() {
    let rig = strict();
    let put = || rig.client.put_object().bucket(BUCKET).key("k").if_none_match("*");
    put().body(b"one".to_vec().into()).send().await.expect("the first");
    assert_eq!(refusal(put().body(b"two".to_vec().into()).send().await), "PreconditionFailed");
    assert_eq!(rig.service.store().get(BUCKET, "k").expect("it").body, "one");
}

#[tokio::test]
async fn replaces_only_what_was_seen() {
    let rig = strict();
    let put = |etag: &str| rig.client.put_object().bucket(BUCKET).key("k").if_match(etag).send();
    assert_eq!(refusal(put("abc").await), "NoSuchKey");
    let seen = rig.service.store().put(BUCKET, "k", "one").expect("the bucket");
    assert_eq!(refusal(put("\"abc\"").await), "PreconditionFailed");
    put(&format!("\"{}\"", seen.etag)).await.expect("a put");
}

#[tokio::test]
async fn a_service_may_ignore_conditions_on_writes() {
    let rig = quirky(Quirks { ignore_put_conditions: true, ..Quirks::default() });
    rig.service.store().put(BUCKET, "k", "one").expect("the bucket");
    let put = rig.client.put_object().bucket(BUCKET).key("k").if_none_match("*");
    put.send().await.expect("no condition");
}

#[tokio::test]
async fn reads_obey_their_conditions() {
    let rig = strict();
    let kept = rig.service.store().put(BUCKET, "k", "one").expect("the bucket");
    let get = || rig.client.get_object().bucket(BUCKET).key("k");
    get().if_match(&kept.etag).send().await.expect("a match");
    assert_eq!(refusal(get().if_match("abc").send().await), "PreconditionFailed");
    assert_eq!(refusal(get().if_none_match(&kept.etag).send().await), "304");
    let past = aws_sdk_s3::primitives::DateTime::from_secs(0);
    assert_eq!(refusal(get().if_unmodified_since(past).send().await), "PreconditionFailed");
    assert_eq!(refusal(rig.client.get_object().bucket(BUCKET).key("no").send().await), "NoSuchKey");
}

#[tokio::test]
async fn ranges_are_cut_and_those_beyond_the_end_refused() {
    let rig = strict();
    rig.service.store().put(BUCKET, "k", "0123456789").expect("the bucket");
    for (range, expected) in [("bytes=2-4", "234"), ("bytes=7-", "789"), ("bytes=-2", "89")] {
        let got = rig.client.get_object().bucket(BUCKET).key("k").range(range).send().await;
        let got = got.expect("a range");
        assert!(got.content_range().is_some());
        assert_eq!(got.body.collect().await.expect("a body").into_bytes(), expected);
    }
    let got = rig.client.get_object().bucket(BUCKET).key("k").range("bytes=10-").send().await;
    assert_eq!(refusal(got), "InvalidRange");
}

#[tokio::test]
async fn archived_objects_cannot_be_read_or_copied() {
    let rig = strict();
    let object = NewObject::new("cold").storage_class("DEEP_ARCHIVE");
    rig.service.store().put(BUCKET, "k", object).expect("the bucket");
    let got = rig.client.get_object().bucket(BUCKET).key("k").send().await;
    assert_eq!(refusal(got), "InvalidObjectState");
    let copy = rig.client.copy_object().bucket(BUCKET).key("l").copy_source("clinic/k");
    assert_eq!(refusal(copy.send().await), "InvalidObjectState");
}

#[tokio::test]
async fn the_clock_of_the_service_can_be_set() {
    let rig = strict();
    rig.service.store().shift_clock(-200_000);
    rig.service.store().put(BUCKET, "k", "x").expect("the bucket");
    rig.service.store().shift_clock(0);
    let age = rig.service.store().now().duration_since(rig.service.store().get(BUCKET, "k").expect("it").last_modified);
    assert!(age.expect("the past").as_secs() >= 200_000);
}
