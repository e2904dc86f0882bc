//! A command rehearsed on a point in scratch: what is told is what the command then does, and nothing else is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nexus_sandbox::{Fault, FaultAt, Service};
use nexus_testkit::bucket::{all_objects, make_bucket};
use nexus_testkit::kill::{self, Running};
use nexus_testkit::postgres::{Database, Server, programs, unique};
use nexus_testkit::services::{Endpoint, aws, ministack, python, seaweedfs, unique_bucket};
use nexus_testkit::tree;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::app::{App, Ended, Objects, VAULT, sandbox};
use crate::hooks::is_gone;

/// Django starts slowly when the machine has much to do.
const LIMIT: Duration = Duration::from_mins(2);
/// The operations of a rehearsal that change or list something, and how far apart those are at
/// which it is killed.
const OPERATIONS: [(&str, usize); 4] =
    [("CopyObject", 13), ("PutObject", 1), ("ListObjectsV2", 3), ("DeleteObjects", 1)];

/// A shop on Django whose owner is about to migrate it and to delete rows and files.
struct Shop {
    app: App,
    /// The service in this process, unless it is another's.
    service: Option<Service>,
    staging: String,
    /// Where its database is.
    url: String,
}

fn file_url(app: &App) -> String {
    format!("sqlite:///{}", app.database.display())
}

fn reform() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../nexus-testkit/python/reform/reform.py")
}

impl Shop {
    async fn open(url: impl FnOnce(&App) -> String) -> Self {
        let (service, endpoint) = sandbox();
        Self { service: Some(service), ..Self::at(endpoint, url).await }
    }

    async fn at(endpoint: Endpoint, url: impl FnOnce(&App) -> String) -> Self {
        let mut app = App::bare(endpoint).await;
        let staging = unique_bucket("staging");
        make_bucket(&app.client, &staging).await;
        let (url, bucket) = (url(&app), app.bucket.clone());
        app.set("DATABASE_URL", &url);
        app.set("SHOP_BUCKET", &bucket);
        let shop = Self { app, service: None, staging, url };
        shop.configure("");
        shop.site(&["make"]);
        for number in 0..40 {
            shop.app.put(&format!("documents/{number:05}.pdf"), format!("order {number}").as_bytes()).await;
        }
        shop.app.put("images/logo.png", b"a logo").await;
        shop
    }

    /// On SQLite.
    async fn on_a_file() -> Self {
        Self::open(file_url).await
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("it is in this process")
    }

    fn configure(&self, more: &str) {
        let (url, bucket, staging) = (&self.url, &self.app.bucket, &self.staging);
        let (python, site) = (python().display().to_string(), reform().display().to_string());
        self.app.write(
            "nexus.toml",
            &format!(
                "app = \"shop\"\n[database]\nurl = \"{url}\"\nprograms = \"{}\"\n[files]\nsource = \"s3://{bucket}\"\n\
                 [records]\nfolder = \"backups\"\n[vault]\nurl = \"s3://{bucket}/{VAULT}\"\n\
                 [rehearse]\nbucket = \"s3://{staging}/rehearsals\"\nprobe = \"{python} -B {site} where\"\n{more}\
                 [rehearse.environment]\nSHOP_BUCKET = \"{{bucket}}\"\nSHOP_PREFIX = \"{{prefix}}/\"\n",
                programs(18).display()
            ),
        );
    }

    /// Runs the site on the real thing.
    fn site(&self, words: &[&str]) {
        let mut command = self.app.tool(&python());
        command.arg("-B").arg(reform()).args(words);
        Ended::of(kill::run(command, LIMIT)).ends_with(0);
    }

    fn rehearse(&self, more: &[&str], command: &[&str]) -> Ended {
        let words = [&["rehearse", "--json"], more, &["--"], command].concat();
        Ended::of(kill::run(self.app.command(&words), LIMIT))
    }

    /// Rehearses what the owner is about to do.
    fn rehearse_deed(&self, more: &[&str]) -> Ended {
        let (python, site) = (python().display().to_string(), reform().display().to_string());
        self.rehearse(more, &[&python, "-B", &site, "deed"])
    }

    async fn staged(&self) -> Vec<String> {
        all_objects(&self.app.client, &self.staging).await.into_keys().collect()
    }

    /// Nothing is left of any rehearsal.
    async fn assert_clean(&self) {
        assert_eq!(self.staged().await, Vec::<String>::new());
        self.app.assert_no_litter();
    }
}

/// The records of a point by table and id, as they lie on this machine.
fn records(app: &App, id: &str) -> BTreeMap<String, BTreeMap<String, Value>> {
    let folder = app.path("backups").join(id);
    let summary = std::fs::read_to_string(folder.join("backup_summary.json")).expect("a summary");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    let tables = summary["tables"].as_array().expect("tables").iter().map(|table| {
        let text = std::fs::read_to_string(folder.join(table["file"].as_str().expect("a file"))).expect("records");
        let rows: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        let keyed = rows.into_iter().map(|row| (row["id"].to_string(), row)).collect();
        (table["table"].as_str().expect("a name").to_owned(), keyed)
    });
    tables.collect()
}

/// Rows added, changed in what both have, removed: by table, of those that differ at all.
fn rows_changed(
    before: &BTreeMap<String, BTreeMap<String, Value>>,
    after: &BTreeMap<String, BTreeMap<String, Value>>,
) -> BTreeMap<String, [u64; 3]> {
    let none = BTreeMap::new();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changed = BTreeMap::new();
    for name in names {
        let (then, now) = (before.get(name).unwrap_or(&none), after.get(name).unwrap_or(&none));
        let differs = |(id, row): &(&String, &Value)| {
            let other = now.get(*id).and_then(Value::as_object);
            let row = row.as_object().expect("a record");
            other.is_some_and(|other| row.iter().any(|(name, value)| other.get(name).is_some_and(|it| it != value)))
        };
        let added = now.keys().filter(|id| !then.contains_key(*id)).count() as u64;
        let removed = then.keys().filter(|id| !now.contains_key(*id)).count() as u64;
        let numbers = [added, then.iter().filter(differs).count() as u64, removed];
        if numbers != [0; 3] {
            changed.insert(name.clone(), numbers);
        }
    }
    changed
}

/// Files added, changed, removed.
fn files_changed(before: &Objects, after: &Objects) -> [u64; 3] {
    let added = after.keys().filter(|key| !before.contains_key(*key)).count() as u64;
    let removed = before.keys().filter(|key| !after.contains_key(*key)).count() as u64;
    let changed = before.iter().filter(|(key, file)| after.get(*key).is_some_and(|other| other != *file)).count();
    [added, changed as u64, removed]
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn told_rows(told: &Value) -> BTreeMap<String, [u64; 3]> {
    let tables = told["changes"]["tables"].as_array().expect("tables").iter();
    let numbers = |table: &Value| ["added", "changed", "removed"].map(|word| number(&table[word]));
    tables.map(|table| (table["table"].as_str().expect("a name").to_owned(), numbers(table))).collect()
}

fn told_files(told: &Value) -> [u64; 3] {
    let categories: Vec<&Value> = told["changes"]["files"].as_object().expect("files").values().collect();
    ["added", "changed", "removed"].map(|word| categories.iter().map(|of| number(&of[word]["files"])).sum())
}

/// Rehearses, then does it, and holds what was told against what came of it; answers the point.
async fn predicts(shop: &Shop, digest: impl Fn() -> BTreeMap<String, String>) -> String {
    let app = &shop.app;
    let first = app.back_up(&[]);
    let (files, database) = (app.files().await, digest());

    let rehearsed = shop.rehearse_deed(&["--exclusive"]).ends_with(0).says("Applying shop.0002_reform");
    let told = rehearsed.json();
    assert_eq!((digest(), app.files().await), (database, files.clone()), "the rehearsal touched the application");
    assert_eq!(told["application"], json!({"unchanged": true, "why_not_looked_at": null, "tables": [], "files": []}));
    assert_eq!((&told["command"]["exit_status"], &told["scratch_removed"]), (&json!(0), &json!(true)), "{told}");
    shop.assert_clean().await;

    shop.site(&["deed"]);
    let second = app.back_up(&[]);
    let expected = rows_changed(&records(app, &first), &records(app, &second));
    assert_eq!(told_rows(&told), expected);
    assert_eq!(expected["shop_order"], [1, 1, 12]);
    assert_eq!((expected["shop_customer"], expected["shop_label"]), ([0, 30, 0], [3, 0, 0]));
    let order = told["changes"]["tables"].as_array().expect("tables");
    let order = order.iter().find(|table| table["table"] == "shop_order").expect("the table");
    assert_eq!((&order["columns_added"], &order["columns_removed"]), (&json!(["status"]), &json!(["legacy"])));
    assert_eq!(told_files(&told), files_changed(&files, &app.files().await));
    assert_eq!(told_files(&told), [1, 1, 12]);
    assert_eq!(told["changes"]["files"]["documents"]["first_added"], json!(["documents/01000.pdf"]));
    first
}

#[tokio::test]
async fn what_a_rehearsed_migration_changes_on_sqlite_is_what_it_then_changes() {
    let shop = Shop::on_a_file().await;
    let database = shop.app.database.clone();
    predicts(&shop, || nexus_testkit::digest::database(&database)).await;
}

#[tokio::test]
async fn services_that_list_and_tag_in_their_own_way_are_rehearsed_on_alike() {
    for endpoint in [seaweedfs(), ministack()] {
        let shop = Shop::at(endpoint, file_url).await;
        let database = shop.app.database.clone();
        predicts(&shop, || nexus_testkit::digest::database(&database)).await;
    }
}

#[tokio::test]
async fn what_a_rehearsed_migration_changes_on_postgresql_is_what_it_then_changes() {
    for major in [15, 18] {
        let server = Server::shared(major);
        let database = Database::empty(&server, "");
        let shop = Shop::open(|_| database.url()).await;
        let point = predicts(&shop, || database.digest()).await;
        // Other tests have their own on the same server.
        let left = scratch_databases(&server).into_iter().find(|name| name.contains(&point));
        assert_eq!(left, None);
    }
}

/// Scratch databases of rehearsals.
fn scratch_databases(server: &Server) -> Vec<String> {
    server.databases().into_iter().filter(|name| name.starts_with("nexus_rehearse_")).collect()
}

#[tokio::test]
async fn a_command_with_settings_of_its_own_is_stopped_by_the_probe() {
    let mut shop = Shop::on_a_file().await;
    shop.app.back_up(&[]);
    let before = shop.app.state().await;
    let url = shop.url.clone();
    shop.app.set("SHOP_STUBBORN", &url);
    let mark = shop.app.path("it-ran");
    let mark = mark.to_str().expect("UTF-8");
    shop.rehearse(&[], &["touch", mark]).refuses(2, "the probe does not print the database");
    assert!(!Path::new(mark).exists(), "the command was run");
    // The same with a probe that names the right database and the wrong bucket, one that fails, and none at all.
    let text = std::fs::read_to_string(shop.app.path("nexus.toml")).expect("the configuration");
    let (head, tail) = text.split_once("probe = ").expect("a probe");
    let tail = tail.split_once('\n').expect("a line").1;
    for (probe, naming) in [
        ("probe = \"echo $DATABASE_URL here\"\n", "the probe does not print the bucket"),
        ("probe = \"echo $DATABASE_URL $SHOP_BUCKET\"\n", "the probe does not print the prefix"),
        ("probe = \"echo $DATABASE_URL $SHOP_BUCKET $SHOP_PREFIX; exit 3\"\n", "the probe failed (exit status 3)"),
        ("", "nothing shows that the command would work on the scratch"),
    ] {
        shop.app.write("nexus.toml", &format!("{head}{probe}{tail}"));
        shop.rehearse(&[], &["touch", mark]).refuses(2, naming);
        assert!(!Path::new(mark).exists(), "the command was run");
        shop.assert_clean().await;
    }
    assert_eq!(shop.app.state().await, before);
}

#[tokio::test]
async fn a_trusted_command_that_reaches_the_application_is_found_out() {
    let mut shop = Shop::on_a_file().await;
    shop.app.back_up(&[]);
    let url = shop.url.clone();
    let bucket = shop.app.bucket.clone();
    shop.app.set("SHOP_STUBBORN", &url);
    let told = shop.rehearse_deed(&["--trust-env", "--exclusive"]).ends_with(1).says("the command reached it").json();
    assert_eq!((&told["command"]["succeeded"], &told["application"]["unchanged"]), (&json!(true), &json!(false)));
    let tables = ["django_migrations", "shop_customer", "shop_label", "shop_order"];
    assert_eq!(told["application"]["tables"], json!(tables));
    // Its files it took from the environment.
    assert_eq!(told["application"]["files"], json!([]));
    assert_eq!(told_rows(&told), BTreeMap::new());
    // On a live application somebody else may have done it, and it says so.
    let touch = format!("echo overwritten > x; {} s3 cp x s3://{bucket}/images/logo.png", aws().display());
    let told = shop.rehearse(&["--trust-env"], &["/bin/sh", "-c", &touch]).ends_with(0).says("other causes");
    assert_eq!(told.json()["application"]["files"], json!(["images"]));
    shop.assert_clean().await;
}

#[tokio::test]
async fn a_command_that_fails_or_is_not_there_is_told_and_leaves_nothing() {
    let shop = Shop::on_a_file().await;
    // Its shadow tables are no tables of the app's.
    shop.app.sql("CREATE VIRTUAL TABLE found USING fts5(text)");
    shop.app.back_up(&[]);
    let before = shop.app.state().await;
    let remove = "import os, sqlite3; c = sqlite3.connect(os.environ['DATABASE_URL'][10:]); \
                  c.execute('delete from shop_customer where id < 6'); c.commit(); os._exit(3)";
    let python = python().display().to_string();
    let told = shop.rehearse(&[], &[&python, "-c", remove]).ends_with(1).says("exit status 3").json();
    assert_eq!((&told["command"]["exit_status"], &told["command"]["succeeded"]), (&json!(3), &json!(false)));
    assert_eq!(told_rows(&told), [("shop_customer".to_owned(), [0, 0, 5])].into());
    let uncompared = told["changes"]["uncompared"].as_object().expect("tables").keys().next();
    assert_eq!(uncompared.map(String::as_str), Some("found_config"));
    let told = shop.rehearse(&[], &["/bin/sh", "-c", "kill -9 $$"]).ends_with(1).says("signal 9").json();
    assert_eq!((&told["command"]["exit_status"], &told["command"]["signal"]), (&Value::Null, &json!(9)));
    shop.rehearse(&[], &["no-such-program"]).refuses(2, "the command no-such-program is not found");
    shop.assert_clean().await;
    assert_eq!(shop.app.state().await, before);
}

#[tokio::test]
async fn a_point_that_does_not_come_back_is_damage_and_the_command_is_not_run() {
    let shop = Shop::on_a_file().await;
    let id = shop.app.back_up(&[]);
    let mark = shop.app.path("it-ran");
    let touch = ["touch", mark.to_str().expect("UTF-8")];
    shop.app.delete(&format!("{VAULT}{id}/documents/documents/00007.pdf")).await;
    shop.rehearse(&["--point", &id], &touch).refuses(1, "documents/00007.pdf");
    shop.assert_clean().await;
    shop.rehearse(&["--point", &id, "--no-files"], &touch).ends_with(0);
    std::fs::remove_file(&mark).expect("it ran");
    let database = shop.app.vault().await.into_keys().find(|key| key.starts_with("database/")).expect("a copy");
    shop.app.put(&format!("{VAULT}{database}"), b"not a database").await;
    shop.rehearse(&["--point", &id, "--no-files"], &touch).refuses(1, "is not as it was written");
    assert!(!mark.exists(), "the command was run");
    shop.assert_clean().await;
}

#[tokio::test]
async fn an_application_that_cannot_be_looked_at_is_said_so_and_is_not_exclusive() {
    let shop = Shop::on_a_file().await;
    shop.app.back_up(&[]);
    std::fs::rename(&shop.app.database, shop.app.path("elsewhere")).expect("it was there");
    let told = shop.rehearse_deed(&[]).ends_with(0).says("whether the application itself changed is not known").json();
    assert_eq!((&told["application"]["unchanged"], told_files(&told)), (&Value::Null, [1, 1, 12]));
    let mark = shop.app.path("it-ran");
    shop.rehearse(&["--exclusive"], &["touch", mark.to_str().expect("UTF-8")]).refuses(2, "db.sqlite3");
    assert!(!mark.exists(), "the command was run");
    shop.assert_clean().await;
}

#[tokio::test]
async fn without_files_none_are_copied_and_a_dry_run_does_nothing() {
    let shop = Shop::on_a_file().await;
    let id = shop.app.back_up(&[]);
    shop.service().reset_counts();
    let told = shop.rehearse(&["--dry-run", "--point", &id], &["false"]).ends_with(0).json();
    assert_eq!((&told["copies"], &told["point"]), (&json!(41), &json!(id)));
    let wrote = |request: &String| ["PUT", "POST", "DELETE"].iter().any(|method| request.starts_with(method));
    assert_eq!(shop.service().log().into_iter().find(wrote), None);
    let told = shop.rehearse(&["--no-files"], &["true"]).ends_with(0).json();
    assert_eq!(told_rows(&told), BTreeMap::new());
    let copied = shop.service().log().into_iter().find(|request| request.contains("documents/00001.pdf"));
    assert_eq!(copied, None);
    shop.assert_clean().await;
}

#[tokio::test]
async fn a_rehearsal_that_could_do_harm_or_makes_no_sense_is_refused() {
    let shop = Shop::on_a_file().await;
    shop.app.back_up(&[]);
    let text = std::fs::read_to_string(shop.app.path("nexus.toml")).expect("the configuration");
    let (bucket, staging) = (&shop.app.bucket, format!("s3://{}/rehearsals", shop.staging));
    for (from, to, naming) in [
        (staging.as_str(), format!("s3://{bucket}/rehearsals"), "overlaps the application's own files"),
        (&staging, format!("s3://{bucket}/{VAULT}x"), "overlaps"),
        ("{bucket}", "{buckets}".to_owned(), "unknown placeholder {buckets}"),
        ("{bucket}", "{database-path".to_owned(), "a brace without its other half"),
        ("[rehearse]", "[rehearse]\nbuckets = 1".to_owned(), "unknown key `buckets`"),
        (&format!("bucket = \"{staging}\""), String::new(), "where the files of a rehearsal go"),
    ] {
        assert!(text.contains(from), "{from}");
        shop.app.write("nexus.toml", &text.replacen(from, &to, 1));
        shop.rehearse(&[], &["true"]).refuses(2, naming);
    }
    shop.assert_clean().await;
}

/// A shop whose files lie in a folder, with a point of it.
async fn in_a_folder() -> (Shop, PathBuf, PathBuf) {
    let shop = Shop::on_a_file().await;
    let (media, staging) = (shop.app.path("media"), shop.app.path("staging"));
    std::fs::create_dir_all(media.join("a/b")).expect("room");
    for name in ["a/b/one.txt", "two.pdf", "three.png"] {
        std::fs::write(media.join(name), name).expect("room");
    }
    shop.app.write(
        "nexus.toml",
        "app = \"shop\"\n[database]\nurl = \"db.sqlite3\"\n[files]\nsource = \"media\"\n[vault]\nurl = \"vault\"\n\
         [rehearse]\nbucket = \"staging\"\nprobe = \"echo $DATABASE_URL $MEDIA\"\n\
         [rehearse.environment]\nMEDIA = \"{files}\"\n",
    );
    shop.app.back_up(&[]);
    (shop, media, staging)
}

/// Nothing but the folder of markers.
fn assert_empty(staging: &Path) {
    let left: Vec<_> =
        staging.read_dir().expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, [".nexus-rehearsals"]);
    assert_eq!(staging.join(".nexus-rehearsals").read_dir().expect("a folder").count(), 0);
}

#[tokio::test]
async fn the_files_of_a_folder_are_rehearsed_in_another_folder() {
    let (shop, media, staging) = in_a_folder().await;
    let before = tree::digest(&media);
    let deed = "cd \"$MEDIA\" && rm two.pdf && echo more >> a/b/one.txt && mkdir c && echo new > c/new.png";
    let told = shop.rehearse(&["--exclusive"], &["/bin/sh", "-c", deed]).ends_with(0).json();
    assert_eq!(told_files(&told), [1, 1, 1], "{told}");
    assert_eq!(told["changes"]["files"]["images"]["first_added"], json!(["c/new.png"]));
    assert_eq!(tree::digest(&media), before);
    assert_empty(&staging);
}

#[tokio::test]
async fn what_a_command_makes_of_its_scratch_is_told_as_its_own_work_and_goes() {
    let (shop, media, staging) = in_a_folder().await;
    let before = tree::digest(&media);
    for deed in ["rm -r \"$MEDIA\"", "rm -r \"$MEDIA\"; echo a file > \"$MEDIA\""] {
        let gone = shop.rehearse(&["--exclusive"], &["/bin/sh", "-c", deed]).ends_with(0).json();
        assert_eq!(told_files(&gone), [0, 0, 3], "{gone}");
        assert_empty(&staging);
    }
    let database = "\"${DATABASE_URL#sqlite:///}\"";
    for (deed, naming) in [
        (format!("rm {database}; exit 3"), "exit status 3"),
        (format!("echo nonsense > {database}; exit 3"), "is not a SQLite database"),
        ("touch \"$MEDIA/$(printf 'a\\377')\"; exit 3".to_owned(), "is not UTF-8"),
    ] {
        let told = shop.rehearse(&[], &["/bin/sh", "-c", &deed]).refuses(2, "what the command changed cannot be seen");
        assert!(told.err.contains(naming) && told.err.contains("the command failed"), "{}", told.err);
        assert!(!told.err.contains("use another point"), "{}", told.err);
        assert_empty(&staging);
    }
    // What it did to the application meanwhile is told all the same.
    let reach = format!("rm {database}; rm '{}'", media.join("two.pdf").display());
    shop.rehearse(&[], &["/bin/sh", "-c", &reach])
        .refuses(2, "what the command changed cannot be seen")
        .says("the application itself changed meanwhile");
    std::fs::write(media.join("two.pdf"), "two.pdf").expect("room");
    assert_eq!(tree::digest(&media).len(), before.len());
}

/// The command finds the application's own files where nothing else is put in their place.
#[tokio::test]
async fn without_a_place_for_files_a_command_is_run_only_when_its_settings_are_trusted() {
    let (shop, media, _) = in_a_folder().await;
    shop.app.write(
        "nexus.toml",
        "app = \"shop\"\n[database]\nurl = \"db.sqlite3\"\n[files]\nsource = \"media\"\n[vault]\nurl = \"vault\"\n\
         [rehearse]\nprobe = \"echo $DATABASE_URL\"\n",
    );
    let deed = format!("rm '{}'", media.join("two.pdf").display());
    let words = ["/bin/sh", "-c", &deed];
    shop.rehearse(&[], &words).refuses(2, "where the files of a rehearsal go");
    shop.rehearse(&["--no-files"], &words).refuses(2, "would work on those of the application itself");
    assert!(media.join("two.pdf").exists(), "the application's own file was removed");
    shop.rehearse(&["--no-files", "--trust-env", "--exclusive"], &words).ends_with(1);
}

#[tokio::test]
async fn a_probe_that_hangs_ends_with_the_rehearsal_and_all_that_it_started() {
    let (shop, _, staging) = in_a_folder().await;
    let text = std::fs::read_to_string(shop.app.path("nexus.toml")).expect("the configuration");
    let probe = "sleep 600 & echo $! > child.new; mv child.new child; wait";
    shop.app.write("nexus.toml", &text.replace("echo $DATABASE_URL $MEDIA", probe));
    let mut running = shop.app.start(&["rehearse", "--", "touch", "it-ran"]);
    while !shop.app.path("child").exists() {
        assert!(running.ended_within(Duration::from_millis(5)).is_none(), "it ended before the probe ran");
    }
    running.interrupt();
    assert_eq!(running.wait(LIMIT).status.code(), Some(130));
    assert!(is_gone(&shop.app, "child"), "what the probe started runs on");
    assert!(!shop.app.path("it-ran").exists(), "the command was run");
    assert_empty(&staging);
}

/// A command that tells that it runs, lets go of this test's pipes, and goes on until a file is gone.
fn lasting(shop: &Shop, more: &str) -> (Running, PathBuf, PathBuf) {
    let (started, hold) = (shop.app.path("started"), shop.app.path("hold"));
    std::fs::write(&hold, "").expect("room");
    let script = format!(
        "{more} exec >/dev/null 2>&1 </dev/null; echo $$ > '{0}.new'; mv '{0}.new' '{0}'; while [ -e '{1}' ]; do sleep 0.05; done",
        started.display(),
        hold.display()
    );
    let mut running = shop.app.start(&["rehearse", "--trust-env", "--", "/bin/sh", "-c", &script]);
    while !started.exists() {
        assert!(running.ended_within(Duration::from_millis(5)).is_none(), "it ended before the command ran");
    }
    (running, started, hold)
}

#[tokio::test]
async fn what_a_killed_rehearsal_left_is_removed_by_the_next() {
    let shop = Shop::on_a_file().await;
    shop.app.back_up(&[]);
    let before = shop.app.state().await;
    let (running, started, hold) = lasting(&shop, "");
    assert_eq!(shop.staged().await.len(), 42, "41 files and who works there");
    // While it lives, another rehearsal leaves it alone.
    shop.rehearse(&[], &["true"]).ends_with(0);
    assert_eq!(shop.staged().await.len(), 42);
    running.kill();
    running.wait(LIMIT);
    std::fs::remove_file(hold).expect("it was there");
    std::fs::remove_file(started).expect("it was there");
    assert_eq!(shop.staged().await.len(), 42);
    shop.rehearse(&[], &["true"]).ends_with(0).says("which a rehearsal that was killed had left");
    shop.assert_clean().await;
    assert_eq!(shop.app.state().await, before);
}

#[tokio::test]
async fn what_is_left_by_a_kill_at_any_request_is_removed_by_the_next_rehearsal() {
    let shop = Shop::on_a_file().await;
    shop.app.back_up(&[]);
    let before = shop.app.state().await;
    shop.service().reset_counts();
    shop.rehearse(&["--trust-env"], &["true"]).ends_with(0);
    let made = shop.service().operations();
    let mut left = BTreeSet::new();
    // Every rehearsal adds to the journal, so that the n-th request of all would be an earlier step each time.
    for (name, step) in OPERATIONS {
        let all = made.get(name).copied().unwrap_or(0);
        assert!(all > 0, "there is no {name} in {made:?}");
        for nth in (1..=all).step_by(step) {
            for fault in [Fault::Stall, Fault::StallAfter] {
                let at = FaultAt::Operation { name: name.to_owned(), nth };
                shop.service().reset_counts();
                shop.service().inject(fault, at);
                let mut running = shop.app.start(&["rehearse", "--trust-env", "--", "true"]);
                while shop.service().faults_fired() == 0 {
                    let ended = running.ended_within(Duration::from_millis(2));
                    assert!(ended.is_none(), "there is no {name} {nth}");
                }
                running.kill();
                running.wait(LIMIT);
                shop.service().clear_faults();
                left.insert(shop.staged().await.len());
                shop.rehearse(&["--trust-env"], &["true"]).ends_with(0);
                shop.assert_clean().await;
            }
        }
    }
    assert!(left.len() > 2 && left.contains(&42), "they were not killed where it matters: {left:?}");
    assert_eq!(shop.app.state().await, before);
}

#[tokio::test]
async fn a_scratch_database_of_a_killed_rehearsal_is_removed_by_the_next() {
    // Its own server: others rehearse on the shared ones.
    let server = Server::own(16);
    let database = Database::empty(&server, "");
    let shop = Shop::open(|_| database.url()).await;
    shop.app.back_up(&[]);
    let before = database.digest();
    let (running, _, hold) = lasting(&shop, "");
    assert_eq!(scratch_databases(&server).len(), 1);
    running.kill();
    running.wait(LIMIT);
    std::fs::remove_file(hold).expect("it was there");
    // The server notices that its client is gone.
    let sessions = "select count(*) from pg_stat_activity where application_name ilike 'nexus%'";
    while server.sql("postgres", sessions) != "0" {}
    assert_eq!(scratch_databases(&server).len(), 1);
    shop.rehearse(&[], &["true"]).ends_with(0);
    assert_eq!(scratch_databases(&server), Vec::<String>::new());
    shop.assert_clean().await;
    assert_eq!(database.digest(), before);
}

#[tokio::test]
async fn a_command_that_drops_its_database_leaves_nothing_to_remove() {
    let server = Server::shared(16);
    let database = Database::empty(&server, "");
    let url = database.url();
    let shop = Shop::open(|_| url).await;
    let id = shop.app.back_up(&[]);
    let psql = server.bin.join("psql").display().to_string();
    let drop = format!("{psql} -X -q '{}' -c 'drop database nexus_rehearse_{id} with (force)'", server.url("postgres"));
    let told = shop.rehearse(&[], &["/bin/sh", "-c", &drop]).refuses(2, "what the command changed cannot be seen");
    assert!(!told.err.contains("could not be removed"), "{}", told.err);
    shop.assert_clean().await;
}

#[tokio::test]
async fn a_signal_ends_the_command_and_removes_the_scratch() {
    let shop = Shop::on_a_file().await;
    shop.app.back_up(&[]);
    let before = shop.app.state().await;
    for ignoring in ["", "trap '' TERM;"] {
        let (mut running, started, _) = lasting(&shop, ignoring);
        let pid = std::fs::read_to_string(&started).expect("it was written").trim().parse().expect("a number");
        let nexus = Pid::from_raw(i32::try_from(running.id()).expect("small")).expect("above zero");
        kill_process(nexus, Signal::TERM).expect("it is ours");
        assert!(running.ended_within(Duration::from_secs(20)).is_some(), "it goes on");
        let ended = Ended::of(running.wait(LIMIT)).ends_with(130);
        assert!(ended.err.contains("interrupted"), "{}", ended.err);
        let command = Pid::from_raw(pid).expect("above zero");
        assert!(rustix::process::test_kill_process(command).is_err(), "the command lives");
        std::fs::remove_file(started).expect("it was there");
        shop.assert_clean().await;
    }
    assert_eq!(shop.app.state().await, before);
}

/// What goes on writing would leave files that no later rehearsal knows of.
#[tokio::test]
async fn a_signal_ends_what_the_command_has_started_as_well() {
    let (shop, _, staging) = in_a_folder().await;
    let stubborn = "(trap '' TERM; while :; do mkdir -p \"$MEDIA\"; date > \"$MEDIA/x\"; sleep 0.05; done) & \
                    echo $! > child.new; mv child.new child;";
    let (running, started, _) = lasting(&shop, stubborn);
    running.interrupt();
    assert_eq!(running.wait(LIMIT).status.code(), Some(130));
    assert!(is_gone(&shop.app, "child"), "what the command started runs on");
    assert_empty(&staging);
    // One that ended by itself has its scratch removed all the same, and it is said what still runs.
    std::fs::remove_file(started).expect("it was written");
    let lasting = ["/bin/sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $! > child"];
    shop.rehearse(&[], &lasting).ends_with(0).says("still runs as process");
    shop.app.shell("kill $(cat child)").ends_with(0);
}

/// Copies that are on their way when the signal comes end after it.
#[tokio::test]
async fn a_signal_while_files_are_copied_into_a_folder_leaves_none_of_them() {
    let (shop, media, staging) = in_a_folder().await;
    for number in 0..2_000 {
        std::fs::write(media.join(format!("{number}.txt")), number.to_string()).expect("room");
    }
    shop.app.back_up(&[]);
    let copied = || {
        let folders = staging.read_dir().into_iter().flatten().filter_map(Result::ok);
        folders.filter_map(|folder| Some(folder.path().read_dir().ok()?.count())).max().unwrap_or(0)
    };
    for least in [1, 200, 1_000] {
        let mut running = shop.app.start(&["rehearse", "--trust-env", "--", "false"]);
        while copied() < least {
            assert!(running.ended_within(Duration::from_millis(1)).is_none(), "it ended before it copied {least}");
        }
        running.interrupt();
        assert_eq!(running.wait(LIMIT).status.code(), Some(130));
        assert_empty(&staging);
    }
}

#[tokio::test]
async fn a_password_reaches_the_command_and_nothing_that_is_shown() {
    let server = Server::shared(16);
    let role = unique("rehearser");
    server.role(&role, "createdb");
    let database = Database::empty(&server, &format!("owner {role}"));
    let url = server.url_of(&database.name, &role, "secret");
    let shop = Shop::open(|_| url).await;
    shop.app.back_up(&[]);
    let check = "case $DATABASE_URL in *:secret@*nexus_rehearse_*) exit 0;; *) exit 1;; esac";
    let ended = shop.rehearse(&["--exclusive"], &["/bin/sh", "-c", check]).ends_with(0);
    assert!(!ended.out.contains("secret") && !ended.err.contains("secret"), "{}\n{}", ended.out, ended.err);
    // Another probe's words may hold one.
    let text = std::fs::read_to_string(shop.app.path("nexus.toml")).expect("the configuration");
    let (head, tail) = text.split_once("probe = ").expect("a probe");
    let tail = tail.split_once('\n').expect("a line").1;
    shop.app.write("nexus.toml", &format!("{head}probe = \"echo postgres://a:secret@b/c\"\n{tail}"));
    let ended = shop.rehearse(&[], &["true"]).refuses(2, "the probe does not print the database");
    assert!(!ended.err.contains("secret"), "{}", ended.err);
}
