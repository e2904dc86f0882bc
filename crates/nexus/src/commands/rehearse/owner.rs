//! Who works here, so that a later run can tell whether they still do: by Linux's `/proc`.

use std::fs;

use nexus_core::files::scratch::{Life, Owner};

use crate::machine::{self, begun};

/// This process.
pub fn here() -> Owner {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let process = std::process::id();
    Owner { machine: machine::name(), boot: boot.trim().to_owned(), process, begun: begun(process).unwrap_or_default() }
}

/// Whether an owner still works, as far as `here` can see.
pub fn life(of: &Owner, here: &Owner) -> Life {
    if here.boot.is_empty() || of.machine != here.machine {
        return Life::Elsewhere;
    }
    if of.boot == here.boot && begun(of.process) == Some(of.begun) { Life::Lives } else { Life::Dead }
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
