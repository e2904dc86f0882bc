//! The only file that spells keys: what lies where in a vault, relative to the vault's prefix.

use jiff::{Timestamp, tz::TimeZone};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::listing::hex;
use crate::point::{INDEX_ENDING, PointId};

/// The longest key S3 takes, in bytes, its prefix included
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>).
pub const LONGEST_KEY: usize = 1_024;
/// The category of what no rule names.
pub const OTHER: &str = "other";
/// Says that a vault is one.
pub const DESCRIPTOR: &str = "vault.json";
/// Where database copies lie.
pub const DATABASE: &str = "database/";
/// Names that a category may not have, because a point uses them itself.
const RESERVED: [&str; 2] = ["records", "journal"];

/// `<app>_sqlite_backup_<stamp>.db` under `database/`.
pub fn sqlite(app: &str, point: &PointId) -> String {
    format!("{DATABASE}{app}_sqlite_backup_{}.db", point.stamp())
}

/// `<app>_postgres_backup_<stamp>.dump` under `database/`.
pub fn postgres(app: &str, point: &PointId) -> String {
    format!("{DATABASE}{app}_postgres_backup_{}.dump", point.stamp())
}

/// `<app>_postgres_backup_<stamp>.globals.sql` under `database/`: roles and tablespaces of the server, without passwords.
pub fn globals(app: &str, point: &PointId) -> String {
    format!("{DATABASE}{app}_postgres_backup_{}.globals.sql", point.stamp())
}

/// All that a point holds lies below this, but for its database.
pub fn point(point: &PointId) -> String {
    format!("{point}/")
}

/// The claim.
pub fn claim(point: &PointId) -> String {
    format!("{point}/started.json")
}

/// The commit, or the word that the claim was abandoned.
pub fn manifest(point: &PointId) -> String {
    format!("{point}/manifest.json")
}

/// The file listing.
pub fn listing(point: &PointId) -> String {
    format!("{point}/files.jsonl.zst")
}

/// The script that brings the files back with stock tools.
pub fn script(point: &PointId) -> String {
    format!("{point}/restore-files.sh")
}

/// One of the record files.
pub fn record(point: &PointId, file: &str) -> String {
    format!("{point}/records/{file}")
}

/// As what one of the record files is stored, by its name or key.
pub fn content_type(record: &str) -> &'static str {
    if record.ends_with(INDEX_ENDING) { "application/octet-stream" } else { "application/json" }
}

/// The journal's prefix.
pub fn journal(point: &PointId) -> String {
    format!("{point}/journal/")
}

/// One journal entry.
pub fn entry(point: &PointId, at: Timestamp, word: &str, nonce: &str) -> String {
    let time = at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%S.%3fZ");
    format!("{point}/journal/{time}-{word}-{nonce}.json")
}

/// The word in a journal entry's key: what happened.
pub fn word_of(key: &str) -> Option<&str> {
    let (_, name) = key.rsplit_once('/')?;
    let (rest, _) = name.strip_suffix(".json")?.rsplit_once('-')?;
    rest.split_once('-').map(|(_, word)| word)
}

/// The nonce in a journal entry's key.
pub fn nonce_of(key: &str) -> Option<&str> {
    key.strip_suffix(".json")?.rsplit_once('-').map(|(_, nonce)| nonce)
}

/// What lies at a place below a point's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InPoint {
    /// `started.json`.
    Claim,
    /// `manifest.json`.
    Manifest,
    /// A journal entry, by the shape of its name.
    Journal,
    /// The listing of files or the script beside it.
    Listing,
    /// A record file.
    Records,
    /// Below a category: a copy of a file.
    Copy,
    /// Nothing that a point has.
    Unknown,
}

/// Says what lies at `rest`, which is relative to a point's folder.
pub fn in_point(rest: &str) -> InPoint {
    match rest.split_once('/') {
        None => match rest {
            "started.json" => InPoint::Claim,
            "manifest.json" => InPoint::Manifest,
            "files.jsonl.zst" | "restore-files.sh" => InPoint::Listing,
            _ => InPoint::Unknown,
        },
        Some(("journal", name)) => {
            let shape = !name.contains('/') && nonce_of(name).is_some() && name.as_bytes().get(8) == Some(&b'T');
            if shape { InPoint::Journal } else { InPoint::Unknown }
        }
        Some(("records", name)) if !name.is_empty() => InPoint::Records,
        Some((category, key)) if check_category(category).is_ok() && !key.is_empty() => InPoint::Copy,
        Some(_) => InPoint::Unknown,
    }
}

/// Where a file's copy lies: under its category and its own key, so that stock tools can put it back.
pub fn copy(vault_prefix: &str, point: &PointId, category: &str, key: &str) -> String {
    let natural = format!("{point}/{category}/{key}");
    // What looks like a key that was filed by its hash could be the place of another one.
    let by_hash = vault_prefix.len() + natural.len() > LONGEST_KEY || is_long(&natural);
    if by_hash { long(point, key) } else { natural }
}

/// Where a file's copy lies when the vault cannot hold its own key.
pub fn long(point: &PointId, key: &str) -> String {
    format!("{point}/{OTHER}/.long/{}", hex(&Sha256::digest(key.as_bytes())))
}

/// True for a copy that does not lie under its own key.
pub fn is_long(key: &str) -> bool {
    key.split_once('/').is_some_and(|(_, rest)| rest.starts_with("other/.long/"))
}

/// The prefix of a copy's group: its point and category, below which copies lie in the order of their keys.
pub fn group(copy: &str) -> Option<&str> {
    let point = copy.find('/')?;
    let category = copy[point + 1..].find('/')?;
    Some(&copy[..=point + 1 + category])
}

/// The time stamp in a database copy's name, ours or an older script's.
pub fn stamp_of_database(key: &str) -> Option<&str> {
    let (_, rest) = key.rsplit_once("_backup_")?;
    rest.get(..15)
}

/// Checks that a name can be a category.
pub fn check_category(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > 32 || !name.bytes().all(allowed) || RESERVED.contains(&name) {
        return Err(Error::usage_hint(
            format!("{name:?} cannot be the name of a category"),
            "use 1 to 32 letters, digits, `-` or `_`; `records` and `journal` are taken",
        ));
    }
    Ok(())
}

/// Checks that a name can be an app's: it becomes part of keys.
pub fn check_app(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) || name.starts_with('.') {
        return Err(Error::usage_hint(
            format!("{name:?} cannot be the name of an app"),
            "use 1 to 64 letters, digits, `-`, `_` or `.`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> PointId {
        "reimport_20251115_064233".parse().expect("an id")
    }

    #[test]
    fn keys_are_those_of_the_format_page() {
        assert_eq!(sqlite("nexus", &id()), "database/nexus_sqlite_backup_20251115_064233.db");
        assert_eq!(copy("backup/", &id(), "images", "a/b.jpg"), "reimport_20251115_064233/images/a/b.jpg");
        let at: Timestamp = "2025-11-15T06:42:33.1234Z".parse().expect("a time");
        assert_eq!(
            entry(&id(), at, "verified", "abc"),
            "reimport_20251115_064233/journal/20251115T064233.123Z-verified-abc.json"
        );
    }

    #[test]
    fn an_entrys_key_says_what_happened() {
        let at: Timestamp = "2025-11-15T06:42:33.1234Z".parse().expect("a time");
        for word in ["alive", "guard-started"] {
            let key = entry(&id(), at, word, "abc");
            assert_eq!((word_of(&key), nonce_of(&key)), (Some(word), Some("abc")));
        }
        assert_eq!(word_of("reimport_20251115_064233/journal/other"), None);
    }

    #[test]
    fn a_key_that_grows_too_long_is_filed_by_its_hash() {
        let key = "k".repeat(1_024);
        let stored = copy("backup/", &id(), "images", &key);
        assert!(is_long(&stored) && stored.len() < 200);
        let fits = "k".repeat(LONGEST_KEY - "backup/reimport_20251115_064233/images/".len());
        assert!(!is_long(&copy("backup/", &id(), "images", &fits)));
        assert!(is_long(&copy("backup/", &id(), "images", &format!("{fits}k"))));
    }

    #[test]
    fn no_key_takes_the_place_of_one_that_is_filed_by_its_hash() {
        let long_key = "k".repeat(1_024);
        let stored = copy("backup/", &id(), "images", &long_key);
        let (_, twin) = stored.split_once("/other/").expect("it lies there");
        assert_ne!(copy("backup/", &id(), OTHER, twin), stored);
    }

    #[test]
    fn a_group_is_a_point_and_a_category() {
        assert_eq!(group("p_1/images/a/b"), Some("p_1/images/"));
    }
}
