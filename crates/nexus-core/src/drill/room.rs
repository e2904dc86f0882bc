//! The room that a drill needs on this machine's disk, known before anything is fetched.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::local;
use crate::point::{DatabaseKind, Manifest, Part, RecordTable};
use crate::verify::RECORDS_AT_ONCE;

/// Bytes wanted free beside what is known to be needed.
const SLACK: u64 = 16 * 1024 * 1024;

/// What is needed and what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Bytes that the drill needs at once at most.
    pub needed: u64,
    /// Bytes that are free.
    pub free: u64,
    /// The folder for temporary files.
    pub folder: PathBuf,
}

impl Room {
    /// Looks at the disk of a folder.
    pub(super) fn look(manifest: &Manifest, parts: &[Part], folder: &Path) -> Result<Self> {
        // The run's own folder goes with the run: it lies in the one that a person chooses.
        let chosen = folder.parent().unwrap_or(folder);
        Ok(Self { needed: needed(manifest, parts), free: local::free_bytes(chosen)?, folder: chosen.to_owned() })
    }

    /// Refuses when there is not enough.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] with both numbers.
    pub fn require(&self) -> Result<()> {
        if self.needed <= self.free {
            return Ok(());
        }
        Err(Error::Full {
            what: format!(
                "a drill of this point needs {} MiB in `{}`, where {} MiB are free; nothing was fetched",
                self.needed.div_ceil(1 << 20),
                self.folder.display(),
                self.free >> 20
            ),
            cause: None,
        })
    }
}

/// The most bytes that lie in scratch at once: files are read and thrown away, the rest is there by turns.
fn needed(manifest: &Manifest, parts: &[Part]) -> u64 {
    let has = |part: Part| parts.contains(&part);
    let mut records: Vec<u64> =
        manifest.parts.records.iter().flat_map(|part| part.tables.iter().map(RecordTable::stored_bytes)).collect();
    let exported: u64 = records.iter().sum();
    let database = manifest.parts.database.as_ref().filter(|_| has(Part::Database)).map_or(0, |part| {
        let copy = part.object.bytes;
        match &part.kind {
            // While it is restored, SQLite may need the file once more for its journal; afterwards come its records.
            DatabaseKind::Sqlite { .. } => copy + (2 * copy + SLACK).max(copy + exported),
            DatabaseKind::Postgres { .. } => copy + exported,
        }
    });
    records.sort_unstable();
    let fetched: u64 = if has(Part::Records) { records.iter().rev().take(RECORDS_AT_ONCE).sum() } else { 0 };
    let listing = manifest.parts.files.as_ref().filter(|_| has(Part::Files)).map_or(0, |files| files.listing.bytes);
    listing + database.max(fetched) + SLACK
}
