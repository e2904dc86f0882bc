//! What happened to a point after its claim: small objects, one an event, only ever added.

use futures::stream::{self, StreamExt, TryStreamExt};

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
        let covers = |proof: &Proof| manifest.present().iter().all(|part| proof.parts.contains(part));
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
        let withdrawn = |nonce: &str| {
            self.read
                .iter()
                .any(|entry| matches!(&entry.event, JournalEvent::Withdrawn { announcement } if announcement == nonce))
        };
        let mut parts = Vec::new();
        for entry in &self.read {
            match &entry.event {
                JournalEvent::Expired { parts: gone } => parts.extend(gone),
                JournalEvent::Expiring { parts: going } if !withdrawn(&entry.nonce) => parts.extend(going),
                _ => {}
            }
        }
        parts.sort();
        parts.dedup();
        parts
    }
}
