//! Stages of the work as bars on a terminal, or as one line when each is over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nexus_core::event::Stage;

use crate::wording::{count, counted, size, took};

/// How often a bar is drawn anew at most.
const FRAMES_A_SECOND: u8 = 8;
/// How often a running stage leaves a line in the log at most.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// What a request costs beside the bytes it moves, in bytes: makes one bar fit many small files and few large ones.
const ITEM_COST: u64 = 64 * 1024;

/// The stages that run.
pub(super) struct Progress {
    bars: Option<MultiProgress>,
    running: HashMap<Stage, Running>,
}

struct Running {
    bar: Option<ProgressBar>,
    done: Amount,
    all: Option<Amount>,
    started: Instant,
    logged: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    items: u64,
    bytes: u64,
}

impl Amount {
    fn cost(self) -> u64 {
        self.items.saturating_mul(ITEM_COST).saturating_add(self.bytes)
    }

    fn words(self, stage: Stage) -> String {
        match (self.items, self.bytes) {
            (items, 0) => counted(items, noun(stage)),
            (0, bytes) => size(bytes),
            (items, bytes) => format!("{}, {}", counted(items, noun(stage)), size(bytes)),
        }
    }
}

/// What a stage counts.
fn noun(stage: Stage) -> &'static str {
    match stage {
        Stage::ListFiles | Stage::CopyFiles | Stage::CompareFiles | Stage::RestoreFiles | Stage::ReadFiles => "file",
        Stage::ExportRecords | Stage::LoadRecords | Stage::ReadRecords | Stage::CheckReferences => "row",
        Stage::CopyDatabase | Stage::CheckDatabase | Stage::RestoreDatabase | Stage::FetchDatabase => "page",
        Stage::UploadDatabase | Stage::UploadRecords | Stage::Verify | Stage::RestoreRecords | Stage::Remove => {
            "object"
        }
    }
}

impl Progress {
    pub(super) fn new(draws: bool) -> Self {
        let bars = draws.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(FRAMES_A_SECOND)));
        Self { bars, running: HashMap::new() }
    }

    /// Prints something while the bars are out of the way.
    pub(super) fn pause(&self, print: impl FnOnce()) {
        match &self.bars {
            Some(bars) if !self.running.is_empty() => bars.suspend(print),
            _ => print(),
        }
    }

    pub(super) fn start(&mut self, stage: Stage, items: Option<u64>, bytes: Option<u64>) {
        let all = match (items, bytes) {
            (None, None) => None,
            (items, bytes) => Some(Amount { items: items.unwrap_or(0), bytes: bytes.unwrap_or(0) }),
        };
        let now = Instant::now();
        let bar = self.bars.as_ref().map(|bars| bars.add(new_bar(stage, all)));
        let running = Running { bar, done: Amount::default(), all, started: now, logged: now };
        if let Some(Running { bar: Some(bar), .. }) = self.running.insert(stage, running) {
            bar.finish_and_clear();
        }
    }

    /// Counts; gives a line for the log when the last one is old enough.
    pub(super) fn advance(&mut self, stage: Stage, items: u64, bytes: u64) -> Option<String> {
        let running = self.running.get_mut(&stage)?;
        running.done.items = running.done.items.saturating_add(items);
        running.done.bytes = running.done.bytes.saturating_add(bytes);
        if let Some(bar) = &running.bar {
            bar.set_position(running.done.cost());
            bar.set_message(running.message(stage));
        }
        if running.logged.elapsed() < LOG_EVERY {
            return None;
        }
        running.logged = Instant::now();
        Some(format!("{}: {}", stage.title(), running.message(stage)))
    }

    /// Takes the stage's bar away; gives the line that says what it did.
    pub(super) fn end(&mut self, stage: Stage) -> Option<String> {
        let running = self.running.remove(&stage)?;
        if let Some(bar) = &running.bar {
            bar.finish_and_clear();
        }
        let time = took(u64::try_from(running.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        Some(match running.done {
            Amount { items: 0, bytes: 0 } => format!("{}: {time}", stage.title()),
            done => format!("{}: {} in {time}", stage.title(), done.words(stage)),
        })
    }

    pub(super) fn clear(&mut self) {
        for (_, running) in self.running.drain() {
            if let Some(bar) = running.bar {
                bar.finish_and_clear();
            }
        }
    }
}

impl Running {
    /// `1,204 of 17,541 files, 1.2 GB of 18.5 GB, 94.0 MB/s`.
    fn message(&self, stage: Stage) -> String {
        let mut parts = Vec::new();
        let all = self.all.unwrap_or_default();
        match (self.done.items, all.items) {
            (0, 0) => {}
            (items, 0) => parts.push(counted(items, noun(stage))),
            (items, all) => parts.push(format!("{} of {}", count(items), counted(all, noun(stage)))),
        }
        match (self.done.bytes, all.bytes) {
            (0, 0) => {}
            (bytes, 0) => parts.push(size(bytes)),
            (bytes, all) => parts.push(format!("{} of {}", size(bytes), size(all))),
        }
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if milliseconds > 1_000 {
            let rate = |amount: u64| amount.saturating_mul(1_000) / milliseconds;
            if self.done.items > 0 {
                parts.push(format!("{}/s", count(rate(self.done.items))));
            }
            if self.done.bytes > 0 {
                parts.push(format!("{}/s", size(rate(self.done.bytes))));
            }
        }
        parts.join(", ")
    }
}

fn new_bar(stage: Stage, all: Option<Amount>) -> ProgressBar {
    let (bar, template) = match all {
        Some(all) => (ProgressBar::new(all.cost().max(1)), "{prefix:22} {bar:20.cyan} {msg}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{prefix:22} {spinner} {elapsed} {msg}"),
    };
    // The default style stands in if a template were ever wrong.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("━━ "));
    bar.set_prefix(stage.title());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_stage_says_what_it_did() {
        let mut progress = Progress::new(false);
        progress.start(Stage::CopyFiles, Some(3), Some(30));
        progress.advance(Stage::CopyFiles, 1, 10);
        progress.advance(Stage::CopyFiles, 2, 20);
        let line = progress.end(Stage::CopyFiles).expect("a line");
        assert!(line.starts_with("copying files: 3 files, 30 bytes in "), "{line}");
        assert_eq!(progress.end(Stage::CopyFiles), None);
    }
}
