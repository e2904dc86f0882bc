//! The log file: every line with its time, appended, readable by its owner alone.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use jiff::Timestamp;
use nexus_core::error::{Error, Result};

/// An open log file.
pub(super) struct Log(File);

impl Log {
    /// Opens it for appending; one that others may read is closed to them, since it names tables and keys.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let what = || format!("cannot open the log file `{}`", path.display());
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|cause| Error::local(what(), cause))?;
        let facts = file.metadata().map_err(|cause| Error::local(what(), cause))?;
        // A device or a pipe (`/dev/stderr`) keeps its mode.
        if facts.is_file() && facts.permissions().mode() & 0o077 != 0 {
            let mode = std::fs::Permissions::from_mode(0o600);
            file.set_permissions(mode).map_err(|cause| Error::local(what(), cause))?;
        }
        Ok(Self(file))
    }

    /// Writes each line of a text with the time before it, in one write.
    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        let now = Timestamp::now();
        let mut lines = String::with_capacity(text.len() + 40);
        for line in text.lines().filter(|line| !line.is_empty()) {
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{now:.3} {line}");
        }
        self.0.write_all(lines.as_bytes())
    }
}
