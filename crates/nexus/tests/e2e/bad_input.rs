//! What is wrong is named, with the next step; nothing is half committed, and no temporary file stays.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use nexus_testkit::bucket::{object, put_object};
use nexus_testkit::kill;
use nexus_testkit::services::{seaweedfs, unique_bucket};

use crate::app::{App, Ended, LIMIT, sandbox};

/// A backup that must fail: with this status, naming this, with a hint, and leaving nothing.
fn fails(app: &App, more: &[&str], status: i32, naming: &str) -> Ended {
    let words: Vec<&str> = ["backup"].iter().chain(more).copied().collect();
    let ended = app.run(&words).refuses(status, naming);
    leaves_nothing(app);
    ended
}

fn leaves_nothing(app: &App) {
    app.assert_no_litter();
    let left = std::fs::read_dir(app.path("backups")).map_or(0, |entries| {
        entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() != ".gitignore")).count()
    });
    assert_eq!(left, 0, "records of a point that does not exist are left");
    let listed = app.run(&["list", "--json"]);
    if listed.status == Some(0) {
        assert_eq!(listed.json()["points"], serde_json::json!([]), "a point is listed");
    }
}

#[tokio::test]
async fn a_database_that_is_missing_a_folder_or_no_database_is_named() {
    let app = App::clinic(seaweedfs()).await;
    fails(&app, &["--database", "none.sqlite3"], 2, "none.sqlite3");
    std::fs::create_dir(app.path("folder.sqlite3")).expect("room");
    fails(&app, &["--database", "folder.sqlite3"], 2, "folder.sqlite3");
    app.write("text.sqlite3", &"this is no database. ".repeat(400));
    fails(&app, &["--database", "text.sqlite3"], 1, "text.sqlite3");
    app.write("empty.sqlite3", "");
    fails(&app, &["--database", "empty.sqlite3"], 1, "empty.sqlite3");
}

#[tokio::test]
async fn a_damaged_database_is_an_answer_and_no_point() {
    let app = App::clinic(seaweedfs()).await;
    let damaged = app.path("damaged.sqlite3");
    crate::app::sql(&damaged, "CREATE TABLE t (id INTEGER PRIMARY KEY, x); CREATE INDEX i ON t(x);");
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
                INSERT INTO t SELECT i, hex(randomblob(20)) FROM n;";
    crate::app::sql(&damaged, rows);
    let mut bytes = std::fs::read(&damaged).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&damaged, bytes).expect("room");
    fails(&app, &["--database", "damaged.sqlite3"], 1, "damaged.sqlite3");
}

#[tokio::test]
async fn a_broken_database_is_not_answered_with_the_points_of_the_vault() {
    let app = App::clinic(seaweedfs()).await;
    app.write("text.sqlite3", &"this is no database. ".repeat(400));
    let ended = fails(&app, &["--database", "text.sqlite3"], 1, "text.sqlite3");
    assert!(!ended.err.contains("use another point"), "no point helps a backup:\n{}", ended.err);
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_named() {
    let app = App::clinic(seaweedfs()).await;
    let none = unique_bucket("none");
    fails(&app, &["--files", &format!("s3://{none}")], 2, &none);
    app.run(&["backup", "--vault", &format!("s3://{none}/backup")]).refuses(2, &none);
    app.run(&["list", "--vault", &format!("s3://{none}/backup")]).refuses(2, &none);
    app.run(&["restore", "latest", "--yes", "--vault", &format!("s3://{}/nothing", app.bucket)]).refuses(2, "nothing");
    leaves_nothing(&app);
}

#[tokio::test]
async fn wrong_credentials_are_told_apart_from_what_is_missing() {
    let mut app = App::clinic(seaweedfs()).await;
    app.set("AWS_SECRET_ACCESS_KEY", "not-the-secret");
    fails(&app, &[], 2, &app.bucket);
    app.run(&["list"]).refuses(2, &app.bucket).says("sts get-caller-identity");
    app.set("AWS_ACCESS_KEY_ID", "nobody");
    fails(&app, &[], 2, &app.bucket);
}

#[tokio::test]
async fn a_service_that_is_down_is_given_up_in_bounded_time() {
    let mut app = App::clinic(seaweedfs()).await;
    // A port that was free a moment ago and that nobody listens on.
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    app.set("AWS_ENDPOINT_URL_S3", &format!("http://{free}"));
    let begun = Instant::now();
    app.run(&["backup"]).refuses(2, &app.bucket).says(&free.to_string());
    assert!(begun.elapsed() < Duration::from_secs(45), "it took {:?}", begun.elapsed());
    app.assert_no_litter();
}

#[tokio::test]
async fn a_vault_inside_its_source_folder_is_never_taken_into_a_point() {
    let app = App::clinic(seaweedfs()).await;
    std::fs::create_dir_all(app.path("media/images")).expect("room");
    app.write("media/images/a.jpg", "a picture");
    let source = ["--files", "media", "--vault", "media/vault"];
    for _ in 0..2 {
        let words: Vec<&str> = ["backup", "--json"].iter().chain(&source).copied().collect();
        let told = app.run(&words).ends_with(0).json();
        let keys = &told["manifest"]["parts"]["files"]["total"]["files"];
        assert!(*keys == 1 || *keys == 2, "the vault was taken along: {told}");
    }
    app.run(&["backup", "--files", "media", "--vault", "media"]).refuses(2, "lies in the vault");
    app.run(&["backup", "--files", "media/images", "--vault", "media"]).refuses(2, "lies in the vault");
}

#[tokio::test]
async fn a_records_folder_that_cannot_be_written_is_named() {
    let app = App::clinic(seaweedfs()).await;
    app.write("in-the-way", "a file");
    fails(&app, &["--records", "in-the-way"], 2, "in-the-way");
    fails(&app, &["--records", "in-the-way/below"], 2, "in-the-way");
    assert_eq!(std::fs::read_to_string(app.path("in-the-way")).expect("a file"), "a file");
}

/// A limit on the size of files stands in for a full disk: every write beyond it fails, for any user.
#[tokio::test]
async fn a_write_that_the_disk_refuses_fails_the_run_without_litter() {
    let app = App::clinic(seaweedfs()).await;
    app.sql("CREATE TABLE large (x); INSERT INTO large VALUES (randomblob(3000000))");
    // Too small for the copy of the database, for the records, and at once.
    for blocks in [2_000, 3_500, 64] {
        let mut command = app.tool(std::path::Path::new("/bin/bash"));
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" backup");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_nexus")]);
        Ended::of(kill::run(command, LIMIT)).refuses(2, "cannot");
        leaves_nothing(&app);
    }
    app.back_up(&[]);
}

#[tokio::test]
async fn a_full_disk_below_the_temporary_folder_is_told_as_full() {
    let app = App::clinic(seaweedfs()).await;
    app.sql("CREATE TABLE large (x); INSERT INTO large VALUES (randomblob(3000000))");
    let mounted = "mount -t tmpfs -o size=2m none tmp";
    // A mount of our own needs root, or the right to make a namespace: one of the two is there where tests run.
    let script = format!("{mounted} && \"$0\" backup; status=$?; ls -A tmp >&2; exit $status");
    for namespace in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
        let mut command = app.tool(std::path::Path::new("unshare"));
        command.args(namespace).args(["/bin/bash", "-c", &script, env!("CARGO_BIN_EXE_nexus")]);
        let ended = Ended::of(kill::run(command, LIMIT));
        if !ended.err.contains("permitted") && !ended.err.contains("denied") {
            ended.refuses(2, "tmp").says("df -h").says("TMPDIR=");
            leaves_nothing(&app);
            return;
        }
    }
    panic!("no file system can be mounted here: run the tests as root or where namespaces are allowed");
}

#[tokio::test]
async fn a_point_that_is_not_there_or_not_one_alone_is_named() {
    let app = App::clinic(seaweedfs()).await;
    app.run(&["verify"]).refuses(2, &app.bucket);
    app.back_up(&["--label", "nightly"]);
    app.back_up(&["--label", "nightly"]);
    for verb in ["show", "verify"] {
        app.run(&[verb, "reimport_20251115_064233"]).refuses(2, "reimport_20251115_064233");
        app.run(&[verb, "latest:reimport"]).refuses(2, "reimport");
        app.run(&[verb, "nightly"]).refuses(2, "nightly");
    }
    app.run(&["restore", "reimport_20251115_064233", "--yes"]).refuses(2, "reimport_20251115_064233");
    app.run(&["restore", "../x", "--yes"]).refuses(2, "../x");
}

#[tokio::test]
async fn a_damaged_manifest_and_a_newer_one_are_told_apart_and_neither_is_latest() {
    let app = App::clinic(seaweedfs()).await;
    let good = app.back_up(&[]);
    let damaged = app.back_up(&[]);
    let newer = app.back_up(&[]);
    let key = |id: &str| format!("backup/{id}/manifest.json");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let manifest = text(object(&app.client, &app.bucket, &key(&damaged)).await);
    put_object(&app.client, &app.bucket, &key(&damaged), &manifest.as_bytes()[..manifest.len() / 2]).await;
    let manifest = text(object(&app.client, &app.bucket, &key(&newer)).await);
    let changed = manifest.replacen("\"format\": 1", "\"format\": 99", 1).replacen("\"format\":1", "\"format\":99", 1);
    assert_ne!(changed, manifest);
    put_object(&app.client, &app.bucket, &key(&newer), changed.as_bytes()).await;

    for verb in ["verify", "show"] {
        app.run(&[verb, &damaged]).refuses(1, &damaged);
        app.run(&[verb, &newer]).refuses(2, &newer).says("nexus --version");
    }
    app.run(&["restore", &damaged, "--yes"]).refuses(1, &damaged);
    app.run(&["restore", &newer, "--yes"]).refuses(2, &newer);
    let listed = app.run(&["list", "--json"]).ends_with(1).json();
    let states: Vec<_> = listed["points"].as_array().expect("a list").iter().map(|point| &point["state"]).collect();
    assert_eq!(states, ["unreadable", "unreadable", "proven"]);
    let ended = app.run(&["restore", "latest", "--yes", "--json"]).ends_with(0);
    assert_eq!(ended.json()["point"], good.as_str());
    assert!(ended.err.contains(&damaged) && ended.err.contains(&newer), "{}", ended.err);
    let next = app.back_up(&[]);
    assert_ne!(next, good);
}

#[tokio::test]
async fn a_point_whose_copy_is_gone_is_not_restored_and_not_damaged_further() {
    let app = App::clinic(seaweedfs()).await;
    let id = app.back_up(&[]);
    app.delete(&format!("backup/{id}/images/images/a.jpg")).await;
    app.wreck().await;
    let before = app.state().await;
    let ended = app.run(&["verify", &id]).ends_with(1);
    assert!(ended.out.contains("images/a.jpg"), "{}", ended.out);
    app.run(&["restore", &id, "--yes"]).refuses(1, "images/a.jpg");
    assert_eq!(app.state().await, before);
    app.assert_no_litter();
}

#[tokio::test]
async fn a_typo_in_the_configuration_is_answered_with_what_was_meant() {
    let app = App::clinic(seaweedfs()).await;
    app.configure("[retention]\ndatabse = \"30d\"\n");
    app.run(&["backup"]).refuses(2, "unknown key `databse`").says("did you mean `database`?");
    app.configure("[retentoin]\ndatabase = \"30d\"\n");
    app.run(&["backup"]).refuses(2, "unknown key `retentoin`").says("did you mean `retention`?");
    app.configure("");
    leaves_nothing(&app);
}

#[tokio::test]
async fn a_log_file_that_cannot_be_written_stops_the_run_before_it_begins() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.run(&["backup", "--log-file", "none/nexus.log"]).refuses(2, "nexus.log");
    leaves_nothing(&app);
}

#[test]
fn nothing_of_the_environment_is_needed_to_be_told_what_is_missing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexus"));
    command.arg("backup").env_clear().current_dir(folder.path());
    Ended::of(kill::run(command, LIMIT)).refuses(2, "nothing to back up is named").says("nexus init");
}
