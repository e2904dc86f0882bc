//! A listing in byte order whatever order it came in, in bounded memory: runs on disk, merged as they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Object;
use super::packed::{self, Packer, Unpacker};
use super::spool::Outlet;
use crate::error::{Error, Result};

/// How many objects are held before they become a run on disk; about 300 bytes each.
const RUN: usize = 50_000;
/// So few stay in memory at the end, too.
const KEPT: usize = 5_000;
/// Runs that are merged at once; when there are more, they are merged into one first: each takes a buffer.
const RUNS: usize = 256;
/// Objects of one block of a run.
const BLOCK: usize = 100;

/// Takes objects in any order.
pub(crate) struct Sorter {
    folder: PathBuf,
    held: Vec<Object>,
    runs: Vec<File>,
}

impl Sorter {
    /// Runs go into `folder` as files without a name, so that nothing is left behind.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), held: Vec::new(), runs: Vec::new() }
    }

    pub(crate) fn push(&mut self, object: Object) -> Result<()> {
        self.held.push(object);
        if self.held.len() >= RUN { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.held.sort_by(|left, right| left.key.as_bytes().cmp(right.key.as_bytes()));
        let held = self.held.drain(..).map(Ok);
        self.runs.push(write_run(held, &self.folder)?);
        if self.runs.len() < RUNS {
            return Ok(());
        }
        let runs = std::mem::take(&mut self.runs).into_iter().map(Run::of).collect::<Result<_>>()?;
        self.runs.push(write_run(Merge::start(runs)?, &self.folder)?);
        Ok(())
    }

    /// Ends the listing; what was pushed comes back in byte order, equal keys once.
    pub(crate) fn finish(self) -> Result<Sorted> {
        Ok(Sorted { from: From::Runs(self.merged()?), last: None })
    }

    /// The same, with equal keys as often as they came.
    pub(super) fn merged(mut self) -> Result<Merge> {
        if !self.held.is_empty() && (!self.runs.is_empty() || self.held.len() > KEPT) {
            self.spill()?;
        }
        self.held.sort_by(|left, right| left.key.as_bytes().cmp(right.key.as_bytes()));
        let mut runs = self.runs.into_iter().map(Run::of).collect::<Result<Vec<_>>>()?;
        if !self.held.is_empty() {
            runs.push(Run::Memory(self.held.into_iter()));
        }
        Merge::start(runs)
    }
}

/// Writes objects that are in order into a file without a name.
fn write_run(objects: impl Iterator<Item = Result<Object>>, folder: &Path) -> Result<File> {
    let what = || format!("cannot spill a listing to `{}`", folder.display());
    let broken = |cause| Error::local(what(), cause);
    let mut writer = BufWriter::new(tempfile::tempfile_in(folder).map_err(broken)?);
    let mut objects = objects.peekable();
    let mut block = Vec::new();
    while objects.peek().is_some() {
        let mut packer = Packer::default();
        for object in objects.by_ref().take(BLOCK) {
            packer.put(&object?, &mut block).map_err(broken)?;
        }
        packed::write_block(&block, &mut writer).map_err(broken)?;
        block.clear();
    }
    writer.into_inner().map_err(|cause| broken(cause.into_error()))
}

enum Run {
    Memory(std::vec::IntoIter<Object>),
    Disk(BufReader<File>, std::vec::IntoIter<Object>),
}

impl Run {
    fn of(mut file: File) -> Result<Self> {
        let back = file.seek(SeekFrom::Start(0));
        back.map_err(|cause| Error::local("cannot read a spilled listing back", cause))?;
        Ok(Self::Disk(BufReader::new(file), Vec::new().into_iter()))
    }

    fn take(&mut self) -> Result<Option<Object>> {
        match self {
            Self::Memory(objects) => Ok(objects.next()),
            Self::Disk(reader, objects) => {
                if let Some(object) = objects.next() {
                    return Ok(Some(object));
                }
                *objects =
                    read_block(reader).map_err(|cause| Error::local("cannot read a spilled listing back", cause))?;
                Ok(objects.next())
            }
        }
    }
}

/// The objects of the next block; none at the end.
fn read_block(reader: &mut BufReader<File>) -> std::io::Result<std::vec::IntoIter<Object>> {
    let block = packed::read_block(reader)?.unwrap_or_default();
    let (mut unpacker, mut rest, mut objects) = (Unpacker::default(), &block[..], Vec::with_capacity(BLOCK));
    while !rest.is_empty() {
        objects.push(unpacker.take(&mut rest).ok_or(std::io::ErrorKind::InvalidData)?);
    }
    Ok(objects.into_iter())
}

struct Head {
    object: Object,
    run: usize,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Head {}
impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.object.key.as_bytes(), self.run).cmp(&(other.object.key.as_bytes(), other.run))
    }
}

/// Runs as one.
pub(super) struct Merge {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<Head>>,
}

impl Merge {
    fn start(mut runs: Vec<Run>) -> Result<Self> {
        let mut heads = BinaryHeap::new();
        for (run, objects) in runs.iter_mut().enumerate() {
            if let Some(object) = objects.take()? {
                heads.push(Reverse(Head { object, run }));
            }
        }
        Ok(Self { runs, heads })
    }

    fn take(&mut self) -> Result<Option<Object>> {
        let Some(Reverse(head)) = self.heads.pop() else { return Ok(None) };
        if let Some(object) = self.runs[head.run].take()? {
            self.heads.push(Reverse(Head { object, run: head.run }));
        }
        Ok(Some(head.object))
    }
}

impl Iterator for Merge {
    type Item = Result<Object>;
    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}

/// Objects in byte order of their keys.
pub struct Sorted {
    from: From,
    last: Option<String>,
}

enum From {
    Runs(Merge),
    /// They come in order.
    Spool(Outlet),
}

impl Sorted {
    /// Objects that come in order already.
    pub(crate) fn spooled(outlet: Outlet) -> Self {
        Self { from: From::Spool(outlet), last: None }
    }

    fn pop(&mut self) -> Result<Option<Object>> {
        loop {
            let next = match &mut self.from {
                From::Runs(merge) => merge.take()?,
                From::Spool(outlet) => outlet.take()?,
            };
            let Some(object) = next else { return Ok(None) };
            // A service that lists while keys come and go may name one twice.
            if self.last.as_deref() == Some(object.key.as_str()) {
                continue;
            }
            let last = self.last.get_or_insert_default();
            last.clear();
            last.push_str(&object.key);
            return Ok(Some(object));
        }
    }
}

impl Iterator for Sorted {
    type Item = Result<Object>;
    fn next(&mut self) -> Option<Self::Item> {
        self.pop().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::{FileKind, Side};

    #[test]
    fn any_order_comes_back_in_byte_order_across_runs() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut sorter = Sorter::new(folder.path());
        let count = RUN * 2 + 7;
        for number in 0..count {
            let scrambled = (number * 7_919) % count;
            let object = Object { key: format!("{scrambled:08}"), side: Side::default(), kind: FileKind::File };
            sorter.push(object).expect("room on the disk");
        }
        let keys: Vec<String> = sorter.finish().expect("runs").map(|object| object.expect("an object").key).collect();
        assert_eq!(keys.len(), count);
        assert!(keys.is_sorted());
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
