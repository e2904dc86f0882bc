//! What a run works with: flags over `NEXUS_*` over the file over the environment over defaults, each with its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use nexus_core::bucket::Address;
use nexus_core::database::Database;
use nexus_core::database::postgres::Surroundings;
use nexus_core::error::{Error, Result};
use nexus_core::files::capture::Properties;
use nexus_core::point::references::Reference;
use nexus_core::point::{CategoryRule, Copies, Label, Part};
use nexus_core::retention::{Keep, Rules, SafetyRules};
use serde::{Serialize, Serializer};

use crate::cli::{ServiceArgs, SourceArgs, VaultArgs};
use crate::config::{
    Categories, ConfigFile, Encryption, KeptFor, PingTable, ReferenceTable, RehearseTable, RetentionTable, S3Table,
};
use crate::rate::Rate;
use crate::span::Span;
use crate::wording::without_passwords;

/// The file that is read when it lies in the current folder and no other is named.
pub const CONFIG_NAME: &str = "nexus.toml";

/// The environment of this run, handed in.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The variables; one that is empty counts as unset.
    pub variables: BTreeMap<String, String>,
    /// The current folder.
    pub folder: PathBuf,
    /// Credentials that the program itself made; the user's are then not looked for.
    pub given: Option<GivenCredentials>,
}

impl Environment {
    /// The folder for temporary files.
    pub fn temporary(&self) -> PathBuf {
        self.folder.join(self.variable("TMPDIR").unwrap_or("/tmp"))
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// The configuration file.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

/// A value is shown without its password.
impl<T: fmt::Display> Serialize for Setting<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut shown = serializer.serialize_struct("Setting", 2)?;
        shown.serialize_field("value", &without_passwords(&self.value.to_string()))?;
        shown.serialize_field("from", &self.origin.to_string())?;
        shown.end()
    }
}

/// A place as it was written, and the folder that a relative one starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// As it was written.
    pub text: String,
    /// What it is relative to.
    pub base: PathBuf,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How the S3 service is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Settings {
    /// The endpoint, when it is not AWS.
    pub endpoint: Option<Setting<String>>,
    /// The region.
    pub region: Option<Setting<String>>,
    /// The profile.
    pub profile: Option<Setting<String>>,
    /// True for AWS itself, whatever endpoint the environment names.
    pub aws: bool,
    /// Requests in flight at most.
    pub in_flight: Option<usize>,
    /// Bytes of content a second that go through this machine at most.
    pub bandwidth: Option<u64>,
    /// Objects of more bytes than this are copied in parts.
    pub copy_cutoff: Option<u64>,
    /// How often one request is tried.
    pub attempts: Option<u32>,
    /// How long one try may go without progress.
    pub patience: Option<Span>,
    /// Credentials given by the program itself; the environment is then not asked.
    pub given: Option<GivenCredentials>,
}

impl S3Settings {
    /// The endpoint as a flag names it, when anything but AWS is meant or AWS in so many words.
    pub fn named_endpoint(&self) -> Option<String> {
        if self.aws { Some(AWS.to_owned()) } else { self.endpoint.as_ref().map(|endpoint| endpoint.value.clone()) }
    }

    /// Another service, or another account there, when anything names one; what is not named is as it is here.
    pub fn other(
        &self,
        endpoint: Option<Setting<String>>,
        region: Option<Setting<String>>,
        profile: Option<Setting<String>>,
    ) -> Option<Self> {
        if endpoint.is_none() && region.is_none() && profile.is_none() {
            return None;
        }
        let aws = endpoint.as_ref().map_or(self.aws, |endpoint| endpoint.value == AWS);
        Some(Self {
            endpoint: endpoint.or_else(|| self.endpoint.clone()).filter(|_| !aws),
            aws,
            region: region.or_else(|| self.region.clone()),
            profile: profile.or_else(|| self.profile.clone()),
            ..self.clone()
        })
    }
}

/// Credentials that the program itself made: the demo's.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenCredentials {
    /// The access key's id.
    pub access_key: String,
    /// Its secret.
    pub secret: String,
}

impl fmt::Debug for GivenCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Everything a run works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The configuration file that was read.
    pub config: Option<PathBuf>,
    /// The app's name.
    pub app: Option<Setting<String>>,
    /// The label of new points.
    pub label: Label,
    /// The database.
    pub database: Option<Setting<Location>>,
    /// The database that is named without `--database`: what a restore finds, which has no such flag.
    named_without_flag: Option<Setting<Location>>,
    /// How long to wait for its locks.
    pub lock_wait: Span,
    /// The folder of PostgreSQL's client programs.
    pub programs: Option<PathBuf>,
    /// The environment's variables: libpq's fill what a database's URL leaves open.
    variables: BTreeMap<String, String>,
    /// The files.
    pub files: Option<Setting<Address>>,
    /// The rules for the files.
    pub rules: FileSettings,
    /// The local folder of records.
    pub records: Option<Setting<PathBuf>>,
    /// Whether the vault holds records too.
    pub records_in_vault: bool,
    /// Records' names and their tables; the others go under their own names.
    pub tables: BTreeMap<String, String>,
    /// Columns whose values are keys of files.
    pub references: Vec<Reference>,
    /// The vault.
    pub vault: Option<Setting<Address>>,
    /// The encryption of what nexus writes itself.
    pub encryption: Encryption,
    /// The storage class of database objects.
    pub database_class: String,
    /// How long each part is kept.
    pub retention: RetentionTable,
    /// How a command is rehearsed.
    pub rehearse: RehearseSettings,
    /// The S3 service, of the vault and of the files.
    pub s3: S3Settings,
    /// The S3 service of the files, when it is another one, or another account there.
    pub files_s3: Option<S3Settings>,
    /// The commands around a restore.
    pub hooks: HookSettings,
    /// Whom to ask when something fails: what for, and how they are reached.
    pub contacts: BTreeMap<String, String>,
    /// The file that monitoring reads.
    pub metrics_file: Option<Setting<PathBuf>>,
    /// Who is told of runs.
    pub ping: PingTable,
}

/// The commands around a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// What stops the app.
    pub before: Option<String>,
    /// What starts it again.
    pub after: Option<String>,
    /// What runs before a backup.
    pub before_backup: Option<String>,
    /// What runs after a proven one.
    pub after_backup: Option<String>,
    /// What runs when something did not end well.
    pub failed: Option<String>,
    /// How long each may take.
    pub patience: Span,
    /// Where they run: the configuration file's folder.
    pub folder: PathBuf,
}

/// How a command is rehearsed.
#[derive(Debug, Clone, Default)]
pub struct RehearseSettings {
    /// Where scratch files go.
    pub bucket: Option<Setting<Address>>,
    /// The PostgreSQL server for scratch databases; none: the app's own.
    pub server: Option<Setting<Location>>,
    /// The command that prints where the app's own settings lead.
    pub probe: Option<String>,
    /// Variables for the command, with placeholders.
    pub environment: BTreeMap<String, String>,
}

/// The rules for the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// Globs on the key that leave a file out.
    pub exclude: Vec<String>,
    /// Whether unchanged files are reused.
    pub copies: Copies,
    /// What is kept of each object.
    pub properties: Properties,
    /// The categories in order.
    pub categories: Vec<CategoryRule>,
    /// The encryption of copies; none: the bucket's own.
    pub encryption: Option<Encryption>,
}

/// The default wait for a database's locks.
const LOCK_WAIT: Span = Span::of_seconds(60);
/// How long a hook may take by default.
const HOOK_PATIENCE: Span = Span::of_seconds(300);
/// Names AWS itself where an endpoint is named.
pub(crate) const AWS: &str = "aws";
/// The default label.
const LABEL: &str = "backup";
/// The default storage class of database objects.
const DATABASE_CLASS: &str = "STANDARD_IA";

impl Settings {
    /// Puts everything together; reads the configuration file if there is one.
    pub fn load(environment: &Environment, vault: &VaultArgs, source: &SourceArgs) -> Result<Self> {
        let config = config_path(environment, vault.config.as_deref());
        let file = config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
        Ladder { environment, config: config.as_deref() }.settings(file, vault, source)
    }

    /// The vault, or what to do when none is named.
    pub fn vault(&self) -> Result<&Address> {
        let hint = "pass --vault s3://bucket/prefix, or `nexus init` to write a nexus.toml that names it";
        self.vault.as_ref().map(|vault| &vault.value).ok_or_else(|| Error::usage_hint("no vault is named", hint))
    }

    /// What fills a database's URL that starts at `base`.
    pub fn surroundings(&self, base: &Path) -> Surroundings {
        Surroundings { base: base.to_owned(), variables: self.variables.clone(), programs: self.programs.clone() }
    }

    /// True when a restore to this database must say so, because something names another one.
    pub fn names_another_database(&self, location: &str) -> bool {
        self.named_without_flag.as_ref().is_some_and(|setting| {
            let named = self.database_at(&setting.value.text, &setting.value.base);
            named.map_or(true, |named| named.location() != location)
        })
    }

    /// The database at a place as it was written.
    pub fn database_at(&self, text: &str, base: &Path) -> Result<Database> {
        Database::parse(text, &self.surroundings(base))
    }

    /// What is kept how long: the file over the defaults.
    pub fn rules(&self) -> Rules {
        let (table, default) = (&self.retention, Rules::default());
        let named = [(Part::Database, table.database), (Part::Files, table.files), (Part::Records, table.records)];
        let age = |(part, kept): (Part, Option<KeptFor>)| match kept {
            Some(kept) => Some((part, kept.seconds()?)),
            None => Some((part, *default.ages.get(&part)?)),
        };
        Rules {
            ages: named.into_iter().filter_map(age).collect(),
            keep: Keep {
                last: table.keep_last.unwrap_or(default.keep.last),
                daily: table.keep_daily.unwrap_or(0),
                weekly: table.keep_weekly.unwrap_or(0),
                monthly: table.keep_monthly.unwrap_or(0),
                yearly: table.keep_yearly.unwrap_or(0),
            },
            safety: SafetyRules {
                age: table.safety.keep.map_or(default.safety.age, KeptFor::seconds),
                last: table.safety.keep_last.unwrap_or(default.safety.last),
            },
        }
    }

    /// How long each part of a new point is meant to be kept, in seconds; a part that is not here, for ever.
    pub fn kept_for(&self, label: &Label) -> BTreeMap<Part, u64> {
        let rules = self.rules();
        Part::ALL.into_iter().filter_map(|part| Some((part, rules.age(label, part)?))).collect()
    }
}

/// One reference a column.
fn references(tables: Vec<ReferenceTable>) -> Result<Vec<Reference>> {
    let references = tables.into_iter().enumerate().map(|(at, table)| table.references(at + 1));
    Ok(references.collect::<Result<Vec<_>>>()?.concat())
}

/// The configuration file to read, as an absolute path.
fn config_path(environment: &Environment, flag: Option<&Path>) -> Option<PathBuf> {
    let named = flag.or_else(|| environment.variable("NEXUS_CONFIG").map(Path::new));
    match named {
        Some(path) => Some(environment.folder.join(path)),
        None => Some(environment.folder.join(CONFIG_NAME)).filter(|path| path.exists()),
    }
}

/// The order in which values win.
struct Ladder<'a> {
    environment: &'a Environment,
    config: Option<&'a Path>,
}

impl Ladder<'_> {
    fn settings(&self, file: ConfigFile, vault: &VaultArgs, source: &SourceArgs) -> Result<Settings> {
        let here = &self.environment.folder;
        let named_without_flag =
            self.pick(None, "", Some("NEXUS_DATABASE"), file.database.url.clone()).map(|found| self.located(found));
        let database = self
            .pick(source.database.clone(), "--database", Some("NEXUS_DATABASE"), file.database.url)
            .or_else(|| self.variable("DATABASE_URL"))
            .map(|found| self.located(found));
        let files = self.pick(source.files.clone(), "--files", Some("NEXUS_FILES"), file.files.source);
        let of_files = [file.files.endpoint, file.files.region, file.files.profile];
        let s3 = self.s3(file.s3, vault);
        let address = self.pick(vault.vault.clone(), "--vault", Some("NEXUS_VAULT"), file.vault.url);
        let folder = source.records.as_ref().map(|path| here.join(path).display().to_string());
        let records = self.pick(folder, "--records", Some("NEXUS_RECORDS"), file.records.folder);
        let label = match self.environment.variable("NEXUS_LABEL") {
            Some(text) => text.parse()?,
            None => file.label.map_or_else(|| LABEL.parse(), Ok)?,
        };
        Ok(Settings {
            config: self.config.map(Path::to_path_buf),
            app: self.pick(source.app.clone(), "--app", Some("NEXUS_APP"), file.app),
            label,
            database,
            named_without_flag,
            lock_wait: file.database.lock_wait.unwrap_or(LOCK_WAIT),
            programs: self
                .pick(None, "", Some("NEXUS_PROGRAMS"), file.database.programs)
                .map(|found| self.base(&found.origin).join(found.value)),
            variables: self.environment.variables.clone(),
            files: files.map(|found| self.address(found)).transpose()?,
            rules: FileSettings {
                exclude: file.files.exclude,
                copies: file.files.copies.unwrap_or_default(),
                properties: file.files.properties.unwrap_or_default(),
                categories: file.files.categories.unwrap_or_else(Categories::by_extension).0,
                encryption: file.files.encryption,
            },
            records: records.map(|found| self.folder(&found)).transpose()?,
            records_in_vault: file.records.vault.unwrap_or(true),
            tables: file.records.tables.unwrap_or_default(),
            references: references(file.references)?,
            vault: address.map(|found| self.address(found)).transpose()?,
            encryption: file.vault.encryption.unwrap_or(Encryption::Aes256),
            database_class: file.vault.database_class.unwrap_or_else(|| DATABASE_CLASS.to_owned()),
            retention: file.retention,
            rehearse: self.rehearse(file.rehearse)?,
            contacts: file.contacts,
            metrics_file: self.pick(None, "", Some("NEXUS_METRICS_FILE"), file.metrics_file).map(|found| {
                let value = self.base(&found.origin).join(found.value);
                Setting { value, origin: found.origin }
            }),
            ping: PingTable {
                backup: self.secret("NEXUS_PING_BACKUP", file.ping.backup),
                guard: self.secret("NEXUS_PING_GUARD", file.ping.guard),
                verify: self.secret("NEXUS_PING_VERIFY", file.ping.verify),
                drill: self.secret("NEXUS_PING_DRILL", file.ping.drill),
                prune: self.secret("NEXUS_PING_PRUNE", file.ping.prune),
            },
            files_s3: self.files_s3(of_files, &s3, &vault.services),
            s3,
            hooks: HookSettings {
                before: file.hooks.before_restore,
                after: file.hooks.after_restore,
                before_backup: file.hooks.before,
                after_backup: file.hooks.after,
                failed: file.hooks.failed,
                patience: file.hooks.patience.unwrap_or(HOOK_PATIENCE),
                folder: self.config.and_then(Path::parent).unwrap_or(here).to_path_buf(),
            },
        })
    }

    fn rehearse(&self, file: RehearseTable) -> Result<RehearseSettings> {
        let of_file = |value: Option<String>| self.pick(None, "", None, value);
        Ok(RehearseSettings {
            bucket: of_file(file.bucket).map(|found| self.address(found)).transpose()?,
            server: of_file(file.server).map(|found| self.located(found)),
            probe: file.probe,
            environment: file.environment,
        })
    }

    fn s3(&self, file: S3Table, flags: &VaultArgs) -> S3Settings {
        let ignored = self.environment.variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == Some("true");
        let configured = || self.variable("AWS_ENDPOINT_URL_S3").or_else(|| self.variable("AWS_ENDPOINT_URL"));
        let endpoint = self
            .pick(flags.endpoint.clone(), "--endpoint", None, file.endpoint)
            .or_else(|| if ignored { None } else { configured() });
        let aws = endpoint.as_ref().is_some_and(|endpoint| endpoint.value == AWS);
        let region = self
            .pick(flags.region.clone(), "--region", None, file.region)
            .or_else(|| self.variable("AWS_REGION"))
            .or_else(|| self.variable("AWS_DEFAULT_REGION"));
        let profile =
            self.pick(flags.profile.clone(), "--profile", None, file.profile).or_else(|| self.variable("AWS_PROFILE"));
        S3Settings {
            endpoint: endpoint.filter(|_| !aws),
            region,
            profile,
            aws,
            in_flight: flags.services.requests_in_flight.or(file.requests_in_flight).map(|n| usize::from(n.get())),
            bandwidth: flags.services.bandwidth.or(file.bandwidth).map(Rate::bytes),
            copy_cutoff: file.copy_cutoff.map(std::num::NonZeroU64::get),
            attempts: file.attempts.map(|number| u32::from(number.get())),
            patience: file.request_timeout,
            given: self.environment.given.clone(),
        }
    }

    /// The files' own service, when anything names one; what is not named is the vault's.
    fn files_s3(&self, file: [Option<String>; 3], s3: &S3Settings, flags: &ServiceArgs) -> Option<S3Settings> {
        let [endpoint, region, profile] = file;
        let endpoint =
            self.pick(flags.files_endpoint.clone(), "--files-endpoint", Some("NEXUS_FILES_ENDPOINT"), endpoint);
        let region = self.pick(flags.files_region.clone(), "--files-region", Some("NEXUS_FILES_REGION"), region);
        let profile = self.pick(flags.files_profile.clone(), "--files-profile", Some("NEXUS_FILES_PROFILE"), profile);
        s3.other(endpoint, region, profile)
    }

    /// The flag, else the variable, else the file's value.
    fn pick(
        &self,
        flag: Option<String>,
        flag_name: &'static str,
        variable: Option<&'static str>,
        file: Option<String>,
    ) -> Option<Setting<String>> {
        flag.map(|value| Setting { value, origin: Origin::Flag(flag_name) })
            .or_else(|| variable.and_then(|name| self.variable(name)))
            .or_else(|| {
                let origin = Origin::File(self.config?.to_path_buf());
                Some(Setting { value: file?, origin })
            })
    }

    /// A variable over the file, without a word about where it came from.
    fn secret(&self, variable: &'static str, file: Option<String>) -> Option<String> {
        self.environment.variable(variable).map(str::to_owned).or(file)
    }

    fn variable(&self, name: &'static str) -> Option<Setting<String>> {
        let value = self.environment.variable(name)?.to_owned();
        Some(Setting { value, origin: Origin::Variable(name) })
    }

    /// What a relative path of this origin starts from: the file's folder, else the current one.
    fn base(&self, origin: &Origin) -> PathBuf {
        match origin {
            Origin::File(path) => path.parent().unwrap_or(&self.environment.folder).to_path_buf(),
            Origin::Flag(_) | Origin::Variable(_) => self.environment.folder.clone(),
        }
    }

    fn located(&self, found: Setting<String>) -> Setting<Location> {
        let base = self.base(&found.origin);
        Setting { value: Location { text: found.value, base }, origin: found.origin }
    }

    fn address(&self, found: Setting<String>) -> Result<Setting<Address>> {
        let value = Address::parse(&found.value, &self.base(&found.origin))?;
        Ok(Setting { value, origin: found.origin })
    }

    fn folder(&self, found: &Setting<String>) -> Result<Setting<PathBuf>> {
        match Address::parse(&found.value, &self.base(&found.origin))? {
            Address::Folder(value) => Ok(Setting { value, origin: found.origin.clone() }),
            Address::S3 { .. } => Err(Error::usage_hint(
                format!("the records folder from {} is not on this machine: {:?}", found.origin, found.value),
                "name a local folder; the vault holds the records too",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(folder: &Path, variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment { variables, folder: folder.to_path_buf(), given: None }
    }

    fn load(config: &str, variables: &[(&str, &str)], source: &SourceArgs) -> Settings {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join(CONFIG_NAME), config).expect("room on the disk");
        Settings::load(&environment(folder.path(), variables), &VaultArgs::default(), source).expect("settings")
    }

    fn database(settings: &Settings) -> &str {
        &settings.database.as_ref().expect("a database").value.text
    }

    #[test]
    fn a_database_url_of_the_environment_never_wins_over_the_file() {
        let variables = [("DATABASE_URL", "sqlite:///other.db")];
        let settings = load("[database]\nurl = \"mine.db\"\n", &variables, &SourceArgs::default());
        assert_eq!(database(&settings), "mine.db");
        assert_eq!(database(&load("", &variables, &SourceArgs::default())), "sqlite:///other.db");
    }

    #[test]
    fn a_flag_wins_over_a_nexus_variable_and_that_over_the_file() {
        let file = "[database]\nurl = \"file.db\"\n";
        let variables = [("NEXUS_DATABASE", "variable.db")];
        let flags = SourceArgs { database: Some("flag.db".to_owned()), ..SourceArgs::default() };
        assert_eq!(database(&load(file, &variables, &flags)), "flag.db");
        assert_eq!(database(&load(file, &variables, &SourceArgs::default())), "variable.db");
    }

    #[test]
    fn paths_of_the_file_start_at_its_folder_and_those_of_flags_here() {
        let here = tempfile::tempdir().expect("a temporary folder");
        let there = here.path().join("etc");
        std::fs::create_dir(&there).expect("room on the disk");
        std::fs::write(there.join("c.toml"), "[files]\nsource = \"media\"\n[vault]\nurl = \"v\"\n").expect("room");
        let flags =
            VaultArgs { config: Some("etc/c.toml".into()), vault: Some("v".to_owned()), ..VaultArgs::default() };
        let settings =
            Settings::load(&environment(here.path(), &[]), &flags, &SourceArgs::default()).expect("settings");
        let files = settings.files.expect("files").value;
        assert_eq!(files, Address::Folder(there.join("media")));
        assert_eq!(settings.vault.expect("a vault").value, Address::Folder(here.path().join("v")));
    }

    #[test]
    fn aws_in_so_many_words_wins_over_an_endpoint_of_the_environment() {
        let variables = [("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")];
        let named = |settings: &Settings| settings.s3.named_endpoint();
        assert_eq!(named(&load("", &variables, &SourceArgs::default())).as_deref(), Some("http://127.0.0.1:1"));
        let aws = load("[s3]\nendpoint = \"aws\"\n", &variables, &SourceArgs::default());
        assert_eq!((named(&aws).as_deref(), aws.s3.endpoint), (Some("aws"), None));
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let settings = load("app = \"a\"\n", &[("NEXUS_APP", "")], &SourceArgs::default());
        assert_eq!(settings.app.expect("an app").value, "a");
    }
}
