//! What a person types to look something up in a point: `get`, `find`, `history`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::examples::{FIND_AFTER, GET_AFTER, HISTORY_AFTER, POINT_HELP};
use super::{OutputArgs, VaultArgs};

/// `get`.
#[derive(Debug, Args)]
#[command(after_help = GET_AFTER)]
pub struct GetArgs {
    /// The file: its key in the source, as `show` and the listing have it
    #[arg(required_unless_present = "table", conflicts_with = "table")]
    pub key: Option<String>,
    #[arg(long, help = POINT_HELP, default_value = "latest")]
    pub point: String,
    /// Where the file goes: a name that is not there yet, a folder, or `-` for stdout [default: stdout, unless that is a terminal]
    #[arg(long = "to", short = 'o', visible_alias = "output", value_name = "FILE", value_hint = ValueHint::AnyPath, conflicts_with = "table")]
    pub to: Option<PathBuf>,
    /// A record of this table instead of a file, by its record name or its own
    #[arg(long, value_name = "TABLE", requires = "pk")]
    pub table: Option<String>,
    /// The record's key: 42, id=42, or a=1,b=2 for a key of several columns; may be given once for each column
    #[arg(long, value_name = "KEY", requires = "table", allow_hyphen_values = true)]
    pub pk: Vec<String>,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `find`.
#[derive(Debug, Args)]
#[command(after_help = FIND_AFTER)]
pub struct FindArgs {
    /// The table, by its record name or its own; several with commas between them
    #[arg(value_name = "TABLE")]
    pub tables: String,
    /// What a record must fit, all of it: column=value, column~regex, column<value, "column is null"; none: every record
    #[arg(value_name = "CONDITION")]
    pub conditions: Vec<String>,
    #[arg(long, help = POINT_HELP, default_value = "latest")]
    pub point: String,
    /// In every point that has records, the oldest first
    #[arg(long, conflicts_with = "point")]
    pub all: bool,
    /// Only how many there are
    #[arg(long)]
    pub count: bool,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `history`.
#[derive(Debug, Args)]
#[command(after_help = HISTORY_AFTER)]
pub struct HistoryArgs {
    /// The table, by its record name or its own
    pub table: String,
    /// The record's key: 42, id=42, or a=1,b=2 for a key of several columns, which may be a word each: a=1 b=2
    #[arg(value_name = "KEY", required = true, allow_negative_numbers = true)]
    pub pk: Vec<String>,
    /// Also the files that it names: texts of it that are keys of files, as the points of each state have them
    #[arg(long)]
    pub files: bool,
    #[command(flatten)]
    pub vault: VaultArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}
