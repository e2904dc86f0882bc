//! `completions`: a script for a shell.

use clap::CommandFactory;
use serde_json::json;

use crate::cli::{Cli, CompletionsArgs};
use crate::failure::Outcome;
use crate::terminal::Terminal;

/// Prints the script.
pub fn run(args: &CompletionsArgs, terminal: &Terminal) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "nexus", &mut script);
    let script = String::from_utf8_lossy(&script);
    if terminal.wants_json() {
        terminal.json(&json!({ "shell": args.shell.to_string(), "script": script }));
    } else {
        terminal.raw(&script);
    }
    Outcome::Done
}
