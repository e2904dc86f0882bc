//! What a person at 3 a.m. finds, and what must never become worse by restoring.

use std::collections::BTreeMap;

use nexus_testkit::bucket::{make_bucket, put_object};
use nexus_testkit::digest;
use nexus_testkit::services::{ministack, seaweedfs, unique_bucket};

use crate::app::{App, VAULT, sql};

fn remove_database(app: &App) {
    for ending in ["", "-wal", "-shm", "-journal"] {
        // Which of them are there is SQLite's choice.
        let _ = std::fs::remove_file(format!("{}{ending}", app.database.display()));
    }
}

#[tokio::test]
async fn an_absent_an_empty_and_a_garbage_database_come_back_and_the_garbage_is_put_aside() {
    let app = App::clinic(seaweedfs()).await;
    let before = app.state().await;
    let id = app.back_up(&[]);
    for broken in [None, Some(&b""[..]), Some(&b"garbage, and not a database at all"[..])] {
        remove_database(&app);
        if let Some(bytes) = broken {
            std::fs::write(&app.database, bytes).expect("room on the disk");
        }
        let told = app.restore(&["latest"]);
        assert_eq!(told["point"], id.as_str(), "{broken:?}");
        assert_eq!(app.state().await, before, "{broken:?}");
        let aside = told["put_aside"].as_array().expect("a list");
        match broken.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => {
                let to = aside.last().expect("it was put aside")["to"].as_str().expect("a path");
                assert_eq!(std::fs::read(to).expect("it is there"), bytes);
            }
            None => assert!(aside.iter().all(|moved| {
                std::fs::metadata(moved["to"].as_str().expect("a path")).is_ok_and(|file| file.len() == 0)
            })),
        }
    }
}

#[tokio::test]
async fn a_log_without_its_database_is_put_aside_and_not_played_into_the_restored_one() {
    let app = App::clinic(seaweedfs()).await;
    let before = app.state().await;
    app.back_up(&[]);
    app.wreck().await;
    std::fs::remove_file(&app.database).expect("it was there");
    let told = app.restore(&["latest", "--delete-extra"]);
    assert_eq!(app.state().await, before);
    assert!(!told["put_aside"].as_array().expect("a list").is_empty(), "{told}");
}

#[tokio::test]
async fn an_emptied_bucket_comes_back() {
    let app = App::clinic(seaweedfs()).await;
    let mut before = app.files().await;
    app.back_up(&[]);
    for key in before.keys() {
        app.delete(key).await;
    }
    before.remove("tmp/left-out");
    let told = app.restore(&["latest", "--only", "files"]);
    assert_eq!(told["files"]["copied"]["files"], before.len());
    assert_eq!(app.files().await, before);
}

#[tokio::test]
async fn the_second_of_two_restores_in_a_row_still_takes_the_good_point() {
    let app = App::clinic(ministack()).await;
    let before = app.state().await;
    let id = app.back_up(&[]);
    for _ in 0..2 {
        app.wreck().await;
        let told = app.restore(&["latest", "--delete-extra"]);
        assert_eq!(told["point"], id.as_str());
        assert_eq!(app.state().await, before);
    }
    let safety: Vec<_> = app.points().into_iter().filter(|(id, _)| id.starts_with("before-restore_")).collect();
    assert_eq!(safety.len(), 2, "{safety:?}");
    let undone = app.run(&["restore", "latest:before-restore", "--yes"]).ends_with(0);
    assert!(digest::database(&app.database).contains_key("rows of junk"), "{}", undone.out);
}

#[tokio::test]
async fn restore_after_three_backups_of_records_takes_the_whole_point() {
    let app = App::clinic(seaweedfs()).await;
    let before = app.state().await;
    let id = app.back_up(&[]);
    let partial: Vec<_> = (0..3).map(|_| app.back_up(&["--only", "records"])).collect();
    app.wreck().await;
    let ended = app.run(&["restore", "latest", "--delete-extra", "--yes", "--json"]).ends_with(0);
    assert_eq!(ended.json()["point"], id.as_str());
    assert_eq!(app.state().await, before);
    for newer in partial {
        assert!(ended.err.contains(&newer), "{newer} is not named in:\n{}", ended.err);
    }
}

#[tokio::test]
async fn a_second_application_is_refused_in_a_vault_with_the_prefix_to_use() {
    let app = App::clinic(seaweedfs()).await;
    app.back_up(&[]);
    let before = app.vault().await;
    let hint = format!("--vault s3://{}/backup-billing", app.bucket);
    app.run(&["backup", "--app", "billing"]).refuses(2, "belongs to the app \"clinic\"").says(&hint);
    assert_eq!(app.vault().await, before);
}

#[tokio::test]
async fn backups_of_older_scripts_in_the_vault_stay_byte_for_byte() {
    let app = App::clinic(seaweedfs()).await;
    for key in [
        "database/nexus_sqlite_backup_20251115_063849.db",
        "database/nexus_sqlite_backup_20251115_064233.db",
        "reimport_20251115_063849/images/a.jpg",
        "reimport_20251115_064209/images/a.jpg",
        "reimport_20251115_064209/documents/b.pdf",
        "reimport_20251115_064233/patients.json",
        "reimport_20251115_064233/backup_summary.json",
    ] {
        app.put(&format!("{VAULT}{key}"), format!("the old {key}").as_bytes()).await;
    }
    let before = app.vault().await;
    let listed = |app: &App| app.points().into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let id = app.back_up(&["--label", "reimport"]);
    assert_eq!(listed(&app), [id]);
    app.wreck().await;
    app.restore(&["latest", "--delete-extra"]);
    let after = app.vault().await;
    let kept: BTreeMap<_, _> = after.into_iter().filter(|(key, _)| before.contains_key(key)).collect();
    assert_eq!(kept, before);
    let all = app.run(&["list", "--all", "--json"]).ends_with(0).json();
    assert!(all["foreign"].to_string().contains("reimport_20251115_064209"), "{all}");
}

#[tokio::test]
async fn removing_extra_files_spares_vaults_older_backups_and_excluded_files() {
    let app = App::clinic(seaweedfs()).await;
    let other = format!("s3://{}/second/vault", app.bucket);
    app.back_up(&[]);
    app.run(&["backup", "--app", "billing", "--vault", &other, "--only", "database"]).ends_with(0);
    for key in
        ["old/database/app_sqlite_backup_20250101_000000.db", "old/x_20250101_000000/a.jpg", "tmp/new", "junk/new"]
    {
        app.put(key, b"x").await;
    }
    let (vault, before) = (app.vault().await, app.files().await);
    let told = app.restore(&["latest", "--delete-extra"]);
    assert_eq!(told["files"]["removed"]["files"], 1, "{told}");
    let mut wanted = before;
    wanted.remove("junk/new").expect("it was there");
    assert_eq!(app.files().await, wanted);
    let after = app.vault().await;
    assert!(vault.iter().all(|(key, body)| after.get(key) == Some(body)), "the vault itself lost something");
    assert!(wanted.keys().any(|key| key.starts_with("second/vault/") && key.ends_with("manifest.json")));
}

#[tokio::test]
async fn a_database_url_in_the_environment_never_wins_over_the_configuration() {
    let mut app = App::clinic(seaweedfs()).await;
    let other = app.path("other.sqlite3");
    sql(&other, "CREATE TABLE theirs (id INTEGER PRIMARY KEY); INSERT INTO theirs VALUES (1)");
    let (theirs, before) = (std::fs::read(&other).expect("a file"), app.state().await);
    app.set("DATABASE_URL", &format!("sqlite:///{}", other.display()));
    let told = app.run(&["backup", "--json"]).ends_with(0).json();
    let tables = &told["manifest"]["parts"]["database"]["tables"];
    assert!(tables.get("clinic_patient").is_some() && tables.get("theirs").is_none(), "{tables}");
    app.wreck().await;
    app.restore(&["latest", "--delete-extra"]);
    assert_eq!(app.state().await, before);
    // From the vault alone, in another application's environment: still the point's own database.
    app.wreck().await;
    std::fs::remove_file(app.path("nexus.toml")).expect("it was there");
    app.restore(&["latest", "--delete-extra", "--vault", &format!("s3://{}/backup", app.bucket)]);
    assert_eq!(app.state().await, before);
    assert_eq!(std::fs::read(&other).expect("a file"), theirs);
}

#[tokio::test]
async fn a_database_that_is_not_the_points_own_is_overwritten_only_by_name() {
    let app = App::clinic(ministack()).await;
    let before = digest::database(&app.database);
    app.back_up(&[]);
    let other = app.path("other.sqlite3");
    sql(&other, "CREATE TABLE theirs (id INTEGER PRIMARY KEY); INSERT INTO theirs VALUES (1)");
    let theirs = std::fs::read(&other).expect("a file");
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    app.write("other.toml", &config.replace("\"db.sqlite3\"", "\"other.sqlite3\""));
    app.run(&["restore", "latest", "--yes", "--config", "other.toml"])
        .refuses(2, "other.sqlite3")
        .says("--to-database");
    let elsewhere = ["restore", "latest", "--yes", "--only", "database", "--to-database", "other.sqlite3"];
    app.run(&elsewhere).refuses(2, "other.sqlite3").says("--confirm other.sqlite3");
    app.run(&[&elsewhere[..], &["--confirm", "db.sqlite3"]].concat()).refuses(2, "other.sqlite3");
    assert_eq!(std::fs::read(&other).expect("a file"), theirs);
    app.run(&[&elsewhere[..], &["--confirm", "other.sqlite3"]].concat()).ends_with(0);
    assert_eq!(digest::database(&other), before);
    app.restore(&["latest", "--only", "database", "--to-database", "new.sqlite3"]);
    assert_eq!(digest::database(&app.path("new.sqlite3")), before);
    app.run(&["restore", "latest", "--yes", "--to-database", "db.sqlite3"]).refuses(2, "is where the point came from");
}

#[tokio::test]
async fn files_come_back_elsewhere_and_the_source_stays_as_it_is() {
    let app = App::clinic(seaweedfs()).await;
    let mut before = app.files().await;
    app.back_up(&[]);
    app.put("images/a.jpg", b"changed").await;
    let now = app.files().await;
    let staging = unique_bucket("staging");
    make_bucket(&app.client, &staging).await;
    put_object(&app.client, &staging, "theirs", b"x").await;
    let to = format!("s3://{staging}");
    app.restore(&["latest", "--only", "files", "--to-files", &to]);
    let there = nexus_testkit::bucket::all_objects(&app.client, &staging).await;
    before.remove("tmp/left-out");
    assert_eq!(there.len(), before.len() + 1);
    assert!(before.iter().all(|(key, object)| there.get(key) == Some(object)));
    assert_eq!(app.files().await, now);
    app.run(&["restore", "latest", "--yes", "--only", "files", "--to-files", &to, "--delete-extra"])
        .refuses(2, &staging);
}

#[tokio::test]
async fn a_dry_run_and_a_restore_without_consent_change_nothing() {
    let app = App::clinic(seaweedfs()).await;
    app.back_up(&[]);
    app.wreck().await;
    let (before, vault) = (app.state().await, app.vault().await);
    app.run(&["restore", "latest", "--delete-extra", "--dry-run"]).ends_with(0);
    app.run(&["restore", "latest", "--delete-extra"]).refuses(2, "--yes");
    assert_eq!((app.state().await, app.vault().await), (before, vault));
    app.assert_no_litter();
}
