//! What of earlier backups may serve: looked for before this one claims a point, and looked at again once it has.

use jiff::Timestamp;

use super::{BackupPlan, left};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::files::base::Base;
use crate::files::capture::FilesPlan;
use crate::files::left::can_be_told;
use crate::local::Scratch;
use crate::point::{Copies, Part, PointId};
use crate::vault::draft::Draft;
use crate::vault::{PointState, RecoveryPoint, Vault};

/// What was found before there was a claim.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The newest point whose copies may serve: committed, same source, files not going, no failed verdict.
    pub(crate) base: Option<RecoveryPoint>,
    /// Backups on files of the same source that broke off, the newest first.
    pub(super) left: Vec<PointId>,
}

impl Found {
    /// The points and claims that a claim is to name.
    pub(super) fn ids(&self) -> Vec<PointId> {
        self.base.iter().map(RecoveryPoint::id).chain(&self.left).cloned().collect()
    }
}

/// Walks the points and claims, the newest first, until there is one to go on from.
pub(crate) async fn look_for(vault: &Vault, plan: &BackupPlan, now: Timestamp) -> Result<Found> {
    let mut found = Found::default();
    let files = plan.files.as_ref().filter(|_| plan.parts.contains(&Part::Files));
    let Some(files) = files.filter(|files| files.copies == Copies::Incremental) else { return Ok(found) };
    // A point holds what was copied until then, and older claims have nothing that it has not.
    let mut newest = can_be_told(&files.source, vault);
    for id in vault.ids().await?.into_iter().rev() {
        let Some(state) = vault.state(id).await? else { continue };
        if newest && !state.adopted {
            newest = left::take(vault, &state, (files, now), &mut found.left).await?;
        }
        if let Some(manifest) = state.manifest().filter(|_| serves(&state, files)) {
            found.base = Some(vault.point_of(manifest, state.journal.clone()));
            break;
        }
    }
    Ok(found)
}

fn serves(state: &PointState, files: &FilesPlan) -> bool {
    let (source, endpoint) = (files.address.to_string(), files.source.endpoint());
    let manifest = state.manifest();
    let same = manifest
        .and_then(|manifest| manifest.parts.files.as_ref())
        .filter(|part| part.copies != Copies::Versions)
        .is_some_and(|part| part.source == source && part.endpoint.as_deref() == endpoint);
    // Of what an older tool has copied nothing says when the originals were as they are there.
    let of_another_tool = state.adopted || manifest.is_some_and(|manifest| manifest.adopted.is_some());
    same && !of_another_tool
        && !state.id.label().is_aside()
        && !state.journal.failed()
        && !state.journal.going().contains(&Part::Files)
        && state.journal.unreadable.is_empty()
}

/// The base as it was found, and what came of reading its listing.
pub(super) type ReadBase = Option<(PointId, Result<Base>)>;

/// Reads the base's listing, which says the same whatever happens to the point meanwhile.
pub(super) async fn read(base: Option<RecoveryPoint>, scratch: &Scratch) -> ReadBase {
    let base = base?;
    Some((base.id().clone(), Base::read(base, scratch).await))
}

/// The claim names the base; only now does the look at its journal count, since a prune looks after it announces.
pub(super) async fn still_there(draft: &Draft, base: ReadBase, events: &Events) -> Result<Option<Base>> {
    let Some((id, base)) = base else { return Ok(None) };
    let state = draft.vault().state(id.clone()).await?;
    let usable = state.is_some_and(|state| state.manifest().is_some() && !state.journal.going().contains(&Part::Files));
    if !usable {
        events.warn(format!("{id} is being pruned, so nothing is reused from it and everything is copied"));
        return Ok(None);
    }
    match base {
        Ok(base) => Ok(Some(base)),
        Err(error @ Error::Damaged { .. }) => {
            events.warn(format!("{error}: nothing is reused from {id} and everything is copied"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
