//! Records back into tables, on both databases: exactly what they were, or nothing at all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nexus_sandbox::{NewObject, Service};
use nexus_testkit::digest;
use nexus_testkit::postgres::{Database, Server, programs, rows, unique};
use serde_json::Value;

use crate::app::{App, sandbox, sql};

const DEBIAN: u32 = 15;

/// A SQLite database with what makes loading hard.
const ODD: &str = "
    PRAGMA foreign_keys = OFF;
    CREATE TABLE patient (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, weight REAL, photo BLOB,
                          loud TEXT GENERATED ALWAYS AS (upper(name)) STORED, doctor INTEGER REFERENCES doctor(id));
    CREATE TABLE doctor (id INTEGER PRIMARY KEY, first_patient INTEGER REFERENCES patient(id));
    CREATE TABLE \"select\" (\"order\" TEXT, \"a b\" INTEGER, \"q\"\"d\" ANY, PRIMARY KEY (\"order\", \"a b\")) WITHOUT ROWID;
    CREATE TABLE keyless (a, b);
    CREATE TABLE log (what TEXT);
    CREATE TABLE gone (id INTEGER PRIMARY KEY AUTOINCREMENT);
    CREATE TRIGGER noted AFTER INSERT ON patient BEGIN INSERT INTO log VALUES ('insert'); END;
    CREATE TRIGGER noted_too AFTER DELETE ON patient BEGIN INSERT INTO log VALUES ('delete'); END;
    CREATE VIRTUAL TABLE words USING fts5(body);
    CREATE VIRTUAL TABLE names USING fts5(name, content='patient', content_rowid='id');
    INSERT INTO doctor VALUES (1, 2), (2, 1);
    INSERT INTO patient (name, weight, photo, doctor) VALUES ('Zoë \"x\"', 1e300, x'00ff', 2), (char(9, 10, 92), -0.5, NULL, 1),
                                                             ('😀', NULL, zeroblob(100000), NULL);
    INSERT INTO \"select\" VALUES ('a', 9007199254740993, 9e999), ('b', 2, CAST(x'ff' AS TEXT)), ('c', 3, NULL);
    INSERT INTO keyless VALUES (1, 'x'), (NULL, NULL), (1, 'x');
    INSERT INTO gone VALUES (7); DELETE FROM gone;
    INSERT INTO names (names) VALUES ('rebuild');
    INSERT INTO words VALUES ('a scan of a hand'), ('nothing');";

/// What a SQLite database says, without how a full-text index keeps its words: it does so otherwise every time.
fn said(database: &std::path::Path) -> BTreeMap<String, String> {
    let mut said = digest::database(database);
    said.retain(|name, _| {
        !["words_data", "words_idx", "names_data", "names_idx"].iter().any(|table| name.ends_with(table))
    });
    let connection = rusqlite::Connection::open(database).expect("a database");
    for (index, word) in [("words", "scan"), ("names", "x")] {
        let sql = format!("SELECT count(*) FROM {index} WHERE {index} MATCH '{word}'");
        let found: i64 = connection.query_row(&sql, [], |row| row.get(0)).expect("an index");
        said.insert(format!("{word} in {index}"), found.to_string());
    }
    said
}

async fn sqlite() -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::bare(endpoint).await;
    let bucket = &app.bucket;
    app.write(
        "nexus.toml",
        &format!(
            "app = \"clinic\"\n[database]\nurl = \"db.sqlite3\"\nlock-wait = \"2s\"\n[records]\nfolder = \"backups\"\n\
             [records.tables]\npatients = \"patient\"\n[vault]\nurl = \"s3://{bucket}/backup/\"\n"
        ),
    );
    app.sql(ODD);
    (service, app)
}

async fn postgres(url: &str) -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::bare(endpoint).await;
    let (bucket, programs) = (&app.bucket, programs(DEBIAN));
    app.write(
        "nexus.toml",
        &format!(
            "app = \"clinic\"\n[database]\nurl = \"{url}\"\nlock-wait = \"2s\"\nprograms = \"{}\"\n\
             [records]\nfolder = \"backups\"\n[vault]\nurl = \"s3://{bucket}/backup/\"\n",
            programs.display()
        ),
    );
    (service, app)
}

#[tokio::test]
async fn records_bring_every_row_of_a_sqlite_database_back() {
    let (_service, app) = sqlite().await;
    let before = said(&app.database);
    let id = app.back_up(&[]);
    app.sql(
        "PRAGMA foreign_keys = OFF; DELETE FROM patient WHERE id = 1; UPDATE patient SET name = 'wrecked' WHERE id = 2;
         DELETE FROM doctor; INSERT INTO \"select\" VALUES ('junk', 1, 1); INSERT INTO keyless VALUES (3, 3);
         DELETE FROM words; DELETE FROM log",
    );
    let planned = app.run(&["restore", &id, "--only", "records", "--dry-run", "--json"]).ends_with(0).json();
    assert_eq!(planned["tables"]["mode"], "replace", "{planned}");
    let told = app.restore(&[&id, "--only", "records"]);
    assert_eq!(said(&app.database), before, "{told}");
    assert!(told["safety_point"].as_str().is_some_and(|id| id.starts_with("before-restore")), "{told}");
    // Into an empty schema elsewhere, by its name, as a staging database is filled.
    let staging = app.path("staging.sqlite3");
    let empty: String =
        ODD.split_inclusive(';').filter(|line| !line.contains("INSERT INTO") || line.contains("TRIGGER")).collect();
    let empty = empty.replace("DELETE FROM gone;", "");
    sql(&staging, &empty);
    app.restore(&[&id, "--only", "records", "--to-database", "staging.sqlite3"]);
    assert_eq!(said(&staging), before);
    app.assert_no_litter();
}

#[tokio::test]
async fn missing_records_are_added_and_other_values_are_named() {
    let (_service, app) = sqlite().await;
    let id = app.back_up(&[]);
    app.sql(
        "PRAGMA foreign_keys = OFF; DELETE FROM patient WHERE id = 1; UPDATE patient SET weight = 7 WHERE id = 2;
             INSERT INTO patient (id, name) VALUES (50, 'newer')",
    );
    let wrecked = said(&app.database);
    let add = |more: &[&str]| {
        let words: Vec<&str> =
            ["restore", id.as_str(), "--table", "patients", "--mode", "add-missing", "--yes", "--json"]
                .iter()
                .chain(more)
                .copied()
                .collect();
        app.run(&words)
    };
    let refused = add(&[]).ends_with(1).json();
    assert_eq!(refused["loaded"]["committed"], false, "{refused}");
    assert_eq!(refused["loaded"]["tables"][0]["examples"][0], "id=2", "{refused}");
    assert_eq!(said(&app.database), wrecked);
    let row = |id: &str| {
        let connection = rusqlite::Connection::open(&app.database).expect("a database");
        let sql = format!("SELECT coalesce(weight, -1), (SELECT count(*) FROM patient) FROM patient WHERE id = {id}");
        connection.query_row(&sql, [], |row| Ok((row.get::<_, f64>(0)?, row.get::<_, i64>(1)?))).expect("a row")
    };
    let told = add(&["--keep-present"]).ends_with(0).json();
    assert_eq!(
        (told["loaded"]["tables"][0]["added"].as_u64(), told["loaded"]["conflicts"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(told["loaded"]["kept"], 1, "{told}");
    assert_eq!(row("2"), (7.0, 4));
    add(&["--overwrite"]).ends_with(0);
    assert_eq!(row("2"), (-0.5, 4));
    let again = add(&[]).ends_with(0).json();
    assert_eq!(again["loaded"]["tables"][0]["added"], 0, "{again}");
    // Another row has the name that a record needs.
    app.sql("DELETE FROM patient WHERE id = 3; INSERT INTO patient (id, name) VALUES (60, '😀')");
    add(&[]).refuses(2, "id=3");
    app.run(&["restore", &id, "--table", "patients", "--overwrite", "--yes"]).refuses(2, "add-missing");
    app.run(&["restore", &id, "--table", "nobody", "--yes"]).refuses(2, "nobody");
    app.run(&["restore", &id, "--only", "database,records", "--yes"]).refuses(2, "--to-records");
}

#[tokio::test]
async fn records_that_are_damaged_or_of_another_schema_change_nothing() {
    let (service, app) = sqlite().await;
    let id = app.back_up(&[]);
    app.sql("PRAGMA foreign_keys = OFF; DELETE FROM patient WHERE id = 1");
    let key = format!("backup/{id}/records/patients.json");
    let whole = service.store().get(&app.bucket, &key).expect("it is there").body.to_vec();
    let wrecked = said(&app.database);
    let edited = String::from_utf8(whole.clone()).expect("text").replace("Zoë", "Zoe").into_bytes();
    for harmed in [edited, whole[..whole.len() / 2].to_vec(), b"[\n]\n".to_vec()] {
        service.store().put(&app.bucket, &key, NewObject::new(harmed)).expect("the bucket is there");
        app.run(&["restore", &id, "--table", "patients", "--yes"]).ends_with(1).says("patients.json");
        assert_eq!(said(&app.database), wrecked);
    }
    service.store().put(&app.bucket, &key, NewObject::new(whole)).expect("the bucket is there");
    // The row that a doctor points at is there only with all patients.
    app.sql("ALTER TABLE patient ADD COLUMN phone TEXT");
    app.run(&["restore", &id, "--table", "patients", "--yes"]).refuses(2, "phone");
    app.sql("ALTER TABLE patient DROP COLUMN phone; DROP TABLE keyless");
    app.run(&["restore", &id, "--only", "records", "--yes"]).refuses(2, "keyless");
    app.sql("CREATE TABLE keyless (a, b)");
    app.restore(&[&id, "--table", "patients", "--table", "keyless"]);
}

#[tokio::test]
async fn a_table_that_would_leave_rows_pointing_at_nothing_is_not_loaded() {
    let (_service, app) = sqlite().await;
    let id = app.back_up(&[]);
    app.sql("PRAGMA foreign_keys = OFF; DELETE FROM doctor; DELETE FROM patient WHERE doctor IS NOT NULL");
    let wrecked = said(&app.database);
    app.run(&["restore", &id, "--table", "patients", "--yes"]).refuses(2, "`patient` would point at rows");
    assert_eq!(said(&app.database), wrecked);
    app.restore(&[&id, "--table", "patients", "--table", "doctor"]);
}

#[tokio::test]
async fn rows_without_a_key_are_told_apart_by_what_they_say() {
    let (_service, app) = sqlite().await;
    app.sql(
        "CREATE TABLE bag (a, b); INSERT INTO bag VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');
         CREATE TABLE nullable (k TEXT PRIMARY KEY, v); INSERT INTO nullable VALUES (NULL, 1), (NULL, 1), ('x', 2)",
    );
    let id = app.back_up(&[]);
    // Every row gets another id, and one of two that are alike goes.
    app.sql("DELETE FROM bag WHERE a = 1; VACUUM; DELETE FROM nullable WHERE rowid = 1");
    let rows = |sql: &str| {
        let connection = rusqlite::Connection::open(&app.database).expect("a database");
        connection.query_row(sql, [], |row| row.get::<_, String>(0)).expect("a row")
    };
    let told = app.restore(&[&id, "--table", "bag", "--table", "nullable", "--mode", "add-missing", "--overwrite"]);
    assert_eq!(told["loaded"]["conflicts"], 0, "{told}");
    assert_eq!(rows("SELECT group_concat(b, '') FROM (SELECT b FROM bag ORDER BY a)"), "abcd");
    assert_eq!(rows("SELECT count(*) || '' FROM nullable"), "3");
}

#[tokio::test]
async fn an_index_that_triggers_keep_finds_the_restored_rows() {
    let (_service, app) = sqlite().await;
    app.sql(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT); INSERT INTO note VALUES (1, 'anna'), (2, 'carl');
         CREATE VIRTUAL TABLE found USING fts4(content=\"note\", body); INSERT INTO found (found) VALUES ('rebuild');
         CREATE TRIGGER kept AFTER UPDATE ON note BEGIN
             INSERT INTO found (found) VALUES ('rebuild'); END",
    );
    let id = app.back_up(&[]);
    app.sql("UPDATE note SET body = 'zorro'");
    app.restore(&[&id, "--table", "note"]);
    let connection = rusqlite::Connection::open(&app.database).expect("a database");
    let found = |word: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM found WHERE found MATCH '{word}'");
        connection.query_row(&sql, [], |row| row.get(0)).expect("a row")
    };
    assert_eq!((found("anna"), found("carl"), found("zorro")), (1, 1, 0));
}

#[tokio::test]
async fn rows_that_pointed_at_nothing_then_do_so_again() {
    let (_service, app) = sqlite().await;
    app.sql("PRAGMA foreign_keys = OFF; UPDATE patient SET doctor = 99 WHERE id = 3");
    let before = said(&app.database);
    let id = app.back_up(&[]);
    app.sql("PRAGMA foreign_keys = OFF; DELETE FROM patient");
    app.restore(&[&id, "--only", "records"]);
    assert_eq!(said(&app.database), before);
}

/// True once a safety point is committed.
fn is_safe(service: &Service, app: &App) -> bool {
    let keys = service.store().keys(&app.bucket, "backup/");
    keys.iter().any(|key| key.contains("before-restore_") && key.ends_with("manifest.json"))
}

#[tokio::test]
async fn rows_written_after_the_safety_point_stop_a_load() {
    let (service, app) = sqlite().await;
    app.sql("PRAGMA journal_mode = WAL");
    let id = app.back_up(&[]);
    let writer = rusqlite::Connection::open(&app.database).expect("a database");
    writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO patient (id, name) VALUES (70, 'the newest')").expect("a row");
    let running = app.start(&["restore", &id, "--table", "patients", "--yes"]);
    while !is_safe(&service, &app) {
        tokio::task::yield_now().await;
    }
    writer.execute_batch("COMMIT").expect("it commits");
    crate::app::Ended::of(running.wait(Duration::from_mins(1))).refuses(2, "written to after the safety point");
    let newest: i64 =
        writer.query_row("SELECT count(*) FROM patient WHERE id = 70", [], |row| row.get(0)).expect("a row");
    assert_eq!(newest, 1);
    // The next one takes a safety point of its own, which has that row.
    let told = app.restore(&[&id, "--table", "patients"]);
    app.restore(&[told["safety_point"].as_str().expect("a safety point"), "--table", "patient"]);
    let newest: i64 =
        writer.query_row("SELECT count(*) FROM patient WHERE id = 70", [], |row| row.get(0)).expect("a row");
    assert_eq!(newest, 1);
}

#[tokio::test]
async fn rows_written_on_a_server_after_the_safety_point_stop_a_load() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table t (id integer primary key, body text); insert into t values (1, 'a'), (2, 'b')");
    let (service, app) = postgres(&database.url()).await;
    let id = app.back_up(&[]);
    let mut command = server.psql(&database.name);
    command.args(["-c", "begin; update t set body = 'the newest' where id = 1; select pg_sleep(1); commit"]);
    let writer = nexus_testkit::kill::Running::start(command);
    while database
        .sql("select count(*) from pg_stat_activity where query like 'begin; update%' and wait_event = 'PgSleep'")
        == "0"
    {}
    let running = app.start(&["restore", &id, "--table", "t", "--yes"]);
    while !is_safe(&service, &app) {
        tokio::task::yield_now().await;
    }
    crate::app::Ended::of(running.wait(Duration::from_mins(1))).refuses(2, "written to after the safety point");
    drop(writer);
    assert_eq!(database.sql("select body from t where id = 1"), "the newest");
    app.restore(&[&id, "--table", "t"]);
    assert_eq!(database.sql("select body from t where id = 1"), "a");
}

#[tokio::test]
async fn a_change_that_a_type_calls_equal_is_one_all_the_same() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(
        "create table odd (id numeric primary key, padded bpchar, plain json, gone text);
         insert into odd values (1.0, 'a  ', '{\"a\":1}', ''), (2, 'b', null, null);
         create table many (id integer primary key, body text);
         insert into many select g, md5(g::text) from generate_series(1, 30000) g",
    );
    let (_service, app) = postgres(&database.url()).await;
    let id = app.back_up(&[]);
    database.sql("update odd set id = 1.00, padded = 'a', gone = null where id = 1; delete from many where id = 7");
    // Under locks it must be quick: a comparison of each with each would take minutes.
    app.restore(&[&id, "--only", "records", "--mode", "add-missing", "--overwrite"]);
    assert_eq!(database.sql("select id, octet_length(padded), quote_nullable(gone) from odd where id = 1"), "1.0|3|''");
    assert_eq!(database.sql("select count(*) from many"), "30000");
}

#[tokio::test]
async fn tables_whose_functions_name_no_schema_are_backed_up_and_loaded() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    let name = &database.name;
    database.sql(&format!("create schema app; alter database {name} set search_path = app"));
    database.sql(
        "create function app.inner_one(text) returns text language sql immutable as 'select lower($1)';
         create function app.plain(text) returns text language sql immutable as 'select inner_one($1)';
         create table app.t (id integer primary key, body text check (plain(body) <> 'x'));
         create index on app.t (plain(body)); insert into app.t values (1, 'A'), (2, 'B')",
    );
    let (_service, app) = postgres(&database.url()).await;
    let id = app.back_up(&[]);
    app.back_up(&["--only", "database"]);
    database.sql("delete from app.t where id = 1");
    app.restore(&[&id, "--only", "records"]);
    assert_eq!(database.sql("select count(*) from app.t"), "2");
}

/// The schema of a database in a new one.
fn schema_of(database: &Database<'_>) -> String {
    let server = database.server;
    let name = unique("staged");
    let dump = server.program("pg_dump").args(["--schema-only", "-d", &database.name]).output().expect("pg_dump");
    server.sql("postgres", &format!("create database {name}"));
    let folder = tempfile::tempdir().expect("a folder");
    let file: PathBuf = folder.path().join("schema.sql");
    std::fs::write(&file, dump.stdout).expect("room on the disk");
    let made = server.psql(&name).arg("-f").arg(&file).output().expect("psql");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    name
}

/// Rows of tables alone, without what only a refresh fills.
fn of_tables(server: &Server, name: &str) -> BTreeMap<String, String> {
    let mut digest = rows(server, name);
    digest.retain(|table, _| !table.contains("counts"));
    digest
}

fn sequences(server: &Server, name: &str) -> String {
    server.sql(
        name,
        "select string_agg(format('%s %s', sequencename, last_value), ', ' order by sequencename) from pg_sequences
          where sequencename not in ('loose', 'fresh')",
    )
}

#[tokio::test]
async fn records_bring_every_row_of_a_postgresql_database_back_into_an_empty_schema() {
    let server = Server::shared(DEBIAN);
    let (database, _, _) = Database::with_everything(&server);
    let (_service, app) = postgres(&database.url()).await;
    let id = app.back_up(&[]);
    let staged = schema_of(&database);
    let before = server.sql(&staged, "select count(*) from pg_constraint");
    let told = app.restore(&[&id, "--only", "records", "--to-database", &server.url(&staged)]);
    assert_eq!(of_tables(&server, &staged), of_tables(&server, &database.name), "{told}");
    assert_eq!(sequences(&server, &staged), sequences(&server, &database.name));
    assert_eq!(server.sql(&staged, "select count(*) from pg_constraint"), before);
    assert_eq!(
        server.sql(&staged, "select what from billing.log order by id"),
        database.sql("select what from billing.log order by id")
    );
    server.sql("postgres", &format!("drop database {staged} with (force)"));
}

#[tokio::test]
async fn records_replace_what_is_there_and_everything_else_stays_as_it_was() {
    let server = Server::shared(DEBIAN);
    let (database, _, _) = Database::with_everything(&server);
    let (_service, app) = postgres(&database.url()).await;
    let id = app.back_up(&[]);
    let before = database.digest();
    database.sql(
        "set session_replication_role = replica; delete from hen where id = 1; delete from tree; update numbers set small = 1 where id = 1; delete from events;
         insert into keyless values (9, 'junk'); insert into dog values (3, 'bello', 'mutt'); update billing.account set balance = 0",
    );
    let told = app.restore(&[&id, "--only", "records"]);
    let mut after = database.digest();
    // Materialized views are said to need a refresh; a sequence never goes back.
    assert!(told["loaded"]["run_as_well"].to_string().contains("counts"), "{told}");
    after.insert("rows of public.counts".to_owned(), before["rows of public.counts"].clone());
    after.insert("sequences".to_owned(), before["sequences"].clone());
    assert_eq!(after, before);
}

#[tokio::test]
async fn missing_records_of_a_server_are_added_and_other_values_are_named() {
    let server = Server::shared(DEBIAN);
    let (database, _, _) = Database::with_everything(&server);
    let (_service, app) = postgres(&database.url()).await;
    let id = app.back_up(&[]);
    let before = of_tables(&server, &database.name);
    database.sql(
        "delete from numbers where id in (1, 3); update documents set better = '{}' where id = 1; delete from keyless where a = 2;
         delete from events where id = 5; delete from made where id = 100",
    );
    let wrecked = database.digest();
    let add = |more: &[&str]| {
        let words: Vec<&str> =
            ["restore", id.as_str(), "--mode", "add-missing", "--yes", "--json"].iter().chain(more).copied().collect();
        app.run(&words)
    };
    let refused = add(&[]).ends_with(1).json();
    assert_eq!(refused["loaded"]["committed"], false);
    assert!(refused["loaded"]["tables"].to_string().contains("id=1"), "{refused}");
    assert_eq!(database.digest(), wrecked);
    let told = add(&["--keep-present"]).ends_with(0).json();
    assert_eq!(told["loaded"]["conflicts"], 1, "{told}");
    assert_eq!(database.sql("select better from documents where id = 1"), "{}");
    add(&["--overwrite"]).ends_with(0);
    assert_eq!(of_tables(&server, &database.name), before);
    let again = add(&[]).ends_with(0).json();
    let added: u64 =
        again["loaded"]["tables"].as_array().expect("tables").iter().filter_map(|table| table["added"].as_u64()).sum();
    assert_eq!(added, 0, "{again}");
}

#[tokio::test]
async fn a_load_into_a_server_that_fails_or_is_killed_changes_nothing() {
    let server = Server::shared(DEBIAN);
    let role = unique("owner");
    server.role(&role, "");
    let database = Database::empty(&server, &format!("owner {role}"));
    database.sql(&format!(
        "set role {role}; create table patient (id integer primary key, name text);
         create table visit (id integer primary key, patient integer not null references patient on delete cascade, note text);
         insert into patient select g, 'p' || g from generate_series(1, 2000) g;
         insert into visit select g, g, repeat('x', 2000) from generate_series(1, 2000) g"
    ));
    let (_service, app) = postgres(&server.url_of(&database.name, &role, "secret")).await;
    let id = app.back_up(&[]);
    database.sql("delete from patient where id <= 1000");
    let wrecked = database.digest();
    // Children alone would point at nothing.
    app.run(&["restore", &id, "--table", "visit", "--yes"]).refuses(2, "visit_patient_fkey");
    assert_eq!(database.digest(), wrecked);
    // Parents alone leave the children of others as they are: nothing cascades.
    app.restore(&[&id, "--table", "patient"]);
    assert_eq!(database.sql("select count(*) from visit"), "1000");
    database.sql("create table foreign_child (patient integer references patient)");
    app.run(&["restore", &id, "--only", "records", "--yes"]).refuses(2, "foreign_child");
    database.sql("drop table foreign_child; alter table visit add column more text");
    app.run(&["restore", &id, "--only", "records", "--yes"]).refuses(2, "more text");
    database.sql("alter table visit drop column more");
    let wrecked = database.digest();
    let mut running = app.start(&["restore", &id, "--only", "records", "--yes", "--no-safety-point"]);
    let loading =
        "select count(*) from pg_stat_activity where application_name like 'nexus%' and query ilike 'copy%from stdin'";
    while database.sql(loading) == "0" && running.ended_within(Duration::ZERO).is_none() {}
    running.kill();
    while database.sql("select count(*) from pg_stat_activity where application_name like 'nexus%'") != "0" {}
    let now = database.digest();
    assert!(now == wrecked || database.sql("select count(*) from visit") == "2000", "half of it is there");
    let told = app.restore(&[&id, "--only", "records"]);
    assert_eq!(told["loaded"]["committed"], Value::Bool(true));
    assert_eq!(database.sql("select count(*) from visit"), "2000");
    server.sql("postgres", &format!("drop database {} with (force)", database.name));
}
