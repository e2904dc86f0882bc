//! A PostgreSQL database: held at one moment for a dump, records and counts, and put back as a new database beside the old.
//!
//! Dumps are made and read by PostgreSQL's own `pg_dump` and `pg_restore`; everything around them is ours: the moment, the
//! locks, the way into the vault, the checks, the swap.

mod archive;
mod beside;
pub(crate) mod catalogue;
pub(crate) mod connect;
mod contents;
mod copy_text;
mod dress;
mod dump;
mod few;
mod group;
mod instant;
mod invariant;
mod load;
mod look;
mod merge;
mod place;
mod press;
mod relations;
mod requirements;
mod restore;
pub(crate) mod rows;
pub(crate) mod scratch;
mod script;
mod sleepers;
mod statements;
mod swap;
mod tls;
mod toc;
mod tools;
mod within;
mod words;

pub use instant::{PostgresInstant, Reader, Reading, Wanted};
pub use load::PostgresLoad;
pub use look::{PostgresLook, Unreadable};
pub use place::{Password, PostgresDatabase, SslMode, Surroundings};
pub use restore::{Liberties, Place, PostgresPlan, PostgresPrepared, PostgresRestored, Sessions};
