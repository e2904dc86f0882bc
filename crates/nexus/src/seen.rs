//! How a run is seen from outside: a file for Prometheus, pings, and the hook for what did not end well.
//!
//! None of it makes a good run a bad one, and none of it holds one up for long.

mod metrics;
mod ping;

use nexus_core::error::Result;

use crate::cli::SeenArgs;
use crate::failure::{Failure, INTERRUPTED, Outcome};
use crate::hooks;
use crate::interrupt::Interrupt;
use crate::run::{self, Run};
use metrics::MetricsFile;
use ping::Ping;

/// Does the work, and lets it be seen; a dry run is not.
///
/// # Errors
///
/// Those of the work; and before it, [`nexus_core::error::Error::Usage`] and its like for a metrics file that cannot be written or is
/// another's.
pub async fn seen(
    run: &Run,
    (args, dry_run): (&SeenArgs, bool),
    interrupt: &Interrupt,
    work: impl AsyncFnOnce() -> Result<Outcome>,
) -> Result<Outcome> {
    if dry_run {
        return work().await;
    }
    let flag = args.metrics_file.as_ref().map(|path| run.folder.join(path));
    let path = flag.or_else(|| run.settings.metrics_file.as_ref().map(|file| file.value.clone()));
    let metrics = path.map(|path| MetricsFile::begin(run, path)).transpose();
    // What keeps it from being begun is told like anything else that was not done.
    let (ping, metrics, done) = match (Ping::begin(run), metrics) {
        (Ok(ping), Ok(metrics)) => (ping, metrics, work().await),
        (Ok(ping), Err(error)) => (ping, None, Err(error)),
        (Err(error), metrics) => (None, metrics.ok().flatten(), Err(error)),
    };
    let hasty = interrupt.has_come();
    let (status, reason) = ended(run, &done, hasty);
    let told = async {
        if status != 0 {
            hooks::failed(run, (status, &reason), hasty).await;
        }
    };
    let written = async {
        if let Some(metrics) = metrics {
            metrics.end(run, status, hasty).await;
        }
    };
    let pinged = async {
        if let Some(ping) = ping {
            ping.end(run, status, hasty).await;
        }
    };
    futures::join!(told, written, pinged);
    done
}

/// The status that this run will end with, and why it is not 0.
fn ended(run: &Run, done: &Result<Outcome>, interrupted: bool) -> (u8, String) {
    match done {
        // A guard's command that took the signal has a status of its own.
        Ok(outcome) if outcome.status() == 0 || !interrupted => {
            let reason = match outcome {
                Outcome::Done => "",
                Outcome::Bad => "done, and the answer is bad",
                Outcome::Passed(_) => "the command, or what was to be checked after it, did not end well",
            };
            (outcome.status(), reason.to_owned())
        }
        _ if interrupted => (INTERRUPTED, "interrupted".to_owned()),
        Ok(outcome) => (outcome.status(), String::new()),
        Err(error) => {
            let failure = Failure::of(error, &run::situation(run.verb, &run.settings));
            (failure.status, failure.lines.join(": "))
        }
    }
}
