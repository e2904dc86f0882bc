//! The app's database: where it is, and what can be done with each kind.

pub(crate) mod digest;
pub mod holders;
pub mod invariant;
pub(crate) mod json;
pub mod load;
pub(crate) mod marks;
pub mod postgres;
pub mod relations;
pub mod scratch;
pub(crate) mod sink;
pub(crate) mod source;
pub mod sqlite;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};

use crate::error::{Error, Result};
use postgres::{PostgresDatabase, Surroundings};
use sqlite::SqliteDatabase;

/// What a path in a `sqlite:` URL cannot carry as it is. Other characters stay readable.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'?').add(b'`').add(b'\\');

/// How a database is written.
const HOW: &str =
    "write a path, `sqlite:////absolute/path/to/db.sqlite3` with four slashes, or postgres://user@host/name";

/// An app's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// One SQLite file.
    Sqlite(SqliteDatabase),
    /// A database on a PostgreSQL server.
    Postgres(Box<PostgresDatabase>),
}

impl Database {
    /// Reads a database's location: a path, or a URL as Django and SQLAlchemy write it.
    ///
    /// What surrounds the place fills what the text leaves open. A relative path lies below its folder. `sqlite:////absolute/path` has four slashes. With three,
    /// `sqlite:///path`, whichever of `base/path` and `/path` exists is meant; when neither does, the one whose folder
    /// exists. `sqlite+driver:` counts as `sqlite:`; options after `?` concern the app's driver and are ignored;
    /// percent-encoded characters are decoded.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for another scheme, a database in memory and a path with two readings; [`Error::Missing`] when
    /// neither reading of a path can be told from the other.
    pub fn parse(text: &str, around: &Surroundings) -> Result<Self> {
        let base = around.base.as_path();
        let scheme = text.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| is_scheme(scheme));
        let dialect = scheme.map(|scheme| scheme.split('+').next().unwrap_or(scheme).to_ascii_lowercase());
        match (dialect.as_deref(), scheme) {
            (Some("sqlite" | "sqlite3"), Some(scheme)) => Self::from_url(&text[scheme.len() + 1..], base),
            (Some("postgres" | "postgresql" | "psql" | "pgsql" | "postgis"), Some(scheme)) => {
                PostgresDatabase::from_url(&text[scheme.len() + 1..], around)
                    .map(|found| Self::Postgres(Box::new(found)))
            }
            // The rest of the URL may hold a password, so only its scheme is named.
            (Some(other), _) if text[other.len()..].contains("://") => {
                Err(Error::usage_hint(format!("a database of the kind `{other}:` cannot be backed up"), HOW))
            }
            _ => Self::from_path(Path::new(text), base),
        }
    }

    /// Where it is, without secrets: `sqlite:////srv/clinic/db.sqlite3`, `postgres://db.example:5432/clinic`.
    ///
    /// What [`Database::parse`] reads from it is the same database.
    pub fn location(&self) -> String {
        match self {
            Self::Sqlite(database) => location(database.path()),
            Self::Postgres(database) => database.location(),
        }
    }

    fn from_path(path: &Path, base: &Path) -> Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(Error::usage_hint("the database has no path", HOW));
        }
        if bytes == b":memory:" {
            return Err(Error::usage("a database in memory cannot be backed up from outside its process"));
        }
        // Collecting components drops `.` and doubled slashes; `..` stays, since it may follow a link.
        Ok(Self::Sqlite(SqliteDatabase::new(base.join(path).components().collect())))
    }

    /// Reads what follows `sqlite:`.
    fn from_url(rest: &str, base: &Path) -> Result<Self> {
        let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
        let decoded = |text: &str| PathBuf::from(OsString::from_vec(percent_decode_str(text).collect()));
        let Some(path) = rest.strip_prefix("///") else {
            if rest.contains(":memory:") || rest == "//" {
                return Self::from_path(Path::new(":memory:"), base);
            }
            return Err(Error::usage_hint(format!("`sqlite:{rest}` does not say where the file is"), HOW));
        };
        if path.starts_with('/') || path.is_empty() || path == ":memory:" {
            return Self::from_path(&decoded(path), base);
        }
        let relative = base.join(decoded(path));
        let absolute = Path::new("/").join(decoded(path));
        if relative == absolute {
            return Self::from_path(&absolute, base);
        }
        let with_folder = |path: &Path| path.parent().is_some_and(Path::is_dir);
        match (relative.exists(), absolute.exists(), with_folder(&relative), with_folder(&absolute)) {
            (true, true, ..) => Err(Error::usage_hint(
                format!("`sqlite:///{path}` may mean `{}` or `{}`: both exist", relative.display(), absolute.display()),
                HOW,
            )),
            (true, false, ..) | (false, false, true, false) => Self::from_path(&relative, base),
            (false, true, ..) | (false, false, false, true) => Self::from_path(&absolute, base),
            (false, false, ..) => Err(Error::missing(format!(
                "`sqlite:///{path}` may mean `{}` or `{}`: neither exists; {HOW}",
                relative.display(),
                absolute.display()
            ))),
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// Text with some of its ASCII characters percent-encoded; others stay readable, which `percent_encode` does not do.
fn readable(text: &str, escaped: &'static AsciiSet) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let mut one = [0; 4];
        let one = character.encode_utf8(&mut one);
        if character.is_ascii() {
            shown.extend(percent_encode(one.as_bytes(), escaped));
        } else {
            shown.push_str(one);
        }
    }
    shown
}

fn location(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("sqlite:///{}", readable(text, ESCAPED)),
        Err(_) => format!("sqlite:///{}", percent_encode(bytes, ESCAPED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(text: &str, base: &Path) -> PathBuf {
        let Database::Sqlite(database) = Database::parse(text, &Surroundings::folder(base)).expect(text) else {
            panic!("{text} is no file")
        };
        database.path().to_owned()
    }

    #[test]
    fn a_path_and_a_url_with_four_slashes_name_the_same_file() {
        let base = Path::new("/srv/app");
        assert_eq!(path_of("./data/db.sqlite3", base), Path::new("/srv/app/data/db.sqlite3"));
        assert_eq!(path_of("/var/db.sqlite3", base), Path::new("/var/db.sqlite3"));
        assert_eq!(path_of("sqlite:////var/my%20db?timeout=20", base), Path::new("/var/my db"));
        assert_eq!(path_of("sqlite+pysqlite:////var/db", base), Path::new("/var/db"));
    }

    #[test]
    fn three_slashes_mean_whichever_exists_and_are_refused_when_both_do() {
        let base = tempfile::tempdir().expect("a folder");
        let other = tempfile::tempdir().expect("a folder");
        let file = other.path().join("db");
        std::fs::write(&file, "x").expect("a file");
        let inner = file.strip_prefix("/").expect("absolute");
        let url = format!("sqlite:///{}", inner.display());
        assert_eq!(path_of(&url, base.path()), file);
        let twin = base.path().join(inner);
        std::fs::create_dir_all(twin.parent().expect("a parent")).expect("a folder");
        std::fs::write(&twin, "x").expect("a file");
        assert!(matches!(Database::parse(&url, &Surroundings::folder(base.path())), Err(Error::Usage { .. })));
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(path_of(&url, base.path()), twin);
    }

    #[test]
    fn a_location_is_read_back_as_the_same_database() {
        for path in ["/srv/a b/%41?#.db", "/srv/čeština.db", "/srv/new\nline"] {
            let database = Database::Sqlite(SqliteDatabase::new(path.into()));
            let again =
                Database::parse(&database.location(), &Surroundings::folder(Path::new("/"))).expect("a database");
            assert_eq!(database, again);
        }
        let odd = PathBuf::from(OsString::from_vec(b"/srv/\xff.db".to_vec()));
        let database = Database::Sqlite(SqliteDatabase::new(odd));
        assert_eq!(
            database,
            Database::parse(&database.location(), &Surroundings::folder(Path::new("/"))).expect("a database")
        );
    }

    #[test]
    fn what_is_no_sqlite_file_is_refused_without_showing_a_password() {
        for text in
            ["mysql://joe:secret@host/db", "sqlite://", "sqlite::memory:", ":memory:", "", "sqlite://x", "sqlite:x"]
        {
            let error = Database::parse(text, &Surroundings::folder(Path::new("/srv"))).expect_err(text);
            assert!(matches!(error, Error::Usage { .. }), "{text}: {error:?}");
            assert!(!format!("{error:?}").contains("secret"));
        }
    }
}
