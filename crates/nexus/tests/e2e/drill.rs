//! Drills: a point really restored, checked and timed, with nothing of the app's touched and nothing left behind.

use std::time::{Duration, Instant};

use nexus_sandbox::{Fault, FaultAt};
use nexus_testkit::bucket::{object, put_object};
use nexus_testkit::kill;
use serde_json::{Value, json};

use crate::app::{App, Ended, LIMIT, VAULT, sandbox};

pub fn drill(app: &App, more: &[&str]) -> Ended {
    let words: Vec<&str> = ["drill", "--json"].iter().chain(more).copied().collect();
    app.run(&words)
}

pub fn verified(app: &App, more: &[&str]) -> Value {
    let told = drill(app, more).ends_with(0).json();
    assert_eq!((&told["verdict"], &told["recorded"]), (&json!("verified"), &json!(true)), "{told}");
    told
}

pub fn point(app: &App, id: &str) -> Value {
    let listed = app.run(&["list", "--json"]).json();
    let points = listed["points"].as_array().expect("a list");
    points.iter().find(|point| point["id"] == id).expect("the point").clone()
}

#[tokio::test]
async fn a_drill_of_everything_restores_checks_and_times_each_part_and_touches_nothing() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    app.wreck().await;
    let (before, vault) = (app.state().await, app.vault().await);
    let told = verified(&app, &["--files", "all"]);
    assert_eq!((&told["point"], &told["depth"]), (&json!(id), &json!("drill")));
    assert_eq!(told["database"]["equal_to_records"], json!({"tables": 2, "of": 2}));
    assert_eq!((&told["database"]["rows"], &told["records"]["rows"]), (&json!(5), &json!(5)));
    assert_eq!((&told["files"]["read"]["files"], &told["files"]["of"]["files"]), (&json!(6), &json!(6)));
    for time in [
        "/database/fetched_milliseconds",
        "/database/restored_milliseconds",
        "/records/milliseconds",
        "/files/milliseconds",
        "/recovery/database_milliseconds",
        "/recovery/files_milliseconds",
    ] {
        assert!(told.pointer(time).is_some_and(Value::is_u64), "{time} is not measured: {told}");
    }
    assert_eq!(told["recovery"]["files_extrapolated"], false);
    assert_eq!(app.state().await, before, "the app was touched");
    let mut after = app.vault().await;
    after.retain(|key, _| !vault.contains_key(key));
    let words: Vec<&str> = ["hold", "drilled", "released"]
        .into_iter()
        .filter(|word| after.keys().any(|key| key.contains(&format!("-{word}-"))))
        .collect();
    assert_eq!((words.len(), after.len()), (3, 3), "{:?}", after.keys());
    app.assert_no_litter();
}

#[tokio::test]
async fn a_sample_is_said_to_be_one_and_never_counts_as_more_than_default_depth() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    let told = verified(&app, &["--files", "2"]);
    assert_eq!(told["depth"], "default");
    assert_eq!(told["proof"]["sampled"]["read"]["files"], 2);
    assert_eq!(told["proof"]["sampled"]["of"]["files"], 6);
    assert_eq!(told["recovery"]["files_extrapolated"], true);
    let listed = point(&app, &id);
    assert_eq!((&listed["last_proof"]["drill"], &listed["last_proof"]["depth"]), (&json!(true), &json!("default")));
    let page = app.run(&["drill", "--files", "2"]).ends_with(0).out;
    for words in ["verdict    verified", "sampled 2 of 6", "extrapolated from 2 files", "a sample never counts as more"]
    {
        assert!(page.contains(words), "{words:?} is not in:\n{page}");
    }
    assert!(app.run(&["list"]).ends_with(0).out.contains("drill, sampled 2 of 6, "));
    // More than there are is all of them.
    assert_eq!(verified(&app, &[])["depth"], "drill");
    let shown = app.run(&["list"]).ends_with(0).out;
    assert!(shown.contains("drill ") && !shown.contains("sampled"), "{shown}");
    app.run(&["verify"]).ends_with(0);
    let shown = app.run(&["list"]).ends_with(0).out;
    assert!(shown.contains("default ") && shown.contains("; drill "), "{shown}");
    assert!(app.run(&["show"]).ends_with(0).out.contains("drill, sampled 2 of 6"));
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_fetched_and_does_nothing() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    let before = app.vault().await;
    let told = drill(&app, &["--dry-run", "--files", "2"]).ends_with(0).json();
    assert_eq!((&told["files"]["read"], &told["files"]["compared"]["files"]), (&json!(2), &json!(6)));
    assert_eq!(told["database"]["place"], format!("nexus_drill_{id}.sqlite3"));
    assert!(told["disk"]["needed"].as_u64() > told["database"]["bytes"].as_u64(), "{told}");
    assert_eq!(app.vault().await, before);
}

#[tokio::test]
async fn only_some_parts_are_drilled_and_prove_no_more_than_themselves() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    app.run(&["drill", "--only", "database", "--files", "all"]).ends_with(0);
    let last = point(&app, &id)["last_proof"].clone();
    assert_eq!((&last["parts"], &last["depth"]), (&json!(["database"]), &json!("drill")));
    // A point without records says that there is nothing to hold the rows against.
    let bare = app.back_up(&["--only", "database,files"]);
    let told = verified(&app, &[&bare]);
    assert_eq!(told["database"]["equal_to_records"], Value::Null);
    app.run(&["drill", &bare, "--only", "records"]).refuses(2, "has no records");
    assert!(app.run(&["drill", &bare]).ends_with(0).out.contains("no records to compare"));
}

/// Each harm that is planted is found by name, and the point is failed from then on.
#[tokio::test]
async fn every_planted_harm_is_named_and_fails_the_drill() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let stale = app.back_up(&[]);
    app.put("images/a.jpg", b"another one now").await;
    let id = app.back_up(&["--copies", "full"]);
    let stamp = &id["backup_".len()..];
    let database = format!("database/clinic_sqlite_backup_{stamp}.db");
    let (one, two) = (format!("{id}/images/images/a.jpg"), format!("{id}/images/images/b.JPG"));
    let records = format!("{id}/records/patients.json");
    let whole = app.vault().await;
    let flipped = |key: &str| {
        let mut bytes = whole[key].clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    let other = std::fs::read(&{
        let path = app.path("other.db");
        crate::app::sql(&path, "CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)");
        path
    })
    .expect("a database");
    let without_table = {
        let path = app.path("dropped.db");
        std::fs::write(&path, &whole[&database]).expect("room on the disk");
        crate::app::sql(&path, "PRAGMA journal_mode = DELETE; DROP TABLE visit");
        std::fs::read(&path).expect("a database")
    };
    let cut = whole[&records][..whole[&records].len() / 2].to_vec();
    let harms: Vec<(&str, &str, Option<Vec<u8>>, &str)> = vec![
        ("a dropped table", &database, Some(without_table), &database),
        ("a flipped byte of the database", &database, Some(flipped(&database)), &database),
        ("another database", &database, Some(other), &database),
        ("a database that is gone", &database, None, &database),
        ("a flipped byte of records", &records, Some(flipped(&records)), &records),
        ("cut records", &records, Some(cut), &records),
        ("a missing object", &one, None, "images/a.jpg"),
        ("a swapped object", &one, Some(whole[&two].clone()), "images/a.jpg"),
        ("a stale object", &one, Some(whole[&format!("{stale}/images/images/a.jpg")].clone()), "images/a.jpg"),
        ("a flipped byte of a file", &two, Some(flipped(&two)), "images/b.JPG"),
    ];
    for (harm, key, bytes, named) in harms {
        let full = format!("{VAULT}{key}");
        match &bytes {
            Some(bytes) => put_object(&app.client, &app.bucket, &full, bytes).await,
            None => app.delete(&full).await,
        }
        let told = drill(&app, &[&id, "--files", "all"]).ends_with(1).json();
        assert_eq!(told["verdict"], "failed", "{harm}");
        let findings = told["proof"]["findings"].as_array().expect("findings");
        assert!(findings.iter().any(|finding| finding["name"] == named), "{harm} is not named: {told}");
        assert_eq!(point(&app, &id)["state"], "failed", "{harm}");
        put_object(&app.client, &app.bucket, &full, &whole[key]).await;
        assert_eq!(object(&app.client, &app.bucket, &full).await, whole[key]);
    }
    // What a listing cannot show is found by reading: all files find it, and a sample of none does not claim to have looked.
    let rotten = format!("{VAULT}{two}");
    service.store().tamper(&app.bucket, &rotten, flipped(&two));
    let told = drill(&app, &[&id, "--files", "all"]).ends_with(1).json();
    assert_eq!(told["proof"]["findings"][0]["name"], "images/b.JPG", "{told}");
    let told = verified(&app, &[&id, "--files", "0"]);
    assert_eq!((&told["depth"], &told["recovery"]["files_milliseconds"]), (&json!("default"), &Value::Null));
    service.store().tamper(&app.bucket, &rotten, whole[&two].clone());
    // A copy under another key is one that is missing under its own.
    put_object(&app.client, &app.bucket, &format!("{VAULT}{id}/images/images/A.jpg"), &whole[&one]).await;
    app.delete(&format!("{VAULT}{one}")).await;
    let told = drill(&app, &[&id, "--files", "all"]).ends_with(1).json();
    assert_eq!(told["proof"]["findings"][0]["name"], "images/a.jpg", "{told}");
    put_object(&app.client, &app.bucket, &format!("{VAULT}{one}"), &whole[&one]).await;
    verified(&app, &[&id, "--files", "all"]);
    assert_eq!(point(&app, &id)["state"], "proven");
    app.assert_no_litter();
}

/// Each request in turn is not answered: nothing that was not looked at is verified, and nothing whole is failed.
#[tokio::test]
async fn a_service_that_fails_at_any_request_makes_no_verdict_that_was_not_looked_for() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    app.configure("[s3]\nattempts = 1\n");
    let before = app.vault().await;
    let mut could_not = 0;
    for nth in 1.. {
        service.reset_counts();
        service.inject(Fault::Status500, FaultAt::Nth(nth));
        let ended = drill(&app, &[&id, "--files", "all"]);
        let struck = service.faults_fired() > 0;
        let repeats = repeats(&service.log(), nth);
        service.clear_faults();
        if !struck {
            assert!(nth > 20, "only {nth} requests were made");
            break;
        }
        if ended.status == Some(0) {
            // What an earlier run left open is no part of a verdict: that it was not seen is said.
            let unseen = ended.err.contains("broke off could not be seen");
            assert!(repeats || unseen || ended.json()["recorded"] == false, "request {nth}: {}", ended.err);
        } else {
            let ended = ended.ends_with(2).says("hint: ");
            could_not += u32::from(ended.err.contains("could not verify"));
        }
        assert_ne!(point(&app, &id)["state"], "failed", "request {nth}");
        // The journal is read by each run: left to grow, it would move the request that is struck.
        for key in app.vault().await.keys().filter(|key| !before.contains_key(*key)) {
            app.delete(&format!("{VAULT}{key}")).await;
        }
    }
    assert!(could_not > 10, "the verdict was given {could_not} times");
    app.assert_no_litter();
}

/// True when a request stores again what one before it has stored, to see whether the service holds to conditions: what came of it is
/// then read.
fn repeats(log: &[String], nth: u64) -> bool {
    let at = usize::try_from(nth).expect("a few") - 1;
    log.get(at).is_some_and(|line| line.starts_with("PUT ") && log[..at].contains(line))
}

#[tokio::test]
async fn a_disk_without_room_is_refused_with_both_numbers_before_anything_is_fetched() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    let before = app.vault().await;
    let script = "mount -t tmpfs -o size=2m none tmp && exec \"$0\" drill";
    for namespace in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
        let mut command = app.tool(std::path::Path::new("unshare"));
        command.args(namespace).args(["/bin/bash", "-c", script, env!("CARGO_BIN_EXE_nexus")]);
        let ended = Ended::of(kill::run(command, LIMIT));
        if !ended.err.contains("permitted") && !ended.err.contains("denied") {
            let ended = ended.refuses(2, " MiB in ").says(" MiB are free").says("TMPDIR=");
            assert!(ended.err.contains("nothing was fetched"), "{}", ended.err);
            assert_eq!(app.vault().await, before, "{id} was written to");
            return;
        }
    }
    panic!("no file system can be mounted here: run the tests as root or where namespaces are allowed");
}

/// A limit on the size of files stands in for a disk that fills up meanwhile.
#[tokio::test]
async fn a_disk_that_fills_up_meanwhile_is_no_damage_and_no_proof() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    let mut command = app.tool(std::path::Path::new("/bin/bash"));
    command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" drill", env!("CARGO_BIN_EXE_nexus")]);
    let ended = Ended::of(kill::run(command, LIMIT)).refuses(2, "could not verify");
    assert!(ended.out.is_empty(), "{}", ended.out);
    let point = point(&app, &id);
    assert_eq!((&point["state"], &point["last_proof"]["verdict"]), (&json!("proven"), &json!("could-not-verify")));
    app.assert_no_litter();
}

/// A vault on a file system that only reads: the answer comes, and that it is not in the journal is said.
#[tokio::test]
async fn a_vault_that_may_only_be_read_gives_its_answer_all_the_same() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let folder = app.path("vault");
    std::fs::create_dir(&folder).expect("room on the disk");
    app.run(&["backup", "--vault", "vault"]).ends_with(0);
    let script = "mount --bind vault vault && mount -o remount,bind,ro vault && exec \"$0\" drill --vault vault --files all --json";
    for namespace in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
        let mut command = app.tool(std::path::Path::new("unshare"));
        command.args(namespace).args(["/bin/bash", "-c", script, env!("CARGO_BIN_EXE_nexus")]);
        let ended = Ended::of(kill::run(command, LIMIT));
        if ended.status != Some(1) || !ended.out.is_empty() {
            let told = ended.ends_with(0).says("warning: ").json();
            assert_eq!((&told["verdict"], &told["recorded"]), (&json!("verified"), &json!(false)), "{told}");
            return;
        }
    }
    panic!("no file system can be mounted here: run the tests as root or where namespaces are allowed");
}

/// Killed at any request it leaves the point as it was, and the next drill is as good as the first.
#[tokio::test]
async fn a_drill_that_is_killed_leaves_nothing_that_the_next_one_does_not_take_away() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let id = app.back_up(&[]);
    let before = app.state().await;
    for nth in [8, 14, 20] {
        service.reset_counts();
        service.inject(Fault::Stall, FaultAt::Nth(nth));
        let running = app.start(&["drill", "--files", "all"]);
        let deadline = Instant::now() + LIMIT;
        while service.faults_fired() == 0 {
            assert!(Instant::now() < deadline, "it does not come to request {nth}");
            std::thread::sleep(Duration::from_millis(2));
        }
        running.kill();
        running.wait(LIMIT);
        service.clear_faults();
        assert_eq!(point(&app, &id)["state"], "proven");
        verified(&app, &["--files", "all"]);
        app.assert_no_litter();
    }
    assert_eq!(app.state().await, before);
}

/// A listing does not see a flipped byte: only who reads it again may say that it is not there.
#[tokio::test]
async fn damage_that_a_drill_found_stays_until_something_as_deep_finds_none() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    std::fs::create_dir(app.path("media")).expect("room");
    for name in ["one.txt", "two.txt"] {
        std::fs::write(app.path("media").join(name), name).expect("room");
    }
    app.write(
        "nexus.toml",
        "app = \"clinic\"\n[database]\nurl = \"db.sqlite3\"\n[files]\nsource = \"media\"\n[vault]\nurl = \"vault\"\n",
    );
    let id = app.back_up(&[]);
    let copy = app.path("vault").join(&id).join("documents/one.txt");
    let written = |text: &str| {
        let modified = std::fs::metadata(&copy).and_then(|meta| meta.modified()).expect("a time");
        std::fs::write(&copy, text).expect("room");
        let file = std::fs::File::options().write(true).open(&copy).expect("the copy");
        file.set_modified(modified).expect("a time");
    };
    written("onf.txt");
    drill(&app, &["--files", "all"]).ends_with(1);
    let stays = "an earlier check found damage that this one did not look for";
    app.run(&["verify", &id]).ends_with(0).says(stays);
    drill(&app, &[&id, "--files", "0"]).ends_with(0).says(stays);
    assert_eq!(app.points(), [(id.clone(), "failed".to_owned())]);
    app.run(&["verify"]).refuses(2, "a check found damage");
    written("one.txt");
    let told = app.run(&["verify", &id, "--full"]).ends_with(0);
    assert!(!told.err.contains(stays), "{}", told.err);
    assert_eq!(app.points(), [(id, "proven".to_owned())]);
}
