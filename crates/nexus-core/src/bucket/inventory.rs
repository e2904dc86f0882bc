//! What S3 Inventory wrote of a bucket: a list of its objects as they were a day or a week ago, at the price of no request to the
//! bucket itself. It says what to expect, never what is there.
//!
//! The format: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html> (`manifest.json`, with its
//! MD5 in `manifest.checksum`) and <https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html> (the fields; keys of
//! CSV lists are spelled as in a URL).

use std::fs::File;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use md5::{Digest, Md5};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::s3::{Digests, S3, bare};
use super::sorted::{Sorted, Sorter};
use super::{Bucket, Object, Reader};
use crate::error::{Error, Result};
use crate::listing::{FileKind, Side, hex};
use crate::local::{Scratch, blocking};

/// The one of its three formats that is read.
const CSV: &str = "CSV";

/// Where an inventory lies.
#[derive(Debug, Clone)]
pub struct InventoryAt {
    /// The bucket that it was delivered to.
    pub reader: Reader,
    /// The key of its `manifest.json`.
    pub key: String,
}

/// An inventory that was read.
pub struct Inventory {
    /// When the service began to look at the bucket.
    pub made: Timestamp,
    /// Objects of the prefix that was asked for.
    pub objects: u64,
    /// The objects, in the order of their keys' bytes: the current versions alone.
    pub listed: Sorted,
}

/// `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    source_bucket: String,
    /// Milliseconds since 1970.
    creation_timestamp: String,
    file_format: String,
    /// Names of columns, with commas between.
    file_schema: String,
    files: Vec<DataFile>,
}

#[derive(Deserialize)]
struct DataFile {
    key: String,
    size: u64,
    #[serde(rename = "MD5checksum")]
    md5: String,
}

impl InventoryAt {
    /// Reads what it says of the objects of `source` below a prefix, each of its files compared with the MD5 that the manifest has.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without a manifest or one of its files; [`Error::Damaged`] when one is not what its checksum says, or no
    /// inventory; [`Error::Usage`] for that of another bucket; [`Error::Unsupported`] for ORC and Parquet.
    pub async fn read(&self, source: &Reader, prefix: &str, scratch: &Scratch) -> Result<Inventory> {
        let Bucket::S3(s3) = self.reader.bucket() else {
            return Err(Error::usage("an inventory lies in a bucket: s3://bucket/…/manifest.json"));
        };
        let manifest = self.manifest(s3).await?;
        if source.place() != format!("s3://{}", manifest.source_bucket) {
            return Err(Error::usage(format!(
                "{} is of the bucket {}, the files are in {}",
                self.name(),
                manifest.source_bucket,
                source.place()
            )));
        }
        if manifest.file_format != CSV {
            return Err(Error::Unsupported {
                what: format!("{} is in {}: only inventories in CSV are read", self.name(), manifest.file_format),
            });
        }
        let no_inventory = |what: &str| Error::damaged(format!("{}: {what}", self.name()));
        let columns =
            Columns::of(&manifest.file_schema).ok_or_else(|| no_inventory("it has no columns `Key` and `Size`"))?;
        let made = manifest.creation_timestamp.parse().ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        let made = made.ok_or_else(|| no_inventory("it does not say when it was made"))?;
        let mut sorter = Sorter::new(scratch.path());
        let mut objects = 0;
        for file in manifest.files {
            let path = scratch.file("inventory.csv.gz");
            self.fetch(s3, &file, &path).await?;
            let (taken, name) = (Rows { columns, prefix: prefix.to_owned() }, file.key);
            let work = move || {
                let read = taken.read(&path, &mut sorter);
                let removed = std::fs::remove_file(&path);
                removed.map_err(|cause| Error::local(format!("cannot remove `{}`", path.display()), cause))?;
                read.map(|read| (sorter, read))
            };
            let read = blocking(work).await.map_err(|error| match error {
                Error::Damaged { what, cause } => {
                    Error::Damaged { what: format!("{}/{name}: {what}", self.reader.place()), cause }
                }
                other => other,
            });
            let more;
            (sorter, more) = read?;
            objects += more;
        }
        Ok(Inventory { made, objects, listed: sorter.finish()? })
    }

    fn name(&self) -> String {
        format!("{}/{}", self.reader.place(), self.key)
    }

    async fn manifest(&self, s3: &S3) -> Result<Manifest> {
        let bytes = s3.read(&self.key).await?.ok_or_else(|| Error::missing(format!("{} is not there", self.name())))?;
        // It is written last, with the checksum beside it.
        if let Some(stem) = self.key.strip_suffix(".json")
            && let Some(checksum) = s3.read(&format!("{stem}.checksum")).await?
            && checksum.trim_ascii() != hex(&Md5::digest(&bytes)).as_bytes()
        {
            return Err(Error::damaged(format!("{} is not what its checksum says", self.name())));
        }
        serde_json::from_slice(&bytes).map_err(|cause| Error::Damaged {
            what: format!("{} is no manifest of an inventory", self.name()),
            cause: Some(cause.into()),
        })
    }

    async fn fetch(&self, s3: &S3, file: &DataFile, path: &Path) -> Result<()> {
        let name = || format!("{}/{}", self.reader.place(), file.key);
        let fetched = s3.fetch((&file.key, None), Some(path), Digests::All).await?;
        let fetched = fetched.ok_or_else(|| Error::missing(format!("{} is not there", name())))?;
        let md5 = fetched.hashes.map(|hashes| hashes.md5);
        if fetched.hash.bytes == file.size && md5.as_ref() == Some(&file.md5) {
            return Ok(());
        }
        Err(Error::damaged(format!("{} is not what the inventory's manifest says", name())))
    }
}

/// Where in a row each field stands.
#[derive(Debug, Clone, Copy)]
struct Columns {
    key: usize,
    size: usize,
    modified: Option<usize>,
    etag: Option<usize>,
    class: Option<usize>,
    latest: Option<usize>,
    marker: Option<usize>,
}

impl Columns {
    fn of(schema: &str) -> Option<Self> {
        let names: Vec<&str> = schema.split(',').map(str::trim).collect();
        let at = |name: &str| names.iter().position(|column| *column == name);
        Some(Self {
            key: at("Key")?,
            size: at("Size")?,
            modified: at("LastModifiedDate"),
            etag: at("ETag"),
            class: at("StorageClass"),
            latest: at("IsLatest"),
            marker: at("IsDeleteMarker"),
        })
    }
}

/// What is taken of a file's rows.
struct Rows {
    columns: Columns,
    prefix: String,
}

impl Rows {
    /// Hands on every current object below the prefix, and answers how many there were.
    fn read(&self, path: &Path, sorter: &mut Sorter) -> Result<u64> {
        let file =
            File::open(path).map_err(|cause| Error::local(format!("cannot read `{}`", path.display()), cause))?;
        let mut rows = csv::ReaderBuilder::new().has_headers(false).from_reader(MultiGzDecoder::new(file));
        let broken = |cause: csv::Error| Error::Damaged { what: "no CSV".to_owned(), cause: Some(cause.into()) };
        let mut taken = 0;
        let mut row = csv::StringRecord::new();
        while rows.read_record(&mut row).map_err(broken)? {
            let line = row.position().map_or(0, csv::Position::line);
            if !self.is_current(&row) {
                continue;
            }
            let object = self.object(&row).ok_or_else(|| Error::damaged(format!("line {line} is no object")))?;
            if object.key.starts_with(&self.prefix) {
                sorter.push(object)?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// False for an earlier version, and for a marker that says that there is none.
    fn is_current(&self, row: &csv::StringRecord) -> bool {
        let says = |at: Option<usize>, word: &str| at.and_then(|at| row.get(at)) == Some(word);
        !says(self.columns.latest, "false") && !says(self.columns.marker, "true")
    }

    /// The object of a row; `None` when it cannot be understood.
    fn object(&self, row: &csv::StringRecord) -> Option<Object> {
        let columns = &self.columns;
        let field = |at: Option<usize>| at.and_then(|at| row.get(at)).filter(|text| !text.is_empty());
        let key = row.get(columns.key)?.replace('+', " ");
        let key = percent_decode_str(&key).decode_utf8().ok()?.into_owned();
        let modified = match field(columns.modified) {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        let side = Side {
            size: row.get(columns.size)?.parse().ok()?,
            etag: field(columns.etag).map(bare),
            modified,
            class: field(columns.class).filter(|class| *class != "STANDARD").map(str::to_owned),
            ..Side::default()
        };
        Some(Object { key, side, kind: FileKind::File })
    }
}
