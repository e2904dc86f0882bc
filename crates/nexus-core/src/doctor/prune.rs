//! Whether what is over its time is pruned.

use jiff::{SignedDuration, Timestamp};

use super::{DoctorPlan, Line, Step};
use crate::local::Scratch;
use crate::prune;
use crate::vault::Vault;

/// How long something may be over its time before it counts as forgotten: a prune a week is often enough.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Nothing where there is no vault yet.
pub(super) async fn line(plan: &DoctorPlan, scratch: &Scratch, now: Timestamp) -> Option<Line> {
    let name = "prune";
    let (app, scratch) = (Some(plan.app.as_str()), scratch.path().to_path_buf());
    let vault = Vault::open(&plan.vault, &plan.address, app, plan.rules.clone(), scratch).await.ok()?;
    let line = match prune::overdue(&vault, &plan.retention, now).await {
        Ok(Some((parts, since))) if now.duration_since(since) > FORGOTTEN => Line::warned(
            name,
            format!(
                "{parts} parts of points are over their time, the first since {}: nothing has pruned them",
                since.strftime("%Y-%m-%d")
            ),
            vec![Step::Nexus(vec!["prune".to_owned(), "--dry-run".to_owned()])],
        ),
        Ok(_) => Line::passed(name, "nothing is long over its time"),
        Err(error) => Line::warned(
            name,
            format!("nothing could be pruned: {error}"),
            vec![Step::Nexus(vec!["list".to_owned(), "--all".to_owned()])],
        ),
    };
    Some(line)
}
