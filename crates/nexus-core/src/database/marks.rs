//! Where each record of a file lies, gathered while the file is written: for every row the hash of its key and the block
//! it is in, for every block where it begins and its checksum.
//!
//! Memory is bounded: entries beyond [`HELD`] go into a file without a name, in sorted runs; blocks grow with the file.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crc_fast::{CrcAlgorithm, Digest};

use crate::error::{Error, Result};

/// How long a block is at least, bytes; with each [`BLOCKS_OF_A_SIZE`] of them it doubles.
const BLOCK: u64 = 32 * 1024;
/// Blocks of one size: of a file of a terabyte there are some hundred thousand.
const BLOCKS_OF_A_SIZE: usize = 64 * 1024;
/// Entries that are held in memory: 16 MiB.
const HELD: usize = 2 * 1024 * 1024;
/// How much of each run is read at once, bytes.
const READ_AT_ONCE: usize = 64 * 1024;
/// Parts a record's key from the next one's in what is hashed; no value has it as it is written.
const SEPARATOR: u8 = b'\n';

/// One row: the upper 32 bits of its key's hash, and below them the number of its block.
pub(crate) type Entry = u64;

/// Some whole records of a file, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where it begins, bytes from the file's beginning. It ends where the next one begins, or with the file.
    pub(crate) start: u64,
    /// CRC-64/NVME of its bytes.
    pub(crate) crc: u64,
}

/// The hash of a record's key, of which an index holds the upper half.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyHash(u64);

impl Default for KeyHash {
    /// FNV-1a's offset basis (<http://www.isthe.com/chongo/tech/comp/fnv/>).
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl KeyHash {
    /// Adds a value of the key, as the record has it. Values come in the order of the columns.
    pub(crate) fn add(&mut self, value: &[u8]) {
        for byte in value.iter().chain([&SEPARATOR]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The upper half of the hash, after a mix that spreads it evenly (`MurmurHash3`'s finalizer): where an entry lies among the
    /// sorted ones is then foretold by its hash.
    pub(crate) fn upper(self) -> u32 {
        let mut mixed = self.0;
        for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
            mixed = (mixed ^ (mixed >> 33)).wrapping_mul(factor);
        }
        mixed ^= mixed >> 33;
        u32::try_from(mixed >> 32).unwrap_or_default()
    }
}

/// CRC-64/NVME of several pieces.
pub(crate) fn crc<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut crc = Digest::new(CrcAlgorithm::Crc64Nvme);
    pieces.into_iter().for_each(|piece| crc.update(piece));
    crc.finalize()
}

/// What is known of the records that were written so far.
#[derive(Debug)]
pub(crate) struct Marks {
    /// Where entries go that memory should not hold.
    folder: PathBuf,
    key: KeyHash,
    entries: Vec<Entry>,
    runs: Option<Runs>,
    blocks: Vec<Block>,
    crc: Digest,
}

#[derive(Debug)]
struct Runs {
    file: File,
    /// How many entries each has.
    lengths: Vec<u64>,
}

impl Marks {
    /// Nothing is known yet.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            key: KeyHash::default(),
            entries: Vec::new(),
            runs: None,
            blocks: Vec::new(),
            crc: Digest::new(CrcAlgorithm::Crc64Nvme),
        }
    }

    /// True when a record that begins there begins a block.
    pub(crate) fn begins_block(&self, start: u64) -> bool {
        let doubled = self.blocks.len() / BLOCKS_OF_A_SIZE;
        self.blocks.last().is_none_or(|last| start - last.start >= BLOCK << doubled.min(16))
    }

    /// Begins a block, once the bytes before it were taken.
    pub(crate) fn begin_block(&mut self, start: u64) {
        self.end_block();
        self.blocks.push(Block { start, crc: 0 });
    }

    fn end_block(&mut self) {
        let crc = self.crc.finalize_reset();
        if let Some(last) = self.blocks.last_mut() {
            last.crc = crc;
        }
    }

    /// Takes bytes of the block at hand. What comes before the first record is of no block.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        if !self.blocks.is_empty() {
            self.crc.update(bytes);
        }
    }

    /// Takes a value of the key of the record at hand.
    pub(crate) fn key(&mut self, value: &[u8]) {
        self.key.add(value);
    }

    /// Ends a record.
    pub(crate) fn end_record(&mut self) -> Result<()> {
        let block = (self.blocks.len() as u64).saturating_sub(1);
        self.entries.push(u64::from(std::mem::take(&mut self.key).upper()) << 32 | block);
        if self.entries.len() >= HELD { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        let what = || format!("cannot write a temporary file in `{}`", self.folder.display());
        let failed = |cause| Error::local(what(), cause);
        if self.runs.is_none() {
            let file = tempfile::tempfile_in(&self.folder).map_err(failed)?;
            self.runs = Some(Runs { file, lengths: Vec::new() });
        }
        let Some(runs) = &mut self.runs else { return Ok(()) };
        self.entries.sort_unstable();
        for piece in self.entries.chunks(READ_AT_ONCE) {
            let bytes: Vec<u8> = piece.iter().flat_map(|entry| entry.to_be_bytes()).collect();
            runs.file.write_all(&bytes).map_err(failed)?;
        }
        runs.lengths.push(self.entries.len() as u64);
        self.entries.clear();
        Ok(())
    }

    /// All entries in their order, then all blocks, once the whole file was taken.
    pub(crate) fn finish(mut self) -> Result<(Entries, Vec<Block>)> {
        self.end_block();
        if self.runs.is_none() {
            self.entries.sort_unstable();
            return Ok((Entries::Held(self.entries.into_iter()), self.blocks));
        }
        self.spill()?;
        let what = format!("cannot read a temporary file in `{}`", self.folder.display());
        let Some(runs) = self.runs else { return Ok((Entries::Held(Vec::new().into_iter()), self.blocks)) };
        Ok((Entries::Merged(Merge::of(&runs, what)?), self.blocks))
    }
}

/// Entries in their order.
pub(crate) enum Entries {
    /// All of them were few.
    Held(std::vec::IntoIter<Entry>),
    /// They lie in sorted runs.
    Merged(Merge),
}

impl Iterator for Entries {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Held(entries) => entries.next().map(Ok),
            Self::Merged(merge) => merge.next().transpose(),
        }
    }
}

/// Sorted runs as one.
pub(crate) struct Merge {
    runs: Vec<BufReader<Piece>>,
    heads: std::collections::BinaryHeap<std::cmp::Reverse<(Entry, usize)>>,
    what: String,
}

impl Merge {
    fn of(runs: &Runs, what: String) -> Result<Self> {
        let mut merge = Self { runs: Vec::new(), heads: std::collections::BinaryHeap::new(), what };
        let mut at = 0;
        for (number, length) in runs.lengths.iter().enumerate() {
            let file = runs.file.try_clone().map_err(|cause| merge.failed(cause))?;
            let piece = Piece { file, at, end: at + length * 8 };
            at = piece.end;
            merge.runs.push(BufReader::with_capacity(READ_AT_ONCE, piece));
            merge.advance(number)?;
        }
        Ok(merge)
    }

    fn failed(&self, cause: std::io::Error) -> Error {
        Error::local(self.what.clone(), cause)
    }

    fn next(&mut self) -> Result<Option<Entry>> {
        let Some(std::cmp::Reverse((entry, run))) = self.heads.pop() else { return Ok(None) };
        self.advance(run)?;
        Ok(Some(entry))
    }

    fn advance(&mut self, run: usize) -> Result<()> {
        let mut bytes = [0; 8];
        match self.runs[run].read_exact(&mut bytes) {
            Ok(()) => self.heads.push(std::cmp::Reverse((u64::from_be_bytes(bytes), run))),
            Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Err(cause) => return Err(self.failed(cause)),
        }
        Ok(())
    }
}

/// A part of a file that several read.
struct Piece {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Piece {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        // Clones of a file share its position: nobody else reads between these two.
        self.file.seek(SeekFrom::Start(self.at))?;
        let read = self.file.read(&mut buffer[..length])?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(keys: impl Iterator<Item = u64>) -> (Vec<Entry>, Vec<Block>) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut marks = Marks::new(folder.path());
        let mut start = 2;
        for key in keys {
            if marks.begins_block(start) {
                marks.begin_block(start);
            }
            marks.take(&key.to_be_bytes());
            start += 8;
            marks.key(key.to_string().as_bytes());
            marks.end_record().expect("room");
        }
        let (entries, blocks) = marks.finish().expect("room");
        assert!(std::fs::read_dir(folder.path()).expect("a folder").next().is_none(), "something is left");
        (entries.collect::<Result<_>>().expect("entries"), blocks)
    }

    #[test]
    fn more_entries_than_memory_should_hold_are_sorted_through_a_file() {
        let count = HELD as u64 * 2 + 12_345;
        let (entries, blocks) = marked(0..count);
        assert_eq!(entries.len() as u64, count);
        assert!(entries.is_sorted());
        assert_eq!(blocks.len() as u64, (count * 8).div_ceil(BLOCK));
        // Each hash lies about where it is foretold.
        let off =
            entries.iter().enumerate().map(|(at, entry)| (((entry >> 32) * count) >> 32).abs_diff(at as u64)).max();
        assert!(off.is_some_and(|off| off < 4 * 2_049 + 64), "{off:?}");
    }

    #[test]
    fn a_block_has_the_checksum_of_its_bytes() {
        let (_, blocks) = marked(0..5_000);
        let bytes: Vec<u8> = (0..5_000_u64).flat_map(u64::to_be_bytes).collect();
        assert_eq!(blocks.len(), 2);
        let second = usize::try_from(blocks[1].start).expect("small") - 2;
        assert_eq!(blocks[0].crc, crc([&bytes[..second]]));
        assert_eq!(blocks[1].crc, crc([&bytes[second..]]));
    }
}
