//! Copies as a listing names them, against the vault as it lists itself: one listing a point and category.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::bucket::Object;
use crate::bucket::sorted::Sorted;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::{FileEntry, ListingReader, Side};
use crate::point::{Count, Finding, FindingKind, Part};
use crate::vault::{Vault, layout};

/// Groups listed at once.
const AT_ONCE: usize = 8;

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
    mut groups: Groups,
    open: impl Fn() -> Result<ListingReader>,
    events: &Events,
) -> Result<Compared> {
    let mut names = group_names(open()?)?;
    names.retain(|name| !groups.contains_key(name));
    groups.extend(list_groups(vault, names).await?);
    let mut compared = Compared::default();
    for entry in open()? {
        let entry = entry?;
        let Some(key) = entry.at.as_ref().and_then(|at| at.vault_key()) else { continue };
        compared.all.add(entry.source.size);
        events.advanced(Stage::CompareFiles, 1, entry.source.size);
        let there = if layout::is_long(key) {
            vault.reader().head(&vault.full(key)).await?
        } else {
            let group = layout::group(key).and_then(|group| groups.get_mut(group));
            let group =
                group.ok_or_else(|| Error::damaged(format!("the listing names {key:?}, which no copy is called")))?;
            take(group, &vault.full(key))?
        };
        match judge(&entry, key, there.as_ref()) {
            None => compared.equal.add(entry.source.size),
            Some(finding) => {
                compared.wrong.insert(entry.key, finding);
            }
        }
    }
    Ok(compared)
}

/// The points and categories in which a listing names copies.
pub(crate) fn group_names(listing: ListingReader) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in listing {
        let entry = entry?;
        let key = entry.at.as_ref().and_then(|at| at.vault_key()).filter(|key| !layout::is_long(key));
        if let Some(group) = key.and_then(layout::group)
            && !names.contains(group)
        {
            names.insert(group.to_owned());
        }
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
