//! A command that somebody named: whether it can be found, and its start.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nexus_core::error::Error;
use tokio::process::{Child, Command};

use crate::failure::Failure;
use crate::settings::Environment;
use crate::wording::shell_quoted;

/// Not found, as `env` says it.
const NOT_FOUND: u8 = 127;
/// Found, and cannot be run.
const CANNOT_RUN: u8 = 126;
/// Where programs are looked for when no PATH says so, as the C library does.
const USUAL_PATH: &str = "/bin:/usr/bin";
/// What a POSIX shell is asked to run: a script that does not name its own.
const SHELL: &str = "/bin/sh";
/// `ENOEXEC`: the system does not know how to run the file.
const NO_EXEC: i32 = 8;

/// A command whose program was found.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    words: Vec<OsString>,
}

/// Why a command cannot be run.
#[derive(Debug)]
pub struct Unfit {
    /// The exit status: 126 or 127.
    pub status: u8,
    /// What is wrong, then the system's own words.
    pub lines: Vec<String>,
    /// What to do.
    pub hint: String,
}

impl Program {
    /// Finds it as a shell does: a name with a slash is a path, another is looked for in `PATH`.
    pub fn find(words: &[OsString], environment: &Environment) -> Result<Self, Unfit> {
        let name = words.first().map(OsString::as_os_str).unwrap_or_default();
        let candidates: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
            vec![environment.folder.join(name)]
        } else {
            let path = environment.variable("PATH").unwrap_or(USUAL_PATH);
            path.split(':').map(|folder| environment.folder.join(folder).join(name)).collect()
        };
        let mut refused = None;
        for path in candidates.into_iter().filter(|_| !name.is_empty()) {
            match runnable(&path) {
                Ok(()) => return Ok(Self { path, words: words.to_vec() }),
                Err(cause) if cause.kind() == ErrorKind::NotFound => {}
                Err(cause) => refused = refused.or(Some(cause)),
            }
        }
        Err(Unfit::of(name, &refused.unwrap_or_else(|| io::Error::from(ErrorKind::NotFound))))
    }

    /// Starts it, once, with the streams, the process group and the environment of this process, but for what `set_up`
    /// changes.
    pub fn start(&self, set_up: &dyn Fn(&mut Command)) -> Result<Child, Unfit> {
        let command = |program: &OsStr, arguments: &[OsString]| {
            let mut command = Command::new(program);
            command.args(arguments);
            set_up(&mut command);
            command
        };
        let name = &self.words[0];
        let started = match command(name, &self.words[1..]).spawn() {
            // What `env` and every shell do with a script that has no first line of its own.
            Err(cause) if cause.raw_os_error() == Some(NO_EXEC) => {
                let mut words = vec![self.path.clone().into_os_string()];
                words.extend_from_slice(&self.words[1..]);
                command(OsStr::new(SHELL), &words).spawn()
            }
            started => started,
        };
        started.map_err(|cause| Unfit::of(name, &cause))
    }
}

impl Unfit {
    /// It for programs.
    pub fn failure(&self) -> Failure {
        Failure {
            status: self.status,
            lines: self.lines.clone(),
            hint: Some(self.hint.clone()),
            contacts: std::collections::BTreeMap::new(),
        }
    }

    /// It as what was not done.
    pub fn error(&self) -> Error {
        Error::usage_hint(self.lines.join(": "), self.hint.clone())
    }

    fn of(name: &OsStr, cause: &io::Error) -> Self {
        let name = shell_quoted(&String::from_utf8_lossy(&name.to_os_string().into_vec()));
        let missing = cause.kind() == ErrorKind::NotFound;
        let what = if missing { "is not found" } else { "cannot be run" };
        let hint = if missing {
            "check the spelling; a program that is not in PATH is named with its folder, ./like-this"
        } else {
            "`ls -l` shows its mode: `chmod +x` makes a file a program"
        };
        let mut lines = vec![format!("the command {name} {what}, so it was not run")];
        // What was found out by looking has no words of the system.
        lines.extend(cause.raw_os_error().map(|_| cause.to_string()));
        Self { status: if missing { NOT_FOUND } else { CANNOT_RUN }, lines, hint: hint.to_owned() }
    }
}

fn runnable(path: &Path) -> io::Result<()> {
    let file = std::fs::metadata(path)?;
    if file.is_dir() {
        return Err(io::Error::from(ErrorKind::IsADirectory));
    }
    // Whether this user may is for the system to say when it is started.
    if file.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from(ErrorKind::PermissionDenied));
    }
    Ok(())
}
