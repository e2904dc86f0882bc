//! Keys that other tools stumble over: there and back, none skipped, wherever the service itself can hold them.

use std::collections::{BTreeMap, BTreeSet};

use nexus_sandbox::{Fields, NewObject, Service};
use nexus_testkit::bucket::{all_objects, make_bucket, object};
use nexus_testkit::keys::awkward;
use nexus_testkit::services::{Endpoint, ministack, seaweedfs, unique_bucket};

use crate::app::{App, sandbox};

/// Objects as the service has them: content, headers, tags.
type Contents = BTreeMap<String, (Vec<u8>, Fields, BTreeMap<String, String>)>;

/// An application of files alone, all of them taken, whose vault lies in a bucket of its own.
async fn files_alone(endpoint: Endpoint) -> App {
    let app = App::bare(endpoint).await;
    let vault = unique_bucket("vault");
    make_bucket(&app.client, &vault).await;
    let source = &app.bucket;
    let text =
        format!("app = \"clinic\"\n[files]\nsource = \"s3://{source}\"\n[vault]\nurl = \"s3://{vault}/nexus\"\n");
    app.write("nexus.toml", &text);
    app
}

/// What is stored under a key: no two are alike.
fn told_by(key: &str) -> NewObject {
    NewObject::new(format!("content of {key:?}")).content_type("text/x-key").metadata("length", &key.len().to_string())
}

fn fill(service: &Service, bucket: &str, keys: &[String]) {
    for key in keys {
        service.store().put(bucket, key, told_by(key).tag("kind", "awkward")).expect("the bucket is there");
    }
}

fn contents(service: &Service, bucket: &str) -> Contents {
    let store = service.store();
    let keys = store.keys(bucket, "").into_iter();
    keys.map(|key| {
        let object = store.get(bucket, &key).expect("it was just listed");
        (key, (object.body.to_vec(), object.fields.clone(), object.tags.clone()))
    })
    .collect()
}

/// A third goes, a third is overwritten.
fn wreck(service: &Service, bucket: &str, keys: &[String]) {
    let store = service.store();
    for (at, key) in keys.iter().enumerate() {
        match at % 3 {
            0 => assert!(store.delete(bucket, key)),
            1 => store.put(bucket, key, NewObject::new("wrecked")).map(drop).expect("the bucket is there"),
            _ => {}
        }
    }
}

fn all_keys() -> Vec<String> {
    awkward().into_iter().map(|awkward| awkward.key).collect()
}

/// Makes a point that holds so many files and leaves none out.
fn back_up_all(app: &App, files: usize, more: &[&str]) -> String {
    let words: Vec<&str> = ["--only", "files"].iter().chain(more).copied().collect();
    let id = app.back_up(&words);
    let words: Vec<&str> = ["show", &id, "--json"].into_iter().chain(more.iter().copied()).collect();
    let shown = app.run(&words).ends_with(0).json();
    let part = &shown["manifest"]["parts"]["files"];
    assert_eq!((&part["total"]["files"], &part["excluded"]["files"]), (&files.into(), &0.into()), "{part}");
    assert_eq!(shown["manifest"]["findings"].as_array().map_or(0, Vec::len), 0, "{shown}");
    let words: Vec<&str> = ["verify", &id, "--full"].into_iter().chain(more.iter().copied()).collect();
    app.run(&words).ends_with(0);
    id
}

#[tokio::test]
async fn every_awkward_key_goes_there_and_back_on_the_in_process_service() {
    let (service, endpoint) = sandbox();
    let app = files_alone(endpoint).await;
    let keys = all_keys();
    fill(&service, &app.bucket, &keys);
    let before = contents(&service, &app.bucket);
    let id = back_up_all(&app, keys.len(), &[]);
    wreck(&service, &app.bucket, &keys);
    app.restore(&[&id]);
    same(&contents(&service, &app.bucket), &before);
    app.assert_no_litter();
}

#[track_caller]
fn same(now: &Contents, before: &Contents) {
    let differ: BTreeSet<&String> =
        now.keys().chain(before.keys()).filter(|key| now.get(*key) != before.get(*key)).collect();
    assert!(differ.is_empty(), "{} keys came back otherwise: {differ:?}", differ.len());
}

#[tokio::test]
async fn every_awkward_key_goes_into_a_folder_vault_and_back() {
    let (service, endpoint) = sandbox();
    let app = files_alone(endpoint).await;
    let keys = all_keys();
    fill(&service, &app.bucket, &keys);
    let before = contents(&service, &app.bucket);
    let id = back_up_all(&app, keys.len(), &["--vault", "vault"]);
    wreck(&service, &app.bucket, &keys);
    app.restore(&[&id, "--vault", "vault"]);
    same(&contents(&service, &app.bucket), &before);
}

#[tokio::test]
async fn awkward_keys_that_the_point_does_not_have_are_removed_and_no_others() {
    let (service, endpoint) = sandbox();
    let app = files_alone(endpoint).await;
    // A vault's descriptor would have all that lies beside it spared.
    let keys: Vec<String> = all_keys().into_iter().filter(|key| !key.ends_with("vault.json")).collect();
    let mut keys = keys.into_iter().enumerate();
    let (mut kept, mut extra) = (Vec::new(), Vec::new());
    keys.by_ref().for_each(|(at, key)| if at % 2 == 0 { kept.push(key) } else { extra.push(key) });
    fill(&service, &app.bucket, &kept);
    let before = contents(&service, &app.bucket);
    let id = back_up_all(&app, kept.len(), &[]);
    fill(&service, &app.bucket, &extra);
    let told = app.restore(&[&id, "--delete-extra"]);
    assert_eq!(told["files"]["removed"]["files"], extra.len(), "{told}");
    same(&contents(&service, &app.bucket), &before);
}

#[tokio::test]
async fn copies_under_awkward_keys_are_pruned_with_their_point_and_no_others() {
    let (service, endpoint) = sandbox();
    let app = files_alone(endpoint).await;
    let keys = all_keys();
    fill(&service, &app.bucket, &keys);
    back_up_all(&app, keys.len(), &[]);
    // A third stays as it is: those copies lie in the first point and are needed by the second.
    for (at, key) in keys.iter().enumerate().filter(|(at, _)| at % 3 != 2) {
        service.store().put(&app.bucket, key, NewObject::new(format!("second of {at}"))).expect("the bucket is there");
    }
    let before = contents(&service, &app.bucket);
    let second = back_up_all(&app, keys.len(), &[]);
    let told = app.run(&["prune", "--yes", "--json", "--keep-files", "1s", "--keep-last", "1"]).ends_with(0).json();
    assert_eq!(told["removed"].as_array().map(Vec::len), Some(1), "{told}");
    app.run(&["verify", &second, "--full"]).ends_with(0);
    let (store, vault) = (service.store(), vault_bucket(&service));
    let copies = store.keys(&vault, "").into_iter().filter(|key| is_copy(key)).count();
    assert_eq!(copies, keys.len(), "copies that nothing needs are left, or some are gone");
    wreck(&service, &app.bucket, &keys);
    app.restore(&[&second]);
    same(&contents(&service, &app.bucket), &before);
}

fn vault_bucket(service: &Service) -> String {
    let mut names = service.store().bucket_names().into_iter();
    names.find(|name| name.starts_with("vault-")).expect("the vault's bucket")
}

/// True for a copy of a file: anything below a category of a point.
fn is_copy(key: &str) -> bool {
    let rest = key.strip_prefix("nexus/").and_then(|rest| rest.split_once('/')).map_or("", |(_, rest)| rest);
    ["other/", "images/", "documents/"].iter().any(|category| rest.starts_with(category))
}

/// One in fifteen of the list: each is a run of the AWS command line.
#[tokio::test]
async fn the_script_brings_awkward_keys_back_with_stock_tools() {
    let (service, endpoint) = sandbox();
    let app = files_alone(endpoint).await;
    let keys: Vec<String> = all_keys().into_iter().step_by(15).collect();
    fill(&service, &app.bucket, &keys);
    let before = contents(&service, &app.bucket);
    let id = back_up_all(&app, keys.len(), &[]);
    wreck(&service, &app.bucket, &keys);
    app.write("restore-files.sh", include_str!("../../../nexus-core/src/files/restore-files.sh"));
    let vault = vault_bucket(&service);
    let script = format!("bash restore-files.sh s3://{vault}/nexus {id} s3://{}", app.bucket);
    let count = keys.len();
    assert_eq!(app.shell(&script).ends_with(0).out, format!("{count} of {count} files restored\n"));
    same(&contents(&service, &app.bucket), &before);
}

/// What a real service shows: the content under each listed key, where it can be read.
async fn shown(app: &App) -> BTreeMap<String, Vec<u8>> {
    let mut shown = BTreeMap::new();
    for key in all_objects(&app.client, &app.bucket).await.into_keys() {
        if app.client.head_object().bucket(&app.bucket).key(&key).send().await.is_ok() {
            let content = object(&app.client, &app.bucket, &key).await;
            shown.insert(key, content);
        }
    }
    shown
}

/// What the service takes is taken, and what it shows and reads comes back; what it shows and does not read is named.
async fn there_and_back_or_named(endpoint: Endpoint) -> (usize, Vec<String>) {
    let app = files_alone(endpoint).await;
    for key in all_keys() {
        // Blanks alone the SDK refuses before the service sees them.
        let put = app.client.put_object().bucket(&app.bucket).key(&key);
        let _ = put.body(format!("content of {key:?}").into_bytes().into()).send().await;
    }
    let listed = all_objects(&app.client, &app.bucket).await.len();
    let before = shown(&app).await;
    let told = app.run(&["backup", "--only", "files", "--allow-vanished", "--json"]).ends_with(0).json();
    let id = told["point"].as_str().expect("an id");
    let shown_point = app.run(&["show", id, "--json"]).ends_with(0).json();
    let findings = shown_point["manifest"]["findings"].as_array().cloned().unwrap_or_default();
    let named: Vec<String> = findings.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
    assert_eq!(shown_point["manifest"]["parts"]["files"]["total"]["files"], listed - named.len(), "{named:?}");
    app.run(&["verify", id, "--full"]).ends_with(0);
    for key in before.keys().filter(|key| key.len() % 2 == 0) {
        app.delete(key).await;
    }
    app.restore(&[id]);
    let after = shown(&app).await;
    let differ: Vec<&String> = before.keys().filter(|key| after.get(*key) != before.get(*key)).collect();
    let differ: Vec<_> = differ.into_iter().filter(|key| !named.contains(key)).collect();
    assert!(differ.is_empty(), "{} keys came back otherwise: {differ:?}", differ.len());
    (before.len(), named)
}

#[tokio::test]
async fn every_awkward_key_goes_there_and_back_on_ministack() {
    let (shown, named) = there_and_back_or_named(ministack()).await;
    let blank = awkward().iter().filter(|awkward| awkward.key.trim().is_empty()).count();
    assert_eq!((shown, named), (awkward().len() - blank, Vec::new()));
}

#[tokio::test]
async fn what_seaweedfs_makes_of_awkward_keys_goes_there_and_back_or_is_named() {
    let (shown, named) = there_and_back_or_named(seaweedfs()).await;
    assert!(shown > awkward().len() * 4 / 5 && named.len() < 10, "{shown} are shown, and named were {named:?}");
}
