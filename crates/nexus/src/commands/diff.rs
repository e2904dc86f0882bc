//! `diff`: what changed between two points, or between a point and now.

mod pages;

use nexus_core::bucket::Address;
use nexus_core::database::Database;
use nexus_core::diff::{After, DiffRequest, Live, Told, diff};
use nexus_core::error::{Error, Result};
use nexus_core::local::Scratch;
use nexus_core::point::{Manifest, Part};
use nexus_core::vault::{RecoveryPoint, Vault};

use super::restore::own_database;
use super::show::passed_over;
use crate::cli::DiffArgs;
use crate::failure::Outcome;
use crate::interrupt::Interrupt;
use crate::run::Run;

/// The word for the app as it is.
const NOW: &str = "now";

/// Compares until it is done or a signal comes.
pub async fn look(run: &Run, args: &DiffArgs, interrupt: &Interrupt) -> Result<Outcome> {
    run.work(Box::pin(compare(run, args)), interrupt).await
}

/// Compares. That something differs is the answer, not a failure.
async fn compare(run: &Run, args: &DiffArgs) -> Result<Outcome> {
    if args.before == NOW {
        return Err(Error::usage_hint(
            "`now` is what a point is compared with, so it comes second",
            format!("nexus diff {} now", if args.after == NOW { "latest" } else { &args.after }),
        ));
    }
    if !args.table.is_empty() && args.only == [Part::Files] {
        return Err(Error::usage_hint(
            "--table chooses tables, and only files shall be compared",
            "leave one of them out",
        ));
    }
    let vault = run.vault().await?;
    let needs = needs(&vault, args).await?;
    let before = find(run, &vault, &args.before, &needs).await?;
    let after = match args.after.as_str() {
        NOW => None,
        selector => Some(find(run, &vault, selector, &needs).await?),
    };
    let parts = parts(args, &before, after.as_ref());
    let after = match after {
        Some(point) => After::Point(Box::new(point)),
        None => After::Now(Box::new(live(run, &before, &parts).await?)),
    };
    let told = if args.rows { Told::Each } else { Told::Numbers };
    let request = DiffRequest { parts, tables: args.table.clone(), told };
    let scratch = Scratch::create(run.scratch.path())?;
    let difference = diff(&before, &after, &request, &scratch, (&run.clock, &run.events)).await?;
    pages::tell(run, (&before, &after), &difference)?;
    Ok(Outcome::Done)
}

/// The parts that a point must have to be `latest`.
async fn needs(vault: &Vault, args: &DiffArgs) -> Result<Vec<Part>> {
    if !args.only.is_empty() {
        return Ok(args.only.clone());
    }
    if !args.before.starts_with("latest") && !args.after.starts_with("latest") {
        return Ok(Vec::new());
    }
    let points = vault.points().await?;
    let taken = |part: &Part| points.iter().filter_map(|point| point.manifest()).any(|manifest| manifest.has(*part));
    Ok(wanted(args).into_iter().filter(taken).collect())
}

/// Rows are told by records; without a choice everything is compared that either side has.
fn wanted(args: &DiffArgs) -> Vec<Part> {
    match (args.only.as_slice(), args.table.is_empty()) {
        ([], true) => vec![Part::Records, Part::Files],
        ([], false) => vec![Part::Records],
        (only, _) => only.to_vec(),
    }
}

async fn find(run: &Run, vault: &Vault, selector: &str, needs: &[Part]) -> Result<RecoveryPoint> {
    let found = vault.find(selector, needs).await?;
    passed_over(run, &found);
    Ok(found.point)
}

fn parts(args: &DiffArgs, before: &RecoveryPoint, after: Option<&RecoveryPoint>) -> Vec<Part> {
    if !args.only.is_empty() || !args.table.is_empty() {
        return wanted(args);
    }
    let manifests: Vec<&Manifest> = [Some(before), after].into_iter().flatten().map(RecoveryPoint::manifest).collect();
    let has = |part: Part| manifests.iter().any(|manifest| manifest.has(part));
    let rows = has(Part::Records) || has(Part::Database);
    let found = [rows.then_some(Part::Records), has(Part::Files).then_some(Part::Files)];
    found.into_iter().flatten().collect()
}

/// The app as it is: as the settings name it, else where the point came from.
async fn live(run: &Run, point: &RecoveryPoint, parts: &[Part]) -> Result<Live> {
    let rows = parts.contains(&Part::Records) || parts.contains(&Part::Database);
    let database = if rows { database(run, point)? } else { None };
    let files = if parts.contains(&Part::Files) { files(run, point).await? } else { None };
    Ok(Live { database, lock_wait: run.settings.lock_wait.duration(), files })
}

fn database(run: &Run, point: &RecoveryPoint) -> Result<Option<Database>> {
    let part = point.manifest().parts.database.as_ref();
    let named = run.settings.database.as_ref().map(|setting| &setting.value);
    let database = match (named, part) {
        (Some(location), _) => run.settings.database_at(&location.text, &location.base)?,
        (None, Some(part)) => own_database(run, part)?,
        (None, None) => return Ok(None),
    };
    if let Some(part) = part.filter(|part| part.source != database.location()) {
        run.terminal.note(&format!(
            "the rows of now are those of {}, the point came from {}",
            database.location(),
            part.source
        ));
    }
    Ok(Some(database))
}

async fn files(run: &Run, point: &RecoveryPoint) -> Result<Option<(nexus_core::bucket::Reader, String)>> {
    let Some(part) = &point.manifest().parts.files else { return Ok(None) };
    let own = Address::parse(&part.source, &run.folder)?;
    if let Some(named) = run.settings.files.as_ref().map(|setting| &setting.value).filter(|named| **named != own) {
        run.terminal.note(&format!("the files of now are those at {named}, the point came from {own}"));
        return Ok(Some((run.files_reader(named).await?, named.prefix().to_owned())));
    }
    let reader = run.reader_on(&own, part.endpoint.as_deref()).await?;
    Ok(Some((reader, part.rules.prefix.clone())))
}
