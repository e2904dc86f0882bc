//! Backups that broke off, or slept: given up, swept, remembered for a month, and never committed late.

use nexus_core::error::Error;
use nexus_core::event::Events;
use nexus_core::pin;
use nexus_core::point::{Depth, JournalEvent, Part, PointId};
use nexus_core::prune::Fate;
use nexus_core::vault::Standing;
use nexus_sandbox::{Fault, FaultAt, ServiceOptions};

use super::witness::{assert_no_orphans, ids, plan, prune, rules, sound};
use super::{back_up, days, folders, s3};
use crate::world::{BUCKET, World, hasty};

/// The keys of one id, its database with them.
fn of(world: &World, id: &PointId) -> Vec<String> {
    world.vault_content().into_keys().filter(|key| key.contains(id.stamp())).collect()
}

#[tokio::test]
async fn what_a_backup_killed_at_any_request_has_stored_is_gone_three_days_later_and_its_word_after_a_month() {
    let mut broken = 0;
    for n in 1.. {
        let world = World::on_s3(ServiceOptions::default(), hasty(1)).far_on();
        let first = back_up(&world).await;
        world.put("images/a.jpg", b"changed");
        let service = world.service.as_ref().expect("on S3");
        service.inject(Fault::Reset, FaultAt::From(n));
        let _ = world.backup().await;
        let fired = service.faults_fired();
        service.clear_faults();
        let before = ids(&world).await;
        let points = world.open().await.expect("a vault").points().await.expect("points");
        let claim = points.iter().find(|state| matches!(state.standing, Standing::Unfinished(_)));
        if let Some(claim) = claim.map(|state| state.id.clone()) {
            broken += 1;
            // Within a day it may still be running.
            let stored = of(&world, &claim);
            prune(&world, rules(900, 900, 900, 1)).await.expect("a prune");
            assert_eq!(of(&world, &claim), stored, "stopped at {n}");
            world.pass(25);
            let pruned = prune(&world, rules(900, 900, 900, 1)).await.expect("a prune");
            assert!(pruned.claims.iter().any(|one| matches!(one.fate, Fate::Revoked { .. })), "{pruned:?}");
            // It is given up, and the next backup may go on from what it copied.
            assert!(stored.iter().all(|key| of(&world, &claim).contains(key)), "stopped at {n}");
            world.pass(49);
            prune(&world, rules(900, 900, 900, 1)).await.expect("a prune");
            let mut left = of(&world, &claim);
            left.retain(|key| !key.contains("/journal/"));
            assert_eq!(left, [format!("{claim}/manifest.json"), format!("{claim}/started.json")], "stopped at {n}");
            world.pass(24 * 27);
            prune(&world, rules(900, 900, 900, 1)).await.expect("a prune");
            assert!(!of(&world, &claim).is_empty(), "forgotten too early: stopped at {n}");
            world.pass(24 * 3);
            prune(&world, rules(900, 900, 900, 1)).await.expect("a prune");
            assert_eq!(of(&world, &claim), Vec::<String>::new(), "stopped at {n}");
        }
        assert_eq!(ids(&world).await, before, "stopped at {n}");
        assert!(before.contains(&first));
        sound(&world, Depth::Full).await;
        assert_no_orphans(&world).await;
        assert_eq!(service.store().open_uploads(BUCKET), 0);
        if fired == 0 {
            break;
        }
    }
    assert!(broken > 15, "only {broken} backups broke off");
}

#[tokio::test]
async fn a_backup_whose_claim_was_given_up_cannot_commit() {
    for world in [s3(), folders()] {
        let made = days(&world, 1).await;
        let manifest = world.point(&made[0].to_string()).await.expect("a point").manifest().clone();
        let vault = world.open().await.expect("a vault");
        let draft =
            vault.begin(&"late".parse().expect("a label"), &Part::ALL, &[], &world.clock()).await.expect("a claim");
        world.plant(&format!("{}/images/half", draft.id()), b"half");
        let then = draft.claim().started;
        world.pass(25);
        prune(&world, rules(900, 900, 900, 1)).await.expect("a prune");
        let late = nexus_core::point::Manifest { point: draft.id().clone(), ..manifest.clone() };
        // By its own clock no time has passed: its machine slept.
        let asleep = nexus_core::clock::Clock::new(move || then, || "n0".to_owned());
        let error = draft.commit(&late, &asleep).await.expect_err("it was given up");
        assert!(matches!(error, Error::Exists { .. }), "{error:?}");
        world.pass(24 * 29);
        prune(&world, rules(900, 900, 900, 1)).await.expect("a prune");
        assert!(!world.vault_content().contains_key(&format!("{}/images/half", draft.id())));
        draft.commit(&late, &asleep).await.expect_err("it was given up a month ago");
        assert_eq!(ids(&world).await, made);
        sound(&world, Depth::Full).await;
    }
}

#[tokio::test]
async fn a_claim_that_was_given_up_long_ago_and_holds_what_is_not_ours_is_nothing_to_do() {
    for world in [s3(), folders()] {
        days(&world, 1).await;
        let vault = world.open().await.expect("a vault");
        let draft =
            vault.begin(&"late".parse().expect("a label"), &Part::ALL, &[], &world.clock()).await.expect("a claim");
        let notes = format!("{}/notes.txt", draft.id());
        world.plant(&notes, b"a person's own");
        for hours in [25, 49, 24 * 40] {
            world.pass(hours);
            prune(&world, rules(900, 900, 900, 1)).await.expect("a prune");
        }
        let planned = plan(&world, rules(900, 900, 900, 1)).await.expect("a plan");
        assert!(planned.is_empty(), "{planned:?}");
        assert!(world.vault_content().contains_key(&notes));
    }
}

#[tokio::test]
async fn a_backup_that_was_silent_for_twelve_hours_does_not_commit_whoever_has_seen_it() {
    let world = s3();
    let made = days(&world, 1).await;
    let manifest = world.point(&made[0].to_string()).await.expect("a point").manifest().clone();
    let vault = world.open().await.expect("a vault");
    let draft = vault.begin(&"late".parse().expect("a label"), &Part::ALL, &[], &world.clock()).await.expect("a claim");
    world.pass(11);
    draft.alive(&world.clock()).await.expect("it lives");
    world.pass(12);
    let late = nexus_core::point::Manifest { point: draft.id().clone(), ..manifest };
    for error in [draft.commit(&late, &world.clock()).await.map(|_| ()), draft.alive(&world.clock()).await] {
        let error = error.expect_err("it was silent");
        assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    }
    assert_eq!(ids(&world).await, made);
}

#[tokio::test]
async fn a_backup_that_says_each_hour_that_it_lives_is_left_alone_for_days() {
    let world = s3();
    let vault = world.open().await.expect("a vault");
    let draft = vault.begin(&"long".parse().expect("a label"), &Part::ALL, &[], &world.clock()).await.expect("a claim");
    world.plant(&format!("{}/images/half", draft.id()), b"half");
    for _ in 0..10 {
        world.pass(8);
        draft.alive(&world.clock()).await.expect("it lives");
        let pruned = prune(&world, rules(0, 0, 0, 1)).await.expect("a prune");
        assert!(pruned.claims.is_empty() && pruned.swept.removed.files == 0, "{pruned:?}");
    }
    let planned = plan(&world, rules(0, 0, 0, 1)).await.expect("a plan");
    assert!(matches!(planned.claims[0].fate, Fate::Running { .. }) && planned.is_empty(), "{planned:?}");
}

#[tokio::test]
async fn a_claim_that_names_a_point_before_the_announcement_keeps_its_files() {
    for world in [s3(), folders()] {
        let points = days(&world, 3).await;
        let planned = plan(&world, rules(0, 0, 0, 1)).await.expect("a plan");
        assert_eq!(planned.doomed.len(), 2);
        let vault = world.open().await.expect("a vault");
        let label = "other".parse().expect("a label");
        vault.begin(&label, &Part::ALL, &points[..1], &world.clock()).await.expect("a claim");
        let pruned = super::witness::carry_out(&world, planned).await.expect("a prune");
        assert_eq!(pruned.withdrawn.len(), 1, "{pruned:?}");
        let (kept, why) = &pruned.withdrawn[0];
        assert!(*kept == points[0] && why.contains("reuses its files"), "{why}");
        assert_eq!(ids(&world).await, [points[0].clone(), points[2].clone()]);
        let point = world.point(&points[0].to_string()).await.expect("a point");
        assert!(point.entries().going().is_empty(), "{:?}", point.entries());
        sound(&world, Depth::Full).await;
    }
}

#[tokio::test]
async fn a_point_that_is_announced_is_no_base_and_nobody_can_pin_it_or_restore_from_it() {
    let world = s3();
    let points = days(&world, 2).await;
    let point = world.point(&points[1].to_string()).await.expect("a point");
    let event = JournalEvent::Expiring { parts: Part::ALL.to_vec(), objects: Vec::new(), categories: Vec::new() };
    let given = point.journal().add(event, &world.clock()).await.expect("an announcement");
    let report = world.backup().await.expect("a backup");
    assert_eq!(report.point.manifest().base.as_ref(), Some(&points[0]));
    let error = pin::pin(&point, "too late", &world.clock()).await.expect_err("it is going");
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    let restored = world.restore(&points[1].to_string()).await.expect_err("it is going");
    assert!(matches!(&restored, Error::Usage { what, .. } if what.contains("announced")), "{restored:?}");
    point
        .journal()
        .add(JournalEvent::Withdrawn { announcement: given.nonce }, &world.clock())
        .await
        .expect("a withdrawal");
    let point = world.point(&points[1].to_string()).await.expect("a point");
    assert!(point.entries().pinned().is_none(), "the refused pin holds");
    pin::pin(&point, "in time", &world.clock()).await.expect("it stays");
    sound(&world, Depth::Full).await;
}

#[tokio::test]
async fn an_announcement_that_nobody_carried_out_counts_for_nothing_and_is_taken_back_after_a_day() {
    let world = s3();
    let points = days(&world, 3).await;
    let newest = world.point(&points[2].to_string()).await.expect("a point");
    let event = JournalEvent::Expiring { parts: Part::ALL.to_vec(), objects: Vec::new(), categories: Vec::new() };
    newest.journal().add(event, &world.clock()).await.expect("an announcement");
    // The one that is announced does not count, so the next stays in its place; nor does it go itself.
    prune(&world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(&world).await, points[1..]);
    assert!(!world.point(&points[2].to_string()).await.expect("a point").entries().going().is_empty(), "too early");
    world.pass(25);
    let planned = plan(&world, rules(0, 0, 0, 1)).await.expect("a plan");
    assert!(planned.announced.iter().all(|one| one.withdrawn && one.point == points[2]) && !planned.is_empty());
    super::witness::carry_out(&world, planned).await.expect("a prune");
    let newest = world.point(&points[2].to_string()).await.expect("a point");
    assert!(newest.entries().going().is_empty(), "{:?}", newest.entries());
    prune(&world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(&world).await, points[2..]);
    sound(&world, Depth::Full).await;
    assert_no_orphans(&world).await;
}

#[tokio::test]
async fn an_interrupted_prune_takes_back_what_it_has_announced_and_not_begun() {
    let world = s3();
    let points = days(&world, 3).await;
    let vault = world.open().await.expect("a vault");
    let planned = plan(&world, rules(0, 0, 0, 1)).await.expect("a plan");
    let unfinished = planned.unfinished(&vault);
    let clock = world.clock();
    let events = Events::none();
    let service = world.service.as_ref().expect("on S3");
    // Both words are given; the second look has begun.
    let mut waiting = service.stop_at(FaultAt::Operation { name: "PutObject".into(), nth: 2 });
    {
        let mut pruning = std::pin::pin!(nexus_core::prune::prune(&vault, planned, &clock, &events));
        tokio::select! {
            biased;
            done = &mut pruning => panic!("it was not stopped: {done:?}"),
            () = waiting.arrived() => {}
        }
    }
    drop(waiting);
    unfinished.withdraw(&world.clock()).await;
    // The word that was under way when it was interrupted may stand for a day; no other does.
    let mut going = 0;
    for id in &points {
        let point = world.point(&id.to_string()).await.expect("a point");
        going += usize::from(!point.entries().going().is_empty());
    }
    assert!(going <= 1, "{going} stand");
    assert_eq!(ids(&world).await, points);
    sound(&world, Depth::Full).await;
}
