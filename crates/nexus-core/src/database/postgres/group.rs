//! A program that starts programs of its own: they end together, however it is left.
//!
//! `pg_restore --jobs` works in processes that outlive their leader: killed alone, it leaves them writing into a database
//! that is about to be removed.

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// The processes of a child that was started with a process group of its own; dropped, it ends all of them.
pub(super) struct Group {
    leader: Option<Pid>,
}

impl Group {
    /// The group that `child` leads.
    pub(super) fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { leader }
    }

    /// The leader has ended by itself, after its workers: its number may be another's by now.
    pub(super) fn ended(mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // Nobody is there to be told, and one that is gone already is what is wanted.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::io::AsyncReadExt;
    use tokio::process::Command;

    use super::*;

    #[tokio::test]
    async fn the_children_of_a_child_end_with_it() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 600 & echo started; wait"]).process_group(0);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut output = child.stdout.take().expect("it was piped");
        let group = Group::of(&child);
        let mut started = [0; 8];
        output.read_exact(&mut started).await.expect("it says so");
        drop(group);
        // It ends only when nobody holds its other end any more.
        assert_eq!(output.read_to_end(&mut Vec::new()).await.expect("an end"), 0);
        assert!(!child.wait().await.expect("it was started here").success());
    }
}
