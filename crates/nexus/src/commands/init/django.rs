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
use crate::wording::without_passwords;

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
/// Where virtual environments lie beside `manage.py`.
const ENVIRONMENTS: [&str; 4] = [".venv", "venv", "env", ".env"];

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
/// [`Error::Missing`] without a `manage.py` or a Python; [`Error::Local`] with the last of what the site said when it fails or takes
/// too long.
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
        return Err(Error::Local { what, cause: last_lines(&err).or_else(|| last_lines(&out)).map(Into::into) });
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

/// The last lines of what a site said, the last one first, as causes of one another.
fn last_lines(text: &str) -> Option<Said> {
    // A traceback underlines what it means by a line of its own.
    let says = |line: &&str| line.chars().any(|letter| !"~^- ".contains(letter));
    let lines = text.lines().map(str::trim).filter(says);
    let last: Vec<&str> = lines.rev().take(LAST_LINES).collect();
    let said = |cause: Option<Box<Said>>, line: &&str| Some(Box::new(Said { line: without_passwords(line), cause }));
    last.iter().rev().fold(None, said).map(|said| *said)
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
