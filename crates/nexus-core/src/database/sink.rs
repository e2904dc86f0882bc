//! Where rows go on their way out: gathered, hashed, and written to a file where there is one.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::database::digest::{Lines, RowsDigest};
use crate::error::{Error, Result};
use crate::point::hexadecimal as hex;

/// How much is gathered before it is hashed and written.
const BUFFER: usize = 256 * 1024;

/// Where rows go: into a hash, and into a file when there is one.
pub(crate) struct Sink {
    buffer: Vec<u8>,
    hash: Sha256,
    bytes: u64,
    file: Option<(File, PathBuf)>,
    lines: Option<Lines>,
}

impl Sink {
    /// Hashes only.
    pub(crate) fn hash_only() -> Self {
        Self { buffer: Vec::with_capacity(2 * BUFFER), hash: Sha256::new(), bytes: 0, file: None, lines: None }
    }

    /// Writes to a new file as well.
    pub(crate) fn file(file: File, path: &Path) -> Self {
        Self { file: Some((file, path.to_owned())), ..Self::hash_only() }
    }

    /// Digests the rows whatever their order, and hashes nothing.
    pub(crate) fn rows() -> Self {
        Self { lines: Some(Lines::default()), ..Self::hash_only() }
    }

    /// The rows that a sink made by [`Sink::rows`] has taken.
    pub(crate) fn finish_rows(mut self) -> Result<RowsDigest> {
        self.flush()?;
        Ok(self.lines.map(|lines| lines.digest()).unwrap_or_default())
    }

    /// Hashes and writes what is left, makes it last, and answers bytes and SHA-256.
    pub(crate) fn finish(mut self) -> Result<(u64, String)> {
        self.flush()?;
        if let Some((file, path)) = &self.file {
            file.sync_all().map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
        }
        Ok((self.bytes, hex(&self.hash.finalize())))
    }

    /// Where the next bytes go.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Hashes and writes what was gathered once it is much.
    pub(crate) fn make_room(&mut self) -> Result<()> {
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        match &mut self.lines {
            Some(lines) => lines.take(&self.buffer),
            None => self.hash.update(&self.buffer),
        }
        self.bytes += self.buffer.len() as u64;
        if let Some((file, path)) = &mut self.file {
            file.write_all(&self.buffer)
                .map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
        }
        self.buffer.clear();
        // A single large value must not keep its memory for all rows after it.
        self.buffer.shrink_to(4 * BUFFER);
        Ok(())
    }

    /// Forgets everything, to begin again.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.buffer.clear();
        self.hash = Sha256::new();
        self.lines = self.lines.take().map(|_| Lines::default());
        self.bytes = 0;
        if let Some((file, path)) = &mut self.file {
            file.set_len(0)
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
        }
        Ok(())
    }
}
