//! `restore`: the plan is shown, asked about, made safe by a point of the present state, carried out, compared.

pub(super) mod consent;
mod pages;
mod rows;
mod safety;
pub mod targets;

use nexus_core::database::postgres::PostgresPlan;
use nexus_core::error::{Error, Result};
use nexus_core::point::PointId;
use nexus_core::restore::{RestorePlan, RestoreReport, hold, plan, restore};

use super::show::passed_over;
use crate::cli::RestoreArgs;
use crate::failure::Outcome;
use crate::hooks::Hooks;
use crate::run::Run;
use targets::Targets;
pub use targets::own_database;

/// What must be done when a restore is not polled to its end.
#[derive(Default)]
pub struct Unfinished {
    /// A new database on a server.
    server: Option<PostgresPlan>,
    /// The app was stopped, or was about to be.
    stopped: Option<Hooks>,
}

impl Unfinished {
    /// Removes what was made on a server, and starts the app again; at once, since there is little time.
    pub async fn clear_up(self, run: &Run) {
        let removed = async {
            if let Some(server) = &self.server {
                server.remove_unfinished(&run.events).await;
            }
        };
        let started = async {
            if let Some(hooks) = &self.stopped {
                hooks.after_interrupt().await;
            }
        };
        futures::join!(removed, started);
    }
}

/// What a restore came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// It was only shown.
    Planned,
    /// All is as it was.
    Equal,
    /// All is as it was, and the app was not started again.
    EqualAndStopped,
    /// Not all is as it was.
    Different,
}

/// Restores, or shows what would be done.
pub async fn run(run: &Run, args: &RestoreArgs, unfinished: &mut Unfinished) -> Result<Outcome> {
    let restored = carry_out(run, args, unfinished).await?;
    Ok(Outcome::of(matches!(restored, Restored::Planned | Restored::Equal)))
}

/// The same; `unfinished` learns what is to be done when this is not polled to its end.
pub async fn carry_out(run: &Run, args: &RestoreArgs, unfinished: &mut Unfinished) -> Result<Restored> {
    let wish = targets::Wish::of(args)?;
    let vault = run.vault().await?;
    let needs = wish.needs(&vault, &args.point).await?;
    let mut found = vault.find(&args.point, &needs).await?;
    found.point = run.with_source(found.point).await?;
    passed_over(run, &found);
    if args.delete_extra && found.point.manifest().adopted.is_some() {
        return Err(Error::usage_hint(
            format!(
                "{} was left by an older tool, and nothing says which files that tool passed over",
                found.point.id()
            ),
            "without --delete-extra files that came later stay",
        ));
    }
    if let Some(file) = &args.rows.to_json {
        Box::pin(rows::to_json(run, args, &found.point, file)).await?;
        return Ok(Restored::Planned);
    }
    let targets = Targets::choose(run, args, &wish, &found.point).await?;
    let request = targets.request(run, args)?;
    let plan = Box::pin(plan(found.point, request, run.scratch.path(), &run.clock, &run.events)).await?;
    // A few rows come back in one transaction: the app goes on meanwhile.
    let stops = targets.touch_the_app() && plan.rows.is_none();
    let hooks = stops.then(|| Hooks::of(run, plan.point.id())).flatten();
    let mut page = pages::plan(&plan, &targets, args);
    if let Some(hooks) = &hooks {
        hooks.show(&mut page);
    }
    if args.dry_run {
        run.terminal.answer(&page, &pages::planned(&plan, args));
        return Ok(if rows::is_free(&plan) { Restored::Planned } else { Restored::Different });
    }
    if !rows::is_done(&plan) {
        run.terminal.aside(&page);
    }
    if let Some(rows) = &plan.rows {
        rows.require_free()?;
        if rows::is_done(&plan) {
            run.terminal.note("every one of these rows and files is there as it was: nothing is to be done");
            run.terminal.answer(&page, &pages::planned(&plan, args));
            return Ok(Restored::Equal);
        }
    }
    consent::ask(run, args, &plan, &targets)?;
    let journal = plan.point.journal();
    // Where neither the app is stopped nor a safety point taken, the restore's own hold is soon enough.
    let waits = hooks.is_some() || !args.no_safety_point && !plan.at_risk().is_empty();
    let held = if waits { hold(&plan, &run.clock, &run.events).await? } else { None };
    unfinished.stopped.clone_from(&hooks);
    let done = stop_and_restore(run, args, plan, &targets, unfinished).await;
    // One that stays counts for a week, and keeps the point for so long.
    if let Err(error) = journal.release(held, &run.clock).await {
        run.terminal.warn(&format!("the point's journal does not say that it is needed no more: {error}"));
    }
    let started = match &hooks {
        Some(hooks) => hooks.after(done.is_ok()).await,
        None => Ok(()),
    };
    unfinished.stopped = None;
    let (id, report, safety) = match (done, &started) {
        (Ok(done), _) => done,
        (Err(error), Ok(())) => return Err(error),
        (Err(error), Err(failed)) => {
            run.terminal.warn(&failed.to_string());
            return Err(error);
        }
    };
    pages::tell(run, args, &id, &report, safety.as_ref());
    if let Err(failed) = &started {
        run.terminal.error(&[format!("everything was restored, but {failed}")], Some("start the app by hand"));
    }
    Ok(match (pages::all_equal(&report), started) {
        (true, Ok(())) => Restored::Equal,
        (true, Err(_)) => Restored::EqualAndStopped,
        (false, _) => Restored::Different,
    })
}

/// What a restore that was carried out came to.
type Done = (PointId, RestoreReport, Option<PointId>);

/// Stops the app, makes safe what would be lost, and restores.
async fn stop_and_restore(
    run: &Run,
    args: &RestoreArgs,
    mut plan: RestorePlan,
    targets: &Targets,
    unfinished: &mut Unfinished,
) -> Result<Done> {
    if let Some(hooks) = &unfinished.stopped {
        hooks.before().await?;
        if let Some(server) = plan.unfinished() {
            server.require_calm().await?;
        }
        // The app's last words are part of what would be lost.
        plan.look_again(&run.events).await?;
    }
    let (plan, safety) = make_safe(run, args, plan, targets).await?;
    let id = plan.point.id().clone();
    unfinished.server = plan.unfinished();
    // It is large: kept off the stack.
    let report = Box::pin(restore(plan, safety.clone(), &run.clock, &run.events)).await?;
    unfinished.server = None;
    Ok((id, report, safety))
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
        if plan.is_held_by(&taken).await? {
            return Ok((plan, Some(taken)));
        }
        run.terminal.note(&format!("{taken} does not hold all that would be lost now"));
    }
    if args.no_safety_point {
        return Ok((plan, None));
    }
    let taken = safety::take(run, &mut plan, targets).await?;
    Ok((plan, taken))
}
