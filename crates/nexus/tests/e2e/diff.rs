//! What changed between two points, or between one and now, against what was really done and what the database itself says.

use std::collections::{BTreeMap, BTreeSet};

use nexus_testkit::postgres::{Database, Server};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::app::{App, sandbox};
use crate::postgres::DEBIAN;

/// Rows and files that differ, each as a line of its own.
fn told(diff: &Value) -> BTreeSet<String> {
    let rows = diff["rows"].as_array().expect("rows").iter();
    let keys = diff["keys"].as_array().into_iter().flatten();
    let row = |row: &Value| {
        format!("{} {} {} {} {}", row["table"], row["change"], row["key"], row["before"], row["after"]).replace('"', "")
    };
    let key = |key: &Value| format!("{} {}", key["change"], key["key"]).replace('"', "");
    rows.map(row).chain(keys.map(key)).collect()
}

#[tokio::test]
async fn a_diff_after_a_scripted_re_import_lists_exactly_its_changes() {
    let (_service, app) = sandbox_clinic().await;
    app.sql(
        "CREATE TABLE tag (patient INTEGER, word TEXT, weight, PRIMARY KEY (patient, word)) WITHOUT ROWID;
         CREATE TABLE keyless (a, b); CREATE TABLE going (x); INSERT INTO going VALUES (1);
         INSERT INTO tag VALUES (1, 'a/b', 1), (1, 'c', 2), (2, 'c', 3); INSERT INTO keyless VALUES (1, 'x'), (2, 'y')",
    );
    let id = app.back_up(&[]);
    let same = app.run(&["diff", &id, "now", "--rows", "--json"]).ends_with(0).json();
    assert_eq!((told(&same), &same["tables"]), (BTreeSet::new(), &json!([])), "{same}");
    app.sql(
        "UPDATE clinic_patient SET first_name = 'Jo\n\"hn', weight = 9e999 WHERE id = 1; DELETE FROM clinic_patient WHERE id = 3;
         INSERT INTO clinic_patient VALUES (9007199254740993, 'new', NULL, x'00'); UPDATE tag SET weight = 2.0 WHERE word = 'c' AND patient = 1;
         DELETE FROM tag WHERE word = 'a/b'; DELETE FROM keyless WHERE a = 2; ALTER TABLE visit ADD COLUMN more DEFAULT 7;
         DROP TABLE going; CREATE TABLE coming (y); INSERT INTO coming VALUES ('z')",
    );
    app.put("images/a.jpg", b"overwritten").await;
    app.put("images/new.jpg", b"came").await;
    app.put("tmp/left-out", b"not looked at").await;
    app.delete("notes").await;
    let expected = [
        "clinic_patient added {id:{$int:9007199254740993}} null {first_name:new,id:{$int:9007199254740993},photo:{$blob:AA==},weight:null}",
        "clinic_patient changed {id:1} {first_name:John,weight:80.5} {first_name:Jo\\n\\hn,weight:{$real:inf}}",
        "clinic_patient removed {id:3} {first_name:John,id:3,photo:null,weight:61.0} null",
        "coming added {$rowid:1} null {$rowid:1,y:z}",
        "going removed {$rowid:1} {$rowid:1,x:1} null",
        "keyless removed {$rowid:2} {$rowid:2,a:2,b:y} null",
        "tag changed {patient:1,word:c} {weight:2} {weight:2.0}",
        "tag removed {patient:1,word:a/b} {patient:1,weight:1,word:a/b} null",
        "added images/new.jpg",
        "changed images/a.jpg",
        "removed notes",
    ];
    let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
    let now = app.run(&["diff", "latest", "now", "--rows", "--json"]).ends_with(0).json();
    assert_eq!(told(&now), expected);
    let later = app.back_up(&[]);
    let points = app.run(&["diff", &id, &later, "--rows", "--json"]).ends_with(0).json();
    assert_eq!(told(&points), expected);
    let visit = points["tables"].as_array().expect("tables").iter().find(|table| table["table"] == "visit");
    let visit = visit.expect("its columns changed");
    assert_eq!((&visit["columns_added"], &visit["changed"]), (&json!(["more"]), &json!(0)), "{visit}");
    // The other way round everything is the other way round.
    let back = app.run(&["diff", &later, &id, "--rows", "--json"]).ends_with(0).json();
    assert_eq!(told(&back).len(), expected.len());
    assert!(told(&back).contains("added notes"), "{back}");
    // One table, by the name of its records.
    let one = app.run(&["diff", &id, &later, "--table", "patients", "--rows", "--json"]).ends_with(0).json();
    assert_eq!((told(&one).len(), &one["files"]), (3, &Value::Null));
    let page = app.run(&["diff", &id, &later, "--rows"]).ends_with(0).out;
    for line in
        ["weight: 80.5 → {\"$real\":\"inf\"}", "~ patient=1, word=\"c\"", "+ images/new.jpg", "new: more", "table gone"]
    {
        assert!(page.contains(line), "{line:?} is not in:\n{page}");
    }
    let short = app.run(&["diff", &id, &later]).ends_with(0).out;
    assert!(!short.contains("John"), "whose rows they are was not asked for:\n{short}");
    app.assert_no_litter();
}

async fn sandbox_clinic() -> (nexus_sandbox::Service, App) {
    let (service, endpoint) = sandbox();
    (service, App::clinic(endpoint).await)
}

/// What the database itself says: keys of rows that came, changed, went.
fn compared(before: &std::path::Path, after: &std::path::Path, table: &str, key: &str) -> [BTreeSet<String>; 3] {
    let connection = Connection::open(before).expect("a database");
    connection.execute("ATTACH ?1 AS later", [after.to_str().expect("a path")]).expect("attached");
    let keys = |sql: String| -> BTreeSet<String> {
        let mut statement = connection.prepare(&sql).expect("good SQL");
        let keys = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        keys.collect::<Result<_, _>>().expect("texts")
    };
    let gone = |of: &str, from: &str| {
        format!("SELECT {key} || '' FROM {of}.{table} EXCEPT SELECT {key} || '' FROM {from}.{table}")
    };
    let (added, removed) = (keys(gone("later", "main")), keys(gone("main", "later")));
    let other = format!("SELECT {key} || '' FROM (SELECT * FROM later.{table} EXCEPT SELECT * FROM main.{table})");
    let changed = keys(other).difference(&added).cloned().collect();
    [added, changed, removed]
}

#[tokio::test]
async fn a_diff_of_two_points_is_the_databases_own_comparison() {
    let (_service, endpoint) = sandbox();
    let app = App::bare(endpoint).await;
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    app.write("nexus.toml", &text.replace("[records.tables]\npatients = \"clinic_patient\"\n", ""));
    app.sql(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b TEXT);
         CREATE TABLE pair (x INTEGER, y TEXT, v, PRIMARY KEY (x, y)) WITHOUT ROWID;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
         INSERT INTO t SELECT i, i * 7 % 13, 'text ' || i FROM n;
         INSERT INTO pair SELECT id % 90, 'k' || id, a FROM t",
    );
    let first = app.back_up(&["--only", "database,records"]);
    app.sql(
        "DELETE FROM t WHERE id % 17 = 3; UPDATE t SET a = a + 1, b = upper(b) WHERE id % 11 = 5;
         INSERT INTO t SELECT id + 10000, a, b FROM t WHERE id % 23 = 0;
         DELETE FROM pair WHERE v = 4; UPDATE pair SET v = 'other' WHERE x % 5 = 1; INSERT INTO pair VALUES (-1, 'new', 1)",
    );
    let second = app.back_up(&["--only", "database,records"]);
    for (id, file) in [(&first, "first.db"), (&second, "second.db")] {
        app.restore(&[id, "--only", "database", "--to-database", file]);
    }
    let diff = app.run(&["diff", &first, &second, "--rows", "--json"]).ends_with(0).json();
    let mut found: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for row in diff["rows"].as_array().expect("rows") {
        let word = |name: &str| row[name].as_str().expect("a word").to_owned();
        let key: Vec<String> =
            row["key"].as_object().expect("a key").values().map(|value| value.to_string().replace('"', "")).collect();
        assert!(found.entry((word("table"), word("change"))).or_default().insert(key.join("|")), "{row} came twice");
    }
    for (table, key) in [("t", "id"), ("pair", "x || '|' || y")] {
        let own = compared(&app.path("first.db"), &app.path("second.db"), table, key);
        for (word, keys) in ["added", "changed", "removed"].into_iter().zip(own) {
            assert!(!keys.is_empty());
            let found = found.remove(&(table.to_owned(), word.to_owned()));
            assert_eq!(found.as_ref(), Some(&keys), "{word} in {table}");
            let table = diff["tables"].as_array().expect("tables").iter().find(|told| told["table"] == table);
            assert_eq!(table.expect("it differs")[word], keys.len());
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_diff_of_a_postgresql_database_lists_exactly_what_was_done() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(
        "create schema s; create table s.t (a text collate \"C\", b int, c numeric, d timestamptz, primary key (a, b));
         create table plain (id bigint primary key, v jsonb);
         insert into s.t values ('x', 1, 1.0, 'now'), ('y', 2, 2.50, null), ('z', 3, 3, null);
         insert into plain values (9007199254740993, '{\"a\": 1}'), (2, null)",
    );
    let (_service, app) = crate::postgres::app(&database.url(), DEBIAN).await;
    let id = app.back_up(&[]);
    database.sql(
        "update s.t set c = 2.5 where a = 'y'; delete from s.t where a = 'z'; insert into s.t values ('z', 4, null, null);
         update plain set v = '{\"a\": 2}' where id > 2; alter table plain alter id type numeric",
    );
    let diff = app.run(&["diff", &id, "now", "--rows", "--json"]).ends_with(0).json();
    let expected = [
        "s.t changed {a:y,b:2} {c:2.50} {c:2.5}",
        "s.t added {a:z,b:4} null {a:z,b:4,c:null,d:null}",
        "s.t removed {a:z,b:3} {a:z,b:3,c:3,d:null} null",
    ];
    for line in expected {
        assert!(told(&diff).contains(line), "{line} is not in {diff}");
    }
    let plain = diff["tables"].as_array().expect("tables").iter().find(|table| table["table"] == "plain").expect("it");
    assert_eq!(plain["columns_retyped"], json!(["id"]), "{plain}");
    assert_eq!(plain["types"]["id"], json!({ "before": "bigint", "after": "numeric" }), "{plain}");
    let page = app.run(&["diff", &id, "now"]).ends_with(0).out;
    assert!(page.contains("of another type: id (bigint → numeric)"), "{page}");
    let of = diff["rows"].as_array().expect("rows").iter().filter(|row| row["table"] == "s.t").count();
    assert_eq!(of, expected.len());
}

#[tokio::test]
async fn what_cannot_be_compared_is_refused_by_name_and_files_alone_still_are() {
    let (_service, app) = sandbox_clinic().await;
    let whole = app.back_up(&[]);
    let files = app.back_up(&["--only", "database,files"]);
    app.run(&["diff", &whole, &files]).refuses(2, &format!("{files} has no records"));
    app.run(&["diff", &files, "now"]).refuses(2, "--only files");
    app.run(&["diff", &whole, &files, "--only", "files"]).ends_with(0);
    let numbers = app.run(&["diff", &whole, &files, "--only", "database", "--json"]).ends_with(0).json();
    assert_eq!(numbers["tables"], json!([]));
    app.run(&["diff", "now", &whole]).refuses(2, "comes second");
    app.run(&["diff", &whole, "now", "--table", "patient"]).refuses(2, "no table \"patient\"").says("patients");
    app.run(&["diff", &whole, "nowhere"]).refuses(2, "nowhere");
    app.run(&["diff", &whole, "now", "--table", "visit", "--only", "files"]).refuses(2, "--table");
    // Records that lie elsewhere only are not guessed.
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("a configuration");
    app.write("nexus.toml", &text.replace("[records]\n", "[records]\nvault = false\n"));
    let local = app.back_up(&[]);
    app.sql("UPDATE visit SET note = 'x'");
    app.run(&["diff", &local, "now"]).ends_with(0);
    std::fs::remove_dir_all(app.path("backups").join(&local)).expect("they were here");
    app.run(&["diff", &local, "now"]).refuses(2, "visit.json is not here");
    app.run(&["diff", &local, "now", "--only", "files"]).ends_with(0);
    app.assert_no_litter();
}

#[tokio::test]
async fn a_table_without_records_on_one_side_is_neither_new_nor_gone_and_another_key_is_said() {
    let (_service, app) = sandbox_clinic().await;
    app.sql(
        "CREATE TABLE words_content (a); INSERT INTO words_content VALUES (1);
         CREATE TABLE keyed (a INTEGER, b INTEGER, PRIMARY KEY (a)); INSERT INTO keyed VALUES (1, 2)",
    );
    let id = app.back_up(&[]);
    app.sql(
        "DROP TABLE words_content; CREATE VIRTUAL TABLE words USING fts5(body);
         DROP TABLE keyed; CREATE TABLE keyed (a INTEGER, b INTEGER, PRIMARY KEY (b)); INSERT INTO keyed VALUES (1, 2)",
    );
    for more in [&[][..], &["--only", "database"]] {
        let diff = app.run(&[&["diff", &id, "now", "--json"], more].concat()).ends_with(0).json();
        let mut tables = diff["tables"].as_array().expect("tables").iter();
        assert!(!tables.any(|table| table["table"] == "words_content"), "{diff}");
        assert!(diff["uncompared"]["words_content"].is_string(), "{diff}");
    }
    let diff = app.run(&["diff", &id, "now", "--table", "keyed", "--json"]).ends_with(0).json();
    assert_eq!(diff["uncompared"], json!({}), "{diff}");
    let note = diff["notes"][0].as_str().expect("a note");
    assert!(note.contains("the key of keyed was a and is b"), "{diff}");
}

#[tokio::test]
async fn records_that_expired_are_refused_with_what_is_left() {
    let (_service, app) = sandbox_clinic().await;
    let old = app.back_up(&[]);
    app.sql("UPDATE visit SET note = 'x' WHERE id = 1");
    let new = app.back_up(&[]);
    app.run(&["prune", "--yes", "--keep-records", "1s", "--keep-last", "1"]).ends_with(0);
    let refused = app.run(&["diff", &old, &new]).refuses(2, &format!("the records of {old} expired"));
    assert!(refused.err.contains("--only database,files"), "{}", refused.err);
    app.run(&["diff", &new, &old]).refuses(2, &format!("the records of {old} expired"));
    app.run(&["restore", &old, "--record", "visit/1", "--dry-run"]).refuses(2, "expired");
    app.run(&["diff", &old, &new, "--only", "files"]).ends_with(0);
    app.run(&["diff", &new, "now"]).ends_with(0);
}

#[tokio::test]
async fn records_that_are_damaged_are_no_difference() {
    let (_service, app) = sandbox_clinic().await;
    let id = app.back_up(&[]);
    app.sql("UPDATE visit SET note = 'x'");
    app.put(&format!("backup/{id}/records/visit.json"), b"[\n]\n").await;
    app.run(&["diff", &id, "now"]).refuses(1, "visit.json is not as it was written");
    app.run(&["diff", &id, "now", "--table", "patients"]).ends_with(0);
}
