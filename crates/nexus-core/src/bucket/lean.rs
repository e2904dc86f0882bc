//! The requests that are made for every file, a copy on the service's side and a put, without what the SDK does around a request.
//!
//! They say less and ask less: a success is an ETag in the answer, three refusals are understood, and whatever else comes back is
//! left to the SDK, which makes the same request once more. Only for endpoints that are named, by path: how Amazon's own
//! hosts are called the SDK knows. Measured: a copy takes half the processor time of the SDK's.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::CONTENT_LENGTH;
use hyper::http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, utf8_percent_encode};
use tokio::sync::Mutex;

use super::failure::{Failure, FailureKind, said};
use super::s3::{CONNECT, bare};
use super::transfer::COPY_SOURCE;

/// The header by which a service checks what it gets.
pub(super) const CONTENT_MD5: &str = "content-md5";
/// What stays as it is in the query of an address.
const QUERY: &AsciiSet = &COPY_SOURCE.add(b'/');
/// The most that an answer may hold.
const LONGEST: usize = 64 * 1024;
/// Credentials that run out sooner are asked for anew.
const RUN_OUT: Duration = Duration::from_mins(5);

/// Who signs, for which region, by which clock.
#[derive(Clone)]
pub struct Signer {
    /// Where credentials come from.
    pub credentials: SharedCredentialsProvider,
    /// The region that requests are signed for.
    pub region: String,
    /// The machine's clock.
    pub clock: fn() -> SystemTime,
}

/// What goes out with a request.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A client that makes copies and puts and nothing else.
pub(crate) struct Lean {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    endpoint: String,
    signer: Signer,
    held: Mutex<Option<Credentials>>,
    copies: Left,
    puts: Left,
}

/// Requests of one kind in a row that were left to the SDK.
#[derive(Debug, Default)]
struct Left(AtomicU32);

impl Left {
    /// After so many in a row all are.
    const IN_VAIN: u32 = 16;

    fn all(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Self::IN_VAIN
    }

    fn note<T>(&self, done: &std::result::Result<Option<T>, Failure>) {
        if matches!(done, Ok(None)) {
            self.0.fetch_add(1, Ordering::Relaxed);
        } else {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}

/// A copy to be made.
pub(crate) struct Copy<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    /// As the header has it: encoded, with the version.
    pub(crate) source: &'a str,
    pub(crate) condition: Option<&'a str>,
    pub(crate) class: Option<&'a str>,
    pub(crate) encryption: Option<&'a str>,
}

/// What the service says of a copy that it made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// Without quotes.
    pub(crate) etag: String,
    pub(crate) modified: Option<Timestamp>,
}

/// A content to be stored.
pub(crate) struct Put<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    /// The upload that it is a part of, and its number there.
    pub(crate) part: Option<(&'a str, i32)>,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// Bytes.
    pub(crate) length: u64,
    /// Of the content, hexadecimal: the request is signed with it, and refused where what arrives has another.
    pub(crate) sha256: &'a str,
    /// The content, anew for each try.
    pub(crate) body: &'a (dyn Fn() -> Body + Sync),
}

/// What the service says of what it stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Without quotes.
    pub(crate) etag: String,
    /// The CRC64NVME, as S3 writes it, that the service computed of its own accord.
    pub(crate) crc64: Option<String>,
}

/// A request before it is signed.
struct Asked<'a> {
    bucket: &'a str,
    key: &'a str,
    /// With its question mark; empty where there is none.
    query: &'a str,
    headers: &'a [(&'a str, &'a str)],
    /// Of its content, in bytes.
    length: u64,
    broken: Broken,
}

/// What becomes of a request whose connection breaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// The SDK makes it again at once.
    Left,
    /// It has failed, and is tried again later.
    Failed,
}

impl fmt::Debug for Lean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lean").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Lean {
    /// A client for an endpoint; `None` for one that is more than scheme and host, or when this machine has no roots to trust.
    pub(crate) fn new(endpoint: &str, signer: Signer) -> Option<Self> {
        let host = endpoint.split_once("://")?.1.trim_end_matches('/');
        if host.contains(['/', '?', '#', '@']) {
            return None;
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        let roots = HttpsConnectorBuilder::new().with_native_roots().ok()?;
        let https = roots.https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).build(https);
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let (copies, puts) = (Left::default(), Left::default());
        Some(Self { client, endpoint, signer, held: Mutex::new(None), copies, puts })
    }

    /// Makes a copy; `None` leaves it to the SDK, whatever became of it.
    pub(crate) async fn copy(&self, copy: &Copy<'_>) -> std::result::Result<Option<Made>, Failure> {
        if self.copies.all() {
            return Ok(None);
        }
        let headers = [
            ("x-amz-copy-source", Some(copy.source)),
            ("x-amz-copy-source-if-match", copy.condition),
            ("x-amz-storage-class", copy.class),
            ("x-amz-server-side-encryption", copy.encryption),
        ];
        let headers: Vec<_> = headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let nothing = || Empty::new().map_err(|never| match never {}).boxed_unsync();
        let asked =
            Asked { bucket: copy.bucket, key: copy.key, query: "", headers: &headers, length: 0, broken: Broken::Left };
        let made = self.made(&asked, SignableBody::Bytes(&[]), nothing).await;
        let made = made.map(|answer| answer.and_then(|(_, body)| made_of(&body)));
        self.copies.note(&made);
        made
    }

    /// False once puts are all left to the SDK.
    pub(crate) fn puts(&self) -> bool {
        !self.puts.all()
    }

    /// Stores a content; `None` leaves it to the SDK, whatever became of it.
    pub(crate) async fn put(&self, put: &Put<'_>) -> std::result::Result<Option<Stored>, Failure> {
        if self.puts.all() {
            return Ok(None);
        }
        let query = put.part.map_or_else(String::new, |(upload, number)| {
            format!("?partNumber={number}&uploadId={}", utf8_percent_encode(upload, QUERY))
        });
        let asked = Asked {
            bucket: put.bucket,
            key: put.key,
            query: &query,
            headers: put.headers,
            length: put.length,
            broken: Broken::Failed,
        };
        let body = SignableBody::Precomputed(put.sha256.to_owned());
        let stored = match self.made(&asked, body, put.body).await {
            // It had no condition: what the service means by that, the SDK may find out.
            Err(failure) if failure.kind == FailureKind::Precondition => Ok(None),
            stored => stored.map(|answer| answer.and_then(|(headers, _)| stored_of(&headers))),
        };
        // What is refused without a `Content-MD5` goes with one.
        if put.headers.iter().any(|(name, _)| *name == CONTENT_MD5) || !matches!(stored, Ok(None)) {
            self.puts.note(&stored);
        }
        stored
    }

    /// Makes a request; its answer where that is a success.
    async fn made(
        &self,
        asked: &Asked<'_>,
        signable: SignableBody<'_>,
        body: impl Fn() -> Body,
    ) -> std::result::Result<Option<(HeaderMap, Bytes)>, Failure> {
        let Some(request) = self.request(asked, signable, body).await else { return Ok(None) };
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(cause) if asked.broken == Broken::Failed => return Err(Failure::transient(told(&cause))),
            Err(_) => return Ok(None),
        };
        let (head, body) = answer.into_parts();
        let Ok(body) = Limited::new(body, LONGEST).collect().await else { return Ok(None) };
        let body = body.to_bytes();
        match head.status {
            StatusCode::OK => Ok(Some((head.headers, body))),
            StatusCode::PRECONDITION_FAILED => Err(Failure::changed("the source is not as it was listed (HTTP 412)")),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let said = format!("the service asks for less (HTTP {})", head.status.as_u16());
                Err(Failure::throttled(said))
            }
            // The SDK reads what it is that the service cannot do.
            StatusCode::NOT_IMPLEMENTED => Ok(None),
            status if status.is_server_error() => {
                let status = status.as_u16();
                let words = said(&body).map(|(code, message)| format!("{code}: {message} (HTTP {status})"));
                Err(Failure::transient(words.unwrap_or_else(|| format!("the service answered HTTP {status}"))))
            }
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                // They may have been replaced.
                *self.held.lock().await = None;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn request(
        &self,
        asked: &Asked<'_>,
        signable: SignableBody<'_>,
        body: impl Fn() -> Body,
    ) -> Option<Request<Body>> {
        let key = utf8_percent_encode(asked.key, COPY_SOURCE);
        let uri = format!("{}/{}/{key}{}", self.endpoint, asked.bucket, asked.query);
        let identity = self.credentials().await?.into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let signing = v4::SigningParams::builder().identity(&identity).region(&self.signer.region).name("s3");
        let signing = signing.time((self.signer.clock)()).settings(settings).build().ok()?.into();
        let headers = asked.headers.iter().copied();
        let signable = SignableRequest::new(Method::PUT.as_str(), &uri, headers.clone(), signable).ok()?;
        let (instructions, _) = sign(signable, &signing).ok()?.into_parts();
        let mut request = Request::put(&uri).body(body()).ok()?;
        for (name, value) in headers {
            request.headers_mut().insert(HeaderName::try_from(name).ok()?, value.parse().ok()?);
        }
        request.headers_mut().insert(CONTENT_LENGTH, asked.length.into());
        instructions.apply_to_request_http1x(&mut request);
        Some(request)
    }

    async fn credentials(&self) -> Option<Credentials> {
        let now = (self.signer.clock)();
        let lasts = |held: &Credentials| held.expiry().is_none_or(|expiry| expiry > now + RUN_OUT);
        // One asks, the others wait for what it gets.
        let mut held = self.held.lock().await;
        if let Some(lasting) = held.as_ref().filter(|held| lasts(held)) {
            return Some(lasting.clone());
        }
        *held = self.signer.credentials.provide_credentials().await.ok();
        held.clone()
    }
}

/// What a connection broke by, with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}

/// Reads the answer to a put; nothing where it has no ETag.
fn stored_of(headers: &HeaderMap) -> Option<Stored> {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let etag = said("etag").map(bare).filter(|etag| !etag.is_empty())?;
    Some(Stored { etag, crc64: said("x-amz-checksum-crc64nvme").map(str::to_owned) })
}

/// Reads `<CopyObjectResult>`; nothing where it has no ETag, as when an error lies inside a success.
fn made_of(body: &[u8]) -> Option<Made> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.contains("<CopyObjectResult"))?;
    let between = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(value, _)| value)
    };
    let etag = between("ETag")?.replace("&quot;", "\"").replace("&#34;", "\"");
    let etag = bare(&etag);
    let modified = between("LastModified").and_then(|time| time.parse().ok());
    (!etag.is_empty() && !etag.contains(['&', '<'])).then_some(Made { etag, modified })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_when_the_answer_has_an_etag_and_only_then() {
        let of = |body: &str| made_of(body.as_bytes());
        let whole = "<?xml version=\"1.0\"?>\n<CopyObjectResult xmlns=\"x\"><LastModified>2026-01-02T03:04:05.000Z</LastModified>\
                     <ETag>&quot;9b2cf535f27731c974343645a3985328&quot;</ETag></CopyObjectResult>";
        let etag = "9b2cf535f27731c974343645a3985328".to_owned();
        let modified = Some("2026-01-02T03:04:05Z".parse().expect("a time"));
        assert_eq!(of(whole), Some(Made { etag: etag.clone(), modified }));
        let plain = format!("<CopyObjectResult><ETag>\"{etag}\"</ETag></CopyObjectResult>");
        assert_eq!(of(&plain), Some(Made { etag, modified: None }));
        for none in [
            "",
            "<Error><Code>SlowDown</Code></Error>",
            "<CopyObjectResult><ETag></ETag></CopyObjectResult>",
            &whole[..120],
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn a_put_is_made_when_the_answer_has_an_etag_and_only_then() {
        let of = |headers: &[(&'static str, &str)]| {
            let pairs =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")));
            stored_of(&pairs.collect())
        };
        let crc64 = ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=");
        let stored = |crc64: Option<&str>| Stored { etag: "a-1".into(), crc64: crc64.map(str::to_owned) };
        assert_eq!(of(&[("etag", "\"a-1\"")]), Some(stored(None)));
        assert_eq!(of(&[("etag", "W/\"a-1\""), crc64]), Some(stored(Some(crc64.1))));
        assert_eq!((of(&[crc64]), of(&[("etag", "\"\"")])), (None, None));
    }
}
