//! After the command: the checks, the restore or the command for it, the journal's last word, what changed.
//!
//! Nothing here changes the exit status but a check: how the command ended is passed on whatever else fails.

use std::time::Duration;

use nexus_core::point::{GuardOutcome, JournalEvent};
use nexus_core::vault::RecoveryPoint;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::account::{self, Account};
use super::checks::{Asked, Checks};
use super::child::Ended;
use super::report::Report;
use crate::aftermath::{named, started_by};
use crate::cli::OutputArgs;
use crate::cli::{GuardArgs, RestoreArgs, RowsArgs, TablesArgs, TargetArgs, VaultArgs};
use crate::commands::restore::{self, Restored};
use crate::commands::summary;
use crate::failure::{DAMAGE, Failure, Outcome, Situation};
use crate::interrupt::{Ending, Interrupt, Taken};
use crate::run::{Run, situation, until};
use crate::wording::took;

/// How long the journal is waited for when a signal has come and nothing else is to be done.
const LAST_WORD: Duration = Duration::from_millis(1_500);

/// A command that has ended, and all that is known by then.
pub struct Aftermath<'a> {
    pub run: &'a Run,
    pub args: &'a GuardArgs,
    pub point: &'a RecoveryPoint,
    pub ended: Ended,
    /// The nonce of the entry that announced it.
    pub started: String,
    /// How long the command ran.
    pub took: Duration,
}

/// What came of it.
struct Found {
    asked: Vec<Asked>,
    /// True when a check did not hold, and until all were made.
    violated: bool,
    restored: bool,
    said: bool,
    account: Option<Account>,
    /// What must be done when the restore is broken off.
    unfinished: restore::Unfinished,
}

/// The entry of a guard whose command was not run after all.
pub fn not_run(started: String) -> JournalEvent {
    JournalEvent::GuardEnded { started, outcome: GuardOutcome::NotRun, status: None, restored: false }
}

/// Says it in the point's journal; a failure is told and changes nothing.
pub async fn say(run: &Run, point: &RecoveryPoint, event: JournalEvent) {
    if let Err(error) = point.journal().add(event, &run.clock).await {
        run.terminal.warn(&format!("the point's journal does not say how the command ended: {error}"));
    }
}

impl Aftermath<'_> {
    /// Sees to all of it, as far as signals leave time, and answers the status to pass on.
    pub async fn see_to(
        &self,
        checks: &Checks<'_>,
        (interrupt, signals): (&Interrupt, Taken),
        report: &mut Report,
    ) -> Outcome {
        let violated = !checks.is_empty();
        let mut found = Found {
            asked: Vec::new(),
            violated,
            restored: false,
            said: false,
            account: None,
            unfinished: restore::Unfinished::default(),
        };
        self.foresee(interrupt, &found);
        // From here on a signal ends this run.
        drop(signals);
        self.tell_left();
        if let Some(gone_by) = self.ended.gone_by {
            self.in_a_hurry(&found, gone_by).await;
        } else {
            let work = async {
                self.at_leisure(checks, interrupt, &mut found).await;
                Ok(())
            };
            if until(work, interrupt).await.is_err() {
                // The app and the journal wait for no bucket that does not answer.
                futures::join!(self.broken_off(&mut found), self.run.give_up_uploads());
            }
        }
        self.fill(report, &found);
        Outcome::Passed(self.status(&found))
    }

    /// The status to pass on.
    fn status(&self, found: &Found) -> u8 {
        if self.ended.well() && found.violated { DAMAGE } else { self.ended.status }
    }

    /// Says how this run ends when a signal comes from now on.
    fn foresee(&self, interrupt: &Interrupt, found: &Found) {
        let unmade = if found.violated && found.asked.is_empty() { ", before the checks were made" } else { "" };
        let words = format!("interrupted after {}{unmade}; {}", self.words(), self.way_back());
        interrupt.set_ending(Ending { status: self.status(found), words });
    }

    /// The checks, then the restore or the command for it, then the journal.
    async fn at_leisure(&self, checks: &Checks<'_>, interrupt: &Interrupt, found: &mut Found) {
        found.asked = checks.ask_all().await;
        found.violated = self.tell_checks(&found.asked);
        self.foresee(interrupt, found);
        if self.ended.well() && !found.violated {
            let note = format!("{}; {} holds the state before it", self.words(), self.point.id());
            self.run.terminal.note(&note);
        } else if self.args.failing.restore_on_failure {
            self.tell_failure(found, &format!("{} is restored now, as asked: wait for it", self.point.id()));
            found.restored = self.restore(&mut found.unfinished).await;
            if found.restored {
                let words = format!("{} was restored: the state before the command is back", self.point.id());
                self.run.terminal.warn(&words);
                self.tell_left();
            }
        } else {
            self.tell_failure(found, &self.way_back());
        }
        say(self.run, self.point, self.last_word(found)).await;
        found.said = true;
        // What was restored has changed by nothing.
        if !found.restored && !self.args.no_account {
            found.account = self.account(checks).await;
        }
    }

    async fn account(&self, checks: &Checks<'_>) -> Option<Account> {
        match account::take(self.run, self.point, checks.database()).await {
            Ok(account) => {
                self.run.terminal.aside(&account.page(self.point));
                Some(account)
            }
            Err(error) => {
                let told = Failure::of(&error, &Situation::default()).lines.join(": ");
                self.run.terminal.warn(&format!("what changed since {} cannot be told: {told}", self.point.id()));
                None
            }
        }
    }

    /// This process was asked to end while the command ran: only what cannot be left out.
    async fn in_a_hurry(&self, found: &Found, gone_by: Instant) {
        if found.violated {
            self.run.terminal.warn("a signal came, so the checks were not made");
        }
        if !self.ended.well() || found.violated {
            self.tell_failure(found, &self.way_back());
        }
        self.say_by(gone_by, self.last_word(found)).await;
    }

    /// A signal came after the command had ended.
    async fn broken_off(&self, found: &mut Found) {
        let unfinished = std::mem::take(&mut found.unfinished);
        let remove = unfinished.clear_up(self.run);
        let tell = async {
            if !found.said {
                let word = self.last_word(found);
                self.say_by(Instant::now() + LAST_WORD, word).await;
            }
        };
        futures::join!(remove, tell);
    }

    async fn say_by(&self, when: Instant, event: JournalEvent) {
        if timeout_at(when, say(self.run, self.point, event)).await.is_err() {
            self.run.terminal.warn("the point's journal does not say how the command ended: there was no time for it");
        }
    }

    fn last_word(&self, found: &Found) -> JournalEvent {
        let outcome = match self.ended {
            Ended { signal: Some(_), .. } => GuardOutcome::Killed,
            ended if !ended.well() => GuardOutcome::Failed,
            _ if found.violated => GuardOutcome::Violated,
            _ => GuardOutcome::Succeeded,
        };
        let (started, status) = (self.started.clone(), Some(self.ended.status));
        JournalEvent::GuardEnded { started, outcome, status, restored: found.restored }
    }

    /// Tells what the checks found; true when one did not hold.
    fn tell_checks(&self, asked: &[Asked]) -> bool {
        for check in asked.iter().filter(|check| !check.holds()) {
            match &check.answer {
                Ok(violations) => {
                    let more = if violations.more { ", and more" } else { "" };
                    let rows = violations.rows.join("; ");
                    self.run.terminal.warn(&format!("the check `{}` must answer no row: {rows}{more}", check.sql));
                }
                Err(error) => {
                    let told = Failure::of(error, &Situation::default()).lines.join(": ");
                    self.run.terminal.warn(&format!("a check could not be made: {told}"));
                }
            }
        }
        asked.iter().any(|check| !check.holds())
    }

    /// Tells what the command has left behind: it may go on changing what was checked, counted or restored.
    fn tell_left(&self) {
        let left = started_by(&self.started).processes;
        if !left.is_empty() {
            let words = format!(
                "what the command has started still runs as process {}, and may go on changing things",
                named(&left)
            );
            self.run.terminal.warn(&words);
        }
    }

    fn tell_failure(&self, found: &Found, hint: &str) {
        let words = if self.ended.well() && found.violated {
            format!("{}, and not every check holds", self.words())
        } else {
            self.words()
        };
        self.run.terminal.error(&[words], Some(hint));
    }

    /// How the command ended.
    fn words(&self) -> String {
        let after = took(milliseconds(self.took));
        match self.ended.signal {
            Some(signal) => format!("the command was killed by signal {signal} after {after}"),
            None => format!("the command ended with status {} after {after}", self.ended.status),
        }
    }

    /// The command that brings back the state before.
    fn way_back(&self) -> String {
        format!("`{}` brings back the state before it", self.restore_command())
    }

    fn restore_command(&self) -> String {
        let failing = &self.args.failing;
        let flags = [
            (failing.delete_extra, "--delete-extra"),
            (failing.end_sessions, "--end-sessions"),
            (failing.no_owner, "--no-owner"),
            (failing.in_place, "--in-place"),
        ];
        let flags: Vec<&str> = flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag).collect();
        summary::restore_command_with(self.run, self.point, &flags)
    }

    /// Restores the point; true when all of it is as it was.
    async fn restore(&self, unfinished: &mut restore::Unfinished) -> bool {
        let again = format!("`{}` goes on with it", self.restore_command());
        match Box::pin(restore::carry_out(self.run, &self.restore_args(), unfinished)).await {
            // That the app does not run has been told.
            Ok(Restored::Equal | Restored::EqualAndStopped) => true,
            Ok(Restored::Different | Restored::Planned) => {
                let line = format!("{} was restored, and not everything is as it was", self.point.id());
                self.run.terminal.error(&[line], Some(&again));
                false
            }
            Err(error) => {
                let failure = Failure::of(&error, &situation("restore", &self.run.settings));
                let mut lines = vec![format!("{} is NOT restored", self.point.id())];
                lines.extend(failure.lines);
                // The same command alone would fail the same way.
                let hint = failure.hint.map_or_else(|| again.clone(), |hint| format!("{hint}; {again}"));
                self.run.terminal.error(&lines, Some(&hint));
                false
            }
        }
    }

    fn restore_args(&self) -> RestoreArgs {
        RestoreArgs {
            point: self.point.id().to_string(),
            only: Vec::new(),
            category: Vec::new(),
            key: Vec::new(),
            delete_extra: self.args.failing.delete_extra,
            end_sessions: self.args.failing.end_sessions,
            no_owner: self.args.failing.no_owner,
            in_place: self.args.failing.in_place,
            no_safety_point: false,
            dry_run: false,
            yes: true,
            confirm: Vec::new(),
            rows: RowsArgs::default(),
            tables: TablesArgs::default(),
            target: TargetArgs::default(),
            vault: VaultArgs::default(),
            output: OutputArgs::default(),
        }
    }

    fn fill(&self, report: &mut Report, found: &Found) {
        if let JournalEvent::GuardEnded { outcome, .. } = self.last_word(found) {
            report.say("outcome", json!(outcome));
        }
        report.say("exit_status", self.status(found).into());
        report.say("restore_command", self.restore_command().into());
        report.say(
            "command",
            json!({
                "status": self.ended.status,
                "signal": self.ended.signal,
                "milliseconds": milliseconds(self.took),
            }),
        );
        report.say("checks", found.asked.iter().map(check).collect::<Vec<Value>>().into());
        report.say("changes", found.account.as_ref().map_or(Value::Null, Account::json));
        report.say("restored", found.restored.into());
    }
}

fn check(asked: &Asked) -> Value {
    let found = asked.answer.as_ref().ok();
    json!({
        "sql": asked.sql,
        "holds": asked.holds(),
        "rows": found.map(|found| &found.rows),
        "more": found.map(|found| found.more),
        "error": asked.answer.as_ref().err().map(|error| Failure::of(error, &Situation::default()).lines),
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
