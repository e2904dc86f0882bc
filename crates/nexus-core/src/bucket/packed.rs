//! Objects as few bytes, for listings that go through a file of this machine: about 60 bytes each, where JSON takes 300.
//!
//! This is no stored format: what is written so is read by the same run and goes with it. Objects come in blocks that can
//! be read on their own; within one, a key is said by how much it shares with the one before.

use std::io::{BufRead, Read, Write};

use jiff::Timestamp;

use super::Object;
use crate::listing::{FileKind, Side, hex, is_md5_shaped};

/// The ETag is the 16 bytes of an MD5.
const MD5: u8 = 1;
/// The ETag is some other text.
const ETAG: u8 = 2;
const MODIFIED: u8 = 4;
const CLASS: u8 = 8;
/// The rest of what is known is rare: the object follows as JSON.
const RARE: u8 = 16;

/// Writes objects of one block.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    last: String,
}

/// Reads objects of one block.
#[derive(Debug, Default)]
pub(crate) struct Unpacker {
    last: String,
}

impl Packer {
    /// Adds an object to a block.
    pub(crate) fn put(&mut self, object: &Object, block: &mut Vec<u8>) -> std::io::Result<()> {
        put_key(&mut self.last, &object.key, block);
        let side = &object.side;
        let rare = object.kind != FileKind::File
            || side.checksum.is_some()
            || side.version.is_some()
            || side.unix.is_some()
            || side.modified.is_some_and(|time| time.subsec_nanosecond() < 0);
        if rare {
            block.push(RARE);
            put_bytes(&serde_json::to_vec(object)?, block);
            return Ok(());
        }
        put_side(side, block);
        Ok(())
    }
}

impl Unpacker {
    /// Takes the next object from a block; `None` when it is no such block.
    pub(crate) fn take(&mut self, block: &mut &[u8]) -> Option<Object> {
        let key = take_key(&mut self.last, block)?;
        if block.first() == Some(&RARE) {
            *block = &block[1..];
            return serde_json::from_slice(take_bytes(block)?).ok();
        }
        Some(Object { key, side: take_side(block)?, kind: FileKind::File })
    }
}

/// Writes a block after its length.
pub(crate) fn write_block(block: &[u8], out: &mut impl Write) -> std::io::Result<()> {
    let mut length = Vec::with_capacity(5);
    put_number(block.len() as u64, &mut length);
    out.write_all(&length)?;
    out.write_all(block)
}

/// Reads the next block; `None` at the end.
pub(crate) fn read_block(from: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    if from.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let (mut length, mut shift, mut byte) = (0_u64, 0, [128]);
    while byte[0] >= 128 {
        from.read_exact(&mut byte)?;
        length |= u64::from(byte[0] & 127) << shift;
        shift += 7;
    }
    let mut block = Vec::new();
    let read = Read::take(from, length).read_to_end(&mut block)?;
    if read as u64 == length { Ok(Some(block)) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

/// Writes what a bucket's listing says of an object.
fn put_side(side: &Side, block: &mut Vec<u8>) {
    let md5 = side.etag.as_deref().and_then(digits);
    let mut flags = 0;
    for (there, flag) in [
        (md5.is_some(), MD5),
        (md5.is_none() && side.etag.is_some(), ETAG),
        (side.modified.is_some(), MODIFIED),
        (side.class.is_some(), CLASS),
    ] {
        flags |= if there { flag } else { 0 };
    }
    block.push(flags);
    put_number(side.size, block);
    match (&md5, &side.etag) {
        (Some(md5), _) => block.extend_from_slice(md5),
        (None, Some(etag)) => put_bytes(etag.as_bytes(), block),
        (None, None) => {}
    }
    if let Some(time) = side.modified {
        put_number(zigzag(time.as_second()), block);
        put_number(u64::from(time.subsec_nanosecond().unsigned_abs()), block);
    }
    if let Some(class) = &side.class {
        put_bytes(class.as_bytes(), block);
    }
}

fn take_side(block: &mut &[u8]) -> Option<Side> {
    let (&flags, rest) = block.split_first()?;
    *block = rest;
    let mut side = Side { size: take_number(block)?, ..Side::default() };
    if flags & MD5 != 0 {
        let (md5, rest) = block.split_at_checked(16)?;
        *block = rest;
        side.etag = Some(hex(md5));
    } else if flags & ETAG != 0 {
        side.etag = Some(take_text(block)?);
    }
    if flags & MODIFIED != 0 {
        let seconds = unzigzag(take_number(block)?);
        side.modified = Some(Timestamp::new(seconds, i32::try_from(take_number(block)?).ok()?).ok()?);
    }
    if flags & CLASS != 0 {
        side.class = Some(take_text(block)?);
    }
    Some(side)
}

/// Writes a key as how much of the last one it begins with, and the rest.
fn put_key(last: &mut String, key: &str, block: &mut Vec<u8>) {
    let mut shared = last.bytes().zip(key.bytes()).take_while(|(left, right)| left == right).count();
    // A letter of several bytes is said whole.
    while !key.is_char_boundary(shared) {
        shared -= 1;
    }
    put_number(shared as u64, block);
    put_bytes(&key.as_bytes()[shared..], block);
    last.truncate(shared);
    last.push_str(&key[shared..]);
}

fn take_key(last: &mut String, block: &mut &[u8]) -> Option<String> {
    let shared = usize::try_from(take_number(block)?).ok()?;
    let rest = std::str::from_utf8(take_bytes(block)?).ok()?;
    if !last.is_char_boundary(shared) {
        return None;
    }
    last.truncate(shared);
    last.push_str(rest);
    Some(last.clone())
}

/// Writes a number in groups of seven bits, the lowest first.
pub(crate) fn put_number(mut number: u64, block: &mut Vec<u8>) {
    while number >= 128 {
        block.push(u8::try_from(number & 127).unwrap_or(0) | 128);
        number >>= 7;
    }
    block.push(u8::try_from(number).unwrap_or(0));
}

/// Reads such a number.
pub(crate) fn take_number(block: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = block.split_first()?;
        *block = rest;
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(number);
        }
    }
    None
}

/// Writes bytes after how many they are.
pub(crate) fn put_bytes(bytes: &[u8], block: &mut Vec<u8>) {
    put_number(bytes.len() as u64, block);
    block.extend_from_slice(bytes);
}

/// Reads such bytes.
pub(crate) fn take_bytes<'a>(block: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(block)?).ok()?;
    let (bytes, rest) = block.split_at_checked(length)?;
    *block = rest;
    Some(bytes)
}

/// Reads such bytes as text.
pub(crate) fn take_text(block: &mut &[u8]) -> Option<String> {
    String::from_utf8(take_bytes(block)?.to_vec()).ok()
}

/// The bytes of 32 lower-case hexadecimal digits.
fn digits(etag: &str) -> Option<[u8; 16]> {
    if !is_md5_shaped(etag) || etag.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(etag.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(bytes)
}

/// Numbers near zero, either side of it, become small ones.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::Unix;

    fn sides() -> Vec<Side> {
        let md5 = || Some("d41d8cd98f00b204e9800998ecf8427e".to_owned());
        let time = |seconds, nanoseconds| Timestamp::new(seconds, nanoseconds).ok();
        vec![
            Side::default(),
            Side { size: u64::MAX, etag: md5(), modified: time(1_700_000_000, 123_000_000), ..Side::default() },
            Side { etag: md5().map(|text| text.to_uppercase()), modified: time(-5, 0), ..Side::default() },
            Side { etag: md5().map(|text| text + "-7"), modified: time(-5, -1), ..Side::default() },
            Side { class: Some("GLACIER".into()), version: Some("v".into()), ..Side::default() },
            Side { class: Some("STANDARD_IA".into()), checksum: Some("sha256:00".into()), ..Side::default() },
            Side { unix: Some(Unix { mode: 1, uid: 2, gid: 3, ctime_ns: 4, inode: 5 }), ..Side::default() },
        ]
    }

    #[test]
    fn everything_a_listing_says_comes_back() {
        let keys = ["", "a", "a/ä", "a/à", "a/\u{1}\n", "b", "\u{10ffff}", "b"];
        let kinds = [FileKind::File, FileKind::Folder, FileKind::Link("x".into()), FileKind::Special("socket".into())];
        let mut objects = Vec::new();
        for key in keys {
            for side in sides() {
                objects.extend(kinds.iter().map(|kind| Object {
                    key: key.into(),
                    side: side.clone(),
                    kind: kind.clone(),
                }));
            }
        }
        let (mut packer, mut block) = (Packer::default(), Vec::new());
        for object in &objects {
            packer.put(object, &mut block).expect("it has a JSON");
        }
        let (mut unpacker, mut rest) = (Unpacker::default(), &block[..]);
        for object in &objects {
            assert_eq!(unpacker.take(&mut rest).as_ref(), Some(object));
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_cut_block_is_none() {
        let object = Object { key: "some/key".into(), side: sides().remove(1), kind: FileKind::File };
        let mut block = Vec::new();
        Packer::default().put(&object, &mut block).expect("it has a JSON");
        for length in 0..block.len() {
            assert_eq!(Unpacker::default().take(&mut &block[..length]), None);
        }
    }
}
