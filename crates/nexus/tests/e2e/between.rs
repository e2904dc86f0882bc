//! Files on one service and the vault on another: everything goes through this machine, and nothing is lost on the way.

use nexus_sandbox::{Fault, FaultAt, NewObject, Service};
use nexus_testkit::bucket::{client, make_bucket};
use nexus_testkit::services::Endpoint;

use crate::app::{App, sandbox};

/// Larger than what goes in one request.
const LARGE: usize = 20 * 1024 * 1024 + 7;

/// A clinic whose files lie on one service and whose vault on another.
pub struct Apart {
    pub files: Service,
    pub vault: Service,
    pub app: App,
}

pub async fn apart() -> Apart {
    let (files, endpoint) = sandbox();
    let (vault, there) = sandbox();
    let app = App::clinic(endpoint).await;
    other_bucket(&there).await;
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a config");
    let text = text
        .replace("[files]\n", &format!("[files]\nendpoint = \"{}\"\n", app.endpoint.url))
        .replace(&format!("url = \"s3://{}/backup/\"", app.bucket), "url = \"s3://offsite/clinic\"");
    app.write("nexus.toml", &format!("{text}[s3]\nendpoint = \"{}\"\n", there.url));
    Apart { files, vault, app }
}

/// Makes the bucket `offsite` on another service.
pub async fn other_bucket(there: &Endpoint) {
    make_bucket(&client(there), "offsite").await;
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|at| u8::try_from((at / 1_000 + at) % 251).expect("it is below 251")).collect()
}

/// Content type, metadata and tags of an object, as the service has them.
fn properties(service: &Service, bucket: &str, key: &str) -> (nexus_sandbox::Fields, Vec<(String, String)>) {
    let object = service.store().get(bucket, key).unwrap_or_else(|| panic!("{key} is not there"));
    (object.fields.clone(), object.tags.clone().into_iter().collect())
}

#[tokio::test]
async fn files_and_vault_on_two_services_come_back_with_every_property() {
    let Apart { files, vault, app } = apart().await;
    let rich = |body: Vec<u8>| {
        let mut object =
            NewObject::new(body).content_type("image/x-rich").metadata("who", "Zo\u{eb}").tag("kind", "scan & more");
        object.fields.cache_control = Some("no-store".to_owned());
        object.fields.content_disposition = Some("attachment; filename=\"a b.jpg\"".to_owned());
        object.fields.content_language = Some("de".to_owned());
        object
    };
    files.store().put(&app.bucket, "images/rich.jpg", rich(b"a rich one".to_vec())).expect("a bucket");
    files.store().put(&app.bucket, "images/large.jpg", rich(large())).expect("a bucket");
    let before = app.state().await;
    let kept = |key| properties(&files, &app.bucket, key);
    let (rich_before, large_before) = (kept("images/rich.jpg"), kept("images/large.jpg"));
    let id = app.back_up(&[]);
    for key in ["images/rich.jpg", "images/large.jpg"] {
        assert_eq!(
            properties(&vault, "offsite", &format!("clinic/{id}/images/{key}")),
            kept(key),
            "{key} in the vault"
        );
    }
    let shown = app.run(&["show", "--json"]).ends_with(0).json();
    let proofs = &shown["manifest"]["parts"]["files"]["proofs"];
    assert_eq!(proofs["etag"], shown["manifest"]["parts"]["files"]["total"]["files"], "{proofs}");
    app.run(&["verify", "--full"]).ends_with(0);
    // Unchanged, nothing goes over the wire again.
    files.reset_counts();
    let second = app.back_up(&[]);
    assert_eq!(files.operations().get("GetObject"), None, "{:?}", files.operations());
    app.wreck().await;
    app.delete("images/rich.jpg").await;
    app.delete("images/large.jpg").await;
    app.restore(&[&second, "--delete-extra"]);
    assert_eq!(app.state().await.database, before.database);
    let (now, then) = (app.files().await, before.files);
    let sizes =
        |objects: &crate::app::Objects| objects.iter().map(|(key, (size, _))| (key.clone(), *size)).collect::<Vec<_>>();
    assert_eq!(sizes(&now), sizes(&then));
    assert_eq!((kept("images/rich.jpg"), kept("images/large.jpg")), (rich_before, large_before));
    assert_eq!(files.store().get(&app.bucket, "images/large.jpg").expect("it is there").body, large());
    app.assert_no_litter();
}

#[tokio::test]
async fn a_file_that_changes_between_its_listing_and_its_read_is_one_whole_version() {
    // The first read of a small file; of a large one a part in the middle.
    for (body, nth) in [(b"a picture".to_vec(), 1), (large(), 2)] {
        let Apart { files, app, vault: _vault } = apart().await;
        for key in app.files().await.into_keys() {
            app.delete(&key).await;
        }
        let (key, store) = ("images/one.jpg", files.store());
        store.put(&app.bucket, key, NewObject::new(body.clone())).expect("a bucket");
        let mut waiting = files.stop_at(FaultAt::Operation { name: "GetObject".to_owned(), nth });
        let running = app.start(&["backup", "--json"]);
        waiting.arrived().await;
        let newer: Vec<u8> = body.iter().map(|byte| byte ^ 1).collect();
        store.put(&app.bucket, key, NewObject::new(newer.clone())).expect("a bucket");
        drop(waiting);
        let output = running.wait(crate::app::LIMIT);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        app.run(&["verify", "--full"]).ends_with(0);
        app.delete(key).await;
        app.restore(&["latest", "--only", "files"]);
        assert_eq!(store.get(&app.bucket, key).expect("it is there").body, newer);
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_asked_for_again_and_no_upload_is_left_open() {
    let Apart { files, vault, app } = apart().await;
    files.store().put(&app.bucket, "images/large.jpg", NewObject::new(large())).expect("a bucket");
    let before = app.state().await;
    files.inject(Fault::CutBody, FaultAt::Operation { name: "GetObject".to_owned(), nth: 3 });
    vault.inject(Fault::Status503SlowDown, FaultAt::Operation { name: "UploadPart".to_owned(), nth: 2 });
    app.back_up(&[]);
    assert_eq!(vault.store().open_uploads("offsite"), 0);
    app.wreck().await;
    app.restore(&["latest", "--delete-extra"]);
    assert_eq!(app.state().await.database, before.database);
    // One that fails for good leaves nothing open either, and no point.
    let points = app.points();
    app.put("images/larger.jpg", &large()).await;
    vault.deny("UploadPart");
    app.run(&["backup"]).ends_with(2);
    assert_eq!((vault.store().open_uploads("offsite"), app.points()), (0, points));
}

#[tokio::test]
async fn what_reaches_the_files_is_part_of_every_printed_command() {
    let Apart { app, files: _files, vault: _vault } = apart().await;
    let told = app.run(&["backup"]).ends_with(0);
    let command = told.out.lines().find(|line| line.contains("nexus restore")).expect("a command").to_owned();
    assert!(command.contains(&format!("--files-endpoint {}", app.endpoint.url)), "{command}");
    // A machine that has the vault alone is told which flag is missing.
    let bare = ["restore", "latest", "--yes", "--config", "/dev/null", "--vault", "s3://offsite/clinic"];
    let endpoint = command.split_once("--endpoint ").expect("an endpoint").1.split(' ').next().expect("a URL");
    let refused = app.run(&[&bare[..], &["--endpoint", endpoint]].concat());
    refused.refuses(2, "talks to another service").says(&format!("--files-endpoint {}", app.endpoint.url));
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused_and_those_that_do_are_kept_to() {
    let Apart { app, files: _files, vault: _vault } = apart().await;
    for flags in [["--bandwidth", "0"], ["--bandwidth", "20MB"], ["--requests-in-flight", "0"]] {
        app.run(&["backup", flags[0], flags[1]]).ends_with(2);
    }
    assert!(app.points_if_any().is_empty());
    app.back_up(&["--bandwidth", "50M", "--requests-in-flight", "1"]);
    app.run(&["verify", "--full"]).ends_with(0);
}

#[tokio::test]
async fn a_service_that_the_profile_names_for_s3_alone_is_the_one_that_is_used() {
    let (_service, endpoint) = sandbox();
    let mut app = App::clinic(endpoint.clone()).await;
    app.unset("AWS_ENDPOINT_URL_S3");
    // Where the host has a name, the client would put the bucket's before it, as Amazon has it.
    let url = endpoint.url.replace("127.0.0.1", "localhost");
    app.write("aws", &format!("[profile here]\nservices = ours\n[services ours]\ns3 =\n  endpoint_url = {url}\n"));
    let config = app.path("aws").to_str().expect("a plain path").to_owned();
    app.set("AWS_CONFIG_FILE", &config);
    app.set("AWS_PROFILE", "here");
    app.run(&["backup"]).ends_with(0);
    app.run(&["verify", "latest"]).ends_with(0);
}
