//! A piece of an object: what is needed of a large one that nobody wants whole.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::blank::marked;
use super::failure::{Failure, FailureKind, failure};
use super::folder::Folder;
use super::hashes::Hashes;
use super::s3::{Digests, S3};
use super::{Bucket, Reader};
use crate::error::{Error, Result};
use crate::local::blocking;

/// What came of asking for some bytes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// They, and fewer where it ends before them.
    Read(Bytes),
    /// The object is not there.
    Gone,
    /// The service passes over ranges: it sent something else.
    Unranged,
}

impl Reader {
    /// Reads some bytes of an object.
    pub(crate) async fn range(&self, key: &str, range: Range<u64>) -> Result<Piece> {
        match self.bucket() {
            Bucket::S3(s3) => s3.range(key, range).await,
            Bucket::Folder(folder) => {
                let (folder, key) = (folder.clone(), key.to_owned());
                blocking(move || folder.range(&key, range)).await
            }
        }
    }

    /// Reads an object, or one version of it, into a new private file, for all that it may be told by; `None` when it is not
    /// there.
    pub(crate) async fn download_for_hashes(
        &self,
        (key, version): (&str, Option<&str>),
        to: &Path,
    ) -> Result<Option<Hashes>> {
        match self.bucket() {
            Bucket::S3(s3) => {
                let fetched = s3.fetch((key, version), Some(to), Digests::All).await?;
                Ok(fetched.and_then(|fetched| fetched.hashes))
            }
            Bucket::Folder(folder) => {
                let (folder, key, to) = (folder.clone(), key.to_owned(), to.to_owned());
                blocking(move || {
                    // What was copied is what counts, not what is read a second time.
                    let Some(_) = folder.fetch(&key, Some(&to))? else { return Ok(None) };
                    super::hashes::of_file(&to).map(Some)
                })
                .await
            }
        }
    }
}

impl S3 {
    async fn range(&self, key: &str, range: Range<u64>) -> Result<Piece> {
        if range.is_empty() {
            return Ok(Piece::Read(Bytes::new()));
        }
        let wanted = range.end - range.start;
        let answer = self
            .attempt(wanted, async || {
                let request = self.client().get_object().bucket(self.name()).key(marked(key));
                let request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
                let mut answer = request.send().await.map_err(failure)?;
                // A service that passes over the range would send all of a large object.
                if answer.content_range().is_none() && range.start > 0 {
                    return Ok(Piece::Unranged);
                }
                let length = answer.content_length();
                let mut bytes = BytesMut::new();
                while let Some(chunk) = answer.body.next().await {
                    let chunk = chunk.map_err(Failure::transient)?;
                    self.service.pace.through(chunk.len() as u64).await;
                    bytes.extend_from_slice(&chunk);
                    if bytes.len() as u64 > wanted {
                        return Ok(Piece::Unranged);
                    }
                }
                super::s3::whole(length, bytes.len() as u64)?;
                Ok(Piece::Read(bytes.freeze()))
            })
            .await;
        match answer {
            Ok(piece) => Ok(piece),
            Err(failure) if failure.kind == FailureKind::Gone => Ok(Piece::Gone),
            // The object ends before the range.
            Err(failure) if failure.says("InvalidRange") => Ok(Piece::Read(Bytes::new())),
            Err(failure) => Err(failure.into_error(format!("cannot read a part of s3://{}/{key}", self.name()))),
        }
    }
}

impl Folder {
    fn range(&self, key: &str, range: Range<u64>) -> Result<Piece> {
        let Some(file) = self.open(key)? else { return Ok(Piece::Gone) };
        let failed =
            |cause| Error::local(format!("cannot read a part of `{}`", self.root().join(key).display()), cause);
        read_range(&file, range).map(|bytes| Piece::Read(bytes.into())).map_err(failed)
    }
}

/// Reads some bytes of a file: fewer where it ends before them.
pub(crate) fn read_range(file: &std::fs::File, range: Range<u64>) -> std::io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    let end = range.end.min(length).max(range.start);
    let mut bytes = vec![0; usize::try_from(end - range.start).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}
