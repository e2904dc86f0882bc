//! `backup`: a new point, committed and verified; ends with what is where and how to bring it back.

use std::collections::BTreeMap;
use std::path::Path;

use nexus_core::backup::{BackupPlan, BackupReport, RecordsPlan, backup};
use nexus_core::bucket::Address;
use nexus_core::database::Database;
use nexus_core::error::{Error, Result};
use nexus_core::files::capture::{FilesPlan, Vanished};
use nexus_core::point::{Copies, FileRules, Label, Manifest, Part, Proof, Verdict};
use nexus_core::vault::Vault;
use serde::Serialize;

use super::references::{self, Breach};
use super::verify::shortcomings;
use super::{doctor, state, summary};
use crate::cli::BackupArgs;
use crate::failure::Outcome;
use crate::hooks;
use crate::page::{Cell, Page, Style};
use crate::run::Run;
use crate::wording::{counted, moment, size, took};

mod preview;

/// A backup for programs.
#[derive(Debug, Serialize)]
struct Made<'a> {
    point: String,
    vault: String,
    verdict: Verdict,
    proof: &'a Proof,
    /// True when the journal holds the proof.
    recorded: bool,
    bytes: u64,
    milliseconds: &'a BTreeMap<Part, u64>,
    records_folder: Option<String>,
    restore_command: String,
    manifest: &'a Manifest,
}

/// What this run may be told beside the settings.
#[derive(Debug, Clone)]
pub struct Choices {
    /// The label.
    pub label: Label,
    /// Only these parts; none named: all that are configured.
    pub only: Vec<Part>,
    /// Another way to copy than the settings'.
    pub copies: Option<Copies>,
    /// What to do about files that are gone when they are copied.
    pub vanished: Vanished,
}

/// Makes the point, or shows what would be taken.
pub async fn run(run: &Run, args: &BackupArgs) -> Result<Outcome> {
    let choices = Choices {
        label: args.label.clone().unwrap_or_else(|| run.settings.label.clone()),
        only: args.only.clone(),
        copies: args.copies,
        vanished: if args.allow_vanished { Vanished::Record } else { Vanished::Fail },
    };
    if args.dry_run {
        return preview(run, &choices).await;
    }
    require_checkable(run, &choices, &args.strict)?;
    let report = make(run, &choices).await?;
    tell(run, &report);
    // Records that were asked for and are not where people look for them: the point is whole, the run is not.
    let good = is_proven(&report) && report.records_unplaced.is_none();
    if good && let Err(failed) = hooks::after_backup(run, report.point.id()).await {
        run.terminal.error(&[failed.to_string()], Some("see to what it should have done; the point needs nothing"));
        return Ok(Outcome::Bad);
    }
    let references = report.point.manifest().references.as_ref();
    Ok(Outcome::of(good && !references::is_broken(references, &args.strict)))
}

/// Where something is held against references, they must be what this run checks.
fn require_checkable(run: &Run, choices: &Choices, strict: &[Breach]) -> Result<()> {
    if strict.is_empty() {
        return Ok(());
    }
    if run.settings.references.is_empty() {
        return Err(Error::usage_hint(
            "--strict has nothing to check: no references are named",
            "name them in nexus.toml: [[references]] with `table` and `column`; `nexus init --look` suggests some",
        ));
    }
    let parts = parts(run, &choices.only)?;
    match [Part::Records, Part::Files].iter().find(|part| !parts.contains(part)) {
        Some(part) => Err(Error::usage(format!("--strict has nothing to check: the point would have no {part}"))),
        None => Ok(()),
    }
}

/// Shows what would be taken; a broken database is a bad answer.
pub async fn preview(run: &Run, choices: &Choices) -> Result<Outcome> {
    preview::show(run, choices).await
}

/// Makes the point.
pub async fn make(run: &Run, choices: &Choices) -> Result<BackupReport> {
    if choices.label.is_aside() {
        return Err(Error::usage_hint(
            format!("the label {:?} is for points that `nexus restore` or `nexus pin` makes", choices.label.as_str()),
            "choose another with --label",
        ));
    }
    let plan = plan(run, choices).await?;
    hooks::before_backup(run).await?;
    doctor::before_backup(run, &plan).await?;
    let vault = vault(run).await?;
    // It is large: kept off the stack.
    let made = Box::pin(backup(&vault, &plan, &run.clock, &run.events));
    let ((), made) = futures::join!(run.look_back(&vault), made);
    made
}

/// True when the point is committed, verified, and its journal says so.
pub fn is_proven(report: &BackupReport) -> bool {
    report.verified.proof.verdict == Verdict::Verified && report.verified.unrecorded.is_none()
}

/// The plan from the settings.
pub async fn plan(run: &Run, choices: &Choices) -> Result<BackupPlan> {
    let settings = &run.settings;
    let parts = parts(run, &choices.only)?;
    let database = database(run)?;
    let files = match &settings.files {
        Some(files) if parts.contains(&Part::Files) => {
            Some(files_plan(run, &files.value, database.as_ref(), choices).await?)
        }
        _ => None,
    };
    let records = RecordsPlan {
        folder: settings.records.as_ref().map(|folder| folder.value.clone()),
        in_vault: settings.records_in_vault,
        names: settings.tables.clone(),
    };
    Ok(BackupPlan {
        label: choices.label.clone(),
        records: parts.contains(&Part::Records).then_some(records),
        parts,
        database,
        lock_wait: settings.lock_wait.duration(),
        files,
        references: settings.references.clone(),
        kept_for: settings.kept_for(&choices.label),
        scratch: run.scratch.path().to_path_buf(),
    })
}

/// The parts that were asked for, or all that are configured: records come with every database.
fn parts(run: &Run, only: &[Part]) -> Result<Vec<Part>> {
    let settings = &run.settings;
    let configured = |part: &Part| match part {
        Part::Database | Part::Records => settings.database.is_some(),
        Part::Files => settings.files.is_some(),
    };
    let wanted = |part: &Part| if only.is_empty() { configured(part) } else { only.contains(part) };
    let parts: Vec<Part> = Part::ALL.into_iter().filter(wanted).collect();
    if let Some(part) = parts.iter().find(|part| !configured(part)) {
        let hint = match part {
            Part::Files => "name them with --files, or in nexus.toml under [files] as `source`",
            Part::Database | Part::Records => "name it with --database, or in nexus.toml under [database] as `url`",
        };
        let what = if *part == Part::Files { "the files are" } else { "the database is" };
        return Err(Error::usage_hint(format!("{part} shall be backed up, and nothing says where {what}"), hint));
    }
    if parts.is_empty() {
        return Err(Error::usage_hint(
            "nothing to back up is named",
            "`nexus init` writes a nexus.toml to fill in; or pass --app, --database, --files and --vault",
        ));
    }
    Ok(parts)
}

fn database(run: &Run) -> Result<Option<Database>> {
    let located = run.settings.database.as_ref().map(|setting| &setting.value);
    located.map(|location| run.settings.database_at(&location.text, &location.base)).transpose()
}

async fn files_plan(run: &Run, address: &Address, database: Option<&Database>, choices: &Choices) -> Result<FilesPlan> {
    let rules = &run.settings.rules;
    let vault = run.settings.vault()?;
    let mut exclude = rules.exclude.clone();
    exclude.extend(own_files(run, address, database));
    Ok(FilesPlan {
        source: run.files_reader(address).await?,
        address: address.clone(),
        rules: FileRules {
            prefix: address.prefix().to_owned(),
            exclude,
            vaults: vault_inside(address, vault)?.into_iter().collect(),
            categories: rules.categories.clone(),
        },
        copies: choices.copies.unwrap_or(rules.copies),
        vanished: choices.vanished,
        properties: rules.properties,
    })
}

/// The vault's prefix within the source, which is always left out.
///
/// # Errors
///
/// [`Error::Usage`] when they are one place, or the source lies in the vault.
pub fn vault_inside(source: &Address, vault: &Address) -> Result<Option<String>> {
    let whole = |prefix: &str| prefix.is_empty() || prefix == source.prefix();
    match source.prefix_of(vault) {
        Some(prefix) if !whole(&prefix) => Ok(Some(prefix)),
        None if vault.prefix_of(source).is_none() => Ok(None),
        _ => Err(Error::usage_hint(
            format!("the files' source {source} lies in the vault {vault}"),
            "give the vault a prefix or folder of its own, better another bucket, with --vault",
        )),
    }
}

/// Globs that leave out what of the other parts lies in a folder source: the live database must not be put back as a
/// plain file, and the records are a part of their own.
fn own_files(run: &Run, source: &Address, database: Option<&Database>) -> Vec<String> {
    let Address::Folder(folder) = source else { return Vec::new() };
    let inside = |path: &Path| {
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        Some(literal(resolved.strip_prefix(folder).ok()?.to_str()?))
    };
    let mut globs = Vec::new();
    if let Some(Database::Sqlite(sqlite)) = database
        && let Some(name) = inside(sqlite.path())
    {
        run.terminal
            .note(&format!("the database lies among the files and is left out there: {}", sqlite.path().display()));
        globs.extend(["", "-wal", "-shm", "-journal"].map(|ending| anchored(&format!("{name}{ending}"))));
    }
    if let Some(records) = &run.settings.records
        && let Some(name) = inside(&records.value)
    {
        globs.push(format!("{name}/**"));
    }
    globs
}

/// A glob that matches at the source's root only: one without a slash would match in every folder.
fn anchored(glob: &str) -> String {
    if glob.contains('/') { glob.to_owned() } else { format!("{{{glob},{glob}/}}") }
}

/// A path as a glob that matches nothing else.
fn literal(path: &str) -> String {
    let mut glob = String::with_capacity(path.len());
    for letter in path.chars() {
        if "*?[]{},!\\".contains(letter) {
            glob.push('\\');
        }
        glob.push(letter);
    }
    glob
}

/// The application's name.
pub fn app(run: &Run) -> Result<String> {
    run.settings.app.as_ref().map(|app| app.value.clone()).ok_or_else(|| {
        Error::usage_hint("the application has no name", "pass --app NAME, or write `app = \"NAME\"` into nexus.toml")
    })
}

async fn vault(run: &Run) -> Result<Vault> {
    let address = run.settings.vault()?;
    let app = app(run)?;
    let reader = run.reader(address).await?;
    let scratch = run.scratch.path().to_path_buf();
    if let Address::Folder(path) = address {
        nexus_core::local::create_private_folder(path)?;
    }
    Vault::open_or_create(&reader, address, &app, run.store_rules(), scratch, &run.clock).await
}

/// Prints what was made.
pub fn tell(run: &Run, report: &BackupReport) {
    let point = &report.point;
    let made = Made {
        point: point.id().to_string(),
        vault: point.vault().address().to_string(),
        verdict: report.verified.proof.verdict,
        proof: &report.verified.proof,
        recorded: report.verified.unrecorded.is_none(),
        bytes: state::size(point.manifest(), point.entries()),
        milliseconds: &report.milliseconds,
        records_folder: report.records_folder.as_ref().map(|folder| folder.display().to_string()),
        restore_command: summary::restore_command(run, point),
        manifest: point.manifest(),
    };
    run.terminal.answer(&page(run, report), &made);
    for text in shortcomings(&report.verified) {
        run.terminal.warn(&text);
    }
    if let Some(text) = point.manifest().references.as_ref().and_then(|of| references::warning(run, point, of)) {
        run.terminal.warn(&text);
    }
    if let Some(error) = &report.records_unplaced {
        let id = point.id();
        run.terminal
            .warn(&format!("{error}; the vault holds the records: nexus restore {id} --to-records FOLDER brings them"));
    }
}

/// The three blocks that operators look for by their headings, and the command that brings it all back.
fn page(run: &Run, report: &BackupReport) -> Page {
    let (point, proof) = (&report.point, &report.verified.proof);
    let (manifest, now) = (point.manifest(), run.clock.now());
    let seconds = |part: Part| report.milliseconds.get(&part).map(|time| took(*time)).unwrap_or_default();
    let mut page = Page::new();
    page.heading("Database backup");
    if manifest.has(Part::Database) {
        summary::database(&mut page, point, now);
        page.field("took", seconds(Part::Database));
    } else {
        not_taken(&mut page);
    }
    page.heading("S3 Backup Summary");
    if manifest.has(Part::Files) {
        summary::files(&mut page, point, now);
        page.field("took", seconds(Part::Files));
    } else {
        not_taken(&mut page);
    }
    page.heading("Backup Summary");
    page.field("point", Cell::styled(point.id().to_string(), Style::Strong));
    page.field("instant", moment(manifest.instant));
    page.field("vault", point.vault().address().to_string());
    page.field("size", size(state::size(manifest, report.point.entries())));
    page.field("expires", state::expiry(manifest, report.point.entries(), now));
    if manifest.has(Part::Records) {
        summary::records(&mut page, point, report.records_folder.as_deref(), now);
        page.field("took", seconds(Part::Records));
    }
    page.field("verdict", summary::verdict(proof.verdict));
    page.field("looked at", looked_at(proof));
    page.field("restore with", summary::restore_command(run, point));
    summary::tables(&mut page, point);
    if let Some(references) = &manifest.references {
        references::page(&mut page, references);
    }
    summary::findings(&mut page, "Found while it was made", &manifest.findings, None);
    summary::findings(&mut page, "Found by the check", &proof.findings, Some(proof.findings_total));
    page
}

fn looked_at(proof: &Proof) -> String {
    let (files, rows) = (counted(proof.files, "file"), counted(proof.rows, "row"));
    format!("{files}, {rows}, {} read in {}", size(proof.bytes_read), took(proof.milliseconds))
}

fn not_taken(page: &mut Page) {
    page.line(Cell::styled("  not part of this point", Style::Faint));
}
