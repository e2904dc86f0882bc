//! What the vault's bucket does by itself, and whom it lets in.

use super::retention::DAY;
use super::{DoctorPlan, Line, Step};
use crate::bucket::Address;
use crate::bucket::questions::{Answer, Effect, ExpiryRule, Versioning};

/// What the bucket does by itself, and who it lets in.
pub(super) async fn lines(plan: &DoctorPlan) -> Vec<Line> {
    let Address::S3 { bucket, .. } = &plan.address else { return Vec::new() };
    let mut lines = Vec::new();
    lines.extend(exposure(plan).await);
    let versioning = plan.vault.versioning().await;
    let name = "versioning";
    lines.extend(match versioning {
        Err(error) => Some(Line::of_error(name, error)),
        Ok(Answer::Known(Versioning::On)) => Some(Line::passed(
            name,
            "on: what is overwritten or removed can be had back, and is paid for until it expires",
        )),
        Ok(Answer::Known(Versioning::Off)) => Some(Line::passed(name, "off: what is removed is gone")),
        Ok(Answer::Known(Versioning::Suspended)) => Some(Line::warned(
            name,
            "suspended: some objects have older versions, new ones have none",
            vec![keep_versions(bucket)],
        )),
        Ok(answer) => unasked(name, &answer),
    });
    let (line, locks) = lock(plan, bucket).await;
    lines.extend(line);
    lines.extend(account(plan, bucket, locks));
    lines.extend(lifecycle(plan, bucket).await);
    lines
}

/// What could not be asked is no failure: the role may be right not to have that right. Nor has it passed.
fn unasked<T>(name: &'static str, answer: &Answer<T>) -> Option<Line> {
    match answer {
        Answer::Denied => Some(Line::warned(
            name,
            "not looked at: this role may not ask",
            vec![Step::Say(
                "ask as another role, or let this one; docs/permissions.md has the policies whole".to_owned(),
            )],
        )),
        Answer::Unsupported | Answer::Known(_) => None,
    }
}

async fn exposure(plan: &DoctorPlan) -> Option<Line> {
    let name = "public access";
    match plan.vault.exposure().await {
        Err(error) => Some(Line::of_error(name, error)),
        Ok(Answer::Known(exposure)) if exposure.public_policy && !exposure.blocked => {
            Some(Line::failed(name, "the bucket's policy gives rights to everybody", block(plan)))
        }
        Ok(Answer::Known(exposure)) if !exposure.blocked => Some(Line::warned(
            name,
            "nothing keeps a later policy or ACL from opening the bucket to everybody",
            block(plan),
        )),
        Ok(Answer::Known(_)) => Some(Line::passed(name, "blocked")),
        Ok(answer) => unasked(name, &answer),
    }
}

/// Shuts the bucket whatever its policy and its ACLs say.
pub(super) fn block(plan: &DoctorPlan) -> Vec<Step> {
    let Address::S3 { bucket, .. } = &plan.address else { return Vec::new() };
    let all = "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true";
    vec![Step::aws(&[
        "s3api",
        "put-public-access-block",
        "--bucket",
        bucket,
        "--public-access-block-configuration",
        all,
    ])]
}

/// What locks new objects, and whether anything does.
async fn lock(plan: &DoctorPlan, bucket: &str) -> (Option<Line>, bool) {
    let name = "object lock";
    let longest = plan.backup.kept_for.values().copied().max();
    match plan.vault.object_lock().await {
        Err(error) => (Some(Line::of_error(name, error)), false),
        Ok(Answer::Known(None)) => (Some(Line::passed(name, "off")), false),
        Ok(Answer::Known(Some(lock))) => match (&lock.mode, longest) {
            (Some(mode), Some(kept)) if lock.days * DAY > kept => {
                let what = format!(
                    "{mode} locks what is written for {} days, longer than anything is to be kept: prune will find it locked",
                    lock.days
                );
                (Some(Line::warned(name, what, vec![lock_for(bucket, mode, (kept / DAY).max(1))])), true)
            }
            (Some(mode), _) => (Some(Line::passed(name, format!("{mode}, {} days", lock.days))), true),
            (None, _) => (Some(Line::passed(name, "on, and locks nothing by default")), false),
        },
        Ok(answer) => (unasked(name, &answer), false),
    }
}

/// Keeps the versions of what is written into a bucket from now on.
fn keep_versions(bucket: &str) -> Step {
    let on = "Status=Enabled";
    Step::aws(&["s3api", "put-bucket-versioning", "--bucket", bucket, "--versioning-configuration", on])
}

/// Locks what is written into a bucket from now on.
fn lock_for(bucket: &str, mode: &str, days: u64) -> Step {
    let rule = format!(
        "{{\"ObjectLockEnabled\":\"Enabled\",\"Rule\":{{\"DefaultRetention\":{{\"Mode\":\"{mode}\",\"Days\":{days}}}}}}}"
    );
    Step::aws(&["s3api", "put-object-lock-configuration", "--bucket", bucket, "--object-lock-configuration", &rule])
}

/// Files and vault that one account holds go together with it, unless the vault is locked.
fn account(plan: &DoctorPlan, bucket: &str, locked: bool) -> Option<Line> {
    let files = plan.backup.files.as_ref().filter(|files| !files.source.is_folder())?;
    let name = "account";
    if files.source.endpoint() != plan.vault.endpoint() {
        return Some(Line::passed(name, "the vault lies with another service than the files"));
    }
    if !files.source.shares_service_with(&plan.vault) && !plan.vault.is_folder() {
        return Some(Line::passed(name, "the vault lies in another account than the files"));
    }
    if locked {
        return Some(Line::passed(name, "the account of the files, and what is written is locked against removal"));
    }
    let days = plan.backup.kept_for.values().copied().max().map_or(30, |kept| (kept / DAY).max(1));
    let next = vec![
        Step::Say(
            "give the vault an account of its own; or lock what is written, in a bucket that keeps versions:"
                .to_owned(),
        ),
        keep_versions(bucket),
        lock_for(bucket, "GOVERNANCE", days),
    ];
    Some(Line::warned(name, "the same credentials reach files and vault: whoever has them can remove both", next))
}

async fn lifecycle(plan: &DoctorPlan, bucket: &str) -> Option<Line> {
    let name = "lifecycle";
    let rules = match plan.vault.expiry_rules().await {
        Err(error) => return Some(Line::of_error(name, error)),
        Ok(Answer::Known(rules)) => rules,
        Ok(answer) => return unasked(name, &answer),
    };
    let eats = |rule: &&ExpiryRule| matches!(rule.effect, Effect::Removes | Effect::Archives);
    let eating: Vec<&ExpiryRule> =
        rules.iter().filter(eats).filter(|rule| meets(&rule.prefix, plan.address.prefix())).collect();
    if eating.is_empty() {
        return Some(Line::passed(name, "no rule removes or archives anything in the vault"));
    }
    let told: Vec<String> = eating
        .iter()
        .map(|rule| {
            let does = if rule.effect == Effect::Removes { "removes" } else { "puts into an archive" };
            format!("{:?} {does} what lies below {:?} after {} days", rule.id, rule.prefix, rule.days)
        })
        .collect();
    Some(Line::failed(name, told.join("; "), without(bucket, &rules, &eating)))
}

/// True when a rule for one prefix concerns keys below the other.
fn meets(rule: &str, vault: &str) -> bool {
    vault.starts_with(rule) || rule.starts_with(vault)
}

/// Takes rules away and leaves the others.
fn without(bucket: &str, all: &[ExpiryRule], eating: &[&ExpiryRule]) -> Vec<Step> {
    if all.iter().all(|rule| eating.iter().any(|eating| eating.id == rule.id)) {
        return vec![Step::aws(&["s3api", "delete-bucket-lifecycle", "--bucket", bucket])];
    }
    let others: Vec<String> = eating.iter().map(|rule| format!("ID!='{}'", rule.id)).collect();
    let query = format!("{{Rules: Rules[?{}]}}", others.join(" && "));
    let ask =
        ["s3api", "get-bucket-lifecycle-configuration", "--bucket", bucket, "--output", "json", "--query", &query];
    vec![
        Step::AwsInto(ask.map(str::to_owned).to_vec(), "lifecycle.json"),
        Step::aws(&[
            "s3api",
            "put-bucket-lifecycle-configuration",
            "--bucket",
            bucket,
            "--lifecycle-configuration",
            "file://lifecycle.json",
        ]),
    ]
}
