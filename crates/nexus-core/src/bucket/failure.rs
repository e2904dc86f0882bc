//! What one try of a request came to, sorted by what to do next.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::error::{Cause, Error};

/// A request that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    cause: Cause,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.cause.fmt(formatter)
    }
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Try again.
    Transient,
    /// Try again, with less at once.
    Throttled,
    /// What arrived has not the checksum that the service keeps: try again, and if it stays so, it is damaged where it lies.
    Rotten,
    /// The object is not there.
    Gone,
    /// The bucket is not there.
    NoBucket,
    /// A condition did not hold.
    Precondition,
    /// The credentials do not allow it.
    Denied,
    /// The service cannot do it.
    Unsupported,
    /// The multipart upload is not there (any more).
    NoUpload,
    /// No credentials could be had on this machine.
    NoCredentials,
    /// Anything else that another try would not change.
    Fatal,
}

impl Failure {
    pub(crate) fn throttled(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind: FailureKind::Throttled, cause: cause.into() }
    }

    pub(crate) fn transient(cause: impl Into<Cause>) -> Self {
        Self { kind: FailureKind::Transient, cause: cause.into() }
    }

    /// What arrived has another checksum than the service says.
    pub(crate) fn rotten() -> Self {
        Self { kind: FailureKind::Rotten, cause: "what was read has another checksum than the service says".into() }
    }

    /// An answer that broke off while it was read, or was found by the client not to have its checksum.
    pub(crate) fn reading(error: aws_sdk_s3::primitives::ByteStreamError) -> Self {
        let mut next: Option<&dyn std::error::Error> = Some(&error);
        while let Some(cause) = next {
            if cause.to_string().contains("checksum mismatch") {
                return Self::rotten();
            }
            next = cause.source();
        }
        Self::transient(error)
    }

    pub(crate) fn fatal(cause: impl Into<Cause>) -> Self {
        Self { kind: FailureKind::Fatal, cause: cause.into() }
    }

    /// A part of a larger piece of work that failed, of the kind that it was.
    pub(crate) fn of(error: Error) -> Self {
        let kind = match &error {
            Error::Unreachable { .. } => FailureKind::Transient,
            Error::Denied { .. } => FailureKind::Denied,
            Error::Unsupported { .. } => FailureKind::Unsupported,
            _ => FailureKind::Fatal,
        };
        Self { kind, cause: error.into() }
    }

    /// What became of one object of many, of which the whole request's status says nothing.
    pub(crate) fn of_one(code: Option<&str>, message: Option<&str>) -> Self {
        let kind = if code == Some("AccessDenied") { FailureKind::Denied } else { FailureKind::Fatal };
        Self { kind, cause: format!("{}: {}", code.unwrap_or("?"), message.unwrap_or("")).into() }
    }

    /// What a service says in the body of an answer that is a success by its status.
    pub(crate) fn inside_a_success(code: &str, message: &str) -> Self {
        Self { kind: kind_of(200, Some(code)), cause: format!("{code}: {message} (HTTP 200)").into() }
    }

    pub(crate) fn gone(cause: impl Into<Cause>) -> Self {
        Self { kind: FailureKind::Gone, cause: cause.into() }
    }

    pub(crate) fn changed(cause: impl Into<Cause>) -> Self {
        Self { kind: FailureKind::Precondition, cause: cause.into() }
    }

    /// True when the service gave this code.
    pub(crate) fn says(&self, code: &str) -> bool {
        self.cause.to_string().strip_prefix(code).is_some_and(|rest| rest.starts_with(':'))
    }

    /// True when the service's words have this among them.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.cause.to_string().to_lowercase().contains(text)
    }

    /// The same, as a thing that the service cannot do.
    pub(crate) fn unsupported(self) -> Self {
        Self { kind: FailureKind::Unsupported, ..self }
    }

    /// Turns it into an error that says what was attempted.
    pub(crate) fn into_error(self, what: String) -> Error {
        let cause = Some(self.cause);
        match self.kind {
            FailureKind::Transient | FailureKind::Throttled => Error::Unreachable { what, cause },
            FailureKind::Rotten => Error::Damaged { what, cause },
            FailureKind::Gone | FailureKind::NoBucket | FailureKind::NoUpload => Error::Missing { what, cause },
            FailureKind::Denied | FailureKind::NoCredentials => Error::Denied { what, cause },
            FailureKind::Unsupported => Error::Unsupported {
                what: format!("{what}: {}", cause.map_or_else(String::new, |cause| cause.to_string())),
            },
            FailureKind::Precondition | FailureKind::Fatal => Error::Service { what, cause },
        }
    }
}

/// Sorts what the SDK reports.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err as it is")]
pub(crate) fn failure<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().map(str::to_owned);
    let said = describe(&error, status);
    let kind = match &error {
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => kind_of(status.unwrap_or(0), code.as_deref()),
        SdkError::ConstructionFailure(_) => FailureKind::Fatal,
        _ if said.contains("credential") => FailureKind::NoCredentials,
        _ => FailureKind::Transient,
    };
    Failure { kind, cause: said.into() }
}

/// The code and the message of an error as services write it
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).
pub(super) fn said(text: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.contains("<Error>") || text.contains("<Error "))?;
    let between = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(said, _)| said.to_owned())
    };
    Some((between("Code")?, between("Message").unwrap_or_else(|| "no message".to_owned())))
}

fn kind_of(status: u16, code: Option<&str>) -> FailureKind {
    match (status, code.unwrap_or("")) {
        // The last is 403 and Wasabi's: https://docs.wasabi.com/docs/rest-api-introduction
        (
            _,
            "SlowDown"
            | "ServiceUnavailable"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "RequestRateLimitExceeded",
        )
        | (429 | 503, _) => FailureKind::Throttled,
        (_, "NoSuchBucket") => FailureKind::NoBucket,
        (_, "NoSuchUpload") => FailureKind::NoUpload,
        (_, "NotImplemented") | (405 | 501, _) => FailureKind::Unsupported,
        (_, "RequestTimeout" | "InternalError" | "OperationAborted" | "ConditionalRequestConflict") => {
            FailureKind::Transient
        }
        // Success with an error inside, or with a body that cannot be read: not done as far as we know.
        (200..=299 | 500..=599 | 408 | 409, _) => FailureKind::Transient,
        (404, _) => FailureKind::Gone,
        (412, _) => FailureKind::Precondition,
        (401 | 403, _) => FailureKind::Denied,
        _ => FailureKind::Fatal,
    }
}

/// The service's own words, without what the SDK wraps around them.
fn describe<E>(error: &SdkError<E, HttpResponse>, status: Option<u16>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if let (Some(code), Some(status)) = (error.code(), status) {
        return format!("{code}: {} (HTTP {status})", error.message().unwrap_or("no message"));
    }
    if let (SdkError::ServiceError(_), Some(status)) = (error, status) {
        return format!("the service answered HTTP {status}");
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        let words = deeper.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = deeper.source();
    }
    text
}
