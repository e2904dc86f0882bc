//! A clinic to back up: a database as Django makes it, and the files it refers to.
//!
//! Everything follows from the seed, so that two clinics of one size are equal row for row and byte
//! for byte. As in life, some rows name a file that is not there, and some files belong to no row.

mod files;
mod random;
mod rows;
mod schema;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::store::{NoSuchBucket, Store};
use random::Random;

/// How large a clinic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClinicSize {
    pub patients: u64,
    pub documents: u64,
    pub images: u64,
    pub batches: u64,
    /// What the database file will weigh, roughly; texts are made as long as it takes.
    pub database_bytes_about: u64,
    pub seed: u64,
}

/// A clinic that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clinic {
    pub database: PathBuf,
    pub bucket: String,
    /// Rows of `clinic_document` and `clinic_image` whose `file` is not in the bucket.
    pub dangling: u64,
    /// Objects that no row names.
    pub orphaned: u64,
    /// Objects in all.
    pub objects: u64,
    /// Objects that rows of `clinic_document` name.
    pub document_objects: u64,
    /// Objects that rows of `clinic_image` name.
    pub image_objects: u64,
    /// Bytes of all objects.
    pub object_bytes: u64,
    /// Bytes of the database file.
    pub database_bytes: u64,
}

/// Why a clinic could not be made.
#[derive(Debug)]
pub enum ClinicError {
    /// The database could not be written; a file that is there already is left as it is.
    Database {
        path: PathBuf,
        cause: rusqlite::Error,
    },
    /// The database was written and could not be looked at.
    File {
        path: PathBuf,
        cause: std::io::Error,
    },
    Bucket(NoSuchBucket),
}

impl Default for ClinicSize {
    fn default() -> Self {
        Self {
            patients: 2_842,
            documents: 10_190,
            images: 6_574,
            batches: 1_701,
            database_bytes_about: 55_000_000,
            seed: 20_251_115,
        }
    }
}

impl ClinicSize {
    /// A clinic for tests, made in milliseconds.
    pub fn small() -> Self {
        Self { patients: 30, documents: 80, images: 50, batches: 12, database_bytes_about: 400_000, ..Self::default() }
    }

    /// Of 10,190 document rows 9,432 have their object.
    fn document_objects(&self) -> u64 {
        self.documents * 9_432 / 10_190
    }

    /// Of 6,574 image rows 6,511 have their object.
    fn image_objects(&self) -> u64 {
        self.images * 6_511 / 6_574
    }

    /// Beside 10,190 document rows lie 1,598 objects that no row names.
    fn orphans(&self) -> u64 {
        self.documents * 1_598 / 10_190
    }
}

/// Makes a clinic: a new database file, and its objects in a bucket that exists.
pub fn make(size: &ClinicSize, database: &Path, store: &Store, bucket: &str) -> Result<Clinic, ClinicError> {
    let mut random = Random::new(size.seed);
    let named = files::named(size, &mut random);
    rows::write(database, size, &named, &mut random)
        .map_err(|cause| ClinicError::Database { path: database.to_owned(), cause })?;
    let object_bytes = files::store(size, &named, store, bucket, &mut random)?;
    let file = std::fs::metadata(database).map_err(|cause| ClinicError::File { path: database.to_owned(), cause })?;
    let (document_objects, image_objects) = (size.document_objects(), size.image_objects());
    Ok(Clinic {
        database: database.to_owned(),
        bucket: bucket.to_owned(),
        dangling: size.documents - document_objects + size.images - image_objects,
        orphaned: size.orphans(),
        objects: document_objects + image_objects + size.orphans(),
        document_objects,
        image_objects,
        object_bytes,
        database_bytes: file.len(),
    })
}

impl From<NoSuchBucket> for ClinicError {
    fn from(cause: NoSuchBucket) -> Self {
        Self::Bucket(cause)
    }
}

impl fmt::Display for ClinicError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database { path, .. } => {
                write!(formatter, "cannot write the clinic's database `{}`", path.display())
            }
            Self::File { path, .. } => {
                write!(formatter, "cannot look at the clinic's database `{}`", path.display())
            }
            Self::Bucket(_) => formatter.write_str("cannot store the clinic's files"),
        }
    }
}

impl std::error::Error for ClinicError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database { cause, .. } => Some(cause),
            Self::File { cause, .. } => Some(cause),
            Self::Bucket(cause) => Some(cause),
        }
    }
}
