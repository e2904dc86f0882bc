//! What was sent along with an object, looked at again where a service may have dropped or altered it.

use std::collections::BTreeMap;

use super::failure::Failure;
use super::s3::S3;
use super::tags::{Tags, confirm_tags};

/// Fails unless an object has the user metadata and the tags that it was written with.
pub(super) async fn confirm_kept(
    into: &S3,
    key: &str,
    headers: &BTreeMap<String, String>,
    tags: &Tags,
) -> std::result::Result<(), Failure> {
    confirm_metadata(into, key, headers).await?;
    confirm_tags(into, key, tags).await
}

/// `SeaweedFS` takes the UTF-8 of metadata for Latin-1, as was seen: it gives back other letters. ASCII passes everywhere.
async fn confirm_metadata(
    into: &S3,
    key: &str,
    headers: &BTreeMap<String, String>,
) -> std::result::Result<(), Failure> {
    let user = |headers: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        let user = headers.iter().filter(|(name, value)| name.starts_with("x-amz-meta-") && !value.is_ascii());
        user.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let sent = user(headers);
    // What Amazon S3 does with them is documented.
    if sent.is_empty() || into.endpoint().is_none() {
        return Ok(());
    }
    let there = into.head(key).await.map_err(Failure::fatal)?;
    if there.is_some_and(|there| user(&there.headers) == sent) {
        return Ok(());
    }
    let names: Vec<_> = sent.keys().map(|name| name.trim_start_matches("x-amz-meta-")).collect();
    let what = format!(
        "its metadata ({}) is not ASCII, and {} does not give it back as it was sent; write it in ASCII, leave the file out \
         with `exclude` under [files], or use another service: docs/services.md",
        names.join(", "),
        into.endpoint().unwrap_or("Amazon S3")
    );
    Err(Failure::fatal(what).unsupported())
}
