//! One record put back, with what belongs to it: exactly that, on both databases, or nothing at all.

use nexus_sandbox::Service;
use nexus_testkit::digest;
use nexus_testkit::postgres::{Database, Server, rows};
use serde_json::{Value, json};

use crate::app::{App, sandbox};
use crate::postgres::DEBIAN;

/// Patients with documents of pages, which name files; tags by a table between; a doctor above, somebody's referral to himself.
const CLINIC: &str = "
    CREATE TABLE doctor (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE patient (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, email TEXT UNIQUE, doctor INTEGER NOT NULL REFERENCES doctor,
                          referred INTEGER REFERENCES patient(id), loud TEXT GENERATED ALWAYS AS (upper(name)) STORED);
    CREATE TABLE document (id TEXT PRIMARY KEY, patient_id INTEGER NOT NULL REFERENCES patient(id) ON DELETE CASCADE, file TEXT);
    CREATE TABLE page (document TEXT REFERENCES document(id) ON DELETE CASCADE, no INTEGER, body BLOB, PRIMARY KEY (document, no)) WITHOUT ROWID;
    CREATE TABLE tag (id INTEGER PRIMARY KEY, word TEXT);
    CREATE TABLE patient_tags (id INTEGER PRIMARY KEY, patient_id INTEGER REFERENCES patient(id) ON DELETE CASCADE, tag_id INTEGER REFERENCES tag(id));
    CREATE TABLE remark (patient INTEGER REFERENCES patient(id) ON DELETE CASCADE, body);
    CREATE TABLE log (what TEXT);
    CREATE TRIGGER noted AFTER INSERT ON patient BEGIN INSERT INTO log VALUES ('insert'); END;
    INSERT INTO doctor VALUES (1, 'Ann'), (2, 'Ben');
    INSERT INTO patient (id, name, email, doctor, referred) VALUES (41, 'Zoë', 'z@x', 2, NULL), (42, 'John \"x\"', 'j@x', 1, 42), (43, 'Eve', 'e@x', 1, 42);
    INSERT INTO document VALUES ('a/1', 42, 'documents/a 1.pdf'), ('b', 42, 'documents/b.pdf'), ('c', 41, 'documents/c.pdf'), ('d', 43, 'images/d.jpg');
    INSERT INTO page VALUES ('a/1', 1, x'00ff'), ('a/1', 2, 'text'), ('c', 1, NULL), ('d', 1, 'of Eve');
    INSERT INTO tag VALUES (1, 'red'), (2, 'blue');
    INSERT INTO patient_tags VALUES (1, 42, 1), (2, 42, 2), (3, 41, 1);
    INSERT INTO remark VALUES (42, 'one'), (41, 'two');
    DELETE FROM log;";

const FILES: [&str; 5] = ["documents/a 1.pdf", "documents/b.pdf", "documents/c.pdf", "images/d.jpg", "other"];

async fn clinic() -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::bare(endpoint).await;
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    app.write("nexus.toml", &text.replace("\"clinic_patient\"", "\"patient\""));
    app.sql(CLINIC);
    for key in FILES {
        app.put(key, format!("content of {key}").as_bytes()).await;
    }
    (service, app)
}

fn restore(app: &App, id: &str, more: &[&str]) -> crate::app::Ended {
    let words: Vec<&str> = ["restore", id, "--yes", "--json"].iter().chain(more).copied().collect();
    app.run(&words)
}

/// The names of the rows that a plan would add.
fn added(plan: &Value) -> Vec<&str> {
    let rows = plan["rows"]["rows"].as_array().expect("rows").iter().filter(|row| row["fate"] == "added");
    let mut names: Vec<&str> = rows.map(|row| row["record"].as_str().expect("a name")).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_deleted_record_comes_back_with_its_children_and_files_and_all_else_is_untouched() {
    let (_service, app) = clinic().await;
    let before = app.state().await;
    let id = app.back_up(&[]);
    // What happens elsewhere meanwhile stays.
    app.sql(
        "PRAGMA foreign_keys = ON; UPDATE patient SET referred = NULL WHERE id IN (42, 43);
         DELETE FROM patient WHERE id = 42; UPDATE patient SET referred = 41 WHERE id = 43",
    );
    let without = app.state().await;
    app.delete("documents/b.pdf").await;
    let (counts, files) = (digest::database(&app.database), app.files().await);
    let words = ["--record", "patients/42", "--with-children", "--with-files"];
    let plan = app.run(&[&["restore", &id, "--dry-run", "--json"], words.as_slice()].concat()).ends_with(1).json();
    // Eve points at him in the point, and is there with other values.
    let obstacle = plan["rows"]["obstacles"][0]["what"].as_str().expect("an obstacle");
    assert_eq!(obstacle, "patients/43 is there with another `referred`", "{plan}");
    restore(&app, &id, &words).refuses(2, "patients/43 is there with another `referred`");
    assert_eq!((digest::database(&app.database), app.files().await), (counts, files));
    // As she was she is no obstacle.
    app.sql("PRAGMA foreign_keys = OFF; UPDATE patient SET referred = 42 WHERE id = 43; DELETE FROM log");
    let plan = app.run(&[&["restore", &id, "--dry-run", "--json"], words.as_slice()].concat()).ends_with(0).json();
    let expected = [
        "document/a/1",
        "document/b",
        "page/document=a/1,no=1",
        "page/document=a/1,no=2",
        "patient_tags/1",
        "patient_tags/2",
        "patients/42",
        "remark/1",
    ];
    assert_eq!(added(&plan), expected, "{plan}");
    assert_eq!(plan["rows"]["files"], json!(["documents/a 1.pdf", "documents/b.pdf", "images/d.jpg"]));
    assert_eq!(plan["safety_point_of"], json!([]), "{plan}");
    let told = restore(&app, &id, &words).ends_with(0).json();
    assert_eq!((&told["equal"], &told["files"]["copied"]["files"]), (&json!(true), &json!(1)), "{told}");
    assert_eq!(app.state().await, before);
    assert_ne!(without, before);
    let again = restore(&app, &id, &words).ends_with(0);
    assert!(again.err.contains("nothing is to be done"), "{}", again.err);
    app.assert_no_litter();
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_record_is_named_and_nothing_is_written() {
    let (_service, app) = clinic().await;
    let id = app.back_up(&[]);
    let delete = "PRAGMA foreign_keys = ON; UPDATE patient SET referred = NULL; DELETE FROM patient WHERE id = 42";
    app.sql(delete);
    let state = async || (digest::database(&app.database), app.files().await);
    // A parent that is not there, and is named so that it can be pasted.
    app.sql("PRAGMA foreign_keys = OFF; DELETE FROM doctor WHERE id = 1");
    let before = state().await;
    restore(&app, &id, &["--record", "patients/42"])
        .refuses(2, "patients/42 points at doctor/1")
        .says("--record 'doctor/1'");
    restore(&app, &id, &["--record", "document/a/1"]).refuses(2, "document/a/1 points at patient/42");
    assert_eq!(state().await, before);
    // Another row has its address: the database says so, and no file was written before.
    app.sql("INSERT INTO doctor VALUES (1, 'Ann'); UPDATE patient SET email = 'j@x' WHERE id = 41");
    app.delete("documents/b.pdf").await;
    let before = state().await;
    let both = ["--record", "patients/42", "--record", "document/b", "--with-files"];
    restore(&app, &id, &both).refuses(2, "UNIQUE constraint failed");
    // A look says so beforehand, and leaves nothing behind.
    let plan = restore(&app, &id, &[&both[..], &["--dry-run"]].concat()).ends_with(1).json();
    assert!(plan["rows"]["obstacles"][0]["what"].as_str().is_some_and(|what| what.contains("UNIQUE")), "{plan}");
    assert_eq!(state().await, before);
    // A file with other content.
    app.sql("UPDATE patient SET email = 'z@x' WHERE id = 41");
    app.put("documents/b.pdf", b"newer").await;
    let before = state().await;
    let words = ["--record", "patients/42", "--record", "document/b", "--with-files"];
    restore(&app, &id, &words).refuses(2, "documents/b.pdf is there with other content");
    assert_eq!(state().await, before);
    let told = restore(&app, &id, &[&words[..], &["--overwrite"]].concat()).ends_with(0).json();
    assert!(told["safety_point"].as_str().is_some_and(|id| id.starts_with("before-restore")), "{told}");
    let undo = told["undo_command"].as_str().expect("a command");
    assert!(undo.contains("--only files --key documents/b.pdf") && !undo.contains("--record"), "{undo}");
    assert_eq!(
        nexus_testkit::bucket::object(&app.client, &app.bucket, "documents/b.pdf").await,
        b"content of documents/b.pdf"
    );
    for (words, naming) in [
        (["--record", "patients/77"], "it has patients/4"),
        (["--record", "patient"], "TABLE/KEY"),
        (["--record", "patints/42"], "patients"),
        (["--record", "page/b"], "document, no"),
        (["--record", "page/document=b"], "no=…"),
        (["--with-children", "--dry-run"], "--record"),
    ] {
        let refused = restore(&app, &id, &words).ends_with(2);
        assert!(refused.err.contains(naming), "{words:?}: {naming:?} is not in:\n{}", refused.err);
    }
    restore(&app, &id, &["--record", "patients/42", "--only", "records"]).refuses(2, "--only has no meaning");
}

#[tokio::test]
async fn a_row_with_other_values_is_replaced_when_that_is_asked_for_and_newer_columns_stay() {
    let (_service, app) = clinic().await;
    let id = app.back_up(&[]);
    app.sql("UPDATE patient SET name = 'wrecked', email = NULL WHERE id = 42; ALTER TABLE patient ADD COLUMN phone TEXT; UPDATE patient SET phone = '7'");
    let words = ["--record", "patients/42"];
    restore(&app, &id, &words).refuses(2, "patients/42 is there with another `name`, `email`");
    let told = restore(&app, &id, &[&words[..], &["--overwrite"]].concat()).ends_with(0).json();
    let connection = rusqlite::Connection::open(&app.database).expect("a database");
    let row = |sql: &str| -> String { connection.query_row(sql, [], |row| row.get(0)).expect("a row") };
    assert_eq!(row("SELECT name || email || phone || loud FROM patient WHERE id = 42"), "John \"x\"j@x7JOHN \"X\"");
    // The way back is of that row alone.
    let undo = told["undo_command"].as_str().expect("a command");
    assert!(undo.contains("--record patient/42 --overwrite") && !undo.contains("--delete-extra"), "{undo}");
    // What was there is in the safety point, byte for byte.
    let safety = told["safety_point"].as_str().expect("a safety point").to_owned();
    let held = app.run(&["restore", &safety, "--record", "patient/42", "--to-json", "-"]).ends_with(0).json();
    assert_eq!(held["records"][0]["values"]["name"], "wrecked", "{held}");
    assert_eq!(row("SELECT count(*) || '' FROM log"), "0");
    restore(&app, &safety, &["--record", "patient/42", "--overwrite"]).ends_with(0);
    assert_eq!(row("SELECT name || phone FROM patient WHERE id = 42"), "wrecked7");
}

#[tokio::test]
async fn rows_that_no_key_tells_apart_are_never_replaced() {
    let (_service, app) = clinic().await;
    app.sql(
        "CREATE TABLE note (code TEXT PRIMARY KEY, patient INTEGER REFERENCES patient(id), body TEXT);
         INSERT INTO note VALUES (NULL, 42, 'his'), (NULL, 41, 'hers'), ('x', 42, 'named');
         INSERT INTO log VALUES ('as it was')",
    );
    let id = app.back_up(&[]);
    app.sql(
        "UPDATE note SET body = 'newer' WHERE patient = 42; UPDATE log SET what = 'edited';
         CREATE TABLE later (id INTEGER PRIMARY KEY, patient INTEGER REFERENCES patient(id))",
    );
    let words = ["--record", "patients/42", "--with-children", "--overwrite"];
    let plan = restore(&app, &id, &[&words[..], &["--dry-run"]].concat()).ends_with(0).json();
    // What came after the point is said.
    let note = plan["rows"]["notes"][0].as_str().expect("a note");
    assert!(note.starts_with("later (patient) points at patient now"), "{plan}");
    restore(&app, &id, &words).ends_with(0);
    let row = |sql: &str| -> String {
        let connection = rusqlite::Connection::open(&app.database).expect("a database");
        connection.query_row(sql, [], |row| row.get(0)).expect("a row")
    };
    let notes = "SELECT group_concat(body) FROM (SELECT patient || body AS body FROM note ORDER BY patient, body)";
    assert_eq!(row(notes), "41hers,42his,42named,42newer");
    restore(&app, &id, &["--record", "log/1"])
        .refuses(2, "log/1 is there with other values")
        .says("--mode add-missing");
    assert_eq!(row("SELECT group_concat(what) FROM log"), "edited");
    app.sql("DELETE FROM log");
    restore(&app, &id, &["--record", "log/1"]).ends_with(0);
    assert_eq!(row("SELECT group_concat(what) FROM log"), "as it was");
}

#[tokio::test]
async fn keys_that_are_pasted_compared_or_computed_otherwise_are_named() {
    let (_service, app) = clinic().await;
    app.sql(
        "CREATE TABLE clan (name TEXT PRIMARY KEY); CREATE TABLE member (id INTEGER PRIMARY KEY, clan TEXT REFERENCES clan(name));
         INSERT INTO clan VALUES ('O''Brien'); INSERT INTO member VALUES (1, 'O''Brien');
         CREATE TABLE login (name TEXT COLLATE NOCASE PRIMARY KEY); CREATE TABLE entry (id INTEGER PRIMARY KEY, login TEXT REFERENCES login(name));
         INSERT INTO login VALUES ('ann'); INSERT INTO entry VALUES (1, 'Ann');
         CREATE TABLE letter (id INTEGER PRIMARY KEY, email TEXT REFERENCES Patient(email)); INSERT INTO letter VALUES (1, 'z@x');
         CREATE VIRTUAL TABLE found USING fts5(name, content='patient', content_rowid='id'); INSERT INTO found(found) VALUES ('rebuild')",
    );
    let id = app.back_up(&[]);
    app.sql("PRAGMA foreign_keys = OFF; DELETE FROM clan; DELETE FROM member; DELETE FROM entry; DELETE FROM login");
    restore(&app, &id, &["--record", "member/1"])
        .refuses(2, "member/1 points at clan/O'Brien")
        .says(r"--record 'clan/O'\''Brien'");
    let words = ["--record", "login/ann", "--with-children"];
    restore(&app, &id, &words).refuses(2, "entry (login) points at login (name), where values count as equal");
    restore(&app, &id, &words[..2]).ends_with(0);
    // One row that points at nothing any more does not make up for another that did before.
    app.sql("PRAGMA foreign_keys = OFF; UPDATE patient SET email = 'new@x' WHERE id = 41; INSERT INTO letter VALUES (2, 'new@x')");
    let before = digest::database(&app.database);
    let words = ["--record", "patients/41", "--overwrite"];
    restore(&app, &id, &words).refuses(2, "1 rows of `letter` would point at rows of `Patient`");
    assert_eq!(digest::database(&app.database), before);
    app.sql("PRAGMA foreign_keys = OFF; DELETE FROM patient WHERE id = 43");
    restore(&app, &id, &["--record", "found/43"]).refuses(2, "found is an index of patient");
}

#[tokio::test]
async fn tables_that_changed_take_a_record_as_far_as_nothing_of_it_is_lost() {
    let (_service, app) = clinic().await;
    let id = app.back_up(&[]);
    app.sql(
        "PRAGMA foreign_keys = OFF; DELETE FROM tag WHERE id = 2;
         ALTER TABLE tag ADD COLUMN colour TEXT NOT NULL DEFAULT 'x'",
    );
    restore(&app, &id, &["--record", "tag/2"]).ends_with(0);
    app.sql("PRAGMA foreign_keys = OFF; DELETE FROM tag WHERE id = 2; ALTER TABLE tag DROP COLUMN word");
    restore(&app, &id, &["--record", "tag/2"]).refuses(2, "no column `word` any more").says("--to-json");
    app.sql(
        "PRAGMA foreign_keys = OFF; DROP TABLE tag;
         CREATE TABLE tag (id INTEGER PRIMARY KEY, word TEXT, needed TEXT NOT NULL)",
    );
    restore(&app, &id, &["--record", "tag/2"]).refuses(2, "a new column `needed` that must have a value");
    app.sql("PRAGMA foreign_keys = OFF; DROP TABLE tag");
    restore(&app, &id, &["--record", "tag/2"]).refuses(2, "there is no table tag any more");
}

#[tokio::test]
async fn records_as_json_touch_nothing() {
    let (_service, app) = clinic().await;
    let id = app.back_up(&[]);
    app.sql("PRAGMA foreign_keys = ON; UPDATE patient SET referred = NULL; DELETE FROM patient WHERE id = 42");
    let before = app.state().await;
    let words = ["restore", &id, "--record", "patients/42", "--with-children", "--with-files", "--to-json"];
    let out = app.run(&[&words[..], &["-"]].concat()).ends_with(0).json();
    assert_eq!(out["records"].as_array().expect("records").len(), 11, "{out}");
    assert_eq!(out["files"], json!(["documents/a 1.pdf", "documents/b.pdf", "images/d.jpg"]));
    app.run(&[&words[..], &["one.json"]].concat()).ends_with(0);
    let written: Value = serde_json::from_slice(&std::fs::read(app.path("one.json")).expect("a file")).expect("JSON");
    assert_eq!(written, out);
    app.run(&[&words[..], &["one.json"]].concat()).refuses(2, "is there already");
    assert_eq!(app.state().await, before);
    app.assert_no_litter();
}

const ON_A_SERVER: &str = "
    create schema ward;
    create table doctor (id int primary key);
    create table ward.patient (id bigint generated always as identity primary key, name text not null, email text unique,
        doctor int not null references doctor, born timestamptz, loud text generated always as (upper(name)) stored, notes jsonb, photo bytea);
    create table document (id uuid primary key, patient bigint not null references ward.patient on delete cascade, file text);
    create table page (document uuid references document on delete cascade, no int, next int, primary key (document, no),
        foreign key (document, next) references page (document, no) deferrable initially deferred);
    create table log (what text);
    create function noted() returns trigger language plpgsql as $$ begin insert into log values (tg_op); return new; end $$;
    create trigger noted after insert or update on ward.patient for each row execute function noted();
    insert into doctor values (1), (2);
    insert into ward.patient (name, email, doctor, born, notes, photo) values ('Zoë', 'z', 2, null, null, null),
        (E'John\\t\\\\\\n\"x\"', 'j', 1, '1970-01-01 12:00+02', '{\"a\": [1, null]}', '\\x00ff');
    insert into document values ('11111111-1111-1111-1111-111111111111', 2, 'documents/a 1.pdf'), ('22222222-2222-2222-2222-222222222222', 1, 'documents/c.pdf');
    insert into page values ('11111111-1111-1111-1111-111111111111', 1, 2), ('11111111-1111-1111-1111-111111111111', 2, 1);
    delete from log;";

#[tokio::test]
async fn a_deleted_record_of_a_server_comes_back_with_its_children_and_files_and_all_else_is_untouched() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(ON_A_SERVER);
    let (_service, app) = crate::postgres::app(&database.url(), DEBIAN).await;
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    app.write("nexus.toml", &format!("{text}[files]\nsource = \"s3://{}\"\n", app.bucket));
    for key in FILES {
        app.put(key, format!("content of {key}").as_bytes()).await;
    }
    let state = async || (rows(&server, &database.name), app.files().await);
    let before = state().await;
    let id = app.back_up(&[]);
    database.sql("delete from ward.patient where id = 2; alter table ward.patient alter id restart with 2");
    app.delete("documents/a 1.pdf").await;
    let words = ["--record", "ward.patient/2", "--with-children", "--with-files"];
    let plan = app.run(&[&["restore", &id, "--dry-run", "--json"], words.as_slice()].concat()).ends_with(0).json();
    assert_eq!(added(&plan).len(), 4, "{plan}");
    assert_eq!(plan["rows"]["files"], json!(["documents/a 1.pdf"]));
    restore(&app, &id, &words).ends_with(0);
    assert_eq!(state().await, before);
    // The trigger slept and is awake again, and the sequence is past the row.
    let id_of = "insert into ward.patient (name, doctor) values ('new', 1) returning id";
    assert_eq!(database.sql(id_of), "3");
    assert_eq!(database.sql("select count(*) from log"), "1");
    database.sql("delete from ward.patient where id = 3; delete from log");

    let wrecked = "update ward.patient set name = 'wrecked', notes = null where id = 2; delete from log";
    database.sql(wrecked);
    restore(&app, &id, &words[..2]).refuses(2, "ward.patient/2 is there with another `name`, `loud`, `notes`");
    let told = restore(&app, &id, &[&words[..2], &["--overwrite"]].concat()).ends_with(0).json();
    assert!(told["safety_point"].as_str().is_some_and(|id| id.starts_with("before-restore")), "{told}");
    let unprotected = state().await;
    assert_eq!(unprotected.0, before.0);

    database.sql("delete from ward.patient where id = 2; update ward.patient set email = 'j'");
    app.delete("documents/a 1.pdf").await;
    let before = state().await;
    restore(&app, &id, &words).refuses(2, "another row stands in the way").says("(email)=(j)");
    assert_eq!(state().await, before);
    database.sql("update ward.patient set email = null; alter table document drop constraint document_patient_fkey; delete from doctor where id = 1");
    restore(&app, &id, &words[..2]).refuses(2, "ward.patient/2 points at doctor/1, which is not there");
    app.assert_no_litter();
}

#[tokio::test]
async fn a_row_of_a_server_is_replaced_alone_and_a_trial_leaves_its_sequences() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(
        "create table base (id int primary key, v text); create table heir () inherits (base);
         create table code (id int primary key, word text unique, n int);
         create table uses (id int primary key, word text references code (word) on update cascade);
         create table counted (id serial primary key, v text);
         create table login (name varchar(9) primary key, n numeric unique); create table entry (id int primary key, n numeric references login (n));
         insert into base values (1, 'then'); insert into heir values (1, 'heir'); insert into code values (1, 'old', 1);
         insert into uses values (1, 'old'); insert into counted (v) values ('a'), ('b');
         insert into login values ('ann', 1.0); insert into entry values (1, 1.00)",
    );
    let (_service, app) = crate::postgres::app(&database.url(), DEBIAN).await;
    let id = app.back_up(&[]);
    database.sql("update only base set v = 'now'; update code set n = 2; update code set word = 'new'");
    restore(&app, &id, &["--record", "base/1", "--overwrite"]).ends_with(0);
    assert_eq!(database.sql("select string_agg(v, ' ' order by v) from base"), "heir then");
    let words = ["--record", "code/1", "--overwrite"];
    restore(&app, &id, &words).refuses(2, "would change with it by the foreign key uses_word_fkey of");
    assert_eq!(database.sql("select word from uses"), "new");
    database.sql("update code set word = 'old'");
    restore(&app, &id, &words).ends_with(0);
    assert_eq!(database.sql("select n from code"), "1");

    database.sql("delete from counted; alter sequence counted_id_seq restart");
    let words = ["--record", "counted/2"];
    restore(&app, &id, &[&words[..], &["--dry-run"]].concat()).ends_with(0);
    assert_eq!(database.sql("select is_called from counted_id_seq"), "f");
    restore(&app, &id, &words).ends_with(0);
    assert_eq!(database.sql("select last_value from counted_id_seq"), "2");

    database.sql("delete from entry; delete from login");
    let words = ["--record", "login/ann", "--with-children"];
    restore(&app, &id, &words).refuses(2, "entry (n) points at login (n), where values count as equal");
}

#[tokio::test]
async fn a_role_that_may_only_insert_puts_a_record_back_and_triggers_need_their_owner() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    let role = nexus_testkit::postgres::unique("clerk");
    server.role(&role, "");
    database.sql(&format!(
        "create table a (id int primary key, v text); create table b (id int primary key, a int references a);
         insert into a values (1, 'x'), (2, E'tab\\tand \\\\ more'); insert into b values (7, 2);
         grant select, insert on a, b to {role}"
    ));
    let (_service, app) = crate::postgres::app(&database.url(), DEBIAN).await;
    let before = rows(&server, &database.name);
    let id = app.back_up(&[]);
    database.sql("delete from b; delete from a where id = 2");
    crate::postgres::configure(&app, &server.url_of(&database.name, &role, "secret"), DEBIAN);
    restore(&app, &id, &["--record", "a/2", "--with-children"]).ends_with(0);
    assert_eq!(rows(&server, &database.name), before);
    database.sql(
        "delete from b; create function f() returns trigger language plpgsql as $$ begin return new; end $$;
         create trigger t before insert on b for each row execute function f()",
    );
    let before = rows(&server, &database.name);
    restore(&app, &id, &["--record", "b/7"]).refuses(2, "owner");
    assert_eq!(rows(&server, &database.name), before);
}

#[tokio::test]
async fn rows_without_a_key_come_back_as_often_as_they_were_or_are_named() {
    let (_service, app) = clinic().await;
    app.sql("PRAGMA foreign_keys = OFF; INSERT INTO remark VALUES (42, 'one'), (42, NULL)");
    let before = digest::database(&app.database);
    let id = app.back_up(&[]);
    let words = ["--record", "patients/42", "--with-children"];
    app.sql("DELETE FROM remark WHERE patient = 42");
    restore(&app, &id, &words).ends_with(0);
    let rows = |database: &std::path::Path| -> i64 {
        let connection = rusqlite::Connection::open(database).expect("a database");
        connection.query_row("SELECT count(*) FROM remark WHERE patient = 42", [], |row| row.get(0)).expect("a number")
    };
    assert_eq!(rows(&app.database), 3);
    app.sql("DELETE FROM remark WHERE rowid = (SELECT max(rowid) FROM remark WHERE body = 'one')");
    let less = digest::database(&app.database);
    restore(&app, &id, &words).refuses(2, "had several rows like remark/").says("--mode add-missing");
    assert_eq!(digest::database(&app.database), less);
    app.restore(&[&id, "--table", "remark", "--mode", "add-missing"]);
    assert_eq!(rows(&app.database), 3);
    assert_eq!(before.len(), less.len());
}

#[tokio::test]
async fn records_of_an_older_tool_are_refused_by_name() {
    let (_service, app) = clinic().await;
    std::fs::create_dir_all(app.path("old/first_20251115_064233")).expect("room");
    app.write("old/first_20251115_064233/patients.json", "[{\"id\": 42, \"name\": \"x\"}]");
    app.put("backup/first_20251115_064233/documents/c.pdf", b"old").await;
    nexus_testkit::bucket::put_object(
        &app.client,
        &app.bucket,
        "backup/database/clinic_sqlite_backup_20251115_064233.db",
        &std::fs::read(&app.database).expect("a database"),
    )
    .await;
    app.run(&["adopt", "--local", "old", "--yes"]).ends_with(0);
    let id = "first_20251115_064233";
    restore(&app, id, &["--record", "patients/42"]).refuses(2, "were written by an older tool");
    let diff = app.run(&["diff", id, "now", "--json"]).ends_with(0).json();
    let patient = diff["tables"].as_array().expect("tables").iter().find(|table| table["table"] == "patient");
    let patient = patient.expect("it has other numbers");
    assert_eq!((&patient["basis"], &patient["added"]), (&json!("counts"), &json!(2)), "{diff}");
    assert_eq!(diff["notes"].as_array().expect("notes").len(), 2, "{diff}");
}
