//! How runs are seen from outside: metrics, pings and hooks, for success, failure, damage and kill.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nexus_sandbox::{Fault, FaultAt};
use nexus_testkit::services::seaweedfs;

use crate::app::{App, sandbox};

/// Answers every request the same way, and keeps what was asked for.
struct Listener {
    url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

/// How a ping server answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Ok,
    Error,
    Redirect,
    Never,
}

impl Listener {
    fn new(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/ping/a-secret", listener.local_addr().expect("an address"));
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, own) = (Arc::clone(&heard), url.clone());
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                let asked = first_line(&stream);
                kept.lock().expect("a list").push(asked);
                match answer {
                    Answer::Ok => say(&stream, "200 OK", ""),
                    Answer::Error => say(&stream, "500 Internal Server Error", ""),
                    Answer::Redirect => say(&stream, "302 Found", &format!("Location: {own}\r\n")),
                    Answer::Never => held.push(stream),
                }
            }
        });
        Self { url, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("a list").clone()
    }
}

fn first_line(stream: &TcpStream) -> String {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let asked = lines.next().unwrap_or_default();
    let _: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    asked
}

fn say(mut stream: &TcpStream, status: &str, more: &str) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n");
}

/// The values of a metrics file by name and labels but the vault's.
fn metrics(app: &App) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(app.path("nexus.prom")).expect("a metrics file");
    assert!(!text.contains(&app.endpoint.secret_key), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut values = BTreeMap::new();
    for line in lines {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let vault = format!("vault=\"s3://{}/backup\"", app.bucket);
        let name = name.replace(&format!(",{vault}"), "").replace(&format!("{vault},"), "");
        values.insert(name, value.to_owned());
    }
    values
}

fn run_of(verb: &str, what: &str) -> String {
    format!("nexus_run_{what}{{verb=\"{verb}\"}}")
}

#[tokio::test]
async fn metrics_tell_success_failure_and_damage_and_keep_what_other_verbs_wrote() {
    let app = App::clinic(seaweedfs()).await;
    app.configure("[s3]\nattempts = 2\n");
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    app.write("nexus.toml", &format!("metrics-file = \"nexus.prom\"\n{config}"));
    let id = app.back_up(&["--label", "nightly"]);
    let first = metrics(&app);
    assert_eq!(first[&run_of("backup", "exit_status")], "0");
    assert_eq!(first[&run_of("backup", "running")], "0");
    assert_eq!(first["nexus_points{app=\"clinic\",label=\"nightly\",state=\"proven\"}"], "1");
    assert_eq!(first["nexus_point_objects{app=\"clinic\",label=\"nightly\"}"], "6");
    assert_eq!(first["nexus_point_rows{app=\"clinic\",label=\"nightly\"}"], "5");
    let mode = std::fs::metadata(app.path("nexus.prom")).expect("a file").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o644);
    app.run(&["drill", "--files", "all"]).ends_with(0);
    let drilled = metrics(&app);
    assert_eq!(drilled[&run_of("drill", "exit_status")], "0");
    assert!(drilled.contains_key("nexus_drill_timestamp_seconds{app=\"clinic\",label=\"nightly\"}"), "{drilled:?}");
    assert!(drilled.contains_key("nexus_recovery_seconds{app=\"clinic\",label=\"nightly\",part=\"database\"}"));
    // A failure: what was known of the vault and of other verbs stays.
    app.run(&["backup", "--label", "nightly", "--endpoint", "http://127.0.0.1:9"]).ends_with(2);
    let failed = metrics(&app);
    assert_eq!(failed[&run_of("backup", "exit_status")], "2");
    assert_eq!(failed[&run_of("drill", "exit_status")], "0");
    let success = run_of("backup", "success_timestamp_seconds");
    assert_eq!(failed[&success], first[&success]);
    assert_eq!(failed["nexus_points{app=\"clinic\",label=\"nightly\",state=\"proven\"}"], "1");
    // Damage.
    app.client
        .put_object()
        .bucket(&app.bucket)
        .key(format!("backup/{id}/images/images/a.jpg"))
        .body(aws_sdk_s3::primitives::ByteStream::from_static(b"a pictura"))
        .send()
        .await
        .expect("a harmed copy");
    app.run(&["verify", &id]).ends_with(1);
    let damaged = metrics(&app);
    assert_eq!(damaged[&run_of("verify", "exit_status")], "1");
    assert_eq!(damaged["nexus_point_damaged{app=\"clinic\",label=\"nightly\"}"], "1");
    assert_ne!(damaged["nexus_point_findings{app=\"clinic\",label=\"nightly\"}"], "0");
    assert!(!damaged.contains_key("nexus_point_proven_timestamp_seconds{app=\"clinic\",label=\"nightly\"}"));
}

#[tokio::test]
async fn a_killed_run_is_seen_as_running_and_its_ping_has_a_start_and_no_end() {
    let (service, endpoint) = sandbox();
    let mut app = App::clinic(endpoint).await;
    let listener = Listener::new(Answer::Ok);
    app.set("NEXUS_PING_BACKUP", &listener.url);
    service.inject(Fault::Stall, FaultAt::Operation { name: "CopyObject".to_owned(), nth: 1 });
    let mut running = app.start(&["backup", "--metrics-file", "nexus.prom"]);
    while service.faults_fired() == 0 || listener.heard().is_empty() {
        assert!(running.ended_within(Duration::from_millis(5)).is_none(), "it ended before it was killed");
    }
    running.kill();
    let _ = running.wait(crate::app::LIMIT);
    service.clear_faults();
    let seen = metrics(&app);
    assert_eq!(seen[&run_of("backup", "running")], "1");
    assert!(!seen.contains_key(&run_of("backup", "exit_status")), "{seen:?}");
    assert_eq!(listener.heard(), ["GET /ping/a-secret/start HTTP/1.1"]);
    app.run(&["backup", "--metrics-file", "nexus.prom"]).ends_with(0);
    assert_eq!(metrics(&app)[&run_of("backup", "running")], "0");
}

#[tokio::test]
async fn a_file_that_is_not_ours_or_cannot_be_written_is_refused_before_anything_is_done() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.write("notes.prom", "some_other_metric 1\n");
    app.run(&["backup", "--metrics-file", "notes.prom"]).refuses(2, "is no metrics file of nexus");
    assert_eq!(std::fs::read_to_string(app.path("notes.prom")).expect("it is there"), "some_other_metric 1\n");
    app.run(&["backup", "--metrics-file", "no/such/folder.prom"]).refuses(2, "cannot write the metrics file");
    assert!(app.vault().await.is_empty());
    app.run(&["backup", "--metrics-file", "nexus.prom", "--dry-run"]).ends_with(0);
    assert!(!app.path("nexus.prom").exists());
}

#[tokio::test]
async fn pings_tell_start_success_and_failure_of_the_verb_they_are_for() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let (backup, verify) = (Listener::new(Answer::Ok), Listener::new(Answer::Ok));
    app.configure(&format!("[ping]\nbackup = \"{}\"\nverify = \"{}?a=b\"\n", backup.url, verify.url));
    app.back_up(&[]);
    assert_eq!(backup.heard(), ["GET /ping/a-secret/start HTTP/1.1", "GET /ping/a-secret HTTP/1.1"]);
    assert!(verify.heard().is_empty());
    app.run(&["backup", "--database", "none.sqlite3"]).ends_with(2);
    assert_eq!(backup.heard().last().map(String::as_str), Some("GET /ping/a-secret/fail HTTP/1.1"));
    app.run(&["verify", "none_20250101_000000"]).ends_with(2);
    assert_eq!(verify.heard(), ["GET /ping/a-secret/start?a=b HTTP/1.1", "GET /ping/a-secret/fail?a=b HTTP/1.1"]);
    app.run(&["backup", "--dry-run"]).ends_with(0);
    assert_eq!(backup.heard().len(), 4);
}

#[tokio::test]
async fn a_ping_server_that_is_dead_hangs_fails_or_sends_elsewhere_fails_no_backup_and_its_url_is_never_shown() {
    let (_service, endpoint) = sandbox();
    let mut app = App::clinic(endpoint).await;
    let dead = "http://127.0.0.1:9/ping/a-secret".to_owned();
    let urls = [Answer::Error, Answer::Redirect, Answer::Never].map(|answer| Listener::new(answer).url);
    for url in urls.into_iter().chain([dead]) {
        app.set("NEXUS_PING_BACKUP", &url);
        let ended = app.run(&["backup", "--log-file", "log"]).ends_with(0).says("the ping for backup");
        let log = std::fs::read_to_string(app.path("log")).expect("a log");
        for told in [&ended.out, &ended.err, &log] {
            assert!(!told.contains("a-secret"), "{told}");
        }
    }
    for wrong in ["ping = \"https://hc.example/a-secret\"\n", "[ping]\n\"https://hc.example/a-secret\" = 1\n"] {
        app.write("wrong.toml", &format!("{wrong}{}", if wrong.starts_with('[') { "" } else { "app = \"clinic\"\n" }));
        let refused = app.run(&["backup", "--config", "wrong.toml"]).ends_with(2);
        assert!(!refused.err.contains("a-secret"), "{}", refused.err);
    }
    app.set("NEXUS_PING_BACKUP", "not a-secret");
    let refused = app.run(&["backup"]).refuses(2, "the ping for backup is not a URL");
    assert!(!refused.err.contains("a-secret"), "{}", refused.err);
}

#[tokio::test]
async fn a_hook_before_a_backup_that_fails_or_hangs_keeps_it_from_being_made() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let failed = "failed = \"echo $NEXUS_VERB $NEXUS_STATUS $NEXUS_REASON >>told\"\n";
    app.configure(&format!("[hooks]\nbefore = \"exit 3\"\n{failed}"));
    app.run(&["backup"]).refuses(2, "the hook `before` ended with exit status: 3, so nothing was backed up");
    assert!(app.vault().await.is_empty());
    app.configure(&format!("[hooks]\nbefore = \"sleep 60\"\npatience = \"1s\"\n{failed}"));
    app.run(&["backup"]).refuses(2, "did not end within 1s and was ended");
    assert!(app.vault().await.is_empty());
    app.run(&["guard", "--", "touch", "ran"]).ends_with(125);
    assert!(!app.path("ran").exists());
    let told = std::fs::read_to_string(app.path("told")).expect("the hook `failed` ran");
    let told: Vec<&str> = told.lines().collect();
    assert!(told[0].starts_with("backup 2 the hook `before` ended with exit status: 3"), "{told:?}");
    assert!(told[2].starts_with("guard 125 "), "{told:?}");
    assert_eq!(told.len(), 3);
}

#[tokio::test]
async fn the_hook_after_a_backup_has_its_point_and_its_failure_leaves_the_point_and_is_told() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[hooks]\nbefore = \"echo before >>told\"\nafter = \"echo after $NEXUS_POINT >>told\"\nfailed = \"echo failed >>told\"\n");
    let id = app.back_up(&[]);
    let told = || std::fs::read_to_string(app.path("told")).expect("the hooks ran");
    assert_eq!(told(), format!("before\nafter {id}\n"));
    app.run(&["guard", "--", "touch", "ran"]).ends_with(0);
    assert!(app.path("ran").exists());
    assert_eq!(told().lines().count(), 4);
    app.configure("[hooks]\nafter = \"exit 4\"\nfailed = \"echo failed $NEXUS_STATUS >>told\"\n");
    app.run(&["backup"]).ends_with(1).says("is committed and proven, but the hook `after` ended with exit status: 4");
    assert!(told().ends_with("failed 1\n"), "{}", told());
    assert_eq!(app.points().iter().filter(|(_, state)| state == "proven").count(), 3);
    // What the hook `failed` does changes nothing.
    app.configure("[hooks]\nfailed = \"exit 7\"\n");
    app.run(&["verify", "none_20250101_000000"]).ends_with(2).says("the hook `failed` ended with exit status: 7");
}
