//! A listing in byte order whatever order it came in, in bounded memory: runs on disk, merged as they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Object;
use crate::error::{Error, Result};

/// How many objects are held before they become a run on disk; about 300 bytes each.
const RUN: usize = 50_000;

/// Takes objects in any order.
pub(crate) struct Sorter {
    folder: PathBuf,
    held: Vec<Object>,
    runs: Vec<File>,
    totals: Totals,
}

/// What a whole listing adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Objects.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Sorter {
    /// Runs go into `folder` as files without a name, so that nothing is left behind.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), held: Vec::new(), runs: Vec::new(), totals: Totals::default() }
    }

    pub(crate) fn push(&mut self, object: Object) -> Result<()> {
        self.totals.files += 1;
        self.totals.bytes += object.side.size;
        self.held.push(object);
        if self.held.len() >= RUN { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.held.sort_by(|left, right| left.key.as_bytes().cmp(right.key.as_bytes()));
        let what = || format!("cannot spill a listing to `{}`", self.folder.display());
        let file = tempfile::tempfile_in(&self.folder).map_err(|cause| Error::local(what(), cause))?;
        let mut writer = BufWriter::new(file);
        for object in self.held.drain(..) {
            serde_json::to_writer(&mut writer, &object).map_err(|cause| Error::local(what(), cause.into()))?;
            writer.write_all(b"\n").map_err(|cause| Error::local(what(), cause))?;
        }
        let file = writer.into_inner().map_err(|cause| Error::local(what(), cause.into_error()))?;
        self.runs.push(file);
        Ok(())
    }

    /// Ends the listing; what was pushed comes back in byte order, equal keys once.
    pub(crate) fn finish(mut self) -> Result<Sorted> {
        if !self.runs.is_empty() && !self.held.is_empty() {
            self.spill()?;
        }
        self.held.sort_by(|left, right| left.key.as_bytes().cmp(right.key.as_bytes()));
        let mut runs = Vec::new();
        for mut file in self.runs {
            let back = file.seek(SeekFrom::Start(0));
            back.map_err(|cause| Error::local("cannot read a spilled listing back", cause))?;
            runs.push(Run::Disk(BufReader::new(file)));
        }
        if !self.held.is_empty() {
            runs.push(Run::Memory(self.held.into_iter()));
        }
        Sorted::start(runs, self.totals)
    }
}

enum Run {
    Memory(std::vec::IntoIter<Object>),
    Disk(BufReader<File>),
}

impl Run {
    fn take(&mut self) -> Result<Option<Object>> {
        match self {
            Self::Memory(objects) => Ok(objects.next()),
            Self::Disk(lines) => {
                let mut line = Vec::new();
                let broken = |cause: std::io::Error| Error::local("cannot read a spilled listing back", cause);
                if lines.read_until(b'\n', &mut line).map_err(broken)? == 0 {
                    return Ok(None);
                }
                serde_json::from_slice(&line).map(Some).map_err(|cause| broken(cause.into()))
            }
        }
    }
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

/// Objects in byte order of their keys.
pub struct Sorted {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<Head>>,
    last: Option<String>,
    totals: Totals,
}

impl Sorted {
    fn start(mut runs: Vec<Run>, totals: Totals) -> Result<Self> {
        let mut heads = BinaryHeap::new();
        for (run, objects) in runs.iter_mut().enumerate() {
            if let Some(object) = objects.take()? {
                heads.push(Reverse(Head { object, run }));
            }
        }
        Ok(Self { runs, heads, last: None, totals })
    }

    /// What the whole listing adds up to.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn pop(&mut self) -> Result<Option<Object>> {
        while let Some(Reverse(head)) = self.heads.pop() {
            if let Some(object) = self.runs[head.run].take()? {
                self.heads.push(Reverse(Head { object, run: head.run }));
            }
            // A service that lists while keys come and go may name one twice.
            if self.last.as_deref() == Some(head.object.key.as_str()) {
                continue;
            }
            self.last = Some(head.object.key.clone());
            return Ok(Some(head.object));
        }
        Ok(None)
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
