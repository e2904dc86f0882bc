//! What is to be done about each file, decided while the source is listed: nothing is copied before all are decided.

use std::path::{Path, PathBuf};

use super::base::Base;
use super::capture::{Earlier, FilesPlan, Tally};
use super::compare::{self, Groups};
use super::left::Left;
use super::moment;
use super::rules::Rules;
use super::work::{Job, WorkWriter};
use crate::bucket::Object;
use crate::bucket::marks::Marks;
use crate::bucket::sorted::Sorted;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::listing::{FileEntry, FileKind, ListingReader, Side};
use crate::local::{self, Scratch};
use crate::point::{Count, Finding, FindingKind, Part};
use crate::vault::draft::Draft;

/// Copies of a base of more files than this are listed once, after all was copied: listing them takes long, and a first look
/// would not be fresh any more.
const LOOKED_AT_FIRST: u64 = 100_000;

/// What was decided, and where it is written.
pub(super) struct Decided {
    pub(super) work: PathBuf,
    pub(super) tally: Tally,
    pub(super) to_copy: Count,
}

/// Lists the copies of the base, when they are so few that the look is still fresh after all was copied.
pub(super) async fn look(base: Option<&Base>, draft: &Draft) -> Result<Groups> {
    let few = |base: &&Base| {
        base.point.manifest().parts.files.as_ref().is_some_and(|files| files.total.files <= LOOKED_AT_FIRST)
    };
    let Some(base) = base.filter(few) else { return Ok(Groups::new()) };
    compare::list_groups(draft.vault(), base.copies.clone()).await
}

/// Lists the source and decides meanwhile.
pub(super) async fn decide(
    plan: &FilesPlan,
    draft: &Draft,
    earlier: Earlier<'_>,
    scratch: &Scratch,
    events: &Events,
) -> Result<Decided> {
    let doubts = plan.source.doubts();
    match decide_once(plan, draft, earlier, (scratch, "files.work"), events).await {
        // What was decided so far relied on an order that is none.
        Err(_) if plan.source.doubts() > doubts => {
            decide_once(plan, draft, earlier, (scratch, "files-again.work"), &Events::none()).await
        }
        outcome => outcome,
    }
}

async fn decide_once(
    plan: &FilesPlan,
    draft: &Draft,
    Earlier { base, left, at }: Earlier<'_>,
    (scratch, name): (&Scratch, &str),
    events: &Events,
) -> Result<Decided> {
    let rules = Rules::new(&plan.rules)?;
    let (keys, base) = match base {
        Some(base) => (base.keys.clone(), Some(base.listing(scratch).await?)),
        None => (Marks::default(), None),
    };
    let left = Left::of(draft.vault(), left, &rules).await?;
    let work = scratch.file(name);
    let as_of = moment::listed(plan, (&rules, at), scratch, events).await?;
    let (feed, listed, findings) = if let Some((listed, unsure)) = as_of {
        (None, listed, unsure)
    } else {
        let (feed, listed) = plan.source.listing((rules.prefix(), &keys), scratch.path(), events)?;
        (Some(feed), listed, Vec::new())
    };
    let feed = async {
        match feed {
            Some(feed) => feed.run().await,
            None => Ok(()),
        }
    };
    let sort = local::waiting(move || {
        let mut tally = Tally::of(findings);
        let to_copy = sort_out(listed, (base, left), &rules, &work, &mut tally)?;
        Ok(Decided { work, tally, to_copy })
    });
    let ((), decided) = futures::try_join!(feed, sort)?;
    Ok(decided)
}

/// Decides for every listed file: left out, reused, or to be copied; nothing is copied before all are decided.
pub(super) fn sort_out(
    listed: Sorted,
    (base, mut left): (Option<ListingReader>, Left),
    rules: &Rules,
    work: &Path,
    tally: &mut Tally,
) -> Result<Count> {
    let mut out = WorkWriter::create(work)?;
    let mut base = base.map(Iterator::peekable);
    let mut to_copy = Count::default();
    let mut frozen: Option<(String, u64)> = None;
    for object in listed {
        let object = object?;
        if !rules.takes(&object.key) {
            tally.excluded.add(object.side.size);
            continue;
        }
        if let FileKind::Special(kind) = &object.kind {
            let detail = format!("a {kind} is recorded and not opened");
            tally.findings.push(Finding {
                part: Some(Part::Files),
                kind: FindingKind::LeftOut,
                name: object.key,
                detail,
            });
            continue;
        }
        if is_frozen(&object.side) {
            frozen.get_or_insert((object.key, 0)).1 += 1;
            continue;
        }
        let earlier = base.as_mut().map(|base| find(base, &object.key)).transpose()?.flatten();
        let category = rules.category(&object.key).to_owned();
        let mut reuse = earlier.filter(|earlier| unchanged(earlier, &object));
        if reuse.is_none() && object.kind == FileKind::File {
            reuse = left.copy_of(&object, &category)?;
            let count = if reuse.is_some() { &mut tally.left } else { &mut to_copy };
            count.add(object.side.size);
        }
        out.push(&Job { object, category, reuse })?;
    }
    out.finish()?;
    if let Some((first, count)) = frozen {
        return Err(Error::usage_hint(
            format!("{count} objects lie in an archive class that cannot be copied, the first is {first:?}"),
            "copy them to another storage class first (a restored object keeps its archive class), or leave them out with `exclude`",
        ));
    }
    Ok(to_copy)
}

/// Classes whose objects S3 neither reads nor copies until they are restored from the archive.
pub(super) fn is_frozen(side: &Side) -> bool {
    matches!(side.class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
}

fn find(base: &mut std::iter::Peekable<ListingReader>, key: &str) -> Result<Option<FileEntry>> {
    while let Some(next) = base.peek() {
        match next {
            Ok(entry) if entry.key.as_bytes() > key.as_bytes() => return Ok(None),
            _ => {}
        }
        let entry = base.next().expect("it was just looked at")?;
        if entry.key == key {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Size, ETag, last modified, storage class; for folders also inode and time of change.
fn unchanged(earlier: &FileEntry, now: &Object) -> bool {
    let (before, after) = (&earlier.source, &now.side);
    earlier.kind == now.kind
        && (earlier.at.is_some() || earlier.kind != FileKind::File)
        && before.size == after.size
        && before.etag == after.etag
        && before.modified == after.modified
        && before.class == after.class
        && before.unix == after.unix
}
