//! What a capture of the files would take, from a listing of them and the base point's: nothing is copied.

use std::collections::BTreeMap;

use super::base::Base;
use super::capture::{FilesPlan, Properties, SCRIPT, Tally};
use super::decide::sort_out;
use super::left::Left;
use super::rules::Rules;
use super::work::{Job, WorkReader};
use crate::bucket::Reader;
use crate::bucket::access::GRANTS;
use crate::bucket::inventory::Inventory;
use crate::bucket::marks::Marks;
use crate::bucket::sorted::Sorted;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::listing::{FileEntry, FileKind, ListingWriter, Place, Side, hex, proof_of};
use crate::local::Scratch;
use crate::point::{Copies, Count, PointId};
use crate::vault::layout;

/// Entries on one page of a listing.
const PAGE: u64 = 1_000;
/// Letters of a version id.
const VERSION_ID: usize = 32;
/// Folders up to this many are listed each on its own, as the bucket does it.
const FOLDERS: usize = 16;

/// What a capture would take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// All files.
    pub total: Count,
    /// Those that would be copied.
    pub to_copy: Count,
    /// Those that would be copied, by storage class.
    pub by_class: BTreeMap<String, Count>,
    /// Those that the rules leave out.
    pub left_out: Count,
    /// Requests that list the files.
    pub listing_requests: u64,
    /// Requests that copy, of the kind of a put.
    pub copy_requests: u64,
    /// Requests that copying needs beside them, of the kind of a get.
    pub look_requests: u64,
    /// Requests that list copies, old and new, to compare them.
    pub compare_requests: u64,
    /// Bytes of the listing that would be stored.
    pub listing_bytes: u64,
    /// Bytes of the script that would be stored beside it.
    pub script_bytes: u64,
}

/// The files, as they are foreseen to be.
pub struct Expected {
    /// In the order of their keys' bytes.
    pub listed: Sorted,
    /// How many requests list them.
    pub requests: u64,
}

impl Expected {
    /// Lists them.
    ///
    /// # Errors
    ///
    /// As a capture would fail before it copies anything.
    pub(crate) async fn now(plan: &FilesPlan, base: Option<&Base>, scratch: &Scratch, events: &Events) -> Result<Self> {
        let (before, rules) = (plan.source.requests(), Rules::new(&plan.rules)?);
        let keys = base.map(|base| base.keys.clone()).unwrap_or_default();
        let listed = plan.source.list_along((rules.prefix(), &keys), scratch.path(), events).await?;
        Ok(Self { listed, requests: plan.source.requests() - before })
    }

    /// Takes an inventory's word for them.
    pub fn of_inventory(inventory: Inventory) -> Self {
        Self { listed: inventory.listed, requests: 1 + inventory.objects.div_ceil(PAGE) }
    }
}

/// Compares the files with the base point's, and says what would be done.
///
/// # Errors
///
/// As a capture would fail before it copies anything.
pub(crate) async fn foresee(
    plan: &FilesPlan,
    base: Option<&Base>,
    (vault, vault_prefix): (&Reader, &str),
    expected: Expected,
    scratch: &Scratch,
) -> Result<Foreseen> {
    let rules = Rules::new(&plan.rules)?;
    let listed = expected.listed;
    let mut foreseen = Foreseen { listing_requests: expected.requests, ..Foreseen::default() };
    let mut shapes = Shapes::default();
    let earlier = match base {
        Some(base) => Some(base.listing(scratch).await?),
        None => None,
    };
    if let Some(base) = base {
        // The copies of the base are listed whole, whatever of them is used again.
        for entry in base.listing(scratch).await? {
            shapes.add(&entry?);
        }
    }
    let work = scratch.file("foreseen.work");
    let mut tally = Tally::default();
    let to_copy = sort_out(listed, (earlier, Left::nothing()), &rules, &work, &mut tally)?;
    foreseen.to_copy = if plan.copies == Copies::Versions { Count::default() } else { to_copy };
    foreseen.left_out = tally.excluded;
    let would_be: PointId = "estimate_20000101_000000".parse()?;
    let path = scratch.file("foreseen.jsonl.zst");
    let mut listing = ListingWriter::create(&path)?;
    for job in WorkReader::open(&work)? {
        let job = job?;
        let anew = job.reuse.is_none();
        let entry = foreseen.take(plan, job, (vault, vault_prefix, &would_be));
        if anew {
            shapes.add(&entry);
        }
        listing.push(&entry)?;
    }
    foreseen.script_bytes = SCRIPT.len() as u64;
    foreseen.compare_requests = shapes.requests();
    foreseen.listing_bytes = listing.finish()?.bytes;
    for path in [work, path] {
        std::fs::remove_file(&path)
            .map_err(|cause| Error::local(format!("cannot remove `{}`", path.display()), cause))?;
    }
    Ok(foreseen)
}

impl Foreseen {
    /// Counts one file, and makes the line that a listing would have of it.
    fn take(&mut self, plan: &FilesPlan, job: Job, (vault, prefix, point): (&Reader, &str, &PointId)) -> FileEntry {
        let Job { object, category, reuse } = job;
        if object.kind != FileKind::Folder {
            self.total.add(object.side.size);
        }
        if plan.properties == Properties::All && object.kind == FileKind::File {
            let asked_before = reuse.as_ref().is_some_and(|earlier| earlier.headers.contains_key(GRANTS));
            self.look_requests += if asked_before { 1 } else { 2 };
        }
        if let Some(earlier) = reuse {
            return *earlier_as(earlier, category);
        }
        let size = object.side.size;
        let is_file = object.kind == FileKind::File;
        let copied = is_file && plan.copies != Copies::Versions;
        if copied {
            let class = object.side.class.clone().unwrap_or_else(|| "STANDARD".to_owned());
            self.by_class.entry(class).or_default().add(size);
            let (writing, looking) = plan.source.requests_to_copy(vault, size);
            self.copy_requests += writing;
            self.look_requests += looking;
        }
        let key = layout::copy(prefix, point, &category, &object.key);
        let (source, copy) =
            if plan.source.is_folder() { read(&object.key, object.side) } else { (object.side.clone(), object.side) };
        FileEntry {
            key: object.key,
            category,
            kind: object.kind,
            proof: proof_of(&source, &copy).filter(|_| is_file),
            copy: copied.then_some(copy),
            at: is_file.then(|| match plan.copies {
                Copies::Versions => Place::Version { id: "v".repeat(VERSION_ID) },
                Copies::Incremental | Copies::Full => Place::Vault { point: point.clone(), key },
            }),
            source,
            headers: BTreeMap::new(),
        }
    }
}

/// The two sides of a file of a folder that was read: hashes that are as long, and as hard to compress, as the true ones.
fn read(key: &str, source: Side) -> (Side, Side) {
    let hash = hex(&<sha2::Sha256 as sha2::Digest>::digest(key));
    let copy = Side { size: source.size, etag: Some(hash[..32].to_owned()), ..Side::default() };
    (Side { checksum: Some(format!("sha256:{hash}")), ..source }, copy)
}

fn earlier_as(mut earlier: FileEntry, category: String) -> Box<FileEntry> {
    earlier.category = category;
    Box::new(earlier)
}

/// How copies lie in the groups that are listed: what a listing of each asks for.
#[derive(Default)]
struct Shapes(BTreeMap<String, Shape>);

#[derive(Default)]
struct Shape {
    all: u64,
    marks: Marks,
    direct: u64,
    /// Copies by folder; one more than matter are kept.
    folders: BTreeMap<String, u64>,
}

impl Shapes {
    fn add(&mut self, entry: &FileEntry) {
        let Some(key) = entry.at.as_ref().and_then(Place::vault_key).filter(|key| !layout::is_long(key)) else {
            return;
        };
        let Some(group) = layout::group(key) else { return };
        if !self.0.contains_key(group) {
            self.0.insert(group.to_owned(), Shape::default());
        }
        let Some(shape) = self.0.get_mut(group) else { return };
        shape.all += 1;
        shape.marks.add(key);
        match key[group.len()..].split_once('/') {
            None => shape.direct += 1,
            Some((folder, _)) => {
                if let Some(copies) = shape.folders.get_mut(folder) {
                    *copies += 1;
                } else if shape.folders.len() <= FOLDERS {
                    shape.folders.insert(folder.to_owned(), 1);
                }
            }
        }
    }

    fn requests(&self) -> u64 {
        self.0.values().map(Shape::requests).sum()
    }
}

impl Shape {
    fn requests(&self) -> u64 {
        if let Some(requests) = self.marks.requests(self.all) {
            return requests;
        }
        let one_page = self.direct + self.folders.len() as u64 <= PAGE;
        if one_page && self.folders.len() <= FOLDERS {
            return 1 + self.folders.values().map(|copies| copies.div_ceil(PAGE)).sum::<u64>();
        }
        1 + self.all.div_ceil(PAGE).max(1)
    }
}
