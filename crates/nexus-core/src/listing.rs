//! The file listing of a point: one line a file, sorted by the bytes of its key.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::point::PointId;

/// The longest line a reader accepts: a 1,024-byte key, escaped, with both sides and headers.
const LONGEST_LINE: usize = 256 * 1024;

/// One file of a point: what it was, where its copy lies, what proves them equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The key in the source: a bucket's whole key, or a path relative to the source folder.
    pub key: String,
    /// The category its copy is filed under.
    pub category: String,
    /// What kind of thing it is; plain files leave it out.
    #[serde(default, skip_serializing_if = "FileKind::is_file")]
    pub kind: FileKind,
    /// The original as it was seen.
    pub source: Side,
    /// The copy as the vault holds it; links and empty folders have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<Side>,
    /// Where the copy lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// What proves original and copy equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofKind>,
    /// Headers and user metadata, kept here when the vault cannot hold them beside the bytes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// What kind of thing a listing line stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// Bytes.
    #[default]
    File,
    /// A folder of a folder source.
    Folder,
    /// A symbolic link of a folder source, with its target; recorded, not followed.
    Link(String),
    /// Neither file, folder nor link: a socket, a device, a FIFO. Named, never opened.
    Special(String),
}

impl FileKind {
    fn is_file(&self) -> bool {
        *self == Self::File
    }
}

/// One side of a copy: the original, or the copy in the vault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Bytes.
    pub size: u64,
    /// The service's ETag without its quotes; folders have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `sha256:<hex>` or `crc64nvme:<base64>` over the whole content, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// When it was last modified, by the service or the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
    /// The version id on a versioned bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The storage class; `STANDARD` is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What a file system knows beyond that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix: Option<Unix>,
}

/// What a file system knows about a file beyond its size and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unix {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the inode, nanoseconds since 1970.
    pub ctime_ns: i64,
    /// The inode's number.
    pub inode: u64,
}

/// Where the copy of a file lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Place {
    /// In a point of this vault, this one or an earlier one: reused, nothing copied.
    Vault {
        /// The point under whose prefix it lies.
        point: PointId,
        /// The key, relative to the vault's prefix.
        key: String,
    },
    /// As a version of the source object itself.
    Version {
        /// The version id.
        id: String,
    },
}

impl Place {
    /// The key in the vault, where it lies there.
    pub fn vault_key(&self) -> Option<&str> {
        match self {
            Self::Vault { key, .. } => Some(key),
            Self::Version { .. } => None,
        }
    }
}

/// What proves a copy equal to its original.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofKind {
    /// Both ETags are the MD5 of the content (32 hexadecimal digits) and equal.
    Etag,
    /// A checksum over the whole content is equal on both sides.
    Checksum,
    /// Only the size, under the condition that the original had not changed.
    Size,
    /// Nothing: an older tool made the copy, and of the original nothing is known.
    Adopted,
    /// No copy was made: it is a version of the original itself.
    Version,
}

/// True when an ETag is the MD5 of the content as far as its shape tells: 32 hexadecimal digits.
///
/// Multipart uploads (`…-N`) and services of their own mind give other shapes. Whether an MD5-shaped ETag is one
/// is shown by the copy having the same.
pub fn is_md5_shaped(etag: &str) -> bool {
    etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Says what proves the two sides equal, or `None` when they differ.
pub fn proof_of(source: &Side, copy: &Side) -> Option<ProofKind> {
    if source.size != copy.size {
        return None;
    }
    if let (Some(left), Some(right)) = (&source.checksum, &copy.checksum)
        && left.split(':').next() == right.split(':').next()
    {
        return (left == right).then_some(ProofKind::Checksum);
    }
    match (&source.etag, &copy.etag) {
        (Some(left), Some(right)) if is_md5_shaped(left) && is_md5_shaped(right) => {
            // Two MD5 shapes that differ may still be opaque ETags of an encrypting service: size is all that is left.
            Some(if left == right { ProofKind::Etag } else { ProofKind::Size })
        }
        _ => Some(ProofKind::Size),
    }
}

/// Writes listing lines to a zstd file, hashing the compressed bytes as they go; a thread of its own compresses.
pub struct ListingWriter {
    /// Lines that were not handed on yet.
    lines: Vec<u8>,
    /// Until it is finished.
    onward: Option<SyncSender<Piece>>,
    thread: Option<JoinHandle<std::io::Result<Written>>>,
    last: Option<String>,
    what: String,
}

/// What is handed on.
enum Piece {
    Lines(Vec<u8>),
    /// There are no more. A file without this has no end, and no reader takes it for a listing.
    End,
}

/// Bytes of lines that are handed on at once, and how often before the writer waits.
const HANDED_ON: usize = 256 * 1024;
const AHEAD: usize = 4;

/// What a finished listing file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the compressed file.
    pub bytes: u64,
    /// SHA-256 of the compressed file, hexadecimal.
    pub sha256: String,
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl ListingWriter {
    /// Opens a new listing file at `path`, which only the owner may read.
    pub fn create(path: &Path) -> Result<Self> {
        let what = format!("cannot write the listing `{}`", path.display());
        let file = crate::local::create_private(path)?;
        let (onward, pieces) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new().name("compress".into()).spawn(move || compress(file, &pieces));
        let thread = thread.map_err(|cause| Error::local(&what, cause))?;
        let lines = Vec::with_capacity(HANDED_ON);
        Ok(Self { lines, onward: Some(onward), thread: Some(thread), last: None, what })
    }

    /// Adds one line; keys must come in byte order, each once.
    pub fn push(&mut self, entry: &FileEntry) -> Result<()> {
        if self.last.as_deref().is_some_and(|last| last.as_bytes() >= entry.key.as_bytes()) {
            return Err(Error::damaged(format!("the listing is out of order at key {:?}", entry.key)));
        }
        serde_json::to_writer(&mut self.lines, entry)
            .map_err(|cause| Error::Local { what: self.what.clone(), cause: Some(cause.into()) })?;
        self.lines.push(b'\n');
        let last = self.last.get_or_insert_default();
        last.clear();
        last.push_str(&entry.key);
        if self.lines.len() < HANDED_ON { Ok(()) } else { self.hand_on() }
    }

    fn hand_on(&mut self) -> Result<()> {
        let lines = std::mem::replace(&mut self.lines, Vec::with_capacity(HANDED_ON));
        self.send(Piece::Lines(lines))
    }

    fn send(&mut self, piece: Piece) -> Result<()> {
        let sent = self.onward.as_ref().is_some_and(|onward| onward.send(piece).is_ok());
        // A thread that takes nothing any more has failed, and says how.
        if sent { Ok(()) } else { self.ended().and(Err(Error::Local { what: self.what.clone(), cause: None })) }
    }

    /// Waits for the thread, which ends when it was told to, or when nothing more can be handed on.
    fn ended(&mut self) -> Result<Written> {
        drop(self.onward.take());
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(written)) => written.map_err(|cause| Error::local(&self.what, cause)),
            Some(Err(_)) | None => Err(Error::Local { what: self.what.clone(), cause: None }),
        }
    }

    /// Ends the file and says what it is.
    pub fn finish(mut self) -> Result<Written> {
        self.hand_on()?;
        self.send(Piece::End)?;
        self.ended()
    }
}

fn compress(file: File, pieces: &Receiver<Piece>) -> std::io::Result<Written> {
    let hashing = Hashing { inner: BufWriter::new(file), hash: Sha256::new(), bytes: 0 };
    let mut encoder = zstd::Encoder::new(hashing, 3)?;
    encoder.include_checksum(true)?;
    loop {
        match pieces.recv() {
            Ok(Piece::Lines(lines)) => encoder.write_all(&lines)?,
            Ok(Piece::End) => break,
            Err(_) => return Err(std::io::Error::other("it was given up")),
        }
    }
    let mut hashing = encoder.finish()?;
    hashing.flush()?;
    hashing.inner.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(Written { bytes: hashing.bytes, sha256: hex(&hashing.hash.finalize()) })
}

/// Reads listing lines back, one at a time, and refuses what is not a listing.
pub struct ListingReader {
    lines: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    line: Vec<u8>,
    last: Option<String>,
    path: PathBuf,
    what: String,
}

impl ListingReader {
    /// Opens a listing file that lies on this machine.
    pub fn open(path: &Path, what: impl Into<String>) -> Result<Self> {
        let what = what.into();
        let file = File::open(path).map_err(|cause| Error::local(format!("cannot read {what}"), cause))?;
        let decoder =
            zstd::Decoder::new(file).map_err(|cause| Error::damaged_by(format!("{what} cannot be read"), cause))?;
        Ok(Self {
            lines: BufReader::with_capacity(256 * 1024, decoder),
            line: Vec::new(),
            last: None,
            path: path.to_owned(),
            what,
        })
    }

    /// Opens the same file again, from its beginning.
    pub(crate) fn again(&self) -> Result<Self> {
        Self::open(&self.path, self.what.clone())
    }

    fn next_entry(&mut self) -> Result<Option<FileEntry>> {
        self.line.clear();
        let mut limited = std::io::Read::take(&mut self.lines, LONGEST_LINE as u64);
        let count = limited
            .read_until(b'\n', &mut self.line)
            .map_err(|cause| Error::damaged_by(format!("{} cannot be read", self.what), cause))?;
        if count == 0 {
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') {
            return Err(Error::damaged(format!("{} ends in the middle of a line", self.what)));
        }
        let entry: FileEntry = serde_json::from_slice(&self.line)
            .map_err(|cause| Error::damaged_by(format!("{} holds a line that is not an entry", self.what), cause))?;
        if self.last.as_deref().is_some_and(|last| last.as_bytes() >= entry.key.as_bytes()) {
            return Err(Error::damaged(format!("{} is out of order at key {:?}", self.what, entry.key)));
        }
        let last = self.last.get_or_insert_default();
        last.clear();
        last.push_str(&entry.key);
        Ok(Some(entry))
    }
}

impl Iterator for ListingReader {
    type Item = Result<FileEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |number: u8| char::from(DIGITS[usize::from(number & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(size: u64, etag: &str) -> Side {
        Side { size, etag: Some(etag.to_owned()), ..Side::default() }
    }

    const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

    #[test]
    fn a_listing_that_was_not_finished_is_none() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let entry = |key: String| FileEntry {
            key,
            category: "other".into(),
            kind: FileKind::File,
            source: side(1, MD5),
            copy: None,
            at: None,
            proof: None,
            headers: BTreeMap::new(),
        };
        for lines in [1, 20_000] {
            let path = folder.path().join(format!("{lines}.zst"));
            let mut writer = ListingWriter::create(&path).expect("a new file");
            for at in 0..lines {
                writer.push(&entry(format!("{at:06}"))).expect("a line");
            }
            let thread = writer.thread.take().expect("it runs");
            drop(writer);
            assert!(thread.join().expect("no panic").is_err());
            let read: Result<Vec<_>> = ListingReader::open(&path, "it").and_then(Iterator::collect);
            assert!(read.is_err(), "{lines} lines");
        }
    }

    #[test]
    fn equal_md5_etags_prove_equality() {
        assert_eq!(proof_of(&side(1, MD5), &side(1, MD5)), Some(ProofKind::Etag));
    }

    #[test]
    fn a_multipart_etag_proves_nothing_but_the_size() {
        let multipart = format!("{MD5}-2");
        assert_eq!(proof_of(&side(1, &multipart), &side(1, &multipart)), Some(ProofKind::Size));
    }

    #[test]
    fn another_size_is_never_equal() {
        assert_eq!(proof_of(&side(1, MD5), &side(2, MD5)), None);
    }

    #[test]
    fn a_cut_listing_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("files.jsonl.zst");
        let mut writer = ListingWriter::create(&path).expect("a new file");
        for number in 0..2_000 {
            let entry = FileEntry {
                key: format!("key-{number:06}"),
                category: "other".into(),
                kind: FileKind::File,
                source: side(number, MD5),
                copy: None,
                at: None,
                proof: None,
                headers: BTreeMap::new(),
            };
            writer.push(&entry).expect("room on the disk");
        }
        let written = writer.finish().expect("room on the disk");
        assert_eq!(ListingReader::open(&path, "it").expect("a file").flatten().count(), 2_000);
        let bytes = std::fs::read(&path).expect("a file");
        assert_eq!(bytes.len() as u64, written.bytes);
        std::fs::write(&path, &bytes[..bytes.len() - 9]).expect("room on the disk");
        assert!(ListingReader::open(&path, "it").expect("a file").any(|entry| entry.is_err()));
    }
}
