//! What a rehearsal says: its plan, and what the command changed.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nexus_core::changes::TableChanges;
use nexus_core::changes::files::CategoryChanges;
use nexus_core::rehearse::Ground;
use nexus_core::rehearse::look::Changes;
use serde::Serialize;

use super::{Application, Prepared, child};
use crate::cli::RehearseArgs;
use crate::commands::changed;
use crate::page::{Cell, Page, Style};
use crate::run::Run;
use crate::wording::{counted, size, took, without_passwords};

/// Tables that were not compared, named at most.
const MOST_UNCOMPARED: usize = 5;

/// A plan for programs.
#[derive(Debug, Serialize)]
pub struct Planned {
    point: String,
    database: String,
    files: Option<String>,
    copies: u64,
    bytes: u64,
    variables: Vec<String>,
    probe: Option<String>,
    doubts: Vec<String>,
}

/// A rehearsal for programs.
#[derive(Debug, Serialize)]
struct Told<'a> {
    point: &'a str,
    vault: &'a str,
    database: &'a str,
    files: Option<&'a str>,
    command: Command,
    changes: Differences<'a>,
    application: AsItIs<'a>,
    scratch_removed: bool,
}

#[derive(Debug, Serialize)]
struct Command {
    succeeded: bool,
    exit_status: Option<i32>,
    signal: Option<i32>,
    milliseconds: u64,
}

#[derive(Debug, Serialize)]
struct Differences<'a> {
    tables: &'a [TableChanges],
    files: &'a BTreeMap<String, CategoryChanges>,
    /// Tables that were not compared, each with the reason.
    uncompared: &'a BTreeMap<String, String>,
}

/// The application before and after.
#[derive(Debug, Serialize)]
struct AsItIs<'a> {
    /// Null: it could not be looked at.
    unchanged: Option<bool>,
    why_not_looked_at: Option<String>,
    tables: Vec<&'a str>,
    files: Vec<&'a str>,
}

/// Whether scratch is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// All of it.
    Whole,
    /// Something is left.
    Partly,
}

/// What was made, for the words afterwards.
pub struct Scratch {
    point: String,
    vault: String,
    database: String,
    files: Option<String>,
}

impl Scratch {
    /// Notes it down before it is removed.
    pub fn of(ground: &Ground) -> Self {
        Self {
            point: ground.point().id().to_string(),
            vault: ground.point().vault().address().to_string(),
            database: ground.database().map(|made| made.database().location()).unwrap_or_default(),
            files: ground.files().map(ToString::to_string),
        }
    }
}

/// The plan for a person.
pub fn plan(prepared: &Prepared) -> Page {
    let plan = &prepared.plan;
    let mut page = Page::new();
    page.heading(format!("Rehearsal on {}", plan.point.id()));
    page.field("database", format!("{}, removed afterwards", plan.database()));
    match plan.files() {
        Some((place, count)) => page.field(
            "files",
            format!("{}, {} below {place}, removed afterwards", counted(count.files, "file"), size(count.bytes)),
        ),
        None => page.field("files", "none"),
    }
    page.field("environment", prepared.variables.names().join(", "));
    let trusted = || Cell::styled("none: the settings are trusted", Style::Doubtful);
    page.field("probe", prepared.probe.as_ref().map_or_else(trusted, |probe| without_passwords(probe).into()));
    if let Err(error) = &prepared.own {
        let text = format!("will not be looked at: {error}");
        page.field("application", Cell::styled(text, Style::Doubtful));
    }
    for doubt in plan.doubts() {
        page.field("not known", Cell::styled(doubt.clone(), Style::Doubtful));
    }
    page
}

/// The plan for programs.
pub fn planned(prepared: &Prepared) -> Planned {
    let plan = &prepared.plan;
    let files = plan.files();
    let count = files.map(|(_, count)| count).unwrap_or_default();
    Planned {
        point: plan.point.id().to_string(),
        database: plan.database(),
        files: files.map(|(place, _)| place.to_string()),
        copies: count.files,
        bytes: count.bytes,
        variables: prepared.variables.names().into_iter().map(str::to_owned).collect(),
        probe: prepared.probe.as_deref().map(without_passwords),
        doubts: plan.doubts().to_vec(),
    }
}

/// Prints what the command changed, and what became of the application meanwhile.
pub fn tell(
    run: &Run,
    (args, application): (&RehearseArgs, &Application),
    scratch: &Scratch,
    ((status, milliseconds), changes): ((ExitStatus, u64), &Changes),
    removed: Removed,
) {
    let told = Told {
        point: &scratch.point,
        vault: &scratch.vault,
        database: &scratch.database,
        files: scratch.files.as_deref(),
        command: Command {
            succeeded: status.success(),
            exit_status: status.code(),
            signal: status.signal(),
            milliseconds,
        },
        changes: Differences { tables: &changes.tables, files: &changes.files, uncompared: &changes.uncompared },
        application: as_it_is(application),
        scratch_removed: removed == Removed::Whole,
    };
    let mut page = changed_page(args, scratch, changes);
    ending(&mut page, scratch, (status, milliseconds), application, removed);
    run.terminal.answer(&page, &told);
    warn(run, (args, application), status);
}

/// Warns of what became of the application, and of a command that failed.
pub fn warn(run: &Run, (args, application): (&RehearseArgs, &Application), status: ExitStatus) {
    match application {
        Application::Seen(changes) if changes.is_none() => {}
        Application::Seen(changes) => run.terminal.warn(&meanwhile(args, changes)),
        Application::Unseen(error) => {
            run.terminal.warn(&format!("whether the application itself changed is not known: {error}"));
        }
    }
    if !status.success() {
        run.terminal.warn(&format!("the command failed: {}", child::told(status)));
    }
}

fn changed_page(args: &RehearseArgs, scratch: &Scratch, changes: &Changes) -> Page {
    let mut page = Page::new();
    page.heading(format!("Rows that the command would change in {}", scratch.point));
    changed::tables(&mut page, &changes.tables);
    uncompared(&mut page, &changes.uncompared);
    page.heading("Files that it would change");
    if scratch.files.is_none() {
        page.line("  it had no files");
    } else {
        if args.no_files {
            page.line(
                "  without --no-files there would be files that it could change and remove; here it could only add",
            );
        }
        changed::files(&mut page, &changes.files);
    }
    page
}

fn ending(
    page: &mut Page,
    scratch: &Scratch,
    (status, milliseconds): (ExitStatus, u64),
    application: &Application,
    removed: Removed,
) {
    let gone = if removed == Removed::Whole { "gone by now" } else { "not wholly removed" };
    page.heading("Rehearsal");
    let style = if status.success() { Style::Good } else { Style::Bad };
    page.field("command", Cell::styled(format!("{} after {}", child::told(status), took(milliseconds)), style));
    page.field("database", format!("{}, {gone}", scratch.database));
    if let Some(files) = &scratch.files {
        page.field("files", format!("{files}, {gone}"));
    }
    page.field(
        "application",
        match application {
            Application::Seen(changes) if changes.is_none() => {
                Cell::styled("the same rows and files before and after", Style::Good)
            }
            Application::Seen(_) => Cell::styled("changed meanwhile", Style::Bad),
            Application::Unseen(_) => Cell::styled("not looked at", Style::Doubtful),
        },
    );
}

/// Tables whose rows are elsewhere or nowhere to be seen, a few of them by name.
fn uncompared(page: &mut Page, tables: &BTreeMap<String, String>) {
    for (name, reason) in tables.iter().take(MOST_UNCOMPARED) {
        page.line(Cell::styled(format!("  not compared: {name}, {reason}"), Style::Doubtful));
    }
    if tables.len() > MOST_UNCOMPARED {
        page.line(format!("  … and {} more, which --json names", tables.len() - MOST_UNCOMPARED));
    }
}

/// That the application changed, by the names of what did.
fn meanwhile(args: &RehearseArgs, changes: &Changes) -> String {
    let tables: Vec<&str> = changes.tables.iter().map(|table| table.table.as_str()).collect();
    let categories = differing(changes);
    let mut what = Vec::new();
    if !tables.is_empty() {
        what.push(format!("its tables {}", tables.join(", ")));
    }
    if !categories.is_empty() {
        what.push(format!("its files of {}", categories.join(", ")));
    }
    let cause = if args.exclusive {
        "nobody else works on it, so the command reached it"
    } else {
        "on a live application this may have other causes than the command"
    };
    format!("the application itself changed meanwhile, {}: {cause}", what.join(" and "))
}

fn differing(changes: &Changes) -> Vec<&str> {
    let differing = changes.files.iter().filter(|(_, category)| category.has_files());
    differing.map(|(name, _)| name.as_str()).collect()
}

fn as_it_is(application: &Application) -> AsItIs<'_> {
    match application {
        Application::Seen(changes) => AsItIs {
            unchanged: Some(changes.is_none()),
            why_not_looked_at: None,
            tables: changes.tables.iter().map(|table| table.table.as_str()).collect(),
            files: differing(changes),
        },
        Application::Unseen(error) => AsItIs {
            unchanged: None,
            why_not_looked_at: Some(error.to_string()),
            tables: Vec::new(),
            files: Vec::new(),
        },
    }
}
