//! Under which name a table's records go, and in which file.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// How file names of records end.
const ENDING: &str = ".json";
/// The longest file name, bytes.
const LONGEST: usize = 200;
/// What is added to tell names apart that would be the same file: a dash and hexadecimal digits of a hash.
const HASH_DIGITS: usize = 8;
/// File names that mean something else in a folder of records.
const TAKEN: [&str; 1] = ["backup_summary"];
/// How many names an error suggests.
const SUGGESTIONS: usize = 3;
/// The longest name that is compared with others letter by letter.
const LONGEST_COMPARED: usize = 100;

/// A table with the name of its records and their file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named<'a> {
    /// The name the records go by.
    pub name: &'a str,
    /// The table.
    pub table: &'a str,
    /// The file.
    pub file: String,
}

/// Gives each table its record name: the one that `names` (record name to table) says, else its own.
///
/// The answer is in the order of the record names, each of which is there once.
pub(super) fn named<'a>(tables: &[&'a str], names: &'a BTreeMap<String, String>) -> Result<Vec<Named<'a>>> {
    let mut by_table: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, table) in names {
        if !tables.contains(&table.as_str()) {
            return Err(unknown(name, table, tables));
        }
        if let Some(other) = by_table.insert(table, name) {
            return Err(Error::usage(format!("the table `{table}` is given two record names, `{other}` and `{name}`")));
        }
    }
    let mut by_name: BTreeMap<&str, &str> = BTreeMap::new();
    for table in tables {
        let name = by_table.get(table).copied().unwrap_or(table);
        if let Some(other) = by_name.insert(name, table) {
            return Err(Error::usage_hint(
                format!("the records of `{other}` and of `{table}` would both go by the name `{name}`"),
                format!("give the table `{name}` another record name as well"),
            ));
        }
    }
    let mut files = BTreeSet::new();
    Ok(by_name.into_iter().map(|(name, table)| Named { name, table, file: file(name, &mut files) }).collect())
}

fn unknown(name: &str, table: &str, tables: &[&str]) -> Error {
    let close = like(table, tables.iter().copied());
    let hint = if close.is_empty() {
        "the records' tables are named as in the database".to_owned()
    } else {
        format!("the database has {}", close.join(", "))
    };
    Error::usage_hint(format!("the records `{name}` are to come from the table `{table}`, which does not exist"), hint)
}

/// The names that may have been meant by one that is none of them, the likeliest first.
pub(crate) fn alike<'a>(name: &str, known: &[&'a str]) -> Vec<&'a str> {
    let mut close: Vec<(usize, &str)> = known.iter().map(|known| (distance(name, known), *known)).collect();
    close.sort_unstable();
    close.dedup();
    let few = name.chars().count().div_ceil(4);
    let is_close = |(distance, known): &(usize, &str)| *distance <= few || known.contains(name) || name.contains(known);
    close.into_iter().filter(is_close).take(SUGGESTIONS).map(|(_, known)| known).collect()
}

/// The same in backquotes, as a message has them.
pub(crate) fn like<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    alike(name, &known.collect::<Vec<_>>()).into_iter().map(|known| format!("`{known}`")).collect()
}

/// How many letters have to be changed, added or removed to make one name of the other.
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(LONGEST_COMPARED).flat_map(char::to_lowercase).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().take(LONGEST_COMPARED).flat_map(char::to_lowercase).enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, against) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *against);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// A file name for a record name: no separators, no hidden file, no two that differ in case alone, at most 200 bytes.
///
/// What a file name should not have becomes `_`; where that, the length or the case makes two names one, a part of the
/// name's SHA-256 is added.
fn file(name: &str, files: &mut BTreeSet<String>) -> String {
    let kept = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let mut stem: String = name.chars().map(|letter| if kept(letter) { letter } else { '_' }).collect();
    if stem.is_empty() || stem.starts_with(['.', '-']) {
        stem.replace_range(..stem.chars().next().map_or(0, char::len_utf8), "_");
    }
    let room = LONGEST - ENDING.len() - HASH_DIGITS - 1;
    let cut = (0..=room.min(stem.len())).rev().find(|end| stem.is_char_boundary(*end)).unwrap_or(0);
    let taken = |stem: &str, files: &BTreeSet<String>| {
        TAKEN.contains(&stem.to_lowercase().as_str()) || files.contains(&stem.to_lowercase())
    };
    if cut < stem.len() || taken(&stem, files) {
        stem.truncate(cut);
        stem.push('-');
        stem.push_str(&crate::point::hexadecimal(&Sha256::digest(name))[..HASH_DIGITS]);
        // Somebody may have named a table just so.
        while taken(&stem, files) {
            stem.push('_');
        }
    }
    files.insert(stem.to_lowercase());
    stem.push_str(ENDING);
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<String> {
        let mut files = BTreeSet::new();
        names.iter().map(|name| file(name, &mut files)).collect()
    }

    #[test]
    fn no_name_leaves_the_folder_or_hides_in_it() {
        let odd = [
            "../evil",
            "/etc/passwd",
            "",
            ".",
            "..",
            ".hidden",
            "a/b.csv",
            "a\0b",
            "a\u{202e}b",
            "-rf",
            "a b",
            "\u{1b}[31m",
        ];
        for name in files(&odd) {
            assert!(!name.contains(['/', '\0', ' ', '\u{1b}', '\u{202e}']), "{name:?}");
            assert!(!name.starts_with(['.', '-']), "{name:?}");
        }
        assert_eq!(
            files(&["a/b.csv", "pacienti_č", "clinic_patient"]),
            ["a_b.csv.json", "pacienti_č.json", "clinic_patient.json"]
        );
    }

    #[test]
    fn names_that_would_be_one_file_stay_apart() {
        let long = "x".repeat(300);
        let longer = format!("{long}y");
        let names = ["Patient", "patient", "a/b", "a_b", "a\\b", "backup_summary", &long, &longer];
        let made = files(&names);
        let distinct: BTreeSet<String> = made.iter().map(|name| name.to_lowercase()).collect();
        assert_eq!(distinct.len(), names.len());
        assert!(!distinct.contains("backup_summary.json"));
        assert!(made.iter().all(|name| name.len() <= LONGEST));
        assert!(files(&["č".repeat(150).as_str()])[0].len() <= LONGEST);
    }

    #[test]
    fn a_table_that_does_not_exist_is_refused_with_those_that_are_like_it() {
        let names = BTreeMap::from([("patients".to_owned(), "clinic_patients".to_owned())]);
        let error = named(&["auth_user", "clinic_patient", "clinic_document"], &names).expect_err("unknown");
        assert!(matches!(error, Error::Usage { hint: Some(hint), .. } if hint == "the database has `clinic_patient`"));
    }

    #[test]
    fn tables_without_a_record_name_go_under_their_own() {
        let names = BTreeMap::from([("patients".to_owned(), "clinic_patient".to_owned())]);
        let made = named(&["auth_user", "clinic_patient"], &names).expect("names");
        let shown: Vec<(&str, &str)> = made.iter().map(|named| (named.name, named.table)).collect();
        assert_eq!(shown, [("auth_user", "auth_user"), ("patients", "clinic_patient")]);
    }

    #[test]
    fn two_tables_under_one_name_are_refused() {
        let names = BTreeMap::from([("patient".to_owned(), "clinic_patient".to_owned())]);
        assert!(matches!(named(&["clinic_patient", "patient"], &names), Err(Error::Usage { .. })));
    }
}
