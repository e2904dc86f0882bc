//! `backup --dry-run`: what would be taken from where, with a look at whether it is there. Nothing is written.

use nexus_core::backup::BackupPlan;
use nexus_core::database::Database;
use nexus_core::database::sqlite::Condition;
use nexus_core::error::{Error, Result};
use nexus_core::point::Part;
use nexus_core::point::references::Reference;
use nexus_core::vault::Vault;
use serde::Serialize;
use serde_json::{Value, json};

use super::Choices;
use crate::failure::Outcome;
use crate::page::Page;
use crate::run::Run;
use crate::settings::Setting;
use crate::wording::{counted, size};

/// A preview for programs.
#[derive(Debug, Serialize)]
struct Preview {
    config: Option<String>,
    label: String,
    parts: Vec<Part>,
    app: Option<Value>,
    vault: Value,
    vault_exists: bool,
    database: Option<Value>,
    database_condition: Option<String>,
    files: Option<Value>,
    exclude: Vec<String>,
    records_folder: Option<Value>,
    references: Vec<Reference>,
}

/// Shows what would be taken; a broken database is a bad answer.
pub(super) async fn show(run: &Run, choices: &Choices) -> Result<Outcome> {
    let plan = super::plan(run, choices).await?;
    let exists = vault_exists(run).await?;
    if let Some(files) = &plan.files {
        files.source.check().await?;
    }
    let condition = condition(&plan).await?;
    let settings = &run.settings;
    let preview = Preview {
        config: settings.config.as_ref().map(|path| path.display().to_string()),
        label: plan.label.to_string(),
        parts: plan.parts.clone(),
        app: settings.app.as_ref().map(|app| json!(app)),
        vault: json!(settings.vault),
        vault_exists: exists,
        database: settings.database.as_ref().filter(|_| plan.database.is_some()).map(|setting| json!(setting)),
        database_condition: condition.as_ref().map(|(words, _)| words.clone()),
        files: settings.files.as_ref().filter(|_| plan.files.is_some()).map(|setting| json!(setting)),
        exclude: plan.files.as_ref().map(|files| files.rules.exclude.clone()).unwrap_or_default(),
        records_folder: settings.records.as_ref().map(|folder| {
            json!({
                "value": folder.value.display().to_string(), "from": folder.origin.to_string(),
            })
        }),
        references: plan.references.clone(),
    };
    run.terminal.answer(&page(run, &plan, &preview), &preview);
    Ok(Outcome::of(condition.is_none_or(|(_, sound)| sound)))
}

async fn vault_exists(run: &Run) -> Result<bool> {
    let address = run.settings.vault()?;
    let reader = run.reader(address).await?;
    let app = run.settings.app.as_ref().map(|app| app.value.as_str());
    match Vault::open(&reader, address, app, run.store_rules(), run.scratch.path().to_path_buf()).await {
        Ok(_) => Ok(true),
        Err(Error::Missing { .. }) => {
            if !reader.is_folder() {
                reader.check().await?;
            }
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The database's condition in words, and whether it can be backed up.
async fn condition(plan: &BackupPlan) -> Result<Option<(String, bool)>> {
    let database = match plan.database.clone() {
        None => return Ok(None),
        Some(Database::Postgres(database)) => {
            let (server, tables, bytes) = database.look().await?;
            return Ok(Some((format!("PostgreSQL {server}, {}, {}", counted(tables, "table"), size(bytes)), true)));
        }
        Some(Database::Sqlite(database)) => database,
    };
    let wait = plan.lock_wait;
    let looked = tokio::task::spawn_blocking(move || database.condition(wait)).await;
    let condition = looked.map_err(|cause| Error::Local {
        what: "the look at the database broke off".into(),
        cause: Some(cause.into()),
    })??;
    Ok(Some(match condition {
        Condition::Healthy { bytes, journal_mode, .. } => {
            (format!("{}, journal mode {journal_mode}", size(bytes)), true)
        }
        Condition::Empty => ("empty".to_owned(), false),
        Condition::Absent => ("not there".to_owned(), false),
        Condition::Broken(reason) => (format!("broken: {reason}"), false),
    }))
}

fn page(run: &Run, plan: &BackupPlan, preview: &Preview) -> Page {
    let settings = &run.settings;
    let mut page = Page::new();
    page.heading("This would be backed up");
    if let Some(config) = &settings.config {
        page.field("settings", config.display().to_string());
    }
    if let Some(app) = &settings.app {
        page.field("app", with_origin(app));
    }
    page.field("label", preview.label.clone());
    if let (Some(database), Some(setting)) = (&plan.database, &settings.database) {
        page.field("database", format!("{} (from {})", database.location(), setting.origin));
        page.field("now", preview.database_condition.clone().unwrap_or_default());
    }
    if let (Some(files), Some(setting)) = (&plan.files, &settings.files) {
        page.field("files", with_origin(setting));
        page.field("copies", files.copies.to_string());
        for prefix in &files.rules.vaults {
            page.field("left out", format!("{prefix}** (the vault)"));
        }
        for glob in &files.rules.exclude {
            page.field("left out", glob.clone());
        }
        for category in &files.rules.categories {
            page.field("category", format!("{}: {}", category.name, category.globs.join(" ")));
        }
    }
    if let Some(records) = &plan.records {
        match &settings.records {
            Some(folder) => page.field("records", format!("{} (from {})", folder.value.display(), folder.origin)),
            None => page.field("records", "in the vault only"),
        }
        for (name, table) in &records.names {
            page.field("record", format!("{name}: table {table}"));
        }
    }
    for Reference { table, column, prefix, .. } in &plan.references {
        let prefix = if prefix.is_empty() { String::new() } else { format!(", below {prefix}") };
        page.field("reference", format!("{table}.{column} names files{prefix}"));
    }
    if let Some(vault) = &settings.vault {
        let there = if preview.vault_exists { "" } else { ", would be made" };
        page.field("vault", format!("{}{there}", with_origin(vault)));
    }
    page.line("Nothing was written.");
    page
}

fn with_origin<T: std::fmt::Display>(setting: &Setting<T>) -> String {
    format!("{} (from {})", setting.value, setting.origin)
}
