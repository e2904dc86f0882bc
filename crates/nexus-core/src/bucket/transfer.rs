//! One file from a bucket into a bucket: on the service's side where it can be, else through this machine.

use std::collections::BTreeMap;
use std::io::Write;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedPart, ServerSideEncryption, StorageClass};
use futures::stream::{self, StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::across::across;
use super::blank::marked;
use super::failure::{Failure, FailureKind, failure};
use super::folder::{Existing, Folder, UNFINISHED, Unplaced};
use super::hashes::content_md5;
use super::kept::confirm_kept;
use super::lean;
use super::part_copy::PartCopy;
use super::s3::{Digests, Headed, S3, bare, expiring, quoted, require_all_metadata, stored, timestamp};
use super::send::upload;
use super::tags::{Tags, tags};
use super::upload::part_size;
use super::{Bucket, Object, Reader, StoreOptions, Writer};
use crate::error::{Error, Result};
use crate::listing::{FileEntry, ProofKind, Side, hex, is_md5_shaped, proof_of};

/// How often a file that changes under the copy is looked at again.
const LOOKS: u32 = 3;
/// Parts of one multipart copy in flight.
const PARTS_IN_FLIGHT: usize = 8;
/// The header that an object's tags are written in, and by which a listing keeps them where the copy has none.
pub(super) const TAGS: &str = "x-amz-tagging";
/// What stays as it is in `x-amz-copy-source`: the SDK does not encode it.
pub(super) const COPY_SOURCE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What became of one file.
#[derive(Debug)]
pub(crate) enum Copied {
    /// It is there.
    Done(Box<Done>),
    /// The source is gone, and stayed gone.
    Vanished,
}

/// A file that was copied.
#[derive(Debug)]
pub(crate) struct Done {
    /// The source as it was when it was copied, which may be newer than its listing.
    pub(crate) source: Side,
    /// The copy.
    pub(crate) copy: Side,
    /// The key under which the copy lies; not the one asked for where a folder cannot hold that.
    pub(crate) key: String,
    /// What proves them equal.
    pub(crate) proof: ProofKind,
    /// Headers that the target cannot hold.
    pub(crate) headers: BTreeMap<String, String>,
    /// The MD5 (hex) of what passed through this machine, where it was computed.
    pub(crate) md5: Option<String>,
}

impl Done {
    /// True when the bytes that were read are not those that the entry of a file, whose copy has this ETag, says it had: by a
    /// checksum, or by an ETag that is their MD5. That it is one was proven when the copy was made: the ETag of the original,
    /// which was another object, was the same.
    pub(crate) fn is_rotten(&self, entry: &FileEntry, etag: Option<&String>) -> bool {
        let md5 = etag.filter(|etag| entry.proof == Some(ProofKind::Etag) && is_md5_shaped(etag));
        let recorded = [Some(&entry.source), entry.copy.as_ref()].into_iter().flatten();
        let read = [&self.source, &self.copy];
        let mut pairs = recorded.flat_map(|recorded| read.map(|read| (&recorded.checksum, &read.checksum)));
        let kind = |checksum: &str| checksum.split(':').next().map(str::to_owned);
        let other = |(left, right): (&String, &String)| kind(left) == kind(right) && left != right;
        md5.zip(self.md5.as_ref()).is_some_and(|(etag, md5)| etag != md5)
            || pairs.any(|(recorded, read)| recorded.as_ref().zip(read.as_ref()).is_some_and(other))
    }
}

/// Where a copy goes and how it is stored there.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The key.
    pub(crate) key: String,
    /// The key to use where the target is a folder that cannot hold the first.
    pub(crate) fallback: Option<String>,
    /// Storage class, encryption; headers only where the source cannot know them.
    pub(crate) options: StoreOptions,
    /// Mode, owner and time to give a restored file.
    pub(crate) like: Option<Side>,
}

/// Copies one file, under the condition that it is the one that was listed; a changed one is looked at again.
pub(crate) async fn copy(source: &Reader, object: &Object, to: &Writer, target: &Target) -> Result<Copied> {
    to.allow(&target.key)?;
    if becomes_marker(object, &target.key)
        && source.shares_service_with(to.reader())
        && let Some(now) = source.head(&object.key).await?
        && now.side.size == 0
        && now.side.etag == object.side.etag
    {
        return Box::pin(empty(source, &now, to, target)).await;
    }
    let mut object = object.clone();
    let mut looks = 0;
    loop {
        match copy_once(source, &object, to, target).await {
            Ok(done) => return Ok(Copied::Done(Box::new(done))),
            Err(Once::Failed(error)) => return Err(error),
            // A version is there or gone for good, and never another one.
            Err(Once::Gone) if object.side.version.is_some() && looks + 1 >= LOOKS => return Ok(Copied::Vanished),
            Err(Once::Gone | Once::Changed) => {}
        }
        looks += 1;
        if object.side.version.is_some() {
            if looks < LOOKS {
                continue;
            }
            let what = format!("a version of {:?} in {} is not as it was listed", object.key, source.place());
            return Err(Error::Changed { what });
        }
        match source.head(&object.key).await? {
            Some(now) if looks < LOOKS => object.side = now.side,
            Some(now) if now.side.size == 0 && object.side.size == 0 && !source.is_folder() => {
                return Box::pin(empty(source, &now, to, target)).await;
            }
            Some(_) => {
                let what = format!("{:?} in {} changed {LOOKS} times while it was copied", object.key, source.place());
                return Err(Error::Changed { what });
            }
            None if looks >= LOOKS => return Ok(Copied::Vanished),
            None => {}
        }
    }
}

/// True for a file without content that is to become a `dir/` marker: such are written anew.
///
/// Seen on SeaweedFS: a copy of a file to a key that ends with `/` answers with success, and nothing is there.
fn becomes_marker(object: &Object, key: &str) -> bool {
    object.side.size == 0 && object.side.version.is_none() && key.ends_with('/') && !object.key.ends_with('/')
}

/// An object without content that the service shows and does not copy: it is written anew, with its headers.
///
/// Seen on SeaweedFS: a `dir/` marker is listed and answers a HEAD, and a copy of it answers that there is no such key.
async fn empty(source: &Reader, now: &Object, to: &Writer, target: &Target) -> Result<Copied> {
    let (Bucket::S3(from), Bucket::S3(into)) = (source.bucket(), to.reader().bucket()) else {
        return Err(Error::Changed { what: format!("{:?} in {} does not stay as it is", now.key, source.place()) });
    };
    let what = || format!("cannot copy s3://{}/{} to s3://{}/{}", from.name(), now.key, into.name(), target.key);
    let Some(headed) = from.head(&now.key).await? else { return Ok(Copied::Vanished) };
    let headers = &headed.headers;
    let put = async {
        require_all_metadata(headed.missing_meta)?;
        let tags = tags(from, now).await?;
        let check = content_md5(b"");
        let put = async || put_content(into, target, headers, (&tags, &check), bytes::Bytes::new()).await;
        let lean::Stored { etag, .. } = into.attempt(0, put).await.map_err(|failure| tags.refused(failure, into))?;
        confirm_kept(into, &target.key, headers, &tags).await?;
        Ok::<_, Failure>(etag)
    };
    let etag = put.await.map_err(|failure| failure.into_error(what()))?;
    let class = target.options.class.clone().filter(|class| class != "STANDARD");
    let copy = Side { size: 0, etag: Some(etag), class, ..Side::default() };
    let Some(proof) = proof_of(&now.side, &copy) else { return Err(Error::Changed { what: what() }) };
    let done =
        Done { source: now.side.clone(), copy, key: target.key.clone(), proof, headers: BTreeMap::new(), md5: None };
    Ok(Copied::Done(Box::new(done)))
}

/// One put of a whole content, with the headers it is to have, its tags, and the MD5 (base64) by which the service is to check
/// it.
pub(super) async fn put_content(
    into: &S3,
    target: &Target,
    headers: &BTreeMap<String, String>,
    (tags, check): (&Tags, &str),
    content: bytes::Bytes,
) -> std::result::Result<lean::Stored, Failure> {
    let header = |name: &str| headers.get(name).cloned();
    let request = into.client().put_object().bucket(into.name()).key(marked(&target.key));
    let answer = request
        .body(ByteStream::from(content))
        .content_md5(check)
        .set_content_type(header("content-type"))
        .set_cache_control(header("cache-control"))
        .set_content_disposition(header("content-disposition"))
        .set_content_encoding(header("content-encoding"))
        .set_content_language(header("content-language"))
        .set_metadata(user_metadata(headers))
        .set_tagging(tags.header())
        .set_storage_class(target.options.class.as_deref().map(StorageClass::from))
        .set_server_side_encryption(target.options.encryption.as_deref().map(ServerSideEncryption::from))
        .customize()
        .mutate_request(expiring(header("expires")))
        .send()
        .await
        .map_err(failure)?;
    let crc64 = answer.checksum_crc64_nvme().map(str::to_owned);
    Ok(lean::Stored { etag: stored(answer.e_tag())?, crc64 })
}

pub(super) enum Once {
    Gone,
    Changed,
    Failed(Error),
}

impl From<Error> for Once {
    fn from(error: Error) -> Self {
        match error {
            Error::Changed { .. } => Self::Changed,
            error => Self::Failed(error),
        }
    }
}

async fn copy_once(source: &Reader, object: &Object, to: &Writer, target: &Target) -> std::result::Result<Done, Once> {
    match (source.bucket(), to.reader().bucket()) {
        (Bucket::S3(from), Bucket::S3(into)) if !from.shares_service_with(into) => {
            across(from, object, into, target).await
        }
        (Bucket::S3(from), Bucket::S3(into)) => within(from, object, into, target).await,
        (Bucket::Folder(from), Bucket::S3(into)) => upload(from, object, into, target).await,
        (Bucket::S3(from), Bucket::Folder(into)) => download(from, object, into, target).await,
        (Bucket::Folder(from), Bucket::Folder(into)) => {
            let (from, object, into, target) = (from.clone(), object.clone(), into.clone(), target.clone());
            let task = tokio::task::spawn_blocking(move || duplicate(&from, &object, &into, &target));
            task.await.map_err(|cause| {
                Once::Failed(Error::Local { what: "a copying thread ended".into(), cause: Some(cause.into()) })
            })?
        }
    }
}

/// The outcome of a request whose source was named under a condition.
pub(super) fn conditional<T>(
    outcome: std::result::Result<T, Failure>,
    what: impl FnOnce() -> String,
) -> std::result::Result<T, Once> {
    outcome.map_err(|failure| match failure.kind {
        FailureKind::Gone => Once::Gone,
        FailureKind::Precondition => Once::Changed,
        _ => Once::Failed(failure.into_error(what())),
    })
}

async fn within(from: &S3, object: &Object, into: &S3, target: &Target) -> std::result::Result<Done, Once> {
    let what = || format!("cannot copy s3://{}/{} to s3://{}/{}", from.name(), object.key, into.name(), target.key);
    let (size, cutoff) = (object.side.size, into.limits().copy_cutoff);
    let copied = if size > cutoff {
        Box::pin(large(from, object, into, target)).await
    } else {
        single(from, object, into, target).await
    };
    let refused = |failure: &Failure| matches!(failure.kind, FailureKind::Unsupported | FailureKind::Fatal);
    if size > cutoff && copied.as_ref().is_err_and(refused) && !into.service.learned.knows_part_copies() {
        return across(from, object, into, target).await;
    }
    let copy = conditional(copied, what)?;
    let (mut source, mut copy) = (object.side.clone(), copy);
    let mut proof = proof_of(&source, &copy).ok_or(Once::Changed)?;
    if proof == ProofKind::Size && source.size > 0 {
        // ETags that are no MD5s prove nothing: the services' own checksums do, where they keep any.
        if let Some((of_source, of_copy)) = conditional(checksums(from, object, into, target, &copy).await, what)? {
            (source.checksum, copy.checksum) = (Some(of_source), Some(of_copy));
            proof = proof_of(&source, &copy).ok_or(Once::Changed)?;
        }
    }
    Ok(Done { source, copy, key: target.key.clone(), proof, headers: BTreeMap::new(), md5: None })
}

/// The checksums over the whole content that the service keeps of an object and of its copy, when both are of one kind.
async fn checksums(
    from: &S3,
    object: &Object,
    into: &S3,
    target: &Target,
    copy: &Side,
) -> std::result::Result<Option<(String, String)>, Failure> {
    let Some(of_source) = from.head_of(object).await?.checksummed else { return Ok(None) };
    let there = into.head(&target.key).await.map_err(Failure::of)?;
    let there = there.filter(|there| there.object.side.etag == copy.etag);
    let of_copy = there.and_then(|there| there.checksummed);
    let kind = |checksum: &str| checksum.split(':').next().map(str::to_owned);
    Ok(of_copy.filter(|of_copy| kind(of_copy) == kind(&of_source)).map(|of_copy| (of_source, of_copy)))
}

pub(super) fn copy_source(from: &S3, key: &str, version: Option<&str>) -> String {
    let mut text = format!("{}/{}", from.name(), utf8_percent_encode(key, COPY_SOURCE));
    if let Some(version) = version {
        text.push_str("?versionId=");
        text.extend(utf8_percent_encode(version, COPY_SOURCE));
    }
    text
}

async fn single(from: &S3, object: &Object, into: &S3, target: &Target) -> std::result::Result<Side, Failure> {
    let condition = object.side.etag.as_deref().map(quoted);
    let source = copy_source(from, &object.key, object.side.version.as_deref());
    let copy = lean::Copy {
        bucket: into.name(),
        key: &target.key,
        source: &source,
        condition: condition.as_deref(),
        class: target.options.class.as_deref(),
        encryption: target.options.encryption.as_deref(),
    };
    into.attempt(object.side.size, async || {
        if let Some(made) = into.copy_leanly(&copy).await? {
            let class = target.options.class.clone().filter(|class| class != "STANDARD");
            let lean::Made { etag, modified } = made;
            return Ok(Side { size: object.side.size, etag: Some(etag), modified, class, ..Side::default() });
        }
        let request = into.client().copy_object().bucket(into.name()).key(marked(&target.key)).copy_source(&source);
        let request = request
            .set_copy_source_if_match(condition.clone())
            .set_storage_class(target.options.class.as_deref().map(StorageClass::from))
            .set_server_side_encryption(target.options.encryption.as_deref().map(ServerSideEncryption::from));
        // Tags go along by default; some services refuse the header that says so.
        let answer = request.send().await.map_err(failure)?;
        let result = answer.copy_object_result();
        let etag = stored(result.and_then(|result| result.e_tag()))?;
        Ok(Side {
            size: object.side.size,
            etag: Some(etag),
            modified: result.and_then(|result| result.last_modified()).and_then(timestamp),
            class: target.options.class.clone().filter(|class| class != "STANDARD"),
            ..Side::default()
        })
    })
    .await
}

/// A large object: in parts, or in one request where the service copies no parts. Google Cloud Storage takes any size so
/// (<https://issuetracker.google.com/issues/323465186>); what a service refuses both ways goes through this machine.
async fn large(from: &S3, object: &Object, into: &S3, target: &Target) -> std::result::Result<Side, Failure> {
    if into.service.learned.knows_part_copies() {
        let copied = multipart(from, object, into, target).await;
        if copied.is_ok() || into.service.learned.knows_part_copies() {
            return copied;
        }
    }
    single(from, object, into, target).await
}

/// A copy in parts; it carries nothing by itself, so headers, metadata and tags are read and sent again.
async fn multipart(from: &S3, object: &Object, into: &S3, target: &Target) -> std::result::Result<Side, Failure> {
    let headed = from.head_of(object).await?;
    let tags = tags(from, object).await?;
    let upload = begin(into, &headed, &tags, target).await?;
    let copied = async {
        let parts = copy_parts(from, object, into, target, &upload).await?;
        // Some services ignore the condition on parts: the source is compared once more before anything shows.
        if from.head_of(object).await?.object.side != headed.object.side {
            return Err(Failure::changed("the source changed while its parts were copied"));
        }
        let completed = into.complete(&target.key, &upload, parts, false).await?;
        confirm_kept(into, &target.key, &headed.headers, &tags).await?;
        Ok(completed)
    }
    .await;
    match copied {
        Ok(completed) => Ok(Side {
            size: object.side.size,
            etag: Some(completed.etag),
            class: target.options.class.clone().filter(|class| class != "STANDARD"),
            ..Side::default()
        }),
        Err(failure) => {
            into.abort(&target.key, &upload).await;
            Err(failure)
        }
    }
}

pub(super) async fn begin(
    into: &S3,
    headed: &Headed,
    tags: &Tags,
    target: &Target,
) -> std::result::Result<String, Failure> {
    require_all_metadata(headed.missing_meta)?;
    into.attempt(0, async || {
        let known = |name: &str| headed.headers.get(name).cloned();
        let request = into.client().create_multipart_upload();
        let request = request
            .set_content_type(known("content-type"))
            .set_cache_control(known("cache-control"))
            .set_content_disposition(known("content-disposition"))
            .set_content_encoding(known("content-encoding"))
            .set_content_language(known("content-language"))
            .set_metadata(user_metadata(&headed.headers))
            .set_tagging(tags.header())
            .set_storage_class(target.options.class.as_deref().map(StorageClass::from))
            .set_server_side_encryption(target.options.encryption.as_deref().map(ServerSideEncryption::from));
        into.begin_upload_until(request, &target.key, known("expires")).await
    })
    .await
    .map_err(|failure| tags.refused(failure, into))
}

/// The size of the parts that an object of so many bytes is copied in.
pub(super) fn copy_part_size(bytes: u64, cutoff: u64) -> u64 {
    part_size(bytes).max(cutoff.min(64 * 1024 * 1024))
}

async fn copy_parts(
    from: &S3,
    object: &Object,
    into: &S3,
    target: &Target,
    upload: &str,
) -> std::result::Result<Vec<CompletedPart>, Failure> {
    let size = copy_part_size(object.side.size, into.limits().copy_cutoff);
    let source = copy_source(from, &object.key, object.side.version.as_deref());
    let condition = object.side.etag.as_deref().map(quoted);
    stream::iter(0..object.side.size.div_ceil(size))
        .map(|index| (source.clone(), condition.clone(), index))
        .map(async |(source, condition, index)| {
            let last = ((index + 1) * size).min(object.side.size) - 1;
            let range = format!("bytes={}-{last}", index * size);
            let number = i32::try_from(index + 1).map_err(Failure::fatal)?;
            let part = PartCopy { upload, number, source: &source, range: Some(&range), bytes: size };
            into.copy_part(&target.key, &part, condition).await
        })
        .buffered(PARTS_IN_FLIGHT)
        .try_collect()
        .await
}

/// True where a run that was to confirm what it had stored may have ended before: what one service copies by itself is taken at its
/// word, and what Amazon S3 does is documented.
pub(crate) fn is_confirmed(source: &Reader, to: &Reader) -> bool {
    match (source.bucket(), to.bucket()) {
        (_, Bucket::Folder(_)) => false,
        (_, Bucket::S3(into)) if into.endpoint().is_none() => false,
        (Bucket::S3(from), Bucket::S3(into)) => !from.shares_service_with(into),
        (Bucket::Folder(_), Bucket::S3(_)) => true,
    }
}

/// Fails unless an object that lies in the target already has the tags and metadata that it would have been copied with, where
/// that [is confirmed](is_confirmed).
pub(crate) async fn confirm(source: &Reader, object: &Object, to: &Reader, target: &Target) -> Result<()> {
    let Bucket::S3(into) = to.bucket() else { return Ok(()) };
    if !is_confirmed(source, to) {
        return Ok(());
    }
    let confirmed = async {
        let (headers, tags) = match source.bucket() {
            Bucket::Folder(_) => (target.options.headers.clone(), Tags::read(target.options.headers.get(TAGS))),
            Bucket::S3(from) => (from.head_of(object).await?.headers, tags(from, object).await?),
        };
        confirm_kept(into, &target.key, &headers, &tags).await
    };
    confirmed.await.map_err(|failure| failure.into_error(format!("cannot store s3://{}/{}", into.name(), target.key)))
}

pub(super) fn user_metadata(headers: &BTreeMap<String, String>) -> Option<std::collections::HashMap<String, String>> {
    let user: std::collections::HashMap<_, _> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("x-amz-meta-")?.to_owned(), value.clone())))
        .collect();
    (!user.is_empty()).then_some(user)
}

/// A file that goes when its use ends.
struct Spool(std::path::PathBuf);

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An object into a folder: fetched whole, checked against its ETag where that is an MD5, then put in place.
async fn download(from: &S3, object: &Object, into: &Folder, target: &Target) -> std::result::Result<Done, Once> {
    // One name for one key: what a killed run left is replaced by the next one, and no listing shows it.
    let name = hex(&<sha2::Sha256 as sha2::Digest>::digest(target.key.as_bytes())[..12]);
    let path = into.root().join(format!("{UNFINISHED}fetched-{name}"));
    let _ = std::fs::remove_file(&path);
    let spool = Spool(path.clone());
    let Some(fetched) = from.fetch((&object.key, object.side.version.as_deref()), Some(&path), Digests::All).await?
    else {
        return Err(Once::Gone);
    };
    let etag = object.side.etag.as_deref().map(bare);
    let known = etag.as_deref().is_some_and(is_md5_shaped);
    if fetched.hash.bytes != object.side.size || (etag.is_some() && fetched.etag != etag) {
        return Err(Once::Changed);
    }
    let md5 = fetched.hashes.map(|hashes| hashes.md5);
    let proof = if known && etag == md5 { ProofKind::Etag } else { ProofKind::Size };
    let write = |file: &mut std::fs::File| std::io::copy(&mut std::fs::File::open(&path)?, file).map(|_| ());
    let key = settle(into, target, write)?;
    drop(spool);
    let copy = Side {
        size: fetched.hash.bytes,
        checksum: Some(format!("sha256:{}", fetched.hash.sha256)),
        ..placed(into, &key)?
    };
    let mut headers = fetched.headers;
    let what = || format!("cannot read the tags of s3://{}/{}", from.name(), object.key);
    if let Some(tags) = conditional(tags(from, object).await, what)?.header() {
        headers.insert(TAGS.to_owned(), tags);
    }
    Ok(Done { source: object.side.clone(), copy, key, proof, headers, md5 })
}

fn duplicate(from: &Folder, object: &Object, into: &Folder, target: &Target) -> std::result::Result<Done, Once> {
    let mut read = None;
    let write = |file: &mut std::fs::File| {
        let outcome = from.read_steadily(&object.key, |chunk| file.write_all(chunk));
        let failed = outcome.is_err();
        read = Some(outcome);
        if failed { Err(std::io::Error::other("the source could not be read")) } else { Ok(()) }
    };
    let settled = settle(into, target, write);
    let (source, hash) = match read {
        Some(outcome) => outcome?,
        None => return Err(settled.err().unwrap_or(Once::Changed)),
    };
    let key = settled?;
    let checksum = Some(format!("sha256:{}", hash.sha256));
    let copy = Side { size: hash.bytes, checksum: checksum.clone(), ..placed(into, &key)? };
    let source = Side { checksum, ..source };
    Ok(Done { source, copy, key, proof: ProofKind::Checksum, headers: BTreeMap::new(), md5: None })
}

/// Puts a file under its key, or under the fallback where the folder cannot hold the key.
fn settle(
    into: &Folder,
    target: &Target,
    mut write: impl FnMut(&mut std::fs::File) -> std::io::Result<()>,
) -> std::result::Result<String, Once> {
    for key in [Some(&target.key), target.fallback.as_ref()].into_iter().flatten() {
        match into.place(key, Existing::Replace, target.like.as_ref(), &mut write) {
            Ok(()) => return Ok(key.clone()),
            Err(Unplaced::Awkward) => {}
            Err(Unplaced::Failed(error)) => return Err(error.into()),
        }
    }
    Err(Once::Failed(Error::Unsupported {
        what: format!("the folder `{}` cannot hold a file named {:?}", into.root().display(), target.key),
    }))
}

fn placed(into: &Folder, key: &str) -> Result<Side> {
    let there = into.head(key)?.ok_or_else(|| Error::missing(format!("{key:?} is gone as soon as it was written")))?;
    Ok(there.side)
}
