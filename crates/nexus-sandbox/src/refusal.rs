//! What a service that is not Amazon S3 refuses before it looks any further.

use hyper::{HeaderMap, StatusCode};
use s3s::path::S3Path;
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::options::{HeaderRefusal, Quirks};

/// The hash of a body in chunks that ends with signed fields, among them its checksum.
const SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";

impl Quirks {
    /// Refuses what this service does not have: operations, header fields, keys.
    pub(crate) fn must_take(&self, operation: &str, path: &S3Path, headers: &HeaderMap) -> S3Result<()> {
        if self.missing.contains(&operation) {
            return Err(not_implemented(format!("{operation} not implemented")));
        }
        for (name, value) in headers {
            if self.refused_headers.iter().any(|refused| covers(refused, operation, name.as_str())) {
                return Err(self.refused(name.as_str(), value.to_str().unwrap_or_default()));
            }
        }
        let hash = headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
        if self.no_signed_trailers && hash == Some(SIGNED_TRAILER) {
            return Err(not_implemented(format!("{SIGNED_TRAILER} not implemented")));
        }
        match path {
            S3Path::Object { key, .. } => self.names.must_take(key),
            S3Path::Root | S3Path::Bucket { .. } => Ok(()),
        }
    }

    fn refused(&self, name: &str, value: &str) -> S3Error {
        match self.header_refusal {
            HeaderRefusal::NotImplemented => {
                not_implemented(format!("Header '{name}' with value '{value}' not implemented"))
            }
            HeaderRefusal::Unsupported => S3Error::with_message(
                S3ErrorCode::InvalidArgument,
                format!("Unsupported header '{name}' received for this API call."),
            ),
        }
    }
}

fn covers(refused: &str, operation: &str, name: &str) -> bool {
    let refused = match refused.split_once(' ') {
        Some((of, refused)) if of == operation => refused,
        Some(_) => return false,
        None => refused,
    };
    match refused.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == refused,
    }
}

fn not_implemented(message: String) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::NotImplemented, message);
    error.set_status_code(StatusCode::NOT_IMPLEMENTED);
    error
}
