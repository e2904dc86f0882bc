//! Which old names there are, and which of them are of one run: the nearest in time, each used once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::AdoptRequest;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::point::{Part, PointId, RecordsPart};
use crate::records::{folders, old};
use crate::vault::{PointState, Standing, Vault, layout};

/// How far the parts of one run may be apart.
const APART: SignedDuration = SignedDuration::from_mins(30);

/// What is left alone, each with the reason.
pub(super) type Left = Vec<(String, String)>;

/// What was found.
pub(super) struct Found {
    /// The runs, oldest first.
    pub(super) runs: Vec<Run>,
    /// What is left alone, each with the reason.
    pub(super) left: Left,
}

/// Something with a time in its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    stamp: String,
    at: Timestamp,
}

/// What one run of a script left.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: PointId,
    pub(super) database: Option<Named>,
    pub(super) files: Option<Named>,
    /// A folder of records on this machine, and what it holds.
    pub(super) records: Option<(PathBuf, RecordsPart)>,
    records_at: Option<Timestamp>,
}

impl Run {
    fn times(&self) -> impl Iterator<Item = Timestamp> {
        [self.database.as_ref(), self.files.as_ref()].into_iter().flatten().map(|named| named.at).chain(self.records_at)
    }

    /// When its database was taken, else its files.
    pub(super) fn instant(&self) -> Timestamp {
        self.times().next().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// What its parts are called.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let in_vault = [self.database.as_ref(), self.files.as_ref()].into_iter().flatten();
        let here = self.records.iter().map(|(folder, _)| folder.display().to_string());
        in_vault.map(|named| named.name.clone()).chain(here)
    }

    pub(super) fn apart_seconds(&self) -> u64 {
        let (first, last) = (self.times().min(), self.times().max());
        first.zip(last).map_or(0, |(first, last)| last.duration_since(first).as_secs().unsigned_abs())
    }
}

/// Looks for them.
pub(super) async fn find(
    vault: &Vault,
    request: &AdoptRequest,
    unfinished: &BTreeMap<String, String>,
    records: &[OldFolder],
) -> Result<Found> {
    let mut left = Vec::new();
    // Listed before the points are read: a backup that begins in between has its claim, and nothing of it is listed here.
    let (listed, ids) = (vault.objects_below(layout::DATABASE).await?, vault.ids().await?);
    let states = vault.points().await?;
    let Known { ours, mut taken, mut others } = Known::of(vault, &states);
    let (mut databases, mut cut) = (Vec::new(), Vec::new());
    for object in listed {
        let (key, _) = object?;
        if ours.contains(&key) {
            continue;
        }
        let old = layout::stamp_of_database(&key).and_then(|stamp| named(&key, stamp, &request.timezone));
        match old.ok_or("its name is not that of a backup".to_owned()).and_then(|old| wanted(old, request)) {
            Ok(old) => match unfinished.get(&key) {
                Some(why) => {
                    left.push((key, why.clone()));
                    cut.push((old, why.starts_with(UNFINISHED)));
                }
                None => databases.push(old),
            },
            Err(why) => left.push((key, why)),
        }
    }
    let of_files = |id: &PointId| states.iter().find(|state| state.id == *id).is_none_or(goes_on_with_files);
    let folders = ids.iter().filter(|id| of_files(id));
    let folders = folders.filter_map(|id| named(&format!("{id}/"), id.stamp(), &request.timezone)).collect();
    let mut runs = paired(databases, folders);
    runs.retain(|run| {
        let (None, Some(folder)) = (&run.database, &run.files) else { return true };
        // Whether it is whole nothing says, and what was made with it is not.
        let with = cut.iter().find(|(old, broken)| *broken && old.at.duration_since(folder.at).abs() <= APART);
        if let Some((old, _)) = with {
            left.push((folder.name.clone(), format!("left with the database of its time, {}", old.name)));
        }
        with.is_none()
    });
    runs.retain(|run| {
        let free = taken.insert(run.id.stamp().to_owned());
        if !free {
            let why = format!("another point bears the time {}", run.id.stamp());
            left.extend(run.names().map(|name| (name, why.clone())));
            others.push((run.instant(), run.id.to_string()));
        }
        free
    });
    beside(&mut runs, &others, records, &mut left);
    runs.sort_by(|left, right| left.id.cmp(&right.id));
    Ok(Found { runs, left })
}

/// What begins the reason of what is left because it is not whole.
pub(super) const UNFINISHED: &str = "unfinished: ";

/// What the vault knows already.
struct Known {
    /// Keys of ours outside the points' folders.
    ours: BTreeSet<String>,
    /// Times that points bear.
    taken: BTreeSet<String>,
    /// When runs took place that are points already, and have no records.
    others: Vec<(Timestamp, String)>,
}

impl Known {
    fn of(vault: &Vault, states: &[PointState]) -> Self {
        let mut known = Self { ours: BTreeSet::new(), taken: BTreeSet::new(), others: Vec::new() };
        for state in states {
            let app = vault.app();
            match &state.standing {
                Standing::Committed(manifest) => {
                    known.ours.extend(manifest.objects_outside(&Part::ALL));
                    if state.adopted && !manifest.has(Part::Records) {
                        known.others.push((manifest.instant, state.id.to_string()));
                    }
                }
                _ if resumes(state) => continue,
                _ => known.ours.extend([
                    layout::sqlite(app, &state.id),
                    layout::postgres(app, &state.id),
                    layout::globals(app, &state.id),
                ]),
            }
            // Of a point that a prune has removed, or is removing.
            known.ours.extend(state.journal.announcements().flat_map(|announced| announced.objects.to_vec()));
            known.taken.insert(state.id.stamp().to_owned());
        }
        known
    }
}

/// True for an adoption of files that broke off; the folder of one without files holds its claim alone.
fn goes_on_with_files(state: &PointState) -> bool {
    let Standing::Unfinished(claim) = &state.standing else { return false };
    resumes(state) && claim.parts.contains(&Part::Files)
}

/// True for an adoption that broke off. One whose journal has entries was a point, which a prune has removed.
fn resumes(state: &PointState) -> bool {
    state.adopted && matches!(state.standing, Standing::Unfinished(_)) && state.journal.is_empty()
}

/// A copy of a database that this run may adopt; else why it is left.
fn wanted(old: Named, request: &AdoptRequest) -> std::result::Result<Named, String> {
    let kinds = [("sqlite", "db"), ("postgres", "dump")];
    let Some((kind, ending)) = kinds.into_iter().find(|(kind, _)| old.name.contains(&format!("_{kind}_backup_")))
    else {
        return Err("its name is not that of a backup".to_owned());
    };
    let name = |stamp: &str| format!("{}_{kind}_backup_{stamp}.{ending}", request.name);
    if old.name != format!("{}{}", layout::DATABASE, name(&old.stamp)) {
        return Err(format!("it may be another app's: its name is not {}", name("…")));
    }
    match (&request.database, kind) {
        (Some(Database::Sqlite(_)), "postgres") => {
            Err("a dump of PostgreSQL, and the database is SQLite: name its own with --database postgres://…"
                .to_owned())
        }
        (Some(Database::Postgres(_)), "sqlite") => {
            Err("a SQLite database, and the database is PostgreSQL: name its own with --database sqlite:…".to_owned())
        }
        _ => Ok(old),
    }
}

fn named(name: &str, stamp: &str, zone: &TimeZone) -> Option<Named> {
    let at = DateTime::strptime("%Y%m%d_%H%M%S", stamp).ok()?.to_zoned(zone.clone()).ok()?.timestamp();
    Some(Named { name: name.to_owned(), stamp: stamp.to_owned(), at })
}

/// Which of the ones are nearest to which of the others, each used once, those first that are least apart.
fn nearest(ones: &[Timestamp], others: &[Timestamp]) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(SignedDuration, usize, usize)> = Vec::new();
    for (one, at) in ones.iter().enumerate() {
        let aparts = others.iter().map(|other| at.duration_since(*other).abs()).enumerate();
        pairs.extend(aparts.filter(|(_, apart)| *apart <= APART).map(|(other, apart)| (apart, one, other)));
    }
    pairs.sort();
    let (mut used, mut spent) = (BTreeSet::new(), BTreeSet::new());
    pairs.retain(|(_, one, other)| {
        let free = !used.contains(one) && !spent.contains(other);
        if free {
            used.insert(*one);
            spent.insert(*other);
        }
        free
    });
    pairs.into_iter().map(|(_, one, other)| (one, other)).collect()
}

/// Pairs databases with folders.
fn paired(databases: Vec<Named>, folders: Vec<Named>) -> Vec<Run> {
    let times = |named: &[Named]| named.iter().map(|named| named.at).collect::<Vec<_>>();
    let pairs = nearest(&times(&databases), &times(&folders));
    let (used, spent): (BTreeSet<usize>, BTreeSet<usize>) = pairs.iter().copied().unzip();
    let mut runs = Vec::new();
    for (one, other) in pairs {
        runs.extend(run(Some(databases[one].clone()), Some(folders[other].clone())));
    }
    let alone = databases.into_iter().enumerate().filter(|(at, _)| !used.contains(at));
    runs.extend(alone.filter_map(|(_, database)| run(Some(database), None)));
    let alone = folders.into_iter().enumerate().filter(|(at, _)| !spent.contains(at));
    runs.extend(alone.filter_map(|(_, folder)| run(None, Some(folder))));
    runs
}

/// The folder gives a run its id, since its copies stay where they lie; else the database does.
fn run(database: Option<Named>, files: Option<Named>) -> Option<Run> {
    let id = match (&files, &database) {
        (Some(folder), _) => folder.name.trim_end_matches('/').parse().ok()?,
        (None, Some(database)) => format!("adopted_{}", database.stamp).parse().ok()?,
        (None, None) => return None,
    };
    Some(Run { id, database, files, records: None, records_at: None })
}

/// A folder of old records on this machine that was read to its end.
pub(super) struct OldFolder {
    /// Its path and time.
    named: Named,
    /// What it holds.
    part: RecordsPart,
}

/// Reads the folders of old records below one but those that are a point's already, and names what is none.
///
/// # Errors
///
/// [`Error::Usage`] when no folder below it bears a time.
pub(super) fn records(
    local: &Path,
    (zone, known): (&TimeZone, &BTreeSet<String>),
    tables: &BTreeMap<String, String>,
) -> Result<(Vec<OldFolder>, Left)> {
    let what = || format!("cannot list `{}`", local.display());
    // However it is written: by its path it is known again.
    let local = local.canonicalize().map_err(|cause| Error::local(what(), cause))?;
    let (mut found, mut left, mut any) = (Vec::new(), Vec::new(), false);
    for entry in std::fs::read_dir(&local).map_err(|cause| Error::local(what(), cause))? {
        let path = entry.map_err(|cause| Error::local(what(), cause))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let stamp = name.len().checked_sub(15).and_then(|at| name.get(at..));
        let shown = path.display().to_string();
        let Some(named) = stamp.and_then(|stamp| named(&shown, stamp, zone)) else { continue };
        any = true;
        if known.contains(&shown) {
            continue;
        }
        if path.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
            left.push((shown, "it is no folder".to_owned()));
            continue;
        }
        if folders::is_ours(&path) {
            continue;
        }
        match old::folder(&path, tables)? {
            Ok((part, others)) => {
                left.extend(others.into_iter().map(|name| (name, "no file of records".to_owned())));
                found.push(OldFolder { named, part });
            }
            Err(why) => left.push((shown, format!("{UNFINISHED}{why}"))),
        }
    }
    if !any {
        return Err(Error::usage_hint(
            format!("nothing in `{}` bears a time in its name", local.display()),
            "--local names the folder that holds those of the runs, as in backups/reimport_20251115_064209",
        ));
    }
    found.sort_by(|one, other| one.named.name.cmp(&other.named.name));
    left.sort();
    Ok((found, left))
}

/// Gives each run the nearest folder of records on this machine, but those that are nearer to a run that is not adopted here.
fn beside(runs: &mut [Run], others: &[(Timestamp, String)], folders: &[OldFolder], left: &mut Left) {
    let times: Vec<Timestamp> = runs.iter().map(Run::instant).chain(others.iter().map(|(at, _)| *at)).collect();
    let pairs = nearest(&times, &folders.iter().map(|folder| folder.named.at).collect::<Vec<_>>());
    for (at, OldFolder { named, part }) in folders.iter().enumerate() {
        let pair = pairs.iter().find(|(_, folder)| *folder == at).map(|(run, _)| *run);
        let why = match pair {
            Some(run) if run < runs.len() => {
                let (first, last) = runs[run]
                    .times()
                    .chain([named.at])
                    .fold((named.at, named.at), |(first, last), at| (first.min(at), last.max(at)));
                if last.duration_since(first) <= APART {
                    runs[run].records = Some((PathBuf::from(&named.name), part.clone()));
                    runs[run].records_at = Some(named.at);
                    continue;
                }
                "it is too far from the files of the run that is nearest".to_owned()
            }
            Some(other) => format!("{} is nearer, and is not adopted here", others[other - runs.len()].1),
            None => "no run that is adopted here is near its time".to_owned(),
        };
        left.push((named.name.clone(), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(name: &str, stamp: &str) -> Named {
        named(name, stamp, &TimeZone::UTC).expect("a time")
    }

    #[test]
    fn parts_are_paired_with_the_nearest_and_each_is_used_once() {
        let databases = vec![
            old("database/a_sqlite_backup_20251115_063849.db", "20251115_063849"),
            old("database/a_sqlite_backup_20251115_064100.db", "20251115_064100"),
            old("database/a_sqlite_backup_20251116_063849.db", "20251116_063849"),
        ];
        let folders = vec![
            old("reimport_20251115_064233/", "20251115_064233"),
            old("reimport_20251114_010000/", "20251114_010000"),
        ];
        let mut runs = paired(databases, folders);
        runs.sort_by(|left, right| left.id.cmp(&right.id));
        let told: Vec<(String, bool, bool, u64)> = runs
            .iter()
            .map(|run| (run.id.to_string(), run.database.is_some(), run.files.is_some(), run.apart_seconds()))
            .collect();
        let expected = [
            ("reimport_20251114_010000", false, true, 0),
            ("adopted_20251115_063849", true, false, 0),
            ("reimport_20251115_064233", true, true, 93),
            ("adopted_20251116_063849", true, false, 0),
        ];
        assert_eq!(told, expected.map(|(id, database, files, apart)| (id.to_owned(), database, files, apart)));
    }

    #[test]
    fn a_time_is_read_in_its_zone() {
        let vienna = TimeZone::fixed(jiff::tz::offset(1));
        let at = named("x", "20251115_064233", &vienna).expect("a time").at;
        assert_eq!(at.to_string(), "2025-11-15T05:42:33Z");
    }
}
