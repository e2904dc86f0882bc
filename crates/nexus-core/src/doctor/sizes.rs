//! How much comes from the database: by the newest point, by trying it, or by rule of thumb.

use futures::StreamExt;

use super::DoctorPlan;
use super::estimate::Basis;
use crate::bucket::upload;
use crate::clock::Clock;
use crate::database::Database;
use crate::database::postgres::Wanted;
use crate::database::sqlite::Condition;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::local::{Scratch, blocking};
use crate::point::{Manifest, Part, RecordTable};
use crate::records::export::Export;
use crate::records::index::{ENTRY, READ_WHOLE};
use crate::records::now::export_now;
use crate::vault::Vault;

/// Databases up to this many bytes are dumped and exported for the estimate, and nothing of it is kept.
const TRIED: u64 = 256 * 1024 * 1024;
/// Bytes of records for a hundred of a database, where nothing better is known.
const RECORDS: u64 = 140;
/// Bytes of a dump for a hundred of a database, where nothing better is known.
const DUMP: u64 = 30;
/// Tables of a database, where nothing better is known.
const TABLES: u64 = 50;

/// Bytes of what comes from the database.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sizes {
    pub(super) copy: u64,
    pub(super) records: u64,
    pub(super) tables: u64,
    /// Indexes beside their records.
    pub(super) indexes: u64,
    /// Requests that store the tables' records and indexes, without their summary.
    pub(super) record_puts: u64,
    /// The bytes of a private copy beside it.
    pub(super) scratch: u64,
    pub(super) basis: Option<Basis>,
}

/// The newest point that has a database and records: its sizes are the best guess.
pub(super) async fn newest(vault: &Vault) -> Result<Option<Manifest>> {
    for id in vault.ids().await?.into_iter().rev().filter(|id| !id.label().is_aside()) {
        let state = vault.state(id).await?;
        let manifest = state.as_ref().and_then(|state| state.manifest());
        if let Some(manifest) =
            manifest.filter(|manifest| manifest.has(Part::Database) && manifest.own_records().is_some())
        {
            return Ok(Some(manifest.clone()));
        }
    }
    Ok(None)
}

/// Finds them out.
pub(super) async fn sizes(
    plan: &DoctorPlan,
    newest: Option<&Manifest>,
    scratch: &Scratch,
    clock: &Clock,
    events: &Events,
) -> Result<Sizes> {
    let Some(database) = &plan.backup.database else { return Ok(Sizes::default()) };
    let live = live_bytes(plan, database).await?;
    let file = matches!(database, Database::Sqlite(_));
    let mut sizes = Sizes { scratch: if file { live } else { 0 }, ..Sizes::default() };
    let source = database.location();
    let last = newest.and_then(|manifest| {
        let (part, records) = (manifest.parts.database.as_ref()?, manifest.own_records()?);
        let then = match &part.kind {
            crate::point::DatabaseKind::Postgres { postgres } => postgres.size,
            crate::point::DatabaseKind::Sqlite { .. } => part.object.bytes,
        };
        (part.source == source && then > 0).then_some((part, records, then))
    });
    if let Some((part, records, then)) = last {
        let grown = |bytes: u64| scaled(bytes, live, then);
        let summary = records.summary.as_ref().map_or(0, |summary| summary.bytes);
        let bytes = records.tables.iter().map(RecordTable::stored_bytes).sum::<u64>() + summary;
        sizes.copy = if file { live } else { grown(part.object.bytes) };
        sizes.records = grown(bytes);
        sizes.tables = records.tables.len() as u64;
        (sizes.indexes, sizes.record_puts) = puts(&records.tables, &grown);
        sizes.basis = Some(Basis::LastPoint);
    } else if live <= TRIED {
        try_out(plan, database, &mut sizes, live, scratch, (clock, events)).await?;
    } else {
        sizes.copy = if file { live } else { scaled(live, DUMP, 100) };
        sizes.records = scaled(live, RECORDS, 100);
        sizes.tables = TABLES;
        sizes.record_puts = sizes.tables * upload::requests(sizes.records / sizes.tables);
        sizes.basis = Some(Basis::Rough);
    }
    if !plan.backup.parts.contains(&Part::Records) {
        (sizes.records, sizes.tables, sizes.indexes, sizes.record_puts) = (0, 0, 0, 0);
    }
    if !plan.backup.parts.contains(&Part::Database) {
        sizes.copy = 0;
    }
    Ok(sizes)
}

/// How many indexes tables have, each of them grown, and the requests that store their records and indexes.
fn puts(tables: &[RecordTable], grown: &dyn Fn(u64) -> u64) -> (u64, u64) {
    let (mut indexes, mut requests) = (0, 0);
    for table in tables {
        requests += upload::requests(grown(table.bytes));
        if (table.rowid || !table.order.is_empty()) && grown(table.bytes) > READ_WHOLE {
            indexes += 1;
            // A point that was made before there were indexes has none to go by.
            let bytes = table.index.as_ref().map_or(table.rows * ENTRY, |index| index.bytes);
            requests += upload::requests(grown(bytes));
        }
    }
    (indexes, requests)
}

/// `bytes` times `now` over `then`, without running over.
fn scaled(bytes: u64, now: u64, then: u64) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(now) / u128::from(then.max(1))).unwrap_or(u64::MAX)
}

async fn live_bytes(plan: &DoctorPlan, database: &Database) -> Result<u64> {
    match database.clone() {
        Database::Sqlite(file) => {
            let wait = plan.backup.lock_wait;
            match blocking(move || file.condition(wait)).await? {
                Condition::Healthy { bytes, .. } => Ok(bytes),
                _ => Err(Error::missing(format!("{} holds no database to estimate", database.location()))),
            }
        }
        Database::Postgres(server) => server.look().await.map(|(_, _, bytes)| bytes),
    }
}

/// Makes what would be stored, counts it, and throws it away.
async fn try_out(
    plan: &DoctorPlan,
    database: &Database,
    sizes: &mut Sizes,
    live: u64,
    scratch: &Scratch,
    (clock, events): (&Clock, &Events),
) -> Result<()> {
    sizes.basis = Some(Basis::Tried);
    sizes.copy = match database {
        Database::Sqlite(_) => live,
        Database::Postgres(server) if plan.backup.parts.contains(&Part::Database) => {
            let wanted = Wanted { dump: true, readers: 0, lock_wait: plan.backup.lock_wait };
            let mut instant = server.instant(wanted, &|| clock.now(), scratch, &Events::none()).await?;
            let mut dump = instant.take_dump(server, events).ok_or_else(|| Error::damaged("no dump was begun"))?;
            let mut bytes = 0;
            while let Some(chunk) = dump.next().await {
                bytes += chunk?.len() as u64;
            }
            bytes
        }
        Database::Postgres(_) => 0,
    };
    if !plan.backup.parts.contains(&Part::Records) {
        return Ok(());
    }
    let folder = scratch.file("estimate-records");
    let export = Export {
        folder: folder.clone(),
        names: plan.backup.records.as_ref().map(|records| records.names.clone()).unwrap_or_default(),
        app: plan.app.clone(),
        point: "estimate_20000101_000000".parse()?,
        instant: clock.now(),
    };
    let wait = plan.backup.lock_wait;
    let exported = export_now(database, export, wait, scratch, (clock, &Events::none())).await?;
    sizes.records = exported.tables.iter().map(RecordTable::stored_bytes).sum::<u64>() + exported.summary.bytes;
    sizes.tables = exported.tables.len() as u64;
    (sizes.indexes, sizes.record_puts) = puts(&exported.tables, &|bytes| bytes);
    std::fs::remove_dir_all(&folder)
        .map_err(|cause| Error::local(format!("cannot remove `{}`", folder.display()), cause))
}
