//! References: columns whose values are keys of files, held against the files of the same point.
//!
//! It only tells: nothing here writes outside its scratch folder. Memory grows neither with rows nor with files: both are
//! sorted by hashes of their keys on disk.

mod check;
mod forms;
mod keys;
mod likely;
mod list;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::database::source::RecordFile;
use crate::database::sqlite::ROWID_FIELD;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::listing::ListingReader;
use crate::local::Scratch;
use crate::local::blocking;
use crate::point::references::{Reference, ReferenceColumn, ReferenceCounts, References};
use crate::point::{Part, RecordTable};
use crate::records::names::alike;
use crate::vault::RecoveryPoint;

use check::{Detail, Seen, Sides};
use keys::Keys;
pub use likely::{Likely, likely};
pub use list::{Findings, Kind, Orphan, Row, Wrong};

/// A table as references can name it.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// The name its records go by.
    pub name: &'a str,
    /// Its own name in the database.
    pub table: &'a str,
    /// Its columns.
    pub columns: Vec<&'a str>,
}

impl<'a> Known<'a> {
    /// A table with records.
    pub fn of(table: &'a RecordTable) -> Self {
        let columns = table.columns.iter().map(|column| column.name.as_str()).collect();
        Self { name: &table.name, table: &table.table, columns }
    }
}

/// Fails unless every reference names a column that is there.
///
/// # Errors
///
/// [`Error::Usage`] naming the table or column that is not, with those that are like it, or the one that is named twice.
pub fn require(references: &[Reference], tables: &[Known<'_>]) -> Result<()> {
    let mut places = Vec::with_capacity(references.len());
    for reference in references {
        let place = place(reference, tables)?;
        if places.contains(&place) {
            let Reference { table, column, .. } = reference;
            return Err(Error::usage(format!("two references name the column `{column}` of `{table}`")));
        }
        places.push(place);
        Keys::of(reference)?;
    }
    Ok(())
}

/// Which table and which of its columns a reference means. A record name goes before a table of that name.
fn place(reference: &Reference, tables: &[Known<'_>]) -> Result<(usize, usize)> {
    let Reference { table, column, .. } = reference;
    let by_name = tables.iter().position(|known| known.name == table);
    let found = by_name.or_else(|| tables.iter().position(|known| known.table == table));
    let Some(at) = found else {
        let names: Vec<&str> = tables.iter().flat_map(|known| [known.name, known.table]).collect();
        return Err(Error::usage_hint(
            format!("the table `{table}`, whose column `{column}` is to name files, has no records"),
            meant(&alike(table, &names), "a reference names a table by its record name or its own"),
        ));
    };
    let columns = &tables[at].columns;
    let place = columns.iter().position(|known| known == column).ok_or_else(|| {
        let all = format!("its columns are {}", columns.join(", "));
        Error::usage_hint(
            format!("the table `{table}` has no column `{column}`, which is to name files"),
            meant(&alike(column, columns), &all),
        )
    })?;
    Ok((at, place))
}

fn meant(alike: &[&str], otherwise: &str) -> String {
    match alike {
        [] => otherwise.to_owned(),
        [one] => format!("did you mean `{one}`? change or remove the [[references]] that names it"),
        several => {
            let several: Vec<_> = several.iter().map(|name| format!("`{name}`")).collect();
            format!("did you mean one of {}?", several.join(", "))
        }
    }
}

/// A table that references name, and where its record file lies.
#[derive(Debug, Clone)]
struct Held {
    table: RecordTable,
    path: PathBuf,
    /// Which references name it, and where their columns are among the values of its records.
    columns: Vec<(usize, usize)>,
}

/// The tables that references name, each once.
fn held(references: &[Reference], tables: &[RecordTable], path: impl Fn(&RecordTable) -> PathBuf) -> Result<Vec<Held>> {
    let known: Vec<Known<'_>> = tables.iter().map(Known::of).collect();
    require(references, &known)?;
    let mut held: Vec<Held> = Vec::new();
    for (number, reference) in references.iter().enumerate() {
        let (at, column) = place(reference, &known)?;
        let table = &tables[at];
        let column = (number, column + usize::from(table.rowid));
        match held.iter_mut().find(|held| held.table.table == table.table) {
            Some(held) => held.columns.push(column),
            None => held.push(Held { table: table.clone(), path: path(table), columns: vec![column] }),
        }
    }
    Ok(held)
}

/// Reads both sides into a sorter: rows of an instant, and a listing that may be later.
fn sides(
    references: &[Reference],
    held: &[Held],
    (listing, instant): (ListingReader, Timestamp),
    (detail, scratch): (Detail, &Path),
) -> Result<Sides> {
    let mut sides = Sides::new(scratch, detail);
    let keys = references.iter().map(Keys::of).collect::<Result<Vec<_>>>()?;
    for (number, held) in held.iter().enumerate() {
        let mut file = RecordFile::open(&held.path, &held.table, ROWID_FIELD)?;
        sides.rows(&mut file, number, &held.columns, &keys)?;
        let rows = file.digest().rows;
        if rows != held.table.rows {
            let what = format!("`{}` has {rows} records, not {} as it should", held.path.display(), held.table.rows);
            return Err(Error::damaged(what));
        }
    }
    sides.files(listing, references, instant)?;
    Ok(sides)
}

/// The references with what was counted of them, each under its table's own name.
fn summed(
    references: &[Reference],
    held: &[Held],
    counts: &[ReferenceCounts],
    orphaned: crate::point::Count,
) -> References {
    let column = |(number, reference): (usize, &Reference)| {
        let own = held.iter().find(|held| held.columns.iter().any(|(named, _)| *named == number));
        let table = own.map_or_else(|| reference.table.clone(), |held| held.table.table.clone());
        ReferenceColumn { reference: Reference { table, ..reference.clone() }, counts: Some(counts[number]) }
    };
    References {
        columns: references.iter().enumerate().map(column).collect(),
        orphaned: Some(orphaned),
        unchecked: None,
    }
}

/// Holds the record files in a folder, just written and of an instant, against a listing, just written.
///
/// # Errors
///
/// As for [`require`]; [`Error::Damaged`] when either is not what it should be; [`Error::Full`] and the like from the disk.
pub(crate) async fn count(
    references: &[Reference],
    (tables, folder): (&[RecordTable], &Path),
    (listing, instant): (&Path, Timestamp),
    scratch: &Scratch,
    events: &Events,
) -> Result<References> {
    let folder = folder.to_owned();
    let held = held(references, tables, |table| folder.join(&table.file))?;
    let listing = ListingReader::open(listing, "the listing just written")?;
    let (references, scratch) = (references.to_vec(), scratch.path().to_owned());
    events.started(Stage::CheckReferences, None, None);
    let counted = blocking(move || {
        let sides = sides(&references, &held, (listing, instant), (Detail::Counts, &scratch))?;
        let mut counts = vec![ReferenceCounts::default(); references.len()];
        let mut orphaned = crate::point::Count::default();
        sides.merge(|seen| {
            tally(&seen, &mut counts, &mut orphaned);
            Ok(())
        })?;
        Ok(summed(&references, &held, &counts, orphaned))
    })
    .await;
    events.ended(Stage::CheckReferences);
    counted
}

/// Counts one thing that was seen.
fn tally(seen: &Seen<'_>, counts: &mut [ReferenceCounts], orphaned: &mut crate::point::Count) {
    match seen {
        Seen::Named { reference } => counts[*reference].named += 1,
        Seen::Row { kind, reference, .. } => {
            let counts = &mut counts[*reference];
            match kind {
                Kind::Dangling => counts.dangling += 1,
                Kind::OtherCase => counts.other_case += 1,
                Kind::OtherForm => counts.other_form += 1,
                Kind::Shared => counts.shared += 1,
            }
        }
        Seen::Orphan { size, .. } => orphaned.add(*size),
    }
}

/// What holding a point's rows against its files came to.
pub struct Looked {
    /// The counts.
    pub references: References,
    /// Each row and each file that is not as it should be; none when nothing was checked.
    pub findings: Option<Findings>,
}

/// Why the references of a point cannot be checked: a part that they need is not there, or its records are no rows.
pub fn unchecked(point: &RecoveryPoint) -> Option<String> {
    let (manifest, kept) = (point.manifest(), point.kept());
    let lacking = [Part::Records, Part::Files].into_iter().find(|part| !kept.contains(part));
    match lacking {
        Some(part) if manifest.has(part) => Some(format!("the {part} of the point are gone: their time was over")),
        Some(part) => Some(format!("the point has no {part}")),
        None if manifest.own_records().is_none() => Some("the records were written by an older tool".to_owned()),
        None => None,
    }
}

/// Holds a point's own rows against its own listing; record files are taken from this machine when they are here as they
/// were written, else fetched from the vault into `scratch`.
///
/// # Errors
///
/// As for [`require`]; [`Error::Damaged`] when records or listing are not as they were written, and [`Error::Missing`] when
/// neither this machine nor the vault has the records.
pub async fn look(
    point: &RecoveryPoint,
    references: &[Reference],
    scratch: &Scratch,
    events: &Events,
) -> Result<Looked> {
    let records = match (unchecked(point), point.manifest().own_records()) {
        (None, Some(records)) => records,
        (reason, _) => {
            let references = References::unchecked(references, reason.unwrap_or_default());
            return Ok(Looked { references, findings: None });
        }
    };
    let held = held(references, &records.tables, |_| PathBuf::new())?;
    events.started(Stage::CheckReferences, None, None);
    let looked = look_at(point, references, held, scratch).await;
    events.ended(Stage::CheckReferences);
    looked
}

/// Brings the tables and the listing here, and goes through them.
async fn look_at(
    point: &RecoveryPoint,
    references: &[Reference],
    mut held: Vec<Held>,
    scratch: &Scratch,
) -> Result<Looked> {
    for held in &mut held {
        held.path = point.record_file(&held.table, scratch).await?;
    }
    let listed = (point.listing(scratch).await?, point.manifest().instant);
    let (references, scratch) = (references.to_vec(), scratch.path().to_owned());
    blocking(move || list::look(&references, held, listed, &scratch)).await
}
