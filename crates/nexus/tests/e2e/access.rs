//! Who may read an object, and where a website sends those who ask for it: kept and given back where that is configured.

use aws_sdk_s3::types::ObjectCannedAcl;
use nexus_sandbox::{Acl, Ownership, Personality, Service, ServiceOptions};
use nexus_testkit::bucket::make_bucket;

use crate::app::{App, sandbox};

const OPEN: &str = "images/open.jpg";
const SENT_ON: &str = "images/moved.jpg";

/// A clinic whose bucket takes lists, with an object that everybody may read and one that a website sends on.
async fn clinic() -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    service.store().set_ownership(&app.bucket, Ownership::Writer).expect("a bucket");
    open(&app, OPEN).await;
    let sent_on = app.client.put_object().bucket(&app.bucket).key(SENT_ON).website_redirect_location("/new/place.jpg");
    let sent_on = sent_on.cache_control("no-store").metadata("ward", "3").body(b"moved".to_vec().into());
    sent_on.send().await.expect("room in the bucket");
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    app.write("nexus.toml", &text.replace("[files]\n", "[files]\nproperties = \"all\"\n"));
    (service, app)
}

async fn open(app: &App, key: &str) {
    let put = app.client.put_object().bucket(&app.bucket).key(key).body(b"for everybody".to_vec().into());
    put.acl(ObjectCannedAcl::PublicRead).send().await.expect("room in the bucket");
}

/// Who may read an object, and where it leads.
fn access(service: &Service, bucket: &str, key: &str) -> (Acl, Option<String>) {
    let object = service.store().get(bucket, key).unwrap_or_else(|| panic!("{key} is not in {bucket}"));
    (object.acl.clone(), object.fields.website_redirect.clone())
}

#[tokio::test]
async fn who_may_read_an_object_and_where_it_leads_come_back_and_no_copy_is_open_to_anybody() {
    let (service, app) = clinic().await;
    let before = [access(&service, &app.bucket, OPEN), access(&service, &app.bucket, SENT_ON)];
    assert_ne!(before[0].0, Acl::default());
    let id = app.back_up(&[]);
    let shown = app.run(&["show", "--json"]).ends_with(0).json();
    let kept = &shown["manifest"]["parts"]["files"]["properties"];
    for name in ["acl", "website redirect"] {
        assert!(kept.as_array().expect("a list").iter().any(|kept| kept == name), "{kept}");
    }
    for key in [OPEN, SENT_ON] {
        assert_eq!(
            access(&service, &app.bucket, &format!("backup/{id}/images/{key}")),
            (Acl::default(), None),
            "{key}"
        );
    }
    // One is gone; of the other the bytes are the same, and nobody may read it any more.
    app.delete(SENT_ON).await;
    let shut = app.client.put_object_acl().bucket(&app.bucket).key(OPEN).acl(ObjectCannedAcl::Private);
    shut.send().await.expect("the list is taken");
    app.restore(&["latest", "--only", "files"]);
    assert_eq!([access(&service, &app.bucket, OPEN), access(&service, &app.bucket, SENT_ON)], before);
    let back = service.store().get(&app.bucket, SENT_ON).expect("it is back");
    assert_eq!(back.fields.cache_control.as_deref(), Some("no-store"));
    // What was closed when the point was made is closed again.
    let wide = app.client.put_object_acl().bucket(&app.bucket).key(SENT_ON).acl(ObjectCannedAcl::PublicRead);
    wide.send().await.expect("the list is taken");
    app.restore(&["latest", "--only", "files"]);
    assert_eq!(access(&service, &app.bucket, SENT_ON), before[1]);
}

#[tokio::test]
async fn a_list_that_changed_alone_is_in_the_next_point_and_in_a_copy_of_it() {
    let (service, app) = clinic().await;
    let first = app.back_up(&[]);
    let before = access(&service, &app.bucket, OPEN);
    let shut = app.client.put_object_acl().bucket(&app.bucket).key(OPEN).acl(ObjectCannedAcl::Private);
    shut.send().await.expect("the list is taken");
    let second = app.back_up(&[]);
    make_bucket(&app.client, "offsite").await;
    app.run(&["copy", &first, "--to-vault", "s3://offsite/clinic"]).ends_with(0);
    for (words, wanted) in [
        (vec![first.as_str()], before.0.clone()),
        (vec![second.as_str()], Acl::default()),
        (vec![first.as_str(), "--vault", "s3://offsite/clinic"], before.0.clone()),
    ] {
        app.restore(&[&words[..], &["--only", "files"]].concat());
        assert_eq!(access(&service, &app.bucket, OPEN).0, wanted, "{words:?}");
    }
    // A point that was made without is restored without, and takes no list away.
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    app.write("nexus.toml", &text.replace("properties = \"all\"", "properties = \"copied\""));
    app.back_up(&[]);
    app.restore(&["latest", "--only", "files"]);
    assert_eq!(access(&service, &app.bucket, OPEN), before);
}

#[tokio::test]
async fn what_cannot_be_kept_or_given_back_is_refused_by_name() {
    let (service, app) = clinic().await;
    app.back_up(&[]);
    // A bucket that takes no lists, as all have been made since 2023.
    make_bucket(&app.client, "closed").await;
    let refused = app.run(&["restore", "latest", "--only", "files", "--to-files", "s3://closed", "--yes"]);
    refused.ends_with(2).says(OPEN).says("takes no access control lists");
    assert_eq!(access(&service, "closed", OPEN).0, Acl::default());
    // One that says yes to a redirect and keeps none, as SeaweedFS does.
    let there = Service::start(ServiceOptions::like(Personality::SeaweedFs)).expect("a free port");
    assert!(there.store().create_bucket("offsite"));
    there.store().set_ownership("offsite", Ownership::Writer).expect("a bucket");
    let to = ["--to-files", "s3://offsite", "--files-endpoint", there.endpoint(), "--yes"];
    let refused = app.run(&[&["restore", "latest", "--only", "files"][..], &to].concat());
    refused.ends_with(2).says(SENT_ON).says("does not keep it");
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    app.write("nexus.toml", &text.replace("properties = \"all\"", "properties = \"some\""));
    app.run(&["backup"]).ends_with(2).says("\"copied\" or \"all\"");
    std::fs::create_dir(app.path("media")).expect("room");
    app.write("nexus.toml", &text);
    app.run(&["backup", "--files", "media"]).ends_with(2).says("is a folder");
}
