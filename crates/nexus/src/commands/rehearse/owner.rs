//! Who works here, so that a later run can tell whether they still do: by Linux's `/proc`.

use std::fs;

use nexus_core::files::scratch::{Life, Owner};

/// The field of `/proc/<pid>/stat` that says when the process began, counted from the one after the name
/// (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>).
const BEGUN: usize = 19;

/// This process.
pub fn here() -> Owner {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let process = std::process::id();
    Owner {
        machine: read("/proc/sys/kernel/hostname"),
        boot: read("/proc/sys/kernel/random/boot_id"),
        process,
        begun: begun(process).unwrap_or_default(),
    }
}

/// Whether an owner still works, as far as `here` can see.
pub fn life(of: &Owner, here: &Owner) -> Life {
    if here.boot.is_empty() || of.machine != here.machine {
        return Life::Elsewhere;
    }
    if of.boot == here.boot && begun(of.process) == Some(of.begun) { Life::Lives } else { Life::Dead }
}

/// When a process began; `None` when it has ended, even if nobody has waited for it yet.
fn begun(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may hold blanks and brackets.
    let (_, after) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = after.split(' ').collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(BEGUN)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_that_had_its_number_before_does_not() {
        let here = here();
        assert!(here.begun > 0);
        assert_eq!(life(&here, &here), Life::Lives);
        assert_eq!(life(&Owner { begun: here.begun - 1, ..here.clone() }, &here), Life::Dead);
        assert_eq!(life(&Owner { boot: "before".into(), ..here.clone() }, &here), Life::Dead);
        assert_eq!(life(&Owner { process: u32::MAX, ..here.clone() }, &here), Life::Dead);
        assert_eq!(life(&Owner { machine: "another".into(), ..here.clone() }, &here), Life::Elsewhere);
    }
}
