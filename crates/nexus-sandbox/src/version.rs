//! The versions of a key, and the ids by which they are named.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html>

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::crypto::{Checksum as _, Md5};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::object::StoredObject;

/// The id of what was written while its bucket gave no ids.
pub const NULL_VERSION: &str = "null";

/// Whether a bucket keeps what is overwritten and deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Versioning {
    #[default]
    Never,
    Enabled,
    Suspended,
}

/// One version of a key: an object, or the marker of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Opaque; [`NULL_VERSION`] for what was written while the bucket gave no ids.
    pub id: String,
    /// Whole seconds.
    pub last_modified: SystemTime,
    /// What was stored; none for a delete marker.
    pub object: Option<Arc<StoredObject>>,
    /// Grows from version to version, whatever the clock says.
    pub(crate) serial: u64,
}

/// All versions of one key, oldest first; a bucket holds none that is empty.
#[derive(Debug, Default)]
pub(crate) struct History(Vec<Version>);

/// The object that a request is about.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub object: Arc<StoredObject>,
    /// As answers name it; none in a bucket that never kept versions.
    pub version_id: Option<String>,
}

impl Version {
    /// Whether this is the marker of a deletion.
    pub fn is_marker(&self) -> bool {
        self.object.is_none()
    }
}

impl History {
    /// The newest version, which is what a request without a version id is about.
    pub fn newest(&self) -> Option<&Version> {
        self.0.last()
    }

    /// The object that readers and listings see; none behind a delete marker.
    pub fn current(&self) -> Option<&Arc<StoredObject>> {
        self.newest()?.object.as_ref()
    }

    pub fn newest_first(&self) -> impl Iterator<Item = &Version> {
        self.0.iter().rev()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn version(&self, id: &str) -> Option<&Version> {
        self.0.iter().find(|version| version.id == id)
    }

    /// Adds a version as the newest, in place of the one of the same id if there is one.
    pub fn push(&mut self, version: Version) {
        self.remove(&version.id);
        self.0.push(version);
    }

    pub fn remove(&mut self, id: &str) -> Option<Version> {
        let index = self.0.iter().position(|version| version.id == id)?;
        Some(self.0.remove(index))
    }

    pub fn newest_mut(&mut self) -> Option<&mut Version> {
        self.0.last_mut()
    }

    pub fn version_mut(&mut self, id: &str) -> Option<&mut Version> {
        self.0.iter_mut().find(|version| version.id == id)
    }
}

/// The version id that this number stands for: 32 characters that tell nothing and do not sort by age.
///
/// Amazon S3's look the same, dots among them.
pub(crate) fn id_of(serial: u64) -> String {
    let scrambled = serial.wrapping_mul(SCRAMBLE).to_be_bytes();
    let mut bytes = scrambled.to_vec();
    bytes.extend(seal(scrambled));
    URL_SAFE_NO_PAD.encode(bytes).replace('-', ".")
}

/// The number behind a version id; none for an id that this service cannot have given.
pub(crate) fn serial_of(id: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(id.replace('.', "-")).ok()?;
    let (scrambled, sealed) = bytes.split_first_chunk::<8>()?;
    (sealed == seal(*scrambled)).then(|| u64::from_be_bytes(*scrambled).wrapping_mul(UNSCRAMBLE))
}

/// Refuses an id that no version can have: Amazon S3 tells those from the ids of versions that are gone.
pub(crate) fn must_be_version_id(id: &str) -> S3Result<()> {
    if id.is_empty() {
        return Err(S3Error::with_message(S3ErrorCode::InvalidArgument, "Version id cannot be the empty string"));
    }
    if id == NULL_VERSION || serial_of(id).is_some() {
        return Ok(());
    }
    Err(S3Error::with_message(S3ErrorCode::InvalidArgument, "Invalid version id specified"))
}

const SCRAMBLE: u64 = 0x9e37_79b9_7f4a_7c15;
/// The inverse of [`SCRAMBLE`] modulo 2^64.
const UNSCRAMBLE: u64 = 0xf1de_83e1_9937_733d;

fn seal(scrambled: [u8; 8]) -> [u8; 16] {
    Md5::checksum(&[b"version".as_slice(), &scrambled].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_to_its_number_and_no_other_text_does() {
        for serial in [0, 1, 2, u64::MAX] {
            let id = id_of(serial);
            assert_eq!((id.len(), serial_of(&id)), (32, Some(serial)));
        }
        assert_ne!(id_of(1), id_of(2));
        for wrong in ["", "null", "Eyn7lxdGE1WU1SU6QTbW1X6cbSIIRY0R", "short"] {
            assert_eq!(serial_of(wrong), None, "{wrong}");
        }
    }
}
