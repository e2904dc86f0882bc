//! A point's own page, to be printed and kept: where each part lies, until when, and how it comes back.
//!
//! Its commands are complete: they run as they stand, with nothing but credentials.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use nexus_core::bucket::Address;
use nexus_core::database::Database;
use nexus_core::point::{DatabaseKind, DatabasePart, Part, PointId};
use nexus_core::vault::RecoveryPoint;
use serde::Serialize;

use super::super::restore::own_database;
use super::super::state::{self, State, part_expiry};
use crate::run::Run;
use crate::wording::{command_line, counted, distance, escaped, moment, shell_quoted, size, took};

/// The page as data.
#[derive(Debug, Serialize)]
pub struct Runbook {
    point: PointId,
    app: String,
    vault: String,
    instant: Timestamp,
    state: State,
    checked: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<String>,
    parts: Vec<PartPage>,
    commands: Vec<Disaster>,
    contacts: BTreeMap<String, String>,
    #[serde(skip)]
    now: Timestamp,
}

/// One part of it.
#[derive(Debug, Serialize)]
struct PartPage {
    part: Part,
    /// Where it came from, and goes back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Where it lies.
    lies: String,
    bytes: u64,
    /// When it expires or that it did, in words.
    expires: String,
    /// What the last drill took to bring it back, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_milliseconds: Option<u64>,
}

/// What may have happened, and the commands then.
#[derive(Debug, Serialize)]
struct Disaster {
    what: &'static str,
    /// With this tool.
    nexus: Vec<String>,
    /// With stock tools alone.
    stock: Vec<String>,
}

impl Runbook {
    /// The page of a point.
    pub fn of(run: &Run, point: &RecoveryPoint) -> Self {
        let (manifest, now) = (point.manifest(), run.clock.now());
        let kept = point.kept();
        let parts = manifest.present().into_iter().map(|part| page(point, part, now)).collect();
        Self {
            point: point.id().clone(),
            app: manifest.app.clone(),
            vault: point.vault().address().to_string(),
            instant: manifest.instant,
            state: State::committed(manifest, point.entries()),
            checked: state::checked(point.entries(), now),
            pinned: point.entries().pinned().map(str::to_owned),
            parts,
            commands: disasters(run, point, &kept),
            contacts: run.settings.contacts.clone(),
            now,
        }
    }

    /// False when a check found damage in it.
    pub fn is_good(&self) -> bool {
        self.state != State::Failed
    }

    /// What to do with it, for the terminal.
    pub fn note(&self) -> String {
        let commands: usize = self.commands.iter().map(|disaster| disaster.nexus.len() + disaster.stock.len()).sum();
        format!(
            "{}: print the page, and keep it where it is found when this machine is gone",
            counted(commands as u64, "command")
        )
    }

    /// The page as Markdown; what comes from outside is escaped.
    pub fn markdown(&self) -> String {
        let mut page = String::new();
        let mut line = |text: &str| {
            page.push_str(text);
            page.push('\n');
        };
        line(&format!("# {}", self.point));
        line("");
        line(&format!(
            "- app: {}, as it was at {} ({} ago)",
            escaped(&self.app),
            moment(self.instant),
            distance(self.instant, self.now)
        ));
        line(&format!("- vault: {}", escaped(&self.vault)));
        line(&format!("- state: {}; checked: {}", self.state.word(), self.checked));
        if self.state == State::Failed {
            line("- **a check found damage in it: use another point if there is one; `nexus list` shows them**");
        }
        if let Some(reason) = &self.pinned {
            line(&format!("- pinned: {}", escaped(reason)));
        }
        line("");
        line("## Where it lies");
        for part in &self.parts {
            line("");
            line(&format!("**{}**", part.part));
            line("");
            line(&format!("- lies at {}, {}", escaped(&part.lies), size(part.bytes)));
            if let Some(source) = &part.source {
                line(&format!("- came from {}, and goes back there", escaped(source)));
            }
            line(&format!("- expires: {}", part.expires));
            if let Some(milliseconds) = part.recovery_milliseconds {
                line(&format!("- came back in {} in the last drill", took(milliseconds)));
            }
        }
        line("");
        line("## How it comes back");
        line("");
        line(
            "Stop the app first. `--dry-run` shows what a restore would do; `--yes` asks nothing. Without nexus, only stock tools are needed.",
        );
        for disaster in &self.commands {
            line("");
            line(&format!("### {}", disaster.what));
            for (heading, commands) in [("With nexus:", &disaster.nexus), ("Without it:", &disaster.stock)] {
                if commands.is_empty() {
                    continue;
                }
                line("");
                line(heading);
                line("");
                line("```sh");
                for command in commands {
                    line(command);
                }
                line("```");
            }
        }
        if !self.contacts.is_empty() {
            line("");
            line("## Whom to ask");
            line("");
            for (name, reached) in &self.contacts {
                line(&format!("- {}: {}", escaped(name), escaped(reached)));
            }
        }
        page
    }
}

fn page(point: &RecoveryPoint, part: Part, now: Timestamp) -> PartPage {
    let (manifest, id) = (point.manifest(), point.id());
    let parts = &manifest.parts;
    let (source, lies, bytes) = match part {
        Part::Database => parts
            .database
            .as_ref()
            .map(|part| (Some(part.source.clone()), point.vault().name(&part.object.key), part.object.bytes)),
        Part::Files => parts.files.as_ref().map(|part| {
            let lies =
                format!("{} and, where they were unchanged, earlier points", point.vault().name(&format!("{id}/")));
            (Some(part.source.clone()), lies, part.total.bytes)
        }),
        Part::Records => parts.records.as_ref().map(|part| {
            let lies = match (&part.folder, part.in_vault) {
                (_, true) => point.vault().name(&format!("{id}/records/")),
                (Some(folder), false) => folder.clone(),
                (None, false) => "nowhere: only counts and hashes were kept".to_owned(),
            };
            (None, lies, part.tables.iter().map(|table| table.bytes).sum())
        }),
    }
    .unwrap_or_default();
    let drilled = point.entries().proofs().rev().find_map(|(_, proof)| proof.measured.get(&part));
    PartPage {
        part,
        source,
        lies,
        bytes,
        expires: part_expiry(manifest, point.entries(), part, now).into_text(),
        recovery_milliseconds: drilled.map(|measured| measured.milliseconds),
    }
}

fn disasters(run: &Run, point: &RecoveryPoint, kept: &[Part]) -> Vec<Disaster> {
    let parts = &point.manifest().parts;
    let has = |part: Part| kept.contains(&part);
    let reach = run.reach();
    let restore = |words: &[&str]| {
        let id = point.id().to_string();
        let words = ["nexus", "restore", &id].into_iter().chain(words.iter().copied());
        command_line(words.chain(reach.iter().map(String::as_str)).chain(["--yes"]))
    };
    let is_postgres = parts.database.as_ref().is_some_and(|part| matches!(part.kind, DatabaseKind::Postgres { .. }));
    let sessions: &[&str] = if is_postgres { &["--end-sessions"] } else { &[] };
    let with_sessions = |words: &[&'static str]| [words, sessions].concat();
    let database = parts.database.as_ref().filter(|_| has(Part::Database));
    let files = parts.files.as_ref().filter(|_| has(Part::Files));
    let records = parts.records.as_ref().filter(|_| has(Part::Records));
    let (stock_database, stock_files) = (
        database.map(|part| stock_database(run, point, part)).unwrap_or_default(),
        files.map(|part| stock_files(run, point, &part.source)).unwrap_or_default(),
    );
    let all_of =
        |commands: &[String]| if commands.is_empty() { Vec::new() } else { vec![one_after_the_other(commands)] };
    let mut all = Vec::new();
    if database.is_some() {
        all.push(Disaster {
            what: "The database is broken",
            nexus: vec![restore(&with_sessions(&["--only", "database"]))],
            stock: all_of(&stock_database),
        });
    }
    if files.is_some() {
        let nexus = vec![restore(&["--only", "files"])];
        all.push(Disaster { what: "Files are gone", nexus, stock: all_of(&stock_files) });
    }
    if database.is_some() && files.is_some() {
        let nexus = vec![restore(&with_sessions(&["--only", "database,files", "--delete-extra"]))];
        let stays = vec!["# files that came later stay, other than with --delete-extra above".to_owned()];
        let stock = all_of(&[stays, stock_files, stock_database].concat());
        all.push(Disaster { what: "Both", nexus, stock });
    }
    if let Some(part) = records {
        let table = part.tables.first().map_or("TABLE", |table| table.file.as_str());
        let look = format!("jq -c '.[] | select(.id == 1)' {}", shell_quoted(&format!("then/{table}")));
        let stock = match (&part.folder, part.in_vault) {
            (_, true) => vec![copy(run, point, &format!("{}/records/", point.id()), "then/", Many::Tree), look.clone()],
            (Some(folder), false) => {
                vec![
                    format!("mkdir -p then && {}", command_line(["cp", "-r", &format!("{folder}/."), "then/"])),
                    look.clone(),
                ]
            }
            (None, false) => Vec::new(),
        };
        let name = part.tables.first().map_or("TABLE", |table| table.name.as_str());
        let (id, reach) = (point.id().to_string(), run.reach());
        let words = ["find", name, "--point", &id].into_iter().chain(reach.iter().map(String::as_str));
        let found = format!("{} | jq -c 'select(.id == 1)'", command_line(["nexus"].into_iter().chain(words)));
        let nexus = vec![found, restore(&["--only", "records", "--to-records", "then"]), look];
        all.push(Disaster { what: "One record is needed", nexus, stock });
    }
    all
}

/// A group that ends at the first command that fails: what was not fetched whole must not take the place of what is there.
fn one_after_the_other(commands: &[String]) -> String {
    format!("(set -e\n{}\n)", commands.join("\n"))
}

/// One object, or all below a prefix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Many {
    One,
    Tree,
}

/// The command that fetches something from the vault.
fn copy(run: &Run, point: &RecoveryPoint, key: &str, to: &str, many: Many) -> String {
    match point.vault().address() {
        Address::S3 { .. } => {
            let from = point.vault().name(key);
            let words: &[&str] = if many == Many::Tree { &["s3", "cp", "--recursive"] } else { &["s3", "cp"] };
            aws(run, &[words, &[from.as_str(), to]].concat())
        }
        Address::Folder(folder) => {
            let from = folder.join(key).display().to_string();
            match many {
                Many::One => command_line(["cp", &from, to]),
                Many::Tree => {
                    format!("mkdir -p {} && {}", shell_quoted(to), command_line(["cp", "-r", &format!("{from}."), to]))
                }
            }
        }
    }
}

fn aws(run: &Run, words: &[&str]) -> String {
    crate::run::situation("show", &run.settings).aws(words)
}

fn stock_database(run: &Run, point: &RecoveryPoint, part: &DatabasePart) -> Vec<String> {
    let (key, sha256) = (&part.object.key, &part.object.sha256);
    let check = |file: &str| format!("echo '{sha256}  {file}' | sha256sum -c");
    match part.kind {
        DatabaseKind::Sqlite { .. } => {
            let path = match own_database(run, part) {
                Ok(Database::Sqlite(database)) => database.path().display().to_string(),
                _ => part.source.clone(),
            };
            let (live, aside) = (shell_quoted(&path), shell_quoted(&format!("{path}.before-{}", point.id().stamp())));
            vec![
                copy(run, point, key, "restored.sqlite3", Many::One),
                check("restored.sqlite3"),
                "sqlite3 restored.sqlite3 'PRAGMA integrity_check'".to_owned(),
                "# what is there is put aside with its log, which SQLite would else play into the restored database"
                    .to_owned(),
                format!(
                    "for end in '' -wal -shm -journal; do [ ! -e {live}\"$end\" ] || mv {live}\"$end\" {aside}\"$end\"; done"
                ),
                command_line(["mv", "restored.sqlite3", &path]),
            ]
        }
        DatabaseKind::Postgres { ref postgres } => {
            let (place, encoded, options) = taken_apart(&part.source, &postgres.role);
            let name = match own_database(run, part) {
                Ok(Database::Postgres(database)) => database.name().to_owned(),
                _ => encoded.clone(),
            };
            let then = format!("{name}_then");
            let url_of_then = format!("{encoded}_then");
            let url = |name: &str| format!("{place}/{name}{options}");
            vec![
                copy(run, point, key, "restored.dump", Many::One),
                check("restored.dump"),
                command_line(["createdb", "--template", "template0", "--maintenance-db", &url("postgres"), &then]),
                command_line(["pg_restore", "--exit-on-error", "--dbname", &url(&url_of_then), "restored.dump"]),
                command_line(["psql", "--dbname", &url(&url_of_then), "--command", "analyze"]),
                format!("# then point the app at {then}, or give it the name {name} with ALTER DATABASE … RENAME TO"),
            ]
        }
    }
}

/// `postgres://role@host`, the database, and what follows.
fn taken_apart(source: &str, role: &str) -> (String, String, String) {
    let (before, options) = match source.split_once('?') {
        Some((before, options)) => (before, format!("?{options}")),
        None => (source, String::new()),
    };
    let (place, name) = before.rsplit_once('/').unwrap_or((before, ""));
    // The source is kept without who came to it.
    let place = match place.strip_prefix("postgres://") {
        Some(host) if !host.contains('@') => format!("postgres://{role}@{host}"),
        _ => place.to_owned(),
    };
    (place, name.to_owned(), options)
}

fn stock_files(run: &Run, point: &RecoveryPoint, source: &str) -> Vec<String> {
    let script = format!("{}/restore-files.sh", point.id());
    let vault = match point.vault().address() {
        Address::S3 { .. } => point.vault().address().to_string(),
        Address::Folder(folder) => folder.display().to_string(),
    };
    let target = source.strip_prefix("file://").unwrap_or(source);
    let mut restore = String::new();
    if run.settings.s3.aws {
        restore.push_str("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true ");
    }
    if let Some(endpoint) = run.settings.s3.endpoint.as_ref() {
        let _ = write!(restore, "AWS_ENDPOINT_URL_S3={} ", shell_quoted(&endpoint.value));
    }
    if let Some(profile) = run.settings.s3.profile.as_ref() {
        let _ = write!(restore, "AWS_PROFILE={} ", shell_quoted(&profile.value));
    }
    restore.push_str(&command_line(["bash", "restore-files.sh", &vault, &point.id().to_string(), target]));
    vec![copy(run, point, &script, "restore-files.sh", Many::One), restore]
}
