//! Rows of a PostgreSQL table as JSON lines, from the text output of each column.
//!
//! The server writes every value by its type's own output function under fixed settings, which its input function reads
//! back exactly. What JSON carries exactly is JSON; every other value is that text as a string.

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;

use super::catalogue::{Column, Layout, Relation, Shape};
use super::connect::Session;
use crate::database::json;
use crate::database::sink::Sink;
use crate::error::{DatabaseWords, Error, Result};

/// How often the number of rows is told.
const ROWS_BETWEEN_NEWS: u64 = 8192;
/// The longest text of a value that a record may have.
const LONGEST_VALUE: u64 = 256 * 1024 * 1024;
/// With so much beside its rows a table is read while no other such one is: each may have values that take much memory.
pub(crate) const MUCH_BESIDE: u64 = 16 * 1024 * 1024;
/// Integers of so many digits are below 2^53.
const SURELY_EXACT: usize = 15;
/// The largest integer that every JSON reader keeps exact.
const LARGEST_EXACT: u64 = 1 << 53;

/// The encoding in which rows are read: a database without one, or with one that has no way to UTF-8, gives its bytes as
/// they are.
pub(crate) fn client_encoding(encoding: &str) -> &str {
    if matches!(encoding, "SQL_ASCII" | "MULE_INTERNAL") { encoding } else { "UTF8" }
}

/// What a session must do before it writes rows.
pub(crate) async fn prepare(session: &Session, encoding: &str) -> Result<()> {
    session.run(&format!("set client_encoding={}", client_encoding(encoding)), "set up a session").await?;
    session.follow_path(None).await
}

/// Refuses a table with a value that is too long for a record, by the name of its column.
///
/// The server and its protocol give a row whole, several times over on its way. Only tables that have so much beside their
/// rows are looked at; the length of a text or of bytes is known without reading them.
pub(crate) async fn require_short_values(session: &Session, relation: &Relation, layout: &Layout) -> Result<()> {
    if relation.beside_rows < MUCH_BESIDE {
        return Ok(());
    }
    let length = |column: &Column| match column.declared.as_str() {
        "bytea" => format!("2 * octet_length(t.{})", column.quoted),
        "text" | "json" => format!("octet_length(t.{}::text)", column.quoted),
        declared if declared.starts_with("character varying") => format!("octet_length(t.{})", column.quoted),
        _ => format!("pg_column_size(t.{})", column.quoted),
    };
    let columns: Vec<String> =
        layout.columns.iter().map(|column| format!("max(({})::bigint)", length(column))).collect();
    let sql = format!("select {} from {}", columns.join(", "), relation.source());
    let longest = session.rows(&sql, &format!("look how long the values of {} are", relation.name)).await?;
    let Some(longest) = longest.first() else { return Ok(()) };
    for (at, column) in layout.columns.iter().enumerate() {
        let bytes: u64 = longest.number(at);
        if bytes > LONGEST_VALUE {
            return Err(Error::Unsupported {
                what: format!(
                    "the column `{}` of the table `{}` has a value of {} MiB as text, and a record's may have {}: back up \
                     without records, which are a second form of what the dump has",
                    column.name,
                    relation.name,
                    bytes >> 20,
                    LONGEST_VALUE >> 20
                ),
            });
        }
    }
    Ok(())
}

/// Writes a table's rows as one JSON array and answers how many there are; `news` hears of each few thousand.
///
/// They come in the order of the primary key, else as the server finds them. The first line is `[`, then a record a line
/// with `,` after each but the last, then `]`.
pub(crate) async fn write_rows(
    session: &Session,
    relation: &Relation,
    layout: &Layout,
    sink: &mut Sink,
    news: &(dyn Fn(u64) + Sync),
) -> Result<u64> {
    let what = format!("read the table {}", relation.name);
    let mut lines = Lines::new(layout, sink);
    let stream =
        session.client().copy_out(&query(relation, layout)).await.map_err(|cause| session.failed(&what, &cause))?;
    let mut stream = std::pin::pin!(stream);
    let mut rest = BytesMut::new();
    let mut told = 0;
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|cause| session.failed(&what, &cause))?;
        lines.take(&mut rest, piece)?;
        if lines.rows - told >= ROWS_BETWEEN_NEWS {
            news(lines.rows - told);
            told = lines.rows;
        }
    }
    if !rest.is_empty() {
        return Err(Error::Unreachable {
            what: format!("cannot {what} in {}", session.place()),
            cause: Some(DatabaseWords("the server's answer ended within a row".into()).into()),
        });
    }
    news(lines.rows - told);
    lines.finish()
}

/// The columns come by name, in their order; without any, each row is an empty line.
fn query(relation: &Relation, layout: &Layout) -> String {
    let name = |column: &usize| format!("t.{}", layout.columns[*column].quoted);
    let columns: Vec<String> = (0..layout.columns.len()).map(|at| name(&at)).collect();
    let key: Vec<String> = layout.key.iter().map(name).collect();
    let order = if key.is_empty() { String::new() } else { format!(" order by {}", key.join(", ")) };
    format!("copy (select {} from {}{order}) to stdout", columns.join(", "), relation.source())
}

/// Lines of the server's text format into records
/// (<https://www.postgresql.org/docs/current/sql-copy.html>, "Text Format").
struct Lines<'a> {
    layout: &'a Layout,
    frames: Vec<Vec<u8>>,
    /// Which columns are the key.
    keys: Vec<bool>,
    sink: &'a mut Sink,
    scratch: Vec<u8>,
    rows: u64,
}

impl<'a> Lines<'a> {
    fn new(layout: &'a Layout, sink: &'a mut Sink) -> Self {
        let frames = layout.columns.iter().enumerate().map(|(at, column)| {
            let mut frame = if at == 0 { vec![b'{'] } else { vec![b','] };
            json::string(&mut frame, &column.name);
            frame.push(b':');
            frame
        });
        let frames = frames.collect();
        let keys = (0..layout.columns.len()).map(|at| layout.key.contains(&at)).collect();
        sink.buffer().extend_from_slice(b"[\n");
        Self { layout, frames, keys, sink, scratch: Vec::new(), rows: 0 }
    }

    /// Takes what came; a row that is not whole yet waits in `rest`.
    fn take(&mut self, rest: &mut BytesMut, mut piece: Bytes) -> Result<()> {
        if !rest.is_empty() {
            rest.extend_from_slice(&piece);
            piece = rest.split().freeze();
        }
        while let Some(end) = memchr::memchr(b'\n', &piece) {
            self.row(&piece[..end])?;
            piece.advance(end + 1);
        }
        rest.extend_from_slice(&piece);
        Ok(())
    }

    fn row(&mut self, line: &[u8]) -> Result<()> {
        let Self { layout, frames, keys, sink, scratch, rows } = self;
        if *rows > 0 {
            sink.buffer().extend_from_slice(b",\n");
        }
        sink.begin_record();
        let mut rest = Some(line);
        for ((frame, column), is_key) in frames.iter().zip(&layout.columns).zip(keys) {
            let Some(line) = rest else {
                return Err(Error::damaged("the server's answer lacks a column"));
            };
            let field;
            (field, rest) = match memchr::memchr(b'\t', line) {
                Some(at) => (&line[..at], Some(&line[at + 1..])),
                None => (line, None),
            };
            let to = sink.buffer();
            to.extend_from_slice(frame);
            let from = to.len();
            value(to, scratch, field, column.shape);
            if *is_key {
                sink.key(from);
            }
        }
        sink.buffer().extend_from_slice(if frames.is_empty() { b"{}" } else { b"}" });
        sink.end_record()?;
        *rows += 1;
        sink.make_room()
    }

    fn finish(self) -> Result<u64> {
        self.sink.buffer().extend_from_slice(if self.rows > 0 { b"\n]\n" } else { b"]\n" });
        self.sink.make_room()?;
        Ok(self.rows)
    }
}

fn value(to: &mut Vec<u8>, scratch: &mut Vec<u8>, field: &[u8], shape: Shape) {
    if field == b"\\N" {
        return to.extend_from_slice(b"null");
    }
    match shape {
        Shape::Boolean => to.extend_from_slice(if field == b"t" { b"true" } else { b"false" }),
        Shape::Integer if is_exact(field) => to.extend_from_slice(field),
        Shape::Real if is_finite(field) => to.extend_from_slice(field),
        Shape::Integer | Shape::Real => text(to, field),
        Shape::Text if memchr::memchr(b'\\', field).is_none() => text(to, field),
        Shape::Text => {
            scratch.clear();
            unescape(field, scratch);
            text(to, scratch);
        }
    }
}

/// Writes a value that the server gave as plain text, as a record has it.
pub(crate) fn plain(to: &mut Vec<u8>, field: Option<&str>, shape: Shape) {
    match (field, shape) {
        (None, _) => to.extend_from_slice(b"null"),
        (Some(field), Shape::Text) => text(to, field.as_bytes()),
        // None of these has anything to undo.
        (Some(field), _) => value(to, &mut Vec::new(), field.as_bytes(), shape),
    }
}

fn text(to: &mut Vec<u8>, bytes: &[u8]) {
    json::text(to, bytes);
}

fn is_exact(field: &[u8]) -> bool {
    let digits = field.strip_prefix(b"-").unwrap_or(field);
    digits.len() <= SURELY_EXACT
        || std::str::from_utf8(digits)
            .ok()
            .and_then(|text| text.parse().ok())
            .is_some_and(|number: u64| number <= LARGEST_EXACT)
}

/// Numbers begin with a digit; `NaN`, `Infinity` and `-Infinity` do not.
fn is_finite(field: &[u8]) -> bool {
    field.strip_prefix(b"-").unwrap_or(field).first().is_some_and(u8::is_ascii_digit)
}

/// Undoes the text format's escapes.
pub(crate) fn unescape(field: &[u8], to: &mut Vec<u8>) {
    let mut rest = field;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        to.extend_from_slice(&rest[..at]);
        let escaped = rest.get(at + 1).copied();
        to.extend(escaped.map(|letter| match letter {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            other => other,
        }));
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    to.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(shapes: &[Shape]) -> Layout {
        let column = |(at, shape): (usize, &Shape)| Column {
            name: format!("c{at}"),
            quoted: format!("c{at}"),
            declared: String::new(),
            shape: *shape,
            generated: false,
            equals: None,
        };
        Layout { columns: shapes.iter().enumerate().map(column).collect(), ..Layout::default() }
    }

    fn written(shapes: &[Shape], text: &[u8], piece: usize) -> String {
        let layout = layout(shapes);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows");
        let mut sink = Sink::file(std::fs::File::create(&path).expect("a file"), &path);
        let mut lines = Lines::new(&layout, &mut sink);
        let mut rest = BytesMut::new();
        for piece in text.chunks(piece) {
            lines.take(&mut rest, Bytes::copy_from_slice(piece)).expect("rows");
        }
        assert!(rest.is_empty());
        lines.finish().expect("room");
        sink.finish().expect("room");
        std::fs::read_to_string(path).expect("text")
    }

    #[test]
    fn what_json_carries_exactly_is_json_and_the_rest_is_text() {
        let shapes = [Shape::Boolean, Shape::Integer, Shape::Real, Shape::Text];
        let text =
            b"t\t9007199254740992\t1e+20\ta\\tb\\\\N\\n\"\nf\t-9007199254740993\t-Infinity\t\\N\n\\N\t\\N\tNaN\t\n";
        let expected = "[\n{\"c0\":true,\"c1\":9007199254740992,\"c2\":1e+20,\"c3\":\"a\\tb\\\\N\\n\\\"\"},\n\
                        {\"c0\":false,\"c1\":\"-9007199254740993\",\"c2\":\"-Infinity\",\"c3\":null},\n\
                        {\"c0\":null,\"c1\":null,\"c2\":\"NaN\",\"c3\":\"\"}\n]\n";
        for piece in [1, 7, 1000] {
            assert_eq!(written(&shapes, text, piece), expected);
        }
        serde_json::from_str::<serde_json::Value>(expected).expect("JSON");
    }

    #[test]
    fn tables_without_rows_or_without_columns_are_arrays_too() {
        assert_eq!(written(&[Shape::Text], b"", 1), "[\n]\n");
        assert_eq!(written(&[], b"\n\n", 1), "[\n{},\n{}\n]\n");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_tagged() {
        assert_eq!(written(&[Shape::Text], b"\xff\n", 5), "[\n{\"c0\":{\"$text\":\"/w==\"}}\n]\n");
    }
}
