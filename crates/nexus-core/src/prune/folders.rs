//! Which folders of records on this machine have outlived their point.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::Doomed;
use super::survey::{Role, Survey};
use crate::error::Result;
use crate::point::{Part, PointId};
use crate::records::folders;
pub use crate::records::folders::RecordFolder;
pub(super) use crate::records::folders::remove;
use crate::retention::Rules;

/// The folders whose point has no records any more, or will have none.
pub(super) fn expired(
    folder: &Path,
    app: &str,
    survey: &Survey,
    doomed: &[Doomed],
    rules: &Rules,
    now: Timestamp,
) -> Result<Vec<RecordFolder>> {
    let mut found = folders::of(folder, app)?;
    found.retain(|folder| is_over(&folder.point, survey, doomed, rules, now));
    Ok(found)
}

/// True when a point has no records any more, or none once `doomed` is gone.
pub(super) fn is_over(id: &PointId, survey: &Survey, doomed: &[Doomed], rules: &Rules, now: Timestamp) -> bool {
    let seen = survey.find(id);
    match seen.map(|seen| (&seen.role, seen)) {
        Some((Role::Point(manifest), seen)) => {
            let going = doomed.iter().any(|doomed| doomed.point == *id && doomed.parts.contains(&Part::Records));
            going || !seen.kept(manifest).contains(&Part::Records)
        }
        // What this vault does not know another one of the app may have, and its records may lie here alone.
        Some((Role::Running(..) | Role::Silent(_), _)) | None => false,
        // The vault knows of no such point any more: its time is that of its id.
        Some((Role::BrokenOff | Role::GivenUp(_), _)) => {
            let age = rules.age(id.label(), Part::Records).and_then(|age| i64::try_from(age).ok());
            let over = age.and_then(|age| id.claimed().checked_add(SignedDuration::from_secs(age)).ok());
            over.is_some_and(|over| now >= over)
        }
    }
}
