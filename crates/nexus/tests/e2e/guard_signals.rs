//! Signals and crashes around a guarded command: it never starts after one, is told of it, and the next call says how
//! things stand.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nexus_sandbox::{Fault, FaultAt, Service};
use nexus_testkit::kill::{self, Running};
use nexus_testkit::postgres::{Database, Server};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::app::{App, Ended, LIMIT, sandbox};
use crate::guard::{deed, entries, guarded, put_of, runs};
use crate::postgres::DEBIAN;
use crate::postgres_backup;

/// All of ours is gone this long after a signal.
const GONE: Duration = Duration::from_secs(5);
/// How many moments signals come at.
const MOMENTS: u64 = 20;

fn send(running: &Running, signal: Signal) {
    let id = i32::try_from(running.id()).ok().and_then(Pid::from_raw);
    kill_process(id.expect("a process"), signal).expect("it is ours");
}

/// Waits until a fault has struck; false when the run ended without.
fn struck(service: &Service, running: &mut Running) -> bool {
    while service.faults_fired() == 0 {
        if running.ended_within(Duration::from_millis(2)).is_some() {
            return service.faults_fired() > 0;
        }
    }
    true
}

/// Waits until the command has made this file.
fn wait_for(app: &App, name: &str, running: &mut Running) {
    let deadline = Instant::now() + LIMIT;
    while !app.path(name).exists() {
        assert!(running.ended_within(Duration::from_millis(5)).is_none(), "it ended before its command ran");
        assert!(Instant::now() < deadline, "the command did not come so far");
    }
}

/// The processes that work in the app's folder.
fn left(app: &App) -> Vec<u32> {
    let folder = app.path("").canonicalize().expect("it is there");
    let ids = std::fs::read_dir("/proc")
        .expect("processes")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| std::fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd.starts_with(&folder))).collect()
}

/// Moments spread over a guard's requests before its command, then two at the announcement: before and after it is made.
fn moments(app: &App, service: &Service) -> Vec<(Fault, FaultAt)> {
    let announcement = put_of(app, service, "-guard-started-");
    let log = service.log();
    let requests = log.iter().position(|request| request.starts_with("PUT") && request.contains("-guard-started-"));
    let requests = u64::try_from(requests.expect("it was put")).expect("few");
    assert!(requests > MOMENTS, "{requests}");
    let spread = (1..=MOMENTS).map(|moment| (Fault::Stall, FaultAt::Nth((requests * moment).div_ceil(MOMENTS))));
    let at = FaultAt::Operation { name: "PutObject".to_owned(), nth: announcement };
    spread.chain([(Fault::Stall, at.clone()), (Fault::StallAfter, at)]).collect()
}

#[tokio::test]
async fn after_a_signal_at_any_moment_the_command_never_starts_and_all_is_gone_within_five_seconds() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "");
    app.back_up(&[]);
    let moments = moments(&app, &service);
    for signal in [Signal::INT, Signal::TERM] {
        for (fault, at) in moments.clone() {
            service.reset_counts();
            service.inject(fault, at.clone());
            let mut running = app.start(&guarded(&[]));
            assert!(struck(&service, &mut running), "there is no request {at:?}");
            send(&running, signal);
            let ended = Ended::of(running.wait(GONE));
            service.clear_faults();
            ended.ends_with(125).says("it was not run");
            assert_eq!(left(&app), Vec::<u32>::new(), "{signal:?} at request {at:?}");
            assert_eq!(runs(&app), Vec::<String>::new(), "{signal:?} at request {at:?}");
            app.assert_no_litter();
        }
    }
}

#[tokio::test]
async fn a_signal_while_a_server_is_dumped_leaves_no_program_of_its_behind() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    postgres_backup::fill(&database);
    let (service, app) = postgres_backup::app(&database.url(), "").await;
    deed(&app, "");
    for signal in [Signal::INT, Signal::TERM] {
        service.reset_counts();
        service.inject(Fault::Stall, FaultAt::Operation { name: "UploadPart".to_owned(), nth: 2 });
        let mut running = app.start(&guarded(&["--check", "select 1 where false"]));
        assert!(struck(&service, &mut running), "no part was stored");
        let programs = left(&app);
        assert!(programs.len() > 1, "pg_dump does not run: {programs:?}");
        send(&running, signal);
        Ended::of(running.wait(GONE)).ends_with(125).says("it was not run");
        service.clear_faults();
        assert_eq!(left(&app), Vec::<u32>::new());
        assert_eq!(service.store().open_uploads(&app.bucket), 0);
        assert_eq!(runs(&app), Vec::<String>::new());
    }
}

/// The announcement is made while the signal comes, and all that is left to do is to start the command.
#[tokio::test]
async fn a_signal_that_comes_while_the_command_is_announced_is_seen_before_it_is_started() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[s3]\nrequest-timeout = \"1s\"\n");
    deed(&app, "");
    app.back_up(&[]);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let nth = put_of(&app, &service, "-guard-started-");
        let before = entries(&app, "guard-started").await.len();
        service.reset_counts();
        service.inject(Fault::StallAfter, FaultAt::Operation { name: "PutObject".to_owned(), nth });
        let mut running = app.start(&guarded(&[]));
        assert!(struck(&service, &mut running), "nothing was announced");
        // Its answer is given up after a second, and another try finds the entry there.
        send(&running, signal);
        Ended::of(running.wait(GONE)).ends_with(125).says("it was not run");
        service.clear_faults();
        assert_eq!(runs(&app), Vec::<String>::new(), "{signal:?}");
        let announced = entries(&app, "guard-started").await;
        assert_eq!(announced.len(), before + 1);
        let last = announced.last().expect("an entry");
        let ended = entries(&app, "guard-ended").await.into_iter().find(|entry| entry["started"] == last["nonce"]);
        assert!(ended.is_none_or(|entry| entry["outcome"] == "not-run"));
    }
}

/// SIGQUIT is the command's while it runs, and nobody's before.
#[tokio::test]
async fn a_quit_while_the_command_is_announced_ends_the_guard_and_is_not_kept_for_the_command() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[s3]\nrequest-timeout = \"1s\"\n");
    deed(&app, "");
    app.back_up(&[]);
    let nth = put_of(&app, &service, "-guard-started-");
    service.reset_counts();
    service.inject(Fault::StallAfter, FaultAt::Operation { name: "PutObject".to_owned(), nth });
    let mut running = app.start(&guarded(&[]));
    assert!(struck(&service, &mut running), "nothing was announced");
    send(&running, Signal::QUIT);
    let ended = Ended::of(running.wait(GONE));
    service.clear_faults();
    assert_eq!((ended.status, runs(&app)), (None, Vec::new()), "{}", ended.err);
}

#[tokio::test]
async fn a_kill_at_any_request_leaves_the_state_before_and_the_command_is_not_run() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "");
    app.back_up(&[]);
    let before = app.state().await;
    for (fault, at) in moments(&app, &service) {
        // A run goes on from one that was killed, with another number of requests, unless a point came between.
        app.back_up(&[]);
        service.reset_counts();
        service.inject(fault, at.clone());
        let mut running = app.start(&guarded(&[]));
        assert!(struck(&service, &mut running), "there is no request {at:?}");
        running.kill();
        running.wait(LIMIT);
        service.clear_faults();
        assert_eq!(runs(&app), Vec::<String>::new(), "request {at:?}");
        assert_eq!(app.state().await, before);
        let announced = fault == Fault::StallAfter;
        let told = app.run(&["list"]).ends_with(0);
        let says = "was started, or just about to be, and does not run any more";
        assert_eq!(told.err.contains(says), announced, "request {at:?}:\n{}", told.err);
    }
    app.run(&guarded(&[])).ends_with(0).says("has not said how its command ended");
    app.assert_no_litter();
}

/// Starts a guard whose command waits for a file to go away, and kills the guard alone.
fn orphaned(app: &App) -> String {
    deed(app, "touch ready; while [ -e ready ]; do sleep 0.02; done; touch done");
    let mut running = app.start(&["guard", "--", "sh", "-c", "exec ./deed.sh </dev/null >/dev/null 2>&1"]);
    wait_for(app, "ready", &mut running);
    let note = app.run(&["list"]).ends_with(0);
    assert!(note.err.contains("is at work: process"), "{}", note.err);
    running.kill();
    running.wait(LIMIT);
    runs(app).pop().expect("a run")
}

fn let_it_end(app: &App) {
    std::fs::remove_file(app.path("ready")).expect("it waits for that");
    let deadline = Instant::now() + LIMIT;
    while !left(app).is_empty() {
        assert!(Instant::now() < deadline, "the command does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(app.path("done").exists());
}

#[tokio::test]
async fn the_next_call_says_whether_the_command_of_a_killed_guard_still_runs_until_that_matters_no_more() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let point = orphaned(&app);
    let (key, entry) =
        app.vault().await.into_iter().find(|(key, _)| key.contains("-guard-started-")).expect("an entry");
    app.put(&format!("backup/{key}"), &entry[..entry.len() / 2]).await;
    app.run(&["list"]).ends_with(0).says(&format!("a guard of {point} began, and its entry")).says("cannot be read");
    app.put(&format!("backup/{key}"), &entry).await;
    let still = app
        .run(&["list"])
        .ends_with(0)
        .says("has not said how its command ended: it, or what it has started, still runs as process ");
    let still = still.says(&format!("`nexus restore {point} --vault s3://{}/backup", app.bucket));
    assert!(serde_json::from_str::<Value>(&still.out).is_err() && still.out.contains(&point));
    // The command itself, and what it calls, is not told of its own guard.
    let mut inside = app.command(&["list"]);
    let started = entries(&app, "guard-started").await.pop().expect("it is there");
    inside.env("NEXUS_GUARD", started["nonce"].as_str().expect("a nonce"));
    assert!(!Ended::of(kill::run(inside, LIMIT)).err.contains("guard"));
    let_it_end(&app);
    for verb in [&["list", "--json"][..], &["show"], &["verify"], &["restore", "latest", "--dry-run"]] {
        let told = app.run(verb).ends_with(0).says("does not run any more").says("how it ended is not known");
        if verb.contains(&"--json") {
            told.json();
        }
    }
    // A part of the state before it is not all of it.
    app.restore(&[&point, "--only", "database"]);
    app.run(&["list"]).ends_with(0).says("how it ended is not known");
    app.restore(&[&point, "--key", "notes"]);
    app.run(&["list"]).ends_with(0).says("how it ended is not known");
    // Neither is the state before it somewhere else, nor a newer point of a part of it.
    app.restore(&[&point, "--to-database", "elsewhere.db", "--to-files", "elsewhere"]);
    app.run(&["list"]).ends_with(0).says("how it ended is not known");
    app.back_up(&["--only", "files"]);
    app.run(&["list"]).ends_with(0).says("how it ended is not known");
    // The state before it is back, so how it ended matters no more.
    app.restore(&[&point]);
    assert!(!app.run(&["list"]).ends_with(0).err.contains("guard"));
    // Neither does it once a newer point is proven, and the run that makes it is told for the last time.
    orphaned(&app);
    let_it_end(&app);
    app.run(&["backup", "--quiet"]).ends_with(0).says("how it ended is not known");
    assert!(!app.run(&["list"]).ends_with(0).err.contains("guard"));
    assert_eq!(entries(&app, "guard-ended").await, Vec::<Value>::new());
}

/// Makes the entry of a guard name another process, and a time an hour ago.
async fn blame(app: &App, process: u32) {
    let (key, entry) =
        app.vault().await.into_iter().find(|(key, _)| key.contains("-guard-started-")).expect("an entry");
    let mut entry: Value = serde_json::from_slice(&entry).expect("JSON");
    entry.as_object_mut().expect("an object").remove("check");
    entry["process"] = json!(process);
    entry["at"] = json!((jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1)).to_string());
    app.put(&format!("backup/{key}"), &nexus_core::point::document(&entry)).await;
}

/// In a container that is started anew everything has the ids of before.
#[tokio::test]
async fn a_guard_is_not_taken_to_be_at_work_because_another_nexus_has_its_id() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    orphaned(&app);
    let_it_end(&app);
    let gone = "does not run any more";
    // This very run.
    let script = "echo $$ > id; while [ -e id ]; do sleep 0.02; done; exec \"$0\" list";
    let mut command = app.tool(Path::new("/bin/sh"));
    command.args(["-c", script, env!("CARGO_BIN_EXE_nexus")]);
    let mut running = Running::start(command);
    wait_for(&app, "id", &mut running);
    blame(&app, running.id()).await;
    std::fs::remove_file(app.path("id")).expect("it waits for that");
    Ended::of(running.wait(LIMIT)).ends_with(0).says(gone);
    // One that was started after the guard.
    service.inject(Fault::Stall, FaultAt::Nth(1));
    let mut other = app.start(&["list"]);
    assert!(struck(&service, &mut other), "it asks for something");
    service.clear_faults();
    blame(&app, other.id()).await;
    app.run(&["list"]).ends_with(0).says(gone);
}

#[tokio::test]
async fn a_guard_that_is_killed_while_it_restores_is_followed_by_both_warnings_and_the_restore_goes_on() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let before = app.state().await;
    deed(&app, "touch ready; while [ -e ready ]; do sleep 0.02; done; exit 7");
    let mut running = app.start(&guarded(&["--restore-on-failure", "--delete-extra"]));
    wait_for(&app, "ready", &mut running);
    app.wreck().await;
    let wrecked = app.state().await;
    service.reset_counts();
    service.inject(Fault::Stall, FaultAt::Operation { name: "CopyObject".to_owned(), nth: 4 });
    std::fs::remove_file(app.path("ready")).expect("it waits for that");
    assert!(struck(&service, &mut running));
    running.kill();
    running.wait(LIMIT);
    service.clear_faults();
    let point = runs(&app).pop().expect("a run");
    let told = app.run(&["list"]).ends_with(0).says("has not said how its command ended");
    told.says(&format!("a restore of {point} began")).says(&format!("`nexus restore {point} --vault"));
    let now = app.state().await.database;
    assert!(now == wrecked.database || now == before.database, "the database is mixed");
    app.restore(&[&point, "--delete-extra"]);
    assert_eq!(app.state().await, before);
    let told = app.run(&["list"]).ends_with(0);
    assert!(!told.err.contains("guard") && !told.err.contains("restore"), "{}", told.err);
}

/// Every so many requests a guard is killed after its command.
const STEP: usize = 4;

#[tokio::test]
async fn a_kill_at_any_request_after_the_command_leaves_the_state_before_or_after_and_the_next_call_says_so() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let before = app.state().await;
    app.write(
        "wreck.py",
        "import sqlite3\nc = sqlite3.connect('db.sqlite3')\nc.execute('DROP TABLE visit')\nc.commit()\n",
    );
    deed(&app, "touch ready; while [ -e ready ]; do sleep 0.02; done; python3 wreck.py; exit 7");
    for nth in (1..).step_by(STEP) {
        let mut running = app.start(&guarded(&["--restore-on-failure"]));
        wait_for(&app, "ready", &mut running);
        let point = runs(&app).pop().expect("a run");
        service.reset_counts();
        service.inject(Fault::Stall, FaultAt::Nth(nth));
        std::fs::remove_file(app.path("ready")).expect("it waits for that");
        if !struck(&service, &mut running) {
            service.clear_faults();
            Ended::of(running.wait(LIMIT)).ends_with(7).says("was restored");
            assert_eq!(app.state().await, before);
            assert!(nth > 20, "only {nth} requests followed the command");
            return;
        }
        running.kill();
        running.wait(LIMIT);
        service.clear_faults();
        let now = app.state().await;
        let is_before = now == before;
        assert!(is_before || now.database.len() < before.database.len(), "a mixed state at request {nth}");
        let ended = entries(&app, "guard-ended").await.iter().any(|entry| entry["point"] == point.as_str());
        let restored = entries(&app, "restored").await.iter().any(|entry| entry["point"] == point.as_str());
        let told = app.run(&["list"]).ends_with(0);
        let says = told.err.contains(&format!("the guard of {point} began"));
        assert_eq!(says, !ended && !restored, "request {nth}:\n{}", told.err);
        app.restore(&[&point]);
        assert_eq!(app.state().await, before, "request {nth}");
        assert_eq!(runs(&app).last(), Some(&point), "nothing but a guard runs the command");
    }
}

#[tokio::test]
async fn a_signal_to_the_guard_is_its_commands_and_the_status_too() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let body = "for s in INT TERM HUP USR1 QUIT; do trap \"echo $s >> heard\" $s; done
                touch ready; while [ -e ready ]; do sleep 0.02; done; exit 9";
    for (signal, name) in [
        (Signal::USR1, "USR1"),
        (Signal::QUIT, "QUIT"),
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
    ] {
        deed(&app, body);
        let mut running = app.start(&guarded(&["--restore-on-failure", "--no-account"]));
        wait_for(&app, "ready", &mut running);
        send(&running, signal);
        wait_for(&app, "heard", &mut running);
        std::fs::remove_file(app.path("ready")).expect("it waits for that");
        let ended = Ended::of(running.wait(LIMIT)).ends_with(9).says("status 9");
        assert_eq!(std::fs::read_to_string(app.path("heard")).expect("it"), format!("{name}\n"));
        std::fs::remove_file(app.path("heard")).expect("it is there");
        // Who asks the guard to end wants no restore: the command for it is told instead.
        let asked_to_end = ["INT", "TERM", "HUP"].contains(&name);
        assert_eq!(ended.err.contains("was restored"), !asked_to_end, "{name}:\n{}", ended.err);
        assert_eq!(ended.err.contains("`nexus restore "), asked_to_end, "{name}:\n{}", ended.err);
        let last = entries(&app, "guard-ended").await.pop().expect("a last word");
        assert_eq!((&last["outcome"], &last["status"]), (&json!("failed"), &json!(9)), "{name}");
        app.assert_no_litter();
    }
    assert_eq!(runs(&app).len(), 5);
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_and_all_is_gone_within_five_seconds() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "trap '' TERM; touch ready; while [ -e ready ]; do read line < fifo; done");
    let made = Command::new("mkfifo").arg(app.path("fifo")).status().expect("mkfifo");
    assert!(made.success());
    let mut running = app.start(&guarded(&["--restore-on-failure"]));
    wait_for(&app, "ready", &mut running);
    send(&running, Signal::TERM);
    let ended = Ended::of(running.wait(GONE)).ends_with(137).says("killed by signal 9").says("`nexus restore ");
    assert!(!ended.err.contains("was restored"), "{}", ended.err);
    assert_eq!(left(&app), Vec::<u32>::new());
    let last = entries(&app, "guard-ended").await.pop().expect("a last word");
    assert_eq!((&last["outcome"], &last["status"]), (&json!("killed"), &json!(137)));
    // A vault that does not answer then keeps nobody.
    let mut running = app.start(&guarded(&[]));
    std::fs::remove_file(app.path("ready")).expect("it is there");
    wait_for(&app, "ready", &mut running);
    service.reset_counts();
    service.inject(Fault::Stall, FaultAt::From(1));
    send(&running, Signal::TERM);
    Ended::of(running.wait(GONE)).ends_with(137).says("there was no time for it");
    service.clear_faults();
    assert_eq!(left(&app), Vec::<u32>::new());
    app.run(&["list"]).ends_with(0).says("how it ended is not known");
}

#[tokio::test]
async fn checks_that_a_signal_left_no_time_for_are_no_success() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "trap 'exit 0' TERM; touch ready; while :; do sleep 0.02; done");
    for (more, status) in [(&["--check", "SELECT 1 WHERE 1 = 0"][..], 1), (&[][..], 0)] {
        let mut running = app.start(&guarded(more));
        wait_for(&app, "ready", &mut running);
        send(&running, Signal::TERM);
        Ended::of(running.wait(GONE)).ends_with(status);
        std::fs::remove_file(app.path("ready")).expect("it is there");
    }
}

#[tokio::test]
async fn a_signal_while_the_guard_restores_ends_it_with_the_commands_status_and_the_way_back() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let before = app.state().await;
    deed(&app, "touch ready; while [ -e ready ]; do sleep 0.02; done; exit 7");
    let mut running = app.start(&guarded(&["--restore-on-failure", "--delete-extra"]));
    wait_for(&app, "ready", &mut running);
    app.wreck().await;
    service.reset_counts();
    service.inject(Fault::Stall, FaultAt::Operation { name: "CopyObject".to_owned(), nth: 4 });
    std::fs::remove_file(app.path("ready")).expect("it waits for that");
    assert!(struck(&service, &mut running));
    send(&running, Signal::TERM);
    let point = runs(&app).pop().expect("a run");
    let ended = Ended::of(running.wait(GONE));
    service.clear_faults();
    ended.ends_with(7).says("interrupted after").says(&format!("`nexus restore {point} --delete-extra"));
    assert_eq!(entries(&app, "guard-ended").await[0]["restored"], false);
    app.run(&["list"]).ends_with(0).says(&format!("a restore of {point} began"));
    app.restore(&[&point, "--delete-extra"]);
    assert_eq!(app.state().await, before);
}

#[tokio::test]
async fn a_service_that_answers_no_more_keeps_no_app_stopped_when_a_guards_restore_is_broken_off() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    // Large enough for the safety point to store it in parts.
    app.sql("CREATE TABLE large (x); INSERT INTO large VALUES (randomblob(20000000))");
    app.configure("[hooks]\nafter-restore = 'echo \"after $NEXUS_RESTORED\" >> told'\n");
    deed(&app, "touch ready; while [ -e ready ]; do sleep 0.02; done; exit 7");
    let mut running = app.start(&guarded(&["--restore-on-failure"]));
    wait_for(&app, "ready", &mut running);
    app.sql("DELETE FROM visit");
    service.reset_counts();
    for (name, nth) in [("UploadPart", 2), ("AbortMultipartUpload", 1)] {
        service.inject(Fault::Stall, FaultAt::Operation { name: name.to_owned(), nth });
    }
    std::fs::remove_file(app.path("ready")).expect("it waits for that");
    assert!(struck(&service, &mut running));
    send(&running, Signal::TERM);
    let ended = Ended::of(running.wait(GONE));
    service.clear_faults();
    ended.ends_with(7).says("interrupted after");
    assert_eq!(std::fs::read_to_string(app.path("told")).expect("the app was started"), "after no\n");
    assert_eq!(entries(&app, "guard-ended").await[0]["restored"], false);
}

#[tokio::test]
async fn a_signal_during_the_checks_is_no_success_and_says_that_they_were_not_made() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "touch ready; while [ -e ready ]; do sleep 0.02; done");
    let endless = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x FROM r WHERE x < 0";
    let mut running = app.start(&guarded(&["--check", endless]));
    wait_for(&app, "ready", &mut running);
    std::fs::remove_file(app.path("ready")).expect("it waits for that");
    while left(&app).len() > 1 {
        assert!(running.ended_within(Duration::from_millis(5)).is_none(), "a check without end has ended");
    }
    send(&running, Signal::TERM);
    Ended::of(running.wait(GONE)).ends_with(1).says("the checks were").says("`nexus restore ");
    assert_eq!(entries(&app, "guard-ended").await[0]["outcome"], "violated");
}

#[tokio::test]
async fn a_signal_during_the_account_changes_nothing_of_what_the_checks_have_found() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let body = "touch ready; while [ -e ready ]; do sleep 0.02; done";
    deed(&app, body);
    for (check, status, outcome) in [("SELECT 1 WHERE 1 = 0", 0, "succeeded"), ("SELECT 1", 1, "violated")] {
        let mut running = app.start(&guarded(&["--check", check, "--report", "report.json"]));
        wait_for(&app, "ready", &mut running);
        service.reset_counts();
        service.inject(Fault::Stall, FaultAt::Operation { name: "ListObjectsV2".to_owned(), nth: 1 });
        std::fs::remove_file(app.path("ready")).expect("it waits for that");
        assert!(struck(&service, &mut running), "files are listed for the account");
        send(&running, Signal::TERM);
        Ended::of(running.wait(GONE)).ends_with(status).says("interrupted after");
        service.clear_faults();
        let last = entries(&app, "guard-ended").await.pop().expect("a last word");
        assert_eq!((&last["outcome"], &last["status"]), (&json!(outcome), &json!(0)));
        let report = std::fs::read(app.path("report.json")).expect("a report");
        let report: Value = serde_json::from_slice(&report).expect("JSON");
        assert_eq!((&report["outcome"], &report["exit_status"]), (&json!(outcome), &json!(status)));
    }
}

/// A terminal of its own: presses Ctrl-C once the command is ready, prints what came and the status.
const TERMINAL: &str = "
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen, pressed = b'', False
while True:
    try:
        some = os.read(terminal, 4096)
    except OSError:
        break
    if not some:
        break
    seen += some
    if b'press' in seen and not pressed:
        pressed = True
        os.write(terminal, b'\\x03')
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.write(seen.decode() + '\\nstatus %d\\n' % status)
";

#[tokio::test]
async fn ctrl_c_on_a_shared_terminal_reaches_the_command_once_and_its_failure_is_answered() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let before = app.state().await;
    app.write("terminal.py", TERMINAL);
    app.write(
        "wreck.py",
        "import sqlite3\nc = sqlite3.connect('db.sqlite3')\nc.execute('DROP TABLE visit')\nc.commit()\n",
    );
    let body = "test -t 0 && test -t 1 && test -t 2 && echo on a terminal
                python3 wreck.py
                trap 'echo INT >> heard' INT
                echo press
                while ! [ -e heard ]; do sleep 0.02; done
                sleep 0.2
                exit 8";
    deed(&app, body);
    let nexus = env!("CARGO_BIN_EXE_nexus");
    let mut command = app.tool(Path::new("python3"));
    command.args(["terminal.py", nexus]).args(guarded(&["--quiet", "--restore-on-failure"]));
    let ended = Ended::of(kill::run(command, LIMIT)).ends_with(0);
    assert!(ended.out.contains("on a terminal") && ended.out.contains("status 8"), "{}", ended.out);
    assert!(ended.out.contains("was restored"), "{}", ended.out);
    assert_eq!(std::fs::read_to_string(app.path("heard")).expect("it"), "INT\n");
    assert_eq!(app.state().await, before);
}

#[tokio::test]
async fn a_guard_that_is_to_live_on_without_its_terminal_does_and_so_does_its_command() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "touch ready; while [ -e ready ]; do sleep 0.02; done; exit 3");
    let mut command = app.tool(Path::new("/bin/bash"));
    command.args(["-c", "trap '' HUP; exec \"$0\" guard -- ./deed.sh", env!("CARGO_BIN_EXE_nexus")]);
    let mut running = Running::start(command);
    wait_for(&app, "ready", &mut running);
    send(&running, Signal::HUP);
    std::fs::remove_file(app.path("ready")).expect("it waits for that");
    Ended::of(running.wait(LIMIT)).ends_with(3);
}
