//! What a point has come to, in one word, and when what of it ends.

use jiff::Timestamp;
use nexus_core::point::{Depth, Manifest, Part, Proof, RecordTable, Sampled, Verdict};
use nexus_core::vault::journal::Entries;
use nexus_core::vault::{PointState, Standing};
use serde::Serialize;

use crate::page::{Cell, Style};
use crate::wording::{count, distance};

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
    /// It was pruned; later points still use copies in its folder.
    Pruned,
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
            Standing::Unfinished(_) if point.journal.announcements().next().is_some() => Self::Pruned,
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
            Self::Pruned => "pruned",
            Self::Unreadable => "unreadable",
        }
    }

    /// It for a page.
    pub fn cell(self) -> Cell {
        let style = match self {
            Self::Proven => Style::Good,
            Self::Unproven | Self::Unfinished => Style::Doubtful,
            Self::Failed | Self::Unreadable => Style::Bad,
            Self::Abandoned | Self::Pruned => Style::Faint,
        };
        Cell::styled(self.word(), style)
    }
}

/// A proof for programs.
#[derive(Debug, Serialize)]
pub struct Checked {
    at: Timestamp,
    drill: bool,
    depth: Depth,
    verdict: Verdict,
    parts: Vec<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled: Option<Sampled>,
}

impl Checked {
    /// The last proof of a point.
    pub fn last(journal: &Entries) -> Option<Self> {
        journal.proofs().next_back().map(Self::of)
    }

    /// The last drill of a point.
    pub fn last_drill(journal: &Entries) -> Option<Self> {
        journal.proofs().rev().find(|(_, proof)| is_drill(proof)).map(Self::of)
    }

    fn of((at, proof): (Timestamp, &Proof)) -> Self {
        let Proof { depth, verdict, sampled, .. } = *proof;
        Self { at, drill: is_drill(proof), depth, verdict, parts: proof.parts.clone(), sampled }
    }
}

/// A sampled drill counts as default depth and is one all the same.
fn is_drill(proof: &Proof) -> bool {
    proof.depth == Depth::Drill || proof.sampled.is_some()
}

/// How deep a check looked, in words: `default`, `drill`, `drill, sampled 100 of 17,541`.
pub fn depth(proof: &Proof) -> String {
    match proof.sampled {
        Some(sampled) => format!("drill, sampled {} of {}", count(sampled.read.files), count(sampled.of.files)),
        None => proof.depth.to_string(),
    }
}

/// The last proof of a point with its depth and age, then the last drill when that was another: `drill 3 days ago`.
pub fn checked(journal: &Entries, now: Timestamp) -> String {
    let told = |(at, proof): (Timestamp, &Proof)| {
        let verdict = match proof.verdict {
            Verdict::Verified => String::new(),
            other => format!(" {other}"),
        };
        let sampled = if proof.sampled.is_some() { "," } else { "" };
        format!("{}{verdict}{sampled} {} ago", depth(proof), distance(at, now))
    };
    let last = journal.proofs().next_back();
    let drill = journal.proofs().rev().find(|(_, proof)| is_drill(proof));
    let drill = drill.filter(|_| last.is_some_and(|(_, proof)| !is_drill(proof)));
    let words: Vec<String> = [last, drill].into_iter().flatten().map(told).collect();
    if words.is_empty() { "never".to_owned() } else { words.join("; ") }
}

/// The part that ends first of those that are left, in words: `files in 4 days`; of a pinned point that it is.
pub fn expiry(manifest: &Manifest, journal: &Entries, now: Timestamp) -> String {
    if journal.pinned().is_some() {
        return "pinned".to_owned();
    }
    let expired = journal.expired();
    let left = manifest.present().into_iter().filter(|part| !expired.contains(part));
    match left.filter_map(|part| Some((manifest.expires(part)?, part))).min() {
        Some((at, part)) => format!("{part} {}", when(at, now)),
        None => "never".to_owned(),
    }
}

/// When a part ends or ended, in words.
pub fn part_expiry(manifest: &Manifest, journal: &Entries, part: Part, now: Timestamp) -> Cell {
    let gone = journal.expirations().find(|(_, parts)| parts.contains(&part));
    if let Some((at, _)) = gone {
        return Cell::styled(format!("over: gone since {}", crate::wording::moment(at)), Style::Doubtful);
    }
    if journal.pinned().is_some() {
        return "never: the point is pinned".into();
    }
    let words = match manifest.expires(part) {
        Some(at) => format!("{} ({})", crate::wording::moment(at), when(at, now)),
        None => "never".to_owned(),
    };
    words.into()
}

fn when(at: Timestamp, now: Timestamp) -> String {
    let apart = distance(now, at);
    if at > now { format!("in {apart}") } else { format!("since {apart}") }
}

/// The bytes that a point brings back: its database, files and records, as far as they have not expired.
pub fn size(manifest: &Manifest, journal: &Entries) -> u64 {
    let (parts, expired) = (&manifest.parts, journal.expired());
    let of = |part: Part| match part {
        _ if expired.contains(&part) => 0,
        Part::Database => parts.database.as_ref().map_or(0, |part| part.object.bytes),
        Part::Files => parts.files.as_ref().map_or(0, |part| part.total.bytes),
        Part::Records => {
            parts.records.as_ref().map_or(0, |part| part.tables.iter().map(RecordTable::stored_bytes).sum())
        }
    };
    Part::ALL.into_iter().map(of).fold(0, u64::saturating_add)
}
