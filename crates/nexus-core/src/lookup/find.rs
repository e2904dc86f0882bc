//! The records of a table that fit conditions: the whole file is read, one record after another.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::condition::Condition;
use super::source::Source;
use super::{Cost, table};
use crate::database::source::{Pairs, RecordFile, pairs};
use crate::database::sqlite::ROWID_FIELD;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local::{Scratch, blocking};
use crate::point::RecordTable;
use crate::records::{fields, old};
use crate::vault::RecoveryPoint;

/// Takes each record that fits, as it is written, on one line. An error ends the search.
pub type Take = Arc<dyn Fn(&str) -> Result<()> + Send + Sync>;

/// How often the number of records is told.
const ROWS_BETWEEN_NEWS: u64 = 8192;

/// What came of a search.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Searched {
    /// Records that were looked at.
    pub rows: u64,
    /// Those that fit.
    pub found: u64,
    /// What it cost.
    pub cost: Cost,
}

/// Searches one table of a point; `take` gets what fits, in the order of the file, and nothing before the file was held against
/// its hash.
///
/// # Errors
///
/// [`Error::Usage`] for a table or column that is not there or a condition that is none; [`Error::Missing`] when the point has no
/// records or they are on another machine; [`Error::Damaged`] when they are not as they were written.
pub async fn find(
    point: &RecoveryPoint,
    (name, conditions): (&str, &[String]),
    scratch: &Scratch,
    take: Take,
    events: &Events,
) -> Result<Searched> {
    let table = table(point, name).await?;
    let conditions = conditions.iter().map(|text| Condition::parse(text, table)).collect::<Result<Vec<_>>>()?;
    let mut source = Source::new(point, table, scratch);
    search(&mut source, conditions, take, events).await
}

/// The same for conditions that were made out already.
pub(super) async fn search(
    source: &mut Source<'_>,
    conditions: Vec<Condition>,
    take: Take,
    events: &Events,
) -> Result<Searched> {
    let table = source.table.clone();
    let own = source.point.manifest().own_records().is_some();
    let whole = source.whole().await?;
    let (path, events) = (whole.path().to_owned(), events.clone());
    events.started(Stage::ReadRecords, Some(table.rows), None);
    let sieve = Sieve::new(&table, conditions);
    let (rows, found) = blocking(move || {
        let sifted =
            if own { own_records(&path, &table, &sieve, &take, &events) } else { old_records(&path, &sieve, &take) };
        events.ended(Stage::ReadRecords);
        sifted
    })
    .await?;
    Ok(Searched { rows, found, cost: source.cost })
}

/// Conditions with the places and types of their columns.
struct Sieve {
    conditions: Vec<(Condition, Option<usize>, String)>,
}

impl Sieve {
    fn new(table: &RecordTable, conditions: Vec<Condition>) -> Self {
        let names = fields(table);
        let types: BTreeMap<&str, &str> =
            table.columns.iter().map(|column| (column.name.as_str(), column.declared.as_str())).collect();
        let placed = conditions.into_iter().map(|condition| {
            let place = names.iter().position(|name| *name == condition.column);
            let declared = types.get(condition.column.as_str()).copied().unwrap_or_default().to_owned();
            (condition, place, declared)
        });
        Self { conditions: placed.collect() }
    }

    /// Whether a record whose fields lie where the table says fits.
    fn takes_placed(&self, record: &Pairs<'_>) -> bool {
        self.conditions.iter().all(|(condition, place, declared)| {
            condition.fits(place.and_then(|place| record.0.get(place)).map(|(_, value)| value.get()), declared)
        })
    }

    /// The same for one whose fields may lie anywhere.
    fn takes(&self, record: &Pairs<'_>) -> bool {
        self.conditions.iter().all(|(condition, _, declared)| {
            let value = record.0.iter().find(|(name, _)| *name == condition.column);
            condition.fits(value.map(|(_, value)| value.get()), declared)
        })
    }
}

fn own_records(path: &Path, table: &RecordTable, sieve: &Sieve, take: &Take, events: &Events) -> Result<(u64, u64)> {
    let names = fields(table);
    let mut file = RecordFile::open(path, table, ROWID_FIELD)?;
    let (mut rows, mut found) = (0, 0);
    while file.advance()? {
        rows += 1;
        if rows % ROWS_BETWEEN_NEWS == 0 {
            events.advanced(Stage::ReadRecords, ROWS_BETWEEN_NEWS, 0);
        }
        let line = std::str::from_utf8(file.line()).ok();
        let record = line.and_then(|line| Some((line, pairs(line, &names)?)));
        let Some((line, record)) = record else {
            let what = format!("record {rows} of {} in `{}` is not one of that table", table.name, path.display());
            return Err(Error::damaged(what));
        };
        if sieve.takes_placed(&record) {
            found += 1;
            take(line)?;
        }
    }
    if rows != table.rows {
        return Err(Error::damaged(format!("{} has {rows} records, not {}", path.display(), table.rows)));
    }
    Ok((rows, found))
}

fn old_records(path: &Path, sieve: &Sieve, take: &Take) -> Result<(u64, u64)> {
    let (mut rows, mut found) = (0, 0);
    let unreadable =
        |cause: serde_json::Error| Error::Damaged { what: "a record cannot be read".into(), cause: Some(cause.into()) };
    old::each(path, &mut |line| {
        rows += 1;
        let record: Pairs<'_> = serde_json::from_str(line).map_err(unreadable)?;
        if sieve.takes(&record) {
            found += 1;
            take(line)?;
        }
        Ok(())
    })?;
    Ok((rows, found))
}
