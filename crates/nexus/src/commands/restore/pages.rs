//! What restore will do and what it did, as pages and for programs.

use nexus_core::database::load::{Conflict, LoadMode, Loaded, LoadedTable, TableToLoad};
use nexus_core::database::postgres::{Place, PostgresPlan};
use nexus_core::database::sqlite::Condition;
use nexus_core::files::restore::{Extra, FilesPlanned};
use nexus_core::point::{Count, Part, PointId};
use nexus_core::restore::{RecordsTarget, RestorePlan, RestoreReport, TablesPlanned, Way};
use serde_json::{Value, json};

use super::targets::{RecordsGoal, Targets};
use crate::cli::RestoreArgs;
use crate::page::{Cell, Page, Style};
use crate::run::Run;
use crate::wording::{command_line, count, counted, size};

/// The plan.
pub fn plan(plan: &RestorePlan, targets: &Targets, args: &RestoreArgs) -> Page {
    let mut page = Page::new();
    page.heading(format!("Restore of {}", plan.point.id()));
    if let Some(adopted) = &plan.point.manifest().adopted {
        page.field("adopted", super::super::summary::adopted(adopted));
    }
    if let (Some(planned), Some(goal)) = (&plan.database, &targets.database) {
        page.field("database", target(&planned.target, goal.own));
        match &planned.way {
            Way::IntoFile(now) => page.field("there now", condition(now)),
            Way::OnServer(server) => server_fields(&mut page, server, args),
        }
        page.field("will have", counted(planned.rows, "row"));
    }
    if let (Some(planned), Some(files)) = (&plan.files, &targets.files) {
        page.field("files", target(&files.goal.place.to_string(), files.goal.own));
        files_fields(&mut page, planned, args.delete_extra);
    }
    match (&targets.records, &plan.tables) {
        (Some(RecordsGoal::Folder(folder)), _) => page.field("records", folder.display().to_string()),
        (Some(RecordsGoal::Tables(goal)), Some(planned)) => {
            page.field("records into", target(&planned.target, goal.own));
            page.field("mode", mode(planned.mode));
        }
        (Some(RecordsGoal::Tables(goal)), None) => page.field("records into", target(&goal.place.location(), goal.own)),
        _ => {}
    }
    page.field("safety point", safety(plan, args));
    if let Some(planned) = &plan.rows {
        super::rows::page(&mut page, planned, args);
    }
    if let Some(planned) = &plan.tables {
        page.columns(["TABLE", "ROWS NOW", "RECORDS"]);
        for table in &planned.tables {
            page.row([
                table.records.table.clone().into(),
                count(table.present).into(),
                count(table.records.rows).into(),
            ]);
        }
    }
    page
}

fn mode(mode: LoadMode) -> Cell {
    match mode {
        LoadMode::Replace => Cell::styled("replace: rows that are there now go", Style::Doubtful),
        LoadMode::AddMissing(Conflict::Refuse) => {
            "add missing rows; other values under the same key change nothing".into()
        }
        LoadMode::AddMissing(Conflict::KeepPresent) => "add missing rows; other values under the same key stay".into(),
        LoadMode::AddMissing(Conflict::Overwrite) => {
            Cell::styled("add missing rows; other values under the same key are overwritten", Style::Doubtful)
        }
    }
}

fn mode_name(mode: LoadMode) -> &'static str {
    match mode {
        LoadMode::Replace => "replace",
        LoadMode::AddMissing(Conflict::Refuse) => "add-missing",
        LoadMode::AddMissing(Conflict::KeepPresent) => "add-missing, keep-present",
        LoadMode::AddMissing(Conflict::Overwrite) => "add-missing, overwrite",
    }
}

fn target(place: &str, own: bool) -> Cell {
    if own { place.into() } else { Cell::styled(format!("{place} (not where it came from)"), Style::Doubtful) }
}

fn server_fields(page: &mut Page, server: &PostgresPlan, args: &RestoreArgs) {
    match &server.place {
        Place::Within => {
            let there = format!("a database of {}, which is emptied and filled in one transaction", size(server.size));
            page.field("there now", there);
        }
        Place::Beside { kept: None, .. } => page.field("there now", "nothing"),
        Place::Beside { kept: Some(kept), .. } => {
            page.field("there now", format!("a database of {}, which is kept as {kept}", size(server.size)));
        }
    }
    if let Place::Beside { fresh, .. } = &server.place {
        page.field("filled as", fresh.clone());
    }
    for session in &server.sessions {
        let label = if args.end_sessions { "ended" } else { "must leave" };
        page.field(label, Cell::styled(session.clone(), Style::Doubtful));
    }
    for unknown in &server.unknown {
        page.field("not checked", Cell::styled(unknown.clone(), Style::Doubtful));
    }
}

fn condition(condition: &Condition) -> Cell {
    match condition {
        Condition::Absent => "nothing".into(),
        Condition::Empty => "an empty file, which is put aside".into(),
        Condition::Healthy { bytes, .. } => format!("a database of {}, which is overwritten", size(*bytes)).into(),
        Condition::Broken(reason) => {
            Cell::styled(format!("a broken database, which is put aside: {reason}"), Style::Doubtful)
        }
    }
}

fn files_fields(page: &mut Page, planned: &FilesPlanned, delete_extra: bool) {
    let words =
        |counted_files: Count| format!("{}, {}", counted(counted_files.files, "file"), size(counted_files.bytes));
    page.field("as they were", words(planned.same));
    page.field("missing", format!("{}: put back", words(planned.missing)));
    page.field("different", format!("{}: overwritten", words(planned.different)));
    let extra = words(planned.extra);
    if delete_extra && planned.extra.files > 0 {
        page.field("extra", Cell::styled(format!("{extra}: REMOVED"), Style::Bad));
    } else if planned.extra.files > 0 {
        page.field("extra", format!("{extra}: left (--delete-extra removes them)"));
    }
    for prefix in &planned.spared {
        page.field("spared", format!("{prefix}** holds a vault or backups and is left alone"));
    }
}

fn safety(plan: &RestorePlan, args: &RestoreArgs) -> Cell {
    let parts: Vec<_> = plan.at_risk().into_iter().map(Part::name).collect();
    match &plan.resumes {
        Some(taken) => format!("{taken} was taken by the run that broke off").into(),
        None if args.no_safety_point => Cell::styled("none, as asked", Style::Doubtful),
        None if parts.is_empty() => "none needed: nothing would be lost".into(),
        None => format!("of {} first", parts.join(" and ")).into(),
    }
}

/// The plan for programs.
pub fn planned(plan: &RestorePlan, args: &RestoreArgs) -> Value {
    let database = plan.database.as_ref().map(|planned| {
        let (word, reason) = match &planned.way {
            Way::IntoFile(Condition::Absent) => ("absent", None),
            Way::IntoFile(Condition::Empty) => ("empty", None),
            Way::IntoFile(Condition::Healthy { .. }) => ("healthy", None),
            Way::IntoFile(Condition::Broken(reason)) => ("broken", Some(reason)),
            Way::OnServer(server) => {
                let (fresh, kept) = match &server.place {
                    Place::Beside { fresh, kept } => (Some(fresh), kept.as_ref()),
                    Place::Within => (None, None),
                };
                return json!({
                    "target": planned.target,
                    "condition": if server.loses() { "healthy" } else { "absent" },
                    "rows": planned.rows,
                    "filled_as": fresh,
                    "kept_as": kept,
                    "sessions": server.sessions,
                    "not_checked": server.unknown,
                });
            }
        };
        json!({ "target": planned.target, "condition": word, "reason": reason, "rows": planned.rows })
    });
    let files = plan.files.as_ref().zip(plan.request.files.as_ref()).map(|(planned, target)| {
        json!({
            "target": target.address.to_string(),
            "same": planned.same,
            "missing": planned.missing,
            "different": planned.different,
            "extra": planned.extra,
            "extra_removed": target.extra == Extra::Delete,
            "spared": planned.spared,
        })
    });
    json!({
        "point": plan.point.id(),
        "dry_run": true,
        "database": database,
        "files": files,
        "records": match &plan.request.records {
            Some(RecordsTarget::Folder(folder)) => Some(folder),
            _ => None,
        },
        "tables": plan.tables.as_ref().map(planned_tables),
        "rows": plan.rows.as_ref().map(super::rows::planned),
        "safety_point_of": if args.no_safety_point { Vec::new() } else { plan.at_risk() },
        "resumes": plan.resumes,
    })
}

fn planned_tables(planned: &TablesPlanned) -> Value {
    let table = |table: &TableToLoad| json!({ "table": table.records.table, "records": table.records.rows, "rows_now": table.present });
    json!({
        "target": planned.target,
        "mode": mode_name(planned.mode),
        "tables": planned.tables.iter().map(table).collect::<Vec<_>>(),
    })
}

/// True when everything that was compared is as it was.
pub fn all_equal(report: &RestoreReport) -> bool {
    let loaded = report.loaded.as_ref().is_none_or(|loaded| loaded.committed);
    let files = report.files.is_none_or(|files| files.equal == files.wanted);
    let database = report.database.as_ref().is_none_or(|database| database.equal_tables == database.tables);
    files && database && loaded
}

/// Prints what was done.
pub fn tell(run: &Run, args: &RestoreArgs, id: &PointId, report: &RestoreReport, safety: Option<&PointId>) {
    // Where nothing was changed there is nothing to undo.
    let changed = report.loaded.as_ref().is_none_or(|loaded| loaded.committed);
    let single = !args.rows.record.is_empty();
    let undo = safety.filter(|_| changed).map(|safety| {
        if single { super::rows::undo(run, safety, report) } else { undo(run, safety, report.files.is_some(), args) }
    });
    run.terminal.answer(&page(id, report, safety, undo.as_deref()), &restored(id, report, safety, undo.as_deref()));
    if let Some(error) = &report.unrecorded {
        run.terminal.warn(&format!("the point's journal does not say that it was restored: {error}"));
    }
}

fn undo(run: &Run, safety: &PointId, files: bool, args: &RestoreArgs) -> String {
    let (id, reach) = (safety.to_string(), run.reach());
    let extra = files.then_some("--delete-extra");
    // What this role could not do on the way there it cannot do on the way back.
    let in_place = args.in_place.then_some("--in-place");
    let words = ["nexus", "restore", &id].into_iter().chain(extra).chain(in_place);
    command_line(words.chain(reach.iter().map(String::as_str)))
}

fn page(id: &PointId, report: &RestoreReport, safety: Option<&PointId>, undo: Option<&str>) -> Page {
    let of = |equal: u64, all: u64, what: &str| {
        let style = if equal == all { Style::Good } else { Style::Bad };
        Cell::styled(format!("{} of {} {what}", count(equal), count(all)), style)
    };
    let mut page = Page::new();
    let changed = report.loaded.as_ref().is_none_or(|loaded| loaded.committed);
    page.heading(if changed { format!("Restored {id}") } else { format!("Not restored: {id}") });
    if let Some(files) = &report.files {
        page.field("files", of(files.equal.files, files.wanted.files, "files are as they were"));
        page.field("put back", format!("{}, {}", counted(files.copied.files, "file"), size(files.copied.bytes)));
        if files.removed.files > 0 {
            page.field("removed", counted(files.removed.files, "file"));
        }
    }
    if let Some(database) = &report.database {
        page.field("database", of(database.equal_tables, database.tables, "tables are as they were"));
        page.field("rows", count(database.rows));
        for lost in &database.unkept {
            page.field("not kept", Cell::styled(lost.clone(), Style::Doubtful));
        }
        if let Some(kept) = &database.kept {
            page.field("before", format!("the database of before is {kept}"));
            page.field("go back", database.go_back.join(" "));
            page.field("remove it", format!("DROP DATABASE \"{}\";", kept.replace('"', "\"\"")));
        }
    }
    if let Some(records) = report.records {
        page.field("records", of(records, records, "record files are as they were"));
    }
    if let Some(loaded) = &report.loaded {
        loaded_fields(&mut page, loaded);
    }
    for (from, to) in report.put_aside.iter().flat_map(|aside| &aside.moved) {
        page.field("put aside", format!("{} is now {}", from.display(), to.display()));
    }
    if let (Some(safety), Some(undo)) = (safety, undo) {
        page.field("before that", safety.to_string());
        page.field("undo", undo.to_owned());
        if !report.replaced_rows.is_empty() || !report.replaced_files.is_empty() {
            page.field("it leaves", "rows and files that were not there before, and were added");
        }
    }
    if let Some(loaded) = &report.loaded {
        loaded_table(&mut page, loaded);
    }
    page
}

fn loaded_fields(page: &mut Page, loaded: &Loaded) {
    let records = loaded.tables.iter().map(|table| table.records).sum::<u64>();
    let (tables, conflicts) = (counted(loaded.tables.len() as u64, "table"), loaded.conflicts());
    if loaded.committed && loaded.kept() == 0 {
        let verdict = format!("{} in {tables} are there as they were", counted(records, "record"));
        page.field("records", Cell::styled(verdict, Style::Good));
    } else if loaded.committed {
        let (there, kept) = (counted(records - loaded.kept(), "record"), counted(loaded.kept(), "row"));
        let verdict = format!("{there} in {tables} are there as they were, {kept} stayed with other values, as asked");
        page.field("records", Cell::styled(verdict, Style::Doubtful));
    } else {
        let verdict = format!("{} of the point have other values now: nothing was changed", counted(conflicts, "key"));
        page.field("records", Cell::styled(verdict, Style::Bad));
        page.field("or else", "--keep-present leaves them, --overwrite makes them what they were");
    }
    for table in loaded.tables.iter().filter(|table| table.conflicts > 0) {
        let more = table.conflicts.saturating_sub(table.examples.len() as u64);
        let more = if more > 0 { format!(" and {} more", count(more)) } else { String::new() };
        page.field("other values", format!("{}: {}{more}", table.table, table.examples.join("; ")));
    }
    for left in &loaded.left {
        page.field("run as well", left.clone());
    }
}

fn loaded_table(page: &mut Page, loaded: &Loaded) {
    page.columns(["TABLE", "RECORDS", "ADDED", "REMOVED", "OTHER VALUES"]);
    for table in &loaded.tables {
        let numbers = [table.records, table.added, table.removed, table.conflicts];
        let [records, added, removed, conflicts] = numbers.map(|number| Cell::from(count(number)));
        page.row([table.table.clone().into(), records, added, removed, conflicts]);
    }
}

fn loaded_json(loaded: &Loaded) -> Value {
    let table = |table: &LoadedTable| {
        json!({
            "table": table.table,
            "records": table.records,
            "added": table.added,
            "removed": table.removed,
            "conflicts": table.conflicts,
            "examples": table.examples,
        })
    };
    json!({
        "committed": loaded.committed,
        "conflicts": loaded.conflicts(),
        "kept": if loaded.committed { loaded.kept() } else { 0 },
        "tables": loaded.tables.iter().map(table).collect::<Vec<_>>(),
        "run_as_well": loaded.left,
    })
}

fn restored(id: &PointId, report: &RestoreReport, safety: Option<&PointId>, undo: Option<&str>) -> Value {
    let database = report.database.as_ref().map(|database| {
        json!({
            "tables": database.tables,
            "equal_tables": database.equal_tables,
            "rows": database.rows,
            "journal_mode": database.journal_mode,
            "kept_as": database.kept,
            "go_back": database.go_back,
            "not_kept": database.unkept,
        })
    });
    let put_aside: Vec<Value> = report
        .put_aside
        .iter()
        .flat_map(|aside| &aside.moved)
        .map(|(from, to)| json!({ "from": from.display().to_string(), "to": to.display().to_string() }))
        .collect();
    json!({
        "point": id,
        "equal": all_equal(report),
        "database": database,
        "files": report.files,
        "record_files": report.records,
        "loaded": report.loaded.as_ref().map(loaded_json),
        "put_aside": put_aside,
        "safety_point": safety,
        "undo_command": undo,
        "recorded": report.unrecorded.is_none(),
    })
}
