//! Where rows come from on their way in: a record file, read a line at a time.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::digest::RowsDigest;
use crate::error::{Error, Result};
use crate::point::RecordTable;

/// The longest record that is read, bytes.
const LONGEST_RECORD: usize = 1 << 30;
/// How much of a file is read at a time.
const BUFFER: usize = 256 * 1024;

/// A record file that is read from its beginning to its end.
pub(crate) struct RecordFile {
    reader: BufReader<File>,
    path: PathBuf,
    /// The names that each record has, in this order.
    fields: Vec<String>,
    table: String,
    line: Vec<u8>,
    digest: RowsDigest,
    rows: u64,
    /// Where the line that was read last begins, and where the next one does.
    start: u64,
    next: u64,
}

/// A value of a record.
#[derive(Debug, PartialEq)]
pub(crate) enum Field<'a> {
    Null,
    Boolean(bool),
    /// A number as it is written.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// `{"$int": …}`: an integer as it is written.
    Integer(String),
    /// `{"$real": …}`: `inf` or `-inf`.
    Real(String),
    /// `{"$blob": …}`.
    Blob(Vec<u8>),
    /// `{"$text": …}`: text that is not UTF-8.
    Bytes(Vec<u8>),
}

impl RecordFile {
    /// Opens the file of a table.
    ///
    /// # Errors
    ///
    /// As the system says; [`Error::Damaged`] when it does not begin as a record file does.
    pub(crate) fn open(path: &Path, table: &RecordTable, rowid_field: &str) -> Result<Self> {
        let file =
            File::open(path).map_err(|cause| Error::local(format!("cannot read `{}`", path.display()), cause))?;
        let rowid = table.rowid.then(|| rowid_field.to_owned());
        let names = table.columns.iter().map(|column| column.name.clone());
        let mut opened = Self {
            reader: BufReader::with_capacity(BUFFER, file),
            path: path.to_owned(),
            fields: rowid.into_iter().chain(names).collect(),
            table: table.name.clone(),
            line: Vec::new(),
            digest: RowsDigest::default(),
            rows: 0,
            start: 0,
            next: 0,
        };
        opened.read_line()?;
        if opened.line != b"[" {
            return Err(opened.damaged("it does not begin with `[`"));
        }
        Ok(opened)
    }

    /// Reads the next record; false at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when the file ends before it; [`Error::Unsupported`] for one that is too long.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        self.read_line()?;
        match self.line.as_slice() {
            b"]" => return Ok(false),
            b"" => return Err(self.damaged("it ends before its `]`")),
            _ => {}
        }
        if self.line.last() == Some(&b',') {
            self.line.pop();
        }
        self.rows += 1;
        self.digest.add(&self.line);
        Ok(true)
    }

    /// The values of the record that was read last, in the order of the columns.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it is no record of this table.
    pub(crate) fn fields(&self) -> Result<Vec<Field<'_>>> {
        let parsed = std::str::from_utf8(&self.line).ok().and_then(|text| fields(text, &self.fields));
        parsed.ok_or_else(|| self.foreign())
    }

    /// The values of the record that was read last, each as it is written, in the order of the columns; before them its
    /// rowid, where records have one.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it is no record of this table.
    pub(crate) fn values(&self) -> Result<Vec<&str>> {
        let parsed = std::str::from_utf8(&self.line).ok().and_then(|text| pairs(text, &self.fields));
        let values = parsed.map(|pairs| pairs.0.into_iter().map(|(_, value)| value.get()).collect());
        values.ok_or_else(|| self.foreign())
    }

    /// Where the record that was read last begins, bytes from the file's beginning.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Reads the record that begins there; what was counted and digested so far is of no use afterwards.
    ///
    /// # Errors
    ///
    /// As for [`RecordFile::advance`].
    pub(crate) fn read_at(&mut self, start: u64) -> Result<bool> {
        // What is in the buffer already is not read again: records are mostly asked for in their order.
        let moved = i64::try_from(start).ok().zip(i64::try_from(self.next).ok());
        let moved = match moved {
            Some((to, from)) => self.reader.seek_relative(to - from),
            None => self.reader.seek(SeekFrom::Start(start)).map(drop),
        };
        moved.map_err(|cause| Error::local(format!("cannot read `{}`", self.path.display()), cause))?;
        self.next = start;
        self.advance()
    }

    /// The record that was read last, as it is written.
    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }

    /// What has been read so far, whatever its order.
    pub(crate) fn digest(&self) -> RowsDigest {
        self.digest
    }

    /// The record that was read last is no record of this table.
    pub(crate) fn foreign(&self) -> Error {
        let (path, table) = (self.path.display(), &self.table);
        Error::damaged(format!("record {} of `{table}` in `{path}` is not one of that table", self.rows))
    }

    fn damaged(&self, how: &str) -> Error {
        Error::damaged(format!("`{}` is not a record file: {how}", self.path.display()))
    }

    /// Reads a line without its end; at the file's end it is empty.
    fn read_line(&mut self) -> Result<()> {
        self.line.clear();
        self.line.shrink_to(4 * BUFFER);
        self.start = self.next;
        loop {
            let piece = self.reader.fill_buf();
            let piece = piece.map_err(|cause| Error::local(format!("cannot read `{}`", self.path.display()), cause))?;
            let end = piece.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(piece.len());
            if self.line.len() + taken > LONGEST_RECORD {
                return Err(Error::Unsupported {
                    what: format!(
                        "record {} of `{}` is longer than {} MiB: restore the database instead of its records",
                        self.rows + 1,
                        self.table,
                        LONGEST_RECORD >> 20
                    ),
                });
            }
            self.line.extend_from_slice(&piece[..taken]);
            let is_over = end.is_some() || piece.is_empty();
            let used = taken + usize::from(end.is_some());
            self.reader.consume(used);
            self.next += used as u64;
            if is_over {
                return Ok(());
            }
        }
    }
}

/// The values of a record, if it has exactly these names in this order.
fn fields<'a>(line: &'a str, names: &[String]) -> Option<Vec<Field<'a>>> {
    pairs(line, names)?.0.into_iter().map(|(_, value)| field(value.get())).collect()
}

/// The names and values of a record, if it has exactly these names in this order.
pub(crate) fn pairs<'a>(line: &'a str, names: &[String]) -> Option<Pairs<'a>> {
    let mut reader = serde_json::Deserializer::from_str(line);
    let pairs = Pairs::deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    let same = pairs.0.len() == names.len() && pairs.0.iter().zip(names).all(|((name, _), wanted)| name == wanted);
    same.then_some(pairs)
}

/// A value as it is written in a record; none where it is of no kind that a record of ours has.
pub(crate) fn field(raw: &str) -> Option<Field<'_>> {
    match raw.as_bytes().first()? {
        b'n' => Some(Field::Null),
        b't' => Some(Field::Boolean(true)),
        b'f' => Some(Field::Boolean(false)),
        b'"' => text(raw).map(Field::Text),
        b'{' => tagged(raw),
        b'-' | b'0'..=b'9' => Some(Field::Number(raw)),
        _ => None,
    }
}

/// The names and values of any object, in the order they are written, each value as it is written.
pub(crate) fn object(line: &str) -> Option<Vec<(String, String)>> {
    let mut reader = serde_json::Deserializer::from_str(line);
    let pairs = Pairs::deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(pairs.0.into_iter().map(|(name, value)| (name.into_owned(), value.get().to_owned())).collect())
}

/// A string without escapes is taken as it lies.
fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.get(1..raw.len() - 1)?;
    if inner.contains('\\') { serde_json::from_str(raw).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

fn tagged(raw: &str) -> Option<Field<'_>> {
    let pairs: Pairs<'_> = serde_json::from_str(raw).ok()?;
    let [(tag, value)] = pairs.0.as_slice() else { return None };
    let value = text(value.get()).filter(|_| value.get().starts_with('"'))?;
    match tag.as_ref() {
        "$int" => Some(Field::Integer(value.into_owned())),
        "$real" => Some(Field::Real(value.into_owned())),
        "$blob" => STANDARD.decode(value.as_bytes()).ok().map(Field::Blob),
        "$text" => STANDARD.decode(value.as_bytes()).ok().map(Field::Bytes),
        _ => None,
    }
}

/// An object's fields in the order they are written, each value as it is written.
pub(crate) struct Pairs<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Self::Value, M::Error> {
                let mut pairs = Vec::new();
                // A key with escapes cannot be borrowed.
                while let Some((Key(name), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A field's name, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(line: &'a str, names: &[&str]) -> Option<Vec<Field<'a>>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        fields(line, &names)
    }

    #[test]
    fn every_kind_of_value_is_read_as_it_was_written() {
        let line = r#"{"a\"":null,"b":true,"c":-1.50e+300,"d":"x\ny\u0000","e":{"$int":"9007199254740993"},"f":{"$real":"-inf"},"g":{"$blob":"AP8="},"h":{"$text":"/w=="}}"#;
        let fields = read(line, &["a\"", "b", "c", "d", "e", "f", "g", "h"]).expect("a record");
        assert_eq!(
            fields[..4],
            [Field::Null, Field::Boolean(true), Field::Number("-1.50e+300"), Field::Text("x\ny\0".into())]
        );
        assert_eq!(fields[4..6], [Field::Integer("9007199254740993".into()), Field::Real("-inf".into())]);
        assert_eq!(fields[6..], [Field::Blob(vec![0, 255]), Field::Bytes(vec![255])]);
    }

    #[test]
    fn what_has_other_fields_or_another_shape_is_no_record() {
        for line in [
            r#"{"b":1,"a":2}"#,
            r#"{"a":1}"#,
            r#"{"a":1,"b":2,"c":3}"#,
            r#"{"a":1,"b":[2]}"#,
            r#"{"a":1,"b":{"$x":"y"}}"#,
            r#"{"a":1,"b":2"#,
            "[1]",
        ] {
            assert!(read(line, &["a", "b"]).is_none(), "{line}");
        }
    }
}
