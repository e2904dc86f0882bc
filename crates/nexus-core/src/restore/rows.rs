//! Single records and what belongs to them: found in a point, held against the tables as they are now, put back in one
//! transaction or not at all.

mod decide;
mod gather;
mod key;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::database::Database;
use crate::database::load::{Conflict, Ending, FewRows, LoadMode, Loaded, LoadedTable};
use crate::database::relations::{Schema, Seen};
use crate::error::{Error, Result, chain};
use crate::event::Events;
use crate::files::restore::{self as restore_files, FilesPlanned};
use crate::files::rules::Selection;
use crate::local::{Scratch, blocking};
use crate::point::{PointId, RecordTable};
use crate::vault::RecoveryPoint;

use super::{RecordsTarget, RestorePlan, RestoreRequest};
use gather::Gathering;
pub use gather::{FoundRow, FoundTable};

/// The most obstacles that an error names.
const NAMED: usize = 10;

/// A record that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The table, by the name of its records or its own.
    pub table: String,
    /// Its key: `42`, or `a=1,b=2` where it has several columns.
    pub key: String,
}

/// Which records are put back, where to, and what with them.
#[derive(Debug, Clone)]
pub struct RowsTarget {
    /// The database; none: they are only gathered.
    pub database: Option<Database>,
    /// The records.
    pub asked: Vec<Asked>,
    /// Whether rows that point at them, and at those in turn, come with them.
    pub children: Children,
    /// What becomes of rows that are there with other values: refused, or replaced.
    pub present: Conflict,
}

/// What becomes of rows that point at a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Children {
    /// They come with it, as the point has them.
    With,
    /// They are left out.
    Without,
}

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is not there, and is added.
    Added,
    /// It is there as it was.
    Same,
    /// It is there with other values in these columns: it is replaced, where that was asked for.
    Other(Vec<String>),
}

/// A row of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRow {
    /// How it is named: `patients/42`.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// Something that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What it is.
    pub what: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// What becomes of the records; nothing is done yet.
#[derive(Debug, Clone, Default)]
pub struct RowsPlanned {
    /// Where the database is.
    pub target: String,
    /// The rows, parents before children.
    pub rows: Vec<PlannedRow>,
    /// What stands in the way: nothing is written while there is anything.
    pub obstacles: Vec<Obstacle>,
    /// The files that the rows name: values that are keys of the point's listing.
    pub files: Vec<String>,
    /// What may point at them now and was not looked for in the point, in words.
    pub notes: Vec<String>,
    /// The rows that are replaced, by their tables' own names.
    pub replaced: Vec<String>,
    few: Vec<FewRows>,
    /// Those that stay as they are, which other rows may hang on.
    seen: Vec<Seen>,
}

/// Records and what belongs to them.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// The rows, parents before children where that is known.
    pub tables: Vec<FoundTable>,
    /// What points at them now, and was not known to the point.
    pub notes: Vec<String>,
    /// What points at them and may have been overlooked.
    pub obstacles: Vec<Obstacle>,
}

impl RowsPlanned {
    /// True when every row is there as it was.
    pub fn changes_nothing(&self) -> bool {
        self.few.is_empty()
    }

    /// True when rows that are there would be replaced.
    pub fn replaces(&self) -> bool {
        self.few.iter().any(|few| few.present.iter().any(Option::is_some))
    }

    /// Refuses to go on when something stands in the way.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] naming it.
    pub fn require_free(&self) -> Result<()> {
        if self.obstacles.is_empty() {
            return Ok(());
        }
        let named: Vec<&str> = self.obstacles.iter().take(NAMED).map(|obstacle| obstacle.what.as_str()).collect();
        let more = self.obstacles.len().saturating_sub(NAMED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let remedies: BTreeSet<&str> =
            self.obstacles.iter().filter_map(|obstacle| obstacle.remedy.as_deref()).take(NAMED).collect();
        let hint = remedies.into_iter().collect::<Vec<_>>().join("; ");
        let hint = (!hint.is_empty()).then_some(hint);
        Err(Error::Usage { what: format!("nothing was put back: {}{more}", named.join("; ")), hint })
    }
}

/// Finds the records in the point, and what belongs to them; parents before children where that is known.
///
/// # Errors
///
/// [`Error::Usage`] for a table or key that is not there, with those that are like it; [`Error::Damaged`] when a record file is not as it was
/// written; what opening the database for its foreign keys fails with.
pub async fn gather(
    point: &RecoveryPoint,
    target: &RowsTarget,
    lock_wait: Duration,
    scratch: &Scratch,
) -> Result<Gathered> {
    let schema = match &target.database {
        Some(database) => database.schema(lock_wait).await?,
        None => Schema::default(),
    };
    gathered(point, target, &schema, scratch).await
}

async fn gathered(point: &RecoveryPoint, target: &RowsTarget, schema: &Schema, scratch: &Scratch) -> Result<Gathered> {
    let mut gathering = Gathering::begin(point, scratch)?;
    for asked in &target.asked {
        gathering.add(asked).await?;
    }
    if target.children == Children::With {
        gathering.add_children(schema).await?;
    }
    let gathered = gathering.found();
    Ok(Gathered { tables: decide::parents_first(gathered.tables, schema), ..gathered })
}

/// The keys of the point's listing that these rows hold as values: as they are, or below the prefix of the files' source.
///
/// # Errors
///
/// [`Error::Missing`] when the point has no files; [`Error::Damaged`] when its listing is not as it was written.
pub async fn files_of(point: &RecoveryPoint, found: &[FoundTable], scratch: &Scratch) -> Result<Vec<String>> {
    let prefix = point.manifest().parts.files.as_ref().map(|files| files.rules.prefix.clone()).unwrap_or_default();
    let values: BTreeSet<String> = found.iter().flat_map(|table| &table.rows).flat_map(key::texts).collect();
    let mut keys = Vec::new();
    for entry in point.listing(scratch).await? {
        let key = entry?.key;
        let inner = key.strip_prefix(&prefix).unwrap_or(&key);
        if values.contains(&key) || (!inner.is_empty() && values.contains(inner)) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Plans single records, and chooses the files that they name.
pub(super) async fn plan(
    point: &RecoveryPoint,
    request: &mut RestoreRequest,
    scratch: &Scratch,
) -> Result<Option<RowsPlanned>> {
    let Some(RecordsTarget::Rows(target)) = &request.records else { return Ok(None) };
    let mut planned = look(point, target, request.files.is_some(), (request.lock_wait, scratch)).await?;
    if planned.obstacles.is_empty() {
        // What only the database knows, such as a value that must be unique: it is asked by a transaction that is undone.
        let tried = put_few(target, &planned, (request.lock_wait, Ending::Undo)).await;
        match tried {
            Ok(_) => {}
            Err(error @ (Error::Exists { .. } | Error::Denied { .. } | Error::Usage { .. })) => {
                let what = chain(&error);
                let remedy = if let Error::Usage { hint, .. } = error { hint } else { None };
                planned.obstacles.push(Obstacle { what, remedy });
            }
            Err(error) => return Err(error),
        }
    }
    if planned.files.is_empty() {
        request.files = None;
    } else if let Some(files) = &mut request.files {
        files.selection = Selection::exactly(planned.files.iter().cloned());
    }
    Ok(Some(planned))
}

/// Files that are there with other content stand in the way of their records, unless they may be replaced.
pub(super) fn with_files(mut rows: RowsPlanned, request: &RestoreRequest, files: Option<&FilesPlanned>) -> RowsPlanned {
    let overwrites =
        matches!(&request.records, Some(RecordsTarget::Rows(RowsTarget { present: Conflict::Overwrite, .. })));
    if let Some(files) = files.filter(|_| !overwrites) {
        rows.obstacles.extend(files.first_different.iter().map(|key| Obstacle {
            what: format!("the file {key} is there with other content"),
            remedy: Some("--overwrite replaces rows and files that are there with other values".to_owned()),
        }));
    }
    rows
}

/// Looks what would become of the records, reading only.
async fn look(
    point: &RecoveryPoint,
    target: &RowsTarget,
    with_files: bool,
    (lock_wait, scratch): (Duration, &Scratch),
) -> Result<RowsPlanned> {
    let Some(database) = &target.database else {
        return Err(Error::usage("nothing says which database the records go into"));
    };
    let schema = database.schema(lock_wait).await?;
    let found = gathered(point, target, &schema, scratch).await?;
    let files = if with_files { files_of(point, &found.tables, scratch).await? } else { Vec::new() };
    let mut planned = decide::decide(&found, (database, &schema), target.present, (lock_wait, scratch)).await?;
    planned.target = database.location();
    planned.files = files;
    Ok(planned)
}

/// Sees whether the database would take the records, when files come with them, and whether such files came since the plan.
pub(super) async fn try_out(plan: &RestorePlan, events: &Events) -> Result<()> {
    let (Some(RecordsTarget::Rows(target)), Some(files)) = (&plan.request.records, &plan.request.files) else {
        return Ok(());
    };
    put(plan, Ending::Undo).await?;
    if target.present == Conflict::Overwrite {
        return Ok(());
    }
    let scratch = Scratch::create(plan.scratch.path())?;
    let now = Box::pin(restore_files::plan(&plan.point, files, (&plan.scratch, &scratch), events)).await?;
    match now.first_different.first() {
        None => Ok(()),
        Some(key) => Err(Error::Changed {
            what: format!("the file {key} is there by now, with other content: nothing was changed"),
        }),
    }
}

/// The error of records that were refused when files of theirs were put back already.
pub(super) fn after_files(mut error: Error, files: u64, safety: Option<&PointId>) -> Error {
    if files == 0 {
        return error;
    }
    let (Error::Usage { what, .. }
    | Error::Missing { what, .. }
    | Error::Denied { what, .. }
    | Error::Unreachable { what, .. }
    | Error::Service { what, .. }
    | Error::Busy { what }
    | Error::Exists { what }
    | Error::Damaged { what, .. }
    | Error::Newer { what }
    | Error::Changed { what }
    | Error::Full { what, .. }
    | Error::Unsupported { what }
    | Error::Local { what, .. }) = &mut error;
    let held = safety.map(|safety| format!("; {safety} holds the state before")).unwrap_or_default();
    let said = what.replace("nothing was changed", "no row was changed");
    *what = format!("{files} files were put back already, the rows were not{held}: {said}");
    error
}

/// Puts the records back, or, with [`Ending::Undo`], sees whether the database would take them.
pub(super) async fn put(plan: &RestorePlan, ending: Ending) -> Result<Loaded> {
    let (Some(RecordsTarget::Rows(target)), Some(planned)) = (&plan.request.records, &plan.rows) else {
        return Err(Error::usage("no records were asked for"));
    };
    planned.require_free()?;
    let tables = put_few(target, planned, (plan.request.lock_wait, ending)).await?;
    Ok(Loaded { tables, committed: true, left: Vec::new() })
}

async fn put_few(
    target: &RowsTarget,
    planned: &RowsPlanned,
    (lock_wait, ending): (Duration, Ending),
) -> Result<Vec<LoadedTable>> {
    let (few, seen) = (&planned.few, &planned.seen);
    if few.is_empty() {
        return Ok(Vec::new());
    }
    // Rows that are to be replaced are as they were looked at, or nothing is done.
    let mode = LoadMode::AddMissing(Conflict::Refuse);
    match target.database.clone() {
        None => Err(Error::usage("nothing says which database the records go into")),
        Some(Database::Sqlite(file)) => {
            let (few, seen) = (few.clone(), seen.clone());
            blocking(move || {
                let records: Vec<RecordTable> = few.iter().map(|few| few.records.clone()).collect();
                file.load(&records, mode, lock_wait)?.put_rows(&few, &seen, ending)
            })
            .await
        }
        Some(Database::Postgres(server)) => Box::pin(server.put_rows((few, seen), lock_wait, ending)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_fail_after_their_files_do_not_say_that_nothing_was_changed() {
        let error = || Error::Changed { what: "a row is another one: nothing was changed".to_owned() };
        assert_eq!(after_files(error(), 0, None).to_string(), "a row is another one: nothing was changed");
        let told = after_files(error(), 2, None).to_string();
        assert_eq!(told, "2 files were put back already, the rows were not: a row is another one: no row was changed");
    }
}
