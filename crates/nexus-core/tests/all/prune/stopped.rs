//! A prune that is killed at any request, or meets any single fault, leaves no hole, and the next one leaves no orphan.

use nexus_core::point::{Depth, Part};
use nexus_core::prune::PruneRequest;
use nexus_sandbox::{Fault, FaultAt, ServiceOptions};

use super::witness::{assert_no_orphans, foreign, ids, plant_foreign, prune, rules, sound};
use super::{back_up, days};
use crate::world::{BUCKET, World, hasty};

/// The files of the second go, all of the first, and the copies of both that later points still name stay.
fn request() -> PruneRequest {
    rules(4, 1, 4, 1)
}

/// Points of which one goes whole and some in part, a backup that broke off, what is foreign.
async fn scene(attempts: u32) -> World {
    let world = World::on_s3(ServiceOptions::default(), hasty(attempts)).far_on();
    days(&world, 2).await;
    let vault = world.open().await.expect("a vault");
    let label = "other".parse().expect("a label");
    let broken = vault.begin(&label, &Part::ALL, &[], &world.clock()).await.expect("a claim");
    world.plant(&format!("{}/images/half", broken.id()), b"half");
    world.plant(&format!("database/clinic_sqlite_backup_{}.db", broken.id().stamp()), b"half");
    world.pass(48);
    days(&world, 2).await;
    plant_foreign(&world);
    world
}

#[tokio::test]
async fn a_prune_stopped_at_any_request_leaves_no_hole_and_the_next_one_no_orphan() {
    let mut stopped = 0;
    for n in 1.. {
        let world = scene(1).await;
        let before = foreign(&world.vault_content());
        let service = world.service.as_ref().expect("on S3");
        service.inject(Fault::Reset, FaultAt::From(n));
        let outcome = prune(&world, request()).await;
        let fired = service.faults_fired();
        service.clear_faults();
        // Only the look at uploads that killed runs have left, the last of all, may fail without a word.
        assert!(outcome.is_err() || fired <= 1, "stopped at {n}: {outcome:?}");
        sound(&world, Depth::Full).await;
        assert_eq!(foreign(&world.vault_content()), before, "stopped at {n}");
        prune(&world, request()).await.unwrap_or_else(|error| panic!("after a stop at {n}: {error:?}"));
        sound(&world, Depth::Default).await;
        assert_eq!(foreign(&world.vault_content()), before, "stopped at {n}");
        // What was just given up is spared for a day; nothing else is left.
        assert_no_orphans(&world).await;
        if fired == 0 {
            break;
        }
        stopped += 1;
        // Then all but the newest goes, a month later even the words of what was.
        back_up(&world).await;
        world.pass(24 * 40);
        prune(&world, rules(0, 0, 0, 1)).await.unwrap_or_else(|error| panic!("after a stop at {n}: {error:?}"));
        prune(&world, rules(0, 0, 0, 1)).await.unwrap_or_else(|error| panic!("after a stop at {n}: {error:?}"));
        sound(&world, Depth::Full).await;
        assert_no_orphans(&world).await;
        let newest = ids(&world).await;
        assert_eq!(newest.len(), 1, "after a stop at {n}");
        let left = world.vault_content().into_keys().filter(|key| key.starts_with("other_"));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new(), "after a stop at {n}");
    }
    assert!(stopped > 40, "only {stopped} requests were stopped at");
}

#[tokio::test]
async fn every_single_fault_of_a_prune_is_survived() {
    let mut struck = 0;
    for fault in [
        Fault::Status500,
        Fault::Status503SlowDown,
        Fault::ErrorInside200,
        Fault::Reset,
        Fault::LostAnswer,
        Fault::CutBody,
    ] {
        for n in (1..100).step_by(7) {
            let world = scene(4).await;
            let before = foreign(&world.vault_content());
            let service = world.service.as_ref().expect("on S3");
            service.inject(fault, FaultAt::Nth(n));
            let outcome = prune(&world, request()).await;
            struck += service.faults_fired();
            service.clear_faults();
            let pruned = outcome.unwrap_or_else(|error| panic!("{fault:?} at {n}: {error:?}"));
            assert!(!pruned.removed.is_empty());
            sound(&world, Depth::Full).await;
            assert_no_orphans(&world).await;
            assert_eq!(foreign(&world.vault_content()), before, "{fault:?} at {n}");
        }
    }
    assert!(struck > 40, "only {struck} requests were struck");
}

/// A service that says it has removed things and has not.
#[tokio::test]
async fn an_empty_answer_to_a_removal_leaves_no_hole_and_the_next_prune_no_orphan() {
    for nth in 1.. {
        let world = scene(2).await;
        let service = world.service.as_ref().expect("on S3");
        service.inject(Fault::Empty200, FaultAt::Operation { name: "DeleteObjects".into(), nth });
        let _ = prune(&world, request()).await;
        let fired = service.faults_fired();
        service.clear_faults();
        sound(&world, Depth::Full).await;
        prune(&world, request()).await.unwrap_or_else(|error| panic!("at {nth}: {error:?}"));
        world.pass(24 * 40);
        prune(&world, rules(0, 0, 0, 1)).await.unwrap_or_else(|error| panic!("at {nth}: {error:?}"));
        prune(&world, rules(0, 0, 0, 1)).await.unwrap_or_else(|error| panic!("at {nth}: {error:?}"));
        sound(&world, Depth::Full).await;
        assert_no_orphans(&world).await;
        if fired == 0 {
            assert!(nth > 4, "there are but {nth} removals");
            break;
        }
    }
}

#[tokio::test]
async fn a_listing_of_which_the_second_half_fails_removes_nothing() {
    let world = scene(1).await;
    // So many that a listing has several pages.
    for at in 0..2_100 {
        world.plant(&format!("zz-other/{at}"), b"x");
    }
    let before = world.vault_content();
    let service = world.service.as_ref().expect("on S3");
    service.reset_counts();
    super::witness::plan(&world, request()).await.expect("a plan");
    let listings = service.operations()["ListObjectsV2"];
    // The last of a plan are the pages of the whole vault.
    for nth in [listings, listings - 1, listings - 2] {
        service.inject(Fault::Status500, FaultAt::Operation { name: "ListObjectsV2".into(), nth });
        super::witness::plan(&world, request()).await.expect_err("half a listing");
        service.clear_faults();
        assert_eq!(world.vault_content(), before);
    }
    // While it is carried out: whatever page fails, nothing goes that a point needs.
    let plan = super::witness::plan(&world, request()).await.expect("a plan");
    service.reset_counts();
    service.inject(Fault::Reset, FaultAt::Operation { name: "ListObjectsV2".into(), nth: listings + 1 });
    let _ = super::witness::carry_out(&world, plan).await;
    service.clear_faults();
    sound(&world, Depth::Full).await;
    prune(&world, request()).await.expect("a prune");
    assert_eq!(world.store().keys(BUCKET, "backup/zz-other/").len(), 2_100);
}
