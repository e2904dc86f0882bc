//! One record, one file, records that fit, a record over time: read out of a point without restoring it.

use std::sync::{Arc, Mutex};

use nexus_core::error::{Error, Result};
use nexus_core::event::{Event, Events};
use nexus_core::listing::Place;
use nexus_core::local::Scratch;
use nexus_core::lookup::key::wanted;
use nexus_core::lookup::record::{Looked, record};
use nexus_core::lookup::{file, find, history, table};
use nexus_core::point::{JournalEvent, Part};
use nexus_core::vault::RecoveryPoint;
use nexus_sandbox::ServiceOptions;

use super::world::{World, hasty, sql};

/// Rows of the large table.
const ROWS: u64 = 60_000;

/// A world with a large table, and tables with keys of all kinds.
fn large() -> World {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    sql(
        &world.database(),
        &format!(
            "CREATE TABLE big (id INTEGER PRIMARY KEY, name TEXT, note TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
             INSERT INTO big SELECT i, 'name ' || i, 'a note of some length about row ' || i FROM n;
             CREATE TABLE word (word TEXT PRIMARY KEY COLLATE NOCASE, id INTEGER);
             INSERT INTO word SELECT CASE i % 2 WHEN 0 THEN 'Word ' ELSE 'word ' END || i, i FROM
               (SELECT id AS i FROM big WHERE id <= 5000);
             INSERT INTO word VALUES ('a\nb\"c''\u{1}\\', -1), ('Ärztin', -2), ('42', -3), ('', -4), ('word=x', -5);
             CREATE TABLE pair (b TEXT, x, a INTEGER, PRIMARY KEY (a DESC, b)) WITHOUT ROWID;
             INSERT INTO pair SELECT 'b,' || (id % 7), 'x' || id, id FROM big WHERE id <= 5000;
             CREATE TABLE mixed (k PRIMARY KEY, what TEXT);
             INSERT INTO mixed SELECT id, 'integer of a row with some text' FROM big WHERE id <= 3000;
             INSERT INTO mixed VALUES ('7', 'text'), (1.5, 'real'), (x'00ff', 'blob'), (9007199254740993, 'large');
             CREATE TABLE log (line TEXT);
             INSERT INTO log SELECT 'line ' || id || ' with some more in it' FROM big WHERE id <= 5000;"
        ),
    );
    world
}

async fn look(point: &RecoveryPoint, name: &str, words: &[&str], events: &Events) -> Result<Looked> {
    let scratch = Scratch::create(&std::env::temp_dir())?;
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let table = table(point, name).await?;
    record(point, table, &wanted(table, &words)?, &scratch, events).await
}

/// The record, whose look must have stayed small.
async fn small_look(point: &RecoveryPoint, name: &str, words: &[&str]) -> Option<String> {
    let looked = look(point, name, words, &Events::none()).await.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let cost = looked.cost;
    assert!(cost.requests < 10 && cost.bytes < 300_000, "{name} {words:?}: {cost:?}");
    looked.record
}

/// What was warned of.
fn warnings() -> (Events, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let events = Events::new(move |event| {
        if let Event::Warning(text) = event {
            told.lock().expect("no panic").push(text);
        }
    });
    (events, heard)
}

/// A point in the vault alone, and its world.
async fn remote() -> (World, RecoveryPoint) {
    let world = large();
    world.backup().await.expect("a point");
    std::fs::remove_dir_all(world.records()).expect("records here");
    let point = world.point("latest").await.expect("a point");
    (world, point)
}

#[tokio::test]
async fn one_record_costs_a_few_range_requests_whatever_its_key() {
    let (_world, point) = remote().await;
    for id in (1..=ROWS).step_by(7_919).chain([1, ROWS]) {
        let found = small_look(&point, "big", &[&id.to_string()]).await.expect("a record");
        assert!(found.starts_with(&format!("{{\"id\":{id},\"name\":\"name {id}\",")), "{found}");
    }
    assert_eq!(small_look(&point, "big", &["0"]).await, None);
    assert_eq!(small_look(&point, "big", &[&format!("id={}", ROWS + 1)]).await, None);
    // A collation of the database's orders these otherwise than bytes do.
    for (key, id) in [
        ("Word 4998", 4998),
        ("word=word 1", 1),
        ("a\nb\"c'\u{1}\\", -1),
        ("Ärztin", -2),
        ("42", -3),
        ("", -4),
        ("word=x", -5),
    ] {
        let found = small_look(&point, "word", &[key]).await.expect(key);
        assert!(found.ends_with(&format!("\"id\":{id}}}")), "{key}: {found}");
    }
    let none = look(&point, "word", &["WORD 1"], &Events::none()).await.expect("an answer");
    assert!(none.record.is_none() && none.otherwise.is_some_and(|how| how.contains("nexus find word")));
    for words in [&["a=77,b=b,0"][..], &["b=b,0", "a=77"], &["b=b,0,a=77"]] {
        let found = small_look(&point, "pair", words).await.expect("a record");
        assert_eq!(found, "{\"b\":\"b,0\",\"x\":\"x77\",\"a\":77}");
    }
    for (key, what) in [("\"7\"", "text"), ("1.5", "real"), ("x'00ff'", "blob"), ("9007199254740993", "large")] {
        let found = small_look(&point, "mixed", &[key]).await.expect(key);
        assert!(found.contains(&format!("\"what\":\"{what}\"")), "{key}: {found}");
    }
    let both = look(&point, "mixed", &["7"], &Events::none()).await.expect_err("two have it");
    assert!(both.to_string().contains("more than one record"), "{both}");
    let found = small_look(&point, "log", &["4321"]).await.expect("a record");
    assert_eq!(found, "{\"$rowid\":4321,\"line\":\"line 4321 with some more in it\"}");
    // A small table has no index, and is read whole.
    let found = small_look(&point, "patient", &["2"]).await.expect("a record");
    assert!(found.contains("Zoë"), "{found}");
}

#[tokio::test]
async fn a_question_that_is_wrong_is_refused_with_what_is_like_it() {
    let (_world, point) = remote().await;
    for (name, words, named) in [
        ("bgi", &["1"][..], "no records of a table \"bgi\""),
        ("big", &["abc"], "\"abc\" is no integer"),
        ("word", &["id=-7"], "`id` is not of the key of word"),
        ("pair", &["7"], "does not say which"),
        ("pair", &["a=1"], "lacks b"),
        ("pair", &["a=1", "x=2"], "is not of the key"),
        ("pair", &["a=1", "b=2", "c=3"], "no column \"c\""),
        ("pair", &["a=1", "a=2", "b=3"], "given twice"),
    ] {
        let error = look(&point, name, words, &Events::none()).await.map(|looked| looked.record);
        let error = error.expect_err(named);
        assert!(matches!(error, Error::Usage { .. }) && error.to_string().contains(named), "{words:?}: {error}");
    }
}

#[tokio::test]
async fn a_damaged_index_or_record_never_gives_a_wrong_answer() {
    let (world, point) = remote().await;
    let key = |file: &str| format!("{}/records/{file}", point.id());
    let content = world.vault_content();
    let (index, records) = (content[&key("big.index")].clone(), content[&key("big.json")].clone());
    let swapped = content[&key("word.index")].clone();
    let mut flipped = index.clone();
    // Every page has a checksum: a bit in each of them.
    flipped.iter_mut().step_by(2_000).for_each(|byte| *byte ^= 4);
    let cut = index[..index.len() / 2].to_vec();
    for harmed in [Some(flipped), Some(cut), Some(Vec::new()), Some(swapped), None] {
        world.harm(&key("big.index"), harmed);
        let (events, heard) = warnings();
        for id in [1, 31_007, ROWS] {
            let looked = look(&point, "big", &[&id.to_string()], &events).await.expect("a record");
            assert!(looked.record.is_some_and(|found| found.starts_with(&format!("{{\"id\":{id},"))));
        }
        assert_eq!(look(&point, "big", &["0"], &events).await.expect("none").record, None);
        let heard = heard.lock().expect("no panic").clone();
        assert!(heard.len() == 4 && heard.iter().all(|text| text.contains("the index of big")), "{heard:?}");
        world.harm_or_put(&key("big.index"), &index);
    }
    let at = memchr(&records, b"\"name 31007\"") + 3;
    let mut harmed = records.clone();
    harmed[at] ^= 1;
    for harmed in [Some(harmed), Some(records[..at].to_vec()), None] {
        world.harm(&key("big.json"), harmed);
        let error = look(&point, "big", &["31007"], &Events::none()).await.expect_err("it is damaged");
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        world.harm_or_put(&key("big.json"), &records);
    }
    assert!(look(&point, "big", &["31007"], &Events::none()).await.expect("whole again").record.is_some());
}

#[tokio::test]
async fn what_a_prune_takes_away_meanwhile_is_no_damage() {
    let (world, point) = remote().await;
    let scratch = Scratch::create(&world.scratch()).expect("room");
    let entry = file::entry(&point, "images/a.jpg", &scratch).await.expect("an entry");
    // The point as it was read before knows nothing of it.
    let gone = JournalEvent::Expired { parts: vec![Part::Records, Part::Files] };
    point.journal().add(gone, &world.clock()).await.expect("an entry");
    for file in ["big.json", "big.index", "patient.json"] {
        world.harm(&format!("{}/records/{file}", point.id()), None);
    }
    for name in ["big", "patient"] {
        let (events, heard) = warnings();
        let error = look(&point, name, &["1"], &events).await.expect_err("it is gone");
        assert!(!matches!(error, Error::Damaged { .. }) && error.to_string().contains("expired"), "{error}");
        assert_eq!(heard.lock().expect("no panic").len(), 0);
    }
    let copy = entry.at.as_ref().and_then(Place::vault_key).expect("a copy").to_owned();
    world.harm(&copy, None);
    let error = file::fetch(&point, &entry, &scratch.file("got")).await.expect_err("it is gone");
    assert!(!matches!(error, Error::Damaged { .. }) && error.to_string().contains("expired"), "{error}");
}

fn memchr(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("it is there")
}

#[tokio::test]
async fn records_on_this_machine_are_read_where_they_are_as_they_were_written() {
    let world = large();
    world.backup().await.expect("a point");
    let point = world.point("latest").await.expect("a point");
    let folder = world.records().join(point.id().to_string());
    let asked = async |id: &str| look(&point, "big", &[id], &Events::none()).await.expect("a record");
    let looked = asked("31007").await;
    assert_eq!((looked.cost.requests, looked.record.is_some()), (0, true));
    // Edited by hand: the vault's counts.
    let text = std::fs::read_to_string(folder.join("big.json")).expect("records");
    std::fs::write(folder.join("big.json"), text.replace("\"name 31007\"", "\"nome 31007\"")).expect("room");
    let looked = asked("31007").await;
    assert!(looked.cost.requests > 0 && looked.record.expect("a record").contains("\"name 31007\""));
    std::fs::write(folder.join("big.index"), "x").expect("room");
    assert!(asked("31007").await.cost.requests > 0);
    // Without the vault's, a whole file that is as it was written is enough.
    let mut plan = world.plan(&Part::ALL);
    plan.records.as_mut().expect("records").in_vault = false;
    world.backup_as(&plan).await.expect("a point");
    let point = world.point("latest").await.expect("a point");
    let folder = world.records().join(point.id().to_string());
    assert!(look(&point, "big", &["7"], &Events::none()).await.expect("a record").record.is_some());
    std::fs::remove_file(folder.join("big.index")).expect("an index");
    let (events, heard) = warnings();
    assert!(look(&point, "big", &["7"], &events).await.expect("a record").record.is_some());
    assert_eq!(heard.lock().expect("no panic").len(), 1);
    std::fs::write(folder.join("big.json"), "[\n]\n").expect("room");
    let error = look(&point, "big", &["7"], &events).await.expect_err("changed");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    std::fs::remove_dir_all(&folder).expect("records");
    let error = look(&point, "big", &["7"], &events).await.expect_err("elsewhere");
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

async fn found(point: &RecoveryPoint, name: &str, conditions: &[&str]) -> Result<Vec<String>> {
    let scratch = Scratch::create(&std::env::temp_dir())?;
    let conditions: Vec<String> = conditions.iter().map(|text| (*text).to_owned()).collect();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    let take: find::Take = Arc::new(move |line| {
        kept.lock().expect("no panic").push(line.to_owned());
        Ok(())
    });
    let searched = find::find(point, (name, &conditions), &scratch, take, &Events::none()).await?;
    let lines = lines.lock().expect("no panic").clone();
    assert_eq!(searched.found, lines.len() as u64);
    Ok(lines)
}

#[tokio::test]
async fn records_that_fit_are_those_that_the_database_would_give() {
    let (world, point) = remote().await;
    let connection = rusqlite::Connection::open(world.database()).expect("a database");
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("good SQL");
    for (name, conditions, sql) in [
        ("big", &["id<1000", "name~7$"][..], "SELECT count(*) FROM big WHERE id < 1000 AND name LIKE '%7'"),
        ("big", &["id>=59990"], "SELECT count(*) FROM big WHERE id >= 59990"),
        ("big", &["name=name 4"], "SELECT count(*) FROM big WHERE name = 'name 4'"),
        ("patient", &["weight is null"], "SELECT count(*) FROM patient WHERE weight IS NULL"),
        ("patient", &["weight is not null", "weight>70"], "SELECT count(*) FROM patient WHERE weight > 70"),
        ("patient", &["photo=x'00ff'"], "SELECT count(*) FROM patient WHERE photo = x'00ff'"),
        ("visit", &["note=a \"quoted\" note"], "SELECT count(*) FROM visit WHERE note = 'a \"quoted\" note'"),
        (
            "mixed",
            &["k>9007199254740992"],
            "SELECT count(*) FROM mixed WHERE k > 9007199254740992 AND typeof(k) <> 'text' AND typeof(k) <> 'blob'",
        ),
        ("word", &[], "SELECT count(*) FROM word"),
        ("log", &["$rowid<=3"], "SELECT count(*) FROM log WHERE rowid <= 3"),
    ] {
        let lines = found(&point, name, conditions).await.unwrap_or_else(|error| panic!("{conditions:?}: {error}"));
        assert_eq!(i64::try_from(lines.len()).expect("few"), count(sql), "{name} {conditions:?}");
        assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    }
    for conditions in [["nmae=1"], ["name~("], ["name"]] {
        let error = found(&point, "big", &conditions).await.expect_err("wrong");
        assert!(matches!(error, Error::Usage { .. }), "{error}");
    }
    // Nothing is given away before the file was held against its hash.
    let key = format!("{}/records/big.json", point.id());
    let mut records = world.vault_content()[&key].clone();
    let last = records.len() - 10;
    records[last] ^= 1;
    world.harm(&key, Some(records));
    let error = found(&point, "big", &["id=1"]).await.expect_err("damaged");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_record_over_time_shows_each_of_its_states_once() {
    let world = large();
    let clock = world.clock();
    let mut ids = Vec::new();
    for change in [
        "DELETE FROM big WHERE id = 31007",
        "INSERT INTO big VALUES (31007, 'new', 'first')",
        "UPDATE big SET name = 'other' WHERE id = 9",
        "UPDATE big SET note = 'second', name = 'newer' WHERE id = 31007",
        "ALTER TABLE big ADD COLUMN more DEFAULT 5",
        "DELETE FROM big WHERE id = 31007",
    ] {
        sql(&world.database(), change);
        ids.push(
            world.backup_as(&world.plan(&[Part::Database, Part::Records])).await.expect("a point").point.id().clone(),
        );
    }
    std::fs::remove_dir_all(world.records()).expect("records here");
    world.backup_as(&world.plan(&[Part::Database])).await.expect("a point without records");
    let vault = world.open().await.expect("a vault");
    let scratch = Scratch::create(&world.scratch()).expect("room");
    let words = vec!["31007".to_owned()];
    let seen = history::history(&vault, ("big", &words), &scratch, &Events::none()).await.expect("a history");
    let states: Vec<_> =
        seen.states.iter().map(|state| (state.first.point.clone(), state.last.point.clone(), state.points)).collect();
    assert_eq!(
        states,
        [
            (ids[1].clone(), ids[2].clone(), 2),
            (ids[3].clone(), ids[3].clone(), 1),
            (ids[4].clone(), ids[4].clone(), 1),
            (ids[5].clone(), ids[5].clone(), 1)
        ]
    );
    let columns = |at: usize| seen.states[at].changes.iter().map(|change| change.column.as_str()).collect::<Vec<_>>();
    assert_eq!((columns(0), columns(1), columns(2), columns(3)), (vec![], vec!["name", "note"], vec!["more"], vec![]));
    assert_eq!(seen.states[1].changes[1].before.as_deref(), Some("\"first\""));
    assert_eq!(seen.states[2].changes[0].before, None);
    assert_eq!((seen.states[3].record.as_deref(), seen.points), (None, 6));
    // That point has no records that could be asked.
    assert_eq!((seen.left_out.len(), seen.unasked, seen.matched_by), (1, 0, history::MatchedBy::Key));
    assert!(seen.cost.requests <= 6 * 4 && seen.cost.bytes < 6 * 300_000, "{:?}", seen.cost);
    // A point whose records are damaged is named, and the others still answer.
    let key = format!("{}/records/big.json", ids[3]);
    world.harm(&key, None);
    let seen = history::history(&vault, ("big", &words), &scratch, &Events::none()).await.expect("a history");
    assert!(seen.left_out.iter().any(|left| left.point == ids[3] && left.damaged), "{:?}", seen.left_out);
    assert_eq!(seen.unasked, 1);
    let by_rowid = vec!["4321".to_owned()];
    let seen = history::history(&vault, ("log", &by_rowid), &scratch, &Events::none()).await.expect("a history");
    assert_eq!((seen.states.len(), seen.matched_by), (1, history::MatchedBy::Rowid));
    assert_eq!((seen.states[0].seen.len(), seen.states[0].points), (6, 6));
    let error = history::history(&vault, ("nothing", &words), &scratch, &Events::none()).await.expect_err("no table");
    assert!(error.to_string().contains("no records"), "{error}");
    drop(clock);
}

#[tokio::test]
async fn a_file_is_given_only_when_its_bytes_are_those_it_had() {
    for world in [World::on_s3(ServiceOptions::default(), hasty(2)), World::in_folders()] {
        world.backup().await.expect("a point");
        world.put("images/a.jpg", b"another picture by now");
        world.backup().await.expect("a point");
        let point = world.point("latest").await.expect("a point");
        let scratch = Scratch::create(&world.scratch()).expect("room");
        let to = scratch.file("got");
        // Its copy lies in the point before.
        for (key, body) in
            [("documents/2024/report +1.pdf", "a report"), ("images/a.jpg", "another picture by now"), ("zero", "")]
        {
            let entry = file::entry(&point, key, &scratch).await.expect(key);
            let fetched = file::fetch(&point, &entry, &to).await.expect(key);
            assert_eq!(std::fs::read(&to).expect("a file"), body.as_bytes());
            assert_eq!(fetched.bytes, body.len() as u64);
            std::fs::remove_file(&to).expect("a file");
        }
        let error = file::entry(&point, "images/A.jpg", &scratch).await.expect_err("no such key");
        assert!(matches!(&error, Error::Usage { hint: Some(hint), .. } if hint.contains("images/a.jpg")), "{error:?}");
        let entry = file::entry(&point, "documents/2024/report +1.pdf", &scratch).await.expect("an entry");
        let copy = entry.at.as_ref().and_then(Place::vault_key).expect("a copy").to_owned();
        for harmed in [Some(b"a repozt".to_vec()), Some(b"a".to_vec()), None] {
            let there = harmed.is_some();
            world.harm(&copy, harmed);
            let error = file::fetch(&point, &entry, &to).await.expect_err("it is damaged");
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
            assert!(!to.exists(), "half a file is left");
            if !there {
                break;
            }
        }
    }
}
