//! Single records: what becomes of each, as a page and for programs; and the records themselves as JSON.

use std::fmt::Write as _;
use std::path::Path;

use nexus_core::database::Database;
use nexus_core::error::{Error, Result};
use nexus_core::local::{Scratch, create_private};
use nexus_core::point::PointId;
use nexus_core::restore::rows::{Fate, FoundTable, RowsPlanned, files_of, gather};
use nexus_core::restore::{RestorePlan, RestoreReport};
use nexus_core::vault::RecoveryPoint;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::targets::{RecordsGoal, records_goal, rows_target};
use crate::cli::RestoreArgs;
use crate::page::{Cell, Page, Style};
use crate::run::Run;
use crate::wording::{command_line, count, counted};

/// Rows and files that a page lists at most; all are in the JSON.
const SHOWN: usize = 40;

/// True when nothing stands in the way of the records that were asked for, if any were.
pub fn is_free(plan: &RestorePlan) -> bool {
    plan.rows.as_ref().is_none_or(|rows| rows.obstacles.is_empty())
}

/// True when records were asked for, and they and their files are all there as they were.
pub fn is_done(plan: &RestorePlan) -> bool {
    let files =
        plan.files.as_ref().is_none_or(|files| files.missing.files + files.different.files + files.folders == 0);
    plan.rows.as_ref().is_some_and(|rows| rows.obstacles.is_empty() && rows.changes_nothing()) && files
}

/// Adds what becomes of each row.
pub fn page(page: &mut Page, planned: &RowsPlanned, args: &RestoreArgs) {
    let number = |wanted: fn(&Fate) -> bool| planned.rows.iter().filter(|row| wanted(&row.fate)).count() as u64;
    let (added, same) = (number(|fate| *fate == Fate::Added), number(|fate| *fate == Fate::Same));
    let other = number(|fate| matches!(fate, Fate::Other(_)));
    page.field("added", counted(added, "row"));
    page.field("as they were", counted(same, "row"));
    if other > 0 {
        let word = if args.tables.overwrite { "REPLACED" } else { "in the way" };
        page.field("other values", Cell::styled(format!("{}: {word}", counted(other, "row")), Style::Doubtful));
    }
    page.columns(["RECORD", ""]);
    for row in planned.rows.iter().take(SHOWN) {
        let fate = match &row.fate {
            Fate::Added => Cell::styled("is added", Style::Good),
            Fate::Same => Cell::styled("is there as it was", Style::Faint),
            Fate::Other(columns) => {
                Cell::styled(format!("is there with another {}", columns.join(", ")), Style::Doubtful)
            }
        };
        page.row([row.name.clone().into(), fate]);
    }
    more(page, planned.rows.len());
    if args.rows.with_files {
        page.heading(format!("Files that these rows name: {}", count(planned.files.len() as u64)));
        for key in planned.files.iter().take(SHOWN) {
            page.line(format!("  {key}"));
        }
        more(page, planned.files.len());
    }
    if !planned.notes.is_empty() {
        page.heading("Not looked for in the point");
        for note in planned.notes.iter().take(SHOWN) {
            page.line(Cell::styled(format!("  {note}"), Style::Doubtful));
        }
        more(page, planned.notes.len());
    }
    if !planned.obstacles.is_empty() {
        page.heading("In the way, so nothing is written");
        for obstacle in planned.obstacles.iter().take(SHOWN) {
            page.line(Cell::styled(format!("  {}", obstacle.what), Style::Bad));
            if let Some(remedy) = &obstacle.remedy {
                page.line(format!("      {remedy}"));
            }
        }
        more(page, planned.obstacles.len());
    }
}

fn more(page: &mut Page, all: usize) {
    if all > SHOWN {
        page.line(format!("  … and {} more, which --json names", count((all - SHOWN) as u64)));
    }
}

/// The plan for programs.
pub fn planned(planned: &RowsPlanned) -> Value {
    let rows = planned.rows.iter().map(|row| {
        let (fate, columns) = match &row.fate {
            Fate::Added => ("added", None),
            Fate::Same => ("same", None),
            Fate::Other(columns) => ("other", Some(columns)),
        };
        json!({ "record": row.name, "fate": fate, "columns": columns })
    });
    let obstacles =
        planned.obstacles.iter().map(|obstacle| json!({ "what": obstacle.what, "remedy": obstacle.remedy }));
    json!({
        "target": planned.target,
        "rows": rows.collect::<Vec<_>>(),
        "files": planned.files,
        "notes": planned.notes,
        "obstacles": obstacles.collect::<Vec<_>>(),
    })
}

/// The commands that bring back the rows and files that were replaced; what was added stays.
pub fn undo(run: &Run, safety: &PointId, report: &RestoreReport) -> String {
    let (id, reach) = (safety.to_string(), run.reach());
    let line = |words: Vec<&str>| {
        let all = ["nexus", "restore", id.as_str()].into_iter().chain(words);
        command_line(all.chain(reach.iter().map(String::as_str)))
    };
    let mut lines = Vec::new();
    if !report.replaced_rows.is_empty() {
        let rows = report.replaced_rows.iter().flat_map(|row| ["--record", row.as_str()]);
        lines.push(line(rows.chain(["--overwrite"]).collect()));
    }
    if !report.replaced_files.is_empty() {
        let globs: Vec<String> = report.replaced_files.iter().map(|key| exactly(key)).collect();
        let keys = globs.iter().flat_map(|glob| ["--key", glob.as_str()]);
        lines.push(line(["--only", "files"].into_iter().chain(keys).collect()));
    }
    lines.join(" && ")
}

/// A glob that takes this key alone.
fn exactly(key: &str) -> String {
    let mut glob = String::with_capacity(key.len());
    for letter in key.chars() {
        match letter {
            '?' | '*' | '[' | ']' | '{' | '}' => glob.extend(['[', letter, ']']),
            '\\' => glob.push_str("\\\\"),
            _ => glob.push(letter),
        }
    }
    glob
}

/// Writes the records as JSON, into a new file or to stdout; nothing else is touched.
pub async fn to_json(run: &Run, args: &RestoreArgs, point: &RecoveryPoint, file: &Path) -> Result<()> {
    let scratch = Scratch::create(run.scratch.path())?;
    let target = rows_target(args, database(run, args, point)?)?;
    let found = gather(point, &target, run.settings.lock_wait.duration(), &scratch).await?;
    for what in found.notes.iter().chain(found.obstacles.iter().map(|obstacle| &obstacle.what)) {
        run.terminal.warn(&format!("some of what belongs to the record may be missing: {what}"));
    }
    let found = found.tables;
    let files = if args.rows.with_files { Some(files_of(point, &found, &scratch).await?) } else { None };
    let text = document(point, &found, files.as_deref())?;
    let rows = found.iter().map(|table| table.rows.len() as u64).sum();
    if file == Path::new("-") {
        run.terminal.raw(&text);
        return Ok(());
    }
    let path = run.folder.join(file);
    if path.exists() {
        return Err(Error::Exists { what: format!("`{}` is there already", path.display()) });
    }
    if !args.dry_run {
        let written = std::io::Write::write_all(&mut create_private(&path)?, text.as_bytes());
        written.map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
    }
    let mut page = Page::new();
    page.heading(format!("Records of {}", point.id()));
    page.field(if args.dry_run { "would write" } else { "wrote" }, counted(rows, "record"));
    page.field("into", path.display().to_string());
    let told =
        json!({ "point": point.id(), "file": path.display().to_string(), "records": rows, "dry_run": args.dry_run });
    run.terminal.answer(&page, &told);
    Ok(())
}

/// The database whose foreign keys say what belongs to a record; without children nobody asks.
fn database(run: &Run, args: &RestoreArgs, point: &RecoveryPoint) -> Result<Option<Database>> {
    if !args.rows.with_children {
        return Ok(None);
    }
    Ok(match records_goal(run, args, point)? {
        RecordsGoal::Tables(goal) => Some(goal.place),
        RecordsGoal::Folder(_) => None,
    })
}

/// One document, one record a line.
fn document(point: &RecoveryPoint, found: &[FoundTable], files: Option<&[String]>) -> Result<String> {
    let head = json!({ "point": point.id(), "instant": point.manifest().instant, "files": files });
    let head = head.to_string();
    let mut text = format!("{},\"records\":[", head.trim_end_matches('}'));
    let mut comma = "\n";
    for table in found {
        for row in &table.rows {
            let raw = RawValue::from_string(row.line.clone()).map_err(|cause| {
                Error::damaged_by(format!("the record {} of {} is no JSON", row.name, point.id()), cause)
            })?;
            let line = json!({ "record": row.name, "table": table.records.table });
            // Writing to a text cannot fail.
            let _ = write!(text, "{comma}{},\"values\":{raw}}}", line.to_string().trim_end_matches('}'));
            comma = ",\n";
        }
    }
    text.push_str("\n]}\n");
    Ok(text)
}
