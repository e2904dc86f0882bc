//! Old dumps of PostgreSQL become points where they lie, and know of themselves what a backup would have known.

use nexus_testkit::postgres::{Database, Server, majors};
use serde_json::Value;

use crate::app::App;
use crate::postgres::{DEBIAN, app};

const KEY: &str = "backup/database/clinic_postgres_backup_20251115_063849.dump";
const ID: &str = "adopted_20251115_063849";

/// A dump as a script would have made one, in the vault's place.
async fn leave(app: &App, server: &Server, database: &str, words: &[&str]) -> Vec<u8> {
    let dumped = server.program("pg_dump").arg("-Fc").args(words).args(["-d", database]).output().expect("pg_dump");
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    app.put(KEY, &dumped.stdout).await;
    dumped.stdout
}

fn database_of(app: &App, id: &str) -> Value {
    app.run(&["show", id, "--json"]).ends_with(0).json()["manifest"]["parts"]["database"].clone()
}

/// What a dump says of its database, less what only its server knows.
fn known(part: &Value) -> (Value, Value) {
    let mut facts = part["postgres"].clone();
    let facts = facts.as_object_mut().expect("facts");
    for unknown in ["size", "compression", "globals", "lacks", "client"] {
        facts.remove(unknown);
    }
    for extension in facts["extensions"].as_array_mut().expect("a list") {
        extension["version"] = Value::Null;
    }
    // The language that every database has is in no dump.
    facts["extensions"].as_array_mut().expect("a list").retain(|extension| extension["name"] != "plpgsql");
    (part["tables"].clone(), Value::Object(facts.clone()))
}

#[tokio::test]
async fn an_old_dump_of_everything_becomes_a_point_that_knows_what_a_backup_knows() {
    for major in majors() {
        let server = Server::shared(major);
        let (database, _, _) = Database::with_everything(&server);
        let (_service, app) = app(&database.url(), major).await;
        let before = database.digest();
        let body = leave(&app, &server, &database.name, &[]).await;
        app.run(&["adopt", "--yes"]).ends_with(0);
        let own = app.back_up(&[]);
        let (tables, facts) = known(&database_of(&app, ID));
        let (own_tables, own_facts) = known(&database_of(&app, &own));
        assert_eq!(facts, own_facts, "PostgreSQL {major}");
        assert_eq!(tables, own_tables, "PostgreSQL {major}");
        app.run(&["verify", ID]).ends_with(0);
        app.run(&["drill", ID]).ends_with(0);
        database.sql("drop schema public cascade");
        app.restore(&[ID]);
        assert_eq!(database.digest(), before, "PostgreSQL {major}");
        server.sql("postgres", &format!("drop database {} with (force)", database.name));
        app.restore(&[ID]);
        assert_eq!(database.digest(), before, "PostgreSQL {major}");
        assert!(app.vault().await.values().any(|stored| *stored == body), "the dump was changed");
    }
}

#[tokio::test]
async fn rows_are_counted_whatever_they_and_their_tables_are_called() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(
        "create table \"COPY public.t (a) FROM stdin;\" (\"a\nb\" text);
         insert into \"COPY public.t (a) FROM stdin;\" values (E'\\\\.'), (E'x\ny'), ('COPY public.t (a) FROM stdin;'), (null), ('');
         create table t (a text); insert into t select repeat('long ', 500000);
         create table \"line\nbreak\" (a int); insert into \"line\nbreak\" select generate_series(1, 1000);
         create table parted (at date) partition by range (at);
         create table kept (at date) partition by range (at);
         create table kept_2025 partition of kept for values from ('2025-01-01') to ('2026-01-01');
         insert into kept values ('2025-06-01'), ('2025-07-01');
         create table empty (a int); create table bare (); insert into bare default values;
         select lo_from_bytea(0, 'large'), lo_from_bytea(0, '')",
    );
    let (_service, app) = app(&database.url(), DEBIAN).await;
    for (stamp, words) in [("20251115_063849", &[][..]), ("20251116_063849", &["-Z0"]), ("20251117_063849", &["-Z9"])] {
        let body = leave(&app, &server, &database.name, words).await;
        app.put(&KEY.replace("20251115_063849", stamp), &body).await;
    }
    let adopted = app.run(&["adopt", "--yes", "--json"]).ends_with(0).json();
    assert_eq!(adopted["adopted"].as_array().map(Vec::len), Some(3), "{adopted}");
    let own = database_of(&app, &app.back_up(&[]));
    for stamp in ["20251115", "20251116", "20251117"] {
        let part = database_of(&app, &format!("adopted_{stamp}_063849"));
        assert_eq!(part["tables"], own["tables"]);
        assert_eq!(part["postgres"]["large_objects"], 2);
    }
    app.run(&["drill", "adopted_20251115_063849"]).ends_with(0);
}

#[tokio::test]
async fn a_dump_that_is_cut_or_none_is_left_and_named() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table t as select n, md5(n::text) from generate_series(1, 20000) n");
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let whole = leave(&app, &server, &database.name, &[]).await;
    let left = |why: &str| {
        let told = app.run(&["adopt", "--yes", "--json"]).ends_with(0).json();
        assert_eq!(told["points"], serde_json::json!([]), "{why}: {told}");
        let named = told["left"].as_array().expect("a list").iter().any(|one| {
            one[0].as_str().is_some_and(|name| name.contains("063849"))
                && one[1].as_str().is_some_and(|said| said.contains(why))
        });
        assert!(named, "{why}: {told}");
    };
    for cut in [0, 3, 11, 40, 400, 2000, whole.len() / 2, whole.len() - 1] {
        app.put(KEY, &whole[..cut.min(whole.len() - 1)]).await;
        left("unfinished");
    }
    let mut damaged = whole.clone();
    let middle = whole.len() * 2 / 3;
    damaged[middle..middle + 64].fill(0xff);
    app.put(KEY, &damaged).await;
    left("unfinished");
    app.put(KEY, b"SQLite format 3\0 and more").await;
    left("no dump in pg_dump's custom format");
    let inserts = leave(&app, &server, &database.name, &["--inserts"]).await;
    left("are statements");
    app.put(KEY, &inserts[..0]).await;
    // Whole files, and not the whole database.
    for (words, why) in [
        (&["--schema-only"][..], "without the rows of t"),
        (&["--data-only"], "it holds no table"),
        (&["--exclude-table-data=t"], "without the rows of t"),
    ] {
        leave(&app, &server, &database.name, words).await;
        left(why);
    }
    app.put(&KEY.replace("clinic_", "other_"), &whole).await;
    left("it may be another app's");
    app.delete(KEY).await;
    // Of another kind than the database that it would go back to.
    app.put(KEY, &whole).await;
    let told = app.run(&["adopt", "--yes", "--json", "--database", "sqlite:////srv/clinic.db"]).ends_with(0).json();
    assert!(told["left"].to_string().contains("a dump of PostgreSQL, and the database is SQLite"), "{told}");
    // Without a program that reads it nothing is decided: the header of a dump of a release that is none yet.
    let mut newer = whole.clone();
    // A text stands behind its length, five bytes: first the server's version, then that of pg_dump.
    let texts: Vec<usize> = (6..200).filter(|at| newer[*at..].starts_with(b"15.") && newer[*at - 1] == 0).collect();
    assert_eq!(texts.len(), 2, "the versions of the server and of pg_dump");
    newer[texts[1]..][..2].copy_from_slice(b"99");
    app.put(KEY, &newer).await;
    app.run(&["adopt", "--yes"]).refuses(2, "postgresql-client-99");
}
