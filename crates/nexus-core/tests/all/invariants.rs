//! Queries that must answer no row: what they find is shown, what they would change is refused.

use std::path::Path;
use std::time::Duration;

use nexus_core::database::Database;
use nexus_core::database::postgres::Surroundings;
use nexus_core::error::Error;
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(2);

/// A database of six rows in a folder of its own.
fn database() -> (TempDir, Database) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("db.sqlite3");
    let connection = rusqlite::Connection::open(&path).expect("a database");
    connection
        .execute_batch(
            "PRAGMA foreign_keys = OFF; PRAGMA journal_mode = WAL;
             CREATE TABLE patient (id INTEGER PRIMARY KEY, name TEXT, photo BLOB);
             INSERT INTO patient VALUES (1, 'John', x'00ff'), (2, NULL, NULL), (3, 'a', NULL), (4, 'b', NULL),
                                        (5, 'c', NULL), (6, 'd', NULL);
             CREATE TABLE visit (id INTEGER PRIMARY KEY, patient REFERENCES patient(id));
             INSERT INTO visit VALUES (1, 99);",
        )
        .expect("good SQL");
    let found = Database::parse(path.to_str().expect("UTF-8"), &Surroundings::folder(Path::new("/"))).expect("a path");
    (folder, found)
}

#[tokio::test]
async fn the_rows_that_must_not_be_there_are_shown_and_the_rest_is_only_said_to_exist() {
    let (_folder, database) = database();
    let none = database.violations("SELECT * FROM patient WHERE id < 0", WAIT).await.expect("asked");
    assert!(none.is_empty() && !none.more);
    let one = database.violations("SELECT * FROM patient WHERE id = 1", WAIT).await.expect("asked");
    assert_eq!((one.rows.as_slice(), one.more), (&["id=1, name=John, photo=x'00ff'".to_owned()][..], false));
    let null = database.violations("SELECT name FROM patient WHERE id = 2", WAIT).await.expect("asked");
    assert_eq!(null.rows, ["name=NULL"]);
    let five = database.violations("SELECT id FROM patient WHERE id < 6", WAIT).await.expect("asked");
    assert_eq!((five.rows.len(), five.more), (5, false));
    let six = database.violations("SELECT id FROM patient", WAIT).await.expect("asked");
    assert_eq!((six.rows.len(), six.more), (5, true));
    let dangling = database.violations("PRAGMA foreign_key_check", WAIT).await.expect("asked");
    assert_eq!(dangling.rows.len(), 1);
}

#[tokio::test]
async fn what_is_no_single_query_or_would_change_something_is_refused_before_it_is_asked() {
    let (folder, database) = database();
    let path = folder.path().join("db.sqlite3");
    let before = std::fs::read(&path).expect("a file");
    for sql in [
        "SELEC 1",
        "SELECT * FROM nothing",
        "",
        "SELECT 1; DELETE FROM patient",
        "DELETE FROM patient RETURNING id",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA user_version = 9",
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'other.db'",
        "BEGIN IMMEDIATE",
    ] {
        let tried = database.try_invariant(sql, WAIT).await.expect_err(sql);
        assert!(tried.to_string().contains("cannot ask"), "{sql}: {tried}");
        database.violations(sql, WAIT).await.expect_err(sql);
    }
    assert_eq!(std::fs::read(&path).expect("a file"), before);
    let beside: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
}

#[tokio::test]
async fn a_database_that_a_writer_holds_is_waited_for_and_then_named() {
    let (folder, database) = database();
    let path = folder.path().join("db.sqlite3");
    let holder = rusqlite::Connection::open(&path).expect("a database");
    holder.execute_batch("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE").expect("good SQL");
    let error = database.violations("SELECT 1", Duration::from_millis(50)).await.expect_err("it is locked");
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    holder.execute_batch("COMMIT").expect("good SQL");
    assert_eq!(database.violations("SELECT 1", WAIT).await.expect("asked").rows, ["1=1"]);
}
