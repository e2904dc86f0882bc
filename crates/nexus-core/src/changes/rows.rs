//! Two record files of one table: which rows came, changed and went, in bounded memory.

use std::collections::BTreeSet;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::entries::{Entry, Sorted, Spill};
use super::{Change, EXAMPLES, Example, TableChanges};
use crate::database::source::RecordFile;
use crate::database::sqlite::ROWID_FIELD;
use crate::error::{Error, Result};
use crate::point::{RecordColumn, RecordTable};
use crate::records;

/// The most characters that are shown of a record or a key.
const SHOWN: usize = 300;

type Side<'a> = (&'a RecordTable, &'a Path);

/// Adds to `changes` how the rows differ.
pub(super) fn compare(before: Side<'_>, after: Side<'_>, scratch: &Path, changes: &mut TableChanges) -> Result<()> {
    let Some((then, now)) = readings(before.0, after.0) else {
        // No column is the same: nothing ties a row of then to a row of now.
        (changes.removed, changes.added) = (before.0.rows, after.0.rows);
        changes.examples = first(before.0, before.1, Change::Removed)?;
        changes.examples.extend(first(after.0, after.1, Change::Added)?);
        return Ok(());
    };
    let mut found = Found::default();
    found.merge(entries(before, &then, scratch)?, entries(after, &now, scratch)?)?;
    (changes.added, changes.changed, changes.removed) = (found.added, found.changed, found.removed);
    changes.examples = examples(&found, (before, &then), (after, &now))?;
    Ok(())
}

/// The first rows of a table, all of which came or went.
pub(super) fn first(table: &RecordTable, file: &Path, change: Change) -> Result<Vec<Example>> {
    let mut file = RecordFile::open(file, table, ROWID_FIELD)?;
    let reading = Reading { key: key_of(table).unwrap_or_default(), shared: None };
    let mut examples = Vec::new();
    while examples.len() < EXAMPLES && file.advance()? {
        examples.push(example(&file, table, &reading, change)?);
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
    let rows = file.digest().rows;
    if rows != table.rows {
        let what = format!("`{}` has {rows} records, not {} as it should", path.display(), table.rows);
        return Err(Error::damaged(what));
    }
    spill.finish()
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
#[derive(Default)]
struct Found {
    added: u64,
    changed: u64,
    removed: u64,
    first_added: First<u64>,
    first_changed: First<(u64, u64)>,
    first_removed: First<u64>,
    /// Rows of the key at hand that the other side does not have alike.
    group: Group,
}

#[derive(Default)]
struct Group {
    key: u128,
    then: (u64, First<u64>),
    now: (u64, First<u64>),
}

/// The first few, in order.
#[derive(Default)]
struct First<T>(BTreeSet<T>);

impl<T: Ord> First<T> {
    fn add(&mut self, item: T) {
        self.0.insert(item);
        if self.0.len() > EXAMPLES {
            self.0.pop_last();
        }
    }
}

impl Found {
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
                    self.group(entry.key).then.take(entry.start);
                }
                then = before.take()?;
            }
            if order.is_ge()
                && let Some(entry) = now
            {
                if order.is_gt() {
                    self.group(entry.key).now.take(entry.start);
                }
                now = after.take()?;
            }
        }
        self.end_group();
        Ok(())
    }

    fn group(&mut self, key: u128) -> &mut Group {
        if self.group.key != key {
            self.end_group();
            self.group.key = key;
        }
        &mut self.group
    }

    /// What has a partner of the same key changed; what has none came or went.
    fn end_group(&mut self) {
        let Group { then, now, .. } = std::mem::take(&mut self.group);
        let changed = then.0.min(now.0);
        self.changed += changed;
        self.removed += then.0 - changed;
        self.added += now.0 - changed;
        let (mut before, mut after) = (then.1.0.into_iter(), now.1.0.into_iter());
        for _ in 0..changed.min(EXAMPLES as u64) {
            if let (Some(then), Some(now)) = (before.next(), after.next()) {
                self.first_changed.add((then, now));
            }
        }
        before.for_each(|start| self.first_removed.add(start));
        after.for_each(|start| self.first_added.add(start));
    }
}

trait Take {
    fn take(&mut self, start: u64);
}

impl Take for (u64, First<u64>) {
    fn take(&mut self, start: u64) {
        self.0 += 1;
        self.1.add(start);
    }
}

/// Reads the first rows of each kind back.
fn examples(found: &Found, before: (Side<'_>, &Reading), after: (Side<'_>, &Reading)) -> Result<Vec<Example>> {
    let ((old, old_path), then) = before;
    let ((new, new_path), now) = after;
    let mut before = RecordFile::open(old_path, old, ROWID_FIELD)?;
    let mut after = RecordFile::open(new_path, new, ROWID_FIELD)?;
    let mut examples = Vec::new();
    for start in &found.first_added.0 {
        after.read_at(*start)?;
        examples.push(example(&after, new, now, Change::Added)?);
    }
    for (left, right) in &found.first_changed.0 {
        before.read_at(*left)?;
        after.read_at(*right)?;
        let (values, others) = (before.values()?, after.values()?);
        let names = records::fields(old);
        let shared = then.shared.clone().unwrap_or_else(|| (0..names.len()).collect());
        let other = now.shared.clone().unwrap_or_else(|| (0..others.len()).collect());
        let pairs = shared.iter().zip(&other).filter(|(left, right)| values[**left] != others[**right]);
        let (left, right): (Vec<_>, Vec<_>) =
            pairs.map(|(left, right)| ((&names[*left], values[*left]), (&names[*left], others[*right]))).unzip();
        examples.push(Example {
            change: Change::Changed,
            key: key_text(&before, old, then)?,
            before: Some(object(&left)),
            after: Some(object(&right)),
        });
    }
    for start in &found.first_removed.0 {
        before.read_at(*start)?;
        examples.push(example(&before, old, then, Change::Removed)?);
    }
    Ok(examples)
}

/// A row that came or went, whole.
fn example(file: &RecordFile, table: &RecordTable, reading: &Reading, change: Change) -> Result<Example> {
    let line = Some(cut(&String::from_utf8_lossy(file.line())));
    let (before, after) = if change == Change::Added { (None, line) } else { (line, None) };
    Ok(Example { change, key: key_text(file, table, reading)?, before, after })
}

fn key_text(file: &RecordFile, table: &RecordTable, reading: &Reading) -> Result<Option<String>> {
    if reading.key.is_empty() {
        return Ok(None);
    }
    let (names, values) = (records::fields(table), file.values()?);
    let fields: Vec<_> = reading.key.iter().map(|place| format!("{}={}", names[*place], values[*place])).collect();
    Ok(Some(cut(&fields.join(", "))))
}

/// Some fields as a record of their own.
fn object(fields: &[(&String, &str)]) -> String {
    let field = |(name, value): &(&String, &str)| format!("{}:{value}", serde_json::Value::from(name.as_str()));
    cut(&format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(",")))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
