//! Prune and everybody else at once: each is stopped at each of its requests while the other runs, and nobody is harmed.

use std::collections::BTreeMap;
use std::pin::Pin;

use nexus_core::bucket::pace::Limits;
use nexus_core::error::Error;
use nexus_core::event::Events;
use nexus_core::pin;
use nexus_core::point::{Depth, PointId};
use nexus_core::prune::PruneRequest;
use nexus_core::verify::{self, VerifyRequest};
use nexus_sandbox::{FaultAt, ServiceOptions, Waiting};

use super::witness::{assert_no_orphans, foreign, ids, plant_foreign, prune, rules, sound};
use super::{back_up, days};
use crate::world::{World, hasty};

/// Two proven points and a third, the newest, that nobody has verified: a backup takes it for its base, and retention lets
/// it and the first one go.
struct Scene {
    world: World,
    points: Vec<PointId>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Scene {
    async fn set() -> Self {
        // Requests that wait hold their turn: there must be enough of those for all.
        let limits = Limits { in_flight: 256, ..hasty(2) };
        let world = World::on_s3(ServiceOptions::default(), limits).far_on();
        let points = days(&world, 3).await;
        let verified = world
            .vault_content()
            .into_keys()
            .find(|key| key.starts_with(&format!("{}/journal/", points[2])) && key.contains("-verified-"));
        world.harm(&verified.expect("a proof"), None);
        plant_foreign(&world);
        let files = world.files();
        Self { world, points, files }
    }

    fn stop_at(&self, at: FaultAt) -> Waiting {
        self.world.service.as_ref().expect("on S3").stop_at(at)
    }

    /// Everything listed is whole now, and nothing is left over once another prune has run a good while later.
    async fn is_sound(&self, context: &str) {
        let before = foreign(&self.world.vault_content());
        assert_eq!(before.len(), 7, "{context}");
        sound(&self.world, Depth::Full).await;
        for state in self.world.open().await.expect("a vault").points().await.expect("points") {
            assert!(!state.journal.failed(), "{context}: {} is said to be damaged", state.id);
        }
        self.world.pass(24 * 3);
        prune(&self.world, all()).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        self.world.pass(24 * 40);
        prune(&self.world, all()).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        sound(&self.world, Depth::Full).await;
        assert_no_orphans(&self.world).await;
        assert_eq!(foreign(&self.world.vault_content()), before, "{context}");
    }
}

fn all() -> PruneRequest {
    rules(1, 1, 1, 1)
}

/// Runs `work`, stops it at a request, runs `meanwhile`, and lets `work` go on. `None` when there is no such request.
async fn between<T, M>(
    scene: &Scene,
    nth: u64,
    work: Pin<Box<dyn Future<Output = T> + '_>>,
    meanwhile: Pin<Box<dyn Future<Output = M> + '_>>,
) -> Option<(T, M)> {
    let mut waiting = scene.stop_at(FaultAt::Nth(nth));
    let mut work = work;
    tokio::select! {
        biased;
        _ = &mut work => return None,
        () = waiting.arrived() => {}
    }
    let other = meanwhile.await;
    drop(waiting);
    Some((work.await, other))
}

fn gives_way(error: &Error) -> bool {
    matches!(error, Error::Busy { .. } | Error::Missing { .. } | Error::Usage { .. })
}

#[tokio::test]
async fn a_backup_may_run_between_any_two_requests_of_a_prune() {
    for nth in 1.. {
        let scene = Scene::set().await;
        let world = &scene.world;
        let Some((pruned, made)) = between(&scene, nth, Box::pin(prune(world, all())), Box::pin(world.backup())).await
        else {
            assert!(nth > 40, "a prune has but {nth} requests");
            break;
        };
        let context = format!("at request {nth}");
        pruned.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        let made = made.unwrap_or_else(|error| panic!("{context}: {error:?}")).point.id().clone();
        assert!(ids(world).await.contains(&made), "{context}");
        scene.is_sound(&context).await;
    }
}

#[tokio::test]
async fn a_prune_may_run_between_any_two_requests_of_a_backup() {
    for nth in 1.. {
        let scene = Scene::set().await;
        let world = &scene.world;
        let Some((made, pruned)) = between(&scene, nth, Box::pin(world.backup()), Box::pin(prune(world, all()))).await
        else {
            assert!(nth > 30, "a backup has but {nth} requests");
            break;
        };
        let context = format!("at request {nth}");
        pruned.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        match made {
            Ok(made) => assert!(ids(world).await.contains(made.point.id()), "{context}"),
            // What it was to reuse went between its first look and its claim.
            Err(error) => assert!(gives_way(&error), "{context}: {error:?}"),
        }
        scene.is_sound(&context).await;
    }
}

#[tokio::test]
async fn a_backup_and_a_prune_that_stop_for_each_other_anywhere_do_no_harm() {
    // Both have some fifty requests: every pair would take an hour, and these are spread over all of them.
    for pair in 0..48_u64 {
        let (of_prune, of_backup) = (10 + (pair * 29) % 53, 1 + (pair * 17) % 41);
        let scene = Scene::set().await;
        let world = &scene.world;
        let context = format!("prune at {of_prune}, backup at {of_backup}");
        let (mut pruning, mut backing_up) = (Box::pin(prune(world, all())), Box::pin(world.backup()));
        let mut first = scene.stop_at(FaultAt::Nth(of_prune));
        let pruned = tokio::select! {
            biased;
            done = &mut pruning => Some(done),
            () = first.arrived() => None,
        };
        let mut second = scene.stop_at(FaultAt::Nth(of_backup));
        let made = tokio::select! {
            biased;
            done = &mut backing_up => Some(done),
            () = second.arrived() => None,
        };
        drop(first);
        let pruned = match pruned {
            Some(done) => done,
            None => pruning.await,
        };
        drop(second);
        let made = match made {
            Some(done) => done,
            None => backing_up.await,
        };
        pruned.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        if let Err(error) = made {
            assert!(gives_way(&error), "{context}: {error:?}");
        }
        scene.is_sound(&context).await;
    }
}

/// The backup's machine slept for a day at the very moment of its commit; the commit then comes at any request of a prune.
#[tokio::test]
async fn a_commit_a_day_late_either_fails_or_leaves_a_whole_point() {
    let (mut committed, mut failed) = (0, 0);
    let commit = {
        let scene = Scene::set().await;
        let service = scene.world.service.as_ref().expect("on S3");
        service.reset_counts();
        back_up(&scene.world).await;
        let puts: Vec<String> = service.log().into_iter().filter(|line| line.starts_with("PUT")).collect();
        puts.iter().position(|line| line.contains("manifest.json")).expect("a commit") as u64 + 1
    };
    for nth in 1.. {
        let scene = Scene::set().await;
        let world = &scene.world;
        let context = format!("at request {nth}");
        let mut late = scene.stop_at(FaultAt::Operation { name: "PutObject".into(), nth: commit });
        let mut backing_up = Box::pin(world.backup());
        tokio::select! {
            biased;
            done = &mut backing_up => panic!("it was not stopped: {done:?}"),
            () = late.arrived() => {}
        }
        let before = ids(world).await.len();
        world.pass(25);
        let wakes = async {
            drop(late);
            backing_up.await
        };
        let Some((pruned, made)) = between(&scene, nth, Box::pin(prune(world, all())), Box::pin(wakes)).await else {
            break;
        };
        match &made {
            Ok(report) => {
                assert!(ids(world).await.contains(report.point.id()), "{context}");
                committed += 1;
            }
            Err(error) => {
                assert!(matches!(error, Error::Exists { .. }), "{context}: {error:?}");
                failed += 1;
            }
        }
        if let Err(error) = pruned {
            assert!(made.is_ok() && matches!(error, Error::Busy { .. }), "{context}: {error:?}");
            assert_eq!(ids(world).await.len(), before + 1, "{context}");
        }
        scene.is_sound(&context).await;
    }
    assert!(committed > 10 && failed > 10, "{committed} committed, {failed} failed");
}

#[tokio::test]
async fn another_prune_may_run_between_any_two_requests_of_a_prune() {
    for nth in 1.. {
        let scene = Scene::set().await;
        let world = &scene.world;
        let Some((first, second)) =
            between(&scene, nth, Box::pin(prune(world, all())), Box::pin(prune(world, all()))).await
        else {
            break;
        };
        let context = format!("at request {nth}");
        second.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        if let Err(error) = first {
            assert!(gives_way(&error), "{context}: {error:?}");
        }
        assert_eq!(ids(world).await, [scene.points[1].clone()], "{context}");
        scene.is_sound(&context).await;
    }
}

#[tokio::test]
async fn a_prune_by_other_rules_may_run_between_any_two_requests_of_a_prune() {
    for nth in 1.. {
        let scene = Scene::set().await;
        let world = &scene.world;
        let others = prune(world, rules(90, 1, 90, 1));
        let Some((first, second)) =
            between(&scene, nth, Box::pin(prune(world, rules(1, 90, 1, 1))), Box::pin(others)).await
        else {
            break;
        };
        let context = format!("at request {nth}");
        for error in [first.err(), second.err()].into_iter().flatten() {
            assert!(gives_way(&error), "{context}: {error:?}");
        }
        assert!(ids(world).await.contains(&scene.points[1]), "{context}");
        scene.is_sound(&context).await;
    }
}

async fn pinned(world: &World, id: &PointId) -> Result<(), Error> {
    let point = world.point(&id.to_string()).await?;
    pin::pin(&point, "before the audit", &world.clock()).await
}

#[tokio::test]
async fn a_pin_between_any_two_requests_of_a_prune_holds_or_is_refused() {
    let (mut held, mut refused) = (0, 0);
    for nth in 1.. {
        let scene = Scene::set().await;
        let (world, id) = (&scene.world, &scene.points[0]);
        let Some((pruned, pinning)) =
            between(&scene, nth, Box::pin(prune(world, all())), Box::pin(pinned(world, id))).await
        else {
            break;
        };
        let context = format!("at request {nth}");
        pruned.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        match pinning {
            Ok(()) => {
                assert!(ids(world).await.contains(id), "{context}: it was pinned, and is gone");
                held += 1;
            }
            Err(error) => {
                assert!(gives_way(&error), "{context}: {error:?}");
                refused += 1;
            }
        }
        let is_held = ids(world).await.contains(id)
            && world.point(&id.to_string()).await.expect("it is there").entries().pinned().is_some();
        scene.is_sound(&context).await;
        assert_eq!(ids(world).await.contains(id), is_held, "{context}");
    }
    assert!(held > 5 && refused > 5, "{held} held, {refused} refused");
}

#[tokio::test]
async fn a_prune_between_any_two_requests_of_a_pin_leaves_the_point_or_has_the_pin_refused() {
    for nth in 1.. {
        let scene = Scene::set().await;
        let (world, id) = (&scene.world, &scene.points[0]);
        let Some((pinning, pruned)) =
            between(&scene, nth, Box::pin(pinned(world, id)), Box::pin(prune(world, all()))).await
        else {
            break;
        };
        let context = format!("at request {nth}");
        pruned.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        match pinning {
            Ok(()) => assert!(ids(world).await.contains(id), "{context}: it was pinned, and is gone"),
            Err(error) => assert!(gives_way(&error), "{context}: {error:?}"),
        }
        scene.is_sound(&context).await;
    }
}

/// The files that a restore wrote are those of the point.
fn assert_restored(scene: &Scene, context: &str) {
    let folder = scene.world.folder_target();
    for (key, body) in scene.files.iter().filter(|(key, _)| !key.starts_with("tmp/") && *key != "images/a.jpg") {
        let there = std::fs::read(folder.join(key)).unwrap_or_else(|cause| panic!("{context}: {key}: {cause}"));
        assert_eq!(&there, body, "{context}: {key}");
    }
    assert_eq!(std::fs::read(folder.join("images/a.jpg")).expect("a file"), b"the picture of day 0", "{context}");
}

#[tokio::test]
async fn a_restore_between_any_two_requests_of_a_prune_is_whole_or_refused() {
    let (mut done, mut refused) = (0, 0);
    for nth in 1.. {
        let scene = Scene::set().await;
        let (world, id) = (&scene.world, scene.points[0].to_string());
        let restoring = world.restore_into_folder(&id);
        let Some((pruned, restored)) = between(&scene, nth, Box::pin(prune(world, all())), Box::pin(restoring)).await
        else {
            break;
        };
        let context = format!("at request {nth}");
        pruned.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        match restored {
            Ok(_) => {
                assert_restored(&scene, &context);
                done += 1;
            }
            Err(error) => {
                assert!(gives_way(&error), "{context}: {error:?}");
                refused += 1;
            }
        }
        scene.is_sound(&context).await;
    }
    assert!(done > 5 && refused > 5, "{done} done, {refused} refused");
}

#[tokio::test]
async fn a_prune_between_any_two_requests_of_a_restore_waits_or_has_it_refused() {
    for nth in 1.. {
        let scene = Scene::set().await;
        let (world, id) = (&scene.world, scene.points[0].to_string());
        let restoring = world.restore_into_folder(&id);
        let Some((restored, pruned)) = between(&scene, nth, Box::pin(restoring), Box::pin(prune(world, all()))).await
        else {
            break;
        };
        let context = format!("at request {nth}");
        pruned.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        match restored {
            Ok(_) => assert_restored(&scene, &context),
            Err(error) => assert!(gives_way(&error) || matches!(error, Error::Damaged { .. }), "{context}: {error:?}"),
        }
        scene.is_sound(&context).await;
    }
}

async fn verified(world: &World, id: &PointId) -> Result<(), Error> {
    let point = world.point(&id.to_string()).await?;
    let look = VerifyRequest::whole();
    verify::verify(&point, &look, &world.scratch(), &world.clock(), &Events::none()).await.map(|_| ())
}

#[tokio::test]
async fn a_prune_between_any_two_requests_of_a_verify_makes_no_damage_of_what_it_takes() {
    for nth in 1.. {
        let scene = Scene::set().await;
        let (world, id) = (&scene.world, &scene.points[0]);
        let Some((looked, pruned)) =
            between(&scene, nth, Box::pin(verified(world, id)), Box::pin(prune(world, rules(90, 1, 90, 1)))).await
        else {
            break;
        };
        let context = format!("at request {nth}");
        pruned.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        if let Err(error) = looked {
            assert!(gives_way(&error), "{context}: {error:?}");
        }
        scene.is_sound(&context).await;
    }
}

#[tokio::test]
async fn a_verify_between_any_two_requests_of_a_prune_makes_no_damage_of_what_it_takes() {
    for nth in 1.. {
        let scene = Scene::set().await;
        let (world, id) = (&scene.world, &scene.points[0]);
        let pruning = prune(world, rules(90, 1, 90, 1));
        let Some((pruned, looked)) = between(&scene, nth, Box::pin(pruning), Box::pin(verified(world, id))).await
        else {
            break;
        };
        let context = format!("at request {nth}");
        pruned.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        if let Err(error) = looked {
            assert!(gives_way(&error), "{context}: {error:?}");
        }
        scene.is_sound(&context).await;
    }
}
