//! The database: fetched, really restored into scratch, checked there, and its rows held against the point's records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Look, milliseconds};
use crate::database::Database;
use crate::database::scratch::{ScratchDatabase, ScratchPlan};
use crate::error::{Error, Result};
use crate::event::Stage;
use crate::local::blocking;
use crate::point::{DatabaseKind, DatabasePart, FindingKind, Measured, Part, RecordTable, SqliteFacts};
use crate::records::export::{Export, RecordsExport};
use crate::records::{now, read};
use crate::vault::layout;
use crate::verify::hash_local;

/// How the restored database was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseDrilled {
    /// Where it was restored, without secrets.
    pub place: String,
    /// Bytes of its copy.
    pub bytes: u64,
    /// How long fetching and hashing the copy took, in milliseconds.
    pub fetched: Option<u64>,
    /// How long restoring it took, in milliseconds.
    pub restored: Option<u64>,
    /// How long the checks afterwards took, in milliseconds: no part of a recovery.
    pub checked: Option<u64>,
    /// Tables that were counted.
    pub tables: u64,
    /// Rows in them.
    pub rows: u64,
    /// What became of the comparison with the records; none: it did not come so far.
    pub digest: Option<Digest>,
    /// What could not be brought back, or not be looked at, in words.
    pub doubts: Vec<String>,
}

/// The restored rows, exported anew and held against the point's records by SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// So many tables have the same rows, of so many.
    Compared {
        /// Tables with the same rows.
        equal: u64,
        /// Tables that the records have.
        of: u64,
    },
    /// The point has no records, or an older tool's.
    NoRecords,
}

impl DatabaseDrilled {
    /// What bringing it back took; nothing unless it came back.
    pub(super) fn measured(&self) -> Option<Measured> {
        Some(Measured { milliseconds: self.fetched? + self.restored?, bytes: self.bytes })
    }
}

impl Look<'_> {
    /// Restores and checks it; what was made is removed again whatever it came to.
    pub(super) async fn database(&mut self, place: ScratchPlan) -> DatabaseDrilled {
        let point = &self.plan.point;
        let mut seen = DatabaseDrilled {
            place: place.place(),
            doubts: place.doubts().iter().map(|doubt| format!("not known: {doubt}")).collect(),
            ..DatabaseDrilled::default()
        };
        let Some(part) = &point.manifest().parts.database else { return seen };
        seen.bytes = part.object.bytes;
        let key = part.object.key.as_str();
        self.events.started(Stage::FetchDatabase, None, Some(part.object.bytes));
        let begun = Instant::now();
        let copy = match point.database_copy(&self.plan.scratch).await {
            Ok(copy) => copy,
            Err(error) => {
                self.meet(Part::Database, key, error);
                return seen;
            }
        };
        self.bytes += part.object.bytes;
        seen.fetched = Some(milliseconds(begun));
        self.events.advanced(Stage::FetchDatabase, 0, part.object.bytes);
        self.events.ended(Stage::FetchDatabase);
        let begun = Instant::now();
        let made = match place.create(&copy, &self.plan.scratch, self.events).await {
            Ok(made) => made,
            Err(error) => {
                self.meet(Part::Database, key, error);
                return seen;
            }
        };
        seen.restored = Some(milliseconds(begun));
        seen.doubts.extend(made.unkept.iter().map(|what| format!("not brought back: {what}")));
        let begun = Instant::now();
        if let Err(error) = self.check(part, &made, &mut seen).await {
            self.meet(Part::Database, key, error);
        }
        seen.checked = Some(milliseconds(begun));
        if let Err(error) = made.remove().await {
            self.events.warn(format!("{} could not be removed: {error}; the next drill does it", seen.place));
        }
        seen
    }

    async fn check(&mut self, part: &DatabasePart, made: &ScratchDatabase, seen: &mut DatabaseDrilled) -> Result<()> {
        if let (Database::Sqlite(file), DatabaseKind::Sqlite { sqlite }) = (made.database().clone(), &part.kind) {
            let events = self.events.clone();
            let (facts, rows) = blocking(move || file.facts(&events)).await?;
            self.counts(&part.tables, &rows);
            self.facts(sqlite, &facts);
        }
        // On a server they were counted when it was restored.
        seen.tables = part.tables.len() as u64;
        seen.rows = part.tables.values().sum();
        seen.digest = Some(self.digest(made.database()).await?);
        Ok(())
    }

    /// Rows by table against those of the instant.
    fn counts(&mut self, expected: &BTreeMap<String, u64>, there: &BTreeMap<String, u64>) {
        for (name, rows) in expected {
            match there.get(name) {
                Some(found) if found == rows => {}
                Some(found) => self.find(
                    Part::Database,
                    FindingKind::Inconsistent,
                    name,
                    format!("the restored table has {found} rows, not {rows}"),
                ),
                None => {
                    self.find(Part::Database, FindingKind::Missing, name, "the restored database has no such table");
                }
            }
        }
        for name in there.keys().filter(|name| !expected.contains_key(*name)) {
            let detail = "the restored database has this table, and the point had not";
            self.find(Part::Database, FindingKind::Inconsistent, name, detail);
        }
    }

    fn facts(&mut self, expected: &SqliteFacts, there: &SqliteFacts) {
        let pairs = [
            ("application_id", expected.application_id.to_string(), there.application_id.to_string()),
            ("user_version", expected.user_version.to_string(), there.user_version.to_string()),
            ("page_size", expected.page_size.to_string(), there.page_size.to_string()),
            ("encoding", expected.encoding.clone(), there.encoding.clone()),
            ("auto_vacuum", expected.auto_vacuum.to_string(), there.auto_vacuum.to_string()),
        ];
        for (name, expected, there) in pairs.into_iter().filter(|(_, expected, there)| expected != there) {
            let detail = format!("the restored database has {there}, not {expected}");
            self.find(Part::Database, FindingKind::Inconsistent, name, detail);
        }
        let (was, is) = (&expected.foreign_key_violations, &there.foreign_key_violations);
        for table in was.keys().chain(is.keys().filter(|table| !was.contains_key(*table))) {
            let (was, is) = (was.get(table).unwrap_or(&0), is.get(table).unwrap_or(&0));
            if was != is {
                let detail = format!("{is} of its rows have a foreign key that points at nothing, not {was}");
                self.find(Part::Database, FindingKind::Inconsistent, table, detail);
            }
        }
    }

    /// Exports the restored rows anew and compares each table's hash with that of the point's records.
    async fn digest(&mut self, database: &Database) -> Result<Digest> {
        let Some(records) = self.plan.point.manifest().own_records() else { return Ok(Digest::NoRecords) };
        let folder = self.plan.scratch.file("drilled-records");
        let exported = self.exported(database, &folder).await?;
        let mut equal = 0;
        for table in &records.tables {
            let found = exported.tables.iter().find(|found| found.table == table.table);
            match found {
                Some(found) if found.sha256 == table.sha256 => equal += 1,
                Some(found) if self.same_in_another_order(table, found, &folder).await? => equal += 1,
                Some(found) => {
                    let detail = format!(
                        "the {} rows restored from the database are not the {} of its records: their SHA-256 is another",
                        found.rows, table.rows
                    );
                    self.find(Part::Database, FindingKind::Changed, &table.table, detail);
                }
                None => {
                    let detail = "its records are there, and the restored database has no such table";
                    self.find(Part::Database, FindingKind::Missing, &table.table, detail);
                }
            }
        }
        let known = |table: &RecordTable| records.tables.iter().any(|known| known.table == table.table);
        for table in exported.tables.iter().filter(|table| !known(table)) {
            let detail = "the restored database has this table, and the point has no records of it";
            self.find(Part::Database, FindingKind::Inconsistent, &table.table, detail);
        }
        // Room for what comes next.
        let removed = std::fs::remove_dir_all(&folder);
        removed.map_err(|cause| Error::local(format!("cannot remove `{}`", folder.display()), cause))?;
        Ok(Digest::Compared { equal, of: records.tables.len() as u64 })
    }

    async fn exported(&self, database: &Database, folder: &Path) -> Result<RecordsExport> {
        let point = &self.plan.point;
        let export = Export {
            folder: folder.to_owned(),
            names: BTreeMap::new(),
            app: point.manifest().app.clone(),
            point: point.id().clone(),
            instant: point.manifest().instant,
        };
        match database.clone() {
            // The restored file is private already: it is read as it lies.
            Database::Sqlite(file) => {
                let events = self.events.clone();
                blocking(move || export.of_sqlite(file.path(), &events)).await
            }
            Database::Postgres(_) => {
                let told = (self.clock, self.events);
                now::export_now(database, export, self.plan.lock_wait, &self.plan.scratch, told).await
            }
        }
    }

    /// A table without a key comes as the server finds its rows: then only the rows themselves count.
    async fn same_in_another_order(&self, table: &RecordTable, found: &RecordTable, folder: &Path) -> Result<bool> {
        if !table.order.is_empty() || table.rowid || table.rows != found.rows {
            return Ok(false);
        }
        // Records that are not as they were written are found where records are looked at.
        let Some(path) = self.records_of(table).await? else { return Ok(false) };
        let pair = [(path, table.clone()), (folder.join(&found.file), found.clone())];
        let digest = |(path, table): (PathBuf, RecordTable)| blocking(move || read::parsed(&path, &table));
        let [ours, theirs] = pair.map(digest);
        Ok(ours.await?.rows == theirs.await?.rows)
    }

    /// The record file of a table, from the vault or from this machine; none: it is not as it was written.
    async fn records_of(&self, table: &RecordTable) -> Result<Option<PathBuf>> {
        let point = &self.plan.point;
        let records = point.manifest().parts.records.as_ref();
        if records.is_some_and(|records| records.in_vault) {
            let path = self.plan.scratch.file(&format!("unordered-{}", table.file));
            let key = point.vault().full(&layout::record(point.id(), &table.file));
            let fetched = point.vault().reader().download(&key, &path).await?;
            return Ok(fetched.filter(|hash| hash.sha256 == table.sha256).map(|_| path));
        }
        let folder = records.and_then(|records| records.folder.as_deref());
        let path = Path::new(folder.unwrap_or_default()).join(&table.file);
        let hashed = path.clone();
        let what = format!("cannot read `{}`", path.display());
        let hash = blocking(move || hash_local(&hashed).map_err(|cause| Error::local(what, cause))).await?;
        match hash {
            Some(hash) => Ok((hash.sha256 == table.sha256).then_some(path)),
            None => Err(Error::missing(format!(
                "the rows of {} came in another order than its records have, and those are not here to be compared",
                table.table
            ))),
        }
    }
}
