//! The verbs as a person meets them: settings in, core called, a page or JSON out.

mod adopt;
mod backup;
mod changed;
mod completions;
mod copy;
mod diff;
mod doctor;
mod drill;
mod guard;
mod init;
mod list;
mod man;
mod pin;
mod prune;
mod rehearse;
mod restore;
mod show;
pub mod state;
mod summary;
mod verify;

use nexus_core::error::{Error, Result};

use crate::cli::{DemoArgs, SourceArgs, VaultArgs, Verb};
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
    match verb {
        Verb::Completions(args) => Ok(completions::run(&args, terminal)),
        Verb::Man(args) => man::run(&args, terminal),
        Verb::Init(args) => init::run(&args, environment, terminal),
        Verb::List(args) => {
            let run = prepare(&args.vault, &SourceArgs::default())?;
            run.work(list::run(&run, &args), interrupt).await
        }
        Verb::Show(args) => {
            let run = prepare(&args.vault, &SourceArgs::default())?;
            run.work(show::run(&run, &args), interrupt).await
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
            let run = prepare(&args.vault, &SourceArgs::default())?;
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
            let run = prepare(&args.vault, &SourceArgs::default())?;
            let work = async |unfinished: &mut restore::Unfinished| restore::run(&run, &args, unfinished).await;
            run.work_and_clear(work, async |unfinished| unfinished.clear_up(&run).await, interrupt).await
        }
        Verb::Adopt(args) => {
            let run = prepare(&args.vault, &args.source)?;
            run.work(adopt::run(&run, &args), interrupt).await
        }
        Verb::Copy(args) => {
            let run = prepare(&args.vault, &SourceArgs::default())?;
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
            let run = prepare(&args.vault, &SourceArgs::default())?;
            let pinned = async |unfinished: &mut _| pin::pin(&run, &args, unfinished).await;
            let clear = async |unfinished| copy::clear_up(&run, unfinished).await;
            run.work_and_clear(pinned, clear, interrupt).await
        }
        Verb::Unpin(args) => {
            let run = prepare(&args.vault, &SourceArgs::default())?;
            run.work(pin::unpin(&run, &args), interrupt).await
        }
        Verb::Rehearse(args) => {
            let run = prepare(&args.vault, &SourceArgs::default())?;
            Box::pin(rehearse::run(&run, &args, environment, interrupt)).await
        }
        Verb::Guard(args) => {
            let mut report = guard::Report::open(environment, args.report.as_deref())?;
            let done = match prepare(&args.vault, &args.source) {
                Ok(run) => {
                    let work = async || guard::run(&run, &args, (environment, interrupt), &mut report).await;
                    seen(&run, (&args.seen, args.dry_run), interrupt, work).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = &done {
                report.not_run(&Failure::of(error, situation));
            }
            report.write(terminal);
            done
        }
        Verb::Demo(args) => demo(&args, environment, terminal, interrupt).await,
    }
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
