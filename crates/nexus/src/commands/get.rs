//! `get`: one file of a point, or one record.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nexus_core::error::{Error, Result};
use nexus_core::lookup::file::{Fetched, entry, fetch, fetch_to};
use nexus_core::lookup::key::wanted;
use nexus_core::lookup::record::{Looked, record};
use nexus_core::lookup::{Cost, table};
use nexus_core::point::{Part, PointId};
use nexus_core::vault::RecoveryPoint;
use serde::Serialize;
use serde_json::value::RawValue;

use super::show::passed_over;
use crate::cli::GetArgs;
use crate::failure::Outcome;
use crate::page::Page;
use crate::run::Run;
use crate::wording::{counted, moment, size, word};

/// The most characters that a page shows of a value; JSON has all.
const SHOWN: usize = 2_000;
/// What stands for stdout.
const STDOUT: &str = "-";

/// A file for programs.
#[derive(Debug, Serialize)]
struct GotFile<'a> {
    point: &'a PointId,
    file: PathBuf,
    #[serde(flatten)]
    fetched: Fetched,
}

/// A record for programs.
#[derive(Debug, Serialize)]
struct GotRecord<'a> {
    point: &'a PointId,
    instant: Timestamp,
    table: &'a str,
    key: Option<&'a str>,
    /// `null` when there is none.
    record: Option<&'a RawValue>,
    cost: Cost,
}

/// Gets it. A record that is not there is a bad answer.
pub async fn run(run: &Run, args: &GetArgs) -> Result<Outcome> {
    if args.table.is_none() {
        require_place(run, args)?;
    }
    let vault = run.vault().await?;
    let part = if args.table.is_some() { Part::Records } else { Part::Files };
    let found = vault.find(&args.point, &[part]).await?;
    passed_over(run, &found);
    match (&args.table, &args.key) {
        (Some(name), _) => get_record(run, &found.point, (name, &args.pk)).await,
        (None, Some(key)) => {
            let point = run.with_source(found.point).await?;
            get_file(run, &point, (key, args.to.as_deref())).await
        }
        (None, None) => Err(Error::usage("name a file, or a table and a key")),
    }
}

fn require_place(run: &Run, args: &GetArgs) -> Result<()> {
    let to_stdout = args.to.as_deref().is_none_or(|to| to == Path::new(STDOUT));
    if to_stdout && run.terminal.wants_json() {
        return Err(Error::usage_hint("stdout cannot hold both the file and JSON", "name a file: -o FILE"));
    }
    if args.to.is_none() && run.terminal.shows_stdout() {
        return Err(Error::usage_hint(
            "a terminal is no place for the content of a file",
            "name a file: -o FILE, or - for stdout all the same",
        ));
    }
    Ok(())
}

async fn get_file(run: &Run, point: &RecoveryPoint, (key, to): (&str, Option<&Path>)) -> Result<Outcome> {
    let entry = entry(point, key, &run.scratch).await?;
    let Some(to) = to.filter(|to| *to != Path::new(STDOUT)) else {
        let path = run.scratch.file("got");
        let fetched = fetch(point, &entry, &path).await?;
        run.terminal.copy(&path)?;
        run.terminal.note(&told(point, &fetched));
        return Ok(Outcome::Done);
    };
    let at = run.folder.join(to).components().collect::<PathBuf>();
    if to.as_os_str().as_encoded_bytes().ends_with(b"/") && !at.is_dir() {
        return Err(Error::usage_hint(
            format!("there is no folder `{}`", at.display()),
            "make it first, or name the file: -o FILE",
        ));
    }
    let to = place(&at, key)?;
    let fetched = fetch_to(point, &entry, &to, &run.clock).await?;
    let mut page = Page::new();
    page.heading(format!("Got {key} of {}", point.id()));
    page.field("file", to.display().to_string());
    page.field("size", size(fetched.bytes));
    page.field("sha256", fetched.sha256.clone());
    page.field("checked", format!("by its {}", word(&fetched.checked)));
    page.field("from", fetched.from.clone());
    run.terminal.answer(&page, &GotFile { point: point.id(), file: to, fetched });
    Ok(Outcome::Done)
}

fn told(point: &RecoveryPoint, fetched: &Fetched) -> String {
    format!("{} of {}: {}, checked by its {}", fetched.key, point.id(), size(fetched.bytes), word(&fetched.checked))
}

/// In a folder a file goes by the last part of its key.
fn place(to: &Path, key: &str) -> Result<PathBuf> {
    if !to.is_dir() {
        return Ok(to.to_owned());
    }
    let name = key.rsplit('/').find(|part| !part.is_empty()).filter(|name| !matches!(*name, "." | ".."));
    match name {
        Some(name) if !name.contains('\0') => Ok(to.join(name)),
        _ => Err(Error::usage_hint(format!("{key:?} ends in no name for a file"), "name one: -o FILE")),
    }
}

async fn get_record(run: &Run, point: &RecoveryPoint, (name, pk): (&str, &[String])) -> Result<Outcome> {
    let table = table(point, name).await?;
    let wanted = wanted(table, pk)?;
    let looked = record(point, table, &wanted, &run.scratch, &run.events).await?;
    let raw = looked.record.as_deref().map(serde_json::from_str::<&RawValue>).transpose();
    let raw =
        raw.map_err(|cause| Error::Damaged { what: "the record is no JSON".into(), cause: Some(cause.into()) })?;
    let got = GotRecord {
        point: point.id(),
        instant: point.manifest().instant,
        table: &table.name,
        key: looked.key.as_deref(),
        record: raw,
        cost: looked.cost,
    };
    let told = format!("{} of {}", pk.join(","), table.name);
    if raw.is_some() {
        run.terminal.answer(&page(&got, &looked), &got);
    } else {
        if run.terminal.wants_json() {
            run.terminal.json(&got);
        }
        run.terminal.warn(&format!("{} has no record {told}", point.id()));
        if let Some(otherwise) = &looked.otherwise {
            run.terminal.note(otherwise);
        }
    }
    run.terminal.note(&cost(&looked.cost));
    Ok(Outcome::of(raw.is_some()))
}

/// What an answer cost, in words.
pub fn cost(cost: &Cost) -> String {
    let from_vault = format!("{}, {}", counted(cost.requests, "request"), size(cost.bytes));
    match (cost.requests, cost.local_bytes) {
        (0, local) => format!("read on this machine: {}", size(local)),
        (_, 0) => format!("read from the vault: {from_vault}"),
        (_, local) => format!("read from the vault: {from_vault}; on this machine: {}", size(local)),
    }
}

fn page(got: &GotRecord<'_>, looked: &Looked) -> Page {
    let mut page = Page::new();
    let key = got.key.unwrap_or("one record");
    page.heading(format!("{}: {key}, in {} of {}", got.table, got.point, moment(got.instant)));
    for (name, value) in fields(looked.record.as_deref().unwrap_or("{}")) {
        page.row([format!("  {name}").into(), shown(&value).into()]);
    }
    page
}

/// The fields of a record in their order, each value as it is written.
pub fn fields(record: &str) -> Vec<(String, String)> {
    nexus_core::lookup::record::fields(record)
}

/// A value for a person: text without its quotes, and not more of it than can be read.
pub fn shown(value: &str) -> String {
    let text = serde_json::from_str::<String>(value).unwrap_or_else(|_| value.to_owned());
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} in all)", &text[..end], size(text.len() as u64)),
        None => text,
    }
}
