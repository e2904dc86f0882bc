//! One bucket: its keys with their versions, and the uploads that are open in it.
//!
//! What a request without a version id is about is decided here, once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::HeaderMap;
use hyper::header::{ALLOW, HeaderValue, LAST_MODIFIED};
use s3s::dto::LifecycleRule;
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::acl::Ownership;
use crate::lock::{BucketLock, Governance};
use crate::object::StoredObject;
use crate::options::Quirks;
use crate::timestamps::http_date;
use crate::upload::Upload;
use crate::version::{Found, History, NULL_VERSION, Version, Versioning, id_of, must_be_version_id};

/// Keys with their versions in byte order, open uploads by key and then by age.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub created: SystemTime,
    pub versioning: Versioning,
    /// None if objects cannot be locked.
    pub lock: Option<BucketLock>,
    pub ownership: Ownership,
    /// The rules of the lifecycle configuration; empty if there is none.
    pub lifecycle: Vec<LifecycleRule>,
    quirks: Quirks,
    pub keys: BTreeMap<String, History>,
    pub uploads: BTreeMap<(String, String), Upload>,
}

/// What a deletion removed or wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Deletion {
    /// Whether a delete marker was written, or the version that was removed was one.
    pub marker: bool,
    /// The id of the marker that was written, or of the version that was removed.
    pub version_id: Option<String>,
}

impl Bucket {
    pub fn new(created: SystemTime, quirks: Quirks) -> Self {
        Self {
            created,
            versioning: Versioning::Never,
            lock: None,
            ownership: Ownership::default(),
            lifecycle: Vec::new(),
            quirks,
            keys: BTreeMap::new(),
            uploads: BTreeMap::new(),
        }
    }

    /// The object of this key that readers and listings see.
    pub fn current(&self, key: &str) -> Option<&Arc<StoredObject>> {
        self.history(key)?.current()
    }

    /// The keys that listings show, in byte order.
    pub fn current_keys(&self) -> impl Iterator<Item = &String> {
        self.keys.iter().filter(|(_, history)| history.current().is_some()).map(|(key, _)| key)
    }

    /// The object of a key, or of one of its versions, or why it cannot be had.
    pub fn found(&self, key: &str, version_id: Option<&str>) -> S3Result<Found> {
        if let Some(id) = version_id {
            must_be_version_id(id)?;
        }
        let history = self.history(key);
        let version = match version_id {
            None => history.and_then(History::newest).ok_or_else(no_such_key)?,
            Some(id) => history.and_then(|history| history.version(id)).ok_or_else(no_such_version)?,
        };
        match &version.object {
            Some(object) => Ok(Found { object: Arc::clone(object), version_id: self.named(version) }),
            None => Err(behind_marker(version, version_id.is_some())),
        }
    }

    /// Changes what is said about an object, but not its bytes; answers the version that it is.
    pub fn change(
        &mut self,
        key: &str,
        version_id: Option<&str>,
        change: impl FnOnce(&mut StoredObject) -> S3Result<()>,
    ) -> S3Result<Option<String>> {
        let found = self.found(key, version_id)?;
        let key = self.quirks.names.kept(key);
        let history = self.keys.get_mut(&*key).ok_or_else(no_such_key)?;
        let version = match version_id {
            None => history.newest_mut(),
            Some(id) => history.version_mut(id),
        };
        let object = version.and_then(|version| version.object.as_mut()).ok_or_else(no_such_version)?;
        // The other owner of the object is what was found, which is not needed any more.
        let Found { object: seen, version_id } = found;
        drop(seen);
        change(Arc::make_mut(object))?;
        Ok(version_id)
    }

    /// Stores an object as the newest version, with the default retention if it has none of its own.
    pub fn write(&mut self, key: &str, mut object: StoredObject, serial: u64) -> Found {
        if let (None, Some(default)) = (object.lock.retention, self.lock.and_then(|lock| lock.default)) {
            object.lock.retention = Some(default.from(object.last_modified));
        }
        let key = self.quirks.names.kept(key);
        if self.quirks.names.empties(&key) {
            object.body.clear();
        }
        let id = self.next_id(serial);
        let object = Arc::new(object);
        let last_modified = object.last_modified;
        let version = Version { id, last_modified, object: Some(Arc::clone(&object)), serial };
        let version_id = self.named(&version);
        self.keys.entry(key.into_owned()).or_default().push(version);
        Found { object, version_id }
    }

    /// Deletes a key as a request without a version id does.
    pub fn delete(&mut self, key: &str, now: SystemTime, serial: u64) -> Deletion {
        let key = self.quirks.names.kept(key);
        if self.versioning == Versioning::Never {
            self.keys.remove(&*key);
            return Deletion::default();
        }
        let id = self.next_id(serial);
        let marker = Version { id: id.clone(), last_modified: now, object: None, serial };
        self.keys.entry(key.into_owned()).or_default().push(marker);
        Deletion { marker: true, version_id: Some(id) }
    }

    /// Refuses the removal of a version that is locked; a marker never is.
    pub fn must_let_go(&self, key: &str, id: &str, now: SystemTime, governance: Governance) -> S3Result<()> {
        let version = self.history(key).and_then(|history| history.version(id));
        match version.and_then(|version| version.object.as_ref()) {
            Some(object) => object.lock.must_let_go(now, governance),
            None => Ok(()),
        }
    }

    /// Removes one version for ever; one that is not there is removed already.
    pub fn remove(&mut self, key: &str, id: &str) -> S3Result<Deletion> {
        must_be_version_id(id)?;
        let mut deletion = Deletion { marker: false, version_id: Some(id.to_owned()) };
        let key = self.quirks.names.kept(key);
        let Some(history) = self.keys.get_mut(&*key) else {
            return Ok(deletion);
        };
        if let Some(version) = history.remove(id) {
            deletion.marker = version.is_marker();
        }
        if history.is_empty() {
            self.keys.remove(&*key);
        }
        Ok(deletion)
    }

    /// The open upload of this key and id, or `NoSuchUpload`.
    pub fn upload(&mut self, key: &str, id: &str) -> S3Result<&mut Upload> {
        self.uploads.get_mut(&(key.to_owned(), id.to_owned())).ok_or_else(no_such_upload)
    }

    /// The versions of a key, which may be kept under another.
    pub fn history(&self, key: &str) -> Option<&History> {
        self.keys.get(&*self.quirks.names.kept(key))
    }

    /// A version's id as answers bear it: a bucket that never kept versions names none.
    fn named(&self, version: &Version) -> Option<String> {
        match self.versioning {
            Versioning::Never => self.quirks.idle_version_ids.then(|| id_of(version.serial)),
            Versioning::Enabled | Versioning::Suspended => Some(version.id.clone()),
        }
    }

    fn next_id(&self, serial: u64) -> String {
        match self.versioning {
            Versioning::Enabled => id_of(serial),
            Versioning::Never | Versioning::Suspended => NULL_VERSION.to_owned(),
        }
    }
}

/// What a reader is told who meets a delete marker: 404 if it is the current version, 405 if it was named.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html>
fn behind_marker(marker: &Version, named: bool) -> S3Error {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Ok(id) = HeaderValue::from_str(&marker.id) {
        headers.insert("x-amz-version-id", id);
    }
    let mut error = no_such_key();
    if named {
        error = S3Error::with_message(
            S3ErrorCode::MethodNotAllowed,
            "The specified method is not allowed against this resource.",
        );
        headers.insert(ALLOW, HeaderValue::from_static("DELETE"));
        if let Ok(date) = HeaderValue::from_str(&http_date(marker.last_modified)) {
            headers.insert(LAST_MODIFIED, date);
        }
    }
    error.set_headers(headers);
    error
}

fn no_such_key() -> S3Error {
    S3Error::with_message(S3ErrorCode::NoSuchKey, "The specified key does not exist.")
}

fn no_such_version() -> S3Error {
    S3Error::with_message(S3ErrorCode::NoSuchVersion, "The specified version does not exist.")
}

fn no_such_upload() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
    )
}
