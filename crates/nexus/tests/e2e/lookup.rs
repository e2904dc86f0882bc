//! One thing of a point without restoring it: `get`, `find`, `history`.

use nexus_sandbox::Service;
use nexus_testkit::postgres::{Database, Server};
use nexus_testkit::services::{Endpoint, ministack, seaweedfs};
use serde_json::Value;

use crate::app::{App, Ended, sandbox};
use crate::postgres_backup;

/// Rows of the large table.
const ROWS: u64 = 50_000;
const DEBIAN: u32 = 15;

/// A clinic with a table that is worth an index.
async fn clinic() -> (Service, App) {
    let (service, endpoint) = sandbox();
    (service, clinic_on(endpoint).await)
}

async fn clinic_on(endpoint: Endpoint) -> App {
    let app = App::clinic(endpoint).await;
    app.sql(&format!(
        "CREATE TABLE document (id INTEGER PRIMARY KEY, file TEXT, title TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
         INSERT INTO document SELECT i, 'documents/' || i || '.pdf', 'the title of document ' || i FROM n;"
    ));
    app
}

fn forget_local(app: &App) {
    std::fs::remove_dir_all(app.path("backups")).expect("records here");
}

fn lines(ended: &Ended) -> Vec<Value> {
    ended.out.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

#[tokio::test]
async fn a_record_of_a_large_table_is_got_by_a_few_requests() {
    let (service, app) = clinic().await;
    let id = app.back_up(&[]);
    forget_local(&app);
    service.reset_counts();
    let told = app.run(&["get", "--table", "document", "--pk", "31007", "--json"]).ends_with(0).json();
    assert_eq!(told["record"]["title"], "the title of document 31007", "{told}");
    assert_eq!((&told["point"], &told["key"]), (&Value::from(id.as_str()), &Value::from("id=31007")));
    let ranged = service.log().iter().filter(|line| line.contains("/records/")).count() as u64;
    assert!(ranged < 10 && told["cost"]["requests"] == ranged, "{told}: {:?}", service.log());
    assert!(told["cost"]["bytes"].as_u64().expect("a number") < 300_000, "{told}");
    let shown = app.run(&["get", "--table", "document", "--pk", "31007"]).ends_with(0);
    assert!(shown.out.contains("title  the title of document 31007"), "{}", shown.out);
    // By the record's name and the table's own.
    for table in ["patients", "clinic_patient"] {
        let told = app.run(&["get", "--table", table, "--pk", "2", "--json"]).ends_with(0).json();
        assert_eq!(told["record"]["first_name"], "Zoë");
    }
    let none = app.run(&["get", "--table", "document", "--pk", "0", "--json"]).ends_with(1).says("no record");
    assert_eq!(none.json()["record"], Value::Null);
    app.run(&["get", "--table", "docment", "--pk", "1"]).refuses(2, "no records of a table").says("`document`");
    app.run(&["get", "--table", "document", "--pk", "one"]).refuses(2, "is no integer");
    app.run(&["get", "--table", "document", "--pk", "idd=1"]).refuses(2, "is no integer");
    app.run(&["get", "--table", "document", "--pk", "1", "--point", "nothing"]).ends_with(2).says("holds no point");
    app.assert_no_litter();
}

#[tokio::test]
async fn other_services_and_a_folder_give_pieces_of_records_too() {
    for endpoint in [seaweedfs(), ministack()] {
        let app = clinic_on(endpoint).await;
        app.back_up(&[]);
        app.run(&["copy", "--to-vault", "other"]).ends_with(0);
        forget_local(&app);
        for more in [&[][..], &["--vault", "other"]] {
            let words = [&["get", "--table", "document", "--pk", "50000", "--json"], more].concat();
            let told = app.run(&words).ends_with(0).json();
            assert_eq!(
                (&told["record"]["id"], &told["cost"]["requests"]),
                (&Value::from(ROWS), &Value::from(3)),
                "{told}"
            );
        }
    }
}

#[tokio::test]
async fn values_of_every_kind_come_back_as_they_are() {
    let (_service, app) = clinic().await;
    let long = "ž\"\\\n".repeat(2_500_000);
    let connection = rusqlite::Connection::open(&app.database).expect("a database");
    connection
        .execute(
            "INSERT INTO document VALUES (-5, ?1, 'a' || char(10) || char(27) || '[31m' || char(0x202e) || '\"')",
            [&long],
        )
        .expect("a row");
    drop(connection);
    app.back_up(&[]);
    forget_local(&app);
    let told = app.run(&["get", "--table", "document", "--pk", "-5", "--json"]).ends_with(0).json();
    assert_eq!(told["record"]["file"], long.as_str());
    assert_eq!(told["record"]["title"], "a\n\u{1b}[31m\u{202e}\"");
    let shown = app.run(&["get", "--table", "document", "--pk", "-5"]).ends_with(0);
    assert!(shown.out.len() < 20_000 && !shown.out.contains('\u{1b}') && !shown.out.contains('\u{202e}'));
    let found = app.run(&["find", "document", "id<0"]).ends_with(0);
    assert_eq!(lines(&found)[0]["file"], long.as_str());
    let seen = app.run(&["history", "document", "-5", "--json"]).ends_with(0).json();
    assert_eq!(seen["states"][0]["record"]["file"], long.as_str());
    app.assert_no_litter();
}

#[tokio::test]
async fn a_file_comes_whole_and_checked_or_not_at_all() {
    let (_service, app) = clinic().await;
    app.back_up(&[]);
    let id = app.back_up(&[]);
    let key = "documents/2024/report +1 (copy).pdf";
    // Its copy lies in the point before.
    let piped = app.run(&["get", key]).ends_with(0);
    assert_eq!(piped.out, "a report");
    let told = app.run(&["get", key, "-o", "got.pdf", "--json"]).ends_with(0).json();
    assert_eq!((&told["point"], &told["bytes"]), (&Value::from(id.as_str()), &Value::from(8)));
    assert_eq!(std::fs::read(app.path("got.pdf")).expect("a file"), b"a report");
    app.run(&["get", key, "-o", "got.pdf"]).refuses(2, "is there already");
    app.run(&["get", key, "-o", "newdir/"]).refuses(2, "there is no folder");
    assert!(!app.path("newdir").exists());
    app.run(&["get", "notes-2/x", "-o", "tmp"]).ends_with(0);
    assert_eq!(std::fs::read(app.path("tmp/x")).expect("a file"), b"deeper");
    std::fs::remove_file(app.path("tmp/x")).expect("a file");
    assert_eq!(app.run(&["get", "images/a.jpg", "-o", "-"]).ends_with(0).out, "a picture");
    app.run(&["get", "images/a.jpg", "--json"]).refuses(2, "stdout cannot hold both");
    app.run(&["get", "images/A.jpg"]).refuses(2, "has no file").says("`images/a.jpg`");
    app.run(&["get", "images/a.jpg", "-o", "nowhere/a.jpg"]).ends_with(2).says("nowhere");
    let shown = app.run(&["show", "--json"]).ends_with(0).json();
    let base = shown["manifest"]["base"].as_str().expect("a base").to_owned();
    app.put(&format!("backup/{base}/documents/{key}"), b"a repozt").await;
    let ended = app.run(&["get", key]).ends_with(1).says("other bytes");
    assert_eq!(ended.out, "", "what is damaged was given");
    app.run(&["get", key, "-o", "harmed.pdf"]).ends_with(1).says("other bytes");
    assert!(!app.path("harmed.pdf").exists());
    app.assert_no_litter();
}

#[tokio::test]
async fn records_that_fit_are_found_in_one_point_or_in_all() {
    let (_service, app) = clinic().await;
    app.back_up(&[]);
    app.sql("UPDATE clinic_patient SET first_name = 'Jane' WHERE id = 3");
    app.back_up(&[]);
    forget_local(&app);
    let found = app.run(&["find", "patients", "first_name=John"]).ends_with(0);
    assert_eq!(lines(&found).iter().map(|record| record["id"].as_u64()).collect::<Vec<_>>(), [Some(1)]);
    let found = app.run(&["find", "patients", "first_name=John", "--all", "--json"]).ends_with(0).json();
    let counts: Vec<_> =
        found["points"].as_array().expect("points").iter().map(|point| &point["tables"][0]["found"]).collect();
    assert_eq!((counts, &found["found"]), (vec![&Value::from(2), &Value::from(1)], &Value::from(3)));
    assert_eq!(found["points"][0]["tables"][0]["records"].as_array().map(Vec::len), Some(2), "{found}");
    let found = app.run(&["find", "patients", "first_name=John", "--all"]).ends_with(0);
    assert!(
        found.out.lines().count() == 3 && found.out.lines().all(|line| line.contains("\t{\"id\":")),
        "{}",
        found.out
    );
    let found = app.run(&["find", "patients", "weight", "is", "not", "null", "weight>70"]).ends_with(0);
    assert_eq!(lines(&found).len(), 1);
    let found = app.run(&["find", "document", "title~ 4999[0-9]$", "--count", "--json"]).ends_with(0).json();
    assert_eq!((&found["found"], &found["points"][0]["tables"][0]["rows"]), (&Value::from(10), &Value::from(ROWS)));
    let found = app.run(&["find", "patients,visit", "id=1", "--json"]).ends_with(0).json();
    assert_eq!(found["points"][0]["tables"].as_array().map(Vec::len), Some(2), "{found}");
    let none = app.run(&["find", "patients", "first_name=Nobody", "--json"]).ends_with(0).json();
    assert_eq!(
        (&none["found"], &none["points"][0]["tables"][0]["records"]),
        (&Value::from(0), &Value::from(Vec::<Value>::new()))
    );
    app.run(&["find", "patients", "first_nam=John"]).refuses(2, "no column").says("`first_name`");
    app.run(&["find", "patients", "first_name~("]).refuses(2, "no regular expression");
    app.run(&["find", "patients", "first_name==John"]).refuses(2, "no sign").says("first_name=John");
    app.run(&["find", "document", "id=abc"]).refuses(2, "is no number");
    app.run(&["find", ","]).refuses(2, "names no table");
    let found = app.run(&["find", "patients", "first_name = Jane"]).ends_with(0);
    assert_eq!(lines(&found).len(), 1);
    app.run(&["find", "patients", "first_name"]).refuses(2, "is no condition");
    app.run(&["find", "pacients"]).refuses(2, "no records of a table");
    app.run(&["find", "pacients", "--all"]).refuses(2, "no records of a table");
    // A point that is damaged is left out; one alone is an error, and nothing else is said.
    let damaged = found_points(&app)[1].clone();
    app.put(&format!("backup/{damaged}/records/document.json"), b"[\n]\n").await;
    let told = app.run(&["find", "patients,document", "id=1", "--all", "--json"]).ends_with(1).json();
    assert_eq!(told["left_out"][0]["damaged"], true, "{told}");
    assert_eq!(told["points"][0]["tables"].as_array().map(Vec::len), Some(1), "{told}");
    let told = app.run(&["find", "document", "id=1", "--point", &damaged, "--json"]).ends_with(1).json();
    assert_eq!(told["error"]["exit_status"], 1, "{told}");
    // Several searches in a row through a pipe that closes are no failure.
    let piped = app.shell(&format!("{} find document 2>/dev/null | head -1", env!("CARGO_BIN_EXE_nexus"))).ends_with(0);
    assert_eq!(lines(&piped).len(), 1);
    app.assert_no_litter();
}

fn found_points(app: &App) -> Vec<String> {
    app.points().into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn a_record_over_all_points_shows_what_changed_when() {
    let (service, app) = clinic().await;
    let mut ids = vec![app.back_up(&[])];
    for change in [
        "UPDATE document SET title = 'another' WHERE id = 40000",
        "UPDATE document SET title = 'not this one' WHERE id = 1",
        "DELETE FROM document WHERE id = 40000",
    ] {
        app.sql(change);
        ids.push(app.back_up(&[]));
    }
    forget_local(&app);
    app.back_up(&["--only", "database,files"]);
    service.reset_counts();
    let told = app.run(&["history", "document", "40000", "--json"]).ends_with(0).json();
    let states = told["states"].as_array().expect("states");
    let spans: Vec<_> = states.iter().map(|state| (&state["first"]["point"], &state["last"]["point"])).collect();
    let id = |at: usize| Value::from(ids[at].as_str());
    assert_eq!(spans, [(&id(0), &id(0)), (&id(1), &id(2)), (&id(3), &id(3))]);
    assert_eq!(
        states[1]["changes"],
        serde_json::json!([{"column": "title", "before": "the title of document 40000", "after": "another"}])
    );
    assert_eq!((&states[2]["record"], &told["points"]), (&Value::Null, &Value::from(4)));
    assert_eq!(told["left_out"].as_array().map(Vec::len), Some(1), "{told}");
    let ranged = service.log().iter().filter(|line| line.contains("/records/")).count();
    assert!(ranged <= 12, "{ranged}: {told}");
    // The files that a record names, as they were then.
    app.sql("INSERT INTO document VALUES (60000, 'images/a.jpg', 'one with a file')");
    let first = app.back_up(&[]);
    app.put("images/a.jpg", b"one between").await;
    let middle = app.back_up(&[]);
    app.put("images/a.jpg", b"another picture by now").await;
    let last = app.back_up(&[]);
    let told = app.run(&["history", "document", "60000", "--files", "--json"]).ends_with(0).json();
    let files = told["states"][0]["files"].as_array().expect("files");
    let seen: Vec<_> = files.iter().map(|file| (&file["point"], &file["bytes"], &file["column"])).collect();
    let column = Value::from("file");
    let versions =
        [(first, 9), (middle, 11), (last, 22)].map(|(point, bytes)| (Value::from(point), Value::from(bytes)));
    let wanted: Vec<_> = versions.iter().map(|(point, bytes)| (point, bytes, &column)).collect();
    assert_eq!(seen, wanted, "{told}");
    // A listing that is damaged leaves one point out.
    let middle = files[1]["point"].as_str().expect("a point");
    app.put(&format!("backup/{middle}/files.jsonl.zst"), b"no listing").await;
    let told = app.run(&["history", "document", "60000", "--files", "--json"]).ends_with(1).json();
    assert_eq!(told["states"][0]["files"].as_array().map(Vec::len), Some(2), "{told}");
    let shown = app.run(&["history", "document", "40000"]).ends_with(0);
    assert!(shown.out.contains("title  the title of document 40000 → another"), "{}", shown.out);
    app.run(&["history", "document", "0"]).ends_with(1).says("no point has a record");
    app.run(&["history", "docment", "1"]).refuses(2, "no records of a table");
    app.put(&format!("backup/{}/records/document.json", ids[1]), b"[\n]\n").await;
    let told = app.run(&["history", "document", "40000", "--json"]).ends_with(1).says("was left out").json();
    assert_eq!((told["states"].as_array().map(Vec::len), &told["points"]), (Some(3), &Value::from(6)), "{told}");
}

#[tokio::test]
async fn the_index_is_part_of_the_point_and_no_restore_needs_it() {
    let (_service, app) = clinic().await;
    let id = app.back_up(&[]);
    let shown = app.run(&["show", "--json"]).ends_with(0).json();
    let tables = shown["manifest"]["parts"]["records"]["tables"].as_array().expect("tables");
    let with = |name: &str| tables.iter().find(|table| table["name"] == name).expect("a table")["index"].clone();
    assert!(with("document")["bytes"].as_u64().is_some() && with("patients").is_null(), "{shown}");
    assert!(app.path(&format!("backups/{id}/document.index")).is_file());
    app.run(&["drill", "--only", "records"]).ends_with(0);
    // A copy in another vault has it.
    app.run(&["copy", "--to-vault", "other"]).ends_with(0);
    forget_local(&app);
    let told = app.run(&["get", "--table", "document", "--pk", "7", "--json", "--vault", "other"]).ends_with(0).json();
    assert!(told["cost"]["bytes"].as_u64().expect("a number") < 300_000, "{told}");
    let key = format!("backup/{id}/records/document.index");
    let mut index = nexus_testkit::bucket::object(&app.client, &app.bucket, &key).await;
    index[70_000] ^= 1;
    app.put(&key, &index).await;
    let found = app.run(&["verify"]).ends_with(1);
    assert!(found.out.contains("document.index"), "{}", found.out);
    // The point stays the one that restores and lookups take, and a copy is made without it.
    let told = app.run(&["get", "--table", "patients", "--pk", "2", "--json"]).ends_with(0).json();
    assert_eq!(told["point"], id.as_str());
    app.run(&["copy", "--to-vault", "third"]).ends_with(0).says("without this index");
    app.run(&["drill", "--vault", "third"]).ends_with(0);
    let told = app.run(&["get", "--table", "document", "--pk", "7", "--json", "--vault", "third"]).ends_with(0).json();
    assert_eq!(told["record"]["id"], 7);
    app.restore(&[&id, "--only", "records", "--to-records", "then"]);
    assert!(app.path("then/document.json").is_file() && !app.path("then/document.index").exists());
    app.delete(&key).await;
    let found = app.run(&["verify", &id]).ends_with(1);
    assert!(found.out.contains("document.index"), "{}", found.out);
    app.sql("DELETE FROM document WHERE id > 100");
    app.run(&["restore", &id, "--table", "document", "--yes"]).ends_with(0);
    let told = app.run(&["get", "--table", "document", "--pk", "49999", "--point", &id, "--json"]).ends_with(0);
    assert_eq!(told.says("the index of document").json()["record"]["id"], 49_999);
}

#[tokio::test]
async fn records_that_expired_or_are_elsewhere_are_said_to_be_so() {
    let (_service, app) = clinic().await;
    let old = app.back_up(&[]);
    app.back_up(&[]);
    app.run(&["prune", "--yes", "--keep-records", "1s", "--keep-last", "1"]).ends_with(0);
    assert!(!app.path(&format!("backups/{old}")).exists(), "its index is left");
    for words in
        [&["get", "--table", "document", "--pk", "1", "--point", &old][..], &["find", "document", "--point", &old]]
    {
        app.run(words).refuses(2, "expired");
    }
    let told = app.run(&["history", "document", "1", "--json"]).ends_with(0).json();
    assert_eq!((&told["points"], told["left_out"].as_array().map(Vec::len)), (&Value::from(1), Some(1)), "{told}");
    app.run(&["history", "document", "0"]).ends_with(2).says("1 could not be asked");
    let id = app.back_up(&["--only", "database"]);
    app.run(&["find", "document", "--point", &id]).ends_with(2).says("has no records");
    let config = std::fs::read_to_string(app.path("nexus.toml")).expect("it");
    app.write("nexus.toml", &config.replace("folder = \"backups\"", "folder = \"backups\"\nvault = false"));
    let id = app.back_up(&[]);
    let found = app.run(&["get", "--table", "document", "--pk", "40000", "--json"]).ends_with(0).json();
    assert_eq!((&found["point"], &found["cost"]["requests"]), (&Value::from(id.as_str()), &Value::from(0)));
    forget_local(&app);
    app.run(&["get", "--table", "document", "--pk", "40000", "--point", &id])
        .ends_with(2)
        .says("on the machine that made it");
}

#[tokio::test]
async fn records_of_an_older_tool_are_searched_as_they_are() {
    let (_service, endpoint) = sandbox();
    let app = App::clinic(endpoint).await;
    app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let database = std::fs::read(&app.database).expect("a database");
    app.put("backup/database/nexus_sqlite_backup_20251115_063849.db", &database).await;
    std::fs::create_dir_all(app.path("backups/reimport_20251115_064233")).expect("room");
    app.write(
        "backups/reimport_20251115_064233/patients.json",
        "[\n  {\n    \"id\": 1,\n    \"name\": \"John\",\n    \"tags\": [\"a\", \"b\"]\n  },\n  {\"name\": \"Zoë\", \"id\": 2}\n]\n",
    );
    app.run(&["adopt", "--local", "backups", "--name", "nexus", "--yes"]).ends_with(0);
    let points = app.run(&["list", "--json"]).ends_with(0).json();
    let id = points["points"][0]["id"].as_str().expect("a point").to_owned();
    let found = app.run(&["find", "patients", "id=2", "--point", &id]).ends_with(0);
    assert_eq!(found.out, "{\"name\":\"Zoë\",\"id\":2}\n");
    let found = app.run(&["find", "patients", "tags is null", "--point", &id]).ends_with(0);
    assert_eq!(lines(&found).len(), 1);
    let told = app.run(&["get", "--table", "patients", "--pk", "id=1", "--point", &id, "--json"]).ends_with(0).json();
    assert_eq!(told["record"]["tags"], serde_json::json!(["a", "b"]));
    app.run(&["get", "--table", "patients", "--pk", "1", "--point", &id]).refuses(2, "nothing says what the key");
    // A point of today knows the key.
    app.back_up(&[]);
    let told = app.run(&["history", "patients", "1", "--json"]).ends_with(0).json();
    assert_eq!((&told["points"], &told["matched_by"]), (&Value::from(2), &Value::from("key")), "{told}");
    assert_eq!(told["states"][0]["record"]["name"], "John", "{told}");
}

#[tokio::test]
async fn keys_and_values_of_postgresql_are_found_as_the_server_writes_them() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(
        "create table person (id uuid primary key, name text, owed numeric(12,2), seen timestamptz, ok boolean, raw bytea);
         insert into person select md5(i::text)::uuid, 'Person ' || i, i * 1.25, '2025-01-01Z'::timestamptz + i * interval '1 hour',
           i % 3 = 0, decode(lpad(to_hex(i), 6, '0'), 'hex') from generate_series(1, 30000) i;
         create table big (id bigint primary key, note text);
         insert into big select 9007199254740990 + i, 'row ' || i from generate_series(1, 5000) i;
         create table pair (b text collate \"en-x-icu\", n numeric, primary key (n, b));
         insert into pair select 'b' || i, i / 4.0 from generate_series(1, 5000) i;
         create table priced (code char(6), price numeric(12,2), primary key (price, code));
         insert into priced values ('ab', 5);
         create table bare (line text); insert into bare values ('x'), (null)",
    );
    let (_service, app) = postgres_backup::app(&database.url(), "").await;
    app.back_up(&[]);
    std::fs::remove_dir_all(app.path("backups")).expect("records here");
    let get = |table: &str, pk: &str| app.run(&["get", "--table", table, "--pk", pk, "--json"]);
    let uuid = database.sql("select upper(md5('777')::uuid::text)");
    let told = get("person", uuid.trim()).ends_with(0).json();
    assert_eq!(
        (&told["record"]["name"], told["cost"]["requests"].as_u64()),
        (&Value::from("Person 777"), Some(5)),
        "{told}"
    );
    assert_eq!(get("big", "9007199254745990").ends_with(0).json()["record"]["note"], "row 5000");
    assert_eq!(get("big", "9007199254740991").ends_with(0).json()["record"]["note"], "row 1");
    let exact = database.sql("select n from pair where b = 'b4321'");
    let told = get("pair", &format!("n={},b=b4321", exact.trim())).ends_with(0).json();
    assert_eq!(told["record"]["b"], "b4321");
    assert_eq!(get("priced", "price=5,code=ab").ends_with(0).json()["record"]["price"], "5.00");
    get("person", "7").refuses(2, "is no UUID");
    get("bare", "1").refuses(2, "nothing says what the key");
    for (table, condition, sql) in [
        ("person", "owed=971.25", "owed = 971.25"),
        ("person", "owed>37000", "owed > 37000"),
        ("person", "seen<2025-01-02", "seen < '2025-01-02Z'"),
        ("person", "seen<2025-01-02T00:00", "seen < '2025-01-02Z'"),
        ("person", "ok=true", "ok"),
        ("person", "raw=\\x000309", "raw = '\\x000309'"),
        ("big", "id>9007199254745000", "id > 9007199254745000"),
        ("bare", "line is null", "line is null"),
    ] {
        let told = app.run(&["find", table, condition, "--count", "--json"]).ends_with(0).json();
        let wanted = database.sql(&format!("select count(*) from {table} where {sql}"));
        assert_eq!(told["found"].to_string(), wanted.trim(), "{condition}");
        assert_ne!(wanted.trim(), "0", "{condition}");
    }
    app.run(&["drill", "--only", "records"]).ends_with(0);
}
