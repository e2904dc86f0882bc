//! Requests and their answers, as far as a backup asks.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response, StatusCode};
use md5::{Digest as _, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::keys::{Keys, Said};
use super::page::{Asked, Line, Page, Shelf};
use super::store::{Bucket, Copies, Document};
use super::time::{http, iso, now};
use super::{Oddity, Options, SOURCE};

type Answer = Response<Full<Bytes>>;

/// What a listing spells as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Everything an answer needs.
#[derive(Debug)]
pub(super) struct Answers {
    options: Options,
    keys: Keys,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    buckets: HashMap<String, Bucket>,
    counts: BTreeMap<String, u64>,
    changed: bool,
    uploads: u64,
}

/// A request, taken apart.
struct Asking {
    method: Method,
    bucket: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

impl Asking {
    fn is(&self, parameter: &str) -> bool {
        self.query.contains_key(parameter)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn text(&self, parameter: &str) -> Option<&str> {
        self.query.get(parameter).map(String::as_str).filter(|text| !text.is_empty())
    }
}

impl Answers {
    pub fn new(options: Options) -> Self {
        let keys = Keys::new(options.objects);
        Self { options, keys, state: Mutex::default() }
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.state().counts.clone()
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return Ok(refused(StatusCode::BAD_REQUEST, "IncompleteBody")) };
        let path = decoded(head.uri.path().trim_start_matches('/'));
        let (bucket, key) = path.split_once('/').unwrap_or((path.as_str(), ""));
        let query = head.uri.query().unwrap_or("").split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let asking = Asking {
            method: head.method,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            query: query.map(|(name, value)| (decoded(name), decoded(&value.replace('+', "%20")))).collect(),
            body: content(&head.headers, body.to_bytes()),
            headers: head.headers,
        };
        Ok(if asking.bucket == "-" { self.steered(&asking) } else { self.served(&asking) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn steered(&self, asking: &Asking) -> Answer {
        let named = asking.query.keys().next().map_or("", String::as_str);
        let mut state = self.state();
        let text = match asking.key.as_str() {
            "counts" => serde_json::json!(state.counts).to_string(),
            "reset" => {
                state.counts.clear();
                String::new()
            }
            "change" => {
                state.changed = true;
                String::new()
            }
            "keys" => {
                let keys = state.buckets.get(named).map(|bucket| bucket.documents.keys().cloned().collect::<Vec<_>>());
                serde_json::json!(keys.unwrap_or_default()).to_string()
            }
            "preset" => {
                let (bucket, root) = named.split_once('/').unwrap_or((named, ""));
                let copies = Copies::new(root.to_owned(), &self.keys, u64::MAX, now());
                state.buckets.entry(bucket.to_owned()).or_default().copies.push(copies);
                String::new()
            }
            _ => return refused(StatusCode::NOT_FOUND, "NoSuchWord"),
        };
        Response::new(Full::from(text))
    }

    fn served(&self, asking: &Asking) -> Answer {
        let (name, answer): (&str, fn(&Self, &Asking) -> Answer) = match (&asking.method, asking.key.is_empty()) {
            (&Method::GET, true) if asking.is("versioning") => {
                ("GetBucketVersioning", |_, _| xml("<VersioningConfiguration/>"))
            }
            (&Method::GET, true) if asking.is("uploads") => ("ListMultipartUploads", |_, _| {
                xml("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
            }),
            (&Method::GET, true) if asking.is("list-type") => ("ListObjectsV2", Self::list),
            (&Method::GET, true) if !OTHERS.iter().any(|other| asking.is(other)) => ("ListObjects", Self::list),
            (&Method::POST, true) if asking.is("delete") => ("DeleteObjects", Self::delete_many),
            (&Method::GET, false) if asking.is("tagging") => {
                ("GetObjectTagging", |_, _| xml("<Tagging><TagSet></TagSet></Tagging>"))
            }
            (&Method::HEAD, false) => ("HeadObject", Self::read),
            (&Method::GET, false) => ("GetObject", Self::read),
            (&Method::PUT, false) if asking.is("uploadId") => ("UploadPart", Self::part),
            (&Method::PUT, false) if asking.header("x-amz-copy-source").is_some() => ("CopyObject", Self::copy),
            (&Method::PUT, false) => ("PutObject", Self::put),
            (&Method::POST, false) if asking.is("uploads") => ("CreateMultipartUpload", Self::begin),
            (&Method::POST, false) if asking.is("uploadId") => ("CompleteMultipartUpload", Self::complete),
            (&Method::DELETE, false) if asking.is("uploadId") => ("AbortMultipartUpload", |_, _| empty()),
            (&Method::DELETE, false) => ("DeleteObject", |answers, asking| {
                answers.delete(&asking.bucket, &asking.key);
                empty()
            }),
            _ => ("other", |_, _| refused(StatusCode::NOT_IMPLEMENTED, "NotImplemented")),
        };
        *self.state().counts.entry(name.to_owned()).or_default() += 1;
        answer(self, asking)
    }

    fn list(&self, asking: &Asking) -> Answer {
        let second = asking.is("list-type");
        let oddity = self.options.oddity;
        if second && oddity == Oddity::FirstVersionOnly {
            return refused(StatusCode::NOT_IMPLEMENTED, "NotImplemented");
        }
        let limit = asking.text("max-keys").and_then(|text| text.parse().ok()).unwrap_or(1_000_usize);
        let mut asked = Asked {
            prefix: asking.text("prefix").unwrap_or("").to_owned(),
            delimiter: asking.text("delimiter").map(str::to_owned),
            limit: limit.min(self.options.page),
            ..Asked::default()
        };
        let after = if second { asking.text("start-after") } else { asking.text("marker") };
        after.unwrap_or("").clone_into(&mut asked.after);
        // The marker of a page that ended with a folder is that folder.
        let rolled_up = |text: &String| !second && !text.is_empty() && asked.after.ends_with(text);
        asked.past = asked.delimiter.as_ref().filter(|text| rolled_up(text)).map(|_| asked.after.clone());
        let token = asking.text("continuation-token").unwrap_or("");
        let round = token.strip_prefix('o').and_then(|text| text.parse::<u32>().ok());
        match token.split_at_checked(1) {
            Some(("p", folder)) => asked.past = Some(folder.to_owned()),
            Some(("k", key)) => key.clone_into(&mut asked.after),
            _ => {}
        }
        let page = {
            let state = self.state();
            let nothing = Bucket::default();
            let bucket = state.buckets.get(&asking.bucket).unwrap_or(&nothing);
            let generated = asking.bucket == SOURCE;
            Shelf { bucket, keys: &self.keys, generated, changed: state.changed }.page(&asked)
        };
        let next = match page.lines.last() {
            Some(_) if oddity == Oddity::NoToken => None,
            Some(_) if oddity == Oddity::Circle => Some(format!("o{}", (round.unwrap_or(0) + 1) % 3)),
            Some(Line::Folder(folder)) => Some(format!("p{folder}")),
            Some(Line::Object(key, _)) => Some(format!("k{key}")),
            None => None,
        };
        let spelled = asking.is("encoding-type") && oddity != Oddity::NoSpelling;
        xml(&listing(&page, next.filter(|_| second && page.more).as_deref(), spelled))
    }

    fn find(&self, bucket: &str, key: &str) -> Option<(Said, Option<Document>)> {
        let state = self.state();
        if bucket == SOURCE
            && let Some(number) = self.keys.number(key)
        {
            return Some((self.keys.said(number, state.changed && Keys::may_change(number)), None));
        }
        let bucket = state.buckets.get(bucket)?;
        if let Some(document) = bucket.documents.get(key) {
            return Some((document.said.clone(), Some(document.clone())));
        }
        let (copies, number, changed) = bucket.copy(&self.keys, key)?;
        Some((copies.said(&self.keys, number, changed), None))
    }

    fn read(&self, asking: &Asking) -> Answer {
        let Some((said, document)) = self.find(&asking.bucket, &asking.key) else {
            return refused(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        let answer =
            Response::builder().header("etag", quoted(&said.etag)).header("last-modified", http(said.modified));
        let length = usize::try_from(said.size).expect("an object fits in memory");
        if asking.method == Method::HEAD {
            return built(answer.header("content-length", length), Bytes::new());
        }
        let kind = document.as_ref().and_then(|document| document.content_type.clone());
        let bytes = document.map_or_else(|| Bytes::from(vec![b'x'; length]), |document| document.bytes);
        let answer = answer.header("content-type", kind.unwrap_or_else(|| "binary/octet-stream".to_owned()));
        let range = asking.header("range").and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
        let Some((first, last)) = range else { return built(answer, bytes) };
        let (first, last) = (first.parse().unwrap_or(0), last.parse().map_or(length, |last: usize| last + 1));
        let piece = bytes.slice(first.min(length)..last.min(length));
        let range = format!("bytes {first}-{}/{length}", first + piece.len().saturating_sub(1));
        built(answer.status(StatusCode::PARTIAL_CONTENT).header("content-range", range), piece)
    }

    fn put(&self, asking: &Asking) -> Answer {
        let mut state = self.state();
        let bucket = state.buckets.entry(asking.bucket.clone()).or_default();
        if asking.header("if-none-match") == Some("*") && bucket.documents.contains_key(&asking.key) {
            return refused(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        let etag = hex(&Md5::digest(&asking.body));
        store(bucket, asking, asking.body.clone(), etag.clone());
        built(Response::builder().header("etag", quoted(&etag)), Bytes::new())
    }

    fn copy(&self, asking: &Asking) -> Answer {
        let source = decoded(asking.header("x-amz-copy-source").unwrap_or("").trim_start_matches('/'));
        let (from, key) = source.split_once('/').unwrap_or((source.as_str(), ""));
        let Some((said, document)) = self.find(from, key) else {
            return refused(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        let wanted = asking.header("x-amz-copy-source-if-match");
        if wanted.is_some_and(|etag| etag.trim_matches('"') != said.etag) {
            return refused(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        let mut state = self.state();
        let bucket = state.buckets.entry(asking.bucket.clone()).or_default();
        let at = match (document, self.keys.number(key)) {
            (Some(document), _) => {
                store(bucket, asking, document.bytes, said.etag.clone());
                now()
            }
            (None, Some(number)) => {
                let Some(root) = asking.key.strip_suffix(key) else {
                    return refused(StatusCode::NOT_IMPLEMENTED, "NotImplemented");
                };
                let changed = said.etag == self.keys.said(number, true).etag;
                let copies = bucket.copies_below(root, &self.keys, now());
                copies.set(number, changed);
                copies.said(&self.keys, number, changed).modified
            }
            (None, None) => return refused(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        };
        xml(&format!(
            "<CopyObjectResult><ETag>&quot;{}&quot;</ETag><LastModified>{}</LastModified></CopyObjectResult>",
            said.etag,
            iso(at)
        ))
    }

    fn begin(&self, asking: &Asking) -> Answer {
        let mut state = self.state();
        state.uploads += 1;
        let id = format!("upload-{}", state.uploads);
        state.buckets.entry(asking.bucket.clone()).or_default().uploads.insert(id.clone(), BTreeMap::new());
        xml(&format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
    }

    fn part(&self, asking: &Asking) -> Answer {
        let number = asking.text("partNumber").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut state = self.state();
        let bucket = state.buckets.entry(asking.bucket.clone()).or_default();
        let Some(parts) = asking.text("uploadId").and_then(|id| bucket.uploads.get_mut(id)) else {
            return refused(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        parts.insert(number, asking.body.clone());
        built(Response::builder().header("etag", quoted(&hex(&Md5::digest(&asking.body)))), Bytes::new())
    }

    fn complete(&self, asking: &Asking) -> Answer {
        let mut state = self.state();
        let bucket = state.buckets.entry(asking.bucket.clone()).or_default();
        let Some(parts) = asking.text("uploadId").and_then(|id| bucket.uploads.remove(id)) else {
            return refused(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        if asking.header("if-none-match") == Some("*") && bucket.documents.contains_key(&asking.key) {
            return refused(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        let sums: Vec<u8> = parts.values().flat_map(Md5::digest).collect();
        let etag = format!("{}-{}", hex(&Md5::digest(sums)), parts.len());
        let bytes: Vec<u8> = parts.values().flatten().copied().collect();
        store(bucket, asking, Bytes::from(bytes), etag.clone());
        xml(&format!("<CompleteMultipartUploadResult><ETag>&quot;{etag}&quot;</ETag></CompleteMultipartUploadResult>"))
    }

    fn delete(&self, bucket: &str, key: &str) {
        let mut state = self.state();
        let Some(bucket) = state.buckets.get_mut(bucket) else { return };
        bucket.documents.remove(key);
        for copies in &mut bucket.copies {
            if let Some(number) = key.strip_prefix(copies.root.as_str()).and_then(|rest| self.keys.number(rest)) {
                copies.unset(number);
            }
        }
    }

    fn delete_many(&self, asking: &Asking) -> Answer {
        let text = String::from_utf8_lossy(&asking.body).into_owned();
        for piece in text.split("<Key>").skip(1) {
            let key = piece.split("</Key>").next().unwrap_or("");
            self.delete(&asking.bucket, &key.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"));
        }
        xml("<DeleteResult></DeleteResult>")
    }
}

/// What a bucket may be asked that is no listing.
const OTHERS: [&str; 8] =
    ["location", "versions", "lifecycle", "policyStatus", "policy", "object-lock", "encryption", "acl"];

fn store(bucket: &mut Bucket, asking: &Asking, bytes: Bytes, etag: String) {
    let said = Said { size: bytes.len() as u64, etag, modified: now() };
    let content_type = asking.header("content-type").map(str::to_owned);
    bucket.documents.insert(asking.key.clone(), Document { bytes, said, content_type });
}

/// A page as XML; of the first version of the request, too, except for where it goes on.
fn listing(page: &Page, next: Option<&str>, spelled: bool) -> String {
    let spell = |key: &str| {
        if spelled { utf8_percent_encode(key, PLAIN).to_string() } else { escaped(key) }
    };
    let mut text = String::with_capacity(page.lines.len() * 300);
    text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>");
    // Writing to a string cannot fail.
    let _ = write!(text, "<IsTruncated>{}</IsTruncated><KeyCount>{}</KeyCount>", page.more, page.lines.len());
    if spelled {
        text.push_str("<EncodingType>url</EncodingType>");
    }
    if let Some(next) = next {
        let _ = write!(text, "<NextContinuationToken>{}</NextContinuationToken>", escaped(next));
    }
    for line in &page.lines {
        let _ = match line {
            Line::Object(key, said) => write!(
                text,
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>",
                spell(key),
                iso(said.modified),
                said.etag,
                said.size
            ),
            Line::Folder(folder) => {
                write!(text, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", spell(folder))
            }
        };
    }
    text.push_str("</ListBucketResult>");
    text
}

/// The body without the chunks that a signed stream comes in.
fn content(headers: &HeaderMap, body: Bytes) -> Bytes {
    let streamed = headers.get("x-amz-content-sha256").is_some_and(|value| value.as_bytes().starts_with(b"STREAMING"));
    if !streamed {
        return body;
    }
    let (mut rest, mut found) = (&body[..], Vec::with_capacity(body.len()));
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let length = usize::from_str_radix(head.split(';').next().unwrap_or(""), 16).unwrap_or(0);
        let Some(chunk) = rest.get(end + 2..end + 2 + length).filter(|chunk| !chunk.is_empty()) else { break };
        found.extend_from_slice(chunk);
        rest = rest.get(end + 2 + length + 2..).unwrap_or(&[]);
    }
    Bytes::from(found)
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn xml(text: &str) -> Answer {
    built(Response::builder().header("content-type", "application/xml"), Bytes::from(text.to_owned()))
}

fn empty() -> Answer {
    built(Response::builder().status(StatusCode::NO_CONTENT), Bytes::new())
}

fn refused(status: StatusCode, code: &str) -> Answer {
    let text = format!("<Error><Code>{code}</Code><Message>as was to be expected</Message></Error>");
    built(Response::builder().status(status).header("content-type", "application/xml"), Bytes::from(text))
}

fn built(answer: hyper::http::response::Builder, bytes: Bytes) -> Answer {
    answer.body(Full::new(bytes)).expect("headers made of digits and letters")
}
