//! A record found by its key through the index: one piece of the index that says in which block it lies, one that says where
//! the block is, and the block.

use std::collections::BTreeSet;
use std::ops::Range;

use super::key::Key;
use super::source::{Pieces, Source, Which};
use crate::bucket::ranges::Piece;
use crate::error::Result;
use crate::records::index::{Kind, Shape};

/// The most pages that are read at once around where an entry is expected: 128 KiB.
const PAGES_AT_ONCE: u64 = 32;
/// How often the search widens before the index counts as one that does not spread its hashes.
const WIDENINGS: usize = 12;
/// The most blocks that may have to be read for one hash.
const MOST_BLOCKS: usize = 64;

/// What an index led to.
pub(super) enum Led {
    /// The records with the key, as they are written: one, or none; several where keys may be NULL.
    To(Vec<String>),
    /// It is no use: this is wrong with it, or with the records it leads to.
    Astray(&'static str),
}

/// Said of a service that sends a whole object for a piece of it.
const UNRANGED: Wrong = "the service sends no pieces of objects";

/// Why it is no use.
type Wrong = &'static str;

/// Looks every way that the key may be written up.
pub(super) async fn look_up(source: &mut Source<'_>, from: &Pieces, key: &Key) -> Result<Led> {
    let Some(shape) = Shape::of(source.table) else { return Ok(Led::Astray("it is not of these records")) };
    let mut blocks = BTreeSet::new();
    for hash in key.hashes() {
        match entries_of(source, from, &shape, hash).await? {
            Ok(found) => blocks.extend(found),
            Err(wrong) => return Ok(Led::Astray(wrong)),
        }
    }
    if blocks.len() > MOST_BLOCKS {
        return Ok(Led::Astray("it leads to too many places"));
    }
    let mut records = Vec::new();
    for block in blocks {
        match block_of(source, from, &shape, block).await? {
            Ok(text) => match matching(&text, key) {
                Some(found) => records.extend(found),
                None => return Ok(Led::Astray("it leads to what is no record")),
            },
            Err(wrong) => return Ok(Led::Astray(wrong)),
        }
    }
    Ok(Led::To(records))
}

/// The blocks of all entries with a hash.
async fn entries_of(
    source: &mut Source<'_>,
    from: &Pieces,
    shape: &Shape,
    hash: u32,
) -> Result<std::result::Result<Vec<u64>, Wrong>> {
    let count = shape.pages(Kind::Entries);
    let (middle, off) = shape.expected(hash);
    let off = off.min(PAGES_AT_ONCE / 2 - 1);
    let mut pages = middle.saturating_sub(off)..(middle + off + 1).min(count);
    pages.start = pages.start.min(pages.end.saturating_sub(1));
    let mut entries = match read_entries(source, from, shape, pages.clone()).await? {
        Ok(entries) => entries,
        Err(wrong) => return Ok(Err(wrong)),
    };
    for widened in 0..=WIDENINGS {
        let of = |entry: Option<&u64>| entry.map(|entry| *entry >> 32);
        let more_before = pages.start > 0 && of(entries.first()).is_none_or(|first| first >= u64::from(hash));
        let more_after = pages.end < count && of(entries.last()).is_none_or(|last| last <= u64::from(hash));
        if !more_before && !more_after {
            let from = entries.partition_point(|entry| entry >> 32 < u64::from(hash));
            let with = entries[from..].iter().take_while(|entry| **entry >> 32 == u64::from(hash));
            return Ok(Ok(with.map(|entry| entry & u64::from(u32::MAX)).collect()));
        }
        let step = PAGES_AT_ONCE << widened.min(4);
        let wider = if more_before {
            let wider = pages.start.saturating_sub(step)..pages.start;
            pages.start = wider.start;
            wider
        } else {
            let wider = pages.end..(pages.end + step).min(count);
            pages.end = wider.end;
            wider
        };
        match read_entries(source, from, shape, wider).await? {
            Ok(more) if more_before => drop(entries.splice(0..0, more)),
            Ok(more) => entries.extend(more),
            Err(wrong) => return Ok(Err(wrong)),
        }
    }
    Ok(Err("its entries do not lie where they are expected"))
}

async fn read_entries(
    source: &mut Source<'_>,
    from: &Pieces,
    shape: &Shape,
    pages: Range<u64>,
) -> Result<std::result::Result<Vec<u64>, Wrong>> {
    let bytes = match source.piece(from, Which::Index, shape.place(Kind::Entries, &pages)).await? {
        Piece::Read(bytes) => bytes,
        Piece::Gone => return Ok(Err("it is not there")),
        Piece::Unranged => return Ok(Err(UNRANGED)),
    };
    Ok(shape.entries(&pages, &bytes).ok_or("it is not as it was written"))
}

/// The records of a block, which must have its checksum.
async fn block_of(
    source: &mut Source<'_>,
    from: &Pieces,
    shape: &Shape,
    block: u64,
) -> Result<std::result::Result<String, Wrong>> {
    let Some(pages) = shape.pages_of_block(block) else { return Ok(Err("it names a block that there is not")) };
    let bytes = match source.piece(from, Which::Index, shape.place(Kind::Blocks, &pages)).await? {
        Piece::Read(bytes) => bytes,
        Piece::Gone => return Ok(Err("it is not there")),
        Piece::Unranged => return Ok(Err(UNRANGED)),
    };
    let Some((range, crc)) = shape.block(block, &pages, &bytes) else { return Ok(Err("it is not as it was written")) };
    let bytes = match source.piece(from, Which::Records, range).await? {
        Piece::Read(bytes) => bytes,
        Piece::Gone => return Ok(Err("the records that it leads to are not there")),
        Piece::Unranged => return Ok(Err(UNRANGED)),
    };
    if crate::database::marks::crc([bytes.as_ref()]) != crc {
        return Ok(Err("the records that it leads to are not as they were written"));
    }
    Ok(String::from_utf8(bytes.into()).map_err(|_| "the records that it leads to are no text"))
}

/// The records of a block with the key; none when one of them is no record of the table.
fn matching(block: &str, key: &Key) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for line in block.lines().filter(|line| *line != "]") {
        let line = line.strip_suffix(',').unwrap_or(line);
        if key.is_of(line)? {
            found.push(line.to_owned());
        }
    }
    Some(found)
}
