//! `guard`: the command runs exactly once after a proven point, or not at all; its streams and status are its own.
//!
//! The steps before the command, each made to fail below with the command run 0 times and status 125:
//!
//! | step | what is wrong with it |
//! |---|---|
//! | the command line | no command, an unknown flag, `--json`, flags of a restore without one, the label of safety points |
//! | the report, the log | a file that cannot be written |
//! | the settings | none at all, an unknown key, no database for a check |
//! | temporary files | no folder for them, a full disk |
//! | the checks | a typo, a table that is not there, a statement that changes something |
//! | the vault | a service that is down, another app's, a bucket that is not there, a wrong secret |
//! | the database | missing, garbage, locked; a server that is down, a table that is locked |
//! | the records | a folder that cannot be written |
//! | storing | an upload that fails, a copy that fails, a file that vanishes |
//! | the commit | a manifest that cannot be written |
//! | the proof | a copy that is gone when it is looked at, a journal that cannot be written |
//! | the announcement | a journal that cannot be written |

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nexus_sandbox::{Fault, FaultAt, Service};
use nexus_testkit::kill;
use nexus_testkit::postgres::{Database, Server};
use nexus_testkit::services::unique_bucket;
use nexus_testkit::wal::Holder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::app::{App, Ended, LIMIT, VAULT, sandbox};
use crate::postgres::DEBIAN;

/// What no entry, log or report may show.
const ARGUMENT: &str = "an-argument-of-the-command";

/// Writes a command that counts its runs and then does something.
pub fn deed(app: &App, what: &str) {
    program(app, "deed.sh", &format!("#!/bin/sh\necho \"$NEXUS_POINT\" >> runs\n{what}\n"));
}

fn program(app: &App, name: &str, text: &str) {
    app.write(name, text);
    std::fs::set_permissions(app.path(name), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// The points before which the command ran, one a run.
pub fn runs(app: &App) -> Vec<String> {
    let text = std::fs::read_to_string(app.path("runs")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A guard of the deed with more flags.
pub fn guarded<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["guard"].iter().chain(more).chain(&["--", "./deed.sh", ARGUMENT]).copied().collect()
}

/// The entries of this event in the vault's journals.
pub async fn entries(app: &App, event: &str) -> Vec<Value> {
    let vault = app.vault().await;
    let of_event = vault.iter().filter(|(key, _)| key.contains(&format!("-{event}-")));
    of_event.map(|(_, body)| serde_json::from_slice(body).expect("JSON")).collect()
}

/// The guard has refused: status 125, the thing named, a hint, the command not run and not announced.
async fn refused(app: &App, ended: Ended, naming: &str) {
    ended.refuses(125, naming);
    assert_eq!(runs(app), Vec::<String>::new(), "the command was run, and {naming}");
    assert_eq!(entries(app, "guard-started").await, Vec::<Value>::new(), "{naming}");
    app.assert_no_litter();
}

#[tokio::test]
async fn the_command_runs_once_after_a_proven_point_with_its_own_streams_and_the_points_name() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "cat; echo told >&2; exit 0");
    let nexus = env!("CARGO_BIN_EXE_nexus");
    let ended = app.shell(&format!("printf 'from stdin' | {nexus} guard --log-file log -- ./deed.sh {ARGUMENT}"));
    let ended = ended.ends_with(0).says("told").says("restore with");
    assert_eq!(ended.out, "from stdin");
    let points = app.points();
    assert_eq!(points.len(), 1);
    assert_eq!(runs(&app), [points[0].0.as_str()]);
    assert_eq!(points[0].1, "proven");
    let (started, finished) = (entries(&app, "guard-started").await, entries(&app, "guard-ended").await);
    assert_eq!((started.len(), finished.len()), (1, 1));
    assert_eq!(finished[0]["started"], started[0]["nonce"]);
    assert_eq!(
        (&finished[0]["outcome"], &finished[0]["status"], &finished[0]["restored"]),
        (&json!("succeeded"), &json!(0), &json!(false))
    );
    let log = std::fs::read_to_string(app.path("log")).expect("a log");
    assert!(log.contains(&points[0].0) && !log.contains(ARGUMENT), "{log}");
    for (key, body) in app.vault().await {
        assert!(!String::from_utf8_lossy(&body).contains(ARGUMENT), "{key} shows the command's arguments");
    }
    app.assert_no_litter();
}

#[tokio::test]
async fn the_commands_own_status_is_passed_on_and_the_way_back_is_a_complete_command() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let before = app.state().await;
    for (what, status, outcome) in [
        ("exit 3", 3, "failed"),
        ("exit 137", 137, "failed"),
        ("kill -KILL $$", 137, "killed"),
        ("kill -TERM $$", 143, "killed"),
        ("exec 0<&- 1>&- 2>&-; exit 1", 1, "failed"),
    ] {
        deed(&app, what);
        let ended = app.run(&guarded(&["--no-account"])).ends_with(status);
        let point = runs(&app).pop().expect("a run");
        let last = entries(&app, "guard-ended").await.into_iter().find(|entry| entry["point"] == point.as_str());
        let last = last.unwrap_or_else(|| panic!("{what}: no last word"));
        assert_eq!((&last["outcome"], &last["status"]), (&json!(outcome), &json!(status)), "{what}");
        let ended = ended.says(&format!("`nexus restore {point} --vault s3://{}/backup", app.bucket));
        assert_eq!(ended.out, "", "stdout is the command's");
    }
    assert_eq!(runs(&app).len(), 5);
    app.wreck().await;
    app.restore(&[&runs(&app)[0], "--delete-extra"]);
    assert_eq!(app.state().await, before);
}

/// A restore has no `--database`, and asks which one when the configuration names another.
#[tokio::test]
async fn the_way_back_runs_as_it_is_printed_when_a_flag_named_another_database_than_the_configuration() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let other = app.path("other.sqlite3");
    crate::app::sql(
        &other,
        "CREATE TABLE clinic_patient (id INTEGER PRIMARY KEY); INSERT INTO clinic_patient VALUES (1)",
    );
    deed(&app, "exit 3");
    let before = (app.state().await.database, nexus_testkit::digest::database(&other));
    let ended = app.run(&guarded(&["--no-account", "--database", "other.sqlite3"])).ends_with(3);
    crate::app::sql(&other, "DELETE FROM clinic_patient");
    let printed = ended.err.rsplit('`').nth(1).expect("a command").to_owned();
    app.run(&["restore", &runs(&app)[0], "--yes"]).refuses(2, "names another database");
    let mut command = app.tool(Path::new("/bin/sh"));
    let script = format!("{} --yes", printed.replacen("nexus", env!("CARGO_BIN_EXE_nexus"), 1));
    command.args(["-c", &script]);
    Ended::of(kill::run(command, LIMIT)).ends_with(0);
    assert_eq!((app.state().await.database, nexus_testkit::digest::database(&other)), before);
}

#[tokio::test]
async fn a_command_that_leaves_others_behind_is_over_when_it_ends_itself() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "sleep 20 </dev/null >/dev/null 2>&1 & echo $! > left; exit 4");
    let ended = app.run(&guarded(&["--quiet", "--restore-on-failure"])).ends_with(4);
    let left = std::fs::read_to_string(app.path("left")).expect("its number").trim().to_owned();
    // Before the restore, and after it: the state before may not stay.
    let told = format!("still runs as process {left}");
    assert_eq!(ended.err.matches(&told).count(), 2, "{}", ended.err);
    assert!(Path::new(&format!("/proc/{left}")).exists(), "it was not ours to end");
    app.shell(&format!("kill {left}")).ends_with(0);
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_126_or_127_as_with_env() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.write("text", "no program");
    for (word, status) in [("no-such-program", 127), ("./none", 127), ("", 127), ("./text", 126), ("./tmp", 126)] {
        app.run(&["guard", "--", word]).refuses(status, "so it was not run");
    }
    // Found, and yet the system cannot start it: that shows when it is tried, after the point.
    program(&app, "orphan", "#!/no/such/interpreter\n");
    app.run(&["guard", "--", "./orphan"]).refuses(127, "so it was not run");
    let last = entries(&app, "guard-ended").await;
    assert_eq!((last.len(), &last[0]["outcome"], &last[0]["status"]), (1, &json!("not-run"), &Value::Null));
    // A script without a first line of its own is for the shell.
    program(&app, "plain", "echo \"$NEXUS_POINT $1\" >> runs\nexit 5\n");
    app.run(&["guard", "--", "./plain", "a b"]).ends_with(5);
    assert_eq!(runs(&app).len(), 1);
    assert!(runs(&app)[0].ends_with(" a b"), "{:?}", runs(&app));
    app.run(&["list"]).ends_with(0);
    app.assert_no_litter();
}

#[tokio::test]
async fn a_log_that_fills_up_and_a_report_into_a_pipe_are_no_reason_to_say_that_the_command_was_not_run() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "");
    let ended = app.run(&guarded(&["--no-account", "--log-file", "/dev/full"])).ends_with(0);
    let ended = ended.says("cannot write to the log file");
    assert!(!ended.err.contains("was not run"), "{}", ended.err);
    let ended = app.run(&guarded(&["--no-account", "--report", "/dev/stderr"])).ends_with(0).says("\"succeeded\"");
    assert!(!ended.err.contains("could not be written"), "{}", ended.err);
    assert_eq!(runs(&app).len(), 2);
}

#[tokio::test]
async fn a_dry_run_runs_nothing_and_makes_nothing() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "");
    let ended = app.run(&guarded(&["--dry-run"])).ends_with(0).says("the command was not run");
    assert_eq!(ended.out, "");
    assert_eq!(runs(&app), Vec::<String>::new());
    assert_eq!(app.vault().await.len(), 0);
    app.run(&guarded(&["--dry-run", "--check", "SELEC 1"])).refuses(125, "SELEC 1");
}

#[tokio::test]
async fn what_is_wrong_with_the_words_or_the_settings_keeps_the_command_from_running() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "");
    for words in [&["guard"][..], &["guard", "./deed.sh"], &guarded(&["--lable", "x"])] {
        app.run(words).ends_with(125);
    }
    app.run(&guarded(&["--delete-extra"])).ends_with(125).says("--restore-on-failure");
    refused(&app, app.run(&guarded(&["--json"])), "--report").await;
    refused(&app, app.run(&guarded(&["--label", "before-restore"])), "before-restore").await;
    refused(&app, app.run(&guarded(&["--report", "none/report"])), "none/report").await;
    refused(&app, app.run(&guarded(&["--log-file", "none/log"])), "none/log").await;
    for check in [
        "SELEC 1",
        "SELECT * FROM nothing",
        "DELETE FROM visit RETURNING id",
        "SELECT 1; DROP TABLE visit",
        "SELECT id FROM visit WHERE id = ?",
    ] {
        refused(&app, app.run(&guarded(&["--check", check])), check).await;
    }
    app.configure("[retention]\ndatabse = \"30d\"\n");
    refused(&app, app.run(&guarded(&["--report", "report.json"])), "unknown key `databse`").await;
    let report: Value = serde_json::from_slice(&std::fs::read(app.path("report.json")).expect("it")).expect("JSON");
    assert_eq!((&report["outcome"], &report["exit_status"]), (&json!("not-run"), &json!(125)));
    assert!(report["error"]["message"].as_str().is_some_and(|words| words.contains("databse")), "{report}");
    app.configure("");
    let mut command = app.command(&guarded(&[]));
    command.env("TMPDIR", app.path("nexus.toml"));
    refused(&app, Ended::of(kill::run(command, LIMIT)), "nexus.toml").await;
    std::fs::remove_file(app.path("nexus.toml")).expect("it was there");
    refused(&app, app.run(&guarded(&[])), "nothing to back up is named").await;
    let vault = format!("s3://{}/backup", app.bucket);
    let files = format!("s3://{}", app.bucket);
    let checked = ["--app", "clinic", "--vault", &vault, "--files", &files, "--check", "SELECT 1"];
    refused(&app, app.run(&guarded(&checked)), "--check asks the database").await;
}

#[tokio::test]
async fn a_database_or_a_disk_that_fails_keeps_the_command_from_running() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    deed(&app, "");
    refused(&app, app.run(&guarded(&["--database", "none.sqlite3"])), "none.sqlite3").await;
    app.write("text.sqlite3", &"this is no database. ".repeat(400));
    refused(&app, app.run(&guarded(&["--database", "text.sqlite3"])), "text.sqlite3").await;
    app.write("in-the-way", "a file");
    refused(&app, app.run(&guarded(&["--records", "in-the-way"])), "in-the-way").await;
    app.sql("PRAGMA journal_mode = DELETE");
    let mut holder = Holder::open(&app.database);
    holder.query("BEGIN EXCLUSIVE");
    refused(&app, app.run(&guarded(&[])), "locked").await;
    drop(holder);
    // A limit on the size of files stands in for a full disk.
    app.sql("CREATE TABLE large (x); INSERT INTO large VALUES (randomblob(3000000))");
    let mut command = app.tool(Path::new("/bin/bash"));
    let script = "trap '' XFSZ; ulimit -f 2000; exec \"$0\" guard -- ./deed.sh";
    command.args(["-c", script, env!("CARGO_BIN_EXE_nexus")]);
    refused(&app, Ended::of(kill::run(command, LIMIT)), "cannot").await;
}

#[tokio::test]
async fn a_vault_that_is_not_to_be_had_keeps_the_command_from_running() {
    let (_service, endpoint) = sandbox();
    let mut app = App::clinic(endpoint.clone()).await;
    deed(&app, "");
    app.back_up(&[]);
    refused(&app, app.run(&guarded(&["--app", "billing"])), "belongs to the app \"clinic\"").await;
    let none = unique_bucket("none");
    refused(&app, app.run(&guarded(&["--files", &format!("s3://{none}")])), &none).await;
    refused(&app, app.run(&guarded(&["--vault", &format!("s3://{none}/v")])), &none).await;
    app.set("AWS_SECRET_ACCESS_KEY", "not-the-secret");
    refused(&app, app.run(&guarded(&[])), &app.bucket).await;
    app.set("AWS_SECRET_ACCESS_KEY", &endpoint.secret_key);
    app.configure("[s3]\nattempts = 2\n");
    // A port that was free a moment ago and that nobody listens on.
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let dead = format!("http://{free}");
    refused(&app, app.run(&guarded(&["--endpoint", &dead])), &free.to_string()).await;
}

/// Which of the run's puts of a whole object writes this, when all goes well and no file has changed.
pub fn put_of(app: &App, service: &Service, what: &str) -> u64 {
    service.reset_counts();
    app.run(&["guard", "--quiet", "--no-account", "--", "true"]).ends_with(0);
    let puts: Vec<_> = service.log().into_iter().filter(|request| request.starts_with("PUT")).collect();
    let at = puts.iter().position(|request| request.contains(what));
    u64::try_from(at.unwrap_or_else(|| panic!("{what} is not in {puts:?}"))).expect("few") + 1
}

/// How often a request is tried where it is made to fail.
const ATTEMPTS: u64 = 2;

/// Puts of a whole object fail from this one on, so many of them.
fn fail_puts(service: &Service, first: u64, count: u64) {
    service.reset_counts();
    for nth in first..first + count {
        service.inject(Fault::Status500, FaultAt::Operation { name: "PutObject".to_owned(), nth });
    }
}

#[tokio::test]
async fn storing_committing_proving_or_announcing_that_fails_keeps_the_command_from_running() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure(&format!("[s3]\nattempts = {ATTEMPTS}\n"));
    deed(&app, "");
    app.back_up(&[]);
    for (what, put, tries) in [
        // Several are on their way at once; the later ones come one after another, and only that one fails.
        ("an upload", 2, 4 * ATTEMPTS),
        ("the commit", put_of(&app, &service, "manifest.json"), ATTEMPTS),
        ("the proof", put_of(&app, &service, "-verified-"), ATTEMPTS),
        ("the announcement", put_of(&app, &service, "-guard-started-"), ATTEMPTS),
    ] {
        let others = entries(&app, "guard-started").await.len();
        fail_puts(&service, put, tries);
        let ended = app.run(&guarded(&[]));
        assert!(service.faults_fired() > 0, "{what} was not made to fail");
        service.clear_faults();
        ended.refuses(125, "the command was not run");
        assert_eq!(runs(&app), Vec::<String>::new(), "{what}");
        assert_eq!(entries(&app, "guard-started").await.len(), others, "{what}");
        app.assert_no_litter();
    }
    app.put("images/new.jpg", b"a new picture").await;
    for nth in 1..=ATTEMPTS {
        service.inject(Fault::Status500, FaultAt::Operation { name: "CopyObject".to_owned(), nth });
    }
    app.run(&guarded(&[])).refuses(125, "new.jpg");
    service.clear_faults();
    assert_eq!(runs(&app), Vec::<String>::new());
    // And nothing of all that stands in the way afterwards.
    app.run(&guarded(&[])).ends_with(0);
    assert_eq!(runs(&app).len(), 1);
}

/// Waits until a fault has struck.
fn struck(service: &Service, running: &mut kill::Running) {
    while service.faults_fired() == 0 {
        assert!(running.ended_within(Duration::from_millis(2)).is_none(), "it ended before it came there");
    }
}

#[tokio::test]
async fn a_file_that_vanishes_and_a_copy_that_is_gone_keep_the_command_from_running() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[s3]\nrequest-timeout = \"4s\"\n");
    deed(&app, "");
    app.back_up(&[]);
    let put = put_of(&app, &service, "manifest.json");
    let others = entries(&app, "guard-started").await.len();
    // The commit is made, and its answer does not come before a copy is gone.
    service.reset_counts();
    service.inject(Fault::StallAfter, FaultAt::Operation { name: "PutObject".to_owned(), nth: put });
    let mut running = app.start(&guarded(&[]));
    struck(&service, &mut running);
    let manifest = |key: &&String| key.ends_with("manifest.json");
    let last = service.store().keys(&app.bucket, VAULT).into_iter().rfind(|key| manifest(&key));
    let folder = last.expect("a manifest").replace("manifest.json", "records/patients.json");
    assert!(service.store().delete(&app.bucket, &folder), "{folder} is not there");
    let ended = Ended::of(running.wait(LIMIT)).refuses(125, "could be proven");
    assert!(ended.err.contains("patients.json"), "{}", ended.err);
    service.clear_faults();
    app.put("images/fleeting.jpg", b"gone in a moment").await;
    service.reset_counts();
    service.inject(Fault::Stall, FaultAt::Operation { name: "CopyObject".to_owned(), nth: 1 });
    let mut running = app.start(&guarded(&[]));
    struck(&service, &mut running);
    app.delete("images/fleeting.jpg").await;
    Ended::of(running.wait(LIMIT)).refuses(125, "fleeting.jpg");
    assert_eq!(runs(&app), Vec::<String>::new());
    assert_eq!(entries(&app, "guard-started").await.len(), others);
}

#[tokio::test]
async fn a_failing_command_is_answered_with_the_restore_when_asked() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let before = app.state().await;
    let wreck =
        "python3 -c \"import sqlite3; c = sqlite3.connect('db.sqlite3'); c.execute('DROP TABLE visit'); c.commit()\"";
    deed(&app, &format!("{wreck}; exit 7"));
    app.put("images/a.jpg", b"a picture").await;
    let words = guarded(&["--restore-on-failure", "--delete-extra", "--report", "report.json"]);
    let ended = app.run(&words).ends_with(7).says("was restored");
    assert_eq!(ended.out, "", "stdout is the command's");
    assert_eq!(app.state().await, before);
    let report: Value = serde_json::from_slice(&std::fs::read(app.path("report.json")).expect("it")).expect("JSON");
    assert_eq!((&report["outcome"], &report["exit_status"]), (&json!("failed"), &json!(7)));
    assert_eq!(report["restored"], true);
    let command = report["restore_command"].as_str().expect("a command");
    assert!(command.contains(" --delete-extra --vault "), "{command}");
    let mode = std::fs::metadata(app.path("report.json")).expect("it").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(entries(&app, "guard-ended").await[0]["restored"], true);
    // One that ends well is left alone.
    deed(&app, "echo '' > /dev/null");
    app.sql("DELETE FROM visit");
    let now = app.state().await;
    app.run(&guarded(&["--restore-on-failure"])).ends_with(0);
    assert_eq!(app.state().await, now);
    assert_eq!(runs(&app).len(), 2);
}

#[tokio::test]
async fn a_restore_on_failure_after_which_the_app_does_not_start_is_a_restore_all_the_same() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[hooks]\nafter-restore = 'exit 6'\n");
    let before = app.state().await;
    deed(
        &app,
        "python3 -c \"import sqlite3; c = sqlite3.connect('db.sqlite3'); c.execute('DROP TABLE visit')\"; exit 7",
    );
    let ended = app.run(&guarded(&["--restore-on-failure"])).ends_with(7);
    let ended = ended.says("after-restore ended with exit status: 6").says("the state before the command is back");
    assert!(!ended.err.contains("not everything is as it was"), "{}", ended.err);
    assert_eq!(app.state().await, before);
    assert_eq!(entries(&app, "guard-ended").await[0]["restored"], true);
}

#[tokio::test]
async fn a_restore_that_fails_after_a_failing_command_is_told_with_the_command_to_run_again() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[s3]\nattempts = 2\n");
    // The command spoils a file, and its copy goes: damage is found before the first write.
    deed(&app, "echo x > spoilt; while [ -e spoilt ]; do sleep 0.05; done; exit 7");
    let mut running = app.start(&guarded(&["--restore-on-failure", "--delete-extra"]));
    while !app.path("spoilt").exists() {
        assert!(running.ended_within(Duration::from_millis(5)).is_none(), "it ended before its command ran");
    }
    let copy = service.store().keys(&app.bucket, VAULT).into_iter().find(|key| key.contains("/images/images/a.jpg"));
    assert!(service.store().delete(&app.bucket, &copy.expect("a copy")));
    app.put("images/a.jpg", b"spoilt").await;
    let before = app.state().await;
    std::fs::remove_file(app.path("spoilt")).expect("it is there");
    let point = runs(&app).pop().expect("a run");
    let ended = Ended::of(running.wait(LIMIT)).ends_with(7).says(&format!("{point} is NOT restored"));
    ended.says("images/a.jpg").says(&format!("`nexus restore {point} --delete-extra --vault s3://{}", app.bucket));
    assert_eq!(app.state().await, before);
    assert_eq!(entries(&app, "guard-ended").await[0]["restored"], false);
}

#[tokio::test]
async fn a_check_that_finds_a_row_is_a_failure_and_its_rows_are_shown() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let sql = |text: &str| {
        format!("python3 -c \"import sqlite3; c = sqlite3.connect('db.sqlite3'); c.execute('{text}'); c.commit()\"")
    };
    deed(&app, &sql("DELETE FROM clinic_patient WHERE id = 2"));
    let before = app.state().await;
    let dangling = "SELECT id FROM visit WHERE patient NOT IN (SELECT id FROM clinic_patient)";
    let fine = "SELECT 1 WHERE 1 = 0";
    let words = guarded(&["--check", fine, "--check", dangling, "--report", "report.json"]);
    app.run(&words).ends_with(1).says(dangling).says("id=2").says("nexus restore");
    assert_eq!(entries(&app, "guard-ended").await[0]["outcome"], "violated");
    let report: Value = serde_json::from_slice(&std::fs::read(app.path("report.json")).expect("it")).expect("JSON");
    let holds: Vec<_> = report["checks"].as_array().expect("a list").iter().map(|check| &check["holds"]).collect();
    assert_eq!(holds, [true, false]);
    assert_eq!(report["changes"]["tables"][0]["removed"], 1, "{report}");
    let point = report["point"].as_str().expect("an id").to_owned();
    app.restore(&[&point]);
    assert_eq!(app.state().await, before);
    app.run(&guarded(&["--restore-on-failure", "--check", dangling])).ends_with(1).says("was restored");
    assert_eq!(app.state().await, before);
    // A failing command keeps its own status, and a check that cannot be made any more is no success.
    deed(&app, &format!("{}; exit 6", sql("DELETE FROM clinic_patient WHERE id = 2")));
    app.run(&guarded(&["--check", dangling])).ends_with(6).says("id=2");
    deed(&app, &sql("DROP TABLE visit"));
    app.run(&guarded(&["--check", dangling])).ends_with(1).says("no such table: visit");
}

#[tokio::test]
async fn what_changed_is_told_by_table_and_category_and_what_cannot_be_told_changes_no_status() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let script = "import sqlite3
c = sqlite3.connect('db.sqlite3')
c.execute('UPDATE clinic_patient SET weight = 1 WHERE id = 1')
c.execute('INSERT INTO visit (patient, note) VALUES (3, NULL)')
c.execute('DELETE FROM visit WHERE id = 1')
c.commit()
";
    app.write("change.py", script);
    deed(&app, "python3 change.py; touch ready; while [ -e ready ]; do sleep 0.05; done");
    let mut running = app.start(&guarded(&["--report", "report.json"]));
    while !app.path("ready").exists() {
        assert!(running.ended_within(Duration::from_millis(5)).is_none(), "it ended before its command ran");
    }
    app.put("images/a.jpg", b"another").await;
    app.put("images/new.jpg", b"new").await;
    app.delete("documents/2024/report +1 (copy).pdf").await;
    app.put("tmp/excluded", b"not part of it").await;
    std::fs::remove_file(app.path("ready")).expect("it is there");
    let ended = Ended::of(running.wait(LIMIT)).ends_with(0).says("Changed since");
    assert!(!ended.err.contains("Zo"), "an account shows no values:\n{}", ended.err);
    let report: Value = serde_json::from_slice(&std::fs::read(app.path("report.json")).expect("it")).expect("JSON");
    let numbers = |of: &Value| ["added", "changed", "removed"].map(|kind| of[kind].as_u64().expect("a number"));
    let tables = report["changes"]["tables"].as_array().expect("a list");
    assert_eq!(tables.len(), 2, "{report}");
    assert_eq!((&tables[0]["table"], numbers(&tables[0])), (&json!("clinic_patient"), [0, 1, 0]));
    assert_eq!((&tables[1]["table"], numbers(&tables[1])), (&json!("visit"), [1, 0, 1]));
    let files = |category: &str| {
        ["added", "changed", "removed"].map(|kind| report["changes"]["files"][category][kind]["files"].clone())
    };
    assert_eq!(files("images"), [json!(1), json!(1), json!(0)]);
    assert_eq!(files("documents"), [json!(0), json!(0), json!(1)]);
    deed(&app, "rm db.sqlite3*");
    app.run(&guarded(&[])).ends_with(0).says("cannot be told");
}

#[tokio::test]
async fn a_guarded_change_of_a_postgresql_database_is_checked_told_and_restored() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database
        .sql("create table patient (id integer primary key, name text); insert into patient values (1, 'a'), (2, 'b')");
    let (_service, app) = crate::postgres::app(&database.url(), DEBIAN).await;
    let before = database.digest();
    let psql = format!("{} -qXtA '{}' -c", server.bin.join("psql").display(), database.url());
    deed(&app, &format!("{psql} \"update patient set name = null where id = 2\""));
    let check = "select id from patient where name is null";
    app.run(&guarded(&["--check", check])).ends_with(1).says("id=2").says("patient  0      1        0        2 → 2");
    for (statement, naming) in [
        ("selec 1", "syntax error"),
        ("select 1; drop table patient", "multiple commands"),
        ("delete from patient returning id", "cannot ask"),
        ("select nextval('none')", "none"),
    ] {
        app.run(&guarded(&["--check", statement])).refuses(125, naming);
    }
    assert_eq!(runs(&app).len(), 1);
    database.sql("update patient set name = 'b' where id = 2");
    assert_eq!(database.digest(), before);
    // Who is in the way of the restore, and what to do about it, is told as restore itself tells it.
    let asleep = "select 1 from pg_stat_activity where datname = current_database() and query like 'select pg_sleep%'";
    let wait = format!("until {psql} \"{asleep}\" | grep -q 1; do sleep 0.02; done");
    let sleeper = format!("{psql} 'select pg_sleep(60)' </dev/null >/dev/null 2>&1 & echo $! > left");
    deed(&app, &format!("{sleeper}; {wait}; exit 9"));
    app.run(&guarded(&["--restore-on-failure"])).ends_with(9).says("is NOT restored").says("--end-sessions");
    let left = std::fs::read_to_string(app.path("left")).expect("its number");
    kill_process(left.trim().parse().ok().and_then(Pid::from_raw).expect("a process"), Signal::KILL)
        .expect("it is ours");
    deed(&app, &format!("{psql} 'drop table patient'; exit 9"));
    app.run(&guarded(&["--restore-on-failure", "--end-sessions"])).ends_with(9).says("was restored");
    assert_eq!(database.digest(), before);
    for name in server.databases().iter().filter(|name| name.starts_with(&format!("{}_before", database.name))) {
        server.sql("postgres", &format!("drop database \"{name}\""));
    }
}

#[tokio::test]
async fn a_postgresql_server_that_is_down_or_a_table_that_is_locked_keeps_the_command_from_running() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table patient (id integer primary key)");
    let (_service, app) = crate::postgres::app(&database.url(), DEBIAN).await;
    deed(&app, "");
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    app.write("nexus.toml", &config.replace("\"10s\"", "\"1s\""));
    let mut locker = server.psql(&database.name);
    locker.args(["-c", "begin; lock table patient; select 'locked'; select pg_sleep(60)"]);
    let mut locker = kill::Running::start(locker);
    while database.sql("select count(*) from pg_locks where relation = 'patient'::regclass and granted") == "0" {
        assert!(locker.ended_within(Duration::from_millis(10)).is_none(), "the lock was not taken");
    }
    refused(&app, app.run(&guarded(&[])), "lock wait").await;
    drop(locker);
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let dead = format!("postgres://nobody@{free}/clinic");
    refused(&app, app.run(&guarded(&["--database", &dead])), &free.to_string()).await;
}
