//! What this machine says of itself and of the processes on it, read from `/proc`.

use std::fs;

/// The number of SIGHUP.
const HANGUP: u32 = 1;
/// The field of `/proc/<pid>/stat` that says when the process began, counted from the one after the name
/// (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>).
const BEGUN: usize = 19;
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

/// True when a process of this id runs the program that this one runs.
pub fn runs_this_program(process: u32) -> bool {
    let program = |process: &str| fs::read_to_string(format!("/proc/{process}/comm")).ok();
    let theirs = program(&process.to_string());
    theirs.is_some() && theirs == program("self") && begun(process).is_some()
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

/// The processes that may be looked at and whose environment holds `NAME=value` as a whole, lowest id first.
pub fn processes_with(variable: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<u32> = ids.filter(|id| *id != std::process::id() && has(*id, variable)).collect();
    found.sort_unstable();
    found
}

fn has(process: u32, variable: &str) -> bool {
    let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    let looked_at = &environment[..environment.len().min(MOST_ENVIRONMENT)];
    looked_at.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
}
