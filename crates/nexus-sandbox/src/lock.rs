//! Object Lock: what keeps a version from being removed, and who may change that.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>

use std::time::{Duration, SystemTime};

use s3s::{S3Error, S3ErrorCode, S3Result};

/// How strictly a version is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionMode {
    /// Whoever has the right to may shorten it, or remove the version.
    Governance,
    /// Nobody may, and it can only be extended.
    Compliance,
}

/// Until when a version is kept, and how strictly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub mode: RetentionMode,
    pub until: SystemTime,
}

/// The retention that a bucket gives to versions that are written without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultRetention {
    pub mode: RetentionMode,
    pub period: Period,
}

/// A length of time as a configuration says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    Days(u32),
    Years(u32),
}

/// What keeps one version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lock {
    pub retention: Option<Retention>,
    /// None if it was never set, which is not the same as off to those who ask.
    pub legal_hold: Option<bool>,
}

/// The Object Lock of a bucket that has it; it can never be turned off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BucketLock {
    pub default: Option<DefaultRetention>,
}

/// Whether a request goes past governance: by its header and the right to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Governance {
    Heeded,
    Bypassed,
}

impl RetentionMode {
    /// As S3 spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }

    /// Reads the spelling of S3.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Governance, Self::Compliance].into_iter().find(|mode| mode.name() == name)
    }
}

impl DefaultRetention {
    /// The retention of a version that is made now.
    pub(crate) fn from(self, now: SystemTime) -> Retention {
        let days = match self.period {
            Period::Days(days) => days,
            Period::Years(years) => years * 365,
        };
        Retention { mode: self.mode, until: now + Duration::from_secs(u64::from(days) * 86_400) }
    }
}

impl Lock {
    /// Refuses the removal of a version that is kept.
    pub(crate) fn must_let_go(&self, now: SystemTime, governance: Governance) -> S3Result<()> {
        let kept = self.retention.is_some_and(|retention| match retention.mode {
            _ if retention.until <= now => false,
            RetentionMode::Compliance => true,
            RetentionMode::Governance => governance == Governance::Heeded,
        });
        if kept || self.legal_hold == Some(true) { Err(protected()) } else { Ok(()) }
    }

    /// Refuses a retention that keeps the version for less long, or less strictly, than the one it has.
    ///
    /// Governance may be extended by everybody and otherwise changed by those who may bypass it.
    pub(crate) fn must_allow(
        &self,
        wanted: Option<Retention>,
        now: SystemTime,
        governance: Governance,
    ) -> S3Result<()> {
        let Some(present) = self.retention.filter(|retention| retention.until > now) else {
            return Ok(());
        };
        let extends = wanted.is_some_and(|wanted| wanted.mode == present.mode && wanted.until >= present.until);
        let bypasses = present.mode == RetentionMode::Governance && governance == Governance::Bypassed;
        if extends || bypasses { Ok(()) } else { Err(protected()) }
    }
}

fn protected() -> S3Error {
    S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied because object protected by object lock.")
}
