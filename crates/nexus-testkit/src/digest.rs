//! What a `SQLite` database says, in a form two states can be compared by.
//!
//! It reads values, not pages: two files with other page layouts but the same rows have the same digest.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use sha2::{Digest, Sha256};

/// The logical digest of the database at `path`.
///
/// - `pragma application_id`, `pragma user_version`: their values;
/// - `table NAME`, `index NAME`, `view NAME`, `trigger NAME`: the SQL that made them;
/// - `rows of NAME`: `<count>, sha256 <digest>` over the type and bytes of every column of every row,
///   whatever order the rows lie in.
///
/// Planner statistics (`sqlite_stat…`) are left out and virtual tables have no rows of their own. The
/// file is opened for reading only: a live `-wal` beside it is read and stays as it is.
pub fn database(path: &Path) -> BTreeMap<String, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .unwrap_or_else(|cause| panic!("cannot open {}: {cause}", path.display()));
    // One transaction around all of it: every table is of the same state.
    connection.execute_batch("BEGIN").expect("cannot begin");
    let mut digest = read(&connection).unwrap_or_else(|cause| panic!("cannot digest {}: {cause}", path.display()));
    for name in ["application_id", "user_version"] {
        let value: i64 =
            connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).expect("these pragmas always answer");
        digest.insert(format!("pragma {name}"), value.to_string());
    }
    digest
}

fn read(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut schema = connection.prepare(
        "SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\'",
    )?;
    let entries = schema.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let entries = entries.collect::<rusqlite::Result<Vec<(String, String, String)>>>()?;
    let mut digest = BTreeMap::new();
    for (kind, name, sql) in entries {
        if kind == "table" && !sql.to_uppercase().starts_with("CREATE VIRTUAL") {
            digest.insert(format!("rows of {name}"), rows(connection, &name)?);
        }
        digest.insert(format!("{kind} {name}"), sql);
    }
    Ok(digest)
}

fn rows(connection: &Connection, table: &str) -> rusqlite::Result<String> {
    let quoted = table.replace('"', "\"\"");
    let mut statement = connection.prepare(&format!("SELECT * FROM \"{quoted}\""))?;
    let columns = statement.column_count();
    let mut found = statement.query([])?;
    let mut hashes = Vec::new();
    while let Some(row) = found.next()? {
        hashes.push(row_hash(row, columns)?);
    }
    hashes.sort_unstable();
    Ok(format!("{}, sha256 {}", hashes.len(), hex(&Sha256::digest(hashes.concat()))))
}

/// Each value goes in with its type and length, so that no two rows read alike by accident.
fn row_hash(row: &Row<'_>, columns: usize) -> rusqlite::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    for column in 0..columns {
        let (kind, bytes): (&[u8], &[u8]) = match row.get_ref(column)? {
            ValueRef::Null => (b"null", &[]),
            ValueRef::Integer(value) => (b"integer", &value.to_be_bytes()),
            ValueRef::Real(value) => (b"real", &value.to_bits().to_be_bytes()),
            ValueRef::Text(value) => (b"text", value),
            ValueRef::Blob(value) => (b"blob", value),
        };
        hash.update(kind);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }
    Ok(hash.finalize().into())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes any text");
        text
    })
}
