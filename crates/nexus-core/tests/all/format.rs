//! `docs/format.md` is true: its documents are what is written, and no field is missing from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nexus_core::listing::{FileEntry, FileKind, Place, ProofKind, Side, Unix};
use nexus_core::point::references::{Reference, ReferenceColumn, ReferenceCounts, References};
use nexus_core::point::{
    Abandoned, Abandonment, Adopted, CategoryRule, Claim, Copies, CopyOf, Count, DatabaseKind, DatabasePart, Depth,
    Ending, FORMAT, FileHash, FileRules, FilesPart, Finding, FindingKind, GuardOutcome, JournalEntry, JournalEvent,
    Manifest, Measured, Part, Parts, PointId, PostgresExtension, PostgresFacts, PostgresGrant, PostgresSetting, Proof,
    RecordColumn, RecordTable, RecordsPart, Sampled, SqliteFacts, StoredObject, VaultDescriptor, Verdict, document,
    parse,
};
use nexus_core::records::export::Summary;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format.md")).expect("docs/format.md")
}

fn id(text: &str) -> PointId {
    text.parse().expect("an id")
}

fn time<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a time")
}

const SOFTWARE: &str = "nexus 0.1.0";
const POINT: &str = "reimport_20251115_064233";
const BASE: &str = "nightly_20251115_020000";

fn vault() -> VaultDescriptor {
    VaultDescriptor {
        format: FORMAT,
        app: "clinic".into(),
        created: time("2025-11-01T02:00:00.118Z"),
        nonce: "5a3f0c9e41d27b86".into(),
        software: SOFTWARE.into(),
    }
}

fn claim() -> Claim {
    Claim {
        format: FORMAT,
        point: id(POINT),
        app: "clinic".into(),
        nonce: "c0ffee12345678ab".into(),
        software: SOFTWARE.into(),
        started: time("2025-11-15T06:42:33.204Z"),
        parts: Part::ALL.to_vec(),
        reuses: vec![id(BASE)],
        files: Some("s3://clinic-documents".into()),
        process: Some("5d1b1d0e-7f0e-4e5c-9d2b-0a1c2d3e4f50 pid:[4026531836] 3127 884213".into()),
        adopted: false,
        copy_of: None,
    }
}

fn abandoned() -> Ending {
    let at = time("2025-11-15T06:44:01.5Z");
    let abandoned = Abandonment { at, reason: "the backup failed".into(), nonce: "0b1e5ed0b1e5ed00".into() };
    Ending::Abandoned(Abandoned { format: FORMAT, point: id(POINT), abandoned })
}

/// A hash that is recognised as made up.
fn sha(digit: char) -> String {
    String::from(digit).repeat(64)
}

fn object(key: &str, bytes: u64, digit: char) -> StoredObject {
    StoredObject { key: key.into(), bytes, sha256: sha(digit) }
}

fn table() -> RecordTable {
    let column = |name: &str, declared: &str, generated| RecordColumn {
        name: name.into(),
        declared: declared.into(),
        generated,
    };
    RecordTable {
        name: "patients".into(),
        table: "clinic_patient".into(),
        file: "patients.json".into(),
        rows: 2_842,
        bytes: 512_004,
        sha256: sha('3'),
        index: None,
        columns: vec![column("id", "INTEGER", false), column("full_name", "TEXT", true)],
        order: vec!["id".into()],
        rowid: false,
        sequence: Some(2_900),
        sequences: BTreeMap::new(),
    }
}

fn log_table() -> RecordTable {
    let columns = vec![RecordColumn { name: "line".into(), declared: String::new(), generated: false }];
    RecordTable {
        name: "log".into(),
        table: "log".into(),
        file: "log.json".into(),
        rows: 0,
        bytes: 4,
        sha256: sha('4'),
        index: None,
        columns,
        order: Vec::new(),
        rowid: true,
        sequence: None,
        sequences: BTreeMap::new(),
    }
}

fn finding() -> Finding {
    Finding {
        part: Some(Part::Database),
        kind: FindingKind::Dangling,
        name: "clinic_document".into(),
        detail: "2 rows have a foreign key that points at nothing, as they had in the source".into(),
    }
}

fn manifest() -> Manifest {
    let sqlite = SqliteFacts {
        application_id: 0,
        user_version: 0,
        page_size: 4_096,
        encoding: "UTF-8".into(),
        auto_vacuum: 0,
        journal_mode: "wal".into(),
        library: "3.51.1".into(),
        foreign_key_violations: [("clinic_document".to_owned(), 2)].into(),
    };
    let database = DatabasePart {
        kind: DatabaseKind::Sqlite { sqlite },
        source: "sqlite:////srv/clinic/db.sqlite3".into(),
        object: object("database/clinic_sqlite_backup_20251115_064233.db", 57_671_680, '0'),
        tables: [("clinic_patient".to_owned(), 2_842), ("log".to_owned(), 0)].into(),
        read_milliseconds: 84,
    };
    let count = |files, bytes| Count { files, bytes };
    let rule = |name: &str, globs: &[&str]| CategoryRule {
        name: name.into(),
        globs: globs.iter().map(ToString::to_string).collect(),
    };
    let files = FilesPart {
        source: "s3://clinic-documents".into(),
        endpoint: Some("https://s3.example.org".into()),
        rules: FileRules {
            prefix: String::new(),
            exclude: vec!["tmp/**".into()],
            vaults: vec!["backup/".into()],
            categories: vec![rule("images", &["*.jpg"]), rule("documents", &["documents/**", "*.pdf"])],
        },
        copies: Copies::Incremental,
        listing: object("reimport_20251115_064233/files.jsonl.zst", 1_204_331, '1'),
        script: object("reimport_20251115_064233/restore-files.sh", 3_456, '2'),
        categories: [
            ("images".to_owned(), count(6_574, 9_000_000_000)),
            ("documents".to_owned(), count(10_967, 9_500_000_000)),
        ]
        .into(),
        total: count(17_541, 18_500_000_000),
        copied: count(12, 8_200_000),
        reused: count(17_529, 18_491_800_000),
        excluded: count(3, 4_096),
        proofs: [(ProofKind::Etag, 17_540), (ProofKind::Size, 1)].into(),
        properties: vec!["content-type".into(), "user metadata".into(), "storage class".into()],
    };
    let records = RecordsPart {
        folder: Some("/srv/clinic/backups/reimport_20251115_064233".into()),
        in_vault: true,
        tables: vec![log_table(), table()],
        skipped: [("search_content".to_owned(), "kept by the virtual table `search`".to_owned())].into(),
        summary: Some(FileHash { bytes: 2_310, sha256: sha('5') }),
        rows: 2_842,
    };
    Manifest {
        format: FORMAT,
        point: id(POINT),
        app: "clinic".into(),
        nonce: "c0ffee12345678ab".into(),
        software: SOFTWARE.into(),
        started: time("2025-11-15T06:42:33.204Z"),
        instant: time("2025-11-15T06:42:32.871Z"),
        committed: time("2025-11-15T06:42:58.01Z"),
        base: Some(id(BASE)),
        kept_for: [(Part::Database, 2_592_000), (Part::Files, 604_800)].into(),
        parts: Parts { database: Some(database), files: Some(files), records: Some(records) },
        findings: vec![finding()],
        references: Some(references()),
        adopted: None,
        copy_of: None,
    }
}

fn references() -> References {
    let counts = ReferenceCounts { named: 10_190, dangling: 758, other_case: 3, other_form: 1, shared: 12 };
    let reference = Reference {
        table: "clinic_document".into(),
        column: "file".into(),
        prefix: "media/".into(),
        base: Some("https://*.example.org/media/".into()),
    };
    let columns = vec![ReferenceColumn { reference, counts: Some(counts) }];
    References { columns, orphaned: Some(Count { files: 41, bytes: 3_200_117 }), unchecked: None }
}

fn copy_of() -> CopyOf {
    CopyOf { vault: "s3://clinic-documents/backup".into(), nonce: "c0ffee12345678ab".into() }
}

fn adopted() -> Adopted {
    Adopted {
        apart_seconds: 224,
        from: [(Part::Database, "database/nexus_sqlite_backup_20251115_063849.db".to_owned())].into(),
        timezone: "UTC".into(),
    }
}

fn postgres() -> DatabasePart {
    let facts = PostgresFacts {
        server: "15.18 (Debian 15.18-0+deb12u1)".into(),
        client: "pg_dump 15.18".into(),
        compression: "gzip".into(),
        encoding: "UTF8".into(),
        collate: "cs_CZ.UTF-8".into(),
        ctype: "cs_CZ.UTF-8".into(),
        locale_provider: "icu".into(),
        locale: Some("cs-CZ".into()),
        icu_rules: Some("& a < b".into()),
        owner: "clinic".into(),
        comment: Some("the clinic".into()),
        connection_limit: -1,
        is_template: true,
        tablespace: Some("fast".into()),
        tablespaces: vec!["slow".into()],
        role: "backup".into(),
        size: 83_886_080,
        extensions: vec![PostgresExtension {
            name: "plpgsql".into(),
            version: "1.0".into(),
            schema: "pg_catalog".into(),
        }],
        owners: vec!["clinic".into()],
        roles: vec!["reports".into()],
        settings: vec![PostgresSetting {
            role: Some("reports".into()),
            name: "statement_timeout".into(),
            value: "5min".into(),
        }],
        grants: Some(vec![PostgresGrant { to: Some("reports".into()), privilege: "CONNECT".into(), grantable: true }]),
        large_objects: 3,
        globals: Some(object("database/clinic_postgres_backup_20251115_064233.globals.sql", 1_204, '8')),
        lacks: vec!["the server's roles and tablespaces: permission denied".into()],
    };
    DatabasePart {
        kind: DatabaseKind::Postgres { postgres: Box::new(facts) },
        source: "postgres://db.example:5432/clinic".into(),
        object: object("database/clinic_postgres_backup_20251115_064233.dump", 19_400_000, '7'),
        tables: [("clinic_patient".to_owned(), 2_842), ("billing.invoice".to_owned(), 7)].into(),
        read_milliseconds: 9_310,
    }
}

fn proof() -> Proof {
    Proof {
        depth: Depth::Default,
        verdict: Verdict::Failed,
        parts: Part::ALL.to_vec(),
        files: 17_541,
        rows: 2_842,
        bytes_read: 59_390_325,
        milliseconds: 2_207,
        findings_total: 1,
        findings: vec![Finding {
            part: Some(Part::Files),
            kind: FindingKind::Missing,
            name: "documents/a.pdf".into(),
            detail: "its copy reimport_20251115_064233/documents/documents/a.pdf is not there".into(),
        }],
        sampled: None,
        measured: BTreeMap::new(),
    }
}

fn drilled() -> Proof {
    let measured = |milliseconds, bytes| Measured { milliseconds, bytes };
    Proof {
        verdict: Verdict::Verified,
        bytes_read: 171_390_325,
        milliseconds: 9_120,
        findings_total: 0,
        findings: Vec::new(),
        sampled: Some(Sampled {
            read: Count { files: 100, bytes: 112_000_000 },
            of: Count { files: 17_541, bytes: 18_500_000_000 },
        }),
        measured: [
            (Part::Database, measured(1_480, 57_671_680)),
            (Part::Files, measured(4_210, 112_000_000)),
            (Part::Records, measured(310, 514_314)),
        ]
        .into(),
        ..proof()
    }
}

fn entry(event: JournalEvent) -> JournalEntry {
    JournalEntry {
        format: FORMAT,
        point: id(POINT),
        at: time("2025-11-15T06:43:00.217Z"),
        nonce: "77aa00ff12ab34cd".into(),
        software: SOFTWARE.into(),
        event,
    }
}

fn events() -> Vec<JournalEvent> {
    let parts = vec![Part::Files];
    vec![
        JournalEvent::Alive,
        JournalEvent::Verified(proof()),
        JournalEvent::Drilled(drilled()),
        JournalEvent::Restored { parts: parts.clone(), back: parts.clone() },
        JournalEvent::Hold {
            by: "restore".into(),
            safety: Some(id("before-restore_20251116_071500")),
            target: Some("database to sqlite:////srv/clinic/db.sqlite3".into()),
        },
        JournalEvent::Released { hold: "77aa00ff12ab34cd".into() },
        JournalEvent::Pinned { reason: "before the audit".into() },
        JournalEvent::Unpinned,
        JournalEvent::Expiring {
            parts: parts.clone(),
            objects: vec!["database/a.db".into()],
            categories: vec!["images".into()],
        },
        JournalEvent::Withdrawn { announcement: "77aa00ff12ab34cd".into() },
        JournalEvent::Expired { parts },
        JournalEvent::GuardStarted { machine: "clinic-1".into(), process: 4_711 },
        JournalEvent::GuardEnded {
            started: "77aa00ff12ab34cd".into(),
            outcome: GuardOutcome::Failed,
            status: Some(3),
            restored: false,
        },
    ]
}

fn side(size: u64, etag: &str, modified: &str) -> Side {
    Side { size, etag: Some(etag.into()), modified: Some(time(modified)), ..Side::default() }
}

fn lines() -> Vec<FileEntry> {
    let plain = FileEntry {
        key: "documents/2024/a.pdf".into(),
        category: "documents".into(),
        kind: FileKind::File,
        source: side(48_213, "9e107d9d372bb6826bd81d3542a419d6", "2025-03-02T10:11:12Z"),
        copy: Some(side(48_213, "9e107d9d372bb6826bd81d3542a419d6", "2025-11-15T02:00:07Z")),
        at: Some(Place::Vault {
            point: id(BASE),
            key: "nightly_20251115_020000/documents/documents/2024/a.pdf".into(),
        }),
        proof: Some(ProofKind::Etag),
        headers: BTreeMap::new(),
    };
    let unix = Some(Unix { mode: 0o640, uid: 1000, gid: 1000, ctime_ns: 1_740_910_272_000_000_001, inode: 131_077 });
    let of_folder = FileEntry {
        key: "scans/b.jpg".into(),
        category: "images".into(),
        kind: FileKind::File,
        source: Side {
            size: 3,
            checksum: Some(format!("sha256:{}", sha('a'))),
            modified: Some(time("2025-03-02T10:11:12.000000001Z")),
            unix: unix.clone(),
            ..Side::default()
        },
        copy: Some(Side {
            size: 3,
            etag: Some("900150983cd24fb0d6963f7d28e17f72".into()),
            checksum: Some(format!("sha256:{}", sha('a'))),
            version: Some("3HL4kqtJvjVBH40Nrjfkd".into()),
            class: Some("STANDARD_IA".into()),
            ..Side::default()
        }),
        at: Some(Place::Vault { point: id(POINT), key: "reimport_20251115_064233/images/scans/b.jpg".into() }),
        proof: Some(ProofKind::Checksum),
        headers: [("content-type".to_owned(), "image/jpeg".to_owned())].into(),
    };
    let without_bytes = |key: &str, kind| FileEntry {
        key: key.into(),
        category: "other".into(),
        kind,
        source: Side { modified: Some(time("2025-03-02T10:11:12Z")), unix: unix.clone(), ..Side::default() },
        copy: None,
        at: None,
        proof: None,
        headers: BTreeMap::new(),
    };
    vec![
        plain,
        without_bytes("latest", FileKind::Link("scans/b.jpg".into())),
        without_bytes("scans/", FileKind::Folder),
        of_folder,
    ]
}

fn summary() -> Summary {
    Summary {
        format: FORMAT,
        app: "clinic".into(),
        point: id(POINT),
        instant: time("2025-11-15T06:42:32.871Z"),
        tables: vec![log_table(), table()],
        skipped: [("search_content".to_owned(), "kept by the virtual table `search`".to_owned())].into(),
        total_rows: 2_842,
        total_bytes: 512_008,
    }
}

/// The page holds the document as it is written, and it reads back as the same value.
fn is_shown<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let written = String::from_utf8(document(value)).expect("JSON is text");
    assert_eq!(&parse::<T>(written.as_bytes(), "it").expect("our own document"), value);
    assert!(
        page().contains(&format!("```json\n{written}```\n")),
        "docs/format.md should show this document:\n{written}"
    );
}

#[test]
fn the_documents_of_the_format_page_are_what_is_written() {
    is_shown(&vault());
    is_shown(&claim());
    is_shown(&Ending::Committed(Box::new(manifest())));
    is_shown(&abandoned());
    is_shown(&entry(JournalEvent::Verified(proof())));
    is_shown(&entry(JournalEvent::Drilled(drilled())));
    is_shown(&summary());
}

#[test]
fn every_document_of_the_format_page_holds_its_check() {
    let page = page();
    let shown: Vec<&str> =
        page.split("```json\n").skip(1).map(|rest| rest.split("```").next().expect("an end")).collect();
    assert!(shown.len() >= 6);
    for text in shown {
        parse::<Value>(text.as_bytes(), "the shown document").expect(text);
    }
}

/// Runs one of the page's shell blocks in a folder and answers what it printed.
fn shell(block: &str, folder: &Path) -> String {
    let ran = std::process::Command::new("bash").args(["-euo", "pipefail", "-c", block]).current_dir(folder).output();
    let ran = ran.expect("bash");
    assert!(ran.status.success(), "{block}\n{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("text")
}

#[test]
fn a_document_is_checked_by_stock_tools_as_the_format_page_says() {
    let page = page();
    let blocks: Vec<&str> =
        page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("an end")).collect();
    assert_eq!(blocks.len(), 2);
    let folder = tempfile::tempdir().expect("a folder");
    let written = document(&Ending::Committed(Box::new(manifest())));
    std::fs::write(folder.path().join("manifest.json"), &written).expect("room on the disk");
    let check = parse::<Value>(&written, "it").expect("a document")["check"].as_str().expect("a text").to_owned();
    assert_eq!(shell(blocks[0], folder.path()).trim(), "whole");
    assert!(shell(blocks[1], folder.path()).starts_with(&check));
}

#[test]
fn the_listing_lines_of_the_format_page_are_what_is_written() {
    for line in lines() {
        let written = serde_json::to_string(&line).expect("JSON");
        assert_eq!(serde_json::from_str::<FileEntry>(&written).expect("our own line"), line);
        assert!(page().contains(&format!("\n{written}\n")), "docs/format.md should show this line:\n{written}");
    }
}

/// The names of all fields, where names are not themselves what is stored.
fn fields(value: &Value, found: &mut BTreeSet<String>) {
    const BY_NAME: [&str; 8] =
        ["categories", "foreign_key_violations", "headers", "kept_for", "proofs", "sequences", "skipped", "tables"];
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                found.insert(name.clone());
                match member {
                    Value::Object(inner) if BY_NAME.contains(&name.as_str()) => {
                        inner.values().for_each(|value| fields(value, found));
                    }
                    _ => fields(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, found)),
        _ => {}
    }
}

#[test]
fn no_field_is_missing_from_the_format_page() {
    let json = |value: &dyn erased::Json| value.json();
    let version = FileEntry { at: Some(Place::Version { id: "3HL4kqtJvjVBH40Nrjfkd".into() }), ..lines().remove(0) };
    let special = FileEntry { kind: FileKind::Special("socket".into()), ..lines().remove(0) };
    let mut values = vec![
        json(&vault()),
        json(&claim()),
        json(&manifest()),
        json(&abandoned()),
        json(&Claim { adopted: true, ..claim() }),
        json(&Manifest { adopted: Some(adopted()), ..manifest() }),
        json(&Claim { copy_of: Some(copy_of()), ..claim() }),
        json(&Manifest { copy_of: Some(copy_of()), ..manifest() }),
        json(&Manifest { references: Some(References::unchecked(&[], "the point has no files")), ..manifest() }),
        json(&summary()),
        json(&postgres()),
        json(&RecordTable { sequences: [("id".to_owned(), 2_900)].into(), ..table() }),
        json(&RecordTable { index: Some(FileHash { bytes: 22_888, sha256: sha('9') }), ..table() }),
        json(&version),
        json(&special),
    ];
    values.extend(lines().iter().map(|line| json(line)));
    values.extend(events().into_iter().map(|event| json(&entry(event))));
    let mut found = BTreeSet::from(["check".to_owned()]);
    for value in &values {
        fields(value, &mut found);
    }
    let page = page();
    let missing: Vec<&String> = found.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/format.md does not explain {missing:?}");
}

#[test]
fn no_word_of_a_closed_set_is_missing_from_the_format_page() {
    let mut words: Vec<String> = events().iter().map(|event| event.word().to_owned()).collect();
    let word = |value: Value| value.as_str().expect("a word").to_owned();
    let json = |value: &dyn erased::Json| word(value.json());
    words.extend(Part::ALL.iter().map(|part| json(part)));
    words.extend([Depth::Quick, Depth::Default, Depth::Full, Depth::Drill].iter().map(|depth| json(depth)));
    words.extend([Verdict::Verified, Verdict::Failed, Verdict::CouldNotVerify].iter().map(|verdict| json(verdict)));
    words.extend([Copies::Incremental, Copies::Full].iter().map(|copies| json(copies)));
    words.extend(
        [ProofKind::Etag, ProofKind::Checksum, ProofKind::Size, ProofKind::Adopted].iter().map(|proof| json(proof)),
    );
    let kinds = [
        FindingKind::Missing,
        FindingKind::Changed,
        FindingKind::Unreadable,
        FindingKind::Inconsistent,
        FindingKind::LeftOut,
        FindingKind::Dangling,
    ];
    words.extend(kinds.iter().map(|kind| json(kind)));
    let page = page();
    let missing: Vec<&String> = words.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/format.md does not explain {missing:?}");
}

mod erased {
    /// Any of the stored types as JSON.
    pub trait Json {
        fn json(&self) -> serde_json::Value;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> serde_json::Value {
            serde_json::to_value(self).expect("our own types are JSON")
        }
    }
}
