//! One S3 bucket: listing, reading, small writes, removal. Retries and pace are ours, above the SDK's single tries.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, EncodingType};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::blank::{Unmarked, marked};
use super::ended::Ended;
use super::failure::{Failure, FailureKind, failure};
use super::hashes::{Hasher, Hashes};
use super::lean::{self, Lean, Signer};
use super::learned::Learned;
use super::list::Shown;
use super::pace::{Limits, Pace};
use super::{Object, SMALL};
use crate::error::{Error, Result};
use crate::listing::{FileKind, Side, hex};
use crate::local::create_private;
use crate::point::FileHash;

/// Keys in one batch of removals; the most that S3 takes.
pub(super) const BATCH: usize = 1_000;
/// Stands for the bytes of an answer that may be long: it is its chunks that must come in time, not its end.
const UNHURRIED: u64 = 1 << 40;
/// How long one connection may take to be made.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// Uploads that are given up at once.
const GIVEN_UP: usize = 8;
/// How long requests that begin an upload are waited for when work is given up.
const BEGINNING: Duration = Duration::from_millis(800);

/// A client for one S3 service, with the limits that all its buckets share.
#[derive(Debug, Clone)]
pub struct Service {
    pub(crate) client: Client,
    pub(crate) pace: Arc<Pace>,
    endpoint: Option<String>,
    /// What makes copies with less ado, where the endpoint is a named one.
    lean: Option<Arc<Lean>>,
    /// Whose rights it has, where two accounts of one service are told apart.
    account: Option<String>,
    /// Multipart uploads that were begun and not ended, by bucket, key and id: work that is dropped leaves them here.
    open: Arc<Mutex<BTreeSet<(String, String, String)>>>,
    /// Requests that begin an upload and were not answered yet: they are not dropped with the work that made them.
    beginning: Arc<Mutex<JoinSet<()>>>,
    shown: Arc<Shown>,
    /// What it turned out to do and not to do.
    pub(super) learned: Arc<Learned>,
}

impl Service {
    /// Makes the client: its own HTTP connections, no retries of its own; `seed` spreads the waits between tries.
    pub fn new(config: aws_sdk_s3::config::Builder, endpoint: Option<String>, limits: Limits, seed: u64) -> Self {
        use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut config = config
            .http_client(http)
            .interceptor(Unmarked)
            .interceptor(Ended)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build());
        if let Some(url) = &endpoint {
            use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
            // Services of other makers often refuse the checksum trailers that the SDK sends by default.
            config = config
                .interceptor(WithoutName)
                .endpoint_url(url)
                .force_path_style(true)
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        let (client, pace) = (Client::from_conf(config.build()), Arc::new(Pace::new(limits, seed)));
        Self {
            client,
            pace,
            endpoint,
            lean: None,
            account: None,
            open: Arc::default(),
            beginning: Arc::default(),
            shown: Arc::default(),
            learned: Arc::default(),
        }
    }

    /// Has copies made with less ado: half the processor time of what the SDK takes for one.
    #[must_use]
    pub fn with_signer(mut self, signer: Signer) -> Self {
        let lean = self.endpoint.as_deref().and_then(|endpoint| Lean::new(endpoint, signer));
        self.lean = lean.map(Arc::new);
        self
    }

    /// Tells its account from others on the same service: between two, content goes through this machine, so that neither
    /// needs rights in the other's buckets.
    #[must_use]
    pub fn of_account(mut self, account: Option<String>) -> Self {
        self.account = account;
        self
    }

    /// Gives up the multipart uploads that work which was dropped had begun: they hold nothing anybody can see, only cost.
    pub async fn give_up_uploads(&self) {
        // An upload that is begun this moment has no name yet by which it could be given up.
        let mut beginning = self.beginning.lock().map(|mut set| std::mem::take(&mut *set)).unwrap_or_default();
        let answered = async { while beginning.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(BEGINNING, answered).await;
        let left = self.open.lock().map(|mut open| std::mem::take(&mut *open)).unwrap_or_default();
        let abort = async |(bucket, key, id): (String, String, String)| self.bucket(&bucket).abort(&key, &id).await;
        stream::iter(left).map(abort).buffer_unordered(GIVEN_UP).collect::<()>().await;
    }

    /// One of its buckets.
    pub fn bucket(&self, name: &str) -> S3 {
        S3 { service: self.clone(), name: name.to_owned() }
    }
}

/// Takes the name of the operation out of addresses again, which the SDK adds as `x-id` and Google Cloud Storage refuses
/// (<https://github.com/rclone/rclone/blob/master/backend/s3/provider/GCS.yaml>); no service needs it.
#[derive(Debug)]
struct WithoutName;

impl Intercept for WithoutName {
    fn name(&self) -> &'static str {
        "addresses without the operation's name"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let request = context.request_mut();
        if let Some(plain) = without_name(request.uri()) {
            request.set_uri(plain)?;
        }
        Ok(())
    }
}

fn without_name(address: &str) -> Option<String> {
    let (path, query) = address.split_once('?')?;
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("x-id=")).collect();
    Some(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
}

/// One bucket of a service.
#[derive(Debug, Clone)]
pub struct S3 {
    pub(crate) service: Service,
    name: String,
}

/// An object with what only a HEAD request says.
#[derive(Debug, Clone)]
pub(crate) struct Headed {
    pub(crate) object: Object,
    pub(crate) headers: BTreeMap<String, String>,
    /// How many entries of its metadata cannot be said in headers.
    pub(crate) missing_meta: Option<i32>,
    /// How it is encrypted where it lies, as the service says.
    pub(crate) encryption: Option<String>,
    /// `sha256:<hex>` or `crc64nvme:<base64>` over the whole content, where the service was asked and has one.
    pub(crate) checksummed: Option<String>,
}

/// What is computed of an object while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digests {
    /// Its SHA-256.
    Sha256,
    /// All that it may be told by.
    All,
}

/// What reading an object gave.
pub(crate) struct Fetched {
    pub(crate) hash: FileHash,
    /// All of them, when they were asked for.
    pub(crate) hashes: Option<Hashes>,
    /// Of the object that was read.
    pub(crate) etag: Option<String>,
    pub(crate) headers: BTreeMap<String, String>,
}

impl S3 {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn endpoint(&self) -> Option<&str> {
        self.service.endpoint.as_deref()
    }

    /// What listings have shown of the service.
    pub(super) fn shown(&self) -> &Shown {
        &self.service.shown
    }

    /// Begins a multipart upload and answers its id.
    ///
    /// The request is not dropped with the work that waits for it: the service may have begun an upload by then of which
    /// nobody would know.
    pub(crate) async fn begin_upload(
        &self,
        request: CreateMultipartUploadFluentBuilder,
        key: &str,
    ) -> std::result::Result<String, Failure> {
        self.begin_upload_until(request, key, None).await
    }

    /// The same with the `Expires` that the object is to have, whatever it says.
    pub(crate) async fn begin_upload_until(
        &self,
        request: CreateMultipartUploadFluentBuilder,
        key: &str,
        expires: Option<String>,
    ) -> std::result::Result<String, Failure> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (s3, key) = (self.clone(), key.to_owned());
        let ask = async move {
            let request = request.bucket(s3.name()).key(marked(&key)).customize();
            let answer = request.mutate_request(expiring(expires)).send().await.map_err(failure);
            let id = answer.and_then(|answer| {
                let id = answer.upload_id().map(str::to_owned);
                id.ok_or_else(|| Failure::transient("the service gave no upload id"))
            });
            if let Ok(id) = &id {
                s3.begun(&key, id);
            }
            // Nobody waits for it any more.
            if let Err(Ok(id)) = tell.send(id) {
                let abort = s3.client().abort_multipart_upload().bucket(s3.name()).key(marked(&key)).upload_id(&id);
                if abort.send().await.is_ok() {
                    s3.ended(&key, &id);
                }
            }
        };
        if let Ok(mut beginning) = self.service.beginning.lock() {
            while beginning.try_join_next().is_some() {}
            beginning.spawn(ask);
        }
        told.await.unwrap_or_else(|_| Err(Failure::transient("the request that begins an upload was dropped")))
    }

    /// Notes an upload that was begun.
    pub(crate) fn begun(&self, key: &str, id: &str) {
        if let Ok(mut open) = self.service.open.lock() {
            open.insert((self.name.clone(), key.to_owned(), id.to_owned()));
        }
    }

    /// Notes that an upload was ended, either way.
    pub(crate) fn ended(&self, key: &str, id: &str) {
        if let Ok(mut open) = self.service.open.lock() {
            open.remove(&(self.name.clone(), key.to_owned(), id.to_owned()));
        }
    }

    /// Makes a copy with less ado; `None` leaves it to the SDK.
    pub(super) async fn copy_leanly(&self, copy: &lean::Copy<'_>) -> std::result::Result<Option<lean::Made>, Failure> {
        match &self.service.lean {
            Some(lean) => lean.copy(copy).await,
            None => Ok(None),
        }
    }

    /// Stores a content with less ado; `None` leaves it to the SDK.
    pub(super) async fn put_leanly(&self, put: &lean::Put<'_>) -> std::result::Result<Option<lean::Stored>, Failure> {
        match &self.service.lean {
            Some(lean) => lean.put(put).await,
            None => Ok(None),
        }
    }

    /// True when contents can be stored with less ado, as far as is known.
    pub(super) fn puts_leanly(&self) -> bool {
        self.service.lean.as_ref().is_some_and(|lean| lean.puts())
    }

    /// True when the two lie on one service and in one account, so that it copies from one into the other by itself.
    pub(crate) fn shares_service_with(&self, other: &S3) -> bool {
        self.service.endpoint == other.service.endpoint && self.service.account == other.service.account
    }

    pub(crate) fn client(&self) -> &Client {
        &self.service.client
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.service.pace.limits
    }

    /// Tries a request until it succeeds, fails for good, or has been tried often enough.
    ///
    /// `bytes` is what the service has to move for it: the patience grows with it, a second for each 4 MiB.
    pub(crate) fn attempt<T>(
        &self,
        bytes: u64,
        call: impl AsyncFnMut() -> std::result::Result<T, Failure>,
    ) -> impl Future<Output = std::result::Result<T, Failure>> {
        let patience = self.limits().patience + Duration::from_secs(bytes / (4 * 1024 * 1024));
        self.attempt_within(bytes, patience, call)
    }

    /// The same with a time of its own for each try.
    pub(crate) async fn attempt_within<T>(
        &self,
        bytes: u64,
        patience: Duration,
        mut call: impl AsyncFnMut() -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        let pace = &self.service.pace;
        let (mut tried, begun) = (0, Instant::now());
        loop {
            let (outcome, throttled) = {
                let in_flight = pace.request().await;
                let outcome = match tokio::time::timeout(patience, call()).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(Failure::transient(format!("no answer within {} s", patience.as_secs()))),
                };
                let throttled = outcome.as_ref().is_err_and(|failure| failure.kind == FailureKind::Throttled);
                if outcome.is_ok() {
                    in_flight.answered(if bytes == UNHURRIED { 0 } else { bytes });
                } else if throttled {
                    in_flight.throttled();
                }
                (outcome, throttled)
            };
            let failure = match outcome {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if !throttled && !matches!(failure.kind, FailureKind::Transient | FailureKind::Rotten) {
                return Err(failure);
            }
            tried += 1;
            // A service that asks for less is there, and is given longer than one that fails.
            let hopeful = throttled && begun.elapsed() < pace.limits.throttled_for;
            if tried >= pace.limits.attempts && !hopeful {
                return Err(failure);
            }
            tokio::time::sleep(pace.wait(tried)).await;
        }
    }

    pub(crate) async fn check(&self) -> Result<()> {
        let listed = self
            .attempt(0, async || {
                let request = self.client().list_objects_v2().bucket(&self.name).max_keys(1);
                // The first key may be one that XML cannot carry.
                request.encoding_type(EncodingType::Url).send().await.map_err(failure)
            })
            .await;
        listed.map(|_| ()).map_err(|failure| failure.into_error(format!("cannot list the bucket s3://{}", self.name)))
    }

    /// What asks for checksums; none where the service refuses that, as Backblaze B2 does
    /// (<https://www.backblaze.com/docs/cloud-storage-use-the-aws-sdk-for-python-with-backblaze-b2>).
    pub(super) fn checksum_mode(&self) -> Option<ChecksumMode> {
        self.service.learned.knows_checksum_mode().then_some(ChecksumMode::Enabled)
    }

    pub(crate) async fn head(&self, key: &str) -> Result<Option<Headed>> {
        self.head_version(key, None).await
    }

    /// The same of one version.
    pub(crate) async fn head_version(&self, key: &str, version: Option<&str>) -> Result<Option<Headed>> {
        let ask = async |mode: Option<ChecksumMode>| {
            self.attempt(0, async || {
                let request = self.client().head_object().bucket(&self.name).key(marked(key));
                let request = request.set_version_id(version.map(str::to_owned));
                request.set_checksum_mode(mode.clone()).send().await.map_err(failure)
            })
            .await
        };
        let answer = match self.checksum_mode() {
            None => ask(None).await,
            // A refusal of a HEAD has no words: whether it was the mode shows when it is left out.
            Some(mode) => match ask(Some(mode)).await {
                Err(refused) if refused.kind == FailureKind::Fatal => {
                    let plain = ask(None).await;
                    if plain.is_ok() {
                        self.service.learned.has_no_checksum_mode();
                    }
                    plain
                }
                answer => answer,
            },
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) if failure.kind == FailureKind::Gone => return Ok(None),
            Err(failure) => return Err(failure.into_error(format!("cannot look at s3://{}/{key}", self.name))),
        };
        let side = Side {
            size: u64::try_from(answer.content_length().unwrap_or(0)).unwrap_or(0),
            etag: answer.e_tag().map(bare),
            modified: answer.last_modified().and_then(timestamp),
            version: version.map(str::to_owned),
            class: answer.storage_class().map(|class| class.as_str().to_owned()).filter(|class| class != "STANDARD"),
            ..Side::default()
        };
        let mut headers = metadata(answer.metadata());
        let named = [
            ("content-type", answer.content_type()),
            ("cache-control", answer.cache_control()),
            ("content-disposition", answer.content_disposition()),
            ("content-encoding", answer.content_encoding()),
            ("content-language", answer.content_language()),
            ("expires", answer.expires_string()),
        ];
        keep(&mut headers, named);
        let encryption = answer.server_side_encryption().map(|kind| kind.as_str().to_owned());
        let full = answer.checksum_type() == Some(&ChecksumType::FullObject);
        let checksummed = checksum(full, answer.checksum_crc64_nvme(), answer.checksum_sha256());
        let object = Object { key: key.to_owned(), side, kind: FileKind::File };
        let missing_meta = answer.missing_meta();
        Ok(Some(Headed { object, headers, missing_meta, encryption, checksummed }))
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Option<Bytes>> {
        let what = || format!("cannot read s3://{}/{key}", self.name);
        let answer = self
            .attempt(0, async || {
                let mut answer =
                    self.client().get_object().bucket(&self.name).key(marked(key)).send().await.map_err(failure)?;
                let length = answer.content_length();
                let mut bytes = BytesMut::new();
                while let Some(chunk) = answer.body.next().await {
                    bytes.extend_from_slice(&chunk.map_err(Failure::reading)?);
                    if bytes.len() as u64 > SMALL {
                        return Err(Failure::fatal("the object is far larger than such a document may be"));
                    }
                }
                whole(length, bytes.len() as u64)?;
                Ok(bytes.freeze())
            })
            .await;
        match answer {
            Ok(bytes) => Ok(Some(bytes)),
            Err(failure) if failure.kind == FailureKind::Gone => Ok(None),
            Err(failure) => Err(failure.into_error(what())),
        }
    }

    /// Reads an object from end to end, going on where a cut answer stopped, under the condition that it is the same.
    ///
    /// With a version id, that version.
    pub(crate) async fn fetch(
        &self,
        (key, version): (&str, Option<&str>),
        to: Option<&Path>,
        digests: Digests,
    ) -> Result<Option<Fetched>> {
        let what = || format!("cannot read s3://{}/{key}", self.name);
        let mut file = to.map(create_private).transpose()?;
        let mut sha = Sha256::new();
        let mut all = (digests == Digests::All).then(Hasher::new);
        let mut offset = 0_u64;
        let mut etag: Option<String> = None;
        let mut headers = BTreeMap::new();
        let mut disk: Option<std::io::Error> = None;
        let patience = self.limits().patience;
        let outcome = self
            .attempt(UNHURRIED, async || {
                let mut request = self.client().get_object().bucket(&self.name).key(marked(key));
                request = request.set_version_id(version.map(str::to_owned));
                if offset > 0 {
                    request = request.range(format!("bytes={offset}-")).set_if_match(etag.as_deref().map(quoted));
                }
                let sent = tokio::time::timeout(patience, request.send()).await;
                let sent =
                    sent.map_err(|_| Failure::transient(format!("no answer within {} s", patience.as_secs())))?;
                let mut answer = sent.map_err(failure)?;
                let expected = answer.content_length().map(|length| length + i64::try_from(offset).unwrap_or(0));
                if offset == 0 {
                    require_all_metadata(answer.missing_meta())?;
                    etag = answer.e_tag().map(bare);
                    headers = headers_of(&answer);
                }
                loop {
                    let next = tokio::time::timeout(patience, answer.body.next()).await;
                    let Some(chunk) = next.map_err(|_| Failure::transient("the answer stalled"))? else { break };
                    let chunk = chunk.map_err(Failure::reading)?;
                    self.service.pace.through(chunk.len() as u64).await;
                    match &mut all {
                        Some(all) => all.update(&chunk),
                        None => sha.update(&chunk),
                    }
                    offset += chunk.len() as u64;
                    if let Some(file) = &mut file
                        && let Err(cause) = file.write_all(&chunk)
                    {
                        disk = Some(cause);
                        return Err(Failure::fatal("the local file cannot be written"));
                    }
                }
                whole(expected, offset)
            })
            .await;
        if let Some(cause) = disk {
            let to = to.unwrap_or(Path::new("")).display();
            return Err(Error::local(format!("cannot write s3://{}/{key} to `{to}`", self.name), cause));
        }
        match outcome {
            Ok(()) => {
                if let Some(file) = &file {
                    file.sync_all().map_err(|cause| Error::local(what(), cause))?;
                }
                let hashes = all.map(Hasher::finish);
                let hash = match &hashes {
                    Some(hashes) => hashes.hash.clone(),
                    None => FileHash { bytes: offset, sha256: hex(&sha.finalize()) },
                };
                Ok(Some(Fetched { hash, hashes, etag, headers }))
            }
            Err(failure) if failure.kind == FailureKind::Gone => Ok(None),
            Err(failure) => Err(failure.into_error(what())),
        }
    }
}

/// Fails unless an answer proves that something was stored: an empty or cut 200 is a success without an ETag.
pub(crate) fn stored(etag: Option<&str>) -> std::result::Result<String, Failure> {
    etag.map(bare)
        .filter(|etag| !etag.is_empty())
        .ok_or_else(|| Failure::transient("the service answered success without an ETag"))
}

/// Fails when an answer ended before its announced length.
pub(super) fn whole(expected: Option<i64>, got: u64) -> std::result::Result<(), Failure> {
    match expected {
        Some(length) if u64::try_from(length) != Ok(got) => {
            Err(Failure::transient(format!("the answer ended after {got} of {length} bytes")))
        }
        _ => Ok(()),
    }
}

/// Has a request say when its object expires, in the very words it was said in: those of the SDK are dates, and S3 takes
/// any text.
pub(super) fn expiring(expires: Option<String>) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static {
    move |request| {
        if let Some(expires) = &expires {
            // What came in a header can go in one.
            let _ = request.headers_mut().try_insert("expires", expires.clone());
        }
    }
}

/// An ETag without its quotes, and without the mark of a weak one: a proxy that alters answers, nginx from 1.7.3 on for one, marks the
/// `ETag` of a read so (<https://nginx.org/en/CHANGES>), while a listing has it as it is.
pub(crate) fn bare(etag: &str) -> String {
    let strong = etag.strip_prefix("W/").filter(|strong| strong.starts_with('"'));
    strong.unwrap_or(etag).trim_matches('"').to_owned()
}

/// A bare `ETag` as a condition has it.
pub(crate) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// The SDK's time as ours.
pub(crate) fn timestamp(time: &aws_sdk_s3::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// Undoes `encoding-type=url`: `+` is a blank, `%XX` a byte.
pub(super) fn decode(text: &str, encoded: bool) -> Option<String> {
    // Most keys are spelled as they are.
    if !encoded || memchr::memchr2(b'+', b'%', text.as_bytes()).is_none() {
        return Some(text.to_owned());
    }
    let blanks = text.replace('+', " ");
    percent_encoding::percent_decode_str(&blanks).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

pub(super) fn listed(object: &aws_sdk_s3::types::Object, encoded: bool) -> Option<Object> {
    let key = decode(object.key()?, encoded)?;
    let class = object.storage_class().map(|class| class.as_str().to_owned());
    let side = Side {
        size: u64::try_from(object.size()?).ok()?,
        etag: object.e_tag().map(bare),
        modified: object.last_modified().and_then(timestamp),
        class: class.filter(|class| class != "STANDARD"),
        ..Side::default()
    };
    Some(Object { key, side, kind: FileKind::File })
}

/// A checksum over a whole content as a listing has it, the one that says most.
pub(super) fn checksum(full: bool, crc64: Option<&str>, sha256: Option<&str>) -> Option<String> {
    use base64::Engine as _;
    let sha256 = sha256.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    let named = sha256.filter(|bytes| bytes.len() == 32).map(|bytes| format!("sha256:{}", hex(&bytes)));
    named.or_else(|| crc64.map(|text| format!("crc64nvme:{text}"))).filter(|_| full)
}

/// Fails where metadata has what cannot be said in headers: a copy that is made of what is read would be without it.
pub(super) fn require_all_metadata(missing: Option<i32>) -> std::result::Result<(), Failure> {
    match missing.filter(|missing| *missing > 0) {
        None => Ok(()),
        Some(missing) => Err(Failure::fatal(format!(
            "{missing} of its metadata entries cannot be read over HTTP; write them in ASCII, or leave it out with `exclude` under \
             [files]"
        ))),
    }
}

/// What travels with an object: its headers and user metadata.
pub(super) fn headers_of(answer: &GetObjectOutput) -> BTreeMap<String, String> {
    let mut headers = metadata(answer.metadata());
    let named = [
        ("content-type", answer.content_type()),
        ("cache-control", answer.cache_control()),
        ("content-disposition", answer.content_disposition()),
        ("content-encoding", answer.content_encoding()),
        ("content-language", answer.content_language()),
        ("expires", answer.expires_string()),
    ];
    keep(&mut headers, named);
    headers
}

fn metadata(user: Option<&std::collections::HashMap<String, String>>) -> BTreeMap<String, String> {
    user.into_iter().flatten().map(|(name, value)| (format!("x-amz-meta-{name}"), value.clone())).collect()
}

fn keep<const N: usize>(headers: &mut BTreeMap<String, String>, named: [(&str, Option<&str>); N]) {
    for (name, value) in named {
        if let Some(value) = value {
            headers.insert(name.to_owned(), value.to_owned());
        }
    }
}
