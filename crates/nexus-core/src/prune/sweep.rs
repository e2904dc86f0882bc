//! What of all that lies in a vault nothing names any more: found by one listing of the vault beside all listings that live.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::survey::{Role, Seen, Survey};
use crate::bucket::Object;
use crate::bucket::sorted::{Sorted, Sorter};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::{FileEntry, FileKind, ListingReader, Side};
use crate::local::Scratch;
use crate::point::{Count, Manifest, Part, PointId};
use crate::vault::eraser::{AT_ONCE, Eraser, Kept};
use crate::vault::journal::Journal;
use crate::vault::layout::{self, InPoint};
use crate::vault::{SILENT, Vault};

/// The most foreign things that are named; all are counted.
const NAMED: usize = 100;

/// What goes of the objects, and what is not ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// All that goes.
    pub removed: Count,
    /// The same by the point in whose folder it lies, or to which a database's copy belongs.
    pub by_point: BTreeMap<PointId, Count>,
    /// What is not ours: named and never touched.
    pub foreign: Foreign,
}

/// What in a vault's prefix is not ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Foreign {
    /// All of it.
    pub total: Count,
    /// Its folders (ending with `/`) and objects beside ours, the first hundred.
    pub names: Vec<String>,
}

impl Foreign {
    fn add(&mut self, key: &str, size: u64) {
        self.total.files += 1;
        self.total.bytes += size;
        let ours = key.starts_with(layout::DATABASE)
            || key.split('/').next().is_some_and(|name| name.parse::<PointId>().is_ok());
        let name = match key.split_once('/') {
            Some((folder, _)) if !ours => format!("{folder}/"),
            _ => key.to_owned(),
        };
        if self.names.len() < NAMED && self.names.last() != Some(&name) && !self.names.contains(&name) {
            self.names.push(name);
        }
    }
}

/// What each id counts for when it is said of an object whether something names it.
#[derive(Debug)]
pub(super) struct Stands {
    vault: Vault,
    /// Those of which everything is an older tool's that our documents do not name.
    adopted: BTreeSet<PointId>,
    by_id: BTreeMap<PointId, Stand>,
}

/// What one id counts for.
#[derive(Debug, Clone)]
pub(super) enum Stand {
    /// A point with the parts that are kept.
    Point { manifest: Box<Manifest>, kept: Vec<Part> },
    /// Nothing of it is touched: a backup is under way, or may come to take it over.
    Untouched,
    /// A point that is none any more: all of it goes that no other names.
    Gone {
        /// Of its objects those outside its folder.
        outside: Vec<String>,
        /// The categories of its files: what lies below another folder there is not its.
        categories: BTreeSet<String>,
    },
    /// A claim that was given up: all of it goes but the word of that, or that as well.
    GivenUp { forgotten: bool },
}

impl Stand {
    pub(super) fn given_up() -> Self {
        Self::GivenUp { forgotten: false }
    }

    pub(super) fn forgotten() -> Self {
        Self::GivenUp { forgotten: true }
    }

    /// Of a point whose manifest was removed just now.
    pub(super) fn gone_now(seen: &Seen) -> Self {
        let outside = seen.manifest().map(|manifest| manifest.objects_outside(&Part::ALL)).unwrap_or_default();
        let categories = seen.manifest().map(Manifest::categories).unwrap_or_default();
        Self::Gone { outside, categories }
    }

    /// Of a point whose manifest an earlier prune removed: the announcements say what lay outside its folder.
    pub(super) fn gone_before(seen: Option<&Seen>) -> Self {
        let words = || seen.into_iter().flat_map(|seen| seen.journal.announcements());
        let outside = words().flat_map(|word| word.objects.to_vec()).collect();
        Self::Gone { outside, categories: words().flat_map(|word| word.categories.to_vec()).collect() }
    }
}

impl Stands {
    /// As they are before anything is removed.
    pub(super) fn of(vault: &Vault, survey: &Survey) -> Self {
        let stand = |seen: &Seen| match &seen.role {
            Role::Point(manifest) => Stand::Point { manifest: manifest.clone(), kept: seen.kept(manifest) },
            _ => Stand::Untouched,
        };
        let by_id = survey.seen.iter().map(|seen| (seen.id.clone(), stand(seen))).collect();
        let adopted = survey.seen.iter().filter(|seen| seen.adopted).map(|seen| seen.id.clone()).collect();
        Self { vault: vault.clone(), adopted, by_id }
    }

    /// As they will be when a plan was carried out.
    pub(super) fn planned(
        vault: &Vault,
        survey: &Survey,
        doomed: &[super::Doomed],
        claims: &[super::ClaimPlan],
    ) -> Self {
        use super::Fate;
        let mut stands = Self::of(vault, survey);
        for doomed in doomed {
            let Some(seen) = survey.find(&doomed.point) else { continue };
            if doomed.whole {
                stands.set(&doomed.point, Stand::gone_now(seen));
            } else {
                stands.expire(seen, &doomed.parts);
            }
        }
        for claim in claims {
            match claim.fate {
                Fate::Running { .. } | Fate::Spared { .. } | Fate::Revoked { .. } => {}
                Fate::Swept { .. } => stands.set(&claim.point, Stand::given_up()),
                Fate::Forgotten { .. } => stands.set(&claim.point, Stand::forgotten()),
                Fate::Finished => stands.set(&claim.point, Stand::gone_before(survey.find(&claim.point))),
            }
        }
        stands
    }

    pub(super) fn set(&mut self, id: &PointId, stand: Stand) {
        self.by_id.insert(id.clone(), stand);
    }

    /// These parts of a point are gone.
    pub(super) fn expire(&mut self, seen: &Seen, parts: &[Part]) {
        if let Some(Stand::Point { kept, .. }) = self.by_id.get_mut(&seen.id) {
            kept.retain(|part| !parts.contains(part));
        }
    }

    /// Objects outside points' folders: those that a part names which is kept, and whose others are.
    fn outside(&self) -> (BTreeSet<String>, BTreeMap<String, PointId>) {
        let (mut named, mut others) = (BTreeSet::new(), BTreeMap::new());
        for (id, stand) in &self.by_id {
            match stand {
                Stand::Point { manifest, kept } => {
                    named.extend(manifest.objects_outside(kept));
                    let all = manifest.objects_outside(&Part::ALL);
                    others.extend(all.into_iter().map(|key| (key, id.clone())));
                }
                Stand::Gone { outside, .. } => others.extend(outside.iter().map(|key| (key.clone(), id.clone()))),
                // A claim on what an older tool has left has stored nothing there.
                Stand::GivenUp { .. } | Stand::Untouched if self.adopted.contains(id) => {}
                Stand::GivenUp { .. } => others.extend(self.by_stamp(id).map(|key| (key, id.clone()))),
                Stand::Untouched => named.extend(self.by_stamp(id)),
            }
        }
        (named, others)
    }

    /// What a backup of this id stores outside its folder.
    fn by_stamp(&self, id: &PointId) -> impl Iterator<Item = String> + use<> {
        let app = self.vault.app();
        [layout::sqlite(app, id), layout::postgres(app, id), layout::globals(app, id)].into_iter()
    }

    /// Every copy that a listing names which lives, in the order of the copies' keys.
    async fn named(&self, scratch: &Scratch) -> Result<Sorted> {
        let mut sorter = Sorter::new(self.vault.scratch());
        let mut before: Option<PointId> = None;
        for (id, stand) in &self.by_id {
            let Stand::Point { manifest, kept } = stand else { continue };
            if !kept.contains(&Part::Files) {
                continue;
            }
            let listing = match self.vault.point(manifest).listing(scratch).await {
                Ok(listing) => listing,
                // Another prune has removed the point since it was looked at: nobody depends on it.
                Err(error @ Error::Damaged { .. }) => match self.vault.state(id.clone()).await? {
                    Some(state) if state.manifest().is_some() && !state.journal.expired().contains(&Part::Files) => {
                        return Err(error);
                    }
                    _ => continue,
                },
                Err(error) => return Err(error),
            };
            // An incremental point names mostly what the one before names, which is named already.
            let earlier = match &before {
                Some(earlier) => Some(self.reopen(earlier, scratch)?),
                None => None,
            };
            name(listing, earlier, &mut sorter)?;
            if let Some(earlier) = before.replace(id.clone()) {
                let _ = std::fs::remove_file(scratch.file(&format!("{earlier}.jsonl.zst")));
            }
        }
        sorter.finish()
    }

    /// The copies that points name which were adopted and are going, or whose files are: of what lies there they alone go.
    async fn going_of_adopted(&self, scratch: &Scratch) -> Result<BTreeSet<String>> {
        let mut going = BTreeSet::new();
        for (id, stand) in self.by_id.iter().filter(|(id, _)| self.adopted.contains(id)) {
            let listing = match stand {
                Stand::Point { manifest, kept } if manifest.has(Part::Files) && !kept.contains(&Part::Files) => {
                    self.vault.point(manifest).listing(scratch).await
                }
                Stand::Gone { .. } => {
                    let path = scratch.file(&format!("{id}.going.jsonl.zst"));
                    let (key, name) = (layout::listing(id), self.vault.name(&layout::listing(id)));
                    match self.vault.reader().download(&self.vault.full(&key), &path).await? {
                        Some(_) => ListingReader::open(&path, name),
                        None => continue,
                    }
                }
                _ => continue,
            };
            // What cannot be told to be the point's is the older tool's, and stays.
            match listing.and_then(copies) {
                Ok(copies) => going.extend(copies),
                Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(going)
    }

    fn reopen(&self, id: &PointId, scratch: &Scratch) -> Result<ListingReader> {
        ListingReader::open(&scratch.file(&format!("{id}.jsonl.zst")), self.vault.name(&layout::listing(id)))
    }
}

/// The keys of a listing's copies.
fn copies(listing: ListingReader) -> Result<Vec<String>> {
    let key = |entry: FileEntry| entry.at.as_ref().and_then(|at| at.vault_key()).map(str::to_owned);
    listing.filter_map(|entry| entry.map(key).transpose()).collect()
}

/// Names the copies of a listing but for those that the listing before it names for the same file.
fn name(listing: ListingReader, earlier: Option<ListingReader>, sorter: &mut Sorter) -> Result<()> {
    let mut earlier = earlier.into_iter().flatten().peekable();
    for entry in listing {
        let entry = entry?;
        while earlier.peek().is_some_and(|other| other.as_ref().is_ok_and(|other| before(other, &entry))) {
            earlier.next();
        }
        let same = match earlier.peek() {
            Some(Ok(other)) => other.key == entry.key && other.at == entry.at,
            _ => false,
        };
        if let (Some(key), false) = (entry.at.as_ref().and_then(|at| at.vault_key()), same) {
            sorter.push(Object { key: key.to_owned(), side: Side::default(), kind: FileKind::File })?;
        }
    }
    Ok(())
}

fn before(left: &FileEntry, right: &FileEntry) -> bool {
    left.key.as_bytes() < right.key.as_bytes()
}

/// What becomes of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// It stays.
    Keep,
    /// It goes, as a thing of this point.
    Remove(PointId),
    /// It goes last, when nothing else is left of this point.
    Last(PointId),
    /// It is not ours.
    Foreign,
    /// It has the shape of a journal entry, and nothing else says that this id was ever ours.
    Stray(PointId),
}

/// Journal entries without a point: whoever looked at it wrote them as a prune removed it.
#[derive(Debug, Default)]
struct Strays(BTreeMap<PointId, Option<Vec<(String, u64)>>>);

/// The most entries of one such journal that are looked at.
const MOST_STRAYS: usize = 1_000;

impl Strays {
    fn add(&mut self, id: PointId, key: &str, size: u64) {
        if let Some(keys) =
            self.0.entry(id).or_insert_with(|| Some(Vec::new())).as_mut().filter(|keys| keys.len() < MOST_STRAYS)
        {
            keys.push((key.to_owned(), size));
        }
    }

    /// Something that is no journal entry lies beside them.
    fn other(&mut self, key: &str) {
        if let Some(id) = key.split_once('/').and_then(|(folder, _)| folder.parse().ok()) {
            self.0.insert(id, None);
        }
    }

    /// Those that are ours by what they say, and a day old; the others are foreign.
    async fn ours(self, vault: &Vault, now: Timestamp, foreign: &mut Foreign) -> Result<Vec<(String, PointId, u64)>> {
        let mut ours = Vec::new();
        for (id, keys) in self.0 {
            let Some(keys) = keys else { continue };
            let entries = Journal::of(vault, &id).entries().await?;
            let old = entries.read.iter().all(|entry| now.duration_since(entry.at) > SILENT);
            let all = entries.unreadable.is_empty() && entries.read.len() == keys.len();
            for (key, size) in keys {
                if old && all { ours.push((key, id.clone(), size)) } else { foreign.add(&key, size) }
            }
        }
        Ok(ours)
    }
}

/// Says of each object, in the order of the keys, what becomes of it.
struct Judge<'a> {
    stands: &'a Stands,
    named: std::iter::Peekable<Sorted>,
    /// An older tool's copies are few enough to be held: there is no other word of which are a point's.
    going_of_adopted: BTreeSet<String>,
    outside: (BTreeSet<String>, BTreeMap<String, PointId>),
}

impl<'a> Judge<'a> {
    async fn of(stands: &'a Stands, scratch: &Scratch) -> Result<Self> {
        let going_of_adopted = stands.going_of_adopted(scratch).await?;
        Ok(Self { stands, named: stands.named(scratch).await?.peekable(), going_of_adopted, outside: stands.outside() })
    }

    fn fate(&mut self, key: &str) -> Result<Fate> {
        if key == layout::DESCRIPTOR {
            return Ok(Fate::Keep);
        }
        if key.starts_with(layout::DATABASE) {
            let (named, others) = &self.outside;
            return Ok(match others.get(key) {
                _ if named.contains(key) => Fate::Keep,
                Some(id) => Fate::Remove(id.clone()),
                None => Fate::Foreign,
            });
        }
        let id = key.split_once('/').and_then(|(folder, rest)| Some((folder.parse::<PointId>().ok()?, rest)));
        let Some((id, rest)) = id else { return Ok(Fate::Foreign) };
        let place = layout::in_point(rest);
        let Some(stand) = self.stands.by_id.get(&id) else {
            return Ok(if place == InPoint::Journal { Fate::Stray(id) } else { Fate::Foreign });
        };
        let gone = |place: InPoint, forgotten: bool, named: bool| match place {
            InPoint::Unknown => Fate::Foreign,
            InPoint::Copy if named => Fate::Keep,
            InPoint::Claim | InPoint::Journal | InPoint::Manifest if forgotten => Fate::Last(id.clone()),
            InPoint::Claim | InPoint::Journal | InPoint::Manifest => Fate::Keep,
            InPoint::Copy | InPoint::Listing | InPoint::Records => Fate::Remove(id.clone()),
        };
        let named = place == InPoint::Copy && self.is_named(key)?;
        let category = rest.split('/').next().unwrap_or_default();
        let is_its = match stand {
            Stand::Point { manifest, .. } => manifest.categories().contains(category),
            Stand::Gone { categories, .. } => categories.contains(category),
            Stand::Untouched | Stand::GivenUp { .. } => true,
        };
        if place == InPoint::Copy && !named && !is_its {
            return Ok(Fate::Foreign);
        }
        let adopted = self.stands.adopted.contains(&id);
        if adopted && place == InPoint::Copy && !named && !self.going_of_adopted.contains(key) {
            return Ok(Fate::Foreign);
        }
        if adopted && place == InPoint::Listing {
            // It says which of the copies there are the point's, until they are gone.
            return Ok(match stand {
                Stand::Gone { .. } | Stand::GivenUp { forgotten: true } => Fate::Last(id),
                _ => Fate::Keep,
            });
        }
        if adopted && place == InPoint::Records {
            return Ok(Fate::Foreign);
        }
        Ok(match stand {
            Stand::Untouched => Fate::Keep,
            Stand::Gone { .. } => gone(place, true, named),
            Stand::GivenUp { forgotten } => gone(place, *forgotten, named),
            Stand::Point { kept, .. } => match place {
                InPoint::Unknown => Fate::Foreign,
                InPoint::Claim | InPoint::Manifest | InPoint::Journal => Fate::Keep,
                InPoint::Listing if kept.contains(&Part::Files) => Fate::Keep,
                InPoint::Records if kept.contains(&Part::Records) => Fate::Keep,
                InPoint::Copy if named => Fate::Keep,
                InPoint::Listing | InPoint::Records | InPoint::Copy => Fate::Remove(id.clone()),
            },
        })
    }

    fn is_named(&mut self, key: &str) -> Result<bool> {
        loop {
            match self.named.peek() {
                Some(Ok(object)) if object.key.as_bytes() < key.as_bytes() => {
                    self.named.next();
                }
                Some(Ok(object)) => return Ok(object.key == key),
                None => return Ok(false),
                Some(Err(_)) => {
                    return match self.named.next() {
                        Some(Err(error)) => Err(error),
                        _ => Err(Error::damaged("the listing of what is named ended too early")),
                    };
                }
            }
        }
    }
}

/// Looks at everything in the vault and counts what would go.
pub(super) async fn count(vault: &Vault, stands: &Stands, now: Timestamp, events: &Events) -> Result<Swept> {
    let scratch = Scratch::create(vault.scratch())?;
    let mut judge = Judge::of(stands, &scratch).await?;
    let mut swept = Swept::default();
    let (mut ends, mut strays) = (Ends::default(), Strays::default());
    for object in vault.objects(events).await? {
        let (key, size) = object?;
        let fate = judge.fate(&key)?;
        ends.see(&key, &fate);
        match fate {
            Fate::Remove(id) => swept.count(&id, size),
            Fate::Last(id) => ends.last.entry(id).or_default().push(size),
            Fate::Stray(id) => strays.add(id, &key, size),
            Fate::Foreign => {
                strays.other(&key);
                swept.foreign.add(&key, size);
            }
            Fate::Keep => {}
        }
    }
    for (_, id, size) in strays.ours(vault, now, &mut swept.foreign).await? {
        swept.count(&id, size);
    }
    for (id, sizes) in &ends.last {
        if !ends.stays.contains(id) {
            for size in sizes {
                swept.count(id, *size);
            }
        }
    }
    Ok(swept)
}

/// The points whose last documents go, unless something else of them stays.
#[derive(Debug, Default)]
struct Ends {
    last: BTreeMap<PointId, Vec<u64>>,
    stays: BTreeSet<PointId>,
}

impl Ends {
    fn see(&mut self, key: &str, fate: &Fate) {
        if matches!(fate, Fate::Keep | Fate::Foreign)
            && let Some(id) = key.split('/').next().and_then(|folder| folder.parse().ok())
        {
            self.stays.insert(id);
        }
    }
}

impl Swept {
    fn count(&mut self, id: &PointId, size: u64) {
        for count in [&mut self.removed, self.by_point.entry(id.clone()).or_default()] {
            count.files += 1;
            count.bytes += size;
        }
    }
}

/// Removes what nothing names, the claims and journals of what is gone last of all.
pub(super) async fn remove(
    eraser: &Eraser,
    stands: &Stands,
    (began, good_for): (Timestamp, SignedDuration),
    clock: &Clock,
    events: &Events,
) -> Result<(Swept, Vec<Kept>)> {
    let vault = &stands.vault;
    let scratch = Scratch::create(vault.scratch())?;
    let mut judge = Judge::of(stands, &scratch).await?;
    let mut sweep =
        Sweep { eraser, swept: Swept::default(), kept: Vec::new(), batch: Vec::new(), began, good_for, clock, events };
    let (mut ends, mut strays) = (Ends::default(), Strays::default());
    events.started(Stage::Remove, None, None);
    for object in vault.objects(events).await? {
        let (key, size) = object?;
        let fate = judge.fate(&key)?;
        ends.see(&key, &fate);
        match fate {
            Fate::Remove(id) => sweep.push(key, id, size).await?,
            Fate::Last(id) => {
                ends.last.entry(id).or_default();
            }
            Fate::Stray(id) => strays.add(id, &key, size),
            Fate::Foreign => {
                strays.other(&key);
                sweep.swept.foreign.add(&key, size);
            }
            Fate::Keep => {}
        }
    }
    for (key, id, size) in strays.ours(vault, clock.now(), &mut sweep.swept.foreign).await? {
        sweep.push(key, id, size).await?;
    }
    sweep.flush().await?;
    for id in ends.last.keys().filter(|id| !ends.stays.contains(id)) {
        sweep.end(vault, id).await?;
    }
    for id in sweep.swept.by_point.keys() {
        eraser.clear_folders(&layout::point(id)).await?;
    }
    events.ended(Stage::Remove);
    Ok((sweep.swept, sweep.kept))
}

struct Sweep<'a> {
    eraser: &'a Eraser,
    swept: Swept,
    kept: Vec<Kept>,
    batch: Vec<(String, PointId, u64)>,
    began: Timestamp,
    good_for: SignedDuration,
    clock: &'a Clock,
    events: &'a Events,
}

impl Sweep<'_> {
    async fn push(&mut self, key: String, id: PointId, size: u64) -> Result<()> {
        self.batch.push((key, id, size));
        if self.batch.len() >= AT_ONCE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        super::in_time(self.began, self.good_for, self.clock)?;
        let batch = std::mem::take(&mut self.batch);
        let keys: Vec<String> = batch.iter().map(|(key, ..)| key.clone()).collect();
        let kept = self.eraser.erase(&keys).await?;
        let mut bytes = 0;
        for (key, id, size) in &batch {
            if !kept.iter().any(|kept| kept.key == *key) {
                self.swept.count(id, *size);
                bytes += size;
            }
        }
        self.events.advanced(Stage::Remove, (batch.len() - kept.len()) as u64, bytes);
        self.kept.extend(kept);
        Ok(())
    }

    /// Removes the last documents of a point: the journal, then the word that it was given up, then the claim. Something
    /// else that is there by now, or that a lock keeps, leaves them all.
    async fn end(&mut self, vault: &Vault, id: &PointId) -> Result<()> {
        let listed: Vec<(String, u64)> = vault.objects_below(&layout::point(id)).await?.collect::<Result<_>>()?;
        let rank = |key: &str| match key.split_once('/').map(|(_, rest)| layout::in_point(rest)) {
            Some(InPoint::Journal | InPoint::Listing) => Some(0),
            Some(InPoint::Manifest) => Some(1),
            Some(InPoint::Claim) => Some(2),
            _ => None,
        };
        if listed.iter().any(|(key, _)| rank(key).is_none()) {
            return Ok(());
        }
        for stage in 0..=2 {
            let here = listed.iter().filter(|(key, _)| rank(key) == Some(stage));
            let before = self.kept.len();
            for (key, size) in here {
                self.push(key.clone(), id.clone(), *size).await?;
            }
            self.flush().await?;
            if self.kept.len() > before {
                return Ok(());
            }
        }
        Ok(())
    }
}
