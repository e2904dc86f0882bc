//! What differs, as a page and for programs; each row and file is read from the lines that were written of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use nexus_core::changes::Change;
use nexus_core::changes::told::{FileChange, RowChange, lines};
use nexus_core::diff::{After, Difference};
use nexus_core::error::{Error, Result};
use nexus_core::listing::Side;
use nexus_core::vault::RecoveryPoint;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::commands::changed;
use crate::page::{Page, Style};
use crate::run::Run;
use crate::wording::{count, moment, size};

/// Rows and files of each kind of change that a page shows of a table or category; all are in the JSON.
const SHOWN: u64 = 20;
/// The most characters of a value that a page shows.
const LONGEST: usize = 200;
/// How much is gathered before it is printed, bytes.
const BUFFER: usize = 64 * 1024;
/// Tables that were not compared, named at most.
const MOST_UNCOMPARED: usize = 5;

/// Prints the answer.
///
/// # Errors
///
/// Those of reading the lines back.
pub fn tell(run: &Run, sides: (&RecoveryPoint, &After), difference: &Difference) -> Result<()> {
    if run.terminal.wants_json() {
        return print_json(run, sides, difference);
    }
    run.terminal.answer(&page(run, sides, difference)?, &Value::Null);
    Ok(())
}

fn name((_, after): (&RecoveryPoint, &After)) -> String {
    match after {
        After::Point(point) => point.id().to_string(),
        After::Now(_) => "now".to_owned(),
    }
}

fn page(run: &Run, sides: (&RecoveryPoint, &After), difference: &Difference) -> Result<Page> {
    let mut page = Page::new();
    page.heading(format!("Changed from {} to {}", sides.0.id(), name(sides)));
    page.field("then", moment(sides.0.manifest().instant));
    let later = match sides.1 {
        After::Point(point) => moment(point.manifest().instant),
        After::Now(_) => format!("now, {}", moment(run.clock.now())),
    };
    page.field("later", later);
    for note in &difference.notes {
        page.field("note", crate::page::Cell::styled(note.clone(), Style::Doubtful));
    }
    if let Some(tables) = &difference.tables {
        page.heading("Rows");
        let each = difference.rows.is_some();
        // Whose rows they are shows only when that was asked for.
        let mut shown = tables.clone();
        for table in &mut shown {
            table.examples.clear();
        }
        changed::tables(&mut page, &shown);
        for (name, reason) in difference.uncompared.iter().take(MOST_UNCOMPARED) {
            page.line(crate::page::Cell::styled(format!("  not compared: {name}, {reason}"), Style::Doubtful));
        }
        if difference.uncompared.len() > MOST_UNCOMPARED {
            page.line(format!("  … and {} more, which --json names", difference.uncompared.len() - MOST_UNCOMPARED));
        }
        if each {
            rows(&mut page, difference.rows.as_deref())?;
        }
    }
    if let Some(files) = &difference.files {
        page.heading("Files");
        match &difference.keys {
            None => changed::files(&mut page, files),
            Some(keys) => {
                changed::categories(&mut page, files);
                each_file(&mut page, keys)?;
            }
        }
    }
    Ok(page)
}

/// Adds rows of each table, column by column, the first of each kind of change.
fn rows(page: &mut Page, path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut seen = Seen::default();
    let mut table = String::new();
    for line in lines(path)? {
        let line = line?;
        let row: RowChange<'_> = understood(&line)?;
        if row.table != table {
            seen.rest(page);
            page.heading(row.table.clone());
            table.clone_from(&row.table);
        }
        if seen.shows(row.change) {
            one_row(page, &row);
        }
    }
    seen.rest(page);
    Ok(())
}

fn one_row(page: &mut Page, row: &RowChange<'_>) {
    let key = row.key.map_or_else(String::new, |key| {
        let fields: Vec<String> = fields(key).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        fields.join(", ")
    });
    let text = |side: Option<&RawValue>| cut(side.map_or("", RawValue::get));
    let sign = sign(row.change);
    match row.change {
        Change::Added => page.line(crate::page::Cell::styled(format!("  {sign} {}", text(row.after)), Style::Good)),
        Change::Removed => page.line(crate::page::Cell::styled(format!("  {sign} {}", text(row.before)), Style::Bad)),
        Change::Changed => {
            page.line(format!("  {sign} {key}"));
            let (before, after) =
                (row.before.map(fields).unwrap_or_default(), row.after.map(fields).unwrap_or_default());
            for (column, was) in &before {
                let is = after.get(column).map_or("", |is| is.as_str());
                page.line(format!("      {column}: {} → {}", cut(was), cut(is)));
            }
        }
    }
}

/// Adds the first files of each kind of change.
fn each_file(page: &mut Page, path: &Path) -> Result<()> {
    let mut seen = Seen::default();
    for line in lines(path)? {
        let file: FileChange = understood(&line?)?;
        if !seen.shows(file.change) {
            continue;
        }
        let bytes = |side: &Option<Side>| side.as_ref().map_or_else(String::new, |side| size(side.size));
        let sizes = match file.change {
            Change::Added => bytes(&file.after),
            Change::Changed => format!("{} → {}", bytes(&file.before), bytes(&file.after)),
            Change::Removed => bytes(&file.before),
        };
        page.row([format!("  {} {}", sign(file.change), file.key).into(), file.category.into(), sizes.into()]);
    }
    seen.rest(page);
    Ok(())
}

/// How many of each kind of change were seen.
#[derive(Default)]
struct Seen([u64; 3]);

impl Seen {
    /// Counts one; true when it is to be shown.
    fn shows(&mut self, change: Change) -> bool {
        let number = &mut self.0[match change {
            Change::Added => 0,
            Change::Changed => 1,
            Change::Removed => 2,
        }];
        *number += 1;
        *number <= SHOWN
    }

    /// Says how many were not shown, and begins anew.
    fn rest(&mut self, page: &mut Page) {
        let more: u64 = std::mem::take(self).0.iter().map(|number| number.saturating_sub(SHOWN)).sum();
        if more > 0 {
            page.line(format!("  … and {} more, which --json holds", count(more)));
        }
    }
}

fn sign(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Changed => '~',
        Change::Removed => '-',
    }
}

/// The fields of a record, each value as it is written.
fn fields(record: &RawValue) -> BTreeMap<String, String> {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(record.get()).unwrap_or_default();
    fields.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}

fn understood<'a, T: serde::Deserialize<'a>>(line: &'a str) -> Result<T> {
    serde_json::from_str(line)
        .map_err(|cause| Error::Local { what: "cannot read what differs back".to_owned(), cause: Some(cause.into()) })
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Prints one document. With --rows its last fields are `rows` and `keys`, with one row or file a line, printed as they are read:
/// there may be more than memory should hold.
fn print_json(run: &Run, sides: (&RecoveryPoint, &After), difference: &Difference) -> Result<()> {
    let later = match sides.1 {
        After::Point(point) => point.manifest().instant,
        After::Now(_) => run.clock.now(),
    };
    let mut tables = difference.tables.clone();
    // Rows are in `rows`, whole, when they were asked for.
    for table in tables.iter_mut().flatten() {
        table.examples.clear();
    }
    let document = json!({
        "from": sides.0.id(),
        "to": name(sides),
        "vault": sides.0.vault().address().to_string(),
        "from_instant": sides.0.manifest().instant,
        "to_instant": later,
        "tables": tables,
        "uncompared": difference.uncompared,
        "files": difference.files,
        "notes": difference.notes,
    });
    if difference.rows.is_none() && difference.keys.is_none() {
        run.terminal.json(&document);
        return Ok(());
    }
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    let mut out = text.trim_end_matches(['\n', '}']).trim_end().to_owned();
    for (name, path) in [("rows", &difference.rows), ("keys", &difference.keys)] {
        let Some(path) = path else { continue };
        // Writing to a text cannot fail.
        let _ = write!(out, ",\n  \"{name}\": [");
        for (at, line) in lines(path)?.enumerate() {
            out.push_str(if at == 0 { "\n    " } else { ",\n    " });
            out.push_str(&line?);
            if out.len() >= BUFFER {
                run.terminal.raw(&std::mem::take(&mut out));
            }
        }
        out.push_str("\n  ]");
    }
    run.terminal.raw(&format!("{out}\n}}\n"));
    Ok(())
}
