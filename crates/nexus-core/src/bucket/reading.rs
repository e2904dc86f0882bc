//! A local file that is read and hashed piece by piece, and each piece once more when it is sent.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use futures::stream::{self, TryStreamExt};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::lean::Body;
use crate::error::{Error, Result};
use crate::listing::hex;

/// Bytes that are read at once; a piece that has no more is held until it is sent.
const CHUNK: u64 = 256 * 1024;

/// A file that is being read from its beginning on.
pub(super) struct Reading {
    file: Arc<File>,
    size: u64,
    /// Bytes of a piece; the last one has what is left.
    part: u64,
    at: u64,
    number: i32,
    sha256: Sha256,
    crc64: Crc,
    /// Whether each piece's MD5 is wanted.
    md5: bool,
    /// Whether each piece is held until it is sent.
    hold: bool,
}

/// What a whole file is told by.
pub(super) struct Whole {
    /// Hexadecimal.
    pub(super) sha256: String,
    /// Its CRC64NVME, base64, as S3 writes it.
    pub(super) crc64: String,
}

/// One piece of a file.
pub(super) struct Piece {
    /// From 1 on.
    pub(super) number: i32,
    pub(super) content: Content,
    /// Bytes.
    pub(super) length: u64,
    /// Hexadecimal.
    pub(super) sha256: String,
    /// Where it was wanted.
    pub(super) md5: Option<[u8; 16]>,
}

/// The bytes of a piece.
pub(super) enum Content {
    /// In memory.
    Held(Bytes),
    /// Where they lie.
    Lying(Stretch),
}

/// A stretch of a file.
#[derive(Clone)]
pub(super) struct Stretch {
    file: Arc<File>,
    at: u64,
    length: u64,
}

impl Reading {
    pub(super) fn new(file: Arc<File>, size: u64, part: u64, md5: bool, hold: bool) -> Self {
        let crc64 = Crc::new(CrcAlgorithm::Crc64Nvme);
        Self { file, size, part, at: 0, number: 1, sha256: Sha256::new(), crc64, md5, hold }
    }

    /// Bytes of the next piece.
    pub(super) fn ahead(&self) -> u64 {
        self.part.min(self.size - self.at)
    }

    pub(super) fn is_done(&self) -> bool {
        self.at == self.size
    }

    /// Whether the next piece will be held until it is sent.
    pub(super) fn holds(&self) -> bool {
        self.hold || self.ahead() <= CHUNK
    }

    /// Of what was read so far.
    pub(super) fn whole(&self) -> Whole {
        let crc64 = BASE64.encode(self.crc64.clone().finalize().to_be_bytes());
        Whole { sha256: hex(&self.sha256.clone().finalize()), crc64 }
    }

    /// Reads the next piece.
    ///
    /// # Errors
    ///
    /// [`Error::Local`] when the file cannot be read, or is shorter by now.
    pub(super) fn next(mut self) -> Result<(Piece, Self)> {
        let (length, only) = (self.ahead(), self.part >= self.size);
        let mut held = self.holds().then(|| Vec::with_capacity(usize::try_from(length).unwrap_or(0)));
        let stretch = Stretch { file: Arc::clone(&self.file), at: self.at, length };
        let (mut sha256, mut md5) = (Sha256::new(), self.md5.then(Md5::new));
        stretch.read(|chunk| {
            self.sha256.update(chunk);
            self.crc64.update(chunk);
            if !only {
                sha256.update(chunk);
            }
            if let Some(md5) = &mut md5 {
                md5.update(chunk);
            }
            if let Some(held) = &mut held {
                held.extend_from_slice(chunk);
            }
        })?;
        let sha256 = hex(&if only { self.sha256.clone() } else { sha256 }.finalize());
        let content = held.map_or(Content::Lying(stretch), |held| Content::Held(held.into()));
        let md5 = md5.map(|md5| md5.finalize().into());
        let piece = Piece { number: self.number, content, length, sha256, md5 };
        self.at += length;
        self.number += 1;
        Ok((piece, self))
    }
}

impl Content {
    /// The bytes as they go out, read as they go.
    pub(super) fn body(&self) -> Body {
        let stretch = match self {
            Self::Held(content) => {
                return Full::new(content.clone()).map_err(|never| match never {}).boxed_unsync();
            }
            Self::Lying(stretch) => stretch.clone(),
        };
        let chunks = stream::try_unfold(stretch, async |left| {
            if left.length == 0 {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || left.first().map(|chunk| (chunk, left)));
            let (chunk, left) = read.await.map_err(std::io::Error::other)??;
            let rest = left.after(chunk.len() as u64);
            Ok(Some((chunk, rest)))
        });
        StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync()
    }
}

impl Stretch {
    fn after(self, bytes: u64) -> Self {
        Self { at: self.at + bytes, length: self.length - bytes, ..self }
    }

    /// Its first chunk.
    fn first(&self) -> std::io::Result<Bytes> {
        let mut chunk = vec![0; usize::try_from(self.length.min(CHUNK)).map_err(std::io::Error::other)?];
        self.file.read_exact_at(&mut chunk, self.at)?;
        Ok(chunk.into())
    }

    fn read(&self, mut take: impl FnMut(&[u8])) -> Result<()> {
        let failed = |cause| Error::local("cannot read a file that is to be sent", cause);
        let mut chunk = vec![0; usize::try_from(self.length.min(CHUNK)).unwrap_or(0)];
        let (mut at, end) = (self.at, self.at + self.length);
        while at < end {
            let length = (end - at).min(CHUNK);
            let chunk = &mut chunk[..usize::try_from(length).unwrap_or(0)];
            self.file.read_exact_at(chunk, at).map_err(failed)?;
            take(chunk);
            at += length;
        }
        Ok(())
    }

    /// The whole of it in memory.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] when it has another SHA-256 than it had.
    pub(super) fn read_again(&self, sha256: &str) -> Result<Bytes> {
        let mut content = Vec::with_capacity(usize::try_from(self.length).unwrap_or(0));
        self.read(|chunk| content.extend_from_slice(chunk))?;
        if hex(&Sha256::digest(&content)) != sha256 {
            return Err(Error::Changed { what: "a file that is being sent".into() });
        }
        Ok(content.into())
    }
}

/// The ETag that a file has where ETags are MD5s, sent in parts of so many bytes or as a whole.
///
/// # Errors
///
/// [`Error::Local`] when it cannot be read, or is shorter than that.
pub(super) fn etag_of(file: &Arc<File>, size: u64, part: u64) -> Result<String> {
    let (mut all, mut parts, mut at) = (Md5::new(), 0, 0);
    loop {
        let length = part.min(size - at);
        let mut md5 = Md5::new();
        Stretch { file: Arc::clone(file), at, length }.read(|chunk| md5.update(chunk))?;
        if length == size {
            return Ok(hex(&md5.finalize()));
        }
        all.update(md5.finalize());
        (parts, at) = (parts + 1, at + length);
        if at == size {
            return Ok(format!("{}-{parts}", hex(&all.finalize())));
        }
    }
}
