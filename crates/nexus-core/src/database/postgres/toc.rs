//! What an archive of `pg_dump`'s custom format says of itself: its header and its table of entries, as they stand before its data.
//!
//! `pg_restore --list` shows most of it and leaves out the statements. The layout is that of `ReadHead` and `ReadToc` in
//! PostgreSQL's `pg_backup_archiver.c`, 10 to 18; another one is named and not guessed at.

use std::io::{self, BufRead, Read};

use super::archive;

/// The longest text that is read, bytes: a function is one text. A length beyond it is no length.
const LONGEST: usize = 64 << 20;
/// The most entries: a table has about five.
const ENTRIES: i32 = 1 << 24;
/// The header's word for the custom format.
const CUSTOM: u8 = 1;

/// Header and table of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Toc {
    /// How its data is compressed: `gzip`, `zstd`, `lz4`, `none`.
    pub(super) compression: &'static str,
    /// The server's version: `15.18 (Debian 15.18-0+deb12u1)`.
    pub(super) server: String,
    /// The version of `pg_dump`.
    pub(super) client: String,
    /// The entries, in the order of their data.
    pub(super) entries: Vec<Entry>,
}

/// One thing of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// True when data of it follows.
    pub(super) has_data: bool,
    /// Its name; of what is about something else, as in `DATABASE clinic`.
    pub(super) tag: String,
    /// `TABLE`, `TABLE DATA`, `ACL` …
    pub(super) kind: String,
    /// The statements that make it.
    pub(super) definition: String,
    /// The statement that its data follows.
    pub(super) copy: String,
    /// Its schema; empty: none.
    pub(super) schema: String,
    /// Its tablespace; empty: the usual one.
    pub(super) tablespace: String,
    /// Its owner; empty: none.
    pub(super) owner: String,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is no such archive, or of an unknown format; in words.
    No(String),
    /// It ends before its table of entries does.
    Cut,
    /// It could not be read.
    Failed(io::Error),
}

type Outcome<T> = std::result::Result<T, Unread>;

/// Reads header and table from an archive's beginning.
pub(super) fn read(archive: impl BufRead) -> Outcome<Toc> {
    let mut from = Reading(archive);
    let [b'P', b'G', b'D', b'M', b'P', major, minor, revision, integer, place, format] = from.bytes()? else {
        return Err(Unread::No("it is no dump in pg_dump's custom format".to_owned()));
    };
    if !matches!((major, minor, revision), (1, 12..=16, 0)) || integer != 4 || format != CUSTOM || place > 8 {
        return Err(Unread::No(format!(
            "its format {major}.{minor}.{revision} ({format}) is not known here: pg_restore may read it where it lies"
        )));
    }
    let compression = if minor < 15 {
        if from.number()? == 0 { "none" } else { "gzip" }
    } else {
        match from.bytes()? {
            [0] => "none",
            [1] => "gzip",
            [2] => "lz4",
            [3] => "zstd",
            [other] => return Err(Unread::No(format!("its compression {other} is not known here"))),
        }
    };
    // When it was made, by the clock of the machine that made it.
    for _ in 0..7 {
        from.number()?;
    }
    let [_database, server, client] = [from.text()?, from.text()?, from.text()?];
    let count = from.number()?;
    if !(0..=ENTRIES).contains(&count) {
        return Err(malformed());
    }
    let entries = (0..count).map(|_| from.entry(minor, place)).collect::<Outcome<Vec<Entry>>>()?;
    Ok(Toc { compression, server, client, entries })
}

/// An archive as it is read.
struct Reading<R>(R);

impl<R: BufRead> Reading<R> {
    fn entry(&mut self, minor: u8, place: u8) -> Outcome<Entry> {
        let _id = self.number()?;
        let has_data = self.number()? != 0;
        let [_table, _oid, tag, kind] = [self.text()?, self.text()?, self.text()?, self.text()?];
        let _section = self.number()?;
        let [definition, _drop, copy] = [self.text()?, self.text()?, self.text()?];
        let [schema, tablespace] = [self.text()?, self.text()?];
        if minor >= 14 {
            let _access_method = self.text()?;
        }
        if minor >= 16 {
            let _relation_kind = self.number()?;
        }
        let [owner, _with_oids] = [self.text()?, self.text()?];
        while self.maybe_text()?.is_some() {}
        for _ in 0..=place {
            self.bytes::<1>()?;
        }
        Ok(Entry { has_data, tag, kind, definition, copy, schema, tablespace, owner })
    }

    fn number(&mut self) -> Outcome<i32> {
        archive::number(self.bytes()?).map_err(|_| malformed())
    }

    fn text(&mut self) -> Outcome<String> {
        Ok(self.maybe_text()?.unwrap_or_default())
    }

    fn maybe_text(&mut self) -> Outcome<Option<String>> {
        let length = match self.number()? {
            -1 => return Ok(None),
            length => usize::try_from(length).ok().filter(|length| *length <= LONGEST).ok_or_else(malformed)?,
        };
        let mut bytes = Vec::new();
        Read::take(&mut self.0, length as u64).read_to_end(&mut bytes).map_err(Unread::Failed)?;
        if bytes.len() < length {
            return Err(Unread::Cut);
        }
        // Names in a dump of another encoding than UTF-8 are not told apart by what cannot be said of them.
        Ok(Some(String::from_utf8(bytes).unwrap_or_else(|text| String::from_utf8_lossy(text.as_bytes()).into_owned())))
    }

    fn bytes<const LENGTH: usize>(&mut self) -> Outcome<[u8; LENGTH]> {
        let mut bytes = [0; LENGTH];
        match self.0.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Unread::Cut),
            Err(error) => Err(Unread::Failed(error)),
        }
    }
}

fn malformed() -> Unread {
    Unread::No("its table of contents is not as the format says".to_owned())
}
