//! Is a database whole, and what is in it: integrity, foreign keys, facts, rows by table.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::error::{Error, Result};
use crate::event::Events;
use crate::point::SqliteFacts;

use super::open::{Useless, failed, is_damage, keep_more, open_copy};
use super::tables::{Catalogue, Table, catalogue, most_rows, quoted};

/// How many findings of one kind an error or a warning names.
const NAMED_FINDINGS: usize = 5;
/// How many lines of `integrity_check` are read; an app with more rows against its own rules is not looked at further.
const MOST_FINDINGS: usize = 100_000;
/// What a check may take at least, however small the file.
const LEAST_TIME: Duration = Duration::from_mins(2);
/// What a check may take for each MiB of the file: hundreds of times what it does take.
const TIME_PER_MIB: Duration = Duration::from_secs(2);

/// How `integrity_check` words a row that is against a rule of the app's own schema; the file is whole all the same.
///
/// Source: `sqlite3Pragma`, `PragTyp_INTEGRITY_CHECK`. Rules added by editing the schema are never checked against old rows.
const RULE_BREAKS: [&str; 4] = ["NULL value in ", "CHECK constraint failed in ", "non-", " value in "];

/// What an integrity check found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Integrity {
    /// The file is damaged: these are the first lines that say how.
    pub damage: Vec<String>,
    /// Values against a NOT NULL or type rule. SQLite reads no CHECK rules when it opens a file read-only.
    pub rule_breaks: u64,
    /// Tables that need a function or collation only the app has; only their pages were looked at.
    pub unchecked: Vec<String>,
}

/// Checks a private copy, warns of what is odd, and answers its facts and rows by table.
///
/// Pages and foreign keys are read at once. What was read of a copy that is damaged counts for nothing.
pub(super) fn copy(
    copy: &Path,
    source: &Path,
    journal_mode: &str,
    useless: &Useless,
    events: &Events,
) -> Result<(SqliteFacts, BTreeMap<String, u64>)> {
    let (whole, content) = std::thread::scope(|scope| {
        let content = scope.spawn(|| content(copy, source, journal_mode, useless));
        let whole = whole(copy, source, useless);
        if whole.is_err() {
            useless.say();
        }
        (whole, content.join())
    });
    whole?.warn(source, events);
    let (facts, rows, odd) = content.map_err(|_| Error::damaged("reading the database's copy broke off"))??;
    for odd in odd {
        events.warn(odd);
    }
    Ok((facts, rows))
}

/// Checks a private copy whose rows alone are wanted: every page and index, and nothing of what it holds.
pub(super) fn pages(copy: &Path, source: &Path, useless: &Useless, events: &Events) -> Result<()> {
    whole(copy, source, useless)?.warn(source, events);
    Ok(())
}

/// Fails unless every page is as it must be.
fn whole(copy: &Path, source: &Path, useless: &Useless) -> Result<Integrity> {
    let shown = source.display();
    let failed = |cause| failed(format!("cannot check the database `{shown}`"), cause);
    let open = || {
        let mut connection = open_copy(copy)?;
        useless.limit(&mut connection, time_for(copy)).and_then(|()| keep_more(&connection)).map_err(failed)?;
        Ok(connection)
    };
    let connection = open()?;
    let catalogue = catalogue(&connection)?;
    if nothing_is_odd(&connection, open()?, &catalogue) {
        return Ok(Integrity::default());
    }
    let integrity = integrity(&connection, &catalogue).map_err(failed)?;
    if integrity.damage.is_empty() {
        return Ok(integrity);
    }
    Err(Error::damaged_by(
        format!("the database `{shown}` is damaged; nothing was taken from it"),
        integrity.damage.join("; "),
    ))
}

/// True when `integrity_check` would find nothing; false leaves it open.
///
/// It is what takes longest, so its parts are done over two connections at once: the pages of the whole file, which
/// `quick_check` looks at in the same way, and each table against its indexes, which alone it leaves out.
fn nothing_is_odd(connection: &Connection, other: Connection, catalogue: &Catalogue) -> bool {
    let tables = catalogue.tables.iter().chain(&catalogue.inner);
    let of_table =
        |table| (most_rows(connection, table), format!("PRAGMA main.integrity_check({})", quoted(&table.name)));
    let mut checks: Vec<(i64, String)> = tables.map(of_table).collect();
    // The largest one comes first, after the file: none of them is left for the end.
    checks.sort();
    checks.push((i64::MAX, "PRAGMA main.quick_check".to_owned()));
    let checks = Mutex::new(checks);
    let all_well = |connection: &Connection| {
        loop {
            let Ok(next) = checks.lock().map(|mut checks| checks.pop()) else { return false };
            let Some((_, check)) = next else { return true };
            let first_line = connection.query_row(&check, [], |row| row.get::<_, String>(0));
            if !first_line.is_ok_and(|line| line == "ok") {
                return false;
            }
        }
    };
    std::thread::scope(|scope| {
        let all_well = &all_well;
        let second = scope.spawn(move || all_well(&other));
        all_well(connection) & second.join().unwrap_or(false)
    })
}

/// Facts, rows by table, and what is odd in foreign keys.
type Content = (SqliteFacts, BTreeMap<String, u64>, Vec<String>);

fn content(copy: &Path, source: &Path, journal_mode: &str, useless: &Useless) -> Result<Content> {
    let failed = |cause| failed(format!("cannot read the settings of `{}`", source.display()), cause);
    let mut connection = open_copy(copy)?;
    useless.limit(&mut connection, time_for(copy)).map_err(failed)?;
    let catalogue = catalogue(&connection)?;
    let (facts, odd) = facts(&connection, &catalogue, journal_mode).map_err(failed)?;
    Ok((facts, rows(&connection, &catalogue)?, odd))
}

/// The time a check of this file may take.
pub(super) fn time_for(file: &Path) -> Duration {
    let mebibytes = std::fs::metadata(file).map_or(0, |file| file.len() >> 20);
    LEAST_TIME + TIME_PER_MIB * u32::try_from(mebibytes).unwrap_or(u32::MAX / 2)
}

impl Integrity {
    /// Tells what is odd without being damage.
    pub(super) fn warn(&self, source: &Path, events: &Events) {
        if self.rule_breaks > 0 {
            events.warn(format!(
                "{} values of `{}` break a NOT NULL or type rule of its own schema; they are kept as they are",
                self.rule_breaks,
                source.display()
            ));
        }
        if !self.unchecked.is_empty() {
            events.warn(format!(
                "indexes of {} in `{}` need a function or collation that only the app has, and were not checked",
                self.unchecked.join(", "),
                source.display()
            ));
        }
    }
}

/// Runs `integrity_check`, table by table where the whole cannot be done.
pub(super) fn integrity(connection: &Connection, catalogue: &Catalogue) -> rusqlite::Result<Integrity> {
    let mut found = Integrity::default();
    match collect(connection, &format!("PRAGMA main.integrity_check({MOST_FINDINGS})"), &mut found) {
        Ok(()) => return Ok(found),
        Err(cause) if is_damage(&cause) => found.damage.push(cause.to_string()),
        Err(cause) if needs_the_app(&cause) => {
            found = Integrity::default();
            by_table(connection, catalogue, &mut found)?;
        }
        Err(cause) => return Err(cause),
    }
    Ok(found)
}

/// Checks each table on its own, without CHECK rules, which a file opened for writing has: they may call the app's functions.
fn by_table(connection: &Connection, catalogue: &Catalogue, found: &mut Integrity) -> rusqlite::Result<()> {
    connection.pragma_update(None, "ignore_check_constraints", true)?;
    for table in catalogue.tables.iter().chain(&catalogue.inner) {
        match collect(connection, &format!("PRAGMA main.integrity_check({})", quoted(&table.name)), found) {
            Ok(()) => {}
            Err(cause) if is_damage(&cause) => found.damage.push(format!("{}: {cause}", table.name)),
            Err(cause) if needs_the_app(&cause) => found.unchecked.push(format!("`{}`", table.name)),
            Err(cause) => return Err(cause),
        }
    }
    connection.pragma_update(None, "ignore_check_constraints", false)
}

fn needs_the_app(cause: &rusqlite::Error) -> bool {
    cause.sqlite_error_code() == Some(ErrorCode::Unknown)
}

fn collect(connection: &Connection, check: &str, found: &mut Integrity) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(check)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line == "ok" {
        } else if breaks_a_rule(&line) {
            found.rule_breaks += 1;
        } else if found.damage.len() < NAMED_FINDINGS {
            found.damage.push(line);
        }
    }
    Ok(())
}

pub(super) fn breaks_a_rule(line: &str) -> bool {
    let [null, check, non, of_type] = RULE_BREAKS;
    // "non-TEXT value in t.c" and "TEXT value in t.c", but "non-unique entry in index" is damage.
    line.starts_with(null)
        || line.starts_with(check)
        || line.split_once(of_type).is_some_and(|(kind, _)| {
            matches!(kind.strip_prefix(non).unwrap_or(kind), "INT" | "INTEGER" | "REAL" | "TEXT" | "BLOB" | "NUMERIC")
        })
}

fn facts(
    connection: &Connection,
    catalogue: &Catalogue,
    journal_mode: &str,
) -> rusqlite::Result<(SqliteFacts, Vec<String>)> {
    let number = |name: &str| connection.pragma_query_value(Some("main"), name, |row| row.get::<_, i64>(0));
    let (foreign_key_violations, odd) = foreign_keys(connection, catalogue)?;
    let facts = SqliteFacts {
        application_id: number("application_id")?,
        user_version: number("user_version")?,
        page_size: number("page_size")?.unsigned_abs(),
        encoding: connection.pragma_query_value(Some("main"), "encoding", |row| row.get(0))?,
        auto_vacuum: number("auto_vacuum")?,
        journal_mode: journal_mode.to_owned(),
        library: rusqlite::version().to_owned(),
        foreign_key_violations,
    };
    Ok((facts, odd))
}

/// Rows whose foreign key points at nothing, by table, and warnings of tables whose keys contradict the schema.
fn foreign_keys(
    connection: &Connection,
    catalogue: &Catalogue,
) -> rusqlite::Result<(BTreeMap<String, u64>, Vec<String>)> {
    let (mut found, mut odd) = (BTreeMap::new(), Vec::new());
    for table in catalogue.tables.iter().filter(|table| !table.is_virtual) {
        if none_dangles(connection, catalogue, table).unwrap_or(false) {
            continue;
        }
        let check = || {
            let mut statement =
                connection.prepare(&format!("PRAGMA main.foreign_key_check({})", quoted(&table.name)))?;
            let mut rows = statement.query([])?;
            let mut count = 0;
            while rows.next()?.is_some() {
                count += 1;
            }
            Ok(count)
        };
        match check() {
            Ok(0) => {}
            Ok(count) => drop(found.insert(table.name.clone(), count)),
            // "foreign key mismatch": the parent's columns are no key, which SQLite lets a schema say.
            Err(cause) if needs_the_app(&cause) => {
                odd.push(format!("the foreign keys of table `{}` cannot be checked: {cause}", table.name));
            }
            Err(cause) => return Err(cause),
        }
    }
    Ok((found, odd))
}

/// True when it is quickly seen that every foreign key of a table points at something; false leaves it open.
///
/// `foreign_key_check` looks the parents up in the order of the child's rows: a page read for nearly each of them. A join may
/// go by the child's index, hence through the parents in their order. It means the same only where both columns are
/// integers, which no collation and no affinity can tell apart.
fn none_dangles(connection: &Connection, catalogue: &Catalogue, table: &Table) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare(&format!("PRAGMA main.foreign_key_list({})", quoted(&table.name)))?;
    let keys = statement.query_map([], |row| {
        let place: i64 = row.get("seq")?;
        Ok((place, row.get::<_, String>("table")?, row.get::<_, String>("from")?, row.get::<_, Option<String>>("to")?))
    })?;
    for key in keys.collect::<rusqlite::Result<Vec<_>>>()? {
        let (0, parent, from, to) = key else { return Ok(false) };
        let child = table.columns.iter().find(|column| column.name.eq_ignore_ascii_case(&from));
        let parent = catalogue.tables.iter().find(|other| other.name.eq_ignore_ascii_case(&parent));
        let whole = |declared: &str| declared.to_ascii_uppercase().contains("INT");
        let id = parent.and_then(rowid_alias).filter(|id| to.is_none_or(|to| to.eq_ignore_ascii_case(id)));
        let (Some(parent), Some(id), Some(child)) = (parent, id, child.filter(|child| whole(&child.declared))) else {
            return Ok(false);
        };
        let dangling = format!(
            "SELECT EXISTS (SELECT 1 FROM main.{} AS t LEFT JOIN main.{} AS p ON p.{id} = t.{from}
                             WHERE t.{from} IS NOT NULL AND p.{id} IS NULL)",
            quoted(&table.name),
            quoted(&parent.name),
            id = quoted(id),
            from = quoted(&child.name),
        );
        if connection.query_row(&dangling, [], |row| row.get(0))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The column that is another name of the rows' ids, which are always integers.
fn rowid_alias(table: &Table) -> Option<&str> {
    let [key] = table.primary_key.as_slice() else { return None };
    let column = table.columns.iter().find(|column| column.name == *key)?;
    (table.rowid.is_some() && !table.is_virtual && column.declared.eq_ignore_ascii_case("integer")).then_some(key)
}

/// Rows of every table that records are made of.
pub(super) fn rows(connection: &Connection, catalogue: &Catalogue) -> Result<BTreeMap<String, u64>> {
    let counted = catalogue.tables.iter().map(|table| {
        let count = connection
            .query_row(&format!("SELECT count(*) FROM main.{}", quoted(&table.name)), [], |row| row.get::<_, i64>(0))
            .map_err(|cause| failed(format!("cannot count the rows of table `{}`", table.name), cause))?;
        Ok((table.name.clone(), count.unsigned_abs()))
    });
    counted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_against_the_schema_s_rules_are_told_from_damage() {
        for line in
            ["NULL value in t.c", "CHECK constraint failed in t", "non-INTEGER value in t.c", "TEXT value in t.c"]
        {
            assert!(breaks_a_rule(line), "{line}");
        }
        for line in [
            "row 3 missing from index i",
            "non-unique entry in index i",
            "Tree 2 page 3 cell 0: invalid page number 9",
            "wrong # of entries in index i",
        ] {
            assert!(!breaks_a_rule(line), "{line}");
        }
    }
}
