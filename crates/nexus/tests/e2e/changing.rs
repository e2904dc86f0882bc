//! A source that changes under the copy: every file of a point is one whole version, and what vanished is named.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use nexus_sandbox::{FaultAt, NewObject, Quirks, Service, ServiceOptions, Versioning};
use nexus_testkit::bucket::make_bucket;
use nexus_testkit::services::Endpoint;

use crate::app::{App, LIMIT, sandbox};
use crate::between::other_bucket;

/// A file's content says in each of its blocks which version it is.
const BLOCK: usize = 32;
/// More than one part of a copy in parts.
const LARGE: usize = 9 * 1024 * 1024 + 64;
/// One change of three comes for so many requests of a backup of many small files, and fewer where each takes several: at a
/// thousand requests a second that is more than a tenth of the files overwritten and a twentieth removed each second.
const REQUESTS_A_CHANGE: u64 = 5;

fn sandbox_with(quirks: Quirks) -> (Service, Endpoint) {
    let options = ServiceOptions { quirks, ..ServiceOptions::default() };
    let service = Service::start(options.clone()).expect("a free port");
    let url = service.endpoint().to_owned();
    (service, Endpoint { url, access_key: options.access_key, secret_key: options.secret_key })
}

fn content(key: &str, version: u64, size: usize) -> Vec<u8> {
    let block = format!("{key} v{version:<width$}", width = BLOCK - key.len() - 2);
    block.as_bytes().repeat(size / BLOCK)
}

/// The version that a content is, the whole of it.
fn version_of(key: &str, content: &[u8]) -> Option<u64> {
    let first = content.get(..BLOCK)?;
    let whole = content.chunks(BLOCK).all(|block| block == first);
    let said = std::str::from_utf8(first).ok()?.strip_prefix(key)?.trim().strip_prefix('v')?;
    whole.then(|| said.parse().ok()).flatten()
}

/// Files that change while something else is done.
struct Changing<'a> {
    service: &'a Service,
    bucket: &'a str,
    keys: Vec<String>,
    size: usize,
    version: u64,
    /// One change comes for so many requests.
    requests: u64,
}

impl<'a> Changing<'a> {
    fn new(service: &'a Service, bucket: &'a str, files: usize, size: usize) -> Self {
        let keys = (0..files).map(|number| format!("images/{number:04}.jpg")).collect();
        let requests = if size > BLOCK * 100 { 4 * REQUESTS_A_CHANGE } else { REQUESTS_A_CHANGE };
        let mut changing = Self { service, bucket, keys, size, version: 0, requests };
        changing.fill();
        changing
    }

    /// Writes every file anew.
    fn fill(&mut self) {
        self.version += 1;
        for key in &self.keys {
            self.write(key, self.version);
        }
    }

    fn write(&self, key: &str, version: u64) {
        let object = NewObject::new(content(key, version, self.size));
        self.service.store().put(self.bucket, key, object).expect("the bucket is there");
    }

    /// Overwrites two files and removes a third, over and over, in step with the requests that come; answers with the
    /// files that were removed.
    fn while_doing<T>(&mut self, work: impl FnOnce() -> T) -> (T, BTreeSet<String>) {
        let done = AtomicBool::new(false);
        let first = self.version + 1;
        let this = &*self;
        let (outcome, removed, version) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (mut removed, mut changes) = (BTreeSet::new(), 0_u64);
                let begun = this.service.requests();
                while !done.load(Ordering::Relaxed) {
                    if this.service.requests() < begun + changes * this.requests {
                        std::thread::park_timeout(std::time::Duration::from_millis(1));
                        continue;
                    }
                    // A stride that meets all of them before it meets one again, the last ones first.
                    let at = usize::try_from(changes * 97).expect("few") % this.keys.len();
                    let key = &this.keys[this.keys.len() - 1 - at];
                    // So few are removed that the run goes on: removing most of them is another test.
                    if changes % 3 == 2 && removed.len() < 9 {
                        this.service.store().delete(this.bucket, key);
                        removed.insert(key.clone());
                    } else if !removed.contains(key) {
                        this.write(key, first + changes);
                    }
                    changes += 1;
                }
                (removed, first + changes)
            });
            let outcome = work();
            done.store(true, Ordering::Relaxed);
            let (removed, version) = writer.join().expect("the writer only writes");
            (outcome, removed, version)
        });
        self.version = version;
        (outcome, removed)
    }
}

/// An application of files alone whose vault lies on a service of its own, or beside them.
async fn arranged(endpoint: &Endpoint, vault: Option<&Endpoint>) -> App {
    let app = App::bare(endpoint.clone()).await;
    let (url, of_files, of_s3) = match vault {
        None => (format!("s3://{}/backup", app.bucket), String::new(), String::new()),
        Some(vault) => {
            other_bucket(vault).await;
            let [files, vault] = [endpoint, vault].map(|endpoint| format!("endpoint = \"{}\"\n", endpoint.url));
            ("s3://offsite/clinic".to_owned(), files, vault)
        }
    };
    app.write(
        "nexus.toml",
        &format!(
            "app = \"clinic\"\n[files]\nsource = \"s3://{}\"\n{of_files}[vault]\nurl = \"{url}\"\n\
             [s3]\ncopy-cutoff = {}\n{of_s3}",
            app.bucket,
            5 * 1024 * 1024
        ),
    );
    app
}

/// Two backups in a row while files change; each point is whole, and names what it lacks.
async fn every_entry_is_one_whole_version(app: &App, mut changing: Changing<'_>) {
    for target in ["first", "second"] {
        make_bucket(&app.client, target).await;
        changing.fill();
        let words = ["backup", "--only", "files", "--allow-vanished", "--json"];
        let before = changing.version;
        let (ended, removed) = changing.while_doing(|| app.run(&words));
        assert!(changing.version > before + 2, "nothing changed meanwhile");
        let told = ended.ends_with(0).json();
        let id = told["point"].as_str().expect("an id");
        let manifest = app.run(&["show", id, "--json"]).ends_with(0).json();
        let findings = manifest["manifest"]["findings"].as_array().cloned().unwrap_or_default();
        let missing = findings.iter().filter(|finding| finding["kind"] == "missing");
        let named: BTreeSet<String> = missing.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
        assert!(named.is_subset(&removed), "named {named:?}, removed {removed:?}");
        app.run(&["verify", id, "--full"]).ends_with(0);
        let to = format!("s3://{target}");
        app.run(&["restore", id, "--only", "files", "--yes", "--to-files", &to]).ends_with(0);
        let store = changing.service.store();
        for key in &changing.keys {
            match store.get(target, key) {
                Some(object) => {
                    let version = version_of(key, &object.body);
                    assert!(version.is_some() && object.body.len() == changing.size, "{key} of {id} is no version");
                    assert!(!named.contains(key), "{key} is named as gone and is there");
                }
                // One that was removed before it was listed is no file of the point and is not named either.
                None => assert!(removed.contains(key), "{key} is neither in {id} nor was it removed"),
            }
        }
        assert_eq!(manifest["manifest"]["parts"]["files"]["total"]["files"], store.keys(target, "").len());
    }
}

#[tokio::test]
async fn a_changing_bucket_gives_whole_versions_within_one_service() {
    let (service, endpoint) = sandbox();
    let app = arranged(&endpoint, None).await;
    every_entry_is_one_whole_version(&app, Changing::new(&service, &app.bucket, 300, 4 * BLOCK)).await;
}

#[tokio::test]
async fn a_changing_bucket_with_versions_gives_whole_versions() {
    let (service, endpoint) = sandbox();
    let app = arranged(&endpoint, None).await;
    service.store().set_versioning(&app.bucket, Versioning::Enabled).expect("the bucket is there");
    every_entry_is_one_whole_version(&app, Changing::new(&service, &app.bucket, 300, 4 * BLOCK)).await;
}

#[tokio::test]
async fn a_changing_bucket_gives_whole_versions_on_another_service() {
    let ((service, endpoint), (_vault, vault)) = (sandbox(), sandbox());
    let app = arranged(&endpoint, Some(&vault)).await;
    every_entry_is_one_whole_version(&app, Changing::new(&service, &app.bucket, 300, 4 * BLOCK)).await;
}

#[tokio::test]
async fn a_changing_bucket_gives_whole_versions_where_conditions_are_passed_over() {
    let (service, endpoint) = sandbox_with(Quirks { ignore_copy_conditions: true, ..Quirks::default() });
    let app = arranged(&endpoint, None).await;
    every_entry_is_one_whole_version(&app, Changing::new(&service, &app.bucket, 300, 4 * BLOCK)).await;
}

#[tokio::test]
async fn changing_files_that_are_copied_in_parts_give_whole_versions() {
    let quirks = [
        Quirks::default(),
        Quirks { ignore_copy_conditions: true, ..Quirks::default() },
        Quirks { ignore_part_conditions: true, ..Quirks::default() },
    ];
    for quirks in quirks {
        let (service, endpoint) = sandbox_with(quirks);
        let app = arranged(&endpoint, None).await;
        every_entry_is_one_whole_version(&app, Changing::new(&service, &app.bucket, 12, LARGE)).await;
        assert_eq!(service.store().open_uploads(&app.bucket), 0);
    }
}

/// The one moment that a mixture could come from: between two parts of one copy.
#[tokio::test]
async fn a_file_overwritten_between_two_parts_of_its_copy_is_copied_anew() {
    let quirks = [
        Quirks::default(),
        Quirks { ignore_copy_conditions: true, ..Quirks::default() },
        Quirks { ignore_part_conditions: true, ..Quirks::default() },
        // Where no ETag is an MD5 only the conditions and the second look are left.
        Quirks { ignore_part_conditions: true, opaque_etags: true, ..Quirks::default() },
    ];
    for (quirks, nth) in quirks.into_iter().flat_map(|quirks| [(quirks, 1), (quirks, 2)]) {
        let (service, endpoint) = sandbox_with(quirks);
        let app = arranged(&endpoint, None).await;
        make_bucket(&app.client, "restored").await;
        let changing = Changing::new(&service, &app.bucket, 1, LARGE);
        let key = &changing.keys[0];
        let mut waiting = service.stop_at(FaultAt::Operation { name: "UploadPartCopy".to_owned(), nth });
        let running = app.start(&["backup", "--only", "files", "--json"]);
        waiting.arrived().await;
        changing.write(key, 7);
        drop(waiting);
        let output = running.wait(LIMIT);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        app.run(&["verify", "--full"]).ends_with(0);
        app.run(&["restore", "latest", "--only", "files", "--yes", "--to-files", "s3://restored"]).ends_with(0);
        let restored = service.store().get("restored", key).expect("it is there");
        assert_eq!(version_of(key, &restored.body), Some(7), "{quirks:?}");
        assert_eq!(service.store().open_uploads(&app.bucket), 0);
    }
}
