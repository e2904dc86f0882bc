//! One thing of a point, without restoring anything: a file, a record, the records that fit conditions, a record over time.
//!
//! Nothing is answered that was not held against a checksum of the point: a piece of a record file against its index's, a whole
//! one against the manifest's. Where an index is no use the whole file is read.

pub mod beside;
mod condition;
pub mod file;
pub mod find;
pub mod history;
mod indexed;
pub mod key;
mod number;
pub mod record;
mod source;

pub use condition::Condition;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::point::{Part, PointId, RecordTable, RecordsPart};
use crate::records::names::like;
use crate::vault::{RecoveryPoint, Standing, Vault};

/// What an answer cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Requests for pieces of records and indexes, or for whole ones.
    pub requests: u64,
    /// Bytes that came from the vault.
    pub bytes: u64,
    /// Bytes that were read on this machine.
    pub local_bytes: u64,
}

impl Cost {
    /// Adds what another answer cost.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.local_bytes += other.local_bytes;
    }
}

/// A point that could not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The point.
    pub point: PointId,
    /// Why.
    pub reason: String,
    /// True for damage: what the point would have said is not known.
    pub damaged: bool,
}

impl LeftOut {
    /// A point that failed to answer; none for a failure that is not the point's.
    pub fn of(point: &PointId, error: &Error) -> Option<Self> {
        let damaged = matches!(error, Error::Damaged { .. } | Error::Newer { .. });
        let its_own = damaged || matches!(error, Error::Usage { .. } | Error::Missing { .. });
        its_own.then(|| Self { point: point.clone(), reason: crate::error::chain(error), damaged })
    }
}

/// All committed points, the oldest instant first, and those of which that cannot be said.
///
/// # Errors
///
/// What the vault could not be read for.
pub async fn points(vault: &Vault) -> Result<(Vec<RecoveryPoint>, Vec<LeftOut>)> {
    let (mut points, mut left_out) = (Vec::new(), Vec::new());
    for state in vault.points().await? {
        match state.standing {
            Standing::Committed(manifest) => points.push(vault.point_of(&manifest, state.journal)),
            Standing::Unreadable(reason) => left_out.push(LeftOut { point: state.id, reason, damaged: true }),
            Standing::Unfinished(_) | Standing::Abandoned(_) => {}
        }
    }
    points.sort_by_key(|point| point.manifest().instant);
    Ok((points, left_out))
}

/// The table of a point that goes by a name: its records' or its own in the database.
///
/// # Errors
///
/// [`Error::Missing`] for a point without records, [`Error::Usage`] when they expired, or with names that are like one that is not
/// there.
pub async fn table<'a>(point: &'a RecoveryPoint, name: &str) -> Result<&'a RecordTable> {
    let Some(records) = &point.manifest().parts.records else {
        return Err(Error::missing(format!("{} has no records", point.id())));
    };
    point.require_kept(&[Part::Records]).await?;
    named(records, name).ok_or_else(|| {
        let known = records.tables.iter().flat_map(|table| [table.name.as_str(), table.table.as_str()]);
        let mut close = like(name, known);
        close.dedup();
        let hint = match (close.as_slice(), records.skipped.get(name)) {
            (_, Some(reason)) => format!("the database has it, its rows are not among the records: {reason}"),
            ([], None) => format!("nexus show {} lists its tables", point.id()),
            (close, None) => format!("the records are of {}", close.join(", ")),
        };
        Error::usage_hint(format!("{} has no records of a table {name:?}", point.id()), hint)
    })
}

/// The table that goes by a name: a record name counts before a table's own, since one table may be called what another's records
/// go by.
fn named<'a>(records: &'a RecordsPart, name: &str) -> Option<&'a RecordTable> {
    let by_name = records.tables.iter().find(|table| table.name == name);
    by_name.or_else(|| records.tables.iter().find(|table| table.table == name))
}

/// Says that a table has no such column, with those that are like it.
fn no_such_column(table: &RecordTable, name: &str) -> Error {
    let known = crate::records::fields(table);
    let close = like(name, known.iter().map(String::as_str));
    let hint = if close.is_empty() {
        let some: Vec<String> = known.iter().take(12).map(|name| format!("`{name}`")).collect();
        format!("its columns are {}{}", some.join(", "), if known.len() > 12 { ", …" } else { "" })
    } else {
        format!("it has {}", close.join(", "))
    };
    Error::usage_hint(format!("the records of {} have no column {name:?}", table.name), hint)
}
