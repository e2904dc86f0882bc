//! Everything that a vault says of itself, read at one go: without all of it there is no plan.

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Result};
use crate::point::{Claim, Manifest, Part, PointId};
use crate::retention::Candidate;
use crate::vault::journal::Entries;
use crate::vault::{PointState, SILENT, Standing, Vault, layout};

/// How long the word that a claim was given up stays, so that a backup that wakes up late cannot commit.
pub(super) const REMEMBERED: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Points looked at at once.
const AT_ONCE: usize = 16;

/// The whole vault at one look.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    /// The newest first.
    pub(super) seen: Vec<Seen>,
}

/// One id and what it has come to.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) id: PointId,
    pub(super) role: Role,
    pub(super) journal: Entries,
    /// True when what lies there is an older tool's, but for what our documents name.
    pub(super) adopted: bool,
}

/// What an id has come to, as prune sees it.
#[derive(Debug, Clone)]
pub(super) enum Role {
    /// A point.
    Point(Box<Manifest>),
    /// A backup is under way.
    Running(Box<Claim>, Timestamp),
    /// A backup broke off, and last said at this time that it lives.
    Silent(Timestamp),
    /// A point whose manifest a prune has removed, which did not come to its end.
    BrokenOff,
    /// A claim that was given up.
    GivenUp(Timestamp),
}

impl Survey {
    /// Reads all manifests, journals and claims.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] and [`Error::Newer`] for what cannot be understood: what it depends on cannot be known.
    pub(super) async fn of(vault: &Vault, now: Timestamp) -> Result<Self> {
        let mut ids = vault.ids().await?;
        ids.reverse();
        let seen: Vec<Option<Seen>> =
            stream::iter(ids).map(|id| look(vault, id, now)).buffered(AT_ONCE).try_collect().await?;
        Ok(Self { seen: seen.into_iter().flatten().collect() })
    }

    /// The points for the retention rules, with who depends on them.
    pub(super) fn candidates(&self, now: Timestamp) -> Vec<Candidate> {
        let candidate = |seen: &Seen| {
            let manifest = seen.manifest()?;
            let parts = seen.kept(manifest);
            Some(Candidate {
                needed: self.needed(seen, &parts, now),
                announced: seen.journal.announcements().flat_map(|announced| announced.parts.to_vec()).collect(),
                pinned: seen.journal.pinned().map(str::to_owned),
                proven: seen.journal.proven(manifest).is_some(),
                id: seen.id.clone(),
                parts,
            })
        };
        self.seen.iter().filter_map(candidate).collect()
    }

    fn needed(&self, seen: &Seen, parts: &[Part], now: Timestamp) -> Vec<(Part, String)> {
        let held = seen
            .journal
            .held(now)
            .map(|(since, by)| format!("in use by a {by} since {}", since.strftime("%Y-%m-%d %H:%M UTC")));
        let mut needed: Vec<(Part, String)> =
            held.into_iter().flat_map(|held| parts.iter().map(move |part| (*part, held.clone()))).collect();
        if let Some(running) = self.reused_by(&seen.id) {
            needed.push((Part::Files, format!("the backup {running} is under way and reuses its files")));
        }
        needed
    }

    /// The running backup that may come to depend on this point's copies.
    pub(super) fn reused_by(&self, id: &PointId) -> Option<&PointId> {
        let running = self.seen.iter().find(|seen| match &seen.role {
            Role::Running(claim, _) => claim.reuses.contains(id),
            _ => false,
        });
        running.map(|running| &running.id)
    }

    pub(super) fn find(&self, id: &PointId) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.id == *id)
    }
}

impl Seen {
    /// The manifest of a point.
    pub(super) fn manifest(&self) -> Option<&Manifest> {
        match &self.role {
            Role::Point(manifest) => Some(manifest),
            _ => None,
        }
    }

    /// The parts that it has and that have not expired.
    pub(super) fn kept(&self, manifest: &Manifest) -> Vec<Part> {
        let expired = self.journal.expired();
        manifest.present().into_iter().filter(|part| !expired.contains(part)).collect()
    }
}

async fn look(vault: &Vault, id: PointId, now: Timestamp) -> Result<Option<Seen>> {
    let Some(PointState { id, standing, journal, adopted }) = vault.state(id).await? else { return Ok(None) };
    if let Some((key, reason)) = journal.unreadable.first() {
        return Err(no_plan(&format!("{}: {reason}", vault.name(key))));
    }
    if let Some(entry) = journal.unknown() {
        let what = format!("the journal of {id} has an entry of {} that this nexus does not know", entry.software);
        return Err(Error::Newer { what });
    }
    let role = match standing {
        Standing::Committed(manifest) => Role::Point(manifest),
        Standing::Abandoned(given_up) => Role::GivenUp(given_up.at),
        Standing::Unfinished(claim) => unfinished(vault, claim, &journal, now).await?,
        // Read once more for the error with its kind: what is newer has another remedy than what is damaged.
        Standing::Unreadable(reason) => {
            return Err(match vault.find(&id.to_string(), &[]).await {
                Err(error @ Error::Newer { .. }) => error,
                _ => no_plan(&reason),
            });
        }
    };
    Ok(Some(Seen { id, role, journal, adopted }))
}

fn no_plan(reason: &str) -> Error {
    Error::damaged(format!("nothing is removed from a vault of which something cannot be read: {reason}"))
}

async fn unfinished(vault: &Vault, claim: Box<Claim>, journal: &Entries, now: Timestamp) -> Result<Role> {
    // A prune announces only what has a manifest. One that is gone was removed by it.
    if journal.announcements().next().is_some() {
        return Ok(Role::BrokenOff);
    }
    // By the service's clock as well as by the backup's own: the later one spares more.
    let stored = vault.reader().head(&vault.full(&layout::claim(&claim.point))).await?;
    let stored = stored.and_then(|object| object.side.modified);
    let last = [Some(claim.started), stored, journal.last_alive()].into_iter().flatten().max().unwrap_or(claim.started);
    Ok(if now.duration_since(last) > SILENT { Role::Silent(last) } else { Role::Running(claim, last) })
}
