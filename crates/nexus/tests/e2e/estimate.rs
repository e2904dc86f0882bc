//! What `doctor` foretells of the next backup, beside what the service counted of it.

use nexus_sandbox::Service;
use nexus_testkit::postgres::{Database, Server, programs};
use serde_json::Value;

use crate::app::{App, sandbox};

fn foretold(app: &App) -> Value {
    app.run(&["doctor", "--json"]).ends_with(0).json()["estimate"].clone()
}

/// Within a tenth.
#[track_caller]
fn is_near(what: &str, foretold: u64, counted: u64) {
    let apart = foretold.abs_diff(counted);
    assert!(apart * 10 <= counted, "{what}: {foretold} were foretold, {counted} were counted");
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Backs up, and holds what the service counted against what was foretold.
#[track_caller]
fn hold_against(app: &App, service: &Service) {
    let estimate = foretold(app);
    service.reset_counts();
    let made = app.run(&["backup", "--json"]).ends_with(0).json();
    let requests = number(&estimate["requests"]["puts"]) + number(&estimate["requests"]["gets"]);
    is_near("requests", requests, service.requests());
    let (sent, received) = service.content();
    is_near("bytes sent", number(&estimate["bytes"]["sent"]), sent);
    is_near("bytes received", number(&estimate["bytes"]["received"]), received);
    let copied = number(&made["manifest"]["parts"]["files"]["copied"]["bytes"]);
    // What goes through this machine is sent or received, not copied by the service.
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    let by_service = text.contains("source = \"s3://") && text.contains("[vault]\nurl = \"s3://");
    assert_eq!(number(&estimate["bytes"]["copied"]), if by_service { copied } else { 0 });
    assert_eq!(estimate["files_to_copy"], made["manifest"]["parts"]["files"]["copied"]["files"]);
}

/// A clinic with many files in many folders, and rows enough that their size matters.
async fn clinic() -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.sql(
        "WITH RECURSIVE n(i) AS (SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
         INSERT INTO clinic_patient SELECT i, 'patient number ' || i, i / 3.0, NULL FROM n;
         CREATE TABLE note (id INTEGER PRIMARY KEY, text);
         INSERT INTO note SELECT id, first_name || ' was here and said little' FROM clinic_patient",
    );
    let store = service.store();
    for file in 0..2_600 {
        let key = format!("documents/{}/{file}.pdf", file % 7);
        store.put(&app.bucket, &key, "x".repeat(100 + file % 50).as_str()).expect("a bucket");
    }
    for file in 0..1_300 {
        store.put(&app.bucket, &format!("scans/{}/{file}.jpg", file % 40), "yyyyyyyyyy").expect("a bucket");
    }
    (service, app)
}

#[tokio::test]
async fn the_first_an_unchanged_and_a_small_backup_take_what_was_foretold_within_a_tenth() {
    let (service, app) = clinic().await;
    hold_against(&app, &service);
    hold_against(&app, &service);
    app.put("documents/new/one.pdf", b"a new one").await;
    app.delete("documents/0/0.pdf").await;
    hold_against(&app, &service);
}

#[tokio::test]
async fn prices_of_ones_own_are_reckoned_with_and_wrong_ones_are_refused() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.write(
        "prices.toml",
        "of = \"us\"\ndate = \"2026-01\"\ncurrency = \"EUR\"\nout-gigabyte = 0.0\n\
         [storage.STANDARD]\ngigabyte-month = 1.0\nthousand-puts = 1000.0\nthousand-gets = 0.0\n",
    );
    let estimate = app.run(&["doctor", "--prices", "prices.toml", "--json"]).ends_with(0).json()["estimate"].clone();
    // A unit of money a request that writes or lists.
    let asked = estimate["cost"]["requests"].as_f64().expect("a price");
    assert!((asked - estimate["requests"]["puts"].as_f64().expect("a number")).abs() < 0.001, "{estimate:#}");
    assert_eq!(estimate["cost"]["currency"], "EUR");
    assert!(estimate["cost"]["prices"].as_str().expect("a text").contains("2026-01"));
    app.write("prices.toml", "of = \"us\"\n");
    app.run(&["doctor", "--prices", "prices.toml"]).refuses(2, "prices");
    app.run(&["doctor", "--prices", "nowhere.toml"]).refuses(2, "nowhere.toml");
}

/// A small clinic with its files in a folder, some of which go in parts.
async fn clinic_in_a_folder() -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    std::fs::create_dir(app.path("media")).expect("room on the disk");
    for file in 0..20 {
        app.write(&format!("media/{file}.pdf"), &"z".repeat(200 + file));
    }
    for file in 0..8 {
        app.write(&format!("media/{file}.tif"), &"large".repeat(2 << 20));
    }
    (service, app)
}

fn set(app: &App, from: &str, to: &str) {
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    assert!(text.contains(from), "{text}");
    app.write("nexus.toml", &text.replace(from, to));
}

#[tokio::test]
async fn files_of_a_folder_take_what_was_foretold_large_ones_in_parts_too() {
    let (service, app) = clinic_in_a_folder().await;
    set(&app, &format!("source = \"s3://{}\"", app.bucket), "source = \"media\"");
    for _ in 0..2 {
        hold_against(&app, &service);
    }
}

#[tokio::test]
async fn a_vault_in_a_folder_takes_what_was_foretold() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    for file in 0..200 {
        service.store().put(&app.bucket, &format!("documents/{file}.pdf"), "xxxx").expect("a bucket");
    }
    set(&app, &format!("url = \"s3://{}/backup/\"", app.bucket), "url = \"vault\"");
    for _ in 0..2 {
        hold_against(&app, &service);
    }
}

#[tokio::test]
async fn whole_copies_without_records_in_the_vault_take_what_was_foretold() {
    let (service, app) = clinic().await;
    set(&app, "[files]\n", "[files]\ncopies = \"full\"\n");
    set(&app, "[records]\n", "[records]\nvault = false\n");
    for _ in 0..2 {
        hold_against(&app, &service);
    }
}

#[tokio::test]
async fn tables_of_very_different_sizes_take_what_was_foretold() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let tables: Vec<_> = (0..20).map(|n| format!("CREATE TABLE small_{n} (id INTEGER PRIMARY KEY, text);")).collect();
    let tables = tables.concat();
    app.sql(&format!(
        "{tables} CREATE TABLE large (id INTEGER PRIMARY KEY, text);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
         INSERT INTO large SELECT i, hex(randomblob(30000)) FROM n"
    ));
    for _ in 0..2 {
        hold_against(&app, &service);
    }
}

#[tokio::test]
async fn a_database_on_a_server_takes_what_was_foretold() {
    let server = Server::shared(15);
    let database = Database::empty(&server, "");
    database.sql(
        "create table small (id integer primary key, text text);
         insert into small select i, 'row ' || i from generate_series(1, 3000) i;
         create table large (id integer primary key, text text);
         insert into large select i, md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text)
         from generate_series(1, 150000) i",
    );
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let place = format!("url = \"{}\"\nprograms = \"{}\"", database.url(), programs(15).display());
    set(&app, "url = \"db.sqlite3\"", &place);
    set(&app, "[records.tables]\npatients = \"clinic_patient\"\n", "");
    for _ in 0..2 {
        hold_against(&app, &service);
    }
}
