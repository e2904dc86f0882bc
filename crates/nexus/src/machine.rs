//! What this machine says of itself and of the processes on it, read from `/proc`.

use std::fs;
use std::io::ErrorKind;

use jiff::SignedDuration;

/// The number of SIGHUP.
const HANGUP: u32 = 1;
/// The field of `/proc/<pid>/stat` that says when the process began, counted from the one after the name
/// (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>).
const BEGUN: usize = 19;
/// Ticks in a second, as `/proc` counts them on every machine that this runs on.
const TICKS: i128 = 100;
/// How exactly the age of a process and the time of an entry can be compared.
const GRAIN: SignedDuration = SignedDuration::from_secs(2);
/// How much of a process's environment is looked at.
const MOST_ENVIRONMENT: usize = 4 << 20;

/// The machine's name.
pub fn name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

/// True when this process was started to live on without its terminal.
pub fn ignores_hangups() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (HANGUP - 1)) != 0
}

/// True when another process of this id runs the program that this one runs, and has for so long: ids are given again, and
/// in a container that is started anew the same one each time.
pub fn has_run_this_program_for(process: u32, time: SignedDuration) -> bool {
    let program = |process: &str| fs::read_to_string(format!("/proc/{process}/comm")).ok();
    let theirs = program(&process.to_string());
    if process == std::process::id() || theirs.is_none() || theirs != program("self") {
        return false;
    }
    begun(process).is_some() && !is_younger(process, time)
}

/// True when a process has surely not been there for so long; what the system does not say says nothing against it.
fn is_younger(process: u32, time: SignedDuration) -> bool {
    begun(process).and_then(age).is_some_and(|age| age + GRAIN < time)
}

/// True when a process has surely been there for longer.
pub fn is_older(process: u32, time: SignedDuration) -> bool {
    begun(process).and_then(age).is_some_and(|age| age > time + GRAIN)
}

/// How long ago a process began that began at this tick.
fn age(ticks: u64) -> Option<SignedDuration> {
    let up = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = up.split(' ').next()?.parse().ok()?;
    let up = SignedDuration::try_from_secs_f64(up).ok()?.as_millis();
    let age = i64::try_from(up - i128::from(ticks) * 1_000 / TICKS).ok()?;
    Some(SignedDuration::from_millis(age))
}

/// When a process began, in ticks since the machine did; `None` when it has ended, even if nobody has waited for it yet.
pub fn begun(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold blanks and brackets.
    let (_, after) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = after.split(' ').collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(BEGUN)?.parse().ok()
}

/// What a look at the environments of all processes came to.
#[derive(Debug, Default)]
pub struct Seen {
    /// The processes whose environment holds the variable, lowest id first; this one is none of them.
    pub processes: Vec<u32>,
    /// Processes that this user may not look at.
    pub hidden: Vec<u32>,
}

/// The processes whose environment holds `NAME=value` as a whole.
pub fn processes_with(variable: &str) -> Seen {
    let Ok(entries) = fs::read_dir("/proc") else { return Seen::default() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut seen = Seen::default();
    for id in ids.filter(|id| *id != std::process::id()) {
        match fs::read(format!("/proc/{id}/environ")) {
            Ok(environment) if has(&environment, variable) => seen.processes.push(id),
            Err(cause) if cause.kind() == ErrorKind::PermissionDenied => seen.hidden.push(id),
            // One that has ended meanwhile is not there; one of the system's own has no environment.
            Ok(_) | Err(_) => {}
        }
    }
    seen.processes.sort_unstable();
    seen
}

fn has(environment: &[u8], variable: &str) -> bool {
    let looked_at = &environment[..environment.len().min(MOST_ENVIRONMENT)];
    looked_at.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
}
