//! A local file into S3: hashed before it is sent, sent as it lies there, and checked by the service.
//!
//! It is read twice, first to be hashed: a request is signed with the hash of what it carries, and nothing but a few chunks
//! has to be held. What arrives is what was hashed, or the service says so: by the hash that was signed, and by what it tells
//! of the object that it stored, its CRC64NVME or, where it tells none, its ETag.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::CompletedPart;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use md5::{Digest as _, Md5};
use tokio::sync::SemaphorePermit;

use super::Object;
use super::blank::marked;
use super::failure::{Failure, failure};
use super::folder::Folder;
use super::hashes::content_md5;
use super::kept::confirm_kept;
use super::lean;
use super::reading::{Content, Piece, Reading, Whole, etag_of};
use super::s3::{Headed, S3, quoted};
use super::tags::Tags;
use super::transfer::{Done, Once, TAGS, Target, begin, put_content};
use super::upload::{PART, PARTS, sent_part};
use crate::error::{Error, Result};
use crate::listing::{FileKind, ProofKind, Side, hex};
use crate::local::blocking;

/// Files up to this many bytes go in one request, larger ones in parts of at least so many.
const SENT_AT_ONCE: u64 = 16 * 1024 * 1024;
/// Parts of one file on their way at once, one of them being read.
const PARTS_IN_FLIGHT: usize = 6;
/// What one request holds of a file that is sent as it lies there, in bytes: a chunk that is sent and one that is read.
const STREAMED: u64 = 1024 * 1024;

/// Requests that store one local file of so many bytes.
pub(super) fn requests(bytes: u64) -> u64 {
    if bytes <= SENT_AT_ONCE { 1 } else { bytes.div_ceil(part_size(bytes)) + 2 }
}

/// The size of the parts that a file of so many bytes is sent in.
fn part_size(bytes: u64) -> u64 {
    SENT_AT_ONCE.max(bytes.div_ceil(PARTS - 1).next_multiple_of(PART))
}

/// A local file into S3: small ones in one put, larger ones by a multipart upload.
pub(super) async fn upload(
    from: &Folder,
    object: &Object,
    into: &S3,
    target: &Target,
) -> std::result::Result<Done, Once> {
    let sending = Sending { from, object, into, target, tags: Tags::read(target.options.headers.get(TAGS)) };
    let outcome = Box::pin(sending.run()).await;
    // A file that is another one by now was not sent whole, whatever it was that failed.
    sending.unless_changed(|_, _| Ok(())).await?;
    outcome
}

/// A file on its way.
struct Sending<'a> {
    from: &'a Folder,
    object: &'a Object,
    into: &'a S3,
    target: &'a Target,
    tags: Tags,
}

/// What the service says of what it has.
struct Sent {
    etag: String,
    crc64: Option<String>,
}

impl Sending<'_> {
    fn what(&self) -> String {
        let path = self.from.root().join(&self.object.key);
        format!("cannot store `{}` as s3://{}/{}", path.display(), self.into.name(), self.target.key)
    }

    fn failed(&self, failure: Failure) -> Once {
        Once::Failed(failure.into_error(self.what()))
    }

    /// Does something with the file, which must be the one that was listed.
    async fn unless_changed<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder, &str) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (from, object) = (self.from.clone(), self.object.clone());
        blocking(move || {
            let listed = Side { checksum: None, ..object.side };
            let how = match from.head(&object.key)? {
                Some(now) if now.kind == FileKind::File && now.side == listed => return work(&from, &object.key),
                Some(_) => "is not as it was listed",
                None => "is gone",
            };
            Err(Error::Changed { what: format!("`{}` {how}", from.root().join(&object.key).display()) })
        })
        .await
    }

    async fn run(&self) -> std::result::Result<Done, Once> {
        let file = self.unless_changed(Folder::open).await?.ok_or(Once::Changed)?;
        let file = Arc::new(file);
        let (whole, expected, sent) = if self.object.side.size <= SENT_AT_ONCE {
            self.at_once(&file).await?
        } else {
            self.in_parts(&file).await?
        };
        let kept = confirm_kept(self.into, &self.target.key, &self.target.options.headers, &self.tags).await;
        kept.map_err(|failure| self.failed(failure))?;
        let proof = self.proven(&file, &whole, expected, &sent).await?;
        let class = self.target.options.class.clone().filter(|class| class != "STANDARD");
        let copy = Side { size: self.object.side.size, etag: Some(sent.etag), class, ..Side::default() };
        let source = Side { checksum: Some(format!("sha256:{}", whole.sha256)), ..self.object.side.clone() };
        Ok(Done { source, copy, key: self.target.key.clone(), proof, headers: BTreeMap::new(), md5: None })
    }

    /// By what the service's own words prove that it has what was read. Where a checksum that it computed of its own accord says
    /// so, no MD5 is needed, which takes more of the processor than all else.
    async fn proven(
        &self,
        file: &Arc<File>,
        whole: &Whole,
        expected: Option<String>,
        sent: &Sent,
    ) -> std::result::Result<ProofKind, Once> {
        let learned = &self.into.service.learned;
        let same = sent.crc64.as_ref().map(|crc64| *crc64 == whole.crc64);
        if same == Some(true) {
            learned.has_vouched();
            let is_md5 = expected.is_some_and(|expected| expected == sent.etag);
            return Ok(if is_md5 { ProofKind::Etag } else { ProofKind::Checksum });
        }
        let expected = if let Some(expected) = expected {
            expected
        } else {
            learned.does_not_vouch();
            let (file, size) = (Arc::clone(file), self.object.side.size);
            let part = if size <= SENT_AT_ONCE { size } else { part_size(size) };
            blocking(move || etag_of(&file, size, part)).await?
        };
        match same {
            _ if expected == sent.etag => Ok(ProofKind::Etag),
            None => Ok(ProofKind::Size),
            Some(_) => {
                let cause = "the service says of what it stored that it has another checksum than what was sent";
                Err(Once::Failed(Error::Damaged { what: self.what(), cause: Some(cause.into()) }))
            }
        }
    }

    /// The file in one request.
    async fn at_once(&self, file: &Arc<File>) -> std::result::Result<(Whole, Option<String>, Sent), Once> {
        let reading = self.reading(file, self.object.side.size);
        let (piece, memory, reading) = self.read(reading).await?;
        let whole = reading.whole();
        let expected = piece.md5.map(|md5| hex(&md5));
        let check = piece.md5.map(|md5| BASE64.encode(md5));
        let headers = self.headers(check.as_deref());
        let sent = match headers {
            Some(headers) => self.leanly(&piece, None, &headers).await?,
            None => None,
        };
        if let Some(lean::Stored { etag, crc64 }) = sent {
            return Ok((whole, expected, Sent { etag, crc64 }));
        }
        let (content, _memory) = self.held(&piece, memory).await?;
        let check = check.unwrap_or_else(|| content_md5(&content));
        let put = self.into.attempt(piece.length, async || {
            put_content(self.into, self.target, &self.target.options.headers, (&self.tags, &check), content.clone())
                .await
        });
        let etag = put.await.map_err(|failure| self.failed(self.tags.refused(failure, self.into)))?;
        self.was_refused(&piece);
        Ok((whole, expected, Sent { etag, crc64: None }))
    }

    async fn in_parts(&self, file: &Arc<File>) -> std::result::Result<(Whole, Option<String>, Sent), Once> {
        let headed = Headed {
            object: self.object.clone(),
            headers: self.target.options.headers.clone(),
            missing_meta: None,
            encryption: None,
            checksummed: None,
        };
        let id = begin(self.into, &headed, &self.tags, self.target).await.map_err(|failure| self.failed(failure))?;
        let done = async {
            let (whole, expected, parts) = self.parts(file, &id).await?;
            self.unless_changed(|_, _| Ok(())).await?;
            let completed = self.into.complete(&self.target.key, &id, parts, false).await;
            let completed = completed.map_err(|failure| self.failed(failure))?;
            Ok((whole, expected, Sent { etag: completed.etag, crc64: completed.crc64 }))
        }
        .await;
        if done.is_err() {
            self.into.abort(&self.target.key, &id).await;
        }
        done
    }

    async fn parts(
        &self,
        file: &Arc<File>,
        id: &str,
    ) -> std::result::Result<(Whole, Option<String>, Vec<CompletedPart>), Once> {
        let reading = self.reading(file, part_size(self.object.side.size));
        let last = std::sync::Mutex::new(None);
        // One part after the other is read and hashed, beside the sending of those before it.
        let pieces = stream::try_unfold(reading, async |reading| {
            if reading.is_done() {
                if let Ok(mut last) = last.lock() {
                    *last = Some(reading.whole());
                }
                return Ok::<_, Once>(None);
            }
            let (piece, memory, reading) = self.read(reading).await?;
            Ok(Some(((piece, memory), reading)))
        });
        let part = async |(piece, memory)| self.part(id, piece, memory).await;
        let sent: Vec<_> = pieces.map_ok(part).try_buffered(PARTS_IN_FLIGHT).try_collect().await?;
        let whole = last.into_inner().ok().flatten().ok_or(Once::Changed)?;
        let mut all = Md5::new();
        let known = sent.iter().all(|(_, md5)| md5.inspect(|md5| all.update(md5)).is_some());
        let expected = known.then(|| format!("{}-{}", hex(&all.finalize()), sent.len()));
        Ok((whole, expected, sent.into_iter().map(|(part, _)| part).collect()))
    }

    async fn part(
        &self,
        id: &str,
        piece: Piece,
        memory: SemaphorePermit<'_>,
    ) -> std::result::Result<(CompletedPart, Option<[u8; 16]>), Once> {
        let number = piece.number;
        let check = piece.md5.map(|md5| BASE64.encode(md5));
        let headers: Vec<_> = check.as_deref().map(|check| ("content-md5", check)).into_iter().collect();
        if let Some(stored) = self.leanly(&piece, Some((id, number)), &headers).await? {
            let part = CompletedPart::builder().part_number(number).e_tag(quoted(&stored.etag));
            return Ok((part.set_checksum_crc64_nvme(stored.crc64).build(), piece.md5));
        }
        let (content, _memory) = self.held(&piece, memory).await?;
        let check = check.unwrap_or_else(|| content_md5(&content));
        let part = self.into.attempt(piece.length, async || {
            let request = self.into.client().upload_part().bucket(self.into.name()).key(marked(&self.target.key));
            let content = ByteStream::from(content.clone());
            let request = request.upload_id(id).part_number(number).content_md5(&check).body(content);
            sent_part(number, &request.send().await.map_err(failure)?)
        });
        let part = part.await.map_err(|failure| self.failed(failure))?;
        self.was_refused(&piece);
        Ok((part, piece.md5))
    }

    fn reading(&self, file: &Arc<File>, part: u64) -> Reading {
        let md5 = !self.into.service.learned.vouches();
        Reading::new(Arc::clone(file), self.object.side.size, part, md5, !self.into.puts_leanly())
    }

    /// Reads and hashes the next piece, with leave to hold what will be held of it.
    async fn read(&self, reading: Reading) -> std::result::Result<(Piece, SemaphorePermit<'_>, Reading), Once> {
        let pace = &self.into.service.pace;
        let held = if reading.holds() { reading.ahead() } else { reading.ahead().min(STREAMED) };
        let memory = pace.memory(held).await;
        let reading_now = pace.reading().await;
        let (piece, reading) = blocking(move || reading.next()).await?;
        drop(reading_now);
        pace.through(piece.length).await;
        Ok((piece, memory, reading))
    }

    /// Sends a piece as it lies there; `None` leaves it to the SDK.
    async fn leanly(
        &self,
        piece: &Piece,
        part: Option<(&str, i32)>,
        headers: &[(&str, &str)],
    ) -> std::result::Result<Option<lean::Stored>, Once> {
        if !self.into.puts_leanly() {
            return Ok(None);
        }
        let body = || piece.content.body();
        let put = lean::Put {
            bucket: self.into.name(),
            key: &self.target.key,
            part,
            headers,
            length: piece.length,
            sha256: &piece.sha256,
            body: &body,
        };
        let stored = self.into.attempt(piece.length, async || self.into.put_leanly(&put).await).await;
        stored.map_err(|failure| self.failed(failure))
    }

    /// The content of a piece in memory, and leave to hold it there.
    async fn held<'p>(
        &'p self,
        piece: &Piece,
        memory: SemaphorePermit<'p>,
    ) -> std::result::Result<(Bytes, SemaphorePermit<'p>), Once> {
        let stretch = match &piece.content {
            Content::Held(content) => return Ok((content.clone(), memory)),
            Content::Lying(stretch) => stretch.clone(),
        };
        // First it is given back: if all waited for more with what they have, nobody would get any.
        drop(memory);
        let memory = self.into.service.pace.memory(piece.length).await;
        let sha256 = piece.sha256.clone();
        Ok((blocking(move || stretch.read_again(&sha256)).await?, memory))
    }

    /// What the service refused without a `Content-MD5` and took with one is sent with one from now on.
    fn was_refused(&self, piece: &Piece) {
        if piece.md5.is_none() {
            self.into.service.learned.does_not_vouch();
        }
    }

    /// The headers of a put; none where they are such as the SDK had better write.
    fn headers<'h>(&'h self, check: Option<&'h str>) -> Option<Vec<(&'h str, &'h str)>> {
        const NAMED: [&str; 7] = [
            "content-type",
            "cache-control",
            "content-disposition",
            "content-encoding",
            "content-language",
            "expires",
            TAGS,
        ];
        let options = &self.target.options;
        let goes = |name: &str| NAMED.contains(&name) || name.starts_with("x-amz-meta-");
        let given = options.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let more = [
            ("content-md5", check),
            ("x-amz-storage-class", options.class.as_deref()),
            ("x-amz-server-side-encryption", options.encryption.as_deref()),
        ];
        let more = more.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let headers: Vec<_> = given.filter(|(name, _)| goes(name)).chain(more).collect();
        let plain = |value: &str| value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.trim() == value;
        headers.iter().all(|(_, value)| plain(value)).then_some(headers)
    }
}
