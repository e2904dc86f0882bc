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
//! | `tables` | one object a file: `name` the records go by, `table` in the database, `file`, `rows`, `bytes`, `sha256`, `index` (`bytes` and `sha256` of the index beside it, where it has one), `columns` (`name`, `type` as declared, `generated`), `order` (columns; empty: by rowid), `rowid` (true: records start with `$rowid`), `sequence` (the last AUTOINCREMENT value) |
//! | `skipped` | tables without a file, each with the reason |
//! | `total_rows`, `total_bytes` | of all files together |

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use crate::database::postgres::catalogue::{Layout, Relation};
use crate::database::postgres::{self, PostgresInstant, Reader};
use crate::database::sink::Sink;
use crate::database::sqlite::{self, Table, Useless, failed, open_copy, write_rows};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local;
use crate::local::blocking;
use crate::point::{self, FORMAT, FileHash, PointId, RecordTable, hexadecimal};

use super::index;
use super::names::{Named, named};

/// The file that says what the others are.
pub const SUMMARY_FILE: &str = "backup_summary.json";
/// Tables of a SQLite copy that are read at once.
const CONNECTIONS: usize = 2;

/// What to export, and where to.
#[derive(Debug, Clone)]
pub struct Export {
    /// The folder for the files; made when it is not there, private.
    pub folder: PathBuf,
    /// Record names and the tables they stand for; tables that are not named here go under their own names.
    pub names: BTreeMap<String, String>,
    /// The app.
    pub app: String,
    /// The point.
    pub point: PointId,
    /// The moment the rows show.
    pub instant: Timestamp,
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

impl Export {
    /// Writes every table of a private, checked SQLite copy, and then the summary, all private and synced.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when a record name stands for no table, with those that are like it, or for two;
    /// [`Error::Unsupported`] naming the column that holds a value too long to read in pieces; [`Error::Full`] and the like
    /// from the disk; [`Error::Local`] when a file is already there. After an error none of its files are left.
    pub fn of_sqlite(&self, copy: &Path, events: &Events) -> Result<RecordsExport> {
        let written = Written::of_sqlite(&self.folder, &self.names, copy, &Useless::default(), events)?;
        self.sum_up(written)
    }

    /// Adds the summary to files that were written into the export's folder.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] and the like from the disk.
    pub fn sum_up(&self, written: Written) -> Result<RecordsExport> {
        let Written { mut made, tables, skipped } = written;
        let exported = self.summarise(tables, skipped, &mut made)?;
        made.keep();
        Ok(exported)
    }

    /// Writes every table at an instant of a PostgreSQL database, several at once, and then the summary.
    ///
    /// # Errors
    ///
    /// As for [`Export::of_sqlite`], and what the server fails with.
    pub async fn of_postgres(
        &self,
        instant: &PostgresInstant,
        readers: Vec<Reader>,
        events: &Events,
    ) -> Result<RecordsExport> {
        let stands = |relation: &&Relation| relation.left_out().is_none();
        let by_name: BTreeMap<&str, &Relation> =
            instant.relations.iter().filter(stands).map(|relation| (relation.name.as_str(), relation)).collect();
        let names: Vec<&str> = by_name.keys().copied().collect();
        let plan = named(&names, &self.names)?;
        let mut made = Made::begin(&self.folder)?;
        events.started(Stage::ExportRecords, None, None);
        let mut queue = Vec::with_capacity(plan.len());
        for named in plan {
            let relation = by_name[named.table].clone();
            let layout = instant.layouts.get(&relation.oid).cloned().unwrap_or_default();
            let path = self.folder.join(&named.file);
            made.add(&path);
            made.add(&index_beside(&path));
            queue.push(TableToWrite { name: named.name.to_owned(), file: named.file, path, relation, layout });
        }
        let tables = write_all(queue, readers, &instant.facts().encoding, events).await?;
        let left_out = |relation: &Relation| Some((relation.name.clone(), relation.left_out()?));
        let mut skipped: BTreeMap<_, _> = instant.relations.iter().filter_map(left_out).collect();
        skipped.extend(instant.elsewhere.clone());
        let objects = instant.facts().large_objects;
        if objects > 0 {
            skipped.insert("pg_largeobject".to_owned(), format!("{objects} large objects are in the dump only"));
        }
        let exported = self.summarise(tables, skipped, &mut made)?;
        made.keep();
        events.ended(Stage::ExportRecords);
        Ok(exported)
    }

    fn summarise(
        &self,
        tables: Vec<RecordTable>,
        skipped: BTreeMap<String, String>,
        made: &mut Made,
    ) -> Result<RecordsExport> {
        let rows = tables.iter().map(|table| table.rows).sum();
        let summary = Summary {
            format: FORMAT,
            app: self.app.clone(),
            point: self.point.clone(),
            instant: self.instant,
            skipped,
            total_rows: rows,
            total_bytes: tables.iter().map(|table| table.bytes).sum(),
            tables,
        };
        let hash = Self::write_summary(&summary, made)?;
        local::sync_folder(&self.folder)?;
        Ok(RecordsExport { tables: summary.tables, skipped: summary.skipped, summary: hash, rows })
    }

    fn write_summary(summary: &Summary, made: &mut Made) -> Result<FileHash> {
        let bytes = point::document(summary);
        let (path, mut file) = made.create(SUMMARY_FILE)?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
        Ok(FileHash { bytes: bytes.len() as u64, sha256: hexadecimal(&Sha256::digest(&bytes)) })
    }
}

/// Every table as a file, of which nothing says yet what they are; they go away again unless they are summed up.
#[derive(Debug)]
pub struct Written {
    made: Made,
    tables: Vec<RecordTable>,
    skipped: BTreeMap<String, String>,
}

impl Written {
    /// The tables that were written.
    pub(crate) fn tables(&self) -> &[RecordTable] {
        &self.tables
    }

    /// Writes every table of a private SQLite copy, several at once; they end early once the copy is known to be useless.
    ///
    /// # Errors
    ///
    /// As for [`Export::of_sqlite`].
    pub(crate) fn of_sqlite(
        folder: &Path,
        names: &BTreeMap<String, String>,
        copy: &Path,
        useless: &Useless,
        events: &Events,
    ) -> Result<Self> {
        let connection = open_copy(copy)?;
        let catalogue = sqlite::catalogue(&connection)?;
        let tables: Vec<&str> = catalogue.tables.iter().map(|table| table.name.as_str()).collect();
        let plan = named(&tables, names)?;
        let by_name: BTreeMap<&str, &Table> =
            catalogue.tables.iter().map(|table| (table.name.as_str(), table)).collect();
        let made = Made::begin(folder)?;
        events.started(Stage::ExportRecords, None, None);
        let mut queue: Vec<_> =
            plan.iter().enumerate().map(|(at, named)| FileToFill { at, named, table: by_name[named.table] }).collect();
        // The largest ones first, so that none of them is left for the end.
        queue.sort_by_key(|next| Reverse(sqlite::most_rows(&connection, next.table)));
        drop(connection);
        let work = Mutex::new(Work { queue: queue.into(), made });
        let written = std::thread::scope(|scope| {
            let fill = || fill(copy, &work, useless, events);
            let threads: Vec<_> = (0..CONNECTIONS.min(plan.len())).map(|_| scope.spawn(fill)).collect();
            let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| broken_off()).flatten());
            joined.collect::<Result<Vec<_>>>()
        });
        let mut tables: Vec<_> = written?.into_iter().flatten().collect();
        tables.sort_by_key(|(at, _)| *at);
        let tables: Vec<_> = tables.into_iter().map(|(_, table)| table).collect();
        if tables.len() != plan.len() {
            return Err(Error::damaged(format!("{} of {} tables were written", tables.len(), plan.len())));
        }
        events.ended(Stage::ExportRecords);
        let made = work.into_inner().map_err(|_| broken_off())?.made;
        Ok(Self { made, tables, skipped: catalogue.skipped })
    }
}

/// A table of a file, and the file it goes into.
struct FileToFill<'a> {
    at: usize,
    named: &'a Named<'a>,
    table: &'a Table,
}

/// What threads that write share.
struct Work<'a> {
    queue: VecDeque<FileToFill<'a>>,
    made: Made,
}

fn broken_off() -> Error {
    Error::damaged("a thread that wrote records broke off")
}

/// Writes tables over a connection of its own until none is left or another has failed.
fn fill(copy: &Path, work: &Mutex<Work<'_>>, useless: &Useless, events: &Events) -> Result<Vec<(usize, RecordTable)>> {
    let mut connection = open_copy(copy)?;
    useless
        .limit(&mut connection, Duration::MAX)
        .map_err(|cause| failed("cannot set up a connection".to_owned(), cause))?;
    let mut written = Vec::new();
    let next = || work.lock().map(|mut work| work.queue.pop_front());
    while let Some(next) = next().map_err(|_| broken_off())? {
        match fill_one(&connection, work, &next, events) {
            Ok(table) => written.push((next.at, table)),
            Err(error) => {
                // What the others have begun they end; they begin nothing more.
                if let Ok(mut work) = work.lock() {
                    work.queue.clear();
                }
                return Err(error);
            }
        }
    }
    Ok(written)
}

fn fill_one(
    connection: &Connection,
    work: &Mutex<Work<'_>>,
    next: &FileToFill<'_>,
    events: &Events,
) -> Result<RecordTable> {
    let FileToFill { named, table, .. } = next;
    let (path, file) = {
        let made = &mut work.lock().map_err(|_| broken_off())?.made;
        made.add(&index_beside(&made.folder.join(&named.file)));
        made.create(&named.file)?
    };
    let has_key = table.shows_rowid() || !table.order.is_empty();
    let mut sink = if has_key { Sink::marked(file, &path) } else { Sink::file(file, &path) };
    let news = |rows| events.advanced(Stage::ExportRecords, rows, 0);
    let rows = write_rows(connection, table, &mut sink, &news)?;
    let Filled { bytes, sha256, index } = Filled::finish(sink, &path)?;
    let sequence = sqlite::sequence(connection, &table.name)
        .map_err(|cause| failed(format!("cannot read the sequence of table `{}`", table.name), cause))?;
    Ok(RecordTable {
        name: named.name.to_owned(),
        table: table.name.clone(),
        file: named.file.clone(),
        rows,
        bytes,
        sha256,
        index,
        columns: table.columns.clone(),
        order: table.order.clone(),
        rowid: table.shows_rowid(),
        sequence,
        sequences: BTreeMap::new(),
    })
}

/// A record file that is whole, and its index.
struct Filled {
    bytes: u64,
    sha256: String,
    index: Option<FileHash>,
}

impl Filled {
    /// Ends a record file; one that is not small and whose records have keys gets an index beside it.
    fn finish(sink: Sink, path: &Path) -> Result<Self> {
        let (bytes, sha256, marks) = sink.finish_marked()?;
        let marks = marks.filter(|_| bytes > index::READ_WHOLE);
        let index = marks.map(|marks| index::write(marks, &sha256, &index_beside(path))).transpose()?;
        Ok(Self { bytes, sha256, index })
    }
}

/// The index of a record file, which is named as [`RecordTable::index_file`] says.
fn index_beside(path: &Path) -> PathBuf {
    path.with_extension("index")
}

/// Files that go away again unless all of them were made.
#[derive(Debug)]
struct Made {
    folder: PathBuf,
    fresh: bool,
    files: Vec<PathBuf>,
}

impl Made {
    fn begin(folder: &Path) -> Result<Self> {
        let fresh = !folder.exists();
        local::create_private_subfolder(folder)?;
        Ok(Self { folder: folder.to_owned(), fresh, files: Vec::new() })
    }

    /// Makes a new file in the folder.
    fn create(&mut self, name: &str) -> Result<(PathBuf, fs::File)> {
        let path = self.folder.join(name);
        let file = local::create_private(&path)?;
        self.add(&path);
        Ok((path, file))
    }

    fn add(&mut self, path: &Path) {
        self.files.push(path.to_owned());
    }

    fn keep(mut self) {
        self.files.clear();
        self.fresh = false;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // The first error is the one to tell.
        for path in &self.files {
            let _ = fs::remove_file(path);
        }
        if self.fresh {
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// A table of a server, and the file it goes into.
struct TableToWrite {
    name: String,
    file: String,
    path: PathBuf,
    relation: Relation,
    layout: Layout,
}

/// Writes tables, each by the next session that is free; the answer is in the order of the queue.
async fn write_all(
    queue: Vec<TableToWrite>,
    readers: Vec<Reader>,
    encoding: &str,
    events: &Events,
) -> Result<Vec<RecordTable>> {
    let total = queue.len();
    let queue = Arc::new(Mutex::new(queue.into_iter().enumerate().collect::<VecDeque<_>>()));
    let alone = Arc::new(tokio::sync::Mutex::new(()));
    // The tasks end when the set is dropped: on the first error no other goes on.
    let mut tasks = JoinSet::new();
    for reader in readers {
        let (queue, events, encoding) = (Arc::clone(&queue), events.clone(), encoding.to_owned());
        let alone = Arc::clone(&alone);
        tasks.spawn(async move {
            postgres::rows::prepare(&reader.0, &encoding).await?;
            let mut written = Vec::new();
            loop {
                let next = queue.lock().map_err(|_| Error::damaged("a task that wrote records broke off"))?.pop_front();
                let Some((at, table)) = next else { return Ok::<_, Error>(written) };
                written.push((at, write_one(&reader, table, &alone, &events).await?));
            }
        });
    }
    let mut tables = Vec::with_capacity(total);
    while let Some(written) = tasks.join_next().await {
        let ended = |cause: tokio::task::JoinError| Error::Local {
            what: "a task that wrote records ended".to_owned(),
            cause: Some(cause.into()),
        };
        match written.map_err(ended).flatten() {
            Ok(written) => tables.extend(written),
            Err(error) => {
                // None of them makes a file any more once what was made is removed.
                tasks.shutdown().await;
                return Err(error);
            }
        }
    }
    if tables.len() != total {
        return Err(Error::damaged(format!("{} of {total} tables were written", tables.len())));
    }
    tables.sort_by_key(|(at, _)| *at);
    Ok(tables.into_iter().map(|(_, table)| table).collect())
}

/// Writes a table; of those with large values one at a time.
async fn write_one(
    reader: &Reader,
    table: TableToWrite,
    alone: &tokio::sync::Mutex<()>,
    events: &Events,
) -> Result<RecordTable> {
    let TableToWrite { name, file, path, relation, layout } = table;
    let much = relation.beside_rows >= postgres::rows::MUCH_BESIDE;
    let _alone = if much { Some(alone.lock().await) } else { None };
    postgres::rows::require_short_values(&reader.0, &relation, &layout).await?;
    let written = local::create_private(&path)?;
    let mut sink = if layout.key.is_empty() { Sink::file(written, &path) } else { Sink::marked(written, &path) };
    let news = |rows| events.advanced(Stage::ExportRecords, rows, 0);
    let rows = postgres::rows::write_rows(&reader.0, &relation, &layout, &mut sink, &news).await?;
    let Filled { bytes, sha256, index } = blocking(move || Filled::finish(sink, &path)).await?;
    Ok(RecordTable {
        name,
        table: relation.name,
        file,
        rows,
        bytes,
        sha256,
        index,
        order: layout.key.iter().map(|at| layout.columns[*at].name.clone()).collect(),
        columns: layout.columns.iter().map(postgres::catalogue::Column::recorded).collect(),
        rowid: false,
        sequence: None,
        sequences: layout.sequences,
    })
}
