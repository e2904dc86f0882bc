//! Where rows go on their way out: gathered, hashed, and written to a file where there is one.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::database::digest::{Lines, RowsDigest};
use crate::database::marks::Marks;
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
    marks: Option<Marks>,
    /// Where the bytes begin, in the buffer, that the marks have not taken.
    unmarked: usize,
}

impl Sink {
    /// Hashes only.
    pub(crate) fn hash_only() -> Self {
        Self {
            buffer: Vec::with_capacity(2 * BUFFER),
            hash: Sha256::new(),
            bytes: 0,
            file: None,
            lines: None,
            marks: None,
            unmarked: 0,
        }
    }

    /// Writes to a new file as well.
    pub(crate) fn file(file: File, path: &Path) -> Self {
        Self { file: Some((file, path.to_owned())), ..Self::hash_only() }
    }

    /// Writes to a new file, and gathers where each record lies by its key.
    pub(crate) fn marked(file: File, path: &Path) -> Self {
        let folder = path.parent().unwrap_or(Path::new("."));
        Self { marks: Some(Marks::new(folder)), ..Self::file(file, path) }
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
    pub(crate) fn finish(self) -> Result<(u64, String)> {
        self.finish_marked().map(|(bytes, sha256, _)| (bytes, sha256))
    }

    /// The same, and where each record lies, unless that was not asked for or cannot be told.
    pub(crate) fn finish_marked(mut self) -> Result<(u64, String, Option<Marks>)> {
        self.flush()?;
        if let Some((file, path)) = &self.file {
            file.sync_all().map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
        }
        Ok((self.bytes, hex(&self.hash.finalize()), self.marks))
    }

    /// A record begins with what comes next.
    pub(crate) fn begin_record(&mut self) {
        let start = self.bytes + self.buffer.len() as u64;
        if let Some(marks) = self.marks.as_mut().filter(|marks| marks.begins_block(start)) {
            marks.take(&self.buffer[self.unmarked..]);
            self.unmarked = self.buffer.len();
            marks.begin_block(start);
        }
    }

    /// What lies in the buffer from there on is a value of the record's key. Values come in the order of the columns.
    pub(crate) fn key(&mut self, from: usize) {
        if let Some(marks) = &mut self.marks {
            marks.key(&self.buffer[from..]);
        }
    }

    /// The record that began last is whole.
    pub(crate) fn end_record(&mut self) -> Result<()> {
        self.marks.as_mut().map_or(Ok(()), Marks::end_record)
    }

    /// Gives up on marks: a key is too long for them.
    pub(crate) fn forget_marks(&mut self) {
        self.marks = None;
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
        if let Some(marks) = &mut self.marks {
            marks.take(&self.buffer[self.unmarked..]);
        }
        self.unmarked = 0;
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
        self.unmarked = 0;
        self.hash = Sha256::new();
        self.lines = self.lines.take().map(|_| Lines::default());
        self.bytes = 0;
        if let Some((_, path)) = self.file.as_ref().filter(|_| self.marks.is_some()) {
            self.marks = Some(Marks::new(path.parent().unwrap_or(Path::new("."))));
        }
        if let Some((file, path)) = &mut self.file {
            file.set_len(0)
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
        }
        Ok(())
    }
}
