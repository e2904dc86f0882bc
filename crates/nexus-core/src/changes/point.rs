//! A point's records and files, held against what is there now.

use std::collections::BTreeMap;
use std::path::Path;

use super::files::{self, CategoryChanges, Likeness};
use super::{Basis, Held, Presence, State, TableChanges, between, count, is_same};
use crate::bucket::Reader;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::local::{Scratch, blocking, create_private_subfolder};
use crate::point::{FilesPart, RecordTable, RecordsPart};
use crate::vault::{RecoveryPoint, layout};
use crate::verify::hash_local;

/// Compares the records of a point with the tables as they are now; those that are equal are left out.
///
/// Record files are read only of tables whose hash differs: from the vault into `scratch`, or from the local folder they were
/// kept in as long as they are there as they were written. Where neither has them, and where the point has no records at all,
/// numbers of rows are compared, and [`TableChanges::basis`] says so.
///
/// # Errors
///
/// [`Error::Missing`] when the point has neither records nor a database; [`Error::Damaged`] when the vault's record files are
/// not as they were written.
pub async fn tables_since(point: &RecoveryPoint, now: &State, scratch: &Scratch) -> Result<Vec<TableChanges>> {
    let parts = &point.manifest().parts;
    let Some(records) = point.manifest().own_records() else {
        let database = parts.database.as_ref();
        let database = database.ok_or_else(|| Error::missing(format!("{} has no rows to compare", point.id())))?;
        return Ok(counts(&database.tables, &now.rows()));
    };
    let then = held(point, (records, &records.tables), now, scratch).await?;
    between(&then, now, scratch).await
}

/// Some tables of a point, with the record file of each that differs from another state's: from the vault in `scratch`, or where
/// it was kept on this machine.
///
/// # Errors
///
/// [`Error::Usage`] when a file lies neither in the vault nor here as it was written; [`Error::Damaged`] when the vault's is not
/// as it was written.
pub async fn state_of(
    point: &RecoveryPoint,
    (records, tables): (&RecordsPart, &[RecordTable]),
    other: &State,
    scratch: &Scratch,
) -> Result<State> {
    let state = held(point, (records, tables), other, scratch).await?;
    let present = other.by_table();
    let lacks = |held: &&Held| {
        let same = present.get(held.table.table.as_str()).is_some_and(|other| is_same(&held.table, &other.table));
        held.file.is_none() && !same
    };
    let Some(lacking) = state.held.iter().find(lacks) else { return Ok(state) };
    let place = records.folder.as_deref().map_or_else(String::new, |folder| format!(", in {folder}"));
    Err(Error::usage_hint(
        format!(
            "the records of {} were kept on the machine that made it only{place}, and {} is not here as it was written",
            point.id(),
            lacking.table.file
        ),
        "--only files compares the files alone, --only database the numbers of rows",
    ))
}

/// Compares the files of a point with those that lie in its source now, by the point's own rules.
///
/// # Errors
///
/// [`Error::Missing`] when the point has no files; [`Error::Damaged`] when its listing is not as it was written; what listing
/// the source fails with.
pub async fn files_since(
    point: &RecoveryPoint,
    source: &Reader,
    likeness: Likeness,
    scratch: &Scratch,
    events: &Events,
) -> Result<BTreeMap<String, CategoryChanges>> {
    let part: Option<&FilesPart> = point.manifest().parts.files.as_ref();
    let part = part.ok_or_else(|| Error::missing(format!("{} has no files", point.id())))?;
    let now = source.list(&part.rules.prefix, scratch.path(), events).await?;
    let now = files::listed(now, &part.rules.prefix, &part.rules)?;
    files::between(files::recorded(point.listing(scratch).await?), now, likeness)
}

/// Some tables of a point, with a record file for each that differs, where one is to be had.
async fn held(
    point: &RecoveryPoint,
    (records, tables): (&RecordsPart, &[RecordTable]),
    now: &State,
    scratch: &Scratch,
) -> Result<State> {
    let present = now.by_table();
    let differs = |table: &RecordTable| present.get(table.table.as_str()).is_none_or(|now| !is_same(table, &now.table));
    let folder = scratch.file(&format!("then-{}", point.id()));
    create_private_subfolder(&folder)?;
    let mut state = State::default();
    for table in tables {
        let mut held = Held { table: table.clone(), file: None };
        if differs(table) {
            let path = folder.join(&table.file);
            if records.in_vault {
                fetch(point, table, &path).await?;
                held.file = Some(path);
            } else if let Some(kept) = &records.folder {
                let path = Path::new(kept).join(&table.file);
                let hashed = path.clone();
                // What cannot be read there is as good as gone: the numbers of rows are known without it.
                let hash = blocking(move || Ok(hash_local(&hashed).ok().flatten())).await?;
                held.file = hash.filter(|hash| hash.sha256 == table.sha256).map(|_| path);
            }
        }
        state.held.push(held);
    }
    Ok(state)
}

/// Fetches a record file, unless an earlier comparison has.
async fn fetch(point: &RecoveryPoint, table: &RecordTable, path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let (vault, key) = (point.vault(), layout::record(point.id(), &table.file));
    let hash = vault.reader().download(&vault.full(&key), path).await?;
    if hash.as_ref().map(|hash| &hash.sha256) == Some(&table.sha256) {
        return Ok(());
    }
    // A later comparison must not take it for what was written.
    let _ = std::fs::remove_file(path);
    let how = if hash.is_some() { "is not as it was written" } else { "is not there" };
    Err(Error::damaged(format!("{} {how}", vault.name(&key))))
}

/// What numbers of rows by table tell; tables that have as many as they had are left out.
pub fn counts(then: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<TableChanges> {
    let mut names: Vec<&str> = then.keys().chain(now.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let changes = names.into_iter().map(|name| {
        let (before, after) = (then.get(name), now.get(name));
        let presence = match (before, after) {
            (Some(_), None) => Presence::Gone,
            (None, _) => Presence::New,
            (Some(_), Some(_)) => Presence::Both,
        };
        let mut changes = TableChanges::of(name, presence, Basis::Counts);
        changes.rows_before = before.copied().unwrap_or(0);
        changes.rows_after = after.copied().unwrap_or(0);
        count(&mut changes);
        changes
    });
    changes.filter(|changes| changes.presence != Presence::Both || changes.has_rows()).collect()
}
