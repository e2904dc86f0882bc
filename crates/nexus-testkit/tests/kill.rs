//! Children end when the test says so, and what they said is kept.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use nexus_testkit::kill::{Running, run, run_and_kill_after};

const SOON: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn the_output_and_status_of_a_child_are_its_own() {
    let output = run(shell("echo out; echo err >&2; exit 3"), SOON);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
}

#[test]
fn a_child_is_killed_at_the_text_that_was_waited_for() {
    let mut running = Running::start(shell("echo ready; exec sleep 60"));
    assert!(running.wait_for_text("ready", SOON));
    running.kill();
    assert_eq!(running.wait(SOON).status.signal(), Some(9));
}

#[test]
fn waiting_for_a_text_ends_with_the_child() {
    let mut running = Running::start(shell("echo something else"));
    assert!(!running.wait_for_text("ready", SOON));
}

#[test]
fn a_child_that_ended_before_its_moment_keeps_its_status() {
    let output = run_and_kill_after(shell("exit 4"), SOON);
    assert_eq!(output.status.code(), Some(4));
    let output = run_and_kill_after(shell("exec sleep 60"), Duration::from_millis(50));
    assert_eq!(output.status.signal(), Some(9));
}

#[test]
#[should_panic(expected = "still running after")]
fn a_child_that_hangs_fails_the_test() {
    run(shell("exec sleep 60"), Duration::from_millis(50));
}
