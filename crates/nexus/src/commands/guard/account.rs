//! A short account of what changed between the point and now. It only tells: what it cannot tell is a warning.

use std::collections::BTreeMap;

use nexus_core::changes::files::{CategoryChanges, Likeness};
use nexus_core::changes::point::{files_since, tables_since};
use nexus_core::changes::{State, TableChanges};
use nexus_core::database::Database;
use nexus_core::error::Result;
use nexus_core::local::Scratch;
use nexus_core::point::Part;
use nexus_core::records::export::Export;
use nexus_core::records::now::export_now;
use nexus_core::vault::RecoveryPoint;
use serde_json::{Value, json};

use super::super::changed;
use crate::page::Page;
use crate::run::Run;

/// What changed: tables and categories that did not are left out.
#[derive(Debug)]
pub struct Account {
    tables: Vec<TableChanges>,
    files: BTreeMap<String, CategoryChanges>,
}

/// Compares the database and the files with the point, as far as it has them.
pub async fn take(run: &Run, point: &RecoveryPoint, database: Option<&Database>) -> Result<Account> {
    let scratch = Scratch::create(run.scratch.path())?;
    let tables = match database {
        Some(database) if point.manifest().has(Part::Database) => tables(run, point, database, &scratch).await?,
        _ => Vec::new(),
    };
    let mut files = match &run.settings.files {
        Some(address) if point.manifest().has(Part::Files) => {
            let reader = run.files_reader(&address.value).await?;
            files_since(point, &reader, Likeness::Content, &scratch, &run.events).await?
        }
        _ => BTreeMap::new(),
    };
    files.retain(|_, changes| changes.has_files());
    Ok(Account { tables, files })
}

async fn tables(run: &Run, point: &RecoveryPoint, database: &Database, scratch: &Scratch) -> Result<Vec<TableChanges>> {
    let folder = scratch.file("now");
    let export = Export {
        folder: folder.clone(),
        // A table that is gone by now would be missed under the name it is given in the configuration.
        names: BTreeMap::new(),
        app: point.vault().app().to_owned(),
        point: point.id().clone(),
        instant: run.clock.now(),
    };
    let wait = run.settings.lock_wait.duration();
    let now = export_now(database, export, wait, scratch, (&run.clock, &run.events)).await?;
    let mut changes = tables_since(point, &State::in_folder(&folder, &now.tables), scratch).await?;
    for table in &mut changes {
        // Whose rows they are is not for an account.
        table.examples.clear();
    }
    Ok(changes)
}

impl Account {
    /// It for a person.
    pub fn page(&self, point: &RecoveryPoint) -> Page {
        let mut page = Page::new();
        page.heading(format!("Changed since {}", point.id()));
        if self.tables.is_empty() && self.files.is_empty() {
            page.line("  nothing: every row and every file is as it was");
        }
        if !self.tables.is_empty() {
            changed::tables(&mut page, &self.tables);
        }
        if !self.files.is_empty() {
            changed::files(&mut page, &self.files);
        }
        page
    }

    /// It for programs.
    pub fn json(&self) -> Value {
        json!({ "tables": self.tables, "files": self.files })
    }
}
