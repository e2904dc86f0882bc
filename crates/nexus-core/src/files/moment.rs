//! The files as they were at the instant, where their bucket keeps versions; elsewhere as a listing made now shows them.

use jiff::{SignedDuration, Timestamp};

use super::capture::FilesPlan;
use super::rules::Rules;
use crate::bucket::history::{AsOf, Moment, UNSURE};
use crate::bucket::questions::{Answer, Effect, ExpiryRule, Versioning};
use crate::bucket::sorted::Sorted;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::local::Scratch;
use crate::point::{Copies, Finding, FindingKind, Part};

/// The grain of a service's `Date`, and of the times that it gives its objects.
const GRAIN: SignedDuration = SignedDuration::from_secs(1);
/// A clock that took longer to tell is asked again.
const SLOW: SignedDuration = SignedDuration::from_secs(2);
/// How often.
const ASKED: u32 = 5;
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
    let removes = |rule: &&ExpiryRule| matches!(rule.effect, Effect::RemovesOlder | Effect::ArchivesOlder);
    match rules.iter().filter(meets).filter(removes).find(too_soon) {
        None => Ok(()),
        Some(rule) => {
            let kept = kept_for.map_or("for ever".to_owned(), |kept| format!("{} days", kept / DAY));
            Err(refused(&format!(
                "the lifecycle rule {:?} {} versions {} days after they are overwritten, and files are kept {kept}",
                rule.id,
                if rule.effect == Effect::RemovesOlder { "removes" } else { "archives" },
                rule.days
            )))
        }
    }
}

/// The moment to list at, by the service's clock: the instant, where the bucket keeps versions.
///
/// # Errors
///
/// What the service cannot be asked for.
pub(crate) async fn of(
    plan: &FilesPlan,
    instant: Option<Timestamp>,
    now: impl Fn() -> Timestamp,
    events: &Events,
) -> Result<Option<Moment>> {
    let wanted = match (instant, plan.copies) {
        (Some(instant), _) => instant,
        (None, Copies::Versions) => now(),
        // Nothing else is of an instant that they could be of.
        (None, _) => return Ok(None),
    };
    match plan.source.versioning().await? {
        Answer::Known(Versioning::On) => {}
        Answer::Denied => {
            let what = "whether the bucket keeps versions may not be asked (s3:GetBucketVersioning)";
            events.warn(format!("{what}: the files are taken as they are listed, after the instant"));
            return Ok(None);
        }
        Answer::Known(_) | Answer::Unsupported => return Ok(None),
    }
    // How far the clocks are apart is known to half of the time that the answer took, and to the grain of both.
    let (mut apart, mut took) = (SignedDuration::ZERO, SignedDuration::ZERO);
    for _ in 0..ASKED {
        let before = now();
        let Some(said) = plan.source.service_time().await? else { break };
        took = now().duration_since(before);
        apart = said.duration_since(before) - took / 2 + GRAIN / 2;
        if took <= SLOW {
            break;
        }
    }
    let at = wanted.checked_add(apart).unwrap_or(wanted);
    Ok(Some(Moment { at, unsure: UNSURE + GRAIN + took / 2 }))
}

/// The files at a moment, with what cannot be told of them; `None` where they are to be taken as they are listed now.
///
/// # Errors
///
/// What the source cannot be listed for.
pub(super) async fn listed(
    plan: &FilesPlan,
    (rules, at): (&Rules, Option<Moment>),
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
