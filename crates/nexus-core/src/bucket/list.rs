//! Listings of a bucket: several ranges of keys at once, handed on in byte order.
//!
//! What a listing may rely on is what the service has shown. Folders that it names can be listed each on its own whatever the order;
//! within one, a range may begin behind any key only where listings come in byte order: documented for Amazon S3's own
//! buckets (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>), elsewhere shown by two
//! keys, such as `a-b/c` before `a/b`, that a walk of folders would name the other way round. Each seam
//! between two ranges is looked at: the first key behind one is the first of the next, or nothing is relied on any
//! more. Before the order is shown, nothing of a range is handed out that is not there whole, so that it can be sorted.
//!
//! Where keys are known from an earlier listing, ranges begin at some of those from the start, though the order is not shown, if both
//! orders would have them alike. Such a range relies on the service to go on behind a key that is there, as it does from page
//! to page: so the key must be there still, and be the last of the range before. Where one of this does not hold the listing is
//! made again, and no listing of that service relies on marks any more.

mod answer;
mod page;
mod range;
mod split;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Semaphore;

use self::page::{Cursor, Named, Page, Query};
use self::range::{Met, Range, Standing};
use self::split::Seen;
use super::Object;
use super::marks::Marks;
use super::s3::S3;
use super::sorted::Sorted;
use super::spool::{Held, Inlet, Sum, When, spool};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};

/// Pages of one listing that are asked for at once.
const AT_ONCE: usize = 16;
/// Folders up to this many are listed each on its own: more of them would cost more requests than they save time.
const FOLDERS: usize = 16;

/// Pages of all listings of a service that are asked for at once: each takes up to a megabyte while it is taken apart.
const PAGES: usize = 32;

/// What listings of a service have shown of it, for those that come later in this process, and what they share.
#[derive(Debug)]
pub(crate) struct Shown {
    order: AtomicU8,
    /// Marks have turned out not to be relied on before the order is shown.
    unmarked: AtomicBool,
    /// It does not begin a listing behind a key.
    from_the_start: AtomicBool,
    /// How often a listing has turned out not to hold what it relied on.
    doubts: AtomicU32,
    first_version: AtomicBool,
    held: Held,
    pages: Semaphore,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            order: AtomicU8::new(Order::Unknown as u8),
            unmarked: AtomicBool::new(false),
            from_the_start: AtomicBool::new(false),
            doubts: AtomicU32::new(0),
            first_version: AtomicBool::new(false),
            held: Held::default(),
            pages: Semaphore::new(PAGES),
        }
    }
}

/// In which order a service lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Nobody knows yet.
    Unknown,
    /// That of the keys' bytes.
    Bytes,
    /// Some other.
    Other,
}

impl Shown {
    fn order(&self) -> Order {
        match self.order.load(Ordering::Relaxed) {
            0 => Order::Unknown,
            1 => Order::Bytes,
            _ => Order::Other,
        }
    }

    /// Another order, once seen, stays.
    fn show(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::Relaxed);
    }
}

/// A listing under way: it is to be driven to its end, whoever reads what comes of it.
pub(crate) struct Listing {
    s3: S3,
    prefix: String,
    events: Events,
    ranges: Vec<Range>,
    /// Those that follow each other, the first included.
    begun: usize,
    /// Places to begin at: folders that the service has named, or marks.
    places: Vec<String>,
    seen: Seen,
    marks: Marks,
    /// Ranges began at marks.
    marked: bool,
    order: Order,
    /// Where what is listed goes in, until it is run.
    inlet: Option<Inlet>,
    sum: Sum,
    /// Objects that were put in.
    put: u64,
    /// Folders that a page named and that turned out to hold nothing, under other names that they may have.
    doubtful: Vec<String>,
}

impl S3 {
    /// Lists a prefix, of whose keys some may be known; what memory should not hold goes into `scratch`.
    pub(crate) async fn list(
        &self,
        (prefix, marks): (&str, &Marks),
        scratch: &Path,
        events: &Events,
    ) -> Result<Sorted> {
        let doubts = self.doubts();
        let (listing, sorted) = self.listing((prefix, marks), scratch, events);
        match listing.run().await {
            Ok(()) => Ok(sorted),
            Err(_) if self.doubts() > doubts => {
                drop(sorted);
                let (listing, sorted) = self.listing((prefix, marks), scratch, &Events::none());
                listing.run().await?;
                Ok(sorted)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins to list a prefix. What comes of it is read on another thread while it is driven.
    ///
    /// It fails where what it relied on does not hold: [`S3::doubts`] are more then, and the next try relies on less.
    pub(crate) fn listing(
        &self,
        (prefix, marks): (&str, &Marks),
        scratch: &Path,
        events: &Events,
    ) -> (Listing, Sorted) {
        let order = self.order();
        let when = if order == Order::Bytes { When::AsItComes } else { When::AtItsEnd };
        let (inlet, sum, outlet) = spool(scratch, &self.shown().held, when);
        let listing = Listing {
            s3: self.clone(),
            prefix: prefix.to_owned(),
            events: events.clone(),
            ranges: Vec::new(),
            begun: 0,
            places: Vec::new(),
            seen: Seen::default(),
            marks: marks.clone(),
            marked: false,
            order,
            inlet: Some(inlet),
            sum,
            put: 0,
            doubtful: Vec::new(),
        };
        (listing, Sorted::spooled(outlet))
    }

    /// How often a listing of the service has turned out not to hold what it relied on.
    pub(crate) fn doubts(&self) -> u32 {
        self.shown().doubts.load(Ordering::Relaxed)
    }

    fn listed_in_another_order(&self) -> bool {
        self.shown().order() == Order::Other
    }

    /// Directory buckets, which have no order, and their access points bear these endings
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/directory-bucket-naming-rules.html>,
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-directory-buckets.html>).
    fn order(&self) -> Order {
        match self.shown().order() {
            Order::Unknown if self.is_amazons() => Order::Bytes,
            shown => shown,
        }
    }

    fn is_amazons(&self) -> bool {
        self.endpoint().is_none() && !self.name().ends_with("--x-s3") && !self.name().ends_with("--xa-s3")
    }

    /// The names one level below a prefix that have something below them.
    pub(crate) async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        let mut query = Query::of(prefix, Cursor::Start(None)).by_folder();
        let mut folders: Vec<String> = Vec::new();
        loop {
            let page = self.page(&mut query).await?;
            let names = page.folders.iter().filter_map(|full| full.prefix.strip_prefix(prefix));
            for name in names.map(|name| name.trim_end_matches('/')) {
                // One that ended a page may come again.
                if folders.last().map(String::as_str) != Some(name) {
                    folders.push(name.to_owned());
                }
            }
            match page.next {
                Some(next) => query.cursor = next,
                None => return Ok(folders),
            }
        }
    }
}

impl Listing {
    /// Drives it to its end: only then does the reader come to one, too.
    pub(crate) async fn run(mut self) -> Result<()> {
        let inlet = self.inlet.take().expect("a listing is run once");
        self.begin(inlet).await?;
        let mut asking = FuturesUnordered::new();
        loop {
            while asking.len() < AT_ONCE
                && let Some(at) = self.choose()
            {
                let range = &mut self.ranges[at];
                range.standing = Standing::Asked;
                let (s3, id, mut query) = (self.s3.clone(), range.id, range.query());
                asking.push(async move {
                    let page = s3.page(&mut query).await;
                    (id, query, page)
                });
            }
            let Some((id, query, page)) = asking.next().await else { break };
            let at = self.at(id)?;
            self.ranges[at].query = query;
            match page {
                Ok(page) => self.take(at, page)?,
                // It may be that the service begins at no key, or not at this one.
                Err(error @ (Error::Unreachable { .. } | Error::Denied { .. } | Error::Missing { .. })) => {
                    return Err(error);
                }
                Err(_) if self.marked => {
                    self.s3.shown().from_the_start.store(true, Ordering::Relaxed);
                    return Err(self.unmarked());
                }
                Err(error) => return Err(error),
            }
        }
        if self.ranges.iter().any(|range| !range.is_done()) {
            return Err(self.confused());
        }
        for spelled in &self.doubtful {
            if self.s3.has_any(spelled).await? {
                let why =
                    format!("the service does not spell folders such as {spelled:?} for URLs, as it says it does");
                return Err(self.s3.unlistable(&Query::of(&self.prefix, Cursor::Start(None)), &why));
            }
        }
        self.sum.tell(self.put);
        Ok(())
    }

    /// Ranges between marks; else one level of the prefix: where one page holds it and its folders are few, each is a range of its own.
    async fn begin(&mut self, first: Inlet) -> Result<()> {
        let marks = match self.order {
            _ if self.begins_at_no_key() => &[],
            Order::Bytes => self.marks.in_bytes(&self.prefix),
            Order::Unknown if self.s3.shown().unmarked.load(Ordering::Relaxed) => &[],
            Order::Unknown => self.marks.in_any_order(&self.prefix),
            Order::Other => &[],
        };
        if !marks.is_empty() {
            self.begin_at(marks.to_vec(), first);
            return Ok(());
        }
        let mut query = Query::of(&self.prefix, Cursor::Start(None)).by_folder();
        let level = self.s3.page(&mut query).await?;
        let (mut folders, mut objects) = (level.folders, level.objects);
        folders.sort_unstable();
        folders.dedup();
        let few = level.next.is_none() && folders.len() <= FOLDERS;
        if !few || !is_one_level(&self.prefix, &objects, &folders) {
            self.places = folders.into_iter().map(|folder| folder.prefix).collect();
            let range = self.range(Cursor::Start(None), first);
            self.ranges.push(range);
            return Ok(());
        }
        // In which order a level comes says nothing of the order of keys: some services name folders and objects apart.
        objects.sort_by(|left, right| left.key.as_bytes().cmp(right.key.as_bytes()));
        self.count(&objects);
        self.put += objects.len() as u64;
        let mut objects = objects.into_iter().peekable();
        let mut inlet = first;
        for folder in folders {
            let of_folder = inlet.followed(self.when());
            inlet.put(std::iter::from_fn(|| objects.next_if(|object| object.key < folder.prefix)).collect())?;
            inlet.end();
            inlet = of_folder.followed(self.when());
            let mut range = self.range(Cursor::Start(None), of_folder);
            range.query.prefix.clone_from(&folder.prefix);
            range.spelled = Some(folder.spelled).filter(|spelled| *spelled != folder.prefix);
            self.ranges.push(range);
        }
        inlet.put(objects.collect())?;
        inlet.end();
        Ok(())
    }

    fn begin_at(&mut self, marks: Vec<String>, first: Inlet) {
        self.marked = true;
        let mut left = self.range(Cursor::Start(None), first);
        for mark in marks {
            self.begun += 1;
            let right = left.followed(self.begun, mark, self.when());
            self.ranges.push(std::mem::replace(&mut left, right));
        }
        self.ranges.push(left);
    }

    fn when(&self) -> When {
        if self.order == Order::Bytes { When::AsItComes } else { When::AtItsEnd }
    }

    fn range(&mut self, cursor: Cursor, inlet: Inlet) -> Range {
        self.begun += 1;
        Range::new(self.begun, Query::of(&self.prefix, cursor), inlet)
    }

    fn at(&self, id: usize) -> Result<usize> {
        self.ranges.iter().position(|range| range.id == id).ok_or_else(|| self.confused())
    }

    fn confused(&self) -> Error {
        let what = format!("a listing of s3://{}/{} lost a range of its own", self.s3.name(), self.prefix);
        Error::Local { what, cause: None }
    }

    /// The range whose next page is asked for now: the first that waits, or a new one.
    fn choose(&mut self) -> Option<usize> {
        let waits = self.ranges.iter().position(|range| range.standing == Standing::Waits);
        waits.or_else(|| if self.order == Order::Bytes && !self.begins_at_no_key() { self.split() } else { None })
    }

    /// Begins a new range in the middle of what a long one has before it.
    fn split(&mut self) -> Option<usize> {
        let long = self.ranges.iter().enumerate().filter(|(_, range)| range.may_be_split());
        let (at, range) = long.max_by_key(|(_, range)| range.pages)?;
        let last = range.last.clone()?;
        let between = (last.as_str(), range.end.as_deref());
        let Some(middle) = split::middle(between, &range.query.prefix, &self.places, &self.seen) else {
            self.ranges[at].cannot_be_split();
            return None;
        };
        self.begun += 1;
        let right = self.ranges[at].split(self.begun, middle);
        self.ranges.insert(at + 1, right);
        Some(at + 1)
    }

    fn take(&mut self, at: usize, page: Page) -> Result<()> {
        let outcome = self.ranges[at].take(page);
        let tells = outcome.out_of_order || (outcome.shows_bytes && self.order == Order::Unknown);
        let another = outcome.out_of_order || self.s3.listed_in_another_order();
        if another && self.relies_on_marks() {
            return Err(self.unmarked());
        }
        if another && self.order == Order::Bytes {
            return Err(self.disordered());
        }
        self.seen.add(&outcome.objects);
        self.count(&outcome.objects);
        self.ranges[at].inlet.put(outcome.objects)?;
        if tells {
            self.learn(if outcome.out_of_order { Order::Other } else { Order::Bytes });
        }
        if self.ranges[at].is_done() {
            let objects = self.ranges[at].finish();
            self.put += objects;
            // A folder that is empty may have been emptied just now; or it is called otherwise.
            self.doubtful.extend(self.ranges[at].spelled.take().filter(|_| objects == 0));
        }
        self.join(at)
    }

    /// What is handed out from now on goes by what a page has shown.
    fn learn(&mut self, order: Order) {
        self.s3.shown().show(order);
        self.order = order;
        if order == Order::Bytes {
            let marks = self.marks.in_bytes(&self.prefix);
            if !marks.is_empty() {
                self.places = marks.to_vec();
            }
            self.ranges.iter().for_each(|range| range.inlet.release());
        }
    }

    /// Looks at the seams of a range, and lets go of what has ended and has been looked at.
    fn join(&mut self, at: usize) -> Result<()> {
        let from = at.saturating_sub(1);
        for left in (from..=at).rev() {
            let Some(right) = self.ranges.get(left).and_then(|range| range.right) else { continue };
            let right = self.at(right)?;
            if self.relies_on_marks() && self.ranges[left].ends_before_its_end() {
                return Err(self.unmarked());
            }
            if self.ranges[right].is_empty_at_first() {
                self.ranges[left].split_failed();
            } else if self.ranges[right].first != Met::NotYet {
                self.ranges[left].split_served();
            }
            let (beyond, first) = (&self.ranges[left].beyond, &self.ranges[right].first);
            let known = *beyond != Met::NotYet && *first != Met::NotYet;
            // In a bucket of Amazon's it is that somebody wrote or removed one in between.
            if known && beyond != first && !self.s3.is_amazons() {
                return Err(if self.relies_on_marks() { self.unmarked() } else { self.disordered() });
            }
        }
        let joined = |ranges: &[Range], range: &Range| {
            range.is_done()
                && range.right.is_none_or(|id| ranges.iter().any(|right| right.id == id && right.first != Met::NotYet))
        };
        // Only what lies left of nothing that still looks at it may go.
        for left in (0..self.ranges.len()).rev() {
            let looked_at = self.ranges[..left].iter().any(|range| range.right == Some(self.ranges[left].id));
            if !looked_at && joined(&self.ranges, &self.ranges[left]) {
                self.ranges.remove(left);
            }
        }
        Ok(())
    }

    fn begins_at_no_key(&self) -> bool {
        self.s3.shown().from_the_start.load(Ordering::Relaxed)
    }

    /// Ranges began at marks, and nothing else says that they may.
    fn relies_on_marks(&self) -> bool {
        self.marked && self.order == Order::Unknown
    }

    /// They may not.
    fn unmarked(&self) -> Error {
        self.s3.shown().unmarked.store(true, Ordering::Relaxed);
        self.s3.shown().doubts.fetch_add(1, Ordering::Relaxed);
        let what = format!("s3://{}/{} cannot be listed from keys that it had before", self.s3.name(), self.prefix);
        Error::Unsupported { what }
    }

    fn disordered(&self) -> Error {
        self.s3.shown().show(Order::Other);
        self.s3.shown().doubts.fetch_add(1, Ordering::Relaxed);
        let what = format!("s3://{}/{} was listed in byte order and then in another", self.s3.name(), self.prefix);
        Error::Unsupported { what }
    }

    fn count(&mut self, objects: &[Object]) {
        let bytes = objects.iter().map(|object| object.side.size).sum();
        self.events.advanced(Stage::ListFiles, objects.len() as u64, bytes);
    }
}

/// Whether these are what lies one level below a prefix, each once and as itself. What is named otherwise would be listed twice,
/// for ever, or not at all if each folder were a range.
fn is_one_level(prefix: &str, objects: &[Object], folders: &[Named]) -> bool {
    let rest = |name: &str| name.strip_prefix(prefix).map(str::to_owned);
    let is_folder =
        |folder: &Named| rest(&folder.prefix).is_some_and(|rest| rest.find('/').is_some_and(|at| at + 1 == rest.len()));
    let is_object = |object: &Object| rest(&object.key).is_some_and(|rest| !rest.contains('/'));
    let once = folders.windows(2).all(|pair| pair[0].prefix != pair[1].prefix);
    once && folders.iter().all(is_folder) && objects.iter().all(is_object)
}
