//! The app's records: every row as JSON, one array a table, one record a line.

pub mod export;
pub mod folders;
pub(crate) mod names;
pub mod now;
pub(crate) mod old;
pub(crate) mod read;
