//! Every service that is known, as far as it is known: the whole job on it passes, or is refused with the reason and the way out.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, StorageClass};
use nexus_sandbox::{
    DefaultRetention, Fault, FaultAt, Fields, NewObject, Period, Personality, RetentionMode, Service, ServiceOptions,
    Versioning,
};
use nexus_testkit::bucket::{client, make_bucket, object};
use nexus_testkit::services::Endpoint;

use crate::app::{App, sandbox};

/// Larger than what goes in one request, in two parts.
const LARGE: usize = 9 * 1024 * 1024 + 7;
const LARGE_KEY: &str = "images/large.png";
const RICH_KEY: &str = "images/rich & more.jpg";
const COLD_KEY: &str = "documents/cold.pdf";
/// What makes all over that is not kept for its number.
const SECONDS: [&str; 8] = ["--keep-files", "1s", "--keep-database", "1s", "--keep-records", "1s", "--keep-last", "1"];

fn like(personality: Personality) -> (Service, Endpoint) {
    let options = ServiceOptions::like(personality);
    let service = Service::start(options.clone()).expect("a free port");
    let url = service.endpoint().to_owned();
    (service, Endpoint { url, access_key: options.access_key, secret_key: options.secret_key })
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|at| u8::try_from((at / 1_000 + at) % 251).expect("it is below 251")).collect()
}

/// A clinic with an object of every property, one that was sent in parts, and one of another class.
async fn clinic(endpoint: Endpoint) -> App {
    let app = App::clinic(endpoint).await;
    let put = app.client.put_object().bucket(&app.bucket).key(RICH_KEY).body(ByteStream::from_static(b"a rich one"));
    let put = put.content_type("image/x-rich").cache_control("no-store").content_language("de");
    let put = put.content_disposition("attachment; filename=\"a b.jpg\"").metadata("who", "=?utf-8?q?Zo=C3=AB?=");
    put.send().await.expect("the service takes metadata");
    let put = app.client.put_object().bucket(&app.bucket).key(COLD_KEY).body(ByteStream::from_static(b"a cold one"));
    put.storage_class(StorageClass::StandardIa).send().await.expect("the service takes a class");
    upload_large(&app).await;
    app
}

async fn upload_large(app: &App) {
    let (client, bucket) = (&app.client, &app.bucket);
    let begun = client.create_multipart_upload().bucket(bucket).key(LARGE_KEY).content_type("image/png");
    let begun = begun.metadata("ward", "3").send().await.expect("an upload");
    let id = begun.upload_id().expect("its id");
    let (mut parts, body) = (Vec::new(), large());
    for (number, part) in (1..).zip(body.chunks(5 << 20)) {
        let sent = client.upload_part().bucket(bucket).key(LARGE_KEY).upload_id(id).part_number(number);
        let sent = sent.body(ByteStream::from(part.to_vec())).send().await.expect("a part");
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag().map(str::to_owned)).build());
    }
    let list = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let done = client.complete_multipart_upload().bucket(bucket).key(LARGE_KEY).upload_id(id).multipart_upload(list);
    done.send().await.expect("an object");
}

/// Content and properties of the files.
async fn content(service: &Service, app: &App) -> BTreeMap<String, (Vec<u8>, Fields, Vec<(String, String)>, String)> {
    let mut all = BTreeMap::new();
    for key in app.files().await.into_keys().filter(|key| !key.starts_with("tmp/")) {
        let there = service.store().get(&app.bucket, &key).expect("it is listed");
        let tags = there.tags.clone().into_iter().collect();
        let body = object(&app.client, &app.bucket, &key).await;
        all.insert(key, (body, there.fields.clone(), tags, there.storage_class.clone()));
    }
    all
}

/// Looks, backs up twice, proves, wrecks, restores, prunes; all is as it was.
async fn goes_all_the_way(files: &Service, app: &App) {
    let (before, database) = (content(files, app).await, app.state().await.database);
    let seen = app.run(&["doctor"]);
    let seen = seen.ends_with(0);
    assert!(seen.out.contains("Fit for a backup"), "{}", seen.out);
    let first = app.back_up(&[]);
    app.put("documents/new.pdf", b"a new one").await;
    app.back_up(&[]);
    app.delete("documents/new.pdf").await;
    app.run(&["verify", "--full"]).ends_with(0);
    app.wreck().await;
    app.delete(LARGE_KEY).await;
    app.delete(RICH_KEY).await;
    app.delete(COLD_KEY).await;
    app.restore(&[&first, "--delete-extra", "--no-safety-point"]);
    let after = content(files, app).await;
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (key, (body, fields, tags, class)) in &before {
        let (now, properties) = (&after[key], (fields, tags, class));
        assert!(now.0 == *body, "{key} has other bytes");
        assert_eq!((&now.1, &now.2, &now.3), properties, "{key}");
    }
    assert_eq!(app.state().await.database, database);
    let words: Vec<&str> = ["prune", "--yes", "--json"].iter().chain(&SECONDS).copied().collect();
    let told = app.run(&words).ends_with(0).json();
    assert_eq!(told["removed"].as_array().map(Vec::len), Some(1), "{told}");
    app.run(&["verify", "--full"]).ends_with(0);
    app.assert_no_litter();
}

/// Replaces a text of the configuration.
fn set(app: &App, from: &str, to: &str) {
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    assert!(text.contains(from), "{text}");
    app.write("nexus.toml", &text.replace(from, to));
}

async fn together(personality: Personality) {
    let (service, endpoint) = like(personality);
    let app = clinic(endpoint).await;
    without_encryption_if_there_is_none(personality, &app);
    goes_all_the_way(&service, &app).await;
}

/// A `SeaweedFS` without a key fails every request for encryption: it is said what to set, and that is what helps.
fn without_encryption_if_there_is_none(personality: Personality, app: &App) {
    if personality != Personality::SeaweedFs {
        return;
    }
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    let apart = text.contains("[s3]\n");
    app.write(
        "nexus.toml",
        &if apart { text.replace("[s3]\n", "[s3]\nattempts = 2\n") } else { format!("{text}[s3]\nattempts = 2\n") },
    );
    let seen = app.run(&["doctor"]).ends_with(1);
    assert!(seen.out.contains("cannot do AES256") && seen.out.contains("encryption = \"none\""), "{}", seen.out);
    app.run(&["backup"]).refuses(2, "encryption = \"none\"");
    set(app, "[vault]\n", "[vault]\nencryption = \"none\"\n");
}

/// Files on Amazon S3 and the vault there.
async fn vault_there(personality: Personality) -> (Service, Service, App) {
    let (files, endpoint) = sandbox();
    let (vault, there) = like(personality);
    let app = clinic(endpoint).await;
    make_bucket(&client(&there), "offsite").await;
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a config");
    let text = text
        .replace("[files]\n", &format!("[files]\nendpoint = \"{}\"\n", app.endpoint.url))
        .replace(&format!("url = \"s3://{}/backup/\"", app.bucket), "url = \"s3://offsite/clinic\"");
    app.write("nexus.toml", &format!("{text}[s3]\nendpoint = \"{}\"\n", there.url));
    (files, vault, app)
}

async fn apart(personality: Personality) {
    let (files, vault, app) = vault_there(personality).await;
    without_encryption_if_there_is_none(personality, &app);
    if personality == Personality::SeaweedFs {
        // The real one keeps what is sent in RFC 2047, as this source sends it, and the one in this process does not.
        files
            .store()
            .put(
                &app.bucket,
                RICH_KEY,
                NewObject::new("a rich one").content_type("image/x-rich").metadata("who", "Zoe"),
            )
            .expect("a bucket");
    }
    goes_all_the_way(&files, &app).await;
    // Google Cloud Storage refuses it.
    assert!(!vault.log().iter().any(|line| line.contains("x-id=")), "an operation is named in an address");
}

macro_rules! each {
    ($($name:ident: $personality:ident,)*) => {
        mod files_and_vault_come_back_from {
            $(#[tokio::test] async fn $name() { super::together(super::Personality::$personality).await; })*
        }
        mod files_come_back_from_a_vault_on {
            $(#[tokio::test] async fn $name() { super::apart(super::Personality::$personality).await; })*
        }
    };
}

each! {
    aws: Aws,
    r2: R2,
    b2: B2,
    minio: MinIo,
    seaweedfs: SeaweedFs,
    garage: Garage,
    ceph: Ceph,
    wasabi: Wasabi,
    gcs: Gcs,
}

fn tagged(files: &Service, app: &App) {
    let object = NewObject::new("a tagged one").tag("patient", "7").tag("kind", "scan & more");
    files.store().put(&app.bucket, "images/tagged.jpg", object).expect("a bucket");
}

/// A vault that cannot keep tags takes no file that has some: a copy without them would pass for whole.
#[tokio::test]
async fn a_file_with_tags_is_refused_by_name_where_the_vault_keeps_none_and_doctor_says_so_before() {
    for personality in [Personality::R2, Personality::B2, Personality::Garage] {
        let (files, _vault, app) = vault_there(personality).await;
        tagged(&files, &app);
        let seen = app.run(&["doctor"]).ends_with(0);
        assert!(seen.out.contains("a file that has tags is refused"), "{}", seen.out);
        let refused = app.run(&["backup"]).ends_with(2);
        for words in ["images/tagged.jpg", "2 tags", "kind, patient", "docs/services.md"] {
            assert!(refused.err.contains(words), "{words:?} is not in:\n{}", refused.err);
        }
        set(&app, "exclude = [\"tmp/**\"]", "exclude = [\"tmp/**\", \"images/tagged.jpg\"]");
        app.back_up(&[]);
    }
}

#[tokio::test]
async fn tags_come_along_where_the_vault_keeps_them() {
    for personality in [Personality::Ceph, Personality::MinIo, Personality::Wasabi] {
        let (files, vault, app) = vault_there(personality).await;
        tagged(&files, &app);
        let id = app.back_up(&[]);
        let copy = vault.store().get("offsite", &format!("clinic/{id}/images/images/tagged.jpg")).expect("a copy");
        assert_eq!(copy.tags.len(), 2);
        app.delete("images/tagged.jpg").await;
        app.restore(&["latest", "--only", "files"]);
        assert_eq!(files.store().get(&app.bucket, "images/tagged.jpg").expect("it is there").tags, copy.tags);
    }
}

/// A restore that was refused leaves an object behind that has all but the tags: the next run must not take it for restored.
#[tokio::test]
async fn an_object_whose_tags_were_dropped_is_refused_by_the_next_restore_too() {
    let (files, endpoint) = sandbox();
    let (elsewhere, there) = like(Personality::Garage);
    let app = App::clinic(endpoint).await;
    make_bucket(&client(&there), "offsite").await;
    tagged(&files, &app);
    app.back_up(&["--vault", "vault"]);
    app.back_up(&["--records", "others"]);
    for vault in [&["--vault", "vault"][..], &[]] {
        let to = [
            "restore",
            "latest",
            "--only",
            "files",
            "--to-files",
            "s3://offsite",
            "--yes",
            "--files-endpoint",
            &there.url,
        ];
        for _ in 0..2 {
            app.run(&[&to[..], vault].concat()).ends_with(2).says("images/tagged.jpg");
            assert_eq!(elsewhere.store().get("offsite", "images/tagged.jpg").expect("without tags").tags.len(), 0);
        }
    }
}

/// Google Cloud Storage does not know the request, which is asked for once in a run.
#[tokio::test]
async fn where_no_batch_is_taken_each_object_is_removed_on_its_own() {
    let (service, endpoint) = like(Personality::Gcs);
    let app = clinic(endpoint).await;
    let seen = app.run(&["doctor"]).ends_with(0);
    assert!(seen.out.contains("in a request each: the service takes no batches"), "{}", seen.out);
    (0..2).for_each(|_| drop(app.back_up(&[])));
    service.reset_counts();
    let words: Vec<&str> = ["prune", "--yes"].iter().chain(&SECONDS).copied().collect();
    app.run(&words).ends_with(0);
    let operations = service.operations();
    assert_eq!(operations.get("DeleteObjects"), Some(&1), "{operations:?}");
    assert!(operations.get("DeleteObject").is_some_and(|count| *count > 5), "{operations:?}");
}

/// Garage passes over `If-None-Match`: the second of two claims of one second must see the first.
#[tokio::test]
async fn backups_at_once_make_points_of_their_own_where_conditions_are_ignored_and_doctor_says_so() {
    let (_service, endpoint) = like(Personality::Garage);
    let app = App::clinic(endpoint).await;
    let seen = app.run(&["doctor"]).ends_with(0);
    assert!(seen.out.contains("warned  conditional writes"), "{}", seen.out);
    let running: Vec<_> = (0..3).map(|_| app.start(&["backup", "-q", "--json"])).collect();
    let mut points = std::collections::BTreeSet::new();
    for one in running {
        let told = crate::app::Ended::of(one.wait(crate::app::LIMIT)).ends_with(0).json();
        assert_eq!(told["verdict"], "verified", "{told}");
        assert!(points.insert(told["point"].as_str().expect("an id").to_owned()), "two have one point: {told}");
    }
    app.run(&["verify", "--full"]).ends_with(0);
}

/// Wasabi turns requests away with 403, which elsewhere is the lack of a right.
#[tokio::test]
async fn a_service_that_asks_for_less_with_403_is_asked_again() {
    let (service, endpoint) = like(Personality::Wasabi);
    let app = App::clinic(endpoint).await;
    for nth in [3, 7, 12, 20] {
        service.inject(Fault::Throttled, FaultAt::Nth(nth));
    }
    service.reset_counts();
    app.back_up(&[]);
    assert_eq!(service.faults_fired(), 4);
}

/// What is put into a bucket that locks it must bear a checksum, which the SDK leaves out.
#[tokio::test]
async fn a_bucket_that_locks_what_is_put_into_it_takes_a_backup() {
    let (service, endpoint) = like(Personality::Aws);
    let app = clinic(endpoint).await;
    service.store().set_versioning(&app.bucket, Versioning::Enabled).expect("a bucket");
    let kept = DefaultRetention { mode: RetentionMode::Governance, period: Period::Days(1) };
    service.store().set_object_lock(&app.bucket, Some(kept)).expect("a bucket");
    app.back_up(&[]);
    app.run(&["verify", "--full"]).ends_with(0);
}
