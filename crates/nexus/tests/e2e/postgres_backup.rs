//! What a backup of a PostgreSQL database takes, what it leaves, and for how long it stands in anybody's way.

use std::time::Duration;

use nexus_sandbox::{Fault, FaultAt, Service};
use nexus_testkit::kill::Running;
use nexus_testkit::postgres::{Database, Server, programs, rows, unique};
use serde_json::Value;

use crate::app::{App, sandbox};

/// The version that Debian brings, with all its extensions.
const DEBIAN: u32 = 15;

pub async fn app(url: &str, more: &str) -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::bare(endpoint).await;
    let (programs, bucket) = (programs(DEBIAN), &app.bucket);
    app.write(
        "nexus.toml",
        &format!(
            "app = \"clinic\"\n[database]\nurl = \"{url}\"\nlock-wait = \"5m\"\nprograms = \"{}\"\n\
             [records]\nfolder = \"backups\"\n[vault]\nurl = \"s3://{bucket}/backup/\"\n{more}",
            programs.display()
        ),
    );
    (service, app)
}

fn manifest(app: &App, id: &str) -> Value {
    app.run(&["show", id, "--json"]).ends_with(0).json()["manifest"].clone()
}

fn records(app: &App, id: &str, table: &str) -> Vec<Value> {
    let path = app.path("backups").join(id).join(format!("{table}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("records")).expect("JSON")
}

#[tokio::test]
async fn a_database_without_an_encoding_is_backed_up_with_bytes_that_are_no_text() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'");
    database.sql("create table name (id integer primary key, said text); insert into name values (1, E'caf\\351')");
    let (_service, app) = app(&database.url(), "").await;
    let id = app.back_up(&[]);
    assert_eq!(records(&app, &id, "name")[0]["said"], serde_json::json!({"$text": "Y2Fm6Q=="}));
    database.sql("delete from name");
    app.restore(&[&id]);
    assert_eq!(database.sql("select encode(said::bytea, 'hex') from name"), "636166e9");
    for name in server.databases().iter().filter(|name| name.starts_with(&format!("{}_before", database.name))) {
        server.sql("postgres", &format!("drop database \"{name}\""));
    }
}

#[tokio::test]
async fn the_database_is_let_go_before_the_files_are_copied() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table t (id integer primary key); insert into t values (1)");
    let (service, app) = app(&database.url(), "").await;
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    app.write("nexus.toml", &format!("{config}[files]\nsource = \"s3://{}\"\n", app.bucket));
    app.put("images/a.jpg", b"a picture").await;
    service.inject(Fault::Stall, FaultAt::Operation { name: "CopyObject".to_owned(), nth: 1 });
    let mut running = app.start(&["backup"]);
    while service.faults_fired() == 0 {
        assert!(running.ended_within(Duration::ZERO).is_none(), "it ended before it copied a file");
        tokio::task::yield_now().await;
    }
    // The copy has no answer; whoever waits for the table meanwhile gets it.
    database.sql("set lock_timeout = '20s'; truncate t");
    service.clear_faults();
    running.kill();
}

/// No point, nothing of a dump, no open upload, no records, no temporary file.
async fn nothing_is_left(service: &Service, app: &App) {
    assert!(app.vault().await.keys().all(|key| !key.starts_with("database/")), "an object was left");
    assert_eq!(service.store().open_uploads(&app.bucket), 0);
    assert!(app.points().iter().all(|(_, state)| state != "proven"));
    if app.path("backups").exists() {
        let records: Vec<String> = nexus_testkit::tree::digest(&app.path("backups")).into_keys().collect();
        assert!(records.iter().all(|name| name.contains(".gitignore")), "{records:?}");
    }
    app.assert_no_litter();
}

/// Fills a database with so much that cannot be compressed that its dump has several parts.
pub fn fill(database: &Database<'_>) {
    database.sql("create table blob (id integer primary key, body bytea)");
    database.sql(
        "insert into blob select g, decode(string_agg(md5(random()::text), ''), 'hex')
           from generate_series(1, 60) g, generate_series(1, 30000) group by g",
    );
}

/// The process of this name that another one started.
fn child(parent: u32, name: &str) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").expect("processes").filter_map(Result::ok);
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.into_iter().find(|id| {
        // The name stands in brackets; the state and the parent follow it.
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let parts = stat.rsplit_once(')').map(|(before, after)| (before.to_owned(), after.to_owned()));
        parts.is_some_and(|(before, after)| {
            before.ends_with(&format!("({name}")) && after.split_whitespace().nth(1) == Some(&parent.to_string())
        })
    })
}

#[tokio::test]
async fn a_pg_dump_that_is_killed_fails_the_backup() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    fill(&database);
    let (service, app) = app(&database.url(), "[s3]\nrequest-timeout = \"5s\"\n").await;
    service.inject(Fault::Stall, FaultAt::Operation { name: "UploadPart".to_owned(), nth: 2 });
    let mut running = app.start(&["backup", "--only", "database"]);
    while service.faults_fired() == 0 {
        assert!(running.ended_within(Duration::ZERO).is_none(), "it ended before it stored a part");
        tokio::task::yield_now().await;
    }
    let dump = child(running.id(), "pg_dump").expect("it is at work");
    let killed = std::process::Command::new("kill").args(["-KILL", &dump.to_string()]).status();
    assert!(killed.expect("kill").success());
    service.clear_faults();
    let ended = crate::app::Ended::of(running.wait(Duration::from_mins(2)));
    ended.ends_with(2).says("signal: 9").says("hint: ");
    nothing_is_left(&service, &app).await;
}

/// Has a `pg_dump` in the way of the real one, whose archive goes through a command of the shell; it always ends well.
fn put_in_the_way(app: &App, through: &str) {
    let (real, folder) = (programs(DEBIAN), app.path("programs"));
    std::fs::create_dir(&folder).expect("a folder");
    for name in ["pg_dumpall", "pg_restore", "psql"] {
        std::os::unix::fs::symlink(real.join(name), folder.join(name)).expect("a link");
    }
    let real = real.display();
    let script = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\n[ \"$1\" = --version ] && exec {real}/pg_dump --version\n\
         {real}/pg_dump \"$@\" | {{ {through}; }}\nexit 0\n"
    );
    app.write("programs/pg_dump", &script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(folder.join("pg_dump"), mode).expect("it is ours");
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    app.write("nexus.toml", &config.replace(&real.to_string(), &folder.display().to_string()));
}

#[tokio::test]
async fn an_archive_that_is_cut_or_breaks_its_rules_fails_the_backup_though_pg_dump_ended_well() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table t as select n as id, md5(n::text) as said from generate_series(1, 9000) n");
    let in_the_data = "head -c 200000";
    // A byte is lost: what follows is no length, or one of more than there is.
    let a_byte_less = "dd bs=1 count=100000 2>/dev/null; dd bs=1 count=1 of=/dev/null 2>/dev/null; cat";
    for (through, told) in [(in_the_data, "in the middle of its archive"), (a_byte_less, "archive")] {
        let (service, app) = app(&database.url(), "").await;
        put_in_the_way(&app, through);
        let ended = app.run(&["backup", "--only", "database"]);
        assert_eq!(ended.status, Some(1), "{through}: {}", ended.err);
        assert!(ended.err.contains(told), "{through}: {}", ended.err);
        nothing_is_left(&service, &app).await;
    }
}

#[tokio::test]
async fn an_archive_of_a_version_that_is_not_known_is_stored_as_it_is() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table t as select n as id, md5(n::text) as said from generate_series(1, 9000) n");
    let (_service, app) = app(&database.url(), "").await;
    put_in_the_way(&app, "dd bs=1 count=6 2>/dev/null; dd bs=1 count=1 of=/dev/null 2>/dev/null; printf '\\021'; cat");
    let id = app.back_up(&["--only", "database"]);
    let part = manifest(&app, &id)["parts"]["database"].clone();
    assert_eq!(part["postgres"]["compression"], "none");
    let mut dump = app.vault().await[part["object"]["key"].as_str().expect("a key")].clone();
    assert_eq!(&dump[..7], b"PGDMP\x01\x11");
    // But for the version it is what 15 writes.
    dump[6] = 14;
    std::fs::write(app.path("fetched.dump"), dump).expect("room on the disk");
    let empty = Database::empty(&server, "");
    let mut restore = server.program("pg_restore");
    let restored = restore.args(["--exit-on-error", "-d", &empty.name]).arg(app.path("fetched.dump")).output();
    assert!(restored.expect("pg_restore").status.success());
    assert_eq!(rows(&server, &empty.name), rows(&server, &database.name));
}

#[tokio::test]
async fn a_session_that_is_cut_in_the_middle_of_the_records_fails_the_backup() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table long (id integer primary key, body text)");
    database.sql("insert into long select g, md5(g::text) || md5((g + 1)::text) from generate_series(1, 600000) g");
    let (service, app) = app(&database.url(), "").await;
    let mut running = app.start(&["backup"]);
    let cut = format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity
          where datname = '{}' and application_name like 'nexus%' and query like 'copy (%'",
        database.name
    );
    while server.sql("postgres", &cut) == "0" {
        assert!(running.ended_within(Duration::ZERO).is_none(), "it ended before its session was cut");
    }
    let ended = crate::app::Ended::of(running.wait(Duration::from_mins(2)));
    ended.ends_with(2).says("hint: ");
    nothing_is_left(&service, &app).await;
}

#[tokio::test]
async fn a_vault_that_fails_in_the_middle_of_a_dump_fails_the_backup() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    fill(&database);
    let (service, app) = app(&database.url(), "[s3]\nattempts = 2\n").await;
    for nth in 2..40 {
        service.inject(Fault::Status500, FaultAt::Operation { name: "UploadPart".to_owned(), nth });
    }
    app.run(&["backup", "--only", "database"]).refuses(2, "postgres_backup");
    service.clear_faults();
    nothing_is_left(&service, &app).await;
    app.back_up(&["--only", "database"]);
}

#[tokio::test]
async fn a_role_without_a_password_is_not_warned_of_a_password_file() {
    let server = Server::own(DEBIAN);
    let file = server.sql("postgres", "show hba_file");
    server.sql("postgres", &format!("copy (select 'host all all 127.0.0.1/32 trust') to '{file}'"));
    server.sql("postgres", "select pg_reload_conf()");
    server.sql("postgres", "create database open; ");
    let (_service, app) = app(&format!("postgres://{}@127.0.0.1:{}/open", server.superuser(), server.port), "").await;
    let ended = app.run(&["backup"]).ends_with(0);
    assert!(!ended.err.contains("password file"), "{}", ended.err);
}

#[tokio::test]
async fn partitions_on_another_server_are_left_out_and_named() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(
        "create extension file_fdw; create server files foreign data wrapper file_fdw;
         create table parted (id integer, name text) partition by range (id);
         create table parted_1 (name text, id integer);
         alter table parted attach partition parted_1 for values from (1) to (9);
         create foreign table parted_2 partition of parted for values from (10) to (20)
             server files options (program 'echo 15,x', format 'csv');
         insert into parted values (1, 'a'), (2, 'b')",
    );
    let (_service, app) = app(&database.url(), "").await;
    let id = app.back_up(&[]);
    let rows = records(&app, &id, "parted");
    assert_eq!(rows, [serde_json::json!({"id": 1, "name": "a"}), serde_json::json!({"id": 2, "name": "b"})]);
    let manifest = manifest(&app, &id);
    assert_eq!(manifest["parts"]["database"]["tables"]["parted"], 2);
    assert!(manifest["parts"]["records"]["skipped"]["parted_2"].is_string(), "{manifest}");
    assert!(manifest["parts"]["database"]["postgres"]["lacks"].to_string().contains("parted_2"), "{manifest}");
    let target = unique("elsewhere");
    app.restore(&[&id, "--to-database", &server.url(&target)]);
    assert_eq!(server.sql(&target, "select count(*) from parted_1"), "2");
    server.sql("postgres", &format!("drop database {target} with (force)"));
}

#[tokio::test]
async fn whoever_locks_tables_in_another_order_does_not_end_the_backup() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table a (id integer); create table z (id integer)");
    let mut command = server.psql(&database.name);
    // It is in no hurry to find the deadlock, so that the backup is the one that the server ends.
    command.args([
        "-c",
        "set deadlock_timeout = '1min'; begin; lock table z in access exclusive mode;
         do $$ begin while not exists (select from pg_locks where not granted and relation = 'z'::regclass)
               loop perform pg_sleep(0.01); end loop; end $$;
         lock table a in access exclusive mode; commit",
    ]);
    let other = Running::start(command);
    while database.sql("select count(*) from pg_locks where mode = 'AccessExclusiveLock' and relation = 'z'::regclass")
        == "0"
    {
        tokio::task::yield_now().await;
    }
    let (_service, app) = app(&database.url(), "").await;
    app.back_up(&[]);
    drop(other);
}

#[tokio::test]
async fn a_backup_that_is_killed_while_it_waits_for_a_lock_leaves_no_session_in_the_queue() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table held (id integer)");
    let mut command = server.psql(&database.name);
    command.args(["-c", "begin; lock table held in access exclusive mode; select pg_sleep(240)"]);
    let holder = Running::start(command);
    let (_service, app) = app(&database.url(), "").await;
    let waiting = "select count(*) from pg_locks where not granted and relation = 'held'::regclass";
    while database
        .sql("select count(*) from pg_locks where mode = 'AccessExclusiveLock' and relation = 'held'::regclass")
        == "0"
    {
        tokio::task::yield_now().await;
    }
    let mut running = app.start(&["backup"]);
    while database.sql(waiting) == "0" {
        assert!(running.ended_within(std::time::Duration::ZERO).is_none(), "it ended before it waited");
    }
    running.kill();
    while database.sql(waiting) != "0" {}
    assert_eq!(
        database.sql("select count(*) from pg_locks where granted and relation = 'held'::regclass"),
        "1",
        "the table was let go: this shows nothing"
    );
    holder.kill();
    server.sql(
        "postgres",
        &format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'", database.name),
    );
}

#[tokio::test]
async fn more_tables_than_a_server_has_locks_for_five_sessions_are_backed_up() {
    let server = Server::own(DEBIAN);
    server.sql("postgres", "create database wide");
    let make = "do $$ begin for n in 1..1500 loop execute format('create table t%s (id integer)', n); end loop; end $$";
    server.sql("wide", make);
    let (_service, app) = app(&server.url("wide"), "").await;
    let id = app.back_up(&[]);
    let tables = manifest(&app, &id)["parts"]["database"]["tables"].as_object().expect("tables").len();
    assert_eq!(tables, 1500);
}

#[tokio::test]
async fn a_table_that_an_extension_made_and_nobody_may_read_is_no_obstacle() {
    let server = Server::shared(DEBIAN);
    let role = unique("keeper");
    server.role(&role, "");
    let database = Database::empty(&server, &format!("owner {role}"));
    database.sql(
        "create extension hstore; create table made_by_it (id integer); alter extension hstore add table made_by_it",
    );
    let (_service, app) = app(&server.url_of(&database.name, &role, "secret"), "").await;
    let id = app.back_up(&[]);
    let skipped = &manifest(&app, &id)["parts"]["records"]["skipped"]["made_by_it"];
    assert_eq!(skipped, "it belongs to the extension hstore");
    server.sql("postgres", &format!("drop database {} with (force)", database.name));
}

#[tokio::test]
async fn what_a_server_is_held_to_and_cannot_be_is_refused() {
    let server = Server::shared(DEBIAN);
    for (more, naming) in [
        ("sslmode=verify-ca", "root certificate"),
        ("sslmode=require&sslrootcert=system", "verify-full"),
        ("channel_binding=require", "channel_binding"),
    ] {
        let (_service, app) = app(&format!("{}?{more}", server.url("postgres")), "").await;
        app.run(&["backup"]).refuses(2, naming);
    }
}
