//! The files as they were at the instant, where their bucket keeps versions; elsewhere as a listing made now shows them.

use jiff::{SignedDuration, Timestamp};

use super::capture::FilesPlan;
use super::rules::Rules;
use crate::bucket::history::AsOf;
use crate::bucket::questions::{Answer, Effect, ExpiryRule, Versioning};
use crate::bucket::sorted::Sorted;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::local::Scratch;
use crate::point::{Copies, Finding, FindingKind, Part};

/// Clocks that are apart by less count as one: the service tells its own by the second.
const ONE_CLOCK: SignedDuration = SignedDuration::from_secs(2);
/// Seconds of a day, as lifecycle rules count.
const DAY: u64 = 24 * 60 * 60;

/// Fails unless a point without copies would last: its bucket keeps versions, and for long enough.
///
/// # Errors
///
/// [`Error::Usage`] when it does not; [`Error::Denied`] when one of the two questions may not be asked.
pub(crate) async fn require_versions(plan: &FilesPlan, kept_for: Option<u64>) -> Result<()> {
    if plan.copies != Copies::Versions {
        return Ok(());
    }
    let place = &plan.address;
    let copied = "use copies = \"incremental\", which keeps copies of its own";
    let refused =
        |what: &str| Error::usage_hint(format!("the files at {place} cannot be kept as versions: {what}"), copied);
    match plan.source.versioning().await? {
        Answer::Known(Versioning::On) => {}
        Answer::Known(Versioning::Suspended) => {
            return Err(refused("its versioning is suspended, so what is overwritten is gone"));
        }
        Answer::Known(Versioning::Off) => return Err(refused("the bucket keeps none")),
        Answer::Unsupported => return Err(refused("neither a folder nor this service keeps any")),
        Answer::Denied => return Err(refused("whether it keeps any may not be asked (s3:GetBucketVersioning)")),
    }
    let rules = match plan.source.expiry_rules().await? {
        Answer::Known(rules) => rules,
        Answer::Unsupported => Vec::new(),
        Answer::Denied => {
            return Err(refused("what removes old versions may not be asked (s3:GetLifecycleConfiguration)"));
        }
    };
    let meets = |rule: &&ExpiryRule| {
        let prefix = plan.address.prefix();
        rule.prefix.starts_with(prefix) || prefix.starts_with(rule.prefix.as_str())
    };
    let too_soon = |rule: &&ExpiryRule| kept_for.is_none_or(|kept| rule.days * DAY < kept);
    let removes = |rule: &&ExpiryRule| rule.effect == Effect::RemovesOlder;
    match rules.iter().filter(meets).filter(removes).find(too_soon) {
        None => Ok(()),
        Some(rule) => {
            let kept = kept_for.map_or("for ever".to_owned(), |kept| format!("{} days", kept / DAY));
            Err(refused(&format!(
                "the lifecycle rule {:?} removes versions {} days after they are overwritten, and files are kept {kept}",
                rule.id, rule.days
            )))
        }
    }
}

/// The moment to list at, by the service's clock: the instant, where the bucket keeps versions. `now` is this machine's time.
///
/// # Errors
///
/// What the service cannot be asked for.
pub(crate) async fn of(
    plan: &FilesPlan,
    instant: Option<Timestamp>,
    now: Timestamp,
    events: &Events,
) -> Result<Option<Timestamp>> {
    let wanted = match (instant, plan.copies) {
        (Some(instant), _) => instant,
        (None, Copies::Versions) => now,
        // Nothing else is of an instant that they could be of.
        (None, _) => return Ok(None),
    };
    match plan.source.versioning().await? {
        Answer::Known(Versioning::On) => {}
        Answer::Denied => {
            let what = "whether the bucket keeps versions may not be asked (s3:GetBucketVersioning)";
            events.note(format!("{what}: the files are taken as they are listed, after the instant"));
            return Ok(None);
        }
        Answer::Known(_) | Answer::Unsupported => return Ok(None),
    }
    let apart = plan.source.service_time().await?.map_or(SignedDuration::ZERO, |said| said.duration_since(now));
    let apart = if apart.abs() < ONE_CLOCK { SignedDuration::ZERO } else { apart };
    Ok(Some(wanted.checked_add(apart).unwrap_or(wanted)))
}

/// The files at a moment, with what cannot be told of them; `None` where they are to be taken as they are listed now.
///
/// # Errors
///
/// What the source cannot be listed for.
pub(super) async fn listed(
    plan: &FilesPlan,
    (rules, at): (&Rules, Option<Timestamp>),
    scratch: &Scratch,
    events: &Events,
) -> Result<Option<(Sorted, Vec<Finding>)>> {
    let Some(at) = at else { return Ok(None) };
    let prefix = rules.prefix();
    match plan.source.list_at((prefix, at), |key| rules.takes(key), scratch.path(), events).await {
        Ok(as_of) => Ok(Some(found(as_of))),
        Err(error @ (Error::Denied { .. } | Error::Unsupported { .. })) if plan.copies != Copies::Versions => {
            events.warn(format!("{error}: the files are taken as they are listed, after the instant"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn found(as_of: AsOf) -> (Sorted, Vec<Finding>) {
    let finding =
        |name: String, detail: String| Finding { part: Some(Part::Files), kind: FindingKind::Unsure, name, detail };
    let more = as_of.unsure_total - as_of.unsure.len();
    let mut findings: Vec<Finding> = as_of.unsure.into_iter().map(|(key, why)| finding(key, why)).collect();
    if more > 0 {
        findings.push(finding(String::new(), format!("{more} more files changed as near to the instant")));
    }
    (as_of.objects, findings)
}
