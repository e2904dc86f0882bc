//! A local file into S3: hashed before it is sent, sent as it lies there, and checked by the service.
//!
//! It is read twice, first to be hashed: a request is signed with the hash of what it carries, and nothing but a few chunks
//! has to be held. What arrives is what was hashed, or the service says so: by the hash that was signed, and by what it tells
//! of the object that it stored, its CRC64NVME or, where it tells none, its ETag.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
use super::reading::{Content, Opened, Piece, Reading, Whole};
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
    let _file = into.service.pace.file().await;
    let sending = Sending { from, object, into, target, tags: Tags::read(target.options.headers.get(TAGS)) };
    let outcome = Box::pin(sending.run()).await;
    if matches!(outcome, Err(Once::Failed(Error::Local { .. } | Error::Damaged { .. } | Error::Service { .. }))) {
        // Of a file that is another one by now this says nothing.
        sending.unless_changed().await?;
    }
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

/// What was read, the ETag that its MD5 makes where that was taken, and what the service says of what it has.
type Stored = (Whole, Option<String>, lean::Stored);

/// Ends when nothing has gone out for as long as that.
async fn stalled(gone: &AtomicU64, patience: Duration) {
    loop {
        let before = gone.load(Ordering::Relaxed);
        tokio::time::sleep(patience).await;
        if gone.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

impl Sending<'_> {
    fn what(&self) -> String {
        let path = self.from.root().join(&self.object.key);
        format!("cannot store `{}` as s3://{}/{}", path.display(), self.into.name(), self.target.key)
    }

    fn failed(&self, failure: Failure) -> Once {
        Once::Failed(failure.into_error(self.what()))
    }

    /// The file as it was listed, of which nobody took a checksum.
    fn listed(&self) -> Side {
        Side { checksum: None, ..self.object.side.clone() }
    }

    fn changed(&self, how: &str) -> Error {
        Error::Changed { what: format!("`{}` {how}", self.from.root().join(&self.object.key).display()) }
    }

    /// Fails when the file is not as it was listed.
    async fn unless_changed(&self) -> Result<()> {
        let (from, key) = (self.from.clone(), self.object.key.clone());
        match blocking(move || from.head(&key)).await? {
            Some(now) if now.kind == FileKind::File && now.side == self.listed() => Ok(()),
            Some(_) => Err(self.changed("is not as it was listed")),
            None => Err(self.changed("is gone")),
        }
    }

    async fn run(&self) -> std::result::Result<Done, Once> {
        let (from, key, listed) = (self.from.clone(), self.object.key.clone(), self.listed());
        // To open what is no plain file any more could wait for ever.
        self.unless_changed().await?;
        let file = blocking(move || from.open_same(&key, &listed)).await?;
        let file = file.ok_or_else(|| self.changed("is not as it was listed"))?;
        let size = self.object.side.size;
        let part = if size <= SENT_AT_ONCE { size } else { part_size(size) };
        let opened = Arc::new(Opened { file, path: self.from.root().join(&self.object.key), size, part });
        let (whole, expected, sent) =
            if size <= SENT_AT_ONCE { self.at_once(&opened).await? } else { self.in_parts(&opened).await? };
        let kept = confirm_kept(self.into, &self.target.key, &self.target.options.headers, &self.tags).await;
        kept.map_err(|failure| self.failed(failure))?;
        let proof = self.proven(&opened, &whole, expected, &sent).await?;
        if proof == ProofKind::Size {
            // Nothing says that what was sent is what was hashed, unless nobody wrote there.
            self.unless_changed().await?;
        }
        let class = self.target.options.class.clone().filter(|class| class != "STANDARD");
        let copy = Side { size, etag: Some(sent.etag), class, ..Side::default() };
        let source = Side { checksum: Some(format!("sha256:{}", whole.sha256)), ..self.object.side.clone() };
        Ok(Done { source, copy, key: self.target.key.clone(), proof, headers: BTreeMap::new(), md5: None })
    }

    /// By what the service's own words prove that it has what was read. Where a checksum that it computed of its own accord says
    /// so, no MD5 is needed, which takes more of the processor than all else.
    async fn proven(
        &self,
        opened: &Arc<Opened>,
        whole: &Whole,
        expected: Option<String>,
        sent: &lean::Stored,
    ) -> std::result::Result<ProofKind, Once> {
        let learned = &self.into.service.learned;
        let same = sent.crc64.as_ref().map(|crc64| *crc64 == whole.crc64);
        if same == Some(true) {
            learned.has_vouched();
            let is_md5 = expected.is_some_and(|expected| expected == sent.etag);
            return Ok(if is_md5 { ProofKind::Etag } else { ProofKind::Checksum });
        }
        if same == Some(false) || expected.is_none() {
            learned.does_not_vouch();
        }
        let expected = if let Some(expected) = expected {
            expected
        } else {
            let _turn = self.into.service.pace.reading().await;
            let (opened, sha256) = (Arc::clone(opened), whole.sha256.clone());
            blocking(move || opened.etag(&sha256)).await?
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
    async fn at_once(&self, opened: &Arc<Opened>) -> std::result::Result<Stored, Once> {
        let (piece, memory, reading) = self.read(Reading::new(Arc::clone(opened))).await?;
        // The service proves that it has what was read, not that nobody wrote while it was read.
        self.unless_changed().await?;
        let whole = reading.whole();
        let expected = piece.md5.map(|md5| hex(&md5));
        let check = piece.md5.map(|md5| BASE64.encode(md5));
        let sent = match self.headers(check.as_deref()) {
            Some(headers) => self.leanly(&piece, None, &headers).await?,
            None => None,
        };
        if let Some(sent) = sent {
            return Ok((whole, expected, sent));
        }
        let (content, check, _memory) = self.held(&piece, check, memory).await?;
        let put = self.into.attempt(piece.length, async || {
            put_content(self.into, self.target, &self.target.options.headers, (&self.tags, &check), content.clone())
                .await
        });
        let sent = put.await.map_err(|failure| self.failed(self.tags.refused(failure, self.into)))?;
        self.was_refused(&piece);
        Ok((whole, expected, sent))
    }

    async fn in_parts(&self, opened: &Arc<Opened>) -> std::result::Result<Stored, Once> {
        let headed = Headed {
            object: self.object.clone(),
            headers: self.target.options.headers.clone(),
            missing_meta: None,
            encryption: None,
            checksummed: None,
        };
        let id = begin(self.into, &headed, &self.tags, self.target).await.map_err(|failure| self.failed(failure))?;
        let done = async {
            let (whole, expected, parts) = self.parts(opened, &id).await?;
            self.unless_changed().await?;
            let completed = self.into.complete(&self.target.key, &id, parts, false).await;
            let completed = completed.map_err(|failure| self.failed(failure))?;
            Ok((whole, expected, lean::Stored { etag: completed.etag, crc64: completed.crc64 }))
        }
        .await;
        if done.is_err() {
            self.into.abort(&self.target.key, &id).await;
        }
        done
    }

    async fn parts(
        &self,
        opened: &Arc<Opened>,
        id: &str,
    ) -> std::result::Result<(Whole, Option<String>, Vec<CompletedPart>), Once> {
        let reading = Reading::new(Arc::clone(opened));
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
        let headers: Vec<_> = check.as_deref().map(|check| (lean::CONTENT_MD5, check)).into_iter().collect();
        if let Some(stored) = self.leanly(&piece, Some((id, number)), &headers).await? {
            let part = CompletedPart::builder().part_number(number).e_tag(quoted(&stored.etag));
            return Ok((part.set_checksum_crc64_nvme(stored.crc64).build(), piece.md5));
        }
        let (content, check, _memory) = self.held(&piece, check, memory).await?;
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

    /// Reads and hashes the next piece, with leave to hold what will be held of it.
    async fn read(&self, reading: Reading) -> std::result::Result<(Piece, SemaphorePermit<'_>, Reading), Once> {
        let pace = &self.into.service.pace;
        let hold = reading.is_small() || !self.into.puts_leanly();
        let memory = pace.memory(if hold { reading.ahead() } else { STREAMED }).await;
        let turn = pace.reading().await;
        let md5 = !self.into.service.learned.vouches();
        let (piece, reading) = blocking(move || reading.next(md5, hold)).await?;
        drop(turn);
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
        let gone = Arc::new(AtomicU64::new(0));
        let body = || piece.content.body(&gone);
        let put = lean::Put {
            bucket: self.into.name(),
            key: &self.target.key,
            part,
            headers,
            length: piece.length,
            sha256: &piece.sha256,
            body: &body,
        };
        // A network may be slow as long as something goes out.
        let patience = self.into.limits().patience;
        let send = async || {
            tokio::select! {
                stored = self.into.put_leanly(&put) => stored,
                () = stalled(&gone, patience) => {
                    Err(Failure::transient(format!("nothing went on for {} s", patience.as_secs())))
                }
            }
        };
        let stored = self.into.attempt_within(piece.length, Duration::MAX, send).await;
        stored.map_err(|failure| self.failed(failure))
    }

    /// The content of a piece in memory, its `Content-MD5`, and leave to hold it there.
    async fn held<'p>(
        &'p self,
        piece: &Piece,
        check: Option<String>,
        memory: SemaphorePermit<'p>,
    ) -> std::result::Result<(Bytes, String, SemaphorePermit<'p>), Once> {
        let stretch = match &piece.content {
            Content::Held(content) => {
                let held = content.clone();
                let check = match check {
                    Some(check) => check,
                    None => blocking(move || Ok(content_md5(&held))).await?,
                };
                return Ok((content.clone(), check, memory));
            }
            Content::Lying(stretch) => stretch.clone(),
        };
        // First it is given back: if all waited for more with what they have, nobody would get any.
        drop(memory);
        let memory = self.into.service.pace.memory(piece.length).await;
        let _turn = self.into.service.pace.reading().await;
        let sha256 = piece.sha256.clone();
        let (content, check) = blocking(move || stretch.read_again(&sha256)).await?;
        Ok((content, check, memory))
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
        // As the SDK has it where nobody says what it is.
        let unsaid = !options.headers.contains_key("content-type");
        let more = [
            ("content-type", Some("application/octet-stream").filter(|_| unsaid)),
            (lean::CONTENT_MD5, check),
            ("x-amz-storage-class", options.class.as_deref()),
            ("x-amz-server-side-encryption", options.encryption.as_deref()),
        ];
        let more = more.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let headers: Vec<_> = given.filter(|(name, _)| goes(name)).chain(more).collect();
        let plain = |value: &str| value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.trim() == value;
        headers.iter().all(|(_, value)| plain(value)).then_some(headers)
    }
}
