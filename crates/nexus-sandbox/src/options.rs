//! How a service is to behave: its port, its credentials, and where it departs from Amazon S3.

use std::time::Duration;

use crate::personality::Personality;

/// Where and how a service runs.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// The port on 127.0.0.1; none takes a free one.
    pub port: Option<u16>,
    pub access_key: String,
    pub secret_key: String,
    /// The most entries on one page of a listing; Amazon S3's is 1,000.
    pub page_size: usize,
    /// The largest object, in bytes, that one copy request takes; Amazon S3's is 5 GiB.
    pub copy_limit: u64,
    /// The smallest part, in bytes, that is not the last; Amazon S3's is 5 MiB.
    pub smallest_part: u64,
    /// How long each answer waits after the work is done, as a service far away.
    pub latency: Duration,
    pub quirks: Quirks,
}

/// Ways in which services that call themselves S3 compatible differ from Amazon S3.
#[expect(clippy::struct_excessive_bools, reason = "each quirk is independent of the others and off by default")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks {
    /// `x-amz-copy-source-if-…` has no effect.
    pub ignore_copy_conditions: bool,
    /// `If-Match` and `If-None-Match` have no effect on writes.
    pub ignore_put_conditions: bool,
    /// Listings come as a walk of directories finds things: `a`, `a/b`, `a!`.
    pub unordered_listing: bool,
    /// A walk of directories that begins behind a key that is not there leaves out what lies before that key by bytes, as that of
    /// versitygw 1.0.11 (<https://github.com/versity/versitygw/blob/v1.0.11/backend/walk.go>).
    pub filtered_start: bool,
    /// A listing that is to begin behind a key is refused.
    pub no_start_after: bool,
    /// From the second page on, a listing hands back the token it was given.
    pub repeat_token: bool,
    /// Checksums are neither verified nor kept.
    pub no_checksums: bool,
    /// The `ETag` of a single put looks like an MD5 and is none, and a copy's differs from its source's.
    pub opaque_etags: bool,
    /// Objects are not encrypted, whatever was asked for.
    pub no_encryption: bool,
    /// Every object is `STANDARD`, whatever was asked for.
    pub no_classes: bool,
    /// Operations, by their S3 names, that answer `NotImplemented`.
    pub missing: &'static [&'static str],
    /// Header fields that a request must not have; a name that ends with `*` stands for all that begin so, and one with the
    /// name of an operation and a blank before it is for requests of that operation alone.
    pub refused_headers: &'static [&'static str],
    /// How a header field is refused.
    pub header_refusal: HeaderRefusal,
    /// A body whose trailer is signed is refused: `STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER`.
    pub no_signed_trailers: bool,
    /// `x-amz-copy-source-if-…` has no effect on the copy of a part.
    pub ignore_part_conditions: bool,
    /// `If-Match` and `If-None-Match` have no effect on the completion of an upload.
    pub ignore_completion_conditions: bool,
    /// An upload whose completion fails its condition is gone.
    pub failed_completion_aborts: bool,
    /// What `If-Match` does to a write where nothing is.
    pub match_of_absent: MatchOfAbsent,
    /// All parts of an upload but the last must be of one size, and the last not larger.
    pub equal_parts: bool,
    /// Writes and reads name a version id though no versions are kept.
    pub idle_version_ids: bool,
    /// A copy does not say which version of its source it took.
    pub unnamed_source_version: bool,
    /// Tags that a writing request sends are not kept.
    pub drop_tags: bool,
    /// Locks that a writing request sends are not kept, and nothing is said about it.
    pub drop_locks: bool,
    /// The website redirect that a writing request sends is not kept.
    pub drop_redirects: bool,
    /// User metadata comes back as if its UTF-8 had been Latin-1.
    pub latin_metadata: bool,
    /// An object that was sent without a checksum has none.
    pub no_own_checksum: bool,
    /// An object with a part that was copied has no checksum unless one was asked for.
    pub no_checksum_of_copied_parts: bool,
    /// A copy keeps the checksum of its source, whatever algorithm was asked for.
    pub copies_keep_checksum: bool,
    /// `GetObjectAttributes` says nothing of checksums.
    pub no_checksum_in_attributes: bool,
    /// A request that asks for encryption answers `InternalError`.
    pub failing_encryption: bool,
    /// Objects in archive classes can be read and copied at once.
    pub open_archives: bool,
    /// `encoding-type` has no effect on listings.
    pub no_url_encoding: bool,
    /// Folders are not spelled for URLs where keys are.
    pub plain_folders: bool,
    /// The `ETag` of a part that was copied from more than 4 MiB is not its MD5 but counts the pieces it is kept in,
    /// and that of the object differs from what parts that were sent make.
    pub piecemeal_parts: bool,
    /// Operations whose answer gives the `ETag` without quotes.
    pub bare_etags: &'static [&'static str],
    /// What reads an object gives its `ETag` as a weak one, as a proxy does that compresses answers.
    pub weak_etags: bool,
    /// What is sent is stored with another first byte, and what is said of it is true of what was stored.
    pub rotten_writes: bool,
    /// What keys there can be.
    pub names: Names,
    /// How a request is turned away when there are too many.
    pub throttling: Throttling,
}

/// How a service refuses a header field that it does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeaderRefusal {
    /// 501 `NotImplemented`.
    #[default]
    NotImplemented,
    /// 400 `InvalidArgument`.
    Unsupported,
}

/// What `If-Match` does to a write where nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MatchOfAbsent {
    /// 404 `NoSuchKey`.
    #[default]
    NotFound,
    /// 412 `PreconditionFailed`.
    Fails,
    /// The object is written.
    Writes,
}

/// What keys a service takes, and what it makes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Names {
    /// Any UTF-8, kept as it is.
    #[default]
    Any,
    /// Those that can be a path: others are refused, as `XMinioInvalidObjectName`.
    Paths,
    /// Those that can be a path, and many that cannot are altered: `/a` and `//a` are `a`.
    AlteredPaths,
}

/// How a service turns a request away when there are too many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Throttling {
    /// 503 `SlowDown`.
    #[default]
    SlowDown,
    /// 403 `RequestRateLimitExceeded`.
    RateLimit,
}

impl ServiceOptions {
    /// A service that differs from Amazon S3 as this one is known to.
    pub fn like(personality: Personality) -> Self {
        Self { quirks: personality.quirks(), ..Self::default() }
    }
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            port: None,
            access_key: "nexus-sandbox".to_owned(),
            secret_key: "nexus-sandbox-secret".to_owned(),
            page_size: 1_000,
            copy_limit: 5 << 30,
            smallest_part: 5 << 20,
            latency: Duration::ZERO,
            quirks: Quirks::default(),
        }
    }
}
