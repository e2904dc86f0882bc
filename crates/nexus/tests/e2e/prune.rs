//! Prune as a person and a timer run it, and beside all others at once, with some of them killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aws_sdk_s3::types::{
    BucketVersioningStatus, ObjectLockLegalHold, ObjectLockLegalHoldStatus, VersioningConfiguration,
};
use nexus_testkit::kill::Running;
use nexus_testkit::services::seaweedfs;

use crate::app::{App, Ended, LIMIT, VAULT, sandbox};

/// What makes all over that is not kept for its number.
const SECONDS: [&str; 8] = ["--keep-files", "1s", "--keep-database", "1s", "--keep-records", "1s", "--keep-last", "1"];

#[tokio::test]
async fn a_dry_run_shows_each_decision_with_its_reason_and_changes_nothing() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let points: Vec<String> = (0..3).map(|_| app.back_up(&[])).collect();
    let before = (app.vault().await, nexus_testkit::tree::digest(&app.path("backups")));
    let words: Vec<&str> = ["prune", "--dry-run"].iter().chain(&SECONDS).copied().collect();
    let shown = app.run(&words).ends_with(0);
    for (point, fate) in points.iter().zip(["remove", "remove", "keep"]) {
        let line =
            shown.out.lines().find(|line| line.contains(point.as_str())).unwrap_or_else(|| panic!("{}", shown.out));
        assert!(line.contains(fate), "{line}");
    }
    assert!(shown.out.contains("over since"), "{}", shown.out);
    let words: Vec<&str> = ["prune", "--dry-run", "--json"].iter().chain(&SECONDS).copied().collect();
    let told = app.run(&words).ends_with(0).json();
    assert_eq!(told["remove"].as_array().map(Vec::len), Some(2), "{told}");
    assert_eq!(told["decisions"].as_array().map(Vec::len), Some(9), "{told}");
    assert_eq!((app.vault().await, nexus_testkit::tree::digest(&app.path("backups"))), before);
}

#[tokio::test]
async fn without_a_terminal_and_without_yes_nothing_goes_and_the_flag_is_named() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    (0..2).for_each(|_| drop(app.back_up(&[])));
    let before = app.vault().await;
    let words: Vec<&str> = ["prune"].iter().chain(&SECONDS).copied().collect();
    app.run(&words).refuses(2, "--yes");
    assert_eq!(app.vault().await, before);
}

#[tokio::test]
async fn where_nothing_is_over_nothing_is_asked_or_written() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    (0..2).for_each(|_| drop(app.back_up(&[])));
    let before = app.vault().await;
    app.run(&["prune"]).ends_with(0);
    let told = app.run(&["prune", "--json"]).ends_with(0).json();
    assert_eq!(told["removed"], serde_json::json!([]), "{told}");
    assert_eq!(app.vault().await, before);
}

#[tokio::test]
async fn what_is_over_goes_with_its_records_here_and_the_rest_verifies_and_restores() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let mut points = Vec::new();
    for at in 0..3 {
        app.put("images/a.jpg", format!("picture {at}").as_bytes()).await;
        points.push(app.back_up(&[]));
    }
    let state = app.state().await;
    let words: Vec<&str> = ["prune", "--yes", "--json"].iter().chain(&SECONDS).copied().collect();
    let told = app.run(&words).ends_with(0).json();
    let removed: BTreeSet<&str> =
        told["removed"].as_array().expect("a list").iter().filter_map(|one| one["point"].as_str()).collect();
    assert_eq!(removed, points[..2].iter().map(String::as_str).collect(), "{told}");
    assert_eq!(app.points(), [(points[2].clone(), "proven".to_owned())]);
    assert!(
        !app.path(&format!("backups/{}", points[0])).exists() && app.path(&format!("backups/{}", points[2])).exists()
    );
    app.run(&["verify", "--full"]).ends_with(0);
    app.run(&["show", &points[0]]).refuses(2, &points[0]);
    app.wreck().await;
    app.restore(&["latest", "--delete-extra"]);
    assert_eq!(app.state().await, state);
}

#[tokio::test]
async fn a_retention_of_nothing_of_a_bare_number_or_below_zero_is_refused() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    (0..2).for_each(|_| drop(app.back_up(&[])));
    let before = app.vault().await;
    for wrong in ["0", "0d", "0s", "30", "-5d", "", "d", "1.5d", "99999999999999999999d"] {
        for flag in ["--keep-files", "--keep-database", "--keep-records"] {
            let ended = app.run(&["prune", "--yes", &format!("{flag}={wrong}")]).ends_with(2);
            assert!(ended.err.contains(flag), "{}", ended.err);
        }
        for key in ["files", "database", "records"] {
            app.configure(&format!("[retention]\n{key} = \"{wrong}\"\n"));
            let ended = app.run(&["prune", "--yes"]).ends_with(2);
            assert!(ended.err.contains("nexus.toml"), "{}", ended.err);
        }
        app.configure("");
    }
    for wrong in ["-1", "many", "4294967296"] {
        app.run(&["prune", "--yes", &format!("--keep-last={wrong}")]).ends_with(2);
    }
    assert_eq!(app.vault().await, before);
}

#[tokio::test]
async fn a_point_of_which_the_files_went_restores_only_in_part_and_says_which_is_whole() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let points: Vec<String> = (0..2).map(|_| app.back_up(&[])).collect();
    app.run(&["prune", "--yes", "--keep-files", "1s", "--keep-last", "1"]).ends_with(0);
    assert_eq!(app.points().len(), 2);
    let refused = app.run(&["restore", &points[0], "--yes"]).refuses(2, "expired");
    assert!(refused.err.contains("--only") && refused.err.contains(&points[1]), "{}", refused.err);
    app.run(&["verify", &points[0]]).ends_with(0);
    app.restore(&[&points[0], "--only", "database"]);
}

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// One of those that run at once.
struct Runner {
    words: Vec<String>,
    /// When it begins, and when it is killed, if it is.
    begins: Duration,
    ends: Option<Duration>,
    running: Option<Running>,
}

fn runners(app: &App, random: &mut Random) -> Vec<Runner> {
    let prune = "prune --yes --keep-files 1s --keep-database 2s --keep-records 2s --keep-last 2";
    let elsewhere = ["there.sqlite3", "there"].map(|name| app.path(name).display().to_string());
    let restore = format!(
        "restore latest --only database,files --yes --to-database {} --to-files {}",
        elsewhere[0], elsewhere[1]
    );
    let _ = std::fs::remove_dir_all(&elsewhere[1]);
    for ending in ["", "-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(format!("{}{ending}", elsewhere[0]));
    }
    let all = ["backup", "backup --label import", prune, prune, &restore, "verify"];
    let runner = |words: &&str| {
        let begins = Duration::from_millis(random.below(300));
        let ends = (random.below(4) == 0).then(|| begins + Duration::from_millis(20 + random.below(600)));
        Runner { words: words.split(' ').map(str::to_owned).collect(), begins, ends, running: None }
    };
    all.iter().map(runner).collect()
}

/// Runs them at once, kills those that are to be killed, and says how each of the others ended.
fn at_once(app: &App, mut runners: Vec<Runner>) -> Vec<(String, Ended)> {
    let begun = Instant::now();
    let mut waits = true;
    while waits {
        waits = false;
        let now = begun.elapsed();
        for one in &mut runners {
            match &one.running {
                None if now >= one.begins => {
                    let words: Vec<&str> = one.words.iter().map(String::as_str).collect();
                    one.running = Some(app.start(&words));
                    waits |= one.ends.is_some();
                }
                Some(running) if one.ends.is_some_and(|ends| now >= ends) => running.kill(),
                running => waits |= running.is_none() || one.ends.is_some(),
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let ended = |one: Runner| {
        let running = one.running.expect("all were started");
        let killed = one.ends.is_some();
        let ended = Ended::of(running.wait(LIMIT));
        (!killed).then(|| (one.words.join(" "), ended))
    };
    runners.into_iter().filter_map(ended).collect()
}

/// Every listed point verifies.
fn sound(app: &App, context: &str) -> usize {
    let listed = app.run(&["list", "--json", "--all"]).ends_with(0).json();
    let points = listed["points"].as_array().expect("a list").iter();
    let committed: Vec<String> = points
        .filter(|point| {
            let state = point["state"].as_str().expect("a state");
            assert!(!["failed", "unreadable"].contains(&state), "{context}: {point}");
            state == "proven" || state == "unproven"
        })
        .map(|point| point["id"].as_str().expect("an id").to_owned())
        .collect();
    let looks: Vec<(String, Running)> = committed.iter().map(|id| (id.clone(), app.start(&["verify", id]))).collect();
    for (id, look) in looks {
        let ended = Ended::of(look.wait(LIMIT));
        assert_eq!(ended.status, Some(0), "{context}: {id}\n{}\n{}", ended.out, ended.err);
    }
    committed.len()
}

async fn all_at_once(app: &App, rounds: u64, seed: u64) {
    let mut random = Random(seed);
    app.back_up(&[]);
    let (mut ended_well, mut most) = (0, 0);
    for round in 0..rounds {
        let context = format!("round {round} of seed {seed}");
        app.put("images/a.jpg", format!("picture {round}").as_bytes()).await;
        app.put(&format!("images/{}.jpg", round % 3), context.as_bytes()).await;
        app.sql(&format!("UPDATE clinic_patient SET weight = {round} WHERE id = 1"));
        for (words, ended) in at_once(app, runners(app, &mut random)) {
            // Not done is an answer, if it is said why; damage is none, and neither is a crash.
            let told = format!("{context}: {words}\n{}\n{}", ended.out, ended.err);
            assert!(matches!(ended.status, Some(0 | 2)), "{told}");
            assert!(ended.status == Some(0) || ended.err.contains("error"), "{told}");
            assert!(!ended.err.contains("does not read back"), "{told}");
            ended_well += u32::from(ended.status == Some(0));
        }
        most = most.max(sound(app, &context));
    }
    assert!(u64::from(ended_well) > 2 * rounds, "only {ended_well} runs ended well, seed {seed}");
    assert!(most > 2, "never more than {most} points were listed, seed {seed}");
}

/// The claims of killed backups stay for a day, and all look at each of them: a vault is used for so many rounds only.
const ROUNDS: u64 = 25;

async fn all_at_once_in_buckets(seeds: [u64; 2]) {
    for seed in seeds {
        let app = App::clinic(seaweedfs()).await;
        all_at_once(&app, ROUNDS, seed).await;
    }
}

#[tokio::test]
async fn all_at_once_and_killed_every_listed_point_is_whole_for_fifty_rounds_in_a_bucket() {
    all_at_once_in_buckets([20_251_115, 20_251_116]).await;
}

#[tokio::test]
async fn all_at_once_and_killed_every_listed_point_is_whole_for_fifty_more_rounds_in_a_bucket() {
    all_at_once_in_buckets([20_251_117, 20_251_118]).await;
}

#[tokio::test]
async fn all_at_once_and_killed_every_listed_point_is_whole_in_a_folder() {
    let mut app = App::clinic(seaweedfs()).await;
    let vault = app.path("vault").display().to_string();
    std::fs::create_dir(app.path("vault")).expect("room");
    app.set("NEXUS_VAULT", &vault);
    all_at_once(&app, ROUNDS, 20_251_119).await;
}

/// Every version and marker below the vault, by key.
async fn versions(app: &App) -> BTreeSet<String> {
    let page = app.client.list_object_versions().bucket(&app.bucket).prefix(VAULT).send().await.expect("a listing");
    let keys = page.versions().iter().filter_map(|version| version.key());
    let markers = page.delete_markers().iter().filter_map(|marker| marker.key());
    keys.chain(markers).map(str::to_owned).collect()
}

#[tokio::test]
async fn on_a_bucket_that_keeps_versions_nothing_of_what_went_is_left_behind_a_marker() {
    let app = App::clinic(seaweedfs()).await;
    let wanted = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let set = app.client.put_bucket_versioning().bucket(&app.bucket).versioning_configuration(wanted);
    set.send().await.expect("the bucket's versioning");
    let old = app.back_up(&[]);
    app.put("images/a.jpg", b"another picture").await;
    let new = app.back_up(&[]);
    let stamp = |id: &str| id.split_once('_').expect("a stamp").1.to_owned();
    let words: Vec<&str> = ["prune", "--yes", "--json"].iter().chain(&SECONDS).copied().collect();
    let told = app.run(&words).ends_with(0).json();
    assert_eq!(told["removed"][0]["point"], old.as_str(), "{told}");
    let left = versions(&app).await;
    assert!(!left.iter().any(|key| key.contains("database/") && key.contains(&stamp(&old))), "{left:?}");
    assert!(!left.contains(&format!("{VAULT}{old}/images/images/a.jpg")), "the copy that was replaced is still there");
    assert!(!left.contains(&format!("{VAULT}{old}/manifest.json")), "{left:?}");
    // What the newer one still names is there, and whole.
    app.run(&["verify", "--full", &new]).ends_with(0);
}

#[tokio::test]
async fn a_point_whose_manifest_is_locked_stays_whole_and_that_is_no_failure() {
    let endpoint = seaweedfs();
    let app = App::clinic(endpoint).await;
    let vault = nexus_testkit::services::unique_bucket("locked");
    let made = app.client.create_bucket().bucket(&vault).object_lock_enabled_for_bucket(true).send().await;
    made.expect("a bucket with Object Lock");
    let url = format!("s3://{vault}/backup");
    let old = app.back_up(&["--vault", &url]);
    let key = format!("backup/{old}/manifest.json");
    let on = ObjectLockLegalHold::builder().status(ObjectLockLegalHoldStatus::On).build();
    let locked = app.client.put_object_legal_hold().bucket(&vault).key(&key).legal_hold(on).send().await;
    locked.expect("a legal hold");
    let new = app.back_up(&["--vault", &url]);
    let words: Vec<&str> = ["prune", "--yes", "--vault", &url].iter().chain(&SECONDS).copied().collect();
    let told = app.run(&words).ends_with(0);
    assert!(told.out.contains(&format!("{old}: its manifest is locked")), "{}\n{}", told.out, told.err);
    for id in [&old, &new] {
        app.run(&["verify", "--full", id, "--vault", &url]).ends_with(0);
    }
    app.run(&["restore", &old, "--dry-run", "--vault", &url]).ends_with(0);
    let off = ObjectLockLegalHold::builder().status(ObjectLockLegalHoldStatus::Off).build();
    let freed = app.client.put_object_legal_hold().bucket(&vault).key(&key).legal_hold(off).send().await;
    freed.expect("no legal hold");
    app.run(&words).ends_with(0);
    app.run(&["show", &old, "--vault", &url]).ends_with(2).says("was pruned");
    app.run(&["verify", "--full", &new, "--vault", &url]).ends_with(0);
}
