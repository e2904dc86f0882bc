//! This machine: its clock, its disk, its folder of records.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{DoctorPlan, Estimate, Line, Step};
use crate::bucket::{Address, Reader};
use crate::clock::Clock;
use crate::database::Database;
use crate::error::Result;
use crate::event::size;
use crate::local::free_bytes;
use crate::point::Part;

/// How far the clocks may be apart before the ages of points cannot be trusted.
const APART: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

/// How far before services refuse what was signed by this clock
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>, `RequestTimeTooSkewed`).
const REFUSED: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);

/// This machine's clock beside the service's; nothing where there is no service, or one that does not say.
///
/// # Errors
///
/// What the service could not be asked for.
pub(super) async fn clock(plan: &DoctorPlan, clock: &Clock) -> Result<Option<Line>> {
    let source = plan.backup.files.as_ref().map(|files| &files.source);
    let service = if plan.vault.is_folder() { source } else { Some(&plan.vault) };
    let Some(service) = service else { return Ok(None) };
    let theirs = service.service_time().await?;
    Ok(theirs.map(|theirs| beside(service, theirs, clock.now())))
}

fn beside(service: &Reader, theirs: jiff::Timestamp, ours: jiff::Timestamp) -> Line {
    let name = "clock";
    let apart = ours.duration_since(theirs);
    let seconds = apart.as_secs();
    if apart.abs() <= APART {
        return Line::passed(name, format!("{} s from that of {}", seconds.abs(), service.place()));
    }
    let way = if seconds > 0 { "ahead of" } else { "behind" };
    let what = format!(
        "{} min {way} that of {}: times and ages in the vault would be wrong",
        seconds.abs() / 60,
        service.place()
    );
    let next = vec![Step::Shell("timedatectl set-ntp true".to_owned())];
    if apart.abs() <= REFUSED { Line::warned(name, what, next) } else { Line::failed(name, what, next) }
}

/// What takes room on this machine.
struct Needs<'a> {
    name: &'static str,
    folder: &'a Path,
    bytes: u64,
    /// What else may be done than to make room.
    or: &'static str,
}

/// Room for the private copy of a database and for records on their way, for their folder, and for a vault that is one.
pub(super) fn room(plan: &DoctorPlan, estimate: Option<&Estimate>) -> Vec<Line> {
    let Some(estimate) = estimate else { return Vec::new() };
    let mut needs = vec![of_scratch(plan, estimate.scratch_bytes)];
    if let Some(folder) = folder_of_records(plan) {
        let or = "or name another folder with --records";
        needs.push(Needs { name: "room for records", folder, bytes: estimate.records_bytes, or });
    }
    if let Address::Folder(folder) = &plan.address {
        let or = "or give the vault another disk with --vault";
        needs.push(Needs { name: "room in the vault", folder, bytes: estimate.bytes.stored, or });
    }
    let disk = |folder: &Path| std::fs::metadata(nearest(folder)).map(|metadata| metadata.dev()).ok();
    // What lies on one disk is needed there together.
    let together = |needs: &[Needs<'_>], one: &Needs<'_>| -> u64 {
        needs.iter().filter(|other| disk(other.folder) == disk(one.folder)).map(|other| other.bytes).sum()
    };
    let line = |one: &Needs<'_>| match free_bytes(nearest(one.folder)) {
        Ok(free) => fits(one, free, together(&needs, one)),
        Err(error) => Line::of_error(one.name, error),
    };
    needs.iter().map(line).collect()
}

/// The same for a SQLite file by its size alone, which costs nothing to know.
pub(super) fn room_for_copy(plan: &DoctorPlan) -> Option<Line> {
    let Some(Database::Sqlite(database)) = &plan.backup.database else { return None };
    // Files alone need no copy of a database.
    if !plan.backup.parts.iter().any(|part| matches!(part, Part::Database | Part::Records)) {
        return None;
    }
    // A file that is not there is told of by whoever opens it.
    let needed = std::fs::metadata(database.path()).ok()?.len();
    Some(fits(&of_scratch(plan, needed), free_bytes(&plan.backup.scratch).ok()?, needed))
}

fn of_scratch(plan: &DoctorPlan, bytes: u64) -> Needs<'_> {
    let scratch = &plan.backup.scratch;
    // The folder of this run alone says nothing to a person; the one it lies in does.
    let folder = scratch.parent().unwrap_or(scratch);
    let or = "or name another folder for temporary files, `TMPDIR=/var/tmp nexus …`";
    Needs { name: "scratch", folder, bytes, or }
}

fn fits(needs: &Needs<'_>, free: u64, needed: u64) -> Line {
    let folder = needs.folder.display();
    let what = format!("{} are free in {folder}, about {} are needed", size(free), size(needed));
    if free >= needed {
        return Line::passed(needs.name, what);
    }
    let next = format!("`df -h {}` shows what is full: make room, {}", nearest(needs.folder).display(), needs.or);
    Line::failed(needs.name, what, vec![Step::Say(next)])
}

/// A folder, or the one that is there and would hold it.
fn nearest(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"))
}

fn folder_of_records(plan: &DoctorPlan) -> Option<&Path> {
    let records = plan.backup.records.as_ref().filter(|_| plan.backup.parts.contains(&Part::Records));
    records?.folder.as_deref()
}

/// The folder that records go into.
pub(super) fn records_folder(plan: &DoctorPlan) -> Vec<Line> {
    let name = "records folder";
    let Some(folder) = folder_of_records(plan) else { return Vec::new() };
    let shown = folder.display();
    if folder.exists() && !folder.is_dir() {
        let quoted = folder.display().to_string().replace('\'', "'\\''");
        let next = vec![Step::Shell(format!("mv '{quoted}' '{quoted}.aside'"))];
        return vec![Line::failed(name, format!("{shown} is not a folder"), next)];
    }
    let nearest = nearest(folder);
    let mode = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if let Err(cause) = rustix::fs::access(nearest, mode) {
        let next = vec![Step::Say(format!(
            "let this user write in {}, or name another folder with --records",
            nearest.display()
        ))];
        return vec![Line::failed(name, format!("{} cannot be written to: {cause}", nearest.display()), next)];
    }
    vec![Line::passed(name, format!("{shown}, private, and kept out of git by a .gitignore of its own"))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Standing;

    #[test]
    fn a_disk_without_room_for_the_copy_is_named_with_both_numbers() {
        let scratch = Needs { name: "scratch", folder: Path::new("/tmp"), bytes: 55_000_000, or: "" };
        let line = fits(&scratch, 1_000_000, 55_000_000);
        assert_eq!(line.standing, Standing::Failed);
        assert!(line.what.contains("1.0 MB are free in /tmp") && line.what.contains("55.0 MB"), "{}", line.what);
        assert_eq!(fits(&scratch, 2, 2).standing, Standing::Passed);
    }
}
