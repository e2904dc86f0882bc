//! Every row and every file that differs, one a line of a private file, so that a person's few and a program's millions come
//! from the same lines.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Change;
use super::files::FileState;
use crate::error::{Error, Result};
use crate::listing::Side;
use crate::local::create_private;

/// A row that differs: values as record files have them, none of them cut.
#[derive(Debug, Serialize, Deserialize)]
pub struct RowChange<'a> {
    /// The table's own name in the database.
    pub table: String,
    /// How it differs.
    pub change: Change,
    /// The fields that tell it from others, as an object; nothing where a table has no key.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a RawValue>,
    /// The record then; of a changed row only the fields that differ.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub before: Option<&'a RawValue>,
    /// The record now; of a changed row only the fields that differ.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub after: Option<&'a RawValue>,
}

/// A file that differs.
#[derive(Debug, Serialize, Deserialize)]
pub struct FileChange {
    /// The category: of now, else of then.
    pub category: String,
    /// How it differs.
    pub change: Change,
    /// Its key in the source.
    pub key: String,
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Side>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Side>,
}

/// A file of lines that is being written.
#[derive(Debug)]
pub(super) struct Telling {
    out: BufWriter<File>,
    path: PathBuf,
}

impl Telling {
    /// Begins a new private file.
    pub(super) fn begin(path: &Path) -> Result<Self> {
        Ok(Self { out: BufWriter::new(create_private(path)?), path: path.to_owned() })
    }

    /// Adds a row.
    pub(super) fn row(&mut self, row: &RowChange<'_>) -> Result<()> {
        self.line(row)
    }

    /// Adds a file.
    pub(super) fn file(&mut self, change: Change, before: Option<&FileState>, after: Option<&FileState>) -> Result<()> {
        let Some(named) = after.or(before) else { return Ok(()) };
        let side = |state: Option<&FileState>| state.map(|state| state.side.clone());
        self.line(&FileChange {
            category: named.category.clone(),
            change,
            key: named.key.clone(),
            before: side(before),
            after: side(after),
        })
    }

    /// Makes sure that all of it is in the file.
    pub(super) fn finish(mut self) -> Result<()> {
        let flushed = self.out.flush();
        flushed.map_err(|cause| self.failed(cause))
    }

    fn line<T: Serialize>(&mut self, value: &T) -> Result<()> {
        let written = serde_json::to_writer(&mut self.out, value).map_err(std::io::Error::from);
        written.and_then(|()| self.out.write_all(b"\n")).map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: std::io::Error) -> Error {
        Error::local(format!("cannot write `{}`", self.path.display()), cause)
    }
}

/// The lines of such a file, one after the other.
///
/// # Errors
///
/// As the system says.
pub fn lines(path: &Path) -> Result<impl Iterator<Item = Result<String>> + use<>> {
    let what = format!("cannot read `{}`", path.display());
    let file = File::open(path).map_err(|cause| Error::local(what.clone(), cause))?;
    Ok(BufReader::new(file).lines().map(move |line| line.map_err(|cause| Error::local(what.clone(), cause))))
}
