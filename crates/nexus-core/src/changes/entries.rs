//! Rows as entries of a fixed size, sorted by hashes in bounded memory: runs on disk, merged as they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// How many entries are held before they become a run on disk: 12 MiB.
const RUN: usize = 1 << 18;
/// How many entries of a run are read back at once.
const READ: usize = 512;
/// Bytes of an entry on disk.
const BYTES: usize = 40;

/// A row: what tells it from others, all its values, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// Half the SHA-256 of its key.
    pub(super) key: u128,
    /// Half the SHA-256 of its values.
    pub(super) row: u128,
    /// Where it begins in its file, bytes.
    pub(super) start: u64,
}

impl Entry {
    fn bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..16].copy_from_slice(&self.key.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.row.to_le_bytes());
        bytes[32..].copy_from_slice(&self.start.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8; BYTES]) -> Self {
        let half = |at: usize| u128::from_le_bytes(bytes[at..at + 16].try_into().expect("sixteen bytes"));
        let start = u64::from_le_bytes(bytes[32..].try_into().expect("eight bytes"));
        Self { key: half(0), row: half(16), start }
    }
}

/// Takes entries in any order.
pub(super) struct Spill {
    folder: PathBuf,
    held: Vec<Entry>,
    /// The most that are held.
    run: usize,
    /// All runs, one behind the other, in a file without a name, so that nothing is left behind.
    file: Option<File>,
    /// Where each run ends, in entries.
    ends: Vec<u64>,
}

impl Spill {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), held: Vec::new(), run: RUN, file: None, ends: Vec::new() }
    }

    pub(super) fn push(&mut self, entry: Entry) -> Result<()> {
        self.held.push(entry);
        if self.held.len() >= self.run { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        let what = || format!("cannot sort rows in `{}`", self.folder.display());
        self.held.sort_unstable();
        let mut file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile_in(&self.folder).map_err(|cause| Error::local(what(), cause))?,
        };
        for some in self.held.chunks(READ) {
            let bytes: Vec<u8> = some.iter().flat_map(|entry| entry.bytes()).collect();
            file.write_all(&bytes).map_err(|cause| Error::local(what(), cause))?;
        }
        let before = self.ends.last().copied().unwrap_or(0);
        self.ends.push(before + self.held.len() as u64);
        self.held.clear();
        self.file = Some(file);
        Ok(())
    }

    /// What was pushed, in order.
    pub(super) fn finish(mut self) -> Result<Sorted> {
        let mut runs = Vec::with_capacity(self.ends.len() + 1);
        let mut next = 0;
        for end in &self.ends {
            runs.push(Run { next, end: *end, held: Vec::new() });
            next = *end;
        }
        // What is still in memory is a run that has nothing on disk.
        self.held.sort_unstable_by(|left, right| right.cmp(left));
        runs.push(Run { next: 0, end: 0, held: self.held });
        let mut sorted = Sorted { file: self.file, heads: BinaryHeap::with_capacity(runs.len()), runs };
        for run in 0..sorted.runs.len() {
            sorted.refill(run)?;
        }
        Ok(sorted)
    }
}

struct Run {
    next: u64,
    end: u64,
    /// What was read of it, the next one last.
    held: Vec<Entry>,
}

/// Entries in order.
pub(super) struct Sorted {
    file: Option<File>,
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl Sorted {
    /// The next entry.
    pub(super) fn take(&mut self) -> Result<Option<Entry>> {
        let Some(Reverse((entry, run))) = self.heads.pop() else { return Ok(None) };
        self.refill(run)?;
        Ok(Some(entry))
    }

    /// Puts the next entry of a run among the heads.
    fn refill(&mut self, number: usize) -> Result<()> {
        let run = &mut self.runs[number];
        if run.held.is_empty()
            && run.next < run.end
            && let Some(file) = &self.file
        {
            let broken = |cause| Error::local("cannot read sorted rows back", cause);
            let count = usize::try_from(run.end - run.next).map_or(READ, |left| left.min(READ));
            let mut bytes = vec![0; count * BYTES];
            file.read_exact_at(&mut bytes, run.next * BYTES as u64).map_err(broken)?;
            let (entries, _) = bytes.as_chunks::<BYTES>();
            run.held.extend(entries.iter().rev().map(Entry::read));
            run.next += count as u64;
        }
        if let Some(entry) = run.held.pop() {
            self.heads.push(Reverse((entry, number)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_runs_comes_back_in_order_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for count in [0_u64, 1, 999, 1_000, 1_001, 7_777] {
            let mut spill = Spill { run: 1_000, ..Spill::new(folder.path()) };
            for number in 0..count {
                let scrambled = number * 7_919 % count.max(1);
                let entry = Entry { key: u128::from(scrambled) << 70, row: u128::MAX, start: scrambled };
                spill.push(entry).expect("room on the disk");
            }
            let mut sorted = spill.finish().expect("runs");
            for number in 0..count {
                let entry = sorted.take().expect("a file").expect("another");
                assert_eq!((entry.key, entry.start), (u128::from(number) << 70, number), "of {count}");
            }
            assert!(sorted.take().expect("a file").is_none());
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
