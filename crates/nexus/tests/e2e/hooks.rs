//! The commands around a restore: the app is stopped before anything is touched and started again however it ends.

use std::time::{Duration, Instant};

use nexus_sandbox::{Fault, FaultAt};
use nexus_testkit::kill::Running;
use nexus_testkit::postgres::{Database, Server};
use nexus_testkit::wal::Holder;
use serde_json::json;

use crate::app::{App, LIMIT, sandbox};
use crate::postgres::{DEBIAN, app, configure};

/// Hooks that say in a file what they were told; `before` does something more first.
fn hooks(before: &str) -> String {
    format!(
        "[hooks]\nbefore-restore = '''{before}\necho \"before $NEXUS_POINT\" >> told'''\n\
         after-restore = 'echo \"after $NEXUS_POINT $NEXUS_RESTORED\" >> told'\npatience = \"1s\"\n"
    )
}

/// What the hooks were told, and forgotten.
fn told(app: &App) -> String {
    let text = std::fs::read_to_string(app.path("told")).unwrap_or_default();
    let _ = std::fs::remove_file(app.path("told"));
    text
}

#[tokio::test]
async fn the_app_is_stopped_before_the_safety_point_and_started_after_the_restore() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    // The last thing that the app writes is in the safety point.
    app.configure(&hooks("sqlite3 db.sqlite3 \"INSERT INTO visit (patient, note) VALUES (3, 'last words')\""));
    let id = app.back_up(&[]);
    let before = app.state().await;
    app.run(&["restore", &id, "--dry-run"]).ends_with(0);
    app.run(&["restore", &id, "--to-database", "elsewhere.db", "--only", "database", "--yes"]).ends_with(0);
    app.run(&["restore", &id]).refuses(2, "confirmed");
    assert_eq!(told(&app), "", "neither a dry run nor a restore elsewhere touches the app");
    let done = app.restore(&[&id]);
    assert_eq!(told(&app), format!("before {id}\nafter {id} yes\n"));
    assert_eq!(app.state().await, before);
    let safety = done["safety_point"].as_str().unwrap_or_else(|| panic!("{done}"));
    let manifest = app.run(&["show", safety, "--json"]).ends_with(0).json()["manifest"].clone();
    assert_eq!(manifest["parts"]["database"]["tables"]["visit"], 3);
    app.assert_no_litter();
}

/// The plan was made while it still ran.
#[tokio::test]
async fn the_last_file_that_the_app_writes_is_in_the_safety_point_and_does_not_stand_in_the_way() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    let before = app.state().await;
    app.write("last", "last words");
    let url = app.endpoint.url.clone();
    let put = |key: &str| format!("\"$AWS\" --endpoint-url {url} s3 cp last s3://{}/{key} >&2", app.bucket);
    let hooks = hooks(&format!("AWS={}\n{}", nexus_testkit::services::aws().display(), put("images/a.jpg")));
    app.configure(&hooks.replace("1s", "60s"));
    let done = app.restore(&[&id, "--delete-extra"]);
    assert_eq!(app.state().await, before);
    let safety = done["safety_point"].as_str().unwrap_or_else(|| panic!("{done}"));
    app.restore(&[safety, "--delete-extra"]);
    let (bytes, _) = app.files().await["images/a.jpg"].clone();
    assert_eq!(bytes, u64::try_from("last words".len()).expect("few"));
}

#[tokio::test]
async fn a_safety_point_that_does_not_hold_what_came_since_is_not_all_that_is_taken() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    app.delete("notes").await;
    // Nothing but the database would be lost, and the file that is put back is the last that is done.
    service.reset_counts();
    service.inject(Fault::Stall, FaultAt::Operation { name: "CopyObject".to_owned(), nth: 1 });
    let mut running = app.start(&["restore", &id, "--yes"]);
    while service.faults_fired() == 0 {
        assert!(running.ended_within(Duration::from_millis(2)).is_none(), "nothing is copied");
    }
    running.kill();
    running.wait(LIMIT);
    service.clear_faults();
    app.put("images/a.jpg", b"what came since").await;
    let now = app.files().await;
    let done = app.restore(&[&id]);
    let safety = done["safety_point"].as_str().unwrap_or_else(|| panic!("{done}"));
    app.restore(&[safety, "--delete-extra", "--only", "files"]);
    assert_eq!(app.files().await, now);
}

#[tokio::test]
async fn a_hook_that_fails_or_hangs_refuses_the_restore_and_the_app_is_started_again() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    app.wreck().await;
    let (before, points) = (app.state().await, app.points());
    // The second one does not end when it is asked to, and has started another.
    for (script, says) in [
        ("exit 7", "ended with exit status: 7"),
        ("trap '' TERM; sleep 600 & echo $! > child; wait; sleep 600", "did not end within 1s"),
    ] {
        app.configure(&hooks(script));
        app.run(&["restore", &id, "--yes"]).refuses(2, "before-restore").says(says).says("nothing was restored");
        assert_eq!(told(&app), format!("after {id} no\n"), "{script}");
        assert!(app.state().await == before && app.points() == points, "{script} changed something");
    }
    assert!(is_gone(&app, "child"), "what it started runs on");
}

/// Whether the process whose number a hook wrote down has ended; one that nobody waited for counts.
pub fn is_gone(app: &App, file: &str) -> bool {
    let pid = std::fs::read_to_string(app.path(file)).expect("it was written down");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

#[tokio::test]
async fn an_app_that_does_not_start_again_is_a_bad_answer_to_a_restore_that_was_done() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    let before = app.state().await;
    app.wreck().await;
    app.configure("[hooks]\nafter-restore = \"echo starting; exit 3\"\n");
    let ended = app.run(&["restore", &id, "--yes", "--json", "--delete-extra"]).ends_with(1);
    assert_eq!(ended.json()["equal"], true, "{}", ended.out);
    let last = ended.err.trim_end().lines().rev().nth(1).expect("two lines").to_owned();
    assert!(last.contains("everything was restored, but after-restore ended with exit status: 3"), "{}", ended.err);
    assert!(ended.err.contains("starting"), "what a hook says goes to standard error:\n{}", ended.err);
    assert_eq!(app.state().await, before);
}

#[tokio::test]
async fn a_restore_that_fails_starts_the_app_again_and_says_that_it_is_not_restored() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    app.configure(&hooks("true"));
    let mut holder = Holder::open(&app.database);
    holder.query("BEGIN IMMEDIATE");
    holder.query("INSERT INTO clinic_patient (first_name) VALUES ('theirs')");
    app.run(&["restore", &id, "--only", "database", "--no-safety-point", "--yes"]).refuses(2, "python");
    assert_eq!(told(&app), format!("before {id}\nafter {id} no\n"));
}

/// Waits until a hook has written a file.
fn written(app: &App, file: &str, running: &mut Running) {
    let deadline = Instant::now() + LIMIT;
    while !app.path(file).exists() {
        assert!(Instant::now() < deadline && running.ended_within(Duration::ZERO).is_none(), "{file} does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test]
async fn an_interrupt_ends_the_hook_that_runs_and_starts_the_app_again() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    let before = app.state().await;
    // While the app is being stopped.
    let hook = hooks("sleep 600 & echo $! > child; wait").replace("1s", "10m");
    app.configure(&hook);
    let mut running = app.start(&["restore", &id, "--yes"]);
    written(&app, "child", &mut running);
    running.interrupt();
    assert_eq!(running.wait(LIMIT).status.code(), Some(130));
    assert_eq!(told(&app), format!("after {id} no\n"));
    assert!(is_gone(&app, "child"), "what it started runs on");
    assert_eq!(app.state().await, before);
    // While it restores: the service answers no more once the app is stopped.
    app.wreck().await;
    app.configure(&hooks("touch stopped"));
    service.reset_counts();
    service.inject(Fault::Stall, FaultAt::Operation { name: "CopyObject".to_owned(), nth: 1 });
    let running = app.start(&["restore", &id, "--yes", "--no-safety-point"]);
    let deadline = Instant::now() + LIMIT;
    while service.faults_fired() == 0 {
        assert!(Instant::now() < deadline, "nothing is copied");
        std::thread::sleep(Duration::from_millis(2));
    }
    running.interrupt();
    assert_eq!(running.wait(LIMIT).status.code(), Some(130));
    service.clear_faults();
    assert_eq!(told(&app), format!("before {id}\nafter {id} no\n"));
}

/// An app that takes long to start is neither ended nor waited for.
#[tokio::test]
async fn a_slow_start_after_an_interrupt_goes_on_by_itself_and_that_is_said() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    app.write("go", "");
    app.configure(
        "[hooks]\nbefore-restore = 'touch stopping; sleep 600'\n\
         after-restore = 'exec >/dev/null 2>&1; while [ -e go ]; do sleep 0.05; done; echo started > started'\n",
    );
    let mut running = app.start(&["restore", &id, "--yes"]);
    written(&app, "stopping", &mut running);
    running.interrupt();
    let ended = running.wait(LIMIT);
    let words = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(130));
    assert!(words.contains("goes on by itself as process"), "{words}");
    std::fs::remove_file(app.path("go")).expect("it was written");
    let deadline = Instant::now() + LIMIT;
    while !app.path("started").exists() {
        assert!(Instant::now() < deadline, "the app was not started");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn sessions_that_the_hook_ends_are_not_in_the_way_and_those_that_stay_are_named() {
    let server = Server::shared(DEBIAN);
    let (database, _, _) = Database::with_everything(&server);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let before = database.digest();
    let id = app.back_up(&[]);
    let mut session = server.psql(&database.name);
    session.args(["-c", "select pg_sleep(600)"]).env("PGAPPNAME", "the app");
    let session = Running::start(session);
    let inside = "select count(*) from pg_stat_activity where application_name = 'the app' and query like '%sleep%'";
    while database.sql(inside) == "0" {
        tokio::task::yield_now().await;
    }
    let with = |hooks: &str| {
        configure(&app, &database.url(), DEBIAN);
        let text = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
        app.write("nexus.toml", &format!("{}\n{hooks}", text.replace("10s", "1s")));
    };
    with(&hooks("true"));
    let refused = app.run(&["restore", &id, "--yes"]).refuses(2, "application the app, from 127.0.0.1, since 20");
    assert!(refused.err.contains("role "), "{}", refused.err);
    assert_eq!(told(&app), format!("before {id}\nafter {id} no\n"));
    assert_eq!(database.digest(), before);
    let end = format!(
        "{} -X -q -d '{}' -c \"select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'the app'\"",
        server.bin.join("psql").display(),
        server.url("postgres")
    );
    with(&hooks(&end));
    let done = app.restore(&[&id]);
    assert_eq!(done["database"]["equal_tables"], done["database"]["tables"]);
    assert_eq!(told(&app), format!("before {id}\nafter {id} yes\n"));
    assert_eq!(database.digest(), before);
    drop(session);
    assert_eq!(json!(app.points().len()), json!(1));
}
