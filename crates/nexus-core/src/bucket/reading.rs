//! A local file that is read and hashed piece by piece, and each piece once more when it is sent.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use futures::stream::{self, TryStreamExt};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::hashes::content_md5;
use super::lean::Body;
use crate::error::{Error, Result};
use crate::listing::hex;

/// Bytes that are read at once; a piece that has no more is held until it is sent.
const CHUNK: u64 = 256 * 1024;

/// An open file.
pub(super) struct Opened {
    pub(super) file: File,
    /// By which errors name it.
    pub(super) path: PathBuf,
    /// Bytes.
    pub(super) size: u64,
    /// Bytes of a piece of it; the last one has what is left.
    pub(super) part: u64,
}

/// A file that is being read from its beginning on.
pub(super) struct Reading {
    opened: Arc<Opened>,
    at: u64,
    number: i32,
    sha256: Sha256,
    crc64: Crc,
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
    opened: Arc<Opened>,
    at: u64,
    length: u64,
}

impl Reading {
    pub(super) fn new(opened: Arc<Opened>) -> Self {
        Self { opened, at: 0, number: 1, sha256: Sha256::new(), crc64: Crc::new(CrcAlgorithm::Crc64Nvme) }
    }

    /// Bytes of the next piece.
    pub(super) fn ahead(&self) -> u64 {
        self.opened.part.min(self.opened.size - self.at)
    }

    pub(super) fn is_done(&self) -> bool {
        self.at == self.opened.size
    }

    /// True when all of the next piece is read at once.
    pub(super) fn is_small(&self) -> bool {
        self.ahead() <= CHUNK
    }

    /// Of what was read so far.
    pub(super) fn whole(&self) -> Whole {
        let crc64 = BASE64.encode(self.crc64.clone().finalize().to_be_bytes());
        Whole { sha256: hex(&self.sha256.clone().finalize()), crc64 }
    }

    /// Reads the next piece, with its MD5 and into memory where that is wanted.
    ///
    /// # Errors
    ///
    /// [`Error::Local`] when the file cannot be read, or is shorter by now.
    pub(super) fn next(mut self, md5: bool, hold: bool) -> Result<(Piece, Self)> {
        let (length, only) = (self.ahead(), self.opened.part >= self.opened.size);
        let mut kept = hold.then(|| Vec::with_capacity(usize::try_from(length).unwrap_or(0)));
        let stretch = Stretch { opened: Arc::clone(&self.opened), at: self.at, length };
        let (mut sha256, mut md5) = (Sha256::new(), md5.then(Md5::new));
        stretch.read(|chunk| {
            self.sha256.update(chunk);
            self.crc64.update(chunk);
            if !only {
                sha256.update(chunk);
            }
            if let Some(md5) = &mut md5 {
                md5.update(chunk);
            }
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(chunk);
            }
        })?;
        let sha256 = hex(&if only { self.sha256.clone() } else { sha256 }.finalize());
        let content = kept.map_or(Content::Lying(stretch), |kept| Content::Held(kept.into()));
        let md5 = md5.map(|md5| md5.finalize().into());
        let piece = Piece { number: self.number, content, length, sha256, md5 };
        self.at += length;
        self.number += 1;
        Ok((piece, self))
    }
}

impl Content {
    /// The bytes as they go out, read and counted as they go.
    pub(super) fn body(&self, gone: &Arc<AtomicU64>) -> Body {
        let stretch = match self {
            Self::Held(content) => {
                return Full::new(content.clone()).map_err(|never| match never {}).boxed_unsync();
            }
            Self::Lying(stretch) => stretch.clone(),
        };
        let chunks = stream::try_unfold((stretch, Arc::clone(gone)), async |(left, gone)| {
            if left.length == 0 {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || left.first().map(|chunk| (chunk, left)));
            let (chunk, left) = read.await.map_err(std::io::Error::other)??;
            let bytes = chunk.len() as u64;
            gone.fetch_add(bytes, Ordering::Relaxed);
            Ok(Some((chunk, (left.after(bytes), gone))))
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
        self.opened.file.read_exact_at(&mut chunk, self.at)?;
        Ok(chunk.into())
    }

    fn read(&self, mut take: impl FnMut(&[u8])) -> Result<()> {
        let failed = |cause| Error::local(format!("cannot read `{}`", self.opened.path.display()), cause);
        let mut chunk = vec![0; usize::try_from(self.length.min(CHUNK)).unwrap_or(0)];
        let (mut at, end) = (self.at, self.at + self.length);
        while at < end {
            let length = (end - at).min(CHUNK);
            let chunk = &mut chunk[..usize::try_from(length).unwrap_or(0)];
            self.opened.file.read_exact_at(chunk, at).map_err(failed)?;
            take(chunk);
            at += length;
        }
        Ok(())
    }

    /// The whole of it in memory, and its MD5 as `Content-MD5` has it.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] when it has another SHA-256 than it had.
    pub(super) fn read_again(&self, sha256: &str) -> Result<(Bytes, String)> {
        let mut content = Vec::with_capacity(usize::try_from(self.length).unwrap_or(0));
        self.read(|chunk| content.extend_from_slice(chunk))?;
        if hex(&Sha256::digest(&content)) != sha256 {
            return Err(self.opened.changed());
        }
        let md5 = content_md5(&content);
        Ok((content.into(), md5))
    }
}

impl Opened {
    fn changed(&self) -> Error {
        Error::Changed { what: format!("`{}` changed while it was sent", self.path.display()) }
    }

    /// The ETag that the file has where ETags are MD5s, sent in parts of so many bytes or as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::Local`] when it cannot be read; [`Error::Changed`] when it has another SHA-256 than it had.
    pub(super) fn etag(self: &Arc<Self>, sha256: &str) -> Result<String> {
        let (mut whole, mut all, mut parts, mut at) = (Sha256::new(), Md5::new(), 0, 0);
        let etag = loop {
            let length = self.part.min(self.size - at);
            let mut md5 = Md5::new();
            Stretch { opened: Arc::clone(self), at, length }.read(|chunk| {
                md5.update(chunk);
                whole.update(chunk);
            })?;
            if length == self.size {
                break hex(&md5.finalize());
            }
            all.update(md5.finalize());
            (parts, at) = (parts + 1, at + length);
            if at == self.size {
                break format!("{}-{parts}", hex(&all.finalize()));
            }
        };
        if hex(&whole.finalize()) == sha256 { Ok(etag) } else { Err(self.changed()) }
    }
}
