//! Rows held against the files they name, against a simple comparison of sets in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use nexus_core::backup::BackupPlan;
use nexus_core::bucket::Address;
use nexus_core::error::Error;
use nexus_core::event::Events;
use nexus_core::local::Scratch;
use nexus_core::point::references::{Reference, ReferenceCounts, References};
use nexus_core::point::{Count, Part};
use nexus_core::references::{self, Kind, Wrong};
use nexus_core::vault::RecoveryPoint;
use nexus_sandbox::ServiceOptions;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use crate::world::{World, hasty, sql};

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn of<'a>(&mut self, some: &[&'a str]) -> &'a str {
        some[usize::try_from(self.below(some.len() as u64)).expect("few")]
    }

    /// A name of few letters, so that many are alike.
    fn name(&mut self) -> String {
        let letters = ["a", "A", "b", "ü", "u\u{308}", "Ü", "U\u{308}", "1"];
        let length = 1 + self.below(3);
        let stem: String = (0..length).map(|_| self.of(&letters)).collect();
        format!("{stem}{}", self.of(&["", ".pdf", ".PDF"]))
    }
}

fn reference(table: &str, column: &str) -> Reference {
    Reference { table: table.into(), column: column.into(), prefix: String::new(), base: None }
}

fn plan(world: &World, references: &[Reference]) -> BackupPlan {
    BackupPlan { references: references.to_vec(), ..world.plan(&Part::ALL) }
}

/// One that is wrong, as the comparison in memory tells it as well.
type Told = (String, String, String, Option<String>);

async fn looked(world: &World, point: &RecoveryPoint, of: &[Reference]) -> Result<(References, Vec<Told>), Error> {
    let scratch = Scratch::create(&world.scratch())?;
    let looked = references::look(point, of, &scratch, &Events::none()).await?;
    let mut told = Vec::new();
    for wrong in looked.findings.into_iter().flatten() {
        told.push(match wrong? {
            Wrong::Orphan(orphan) => ("orphaned".to_owned(), orphan.size.to_string(), orphan.key, None),
            Wrong::Row(row) => {
                let fields: Vec<_> = row.primary_key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let place = format!("{} {}.{}", fields.join(" "), row.table, row.column);
                (format!("{:?}", row.kind), place, row.key, row.like)
            }
        });
    }
    Ok((looked.references, told))
}

/// What keys go by among those that are alike.
fn half(text: &str) -> Vec<u8> {
    Sha256::digest(text)[..16].to_vec()
}

/// What two columns of the table `item` and the files come to, by sets.
fn simply(rows: &[[Option<String>; 2]], files: &BTreeMap<String, u64>, prefixes: [&str; 2]) -> (References, Vec<Told>) {
    let nfc = |key: &str| key.nfc().collect::<String>();
    let fold = |key: &str| nfc(key).to_lowercase();
    let mut named: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let key = |row: usize, column: usize| {
        let value = rows[row][column].as_ref().filter(|value| !value.is_empty())?;
        Some(format!("{}{value}", prefixes[column]))
    };
    for row in 0..rows.len() {
        for key in (0..2).filter_map(|column| key(row, column)) {
            named.entry(key).or_default().insert(row);
        }
    }
    let (mut counts, mut told) = ([ReferenceCounts::default(); 2], Vec::new());
    for row in 0..rows.len() {
        for column in 0..2 {
            let Some(key) = key(row, column) else { continue };
            let count = &mut counts[column];
            count.named += 1;
            let (kind, number) = if files.contains_key(&key) {
                if named[&key].len() == 1 {
                    continue;
                }
                (Kind::Shared, &mut count.shared)
            } else if files.keys().any(|file| nfc(file) == nfc(&key)) {
                (Kind::OtherForm, &mut count.other_form)
            } else if files.keys().any(|file| fold(file) == fold(&key)) {
                (Kind::OtherCase, &mut count.other_case)
            } else {
                (Kind::Dangling, &mut count.dangling)
            };
            *number += 1;
            let place = format!("id={} item.{}", row + 1, ["one", "two"][column]);
            told.push((format!("{kind:?}"), place, key, None));
        }
    }
    // Keys that are alike go by their hashes: each that is not there means one file, of its own form if there is one, and rather one
    // that no key before it names.
    let hashes = |key: &String| (half(&nfc(key)), half(key));
    let mut keys: Vec<&String> = named.keys().collect();
    keys.sort_by_key(|key| hashes(key));
    let mut like: Vec<&String> = files.keys().collect();
    like.sort_by_key(|file| hashes(file));
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    let mut meant: BTreeSet<&String> = BTreeSet::new();
    for key in keys {
        if files.contains_key(key) {
            seen.insert(key);
            continue;
        }
        let alike = like.iter().filter(|file| fold(file) == fold(key));
        meant.extend(alike.min_by_key(|file| (nfc(file) != nfc(key), seen.contains(*file))).copied());
    }
    let mut orphaned = Count::default();
    for (file, size) in files {
        let within = prefixes.iter().any(|prefix| file.starts_with(prefix));
        if within && !named.contains_key(file) && !meant.contains(&file) {
            orphaned.add(*size);
            told.push(("orphaned".to_owned(), size.to_string(), file.clone(), None));
        }
    }
    let columns = ["one", "two"].iter().zip(prefixes).zip(counts).map(|((column, prefix), counts)| {
        let reference = Reference { prefix: prefix.to_owned(), ..reference("item", column) };
        nexus_core::point::references::ReferenceColumn { reference, counts: Some(counts) }
    });
    (References { columns: columns.collect(), orphaned: Some(orphaned), unchecked: None }, told)
}

fn insert(rows: &[[Option<String>; 2]]) -> String {
    let value = |value: &Option<String>| match value {
        Some(text) => format!("'{}'", text.replace('\'', "''")),
        None => "NULL".to_owned(),
    };
    let mut text = "CREATE TABLE item (id INTEGER PRIMARY KEY, one TEXT, two TEXT);\n".to_owned();
    for (at, [one, two]) in rows.iter().enumerate() {
        writeln!(text, "INSERT INTO item VALUES ({}, {}, {});", at + 1, value(one), value(two)).expect("text");
    }
    text
}

#[tokio::test]
async fn random_rows_and_files_are_held_against_each_other_as_sets_in_memory_are() {
    for seed in 0..24 {
        let mut random = Random(seed);
        let world = World::in_folders().far_on();
        let Address::Folder(media) = &world.source else { panic!("a world in folders") };
        std::fs::remove_dir_all(media).expect("it was made");
        std::fs::create_dir(media).expect("room on the disk");
        let prefixes = [random.of(&["", "m/"]), random.of(&["m/", "n/"])];
        let mut files = BTreeMap::new();
        for _ in 0..random.below(40) {
            let key = format!("{}{}", random.of(&["", "m/", "n/"]), random.name());
            if key != "m" && key != "n" {
                let size = random.below(9);
                world.put(&key, &vec![7; usize::try_from(size).expect("few")]);
                files.insert(key, size);
            }
        }
        let names: Vec<String> = files.keys().cloned().collect();
        let value = |random: &mut Random| match random.below(8) {
            0 => None,
            1 => Some(String::new()),
            2..5 => {
                let known = names.get(usize::try_from(random.below(names.len().max(1) as u64)).expect("few"))?;
                let bare = known.split_once('/').map_or(known.as_str(), |(_, bare)| bare);
                Some(if random.below(2) == 0 { known.clone() } else { bare.to_owned() })
            }
            _ => Some(random.name()),
        };
        let rows: Vec<[Option<String>; 2]> =
            (0..random.below(60)).map(|_| [value(&mut random), value(&mut random)]).collect();
        sql(&world.database(), &insert(&rows));

        let of = [("one", prefixes[0]), ("two", prefixes[1])];
        let of = of.map(|(column, prefix)| Reference { prefix: prefix.to_owned(), ..reference("item", column) });
        let report = world.backup_as(&plan(&world, &of)).await.expect("a point");
        let (expected, wrong) = simply(&rows, &files, prefixes);
        assert_eq!(report.point.manifest().references.as_ref(), Some(&expected), "seed {seed}");
        let (references, told) = looked(&world, &report.point, &of).await.expect("a look");
        assert_eq!(references, expected, "seed {seed}");
        let mut likes = told.iter().filter_map(|(_, _, key, like)| Some((key, like.as_ref()?)));
        assert!(likes.all(|(key, like)| files.contains_key(like) && !files.contains_key(key)), "seed {seed}: {told:?}");
        let bare: Vec<Told> = told.into_iter().map(|(kind, place, key, _)| (kind, place, key, None)).collect();
        assert_eq!(bare, wrong, "seed {seed}");
    }
}

#[tokio::test]
async fn a_table_or_column_that_is_not_there_is_refused_before_anything_is_claimed() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2)).far_on();
    for (wrong, what, hint) in [
        (reference("patients", "photo"), "`patients`", "`patient`"),
        (reference("patient", "photos"), "no column `photos`", "`photo`"),
        (reference("nothing_like_it", "photo"), "`nothing_like_it`", "record name"),
        (Reference { base: Some("*".into()), ..reference("patient", "photo") }, "base", "for example"),
    ] {
        let error = world.backup_as(&plan(&world, &[wrong])).await.expect_err("it is not there");
        let Error::Usage { what: said, hint: hinted } = &error else { panic!("{error:?}") };
        assert!(said.contains(what) && hinted.as_ref().is_some_and(|said| said.contains(hint)), "{error:?}");
    }
    let twice = [reference("visit", "note"), reference("visit", "note")];
    assert!(matches!(world.backup_as(&plan(&world, &twice)).await, Err(Error::Usage { .. })));
    let claims = world.store().keys(crate::world::BUCKET, "backup/");
    assert!(claims.iter().all(|key| key.ends_with("vault.json")), "something was claimed: {claims:?}");
}

#[tokio::test]
async fn a_record_name_stands_for_its_table() {
    let world = World::in_folders().far_on();
    let mut plan = plan(&world, &[reference("visits", "note")]);
    plan.records.as_mut().expect("records").names = [("visits".to_owned(), "visit".to_owned())].into();
    let report = world.backup_as(&plan).await.expect("a point");
    let references = report.point.manifest().references.clone().expect("references");
    assert_eq!(references.columns[0].reference, reference("visit", "note"));
    assert_eq!(references.total().expect("counts").dangling, 3);
}

#[tokio::test]
async fn a_point_without_records_or_without_files_is_not_counted_as_checked() {
    let world = World::in_folders().far_on();
    let of = [reference("visit", "note")];
    for (parts, reason) in [
        (vec![Part::Database, Part::Files], "the point has no records"),
        (vec![Part::Database, Part::Records], "the point has no files"),
        (vec![Part::Files], "the point has no records"),
    ] {
        let plan = BackupPlan { parts, ..plan(&world, &of) };
        let point = world.backup_as(&plan).await.expect("a point").point;
        let references = point.manifest().references.clone().expect("references");
        assert_eq!(references.unchecked.as_deref(), Some(reason));
        assert_eq!((references.total(), references.orphaned), (None, None));
        let (again, told) = looked(&world, &point, &of).await.expect("an answer");
        assert_eq!((again.unchecked.as_deref(), told.len()), (Some(reason), 0));
    }
    let without = world.backup().await.expect("a point");
    assert_eq!(without.point.manifest().references, None);
}

#[tokio::test]
async fn values_of_every_kind_and_tables_of_every_shape_are_told() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2)).far_on();
    let of = [reference("two_keys", "file"), reference("no_key", "file"), reference("text_key", "file")];
    sql(
        &world.database(),
        "CREATE TABLE two_keys (ward TEXT, bed INTEGER, file, PRIMARY KEY (bed, ward));
         CREATE TABLE no_key (file);
         CREATE TABLE text_key (name TEXT PRIMARY KEY, file TEXT);
         INSERT INTO two_keys VALUES ('a \"b\"', 1, 'images/a.jpg'), ('c', 2, x'7a65726f'), ('c', 3, x'ff00'), ('d', 4, 42), ('e', 5, 1.5), ('f', 6, '');
         INSERT INTO no_key VALUES ('zero'), (char(10) || 'two' || char(9) || 'lines' || char(0)), ('images/B.jpg');
         INSERT INTO text_key VALUES (char(27) || '[31m', replace(hex(zeroblob(5000000)), '0', 'x'));",
    );
    let point = world.backup_as(&plan(&world, &of)).await.expect("a point").point;
    let (references, told) = looked(&world, &point, &of).await.expect("a look");
    assert_eq!(point.manifest().references.as_ref(), Some(&references));
    let told: Vec<(String, String, String, Option<String>)> =
        told.into_iter().map(|(kind, place, key, like)| (kind, place, key.chars().take(20).collect(), like)).collect();
    let row = |kind: &str, place: &str, key: &str, like: Option<&str>| {
        (kind.to_owned(), place.to_owned(), key.to_owned(), like.map(str::to_owned))
    };
    let rows: Vec<_> = told.iter().filter(|(kind, ..)| kind != "orphaned").cloned().collect();
    assert_eq!(
        rows,
        [
            row("Shared", "bed=2 ward=\"c\" two_keys.file", "zero", None),
            row("Dangling", "bed=3 ward=\"c\" two_keys.file", "\u{fffd}\0", None),
            row("Dangling", "bed=4 ward=\"d\" two_keys.file", "42", None),
            row("Dangling", "bed=5 ward=\"e\" two_keys.file", "1.5", None),
            row("Shared", "$rowid=1 no_key.file", "zero", None),
            row("Dangling", "$rowid=2 no_key.file", "\ntwo\tlines\0", None),
            row("OtherCase", "$rowid=3 no_key.file", "images/B.jpg", Some("images/b.JPG")),
            row("Dangling", "name=\"\\u001b[31m\" text_key.file", "xxxxxxxxxxxxxxxxxxxx", None),
        ]
    );
}

#[tokio::test]
async fn records_are_read_where_they_are_and_damage_is_no_answer() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2)).far_on();
    let of = [reference("visit", "note")];
    let point = world.backup_as(&plan(&world, &of)).await.expect("a point").point;
    let expected = looked(&world, &point, &of).await.expect("a look");
    std::fs::remove_dir_all(world.records()).expect("they were kept here too");
    assert_eq!(looked(&world, &point, &of).await.expect("from the vault alone"), expected);

    let key = format!("{}/records/visit.json", point.id());
    let whole = world.vault_content().remove(&key).expect("it is there");
    for harm in [None, Some(whole[..whole.len() - 3].to_vec())] {
        world.harm(&key, harm);
        let error = looked(&world, &point, &of).await.expect_err("damage");
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        world.harm_or_put(&key, &whole);
    }
    world.harm(&format!("{}/files.jsonl.zst", point.id()), Some(b"no listing".to_vec()));
    let error = looked(&world, &point, &of).await.expect_err("damage");
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn a_marker_of_a_folder_is_no_orphan_and_a_base_is_stripped() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2)).far_on();
    world.put("images/", b"");
    world.put("images/100% +.jpg", b"x");
    sql(
        &world.database(),
        "CREATE TABLE item (id INTEGER PRIMARY KEY, url TEXT);
         INSERT INTO item VALUES (1, 'https://cdn-2.example.org/media/a.jpg?v=3'), (2, 'https://cdn-2.example.org/media/100%25%20%2B.jpg'),
           (3, 'b.JPG'), (4, 'https://elsewhere.example.org/x.jpg');",
    );
    let base = Some("https://*.example.org/media".to_owned());
    let of = [Reference { prefix: "images/".into(), base, ..reference("item", "url") }];
    let point = world.backup_as(&plan(&world, &of)).await.expect("a point").point;
    let (references, told) = looked(&world, &point, &of).await.expect("a look");
    assert_eq!(references.orphaned, Some(Count::default()), "{told:?}");
    let keys: Vec<&str> = told.iter().map(|(_, _, key, _)| key.as_str()).collect();
    assert_eq!(keys, ["images/https://elsewhere.example.org/x.jpg"]);
}

#[tokio::test]
async fn more_rows_than_memory_should_hold_are_checked_through_runs_on_disk() {
    let world = World::in_folders().far_on();
    sql(
        &world.database(),
        "CREATE TABLE item (id INTEGER PRIMARY KEY, file TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 280000)
         INSERT INTO item SELECT i, CASE WHEN i % 1000 = 0 THEN 'notes' WHEN i = 7 THEN 'NOTES' ELSE 'lost/' || i END FROM n;",
    );
    let of = [reference("item", "file")];
    let point = world.backup_as(&plan(&world, &of)).await.expect("a point").point;
    let references = point.manifest().references.clone().expect("references");
    let total = references.total().expect("counts");
    let expected = ReferenceCounts { named: 280_000, dangling: 279_719, other_case: 1, other_form: 0, shared: 280 };
    assert_eq!(total, expected);
    let (again, told) = looked(&world, &point, &of).await.expect("a look");
    assert_eq!(again, references);
    let rows: Vec<_> = told.iter().filter(|(kind, ..)| kind != "orphaned").collect();
    assert_eq!(rows.len(), 280_000);
    assert!(rows.iter().enumerate().all(|(at, row)| row.1 == format!("id={} item.file", at + 1)));
}

#[tokio::test]
async fn a_column_that_names_files_below_the_sources_prefix_is_likely_with_it() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2)).far_on();
    let mut rows = String::new();
    for number in 0..30 {
        world.put(&format!("media/{number}.jpg"), b"x");
        writeln!(rows, "INSERT INTO item (whole, bare) VALUES ('media/{number}.jpg', '{number}.jpg');").expect("text");
    }
    sql(&world.database(), &format!("CREATE TABLE item (whole TEXT, bare TEXT);\n{rows}"));
    let point = world.backup().await.expect("a point").point;
    let tables = &point.manifest().parts.records.as_ref().expect("records").tables;
    let folder = world.records().join(point.id().to_string());
    let scratch = Scratch::create(&world.scratch()).expect("scratch");
    let listed = world.reader(&world.source).list("media/", scratch.path(), &Events::none()).await.expect("a listing");
    let likely = references::likely(tables, &folder, (listed, "media/"), &scratch).await.expect("a look");
    let found: Vec<(Reference, u64, u64)> =
        likely.into_iter().map(|one| (one.reference, one.values, one.found)).collect();
    let with_prefix = Reference { prefix: "media/".into(), ..reference("item", "bare") };
    assert_eq!(found, [(reference("item", "whole"), 30, 30), (with_prefix, 30, 30)]);
}

#[tokio::test]
async fn of_files_that_are_alike_only_the_one_that_a_row_means_is_no_orphan() {
    let world = World::in_folders().far_on();
    let Address::Folder(media) = &world.source else { panic!("a world in folders") };
    std::fs::remove_dir_all(media).expect("it was made");
    std::fs::create_dir(media).expect("room on the disk");
    for key in ["m/a.jpg", "m/A.JPG", "m/A.jPG"] {
        world.put(key, b"x");
    }
    sql(
        &world.database(),
        "CREATE TABLE item (id INTEGER PRIMARY KEY, file TEXT); INSERT INTO item VALUES (1, 'm/A.jpg');",
    );
    let of = [reference("item", "file")];
    let point = world.backup_as(&plan(&world, &of)).await.expect("a point").point;
    let (references, told) = looked(&world, &point, &of).await.expect("a look");
    assert_eq!(references.orphaned, Some(Count { files: 2, bytes: 2 }), "{told:?}");
    let like: Vec<&String> = told.iter().filter_map(|(.., like)| like.as_ref()).collect();
    assert!(told.iter().all(|(.., key, _)| Some(&key) != like.first()) && like.len() == 1, "{told:?}");
}

#[tokio::test]
async fn a_link_is_no_file_that_a_row_can_name() {
    let world = World::in_folders().far_on();
    let Address::Folder(media) = &world.source else { panic!("a world in folders") };
    std::os::unix::fs::symlink("nowhere", media.join("link.jpg")).expect("a link");
    sql(
        &world.database(),
        "CREATE TABLE item (id INTEGER PRIMARY KEY, file TEXT); INSERT INTO item VALUES (1, 'link.jpg');",
    );
    let of = [reference("item", "file")];
    let point = world.backup_as(&plan(&world, &of)).await.expect("a point").point;
    let (references, told) = looked(&world, &point, &of).await.expect("a look");
    assert_eq!(references.total().expect("counts").dangling, 1);
    assert!(told.iter().all(|(kind, _, key, _)| kind != "orphaned" || key != "link.jpg"), "{told:?}");
}

#[tokio::test]
async fn a_file_that_is_newer_than_the_rows_is_no_orphan() {
    // Its clock is behind that of the disk, so that every file is newer.
    let world = World::in_folders();
    let of = [reference("visit", "note")];
    let point = world.backup_as(&plan(&world, &of)).await.expect("a point").point;
    let (references, told) = looked(&world, &point, &of).await.expect("a look");
    assert_eq!(point.manifest().references.as_ref(), Some(&references));
    assert_eq!(references.orphaned, Some(Count::default()), "{told:?}");
    assert_eq!(references.total().expect("counts").dangling, 3);
}

#[tokio::test]
async fn bytes_that_are_no_text_name_no_file_that_looks_like_them() {
    let world = World::in_folders().far_on();
    world.put("\u{fffd}.jpg", b"x");
    sql(
        &world.database(),
        "CREATE TABLE item (id INTEGER PRIMARY KEY, file); INSERT INTO item VALUES (1, x'ff2e6a7067');",
    );
    let of = [reference("item", "file")];
    let point = world.backup_as(&plan(&world, &of)).await.expect("a point").point;
    let (references, told) = looked(&world, &point, &of).await.expect("a look");
    assert_eq!(references.total().expect("counts").dangling, 1);
    assert!(told.contains(&("Dangling".to_owned(), "id=1 item.file".to_owned(), "\u{fffd}.jpg".to_owned(), None)));
    assert!(told.iter().any(|(kind, _, key, _)| kind == "orphaned" && key == "\u{fffd}.jpg"), "{told:?}");
}
