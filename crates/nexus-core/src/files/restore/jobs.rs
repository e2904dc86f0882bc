//! A plan too long for memory: a file of lines, written as it is found and read when it is carried out.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::local::create_private;

/// Work that is written down as it is found, a line each.
pub(super) struct Jobs(BufWriter<std::fs::File>);

impl Jobs {
    pub(super) fn create(path: &Path) -> Result<Self> {
        Ok(Self(BufWriter::new(create_private(path)?)))
    }

    pub(super) fn push(&mut self, job: &impl Serialize) -> Result<()> {
        let failed = |cause| Error::local("cannot write the plan", cause);
        serde_json::to_writer(&mut self.0, job).map_err(|cause| failed(cause.into()))?;
        self.0.write_all(b"\n").map_err(failed)
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.0.flush().map_err(|cause| Error::local("cannot write the plan", cause))
    }
}

/// Reads it back.
pub(super) fn jobs<T: DeserializeOwned>(work: &Path) -> Result<impl Iterator<Item = Result<T>> + use<T>> {
    let broken = |cause: std::io::Error| Error::local("cannot read the plan back", cause);
    let file = std::fs::File::open(work).map_err(broken)?;
    Ok(BufReader::new(file)
        .lines()
        .map(move |line| serde_json::from_str(&line.map_err(broken)?).map_err(|cause| broken(cause.into()))))
}
