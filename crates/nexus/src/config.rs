//! The configuration file: its keys as types, and what is said when one of them is wrong.
//!
//! A message about it never quotes a value: a database URL may hold a password.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use nexus_core::error::{Error, Result};
use nexus_core::files::capture::Properties;
use nexus_core::point::references::Reference;
use nexus_core::point::{CategoryRule, Copies, Label};
use nexus_core::vault::layout;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::rate::Rate;
use crate::span::Span;
use crate::wording::without_passwords;

/// Everything that `nexus.toml` may hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConfigFile {
    /// The app's name.
    pub app: Option<String>,
    /// The label of new points.
    pub label: Option<Label>,
    /// `[database]`
    pub database: DatabaseTable,
    /// `[files]`
    pub files: FilesTable,
    /// `[records]`
    pub records: RecordsTable,
    /// `[[references]]`
    pub references: Vec<ReferenceTable>,
    /// `[vault]`
    pub vault: VaultTable,
    /// `[retention]`
    pub retention: RetentionTable,
    /// `[rehearse]`
    pub rehearse: RehearseTable,
    /// `[s3]`
    pub s3: S3Table,
    /// `[hooks]`
    pub hooks: HooksTable,
    /// `[contacts]`: whom to ask, in free text.
    pub contacts: BTreeMap<String, String>,
    /// The file that monitoring reads.
    pub metrics_file: Option<String>,
    /// `[ping]`
    pub ping: PingTable,
}

/// `[database]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DatabaseTable {
    /// Where it is.
    pub url: Option<String>,
    /// How long to wait for its locks.
    pub lock_wait: Option<Span>,
    /// The folder of PostgreSQL's client programs.
    pub programs: Option<String>,
}

/// `[files]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FilesTable {
    /// A bucket or a folder.
    pub source: Option<String>,
    /// Globs on the key that leave a file out.
    pub exclude: Vec<String>,
    /// Whether unchanged files are reused.
    #[serde(deserialize_with = "copies")]
    pub copies: Option<Copies>,
    /// What is kept of each object.
    #[serde(deserialize_with = "properties")]
    pub properties: Option<Properties>,
    /// Ordered rules; absent: by extension.
    pub categories: Option<Categories>,
    /// The encryption of copies; absent: the bucket's own.
    pub encryption: Option<Encryption>,
    /// The endpoint, when it is not that of `[s3]`; `aws` for AWS itself.
    pub endpoint: Option<String>,
    /// The region, when it is not that of `[s3]`.
    pub region: Option<String>,
    /// The profile, when it is not that of `[s3]`.
    pub profile: Option<String>,
}

/// `[records]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RecordsTable {
    /// The local folder.
    pub folder: Option<String>,
    /// Whether the vault holds them too.
    pub vault: Option<bool>,
    /// Records' names and their tables; absent: every table under its own name.
    pub tables: Option<BTreeMap<String, String>>,
}

/// `[[references]]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ReferenceTable {
    /// The table, by its record name or its own.
    pub table: Option<String>,
    /// The column whose values are keys of files.
    pub column: Option<String>,
    /// Several such columns.
    pub columns: Vec<String>,
    /// What is put before a value.
    pub prefix: String,
    /// The folder or URL that is taken from a value's beginning.
    pub base: Option<String>,
}

impl ReferenceTable {
    /// One reference for each of its columns; `number` says which of the tables it is, from 1.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when it names no table or no column.
    pub fn references(self, number: usize) -> Result<Vec<Reference>> {
        let lacks = |what: &str| {
            Error::usage_hint(
                format!("[[references]] number {number} names no {what}"),
                "it needs `table`, and `column` or `columns`; docs/config.md has an example",
            )
        };
        let table = self.table.filter(|table| !table.is_empty()).ok_or_else(|| lacks("table"))?;
        let columns: Vec<String> = self.column.into_iter().chain(self.columns).collect();
        if columns.is_empty() {
            return Err(lacks("column"));
        }
        // It is stored in every point.
        if self.base.as_deref().is_some_and(|base| without_passwords(base) != base) {
            return Err(Error::usage_hint(
                format!("the base of [[references]] number {number} holds a password"),
                "write `*` in its place: it stands for anything but `/`",
            ));
        }
        let reference =
            |column| Reference { table: table.clone(), column, prefix: self.prefix.clone(), base: self.base.clone() };
        Ok(columns.into_iter().map(reference).collect())
    }
}

/// `[vault]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct VaultTable {
    /// A bucket with a prefix, or a folder.
    pub url: Option<String>,
    /// The encryption of what nexus writes itself.
    pub encryption: Option<Encryption>,
    /// The storage class of database objects.
    pub database_class: Option<String>,
}

/// `[retention]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RetentionTable {
    /// How long a database is kept.
    pub database: Option<KeptFor>,
    /// How long files are kept.
    pub files: Option<KeptFor>,
    /// How long records are kept.
    pub records: Option<KeptFor>,
    /// The newest proven points that are kept however old they are.
    pub keep_last: Option<u32>,
    /// The newest of each of so many days.
    pub keep_daily: Option<u32>,
    /// The newest of each of so many weeks.
    pub keep_weekly: Option<u32>,
    /// The newest of each of so many months.
    pub keep_monthly: Option<u32>,
    /// The newest of each of so many years.
    pub keep_yearly: Option<u32>,
    /// `[retention.safety]`
    pub safety: SafetyTable,
}

/// `[retention.safety]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SafetyTable {
    /// How long safety points are kept.
    pub keep: Option<KeptFor>,
    /// The newest of them that are kept however old they are.
    pub keep_last: Option<u32>,
}

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum KeptFor {
    /// For so long.
    Span(Span),
    /// For ever: `"forever"`.
    Ever,
}

impl KeptFor {
    /// Its seconds; none: for ever.
    pub fn seconds(self) -> Option<u64> {
        match self {
            Self::Span(span) => Some(span.seconds()),
            Self::Ever => None,
        }
    }
}

impl std::str::FromStr for KeptFor {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "forever" {
            return Ok(Self::Ever);
        }
        text.parse().map(Self::Span).map_err(|wrong: String| format!("{wrong}, or \"forever\""))
    }
}

impl TryFrom<String> for KeptFor {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

/// `[rehearse]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RehearseTable {
    /// Where scratch files go: a bucket with a prefix, or a folder.
    pub bucket: Option<String>,
    /// The PostgreSQL server for scratch databases; absent: the app's own.
    pub server: Option<String>,
    /// The command that prints where the app's own settings lead.
    pub probe: Option<String>,
    /// Variables for the command, with placeholders.
    pub environment: BTreeMap<String, String>,
}

/// `[s3]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct S3Table {
    /// The endpoint, when it is not AWS.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The profile.
    pub profile: Option<String>,
    /// Requests in flight at most.
    pub requests_in_flight: Option<std::num::NonZeroU16>,
    /// How often one request is tried.
    pub attempts: Option<std::num::NonZeroU8>,
    /// How long one try may go without progress.
    pub request_timeout: Option<Span>,
    /// Bytes of content a second that go through this machine at most.
    pub bandwidth: Option<Rate>,
    /// Objects of more bytes than this are copied in parts.
    pub copy_cutoff: Option<std::num::NonZeroU64>,
}

/// `[hooks]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct HooksTable {
    /// What stops the app before a restore.
    pub before_restore: Option<String>,
    /// What starts it again, however the restore ended.
    pub after_restore: Option<String>,
    /// What runs before a backup, and keeps it from being made when it fails.
    pub before: Option<String>,
    /// What runs after a proven backup.
    pub after: Option<String>,
    /// What runs when a backup, a guard, a verify, a drill or a prune did not end well.
    pub failed: Option<String>,
    /// How long each may take.
    pub patience: Option<Span>,
}

/// `[ping]`: for each verb the URL that is told of its runs. Whoever knows one can send to it, so it is never shown.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PingTable {
    /// Of `backup`.
    pub backup: Option<String>,
    /// Of `guard`.
    pub guard: Option<String>,
    /// Of `verify`.
    pub verify: Option<String>,
    /// Of `drill`.
    pub drill: Option<String>,
    /// Of `prune`.
    pub prune: Option<String>,
}

impl fmt::Debug for PingTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Server-side encryption, as the S3 header spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    /// `AES256`.
    #[serde(rename = "AES256")]
    Aes256,
    /// `aws:kms`.
    #[serde(rename = "aws:kms")]
    Kms,
    /// No header is sent.
    #[serde(rename = "none")]
    None,
}

impl Encryption {
    /// The header's value, unless none is sent.
    pub fn header(self) -> Option<String> {
        match self {
            Self::Aes256 => Some("AES256".to_owned()),
            Self::Kms => Some("aws:kms".to_owned()),
            Self::None => None,
        }
    }
}

/// The categories in the order of the file: the first whose glob matches takes the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Categories(pub Vec<CategoryRule>);

impl Categories {
    /// The rules when the file has none: by extension, in any case.
    pub fn by_extension() -> Self {
        let rule = |name: &str, extensions: &[&str]| CategoryRule {
            name: name.to_owned(),
            globs: extensions.iter().map(|extension| format!("*.{extension}")).collect(),
        };
        Self(vec![
            rule("images", &["jpg", "jpeg", "png", "gif", "webp", "tif", "tiff", "bmp", "svg", "heic"]),
            rule("documents", &["pdf", "doc", "docx", "xls", "xlsx", "odt", "ods", "txt", "rtf", "csv"]),
        ])
    }
}

impl<'de> Deserialize<'de> for Categories {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Categories;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of categories, each with a list of globs")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Categories, A::Error> {
                let mut rules = Vec::new();
                while let Some((name, globs)) = map.next_entry::<String, Vec<String>>()? {
                    layout::check_category(&name).map_err(de::Error::custom)?;
                    rules.push(CategoryRule { name, globs });
                }
                Ok(Categories(rules))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

fn copies<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Copies>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "incremental" => Ok(Some(Copies::Incremental)),
        "full" => Ok(Some(Copies::Full)),
        "versions" => Ok(Some(Copies::Versions)),
        other => Err(de::Error::custom(format!(
            "{other:?} is not a way to copy: write \"incremental\", \"full\" or \"versions\""
        ))),
    }
}

fn properties<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Properties>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "copied" => Ok(Some(Properties::Copied)),
        "all" => Ok(Some(Properties::All)),
        other => Err(de::Error::custom(format!("{other:?} is not what can be kept: write \"copied\" or \"all\""))),
    }
}

impl ConfigFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when it is not there; [`Error::Usage`] with the line when it cannot be understood.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| Error::local(format!("cannot read the configuration `{}`", path.display()), cause))?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        toml::from_str(text).map_err(|error| explain(&error, text, path))
    }
}

/// Says what is wrong where, with a suggestion where a key is not known.
fn explain(error: &toml::de::Error, text: &str, path: &Path) -> Error {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let place = format!("line {line} of {}", path.display());
    let message = error.message();
    let Some((key, known)) = unknown_key(message) else {
        return Error::usage_hint(
            format!("{}, at {place}", without_passwords(&without_values(message.trim_end_matches('.')))),
            "docs/config.md has every key with its values; `nexus init --dry-run` prints a file that works",
        );
    };
    // No key looks like a URL, and who writes one in a key's place may have written a secret.
    let key = if key.contains("://") { "…".to_owned() } else { key };
    let what = format!("unknown key `{key}` at {place}");
    let list = known.join(", ");
    match nearest(&key, &known) {
        Some(meant) => Error::usage_hint(what, format!("did you mean `{meant}`? known here: {list}")),
        None => Error::usage_hint(what, format!("known here: {list}")),
    }
}

/// The message without the texts that serde quotes: one in the wrong place may be a secret.
fn without_values(message: &str) -> String {
    let (mut told, mut rest) = (String::new(), message);
    while let Some((before, after)) = rest.split_once("string \"") {
        told.push_str(before);
        told.push_str("a text");
        // Up to the last quotation mark: the value may hold some itself, and serde's own words hold none.
        rest = after.rsplit_once('"').map_or("", |(_, after)| after);
    }
    told + rest
}

/// The key and the known ones of serde's "unknown field `a`, expected one of `b`, `c`".
fn unknown_key(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, known) = rest.split_once("`, expected ")?;
    let known = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((key.to_owned(), known))
}

/// The known word that was most likely meant.
fn nearest<'a>(word: &str, known: &'a [String]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile> {
        ConfigFile::parse(text, Path::new("nexus.toml"))
    }

    fn refusal(text: &str) -> (String, String) {
        match parse(text).expect_err("a refusal") {
            Error::Usage { what, hint } => (what, hint.unwrap_or_default()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_typo_is_named_with_its_line_and_what_was_meant() {
        let (what, hint) = refusal("app = \"a\"\n[files]\nsorce = \"x\"\n");
        assert_eq!(what, "unknown key `sorce` at line 3 of nexus.toml");
        assert!(hint.starts_with("did you mean `source`?"), "{hint}");
    }

    #[test]
    fn a_key_in_the_wrong_spelling_of_words_is_suggested() {
        let (_, hint) = refusal("[retention]\nkeep_last = 3\n");
        assert!(hint.starts_with("did you mean `keep-last`?"), "{hint}");
    }

    #[test]
    fn references_are_read_and_a_wrong_key_of_one_is_named() {
        let text = "[[references]]\ntable = \"t\"\ncolumns = [\"a\", \"b\"]\nprefix = \"media/\"\n[[references]]\ntable = \"u\"\n";
        let mut tables = parse(text).expect("a config").references;
        assert!(
            tables.pop().expect("the second").references(2).expect_err("no column").to_string().contains("number 2")
        );
        let first = tables.pop().expect("the first").references(1).expect("two columns");
        let columns: Vec<_> =
            first.iter().map(|one| (one.table.as_str(), one.column.as_str(), one.prefix.as_str())).collect();
        assert_eq!(columns, [("t", "a", "media/"), ("t", "b", "media/")]);
        let (what, hint) = refusal("[[references]]\ntable = \"t\"\ncolum = \"c\"\n");
        assert_eq!(what, "unknown key `colum` at line 3 of nexus.toml");
        assert!(hint.starts_with("did you mean `column`?"), "{hint}");
    }

    #[test]
    fn a_password_is_never_quoted() {
        let (what, hint) = refusal("database = \"postgres://clinic:geheim@db/clinic\"\n");
        assert!(!what.contains("geheim") && !hint.contains("geheim"), "{what} {hint}");
    }

    #[test]
    fn categories_keep_the_order_of_the_file() {
        let config =
            parse("[files.categories]\nzebra = [\"z/**\"]\nalpha = [\"**\"]\nmiddle = []\n").expect("a config");
        let names: Vec<_> = config.files.categories.expect("categories").0.into_iter().map(|rule| rule.name).collect();
        assert_eq!(names, ["zebra", "alpha", "middle"]);
    }

    #[test]
    fn a_category_cannot_take_the_name_of_a_points_own_folder() {
        for name in ["records", "journal", "\"a/b\"", "\"..\"", "\"\""] {
            assert!(parse(&format!("[files.categories]\n{name} = [\"**\"]\n")).is_err(), "{name} was taken");
        }
    }

    #[test]
    fn zero_and_bare_times_are_refused_with_their_line() {
        for value in ["\"0d\"", "30", "\"-1d\"", "\"30\""] {
            let (what, _) = refusal(&format!("[retention]\ndatabase = {value}\n"));
            assert!(what.ends_with("at line 2 of nexus.toml"), "{what}");
        }
    }
}
