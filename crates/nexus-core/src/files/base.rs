//! The point that a backup goes on from: its listing, fetched and read through once before it is needed.

use super::compare::{Outline, note_copy};
use crate::bucket::marks::Marks;
use crate::error::Result;
use crate::listing::{FileKind, ListingReader};
use crate::local::{Scratch, blocking};
use crate::vault::RecoveryPoint;

/// A point, and what its listing shows of where keys lie.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) point: RecoveryPoint,
    /// Some keys of the source as it was.
    pub(super) keys: Marks,
    /// Where the copies lie.
    pub(super) copies: Outline,
}

impl Base {
    /// Fetches the listing into `scratch`, where it stays, and reads it through.
    ///
    /// # Errors
    ///
    /// As [`RecoveryPoint::listing`].
    pub(crate) async fn read(point: RecoveryPoint, scratch: &Scratch) -> Result<Self> {
        let (listing, prefix) = (point.listing(scratch).await?, point.vault().full(""));
        blocking(move || {
            let (mut keys, mut copies) = (Marks::default(), Outline::new());
            for entry in listing {
                let entry = entry?;
                if entry.kind == FileKind::File {
                    keys.add(&entry.key);
                }
                note_copy(&entry, &prefix, &mut copies);
            }
            Ok(Self { point, keys, copies })
        })
        .await
    }

    /// Opens its listing.
    ///
    /// # Errors
    ///
    /// As [`RecoveryPoint::listing`].
    pub(super) async fn listing(&self, scratch: &Scratch) -> Result<ListingReader> {
        self.point.listing(scratch).await
    }
}
