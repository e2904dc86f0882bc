//! Where bytes lie, as a person writes it: `s3://bucket/prefix`, a path, or `file:///path`.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A bucket with a prefix, or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An S3 bucket; the prefix is empty or ends with `/`.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// Empty, or ending with `/`.
        prefix: String,
    },
    /// A folder on this machine, as an absolute path.
    Folder(PathBuf),
}

impl Address {
    /// Reads an address; relative paths are taken from `base`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for another scheme, or a bucket name that S3 does not allow.
    pub fn parse(text: &str, base: &Path) -> Result<Self> {
        if let Some(rest) = text.strip_prefix("s3://") {
            return Self::parse_s3(text, rest);
        }
        let path = match text.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => path,
            Some(_) => {
                return Err(Error::usage_hint(
                    format!("{text:?} is neither a bucket nor a folder"),
                    "write s3://bucket/prefix, a path, or file:///absolute/path",
                ));
            }
            None => text,
        };
        if path.is_empty() {
            return Err(Error::usage("an empty text is neither a bucket nor a folder"));
        }
        let joined = base.join(path);
        // The path is resolved as far as it exists, so that two spellings of one folder are one address.
        Ok(Self::Folder(resolved(&joined)))
    }

    fn parse_s3(text: &str, rest: &str) -> Result<Self> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if bucket.len() < 3 || bucket.len() > 255 || !bucket.bytes().all(allowed) {
            return Err(Error::usage_hint(
                format!("{text:?} does not name a bucket"),
                "write s3://bucket or s3://bucket/prefix",
            ));
        }
        let mut prefix = prefix.to_owned();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix })
    }

    /// The prefix of a bucket's keys; empty for a folder.
    pub fn prefix(&self) -> &str {
        match self {
            Self::S3 { prefix, .. } => prefix,
            Self::Folder(_) => "",
        }
    }

    /// When `inner` lies in this address, its place relative to it, ending with `/`; the empty text is the whole.
    pub fn prefix_of(&self, inner: &Self) -> Option<String> {
        match (self, inner) {
            (Self::S3 { bucket, prefix }, Self::S3 { bucket: other, prefix: deeper }) if bucket == other => {
                deeper.starts_with(prefix.as_str()).then(|| deeper.clone())
            }
            (Self::Folder(outer), Self::Folder(inner)) => {
                let rest = inner.strip_prefix(outer).ok()?.to_str()?;
                Some(if rest.is_empty() { String::new() } else { format!("{rest}/") })
            }
            _ => None,
        }
    }
}

/// A path without links, as far as it exists; what is not there yet goes by its text alone.
fn resolved(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            return plain(&real.join(rest));
        }
    }
    plain(path)
}

/// Removes `.` and `..` from a path that does not exist yet, by its text alone.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            std::path::Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{}", prefix.trim_end_matches('/')),
            Self::Folder(path) => write!(f, "file://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        Address::parse(text, Path::new("/nowhere")).expect("an address")
    }

    #[test]
    fn a_prefix_always_ends_with_a_slash() {
        assert_eq!(parse("s3://clinic/backup"), parse("s3://clinic/backup/"));
        assert_eq!(parse("s3://clinic").prefix(), "");
    }

    #[test]
    fn a_vault_inside_its_source_is_seen() {
        assert_eq!(parse("s3://clinic").prefix_of(&parse("s3://clinic/backup")).as_deref(), Some("backup/"));
        assert_eq!(parse("s3://clinic/media").prefix_of(&parse("s3://clinic/backup")), None);
        assert_eq!(parse("/srv/a").prefix_of(&parse("/srv/a/b")).as_deref(), Some("b/"));
        assert_eq!(parse("/srv/a").prefix_of(&parse("/srv/ab")), None);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_found_below_what_a_link_leads_to() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let real = folder.path().canonicalize().expect("it is there").join("media");
        std::fs::create_dir(&real).expect("room");
        std::os::unix::fs::symlink(&real, folder.path().join("link")).expect("room");
        let parse = |text: &str| Address::parse(text, folder.path()).expect("an address");
        assert_eq!(parse("link/new/deep"), Address::Folder(real.join("new/deep")));
        assert_eq!(parse("link/none/../new"), Address::Folder(real.join("new")));
        assert_eq!(parse("media").prefix_of(&parse("link/new")).as_deref(), Some("new/"));
    }

    #[test]
    fn other_schemes_are_refused() {
        assert!(Address::parse("ftp://host/x", Path::new("/")).is_err());
        assert!(Address::parse("s3://", Path::new("/")).is_err());
    }
}
