//! Bytes that are made while they are stored, under a key that nobody has used: nothing shows before the last of them.

use std::io::Write;
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedPart, ServerSideEncryption, StorageClass};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use super::StoreOptions;
use super::blank::marked;
use super::failure::{Failure, FailureKind, failure};
use super::folder::{Existing, Folder, Unplaced};
use super::hashes::content_md5;
use super::s3::{S3, stored};
use super::upload::{PARTS, SINGLE, part_size, sent_part};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::hex;
use crate::point::FileHash;

/// What is to be stored, piece by piece; it ends well only when all of it was made.
pub type Chunks<'a> = BoxStream<'a, Result<Bytes>>;

/// User metadata that tells our own upload from another's when an answer was lost.
const NONCE: &str = "nexus-nonce";
/// Parts of one upload in flight.
const PARTS_IN_FLIGHT: usize = 3;
/// Pieces on their way to a folder.
const PIECES: usize = 8;

/// How a stream is stored, and whom to tell.
#[derive(Debug, Clone, Copy)]
pub struct Streaming<'a> {
    /// Bytes there will be, roughly; parts are sized for twice as many and grow when there are still more.
    pub expected: u64,
    /// Stored beside it, so that an upload whose answer was lost is known as ours.
    pub nonce: &'a str,
    /// How it is stored.
    pub options: &'a StoreOptions,
    /// Whom to tell.
    pub events: &'a Events,
    /// As what.
    pub stage: Stage,
}

/// A stream that is hashed and cut into parts.
struct Cutter<'a> {
    chunks: Chunks<'a>,
    gathered: BytesMut,
    hash: Sha256,
    bytes: u64,
    number: u64,
    size: u64,
    /// What the source failed with, which is the error to tell.
    broken: Option<Error>,
}

impl<'a> Cutter<'a> {
    fn new(chunks: Chunks<'a>, expected: u64) -> Self {
        let size = part_size(expected.saturating_mul(2));
        Self { chunks, gathered: BytesMut::new(), hash: Sha256::new(), bytes: 0, number: 0, size, broken: None }
    }

    /// The next `size` bytes, fewer at the end, none after it.
    async fn next(&mut self, size: usize) -> Option<Bytes> {
        while self.gathered.len() < size {
            match self.chunks.next().await {
                None => break,
                Some(Err(error)) => {
                    self.broken = Some(error);
                    return None;
                }
                Some(Ok(chunk)) => {
                    self.hash.update(&chunk);
                    self.bytes += chunk.len() as u64;
                    self.gathered.extend_from_slice(&chunk);
                }
            }
        }
        let length = size.min(self.gathered.len());
        (length > 0).then(|| self.gathered.split_to(length).freeze())
    }

    /// Has bytes that were taken come once more: a part of another size than its neighbours is refused by Cloudflare R2
    /// (<https://developers.cloudflare.com/r2/objects/multipart-objects/>).
    fn put_back(&mut self, taken: &[u8]) {
        let rest = std::mem::replace(&mut self.gathered, BytesMut::from(taken));
        self.gathered.unsplit(rest);
    }

    /// The size of the part that comes now: it doubles now and then once more came than was to be expected.
    fn part_size(&mut self) -> usize {
        self.number += 1;
        let half = PARTS / 2;
        if self.number > half && (self.number - half) % (PARTS / 10) == 1 {
            self.size *= 2;
        }
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    fn finish(self) -> FileHash {
        FileHash { bytes: self.bytes, sha256: hex(&self.hash.finalize()) }
    }
}

impl S3 {
    /// Stores a stream; `None` when something of another's is already there.
    pub(crate) async fn upload_stream(
        &self,
        key: &str,
        chunks: Chunks<'_>,
        streaming: &Streaming<'_>,
    ) -> Result<Option<FileHash>> {
        let what = || format!("cannot store s3://{}/{key}", self.name());
        let mut cutter = Cutter::new(chunks, streaming.expected);
        let first = cutter.next(usize::try_from(SINGLE).unwrap_or(usize::MAX)).await;
        if let Some(error) = cutter.broken.take() {
            return Err(error);
        }
        let first = first.unwrap_or_default();
        let outcome = if (first.len() as u64) < SINGLE {
            self.put_whole(key, first, streaming).await
        } else {
            self.put_streamed(key, first, &mut cutter, streaming).await
        };
        if let Some(error) = cutter.broken.take() {
            return Err(error);
        }
        let bytes = cutter.bytes;
        match outcome {
            Ok(encryption) => {
                self.confirm_encryption(key, streaming.options, encryption.as_deref(), streaming.events).await;
                Ok(Some(cutter.finish()))
            }
            Err(failure) if matches!(failure.kind, FailureKind::Precondition | FailureKind::NoUpload) => {
                // Either somebody else's object, or our own whose answer was lost.
                let there = self.head(key).await?;
                let name = format!("x-amz-meta-{NONCE}");
                let ours = there.is_some_and(|there| {
                    there.object.side.size == bytes
                        && there.headers.get(&name).is_some_and(|nonce| nonce == streaming.nonce)
                });
                Ok(ours.then(|| cutter.finish()))
            }
            Err(failure) => Err(failure.into_error(what())),
        }
    }

    async fn put_whole(
        &self,
        key: &str,
        content: Bytes,
        streaming: &Streaming<'_>,
    ) -> std::result::Result<Option<String>, Failure> {
        let (options, bytes) = (streaming.options, content.len() as u64);
        let md5 = content_md5(&content);
        self.service.pace.through(bytes).await;
        let encryption = self
            .attempt(bytes, async || {
                let request = self.client().put_object().bucket(self.name()).key(marked(key)).if_none_match("*");
                let answer = request
                    .body(ByteStream::from(content.clone()))
                    .content_md5(&md5)
                    .set_content_type(options.headers.get("content-type").cloned())
                    .metadata(NONCE, streaming.nonce)
                    .set_storage_class(options.class.as_deref().map(StorageClass::from))
                    .set_server_side_encryption(options.encryption.as_deref().map(ServerSideEncryption::from))
                    .send()
                    .await
                    .map_err(failure)?;
                stored(answer.e_tag())?;
                Ok(answer.server_side_encryption().map(|kind| kind.as_str().to_owned()))
            })
            .await?;
        streaming.events.advanced(streaming.stage, 1, bytes);
        Ok(encryption)
    }

    async fn put_streamed(
        &self,
        key: &str,
        first: Bytes,
        cutter: &mut Cutter<'_>,
        streaming: &Streaming<'_>,
    ) -> std::result::Result<Option<String>, Failure> {
        let options = streaming.options;
        let upload = self
            .attempt(0, async || {
                let request = self.client().create_multipart_upload();
                let request = request
                    .set_content_type(options.headers.get("content-type").cloned())
                    .metadata(NONCE, streaming.nonce)
                    .set_storage_class(options.class.as_deref().map(StorageClass::from))
                    .set_server_side_encryption(options.encryption.as_deref().map(ServerSideEncryption::from));
                self.begin_upload(request, key).await
            })
            .await?;
        let sent = self.send_streamed(key, &upload, first, cutter, streaming).await;
        let finished = match sent {
            // A source that broke off must not become an object.
            Ok(_) if cutter.broken.is_some() => Err(Failure::changed("the source broke off")),
            Ok(parts) => self.complete(key, &upload, parts, true).await,
            Err(failure) => Err(failure),
        };
        if finished.is_err() {
            self.abort(key, &upload).await;
        }
        finished.map(|completed| completed.encryption)
    }

    async fn send_streamed(
        &self,
        key: &str,
        upload: &str,
        first: Bytes,
        cutter: &mut Cutter<'_>,
        streaming: &Streaming<'_>,
    ) -> std::result::Result<Vec<CompletedPart>, Failure> {
        cutter.put_back(&first);
        let parts = stream::unfold(cutter, async |cutter| {
            let size = cutter.part_size();
            let content = cutter.next(size).await;
            content.map(|content| ((cutter.number, content), cutter))
        });
        parts
            .map(async |(number, content)| {
                let length = content.len() as u64;
                let _memory = self.service.pace.memory(length).await;
                let number = i32::try_from(number).map_err(Failure::fatal)?;
                let md5 = content_md5(&content);
                self.service.pace.through(length).await;
                let part = self
                    .attempt(length, async || {
                        let request =
                            self.client().upload_part().bucket(self.name()).key(marked(key)).upload_id(upload);
                        let request =
                            request.part_number(number).content_md5(&md5).body(ByteStream::from(content.clone()));
                        sent_part(number, &request.send().await.map_err(failure)?)
                    })
                    .await?;
                streaming.events.advanced(streaming.stage, 0, length);
                Ok(part)
            })
            .buffered(PARTS_IN_FLIGHT)
            .try_collect()
            .await
    }
}

/// One piece on its way into a folder.
enum Piece {
    Bytes(Bytes),
    End,
}

impl Folder {
    /// Stores a stream; `None` when something is already there.
    pub(crate) async fn upload_stream(
        &self,
        key: &str,
        mut chunks: Chunks<'_>,
        streaming: &Streaming<'_>,
    ) -> Result<Option<FileHash>> {
        let (send, mut receive) = tokio::sync::mpsc::channel(PIECES);
        let (folder, name) = (Arc::new(self.clone()), key.to_owned());
        let task = tokio::task::spawn_blocking(move || {
            folder.place(&name, Existing::Refuse, None, |file| {
                loop {
                    match receive.blocking_recv() {
                        Some(Piece::Bytes(bytes)) => file.write_all(&bytes)?,
                        Some(Piece::End) => return Ok(()),
                        None => return Err(std::io::Error::other("the source broke off")),
                    }
                }
            })
        });
        let mut hash = Sha256::new();
        let mut bytes = 0;
        let mut broken = None;
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => {
                    hash.update(&chunk);
                    bytes += chunk.len() as u64;
                    streaming.events.advanced(streaming.stage, 0, chunk.len() as u64);
                    // Whoever writes has failed and says why below.
                    if send.send(Piece::Bytes(chunk)).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        if broken.is_none() {
            // The same.
            let _ = send.send(Piece::End).await;
        }
        drop(send);
        let placed = task
            .await
            .map_err(|cause| Error::Local { what: "a writing thread ended".to_owned(), cause: Some(cause.into()) })?;
        match (broken, placed) {
            (Some(error), _) | (None, Err(Unplaced::Failed(error))) if !matches!(error, Error::Exists { .. }) => {
                Err(error)
            }
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(Some(FileHash { bytes, sha256: hex(&hash.finalize()) })),
            (None, Err(Unplaced::Failed(_))) => Ok(None),
            (None, Err(Unplaced::Awkward)) => {
                Err(Error::Unsupported { what: format!("{key:?} cannot be a file in {}", self.root().display()) })
            }
        }
    }
}
