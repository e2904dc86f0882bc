//! The questions before something is overwritten: the point's id, and the name of each target that is not its own.

use nexus_core::bucket::Address;
use nexus_core::database::Database;
use nexus_core::database::sqlite::Condition;
use nexus_core::error::{Error, Result};
use nexus_core::restore::rows::RowsPlanned;
use nexus_core::restore::{RestorePlan, Way};

use super::targets::Targets;
use crate::cli::RestoreArgs;
use crate::run::Run;

/// Asks what must be asked.
///
/// # Errors
///
/// [`Error::Usage`] when the answer is another one, or nobody is there to give one.
pub fn ask(run: &Run, args: &RestoreArgs, plan: &RestorePlan, targets: &Targets) -> Result<()> {
    for name in foreign(plan, targets) {
        if args.confirm.contains(&name) {
            continue;
        }
        let question = format!(
            "{name:?} is not where this point came from and holds something else. Type its name to overwrite it:"
        );
        typed(run, &question, &name, &format!("--confirm {}", crate::wording::shell_quoted(&name)))?;
    }
    if args.yes {
        return Ok(());
    }
    let id = plan.point.id().to_string();
    typed(run, &format!("Type {id} to restore it:"), &id, "--yes")
}

/// Asks for a text to be typed; `flag` answers it where there is no terminal.
///
/// # Errors
///
/// [`Error::Usage`] when the answer is another one, or nobody is there to give one.
pub fn typed(run: &Run, question: &str, expected: &str, flag: &str) -> Result<()> {
    if !run.terminal.can_ask() {
        return Err(Error::usage_hint(
            "this must be confirmed, and there is no terminal to ask on",
            format!("look at the plan above; the same command with {flag} carries it out"),
        ));
    }
    if run.terminal.ask(question).as_deref() == Some(expected) {
        return Ok(());
    }
    Err(Error::usage_hint("that is not the answer, so nothing was changed", format!("type {expected}, or pass {flag}")))
}

/// The names of targets that are not the point's own and would lose something.
fn foreign(plan: &RestorePlan, targets: &Targets) -> Vec<String> {
    let mut names = Vec::new();
    let replaced = plan.database.as_ref().is_some_and(|planned| loses(&planned.way));
    let written = plan.tables.as_ref().is_some_and(|planned| planned.tables.iter().any(|table| table.present > 0));
    let written = written || plan.rows.as_ref().is_some_and(RowsPlanned::replaces);
    if let Some(goal) = targets.written_database().filter(|goal| !goal.own && (replaced || written)) {
        let name = match &goal.place {
            Database::Sqlite(sqlite) => sqlite.path().file_name().map(|name| name.to_string_lossy().into_owned()),
            Database::Postgres(postgres) => Some(postgres.name().to_owned()),
        };
        names.push(name.unwrap_or_else(|| goal.place.location()));
    }
    if let (Some(files), Some(planned)) = (&targets.files, &plan.files)
        && !files.goal.own
        && planned.different.files + doomed(plan) > 0
    {
        names.push(match &files.goal.place {
            Address::S3 { bucket, .. } => bucket.clone(),
            Address::Folder(path) => path.display().to_string(),
        });
    }
    names
}

/// True when something is there that will not be there under its name any more.
fn loses(way: &Way) -> bool {
    match way {
        Way::IntoFile(condition) => !matches!(condition, Condition::Absent | Condition::Empty),
        Way::OnServer(server) => server.loses(),
    }
}

/// Files that will be removed.
fn doomed(plan: &RestorePlan) -> u64 {
    use nexus_core::files::restore::Extra;
    match (&plan.request.files, &plan.files) {
        (Some(target), Some(planned)) if target.extra == Extra::Delete => planned.extra.files,
        _ => 0,
    }
}
