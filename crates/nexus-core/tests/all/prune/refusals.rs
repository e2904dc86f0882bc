//! What cannot be understood or may not be removed: no plan, nothing written, nothing gone.

use nexus_core::error::Error;
use nexus_core::point::{Depth, PointId, document};
use nexus_core::prune::require_same_time;

use super::witness::{assert_no_orphans, ids, plan, prune, rules, sound};
use super::{days, folders, s3};
use crate::world::World;

fn key_of(world: &World, id: &PointId, part: &str) -> String {
    let below = format!("{id}/");
    let found = world.vault_content().into_keys().find(|key| key.starts_with(&below) && key.contains(part));
    found.unwrap_or_else(|| panic!("there is no {part}"))
}

/// A document that is whole and says something else.
fn rewritten(body: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(body.to_vec()).expect("JSON");
    assert!(text.contains(from), "{from} is not in {text}");
    let mut said: serde_json::Value = serde_json::from_str(&text.replacen(from, to, 1)).expect("JSON");
    said.as_object_mut().expect("a document").remove("check");
    document(&said)
}

async fn nothing_goes(world: &World, what: &str, newer: bool) {
    let before = world.vault_content();
    let error = plan(world, rules(0, 0, 0, 1)).await.expect_err(what);
    let fits = if newer { matches!(error, Error::Newer { .. }) } else { matches!(error, Error::Damaged { .. }) };
    assert!(fits, "{what}: {error:?}");
    assert_eq!(world.vault_content(), before, "{what}: something was written");
}

async fn whatever_cannot_be_understood(world: &World) {
    let points = days(world, 4).await;
    let broken = world.open().await.expect("a vault");
    let draft = broken
        .begin(&"other".parse().expect("a label"), &[nexus_core::point::Part::Files], &[], &world.clock())
        .await
        .expect("a claim");
    // The newest is one that is kept, the others are to go.
    for id in [&points[0], &points[3]] {
        let (manifest, journal) = (key_of(world, id, "manifest.json"), key_of(world, id, "-verified-"));
        let listing = key_of(world, id, "files.jsonl.zst");
        for key in [&manifest, &journal] {
            let body = world.vault_content()[key].clone();
            for (what, bad, newer) in [
                ("cut", body[..body.len() / 2].to_vec(), false),
                ("empty", Vec::new(), false),
                ("no JSON", b"<html>".to_vec(), false),
                ("of another format", rewritten(&body, "\"format\": 1", "\"format\": 99"), true),
                ("of another point", rewritten(&body, &id.to_string(), "test_20200101_000000"), false),
            ] {
                world.harm(key, Some(bad));
                let newer = newer && key == &manifest;
                nothing_goes(world, &format!("{key} {what}"), newer).await;
            }
            world.harm_or_put(key, &body);
        }
        let body = world.vault_content()[&journal].clone();
        world.harm(&journal, Some(rewritten(&body, "\"verified\"", "\"entangled\"")));
        nothing_goes(world, "an event that nobody knows", true).await;
        world.harm_or_put(&journal, &body);
        if *id == points[3] {
            let body = world.vault_content()[&listing].clone();
            for bad in [Some(body[..body.len() - 9].to_vec()), Some(b"junk".to_vec()), None] {
                world.harm(&listing, bad.clone());
                nothing_goes(world, "a listing that is damaged", false).await;
                world.harm_or_put(&listing, &body);
            }
        }
    }
    let claim = key_of(world, draft.id(), "started.json");
    let body = world.vault_content()[&claim].clone();
    world.harm(&claim, Some(body[..body.len() / 2].to_vec()));
    nothing_goes(world, "a claim that is cut", false).await;
    world.harm_or_put(&claim, &body);
    // All is as it was, and so it goes.
    prune(world, rules(0, 0, 0, 1)).await.expect("a prune");
    assert_eq!(ids(world).await, points[3..]);
    assert_no_orphans(world).await;
}

#[tokio::test]
async fn whatever_of_a_vault_cannot_be_understood_there_is_no_plan_and_nothing_is_written() {
    whatever_cannot_be_understood(&s3()).await;
    whatever_cannot_be_understood(&folders()).await;
}

#[tokio::test]
async fn what_becomes_unreadable_between_plan_and_prune_stops_it_before_anything_goes() {
    let world = s3();
    let points = days(&world, 4).await;
    let planned = plan(&world, rules(0, 0, 0, 1)).await.expect("a plan");
    let manifest = key_of(&world, &points[3], "manifest.json");
    let body = world.vault_content()[&manifest].clone();
    world.harm(&manifest, Some(b"{}".to_vec()));
    super::witness::carry_out(&world, planned).await.expect_err("a manifest that cannot be read");
    world.harm_or_put(&manifest, &body);
    assert_eq!(ids(&world).await, points);
    for id in &points {
        let point = world.point(&id.to_string()).await.expect("a point");
        assert!(point.entries().going().is_empty(), "an announcement stands: {:?}", point.entries());
    }
    sound(&world, Depth::Full).await;
}

#[tokio::test]
async fn who_may_not_remove_is_refused_before_anything_is_announced() {
    for denied in ["DeleteObjects", "DeleteObject"] {
        let world = s3();
        days(&world, 3).await;
        let service = world.service.as_ref().expect("on S3");
        let before = world.vault_content();
        service.deny(denied);
        let outcome = prune(&world, rules(0, 0, 0, 1)).await;
        service.allow_all();
        match outcome {
            Err(error) => {
                assert!(matches!(error, Error::Denied { .. }), "{error:?}");
                assert_eq!(world.vault_content(), before);
            }
            // One of the two is not used at all.
            Ok(_) => assert_eq!(denied, "DeleteObject"),
        }
        sound(&world, Depth::Full).await;
    }
}

#[tokio::test]
async fn a_clock_that_is_not_the_services_is_refused_and_one_that_is_goes() {
    let world = s3();
    days(&world, 1).await;
    let vault = world.open().await.expect("a vault");
    let error = require_same_time(&vault, &world.clock()).await.expect_err("decades apart");
    assert!(matches!(error, Error::Usage { .. }), "{error:?}");
    let theirs = vault.reader().service_time().await.expect("a time").expect("a time");
    for (seconds, fits) in [(240, true), (-240, true), (360, false), (-360, false)] {
        let now = theirs + jiff::SignedDuration::from_secs(seconds);
        let clock = nexus_core::clock::Clock::new(move || now, || "n0".to_owned());
        assert_eq!(require_same_time(&vault, &clock).await.is_ok(), fits, "{seconds}");
    }
}

#[tokio::test]
async fn a_folder_of_another_tool_that_looks_like_a_point_is_foreign() {
    for world in [s3(), folders()] {
        let points = days(&world, 2).await;
        let theirs = [
            "reimport_20240101_000000/files.jsonl.zst",
            "reimport_20240101_000000/journal/20240101T000000.000Z-alive-n1.json",
        ];
        for key in theirs {
            world.plant(key, b"not of ours");
        }
        let pruned = prune(&world, rules(0, 0, 0, 1)).await.expect("a prune");
        assert_eq!(ids(&world).await, points[1..]);
        assert!(theirs.iter().all(|key| world.vault_content().contains_key(*key)), "{pruned:?}");
    }
}
