//! The verbs in a row on the S3 service of the sandbox.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nexus_sandbox::{Service, ServiceOptions};

use crate::Place;

/// An app with a database, a bucket and a vault.
struct App {
    place: Place,
    service: Service,
}

impl App {
    fn new() -> Self {
        let options = ServiceOptions::default();
        let service = Service::start(options.clone()).expect("a free port");
        let store = service.store();
        store.create_bucket("clinic-documents");
        store.create_bucket("clinic-backup");
        for key in ["documents/a.pdf", "images/b.JPG", "odd \u{1b}[31m name", "tmp/cache"] {
            store.put("clinic-documents", key, key).expect("the bucket is there");
        }
        let mut place = Place::new();
        place.set("AWS_ACCESS_KEY_ID", &options.access_key);
        place.set("AWS_SECRET_ACCESS_KEY", &options.secret_key);
        place.set("AWS_ENDPOINT_URL_S3", service.endpoint());
        place.write(
            "nexus.toml",
            "app = \"clinic\"\n[database]\nurl = \"db.sqlite3\"\n[files]\nsource = \"s3://clinic-documents\"\n\
             exclude = [\"tmp/**\"]\n[records]\nfolder = \"backups\"\n[records.tables]\npatients = \"clinic_patient\"\n\
             [vault]\nurl = \"s3://clinic-backup/v\"\n[retention]\ndatabase = \"30d\"\nfiles = \"7d\"\n",
        );
        let app = Self { place, service };
        app.sql(
            "CREATE TABLE clinic_patient (id INTEGER PRIMARY KEY, first_name TEXT); \
                 INSERT INTO clinic_patient VALUES (1, 'John'), (2, 'Mary');",
        );
        app
    }

    fn sql(&self, statements: &str) {
        let connection = rusqlite::Connection::open(self.place.path().join("db.sqlite3")).expect("a database");
        connection.execute_batch(statements).expect("sound statements");
    }

    fn names(&self) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.place.path().join("db.sqlite3")).expect("a database");
        let mut statement = connection.prepare("SELECT first_name FROM clinic_patient ORDER BY id").expect("the table");
        let names = statement.query_map([], |row| row.get(0)).expect("rows");
        names.collect::<Result<_, _>>().expect("texts")
    }

    fn back_up(&self) -> String {
        let told = self.place.run(&["backup", "--label", "reimport", "--json"]).ends_with(0).json();
        assert_eq!(told["verdict"], "verified");
        told["point"].as_str().expect("an id").to_owned()
    }
}

#[test]
fn a_backup_ends_with_the_three_blocks_and_a_log_that_only_its_owner_reads() {
    let app = App::new();
    let ended = app.place.run(&["backup", "--log-file", "nexus.log"]).ends_with(0);
    for line in ["Database backup", "S3 Backup Summary", "Backup Summary"] {
        assert_eq!(ended.out.lines().filter(|said| *said == line).count(), 1, "{line}:\n{}", ended.out);
    }
    for text in [
        "documents: 1 file",
        "images: 1 file",
        "other: 1 file",
        "1 file, 9 bytes by the rules",
        "patients",
        "verified",
        "(in 7 days)",
    ] {
        assert!(ended.out.contains(text), "{text:?} is not in:\n{}", ended.out);
    }
    let log = app.place.path().join("nexus.log");
    assert_eq!(std::fs::metadata(&log).expect("the log").permissions().mode() & 0o777, 0o600);
    let log = std::fs::read_to_string(log).expect("the log");
    assert!(log.contains("Backup Summary") && log.contains("copying files"), "{log}");
    assert!(log.lines().all(|line| line.starts_with("20") && line.as_bytes()[10] == b'T'), "{log}");
}

#[test]
fn a_point_is_listed_shown_verified_and_restored_by_the_command_it_printed() {
    let app = App::new();
    let id = app.back_up();
    let listed = app.place.run(&["list", "--json"]).ends_with(0).json();
    assert_eq!(listed["points"][0]["id"], id.as_str());
    assert_eq!(listed["points"][0]["state"], "proven");
    let shown = app.place.run(&["show", "reimport", "--json"]).ends_with(0).json();
    let verified = app.place.run(&["verify", "--full", "--json"]).ends_with(0).json();
    assert_eq!(verified["proof"]["depth"], "full");

    app.sql("DROP TABLE clinic_patient");
    app.service.store().delete("clinic-documents", "documents/a.pdf");
    app.service.store().put("clinic-documents", "junk", "junk").expect("the bucket is there");
    let command = format!("{} --yes", shown["restore_command"].as_str().expect("a command"));
    let (program, rest) = command.split_once(' ').expect("words");
    assert_eq!(program, "nexus");
    // Elsewhere than the configuration lies, as on another machine.
    let restored = Command::new("/bin/sh")
        .args(["-c", &format!("{} {rest} --json", env!("CARGO_BIN_EXE_nexus"))])
        .current_dir("/")
        .env_clear()
        .envs(
            app.place
                .variables
                .iter()
                .filter(|(name, _)| name != "AWS_ENDPOINT_URL_S3")
                .map(|(name, value)| (name, value)),
        )
        .output()
        .expect("a shell");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(app.names(), ["John", "Mary"]);
    assert!(app.service.store().get("clinic-documents", "documents/a.pdf").is_some());
    assert!(app.service.store().get("clinic-documents", "junk").is_some(), "extra files stay unless asked");
    let again = app.place.run(&["restore", "latest", "--delete-extra", "--yes"]).ends_with(0);
    assert!(again.out.contains("3 of 3 files") && again.out.contains("tables are as they were"), "{}", again.out);
    assert!(app.service.store().get("clinic-documents", "junk").is_none());
    assert!(app.service.store().get("clinic-documents", "tmp/cache").is_some(), "what was excluded is never extra");
}

#[test]
fn restore_without_a_terminal_wants_yes_and_a_dry_run_changes_nothing() {
    let app = App::new();
    app.back_up();
    app.sql("DELETE FROM clinic_patient");
    app.place.run(&["restore", "latest"]).ends_with(2).says("--yes");
    let plan = app.place.run(&["restore", "latest", "--dry-run", "--json"]).ends_with(0).json();
    assert_eq!(plan["database"]["condition"], "healthy");
    assert_eq!(plan["files"]["missing"]["files"], 0);
    assert!(app.names().is_empty());
}

#[test]
fn one_file_comes_back_alone() {
    let app = App::new();
    app.back_up();
    app.sql("DELETE FROM clinic_patient WHERE id = 1");
    for key in ["documents/a.pdf", "images/b.JPG"] {
        app.service.store().delete("clinic-documents", key);
    }
    app.place.run(&["restore", "latest", "--category", "images", "--yes"]).ends_with(0);
    assert!(app.service.store().get("clinic-documents", "images/b.JPG").is_some());
    assert!(app.service.store().get("clinic-documents", "documents/a.pdf").is_none());
    assert_eq!(app.names(), ["Mary"], "the database was not asked for");
    app.place.run(&["restore", "latest", "--category", "imges", "--yes"]).ends_with(2).says("images");
}

#[test]
fn a_target_elsewhere_is_asked_about_by_name_when_it_holds_something() {
    let app = App::new();
    app.back_up();
    let own = format!("sqlite:///{}", app.place.path().canonicalize().expect("a folder").join("db.sqlite3").display());
    app.place
        .run(&["restore", "latest", "--to-database", &own, "--yes"])
        .ends_with(2)
        .says("where the point came from");
    let elsewhere = ["restore", "latest", "--only", "database", "--to-database", "then.db", "--yes"];
    app.place.run(&elsewhere).ends_with(0);
    app.place.run(&elsewhere).ends_with(2).says("--confirm then.db");
    app.place.run(&[&elsewhere[..], &["--confirm", "then.db"]].concat()).ends_with(0);
}

#[test]
fn another_database_in_the_configuration_is_not_restored_over() {
    let mut app = App::new();
    app.back_up();
    app.place.set("DATABASE_URL", "sqlite:////another/apps.db");
    app.place.run(&["restore", "latest", "--only", "database", "--yes"]).ends_with(0);
    app.place.set("NEXUS_DATABASE", "other.db");
    let refused = app.place.run(&["restore", "latest", "--only", "database", "--yes"]).ends_with(2);
    refused.says("names another database");
}

#[test]
fn names_from_outside_cannot_move_the_cursor() {
    let app = App::new();
    let id = app.back_up();
    let key = format!("v/{id}/other/odd \u{1b}[31m name");
    assert!(app.service.store().delete("clinic-backup", &key));
    let ended = app.place.run(&["verify"]).ends_with(1);
    assert!(!ended.out.contains('\u{1b}') && !ended.err.contains('\u{1b}'));
    assert!(ended.out.contains("\\u{1b}[31m name"), "{}", ended.out);
    assert_eq!(app.place.run(&["list", "--json"]).ends_with(0).json()["points"][0]["state"], "failed");
}

#[test]
fn a_point_that_is_not_there_is_not_done() {
    let app = App::new();
    app.place.run(&["list"]).ends_with(2).says("no vault");
    app.back_up();
    app.place.run(&["show", "nightly"]).ends_with(2).says("nexus list --vault s3://clinic-backup/v");
}

#[test]
fn what_lies_among_the_files_and_is_another_part_is_left_out() {
    let place = Place::new();
    place.write("app/media/a.jpg", "x");
    place.write("app/media/d[b],{x}.sqlite3", "another file of that name, which is taken");
    let database = "app/d[b],{x}.sqlite3";
    let connection = rusqlite::Connection::open(place.path().join(database)).expect("a database");
    connection.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY)").expect("a table");
    let words =
        ["backup", "--json", "--app", "a", "--files", "app", "--vault", "app/vault", "--records", "app/backups"];
    let words = [&words[..], &["--database", database]].concat();
    for _ in 0..2 {
        let told = place.run(&words).ends_with(0).json();
        assert_eq!(told["manifest"]["parts"]["files"]["total"]["files"], 2);
    }
}

#[test]
fn two_apps_in_one_vault_are_refused() {
    let app = App::new();
    app.back_up();
    app.place.run(&["backup", "--app", "shop"]).ends_with(2).says("belongs to the app");
}
