//! A local file into S3: read and hashed beside what is sent, and checked by the service.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::CompletedPart;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use tokio::sync::SemaphorePermit;

use super::Object;
use super::blank::marked;
use super::failure::{Failure, failure};
use super::folder::Folder;
use super::kept::confirm_kept;
use super::s3::{Headed, S3};
use super::tags::Tags;
use super::transfer::{Done, Once, TAGS, Target, begin, put_content};
use super::upload::{SINGLE, part_size, read_range, sent_part};
use crate::error::{Error, Result};
use crate::listing::{ProofKind, Side, hex};
use crate::local::blocking;

/// Parts of one file on their way at once, one of them being read.
const PIECES_IN_FLIGHT: usize = 3;

/// A local file into S3: small ones in one put, larger ones by a multipart upload, hashed as they are read.
pub(super) async fn upload(
    from: &Folder,
    object: &Object,
    into: &S3,
    target: &Target,
) -> std::result::Result<Done, Once> {
    let what =
        || format!("cannot store `{}` as s3://{}/{}", from.root().join(&object.key).display(), into.name(), target.key);
    let size = object.side.size;
    if size > SINGLE {
        return Box::pin(upload_parts(from, object, into, target)).await;
    }
    let _memory = into.service.pace.memory(size).await;
    let (folder, key) = (from.clone(), object.key.clone());
    // What is read and hashed keeps no other request waiting.
    let (source, hash, content, md5) = blocking(move || {
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let (source, hash) = folder.read_steadily(&key, |chunk| {
            content.extend_from_slice(chunk);
            Ok(())
        })?;
        let md5 = <md5::Md5 as md5::Digest>::digest(&content);
        Ok((source, hash, Bytes::from(content), md5))
    })
    .await?;
    let headers = &target.options.headers;
    let check = BASE64.encode(md5);
    into.service.pace.through(size).await;
    let tags = Tags::read(headers.get(TAGS));
    let put =
        into.attempt(size, async || put_content(into, target, headers, (&tags, &check), content.clone()).await).await;
    let failed = |failure: Failure| Once::Failed(failure.into_error(what()));
    let etag = put.map_err(|failure| failed(tags.refused(failure, into)))?;
    confirm_kept(into, &target.key, headers, &tags).await.map_err(failed)?;
    let proof = if etag == hex(&md5) { ProofKind::Etag } else { ProofKind::Size };
    Ok(uploaded(source, &hash.sha256, etag, proof, target))
}

fn uploaded(source: Side, sha256: &str, etag: String, proof: ProofKind, target: &Target) -> Done {
    let checksum = Some(format!("sha256:{sha256}"));
    let copy = Side {
        size: source.size,
        etag: Some(etag),
        class: target.options.class.clone().filter(|class| class != "STANDARD"),
        ..Side::default()
    };
    let source = Side { checksum, ..source };
    Done { source, copy, key: target.key.clone(), proof, headers: BTreeMap::new(), md5: None }
}

async fn upload_parts(from: &Folder, object: &Object, into: &S3, target: &Target) -> std::result::Result<Done, Once> {
    let what =
        || format!("cannot store `{}` as s3://{}/{}", from.root().join(&object.key).display(), into.name(), target.key);
    let headed = Headed {
        object: object.clone(),
        headers: target.options.headers.clone(),
        missing_meta: None,
        encryption: None,
        checksummed: None,
    };
    let failed = |failure: Failure| Once::Failed(failure.into_error(what()));
    let tags = Tags::read(headed.headers.get(TAGS));
    let id = begin(into, &headed, &tags, target).await.map_err(failed)?;
    let sent = send_parts(from, object, into, &target.key, &id).await;
    let (source, sha256, parts, expected) = match sent {
        Ok(sent) => sent,
        Err(error) => {
            into.abort(&target.key, &id).await;
            return Err(error.into());
        }
    };
    let completed = async {
        let completed = into.complete(&target.key, &id, parts, false).await?;
        confirm_kept(into, &target.key, &headed.headers, &tags).await?;
        Ok(completed)
    };
    match completed.await {
        Ok(completed) => {
            // A multipart ETag is the MD5 of the parts' MD5s and their number: equal to ours, it proves every part.
            let proof = if completed.etag == expected { ProofKind::Etag } else { ProofKind::Size };
            Ok(uploaded(source, &sha256, completed.etag, proof, target))
        }
        Err(failure) => {
            into.abort(&target.key, &id).await;
            Err(failed(failure))
        }
    }
}

type Sent = (Side, String, Vec<CompletedPart>, String);

/// A part of a file on its way.
struct Piece {
    number: i32,
    content: Bytes,
    md5: [u8; 16],
    /// The hash of the whole file, with the last of its parts.
    whole: Option<String>,
}

async fn send_parts(from: &Folder, object: &Object, into: &S3, key: &str, id: &str) -> Result<Sent> {
    use md5::Digest as _;
    let (size, total) = (part_size(object.side.size), object.side.size);
    let path = from.root().join(&object.key);
    let what = || format!("cannot read `{}`", path.display());
    let file = std::fs::File::open(&path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => Error::Changed { what: format!("`{}` is gone", path.display()) },
        _ => Error::local(what(), cause),
    })?;
    let file = Arc::new(file);
    // One part after the other is read and hashed, beside the sending of those before it.
    let pieces = stream::try_unfold((sha2::Sha256::new(), 0_i32), async |(mut sha, index)| {
        let start = u64::try_from(index).unwrap_or(0) * size;
        if start >= total {
            return Ok::<_, Error>(None);
        }
        let length = size.min(total - start);
        let memory = into.service.pace.memory(length).await;
        let (file, what, number) = (Arc::clone(&file), what(), index + 1);
        let (content, md5, sha) = blocking(move || {
            let content = read_range(&file, start, length).map_err(|failure| failure.into_error(what))?;
            sha.update(&content);
            let md5 = md5::Md5::digest(&content);
            Ok((content, md5.into(), sha))
        })
        .await?;
        let whole = (start + length == total).then(|| hex(&sha.clone().finalize()));
        Ok(Some(((Piece { number, content, md5, whole }, memory), (sha, number))))
    });
    let send = async |(piece, _memory): (Piece, SemaphorePermit<'_>)| {
        let (number, length) = (piece.number, piece.content.len() as u64);
        let check = BASE64.encode(piece.md5);
        into.service.pace.through(length).await;
        let part = into
            .attempt(length, async || {
                let request = into.client().upload_part().bucket(into.name()).key(marked(key)).upload_id(id);
                let content = ByteStream::from(piece.content.clone());
                let request = request.part_number(number).content_md5(&check).body(content);
                sent_part(number, &request.send().await.map_err(failure)?)
            })
            .await;
        let part = part.map_err(|failure| {
            failure.into_error(format!("cannot store `{}` as s3://{}/{key}", path.display(), into.name()))
        })?;
        Ok((part, piece.md5, piece.whole))
    };
    let done: Vec<_> = pieces.map_ok(send).try_buffered(PIECES_IN_FLIGHT).try_collect().await?;
    let same = from.head(&object.key)?.is_some_and(|now| now.side == object.side);
    let whole = done.iter().find_map(|(_, _, whole)| whole.clone()).filter(|_| same);
    let sha256 =
        whole.ok_or_else(|| Error::Changed { what: format!("`{}` changed while it was read", path.display()) })?;
    let mut all = md5::Md5::new();
    for (_, md5, _) in &done {
        all.update(md5);
    }
    let expected = format!("{}-{}", hex(&all.finalize()), done.len());
    Ok((object.side.clone(), sha256, done.into_iter().map(|(part, ..)| part).collect(), expected))
}
