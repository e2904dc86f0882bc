//! Copies as a listing names them, against the vault as it lists itself: one listing a point and category.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom};
use std::iter::Peekable;
use std::path::Path;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::bucket::Object;
use crate::bucket::packed::{read_block, write_block};
use crate::bucket::sorted::Sorted;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::{FileEntry, ListingReader, Side};
use crate::local::waiting;
use crate::point::{Count, Finding, FindingKind, Part};
use crate::vault::{Vault, layout};

/// Groups listed at once.
const AT_ONCE: usize = 8;
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

/// Compares every copy that `open` reads from a listing; `open` is called twice. Groups that are not in `groups` yet
/// are listed now.
pub(crate) async fn compare(
    vault: &Vault,
    groups: Groups,
    open: impl Fn() -> Result<ListingReader>,
    events: &Events,
) -> Result<Compared> {
    compare_with(vault, groups, group_names(open()?)?, open()?, events).await
}

/// The same, where the points and categories that the listing names are known.
pub(crate) async fn compare_with(
    vault: &Vault,
    groups: Groups,
    names: BTreeSet<String>,
    listing: ListingReader,
    events: &Events,
) -> Result<Compared> {
    let known = vault.reader().listed_in_another_order();
    let again = listing.again();
    let wanted = names.iter().filter(|name| !groups.contains_key(*name)).cloned().collect();
    match compare_once(vault, (groups, wanted), listing, events).await {
        // The vault's own listing relied on an order that is none.
        Err(_) if !known && vault.reader().listed_in_another_order() => {
            compare_once(vault, (Groups::new(), names), again?, &Events::none()).await
        }
        outcome => outcome,
    }
}

/// Lists the vault and goes through the listing meanwhile, on a thread of its own.
async fn compare_once(
    vault: &Vault,
    (mut groups, names): (Groups, BTreeSet<String>),
    listing: ListingReader,
    events: &Events,
) -> Result<Compared> {
    let mut feeds = Vec::new();
    for name in names {
        let (feed, sorted) = vault.reader().listing(&vault.full(&name), vault.scratch(), &Events::none())?;
        feeds.push(feed.run());
        groups.insert(name, sorted.peekable());
    }
    let list = stream::iter(feeds).buffer_unordered(AT_ONCE).try_collect::<()>();
    let (prefix, folder, told) = (vault.full(""), vault.scratch().to_owned(), events.clone());
    let walk = waiting(move || {
        let mut aside = Aside::new(&folder)?;
        let compared = walk(listing, groups, &prefix, &mut aside, &told)?;
        Ok((compared, aside.back()?))
    });
    let ((), (compared, aside)) = futures::try_join!(list, walk)?;
    stream::iter(aside)
        .map(async |entry: Result<FileEntry>| {
            let entry = entry?;
            let key = entry.at.as_ref().and_then(|at| at.vault_key()).unwrap_or("").to_owned();
            let there = vault.reader().head(&vault.full(&key)).await?;
            Ok((judge(&entry, &key, there.as_ref()), entry))
        })
        .buffered(AT_ONCE)
        .try_fold(compared, async |mut compared, (finding, entry)| {
            compared.judged(entry, finding);
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

/// Compares what lies in groups, and hands on the rest.
fn walk(
    listing: ListingReader,
    mut groups: Groups,
    prefix: &str,
    aside: &mut Aside,
    events: &Events,
) -> Result<Compared> {
    let mut compared = Compared::default();
    let mut told = Count::default();
    for entry in listing {
        let entry = entry?;
        let Some(key) = entry.at.as_ref().and_then(|at| at.vault_key()) else { continue };
        compared.all.add(entry.source.size);
        told.add(entry.source.size);
        if told.files == TOLD_AT_ONCE {
            events.advanced(Stage::CompareFiles, told.files, told.bytes);
            told = Count::default();
        }
        if layout::is_long(key) {
            aside.put(&entry)?;
            continue;
        }
        let group = layout::group(key).and_then(|group| groups.get_mut(group));
        let group =
            group.ok_or_else(|| Error::damaged(format!("the listing names {key:?}, which no copy is called")))?;
        let there = take(group, &format!("{prefix}{key}"))?;
        let finding = judge(&entry, key, there.as_ref());
        compared.judged(entry, finding);
    }
    events.advanced(Stage::CompareFiles, told.files, told.bytes);
    Ok(compared)
}

impl Compared {
    fn judged(&mut self, entry: FileEntry, finding: Option<Finding>) {
        match finding {
            None => self.equal.add(entry.source.size),
            Some(finding) => {
                self.wrong.insert(entry.key, finding);
            }
        }
    }
}

/// Notes the point and category in which a line names a copy.
pub(super) fn name_group(entry: &FileEntry, names: &mut BTreeSet<String>) {
    let key = entry.at.as_ref().and_then(|at| at.vault_key()).filter(|key| !layout::is_long(key));
    if let Some(group) = key.and_then(layout::group)
        && !names.contains(group)
    {
        names.insert(group.to_owned());
    }
}

/// The points and categories in which a listing names copies.
pub(crate) fn group_names(listing: ListingReader) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in listing {
        name_group(&entry?, &mut names);
    }
    Ok(names)
}

/// Lists points and categories of a vault, several at once.
pub(crate) async fn list_groups(vault: &Vault, names: BTreeSet<String>) -> Result<Groups> {
    stream::iter(names)
        .map(async |name| {
            let listed = vault.reader().list(&vault.full(&name), vault.scratch(), &Events::none()).await?;
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
