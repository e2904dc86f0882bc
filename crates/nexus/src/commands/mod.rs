//! The verbs as a person meets them: settings in, core called, a page or JSON out.

mod adopt;
mod backup;
mod changed;
mod completions;
mod copy;
mod diff;
mod doctor;
mod drill;
mod find;
mod get;
mod guard;
mod history;
mod init;
mod list;
mod man;
mod pin;
mod prune;
pub mod references;
mod rehearse;
mod restore;
mod show;
pub mod state;
mod summary;
mod verify;

use nexus_core::error::{Error, Result};

use crate::cli::{DemoArgs, GuardArgs, SourceArgs, VaultArgs, Verb};
use crate::demo;
use crate::failure::{Failure, Outcome, Situation};
use crate::interrupt::Interrupt;
use crate::run::{self, Run};
use crate::seen::seen;
use crate::settings::{Environment, Settings};
use crate::terminal::Terminal;

/// Carries a verb out; `situation` learns what is known of the run, in case it fails.
pub async fn carry_out(
    verb: Verb,
    environment: &Environment,
    terminal: &Terminal,
    interrupt: &Interrupt,
    situation: &mut Situation,
) -> Result<Outcome> {
    let name = verb.name();
    let mut prepare = |vault: &VaultArgs, source: &SourceArgs| {
        let settings = Settings::load(environment, vault, source)?;
        *situation = run::situation(name, &settings);
        Run::prepare(name, settings, environment, terminal)
    };
    let none = SourceArgs::default();
    match verb {
        Verb::Completions(args) => Ok(completions::run(&args, terminal)),
        Verb::Man(args) => man::run(&args, terminal),
        Verb::Init(args) => run::until(init::run(&args, environment, terminal), interrupt).await,
        Verb::List(args) => {
            look(prepare(&args.vault, &none)?, interrupt, async |run| list::run(run, &args).await).await
        }
        Verb::Show(args) => {
            look(prepare(&args.vault, &none)?, interrupt, async |run| show::run(run, &args).await).await
        }
        Verb::Backup(args) => {
            let run = prepare(&args.vault, &args.source)?;
            let work = async || run.work(backup::run(&run, &args), interrupt).await;
            seen(&run, (&args.seen, args.dry_run), interrupt, work).await
        }
        Verb::Doctor(args) => {
            let run = prepare(&args.vault, &args.source)?;
            let work = async |unfinished: &mut _| doctor::run(&run, &args, unfinished).await;
            run.work_and_clear(work, async |unfinished| doctor::clear_up(unfinished).await, interrupt).await
        }
        Verb::Verify(args) => {
            let run = prepare(&args.vault, &none)?;
            let work = async || run.work(verify::run(&run, &args), interrupt).await;
            seen(&run, (&args.seen, false), interrupt, work).await
        }
        Verb::Drill(args) => {
            let source = SourceArgs { database: args.database.clone(), ..SourceArgs::default() };
            let run = prepare(&args.vault, &source)?;
            let drilled = async |unfinished: &mut _| drill::run(&run, &args, unfinished).await;
            let clear = async |unfinished| drill::clear_up(&run, unfinished).await;
            let work = async || run.work_and_clear(drilled, clear, interrupt).await;
            seen(&run, (&args.seen, args.dry_run), interrupt, work).await
        }
        Verb::Diff(args) => diff::look(&prepare(&args.vault, &SourceArgs::default())?, &args, interrupt).await,
        Verb::Restore(args) => {
            let run = prepare(&args.vault, &none)?;
            let work = async |unfinished: &mut restore::Unfinished| restore::run(&run, &args, unfinished).await;
            run.work_and_clear(work, async |unfinished| unfinished.clear_up(&run).await, interrupt).await
        }
        Verb::Adopt(args) => {
            look(prepare(&args.vault, &args.source)?, interrupt, async |run| adopt::run(run, &args).await).await
        }
        Verb::Copy(args) => {
            let run = prepare(&args.vault, &none)?;
            let copied = async |unfinished: &mut _| copy::run(&run, &args, unfinished).await;
            let clear = async |unfinished| copy::clear_up(&run, unfinished).await;
            let work = async || run.work_and_clear(copied, clear, interrupt).await;
            seen(&run, (&args.seen, args.dry_run), interrupt, work).await
        }
        Verb::Prune(args) => {
            let source = SourceArgs { records: args.records.clone(), ..SourceArgs::default() };
            let run = prepare(&args.vault, &source)?;
            let pruned = async |unfinished: &mut _| prune::run(&run, &args, unfinished).await;
            let clear = async |unfinished| prune::clear_up(&run, unfinished).await;
            let work = async || run.work_and_clear(pruned, clear, interrupt).await;
            seen(&run, (&args.seen, args.dry_run), interrupt, work).await
        }
        Verb::Pin(args) => {
            let run = prepare(&args.vault, &none)?;
            let pinned = async |unfinished: &mut _| pin::pin(&run, &args, unfinished).await;
            let clear = async |unfinished| copy::clear_up(&run, unfinished).await;
            run.work_and_clear(pinned, clear, interrupt).await
        }
        Verb::Unpin(args) => {
            look(prepare(&args.vault, &none)?, interrupt, async |run| pin::unpin(run, &args).await).await
        }
        Verb::Get(args) => look(prepare(&args.vault, &none)?, interrupt, async |run| get::run(run, &args).await).await,
        Verb::Find(args) => {
            look(prepare(&args.vault, &none)?, interrupt, async |run| find::run(run, &args).await).await
        }
        Verb::History(args) => {
            look(prepare(&args.vault, &none)?, interrupt, async |run| history::run(run, &args).await).await
        }
        Verb::Rehearse(args) => {
            let run = prepare(&args.vault, &none)?;
            Box::pin(rehearse::run(&run, &args, environment, interrupt)).await
        }
        Verb::Guard(args) => {
            let mut report = guard::Report::open(environment, args.report.as_deref())?;
            let done = guarded(prepare(&args.vault, &args.source), &args, (environment, interrupt), &mut report).await;
            if let Err(error) = &done {
                report.not_run(&Failure::of(error, situation));
            }
            report.write(terminal);
            done
        }
        Verb::Demo(args) => demo(&args, environment, terminal, interrupt).await,
    }
}

async fn guarded(
    run: Result<Run>,
    args: &GuardArgs,
    (environment, interrupt): (&Environment, &Interrupt),
    report: &mut guard::Report,
) -> Result<Outcome> {
    let run = run?;
    let work = async || guard::run(&run, args, (environment, interrupt), report).await;
    seen(&run, (&args.seen, args.dry_run), interrupt, work).await
}

/// Does what leaves nothing unfinished behind.
async fn look(run: Run, interrupt: &Interrupt, work: impl AsyncFnOnce(&Run) -> Result<Outcome>) -> Result<Outcome> {
    run.work(work(&run), interrupt).await
}

async fn demo(
    args: &DemoArgs,
    environment: &Environment,
    terminal: &Terminal,
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let (mut came, temporary) = (interrupt.clone(), environment.temporary());
    tokio::select! {
        biased;
        done = demo::run(args, &temporary, terminal, interrupt) => done,
        () = came.came() => Err(Error::usage("interrupted")),
    }
}
