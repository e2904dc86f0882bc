//! `guard`: a point, proven, then a command exactly once, then what became of it.
//!
//! The command is started in one place, after the point's journal has said so and while no signal has come. Whatever goes
//! wrong before is an error, and after it nothing is.

mod account;
mod checks;
mod child;
mod ending;
mod report;

use std::time::Instant;

use nexus_core::backup::BackupReport;
use nexus_core::error::{Error, Result};
use nexus_core::files::capture::Vanished;
use nexus_core::point::JournalEvent;
use nexus_core::vault::RecoveryPoint;

use super::backup::{self, Choices};
use super::summary;
use crate::cli::GuardArgs;
use crate::failure::{NOT_RUN, Outcome};
use crate::interrupt::{Ending, Interrupt};
use crate::machine;
use crate::program::{Program, Unfit};
use crate::run::{GUARD_VARIABLE, POINT_VARIABLE, Run};
use crate::settings::Environment;
use crate::wording::command_line;
use checks::Checks;
use child::Others;
use ending::Aftermath;
pub use report::Report;

/// Makes the point, runs the command, and tells how it ended; an error means that the command was not run.
pub async fn run(
    run: &Run,
    args: &GuardArgs,
    (environment, interrupt): (&Environment, &Interrupt),
    report: &mut Report,
) -> Result<Outcome> {
    let words = "interrupted before the command was started: it was not run, and the same command can be run again";
    interrupt.set_ending(Ending { status: NOT_RUN, words: words.to_owned() });
    if args.output.json {
        return Err(Error::usage_hint(
            "--json is not for guard: stdout is the command's",
            "--report FILE writes what became of it into a file, as JSON",
        ));
    }
    let program = match Program::find(&args.command, environment) {
        Ok(program) => program,
        Err(unfit) => return Ok(told_unfit(run, &unfit, report)),
    };
    let checks = Checks::of(run, &args.check)?;
    if args.dry_run {
        report.say("dry_run", true.into());
        return run.work(preview(run, args, &checks), interrupt).await;
    }
    // It is large: kept off the stack.
    let point = Box::pin(run.work(proven(run, args, &checks), interrupt)).await?.point;
    report.say("point", point.id().to_string().into());
    report.say("vault", point.vault().address().to_string().into());
    report.say("restore_command", summary::restore_command(run, &point).into());
    once(run, args, (&program, &point, &checks), interrupt, report).await
}

/// Starts the command, waits for it, and sees to what follows.
async fn once(
    run: &Run,
    args: &GuardArgs,
    (program, point, checks): (&Program, &RecoveryPoint, &Checks<'_>),
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<Outcome> {
    let started = announce(run, point).await?;
    // The last look: from here on signals are the command's. One that comes before ends this process, whichever it is.
    let taken = interrupt.take().ok_or_else(|| Error::usage("interrupted"));
    let heard = || Others::listen().map_err(|cause| Error::local("cannot listen for signals", cause));
    let (mut signals, mut others) = match taken.and_then(|signals| Ok((signals, heard()?))) {
        Ok(both) => both,
        Err(error) => {
            ending::say(run, point, ending::not_run(started)).await;
            return Err(error);
        }
    };
    run.terminal.clear();
    let begun = Instant::now();
    let named = |command: &mut tokio::process::Command| {
        command.env(POINT_VARIABLE, point.id().to_string()).env(GUARD_VARIABLE, &started);
    };
    let child = match program.start(&named) {
        Ok(child) => child,
        Err(unfit) => {
            drop(signals);
            ending::say(run, point, ending::not_run(started)).await;
            return Ok(told_unfit(run, &unfit, report));
        }
    };
    let ended = child::wait(child, &mut signals, &mut others).await;
    let aftermath = Aftermath { run, args, point, ended, started, took: begun.elapsed() };
    // It is large: kept off the stack.
    Ok(Box::pin(aftermath.see_to(checks, (interrupt, signals), report)).await)
}

/// A point of all parts, committed and proven, and nothing of it missing where people look for it.
async fn proven(run: &Run, args: &GuardArgs, checks: &Checks<'_>) -> Result<BackupReport> {
    checks.try_all().await?;
    let made = backup::make(run, &choices(run, args)).await?;
    backup::tell(run, &made);
    if backup::is_proven(&made) && made.records_unplaced.is_none() {
        crate::hooks::after_backup(run, made.point.id()).await?;
        return Ok(made);
    }
    let id = made.point.id().to_string();
    let reach = run.reach();
    let again = command_line(["nexus", "verify", &id].into_iter().chain(reach.iter().map(String::as_str)));
    Err(Error::usage_hint(
        format!("{id} is committed, and not all of it could be proven"),
        format!("`{again}` looks at it again; then start over"),
    ))
}

fn choices(run: &Run, args: &GuardArgs) -> Choices {
    let label = args.label.clone().unwrap_or_else(|| run.settings.label.clone());
    Choices { label, only: Vec::new(), copies: None, vanished: Vanished::Fail }
}

/// Shows what would be taken, after the same look at the checks.
async fn preview(run: &Run, args: &GuardArgs, checks: &Checks<'_>) -> Result<Outcome> {
    checks.try_all().await?;
    let outcome = backup::preview(run, &choices(run, args)).await?;
    run.terminal.note("a dry run: nothing was backed up, and the command was not run");
    Ok(match outcome {
        Outcome::Done => Outcome::Done,
        Outcome::Bad | Outcome::Passed(_) => Outcome::Passed(NOT_RUN),
    })
}

/// Says in the point's journal that its command is about to be started; answers the entry's nonce.
async fn announce(run: &Run, point: &RecoveryPoint) -> Result<String> {
    let started = JournalEvent::GuardStarted { machine: machine::name(), process: std::process::id() };
    Ok(point.journal().add(started, &run.clock).await?.nonce)
}

fn told_unfit(run: &Run, unfit: &Unfit, report: &mut Report) -> Outcome {
    run.terminal.error(&unfit.lines, Some(&unfit.hint));
    report.not_run(&unfit.failure());
    Outcome::Passed(unfit.status)
}
