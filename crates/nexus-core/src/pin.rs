//! Pin: a point is kept for ever, with a reason, unless it is going already.

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::point::JournalEvent;
use crate::vault::RecoveryPoint;
use crate::vault::journal::STALE;

/// Pins a point: says so first, and then looks whether a prune has announced it.
///
/// # Errors
///
/// [`Error::Busy`] when a prune is about to remove parts of it: it is not pinned then. [`Error::Usage`] when the reason is
/// empty.
pub async fn pin(point: &RecoveryPoint, reason: &str, clock: &Clock) -> Result<()> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(Error::usage_hint("a pin without a reason", "say why it is kept: --reason 'before the audit'"));
    }
    let journal = point.journal();
    journal.add(JournalEvent::Pinned { reason: reason.to_owned() }, clock).await?;
    let entries = journal.entries().await?;
    let (fresh, stale): (Vec<_>, Vec<_>) =
        entries.announcements().partition(|announced| clock.now().duration_since(announced.at) <= STALE);
    // Their prune is gone: it acts upon none that is so old.
    for announced in stale {
        journal.add(JournalEvent::Withdrawn { announcement: announced.nonce.to_owned() }, clock).await?;
    }
    let announced: Vec<&str> = fresh.iter().flat_map(|announced| announced.parts).map(|part| part.name()).collect();
    let there = point.vault().state(point.id().clone()).await?.is_some_and(|state| state.manifest().is_some());
    if announced.is_empty() && there {
        return Ok(());
    }
    if there {
        journal.add(JournalEvent::Unpinned, clock).await?;
    }
    Err(Error::Busy {
        what: format!("{} is being pruned ({}), so it was not pinned", point.id(), announced.join(", ")),
    })
}

/// Lets a point be pruned again.
pub async fn unpin(point: &RecoveryPoint, clock: &Clock) -> Result<()> {
    point.journal().add(JournalEvent::Unpinned, clock).await.map(|_| ())
}
