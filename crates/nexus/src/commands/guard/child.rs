//! The command while it runs: signals that come are its own, and it is waited for however it ends.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::Child;
use tokio::signal::unix::{Signal as Heard, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::interrupt::{Taken, Told};

/// How long a command may take to end after a signal that asks it to.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long after such a signal this process is still there at most.
const GONE_AFTER: Duration = Duration::from_millis(4_700);
/// What a shell adds to the number of a signal.
const SIGNALLED: i32 = 128;
/// How a command is said to have ended when the system does not say.
const UNKNOWN: u8 = 1;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status, as a shell tells it: 128 and the signal for one that was killed.
    pub status: u8,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Set when this process was asked to end meanwhile: by then it has to be gone.
    pub gone_by: Option<Instant>,
}

impl Ended {
    /// True when it ended by itself with status 0.
    pub fn well(self) -> bool {
        self.status == 0
    }

    fn of(status: Option<ExitStatus>, gone_by: Option<Instant>) -> Self {
        let signal = status.and_then(|status| status.signal());
        let code = status.and_then(|status| status.code()).or(signal.map(|signal| SIGNALLED + signal));
        Self { status: code.and_then(|code| u8::try_from(code).ok()).unwrap_or(UNKNOWN), signal, gone_by }
    }
}

/// Signals that would end this process and are meant for the command.
pub struct Others {
    quit: Heard,
    first: Heard,
    second: Heard,
}

impl Others {
    /// Listens from now on.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            quit: signal(SignalKind::quit())?,
            first: signal(SignalKind::user_defined1())?,
            second: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.first.recv() => Signal::USR1,
            _ = self.second.recv() => Signal::USR2,
        }
    }
}

/// Waits for the command's end and hands signals on to it. One that asks to end leaves it [`PATIENCE`]; then it is killed.
pub async fn wait(mut child: Child, signals: &mut Taken, others: &mut Others) -> Ended {
    // Known until it has been waited for, so no stranger is hit.
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let send = |signal| {
        if let Some(id) = id {
            // It may have ended this moment.
            let _ = kill_process(id, signal);
        }
    };
    let mut killed_at: Option<Instant> = None;
    let mut gone_by: Option<Instant> = None;
    let ended = loop {
        let patience = async {
            match killed_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = child.wait() => break ended.ok(),
            told = signals.next() => {
                if handed_on(told, &send) && gone_by.is_none() {
                    gone_by = Some(Instant::now() + GONE_AFTER);
                    killed_at = Some(Instant::now() + PATIENCE);
                }
            }
            signal = others.next() => if !(signal == Signal::QUIT && has_the_terminal()) { send(signal) },
            () = patience => {
                send(Signal::KILL);
                killed_at = None;
            }
        }
    };
    while let Some(told) = signals.waiting() {
        if told != Told::Interrupt || !has_the_terminal() {
            gone_by.get_or_insert_with(|| Instant::now() + GONE_AFTER);
        }
    }
    Ended::of(ended, gone_by)
}

/// Hands a signal on; false for Ctrl-C on the terminal that both share, which the command has got already.
fn handed_on(told: Told, send: &impl Fn(Signal)) -> bool {
    match told {
        Told::Interrupt if has_the_terminal() => return false,
        Told::Interrupt => send(Signal::INT),
        Told::Terminate => send(Signal::TERM),
        Told::Hangup => send(Signal::HUP),
    }
    true
}

/// True when this process group is the one in front on its terminal: then the terminal's keys go to every process of it.
fn has_the_terminal() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}
