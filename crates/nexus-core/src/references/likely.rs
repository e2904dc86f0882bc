//! Columns that look as if they named files: most of their values are keys.

use std::path::Path;

use super::check::text_alone;
use super::forms::{Forms, Hash};
use crate::bucket::sorted::Sorted;
use crate::database::source::RecordFile;
use crate::database::sqlite::ROWID_FIELD;
use crate::error::{Error, Result};
use crate::listing::FileKind;
use crate::local::Scratch;
use crate::local::blocking;
use crate::local::sorted::{self, Sorter};
use crate::point::RecordTable;
use crate::point::references::Reference;

/// Fewer values than this say nothing.
const FEWEST: u64 = 20;
/// Of a hundred values so many must be keys.
const SHARE: u64 = 95;
/// The longest value that is looked for, bytes: no key is longer.
const LONGEST: usize = 4096;

/// A column that looks as if it named files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Likely {
    /// The column, by the name of its records.
    pub reference: Reference,
    /// Its values that are neither NULL nor empty.
    pub values: u64,
    /// How many of them are keys.
    pub found: u64,
}

/// A column that is looked at.
struct Column {
    table: String,
    name: String,
    /// Values; none once one was seen that is no text.
    values: Option<u64>,
    /// Values that are keys as they are, and with the source's prefix before them.
    found: [u64; 2],
}

/// Looks which columns of text have values that are keys of files: at least 95 of a hundred, of twenty values or more.
///
/// `tables` are those whose record files lie in `folder`, and `prefix` is that of the source that was listed: values that are
/// keys only with it before them are told with it.
///
/// # Errors
///
/// What the listing fails with; [`Error::Damaged`] when a record file is none; [`Error::Full`] and the like from the disk.
pub async fn likely(
    tables: &[RecordTable],
    folder: &Path,
    (listed, prefix): (Sorted, &str),
    scratch: &Scratch,
) -> Result<Vec<Likely>> {
    let (tables, folder, prefix) = (tables.to_vec(), folder.to_owned(), prefix.to_owned());
    let scratch = scratch.path().to_owned();
    blocking(move || {
        let (mut sorter, mut columns) = (Sorter::new(&scratch), Vec::new());
        for table in tables.iter().filter(|table| table.rows >= FEWEST) {
            rows(table, &folder, &prefix, &mut columns, &mut sorter)?;
        }
        for object in listed {
            let object = object?;
            if object.kind == FileKind::File {
                sorter.push(&Forms::of(&object.key).exact)?;
            }
        }
        count(sorter.finish()?, &mut columns)?;
        Ok(columns.iter().filter_map(|column| column.likely(&prefix)).collect())
    })
    .await
}

/// Adds the values of all columns of a table.
fn rows(
    table: &RecordTable,
    folder: &Path,
    prefix: &str,
    columns: &mut Vec<Column>,
    sorter: &mut Sorter,
) -> Result<()> {
    let (first, own) = (columns.len(), usize::from(table.rowid));
    columns.extend(table.columns.iter().map(|column| Column {
        table: table.name.clone(),
        name: column.name.clone(),
        values: Some(0),
        found: [0; 2],
    }));
    let mut file = RecordFile::open(&folder.join(&table.file), table, ROWID_FIELD)?;
    while file.advance()? {
        let values = file.values()?;
        for (at, column) in columns.iter_mut().enumerate().skip(first) {
            let Some(number) = &mut column.values else { continue };
            let Some(value) = text_alone(values[at - first + own], &file)? else {
                column.values = None;
                continue;
            };
            if value.is_empty() {
                continue;
            }
            *number += 1;
            if value.len() > LONGEST {
                continue;
            }
            let place = u32::try_from(at).map_err(|_| Error::usage("there are too many columns to look at"))?;
            sorter.push(&entry(&value, place, 0))?;
            if !prefix.is_empty() {
                sorter.push(&entry(&format!("{prefix}{value}"), place, 1))?;
            }
        }
    }
    Ok(())
}

/// A value as a key of a column; files, which are their hash alone, come before it.
fn entry(key: &str, column: u32, way: u8) -> Vec<u8> {
    [&Forms::of(key).exact[..], &column.to_be_bytes(), &[way]].concat()
}

fn count(mut sorted: sorted::Sorted, columns: &mut [Column]) -> Result<()> {
    let broken = || Error::damaged("what was sorted did not come back as it was");
    let mut file: Option<Hash> = None;
    while let Some(bytes) = sorted.take()? {
        let (hash, rest) = bytes.split_first_chunk::<{ size_of::<Hash>() }>().ok_or_else(broken)?;
        let Some((column, way)) = rest.split_first_chunk::<4>() else {
            file = Some(*hash);
            continue;
        };
        let column = columns.get_mut(u32::from_be_bytes(*column) as usize).ok_or_else(broken)?;
        let found = way.first().and_then(|way| column.found.get_mut(usize::from(*way))).ok_or_else(broken)?;
        *found += u64::from(file.as_ref() == Some(hash));
    }
    Ok(())
}

impl Column {
    fn likely(&self, prefix: &str) -> Option<Likely> {
        let values = self.values.filter(|values| *values >= FEWEST)?;
        let way = usize::from(self.found[1] > self.found[0]);
        let found = self.found[way];
        let reference = Reference {
            table: self.table.clone(),
            column: self.name.clone(),
            prefix: if way == 1 { prefix.to_owned() } else { String::new() },
            base: None,
        };
        (found * 100 >= values * SHARE).then_some(Likely { reference, values, found })
    }
}
