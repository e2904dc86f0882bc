//! What a point has come to, in one word, and when what of it ends.

use jiff::Timestamp;
use nexus_core::point::{Manifest, Part};
use nexus_core::vault::journal::Entries;
use nexus_core::vault::{PointState, Standing};
use serde::Serialize;

use crate::page::{Cell, Style};
use crate::wording::distance;

/// A point's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Verified at default depth or deeper, all parts, and nothing found since.
    Proven,
    /// Committed; never looked at deep enough.
    Unproven,
    /// The last check found damage.
    Failed,
    /// Claimed, not committed: a backup is running, or broke off.
    Unfinished,
    /// The claim was given up.
    Abandoned,
    /// It cannot be understood.
    Unreadable,
}

impl State {
    /// The state of a committed point.
    pub fn committed(manifest: &Manifest, journal: &Entries) -> Self {
        if journal.failed() {
            Self::Failed
        } else if journal.proven(manifest).is_some() {
            Self::Proven
        } else {
            Self::Unproven
        }
    }

    /// The state of whatever a vault knows of an id.
    pub fn of(point: &PointState) -> Self {
        match &point.standing {
            Standing::Committed(manifest) => Self::committed(manifest, &point.journal),
            Standing::Unfinished(_) => Self::Unfinished,
            Standing::Abandoned(_) => Self::Abandoned,
            Standing::Unreadable(_) => Self::Unreadable,
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Unproven => "unproven",
            Self::Failed => "failed",
            Self::Unfinished => "unfinished",
            Self::Abandoned => "abandoned",
            Self::Unreadable => "unreadable",
        }
    }

    /// It for a page.
    pub fn cell(self) -> Cell {
        let style = match self {
            Self::Proven => Style::Good,
            Self::Unproven | Self::Unfinished => Style::Doubtful,
            Self::Failed | Self::Unreadable => Style::Bad,
            Self::Abandoned => Style::Faint,
        };
        Cell::styled(self.word(), style)
    }
}

/// The part that ends first, in words: `files in 4 days`.
pub fn expiry(manifest: &Manifest, now: Timestamp) -> String {
    let ends = manifest.present().into_iter().filter_map(|part| Some((manifest.expires(part)?, part)));
    match ends.min() {
        Some((at, part)) => format!("{part} {}", when(at, now)),
        None => "never".to_owned(),
    }
}

/// When a part ends, in words.
pub fn part_expiry(manifest: &Manifest, part: Part, now: Timestamp) -> String {
    match manifest.expires(part) {
        Some(at) => format!("{} ({})", crate::wording::moment(at), when(at, now)),
        None => "never".to_owned(),
    }
}

fn when(at: Timestamp, now: Timestamp) -> String {
    let apart = distance(now, at);
    if at > now { format!("in {apart}") } else { format!("since {apart}") }
}

/// The bytes that a point brings back: its database, files and records.
pub fn size(manifest: &Manifest) -> u64 {
    let parts = &manifest.parts;
    let database = parts.database.as_ref().map_or(0, |part| part.object.bytes);
    let files = parts.files.as_ref().map_or(0, |part| part.total.bytes);
    let records = parts.records.as_ref().map_or(0, |part| part.tables.iter().map(|table| table.bytes).sum());
    database.saturating_add(files).saturating_add(records)
}
