//! Keys that some services refuse, and keys that they alter without a word.

use std::borrow::Cow;

use hyper::StatusCode;
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::options::Names;

/// The longest name between two slashes, in bytes, where keys are paths of files.
const LONGEST_SEGMENT: usize = 255;

impl Names {
    /// Refuses a key that cannot be.
    pub(crate) fn must_take(self, key: &str) -> S3Result<()> {
        let mut segments = key.split('/');
        match self {
            Self::Paths => {
                let whole = key.strip_suffix('/').unwrap_or(key);
                let odd = whole.split('/').any(|segment| matches!(segment, "" | "." | ".."));
                if odd { Err(no_object_name()) } else { Ok(()) }
            }
            Self::AlteredPaths if key.split(['/', '\\']).any(|segment| matches!(segment, "." | "..")) => {
                Err(S3Error::with_message(S3ErrorCode::InvalidRequest, "The key has a segment that leads elsewhere."))
            }
            Self::AlteredPaths if segments.any(|segment| segment.len() > LONGEST_SEGMENT) => {
                Err(S3Error::with_message(S3ErrorCode::KeyTooLongError, "Your key is too long"))
            }
            Self::Any | Self::AlteredPaths => Ok(()),
        }
    }

    /// The key under which an object of this key is kept.
    pub(crate) fn kept(self, key: &str) -> Cow<'_, str> {
        if self != Self::AlteredPaths {
            return Cow::Borrowed(key);
        }
        let mut kept = String::with_capacity(key.len());
        for character in key.chars() {
            let character = if character == '\\' { '/' } else { character };
            let repeated = character == '/' && (kept.is_empty() || kept.ends_with('/'));
            if !repeated {
                kept.push(character);
            }
        }
        Cow::Owned(kept)
    }

    /// Whether an object of this key loses its bytes: it is a folder to the service.
    pub(crate) fn empties(self, key: &str) -> bool {
        self == Self::AlteredPaths && key.ends_with('/')
    }
}

fn no_object_name() -> S3Error {
    let mut error = S3Error::with_message(
        S3ErrorCode::Custom("XMinioInvalidObjectName".into()),
        "Object name contains unsupported characters.",
    );
    error.set_status_code(StatusCode::BAD_REQUEST);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_no_paths_are_refused_or_altered() {
        for key in ["/a", "a//b", "./a", "a/..", "//"] {
            assert!(Names::Paths.must_take(key).is_err(), "{key}");
            assert!(Names::Any.must_take(key).is_ok(), "{key}");
        }
        assert!(Names::Paths.must_take("a/").is_ok() && Names::Paths.must_take("a..b/.c").is_ok());
        assert!(Names::AlteredPaths.must_take("a\\..\\b").is_err());
        assert!(Names::AlteredPaths.must_take(&"k".repeat(256)).is_err());
        assert!(Names::AlteredPaths.must_take("/a//b").is_ok());
        for (key, kept) in [("/a", "a"), ("//a", "a"), ("a//b", "a/b"), ("a\\b", "a/b"), ("a/", "a/")] {
            assert_eq!(Names::AlteredPaths.kept(key), kept);
            assert_eq!(Names::Paths.kept(key), key);
        }
    }
}
