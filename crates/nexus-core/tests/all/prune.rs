//! Prune: what goes, what stays, and that nobody who reads or writes at the same time is harmed.

mod between;
mod claims;
mod refusals;
mod stopped;
mod walks;
mod witness;

use std::collections::BTreeMap;

use nexus_core::error::Error;
use nexus_core::event::Events;
use nexus_core::pin;
use nexus_core::point::{Depth, JournalEvent, Part, PointId};
use nexus_core::restore;
use nexus_sandbox::ServiceOptions;
use nexus_testkit::digest;

use crate::world::{World, hasty, sql};
use witness::{assert_no_orphans, foreign, ids, plant_foreign, prune, rules, sound};

fn s3() -> World {
    World::on_s3(ServiceOptions::default(), hasty(2)).far_on()
}

fn folders() -> World {
    World::in_folders().far_on()
}

async fn back_up(world: &World) -> PointId {
    world.backup().await.expect("a backup").point.id().clone()
}

/// A point a day, each with one file changed.
async fn days(world: &World, count: usize) -> Vec<PointId> {
    let mut made = Vec::new();
    for at in 0..count {
        world.put("images/a.jpg", format!("the picture of day {at}").as_bytes());
        sql(&world.database(), &format!("UPDATE patient SET weight = {at} WHERE id = 1"));
        made.push(back_up(world).await);
        world.pass(24);
    }
    made
}

async fn what_is_over_goes_and_all_else_stays(world: &World) {
    let points = days(world, 5).await;
    plant_foreign(world);
    let vault = world.open().await.expect("a vault");
    pin::pin(&world.point(&points[1].to_string()).await.expect("a point"), "before the audit", &world.clock())
        .await
        .expect("a pin");
    let running =
        vault.begin(&"other".parse().expect("a label"), &Part::ALL, &[], &world.clock()).await.expect("a claim");
    let copies = format!("{}/images/half", running.id());
    world.plant(&copies, b"of a backup that is under way");
    let before = world.vault_content();

    let pruned = prune(world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(pruned.removed.iter().filter(|one| one.whole).count(), 3, "{pruned:?}");
    assert_eq!(ids(world).await, [points[1].clone(), points[4].clone()]);
    sound(world, Depth::Full).await;
    let after = world.vault_content();
    assert_eq!(foreign(&after), foreign(&before));
    // What stays of the points and of the claim stays byte for byte; only journals grow.
    for (key, body) in &before {
        let kept = [&points[1], &points[4], running.id()].into_iter().any(|id| key.starts_with(&format!("{id}/")));
        assert!(!kept || after.get(key) == Some(body), "{key} was changed or removed");
    }
    for id in [&points[0], &points[2], &points[3]] {
        assert!(!after.keys().any(|key| key.contains(id.stamp()) && key.starts_with("database/")), "{id} is not gone");
    }
    assert_no_orphans(world).await;
    assert!(after.contains_key(&copies));
    let again = prune(world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert!(again.removed.is_empty() && again.swept.removed.files == 0, "{again:?}");
}

#[tokio::test]
async fn what_is_over_goes_and_all_else_stays_byte_for_byte_in_a_bucket() {
    what_is_over_goes_and_all_else_stays(&s3()).await;
}

#[tokio::test]
async fn what_is_over_goes_and_all_else_stays_byte_for_byte_in_a_folder() {
    what_is_over_goes_and_all_else_stays(&folders()).await;
}

#[tokio::test]
async fn what_is_not_ours_inside_a_points_folder_stays_when_the_point_goes() {
    for world in [s3(), folders()] {
        let points = days(&world, 2).await;
        let notes = [
            format!("{}/notes.txt", points[0]),
            format!("{}/notes/mine", points[0]),
            format!("{}/.trash/notes", points[1]),
        ];
        for key in &notes {
            world.plant(key, b"a person's own");
        }
        prune(&world, rules(0, 0, 0, 1)).await.expect("a prune");
        let content = world.vault_content();
        assert!(notes.iter().all(|key| content.contains_key(key)));
        assert_eq!(ids(&world).await, [points[1].clone()]);
        sound(&world, Depth::Default).await;
        let plan = witness::plan(&world, rules(0, 0, 0, 1)).await.expect("a plan");
        assert!(plan.is_empty(), "there is always something to do: {plan:?}");
    }
}

async fn a_chain(world: &World, length: usize) {
    let mut kept = Vec::new();
    for at in 0..length {
        // Each point reuses most of what all before it have copied.
        world.put(&format!("images/{at}.jpg"), format!("picture {at}").as_bytes());
        kept.push(back_up(world).await);
        world.pass(1);
    }
    let newest = kept.last().expect("points").clone();
    let (files, database) = (world.files(), digest::database(&world.database()));
    prune(world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(world).await, std::slice::from_ref(&newest));
    sound(world, Depth::Default).await;
    sound(world, Depth::Full).await;
    assert_no_orphans(world).await;
    for at in 0..length {
        world.delete(&format!("images/{at}.jpg"));
    }
    sql(&world.database(), "DELETE FROM visit");
    world.restore(&newest.to_string()).await.expect("a restore");
    assert_eq!(digest::database(&world.database()), database);
    if world.service.is_some() {
        assert_eq!(world.files(), files);
    }
    // Once nothing names the old copies any more, nothing of the old points is left.
    for at in 0..length {
        world.put(&format!("images/{at}.jpg"), b"all is new");
    }
    for key in ["documents/2024/report +1.pdf", "documents/Änderung & more.docx", "images/a.jpg", "images/b.JPG"] {
        world.put(key, b"all is new");
    }
    for key in ["notes", "notes-2/x", "zero"] {
        world.put(key, b"all is new");
    }
    world.pass(1);
    let last = back_up(world).await;
    prune(world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(world).await, std::slice::from_ref(&last));
    sound(world, Depth::Full).await;
    assert_no_orphans(world).await;
    let left: Vec<String> =
        world.vault_content().into_keys().filter(|key| !key.contains(last.stamp()) && key != "vault.json").collect();
    assert!(left.is_empty(), "left of points that are gone: {left:?}");
}

#[tokio::test]
async fn of_fifty_points_that_reuse_each_other_the_newest_alone_is_whole_in_a_bucket() {
    a_chain(&s3(), 50).await;
}

#[tokio::test]
async fn of_fifty_points_that_reuse_each_other_the_newest_alone_is_whole_in_a_folder() {
    a_chain(&folders(), 50).await;
}

#[tokio::test]
async fn what_later_points_name_stays_whichever_points_in_between_are_gone() {
    let world = s3();
    let points = days(&world, 8).await;
    for at in [0, 3, 6] {
        let point = world.point(&points[at].to_string()).await.expect("a point");
        pin::pin(&point, "every third", &world.clock()).await.expect("a pin");
    }
    prune(&world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(&world).await, [0, 3, 6, 7].map(|at| points[at].clone()));
    sound(&world, Depth::Full).await;
    assert_no_orphans(&world).await;
    pin::unpin(&world.point(&points[3].to_string()).await.expect("a point"), &world.clock()).await.expect("an unpin");
    prune(&world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(&world).await, [0, 6, 7].map(|at| points[at].clone()));
    sound(&world, Depth::Full).await;
    assert_no_orphans(&world).await;
}

async fn files_go_and_the_database_stays(world: &World) {
    let points = days(world, 3).await;
    let pruned = prune(world, rules(90, 0, 90, 1)).await.expect("a prune");
    assert_eq!(pruned.removed.len(), 2);
    assert!(pruned.removed.iter().all(|one| !one.whole && one.parts == [Part::Files]), "{pruned:?}");
    assert_eq!(ids(world).await, points);
    sound(world, Depth::Full).await;
    assert_no_orphans(world).await;
    for id in &points[..2] {
        let point = world.point(&id.to_string()).await.expect("a point");
        assert_eq!(point.kept(), [Part::Database, Part::Records]);
        assert_eq!(point.entries().expired(), [Part::Files]);
        assert!(point.entries().proven(point.manifest()).is_some(), "{id} is not proven any more");
        let listing = format!("{id}/files.jsonl.zst");
        assert!(!world.vault_content().contains_key(&listing), "{listing} is still there");
        let request = restore::RestoreRequest { records: None, ..world.request() };
        let refused = restore::plan(point.clone(), request, &world.scratch(), &world.clock(), &Events::none()).await;
        let Err(Error::Usage { what, hint }) = refused else { panic!("files that expired are to be restored") };
        let hint = hint.expect("what to do");
        assert!(what.contains("files") && what.contains("expired"), "{what}");
        assert!(hint.contains("--only database,records") && hint.contains(&points[2].to_string()), "{hint}");
        let request = restore::RestoreRequest { files: None, ..world.request() };
        restore::plan(point, request, &world.scratch(), &world.clock(), &Events::none()).await.expect("what is left");
    }
    // The oldest one's database alone comes back as it was that day.
    let point = world.point(&points[0].to_string()).await.expect("a point");
    let request = restore::RestoreRequest { files: None, ..world.request() };
    let plan = restore::plan(point, request, &world.scratch(), &world.clock(), &Events::none()).await.expect("a plan");
    restore::restore(plan, None, &world.clock(), &Events::none()).await.expect("a restore");
    let connection = rusqlite::Connection::open(world.database()).expect("a database");
    let weight: f64 =
        connection.query_row("SELECT weight FROM patient WHERE id = 1", [], |row| row.get(0)).expect("a row");
    assert!(weight.abs() < 0.1, "{weight}");
    // Then the rest of it goes as well, and nothing of it is left.
    prune(world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(world).await, [points[2].clone()]);
    sound(world, Depth::Full).await;
    assert_no_orphans(world).await;
}

#[tokio::test]
async fn files_go_and_the_database_stays_proven_and_restorable_in_a_bucket() {
    files_go_and_the_database_stays(&s3()).await;
}

#[tokio::test]
async fn files_go_and_the_database_stays_proven_and_restorable_in_a_folder() {
    files_go_and_the_database_stays(&folders()).await;
}

#[tokio::test]
async fn the_database_goes_first_and_its_object_with_it_while_the_files_stay() {
    let world = s3();
    let points = days(&world, 2).await;
    prune(&world, rules(0, 90, 90, 1)).await.expect("a prune");
    let content = world.vault_content();
    assert!(!content.keys().any(|key| key.starts_with("database/") && key.contains(points[0].stamp())));
    sound(&world, Depth::Full).await;
    assert_no_orphans(&world).await;
    prune(&world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(&world).await, [points[1].clone()]);
    assert_no_orphans(&world).await;
}

#[tokio::test]
async fn a_point_of_the_future_stays_and_expels_nobody() {
    let world = s3();
    world.pass(24 * 400);
    let future = back_up(&world).await;
    let world = world.far_on();
    let points = days(&world, 3).await;
    prune(&world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(&world).await, [points[2].clone(), future]);
    sound(&world, Depth::Full).await;
}

#[tokio::test]
async fn an_old_hold_counts_no_more_and_a_fresh_one_keeps_all_of_the_point() {
    let world = s3();
    let points = days(&world, 3).await;
    let hold = || JournalEvent::Hold { by: "drill".into(), safety: None, target: None };
    let journal = world.point(&points[0].to_string()).await.expect("a point").journal();
    journal.add(hold(), &world.clock()).await.expect("a hold");
    prune(&world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(&world).await, [points[0].clone(), points[2].clone()]);
    sound(&world, Depth::Full).await;
    world.pass(8 * 24);
    prune(&world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(&world).await, [points[2].clone()]);
    assert_no_orphans(&world).await;
}

#[tokio::test]
async fn folders_of_records_go_with_their_point_and_others_never() {
    let world = s3();
    let points = days(&world, 3).await;
    let folder = |name: &str| world.records().join(name);
    // A person's own file beside the records, a folder that only looks like one of ours, one of another app.
    std::fs::write(folder(&points[1].to_string()).join("mine.txt"), "mine").expect("room");
    let like = folder("test_20200101_000000");
    std::fs::create_dir(&like).expect("room");
    std::fs::write(like.join("backup_summary.json"), "{}").expect("room");
    let theirs = folder("test_20200102_000000");
    std::fs::create_dir(&theirs).expect("room");
    let summary =
        std::fs::read_to_string(folder(&points[0].to_string()).join("backup_summary.json")).expect("a summary");
    let renamed = summary.replace(&points[0].to_string(), "test_20200102_000000");
    std::fs::write(theirs.join("backup_summary.json"), renamed.replace("\"clinic\"", "\"dentist\"")).expect("room");
    // One that bears another name than its summary says.
    let moved = folder("test_20200103_000000");
    std::fs::create_dir(&moved).expect("room");
    std::fs::write(moved.join("backup_summary.json"), &summary).expect("room");
    let others: Vec<_> = [&like, &theirs, &moved].map(|path| nexus_testkit::tree::digest(path)).into();

    let request = nexus_core::prune::PruneRequest { records: Some(world.records()), ..rules(0, 0, 0, 1) };
    let pruned = prune(&world, request).await.expect("a prune");
    assert_eq!(pruned.folders.len(), 1, "{pruned:?}");
    assert!(!folder(&points[0].to_string()).exists(), "the oldest one's records are still here");
    let left: Vec<_> = nexus_testkit::tree::digest(&folder(&points[1].to_string())).into_keys().collect();
    assert_eq!(left, ["mine.txt"], "a person's own file");
    assert!(folder(&points[2].to_string()).join("backup_summary.json").exists());
    assert_eq!(others, [&like, &theirs, &moved].map(|path| nexus_testkit::tree::digest(path)));
    sound(&world, Depth::Full).await;
}

#[tokio::test]
async fn records_of_a_point_that_stays_after_all_stay_on_this_machine() {
    let world = s3();
    let points = days(&world, 3).await;
    let request = nexus_core::prune::PruneRequest { records: Some(world.records()), ..rules(0, 0, 0, 1) };
    let plan = witness::plan(&world, request).await.expect("a plan");
    assert_eq!(plan.folders.len(), 2);
    pin::pin(&world.point(&points[0].to_string()).await.expect("a point"), "before the audit", &world.clock())
        .await
        .expect("a pin");
    let pruned = witness::carry_out(&world, plan).await.expect("a prune");
    assert_eq!(pruned.withdrawn.len(), 1, "{pruned:?}");
    let here = |id: &PointId| world.records().join(id.to_string()).join("backup_summary.json").exists();
    assert_eq!([&points[0], &points[1], &points[2]].map(here), [true, false, true]);
    sound(&world, Depth::Full).await;
}

#[tokio::test]
async fn a_plan_says_what_the_prune_then_does_and_writes_nothing() {
    let world = s3();
    days(&world, 4).await;
    plant_foreign(&world);
    let before = world.vault_content();
    let plan = witness::plan(&world, rules(1, 0, 90, 2)).await.expect("a plan");
    assert_eq!(world.vault_content(), before);
    let (doomed, swept) = (plan.doomed.clone(), plan.swept.clone());
    let pruned = witness::carry_out(&world, plan).await.expect("a prune");
    let by_point = |removed: &[nexus_core::prune::Doomed]| -> BTreeMap<PointId, (Vec<Part>, bool)> {
        removed.iter().map(|one| (one.point.clone(), (one.parts.clone(), one.whole))).collect()
    };
    assert_eq!(by_point(&pruned.removed), by_point(&doomed));
    assert_eq!(pruned.swept.foreign, swept.foreign);
    // What the prune itself wrote into journals goes with them.
    assert!(pruned.swept.removed.files >= swept.removed.files, "{pruned:?} {swept:?}");
}
