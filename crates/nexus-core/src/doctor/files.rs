//! The files: can they be listed and read, and could they be put back.

use super::rights::{self, Probe};
use super::{DoctorPlan, Line, Step, Trying};
use crate::bucket::Address;
use crate::clock::Clock;
use crate::error::{self, Error};
use crate::files::capture::FilesPlan;
use crate::files::moment;
use crate::point::{Copies, Part};

/// Reach, and the right to put files back.
pub(super) async fn look(plan: &DoctorPlan, probe: &Probe, clock: &Clock) -> Vec<Line> {
    let Some(files) = plan.backup.files.as_ref().filter(|_| plan.backup.parts.contains(&Part::Files)) else {
        return Vec::new();
    };
    let name = "files";
    if let Err(error) = files.source.check().await {
        let missing = matches!(error, Error::Missing { .. });
        let mut line = Line::of_error(name, error);
        if let (true, Address::S3 { bucket, .. }) = (missing, &files.address) {
            line.cause = None;
            line.next = vec![
                Step::Say("name the right bucket with --files, or make it:".to_owned()),
                Step::aws(&["s3", "mb", &format!("s3://{bucket}")]),
            ];
        }
        return vec![line];
    }
    let reached = Line::passed(name, format!("{} can be listed", files.address));
    let mut lines = vec![reached];
    lines.extend(versions(plan, files).await);
    if plan.trying == Trying::Nothing {
        return lines;
    }
    let prefix = files.address.prefix();
    let name = "putting back";
    rights::sweep_uploads(&files.source, prefix, clock).await;
    let back = match files.source.writer(prefix).may_store(&format!("{prefix}{}", probe.name)).await {
        Ok(()) => Line::passed(name, "this role may store files where they came from, as restore needs"),
        Err(error @ Error::Denied { .. }) => Line::warned(
            name,
            format!("{}: it cannot restore", error::chain(&error)),
            vec![Step::Say(format!(
                "restore as another role, or give this one the right s3:PutObject on {}; docs/permissions.md has the policies whole",
                files.address
            ))],
        ),
        Err(error) => Line::of_error(name, error),
    };
    lines.push(back);
    lines
}

/// Whether points without copies would last.
async fn versions(plan: &DoctorPlan, files: &FilesPlan) -> Option<Line> {
    let name = "files as versions";
    if files.copies != Copies::Versions {
        return None;
    }
    Some(match moment::require_versions(files, plan.backup.kept_for.get(&Part::Files).copied()).await {
        Ok(()) => Line::passed(name, "the bucket keeps versions for longer than points are kept"),
        Err(error) => Line::of_error(name, error),
    })
}
