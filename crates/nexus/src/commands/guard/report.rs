//! What became of a guard, for programs: one JSON document in a private file, since stdout is the command's.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nexus_core::error::{Error, Result};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::settings::Environment;
use crate::terminal::Terminal;

/// The report, filled as things happen.
pub struct Report {
    file: Option<File>,
    fields: Map<String, Value>,
}

impl Report {
    /// Opens the file, emptied, before anything else is done: one that cannot be written must not show after the deed.
    pub fn open(environment: &Environment, path: Option<&Path>) -> Result<Self> {
        let file = path.map(|path| private(&environment.folder.join(path))).transpose()?;
        Ok(Self { file, fields: Map::new() })
    }

    /// Adds a field, or replaces it.
    pub fn say(&mut self, name: &str, value: Value) {
        self.fields.insert(name.to_owned(), value);
    }

    /// Adds why the command was not run.
    pub fn not_run(&mut self, failure: &Failure) {
        self.say("outcome", "not-run".into());
        self.say("exit_status", failure.status.into());
        if let Value::Object(error) = failure.json() {
            self.fields.extend(error);
        }
    }

    /// Writes it; what cannot be written is only said, since the command has run or not run by now.
    pub fn write(mut self, terminal: &Terminal) {
        let Some(mut file) = self.file.take() else { return };
        let text = format!("{:#}\n", Value::Object(self.fields));
        // A pipe has nothing that could be made to last, and refuses.
        let lasting = file.metadata().is_ok_and(|facts| facts.is_file());
        let last = |file: &File| if lasting { file.sync_all() } else { Ok(()) };
        if let Err(cause) = file.write_all(text.as_bytes()).and_then(|()| last(&file)) {
            terminal.warn(&format!("the report could not be written: {cause}"));
        }
    }
}

/// A file that only its owner may read.
fn private(path: &Path) -> Result<File> {
    let what = || format!("cannot write the report `{}`", path.display());
    let open = || {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let facts = file.metadata()?;
        // A device or a pipe keeps its mode.
        if facts.is_file() && facts.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        Ok(file)
    };
    open().map_err(|cause| Error::local(what(), cause))
}
