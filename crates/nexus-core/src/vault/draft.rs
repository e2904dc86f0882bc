//! One unseen point: its claim, the right to add to it, and the one write that makes it a point.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::journal::Journal;
use super::{SOFTWARE, Standing, Vault, layout};
use crate::bucket::stream::{Chunks, Streaming};
use crate::bucket::upload::Progress;
use crate::bucket::{StoreOptions, Writer};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local::Given;
use crate::point::{
    Abandoned, Abandonment, Claim, CopyOf, Ending, FORMAT, FileHash, JournalEntry, JournalEvent, Label, Manifest, Part,
    PointId, StoredObject, document,
};

/// How many seconds are tried for a free id.
const SECONDS: u32 = 30;
/// How long after its last sign of life a backup may still commit: a prune gives up a claim that is silent for a day.
const COMMITS_WITHIN: SignedDuration = SignedDuration::from_hours(12);
/// How long after its last sign of life a copy to another vault may be gone on with by another run.
const TAKEN_OVER: SignedDuration = SignedDuration::from_hours(2);
/// How long after its last sign of life such a copy may still commit: well before another one goes on with it.
const COPY_COMMITS_WITHIN: SignedDuration = SignedDuration::from_mins(90);
/// How often a running backup says that it lives.
pub const ALIVE: Duration = Duration::from_hours(1);

/// The right to add to one point that nobody sees yet.
#[derive(Debug, Clone)]
pub struct Draft {
    vault: Vault,
    claim: Claim,
    /// When this backup last said that it lives.
    alive: Arc<Mutex<Timestamp>>,
    /// How long after that it may still commit.
    within: SignedDuration,
}

impl Vault {
    /// Claims an id: `started.json`, created where none is, before anything else is written.
    ///
    /// Time stamps are unique in a vault, so a second that any other point or database copy bears is waited out.
    pub async fn begin(&self, label: &Label, parts: &[Part], reuses: &[PointId], clock: &Clock) -> Result<Draft> {
        self.begin_with(label, parts, (reuses, None), clock).await
    }

    /// The same, saying where its files come from.
    pub(crate) async fn begin_with(
        &self,
        label: &Label,
        parts: &[Part],
        (reuses, files): (&[PointId], Option<String>),
        clock: &Clock,
    ) -> Result<Draft> {
        for _ in 0..SECONDS {
            let id = PointId::new(label.clone(), clock.now());
            if self.is_free(&id, false).await? {
                let claim = Claim { reuses: reuses.to_vec(), files: files.clone(), ..self.claim(&id, parts, clock) };
                if self.create(&layout::claim(&id), document(&claim)).await? {
                    let alive = Arc::new(Mutex::new(claim.started));
                    let draft = Draft { vault: self.clone(), claim, alive, within: COMMITS_WITHIN };
                    // Another label may have claimed the same second between the look and the claim.
                    if self.is_free(&id, true).await? {
                        return Ok(draft);
                    }
                    draft.abandon("another run claimed the same second", clock).await?;
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Err(Error::Busy { what: format!("no second was free for a new point in {} for {SECONDS} s", self.address()) })
    }

    /// Claims an id for what an older tool has left in its place. A claim of an adoption that broke off is taken over.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] when the id is claimed for something else.
    pub(crate) async fn begin_adoption(&self, id: &PointId, parts: &[Part], clock: &Clock) -> Result<Draft> {
        let claim = Claim { adopted: true, ..self.claim(id, parts, clock) };
        let alive = Arc::new(Mutex::new(claim.started));
        if self.create(&layout::claim(id), document(&claim)).await? {
            return Ok(Draft { vault: self.clone(), claim, alive, within: COMMITS_WITHIN });
        }
        // One whose journal has entries was a point, which a prune has removed.
        match self.state(id.clone()).await?.map(|state| (state.adopted && state.journal.is_empty(), state.standing)) {
            Some((true, Standing::Unfinished(claim))) => {
                Ok(Draft { vault: self.clone(), claim: *claim, alive, within: COMMITS_WITHIN })
            }
            _ => Err(Error::Exists { what: format!("{id} is claimed for something else") }),
        }
    }

    /// Claims the id of a point of another vault for its copy. A claim of the same copy that broke off is taken over.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while another run may be at it; [`Error::Exists`] when another point of this vault is of that second.
    pub(crate) async fn begin_copy(
        &self,
        id: &PointId,
        parts: &[Part],
        copy_of: CopyOf,
        clock: &Clock,
    ) -> Result<Draft> {
        let exists = || Error::Exists { what: format!("{} holds another point of the second of {id}", self.address()) };
        if !self.is_free(id, true).await? && self.claim_of(id).await?.is_none_or(|claim| claim.copy_of.is_none()) {
            return Err(exists());
        }
        let nonce = copy_of.nonce.clone();
        let claim = Claim { copy_of: Some(copy_of), ..self.claim(id, parts, clock) };
        if self.create(&layout::claim(id), document(&claim)).await? {
            let alive = Arc::new(Mutex::new(claim.started));
            let draft = Draft { vault: self.clone(), claim, alive, within: COPY_COMMITS_WITHIN };
            // A copy from another vault may have claimed the same second between the look and the claim.
            if self.is_free(id, true).await? {
                return Ok(draft);
            }
            draft.abandon("another run claimed the same second", clock).await?;
            return Err(exists());
        }
        let state = self.state(id.clone()).await?;
        let Some((Standing::Unfinished(claim), journal)) = state.map(|state| (state.standing, state.journal)) else {
            return Err(exists());
        };
        if claim.copy_of.as_ref().is_none_or(|copy| copy.nonce != nonce) || claim.parts != parts {
            return Err(exists());
        }
        // Whoever took it over once says so in the journal; the process that the claim names says nothing then.
        let last = journal.last_alive();
        let over = match last {
            None => {
                claim.process.as_deref().is_some_and(crate::local::is_gone)
                    || clock.now().duration_since(claim.started) > TAKEN_OVER
            }
            Some(last) => clock.now().duration_since(last) > TAKEN_OVER,
        };
        if !over {
            let since = last.unwrap_or(claim.started);
            return Err(Error::Busy {
                what: format!(
                    "another run copies {id} to {}, or broke off: it last said so at {}, and is waited for for two hours",
                    self.address(),
                    since.strftime("%Y-%m-%d %H:%M UTC")
                ),
            });
        }
        // Said first, then looked: of two that take it over at one time at least one sees the other, and steps back.
        let mine = Journal::new(self.clone(), id.clone()).add(JournalEvent::Alive, clock).await?;
        let alive = Arc::new(Mutex::new(mine.at));
        let draft = Draft { vault: self.clone(), claim: *claim, alive, within: COPY_COMMITS_WITHIN };
        let others = self.state(id.clone()).await?.is_some_and(|state| {
            let newer =
                |entry: &&JournalEntry| entry.event == JournalEvent::Alive && last.is_none_or(|last| entry.at > last);
            state.journal.read.iter().filter(newer).any(|entry| entry.nonce != mine.nonce)
        });
        if others {
            return Err(Error::Busy {
                what: format!("another run goes on with the copy of {id} in {}", self.address()),
            });
        }
        Ok(draft)
    }

    fn claim(&self, id: &PointId, parts: &[Part], clock: &Clock) -> Claim {
        Claim {
            format: FORMAT,
            point: id.clone(),
            app: self.app().to_owned(),
            nonce: clock.nonce(),
            software: SOFTWARE.to_owned(),
            started: clock.now(),
            parts: parts.to_vec(),
            reuses: Vec::new(),
            files: None,
            process: crate::local::this_process(),
            adopted: false,
            copy_of: None,
        }
    }

    /// True when no other point or database copy bears this stamp, and, before the claim, not this very id either.
    async fn is_free(&self, id: &PointId, claimed: bool) -> Result<bool> {
        let (ids, copies) = futures::try_join!(Box::pin(self.ids()), Box::pin(self.small_listing(layout::DATABASE)))?;
        if ids.into_iter().any(|other| other.stamp() == id.stamp() && (!claimed || other != *id)) {
            return Ok(false);
        }
        Ok(!copies.iter().any(|key| layout::stamp_of_database(key) == Some(id.stamp())))
    }
}

impl Draft {
    /// The claimed id.
    pub fn id(&self) -> &PointId {
        &self.claim.point
    }

    /// The claim.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The vault.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Says once that the backup still runs.
    pub async fn alive(&self, clock: &Clock) -> Result<()> {
        self.require_lively(clock)?;
        let journal = Journal::new(self.vault.clone(), self.id().clone());
        let entry = journal.add(JournalEvent::Alive, clock).await?;
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = entry.at;
        Ok(())
    }

    /// Says every hour that the claim lives; ends only with an error.
    pub(crate) async fn keep_alive(&self, clock: &Clock) -> Error {
        loop {
            tokio::time::sleep(ALIVE).await;
            if let Err(error) = self.alive(clock).await {
                return error;
            }
        }
    }

    /// Fails when this backup has said nothing for so long, because its machine slept, that a prune may have given its
    /// claim up and removed what it stored.
    pub(crate) fn require_lively(&self, clock: &Clock) -> Result<()> {
        let last = *self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = clock.now().duration_since(last);
        if silent < self.within {
            return Ok(());
        }
        Err(Error::Busy {
            what: format!(
                "the backup of {} stood still for {} hours, so what it stored may be gone and it is given up",
                self.id(),
                silent.as_hours()
            ),
        })
    }

    /// Fails unless the claim is this run's still: not ended, and nobody has gone on with it since this run said last that it lives.
    pub(crate) async fn require_own(&self, clock: &Clock) -> Result<()> {
        self.require_lively(clock)?;
        let mine = *self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.vault.state(self.id().clone()).await?;
        let own = state.is_some_and(|state| {
            let unfinished = matches!(&state.standing, Standing::Unfinished(claim) if claim.nonce == self.claim.nonce);
            unfinished && state.journal.last_alive().is_none_or(|last| last <= mine)
        });
        if own {
            return Ok(());
        }
        Err(Error::Busy { what: format!("another run goes on with {} in {}", self.id(), self.vault.address()) })
    }

    /// The right to write copies below the point.
    pub(crate) fn copies(&self) -> Writer {
        self.vault.reader().writer(&self.vault.full(&layout::point(self.id())))
    }

    /// Stores the database's copy.
    pub async fn add_database(&self, file: &Path, bytes: u64, sha256: &str, events: &Events) -> Result<StoredObject> {
        let key = layout::sqlite(self.vault.app(), self.id());
        let options = StoreOptions {
            class: self.vault.rules().database_class.clone(),
            encryption: self.vault.rules().encryption.clone(),
            headers: [("content-type".to_owned(), "application/vnd.sqlite3".to_owned())].into(),
        };
        let object = StoredObject { key, bytes, sha256: sha256.to_owned() };
        self.add(object, (file, Given::Copied), &options, Stage::UploadDatabase, events).await
    }

    /// Stores a database's dump while it is made.
    ///
    /// # Errors
    ///
    /// What the stream fails with; nothing of it is in the vault then.
    pub async fn add_dump(&self, chunks: Chunks<'_>, expected: u64, events: &Events) -> Result<StoredObject> {
        let key = layout::postgres(self.vault.app(), self.id());
        let options = StoreOptions {
            class: self.vault.rules().database_class.clone(),
            encryption: self.vault.rules().encryption.clone(),
            headers: [("content-type".to_owned(), "application/octet-stream".to_owned())].into(),
        };
        let nonce = &self.claim.nonce;
        let streaming = Streaming { expected, nonce, options: &options, events, stage: Stage::UploadDatabase };
        match self.vault.writer().upload_stream(&self.vault.full(&key), chunks, &streaming).await? {
            Some(hash) => Ok(StoredObject { key, bytes: hash.bytes, sha256: hash.sha256 }),
            None => Err(Error::Exists {
                what: format!("{} is there already, written by another run", self.vault.name(&key)),
            }),
        }
    }

    /// Stores the server's roles and tablespaces.
    pub(crate) async fn add_globals(&self, file: &Path, hash: FileHash, events: &Events) -> Result<StoredObject> {
        let key = layout::globals(self.vault.app(), self.id());
        let object = StoredObject { key, bytes: hash.bytes, sha256: hash.sha256 };
        self.add_file(object, (file, Given::Copied), "application/sql", Stage::UploadDatabase, events).await
    }

    /// Stores one of the point's own files under a key of the layout.
    pub async fn add_file(
        &self,
        object: StoredObject,
        file: (&Path, Given),
        content_type: &str,
        stage: Stage,
        events: &Events,
    ) -> Result<StoredObject> {
        let options = StoreOptions {
            class: None,
            encryption: self.vault.rules().encryption.clone(),
            headers: [("content-type".to_owned(), content_type.to_owned())].into(),
        };
        self.add(object, file, &options, stage, events).await
    }

    async fn add(
        &self,
        object: StoredObject,
        (file, given): (&Path, Given),
        options: &StoreOptions,
        stage: Stage,
        events: &Events,
    ) -> Result<StoredObject> {
        let key = self.vault.full(&object.key);
        let progress = Progress { events, stage, sha256: &object.sha256, given };
        if self.vault.writer().upload_new(&key, file, options, &progress).await? {
            return Ok(object);
        }
        Err(Error::Exists {
            what: format!("{} is there already, written by another run", self.vault.name(&object.key)),
        })
    }

    /// The commit: one write that makes the point. What was claimed and what is there must be the same point.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] when the claim was abandoned meanwhile, [`Error::Busy`] when it may have been because this backup
    /// stood still for hours: nothing was committed.
    pub async fn commit(&self, manifest: &Manifest, clock: &Clock) -> Result<super::RecoveryPoint> {
        self.require_lively(clock)?;
        let key = layout::manifest(self.id());
        let ending = Ending::Committed(Box::new(manifest.clone()));
        if !self.vault.create(&key, document(&ending)).await? {
            return Err(Error::Exists {
                what: format!("the claim of {} was ended by another run, so nothing was committed", self.id()),
            });
        }
        // Read back: the point is what the vault says, not what we meant to write.
        let state = self.vault.state(self.id().clone()).await?;
        match state.map(|state| (state.standing, state.journal)) {
            Some((Standing::Committed(written), journal)) if *written == *manifest => {
                Ok(super::RecoveryPoint { vault: self.vault.clone(), manifest: *written, journal, source: None })
            }
            _ => Err(Error::damaged(format!("{} does not read back as it was written", self.vault.name(&key)))),
        }
    }

    /// Gives the claim up, so that nobody waits for it; a point that was committed stays one.
    pub async fn abandon(&self, reason: &str, clock: &Clock) -> Result<()> {
        revoke(&self.vault, self.id(), reason, clock).await.map(|_| ())
    }
}

/// Ends a claim with the word that it was given up. False when it was ended before, by a commit or by such a word.
pub(crate) async fn revoke(vault: &Vault, id: &PointId, reason: &str, clock: &Clock) -> Result<bool> {
    let abandoned = Abandonment { at: clock.now(), reason: reason.to_owned(), nonce: clock.nonce() };
    let ending = Ending::Abandoned(Abandoned { format: FORMAT, point: id.clone(), abandoned });
    vault.create(&layout::manifest(id), document(&ending)).await
}
