//! An application with everything around it: its folder, its bucket, its configuration, and the tool run on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aws_sdk_s3::Client;
use nexus_sandbox::{Service, ServiceOptions};
use nexus_testkit::bucket::{all_objects, client, make_bucket, object, put_object};
use nexus_testkit::digest;
use nexus_testkit::kill::{self, Running};
use nexus_testkit::services::{Endpoint, aws, unique_bucket};
use serde_json::Value;
use tempfile::TempDir;

/// No run of the tool in these tests takes longer.
pub const LIMIT: Duration = Duration::from_mins(1);
/// Where the vault lies in the application's own bucket.
pub const VAULT: &str = "backup/";

/// The bytes of objects by key, or what a listing says of them.
pub type Objects = BTreeMap<String, (u64, String)>;

/// An application; all of it but the bucket goes when this is dropped.
pub struct App {
    pub endpoint: Endpoint,
    pub client: Client,
    pub bucket: String,
    pub database: PathBuf,
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

/// The state that restore brings back: what the database says, and what a listing of the files says.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    pub database: BTreeMap<String, String>,
    pub files: Objects,
}

const FILES: [(&str, &str); 7] = [
    ("documents/2024/report +1 (copy).pdf", "a report"),
    ("documents/Änderung & more.docx", "a change"),
    ("images/a.jpg", "a picture"),
    ("images/b.JPG", "another picture"),
    ("notes", "beside notes-2/"),
    ("notes-2/x", "deeper"),
    ("tmp/left-out", "not taken"),
];

/// A service in this process, and how to reach it.
pub fn sandbox() -> (Service, Endpoint) {
    let options = ServiceOptions::default();
    let service = Service::start(options.clone()).expect("a free port");
    let url = service.endpoint().to_owned();
    (service, Endpoint { url, access_key: options.access_key, secret_key: options.secret_key })
}

impl App {
    /// An application without data: an empty bucket and a folder.
    pub async fn bare(endpoint: Endpoint) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("tmp")).expect("room on the disk");
        let (client, bucket) = (client(&endpoint), unique_bucket("e2e"));
        make_bucket(&client, &bucket).await;
        let mut app = Self {
            client,
            bucket,
            database: folder.path().join("db.sqlite3"),
            variables: Vec::new(),
            folder,
            endpoint: endpoint.clone(),
        };
        // The aws command line finds nothing else of the machine it runs on than what these say.
        app.set("PATH", &std::env::var("PATH").expect("a path"));
        app.set("AWS_ACCESS_KEY_ID", &endpoint.access_key);
        app.set("AWS_SECRET_ACCESS_KEY", &endpoint.secret_key);
        app.set("AWS_DEFAULT_REGION", "us-east-1");
        app.set("AWS_ENDPOINT_URL_S3", &endpoint.url);
        app.set("AWS_EC2_METADATA_DISABLED", "true");
        app.set("NO_PROXY", "127.0.0.1");
        app.configure("");
        app
    }

    /// A small clinic: a database in WAL mode, a few files, the vault in the same bucket.
    pub async fn clinic(endpoint: Endpoint) -> Self {
        let app = Self::bare(endpoint).await;
        app.sql(
            "PRAGMA journal_mode = WAL; PRAGMA user_version = 7;
             CREATE TABLE clinic_patient (id INTEGER PRIMARY KEY, first_name TEXT NOT NULL, weight REAL, photo BLOB);
             CREATE TABLE visit (id INTEGER PRIMARY KEY AUTOINCREMENT, patient INTEGER REFERENCES clinic_patient(id), note);
             CREATE INDEX visit_patient ON visit(patient);
             INSERT INTO clinic_patient VALUES (1, 'John', 80.5, x'00ff'), (2, 'Zoë', NULL, NULL), (3, 'John', 61.0, NULL);
             INSERT INTO visit (patient, note) VALUES (1, 'first'), (2, 'a \"quoted\" note');",
        );
        for (key, body) in FILES {
            app.put(key, body.as_bytes()).await;
        }
        app
    }

    /// Writes the usual configuration with more lines at its end.
    pub fn configure(&self, more: &str) {
        let bucket = &self.bucket;
        let text = format!(
            "app = \"clinic\"\n[database]\nurl = \"db.sqlite3\"\nlock-wait = \"2s\"\n\
             [files]\nsource = \"s3://{bucket}\"\nexclude = [\"tmp/**\"]\n\
             [files.categories]\nimages = [\"filemaker-import/images-bulk-dump/**\", \"*.jpg\", \"*.png\"]\n\
             documents = [\"documents/**\", \"*.pdf\", \"*.docx\"]\n\
             [records]\nfolder = \"backups\"\n[records.tables]\npatients = \"clinic_patient\"\n\
             [vault]\nurl = \"s3://{bucket}/{VAULT}\"\n{more}"
        );
        self.write("nexus.toml", &text);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("room on the disk");
    }

    /// Sets a variable of every later run.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a variable from every later run.
    pub fn unset(&mut self, name: &str) {
        self.variables.retain(|(known, _)| known != name);
    }

    pub fn sql(&self, text: &str) {
        sql(&self.database, text);
    }

    pub async fn put(&self, key: &str, body: &[u8]) {
        put_object(&self.client, &self.bucket, key, body).await;
    }

    pub async fn delete(&self, key: &str) {
        let answer = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
        answer.unwrap_or_else(|cause| panic!("cannot delete `{key}`: {cause:?}"));
    }

    /// The state that restore is to bring back.
    pub async fn state(&self) -> State {
        State { database: digest::database(&self.database), files: self.files().await }
    }

    /// The bucket outside the vault.
    pub async fn files(&self) -> Objects {
        let mut objects = all_objects(&self.client, &self.bucket).await;
        objects.retain(|key, _| !key.starts_with(VAULT));
        objects
    }

    /// Everything in the vault with its bytes, relative to the vault's prefix.
    pub async fn vault(&self) -> BTreeMap<String, Vec<u8>> {
        let mut content = BTreeMap::new();
        for key in all_objects(&self.client, &self.bucket).await.into_keys() {
            if let Some(name) = key.strip_prefix(VAULT) {
                content.insert(name.to_owned(), object(&self.client, &self.bucket, &key).await);
            }
        }
        content
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.tool(Path::new(env!("CARGO_BIN_EXE_nexus")));
        command.args(words);
        command
    }

    /// Any program in the application's folder, with its environment and nothing of the machine's.
    pub fn tool(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env_clear();
        command.env("TMPDIR", self.path("tmp")).env("HOME", self.path("tmp"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, words: &[&str]) -> Ended {
        Ended::of(kill::run(self.command(words), LIMIT))
    }

    pub fn start(&self, words: &[&str]) -> Running {
        Running::start(self.command(words))
    }

    /// Runs shell commands as an operator would type them: `aws` is the stock one, standard error is shown on failure.
    pub fn shell(&self, script: &str) -> Ended {
        let mut command = self.tool(Path::new("/bin/bash"));
        let stock = aws();
        let stock = stock.parent().expect("a program lies in a folder").display();
        let path = format!("{stock}:{}", std::env::var("PATH").expect("a path"));
        command.args(["-c", script]).env("PATH", path).env("AWS_PAGER", "");
        Ended::of(kill::run(command, 2 * LIMIT))
    }

    /// Makes a point, which must be proven, and answers with its id.
    pub fn back_up(&self, more: &[&str]) -> String {
        let words: Vec<&str> = ["backup", "--json"].iter().chain(more).copied().collect();
        let told = self.run(&words).ends_with(0).json();
        assert_eq!(told["verdict"], "verified", "{told}");
        assert_eq!(told["recorded"], true, "{told}");
        told["point"].as_str().expect("an id").to_owned()
    }

    /// Restores, which must end well, and answers with what was told.
    pub fn restore(&self, more: &[&str]) -> Value {
        let words: Vec<&str> = ["restore", "--yes", "--json"].iter().chain(more).copied().collect();
        let told = self.run(&words).ends_with(0).json();
        assert_eq!(told["equal"], true, "{told}");
        told
    }

    /// The points of the vault as `list` shows them: id and state.
    pub fn points(&self) -> Vec<(String, String)> {
        let listed = self.run(&["list", "--json"]).ends_with(0).json();
        let points = listed["points"].as_array().expect("a list").iter();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        points.map(|point| (text(&point["id"]), text(&point["state"]))).collect()
    }

    /// The same, where there may be no vault yet.
    pub fn points_if_any(&self) -> Vec<(String, String)> {
        if self.run(&["list"]).status == Some(0) { self.points() } else { Vec::new() }
    }

    /// Fails when a run has left something behind among the temporary files or beside the records.
    #[track_caller]
    pub fn assert_no_litter(&self) {
        let left: Vec<_> = nexus_testkit::tree::digest(&self.path("tmp")).into_keys().collect();
        assert!(left.is_empty(), "left among the temporary files: {left:?}");
        let here: Vec<_> = nexus_testkit::tree::digest(self.folder.path()).into_keys().collect();
        let litter = |name: &&String| ["scratch", "unfinished", "journal"].iter().any(|word| name.contains(word));
        let left: Vec<_> = here.iter().filter(litter).collect();
        assert!(left.is_empty(), "left in the folder: {left:?}");
    }

    /// Destroys as a failed re-import does, and leaves the last of it in the log of a killed writer.
    pub async fn wreck(&self) {
        self.put("images/a.jpg", b"overwritten").await;
        self.put("junk/new", b"junk").await;
        self.delete("notes").await;
        nexus_testkit::wal::leave_live_wal(
            &self.database,
            &[
                "DROP TABLE visit",
                "ALTER TABLE clinic_patient ADD COLUMN junk DEFAULT 'x'",
                "UPDATE clinic_patient SET first_name = 'wrecked'",
                "CREATE TABLE junk (a)",
                "INSERT INTO junk VALUES (1)",
            ],
        );
    }
}

pub fn sql(path: &Path, text: &str) {
    let connection = rusqlite::Connection::open(path).expect("a database");
    connection.execute_batch(text).expect("good SQL");
}

impl Ended {
    pub fn of(output: std::process::Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The run with this exit status; shows what it said when it has another.
    #[track_caller]
    pub fn ends_with(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|cause| panic!("{cause}:\n{}\n{}", self.out, self.err))
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "{text:?} is not in:\n{}", self.err);
        self
    }

    /// A refusal that a person can act on: this status, the thing named, a hint.
    #[track_caller]
    pub fn refuses(self, status: i32, naming: &str) -> Self {
        self.ends_with(status).says(naming).says("hint: ")
    }
}
