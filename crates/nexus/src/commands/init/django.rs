//! A Django site, asked by a small script that its own Python runs: models, file fields, storages, databases.
//!
//! Nothing is connected to and nothing written; passwords are not asked for.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nexus_core::error::{Error, Result};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::settings::Environment;
use crate::wording::{command_line, without_passwords};

/// What the site's Python runs.
const SCRIPT: &str = include_str!("django.py");
/// What the answer's line begins with: settings may print lines of their own.
const ANSWER: &str = "nexus-look:";
/// How long a site may take to start.
const PATIENCE: Duration = Duration::from_mins(2);
/// The most that a site may say, bytes.
const MOST: u64 = 64 << 20;
/// The last lines of what a failing site says that are shown.
const LAST_LINES: usize = 4;
/// How names of exceptions end.
const EXCEPTIONS: [&str; 5] = ["Error", "Exception", "Configured", "NotReady", "DoesNotExist"];
/// Exceptions whose words name what is missing and not what is there, which may be secret.
const PLAIN: [&str; 4] = ["ImportError", "ModuleNotFoundError", "KeyError", "ImproperlyConfigured"];
/// Where virtual environments lie beside `manage.py`.
const ENVIRONMENTS: [&str; 3] = [".venv", "venv", "env"];

/// What a site says of itself.
#[derive(Debug, Deserialize)]
pub(super) struct Site {
    /// Django's version.
    pub(super) django: String,
    /// `DATABASES`, by alias.
    pub(super) databases: BTreeMap<String, SiteDatabase>,
    /// `STORAGES` but `staticfiles`, by alias.
    pub(super) storages: BTreeMap<String, Storage>,
    /// All models that have a table, those of many-to-many fields too.
    pub(super) models: Vec<Model>,
    /// The folder of `manage.py`.
    #[serde(skip)]
    pub(super) folder: PathBuf,
    /// The Python that answered.
    #[serde(skip)]
    pub(super) python: PathBuf,
}

/// One of `DATABASES`, without its password.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SiteDatabase {
    pub(super) engine: String,
    pub(super) name: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<String>,
    pub(super) user: Option<String>,
    pub(super) service: Option<String>,
    pub(super) sslmode: Option<String>,
    /// The names of other `OPTIONS`.
    #[serde(default)]
    pub(super) options: Vec<String>,
}

/// Where a file field keeps its files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Storage {
    pub(super) class: String,
    /// Of one in a bucket.
    pub(super) bucket: Option<String>,
    pub(super) location: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    /// Of one in a folder.
    pub(super) folder: Option<PathBuf>,
    /// Why it cannot be told.
    pub(super) error: Option<String>,
}

/// A model with a table of its own.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Model {
    pub(super) app: String,
    /// The Python package of its app.
    pub(super) package: String,
    pub(super) name: String,
    pub(super) table: String,
    /// False when Django does not make its table.
    pub(super) managed: bool,
    /// True for the table of a many-to-many field.
    pub(super) automatic: bool,
    /// The alias of the database that it is written to.
    pub(super) database: String,
    /// Its own fields that hold files.
    pub(super) files: Vec<FileField>,
}

/// A `FileField` or one made of it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct FileField {
    pub(super) column: String,
    pub(super) field: String,
    pub(super) class: String,
    /// None when it is computed.
    pub(super) upload_to: Option<String>,
    pub(super) storage: Storage,
}

/// Asks the site whose `manage.py`, or its folder, is named.
///
/// # Errors
///
/// [`Error::Usage`] without a `manage.py`; [`Error::Local`] without a Python, and with where and by which exception the site failed
/// when it fails, or takes too long.
pub(super) async fn ask(named: &Path, python: Option<&Path>, environment: &Environment) -> Result<Site> {
    let named = environment.folder.join(named);
    let manage = if named.is_dir() { named.join("manage.py") } else { named };
    if !manage.is_file() {
        let what = format!("cannot find a Django site: `{}` is not there", manage.display());
        return Err(Error::usage_hint(what, "name the site's manage.py, or the folder it lies in, with --django"));
    }
    let folder = manage.parent().unwrap_or(Path::new("/")).to_path_buf();
    let python = match python {
        // A name without a slash is looked for in PATH.
        Some(named) if named.components().count() > 1 => environment.folder.join(named),
        Some(named) => named.to_path_buf(),
        None => python_beside(&folder),
    };
    let mut command = Command::new(&python);
    command.arg("-B").arg(&manage).args(["shell", "--verbosity", "0", "-c", SCRIPT]).current_dir(&folder);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("DJANGO_COLORS", "nocolor").env("PYTHONIOENCODING", "utf-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let what = format!("cannot ask the Django site at `{}` by `{}`", manage.display(), python.display());
    let said = tokio::time::timeout(PATIENCE, run(command)).await;
    let took = || Error::Local { what: format!("{what}: it takes longer than {} s", PATIENCE.as_secs()), cause: None };
    let (succeeded, out, err) = said.map_err(|_| took())?.map_err(|cause| Error::local(&what, cause))?;
    let answer = out.lines().rev().find_map(|line| line.strip_prefix(ANSWER)).filter(|_| succeeded);
    let Some(answer) = answer else {
        let (python, manage) = (python.display().to_string(), manage.display().to_string());
        let more = format!("`{}` says more", command_line([python.as_str(), &manage, "check"]));
        return Err(Error::Local { what, cause: Some(last_words(&err, more).into()) });
    };
    let site: Site = serde_json::from_str(answer)
        .map_err(|cause| Error::Local { what: format!("{what}: its answer is cut"), cause: Some(cause.into()) })?;
    Ok(Site { folder, python, ..site })
}

/// The Python of the virtual environment that lies beside `manage.py`, else the one that `python3` means.
fn python_beside(folder: &Path) -> PathBuf {
    let beside = ENVIRONMENTS.iter().map(|name| folder.join(name).join("bin/python"));
    beside.into_iter().find(|path| path.is_file()).unwrap_or_else(|| "python3".into())
}

async fn run(mut command: Command) -> std::io::Result<(bool, String, String)> {
    let mut child = command.spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err, status) = futures::join!(text(out), text(err), child.wait());
    Ok((status?.success(), out?, err?))
}

/// What comes from a pipe; past the most of it, it is read no more.
async fn text(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MOST).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last of what a site said that can hold no secret, the last line first, as causes of one another, and `more` behind them.
fn last_words(text: &str, more: String) -> Said {
    let last: Vec<String> = text.lines().rev().filter_map(plain).take(LAST_LINES).collect();
    let end = Said { line: more, cause: None };
    last.into_iter().rev().fold(end, |cause, line| Said { line, cause: Some(Box::new(cause)) })
}

/// A line of a traceback without what may be secret: a place in a file, or an exception, with its words when they name what is missing.
///
/// None of a line of source, and of any other.
fn plain(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("File \"") {
        let (path, rest) = rest.split_once("\", line ")?;
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        return Some(format!("File \"{path}\", line {number}"));
    }
    let (class, words) = line.split_once(": ").map_or((line, None), |(class, words)| (class, Some(words)));
    let name = class.rsplit('.').next().unwrap_or(class);
    let is_name = class.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.".contains(letter));
    if !is_name || !EXCEPTIONS.iter().any(|ending| name.ends_with(ending)) {
        return None;
    }
    Some(match words.filter(|_| PLAIN.contains(&name)) {
        Some(words) => format!("{class}: {}", without_passwords(words)),
        None => class.to_owned(),
    })
}

/// A line that a site said.
#[derive(Debug)]
struct Said {
    line: String,
    cause: Option<Box<Said>>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl StdError for Said {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_traceback_places_and_exceptions_are_told_and_neither_source_nor_words() {
        let text = "Traceback (most recent call last):\n  File \"/srv/site/settings.py\", line 3, in <module>\n    \
                    connect(\"app\", password=\"geheim\")\n    ~~~~~~~^^^^\nsite.errors.LoginError: no login with geheim\ngeheim\n";
        let told: Vec<String> = text.lines().filter_map(plain).collect();
        assert_eq!(told, ["File \"/srv/site/settings.py\", line 3", "site.errors.LoginError"]);
        for (line, expected) in [
            ("KeyError: 'NEXUS_SITE'", Some("KeyError: 'NEXUS_SITE'")),
            (
                "django.core.exceptions.ImproperlyConfigured: cannot read postgres://app:geheim@db/x",
                Some("django.core.exceptions.ImproperlyConfigured: cannot read postgres://app:***@db/x"),
            ),
            ("ValueError: geheim", Some("ValueError")),
            ("password: geheim", None),
            ("File \"cut", None),
        ] {
            assert_eq!(plain(line).as_deref(), expected, "{line}");
        }
        let said = last_words(text, "more".to_owned());
        assert_eq!(said.to_string(), "site.errors.LoginError");
        assert_eq!(said.source().and_then(StdError::source).map(ToString::to_string).as_deref(), Some("more"));
    }
}
