//! Rows beside files: both by hashes of their keys, sorted together, gone through once.

use std::borrow::Cow;
use std::path::Path;

use jiff::Timestamp;

use super::forms::{Forms, Hash};
use super::keys::Keys;
use super::list::Kind;
use crate::database::source::{Field, RecordFile, field};
use crate::error::{Error, Result};
use crate::listing::{FileKind, ListingReader};
use crate::local::sorted::{Sorted, Sorter};
use crate::point::references::Reference;

/// The most files whose keys differ in case and Unicode form alone.
const ALIKE: usize = 100_000;

/// What is kept of each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Enough to count.
    Counts,
    /// The keys of files as well.
    Keys,
}

/// One thing that was seen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen<'a> {
    /// A row has a value.
    Named { reference: usize },
    /// A row is not as it should be, or shares its file.
    Row {
        kind: Kind,
        reference: usize,
        table: usize,
        /// Where its record begins in the table's file.
        start: u64,
        /// The file that is like the one it names.
        like: &'a str,
    },
    /// A file that no row names.
    Orphan { key: &'a str, size: u64 },
}

/// Rows and files on their way into order.
pub(super) struct Sides {
    sorter: Sorter,
    detail: Detail,
}

/// Sides of an entry: files of a fold come before its rows.
const FILE: u8 = 0;
const ROW: u8 = 1;

impl Sides {
    pub(super) fn new(scratch: &Path, detail: Detail) -> Self {
        Self { sorter: Sorter::new(scratch), detail }
    }

    /// Adds the files of a listing. Those outside the prefixes of all references, markers of folders, and those that were modified
    /// after `instant`, which is that of the rows, are never orphans.
    pub(super) fn files(&mut self, listing: ListingReader, references: &[Reference], instant: Timestamp) -> Result<()> {
        for entry in listing {
            let entry = entry?;
            // A link is recorded and not followed: what it leads to need not be there.
            if entry.kind != FileKind::File {
                continue;
            }
            let is_marker = entry.source.size == 0 && entry.key.ends_with('/');
            let within = references.iter().any(|reference| entry.key.starts_with(&reference.prefix));
            // Its row may have come after the others were read.
            let is_newer = entry.source.modified.is_some_and(|modified| modified > instant);
            let mut bytes = header(&Forms::of(&entry.key), FILE);
            bytes.push(u8::from(within && !is_marker && !is_newer));
            bytes.extend_from_slice(&entry.source.size.to_be_bytes());
            if self.detail == Detail::Keys {
                bytes.extend_from_slice(entry.key.as_bytes());
            }
            self.sorter.push(&bytes)?;
        }
        Ok(())
    }

    /// Adds the values of some columns of a table, each by the reference that names it.
    pub(super) fn rows(
        &mut self,
        file: &mut RecordFile,
        table: usize,
        columns: &[(usize, usize)],
        keys: &[Keys],
    ) -> Result<()> {
        while file.advance()? {
            let values = file.values()?;
            for (reference, place) in columns {
                let keys = &keys[*reference];
                let forms = match value_of(values[*place], file)? {
                    None => continue,
                    Some(Value::Text(text)) => Forms::of(&keys.key(&text)),
                    Some(Value::Bytes(bytes)) => Forms::of_bytes(&keys.key_of_bytes(&bytes)),
                };
                let mut bytes = header(&forms, ROW);
                bytes.extend_from_slice(&number(table)?.to_be_bytes());
                bytes.extend_from_slice(&file.start().to_be_bytes());
                bytes.extend_from_slice(&number(*reference)?.to_be_bytes());
                self.sorter.push(&bytes)?;
            }
        }
        Ok(())
    }

    /// Goes through both and tells what it sees.
    pub(super) fn merge(self, mut tell: impl FnMut(Seen<'_>) -> Result<()>) -> Result<()> {
        let mut sorted = self.sorter.finish()?;
        let mut group = Group::default();
        while let Some(entry) = next(&mut sorted)? {
            if group.fold != Some(entry.forms.fold) {
                group.end(&mut tell)?;
                group = Group { fold: Some(entry.forms.fold), ..Group::default() };
            }
            match entry.side {
                Side::File(file) => group.file(file)?,
                Side::Row(row) => group.row(entry.forms, row, &mut tell)?,
            }
        }
        group.end(&mut tell)
    }
}

/// A value as a key is made of it.
pub(super) enum Value {
    Text(String),
    /// What is no text, and so no key.
    Bytes(Vec<u8>),
}

impl Value {
    /// What it looks like.
    pub(super) fn shown(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        }
    }
}

/// The value; none of NULL and of an empty text.
pub(super) fn value_of(raw: &str, file: &RecordFile) -> Result<Option<Value>> {
    let text = match field(raw).ok_or_else(|| file.foreign())? {
        Field::Null => return Ok(None),
        Field::Boolean(value) => value.to_string(),
        Field::Number(value) => value.to_owned(),
        Field::Text(value) => value.into_owned(),
        Field::Integer(value) | Field::Real(value) => value,
        Field::Blob(bytes) | Field::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(broken) => return Ok(Some(Value::Bytes(broken.into_bytes()))),
        },
    };
    Ok((!text.is_empty()).then_some(Value::Text(text)))
}

/// A value that is text, NULL as an empty one; none of any other value.
pub(super) fn text_alone<'a>(raw: &'a str, file: &RecordFile) -> Result<Option<Cow<'a, str>>> {
    match field(raw).ok_or_else(|| file.foreign())? {
        Field::Null => Ok(Some(Cow::Borrowed(""))),
        Field::Text(text) => Ok(Some(text)),
        _ => Ok(None),
    }
}

fn number(number: usize) -> Result<u16> {
    u16::try_from(number).map_err(|_| Error::usage("more than 65,536 references are named"))
}

/// What entries are sorted by.
fn header(Forms { fold, nfc, exact }: &Forms, side: u8) -> Vec<u8> {
    [&fold[..], &[side], nfc, exact].concat()
}

struct Entry {
    forms: Forms,
    side: Side,
}

enum Side {
    File(FileSeen),
    Row(RowSeen),
}

struct FileSeen {
    nfc: Hash,
    exact: Hash,
    counts: bool,
    size: u64,
    key: String,
    named: bool,
    /// True when a row is told to mean it.
    meant: bool,
}

#[derive(Clone, Copy)]
struct RowSeen {
    table: usize,
    start: u64,
    reference: usize,
}

/// The next entry, as it was put in.
fn next(sorted: &mut Sorted) -> Result<Option<Entry>> {
    let Some(bytes) = sorted.take()? else { return Ok(None) };
    let entry = entry(&bytes).ok_or_else(|| Error::damaged("what was sorted did not come back as it was"))?;
    Ok(Some(entry))
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    let (fold, rest) = bytes.split_first_chunk()?;
    let (side, rest) = rest.split_first()?;
    let (nfc, rest) = rest.split_first_chunk()?;
    let (exact, rest) = rest.split_first_chunk()?;
    let forms = Forms { fold: *fold, nfc: *nfc, exact: *exact };
    let side = if *side == FILE {
        let (counts, rest) = rest.split_first()?;
        let (length, key) = rest.split_first_chunk()?;
        Side::File(FileSeen {
            nfc: *nfc,
            exact: *exact,
            counts: *counts == 1,
            size: u64::from_be_bytes(*length),
            key: std::str::from_utf8(key).ok()?.to_owned(),
            named: false,
            meant: false,
        })
    } else {
        let (table, rest) = rest.split_first_chunk()?;
        let (start, rest) = rest.split_first_chunk()?;
        Side::Row(RowSeen {
            table: u16::from_be_bytes(*table).into(),
            start: u64::from_be_bytes(*start),
            reference: u16::from_be_bytes(*rest.first_chunk()?).into(),
        })
    };
    Some(Entry { forms, side })
}

/// Everything of one fold: the files, and the rows as they come, those of one key one after the other.
#[derive(Default)]
struct Group {
    fold: Option<Hash>,
    files: Vec<FileSeen>,
    run: Run,
}

/// Rows of one key that is there.
#[derive(Default)]
struct Run {
    exact: Option<Hash>,
    /// Values of the first row, as long as it is the only one.
    first: Vec<RowSeen>,
    is_shared: bool,
}

impl Group {
    fn file(&mut self, file: FileSeen) -> Result<()> {
        if self.files.len() == ALIKE {
            let what = format!("more than {ALIKE} keys of files differ in case or Unicode form alone");
            return Err(Error::Unsupported { what });
        }
        self.files.push(file);
        Ok(())
    }

    fn row(&mut self, forms: Forms, row: RowSeen, tell: &mut impl FnMut(Seen<'_>) -> Result<()>) -> Result<()> {
        tell(Seen::Named { reference: row.reference })?;
        let by = |file: &FileSeen| (file.nfc, file.exact).cmp(&(forms.nfc, forms.exact));
        if let Ok(at) = self.files.binary_search_by(by) {
            self.files[at].named = true;
            return self.run.add(forms.exact, row, tell);
        }
        // One of its own form goes before others, and of those one that no row has named yet.
        let like = self.files.iter_mut().min_by_key(|file| (file.nfc != forms.nfc, file.named));
        let Some(like) = like else { return tell(row.seen(Kind::Dangling, "")) };
        like.meant = true;
        let kind = if like.nfc == forms.nfc { Kind::OtherForm } else { Kind::OtherCase };
        tell(row.seen(kind, &like.key))
    }

    /// A file that a row means in another case or form is no orphan: the row is what is wrong.
    fn end(&self, tell: &mut impl FnMut(Seen<'_>) -> Result<()>) -> Result<()> {
        let orphans = self.files.iter().filter(|file| file.counts && !file.named && !file.meant);
        for FileSeen { key, size, .. } in orphans {
            tell(Seen::Orphan { key, size: *size })?;
        }
        Ok(())
    }
}

impl Run {
    fn add(&mut self, exact: Hash, row: RowSeen, tell: &mut impl FnMut(Seen<'_>) -> Result<()>) -> Result<()> {
        if self.exact != Some(exact) {
            *self = Self { exact: Some(exact), ..Self::default() };
        }
        let is_same = |first: &RowSeen| (first.table, first.start) == (row.table, row.start);
        if !self.is_shared && self.first.first().is_none_or(is_same) {
            // Two columns of one row may name one file.
            self.first.push(row);
            return Ok(());
        }
        self.is_shared = true;
        for first in self.first.drain(..) {
            tell(first.seen(Kind::Shared, ""))?;
        }
        tell(row.seen(Kind::Shared, ""))
    }
}

impl RowSeen {
    fn seen(self, kind: Kind, like: &str) -> Seen<'_> {
        Seen::Row { kind, reference: self.reference, table: self.table, start: self.start, like }
    }
}
