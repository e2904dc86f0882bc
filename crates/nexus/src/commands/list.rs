//! `list`: the points of a vault, newest first.

use jiff::Timestamp;
use nexus_core::bucket::Address;
use nexus_core::error::Result;
use nexus_core::point::{Part, PointId};
use nexus_core::vault::{PointState, Standing, Vault};
use serde::Serialize;

use super::state::{Checked, State, checked, expiry, size};
use crate::cli::ListArgs;
use crate::failure::Outcome;
use crate::page::Page;
use crate::run::Run;
use crate::wording;

/// A vault's points for programs.
#[derive(Debug, Serialize)]
struct Listed {
    vault: String,
    app: String,
    points: Vec<Row>,
    /// What lies beside the points and is not ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    foreign: Option<Vec<String>>,
}

/// One point for programs.
#[derive(Debug, Serialize)]
struct Row {
    id: PointId,
    label: String,
    state: State,
    safety_point: bool,
    claimed: Timestamp,
    parts: Vec<Part>,
    /// Parts that are gone: their time was over.
    expired: Vec<Part>,
    /// True for what an older tool had left: not of one instant.
    adopted: bool,
    /// Why it is kept for ever, when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<String>,
    bytes: u64,
    /// Copied into this point; the rest of its files is reused.
    bytes_copied: u64,
    expires: std::collections::BTreeMap<Part, Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proven: Option<Timestamp>,
    /// The last proof, whatever its depth and verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_proof: Option<Checked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_drill: Option<Checked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip)]
    checked: String,
    #[serde(skip)]
    first_expiry: String,
}

/// Lists them. A point that cannot be understood is a bad answer.
pub async fn run(run: &Run, args: &ListArgs) -> Result<Outcome> {
    let vault = run.vault().await?;
    let points = vault.points().await?;
    let foreign = if args.all { Some(foreign(&vault, &points).await?) } else { None };
    let now = run.clock.now();
    let is_point = |state: State| !matches!(state, State::Abandoned | State::Pruned);
    let shown = points.iter().filter(|point| args.all || is_point(State::of(point)));
    let listed = Listed {
        vault: vault.address().to_string(),
        app: vault.app().to_owned(),
        points: shown.map(|point| row(point, now)).collect(),
        foreign,
    };
    run.terminal.answer(&page(&listed, now), &listed);
    if listed.points.is_empty() {
        run.terminal.note("no points yet: `nexus backup` makes one");
    }
    Ok(Outcome::of(listed.points.iter().all(|point| point.state != State::Unreadable)))
}

fn row(point: &PointState, now: Timestamp) -> Row {
    let manifest = point.manifest();
    let parts = match &point.standing {
        Standing::Committed(manifest) => manifest.present(),
        Standing::Unfinished(claim) => claim.parts.clone(),
        Standing::Abandoned(_) | Standing::Unreadable(_) => Vec::new(),
    };
    let gone = point.journal.expired();
    let parts: Vec<Part> = parts.into_iter().filter(|part| !gone.contains(part)).collect();
    let ends = |part: &Part| Some((*part, manifest?.expires(*part)?));
    Row {
        id: point.id.clone(),
        label: point.id.label().to_string(),
        state: State::of(point),
        safety_point: point.id.label().is_safety(),
        claimed: point.id.claimed(),
        bytes: manifest.map_or(0, |manifest| size(manifest, &point.journal)),
        bytes_copied: manifest.and_then(|manifest| manifest.parts.files.as_ref()).map_or(0, |files| files.copied.bytes),
        expires: parts.iter().filter_map(ends).collect(),
        pinned: point.journal.pinned().map(str::to_owned),
        expired: gone,
        adopted: manifest.is_some_and(|manifest| manifest.adopted.is_some()),
        parts,
        proven: manifest.and_then(|manifest| point.journal.proven(manifest)).map(|(at, _)| at),
        last_proof: Checked::last(&point.journal),
        last_drill: Checked::last_drill(&point.journal),
        checked: if manifest.is_some() { checked(&point.journal, now) } else { "-".to_owned() },
        reason: match &point.standing {
            Standing::Abandoned(given_up) => Some(given_up.reason.clone()),
            Standing::Unreadable(reason) => Some(reason.clone()),
            Standing::Committed(_) | Standing::Unfinished(_) => None,
        },
        first_expiry: manifest.map_or_else(String::new, |manifest| expiry(manifest, &point.journal, now)),
    }
}

fn page(listed: &Listed, now: Timestamp) -> Page {
    let mut page = Page::new();
    if !listed.points.is_empty() {
        page.columns(["POINT", "STATE", "PARTS", "SIZE", "AGE", "CHECKED", "EXPIRES"]);
    }
    for point in &listed.points {
        let mut parts: Vec<_> = point.parts.iter().map(|part| part.name().to_owned()).collect();
        if point.adopted {
            parts.push("(adopted)".to_owned());
        }
        parts.extend(point.expired.iter().map(|part| format!("({part} expired)")));
        page.row([
            point.id.to_string().into(),
            point.state.cell(),
            parts.join(",").into(),
            if point.bytes == 0 { "-".into() } else { wording::size(point.bytes).into() },
            wording::distance(point.claimed, now).into(),
            point.checked.clone().into(),
            point.reason.clone().unwrap_or_else(|| point.first_expiry.clone()).into(),
        ]);
    }
    let foreign = listed.foreign.iter().flatten();
    for (at, name) in foreign.enumerate() {
        if at == 0 {
            page.heading("Not ours, never touched");
        }
        page.line(format!("  {name}"));
    }
    page
}

/// The folders of a vault that hold no point of ours.
async fn foreign(vault: &Vault, points: &[PointState]) -> Result<Vec<String>> {
    let names = vault.reader().folders(vault.address().prefix()).await?;
    let ours = |name: &String| name == "database" || points.iter().any(|point| point.id.to_string() == *name);
    let place = |name: String| match vault.address() {
        Address::S3 { .. } => vault.name(&format!("{name}/")),
        Address::Folder(folder) => folder.join(name).display().to_string(),
    };
    Ok(names.into_iter().filter(|name| !ours(name)).map(place).collect())
}
