//! The environment of a rehearsed command: what its variables say, and what its probe must print.

use std::collections::BTreeMap;

use nexus_core::bucket::Address;
use nexus_core::database::Database;
use nexus_core::error::{Error, Result};
use nexus_core::point::DatabaseKind;
use nexus_core::rehearse::Ground;
use nexus_core::vault::RecoveryPoint;

use super::child::Expected;

/// Where the app is told to find its database.
const DATABASE_URL: &str = "DATABASE_URL";
/// Says that this is a rehearsal.
const REHEARSAL: &str = "NEXUS_REHEARSAL";
/// All placeholders.
const KNOWN: &str = "{database-url}, {database-path}, {database-name}, {bucket}, {prefix}, {files}";

/// The variables of `[rehearse.environment]`, each as pieces.
#[derive(Debug)]
pub struct Variables(BTreeMap<String, Vec<Piece>>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Word),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    DatabaseUrl,
    DatabasePath,
    DatabaseName,
    Bucket,
    Prefix,
    Files,
}

impl Word {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "database-url" => Self::DatabaseUrl,
            "database-path" => Self::DatabasePath,
            "database-name" => Self::DatabaseName,
            "bucket" => Self::Bucket,
            "prefix" => Self::Prefix,
            "files" => Self::Files,
            _ => return None,
        })
    }

    /// Why there is nothing to put in its place, where there is not.
    fn lacks(self) -> &'static str {
        match self {
            Self::DatabasePath => "a PostgreSQL database has no path: write {database-name} or {database-url}",
            Self::Bucket | Self::Prefix => {
                "there is no bucket for the files: [rehearse] bucket names none; of a folder write {files}"
            }
            _ => "there is no place for the files: [rehearse] bucket names none",
        }
    }
}

/// What stands for the placeholders.
#[derive(Debug, Default)]
struct Places {
    url: String,
    path: Option<String>,
    name: String,
    bucket: Option<String>,
    prefix: Option<String>,
    files: Option<String>,
}

impl Places {
    fn value(&self, word: Word) -> Option<&str> {
        match word {
            Word::DatabaseUrl => Some(&self.url),
            Word::DatabasePath => self.path.as_deref(),
            Word::DatabaseName => Some(&self.name),
            Word::Bucket => self.bucket.as_deref(),
            Word::Prefix => self.prefix.as_deref(),
            Word::Files => self.files.as_deref(),
        }
    }

    fn with_files(mut self, files: Option<&Address>) -> Self {
        match files {
            Some(Address::S3 { bucket, prefix }) => {
                self.bucket = Some(bucket.clone());
                self.prefix = Some(prefix.trim_end_matches('/').to_owned());
                self.files = Some(format!("s3://{bucket}/{}", prefix.trim_end_matches('/')));
            }
            Some(Address::Folder(path)) => self.files = Some(path.display().to_string()),
            None => {}
        }
        self
    }
}

impl Variables {
    /// Reads the templates of the configuration; `{{` and `}}` are braces.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a placeholder that is not known, and a name that no variable can have.
    pub fn read(templates: &BTreeMap<String, String>) -> Result<Self> {
        let read = |(name, template): (&String, &String)| {
            if name.is_empty() || name.contains(['=', '\0']) || template.contains('\0') {
                return Err(Error::usage(format!("[rehearse.environment] {name:?} cannot be a variable")));
            }
            Ok((name.clone(), pieces(name, template)?))
        };
        templates.iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// Fails for a placeholder that this point and these files leave nothing to put in place of.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] with what to write instead.
    pub fn check(&self, point: &RecoveryPoint, files: Option<&Address>) -> Result<()> {
        let kind = point.manifest().parts.database.as_ref().map(|database| &database.kind);
        let path = matches!(kind, Some(DatabaseKind::Sqlite { .. })).then(String::new);
        self.fill(&Places { path, ..Places::default() }.with_files(files)).map(drop)
    }

    /// What is set for the probe and the command.
    ///
    /// # Errors
    ///
    /// As for [`Variables::check`].
    pub fn of(&self, ground: &Ground) -> Result<BTreeMap<String, String>> {
        let places = places(ground).with_files(ground.files());
        let mut all: BTreeMap<String, String> = [(DATABASE_URL.to_owned(), places.url.clone())].into();
        all.extend(self.fill(&places)?);
        all.insert(REHEARSAL.to_owned(), "1".to_owned());
        Ok(all)
    }

    /// The names that are set.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(String::as_str).chain([DATABASE_URL, REHEARSAL]).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn fill(&self, places: &Places) -> Result<BTreeMap<String, String>> {
        let filled = |(name, pieces): (&String, &Vec<Piece>)| {
            let mut text = String::new();
            for piece in pieces {
                text.push_str(match piece {
                    Piece::Text(text) => text,
                    Piece::Place(word) => places.value(*word).ok_or_else(|| {
                        Error::usage_hint(format!("[rehearse.environment] {name} cannot be filled"), word.lacks())
                    })?,
                });
            }
            Ok((name.clone(), text))
        };
        self.0.iter().map(filled).collect()
    }
}

fn places(ground: &Ground) -> Places {
    match ground.database().map(nexus_core::database::scratch::ScratchDatabase::database) {
        Some(database @ Database::Sqlite(file)) => Places {
            url: database.location(),
            path: Some(file.path().display().to_string()),
            name: file.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            ..Places::default()
        },
        Some(Database::Postgres(server)) => {
            Places { url: server.url_with_password(), name: server.name().to_owned(), ..Places::default() }
        }
        None => Places::default(),
    }
}

/// What a probe must print.
pub fn expected(ground: &Ground) -> Vec<Expected> {
    let places = places(ground).with_files(ground.files());
    let mut expected = vec![("the database", places.path.unwrap_or(places.name))];
    match (places.bucket, places.prefix, places.files) {
        (Some(bucket), Some(prefix), _) => expected.extend([("the bucket", bucket), ("the prefix", prefix)]),
        (_, _, Some(folder)) => expected.push(("the folder of files", folder)),
        _ => {}
    }
    expected
}

/// A template in pieces.
fn pieces(name: &str, template: &str) -> Result<Vec<Piece>> {
    let wrong =
        |what: String| Error::usage_hint(what, format!("known are {KNOWN}; braces themselves are {{{{ and }}}}"));
    let (mut pieces, mut text, mut rest) = (Vec::new(), String::new(), template);
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
            continue;
        }
        let inner = (brace == "{").then(|| after.split_once('}')).flatten();
        let (word, after) =
            inner.ok_or_else(|| wrong(format!("[rehearse.environment] {name} has a brace without its other half")))?;
        let place = Word::parse(word)
            .ok_or_else(|| wrong(format!("[rehearse.environment] {name} has an unknown placeholder {{{word}}}")))?;
        pieces.extend([Piece::Text(std::mem::take(&mut text)), Piece::Place(place)]);
        rest = after;
    }
    text.push_str(rest);
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, places: &Places) -> Result<String> {
        let variables = Variables::read(&[("NAME".to_owned(), template.to_owned())].into())?;
        Ok(variables.fill(places)?["NAME"].clone())
    }

    #[test]
    fn placeholders_are_filled_and_double_braces_are_braces() {
        let address = Address::S3 { bucket: "staging".into(), prefix: "x/y/".into() };
        let places = Places { url: "u{}".into(), ..Places::default() }.with_files(Some(&address));
        let text = filled("{{{database-url}}} {bucket}:{prefix}/ {files}", &places).expect("filled");
        assert_eq!(text, "{u{}} staging:x/y/ s3://staging/x/y");
    }

    #[test]
    fn what_is_not_known_or_has_nothing_to_stand_for_is_refused() {
        for template in ["{database}", "{", "}", "{bucket", "{}", "{{bucket}"] {
            assert!(filled(template, &Places::default()).is_err(), "{template}");
        }
        let error = filled("{prefix}", &Places::default()).expect_err("no bucket");
        assert!(matches!(error, Error::Usage { hint: Some(hint), .. } if hint.contains("[rehearse] bucket")));
        assert!(Variables::read(&[("A=B".to_owned(), String::new())].into()).is_err());
    }
}
