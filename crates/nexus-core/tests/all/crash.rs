//! Kill it at any moment: what was committed stays whole, what was not does not exist, the next run succeeds.

use nexus_core::event::Events;
use nexus_core::point::{Part, Verdict};
use nexus_core::vault::Standing;
use nexus_core::verify::{self, VerifyRequest};
use nexus_sandbox::{Fault, FaultAt, ServiceOptions};
use nexus_testkit::digest;

use crate::world::{World, hasty, sql};

/// Every listed point is complete and verifies; nothing in `before` has changed.
async fn sound(world: &World, before: &std::collections::BTreeMap<String, Vec<u8>>) {
    let vault = world.open().await.expect("a vault");
    for state in vault.points().await.expect("points") {
        assert!(!matches!(state.standing, Standing::Unreadable(_)), "{state:?}");
        if state.manifest().is_some() {
            let point = vault.find(&state.id.to_string(), &[]).await.expect("a point").point;
            let look = VerifyRequest::whole();
            let verified = verify::check(&point, &look, &world.scratch(), &Events::none()).await.expect("a look");
            assert_eq!(verified.proof.verdict, Verdict::Verified, "{}: {verified:?}", state.id);
        }
    }
    let after = world.vault_content();
    for (key, body) in before {
        assert_eq!(after.get(key), Some(body), "{key} was changed or removed");
    }
}

#[tokio::test]
async fn a_backup_stopped_at_any_request_leaves_every_listed_point_whole() {
    let mut stopped = 0;
    for n in 1.. {
        // A world of its own for each n, so that n counts the same requests.
        let world = World::on_s3(ServiceOptions::default(), hasty(1));
        world.backup().await.expect("a first backup");
        let service = world.service.as_ref().expect("on S3");
        world.put("images/a.jpg", b"changed");
        let before = world.vault_content();
        service.inject(Fault::Reset, FaultAt::From(n));
        let outcome = world.backup().await;
        let fired = service.faults_fired();
        service.clear_faults();
        sound(&world, &before).await;
        let last = world.backup().await.expect("the next run succeeds");
        assert_eq!(last.verified.proof.verdict, Verdict::Verified);
        assert_eq!(service.store().open_uploads(crate::world::BUCKET), 0);
        if fired == 0 {
            assert!(outcome.is_ok());
            break;
        }
        let proven = outcome.is_ok_and(|report| {
            report.verified.proof.verdict == Verdict::Verified && report.verified.unrecorded.is_none()
        });
        assert!(!proven, "a backup that was stopped at request {n} says that it is proven");
        stopped += 1;
    }
    assert!(stopped > 20, "only {stopped} requests were stopped at");
}

#[tokio::test]
async fn every_single_fault_is_survived() {
    for fault in [
        Fault::Status500,
        Fault::Status503SlowDown,
        Fault::ErrorInside200,
        Fault::Reset,
        Fault::LostAnswer,
        Fault::CutBody,
    ] {
        let world = World::on_s3(ServiceOptions::default(), hasty(4));
        let service = world.service.as_ref().expect("on S3");
        world.backup().await.expect("a first backup");
        for n in (1..50).step_by(3) {
            world.put("images/a.jpg", format!("{fault:?} {n}").as_bytes());
            service.inject(fault, FaultAt::Nth(n));
            let outcome = world.backup().await;
            service.clear_faults();
            let report = outcome.unwrap_or_else(|error| panic!("{fault:?} at {n}: {error:?}"));
            assert_eq!(report.verified.proof.verdict, Verdict::Verified, "{fault:?} at {n}");
        }
        sound(&world, &std::collections::BTreeMap::default()).await;
    }
}

#[tokio::test]
async fn an_empty_answer_to_a_copy_is_no_success() {
    let world = World::on_s3(ServiceOptions::default(), hasty(4));
    let service = world.service.as_ref().expect("on S3");
    service.inject(Fault::Empty200, FaultAt::Operation { name: "CopyObject".into(), nth: 2 });
    let report = world.backup().await.expect("a backup");
    assert_eq!(service.faults_fired(), 1);
    assert_eq!(report.verified.proof.verdict, Verdict::Verified);
}

#[tokio::test]
async fn a_restore_stopped_at_any_request_can_be_run_again() {
    for n in 1.. {
        let world = World::on_s3(ServiceOptions::default(), hasty(1));
        let service = world.service.as_ref().expect("on S3");
        let before = (digest::database(&world.database()), world.files());
        let id = world.backup().await.expect("a backup").point.id().clone();
        world.put("images/a.jpg", b"wrecked");
        sql(&world.database(), "UPDATE patient SET first_name = 'wrecked'");
        let wrecked = digest::database(&world.database());
        service.inject(Fault::Reset, FaultAt::From(n));
        let outcome = world.restore(&id.to_string()).await;
        let fired = service.faults_fired();
        service.clear_faults();
        let now = digest::database(&world.database());
        assert!(now == before.0 || now == wrecked, "the database is mixed after a stop at request {n}");
        if let Ok(report) = &outcome {
            assert!(report.files.is_some() && now == before.0 && (fired == 0 || report.unrecorded.is_some()));
        }
        world.restore(&id.to_string()).await.expect("the next run succeeds");
        assert_eq!((digest::database(&world.database()), world.files()), before);
        if fired == 0 {
            break;
        }
    }
}

#[tokio::test]
async fn a_file_that_is_gone_when_it_is_copied_fails_the_run_and_is_named() {
    gone_when_copied(&World::on_s3(ServiceOptions::default(), hasty(2))).await;
    gone_when_copied(&World::in_folders()).await;
}

async fn gone_when_copied(world: &World) {
    let removing = world.removing("zero");
    let mut plan = world.plan(&[Part::Files]);
    let gone = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&gone);
    // The listing ends, then the file goes: exactly between list and copy.
    let events = Events::new(move |event| {
        use nexus_core::event::{Event, Stage};
        if event == (Event::Ended { stage: Stage::ListFiles }) && !flag.swap(true, std::sync::atomic::Ordering::Relaxed)
        {
            removing();
        }
    });
    let vault = world.open().await.expect("a vault");
    let error = nexus_core::backup::backup(&vault, &plan, &world.clock(), &events).await.expect_err("a file vanished");
    assert!(error.to_string().contains("zero"), "{error}");
    assert!(world.point("latest").await.is_err(), "something was committed");

    world.put("zero", b"");
    gone.store(false, std::sync::atomic::Ordering::Relaxed);
    plan.files.as_mut().expect("files").vanished = nexus_core::files::capture::Vanished::Record;
    let report = nexus_core::backup::backup(&vault, &plan, &world.clock(), &events).await.expect("a backup");
    assert!(report.point.manifest().findings.iter().any(|finding| finding.name == "zero"));
}

#[tokio::test]
async fn more_files_than_may_vanish_fail_the_run_even_when_vanishing_is_allowed() {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    let keys: Vec<_> = (0..12).map(|at| format!("images/going{at}.jpg")).collect();
    for key in &keys {
        world.put(key, key.as_bytes());
    }
    let mut plan = world.plan(&[Part::Files]);
    plan.files.as_mut().expect("files").vanished = nexus_core::files::capture::Vanished::Record;
    let store = world.store();
    let events = Events::new(move |event| {
        use nexus_core::event::{Event, Stage};
        if event == (Event::Ended { stage: Stage::ListFiles }) {
            for key in &keys {
                assert!(store.delete(crate::world::BUCKET, key));
            }
        }
    });
    let vault = world.open().await.expect("a vault");
    let error = nexus_core::backup::backup(&vault, &plan, &world.clock(), &events).await.expect_err("too many");
    assert!(error.to_string().contains("12 files"), "{error}");
    assert!(world.point("latest").await.is_err(), "something was committed");
}
