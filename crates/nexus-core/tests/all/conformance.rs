//! Every kind of bucket behaves alike within what it declares: one suite over all of them.

use std::path::Path;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use nexus_core::bucket::folder::Folder;
use nexus_core::bucket::s3::Service as S3Service;
use nexus_core::bucket::upload::Progress;
use nexus_core::bucket::{Bucket, Reader, StoreOptions};
use nexus_core::error::Error;
use nexus_core::event::{Events, Stage};
use nexus_core::local::Given;
use nexus_sandbox::{Service, ServiceOptions};
use nexus_testkit::services::{self, Endpoint};
use sha2::{Digest, Sha256};

use crate::world::{client, hasty};

/// What the suite runs on: a bucket, and what keeps it there.
struct Subject {
    reader: Reader,
    scratch: tempfile::TempDir,
    _service: Option<Service>,
}

fn folder() -> Subject {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let root = scratch.path().join("bucket");
    std::fs::create_dir(&root).expect("room");
    Subject { reader: Bucket::Folder(Folder::new(root)).reader(), scratch, _service: None }
}

fn in_process(options: ServiceOptions) -> Subject {
    let service = Service::start(options).expect("a free port");
    service.store().create_bucket("suite");
    let reader = Bucket::S3(client(&service, hasty(3)).bucket("suite")).reader();
    Subject { reader, scratch: tempfile::tempdir().expect("a temporary folder"), _service: Some(service) }
}

/// A real service as the core talks to it.
pub fn service(endpoint: Endpoint) -> S3Service {
    let keys = Credentials::new(endpoint.access_key, endpoint.secret_key, None, None, "test");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(keys);
    S3Service::new(config, Some(endpoint.url), nexus_core::bucket::pace::Limits::default(), 7)
}

async fn real(endpoint: Endpoint) -> Subject {
    let bucket = services::unique_bucket("conformance");
    nexus_testkit::bucket::make_bucket(&nexus_testkit::bucket::client(&endpoint), &bucket).await;
    let reader = Bucket::S3(service(endpoint).bucket(&bucket)).reader();
    Subject { reader, scratch: tempfile::tempdir().expect("a temporary folder"), _service: None }
}

#[tokio::test]
async fn a_folder_conforms() {
    conforms(&folder()).await;
}

#[tokio::test]
async fn the_in_process_service_conforms() {
    conforms(&in_process(ServiceOptions { page_size: 3, ..ServiceOptions::default() })).await;
}

#[tokio::test]
async fn seaweedfs_conforms() {
    conforms(&real(services::seaweedfs()).await).await;
}

#[tokio::test]
async fn ministack_conforms() {
    conforms(&real(services::ministack()).await).await;
}

async fn conforms(subject: &Subject) {
    absent_things_are_absent(subject).await;
    creates_once(subject).await;
    uploads_small_and_large(subject).await;
    lists_in_byte_order(subject).await;
    writes_and_removes_only_below_its_prefix(subject).await;
}

async fn absent_things_are_absent(subject: &Subject) {
    let reader = &subject.reader;
    reader.check().await.expect("the bucket is there");
    assert_eq!(reader.read("nothing/here").await.expect("an answer"), None);
    assert_eq!(reader.head("nothing/here").await.expect("an answer"), None);
    assert_eq!(reader.hash("nothing/here").await.expect("an answer"), None);
    assert_eq!(list(subject, "nothing/").await, Vec::<String>::new());
    assert_eq!(reader.folders("nothing/").await.expect("an answer"), Vec::<String>::new());
    let writer = reader.writer("");
    writer.remover().remove(&["nothing/here".to_owned()]).await.expect("removing nothing is no error");
}

async fn creates_once(subject: &Subject) {
    let writer = subject.reader.writer("once/");
    let options = StoreOptions::default();
    assert!(writer.create("once/claim", "one".into(), &options).await.expect("an answer"));
    assert!(writer.create("once/claim", "one".into(), &options).await.expect("an answer"), "our own write is ours");
    assert!(!writer.create("once/claim", "two".into(), &options).await.expect("an answer"));
    assert_eq!(subject.reader.read("once/claim").await.expect("an answer").as_deref(), Some(&b"one"[..]));
}

async fn uploads_small_and_large(subject: &Subject) {
    let writer = subject.reader.writer("up/");
    for (name, size) in [("empty", 0), ("small", 1_000), ("large", 19 * 1024 * 1024 + 7)] {
        let content: Vec<u8> = (0..=250_u8).cycle().take(size).collect();
        let path = subject.scratch.path().join(name);
        std::fs::write(&path, &content).expect("room");
        let sha256 = nexus_core::listing::hex(&Sha256::digest(&content));
        let progress =
            Progress { events: &Events::none(), stage: Stage::UploadDatabase, sha256: &sha256, given: Given::Copied };
        let key = format!("up/{name}");
        let options = StoreOptions::default();
        assert!(writer.upload_new(&key, &path, &options, &progress).await.expect("an answer"), "{name}");
        let hash = subject.reader.hash(&key).await.expect("an answer").expect("it is there");
        assert_eq!((hash.bytes, &hash.sha256), (size as u64, &sha256), "{name}");
        let down = subject.scratch.path().join(format!("{name}.down"));
        subject.reader.download(&key, &down).await.expect("an answer").expect("it is there");
        assert!(std::fs::read(&down).expect("a file") == content, "{name} came back otherwise");

        let other = Progress { sha256: "another", ..progress };
        // What was stored is another file, whatever becomes of the first.
        std::fs::write(&path, "other").expect("room");
        let hash = subject.reader.hash(&key).await.expect("an answer").expect("it is there");
        assert_eq!(hash.sha256, sha256, "{name} changed with the file that it came from");
        assert!(!writer.upload_new(&key, &path, &options, &other).await.expect("an answer"), "{name} was overwritten");

        let given = Progress { given: Given::Away, ..progress };
        let (key, spare) = (format!("up/given-{name}"), subject.scratch.path().join(format!("{name}.spare")));
        std::fs::write(&spare, &content).expect("room");
        assert!(writer.upload_new(&key, &spare, &options, &given).await.expect("an answer"), "{name}");
        assert!(writer.upload_new(&key, &spare, &options, &given).await.expect("an answer"), "our own {name} is ours");
        std::fs::remove_file(&spare).expect("it was there");
        let hash = subject.reader.hash(&key).await.expect("an answer").expect("it is there");
        assert_eq!((hash.bytes, &hash.sha256), (size as u64, &sha256), "{name}");
        let other = Progress { sha256: "another", ..given };
        assert!(!writer.upload_new(&key, &path, &options, &other).await.expect("an answer"), "{name} was overwritten");
    }
}

async fn lists_in_byte_order(subject: &Subject) {
    let writer = subject.reader.writer("list/");
    let mut keys: Vec<String> = ["a!", "a/b", "a/b c", "a0", "a+b", "ä", "Z", "%41", "a'\"&<>", "日本", "deep/1/2/3"]
        .map(|key| format!("list/{key}"))
        .into();
    for key in &keys {
        assert!(writer.create(key, "x".into(), &StoreOptions::default()).await.expect("an answer"), "{key}");
    }
    keys.sort_by(|left, right| left.as_bytes().cmp(right.as_bytes()));
    assert_eq!(list(subject, "list/").await, keys);
    assert_eq!(list(subject, "list/a/").await, ["list/a/b", "list/a/b c"]);
    let mut folders = subject.reader.folders("list/").await.expect("an answer");
    folders.sort();
    assert_eq!(folders, ["a", "deep"]);
}

async fn writes_and_removes_only_below_its_prefix(subject: &Subject) {
    let writer = subject.reader.writer("mine/");
    let refused = writer.create("other/x", "x".into(), &StoreOptions::default()).await;
    assert!(matches!(refused, Err(Error::Usage { .. })));
    writer.create("mine/x", "x".into(), &StoreOptions::default()).await.expect("an answer");
    let remover = writer.remover();
    let keys = ["mine/x".to_owned(), "list/a0".to_owned()];
    assert!(matches!(remover.remove(&keys).await, Err(Error::Usage { .. })));
    assert!(subject.reader.head("mine/x").await.expect("an answer").is_some(), "nothing goes when one may not");
    remover.remove(&keys[..1]).await.expect("it may");
    assert!(subject.reader.head("mine/x").await.expect("an answer").is_none());
}

async fn list(subject: &Subject, prefix: &str) -> Vec<String> {
    let scratch: &Path = subject.scratch.path();
    let listed = subject.reader.list(prefix, scratch, &Events::none()).await.expect("a listing");
    listed
        .map(|object| object.expect("an object"))
        .filter(|object| !object.key.ends_with('/'))
        .map(|object| object.key)
        .collect()
}

#[tokio::test]
async fn awkward_keys_come_back_from_the_in_process_service() {
    let subject = in_process(ServiceOptions::default());
    let writer = subject.reader.writer("");
    let long = "k".repeat(1_024);
    let mut keys: Vec<&str> = vec![
        " ", "\n\n", "\u{2028}", "a ", " a", "+", "%", "%2F", "?", "a?b=c", "#", "a\nb", "a\tb", "\u{1}", "\u{7f}",
        ".", "..", "./a", "../a", "a/../b", "//", "a//b", "/lead", "a/", "a", "a/b", "é", "e\u{301}", "\\", "a\\b",
        "&amp;", "<x>", "'", "\"", "~", "*", "{}", "😀", &long,
    ];
    for key in &keys {
        assert!(writer.create(key, "x".into(), &StoreOptions::default()).await.expect("an answer"), "{key:?}");
    }
    keys.sort_by(|left, right| left.as_bytes().cmp(right.as_bytes()));
    let listed = subject.reader.list("", subject.scratch.path(), &Events::none()).await.expect("a listing");
    let listed: Vec<String> = listed.map(|object| object.expect("an object").key).collect();
    assert_eq!(listed, keys);
    let all: Vec<String> = keys.iter().map(ToString::to_string).collect();
    writer.remover().remove(&all).await.expect("all are removed");
    let left = subject.reader.list("", subject.scratch.path(), &Events::none()).await.expect("a listing");
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_service_that_repeats_its_pages_is_refused_and_not_followed_for_ever() {
    let quirks = nexus_sandbox::Quirks { repeat_token: true, ..Default::default() };
    let subject = in_process(ServiceOptions { quirks, page_size: 2, ..ServiceOptions::default() });
    for number in 0..9 {
        let key = format!("{number}");
        subject.reader.writer("").create(&key, "x".into(), &StoreOptions::default()).await.expect("an answer");
    }
    let listed = subject.reader.list("", subject.scratch.path(), &Events::none()).await;
    assert!(matches!(listed, Err(Error::Unsupported { .. })));
}
