//! Drill: a point restored into scratch, checked there, and timed; nothing of the app's is touched, and nothing stays.

mod database;
mod files;
mod records;
mod room;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::database::postgres::{PostgresDatabase, PostgresPlan};
use crate::database::scratch::{Purpose, ScratchPlan};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local::Scratch;
use crate::point::{Depth, Finding, FindingKind, JournalEvent, Measured, Part, Proof, Sampled, Verdict};
use crate::vault::RecoveryPoint;
use crate::vault::journal::Journal;
use crate::verify::{self, LISTED};
pub use database::{DatabaseDrilled, Digest};
pub use files::FilesDrilled;
pub use records::RecordsDrilled;
pub use room::Room;

/// The word by which a drill holds a point.
const DRILL: &str = "drill";

/// How many files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// So many, chosen by chance; all when there are no more.
    Files(u64),
    /// Every one.
    All,
}

/// What to drill, and with what.
#[derive(Debug, Clone)]
pub struct DrillRequest {
    /// Which parts; empty: all that the point has.
    pub parts: Vec<Part>,
    /// How many files are read back; all are compared with a listing.
    pub sample: Sample,
    /// Where a database of PostgreSQL is restored, as a new one beside what is there.
    pub server: Option<PostgresDatabase>,
    /// How long to wait for a database's locks.
    pub lock_wait: Duration,
}

/// What a drill will do; nothing is done yet.
#[derive(Debug)]
pub struct DrillPlan {
    /// The point.
    pub point: RecoveryPoint,
    /// The parts.
    pub parts: Vec<Part>,
    /// How many files are read.
    pub sample: Sample,
    /// Where the database goes, when it is one of the parts.
    pub database: Option<ScratchPlan>,
    /// What it needs on this machine's disk.
    pub room: Room,
    lock_wait: Duration,
    scratch: Scratch,
    hold: Arc<OnceLock<String>>,
}

/// What a drill came to.
#[derive(Debug)]
pub struct Drilled {
    /// What was looked at and found.
    pub proof: Proof,
    /// Why something could not be looked at, if anything could not.
    pub trouble: Option<Error>,
    /// Why the journal does not hold the proof, if it does not.
    pub unrecorded: Option<Error>,
    /// The database, as far as it came.
    pub database: Option<DatabaseDrilled>,
    /// The records, as far as they came.
    pub records: Option<RecordsDrilled>,
    /// The files, as far as they came.
    pub files: Option<FilesDrilled>,
}

/// What must be cleared away when a drill is not carried to its end.
#[derive(Debug)]
pub struct Unfinished {
    server: Option<PostgresPlan>,
    journal: Journal,
    hold: Arc<OnceLock<String>>,
}

impl Unfinished {
    /// Removes what was made on a server and lets the point go, as far as either came about.
    pub async fn give_up(self, clock: &Clock, events: &Events) {
        let removed = async {
            if let Some(server) = &self.server {
                server.remove_unfinished(events).await;
            }
        };
        // There is little time: one does not wait for the other.
        let (released, ()) = futures::join!(self.journal.release(self.hold.get().cloned(), clock), removed);
        if let Err(error) = released {
            events.warn(format!("the point's journal does not say that this drill is over: {error}"));
        }
    }
}

impl DrillPlan {
    /// What must be cleared away when the drill is broken off.
    pub fn unfinished(&self) -> Unfinished {
        Unfinished {
            server: self.database.as_ref().and_then(ScratchPlan::unfinished),
            journal: self.point.journal(),
            hold: Arc::clone(&self.hold),
        }
    }
}

/// Makes the plan: parts, a place for the database, room on the disk. Nothing is fetched or written.
///
/// # Errors
///
/// [`Error::Usage`] for a part that the point does not have or that is being pruned, and as for [`ScratchPlan::make`];
/// [`Error::Full`] with both numbers when the disk has not the room.
pub async fn plan(point: RecoveryPoint, request: DrillRequest, scratch: &Path) -> Result<DrillPlan> {
    let present = point.manifest().present();
    let parts = if request.parts.is_empty() { present.clone() } else { request.parts };
    if let Some(part) = parts.iter().find(|part| !present.contains(part)) {
        return Err(Error::usage(format!("{} has no {part} to drill", point.id())));
    }
    point.require_kept(&parts).await?;
    let room = Room::look(point.manifest(), &parts, scratch)?;
    let scratch = Scratch::create(scratch)?;
    let part = point.manifest().parts.database.as_ref().filter(|_| parts.contains(&Part::Database));
    let database = match part {
        Some(part) => {
            let which = (point.id(), Purpose::Drill);
            Some(ScratchPlan::make(part, which, request.server.as_ref(), request.lock_wait).await?)
        }
        None => None,
    };
    let (sample, lock_wait) = (request.sample, request.lock_wait);
    Ok(DrillPlan { point, parts, sample, database, room, lock_wait, scratch, hold: Arc::default() })
}

/// Carries a plan out, and adds what it saw to the point's journal.
///
/// # Errors
///
/// Only when the drill could not begin: everything later is told by the verdict.
pub async fn drill(plan: DrillPlan, clock: &Clock, events: &Events) -> Result<Drilled> {
    plan.room.require()?;
    let journal = plan.point.journal();
    let announced = JournalEvent::Hold { by: DRILL.to_owned(), safety: None, target: None };
    let hold = journal.hold(announced, clock, events).await?;
    if let Some(hold) = &hold {
        // A plan is carried out once, so that it is not set yet.
        let _ = plan.hold.set(hold.clone());
    }
    if let Err(error) = plan.point.require_still_kept(&plan.parts).await {
        // The first error is the one to tell.
        let _ = journal.release(hold, clock).await;
        return Err(error);
    }
    let point = plan.point.clone();
    let mut drilled = Look::of(plan, clock, events).await;
    let entry = JournalEvent::Drilled(verify::as_recorded(&point, &drilled.proof, drilled.trouble.is_some()));
    let recorded = journal.add(entry, clock).await.err();
    drilled.unrecorded = recorded.or(journal.release(hold, clock).await.err());
    Ok(drilled)
}

/// Everything that is seen on the way.
struct Look<'a> {
    plan: &'a DrillPlan,
    clock: &'a Clock,
    events: &'a Events,
    findings: Vec<Finding>,
    trouble: Option<Error>,
    bytes: u64,
}

impl Look<'_> {
    /// Looks at everything, goes on after damage, and says what it came to.
    async fn of(mut plan: DrillPlan, clock: &Clock, events: &Events) -> Drilled {
        let begun = Instant::now();
        let place = plan.database.take();
        let mut look = Look { plan: &plan, clock, events, findings: Vec::new(), trouble: None, bytes: 0 };
        let compared = look.beside().await;
        // A vault that does not answer would be waited for again and again.
        let answers = !matches!(look.trouble, Some(Error::Unreachable { .. }));
        let database = match place.filter(|_| answers) {
            Some(place) => Some(look.database(place).await),
            None => None,
        };
        let wants = |part| answers && plan.parts.contains(&part);
        let records = if wants(Part::Records) { Some(look.records().await) } else { None };
        let files = if wants(Part::Files) { Some(look.files(compared).await) } else { None };
        let (findings, trouble, bytes_read) = (look.findings, look.trouble, look.bytes);
        let verdict = match (&trouble, findings.is_empty()) {
            // Damage that was seen stays damage, whatever could not be looked at.
            (_, false) => Verdict::Failed,
            (None, true) => Verdict::Verified,
            (Some(_), true) => Verdict::CouldNotVerify,
        };
        let sampled = files.as_ref().and_then(FilesDrilled::sampled);
        let proof = Proof {
            depth: depth(sampled),
            verdict,
            parts: plan.parts.clone(),
            files: files.as_ref().map_or(0, |files| files.compared),
            rows: records.as_ref().map_or(0, |records| records.rows),
            bytes_read,
            milliseconds: milliseconds(begun),
            findings_total: findings.len() as u64,
            findings: findings.into_iter().take(LISTED).collect(),
            sampled,
            measured: measured(database.as_ref(), records.as_ref(), files.as_ref()),
        };
        Drilled { proof, trouble, unrecorded: None, database, records, files }
    }

    /// What the default depth looks at beside the database's copy and the records.
    async fn beside(&mut self) -> FilesDrilled {
        let begun = Instant::now();
        self.events.started(Stage::Verify, None, None);
        let seen = verify::beside(&self.plan.point, &self.plan.parts, &self.plan.scratch, self.events).await;
        self.events.ended(Stage::Verify);
        self.findings.extend(seen.findings);
        self.bytes += seen.bytes;
        let whole = seen.trouble.is_none();
        if let Some(trouble) = seen.trouble {
            let listing = self.plan.point.manifest().parts.files.as_ref().map(|files| files.listing.key.clone());
            self.meet(Part::Files, &listing.unwrap_or_default(), trouble);
        }
        FilesDrilled::compared(seen.files, milliseconds(begun), whole)
    }

    fn find(&mut self, part: Part, kind: FindingKind, name: impl Into<String>, detail: impl Into<String>) {
        self.findings.push(Finding { part: Some(part), kind, name: name.into(), detail: detail.into() });
    }

    /// Sorts an error: damage is a finding, anything else is why something was not looked at.
    fn meet(&mut self, part: Part, name: &str, error: Error) {
        match error {
            Error::Damaged { what, cause } => {
                let detail = cause.map_or_else(|| what.clone(), |cause| format!("{what}: {cause}"));
                self.find(part, FindingKind::Changed, name, detail);
            }
            // The first one is told; what follows is often the same.
            other => {
                self.trouble.get_or_insert(other);
            }
        }
    }
}

/// A sample never counts as more than the look that every file got.
fn depth(sampled: Option<Sampled>) -> Depth {
    if sampled.is_some() { Depth::Default } else { Depth::Drill }
}

fn measured(
    database: Option<&DatabaseDrilled>,
    records: Option<&RecordsDrilled>,
    files: Option<&FilesDrilled>,
) -> BTreeMap<Part, Measured> {
    let database = database.and_then(DatabaseDrilled::measured).map(|measured| (Part::Database, measured));
    let records =
        records.map(|records| (Part::Records, Measured { milliseconds: records.milliseconds, bytes: records.bytes }));
    let files =
        files.map(|files| (Part::Files, Measured { milliseconds: files.milliseconds, bytes: files.read.bytes }));
    [database, records, files].into_iter().flatten().collect()
}

fn milliseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
