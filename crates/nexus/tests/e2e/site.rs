//! The main job on a real Django site: everything comes back as it was, and the site itself agrees.

use nexus_testkit::bucket::{all_objects, make_bucket, put_folder};
use nexus_testkit::django::{DjangoSite, make_wal_site};
use nexus_testkit::services::{Endpoint, ministack, seaweedfs, unique_bucket};
use nexus_testkit::wal::leave_live_wal;
use serde_json::json;

use crate::app::{App, Ended, LIMIT};

#[tokio::test]
async fn a_django_site_on_seaweedfs_comes_back_exactly_as_it_was() {
    there_and_back(seaweedfs(), 300).await;
}

#[tokio::test]
async fn a_django_site_on_ministack_comes_back_exactly_as_it_was() {
    there_and_back(ministack(), 60).await;
}

async fn there_and_back(endpoint: Endpoint, media: usize) {
    let mut app = App::bare(endpoint).await;
    let site = make_wal_site(&app.path("site"), media);
    app.database.clone_from(&site.database);
    app.configure("");
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was just written");
    app.write("nexus.toml", &config.replace("\"db.sqlite3\"", "\"site/db.sqlite3\""));
    put_folder(&app.client, &app.bucket, "", &site.media).await;
    let (before, view) = (app.state().await, site.view());
    assert_eq!(before.files.len(), media);

    let told = app.run(&["backup", "--json"]).ends_with(0).json();
    assert_eq!(told["manifest"]["parts"]["files"]["total"]["files"], media, "{told}");
    let id = told["point"].as_str().expect("an id").to_owned();
    let verified = app.run(&["verify", "--json"]).ends_with(0).json();
    assert_eq!((&verified["verdict"], &verified["proof"]["files"]), (&json!("verified"), &json!(media)));
    assert_eq!(app.state().await, before, "backup or verify changed the source");

    destroy(&app, &site).await;
    let restored = app.restore(&["latest", "--delete-extra"]);
    assert_eq!(restored["point"], id.as_str());
    assert_eq!(app.state().await, before);
    assert_eq!(site.view(), view);
    app.assert_no_litter();

    // Nothing has changed since, so a second point copies nothing.
    let second = app.run(&["backup", "--json"]).ends_with(0).json();
    assert_eq!(second["verdict"], "verified");
}

/// Deletes and overwrites objects, adds others, drops and alters tables, adds one, deletes rows; the writer is killed.
async fn destroy(app: &App, site: &DjangoSite) {
    for (at, key) in app.files().await.into_keys().enumerate() {
        match at % 10 {
            0 => app.delete(&key).await,
            1 => app.put(&key, b"what the failed import wrote").await,
            _ => {}
        }
    }
    for key in ["documents/new.pdf", "junk", "zzz/last"] {
        app.put(key, b"new").await;
    }
    leave_live_wal(
        &site.database,
        &[
            "DROP TABLE clinic_photo",
            "DROP TABLE django_session",
            "ALTER TABLE clinic_document ADD COLUMN imported TEXT DEFAULT 'x'",
            "ALTER TABLE auth_user RENAME COLUMN username TO login",
            "DELETE FROM clinic_patient WHERE id % 3 = 0",
            "UPDATE clinic_patient SET first_name = 'wrecked'",
            "CREATE TABLE staging (id INTEGER PRIMARY KEY, row BLOB)",
            "INSERT INTO staging (row) VALUES (randomblob(100000)), (randomblob(100000))",
        ],
    );
}

/// Its ETag is no MD5, so only the answers to the copies themselves tell that they are whole.
#[tokio::test]
async fn a_file_that_was_uploaded_in_parts_comes_back_into_a_bucket_and_into_a_folder() {
    let app = App::clinic(seaweedfs()).await;
    let upload = format!(
        "head -c 9000000 /dev/urandom > large && aws s3 cp --only-show-errors large s3://{}/large.bin && \
         aws s3api head-object --bucket {0} --key large.bin --query ETag",
        app.bucket
    );
    let etag = app.shell(&upload).ends_with(0).out;
    assert!(etag.contains('-'), "it was not uploaded in parts: {etag}");
    let large = std::fs::read(app.path("large")).expect("a file");
    let id = app.back_up(&[]);
    app.run(&["verify", &id, "--full"]).ends_with(0);
    app.delete("large.bin").await;
    app.restore(&["latest", "--only", "files"]);
    let there = nexus_testkit::bucket::object(&app.client, &app.bucket, "large.bin").await;
    assert!(there == large, "the object is another one");
    let again = app.restore(&["latest", "--only", "files"]);
    assert_eq!(again["files"]["copied"]["files"], 0, "what is there is not known again: {again}");
    app.restore(&["latest", "--only", "files", "--to-files", "folder"]);
    assert!(std::fs::read(app.path("folder/large.bin")).expect("it is there") == large, "the file is another one");
}

#[tokio::test]
async fn the_marker_of_a_folder_comes_back_into_a_bucket_and_into_a_folder() {
    let app = App::clinic(ministack()).await;
    app.put("scans/", b"").await;
    let mut before = app.files().await;
    app.back_up(&[]);
    app.delete("scans/").await;
    app.restore(&["latest", "--only", "files"]);
    assert_eq!(app.files().await, before);
    app.restore(&["latest", "--only", "files", "--to-files", "folder"]);
    assert!(app.path("folder/scans").is_dir());
    before.retain(|key, _| app.path("folder").join(key).is_file());
    assert_eq!(before.len(), 6);
}

/// `SeaweedFS` makes such markers and does not copy them.
#[tokio::test]
async fn the_marker_of_a_folder_does_not_hinder_a_backup_on_seaweedfs() {
    let app = App::clinic(seaweedfs()).await;
    app.put("scans/", b"").await;
    let before = app.files().await;
    assert!(before.contains_key("scans/"));
    app.back_up(&[]);
    app.delete("scans/").await;
    app.restore(&["latest", "--only", "files"]);
    assert_eq!(app.files().await, before);
}

#[tokio::test]
async fn two_backups_at_once_make_two_proven_points() {
    let app = App::clinic(seaweedfs()).await;
    let (one, two) = (app.start(&["backup", "-q", "--json"]), app.start(&["backup", "-q", "--json"]));
    let point = |running: nexus_testkit::kill::Running| {
        let told = Ended::of(running.wait(LIMIT)).ends_with(0).json();
        assert_eq!(told["verdict"], "verified", "{told}");
        told["point"].as_str().expect("an id").to_owned()
    };
    let (one, two) = (point(one), point(two));
    assert_ne!(one, two);
    assert_eq!(app.points().len(), 2);
    app.assert_no_litter();
}

#[tokio::test]
async fn one_category_or_one_key_comes_back_and_nothing_else() {
    let app = App::clinic(seaweedfs()).await;
    let before = app.state().await;
    app.back_up(&[]);
    for key in before.files.keys() {
        app.delete(key).await;
    }
    app.sql("UPDATE clinic_patient SET first_name = 'later'");
    let later = app.state().await.database;
    app.restore(&["latest", "--category", "images"]);
    assert_eq!(app.files().await.into_keys().collect::<Vec<_>>(), ["images/a.jpg", "images/b.JPG"]);
    app.restore(&["latest", "--key", "documents/2024/**"]);
    assert!(app.files().await.contains_key("documents/2024/report +1 (copy).pdf"));
    assert_eq!((app.files().await.len(), app.state().await.database), (3, later));
    app.run(&["restore", "latest", "--category", "videos", "--yes"]).refuses(2, "\"videos\"").says("images");
    // Into an empty bucket: what was selected, and only that.
    let staging = unique_bucket("staging");
    make_bucket(&app.client, &staging).await;
    app.restore(&["latest", "--category", "documents", "--to-files", &format!("s3://{staging}/then")]);
    let there: Vec<_> = all_objects(&app.client, &staging).await.into_keys().collect();
    assert_eq!(there, ["then/documents/2024/report +1 (copy).pdf", "then/documents/Änderung & more.docx"]);
}
