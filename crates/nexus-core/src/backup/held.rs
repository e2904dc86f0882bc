//! The database at the instant: a private copy of a SQLite file, or a PostgreSQL server held at an exported snapshot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;

use super::{BackupPlan, RecordsPlan, milliseconds};
use crate::clock::Clock;
use crate::database::Database;
use crate::database::postgres::catalogue::Relation;
use crate::database::postgres::{PostgresDatabase, PostgresInstant, Reader, Reading, Wanted};
use crate::database::sqlite::{Captured, Copied};
use crate::error::{Error, Result};
use crate::event::{Events, Stage};
use crate::local::{Scratch, blocking};
use crate::point::{DatabaseKind, DatabasePart, FileHash, Part};
use crate::records::export::{Export, RecordsExport, Written};
use crate::references::{self, Known};
use crate::vault::draft::Draft;

/// Tables whose rows are read at once.
const READERS: usize = 4;

/// The database as it is at one instant, for as long as this lives.
pub(super) struct Held {
    kind: Kind,
    /// The instant, by this machine's clock.
    pub(super) instant: Timestamp,
    /// How long it took to come about.
    pub(super) milliseconds: u64,
}

enum Kind {
    /// What the copy is, when the copy itself is taken.
    Sqlite {
        path: PathBuf,
        captured: Option<Box<Captured>>,
        written: Option<Written>,
    },
    Postgres {
        database: Box<PostgresDatabase>,
        instant: Box<PostgresInstant>,
    },
}

/// What each part reads of an instant.
#[derive(Default)]
pub(super) struct Sources {
    dump: Option<Reading>,
    readers: Vec<Reader>,
    written: Option<Written>,
}

/// Where the rows of a table come from.
pub(super) enum Rows {
    /// They are files already, of a copy that has passed its check.
    Written(Written),
    /// Sessions that read them.
    Read(Vec<Reader>),
}

impl Held {
    /// Holds the database, when a part of the plan needs it.
    ///
    /// The rows of a SQLite copy are written to the folder `work` while the copy is checked; of one that fails none is left.
    pub(super) async fn open(
        plan: &BackupPlan,
        scratch: &Scratch,
        work: &Path,
        clock: &Clock,
        events: &Events,
    ) -> Result<Option<Self>> {
        let (dump, rows) = (plan.parts.contains(&Part::Database), plan.parts.contains(&Part::Records));
        if !dump && !rows {
            return Ok(None);
        }
        let begun = Instant::now();
        match plan.database.clone() {
            None => Ok(None),
            Some(Database::Sqlite(database)) => {
                let path = scratch.file("database.db");
                let (to, wait, told) = (path.clone(), plan.lock_wait, events.clone());
                let rows = plan.records.as_ref().filter(|_| rows).map(|plan| (plan.names.clone(), work.to_owned()));
                // The copy shows the database as it is when the copying begins.
                let instant = clock.now();
                let (captured, written) = blocking(move || {
                    let copied = database.copy(&to, wait, &told)?;
                    let take = if dump { Take::Copy } else { Take::Rows };
                    checked(copied, (take, rows), &to, &told)
                })
                .await?;
                let kind = Kind::Sqlite { path, captured: captured.map(Box::new), written };
                Ok(Some(Self { kind, instant, milliseconds: milliseconds(begun) }))
            }
            Some(Database::Postgres(database)) => {
                let wanted = Wanted { dump, readers: if rows { READERS } else { 0 }, lock_wait: plan.lock_wait };
                let now = || clock.now();
                let held = Box::new(database.instant(wanted, &now, scratch, events).await?);
                let instant = held.moment();
                let kind = Kind::Postgres { database, instant: held };
                Ok(Some(Self { kind, instant, milliseconds: milliseconds(begun) }))
            }
        }
    }

    /// What the parts read from, each its own.
    pub(super) fn take(&mut self, events: &Events) -> Sources {
        match &mut self.kind {
            Kind::Sqlite { written, .. } => Sources { written: written.take(), ..Sources::default() },
            Kind::Postgres { database, instant } => {
                Sources { dump: instant.take_dump(database, events), readers: instant.take_readers(), written: None }
            }
        }
    }

    /// Fails unless the columns that are to name files are there. They are only known where rows are taken.
    ///
    /// # Errors
    ///
    /// As for [`references::require`].
    pub(super) fn require_references(&self, plan: &BackupPlan) -> Result<()> {
        let Some(records) = plan.records.as_ref().filter(|_| plan.parts.contains(&Part::Records)) else {
            return Ok(());
        };
        let known = match &self.kind {
            Kind::Sqlite { written, .. } => written.iter().flat_map(Written::tables).map(Known::of).collect(),
            Kind::Postgres { instant, .. } => tables_of(instant, records),
        };
        references::require(&plan.references, &known)
    }

    /// Stores the database's copy. Its rows are counted meanwhile, but where records are, which count them anyway.
    pub(super) async fn store(
        &self,
        draft: &Draft,
        plan: &BackupPlan,
        dump: Option<Reading>,
        scratch: &Scratch,
        events: &Events,
    ) -> Result<Option<DatabasePart>> {
        if !plan.parts.contains(&Part::Database) {
            return Ok(None);
        }
        let source = plan.database.as_ref().map(Database::location).unwrap_or_default();
        let part = match &self.kind {
            Kind::Sqlite { path, captured, .. } => {
                let Some(captured) = captured else {
                    return Err(Error::damaged("the database's copy was checked for its rows alone"));
                };
                events.started(Stage::UploadDatabase, None, Some(captured.bytes));
                let object = draft.add_database(path, captured.bytes, &captured.sha256, events).await?;
                DatabasePart {
                    kind: DatabaseKind::Sqlite { sqlite: captured.facts.clone() },
                    source,
                    object,
                    tables: captured.tables.clone(),
                    read_milliseconds: captured.read_milliseconds,
                }
            }
            Kind::Postgres { database, instant } => {
                let dump = dump.ok_or_else(|| Error::damaged("no dump was begun at the instant"))?;
                events.started(Stage::UploadDatabase, None, None);
                let count = async {
                    if plan.parts.contains(&Part::Records) { Ok(BTreeMap::new()) } else { instant.count().await }
                };
                let (object, globals, tables) = futures::try_join!(
                    draft.add_dump(dump, instant.facts().size, events),
                    globals(database, instant, scratch),
                    count
                )?;
                let mut facts = instant.facts().clone();
                match globals {
                    // Stored only now: nothing is left of a dump that breaks off.
                    Ok((file, hash)) => facts.globals = Some(draft.add_globals(&file, hash, events).await?),
                    Err(lacking) => facts.lacks.push(lacking),
                }
                facts.lacks.extend(instant.warned().map(|words| format!("what pg_dump warned of: {words}")));
                let kind = DatabaseKind::Postgres { postgres: Box::new(facts) };
                DatabasePart { kind, source, object, tables, read_milliseconds: 0 }
            }
        };
        events.ended(Stage::UploadDatabase);
        Ok(Some(part))
    }

    /// Sees to it that every row is there as JSON, and says what the files are.
    pub(super) async fn export(
        &self,
        draft: &Draft,
        records: &RecordsPlan,
        rows: Rows,
        folder: &Path,
        events: &Events,
    ) -> Result<RecordsExport> {
        let export = Export {
            folder: folder.to_owned(),
            names: records.names.clone(),
            app: draft.vault().app().to_owned(),
            point: draft.id().clone(),
            instant: self.instant,
        };
        match (&self.kind, rows) {
            (Kind::Postgres { instant, .. }, Rows::Read(readers)) => export.of_postgres(instant, readers, events).await,
            (_, Rows::Written(written)) => blocking(move || export.sum_up(written)).await,
            (Kind::Sqlite { .. }, Rows::Read(_)) => Err(Error::damaged("no records were written at the instant")),
        }
    }

    /// Lets go of the database, and adds to the part what is known only when all have read: rows by table where the
    /// records counted them, in the same snapshot, and how long the tables were locked.
    pub(super) fn complete(self, part: Option<DatabasePart>, records: Option<&RecordsExport>) -> Option<DatabasePart> {
        let Kind::Postgres { instant, .. } = self.kind else { return part };
        let mut part = part?;
        if let Some(records) = records {
            part.tables = records.tables.iter().map(|table| (table.table.clone(), table.rows)).collect();
            part.tables.extend(instant.empty_here());
        }
        part.read_milliseconds = instant.held_milliseconds();
        Some(part)
    }
}

/// The tables of a server that have records, with the names that those go by.
fn tables_of<'a>(instant: &'a PostgresInstant, records: &'a RecordsPlan) -> Vec<Known<'a>> {
    let known = |relation: &'a Relation| {
        let named = records.names.iter().find(|(_, table)| **table == relation.name);
        let columns = instant.layouts.get(&relation.oid).map(|layout| layout.columns.as_slice()).unwrap_or_default();
        Known {
            name: named.map_or(relation.name.as_str(), |(name, _)| name),
            table: &relation.name,
            columns: columns.iter().map(|column| column.name.as_str()).collect(),
        }
    };
    instant.relations.iter().filter(|relation| relation.left_out().is_none()).map(known).collect()
}

/// The server's roles and tablespaces in a file; what the role may not read is lacking, in words.
async fn globals(
    database: &PostgresDatabase,
    instant: &PostgresInstant,
    scratch: &Scratch,
) -> Result<std::result::Result<(PathBuf, FileHash), String>> {
    match database.globals(instant, scratch).await {
        Ok(globals) => Ok(Ok(globals)),
        Err(error @ (Error::Denied { .. } | Error::Unsupported { .. } | Error::Service { .. })) => {
            Ok(Err(format!("the server's roles and tablespaces: {}", crate::error::chain(&error))))
        }
        Err(error) => Err(error),
    }
}

impl Sources {
    /// The dump.
    pub(super) fn dump(&mut self) -> Option<Reading> {
        self.dump.take()
    }

    /// The rows, or who reads them.
    pub(super) fn rows(&mut self) -> Rows {
        self.written.take().map_or_else(|| Rows::Read(std::mem::take(&mut self.readers)), Rows::Written)
    }
}

/// The names of records, and the folder for their files.
type Destination = (BTreeMap<String, String>, PathBuf);

/// What is taken of a copy of a SQLite file.
#[derive(Debug, Clone, Copy)]
enum Take {
    /// The copy itself.
    Copy,
    /// Its rows alone.
    Rows,
}

/// Checks a copy and meanwhile writes its rows, by the names and into the folder that were asked for.
fn checked(
    copied: Copied,
    (take, rows): (Take, Option<Destination>),
    copy: &Path,
    events: &Events,
) -> Result<(Option<Captured>, Option<Written>)> {
    let useless = copied.useless();
    let (captured, written) = std::thread::scope(|scope| {
        let writing = rows.map(|(names, folder)| {
            let useless = &useless;
            scope.spawn(move || Written::of_sqlite(&folder, &names, copy, useless, events))
        });
        let checked = match take {
            Take::Copy => copied.check(events).map(Some),
            Take::Rows => copied.check_pages(events).map(|()| None),
        };
        (checked, writing.map(std::thread::ScopedJoinHandle::join))
    });
    // Whatever became of the rows of a damaged copy, the damage is what there is to tell.
    let captured = captured?;
    let written = written.transpose().map_err(|_| Error::damaged("a thread that wrote records broke off"))?;
    Ok((captured, written.transpose()?))
}
