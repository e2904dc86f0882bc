//! `pin` and `unpin`: a point that is kept for ever, and one that is not any more.

use nexus_core::copy::{self, Unfinished};
use nexus_core::error::{Error, Result};
use nexus_core::pin;
use nexus_core::point::{Copies, Part, Verdict};
use nexus_core::vault::RecoveryPoint;
use serde::Serialize;

use super::show::passed_over;
use crate::cli::{PinArgs, UnpinArgs};
use crate::failure::Outcome;
use crate::page::Page;
use crate::run::Run;

/// What was done, for programs.
#[derive(Debug, Serialize)]
struct Pinned<'a> {
    point: String,
    /// Why it is kept; absent when it is not pinned.
    #[serde(rename = "pinned", skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// Parts that expired before: a pin does not bring them back.
    expired: Vec<Part>,
    changed: bool,
    dry_run: bool,
}

/// Pins a point.
pub async fn pin(run: &Run, args: &PinArgs, unfinished: &mut Option<Unfinished>) -> Result<Outcome> {
    if args.reason.trim().is_empty() {
        return Err(Error::usage_hint("a pin without a reason", "say why it is kept: --reason 'before the audit'"));
    }
    let mut point = find(run, &args.point).await?;
    let of_versions = point.manifest().parts.files.as_ref().is_some_and(|files| files.copies == Copies::Versions);
    if of_versions && point.kept().contains(&Part::Files) {
        if args.dry_run {
            run.terminal.note("its files are versions in their bucket: it would be copied, and the copy pinned");
        } else {
            point = copied(run, point, unfinished).await?;
        }
    }
    if !args.dry_run {
        pin::pin(&point, &args.reason, &run.clock).await?;
    }
    let would = if args.dry_run { "would be pinned" } else { "is pinned" };
    tell(run, &point, Some(&args.reason), (true, args.dry_run), &format!("{would}: {}", args.reason));
    for part in point.entries().expired() {
        run.terminal.warn(&format!("its {part} expired before, and is not brought back by a pin"));
    }
    Ok(Outcome::Done)
}

/// A copy of a point that holds its files by itself: how long versions stay is their bucket's affair.
async fn copied(run: &Run, point: RecoveryPoint, unfinished: &mut Option<Unfinished>) -> Result<RecoveryPoint> {
    let (id, vault) = (point.id().clone(), point.vault().clone());
    let point = run.with_source(point).await?;
    let plan = copy::plan_beside(point, run.scratch.path().to_path_buf()).await?;
    *unfinished = Some(plan.unfinished());
    let report = copy::copy(plan, &vault, &run.clock, &run.events).await?;
    *unfinished = None;
    let verified = report.verified;
    match (verified.proof.verdict, verified.trouble) {
        (Verdict::Verified, _) => {}
        (_, Some(trouble)) => return Err(trouble),
        (_, None) => {
            return Err(Error::damaged(format!(
                "the copy {} of {id} is damaged, so it is not pinned",
                report.point.id()
            )));
        }
    }
    run.terminal
        .note(&format!("the files of {id} are versions in their bucket: it was copied, and the copy is pinned"));
    Ok(report.point)
}

/// Unpins a point.
pub async fn unpin(run: &Run, args: &UnpinArgs) -> Result<Outcome> {
    let point = find(run, &args.point).await?;
    let was = point.entries().pinned().is_some();
    if was && !args.dry_run {
        pin::unpin(&point, &run.clock).await?;
    }
    let words = match (was, args.dry_run) {
        (false, _) => "is not pinned",
        (true, true) => "would be unpinned",
        (true, false) => "is not pinned any more: the next prune removes what is over its time",
    };
    tell(run, &point, None, (was, args.dry_run), words);
    Ok(Outcome::Done)
}

async fn find(run: &Run, selector: &str) -> Result<RecoveryPoint> {
    let found = run.vault().await?.find(selector, &[]).await?;
    passed_over(run, &found);
    Ok(found.point)
}

fn tell(run: &Run, point: &RecoveryPoint, pinned: Option<&str>, (changed, dry_run): (bool, bool), words: &str) {
    let mut page = Page::new();
    page.line(format!("{} {words}", point.id()));
    let expired = point.entries().expired();
    run.terminal.answer(&page, &Pinned { point: point.id().to_string(), reason: pinned, expired, changed, dry_run });
}
