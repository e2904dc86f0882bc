//! Every property of an object is equal after backup and restore: in one request and in parts, within a service, between
//! two, and through a folder.

use std::collections::BTreeMap;

use aws_sdk_s3::types::StorageClass;
use nexus_testkit::bucket::delete_all;
use nexus_testkit::services::{Endpoint, ministack, seaweedfs};
use sha2::{Digest, Sha256};

use crate::app::{App, sandbox};
use crate::between::other_bucket;

/// In parts of 8 MiB these are two, with the cut-off that [`arranged`] sets.
const LARGE: usize = 9 * 1024 * 1024 + 7;

/// The objects: one that goes in one request, one that goes in parts, one without content.
const KEYS: [&str; 3] = ["images/empty.jpg", "images/large.jpg", "images/small.jpg"];

/// What a service says of an object, by name, and a digest of its content.
type Properties = BTreeMap<String, String>;

fn body(key: &str) -> Vec<u8> {
    match key {
        "images/large.jpg" => {
            (0..LARGE).map(|at| u8::try_from((at / 1_000 + at) % 251).expect("it is below 251")).collect()
        }
        "images/empty.jpg" => Vec::new(),
        other => other.as_bytes().to_vec(),
    }
}

/// An application of files alone, with the vault at this URL.
async fn arranged(endpoint: Endpoint, vault: &str, more: (&str, &str)) -> App {
    let app = App::bare(endpoint).await;
    let vault = vault.replace("BUCKET", &app.bucket);
    let (of_files, of_s3) = more;
    app.write(
        "nexus.toml",
        &format!(
            "app = \"clinic\"\n[files]\nsource = \"s3://{}\"\n{of_files}[vault]\nurl = \"{vault}\"\n\
             [s3]\ncopy-cutoff = {}\n{of_s3}",
            app.bucket,
            5 * 1024 * 1024
        ),
    );
    app
}

/// Stores an object with everything that one can have; `expires` may be any text.
async fn put_rich(app: &App, key: &str, expires: &'static str) {
    let tags: Vec<String> = (0..10).map(|number| format!("tag%20{number}%2B%2F%3A=v%3D{number}%40%20_.-")).collect();
    let put = app.client.put_object().bucket(&app.bucket).key(key);
    put.body(body(key).into())
        .content_type("image/x-rich; q=\"a b\"")
        .cache_control("max-age=60, no-transform")
        .content_disposition("attachment; filename=\"a b.jpg\"; filename*=UTF-8''%C3%A4.jpg")
        .content_encoding("x-own")
        .content_language("de, en")
        .metadata("plain", "a \"b\", c=d; e")
        .metadata("raw", "Zo\u{eb} \u{2013} \u{65e5}\u{672c}")
        .metadata("rfc2047", "=?UTF-8?B?Wm/Dqw==?=")
        .storage_class(StorageClass::StandardIa)
        .tagging(tags.join("&"))
        .customize()
        .mutate_request(move |request| drop(request.headers_mut().insert("expires", expires)))
        .send()
        .await
        .unwrap_or_else(|cause| panic!("cannot store `{key}`: {cause:?}"));
}

async fn properties(app: &App, key: &str) -> Properties {
    let answer = app.client.get_object().bucket(&app.bucket).key(key).send().await;
    let answer = answer.unwrap_or_else(|cause| panic!("cannot read `{key}`: {cause:?}"));
    let named = [
        ("content-type", answer.content_type()),
        ("cache-control", answer.cache_control()),
        ("content-disposition", answer.content_disposition()),
        ("content-encoding", answer.content_encoding()),
        ("content-language", answer.content_language()),
        ("expires", answer.expires_string()),
        ("class", answer.storage_class().map(StorageClass::as_str)),
    ];
    let mut seen: Properties =
        named.into_iter().map(|(name, value)| (name.into(), value.unwrap_or("none").into())).collect();
    for (name, value) in answer.metadata().into_iter().flatten() {
        seen.insert(format!("x-amz-meta-{name}"), value.clone());
    }
    let content = answer.body.collect().await.expect("a body").to_vec();
    seen.insert("content".to_owned(), format!("{:?}", Sha256::digest(content)));
    let tags = app.client.get_object_tagging().bucket(&app.bucket).key(key).send().await.expect("its tags");
    for tag in tags.tag_set() {
        seen.insert(format!("tag {}", tag.key()), tag.value().to_owned());
    }
    seen
}

async fn all_properties(app: &App) -> BTreeMap<&'static str, Properties> {
    let mut all = BTreeMap::new();
    for key in KEYS {
        all.insert(key, properties(app, key).await);
    }
    all
}

/// Backs up, loses every file, restores, and compares.
async fn come_back(app: &App, expires: &'static str) {
    for key in KEYS {
        put_rich(app, key, expires).await;
    }
    let before = all_properties(app).await;
    assert_eq!(before["images/small.jpg"].keys().filter(|name| name.starts_with("tag ")).count(), 10);
    let id = app.back_up(&["--only", "files"]);
    for key in KEYS {
        app.delete(key).await;
    }
    app.restore(&[&id, "--only", "files"]);
    let after = all_properties(app).await;
    for key in KEYS {
        for (name, was) in &before[key] {
            let now = after[key].get(name);
            assert_eq!(now, Some(was), "{name} of {key}");
        }
        assert_eq!(after[key].len(), before[key].len(), "{key} has got more");
    }
    app.run(&["verify", &id, "--full"]).ends_with(0);
}

const DATE: &str = "Thu, 01 Dec 2044 16:00:00 GMT";

#[tokio::test]
async fn every_property_comes_back_within_the_in_process_service() {
    let (_service, endpoint) = sandbox();
    come_back(&arranged(endpoint, "s3://BUCKET/backup", ("", "")).await, DATE).await;
}

#[tokio::test]
async fn every_property_comes_back_through_a_folder() {
    let (_service, endpoint) = sandbox();
    let app = arranged(endpoint, "vault", ("", "")).await;
    come_back(&app, DATE).await;
    let before = all_properties(&app).await;
    for key in KEYS {
        app.delete(key).await;
    }
    let id = app.points().remove(0).0;
    app.shell(&format!("bash vault/{id}/restore-files.sh vault {id} s3://{}", app.bucket)).ends_with(0);
    assert_eq!(all_properties(&app).await, before);
}

#[tokio::test]
async fn every_property_comes_back_from_another_service() {
    let ((_files, files), (_vault, vault)) = (sandbox(), sandbox());
    other_bucket(&vault).await;
    let (of_files, of_s3) = (format!("endpoint = \"{}\"\n", files.url), format!("endpoint = \"{}\"\n", vault.url));
    let app = arranged(files, "s3://offsite/clinic", (&of_files, &of_s3)).await;
    come_back(&app, DATE).await;
}

#[tokio::test]
async fn every_property_comes_back_within_ministack() {
    come_back(&arranged(ministack(), "s3://BUCKET/backup", ("", "")).await, DATE).await;
}

#[tokio::test]
async fn every_property_comes_back_from_ministack_through_a_folder() {
    come_back(&arranged(ministack(), "vault", ("", "")).await, DATE).await;
}

#[tokio::test]
async fn every_property_comes_back_within_seaweedfs() {
    come_back(&arranged(seaweedfs(), "s3://BUCKET/backup", ("", "")).await, DATE).await;
}

/// The service checks the credentials of `SeaweedFS`, and `MiniStack` takes any.
#[tokio::test]
async fn every_property_comes_back_to_ministack_from_seaweedfs() {
    let (files, vault) = (ministack(), seaweedfs());
    other_bucket_if_absent(&vault).await;
    let (of_files, of_s3) = (format!("endpoint = \"{}\"\n", files.url), format!("endpoint = \"{}\"\n", vault.url));
    let files = Endpoint { access_key: vault.access_key.clone(), secret_key: vault.secret_key.clone(), ..files };
    let app = arranged(files, "s3://offsite-properties/BUCKET", (&of_files, &of_s3)).await;
    come_back(&app, DATE).await;
}

async fn other_bucket_if_absent(there: &Endpoint) {
    let client = nexus_testkit::bucket::client(there);
    nexus_testkit::bucket::make_bucket(&client, "offsite-properties").await;
    delete_all(&client, "offsite-properties").await;
}

/// S3 takes any text there, and the SDK only dates.
#[tokio::test]
async fn an_expiry_that_is_no_date_comes_back_in_its_own_words() {
    come_back(&arranged(ministack(), "s3://BUCKET/backup", ("", "")).await, "0").await;
    come_back(&arranged(ministack(), "vault", ("", "")).await, "0").await;
}
