//! The probe and the command: started, waited for, ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nexus_core::error::{Error, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::machine;
use crate::program::Program;
use crate::settings::Environment;

/// How long the command may take to end after it was told to.
const LAST_WAIT: Duration = Duration::from_secs(4);
/// How often it is looked whether all of them have ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the probe may take.
const PROBE_WAIT: Duration = Duration::from_mins(1);
/// The most that is read of what the probe prints.
const PROBE_READS: u64 = 1 << 20;

/// What to do about a probe that does not do.
const PROBE_HINT: &str = "the probe must succeed and print the database, and with files the bucket and prefix, that the \
    application's own settings lead to; [rehearse.environment] sets the variables that those are read from. What it prints is \
    not shown, since it may hold a password: run it by hand to see it";

/// A text that the probe must print, and what it stands for.
pub type Expected = (&'static str, String);

/// Runs the probe, which must print all that is expected.
///
/// # Errors
///
/// [`Error::Usage`] when it does not, or fails.
pub async fn probe(
    probe: &str,
    (variables, environment): (&BTreeMap<String, String>, &Environment),
    expected: &[Expected],
) -> Result<()> {
    let cannot = |cause| Error::local("cannot run the probe", cause);
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(probe).envs(variables).current_dir(&environment.folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(cannot)?;
    let group = Group::of(&child);
    let mut printed = Vec::new();
    let ended = tokio::time::timeout(PROBE_WAIT, async {
        if let Some(output) = child.stdout.take() {
            output.take(PROBE_READS).read_to_end(&mut printed).await?;
        }
        child.wait().await
    });
    let late = |_| {
        let what = format!("the probe did not end within {} s; the command was not run", PROBE_WAIT.as_secs());
        Error::usage_hint(what, PROBE_HINT)
    };
    let status = ended.await.map_err(late)?.map_err(cannot)?;
    group.ended();
    if !status.success() {
        return Err(Error::usage_hint(
            format!("the probe failed ({}); the command was not run", told(status)),
            PROBE_HINT,
        ));
    }
    let printed = String::from_utf8_lossy(&printed);
    let Some((what, text)) = expected.iter().find(|(_, text)| !printed.contains(text.as_str())) else { return Ok(()) };
    Err(Error::usage_hint(
        format!(
            "the command would not work on the scratch: the probe does not print {what} {text:?}; the command was not run"
        ),
        PROBE_HINT,
    ))
}

/// The processes of a probe; dropped, all that are still there are ended.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(pid(child))
    }

    /// The leader has ended by itself: its number may be another's by now.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // One that is gone already is what is wanted.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    child.id().and_then(raw)
}

fn raw(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

/// Fails when there is no such program, before anything is restored for it.
///
/// # Errors
///
/// [`Error::Usage`] naming it.
pub fn require(words: &[OsString], environment: &Environment) -> Result<()> {
    Program::find(words, environment).map(drop).map_err(|unfit| unfit.error())
}

/// Starts the command with this terminal, its standard output going to where `output` says.
///
/// # Errors
///
/// [`Error::Usage`] when there is no such program, or it cannot be run.
pub fn start(
    words: &[OsString],
    (variables, environment): (&BTreeMap<String, String>, &Environment),
    output: &dyn Fn() -> Stdio,
) -> Result<Child> {
    let mut around = environment.clone();
    around.variables.extend(variables.clone());
    let program = Program::find(words, &around).map_err(|unfit| unfit.error())?;
    let set_up = |command: &mut Command| {
        command.envs(variables).current_dir(&environment.folder).stdout(output());
    };
    program.start(&set_up).map_err(|unfit| unfit.error())
}

/// Waits for its end.
///
/// # Errors
///
/// What the system says.
pub async fn wait(child: &mut Child) -> Result<ExitStatus> {
    child.wait().await.map_err(|cause| Error::local("cannot wait for the command", cause))
}

/// Tells it to end, and all that it has started and bears the mark `NAME=value`; ends what does not.
pub async fn end(child: &mut Child, mark: &str) {
    // One that has ended meanwhile is not there to be told: the wait shows it.
    let tell = |of: Vec<u32>, signal| {
        for pid in of.into_iter().filter_map(raw) {
            let _ = kill_process(pid, signal);
        }
    };
    let others = left(mark).into_iter().filter(|id| child.id() != Some(*id));
    tell(others.chain(child.id()).collect(), Signal::TERM);
    let gone = async {
        let _: io::Result<ExitStatus> = child.wait().await;
        while !left(mark).is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(LAST_WAIT, gone).await.is_err() {
        tell(left(mark), Signal::KILL);
        let _: io::Result<()> = child.kill().await;
    }
}

/// What the command has started that still runs.
pub fn left(mark: &str) -> Vec<u32> {
    machine::processes_with(mark).processes
}

/// How a process ended: `exit status 1`, `signal 9`.
pub fn told(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}
