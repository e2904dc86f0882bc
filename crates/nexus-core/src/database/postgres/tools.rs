//! PostgreSQL's own programs: which of those on this machine fits a server, and how they are run without secrets in sight.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};

use super::place::{Password, PostgresDatabase, password_line};
use super::words::without_rows;
use crate::error::{DatabaseWords, Error, Result};
use crate::local::{self, Scratch};

/// Folders of versions, one below the other: `/usr/lib/postgresql/16/bin` on Debian, `/usr/pgsql-16/bin` on RHEL …
const VERSIONED: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/Library/PostgreSQL", "", "bin"),
];
/// How much of what a program says on its way out is kept.
const WORDS: usize = 8 * 1024;

/// One of PostgreSQL's programs with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its major version.
    pub(crate) major: u32,
    /// Its version as it says it: `16.14`.
    pub(crate) version: String,
}

/// Where programs are looked for: the folder that was named, those of versions, then `PATH`.
///
/// The ones of versions come first because on Debian the programs in `PATH` are wrappers that choose by themselves.
pub(crate) fn folders(named: Option<&Path>, path: Option<&str>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = named.map(Path::to_owned).into_iter().collect();
    for (parent, prefix, below) in VERSIONED {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let version = name.strip_prefix(prefix)?;
                version.bytes().all(|byte| byte.is_ascii_digit()).then(|| Path::new(parent).join(&name).join(below))
            })
            .collect();
        found.sort();
        folders.extend(found);
    }
    folders.extend(
        path.into_iter().flat_map(|path| path.split(':').map(PathBuf::from)).filter(|folder| folder.is_absolute()),
    );
    folders
}

/// The program that fits a server best: of its own major version, else the nearest newer one.
///
/// # Errors
///
/// [`Error::Unsupported`] with the package to install when there is none that is new enough.
pub(crate) async fn program(database: &PostgresDatabase, name: &str, server: u32) -> Result<Program> {
    let mut found: Vec<Program> = Vec::new();
    // Two names of one folder are one, and to ask a program is to run it: Debian's wrappers take their time.
    let mut asked = BTreeSet::new();
    for folder in &database.programs {
        let path = folder.join(name);
        let Ok(whole) = path.canonicalize() else { continue };
        if !whole.is_file() || !asked.insert(whole) {
            continue;
        }
        let Some(program) = version(&path).await else { continue };
        if program.major == server {
            return Ok(program);
        }
        found.push(program);
    }
    let newest = found.iter().map(|program| program.major).max();
    found.into_iter().filter(|program| program.major >= server).min_by_key(|program| program.major).ok_or_else(|| {
        let there = newest.map_or_else(|| "none is here".to_owned(), |newest| format!("the newest here is {newest}"));
        Error::Unsupported {
            what: format!(
                "{name} {server} or newer is needed, and {there}: install \
                 postgresql-client-{server} (Debian and Ubuntu, from PostgreSQL's own package archive where theirs is \
                 older), postgresql{server} (RHEL) or postgresql@{server} (Homebrew), or name its folder as `programs` \
                 under [database]"
            ),
        }
    })
}

/// A program's version: `pg_dump (PostgreSQL) 16.14`, `pg_dump (PostgreSQL) 15.18 (Debian …)`, `… 18beta1`.
async fn version(path: &Path) -> Option<Program> {
    let output = Command::new(path).arg("--version").env_clear().stdin(Stdio::null()).output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let version = text.split_once(") ")?.1.split_whitespace().next()?.to_owned();
    let digits = version.split(|letter: char| !letter.is_ascii_digit()).next()?;
    Some(Program { path: path.to_owned(), major: digits.parse().ok()?, version })
}

/// True when a `pg_dump` was built with a compression: it refuses one that it lacks before it connects anywhere, so that
/// a failed connection is the sign. A word that it does not say costs only the better compression.
pub(crate) async fn takes(program: &Program, compression: &str) -> bool {
    let mut command = Command::new(&program.path);
    command.env_clear().env("LC_ALL", "C").stdin(Stdio::null());
    command.args(["--format=custom", &format!("--compress={compression}"), "--dbname=host=/nowhere"]);
    let output = command.output().await;
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("connection to server"))
}

/// The way to a database for a child: everything but the password in its arguments, the password in a private file.
pub(crate) struct Access {
    text: String,
    secret: Option<PathBuf>,
    options: Option<String>,
}

impl Access {
    /// Prepares it; the password file lies in `scratch`.
    pub(crate) fn prepare(database: &PostgresDatabase, scratch: &Scratch) -> Result<Self> {
        let secret = match &database.password {
            Some(password) => Some(secret_file(password, scratch)?),
            None => None,
        };
        let mut words = vec![
            ("host", database.host.clone()),
            ("port", database.port.to_string()),
            ("user", database.user.clone()),
            ("dbname", database.name.clone()),
            ("sslmode", database.ssl.word().to_owned()),
            ("gssencmode", "disable".to_owned()),
            ("application_name", super::connect::APPLICATION.to_owned()),
            ("connect_timeout", database.connect_within.as_secs().to_string()),
            ("keepalives_idle", "30".to_owned()),
        ];
        if let Some(root) = &database.root_certificate {
            words.push(("sslrootcert", root.display().to_string()));
        }
        if let Some((certificate, key)) = &database.certificate {
            words.push(("sslcert", certificate.display().to_string()));
            words.push(("sslkey", key.display().to_string()));
        }
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let words: Vec<String> = words.iter().map(|(name, value)| format!("{name}='{}'", quoted(value))).collect();
        Ok(Self { text: words.join(" "), secret, options: database.options.clone() })
    }

    /// The same, under another name in the server's list of sessions.
    pub(crate) fn called(mut self, name: &str) -> Self {
        // Of two words for the same thing libpq takes the last one.
        self.text = format!("{} application_name='{name}'", self.text);
        self
    }

    /// A command that reaches the database, with nothing of our own environment but what a program needs to run.
    pub(crate) fn command(&self, program: &Program, settings: &str) -> Command {
        let mut command = Command::new(&program.path);
        command.env_clear().env("LC_ALL", "C").env("PGCLIENTENCODING", "UTF8").kill_on_drop(true);
        if let Some(path) = &self.secret {
            command.env("PGPASSFILE", path);
        } else {
            // Not the file of whoever runs this: a password from there was taken already. One that is there and is no
            // plain file is warned of.
            command.env("PGPASSFILE", "/dev/null/none");
        }
        let options = [self.options.as_deref().unwrap_or_default(), settings].join(" ");
        command.env("PGOPTIONS", options.trim()).arg("--dbname").arg(&self.text).arg("--no-password");
        command
    }
}

/// A command that connects nowhere.
pub(crate) fn offline(program: &Program) -> Command {
    let mut command = Command::new(&program.path);
    command.env_clear().env("LC_ALL", "C").kill_on_drop(true);
    command
}

fn secret_file(password: &Password, scratch: &Scratch) -> Result<PathBuf> {
    use std::io::Write;
    let path = scratch.file("pgpass");
    // Each child of a run reads the same file.
    if !path.exists() {
        let mut file = local::create_private(&path)?;
        file.write_all(password_line(password).as_bytes())
            .map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
    }
    Ok(path)
}

/// Reads what a child says on stderr to its end, and keeps the beginning.
pub(crate) async fn last_words(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    // A child that cannot write its words would never end.
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let room = WORDS.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&buffer[..room]);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// Fails with a child's own words unless it ended well.
pub(crate) fn require_success(what: &str, status: ExitStatus, words: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let words = if words.is_empty() { status.to_string() } else { format!("{status}: {}", without_rows(words)) };
    let what = what.to_owned();
    let cause = Some(DatabaseWords(words.clone()).into());
    Err(if words.contains("No space left on device") {
        Error::Full { what, cause }
    } else if words.contains("permission denied") || words.contains("must be owner") {
        Error::Denied { what, cause }
    } else if words.contains("server closed the connection") || words.contains("connection to server") {
        Error::Unreachable { what, cause }
    } else {
        Error::Service { what, cause }
    })
}

/// Runs a prepared child to its end, with nothing to read and its output thrown away.
pub(crate) async fn finish(mut child: Child, what: &str) -> Result<()> {
    let stderr = child.stderr.take();
    let (words, status) = futures::join!(last_words(stderr), child.wait());
    let status = status.map_err(|cause| Error::local(what.to_owned(), cause))?;
    require_success(what, status, &words)
}
