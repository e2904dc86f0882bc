//! Records into tables: which go where, where their files come from, and the load itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::database::Database;
use crate::database::load::{LoadMode, Loaded, LoadedTable, TableToLoad, selected};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local::{Scratch, blocking};
use crate::point::{RecordTable, RecordsPart};
use crate::vault::{RecoveryPoint, layout};
use crate::verify::hash_local;

/// Where records go.
#[derive(Debug, Clone)]
pub enum RecordsTarget {
    /// Their files go into this folder.
    Folder(PathBuf),
    /// Their rows go into tables.
    Tables(TablesTarget),
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
    /// What becomes of rows that are there.
    pub mode: LoadMode,
}

/// Looks at the tables, reading only.
pub(super) async fn plan(point: &RecoveryPoint, target: &TablesTarget, lock_wait: Duration) -> Result<TablesPlanned> {
    let records = records_of(point)?;
    require_files(point, records)?;
    let wanted = selected(&records.tables, &target.tables)?;
    let tables = match target.database.clone() {
        Database::Sqlite(database) => blocking(move || database.look_at_tables(wanted, lock_wait)).await?,
        Database::Postgres(database) => database.look_at_tables(wanted).await?,
    };
    Ok(TablesPlanned { target: target.database.location(), tables, mode: target.mode })
}

/// Loads the tables in one transaction: all of them, or none.
pub(super) async fn load(
    point: &RecoveryPoint,
    target: &TablesTarget,
    planned: &TablesPlanned,
    lock_wait: Duration,
    scratch: &Scratch,
    events: &Events,
) -> Result<Loaded> {
    let records: Vec<RecordTable> = planned.tables.iter().map(|table| table.records.clone()).collect();
    events.started(Stage::LoadRecords, Some(records.iter().map(|table| table.rows).sum()), None);
    let files = Files { point, scratch };
    let (tables, committed, left) = match target.database.clone() {
        Database::Sqlite(database) => {
            let mode = target.mode;
            let mut load = blocking(move || database.load(mode, lock_wait)).await?;
            let mut tables = Vec::with_capacity(records.len());
            for records in records {
                let file = files.fetch(&records).await?;
                let (path, told) = (file.path.clone(), events.clone());
                let loaded: LoadedTable;
                (load, loaded) = blocking(move || {
                    let loaded = load.table(&records, &path, &told)?;
                    Ok((load, loaded))
                })
                .await?;
                tables.push(loaded);
                file.remove();
            }
            (tables, blocking(move || load.finish()).await?, Vec::new())
        }
        Database::Postgres(database) => {
            let mut load = database.load(&records, target.mode, lock_wait).await?;
            let mut tables = Vec::with_capacity(records.len());
            for records in &records {
                let file = files.fetch(records).await?;
                tables.push(load.table(records, &file.path, events).await?);
                file.remove();
            }
            let (committed, left) = load.finish().await?;
            (tables, committed, left)
        }
    };
    events.ended(Stage::LoadRecords);
    Ok(Loaded { tables, committed, left })
}

pub(super) fn records_of(point: &RecoveryPoint) -> Result<&RecordsPart> {
    let records = point.manifest().parts.records.as_ref();
    records.ok_or_else(|| Error::missing(format!("{} has no records", point.id())))
}

/// The vault has them, or this machine does.
fn require_files(point: &RecoveryPoint, records: &RecordsPart) -> Result<()> {
    let here = records.folder.as_deref().is_some_and(|folder| Path::new(folder).is_dir());
    if records.in_vault || here {
        return Ok(());
    }
    Err(only_elsewhere(point))
}

pub(super) fn only_elsewhere(point: &RecoveryPoint) -> Error {
    Error::missing(format!("the records of {} were kept on the machine that made it only", point.id()))
}

/// Record files of a point, fetched one after the other.
struct Files<'a> {
    point: &'a RecoveryPoint,
    scratch: &'a Scratch,
}

/// A record file that is as it was written.
struct Fetched {
    path: PathBuf,
    ours: bool,
}

impl Files<'_> {
    async fn fetch(&self, table: &RecordTable) -> Result<Fetched> {
        let records = records_of(self.point)?;
        if !records.in_vault {
            return self.local(records, table).await;
        }
        let (vault, key) = (self.point.vault(), layout::record(self.point.id(), &table.file));
        let path = self.scratch.file("records.json");
        let hash = vault.reader().download(&vault.full(&key), &path).await?;
        if hash.as_ref().map(|hash| &hash.sha256) == Some(&table.sha256) {
            return Ok(Fetched { path, ours: true });
        }
        Err(Error::damaged(format!("{} is not as it was written", vault.name(&key))))
    }

    async fn local(&self, records: &RecordsPart, table: &RecordTable) -> Result<Fetched> {
        let folder = records.folder.as_deref().ok_or_else(|| only_elsewhere(self.point))?;
        let path = Path::new(folder).join(&table.file);
        let hashed = path.clone();
        let what = format!("cannot read `{}`", path.display());
        let hash = blocking(move || hash_local(&hashed).map_err(|cause| Error::local(what, cause))).await?;
        if hash.is_some_and(|hash| hash.sha256 == table.sha256) {
            return Ok(Fetched { path, ours: false });
        }
        Err(Error::damaged(format!("`{}` is not as it was written", path.display())))
    }
}

impl Fetched {
    fn remove(self) {
        if self.ours {
            // The scratch folder goes with what is left in it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
