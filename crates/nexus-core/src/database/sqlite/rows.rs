//! Rows as JSON lines: one array a table, one record a line, into a file and a hash or into the hash alone.
//!
//! Memory is a row and some buffers. A value above [`LONGEST_VALUE`] streams out of the file when it lies in a stored
//! column of a rowid table (blobs; text in UTF-8 databases); elsewhere it is refused by name.

use std::io::Read;

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, MAIN_DB, Row};

use crate::database::json;
use crate::database::sink::Sink;
use crate::error::{Error, Result};

use super::open::failed;
use super::tables::{ROWID_FIELD, Table, quoted};

/// The largest value that is held in memory.
const LONGEST_VALUE: i32 = 32 * 1024 * 1024;
/// How often the number of rows is told.
const ROWS_BETWEEN_NEWS: u64 = 8192;

/// Writes a table's rows as one JSON array and answers how many there are; `news` hears of each few thousand.
///
/// Rows come in the order of the primary key, or by rowid. The first line is `[`, then a record a line with `,` after each
/// but the last, then `]`.
pub(crate) fn write_rows(connection: &Connection, table: &Table, sink: &mut Sink, news: &dyn Fn(u64)) -> Result<u64> {
    let sql = |cause| failed(format!("cannot read the table `{}`", table.name), cause);
    // SQLite refuses longer values before it loads them.
    let before = connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE).map_err(sql)?;
    let written = Lines { connection, table, sink, news }.write();
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, before).map_err(sql)?;
    written
}

/// Rows and SHA-256 of a table, as the export writes it.
pub(crate) fn digest_table(connection: &Connection, table: &Table) -> Result<(u64, String)> {
    let mut sink = Sink::hash_only();
    let rows = write_rows(connection, table, &mut sink, &|_| {})?;
    Ok((rows, sink.finish()?.1))
}

struct Lines<'a> {
    connection: &'a Connection,
    table: &'a Table,
    sink: &'a mut Sink,
    news: &'a dyn Fn(u64),
}

impl Lines<'_> {
    fn write(mut self) -> Result<u64> {
        match self.whole_values() {
            Err(Failure::Sql(cause)) if cause.sqlite_error_code() == Some(ErrorCode::TooBig) => {
                self.sink.restart()?;
                self.long_values().map_err(|failure| self.error(failure))
            }
            other => other.map_err(|failure| self.error(failure)),
        }
    }

    fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Ours(error) => error,
            Failure::Sql(cause) if cause.sqlite_error_code() == Some(ErrorCode::TooBig) => Error::Unsupported {
                what: format!(
                    "the table `{}` has values above {} MiB that cannot be read in pieces",
                    self.table.name,
                    LONGEST_VALUE >> 20
                ),
            },
            Failure::Sql(cause) => failed(format!("cannot read the table `{}`", self.table.name), cause),
        }
    }

    /// What comes before each field of a record: `{"id":`, `,"name":`, and at the end how the record closes.
    fn frames(&self) -> Vec<Vec<u8>> {
        let rowid = self.table.shows_rowid().then_some(ROWID_FIELD);
        let names = rowid.into_iter().chain(self.table.columns.iter().map(|column| column.name.as_str()));
        let frames = names.enumerate().map(|(at, name)| {
            let mut frame = if at == 0 { vec![b'{'] } else { vec![b','] };
            json::string(&mut frame, name);
            frame.push(b':');
            frame
        });
        frames.collect()
    }

    /// The select's columns: the row's id where it is shown, then all that are not hidden.
    fn expressions(&self) -> Vec<String> {
        let rowid = self.table.rowid.filter(|_| self.table.shows_rowid()).map(|name| format!("t.{name}"));
        let columns = self.table.columns.iter().map(|column| format!("t.{}", quoted(&column.name)));
        rowid.into_iter().chain(columns).collect()
    }

    fn select(&self, expressions: &[String]) -> String {
        // A table may have no column that is not hidden; its records are empty objects.
        let list = if expressions.is_empty() { "NULL".to_owned() } else { expressions.join(", ") };
        format!("SELECT {list} FROM main.{} AS t{}", quoted(&self.table.name), self.table.ordering())
    }

    /// Which fields of a record are its key.
    fn key_fields(&self) -> Vec<bool> {
        let rowid = self.table.shows_rowid();
        let columns = self.table.columns.iter().map(|column| !rowid && self.table.order.contains(&column.name));
        rowid.then_some(true).into_iter().chain(columns).collect()
    }

    fn whole_values(&mut self) -> std::result::Result<u64, Failure> {
        let (frames, keys) = (self.frames(), self.key_fields());
        let mut statement = self.connection.prepare(&self.select(&self.expressions()))?;
        let mut rows = statement.query([])?;
        let mut count = 0;
        self.open();
        while let Some(row) = rows.next()? {
            self.next_line(&mut count)?;
            for (at, frame) in frames.iter().enumerate() {
                let to = self.sink.buffer();
                to.extend_from_slice(frame);
                let from = to.len();
                value(to, row.get_ref(at)?);
                if keys[at] {
                    self.sink.key(from);
                }
            }
            self.end_line(frames.is_empty())?;
        }
        self.close(count);
        Ok(count)
    }

    /// The same records, where values above the limit are left out of the row and streamed from where they lie.
    fn long_values(&mut self) -> std::result::Result<u64, Failure> {
        let (frames, keys) = (self.frames(), self.key_fields());
        let expressions = self.expressions();
        let shown = expressions
            .iter()
            .map(|name| format!("CASE WHEN octet_length({name}) > {LONGEST_VALUE} THEN NULL ELSE {name} END"));
        let long = expressions
            .iter()
            .map(|name| format!("CASE WHEN octet_length({name}) > {LONGEST_VALUE} THEN typeof({name}) END"));
        let rowid = match self.table.rowid {
            Some(name) => format!("t.{name}"),
            None => "NULL".to_owned(),
        };
        let all: Vec<String> = shown.chain(long).chain([rowid]).collect();
        let encoding: String = self.connection.pragma_query_value(None, "encoding", |row| row.get(0))?;
        let mut statement = self.connection.prepare(&self.select(&all))?;
        let mut rows = statement.query([])?;
        let mut count = 0;
        self.open();
        while let Some(row) = rows.next()? {
            self.next_line(&mut count)?;
            for (at, frame) in frames.iter().enumerate() {
                self.sink.buffer().extend_from_slice(frame);
                let from = self.sink.buffer().len();
                if let ValueRef::Text(kind) = row.get_ref(frames.len() + at)? {
                    if keys[at] {
                        self.sink.forget_marks();
                    }
                    self.stream(row, at, kind == b"text", &encoding)?;
                    continue;
                }
                value(self.sink.buffer(), row.get_ref(at)?);
                if keys[at] {
                    self.sink.key(from);
                }
            }
            self.end_line(frames.is_empty())?;
        }
        self.close(count);
        Ok(count)
    }

    fn stream(&mut self, row: &Row<'_>, at: usize, text: bool, encoding: &str) -> std::result::Result<(), Failure> {
        let column = &self.table.columns[at - usize::from(self.table.shows_rowid())];
        let rowid: Option<i64> = row.get(row.as_ref().column_count() - 1)?;
        let readable = !(column.generated || self.table.is_virtual || text && encoding != "UTF-8");
        let Some(rowid) = rowid.filter(|_| readable) else {
            return Err(Failure::Ours(Error::Unsupported {
                what: format!(
                    "a value in column `{}` of table `{}` is above {} MiB and cannot be read in pieces",
                    column.name,
                    self.table.name,
                    LONGEST_VALUE >> 20
                ),
            }));
        };
        let open = || self.connection.blob_open(MAIN_DB, self.table.name.as_str(), column.name.as_str(), rowid, true);
        let valid = text && is_utf8(&mut open()?).map_err(|cause| self.unreadable(cause))?;
        let opening: &[u8] = match (text, valid) {
            (true, true) => b"\"",
            (true, false) => b"{\"$text\":\"",
            (false, _) => b"{\"$blob\":\"",
        };
        self.sink.buffer().extend_from_slice(opening);
        let mut blob = open()?;
        let mut piece = vec![0; json::BASE64_PIECE];
        loop {
            let length = fill(&mut blob, &mut piece).map_err(|cause| self.unreadable(cause))?;
            if length == 0 {
                break;
            }
            if valid {
                json::escaped(self.sink.buffer(), &piece[..length]);
            } else {
                json::base64(self.sink.buffer(), &piece[..length]);
            }
            self.sink.make_room()?;
        }
        self.sink.buffer().extend_from_slice(if valid { b"\"" } else { b"\"}" });
        Ok(())
    }

    fn unreadable(&self, cause: std::io::Error) -> Failure {
        Failure::Ours(Error::local(format!("cannot read a long value of the table `{}`", self.table.name), cause))
    }

    fn open(&mut self) {
        self.sink.buffer().extend_from_slice(b"[\n");
    }

    fn next_line(&mut self, count: &mut u64) -> Result<()> {
        if *count > 0 {
            self.sink.buffer().extend_from_slice(b",\n");
        }
        *count += 1;
        if count.is_multiple_of(ROWS_BETWEEN_NEWS) {
            (self.news)(ROWS_BETWEEN_NEWS);
        }
        self.sink.make_room()?;
        self.sink.begin_record();
        Ok(())
    }

    fn end_line(&mut self, empty: bool) -> Result<()> {
        self.sink.buffer().extend_from_slice(if empty { b"{}" } else { b"}" });
        self.sink.end_record()?;
        self.sink.make_room()
    }

    fn close(&mut self, count: u64) {
        (self.news)(count % ROWS_BETWEEN_NEWS);
        self.sink.buffer().extend_from_slice(if count > 0 { b"\n]\n" } else { b"]\n" });
    }
}

/// Writes one row as a record, without the end of its line.
pub(super) fn record(to: &mut Vec<u8>, row: &Row<'_>, fields: &[String]) -> rusqlite::Result<()> {
    to.push(b'{');
    for (at, name) in fields.iter().enumerate() {
        if at > 0 {
            to.push(b',');
        }
        json::string(to, name);
        to.push(b':');
        value(to, row.get_ref(at)?);
    }
    to.push(b'}');
    Ok(())
}

enum Failure {
    Sql(rusqlite::Error),
    Ours(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(cause: rusqlite::Error) -> Self {
        Self::Sql(cause)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

fn value(to: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => to.extend_from_slice(b"null"),
        ValueRef::Integer(number) => json::integer(to, number),
        ValueRef::Real(number) => json::real(to, number),
        ValueRef::Text(bytes) => json::text(to, bytes),
        ValueRef::Blob(bytes) => json::blob(to, bytes),
    }
}

/// Reads until the buffer is full or nothing is left.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// True when all that is left to read is UTF-8.
fn is_utf8(from: &mut impl Read) -> std::io::Result<bool> {
    let mut buffer = vec![0; json::BASE64_PIECE];
    let mut kept = 0;
    loop {
        let read = fill(from, &mut buffer[kept..])?;
        let length = kept + read;
        match std::str::from_utf8(&buffer[..length]) {
            Ok(_) if read == 0 => return Ok(true),
            Ok(_) => kept = 0,
            // A character may be cut by the end of the piece; its beginning is looked at again with the next one.
            Err(cut) if cut.error_len().is_none() && read > 0 => {
                buffer.copy_within(cut.valid_up_to()..length, 0);
                kept = length - cut.valid_up_to();
            }
            Err(_) => return Ok(false),
        }
    }
}
