//! The key of a record as a person writes it, and the ways in which a record may have it.

use std::borrow::Cow;

use serde_json::Value;

use super::condition::Condition;
use super::no_such_column;
use crate::database::json;
use crate::database::marks::KeyHash;
use crate::database::source::pairs;
use crate::error::{Error, Result};
use crate::point::RecordTable;
use crate::records::{fields, key_places};

/// The most ways in which all columns of a key together may be written.
const MOST_WAYS: usize = 256;

/// A key that was asked for, made out for one table.
#[derive(Debug, Clone)]
pub struct Key {
    /// The names of a record's fields.
    fields: Vec<String>,
    /// Which of them are the key.
    places: Vec<usize>,
    /// The ways in which each of its values may be written.
    ways: Vec<Vec<String>>,
    /// Why there is hardly a record with it.
    unlikely: Option<String>,
}

/// What tells the wanted record from all others.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Its key.
    Key(Key),
    /// The values of some columns of a table whose key is not known.
    Values(Vec<Condition>),
}

/// Makes out which record is meant: `42` or `id=42` for a key of one column, `a=1,b=2`, or a word for each column.
///
/// A value is the column's as the database shows it; `"42"` in quotes is text where a column has numbers, too.
///
/// # Errors
///
/// [`Error::Usage`] for a column that is not there or not of the key, and one that lacks.
pub fn wanted(table: &RecordTable, words: &[String]) -> Result<Wanted> {
    let fields = fields(table);
    let places = key_places(table);
    let names: Vec<&str> = places.iter().map(|place| fields[*place].as_str()).collect();
    if places.is_empty() {
        return by_values(table, &fields, words);
    }
    let given = given(table, &names, words)?;
    let (mut ways, mut unlikely) = (Vec::with_capacity(names.len()), None);
    for (place, value) in places.iter().zip(&given) {
        let declared = place
            .checked_sub(usize::from(table.rowid))
            .map_or("INTEGER", |column| table.columns[column].declared.as_str());
        unlikely = unlikely.or_else(|| odd(table, &fields[*place], declared, value));
        ways.push(written(value, declared));
    }
    if ways.iter().map(Vec::len).product::<usize>() > MOST_WAYS {
        return Err(Error::usage(format!("the key of {} has too many columns to be looked up", table.name)));
    }
    Ok(Wanted::Key(Key { fields, places, ways, unlikely }))
}

/// The value of each column of the key.
fn given(table: &RecordTable, names: &[&str], words: &[String]) -> Result<Vec<String>> {
    let shown = || format!("--pk {}", names.iter().map(|name| format!("{name}=…")).collect::<Vec<_>>().join(","));
    if let ([name], [word]) = (names, words) {
        let after = word.strip_prefix(*name).and_then(|rest| rest.strip_prefix('='));
        return Ok(vec![after.unwrap_or(word).to_owned()]);
    }
    let mut values = vec![None; names.len()];
    for piece in words.iter().flat_map(|word| split(word, names)) {
        let Some((name, value)) = piece.split_once('=') else {
            return Err(Error::usage_hint(
                format!(
                    "the key of {} is {}: `{piece}` does not say which of them it is",
                    table.name,
                    names.join(", ")
                ),
                shown(),
            ));
        };
        let Some(at) = names.iter().position(|known| *known == name) else {
            if fields(table).iter().any(|field| field == name) {
                let (key, find) = (names.join(", "), format!("nexus find {} {name}={value}", table.name));
                return Err(Error::usage_hint(
                    format!("`{name}` is not of the key of {}: that is {key}", table.name),
                    find,
                ));
            }
            return Err(no_such_column(table, name));
        };
        if values[at].replace(value.to_owned()).is_some() {
            return Err(Error::usage(format!("`{name}` is given twice")));
        }
    }
    let all: Option<Vec<String>> = values.iter().cloned().collect();
    all.ok_or_else(|| {
        let lacking: Vec<&str> =
            names.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
        Error::usage_hint(format!("the key of {} lacks {}", table.name, lacking.join(", ")), shown())
    })
}

/// Parts a word at those commas after which a column of the key is named.
fn split<'a>(word: &'a str, names: &[&str]) -> Vec<&'a str> {
    let begins =
        |rest: &str| names.iter().any(|name| rest.strip_prefix(*name).is_some_and(|rest| rest.starts_with('=')));
    let mut pieces = Vec::new();
    let mut from = 0;
    for (at, _) in word.match_indices(',') {
        if begins(&word[at + 1..]) {
            pieces.push(&word[from..at]);
            from = at + 1;
        }
    }
    pieces.push(&word[from..]);
    pieces
}

fn by_values(table: &RecordTable, fields: &[String], words: &[String]) -> Result<Wanted> {
    let names: Vec<&str> = fields.iter().map(String::as_str).collect();
    let mut conditions = Vec::new();
    for piece in words.iter().flat_map(|word| split(word, &names)) {
        let Some((name, value)) = piece.split_once('=') else {
            return Err(Error::usage_hint(
                format!(
                    "nothing says what the key of {} is, so `{piece}` does not say which column is meant",
                    table.name
                ),
                format!("name it: --pk {}={piece}", names.first().copied().unwrap_or("COLUMN")),
            ));
        };
        if !names.contains(&name) {
            return Err(no_such_column(table, name));
        }
        conditions.push(Condition::equal(name, value));
    }
    Ok(Wanted::Values(conditions))
}

/// What is odd about a value for a column of this type; SQLite may hold it there all the same.
fn odd(table: &RecordTable, name: &str, declared: &str, value: &str) -> Option<String> {
    let declared = declared.to_ascii_lowercase();
    let is_a = |what: &str| Some(format!("{value:?} is no {what}, and `{name}`, of the key of {}, is one", table.name));
    let digits = || value.chars().filter(char::is_ascii_hexdigit).count();
    match declared.as_str() {
        known if INTEGERS.contains(&known) && value.trim().parse::<i128>().is_err() => is_a("integer"),
        "uuid" if digits() != 32 => is_a("UUID"),
        _ => None,
    }
}

/// Types that are declared so on either database hold an integer where a value is one.
const INTEGERS: [&str; 4] = ["integer", "bigint", "smallint", "int"];
/// The same of text.
const TEXTS: [&str; 7] = ["text", "varchar", "char", "character", "character varying", "nvarchar", "nchar"];

/// The ways in which a record may have a value that is given so: few where the type is known well, since each costs a look.
fn written(value: &str, declared: &str) -> Vec<String> {
    let named = declared.split('(').next().unwrap_or_default().trim().to_ascii_lowercase();
    if let Ok(number) = value.trim().parse::<i64>()
        && INTEGERS.contains(&named.as_str())
    {
        let mut tagged = Vec::new();
        json::integer(&mut tagged, number);
        // PostgreSQL's are text past what JSON keeps exact, SQLite's are tagged.
        let plain = tagged.first() != Some(&b'{');
        let text = (!plain).then(|| format!("\"{number}\""));
        return String::from_utf8(tagged).into_iter().chain(text).collect();
    }
    let is_text = TEXTS.contains(&named.as_str());
    let mut ways: Vec<String> = Vec::new();
    let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        if let Ok(way) = String::from_utf8(bytes)
            && !ways.contains(&way)
        {
            ways.push(way);
        }
    };
    add(&|to| json::string(to, value));
    if let Some(number) = value.trim().parse::<i64>().ok().filter(|_| !is_text) {
        add(&|to| json::integer(to, number));
    }
    if let Some(number) = value.trim().parse::<f64>().ok().filter(|_| !is_text) {
        // SQLite and PostgreSQL write a real in other ways.
        add(&|to| json::real(to, number));
        add(&|to| to.extend_from_slice(format!("{number}").as_bytes()));
    }
    match value {
        _ if is_text => {}
        "true" | "t" => add(&|to| to.extend_from_slice(b"true")),
        "false" | "f" => add(&|to| to.extend_from_slice(b"false")),
        _ => {}
    }
    if declared.eq_ignore_ascii_case("uuid") {
        add(&|to| json::string(to, &value.to_ascii_lowercase()));
    }
    if let Some(bytes) = super::condition::hexadecimal(value) {
        add(&|to| json::blob(to, &bytes));
    }
    if let Ok(literal) = serde_json::from_str::<Value>(value)
        && !literal.is_number()
    {
        match &literal {
            Value::String(text) => add(&|to| json::string(to, text)),
            other => add(&|to| to.extend_from_slice(other.to_string().as_bytes())),
        }
    }
    ways
}

impl Key {
    /// The hashes under which an index may have it.
    pub(super) fn hashes(&self) -> Vec<u32> {
        let mut hashes = vec![KeyHash::default()];
        for ways in &self.ways {
            let longer = |hash: &KeyHash| {
                let hash = *hash;
                ways.iter().map(move |way| {
                    let mut hash = hash;
                    hash.add(way.as_bytes());
                    hash
                })
            };
            hashes = hashes.iter().flat_map(longer).collect();
        }
        hashes.into_iter().map(KeyHash::upper).collect()
    }

    /// Whether a record has it; none when it is no record of the table.
    pub(super) fn is_of(&self, line: &str) -> Option<bool> {
        let values = pairs(line, &self.fields)?;
        let mut sides = self.places.iter().zip(&self.ways);
        Some(sides.all(|(place, ways)| ways.iter().any(|way| way == values.0[*place].1.get())))
    }

    /// Fails where no record was found since none can have such a key: it was mistyped, most likely.
    pub(super) fn require_likely(&self) -> Result<()> {
        match &self.unlikely {
            Some(why) => {
                Err(Error::usage_hint(why.clone(), "nexus find searches other columns: nexus find TABLE COLUMN=VALUE"))
            }
            None => Ok(()),
        }
    }

    /// The key as names and values of the record that has it.
    pub(super) fn of(&self, line: &str) -> Option<String> {
        let values = pairs(line, &self.fields)?;
        let shown = self.places.iter().map(|place| {
            let value = values.0[*place].1.get();
            let text: Cow<'_, str> = serde_json::from_str::<String>(value).map_or(Cow::Borrowed(value), Cow::Owned);
            format!("{}={text}", self.fields[*place])
        });
        Some(shown.collect::<Vec<_>>().join(","))
    }
}
