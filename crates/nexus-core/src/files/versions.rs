//! Files that lie as versions of the source's own objects: whether they are still there, and the way back.

use std::collections::BTreeMap;

use super::compare::{Compared, difference};
use super::decide::is_frozen;
use crate::bucket::history::History;
use crate::bucket::{Object, Writer};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::{FileEntry, FileKind, ListingReader, Place, Side};
use crate::local::Scratch;
use crate::point::{Copies, Count, Finding, FindingKind, Part};
use crate::vault::RecoveryPoint;

/// True for a point whose files lie as versions in their source.
pub(crate) fn is_of_versions(point: &RecoveryPoint) -> bool {
    point.manifest().parts.files.as_ref().is_some_and(|files| files.copies == Copies::Versions)
}

/// The version of the source that an entry names, as what a copy is made from.
pub(crate) fn version_of(entry: &FileEntry) -> Option<Object> {
    match &entry.at {
        Some(Place::Version { id }) => {
            let side = Side { version: Some(id.clone()), checksum: None, ..entry.source.clone() };
            Some(Object { key: entry.key.clone(), side, kind: FileKind::File })
        }
        _ => None,
    }
}

/// Compares every version that a listing names with those that the source still has.
///
/// # Errors
///
/// As [`RecoveryPoint::source`], and what the source cannot be listed for.
pub(crate) async fn compare(
    point: &RecoveryPoint,
    listing: ListingReader,
    scratch: &Scratch,
    events: &Events,
) -> Result<Compared> {
    let Some(files) = &point.manifest().parts.files else { return Ok(Compared::default()) };
    let source = point.source()?;
    let histories = source.histories(&files.rules.prefix, scratch.path(), &Events::none()).await?;
    let mut histories = histories.peekable();
    let mut compared = Compared { equal: Count::default(), wrong: BTreeMap::new(), all: Count::default() };
    for entry in listing {
        let entry = entry?;
        let Some(Place::Version { id }) = &entry.at else { continue };
        compared.all.add(entry.source.size);
        events.advanced(Stage::CompareFiles, 1, entry.source.size);
        while histories
            .next_if(|next| next.as_ref().is_ok_and(|next| next.key.as_bytes() < entry.key.as_bytes()))
            .is_some()
        {}
        let there = match histories.peek() {
            Some(Ok(history)) if history.key == entry.key => history.versions.iter().find(|one| one.id == *id),
            Some(Err(_)) => {
                return Err(histories.next().and_then(Result::err).unwrap_or_else(|| Error::damaged("versions")));
            }
            _ => None,
        };
        let wrong = match there.filter(|version| !version.marker) {
            None => Some((FindingKind::Missing, format!("its version {id} is not in {} any more", files.source))),
            Some(version) if is_frozen(&version.side) => Some((
                FindingKind::Unreadable,
                format!("its version {id} lies in the archive class {}", version.side.class.as_deref().unwrap_or("?")),
            )),
            Some(version) => difference(&Side { modified: None, ..entry.source.clone() }, &version.side)
                .map(|detail| (FindingKind::Changed, format!("its version {id} {detail}"))),
        };
        match wrong {
            None => compared.equal.add(entry.source.size),
            Some((kind, detail)) => {
                let finding = Finding { part: Some(Part::Files), kind, name: entry.key.clone(), detail };
                compared.wrong.insert(entry.key, finding);
            }
        }
    }
    Ok(compared)
}

/// What brings a version back where it came from, by what lies over it
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/RestoringPreviousVersions.html>).
#[derive(Debug, Clone, PartialEq, Eq)]
enum WayBack {
    /// It is the current one.
    None,
    /// Nothing but delete markers lies over it: without them it is current again.
    Unmark(Vec<String>),
    /// Other versions lie over it: it is copied over them.
    Copy,
}

fn way_back(history: Option<&History>, id: &str) -> WayBack {
    let Some(history) = history else { return WayBack::Copy };
    let over: Vec<_> = history.versions.iter().take_while(|version| version.id != id).collect();
    match over.as_slice() {
        [] if history.versions.first().is_some_and(|first| first.latest) => WayBack::None,
        [] => WayBack::Copy,
        // The version may not be there at all, and then what is over it is all there is.
        over if over.len() == history.versions.len() => WayBack::Copy,
        over if over.iter().all(|version| version.marker) => {
            WayBack::Unmark(over.iter().map(|version| version.id.clone()).collect())
        }
        _ => WayBack::Copy,
    }
}

/// Makes a version current again that lies under nothing but delete markers; false where it must be copied instead.
///
/// # Errors
///
/// What the markers cannot be removed for.
pub(crate) async fn uncover(target: &Writer, key: &str, id: &str) -> Result<bool> {
    let history = target.reader().history_of(key).await?;
    match way_back(history.as_ref(), id) {
        WayBack::None => Ok(true),
        WayBack::Copy => Ok(false),
        WayBack::Unmark(markers) => {
            let remover = target.clone().remover();
            for marker in markers {
                match remover.remove_marker(key, &marker).await {
                    Ok(()) => {}
                    // A copy over the markers needs no such right.
                    Err(Error::Denied { .. }) => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            // Somebody may have written meanwhile.
            let after = target.reader().history_of(key).await?;
            Ok(way_back(after.as_ref(), id) == WayBack::None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::history::Version;

    fn history(versions: &[(&str, bool)]) -> History {
        let one = |(at, (id, marker)): (usize, &(&str, bool))| Version {
            id: (*id).to_owned(),
            side: Side::default(),
            marker: *marker,
            latest: at == 0,
        };
        History { key: "k".to_owned(), versions: versions.iter().enumerate().map(one).collect() }
    }

    #[test]
    fn the_way_back_goes_by_what_lies_over_a_version() {
        let of = |versions: &[(&str, bool)]| way_back(Some(&history(versions)), "v");
        assert_eq!(of(&[("v", false), ("u", false)]), WayBack::None);
        assert_eq!(of(&[("m", true), ("v", false)]), WayBack::Unmark(vec!["m".to_owned()]));
        assert_eq!(
            of(&[("n", true), ("m", true), ("v", false)]),
            WayBack::Unmark(vec!["n".to_owned(), "m".to_owned()])
        );
        assert_eq!(of(&[("w", false), ("v", false)]), WayBack::Copy);
        assert_eq!(of(&[("m", true), ("w", false), ("v", false)]), WayBack::Copy);
        assert_eq!(of(&[("m", true)]), WayBack::Copy);
        assert_eq!(way_back(None, "v"), WayBack::Copy);
    }
}
