//! A small app to back up: a SQLite database, some files, a vault, on the in-process service or in folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use nexus_core::backup::{self, BackupPlan, BackupReport, RecordsPlan};
use nexus_core::bucket::folder::Folder;
use nexus_core::bucket::lean::Signer;
use nexus_core::bucket::pace::Limits;
use nexus_core::bucket::s3::Service as S3Service;
use nexus_core::bucket::{Address, Bucket, Reader};
use nexus_core::clock::Clock;
use nexus_core::database::Database;
use nexus_core::database::postgres::{Liberties, Surroundings};
use nexus_core::error::Result;
use nexus_core::event::Events;
use nexus_core::files::capture::{FilesPlan, Properties, Vanished};
use nexus_core::files::restore::{Extra, FilesTarget};
use nexus_core::files::rules::Selection;
use nexus_core::local;
use nexus_core::point::{CategoryRule, Copies, FileRules, Part};
use nexus_core::restore::{self, RestoreReport, RestoreRequest};
use nexus_core::vault::{RecoveryPoint, StoreRules, Vault};
use nexus_sandbox::{NewObject, Service, ServiceOptions, Store};

/// The bucket that holds both the files and the vault.
pub const BUCKET: &str = "clinic";

/// An app and everything around it; all of it goes when this is dropped.
pub struct World {
    pub folder: tempfile::TempDir,
    pub service: Option<Service>,
    s3: Option<S3Service>,
    pub source: Address,
    pub vault: Address,
    seconds: Arc<AtomicU64>,
}

/// Limits under which a test need not wait for retries.
pub fn hasty(attempts: u32) -> Limits {
    Limits {
        attempts,
        in_flight: 8,
        first_wait: Duration::from_millis(1),
        patience: Duration::from_secs(2),
        throttled_for: Duration::ZERO,
        ..Limits::default()
    }
}

impl World {
    /// Files and vault in one bucket of the in-process service.
    pub fn on_s3(options: ServiceOptions, limits: Limits) -> Self {
        let service = Service::start(options).expect("a free port");
        service.store().create_bucket(BUCKET);
        let mut world = Self::new(&format!("s3://{BUCKET}"), &format!("s3://{BUCKET}/backup"));
        world.s3 = Some(client(&service, limits));
        world.service = Some(service);
        world.fill();
        world
    }

    /// Files in a folder, the vault on the in-process service.
    pub fn of_a_folder_on_s3(options: ServiceOptions, limits: Limits) -> Self {
        let service = Service::start(options).expect("a free port");
        service.store().create_bucket(BUCKET);
        let mut world = Self::new("media", &format!("s3://{BUCKET}/backup"));
        world.s3 = Some(client(&service, limits).with_signer(signer()));
        world.service = Some(service);
        world.fill();
        world
    }

    /// Files and vault in two folders.
    pub fn in_folders() -> Self {
        let world = Self::new("media", "vault");
        for place in [&world.source, &world.vault] {
            let Address::Folder(path) = place else { panic!("a folder was asked for") };
            local::create_private_folder(path).expect("room on the disk");
        }
        world.fill();
        world
    }

    fn new(source: &str, vault: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let base = folder.path().canonicalize().expect("it was just made");
        let source = Address::parse(source, &base).expect("an address");
        let vault = Address::parse(vault, &base).expect("an address");
        let seconds = Arc::new(AtomicU64::new(1_763_188_953));
        let world = Self { folder, service: None, s3: None, source, vault, seconds };
        make_database(&world.database());
        world
    }

    fn fill(&self) {
        for (key, body) in FILES {
            self.put(key, body.as_bytes());
        }
    }

    pub fn store(&self) -> Arc<Store> {
        self.service.as_ref().expect("this world is on S3").store()
    }

    pub fn put(&self, key: &str, body: &[u8]) {
        match &self.source {
            Address::S3 { bucket, .. } => {
                let object = NewObject::new(body.to_vec()).content_type("text/x-test").metadata("ward", "3");
                self.store().put(bucket, key, object).expect("the bucket is there");
            }
            Address::Folder(root) => {
                let path = root.join(key);
                std::fs::create_dir_all(path.parent().expect("below the root")).expect("room");
                std::fs::write(path, body).expect("room on the disk");
            }
        }
    }

    pub fn delete(&self, key: &str) {
        match &self.source {
            Address::S3 { bucket, .. } => assert!(self.store().delete(bucket, key)),
            Address::Folder(root) => std::fs::remove_file(root.join(key)).expect("it was there"),
        }
    }

    /// What removes a file, for a moment when the world is busy.
    pub fn removing(&self, key: &str) -> impl Fn() + Send + Sync + use<> {
        let key = key.to_owned();
        let bucket = self.service.as_ref().map(|_| self.store());
        let root = self.folder.path().join("media");
        move || match &bucket {
            Some(store) => assert!(store.delete(BUCKET, &key)),
            None => std::fs::remove_file(root.join(&key)).expect("it was there"),
        }
    }

    /// The app's files outside the vault: key and content.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        match &self.source {
            Address::S3 { bucket, .. } => {
                let store = self.store();
                let keys = store.keys(bucket, "").into_iter().filter(|key| !key.starts_with("backup/"));
                keys.map(|key| (key.clone(), store.get(bucket, &key).expect("it was just listed").body.to_vec()))
                    .collect()
            }
            Address::Folder(root) => {
                let tree = nexus_testkit::tree::digest(root);
                tree.into_iter().map(|(key, entry)| (key, format!("{entry:?}").into_bytes())).collect()
            }
        }
    }

    /// Everything in the vault: key and content.
    pub fn vault_content(&self) -> BTreeMap<String, Vec<u8>> {
        match &self.vault {
            Address::S3 { bucket, prefix } => {
                let store = self.store();
                let keys = store.keys(bucket, prefix);
                keys.into_iter()
                    .map(|key| {
                        (
                            key[prefix.len()..].to_owned(),
                            store.get(bucket, &key).expect("it was just listed").body.to_vec(),
                        )
                    })
                    .collect()
            }
            Address::Folder(root) => {
                let tree = nexus_testkit::tree::digest(root);
                let files = tree.into_iter().filter(|(_, entry)| entry.is_file());
                files.map(|(key, _)| (key.clone(), std::fs::read(root.join(key)).expect("a file"))).collect()
            }
        }
    }

    /// Replaces the bytes of something in the vault, or takes it away, behind the service's back.
    pub fn harm(&self, key: &str, bytes: Option<Vec<u8>>) {
        match (&self.vault, bytes) {
            (Address::S3 { bucket, prefix }, Some(bytes)) => {
                let full = format!("{prefix}{key}");
                let store = self.store();
                let there = store.get(bucket, &full).expect("it is there");
                let mut object = NewObject::new(bytes);
                if let Some(class) = Some(there.storage_class.clone()) {
                    object = object.storage_class(&class);
                }
                store.put(bucket, &full, object).expect("the bucket is there");
            }
            (Address::S3 { bucket, prefix }, None) => assert!(self.store().delete(bucket, &format!("{prefix}{key}"))),
            (Address::Folder(root), Some(bytes)) => std::fs::write(root.join(key), bytes).expect("room"),
            (Address::Folder(root), None) => std::fs::remove_file(root.join(key)).expect("it was there"),
        }
    }

    /// Puts a harmed artefact back as it was.
    pub fn harm_or_put(&self, key: &str, body: &[u8]) {
        match &self.vault {
            Address::S3 { bucket, prefix } => {
                let object = NewObject::new(body.to_vec());
                self.store().put(bucket, &format!("{prefix}{key}"), object).expect("the bucket is there");
            }
            Address::Folder(root) => std::fs::write(root.join(key), body).expect("room"),
        }
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("db.sqlite3")
    }

    pub fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    pub fn records(&self) -> PathBuf {
        self.folder.path().join("records")
    }

    /// Puts something into the vault that is not ours.
    pub fn plant(&self, key: &str, body: &[u8]) {
        if let Address::Folder(root) = &self.vault {
            let path = root.join(key);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("room");
        }
        self.harm_or_put(key, body);
    }

    /// Sets the clock forward to the year 2049: whatever the service and the disk stamp with their own time is long past.
    pub fn far_on(self) -> Self {
        self.seconds.store(2_500_000_000, Ordering::Relaxed);
        self
    }

    /// Lets hours pass.
    pub fn pass(&self, hours: u64) {
        self.seconds.fetch_add(hours * 3_600, Ordering::Relaxed);
    }

    /// What the clock says, which does not go on for that.
    pub fn now(&self) -> jiff::Timestamp {
        let now = self.seconds.load(Ordering::Relaxed);
        jiff::Timestamp::from_second(i64::try_from(now).expect("this century")).expect("this century")
    }

    /// A clock that goes on a second at each look, so that no test waits for a free second.
    pub fn clock(&self) -> Clock {
        let seconds = Arc::clone(&self.seconds);
        let nonces = Arc::new(AtomicU64::new(0));
        Clock::new(
            move || {
                let now = seconds.fetch_add(1, Ordering::Relaxed);
                jiff::Timestamp::from_second(i64::try_from(now).expect("this century")).expect("this century")
            },
            move || {
                let salt = std::process::id();
                format!("n{salt}x{}", nonces.fetch_add(1, Ordering::Relaxed) + u64::from(rand_byte()) * 1_000)
            },
        )
    }

    pub fn reader(&self, address: &Address) -> Reader {
        match address {
            Address::S3 { bucket, .. } => Bucket::S3(self.s3.as_ref().expect("a world on S3").bucket(bucket)).reader(),
            Address::Folder(path) => Bucket::Folder(Folder::new(path.clone())).reader(),
        }
    }

    pub fn plan(&self, parts: &[Part]) -> BackupPlan {
        let rule = |name: &str, glob: &str| CategoryRule { name: name.into(), globs: vec![glob.into()] };
        let vaults = self.source.prefix_of(&self.vault).into_iter().collect();
        BackupPlan {
            references: Vec::new(),
            label: "test".parse().expect("a label"),
            parts: parts.to_vec(),
            database: Some(
                Database::parse(&self.database().display().to_string(), &Surroundings::folder(Path::new("/")))
                    .expect("a path"),
            ),
            lock_wait: Duration::from_secs(2),
            files: Some(FilesPlan {
                source: self.reader(&self.source),
                address: self.source.clone(),
                rules: FileRules {
                    prefix: self.source.prefix().to_owned(),
                    exclude: vec!["tmp/**".into()],
                    vaults,
                    categories: vec![rule("images", "*.jpg"), rule("documents", "documents/**")],
                },
                copies: Copies::Incremental,
                vanished: Vanished::Fail,
                properties: Properties::Copied,
            }),
            records: Some(RecordsPlan { folder: Some(self.records()), in_vault: true, names: BTreeMap::new() }),
            kept_for: [(Part::Database, 86_400)].into(),
            scratch: self.scratch(),
        }
    }

    pub async fn open(&self) -> Result<Vault> {
        local::create_private_folder(&self.scratch())?;
        let reader = self.reader(&self.vault);
        Vault::open_or_create(&reader, &self.vault, "clinic", StoreRules::default(), self.scratch(), &self.clock())
            .await
    }

    pub async fn backup(&self) -> Result<BackupReport> {
        self.backup_as(&self.plan(&Part::ALL)).await
    }

    pub async fn backup_as(&self, plan: &BackupPlan) -> Result<BackupReport> {
        let vault = self.open().await?;
        backup::backup(&vault, plan, &self.clock(), &Events::none()).await
    }

    pub async fn point(&self, selector: &str) -> Result<RecoveryPoint> {
        Ok(self.open().await?.find(selector, &[]).await?.point)
    }

    pub fn request(&self) -> RestoreRequest {
        RestoreRequest {
            files: Some(FilesTarget {
                reader: self.reader(&self.source),
                address: self.source.clone(),
                selection: Selection::default(),
                extra: Extra::Delete,
            }),
            database: self.plan(&Part::ALL).database,
            records: None,
            lock_wait: Duration::from_secs(2),
            liberties: Liberties::default(),
        }
    }

    /// A folder to restore files into.
    pub fn folder_target(&self) -> PathBuf {
        self.folder.path().join("elsewhere")
    }

    /// Restores the files alone, into an empty folder.
    pub async fn restore_into_folder(&self, selector: &str) -> Result<RestoreReport> {
        let _ = std::fs::remove_dir_all(self.folder_target());
        let address = Address::Folder(self.folder_target());
        let files =
            FilesTarget { reader: self.reader(&address), address, selection: Selection::default(), extra: Extra::Keep };
        let request = RestoreRequest { files: Some(files), database: None, ..self.request() };
        let point = self.point(selector).await?;
        let plan = restore::plan(point, request, &self.scratch(), &self.clock(), &Events::none()).await?;
        restore::restore(plan, None, &self.clock(), &Events::none()).await
    }

    pub async fn restore(&self, selector: &str) -> Result<RestoreReport> {
        let point = self.point(selector).await?;
        let plan = restore::plan(point, self.request(), &self.scratch(), &self.clock(), &Events::none()).await?;
        restore::restore(plan, None, &self.clock(), &Events::none()).await
    }
}

fn rand_byte() -> u8 {
    // A temporary file's name is as random as a test needs.
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.path().as_os_str().as_encoded_bytes().iter().fold(0, |sum, byte| sum ^ byte)
}

fn keys() -> Credentials {
    let options = ServiceOptions::default();
    Credentials::new(options.access_key, options.secret_key, None, None, "test")
}

/// Who signs what is asked with less ado than the SDK's.
fn signer() -> Signer {
    Signer { credentials: SharedCredentialsProvider::new(keys()), region: "us-east-1".into(), clock: SystemTime::now }
}

/// A client for the in-process service.
pub fn client(service: &Service, limits: Limits) -> S3Service {
    let keys = keys();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(keys);
    S3Service::new(config, Some(service.endpoint().to_owned()), limits, 7)
}

const FILES: [(&str, &str); 8] = [
    ("documents/2024/report +1.pdf", "a report"),
    ("documents/Änderung & more.docx", "a change"),
    ("images/a.jpg", "a picture"),
    ("images/b.JPG", "another picture"),
    ("notes", "beside notes/"),
    ("notes-2/x", "deeper"),
    ("tmp/left-out", "not taken"),
    ("zero", ""),
];

pub fn sql(path: &Path, text: &str) {
    let connection = rusqlite::Connection::open(path).expect("a database");
    // Rows that point at nothing are planted on purpose.
    connection.execute_batch("PRAGMA foreign_keys = OFF").expect("good SQL");
    connection.execute_batch(text).expect("good SQL");
}

fn make_database(path: &Path) {
    sql(
        path,
        "PRAGMA journal_mode = WAL; PRAGMA user_version = 7;
         CREATE TABLE patient (id INTEGER PRIMARY KEY, first_name TEXT NOT NULL, weight REAL, photo BLOB);
         CREATE TABLE visit (id INTEGER PRIMARY KEY AUTOINCREMENT, patient INTEGER REFERENCES patient(id), note TEXT);
         CREATE INDEX visit_patient ON visit(patient);
         INSERT INTO patient VALUES (1, 'John', 80.5, x'00ff'), (2, 'Zoë', NULL, NULL), (3, 'John', 61.0, NULL);
         INSERT INTO visit (patient, note) VALUES (1, 'first'), (2, 'a \"quoted\" note'), (9, 'nobody''s');",
    );
}
