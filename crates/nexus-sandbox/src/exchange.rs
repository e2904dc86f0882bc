//! One HTTP request and its answer, or the lack of one: counting, faults, and the S3 service between.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, HeaderValue};
use hyper::{HeaderMap, Request, Response, StatusCode};
use s3s::Body;
use s3s::service::S3Service;

use crate::fault::{Fault, FaultRules, Stop};
use crate::operation_name::operation_name;
use crate::options::Throttling;
use crate::store::Store;
use crate::timestamps::http_date;

/// The most requests that the log remembers.
const LOGGED: usize = 10_000;

/// Everything that an answer needs.
pub(crate) struct Exchange {
    pub s3: S3Service,
    pub store: Arc<Store>,
    pub record: Mutex<Record>,
    /// How long each answer waits.
    pub latency: Duration,
}

/// What has been asked of the service, and what is to go wrong.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub requests: u64,
    /// Bytes of content in puts and parts, and in answers to gets.
    pub sent: u64,
    pub received: u64,
    pub operations: BTreeMap<String, u64>,
    pub log: VecDeque<String>,
    pub faults: FaultRules,
}

/// The connection is to be closed without an answer.
#[derive(Debug)]
pub(crate) struct Closed;

impl Exchange {
    /// Answers a request, or fails so that the connection is closed.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Closed> {
        let operation =
            operation_name(request.method(), request.uri().path(), request.uri().query(), request.headers());
        let (fault, stop) = self.noted(&request, operation);
        if let Some(stop) = stop {
            stop.wait().await;
        }
        match fault {
            None => {
                let sent = matches!(operation, "PutObject" | "UploadPart").then(|| content_length(request.headers()));
                let answer = self.carried_out(request, operation).await?;
                if !self.latency.is_zero() {
                    tokio::time::sleep(self.latency).await;
                }
                let got = (operation == "GetObject").then(|| content_length(answer.headers()));
                let mut record = self.record();
                record.sent += sent.unwrap_or(0);
                record.received += got.unwrap_or(0);
                drop(record);
                Ok(answer)
            }
            Some(fault) => self.struck(request, operation, fault).await,
        }
    }

    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted(&self, request: &Request<Incoming>, operation: &str) -> (Option<Fault>, Option<Stop>) {
        let line = format!("{} {}", request.method(), request.uri());
        let mut record = self.record();
        record.requests += 1;
        *record.operations.entry(operation.to_owned()).or_default() += 1;
        if record.log.len() == LOGGED {
            record.log.pop_front();
        }
        record.log.push_back(line);
        (record.faults.strike(operation), record.faults.stopped(operation))
    }

    async fn struck(
        &self,
        request: Request<Incoming>,
        operation: &str,
        fault: Fault,
    ) -> Result<Response<Body>, Closed> {
        let late = matches!(operation, "CopyObject" | "UploadPartCopy" | "CompleteMultipartUpload");
        match fault {
            Fault::ErrorInside200 if late => self.refused(request, StatusCode::OK).await,
            Fault::Status500 | Fault::ErrorInside200 => self.refused(request, StatusCode::INTERNAL_SERVER_ERROR).await,
            Fault::Throttled if self.store.quirks.throttling == Throttling::RateLimit => {
                self.refused(request, StatusCode::FORBIDDEN).await
            }
            Fault::Status503SlowDown | Fault::Throttled => self.refused(request, StatusCode::SERVICE_UNAVAILABLE).await,
            Fault::Empty200 => {
                drain(request).await;
                Ok(self.dated(Response::new(Body::empty())))
            }
            Fault::Reset => Err(Closed),
            Fault::LostAnswer => {
                self.carried_out(request, operation).await?;
                Err(Closed)
            }
            Fault::CutBody => cut(self.carried_out(request, operation).await?).await,
            Fault::ShortBody => short(self.carried_out(request, operation).await?).await,
            Fault::Stall => std::future::pending().await,
            Fault::StallAfter => {
                self.carried_out(request, operation).await?;
                std::future::pending().await
            }
        }
    }

    async fn carried_out(&self, request: Request<Incoming>, operation: &str) -> Result<Response<Body>, Closed> {
        let answer = self.s3.call(with_one_encoding(request.map(Body::from))).await.map_err(|_| Closed)?;
        let bare = self.store.quirks.bare_etags.contains(&operation);
        let answer = if bare { with_bare_etags(answer) } else { answer };
        let weak = self.store.quirks.weak_etags && matches!(operation, "GetObject" | "HeadObject");
        let answer = if weak { with_weak_etag(answer) } else { answer };
        Ok(self.dated(with_character_references(answer)))
    }

    /// Answers with an error that the service made up, after the request's body has been read:
    /// unread bytes would make the client see a reset instead of the answer.
    async fn refused(&self, request: Request<Incoming>, status: StatusCode) -> Result<Response<Body>, Closed> {
        drain(request).await;
        let (code, message) = match status {
            StatusCode::SERVICE_UNAVAILABLE => ("SlowDown", "Please reduce your request rate."),
            StatusCode::FORBIDDEN => ("RequestRateLimitExceeded", "Your account exceeded the limit for requests."),
            _ => ("InternalError", "We encountered an internal error. Please try again."),
        };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        let mut answer = Response::new(Body::from(body));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        Ok(self.dated(answer))
    }

    fn dated(&self, mut answer: Response<Body>) -> Response<Body> {
        if let Ok(date) = HeaderValue::from_str(&http_date(self.store.now())) {
            answer.headers_mut().insert(DATE, date);
        }
        if let Ok(id) = HeaderValue::from_str(&self.store.serial()) {
            answer.headers_mut().insert("x-amz-request-id", id);
        }
        answer
    }
}

/// The length of a body as its head says it.
fn content_length(headers: &HeaderMap) -> u64 {
    headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// Joins several `Content-Encoding` headers into one, which means the same.
///
/// The Rust SDK sends the object's and `aws-chunked` apart, and the S3 crate refuses header fields
/// that come twice.
fn with_one_encoding(mut request: Request<Body>) -> Request<Body> {
    let sent = request.headers().get_all(CONTENT_ENCODING);
    let all: Vec<&[u8]> = sent.iter().map(HeaderValue::as_bytes).collect();
    if all.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&all.join(&b','))
    {
        request.headers_mut().insert(CONTENT_ENCODING, joined);
    }
    request
}

/// Reads a request's body to its end and forgets it.
async fn drain(request: Request<Incoming>) {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
}

/// The answer with half of its body, behind which the connection breaks.
async fn cut(answer: Response<Body>) -> Result<Response<Body>, Closed> {
    let (mut parts, body) = answer.into_parts();
    let whole = body.collect().await.map_err(|_| Closed)?.to_bytes();
    if whole.is_empty() {
        return Err(Closed);
    }
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len() as u64));
    let half =
        HalfBody { half: Some(whole.slice(..whole.len().div_ceil(2))), flushed: false, length: whole.len() as u64 };
    Ok(Response::from_parts(parts, Body::http_body(half)))
}

/// The answer with half of its body, and nothing that says so.
async fn short(answer: Response<Body>) -> Result<Response<Body>, Closed> {
    let (mut parts, body) = answer.into_parts();
    let whole = body.collect().await.map_err(|_| Closed)?.to_bytes();
    if whole.is_empty() {
        return Err(Closed);
    }
    parts.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(whole.slice(..whole.len().div_ceil(2)))))
}

/// Takes the quotes from the `ETag` of an XML answer.
fn with_bare_etags(answer: Response<Body>) -> Response<Body> {
    let Some(text) = answer.body().bytes().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()) else {
        return answer;
    };
    let (mut parts, _) = answer.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let text = text.replace("&quot;", "\"").replace("<ETag>\"", "<ETag>").replace("\"</ETag>", "</ETag>");
    Response::from_parts(parts, Body::from(text.into_bytes()))
}

/// Marks the `ETag` of an answer as weak.
fn with_weak_etag(mut answer: Response<Body>) -> Response<Body> {
    let weak =
        answer.headers().get(ETAG).and_then(|etag| HeaderValue::from_str(&format!("W/{}", etag.to_str().ok()?)).ok());
    if let Some(weak) = weak {
        answer.headers_mut().insert(ETAG, weak);
    }
    answer
}

/// Writes control characters in an XML answer as references, as Amazon S3 does.
///
/// XML 1.0 allows them in neither form, but some readers, the Rust SDK's among them, take the
/// references; those that do not fail on such keys unless they ask for `encoding-type=url`.
fn with_character_references(answer: Response<Body>) -> Response<Body> {
    let is_xml = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/xml");
    let Some(bytes) = answer.body().bytes().filter(|_| is_xml) else {
        return answer;
    };
    if !bytes.iter().any(|byte| unwritable(*byte)) {
        return answer;
    }
    let mut text = Vec::with_capacity(bytes.len() + 64);
    for byte in &bytes {
        if unwritable(*byte) {
            text.extend_from_slice(format!("&#x{byte:x};").as_bytes());
        } else {
            text.push(*byte);
        }
    }
    let (mut parts, _) = answer.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(text))
}

fn unwritable(byte: u8) -> bool {
    byte < b' ' && byte != b'\n' && byte != b'\t'
}

/// A body that says it is whole and fails half-way.
struct HalfBody {
    half: Option<Bytes>,
    flushed: bool,
    length: u64,
}

impl http_body::Body for HalfBody {
    type Data = Bytes;
    type Error = Closed;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Closed>>> {
        if let Some(half) = self.half.take() {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        if !self.flushed {
            // The half is written out only while the body has nothing more to give.
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(Closed)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the connection is closed on purpose")
    }
}

impl std::error::Error for Closed {}
