//! Local files into S3: every byte there, proven by what the service says, whatever it says and whatever happens meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use nexus_core::bucket::Address;
use nexus_core::bucket::pace::Limits;
use nexus_core::error::{Error, Result};
use nexus_core::listing::ProofKind;
use nexus_core::local::Scratch;
use nexus_core::point::Part;
use nexus_sandbox::{
    DefaultRetention, Fault, FaultAt, Period, Personality, Quirks, RetentionMode, ServiceOptions, Versioning,
};

use crate::world::{BUCKET, World, hasty};

/// Sent as they lie there: one at once, one in two parts.
const LARGE: [(&str, usize); 2] = [("images/large.jpg", 5 << 20), ("images/in parts.jpg", 17 << 20)];
/// A name that has to be spelled for an address.
const AWKWARD: &str = "documents/50% of (a~b)*!'+, ü & = ? #.pdf";

fn content(salt: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at / 1_000 + at + salt) % 251).expect("it is below 251")).collect()
}

fn limits() -> Limits {
    Limits { patience: Duration::from_secs(30), ..hasty(3) }
}

fn world(options: ServiceOptions) -> World {
    let world = World::of_a_folder_on_s3(options, limits());
    for (key, length) in LARGE {
        world.put(key, &content(0, length));
    }
    world.put(AWKWARD, b"a name");
    world
}

/// Takes the files alone; how many there were by what proves them.
async fn proofs(world: &World) -> Result<BTreeMap<ProofKind, u64>> {
    let report = world.backup_as(&world.plan(&[Part::Files])).await?;
    let manifest = report.point.manifest();
    Ok(manifest.parts.files.as_ref().expect("files were taken").proofs.clone())
}

/// Fails unless what is restored is what the folder has.
async fn comes_back(world: &World) {
    world.restore_into_folder("latest").await.expect("a restore");
    let Address::Folder(source) = &world.source else { panic!("a folder was asked for") };
    let names = ["notes", "zero", AWKWARD].into_iter().chain(LARGE.map(|(key, _)| key));
    for key in names {
        let (was, is) = (std::fs::read(source.join(key)), std::fs::read(world.folder_target().join(key)));
        assert!(was.expect("it is there") == is.expect("it came back"), "{key} came back with other bytes");
    }
}

fn sum(proofs: &BTreeMap<ProofKind, u64>) -> u64 {
    proofs.values().sum()
}

#[tokio::test]
async fn every_service_gets_every_byte_of_a_folder() {
    for personality in Personality::ALL {
        let mut options = ServiceOptions::like(personality);
        options.quirks.failing_encryption = false;
        let world = world(options);
        let proofs = proofs(&world).await.unwrap_or_else(|error| panic!("{personality:?}: {error}"));
        assert_eq!(sum(&proofs), 10, "{personality:?}: {proofs:?}");
        assert_eq!(proofs.get(&ProofKind::Size), None, "{personality:?}: {proofs:?}");
        comes_back(&world).await;
    }
}

#[tokio::test]
async fn what_a_service_computed_of_its_own_accord_proves_a_file_and_an_etag_does_where_it_computes_nothing() {
    let of = async |quirks: Quirks| proofs(&world(ServiceOptions { quirks, ..ServiceOptions::default() })).await;
    let vouched = of(Quirks::default()).await.expect("a backup");
    assert!(vouched.get(&ProofKind::Checksum) > Some(&0), "{vouched:?}");
    assert_eq!(vouched.get(&ProofKind::Size), None, "{vouched:?}");
    let none = of(Quirks { no_own_checksum: true, ..Quirks::default() }).await.expect("a backup");
    // Of a file in parts it has a checksum that it computed.
    assert_eq!((none.get(&ProofKind::Size), none.get(&ProofKind::Etag) > Some(&8)), (None, true), "{none:?}");
    let silent = of(Quirks { no_checksums: true, ..Quirks::default() }).await.expect("a backup");
    assert_eq!(silent, [(ProofKind::Etag, 10)].into());
    let opaque = Quirks { no_checksums: true, opaque_etags: true, ..Quirks::default() };
    // Of what is sent in parts the ETag is made of the MD5s all the same.
    assert_eq!(of(opaque).await.expect("a backup"), [(ProofKind::Etag, 1), (ProofKind::Size, 9)].into());
}

#[tokio::test]
async fn a_service_that_stores_something_else_is_found_out_by_its_own_words() {
    let quirks = Quirks { rotten_writes: true, ..Quirks::default() };
    // At once out of memory, at once as it lies there, and in parts.
    for length in [1_000, 5 << 20, 17 << 20] {
        let world = World::of_a_folder_on_s3(ServiceOptions { quirks, ..ServiceOptions::default() }, limits());
        let Address::Folder(source) = &world.source else { panic!("a folder was asked for") };
        std::fs::remove_dir_all(source).expect("it is there");
        world.put("documents/report", &content(0, length));
        let error = proofs(&world).await.expect_err("other bytes were stored");
        assert!(matches!(error, Error::Damaged { .. }), "{length}: {error:?}");
    }
}

/// Without a `Content-MD5` a bucket that locks what is stored takes nothing.
#[tokio::test]
async fn a_bucket_that_wants_a_content_md5_gets_one() {
    let world = world(ServiceOptions::default());
    // More than are in flight at once when the first of them is refused.
    for number in 0..60 {
        world.put(&format!("images/{number}.jpg"), &content(number, 1_000));
    }
    let retention = DefaultRetention { mode: RetentionMode::Governance, period: Period::Days(1) };
    world.store().set_versioning(BUCKET, Versioning::Enabled).expect("a bucket");
    world.store().set_object_lock(BUCKET, Some(retention)).expect("a bucket");
    let proofs = proofs(&world).await.expect("a backup");
    assert_eq!((sum(&proofs), proofs.get(&ProofKind::Size)), (70, None), "{proofs:?}");
    comes_back(&world).await;
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_is_tried_again_and_leaves_no_upload_behind() {
    let before = [Fault::Status500, Fault::Status503SlowDown, Fault::Reset];
    let after = [Fault::LostAnswer, Fault::Empty200];
    // What the vault writes itself are the first four puts.
    let sent = [("UploadPart", 1), ("UploadPart", 2), ("PutObject", 6), ("PutObject", 9)];
    let around = [("CreateMultipartUpload", 1), ("CompleteMultipartUpload", 1)];
    for fault in before.into_iter().chain(after) {
        let world = world(ServiceOptions::default());
        let service = world.service.as_ref().expect("on S3");
        let around = around.into_iter().filter(|_| before.contains(&fault));
        let struck: Vec<_> = sent.into_iter().chain(around).collect();
        for (operation, nth) in &struck {
            service.inject(fault, FaultAt::Operation { name: (*operation).into(), nth: *nth });
        }
        let proofs = proofs(&world).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(service.faults_fired(), struck.len() as u64, "{fault:?}");
        assert_eq!((sum(&proofs), proofs.get(&ProofKind::Size)), (10, None), "{fault:?}: {proofs:?}");
        assert_eq!(world.store().open_uploads(BUCKET), 0, "{fault:?}");
        service.clear_faults();
        comes_back(&world).await;
    }
}

/// A file is hashed before it is sent: what becomes of it in between must not be stored as what it was.
#[tokio::test]
async fn a_file_that_changes_between_its_hash_and_its_sending_is_stored_whole_as_it_is_then() {
    for (operation, (key, length)) in [("PutObject", ("images/a.jpg", 15 << 20)), ("UploadPart", LARGE[1])] {
        let world = world(ServiceOptions::default());
        let Address::Folder(source) = &world.source else { panic!("a folder was asked for") };
        std::fs::remove_dir_all(source).expect("it is there");
        world.put(key, &content(0, length));
        // The vault's own puts are its identity, twice, the claim and the script.
        let nth = if operation == "PutObject" { 5 } else { 1 };
        let service = world.service.as_ref().expect("on S3");
        let mut waiting = service.stop_at(FaultAt::Operation { name: operation.into(), nth });
        let change = async {
            let arrived = tokio::time::timeout(Duration::from_mins(1), waiting.arrived()).await;
            arrived.expect("that request is made");
            world.put(key, &content(7, length));
            drop(waiting);
        };
        let (proofs, ()) = tokio::join!(proofs(&world), change);
        assert_eq!(sum(&proofs.expect("a backup")), 1);
        let log = service.log();
        let sent = log.iter().filter(|line| line.starts_with("PUT ") && line.contains(".jpg")).count();
        assert!(sent > if operation == "PutObject" { 1 } else { 2 }, "what was hashed was sent in time: {log:?}");
        let point = world.point("latest").await.expect("a point");
        let scratch = Scratch::create(&world.scratch()).expect("scratch");
        let entries = point.listing(&scratch).await.expect("a listing");
        let entries: Vec<_> = entries.collect::<Result<_>>().expect("whole lines");
        let line = entries.iter().find(|entry| entry.key == key).expect("it is listed");
        let copy = line.at.as_ref().and_then(|at| at.vault_key()).expect("it was copied");
        let stored = world.store().get(BUCKET, &format!("backup/{copy}")).expect("it is there").body.clone();
        assert!(stored == content(7, length), "{key} was stored as it never was, or as it is no more");
        let sha256 = <sha2::Sha256 as sha2::Digest>::digest(&stored);
        assert_eq!(line.source.checksum, Some(format!("sha256:{sha256:x}")));
    }
}
