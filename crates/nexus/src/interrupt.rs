//! Ctrl-C, SIGTERM and a terminal that goes away: the work is dropped, and if it cannot be, the process ends anyway.
//!
//! A guard takes the signals itself while its command runs: they are the command's then, and end nothing here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nexus_core::error::{Error, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::failure::INTERRUPTED;
use crate::machine;

/// Tells that a signal has come; clones hear the same one.
#[derive(Debug, Clone)]
pub struct Interrupt {
    came: watch::Receiver<bool>,
    shared: Arc<Mutex<Shared>>,
}

/// Which signal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// The terminal has gone away.
    Hangup,
}

/// How a run that is interrupted now is said to have ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The exit status.
    pub status: u8,
    /// What it leaves behind.
    pub words: String,
}

impl Default for Ending {
    fn default() -> Self {
        let words = "interrupted; what was committed is whole, and the same command can be run again";
        Self { status: INTERRUPTED, words: words.to_owned() }
    }
}

/// What the listening thread and the work know together.
#[derive(Debug, Default)]
struct Shared {
    came: bool,
    taken: Option<mpsc::UnboundedSender<Told>>,
    ending: Ending,
}

/// Signals that end nothing for as long as this lives: whoever holds it has to see to them.
#[derive(Debug)]
pub struct Taken {
    signals: mpsc::UnboundedReceiver<Told>,
    shared: Arc<Mutex<Shared>>,
}

impl Interrupt {
    /// Listens from now on, on a thread of its own: work that keeps the runtime busy would not hear a signal.
    ///
    /// So long after the first signal, or at a second one, the process ends whatever it is doing.
    pub fn listen(grace: Duration) -> Result<Self> {
        let failed = |cause| Error::local("cannot listen for signals", cause);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let signals = {
            let _entered = runtime.enter();
            Signals::new().map_err(failed)?
        };
        let (sender, came) = watch::channel(false);
        let shared = Arc::<Mutex<Shared>>::default();
        let known = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(end_when_told(signals, &sender, &known, grace)))
            .map_err(failed)?;
        Ok(Self { came, shared })
    }

    /// True once a signal has come that nobody had taken.
    pub fn has_come(&self) -> bool {
        *self.came.borrow()
    }

    /// Waits for a signal.
    pub async fn came(&mut self) {
        // An error means that the listening thread is gone, so no signal will ever be told.
        if self.came.wait_for(|came| *came).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes the signals from now on; `None` when one has come already: then the run is ending.
    pub fn take(&self) -> Option<Taken> {
        let mut shared = locked(&self.shared);
        if shared.came {
            return None;
        }
        let (sender, signals) = mpsc::unbounded_channel();
        shared.taken = Some(sender);
        Some(Taken { signals, shared: Arc::clone(&self.shared) })
    }

    /// How a run that is interrupted now is said to have ended.
    pub fn ending(&self) -> Ending {
        locked(&self.shared).ending.clone()
    }

    /// Changes what an interruption from now on means.
    pub fn set_ending(&self, ending: Ending) {
        locked(&self.shared).ending = ending;
    }
}

impl Taken {
    /// Waits for a signal.
    pub async fn next(&mut self) -> Told {
        match self.signals.recv().await {
            Some(told) => told,
            // The listening thread is gone, so no signal will ever be told.
            None => std::future::pending().await,
        }
    }

    /// A signal that has come and was not asked for yet.
    pub fn waiting(&mut self) -> Option<Told> {
        self.signals.try_recv().ok()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        locked(&self.shared).taken = None;
    }
}

/// What is behind it is whole even if its last holder panicked.
fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Hands a signal to whoever has taken them; false when nobody has, and the run is to end.
    fn hand_on(&mut self, told: Told) -> bool {
        let taken = self.taken.as_ref().is_some_and(|taken| taken.send(told).is_ok());
        self.came = self.came || !taken;
        taken
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None where they are ignored, as `nohup` has it.
    hangup: Option<Signal>,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let hangup = if machine::ignores_hangups() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hangup })
    }

    async fn next(&mut self) -> Told {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Told::Interrupt,
            _ = self.terminate.recv() => Told::Terminate,
            _ = hangup => Told::Hangup,
        }
    }
}

#[expect(clippy::exit, reason = "a second signal, or work that does not stop, must not keep the process alive")]
async fn end_when_told(mut signals: Signals, came: &watch::Sender<bool>, shared: &Mutex<Shared>, grace: Duration) {
    loop {
        let told = signals.next().await;
        if !locked(shared).hand_on(told) {
            break;
        }
    }
    // Nobody may be listening any more: then the process is ending already.
    let _ = came.send(true);
    let _ = tokio::time::timeout(grace, signals.next()).await;
    let status = locked(shared).ending.status;
    std::process::exit(i32::from(status));
}
