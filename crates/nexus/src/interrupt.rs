//! Ctrl-C, SIGTERM and a terminal that goes away: the work is dropped, and if it cannot be, the process ends anyway.

use std::time::Duration;

use nexus_core::error::{Error, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::failure::INTERRUPTED;

/// Tells that a signal has come; clones hear the same one.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

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
        let (sender, receiver) = watch::channel(false);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(end_when_told(signals, &sender, grace)))
            .map_err(failed)?;
        Ok(Self(receiver))
    }

    /// True once a signal has come.
    pub fn has_come(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for a signal.
    pub async fn came(&mut self) {
        // An error means that the listening thread is gone, so no signal will ever be told.
        if self.0.wait_for(|came| *came).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

#[expect(clippy::exit, reason = "a second signal, or work that does not stop, must not keep the process alive")]
async fn end_when_told(mut signals: Signals, told: &watch::Sender<bool>, grace: Duration) {
    signals.next().await;
    // Nobody may be listening any more: then the process is ending already.
    let _ = told.send(true);
    let _ = tokio::time::timeout(grace, signals.next()).await;
    std::process::exit(i32::from(INTERRUPTED));
}
