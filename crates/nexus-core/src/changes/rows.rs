//! Two record files of one table: which rows came, changed and went, in bounded memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::entries::{Entry, Sorted, Spill};
use super::told::{RowChange, Telling};
use super::{Change, EXAMPLES, Example, TableChanges};
use crate::database::source::RecordFile;
use crate::database::sqlite::ROWID_FIELD;
use crate::error::{Error, Result};
use crate::point::{RecordColumn, RecordTable};
use crate::records;

/// The most characters that are shown of a record or a key.
const SHOWN: usize = 300;

type Side<'a> = (&'a RecordTable, &'a Path);

/// Adds to `changes` how the rows differ, and each of those that do to what is told.
pub(super) fn compare(
    before: Side<'_>,
    after: Side<'_>,
    scratch: &Path,
    (changes, told): (&mut TableChanges, &mut Option<Telling>),
) -> Result<()> {
    let Some((then, now)) = readings(before.0, after.0) else {
        // No column is the same: nothing ties a row of then to a row of now.
        (changes.removed, changes.added) = (before.0.rows, after.0.rows);
        changes.examples = all(before.0, before.1, Change::Removed, told)?;
        changes.examples.extend(all(after.0, after.1, Change::Added, told)?);
        return Ok(());
    };
    let mut found = Found::new(scratch);
    found.merge(entries(before, &then, scratch)?, entries(after, &now, scratch)?)?;
    (changes.added, changes.changed, changes.removed) = (found.added, found.changed, found.removed);
    changes.examples = rows(found.differences, (before, &then), (after, &now), told)?;
    Ok(())
}

/// The rows of a table, all of which came or went: the first few, and each of them to what is told.
pub(super) fn all(
    table: &RecordTable,
    file: &Path,
    change: Change,
    told: &mut Option<Telling>,
) -> Result<Vec<Example>> {
    let mut file = RecordFile::open(file, table, ROWID_FIELD)?;
    let reading = Reading { key: key_of(table).unwrap_or_default(), shared: None };
    let mut examples = Vec::new();
    while (told.is_some() || examples.len() < EXAMPLES) && file.advance()? {
        let row = Row::whole(&file, table, &reading, change)?;
        if examples.len() < EXAMPLES {
            examples.push(row.example());
        }
        row.tell(&table.table, told)?;
    }
    if told.is_some() {
        require_rows(&file, table)?;
    }
    Ok(examples)
}

/// Which fields of a record count, by their places in it.
struct Reading {
    /// What tells rows apart; none: all that is compared.
    key: Vec<usize>,
    /// What is compared; `None`: the whole record as it is written.
    shared: Option<Vec<usize>>,
}

/// How to read both sides so that rows can be compared; `None` when they have nothing in common.
fn readings(before: &RecordTable, after: &RecordTable) -> Option<(Reading, Reading)> {
    let named = |columns: &[RecordColumn]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let (then, now) = (named(&before.columns), named(&after.columns));
    let keys = match (before.rowid, after.rowid) {
        (true, true) => Some((vec![0], vec![0])),
        (false, false) => {
            let same = before.order.iter().collect::<BTreeSet<_>>() == after.order.iter().collect::<BTreeSet<_>>();
            let place = |table| places(table, &before.order);
            if same { place(before).zip(place(after)) } else { None }
        }
        _ => None,
    };
    let (key_then, key_now) = keys.unwrap_or_default();
    if then == now && before.rowid == after.rowid {
        let reading = |key| Reading { key, shared: None };
        return Some((reading(key_then), reading(key_now)));
    }
    let shared: Vec<String> = then.into_iter().filter(|name| now.contains(name)).collect();
    if shared.is_empty() && key_then.is_empty() {
        return None;
    }
    let reading = |table, key| Some(Reading { key, shared: Some(places(table, &shared)?) });
    reading(before, key_then).zip(reading(after, key_now))
}

fn key_of(table: &RecordTable) -> Option<Vec<usize>> {
    if table.rowid { Some(vec![0]) } else { places(table, &table.order) }
}

/// Where columns are in a record.
fn places(table: &RecordTable, names: &[String]) -> Option<Vec<usize>> {
    let first = usize::from(table.rowid);
    let place = |name: &String| table.columns.iter().position(|column| column.name == *name);
    names.iter().map(|name| Some(place(name)? + first)).collect()
}

/// Every row of a file as an entry, in the order of their hashes.
fn entries((table, path): Side<'_>, reading: &Reading, scratch: &Path) -> Result<Sorted> {
    let mut file = RecordFile::open(path, table, ROWID_FIELD)?;
    let mut spill = Spill::new(scratch);
    while file.advance()? {
        spill.push(entry(&file, reading)?)?;
    }
    require_rows(&file, table)?;
    spill.finish()
}

/// Refuses a file that was read to its end and holds another number of records than its table says.
fn require_rows(file: &RecordFile, table: &RecordTable) -> Result<()> {
    let rows = file.digest().rows;
    if rows == table.rows {
        return Ok(());
    }
    let what = format!("`{}` has {rows} records, not {} as it should", table.file, table.rows);
    Err(Error::damaged(what))
}

fn entry(file: &RecordFile, reading: &Reading) -> Result<Entry> {
    let values = if reading.key.is_empty() && reading.shared.is_none() { Vec::new() } else { file.values()? };
    let row = match &reading.shared {
        None => half(&Sha256::digest(file.line())),
        Some(shared) => hash(&values, shared),
    };
    let key = if reading.key.is_empty() { row } else { hash(&values, &reading.key) };
    Ok(Entry { key, row, start: file.start() })
}

fn hash(values: &[&str], places: &[usize]) -> u128 {
    let mut hash = Sha256::new();
    for place in places {
        // Its length goes first, so that two values cannot run into one another.
        hash.update((values[*place].len() as u64).to_le_bytes());
        hash.update(values[*place]);
    }
    half(&hash.finalize())
}

fn half(hash: &[u8]) -> u128 {
    let (half, _) = hash.split_at(size_of::<u128>());
    u128::from_le_bytes(half.try_into().expect("split there"))
}

/// What is found while both sides are gone through.
struct Found {
    added: u64,
    changed: u64,
    removed: u64,
    /// Where the rows that differ lie: those that came, changed, went, each kind in the order of its file.
    differences: Spill,
    /// Rows of the key at hand that the other side does not have alike.
    group: Option<Group>,
    scratch: PathBuf,
}

/// Rows of one key, by where they lie. There may be any number of them: a key of SQLite's may be NULL.
struct Group {
    key: u128,
    then: Spill,
    now: Spill,
}

/// How rows differ, in the order they are told.
const KINDS: [Change; 3] = [Change::Added, Change::Changed, Change::Removed];

/// A row that differs as an entry, so that entries sort as they are told: where it lies, and where its other side does.
fn difference(kind: usize, start: u64, other: u64) -> Entry {
    Entry { key: (kind as u128) << 64 | u128::from(start), row: u128::from(other), start }
}

fn place(start: u64) -> Entry {
    Entry { key: 0, row: 0, start }
}

impl Found {
    fn new(scratch: &Path) -> Self {
        let differences = Spill::new(scratch);
        Self { added: 0, changed: 0, removed: 0, differences, group: None, scratch: scratch.to_owned() }
    }

    fn merge(&mut self, mut before: Sorted, mut after: Sorted) -> Result<()> {
        let (mut then, mut now) = (before.take()?, after.take()?);
        loop {
            let order = match (&then, &now) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(then), Some(now)) => (then.key, then.row).cmp(&(now.key, now.row)),
            };
            if order.is_le()
                && let Some(entry) = then
            {
                if order.is_lt() {
                    self.group(entry.key)?.then.push(place(entry.start))?;
                }
                then = before.take()?;
            }
            if order.is_ge()
                && let Some(entry) = now
            {
                if order.is_gt() {
                    self.group(entry.key)?.now.push(place(entry.start))?;
                }
                now = after.take()?;
            }
        }
        self.end_group()
    }

    fn group(&mut self, key: u128) -> Result<&mut Group> {
        if self.group.as_ref().is_some_and(|group| group.key != key) {
            self.end_group()?;
        }
        let scratch = &self.scratch;
        Ok(self.group.get_or_insert_with(|| Group { key, then: Spill::new(scratch), now: Spill::new(scratch) }))
    }

    /// What has a partner of the same key changed; what has none came or went.
    fn end_group(&mut self) -> Result<()> {
        let Some(Group { then, now, .. }) = self.group.take() else { return Ok(()) };
        let (mut before, mut after) = (then.finish()?, now.finish()?);
        loop {
            let (kind, number, start, other) = match (before.take()?, after.take()?) {
                (Some(then), Some(now)) => (1, &mut self.changed, then.start, now.start),
                (None, Some(now)) => (0, &mut self.added, now.start, 0),
                (Some(then), None) => (2, &mut self.removed, then.start, 0),
                (None, None) => return Ok(()),
            };
            *number += 1;
            self.differences.push(difference(kind, start, other))?;
        }
    }
}

/// Reads the rows that differ back: answers the first of each kind, and gives all to what is told.
fn rows(
    differences: Spill,
    before: (Side<'_>, &Reading),
    after: (Side<'_>, &Reading),
    told: &mut Option<Telling>,
) -> Result<Vec<Example>> {
    let ((old, old_path), then) = before;
    let ((new, new_path), now) = after;
    let mut before = RecordFile::open(old_path, old, ROWID_FIELD)?;
    let mut after = RecordFile::open(new_path, new, ROWID_FIELD)?;
    let (mut examples, mut shown) = (Vec::new(), [0; KINDS.len()]);
    let mut differences = differences.finish()?;
    while let Some(entry) = differences.take()? {
        let kind = usize::try_from(entry.key >> 64).unwrap_or_default();
        let is_example = shown[kind] < EXAMPLES;
        if !is_example && told.is_none() {
            continue;
        }
        let row = match KINDS[kind] {
            Change::Added => {
                after.read_at(entry.start)?;
                Row::whole(&after, new, now, Change::Added)?
            }
            Change::Removed => {
                before.read_at(entry.start)?;
                Row::whole(&before, old, then, Change::Removed)?
            }
            Change::Changed => {
                before.read_at(entry.start)?;
                after.read_at(u64::try_from(entry.row).unwrap_or_default())?;
                Row::changed((&before, old, then), (&after, now))?
            }
        };
        if is_example {
            shown[kind] += 1;
            examples.push(row.example());
        }
        row.tell(&new.table, told)?;
    }
    Ok(examples)
}

/// A row that differs, as JSON.
struct Row {
    change: Change,
    /// The fields of its key with their values; nothing where there is no key.
    key: Vec<(String, String)>,
    before: Option<String>,
    after: Option<String>,
}

impl Row {
    /// One that came or went.
    fn whole(file: &RecordFile, table: &RecordTable, reading: &Reading, change: Change) -> Result<Self> {
        let line = Some(String::from_utf8_lossy(file.line()).into_owned());
        let (before, after) = if change == Change::Added { (None, line) } else { (line, None) };
        Ok(Self { change, key: key_fields(file, table, reading)?, before, after })
    }

    /// One that has other values now: only those.
    fn changed(
        (before, old, then): (&RecordFile, &RecordTable, &Reading),
        (after, now): (&RecordFile, &Reading),
    ) -> Result<Self> {
        let (values, others) = (before.values()?, after.values()?);
        let names = records::fields(old);
        let shared = then.shared.clone().unwrap_or_else(|| (0..names.len()).collect());
        let other = now.shared.clone().unwrap_or_else(|| (0..others.len()).collect());
        let pairs = shared.iter().zip(&other).filter(|(left, right)| values[**left] != others[**right]);
        let (left, right): (Vec<_>, Vec<_>) = pairs
            .map(|(left, right)| ((names[*left].as_str(), values[*left]), (names[*left].as_str(), others[*right])))
            .unzip();
        let key = key_fields(before, old, then)?;
        Ok(Self { change: Change::Changed, key, before: Some(object(left)), after: Some(object(right)) })
    }

    fn example(&self) -> Example {
        let key: Vec<String> = self.key.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let key = if key.is_empty() { None } else { Some(cut(&key.join(", "))) };
        let shown = |text: &Option<String>| text.as_deref().map(cut);
        Example { change: self.change, key, before: shown(&self.before), after: shown(&self.after) }
    }

    fn tell(&self, table: &str, told: &mut Option<Telling>) -> Result<()> {
        let Some(telling) = told else { return Ok(()) };
        let key = object(self.key.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let raw = |text: &str| {
            let raw = serde_json::value::RawValue::from_string(text.to_owned());
            raw.map_err(|cause| Error::damaged_by(format!("a record of `{table}` is no JSON"), cause))
        };
        let key = if self.key.is_empty() { None } else { Some(raw(&key)?) };
        let before = self.before.as_deref().map(raw).transpose()?;
        let after = self.after.as_deref().map(raw).transpose()?;
        telling.row(&RowChange {
            table: table.to_owned(),
            change: self.change,
            key: key.as_deref(),
            before: before.as_deref(),
            after: after.as_deref(),
        })
    }
}

/// The fields of a record's key, with their values as they are written.
fn key_fields(file: &RecordFile, table: &RecordTable, reading: &Reading) -> Result<Vec<(String, String)>> {
    if reading.key.is_empty() {
        return Ok(Vec::new());
    }
    let (names, values) = (records::fields(table), file.values()?);
    Ok(reading.key.iter().map(|place| (names[*place].clone(), values[*place].to_owned())).collect())
}

/// Some fields as a record of their own.
fn object<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let field = |(name, value): (&str, &str)| format!("{}:{value}", serde_json::Value::from(name));
    format!("{{{}}}", fields.into_iter().map(field).collect::<Vec<_>>().join(","))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
