//! Copies as a listing names them, against the vault as it lists itself: one listing a point and category.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom};
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::versions;
use crate::bucket::Object;
use crate::bucket::marks::Marks;
use crate::bucket::packed::{read_block, write_block};
use crate::bucket::sorted::Sorted;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::{FileEntry, ListingReader, Side};
use crate::local::{Scratch, blocking, waiting};
use crate::point::{Count, Finding, FindingKind, Part};
use crate::vault::{RecoveryPoint, Vault, layout};

/// Groups listed at once.
const AT_ONCE: usize = 8;
/// Copies asked for one by one at once; the service's pace may have fewer under way.
const ASKED_AT_ONCE: usize = 64;
/// Files of one event.
const TOLD_AT_ONCE: u64 = 500;

/// What comparing a listing's copies with the vault gave.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Files whose copy is as it was.
    pub(crate) equal: Count,
    /// Files whose copy is not, by key.
    pub(crate) wrong: BTreeMap<String, Finding>,
    /// All files of the listing.
    pub(crate) all: Count,
}

/// What the vault lists, by point and category.
pub(crate) type Groups = BTreeMap<String, Peekable<Sorted>>;

/// The points and categories in which a listing names copies, each with some of their keys.
pub(crate) type Outline = BTreeMap<String, Marks>;

/// Compares every copy of a point with what the vault lists, and what are versions of its source with those.
pub(crate) async fn copies(point: &RecoveryPoint, scratch: &Scratch, events: &Events) -> Result<Compared> {
    let compared = compare(point.vault(), point.listing(scratch).await?, events).await?;
    if !versions::is_of_versions(point) {
        return Ok(compared);
    }
    let of_source = versions::compare(point, point.listing(scratch).await?, scratch, events).await?;
    Ok(compared.and(of_source))
}

/// Compares every copy that a listing names.
pub(crate) async fn compare(vault: &Vault, listing: ListingReader, events: &Events) -> Result<Compared> {
    let (first, prefix) = (listing.again()?, vault.full(""));
    let outline = blocking(move || outline(first, &prefix)).await?;
    compare_rest(vault, None, outline, listing, events).await
}

/// What a walk along some groups has compared: all copies in these, and all that lie under other names than their own.
#[derive(Debug)]
pub(crate) struct Met {
    compared: Compared,
    groups: BTreeSet<String>,
}

/// Compares every copy that a listing names, but for those that were met before; what these and the others came to is added up.
pub(crate) async fn compare_rest(
    vault: &Vault,
    met: Option<Met>,
    mut outline: Outline,
    listing: ListingReader,
    events: &Events,
) -> Result<Compared> {
    let (before, met) = met.map(|met| (met.compared, Arc::new(met.groups))).unzip();
    if let Some(met) = &met {
        outline.retain(|name, _| !met.contains(name));
    }
    let before = match before {
        Some(before) if outline.is_empty() => return Ok(before),
        before => before.unwrap_or_default(),
    };
    let doubts = vault.reader().doubts();
    let again = listing.again();
    let rest = match compare_once(vault, outline.clone(), met.clone(), listing, events).await {
        // The vault's own listing relied on what does not hold.
        Err(_) if vault.reader().doubts() > doubts => compare_once(vault, outline, met, again?, &Events::none()).await,
        outcome => outcome,
    };
    rest.map(|rest| before.and(rest))
}

/// Lists the vault and goes through the listing meanwhile, on a thread of its own.
async fn compare_once(
    vault: &Vault,
    outline: Outline,
    met: Option<Arc<BTreeSet<String>>>,
    listing: ListingReader,
    events: &Events,
) -> Result<Compared> {
    let mut feeds = Vec::new();
    let mut groups = Groups::new();
    for (name, marks) in outline {
        let along = (vault.full(&name), marks);
        let (feed, sorted) = vault.reader().listing((&along.0, &along.1), vault.scratch(), &Events::none())?;
        feeds.push(feed.run());
        groups.insert(name, sorted.peekable());
    }
    let list = stream::iter(feeds).buffer_unordered(AT_ONCE).try_collect::<()>();
    let (mut walk, told) = (Walk::along(vault, groups)?, events.clone());
    let walk = waiting(move || {
        walk.through(listing, met.as_deref(), &told)?;
        Ok(walk)
    });
    let ((), walk) = futures::try_join!(list, walk)?;
    Ok(walk.end(vault).await?.compared)
}

/// Copies in the order of a listing, compared one after the other with what the vault lists.
pub(crate) struct Walk {
    groups: Groups,
    /// Of the vault.
    prefix: String,
    aside: Aside,
    compared: Compared,
}

impl Walk {
    /// Begins one along these groups, if there are any.
    pub(crate) fn begin(vault: &Vault, groups: Groups) -> Result<Option<Self>> {
        if groups.is_empty() { Ok(None) } else { Self::along(vault, groups).map(Some) }
    }

    fn along(vault: &Vault, groups: Groups) -> Result<Self> {
        let aside = Aside::new(vault.scratch())?;
        Ok(Self { groups, prefix: vault.full(""), aside, compared: Compared::default() })
    }

    /// Compares the copy of the next line, if it has one in the vault; false when none of the groups has it.
    pub(crate) fn meet(&mut self, entry: &FileEntry) -> Result<bool> {
        let Some(key) = entry.at.as_ref().and_then(|at| at.vault_key()) else { return Ok(true) };
        if layout::is_long(key) {
            self.compared.all.add(entry.source.size);
            self.aside.put(entry)?;
            return Ok(true);
        }
        let group = layout::group(key)
            .ok_or_else(|| Error::damaged(format!("the listing names {key:?}, which no copy is called")))?;
        let Some(group) = self.groups.get_mut(group) else { return Ok(false) };
        self.compared.all.add(entry.source.size);
        let there = take(group, &format!("{}{key}", self.prefix))?;
        self.compared.judged(entry, judge(entry, key, there.as_ref()));
        Ok(true)
    }

    fn through(&mut self, listing: ListingReader, met: Option<&BTreeSet<String>>, events: &Events) -> Result<()> {
        let mut told = Count::default();
        for entry in listing {
            let entry = entry?;
            let Some(key) = entry.at.as_ref().and_then(|at| at.vault_key()) else { continue };
            let has = |met: &BTreeSet<String>| {
                layout::is_long(key) || layout::group(key).is_some_and(|group| met.contains(group))
            };
            if met.is_some_and(has) {
                continue;
            }
            told.add(entry.source.size);
            if told.files == TOLD_AT_ONCE {
                events.advanced(Stage::CompareFiles, told.files, told.bytes);
                told = Count::default();
            }
            if !self.meet(&entry)? {
                return Err(Error::damaged(format!("the listing names {key:?}, which it did not name before")));
            }
        }
        events.advanced(Stage::CompareFiles, told.files, told.bytes);
        Ok(())
    }

    /// Asks for the copies that lie under other names than their own, and says what all came to.
    pub(crate) async fn end(self, vault: &Vault) -> Result<Met> {
        let groups = self.groups.keys().cloned().collect();
        Ok(Met { compared: ask(vault, self.aside.back()?, self.compared).await?, groups })
    }
}

/// Compares copies one by one, each by a request of its own, and adds them up.
pub(crate) async fn ask(
    vault: &Vault,
    entries: impl Iterator<Item = Result<FileEntry>>,
    compared: Compared,
) -> Result<Compared> {
    stream::iter(entries)
        .map(async |entry: Result<FileEntry>| {
            let entry = entry?;
            let key = entry.at.as_ref().and_then(|at| at.vault_key()).unwrap_or("").to_owned();
            let there = vault.reader().head(&vault.full(&key)).await?;
            Ok((judge(&entry, &key, there.as_ref()), entry))
        })
        .buffered(ASKED_AT_ONCE)
        .try_fold(compared, async |mut compared, (finding, entry)| {
            compared.judged(&entry, finding);
            Ok(compared)
        })
        .await
}

/// Lines whose copies lie under other names than their own: these are asked for one by one, afterwards.
struct Aside(BufWriter<File>);

impl Aside {
    fn new(folder: &Path) -> Result<Self> {
        let made = tempfile::tempfile_in(folder);
        let file = made.map_err(|cause| Error::local(format!("cannot write to `{}`", folder.display()), cause))?;
        Ok(Self(BufWriter::new(file)))
    }

    fn put(&mut self, entry: &FileEntry) -> Result<()> {
        let line = serde_json::to_vec(entry).map_err(std::io::Error::from);
        let written = line.and_then(|line| write_block(&line, &mut self.0));
        written.map_err(|cause| Error::local("cannot put lines of a listing aside", cause))
    }

    /// What was put, one by one.
    fn back(self) -> Result<impl Iterator<Item = Result<FileEntry>>> {
        let broken = |cause| Error::local("cannot read lines of a listing that were put aside", cause);
        let mut file = self.0.into_inner().map_err(|cause| broken(cause.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(broken)?;
        let mut reader = BufReader::new(file);
        let next = move || {
            let block = read_block(&mut reader).transpose()?;
            let entry = block.and_then(|block| serde_json::from_slice(&block).map_err(std::io::Error::from));
            Some(entry.map_err(broken))
        };
        Ok(std::iter::from_fn(next))
    }
}

impl Compared {
    fn judged(&mut self, entry: &FileEntry, finding: Option<Finding>) {
        match finding {
            None => self.equal.add(entry.source.size),
            Some(finding) => {
                self.wrong.insert(entry.key.clone(), finding);
            }
        }
    }

    /// Both together.
    fn and(mut self, other: Self) -> Self {
        for (mine, theirs) in [(&mut self.equal, other.equal), (&mut self.all, other.all)] {
            mine.files += theirs.files;
            mine.bytes += theirs.bytes;
        }
        self.wrong.extend(other.wrong);
        self
    }
}

/// Notes the point and category in which a line names a copy, and the copy's key, whole.
pub(super) fn note_copy(entry: &FileEntry, prefix: &str, outline: &mut Outline) {
    let key = entry.at.as_ref().and_then(|at| at.vault_key()).filter(|key| !layout::is_long(key));
    let Some((key, group)) = key.and_then(|key| Some((key, layout::group(key)?))) else { return };
    let full = format!("{prefix}{key}");
    match outline.get_mut(group) {
        Some(marks) => marks.add(&full),
        None => outline.entry(group.to_owned()).or_default().add(&full),
    }
}

/// The points and categories in which a listing names copies of a vault that lies at `prefix`.
fn outline(listing: ListingReader, prefix: &str) -> Result<Outline> {
    let mut outline = Outline::new();
    for entry in listing {
        note_copy(&entry?, prefix, &mut outline);
    }
    Ok(outline)
}

/// Lists points and categories of a vault, several at once.
pub(crate) async fn list_groups(vault: &Vault, outline: Outline) -> Result<Groups> {
    stream::iter(outline)
        .map(async |(name, marks)| {
            let along = (vault.full(&name), marks);
            let listed = vault.reader().list_along((&along.0, &along.1), vault.scratch(), &Events::none()).await?;
            Ok::<_, Error>((name, listed.peekable()))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// Goes on in a sorted listing to `key`, which comes later than all that were asked for before.
pub(crate) fn take(group: &mut Peekable<Sorted>, key: &str) -> Result<Option<Object>> {
    while let Some(next) = group.peek() {
        let before = next.as_ref().is_ok_and(|object| object.key.as_bytes() < key.as_bytes());
        let same = next.as_ref().is_ok_and(|object| object.key == key);
        if next.is_err() || before || same {
            let object = group.next().expect("it was just looked at")?;
            if same {
                return Ok(Some(object));
            }
            continue;
        }
        break;
    }
    Ok(None)
}

fn judge(entry: &FileEntry, key: &str, there: Option<&Object>) -> Option<Finding> {
    let finding = |kind, detail: String| Finding { part: Some(Part::Files), kind, name: entry.key.clone(), detail };
    let Some(copy) = &entry.copy else {
        return Some(finding(
            FindingKind::Inconsistent,
            "its listing line names a copy without saying what it is".into(),
        ));
    };
    match there {
        None => Some(finding(FindingKind::Missing, format!("its copy {key} is not there"))),
        Some(object) => difference(copy, &object.side)
            .map(|detail| finding(FindingKind::Changed, format!("its copy {key} {detail}"))),
    }
}

/// How what is there differs from what was recorded, as far as a listing shows.
pub(crate) fn difference(recorded: &Side, there: &Side) -> Option<String> {
    if recorded.size != there.size {
        return Some(format!("has {} bytes, not {}", there.size, recorded.size));
    }
    if let (Some(left), Some(right)) = (&recorded.etag, &there.etag) {
        return (left != right).then(|| format!("has the ETag {right}, not {left}"));
    }
    // A folder knows no ETag: its file's time of change stands for it, and `--full` reads the bytes.
    let touched = recorded.etag.is_none() && recorded.modified.is_some() && recorded.modified != there.modified;
    touched.then(|| "was changed after it was written".to_owned())
}
