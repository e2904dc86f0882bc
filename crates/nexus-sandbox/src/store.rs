//! The objects themselves, in memory: what the service serves and what tests look into directly.
//!
//! Every change happens under one lock, so that a condition and the write it guards are one step.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::access::Access;
use crate::checksum::{Algorithm, md5_hex};
use crate::condition::WriteCondition;
use crate::object::{NewObject, STANDARD, StoredObject};
use crate::options::Quirks;
use crate::upload::Upload;

/// Buckets and their objects, in memory.
#[derive(Debug)]
pub struct Store {
    buckets: RwLock<BTreeMap<String, Bucket>>,
    serial: AtomicU64,
    clock_shift: AtomicI64,
    quirks: Quirks,
    pub(crate) access: Access,
}

/// The bucket that was named does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchBucket(pub String);

/// One bucket: objects by key in byte order, open uploads by key and then by age.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub created: SystemTime,
    pub objects: BTreeMap<String, Arc<StoredObject>>,
    pub uploads: BTreeMap<(String, String), Upload>,
}

impl Store {
    pub(crate) fn new(quirks: Quirks) -> Self {
        Self {
            buckets: RwLock::default(),
            serial: AtomicU64::new(1),
            clock_shift: AtomicI64::new(0),
            quirks,
            access: Access::default(),
        }
    }

    /// Creates a bucket; false if there was one of this name already.
    pub fn create_bucket(&self, name: &str) -> bool {
        let created = self.now();
        let mut buckets = self.write();
        let absent = !buckets.contains_key(name);
        buckets.entry(name.to_owned()).or_insert_with(|| Bucket::new(created));
        absent
    }

    /// The names of all buckets, in byte order.
    pub fn bucket_names(&self) -> Vec<String> {
        self.read().keys().cloned().collect()
    }

    /// Stores an object as a single put does, with an MD5 `ETag` and a CRC64NVME checksum.
    pub fn put(
        &self,
        bucket: &str,
        key: &str,
        object: impl Into<NewObject>,
    ) -> Result<Arc<StoredObject>, NoSuchBucket> {
        let object = Arc::new(self.stamped(object.into()));
        self.write()
            .get_mut(bucket)
            .ok_or_else(|| NoSuchBucket(bucket.to_owned()))?
            .objects
            .insert(key.to_owned(), Arc::clone(&object));
        Ok(object)
    }

    /// The object of this key, if there is one.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Arc<StoredObject>> {
        self.read().get(bucket)?.objects.get(key).cloned()
    }

    /// Removes an object; false if there was none.
    pub fn delete(&self, bucket: &str, key: &str) -> bool {
        self.write().get_mut(bucket).is_some_and(|bucket| bucket.objects.remove(key).is_some())
    }

    /// Changes the bytes of an object and nothing that is said about them, as a failing disk does.
    ///
    /// False if there is no such object.
    pub fn tamper(&self, bucket: &str, key: &str, body: impl Into<Bytes>) -> bool {
        let mut buckets = self.write();
        let object = buckets.get_mut(bucket).and_then(|bucket| bucket.objects.get_mut(key));
        match object {
            Some(object) => {
                Arc::make_mut(object).body = body.into();
                true
            }
            None => false,
        }
    }

    /// All keys that begin with `prefix`, in byte order; none if there is no such bucket.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.read().get(bucket).map_or_else(Vec::new, |bucket| {
            bucket
                .objects
                .range(prefix.to_owned()..)
                .map(|(key, _)| key.clone())
                .take_while(|key| key.starts_with(prefix))
                .collect()
        })
    }

    /// How many objects a bucket holds.
    pub fn count(&self, bucket: &str) -> usize {
        self.read().get(bucket).map_or(0, |bucket| bucket.objects.len())
    }

    /// How many multipart uploads are neither completed nor aborted.
    pub fn open_uploads(&self, bucket: &str) -> usize {
        self.read().get(bucket).map_or(0, |bucket| bucket.uploads.len())
    }

    /// Sets the service's clock, its `Date` header and `LastModified`, this far from the machine's.
    pub fn shift_clock(&self, seconds: i64) {
        self.clock_shift.store(seconds, Ordering::Relaxed);
    }

    /// The service's clock, in whole seconds.
    pub fn now(&self) -> SystemTime {
        let machine = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let shift = self.clock_shift.load(Ordering::Relaxed);
        SystemTime::UNIX_EPOCH + Duration::from_secs(machine.saturating_add_signed(shift))
    }

    /// A number that no one was given before, in sixteen digits so that it sorts by age.
    pub(crate) fn serial(&self) -> String {
        format!("{:016x}", self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// The `ETag` of a single put or copy, given the MD5 of its bytes.
    ///
    /// Under `aws:kms` it is not the MD5, and differs from write to write.
    pub(crate) fn etag(&self, md5: String, algorithm: Option<&str>) -> String {
        if self.quirks.opaque_etags || algorithm.is_some_and(|name| name.starts_with("aws:kms")) {
            return md5_hex(format!("{md5} {}", self.serial()).as_bytes());
        }
        md5
    }

    fn stamped(&self, object: NewObject) -> StoredObject {
        let md5 = md5_hex(&object.body);
        let checksum = (!self.quirks.no_checksums).then(|| Algorithm::Crc64Nvme.whole(&object.body));
        StoredObject {
            etag: self.etag(md5, object.encryption.algorithm.as_deref()),
            last_modified: self.now(),
            storage_class: match object.storage_class.as_str() {
                "" => STANDARD.to_owned(),
                _ => object.storage_class,
            },
            body: object.body,
            fields: object.fields,
            encryption: object.encryption,
            tags: object.tags,
            checksum,
            parts: Vec::new(),
        }
    }

    /// Stores an object if what the key holds now satisfies the condition.
    pub(crate) fn put_if(
        &self,
        bucket: &str,
        key: &str,
        object: StoredObject,
        condition: &WriteCondition,
    ) -> S3Result<()> {
        self.with_bucket(bucket, |bucket| {
            condition.admit(bucket.objects.get(key).map(AsRef::as_ref))?;
            bucket.objects.insert(key.to_owned(), Arc::new(object));
            Ok(())
        })
    }

    /// The object of this key, or `NoSuchBucket`, or `NoSuchKey`.
    pub(crate) fn object(&self, bucket: &str, key: &str) -> S3Result<Arc<StoredObject>> {
        let buckets = self.read();
        let bucket = buckets.get(bucket).ok_or_else(no_such_bucket)?;
        bucket
            .objects
            .get(key)
            .cloned()
            .ok_or_else(|| S3Error::with_message(S3ErrorCode::NoSuchKey, "The specified key does not exist."))
    }

    /// Looks at a bucket.
    pub(crate) fn look<T>(&self, bucket: &str, look: impl FnOnce(&Bucket) -> S3Result<T>) -> S3Result<T> {
        look(self.read().get(bucket).ok_or_else(no_such_bucket)?)
    }

    /// Changes a bucket, alone.
    pub(crate) fn with_bucket<T>(&self, bucket: &str, change: impl FnOnce(&mut Bucket) -> S3Result<T>) -> S3Result<T> {
        change(self.write().get_mut(bucket).ok_or_else(no_such_bucket)?)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    pub fn new(created: SystemTime) -> Self {
        Self { created, objects: BTreeMap::new(), uploads: BTreeMap::new() }
    }

    /// The open upload of this key and id, or `NoSuchUpload`.
    pub fn upload(&mut self, key: &str, id: &str) -> S3Result<&mut Upload> {
        self.uploads.get_mut(&(key.to_owned(), id.to_owned())).ok_or_else(no_such_upload)
    }
}

impl fmt::Display for NoSuchBucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "there is no bucket `{}`", self.0)
    }
}

impl std::error::Error for NoSuchBucket {}

pub(crate) fn no_such_bucket() -> S3Error {
    S3Error::with_message(S3ErrorCode::NoSuchBucket, "The specified bucket does not exist")
}

pub(crate) fn no_such_upload() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
    )
}
