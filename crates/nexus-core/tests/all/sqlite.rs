//! SQLite databases captured, exported and restored, with real files and a second connection in the way.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nexus_core::database::Database;
use nexus_core::database::postgres::Surroundings;
use nexus_core::database::sqlite::{Captured, Condition, Restore, Restored, SqliteDatabase};
use nexus_core::error::{Error, Result};
use nexus_core::event::{Event, Events};
use nexus_core::point::RecordTable;
use nexus_core::records::export::{Export, RecordsExport, Summary};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params};
use serde_json::json;
use sha2::{Digest, Sha256};

const LOCK_WAIT: Duration = Duration::from_secs(10);
const NO_WAIT: Duration = Duration::ZERO;

/// A folder with a source database, and a private place for copies.
struct Place {
    folder: tempfile::TempDir,
    private: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), private: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("db.sqlite3")
    }

    fn database(&self) -> SqliteDatabase {
        SqliteDatabase::new(self.path())
    }

    fn copy(&self) -> PathBuf {
        self.private.path().join("copy.db")
    }

    /// A connection, after some SQL.
    fn open(&self, sql: &str) -> Connection {
        let connection = Connection::open(self.path()).expect("a database");
        connection.pragma_update(None, "foreign_keys", false).expect("a setting");
        connection.execute_batch(sql).expect("SQL");
        connection
    }

    fn capture(&self) -> Result<Captured> {
        self.database().capture(&self.copy(), LOCK_WAIT, &Events::none())
    }

    fn captured(&self) -> Captured {
        self.capture().expect("a capture")
    }

    fn restore(&self) -> Result<Restored> {
        self.restore_waiting(LOCK_WAIT)
    }

    fn restore_waiting(&self, lock_wait: Duration) -> Result<Restored> {
        let target = self.database();
        Restore { copy: &self.copy(), target: &target, lock_wait, ownership: None }.carry_out(&Events::none())
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    fn export(&self, names: &[(&str, &str)]) -> Result<(PathBuf, RecordsExport)> {
        let folder = self.private.path().join("records");
        let names: BTreeMap<String, String> =
            names.iter().map(|(name, table)| ((*name).to_owned(), (*table).to_owned())).collect();
        let exported = Export {
            folder: folder.clone(),
            names,
            app: "clinic".into(),
            point: "reimport_20251115_064233".parse().expect("an id"),
            instant: "2025-11-15T06:42:33Z".parse().expect("an instant"),
        }
        .of_sqlite(&self.copy(), &Events::none())?;
        Ok((folder, exported))
    }
}

/// Some tables with rows, larger than a page.
const CLINIC: &str = "
    CREATE TABLE patient(id INTEGER PRIMARY KEY AUTOINCREMENT, first_name TEXT NOT NULL, weight REAL, photo BLOB);
    CREATE TABLE document(id INTEGER PRIMARY KEY, patient_id INTEGER REFERENCES patient(id), file TEXT UNIQUE);
    CREATE INDEX patient_name ON patient(first_name);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
        INSERT INTO patient(first_name, weight, photo) SELECT 'John ' || i, i / 3.0, randomblob(100) FROM n;
    INSERT INTO document SELECT id, id, 'documents/' || id || '.pdf' FROM patient;";

/// A digest of schema and rows by plain SQL, sharing nothing with the code under test.
fn digest(connection: &Connection) -> String {
    let mut statement =
        connection.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2").expect("the schema");
    let objects: Vec<(String, String, Option<String>)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .expect("the schema")
        .collect::<rusqlite::Result<_>>()
        .expect("the schema");
    let mut hash = Sha256::new();
    for (kind, name, sql) in objects {
        hash.update(format!("{kind} {name} {sql:?}\n"));
        if kind != "table" {
            continue;
        }
        let quoted = name.replace('"', "\"\"");
        let mut rows = connection.prepare(&format!("SELECT * FROM \"{quoted}\"")).expect("a table");
        let columns = rows.column_count();
        let mut lines: Vec<String> = rows
            .query_map([], |row| (0..columns).map(|at| row.get::<_, Value>(at)).collect::<rusqlite::Result<Vec<_>>>())
            .expect("rows")
            .map(|row| format!("{:?}", row.expect("a row")))
            .collect();
        lines.sort();
        hash.update(lines.join("\n"));
    }
    format!("{:x}", hash.finalize())
}

fn digest_of(path: &Path) -> String {
    digest(&Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).expect("a database"))
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a count")
}

fn pragma(path: &Path, name: &str) -> Value {
    let connection = Connection::open(path).expect("a database");
    connection.pragma_query_value(None, name, |row| row.get(0)).expect("a pragma")
}

// ---- capture

#[test]
fn commits_that_are_only_in_the_log_are_captured() {
    let place = Place::new();
    let writer = place.open("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;");
    writer.execute_batch(CLINIC).expect("rows");
    let captured = place.captured();
    assert_eq!(captured.tables, BTreeMap::from([("document".to_owned(), 500), ("patient".to_owned(), 500)]));
    assert_eq!(captured.facts.journal_mode, "wal");
    assert_eq!(digest_of(&place.copy()), digest(&writer));
    assert_eq!(fs::metadata(place.copy()).expect("a copy").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_capture_is_one_consistent_state_while_another_connection_writes() {
    let place = Place::new();
    for mode in ["WAL", "DELETE"] {
        drop(place.open(&format!(
            "PRAGMA journal_mode={mode}; CREATE TABLE IF NOT EXISTS one(n); CREATE TABLE IF NOT EXISTS two(n);"
        )));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let writer = place.open("PRAGMA busy_timeout=10000; PRAGMA synchronous=OFF;");
                while !done.load(Ordering::Relaxed) {
                    writer
                        .execute_batch("BEGIN IMMEDIATE; INSERT INTO one VALUES(1); INSERT INTO two VALUES(1); COMMIT")
                        .expect("a commit");
                }
            });
            for _ in 0..5 {
                let captured = place.captured();
                assert_eq!(captured.tables["one"], captured.tables["two"], "{mode}");
                fs::remove_file(place.copy()).expect("removed");
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn a_capture_leaves_the_source_and_its_folder_as_they_were() {
    for mode in ["WAL", "DELETE", "TRUNCATE", "PERSIST"] {
        let place = Place::new();
        drop(place.open(&format!("PRAGMA journal_mode={mode}; {CLINIC}")));
        let names = place.names();
        let bytes = fs::read(place.path()).expect("the file");
        place.captured();
        assert_eq!(place.names(), names, "{mode}");
        assert_eq!(fs::read(place.path()).expect("the file"), bytes, "{mode}");
        assert_eq!(digest_of(&place.path()), digest_of(&place.copy()), "{mode}");
    }
}

#[test]
fn a_capture_does_not_checkpoint_the_log_of_a_killed_writer() {
    let place = killed_writer();
    let before = fs::read(place.path()).expect("the file");
    let log = fs::metadata(place.folder.path().join("db.sqlite3-wal")).expect("a log").len();
    let captured = place.captured();
    assert_eq!(captured.tables["patient"], 501);
    assert_eq!(fs::read(place.path()).expect("the file"), before);
    assert_eq!(fs::metadata(place.folder.path().join("db.sqlite3-wal")).expect("a log").len(), log);
}

#[test]
fn a_capture_beside_an_idle_open_database_leaves_its_log_to_it() {
    let place = Place::new();
    let app = place.open(&format!("PRAGMA journal_mode=WAL; {CLINIC}"));
    place.captured();
    app.execute("INSERT INTO patient(first_name) VALUES('Jane')", []).expect("a row");
    assert_eq!(count(&app, "patient"), 501);
    assert_eq!(place.names(), ["db.sqlite3", "db.sqlite3-shm", "db.sqlite3-wal"]);
}

#[test]
fn what_is_not_a_database_is_refused_and_leaves_no_copy() {
    let place = Place::new();
    let refused = |what: &str| {
        let error = place.capture().expect_err(what);
        assert!(error.to_string().contains("db.sqlite3"), "{what}: {error}");
        assert!(!place.copy().exists(), "{what}");
        error
    };
    assert!(matches!(refused("missing"), Error::Missing { .. }));
    fs::write(place.path(), "").expect("a file");
    assert!(matches!(refused("empty"), Error::Damaged { .. }));
    fs::write(place.path(), "this is not a database, however long it is. ".repeat(100)).expect("a file");
    let error = refused("text");
    assert!(matches!(&error, Error::Damaged { what, .. } if what.contains("not a SQLite database")), "{error:?}");
    fs::remove_file(place.path()).expect("removed");
    fs::create_dir(place.path()).expect("a folder");
    assert!(matches!(refused("folder"), Error::Usage { .. }));
    assert_eq!(place.names(), ["db.sqlite3"]);
}

#[test]
fn a_damaged_page_is_found_and_nothing_is_captured() {
    for (what, offset) in [("a table's page", 4096 * 3), ("an index's page", 0)] {
        let place = Place::new();
        let source = place.open(&format!("PRAGMA page_size=4096; {CLINIC}"));
        let root: i64 = source
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'patient_name'", [], |row| row.get(0))
            .expect("a page");
        drop(source);
        let mut bytes = fs::read(place.path()).expect("the file");
        let at = if offset > 0 { offset } else { usize::try_from((root - 1) * 4096).expect("small") };
        bytes[at..at + 64].fill(0xa5);
        fs::write(place.path(), bytes).expect("the file");
        let error = place.capture().expect_err(what);
        assert!(matches!(&error, Error::Damaged { cause: Some(_), .. }), "{what}: {error:?}");
        assert!(!place.copy().exists());
        assert!(matches!(place.database().condition(NO_WAIT).expect("a condition"), Condition::Broken(_)), "{what}");
    }
}

#[test]
fn an_index_that_misses_a_row_is_found() {
    let place = Place::new();
    let source = place.open(CLINIC);
    source
        .execute_batch(
            "PRAGMA writable_schema=ON;
             UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_document_1')
             WHERE name = 'patient_name';",
        )
        .expect("a wrong schema");
    drop(source);
    assert!(matches!(place.capture(), Err(Error::Damaged { .. })));
}

#[test]
fn rows_against_the_schema_s_own_rules_are_kept_and_told() {
    let place = Place::new();
    drop(place.open(
        "CREATE TABLE t(a, b CHECK (b > 0)); PRAGMA ignore_check_constraints=ON; INSERT INTO t VALUES(NULL, -1), (NULL, 1);
         PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE t(a NOT NULL, b CHECK (b > 0))' WHERE name = 't';
         CREATE TABLE parent(id INTEGER PRIMARY KEY); CREATE TABLE child(p REFERENCES parent(id));
         INSERT INTO child VALUES(7), (8), (NULL);",
    ));
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = told.clone();
    let events = Events::new(move |event| {
        if let Event::Warning(text) = event {
            tell.lock().expect("a lock").push(text);
        }
    });
    let captured = place.database().capture(&place.copy(), LOCK_WAIT, &events).expect("a capture");
    assert_eq!(captured.facts.foreign_key_violations, BTreeMap::from([("child".to_owned(), 2)]));
    let told = told.lock().expect("a lock");
    assert!(told.len() == 1 && told[0].starts_with("2 values of"), "{told:?}");
}

#[test]
fn foreign_keys_that_point_at_nothing_are_counted_as_sqlite_counts_them() {
    let place = Place::new();
    let connection = place.open(
        "CREATE TABLE parent(id INTEGER PRIMARY KEY, code TEXT UNIQUE COLLATE NOCASE);
         CREATE TABLE named(name TEXT PRIMARY KEY); CREATE TABLE pair(a INT, b INT, PRIMARY KEY (a, b));
         INSERT INTO parent VALUES(1, 'One'), (7, 'Seven'); INSERT INTO named VALUES('x'), ('7'); INSERT INTO pair VALUES(1, 2);
         CREATE TABLE whole(p INTEGER REFERENCES parent); INSERT INTO whole VALUES(1), (NULL), ('7');
         CREATE TABLE dangling(p bigint REFERENCES Parent(ID)); CREATE INDEX by_p ON dangling(p);
         INSERT INTO dangling VALUES(1), (2), ('x'), (x'31'), (NULL), (7.5);
         CREATE TABLE texts(p TEXT REFERENCES parent(id)); INSERT INTO texts VALUES('1'), ('01'), ('1.0'), ('x');
         CREATE TABLE codes(c TEXT REFERENCES parent(code)); INSERT INTO codes VALUES('one'), ('ONE'), ('two');
         CREATE TABLE names(n REFERENCES named); INSERT INTO names VALUES('x'), (7), ('y');
         CREATE TABLE pairs(a INT, b INT, FOREIGN KEY (a, b) REFERENCES pair); INSERT INTO pairs VALUES(1, 2), (1, 3), (NULL, 9);
         CREATE TABLE itself(id INTEGER PRIMARY KEY, up INT REFERENCES itself); INSERT INTO itself VALUES(1, 1), (2, 9);",
    );
    let mut expected = BTreeMap::new();
    let mut statement = connection.prepare("PRAGMA foreign_key_check").expect("a check");
    for table in statement.query_map([], |row| row.get::<_, String>(0)).expect("a check") {
        *expected.entry(table.expect("a row")).or_insert(0_u64) += 1;
    }
    assert!(expected.len() > 4, "{expected:?}");
    assert_eq!(place.captured().facts.foreign_key_violations, expected);
}

#[test]
fn a_schema_that_needs_the_app_s_own_collation_and_function_is_captured() {
    let place = Place::new();
    drop(place.open(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO t VALUES(1, 'a'), (2, 'b');
         CREATE TABLE k(name TEXT PRIMARY KEY); INSERT INTO k VALUES('y'), ('x');
         PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT COLLATE ours CHECK (ours(name)))'
         WHERE name = 't';
         UPDATE sqlite_schema SET sql = 'CREATE TABLE k(name TEXT COLLATE ours PRIMARY KEY)' WHERE name = 'k';",
    ));
    let captured = place.captured();
    assert_eq!((captured.tables["t"], captured.tables["k"]), (2, 2));
    let (folder, exported) = place.export(&[]).expect("records");
    assert_eq!(read(&folder, &exported, "k").len(), 2);
}

#[test]
fn a_lock_is_waited_for_only_so_long_and_its_holder_is_named() {
    let place = Place::new();
    drop(place.open(CLINIC));
    let mut holder = sqlite_shell(&place.path(), "BEGIN EXCLUSIVE;");
    let start = Instant::now();
    let error = place.database().capture(&place.copy(), Duration::from_millis(200), &Events::none()).expect_err("held");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let pid = holder.id().to_string();
    assert!(matches!(&error, Error::Busy { what } if what.contains(&pid) && what.contains("sqlite3")), "{error:?}");
    drop(holder.stdin.take());
    holder.wait().expect("ended");
    place.captured();
}

#[test]
fn a_disk_without_room_is_noticed_before_anything_is_written() {
    let place = Place::new();
    drop(place.open(CLINIC));
    // A sparse file claims more than any disk has; only its size is looked at before the copy.
    fs::OpenOptions::new().write(true).open(place.path()).expect("the file").set_len(1 << 43).expect("a size");
    assert!(matches!(place.capture(), Err(Error::Full { .. })));
    assert!(!place.copy().exists());
}

#[test]
fn all_settings_of_the_file_are_kept() {
    let place = Place::new();
    drop(place.open(&format!(
        "PRAGMA encoding='UTF-16le'; PRAGMA page_size=8192; PRAGMA auto_vacuum=INCREMENTAL;
         PRAGMA application_id=252006674; PRAGMA user_version=42; {CLINIC}"
    )));
    let facts = place.captured().facts;
    assert_eq!(
        (facts.application_id, facts.user_version, facts.page_size, facts.auto_vacuum),
        (252_006_674, 42, 8192, 2)
    );
    assert_eq!((facts.encoding.as_str(), facts.journal_mode.as_str()), ("UTF-16le", "delete"));
    let digest = digest_of(&place.path());
    fs::remove_file(place.path()).expect("removed");
    place.restore().expect("a restore");
    assert_eq!(digest_of(&place.path()), digest);
    for (name, value) in
        [("application_id", 252_006_674), ("user_version", 42), ("page_size", 8192), ("auto_vacuum", 2)]
    {
        assert_eq!(pragma(&place.path(), name), Value::Integer(value), "{name}");
    }
    assert_eq!(pragma(&place.path(), "encoding"), Value::Text("UTF-16le".to_owned()));
}

// ---- restore

#[test]
fn a_connection_that_holds_the_log_open_sees_the_restored_rows() {
    let place = Place::new();
    let app = place.open(&format!("PRAGMA journal_mode=WAL; {CLINIC}"));
    let before = digest(&app);
    place.captured();
    app.execute_batch("DROP TABLE document; DELETE FROM patient WHERE id > 3; CREATE TABLE junk(x)").expect("wrecked");
    let restored = place.restore().expect("a restore");
    // Two tables and `sqlite_sequence`.
    assert_eq!((restored.tables, restored.equal_tables, restored.rows), (3, 3, 1001));
    assert_eq!(digest(&app), before);
    app.execute("INSERT INTO patient(first_name) VALUES('Jane')", []).expect("a row");
    drop(app);
    assert_eq!(count(&Connection::open(place.path()).expect("a database"), "patient"), 501);
}

#[test]
fn a_reader_in_the_midst_of_a_transaction_keeps_its_rows_until_it_ends() {
    let place = Place::new();
    let app = place.open(&format!("PRAGMA journal_mode=WAL; {CLINIC}"));
    place.captured();
    app.execute_batch("DELETE FROM patient; BEGIN; SELECT count(*) FROM patient;").expect("a transaction");
    place.restore().expect("a restore");
    assert_eq!(count(&app, "patient"), 0);
    app.execute_batch("COMMIT").expect("ended");
    assert_eq!(count(&app, "patient"), 500);
}

#[test]
fn a_restore_over_somebody_s_open_transaction_is_refused_and_changes_nothing() {
    for mode in ["WAL", "DELETE"] {
        let place = Place::new();
        let app = place.open(&format!("PRAGMA journal_mode={mode}; {CLINIC}"));
        place.captured();
        app.execute_batch("BEGIN IMMEDIATE; DELETE FROM document").expect("a transaction");
        let error = place.restore_waiting(Duration::from_millis(50)).expect_err(mode);
        assert!(matches!(&error, Error::Busy { what } if what.contains("db.sqlite3")), "{mode}: {error:?}");
        app.execute_batch("COMMIT").expect("the app goes on");
        assert_eq!(count(&app, "document"), 0, "{mode}");
        place.restore().expect("a restore");
        assert_eq!(count(&app, "document"), 500, "{mode}");
    }
}

#[test]
fn the_stale_log_of_a_killed_writer_does_not_undo_a_restore() {
    let good = Place::new();
    drop(good.open(CLINIC));
    good.captured();
    let place = killed_writer();
    fs::copy(good.copy(), place.copy()).expect("a copy");
    place.restore().expect("a restore");
    assert_eq!(digest_of(&place.path()), digest_of(&good.path()));
}

#[test]
fn a_copy_with_another_page_size_is_restored_when_nobody_holds_the_log_and_refused_otherwise() {
    let good = Place::new();
    drop(good.open(&format!("PRAGMA page_size=1024; {CLINIC}")));
    good.captured();
    let place = Place::new();
    let app =
        place.open("PRAGMA page_size=8192; PRAGMA journal_mode=WAL; CREATE TABLE old(x); INSERT INTO old VALUES(1)");
    fs::copy(good.copy(), place.copy()).expect("a copy");
    let error = place.restore_waiting(Duration::from_millis(50)).expect_err("held");
    assert!(matches!(&error, Error::Busy { what } if what.contains("leaving WAL mode")), "{error:?}");
    assert_eq!(count(&app, "old"), 1);
    drop(app);
    place.restore().expect("a restore");
    assert_eq!(digest_of(&place.path()), digest_of(&good.path()));
    assert_eq!(pragma(&place.path(), "page_size"), Value::Integer(1024));
}

#[test]
fn another_page_size_is_no_hindrance_in_rollback_mode() {
    for (from, to) in [(1024, 8192), (65536, 512)] {
        let good = Place::new();
        drop(good.open(&format!("PRAGMA page_size={from}; {CLINIC}")));
        good.captured();
        let place = Place::new();
        let app =
            place.open(&format!("PRAGMA page_size={to}; CREATE TABLE old AS SELECT zeroblob(300000) AS x; {CLINIC}"));
        fs::copy(good.copy(), place.copy()).expect("a copy");
        place.restore().expect("a restore");
        assert_eq!(digest(&app), digest_of(&good.path()));
    }
}

#[test]
fn the_journal_mode_is_the_copy_s_afterwards() {
    for (then, now) in [("WAL", "DELETE"), ("DELETE", "WAL"), ("WAL", "WAL"), ("DELETE", "DELETE")] {
        let place = Place::new();
        drop(place.open(&format!("PRAGMA journal_mode={then}; {CLINIC}")));
        place.captured();
        drop(place.open(&format!("PRAGMA journal_mode={now}; DELETE FROM document")));
        let restored = place.restore().expect("a restore");
        assert_eq!(restored.journal_mode, then.to_lowercase(), "from {now}");
        assert_eq!(pragma(&place.path(), "journal_mode"), Value::Text(then.to_lowercase()));
        assert_eq!(place.names(), ["db.sqlite3"], "{then} {now}");
    }
}

#[test]
fn an_absent_and_an_empty_database_are_made_anew_for_the_owner_alone() {
    let place = Place::new();
    drop(place.open(&format!("PRAGMA journal_mode=WAL; {CLINIC}")));
    let digest = digest_of(&place.path());
    place.captured();
    fs::remove_file(place.path()).expect("removed");
    assert_eq!(place.database().condition(NO_WAIT).expect("a condition"), Condition::Absent);
    place.restore().expect("a restore");
    assert_eq!(digest_of(&place.path()), digest);
    assert_eq!(fs::metadata(place.path()).expect("a file").permissions().mode() & 0o777, 0o600);
    fs::write(place.path(), "").expect("emptied");
    assert_eq!(place.database().condition(NO_WAIT).expect("a condition"), Condition::Empty);
    place.restore().expect("a restore");
    assert_eq!(digest_of(&place.path()), digest);
    let nowhere = SqliteDatabase::new(place.folder.path().join("no/such/db"));
    let error = Restore { copy: &place.copy(), target: &nowhere, lock_wait: NO_WAIT, ownership: None }
        .carry_out(&Events::none())
        .expect_err("no folder");
    assert!(matches!(error, Error::Missing { .. }));
}

#[test]
fn a_log_beside_an_absent_database_is_not_taken_into_the_new_one() {
    let place = killed_writer();
    fs::remove_file(place.path()).expect("removed");
    let good = Place::new();
    drop(good.open(CLINIC));
    good.captured();
    fs::copy(good.copy(), place.copy()).expect("a copy");
    assert!(matches!(place.restore(), Err(Error::Exists { .. })));
    assert!(!place.path().exists());
    let aside = place.database().put_aside("broken").expect("put aside");
    assert_eq!(aside.ownership, None);
    place.restore().expect("a restore");
    assert_eq!(digest_of(&place.path()), digest_of(&good.path()));
}

#[test]
fn garbage_is_put_aside_byte_for_byte_and_its_owner_and_mode_are_kept() {
    let place = Place::new();
    drop(place.open(CLINIC));
    place.captured();
    let digest = digest_of(&place.path());
    fs::write(place.path(), "garbage ".repeat(1000)).expect("garbage");
    fs::write(place.folder.path().join("db.sqlite3-wal"), "log").expect("garbage");
    fs::write(place.folder.path().join("db.sqlite3.broken-journal"), "taken").expect("another's");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o640)).expect("a mode");
    assert!(matches!(place.database().condition(NO_WAIT).expect("a condition"), Condition::Broken(_)));
    assert!(matches!(place.restore(), Err(Error::Damaged { .. })));
    let aside = place.database().put_aside("broken").expect("put aside");
    assert!(!place.names().iter().any(|name| ["db.sqlite3", "db.sqlite3-wal"].contains(&name.as_str())));
    let log = fs::read_to_string(place.folder.path().join("db.sqlite3.broken.2-wal")).expect("what was put aside");
    let taken = fs::read_to_string(place.folder.path().join("db.sqlite3.broken-journal")).expect("another's");
    assert_eq!((log.as_str(), taken.as_str()), ("log", "taken"));
    assert!(aside.moved.iter().any(|(from, to)| *from == place.path() && to.ends_with("db.sqlite3.broken.2")));
    let kept = fs::read(place.folder.path().join("db.sqlite3.broken.2")).expect("what was put aside");
    assert_eq!(kept, "garbage ".repeat(1000).into_bytes());
    let target = place.database();
    Restore { copy: &place.copy(), target: &target, lock_wait: NO_WAIT, ownership: aside.ownership }
        .carry_out(&Events::none())
        .expect("a restore");
    assert_eq!(digest_of(&place.path()), digest);
    assert_eq!(fs::metadata(place.path()).expect("a file").permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_file_that_a_process_holds_open_is_not_put_aside() {
    let place = Place::new();
    fs::write(place.path(), "garbage").expect("garbage");
    let file = fs::File::open(place.path()).expect("the file");
    let mut held = Command::new("sleep").arg("60").stdin(file).spawn().expect("a holder");
    let error = place.database().put_aside("broken").expect_err("held");
    let named = format!("process {} (sleep)", held.id());
    assert!(matches!(&error, Error::Busy { what } if what.contains(&named)), "{error:?}");
    assert_eq!(place.names(), ["db.sqlite3"]);
    held.kill().expect("ended");
    held.wait().expect("ended");
    place.database().put_aside("broken").expect("put aside");
    assert_eq!(place.names(), ["db.sqlite3.broken"]);
}

#[test]
fn a_healthy_database_is_told_with_its_page_size_and_mode() {
    let place = Place::new();
    drop(place.open(&format!("PRAGMA page_size=2048; PRAGMA journal_mode=WAL; {CLINIC}")));
    let condition = place.database().condition(NO_WAIT).expect("a condition");
    assert!(
        matches!(&condition, Condition::Healthy { page_size: 2048, journal_mode, .. } if journal_mode == "wal"),
        "{condition:?}"
    );
    assert_eq!(place.names(), ["db.sqlite3"]);
}

/// A database whose last commit is only in the log, and nobody who will take it over.
fn killed_writer() -> Place {
    let origin = Place::new();
    let writer = origin.open(&format!("PRAGMA journal_mode=WAL; {CLINIC} PRAGMA wal_checkpoint(TRUNCATE)"));
    writer.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO patient(first_name) VALUES('late')").expect("a row");
    let place = Place::new();
    for name in ["db.sqlite3", "db.sqlite3-wal"] {
        fs::copy(origin.folder.path().join(name), place.folder.path().join(name)).expect("a copy");
    }
    place
}

/// The `sqlite3` shell after some SQL, holding on until its input ends.
fn sqlite_shell(path: &Path, sql: &str) -> std::process::Child {
    use std::io::{BufRead, BufReader, Write};
    let mut shell = Command::new("sqlite3")
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the sqlite3 shell is installed");
    let input = shell.stdin.as_mut().expect("piped");
    writeln!(input, "{sql} SELECT 'ready';").expect("input");
    let mut line = String::new();
    BufReader::new(shell.stdout.as_mut().expect("piped")).read_line(&mut line).expect("output");
    assert_eq!(line.trim(), "ready");
    shell
}

// ---- records

/// Reads a table's file as a stranger would, and holds it against the summary.
fn read(folder: &Path, exported: &RecordsExport, name: &str) -> Vec<serde_json::Value> {
    let table = table(exported, name);
    let bytes = fs::read(folder.join(&table.file)).expect("a file");
    assert_eq!((bytes.len() as u64, format!("{:x}", Sha256::digest(&bytes))), (table.bytes, table.sha256.clone()));
    let text = String::from_utf8(bytes).expect("UTF-8");
    let records: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[lines.len() - 1], text.ends_with("]\n")), ("[", "]", true));
    assert_eq!((lines.len() as u64 - 2, records.len() as u64), (table.rows, table.rows), "one record a line");
    for (line, record) in lines[1..].iter().zip(&records) {
        let alone: serde_json::Value = serde_json::from_str(line.trim_end_matches(',')).expect("a record a line");
        assert_eq!(alone, *record);
    }
    records
}

fn table<'a>(exported: &'a RecordsExport, name: &str) -> &'a RecordTable {
    exported.tables.iter().find(|table| table.name == name).unwrap_or_else(|| panic!("no records `{name}`"))
}

fn exported(sql: &str, names: &[(&str, &str)]) -> (Place, PathBuf, RecordsExport) {
    let place = Place::new();
    drop(place.open(sql));
    place.captured();
    let (folder, exported) = place.export(names).expect("records");
    (place, folder, exported)
}

#[test]
fn a_record_is_an_object_a_line_under_the_configured_name() {
    let (_place, folder, exported) = exported(
        "CREATE TABLE clinic_patient(id INTEGER PRIMARY KEY, first_name, born, weight REAL);
         INSERT INTO clinic_patient VALUES(2, 'John', '1970-01-01', 81), (1, 'Jane \"J\" \\ Doe' || char(10), NULL, 0.1);
         CREATE TABLE empty(x);",
        &[("patients", "clinic_patient")],
    );
    let text = fs::read_to_string(folder.join("patients.json")).expect("a file");
    let expected = concat!(
        "[\n",
        r#"{"id":1,"first_name":"Jane \"J\" \\ Doe\n","born":null,"weight":0.1},"#,
        "\n",
        r#"{"id":2,"first_name":"John","born":"1970-01-01","weight":81.0}"#,
        "\n]\n"
    );
    assert_eq!(text, expected);
    let johns = read(&folder, &exported, "patients").into_iter().filter(|record| record["first_name"] == "John");
    assert_eq!(johns.count(), 1);
    assert_eq!(fs::read_to_string(folder.join("empty.json")).expect("a file"), "[\n]\n");
    assert_eq!(exported.rows, 2);
}

#[test]
fn files_are_private_and_the_summary_describes_each() {
    let (_place, folder, exported) = exported(&format!("{CLINIC} DELETE FROM patient WHERE id = 500"), &[]);
    assert_eq!(fs::metadata(&folder).expect("a folder").permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&folder).expect("a folder") {
        let mode = entry.expect("an entry").metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let bytes = fs::read(folder.join("backup_summary.json")).expect("the summary");
    assert_eq!(format!("{:x}", Sha256::digest(&bytes)), exported.summary.sha256);
    let summary: Summary = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!((summary.tables, summary.total_rows), (exported.tables.clone(), 999));
    assert_eq!((summary.app.as_str(), summary.format), ("clinic", 1));
    let patient = table(&exported, "patient");
    assert_eq!((patient.sequence, patient.order.as_slice()), (Some(500), ["id".to_owned()].as_slice()));
    assert_eq!(exported.skipped.keys().collect::<Vec<_>>(), ["sqlite_sequence"]);
}

#[test]
fn values_that_json_cannot_carry_are_tagged_and_read_back_equal() {
    let place = Place::new();
    let source = place.open("CREATE TABLE v(id INTEGER PRIMARY KEY, value)");
    let text = "žluťoučký 😀 \u{0} \u{1f} \u{7f} \u{2028} \"quoted\" \\ / \t\r\n".to_owned();
    let values = [
        (Value::Null, json!(null)),
        (Value::Integer(1 << 53), json!(9_007_199_254_740_992_i64)),
        (Value::Integer((1 << 53) + 1), json!({"$int": "9007199254740993"})),
        (Value::Integer(i64::MIN), json!({"$int": "-9223372036854775808"})),
        (Value::Real(1.0), json!(1.0)),
        (Value::Real(1e300), json!(1e300)),
        (Value::Real(5e-324), json!(5e-324)),
        (Value::Real(f64::INFINITY), json!({"$real": "inf"})),
        (Value::Real(f64::NEG_INFINITY), json!({"$real": "-inf"})),
        (Value::Text(text.clone()), json!(text)),
        (Value::Text(String::new()), json!("")),
        (Value::Blob(vec![0, 255, 1]), json!({"$blob": "AP8B"})),
        (Value::Blob(Vec::new()), json!({"$blob": ""})),
    ];
    for (value, _) in &values {
        source.execute("INSERT INTO v(value) VALUES(?1)", [value]).expect("a row");
    }
    source.execute("INSERT INTO v(value) VALUES(CAST(x'61ff62' AS TEXT))", []).expect("a row");
    drop(source);
    place.captured();
    let (folder, exported) = place.export(&[]).expect("records");
    let records = read(&folder, &exported, "v");
    for ((value, expected), record) in values.iter().zip(&records) {
        assert_eq!(record["value"], *expected, "{value:?}");
    }
    assert_eq!(records[values.len()]["value"], json!({"$text": "Yf9i"}));
    let lines = fs::read_to_string(folder.join("v.json")).expect("a file");
    assert!(lines.contains("{\"id\":5,\"value\":1.0}"), "a real looks like one");
}

#[test]
fn tables_with_odd_names_and_shapes_are_exported_whole() {
    let (_place, folder, exported) = exported(
        r#"CREATE TABLE "select"("from" INTEGER PRIMARY KEY, "a ""b""", "" TEXT);
           INSERT INTO "select" VALUES(1, 'x', 'no name');
           CREATE TABLE "a/b.csv"(x); INSERT INTO "a/b.csv" VALUES('first'), ('second');
           CREATE TABLE "../evil"(x PRIMARY KEY) WITHOUT ROWID; INSERT INTO "../evil" VALUES('b'), ('a');
           CREATE TABLE "quo""te's"(x); INSERT INTO "quo""te's" VALUES(1);
           CREATE TABLE composite(a TEXT, b INTEGER, c, PRIMARY KEY(b, a));
           INSERT INTO composite VALUES('x', 2, 0), ('y', 1, 0), ('x', 1, 0), (NULL, 1, 0), (NULL, 1, 1);
           CREATE TABLE generated(a INTEGER PRIMARY KEY, twice AS (a * 2), thrice AS (a * 3) STORED);
           INSERT INTO generated(a) VALUES(7);
           CREATE TABLE shadowed(rowid TEXT, oid TEXT, x); INSERT INTO shadowed VALUES('r', 'o', 1);
           CREATE TABLE taken("$rowid" TEXT); INSERT INTO taken VALUES('mine');
           CREATE TABLE none(rowid, oid, _rowid_); INSERT INTO none VALUES(1, 2, 3);
           CREATE VIEW looking AS SELECT * FROM composite;"#,
        &[],
    );
    assert_eq!(read(&folder, &exported, "select"), [json!({"from": 1, "a \"b\"": "x", "": "no name"})]);
    assert_eq!(
        read(&folder, &exported, "a/b.csv"),
        [json!({"$rowid": 1, "x": "first"}), json!({"$rowid": 2, "x": "second"})]
    );
    assert!(table(&exported, "a/b.csv").rowid && !table(&exported, "select").rowid);
    assert_eq!(read(&folder, &exported, "../evil"), [json!({"x": "a"}), json!({"x": "b"})]);
    assert_eq!(read(&folder, &exported, "quo\"te's"), [json!({"$rowid": 1, "x": 1})]);
    let order: Vec<_> =
        read(&folder, &exported, "composite").iter().map(|row| (row["b"].clone(), row["a"].clone())).collect();
    let null = serde_json::Value::Null;
    assert_eq!(
        order,
        [
            (json!(1), null.clone()),
            (json!(1), null),
            (json!(1), json!("x")),
            (json!(1), json!("y")),
            (json!(2), json!("x"))
        ]
    );
    assert_eq!(table(&exported, "composite").order, ["b", "a"]);
    assert_eq!(read(&folder, &exported, "generated"), [json!({"a": 7, "twice": 14, "thrice": 21})]);
    let generated: Vec<bool> = table(&exported, "generated").columns.iter().map(|column| column.generated).collect();
    assert_eq!(generated, [false, true, true]);
    assert_eq!(read(&folder, &exported, "shadowed"), [json!({"$rowid": 1, "rowid": "r", "oid": "o", "x": 1})]);
    assert_eq!(read(&folder, &exported, "taken"), [json!({"$rowid": "mine"})]);
    assert!(!table(&exported, "taken").rowid && !table(&exported, "none").rowid);
    assert_eq!(read(&folder, &exported, "none"), [json!({"rowid": 1, "oid": 2, "_rowid_": 3})]);
    assert_eq!(exported.tables.len(), 9);
    let escaped: Vec<_> = fs::read_dir(folder.parent().expect("a parent")).expect("a folder").collect();
    assert_eq!(escaped.len(), 2, "only the copy and the records lie there");
}

#[test]
fn virtual_tables_are_exported_as_rows_and_their_shadows_are_not() {
    let (_place, folder, exported) = exported(
        "CREATE VIRTUAL TABLE notes USING fts5(title, body); INSERT INTO notes VALUES('one', 'text'), ('two', 'more');
         CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1); INSERT INTO boxes VALUES(7, 0.5, 1.5);
         CREATE TABLE ordinary(a); ANALYZE;
         PRAGMA writable_schema=ON;
         INSERT INTO sqlite_schema VALUES('table', 'alien', 'alien', 0, 'CREATE VIRTUAL TABLE alien USING from_elsewhere(x)');",
        &[],
    );
    assert_eq!(read(&folder, &exported, "notes")[1], json!({"$rowid": 2, "title": "two", "body": "more"}));
    assert_eq!(read(&folder, &exported, "boxes"), [json!({"$rowid": 7, "id": 7, "x0": 0.5, "x1": 1.5})]);
    assert!(exported.skipped["alien"].contains("from_elsewhere"));
    assert!(exported.skipped["notes_content"].starts_with("shadow table"));
    assert!(exported.tables.iter().all(|table| ["notes", "boxes", "ordinary"].contains(&table.name.as_str())));
}

#[test]
fn a_database_with_virtual_tables_is_restored_whole() {
    let place = Place::new();
    let app = place.open(
        "PRAGMA journal_mode=WAL; CREATE VIRTUAL TABLE notes USING fts5(body); INSERT INTO notes VALUES('found');
         CREATE TABLE odd(\"\" TEXT, b BLOB); INSERT INTO odd VALUES('x', x'00ff');",
    );
    place.captured();
    app.execute_batch("DROP TABLE notes; DROP TABLE odd").expect("wrecked");
    place.restore().expect("a restore");
    let found: i64 =
        app.query_row("SELECT count(*) FROM notes WHERE notes MATCH 'found'", [], |row| row.get(0)).expect("a search");
    assert_eq!(found, 1);
}

#[test]
fn values_too_long_for_memory_stream_out_and_read_back_equal() {
    let place = Place::new();
    let source = place.open("CREATE TABLE long(name TEXT PRIMARY KEY, value, after)");
    let length = 33 * 1024 * 1024 + 1;
    let blob: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[at as usize % 3]).collect();
    let text = "a\"č😀\n".repeat(length as usize / 8);
    source.execute("INSERT INTO long VALUES('blob', ?1, 1)", [&blob]).expect("a row");
    source.execute("INSERT INTO long VALUES('text', ?1, 2)", [&text]).expect("a row");
    source.execute("INSERT INTO long VALUES('odd', CAST(?1 AS TEXT), 3)", [&blob]).expect("a row");
    source.execute("INSERT INTO long VALUES('short', 'x', 4)", []).expect("a row");
    drop(source);
    place.captured();
    let (folder, exported) = place.export(&[]).expect("records");
    let records: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(folder.join("long.json")).expect("a file")).expect("JSON");
    assert_eq!(exported.tables[0].rows, 4);
    let by_name: BTreeMap<&str, &serde_json::Value> =
        records.iter().map(|record| (record["name"].as_str().expect("a name"), record)).collect();
    let decoded = |value: &serde_json::Value| STANDARD.decode(value.as_str().expect("text")).expect("base64");
    assert!(decoded(&by_name["blob"]["value"]["$blob"]) == blob);
    assert!(decoded(&by_name["odd"]["value"]["$text"]) == blob);
    assert!(by_name["text"]["value"] == *text && by_name["text"]["after"] == 2);
    assert_eq!(by_name["short"]["value"], "x");
}

#[test]
fn a_value_that_cannot_stream_is_refused_by_name_and_leaves_no_file() {
    let place = Place::new();
    let source = place.open("CREATE TABLE long(name TEXT PRIMARY KEY, value) WITHOUT ROWID");
    source.execute("INSERT INTO long VALUES('blob', zeroblob(?1))", params![40 * 1024 * 1024]).expect("a row");
    drop(source);
    place.captured();
    let error = place.export(&[]).expect_err("too long");
    assert!(matches!(&error, Error::Unsupported { what } if what.contains("`value` of table `long`")), "{error:?}");
    assert!(!place.private.path().join("records").exists());
}

#[test]
fn a_record_name_for_a_table_that_is_not_there_is_refused_before_anything_is_written() {
    let place = Place::new();
    drop(place.open(CLINIC));
    place.captured();
    let error = place.export(&[("patients", "pateint")]).expect_err("unknown");
    assert!(matches!(&error, Error::Usage { hint: Some(hint), .. } if hint.contains("`patient`")), "{error:?}");
    assert!(!place.private.path().join("records").exists());
}

#[test]
fn a_url_as_django_writes_it_names_the_database() {
    let place = Place::new();
    let url = format!("sqlite:///{}", place.path().display());
    let Ok(Database::Sqlite(database)) = Database::parse(&url, &Surroundings::folder(Path::new("/"))) else {
        panic!("{url} is a file")
    };
    assert_eq!(database.path(), place.path());
    assert_eq!(Database::Sqlite(database).location(), url);
}
