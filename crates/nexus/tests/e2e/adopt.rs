//! What older scripts left becomes points where it lies, and nothing of it is changed.

use std::collections::BTreeMap;

use nexus_sandbox::{Fault, FaultAt};
use nexus_testkit::digest;
use nexus_testkit::services::seaweedfs;

use crate::app::{App, Objects, State, sandbox, sql};

type Content = BTreeMap<String, Vec<u8>>;

/// What three runs of an old script left: a whole one with parts at three times, a younger one without files, and one that broke
/// off; beside them what is nobody's.
struct Old {
    /// The state of the first run.
    then: State,
}

/// Puts bytes below the vault's prefix, in the bucket or the folder.
async fn put(app: &App, key: &str, body: &[u8]) {
    let folder = app.path("vault");
    if folder.is_dir() {
        let path = folder.join(key);
        std::fs::create_dir_all(path.parent().expect("below the vault")).expect("room");
        std::fs::write(path, body).expect("room");
    } else {
        app.put(&format!("backup/{key}"), body).await;
    }
}

async fn content(app: &App) -> Content {
    let folder = app.path("vault");
    if !folder.is_dir() {
        return app.vault().await;
    }
    let tree = nexus_testkit::tree::digest(&folder);
    let files = tree.into_iter().filter(|(_, entry)| entry.is_file()).map(|(key, _)| key);
    files.map(|key| (key.clone(), std::fs::read(folder.join(&key)).expect("a file"))).collect()
}

async fn leave(app: &App) -> Old {
    // The script copied the file while nobody wrote, and keys below their category.
    app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let database = std::fs::read(&app.database).expect("a database");
    put(app, "database/nexus_sqlite_backup_20251115_063849.db", &database).await;
    let files = app.files().await;
    for key in files.keys().filter(|key| !key.starts_with("tmp/")) {
        let category = match key.rsplit('.').next() {
            Some("jpg" | "JPG") => "images",
            Some("pdf" | "docx") => "documents",
            _ => "other",
        };
        let body = nexus_testkit::bucket::object(&app.client, &app.bucket, key).await;
        put(app, &format!("reimport_20251115_064233/{category}/{key}"), &body).await;
    }
    let then = State { database: digest::database(&app.database), files };
    sql(&app.database, "DELETE FROM visit");
    app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    put(app, "database/nexus_sqlite_backup_20251116_063849.db", &std::fs::read(&app.database).expect("a database"))
        .await;
    // Broken off: half a database, and the folder of the same run.
    put(app, "database/nexus_sqlite_backup_20251117_063849.db", &database[..database.len() / 2]).await;
    put(app, "reimport_20251117_064233/images/images/a.jpg", b"half").await;
    // A try that broke off just before the first run came to its files: it must not take them.
    put(app, "database/nexus_sqlite_backup_20251115_064100.db", &database[..database.len() / 3]).await;
    put(app, "database/nexus_postgres_backup_20251118_063849.dump", b"PGDMP and so on").await;
    put(app, "notes.txt", b"a person's own").await;
    put(app, "reimport_20251115_064233/README", b"by the script").await;
    put(app, "elsewhere/image.jpg", b"of another tool").await;
    let folder = |name: &str| std::fs::create_dir_all(app.path("backups").join(name)).expect("room");
    folder("reimport_20251115_064209");
    app.write(&format!("{RECORDS}/patients.json"), PATIENTS);
    app.write(&format!("{RECORDS}/visits.json"), "[{\"id\": 1, \"at\": \"2025-11-15T06:42:09Z\"}]");
    app.write(&format!("{RECORDS}/backup_summary.json"), "{\"timestamp\": \"20251115_064209\", \"patients\": 2}");
    app.write(&format!("{RECORDS}/log.txt"), "by the script");
    // Nearer, and broken off: it must not take the place of the whole one.
    folder("reimport_20251115_063855");
    app.write("backups/reimport_20251115_063855/patients.json", "[{\"id\": 1}, {\"id\": ");
    folder("reimport_20240101_000000");
    app.write("backups/reimport_20240101_000000/patients.json", "[]");
    Old { then }
}

/// Everything that was there is there still, byte for byte.
fn holds(now: &Content, before: &Content) {
    for (key, body) in before {
        assert_eq!(now.get(key), Some(body), "{key} was changed or removed");
    }
}

/// The folder of records of the first run, on the machine.
const RECORDS: &str = "backups/reimport_20251115_064209";
/// As an older script wrote them: indented, in no order of ours.
const PATIENTS: &str = "[\n  {\n    \"id\": 7,\n    \"name\": \"Žofie\",\n    \"born\": null\n  },\n  {\"id\": 42, \"extra\": [1, {\"a\": 2}]}\n]\n";

const FIRST: &str = "reimport_20251115_064233";
const SECOND: &str = "adopted_20251116_063849";

fn files_hold(now: &Objects, then: &Objects) -> bool {
    then.iter().filter(|(key, _)| !key.starts_with("tmp/")).all(|(key, what)| now.get(key) == Some(what))
}

async fn old_backups_become_points(app: &App) {
    let Old { then } = leave(app).await;
    let before = content(app).await;
    let words = ["adopt", "--local", "backups", "--name", "nexus"];
    let shown = app.run(&[&words[..], &["--dry-run"]].concat()).ends_with(0);
    for text in [
        FIRST,
        SECOND,
        "not of one instant, 224 s apart",
        "unfinished: ",
        "a dump of PostgreSQL, and the database is SQLite",
        "README",
        "2 files, 3 rows; on this machine alone",
        "unfinished: patients.json: EOF while parsing",
        "no run that is adopted here is near its time",
        "log.txt",
    ] {
        assert!(shown.out.contains(text), "{text} is not in:\n{}", shown.out);
    }
    assert_eq!(content(app).await, before);
    app.run(&words).refuses(2, "must be confirmed");
    assert_eq!(content(app).await, before);
    let told = app.run(&[&words[..], &["--yes", "--json"]].concat()).ends_with(0).json();
    assert_eq!(told["adopted"], serde_json::json!([FIRST, SECOND]), "{told}");
    holds(&content(app).await, &before);
    let added: Vec<String> = content(app).await.into_keys().filter(|key| !before.contains_key(key)).collect();
    let names = ["started.json", "manifest.json", "files.jsonl.zst", "restore-files.sh", "vault.json"];
    assert!(added.iter().all(|key| names.iter().any(|name| key.ends_with(name))), "{added:?}");
    // Known, and not proven before somebody has looked.
    let points = app.points();
    assert_eq!(points, [(SECOND.to_owned(), "unproven".to_owned()), (FIRST.to_owned(), "unproven".to_owned())]);
    let shown = app.run(&["show", FIRST]).ends_with(0);
    assert!(shown.out.contains("not of one instant, 224 s apart") && shown.out.contains("reimport_20251115_064209"));
    assert!(shown.out.contains("3 rows in 2 tables"), "{}", shown.out);
    for depth in ["--quick", "--full"] {
        app.run(&["verify", FIRST, depth]).ends_with(0);
    }
    app.run(&["verify", FIRST]).ends_with(0);
    app.run(&["drill", FIRST, "--files", "all"]).ends_with(0);
    assert!(app.points().contains(&(FIRST.to_owned(), "proven".to_owned())));
    old_records_are_parts(app);
    let again = app.run(&[&words[..], &["--yes", "--json"]].concat()).ends_with(0).json();
    assert_eq!(again["points"], serde_json::json!([]), "{again}");
    // A backup of today reuses nothing of it, and leaves it as it is.
    let adopted = content(app).await;
    let new = app.back_up(&[]);
    let made = app.run(&["show", &new, "--json"]).ends_with(0).json();
    assert_eq!(made["manifest"]["parts"]["files"]["reused"]["files"], 0, "{made}");
    holds(&content(app).await, &adopted);
    // Back to the state of then.
    app.put("images/a.jpg", b"overwritten").await;
    app.delete("notes").await;
    app.restore(&[FIRST]);
    assert_eq!(digest::database(&app.database), then.database);
    assert!(files_hold(&app.files().await, &then.files));
    app.run(&["restore", FIRST, "--delete-extra", "--dry-run"]).refuses(2, "was left by an older tool");
    // A prune by which they are over takes what they name, and nothing else.
    let seconds = ["--keep-database", "1s", "--keep-files", "1s", "--keep-records", "1s", "--keep-last", "1"];
    app.run(&["verify", SECOND]).ends_with(0);
    let kept = content(app).await;
    app.run(&[&["prune", "--yes"], &seconds[..]].concat()).ends_with(0);
    holds(&content(app).await, &kept.into_iter().filter(|(key, _)| before.contains_key(key)).collect());
    assert_eq!(app.points().len(), 4);
    let again = app.run(&["adopt", "--yes", "--json", "--name", "nexus"]).ends_with(0).json();
    assert_eq!(again["points"], serde_json::json!([]), "{again}");
}

/// Old records are looked at and copied like others, and never taken for rows.
fn old_records_are_parts(app: &App) {
    let put_back = app.run(&["restore", FIRST, "--only", "records", "--to-records", "then", "--yes"]).ends_with(0);
    assert!(put_back.out.contains("3 of 3 record files are as they were"), "{}", put_back.out);
    assert_eq!(std::fs::read_to_string(app.path("then/patients.json")).expect("a file"), PATIENTS);
    app.run(&["restore", FIRST, "--only", "records", "--yes"]).refuses(2, "written by an older tool");
    app.write(&format!("{RECORDS}/patients.json"), &PATIENTS.replace("42", "43"));
    let told = app.run(&["verify", FIRST, "--only", "records"]).ends_with(1);
    assert!(told.out.contains("patients.json"), "{}", told.out);
    app.run(&["restore", FIRST, "--only", "records", "--to-records", "again", "--yes"]).refuses(1, "is damaged");
    app.run(&["restore", FIRST, "--only", "records", "--to-records", RECORDS, "--yes"]).refuses(1, "is damaged");
    std::fs::rename(app.path(RECORDS), app.path("elsewhere")).expect("a folder");
    app.run(&["verify", FIRST, "--only", "records", "--quick"]).refuses(2, "are not here");
    let told = app.run(&["verify", FIRST, "--only", "records"]);
    assert!(
        told.status == Some(2) && told.err.contains("are not here") && !told.out.contains("as they were"),
        "{told:?}"
    );
    app.run(&["restore", FIRST, "--only", "records", "--to-records", "again", "--yes"]).refuses(2, "are not here");
    std::fs::rename(app.path("elsewhere"), app.path(RECORDS)).expect("a folder");
    app.write(&format!("{RECORDS}/patients.json"), PATIENTS);
    // The files of another run are never overwritten.
    let other = "backups/reimport_20240101_000000";
    app.run(&["restore", FIRST, "--only", "records", "--to-records", other, "--yes"]).refuses(2, "is another file");
    assert_eq!(std::fs::read_to_string(app.path(&format!("{other}/patients.json"))).expect("a file"), "[]");
    app.run(&["restore", FIRST, "--only", "records", "--to-records", RECORDS, "--yes"]).ends_with(0);
    app.run(&["verify", FIRST]).ends_with(0);
}

#[tokio::test]
async fn records_that_may_be_incomplete_are_left_and_named() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    leave(&app).await;
    let told = |why: &str| {
        let shown =
            app.run(&["adopt", "--dry-run", "--name", "nexus", "--local", "backups", "--json"]).ends_with(0).json();
        let first = &shown["points"].as_array().expect("points").iter().find(|point| point["id"] == FIRST).cloned();
        assert_eq!(first.as_ref().expect("it is there")["records"], serde_json::Value::Null, "{shown}");
        assert!(shown["left"].to_string().contains(why), "{why}: {shown}");
    };
    let summary = |text: &str| app.write(&format!("{RECORDS}/backup_summary.json"), text);
    summary("{\"timesta");
    told("backup_summary.json: EOF");
    summary("{\"tables\": {\"patients\": 3}}");
    told("patients.json has 2 records, and backup_summary.json says otherwise");
    summary("{\"tables\": {\"patients\": 2}, \"bytes\": {\"patients\": 131}}");
    app.write(&format!("{RECORDS}/images.json.gz"), "packed");
    told("images.json.gz may be records");
    std::fs::remove_file(app.path(&format!("{RECORDS}/images.json.gz"))).expect("a file");
    std::fs::remove_file(app.path(&format!("{RECORDS}/backup_summary.json"))).expect("a file");
    let shown = app.run(&["adopt", "--dry-run", "--name", "nexus", "--local", "./backups"]).ends_with(0);
    assert!(shown.out.contains("whether a file is missing nothing says"), "{}", shown.out);
    app.run(&["adopt", "--dry-run", "--name", "nexus", "--local", RECORDS]).refuses(2, "bears a time in its name");
    // A run that is a point already is nearer than the one that is adopted now.
    app.run(&["adopt", "--yes", "--name", "nexus"]).ends_with(0);
    app.put("backup/reimport_20251115_065500/images/x.jpg", b"x").await;
    let shown = app.run(&["adopt", "--dry-run", "--name", "nexus", "--local", "backups", "--json"]).ends_with(0).json();
    assert!(shown["left"].to_string().contains(&format!("{FIRST} is nearer")), "{shown}");
}

#[tokio::test]
async fn an_adoption_of_a_database_alone_goes_on_when_it_broke_off() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[s3]\nattempts = 1\n");
    leave(&app).await;
    let bucket = &app.bucket;
    let place = app.database.display();
    app.write(
        "bare.toml",
        &format!("app = \"clinic\"\n[database]\nurl = \"{place}\"\n[vault]\nurl = \"s3://{bucket}/backup/\"\n[s3]\nattempts = 1\n"),
    );
    let words = ["adopt", "--yes", "--name", "nexus", "--config", "bare.toml", "--json"];
    service.inject(Fault::Reset, FaultAt::Operation { name: "PutObject".to_owned(), nth: 3 });
    app.run(&words).ends_with(2);
    service.clear_faults();
    let told = app.run(&words).ends_with(0).json();
    assert!(told["adopted"].to_string().contains(SECOND), "{told}");
}

#[tokio::test]
async fn old_backups_in_a_bucket_become_points_and_stay_byte_for_byte() {
    let app = App::clinic(seaweedfs()).await;
    old_backups_become_points(&app).await;
}

#[tokio::test]
async fn old_backups_in_a_folder_become_points_and_stay_byte_for_byte() {
    let mut app = App::clinic(seaweedfs()).await;
    std::fs::create_dir(app.path("vault")).expect("room");
    app.set("NEXUS_VAULT", &app.path("vault").display().to_string());
    old_backups_become_points(&app).await;
}

#[tokio::test]
async fn an_adopted_point_that_is_pruned_takes_what_it_names_and_nothing_beside_it() {
    let app = App::clinic(seaweedfs()).await;
    leave(&app).await;
    // Another old run of the same label, so that the first is not the newest.
    for key in ["images/a.jpg", "notes"] {
        app.put(&format!("backup/reimport_20251120_064233/other/{key}"), b"later").await;
    }
    app.run(&["adopt", "--yes", "--name", "nexus"]).ends_with(0);
    for id in [FIRST, "reimport_20251120_064233"] {
        app.run(&["verify", id]).ends_with(0);
    }
    let seconds = ["--keep-database", "1s", "--keep-files", "1s", "--keep-records", "1s", "--keep-last", "1"];
    // A file that came into the old folder later is nobody's of ours.
    app.put(&format!("backup/{FIRST}/images/later.jpg"), b"a person's own").await;
    app.run(&[&["prune", "--yes"], &seconds[..]].concat()).ends_with(0);
    let left: Vec<String> = app.vault().await.into_keys().filter(|key| key.starts_with(FIRST)).collect();
    assert!(
        left.contains(&format!("{FIRST}/README")) && left.contains(&format!("{FIRST}/images/later.jpg")),
        "{left:?}"
    );
    assert!(!left.contains(&format!("{FIRST}/images/images/a.jpg")), "{left:?}");
    app.run(&["verify", "reimport_20251120_064233"]).ends_with(0);
    // What was pruned is not adopted again, though its claim is still there.
    let again = app.run(&["adopt", "--yes", "--json", "--name", "nexus"]).ends_with(0).json();
    assert_eq!(again["points"], serde_json::json!([]), "{again}");
    // Its database is the newest of its label, and stays.
    app.run(&["restore", FIRST, "--only", "database", "--dry-run"]).ends_with(0);
}

#[tokio::test]
async fn an_adoption_that_breaks_off_leaves_no_half_point_and_goes_on() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[s3]\nattempts = 1\n");
    leave(&app).await;
    let before = content(&app).await;
    let mut broken = 0;
    for nth in (1..200).step_by(3) {
        service.inject(Fault::Reset, FaultAt::From(nth));
        let ended = app.run(&["adopt", "--yes", "--name", "nexus"]);
        let fired = service.faults_fired();
        service.clear_faults();
        holds(&content(&app).await, &before);
        let committed: Vec<(String, String)> =
            app.points_if_any().into_iter().filter(|(_, state)| state == "unproven" || state == "proven").collect();
        for (id, _) in committed {
            app.run(&["verify", &id]).ends_with(0);
        }
        if fired == 0 {
            ended.ends_with(0);
            break;
        }
        broken += 1;
    }
    assert!(broken > 5, "it broke off {broken} times only");
    assert_eq!(app.points().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_known_is_refused_or_left_and_named() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    leave(&app).await;
    app.run(&["adopt", "--timezone", "Nowhere/Land"]).refuses(2, "is no time zone");
    let told = app.run(&["adopt", "--dry-run"]).ends_with(0).out;
    assert!(told.contains("it may be another app's") && !told.contains(SECOND), "{told}");
    let bucket = &app.bucket;
    app.write("bare.toml", &format!("app = \"clinic\"\n[vault]\nurl = \"s3://{bucket}/backup/\"\n"));
    let shown = app.run(&["adopt", "--dry-run", "--name", "nexus", "--config", "bare.toml"]).ends_with(0);
    assert!(shown.out.contains("nothing says where its database was"), "{}", shown.out);
    let told =
        app.run(&["adopt", "--dry-run", "--name", "nexus", "--timezone", "Asia/Tokyo", "--json"]).ends_with(0).json();
    assert_eq!(told["points"][0]["instant"], "2025-11-14T21:38:49Z", "{told}");
}
