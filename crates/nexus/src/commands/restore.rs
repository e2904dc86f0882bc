//! `restore`: the plan is shown, asked about, made safe by a point of the present state, carried out, compared.

mod consent;
mod pages;
mod safety;
mod targets;

use nexus_core::database::postgres::PostgresPlan;
use nexus_core::error::Result;
use nexus_core::point::PointId;
use nexus_core::restore::{RestorePlan, plan, restore};

use super::show::passed_over;
use crate::cli::RestoreArgs;
use crate::failure::Outcome;
use crate::run::Run;
use targets::Targets;
pub use targets::own_database;

/// Restores, or shows what would be done; `unfinished` learns what must be removed when this is not polled to its end.
pub async fn run(run: &Run, args: &RestoreArgs, unfinished: &mut Option<PostgresPlan>) -> Result<Outcome> {
    let wish = targets::Wish::of(args)?;
    let vault = run.vault().await?;
    let needs = wish.needs(&vault, &args.point).await?;
    let found = vault.find(&args.point, &needs).await?;
    passed_over(run, &found);
    let targets = Targets::choose(run, args, &wish, &found.point).await?;
    let plan = plan(found.point, targets.request(run, args)?, run.scratch.path(), &run.clock, &run.events).await?;
    if args.dry_run {
        run.terminal.answer(&pages::plan(&plan, &targets, args), &pages::planned(&plan, args));
        return Ok(Outcome::Done);
    }
    run.terminal.aside(&pages::plan(&plan, &targets, args));
    consent::ask(run, args, &plan, &targets)?;
    let (plan, safety) = make_safe(run, args, plan, &targets).await?;
    let id = plan.point.id().clone();
    *unfinished = plan.unfinished();
    let report = restore(plan, safety.clone(), &run.clock, &run.events).await?;
    *unfinished = None;
    pages::tell(run, args, &id, &report, safety.as_ref());
    Ok(Outcome::of(pages::all_equal(&report)))
}

/// Takes a point of what would be lost, unless there is one already or none is wanted.
async fn make_safe(
    run: &Run,
    args: &RestoreArgs,
    mut plan: RestorePlan,
    targets: &Targets,
) -> Result<(RestorePlan, Option<PointId>)> {
    if let Some(taken) = plan.resumes.clone() {
        run.terminal.note(&format!("a restore of this point broke off; {taken} holds the state before it"));
        return Ok((plan, Some(taken)));
    }
    if args.no_safety_point {
        return Ok((plan, None));
    }
    let taken = safety::take(run, &mut plan, targets).await?;
    Ok((plan, taken))
}
