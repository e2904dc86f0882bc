//! The nouns of a vault: point ids, the claim, the manifest, journal entries. Versioned JSON, no I/O.

pub mod references;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::listing::{ProofKind, hex};
use references::References;

/// Bytes as lower-case hexadecimal digits, as documents have hashes.
pub use crate::listing::hex as hexadecimal;

/// The format of everything written by this release.
pub const FORMAT: u32 = 1;

/// The label of the points that restore takes of the present state before it changes anything.
pub const SAFETY_LABEL: &str = "before-restore";

/// The label of copies that are made of points without copies, so that they can be kept for ever.
pub const PINNED_LABEL: &str = "pinned-copy";

/// What kind of run a point comes from: `[a-z0-9-]`, 1 to 32 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// The label's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the points that restore takes before it changes anything.
    pub fn is_safety(&self) -> bool {
        self.0 == SAFETY_LABEL
    }
}

impl Label {
    /// True for points that show the present state of nothing when they are made: never `latest`, and never a base.
    pub fn is_aside(&self) -> bool {
        self.is_safety() || self.0 == PINNED_LABEL
    }
}

impl FromStr for Label {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::usage_hint(
            format!("{text:?} is not a label"),
            "a label is 1 to 32 characters of a-z, 0-9 and `-`, for example `reimport`",
        ))
    }
}

impl TryFrom<String> for Label {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a recovery point: `<label>_<YYYYMMDD_HHMMSS>` in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PointId {
    label: Label,
    stamp: String,
}

impl PointId {
    /// The id of a point with this label claimed at this second.
    pub fn new(label: Label, at: Timestamp) -> Self {
        let stamp = at.to_zoned(TimeZone::UTC).strftime("%Y%m%d_%H%M%S").to_string();
        Self { label, stamp }
    }

    /// The label.
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// `YYYYMMDD_HHMMSS`, in UTC.
    pub fn stamp(&self) -> &str {
        &self.stamp
    }

    /// The second in which the id was claimed.
    pub fn claimed(&self) -> Timestamp {
        parse_stamp(&self.stamp).expect("checked when the id was made")
    }
}

fn parse_stamp(stamp: &str) -> Option<Timestamp> {
    let shape = stamp.len() == 15
        && stamp.bytes().enumerate().all(|(at, byte)| if at == 8 { byte == b'_' } else { byte.is_ascii_digit() });
    if !shape {
        return None;
    }
    let time = jiff::civil::DateTime::strptime("%Y%m%d_%H%M%S", stamp).ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

impl FromStr for PointId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('_').and_then(|(label, stamp)| Some((label.parse().ok()?, stamp)));
        match parts {
            Some((label, stamp)) if parse_stamp(stamp).is_some() => Ok(Self { label, stamp: stamp.to_owned() }),
            _ => Err(Error::usage_hint(
                format!("{text:?} is not a point id"),
                "ids look like `reimport_20251115_064233`; `nexus list` shows them",
            )),
        }
    }
}

impl TryFrom<String> for PointId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PointId> for String {
    fn from(id: PointId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.label, self.stamp)
    }
}

impl PartialOrd for PointId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Older points come first.
impl Ord for PointId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.stamp, &self.label).cmp(&(&other.stamp, &other.label))
    }
}

/// One of the three parts of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The database.
    Database,
    /// The app's files.
    Files,
    /// Every row as JSON.
    Records,
}

impl Part {
    /// All three, in the order they are shown.
    pub const ALL: [Self; 3] = [Self::Database, Self::Files, Self::Records];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Files => "files",
            Self::Records => "records",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Part {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|part| part.name() == text).ok_or_else(|| {
            Error::usage_hint(format!("{text:?} is not a part"), "the parts are database, files and records")
        })
    }
}

/// `vault.json`: says that a vault is one, and whose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultDescriptor {
    /// The format of what lies in the vault.
    pub format: u32,
    /// The one app it belongs to.
    pub app: String,
    /// When it was first used.
    pub created: Timestamp,
    /// Tells our own write from another's when an answer was lost.
    pub nonce: String,
    /// What wrote it.
    pub software: String,
}

/// `started.json`: claims a point's id before anything else is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The format.
    pub format: u32,
    /// The claimed id.
    pub point: PointId,
    /// The app.
    pub app: String,
    /// Tells our own write from another's when an answer was lost.
    pub nonce: String,
    /// What wrote it.
    pub software: String,
    /// When, by the clock of the machine that runs the backup.
    pub started: Timestamp,
    /// The parts it will take.
    pub parts: Vec<Part>,
    /// The points whose copies it may come to depend on: its base, and backups that broke off.
    #[serde(default)]
    pub reuses: Vec<PointId>,
    /// Where its files come from: `s3://bucket/prefix`; nothing where it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// The process that made it, as its machine tells whether it still runs: that one's boot, the process's namespace, its number
    /// and when it began. Nothing of a machine is to be known by it elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// True when it claims what an older tool has left: what lies there is not this claim's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// The point of another vault that it will be a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<CopyOf>,
}

/// The point of another vault that a point is a copy of; both bear one id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOf {
    /// The vault it was copied from, as it was named.
    pub vault: String,
    /// The nonce of the first of all copies, the one that a backup made.
    pub nonce: String,
}

/// `manifest.json`: how a claim ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ending {
    /// The claim was given up; the point does not exist and never will.
    Abandoned(Abandoned),
    /// The point.
    Committed(Box<Manifest>),
}

/// The word that a claim was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoned {
    /// The format.
    pub format: u32,
    /// The claimed id.
    pub point: PointId,
    /// Why and when.
    pub abandoned: Abandonment,
}

/// Why and when a claim was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandonment {
    /// When.
    pub at: Timestamp,
    /// In a person's words.
    pub reason: String,
    /// Tells our own write from another's when an answer was lost.
    pub nonce: String,
}

/// The document that is the point: written last, once, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format.
    pub format: u32,
    /// The point's id.
    pub point: PointId,
    /// The app.
    pub app: String,
    /// The claim's nonce.
    pub nonce: String,
    /// What wrote it.
    pub software: String,
    /// When the claim was made.
    pub started: Timestamp,
    /// The moment the database part shows; without one, the moment the files' listing began.
    pub instant: Timestamp,
    /// When everything was in place.
    pub committed: Timestamp,
    /// The point whose copies were reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PointId>,
    /// How long each part was meant to be kept when it was made, in seconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept_for: BTreeMap<Part, u64>,
    /// What was taken.
    pub parts: Parts,
    /// What was found wrong while taking it, and recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Columns whose values are keys of files, and what comparing them with the files came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<References>,
    /// What an older tool had left, when it was made of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Adopted>,
    /// The point of another vault that it is a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<CopyOf>,
}

/// What an older tool had left, and was made a point of where it lay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// How many seconds the times in the names of its parts are apart: it is not of one instant.
    pub apart_seconds: u64,
    /// What the parts were called, relative to the vault; of records the folder on the machine that adopted them.
    pub from: BTreeMap<Part, String>,
    /// The time zone in which the times in the names were read.
    pub timezone: String,
}

impl Manifest {
    /// The parts it has.
    pub fn present(&self) -> Vec<Part> {
        Part::ALL.into_iter().filter(|part| self.has(*part)).collect()
    }

    /// True when the part was taken.
    pub fn has(&self, part: Part) -> bool {
        match part {
            Part::Database => self.parts.database.is_some(),
            Part::Files => self.parts.files.is_some(),
            Part::Records => self.parts.records.is_some(),
        }
    }

    /// The records, when they are written as this tool writes them: their values are exact, and rows again.
    pub fn own_records(&self) -> Option<&RecordsPart> {
        self.parts.records.as_ref().filter(|_| self.adopted.is_none())
    }

    /// The folders that copies of its files may lie in.
    pub fn categories(&self) -> BTreeSet<String> {
        let Some(files) = &self.parts.files else { return BTreeSet::new() };
        let ruled = files.rules.categories.iter().map(|category| category.name.clone());
        ruled.chain(files.categories.keys().cloned()).chain(["other".to_owned()]).collect()
    }

    /// The objects of these parts that lie outside the point's own folder.
    pub fn objects_outside(&self, parts: &[Part]) -> Vec<String> {
        let Some(database) = self.parts.database.as_ref().filter(|_| parts.contains(&Part::Database)) else {
            return Vec::new();
        };
        let globals = match &database.kind {
            DatabaseKind::Postgres { postgres } => postgres.globals.as_ref(),
            DatabaseKind::Sqlite { .. } => None,
        };
        let objects = [Some(&database.object), globals].into_iter().flatten();
        objects.map(|object| object.key.clone()).collect()
    }

    /// When a part's time is over by the retention it was made with.
    pub fn expires(&self, part: Part) -> Option<Timestamp> {
        let seconds = i64::try_from(*self.kept_for.get(&part)?).ok()?;
        self.point.claimed().checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
    }
}

/// The parts of a point.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// The database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabasePart>,
    /// The files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesPart>,
    /// The records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordsPart>,
}

/// An object that this point wrote, with what proves it whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    /// The key, relative to the vault's prefix.
    pub key: String,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes, hexadecimal.
    pub sha256: String,
}

/// The database of a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabasePart {
    /// What kind, and what only that kind has.
    #[serde(flatten)]
    pub kind: DatabaseKind,
    /// Where it came from, without secrets: `sqlite:////srv/clinic/db.sqlite3`.
    pub source: String,
    /// The object that holds it.
    pub object: StoredObject,
    /// Rows by table at the instant.
    pub tables: BTreeMap<String, u64>,
    /// How long the source was read-locked, in milliseconds. In PostgreSQL this keeps nobody from reading or writing,
    /// only from changing or emptying tables.
    pub read_milliseconds: u64,
}

/// What only one kind of database has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum DatabaseKind {
    /// One SQLite file.
    Sqlite {
        /// What its header and pragmas said.
        sqlite: SqliteFacts,
    },
    /// A database on a PostgreSQL server, as `pg_dump` wrote it in its custom format.
    Postgres {
        /// What it was beyond its rows.
        postgres: Box<PostgresFacts>,
    },
}

/// What a PostgreSQL database is beyond its tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresFacts {
    /// The server's version: `15.18 (Debian 15.18-0+deb12u1)`.
    pub server: String,
    /// What made the dump, with its version; empty when none was made.
    pub client: String,
    /// The dump's compression: `zstd:3`, `gzip`, `none`.
    pub compression: String,
    /// The encoding: `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Where the locale comes from: `libc`, `icu`, `builtin`.
    pub locale_provider: String,
    /// The ICU or builtin locale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Collation rules beyond the ICU locale's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icu_rules: Option<String>,
    /// The role that owns the database.
    pub owner: String,
    /// `COMMENT ON DATABASE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// `CONNECTION LIMIT`; -1: none.
    pub connection_limit: i64,
    /// True for a database that others may be made from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_template: bool,
    /// The tablespace it lies in; absent: the server's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tablespace: Option<String>,
    /// Other tablespaces that things in it lie in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tablespaces: Vec<String>,
    /// The role that made the backup.
    pub role: String,
    /// Bytes it took on the server's disk.
    pub size: u64,
    /// Extensions, by name.
    pub extensions: Vec<PostgresExtension>,
    /// Roles that own it or something in it.
    pub owners: Vec<String>,
    /// Roles that are granted something in it or named by its policies.
    pub roles: Vec<String>,
    /// `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<PostgresSetting>,
    /// Privileges on the database itself; none recorded: the server's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<PostgresGrant>>,
    /// Large objects.
    pub large_objects: u64,
    /// The server's roles and tablespaces as SQL, without passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub globals: Option<StoredObject>,
    /// What the role could not keep, in a person's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
}

/// An extension of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresExtension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The schema it lies in.
    pub schema: String,
}

/// A setting that the server makes for everybody, or for one role, who comes to the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresSetting {
    /// For this role only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The setting.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A privilege on a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresGrant {
    /// To whom; nobody named: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// `CONNECT`, `CREATE`, `TEMPORARY`.
    pub privilege: String,
    /// True when they may grant it on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grantable: bool,
}

/// What a SQLite file is beyond its rows. Source: <https://www.sqlite.org/pragma.html>.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqliteFacts {
    /// `PRAGMA application_id`.
    pub application_id: i64,
    /// `PRAGMA user_version`.
    pub user_version: i64,
    /// `PRAGMA page_size`, bytes.
    pub page_size: u64,
    /// `PRAGMA encoding`.
    pub encoding: String,
    /// `PRAGMA auto_vacuum`: 0 none, 1 full, 2 incremental.
    pub auto_vacuum: i64,
    /// `PRAGMA journal_mode` of the source: `wal`, `delete`, …
    pub journal_mode: String,
    /// The library that made the copy.
    pub library: String,
    /// Rows whose foreign key points at nothing, by table; recorded, not an error.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub foreign_key_violations: BTreeMap<String, u64>,
}

/// The files of a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilesPart {
    /// Where they came from: `s3://bucket/prefix` or `file:///srv/media`.
    pub source: String,
    /// The S3 endpoint they came from, when it is not the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The rules by which they were chosen and sorted.
    pub rules: FileRules,
    /// `incremental` or `full`.
    pub copies: Copies,
    /// The listing.
    pub listing: StoredObject,
    /// `restore-files.sh`: the way back with stock tools.
    pub script: StoredObject,
    /// Files and bytes by category.
    pub categories: BTreeMap<String, Count>,
    /// All together.
    pub total: Count,
    /// Copied into this point.
    pub copied: Count,
    /// Unchanged since an earlier point, whose copies are reused.
    pub reused: Count,
    /// In the source, left out by the rules.
    pub excluded: Count,
    /// How many files each kind of proof stands for.
    pub proofs: BTreeMap<ProofKind, u64>,
    /// What is kept of each object beside its bytes.
    pub properties: Vec<String>,
}

/// How copies are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Copies {
    /// What is unchanged since the base point is reused.
    #[default]
    Incremental,
    /// Every point holds all its copies.
    Full,
    /// No copies: the files lie as versions of the source's own objects, in a bucket that keeps them.
    Versions,
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incremental => "incremental",
            Self::Full => "full",
            Self::Versions => "versions",
        })
    }
}

/// The rules by which files were chosen and sorted; restore needs them to know what it may call extra.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRules {
    /// The source's prefix; the empty one is the whole bucket or folder.
    pub prefix: String,
    /// Globs on the key that leave a file out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Prefixes left out because they hold a vault.
    #[serde(default)]
    pub vaults: Vec<String>,
    /// Categories in order, each with its globs; the rest is `other`.
    pub categories: Vec<CategoryRule>,
}

/// One category and the globs of the keys that belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryRule {
    /// Its name, which is the folder of its copies.
    pub name: String,
    /// Globs on the key.
    pub globs: Vec<String>,
}

/// A number of files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
}

impl Count {
    /// Counts one more file.
    pub fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// The records of a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordsPart {
    /// The local folder they were written to, when they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// True when the vault holds them too.
    pub in_vault: bool,
    /// The tables, in the order of their names.
    pub tables: Vec<RecordTable>,
    /// Tables of the database that have no records file, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, String>,
    /// `backup_summary.json`: its bytes and hash. Only records that an older tool has written may be without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<FileHash>,
    /// All rows together.
    pub rows: u64,
}

/// A file by its bytes and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// One table as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordTable {
    /// The name its records go by.
    pub name: String,
    /// The table's own name in the database.
    pub table: String,
    /// The file: one JSON array, one record a line.
    pub file: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// The index beside the file, named as the file but for its ending `.index`: small files, those of tables without a key
    /// and those that were written before there were indexes have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<FileHash>,
    /// The columns in the order of the records' fields.
    pub columns: Vec<RecordColumn>,
    /// The columns the rows are ordered by; empty: by rowid.
    pub order: Vec<String>,
    /// True when each record starts with its `$rowid`, because the table has no primary key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rowid: bool,
    /// The last value that AUTOINCREMENT gave out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// The last value that the sequence of a column gave out, by column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sequences: BTreeMap<String, i64>,
}

/// How the name of an index ends.
pub(crate) const INDEX_ENDING: &str = ".index";

impl RecordTable {
    /// The name of the index beside the file.
    pub fn index_file(&self) -> String {
        format!("{}{INDEX_ENDING}", self.file.strip_suffix(".json").unwrap_or(&self.file))
    }

    /// The files of the table, each with its bytes and SHA-256: the records, then their index where there is one.
    pub fn files(&self) -> impl Iterator<Item = (String, FileHash)> {
        let records = (self.file.clone(), FileHash { bytes: self.bytes, sha256: self.sha256.clone() });
        [records].into_iter().chain(self.index.clone().map(|index| (self.index_file(), index)))
    }

    /// Bytes of its files together.
    pub fn stored_bytes(&self) -> u64 {
        self.bytes + self.index.as_ref().map_or(0, |index| index.bytes)
    }
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordColumn {
    /// Its name.
    pub name: String,
    /// Its declared type.
    #[serde(rename = "type")]
    pub declared: String,
    /// True when the database computes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generated: bool,
}

/// Something wrong that was found: a value, not an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The part it belongs to; the manifest and the journal belong to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// What kind of wrong.
    pub kind: FindingKind,
    /// The key, file or table.
    pub name: String,
    /// How it shows.
    pub detail: String,
}

/// Kinds of wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// It is not there.
    Missing,
    /// It has other bytes than it had.
    Changed,
    /// It is there and cannot be read.
    Unreadable,
    /// It does not agree with something else in the point.
    Inconsistent,
    /// It was recorded as it was and left out: a socket, a device.
    LeftOut,
    /// A row points at nothing.
    Dangling,
    /// It changed so near to the instant that it cannot be told whether before or after.
    Unsure,
    /// A kind that a newer release knows.
    #[serde(other)]
    Unknown,
}

/// How deep a check looked. Deeper ones contain the shallower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Everything is there with the size it had: looks and listings, nothing read but the listing.
    Quick,
    /// Database and records read and hashed, every file's checksum or ETag compared.
    Default,
    /// Every byte read.
    Full,
    /// Restored into scratch and checked there.
    Drill,
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quick => "quick",
            Self::Default => "default",
            Self::Full => "full",
            Self::Drill => "drill",
        })
    }
}

/// The three verdicts; there is no fourth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything looked at is as it was.
    Verified,
    /// Something is not.
    Failed,
    /// It could not be looked at.
    CouldNotVerify,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "verified",
            Self::Failed => "failed",
            Self::CouldNotVerify => "could not verify",
        })
    }
}

/// What a check looked at, how deep, when, with which result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// How deep.
    pub depth: Depth,
    /// The result.
    pub verdict: Verdict,
    /// The parts that were looked at.
    pub parts: Vec<Part>,
    /// Files looked at.
    pub files: u64,
    /// Rows counted in record files.
    pub rows: u64,
    /// Bytes read to find out.
    pub bytes_read: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// How many findings there were.
    pub findings_total: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Of a drill: the files that were read, when not all were. Its depth is then no more than default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<Sampled>,
    /// Of a drill: what bringing each part back took.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measured: BTreeMap<Part, Measured>,
}

/// How many of the files a drill read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    /// Those that were read and hashed.
    pub read: Count,
    /// All that have a copy.
    pub of: Count,
}

/// What bringing back a part took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// How long, in milliseconds.
    pub milliseconds: u64,
    /// The bytes that were moved meanwhile.
    pub bytes: u64,
}

/// One thing that happened to a point after its claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The format.
    pub format: u32,
    /// The point.
    pub point: PointId,
    /// When.
    pub at: Timestamp,
    /// Tells our own write from another's.
    pub nonce: String,
    /// What wrote it.
    pub software: String,
    /// What happened.
    #[serde(flatten)]
    pub event: JournalEvent,
}

/// What can happen to a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum JournalEvent {
    /// Its backup was still running.
    Alive,
    /// It was looked at.
    Verified(Proof),
    /// It was restored into scratch and looked at.
    Drilled(Proof),
    /// It was restored.
    Restored {
        /// The parts that were.
        parts: Vec<Part>,
        /// Those of them that were put back whole where they came from.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        back: Vec<Part>,
    },
    /// Somebody depends on its copies for a while.
    Hold {
        /// Who: `restore`, `drill`, `rehearse`.
        by: String,
        /// The point of the state before, when one was taken; an interrupted restore that is run again takes no other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        safety: Option<PointId>,
        /// What goes where, for a restore; only the same one resumes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
    },
    /// A hold ended.
    Released {
        /// The nonce of the hold.
        hold: String,
    },
    /// It is kept for ever.
    Pinned {
        /// Why.
        reason: String,
    },
    /// It is no longer kept for ever.
    Unpinned,
    /// Prune announces that parts will go.
    Expiring {
        /// The parts.
        parts: Vec<Part>,
        /// Objects outside the point's own folder that go with them, relative to the vault: what an interrupted prune was
        /// about to remove is known by them when the manifest is gone.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        objects: Vec<String>,
        /// The categories of the point's files: what lies below another folder there is not the point's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        categories: Vec<String>,
    },
    /// Prune takes an announcement back.
    Withdrawn {
        /// The nonce of the announcement.
        announcement: String,
    },
    /// Parts are gone.
    Expired {
        /// The parts.
        parts: Vec<Part>,
    },
    /// A guard is about to start its command, on the state that the point holds.
    GuardStarted {
        /// The machine it runs on.
        machine: String,
        /// The guard's own process there.
        process: u32,
    },
    /// The guard's command has ended, or was not run after all.
    GuardEnded {
        /// The nonce of the guard's first entry.
        started: String,
        /// How it ended.
        outcome: GuardOutcome,
        /// The command's exit status, as a shell tells it: 128 and the signal for one that was killed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u8>,
        /// True when the guard has restored the point afterwards.
        restored: bool,
    },
    /// Something a newer release wrote.
    #[serde(other)]
    Unknown,
}

/// How a guarded command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardOutcome {
    /// With status 0, and no check found anything.
    Succeeded,
    /// With another status.
    Failed,
    /// By a signal.
    Killed,
    /// With status 0, and a check found something or could not be made.
    Violated,
    /// It was not run.
    NotRun,
    /// A way that a newer release knows.
    #[serde(other)]
    Unknown,
}

/// The words of entries that are looked for by their keys alone.
pub(crate) const HOLD: &str = "hold";
pub(crate) const RELEASED: &str = "released";
pub(crate) const GUARD_STARTED: &str = "guard-started";
pub(crate) const GUARD_ENDED: &str = "guard-ended";

impl JournalEvent {
    /// The word that the entry's key bears.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Verified(_) => "verified",
            Self::Drilled(_) => "drilled",
            Self::Restored { .. } => "restored",
            Self::Hold { .. } => HOLD,
            Self::Released { .. } => RELEASED,
            Self::Pinned { .. } => "pinned",
            Self::Unpinned => "unpinned",
            Self::Expiring { .. } => "expiring",
            Self::Withdrawn { .. } => "withdrawn",
            Self::Expired { .. } => "expired",
            Self::GuardStarted { .. } => GUARD_STARTED,
            Self::GuardEnded { .. } => GUARD_ENDED,
            Self::Unknown => "unknown",
        }
    }
}

/// Before a document's last field; what stands before it is what the check covers.
const CHECK: &str = ",\n  \"check\": \"";
/// What follows the check's 64 digits.
const END: &str = "\"\n}\n";

/// Reads a stored document: refuses newer formats before it tries to understand them, then a wrong check.
///
/// # Errors
///
/// [`Error::Newer`] when the document's `format` is past [`FORMAT`]; [`Error::Damaged`] when a byte of it is not as
/// it was written, or it is not such a document.
pub fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let damaged = |cause: serde_json::Error| Error::damaged_by(format!("{what} cannot be understood"), cause);
    let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
    if head.format > FORMAT {
        return Err(Error::Newer {
            what: format!("{what} has format {}, this nexus reads up to {FORMAT}", head.format),
        });
    }
    if !is_whole(bytes) {
        return Err(Error::damaged(format!("{what} is not as it was written: its check does not hold")));
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// True when the check at a document's end is the SHA-256 of all that stands before it.
fn is_whole(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some(body) = text.strip_suffix(END) else { return false };
    let Some((before, check)) = body.rsplit_once(CHECK) else { return false };
    check == hex(&Sha256::digest(before.as_bytes()))
}

/// A stored document's bytes: readable JSON whose last field, `check`, is the SHA-256 of all that stands before it.
pub fn document<T: Serialize>(value: &T) -> Vec<u8> {
    let text = serde_json::to_string_pretty(value).expect("our own types have string keys and no failing parts");
    let before = text.strip_suffix("\n}").expect("every document is an object with fields");
    format!("{before}{CHECK}{}{END}", hex(&Sha256::digest(before.as_bytes()))).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id: PointId = "reimport_20251115_064233".parse().expect("an id");
        assert_eq!(id.to_string(), "reimport_20251115_064233");
        assert_eq!(id.claimed().to_string(), "2025-11-15T06:42:33Z");
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in ["", "reimport", "reimport_2025", "Re_20251115_064233", "a_20251315_064233", "a_20251115-064233"] {
            assert!(text.parse::<PointId>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn an_id_orders_by_time_before_label() {
        let older: PointId = "z_20251115_064233".parse().expect("an id");
        let newer: PointId = "a_20251115_064234".parse().expect("an id");
        assert!(older < newer);
    }

    #[test]
    fn a_newer_document_is_refused_before_it_is_understood() {
        let error = parse::<Claim>(br#"{"format": 2, "surprise": true}"#, "a claim").expect_err("newer");
        assert!(matches!(error, Error::Newer { .. }));
    }

    #[test]
    fn an_abandoned_claim_is_not_taken_for_a_point() {
        let abandonment = Abandonment { at: Timestamp::UNIX_EPOCH, reason: "x".into(), nonce: "n".into() };
        let point = "a_20251115_064233".parse().expect("an id");
        let bytes = document(&Ending::Abandoned(Abandoned { format: FORMAT, point, abandoned: abandonment }));
        assert!(matches!(parse::<Ending>(&bytes, "it").expect("an ending"), Ending::Abandoned(_)));
    }

    #[test]
    fn every_flipped_bit_of_a_document_is_found() {
        let descriptor = VaultDescriptor {
            format: FORMAT,
            app: "clinic".into(),
            created: Timestamp::UNIX_EPOCH,
            nonce: "n".into(),
            software: "nexus".into(),
        };
        let bytes = document(&descriptor);
        assert_eq!(parse::<VaultDescriptor>(&bytes, "it").expect("whole"), descriptor);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(parse::<VaultDescriptor>(&flipped, "it").is_err(), "byte {at} was not missed");
        }
    }
}
