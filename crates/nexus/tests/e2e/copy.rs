//! A copy of a point in another vault stands by itself: what it came from may burn.

use nexus_sandbox::{Fault, FaultAt, Service};
use nexus_testkit::bucket::delete_all;
use nexus_testkit::services::Endpoint;

use crate::app::{App, LIMIT, sandbox};
use crate::between::other_bucket;

/// A clinic with a point that reuses copies of an earlier one, and a bucket `offsite` on another service.
struct Clinic {
    service: Service,
    there: Service,
    endpoint: Endpoint,
    app: App,
    point: String,
}

async fn clinic() -> Clinic {
    let (service, endpoint) = sandbox();
    let (there, offsite) = sandbox();
    let app = App::clinic(endpoint).await;
    other_bucket(&offsite).await;
    app.back_up(&[]);
    app.put("images/c.jpg", b"a third picture").await;
    app.put("images/large.png", &vec![7; 9 * 1024 * 1024]).await;
    let point = app.back_up(&[]);
    Clinic { service, there, endpoint: offsite, app, point }
}

impl Clinic {
    fn words<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let words = ["copy", &self.point, "--to-vault", "s3://offsite/clinic", "--to-endpoint", &self.endpoint.url];
        words.into_iter().chain(more.iter().copied()).collect()
    }
}

#[tokio::test]
async fn a_copy_restores_everything_when_its_origin_is_gone() {
    let clinic = clinic().await;
    let app = &clinic.app;
    let before = app.state().await;
    let dry = app.run(&clinic.words(&["--dry-run", "--json"])).ends_with(0).json();
    assert_eq!((&dry["there"], clinic.there.store().count("offsite")), (&"absent".into(), 0));
    let told = app.run(&clinic.words(&["--json"])).ends_with(0).json();
    assert_eq!(told["proof"]["verdict"], "verified", "{told}");
    // Nothing of it lies under another point.
    let keys = clinic.there.store().keys("offsite", "clinic/");
    assert!(keys.iter().any(|key| key.ends_with("images/images/a.jpg")), "{keys:?}");
    let stray: Vec<_> = keys.iter().filter(|key| !key.contains(&clinic.point) && !key.contains("database/")).collect();
    assert_eq!(stray, ["clinic/vault.json"], "{keys:?}");
    app.wreck().await;
    // The vault dies with the bucket; whoever holds the printed command has it all back.
    delete_all(&app.client, &app.bucket).await;
    let command = told["restore"].as_str().expect("a command");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let flags = ["--config", "/dev/null", "--yes", "--delete-extra", "--no-safety-point"];
    app.run(&[&words[..], &flags].concat()).ends_with(0);
    let after = app.state().await;
    assert_eq!(after.database, before.database);
    let sizes =
        |objects: &crate::app::Objects| objects.iter().map(|(key, (size, _))| (key.clone(), *size)).collect::<Vec<_>>();
    // What the rules leave out was not backed up.
    let wanted: Vec<_> = sizes(&before.files).into_iter().filter(|(key, _)| !key.starts_with("tmp/")).collect();
    assert_eq!(sizes(&after.files), wanted);
}

#[tokio::test]
async fn a_copy_that_is_there_is_proven_again_and_another_point_in_its_place_is_never_touched() {
    let clinic = clinic().await;
    let app = &clinic.app;
    let told = app.run(&clinic.words(&[])).ends_with(0);
    assert!(told.out.contains("verified") && told.out.contains("nexus restore"), "{}", told.out);
    clinic.there.reset_counts();
    let again = app.run(&clinic.words(&["--json"])).ends_with(0).json();
    assert_eq!(again["there"], "whole", "{again}");
    assert_eq!(clinic.there.operations().get("UploadPart"), None, "{:?}", clinic.there.operations());
    let reach = ["--vault", "s3://offsite/clinic", "--endpoint", &clinic.endpoint.url];
    let shown = app.run(&[&["show", &clinic.point, "--json"][..], &reach].concat()).ends_with(0).json();
    assert_eq!(shown["manifest"]["copy_of"]["vault"], format!("s3://{}/backup", app.bucket), "{shown}");
    assert_eq!(shown["manifest"]["parts"]["files"]["reused"]["files"], 0, "{shown}");
    app.run(&[&["verify", &clinic.point, "--full"][..], &reach].concat()).ends_with(0);
    app.run(&[&["drill", &clinic.point][..], &reach].concat()).ends_with(0);
    // Damage there is told, and exits 1.
    let key = format!("clinic/{}/images/images/a.jpg", clinic.point);
    clinic.there.store().put("offsite", &key, "rotten").expect("a bucket");
    app.run(&clinic.words(&[])).ends_with(1);
    // A point of the same id that is none of ours.
    let other = App::clinic(app.endpoint.clone()).await;
    other.put("images/c.jpg", b"of another bucket").await;
    let second = other.back_up(&[]);
    let name = |id: &str| format!("clinic/{id}/manifest.json");
    let theirs = clinic.there.store().get("offsite", &name(&clinic.point)).expect("a manifest").body.clone();
    clinic.there.store().put("offsite", &name(&second), nexus_sandbox::NewObject::new(theirs)).expect("a bucket");
    let refused = other.run(&["copy", "--to-vault", "s3://offsite/clinic", "--to-endpoint", &clinic.endpoint.url]);
    refused.ends_with(2).says("holds another point");
    let wrong = [
        (format!("s3://{}/backup", app.bucket), "already"),
        (format!("s3://{}/second", app.bucket), "lies among the files"),
        ("s3://absent/nothing-here".to_owned(), "absent"),
    ];
    for (wrong, words) in wrong {
        app.run(&["copy", &clinic.point, "--to-vault", &wrong]).refuses(2, words);
    }
    assert!(
        app.client
            .list_objects_v2()
            .bucket(&app.bucket)
            .prefix("second")
            .send()
            .await
            .is_ok_and(|all| all.contents().is_empty())
    );
}

#[tokio::test]
async fn a_copy_into_a_folder_and_back_out_of_it_keeps_everything() {
    let clinic = clinic().await;
    let app = &clinic.app;
    let before = app.state().await;
    app.run(&["copy", "--to-vault", "disk", "--only", "database,files"]).ends_with(0);
    app.run(&["verify", "--vault", "disk", "--full"]).ends_with(0);
    // From the folder on into a bucket of another service: a copy of a copy is the same point.
    let on = ["copy", "--vault", "disk", "--to-vault", "s3://offsite/clinic", "--to-endpoint", &clinic.endpoint.url];
    app.run(&on).ends_with(0);
    app.wreck().await;
    let files = ["--files-endpoint", &app.endpoint.url];
    let reach = ["--vault", "s3://offsite/clinic", "--endpoint", &clinic.endpoint.url, "--delete-extra"];
    app.restore(&[&["latest"][..], &reach, &files].concat());
    let after = app.state().await;
    assert_eq!(after.database, before.database);
    for (key, (size, _)) in &before.files {
        assert_eq!(after.files.get(key).map(|(size, _)| *size), Some(*size), "{key}");
    }
}

#[tokio::test]
async fn a_copy_that_broke_off_is_gone_on_with_and_a_running_one_is_left_alone() {
    let clinic = clinic().await;
    let app = &clinic.app;
    clinic.there.inject(Fault::Stall, FaultAt::Operation { name: "PutObject".to_owned(), nth: 12 });
    let running = app.start(&clinic.words(&["--requests-in-flight", "1"]));
    let deadline = std::time::Instant::now() + LIMIT;
    while clinic.there.faults_fired() == 0 {
        assert!(std::time::Instant::now() < deadline, "it does not come so far");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    app.run(&clinic.words(&[])).ends_with(2).says("another run copies");
    running.kill();
    running.wait(LIMIT);
    clinic.there.clear_faults();
    let stored = clinic.there.store().keys("offsite", &format!("clinic/{}/", clinic.point));
    let copies =
        stored.iter().filter(|key| key.contains("/images/images/") || key.contains("/documents/documents/")).count();
    clinic.service.reset_counts();
    let told = app.run(&clinic.words(&["--json"])).ends_with(0).json();
    assert_eq!(told["there"], "begun", "{told}");
    let read = clinic
        .service
        .log()
        .iter()
        .filter(|line| line.starts_with("GET") && line.contains("images/images/a.jpg"))
        .count();
    assert!(copies == 0 || read <= 1, "{copies} copies were there");
    let reach = ["--vault", "s3://offsite/clinic", "--endpoint", &clinic.endpoint.url];
    app.run(&[&["verify", &clinic.point, "--full"][..], &reach].concat()).ends_with(0);
    // The point may be pruned again: nothing holds it.
    let journal = app.run(&["show", &clinic.point, "--json"]).ends_with(0).json().to_string();
    assert!(journal.contains("released"), "{journal}");
}

#[tokio::test]
async fn a_damaged_point_is_not_copied() {
    let clinic = clinic().await;
    let app = &clinic.app;
    let key = format!("backup/{}/images/images/c.jpg", clinic.point);
    app.put(&key, b"rotten").await;
    app.run(&clinic.words(&[])).ends_with(1).says("not whole where it lies");
    let keys = clinic.there.store().keys("offsite", "clinic/");
    assert_eq!(keys, ["clinic/vault.json"]);
}

/// The service says that nothing has changed; what it hands out is something else.
#[tokio::test]
async fn a_copy_whose_bytes_rotted_under_an_unchanged_etag_is_not_copied_as_if_it_were_whole() {
    let clinic = clinic().await;
    let key = format!("backup/{}/images/images/c.jpg", clinic.point);
    assert!(clinic.service.store().tamper(&clinic.app.bucket, &key, "a third pictuRe"));
    clinic.app.run(&clinic.words(&[])).ends_with(1).says("images/c.jpg").says("another checksum");
    let keys = clinic.there.store().keys("offsite", "clinic/");
    assert!(!keys.iter().any(|key| key.ends_with("manifest.json")), "{keys:?}");
}
