//! The records of a database as they are now, in a private folder: what a point's records, or a later look, are held against.

use std::time::Duration;

use crate::clock::Clock;
use crate::database::Database;
use crate::database::postgres::Wanted;
use crate::error::Result;
use crate::event::Events;
use crate::local::{Scratch, blocking};

use super::export::{Export, RecordsExport};

/// Tables of a server whose rows are read at once.
const READERS: usize = 4;

/// Writes every table of a database, all of one instant, into the folder of `export`; its `instant` is set to that moment.
///
/// A SQLite file is copied privately first; the copy lies in `scratch` and goes away again.
///
/// # Errors
///
/// As for [`Export::of_sqlite`] and [`Export::of_postgres`], and what holding the database fails with: locks that were not
/// to be had within `lock_wait` are [`crate::error::Error::Busy`].
pub async fn export_now(
    database: &Database,
    mut export: Export,
    lock_wait: Duration,
    scratch: &Scratch,
    (clock, events): (&Clock, &Events),
) -> Result<RecordsExport> {
    match database.clone() {
        Database::Sqlite(file) => {
            export.instant = clock.now();
            let copy = scratch.file(&format!("now-{}.db", clock.nonce()));
            let events = events.clone();
            blocking(move || {
                file.copy(&copy, lock_wait, &events)?;
                let exported = export.of_sqlite(&copy, &events);
                let removed = std::fs::remove_file(&copy);
                let exported = exported?;
                removed.map_err(|cause| {
                    crate::error::Error::local(format!("cannot remove `{}`", copy.display()), cause)
                })?;
                Ok(exported)
            })
            .await
        }
        Database::Postgres(server) => {
            let wanted = Wanted { dump: false, readers: READERS, lock_wait };
            let mut instant = server.instant(wanted, &|| clock.now(), scratch, events).await?;
            export.instant = instant.moment();
            let readers = instant.take_readers();
            export.of_postgres(&instant, readers, events).await
        }
    }
}
