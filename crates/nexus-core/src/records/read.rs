//! A record file read from end to end, each record parsed and thrown away, and the index that it must have reckoned anew.

use std::path::Path;

use super::index;
use crate::database::digest::RowsDigest;
use crate::database::marks::Marks;
use crate::database::source::RecordFile;
use crate::database::sqlite::ROWID_FIELD;
use crate::error::Result;
use crate::point::{FileHash, RecordTable};

/// What a record file holds.
pub(crate) struct Parsed {
    /// How many records there are, and their digest whatever their order.
    pub(crate) rows: RowsDigest,
    /// The index that belongs to them, where the table has one.
    pub(crate) index: Option<FileHash>,
}

/// Parses every record.
///
/// # Errors
///
/// [`crate::error::Error::Damaged`] when the file is cut or a line of it is no record of the table.
pub(crate) fn parsed(path: &Path, table: &RecordTable) -> Result<Parsed> {
    let mut file = RecordFile::open(path, table, ROWID_FIELD)?;
    let keys = super::key_places(table);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut marks = table.index.is_some().then(|| Marks::new(folder));
    let mut first = true;
    while file.advance()? {
        let values = file.fields().and_then(|_| file.values())?;
        let Some(marks) = &mut marks else { continue };
        if !std::mem::take(&mut first) {
            marks.take(b",\n");
        }
        if marks.begins_block(file.start()) {
            marks.begin_block(file.start());
        }
        marks.take(file.line());
        for place in &keys {
            marks.key(values[*place].as_bytes());
        }
        marks.end_record()?;
    }
    if let Some(marks) = &mut marks {
        marks.take(b"\n]\n");
    }
    let index = marks.map(|marks| index::hash(marks, &table.sha256)).transpose()?;
    Ok(Parsed { rows: file.digest(), index })
}
