//! `show`: one point in full.

mod runbook;

use std::path::Path;

use jiff::Timestamp;
use nexus_core::error::Result;
use nexus_core::files::batch;
use nexus_core::point::{JournalEntry, Manifest, Part, Proof, Verdict};
use nexus_core::vault::{Found, RecoveryPoint};
use serde::Serialize;

use super::state::{self, Checked, State};
use super::{references, summary};
use crate::cli::ShowArgs;
use crate::failure::Outcome;
use crate::page::Page;
use crate::run::Run;
use crate::wording;

/// A point for programs.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    id: String,
    state: State,
    vault: String,
    bytes: u64,
    /// Parts that are gone: their time was over.
    expired: Vec<Part>,
    /// Why it is kept for ever, when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<&'a str>,
    proven: Option<Timestamp>,
    last_proof: Option<Checked>,
    last_drill: Option<Checked>,
    manifest: &'a Manifest,
    journal: &'a [JournalEntry],
    restore_command: String,
}

/// Shows it. A point whose last check failed is a bad answer.
pub async fn run(run: &Run, args: &ShowArgs) -> Result<Outcome> {
    let vault = run.vault().await?;
    let found = vault.find(&args.point, &[]).await?;
    passed_over(run, &found);
    let point = &found.point;
    if args.batch_manifest {
        return batch_manifest(run, point).await;
    }
    if args.runbook {
        return Ok(print(run, &runbook::Runbook::of(run, point)));
    }
    let manifest = point.manifest();
    let state = State::committed(manifest, point.entries());
    let proven = point.entries().proven(manifest).map(|(at, _)| at);
    let shown = Shown {
        id: point.id().to_string(),
        state,
        vault: vault.address().to_string(),
        bytes: state::size(manifest, point.entries()),
        expired: point.entries().expired(),
        pinned: point.entries().pinned(),
        proven,
        last_proof: Checked::last(point.entries()),
        last_drill: Checked::last_drill(point.entries()),
        manifest,
        journal: &point.entries().read,
        restore_command: summary::restore_command(run, point),
    };
    run.terminal.answer(&page(run, point, state), &shown);
    for (key, reason) in &point.entries().unreadable {
        run.terminal.warn(&format!("the journal entry {key} cannot be read: {reason}"));
    }
    Ok(Outcome::of(state != State::Failed))
}

/// Prints the manifest as the listing is read.
async fn batch_manifest(run: &Run, point: &RecoveryPoint) -> Result<Outcome> {
    let manifest = batch::Manifest::of(point)?;
    for entry in point.listing(&run.scratch).await? {
        if let Some(line) = manifest.line(&entry?)? {
            run.terminal.raw(&line);
        }
    }
    Ok(Outcome::Done)
}

fn print(run: &Run, page: &runbook::Runbook) -> Outcome {
    if run.terminal.wants_json() {
        run.terminal.json(page);
    } else {
        run.terminal.raw(&page.markdown());
        run.terminal.note(&page.note());
    }
    Outcome::of(page.is_good())
}

/// Names the newer points that `latest` did not mean.
pub fn passed_over(run: &Run, found: &Found) {
    for (id, reason) in &found.passed_over {
        run.terminal.warn(&format!("{id} is newer and was not chosen: {reason}"));
    }
}

fn page(run: &Run, point: &RecoveryPoint, state: State) -> Page {
    let manifest = point.manifest();
    let now = run.clock.now();
    let mut page = Page::new();
    page.heading(point.id().to_string());
    page.field("state", state.cell());
    page.field("checked", state::checked(point.entries(), now));
    if let Some(reason) = point.entries().pinned() {
        page.field("pinned", reason.to_owned());
    }
    page.field("app", manifest.app.clone());
    page.field("vault", point.vault().address().to_string());
    page.field(
        "instant",
        format!("{} ({} ago)", wording::moment(manifest.instant), wording::distance(manifest.instant, now)),
    );
    if let Some(adopted) = &manifest.adopted {
        page.field("adopted", summary::adopted(adopted));
    }
    if let Some(copy) = &manifest.copy_of {
        page.field("copy", summary::copy_of(copy));
    }
    page.field("size", wording::size(state::size(manifest, point.entries())));
    if let Some(base) = &manifest.base {
        page.field("base", base.to_string());
    }
    page.field("made by", manifest.software.clone());
    for part in manifest.present() {
        match part {
            Part::Database => {
                page.heading("Database");
                summary::database(&mut page, point, now);
            }
            Part::Files => {
                page.heading("Files");
                summary::files(&mut page, point, now);
            }
            Part::Records => {
                page.heading("Records");
                let folder = manifest.parts.records.as_ref().and_then(|part| part.folder.as_deref());
                summary::records(&mut page, point, folder.map(Path::new), now);
                summary::tables(&mut page, point);
            }
        }
    }
    if let Some(references) = &manifest.references {
        references::page(&mut page, references);
    }
    summary::findings(&mut page, "Found while it was made", &manifest.findings, None);
    proofs(&mut page, point);
    page.heading("Restore");
    page.line(format!("  {}", summary::restore_command(run, point)));
    page
}

fn proofs(page: &mut Page, point: &RecoveryPoint) {
    page.heading("Checks");
    let mut any = false;
    for (at, proof) in point.entries().proofs().rev() {
        if !any {
            page.columns(["  WHEN", "DEPTH", "VERDICT", "PARTS", "READ", "TOOK"]);
        }
        any = true;
        let parts: Vec<_> = proof.parts.iter().map(|part| part.name()).collect();
        page.row([
            format!("  {}", wording::moment(at)).into(),
            state::depth(proof).into(),
            summary::verdict(proof.verdict),
            parts.join(",").into(),
            wording::size(proof.bytes_read).into(),
            wording::took(proof.milliseconds).into(),
        ]);
    }
    if !any {
        page.line("  none yet: `nexus verify` makes one");
    }
}

/// Warns when a check found nothing, and an earlier one found what it has not looked for.
pub fn damage_stays(run: &Run, point: &RecoveryPoint, proof: &Proof) {
    if proof.verdict == Verdict::Verified && point.entries().stays_failed(proof) {
        run.terminal.warn(
            "an earlier check found damage that this one did not look for, so the point stays failed: \
             `drill --files all` looks at everything, `show` has what was found",
        );
    }
}
