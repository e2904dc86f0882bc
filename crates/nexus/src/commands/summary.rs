//! The parts of a point in words: what `backup` ends with and `show` shows.

use std::path::Path;

use jiff::Timestamp;
use nexus_core::point::{Adopted, Copies, CopyOf, DatabaseKind, FilesPart, Finding, Part, Verdict};
use nexus_core::vault::RecoveryPoint;

use super::state::part_expiry;
use crate::page::{Cell, Page, Style};
use crate::run::Run;
use crate::wording::{command_line, count, counted, size, word};

/// Tables listed at most; the rest is counted, and in the JSON.
const MOST_TABLES: usize = 40;
/// Findings listed at most.
const MOST_FINDINGS: usize = 50;

/// The complete command that brings a point back from here.
pub fn restore_command(run: &Run, point: &RecoveryPoint) -> String {
    restore_command_with(run, point, &[])
}

/// The same with more flags.
pub fn restore_command_with(run: &Run, point: &RecoveryPoint, flags: &[&str]) -> String {
    let (id, reach) = (point.id().to_string(), run.reach());
    let mut words = vec!["nexus", "restore", &id];
    words.extend(flags);
    let left: Vec<&str> = point.kept().into_iter().map(Part::name).collect();
    let left = left.join(",");
    if !point.entries().expired().is_empty() && !flags.contains(&"--only") {
        words.extend(["--only", &left]);
    }
    let own = point.manifest().parts.database.as_ref().map(|part| part.source.as_str());
    if let Some(own) = own.filter(|own| run.settings.names_another_database(own)) {
        words.extend(["--to-database", own]);
    }
    command_line(words.into_iter().chain(reach.iter().map(String::as_str)))
}

/// What is to be known of a point that an older tool had left.
pub fn adopted(adopted: &Adopted) -> String {
    format!("not of one instant, {} s apart; left by an older tool", adopted.apart_seconds)
}

/// What is to be known of a point that is a copy.
pub fn copy_of(copy: &CopyOf) -> String {
    format!("of a point in {}", copy.vault)
}

/// The fields of the database.
pub fn database(page: &mut Page, point: &RecoveryPoint, now: Timestamp) {
    let manifest = point.manifest();
    let Some(part) = &manifest.parts.database else { return };
    page.field("location", point.vault().name(&part.object.key));
    page.field("source", part.source.clone());
    page.field("size", size(part.object.bytes));
    page.field("sha256", part.object.sha256.clone());
    match &part.kind {
        DatabaseKind::Sqlite { sqlite } => {
            let dangling: u64 = sqlite.foreign_key_violations.values().sum();
            page.field("kind", format!("SQLite, journal mode {}, page size {}", sqlite.journal_mode, sqlite.page_size));
            if dangling > 0 {
                let text = format!("{} of foreign keys, as in the source", counted(dangling, "violation"));
                page.field("integrity", Cell::styled(text, Style::Doubtful));
            }
        }
        DatabaseKind::Postgres { postgres } => {
            let made = format!("{}, {}", postgres.client, postgres.compression);
            page.field("kind", format!("PostgreSQL {}, by {made}", postgres.server));
            if let Some(globals) = &postgres.globals {
                page.field("roles", point.vault().name(&globals.key));
            }
            for lack in &postgres.lacks {
                page.field("not kept", Cell::styled(lack.clone(), Style::Doubtful));
            }
        }
    }
    let rows = part.tables.values().sum();
    page.field("tables", format!("{} with {}", count(part.tables.len() as u64), counted(rows, "row")));
    page.field("expires", part_expiry(manifest, point.entries(), Part::Database, now));
}

/// The fields of the files.
pub fn files(page: &mut Page, point: &RecoveryPoint, now: Timestamp) {
    let manifest = point.manifest();
    let Some(part) = &manifest.parts.files else { return };
    page.field("location", point.vault().name(&format!("{}/", point.id())));
    page.field("source", part.source.clone());
    if let Some(endpoint) = &part.endpoint {
        page.field("endpoint", endpoint.clone());
    }
    for (category, of) in &part.categories {
        page.field("category", format!("{category}: {}, {}", counted(of.files, "file"), size(of.bytes)));
    }
    page.field("total", format!("{}, {}", counted(part.total.files, "file"), size(part.total.bytes)));
    page.field("copied", format!("{}, {}", counted(part.copied.files, "file"), size(part.copied.bytes)));
    if part.reused.files > 0 {
        let base = manifest.base.as_ref().map(|base| format!(" from {base}")).unwrap_or_default();
        page.field("reused", format!("{}, {}{base}", counted(part.reused.files, "file"), size(part.reused.bytes)));
    }
    if part.excluded.files > 0 {
        page.field(
            "left out",
            format!("{}, {} by the rules", counted(part.excluded.files, "file"), size(part.excluded.bytes)),
        );
    }
    let proofs: Vec<_> =
        part.proofs.iter().map(|(kind, number)| format!("{} by {}", count(*number), word(kind))).collect();
    if !proofs.is_empty() {
        page.field("compared", proofs.join(", "));
    }
    page.field("copies", copies(part));
    page.field("expires", part_expiry(manifest, point.entries(), Part::Files, now));
}

fn copies(part: &FilesPart) -> Cell {
    match part.copies {
        Copies::Versions => {
            let text = format!("none: they are versions in {}, and a restore needs that bucket", part.source);
            Cell::styled(text, Style::Doubtful)
        }
        copies => copies.to_string().into(),
    }
}

/// The fields of the records.
pub fn records(page: &mut Page, point: &RecoveryPoint, folder: Option<&Path>, now: Timestamp) {
    let manifest = point.manifest();
    let Some(part) = &manifest.parts.records else { return };
    if part.in_vault {
        page.field("records", point.vault().name(&format!("{}/records/", point.id())));
    }
    if let Some(folder) = folder {
        page.field("folder", folder.display().to_string());
    }
    let bytes = part.tables.iter().map(|table| table.bytes).sum();
    let tables = counted(part.tables.len() as u64, "table");
    page.field("rows", format!("{} in {tables}, {}", counted(part.rows, "row"), size(bytes)));
    page.field("records expire", part_expiry(manifest, point.entries(), Part::Records, now));
    for (name, reason) in &part.skipped {
        page.field("left out", Cell::styled(format!("{name}: {reason}"), Style::Doubtful));
    }
}

/// The records by table.
pub fn tables(page: &mut Page, point: &RecoveryPoint) {
    let Some(part) = &point.manifest().parts.records else { return };
    page.columns(["  TABLE", "ROWS", "SIZE"]);
    for table in part.tables.iter().take(MOST_TABLES) {
        page.row([format!("  {}", table.name).into(), count(table.rows).into(), size(table.bytes).into()]);
    }
    if part.tables.len() > MOST_TABLES {
        page.line(format!("  … and {} more", count((part.tables.len() - MOST_TABLES) as u64)));
    }
}

/// What was found wrong; `total` when there is more than is at hand.
pub fn findings(page: &mut Page, title: &str, findings: &[Finding], total: Option<u64>) {
    if findings.is_empty() {
        return;
    }
    let total = total.unwrap_or(findings.len() as u64);
    page.heading(format!("{title}: {}", count(total)));
    for finding in findings.iter().take(MOST_FINDINGS) {
        let part = finding.part.map_or("point", Part::name);
        page.row([
            format!("  {part}").into(),
            Cell::styled(word(&finding.kind), Style::Bad),
            finding.name.clone().into(),
            finding.detail.clone().into(),
        ]);
    }
    let shown = findings.len().min(MOST_FINDINGS) as u64;
    if total > shown {
        page.line(format!("  … and {} more", count(total - shown)));
    }
}

/// A verdict for a page.
pub fn verdict(verdict: Verdict) -> Cell {
    let style = match verdict {
        Verdict::Verified => Style::Good,
        Verdict::Failed => Style::Bad,
        Verdict::CouldNotVerify => Style::Doubtful,
    };
    Cell::styled(verdict.to_string(), style)
}
