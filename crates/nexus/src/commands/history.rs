//! `history`: one record over all points.

use nexus_core::error::{Error, Result};
use nexus_core::lookup::beside::{FileBeside, files};
use nexus_core::lookup::history::{Change, History, Seen, State, history};
use nexus_core::lookup::{Cost, LeftOut};
use serde::Serialize;
use serde_json::value::RawValue;

use super::find::tell_left_out;
use super::get::{cost, fields, shown};
use crate::cli::HistoryArgs;
use crate::failure::Outcome;
use crate::page::{Cell, Page, Style};
use crate::run::Run;
use crate::wording::{counted, moment, size};

/// A record over time, for programs.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    table: &'a str,
    key: &'a [String],
    states: Vec<ShownState<'a>>,
    /// Points in which it was looked for.
    points: u64,
    left_out: &'a [LeftOut],
    cost: Cost,
}

/// One of its states.
#[derive(Debug, Serialize)]
struct ShownState<'a> {
    first: &'a Seen,
    last: &'a Seen,
    points: u64,
    /// `null` when it was gone.
    record: Option<Box<RawValue>>,
    changes: Vec<ShownChange<'a>>,
    /// Absent unless they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<&'a [FileBeside]>,
}

/// A column that changed.
#[derive(Debug, Serialize)]
struct ShownChange<'a> {
    column: &'a str,
    /// Absent when the record had no such column.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Box<RawValue>>,
}

/// Shows it. A record that no point has, and damage, are bad answers.
pub async fn run(run: &Run, args: &HistoryArgs) -> Result<Outcome> {
    let vault = run.vault().await?;
    let history = history(&vault, (&args.table, &args.pk), &run.scratch, &run.events).await?;
    let told = format!("{} of {}", args.pk.join(","), args.table);
    let mut beside = Vec::new();
    for state in history.states.iter().filter(|_| args.files) {
        beside.push(files(&vault, state, &run.scratch).await?);
    }
    run.terminal.answer(&page(&history, &beside, &told), &value(&history, &beside, args)?);
    if history.states.is_empty() {
        run.terminal.warn(&format!("no point has a record {told}"));
    }
    tell_left_out(run, &history.left_out);
    run.terminal.note(&format!("{} looked at; {}", counted(history.points, "point"), cost(&history.cost)));
    let damaged = history.left_out.iter().any(|left| left.damaged);
    Ok(Outcome::of(!history.states.is_empty() && !damaged))
}

fn value<'a>(history: &'a History, beside: &'a [Vec<FileBeside>], args: &'a HistoryArgs) -> Result<Shown<'a>> {
    let raw = |text: &Option<String>| text.clone().map(RawValue::from_string).transpose();
    let change = |change: &'a Change| {
        Ok(ShownChange { column: &change.column, before: raw(&change.before)?, after: raw(&change.after)? })
    };
    let state = |(at, state): (usize, &'a State)| {
        Ok::<_, serde_json::Error>(ShownState {
            first: &state.first,
            last: &state.last,
            points: state.points,
            record: raw(&state.record)?,
            files: beside.get(at).map(Vec::as_slice),
            changes: state.changes.iter().map(change).collect::<std::result::Result<_, serde_json::Error>>()?,
        })
    };
    let no_json =
        |cause: serde_json::Error| Error::Damaged { what: "a record is no JSON".into(), cause: Some(cause.into()) };
    Ok(Shown {
        table: &args.table,
        key: &args.pk,
        states: history.states.iter().enumerate().map(state).collect::<std::result::Result<_, _>>().map_err(no_json)?,
        points: history.points,
        left_out: &history.left_out,
        cost: history.cost,
    })
}

fn page(history: &History, beside: &[Vec<FileBeside>], told: &str) -> Page {
    let mut page = Page::new();
    page.heading(format!("{told}, over {}", counted(history.points, "point")));
    let mut was_there = false;
    for (at, state) in history.states.iter().enumerate() {
        page.line(span(state));
        match &state.record {
            None => page.line(Cell::styled("  gone", Style::Bad)),
            Some(record) if !was_there => {
                for (name, value) in fields(record) {
                    page.row([format!("  {name}").into(), shown(&value).into()]);
                }
            }
            Some(_) => {
                for change in &state.changes {
                    let side =
                        |value: &Option<String>| value.as_deref().map_or_else(|| "(no column)".to_owned(), shown);
                    let (before, after) = (side(&change.before), side(&change.after));
                    page.row([format!("  {}", change.column).into(), format!("{before} → {after}").into()]);
                }
            }
        }
        for file in beside.get(at).into_iter().flatten() {
            let etag = file.etag.as_deref().map(|etag| format!(", ETag {etag}")).unwrap_or_default();
            let modified = file.modified.map(|at| format!(", of {}", moment(at))).unwrap_or_default();
            let what = format!("{}{etag}{modified}, in {}", size(file.bytes), file.point);
            page.row([format!("  {}: file", file.column).into(), format!("{}, {what}", file.key).into()]);
        }
        was_there = state.record.is_some();
    }
    page
}

fn span(state: &State) -> Cell {
    let (first, last) = (&state.first, &state.last);
    let text = if first == last {
        format!("{} ({})", first.point, moment(first.instant))
    } else {
        let (from, to) = (moment(first.instant), moment(last.instant));
        format!("{} ({from}) to {} ({to}), {}", first.point, last.point, counted(state.points, "point"))
    };
    Cell::styled(text, Style::Strong)
}
