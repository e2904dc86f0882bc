//! The safety point: what would be lost, backed up first, labelled `before-restore`.

use nexus_core::backup::{BackupPlan, RecordsPlan, backup};
use nexus_core::error::{Error, Result};
use nexus_core::files::capture::{FilesPlan, Properties, Vanished};
use nexus_core::point::{Copies, FileRules, Part, PointId, SAFETY_LABEL};
use nexus_core::restore::RestorePlan;

use super::targets::{FilesGoal, Targets};
use crate::commands::backup::{is_proven, vault_inside};
use crate::run::Run;

/// Takes it; `None` when nothing would be lost. A database that turns out broken is put aside instead.
pub async fn take(run: &Run, plan: &mut RestorePlan, targets: &Targets) -> Result<Option<PointId>> {
    loop {
        let parts = plan.at_risk();
        if parts.is_empty() {
            return Ok(None);
        }
        let mut wanted = safety_plan(run, plan, targets, &parts)?;
        let kept_for = wanted.kept_for.get(&Part::Files).copied();
        if let Some(files) = &mut wanted.files
            && let Err(error) = files.require_lasting(kept_for).await
        {
            run.terminal.warn(&format!("{error}: the present files are copied"));
            files.copies = Copies::Incremental;
        }
        run.terminal.note("taking a safety point of the present state first");
        // It is large: kept off the stack.
        match Box::pin(backup(plan.point.vault(), &wanted, &run.clock, &run.events)).await {
            Ok(report) if is_proven(&report) => {
                let id = report.point.id().clone();
                run.terminal.note(&format!("{id} holds the present state"));
                return Ok(Some(id));
            }
            Ok(report) => {
                return Err(Error::usage_hint(
                    format!("the safety point {} could not be proven, so nothing was restored", report.point.id()),
                    "see what is wrong with the vault; --no-safety-point restores without one",
                ));
            }
            // A quick look finds less than a full copy does; a database that cannot be copied cannot be lost either.
            Err(error @ Error::Damaged { .. }) if plan.database.is_some() && parts.contains(&Part::Database) => {
                run.terminal.warn(&format!("the database there cannot be backed up and will be put aside: {error}"));
                plan.treat_database_as_broken(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
}

fn safety_plan(run: &Run, plan: &RestorePlan, targets: &Targets, parts: &[Part]) -> Result<BackupPlan> {
    let files = match &targets.files {
        Some(goal) if parts.contains(&Part::Files) => Some(files_plan(plan, goal)?),
        _ => None,
    };
    Ok(BackupPlan {
        references: Vec::new(),
        label: SAFETY_LABEL.parse()?,
        parts: parts.to_vec(),
        database: targets.written_database().map(|goal| goal.place.clone()),
        lock_wait: run.settings.lock_wait.duration(),
        files,
        records: parts.contains(&Part::Records).then(|| RecordsPlan {
            folder: None,
            in_vault: true,
            names: std::collections::BTreeMap::new(),
        }),
        kept_for: run.settings.kept_for(&SAFETY_LABEL.parse()?),
        scratch: run.scratch.path().to_path_buf(),
    })
}

/// The point's own rules for its own source; for another place its categories, and no vault.
fn files_plan(plan: &RestorePlan, files: &FilesGoal) -> Result<FilesPlan> {
    let recorded = plan.point.manifest().parts.files.as_ref().map(|part| part.rules.clone()).unwrap_or_default();
    let address = files.goal.place.clone();
    // Where the point is versions of the source, its bucket keeps the present state as well.
    let versions = files.goal.own
        && plan.point.manifest().parts.files.as_ref().is_some_and(|part| part.copies == Copies::Versions);
    let copies = if versions { Copies::Versions } else { Copies::Incremental };
    let rules = if files.goal.own {
        recorded
    } else {
        let vault = vault_inside(&address, plan.point.vault().address())?;
        FileRules {
            prefix: address.prefix().to_owned(),
            exclude: Vec::new(),
            vaults: vault.into_iter().collect(),
            categories: recorded.categories,
        }
    };
    let properties = plan.point.manifest().parts.files.as_ref().map(Properties::of).unwrap_or_default();
    let properties = if files.reader.is_folder() { Properties::default() } else { properties };
    Ok(FilesPlan { source: files.reader.clone(), address, rules, copies, vanished: Vanished::default(), properties })
}
