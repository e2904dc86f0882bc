//! What an earlier run began and never ended, said by the next one: a guard's command, a restore that broke off.

use nexus_core::vault::Vault;
use nexus_core::vault::unended::{Unended, Work};

use crate::machine::{self, Seen};
use crate::run::{GUARD_VARIABLE, Run};
use crate::wording::{command_line, moment};

/// Processes that are named at most.
const MOST_PROCESSES: usize = 5;

/// Looks, and tells what there is to tell.
pub async fn tell(run: &Run, vault: &Vault) {
    let unended = match vault.unended(run.clock.now()).await {
        Ok(found) => found,
        Err(error) => {
            run.terminal.warn(&format!("whether an earlier guard or restore broke off could not be seen: {error}"));
            return;
        }
    };
    for found in unended {
        match &found.work {
            // Its own guard waits for this very run.
            Work::Guard { nonce, .. } if run.guarded_by.as_ref() == Some(nonce) => {}
            Work::Guard { .. } => tell_guard(run, &found),
            Work::Unreadable { entry, reason } => run.terminal.warn(&format!(
                "a guard of {} began, and its entry {entry} cannot be read ({reason}): how its command ended is not known",
                found.point
            )),
            // Its plan says what the one before it had done.
            Work::Restore { .. } if run.verb == "restore" => {}
            Work::Restore { at } => run.terminal.warn(&format!(
                "a restore of {} began at {} and has not said that it ended: it still runs, or broke off and left a state \
                 in between; the same command again goes on with it, for example `{}`",
                found.point,
                moment(*at),
                restore_command(run, &found)
            )),
        }
    }
}

fn tell_guard(run: &Run, found: &Unended) {
    let Unended { point, work: Work::Guard { at, nonce, machine, process } } = found else { return };
    let here = *machine == machine::name();
    let since = run.clock.now().duration_since(*at);
    if here && machine::has_run_this_program_for(*process, since) {
        run.terminal.note(&format!("the guard of {point} is at work: process {process}, since {}", moment(*at)));
        return;
    }
    let where_it_stands = if here {
        let mut seen = started_by(nonce);
        // What was there before the guard is none of its own.
        seen.hidden.retain(|id| !machine::is_older(*id, since));
        where_it_stands(&seen)
    } else {
        format!("whether it still runs can only be seen on {machine}")
    };
    run.terminal.warn(&format!(
        "the guard of {point} began at {} on {machine} and has not said how its command ended: {where_it_stands}; {point} \
         holds the state before it, and `{}` brings that back",
        moment(*at),
        restore_command(run, found)
    ));
}

fn where_it_stands(seen: &Seen) -> String {
    if !seen.processes.is_empty() {
        return format!("it, or what it has started, still runs as process {}", named(&seen.processes));
    }
    let seen = if seen.hidden.is_empty() { "" } else { ", as far as this user may look at processes" };
    format!("it was started, or just about to be, and does not run any more{seen}; how it ended is not known")
}

/// The processes that the command of a guard has left, or is.
pub fn started_by(nonce: &str) -> Seen {
    machine::processes_with(&format!("{GUARD_VARIABLE}={nonce}"))
}

/// The first few of them by their ids.
pub fn named(processes: &[u32]) -> String {
    let ids: Vec<String> = processes.iter().take(MOST_PROCESSES).map(ToString::to_string).collect();
    let more = if processes.len() > MOST_PROCESSES { " and more" } else { "" };
    format!("{}{more}", ids.join(", "))
}

fn restore_command(run: &Run, found: &Unended) -> String {
    let (id, reach) = (found.point.to_string(), run.reach());
    command_line(["nexus", "restore", &id].into_iter().chain(reach.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_looked_at_is_not_said_to_be_gone() {
        let told = |processes: &[u32], hidden: &[u32]| {
            where_it_stands(&Seen { processes: processes.to_vec(), hidden: hidden.to_vec() })
        };
        assert!(told(&[], &[]).contains("does not run any more; how it ended"));
        assert!(told(&[], &[9]).contains("does not run any more, as far as this user may look"));
        assert!(told(&[7, 8], &[9]).contains("still runs as process 7, 8"));
        assert!(told(&[1, 2, 3, 4, 5, 6], &[]).ends_with("5 and more"));
    }
}
