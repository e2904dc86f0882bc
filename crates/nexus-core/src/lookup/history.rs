//! One record over all points that have records: each of its states in turn, and what changed between them.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use serde::Serialize;

use super::key::wanted;
use super::record::record;
use super::{Cost, LeftOut, points, table};
use crate::database::source::Pairs;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::local::Scratch;
use crate::point::PointId;
use crate::vault::{RecoveryPoint, Vault};

/// Points that are looked at at once.
const AT_ONCE: usize = 8;

/// A record over time.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Its states, oldest first: from the first point that has it.
    pub states: Vec<State>,
    /// Points in which it was looked for.
    pub points: u64,
    /// Points in which it could not be looked for, each with the reason; oldest first.
    pub left_out: Vec<LeftOut>,
    /// What it cost.
    pub cost: Cost,
}

/// The record as it was for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The record as it is written; none: it was gone.
    pub record: Option<String>,
    /// The first point that shows it so.
    pub first: Seen,
    /// The last one before it was otherwise.
    pub last: Seen,
    /// How many points show it so.
    pub points: u64,
    /// What changed since the state before: nothing in the first, and where it went or came back.
    pub changes: Vec<Change>,
}

/// A point, and the moment that its records show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The point.
    pub point: PointId,
    /// The moment.
    pub instant: Timestamp,
}

/// A column that changed; values as they are written, none where the record has no such column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The column.
    pub column: String,
    /// Before.
    pub before: Option<String>,
    /// After.
    pub after: Option<String>,
}

/// Looks for a record in every point of the vault, some at once.
///
/// # Errors
///
/// What makes the question itself wrong in every point that could answer it: a table or column that none has. A single point
/// that has no records, not this table or no such key is left out with the reason; one that cannot be reached is an error.
pub async fn history(
    vault: &Vault,
    (name, words): (&str, &[String]),
    scratch: &Scratch,
    events: &Events,
) -> Result<History> {
    let (points, left_out) = points(vault).await?;
    let mut history = History { left_out, ..History::default() };
    let looked = stream::iter(&points).map(async |point| (point, look(point, name, words, scratch, events).await));
    let mut looked = std::pin::pin!(looked.buffered(AT_ONCE));
    let mut refused = None;
    while let Some((point, found)) = looked.next().await {
        match found {
            Ok(found) => {
                history.points += 1;
                history.cost.add(found.1);
                history.add(point, found.0);
            }
            Err(error) => {
                let Some(left) = LeftOut::of(point.id(), &error) else { return Err(error) };
                history.left_out.push(left);
                // When no point can answer, a question that is wrong matters more than a point without records.
                if matches!(error, Error::Usage { .. }) || refused.is_none() {
                    refused = Some(error);
                }
            }
        }
    }
    match refused {
        Some(error) if history.points == 0 => Err(error),
        None if history.points == 0 => Err(Error::missing(format!("{} holds no point with records", vault.address()))),
        _ => Ok(history),
    }
}

async fn look(
    point: &RecoveryPoint,
    name: &str,
    words: &[String],
    scratch: &Scratch,
    events: &Events,
) -> Result<(Option<String>, Cost)> {
    let table = table(point, name).await?;
    let wanted = wanted(table, words)?;
    let looked = record(point, table, &wanted, scratch, events).await?;
    Ok((looked.record, looked.cost))
}

impl History {
    /// Adds what the next point shows.
    fn add(&mut self, point: &RecoveryPoint, record: Option<String>) {
        let seen = Seen { point: point.id().clone(), instant: point.manifest().instant };
        match self.states.last_mut() {
            // What was not there before it came is no state of it.
            None if record.is_none() => {}
            Some(state) if state.record == record => {
                state.last = seen;
                state.points += 1;
            }
            last => {
                let before = last.and_then(|state| state.record.as_deref());
                let changes = match (before, record.as_deref()) {
                    (Some(before), Some(after)) => changes(before, after),
                    _ => Vec::new(),
                };
                self.states.push(State { record, first: seen.clone(), last: seen, points: 1, changes });
            }
        }
    }
}

/// The columns that differ, in the order of the later record, then those that went.
fn changes(before: &str, after: &str) -> Vec<Change> {
    let read = |line| serde_json::from_str::<Pairs<'_>>(line).map(|pairs| pairs.0).unwrap_or_default();
    let (then, now) = (read(before), read(after));
    let values = |pairs: &[(std::borrow::Cow<'_, str>, &serde_json::value::RawValue)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.clone().into_owned(), value.get().to_owned())).collect()
    };
    let (old, new) = (values(&then), values(&now));
    let went = then.iter().filter(|(name, _)| !new.contains_key(name.as_ref()));
    let columns = now.iter().chain(went).map(|(name, _)| name.as_ref());
    columns
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| Change { column: name.to_owned(), before: old.get(name).cloned(), after: new.get(name).cloned() })
        .collect()
}
