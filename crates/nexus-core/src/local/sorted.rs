//! Byte strings in order whatever order they came in, in bounded memory: runs on disk, merged as they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// How many bytes are held before they become a run on disk.
const RUN: usize = 16 << 20;
/// How much of a run is read back at once, bytes.
const READ: usize = 32 << 10;
/// Before each string: its length, as four bytes.
const LENGTH: usize = 4;

/// Takes byte strings in any order.
pub(crate) struct Sorter {
    folder: PathBuf,
    /// All that is held, one string behind the other.
    held: Vec<u8>,
    /// Where each of them lies.
    places: Vec<(u32, u32)>,
    /// The most bytes that are held.
    run: usize,
    /// All runs, one behind the other, in a file without a name, so that nothing is left behind.
    file: Option<File>,
    /// Where each run ends, in bytes.
    ends: Vec<u64>,
}

impl Sorter {
    /// Runs go into `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        let folder = folder.to_owned();
        Self { folder, held: Vec::new(), places: Vec::new(), run: RUN, file: None, ends: Vec::new() }
    }

    /// Adds a string.
    ///
    /// # Errors
    ///
    /// What the disk fails with; [`Error::Unsupported`] for a string of more than 2 GiB.
    pub(crate) fn push(&mut self, string: &[u8]) -> Result<()> {
        if self.held.len() + string.len() + (self.places.len() + 1) * size_of::<(u32, u32)>() > self.run {
            self.spill()?;
        }
        let start = u32::try_from(self.held.len());
        let place = start.ok().zip(u32::try_from(string.len()).ok()).filter(|(_, length)| *length < 1 << 31);
        let place =
            place.ok_or_else(|| Error::Unsupported { what: "a text of more than 2 GiB is not sorted".into() })?;
        self.held.extend_from_slice(string);
        self.places.push(place);
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let broken = |cause| Error::local(format!("cannot sort in `{}`", self.folder.display()), cause);
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile_in(&self.folder).map_err(broken)?,
        };
        let held = &self.held;
        self.places.sort_unstable_by(|left, right| at(held, *left).cmp(at(held, *right)));
        let (mut writer, mut bytes) = (BufWriter::new(&file), 0);
        for place in &self.places {
            let string = at(held, *place);
            writer.write_all(&place.1.to_le_bytes()).and_then(|()| writer.write_all(string)).map_err(broken)?;
            bytes += (LENGTH + string.len()) as u64;
        }
        writer.flush().map_err(broken)?;
        drop(writer);
        self.ends.push(self.ends.last().copied().unwrap_or(0) + bytes);
        self.file = Some(file);
        self.held.clear();
        self.places.clear();
        Ok(())
    }

    /// What was pushed, in order, equal strings as often as they came.
    ///
    /// # Errors
    ///
    /// What the disk fails with.
    pub(crate) fn finish(mut self) -> Result<Sorted> {
        // A run of its own where there are others, so that no more than the buffers is held while they are read.
        if !self.ends.is_empty() {
            self.spill()?;
        }
        if self.places.is_empty() {
            // What was cleared keeps its room, and nothing comes into it any more.
            (self.held, self.places) = (Vec::new(), Vec::new());
        }
        let held = &self.held;
        self.places.sort_unstable_by(|left, right| at(held, *right).cmp(at(held, *left)));
        let mut runs = Vec::with_capacity(self.ends.len());
        let mut next = 0;
        for end in &self.ends {
            runs.push(Run { next, end: *end, held: Vec::new(), read: 0 });
            next = *end;
        }
        let mut sorted =
            Sorted { file: self.file, runs, heads: BinaryHeap::new(), memory: self.held, places: self.places };
        for run in 0..sorted.runs.len() {
            sorted.refill(run)?;
        }
        Ok(sorted)
    }
}

fn at(held: &[u8], (start, length): (u32, u32)) -> &[u8] {
    &held[start as usize..][..length as usize]
}

/// A run that is being read.
struct Run {
    /// Where what was not read begins and ends in the file.
    next: u64,
    end: u64,
    /// What was read of it, and how much of that was given out.
    held: Vec<u8>,
    read: usize,
}

/// Byte strings in order.
pub(crate) struct Sorted {
    file: Option<File>,
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    /// All of them, when they were few, the next one last.
    memory: Vec<u8>,
    places: Vec<(u32, u32)>,
}

impl Sorted {
    /// The next string.
    ///
    /// # Errors
    ///
    /// What the disk fails with.
    pub(crate) fn take(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(place) = self.places.pop() {
            return Ok(Some(at(&self.memory, place).to_vec()));
        }
        let Some(Reverse((string, run))) = self.heads.pop() else { return Ok(None) };
        self.refill(run)?;
        Ok(Some(string))
    }

    /// Puts the next string of a run among the heads.
    fn refill(&mut self, number: usize) -> Result<()> {
        let (Some(file), run) = (&self.file, &mut self.runs[number]) else { return Ok(()) };
        if let Some(length) = run.bytes(file, LENGTH)? {
            let length = u32::from_le_bytes(length.try_into().expect("so many were asked for"));
            if let Some(string) = run.bytes(file, length as usize)? {
                self.heads.push(Reverse((string, number)));
            }
        }
        Ok(())
    }
}

impl Run {
    /// The next bytes; none at the run's end.
    fn bytes(&mut self, file: &File, count: usize) -> Result<Option<Vec<u8>>> {
        if self.held.len() - self.read < count {
            self.held.drain(..self.read);
            self.read = 0;
            let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
            let more = left.min(READ.max(count - self.held.len()));
            let before = self.held.len();
            self.held.resize(before + more, 0);
            let broken = |cause| Error::local("cannot read what was sorted back", cause);
            file.read_exact_at(&mut self.held[before..], self.next).map_err(broken)?;
            self.next += more as u64;
        }
        let Some(bytes) = self.held.get(self.read..self.read + count) else { return Ok(None) };
        self.read += count;
        Ok(Some(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_any_length_come_back_in_order_across_runs_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (count, run) in [(0_u64, 10_000), (1, 10_000), (500, 10_000), (500, RUN), (9_000, 10_000)] {
            let mut sorter = Sorter { run, ..Sorter::new(folder.path()) };
            let string = |number: u64| {
                let scrambled = number * 7_919 % count.max(1);
                let long = if scrambled % 100 == 7 { 70_000 } else { usize::try_from(scrambled % 13).expect("few") };
                [scrambled.to_be_bytes().to_vec(), vec![7; long]].concat()
            };
            let mut expected: Vec<Vec<u8>> = (0..count).map(string).collect();
            for string in &expected {
                sorter.push(string).expect("room on the disk");
            }
            expected.sort();
            let mut strings = sorter.finish().expect("runs");
            let is_in_memory = strings.runs.is_empty();
            assert!(is_in_memory || strings.memory.capacity() + strings.places.capacity() == 0, "of {count}");
            for string in expected {
                assert_eq!(strings.take().expect("a file"), Some(string), "of {count}");
            }
            assert_eq!(strings.take().expect("a file"), None);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
