//! One record of one point, by its key: through the index, or out of the whole file where there is none that is of use.

use std::sync::{Arc, Mutex, PoisonError};

use super::Cost;
use super::find::{Take, search};
use super::indexed::{Led, look_up};
use super::key::{Key, Wanted};
use super::source::{Pieces, Source};
use crate::database::source::{Pairs, RecordFile};
use crate::database::sqlite::ROWID_FIELD;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::local::{Scratch, blocking};
use crate::point::{Part, RecordTable};
use crate::vault::RecoveryPoint;

/// What a look for one record came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The record as it is written, on one line; none: there is no such record.
    pub record: Option<String>,
    /// Its key as names and values, where the table has one.
    pub key: Option<String>,
    /// Where there is none: how the records of the table may have the key written otherwise, and how it is looked for then.
    pub otherwise: Option<String>,
    /// What it cost.
    pub cost: Cost,
}

/// Looks for the record.
///
/// # Errors
///
/// [`Error::Usage`] when several records have the key, or the values that were given for one, or when none has it and it is of
/// another type than the table's; else as [`super::find::find`].
pub async fn record(
    point: &RecoveryPoint,
    table: &RecordTable,
    wanted: &Wanted,
    scratch: &Scratch,
    events: &Events,
) -> Result<Looked> {
    let mut source = Source::new(point, table, scratch);
    let mut records = match wanted {
        Wanted::Key(key) => by_key(&mut source, key, events).await?,
        Wanted::Values(conditions) => {
            let kept = Kept::default();
            search(&mut source, conditions.clone(), kept.take(), events).await?;
            kept.into_records()
        }
    };
    if records.len() > 1 {
        let hint = match wanted {
            Wanted::Key(_) => {
                "a value in double quotes is text: --pk '\"42\"'; nexus find shows all of them".to_owned()
            }
            Wanted::Values(_) => format!("nexus find {} with the same values shows all of them", table.name),
        };
        return Err(Error::usage_hint(format!("more than one record of {} is so", table.name), hint));
    }
    let record = records.pop();
    if let (Wanted::Key(key), None) = (wanted, &record) {
        key.require_likely()?;
    }
    let key = match (wanted, &record) {
        (Wanted::Key(key), Some(record)) => key.of(record),
        _ => None,
    };
    let otherwise = match (wanted, &record) {
        (Wanted::Key(key), None) => key.otherwise(),
        _ => None,
    };
    Ok(Looked { record, key, otherwise, cost: source.cost })
}

async fn by_key(source: &mut Source<'_>, key: &Key, events: &Events) -> Result<Vec<String>> {
    if source.table.index.is_some() && key.can_be_hashed() {
        if let Some(here) = source.here().await
            && let Led::To(records) = look_up(source, &here, key).await?
        {
            return Ok(records);
        }
        if source.in_vault() {
            match look_up(source, &Pieces::Vault, key).await? {
                Led::To(records) => return Ok(records),
                Led::Astray(wrong) => {
                    // A prune may have taken it away meanwhile.
                    source.point.require_still_kept(&[Part::Records]).await?;
                    events.warn(format!(
                        "the index of {} in {} is no use, so all of its records are read: {wrong}",
                        source.table.name,
                        source.point.id()
                    ));
                }
            }
        } else {
            events.warn(format!(
                "the index of {} in {} is not there or not as it was written, so all of its records are read",
                source.table.name,
                source.point.id()
            ));
        }
    }
    let whole = source.whole().await?;
    let (path, table, key) = (whole.path().to_owned(), source.table.clone(), key.clone());
    blocking(move || {
        let mut file = RecordFile::open(&path, &table, ROWID_FIELD)?;
        let mut found = Vec::new();
        // One more than one is too many, and no more of them are needed to say so.
        while found.len() < 2 && file.advance()? {
            let line = std::str::from_utf8(file.line()).ok();
            match line.and_then(|line| key.is_of(line)) {
                Some(true) => found.extend(line.map(str::to_owned)),
                Some(false) => {}
                None => return Err(Error::damaged(format!("a record of {} is not one of that table", table.name))),
            }
        }
        Ok(found)
    })
    .await
}

/// The fields of a record in their order, each value as it is written; none of what is no record.
pub fn fields(record: &str) -> Vec<(String, String)> {
    let pairs = serde_json::from_str::<Pairs<'_>>(record).map(|pairs| pairs.0).unwrap_or_default();
    pairs.into_iter().map(|(name, value)| (name.into_owned(), value.get().to_owned())).collect()
}

/// The first two records that fit: more than one is one too many.
#[derive(Default, Clone)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl Kept {
    fn take(&self) -> Take {
        let kept = Arc::clone(&self.0);
        Arc::new(move |line| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < 2 {
                kept.push(line.to_owned());
            }
            Ok(())
        })
    }

    fn into_records(self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
