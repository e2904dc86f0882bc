//! Points without copies: the files are versions that their bucket keeps, and come back from there.

use std::time::Duration;

use nexus_sandbox::{NewObject, Service, Versioning};
use nexus_testkit::bucket::all_objects;
use serde_json::Value;

use crate::app::{App, Objects, VAULT, sandbox};

/// What is written within two seconds of the instant is named as unsure.
const SURE: Duration = Duration::from_millis(3_200);
/// Larger than the script's limit for one copy request here.
const LARGE: usize = 6 * 1024 * 1024;

/// A clinic whose bucket keeps versions, with a point of them.
async fn clinic() -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    service.store().set_versioning(&app.bucket, Versioning::Enabled).expect("a bucket");
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a config");
    app.write("nexus.toml", &text.replace("exclude =", "copies = \"versions\"\nexclude ="));
    let rich = NewObject::new("a rich one").content_type("image/x-rich").metadata("who", "me").tag("kind", "scan");
    service.store().put(&app.bucket, "images/rich.jpg", rich).expect("a bucket");
    service.store().put(&app.bucket, "images/large.jpg", NewObject::new(vec![5; LARGE])).expect("a bucket");
    std::thread::sleep(SURE);
    (service, app)
}

/// What the first entry of a point's journal says.
fn first_proof(service: &Service, app: &App, id: &str) -> Value {
    let journal = format!("{VAULT}{id}/journal/");
    let key = service.store().keys(&app.bucket, &journal).into_iter().next().expect("an entry");
    let bytes = service.store().get(&app.bucket, &key).expect("it is there");
    serde_json::from_slice(&bytes.body).expect("JSON")
}

fn sizes(objects: &Objects) -> Vec<(String, u64)> {
    objects.iter().map(|(key, (size, _))| (key.clone(), *size)).collect()
}

/// Overwrites, overwrites twice, removes, removes twice, and adds.
async fn wreck(app: &App) {
    app.wreck().await;
    wreck_files(app).await;
}

async fn wreck_files(app: &App) {
    app.put("images/b.JPG", b"once").await;
    app.put("images/b.JPG", b"twice").await;
    app.delete("images/rich.jpg").await;
    app.delete("documents/Änderung & more.docx").await;
    app.delete("documents/Änderung & more.docx").await;
    app.put("images/large.jpg", b"small").await;
    app.delete("images/large.jpg").await;
}

#[tokio::test]
async fn a_point_of_versions_copies_nothing_and_brings_everything_back() {
    let (service, app) = clinic().await;
    let before = app.state().await;
    service.reset_counts();
    let id = app.back_up(&[]);
    assert_eq!(service.operations().get("CopyObject"), None, "{:?}", service.operations());
    let shown = app.run(&["show", "--json"]).ends_with(0).json();
    let files = &shown["manifest"]["parts"]["files"];
    assert_eq!((&files["copies"], &files["copied"]["files"]), (&Value::from("versions"), &Value::from(0)), "{files}");
    assert_eq!(files["proofs"]["version"], files["total"]["files"], "{files}");
    // The proof that a backup ends with has looked at every version, too.
    let proof = first_proof(&service, &app, &id);
    assert_eq!((&proof["verdict"], &proof["files"]), (&Value::from("verified"), &files["total"]["files"]), "{proof}");
    assert_eq!(shown["manifest"]["findings"], Value::Null, "{shown}");
    assert!(app.run(&["show"]).ends_with(0).out.contains("needs that bucket"));
    wreck(&app).await;
    app.run(&["verify", &id, "--full"]).ends_with(0);
    app.run(&["drill", &id, "--files", "all"]).ends_with(0);
    service.reset_counts();
    app.restore(&[&id, "--delete-extra"]);
    let after = app.state().await;
    assert_eq!((after.database, sizes(&after.files)), (before.database, sizes(&before.files)));
    // What only a marker hid is uncovered, not copied: the very version of then, with all that belongs to it.
    let rich = service.store().get(&app.bucket, "images/rich.jpg").expect("it is back");
    assert_eq!((rich.fields.content_type.as_deref(), rich.tags.len()), (Some("image/x-rich"), 1));
    assert_eq!(service.operations()["CopyObject"], 3, "{:?}", service.operations());
    // Again, nothing is to be done.
    let again = app.run(&["restore", &id, "--only", "files", "--dry-run", "--json"]).ends_with(0).json();
    assert_eq!(
        (&again["files"]["missing"]["files"], &again["files"]["different"]["files"]),
        (&0.into(), &0.into()),
        "{again}"
    );
    app.run(&["prune", "--yes"]).ends_with(0);
    app.run(&["verify", &id]).ends_with(0);
    let manifest = app.run(&["show", &id, "--batch-manifest"]).ends_with(0).out;
    let lines: Vec<Vec<&str>> = manifest.lines().map(|line| line.split(',').collect()).collect();
    assert!(lines.len() == 8 && lines.iter().all(|line| line.len() == 3 && line[0] == app.bucket), "{manifest}");
    assert!(lines.iter().any(|line| line[1] == "documents/2024/report%20%2B1%20%28copy%29.pdf"), "{manifest}");
}

#[tokio::test]
async fn a_point_of_versions_that_is_pinned_is_copied_first() {
    let (service, app) = clinic().await;
    let before = app.state().await;
    let id = app.back_up(&[]);
    wreck(&app).await;
    let told = app.run(&["pin", &id, "--reason", "the audit", "--json"]).ends_with(0).says("it was copied").json();
    let copy = told["point"].as_str().expect("an id").to_owned();
    assert_ne!(copy, id);
    let shown = app.run(&["show", &copy, "--json"]).ends_with(0).json();
    assert_eq!(
        (&shown["pinned"], &shown["manifest"]["parts"]["files"]["copies"]),
        (&"the audit".into(), &"full".into()),
        "{shown}"
    );
    // No version is needed any more.
    for key in before.files.keys() {
        for version in service.store().versions(&app.bucket, key) {
            service.store().remove_version(&app.bucket, key, &version.id);
        }
    }
    app.run(&["verify", &copy, "--full"]).ends_with(0);
    app.restore(&[&copy, "--delete-extra", "--no-safety-point"]);
    let wanted: Vec<_> = sizes(&before.files).into_iter().filter(|(key, _)| !key.starts_with("tmp/")).collect();
    assert_eq!((app.state().await.database, sizes(&app.files().await)), (before.database, wanted));
}

#[tokio::test]
async fn the_script_brings_versions_back_with_stock_tools_alone() {
    let (service, app) = clinic().await;
    let before = app.state().await;
    let id = app.back_up(&[]);
    wreck(&app).await;
    let (bucket, url) = (&app.bucket, &app.endpoint.url);
    let script =
        format!("aws --endpoint-url {url} s3 cp --only-show-errors s3://{bucket}/backup/{id}/restore-files.sh .");
    app.shell(&script).ends_with(0);
    for limit in ["5368709120", "1000000"] {
        let restore = format!("COPY_LIMIT={limit} bash restore-files.sh s3://{bucket}/backup {id} s3://{bucket}");
        let done = app.shell(&restore).ends_with(0);
        assert!(done.out.contains("files restored"), "{}", done.out);
        let after = app.files().await;
        for (key, size) in sizes(&before.files).into_iter().filter(|(key, _)| !key.starts_with("tmp/")) {
            assert_eq!(after.get(&key).map(|(size, _)| *size), Some(size), "{key} with {limit}");
        }
        wreck_files(&app).await;
    }
    let into = format!("bash restore-files.sh s3://{bucket}/backup {id} here");
    app.shell(&into).ends_with(0);
    assert_eq!(std::fs::read(app.path("here/images/a.jpg")).expect("a file"), b"a picture");
    assert_eq!(std::fs::read(app.path("here/images/large.jpg")).expect("a file"), vec![5; LARGE]);
    drop(service);
}

#[tokio::test]
async fn a_version_that_is_gone_is_found_and_stops_a_restore_before_its_first_write() {
    let (service, app) = clinic().await;
    let id = app.back_up(&[]);
    app.put("images/a.jpg", b"newer").await;
    let versions = service.store().versions(&app.bucket, "images/a.jpg");
    assert_eq!(versions.len(), 2);
    let oldest = app.shell(&format!(
        "aws --endpoint-url {0} s3api list-object-versions --bucket {1} --prefix images/a.jpg \
         --query 'Versions[1].VersionId' --output text | xargs -I VERSION aws --endpoint-url {0} s3api delete-object \
         --bucket {1} --key images/a.jpg --version-id VERSION",
        app.endpoint.url, app.bucket
    ));
    oldest.ends_with(0);
    let found = app.run(&["verify", &id]).ends_with(1);
    assert!(found.out.contains("images/a.jpg") && found.out.contains("is not in s3://"), "{}", found.out);
    let before = app.state().await;
    app.run(&["restore", &id, "--yes"]).ends_with(1);
    assert_eq!(app.state().await, before);
}

#[tokio::test]
async fn a_point_of_versions_is_refused_where_it_would_not_last() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let refused = |what: &str| app.run(&["backup", "--copies", "versions"]).refuses(2, what);
    refused("the bucket keeps none");
    service.store().set_versioning(&app.bucket, Versioning::Enabled).expect("a bucket");
    let rule = r#"{"Rules":[{"ID":"old","Status":"Enabled","Filter":{"Prefix":""},"NoncurrentVersionExpiration":{"NoncurrentDays":3}}]}"#;
    let put = format!(
        "aws --endpoint-url {} s3api put-bucket-lifecycle-configuration --bucket {} --lifecycle-configuration '{rule}'",
        app.endpoint.url, app.bucket
    );
    app.shell(&put).ends_with(0);
    refused("removes versions 3 days after");
    app.configure("[retention]\nfiles = \"2d\"\n");
    app.back_up(&["--copies", "versions"]);
    service.deny("GetBucketLifecycleConfiguration");
    refused("s3:GetLifecycleConfiguration");
    service.allow_all();
    service.store().set_versioning(&app.bucket, Versioning::Suspended).expect("a bucket");
    refused("suspended");
    let folder = app.path("media");
    std::fs::create_dir(&folder).expect("room on the disk");
    let files = folder.display().to_string();
    app.run(&["backup", "--copies", "versions", "--files", &files]).refuses(2, "neither a folder");
}

#[tokio::test]
async fn a_copy_of_a_point_of_versions_holds_its_files_by_itself() {
    let (service, app) = clinic().await;
    let before = app.state().await;
    app.back_up(&[]);
    wreck(&app).await;
    app.run(&["copy", "--to-vault", "disk"]).ends_with(0);
    let key = app.path("nexus.toml");
    let text = std::fs::read_to_string(&key).expect("a config");
    app.write("other.toml", &text.replace(&format!("url = \"s3://{}/backup/\"", app.bucket), "url = \"disk\""));
    // Every version of every file burns.
    let bucket = app.bucket.clone();
    for object in all_objects(&app.client, &bucket).await.into_keys() {
        app.delete(&object).await;
    }
    app.restore(&["latest", "--config", "other.toml", "--delete-extra", "--no-safety-point"]);
    let after = app.state().await;
    let wanted: Vec<_> = sizes(&before.files).into_iter().filter(|(key, _)| !key.starts_with("tmp/")).collect();
    assert_eq!((after.database, sizes(&after.files)), (before.database, wanted));
    drop(service);
}

#[tokio::test]
async fn copies_of_a_bucket_that_keeps_versions_are_of_the_instant_too() {
    let (service, app) = clinic().await;
    let before = app.files().await;
    // It stands still between the instant and the listing, and the bucket does not.
    let mut waiting =
        service.stop_at(nexus_sandbox::FaultAt::Operation { name: "ListObjectVersions".to_owned(), nth: 1 });
    let running = app.start(&["backup", "--copies", "incremental", "--json"]);
    waiting.arrived().await;
    std::thread::sleep(SURE);
    app.put("images/a.jpg", b"later").await;
    app.delete("images/rich.jpg").await;
    app.put("images/new.jpg", b"new").await;
    drop(waiting);
    let output = running.wait(crate::app::LIMIT);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = app.run(&["show", "--json"]).ends_with(0).json();
    assert_eq!(shown["manifest"]["parts"]["files"]["copies"], "incremental", "{shown}");
    app.restore(&["latest", "--only", "files", "--delete-extra"]);
    assert_eq!(sizes(&app.files().await), sizes(&before));
    assert_eq!(service.store().get(&app.bucket, "images/a.jpg").expect("it is there").body, "a picture");
}
