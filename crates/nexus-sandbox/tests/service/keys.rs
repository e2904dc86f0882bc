//! Any key that Amazon S3 takes.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use crate::rig::{BUCKET, refusal, strict};

/// Keys that naive code spoils.
pub fn awkward() -> Vec<String> {
    let mut keys: Vec<String> = [
        "plain",
        "a+b",
        "100%",
        "100%25",
        "what?",
        "a#b",
        "a b",
        " lead",
        "trail ",
        "new\nline",
        "tab\tkey",
        "cr\rkey",
        "bell\u{7}",
        "del\u{7f}",
        "./dot",
        "a/./b",
        "../up",
        "a/../b",
        "..",
        ".",
        "a//b",
        "/lead",
        "//lead",
        "trail/",
        "trail//",
        "a",
        "a/",
        "a/b",
        "caf\u{e9}",
        "cafe\u{301}",
        "日本/語.pdf",
        "😀",
        "q=1&r=2",
        "semi;colon",
        "star*",
        "til~de",
        "quo\"te",
        "back\\slash",
        "a:b@c,d",
        "[x]{y}|^`",
        "<tag>&amp;",
    ]
    .iter()
    .map(|key| (*key).to_owned())
    .collect();
    keys.push("k".repeat(1_024));
    keys.push("é".repeat(512));
    keys
}

#[tokio::test]
async fn awkward_keys_go_there_and_back() {
    let rig = strict();
    for key in awkward() {
        let put = rig.client.put_object().bucket(BUCKET).key(&key);
        let body = key.clone().into_bytes();
        put.body(body.into()).send().await.unwrap_or_else(|e| panic!("put {key:?}: {e:?}"));
        assert!(rig.service.store().get(BUCKET, &key).is_some(), "{key:?} arrived as another key");
        let got = rig.client.get_object().bucket(BUCKET).key(&key).send().await;
        let got = got.unwrap_or_else(|e| panic!("get {key:?}: {e:?}"));
        let bytes = got.body.collect().await.expect("a body").into_bytes();
        assert_eq!(bytes, key.as_bytes());
        rig.client.head_object().bucket(BUCKET).key(&key).send().await.expect("a head");
    }
    assert_eq!(rig.service.store().count(BUCKET), awkward().len());
}

#[tokio::test]
async fn awkward_keys_can_be_deleted_in_one_batch() {
    let rig = strict();
    let keys: Vec<String> = awkward().into_iter().filter(|key| *key != "cr\rkey").collect();
    let mut batch = Delete::builder().quiet(true);
    for key in &keys {
        rig.service.store().put(BUCKET, key, "x").expect("the bucket");
        batch = batch.objects(ObjectIdentifier::builder().key(key).build().expect("a key"));
    }
    let batch = batch.build().expect("a batch");
    let answer = rig.client.delete_objects().bucket(BUCKET).delete(batch).send().await;
    answer.expect("a deletion");
    assert_eq!(rig.service.store().keys(BUCKET, ""), Vec::<String>::new());
}

#[tokio::test]
async fn keys_of_more_than_1024_bytes_are_refused() {
    let rig = strict();
    let key = format!("{}x", "é".repeat(512));
    let put = rig.client.put_object().bucket(BUCKET).key(key).send().await;
    assert_eq!(refusal(put), "KeyTooLongError");
}

#[tokio::test]
async fn markers_of_folders_are_objects() {
    let rig = strict();
    for key in ["dir", "dir/", "dir/file"] {
        rig.client.put_object().bucket(BUCKET).key(key).send().await.expect("a put");
    }
    assert_eq!(rig.service.store().keys(BUCKET, ""), ["dir", "dir/", "dir/file"]);
}
