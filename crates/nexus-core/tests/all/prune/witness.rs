//! What must be true of a vault whatever prunes did to it, and what stays byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use nexus_core::error::Result;
use nexus_core::event::Events;
use nexus_core::local::Scratch;
use nexus_core::point::{Depth, Part, PointId, Verdict};
use nexus_core::prune::{self, PrunePlan, PruneRequest, Pruned};
use nexus_core::retention::{Keep, Rules, SafetyRules};
use nexus_core::vault::{PointState, Standing};
use nexus_core::verify::{self, VerifyRequest};

use crate::world::World;

/// What other tools and the old scripts have left in the vault's prefix.
const FOREIGN: [&str; 7] = [
    "other-tool/archive.bin",
    "reimport_20241115_064233/images/1.jpg",
    "reimport_20241115_064233/patients.json",
    "database/nexus_sqlite_backup_20241115_063849.db",
    "database/clinic_sqlite_backup_20241116_063849.db",
    "database/notes.txt",
    "zzz",
];

pub fn plant_foreign(world: &World) {
    for key in FOREIGN {
        world.plant(key, key.as_bytes());
    }
}

/// Those of them that are there.
pub fn foreign(content: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    content
        .iter()
        .filter(|(key, _)| FOREIGN.contains(&key.as_str()))
        .map(|(key, body)| (key.clone(), body.clone()))
        .collect()
}

/// Databases, files and records are kept for so many days, and so many of the newest points.
pub fn rules(database: u64, files: u64, records: u64, last: u32) -> PruneRequest {
    let ages = [(Part::Database, database), (Part::Files, files), (Part::Records, records)];
    let ages = ages.map(|(part, days)| (part, days * 86_400)).into();
    let safety = SafetyRules { age: Some(0), last: 1 };
    PruneRequest { rules: Rules { ages, keep: Keep { last, ..Keep::default() }, safety }, records: None }
}

pub async fn plan(world: &World, request: PruneRequest) -> Result<PrunePlan> {
    prune::plan(&world.open().await?, request, &world.clock(), &Events::none()).await
}

pub async fn carry_out(world: &World, plan: PrunePlan) -> Result<Pruned> {
    prune::prune(&world.open().await?, plan, &world.clock(), &Events::none()).await
}

pub async fn prune(world: &World, request: PruneRequest) -> Result<Pruned> {
    let plan = plan(world, request).await?;
    carry_out(world, plan).await
}

async fn states(world: &World) -> Vec<PointState> {
    let mut states = world.open().await.expect("a vault").points().await.expect("points");
    states.reverse();
    states
}

/// The committed points, oldest first.
pub async fn ids(world: &World) -> Vec<PointId> {
    states(world).await.iter().filter(|state| state.manifest().is_some()).map(|state| state.id.clone()).collect()
}

/// Every listed point verifies, and all that one of their manifests and listings names is there.
pub async fn sound(world: &World, depth: Depth) {
    let vault = world.open().await.expect("a vault");
    for state in states(world).await {
        assert!(!matches!(state.standing, Standing::Unreadable(_)), "{state:?}");
        if state.manifest().is_none() {
            continue;
        }
        let point = vault.find(&state.id.to_string(), &[]).await.expect("a point").point;
        if !point.kept().is_empty() {
            let look = VerifyRequest { depth, ..VerifyRequest::whole() };
            let verified = verify::check(&point, &look, &world.scratch(), &Events::none()).await.expect("a look");
            assert_eq!(verified.proof.verdict, Verdict::Verified, "{}: {verified:?}", state.id);
        }
    }
    let content = world.vault_content();
    let named = named(world).await;
    let gone: Vec<&String> = named.iter().filter(|key| !content.contains_key(*key)).collect();
    assert!(gone.is_empty(), "named and gone: {gone:?}");
}

/// Every object outside the documents of points that a live manifest or the listing of one names.
async fn named(world: &World) -> BTreeSet<String> {
    let vault = world.open().await.expect("a vault");
    let mut named = BTreeSet::new();
    for state in states(world).await {
        let Some(manifest) = state.manifest() else { continue };
        let point = vault.find(&state.id.to_string(), &[]).await.expect("a point").point;
        let kept = point.kept();
        named.extend(manifest.objects_outside(&kept));
        if kept.contains(&Part::Files) {
            let scratch = Scratch::create(&world.scratch()).expect("room");
            let id = &state.id;
            named.extend([format!("{id}/files.jsonl.zst"), format!("{id}/restore-files.sh")]);
            for entry in point.listing(&scratch).await.expect("a listing") {
                let entry = entry.expect("an entry");
                named.extend(entry.at.as_ref().and_then(|at| at.vault_key()).map(str::to_owned));
            }
        }
        if let Some(records) =
            manifest.parts.records.as_ref().filter(|records| records.in_vault && kept.contains(&Part::Records))
        {
            let tables = records.tables.iter().map(|table| table.file.clone());
            named.extend(
                tables.chain(["backup_summary.json".into()]).map(|file| format!("{}/records/{file}", state.id)),
            );
        }
    }
    named
}

/// The keys below the vault that are neither the vault's descriptor, foreign, named by something that lives, nor a document
/// of a point, of a claim that has not ended, or of the word that one was given up.
pub async fn orphans(world: &World) -> Vec<String> {
    let named = named(world).await;
    let states: BTreeMap<PointId, PointState> =
        states(world).await.into_iter().map(|state| (state.id.clone(), state)).collect();
    let stays = |key: &str| {
        if key == "vault.json" || FOREIGN.contains(&key) || named.contains(key) {
            return true;
        }
        let stamp =
            key.rsplit_once("_backup_").and_then(|(_, rest)| rest.get(..15)).filter(|_| key.starts_with("database/"));
        if let Some(stamp) = stamp {
            // A backup that is under way has a database before it has a manifest.
            return states.values().any(|state| state.id.stamp() == stamp && is_pending(world, state));
        }
        let Some((folder, rest)) = key.split_once('/') else { return false };
        let Some(state) = folder.parse::<PointId>().ok().and_then(|id| states.get(&id)) else { return false };
        let document = rest == "started.json" || rest == "manifest.json" || rest.starts_with("journal/");
        match &state.standing {
            Standing::Committed(_) => document,
            Standing::Unfinished(_) if state.journal.announcements().next().is_some() => {
                // Of a point that is gone claim and journal stay as long as copies in its folder are named.
                document && named.iter().any(|key| key.starts_with(&format!("{folder}/")))
            }
            _ => document || is_pending(world, state),
        }
    };
    world.vault_content().into_keys().filter(|key| !stays(key)).collect()
}

/// True of a claim that has not ended, and of one that ended less than a day ago.
fn is_pending(world: &World, state: &PointState) -> bool {
    match &state.standing {
        Standing::Unfinished(_) => state.journal.announcements().next().is_none(),
        Standing::Abandoned(given_up) => world.now().duration_since(given_up.at).as_hours() < 24,
        _ => false,
    }
}

pub async fn assert_no_orphans(world: &World) {
    let orphans = orphans(world).await;
    assert!(orphans.is_empty(), "{orphans:#?}");
}
