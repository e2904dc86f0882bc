//! `history`: one record over all points.

use nexus_core::error::{Error, Result};
use nexus_core::lookup::beside::{FileBeside, files};
use nexus_core::lookup::history::{Change, History, MatchedBy, Seen, State, history};
use nexus_core::lookup::{Cost, LeftOut};
use serde::Serialize;
use serde_json::value::RawValue;

use super::find::tell_left_out;
use super::get::{cost, fields, shown};
use crate::cli::HistoryArgs;
use crate::failure::{NOT_DONE, Outcome};
use crate::page::{Cell, Page, Style};
use crate::run::Run;
use crate::wording::{counted, moment, size};

/// A record over time, for programs.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    table: &'a str,
    key: &'a [String],
    /// By what the records of the points were taken for the same one.
    matched_by: MatchedBy,
    states: Vec<ShownState<'a>>,
    /// Points in which it was looked for.
    points: u64,
    left_out: &'a [LeftOut],
    /// How many of those may have it all the same.
    unasked: u64,
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

/// Shows it. A record that no point has, and damage, are bad answers; that some could not be asked where the others have none is
/// no answer.
pub async fn run(run: &Run, args: &HistoryArgs) -> Result<Outcome> {
    let vault = run.vault().await?;
    let mut history = history(&vault, (&args.table, &args.pk), &run.scratch, &run.events).await?;
    let told = format!("{} of {}", args.pk.join(","), args.table);
    let (mut beside, mut unread) = (Vec::new(), Vec::new());
    for state in history.states.iter().filter(|_| args.files) {
        let (files, left_out) = files(&vault, state, &run.scratch).await?;
        beside.push(files);
        unread.extend(left_out);
    }
    history.left_out.extend(unread);
    run.terminal.answer(&page(&history, &beside, &told), &value(&history, &beside, args)?);
    if history.states.is_empty() {
        run.terminal.warn(&none(&history, &told));
    }
    match history.matched_by {
        MatchedBy::Key => {}
        MatchedBy::Rowid => run.terminal.warn(&format!(
            "{} has no key but its rowid, which may be another record's after a VACUUM: what is shown may be several records",
            args.table
        )),
        MatchedBy::Values => run.terminal.warn(&format!(
            "the key of {} is not known everywhere: what is shown has the values asked for, and may be several records",
            args.table
        )),
    }
    tell_left_out(run, &history.left_out);
    run.terminal.note(&format!("{} looked at; {}", counted(history.points, "point"), cost(&history.cost)));
    let damaged = history.left_out.iter().any(|left| left.damaged);
    if history.states.is_empty() && !damaged && history.unasked > 0 {
        return Ok(Outcome::Passed(NOT_DONE));
    }
    Ok(Outcome::of(!history.states.is_empty() && !damaged))
}

/// Says that it was not found, and in how many points it could not be looked for.
fn none(history: &History, told: &str) -> String {
    if history.unasked == 0 {
        return format!("no point has a record {told}");
    }
    let asked = counted(history.points, "point");
    format!("none of the {asked} looked at has a record {told}; {} could not be asked", history.unasked)
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
        matched_by: history.matched_by,
        states: history.states.iter().enumerate().map(state).collect::<std::result::Result<_, _>>().map_err(no_json)?,
        points: history.points,
        left_out: &history.left_out,
        unasked: history.unasked,
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
