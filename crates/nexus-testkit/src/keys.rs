//! Keys that S3 takes and that tools stumble over, each with what is awkward about it and where that is written.
//!
//! `awkward-keys.json` was put together from Amazon's page on object keys, the suites of ceph/s3-tests, versitygw and
//! rclone, Cloudflare's page on Unicode, and what a running `SeaweedFS` refuses or alters.

use serde_json::Value;

/// A key: valid UTF-8, 1 to 1,024 bytes, without NUL.
#[derive(Clone, Debug)]
pub struct Awkward {
    pub key: String,
    /// What is awkward about it.
    pub why: String,
}

/// All of them, in no order; no two are equal.
pub fn awkward() -> Vec<Awkward> {
    let list: Value = serde_json::from_str(include_str!("../awkward-keys.json")).expect("a list");
    let text = |entry: &Value, name: &str| entry[name].as_str().expect("a text").to_owned();
    let list = list.as_array().expect("a list").iter();
    list.map(|entry| Awkward { key: text(entry, "key"), why: text(entry, "why") }).collect()
}
