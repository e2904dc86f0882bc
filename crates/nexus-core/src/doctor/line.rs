//! One line of the checklist.

use crate::error::{self, Error};

/// What was looked at, and how it stands.
#[derive(Debug)]
pub struct Line {
    /// What was looked at: a fixed name.
    pub name: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// What was seen.
    pub what: String,
    /// What to do about it; none where nothing is to be done.
    pub next: Vec<Step>,
    /// What stood in the way, where that is the answer: it has a hint of its own.
    pub cause: Option<Error>,
}

/// How a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As it should be.
    Passed,
    /// A backup goes through, and somebody should know.
    Warned,
    /// No backup, or one that nobody should trust.
    Failed,
}

/// A next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// In words.
    Say(String),
    /// A command of the shell.
    Shell(String),
    /// Words of the AWS command line, without those that name the endpoint.
    Aws(Vec<String>),
    /// The same, with what it prints going into a file.
    AwsInto(Vec<String>, &'static str),
    /// Words of `nexus`, without those that name the vault.
    Nexus(Vec<String>),
    /// A line of the configuration file, and the table it belongs to.
    Setting {
        /// The table.
        table: &'static str,
        /// The line.
        line: String,
    },
}

impl Step {
    /// Words of the AWS command line.
    pub(crate) fn aws(words: &[&str]) -> Self {
        Self::Aws(words.iter().map(ToString::to_string).collect())
    }
}

impl Line {
    /// A line that stands as it should.
    pub fn passed(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, standing: Standing::Passed, what: what.into(), next: Vec::new(), cause: None }
    }

    /// One that somebody should know of.
    pub fn warned(name: &'static str, what: impl Into<String>, next: Vec<Step>) -> Self {
        Self { name, standing: Standing::Warned, what: what.into(), next, cause: None }
    }

    /// One that stands in the way.
    pub fn failed(name: &'static str, what: impl Into<String>, next: Vec<Step>) -> Self {
        Self { name, standing: Standing::Failed, what: what.into(), next, cause: None }
    }

    /// What could not be looked at stands in the way.
    pub fn of_error(name: &'static str, error: Error) -> Self {
        Self { name, standing: Standing::Failed, what: error::chain(&error), next: Vec::new(), cause: Some(error) }
    }
}
