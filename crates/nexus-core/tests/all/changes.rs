//! What changed between two states, against a simple comparison in memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use nexus_core::changes::files::{self, CategoryChanges, FileState, Likeness};
use nexus_core::changes::point::{files_since, tables_since};
use nexus_core::changes::told::{FileChange, RowChange, lines};
use nexus_core::changes::{Basis, Change, EXAMPLES, Presence, State, TableChanges, between, every_row};
use nexus_core::database::load::{Conflict, Ending, LoadMode};
use nexus_core::database::relations::{Ask, Seen};
use nexus_core::database::sqlite::SqliteDatabase;
use nexus_core::error::Error;
use nexus_core::event::Events;
use nexus_core::listing::{FileKind, Side};
use nexus_core::local::Scratch;
use nexus_core::point::{Part, RecordColumn, RecordTable};
use nexus_core::records::export::Export;
use nexus_core::records::now::export_now;
use nexus_core::vault::RecoveryPoint;
use sha2::{Digest, Sha256};

use crate::world::{World, hasty, sql};

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// How rows are told apart.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Key(&'static [&'static str]),
    Rowid,
    None,
}

type Rows = Vec<Vec<String>>;

/// Writes a record file by hand, as the export would; rows hold their rowid first where there is one.
fn table(folder: &Path, columns: &[&str], kind: Kind, rows: &Rows) -> RecordTable {
    let name = format!("{}.json", folder.read_dir().expect("a folder").count());
    let rowid = kind == Kind::Rowid;
    let names: Vec<&str> = rowid.then_some("$rowid").into_iter().chain(columns.iter().copied()).collect();
    let mut text = "[\n".to_owned();
    for (at, row) in rows.iter().enumerate() {
        let fields: Vec<String> = names.iter().zip(row).map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let comma = if at + 1 < rows.len() { "," } else { "" };
        writeln!(text, "{{{}}}{comma}", fields.join(",")).expect("text");
    }
    text.push_str("]\n");
    std::fs::write(folder.join(&name), &text).expect("room");
    let column = |name: &&str| RecordColumn { name: (*name).into(), declared: "text".into(), generated: false };
    RecordTable {
        name: "t".into(),
        table: "t".into(),
        file: name,
        rows: rows.len() as u64,
        bytes: text.len() as u64,
        sha256: nexus_core::listing::hex(&Sha256::digest(&text)),
        index: None,
        columns: columns.iter().map(column).collect(),
        order: if let Kind::Key(key) = kind { key.iter().map(ToString::to_string).collect() } else { Vec::new() },
        rowid,
        sequence: None,
        sequences: BTreeMap::new(),
    }
}

fn scratch(folder: &Path) -> Scratch {
    Scratch::create(&folder.join("scratch")).expect("room")
}

async fn compare(folder: &Path, before: RecordTable, after: RecordTable) -> Vec<TableChanges> {
    let scratch = scratch(folder);
    let (before, after) = (State::in_folder(folder, &[before]), State::in_folder(folder, &[after]));
    let changes = between(&before, &after, &scratch).await.expect("two states");
    // Nothing but the lock is left of the work.
    assert_eq!(scratch.path().read_dir().expect("a folder").count(), 1);
    let into = scratch.file("told");
    assert_eq!(every_row(&before, &after, &into, &scratch).await.expect("two states"), changes);
    require_told(&into, &changes);
    changes
}

/// As many rows are told as were counted, each once, and the examples are the first of them.
fn require_told(path: &Path, changes: &[TableChanges]) {
    let lines: Vec<String> = lines(path).expect("a file").collect::<Result<_, _>>().expect("lines");
    let rows: Vec<RowChange<'_>> = lines.iter().map(|line| serde_json::from_str(line).expect("a row")).collect();
    for table in changes {
        let of = |change| rows.iter().filter(move |row| row.change == change && row.table == table.table);
        let counted =
            [(Change::Added, table.added), (Change::Changed, table.changed), (Change::Removed, table.removed)];
        for (change, number) in counted {
            assert_eq!(of(change).count() as u64, number, "{change:?} in {}", table.table);
            let examples = table.examples.iter().filter(|example| example.change == change);
            for (row, example) in of(change).zip(examples) {
                let text = |side: Option<&serde_json::value::RawValue>| side.map(|side| side.get().to_owned());
                let (before, after) = (text(row.before), text(row.after));
                assert!(example.before.as_ref().is_none_or(|cut| cut.ends_with('…') || Some(cut) == before.as_ref()));
                assert!(example.after.as_ref().is_none_or(|cut| cut.ends_with('…') || Some(cut) == after.as_ref()));
                assert_eq!(row.key.is_some(), example.key.is_some());
            }
        }
    }
    assert_eq!(rows.len() as u64, changes.iter().map(|table| table.added + table.changed + table.removed).sum::<u64>());
}

/// Added, changed, removed, found the simple way.
fn oracle(kind: Kind, columns: &[&str], before: &Rows, after: &Rows) -> (u64, u64, u64) {
    let key = |row: &Vec<String>| match kind {
        Kind::Key(key) => key
            .iter()
            .map(|name| row[columns.iter().position(|column| column == name).expect("there")].clone())
            .collect(),
        Kind::Rowid => vec![row[0].clone()],
        Kind::None => row.clone(),
    };
    let mut groups: BTreeMap<Vec<String>, (Rows, Rows)> = BTreeMap::new();
    for row in before {
        groups.entry(key(row)).or_default().0.push(row.clone());
    }
    for row in after {
        groups.entry(key(row)).or_default().1.push(row.clone());
    }
    let mut found = (0, 0, 0);
    for (mut then, mut now) in groups.into_values() {
        then.retain(|row| match now.iter().position(|other| other == row) {
            Some(at) => {
                now.remove(at);
                false
            }
            None => true,
        });
        let changed = then.len().min(now.len());
        found.0 += (now.len() - changed) as u64;
        found.1 += changed as u64;
        found.2 += (then.len() - changed) as u64;
    }
    found
}

#[tokio::test]
async fn random_changes_of_rows_are_counted_as_a_simple_comparison_counts_them() {
    let columns = ["a", "b", "c"];
    let mut differed = 0;
    for kind in [Kind::Key(&["a"]), Kind::Key(&["c", "a"]), Kind::Rowid, Kind::None] {
        for seed in 0..12 {
            let folder = tempfile::tempdir().expect("a folder");
            let mut random = Random(seed * 77 + 1);
            let size = [0, 1, 7, 300][usize::try_from(seed).expect("small") % 4];
            // Few different values, so that rows without a key have doubles.
            let row = |random: &mut Random, number: u64| -> Vec<String> {
                let distinct = if kind == Kind::None { random.below(9) } else { number };
                let rowid = (kind == Kind::Rowid).then(|| number.to_string());
                let value = ["null", "1", "\"x\"", "\"\\\",\""][usize::try_from(random.below(4)).expect("small")];
                rowid.into_iter().chain([distinct.to_string(), value.to_owned(), "\"k\"".to_owned()]).collect()
            };
            let before: Rows = (0..size).map(|number| row(&mut random, number)).collect();
            let mut after: Rows = Vec::new();
            for (number, old) in (0..size).zip(&before) {
                match random.below(10) {
                    0 => {}
                    1 => after.push(row(&mut random, number)),
                    _ => after.push(old.clone()),
                }
            }
            for number in size..size + random.below(6) {
                after.push(row(&mut random, number));
            }
            // A server may sort otherwise the next time.
            if seed % 2 == 0 {
                after.reverse();
            }
            let expected = oracle(kind, &columns, &before, &after);
            let (then, now) =
                (table(folder.path(), &columns, kind, &before), table(folder.path(), &columns, kind, &after));
            let equal = then.sha256 == now.sha256;
            let changes = compare(folder.path(), then, now).await;
            if equal {
                assert_eq!(changes, []);
                continue;
            }
            let [changes] = changes.as_slice() else { panic!("one table") };
            assert_eq!((changes.added, changes.changed, changes.removed), expected, "{kind:?} {seed}");
            assert_eq!((changes.rows_before, changes.rows_after), (size, after.len() as u64));
            assert_eq!((changes.presence, changes.basis), (Presence::Both, Basis::Rows));
            let shown = |change| changes.examples.iter().filter(|example| example.change == change).count() as u64;
            let most = EXAMPLES as u64;
            let expected = (expected.0.min(most), expected.1.min(most), expected.2.min(most));
            assert_eq!((shown(Change::Added), shown(Change::Changed), shown(Change::Removed)), expected);
            differed += 1;
        }
    }
    assert!(differed > 30, "{differed}");
}

#[tokio::test]
async fn more_rows_than_memory_should_hold_are_compared_through_runs_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows =
        |numbers: std::ops::Range<u64>| -> Rows { numbers.map(|number| vec![(number / 2).to_string()]).collect() };
    let before = table(folder.path(), &["a"], Kind::None, &rows(0..300_000));
    let mut now = rows(3..300_005);
    now.reverse();
    let after = table(folder.path(), &["a"], Kind::None, &now);
    let changes = compare(folder.path(), before, after).await;
    assert_eq!((changes[0].added, changes[0].changed, changes[0].removed), (5, 0, 3));
    let shown: Vec<_> = changes[0].examples.iter().filter_map(|example| example.before.clone()).collect();
    assert_eq!(shown, [r#"{"a":0}"#, r#"{"a":0}"#, r#"{"a":1}"#]);
}

fn texts(rows: &[&[&str]]) -> Rows {
    rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect()
}

#[tokio::test]
async fn a_column_that_came_changes_no_row_and_is_named() {
    for kind in [Kind::Key(&["a"]), Kind::Rowid, Kind::None] {
        let folder = tempfile::tempdir().expect("a folder");
        let first = |rows: &[&[&str]]| -> Rows {
            let mut rows = texts(rows);
            if kind == Kind::Rowid {
                rows.iter_mut().enumerate().for_each(|(at, row)| row.insert(0, at.to_string()));
            }
            rows
        };
        let before = first(&[&["1", "10", "\"x\""], &["2", "20", "\"y\""]]);
        let after = first(&[&["0", "1", "10"], &["0", "2", "21"]]);
        let before = table(folder.path(), &["a", "b", "old"], kind, &before);
        let after = table(folder.path(), &["new", "a", "b"], kind, &after);
        let changes = compare(folder.path(), before, after).await;
        assert_eq!(
            (changes[0].columns_added.join(","), changes[0].columns_removed.join(",")),
            ("new".into(), "old".into())
        );
        let expected = if kind == Kind::None { (1, 0, 1) } else { (0, 1, 0) };
        assert_eq!((changes[0].added, changes[0].changed, changes[0].removed), expected, "{kind:?}");
        if kind == Kind::Key(&["a"]) {
            let example = &changes[0].examples[0];
            assert_eq!(example.key.as_deref(), Some("a=2"));
            assert_eq!((example.before.as_deref(), example.after.as_deref()), (Some("{\"b\":20}"), Some("{\"b\":21}")));
        }
    }
}

#[tokio::test]
async fn rows_are_compared_whole_when_the_key_is_another_one_or_nothing_is_common() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = table(folder.path(), &["a", "b"], Kind::Key(&["a"]), &texts(&[&["1", "1"], &["2", "2"]]));
    let after = table(folder.path(), &["a", "b"], Kind::Key(&["b"]), &texts(&[&["1", "1"], &["3", "2"]]));
    let changes = compare(folder.path(), before.clone(), after).await;
    assert_eq!((changes[0].added, changes[0].changed, changes[0].removed), (1, 0, 1));
    let other = table(folder.path(), &["z"], Kind::Key(&["z"]), &texts(&[&["1"], &["2"], &["3"]]));
    let changes = compare(folder.path(), before, other).await;
    assert_eq!((changes[0].added, changes[0].changed, changes[0].removed), (3, 0, 2));
}

#[tokio::test]
async fn a_key_that_a_file_holds_twice_loses_no_row() {
    let folder = tempfile::tempdir().expect("a folder");
    // SQLite takes any number of nulls in a primary key that is no integer.
    let before = texts(&[&["null", "1"], &["null", "2"], &["null", "2"], &["7", "1"]]);
    let after = texts(&[&["null", "2"], &["null", "3"], &["null", "4"], &["null", "5"], &["7", "1"]]);
    let before = table(folder.path(), &["a", "b"], Kind::Key(&["a"]), &before);
    let after = table(folder.path(), &["a", "b"], Kind::Key(&["a"]), &after);
    let changes = compare(folder.path(), before, after).await;
    assert_eq!((changes[0].added, changes[0].changed, changes[0].removed), (1, 2, 0));
}

#[tokio::test]
async fn tables_that_came_or_went_are_said_so_and_long_records_are_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = format!("\"{}\"", "ä".repeat(5_000));
    let rows: Rows = (0..9).map(|number| vec![number.to_string(), long.clone()]).collect();
    let mut new = table(folder.path(), &["a", "b"], Kind::Key(&["a"]), &rows);
    new.table = "new".into();
    let gone = table(folder.path(), &["a", "b"], Kind::None, &texts(&[&["1", "2"]]));
    let changes = compare(folder.path(), gone, new).await;
    let [new, gone] = changes.as_slice() else { panic!("two tables") };
    assert_eq!((new.table.as_str(), new.presence, new.added, new.rows_after), ("new", Presence::New, 9, 9));
    assert_eq!((gone.table.as_str(), gone.presence, gone.removed, gone.rows_before), ("t", Presence::Gone, 1, 1));
    let keys: Vec<_> = new.examples.iter().filter_map(|example| example.key.clone()).collect();
    assert_eq!(keys, ["a=0", "a=1", "a=2", "a=3", "a=4"]);
    assert_eq!(new.examples[0].after.as_ref().expect("a record").chars().count(), 301);
}

#[tokio::test]
async fn a_record_file_with_another_number_of_rows_is_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = table(folder.path(), &["a"], Kind::Key(&["a"]), &texts(&[&["1"], &["2"]]));
    let after = table(folder.path(), &["a"], Kind::Key(&["a"]), &texts(&[&["1"], &["3"]]));
    for text in ["[\n{\"a\":1}\n]\n", "[\n{\"a\":1},\n", "[\n{\"a\":1},\n{\"b\":2}\n]\n"] {
        std::fs::write(folder.path().join(&after.file), text).expect("room");
        let scratch = scratch(folder.path());
        let state = |table| State::in_folder(folder.path(), std::slice::from_ref(table));
        let states = (state(&before), state(&after));
        let outcome = between(&states.0, &states.1, &scratch).await;
        assert!(matches!(outcome, Err(Error::Damaged { .. })), "{text} {outcome:?}");
    }
}

/// The tables of the world's database as they are now.
async fn now(world: &World, scratch: &Scratch) -> State {
    let clock = world.clock();
    let folder = scratch.file(&clock.nonce());
    let export = Export {
        folder: folder.clone(),
        names: BTreeMap::new(),
        app: "clinic".into(),
        point: "now_20251115_064233".parse().expect("an id"),
        instant: clock.now(),
    };
    let database = world.plan(&Part::ALL).database.expect("a database");
    let quiet = Events::none();
    let exported = export_now(&database, export, Duration::from_secs(2), scratch, (&clock, &quiet));
    State::in_folder(&folder, &exported.await.expect("an export").tables)
}

async fn since(world: &World, point: &RecoveryPoint) -> Vec<TableChanges> {
    let scratch = scratch(world.folder.path());
    let now = now(world, &scratch).await;
    tables_since(point, &now, &scratch).await.expect("a comparison")
}

#[tokio::test]
async fn a_points_records_are_held_against_the_database_as_it_is_now() {
    for in_vault in [true, false] {
        let world = World::in_folders();
        let mut plan = world.plan(&Part::ALL);
        plan.records.as_mut().expect("records").in_vault = in_vault;
        let report = world.backup_as(&plan).await.expect("a backup");
        let point = world.point(&report.point.id().to_string()).await.expect("a point");
        assert_eq!(since(&world, &point).await, []);
        sql(
            &world.database(),
            "UPDATE patient SET weight = 99.5 WHERE id = 2; DELETE FROM visit WHERE id = 1;
             INSERT INTO visit (patient, note) VALUES (1, 'again'), (1, 'and again');",
        );
        let changes = since(&world, &point).await;
        let [patient, visit] = changes.as_slice() else { panic!("two tables: {changes:?}") };
        assert_eq!((patient.added, patient.changed, patient.removed), (0, 1, 0));
        assert_eq!(patient.examples[0].before.as_deref(), Some("{\"weight\":null}"));
        assert_eq!((visit.added, visit.changed, visit.removed, visit.basis), (2, 0, 1, Basis::Rows));
        if in_vault {
            let key = format!("{}/records/visit.json", point.id());
            world.harm(&key, Some(b"[\n]\n".to_vec()));
            let scratch = scratch(world.folder.path());
            let now = now(&world, &scratch).await;
            let outcome = tables_since(&point, &now, &scratch).await;
            assert!(matches!(outcome, Err(Error::Damaged { .. })), "{outcome:?}");
        } else {
            // Without their files only the numbers are left, which is said.
            std::fs::remove_dir_all(world.records()).expect("it was there");
            let changes = since(&world, &point).await;
            let [patient, visit] = changes.as_slice() else { panic!("two tables: {changes:?}") };
            assert_eq!((patient.basis, patient.has_rows()), (Basis::Counts, false));
            assert_eq!((visit.added, visit.removed, visit.basis), (1, 0, Basis::Counts));
        }
    }
}

#[tokio::test]
async fn a_point_without_records_is_compared_by_its_numbers_of_rows() {
    let world = World::in_folders();
    let plan = world.plan(&[Part::Database]);
    let report = world.backup_as(&plan).await.expect("a backup");
    let point = world.point(&report.point.id().to_string()).await.expect("a point");
    assert_eq!(since(&world, &point).await, []);
    sql(&world.database(), "DELETE FROM visit WHERE id < 3; CREATE TABLE extra (a); INSERT INTO extra VALUES (1);");
    let changes = since(&world, &point).await;
    let [extra, visit] = changes.as_slice() else { panic!("two tables: {changes:?}") };
    assert_eq!((extra.presence, extra.added), (Presence::New, 1));
    assert_eq!((visit.removed, visit.basis), (2, Basis::Counts));
}

#[tokio::test]
async fn a_points_files_are_held_against_the_source_by_the_points_own_rules() {
    for world in [World::in_folders(), World::on_s3(nexus_sandbox::ServiceOptions::default(), hasty(2))] {
        world.backup().await.expect("a backup");
        let point = world.point("latest").await.expect("a point");
        let look = async || {
            let scratch = scratch(world.folder.path());
            let source = world.reader(&world.source);
            let changes = files_since(&point, &source, Likeness::Content, &scratch, &Events::none()).await;
            changes.expect("a comparison")
        };
        let same = look().await;
        assert!(same.values().all(|changes| !changes.has_files()), "{same:?}");
        assert_eq!(same.values().map(|changes| changes.same.files).sum::<u64>(), 7);
        world.delete("images/a.jpg");
        world.put("images/c.jpg", b"new");
        world.put("documents/2024/report +1.pdf", b"a longer report");
        world.put("tmp/other", b"left out");
        let changes = look().await;
        let images = &changes["images"];
        assert_eq!(
            (images.added.files, images.added.bytes, images.first_added.join(" ")),
            (1, 3, "images/c.jpg".into())
        );
        assert_eq!((images.removed.files, images.first_removed.join(" ")), (1, "images/a.jpg".into()));
        let documents = &changes["documents"];
        assert_eq!((documents.changed.files, documents.changed.bytes, documents.same.files), (1, 15, 1));
        assert!(!changes["other"].has_files());
    }
}

#[test]
fn random_listings_are_compared_as_a_simple_comparison_compares_them() {
    let state = |number: u64, random: &mut Random| {
        let etag = random.below(3).to_string();
        FileState {
            key: format!("{number:04}"),
            category: if number.is_multiple_of(2) { "even".into() } else { "odd".into() },
            kind: FileKind::File,
            side: Side { size: 10, etag: Some(etag), ..Side::default() },
        }
    };
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut side = || -> Vec<FileState> {
            let numbers: Vec<u64> = (0..200).filter(|_| random.below(3) > 0).collect();
            numbers.into_iter().map(|number| state(number, &mut random)).collect()
        };
        let (before, after) = (side(), side());
        let mut expected: BTreeMap<String, CategoryChanges> = BTreeMap::new();
        for number in 0..200 {
            let key = format!("{number:04}");
            let find = |side: &[FileState]| side.iter().find(|file| file.key == key).cloned();
            let (then, now) = (find(&before), find(&after));
            let Some(any) = now.as_ref().or(then.as_ref()) else { continue };
            let changes = expected.entry(any.category.clone()).or_default();
            let (number, first) = match (&then, &now) {
                (Some(then), Some(now)) if then.side.etag == now.side.etag => {
                    changes.same.add(10);
                    continue;
                }
                (Some(_), Some(_)) => (&mut changes.changed, &mut changes.first_changed),
                (None, _) => (&mut changes.added, &mut changes.first_added),
                (_, None) => (&mut changes.removed, &mut changes.first_removed),
            };
            number.add(10);
            if first.len() < EXAMPLES {
                first.push(key);
            }
        }
        let sides = || (before.clone().into_iter().map(Ok), after.clone().into_iter().map(Ok));
        let (then, now) = sides();
        assert_eq!(files::between(then, now, Likeness::Content).expect("two listings"), expected);
        let folder = tempfile::tempdir().expect("a folder");
        let (into, (then, now)) = (folder.path().join("told"), sides());
        assert_eq!(files::every_file(then, now, Likeness::Content, &into).expect("two listings"), expected);
        let told = lines(&into).expect("a file").map(|line| line.expect("a line"));
        let told: Vec<FileChange> = told.map(|line| serde_json::from_str(&line).expect("a file")).collect();
        let of = |change| told.iter().filter(|file| file.change == change).count() as u64;
        let sum = |number: fn(&CategoryChanges) -> u64| expected.values().map(number).sum::<u64>();
        assert_eq!(of(Change::Added), sum(|category| category.added.files));
        assert_eq!(of(Change::Changed), sum(|category| category.changed.files));
        assert_eq!(of(Change::Removed), sum(|category| category.removed.files));
        assert!(told.is_sorted_by(|one, other| one.key < other.key));
    }
}

#[test]
fn the_same_bytes_written_again_are_the_same_content_and_not_untouched() {
    let state = |modified: i64| {
        let side = Side {
            size: 3,
            etag: Some("e".into()),
            modified: Some(jiff::Timestamp::from_second(modified).expect("a time")),
            ..Side::default()
        };
        [Ok(FileState { key: "a".into(), category: "other".into(), kind: FileKind::File, side })]
    };
    for (likeness, expected) in [(Likeness::Content, false), (Likeness::Untouched, true)] {
        let changes = files::between(state(1).into_iter(), state(2).into_iter(), likeness).expect("two listings");
        assert_eq!(changes["other"].has_files(), expected, "{likeness:?}");
    }
}

#[test]
fn files_of_one_size_are_told_apart_by_what_is_known_of_both() {
    let side = |etag: &str, checksum: &str, modified: i64| Side {
        size: 3,
        etag: Some(etag.to_owned()).filter(|etag| !etag.is_empty()),
        checksum: Some(checksum.to_owned()).filter(|checksum| !checksum.is_empty()),
        modified: jiff::Timestamp::from_second(modified).ok().filter(|_| modified > 0),
        ..Side::default()
    };
    let state = |side| [Ok(FileState { key: "a".into(), category: "other".into(), kind: FileKind::File, side })];
    for (then, now, is_same, untold) in [
        (side("a", "", 1), side("a", "", 2), true, 0),
        (side("a", "", 1), side("b", "", 1), false, 0),
        (side("a", "", 1), side("b-2", "", 1), false, 1),
        (side("a", "sha256:1", 1), side("b-2", "sha256:1", 2), true, 0),
        (side("a", "sha256:1", 1), side("b-2", "sha256:2", 1), false, 0),
        (side("a", "sha256:1", 1), side("b-2", "crc64nvme:1", 1), false, 1),
        (side("", "", 1), side("", "", 2), false, 0),
        (side("", "", 0), side("", "", 2), true, 1),
        (side("", "sha256:1", 0), side("", "sha256:2", 2), false, 0),
    ] {
        let shown = format!("{then:?} {now:?}");
        let changes = files::between(state(then).into_iter(), state(now).into_iter(), Likeness::Content);
        let other = &changes.expect("two listings")["other"];
        assert_eq!((other.same.files == 1, other.untold), (is_same, untold), "{shown}");
    }
}

#[test]
fn a_row_that_was_to_stay_and_is_another_by_now_stops_a_restore_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let schema = "CREATE TABLE a (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO a VALUES (1, 'x')";
    rusqlite::Connection::open(&path).expect("a database").execute_batch(schema).expect("a table");
    let put = |line: &str| {
        let columns = vec!["id".to_owned(), "v".to_owned()];
        let ask = Ask { table: "a".to_owned(), columns, by: vec![("id".to_owned(), "1".to_owned())], keyed: true };
        let seen = [Seen { ask, line: line.to_owned() }];
        let (mode, wait) = (LoadMode::AddMissing(Conflict::Refuse), Duration::from_secs(1));
        let load = SqliteDatabase::new(path.clone()).load(&[], mode, wait).expect("a transaction");
        load.put_rows(&[], &seen, Ending::Undo)
    };
    put(r#"{"id":1,"v":"x"}"#).expect("it is as it was");
    let refused = put(r#"{"id":1,"v":"y"}"#);
    assert!(matches!(refused, Err(Error::Changed { .. })), "{refused:?}");
}
