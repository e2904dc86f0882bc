//! A record file read from end to end, each record parsed and thrown away.

use std::path::Path;

use crate::database::digest::RowsDigest;
use crate::database::source::RecordFile;
use crate::database::sqlite::ROWID_FIELD;
use crate::error::Result;
use crate::point::RecordTable;

/// Parses every record; answers how many there are, and their digest whatever their order.
///
/// # Errors
///
/// [`crate::error::Error::Damaged`] when the file is cut or a line of it is no record of the table.
pub(crate) fn parsed(path: &Path, table: &RecordTable) -> Result<RowsDigest> {
    let mut file = RecordFile::open(path, table, ROWID_FIELD)?;
    while file.advance()? {
        file.fields()?;
    }
    Ok(file.digest())
}
