//! What changed, for a page: tables and categories with their numbers, then a few rows and keys.

use std::collections::BTreeMap;

use nexus_core::changes::files::CategoryChanges;
use nexus_core::changes::{Basis, Change, Example, Presence, TableChanges};

use crate::page::{Cell, Page, Style};
use crate::wording::{count, counted, size};

/// Tables listed at most; the others are counted, and in the JSON.
const MOST_TABLES: usize = 40;

/// Adds the tables that differ.
pub fn tables(page: &mut Page, changes: &[TableChanges]) {
    if changes.is_empty() {
        page.line("  no row and no column of any table");
        return;
    }
    page.columns(["  TABLE", "ADDED", "CHANGED", "REMOVED", "ROWS", ""]);
    for table in changes.iter().take(MOST_TABLES) {
        let number =
            |number: u64, style: Style| Cell::styled(count(number), if number > 0 { style } else { Style::Faint });
        page.row([
            format!("  {}", table.table).into(),
            number(table.added, Style::Good),
            number(table.changed, Style::Doubtful),
            number(table.removed, Style::Bad),
            format!("{} → {}", count(table.rows_before), count(table.rows_after)).into(),
            Cell::styled(remarks(table).join("; "), Style::Doubtful),
        ]);
    }
    if changes.len() > MOST_TABLES {
        page.line(format!("  … and {} more", count((changes.len() - MOST_TABLES) as u64)));
    }
    for table in changes.iter().take(MOST_TABLES) {
        for example in &table.examples {
            page.line(format!("  {} {}", table.table, shown(example)));
        }
    }
}

/// Adds the categories that differ, with a few keys of each.
pub fn files(page: &mut Page, changes: &BTreeMap<String, CategoryChanges>) {
    categories(page, changes);
    for category in changes.values() {
        let firsts = [("+", &category.first_added), ("~", &category.first_changed), ("-", &category.first_removed)];
        for (sign, keys) in firsts {
            for key in keys {
                page.line(format!("  {sign} {key}"));
            }
        }
    }
}

/// Adds the categories that differ.
pub fn categories(page: &mut Page, changes: &BTreeMap<String, CategoryChanges>) {
    let differing: Vec<_> = changes.iter().filter(|(_, category)| category.has_files()).collect();
    if differing.is_empty() {
        page.line("  no file");
        return;
    }
    page.columns(["  CATEGORY", "ADDED", "CHANGED", "REMOVED", "UNCHANGED"]);
    for (name, category) in &differing {
        let number = |of: &nexus_core::point::Count, style: Style| match of.files {
            0 => Cell::styled("0", Style::Faint),
            files => Cell::styled(format!("{}, {}", counted(files, "file"), size(of.bytes)), style),
        };
        page.row([
            format!("  {name}").into(),
            number(&category.added, Style::Good),
            number(&category.changed, Style::Doubtful),
            number(&category.removed, Style::Bad),
            count(category.same.files).into(),
        ]);
    }
}

/// What of a table differs beside its rows.
fn remarks(table: &TableChanges) -> Vec<String> {
    let mut remarks = Vec::new();
    match table.presence {
        Presence::Both => {}
        Presence::New => remarks.push("new table".to_owned()),
        Presence::Gone => remarks.push("table gone".to_owned()),
    }
    let types = table.types.iter();
    let retyped = types.map(|(name, types)| format!("{name} ({} → {})", types.before, types.after)).collect();
    let lists = [("new", &table.columns_added), ("gone", &table.columns_removed), ("of another type", &retyped)];
    for (word, columns) in lists {
        if !columns.is_empty() {
            remarks.push(format!("{word}: {}", columns.join(", ")));
        }
    }
    if table.basis == Basis::Counts {
        remarks.push("by numbers of rows only".to_owned());
    }
    remarks
}

fn shown(example: &Example) -> String {
    let key = example.key.as_ref().map(|key| format!("{key} ")).unwrap_or_default();
    let text = |side: &Option<String>| side.clone().unwrap_or_default();
    match example.change {
        Change::Added => format!("+ {key}{}", text(&example.after)),
        Change::Changed => format!("~ {key}{} → {}", text(&example.before), text(&example.after)),
        Change::Removed => format!("- {key}{}", text(&example.before)),
    }
}
