//! The commands around a restore, which stop the app and start it again however it ended, and those around a backup.
//!
//! Each runs in a process group of its own, so that Ctrl-C does not reach it and all of it can be ended.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nexus_core::error::{Error, Result};
use nexus_core::point::PointId;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::page::Page;
use crate::run::Run;
use crate::span::Span;
use crate::terminal::Terminal;

/// The keys by which the commands are told apart.
const BEFORE: &str = "before-restore";
const AFTER: &str = "after-restore";
/// Between being asked to end and being ended, when its time is over.
const MERCY: Duration = Duration::from_secs(2);
/// The same, on an interrupt.
const LITTLE_MERCY: Duration = Duration::from_millis(500);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the start of the app is waited for after an interrupt.
const AFTER_INTERRUPT: Duration = Duration::from_millis(1_500);

/// How long the command for what did not end well is waited for after an interrupt.
const FAILED_HASTILY: Duration = Duration::from_millis(700);

/// The commands of one restore.
#[derive(Clone)]
pub struct Hooks {
    before: Option<String>,
    after: Option<String>,
    point: String,
    terminal: Terminal,
    shell: Shell,
    /// The app is being started, or was: it is not started twice.
    starting: Rc<Cell<bool>>,
}

impl Hooks {
    /// Those of the settings, when there are any.
    pub fn of(run: &Run, point: &PointId) -> Option<Self> {
        let settings = &run.settings.hooks;
        (settings.before.is_some() || settings.after.is_some()).then(|| Self {
            before: settings.before.clone(),
            after: settings.after.clone(),
            point: point.to_string(),
            terminal: run.terminal.clone(),
            shell: Shell::of(run),
            starting: Rc::default(),
        })
    }

    /// Says in a plan what will be run.
    pub fn show(&self, page: &mut Page) {
        if self.before.is_some() {
            page.field("stops the app", format!("{BEFORE} of the configuration"));
        }
        if self.after.is_some() {
            page.field("starts the app", format!("{AFTER} of the configuration, however it ends"));
        }
    }

    /// Stops the app.
    ///
    /// # Errors
    ///
    /// [`Error::Local`] when it fails or takes too long: nothing may be restored then.
    pub async fn before(&self) -> Result<()> {
        let Some(command) = &self.before else { return Ok(()) };
        let ended = self.run(BEFORE, command, None).await;
        ended.map_err(|how| not_done(format!("{BEFORE} {how}, so nothing was restored")))
    }

    /// Starts the app again; it learns whether everything was restored.
    ///
    /// # Errors
    ///
    /// [`Error::Local`] when it fails or takes too long.
    pub async fn after(&self, restored: bool) -> Result<()> {
        let Some(command) = &self.after else { return Ok(()) };
        self.starting.set(true);
        let ended = self.run(AFTER, command, Some(restored)).await;
        ended.map_err(|how| not_done(format!("{AFTER} {how}: see whether the app runs")))
    }

    /// Starts the app again with the little time that is left; what takes longer goes on by itself.
    pub async fn after_interrupt(&self) {
        let Some(command) = &self.after else { return };
        if self.starting.replace(true) {
            self.terminal.warn(&format!("{AFTER} was running and goes on by itself: see whether the app runs"));
            return;
        }
        let mut running = match self.start(AFTER, command, Some(false)) {
            Ok(running) => running,
            Err(how) => {
                self.terminal.warn(&format!("{AFTER} {how}: the app was not started again"));
                return;
            }
        };
        // Ended with us it would leave the app stopped.
        running.outlives_us = true;
        match tokio::time::timeout(AFTER_INTERRUPT, running.child.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => self.terminal.warn(&format!("{AFTER} ended with {status}: see whether the app runs")),
            Ok(Err(_)) | Err(_) => self.terminal.warn(&format!(
                "{AFTER} takes longer than this run may, and goes on by itself as process {}: see whether the app runs",
                running.group.as_raw_nonzero()
            )),
        }
    }

    async fn run(&self, name: &str, command: &str, restored: Option<bool>) -> std::result::Result<(), String> {
        self.shell.run((name, command), &self.variables(restored), restored.is_some()).await
    }

    fn start(&self, name: &str, command: &str, restored: Option<bool>) -> std::result::Result<Running, String> {
        self.shell.start((name, command), &self.variables(restored))
    }

    fn variables(&self, restored: Option<bool>) -> Vec<(&'static str, String)> {
        let point = ("NEXUS_POINT", self.point.clone());
        let restored = restored.map(|restored| ("NEXUS_RESTORED", if restored { "yes" } else { "no" }.to_owned()));
        [point].into_iter().chain(restored).collect()
    }
}

/// Runs the commands of the configuration: where, for how long, and who hears what they say.
#[derive(Clone)]
struct Shell {
    patience: Span,
    folder: PathBuf,
    terminal: Terminal,
}

impl Shell {
    /// That of a run.
    fn of(run: &Run) -> Self {
        let settings = &run.settings.hooks;
        Self { patience: settings.patience, folder: settings.folder.clone(), terminal: run.terminal.clone() }
    }

    /// Runs a command to its end, or ends it when its time is over; `outlives_us`: dropped, it goes on. The error is how it
    /// did not end well, as the words that follow its name.
    async fn run(
        &self,
        (name, command): (&str, &str),
        variables: &[(&'static str, String)],
        outlives_us: bool,
    ) -> std::result::Result<(), String> {
        self.terminal.note(&format!("running {name}"));
        let mut running = self.start((name, command), variables)?;
        running.outlives_us = outlives_us;
        if let Ok(ended) = tokio::time::timeout(self.patience.duration(), running.child.wait()).await {
            running.over = true;
            return judged(ended);
        }
        running.end().await;
        Err(format!("did not end within {} and was ended", self.patience))
    }

    fn start(
        &self,
        (name, command): (&str, &str),
        variables: &[(&'static str, String)],
    ) -> std::result::Result<Running, String> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).current_dir(&self.folder);
        shell.envs(variables.iter().map(|(name, value)| (*name, value)));
        shell.stdin(Stdio::null()).stdout(self.terminal.for_children()).stderr(self.terminal.for_children());
        let failed = |cause: std::io::Error| format!("could not be run: {cause}");
        let child = shell.process_group(0).spawn().map_err(failed)?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = id.ok_or_else(|| format!("ended before it was known as a process: {name}"))?;
        Ok(Running { child, group, over: false, outlives_us: false })
    }
}

/// Runs the command before a backup: one that fails keeps it from being made.
///
/// # Errors
///
/// [`Error::Local`] when it fails or takes too long.
pub async fn before_backup(run: &Run) -> Result<()> {
    let Some(command) = &run.settings.hooks.before_backup else { return Ok(()) };
    let ended = Shell::of(run).run(("before", command), &[], false).await;
    ended.map_err(|how| not_done(format!("the hook `before` {how}, so nothing was backed up")))
}

/// Runs the command after a proven backup.
///
/// # Errors
///
/// [`Error::Local`] when it fails or takes too long: the point is there all the same.
pub async fn after_backup(run: &Run, point: &PointId) -> Result<()> {
    let Some(command) = &run.settings.hooks.after_backup else { return Ok(()) };
    let ended = Shell::of(run).run(("after", command), &[("NEXUS_POINT", point.to_string())], false).await;
    ended.map_err(|how| not_done(format!("{point} is committed and proven, but the hook `after` {how}")))
}

/// Runs the command for what did not end well; `hasty` after an interrupt. It changes nothing: that it fails is only told.
pub async fn failed(run: &Run, (status, reason): (u8, &str), hasty: bool) {
    let Some(command) = &run.settings.hooks.failed else { return };
    let variables = [
        ("NEXUS_VERB", run.verb.to_owned()),
        ("NEXUS_STATUS", status.to_string()),
        ("NEXUS_REASON", reason.to_owned()),
    ];
    let shell = Shell::of(run);
    let ran = shell.run(("failed", command), &variables, true);
    let ended = if hasty { tokio::time::timeout(FAILED_HASTILY, ran).await } else { Ok(ran.await) };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(how)) => run.terminal.warn(&format!("the hook `failed` {how}")),
        Err(_) => run.terminal.warn("the hook `failed` takes longer than this run may, and goes on by itself"),
    }
}

fn judged(ended: std::io::Result<ExitStatus>) -> std::result::Result<(), String> {
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ended with {status}")),
        Err(cause) => Err(format!("could not be waited for: {cause}")),
    }
}

fn not_done(what: String) -> Error {
    Error::Local { what, cause: None }
}

/// A command that was started; dropped, it is ended with everything it started, unless the app hangs on it.
struct Running {
    child: Child,
    group: Pid,
    over: bool,
    outlives_us: bool,
}

impl Running {
    fn send(&self, signal: Signal) {
        // One that is gone already is what is wanted.
        let _ = kill_process_group(self.group, signal);
    }

    async fn end(&mut self) {
        self.send(Signal::TERM);
        // What it says on its way out does not matter: its time was over.
        let _ = tokio::time::timeout(MERCY, self.child.wait()).await;
        self.send(Signal::KILL);
        let _ = self.child.wait().await;
        self.over = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.over || self.outlives_us {
            return;
        }
        self.send(Signal::TERM);
        let until = Instant::now() + LITTLE_MERCY;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK_EVERY);
        }
        self.send(Signal::KILL);
    }
}
