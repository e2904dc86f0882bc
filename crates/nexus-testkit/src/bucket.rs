//! A plain S3 client for arranging a test and looking at its outcome.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, EncodingType, ObjectIdentifier};
use percent_encoding::percent_decode_str;

use crate::services::Endpoint;

/// How many keys one deletion request may name (S3 API, `DeleteObjects`).
const KEYS_PER_DELETION: usize = 1000;

/// A client for `endpoint`: path style, plain HTTP, no checksums that were not asked for.
pub fn client(endpoint: &Endpoint) -> Client {
    let keys = Credentials::new(&endpoint.access_key, &endpoint.secret_key, None, None, "nexus-testkit");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(&endpoint.url)
        .credentials_provider(keys)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

/// Makes `bucket`.
pub async fn make_bucket(client: &Client, bucket: &str) {
    client.create_bucket().bucket(bucket).send().await.expect("cannot make the bucket");
}

/// Stores `body` under `key`.
pub async fn put_object(client: &Client, bucket: &str, key: &str, body: &[u8]) {
    client
        .put_object()
        .bucket(bucket)
        .key(key)
        .body(ByteStream::from(body.to_vec()))
        .send()
        .await
        .unwrap_or_else(|cause| panic!("cannot store `{key}`: {cause:?}"));
}

/// The bytes under `key`.
pub async fn object(client: &Client, bucket: &str, key: &str) -> Vec<u8> {
    let answer = client.get_object().bucket(bucket).key(key).send().await;
    let answer = answer.unwrap_or_else(|cause| panic!("cannot read `{key}`: {cause:?}"));
    answer.body.collect().await.expect("the body was cut").to_vec()
}

/// Every object of `bucket`: key to size and `ETag` (without its quotes).
pub async fn all_objects(client: &Client, bucket: &str) -> BTreeMap<String, (u64, String)> {
    let mut objects = BTreeMap::new();
    let mut pages = client
        .list_objects_v2()
        .bucket(bucket)
        // Without it a key with a control character makes the answer invalid XML.
        .encoding_type(EncodingType::Url)
        .into_paginator()
        .send();
    while let Some(page) = pages.next().await {
        let page = page.expect("cannot list the bucket");
        for object in page.contents() {
            let size = object.size().and_then(|size| u64::try_from(size).ok());
            let etag = object.e_tag().unwrap_or_default().trim_matches('"').to_owned();
            let known = objects.insert(key_of(object.key()), (size.expect("no size"), etag));
            assert!(known.is_none(), "{} is listed twice", object.key().unwrap_or_default());
        }
    }
    objects
}

/// Uploads every file below `folder` under `prefix` and its path.
pub async fn put_folder(client: &Client, bucket: &str, prefix: &str, folder: &std::path::Path) {
    for (path, _) in crate::tree::digest(folder).into_iter().filter(|(_, entry)| entry.is_file()) {
        let body = std::fs::read(folder.join(&path)).expect("the file was there a moment ago");
        put_object(client, bucket, &format!("{prefix}{path}"), &body).await;
    }
}

/// Removes every object of `bucket`; on a versioned bucket this adds delete markers.
pub async fn delete_all(client: &Client, bucket: &str) {
    let keys: Vec<String> = all_objects(client, bucket).await.into_keys().collect();
    for some in keys.chunks(KEYS_PER_DELETION) {
        let named = some.iter().map(|key| ObjectIdentifier::builder().key(key).build().expect("a key is all it needs"));
        let named = Delete::builder().set_objects(Some(named.collect())).build();
        let named = named.expect("a list of keys is all it needs");
        let answer = client.delete_objects().bucket(bucket).delete(named).send().await;
        let answer = answer.expect("cannot delete");
        assert!(answer.errors().is_empty(), "cannot delete: {:?}", answer.errors());
    }
}

/// In a URL-encoded listing a blank may come as `+`: a plus sign in a key always comes as `%2B`.
fn key_of(encoded: Option<&str>) -> String {
    let encoded = encoded.expect("an object without a key").replace('+', " ");
    percent_decode_str(&encoded).decode_utf8().expect("keys of tests are UTF-8").into_owned()
}
