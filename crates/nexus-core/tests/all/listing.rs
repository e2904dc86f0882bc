//! Listings name every object exactly once, in byte order: whatever the shape of the bucket, the size of its pages, the order in
//! which the service lists, and the version of the request that it knows.

use std::collections::BTreeSet;
use std::path::Path;

use nexus_core::bucket::marks::Marks;
use nexus_core::bucket::{Bucket, Reader};
use nexus_core::error::Error;
use nexus_core::event::Events;
use nexus_sandbox::{Fault, FaultAt, NewObject, Quirks, Service, ServiceOptions};
use nexus_testkit::services::Endpoint;
use nexus_testkit::synthetic::{Oddity, Options, SOURCE, Synthetic};

use crate::conformance::service;
use crate::world::{client, hasty};

async fn keys(reader: &Reader, prefix: &str, scratch: &Path) -> Vec<String> {
    let listed = reader.list(prefix, scratch, &Events::none()).await.expect("a listing");
    listed.map(|object| object.expect("an object").key).collect()
}

/// Buckets of different shapes.
fn shapes() -> Vec<(&'static str, Vec<String>)> {
    let many = |count: usize, key: &dyn Fn(usize) -> String| (0..count).map(key).collect::<Vec<_>>();
    let mut odd: Vec<String> =
        ["a", "a!", "a/", "a/b", "a/b!", "a/b/c", "a//b", "a-b/c", "/x", "//", "ä/ö", "a\u{301}/o"]
            .map(str::to_owned)
            .into();
    odd.extend(["a+b c%20/?#&", "a\nb", "a\u{1}b", "\u{10fffe}", "../x", "./y", "z/../z"].map(str::to_owned));
    vec![
        ("nothing", Vec::new()),
        ("one", vec!["one".to_owned()]),
        ("odd", odd),
        ("flat", many(400, &|number| format!("{:04}", number * 7))),
        ("a few folders", many(400, &|number| format!("{}/{number}", number % 9))),
        ("many folders", many(400, &|number| format!("folder-{:03}/{number}", number % 90))),
        ("unequal", many(400, &|number| if number < 350 { format!("big/{number}") } else { format!("s{number}/x") })),
        ("deep", many(300, &|number| format!("{}/{}/{}/{number}", number % 3, number % 5, number % 7))),
        ("turned", many(300, &|number| format!("{}{}", ["a/", "a-b/", "a!", "a."][number % 4], number))),
    ]
}

#[tokio::test]
async fn every_object_is_listed_once_whatever_the_shape_the_page_and_the_order() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    for unordered_listing in [false, true] {
        for page_size in [1, 7, 1_000] {
            let quirks = Quirks { unordered_listing, ..Quirks::default() };
            let options = ServiceOptions { page_size, quirks, ..ServiceOptions::default() };
            let sandbox = Service::start(options).expect("a free port");
            for (at, (shape, all)) in shapes().into_iter().enumerate() {
                let bucket = format!("shape-{at}");
                sandbox.store().create_bucket(&bucket);
                for key in &all {
                    sandbox.store().put(&bucket, key, NewObject::new(b"x".to_vec())).expect("a bucket");
                }
                // A client of its own each time: nothing is known of the service yet.
                let reader = Bucket::S3(client(&sandbox, hasty(3)).bucket(&bucket)).reader();
                for prefix in ["", "a", "a/", "big/"] {
                    let mut wanted: Vec<_> = all.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
                    wanted.sort();
                    let what = format!("{shape} below {prefix:?}, pages of {page_size}, unordered {unordered_listing}");
                    assert_eq!(keys(&reader, prefix, scratch.path()).await, wanted, "{what}");
                }
            }
        }
    }
}

/// Marks at every so many of these keys.
fn marks(keys: &[String], apart: u64) -> Marks {
    let mut sorted: Vec<_> = keys.iter().collect();
    sorted.sort();
    let mut marks = Marks::apart(apart);
    for key in sorted {
        marks.add(key);
    }
    marks
}

async fn along(reader: &Reader, marks: &Marks, scratch: &Path) -> Vec<String> {
    let listed = reader.list_along(("", marks), scratch, &Events::none()).await.expect("a listing");
    listed.map(|object| object.expect("an object").key).collect()
}

#[tokio::test]
async fn what_was_known_of_a_bucket_loses_nothing_of_it_however_wrong_it_is() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut thrown = |faces: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        usize::try_from(dice % faces as u64).expect("small")
    };
    // Both orders have the first alike; what is new may be such that they have it otherwise.
    let (alike, awkward) = (["a/", "b/", "c/", "d"], ["a/", "a-", "a.", "b!", "c/", "ä/"]);
    let mut key = |alphabet: &[&str]| {
        let pieces: String = (0..=thrown(3)).map(|_| alphabet[thrown(alphabet.len())]).collect();
        format!("{pieces}{:02}", thrown(40))
    };
    let mut tried_again = 0;
    for round in 0..72_usize {
        let known: BTreeSet<String> = (0..120).map(|_| key(&alike)).collect();
        let kept = known.iter().enumerate().filter(|(at, _)| round % 2 == 0 || at % 7 != round % 7);
        let mut there: BTreeSet<String> = kept.map(|(_, key)| key.clone()).collect();
        there.extend((0..[0, 1, 20][round % 3]).map(|_| key(&awkward)));
        let known: Vec<String> = known.into_iter().collect();
        let quirks = Quirks {
            unordered_listing: round / 3 % 2 == 0,
            filtered_start: round / 6 % 2 == 0,
            no_start_after: round % 12 == 11,
            ..Quirks::default()
        };
        let page_size = [1, 5, 1_000][round / 4 % 3];
        let options = ServiceOptions { page_size, quirks, ..ServiceOptions::default() };
        let sandbox = Service::start(options).expect("a free port");
        sandbox.store().create_bucket("files");
        for key in &there {
            sandbox.store().put("files", key, NewObject::new(b"x".to_vec())).expect("a bucket");
        }
        let wanted: Vec<String> = there.into_iter().collect();
        for apart in [1, 4, 50] {
            // A client of its own each time: nothing is known of the service yet.
            let reader = Bucket::S3(client(&sandbox, hasty(3)).bucket("files")).reader();
            sandbox.reset_counts();
            let found = along(&reader, &marks(&known, apart), scratch.path()).await;
            assert_eq!(found, wanted, "round {round}, marks {apart} apart");
            let levels = sandbox.log().iter().filter(|line| line.contains("delimiter=")).count();
            tried_again += levels;
        }
    }
    assert!(tried_again > 20, "hardly ever was anything wrong: {tried_again}");
}

#[tokio::test]
async fn a_new_key_beside_a_folder_is_listed_where_a_start_that_is_gone_is_a_filter() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let quirks = Quirks { unordered_listing: true, filtered_start: true, ..Quirks::default() };
    let sandbox = Service::start(ServiceOptions { quirks, ..ServiceOptions::default() }).expect("a free port");
    sandbox.store().create_bucket("files");
    let known: Vec<String> = (0..100).map(|at| format!("photos/2024/{at:03}")).collect();
    let marks = marks(&known, 90);
    let mut there: Vec<String> = known.iter().filter(|key| !key.ends_with("/089")).cloned().collect();
    there.push("photos/2024-old.zip".to_owned());
    there.sort();
    for key in &there {
        sandbox.store().put("files", key, NewObject::new(b"x".to_vec())).expect("a bucket");
    }
    let reader = Bucket::S3(client(&sandbox, hasty(3)).bucket("files")).reader();
    assert_eq!(along(&reader, &marks, scratch.path()).await, there);
}

#[tokio::test]
async fn a_bucket_whose_keys_are_known_takes_a_page_a_range_and_no_level() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    for objects in [17_541, 50_000] {
        let (synthetic, reader) = synthetic(objects, 1_000, Oddity::None);
        let keys: Vec<String> = (0..objects).map(|number| synthetic.keys().key(number)).collect();
        // Those below one folder come alike in every order; here two orders differ, so the service shows its own first.
        let known = marks(&keys, 960);
        assert_eq!(along(&reader, &known, scratch.path()).await, keys);
        let before = requests(&synthetic);
        assert_eq!(along(&reader, &known, scratch.path()).await, keys);
        let pages = objects.div_ceil(960);
        let taken = requests(&synthetic) - before;
        assert!((pages..=pages + 32).contains(&taken), "{taken} requests for {pages} pages");
    }
}

fn synthetic(objects: u64, page: usize, oddity: Oddity) -> (Synthetic, Reader) {
    let synthetic = Synthetic::start(Options { objects, page, oddity, ..Options::default() });
    let endpoint = Endpoint { url: synthetic.endpoint(), access_key: "a".into(), secret_key: "b".into() };
    let reader = Bucket::S3(service(endpoint).bucket(SOURCE)).reader();
    (synthetic, reader)
}

fn requests(synthetic: &Synthetic) -> u64 {
    ["ListObjects", "ListObjectsV2"].iter().filter_map(|name| synthetic.counts().get(*name).copied()).sum()
}

#[tokio::test]
async fn fifty_thousand_objects_are_each_listed_once_in_ranges_that_are_split() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    for page in [13, 100, 1_000] {
        let (synthetic, reader) = synthetic(50_000, page, Oddity::None);
        let found = keys(&reader, "", scratch.path()).await;
        assert!(
            (0..50_000).all(|number| found[usize::try_from(number).expect("small")] == synthetic.keys().key(number))
        );
        assert_eq!(found.len(), 50_000);
        let pages = 50_000_u64.div_ceil(page as u64);
        assert!(requests(&synthetic) < pages + pages / 4 + 20, "{} requests for {pages} pages", requests(&synthetic));
    }
}

#[tokio::test]
async fn a_bucket_of_a_clinics_size_takes_a_level_and_its_pages() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let (synthetic, reader) = synthetic(17_541, 1_000, Oddity::None);
    let found = keys(&reader, "", scratch.path()).await;
    let of = |folder: &str| found.iter().filter(|key| key.starts_with(folder)).count().div_ceil(1_000);
    let pages: usize = ["archive/", "assets-old/", "assets/", "media/", "photos/", "tiny/"].map(of).iter().sum();
    assert_eq!(requests(&synthetic), 1 + pages as u64);
}

#[tokio::test]
async fn services_that_know_one_version_of_the_request_or_name_no_token_are_listed_whole() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    for oddity in [Oddity::FirstVersionOnly, Oddity::NoToken, Oddity::NoSpelling] {
        for prefix in ["", "photos/", "media/0"] {
            let (synthetic, reader) = synthetic(3_000, 50, oddity);
            let all = (0..3_000).map(|number| synthetic.keys().key(number));
            let wanted: Vec<_> = all.filter(|key| key.starts_with(prefix)).collect();
            assert_eq!(keys(&reader, prefix, scratch.path()).await, wanted, "{oddity:?} below {prefix:?}");
        }
        let (_synthetic, reader) = synthetic(3_000, 2, oddity);
        let folders = ["archive", "assets-old", "assets", "media", "photos", "tiny"];
        assert_eq!(reader.folders("").await.expect("folders"), folders, "{oddity:?}");
    }
}

#[tokio::test]
async fn a_service_that_repeats_its_tokens_ends_with_an_error() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let (synthetic, reader) = synthetic(3_000, 50, Oddity::Circle);
    let error = reader.list("", scratch.path(), &Events::none()).await.err();
    assert!(matches!(&error, Some(Error::Unsupported { what }) if what.contains("repeats its pages")), "{error:?}");
    assert!(requests(&synthetic) < 200, "{}", requests(&synthetic));
}

/// A service with 60 keys below three folders, in pages of seven.
fn of_three_folders(quirks: Quirks, folders: [&str; 3]) -> (Service, Reader, Vec<String>) {
    let service = Service::start(ServiceOptions { page_size: 7, quirks, ..ServiceOptions::default() });
    let service = service.expect("a free port");
    service.store().create_bucket("files");
    let mut all: Vec<_> =
        folders.iter().flat_map(|folder| (0..20).map(move |number| format!("{folder}/{number:02}"))).collect();
    for key in &all {
        service.store().put("files", key, NewObject::new(b"x".to_vec())).expect("a bucket");
    }
    all.sort();
    let reader = Bucket::S3(client(&service, hasty(3)).bucket("files")).reader();
    (service, reader, all)
}

#[tokio::test]
async fn a_page_that_was_cut_without_a_word_is_asked_for_again() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    for nth in 1..=6 {
        let (service, reader, all) = of_three_folders(Quirks::default(), ["a", "b", "c"]);
        service.inject(Fault::ShortBody, FaultAt::Operation { name: "ListObjectsV2".to_owned(), nth });
        assert_eq!(keys(&reader, "", scratch.path()).await, all, "the page {nth} was cut");
        assert_eq!(service.faults_fired(), 1);
    }
}

#[tokio::test]
async fn a_folder_that_a_service_calls_otherwise_than_its_keys_is_not_taken_for_an_empty_one() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let quirks = Quirks { plain_folders: true, ..Quirks::default() };
    let (_service, reader, all) = of_three_folders(quirks, ["a b", "b", "c"]);
    assert_eq!(keys(&reader, "", scratch.path()).await, all);
    for folder in ["a+b", "100%41"] {
        let (_service, reader, _) = of_three_folders(quirks, [folder, "b", "c"]);
        let error = reader.list("", scratch.path(), &Events::none()).await.err();
        assert!(matches!(&error, Some(Error::Unsupported { what }) if what.contains(folder)), "{error:?}");
    }
    // Two that are read as one: nothing of it is relied on.
    let (_service, reader, all) = of_three_folders(quirks, ["a b", "a+b", "c"]);
    assert_eq!(keys(&reader, "", scratch.path()).await, all);
}
