//! The probe and the command: started, waited for, ended.

use std::collections::BTreeMap;
use std::env::split_paths;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nexus_core::error::{Error, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::settings::Environment;

/// How long the command may take to end after it was told to.
const LAST_WAIT: Duration = Duration::from_secs(4);
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
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(cannot)?;
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

/// Fails when there is no such program, before anything is restored for it.
///
/// # Errors
///
/// [`Error::Usage`] naming it.
pub fn require(words: &[OsString], environment: &Environment) -> Result<()> {
    let program = Path::new(words.first().map_or(OsStr::new(""), OsString::as_os_str));
    let is_path = program.components().count() > 1 || program.is_absolute();
    let path = environment.variable("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = if is_path { vec![environment.folder.clone()] } else { split_paths(path).collect() };
    if folders.iter().any(|folder| environment.folder.join(folder).join(program).is_file()) {
        return Ok(());
    }
    let place = if is_path { "there" } else { "in PATH" };
    Err(Error::usage_hint(
        format!("cannot run `{}`: no such program is {place}", program.display()),
        "after -- come a program and its arguments; a line for a shell goes to `sh -c '…'`",
    ))
}

/// Starts the command with this terminal, its standard output going to `output`.
///
/// # Errors
///
/// [`Error::Missing`] when there is no such program; what else the system says.
pub fn start(
    words: &[OsString],
    (variables, environment): (&BTreeMap<String, String>, &Environment),
    output: Stdio,
) -> Result<Child> {
    let (program, arguments) = words.split_first().ok_or_else(|| Error::usage("no command was named"))?;
    let mut command = Command::new(program);
    command.args(arguments).envs(variables).current_dir(&environment.folder).stdout(output);
    command.spawn().map_err(|cause| Error::local(format!("cannot run `{}`", program.display()), cause))
}

/// Waits for its end.
///
/// # Errors
///
/// What the system says.
pub async fn wait(child: &mut Child) -> Result<ExitStatus> {
    child.wait().await.map_err(|cause| Error::local("cannot wait for the command", cause))
}

/// Tells it to end, and ends it when it does not.
pub async fn end(child: &mut Child) {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let Some(pid) = pid else { return };
    // One that has ended meanwhile is not there to be told: the wait shows it.
    let _ = kill_process(pid, Signal::TERM);
    if tokio::time::timeout(LAST_WAIT, child.wait()).await.is_err() {
        let _: io::Result<()> = child.kill().await;
    }
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
