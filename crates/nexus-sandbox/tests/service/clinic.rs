//! Clinic-sized data: its counts, its references, its sameness.

use std::collections::BTreeSet;
use std::path::Path;

use nexus_sandbox::clinic::{Clinic, ClinicSize, make};
use nexus_sandbox::{Service, ServiceOptions, Store};
use rusqlite::Connection;

fn clinic(size: &ClinicSize, folder: &Path) -> (Clinic, Service) {
    let service = Service::start(ServiceOptions::default()).expect("a free port");
    service.store().create_bucket("clinic");
    let made = make(size, &folder.join("db.sqlite3"), &service.store(), "clinic").expect("a clinic");
    (made, service)
}

fn texts(connection: &Connection, query: &str) -> Vec<String> {
    let mut statement = connection.prepare(query).expect("a query");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("a text")).collect()
}

fn count(connection: &Connection, table: &str) -> u64 {
    let query = format!("SELECT count(*) FROM {table}");
    let rows: i64 = connection.query_row(&query, [], |row| row.get(0)).expect("a count");
    u64::try_from(rows).expect("a count")
}

fn assert_references(made: &Clinic, connection: &Connection, store: &Store) {
    let files = texts(connection, "SELECT file FROM clinic_document UNION ALL SELECT file FROM clinic_image");
    let named: BTreeSet<_> = files.iter().cloned().collect();
    assert_eq!(named.len(), files.len(), "every row has a file of its own");
    let kept: BTreeSet<_> = store.keys("clinic", "").into_iter().collect();
    assert_eq!(kept.len() as u64, made.objects);
    assert_eq!(named.difference(&kept).count() as u64, made.dangling);
    assert_eq!(kept.difference(&named).count() as u64, made.orphaned);
}

#[test]
fn the_default_clinic_has_the_counts_of_the_real_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let size = ClinicSize::default();
    let (made, service) = clinic(&size, folder.path());
    let connection = Connection::open(&made.database).expect("a database");
    assert_eq!(count(&connection, "clinic_patient"), 2_842);
    assert_eq!(count(&connection, "clinic_document"), 10_190);
    assert_eq!(count(&connection, "clinic_image"), 6_574);
    assert_eq!(count(&connection, "clinic_imagebatch"), 1_701);
    assert_eq!((made.objects, made.document_objects), (17_541, 9_432));
    assert_references(&made, &connection, &service.store());
    assert!((50_000_000..60_000_000).contains(&made.database_bytes), "{made:?}");
    assert!((50_000_000..100_000_000).contains(&made.object_bytes), "{made:?}");
    assert_eq!(texts(&connection, "PRAGMA integrity_check"), ["ok"]);
    assert_eq!(texts(&connection, "SELECT \"table\" FROM pragma_foreign_key_check").len(), 0);
}

#[test]
fn equal_seeds_make_equal_clinics() {
    let size = ClinicSize::small();
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let [one, other] = folders.each_ref().map(|folder| clinic(&size, folder.path()));
    let connection = Connection::open(&one.0.database).expect("a database");
    assert_references(&one.0, &connection, &one.1.store());
    let bytes = |made: &Clinic| std::fs::read(&made.database).expect("a file");
    assert!(bytes(&one.0) == bytes(&other.0));
    let (one, other) = (one.1.store(), other.1.store());
    assert_eq!(one.keys("clinic", ""), other.keys("clinic", ""));
    for key in one.keys("clinic", "") {
        let etag = |store: &Store| store.get("clinic", &key).map(|object| object.etag.clone());
        assert_eq!(etag(&one), etag(&other));
    }
}

#[test]
fn a_clinic_is_not_made_over_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let (made, service) = clinic(&ClinicSize::small(), folder.path());
    let again = make(&ClinicSize::small(), &made.database, &service.store(), "clinic");
    assert!(again.expect_err("a refusal").to_string().contains("db.sqlite3"));
}
