//! `prune`: what retention no longer keeps is shown with the reason of each decision, then removed.

mod pages;

use nexus_core::database::Database;
use nexus_core::error::Result;
use nexus_core::prune::{PruneRequest, Unfinished, plan, prune, require_same_time};
use nexus_core::retention::Rules;

use super::restore::consent;
use crate::cli::{KeepArgs, PruneArgs};
use crate::failure::Outcome;
use crate::run::Run;

/// Prunes, or shows what would go; `unfinished` learns what is to be taken back when this is not polled to its end.
pub async fn run(run: &Run, args: &PruneArgs, unfinished: &mut Option<Unfinished>) -> Result<Outcome> {
    let vault = run.vault().await?;
    require_same_time(&vault, &run.clock).await?;
    let records = run.settings.records.as_ref().map(|folder| folder.value.clone());
    let request = PruneRequest { rules: rules(run, &args.keep), records };
    let plan = plan(&vault, request, &run.clock, &run.events).await?;
    let page = pages::plan(&plan, run.clock.now());
    if args.dry_run {
        run.terminal.answer(&page, &pages::planned(&vault, &plan));
        return Ok(Outcome::Done);
    }
    run.terminal.aside(&page);
    if !plan.is_empty() && !args.yes {
        consent::typed(run, &format!("Type {} to prune its vault:", vault.app()), vault.app(), "--yes")?;
    }
    *unfinished = Some(plan.unfinished(&vault));
    let pruned = prune(&vault, plan, &run.clock, &run.events).await?;
    *unfinished = None;
    sweep_scratch(run).await;
    run.terminal.answer(&pages::report(&pruned), &pages::reported(&vault, &pruned));
    Ok(Outcome::Done)
}

/// Takes back what was announced and not begun.
pub async fn clear_up(run: &Run, unfinished: Option<Unfinished>) {
    if let Some(unfinished) = unfinished {
        unfinished.withdraw(&run.clock).await;
    }
}

/// Flags over the configuration.
fn rules(run: &Run, keep: &KeepArgs) -> Rules {
    use nexus_core::point::Part;
    let mut rules = run.settings.rules();
    let named =
        [(Part::Database, keep.keep_database), (Part::Files, keep.keep_files), (Part::Records, keep.keep_records)];
    for (part, kept) in named {
        match kept.map(crate::config::KeptFor::seconds) {
            None => {}
            Some(Some(seconds)) => {
                rules.ages.insert(part, seconds);
            }
            Some(None) => {
                rules.ages.remove(&part);
            }
        }
    }
    let count = |flag: Option<u32>, file: u32| flag.unwrap_or(file);
    rules.keep.last = count(keep.keep_last, rules.keep.last);
    rules.keep.daily = count(keep.keep_daily, rules.keep.daily);
    rules.keep.weekly = count(keep.keep_weekly, rules.keep.weekly);
    rules.keep.monthly = count(keep.keep_monthly, rules.keep.monthly);
    rules.keep.yearly = count(keep.keep_yearly, rules.keep.yearly);
    rules
}

/// Removes what killed drills and rehearsals have left; it does not keep the vault from having been pruned.
async fn sweep_scratch(run: &Run) {
    if let Some(setting) = &run.settings.database
        && let Ok(Database::Postgres(server)) = run.settings.database_at(&setting.value.text, &setting.value.base)
        && let Err(error) = server.sweep_scratch(&run.events).await
    {
        run.terminal.warn(&format!("scratch databases that killed runs may have left were not looked for: {error}"));
    }
    if let Err(error) = super::rehearse::sweep_scratch(run).await {
        run.terminal.warn(&format!("scratch files that killed rehearsals may have left were not looked for: {error}"));
    }
}
