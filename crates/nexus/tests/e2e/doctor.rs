//! `doctor`: every line fails for its own reason, and its next step, run as it is printed, mends it.

use std::path::Path;

use nexus_sandbox::{Quirks, Service, ServiceOptions};
use nexus_testkit::bucket::all_objects;
use nexus_testkit::kill::Running;
use nexus_testkit::postgres::{Database, Server, programs, unique};
use nexus_testkit::services::{self, Endpoint};
use serde_json::Value;

use crate::app::{App, Ended, sandbox};

/// What the last look said.
struct Seen(Value);

impl Seen {
    fn line(&self, name: &str) -> Option<&Value> {
        self.0["lines"].as_array().expect("lines").iter().find(|line| line["name"] == name)
    }

    #[track_caller]
    fn stands(&self, name: &str, standing: &str) -> &Value {
        let line = self.line(name).unwrap_or_else(|| panic!("no line {name:?} in {:#}", self.0));
        assert_eq!(line["standing"], standing, "{line:#}");
        line
    }

    /// Nothing failed and this line, where it is still there, stands as it should.
    #[track_caller]
    fn is_mended(&self, name: &str) {
        assert!(self.line(name).is_none_or(|line| line["standing"] == "passed"), "{:#}", self.0);
    }
}

#[track_caller]
fn look(app: &App, more: &[&str]) -> Seen {
    let words: Vec<&str> = ["doctor", "--json"].iter().chain(more).copied().collect();
    let ended = app.run(&words);
    let seen = ended.json();
    let failed = seen["lines"].as_array().expect("lines").iter().any(|line| line["standing"] == "failed");
    assert_eq!(ended.status, Some(i32::from(failed)), "{}", ended.err);
    assert_eq!(seen["fit"], !failed);
    Seen(seen)
}

/// Does what a line says, as it says it.
#[track_caller]
fn mend(app: &App, line: &Value, variables: &str) {
    let steps = line["next"].as_array().expect("steps");
    assert!(!steps.is_empty(), "{line:#}");
    for step in steps {
        if let Some(command) = step["run"].as_str() {
            // Nobody sits before this terminal to type a point's id.
            let answered = if command.starts_with("nexus restore") { " --yes" } else { "" };
            shell(app, &format!("{variables} {command}{answered}")).ends_with(0);
        } else if let Some(set) = step.get("set") {
            put_into_config(app, set["table"].as_str().expect("a table"), set["line"].as_str().expect("a line"));
        }
    }
}

fn shell(app: &App, script: &str) -> Ended {
    let here = Path::new(env!("CARGO_BIN_EXE_nexus")).parent().expect("a folder").display();
    app.shell(&format!("PATH={here}:$PATH; {script}"))
}

/// Writes a line into its table of the configuration, in place of the one with the same key.
fn put_into_config(app: &App, table: &str, line: &str) {
    let key = line.split(' ').next().expect("a key");
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    let heading = format!("[{table}]");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = lines.iter().position(|line| *line == heading).unwrap_or_else(|| {
        lines.push(heading.clone());
        lines.len() - 1
    });
    let end = lines[at + 1..].iter().position(|line| line.starts_with('[')).map_or(lines.len(), |next| at + 1 + next);
    match lines[at + 1..end].iter().position(|line| line.starts_with(&format!("{key} "))) {
        Some(old) => line.clone_into(&mut lines[at + 1 + old]),
        None => lines.insert(at + 1, line.to_owned()),
    }
    app.write("nexus.toml", &(lines.join("\n") + "\n"));
}

fn quirky(quirks: Quirks) -> (Service, Endpoint) {
    let options = ServiceOptions { quirks, ..ServiceOptions::default() };
    let service = Service::start(options.clone()).expect("a free port");
    let url = service.endpoint().to_owned();
    (service, Endpoint { url, access_key: options.access_key, secret_key: options.secret_key })
}

#[tokio::test]
async fn a_look_leaves_nothing_behind_and_an_app_that_is_ready_is_fit() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    for _ in 0..2 {
        let before = all_objects(&app.client, &app.bucket).await;
        let state = app.state().await;
        let seen = look(&app, &[]);
        assert_eq!(seen.0["fit"], true, "{:#}", seen.0);
        assert_eq!(all_objects(&app.client, &app.bucket).await, before);
        assert_eq!(service.store().open_uploads(&app.bucket), 0);
        assert_eq!(app.state().await, state);
        app.assert_no_litter();
        // The second look is at an app with a point.
        app.back_up(&[]);
    }
}

#[tokio::test]
async fn a_right_that_lacks_is_named_and_granting_it_mends_the_line() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[retention]\nfiles = \"90d\"\ndatabase = \"30d\"\n");
    let rights = [
        ("PutObject", "writing", "failed", "s3:PutObject"),
        ("DeleteObjects", "removing", "warned", "s3:DeleteObject"),
        ("CopyObject", "copying", "failed", "s3:GetObjectTagging"),
        ("CreateMultipartUpload", "putting back", "warned", "s3:PutObject"),
        ("ListObjectsV2", "vault", "failed", ""),
    ];
    for (operation, line, standing, right) in rights {
        let before = all_objects(&app.client, &app.bucket).await;
        service.deny(operation);
        let seen = look(&app, &[]);
        let told = seen.stands(line, standing);
        assert!(told["next"].to_string().contains(right), "{told:#}");
        service.allow_all();
        assert_eq!(all_objects(&app.client, &app.bucket).await, before, "{operation}");
        assert_eq!(service.store().open_uploads(&app.bucket), 0, "{operation}");
        look(&app, &[]).stands(line, "passed");
    }
    app.back_up(&[]);
    service.deny("GetObject");
    look(&app, &[]).stands("vault", "failed");
}

#[tokio::test]
async fn a_role_that_may_only_read_is_told_so_for_every_line_of_writing() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let before = all_objects(&app.client, &app.bucket).await;
    for operation in ["PutObject", "DeleteObject", "DeleteObjects", "CopyObject", "CreateMultipartUpload"] {
        service.deny(operation);
    }
    let seen = look(&app, &[]);
    seen.stands("removing", "warned");
    seen.stands("writing", "failed");
    seen.stands("putting back", "warned");
    assert_eq!(all_objects(&app.client, &app.bucket).await, before);
}

#[tokio::test]
async fn what_a_service_does_not_do_is_told_apart_and_never_silently_ignored() {
    let none = Quirks::default();
    let unmended = [
        (Quirks { ignore_put_conditions: true, ..none }, "conditional writes"),
        (Quirks { ignore_copy_conditions: true, ..none }, "conditional copies"),
    ];
    for (quirks, line) in unmended {
        let (service, endpoint) = quirky(quirks);
        let app = App::clinic(endpoint).await;
        let before = all_objects(&app.client, &app.bucket).await;
        look(&app, &[]).stands(line, "warned");
        assert_eq!(all_objects(&app.client, &app.bucket).await, before);
        drop(service);
    }
    let mended = [
        (Quirks { no_encryption: true, ..none }, "encryption"),
        (Quirks { no_classes: true, ..none }, "class of databases"),
    ];
    for (quirks, line) in mended {
        let (_service, endpoint) = quirky(quirks);
        let app = App::clinic(endpoint).await;
        let seen = look(&app, &[]);
        mend(&app, seen.stands(line, "warned"), "");
        look(&app, &[]).is_mended(line);
    }
}

#[tokio::test]
async fn a_vault_that_everybody_can_read_fails_until_it_is_shut() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    look(&app, &[]).stands("public access", "warned");
    service.make_public();
    let seen = look(&app, &[]);
    seen.stands("public access", "failed");
    mend(&app, seen.stands("unsigned reading", "failed"), "");
    let seen = look(&app, &[]);
    seen.stands("unsigned reading", "passed");
    seen.stands("public access", "passed");
}

#[tokio::test]
async fn a_clock_that_is_a_day_off_is_named() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    for (seconds, standing) in [(86_400, "failed"), (-86_400, "failed"), (480, "warned"), (-480, "warned")] {
        service.store().shift_clock(seconds);
        let seen = look(&app, &[]);
        let line = seen.stands("clock", standing);
        assert!(line["next"].to_string().contains("timedatectl"), "{line:#}");
        // A backup says so too, and is made where the service takes what this clock signs.
        if standing == "failed" {
            app.run(&["backup"]).refuses(2, "min ");
        } else {
            app.run(&["backup"]).ends_with(0).says("clock");
        }
        service.store().shift_clock(0);
        look(&app, &[]).stands("clock", "passed");
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_made_as_the_next_step_says() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let vault = format!("s3://{}/nexus", services::unique_bucket("vault"));
    let seen = look(&app, &["--vault", &vault]);
    mend(&app, seen.stands("vault", "failed"), "");
    look(&app, &["--vault", &vault]).stands("vault", "passed");
    let files = format!("s3://{}", services::unique_bucket("files"));
    let seen = look(&app, &["--vault", &vault, "--files", &files]);
    mend(&app, seen.stands("files", "failed"), "");
    look(&app, &["--vault", &vault, "--files", &files]).stands("files", "passed");
}

#[tokio::test]
async fn a_vault_of_another_app_and_a_missing_name_are_named() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.back_up(&[]);
    let seen = look(&app, &["--app", "other"]);
    assert!(seen.stands("vault", "failed")["what"].as_str().expect("words").contains("clinic"));
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    app.write("nexus.toml", &text.replace("app = \"clinic\"\n", ""));
    look(&app, &[]).stands("configuration", "failed");
    app.write("nexus.toml", &text);
    look(&app, &[]).stands("configuration", "passed");
}

#[tokio::test]
async fn a_vault_in_the_bucket_of_the_files_is_moved_out_as_the_next_steps_say() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let seen = look(&app, &[]);
    mend(&app, seen.stands("place", "warned"), "");
    look(&app, &[]).stands("place", "passed");
    app.back_up(&[]);
    let folder = app.path("vault").display().to_string();
    look(&app, &["--vault", &folder]).stands("place", "warned");
    std::fs::create_dir(app.path("media")).expect("room on the disk");
    let seen = look(&app, &["--files", "media", "--vault", "media/vault"]);
    assert!(seen.stands("place", "warned")["what"].to_string().contains("among the files"), "{:#}", seen.0);
}

#[tokio::test]
async fn what_is_kept_for_too_short_a_time_is_named_and_the_next_step_mends_it() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[retention]\ndatabase = \"10d\"\nfiles = \"7d\"\n");
    // The configuration is named as it was found.
    std::fs::rename(app.path("nexus.toml"), app.path("other.toml")).expect("it is there");
    let told = app.run(&["doctor", "--config", "other.toml"]).ends_with(0).out;
    assert!(told.contains("/other.toml, under [retention]: "), "{told}");
    std::fs::rename(app.path("other.toml"), app.path("nexus.toml")).expect("it is there");
    let seen = look(&app, &[]);
    mend(&app, seen.stands("retention", "warned"), "");
    look(&app, &[]).stands("retention", "passed");
    mend(&app, seen.stands("storage class", "warned"), "");
    look(&app, &[]).is_mended("storage class");
}

#[tokio::test]
async fn a_database_file_that_is_gone_broken_or_in_everybodys_way_is_mended_as_the_next_step_says() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.back_up(&[]);
    let without_log = || {
        for ending in ["-wal", "-shm"] {
            // What is not there need not be removed.
            let _ = std::fs::remove_file(format!("{}{ending}", app.database.display()));
        }
    };
    std::fs::remove_file(&app.database).expect("it was there");
    without_log();
    let seen = look(&app, &[]);
    mend(&app, seen.stands("database", "failed"), "");
    look(&app, &[]).stands("database", "passed");
    for broken in [&b""[..], b"this is no database, whatever its name says of it; it is longer than a header"] {
        std::fs::write(&app.database, broken).expect("room on the disk");
        without_log();
        let seen = look(&app, &[]);
        mend(&app, seen.stands("database", "failed"), "");
        look(&app, &[]).stands("database", "passed");
    }
    app.sql("PRAGMA journal_mode = DELETE");
    let seen = look(&app, &[]);
    mend(&app, seen.stands("journal mode", "warned"), "");
    look(&app, &[]).stands("journal mode", "passed");
}

#[tokio::test]
async fn a_records_folder_that_is_none_or_that_git_tracks_is_mended_as_the_next_step_says() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.write("backups", "a file in its place");
    let seen = look(&app, &[]);
    app.run(&["backup"]).refuses(2, "is not a folder");
    mend(&app, seen.stands("records folder", "failed"), "");
    look(&app, &[]).stands("records folder", "passed");
    app.back_up(&[]);
    let init = "git init -q . && git -c user.name=a -c user.email=a@b add -f backups";
    shell(&app, init).ends_with(0);
    let seen = look(&app, &[]);
    app.run(&["backup"]).ends_with(0).says("tracked by git");
    mend(&app, seen.stands("records in git", "failed"), "");
    look(&app, &[]).stands("records in git", "passed");
}

#[tokio::test]
async fn a_file_that_keeps_the_records_folder_in_git_is_no_record_and_a_strange_repository_is_not_passed_over() {
    let (_service, endpoint) = sandbox();
    let mut app = App::clinic(endpoint).await;
    std::fs::create_dir(app.path("backups")).expect("room on the disk");
    app.write("backups/.gitkeep", "");
    shell(&app, "git init -q . && git add -f backups").ends_with(0);
    look(&app, &[]).stands("records in git", "passed");
    let home = app.path("tmp").display().to_string();
    app.set("HOME", &home);
    app.set("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1");
    let seen = look(&app, &[]);
    mend(&app, seen.stands("records in git", "warned"), "");
    look(&app, &[]).stands("records in git", "passed");
}

#[tokio::test]
async fn files_alone_need_no_room_for_a_copy_of_the_database() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    let database = std::fs::OpenOptions::new().write(true).open(&app.database).expect("a database");
    let whole = database.metadata().expect("a size").len();
    // Larger than the disk, and none of it is there.
    database.set_len(8 << 40).expect("a sparse file");
    app.run(&["backup"]).refuses(2, "are needed");
    app.back_up(&["--only", "files"]);
    database.set_len(whole).expect("a file");
    app.back_up(&[]);
}

#[tokio::test]
async fn a_disk_without_room_for_records_or_vault_is_named() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.sql(
        "CREATE TABLE large (id INTEGER PRIMARY KEY, text);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
         INSERT INTO large SELECT i, hex(randomblob(30000)) FROM n",
    );
    for (folder, words, name) in [
        ("backups", vec!["doctor", "--json"], "room for records"),
        ("vault", vec!["doctor", "--json", "--vault", "vault"], "room in the vault"),
    ] {
        let script = format!("mkdir -p {folder} && mount -t tmpfs -o size=2m none {folder} && exec \"$0\" \"$@\"");
        for namespace in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
            let mut command = app.tool(Path::new("unshare"));
            command.args(namespace).args(["sh", "-c", &script, env!("CARGO_BIN_EXE_nexus")]).args(&words);
            let ended = Ended::of(nexus_testkit::kill::run(command, crate::app::LIMIT));
            // Not every machine lets a test mount something.
            if ended.out.is_empty() {
                continue;
            }
            let line = Seen(ended.json());
            let told = line.stands(name, "failed");
            assert!(told["what"].as_str().expect("words").contains("MB are needed"), "{told:#}");
            assert!(told["next"].to_string().contains("df -h"), "{told:#}");
            break;
        }
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_waited_for_once_by_a_backup() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.configure("[s3]\nattempts = 2\n");
    service.reset_counts();
    service.inject(nexus_sandbox::Fault::Reset, nexus_sandbox::FaultAt::From(1));
    app.run(&["backup"]).refuses(2, "cannot list the bucket");
    assert_eq!(service.requests(), 2);
}

#[tokio::test]
async fn what_a_role_may_not_ask_has_not_passed() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    service.deny("GetBucketVersioning");
    service.deny("GetPublicAccessBlock");
    let seen = look(&app, &[]);
    seen.stands("versioning", "warned");
    seen.stands("public access", "warned");
    assert_eq!(seen.0["fit"], true);
}

#[tokio::test]
async fn a_lifecycle_rule_that_eats_the_vault_is_taken_away_and_others_stay() {
    let app = App::clinic(services::seaweedfs()).await;
    let (bucket, url) = (&app.bucket, &app.endpoint.url);
    let rule = |id: &str, prefix: &str| {
        format!(
            "{{\"ID\":\"{id}\",\"Status\":\"Enabled\",\"Filter\":{{\"Prefix\":\"{prefix}\"}},\"Expiration\":{{\"Days\":3}}}}"
        )
    };
    let set = |rules: &[String]| {
        app.write("rules.json", &format!("{{\"Rules\":[{}]}}", rules.join(",")));
        let put = format!(
            "aws s3api put-bucket-lifecycle-configuration --bucket {bucket} --endpoint-url {url} \
             --lifecycle-configuration file://rules.json"
        );
        shell(&app, &put).ends_with(0);
    };
    set(&[rule("eats", "backup/"), rule("thumbnails", "thumbnails/")]);
    let seen = look(&app, &[]);
    mend(&app, seen.stands("lifecycle", "failed"), "");
    look(&app, &[]).stands("lifecycle", "passed");
    let left =
        shell(&app, &format!("aws s3api get-bucket-lifecycle-configuration --bucket {bucket} --endpoint-url {url}"));
    assert!(left.out.contains("thumbnails") && !left.out.contains("eats"), "{}", left.out);
    // One that removes nothing is not taken away with one that does.
    let uploads = "{\"ID\":\"uploads\",\"Status\":\"Enabled\",\"Filter\":{\"Prefix\":\"\"},\"AbortIncompleteMultipartUpload\":{\"DaysAfterInitiation\":2}}";
    set(&[rule("eats", "backup/"), uploads.to_owned()]);
    let seen = look(&app, &[]);
    mend(&app, seen.stands("lifecycle", "failed"), "");
    look(&app, &[]).stands("lifecycle", "passed");
    let left =
        shell(&app, &format!("aws s3api get-bucket-lifecycle-configuration --bucket {bucket} --endpoint-url {url}"));
    assert!(left.out.contains("uploads") && !left.out.contains("eats"), "{}", left.out);
    set(&[rule("everything", "")]);
    let seen = look(&app, &[]);
    mend(&app, seen.stands("lifecycle", "failed"), "");
    look(&app, &[]).stands("lifecycle", "passed");
}

#[tokio::test]
async fn versions_that_are_suspended_or_locked_for_too_long_are_mended_and_the_probe_leaves_none() {
    let app = App::clinic(services::seaweedfs()).await;
    let url = &app.endpoint.url;
    let bucket = services::unique_bucket("locked");
    let api =
        |words: &str| shell(&app, &format!("aws s3api {words} --bucket {bucket} --endpoint-url {url}")).ends_with(0);
    api("create-bucket --object-lock-enabled-for-bucket");
    app.configure("[retention]\ndatabase = \"30d\"\nfiles = \"30d\"\nrecords = \"30d\"\n");
    let vault = format!("s3://{bucket}/nexus");
    // Of a bucket that keeps versions, none of the probe stays.
    look(&app, &["--vault", &vault]).stands("versioning", "passed");
    let versions = api("list-object-versions");
    assert!(!versions.out.contains("probe"), "{}", versions.out);
    look(&app, &["--vault", &vault]).stands("account", "warned");
    api("put-object-lock-configuration --object-lock-configuration \
         '{\"ObjectLockEnabled\":\"Enabled\",\"Rule\":{\"DefaultRetention\":{\"Mode\":\"GOVERNANCE\",\"Days\":365}}}'");
    let seen = look(&app, &["--vault", &vault]);
    mend(&app, seen.stands("object lock", "warned"), "");
    let seen = look(&app, &["--vault", &vault]);
    seen.stands("object lock", "passed");
    seen.stands("account", "passed");
    let plain = services::unique_bucket("plain");
    let versioning = |status: &str| {
        format!(
            "aws s3api put-bucket-versioning --bucket {plain} --versioning-configuration Status={status} --endpoint-url {url}"
        )
    };
    shell(&app, &format!("aws s3 mb s3://{plain} --endpoint-url {url}")).ends_with(0);
    shell(&app, &format!("{} && {}", versioning("Enabled"), versioning("Suspended"))).ends_with(0);
    let vault = format!("s3://{plain}/nexus");
    let seen = look(&app, &["--vault", &vault]);
    mend(&app, seen.stands("versioning", "warned"), "");
    look(&app, &["--vault", &vault]).stands("versioning", "passed");
}

/// An app whose database is on a server; its name and its role's are the URL's.
async fn on_server(url: &str, programs: &Path) -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::bare(endpoint).await;
    app.write(
        "nexus.toml",
        &format!(
            "app = \"clinic\"\n[database]\nurl = \"{url}\"\nlock-wait = \"1s\"\nprograms = \"{}\"\n[vault]\nurl = \"s3://{}/backup\"\n",
            programs.display(),
            app.bucket
        ),
    );
    (service, app)
}

#[tokio::test]
async fn tables_that_a_role_may_not_read_whole_are_opened_as_the_next_step_says() {
    let server = Server::shared(15);
    let database = Database::empty(&server, "");
    let role = unique("reader");
    server.role(&role, "");
    database.sql(
        "create table t (id integer primary key); create schema \"odd one\"; create table \"odd one\".\"a'b\" (x int)",
    );
    let (_service, app) = on_server(&server.url_of(&database.name, &role, "secret"), &programs(15)).await;
    let administrator = server.as_superuser();
    let seen = look(&app, &[]);
    mend(&app, seen.stands("tables", "failed"), &administrator);
    look(&app, &[]).stands("tables", "passed");
    database.sql("alter table t enable row level security");
    let seen = look(&app, &[]);
    mend(&app, seen.stands("tables", "failed"), &administrator);
    let seen = look(&app, &[]);
    seen.stands("tables", "passed");
    seen.stands("instant", "passed");
    app.back_up(&[]);
}

#[tokio::test]
async fn a_server_without_programs_without_an_answer_or_with_a_locked_table_is_named() {
    let server = Server::shared(15);
    let database = Database::empty(&server, "");
    database.sql("create table t (id integer primary key)");
    let empty = tempfile::tempdir().expect("a folder");
    let (_service, mut app) = on_server(&database.url(), empty.path()).await;
    // Neither the folder that is named nor the usual ones may hold a program of the server's version.
    app.set("PATH", "/nowhere");
    let seen = look(&app, &[]);
    if let Some(line) = seen.line("pg_dump").filter(|line| line["standing"] == "failed") {
        assert!(line["next"].to_string().contains("postgresql-client-15"), "{line:#}");
    }
    put_into_config(&app, "database", &format!("programs = \"{}\"", programs(15).display()));
    look(&app, &[]).stands("pg_dump", "passed");
    let mut holding = server.psql(&database.name);
    holding.args(["-c", "begin; lock table t in access exclusive mode; select pg_sleep(60)"]);
    let holder = Running::start(holding);
    let locked =
        "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted and relation = 't'::regclass";
    while database.sql(locked) != "1" {
        std::thread::yield_now();
    }
    let seen = look(&app, &[]);
    let line = seen.stands("instant", "failed");
    assert!(line["what"].as_str().expect("words").contains("psql"), "{line:#}");
    assert!(line["next"].to_string().contains("pg_terminate_backend"), "{line:#}");
    drop(holder);
    database.sql("select pg_terminate_backend(pid) from pg_locks where mode = 'AccessExclusiveLock' and relation = 't'::regclass");
    look(&app, &[]).stands("instant", "passed");
    let seen = look(&app, &["--database", "postgres://nobody@127.0.0.1:1/nowhere"]);
    let line = seen.stands("database", "failed");
    assert!(line["next"].to_string().contains("pg_isready"), "{line:#}");
}

/// The operations that a role has the right to, by the policy below a heading of the page.
fn operations_of(role: &str) -> Vec<&'static str> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/permissions.md"));
    let page = page.expect("the page of permissions");
    let section = page.split(&format!("\n## {role}\n")).nth(1).expect("a section");
    let policy = section.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("a policy");
    let policy: Value = serde_json::from_str(policy).expect("JSON");
    let statements = policy["Statement"].as_array().expect("statements").iter();
    let actions = statements.flat_map(|statement| statement["Action"].as_array().expect("actions"));
    let operations = actions.flat_map(|action| match action.as_str().expect("a text") {
        "s3:ListBucket" => &["ListObjectsV2", "HeadBucket"][..],
        "s3:ListBucketMultipartUploads" => &["ListMultipartUploads"],
        "s3:ListBucketVersions" => &["ListObjectVersions"],
        "s3:GetObject" => &["GetObject", "HeadObject"],
        "s3:GetObjectTagging" => &["GetObjectTagging"],
        "s3:PutObject" => &[
            "PutObject",
            "CopyObject",
            "CreateMultipartUpload",
            "UploadPart",
            "UploadPartCopy",
            "CompleteMultipartUpload",
        ],
        "s3:PutObjectTagging" => &["PutObjectTagging"],
        "s3:AbortMultipartUpload" => &["AbortMultipartUpload"],
        "s3:DeleteObject" => &["DeleteObject", "DeleteObjects"],
        "s3:GetBucketVersioning" => &["GetBucketVersioning"],
        "s3:GetBucketPolicyStatus" => &["GetBucketPolicyStatus"],
        "s3:GetBucketPublicAccessBlock" => &["GetPublicAccessBlock"],
        "s3:DeleteObjectVersion"
        | "s3:GetObjectRetention"
        | "s3:GetObjectLegalHold"
        | "s3:GetLifecycleConfiguration"
        | "s3:GetBucketObjectLockConfiguration" => &[],
        other => panic!("{other} is no action that this test knows"),
    });
    operations.copied().collect()
}

#[tokio::test]
async fn each_role_does_its_work_with_the_rights_of_its_policy() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    service.allow_only(&operations_of("backup"));
    let seen = look(&app, &[]);
    for line in ["vault", "writing", "files", "putting back"] {
        seen.stands(line, "passed");
    }
    let id = app.back_up(&[]);
    app.back_up(&[]);
    app.run(&["verify", "--full"]).ends_with(0);
    service.allow_all();
    let before = app.state().await;
    app.wreck().await;
    service.allow_only(&operations_of("restore"));
    app.restore(&[&id, "--delete-extra"]);
    service.allow_all();
    assert_eq!(app.state().await, before);
    let seconds = ["--keep-database", "1s", "--keep-files", "1s", "--keep-records", "1s", "--keep-last", "1"];
    let prune: Vec<&str> = ["prune", "--yes", "--json"].into_iter().chain(seconds).collect();
    let kept = app.vault().await;
    service.allow_only(&operations_of("backup"));
    app.run(&prune).ends_with(2);
    service.allow_all();
    assert_eq!(app.vault().await, kept, "a role that may not remove has announced something");
    service.allow_only(&operations_of("prune"));
    look(&app, &[]).stands("removing", "passed");
    let told = app.run(&prune).ends_with(0).json();
    service.allow_all();
    assert_eq!(told["removed"][0]["point"], id.as_str(), "{told}");
}

#[tokio::test]
async fn a_dry_look_writes_nothing_and_one_at_an_unlocked_account_says_how_to_lock_it() {
    let (service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    look(&app, &[]).stands("account", "warned");
    service.reset_counts();
    let seen = look(&app, &["--dry-run"]);
    assert!(seen.line("writing").is_none(), "{:#}", seen.0);
    let written = service.operations();
    let writes =
        |name: &&String| ["Put", "Delete", "Copy", "Create", "Abort"].iter().any(|verb| name.starts_with(verb));
    assert_eq!(written.keys().filter(writes).count(), 0, "{written:?}");
    assert_eq!(seen.0["fit"], true);
}
