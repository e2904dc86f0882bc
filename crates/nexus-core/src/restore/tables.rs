//! Records into tables: which go where, where their files come from, and the load itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::database::Database;
use crate::database::load::{LoadMode, Loaded, TableToLoad, selected};
use crate::database::sqlite::SqliteDatabase;
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local::{Scratch, blocking};
use crate::point::{PointId, RecordTable, RecordsPart};
use crate::vault::{RecoveryPoint, layout};
use crate::verify::hash_local;

use super::RestorePlan;
use super::rows::RowsTarget;

/// Where records go.
#[derive(Debug, Clone)]
pub enum RecordsTarget {
    /// Their files go into this folder.
    Folder(PathBuf),
    /// Their rows go into tables.
    Tables(TablesTarget),
    /// Single ones go into their tables.
    Rows(RowsTarget),
}

/// Tables that records shall be loaded into.
#[derive(Debug, Clone)]
pub struct TablesTarget {
    /// The database.
    pub database: Database,
    /// The tables, by record name or their own; empty: all that have records.
    pub tables: Vec<String>,
    /// What becomes of rows that are there.
    pub mode: LoadMode,
}

/// What becomes of the tables; nothing is done yet.
#[derive(Debug, Clone)]
pub struct TablesPlanned {
    /// Where the database is.
    pub target: String,
    /// The tables, with their rows now.
    pub tables: Vec<TableToLoad>,
    /// Tables that cannot be loaded, in words.
    pub left: Vec<String>,
    /// What becomes of rows that are there.
    pub mode: LoadMode,
}

/// Looks at the tables, reading only.
pub(super) async fn plan(point: &RecoveryPoint, target: &TablesTarget, lock_wait: Duration) -> Result<TablesPlanned> {
    let records = records_of(point)?;
    if point.manifest().adopted.is_some() {
        return Err(Error::usage_hint(
            format!(
                "the records of {} were written by an older tool, and what their values were in the database nobody says",
                point.id()
            ),
            format!("nexus restore {} --only records --to-records FOLDER puts the files into a folder", point.id()),
        ));
    }
    require_files(point, records)?;
    let wanted = selected(&records.tables, &target.tables)?;
    let look = match target.database.clone() {
        Database::Sqlite(database) => blocking(move || database.look_at_tables(wanted, lock_wait)).await?,
        Database::Postgres(database) => database.look_at_tables(wanted, target.mode).await?,
    };
    Ok(TablesPlanned { target: target.database.location(), tables: look.tables, left: look.left, mode: target.mode })
}

/// Loads the tables in one transaction: all of them, or none.
///
/// Files are fetched before anything is locked. Where rows may go, the tables must be as the safety point, if there is one,
/// has them.
pub(super) async fn load(
    plan: &RestorePlan,
    target: &TablesTarget,
    safe: Option<Vec<RecordTable>>,
    events: &Events,
) -> Result<Loaded> {
    let Some(planned) = &plan.tables else { return Ok(Loaded::default()) };
    let records: Vec<RecordTable> = planned.tables.iter().map(|table| table.records.clone()).collect();
    events.started(Stage::LoadRecords, Some(records.iter().map(|table| table.rows).sum()), None);
    let files = Files { point: &plan.point, scratch: &plan.scratch }.fetch_all(&records).await?;
    let (mode, wait) = (target.mode, plan.request.lock_wait);
    let mut loaded = match target.database.clone() {
        Database::Sqlite(database) => {
            let told = events.clone();
            blocking(move || into_file(&database, mode, wait, (&records, &files), safe.as_deref(), &told)).await?
        }
        Database::Postgres(database) => {
            let mut load = database.load(&records, mode, wait).await?;
            if let Some(safe) = &safe {
                load.require_unchanged(safe).await?;
            }
            load.begin().await?;
            let mut tables = Vec::with_capacity(records.len());
            for (records, file) in records.iter().zip(&files) {
                tables.push(load.table(records, file, events).await?);
            }
            let (committed, left) = load.finish().await?;
            Loaded { tables, committed, left }
        }
    };
    loaded.left.extend(planned.left.iter().cloned());
    events.ended(Stage::LoadRecords);
    Ok(loaded)
}

fn into_file(
    database: &SqliteDatabase,
    mode: LoadMode,
    lock_wait: Duration,
    (records, files): (&[RecordTable], &[PathBuf]),
    safe: Option<&[RecordTable]>,
    events: &Events,
) -> Result<Loaded> {
    let mut load = database.load(records, mode, lock_wait)?;
    if let Some(safe) = safe {
        load.require_unchanged(safe)?;
    }
    let mut tables = Vec::with_capacity(records.len());
    for (records, file) in records.iter().zip(files) {
        tables.push(load.table(records, file, events)?);
    }
    Ok(Loaded { tables, committed: load.finish()?, left: Vec::new() })
}

/// What a safety point holds of tables whose rows may go: they must still be so when they are locked. None: there is no
/// safety point, or no row goes.
pub(super) async fn held_by(
    point: &RecoveryPoint,
    safety: Option<&PointId>,
    mode: LoadMode,
) -> Result<Option<Vec<RecordTable>>> {
    let Some(id) = safety.filter(|_| mode.removes()) else { return Ok(None) };
    let state = point.vault().state(id.clone()).await?;
    let records = state.as_ref().and_then(|state| state.manifest()).and_then(|manifest| manifest.parts.records.clone());
    records.map(|records| Some(records.tables)).ok_or_else(|| Error::missing(format!("{id} has no records")))
}

pub(super) fn records_of(point: &RecoveryPoint) -> Result<&RecordsPart> {
    let records = point.manifest().parts.records.as_ref();
    records.ok_or_else(|| Error::missing(format!("{} has no records", point.id())))
}

/// The vault has them, or this machine does.
pub(super) fn require_files(point: &RecoveryPoint, records: &RecordsPart) -> Result<()> {
    let here = records.folder.as_deref().is_some_and(|folder| Path::new(folder).is_dir());
    if records.in_vault || here {
        return Ok(());
    }
    Err(only_elsewhere(point))
}

fn only_elsewhere(point: &RecoveryPoint) -> Error {
    Error::missing(format!("the records of {} were kept on the machine that made it only", point.id()))
}

/// Record files of a point, each as it was written.
pub(super) struct Files<'a> {
    pub(super) point: &'a RecoveryPoint,
    pub(super) scratch: &'a Scratch,
}

impl Files<'_> {
    async fn fetch_all(&self, tables: &[RecordTable]) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::with_capacity(tables.len());
        for (at, table) in tables.iter().enumerate() {
            paths.push(self.one(&table.file, &table.sha256, &format!("records-{at}.json")).await?);
        }
        Ok(paths)
    }

    /// One of them, by its name: from the vault into the scratch under another name, or where it lies on this machine.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it is not as it was written.
    pub(super) async fn one(&self, file: &str, sha256: &str, spool: &str) -> Result<PathBuf> {
        let records = records_of(self.point)?;
        let (hash, path, name) = if records.in_vault {
            let (vault, path) = (self.point.vault(), self.scratch.file(spool));
            let key = vault.full(&layout::record(self.point.id(), file));
            (vault.reader().download(&key, &path).await?, path, vault.name(&key))
        } else {
            let folder = records.folder.as_deref().ok_or_else(|| only_elsewhere(self.point))?;
            let path = Path::new(folder).join(file);
            let (hashed, name) = (path.clone(), format!("`{}`", path.display()));
            let what = format!("cannot read {name}");
            (blocking(move || hash_local(&hashed).map_err(|cause| Error::local(what, cause))).await?, path, name)
        };
        if hash.is_some_and(|hash| hash.sha256 == sha256) {
            return Ok(path);
        }
        Err(Error::damaged(format!("{name} is not as it was written")))
    }
}
