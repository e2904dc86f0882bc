//! Ended without a chance to clean up, at any request: what is committed stays whole, and the next run finds its way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nexus_sandbox::{Fault, FaultAt, Service};
use nexus_testkit::kill::Running;

use crate::app::{App, sandbox};

/// How far apart the requests are at which a run is killed.
const STEP: usize = 3;
const LIMIT: Duration = Duration::from_secs(30);

/// Waits until a fault has struck; false when the run ended without.
fn struck(service: &Service, running: &mut Running) -> bool {
    let deadline = Instant::now() + LIMIT;
    while service.faults_fired() == 0 {
        assert!(Instant::now() < deadline, "the run neither ends nor comes to the request");
        if ended(running) {
            return service.faults_fired() > 0;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// A process that has ended and was not waited for is a zombie: state `Z` in `/proc`.
fn ended(running: &Running) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.id())).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// Starts the run, kills it at the request, and says whether it came that far.
fn killed(app: &App, service: &Service, words: &[&str], fault: Fault, at: FaultAt) -> bool {
    service.reset_counts();
    service.inject(fault, at);
    let mut running = app.start(words);
    let came = struck(service, &mut running);
    running.kill();
    let output = running.wait(LIMIT);
    service.clear_faults();
    assert!(came || output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    came
}

/// Every listed point that is committed is whole; nothing in `before` has changed. Answers with the committed ids.
async fn sound(app: &App, before: &BTreeMap<String, Vec<u8>>, known: &[String]) -> Vec<String> {
    let mut committed = Vec::new();
    for (id, state) in app.points() {
        match state.as_str() {
            "proven" | "unproven" => committed.push(id),
            "unfinished" => {}
            other => panic!("{id} is {other}"),
        }
    }
    for id in committed.iter().filter(|id| !known.contains(id)) {
        app.run(&["verify", id]).ends_with(0);
    }
    let after = app.vault().await;
    for (key, body) in before {
        assert_eq!(after.get(key), Some(body), "{key} was changed or removed");
    }
    committed
}

/// The record folders that are here are those of committed points.
fn records_are_those_of(app: &App, committed: &[String]) {
    for entry in std::fs::read_dir(app.path("backups")).expect("the folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(name == ".gitignore" || committed.contains(&name), "records of {name}, which is no point, are left");
    }
}

#[tokio::test]
async fn a_backup_killed_at_any_request_leaves_every_listed_point_whole() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let mut known = vec![app.back_up(&[])];
    app.put("images/a.jpg", b"changed, as before each run below").await;
    service.reset_counts();
    known.push(app.back_up(&[]));
    let requests = service.requests();
    let before_each = (1..=requests).step_by(STEP).map(|nth| (Fault::Stall, nth));
    let after_late_ones = (requests - 12..requests).step_by(STEP).map(|nth| (Fault::StallAfter, nth));
    for (at, (fault, nth)) in before_each.chain(after_late_ones).enumerate() {
        app.put("images/a.jpg", format!("changed {at}").as_bytes()).await;
        let before = app.vault().await;
        assert!(killed(&app, &service, &["backup"], fault, FaultAt::Nth(nth)), "there is no request {nth}");
        known = sound(&app, &before, &known).await;
        known.push(app.back_up(&[]));
        app.assert_no_litter();
    }
    assert_eq!(service.store().open_uploads(&app.bucket), 0);
}

/// They are put into place after the commit, because the vault holds them; until then they lie beside it.
#[tokio::test]
async fn records_of_a_backup_that_was_killed_at_its_commit_are_gone_after_the_next() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let mut known = vec![app.back_up(&[])];
    // Nothing has changed, so every PUT of this run is one of a whole object.
    service.reset_counts();
    known.push(app.back_up(&[]));
    let puts: Vec<_> = service.log().into_iter().filter(|request| request.starts_with("PUT")).collect();
    let commit = puts.iter().position(|request| request.contains("manifest.json")).expect("a commit") + 1;
    let commit = FaultAt::Operation { name: "PutObject".to_owned(), nth: u64::try_from(commit).expect("small") };
    let before = app.vault().await;
    assert!(killed(&app, &service, &["backup"], Fault::Stall, commit));
    let struck = service.log().pop().expect("a request");
    assert!(struck.starts_with("PUT") && struck.contains("manifest.json"), "{struck} is not the commit");
    known = sound(&app, &before, &known).await;
    known.push(app.back_up(&[]));
    records_are_those_of(&app, &known);
}

#[tokio::test]
async fn an_interrupt_in_the_middle_of_the_records_leaves_none_of_them() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    // Many small files: one is always being made while the folder is cleared.
    let tables: Vec<_> = (0..1_000).map(|at| format!("CREATE TABLE t{at} (id INTEGER PRIMARY KEY);")).collect();
    app.sql(&tables.concat());
    for _ in 0..3 {
        // Files are copied while records are written.
        service.reset_counts();
        service.inject(Fault::Stall, FaultAt::Operation { name: "CopyObject".to_owned(), nth: 1 });
        let mut running = app.start(&["backup"]);
        assert!(struck(&service, &mut running));
        running.interrupt();
        let output = running.wait(Duration::from_secs(5));
        service.clear_faults();
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        app.assert_no_litter();
        records_are_those_of(&app, &[]);
    }
}

#[tokio::test]
async fn a_restore_killed_at_any_request_leaves_the_old_database_or_the_new_and_can_be_run_again() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let before = app.state().await;
    let id = app.back_up(&[]);
    let words = ["restore", &id, "--delete-extra", "--yes"];
    app.wreck().await;
    service.reset_counts();
    app.run(&words).ends_with(0);
    let requests = service.requests();
    assert_eq!(app.state().await, before);
    for nth in (1..=requests).step_by(STEP) {
        app.wreck().await;
        let (wrecked, vault) = (app.state().await.database, app.vault().await);
        assert!(
            killed(&app, &service, &words, Fault::Stall, FaultAt::Nth(nth)) || nth + 4 > requests,
            "there is no request {nth}"
        );
        let now = app.state().await.database;
        assert!(now == wrecked || now == before.database, "the database is mixed after a kill at request {nth}");
        sound(&app, &vault, &app.points().into_iter().map(|(id, _)| id).collect::<Vec<_>>()).await;
        app.run(&words).ends_with(0);
        assert_eq!(app.state().await, before, "after a kill at request {nth}");
        app.assert_no_litter();
    }
    app.run(&["verify", &id]).ends_with(0);
}

#[tokio::test]
async fn an_interrupt_ends_a_backup_and_a_restore_within_five_seconds_with_130() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    app.wreck().await;
    for words in [&["backup"][..], &["restore", &id, "--yes"]] {
        for nth in [2, 12, 25] {
            service.reset_counts();
            service.inject(Fault::Stall, FaultAt::Nth(nth));
            let mut running = app.start(words);
            assert!(struck(&service, &mut running), "{words:?} has fewer than {nth} requests");
            running.interrupt();
            let output = running.wait(Duration::from_secs(5));
            service.clear_faults();
            assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
            app.assert_no_litter();
        }
    }
    assert_eq!(service.store().open_uploads(&app.bucket), 0);
    app.restore(&[&id]);
}
