//! The records: every file read, its hash compared, every record parsed and counted.

use std::path::Path;
use std::time::Instant;

use futures::stream::{self, StreamExt};

use super::{Look, milliseconds};
use crate::error::{Error, Result};
use crate::event::Stage;
use crate::local::blocking;
use crate::point::{FileHash, Finding, FindingKind, Part, RecordTable, RecordsPart, StoredObject, parse};
use crate::records::export::{SUMMARY_FILE, Summary};
use crate::records::old;
use crate::records::read::{self, Parsed};
use crate::verify::{RECORDS_AT_ONCE, hash_local, record_files};

/// How the records were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordsDrilled {
    /// Files that were read.
    pub files: u64,
    /// Rows that were parsed and counted.
    pub rows: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// What one file came to.
#[derive(Default)]
struct Seen {
    rows: u64,
    bytes: u64,
    finding: Option<Finding>,
}

impl Look<'_> {
    /// Reads them from the vault, or from this machine when only it has them.
    pub(super) async fn records(&mut self) -> RecordsDrilled {
        let begun = Instant::now();
        let mut seen = RecordsDrilled::default();
        let Some(records) = &self.plan.point.manifest().parts.records else { return seen };
        let here = records.folder.as_deref().map(Path::new).filter(|folder| folder.is_dir());
        if !records.in_vault && here.is_none() {
            let what = format!(
                "the records of {} are kept on the machine that made it only, and are not here",
                self.plan.point.id()
            );
            self.meet(Part::Records, "", Error::missing(what));
            return seen;
        }
        self.events.started(Stage::ReadRecords, Some(records.rows), None);
        let files: Vec<StoredObject> = record_files(&self.plan.point, records).collect();
        let looked: Vec<Result<Seen>> = {
            let look = &*self;
            let reading = stream::iter(files.iter().enumerate());
            reading.map(|(at, file)| look.record_file(at, file, records)).buffered(RECORDS_AT_ONCE).collect().await
        };
        for (file, looked) in files.iter().zip(looked) {
            match looked {
                Ok(one) => {
                    seen.files += 1;
                    seen.rows += one.rows;
                    seen.bytes += one.bytes;
                    self.findings.extend(one.finding);
                }
                Err(error) => self.meet(Part::Records, &file.key, error),
            }
        }
        self.bytes += seen.bytes;
        self.events.ended(Stage::ReadRecords);
        seen.milliseconds = milliseconds(begun);
        seen
    }

    async fn record_file(&self, at: usize, file: &StoredObject, records: &RecordsPart) -> Result<Seen> {
        let name = file.key.rsplit('/').next().unwrap_or(&file.key).to_owned();
        let spool = self.plan.scratch.file(&format!("record-{at}"));
        let (path, hash) = if records.in_vault {
            let vault = self.plan.point.vault();
            (spool.clone(), vault.reader().download(&vault.full(&file.key), &spool).await?)
        } else {
            let path = Path::new(records.folder.as_deref().unwrap_or_default()).join(&name);
            let hashed = path.clone();
            let what = format!("cannot read `{}`", path.display());
            (path, blocking(move || hash_local(&hashed).map_err(|cause| Error::local(what, cause))).await?)
        };
        let mut seen = Seen { bytes: hash.as_ref().map_or(0, |hash| hash.bytes), ..Seen::default() };
        let finding =
            |kind, detail: String| Finding { part: Some(Part::Records), kind, name: file.key.clone(), detail };
        if let Some((kind, detail)) = difference(file, hash.as_ref()) {
            seen.finding = Some(finding(kind, detail));
        } else if self.plan.point.manifest().own_records().is_none() {
            // Whatever an older tool's summary says, it is not of this form.
            if name == SUMMARY_FILE {
                return Ok(seen);
            }
            match old_rows(&path).await? {
                Ok(rows) => seen.rows = rows,
                Err(why) => seen.finding = Some(finding(FindingKind::Unreadable, why)),
            }
        } else if name == SUMMARY_FILE {
            let summary = std::fs::read(&path)
                .map_err(|cause| Error::local(format!("cannot read `{}`", path.display()), cause))
                .and_then(|bytes| parse::<Summary>(&bytes, &file.key))?;
            if summary.total_rows != records.rows || !are_of(&records.tables, &summary.tables) {
                let detail = "it does not say of the records what the manifest says".to_owned();
                seen.finding = Some(finding(FindingKind::Inconsistent, detail));
            }
        } else if let Some(table) = records.tables.iter().find(|table| table.file == name) {
            let parsed = parsed(&path, table).await.map_err(|error| named(error, &path, &file.key))?;
            seen.rows = parsed.rows.rows;
            self.events.advanced(Stage::ReadRecords, seen.rows, seen.bytes);
            if seen.rows != table.rows {
                let detail = format!("{} records were parsed, not {}", seen.rows, table.rows);
                seen.finding = Some(finding(FindingKind::Inconsistent, detail));
            } else if parsed.index != table.index {
                let detail = format!("{} is not the index that these records have", table.index_file());
                seen.finding = Some(finding(FindingKind::Inconsistent, detail));
            }
        }
        if records.in_vault {
            // Room for the next; what cannot be removed goes with the folder.
            let _ = std::fs::remove_file(&spool);
        }
        Ok(seen)
    }
}

/// True when a summary says of the tables what the manifest says. A copy may be without an index that was damaged where it came from.
fn are_of(tables: &[RecordTable], said: &[RecordTable]) -> bool {
    let same = |(table, said): (&RecordTable, &RecordTable)| {
        let index = table.index.as_ref().and(said.index.clone());
        *table == RecordTable { index, ..said.clone() }
    };
    tables.len() == said.len() && tables.iter().zip(said).all(same)
}

async fn parsed(path: &Path, table: &RecordTable) -> Result<Parsed> {
    let (path, table) = (path.to_owned(), table.clone());
    blocking(move || read::parsed(&path, &table)).await
}

/// The records of an older tool's file; or why it holds none.
async fn old_rows(path: &Path) -> Result<std::result::Result<u64, String>> {
    let path = path.to_owned();
    Ok(blocking(move || old::rows(&path)).await?.map(|counted| counted.rows))
}

/// Damage is named by what lies in the vault: where it was put to be read is gone by the time it is told.
fn named(error: Error, path: &Path, key: &str) -> Error {
    match error {
        Error::Damaged { what, cause } => {
            Error::Damaged { what: what.replace(&path.display().to_string(), key), cause }
        }
        other => other,
    }
}

fn difference(file: &StoredObject, hash: Option<&FileHash>) -> Option<(FindingKind, String)> {
    match hash {
        None => Some((FindingKind::Missing, "it is not there".to_owned())),
        Some(hash) if hash.bytes != file.bytes => {
            Some((FindingKind::Changed, format!("it has {} bytes, not {}", hash.bytes, file.bytes)))
        }
        Some(hash) if hash.sha256 != file.sha256 => {
            Some((FindingKind::Changed, "its SHA-256 is not the one it had".to_owned()))
        }
        Some(_) => None,
    }
}
