//! Next steps as a person reads them and a program runs them.

use nexus_core::doctor::{Line, Step};
use serde::Serialize;

use crate::failure::Failure;
use crate::run::{Run, situation};
use crate::wording::command_line;

/// One step.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// In words.
    Say(String),
    /// A command, as it is typed.
    Run(String),
    /// A line of the configuration, and its table.
    Set {
        /// The configuration.
        file: String,
        /// The table.
        table: &'static str,
        /// The line.
        line: String,
    },
}

impl Told {
    /// The step in one line.
    pub fn sentence(&self) -> String {
        match self {
            Self::Say(words) => words.clone(),
            Self::Run(command) => format!("$ {command}"),
            Self::Set { file, table, line } => format!("in {file}, under [{table}]: {line}"),
        }
    }
}

/// The steps of a line; of one that an error stands behind, the error's own hint.
pub fn told(run: &Run, line: &Line) -> Vec<Told> {
    let at = situation("doctor", &run.settings);
    if let (Some(error), true) = (&line.cause, line.next.is_empty()) {
        return Failure::of(error, &at).hint.into_iter().map(Told::Say).collect();
    }
    let config = run.settings.config.as_ref();
    let file = config.map_or_else(|| "nexus.toml".to_owned(), |path| path.display().to_string());
    let aws = |words: &[String]| at.aws(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let tell = |step: &Step| match step {
        Step::Say(words) => Told::Say(words.clone()),
        Step::Shell(command) => Told::Run(command.clone()),
        Step::Aws(words) => Told::Run(aws(words)),
        Step::AwsInto(words, file) => Told::Run(format!("{} > {file}", aws(words))),
        Step::Nexus(words) => {
            let words = ["nexus"].into_iter().chain(words.iter().map(String::as_str));
            let reach = run.reach();
            Told::Run(command_line(words.chain(reach.iter().map(String::as_str))))
        }
        Step::Setting { table, line } => Told::Set { file: file.clone(), table, line: line.clone() },
    };
    line.next.iter().map(tell).collect()
}
