//! Rehearse: a point restored into scratch for a command to work on, and what the command changed there.
//!
//! The command itself is run by whoever called; nothing of the app's own is written to.

pub mod look;

use std::time::Duration;

use crate::bucket::{Address, Reader};
use crate::clock::Clock;
use crate::database::postgres::{PostgresDatabase, PostgresPlan};
use crate::database::scratch::{Purpose, ScratchDatabase, ScratchPlan};
use crate::error::{Error, Result, chain};
use crate::event::Events;
use crate::files::restore::{self, Extra, FilesTarget};
use crate::files::rules::Selection;
use crate::files::scratch::{Owner, ScratchFiles};
use crate::local::Scratch;
use crate::point::{Count, JournalEvent, Part};
use crate::vault::RecoveryPoint;
use look::{Absent, FilesPlace, Place};

/// What is to be restored where.
#[derive(Debug, Clone)]
pub struct RehearseRequest {
    /// The server for a database of PostgreSQL.
    pub server: Option<PostgresDatabase>,
    /// Where the files go, one prefix a rehearsal; `None`: the command gets no place for files.
    pub files: Option<FilesGround>,
    /// How long to wait for a database's locks.
    pub lock_wait: Duration,
}

impl RehearseRequest {
    /// Whether the point's files are copied.
    fn copies(&self) -> bool {
        self.files.as_ref().is_some_and(|ground| ground.content == Content::Copied)
    }

    /// One of these parts that is needed.
    fn needs(&self) -> &'static [Part] {
        if self.copies() { &[Part::Database, Part::Files] } else { &[Part::Database] }
    }
}

/// Where scratch files go.
#[derive(Debug, Clone)]
pub struct FilesGround {
    /// The right to read there.
    pub reader: Reader,
    /// The same as it was named.
    pub address: Address,
    /// Whether the point's files are copied there, or the command finds none.
    pub content: Content,
}

/// What the command finds in its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The point's files.
    Copied,
    /// Nothing.
    Empty,
}

/// What will be made; nothing is made yet.
#[derive(Debug)]
pub struct RehearsePlan {
    /// The point.
    pub point: RecoveryPoint,
    database: Option<ScratchPlan>,
    request: RehearseRequest,
}

impl RehearsePlan {
    /// Looks whether everything can be made.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when the point has no database or the bucket is not there; [`Error::Usage`] for a part that expired;
    /// as for [`ScratchPlan::make`].
    pub async fn make(point: RecoveryPoint, request: RehearseRequest) -> Result<Self> {
        let parts = &point.manifest().parts;
        let part = parts.database.as_ref();
        let part = part.ok_or_else(|| Error::missing(format!("{} has no database to rehearse on", point.id())))?;
        let copies = request.copies();
        point.require_kept(request.needs()).await?;
        if copies && parts.files.is_none() {
            return Err(Error::missing(format!("{} has no files", point.id())));
        }
        if let Some(ground) = request.files.as_ref().filter(|ground| ground.reader.is_made()) {
            ground.reader.check().await?;
        }
        let purpose = (point.id(), Purpose::Rehearse);
        let database = ScratchPlan::make(part, purpose, request.server.as_ref(), request.lock_wait).await?;
        Ok(Self { point, database: Some(database), request })
    }

    /// Where the database will be, without secrets.
    pub fn database(&self) -> String {
        self.database.as_ref().map(ScratchPlan::place).unwrap_or_default()
    }

    /// What could not be looked at beforehand, in words.
    pub fn doubts(&self) -> &[String] {
        self.database.as_ref().map(ScratchPlan::doubts).unwrap_or_default()
    }

    /// Below which place the files will be, and how many.
    pub fn files(&self) -> Option<(&Address, Count)> {
        let ground = self.request.files.as_ref()?;
        let all = self.point.manifest().parts.files.as_ref().map(|files| files.total).unwrap_or_default();
        Some((&ground.address, if ground.content == Content::Copied { all } else { Count::default() }))
    }
}

/// What was made in scratch. It must be cleared, also when making it was broken off.
#[derive(Debug)]
pub struct Ground {
    plan: RehearsePlan,
    database: Option<ScratchDatabase>,
    unfinished: Option<PostgresPlan>,
    files: Option<ScratchFiles>,
    hold: Option<String>,
}

impl Ground {
    /// Nothing yet.
    pub fn new(plan: RehearsePlan) -> Self {
        Self { plan, database: None, unfinished: None, files: None, hold: None }
    }

    /// The point.
    pub fn point(&self) -> &RecoveryPoint {
        &self.plan.point
    }

    /// The database, once it is made.
    pub fn database(&self) -> Option<&ScratchDatabase> {
        self.database.as_ref()
    }

    /// The files' place, once it is claimed.
    pub fn files(&self) -> Option<&Address> {
        self.files.as_ref().map(ScratchFiles::address)
    }

    /// Where files are claimed, when they are.
    pub fn files_ground(&self) -> Option<&FilesGround> {
        self.plan.request.files.as_ref()
    }

    /// Restores the point, both parts by the code of a real restore and compared like one.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when the point does not come back as it was; what else stands in the way. What was made until then
    /// is removed by [`Ground::clear`].
    pub async fn make(&mut self, owner: &Owner, scratch: &Scratch, (clock, events): (&Clock, &Events)) -> Result<()> {
        self.hold(clock, events).await?;
        if let Some(database) = self.plan.database.take() {
            let copy = self.plan.point.database_copy(scratch).await?;
            self.unfinished = database.unfinished();
            self.database = Some(database.create(&copy, scratch, events).await?);
            self.unfinished = None;
            std::fs::remove_file(&copy)
                .map_err(|cause| Error::local(format!("cannot remove `{}`", copy.display()), cause))?;
        }
        if let Some(ground) = self.plan.request.files.clone() {
            let name = clock.nonce();
            let place = (&ground.reader, &ground.address);
            let claimed = ScratchFiles::claim(place, (self.plan.point.id(), &name), owner, clock.now()).await?;
            let target = FilesTarget {
                reader: claimed.reader(),
                address: claimed.address().clone(),
                selection: Selection::default(),
                extra: Extra::Keep,
            };
            self.files = Some(claimed);
            if ground.content == Content::Copied {
                self.copy(&target, scratch, events).await?;
            }
        }
        self.release(clock).await
    }

    async fn copy(&self, target: &FilesTarget, scratch: &Scratch, events: &Events) -> Result<()> {
        let work = Scratch::create(scratch.path())?;
        let point = &self.plan.point;
        let planned = restore::plan(point, target, (&work, &work), events).await?;
        let restored = restore::carry_out(point, target, &planned, &work, events).await?;
        if restored.equal == restored.wanted {
            return Ok(());
        }
        let (equal, wanted) = (restored.equal.files, restored.wanted.files);
        Err(Error::damaged(format!("only {equal} of {wanted} files of {} came back as they were", point.id())))
    }

    /// Says that copies of the point are needed for a while, then looks whether they are going already.
    async fn hold(&mut self, clock: &Clock, events: &Events) -> Result<()> {
        let journal = self.plan.point.journal();
        let announced = JournalEvent::Hold { by: Purpose::Rehearse.word().to_owned(), safety: None, target: None };
        self.hold = journal.hold(announced, clock, events).await?;
        self.plan.point.require_still_kept(self.plan.request.needs()).await
    }

    async fn release(&mut self, clock: &Clock) -> Result<()> {
        self.plan.point.journal().release(self.hold.take(), clock).await
    }

    /// Removes everything that was made; what cannot be removed is named, and the next rehearsal removes it.
    pub async fn clear(mut self, scratch: &Scratch, (clock, events): (&Clock, &Events)) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(unfinished) = self.unfinished.take() {
            unfinished.remove_unfinished(events).await;
        }
        if let Some(database) = self.database.take() {
            let place = database.database().location();
            if let Err(error) = database.remove().await {
                left.push(format!("{place}: {}", chain(&error)));
            }
        }
        if let Some(files) = self.files.take() {
            let place = files.address().to_string();
            if let Err(error) = files.remove(scratch).await {
                left.push(format!("{place}: {}", chain(&error)));
            }
        }
        // A hold that stays ends by itself.
        if let Err(error) = self.release(clock).await {
            events.warn(chain(&error));
        }
        left
    }

    /// The scratch as a place to look at.
    pub fn place(&self) -> Option<Place> {
        let rules = self.plan.point.manifest().parts.files.as_ref().map(|files| files.rules.clone());
        let files = self.files.as_ref().map(|files| FilesPlace {
            reader: files.reader(),
            lies_at: files.address().prefix().to_owned(),
            rules: rules.unwrap_or_default(),
            absent: Absent::Empty,
        });
        Some(Place { database: Some(self.database.as_ref()?.database().clone()), files })
    }
}
