//! Backups that broke off, whose copies the next one may use.
//!
//! Nothing is announced of copies without a point, and a prune may be about to remove them. What keeps the two apart is time: the
//! copies of a claim stay for [`SPARED`] after it was given up, whoever did that, and the last half a day of it is not relied on.
//! A backup that may still run is left alone, since it may write a copy again; one whose process is gone or was silent
//! for long is ended first.

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::error::Result;
use crate::files::capture::FilesPlan;
use crate::local;
use crate::point::{Claim, Part, PointId};
use crate::vault::draft::{Draft, revoke};
use crate::vault::{PointState, SPARED, Standing, Vault};

/// How far clocks may be apart, and how long it may take from a look at one to what is done by it.
const MARGIN: SignedDuration = SignedDuration::from_hours(12);
/// So many are looked at: each may have gone on from the one before.
const MOST: usize = 4;

/// Takes in a point or claim of the walk from the newest to the oldest, if it broke off on files of the same source; false when what is
/// older has nothing more.
pub(super) async fn take(
    vault: &Vault,
    state: &PointState,
    (files, now): (&FilesPlan, Timestamp),
    found: &mut Vec<PointId>,
) -> Result<bool> {
    if state.manifest().is_some_and(|manifest| manifest.has(Part::Files)) || found.len() == MOST {
        return Ok(false);
    }
    let source = files.address.to_string();
    if look(state, now).is_some()
        && let Some(claim) = vault.claim_of(&state.id).await?
        && claim.files.is_some_and(|claimed| claimed == source)
    {
        found.push(state.id.clone());
    }
    Ok(true)
}

/// Those of them whose copies stay; after this backup has a claim that names them.
pub(super) async fn still_there(draft: &Draft, left: Vec<PointId>, clock: &Clock) -> Result<Vec<PointId>> {
    let vault = draft.vault();
    let mut found = Vec::with_capacity(left.len());
    for id in left {
        let Some(state) = vault.state(id).await? else { continue };
        let stays = match look(&state, clock.now()) {
            Some(Stays::ForNow) => true,
            Some(Stays::WhenItIsEnded) => {
                let reason = format!("it broke off, and {} goes on from what it has copied", draft.id());
                revoke(vault, &state.id, &reason, clock).await?
            }
            None => false,
        };
        if stays {
            found.push(state.id);
        }
    }
    Ok(found)
}

/// Why copies stay.
enum Stays {
    /// No prune removes them soon.
    ForNow,
    /// The claim is to be ended first.
    WhenItIsEnded,
}

fn look(state: &PointState, now: Timestamp) -> Option<Stays> {
    // What cannot be read may be the word that it was a point, and goes.
    if !state.journal.unreadable.is_empty() {
        return None;
    }
    match &state.standing {
        // A prune announces only what has a manifest: this was a point, and goes.
        Standing::Unfinished(_) if state.journal.announcements().next().is_some() => None,
        Standing::Unfinished(claim) => {
            let is_over = claim.process.as_deref().is_some_and(local::is_gone)
                || now.duration_since(last_alive(claim, state)) > MARGIN;
            is_over.then_some(Stays::WhenItIsEnded)
        }
        Standing::Abandoned(given_up) => (now.duration_since(given_up.at) < SPARED - MARGIN).then_some(Stays::ForNow),
        Standing::Committed(_) | Standing::Unreadable(_) => None,
    }
}

fn last_alive(claim: &Claim, state: &PointState) -> Timestamp {
    state.journal.last_alive().unwrap_or(claim.started).max(claim.started)
}
