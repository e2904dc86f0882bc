//! Long random lives of a vault: backups of some or all parts, killed or not, checks, pins, holds, time, prunes by all rules.

use std::collections::BTreeMap;

use nexus_core::event::Events;
use nexus_core::pin;
use nexus_core::point::{Depth, JournalEvent, Part, PointId};
use nexus_core::prune::PruneRequest;
use nexus_core::retention::{Keep, Rules, SafetyRules};
use nexus_core::vault::PointState;
use nexus_core::verify::{self, VerifyRequest};
use nexus_sandbox::{Fault, FaultAt, ServiceOptions};

use super::witness::{assert_no_orphans, foreign, plant_foreign, prune, sound};
use crate::retention::Random;
use crate::world::{World, hasty, sql};

const SEED: u64 = 4_711;
const WALKS: u64 = 12;
const STEPS: u64 = 40;

/// The proven points of each label and part that a prune may not go below, the newest first.
async fn proven(world: &World) -> BTreeMap<(String, Part), Vec<PointId>> {
    let mut proven: BTreeMap<_, Vec<PointId>> = BTreeMap::new();
    for state in world.open().await.expect("a vault").points().await.expect("points") {
        let PointState { id, journal, .. } = &state;
        let Some(manifest) = state.manifest().filter(|_| state.is_proven()) else { continue };
        let going = journal.going();
        for part in manifest.present().into_iter().filter(|part| !going.contains(part)) {
            proven.entry((id.label().to_string(), part)).or_default().push(id.clone());
        }
    }
    proven
}

fn request(random: &mut Random) -> PruneRequest {
    let mut ages = BTreeMap::new();
    for part in Part::ALL {
        ages.insert(part, random.below(4) * 86_400);
    }
    let count = |random: &mut Random| u32::try_from(random.below(3)).expect("small");
    let keep = Keep { last: count(random), daily: count(random), weekly: count(random), monthly: 0, yearly: 0 };
    PruneRequest { rules: Rules { ages, keep, safety: SafetyRules { age: Some(0), last: 1 } }, records: None }
}

/// A backup, sometimes of one part, sometimes killed on the way.
async fn backs_up(world: &World, random: &mut Random) {
    let parts: &[Part] = [&Part::ALL[..], &Part::ALL, &[Part::Files], &[Part::Database]]
        [usize::try_from(random.below(4)).expect("small")];
    let mut plan = world.plan(parts);
    plan.label = if random.one_in(3) { "import" } else { "nightly" }.parse().expect("a label");
    let service = world.service.as_ref().expect("on S3");
    if random.one_in(4) {
        service.inject(Fault::Reset, FaultAt::From(1 + random.below(50)));
    }
    let _ = world.backup_as(&plan).await;
    service.clear_faults();
}

async fn any_point(world: &World, random: &mut Random) -> Option<nexus_core::vault::RecoveryPoint> {
    let ids = super::ids(world).await;
    let at = random.below(ids.len().max(1) as u64);
    let id = ids.get(usize::try_from(at).expect("small"))?;
    Some(world.point(&id.to_string()).await.expect("a listed point"))
}

async fn step(world: &World, random: &mut Random) {
    match random.below(9) {
        0 => {
            let at = random.below(5);
            world.put(&format!("images/{at}.jpg"), format!("picture {}", random.below(1_000)).as_bytes());
            sql(&world.database(), &format!("UPDATE patient SET weight = {at} WHERE id = 1"));
        }
        1..=3 => backs_up(world, random).await,
        4 => world.pass(random.below(60)),
        5 => {
            let Some(point) = any_point(world, random).await.filter(|point| !point.kept().is_empty()) else { return };
            let look = VerifyRequest::whole();
            let _ = verify::verify(&point, &look, &world.scratch(), &world.clock(), &Events::none()).await;
        }
        6 => {
            let Some(point) = any_point(world, random).await else { return };
            if random.one_in(2) {
                let _ = pin::pin(&point, "a reason", &world.clock()).await;
            } else {
                pin::unpin(&point, &world.clock()).await.expect("an unpin");
            }
        }
        7 => {
            let Some(point) = any_point(world, random).await else { return };
            let hold = JournalEvent::Hold { by: "drill".into(), safety: None, target: None };
            point.journal().add(hold, &world.clock()).await.expect("a hold");
        }
        _ => prunes(world, random).await,
    }
}

/// A prune that is killed now and then, and what must hold afterwards.
async fn prunes(world: &World, random: &mut Random) {
    let request = request(random);
    let last = request.rules.keep.last.max(1) as usize;
    let before = proven(world).await;
    let service = world.service.as_ref().expect("on S3");
    let killed = random.one_in(3);
    if killed {
        service.inject(Fault::Reset, FaultAt::From(1 + random.below(150)));
    }
    let outcome = prune(world, request.clone()).await;
    service.clear_faults();
    assert!(killed || outcome.is_ok(), "{outcome:?}");
    let after = proven(world).await;
    for (group, ids) in before {
        for id in ids.iter().take(last) {
            let stays = after.get(&group).is_some_and(|left| left.contains(id));
            // A killed one may have left its word, which counts as going for a day.
            assert!(stays || killed, "{group:?}: {id} is gone, of {ids:?}");
        }
    }
    sound(world, Depth::Default).await;
}

#[tokio::test]
async fn a_vault_is_whole_after_any_life_and_the_last_prune_leaves_no_orphan() {
    for walk in 0..WALKS {
        let seed = SEED + walk;
        let mut random = Random(seed);
        // A failed assertion names neither: the seed is shown beside it.
        let shown = Shown(seed);
        let world = World::on_s3(ServiceOptions::default(), hasty(1)).far_on();
        world.backup().await.expect("a first backup");
        plant_foreign(&world);
        let before = foreign(&world.vault_content());
        for _ in 0..STEPS {
            step(&world, &mut random).await;
        }
        sound(&world, Depth::Full).await;
        world.pass(24 * 9);
        for _ in 0..3 {
            prune(&world, request(&mut random)).await.expect("a prune");
            world.pass(24 * 35);
        }
        sound(&world, Depth::Full).await;
        assert_no_orphans(&world).await;
        assert_eq!(foreign(&world.vault_content()), before);
        drop(shown);
    }
}

/// Says which walk it was when a test fails in it.
struct Shown(u64);

impl Drop for Shown {
    #[expect(clippy::print_stderr, reason = "the seed of a failed test is for the person who reads it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this walk was {}", self.0);
        }
    }
}
