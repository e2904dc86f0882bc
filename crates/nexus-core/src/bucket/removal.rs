//! Objects and versions removed: many in one request where the service knows that, else one by one.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures::stream::{self, StreamExt};

use super::blank::marked;
use super::failure::{Failure, FailureKind, failure};
use super::hashes::content_md5;
use super::s3::{BATCH, S3};
use crate::error::{Error, Result};

/// Removals of one key each at once.
const AT_ONCE: usize = 32;

/// A key, and one version of it or the object itself.
pub(super) type Named<'a> = (&'a str, Option<&'a str>);

/// One that was not removed, and why.
pub(super) struct Refused {
    pub(super) key: String,
    pub(super) version: Option<String>,
    pub(super) failure: Failure,
}

impl S3 {
    pub(crate) async fn remove(&self, keys: &[String]) -> Result<()> {
        let named: Vec<Named<'_>> = keys.iter().map(|key| (key.as_str(), None)).collect();
        let refused = self.remove_named(&named).await?;
        let others = refused.len().saturating_sub(1);
        match refused.into_iter().next() {
            None => Ok(()),
            Some(first) => {
                let more = if others == 0 { String::new() } else { format!(" and {others} more") };
                Err(first.failure.into_error(format!("cannot remove s3://{}/{}{more}", self.name(), first.key)))
            }
        }
    }

    /// Removes each of these; answers those that were refused. One that is gone already is no error.
    ///
    /// # Errors
    ///
    /// What keeps the service from removing anything.
    pub(super) async fn remove_named(&self, all: &[Named<'_>]) -> Result<Vec<Refused>> {
        // XML 1.0 cannot carry control characters, and some readers take the blanks off the ends of a text: what is left of such a key
        // may be that of another object. They go one by one.
        let (odd, plain): (Vec<_>, Vec<_>) =
            all.iter().copied().partition(|(key, _)| key.chars().any(is_no_xml) || key.trim() != *key);
        let mut refused = Vec::new();
        for batch in plain.chunks(BATCH) {
            if self.service.learned.knows_batches() {
                match self.remove_batch(batch).await {
                    Ok(some) => {
                        refused.extend(some);
                        continue;
                    }
                    // Google Cloud Storage has no such operation, and says so in words that differ from year to year
                    // (<https://github.com/boto/boto3/issues/2293>, <https://github.com/supabase/storage/issues/898>).
                    Err(failure) if matches!(failure.kind, FailureKind::Unsupported | FailureKind::Fatal) => {
                        if failure.kind == FailureKind::Unsupported || failure.says("InvalidArgument") {
                            self.service.learned.has_no_batches();
                        }
                    }
                    Err(failure) => return Err(failure.into_error(self.cannot_remove(batch))),
                }
            }
            refused.extend(self.remove_each(batch).await?);
        }
        refused.extend(self.remove_each(&odd).await?);
        Ok(refused)
    }

    fn cannot_remove(&self, some: &[Named<'_>]) -> String {
        match some {
            [(key, None)] => format!("cannot remove s3://{}/{key}", self.name()),
            [(key, Some(_))] => format!("cannot remove a version of s3://{}/{key}", self.name()),
            some => format!("cannot remove {} objects from s3://{}", some.len(), self.name()),
        }
    }

    async fn remove_batch(&self, some: &[Named<'_>]) -> std::result::Result<Vec<Refused>, Failure> {
        let mut delete = Delete::builder().quiet(true);
        for (key, version) in some {
            let object = ObjectIdentifier::builder().key(*key).set_version_id(version.map(str::to_owned)).build();
            delete = delete.objects(object.map_err(Failure::fatal)?);
        }
        let delete = delete.build().map_err(Failure::fatal)?;
        let answer = self
            .attempt(0, async || {
                let request = self.client().delete_objects().bucket(self.name()).delete(delete.clone());
                // Amazon S3 itself is asked as its own SDK does it.
                if self.endpoint().is_none() {
                    return request.send().await.map_err(failure);
                }
                request.customize().interceptor(ContentMd5).send().await.map_err(failure)
            })
            .await?;
        let absent = |code: Option<&str>| matches!(code, Some("NoSuchKey" | "NoSuchVersion"));
        let refused = answer.errors().iter().filter(|error| !absent(error.code()));
        let one = |error: &aws_sdk_s3::types::Error| Refused {
            key: error.key().unwrap_or("?").to_owned(),
            version: error.version_id().map(str::to_owned),
            failure: Failure::of_one(error.code(), error.message()),
        };
        Ok(refused.map(one).collect())
    }

    async fn remove_each(&self, some: &[Named<'_>]) -> Result<Vec<Refused>> {
        let one = async |(key, version): Named<'_>| {
            let removed = self
                .attempt(0, async || {
                    let request = self.client().delete_object().bucket(self.name()).key(marked(key));
                    request.set_version_id(version.map(str::to_owned)).send().await.map_err(failure)
                })
                .await;
            match removed {
                Ok(_) => None,
                Err(failure) if failure.kind == FailureKind::Gone => None,
                Err(failure) => Some(Refused { key: key.to_owned(), version: version.map(str::to_owned), failure }),
            }
        };
        let ended: Vec<Option<Refused>> =
            stream::iter(some.iter().copied()).map(one).buffer_unordered(AT_ONCE).collect().await;
        let mut refused = Vec::new();
        for one in ended.into_iter().flatten() {
            // What concerns one object is its own; a service that does not answer is all of theirs.
            match one.failure.kind {
                FailureKind::Denied | FailureKind::Fatal | FailureKind::Precondition => refused.push(one),
                _ => {
                    return Err::<_, Error>(one.failure.into_error(format!(
                        "cannot remove s3://{}/{}",
                        self.name(),
                        one.key
                    )));
                }
            }
        }
        Ok(refused)
    }
}

fn is_no_xml(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}')
}

/// Sends `Content-MD5` in the place of the checksum that the SDK adds to a removal of many objects.
///
/// Every service takes the old one; Backblaze B2 refuses the new ones as headers that it does not know
/// (<https://github.com/iterate-ch/cyberduck/issues/16107>).
#[derive(Debug)]
struct ContentMd5;

impl Intercept for ContentMd5 {
    fn name(&self) -> &'static str {
        "Content-MD5 of a removal"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let request = context.request_mut();
        let Some(md5) = request.body().bytes().map(content_md5) else { return Ok(()) };
        let is_newer = |name: &str| name.starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm";
        let newer: Vec<String> =
            request.headers().iter().map(|(name, _)| name.to_owned()).filter(|name| is_newer(name)).collect();
        for name in newer {
            request.headers_mut().remove(name);
        }
        request.headers_mut().insert("content-md5", md5);
        Ok(())
    }
}
