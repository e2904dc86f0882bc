//! The main job on a real Django site: everything comes back as it was, and the site itself agrees.

use nexus_testkit::bucket::put_folder;
use nexus_testkit::django::{DjangoSite, make_wal_site};
use nexus_testkit::services::{Endpoint, ministack, seaweedfs};
use nexus_testkit::wal::leave_live_wal;
use serde_json::json;

use crate::app::App;

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
