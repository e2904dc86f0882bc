//! Bytes outside: an S3 bucket or a folder, handed on as the right to read, to write, or to remove.

pub mod abilities;
pub(crate) mod access;
mod across;
pub mod address;
mod blank;
mod climb;
pub mod create;
mod ended;
pub(crate) mod failure;
pub mod folder;
pub mod hashes;
pub mod history;
pub mod inventory;
mod kept;
pub mod lean;
mod learned;
mod list;
pub mod marks;
pub mod pace;
pub(crate) mod packed;
mod part_copy;
pub mod probe;
pub mod questions;
pub(crate) mod ranges;
mod reading;
mod removal;
pub mod s3;
mod send;
pub mod sorted;
mod spool;
pub mod stream;
mod tags;
pub(crate) mod transfer;
pub mod upload;
pub mod versions;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::event::Events;
use crate::listing::{FileKind, Side};
use crate::local::blocking;
use crate::point::FileHash;

pub use address::Address;
use folder::Folder;
use hashes::Hashes;
use list::Listing;
use marks::Marks;
use s3::{Digests, S3};
use sorted::Sorted;

/// The most that a small document (manifest, claim, journal entry) may hold.
pub(crate) const SMALL: u64 = 64 * 1024 * 1024;

/// One thing that a listing names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its key, whole.
    pub key: String,
    /// What the listing says of it.
    pub side: Side,
    /// What it is.
    pub kind: FileKind,
}

/// How an object is stored; what is `None` is left to the service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// `x-amz-storage-class`.
    pub class: Option<String>,
    /// `x-amz-server-side-encryption`: `AES256` or `aws:kms`.
    pub encryption: Option<String>,
    /// Content type, cache control … and `x-amz-meta-*`, by lower-case header name.
    pub headers: BTreeMap<String, String>,
}

/// A kind of place for bytes; a closed set.
#[derive(Debug, Clone)]
pub enum Bucket {
    /// An S3 bucket.
    S3(S3),
    /// A folder.
    Folder(Folder),
}

/// How often a folder is removed until nothing comes back.
const REMOVALS: u32 = 100;
/// How long it is waited in between.
const REMOVE_AGAIN: Duration = Duration::from_millis(20);

/// The right to list and read.
#[derive(Debug, Clone)]
pub struct Reader(Arc<Bucket>);

/// The right to read, and to write below one prefix.
#[derive(Debug, Clone)]
pub struct Writer {
    reader: Reader,
    prefix: String,
}

/// The right to write and to remove below one prefix.
#[derive(Debug, Clone)]
pub struct Remover(Writer);

/// What drives a listing while somebody reads what comes of it.
pub(crate) struct Feed(Option<Listing>);

impl Feed {
    /// Lists to the end.
    pub(crate) async fn run(self) -> Result<()> {
        match self.0 {
            Some(listing) => listing.run().await,
            None => Ok(()),
        }
    }
}

impl Bucket {
    /// Hands on the right to read.
    pub fn reader(self) -> Reader {
        Reader(Arc::new(self))
    }
}

impl Reader {
    pub(crate) fn bucket(&self) -> &Bucket {
        &self.0
    }

    /// Turns this into the right to write below `prefix`.
    pub fn writer(&self, prefix: &str) -> Writer {
        Writer { reader: self.clone(), prefix: prefix.to_owned() }
    }

    /// The bucket or folder in a person's words.
    pub fn place(&self) -> String {
        match self.bucket() {
            Bucket::S3(s3) => format!("s3://{}", s3.name()),
            Bucket::Folder(folder) => folder.root().display().to_string(),
        }
    }

    /// True for a folder on this machine.
    pub fn is_folder(&self) -> bool {
        matches!(self.bucket(), Bucket::Folder(_))
    }

    /// The S3 endpoint, when it is not the provider's own.
    pub fn endpoint(&self) -> Option<&str> {
        match self.bucket() {
            Bucket::S3(s3) => s3.endpoint(),
            Bucket::Folder(_) => None,
        }
    }

    /// True for two buckets of one service and account, which copies from one into the other by itself.
    pub fn shares_service_with(&self, other: &Self) -> bool {
        match (self.bucket(), other.bucket()) {
            (Bucket::S3(one), Bucket::S3(other)) => one.shares_service_with(other),
            _ => false,
        }
    }

    /// False for a folder that is not there yet; whether a bucket is there only [`Reader::check`] tells.
    pub fn is_made(&self) -> bool {
        match self.bucket() {
            Bucket::S3(_) => true,
            Bucket::Folder(folder) => folder.root().is_dir(),
        }
    }

    /// Makes a folder that is to be written to; buckets are made by their owners.
    pub(crate) fn make_folder(&self) -> Result<()> {
        match self.bucket() {
            Bucket::S3(_) => Ok(()),
            Bucket::Folder(folder) => folder.ensure(),
        }
    }

    /// False for keys that a folder cannot hold as a file or folder of that name; a bucket holds any.
    pub(crate) fn can_hold(&self, key: &str) -> bool {
        match self.bucket() {
            Bucket::S3(_) => true,
            Bucket::Folder(_) => folder::relative(key).is_some(),
        }
    }

    /// Fails with what is wrong unless the bucket or folder is there and may be listed.
    pub async fn check(&self) -> Result<()> {
        match self.bucket() {
            Bucket::S3(s3) => s3.check().await,
            Bucket::Folder(folder) => folder.check(),
        }
    }

    /// Lists everything below a prefix in byte order; runs that memory should not hold go into `scratch`.
    pub async fn list(&self, prefix: &str, scratch: &Path, events: &Events) -> Result<Sorted> {
        self.list_along((prefix, &Marks::default()), scratch, events).await
    }

    /// The same where some of its keys are known from before; those that are wrong cost time and nothing else.
    pub async fn list_along(&self, along: (&str, &Marks), scratch: &Path, events: &Events) -> Result<Sorted> {
        match self.bucket() {
            Bucket::S3(s3) => s3.list(along, scratch, events).await,
            Bucket::Folder(folder) => folder.list(along.0, scratch, events),
        }
    }

    /// Begins to list everything below a prefix, of whose keys some are known, in byte order. What comes of it is read on another
    /// thread, while the feed is driven: it comes as it is listed.
    pub(crate) fn listing(&self, along: (&str, &Marks), scratch: &Path, events: &Events) -> Result<(Feed, Sorted)> {
        match self.bucket() {
            Bucket::S3(s3) => {
                let (listing, sorted) = s3.listing(along, scratch, events);
                Ok((Feed(Some(listing)), sorted))
            }
            Bucket::Folder(folder) => Ok((Feed(None), folder.list(along.0, scratch, events)?)),
        }
    }

    /// How often a listing of the service has turned out not to hold what it relied on: such a one fails, and the next relies on less.
    pub(crate) fn doubts(&self) -> u32 {
        match self.bucket() {
            Bucket::S3(s3) => s3.doubts(),
            Bucket::Folder(_) => 0,
        }
    }

    /// The names one level below a prefix that have something below them, without their `/`.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        match self.bucket() {
            Bucket::S3(s3) => s3.folders(prefix).await,
            Bucket::Folder(folder) => folder.folders(prefix),
        }
    }

    /// Says what an object is, or `None` when it is not there.
    pub async fn head(&self, key: &str) -> Result<Option<Object>> {
        match self.bucket() {
            Bucket::S3(s3) => s3.head(key).await.map(|found| found.map(|found| found.object)),
            Bucket::Folder(folder) => folder.head(key),
        }
    }

    /// Gives up the uploads that work which was dropped had begun.
    pub async fn give_up_uploads(&self) {
        if let Bucket::S3(s3) = self.bucket() {
            s3.service.give_up_uploads().await;
        }
    }

    /// Reads a small object whole, or `None` when it is not there.
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>> {
        match self.bucket() {
            Bucket::S3(s3) => s3.read(key).await,
            Bucket::Folder(folder) => folder.read(key),
        }
    }

    /// Reads an object whole into nothing, for its length and hash; `None` when it is not there.
    pub async fn hash(&self, key: &str) -> Result<Option<FileHash>> {
        match self.bucket() {
            Bucket::S3(s3) => {
                s3.fetch((key, None), None, Digests::Sha256).await.map(|fetched| fetched.map(|fetched| fetched.hash))
            }
            Bucket::Folder(folder) => {
                let (folder, key) = (folder.clone(), key.to_owned());
                blocking(move || folder.fetch(&key, None)).await
            }
        }
    }

    /// Another bucket of the same service, in the same account; `None` for a folder.
    pub fn sibling(&self, bucket: &str) -> Option<Self> {
        match self.bucket() {
            Bucket::S3(s3) => Some(Bucket::S3(s3.service.bucket(bucket)).reader()),
            Bucket::Folder(_) => None,
        }
    }

    /// The checksum that the service keeps over the whole of a version; `None` where it keeps none.
    pub(crate) async fn checksum_of_version(&self, key: &str, version: &str) -> Result<Option<String>> {
        match self.bucket() {
            Bucket::S3(s3) => Ok(s3.head_version(key, Some(version)).await?.and_then(|headed| headed.checksummed)),
            Bucket::Folder(_) => Ok(None),
        }
    }

    /// Reads one version of an object whole for all that it may be told by; `None` when it is not there.
    pub async fn hashes_of_version(&self, key: &str, version: &str) -> Result<Option<Hashes>> {
        match self.bucket() {
            Bucket::S3(s3) => {
                let fetched = s3.fetch((key, Some(version)), None, Digests::All).await?;
                Ok(fetched.and_then(|fetched| fetched.hashes))
            }
            Bucket::Folder(_) => self.hashes(key).await,
        }
    }

    /// Reads an object whole for all that it may be told by; `None` when it is not there.
    pub async fn hashes(&self, key: &str) -> Result<Option<Hashes>> {
        match self.bucket() {
            Bucket::S3(s3) => s3
                .fetch((key, None), None, Digests::All)
                .await
                .map(|fetched| fetched.and_then(|fetched| fetched.hashes)),
            Bucket::Folder(folder) => {
                let (folder, key) = (folder.clone(), key.to_owned());
                blocking(move || folder.hashes(&key)).await
            }
        }
    }

    /// Reads an object into a new private file; `None` when it is not there.
    pub async fn download(&self, key: &str, to: &Path) -> Result<Option<FileHash>> {
        match self.bucket() {
            Bucket::S3(s3) => s3
                .fetch((key, None), Some(to), Digests::Sha256)
                .await
                .map(|fetched| fetched.map(|fetched| fetched.hash)),
            Bucket::Folder(folder) => {
                let (folder, key, to) = (folder.clone(), key.to_owned(), to.to_owned());
                blocking(move || folder.fetch(&key, Some(&to))).await
            }
        }
    }
}

impl Writer {
    /// The right to read that this contains.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The prefix below which this may write.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Turns this into the right to remove below the same prefix.
    pub fn remover(self) -> Remover {
        Remover(self)
    }

    pub(crate) fn allow(&self, key: &str) -> Result<()> {
        if key.starts_with(&self.prefix) {
            return Ok(());
        }
        Err(Error::usage(format!(
            "{key:?} lies outside {:?} in {}, where nothing may be written",
            self.prefix,
            self.reader.place()
        )))
    }

    /// Makes an empty folder or a link as it was; a bucket has neither.
    pub(crate) fn make(&self, key: &str, kind: &FileKind, like: &Side) -> Result<()> {
        self.allow(key)?;
        match self.reader.bucket() {
            Bucket::S3(_) => Ok(()),
            Bucket::Folder(folder) => folder.make(key, kind, like),
        }
    }

    /// Writes a small object only if none is there. True when it was written, by this call or by an earlier try of it.
    ///
    /// A lost answer makes a retry meet its own write, so what is there is read back: equal bytes are ours, because
    /// every document written this way bears a nonce.
    pub async fn create(&self, key: &str, bytes: Bytes, options: &StoreOptions) -> Result<bool> {
        self.allow(key)?;
        match self.reader.bucket() {
            Bucket::S3(s3) => s3.create(key, bytes, options).await,
            Bucket::Folder(folder) => folder.create(key, &bytes),
        }
    }

    /// Multipart uploads below this prefix that were begun before `before` and never ended: keys and upload ids.
    ///
    /// They hold no object anybody can see, only cost. A service that cannot list them has none.
    pub(crate) async fn old_uploads(&self, before: jiff::Timestamp) -> Vec<(String, String)> {
        match self.reader.bucket() {
            Bucket::S3(s3) => s3.old_uploads(&self.prefix, before).await.unwrap_or_default(),
            Bucket::Folder(_) => Vec::new(),
        }
    }

    /// Gives up a multipart upload.
    pub(crate) async fn give_up_upload(&self, key: &str, id: &str) -> Result<()> {
        self.allow(key)?;
        if let Bucket::S3(s3) = self.reader.bucket() {
            s3.abort(key, id).await;
        }
        Ok(())
    }

    /// Stores a local file under a new key; false when something is already there.
    pub async fn upload_new(
        &self,
        key: &str,
        file: &Path,
        options: &StoreOptions,
        events: &upload::Progress<'_>,
    ) -> Result<bool> {
        self.allow(key)?;
        match self.reader.bucket() {
            Bucket::S3(s3) => s3.upload_new(key, file, options, events).await,
            Bucket::Folder(folder) => {
                let (folder, key, file) = (folder.clone(), key.to_owned(), file.to_owned());
                let (told, stage, sha256) = (events.events.clone(), events.stage, events.sha256.to_owned());
                let given = events.given;
                blocking(move || {
                    let progress = upload::Progress { events: &told, stage, sha256: &sha256, given };
                    folder.upload_new(&key, &file, &progress)
                })
                .await
            }
        }
    }
}

impl Writer {
    /// Stores what is made meanwhile under a new key: nothing shows before the last byte. `None` when something is
    /// already there; what the stream fails with is the error, and nothing of it is left.
    pub async fn upload_stream(
        &self,
        key: &str,
        chunks: stream::Chunks<'_>,
        streaming: &stream::Streaming<'_>,
    ) -> Result<Option<FileHash>> {
        self.allow(key)?;
        match self.reader.bucket() {
            Bucket::S3(s3) => s3.upload_stream(key, chunks, streaming).await,
            Bucket::Folder(folder) => folder.upload_stream(key, chunks, streaming).await,
        }
    }
}

impl Remover {
    /// The right to write that this contains.
    pub fn writer(&self) -> &Writer {
        &self.0
    }

    /// Removes objects; ones that are already gone are no error.
    pub async fn remove(&self, keys: &[String]) -> Result<()> {
        for key in keys {
            self.0.allow(key)?;
        }
        match self.0.reader.bucket() {
            Bucket::S3(s3) => s3.remove(keys).await,
            Bucket::Folder(folder) => folder.remove(keys),
        }
    }

    /// Removes the folder that the prefix is, with all that is in it, also what no listing shows; a bucket has no folders.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] when others go on writing into it; what the disk fails with.
    pub async fn remove_folder(&self) -> Result<()> {
        let Bucket::Folder(folder) = self.0.reader.bucket() else { return Ok(()) };
        for _ in 0..REMOVALS {
            let (folder, prefix) = (folder.clone(), self.0.prefix.clone());
            // Copies that were dropped and are on their way still come first.
            if blocking(move || folder.remove_whole(&prefix)).await? {
                return Ok(());
            }
            tokio::time::sleep(REMOVE_AGAIN).await;
        }
        let place = folder.root().join(&self.0.prefix);
        Err(Error::Changed { what: format!("files in `{}` come back as they are removed", place.display()) })
    }
}
