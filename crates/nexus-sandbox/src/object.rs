//! What an object is: its bytes, and everything a service says about them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

use crate::acl::Acl;
use crate::checksum::Checksum;
use crate::lock::Lock;

/// The storage class of an object that was written without naming one.
pub const STANDARD: &str = "STANDARD";

/// The storage classes that Amazon S3 knows.
pub(crate) const STORAGE_CLASSES: [&str; 11] = [
    STANDARD,
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "GLACIER_IR",
    "OUTPOSTS",
    "SNOW",
    "EXPRESS_ONEZONE",
];

/// The header fields that travel with an object and mean nothing to the service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub expires: Option<SystemTime>,
    pub website_redirect: Option<String>,
    /// User metadata, names in lower case and without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
}

/// How an object was asked to be encrypted; recorded and echoed, never done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encryption {
    /// `AES256`, `aws:kms`, or nothing when the writer did not ask.
    pub algorithm: Option<String>,
    pub kms_key: Option<String>,
}

/// An object as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    pub body: Bytes,
    /// Without the quotes it wears in HTTP.
    pub etag: String,
    /// Whole seconds.
    pub last_modified: SystemTime,
    pub fields: Fields,
    pub storage_class: String,
    pub encryption: Encryption,
    pub tags: BTreeMap<String, String>,
    pub lock: Lock,
    pub acl: Acl,
    pub checksum: Option<Checksum>,
    /// The sizes of the parts of a multipart upload; empty for a single put or copy.
    pub parts: Vec<u64>,
}

impl StoredObject {
    /// Length of the body in bytes.
    pub fn size(&self) -> u64 {
        self.body.len() as u64
    }

    /// Whether the bytes lie in a class that must be restored before they can be read.
    pub fn archived(&self) -> bool {
        matches!(self.storage_class.as_str(), "GLACIER" | "DEEP_ARCHIVE")
    }
}

/// An object to be stored, before the service has given it an `ETag` and a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewObject {
    pub body: Bytes,
    pub fields: Fields,
    /// Empty means `STANDARD`.
    pub storage_class: String,
    pub encryption: Encryption,
    pub tags: BTreeMap<String, String>,
    /// Without a retention the bucket's default comes, if it has one.
    pub lock: Lock,
    pub acl: Acl,
}

impl NewObject {
    /// An object of these bytes and nothing else.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// The same object with a content type.
    #[must_use]
    pub fn content_type(mut self, content_type: &str) -> Self {
        self.fields.content_type = Some(content_type.to_owned());
        self
    }

    /// The same object with one more user metadata entry; the name is put into lower case.
    #[must_use]
    pub fn metadata(mut self, name: &str, value: &str) -> Self {
        self.fields.metadata.insert(name.to_ascii_lowercase(), value.to_owned());
        self
    }

    /// The same object in another storage class.
    #[must_use]
    pub fn storage_class(mut self, storage_class: &str) -> Self {
        storage_class.clone_into(&mut self.storage_class);
        self
    }

    /// The same object with one more tag.
    #[must_use]
    pub fn tag(mut self, name: &str, value: &str) -> Self {
        self.tags.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl From<&str> for NewObject {
    fn from(body: &str) -> Self {
        Self::new(body.to_owned())
    }
}
