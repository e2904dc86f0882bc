//! What can stop the work. A variant exists only where the user would do something different about it.

use std::error::Error as StdError;

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// The cause behind an [`Error`], as the library or the system gave it.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// What a database server or one of its own programs said: the cause of an [`Error`] in which no S3 service has a part.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DatabaseWords(pub String);

/// Why something was not done.
///
/// Each text says what was attempted on what; the cause is `source()` and never repeated in the text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself cannot be carried out: a wrong name, a contradiction, an unsafe target.
    #[error("{what}")]
    Usage {
        /// What is wrong with it.
        what: String,
        /// What to do instead, as a sentence or a command.
        hint: Option<String>,
    },
    /// Something that must be there is not: a bucket, a database, a point, a file.
    #[error("{what}")]
    Missing {
        /// What was looked for, and where.
        what: String,
        /// The system's or the service's own words.
        #[source]
        cause: Option<Cause>,
    },
    /// The service or the system refused the right to do it.
    #[error("{what}")]
    Denied {
        /// What was attempted on what.
        what: String,
        /// The system's or the service's own words.
        #[source]
        cause: Option<Cause>,
    },
    /// The service did not answer, or not sensibly, after all attempts.
    #[error("{what}")]
    Unreachable {
        /// What was attempted on what.
        what: String,
        /// The last failure seen.
        #[source]
        cause: Option<Cause>,
    },
    /// The service answered with an error that another try would not change.
    #[error("{what}")]
    Service {
        /// What was attempted on what.
        what: String,
        /// The service's own words.
        #[source]
        cause: Option<Cause>,
    },
    /// Somebody else holds it: a lock on the database, a claim on the point.
    #[error("{what}")]
    Busy {
        /// What is held, and by whom where that is known.
        what: String,
    },
    /// It is already there, written by somebody else.
    #[error("{what}")]
    Exists {
        /// What is there.
        what: String,
    },
    /// The bytes are not what they must be, so going on would be wrong.
    #[error("{what}")]
    Damaged {
        /// What is damaged and how that shows.
        what: String,
        /// The parser's or the database's own words.
        #[source]
        cause: Option<Cause>,
    },
    /// It was written by a newer release than this one.
    #[error("{what}")]
    Newer {
        /// What was written, and in which format.
        what: String,
    },
    /// The source kept changing under the reader.
    #[error("{what}")]
    Changed {
        /// What changed, and how often it was tried.
        what: String,
    },
    /// No room is left on a local disk.
    #[error("{what}")]
    Full {
        /// What was being written where.
        what: String,
        /// The system's own words.
        #[source]
        cause: Option<Cause>,
    },
    /// Something cannot be done on this kind of service or file.
    #[error("{what}")]
    Unsupported {
        /// What cannot be done, and why.
        what: String,
    },
    /// A read or write on this machine failed.
    #[error("{what}")]
    Local {
        /// What was attempted on what.
        what: String,
        /// The system's own words.
        #[source]
        cause: Option<Cause>,
    },
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = StdError::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

impl Error {
    /// A usage error without a particular hint.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: None }
    }

    /// A usage error that says what to do instead.
    pub fn usage_hint(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: Some(hint.into()) }
    }

    /// Damage without a deeper cause.
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), cause: None }
    }

    /// Damage that a parser or a database reported.
    pub fn damaged_by(what: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self::Damaged { what: what.into(), cause: Some(cause.into()) }
    }

    /// Something that is not there.
    pub fn missing(what: impl Into<String>) -> Self {
        Self::Missing { what: what.into(), cause: None }
    }

    /// A failure of the local system, sorted by what the user can do about it.
    pub fn local(what: impl Into<String>, cause: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let what = what.into();
        match cause.kind() {
            ErrorKind::NotFound => Self::Missing { what, cause: Some(cause.into()) },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { what, cause: Some(cause.into()) }
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { what, cause: Some(cause.into()) },
            _ => Self::Local { what, cause: Some(cause.into()) },
        }
    }
}
