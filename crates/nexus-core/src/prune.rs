//! Prune: what retention no longer keeps is announced, looked at again, and removed; nothing else is.
//!
//! There are no locks. Whoever comes to depend on copies says so first and then looks whether they were announced to go;
//! prune announces first and then looks whether somebody depends on them. Whatever the order of the two, one of them sees
//! the other. docs/pruning.md walks through it.

mod folders;
mod survey;
mod sweep;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::clock::Clock;
use crate::error::{Error, Result, chain};
use crate::event::Events;
use crate::point::{JournalEvent, Manifest, Part, PointId};
use crate::retention::{self, Decision, Reason, Rules, TOLERATED};
use crate::vault::draft;
use crate::vault::eraser::Eraser;
pub use crate::vault::eraser::Kept;
use crate::vault::journal::{Journal, STALE};
use crate::vault::{SPARED, Vault};
pub use folders::RecordFolder;
use survey::{REMEMBERED, Role, Seen, Survey};
pub use sweep::{Foreign, Swept};
use sweep::{Stand, Stands};

/// How long after its announcement a prune may still remove what it announced: others take the word back after a day.
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(12);

/// What to prune by.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// What to keep.
    pub rules: Rules,
    /// The folder of records on this machine, whose expired folders go as well.
    pub records: Option<PathBuf>,
}

/// What a prune will do; nothing is done yet.
#[derive(Debug)]
pub struct PrunePlan {
    /// What it was made from.
    pub request: PruneRequest,
    /// Each part of each point, the newest point first, with the reason why it is kept or removed.
    pub decisions: Vec<Decision>,
    /// The points of which something is removed, the newest first.
    pub doomed: Vec<Doomed>,
    /// Claims that did not become points, the newest first.
    pub claims: Vec<ClaimPlan>,
    /// Points with an announcement of another prune that is not acted upon here.
    pub announced: Vec<Announced>,
    /// What will be removed of objects, and what is foreign.
    pub swept: Swept,
    /// Folders of records on this machine that will be removed.
    pub folders: Vec<RecordFolder>,
    announcements: Arc<Mutex<Vec<Word>>>,
}

/// A point of which something is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doomed {
    /// The point.
    pub point: PointId,
    /// The parts that go.
    pub parts: Vec<Part>,
    /// True when nothing is left of it: the point goes.
    pub whole: bool,
}

/// What is done about a claim that did not become a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClaimPlan {
    /// Its id.
    pub point: PointId,
    /// What is done.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What is done about a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
pub enum Fate {
    /// Nothing: a backup is under way.
    Running {
        /// When it last said so.
        alive: Timestamp,
    },
    /// Nothing: it was given up less than two days ago, or a running backup goes on from it.
    Spared {
        /// When.
        given_up: Timestamp,
    },
    /// It broke off: it is given up, and what it stored goes two days later.
    Revoked {
        /// When it last said that it lives.
        alive: Timestamp,
    },
    /// It was given up: what it stored goes.
    Swept {
        /// When.
        given_up: Timestamp,
    },
    /// It was given up long ago: the word of that goes too.
    Forgotten {
        /// When.
        given_up: Timestamp,
    },
    /// Its manifest was removed by a prune that broke off: the rest of it goes.
    Finished,
}

/// A point that another prune has announced and that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Announced {
    /// The point.
    pub point: PointId,
    /// The parts.
    pub parts: Vec<Part>,
    /// When it was announced.
    pub at: Timestamp,
    /// True when the announcement is so old that it is taken back.
    pub withdrawn: bool,
}

/// What a prune came to.
#[derive(Debug, Default, Serialize)]
pub struct Pruned {
    /// What was removed of points.
    pub removed: Vec<Doomed>,
    /// What was to go and stays after all, each with why.
    pub withdrawn: Vec<(PointId, String)>,
    /// Claims that were dealt with.
    pub claims: Vec<ClaimPlan>,
    /// What was removed of objects, and what is foreign.
    pub swept: Swept,
    /// What a lock keeps.
    pub kept: Vec<Kept>,
    /// Folders of records on this machine that were removed.
    pub folders: Vec<RecordFolder>,
}

/// An announcement of this run.
#[derive(Debug, Clone)]
struct Word {
    doomed: Doomed,
    nonce: String,
    at: Timestamp,
    /// True once something of it is removed: it cannot be taken back then.
    begun: bool,
}

impl PrunePlan {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let claims = self.claims.iter().all(|claim| matches!(claim.fate, Fate::Running { .. } | Fate::Spared { .. }));
        let announced = self.announced.iter().all(|announced| !announced.withdrawn);
        self.doomed.is_empty() && claims && announced && self.swept.removed.files == 0 && self.folders.is_empty()
    }

    /// What is to be taken back when the prune is not carried to its end.
    pub fn unfinished(&self, vault: &Vault) -> Unfinished {
        Unfinished { vault: vault.clone(), announcements: Arc::clone(&self.announcements) }
    }
}

/// Announcements that nothing has come of yet.
#[derive(Debug, Clone)]
pub struct Unfinished {
    vault: Vault,
    announcements: Arc<Mutex<Vec<Word>>>,
}

impl Unfinished {
    /// Takes them back, so that nobody passes over points that stay. What cannot be taken back is after a day.
    pub async fn withdraw(&self, clock: &Clock) {
        let words = std::mem::take(&mut *self.announcements.lock().unwrap_or_else(PoisonError::into_inner));
        for word in words.into_iter().filter(|word| !word.begun) {
            let _ = withdraw(&self.vault, &word.doomed.point, &word.nonce, clock).await;
        }
    }
}

/// Fails when the ages of points cannot be trusted: this machine's clock is not the service's.
///
/// # Errors
///
/// [`Error::Usage`] beyond five minutes; what the service could not be asked for.
pub async fn require_same_time(vault: &Vault, clock: &Clock) -> Result<()> {
    let Some(theirs) = vault.reader().service_time().await? else { return Ok(()) };
    let apart = clock.now().duration_since(theirs);
    if apart.abs() <= TOLERATED {
        return Ok(());
    }
    Err(Error::usage_hint(
        format!(
            "the clock of this machine is {} minutes from that of {}, so ages cannot be told and nothing is removed",
            apart.abs().as_secs() / 60,
            vault.reader().place()
        ),
        "set this machine's clock, for example with `timedatectl set-ntp true`",
    ))
}

/// How many parts are over their time, and since when the first of them is: what a prune that ran would have removed.
///
/// # Errors
///
/// As [`plan`].
pub async fn overdue(vault: &Vault, rules: &Rules, now: Timestamp) -> Result<Option<(u64, Timestamp)>> {
    let survey = Survey::of(vault, now).await?;
    let decisions = retention::decide(&survey.candidates(now), rules, now);
    let over = decisions.iter().filter_map(|decision| match decision.reason {
        Reason::Over { since } => Some(since),
        _ => None,
    });
    let over: Vec<Timestamp> = over.collect();
    Ok(over.iter().min().map(|first| (over.len() as u64, *first)))
}

/// Looks at the whole vault and decides. Nothing is written.
///
/// # Errors
///
/// [`Error::Damaged`] or [`Error::Newer`] when anything of the vault cannot be understood: there is no plan then.
pub async fn plan(vault: &Vault, request: PruneRequest, clock: &Clock, events: &Events) -> Result<PrunePlan> {
    let now = clock.now();
    let survey = Survey::of(vault, now).await?;
    let decisions = retention::decide(&survey.candidates(now), &request.rules, now);
    let doomed = doomed(&survey, &decisions);
    let mut claims = claims(&survey, now);
    let announced = announced(&survey, &doomed, now);
    let stands = Stands::planned(vault, &survey, &doomed, &claims);
    let swept = sweep::count(vault, &stands, now, events).await?;
    // Of those that only wait until later points need their copies no more there is nothing to do or to say.
    claims.retain(|claim| {
        let rests = matches!(claim.fate, Fate::Swept { .. } | Fate::Forgotten { .. } | Fate::Finished);
        !rests || swept.by_point.contains_key(&claim.point)
    });
    let folders = match &request.records {
        Some(folder) => folders::expired(folder, vault.app(), &survey, &doomed, &request.rules, now)?,
        None => Vec::new(),
    };
    Ok(PrunePlan { request, decisions, doomed, claims, announced, swept, folders, announcements: Arc::default() })
}

/// The points of which something goes.
fn doomed(survey: &Survey, decisions: &[Decision]) -> Vec<Doomed> {
    let mut going: BTreeMap<&PointId, Vec<Part>> = BTreeMap::new();
    for decision in decisions.iter().filter(|decision| !decision.keep) {
        going.entry(&decision.point).or_default().push(decision.part);
    }
    let of = |seen: &Seen| {
        let kept = seen.kept(seen.manifest()?);
        let parts = going.get(&seen.id).cloned().unwrap_or_default();
        let whole = parts.len() == kept.len();
        (whole || !parts.is_empty()).then(|| Doomed { point: seen.id.clone(), parts, whole })
    };
    survey.seen.iter().filter_map(of).collect()
}

fn claims(survey: &Survey, now: Timestamp) -> Vec<ClaimPlan> {
    let of = |seen: &Seen| {
        let fate = match seen.role {
            Role::Point(_) => return None,
            // An adoption that broke off has stored two small documents, and the next one goes on with it.
            Role::Running(..) | Role::Silent(_) if seen.adopted => return None,
            Role::Running(_, alive) => Fate::Running { alive },
            Role::Silent(alive) => Fate::Revoked { alive },
            Role::BrokenOff => Fate::Finished,
            Role::GivenUp(given_up) => {
                let age = now.duration_since(given_up);
                if age > REMEMBERED {
                    Fate::Forgotten { given_up }
                } else if age > SPARED {
                    Fate::Swept { given_up }
                } else {
                    Fate::Spared { given_up }
                }
            }
        };
        // A running backup may have taken its copies over.
        let fate = match (fate, survey.reused_by(&seen.id)) {
            (Fate::Swept { given_up } | Fate::Forgotten { given_up }, Some(_)) => Fate::Spared { given_up },
            (fate, _) => fate,
        };
        Some(ClaimPlan { point: seen.id.clone(), fate })
    };
    survey.seen.iter().filter_map(of).collect()
}

/// What other prunes have announced of points that are kept here.
fn announced(survey: &Survey, doomed: &[Doomed], now: Timestamp) -> Vec<Announced> {
    let mut found = Vec::new();
    for seen in survey.seen.iter().filter(|seen| seen.manifest().is_some()) {
        let going = doomed.iter().find(|doomed| doomed.point == seen.id).map_or(&[][..], |doomed| &doomed.parts);
        for word in seen.journal.announcements() {
            let mut parts = word.parts.to_vec();
            let expired = seen.journal.expired();
            parts.retain(|part| !going.contains(part) && !expired.contains(part));
            if !parts.is_empty() {
                let withdrawn = now.duration_since(word.at) > STALE;
                found.push(Announced { point: seen.id.clone(), parts, at: word.at, withdrawn });
            }
        }
    }
    found
}

/// Carries a plan out.
///
/// # Errors
///
/// Whatever stops it. What was announced and not begun is taken back then; what was begun, the next prune ends.
pub async fn prune(vault: &Vault, plan: PrunePlan, clock: &Clock, events: &Events) -> Result<Pruned> {
    let unfinished = plan.unfinished(vault);
    let done = Pruning { vault, eraser: Eraser::of(vault), plan, clock, events }.carry_out().await;
    if done.is_err() {
        unfinished.withdraw(clock).await;
    }
    done
}

struct Pruning<'a> {
    vault: &'a Vault,
    eraser: Eraser,
    plan: PrunePlan,
    clock: &'a Clock,
    events: &'a Events,
}

impl Pruning<'_> {
    async fn carry_out(self) -> Result<Pruned> {
        self.eraser.may_remove(&self.clock.nonce()).await?;
        let mut pruned = Pruned::default();
        self.announce().await?;
        let now = self.clock.now();
        let survey = Survey::of(self.vault, now).await?;
        self.settle(&survey, now, &mut pruned).await?;
        self.withdraw_stale(&survey, now).await?;
        let mut stands = Stands::of(self.vault, &survey);
        self.end_claims(&survey, now, &mut stands, &mut pruned).await?;
        self.end_points(&survey, &mut stands, &mut pruned).await?;
        let began = self.began().unwrap_or(now);
        let (swept, kept) = sweep::remove(&self.eraser, &stands, (began, GOOD_FOR), self.clock, self.events).await?;
        pruned.swept = swept;
        pruned.kept.extend(kept);
        for folder in &self.plan.folders {
            if !folders::is_over(&folder.point, &survey, &pruned.removed, &self.plan.request.rules, now) {
                continue;
            }
            match folders::remove(folder) {
                Ok(true) => pruned.folders.push(folder.clone()),
                Ok(false) => {}
                // The vault is pruned all the same, and that is to be told.
                Err(error) => self.events.warn(chain(&error)),
            }
        }
        self.vault.sweep_uploads(self.clock, self.events).await;
        self.words().clear();
        Ok(pruned)
    }

    fn words(&self) -> std::sync::MutexGuard<'_, Vec<Word>> {
        self.plan.announcements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the first announcement was made that still stands.
    fn began(&self) -> Option<Timestamp> {
        self.words().iter().map(|word| word.at).min()
    }

    async fn announce(&self) -> Result<()> {
        for doomed in self.plan.doomed.iter().filter(|doomed| !doomed.parts.is_empty()) {
            let objects = match self.vault.state(doomed.point.clone()).await? {
                Some(state) => {
                    let parts = if doomed.whole { &Part::ALL[..] } else { &doomed.parts };
                    let both = |manifest: &Manifest| (manifest.objects_outside(parts), manifest.categories());
                    state.manifest().map(both)
                }
                None => None,
            };
            // Another prune was quicker.
            let Some((objects, categories)) = objects else { continue };
            let categories = categories.into_iter().collect();
            let event = JournalEvent::Expiring { parts: doomed.parts.clone(), objects, categories };
            let entry = self.journal(&doomed.point).add(event, self.clock).await?;
            self.words().push(Word { doomed: doomed.clone(), nonce: entry.nonce, at: entry.at, begun: false });
        }
        Ok(())
    }

    fn journal(&self, point: &PointId) -> Journal {
        Journal::of(self.vault, point)
    }

    /// Takes back what the second look would not remove.
    async fn settle(&self, survey: &Survey, now: Timestamp, pruned: &mut Pruned) -> Result<()> {
        let decisions = retention::decide(&survey.candidates(now), &self.plan.request.rules, now);
        let again = doomed(survey, &decisions);
        let words = self.words().clone();
        let mut standing = Vec::new();
        for word in words {
            let now_going = again.iter().find(|doomed| doomed.point == word.doomed.point);
            let agrees = now_going.is_some_and(|now_going| {
                now_going.whole == word.doomed.whole
                    && word.doomed.parts.iter().all(|part| now_going.parts.contains(part))
            });
            if agrees {
                standing.push(word);
                continue;
            }
            // Of a point that another prune has removed meanwhile there is nothing to take back.
            if survey.find(&word.doomed.point).is_some_and(|seen| seen.manifest().is_some()) {
                withdraw(self.vault, &word.doomed.point, &word.nonce, self.clock).await?;
                let kept = decisions.iter().find(|decision| {
                    decision.keep && decision.point == word.doomed.point && word.doomed.parts.contains(&decision.part)
                });
                let why = kept.map_or_else(|| "what is left of it changed meanwhile".to_owned(), said);
                pruned.withdrawn.push((word.doomed.point, why));
            }
        }
        *self.words() = standing;
        Ok(())
    }

    /// Takes back what a prune that is gone has announced and never removed, of points that are kept.
    async fn withdraw_stale(&self, survey: &Survey, now: Timestamp) -> Result<()> {
        let ours: Vec<String> = self.words().iter().map(|word| word.nonce.clone()).collect();
        let planned = |id: &PointId| self.plan.announced.iter().any(|other| other.withdrawn && other.point == *id);
        let standing: Vec<PointId> = self.words().iter().map(|word| word.doomed.point.clone()).collect();
        for seen in survey.seen.iter().filter(|seen| seen.manifest().is_some() && planned(&seen.id)) {
            for word in seen.journal.announcements() {
                let stale = now.duration_since(word.at) > STALE && !ours.iter().any(|nonce| nonce == word.nonce);
                if stale && !standing.contains(&seen.id) {
                    withdraw(self.vault, &seen.id, word.nonce, self.clock).await?;
                }
            }
        }
        Ok(())
    }

    /// Gives up what broke off, and says of each claim whether what it stored may go.
    async fn end_claims(
        &self,
        survey: &Survey,
        now: Timestamp,
        stands: &mut Stands,
        pruned: &mut Pruned,
    ) -> Result<()> {
        let planned = |claim: &ClaimPlan| self.plan.claims.iter().any(|other| other.point == claim.point);
        // What a silent claim reuses counts for nothing in this look, so it must have ended before anything goes.
        let ends = |claim: &ClaimPlan| planned(claim) || matches!(claim.fate, Fate::Revoked { .. });
        for claim in claims(survey, now).into_iter().filter(ends) {
            match claim.fate {
                Fate::Running { .. } | Fate::Spared { .. } => continue,
                Fate::Revoked { .. } => {
                    let reason = "it said nothing for a day, and a prune gave it up";
                    if !draft::revoke(self.vault, &claim.point, reason, self.clock).await? {
                        self.require_no_commit(&claim.point).await?;
                        continue;
                    }
                    // Whoever sees that it was given up now may go on from what it copied: that stays for as long as of others.
                }
                Fate::Swept { .. } => stands.set(&claim.point, Stand::given_up()),
                Fate::Forgotten { .. } => stands.set(&claim.point, Stand::forgotten()),
                Fate::Finished => stands.set(&claim.point, Stand::gone_before(survey.find(&claim.point))),
            }
            pruned.claims.push(claim);
        }
        Ok(())
    }

    /// Whoever was first has ended a claim. A commit that was first leaves a point that names copies which nobody counted
    /// as needed, so all must be looked at again.
    async fn require_no_commit(&self, claim: &PointId) -> Result<()> {
        let state = self.vault.state(claim.clone()).await?;
        if state.is_none_or(|state| state.manifest().is_none()) {
            return Ok(());
        }
        Err(Error::Busy {
            what: format!("the backup of {claim}, which seemed to have broken off, was committed this moment"),
        })
    }

    /// The removals that cannot be taken back: the manifest of a whole point, or the word that parts of it are gone.
    async fn end_points(&self, survey: &Survey, stands: &mut Stands, pruned: &mut Pruned) -> Result<()> {
        // Points of which every part was gone before had nothing to announce.
        let empty = self.plan.doomed.iter().filter(|doomed| doomed.parts.is_empty()).cloned();
        let empty = empty.map(|doomed| Word { doomed, nonce: String::new(), at: self.clock.now(), begun: true });
        let words: Vec<Word> = self.words().iter().cloned().chain(empty).collect();
        for word in words {
            let Some(seen) = survey.find(&word.doomed.point).filter(|seen| seen.manifest().is_some()) else { continue };
            self.in_time(word.at)?;
            self.begin(&word.nonce);
            if word.doomed.whole {
                if !self.eraser.erase_manifest(&seen.id).await? {
                    if !word.nonce.is_empty() {
                        withdraw(self.vault, &seen.id, &word.nonce, self.clock).await?;
                    }
                    pruned.withdrawn.push((seen.id.clone(), "its manifest is locked".to_owned()));
                    continue;
                }
                stands.set(&seen.id, Stand::gone_now(seen));
            } else {
                let event = JournalEvent::Expired { parts: word.doomed.parts.clone() };
                self.journal(&seen.id).add(event, self.clock).await?;
                stands.expire(seen, &word.doomed.parts);
            }
            pruned.removed.push(word.doomed);
        }
        Ok(())
    }

    fn begin(&self, nonce: &str) {
        if let Some(word) = self.words().iter_mut().find(|word| word.nonce == nonce) {
            word.begun = true;
        }
    }

    /// Fails when an announcement is so old that another prune may soon take it back.
    fn in_time(&self, announced: Timestamp) -> Result<()> {
        in_time(announced, GOOD_FOR, self.clock)
    }
}

/// Fails when it is too late to act upon what was announced.
fn in_time(announced: Timestamp, good_for: SignedDuration, clock: &Clock) -> Result<()> {
    if clock.now().duration_since(announced) < good_for {
        return Ok(());
    }
    Err(Error::Busy { what: format!("what this prune announced at {announced} is too old to act upon; run it again") })
}

fn said(decision: &Decision) -> String {
    match &decision.reason {
        Reason::Last { .. } => format!("its {} is needed after all: {}", decision.part, decision.reason),
        reason => format!("its {}: {reason}", decision.part),
    }
}

async fn withdraw(vault: &Vault, point: &PointId, announcement: &str, clock: &Clock) -> Result<()> {
    let event = JournalEvent::Withdrawn { announcement: announcement.to_owned() };
    Journal::of(vault, point).add(event, clock).await.map(|_| ())
}
