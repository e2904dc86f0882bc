//! Who may do what: one account that may do everything unless it is told otherwise, and the public.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use s3s::access::{S3Access, S3AccessContext};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::store::Store;

/// The rules in force; they can be changed while the service runs.
#[derive(Debug, Default)]
pub(crate) struct Access {
    denied: Mutex<BTreeSet<String>>,
    /// The only ones allowed, once any are named.
    only: Mutex<Option<BTreeSet<String>>>,
    public: AtomicBool,
    blocked: AtomicBool,
}

impl Access {
    pub fn deny(&self, operation: &str) {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).insert(operation.to_owned());
    }

    pub fn allow_all(&self) {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.only.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn allow_only(&self, operations: &[&str]) {
        let named = operations.iter().map(ToString::to_string).collect();
        *self.only.lock().unwrap_or_else(PoisonError::into_inner) = Some(named);
    }

    pub fn make_public(&self) {
        self.public.store(true, Ordering::Relaxed);
    }

    pub fn block(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    pub fn is_public(&self) -> bool {
        self.public.load(Ordering::Relaxed)
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    pub fn denies(&self, operation: &str) -> bool {
        let only = self.only.lock().unwrap_or_else(PoisonError::into_inner);
        only.as_ref().is_some_and(|only| !only.contains(operation))
            || self.denied.lock().unwrap_or_else(PoisonError::into_inner).contains(operation)
    }
}

/// Asks the store's rules before every operation.
pub(crate) struct Gate(pub Arc<Store>);

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = context.s3_op().name();
        let query = context.uri().query().unwrap_or_default();
        let names_version = query.split('&').any(|pair| pair.starts_with("versionId="));
        let access = &self.0.access;
        let allowed = match context.credentials() {
            Some(_) if names_version => !access.denies(action_on_version(operation)),
            Some(_) => !access.denies(operation),
            None => access.is_public() && !access.is_blocked() && operation == "GetObject" && !names_version,
        };
        if !allowed {
            return Err(S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied"));
        }
        self.0.quirks.must_take(operation, context.s3_path(), context.headers())
    }
}

/// What a policy calls an operation when it names a version; the rights to the newest do not include it.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html>
fn action_on_version(operation: &str) -> &str {
    match operation {
        "GetObject" | "HeadObject" => "GetObjectVersion",
        "DeleteObject" => "DeleteObjectVersion",
        "GetObjectTagging" => "GetObjectVersionTagging",
        "PutObjectTagging" => "PutObjectVersionTagging",
        "DeleteObjectTagging" => "DeleteObjectVersionTagging",
        "GetObjectAttributes" => "GetObjectVersionAttributes",
        "GetObjectAcl" => "GetObjectVersionAcl",
        "PutObjectAcl" => "PutObjectVersionAcl",
        other => other,
    }
}
