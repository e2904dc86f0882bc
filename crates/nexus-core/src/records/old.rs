//! Records that an older tool has written: a folder of files, each an array of objects in any layout. They are read to their end and
//! counted; what their values mean, nobody says.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::export::SUMMARY_FILE;
use crate::error::{Error, Result};
use crate::point::{FileHash, RecordColumn, RecordTable, RecordsPart, hexadecimal as hex};

/// How much of a file is read at once, bytes.
const BUFFER: usize = 256 << 10;
/// What the name of a file of records ends with.
const ENDING: &str = ".json";

/// Why a folder holds none.
pub(crate) type Unreadable = String;

/// A folder's records as the part of a point, and what else lies in it.
pub(crate) type Held = (RecordsPart, Vec<String>);

/// Reads every file of a folder, whose tables are called by the names of the files, or by `names`: record names and the tables that
/// they stand for. Inside: which file cannot be read to its end, and why.
///
/// # Errors
///
/// As the system says.
pub(crate) fn folder(folder: &Path, names: &BTreeMap<String, String>) -> Result<std::result::Result<Held, Unreadable>> {
    let what = || format!("cannot list `{}`", folder.display());
    let (mut files, mut others) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(|cause| Error::local(what(), cause))? {
        let entry = entry.map_err(|cause| Error::local(what(), cause))?;
        let kind = entry.file_type().map_err(|cause| Error::local(what(), cause))?;
        match entry.file_name().to_str() {
            Some(name) if kind.is_file() && name.ends_with(ENDING) => drop(files.insert(name.to_owned())),
            // What may be records and is not read would be missing from what is called whole.
            Some(name) if name.contains(ENDING) => {
                return Ok(Err(format!("{name} may be records, and is a link, a folder or packed")));
            }
            _ => others.push(entry.path().display().to_string()),
        }
    }
    let mut part = RecordsPart {
        folder: Some(folder.display().to_string()),
        in_vault: false,
        tables: Vec::new(),
        skipped: BTreeMap::new(),
        summary: None,
        rows: 0,
    };
    for name in files {
        let path = folder.join(&name);
        if name == SUMMARY_FILE {
            continue;
        }
        let counted = match rows(&path)? {
            Ok(counted) => counted,
            Err(why) => return Ok(Err(format!("{name}: {why}"))),
        };
        let record = name.strip_suffix(ENDING).unwrap_or(&name).to_owned();
        part.rows += counted.rows;
        let column = |name: String| RecordColumn { name, declared: String::new(), generated: false };
        part.tables.push(RecordTable {
            table: names.get(&record).cloned().unwrap_or_else(|| record.clone()),
            name: record,
            file: name,
            rows: counted.rows,
            bytes: counted.hash.bytes,
            sha256: counted.hash.sha256,
            index: None,
            columns: counted.fields.into_iter().map(column).collect(),
            order: Vec::new(),
            rowid: false,
            sequence: None,
            sequences: BTreeMap::new(),
        });
    }
    if part.tables.is_empty() {
        return Ok(Err("it holds no file of records".to_owned()));
    }
    let summary = folder.join(SUMMARY_FILE);
    if summary.exists() {
        match counts(&summary)? {
            Ok(counts) => {
                let wrong = part
                    .tables
                    .iter()
                    .find(|table| counts.get(&table.name).is_some_and(|numbers| !numbers.contains(&table.rows)));
                if let Some(table) = wrong {
                    return Ok(Err(format!(
                        "{} has {} records, and {SUMMARY_FILE} says otherwise",
                        table.file, table.rows
                    )));
                }
            }
            Err(why) => return Ok(Err(format!("{SUMMARY_FILE}: {why}"))),
        }
        part.summary = Some(hash(&summary)?);
    }
    Ok(Ok((part, others)))
}

/// The largest summary that is read.
const LARGEST_SUMMARY: u64 = 16 << 20;

/// The numbers that an older tool's summary gives, by what they are called, however deep they lie: one of a name's may be its records.
fn counts(path: &Path) -> Result<std::result::Result<BTreeMap<String, Vec<u64>>, Unreadable>> {
    fn gather(value: &serde_json::Value, counts: &mut BTreeMap<String, Vec<u64>>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            if let Some(number) = value.as_u64() {
                counts.entry(name.clone()).or_default().push(number);
            }
            gather(value, counts);
        }
    }
    let file = File::open(path).map_err(|cause| unreadable(path, cause))?;
    Ok(match serde_json::from_reader(BufReader::new(file.take(LARGEST_SUMMARY))) {
        Ok(value) => {
            let mut found = BTreeMap::new();
            gather(&value, &mut found);
            Ok(found)
        }
        Err(cause) if cause.is_io() => return Err(unreadable(path, cause.into())),
        Err(cause) => Err(cause.to_string()),
    })
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Its bytes and hash.
    pub(crate) hash: FileHash,
    /// Records.
    pub(crate) rows: u64,
    /// The names of their fields, in the order in which they came.
    pub(crate) fields: Vec<String>,
}

/// Reads a file to its end, no more than a record of it at a time. Inside: why it is no array of objects.
///
/// # Errors
///
/// As the system says.
pub(crate) fn rows(path: &Path) -> Result<std::result::Result<Counted, Unreadable>> {
    let (mut file, hashed) = Hashing::open(path)?;
    file.is_text = true;
    let mut parser = serde_json::Deserializer::from_reader(BufReader::with_capacity(BUFFER, file));
    let counted = parser.deserialize_seq(Rows).and_then(|counted| parser.end().map(|()| counted));
    match counted {
        Ok((rows, fields)) => Ok(Ok(Counted { hash: hashed.take().hash(), rows, fields })),
        Err(cause) if cause.io_error_kind() == Some(io::ErrorKind::InvalidData) => Ok(Err(cause.to_string())),
        Err(cause) if cause.is_io() => Err(unreadable(path, cause.into())),
        Err(cause) => Ok(Err(cause.to_string())),
    }
}

/// Gives each record of a file to `take`, on one line and else as it is written, no more than one at a time.
///
/// # Errors
///
/// [`Error::Damaged`] when the file is no array to its end; what `take` fails with.
pub(crate) fn each(path: &Path, take: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|cause| unreadable(path, cause))?;
    let mut parser = serde_json::Deserializer::from_reader(BufReader::with_capacity(BUFFER, file));
    let mut failed = None;
    let read = parser.deserialize_seq(Each { take, failed: &mut failed }).and_then(|()| parser.end());
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(cause)) if cause.is_io() => Err(unreadable(path, cause.into())),
        (None, Err(cause)) => Err(Error::Damaged {
            what: format!("`{}` is no array of records", path.display()),
            cause: Some(cause.into()),
        }),
    }
}

/// An array whose elements are given away one by one.
struct Each<'a> {
    take: &'a mut dyn FnMut(&str) -> Result<()>,
    failed: &'a mut Option<Error>,
}

impl<'de> Visitor<'de> for Each<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> std::result::Result<(), A::Error> {
        while let Some(record) = rows.next_element::<Box<RawValue>>()? {
            if let Err(error) = (self.take)(&on_one_line(record.get())) {
                *self.failed = Some(error);
                return Err(A::Error::custom("the reader has had enough"));
            }
        }
        Ok(())
    }
}

/// JSON without the blanks and newlines between its parts.
fn on_one_line(json: &str) -> String {
    let (mut line, mut in_text, mut escaped) = (String::with_capacity(json.len()), false, false);
    for letter in json.chars() {
        if in_text {
            in_text = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
        } else if letter.is_ascii_whitespace() {
            continue;
        } else {
            in_text = letter == '"';
        }
        line.push(letter);
    }
    line
}

fn hash(path: &Path) -> Result<FileHash> {
    let (mut file, hashed) = Hashing::open(path)?;
    io::copy(&mut file, &mut io::sink()).map_err(|cause| unreadable(path, cause))?;
    Ok(hashed.take().hash())
}

fn unreadable(path: &Path, cause: io::Error) -> Error {
    Error::local(format!("cannot read `{}`", path.display()), cause)
}

/// A file that is hashed as it is read, and, where it is JSON, held against UTF-8: the parser passes over values without that.
struct Hashing {
    file: File,
    hashed: Rc<RefCell<Hashed>>,
    is_text: bool,
    /// The beginning of a character whose end was not read yet.
    begun: Vec<u8>,
}

/// What was read so far.
#[derive(Default)]
struct Hashed {
    sha: Sha256,
    bytes: u64,
}

impl Hashed {
    fn hash(self) -> FileHash {
        FileHash { bytes: self.bytes, sha256: hex(&self.sha.finalize()) }
    }
}

impl Hashing {
    fn open(path: &Path) -> Result<(Self, Rc<RefCell<Hashed>>)> {
        let file = File::open(path).map_err(|cause| unreadable(path, cause))?;
        let hashed = Rc::<RefCell<Hashed>>::default();
        Ok((Self { file, hashed: Rc::clone(&hashed), is_text: false, begun: Vec::new() }, hashed))
    }
}

impl Hashing {
    fn require_text(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.begun.extend_from_slice(bytes);
        let valid = match std::str::from_utf8(&self.begun) {
            Ok(text) => text.len(),
            Err(cut) if cut.error_len().is_none() && !bytes.is_empty() => cut.valid_up_to(),
            Err(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")),
        };
        self.begun.drain(..valid);
        Ok(())
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        let mut hashed = self.hashed.borrow_mut();
        hashed.sha.update(&buffer[..read]);
        hashed.bytes += read as u64;
        drop(hashed);
        if self.is_text {
            self.require_text(&buffer[..read])?;
        }
        Ok(read)
    }
}

/// An array of records; answers how many there are, and the names of their fields.
struct Rows;

impl<'de> Visitor<'de> for Rows {
    type Value = (u64, Vec<String>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> std::result::Result<Self::Value, A::Error> {
        let (mut count, mut fields) = (0, Fields::default());
        while rows.next_element_seed(&mut fields)?.is_some() {
            count += 1;
        }
        Ok((count, fields.names))
    }
}

/// The names of fields that were seen so far.
#[derive(Default)]
struct Fields {
    names: Vec<String>,
    known: BTreeSet<String>,
}

impl<'de> serde::de::DeserializeSeed<'de> for &mut Fields {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, record: D) -> std::result::Result<(), D::Error> {
        record.deserialize_map(self)
    }
}

/// More fields than a table can have columns are no table's.
const FIELDS: usize = 32_768;

impl<'de> Visitor<'de> for &mut Fields {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut record: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = record.next_key::<String>()? {
            record.next_value::<IgnoredAny>()?;
            if !self.known.contains(&name) {
                if self.names.len() == FIELDS {
                    return Err(A::Error::custom("its records have more fields than a table has columns"));
                }
                self.known.insert(name.clone());
                self.names.push(name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl AsRef<[u8]>) -> std::result::Result<Counted, Unreadable> {
        let file = tempfile::NamedTempFile::new().expect("room");
        fs::write(file.path(), text).expect("room");
        rows(file.path()).expect("a file")
    }

    #[test]
    fn records_are_counted_in_any_layout() {
        let text = "\n[\n  {\"id\": 1, \"note\": \"[{\\\"id\\\"\"},\n  {\"id\": 2, \"more\": {\"id\": [1, 2]}}\n]\n";
        let counted = read(text).expect("records");
        assert_eq!((counted.rows, counted.hash.bytes), (2, text.len() as u64));
        assert_eq!(counted.fields, ["id", "note", "more"]);
        assert_eq!(counted.hash.sha256, hex(&Sha256::digest(text)));
        assert_eq!(read("[]").expect("records").rows, 0);
    }

    #[test]
    fn each_record_comes_on_one_line_as_it_is_written() {
        let file = tempfile::NamedTempFile::new().expect("room");
        let text = "[ {\n \"a b\" : \"c \\\" d\\\\\" , \"n\": 1.50 }, {\"l\": [1,\t2]}\n]";
        fs::write(file.path(), text).expect("room");
        let mut lines = Vec::new();
        each(file.path(), &mut |line| {
            lines.push(line.to_owned());
            Ok(())
        })
        .expect("records");
        assert_eq!(lines, [r#"{"a b":"c \" d\\","n":1.50}"#, r#"{"l":[1,2]}"#]);
        let stopped = each(file.path(), &mut |_| Err(Error::usage("enough"))).expect_err("stopped").to_string();
        assert_eq!(stopped, "enough");
        fs::write(file.path(), "[{}, {").expect("room");
        assert!(matches!(each(file.path(), &mut |_| Ok(())), Err(Error::Damaged { .. })));
    }

    #[test]
    fn what_is_cut_or_no_array_of_objects_is_no_records() {
        for text in
            ["", "[", "[{\"id\": 1}", "[{\"id\": 1},]", "{\"id\": 1}", "[1]", "[{}] x", "[{\"a\": \"\u{1}\"}]", "null"]
        {
            assert!(read(text).is_err(), "{text:?} was read");
        }
        assert!(read(b"[{\"a\": \"\xff\xfe\"}]").is_err());
        assert!(read(b"[{\"a\": \"\xc5\"}]").is_err());
        let long = format!("[{{\"a\": \"{}\"}}]", "ž€😀".repeat(BUFFER / 5));
        assert_eq!(read(long).expect("records").rows, 1);
    }
}
