//! Each row and each file that is not as it should be: rows in the order of their tables, then files by key.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::check::{Detail, Seen, Value, value_of};
use super::keys::Keys;
use super::{Held, Looked, sides, summed, tally};
use crate::database::source::RecordFile;
use crate::database::sqlite::ROWID_FIELD;
use crate::error::{Error, Result};
use crate::listing::ListingReader;
use crate::local::sorted::{Sorted, Sorter};
use crate::point::Count;
use crate::point::references::{Reference, ReferenceCounts};

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Its file is not among the files of the point.
    Dangling,
    /// Its file is there only under a name that differs in case.
    OtherCase,
    /// Its file is there only under a name that is the same text in another Unicode form.
    OtherForm,
    /// Its file is there, and another row names it as well.
    Shared,
}

const KINDS: [Kind; 4] = [Kind::Dangling, Kind::OtherCase, Kind::OtherForm, Kind::Shared];

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// A row.
    Row(Row),
    /// A file that no row names.
    Orphan(Orphan),
}

/// A row that is not as it should be, or shares its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What is wrong.
    pub kind: Kind,
    /// The table's own name.
    pub table: String,
    /// What tells the row from others: columns and values as in the record file. A table without a key has none.
    pub primary_key: Vec<(String, String)>,
    /// Which record of the table's file it is, from 1.
    pub record: u64,
    /// The column.
    pub column: String,
    /// Its value.
    pub value: String,
    /// The key that the value stands for.
    pub key: String,
    /// The file that is there instead.
    pub like: Option<String>,
}

/// A file that no row names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// All of them, read from disk as they are asked for.
pub struct Findings {
    references: Vec<Reference>,
    keys: Vec<Keys>,
    held: Vec<Held>,
    rows: Sorted,
    orphans: Sorted,
    /// The table that is being read, and how many of its records were.
    file: Option<(usize, RecordFile, u64)>,
}

/// Goes through both sides and keeps what is found.
pub(super) fn look(
    references: &[Reference],
    held: Vec<Held>,
    listed: (ListingReader, Timestamp),
    scratch: &Path,
) -> Result<Looked> {
    let sides = sides(references, &held, listed, (Detail::Keys, scratch))?;
    let mut counts = vec![ReferenceCounts::default(); references.len()];
    let (mut orphaned, mut rows, mut orphans) = (Count::default(), Sorter::new(scratch), Sorter::new(scratch));
    sides.merge(|seen| {
        tally(&seen, &mut counts, &mut orphaned);
        match seen {
            Seen::Named { .. } => Ok(()),
            Seen::Row { kind, reference, table, start, like } => {
                rows.push(&packed(kind, (table, start, reference), like))
            }
            // What follows the key keeps its order: no byte is less than the one between them.
            Seen::Orphan { key, size } => orphans.push(&[key.as_bytes(), &[0], &size.to_be_bytes()].concat()),
        }
    })?;
    let summed = summed(references, &held, &counts, orphaned);
    let findings = Findings {
        references: references.to_vec(),
        keys: references.iter().map(Keys::of).collect::<Result<_>>()?,
        held,
        rows: rows.finish()?,
        orphans: orphans.finish()?,
        file: None,
    };
    Ok(Looked { references: summed, findings: Some(findings) })
}

fn packed(kind: Kind, (table, start, reference): (usize, u64, usize), like: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(25 + like.len());
    bytes.extend_from_slice(&(table as u64).to_be_bytes());
    bytes.extend_from_slice(&start.to_be_bytes());
    bytes.extend_from_slice(&(reference as u64).to_be_bytes());
    bytes.extend(KINDS.iter().position(|known| *known == kind).and_then(|at| u8::try_from(at).ok()));
    bytes.extend_from_slice(like.as_bytes());
    bytes
}

fn unpacked(bytes: &[u8]) -> Option<(Kind, (usize, u64, usize), &str)> {
    let (table, rest) = bytes.split_first_chunk()?;
    let (start, rest) = rest.split_first_chunk()?;
    let (reference, rest) = rest.split_first_chunk()?;
    let (kind, like) = rest.split_first()?;
    let index = |bytes: &[u8; 8]| usize::try_from(u64::from_be_bytes(*bytes)).ok();
    let place = (index(table)?, u64::from_be_bytes(*start), index(reference)?);
    Some((*KINDS.get(usize::from(*kind))?, place, std::str::from_utf8(like).ok()?))
}

impl Findings {
    fn take(&mut self) -> Result<Option<Wrong>> {
        let broken = || Error::damaged("what was sorted did not come back as it was");
        if let Some(bytes) = self.rows.take()? {
            let (kind, place, like) = unpacked(&bytes).ok_or_else(broken)?;
            return self.row(kind, place, like).map(|row| Some(Wrong::Row(row)));
        }
        self.file = None;
        let Some(bytes) = self.orphans.take()? else { return Ok(None) };
        let (rest, size) = bytes.split_last_chunk().ok_or_else(broken)?;
        let key = rest.split_last().and_then(|(_, key)| std::str::from_utf8(key).ok()).ok_or_else(broken)?;
        Ok(Some(Wrong::Orphan(Orphan { key: key.to_owned(), size: u64::from_be_bytes(*size) })))
    }

    /// Reads the row; they come in the order in which they lie in their files.
    fn row(&mut self, kind: Kind, (table, start, reference): (usize, u64, usize), like: &str) -> Result<Row> {
        let held = &self.held[table];
        if self.file.as_ref().is_none_or(|(open, _, _)| *open != table) {
            self.file = Some((table, RecordFile::open(&held.path, &held.table, ROWID_FIELD)?, 0));
        }
        let Some((_, file, record)) = &mut self.file else { return Err(Error::damaged("no record file is open")) };
        while *record == 0 || file.start() < start {
            if !file.advance()? {
                return Err(Error::damaged(format!("`{}` has changed while it was read", held.path.display())));
            }
            *record += 1;
        }
        let values = file.values()?;
        let place = held.columns.iter().find(|(number, _)| *number == reference).map(|(_, place)| *place);
        let place = place.ok_or_else(|| Error::damaged("a reference is to another table"))?;
        let value = value_of(values[place], file)?.map(Value::shown).unwrap_or_default();
        Ok(Row {
            kind,
            table: held.table.table.clone(),
            primary_key: primary_key(held, &values),
            record: *record,
            column: self.references[reference].column.clone(),
            key: self.keys[reference].key(&value),
            value,
            like: (!like.is_empty()).then(|| like.to_owned()),
        })
    }
}

/// The columns that tell rows apart, with their values as they are written.
fn primary_key(held: &Held, values: &[&str]) -> Vec<(String, String)> {
    let table = &held.table;
    if table.rowid {
        return vec![(ROWID_FIELD.to_owned(), values[0].to_owned())];
    }
    let place = |name: &String| table.columns.iter().position(|column| column.name == *name);
    table.order.iter().filter_map(|name| Some((name.clone(), (*values.get(place(name)?)?).to_owned()))).collect()
}

impl Iterator for Findings {
    type Item = Result<Wrong>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}
