//! Why something was not done, for a person: the exit status, the causes once each, and what to do now.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;

use nexus_core::error::{Cause, DatabaseWords, Error};
use serde_json::{Value, json};

use crate::wording::{command_line, without_passwords};

/// How a verb that was carried out ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Done, and the answer is bad.
    Bad,
    /// A command ended with this status, which is passed on.
    Passed(u8),
}

impl Outcome {
    /// [`Outcome::Done`] when the answer is good.
    pub fn of(good: bool) -> Self {
        if good { Self::Done } else { Self::Bad }
    }

    /// The exit status.
    pub fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Bad => DAMAGE,
            Self::Passed(status) => status,
        }
    }
}

/// Done, and the answer is bad.
pub const DAMAGE: u8 = 1;
/// Not done.
pub const NOT_DONE: u8 = 2;
/// A guard has not run its command, as `env` says it.
pub const NOT_RUN: u8 = 125;
/// Interrupted by a signal.
pub const INTERRUPTED: u8 = 130;
/// The verb whose command's status is passed on, so that all that keeps it from being run is told apart.
pub const GUARD: &str = "guard";
/// What a failing guard says first of all.
const UNRUN: &str = "the command was not run";
/// Causes shown at most; a chain that is longer says nothing new.
const MOST_CAUSES: usize = 8;

/// What is known of the run when it fails, for commands to paste.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    /// The verb.
    pub verb: &'static str,
    /// The flags that reach the vault: `--vault URL --endpoint URL`.
    pub reach: Vec<String>,
    /// The bucket of the vault, when it is one, with its prefix: `s3://bucket/prefix/`.
    pub bucket: Option<String>,
    /// The endpoint, when it is not AWS.
    pub endpoint: Option<String>,
    /// The profile, when one was chosen.
    pub profile: Option<String>,
    /// Whom to ask: what for, and how they are reached.
    pub contacts: BTreeMap<String, String>,
}

impl Situation {
    /// A command of this program with the flags that reach the vault.
    fn nexus(&self, words: &[&str]) -> String {
        command_line(["nexus"].into_iter().chain(words.iter().copied()).chain(self.reach.iter().map(String::as_str)))
    }

    /// A command of the AWS CLI that asks the same service as the same user.
    pub fn aws(&self, words: &[&str]) -> String {
        let mut all = vec!["aws"];
        all.extend(words);
        if let Some(endpoint) = &self.endpoint {
            all.extend(["--endpoint-url", endpoint]);
        }
        if let Some(profile) = &self.profile {
            all.extend(["--profile", profile]);
        }
        command_line(all)
    }
}

/// A failure as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub status: u8,
    /// What failed, then its causes, each once.
    pub lines: Vec<String>,
    /// What to do now.
    pub hint: Option<String>,
    /// Whom to ask, unless the command itself was wrong.
    pub contacts: BTreeMap<String, String>,
}

impl Failure {
    /// Decides how an error is told.
    pub fn of(error: &Error, situation: &Situation) -> Self {
        let (status, hint) = remedy(error, situation);
        // Nobody is woken for a word that was mistyped.
        let contacts = match error {
            Error::Usage { .. } => BTreeMap::new(),
            _ => situation.contacts.clone(),
        };
        if situation.verb == GUARD {
            let hint = hint.map_or_else(|| UNRUN.to_owned(), |hint| format!("{UNRUN}; {hint}"));
            return Self { status: NOT_RUN, lines: chain(error), hint: Some(hint), contacts };
        }
        Self { status, lines: chain(error), hint, contacts }
    }

    /// The failure for programs.
    pub fn json(&self) -> Value {
        let (message, causes) = self.lines.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let mut told = json!({ "message": message, "causes": causes, "hint": self.hint, "exit_status": self.status });
        if !self.contacts.is_empty() {
            told["contacts"] = json!(self.contacts);
        }
        json!({ "error": told })
    }
}

/// The exit status of an error, and what to do about it. One arm a variant: a new one must be considered.
fn remedy(error: &Error, at: &Situation) -> (u8, Option<String>) {
    match error {
        error if of_database(error) => (NOT_DONE, Some(at_database(error))),
        Error::Usage { hint, .. } => {
            let help = || format!("`nexus {} --help` has examples", at.verb);
            (NOT_DONE, Some(hint.clone().unwrap_or_else(help)))
        }
        Error::Missing { .. } => (NOT_DONE, Some(missing(at))),
        Error::Denied { cause, .. } => (NOT_DONE, Some(denied(cause.as_ref(), at))),
        Error::Unreachable { .. } => (NOT_DONE, Some(unreachable_service(at))),
        Error::Service { .. } => {
            let look = at.bucket.as_deref().map(|bucket| at.aws(&["s3", "ls", bucket]));
            let hint = look.map_or_else(
                || "the service's own words are above: mend that and run the same command again".to_owned(),
                |look| format!("`{look}` shows whether the AWS tools meet the same answer"),
            );
            (NOT_DONE, Some(hint))
        }
        Error::Busy { .. } => (
            NOT_DONE,
            Some(format!(
                "wait until what is named above lets go, or end it; `{}` shows unfinished runs of this tool",
                at.nexus(&["list", "--all"])
            )),
        ),
        Error::Exists { .. } if at.verb == "copy" => (
            NOT_DONE,
            Some(
                "name another vault with --to-vault, or let a prune of that one remove what was given up there"
                    .to_owned(),
            ),
        ),
        Error::Exists { .. } => {
            (NOT_DONE, Some("give it another name, or put what is there out of the way first".to_owned()))
        }
        Error::Damaged { .. } if ["backup", GUARD].contains(&at.verb) => (
            DAMAGE,
            Some(format!(
                "nothing was backed up: mend what is named above, or bring back a proven state: `{}` shows the points",
                at.nexus(&["list"])
            )),
        ),
        Error::Damaged { .. } if at.verb == "prune" => (
            NOT_DONE,
            Some(format!(
                "`{}` shows the points; what is beyond help must be moved out of the vault by hand before a prune",
                at.nexus(&["list", "--all"])
            )),
        ),
        Error::Damaged { .. } => (
            DAMAGE,
            Some(format!("use another point: `{}` shows them, with what was proven when", at.nexus(&["list"]))),
        ),
        Error::Newer { .. } => {
            (NOT_DONE, Some("`nexus --version` is what runs here: install the release that wrote it".to_owned()))
        }
        Error::Changed { .. } => (
            NOT_DONE,
            Some("stop what writes there, or wait for a quieter moment, and run the same command again".to_owned()),
        ),
        Error::Full { .. } => {
            (NOT_DONE, Some("`df -h` shows what is full; TMPDIR=/another/disk moves temporary files there".to_owned()))
        }
        Error::Unsupported { .. } => (NOT_DONE, Some(format!("`nexus {} --help` says what can be done", at.verb))),
        Error::Local { .. } => (NOT_DONE, Some("mend what is named above and run the same command again".to_owned())),
    }
}

/// True when a database server spoke, of which the AWS tools know nothing.
fn of_database(error: &Error) -> bool {
    let words = error.source().and_then(|cause| cause.downcast_ref::<DatabaseWords>());
    words.is_some() && !matches!(error, Error::Damaged { .. })
}

fn at_database(error: &Error) -> String {
    let hint = match error {
        Error::Denied { .. } => {
            "give the role that right, or come as another: postgres://ROLE@…, with PGPASSWORD or ~/.pgpass"
        }
        Error::Missing { .. } => "`psql -l` lists the server's databases, `\\du` in psql its roles",
        Error::Unreachable { .. } => "`pg_isready` asks whether the server answers; then run the same command again",
        Error::Full { .. } => "make room on the database server's disk, and run the same command again",
        _ => "the database's own words are above: mend that and run the same command again",
    };
    hint.to_owned()
}

fn missing(at: &Situation) -> String {
    if at.reach.is_empty() {
        return format!("check the spelling; `nexus {} --help` says how places are written", at.verb);
    }
    let list = at.nexus(&["list"]);
    match &at.bucket {
        Some(bucket) => {
            format!("`{list}` shows the vault's points, `{}` what lies there", at.aws(&["s3", "ls", bucket]))
        }
        None => format!("check the spelling; `{list}` shows the vault's points"),
    }
}

fn denied(cause: Option<&Cause>, at: &Situation) -> String {
    if cause.is_some_and(|cause| cause.is::<io::Error>()) {
        return "`ls -ld` on it shows its owner and mode: run as a user who may, or change them".to_owned();
    }
    let who = Situation { endpoint: None, ..at.clone() }.aws(&["sts", "get-caller-identity"]);
    match &at.bucket {
        Some(bucket) => format!("`{who}` says who asks, `{}` whether that user may", at.aws(&["s3", "ls", bucket])),
        None => format!("`{who}` says who asks; that user needs the right to do this"),
    }
}

fn unreachable_service(at: &Situation) -> String {
    match &at.endpoint {
        Some(endpoint) => {
            format!(
                "`{}` shows whether it answers; then run the same command again",
                command_line(["curl", "-sSI", endpoint])
            )
        }
        None => "check the network and the region; then run the same command again".to_owned(),
    }
}

/// An error and its causes, without one that only repeats what was said before it.
fn chain(error: &Error) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut next: Option<&dyn StdError> = Some(error);
    while let Some(error) = next {
        let line = without_passwords(&error.to_string());
        if !lines.iter().any(|said| said.contains(&line)) && lines.len() < MOST_CAUSES {
            lines.push(line);
        }
        next = error.source();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Situation {
        Situation {
            verb: "restore",
            reach: vec!["--vault".into(), "s3://b/p".into(), "--endpoint".into(), "http://h:1".into()],
            bucket: Some("s3://b/p/".into()),
            endpoint: Some("http://h:1".into()),
            profile: None,
            contacts: [("storage".to_owned(), "Ana, +43 1 234".to_owned())].into(),
        }
    }

    #[test]
    fn contacts_are_told_of_unless_the_command_was_wrong() {
        let told = Failure::of(&Error::missing("x"), &at());
        assert_eq!(told.json()["error"]["contacts"]["storage"], "Ana, +43 1 234");
        assert!(Failure::of(&Error::usage("x"), &at()).contacts.is_empty());
    }

    #[test]
    fn damage_is_an_answer_and_everything_else_was_not_done() {
        assert_eq!(Failure::of(&Error::damaged("x"), &at()).status, 1);
        assert_eq!(Failure::of(&Error::missing("x"), &at()).status, 2);
        assert_eq!(Failure::of(&Error::usage("x"), &at()).status, 2);
    }

    #[test]
    fn whatever_keeps_a_guard_from_running_its_command_is_125() {
        let at = Situation { verb: GUARD, ..at() };
        for error in [Error::damaged("x"), Error::missing("x"), Error::usage("x")] {
            assert_eq!(Failure::of(&error, &at).status, 125);
        }
    }

    #[test]
    fn a_hint_is_a_command_that_reaches_the_same_vault() {
        let hint = Failure::of(&Error::missing("x"), &at()).hint.expect("a hint");
        assert!(hint.contains("`nexus list --vault s3://b/p --endpoint http://h:1`"), "{hint}");
        assert!(hint.contains("`aws s3 ls s3://b/p/ --endpoint-url http://h:1`"), "{hint}");
    }

    #[test]
    fn a_cause_is_told_once() {
        let inner = io::Error::other("the disk is on fire");
        let error = Error::local("cannot write `a`", inner);
        assert_eq!(Failure::of(&error, &at()).lines, ["cannot write `a`", "the disk is on fire"]);
        let again = Error::damaged_by("it says: broken", "broken");
        assert_eq!(Failure::of(&again, &at()).lines, ["it says: broken"]);
    }
}
