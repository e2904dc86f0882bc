//! Diff: what changed between two points, or between a point and now. It only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bucket::Reader;
use crate::changes::files::{self, CategoryChanges, FileState, Likeness};
use crate::changes::point::{counts, state_of};
use crate::changes::{self, State, TableChanges};
use crate::clock::Clock;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::local::Scratch;
use crate::point::{FileRules, FilesPart, Part, RecordTable, RecordsPart};
use crate::records::export::Export;
use crate::records::now::export_now;
use crate::vault::RecoveryPoint;

/// What to do where a point lacks what is compared.
const OR_ELSE: &str = "--only files compares the files alone, --only database the numbers of rows";

/// What a point is compared with.
#[derive(Debug, Clone)]
pub enum After {
    /// Another point.
    Point(Box<RecoveryPoint>),
    /// The app as it is.
    Now(Box<Live>),
}

/// The app's own database and files.
#[derive(Debug, Clone)]
pub struct Live {
    /// The database.
    pub database: Option<Database>,
    /// How long to wait for its locks.
    pub lock_wait: Duration,
    /// The right to list the files, and the prefix they lie below.
    pub files: Option<(Reader, String)>,
}

/// What is compared, and how much of it is told.
#[derive(Debug, Clone)]
pub struct DiffRequest {
    /// Which parts. Of the database alone numbers of rows are compared; with its records, its rows.
    pub parts: Vec<Part>,
    /// Only these tables, by the names of their records or their own; none: all.
    pub tables: Vec<String>,
    /// Whether each row and file is told.
    pub told: Told,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Numbers and a few examples.
    Numbers,
    /// Each row and each file as well.
    Each,
}

/// What differs.
#[derive(Debug, Default)]
pub struct Difference {
    /// Tables that differ, by name; none: they were not compared.
    pub tables: Option<Vec<TableChanges>>,
    /// Tables that have no records and so were not compared, each with the reason.
    pub uncompared: BTreeMap<String, String>,
    /// Files by category; none: they were not compared.
    pub files: Option<BTreeMap<String, CategoryChanges>>,
    /// Every row that differs, a [`changes::told::RowChange`] a line, when each was to be told.
    pub rows: Option<PathBuf>,
    /// Every file that differs, a [`changes::told::FileChange`] a line, when each was to be told.
    pub keys: Option<PathBuf>,
    /// What the numbers do not say, in words.
    pub notes: Vec<String>,
}

/// Compares a point with another one, or with the app as it is.
///
/// Only record files of tables whose hash differs are read. Memory does not grow with rows or files.
///
/// # Errors
///
/// [`Error::Usage`] naming the point that has not what is to be compared, or not any more, and for a table that neither side has;
/// [`Error::Damaged`] when records or a listing are not as they were written; what looking at the app fails with.
pub async fn diff(
    before: &RecoveryPoint,
    after: &After,
    request: &DiffRequest,
    scratch: &Scratch,
    tools: (&Clock, &Events),
) -> Result<Difference> {
    let mut difference = Difference::default();
    let work = Work { before, after, request, scratch, tools };
    require_parts(before, &request.parts).await?;
    if let After::Point(after) = after {
        require_parts(after, &request.parts).await?;
    }
    if request.parts.contains(&Part::Records) {
        work.rows(&mut difference).await?;
    } else if request.parts.contains(&Part::Database) {
        work.numbers(&mut difference).await?;
    }
    if request.parts.contains(&Part::Files) {
        work.files(&mut difference).await?;
    }
    Ok(difference)
}

/// Refuses a point that does not have a part, or not any more.
async fn require_parts(point: &RecoveryPoint, parts: &[Part]) -> Result<()> {
    if let Some(part) = parts.iter().find(|part| !point.manifest().has(**part)) {
        let hint = if *part == Part::Files { "--only records compares the rows alone" } else { OR_ELSE };
        return Err(Error::usage_hint(format!("{} has no {part} to compare", point.id()), hint));
    }
    point.require_kept(parts).await
}

struct Work<'a> {
    before: &'a RecoveryPoint,
    after: &'a After,
    request: &'a DiffRequest,
    scratch: &'a Scratch,
    tools: (&'a Clock, &'a Events),
}

impl Work<'_> {
    /// Compares rows.
    async fn rows(&self, difference: &mut Difference) -> Result<()> {
        let then = records_of(self.before)?;
        let mut adopted = is_adopted(self.before);
        difference.uncompared.clone_from(&then.skipped);
        let (old, new) = match self.after {
            After::Point(after) => {
                let now = records_of(after)?;
                adopted |= is_adopted(after);
                difference.uncompared.extend(now.skipped.clone());
                let (left, right) = self.selected(&then.tables, &now.tables, &difference.uncompared)?;
                difference.notes.extend(other_keys(&left, &right).filter(|_| !adopted));
                if adopted {
                    (State::hashed(&left), State::hashed(&right))
                } else {
                    let old = state_of(self.before, (then, &left), &State::hashed(&right), self.scratch).await?;
                    (old, state_of(after, (now, &right), &State::hashed(&left), self.scratch).await?)
                }
            }
            After::Now(live) => {
                let (folder, tables, skipped) = self.live_tables(live).await?;
                difference.uncompared.extend(skipped);
                let (left, right) = self.selected(&then.tables, &tables, &difference.uncompared)?;
                difference.notes.extend(other_keys(&left, &right).filter(|_| !adopted));
                let new = State::in_folder(&folder, &right);
                if adopted {
                    (State::hashed(&left), State::hashed(&right))
                } else {
                    (state_of(self.before, (then, &left), &new, self.scratch).await?, new)
                }
            }
        };
        let mut tables = if self.request.told == Told::Each {
            let into = self.scratch.file("rows.jsonl");
            let tables = changes::every_row(&old, &new, &into, self.scratch).await?;
            difference.rows = Some(into);
            tables
        } else {
            changes::between(&old, &new, self.scratch).await?
        };
        if adopted {
            // An older tool's records have no types.
            for table in &mut tables {
                table.columns_retyped.clear();
                table.types.clear();
            }
            difference.notes.push(
                "records that an older tool has written are compared by their numbers and by whole files, not row by row"
                    .to_owned(),
            );
        }
        difference.tables = Some(tables);
        self.keep_asked(&mut difference.uncompared);
        Ok(())
    }

    /// Compares numbers of rows.
    async fn numbers(&self, difference: &mut Difference) -> Result<()> {
        let mut then = rows_by_table(self.before)?;
        let mut now = match self.after {
            After::Point(after) => rows_by_table(after)?,
            After::Now(live) => {
                let (_, tables, skipped) = self.live_tables(live).await?;
                difference.uncompared.extend(skipped);
                State::hashed(&tables).rows()
            }
        };
        let asked = self.asked();
        // What one side has not counted has neither come nor gone.
        then.retain(|name, _| !difference.uncompared.contains_key(name));
        now.retain(|name, _| !difference.uncompared.contains_key(name));
        let sides = [&then, &now];
        let known = |name: &String| {
            difference.uncompared.contains_key(name) || sides.iter().any(|side| side.contains_key(name))
        };
        if let Some(name) = asked.iter().find(|name| !known(name)) {
            return Err(no_table(name, then.keys().chain(now.keys())));
        }
        let mut tables = counts(&then, &now);
        tables.retain(|table| asked.is_empty() || asked.contains(&table.table));
        difference.tables = Some(tables);
        self.keep_asked(&mut difference.uncompared);
        Ok(())
    }

    /// Leaves those tables that were asked for.
    fn keep_asked(&self, tables: &mut BTreeMap<String, String>) {
        let asked = self.asked();
        tables.retain(|name, _| asked.is_empty() || asked.contains(name));
    }

    /// The tables that were asked for, by their own names.
    fn asked(&self) -> BTreeSet<String> {
        let points = [Some(self.before), if let After::Point(after) = self.after { Some(after) } else { None }];
        let own = |name: &String| {
            let records = points.iter().flatten().filter_map(|point| point.manifest().parts.records.as_ref());
            let named = records.flat_map(|records| &records.tables).find(|table| table.name == *name);
            named.map_or_else(|| name.clone(), |table| table.table.clone())
        };
        self.request.tables.iter().map(own).collect()
    }

    /// The tables of both sides that were asked for, without those of which one side has no records.
    fn selected(
        &self,
        left: &[RecordTable],
        right: &[RecordTable],
        uncompared: &BTreeMap<String, String>,
    ) -> Result<(Vec<RecordTable>, Vec<RecordTable>)> {
        let asked = self.asked();
        let all = || left.iter().chain(right);
        let known = |name: &String| uncompared.contains_key(name) || all().any(|table| table.table == *name);
        if let Some(name) = asked.iter().find(|name| !known(name)) {
            return Err(no_table(name, all().flat_map(|table| [&table.name, &table.table])));
        }
        let of = |tables: &[RecordTable]| {
            let wanted = |table: &&RecordTable| {
                !uncompared.contains_key(&table.table) && (asked.is_empty() || asked.contains(&table.table))
            };
            tables.iter().filter(wanted).cloned().collect()
        };
        Ok((of(left), of(right)))
    }

    /// The rows of the app's database as they are, in a folder of the scratch.
    async fn live_tables(&self, live: &Live) -> Result<(PathBuf, Vec<RecordTable>, BTreeMap<String, String>)> {
        let Some(database) = &live.database else {
            return Err(Error::usage_hint("nothing says which database holds the rows of now", OR_ELSE));
        };
        let (clock, events) = self.tools;
        let folder = self.scratch.file("now");
        let export = Export {
            folder: folder.clone(),
            // A table that is gone by now would be missed under the name it is given in the configuration.
            names: BTreeMap::new(),
            app: self.before.manifest().app.clone(),
            point: self.before.id().clone(),
            instant: clock.now(),
        };
        let exported = export_now(database, export, live.lock_wait, self.scratch, (clock, events)).await?;
        Ok((folder, exported.tables, exported.skipped))
    }

    /// Compares files.
    async fn files(&self, difference: &mut Difference) -> Result<()> {
        let part = files_of(self.before)?;
        let other = if let After::Point(after) = self.after { Some(after.as_ref()) } else { None };
        if [Some(self.before), other].into_iter().flatten().any(|point| point.manifest().adopted.is_some()) {
            let note =
                "of files that an older tool has copied only the copies are known: size, and ETag where there is one";
            difference.notes.push(note.to_owned());
        }
        let then = files::recorded(self.before.listing(self.scratch).await?);
        let into = (self.request.told == Told::Each).then(|| self.scratch.file("keys.jsonl"));
        difference.files = Some(match self.after {
            After::Point(after) => {
                let other = files_of(after)?;
                difference.notes.extend(apart(part, other));
                let now = files::recorded(after.listing(self.scratch).await?);
                compare(then, now, into.as_deref())?
            }
            After::Now(live) => {
                let Some((reader, lies_at)) = &live.files else {
                    return Err(Error::usage_hint(
                        "nothing says where the files of now lie",
                        "--only records compares the rows alone",
                    ));
                };
                reader.check().await?;
                let listed = reader.list(lies_at, self.scratch.path(), self.tools.1).await?;
                compare(then, files::listed(listed, lies_at, &part.rules)?, into.as_deref())?
            }
        });
        difference.keys = into;
        let untold: u64 = difference.files.iter().flat_map(BTreeMap::values).map(|category| category.untold).sum();
        if untold > 0 {
            difference.notes.push(format!(
                "of {untold} files nothing but the size is known of both sides alike: those whose ETags are of different kinds \
                 count as changed, the others as they were"
            ));
        }
        Ok(())
    }
}

fn compare(
    then: impl Iterator<Item = Result<FileState>>,
    now: impl Iterator<Item = Result<FileState>>,
    into: Option<&Path>,
) -> Result<BTreeMap<String, CategoryChanges>> {
    match into {
        Some(into) => files::every_file(then, now, Likeness::Content, into),
        None => files::between(then, now, Likeness::Content),
    }
}

/// Tables whose rows are told apart otherwise than they were, in words.
fn other_keys(left: &[RecordTable], right: &[RecordTable]) -> impl Iterator<Item = String> {
    let shown = |table: &RecordTable| match table.order.as_slice() {
        [] if table.rowid => "the rowid".to_owned(),
        [] => "none".to_owned(),
        order => order.join(", "),
    };
    let columns = |table: &RecordTable| (table.rowid, table.order.iter().cloned().collect::<BTreeSet<String>>());
    let mut notes = Vec::new();
    for then in left {
        let later = right.iter().find(|now| now.table == then.table && columns(now) != columns(then));
        if let Some(now) = later {
            notes.push(format!(
                "the key of {} was {} and is {}: its rows are compared by all their values",
                then.table,
                shown(then),
                shown(now)
            ));
        }
    }
    notes.into_iter()
}

/// Why files may seem to have come or gone although nobody touched them.
fn apart(then: &FilesPart, now: &FilesPart) -> Option<String> {
    let taken = |rules: &FileRules| (rules.prefix.clone(), rules.exclude.clone(), rules.vaults.clone());
    if then.source != now.source || then.endpoint != now.endpoint {
        return Some(format!("the files came from {} then and from {} later", then.source, now.source));
    }
    let other = taken(&then.rules) != taken(&now.rules);
    other.then(|| {
        "the two points left out other files: what only one of them left out counts as come or gone".to_owned()
    })
}

fn is_adopted(point: &RecoveryPoint) -> bool {
    point.manifest().own_records().is_none()
}

fn records_of(point: &RecoveryPoint) -> Result<&RecordsPart> {
    let records = point.manifest().parts.records.as_ref();
    records.ok_or_else(|| Error::usage_hint(format!("{} has no records to compare", point.id()), OR_ELSE))
}

fn files_of(point: &RecoveryPoint) -> Result<&FilesPart> {
    let files = point.manifest().parts.files.as_ref();
    files.ok_or_else(|| Error::missing(format!("{} has no files to compare", point.id())))
}

fn rows_by_table(point: &RecoveryPoint) -> Result<BTreeMap<String, u64>> {
    let database = point.manifest().parts.database.as_ref();
    let database = database.ok_or_else(|| Error::missing(format!("{} has no database to compare", point.id())))?;
    Ok(database.tables.clone())
}

fn no_table<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let known: BTreeSet<&str> = known.map(String::as_str).collect();
    let known: Vec<&str> = known.into_iter().collect();
    Error::usage_hint(
        format!("there is no table {name:?} on either side"),
        format!("the tables are {}", known.join(", ")),
    )
}
