//! What the services of this configuration can do beyond what every one does, where the next backup goes by it.

use super::rights::Probe;
use super::{DoctorPlan, Line, Step};
use crate::bucket::Writer;
use crate::bucket::abilities::PartCopies;
use crate::event::size;

/// How the listing and the checksums of the vault's service are.
pub(super) async fn of_vault(plan: &DoctorPlan, key: &str) -> Vec<Line> {
    let name = "listings";
    let listings = match plan.vault.lists_any_key(key).await {
        Ok(true) => Line::passed(name, "keys of every kind can be listed"),
        Ok(false) => Line::warned(
            name,
            "the service does not encode keys in listings: one with a control character makes a listing unreadable",
            vec![Step::Say("leave no control characters in the names of files".to_owned())],
        ),
        Err(error) => Line::of_error(name, error),
    };
    let name = "checksums";
    let checksums = match plan.vault.has_checksum(key).await {
        Ok(true) => Line::passed(name, "the service keeps one over each object"),
        Ok(false) => Line::passed(
            name,
            "the service keeps none of its own: a file that was sent in parts is compared by size, and whole by `verify --full`",
        ),
        Err(error) => Line::of_error(name, error),
    };
    vec![listings, checksums]
}

/// How a large file is copied on the service's side.
pub(super) async fn of_copies(plan: &DoctorPlan, writer: &Writer, from: &str, key: &str) -> Option<Line> {
    let name = "copies in parts";
    let files = plan.backup.files.as_ref()?;
    let what = match writer.part_copies(&files.source, from, key).await {
        Ok(Some(PartCopies::Conditional)) => "a file that has changed meanwhile is not copied".to_owned(),
        Ok(Some(PartCopies::Regardless)) => {
            "the service does not hold parts to the state of the file that was listed: it is compared again after the last"
                .to_owned()
        }
        Ok(Some(PartCopies::None)) => format!(
            "the service copies none: a file of more than {} goes in one request if the service takes that, else through \
             this machine",
            size(plan.vault.copied_at_once())
        ),
        Ok(None) => return None,
        Err(error) => return Some(Line::of_error(name, error)),
    };
    Some(Line::passed(name, what))
}

/// Whether the vault's service keeps the tags of files that come from another one.
pub(super) async fn of_tags(writer: &Writer, probe: &Probe, key: &str) -> Line {
    let name = "tags";
    match writer.keeps_tags(key).await {
        Ok(true) => Line::passed(name, "those of the files come along"),
        Ok(false) => Line::warned(
            name,
            format!("the vault's service did not keep one on {}: a file that has tags is refused", probe.name),
            vec![Step::Say(
                "take the tags off, leave such files out with `exclude` under [files], or give the vault a service that \
                 keeps tags: docs/services.md"
                    .to_owned(),
            )],
        ),
        Err(error) => Line::of_error(name, error),
    }
}
