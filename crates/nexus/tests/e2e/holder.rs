//! A database that another process holds open: it sees the restored rows, or the restore refuses and says who holds it.

use nexus_testkit::digest;
use nexus_testkit::services::seaweedfs;
use nexus_testkit::wal::Holder;
use serde_json::json;

use crate::app::App;

const NAMES: &str = "SELECT first_name FROM clinic_patient ORDER BY id";

#[tokio::test]
async fn an_application_that_holds_the_database_open_in_wal_mode_sees_the_restored_rows() {
    let app = App::clinic(seaweedfs()).await;
    let before = digest::database(&app.database);
    app.back_up(&[]);
    let mut holder = Holder::open(&app.database);
    holder.query("UPDATE clinic_patient SET first_name = 'wrecked'");
    holder.query("DROP TABLE visit");
    app.restore(&["latest", "--only", "database"]);
    assert_eq!(holder.query(NAMES), json!([["John"], ["Zoë"], ["John"]]));
    assert_eq!(holder.query("SELECT count(*) FROM visit"), json!([[2]]));
    holder.query("PRAGMA wal_checkpoint(TRUNCATE)");
    assert_eq!(digest::database(&app.database), before);
    drop(holder);
    assert_eq!(digest::database(&app.database), before);
}

#[tokio::test]
async fn a_reader_in_the_middle_of_a_transaction_sees_the_restored_rows_in_its_next() {
    let app = App::clinic(seaweedfs()).await;
    app.back_up(&[]);
    app.sql("UPDATE clinic_patient SET first_name = 'wrecked'");
    let mut holder = Holder::open(&app.database);
    holder.query("BEGIN");
    assert_eq!(holder.query(NAMES), json!([["wrecked"], ["wrecked"], ["wrecked"]]));
    let ended = app.run(&["restore", "latest", "--only", "database", "--yes"]);
    let refused = ended.status == Some(2);
    assert!(refused || ended.status == Some(0), "{ended:?}");
    holder.query("COMMIT");
    let wanted =
        if refused { json!([["wrecked"], ["wrecked"], ["wrecked"]]) } else { json!([["John"], ["Zoë"], ["John"]]) };
    assert_eq!(holder.query(NAMES), wanted);
}

#[tokio::test]
async fn a_database_in_a_writers_transaction_is_refused_and_the_writer_keeps_its_work() {
    let app = App::clinic(seaweedfs()).await;
    let before = digest::database(&app.database);
    app.back_up(&[]);
    app.sql("UPDATE clinic_patient SET first_name = 'wrecked'");
    let mut holder = Holder::open(&app.database);
    holder.query("BEGIN IMMEDIATE");
    holder.query("INSERT INTO clinic_patient (first_name) VALUES ('theirs')");
    let ended = app.run(&["restore", "latest", "--only", "database", "--yes"]).refuses(2, "db.sqlite3");
    assert!(ended.err.contains("python"), "the holder is not named:\n{}", ended.err);
    holder.query("COMMIT");
    assert_eq!(holder.query("SELECT count(*) FROM clinic_patient WHERE first_name = 'theirs'"), json!([[1]]));
    app.restore(&["latest", "--only", "database"]);
    assert_eq!(holder.query(NAMES), json!([["John"], ["Zoë"], ["John"]]));
    drop(holder);
    assert_eq!(digest::database(&app.database), before);
    app.assert_no_litter();
}
