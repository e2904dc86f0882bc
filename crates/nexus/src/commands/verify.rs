//! `verify`: a point against what was recorded when it was made, with a proof in its journal.

use nexus_core::error::Result;
use nexus_core::point::references::References;
use nexus_core::point::{Depth, Part, Proof, Verdict};
use nexus_core::vault::RecoveryPoint;
use nexus_core::verify::{Verified, VerifyRequest, verify};
use serde::Serialize;

use super::show::{damage_stays, passed_over};
use super::{references, summary};
use crate::cli::VerifyArgs;
use crate::failure::Outcome;
use crate::page::Page;
use crate::run::Run;
use crate::wording::{counted, size, took};

/// A look for programs.
#[derive(Debug, Serialize)]
struct Looked<'a> {
    point: String,
    vault: String,
    verdict: Verdict,
    proof: &'a Proof,
    /// True when record files of this machine were there and hashed too.
    /// Whether the record files on this machine are as they were; null: they are not here.
    local_records: Option<bool>,
    /// True when the journal holds the proof now.
    recorded: bool,
}

/// Looks. Damage is a bad answer; not being able to look is an error.
pub async fn run(run: &Run, args: &VerifyArgs) -> Result<Outcome> {
    let depth = match (args.quick, args.full) {
        (true, _) => Depth::Quick,
        (_, true) => Depth::Full,
        _ => Depth::Default,
    };
    let vault = run.vault().await?;
    let mut needs = args.only.clone();
    if args.references {
        needs.extend([Part::Records, Part::Files]);
    }
    let mut found = vault.find(&args.point, &needs).await?;
    found.point = run.with_source(found.point).await?;
    passed_over(run, &found);
    let wanted = args.references.then(|| references::wanted(run, &found.point)).transpose()?;
    let request = VerifyRequest { depth, parts: args.only.clone(), ..VerifyRequest::whole() };
    let mut looked = verify(&found.point, &request, run.scratch.path(), &run.clock, &run.events).await?;
    let answer = Looked {
        point: found.point.id().to_string(),
        vault: vault.address().to_string(),
        verdict: looked.proof.verdict,
        proof: &looked.proof,
        local_records: looked.local_records.as_ref().map(Vec::is_empty),
        recorded: looked.unrecorded.is_none(),
    };
    match looked.trouble.take() {
        Some(trouble) if looked.proof.verdict == Verdict::CouldNotVerify => return Err(trouble),
        Some(trouble) => run.terminal.warn(&format!("the look broke off, so there may be more: {trouble}")),
        None => {}
    }
    let checked = match wanted {
        Some(wanted) => Some(nexus_core::references::look(&found.point, &wanted, &run.scratch, &run.events).await),
        None => None,
    };
    let references = tell(run, &page(&found.point, &looked), &answer, checked)?;
    if let Some(references) = &references {
        references::remarks(run, &found.point, references);
    }
    if let Some(error) = &looked.unrecorded {
        run.terminal.warn(&format!("the point's journal does not say so: {error}"));
    }
    damage_stays(run, &found.point, &looked.proof);
    let local = looked.local_records.is_none_or(|findings| findings.is_empty());
    let broken = references::is_broken(references.as_ref(), &args.strict);
    Ok(Outcome::of(looked.proof.verdict == Verdict::Verified && local && !broken))
}

/// Prints the answer, and what was seen of references; that they could not be looked at is an error, unless damage was found.
fn tell(
    run: &Run,
    page: &Page,
    answer: &Looked<'_>,
    checked: Option<Result<nexus_core::references::Looked>>,
) -> Result<Option<References>> {
    let looked = match checked {
        Some(Ok(looked)) => looked,
        Some(Err(error)) if answer.verdict == Verdict::Verified => {
            // What was proven is told all the same; a document is one, and the error's.
            if !run.terminal.wants_json() {
                run.terminal.answer(page, answer);
            }
            return Err(error);
        }
        Some(Err(error)) => {
            run.terminal.answer(page, answer);
            run.terminal.warn(&format!("references could not be checked: {error}"));
            return Ok(None);
        }
        None => {
            run.terminal.answer(page, answer);
            return Ok(None);
        }
    };
    if run.terminal.wants_json() {
        references::list_json(run, answer, &looked.references, looked.findings)?;
        return Ok(Some(looked.references));
    }
    let mut page = page.clone();
    references::page(&mut page, &looked.references);
    run.terminal.answer(&page, answer);
    if let Some(findings) = looked.findings {
        references::list(run, findings)?;
    }
    Ok(Some(looked.references))
}

fn page(point: &RecoveryPoint, looked: &Verified) -> Page {
    let proof = &looked.proof;
    let mut page = Page::new();
    page.heading(format!("{} at depth {}", point.id(), proof.depth));
    page.field("verdict", summary::verdict(proof.verdict));
    if let Some(adopted) = &point.manifest().adopted {
        page.field("adopted", summary::adopted(adopted));
    }
    let parts: Vec<_> = proof.parts.iter().map(|part| part.name()).collect();
    page.field("parts", parts.join(", "));
    if proof.parts.contains(&Part::Files) {
        page.field("files", counted(proof.files, "file"));
    }
    if let Some(records) = point.manifest().parts.records.as_ref().filter(|_| proof.parts.contains(&Part::Records)) {
        // A quick look counts no rows.
        let counted_rows = proof.depth != Depth::Quick;
        let rows =
            if counted_rows { counted(proof.rows, "row") } else { counted(records.tables.len() as u64, "table") };
        page.field("records", rows);
        if let Some(folder) = records.folder.as_deref().filter(|_| counted_rows) {
            let here = match &looked.local_records {
                None => "not here",
                Some(_) if !records.in_vault && proof.findings.iter().any(|one| one.part == Some(Part::Records)) => {
                    "not as they were"
                }
                Some(_) if !records.in_vault => "hashed, all as they were",
                Some(findings) if findings.is_empty() => "hashed too, all as they were",
                Some(_) => "not as they were; the vault's are what counts",
            };
            page.field("on this machine", format!("{folder}: {here}"));
        }
    }
    page.field("read", format!("{} in {}", size(proof.bytes_read), took(proof.milliseconds)));
    if proof.depth == Depth::Quick && proof.verdict == Verdict::Verified {
        page.field("note", "a quick look proves no point: `nexus verify` without --quick does");
    }
    summary::findings(&mut page, "Findings", &proof.findings, Some(proof.findings_total));
    if let Some(findings) = looked.local_records.as_ref().filter(|findings| !findings.is_empty()) {
        summary::findings(&mut page, "Findings on this machine", findings, None);
    }
    page
}

/// What a look after a backup came to, as a warning for each thing that is not as it should be.
pub fn shortcomings(verified: &Verified) -> Vec<String> {
    let trouble = verified.trouble.as_ref().map(|error| format!("the new point could not be looked at: {error}"));
    let unrecorded = verified.unrecorded.as_ref().map(|error| format!("the point's journal holds no proof: {error}"));
    trouble.into_iter().chain(unrecorded).collect()
}
