//! What the next backup takes: requests, bytes, seconds, money.
//!
//! Requests are counted as `backup` makes them: a change there is a change here, and a test holds the two together.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::sizes::{Sizes, newest, sizes};
use super::{DoctorPlan, Prices};
use crate::backup::earlier;
use crate::bucket::inventory::Inventory;
use crate::bucket::upload;
use crate::clock::Clock;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::files::base::Base;
use crate::files::foresee::{Expected, Foreseen, foresee};
use crate::local::Scratch;
use crate::point::Copies;
use crate::point::Part;
use crate::vault::{RecoveryPoint, Vault};

/// Bytes a second between this machine and a service, where nothing better is known.
const RATE: u64 = 50 * 1024 * 1024;
/// Bytes a second onto a disk of this machine.
const DISK: u64 = 100 * 1024 * 1024;
/// Bytes of the documents of a point, and for each table.
const DOCUMENTS: u64 = 4_000;
const DOCUMENT_TABLE: u64 = 600;
/// How often the base's documents are read, and bytes of its claim and of an entry of its journal.
const LOOKS_AT_BASE: u64 = 2;
const CLAIM: u64 = 300;
const ENTRY: u64 = 700;

/// What the next backup takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Requests of a service.
    pub requests: Requests,
    /// Bytes.
    pub bytes: Bytes,
    /// Files that would be copied, and all.
    pub files_to_copy: u64,
    /// All files.
    pub files: u64,
    /// How long it takes, roughly.
    pub seconds: f64,
    /// What it costs; none where nothing is asked of a service.
    pub cost: Option<Cost>,
    /// Where the sizes of database and records come from; none where neither is taken.
    pub basis: Option<Basis>,
    /// Bytes that scratch needs meanwhile.
    pub scratch_bytes: u64,
    /// Bytes that the folder of records needs.
    pub records_bytes: u64,
}

/// Requests by what they are billed as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// PUT, COPY, POST and LIST.
    pub puts: u64,
    /// GET, HEAD and all others.
    pub gets: u64,
}

/// Bytes by where they go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// From this machine into the vault.
    pub sent: u64,
    /// From service to this machine: what is read to prove the point, and files that go through here.
    pub received: u64,
    /// Copied by the service itself.
    pub copied: u64,
    /// What the vault holds more afterwards.
    pub stored: u64,
}

/// Money.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// The currency.
    pub currency: String,
    /// The requests, and what the database's class asks for reading its copy, once.
    pub requests: f64,
    /// What is stored more, a month.
    pub month: f64,
    /// What is received, once, if this machine is outside the service's region.
    pub received: f64,
    /// Whose prices, and of when.
    pub prices: String,
}

/// Where the sizes of database and records come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The newest point, in proportion to the size of its database.
    LastPoint,
    /// They were made for the estimate, and not kept.
    Tried,
    /// A rule of thumb.
    Rough,
}

/// Estimates the backup of the plan, from an inventory of the files where one was read.
pub(super) async fn estimate(
    plan: &DoctorPlan,
    prices: &Prices,
    (scratch, inventory): (&Scratch, Option<Inventory>),
    clock: &Clock,
    events: &Events,
) -> Result<Estimate> {
    let begun = (Instant::now(), plan.vault.requests());
    let vault = opened(plan, scratch).await?;
    let base = match &vault {
        Some(vault) => earlier::look_for(vault, &plan.backup, clock.now()).await?.base,
        None => None,
    };
    let base = match base {
        Some(base) => Some(Base::read(base, scratch).await?),
        None => None,
    };
    let newest = match &vault {
        Some(vault) => newest(vault).await?,
        None => None,
    };
    let sizes = sizes(plan, newest.as_ref(), scratch, clock, events).await?;
    let foreseen = match plan.backup.files.as_ref().filter(|_| plan.backup.parts.contains(&Part::Files)) {
        Some(files) => {
            let expected = match inventory {
                Some(inventory) => Expected::of_inventory(inventory),
                None => Expected::now(files, base.as_ref(), scratch, events).await?,
            };
            Some(foresee(files, base.as_ref(), (&plan.vault, plan.address.prefix()), expected, scratch).await?)
        }
        None => None,
    };
    let asked = plan.vault.requests() - begun.1;
    let latency = begun.0.elapsed() / u32::try_from(asked).unwrap_or(u32::MAX).max(1);
    let kept = foreseen.unwrap_or_default();
    let base = base.map(|base| base.point);
    let requests = requests(plan, vault.is_some(), base.as_ref(), &sizes, &kept);
    let bytes = bytes(plan, base.as_ref(), &sizes, &kept);
    Ok(Estimate {
        requests,
        bytes,
        files_to_copy: kept.to_copy.files,
        files: kept.total.files,
        seconds: seconds(plan, &requests, &bytes, &kept, latency),
        cost: (!plan.vault.is_folder()).then(|| cost(plan, prices, &requests, &bytes, (&sizes, &kept))),
        basis: sizes.basis,
        scratch_bytes: sizes.scratch + 3 * kept.listing_bytes + scratch_of_records(plan, &sizes),
        records_bytes: sizes.records,
    })
}

fn scratch_of_records(plan: &DoctorPlan, sizes: &Sizes) -> u64 {
    let elsewhere = plan.backup.records.as_ref().is_some_and(|records| records.folder.is_some());
    if elsewhere { 0 } else { sizes.records }
}

async fn opened(plan: &DoctorPlan, scratch: &Scratch) -> Result<Option<Vault>> {
    if plan.vault.is_folder() && !plan.vault.is_made() {
        return Ok(None);
    }
    let folder = scratch.path().to_path_buf();
    match Vault::open(&plan.vault, &plan.address, Some(&plan.app), plan.rules.clone(), folder).await {
        Ok(vault) => Ok(Some(vault)),
        Err(Error::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Requests of a backup, in the order in which it makes them.
fn requests(plan: &DoctorPlan, made: bool, base: Option<&RecoveryPoint>, sizes: &Sizes, files: &Foreseen) -> Requests {
    let (mut lists, mut puts, mut gets) = (0, 0, 0);
    let has = |part: Part| plan.backup.parts.contains(&part);
    let in_vault = !plan.vault.is_folder();
    let in_source = plan.backup.files.as_ref().is_some_and(|files| has(Part::Files) && !files.source.is_folder());
    // The clock is asked for.
    lists += u64::from(in_vault || in_source);
    if in_vault {
        // The vault is opened, or made: looked at once more, and its descriptor written.
        gets += 1;
        (lists, puts) = if made { (lists, puts) } else { (lists + 1, puts + 1) };
        // The base is looked for.
        let incremental =
            plan.backup.files.as_ref().is_some_and(|files| has(Part::Files) && files.copies == Copies::Incremental);
        lists += u64::from(incremental);
        if let Some(base) = base {
            let entries = base.entries().read.len() as u64;
            // When it is found, and when the claim names it: claim, manifest, journal each time.
            lists += LOOKS_AT_BASE;
            gets += LOOKS_AT_BASE * (2 + entries);
            // Its listing.
            gets += 1;
        }
        // Uploads of killed runs; a free second, looked at before and after the claim.
        gets += 1;
        lists += 5;
        puts += 1;
        // Listing and script, stored and read again.
        if has(Part::Files) {
            puts += upload::requests(files.listing_bytes) + 1;
            gets += 2;
        }
        if has(Part::Database) {
            puts += upload::requests(sizes.copy);
            gets += 1;
            if matches!(plan.backup.database, Some(Database::Postgres(_))) {
                puts += 1;
                gets += 1;
            }
        }
        if has(Part::Records) && plan.backup.records.as_ref().is_some_and(|records| records.in_vault) {
            puts += sizes.record_puts + 1;
            gets += sizes.tables + sizes.indexes + 1;
        }
        // The commit, read back; the journal before and after the proof; the claim, looked at by the proof.
        puts += 2;
        gets += 3;
        // Whether the service holds to conditions is found out with the first document.
        let to_find_out = u64::from(plan.vault.endpoint().is_some());
        (puts, gets) = (puts + to_find_out, gets + to_find_out);
        lists += 2;
        lists += files.compare_requests;
        puts += files.copy_requests;
    }
    if in_source {
        // It is there, and then all of it.
        lists += 1 + files.listing_requests;
        // Whether it keeps versions is asked where there is an instant that the files could be of.
        let instant = plan.backup.database.is_some() && (has(Part::Database) || has(Part::Records));
        let of_versions = plan.backup.files.as_ref().is_some_and(|files| files.copies == Copies::Versions);
        // For points without copies also whether they would last.
        gets += u64::from(instant || of_versions) + 2 * u64::from(of_versions);
        gets += files.look_requests;
    }
    Requests { puts: puts + lists, gets }
}

fn bytes(plan: &DoctorPlan, base: Option<&RecoveryPoint>, sizes: &Sizes, files: &Foreseen) -> Bytes {
    let has = |part: Part| plan.backup.parts.contains(&part);
    let records = plan.backup.records.as_ref().filter(|_| has(Part::Records));
    let in_vault = records.is_some_and(|records| records.in_vault);
    let of_files = if has(Part::Files) { files.listing_bytes + files.script_bytes } else { 0 };
    let own = sizes.copy + if in_vault { sizes.records } else { 0 } + of_files;
    let documents = DOCUMENTS + DOCUMENT_TABLE * sizes.tables;
    let from_service = plan.backup.files.as_ref().is_some_and(|files| !files.source.is_folder());
    let to_service = !plan.vault.is_folder();
    let copied = files.to_copy.bytes;
    let of_base = base.map_or(0, of_base);
    Bytes {
        sent: if to_service { own + documents + if from_service { 0 } else { copied } } else { 0 },
        received: if to_service {
            own + documents + of_base
        } else if from_service {
            copied
        } else {
            0
        },
        copied: if to_service && from_service { copied } else { 0 },
        stored: own + documents + copied,
    }
}

/// What is read of the base: its listing, and its documents as often as they are asked for.
fn of_base(base: &RecoveryPoint) -> u64 {
    let listing = base.manifest().parts.files.as_ref().map_or(0, |files| files.listing.bytes);
    let manifest = serde_json::to_vec_pretty(base.manifest()).map_or(0, |bytes| bytes.len() as u64);
    listing + LOOKS_AT_BASE * (manifest + CLAIM + ENTRY * base.entries().read.len() as u64)
}

/// Copies go many at once, the rest one after the other, and bytes as fast as the way to the service is.
fn seconds(plan: &DoctorPlan, requests: &Requests, bytes: &Bytes, files: &Foreseen, latency: Duration) -> f64 {
    let at_once = 64.0;
    let copies = files.copy_requests + files.look_requests;
    let others = (requests.puts + requests.gets).saturating_sub(copies);
    let waits = latency.as_secs_f64() * (number(others) + number(copies) / at_once);
    let on_disk = if plan.vault.is_folder() { bytes.stored } else { 0 };
    waits + number(bytes.sent + bytes.received) / number(RATE) + number(on_disk) / number(DISK)
}

/// A count as a number to reckon with; beyond 2^53 it is off by less than anybody could tell.
#[expect(clippy::cast_precision_loss, reason = "an estimate needs no more")]
fn number(count: u64) -> f64 {
    count as f64
}

fn cost(
    plan: &DoctorPlan,
    prices: &Prices,
    requests: &Requests,
    bytes: &Bytes,
    (sizes, files): (&Sizes, &Foreseen),
) -> Cost {
    let gigabytes = |bytes: u64| number(bytes) / 1e9;
    let standard = prices.class("STANDARD");
    let of_requests = standard.map_or(0.0, |class| {
        number(requests.puts) / 1e3 * class.thousand_puts + number(requests.gets) / 1e3 * class.thousand_gets
    });
    let month = |class: &str, bytes: u64, objects: u64| {
        prices
            .class(class)
            .map_or(0.0, |class| gigabytes(bytes.max(objects * class.least_bytes)) * class.gigabyte_month)
    };
    let class = plan.rules.database_class.as_deref().unwrap_or("STANDARD");
    let copies: f64 = files.by_class.iter().map(|(class, count)| month(class, count.bytes, count.files)).sum();
    let rest = bytes.stored.saturating_sub(files.to_copy.bytes + sizes.copy);
    // The proof reads the database's copy, which some classes charge for.
    let read = prices.class(class).map_or(0.0, |class| gigabytes(sizes.copy) * class.read_gigabyte);
    Cost {
        currency: prices.currency.clone(),
        requests: of_requests + read,
        month: copies + month(class, sizes.copy, 1) + month("STANDARD", rest, 0),
        received: gigabytes(bytes.received) * prices.out_gigabyte,
        prices: format!("{}, {}", prices.of, prices.date),
    }
}
