//! The copies that a restore brings files back from: where they lie, whether they are there, and whether what came of them is confirmed.

use super::jobs::jobs;
use super::surplus::Mapping;
use super::{FilesPlanned, Job, files};
use crate::bucket::marks::Marks;
use crate::bucket::{Object, Reader, transfer};
use crate::error::Result;
use crate::event::Events;
use crate::files::compare::{self, Compared};
use crate::files::versions::{is_of_versions, version_of};
use crate::listing::{FileEntry, FileKind, Side};
use crate::local::{Scratch, blocking};
use crate::vault::RecoveryPoint;

/// One file in so many is few: a request for each costs less than a listing of all.
const FEW: u64 = 50;

/// Some of the keys that a target has when it is as the point was.
pub(super) async fn keys(point: &RecoveryPoint, mapping: &Mapping, scratch: &Scratch) -> Result<Marks> {
    let (listing, mapping) = (point.listing(scratch).await?, mapping.clone());
    blocking(move || {
        let mut keys = Marks::default();
        for entry in listing {
            keys.add(&mapping.target(&entry?.key));
        }
        Ok(keys)
    })
    .await
}

/// Whether what came from the vault is confirmed in a target, and what came from versions of the source.
pub(super) fn confirms(point: &RecoveryPoint, target: &Reader) -> Result<(bool, bool)> {
    let of_versions = is_of_versions(point) && transfer::is_confirmed(&point.source()?, target);
    Ok((transfer::is_confirmed(point.vault().reader(), target), of_versions))
}

/// The copy of a file: as a version of its source, or in the vault. `None` for what is made, not copied.
pub(super) fn lies(point: &RecoveryPoint, entry: &FileEntry) -> Result<Option<(Reader, Object)>> {
    if let Some(version) = version_of(entry) {
        return Ok(Some((point.source()?, version)));
    }
    let (Some(copy), Some(place)) = (&entry.copy, entry.at.as_ref().and_then(|at| at.vault_key())) else {
        return Ok(None);
    };
    let vault = point.vault();
    let object = Object { key: vault.full(place), side: Side { checksum: None, ..copy.clone() }, kind: FileKind::File };
    Ok(Some((vault.reader().clone(), object)))
}

impl FilesPlanned {
    /// Compares the copies that would be read with the vault, each by itself where they are few; else all that the point has.
    ///
    /// # Errors
    ///
    /// What the vault cannot be asked for.
    pub(crate) async fn look_at_copies(
        &self,
        point: &RecoveryPoint,
        scratch: &Scratch,
        events: &Events,
    ) -> Result<Compared> {
        if is_of_versions(point) || self.needed > files(point)?.total.files / FEW {
            return compare::copies(point, scratch, events).await;
        }
        let in_vault = jobs(&self.work)?.filter_map(|job| match job {
            Ok(Job::Put(entry) | Job::Confirm(entry)) => {
                entry.at.as_ref().is_some_and(|at| at.vault_key().is_some()).then_some(Ok(*entry))
            }
            Ok(Job::Remove(_)) => None,
            Err(error) => Some(Err(error)),
        });
        compare::ask(point.vault(), in_vault, Compared::default()).await
    }
}
