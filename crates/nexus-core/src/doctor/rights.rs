//! What the role may do in the vault and what the service keeps of what is asked, tried on objects that are gone afterwards.

use bytes::Bytes;

use super::abilities;
use super::service::block;
use super::{DoctorPlan, Line, Step};
use crate::bucket::questions::{Answer, Lock, Versioning};
use crate::bucket::{Reader, Remover, StoreOptions, Writer};
use crate::clock::Clock;
use crate::error::{self, Error, Result};
use crate::point::Part;

/// The objects that are tried on, by names that nobody else has.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    /// The name without a prefix.
    pub(super) name: String,
}

/// How all of them begin.
const BEGINNING: &str = ".nexus-probe-";
/// Those of a look that was broken off are this old; younger ones may be another's at work.
const LEFT: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);
/// What is added to the name of a probe, for each that may be stored.
const ENDINGS: [&str; 3] = ["", "-class", "-copy"];

impl Probe {
    pub(super) fn of(clock: &Clock) -> Self {
        Self { name: format!("{BEGINNING}{}", clock.nonce()) }
    }

    fn key(&self, plan: &DoctorPlan, ending: &str) -> String {
        format!("{}{}{ending}", plan.address.prefix(), self.name)
    }
}

/// What must be removed when a look is not carried to its end.
#[derive(Debug)]
pub struct Unfinished {
    remover: Remover,
    keys: Vec<String>,
}

impl Unfinished {
    /// Removes what was stored. What comes to lie there later still, and what cannot be removed now, goes with the next look.
    pub async fn give_up(self) {
        // Nobody is left to be told.
        let _ = futures::future::join_all(self.keys.iter().map(|key| self.remover.erase(key))).await;
    }
}

/// What the role may do, tried on objects of its own; they are gone afterwards, or were never made.
pub(super) async fn lines(
    plan: &DoctorPlan,
    probe: &Probe,
    clock: &Clock,
    unfinished: &mut Option<Unfinished>,
) -> Vec<Line> {
    let writer = plan.vault.writer(plan.address.prefix());
    let remover = writer.clone().remover();
    // Whatever could not be removed again is not written.
    let mut removing = remover.may_remove(&probe.key(plan, "")).await.map(|()| 0);
    sweep_uploads(&plan.vault, plan.address.prefix(), clock).await;
    if let (Ok(swept), Some(before)) = (&mut removing, left_before(&plan.vault, clock).await) {
        match remover.sweep(&format!("{}{BEGINNING}", plan.address.prefix()), before).await {
            Ok(count) => *swept = count,
            Err(error) => removing = Err(error),
        }
    }
    let untried = match &removing {
        Ok(_) => locked(plan).await,
        Err(_) => Some("how they lie there was not tried".to_owned()),
    };
    let mut lines = vec![removal(plan, removing)];
    if let Some(untried) = untried {
        lines.push(match writer.may_store(&probe.key(plan, "")).await {
            Ok(()) => Line::passed("writing", format!("objects may be stored; {untried}")),
            Err(error) => refused("writing", error, plan, "s3:PutObject"),
        });
        return lines;
    }
    let keys = ENDINGS.iter().map(|ending| probe.key(plan, ending)).collect();
    *unfinished = Some(Unfinished { remover: remover.clone(), keys });
    lines.extend(try_all(plan, probe, &writer).await);
    for ending in ENDINGS {
        let key = probe.key(plan, ending);
        if let Err(error) = remover.erase(&key).await {
            let what = format!("{key:?} may still lie in {}: {}", plan.vault.place(), error::chain(&error));
            let again = "run `nexus doctor` again in a quarter of an hour: it removes what this one has left";
            lines.push(Line::failed("removing", what, vec![Step::Say(again.to_owned())]));
        }
    }
    *unfinished = None;
    lines
}

/// Gives up the uploads that looks which were broken off have begun below a prefix.
pub(super) async fn sweep_uploads(reader: &Reader, prefix: &str, clock: &Clock) {
    if let Some(before) = left_before(reader, clock).await {
        let writer = reader.writer(&format!("{prefix}{BEGINNING}"));
        for (key, upload) in writer.old_uploads(before).await {
            let _ = writer.give_up_upload(&key, &upload).await;
        }
    }
}

/// What is older was left behind, by the service's own clock.
async fn left_before(reader: &Reader, clock: &Clock) -> Option<jiff::Timestamp> {
    let now = if reader.is_folder() { Some(clock.now()) } else { reader.service_time().await.ok().flatten() };
    now?.checked_sub(LEFT).ok()
}

/// Why nothing is stored where it could not be removed again for as long as it is locked.
async fn locked(plan: &DoctorPlan) -> Option<String> {
    match plan.vault.object_lock().await {
        Ok(Answer::Known(Some(Lock { mode: Some(_), days }))) => {
            Some(format!("each is locked for {days} days, so how they lie there was not tried"))
        }
        Ok(Answer::Known(_) | Answer::Unsupported) => None,
        // Only a bucket that keeps versions can lock them.
        Ok(Answer::Denied) => match plan.vault.versioning().await {
            Ok(Answer::Known(Versioning::Off) | Answer::Unsupported) => None,
            _ => Some("this role may not ask whether they are locked, so how they lie there was not tried".to_owned()),
        },
        Err(_) => Some("how they lie there was not tried".to_owned()),
    }
}

fn removal(plan: &DoctorPlan, removing: Result<usize>) -> Line {
    let name = "removing";
    match removing {
        Ok(swept) => {
            let left = match swept {
                0 => String::new(),
                swept => format!("; {swept} of a look that was broken off went as well"),
            };
            let each =
                if plan.vault.removes_in_batches() { "" } else { ", in a request each: the service takes no batches" };
            Line::passed(name, format!("objects may be removed, as prune needs{each}{left}"))
        }
        Err(Error::Denied { .. }) => Line::warned(
            name,
            format!(
                "this role may not remove objects in {}: it cannot prune, nor can it harm what it made",
                plan.address
            ),
            vec![grant(
                "let another role prune, or give this one",
                "s3:DeleteObject, s3:DeleteObjectVersion and s3:ListBucketVersions",
            )],
        ),
        Err(error) => Line::of_error(name, error),
    }
}

/// A right, and where the whole policy stands.
fn grant(who: &str, right: &str) -> Step {
    Step::Say(format!("{who} the right {right}; docs/permissions.md has the policies whole"))
}

fn refused(name: &'static str, error: Error, plan: &DoctorPlan, right: &str) -> Line {
    match &error {
        Error::Denied { .. } => Line::failed(
            name,
            error::chain(&error),
            vec![grant("give this role", &format!("{right} on {}", plan.address))],
        ),
        _ => Line::of_error(name, error),
    }
}

/// Writes, reads and copies, and says what the service made of it.
async fn try_all(plan: &DoctorPlan, probe: &Probe, writer: &Writer) -> Vec<Line> {
    let key = probe.key(plan, "");
    let encrypted = StoreOptions { encryption: plan.rules.encryption.clone(), ..StoreOptions::default() };
    let first = Bytes::from(format!("{} was here\n", probe.name));
    let mut lines = match writer.create(&key, first.clone(), &encrypted).await {
        Err(error) => return vec![unwritten(error, plan, writer, &key, first).await],
        Ok(false) => return vec![Line::failed("writing", format!("{key} was there already"), Vec::new())],
        Ok(true) => match plan.vault.read(&key).await {
            Ok(Some(bytes)) if bytes == first => {
                vec![Line::passed("writing", "an object was stored, and reads as it was written")]
            }
            Ok(_) => vec![Line::failed("writing", "an object was stored, and is not there, or another is", Vec::new())],
            Err(error) => vec![refused("writing", error, plan, "s3:GetObject")],
        },
    };
    lines.push(conditional(writer, &key, &encrypted).await);
    if plan.vault.is_folder() {
        return lines;
    }
    lines.extend(abilities::of_vault(plan, &key).await);
    lines.extend(kept(plan, writer, probe).await);
    lines.push(match plan.vault.is_open_to_all(&key).await {
        Ok(false) => Line::passed("unsigned reading", "refused"),
        Ok(true) => Line::failed(
            "unsigned reading",
            format!("anybody who knows a key may read what lies in {}", plan.address),
            block(plan),
        ),
        Err(error) => Line::of_error("unsigned reading", error),
    });
    lines.extend(copying(plan, writer, probe).await);
    lines
}

/// Why nothing could be written, and whether it can when it need not be encrypted.
async fn unwritten(error: Error, plan: &DoctorPlan, writer: &Writer, key: &str, bytes: Bytes) -> Line {
    let of_service = matches!(error, Error::Unreachable { .. } | Error::Service { .. } | Error::Unsupported { .. });
    if let Some(asked) = plan.rules.encryption.as_ref().filter(|_| of_service)
        && let Ok(true) = writer.create(key, bytes, &StoreOptions::default()).await
    {
        return Line::failed(
            "encryption",
            format!("the service cannot do {asked}, and stores what need not be encrypted: {}", error::chain(&error)),
            no_encryption(),
        );
    }
    refused("writing", error, plan, "s3:PutObject")
}

fn no_encryption() -> Vec<Step> {
    vec![
        Step::Setting { table: "vault", line: "encryption = \"none\"".to_owned() },
        Step::Say("if its disks are encrypted in another way".to_owned()),
    ]
}

/// True commits need that an object is stored only where none is.
async fn conditional(writer: &Writer, key: &str, options: &StoreOptions) -> Line {
    let name = "conditional writes";
    match writer.overwrites_regardless(key, Bytes::from_static(b"another"), options).await {
        Ok(false) => Line::passed(name, "an object that is there is not overwritten"),
        Ok(true) => Line::warned(
            name,
            "the service overwrites an object although it was told to store it only where none is: each document is looked \
             for before it is written and read again after it, which two at the very same moment can still slip through",
            vec![Step::Say(
                "never let two backups of this app run at once, and no prune beside a backup: nothing holds them apart here"
                    .to_owned(),
            )],
        ),
        Err(error) => Line::of_error(name, error),
    }
}

/// Encryption and storage class, as asked for and as they are.
async fn kept(plan: &DoctorPlan, writer: &Writer, probe: &Probe) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(asked) = &plan.rules.encryption {
        let name = "encryption";
        lines.push(match plan.vault.lying(&probe.key(plan, "")).await {
            Ok(Some(lying)) if lying.encryption.as_ref() == Some(asked) => Line::passed(name, asked.clone()),
            Ok(_) => Line::warned(
                name,
                format!("{asked} was asked for, and the service does not say that it did it"),
                no_encryption(),
            ),
            Err(error) => Line::of_error(name, error),
        });
    }
    if let Some(class) = &plan.rules.database_class {
        lines.push(class_kept(plan, writer, &probe.key(plan, "-class"), class).await);
    }
    lines
}

async fn class_kept(plan: &DoctorPlan, writer: &Writer, key: &str, class: &str) -> Line {
    let name = "class of databases";
    let to_standard = || vec![Step::Setting { table: "vault", line: "database-class = \"STANDARD\"".to_owned() }];
    let options = StoreOptions { class: Some(class.to_owned()), ..StoreOptions::default() };
    let stored = async {
        writer.create(key, Bytes::from_static(b"class"), &options).await?;
        plan.vault.lying(key).await
    };
    match stored.await {
        Ok(Some(lying)) if lying.class.as_deref() == Some(class) => Line::passed(name, class),
        Ok(lying) => {
            let got = lying.and_then(|lying| lying.class).unwrap_or_else(|| "STANDARD".to_owned());
            Line::warned(name, format!("{class} was asked for, and the service stored {got}"), to_standard())
        }
        Err(error @ (Error::Service { .. } | Error::Unsupported { .. })) => {
            Line::failed(name, error::chain(&error), to_standard())
        }
        Err(error) => Line::of_error(name, error),
    }
}

/// Copies on the service's side, and under a condition.
async fn copying(plan: &DoctorPlan, writer: &Writer, probe: &Probe) -> Vec<Line> {
    let Some(files) = plan.backup.files.as_ref().filter(|_| plan.backup.parts.contains(&Part::Files)) else {
        return Vec::new();
    };
    let name = "copying";
    // A source that cannot be listed has a line of its own.
    let Ok(Some((from, _))) = files.source.small_object(files.address.prefix()).await else { return Vec::new() };
    let key = probe.key(plan, "-copy");
    match writer.copy_beside(&files.source, &from, &key).await {
        Ok(false) => {
            let through = Line::passed(name, "through this machine: files and vault have no service in common");
            return vec![through, abilities::of_tags(writer, probe, &key).await];
        }
        Ok(true) => {}
        Err(error) => {
            let right = format!(
                "s3:GetObject and s3:GetObjectTagging on {}, s3:PutObject and s3:PutObjectTagging",
                files.address
            );
            return vec![refused(name, error, plan, &right)];
        }
    }
    let copied = Line::passed(name, "the service copies from the files to the vault by itself");
    let name = "conditional copies";
    let conditional = match writer.copies_regardless(&files.source, &from, &key).await {
        Ok(false) => Line::passed(name, "a file that has changed meanwhile is not copied"),
        Ok(true) => Line::warned(
            name,
            "the service copies a file although it was told to copy another state of it: a file that changes while it is \
             copied is seen only when it is compared afterwards",
            vec![Step::Say("let the app rest while its files are backed up".to_owned())],
        ),
        Err(error) => Line::of_error(name, error),
    };
    let parts = abilities::of_copies(plan, writer, &from, &key).await;
    [copied, conditional].into_iter().chain(parts).collect()
}
