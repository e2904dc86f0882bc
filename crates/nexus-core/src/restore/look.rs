//! The point, looked at before the first write: what a restore needs of it must be there.

use super::{NAMED, RecordsTarget, RestoreRequest};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::files::restore::FilesPlanned;
use crate::files::rules::Rules;
use crate::local::Scratch;
use crate::point::{Depth, Finding, Part, RecordTable, Verdict};
use crate::vault::RecoveryPoint;
use crate::verify::{self, LocalRecords, VerifyRequest};

/// Refuses what the default depth shows, but for the copies of files: which of them matter shows by the target.
pub(super) async fn at_point(
    point: &RecoveryPoint,
    parts: &[Part],
    request: &RestoreRequest,
    scratch: &Scratch,
    events: &Events,
) -> Result<()> {
    // The database is left out here: its copy is fetched whole for the restore itself, and hashed on the way.
    // Of single records only the files of their tables are read, and each is hashed when it is.
    let single = matches!(request.records, Some(RecordsTarget::Rows(_)));
    let left_out = |part: Part| part == Part::Database || single && part == Part::Records;
    let looked: Vec<Part> = parts.iter().copied().filter(|part| !left_out(*part)).collect();
    if looked.is_empty() {
        return Ok(());
    }
    let look = VerifyRequest { depth: Depth::Default, parts: looked, local: LocalRecords::Ignore };
    let verified = verify::check_but_copies(point, &look, scratch, events).await?;
    if let (Verdict::CouldNotVerify, Some(error)) = (verified.proof.verdict, verified.trouble) {
        return Err(error);
    }
    refuse(point, verified.proof.findings.iter().filter(|finding| matters(finding, point, request)))
}

/// Refuses when copies of files are not as they were: of all files, or where few are to be put back, of those.
pub(super) async fn at_copies(
    point: &RecoveryPoint,
    request: &RestoreRequest,
    planned: Option<&FilesPlanned>,
    scratch: &Scratch,
    events: &Events,
) -> Result<()> {
    let Some(planned) = planned else { return Ok(()) };
    let compared = planned.look_at_copies(point, scratch, events).await?;
    refuse(point, compared.wrong.values().filter(|finding| matters(finding, point, request)))
}

fn refuse<'a>(point: &RecoveryPoint, findings: impl Iterator<Item = &'a Finding>) -> Result<()> {
    let matter: Vec<&Finding> = findings.collect();
    if matter.is_empty() {
        return Ok(());
    }
    let some: Vec<_> =
        matter.iter().take(NAMED).map(|finding| format!("{}: {}", finding.name, finding.detail)).collect();
    Err(Error::damaged(format!("{} is damaged, {} findings: {}", point.id(), matter.len(), some.join("; "))))
}

/// Damage to files that were not selected does not stand in the way of those that were; nor does that of an index, which a
/// restore does not read.
fn matters(finding: &Finding, point: &RecoveryPoint, request: &RestoreRequest) -> bool {
    if let (Some(Part::Records), Some(records)) = (finding.part, &point.manifest().parts.records)
        && verify::is_index(records, &finding.name)
    {
        return false;
    }
    if let (Some(Part::Records), Some(RecordsTarget::Tables(target)), Some(records)) =
        (finding.part, &request.records, &point.manifest().parts.records)
    {
        let is = |file: &str| finding.name.ends_with(&format!("/{file}"));
        let of = |table: &&RecordTable| is(&table.file);
        let about = records.tables.iter().find(of);
        let asked = |table: &RecordTable| target.tables.iter().any(|name| *name == table.name || *name == table.table);
        return about.is_none_or(|table| target.tables.is_empty() || asked(table));
    }
    let Some(target) =
        request.files.as_ref().filter(|target| finding.part == Some(Part::Files) && !target.selection.is_all())
    else {
        return finding.part.is_some();
    };
    let Some(files) = &point.manifest().parts.files else { return true };
    let is_listing = finding.name == files.listing.key;
    let rules = Rules::new(&files.rules);
    is_listing || rules.map_or(true, |rules| target.selection.takes(rules.category(&finding.name), &finding.name))
}
