//! `nexus`: reads the command line, runs the verb, tells how it ended. An index; the work is elsewhere.

mod aftermath;
mod cli;
mod commands;
mod config;
mod connect;
mod demo;
mod failure;
mod hooks;
mod interrupt;
mod machine;
mod page;
mod program;
mod rate;
mod run;
mod seen;
mod settings;
mod span;
mod terminal;
mod wording;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nexus_core::error::{Error, Result};

use cli::{Cli, OutputArgs};
use failure::{Failure, GUARD, NOT_DONE, NOT_RUN, Situation};
use interrupt::Interrupt;
use settings::Environment;
use terminal::Terminal;

/// Threads for work that blocks: files and databases, not sockets.
const BLOCKING_THREADS: usize = 4;
/// How long such work may take to end after a signal.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// How long a process lives after a signal beyond what its verb needs to end.
const GRACE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let environment = environment();
    let no_colour = environment.variable("NO_COLOR").is_some();
    let plain = Terminal::unlogged(&OutputArgs::default(), no_colour);
    let cli = match Cli::try_parse_from(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            plain.usage(&error);
            return ExitCode::from(usage_status(&error));
        }
    };
    let output = cli.verb.output();
    let mut opened = Terminal::open(&output, no_colour);
    if cli.verb.leaves_stdout_to_another() {
        opened = opened.map(|terminal| terminal.off_stdout());
    }
    let terminal = match &opened {
        Ok(terminal) => terminal.clone(),
        Err(_) => Terminal::unlogged(&output, no_colour),
    };
    let mut situation = Situation { verb: cli.verb.name(), ..Situation::default() };
    let ended = opened.and_then(|terminal| carry_out(cli, &environment, &terminal, &mut situation));
    terminal.clear();
    let status = match ended {
        Ok(status) => status,
        Err(error) => told(&error, &situation, &terminal),
    };
    match terminal.check() {
        Ok(()) => ExitCode::from(status),
        // What a guard could not say changes nothing about how its command ended, or why it was not run.
        Err(error) if situation.verb == GUARD => {
            terminal.warn(&Failure::of(&error, &Situation::default()).lines.join(": "));
            ExitCode::from(status)
        }
        Err(error) => ExitCode::from(told(&error, &situation, &terminal)),
    }
}

/// The exit status of a command line that cannot be carried out.
fn usage_status(error: &clap::Error) -> u8 {
    let guards = std::env::args_os().nth(1).is_some_and(|word| word == GUARD);
    if guards && error.use_stderr() { NOT_RUN } else { u8::try_from(error.exit_code()).unwrap_or(NOT_DONE) }
}

/// Runs the verb until it ends or a signal comes.
fn carry_out(cli: Cli, environment: &Environment, terminal: &Terminal, situation: &mut Situation) -> Result<u8> {
    let last_wait = cli.verb.last_wait();
    let interrupt = Interrupt::listen(last_wait + GRACE)?;
    allow_open_files();
    // One thread serves all sockets: the work is the service's, and each thread more costs this machine.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|cause| Error::local("cannot start the runtime", cause))?;
    let ended = runtime.block_on(async {
        let mut verb = std::pin::pin!(commands::carry_out(cli.verb, environment, terminal, &interrupt, situation));
        let mut interrupt = interrupt.clone();
        tokio::select! {
            biased;
            ended = &mut verb => if interrupt.has_come() { None } else { Some(ended) },
            () = interrupt.came() => {
                // It stops at once, and has a moment to leave nothing half-sent behind.
                let _ = tokio::time::timeout(last_wait, verb).await;
                None
            }
        }
    });
    runtime.shutdown_timeout(LAST_WAIT);
    if let Some(ended) = ended {
        let outcome = ended?;
        // Damage was found, or a restore differs: somebody will want to ask.
        if matches!(outcome, failure::Outcome::Bad) {
            terminal.contacts(&situation.contacts);
        }
        return Ok(outcome.status());
    }
    let ending = interrupt.ending();
    terminal.warn(&ending.words);
    Ok(ending.status)
}

/// Takes as many open files as this process may have: listings of several points that are read side by side lie in a file each, and
/// what a login allows at first is mostly 1,024 (`getrlimit(2)`).
fn allow_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where that is not allowed, it goes on with those that it has.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn told(error: &Error, situation: &Situation, terminal: &Terminal) -> u8 {
    let failure = Failure::of(error, situation);
    terminal.error(&failure.lines, failure.hint.as_deref());
    terminal.contacts(&failure.contacts);
    if terminal.wants_json() && !terminal.has_answered() {
        terminal.json(&failure.json());
    }
    failure.status
}

/// The environment of this process; what is not UTF-8 is read as far as it can be.
fn environment() -> Environment {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    Environment { variables, folder: std::env::current_dir().unwrap_or_else(|_| "/".into()), given: None }
}
