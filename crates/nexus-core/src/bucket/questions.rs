//! What a service says of a bucket beside its objects: asked by the checklist only.

use std::sync::{Arc, Mutex};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{
    BucketVersioningStatus, EncodingType, ExpirationStatus, LifecycleRule, LifecycleRuleFilter, PolicyStatus,
    Transition, TransitionStorageClass,
};
use jiff::Timestamp;

use super::failure::{Failure, FailureKind, failure};
use super::s3::{S3, timestamp};
use super::{Bucket, Reader};
use crate::error::Result;

/// What came of a question that not every role may ask and not every service answers.
#[derive(Debug)]
pub enum Answer<T> {
    /// The answer.
    Known(T),
    /// The role may not ask.
    Denied,
    /// The service, or a folder, knows nothing of it.
    Unsupported,
}

/// Whether a bucket keeps the versions of its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    /// It never did.
    Off,
    /// It does.
    On,
    /// It did, and keeps what it has.
    Suspended,
}

/// What a bucket's Object Lock gives to new objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// `GOVERNANCE` or `COMPLIANCE`, when new objects are locked by default.
    pub mode: Option<String>,
    /// Days that they are locked.
    pub days: u64,
}

/// A rule by which a bucket removes objects by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiryRule {
    /// Its id, when it has one.
    pub id: String,
    /// The prefix it is for; the empty one is the whole bucket.
    pub prefix: String,
    /// Days after which it does; 0 for a fixed date.
    pub days: u64,
    /// What it does.
    pub effect: Effect,
}

/// What a lifecycle rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It removes objects.
    Removes,
    /// It removes versions that are no longer current.
    RemovesOlder,
    /// It moves objects into an archive, from which they are neither read nor copied until somebody has them restored.
    Archives,
    /// It moves versions that are no longer current into an archive.
    ArchivesOlder,
    /// It removes and archives nothing.
    Spares,
}

/// What lets others in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// The bucket's policy gives rights to everybody.
    pub public_policy: bool,
    /// All four settings of the public access block are on.
    pub blocked: bool,
}

impl Reader {
    /// What the service's clock said in an answer; `None` for a folder, and a service that does not say.
    pub async fn service_time(&self) -> Result<Option<Timestamp>> {
        match self.bucket() {
            Bucket::S3(s3) => s3.service_time().await,
            Bucket::Folder(_) => Ok(None),
        }
    }

    /// Whether the bucket keeps versions.
    pub async fn versioning(&self) -> Result<Answer<Versioning>> {
        match self.bucket() {
            Bucket::S3(s3) => s3.versioning().await,
            Bucket::Folder(_) => Ok(Answer::Unsupported),
        }
    }

    /// What locks new objects; `None` where nothing does.
    pub async fn object_lock(&self) -> Result<Answer<Option<Lock>>> {
        match self.bucket() {
            Bucket::S3(s3) => s3.object_lock().await,
            Bucket::Folder(_) => Ok(Answer::Unsupported),
        }
    }

    /// The rules by which the bucket removes objects by itself.
    pub async fn expiry_rules(&self) -> Result<Answer<Vec<ExpiryRule>>> {
        match self.bucket() {
            Bucket::S3(s3) => s3.expiry_rules().await,
            Bucket::Folder(_) => Ok(Answer::Unsupported),
        }
    }

    /// What lets others in by policy.
    pub async fn exposure(&self) -> Result<Answer<Exposure>> {
        match self.bucket() {
            Bucket::S3(s3) => s3.exposure().await,
            Bucket::Folder(_) => Ok(Answer::Unsupported),
        }
    }
}

/// Sorts what the SDK reports of a question: a success that cannot be read is a service that does not know it.
fn question<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let strange = error.raw_response().is_some_and(|answer| answer.status().is_success());
    let failure = failure(error);
    if strange { failure.unsupported() } else { failure }
}

/// Sorts what became of a question: what a service cannot do is no failure, nor is what a role may not ask.
fn answer<T>(asked: std::result::Result<T, Failure>, none: Option<(T, &[&str])>, what: &str) -> Result<Answer<T>> {
    let failure = match asked {
        Ok(known) => return Ok(Answer::Known(known)),
        Err(failure) => failure,
    };
    if let Some((none, codes)) = none
        && codes.iter().any(|code| failure.says(code))
    {
        return Ok(Answer::Known(none));
    }
    match failure.kind {
        FailureKind::Denied => Ok(Answer::Denied),
        FailureKind::Unsupported | FailureKind::Gone | FailureKind::Fatal => Ok(Answer::Unsupported),
        _ => Err(failure.into_error(what.to_owned())),
    }
}

impl S3 {
    async fn service_time(&self) -> Result<Option<Timestamp>> {
        let heard = Heard::default();
        let ear = heard.clone();
        let listed = self
            .attempt(0, async || {
                let request = self.client().list_objects_v2().bucket(self.name()).max_keys(1);
                // The first key may be one that XML cannot carry.
                let request = request.encoding_type(EncodingType::Url);
                request.customize().interceptor(ear.clone()).send().await.map_err(failure)
            })
            .await;
        let said = heard.0.lock().ok().and_then(|mut said| said.take());
        let time = said.and_then(|said| DateTime::from_str(&said, DateTimeFormat::HttpDate).ok());
        match (time.as_ref().and_then(timestamp), listed) {
            // A refusal has a date too, and a clock that is far off is refused.
            (Some(time), _) => Ok(Some(time)),
            (None, Ok(_)) => Ok(None),
            (None, Err(failure)) => Err(failure.into_error(format!("cannot list the bucket s3://{}", self.name()))),
        }
    }

    pub(super) async fn versioning(&self) -> Result<Answer<Versioning>> {
        let what = format!("cannot ask for the versioning of s3://{}", self.name());
        let asked = self
            .attempt(0, async || {
                let answer =
                    self.client().get_bucket_versioning().bucket(self.name()).send().await.map_err(question)?;
                Ok(match answer.status() {
                    Some(BucketVersioningStatus::Enabled) => Versioning::On,
                    Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
                    _ => Versioning::Off,
                })
            })
            .await;
        answer(asked, None, &what)
    }

    async fn object_lock(&self) -> Result<Answer<Option<Lock>>> {
        let what = format!("cannot ask for the Object Lock of s3://{}", self.name());
        let asked = self
            .attempt(0, async || {
                let answer =
                    self.client().get_object_lock_configuration().bucket(self.name()).send().await.map_err(question)?;
                let Some(configured) = answer.object_lock_configuration() else { return Ok(None) };
                let default = configured.rule().and_then(|rule| rule.default_retention());
                let number = |count: Option<i32>| u64::try_from(count.unwrap_or(0)).unwrap_or(0);
                let days = default.map_or(0, |kept| number(kept.days()) + 365 * number(kept.years()));
                let mode = default.and_then(|kept| kept.mode()).map(|mode| mode.as_str().to_owned());
                Ok(configured.object_lock_enabled().map(|_| Lock { mode, days }))
            })
            .await;
        answer(asked, Some((None, &["ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"])), &what)
    }

    async fn expiry_rules(&self) -> Result<Answer<Vec<ExpiryRule>>> {
        let what = format!("cannot ask for the lifecycle rules of s3://{}", self.name());
        let asked = self
            .attempt(0, async || {
                let asked = self.client().get_bucket_lifecycle_configuration().bucket(self.name());
                let answer = asked.send().await.map_err(question)?;
                Ok(answer.rules().iter().flat_map(expiry_rules).collect::<Vec<_>>())
            })
            .await;
        answer(asked, Some((Vec::new(), &["NoSuchLifecycleConfiguration"])), &what)
    }

    async fn exposure(&self) -> Result<Answer<Exposure>> {
        let what = format!("cannot ask who may read s3://{}", self.name());
        let policy = self
            .attempt(0, async || {
                let asked = self.client().get_bucket_policy_status().bucket(self.name()).send().await;
                let answer = asked.map_err(question)?;
                Ok(answer.policy_status().and_then(PolicyStatus::is_public) == Some(true))
            })
            .await;
        let policy = answer(policy, Some((false, &["NoSuchBucketPolicy"])), &what)?;
        let block = self
            .attempt(0, async || {
                let asked = self.client().get_public_access_block().bucket(self.name()).send().await;
                let answer = asked.map_err(question)?;
                Ok(answer.public_access_block_configuration().is_some_and(|block| {
                    let all = [
                        block.block_public_acls(),
                        block.ignore_public_acls(),
                        block.block_public_policy(),
                        block.restrict_public_buckets(),
                    ];
                    all.iter().all(|one| *one == Some(true))
                }))
            })
            .await;
        let block = answer(block, Some((false, &["NoSuchPublicAccessBlockConfiguration"])), &what)?;
        Ok(match (policy, block) {
            (Answer::Known(public_policy), Answer::Known(blocked)) => {
                Answer::Known(Exposure { public_policy, blocked })
            }
            // A policy that is open counts whether or not the block is known.
            (Answer::Known(true), _) => Answer::Known(Exposure { public_policy: true, blocked: false }),
            (Answer::Denied, _) | (_, Answer::Denied) => Answer::Denied,
            _ => Answer::Unsupported,
        })
    }
}

/// What a lifecycle rule does; one that does several things stands there several times, one that is off or spares all once.
fn expiry_rules(rule: &LifecycleRule) -> Vec<ExpiryRule> {
    let prefix = rule.filter().and_then(LifecycleRuleFilter::prefix);
    let both = rule.filter().and_then(|filter| filter.and()).and_then(|and| and.prefix());
    #[expect(deprecated, reason = "older rules have their prefix there")]
    let prefix = prefix.or(both).or(rule.prefix()).unwrap_or_default().to_owned();
    let id = rule.id().unwrap_or_default().to_owned();
    let number = |days: Option<i32>| u64::try_from(days.unwrap_or(0)).unwrap_or(0);
    let mut effects = Vec::new();
    if rule.status() == &ExpirationStatus::Enabled {
        let expiry = rule.expiration().filter(|expiry| expiry.days().is_some() || expiry.date().is_some());
        effects.extend(expiry.map(|expiry| (number(expiry.days()), Effect::Removes)));
        let older = rule.noncurrent_version_expiration();
        effects.extend(older.map(|expiry| (number(expiry.noncurrent_days()), Effect::RemovesOlder)));
        let mut older = rule.noncurrent_version_transitions().iter();
        let older = older.find(|transition| transition.storage_class().is_some_and(is_archive));
        effects.extend(older.map(|transition| (number(transition.noncurrent_days()), Effect::ArchivesOlder)));
        let out_of_reach = |transition: &&Transition| transition.storage_class().is_some_and(is_archive);
        let archives = rule.transitions().iter().find(out_of_reach);
        effects.extend(archives.map(|transition| (number(transition.days()), Effect::Archives)));
    }
    if effects.is_empty() {
        effects.push((0, Effect::Spares));
    }
    effects
        .into_iter()
        .map(|(days, effect)| ExpiryRule { id: id.clone(), prefix: prefix.clone(), days, effect })
        .collect()
}

fn is_archive(class: &TransitionStorageClass) -> bool {
    matches!(class, TransitionStorageClass::Glacier | TransitionStorageClass::DeepArchive)
}

/// Listens for the `Date` of an answer.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Option<String>>>);

impl Intercept for Heard {
    fn name(&self) -> &'static str {
        "the date of an answer"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let said = context.response().headers().get("date").map(str::to_owned);
        if let Ok(mut heard) = self.0.lock() {
            *heard = said;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::LifecycleExpiration;

    use super::*;

    fn effects(rule: aws_sdk_s3::types::builders::LifecycleRuleBuilder) -> Vec<(u64, Effect)> {
        let rule = rule.id("r").build().expect("a rule");
        expiry_rules(&rule).into_iter().map(|rule| (rule.days, rule.effect)).collect()
    }

    #[test]
    fn a_rule_is_told_by_what_it_does_and_every_rule_is_told() {
        let rule = |status| LifecycleRule::builder().status(status);
        let removes = LifecycleExpiration::builder().days(3).build();
        let into = |class: TransitionStorageClass| Transition::builder().days(9).storage_class(class).build();
        let on = || rule(ExpirationStatus::Enabled);
        assert_eq!(effects(on().expiration(removes.clone())), [(3, Effect::Removes)]);
        assert_eq!(effects(on().transitions(into(TransitionStorageClass::DeepArchive))), [(9, Effect::Archives)]);
        assert_eq!(effects(on().transitions(into(TransitionStorageClass::StandardIa))), [(0, Effect::Spares)]);
        assert_eq!(effects(rule(ExpirationStatus::Disabled).expiration(removes)), [(0, Effect::Spares)]);
    }
}
