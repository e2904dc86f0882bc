//! A service that asks for less, answers in halves, or does not let everything be read.

use std::time::Duration;

use nexus_core::backup::BackupReport;
use nexus_core::bucket::pace::Limits;
use nexus_core::error::{Error, Result};
use nexus_core::point::Part;
use nexus_sandbox::{Fault, FaultAt, NewObject, Service, ServiceOptions};

use crate::world::{BUCKET, World, hasty};

fn world(limits: Limits) -> World {
    World::on_s3(ServiceOptions::default(), limits)
}

async fn files_only(world: &World) -> Result<BackupReport> {
    world.backup_as(&world.plan(&[Part::Files])).await
}

fn service(world: &World) -> &Service {
    world.service.as_ref().expect("on S3")
}

#[tokio::test]
async fn a_service_that_asks_for_less_for_a_while_is_waited_for() {
    // Of waits that double from 0.1 s on, eight take 25 seconds: so often and more one request is refused in a row.
    let world = world(Limits { throttled_for: Duration::from_mins(2), ..hasty(8) });
    for fault in [Fault::Throttled, Fault::Status503SlowDown] {
        service(&world).inject(fault, FaultAt::Span { first: 6, count: 11 });
        world.put("images/a.jpg", format!("{fault:?}").as_bytes());
        files_only(&world).await.expect("a backup");
        service(&world).clear_faults();
    }
}

#[tokio::test]
async fn a_service_that_asks_for_less_for_ever_fails_the_run_and_is_named() {
    for (throttled_for, first) in [(Duration::ZERO, 1), (Duration::from_millis(300), 12)] {
        let world = world(Limits { throttled_for, ..hasty(8) });
        service(&world).inject(Fault::Status503SlowDown, FaultAt::From(first));
        let error = files_only(&world).await.expect_err("the service does nothing");
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains("SlowDown"), "{error}: {cause}");
        service(&world).clear_faults();
        files_only(&world).await.expect("what was left of it is in nobody's way");
    }
}

#[tokio::test]
async fn listings_that_are_cut_are_asked_for_again_and_miss_nothing() {
    let options = ServiceOptions { page_size: 2, ..ServiceOptions::default() };
    let world = World::on_s3(options, hasty(4));
    for nth in 1..=6 {
        service(&world).inject(Fault::CutBody, FaultAt::Operation { name: "ListObjectsV2".to_owned(), nth });
        let report = files_only(&world).await.expect("a backup");
        let total = report.point.manifest().parts.files.as_ref().expect("files").total.files;
        assert_eq!(
            usize::try_from(total).expect("few"),
            world.files().len() - excluded(&world),
            "cut at the {nth}. listing"
        );
        service(&world).clear_faults();
    }
}

fn excluded(world: &World) -> usize {
    world.files().keys().filter(|key| key.starts_with("tmp/")).count()
}

#[tokio::test]
async fn files_in_an_archive_are_named_before_anything_is_copied() {
    for class in ["GLACIER", "DEEP_ARCHIVE"] {
        let world = world(hasty(3));
        let frozen = NewObject::new("long ago").storage_class(class);
        world.store().put(BUCKET, "images/frozen.jpg", frozen).expect("the bucket is there");
        let error = files_only(&world).await.expect_err("it cannot be copied");
        assert!(error.to_string().contains("images/frozen.jpg"), "{error}");
        assert_eq!(service(&world).operations().get("CopyObject"), None);
        // What can be read at once is not in an archive, whatever it is called.
        assert!(world.store().delete(BUCKET, "images/frozen.jpg"));
        let cold = NewObject::new("cold").storage_class("GLACIER_IR");
        world.store().put(BUCKET, "images/cold.jpg", cold).expect("the bucket is there");
        files_only(&world).await.expect("a backup");
    }
}

#[tokio::test]
async fn a_right_that_lacks_is_told_with_the_file_that_needed_it_and_leaves_no_point() {
    for (denied, cutoff) in
        [("CopyObject", u64::MAX), ("GetObjectTagging", 5), ("HeadObject", 5), ("UploadPartCopy", 5)]
    {
        let world = world(Limits { copy_cutoff: cutoff, ..hasty(3) });
        service(&world).deny(denied);
        let error = files_only(&world).await.expect_err("it is not allowed");
        assert!(matches!(error, Error::Denied { .. }), "{denied}: {error:?}");
        let named = world.files().keys().any(|key| error.to_string().contains(key.as_str()));
        assert!(named, "{denied}: {error}");
        service(&world).allow_all();
        assert_eq!(world.store().open_uploads(BUCKET), 0, "{denied}");
        let points = world.open().await.expect("a vault").points().await.expect("a listing");
        assert!(points.iter().all(|point| point.manifest().is_none()), "{denied}");
    }
}
