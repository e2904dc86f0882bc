//! References in words: what `backup` and `show` say of them, what `verify --references` lists, and what `--strict` holds against a run.

use std::fmt;

use nexus_core::error::{Error, Result};
use nexus_core::point::references::{Reference, ReferenceColumn, ReferenceCounts, References};
use nexus_core::references::{Findings, Known, Orphan, Row, Wrong, require};
use nexus_core::vault::RecoveryPoint;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::page::{Cell, Page, Style};
use crate::run::Run;
use crate::wording::{command_line, count, counted, escaped, size, word};

/// Lines of a listing that are printed at once, bytes.
const CHUNK: usize = 64 << 10;
/// The most characters that are shown of a value; JSON has all of it.
const SHOWN: usize = 200;

/// What may be held against a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// A row without its file.
    Dangling,
    /// A row whose file is there in another case.
    OtherCase,
    /// A row whose file is there in another Unicode form.
    OtherForm,
    /// A file that no row names.
    Orphaned,
    /// A file that several rows name.
    Shared,
}

impl Breach {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Dangling, Self::OtherCase, Self::OtherForm, Self::Orphaned, Self::Shared];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dangling => "dangling",
            Self::OtherCase => "other-case",
            Self::OtherForm => "other-form",
            Self::Orphaned => "orphaned",
            Self::Shared => "shared",
        }
    }

    fn number(self, counts: &ReferenceCounts, references: &References) -> u64 {
        match self {
            Self::Dangling => counts.dangling,
            Self::OtherCase => counts.other_case,
            Self::OtherForm => counts.other_form,
            Self::Orphaned => references.orphaned.map_or(0, |orphaned| orphaned.files),
            Self::Shared => counts.shared,
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// True when there is something that `strict` names, or nothing was checked.
pub fn is_broken(references: Option<&References>, strict: &[Breach]) -> bool {
    let counted = references.and_then(|references| Some((references, references.total()?)));
    match counted {
        _ if strict.is_empty() => false,
        None => true,
        Some((references, total)) => strict.iter().any(|breach| breach.number(&total, references) > 0),
    }
}

/// The counts by column.
pub fn page(page: &mut Page, references: &References) {
    page.heading("References");
    if let Some(reason) = &references.unchecked {
        page.line(Cell::styled(format!("  not checked: {reason}"), Style::Doubtful));
        for ReferenceColumn { reference, .. } in &references.columns {
            page.line(Cell::styled(
                format!("  {}.{} was not checked", reference.table, reference.column),
                Style::Faint,
            ));
        }
        return;
    }
    page.columns(["  COLUMN", "ROWS", "DANGLING", "OTHER CASE", "OTHER FORM", "SHARED"]);
    for ReferenceColumn { reference, counts } in &references.columns {
        let counts = counts.unwrap_or_default();
        let bad = |number: u64| Cell::styled(count(number), if number == 0 { Style::Plain } else { Style::Bad });
        page.row([
            format!("  {}.{}", reference.table, reference.column).into(),
            count(counts.named).into(),
            bad(counts.dangling),
            bad(counts.other_case),
            bad(counts.other_form),
            count(counts.shared).into(),
        ]);
    }
    if let Some(orphaned) = references.orphaned {
        let style = if orphaned.files == 0 { Style::Plain } else { Style::Doubtful };
        let text = format!("{}, {} that no row names", counted(orphaned.files, "file"), size(orphaned.bytes));
        page.field("orphaned", Cell::styled(text, style));
    }
}

/// What a person should know at once, if anything.
pub fn warning(run: &Run, point: &RecoveryPoint, references: &References) -> Option<String> {
    let (id, reach) = (point.id().to_string(), run.reach());
    if let Some(reason) = &references.unchecked {
        return Some(format!("references were not checked: {reason}"));
    }
    let broken = references.total().map_or(0, |total| total.broken());
    let command = ["nexus", "verify", &id, "--references"].into_iter().chain(reach.iter().map(String::as_str));
    let named = if broken == 1 {
        "1 row names a file that is".to_owned()
    } else {
        format!("{} rows name files that are", count(broken))
    };
    (broken > 0).then(|| format!("{named} not there: `{}` lists them", command_line(command)))
}

/// The references to look at: those of the configuration, when it is of the point's app and the point has all that they name, else
/// those that the point was made with.
///
/// # Errors
///
/// [`Error::Usage`] when neither names any, or those of the configuration name what a point without its own does not have.
pub fn wanted(run: &Run, point: &RecoveryPoint) -> Result<Vec<Reference>> {
    let (settings, manifest) = (&run.settings, point.manifest());
    let own: Vec<Reference> =
        manifest.references.iter().flat_map(|of| &of.columns).map(|of| of.reference.clone()).collect();
    let is_ours = settings.app.as_ref().is_none_or(|app| app.value == manifest.app);
    if !settings.references.is_empty() && is_ours {
        let Err(error) = fits(point, &settings.references) else { return Ok(settings.references.clone()) };
        if own.is_empty() {
            return Err(error);
        }
        // The database has changed since, and the configuration with it.
        run.terminal.note(&format!("these are the references that the point was made with: {error}"));
        return Ok(own);
    }
    if own.is_empty() {
        return Err(Error::usage_hint(
            format!("nothing says which columns of {} name files", point.id()),
            "name them in nexus.toml: [[references]] with `table` and `column`; `nexus init --look` suggests some",
        ));
    }
    Ok(own)
}

/// Fails unless the point's records have all that references name; of records that are no rows nothing is known.
fn fits(point: &RecoveryPoint, references: &[Reference]) -> Result<()> {
    let Some(records) = point.manifest().own_records() else { return Ok(()) };
    let known: Vec<Known<'_>> = records.tables.iter().map(Known::of).collect();
    require(references, &known)
}

/// Says what of a look is not to be overlooked: that nothing was checked, or by other references than the point was made with.
pub fn remarks(run: &Run, point: &RecoveryPoint, looked: &References) {
    if let Some(reason) = &looked.unchecked {
        run.terminal.warn(&format!("references were not checked: {reason}"));
    }
    let of = |references: &References| -> Vec<Reference> {
        references.columns.iter().map(|column| column.reference.clone()).collect()
    };
    let others = point.manifest().references.as_ref().is_some_and(|made| of(made) != of(looked));
    if others && looked.unchecked.is_none() {
        run.terminal.note("these are the references of the configuration; the point was made with others");
    }
}

/// Prints each row and file, as it is read.
///
/// # Errors
///
/// What reading them fails with.
pub fn list(run: &Run, findings: Findings) -> Result<()> {
    let mut text = String::new();
    for wrong in findings {
        text.push_str(&line(&wrong?));
        if text.len() > CHUNK {
            run.terminal.raw(&std::mem::take(&mut text));
        }
    }
    run.terminal.raw(&text);
    Ok(())
}

/// Prints an answer as one JSON document, with the references and each finding at its end as they are read; null when nothing was
/// checked.
///
/// # Errors
///
/// What reading the findings fails with.
pub fn list_json(
    run: &Run,
    answer: &impl Serialize,
    references: &References,
    findings: Option<Findings>,
) -> Result<()> {
    let mut text = opened(answer);
    text.push_str(",\n  \"references\": ");
    text.push_str(&opened(references));
    let Some(findings) = findings else {
        // That nothing was looked at is not that nothing was found.
        text.push_str(",\n  \"findings\": null\n}}\n");
        run.terminal.raw(&text);
        return Ok(());
    };
    text.push_str(",\n  \"findings\": [");
    let mut separator = "\n";
    for wrong in findings {
        text.push_str(separator);
        text.push_str(&value(&wrong?).to_string());
        separator = ",\n";
        if text.len() > CHUNK {
            run.terminal.raw(&std::mem::take(&mut text));
        }
    }
    text.push_str("\n]}}\n");
    run.terminal.raw(&text);
    Ok(())
}

/// A JSON object without its end.
fn opened(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.strip_suffix("\n}").unwrap_or(&text).to_owned()
}

fn value(wrong: &Wrong) -> Value {
    match wrong {
        Wrong::Orphan(Orphan { key, size }) => json!({"kind": Breach::Orphaned.name(), "key": key, "size": size}),
        Wrong::Row(row) => {
            let parsed = |value: &str| serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            let key: Map<String, Value> =
                row.primary_key.iter().map(|(name, value)| (name.clone(), parsed(value))).collect();
            let mut value = json!({
                "kind": row.kind,
                "table": row.table,
                "primary_key": key,
                "record": row.record,
                "column": row.column,
                "value": row.value,
                "key": row.key,
            });
            if let (Some(like), Some(fields)) = (&row.like, value.as_object_mut()) {
                fields.insert("like".to_owned(), Value::from(like.as_str()));
            }
            value
        }
    }
}

fn line(wrong: &Wrong) -> String {
    match wrong {
        Wrong::Orphan(Orphan { key, size: bytes }) => {
            format!("{:<10}  {}  {}\n", Breach::Orphaned.name(), shown(key), size(*bytes))
        }
        Wrong::Row(row) => {
            let Row { kind, table, column, key, like, .. } = row;
            let like = like.as_ref().map_or_else(String::new, |like| format!("  there is {}", shown(like)));
            let name = word(kind);
            format!("{name:<10}  {} {}  {}: {}{like}\n", shown(table), row_name(row), shown(column), shown(key))
        }
    }
}

/// What tells a row from others: its key, else which record it is.
fn row_name(row: &Row) -> String {
    if row.primary_key.is_empty() {
        return format!("record {}", row.record);
    }
    let fields: Vec<_> =
        row.primary_key.iter().map(|(name, value)| format!("{}={}", shown(name), shown(value))).collect();
    fields.join(" ")
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", escaped(&text[..end])),
        None => escaped(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_core::point::Count;

    #[test]
    fn strict_holds_what_it_names_against_a_run_and_that_nothing_was_checked() {
        let reference = Reference { table: "t".into(), column: "c".into(), prefix: String::new(), base: None };
        let of = |counts: ReferenceCounts, files| References {
            columns: vec![ReferenceColumn { reference: reference.clone(), counts: Some(counts) }],
            orphaned: Some(Count { files, bytes: 0 }),
            unchecked: None,
        };
        let none = ReferenceCounts { named: 9, ..ReferenceCounts::default() };
        let one = [
            of(ReferenceCounts { dangling: 1, ..none }, 0),
            of(ReferenceCounts { other_case: 1, ..none }, 0),
            of(ReferenceCounts { other_form: 1, ..none }, 0),
            of(none, 1),
            of(ReferenceCounts { shared: 2, ..none }, 0),
        ];
        for (at, references) in one.iter().enumerate() {
            for (other, breach) in Breach::ALL.into_iter().enumerate() {
                assert_eq!(is_broken(Some(references), &[breach]), at == other, "{breach}");
            }
            assert!(is_broken(Some(references), &Breach::ALL) && !is_broken(Some(references), &[]));
        }
        assert!(!is_broken(Some(&of(none, 0)), &Breach::ALL));
        let unchecked = References::unchecked(&[reference], "the point has no files");
        assert!(is_broken(Some(&unchecked), &[Breach::Shared]) && is_broken(None, &[Breach::Shared]));
        assert!(!is_broken(Some(&unchecked), &[]));
    }
}
