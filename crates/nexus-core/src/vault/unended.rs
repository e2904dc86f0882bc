//! What began lately and never said how it ended: a guard's command, a restore. Found by the keys of a few journals.

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use super::journal::{Entries, Journal};
use super::{PointState, Vault, layout};
use crate::error::Result;
use crate::point::{GUARD_ENDED, GUARD_STARTED, HOLD, JournalEvent, Part, PointId, RELEASED};

/// How many of the newest ids are looked at: each costs one listing.
const LOOKED_AT: usize = 4;
/// A restore that began longer ago is not waited for.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

/// Something that never said how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unended {
    /// The point it is about.
    pub point: PointId,
    /// What it is.
    pub work: Work,
}

/// What may not have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A guard that was about to start its command, or did.
    Guard {
        /// When it said so.
        at: Timestamp,
        /// The nonce of the entry that says so.
        nonce: String,
        /// The machine it ran on.
        machine: String,
        /// Its process there.
        process: u32,
    },
    /// A restore of the point.
    Restore {
        /// When it began.
        at: Timestamp,
    },
    /// A guard whose entry cannot be understood.
    Unreadable {
        /// The entry's key.
        entry: String,
        /// Why not.
        reason: String,
    },
}

impl Vault {
    /// What began on one of the newest points and never said how it ended.
    ///
    /// A guard is forgotten when a newer point is proven or its own was restored since: the state before its command is
    /// not what is wanted then, or is there. Where all has ended nothing but a few listings is read.
    ///
    /// # Errors
    ///
    /// Those of listing the vault and reading the journals.
    pub async fn unended(&self, now: Timestamp) -> Result<Vec<Unended>> {
        let newest = self.ids().await?.into_iter().rev().take(LOOKED_AT);
        let journals: Vec<(PointId, Words)> = stream::iter(newest)
            .map(async |id| {
                let keys = self.small_listing(&layout::journal(&id)).await?;
                Ok::<_, crate::error::Error>((id, Words::of(&keys)))
            })
            .buffered(LOOKED_AT)
            .try_collect()
            .await?;
        let mut found = Vec::new();
        for (at, (id, words)) in journals.iter().enumerate() {
            if !words.guards && !words.restores {
                continue;
            }
            let entries = Journal::new(self.clone(), id.clone()).entries().await?;
            if words.restores {
                found.extend(restore(id, &entries, now));
            }
            if words.guards
                && let Some((since, guard)) = guard(id, &entries)
                && !self.is_restored(id, &entries, since).await?
                && !self.is_superseded(id, &journals[..at]).await?
            {
                found.push(guard);
            }
        }
        Ok(found)
    }

    /// True when one of these is proven and holds all that the app was, not what a restore was about to replace.
    async fn is_superseded(&self, id: &PointId, newer: &[(PointId, Words)]) -> Result<bool> {
        let needs = self.state_parts(id).await?;
        for (newer, _) in newer.iter().filter(|(id, words)| words.verified && !id.label().is_safety()) {
            let state = self.state(newer.clone()).await?.filter(PointState::is_proven);
            let manifest = state.as_ref().and_then(PointState::manifest);
            if manifest.is_some_and(|manifest| needs.iter().all(|part| manifest.has(*part))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Which of database and files the point has, as far as it can be read.
    async fn state_parts(&self, id: &PointId) -> Result<Vec<Part>> {
        let state = self.state(id.clone()).await?;
        let has =
            |part: &Part| state.as_ref().and_then(PointState::manifest).is_some_and(|manifest| manifest.has(*part));
        Ok([Part::Database, Part::Files].into_iter().filter(has).collect())
    }

    /// True when the point's database and files were put back where they came from after `since`, as far as it has them.
    async fn is_restored(&self, id: &PointId, entries: &Entries, since: Timestamp) -> Result<bool> {
        let mut restored: Vec<Part> = Vec::new();
        for entry in entries.read.iter().filter(|entry| entry.at >= since) {
            if let JournalEvent::Restored { back, .. } = &entry.event {
                restored.extend(back);
            }
        }
        if restored.is_empty() {
            return Ok(false);
        }
        Ok(self.state_parts(id).await?.iter().all(|part| restored.contains(part)))
    }
}

/// What the keys of a journal say.
#[derive(Debug, Clone, Copy)]
struct Words {
    guards: bool,
    restores: bool,
    verified: bool,
}

impl Words {
    fn of(keys: &[String]) -> Self {
        let count = |word: &str| keys.iter().filter(|key| layout::word_of(key) == Some(word)).count();
        Self {
            guards: count(GUARD_STARTED) > count(GUARD_ENDED),
            restores: count(HOLD) > count(RELEASED),
            verified: count("verified") + count("drilled") > 0,
        }
    }
}

/// The guard that has not ended, and since when; of one whose entry is damaged the key alone is known.
fn guard(id: &PointId, entries: &Entries) -> Option<(Timestamp, Unended)> {
    let ended = |nonce: &str| {
        entries
            .read
            .iter()
            .any(|entry| matches!(&entry.event, JournalEvent::GuardEnded { started, .. } if started == nonce))
    };
    let begun = entries.read.iter().rev().find_map(|entry| match &entry.event {
        JournalEvent::GuardStarted { machine, process } if !ended(&entry.nonce) => {
            let (at, nonce, machine, process) = (entry.at, entry.nonce.clone(), machine.clone(), *process);
            Some((at, Work::Guard { at, nonce, machine, process }))
        }
        _ => None,
    });
    let damaged = || {
        let (key, reason) = entries.unreadable.iter().find(|(key, _)| layout::word_of(key) == Some(GUARD_STARTED))?;
        Some((Timestamp::MIN, Work::Unreadable { entry: key.clone(), reason: reason.clone() }))
    };
    begun.or_else(damaged).map(|(at, work)| (at, Unended { point: id.clone(), work }))
}

/// The newest restore, unless a later one of the same point has ended: that one went on where it broke off.
fn restore(id: &PointId, entries: &Entries, now: Timestamp) -> Option<Unended> {
    let released = |nonce: &str| {
        entries.read.iter().any(|entry| matches!(&entry.event, JournalEvent::Released { hold } if hold == nonce))
    };
    let last = entries
        .read
        .iter()
        .rev()
        .find(|entry| matches!(&entry.event, JournalEvent::Hold { by, .. } if by == "restore"))?;
    let open = !released(&last.nonce) && now.duration_since(last.at) < RECENT;
    open.then(|| Unended { point: id.clone(), work: Work::Restore { at: last.at } })
}
