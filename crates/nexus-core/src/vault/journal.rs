//! What happened to a point after its claim: small objects, one an event, only ever added.

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use super::{Vault, damage, layout};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::point::{
    Depth, FORMAT, JournalEntry, JournalEvent, Manifest, Part, PointId, Proof, Verdict, document, parse,
};

/// The most entries of one point that are read.
const MOST: usize = 10_000;
/// Entries read at once.
const AT_ONCE: usize = 16;

/// How long a hold counts that was never released: whoever made it is gone.
pub const HELD: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How old an announcement must be before another prune, or a pin, takes it back: its own prune acts upon it for half as long.
pub const STALE: SignedDuration = SignedDuration::from_hours(24);

/// The right to add to one point's journal.
#[derive(Debug, Clone)]
pub struct Journal {
    vault: Vault,
    point: PointId,
}

impl Journal {
    pub(super) fn new(vault: Vault, point: PointId) -> Self {
        Self { vault, point }
    }

    /// The journal of a point of this vault.
    pub(crate) fn of(vault: &Vault, point: &PointId) -> Self {
        Self::new(vault.clone(), point.clone())
    }

    /// Adds one entry and says what it is.
    pub async fn add(&self, event: JournalEvent, clock: &Clock) -> Result<JournalEntry> {
        loop {
            let entry = JournalEntry {
                format: FORMAT,
                point: self.point.clone(),
                at: clock.now(),
                nonce: clock.nonce(),
                software: super::SOFTWARE.to_owned(),
                event: event.clone(),
            };
            let key = layout::entry(&self.point, entry.at, entry.event.word(), &entry.nonce);
            if self.vault.create(&key, document(&entry)).await? {
                return Ok(entry);
            }
        }
    }

    /// Says that somebody depends on the point's copies; answers the nonce to release them with.
    ///
    /// Whoever may only read the vault must still get at the data: the right that is missing is warned of, and no more.
    pub async fn hold(&self, hold: JournalEvent, clock: &Clock, events: &Events) -> Result<Option<String>> {
        match self.add(hold, clock).await {
            Ok(entry) => Ok(Some(entry.nonce)),
            Err(error @ Error::Denied { .. }) => {
                events.warn(format!("{error}: a prune that runs now would not know that the point is in use"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends a hold, where there is one.
    pub async fn release(&self, hold: Option<String>, clock: &Clock) -> Result<()> {
        if let Some(hold) = hold {
            self.add(JournalEvent::Released { hold }, clock).await?;
        }
        Ok(())
    }

    /// All entries, oldest first, and what is wrong with those that cannot be understood.
    pub async fn entries(&self) -> Result<Entries> {
        let keys = self.vault.small_listing(&layout::journal(&self.point)).await?;
        if keys.len() > MOST {
            return Err(Error::Unsupported {
                what: format!("the journal of {} has more than {MOST} entries", self.point),
            });
        }
        let read: Vec<_> = stream::iter(keys)
            .map(async |key| {
                let bytes = self.vault.read(&key).await?;
                Ok::<_, Error>((key, bytes))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut entries = Entries::default();
        for (key, bytes) in read {
            // An entry that is gone since the listing was taken away by a prune; so is the point, soon.
            let Some(bytes) = bytes else { continue };
            match parse::<JournalEntry>(&bytes, &self.vault.name(&key)) {
                Ok(entry) if entry.point != self.point || layout::nonce_of(&key) != Some(entry.nonce.as_str()) => {
                    entries.unreadable.push((key, "it is the entry of another point or time".to_owned()));
                }
                Ok(entry) => entries.read.push(entry),
                Err(error) => entries.unreadable.push((key, error.to_string())),
            }
        }
        entries.read.sort_by_key(|entry| entry.at);
        Ok(entries)
    }
}

/// A point's journal as it was read.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    /// The entries, oldest first.
    pub read: Vec<JournalEntry>,
    /// Keys of entries that cannot be understood, each with the reason.
    pub unreadable: Vec<(String, String)>,
}

impl Entries {
    /// True when nothing has happened to the point.
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.unreadable.is_empty()
    }

    /// The verifications and drills, oldest first, each with its time.
    pub fn proofs(&self) -> impl DoubleEndedIterator<Item = (jiff::Timestamp, &Proof)> {
        self.read.iter().filter_map(|entry| match &entry.event {
            JournalEvent::Verified(proof) | JournalEvent::Drilled(proof) => Some((entry.at, proof)),
            _ => None,
        })
    }

    /// The proof that makes the point proven: default depth or deeper, over all its parts, nothing failed since, and what
    /// failed before was cleared by a look as deep.
    pub fn proven(&self, manifest: &Manifest) -> Option<(jiff::Timestamp, &Proof)> {
        let expired = self.expired();
        let kept = manifest.present().into_iter().filter(|part| !expired.contains(part));
        let kept: Vec<Part> = kept.collect();
        let covers = |proof: &Proof| kept.iter().all(|part| proof.parts.contains(part));
        if self.failed() {
            return None;
        }
        for (at, proof) in self.proofs().rev() {
            match proof.verdict {
                Verdict::Failed => return None,
                Verdict::Verified if proof.depth >= Depth::Default && covers(proof) => return Some((at, proof)),
                Verdict::Verified | Verdict::CouldNotVerify => {}
            }
        }
        None
    }

    /// True when a check found damage that no later one, which looked as deep at what was damaged, has cleared.
    pub fn failed(&self) -> bool {
        damage::is_left(&self.proofs().map(|(_, proof)| proof).collect::<Vec<_>>())
    }

    /// True when there is damage that one more check, which found none, has not looked for.
    pub fn stays_failed(&self, verified: &Proof) -> bool {
        damage::is_left(&self.proofs().map(|(_, proof)| proof).chain([verified]).collect::<Vec<_>>())
    }

    /// The parts that prune has announced to remove, or has removed.
    pub fn going(&self) -> Vec<Part> {
        let announced = self.announcements().flat_map(|announced| announced.parts.iter().copied());
        let mut parts: Vec<Part> = self.expired().into_iter().chain(announced).collect();
        parts.sort();
        parts.dedup();
        parts
    }

    /// The parts that are gone.
    pub fn expired(&self) -> Vec<Part> {
        let parts = self.read.iter().filter_map(|entry| match &entry.event {
            JournalEvent::Expired { parts } => Some(parts.iter().copied()),
            _ => None,
        });
        let mut parts: Vec<Part> = parts.flatten().collect();
        parts.sort();
        parts.dedup();
        parts
    }

    /// When these parts were removed, the first of them first.
    pub fn expirations(&self) -> impl Iterator<Item = (Timestamp, &[Part])> {
        self.read.iter().filter_map(|entry| match &entry.event {
            JournalEvent::Expired { parts } => Some((entry.at, parts.as_slice())),
            _ => None,
        })
    }

    /// What a prune has announced to remove, and neither removed as a part nor took back, oldest first.
    pub fn announcements(&self) -> impl Iterator<Item = Announcement<'_>> {
        let withdrawn: Vec<&str> = self
            .read
            .iter()
            .filter_map(|entry| match &entry.event {
                JournalEvent::Withdrawn { announcement } => Some(announcement.as_str()),
                _ => None,
            })
            .collect();
        let expired = self.expired();
        let stands = move |nonce: &str, parts: &[Part]| {
            !withdrawn.contains(&nonce) && parts.iter().any(|part| !expired.contains(part))
        };
        self.read.iter().filter_map(move |entry| match &entry.event {
            JournalEvent::Expiring { parts, objects, categories } if stands(&entry.nonce, parts) => {
                Some(Announcement { at: entry.at, nonce: &entry.nonce, parts, objects, categories })
            }
            _ => None,
        })
    }

    /// Why the point is pinned, when it is.
    pub fn pinned(&self) -> Option<&str> {
        let last = self.read.iter().rev().find_map(|entry| match &entry.event {
            JournalEvent::Pinned { reason } => Some(Some(reason.as_str())),
            JournalEvent::Unpinned => Some(None),
            _ => None,
        });
        last.flatten()
    }

    /// Who depends on the point's copies now, and since when: the newest hold that was not released and is not too old.
    pub fn held(&self, now: Timestamp) -> Option<(Timestamp, &str)> {
        let released = |nonce: &str| {
            self.read.iter().any(|entry| matches!(&entry.event, JournalEvent::Released { hold } if hold == nonce))
        };
        self.read.iter().rev().find_map(|entry| match &entry.event {
            JournalEvent::Hold { by, .. } if !released(&entry.nonce) && now.duration_since(entry.at) < HELD => {
                Some((entry.at, by.as_str()))
            }
            _ => None,
        })
    }

    /// When the backup of the point last said that it lives, if it ever did.
    pub fn last_alive(&self) -> Option<Timestamp> {
        self.read.iter().rev().find(|entry| entry.event == JournalEvent::Alive).map(|entry| entry.at)
    }

    /// An entry of a kind that this release does not know.
    pub fn unknown(&self) -> Option<&JournalEntry> {
        self.read.iter().find(|entry| entry.event == JournalEvent::Unknown)
    }
}

/// A prune's word that parts will go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement<'a> {
    /// When it was given.
    pub at: Timestamp,
    /// The nonce of its entry, by which it is withdrawn.
    pub nonce: &'a str,
    /// The parts.
    pub parts: &'a [Part],
    /// Objects outside the point's folder that go with them.
    pub objects: &'a [String],
    /// The categories of the point's files.
    pub categories: &'a [String],
}
