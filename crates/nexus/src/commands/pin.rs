//! `pin` and `unpin`: a point that is kept for ever, and one that is not any more.

use nexus_core::error::Result;
use nexus_core::pin;
use nexus_core::point::Part;
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
pub async fn pin(run: &Run, args: &PinArgs) -> Result<Outcome> {
    let point = find(run, &args.point).await?;
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
