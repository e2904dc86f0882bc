//! Backup, then restore, gives back the same state, for every kind of source.

use nexus_core::error::Error;
use nexus_core::point::{Copies, Part, Verdict};
use nexus_sandbox::{Quirks, ServiceOptions};
use nexus_testkit::digest;

use crate::world::{BUCKET, World, hasty, sql};

async fn there_and_back(world: &World) {
    let before = (digest::database(&world.database()), world.files());
    let report = world.backup().await.expect("a backup");
    assert_eq!(report.verified.proof.verdict, Verdict::Verified, "{:?}", report.verified);
    assert_eq!((digest::database(&world.database()), world.files()), before, "backup changed the source");

    world.put("images/a.jpg", b"overwritten");
    world.delete("zero");
    world.put("junk/new", b"junk");
    sql(&world.database(), "DROP TABLE visit; UPDATE patient SET first_name = 'X'; CREATE TABLE junk (a);");
    let restored = world.restore("latest").await.expect("a restore");

    let files = restored.files.expect("files were restored");
    assert_eq!((files.equal, files.removed.files), (files.wanted, 1));
    assert_eq!(digest::database(&world.database()), before.0);
    assert_eq!(world.files(), before.1);
}

#[tokio::test]
async fn a_bucket_and_its_database_come_back_as_they_were() {
    there_and_back(&World::on_s3(ServiceOptions::default(), hasty(3))).await;
}

#[tokio::test]
async fn a_folder_and_its_database_come_back_as_they_were() {
    there_and_back(&World::in_folders()).await;
}

#[tokio::test]
async fn a_service_that_lists_in_its_own_order_gives_the_same() {
    let quirks = Quirks { unordered_listing: true, ..Quirks::default() };
    let options = ServiceOptions { quirks, page_size: 2, ..ServiceOptions::default() };
    there_and_back(&World::on_s3(options, hasty(3))).await;
}

#[tokio::test]
async fn a_service_with_opaque_etags_gives_the_same() {
    let quirks = Quirks { opaque_etags: true, ..Quirks::default() };
    let options = ServiceOptions { quirks, ..ServiceOptions::default() };
    there_and_back(&World::on_s3(options, hasty(3))).await;
}

#[tokio::test]
async fn the_second_point_copies_only_what_changed() {
    let world = World::on_s3(ServiceOptions::default(), hasty(3));
    let first = world.backup().await.expect("a backup");
    world.put("images/a.jpg", b"changed");
    world.put("images/c.jpg", b"new");
    let service = world.service.as_ref().expect("on S3");
    service.reset_counts();
    let second = world.backup().await.expect("a backup");
    let part = second.point.manifest().parts.files.clone().expect("files");
    assert_eq!((part.copied.files, part.reused.files, part.excluded.files > 0), (2, 6, true));
    assert_eq!(second.point.manifest().base.as_ref(), Some(first.point.id()));
    assert_eq!(service.operations().get("CopyObject"), Some(&2));
    assert_eq!(second.verified.proof.verdict, Verdict::Verified);
}

#[tokio::test]
async fn a_full_point_holds_all_its_copies() {
    let world = World::on_s3(ServiceOptions::default(), hasty(3));
    world.backup().await.expect("a backup");
    let mut plan = world.plan(&Part::ALL);
    plan.files.as_mut().expect("files").copies = Copies::Full;
    let second = world.backup_as(&plan).await.expect("a backup");
    let part = second.point.manifest().parts.files.clone().expect("files");
    assert_eq!((part.copied.files, part.reused.files), (7, 0));
}

#[tokio::test]
async fn a_reused_copy_that_is_gone_is_copied_again() {
    let world = World::on_s3(ServiceOptions::default(), hasty(3));
    let first = world.backup().await.expect("a backup").point.id().clone();
    world.harm(&format!("{first}/images/images/a.jpg"), None);
    let second = world.backup().await.expect("a backup");
    assert_eq!(second.point.manifest().parts.files.as_ref().expect("files").copied.files, 1);
    assert_eq!(second.verified.proof.verdict, Verdict::Verified);
}

#[tokio::test]
async fn the_layout_of_a_vault_is_the_one_of_the_format_page() {
    let world = World::on_s3(ServiceOptions::default(), hasty(3));
    let id = world.backup().await.expect("a backup").point.id().clone();
    let stamp = id.stamp();
    let mut keys: Vec<String> = world.vault_content().into_keys().collect();
    let journal = keys.iter().position(|key| key.contains("/journal/")).expect("a proof");
    let proof = keys.remove(journal);
    assert!(proof.starts_with(&format!("{id}/journal/2025")) && proof.contains("Z-verified-"), "{proof}");
    let expected: Vec<String> = [
        format!("database/clinic_sqlite_backup_{stamp}.db"),
        format!("{id}/documents/documents/2024/report +1.pdf"),
        format!("{id}/documents/documents/Änderung & more.docx"),
        format!("{id}/files.jsonl.zst"),
        format!("{id}/images/images/a.jpg"),
        format!("{id}/images/images/b.JPG"),
        format!("{id}/manifest.json"),
        format!("{id}/other/notes"),
        format!("{id}/other/notes-2/x"),
        format!("{id}/other/zero"),
        format!("{id}/records/backup_summary.json"),
        format!("{id}/records/patient.json"),
        format!("{id}/records/visit.json"),
        format!("{id}/restore-files.sh"),
        format!("{id}/started.json"),
        "vault.json".to_owned(),
    ]
    .into();
    assert_eq!(keys, expected);
    let database = world.store().get(BUCKET, &format!("backup/database/clinic_sqlite_backup_{stamp}.db")).expect("it");
    assert_eq!(database.storage_class, "STANDARD_IA");
    assert!(database.encryption.algorithm.as_deref() == Some("AES256"));
    assert!(world.records().join(id.to_string()).join("patient.json").exists());
    assert_eq!(std::fs::read_to_string(world.records().join(".gitignore")).expect("it"), "*\n");
}

#[tokio::test]
async fn a_vault_of_another_app_is_refused() {
    let world = World::on_s3(ServiceOptions::default(), hasty(3));
    world.backup().await.expect("a backup");
    let reader = world.reader(&world.vault);
    let other = nexus_core::vault::Vault::open(
        &reader,
        &world.vault,
        Some("other"),
        nexus_core::vault::StoreRules::default(),
        world.scratch(),
    )
    .await;
    assert!(matches!(other, Err(Error::Usage { hint: Some(hint), .. }) if hint.contains("backup-other")));
}

#[tokio::test]
async fn latest_passes_over_a_newer_partial_point() {
    let world = World::on_s3(ServiceOptions::default(), hasty(3));
    let whole = world.backup().await.expect("a backup").point.id().clone();
    for _ in 0..3 {
        world.backup_as(&world.plan(&[Part::Records])).await.expect("a backup of records");
    }
    let found = world.open().await.expect("a vault").find("latest", &Part::ALL).await.expect("a point");
    assert_eq!(*found.point.id(), whole);
    assert_eq!(found.passed_over.len(), 3);
}

#[tokio::test]
async fn a_folder_of_another_tool_is_left_out_whatever_its_journal_is() {
    let world = World::in_folders();
    let id = world.backup().await.expect("a backup").point.id().clone();
    world.plant("reimport_20251115_064209/journal", b"not a folder");
    let points = world.open().await.expect("a vault").points().await.expect("points");
    assert_eq!(points.iter().map(|state| &state.id).collect::<Vec<_>>(), [&id]);
    world.backup().await.expect("a backup");
}

#[tokio::test]
async fn each_copy_is_counted_once_whatever_name_it_lies_under() {
    let world = World::on_s3(ServiceOptions::default(), hasty(3));
    world.put(&format!("{}.jpg", "k".repeat(1_000)), b"its own name is too long for the vault");
    for round in ["the first", "the second"] {
        let report = world.backup().await.expect("a backup");
        let total = report.point.manifest().parts.files.as_ref().expect("files").total.files;
        assert_eq!(report.verified.proof.files, total, "{round}");
    }
}

#[tokio::test]
async fn older_backups_of_other_tools_stay_byte_equal() {
    let world = World::on_s3(ServiceOptions::default(), hasty(3));
    for (key, body) in [
        ("backup/database/nexus_sqlite_backup_20251115_063849.db", "old database"),
        ("backup/reimport_20251115_064209/images/a.jpg", "old image"),
        ("backup/reimport_20251115_064233/patients.json", "[]"),
    ] {
        world.put(key, body.as_bytes());
    }
    let before = world.vault_content();
    world.backup().await.expect("a backup");
    let after = world.vault_content();
    assert!(before.iter().all(|(key, body)| after.get(key) == Some(body)));
    assert_eq!(world.open().await.expect("a vault").points().await.expect("points").len(), 1);
}

#[tokio::test]
async fn extra_files_go_and_vaults_and_excluded_files_stay() {
    let world = World::on_s3(ServiceOptions::default(), hasty(3));
    world.backup().await.expect("a backup");
    for key in [
        "second/vault.json",
        "second/x/manifest.json",
        "old/database/app_sqlite_backup_20250101_000000.db",
        "tmp/new",
        "junk",
    ] {
        world.put(key, b"x");
    }
    let report = world.restore("latest").await.expect("a restore");
    assert_eq!(report.files.expect("files").removed.files, 1);
    let left = world.files();
    assert!(!left.contains_key("junk"));
    for key in [
        "second/vault.json",
        "second/x/manifest.json",
        "old/database/app_sqlite_backup_20250101_000000.db",
        "tmp/new",
        "tmp/left-out",
    ] {
        assert!(left.contains_key(key), "{key} was removed");
    }
}

#[tokio::test]
async fn an_absent_an_empty_and_a_garbage_database_come_back() {
    let world = World::in_folders();
    let before = digest::database(&world.database());
    world.backup().await.expect("a backup");
    for broken in [None, Some(&b""[..]), Some(&b"garbage, not a database at all"[..])] {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", world.database().display()));
        }
        if let Some(bytes) = broken {
            std::fs::write(world.database(), bytes).expect("room");
        }
        let report = world.restore("latest").await.expect("a restore");
        assert_eq!(digest::database(&world.database()), before);
        let aside =
            report.put_aside.map(|aside| std::fs::read(&aside.moved.last().expect("a file").1).expect("a file"));
        assert_eq!(aside.as_deref(), broken);
    }
}

#[tokio::test]
async fn a_vault_at_a_targets_root_loses_nothing() {
    let world = World::on_s3(ServiceOptions::default(), hasty(3));
    world.backup().await.expect("a backup");
    world.put("vault.json", b"another vault");
    world.put("point_20250101_000000/manifest.json", b"of another vault");
    let report = world.restore("latest").await.expect("a restore");
    assert_eq!(report.files.expect("files").removed.files, 0);
    assert!(world.files().contains_key("vault.json"));
}

#[tokio::test]
async fn a_vault_over_its_own_source_is_refused() {
    let mut world = World::on_s3(ServiceOptions::default(), hasty(3));
    world.vault =
        nexus_core::bucket::Address::parse(&format!("s3://{BUCKET}"), std::path::Path::new("/")).expect("one");
    assert!(matches!(world.backup().await, Err(Error::Usage { .. })));
}

#[tokio::test]
async fn files_go_into_a_folder_that_is_not_there_yet() {
    let world = World::in_folders();
    world.backup().await.expect("a backup");
    let before = world.files();
    let nexus_core::bucket::Address::Folder(root) = &world.source else { panic!("a folder") };
    std::fs::remove_dir_all(root).expect("it was there");
    world.restore("latest").await.expect("a restore");
    let mut after = world.files();
    let mut before = before;
    // What the rules leave out was never in the point.
    before.retain(|key, _| !key.starts_with("tmp"));
    after.retain(|key, _| !key.starts_with("tmp"));
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_restore_that_broke_off_takes_no_other_safety_point_and_another_target_does() {
    use nexus_core::event::Events;
    use nexus_core::restore;
    let world = World::on_s3(ServiceOptions::default(), hasty(1));
    let id = world.backup().await.expect("a backup").point.id().to_string();
    let safety = world.backup().await.expect("a backup").point.id().clone();
    world.put("images/a.jpg", b"wrecked");
    let plan = |request| async {
        let point = world.point(&id).await.expect("a point");
        restore::plan(point, request, &world.scratch(), &world.clock(), &Events::none()).await.expect("a plan")
    };
    let first = plan(world.request()).await;
    assert_eq!(first.resumes, None);
    let service = world.service.as_ref().expect("on S3");
    let copy = nexus_sandbox::FaultAt::Operation { name: "CopyObject".into(), nth: 1 };
    service.inject(nexus_sandbox::Fault::Reset, copy);
    let broken = restore::restore(first, Some(safety.clone()), &world.clock(), &Events::none()).await;
    assert!(broken.is_err());
    assert_eq!(plan(world.request()).await.resumes, Some(safety));
    let mut elsewhere = world.request();
    elsewhere.database = None;
    assert_eq!(plan(elsewhere).await.resumes, None);
}
