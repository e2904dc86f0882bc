//! `adopt`: backups of older scripts taken into the list, where they lie.

use jiff::tz::TimeZone;
use nexus_core::adopt::{AdoptPlan, AdoptRequest, FilesOrigin, OldPoint, adopt, plan};
use nexus_core::bucket::Address;
use nexus_core::error::{Error, Result};
use nexus_core::point::{FileRules, PointId};
use nexus_core::vault::Vault;
use serde::Serialize;

use super::backup;
use super::restore::consent;
use crate::cli::AdoptArgs;
use crate::failure::Outcome;
use crate::page::Page;
use crate::run::Run;
use crate::wording::{counted, moment, size};

/// What is left alone is listed so far; all of it is in the JSON.
const MOST_LEFT: usize = 40;

/// What would be adopted or was, for programs.
#[derive(Debug, Serialize)]
struct Told<'a> {
    vault: String,
    dry_run: bool,
    points: &'a [OldPoint],
    adopted: &'a [PointId],
    left: &'a [(String, String)],
}

/// Adopts, or shows what would be.
pub async fn run(run: &Run, args: &AdoptArgs) -> Result<Outcome> {
    let app = backup::app(run)?;
    let address = run.settings.vault()?.clone();
    let reader = run.reader(&address).await?;
    let scratch = run.scratch.path().to_path_buf();
    reader.check().await?;
    let seen = Vault::open_or_imagine(&reader, &address, &app, run.store_rules(), scratch.clone(), &run.clock).await?;
    let plan = plan(&seen, request(run, args, &address).await?, &run.events).await?;
    let told = |adopted, dry_run| Told {
        vault: address.to_string(),
        dry_run,
        points: &plan.points,
        adopted,
        left: &plan.left,
    };
    if args.dry_run || plan.points.is_empty() {
        run.terminal.answer(&page(&plan), &told(&[], args.dry_run));
        return Ok(Outcome::Done);
    }
    run.terminal.aside(&page(&plan));
    if !args.yes {
        consent::typed(run, &format!("Type {app} to make points of them:"), &app, "--yes")?;
    }
    let vault = Vault::open_or_create(&reader, &address, &app, run.store_rules(), scratch, &run.clock).await?;
    let adopted = adopt(&vault, &plan, &run.clock, &run.events).await?;
    let mut done = Page::new();
    done.heading("Adopted");
    for id in &adopted {
        done.line(format!("  {id}"));
    }
    done.line("  unproven until `nexus verify POINT` has looked at them");
    run.terminal.answer(&done, &told(&adopted, false));
    Ok(Outcome::Done)
}

async fn request(run: &Run, args: &AdoptArgs, vault: &Address) -> Result<AdoptRequest> {
    let timezone = match &args.timezone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name).map_err(|_| {
            Error::usage_hint(format!("{name:?} is no time zone"), "write it as in Europe/Vienna or America/New_York")
        })?,
    };
    let settings = &run.settings;
    let files = match &settings.files {
        None => None,
        Some(files) => {
            let reader = run.files_reader(&files.value).await?;
            Some(FilesOrigin {
                source: files.value.to_string(),
                endpoint: reader.endpoint().map(str::to_owned),
                rules: FileRules {
                    prefix: files.value.prefix().to_owned(),
                    exclude: settings.rules.exclude.clone(),
                    vaults: backup::vault_inside(&files.value, vault)?.into_iter().collect(),
                    categories: settings.rules.categories.clone(),
                },
            })
        }
    };
    let database = match &settings.database {
        None => None,
        Some(setting) => Some(settings.database_at(&setting.value.text, &setting.value.base)?),
    };
    Ok(AdoptRequest {
        name: args.name.clone().map_or_else(|| backup::app(run), Ok)?,
        database,
        files,
        timezone,
        local: args.local.as_ref().map(|folder| run.folder.join(folder)),
        tables: settings.tables.clone(),
        kept_for: settings.kept_for(&settings.label),
    })
}

fn page(plan: &AdoptPlan) -> Page {
    let mut page = Page::new();
    for old in &plan.points {
        page.heading(old.id.to_string());
        page.field("instant", moment(old.instant));
        if old.apart_seconds > 0 {
            page.field("parts", format!("not of one instant, {} s apart", old.apart_seconds));
        }
        match &old.database {
            Some(database) => {
                page.field(
                    "database",
                    format!(
                        "{}, {}, {} in {}",
                        database.key,
                        size(database.bytes),
                        counted(database.rows, "row"),
                        counted(database.tables, "table")
                    ),
                );
            }
            None => page.field("database", "none of its time is adopted"),
        }
        match &old.files {
            Some(files) => {
                page.field(
                    "files",
                    format!("{}: {}, {}", files.folder, counted(files.total.files, "file"), size(files.total.bytes)),
                );
            }
            None => page.field("files", "none of its time are adopted"),
        }
        if let Some(records) = &old.records {
            let (folder, files) = (records.folder.display(), counted(records.files, "file"));
            page.field(
                "records",
                format!("{folder}: {files}, {}; on this machine alone", counted(records.rows, "row")),
            );
            if !records.has_summary {
                page.field("", "no backup_summary.json is with them: whether a file is missing nothing says");
            }
        }
    }
    if plan.points.is_empty() {
        page.line("nothing that an older script left could be adopted");
    }
    for (at, (name, why)) in plan.left.iter().take(MOST_LEFT).enumerate() {
        if at == 0 {
            page.heading("Left alone");
        }
        page.row([format!("  {name}").into(), why.clone().into()]);
    }
    if plan.left.len() > MOST_LEFT {
        page.line(format!("  … and {} more", plan.left.len() - MOST_LEFT));
    }
    page
}
