//! Object Lock as requests set it and ask for it.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectRetention.html>

use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use s3s::dto::{
    DefaultRetention as DefaultRetentionDto, GetObjectLegalHoldInput, GetObjectLegalHoldOutput,
    GetObjectLockConfigurationInput, GetObjectLockConfigurationOutput, GetObjectRetentionInput,
    GetObjectRetentionOutput, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockLegalHold,
    ObjectLockLegalHoldStatus, ObjectLockRetention, ObjectLockRetentionMode, ObjectLockRule, PutObjectLegalHoldInput,
    PutObjectLegalHoldOutput, PutObjectLockConfigurationInput, PutObjectLockConfigurationOutput,
    PutObjectRetentionInput, PutObjectRetentionOutput, Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::Operations;
use super::received::must_bear_checksum;
use crate::bucket::Bucket;
use crate::lock::{BucketLock, DefaultRetention, Governance, Lock, Period, Retention, RetentionMode};
use crate::timestamps::instant;
use crate::version::{Found, Versioning};

/// The longest default retention, in days and in years.
const LONGEST: (i32, i32) = (36_500, 100);

/// The lock headers of a writing request.
#[derive(Debug, Default)]
pub(super) struct LockHeaders {
    pub mode: Option<String>,
    pub until: Option<Timestamp>,
    pub legal_hold: Option<String>,
}

/// Reads the lock headers from any of the writing requests.
macro_rules! sent_lock {
    ($input:expr) => {
        $crate::operations::locks::LockHeaders {
            mode: $input.object_lock_mode.take().map(|mode| mode.as_str().to_owned()),
            until: $input.object_lock_retain_until_date.take(),
            legal_hold: $input.object_lock_legal_hold_status.take().map(|status| status.as_str().to_owned()),
        }
    };
}

/// Writes what an answer to a read says of an object's lock, to those who may ask for it.
macro_rules! describe_lock {
    ($output:expr, $lock:expr, $access:expr) => {{
        let lock: &$crate::lock::Lock = $lock;
        if let Some(retention) = lock.retention.filter(|_| !$access.denies("GetObjectRetention")) {
            $output.object_lock_mode = Some(retention.mode.name().to_owned().into());
            $output.object_lock_retain_until_date = Some(retention.until.into());
        }
        if let Some(on) = lock.legal_hold.filter(|_| !$access.denies("GetObjectLegalHold")) {
            $output.object_lock_legal_hold_status = Some($crate::operations::locks::on_or_off(on));
        }
    }};
}

pub(super) use {describe_lock, sent_lock};

impl LockHeaders {
    pub fn is_empty(&self) -> bool {
        self.mode.is_none() && self.until.is_none() && self.legal_hold.is_none()
    }
}

impl Operations {
    pub(super) async fn get_object_lock_configuration(
        &self,
        request: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<GetObjectLockConfigurationOutput> {
        let lock = self.store.look(&request.input.bucket, |bucket| Ok(bucket.lock))?;
        let lock = lock.ok_or_else(|| {
            S3Error::with_message(
                S3ErrorCode::ObjectLockConfigurationNotFoundError,
                "Object Lock configuration does not exist for this bucket",
            )
        })?;
        let rule = lock.default.map(|default| {
            let (days, years) = match default.period {
                Period::Days(days) => (i32::try_from(days).ok(), None),
                Period::Years(years) => (None, i32::try_from(years).ok()),
            };
            let mode = Some(default.mode.name().to_owned().into());
            ObjectLockRule { default_retention: Some(DefaultRetentionDto { days, mode, years }) }
        });
        let enabled = Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED));
        Ok(GetObjectLockConfigurationOutput {
            object_lock_configuration: Some(ObjectLockConfiguration { object_lock_enabled: enabled, rule }),
        })
    }

    pub(super) async fn put_object_lock_configuration(
        &self,
        request: S3Request<PutObjectLockConfigurationInput>,
    ) -> S3Result<PutObjectLockConfigurationOutput> {
        self.must_be_proven(&request.headers)?;
        let asked = request.input.object_lock_configuration.ok_or(S3ErrorCode::MalformedXML)?;
        if asked.object_lock_enabled.as_ref().map(ObjectLockEnabled::as_str) != Some(ObjectLockEnabled::ENABLED) {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let default = asked.rule.map(|rule| default_retention(rule.default_retention.as_ref())).transpose()?;
        self.store.with_bucket(&request.input.bucket, |bucket| {
            if bucket.versioning != Versioning::Enabled {
                return Err(S3Error::with_message(
                    S3ErrorCode::InvalidBucketState,
                    "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
                ));
            }
            bucket.lock = Some(BucketLock { default });
            Ok(PutObjectLockConfigurationOutput::default())
        })
    }

    pub(super) async fn get_object_retention(
        &self,
        request: S3Request<GetObjectRetentionInput>,
    ) -> S3Result<GetObjectRetentionOutput> {
        let input = request.input;
        let lock = self.lock_of(&input.bucket, &input.key, input.version_id.as_deref())?;
        let retention = lock.retention.ok_or_else(no_lock)?;
        Ok(GetObjectRetentionOutput {
            retention: Some(ObjectLockRetention {
                mode: Some(retention.mode.name().to_owned().into()),
                retain_until_date: Some(retention.until.into()),
            }),
        })
    }

    pub(super) async fn put_object_retention(
        &self,
        request: S3Request<PutObjectRetentionInput>,
    ) -> S3Result<PutObjectRetentionOutput> {
        self.must_be_proven(&request.headers)?;
        let input = request.input;
        let governance = self.governance(input.bypass_governance_retention);
        let now = self.store.now();
        let asked = input.retention.ok_or(S3ErrorCode::MalformedXML)?;
        let retention = match (asked.mode.as_ref().map(ObjectLockRetentionMode::as_str), &asked.retain_until_date) {
            (None, None) => None,
            (Some(mode), Some(until)) => {
                let mode = RetentionMode::named(mode).ok_or(S3ErrorCode::MalformedXML)?;
                Some(Retention { mode, until: future(until, now)? })
            }
            _ => return Err(S3ErrorCode::MalformedXML.into()),
        };
        self.store.with_bucket(&input.bucket, |bucket| {
            must_have_lock(bucket)?;
            bucket.change(&input.key, input.version_id.as_deref(), |object| {
                object.lock.must_allow(retention, now, governance)?;
                object.lock.retention = retention;
                Ok(())
            })?;
            Ok(PutObjectRetentionOutput::default())
        })
    }

    pub(super) async fn get_object_legal_hold(
        &self,
        request: S3Request<GetObjectLegalHoldInput>,
    ) -> S3Result<GetObjectLegalHoldOutput> {
        let input = request.input;
        let lock = self.lock_of(&input.bucket, &input.key, input.version_id.as_deref())?;
        let status = on_or_off(lock.legal_hold.ok_or_else(no_lock)?);
        Ok(GetObjectLegalHoldOutput { legal_hold: Some(ObjectLockLegalHold { status: Some(status) }) })
    }

    pub(super) async fn put_object_legal_hold(
        &self,
        request: S3Request<PutObjectLegalHoldInput>,
    ) -> S3Result<PutObjectLegalHoldOutput> {
        self.must_be_proven(&request.headers)?;
        let input = request.input;
        let status = input.legal_hold.and_then(|hold| hold.status).ok_or(S3ErrorCode::MalformedXML)?;
        let on = held(status.as_str()).ok_or(S3ErrorCode::MalformedXML)?;
        self.store.with_bucket(&input.bucket, |bucket| {
            must_have_lock(bucket)?;
            bucket.change(&input.key, input.version_id.as_deref(), |object| {
                object.lock.legal_hold = Some(on);
                Ok(())
            })?;
            Ok(PutObjectLegalHoldOutput::default())
        })
    }

    /// The lock that a write asks for; the bucket's default comes later, when the version is made.
    pub(super) fn asked_lock(&self, bucket: &str, asked: &LockHeaders) -> S3Result<Lock> {
        if asked.is_empty() || self.options.quirks.drop_locks {
            return Ok(Lock::default());
        }
        self.store.look(bucket, must_have_lock)?;
        let retention = match (asked.mode.as_deref(), &asked.until) {
            (None, None) => None,
            (Some(mode), Some(until)) => {
                let mode = RetentionMode::named(mode).ok_or_else(|| invalid("Unknown wormMode directive."))?;
                Some(Retention { mode, until: future(until, self.store.now())? })
            }
            _ => {
                return Err(invalid(
                    "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
                ));
            }
        };
        let legal_hold = match asked.legal_hold.as_deref() {
            None => None,
            Some(status) => Some(held(status).ok_or_else(|| invalid("Legal Hold must be either of 'ON' or 'OFF'"))?),
        };
        for (asked, right) in
            [(retention.is_some(), "PutObjectRetention"), (legal_hold.is_some(), "PutObjectLegalHold")]
        {
            if asked && self.store.access.denies(right) {
                return Err(S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied"));
            }
        }
        Ok(Lock { retention, legal_hold })
    }

    /// Refuses a locked write whose bytes nothing vouches for.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html>
    pub(super) fn must_vouch(&self, headers: &HeaderMap, bucket: &str, lock: &Lock) -> S3Result<()> {
        let default = self.store.look(bucket, |bucket| Ok(bucket.lock.and_then(|lock| lock.default)))?;
        let locked = default.is_some() || *lock != Lock::default();
        if !locked || self.options.quirks.no_checksums {
            return Ok(());
        }
        must_bear_checksum(
            headers,
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put requests with Object Lock parameters",
        )
    }

    /// Whether a request may go past governance.
    pub(super) fn governance(&self, asked: Option<bool>) -> Governance {
        if asked == Some(true) && !self.store.access.denies("BypassGovernanceRetention") {
            Governance::Bypassed
        } else {
            Governance::Heeded
        }
    }

    /// Refuses a change that bears no checksum of its body.
    pub(super) fn must_be_proven(&self, headers: &HeaderMap) -> S3Result<()> {
        if self.options.quirks.no_checksums {
            return Ok(());
        }
        must_bear_checksum(headers, "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
    }

    fn lock_of(&self, bucket: &str, key: &str, version_id: Option<&str>) -> S3Result<Lock> {
        self.store.look(bucket, must_have_lock)?;
        let Found { object, .. } = self.store.found(bucket, key, version_id)?;
        Ok(object.lock)
    }
}

/// A legal hold as S3 spells it.
pub(super) fn on_or_off(on: bool) -> ObjectLockLegalHoldStatus {
    let status = if on { ObjectLockLegalHoldStatus::ON } else { ObjectLockLegalHoldStatus::OFF };
    ObjectLockLegalHoldStatus::from_static(status)
}

fn held(status: &str) -> Option<bool> {
    match status {
        ObjectLockLegalHoldStatus::ON => Some(true),
        ObjectLockLegalHoldStatus::OFF => Some(false),
        _ => None,
    }
}

fn default_retention(asked: Option<&DefaultRetentionDto>) -> S3Result<DefaultRetention> {
    let asked = asked.ok_or(S3ErrorCode::MalformedXML)?;
    let mode = asked.mode.as_ref().and_then(|mode| RetentionMode::named(mode.as_str()));
    let mode = mode.ok_or(S3ErrorCode::MalformedXML)?;
    let (number, longest) = match (asked.days, asked.years) {
        (Some(days), None) => (days, LONGEST.0),
        (None, Some(years)) => (years, LONGEST.1),
        _ => return Err(S3ErrorCode::MalformedXML.into()),
    };
    let number = u32::try_from(number).ok().filter(|number| (1..=longest.unsigned_abs()).contains(number));
    let number = number.ok_or_else(|| {
        let message = "Default retention period must be a positive integer value, and 100 years at most.";
        super::refusal("InvalidRetentionPeriod", message)
    })?;
    let period = if asked.days.is_some() { Period::Days(number) } else { Period::Years(number) };
    Ok(DefaultRetention { mode, period })
}

/// The moment, in whole milliseconds as Amazon S3 keeps it, if it has not come yet.
fn future(until: &Timestamp, now: SystemTime) -> S3Result<SystemTime> {
    let since = instant(until).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let milliseconds = (since + Duration::from_micros(500)).as_millis();
    let until = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX));
    if until > now { Ok(until) } else { Err(invalid("The retain until date must be in the future!")) }
}

fn must_have_lock(bucket: &Bucket) -> S3Result<()> {
    match bucket.lock {
        Some(_) => Ok(()),
        None => Err(S3Error::with_message(S3ErrorCode::InvalidRequest, "Bucket is missing Object Lock Configuration")),
    }
}

fn no_lock() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::NoSuchObjectLockConfiguration,
        "The specified object does not have a ObjectLock configuration",
    )
}

fn invalid(message: &'static str) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
}
