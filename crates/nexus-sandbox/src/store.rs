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
use crate::acl::Ownership;
use crate::bucket::Bucket;
use crate::checksum::{Algorithm, md5_hex};
use crate::condition::WriteCondition;
use crate::lock::{BucketLock, DefaultRetention};
use crate::object::{NewObject, STANDARD, StoredObject};
use crate::options::Quirks;
use crate::version::{Found, Version, Versioning};

/// Buckets and their objects, in memory.
#[derive(Debug)]
pub struct Store {
    buckets: RwLock<BTreeMap<String, Bucket>>,
    serial: AtomicU64,
    clock_shift: AtomicI64,
    pub(crate) quirks: Quirks,
    pub(crate) access: Access,
}

/// The bucket that was named does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchBucket(pub String);

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
        buckets.entry(name.to_owned()).or_insert_with(|| Bucket::new(created, self.quirks));
        absent
    }

    /// The names of all buckets, in byte order.
    pub fn bucket_names(&self) -> Vec<String> {
        self.read().keys().cloned().collect()
    }

    /// Turns the keeping of versions on or off, as `PutBucketVersioning` does.
    pub fn set_versioning(&self, bucket: &str, versioning: Versioning) -> Result<(), NoSuchBucket> {
        let mut buckets = self.write();
        buckets.get_mut(bucket).ok_or_else(|| NoSuchBucket(bucket.to_owned()))?.versioning = versioning;
        Ok(())
    }

    /// Lets objects of a bucket be locked, which turns its versions on, and sets its default retention.
    pub fn set_object_lock(&self, bucket: &str, default: Option<DefaultRetention>) -> Result<(), NoSuchBucket> {
        let mut buckets = self.write();
        let bucket = buckets.get_mut(bucket).ok_or_else(|| NoSuchBucket(bucket.to_owned()))?;
        bucket.versioning = Versioning::Enabled;
        bucket.lock = Some(BucketLock { default });
        Ok(())
    }

    /// Says whether access control lists can be set in a bucket; in a new one they cannot.
    pub fn set_ownership(&self, bucket: &str, ownership: Ownership) -> Result<(), NoSuchBucket> {
        let mut buckets = self.write();
        buckets.get_mut(bucket).ok_or_else(|| NoSuchBucket(bucket.to_owned()))?.ownership = ownership;
        Ok(())
    }

    /// Stores an object as a single put does, with an MD5 `ETag` and a CRC64NVME checksum.
    pub fn put(
        &self,
        bucket: &str,
        key: &str,
        object: impl Into<NewObject>,
    ) -> Result<Arc<StoredObject>, NoSuchBucket> {
        let object = self.stamped(object.into());
        let mut buckets = self.write();
        let bucket = buckets.get_mut(bucket).ok_or_else(|| NoSuchBucket(bucket.to_owned()))?;
        Ok(bucket.write(key, object, self.number()).object)
    }

    /// The object of this key, if there is one and its newest version is no delete marker.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Arc<StoredObject>> {
        self.read().get(bucket)?.current(key).cloned()
    }

    /// All versions of this key and its delete markers, newest first.
    pub fn versions(&self, bucket: &str, key: &str) -> Vec<Version> {
        let buckets = self.read();
        let history = buckets.get(bucket).and_then(|bucket| bucket.history(key));
        history.map_or_else(Vec::new, |history| history.newest_first().cloned().collect())
    }

    /// Removes an object as a request does that names no version: where versions are kept, by a delete marker.
    ///
    /// False if there was none.
    pub fn delete(&self, bucket: &str, key: &str) -> bool {
        let (now, number) = (self.now(), self.number());
        self.write().get_mut(bucket).is_some_and(|bucket| {
            let present = bucket.current(key).is_some();
            if present {
                bucket.delete(key, now, number);
            }
            present
        })
    }

    /// Removes one version or delete marker for ever, locked or not, as the expiry of old versions does.
    ///
    /// False if there was none.
    pub fn remove_version(&self, bucket: &str, key: &str, id: &str) -> bool {
        self.write().get_mut(bucket).is_some_and(|bucket| {
            let present = bucket.history(key).is_some_and(|history| history.version(id).is_some());
            present && bucket.remove(key, id).is_ok()
        })
    }

    /// Changes the bytes of an object and nothing that is said about them, as a failing disk does.
    ///
    /// False if there is no such object.
    pub fn tamper(&self, bucket: &str, key: &str, body: impl Into<Bytes>) -> bool {
        self.spoil(bucket, key, None, body.into())
    }

    /// Changes the bytes of one version as [`Store::tamper`] does those of the newest.
    pub fn tamper_version(&self, bucket: &str, key: &str, id: &str, body: impl Into<Bytes>) -> bool {
        self.spoil(bucket, key, Some(id), body.into())
    }

    fn spoil(&self, bucket: &str, key: &str, version_id: Option<&str>, body: Bytes) -> bool {
        self.write().get_mut(bucket).is_some_and(|bucket| {
            let spoilt = bucket.change(key, version_id, |object| {
                object.body = body;
                Ok(())
            });
            spoilt.is_ok()
        })
    }

    /// All keys that begin with `prefix` and have an object, in byte order; none if there is no such bucket.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.read().get(bucket).map_or_else(Vec::new, |bucket| {
            bucket
                .keys
                .range(prefix.to_owned()..)
                .take_while(|(key, _)| key.starts_with(prefix))
                .filter(|(_, history)| history.current().is_some())
                .map(|(key, _)| key.clone())
                .collect()
        })
    }

    /// All keys that begin with `prefix` and have a version or a delete marker, in byte order.
    pub fn keys_with_versions(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.read().get(bucket).map_or_else(Vec::new, |bucket| {
            let keys = bucket.keys.range(prefix.to_owned()..).map(|(key, _)| key);
            keys.take_while(|key| key.starts_with(prefix)).cloned().collect()
        })
    }

    /// How many objects a bucket holds, old versions not counted.
    pub fn count(&self, bucket: &str) -> usize {
        self.read().get(bucket).map_or(0, |bucket| bucket.current_keys().count())
    }

    /// How many versions and delete markers a bucket holds under a prefix, the current ones among them.
    pub fn version_count(&self, bucket: &str, prefix: &str) -> usize {
        self.read().get(bucket).map_or(0, |bucket| {
            let keys = bucket.keys.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            keys.map(|(_, history)| history.newest_first().count()).sum()
        })
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
        format!("{:016x}", self.number())
    }

    /// A number that no one was given before, greater than all of those.
    pub(crate) fn number(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
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
        let own = !self.quirks.no_checksums && !self.quirks.no_own_checksum;
        let checksum = own.then(|| Algorithm::Crc64Nvme.whole(&object.body));
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
            lock: object.lock,
            acl: object.acl,
            checksum,
            parts: Vec::new(),
        }
    }

    /// Stores an object if what the key holds now satisfies the condition; answers the id of its version.
    pub(crate) fn put_if(
        &self,
        bucket: &str,
        key: &str,
        object: StoredObject,
        condition: &WriteCondition,
    ) -> S3Result<Option<String>> {
        self.with_bucket(bucket, |bucket| {
            condition.admit(bucket.current(key).map(AsRef::as_ref), self.quirks.match_of_absent)?;
            Ok(bucket.write(key, object, self.number()).version_id)
        })
    }

    /// The object of this key, or of one of its versions, or why it cannot be had.
    pub(crate) fn found(&self, bucket: &str, key: &str, version_id: Option<&str>) -> S3Result<Found> {
        self.look(bucket, |bucket| bucket.found(key, version_id))
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

impl fmt::Display for NoSuchBucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "there is no bucket `{}`", self.0)
    }
}

impl std::error::Error for NoSuchBucket {}

pub(crate) fn no_such_bucket() -> S3Error {
    S3Error::with_message(S3ErrorCode::NoSuchBucket, "The specified bucket does not exist")
}
