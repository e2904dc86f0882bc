//! Any changed, cut, swapped or missing byte in any artefact is found and named by verify.

use nexus_core::error::Error;
use nexus_core::event::Events;
use nexus_core::point::{Depth, Verdict};
use nexus_core::restore;
use nexus_core::verify::{self, VerifyRequest};
use nexus_sandbox::{Fault, FaultAt, Quirks, ServiceOptions};

use crate::world::{World, hasty};

/// What verify says of the newest point: nothing, or a text that names what is wrong.
async fn verdict(world: &World, id: &str, depth: Depth) -> Option<String> {
    let point = match world.point(id).await {
        Ok(point) => point,
        Err(error) => return Some(error.to_string()),
    };
    let look = VerifyRequest { depth, ..VerifyRequest::whole() };
    let verified = verify::check(&point, &look, &world.scratch(), &Events::none()).await.expect("a look");
    match verified.proof.verdict {
        Verdict::Verified => None,
        _ => Some(format!("{:?} {:?}", verified.proof.findings, verified.trouble)),
    }
}

async fn every_harm_is_found(world: &World, flips_at: Depth) {
    let id = world.backup().await.expect("a backup").point.id().to_string();
    assert_eq!(verdict(world, &id, Depth::Full).await, None);
    let whole = world.vault_content();
    let other = whole.values().max_by_key(|body| body.len()).expect("something").clone();
    for (key, body) in &whole {
        let name = key.rsplit('/').next().expect("a name");
        let mut harms: Vec<(&str, Option<Vec<u8>>, Depth)> = vec![("missing", None, Depth::Default)];
        if !body.is_empty() {
            harms.push(("cut", Some(body[..body.len() - 1].to_vec()), Depth::Default));
            let mut flipped = body.clone();
            flipped[body.len() / 2] ^= 1;
            harms.push(("flipped", Some(flipped), flips_at));
        }
        if other != *body {
            harms.push(("swapped", Some(other.clone()), Depth::Default));
        }
        for (harm, bytes, depth) in harms {
            // A journal entry that is gone takes its proof with it: the point is then unproven, not damaged.
            if harm == "missing" && key.contains("/journal/") {
                continue;
            }
            if key == "vault.json" {
                world.harm(key, bytes);
                assert!(harm == "missing" || world.open().await.is_err(), "{harm} {key} was opened");
                world.harm_or_put(key, body);
                continue;
            }
            world.harm(key, bytes);
            let found = verdict(world, &id, depth).await;
            let found = found.unwrap_or_else(|| panic!("{harm} {key} was not found at {depth}"));
            assert!(found.contains(name) || found.contains(&id), "{harm} {key} was not named: {found}");
            world.harm_or_put(key, body);
            // Put back in a folder, a file has another time of change; at full depth its bytes count.
        }
    }
}

#[tokio::test]
async fn every_harm_to_a_vault_in_a_bucket_is_found() {
    every_harm_is_found(&World::on_s3(ServiceOptions::default(), hasty(2)), Depth::Default).await;
}

#[tokio::test]
async fn every_harm_to_a_vault_in_a_folder_is_found() {
    every_harm_is_found(&World::in_folders(), Depth::Full).await;
}

#[tokio::test]
async fn flipped_bytes_that_a_listing_cannot_show_are_found_by_reading() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    let id = world.backup().await.expect("a backup").point.id().to_string();
    world.store().tamper(crate::world::BUCKET, &format!("backup/{id}/images/images/a.jpg"), b"b picture".to_vec());
    assert_eq!(verdict(&world, &id, Depth::Default).await, None);
    let found = verdict(&world, &id, Depth::Full).await.expect("it is found");
    assert!(found.contains("images/a.jpg"), "{found}");
}

/// A listing cannot show it, so it comes out when the copy is read: on the way into a folder.
#[tokio::test]
async fn a_rotten_copy_is_not_restored_into_a_folder_as_if_it_were_the_file() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    let id = world.backup().await.expect("a backup").point.id().to_string();
    world.restore_into_folder(&id).await.expect("a restore of what is whole");
    world.store().tamper(crate::world::BUCKET, &format!("backup/{id}/images/images/a.jpg"), b"b picture".to_vec());
    std::fs::remove_file(world.folder_target().join("images/a.jpg")).expect("it was restored");
    let error = world.restore_into_folder(&id).await.expect_err("a rotten copy");
    assert!(matches!(error, nexus_core::error::Error::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn keys_that_a_folder_cannot_hold_are_refused_before_the_first_write() {
    for (key, body) in [("images/x/", "bytes"), ("a//", ""), ("a//b", "bytes"), ("../up", "bytes")] {
        let world = World::on_s3(ServiceOptions::default(), hasty(2));
        world.put(key, body.as_bytes());
        let id = world.backup().await.expect("a backup").point.id().to_string();
        let error = world.restore_into_folder(&id).await.expect_err(key);
        assert!(matches!(&error, nexus_core::error::Error::Usage { what, .. } if what.contains(key)), "{error:?}");
        assert!(!world.folder_target().exists(), "something was written for {key}");
    }
}

#[tokio::test]
async fn markers_of_folders_become_folders() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    world.put("images/empty/", b"");
    let id = world.backup().await.expect("a backup").point.id().to_string();
    world.restore_into_folder(&id).await.expect("a restore");
    assert!(world.folder_target().join("images/empty").is_dir());
}

#[tokio::test]
async fn restore_refuses_a_damaged_point_before_its_first_write() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    let id = world.backup().await.expect("a backup").point.id().to_string();
    world.put("images/b.JPG", b"now");
    let before = world.files();
    for key in [format!("{id}/images/images/a.jpg"), format!("{id}/files.jsonl.zst")] {
        let body = world.vault_content().remove(&key).expect("it is there");
        world.harm(&key, Some(b"x".to_vec()));
        assert!(world.restore(&id).await.is_err());
        assert_eq!(world.files(), before);
        world.harm(&key, Some(body));
    }
    let stamp = &id[5..];
    world.harm(&format!("database/clinic_sqlite_backup_{stamp}.db"), Some(b"x".to_vec()));
    assert!(world.restore(&id).await.is_err());
    assert_eq!(world.files(), before);
}

/// A point with many files, on S3.
async fn of_many_files(options: ServiceOptions) -> (World, String) {
    let world = World::on_s3(options, hasty(2));
    for number in 0..150 {
        world.put(&format!("scans/{number:03}.jpg"), format!("scan {number}").as_bytes());
    }
    let id = world.backup().await.expect("a backup").point.id().to_string();
    (world, id)
}

#[tokio::test]
async fn a_missing_copy_that_is_not_needed_does_not_keep_the_others_from_coming_back() {
    let (world, id) = of_many_files(ServiceOptions::default()).await;
    let before = world.files();
    world.harm(&format!("{id}/images/scans/100.jpg"), None);
    world.put("scans/007.jpg", b"spoilt");
    world.delete("scans/149.jpg");
    world.restore(&id).await.expect("a restore");
    assert_eq!(world.files(), before);
}

#[tokio::test]
async fn a_service_that_names_a_weak_etag_where_an_object_is_read_has_it_compared_and_asked_for_by_what_it_marks() {
    let quirks = Quirks { weak_etags: true, ..Quirks::default() };
    let (world, id) = of_many_files(ServiceOptions { quirks, ..ServiceOptions::default() }).await;
    assert_eq!(verdict(&world, &id, Depth::Full).await, None);
    let before = world.files();
    world.put("scans/007.jpg", b"spoilt");
    world.restore(&id).await.expect("a restore of one file");
    assert_eq!(world.files(), before);
    // Whichever answer breaks off goes on where it stopped, on the condition that the object is still the same.
    let service = world.service.as_ref().expect("on S3");
    for nth in 1..=30 {
        service.inject(Fault::CutBody, FaultAt::Operation { name: "GetObject".to_owned(), nth });
        assert_eq!(verdict(&world, &id, Depth::Full).await, None, "cut at the {nth}. object");
        assert_eq!(service.faults_fired(), nth);
        service.clear_faults();
    }
}

#[tokio::test]
async fn a_restore_fetches_the_listing_once_also_when_it_looks_again() {
    let (world, id) = of_many_files(ServiceOptions::default()).await;
    let before = world.files();
    for number in 0..100 {
        world.delete(&format!("scans/{number:03}.jpg"));
    }
    let point = world.point(&id).await.expect("a point");
    let service = world.service.as_ref().expect("on S3");
    service.reset_counts();
    let plan = restore::plan(point, world.request(), &world.scratch(), &world.clock(), &Events::none()).await;
    let mut plan = plan.expect("a plan");
    plan.look_again(&Events::none()).await.expect("a second look");
    restore::restore(plan, None, &world.clock(), &Events::none()).await.expect("a restore");
    assert_eq!(world.files(), before);
    let fetched = service.log().iter().filter(|line| line.contains("files.jsonl.zst")).count();
    assert_eq!(fetched, 1, "{:#?}", service.log());
}

#[tokio::test]
async fn a_restore_of_few_files_refuses_a_copy_that_it_needs_before_its_first_write() {
    let (world, id) = of_many_files(ServiceOptions::default()).await;
    world.put("scans/007.jpg", b"spoilt");
    world.delete("scans/149.jpg");
    let before = world.files();
    for harm in [None, Some(b"other bytes".to_vec())] {
        let key = format!("{id}/images/scans/149.jpg");
        let body = world.vault_content().remove(&key).expect("it is there");
        world.harm(&key, harm);
        let error = world.restore(&id).await.expect_err("it is damaged");
        assert!(matches!(&error, Error::Damaged { .. }) && error.to_string().contains("scans/149.jpg"), "{error}");
        assert_eq!(world.files(), before);
        world.harm_or_put(&key, &body);
    }
}

#[tokio::test]
async fn a_copy_that_is_needed_only_after_the_app_was_stopped_ends_the_restore_before_its_first_write() {
    let (world, id) = of_many_files(ServiceOptions::default()).await;
    world.put("scans/007.jpg", b"spoilt");
    let point = world.point(&id).await.expect("a point");
    let plan = restore::plan(point, world.request(), &world.scratch(), &world.clock(), &Events::none()).await;
    let mut plan = plan.expect("a plan");
    // The app spoils one more on its way out, and of that the copy is gone.
    world.put("scans/020.jpg", b"spoilt");
    world.harm(&format!("{id}/images/scans/020.jpg"), None);
    let error = plan.look_again(&Events::none()).await.expect_err("it is damaged");
    assert!(matches!(&error, Error::Damaged { .. }) && error.to_string().contains("scans/020.jpg"), "{error}");
}

#[tokio::test]
async fn a_changed_local_record_file_is_named_and_the_point_stays_whole() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    let id = world.backup().await.expect("a backup").point.id().to_string();
    std::fs::write(world.records().join(&id).join("patient.json"), "[]").expect("room");
    let point = world.point(&id).await.expect("a point");
    let look = VerifyRequest::whole();
    let verified = verify::check(&point, &look, &world.scratch(), &Events::none()).await.expect("a look");
    assert_eq!(verified.proof.verdict, Verdict::Verified);
    let local = verified.local_records.expect("they are here");
    assert!(local.len() == 1 && local[0].name.contains("patient.json"), "{local:?}");
    std::fs::remove_dir_all(world.records()).expect("it was there");
    let verified = verify::check(&point, &look, &world.scratch(), &Events::none()).await.expect("a look");
    assert_eq!((verified.proof.verdict, verified.local_records), (Verdict::Verified, None));
}

#[tokio::test]
async fn records_that_are_not_here_are_never_called_verified() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    let mut plan = world.plan(&nexus_core::point::Part::ALL);
    plan.records.as_mut().expect("records").in_vault = false;
    let report = world.backup_as(&plan).await.expect("a backup");
    assert_eq!(report.verified.proof.verdict, Verdict::Verified);
    std::fs::remove_dir_all(world.records()).expect("it was there");
    let look = VerifyRequest::whole();
    let verified = verify::check(&report.point, &look, &world.scratch(), &Events::none()).await.expect("a look");
    assert_eq!(verified.proof.verdict, Verdict::CouldNotVerify);
}

#[tokio::test]
async fn a_damaged_base_is_no_base() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    let id = world.backup().await.expect("a backup").point.id().to_string();
    world.harm(&format!("{id}/files.jsonl.zst"), Some(b"x".to_vec()));
    let next = world.backup().await.expect("a backup");
    let manifest = next.point.manifest();
    assert_eq!((manifest.base.clone(), manifest.parts.files.as_ref().expect("files").reused.files), (None, 0));
    assert_eq!(next.verified.proof.verdict, Verdict::Verified);
}
