//! Preconditions: whether a request may go on, given the object it is about.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html>

use std::time::{Duration, SystemTime};

use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::object::StoredObject;
use crate::options::MatchOfAbsent;
use crate::timestamps::instant;

/// The four conditions that a read, or the source of a copy, can bear.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadCondition {
    pub matching: Option<ETagCondition>,
    pub not_matching: Option<ETagCondition>,
    pub modified_since: Option<Timestamp>,
    pub unmodified_since: Option<Timestamp>,
}

/// What must be true of the key before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteCondition {
    Always,
    Absent,
    Present,
    Etag(String),
}

/// Whether the object satisfies the conditions, and if not, how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Holds,
    Failed,
    Unchanged,
}

impl ReadCondition {
    fn verdict(&self, object: &StoredObject) -> Verdict {
        let matched = self.matching.as_ref().map(|wanted| is_strong(wanted) && names(wanted, object));
        let unmodified = self.unmodified_since.as_ref().map(|time| object.last_modified <= whole_second(time));
        match (matched, unmodified) {
            (Some(false), _) | (None, Some(false)) => return Verdict::Failed,
            _ => {}
        }
        let differs = self.not_matching.as_ref().map(|unwanted| !names(unwanted, object));
        let modified = self.modified_since.as_ref().map(|time| object.last_modified > whole_second(time));
        match (differs, modified) {
            (Some(false), _) | (None, Some(false)) => Verdict::Unchanged,
            _ => Verdict::Holds,
        }
    }

    /// For a read: an object that has not changed answers 304.
    pub fn admit_read(&self, object: &StoredObject) -> S3Result<()> {
        match self.verdict(object) {
            Verdict::Holds => Ok(()),
            Verdict::Failed => Err(precondition_failed()),
            Verdict::Unchanged => Err(S3ErrorCode::NotModified.into()),
        }
    }

    /// For a copy: whatever fails answers 412.
    pub fn admit_copy(&self, object: &StoredObject) -> S3Result<()> {
        match self.verdict(object) {
            Verdict::Holds => Ok(()),
            Verdict::Failed | Verdict::Unchanged => Err(precondition_failed()),
        }
    }
}

impl WriteCondition {
    /// Reads the headers `If-Match` and `If-None-Match` of a write.
    pub fn new(if_match: Option<ETagCondition>, if_none_match: Option<ETagCondition>) -> S3Result<Self> {
        match (if_match, if_none_match) {
            (None, None) => Ok(Self::Always),
            (None, Some(ETagCondition::Any)) => Ok(Self::Absent),
            (Some(ETagCondition::Any), None) => Ok(Self::Present),
            (Some(ETagCondition::ETag(etag)), None) => Ok(Self::Etag(etag.value().to_owned())),
            (_, Some(_)) => Err(S3Error::with_message(
                S3ErrorCode::NotImplemented,
                "A header you provided implies functionality that is not implemented.",
            )),
        }
    }

    /// Refuses the write if what is there now does not satisfy the condition.
    pub fn admit(&self, present: Option<&StoredObject>, of_absent: MatchOfAbsent) -> S3Result<()> {
        match (self, present) {
            (Self::Always, _) | (Self::Absent, None) | (Self::Present, Some(_)) => Ok(()),
            (Self::Etag(wanted), Some(object)) if *wanted == object.etag => Ok(()),
            (Self::Absent | Self::Etag(_), Some(_)) => Err(precondition_failed()),
            (Self::Present | Self::Etag(_), None) => match of_absent {
                MatchOfAbsent::NotFound => Err(S3ErrorCode::NoSuchKey.into()),
                MatchOfAbsent::Fails => Err(precondition_failed()),
                MatchOfAbsent::Writes => Ok(()),
            },
        }
    }
}

fn names(condition: &ETagCondition, object: &StoredObject) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

/// A weak `ETag` never satisfies `If-Match` (RFC 9110, 13.1.1).
fn is_strong(condition: &ETagCondition) -> bool {
    !matches!(condition, ETagCondition::ETag(ETag::Weak(_)))
}

fn whole_second(time: &Timestamp) -> SystemTime {
    let time = instant(time);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn precondition_failed() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold",
    )
}
