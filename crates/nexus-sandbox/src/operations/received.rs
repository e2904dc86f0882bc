//! What a writing request carries: its bytes, held against what it says of them, and its header fields.

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use hyper::HeaderMap;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders};

use super::{Operations, refusal};
use crate::checksum::{Algorithm, Checksum, content_md5_must_match};
use crate::object::{Encryption, Fields, STANDARD, STORAGE_CLASSES};

/// The most bytes reserved before any have come.
const RESERVED: usize = 64 << 20;

/// What a request says its bytes are.
#[derive(Debug)]
pub(super) struct Claims {
    pub length: Option<i64>,
    pub content_md5: Option<String>,
    pub checksums: Vec<(Algorithm, String)>,
    pub trailers: Option<TrailingHeaders>,
}

/// A body that was read to its end.
#[derive(Debug)]
pub(super) struct Received {
    pub body: Bytes,
    /// Taken once, for what it is held against and for its `ETag`.
    pub md5: [u8; 16],
}

impl Received {
    pub fn of(body: Bytes) -> Self {
        Self { md5: Md5::checksum(&body), body }
    }

    /// What a service has that wrote something else than it got.
    fn rotten(self) -> Self {
        let mut body = BytesMut::from(self.body);
        if let Some(first) = body.first_mut() {
            *first = !*first;
        }
        Self::of(body.freeze())
    }
}

impl Claims {
    /// Reads the body to its end and refuses it if it is not what was claimed.
    ///
    /// The checksum is the one that was sent, or else of the algorithm `otherwise`.
    pub async fn admit(mut self, body: Option<StreamingBlob>, otherwise: Algorithm) -> S3Result<(Received, Checksum)> {
        let received = Received::of(collected(body, self.length).await?);
        if let Some(sent) = &self.content_md5 {
            content_md5_must_match(sent, received.md5)?;
        }
        self.read_trailers();
        match self.checksums.as_slice() {
            [] => {
                let checksum = otherwise.whole(&received.body);
                Ok((received, checksum))
            }
            [(algorithm, sent)] => {
                let checksum = algorithm.whole(&received.body);
                checksum.must_equal(sent)?;
                Ok((received, checksum))
            }
            _ => Err(S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            )),
        }
    }

    /// Reads the body to its end, whatever it is.
    pub async fn take(self, body: Option<StreamingBlob>) -> S3Result<Received> {
        Ok(Received::of(collected(body, self.length).await?))
    }

    fn read_trailers(&mut self) {
        let Some(trailers) = self.trailers.take().and_then(|trailers| trailers.take()) else {
            return;
        };
        for algorithm in Algorithm::ALL {
            let sent = trailers.get(algorithm.header()).and_then(|value| value.to_str().ok());
            if let Some(sent) = sent {
                self.checksums.push((algorithm, sent.to_owned()));
            }
        }
    }
}

async fn collected(body: Option<StreamingBlob>, length: Option<i64>) -> S3Result<Bytes> {
    let expected = length.and_then(|length| usize::try_from(length).ok());
    let mut bytes = BytesMut::with_capacity(expected.unwrap_or(0).min(RESERVED));
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|cause| incomplete(&cause))?);
        }
    }
    if expected.is_some_and(|expected| expected != bytes.len()) {
        return Err(S3ErrorCode::IncompleteBody.into());
    }
    Ok(bytes.freeze())
}

/// The body broke off, or was not the one that was signed for.
fn incomplete(cause: &s3s::StdError) -> S3Error {
    // The types of these causes are private to the S3 crate; their names are all there is.
    let cause = format!("{cause:?}");
    if cause.contains("Sha256Mismatch") {
        return refusal(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        );
    }
    if cause.contains("SignatureMismatch") {
        return S3ErrorCode::SignatureDoesNotMatch.into();
    }
    S3Error::with_message(
        S3ErrorCode::IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
    )
}

impl Operations {
    /// A body as it is stored, with the checksum of that.
    pub(super) fn written(&self, received: Received, checksum: Option<Checksum>) -> (Received, Option<Checksum>) {
        if !self.options.quirks.rotten_writes {
            return (received, checksum);
        }
        let received = received.rotten();
        let checksum = checksum.map(|sum| sum.algorithm.whole(&received.body));
        (received, checksum)
    }

    /// The encryption that was asked for.
    pub(super) fn asked_encryption(&self, algorithm: Option<&str>, kms_key: Option<String>) -> S3Result<Encryption> {
        let quirks = &self.options.quirks;
        if quirks.failing_encryption && algorithm.is_some() {
            return Err(S3ErrorCode::InternalError.into());
        }
        let asked = encryption(algorithm, kms_key)?;
        Ok(if quirks.no_encryption { Encryption::default() } else { asked })
    }

    /// The storage class that was asked for.
    pub(super) fn asked_class(&self, asked: Option<&str>) -> S3Result<String> {
        storage_class(asked.filter(|_| !self.options.quirks.no_classes))
    }

    /// Header fields as this service keeps them.
    pub(super) fn kept_fields(&self, mut fields: Fields) -> Fields {
        if self.options.quirks.drop_redirects {
            fields.website_redirect = None;
        }
        if self.options.quirks.latin_metadata {
            for value in fields.metadata.values_mut() {
                *value = value.bytes().map(char::from).collect();
            }
        }
        fields
    }
}

/// Whether a request sends a checksum other than `Content-MD5`, in its head or behind its body.
pub(super) fn sends_checksum(headers: &HeaderMap) -> bool {
    headers.contains_key("x-amz-trailer")
        || Algorithm::ALL.iter().any(|algorithm| headers.contains_key(algorithm.header()))
}

/// Refuses a request that says nothing by which its body could be held against what was sent.
pub(super) fn must_bear_checksum(headers: &HeaderMap, message: &'static str) -> S3Result<()> {
    if headers.contains_key("content-md5") || sends_checksum(headers) {
        Ok(())
    } else {
        Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message))
    }
}

/// Refuses a place to send readers of a website to that is none.
pub(super) fn must_be_redirect(location: Option<&str>) -> S3Result<()> {
    let leads = |location: &str| ["/", "http://", "https://"].iter().any(|start| location.starts_with(start));
    if location.is_none_or(leads) {
        return Ok(());
    }
    Err(refusal(
        "InvalidRedirectLocation",
        "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
    ))
}

/// The storage class that was asked for, or `STANDARD`.
fn storage_class(asked: Option<&str>) -> S3Result<String> {
    let asked = asked.unwrap_or(STANDARD);
    if STORAGE_CLASSES.contains(&asked) {
        return Ok(asked.to_owned());
    }
    Err(S3Error::with_message(S3ErrorCode::InvalidStorageClass, "The storage class you specified is not valid"))
}

/// The encryption that was asked for.
fn encryption(algorithm: Option<&str>, kms_key: Option<String>) -> S3Result<Encryption> {
    match (algorithm, &kms_key) {
        (None | Some("AES256"), None) | (Some("aws:kms" | "aws:kms:dsse"), _) => {
            Ok(Encryption { algorithm: algorithm.map(str::to_owned), kms_key })
        }
        (None | Some("AES256"), Some(_)) => Err(S3Error::with_message(
            S3ErrorCode::InvalidArgument,
            "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
        )),
        (Some(_), _) => Err(S3Error::with_message(
            S3ErrorCode::InvalidEncryptionAlgorithmError,
            "The encryption request that you specified is not valid. The valid value is AES256.",
        )),
    }
}

/// Refuses keys that the client holds, which this service does not keep.
pub(super) fn no_customer_key(algorithm: Option<&String>) -> S3Result<()> {
    match algorithm {
        None => Ok(()),
        Some(_) => Err(S3Error::with_message(
            S3ErrorCode::NotImplemented,
            "Encryption with keys that the client holds is not implemented.",
        )),
    }
}
