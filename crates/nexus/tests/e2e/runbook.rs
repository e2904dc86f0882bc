//! The commands of `docs/runbook.md` and of a point's own page, run as they stand, where nothing is but the vault's URL and
//! credentials.

use std::collections::BTreeMap;
use std::path::Path;

use nexus_testkit::digest;
use nexus_testkit::postgres::{Database, Server, programs, rows};
use nexus_testkit::services::{Endpoint, seaweedfs};

use crate::app::{App, Objects, sandbox, sql};

const NEXUS: &str = env!("CARGO_BIN_EXE_nexus");
const DEBIAN: u32 = 15;

/// The shell blocks of Markdown by the heading above them, in their order; what follows `sh ` at a block's fence is kept.
fn blocks(markdown: &str) -> Vec<(String, String, String)> {
    let (mut heading, mut found) = (String::new(), Vec::new());
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('#') {
            line.trim_start_matches(['#', ' ']).clone_into(&mut heading);
        } else if let Some(mark) = line.strip_prefix("```sh") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.push((heading.clone(), mark.trim().to_owned(), block.join("\n")));
        }
    }
    found
}

/// Runs a block in an empty folder, where `nexus` is the one that was built.
fn shell(app: &App, block: &str) -> String {
    let folder = Path::new(NEXUS).parent().expect("a folder").display();
    let script =
        format!("set -euo pipefail\nexport PATH={folder}:$PATH\ncd \"$(mktemp -d)\"\n{block}\nrm -rf \"$PWD\"");
    app.shell(&script).ends_with(0).out
}

async fn lose_files(app: &App) {
    app.put("images/a.jpg", b"overwritten").await;
    app.delete("notes").await;
}

fn holds(now: &Objects, then: &Objects) -> bool {
    then.iter().filter(|(key, _)| !key.starts_with("tmp/")).all(|(key, what)| now.get(key) == Some(what))
}

/// The blocks of a point's own page.
fn page(app: &App) -> Vec<(String, String, String)> {
    let page = app.run(&["show", "--runbook"]).ends_with(0).out;
    blocks(&page)
}

async fn brings_a_sqlite_app_back(app: &App) {
    let then = app.state().await;
    let page = page(app);
    let of = |what: &str| -> Vec<&String> {
        page.iter().filter(|(heading, ..)| heading.starts_with(what)).map(|(_, _, block)| block).collect()
    };
    for which in 0..2 {
        app.wreck().await;
        shell(app, of("The database is broken")[which]);
        assert_eq!(digest::database(&app.database), then.database);
        lose_files(app).await;
        shell(app, of("Files are gone")[which]);
        assert!(holds(&app.files().await, &then.files));
        app.wreck().await;
        shell(app, of("Both")[which]);
        assert_eq!(digest::database(&app.database), then.database);
        let files = app.files().await;
        // Stock tools leave what came later.
        assert!(holds(&files, &then.files) && files.contains_key("junk/new") == (which == 1), "{files:?}");
        let record = shell(app, of("One record is needed")[which]);
        assert!(record.contains("\"first_name\":\"John\""), "{record}");
        app.delete("junk/new").await;
    }
}

#[tokio::test]
async fn the_commands_of_a_points_own_page_bring_a_sqlite_app_back_from_a_bucket() {
    let app = App::clinic(seaweedfs()).await;
    app.back_up(&[]);
    brings_a_sqlite_app_back(&app).await;
}

#[tokio::test]
async fn the_commands_of_a_points_own_page_bring_a_sqlite_app_back_from_a_folder() {
    let app = App::clinic(seaweedfs()).await;
    app.write("nexus.toml", &format!(
        "app = \"clinic\"\n[database]\nurl = \"db.sqlite3\"\n[files]\nsource = \"s3://{}\"\nexclude = [\"tmp/**\"]\n\
         [records.tables]\npatients = \"clinic_patient\"\n[vault]\nurl = \"a vault\"\n[s3]\nendpoint = \"{}\"\n",
        app.bucket, app.endpoint.url
    ));
    app.back_up(&[]);
    brings_a_sqlite_app_back(&app).await;
}

async fn brings_a_postgresql_app_back(vault: &str) {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table patient (id integer primary key, name text)");
    database.sql("insert into patient values (1, 'a'), (2, 'b')");
    let mut app = App::bare(seaweedfs()).await;
    app.put("images/a.jpg", b"a picture").await;
    app.write(
        "nexus.toml",
        &format!(
            "app = \"clinic\"\n[database]\nurl = \"{}\"\n[files]\nsource = \"s3://{}\"\n[vault]\nurl = \"{}\"\n\
             [s3]\nendpoint = \"{}\"\n",
            database.url(),
            app.bucket,
            vault.replace("BUCKET", &app.bucket),
            app.endpoint.url
        ),
    );
    app.set("PATH", &format!("{}:/usr/bin:/bin", programs(DEBIAN).display()));
    app.set("PGPASSWORD", &std::env::var("NEXUS_TEST_POSTGRES_PASSWORD").expect("run this through ./test"));
    app.back_up(&[]);
    let (then, files) = (rows(&server, &database.name), app.files().await);
    let page = page(&app);
    let of = |what: &str| -> Vec<&String> {
        page.iter().filter(|(heading, ..)| heading == what).map(|(_, _, block)| block).collect()
    };
    let spoil = async || {
        database.sql("delete from patient where id = 2; update patient set name = 'x'");
        app.put("images/a.jpg", b"another").await;
    };
    spoil().await;
    shell(&app, of("The database is broken")[0]);
    assert_eq!(rows(&server, &database.name), then);
    shell(&app, of("Files are gone")[0]);
    assert_eq!(app.files().await, files);
    spoil().await;
    shell(&app, of("Both")[0]);
    assert_eq!((rows(&server, &database.name), app.files().await), (then.clone(), files.clone()));
    spoil().await;
    shell(&app, of("Both")[1]);
    assert_eq!((rows(&server, &format!("{}_then", database.name)), app.files().await), (then, files));
    for which in 0..2 {
        let record = shell(&app, of("One record is needed")[which]);
        assert!(record.contains("\"name\":\"a\""), "{record}");
    }
    for name in server.databases().iter().filter(|name| name.starts_with(&format!("{}_", database.name))) {
        server.sql("postgres", &format!("drop database \"{name}\" with (force)"));
    }
}

#[tokio::test]
async fn the_commands_of_a_points_own_page_bring_a_postgresql_app_back_from_a_bucket() {
    brings_a_postgresql_app_back("s3://BUCKET/backup").await;
}

#[tokio::test]
async fn the_commands_of_a_points_own_page_bring_a_postgresql_app_back_from_a_folder() {
    brings_a_postgresql_app_back("a vault").await;
}

#[tokio::test]
async fn a_copy_that_is_gone_or_damaged_never_takes_the_place_of_the_live_database() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.write("nexus.toml", "app = \"clinic\"\n[database]\nurl = \"my clinic.sqlite3\"\n[vault]\nurl = \"a vault\"\n");
    let database = app.path("my clinic.sqlite3");
    std::fs::copy(&app.database, &database).expect("room");
    app.back_up(&[]);
    let page = page(&app);
    let block = page
        .iter()
        .filter(|(heading, ..)| heading == "The database is broken")
        .nth(1)
        .map(|(_, _, block)| block.replace("nexus ", &format!("{NEXUS} ")))
        .expect("stock commands");
    let then = digest::database(&database);
    let stored = std::fs::read_dir(app.path("a vault/database")).expect("a folder").next().expect("a copy");
    let stored = stored.expect("an entry").path();
    let whole = std::fs::read(&stored).expect("a copy");
    // As a person pastes it, without anything around it.
    for harm in [None, Some(&whole[..whole.len() / 2])] {
        match harm {
            None => std::fs::remove_file(&stored).expect("it was there"),
            Some(bytes) => std::fs::write(&stored, bytes).expect("room"),
        }
        let ended = app.shell(&format!("mkdir -p here && cd here && {block}"));
        assert_ne!(ended.status, Some(0), "{}\n{}", ended.out, ended.err);
        assert_eq!(digest::database(&database), then);
        let _ = std::fs::remove_dir_all(app.path("here"));
    }
    std::fs::write(&stored, &whole).expect("room");
    sql(&database, "DELETE FROM visit");
    app.shell(&block).ends_with(0);
    assert_eq!(digest::database(&database), then);
}

#[tokio::test]
async fn a_points_own_page_says_what_expired_who_is_to_be_asked_and_nothing_secret() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint.clone()).await;
    app.configure("[contacts]\ndatabase = \"Ana \\u001b[31m\"\n");
    let id = app.back_up(&[]);
    app.run(&["prune", "--yes", "--keep-files", "1s", "--keep-last", "1"]).ends_with(0);
    let told = app.run(&["show", &id, "--runbook"]).ends_with(0).out;
    assert!(told.contains("- database: Ana \\u{1b}[31m"), "{told}");
    assert!(!told.contains(&endpoint.secret_key) && !told.contains('\u{1b}'), "{told}");
    let told = app.run(&["show", &id, "--runbook", "--json"]).ends_with(0).json();
    assert_eq!(told["contacts"]["database"], "Ana \u{1b}[31m");
    app.run(&["restore", "none_20250101_000000"])
        .refuses(2, "holds no point")
        .says("contact: database: Ana \\u{1b}[31m");
    let told = app.run(&["restore", "none_20250101_000000", "--json"]).ends_with(2).json();
    assert_eq!(told["error"]["contacts"]["database"], "Ana \u{1b}[31m");
}

/// The page, with the names that it uses replaced by those of this test.
fn runbook(names: &BTreeMap<&str, String>) -> Vec<(String, String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbook.md");
    let mut page = std::fs::read_to_string(page).expect("the page");
    for (name, other) in names {
        assert!(page.contains(name), "the page does not name {name}");
        page = page.replace(name, other);
    }
    blocks(&page)
}

/// The blocks below a heading that are marked so, and those that are not marked at all, as one script.
fn script(page: &[(String, String, String)], heading: &str, mark: &str) -> String {
    let wanted =
        |(above, marked, _): &&(String, String, String)| above == heading && (marked.is_empty() || marked == mark);
    let blocks: Vec<&str> = page.iter().filter(wanted).map(|(_, _, block)| block.as_str()).collect();
    assert!(!blocks.is_empty(), "nothing below {heading} for {mark}");
    blocks.join("\n")
}

/// What the page says first, then a chapter of it, without any variable of this machine that leads to a service.
fn from_nothing(page: &[(String, String, String)], heading: &str, mark: &str) -> String {
    let clear = "unset $(env | cut -d= -f1 | grep '^AWS_') NEXUS_VAULT";
    format!("{clear}\n{}\n{}", script(page, "First", mark), script(page, heading, mark))
}

fn credentials(endpoint: &Endpoint) -> BTreeMap<&'static str, String> {
    [("AKIA-YOUR-KEY", endpoint.access_key.clone()), ("YOUR-SECRET", endpoint.secret_key.clone())].into()
}

#[tokio::test]
async fn the_runbook_brings_a_sqlite_app_back_with_nothing_but_the_vault() {
    let endpoint = seaweedfs();
    let app = App::clinic(endpoint.clone()).await;
    app.back_up(&["--label", "reimport"]);
    let then = app.state().await;
    let mut names = credentials(&endpoint);
    names.insert("s3://clinic-backup/clinic", format!("s3://{}/backup", app.bucket));
    names.insert("https://s3.example.com", endpoint.url.clone());
    names.insert("/srv/clinic/db.sqlite3", app.database.display().to_string());
    let page = runbook(&names);
    let run = |heading: &str| shell(&app, &from_nothing(&page, heading, "sqlite"));
    app.wreck().await;
    run("The database is broken");
    assert_eq!(digest::database(&app.database), then.database);
    lose_files(&app).await;
    run("Files are gone");
    assert!(holds(&app.files().await, &then.files));
    app.wreck().await;
    run("Both");
    assert_eq!(digest::database(&app.database), then.database);
    let files = app.files().await;
    assert!(holds(&files, &then.files) && !files.contains_key("junk/new"), "{files:?}");
    app.sql("PRAGMA foreign_keys = OFF; DELETE FROM clinic_patient WHERE id = 1; UPDATE clinic_patient SET first_name = 'new' WHERE id = 3");
    let told = run("One record is needed");
    assert!(told.contains("\"first_name\":\"John\""), "{told}");
    app.sql("UPDATE clinic_patient SET first_name = 'John' WHERE id = 3");
    assert_eq!(digest::database(&app.database), then.database);
}

#[tokio::test]
async fn the_runbook_brings_a_postgresql_app_back_with_nothing_but_the_vault() {
    let (server, endpoint) = (Server::shared(DEBIAN), seaweedfs());
    let database = Database::empty(&server, "");
    database.sql(
        "create table clinic_patient (id integer primary key, first_name text);
         insert into clinic_patient values (1, 'John'), (2, 'Zoë'), (3, 'John')",
    );
    let mut app = App::bare(endpoint.clone()).await;
    app.put("images/a.jpg", b"a picture").await;
    app.write("nexus.toml", &format!(
        "app = \"clinic\"\n[database]\nurl = \"{}\"\n[files]\nsource = \"s3://{}\"\n[records.tables]\npatients = \"clinic_patient\"\n\
         [vault]\nurl = \"s3://{}/backup/\"\n",
        database.url(), app.bucket, app.bucket
    ));
    app.set("PATH", &format!("{}:/usr/bin:/bin", programs(DEBIAN).display()));
    app.set("PGPASSWORD", &std::env::var("NEXUS_TEST_POSTGRES_PASSWORD").expect("run this through ./test"));
    app.back_up(&["--label", "reimport"]);
    let (then, files) = (rows(&server, &database.name), app.files().await);
    let mut names = credentials(&endpoint);
    names.insert("s3://clinic-backup/clinic", format!("s3://{}/backup", app.bucket));
    names.insert("https://s3.example.com", endpoint.url.clone());
    names.insert("postgres://clinic@db.example/clinic", database.url());
    let page = runbook(&names);
    let run = |heading: &str| shell(&app, &from_nothing(&page, heading, "postgresql"));
    database.sql("delete from clinic_patient where id = 2; create table junk (a integer)");
    run("The database is broken");
    assert_eq!(rows(&server, &database.name), then);
    app.delete("images/a.jpg").await;
    run("Files are gone");
    assert_eq!(app.files().await, files);
    database.sql("delete from clinic_patient");
    app.put("images/a.jpg", b"another").await;
    app.put("junk/new", b"junk").await;
    run("Both");
    assert_eq!((rows(&server, &database.name), app.files().await), (then.clone(), files));
    database.sql("delete from clinic_patient where id = 1");
    let told = run("One record is needed");
    assert!(told.contains("\"first_name\":\"John\""), "{told}");
    assert_eq!(rows(&server, &database.name), then);
    for name in server.databases().iter().filter(|name| name.starts_with(&format!("{}_", database.name))) {
        server.sql("postgres", &format!("drop database \"{name}\" with (force)"));
    }
}

#[tokio::test]
async fn the_checklist_around_a_reimport_runs_as_it_is_written() {
    let endpoint = seaweedfs();
    let app = App::clinic(endpoint.clone()).await;
    let page = runbook(&BTreeMap::new());
    app.back_up(&[]);
    let folder = Path::new(NEXUS).parent().expect("a folder").display();
    app.write("reimport.sh", "exit 0\n");
    let then = app.state().await;
    for heading in ["Before a re-import", "After it", "Back to the state before"] {
        if heading.starts_with("Back") {
            app.wreck().await;
        }
        let block = script(&page, heading, "");
        let block = block.replace("./reimport.sh", "sh reimport.sh");
        app.shell(&format!("set -euo pipefail\nexport PATH={folder}:$PATH\n{block}")).ends_with(0);
    }
    assert!(app.run(&["list"]).ends_with(0).out.contains("pinned"));
    assert_eq!(app.state().await.database, then.database);
    assert!(holds(&app.files().await, &then.files));
}
