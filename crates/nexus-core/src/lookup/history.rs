//! One record over all points that have records: each of its states in turn, and what changed between them.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use serde::Serialize;

use super::key::{Wanted, wanted};
use super::record::{fields as values_of, record};
use super::{Cost, LeftOut, named, points, table};
use crate::database::source::Pairs;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::local::Scratch;
use crate::point::{PointId, RecordTable};
use crate::records::{fields, key_places};
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
    /// How many of those may have it all the same: they have records of the table that could not be asked.
    pub unasked: u64,
    /// By what the records of the points were taken for the same one: the weakest of them all.
    pub matched_by: MatchedBy,
    /// What it cost.
    pub cost: Cost,
}

/// By what two records count as the same one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatchedBy {
    /// Their key.
    #[default]
    Key,
    /// The values that were asked for, in a table whose key is not known: what is found may be another record each time.
    Values,
    /// Their rowid, which SQLite gives anew when it vacuums or the table is filled again.
    Rowid,
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
    /// All of them, in their order.
    pub seen: Vec<Seen>,
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
    let unasked = left_out.len() as u64;
    let mut history = History { left_out, unasked, ..History::default() };
    let key = known_key(&points, name);
    let question = Question { name, words, key: key.as_deref() };
    let looked = stream::iter(&points).map(async |point| (point, look(point, &question, scratch, events).await));
    let mut looked = std::pin::pin!(looked.buffered(AT_ONCE));
    let mut refused = None;
    while let Some((point, found)) = looked.next().await {
        match found {
            Ok(found) => {
                history.points += 1;
                history.cost.add(found.cost);
                if found.record.is_some() {
                    history.matched_by = history.matched_by.max(found.matched_by);
                }
                history.add(point, found.record);
            }
            Err(error) => {
                let Some(left) = LeftOut::of(point.id(), &error) else { return Err(error) };
                history.left_out.push(left);
                history.unasked += u64::from(may_have(point, name));
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

/// What every point is asked.
struct Question<'a> {
    name: &'a str,
    words: &'a [String],
    /// The column that is the key of the table, where a point says so.
    key: Option<&'a str>,
}

/// What a point answers.
struct Answered {
    record: Option<String>,
    matched_by: MatchedBy,
    cost: Cost,
}

async fn look(point: &RecoveryPoint, question: &Question<'_>, scratch: &Scratch, events: &Events) -> Result<Answered> {
    let table = table(point, question.name).await?;
    let wanted = wanted(table, &question.words_for(table))?;
    let matched_by = match &wanted {
        Wanted::Key(_) if table.rowid => MatchedBy::Rowid,
        Wanted::Key(_) => MatchedBy::Key,
        Wanted::Values(conditions) => match conditions.as_slice() {
            [only] if question.key == Some(only.column()) => MatchedBy::Key,
            _ => MatchedBy::Values,
        },
    };
    let looked = record(point, table, &wanted, scratch, events).await?;
    Ok(Answered { record: looked.record, matched_by, cost: looked.cost })
}

impl Question<'_> {
    /// The words for a table: a bare one stands for the key that another point knows, where this one knows none.
    fn words_for(&self, table: &RecordTable) -> Vec<String> {
        if let (Some(key), [word]) = (self.key, self.words)
            && key_places(table).is_empty()
        {
            let names = fields(table);
            let names_one =
                names.iter().any(|name| word.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('=')));
            if !names_one && names.iter().any(|name| name == key) {
                return vec![format!("{key}={word}")];
            }
        }
        self.words.to_vec()
    }
}

/// The column that is the key of a table by the newest point that knows one.
fn known_key(points: &[RecoveryPoint], name: &str) -> Option<String> {
    let records = points.iter().rev().filter_map(|point| point.manifest().parts.records.as_ref());
    let tables = records.filter_map(|records| named(records, name)).filter(|table| !table.rowid);
    let (table, key) = tables.map(|table| (table, key_places(table))).find(|(_, key)| !key.is_empty())?;
    match key.as_slice() {
        [only] => Some(table.columns[*only].name.clone()),
        _ => None,
    }
}

/// Whether a point that could not be asked may have records of a table.
fn may_have(point: &RecoveryPoint, name: &str) -> bool {
    let records = point.manifest().parts.records.as_ref();
    records.is_some_and(|records| named(records, name).is_some() || records.skipped.contains_key(name))
}

/// Whether two records say the same, in whatever order.
fn same(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            one == other || !values_of(one).is_empty() && !values_of(other).is_empty() && changes(one, other).is_empty()
        }
        (one, other) => one == other,
    }
}

impl History {
    /// Adds what the next point shows.
    fn add(&mut self, point: &RecoveryPoint, record: Option<String>) {
        let seen = Seen { point: point.id().clone(), instant: point.manifest().instant };
        match self.states.last_mut() {
            // What was not there before it came is no state of it.
            None if record.is_none() => {}
            Some(state) if same(state.record.as_deref(), record.as_deref()) => {
                state.seen.push(seen.clone());
                state.last = seen;
                state.points += 1;
            }
            last => {
                let before = last.and_then(|state| state.record.as_deref());
                let changes = match (before, record.as_deref()) {
                    (Some(before), Some(after)) => changes(before, after),
                    _ => Vec::new(),
                };
                let all = vec![seen.clone()];
                self.states.push(State { record, first: seen.clone(), last: seen, points: 1, seen: all, changes });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_the_same_in_whatever_order_their_fields_stand() {
        let one = Some(r#"{"id":1,"name":"Zoë"}"#);
        assert!(same(one, Some(r#"{"name":"Zoë","id":1}"#)) && same(None, None) && same(one, one));
        for other in [Some(r#"{"id":1,"name":"Zoe"}"#), Some(r#"{"id":1}"#), Some("{}"), Some("no record"), None] {
            assert!(!same(one, other) && !same(other, one), "{other:?}");
        }
    }
}
