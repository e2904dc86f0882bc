//! Every table's rows as JSON files, and `backup_summary.json` that says what they are.
//!
//! A file is one JSON array with one record a line: `[`, the records with `,` after each but the last, `]`, each line ended
//! by a newline; an empty table is `[` and `]`. Records are objects with a field a column, in the table's order, without
//! blanks. Rows come by primary key; where there is none, by rowid, which is then the record's first field `$rowid`.
//!
//! A value that JSON carries exactly is that JSON: null, integers to 2^53 either way, finite reals (always with a point or
//! an exponent, shortest form that reads back the same), UTF-8 text. Other values are objects with one field:
//! `{"$int": "9007199254740993"}`, `{"$real": "inf"}` or `"-inf"`, `{"$blob": base64}`, `{"$text": base64}` of text that is
//! not UTF-8. Text of UTF-16 databases is UTF-8 here, as SQLite converts it.
//!
//! # `backup_summary.json`
//!
//! | field | |
//! |---|---|
//! | `format` | the number of this format, 1 |
//! | `app`, `point`, `instant` | whose records, of which point, as they were when |
//! | `tables` | one object a file: `name` the records go by, `table` in the database, `file`, `rows`, `bytes`, `sha256`, `columns` (`name`, `type` as declared, `generated`), `order` (columns; empty: by rowid), `rowid` (true: records start with `$rowid`), `sequence` (the last AUTOINCREMENT value) |
//! | `skipped` | tables without a file, each with the reason |
//! | `total_rows`, `total_bytes` | of all files together |

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::database::sqlite::{self, Catalogue, Sink, Table, failed, hexadecimal, open_copy, write_rows};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local;
use crate::point::{self, FORMAT, FileHash, PointId, RecordTable};

use super::names::{Named, named};

/// The file that says what the others are.
pub const SUMMARY_FILE: &str = "backup_summary.json";

/// What to export, and where to.
#[derive(Debug, Clone)]
pub struct Export<'a> {
    /// The private, checked copy of the database.
    pub copy: &'a Path,
    /// The folder for the files; made when it is not there, private.
    pub folder: &'a Path,
    /// Record names and the tables they stand for; tables that are not named here go under their own names.
    pub names: &'a BTreeMap<String, String>,
    /// The app.
    pub app: &'a str,
    /// The point.
    pub point: &'a PointId,
    /// The moment the copy shows.
    pub instant: Timestamp,
    /// How many rows there will be, where that is known.
    pub expected_rows: Option<u64>,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordsExport {
    /// The tables, in the order of their record names.
    pub tables: Vec<RecordTable>,
    /// Tables without a file, each with the reason.
    pub skipped: BTreeMap<String, String>,
    /// `backup_summary.json`: its bytes and hash.
    pub summary: FileHash,
    /// All rows together.
    pub rows: u64,
}

/// `backup_summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The format.
    pub format: u32,
    /// The app.
    pub app: String,
    /// The point.
    pub point: PointId,
    /// The moment the records show.
    pub instant: Timestamp,
    /// The tables, in the order of their record names.
    pub tables: Vec<RecordTable>,
    /// Tables without a file, each with the reason.
    pub skipped: BTreeMap<String, String>,
    /// All rows together.
    pub total_rows: u64,
    /// The bytes of all record files together.
    pub total_bytes: u64,
}

impl Export<'_> {
    /// Writes every table's file and then the summary, all private and synced.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when a record name stands for no table, with those that are like it, or for two;
    /// [`Error::Unsupported`] naming the column that holds a value too long to read in pieces; [`Error::Full`] and the like
    /// from the disk; [`Error::Local`] when a file is already there. After an error none of its files are left.
    pub fn carry_out(&self, events: &Events) -> Result<RecordsExport> {
        let connection = open_copy(self.copy)?;
        let catalogue = sqlite::catalogue(&connection)?;
        let tables: Vec<&str> = catalogue.tables.iter().map(|table| table.name.as_str()).collect();
        let plan = named(&tables, self.names)?;
        let fresh = !self.folder.exists();
        local::create_private_subfolder(self.folder)?;
        events.started(Stage::ExportRecords, self.expected_rows, None);
        let mut made = Vec::new();
        let exported = self.write(&connection, &catalogue, &plan, &mut made, events);
        if exported.is_err() {
            // The first error is the one to tell.
            for path in made {
                let _ = fs::remove_file(path);
            }
            if fresh {
                let _ = fs::remove_dir(self.folder);
            }
        }
        let exported = exported?;
        events.ended(Stage::ExportRecords);
        Ok(exported)
    }

    fn write(
        &self,
        connection: &Connection,
        catalogue: &Catalogue,
        plan: &[Named<'_>],
        made: &mut Vec<PathBuf>,
        events: &Events,
    ) -> Result<RecordsExport> {
        let by_name: BTreeMap<&str, &Table> =
            catalogue.tables.iter().map(|table| (table.name.as_str(), table)).collect();
        let mut tables = Vec::with_capacity(plan.len());
        for named in plan {
            tables.push(self.write_table(connection, by_name[named.table], named, made, events)?);
        }
        let rows = tables.iter().map(|table| table.rows).sum();
        let summary = Summary {
            format: FORMAT,
            app: self.app.to_owned(),
            point: self.point.clone(),
            instant: self.instant,
            skipped: catalogue.skipped.clone(),
            total_rows: rows,
            total_bytes: tables.iter().map(|table| table.bytes).sum(),
            tables,
        };
        let hash = self.write_summary(&summary, made)?;
        local::sync_folder(self.folder)?;
        Ok(RecordsExport { tables: summary.tables, skipped: summary.skipped, summary: hash, rows })
    }

    fn write_table(
        &self,
        connection: &Connection,
        table: &Table,
        named: &Named<'_>,
        made: &mut Vec<PathBuf>,
        events: &Events,
    ) -> Result<RecordTable> {
        let path = self.folder.join(&named.file);
        let file = local::create_private(&path)?;
        made.push(path.clone());
        let mut sink = Sink::file(file, &path);
        let news = |rows| events.advanced(Stage::ExportRecords, rows, 0);
        let rows = write_rows(connection, table, &mut sink, &news)?;
        let (bytes, sha256) = sink.finish()?;
        let sequence = sqlite::sequence(connection, &table.name)
            .map_err(|cause| failed(format!("cannot read the sequence of table `{}`", table.name), cause))?;
        Ok(RecordTable {
            name: named.name.to_owned(),
            table: table.name.clone(),
            file: named.file.clone(),
            rows,
            bytes,
            sha256,
            columns: table.columns.clone(),
            order: table.order.clone(),
            rowid: table.shows_rowid(),
            sequence,
        })
    }

    fn write_summary(&self, summary: &Summary, made: &mut Vec<PathBuf>) -> Result<FileHash> {
        let path = self.folder.join(SUMMARY_FILE);
        let bytes = point::document(summary);
        let mut file = local::create_private(&path)?;
        made.push(path.clone());
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
        Ok(FileHash { bytes: bytes.len() as u64, sha256: hexadecimal(&Sha256::digest(&bytes)) })
    }
}
