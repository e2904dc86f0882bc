//! What a person types: verbs and flags, with their help. Nothing here decides anything.
#![expect(clippy::doc_markdown, reason = "doc comments on flags are help texts, printed as they are")]

mod examples;
mod lookup;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};
use nexus_core::drill::Sample;
use nexus_core::point::{Copies, Label, Part};

use examples::{
    ABOUT, ADOPT_AFTER, AFTER, BACKUP_AFTER, COMPLETIONS_AFTER, COPY_AFTER, DEMO_AFTER, DIFF_AFTER, DOCTOR_AFTER,
    DRILL_AFTER, GUARD_AFTER, INIT_AFTER, LIST_AFTER, LONG_ABOUT, MAN_AFTER, PIN_AFTER, POINT_HELP, PRUNE_AFTER,
    REHEARSE_AFTER, RESTORE_AFTER, SHOW_AFTER, VERIFY_AFTER,
};

pub use lookup::{FindArgs, GetArgs, HistoryArgs};

use crate::commands::references::Breach;
use crate::config::KeptFor;
use crate::failure::GUARD;
use crate::rate::Rate;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "nexus", version, about = ABOUT, long_about = LONG_ABOUT, after_help = AFTER, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Back up, wreck, restore and compare a clinic-sized application, here and now, with times
    Demo(DemoArgs),
    /// Write a commented nexus.toml from what is found here
    Init(InitArgs),
    /// The checklist before: what a backup needs, each line with its next step; then what it will take
    Doctor(DoctorArgs),
    /// Make a recovery point: all parts, committed and verified
    Backup(BackupArgs),
    /// List the recovery points of a vault, newest first
    List(ListArgs),
    /// Show one recovery point: its parts, counts, proofs, expiry and the command that restores it
    Show(ShowArgs),
    /// Check a recovery point against what was recorded when it was made
    Verify(VerifyArgs),
    /// Restore a recovery point into scratch, check it there, and measure how long it takes
    Drill(DrillArgs),
    /// Bring a recovery point back
    Restore(RestoreArgs),
    /// Get one file of a recovery point, or one record by its key, without restoring anything
    Get(GetArgs),
    /// Find the records of a recovery point that fit conditions, or those of all points
    Find(FindArgs),
    /// Show one record over all recovery points: each of its states, and what changed between
    History(HistoryArgs),
    /// Show what changed between two recovery points, or between one and now: rows, columns, files
    Diff(DiffArgs),
    /// Make a recovery point, and run a command only if it is proven
    Guard(GuardArgs),
    /// Run a command on a recovery point restored into scratch, and show what it would change
    Rehearse(RehearseArgs),
    /// Take the backups that older scripts left in the vault's place into the list, where they lie
    Adopt(AdoptArgs),
    /// Make a self-contained copy of a recovery point in another vault, and prove it there
    Copy(CopyArgs),
    /// Remove what retention no longer keeps, each decision with its reason
    Prune(PruneArgs),
    /// Keep a recovery point for ever, with a reason
    Pin(PinArgs),
    /// Let a recovery point that was pinned be pruned again
    Unpin(UnpinArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write one page a verb into a folder
    Man(ManArgs),
}

impl Verb {
    /// Its word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Demo(_) => "demo",
            Self::Init(_) => "init",
            Self::Doctor(_) => "doctor",
            Self::Backup(_) => "backup",
            Self::List(_) => "list",
            Self::Show(_) => "show",
            Self::Verify(_) => "verify",
            Self::Drill(_) => "drill",
            Self::Restore(_) => "restore",
            Self::Get(_) => "get",
            Self::Find(_) => "find",
            Self::History(_) => "history",
            Self::Diff(_) => "diff",
            Self::Rehearse(_) => "rehearse",
            Self::Guard(_) => GUARD,
            Self::Adopt(_) => "adopt",
            Self::Copy(_) => "copy",
            Self::Prune(_) => "prune",
            Self::Pin(_) => "pin",
            Self::Unpin(_) => "unpin",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }

    /// How long it may take to end after a signal: a rehearsal ends its command first, then removes its scratch.
    pub fn last_wait(&self) -> Duration {
        match self {
            Self::Rehearse(_) => Duration::from_secs(30),
            _ => Duration::from_secs(2),
        }
    }

    /// True when stdout belongs to a command that the verb runs.
    pub fn leaves_stdout_to_another(&self) -> bool {
        matches!(self, Self::Guard(_))
    }

    /// How it reports.
    pub fn output(&self) -> OutputArgs {
        let json_only = |json: bool| OutputArgs { json, ..OutputArgs::default() };
        match self {
            Self::Demo(args) => args.output.clone(),
            Self::Init(args) => json_only(args.json),
            Self::Doctor(args) => args.output.clone(),
            Self::Backup(args) => args.output.clone(),
            Self::List(args) => args.output.clone(),
            Self::Show(args) => args.output.clone(),
            Self::Verify(args) => args.output.clone(),
            Self::Drill(args) => args.output.clone(),
            Self::Restore(args) => args.output.clone(),
            Self::Get(args) => args.output.clone(),
            Self::Find(args) => args.output.clone(),
            Self::History(args) => args.output.clone(),
            Self::Diff(args) => args.output.clone(),
            Self::Rehearse(args) => args.output.clone(),
            Self::Adopt(args) => args.output.clone(),
            Self::Copy(args) => args.output.clone(),
            Self::Prune(args) => args.output.clone(),
            Self::Pin(args) => args.output.clone(),
            Self::Unpin(args) => args.output.clone(),
            Self::Guard(args) => {
                OutputArgs { json: false, quiet: args.output.quiet, log_file: args.output.log_file.clone() }
            }
            Self::Completions(args) => json_only(args.json),
            Self::Man(args) => json_only(args.json),
        }
    }
}

/// How a verb reports.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print pure JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// No progress and no notes; warnings and errors stay
    #[arg(long, short)]
    pub quiet: bool,
    /// Append everything that happens, with times, to this file (mode 0600)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log_file: Option<PathBuf>,
}

/// How a run is seen from outside.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct SeenArgs {
    /// Write what became of it into this file, for Prometheus [env: NEXUS_METRICS_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub metrics_file: Option<PathBuf>,
}

/// Where the vault is and how to reach it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Vault")]
pub struct VaultArgs {
    /// The configuration file [env: NEXUS_CONFIG] [default: nexus.toml, when it is here]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Where points are kept: s3://bucket/prefix or a folder [env: NEXUS_VAULT]
    #[arg(long, value_name = "URL")]
    pub vault: Option<String>,
    /// The S3 endpoint; `aws` for AWS itself, whatever the environment names [env: AWS_ENDPOINT_URL_S3]
    #[arg(long, value_name = "URL", alias = "endpoint-url")]
    pub endpoint: Option<String>,
    /// The region [env: AWS_REGION]
    #[arg(long)]
    pub region: Option<String>,
    /// The profile of the AWS configuration files [env: AWS_PROFILE]
    #[arg(long)]
    pub profile: Option<String>,
    #[command(flatten)]
    pub services: ServiceArgs,
}

/// Another service for the files than for the vault, and how hard either is worked.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "S3 services")]
pub struct ServiceArgs {
    /// The S3 endpoint of the files, when it is not the vault's; `aws` for AWS itself [env: NEXUS_FILES_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub files_endpoint: Option<String>,
    /// The region of the files, when it is not the vault's [env: NEXUS_FILES_REGION]
    #[arg(long, value_name = "REGION")]
    pub files_region: Option<String>,
    /// The profile for the files, when it is not the vault's: another account or service [env: NEXUS_FILES_PROFILE]
    #[arg(long, value_name = "PROFILE")]
    pub files_profile: Option<String>,
    /// Requests to one service in flight at most; how many there are is found out, below it [default: 256]
    #[arg(long, value_name = "N")]
    pub requests_in_flight: Option<std::num::NonZeroU16>,
    /// Content that goes through this machine at most, to a service and from it: 500k, 20M, 1G a second [default: no limit]
    #[arg(long, value_name = "BYTES")]
    pub bandwidth: Option<Rate>,
}

/// What is protected.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Application")]
pub struct SourceArgs {
    /// The application's name; a vault belongs to one [env: NEXUS_APP]
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// The database: a path, sqlite:////absolute/path, postgres://user@host/name [env: NEXUS_DATABASE, then DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// The files: s3://bucket/prefix or a folder [env: NEXUS_FILES]
    #[arg(long, value_name = "URL")]
    pub files: Option<String>,
    /// The local folder for records as JSON [env: NEXUS_RECORDS]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub records: Option<PathBuf>,
}

/// `demo`.
#[derive(Debug, Args)]
#[command(after_help = DEMO_AFTER)]
pub struct DemoArgs {
    /// Leave the S3 service running afterwards and print commands to try; Ctrl-C ends it
    #[arg(long)]
    pub keep: bool,
    /// Put one row or one object wrong after the restore, to see the comparison fail
    #[arg(long, hide = true, value_parser = ["row", "object"])]
    pub plant: Option<String>,
    /// A tenth of the data, for tests
    #[arg(long, hide = true)]
    pub small: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `init`.
#[derive(Debug, Args)]
#[command(after_help = INIT_AFTER)]
pub struct InitArgs {
    /// Where to write it; an existing file is refused
    #[arg(long, short, value_name = "FILE", default_value = "nexus.toml", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// Print it on stdout, write nothing
    #[arg(long, alias = "print")]
    pub dry_run: bool,
    /// Where points shall be kept: s3://bucket/prefix or a folder [env: NEXUS_VAULT]
    #[arg(long, value_name = "URL")]
    pub vault: Option<String>,
    /// The S3 endpoint; `aws` for AWS itself, whatever the environment names [env: AWS_ENDPOINT_URL_S3]
    #[arg(long, value_name = "URL", alias = "endpoint-url")]
    pub endpoint: Option<String>,
    /// The region [env: AWS_REGION]
    #[arg(long)]
    pub region: Option<String>,
    /// The profile of the AWS configuration files [env: AWS_PROFILE]
    #[arg(long)]
    pub profile: Option<String>,
    #[command(flatten)]
    pub source: SourceArgs,
    /// Read every row and list every file, to find columns whose values are keys of files; they are written behind #
    #[arg(long)]
    pub look: bool,
    #[command(flatten)]
    pub django: DjangoArgs,
    /// Print pure JSON on stdout
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// A Django site that `init` asks.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Django")]
pub struct DjangoArgs {
    /// The site's manage.py, or its folder: databases, storages, record names and references come from its settings and models
    #[arg(long, value_name = "MANAGE.PY", value_hint = ValueHint::AnyPath)]
    pub django: Option<PathBuf>,
    /// The site's Python [default: that of .venv, venv or env beside manage.py, else python3]
    #[arg(long, value_name = "PROGRAM", requires = "django", value_hint = ValueHint::ExecutablePath)]
    pub python: Option<PathBuf>,
    /// The alias of the database to protect, when the site has several
    #[arg(long, value_name = "ALIAS", requires = "django")]
    pub django_database: Option<String>,
}

/// `doctor`.
#[derive(Debug, Args)]
#[command(after_help = DOCTOR_AFTER)]
pub struct DoctorArgs {
    /// Prices to reckon with, as TOML, instead of Amazon's list prices
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub prices: Option<PathBuf>,
    /// Estimate from an S3 Inventory (CSV) instead of a listing of the bucket: s3://bucket/…/manifest.json
    #[arg(long, value_name = "URL")]
    pub inventory: Option<String>,
    /// Write nothing at all: what the role may do in the vault is then not tried
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `backup`.
#[derive(Debug, Args)]
#[command(after_help = BACKUP_AFTER)]
pub struct BackupArgs {
    /// What the point is for: a-z, 0-9 and `-` [env: NEXUS_LABEL] [default: backup]
    #[arg(long)]
    pub label: Option<Label>,
    /// Only these parts
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = parts())]
    pub only: Vec<Part>,
    /// incremental: unchanged files are reused from the last point; full: every file is copied; versions: none is, the
    /// source's bucket keeps them as versions
    #[arg(long, value_parser = copies())]
    pub copies: Option<Copies>,
    /// Name files that are gone when they are copied in the manifest, instead of failing
    #[arg(long)]
    pub allow_vanished: bool,
    /// Exit status 1 when rows and files do not fit together, or when that was not checked; with =KINDS only for some of dangling,
    /// other-case, other-form, orphaned, shared
    #[arg(long, value_name = "KINDS", num_args = 0..=1, require_equals = true, value_delimiter = ',',
          default_missing_values = Breach::ALL.map(Breach::name), value_parser = breaches())]
    pub strict: Vec<Breach>,
    /// Show what would be taken from where; write nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub seen: SeenArgs,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `list`.
#[derive(Debug, Args)]
#[command(after_help = LIST_AFTER)]
pub struct ListArgs {
    /// Also claims that were given up, and what else lies in the vault
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `show`.
#[derive(Debug, Args)]
#[command(after_help = SHOW_AFTER)]
pub struct ShowArgs {
    #[arg(help = POINT_HELP, default_value = "latest")]
    pub point: String,
    /// Print the point's own page as Markdown: where each part lies, until when, and the commands that bring it back, with
    /// nexus and without
    #[arg(long)]
    pub runbook: bool,
    /// Print where the copies of its files lie as a manifest for S3 Batch Operations: bucket, URL-encoded key, and the version
    /// id of a point of versions
    #[arg(long, conflicts_with_all = ["runbook", "json"])]
    pub batch_manifest: bool,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `verify`.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_AFTER)]
pub struct VerifyArgs {
    #[arg(help = POINT_HELP, default_value = "latest")]
    pub point: String,
    /// Only these parts
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = parts())]
    pub only: Vec<Part>,
    /// One listing against the manifest; proves little
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// Read every byte of every part
    #[arg(long)]
    pub full: bool,
    /// Also hold the point's rows against its files, and list each row and file that does not fit
    #[arg(long)]
    pub references: bool,
    /// Exit status 1 when rows and files do not fit together, or when that was not checked; with =KINDS only for some of dangling,
    /// other-case, other-form, orphaned, shared
    #[arg(long, value_name = "KINDS", num_args = 0..=1, require_equals = true, value_delimiter = ',',
          default_missing_values = Breach::ALL.map(Breach::name), value_parser = breaches(), requires = "references")]
    pub strict: Vec<Breach>,
    #[command(flatten)]
    pub seen: SeenArgs,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `drill`.
#[derive(Debug, Args)]
#[command(after_help = DRILL_AFTER)]
pub struct DrillArgs {
    #[arg(help = POINT_HELP, default_value = "latest")]
    pub point: String,
    /// How many files are read back, chosen by chance, or `all`
    #[arg(long, value_name = "N|all", default_value = "100", value_parser = sample)]
    pub files: Sample,
    /// Only these parts
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = parts())]
    pub only: Vec<Part>,
    /// PostgreSQL: the server to restore on, and the role; a new database is made there and removed again
    /// [env: NEXUS_DATABASE, then DATABASE_URL] [default: the point's own server]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Show what would be fetched and where it would go; do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub seen: SeenArgs,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

fn sample(text: &str) -> Result<Sample, String> {
    match text {
        "all" => Ok(Sample::All),
        _ => text.parse().map(Sample::Files).map_err(|_| "write a number, or `all`".to_owned()),
    }
}

/// `restore`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
#[command(after_help = RESTORE_AFTER)]
pub struct RestoreArgs {
    #[arg(help = POINT_HELP)]
    pub point: String,
    /// Only these parts; records are loaded into their tables only when `records` is named here or by --table
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = parts())]
    pub only: Vec<Part>,
    /// Only files of this category, and no other part unless --only names it; may be given more than once
    #[arg(long, value_name = "CATEGORY")]
    pub category: Vec<String>,
    /// Only files whose key matches this glob, and no other part unless --only names it; may be given more than once
    #[arg(long, value_name = "GLOB")]
    pub key: Vec<String>,
    /// Remove files that came after the point
    #[arg(long)]
    pub delete_extra: bool,
    /// PostgreSQL: end the sessions in the database when the restored one takes its place
    #[arg(long)]
    pub end_sessions: bool,
    /// PostgreSQL: everything belongs to the role that restores, and nothing is granted
    #[arg(long)]
    pub no_owner: bool,
    /// PostgreSQL: empty the live database and fill it in one transaction, for a role that may not create databases
    #[arg(long)]
    pub in_place: bool,
    /// Take no safety point of the present state first
    #[arg(long)]
    pub no_safety_point: bool,
    /// Show the plan; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Ask nothing
    #[arg(long, short)]
    pub yes: bool,
    /// Answers the question asked before something that is not the point's own source is overwritten: the target's
    /// name, once for each such target
    #[arg(long, value_name = "NAME")]
    pub confirm: Vec<String>,
    #[command(flatten)]
    pub rows: RowsArgs,
    #[command(flatten)]
    pub tables: TablesArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Which single records `restore` puts back.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Single records")]
pub struct RowsArgs {
    /// Put back this record alone, in one transaction: TABLE/KEY, or 'TABLE/a=1,b=2' for a key of several columns; all behind
    /// the first slash is the key; may be given more than once
    #[arg(long, value_name = "TABLE/KEY")]
    pub record: Vec<String>,
    /// With it: the rows that point at it by foreign keys, those that point at them, and so on, as the point has them
    #[arg(long, requires = "record")]
    pub with_children: bool,
    /// With it: the files that these rows name, by values that are keys of the point's files; the plan lists them
    #[arg(long, requires = "record")]
    pub with_files: bool,
    /// With it: write the records into this new file as JSON (`-`: stdout), and change nothing else
    #[arg(long, value_name = "FILE", requires = "record", value_hint = ValueHint::FilePath)]
    pub to_json: Option<PathBuf>,
}

/// How `restore --only records` loads rows into tables.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Records into tables")]
pub struct TablesArgs {
    /// Only this table, by its record name or its own, and no other part; may be given more than once
    #[arg(long, value_name = "TABLE")]
    pub table: Vec<String>,
    /// replace: afterwards a table holds the point's rows and no others; add-missing: rows whose key is not there are
    /// added, and a key that is there with other values changes nothing and is named [default: replace]
    #[arg(long, value_parser = PossibleValuesParser::new(["replace", "add-missing"]))]
    pub mode: Option<String>,
    /// With add-missing: rows that are there with other values stay
    #[arg(long, conflicts_with = "overwrite")]
    pub keep_present: bool,
    /// With add-missing or --record: rows that are there with other values become those of the point
    #[arg(long)]
    pub overwrite: bool,
}

/// Where `restore` writes instead of to the point's own source.
#[expect(clippy::struct_field_names, reason = "the flags are called so")]
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Elsewhere")]
pub struct TargetArgs {
    /// Restore the database there, not over its source
    #[arg(long, value_name = "URL")]
    pub to_database: Option<String>,
    /// Restore the files there, not over their source
    #[arg(long, value_name = "URL")]
    pub to_files: Option<String>,
    /// Put the record files into this folder, instead of their rows into tables
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub to_records: Option<PathBuf>,
}

/// `diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_AFTER)]
pub struct DiffArgs {
    #[arg(help = POINT_HELP, value_name = "A")]
    pub before: String,
    /// The point to compare it with, or `now`: the database and the files as they are
    #[arg(value_name = "B")]
    pub after: String,
    /// Name each row that differs, column by column, and each file: the first few of a kind on a page, all of them with --json
    #[arg(long)]
    pub rows: bool,
    /// Only this table, by its record name or its own, and no files; may be given more than once
    #[arg(long, value_name = "TABLE")]
    pub table: Vec<String>,
    /// Only these parts: records compares rows, database numbers of rows alone, without the records
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = parts())]
    pub only: Vec<Part>,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `adopt`.
#[derive(Debug, Args)]
#[command(after_help = ADOPT_AFTER)]
pub struct AdoptArgs {
    /// A folder on this machine with folders of the records of old runs: they become parts of their points, and stay there
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub local: Option<PathBuf>,
    /// The name that old databases bear: NAME_sqlite_backup_<time>.db, NAME_postgres_backup_<time>.dump [default: the application's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The zone of the times in the names, for example Europe/Vienna [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Show what would become which point; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Ask nothing
    #[arg(long, short)]
    pub yes: bool,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `copy`.
#[derive(Debug, Args)]
#[command(after_help = COPY_AFTER)]
pub struct CopyArgs {
    #[arg(help = POINT_HELP, default_value = "latest")]
    pub point: String,
    /// Only these parts
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = parts())]
    pub only: Vec<Part>,
    /// Show what would be copied; write nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub target: OtherVaultArgs,
    #[command(flatten)]
    pub seen: SeenArgs,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The vault that `copy` writes to.
#[expect(clippy::struct_field_names, reason = "the flags are called so")]
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The other vault")]
pub struct OtherVaultArgs {
    /// Where the copy goes: s3://bucket/prefix or a folder; a vault is made there when there is none
    #[arg(long, value_name = "URL")]
    pub to_vault: String,
    /// Its S3 endpoint, when it is not this vault's; `aws` for AWS itself
    #[arg(long, value_name = "URL")]
    pub to_endpoint: Option<String>,
    /// Its region, when it is not this vault's
    #[arg(long, value_name = "REGION")]
    pub to_region: Option<String>,
    /// The profile to reach it with, when it is not this vault's: another account or service
    #[arg(long, value_name = "PROFILE")]
    pub to_profile: Option<String>,
}

/// `prune`.
#[derive(Debug, Args)]
#[command(after_help = PRUNE_AFTER)]
pub struct PruneArgs {
    /// Show each decision with its reason, and what would be freed; remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Ask nothing
    #[arg(long, short)]
    pub yes: bool,
    #[command(flatten)]
    pub keep: KeepArgs,
    /// The local folder of records, whose expired folders go as well [env: NEXUS_RECORDS]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub records: Option<PathBuf>,
    #[command(flatten)]
    pub seen: SeenArgs,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What stands over `[retention]` of the configuration.
#[expect(clippy::struct_field_names, reason = "the flags are called so")]
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Retention")]
pub struct KeepArgs {
    /// How long databases are kept: 30d, 12w, forever [default: [retention], else 30d]
    #[arg(long, value_name = "TIME")]
    pub keep_database: Option<KeptFor>,
    /// How long files are kept [default: [retention], else 7d]
    #[arg(long, value_name = "TIME")]
    pub keep_files: Option<KeptFor>,
    /// How long records are kept [default: [retention], else 90d]
    #[arg(long, value_name = "TIME")]
    pub keep_records: Option<KeptFor>,
    /// The newest proven points that are kept however old they are [default: [retention], else 3]
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,
    /// The newest proven point of each of the last N days that have one
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,
    /// The newest proven point of each of the last N weeks that have one
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u32>,
    /// The newest proven point of each of the last N months that have one
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<u32>,
    /// The newest proven point of each of the last N years that have one
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<u32>,
}

/// `pin`.
#[derive(Debug, Args)]
#[command(after_help = PIN_AFTER)]
pub struct PinArgs {
    #[arg(help = POINT_HELP)]
    pub point: String,
    /// Why it is kept: it is shown wherever the point is
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Show what would be pinned; write nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `unpin`.
#[derive(Debug, Args)]
#[command(after_help = PIN_AFTER)]
pub struct UnpinArgs {
    #[arg(help = POINT_HELP)]
    pub point: String,
    /// Show what would be unpinned; write nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `rehearse`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
#[command(after_help = REHEARSE_AFTER)]
pub struct RehearseArgs {
    #[arg(long, help = POINT_HELP, default_value = "latest")]
    pub point: String,
    /// Copy no files: what COMMAND would change or remove among them does not show, only what it adds
    #[arg(long)]
    pub no_files: bool,
    /// Run COMMAND without a probe: its settings are trusted to lead to the scratch
    #[arg(long)]
    pub trust_env: bool,
    /// Nobody else works on the application: exit status 1 when it changed meanwhile
    #[arg(long)]
    pub exclusive: bool,
    /// Show what would be restored where; restore and run nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    /// What to run, with its arguments
    #[arg(last = true, required = true, num_args = 1.., value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// `guard`.
#[derive(Debug, Args)]
#[command(after_help = GUARD_AFTER)]
pub struct GuardArgs {
    /// What the point is for: a-z, 0-9 and `-` [env: NEXUS_LABEL] [default: backup]
    #[arg(long)]
    pub label: Option<Label>,
    /// A query on the database that must answer no row after the command; may be given more than once
    #[arg(long, value_name = "SQL")]
    pub check: Vec<String>,
    /// Do not compare rows and files with the point afterwards
    #[arg(long)]
    pub no_account: bool,
    /// Write what became of it into this file as JSON (mode 0600)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub report: Option<PathBuf>,
    /// Show what would be taken from where; run nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
    #[command(flatten)]
    pub failing: FailingArgs,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub seen: SeenArgs,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: GuardOutputArgs,
}

/// What `guard` does when its command fails.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "When the command fails")]
pub struct FailingArgs {
    /// Restore the point when the command fails, is killed, or a --check finds something
    #[arg(long)]
    pub restore_on_failure: bool,
    /// With it: remove files that came after the point
    #[arg(long, requires = "restore_on_failure")]
    pub delete_extra: bool,
    /// With it, on PostgreSQL: end the sessions in the database when the restored one takes its place
    #[arg(long, requires = "restore_on_failure")]
    pub end_sessions: bool,
    /// With it, on PostgreSQL: everything belongs to the role that restores, and nothing is granted
    #[arg(long, requires = "restore_on_failure")]
    pub no_owner: bool,
    /// With it, on PostgreSQL: empty the live database and fill it, for a role that may not create databases
    #[arg(long, requires = "restore_on_failure")]
    pub in_place: bool,
}

/// How `guard` reports: stdout is its command's.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct GuardOutputArgs {
    /// No progress and no notes; warnings and errors stay
    #[arg(long, short)]
    pub quiet: bool,
    /// Append everything that happens, with times, to this file (mode 0600)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log_file: Option<PathBuf>,
    /// Refused, with a word about --report
    #[arg(long, hide = true)]
    pub json: bool,
}

/// `completions`.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_AFTER)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: clap_complete::Shell,
    /// Print pure JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// `man`.
#[derive(Debug, Args)]
#[command(after_help = MAN_AFTER)]
pub struct ManArgs {
    /// Write one page for each verb into this folder
    #[arg(long, short, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub output: Option<PathBuf>,
    /// Print pure JSON on stdout
    #[arg(long)]
    pub json: bool,
}

fn parts() -> impl TypedValueParser<Value = Part> {
    PossibleValuesParser::new(Part::ALL.map(Part::name)).try_map(|text| text.parse::<Part>())
}

fn breaches() -> impl TypedValueParser<Value = Breach> {
    PossibleValuesParser::new(Breach::ALL.map(Breach::name)).map(|text| {
        // It is one of them.
        Breach::ALL.into_iter().find(|breach| breach.name() == text).unwrap_or(Breach::Dangling)
    })
}

fn copies() -> impl TypedValueParser<Value = Copies> {
    PossibleValuesParser::new(["incremental", "full", "versions"]).map(|text| match text.as_str() {
        "full" => Copies::Full,
        "versions" => Copies::Versions,
        _ => Copies::Incremental,
    })
}
