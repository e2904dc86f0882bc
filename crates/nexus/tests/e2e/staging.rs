//! The commands of `docs/staging.md`, run as they stand but for the names.

use std::path::Path;

use nexus_testkit::bucket::{all_objects, make_bucket};
use nexus_testkit::digest;
use nexus_testkit::postgres::{Database, Server, programs, rows, unique};
use nexus_testkit::services::{seaweedfs, unique_bucket};

use crate::app::{App, sandbox, sql};

/// The version that Debian brings.
const DEBIAN: u32 = 15;

/// The shell blocks below a heading of the page.
fn commands(heading: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/staging.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (_, chapter) = page.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let chapter = chapter.split("\n## ").next().expect("a first piece");
    let blocks: Vec<String> = chapter
        .split("```sh\n")
        .skip(1)
        .map(|block| block.split("```").next().expect("a first piece").to_owned())
        .collect();
    assert_eq!(blocks.len(), 3, "{chapter}");
    blocks
}

#[tokio::test]
async fn a_sqlite_app_is_copied_for_staging_as_the_page_says() {
    let app = App::clinic(seaweedfs()).await;
    let bucket = unique_bucket("staging");
    make_bucket(&app.client, &bucket).await;
    std::fs::create_dir(app.path("staging")).expect("room on the disk");
    let (database, tables) = (app.path("staging/db.sqlite3"), app.path("staging/tables.sqlite3"));
    sql(
        &tables,
        "CREATE TABLE clinic_patient (id INTEGER PRIMARY KEY, first_name TEXT NOT NULL, weight REAL, photo BLOB);
         CREATE TABLE visit (id INTEGER PRIMARY KEY AUTOINCREMENT, patient INTEGER REFERENCES clinic_patient(id), note);",
    );
    app.back_up(&[]);
    let before = digest::database(&app.database);
    let nexus = Path::new(env!("CARGO_BIN_EXE_nexus")).display().to_string();
    let run = |block: &String| {
        let block = block.replace("nexus restore", &format!("{nexus} restore"));
        let block = block.replace("/srv/staging", &app.path("staging").display().to_string());
        app.shell(&block.replace("staging-media", &bucket)).ends_with(0)
    };
    let blocks = commands("SQLite");
    run(&blocks[0]);
    assert_eq!(digest::database(&database), before);
    let mut files = app.files().await;
    files.remove("tmp/left-out");
    assert_eq!(all_objects(&app.client, &bucket).await, files);
    sql(&database, "DELETE FROM visit");
    run(&blocks[1]);
    assert_eq!(digest::database(&database), before);
    run(&blocks[2]);
    let rows = |path| digest::database(path)["rows of clinic_patient"].clone();
    assert_eq!(rows(&tables), rows(&app.database));
}

#[tokio::test]
async fn a_postgresql_app_is_copied_for_staging_as_the_page_says() {
    let (server, elsewhere) = (Server::shared(DEBIAN), Server::shared(16));
    let database = Database::empty(&server, "");
    database.sql(
        "create table patient (id integer primary key, name text);
         create table visit (id integer primary key, patient integer references patient);
         insert into patient values (1, 'a'), (2, 'b'); insert into visit values (1, 2)",
    );
    let (_service, endpoint) = sandbox();
    let app = App::bare(endpoint).await;
    let (url, bucket) = (database.url(), app.bucket.clone());
    app.write(
        "nexus.toml",
        &format!(
            "app = \"clinic\"\n[database]\nurl = \"{url}\"\nprograms = \"{}\"\n[records]\nfolder = \"backups\"\n\
             [vault]\nurl = \"s3://{bucket}/backup/\"\n",
            programs(16).display()
        ),
    );
    app.back_up(&[]);
    let (staging, nexus) = (unique("staging"), Path::new(env!("CARGO_BIN_EXE_nexus")).display().to_string());
    let run = |block: &String| {
        let block = block.replace("nexus restore", &format!("{nexus} restore"));
        let block = block.replace("postgres://staging@db.example/clinic_staging", &elsewhere.url(&staging));
        app.shell(&block.replace("clinic_staging", &staging)).ends_with(0)
    };
    let blocks = commands("PostgreSQL");
    run(&blocks[0]);
    assert_eq!(rows(&elsewhere, &staging), rows(&server, &database.name));
    elsewhere.sql(&staging, "delete from visit");
    run(&blocks[1]);
    assert_eq!(rows(&elsewhere, &staging), rows(&server, &database.name));
    elsewhere.sql(&staging, "delete from visit; update patient set name = 'x'");
    run(&blocks[2]);
    assert_eq!(rows(&elsewhere, &staging), rows(&server, &database.name));
    for name in elsewhere.databases().iter().filter(|name| name.starts_with(&staging)) {
        elsewhere.sql("postgres", &format!("drop database \"{name}\" with (force)"));
    }
}
