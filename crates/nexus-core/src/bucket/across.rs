//! One object from one S3 service into another, through this machine: read under a condition, hashed as it passes, and checked
//! by both services.

use std::collections::BTreeMap;
use std::sync::Mutex;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumType, CompletedPart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use md5::{Digest as _, Md5};
use tokio::sync::oneshot;

use super::Object;
use super::blank::marked;
use super::failure::{Failure, failure};
use super::hashes::{Hasher, Hashes};
use super::kept::confirm_kept;
use super::lean::Stored;
use super::s3::{Headed, S3, bare, checksum, headers_of, quoted, require_all_metadata};
use super::tags::tags;
use super::transfer::{Done, Once, Target, begin, conditional, put_content};
use super::upload::{SINGLE, part_size, sent_part};
use crate::listing::{ProofKind, Side, hex, is_md5_shaped};

/// Parts of one object on their way at once, each way.
const PARTS_IN_FLIGHT: usize = 3;

/// What passed through this machine.
struct Passed {
    hashes: Hashes,
    /// True when the service that was read vouched for the content by a checksum over all of it.
    vouched: bool,
    /// The ETag that the target gave.
    etag: String,
    /// The ETag of this content where ETags are MD5s.
    expected: String,
}

/// Copies one object to another service, under the condition that it is the one that was listed.
pub(super) async fn across(from: &S3, object: &Object, into: &S3, target: &Target) -> std::result::Result<Done, Once> {
    let what = || {
        let (to, key) = (into.name(), &target.key);
        format!("cannot copy s3://{}/{} to s3://{to}/{key} through this machine", from.name(), object.key)
    };
    let passed = if object.side.size <= SINGLE {
        conditional(Box::pin(whole(from, object, into, target)).await, what)?
    } else {
        conditional(Box::pin(in_parts(from, object, into, target)).await, what)?
    };
    let written = passed.etag == passed.expected;
    let same = object.side.etag.as_deref().is_some_and(|etag| is_md5_shaped(etag) && etag == passed.hashes.md5);
    let proof = match (written, same, passed.vouched) {
        (true, true, _) => ProofKind::Etag,
        (true, false, true) => ProofKind::Checksum,
        _ => ProofKind::Size,
    };
    let source = Side { checksum: Some(format!("sha256:{}", passed.hashes.hash.sha256)), ..object.side.clone() };
    let class = target.options.class.clone().filter(|class| class != "STANDARD");
    let copy = Side { size: source.size, etag: Some(passed.etag), class, ..Side::default() };
    let md5 = Some(passed.hashes.md5);
    Ok(Done { source, copy, key: target.key.clone(), proof, headers: BTreeMap::new(), md5 })
}

/// A small object: one request that reads it, one for its tags, one that writes it.
async fn whole(from: &S3, object: &Object, into: &S3, target: &Target) -> std::result::Result<Passed, Failure> {
    let size = object.side.size;
    let _memory = into.service.pace.memory(size).await;
    let Read { content, headers, checksum } = read(from, object, None).await?;
    let tags = tags(from, object).await?;
    let mut passing = Hasher::new();
    passing.update(&content);
    let hashes = passing.finish();
    let vouched = checksum.as_deref().and_then(|checksum| hashes.have(checksum));
    if vouched == Some(false) {
        return Err(Failure::rotten());
    }
    let check = BASE64.encode(Md5::digest(&content));
    into.service.pace.through(size).await;
    let put = async || put_content(into, target, &headers, (&tags, &check), content.clone()).await;
    let Stored { etag, .. } = into.attempt(size, put).await.map_err(|failure| tags.refused(failure, into))?;
    confirm_kept(into, &target.key, &headers, &tags).await?;
    Ok(Passed { vouched: vouched == Some(true), etag, expected: hashes.md5.clone(), hashes })
}

/// A large object: its parts are read and written several at once, in bounded memory.
async fn in_parts(from: &S3, object: &Object, into: &S3, target: &Target) -> std::result::Result<Passed, Failure> {
    let headed = from.head_of(object).await?;
    let tags = tags(from, object).await?;
    let upload = begin(into, &headed, &tags, target).await?;
    let done = async {
        let Sent { hashes, expected, parts } = send_parts(from, object, into, (&target.key, &upload)).await?;
        let vouched = headed.checksummed.as_deref().and_then(|checksum| hashes.have(checksum));
        if vouched == Some(false) {
            return Err(Failure::rotten());
        }
        let completed = into.complete(&target.key, &upload, parts, false).await?;
        confirm_kept(into, &target.key, &headed.headers, &tags).await?;
        Ok(Passed { hashes, vouched: vouched == Some(true), etag: completed.etag, expected })
    }
    .await;
    if done.is_err() {
        into.abort(&target.key, &upload).await;
    }
    done
}

struct Sent {
    hashes: Hashes,
    expected: String,
    parts: Vec<CompletedPart>,
}

async fn send_parts(
    from: &S3,
    object: &Object,
    into: &S3,
    (key, upload): (&str, &str),
) -> std::result::Result<Sent, Failure> {
    let (total, size) = (object.side.size, part_size(object.side.size));
    let hashing = Mutex::new((Hasher::new(), Md5::new()));
    // The hash of the whole wants the parts in their order: each is let in by the one before it.
    let (mut entries, turns): (Vec<_>, Vec<_>) = (0..total.div_ceil(size)).map(|_| oneshot::channel()).unzip();
    // The first entry goes to the end, and out: nobody is before it.
    entries.rotate_left(1);
    let after_the_last = entries.pop();
    let begin = after_the_last.ok_or_else(|| Failure::fatal("an object without parts"))?;
    let turns = turns.into_iter().zip(entries.into_iter().map(Some).chain([None])).collect::<Vec<_>>();
    // Its turn is there, as nothing has taken it yet.
    let _ = begin.send(());
    let sent = stream::iter(turns.into_iter().zip(0..))
        .map(async |((turn, next), index)| {
            let (first, length) = (index * size, size.min(total - index * size));
            let _memory = into.service.pace.memory(length).await;
            let Read { content, .. } = read(from, object, Some((first, length))).await?;
            turn.await.map_err(|_| Failure::transient("an earlier part was not read"))?;
            let of_part = Md5::digest(&content);
            if let Ok(mut hashing) = hashing.lock() {
                hashing.0.update(&content);
                hashing.1.update(of_part);
            }
            if let Some(next) = next {
                // One that is gone has failed, and says so itself.
                let _ = next.send(());
            }
            send_part(into, (key, upload), index + 1, content, &BASE64.encode(of_part)).await
        })
        .buffered(PARTS_IN_FLIGHT)
        .try_collect::<Vec<_>>()
        .await?;
    let (whole, of_parts) = hashing.into_inner().map_err(|_| Failure::fatal("hashing broke off"))?;
    let expected = format!("{}-{}", hex(&of_parts.finalize()), sent.len());
    Ok(Sent { hashes: whole.finish(), expected, parts: sent })
}

async fn send_part(
    into: &S3,
    (key, upload): (&str, &str),
    number: u64,
    content: Bytes,
    check: &str,
) -> std::result::Result<CompletedPart, Failure> {
    let length = content.len() as u64;
    let number = i32::try_from(number).map_err(Failure::fatal)?;
    into.service.pace.through(length).await;
    into.attempt(length, async || {
        let request = into.client().upload_part().bucket(into.name()).key(marked(key)).upload_id(upload);
        let request = request.part_number(number).content_md5(check).body(ByteStream::from(content.clone()));
        sent_part(number, &request.send().await.map_err(failure)?)
    })
    .await
}

/// Content that was read, and what the service says of the whole object.
struct Read {
    content: Bytes,
    headers: BTreeMap<String, String>,
    /// Over the whole object, where the service has one.
    checksum: Option<String>,
}

/// Reads an object, or so many bytes of it from the first named on, as long as it is the one that was listed.
async fn read(from: &S3, object: &Object, range: Option<(u64, u64)>) -> std::result::Result<Read, Failure> {
    let length = range.map_or(object.side.size, |(_, length)| length);
    let condition = object.side.etag.as_deref().map(quoted);
    let span = range.map(|(first, length)| format!("bytes={first}-{}", first + length - 1));
    // Before the try begins: its patience is for the service.
    from.service.pace.through(length).await;
    from.attempt(length, async || {
        let mode = from.checksum_mode().filter(|_| range.is_none());
        let request = from.client().get_object().bucket(from.name()).key(marked(&object.key));
        let request = request
            .set_version_id(object.side.version.clone())
            .set_if_match(condition.clone())
            .set_range(span.clone())
            // The whole is then compared with its checksum, where the service has one, as it arrives.
            .set_checksum_mode(mode.clone());
        let mut answer = request.send().await.map_err(|error| {
            let failure = failure(error);
            // It is asked again without: Backblaze B2 refuses to be asked for checksums.
            if failure.mentions("x-amz-checksum-mode") && mode.is_some() {
                from.service.learned.has_no_checksum_mode();
                return Failure::transient(failure.to_string());
            }
            failure
        })?;
        // Some services pass over the condition.
        if object.side.etag.is_some() && answer.e_tag().map(bare) != object.side.etag {
            return Err(Failure::changed("the source has another ETag than in the listing"));
        }
        require_all_metadata(answer.missing_meta())?;
        let full = answer.checksum_type() == Some(&ChecksumType::FullObject) && range.is_none();
        let checksum = checksum(full, answer.checksum_crc64_nvme(), answer.checksum_sha256());
        let headers = headers_of(&answer);
        let mut content = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
        while let Some(chunk) = answer.body.next().await {
            let chunk = chunk.map_err(Failure::reading)?;
            if content.len() as u64 + chunk.len() as u64 > length {
                return Err(Failure::changed("the source is longer than in the listing"));
            }
            content.extend_from_slice(&chunk);
        }
        if content.len() as u64 != length {
            return Err(Failure::transient(format!("the answer ended after {} of {length} bytes", content.len())));
        }
        Ok(Read { content: content.freeze(), headers, checksum })
    })
    .await
}

impl S3 {
    /// What a HEAD says of an object that is the one that was listed.
    pub(super) async fn head_of(&self, object: &Object) -> std::result::Result<Headed, Failure> {
        let headed = self.head_version(&object.key, object.side.version.as_deref()).await.map_err(Failure::of)?;
        let headed = headed.ok_or_else(|| Failure::gone("the source is gone"))?;
        if object.side.etag.is_some() && headed.object.side.etag != object.side.etag {
            return Err(Failure::changed("the source has another ETag than in the listing"));
        }
        Ok(headed)
    }
}
