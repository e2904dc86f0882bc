//! `drill`: a point restored into scratch, checked there and timed, with a proof in its journal.

mod pages;

use nexus_core::database::Database;
use nexus_core::database::postgres::PostgresDatabase;
use nexus_core::drill::{DrillRequest, Unfinished, drill, plan};
use nexus_core::error::Result;
use nexus_core::point::{DatabaseKind, Part, Verdict};
use nexus_core::vault::RecoveryPoint;

use super::restore::own_database;
use super::show::{damage_stays, passed_over};
use crate::cli::DrillArgs;
use crate::failure::Outcome;
use crate::run::Run;

/// Drills, or shows what would be done; `unfinished` learns what must be cleared away when this is not polled to its end.
pub async fn run(run: &Run, args: &DrillArgs, unfinished: &mut Option<Unfinished>) -> Result<Outcome> {
    let vault = run.vault().await?;
    let mut found = vault.find(&args.point, &args.only).await?;
    found.point = run.with_source(found.point).await?;
    passed_over(run, &found);
    let point = found.point;
    let request = DrillRequest {
        parts: args.only.clone(),
        sample: args.files,
        server: server(run, args, &point)?,
        lock_wait: run.settings.lock_wait.duration(),
    };
    let plan = plan(point.clone(), request, run.scratch.path()).await?;
    if args.dry_run {
        run.terminal.answer(&pages::plan(&plan), &pages::planned(&plan));
        plan.room.require()?;
        return Ok(Outcome::Done);
    }
    if let Some(place) = plan.database.as_ref().filter(|place| place.unfinished().is_some()) {
        run.terminal.note(&format!("the database is restored as {}, and removed again", place.place()));
    }
    *unfinished = Some(plan.unfinished());
    let mut drilled = drill(plan, &run.clock, &run.events).await?;
    *unfinished = None;
    let trouble = drilled.trouble.take();
    if let Some(error) = &drilled.unrecorded {
        run.terminal.warn(&format!("the point's journal does not say so: {error}"));
    }
    match trouble {
        Some(trouble) if drilled.proof.verdict == Verdict::CouldNotVerify => {
            // The error is the answer for programs; a person also sees how far it came.
            run.terminal.aside(&pages::report(&point, &drilled));
            return Err(trouble);
        }
        Some(trouble) => {
            run.terminal.warn(&format!("not everything could be looked at, so there may be more: {trouble}"));
        }
        None => {}
    }
    run.terminal.answer(&pages::report(&point, &drilled), &pages::reported(&point, &drilled));
    damage_stays(run, &point, &drilled.proof);
    Ok(Outcome::of(drilled.proof.verdict == Verdict::Verified))
}

/// Clears away what a drill that was broken off has made, and lets the point go.
pub async fn clear_up(run: &Run, unfinished: Option<Unfinished>) {
    if let Some(unfinished) = unfinished {
        unfinished.give_up(&run.clock, &run.events).await;
    }
}

/// The server for a database of PostgreSQL: the one that a flag, the configuration or `DATABASE_URL` names, else the
/// point's own.
fn server(run: &Run, args: &DrillArgs, point: &RecoveryPoint) -> Result<Option<PostgresDatabase>> {
    let Some(part) = &point.manifest().parts.database else { return Ok(None) };
    let asked = args.only.is_empty() || args.only.contains(&Part::Database);
    if !asked || matches!(part.kind, DatabaseKind::Sqlite { .. }) {
        return Ok(None);
    }
    let named = match &run.settings.database {
        Some(setting) => Some(run.settings.database_at(&setting.value.text, &setting.value.base)?),
        None => None,
    };
    match named {
        Some(Database::Postgres(server)) => Ok(Some(*server)),
        // A file that happens to be configured is no server.
        Some(Database::Sqlite(_)) | None => match own_database(run, part)? {
            Database::Postgres(server) => Ok(Some(*server)),
            Database::Sqlite(_) => Ok(None),
        },
    }
}
