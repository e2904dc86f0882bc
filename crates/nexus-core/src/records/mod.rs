//! The app's records: every row as JSON, one array a table, one record a line.

pub mod export;
pub mod folders;
pub(crate) mod index;
pub(crate) mod names;
pub mod now;
pub(crate) mod old;
pub(crate) mod read;

use crate::database::sqlite::ROWID_FIELD;
use crate::point::RecordTable;

/// The names of a record's fields, in their order.
pub(crate) fn fields(table: &RecordTable) -> Vec<String> {
    let rowid = table.rowid.then(|| ROWID_FIELD.to_owned());
    rowid.into_iter().chain(table.columns.iter().map(|column| column.name.clone())).collect()
}

/// Which fields of a record are its key, by their places in it, in the order of the fields; none when nothing tells
/// records apart.
pub(crate) fn key_places(table: &RecordTable) -> Vec<usize> {
    if table.rowid {
        return vec![0];
    }
    (0..table.columns.len()).filter(|at| table.order.contains(&table.columns[*at].name)).collect()
}
