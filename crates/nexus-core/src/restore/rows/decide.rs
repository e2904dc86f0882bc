//! What becomes of each row: held against the row of its key that is there, the columns that there are, and the rows that it points at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use crate::database::load::{Conflict, FewRows};
use crate::database::relations::{Ask, Schema, Seen};
use crate::database::source::object;
use crate::database::sqlite::ROWID_FIELD;
use crate::database::{Database, json};
use crate::error::{Error, Result};
use crate::local::{Scratch, create_private};
use crate::point::{RecordColumn, RecordTable};

use super::gather::{FoundRow, FoundTable};
use super::key::{comparable, name, plain, shell_quoted};
use super::{Fate, Gathered, Obstacle, PlannedRow, RowsPlanned};

/// How rows that are there with other values are replaced.
const REPLACE: &str = "--overwrite replaces rows and files that are there with other values";

/// A table of rows, as it can be put into the table that is there.
struct Fitting<'a> {
    found: &'a FoundTable,
    /// The columns that both have.
    records: RecordTable,
    /// The names of those that tell rows apart; all where the table has no key.
    key: Vec<String>,
    /// True when the table has a key.
    keyed: bool,
    /// What each row's shared columns hold.
    lines: Vec<Line>,
}

/// The names and values of a row.
type Line = Vec<(String, String)>;

/// A row that is put into its table, and the one of its key that is there now.
type Put<'a> = (&'a FoundRow, &'a Line, Option<String>);

/// Parents before children, as far as they do not point at one another in a circle.
pub(super) fn parents_first(found: Vec<FoundTable>, schema: &Schema) -> Vec<FoundTable> {
    let (mut rest, mut ordered) = (found, Vec::new());
    while !rest.is_empty() {
        let next = {
            let left: BTreeSet<&str> = rest.iter().map(|table| table.records.table.as_str()).collect();
            // All that a table waits for waits for it in turn.
            let is_next = |table: &FoundTable| {
                let own = table.records.table.as_str();
                let above = waits_for(own, &left, schema);
                above.into_iter().all(|other| waits_for(other, &left, schema).contains(own))
            };
            rest.iter().position(is_next).unwrap_or(0)
        };
        ordered.push(rest.remove(next));
    }
    ordered
}

/// The tables among these that one points at, and those that they point at.
fn waits_for<'a>(table: &str, among: &BTreeSet<&'a str>, schema: &Schema) -> BTreeSet<&'a str> {
    let mut above: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = vec![table];
    while let Some(child) = open.pop() {
        for key in schema.keys.iter().filter(|key| key.table == child && key.parent != key.table) {
            if let Some(parent) = among.get(key.parent.as_str()).copied()
                && above.insert(parent)
            {
                open.push(parent);
            }
        }
    }
    above
}

pub(super) async fn decide(
    found: &Gathered,
    (database, schema): (&Database, &Schema),
    present: Conflict,
    (lock_wait, scratch): (Duration, &Scratch),
) -> Result<RowsPlanned> {
    let (notes, obstacles) = (found.notes.clone(), found.obstacles.clone());
    let mut planned = RowsPlanned { obstacles, notes, ..RowsPlanned::default() };
    let mut fitting = Vec::new();
    for table in &found.tables {
        fitting.extend(fit(table, schema, &mut planned.obstacles));
    }
    let asks = fitting.iter().flat_map(|table| table.lines.iter().map(|line| table.ask(line))).collect();
    let mut there = database.rows_at(asks, lock_wait).await?.into_iter();
    for (at, table) in fitting.iter().enumerate() {
        let mut put = Vec::new();
        for (row, line) in table.found.rows.iter().zip(&table.lines) {
            let (fate, now) = table.fate(line, there.next().flatten());
            if let (Fate::Other(columns), true) = (&fate, present != Conflict::Overwrite) {
                let columns: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
                planned.obstacles.push(Obstacle {
                    what: format!("{} is there with another {}", row.name, columns.join(", ")),
                    remedy: Some(REPLACE.to_owned()),
                });
            }
            if fate != Fate::Same {
                if now.is_some() {
                    planned.replaced.push(own_name(&table.records, row));
                }
                put.push((row, line, now));
            } else if let Some(now) = now {
                planned.seen.push(Seen { ask: table.ask(line), line: now });
            }
            if fate == Fate::Same && !table.tells(line) && table.lines.iter().filter(|other| *other == line).count() > 1
            {
                planned.obstacles.push(Obstacle {
                    what: format!(
                        "{} has no key and had several rows like {}, some of which are there",
                        table.records.table, row.name
                    ),
                    remedy: Some(format!(
                        "--table {} --mode add-missing counts them",
                        shell_quoted(&table.records.name)
                    )),
                });
            }
            planned.rows.push(PlannedRow { name: row.name.clone(), fate });
        }
        if !put.is_empty() {
            planned.few.push(table.write(&put, &scratch.file(&format!("rows-to-put-{at}.json")))?);
        }
    }
    let lacking = parents(&fitting, &planned, (database, schema), lock_wait).await?;
    let taken = taken(&fitting, &planned, (database, schema), lock_wait).await?;
    planned.obstacles.extend(lacking.into_iter().chain(taken));
    Ok(planned)
}

/// A row's name by its table's own name, which every point of the database knows.
fn own_name(records: &RecordTable, row: &FoundRow) -> String {
    format!("{}{}", records.table, row.name.strip_prefix(&records.name).unwrap_or(&row.name))
}

/// Brings a table's rows to the columns that there are; what stands in the way is named.
fn fit<'a>(found: &'a FoundTable, schema: &'a Schema, obstacles: &mut Vec<Obstacle>) -> Option<Fitting<'a>> {
    let (records, table) = (&found.records, &found.records.table);
    let Some(live) = schema.tables.get(table) else {
        obstacles.push(Obstacle {
            what: format!("there is no table {table} any more"),
            remedy: Some("restore the database with --only database".to_owned()),
        });
        return None;
    };
    let mut columns: Vec<RecordColumn> = Vec::new();
    let rows: Vec<BTreeMap<String, String>> =
        found.rows.iter().map(|row| object(&row.line).unwrap_or_default().into_iter().collect()).collect();
    for column in &records.columns {
        match live.column(&column.name) {
            Some(there) => columns.push(RecordColumn { generated: there.generated, ..column.clone() }),
            None if column.generated => {}
            None => {
                let lost = rows.iter().filter(|row| row.get(&column.name).is_some_and(|value| value != "null")).count();
                if lost > 0 {
                    obstacles.push(Obstacle {
                        what: format!(
                            "{table} has no column `{}` any more, and {lost} of the rows have a value there",
                            column.name
                        ),
                        remedy: Some("--to-json writes the records, whatever the tables are now".to_owned()),
                    });
                }
            }
        }
    }
    let known = |name: &String| records.columns.iter().any(|column| column.name == *name);
    for column in live.columns.iter().filter(|column| column.required && !known(&column.name)) {
        obstacles.push(Obstacle {
            what: format!("{table} has a new column `{}` that must have a value, and the point has none", column.name),
            remedy: Some("give the column a default, or write the records with --to-json".to_owned()),
        });
    }
    let shared: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let keyed = !live.key.is_empty() && live.key.iter().all(|name| shared.contains(name));
    let stored = || columns.iter().filter(|column| !column.generated).map(|column| column.name.clone()).collect();
    let key = if keyed { live.key.clone() } else { stored() };
    let of = |row: &BTreeMap<String, String>| {
        shared.iter().filter_map(|name| Some((name.clone(), row.get(name)?.clone()))).collect()
    };
    let lines = rows.iter().map(of).collect();
    let mut reduced = RecordTable { columns, sequence: None, rows: 0, ..records.clone() };
    reduced.sequences.retain(|name, _| shared.contains(name));
    Some(Fitting { found, records: reduced, key, keyed, lines })
}

fn fate(line: &[(String, String)], now: Option<&str>) -> Fate {
    let Some(now) = now else { return Fate::Added };
    let now: BTreeMap<String, String> = object(now).unwrap_or_default().into_iter().collect();
    let other = line.iter().filter(|(name, value)| now.get(name) != Some(value)).map(|(name, _)| name.clone());
    let other: Vec<String> = other.collect();
    if other.is_empty() { Fate::Same } else { Fate::Other(other) }
}

impl Fitting<'_> {
    /// True when a row's key tells it from all others: one with NULL in it does not.
    fn tells(&self, line: &[(String, String)]) -> bool {
        self.keyed && !line.iter().any(|(name, value)| value == "null" && self.key.contains(name))
    }

    /// True when the database computes a column.
    fn computes(&self, name: &str) -> bool {
        self.records.columns.iter().any(|column| column.generated && column.name == name)
    }

    fn ask(&self, line: &[(String, String)]) -> Ask {
        let keyed = self.tells(line);
        let counts = |name: &String| if keyed { self.key.contains(name) } else { !self.computes(name) };
        let by = line.iter().filter(|(name, _)| counts(name)).cloned().collect();
        let columns = self.records.columns.iter().map(|column| column.name.clone()).collect();
        Ask { table: self.records.table.clone(), columns, by, keyed }
    }

    /// What becomes of a row, and the one that is there, where it is it.
    fn fate(&self, line: &[(String, String)], now: Option<String>) -> (Fate, Option<String>) {
        match fate(line, now.as_deref()) {
            // Without a key it is the row that has all its values, and no other is ever replaced.
            Fate::Other(columns) if !self.tells(line) => {
                let same = columns.iter().all(|name| self.computes(name));
                if same { (Fate::Same, now) } else { (Fate::Added, None) }
            }
            fate => (fate, now),
        }
    }

    /// Writes rows as a record file of the columns that there are.
    fn write(&self, rows: &[Put<'_>], path: &std::path::Path) -> Result<FewRows> {
        let mut text = b"[\n".to_vec();
        let mut records = RecordTable { rows: rows.len() as u64, ..self.records.clone() };
        for (column, value) in &mut records.sequences {
            let values = rows.iter().filter_map(|(_, line, _)| line.iter().find(|(name, _)| name == column));
            *value = values.filter_map(|(_, value)| plain(value).parse().ok()).max().unwrap_or(i64::MIN);
        }
        records.sequences.retain(|_, value| *value != i64::MIN);
        for (at, (row, line, _)) in rows.iter().enumerate() {
            text.push(b'{');
            let rowid = object(&row.line).unwrap_or_default().into_iter().find(|(name, _)| name == ROWID_FIELD);
            let all = rowid.iter().filter(|_| records.rowid).chain(line.iter());
            for (nth, (name, value)) in all.enumerate() {
                if nth > 0 {
                    text.push(b',');
                }
                json::string(&mut text, name);
                text.push(b':');
                text.extend_from_slice(value.as_bytes());
            }
            text.extend_from_slice(if at + 1 < rows.len() { b"},\n" } else { b"}\n" });
        }
        text.extend_from_slice(b"]\n");
        let written = create_private(path)?.write_all(&text);
        written.map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
        let place = |name: &String| records.columns.iter().position(|column| column.name == *name);
        let key = self.key.iter().filter_map(place).collect();
        let present = rows.iter().map(|(_, _, now)| now.clone()).collect();
        Ok(FewRows { records, key, keyed: self.keyed, file: path.to_owned(), present })
    }
}

/// Rows that these point at and that are neither there nor among them.
async fn parents(
    tables: &[Fitting<'_>],
    planned: &RowsPlanned,
    (database, schema): (&Database, &Schema),
    lock_wait: Duration,
) -> Result<Vec<Obstacle>> {
    let same: BTreeSet<&str> =
        planned.rows.iter().filter(|row| row.fate == Fate::Same).map(|row| row.name.as_str()).collect();
    let (mut asks, mut words) = (Vec::new(), Vec::new());
    for table in tables {
        for key in schema.keys.iter().filter(|key| key.table == table.records.table) {
            for (row, line) in table.found.rows.iter().zip(&table.lines) {
                let values: Option<Vec<String>> = key
                    .columns
                    .iter()
                    .map(|name| Some(line.iter().find(|(known, _)| known == name)?.1.clone()))
                    .collect();
                let Some(values) = values.filter(|values| !values.iter().any(|value| value == "null")) else {
                    continue;
                };
                if same.contains(row.name.as_str()) || holds(tables, (&key.parent, &key.parent_columns), &values) {
                    continue;
                }
                let by = key.parent_columns.iter().cloned().zip(values.iter().cloned()).collect();
                asks.push(Ask { table: key.parent.clone(), columns: key.parent_columns.clone(), by, keyed: true });
                let named: Vec<String> = values.iter().map(|value| plain(value)).collect();
                let parent = RecordTable { name: key.parent.clone(), ..table.records.clone() };
                words.push((row.name.clone(), name(&parent, &key.parent_columns, &named)));
            }
        }
    }
    let there = database.rows_at(asks, lock_wait).await?;
    let lacking = there.into_iter().zip(words).filter(|(row, _)| row.is_none());
    Ok(lacking
        .map(|(_, (row, parent))| Obstacle {
            what: format!("{row} points at {parent}, which is not there"),
            remedy: Some(format!("add --record {}, if the point has it", shell_quoted(&parent))),
        })
        .collect())
}

/// Rows without a key that were asked for by their ids, which other rows have by now: they may be those with newer values.
async fn taken(
    tables: &[Fitting<'_>],
    planned: &RowsPlanned,
    (database, schema): (&Database, &Schema),
    lock_wait: Duration,
) -> Result<Vec<Obstacle>> {
    let added: BTreeSet<&str> =
        planned.rows.iter().filter(|row| row.fate == Fate::Added).map(|row| row.name.as_str()).collect();
    let (mut asks, mut words) = (Vec::new(), Vec::new());
    let has_key = |table: &str| schema.tables.get(table).is_none_or(|live| !live.key.is_empty());
    for table in tables.iter().filter(|table| table.records.rowid && !has_key(&table.records.table)) {
        let asked = table.found.rows.iter().filter(|row| row.asked && added.contains(row.name.as_str()));
        for row in asked {
            let fields = object(&row.line).unwrap_or_default().into_iter();
            let by: Vec<(String, String)> = fields.filter(|(name, _)| name == ROWID_FIELD).collect();
            let columns = table.records.columns.iter().map(|column| column.name.clone()).collect();
            asks.push(Ask { table: table.records.table.clone(), columns, by, keyed: true });
            words.push((row.name.clone(), table.records.name.clone()));
        }
    }
    let there = database.rows_at(asks, lock_wait).await?;
    let taken = there.into_iter().zip(words).filter(|(row, _)| row.is_some());
    Ok(taken
        .map(|(_, (row, table))| Obstacle {
            what: format!("{row} is there with other values, and without a key nothing tells whether it is that row"),
            remedy: Some(format!(
                "remove or move the row that is there, or --table {} --mode add-missing, which adds it beside that one",
                shell_quoted(&table)
            )),
        })
        .collect())
}

/// True when one of the tables has a row with these values.
fn holds(tables: &[Fitting<'_>], (parent, columns): (&str, &[String]), values: &[String]) -> bool {
    let Some(table) = tables.iter().find(|table| table.records.table == parent) else { return false };
    table.lines.iter().any(|line| {
        columns.iter().zip(values).all(|(name, value)| {
            line.iter().any(|(known, there)| known == name && comparable(there) == comparable(value))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::relations::ForeignKey;

    fn table(name: &str) -> FoundTable {
        let records = RecordTable {
            name: name.to_owned(),
            table: name.to_owned(),
            file: String::new(),
            rows: 0,
            bytes: 0,
            sha256: String::new(),
            index: None,
            columns: Vec::new(),
            order: Vec::new(),
            rowid: false,
            sequence: None,
            sequences: BTreeMap::new(),
        };
        FoundTable { records, rows: Vec::new() }
    }

    #[test]
    fn a_circle_waits_for_what_it_points_at_and_what_points_at_it_for_its_parent() {
        let key = |(child, parent): (&str, &str)| ForeignKey {
            table: child.to_owned(),
            columns: Vec::new(),
            parent: parent.to_owned(),
            parent_columns: Vec::new(),
            exact: true,
        };
        let arrows = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "d")];
        let schema = Schema { keys: arrows.map(key).to_vec(), ..Schema::default() };
        let ordered = parents_first(["a", "b", "c", "d"].map(table).to_vec(), &schema);
        let shown: Vec<&str> = ordered.iter().map(|table| table.records.table.as_str()).collect();
        assert_eq!(shown, ["d", "b", "a", "c"]);
    }
}
