//! What a drill finds that no hash shows: points whose documents all agree, and whose contents do not.

use std::path::Path;
use std::time::Duration;

use nexus_core::database::Database;
use nexus_core::database::postgres::{PostgresDatabase, Surroundings};
use nexus_core::drill::{DrillRequest, Drilled, Sample, drill, plan};
use nexus_core::event::Events;
use nexus_core::listing::hex;
use nexus_core::point::{Depth, Ending, JournalEvent, Manifest, Part, Proof, Sampled, Verdict, document, parse};
use nexus_core::vault::journal::Entries;
use nexus_sandbox::ServiceOptions;
use nexus_testkit::postgres::{Database as Made, Server, programs};
use sha2::{Digest, Sha256};

use crate::world::{World, hasty, sql};

const DEBIAN: u32 = 15;

async fn drilled(world: &World, id: &str, sample: Sample, server: Option<PostgresDatabase>) -> Drilled {
    let point = world.point(id).await.expect("a point");
    let request = DrillRequest { parts: Vec::new(), sample, server, lock_wait: Duration::from_secs(2) };
    let plan = plan(point, request, &world.scratch()).await.expect("a plan");
    drill(plan, &world.clock(), &Events::none()).await.expect("a drill")
}

async fn all(world: &World, id: &str) -> Drilled {
    drilled(world, id, Sample::All, None).await
}

/// The names of what was found, and how it shows.
fn findings(drilled: &Drilled) -> Vec<String> {
    drilled.proof.findings.iter().map(|finding| format!("{}: {}", finding.name, finding.detail)).collect()
}

fn names(drilled: &Drilled, name: &str) -> bool {
    drilled.proof.findings.iter().any(|finding| finding.name == name)
}

fn manifest(world: &World, id: &str) -> Manifest {
    let bytes = world.vault_content().remove(&format!("{id}/manifest.json")).expect("a manifest");
    match parse::<Ending>(&bytes, "it").expect("a document") {
        Ending::Committed(manifest) => *manifest,
        Ending::Abandoned(_) => panic!("it was given up"),
    }
}

/// Writes a manifest whose check holds: whoever can write to the vault can do that.
fn forge(world: &World, id: &str, manifest: Manifest) {
    world.harm(&format!("{id}/manifest.json"), Some(document(&Ending::Committed(Box::new(manifest)))));
}

fn sha(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Puts other bytes in the place of the database's copy, and lets the manifest agree with them.
fn swap_database(world: &World, id: &str, bytes: Vec<u8>) {
    let mut manifest = manifest(world, id);
    let object = &mut manifest.parts.database.as_mut().expect("a database").object;
    (object.bytes, object.sha256) = (bytes.len() as u64, sha(&bytes));
    world.harm(&object.key.clone(), Some(bytes));
    forge(world, id, manifest);
}

/// The point's own copy after something was done to it.
fn changed(world: &World, id: &str, statements: &str) -> Vec<u8> {
    let key = manifest(world, id).parts.database.expect("a database").object.key;
    let path = world.folder.path().join("changed.db");
    std::fs::write(&path, &world.vault_content()[&key]).expect("room on the disk");
    sql(&path, &format!("PRAGMA journal_mode = DELETE; {statements}"));
    std::fs::read(&path).expect("a database")
}

#[tokio::test]
async fn a_copy_that_agrees_with_its_hash_and_not_with_the_instant_is_found_table_by_table() {
    for (statements, name, how) in [
        ("DROP TABLE visit", "visit", "no such table"),
        ("DELETE FROM visit WHERE id = 2", "visit", "has 2 rows, not 3"),
        ("UPDATE patient SET first_name = 'Jon' WHERE id = 1", "patient", "SHA-256 is another"),
        ("UPDATE visit SET patient = 9 WHERE id = 1", "visit", "points at nothing"),
        ("CREATE TABLE theirs (a)", "theirs", "the point had not"),
        ("PRAGMA user_version = 8", "user_version", "8, not 7"),
    ] {
        let world = World::in_folders();
        let id = world.backup().await.expect("a backup").point.id().to_string();
        swap_database(&world, &id, changed(&world, &id, statements));
        let drilled = all(&world, &id).await;
        assert_eq!(drilled.proof.verdict, Verdict::Failed, "{statements} was not found");
        let found = findings(&drilled);
        assert!(found.iter().any(|one| one.starts_with(&format!("{name}: ")) && one.contains(how)), "{found:?}");
    }
}

#[tokio::test]
async fn a_copy_of_another_database_and_one_that_is_none_are_found() {
    let world = World::in_folders();
    let id = world.backup().await.expect("a backup").point.id().to_string();
    let other = world.folder.path().join("other.db");
    sql(&other, "CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)");
    swap_database(&world, &id, std::fs::read(&other).expect("a database"));
    let found = all(&world, &id).await;
    assert!(names(&found, "patient") && names(&found, "theirs"), "{:?}", findings(&found));
    swap_database(&world, &id, b"this is no database, whatever its hash says".to_vec());
    let found = all(&world, &id).await;
    let key = manifest(&world, &id).parts.database.expect("a database").object.key;
    assert!(found.proof.verdict == Verdict::Failed && names(&found, &key), "{:?}", findings(&found));
    assert_eq!(found.database.expect("it was looked at").restored, None);
}

#[tokio::test]
async fn records_that_agree_with_their_hash_and_are_cut_or_none_are_found() {
    for (harm, how) in [
        (&(|text: &str| text.trim_end().trim_end_matches(']').to_owned()) as &dyn Fn(&str) -> String, "ends before"),
        (&|text: &str| text[..text.len() / 2].to_owned(), "not one of that table"),
        (&|text: &str| text.replace("first_name", "last_name"), "not one of that table"),
        (&|text: &str| text.replacen("{\"id\":1", "{\"id\":1,,", 1), "not one of that table"),
        (
            &|text: &str| {
                let kept = text.split_inclusive('\n').enumerate().filter(|(at, _)| *at != 1);
                kept.map(|(_, line)| line).collect()
            },
            "2 records were parsed, not 3",
        ),
    ] {
        let world = World::in_folders();
        let id = world.backup().await.expect("a backup").point.id().to_string();
        let key = format!("{id}/records/patient.json");
        let text = String::from_utf8(world.vault_content()[&key].clone()).expect("text");
        let harmed = harm(&text).into_bytes();
        let mut manifest = manifest(&world, &id);
        let tables = &mut manifest.parts.records.as_mut().expect("records").tables;
        let table = tables.iter_mut().find(|table| table.name == "patient").expect("the table");
        (table.bytes, table.sha256) = (harmed.len() as u64, sha(&harmed));
        forge(&world, &id, manifest);
        world.harm(&key, Some(harmed));
        let found = all(&world, &id).await;
        assert_eq!(found.proof.verdict, Verdict::Failed);
        let found = findings(&found);
        assert!(found.iter().any(|one| one.starts_with(&key) && one.contains(how)), "{how}: {found:?}");
        assert!(!found.iter().any(|one| one.contains("scratch")), "a folder that is gone is named: {found:?}");
        // The restored rows are not those of such records either.
        assert!(found.iter().any(|one| one.starts_with("patient: ")), "{found:?}");
    }
}

#[tokio::test]
async fn every_harm_to_any_object_of_a_point_is_found_by_a_drill_of_all_files() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    let id = world.backup().await.expect("a backup").point.id().to_string();
    assert_eq!(all(&world, &id).await.proof.verdict, Verdict::Verified);
    let whole = world.vault_content();
    let inside = |key: &str| !key.contains("/journal/") && !key.ends_with("manifest.json") && key != "vault.json";
    for (key, body) in whole.iter().filter(|(key, _)| inside(key)) {
        let mut flipped = body.clone();
        if let Some(middle) = flipped.len().checked_div(2).filter(|_| !body.is_empty()) {
            flipped[middle] ^= 1;
        }
        for bytes in [None, Some(flipped).filter(|flipped| flipped != body)] {
            // Twice the same: nothing was to flip.
            if bytes.is_none() && key.ends_with("started.json") {
                continue;
            }
            world.harm(key, bytes.clone());
            let found = all(&world, &id).await;
            assert_eq!(found.proof.verdict, Verdict::Failed, "{key} {:?}", bytes.map(|bytes| bytes.len()));
            world.harm_or_put(key, body);
        }
    }
    assert_eq!(all(&world, &id).await.proof.verdict, Verdict::Verified);
}

#[tokio::test]
async fn a_drill_leaves_nothing_in_scratch_and_writes_only_to_the_journal() {
    let world = World::in_folders();
    let id = world.backup().await.expect("a backup").point.id().to_string();
    let before = world.vault_content();
    all(&world, &id).await;
    let mut after = world.vault_content();
    let new: Vec<String> = after.keys().filter(|key| !before.contains_key(*key)).cloned().collect();
    after.retain(|key, _| before.contains_key(key));
    assert_eq!(after, before);
    assert!(new.len() == 3 && new.iter().all(|key| key.starts_with(&format!("{id}/journal/"))), "{new:?}");
    let left = std::fs::read_dir(world.scratch()).expect("the folder").count();
    assert_eq!(left, 0, "something was left in scratch");
    let entries = world.point(&id).await.expect("a point").entries().clone();
    let drill = |event: &JournalEvent| matches!(event, JournalEvent::Hold { by, .. } if by == "drill");
    let hold = entries.read.iter().find(|entry| drill(&entry.event)).expect("a hold");
    let released =
        |entry: &nexus_core::point::JournalEntry| entry.event == JournalEvent::Released { hold: hold.nonce.clone() };
    assert!(entries.read.iter().any(released), "{entries:?}");
}

#[tokio::test]
async fn a_part_that_prune_has_announced_is_not_drilled() {
    let world = World::in_folders();
    let point = world.backup().await.expect("a backup").point;
    let journal = point.journal();
    journal
        .add(
            JournalEvent::Expiring { parts: vec![Part::Files], objects: Vec::new(), categories: Vec::new() },
            &world.clock(),
        )
        .await
        .expect("an entry");
    let request =
        DrillRequest { parts: Vec::new(), sample: Sample::All, server: None, lock_wait: Duration::from_secs(2) };
    // Announced after the point was looked up: found once the hold is written, and let go again.
    let planned = plan(point.clone(), request.clone(), &world.scratch()).await.expect("a plan");
    let error = drill(planned, &world.clock(), &Events::none()).await.expect_err("it is going");
    assert!(error.to_string().contains("files"), "{error:?}");
    let point = world.point(&point.id().to_string()).await.expect("a point");
    let words: Vec<&str> = point.entries().read.iter().map(|entry| entry.event.word()).collect();
    assert_eq!(words.iter().filter(|word| ["hold", "released"].contains(word)).count(), 2, "{words:?}");
    plan(point, request, &world.scratch()).await.expect_err("it is going");
}

/// A sampled drill says everything that the default depth says, and no more; a failed one unproves the point.
#[tokio::test]
async fn a_sample_proves_at_default_depth_and_never_more() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    let id = world.backup().await.expect("a backup").point.id().to_string();
    let sampled = drilled(&world, &id, Sample::Files(3), None).await;
    let of = sampled.proof.sampled.expect("a sample");
    assert_eq!((of.read.files, of.of.files, sampled.proof.depth), (3, 7, Depth::Default));
    assert_eq!(all(&world, &id).await.proof.depth, Depth::Drill);
    // Only what a sampled drill says of it proves this one.
    let manifest = manifest(&world, &id);
    let alone = |proof: Proof| {
        let entry = world_entry(&id, JournalEvent::Drilled(proof));
        Entries { read: vec![entry], unreadable: Vec::new() }
    };
    let entries = alone(sampled.proof.clone());
    assert_eq!(entries.proven(&manifest).map(|(_, proof)| proof.depth), Some(Depth::Default));
    let partial = Proof { parts: vec![Part::Database], ..sampled.proof.clone() };
    assert!(alone(partial).proven(&manifest).is_none());
    let failed = Proof { verdict: Verdict::Failed, sampled: None::<Sampled>, ..sampled.proof };
    assert!(alone(failed).proven(&manifest).is_none());
}

fn world_entry(id: &str, event: JournalEvent) -> nexus_core::point::JournalEntry {
    nexus_core::point::JournalEntry {
        format: 1,
        point: id.parse().expect("an id"),
        at: jiff::Timestamp::UNIX_EPOCH,
        nonce: "n".into(),
        software: "nexus".into(),
        event,
    }
}

fn postgres(url: &str) -> PostgresDatabase {
    let around = Surroundings { programs: Some(programs(DEBIAN)), ..Surroundings::folder(Path::new("/")) };
    match Database::parse(url, &around).expect("a URL") {
        Database::Postgres(database) => *database,
        Database::Sqlite(_) => panic!("{url} is a file"),
    }
}

/// The point's documents agree with the dump of another database; what comes out of it does not.
#[tokio::test]
async fn a_dump_of_another_database_a_cut_one_and_changed_rows_are_found() {
    let server = Server::own(DEBIAN);
    let (database, other) = (Made::empty(&server, ""), Made::empty(&server, ""));
    let world = World::in_folders();
    let table =
        "create table patient (id integer primary key, name text); insert into patient values (1, 'John'), (2, 'Zoë')";
    database.sql(table);
    // Rows without a key come as the server finds them: another order is no harm.
    database.sql("create table heap (a text); insert into heap values ('a'), ('b'), ('a')");
    database.sql("create table pile (a text); insert into pile values ('a'), ('b')");
    let back_up = async |place: &Made<'_>| {
        let mut plan = world.plan(&[Part::Database, Part::Records]);
        plan.database = Some(Database::Postgres(Box::new(postgres(&place.url()))));
        world.backup_as(&plan).await.expect("a backup").point.id().to_string()
    };
    let id = back_up(&database).await;
    let place = || Some(postgres(&database.url()));
    assert_eq!(drilled(&world, &id, Sample::All, place()).await.proof.verdict, Verdict::Verified);
    let original = manifest(&world, &id);
    let key = original.parts.database.as_ref().expect("a database").object.key.clone();
    let whole = world.vault_content()[&key].clone();
    let dump =
        |id: &str| world.vault_content()[&manifest(&world, id).parts.database.expect("a database").object.key].clone();
    // The same rows in another order.
    database.sql("delete from heap; insert into heap values ('b'), ('a'), ('a')");
    database.sql("delete from pile; insert into pile values ('b'), ('a')");
    swap_database(&world, &id, dump(&back_up(&database).await));
    let found = drilled(&world, &id, Sample::All, place()).await;
    assert_eq!(found.proof.verdict, Verdict::Verified, "{:?}", findings(&found));
    database.sql("update patient set name = 'Jon' where id = 1");
    swap_database(&world, &id, dump(&back_up(&database).await));
    let found = drilled(&world, &id, Sample::All, place()).await;
    assert!(names(&found, "patient") && !names(&found, "heap"), "{:?}", findings(&found));
    database.sql("drop table patient");
    swap_database(&world, &id, dump(&back_up(&database).await));
    let found = drilled(&world, &id, Sample::All, place()).await;
    assert!(findings(&found).join(" ").contains("patient is not there"), "{:?}", findings(&found));
    other.sql("create table theirs (a integer)");
    swap_database(&world, &id, dump(&back_up(&other).await));
    let found = drilled(&world, &id, Sample::All, place()).await;
    assert!(findings(&found).join(" ").contains("theirs was not in the point"), "{:?}", findings(&found));
    swap_database(&world, &id, whole[..whole.len() * 2 / 3].to_vec());
    let found = drilled(&world, &id, Sample::All, place()).await;
    assert!(found.proof.verdict == Verdict::Failed && names(&found, &key), "{:?}", findings(&found));
    let left: Vec<String> = server.databases().into_iter().filter(|name| name.starts_with("nexus_drill_")).collect();
    assert_eq!(left, Vec::<String>::new());
}
