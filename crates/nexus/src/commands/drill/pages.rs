//! What a drill will do and what it came to, as pages and for programs.

use nexus_core::drill::{DatabaseDrilled, Digest, DrillPlan, Drilled, FilesDrilled, Sample};
use nexus_core::point::{Count, Part, Verdict};
use nexus_core::vault::RecoveryPoint;
use serde_json::{Value, json};

use crate::commands::summary;
use crate::page::{Page, Style};
use crate::wording::{count, counted, size, took};

/// The plan.
pub fn plan(plan: &DrillPlan) -> Page {
    let parts = &plan.point.manifest().parts;
    let mut page = Page::new();
    page.heading(format!("Drill of {}", plan.point.id()));
    if let (Some(place), Some(part)) = (&plan.database, &parts.database) {
        page.field("database", format!("{} fetched, restored as {}", size(part.object.bytes), place.place()));
        for doubt in place.doubts() {
            page.field("not known", crate::page::Cell::styled(doubt.clone(), Style::Doubtful));
        }
    }
    if let Some(records) = parts.records.as_ref().filter(|_| plan.parts.contains(&Part::Records)) {
        let bytes = records.tables.iter().map(|table| table.bytes).sum();
        page.field("records", format!("{}, {} fetched and parsed", counted(records.rows, "row"), size(bytes)));
    }
    if let Some(files) = parts.files.as_ref().filter(|_| plan.parts.contains(&Part::Files)) {
        page.field("files", format!("{}, {} compared by listing", files_of(files.total), size(files.total.bytes)));
        page.field("read back", to_read(plan.sample, files.total));
    }
    let room = &plan.room;
    let text = format!("{} needed in {}, {} free", size(room.needed), room.folder.display(), size(room.free));
    let style = if room.needed > room.free { Style::Bad } else { Style::Good };
    page.field("disk", crate::page::Cell::styled(text, style));
    page
}

fn files_of(count: Count) -> String {
    counted(count.files, "file")
}

fn to_read(sample: Sample, total: Count) -> String {
    match sample {
        Sample::Files(number) if number < total.files => {
            format!("{} of {}, chosen by chance", count(number), count(total.files))
        }
        Sample::Files(_) | Sample::All => format!("all {}, {}", count(total.files), size(total.bytes)),
    }
}

/// The plan for programs.
pub fn planned(plan: &DrillPlan) -> Value {
    let parts = &plan.point.manifest().parts;
    let files = parts.files.as_ref().filter(|_| plan.parts.contains(&Part::Files));
    let read = files.map(|files| match plan.sample {
        Sample::Files(number) => number.min(files.total.files),
        Sample::All => files.total.files,
    });
    json!({
        "point": plan.point.id().to_string(),
        "parts": plan.parts,
        "database": plan.database.as_ref().map(|place| json!({
            "place": place.place(),
            "bytes": parts.database.as_ref().map(|part| part.object.bytes),
            "not_known": place.doubts(),
        })),
        "records": parts.records.as_ref().filter(|_| plan.parts.contains(&Part::Records)).map(|records| json!({
            "rows": records.rows,
            "bytes": records.tables.iter().map(|table| table.bytes).sum::<u64>(),
        })),
        "files": files.map(|files| json!({ "compared": files.total, "read": read })),
        "disk": { "needed": plan.room.needed, "free": plan.room.free, "folder": plan.room.folder },
    })
}

/// What it came to.
pub fn report(point: &RecoveryPoint, drilled: &Drilled) -> Page {
    let proof = &drilled.proof;
    let mut page = Page::new();
    page.heading(format!("Drill of {}", point.id()));
    page.field("verdict", summary::verdict(proof.verdict));
    if let Some(database) = &drilled.database {
        database_fields(&mut page, database);
    }
    if let Some(records) = &drilled.records {
        let read = format!("{}, {} parsed", counted(records.files, "file"), counted(records.rows, "row"));
        page.field("records", format!("{read}, {}", moved(records.bytes, records.milliseconds)));
    }
    if let Some(files) = &drilled.files {
        let compared = counted(files.compared, "file");
        page.field("files", format!("{compared} compared by listing in {}", took(files.compared_milliseconds)));
        page.field("read back", read_back(files));
    }
    recovery_fields(&mut page, drilled);
    if proof.sampled.is_some() && proof.verdict == Verdict::Verified {
        page.field("counts as", "default depth: a sample never counts as more; --files all reads every file");
    }
    page.field("took", format!("{} in all, {} read", took(proof.milliseconds), size(proof.bytes_read)));
    summary::findings(&mut page, "Findings", &proof.findings, Some(proof.findings_total));
    page
}

fn database_fields(page: &mut Page, database: &DatabaseDrilled) {
    let place = &database.place;
    match (database.fetched, database.restored) {
        (Some(fetched), Some(restored)) => {
            page.field("database", format!("restored as {place}, and removed again"));
            page.field("fetched", moved(database.bytes, fetched));
            page.field("restored", format!("in {}", took(restored)));
        }
        (Some(fetched), None) => {
            page.field("database", crate::page::Cell::styled("fetched, and not restored", Style::Bad));
            page.field("fetched", moved(database.bytes, fetched));
        }
        (None, _) => page.field("database", crate::page::Cell::styled("not restored", Style::Bad)),
    }
    if let (Some(checked), Some(digest)) = (database.checked, database.digest) {
        let counted = format!("{}, {}", counted(database.tables, "table"), counted(database.rows, "row"));
        page.field("checked", format!("{counted} in {}; {}", took(checked), digested(digest)));
    }
    for doubt in &database.doubts {
        page.field("note", crate::page::Cell::styled(doubt.clone(), Style::Doubtful));
    }
}

fn digested(digest: Digest) -> String {
    match digest {
        Digest::Compared { equal, of } => {
            format!("{} of {} tables are as their records by SHA-256", count(equal), count(of))
        }
        Digest::NoRecords => "the point has no records to compare them with that this tool wrote".to_owned(),
    }
}

/// Bytes, time and rate: `57.6 MB in 0.4 s (144 MB/s)`.
fn moved(bytes: u64, milliseconds: u64) -> String {
    let rate = bytes.saturating_mul(1_000) / milliseconds.max(1);
    format!("{} in {} ({}/s)", size(bytes), took(milliseconds), size(rate))
}

fn read_back(files: &FilesDrilled) -> String {
    let read = moved(files.read.bytes, files.milliseconds);
    match files.sampled() {
        Some(sampled) => {
            format!("sampled {} of {}: {read}", count(sampled.read.files), count(sampled.of.files))
        }
        None => format!("all {}: {read}", count(files.read.files)),
    }
}

/// How long a recovery takes: what was measured, and what is no more than extrapolated.
fn recovery_fields(page: &mut Page, drilled: &Drilled) {
    let mut known = Vec::new();
    if let Some(database) = drilled.database.as_ref().and_then(restored) {
        known.push(format!("database {} measured", took(database)));
    }
    if let Some(records) = &drilled.records {
        known.push(format!("records {} measured", took(records.milliseconds)));
    }
    if !known.is_empty() {
        page.field("recovery", known.join(", "));
    }
    let Some(files) = &drilled.files else { return };
    let text = match (files.extrapolated(), files.sampled()) {
        (Some(all), None) => format!("files {} measured", took(all)),
        (Some(all), Some(sampled)) => format!(
            "about {} for {}, {}, extrapolated from {}, {}",
            took(all),
            files_of(sampled.of),
            size(sampled.of.bytes),
            files_of(sampled.read),
            size(sampled.read.bytes)
        ),
        (None, _) => "files not measured: none were read".to_owned(),
    };
    page.field("recovery", text);
}

fn restored(database: &DatabaseDrilled) -> Option<u64> {
    Some(database.fetched? + database.restored?)
}

/// What it came to, for programs.
pub fn reported(point: &RecoveryPoint, drilled: &Drilled) -> Value {
    let proof = &drilled.proof;
    let database = drilled.database.as_ref();
    json!({
        "point": point.id().to_string(),
        "vault": point.vault().address().to_string(),
        "verdict": proof.verdict,
        "depth": proof.depth,
        "recorded": drilled.unrecorded.is_none(),
        "proof": proof,
        "database": database.map(|database| json!({
            "place": database.place,
            "bytes": database.bytes,
            "fetched_milliseconds": database.fetched,
            "restored_milliseconds": database.restored,
            "checked_milliseconds": database.checked,
            "tables": database.tables,
            "rows": database.rows,
            "equal_to_records": database.digest.map(|digest| match digest {
                Digest::Compared { equal, of } => json!({ "tables": equal, "of": of }),
                Digest::NoRecords => Value::Null,
            }),
            "notes": database.doubts,
        })),
        "records": drilled.records.as_ref().map(|records| json!({
            "files": records.files,
            "rows": records.rows,
            "bytes": records.bytes,
            "milliseconds": records.milliseconds,
        })),
        "files": drilled.files.as_ref().map(|files| json!({
            "compared": files.compared,
            "read": files.read,
            "of": files.of,
            "milliseconds": files.milliseconds,
        })),
        "recovery": {
            "database_milliseconds": database.and_then(restored),
            "records_milliseconds": drilled.records.as_ref().map(|records| records.milliseconds),
            "files_milliseconds": drilled.files.as_ref().and_then(FilesDrilled::extrapolated),
            "files_extrapolated": drilled.files.as_ref().map(|files| files.sampled().is_some()),
        },
    })
}
