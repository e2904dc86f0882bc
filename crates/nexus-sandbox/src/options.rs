//! How a service is to behave: its port, its credentials, and where it departs from Amazon S3.

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
            quirks: Quirks::default(),
        }
    }
}
