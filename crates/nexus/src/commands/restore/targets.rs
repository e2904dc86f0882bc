//! Which parts go where: the point's own sources, or elsewhere; what may not be overwritten is refused here.

use std::path::PathBuf;

use nexus_core::bucket::{Address, Reader};
use nexus_core::database::Database;
use nexus_core::database::load::{Conflict, LoadMode};
use nexus_core::database::postgres::{Liberties, Sessions};
use nexus_core::error::{Error, Result};
use nexus_core::files::restore::{Extra, FilesTarget};
use nexus_core::files::rules::Selection;
use nexus_core::point::{DatabaseKind, DatabasePart, FilesPart, Part};
use nexus_core::restore::rows::{Asked, Children, RowsTarget};
use nexus_core::restore::{RecordsTarget, RestoreRequest, TablesTarget};
use nexus_core::vault::{RecoveryPoint, Vault, layout};

use crate::cli::RestoreArgs;
use crate::run::Run;
use crate::settings::Origin;

/// The parts that were asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    named: Vec<Part>,
    records: bool,
}

impl Wish {
    /// Reads it from the flags.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when flags contradict each other.
    pub fn of(args: &RestoreArgs) -> Result<Self> {
        if !args.rows.record.is_empty() {
            return single(args);
        }
        let mut named = args.only.clone();
        let selects = !args.category.is_empty() || !args.key.is_empty();
        if selects && named.is_empty() {
            // Whoever wants one image back does not want the database of then.
            named.push(Part::Files);
        }
        let loads = args.tables.mode.is_some()
            || !args.tables.table.is_empty()
            || args.tables.keep_present
            || args.tables.overwrite;
        if loads && named.is_empty() {
            named.push(Part::Records);
        }
        let wants = |part: Part| named.is_empty() || named.contains(&part);
        let into_tables = wants(Part::Records) && args.target.to_records.is_none();
        let contradictions = [
            (selects, Part::Files, "--category and --key select"),
            (args.delete_extra, Part::Files, "--delete-extra removes"),
            (args.target.to_files.is_some(), Part::Files, "--to-files is for"),
            (args.target.to_database.is_some() && !into_tables, Part::Database, "--to-database is for the"),
            (loads, Part::Records, "--table and --mode are for"),
            (args.end_sessions, Part::Database, "--end-sessions is for the"),
            (args.no_owner, Part::Database, "--no-owner is for the"),
            (args.in_place, Part::Database, "--in-place is for the"),
            (args.target.to_records.is_some(), Part::Records, "--to-records is for"),
        ];
        if let Some((_, part, flag)) = contradictions.into_iter().find(|(given, part, _)| *given && !wants(*part)) {
            return Err(Error::usage_hint(
                format!("{flag} {part}, and {part} shall not be restored"),
                format!("add {part} to --only, or leave the flag out"),
            ));
        }
        let records = named.contains(&Part::Records) || args.target.to_records.is_some();
        require_sense(args, &named, loads)?;
        Ok(Self { named, records })
    }

    /// The parts that a point must have to be `latest`: those named, or database and files where the app has them.
    pub async fn needs(&self, vault: &Vault, selector: &str) -> Result<Vec<Part>> {
        if !self.named.is_empty() || !selector.starts_with("latest") {
            return Ok(self.named.clone());
        }
        let points = vault.points().await?;
        let taken =
            |part: &Part| points.iter().filter_map(|point| point.manifest()).any(|manifest| manifest.has(*part));
        let mut needs: Vec<Part> = [Part::Database, Part::Files].into_iter().filter(taken).collect();
        if self.records {
            needs.push(Part::Records);
        }
        Ok(needs)
    }

    fn takes(&self, part: Part, point: &RecoveryPoint) -> bool {
        match part {
            Part::Records => self.records,
            Part::Database | Part::Files if self.named.is_empty() => point.manifest().has(part),
            Part::Database | Part::Files => self.named.contains(&part),
        }
    }
}

/// Single records, and the files that they name.
fn single(args: &RestoreArgs) -> Result<Wish> {
    let others = [
        (!args.only.is_empty(), "--only"),
        (!args.category.is_empty(), "--category"),
        (!args.key.is_empty(), "--key"),
        (args.delete_extra, "--delete-extra"),
        (!args.tables.table.is_empty(), "--table"),
        (args.tables.mode.is_some(), "--mode"),
        (args.tables.keep_present, "--keep-present"),
        (args.target.to_records.is_some(), "--to-records"),
        (args.end_sessions, "--end-sessions"),
        (args.no_owner, "--no-owner"),
        (args.in_place, "--in-place"),
        (args.target.to_files.is_some() && !args.rows.with_files, "--to-files without --with-files"),
    ];
    if let Some((_, flag)) = others.into_iter().find(|(given, _)| *given) {
        return Err(Error::usage_hint(
            format!("{flag} has no meaning beside --record, which puts back single records"),
            "leave one of them out",
        ));
    }
    let files = args.rows.with_files.then_some(Part::Files);
    Ok(Wish { named: [Part::Records].into_iter().chain(files).collect(), records: true })
}

/// The records that were asked for.
///
/// # Errors
///
/// [`Error::Usage`] for one that does not say which.
pub fn asked(args: &RestoreArgs) -> Result<Vec<Asked>> {
    let one = |text: &String| {
        let parts = text.split_once('/').filter(|(table, key)| !table.is_empty() && !key.is_empty());
        let (table, key) = parts.ok_or_else(|| {
            Error::usage_hint(
                format!("--record {text:?} does not say which record of which table"),
                "write TABLE/KEY, for example --record patients/42, or --record 'pages/document=1,number=2'",
            )
        })?;
        Ok(Asked { table: table.to_owned(), key: key.to_owned() })
    };
    args.rows.record.iter().map(one).collect()
}

/// Which records go where, and what with them.
pub fn rows_target(args: &RestoreArgs, database: Option<Database>) -> Result<RowsTarget> {
    Ok(RowsTarget {
        database,
        asked: asked(args)?,
        children: if args.rows.with_children { Children::With } else { Children::Without },
        present: if args.tables.overwrite { Conflict::Overwrite } else { Conflict::Refuse },
    })
}

/// Refuses what would load records in vain, or in two ways at once.
fn require_sense(args: &RestoreArgs, named: &[Part], loads: bool) -> Result<()> {
    let tables = &args.tables;
    if loads && args.target.to_records.is_some() {
        return Err(Error::usage_hint(
            "--to-records puts files into a folder, --table and --mode load rows into tables",
            "choose one of them",
        ));
    }
    if (tables.keep_present || tables.overwrite) && tables.mode.as_deref() != Some("add-missing") {
        return Err(Error::usage_hint(
            "--keep-present and --overwrite say what --mode add-missing does with rows that are there",
            "add --mode add-missing, or leave them out: --mode replace replaces every row",
        ));
    }
    if args.target.to_records.is_none() && named.contains(&Part::Records) && named.contains(&Part::Database) {
        return Err(Error::usage_hint(
            "the database's own copy holds every row that its records hold",
            "leave `records` out of --only; --to-records FOLDER puts the record files into a folder",
        ));
    }
    Ok(())
}

/// Where the parts go.
#[derive(Debug)]
pub struct Targets {
    /// The database's.
    pub database: Option<Goal<Database>>,
    /// The files'.
    pub files: Option<FilesGoal>,
    /// The records'.
    pub records: Option<RecordsGoal>,
}

/// Where records go.
#[derive(Debug)]
pub enum RecordsGoal {
    /// Their files, into a folder.
    Folder(PathBuf),
    /// Their rows, into a database's tables.
    Tables(Goal<Database>),
}

/// A target, and whether it is the point's own source.
#[derive(Debug)]
pub struct Goal<T> {
    /// Where.
    pub place: T,
    /// True when the point came from there.
    pub own: bool,
}

/// The files' target with the right to look at it.
#[derive(Debug)]
pub struct FilesGoal {
    /// Where.
    pub goal: Goal<Address>,
    /// The right.
    pub reader: Reader,
}

impl Targets {
    /// Chooses them.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a target that is refused; [`Error::Missing`] for a part that the point does not have.
    pub async fn choose(run: &Run, args: &RestoreArgs, wish: &Wish, point: &RecoveryPoint) -> Result<Self> {
        let wanted = |part: Part| -> Result<bool> {
            let takes = wish.takes(part, point);
            if takes && !point.manifest().has(part) {
                return Err(Error::missing(format!("{} has no {part}", point.id())));
            }
            Ok(takes)
        };
        let database = if wanted(Part::Database)? { database(run, args, point)? } else { None };
        let files = if wanted(Part::Files)? { files(run, args, point).await? } else { None };
        let records = if wanted(Part::Records)? { Some(records_goal(run, args, point)?) } else { None };
        if database.is_none() && files.is_none() && records.is_none() {
            return Err(Error::usage_hint(
                format!("{} has neither database nor files, only records", point.id()),
                "`--only records` loads them into tables, with --to-records FOLDER it brings their files back",
            ));
        }
        Ok(Self { database, files, records })
    }

    /// True when something goes to where the point came from: then the app there is stopped and started by its hooks.
    pub fn touch_the_app(&self) -> bool {
        let files = self.files.as_ref().is_some_and(|files| files.goal.own);
        files || self.written_database().is_some_and(|goal| goal.own)
    }

    /// Who is in the database stays in the way unless a hook sends them away, or a flag.
    fn sessions(&self, run: &Run, args: &RestoreArgs) -> Sessions {
        if args.end_sessions {
            Sessions::Ended
        } else if run.settings.hooks.before.is_some() && self.touch_the_app() {
            Sessions::Leaving
        } else {
            Sessions::InTheWay
        }
    }

    /// The database that is written to: as a whole, or some of its tables.
    pub fn written_database(&self) -> Option<&Goal<Database>> {
        match &self.records {
            Some(RecordsGoal::Tables(goal)) => Some(goal),
            _ => self.database.as_ref(),
        }
    }

    /// The request for the core.
    pub fn request(&self, run: &Run, args: &RestoreArgs) -> Result<RestoreRequest> {
        let files = match &self.files {
            Some(files) => Some(FilesTarget {
                reader: files.reader.clone(),
                address: files.goal.place.clone(),
                selection: Selection::new(&args.category, &args.key)?,
                extra: if args.delete_extra { Extra::Delete } else { Extra::Keep },
            }),
            None => None,
        };
        Ok(RestoreRequest {
            files,
            database: self.database.as_ref().map(|goal| goal.place.clone()),
            records: match &self.records {
                None => None,
                Some(RecordsGoal::Folder(folder)) => Some(RecordsTarget::Folder(folder.clone())),
                Some(RecordsGoal::Tables(goal)) if !args.rows.record.is_empty() => {
                    Some(RecordsTarget::Rows(rows_target(args, Some(goal.place.clone()))?))
                }
                Some(RecordsGoal::Tables(goal)) => Some(RecordsTarget::Tables(TablesTarget {
                    database: goal.place.clone(),
                    tables: args.tables.table.clone(),
                    mode: mode(args),
                })),
            },
            lock_wait: run.settings.lock_wait.duration(),
            liberties: Liberties {
                sessions: self.sessions(run, args),
                without_owners: args.no_owner,
                in_place: args.in_place,
            },
        })
    }
}

fn elsewhere_is_its_source(flag: &str, place: &str) -> Error {
    Error::usage_hint(
        format!("{flag} {place} is where the point came from"),
        format!("leave {flag} out to restore over it, or name another place"),
    )
}

fn database(run: &Run, args: &RestoreArgs, point: &RecoveryPoint) -> Result<Option<Goal<Database>>> {
    let Some(part) = &point.manifest().parts.database else { return Ok(None) };
    if let Some(text) = &args.target.to_database {
        let place = run.settings.database_at(text, &run.folder)?;
        if place.location() != part.source {
            return Ok(Some(Goal { place, own: false }));
        }
        if !run.settings.names_another_database(&part.source) {
            return Err(elsewhere_is_its_source("--to-database", &part.source));
        }
        let place = if *text == part.source { own_database(run, part)? } else { place };
        return Ok(Some(Goal { place, own: true }));
    }
    // Credentials for the point's own database come from whatever setting names that very place.
    let mut reached = None;
    if let Some(setting) = &run.settings.database {
        let named = run.settings.database_at(&setting.value.text, &setting.value.base);
        let ambient = setting.origin == Origin::Variable("DATABASE_URL");
        match named {
            Ok(named) if named.location() == part.source => reached = Some(named),
            Ok(named) if !ambient => {
                let location = named.location();
                return Err(Error::usage_hint(
                    format!(
                        "the point came from {}, and {} names another database: {location}",
                        part.source, setting.origin
                    ),
                    format!("say which: --to-database {location}, or its own: --to-database {}", part.source),
                ));
            }
            Err(error) if !ambient => return Err(error),
            // Another app's.
            Ok(_) | Err(_) => {}
        }
    }
    let place = match reached {
        Some(place) => place,
        None => own_database(run, part)?,
    };
    Ok(Some(Goal { place, own: true }))
}

/// The point's own database, reached by the role that backed it up unless the environment names another.
pub fn own_database(run: &Run, part: &DatabasePart) -> Result<Database> {
    let mut around = run.settings.surroundings(&run.folder);
    if let DatabaseKind::Postgres { postgres } = &part.kind {
        around.variables.entry("PGUSER".to_owned()).or_insert_with(|| postgres.role.clone());
    }
    Database::parse(&part.source, &around)
}

async fn files(run: &Run, args: &RestoreArgs, point: &RecoveryPoint) -> Result<Option<FilesGoal>> {
    let Some(part) = &point.manifest().parts.files else { return Ok(None) };
    known_categories(&args.category, part)?;
    let own = Address::parse(&part.source, &run.folder)?;
    let vault = point.vault().address();
    let Some(text) = &args.target.to_files else {
        let service = run.files_service();
        let same_service = match (&service.endpoint, &own) {
            (Some(endpoint), Address::S3 { .. }) => part.endpoint.as_deref() == Some(endpoint.value.as_str()),
            (None, Address::S3 { .. }) if service.aws => part.endpoint.is_none(),
            _ => true,
        };
        if !same_service {
            let there = part.endpoint.as_deref().unwrap_or("AWS");
            return Err(Error::usage_hint(
                format!("the files came from {own} on {there}, and this run talks to another service"),
                format!(
                    "name that service with --files-endpoint {}, or another place for the files with --to-files",
                    part.endpoint.as_deref().unwrap_or("aws")
                ),
            ));
        }
        let reader = run.reader_on(&own, part.endpoint.as_deref()).await?;
        return Ok(Some(FilesGoal { goal: Goal { place: own, own: true }, reader }));
    };
    let place = Address::parse(text, &run.folder)?;
    let reader = run.files_reader(&place).await?;
    if place == own && reader.endpoint() == part.endpoint.as_deref() {
        return Err(elsewhere_is_its_source("--to-files", &part.source));
    }
    if vault.prefix_of(&place).is_some() {
        return Err(Error::usage(format!("--to-files {place} lies in the vault {vault}")));
    }
    Ok(Some(FilesGoal { goal: Goal { place, own: false }, reader }))
}

fn known_categories(asked: &[String], part: &FilesPart) -> Result<()> {
    let known: Vec<_> = part.rules.categories.iter().map(|rule| rule.name.as_str()).chain([layout::OTHER]).collect();
    match asked.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Error::usage_hint(
            format!("the point has no category {name:?}"),
            format!("its categories are {}", known.join(", ")),
        )),
        None => Ok(()),
    }
}

fn mode(args: &RestoreArgs) -> LoadMode {
    let tables = &args.tables;
    match (tables.mode.as_deref(), tables.keep_present, tables.overwrite) {
        (Some("add-missing"), true, _) => LoadMode::AddMissing(Conflict::KeepPresent),
        (Some("add-missing"), _, true) => LoadMode::AddMissing(Conflict::Overwrite),
        (Some("add-missing"), ..) => LoadMode::AddMissing(Conflict::Refuse),
        _ => LoadMode::Replace,
    }
}

pub fn records_goal(run: &Run, args: &RestoreArgs, point: &RecoveryPoint) -> Result<RecordsGoal> {
    if let Some(folder) = &args.target.to_records {
        return Ok(RecordsGoal::Folder(run.folder.join(folder)));
    }
    if point.manifest().parts.database.is_some() {
        // It has one, so it answers one.
        return database(run, args, point)?.map(RecordsGoal::Tables).ok_or_else(|| nowhere(point));
    }
    // A point of records alone does not say which database they came from.
    let place = match (&args.target.to_database, &run.settings.database) {
        (Some(text), _) => run.settings.database_at(text, &run.folder)?,
        (None, Some(setting)) => run.settings.database_at(&setting.value.text, &setting.value.base)?,
        (None, None) => return Err(nowhere(point)),
    };
    Ok(RecordsGoal::Tables(Goal { place, own: false }))
}

fn nowhere(point: &RecoveryPoint) -> Error {
    Error::usage_hint(
        format!("{} does not say which database its records are to be loaded into", point.id()),
        "name it with --to-database, or bring their files back with --to-records FOLDER",
    )
}
