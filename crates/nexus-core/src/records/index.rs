//! The index beside a record file: from a record's key to the block of the file that it lies in, and each block's checksum.
//!
//! It is two sequences of fixed width, each in pages that have a checksum of their own, so that a look at a few pages is
//! enough and is never deceived by damage. All numbers are big-endian.
//!
//! 1. An entry of 8 bytes a row, sorted: the upper half of the hash of the record's key, then the number of its block.
//! 2. 16 bytes a block: where it begins in the record file, and the CRC-64/NVME of its bytes, which are whole records.
//!
//! A page holds at most 511 entries or 255 blocks, then 8 bytes: the CRC-64/NVME of the record file's SHA-256 as it is
//! written in the manifest, of `e` or `b` for what the page holds, of its number as 8 bytes, and of its content.
//!
//! The order of keys in a database is its own affair (collations, descending keys, types): hashes are sorted instead, and being
//! spread evenly they lie about where they are foretold.

use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::database::marks::{Block, Entry, Marks, crc};
use crate::error::{Error, Result};
use crate::local;
use crate::point::{FileHash, RecordTable, hexadecimal};

/// A record file of at most so many bytes has no index: it is read whole.
pub(crate) const READ_WHOLE: u64 = 64 * 1024;
/// What a row takes in it, bytes.
pub(crate) const ENTRY: u64 = 8;
/// The checksum at a page's end, bytes.
const CHECK: u64 = 8;

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Entries of rows.
    Entries,
    /// Blocks.
    Blocks,
}

impl Kind {
    const fn width(self) -> u64 {
        match self {
            Self::Entries => ENTRY,
            Self::Blocks => 16,
        }
    }

    /// Items of a full page.
    pub(crate) const fn per_page(self) -> u64 {
        match self {
            Self::Entries => 511,
            Self::Blocks => 255,
        }
    }

    const fn page(self) -> u64 {
        self.per_page() * self.width() + CHECK
    }

    fn letter(self) -> &'static [u8] {
        match self {
            Self::Entries => b"e",
            Self::Blocks => b"b",
        }
    }
}

/// Writes the index of a record file of this SHA-256; answers its bytes and hash.
///
/// # Errors
///
/// [`Error::Full`] and the like from the disk; nothing is left of the file then.
pub(crate) fn write(marks: Marks, sha256: &str, path: &Path) -> Result<FileHash> {
    let file = local::create_private(path)?;
    let failed = |cause| Error::local(format!("cannot write `{}`", path.display()), cause);
    let mut out = BufWriter::new(file);
    let hash = lay_out(marks, sha256, &mut out, path)?;
    let file = out.into_inner().map_err(|cause| failed(cause.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(hash)
}

/// Bytes and hash of the index that a record file of this SHA-256 has.
pub(crate) fn hash(marks: Marks, sha256: &str) -> Result<FileHash> {
    lay_out(marks, sha256, &mut std::io::sink(), Path::new("-"))
}

fn lay_out(marks: Marks, sha256: &str, out: &mut impl Write, path: &Path) -> Result<FileHash> {
    let failed = |cause| Error::local(format!("cannot write `{}`", path.display()), cause);
    let (entries, blocks) = marks.finish()?;
    let mut pages = Pages { out, sha256, hash: Sha256::new(), bytes: 0, content: Vec::new(), number: 0 };
    for entry in entries {
        pages.put(Kind::Entries, &entry?.to_be_bytes()).map_err(failed)?;
    }
    pages.end(Kind::Entries).map_err(failed)?;
    for block in blocks {
        pages.put(Kind::Blocks, &[block.start.to_be_bytes(), block.crc.to_be_bytes()].concat()).map_err(failed)?;
    }
    pages.end(Kind::Blocks).map_err(failed)?;
    Ok(FileHash { bytes: pages.bytes, sha256: hexadecimal(&pages.hash.finalize()) })
}

/// Pages on their way out.
struct Pages<'a, W> {
    out: &'a mut W,
    sha256: &'a str,
    hash: Sha256,
    bytes: u64,
    content: Vec<u8>,
    number: u64,
}

impl<W: Write> Pages<'_, W> {
    fn put(&mut self, kind: Kind, item: &[u8]) -> std::io::Result<()> {
        self.content.extend_from_slice(item);
        if self.content.len() as u64 + CHECK == kind.page() { self.page(kind) } else { Ok(()) }
    }

    fn page(&mut self, kind: Kind) -> std::io::Result<()> {
        let check = check(self.sha256, kind, self.number, &self.content);
        self.content.extend_from_slice(&check.to_be_bytes());
        self.hash.update(&self.content);
        self.bytes += self.content.len() as u64;
        self.number += 1;
        self.out.write_all(&self.content)?;
        self.content.clear();
        Ok(())
    }

    /// Ends the sequence: its last page may have fewer items.
    fn end(&mut self, kind: Kind) -> std::io::Result<()> {
        if !self.content.is_empty() {
            self.page(kind)?;
        }
        self.number = 0;
        self.out.flush()
    }
}

fn check(sha256: &str, kind: Kind, number: u64, content: &[u8]) -> u64 {
    crc([sha256.as_bytes(), kind.letter(), &number.to_be_bytes(), content])
}

/// Where what lies in the index of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    rows: u64,
    blocks: u64,
    /// Bytes of the record file, where its last block ends.
    bytes: u64,
    sha256: String,
}

impl Shape {
    /// That of a table's index; none when it has no index, or one that cannot be of it.
    pub(crate) fn of(table: &RecordTable) -> Option<Self> {
        let index = table.index.as_ref()?;
        let entries = length(Kind::Entries, table.rows);
        let rest = index.bytes.checked_sub(entries)?;
        let (full, last) = (rest / Kind::Blocks.page(), rest % Kind::Blocks.page());
        let last = last.saturating_sub(CHECK) / Kind::Blocks.width();
        let blocks = full * Kind::Blocks.per_page() + last;
        let fits = blocks > 0 && table.rows > 0 && length(Kind::Blocks, blocks) == rest;
        fits.then(|| Self { rows: table.rows, blocks, bytes: table.bytes, sha256: table.sha256.clone() })
    }

    fn items(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Entries => self.rows,
            Kind::Blocks => self.blocks,
        }
    }

    /// How many pages there are.
    pub(crate) fn pages(&self, kind: Kind) -> u64 {
        self.items(kind).div_ceil(kind.per_page())
    }

    /// Where some pages lie in the index, bytes.
    pub(crate) fn place(&self, kind: Kind, pages: &Range<u64>) -> Range<u64> {
        let before = match kind {
            Kind::Entries => 0,
            Kind::Blocks => length(Kind::Entries, self.rows),
        };
        let whole = before + length(kind, self.items(kind));
        before + pages.start * kind.page()..(before + pages.end * kind.page()).min(whole)
    }

    /// The page on which the entries of a hash are expected, and how many pages they may lie off in nearly all cases.
    pub(crate) fn expected(&self, hash: u32) -> (u64, u64) {
        let at = (u128::from(hash) * u128::from(self.rows)) >> 32;
        // The standard deviation is at most half the root of the number of rows: this is eight of them.
        let off = 4 * self.rows.isqrt();
        (u64::try_from(at).unwrap_or(0) / Kind::Entries.per_page(), off / Kind::Entries.per_page() + 1)
    }

    /// The entries on some pages; none when one of them is not as it was written.
    pub(crate) fn entries(&self, pages: &Range<u64>, bytes: &[u8]) -> Option<Vec<Entry>> {
        let content = self.content(Kind::Entries, pages, bytes)?;
        let (eights, _) = content.as_chunks::<8>();
        Some(eights.iter().map(|eight| u64::from_be_bytes(*eight)).collect())
    }

    /// The page that says where a block is; of the last block on it the next page says where it ends.
    pub(crate) fn pages_of_block(&self, block: u64) -> Option<Range<u64>> {
        let page = |block: u64| block / Kind::Blocks.per_page();
        (block < self.blocks).then(|| page(block)..page((block + 1).min(self.blocks - 1)) + 1)
    }

    /// Where a block lies in the record file, and its checksum, by the pages that say so.
    pub(crate) fn block(&self, block: u64, pages: &Range<u64>, bytes: &[u8]) -> Option<(Range<u64>, u64)> {
        let content = self.content(Kind::Blocks, pages, bytes)?;
        let (eights, _) = content.as_chunks::<8>();
        let at = usize::try_from((block - pages.start * Kind::Blocks.per_page()) * 2).ok()?;
        let number = |at: usize| eights.get(at).map(|eight| u64::from_be_bytes(*eight));
        let found = Block { start: number(at)?, crc: number(at + 1)? };
        let end = if block + 1 < self.blocks { number(at + 2)? } else { self.bytes };
        (found.start < end && end <= self.bytes).then_some((found.start..end, found.crc))
    }

    /// What the pages hold without their checksums, which must be right.
    fn content(&self, kind: Kind, pages: &Range<u64>, bytes: &[u8]) -> Option<Vec<u8>> {
        let place = self.place(kind, pages);
        if bytes.len() as u64 != place.end - place.start {
            return None;
        }
        let mut content = Vec::with_capacity(bytes.len());
        let size = usize::try_from(kind.page()).ok()?;
        for (number, page) in (pages.start..).zip(bytes.chunks(size)) {
            let (held, wanted) = page.split_last_chunk::<8>()?;
            if check(&self.sha256, kind, number, held) != u64::from_be_bytes(*wanted) {
                return None;
            }
            content.extend_from_slice(held);
        }
        Some(content)
    }
}

/// Bytes of a sequence of so many items.
fn length(kind: Kind, items: u64) -> u64 {
    items * kind.width() + items.div_ceil(kind.per_page()) * CHECK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::marks::KeyHash;
    use std::collections::BTreeMap;

    fn key(row: u64) -> KeyHash {
        let mut key = KeyHash::default();
        key.add(row.to_string().as_bytes());
        key
    }

    /// The index of so many records of ten bytes, so many to a block, and the table that it is of.
    fn index(rows: u64, to_a_block: u64) -> (Vec<u8>, RecordTable) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut marks = Marks::new(folder.path());
        for row in 0..rows {
            if row % to_a_block == 0 {
                marks.begin_block(2 + row * 10);
            }
            marks.take(&[b'x'; 10]);
            marks.key(row.to_string().as_bytes());
            marks.end_record().expect("room");
        }
        let sha256 = "0".repeat(64);
        let mut bytes = Vec::new();
        let hash = lay_out(marks, &sha256, &mut bytes, folder.path()).expect("room");
        assert_eq!((hash.bytes, hash.sha256), (bytes.len() as u64, hexadecimal(&Sha256::digest(&bytes))));
        let table = RecordTable {
            name: "t".into(),
            table: "t".into(),
            file: "t.json".into(),
            rows,
            bytes: 2 + rows * 10,
            sha256,
            index: Some(FileHash { bytes: bytes.len() as u64, sha256: String::new() }),
            columns: Vec::new(),
            order: vec!["id".into()],
            rowid: false,
            sequence: None,
            sequences: BTreeMap::new(),
        };
        (bytes, table)
    }

    fn part(bytes: &[u8], place: Range<u64>) -> &[u8] {
        &bytes[usize::try_from(place.start).expect("small")..usize::try_from(place.end).expect("small")]
    }

    #[test]
    fn every_record_is_found_where_pages_begin_and_end() {
        for (rows, to_a_block) in [(1, 1), (254, 1), (255, 1), (256, 1), (511, 1), (512, 1), (1_022, 2), (5_000, 7)] {
            let (bytes, table) = index(rows, to_a_block);
            let shape = Shape::of(&table).expect("it is of these records");
            let all = 0..shape.pages(Kind::Entries);
            let entries = shape.entries(&all, part(&bytes, shape.place(Kind::Entries, &all))).expect("whole");
            assert_eq!(entries.len() as u64, rows);
            for row in 0..rows {
                let block = row / to_a_block;
                assert!(entries.contains(&(u64::from(key(row).upper()) << 32 | block)), "{row} of {rows}");
                let pages = shape.pages_of_block(block).expect("a block");
                let (range, _) =
                    shape.block(block, &pages, part(&bytes, shape.place(Kind::Blocks, &pages))).expect("it");
                let end = (2 + (block + 1) * to_a_block * 10).min(2 + rows * 10);
                assert_eq!(range, 2 + block * to_a_block * 10..end, "{row} of {rows}");
            }
            assert_eq!(shape.pages_of_block(rows.div_ceil(to_a_block)), None);
        }
    }

    #[test]
    fn no_changed_bit_of_a_page_is_passed_over_nor_a_page_in_anothers_place() {
        let (bytes, table) = index(2_000, 3);
        let shape = Shape::of(&table).expect("it is of these records");
        let pages = 0..2;
        let place = shape.place(Kind::Entries, &pages);
        let held = part(&bytes, place).to_vec();
        assert!(shape.entries(&pages, &held).is_some());
        for at in (0..held.len()).step_by(97) {
            let mut changed = held.clone();
            changed[at] ^= 1 << (at % 8);
            assert_eq!(shape.entries(&pages, &changed), None, "byte {at}");
        }
        assert_eq!(shape.entries(&(1..3), &held), None);
        assert_eq!(shape.entries(&pages, &held[..held.len() - 8]), None);
        let other = RecordTable { sha256: "1".repeat(64), ..table.clone() };
        assert_eq!(Shape::of(&other).expect("of its size").entries(&pages, &held), None);
        let cut = FileHash { bytes: bytes.len() as u64 - 3, sha256: String::new() };
        assert_eq!(Shape::of(&RecordTable { index: Some(cut), ..table }), None);
    }
}
