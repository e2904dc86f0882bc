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

/// The most ways in which all columns of a key together may be written that are looked up, each by itself.
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
    /// Why there is hardly a record with it, and what to do instead.
    unlikely: Option<(String, String)>,
    /// How the records may have it otherwise.
    otherwise: Option<String>,
}

/// What tells the wanted record from all others.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Its key.
    Key(Key),
    /// The values of some columns of a table whose key is not known.
    Values(Vec<Condition>),
}

/// Makes out which record is meant: `42` or `id=42` for a key of one column; `a=1,b=2`, also as the words `a=1` and `b=2`.
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
    let (mut ways, mut unlikely, mut otherwise) =
        (Vec::with_capacity(names.len()), another(table, &names, words), None);
    for (place, value) in places.iter().zip(&given) {
        let name = fields[*place].as_str();
        let declared = place
            .checked_sub(usize::from(table.rowid))
            .map_or("INTEGER", |column| table.columns[column].declared.as_str());
        unlikely = unlikely.or_else(|| odd(table, name, declared, value));
        otherwise = otherwise.or_else(|| written_otherwise(table, name, declared, value));
        let mut of_value = written(value, declared);
        if let ([word], [_]) = (words, names.as_slice())
            && word != value
            && !INTEGERS.contains(&type_of(declared).as_str())
        {
            // It may be the value itself that begins with the column's name.
            let more = written(word, declared).into_iter().filter(|way| !of_value.contains(way)).collect::<Vec<_>>();
            of_value.extend(more);
        }
        ways.push(of_value);
    }
    Ok(Wanted::Key(Key { fields, places, ways, unlikely, otherwise }))
}

/// Why a word for a key of one column is hardly meant so: it names another column.
fn another(table: &RecordTable, names: &[&str], words: &[String]) -> Option<(String, String)> {
    let ([key], [word]) = (names, words) else { return None };
    let (name, value) = word.split_once('=').filter(|(name, _)| name != key)?;
    fields(table).iter().any(|field| field == name).then(|| not_of_the_key(table, names, (name, value)))
}

/// Says that a column is not of the key, and how it is searched.
fn not_of_the_key(table: &RecordTable, names: &[&str], (name, value): (&str, &str)) -> (String, String) {
    (
        format!("`{name}` is not of the key of {}: that is {}", table.name, names.join(", ")),
        format!("nexus find {} {name}={value}", table.name),
    )
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
                let (what, hint) = not_of_the_key(table, names, (name, value));
                return Err(Error::usage_hint(what, hint));
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
fn odd(table: &RecordTable, name: &str, declared: &str, value: &str) -> Option<(String, String)> {
    let is_a = |what: &str| {
        Some((
            format!("{value:?} is no {what}, and `{name}`, of the key of {}, is one", table.name),
            "nexus find searches other columns: nexus find TABLE COLUMN=VALUE".to_owned(),
        ))
    };
    match type_of(declared).as_str() {
        known if INTEGERS.contains(&known) && value.trim().parse::<i128>().is_err() => is_a("integer"),
        "uuid" if uuid(value).is_none() => is_a("UUID"),
        _ => None,
    }
}

/// How a record may have a value that is written otherwise, said when none has it as it was given.
fn written_otherwise(table: &RecordTable, name: &str, declared: &str, value: &str) -> Option<String> {
    let named = type_of(declared);
    if INTEGERS.contains(&named.as_str()) || named == "uuid" {
        return None;
    }
    let how = if super::condition::is_numeric(declared) {
        format!("nexus find {} {name}={value} compares numbers as numbers", table.name)
    } else if TEXTS.contains(&named.as_str()) {
        format!("nexus find {} '{name}~(?i)^…$' passes over upper and lower case", table.name)
    } else {
        format!("nexus find {} shows how", table.name)
    };
    Some(format!("a key is looked up as the records write `{name}`, letter by letter: {how}"))
}

/// Types that are declared so on either database hold an integer where a value is one.
const INTEGERS: [&str; 4] = ["integer", "bigint", "smallint", "int"];
/// The same of text.
const TEXTS: [&str; 8] = ["text", "varchar", "char", "character", "character varying", "nvarchar", "nchar", "bpchar"];
/// Types whose values PostgreSQL fills up with blanks.
const PADDED: [&str; 3] = ["char", "character", "bpchar"];
/// Types whose values PostgreSQL writes with as many decimal places as they are declared with.
const DECIMALS: [&str; 2] = ["numeric", "decimal"];
/// The most letters that a value is filled up to.
const MOST_PADDED: usize = 10_000;
/// The most decimal places that a value is filled up to.
const MOST_PLACES: usize = 1_000;

/// The name of a declared type, without what stands in parentheses.
fn type_of(declared: &str) -> String {
    declared.split('(').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The numbers that stand in parentheses behind a declared type.
fn sizes(declared: &str) -> Vec<usize> {
    let inner = declared.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(inner, _)| inner);
    inner.split(',').filter_map(|size| size.trim().parse().ok()).collect()
}

/// Both forms of a UUID, with hyphens and without, in lower case.
fn uuid(value: &str) -> Option<[String; 2]> {
    let digits = value.to_ascii_lowercase().replace(['-', '{', '}'], "");
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let hyphenated = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]).join("-");
    Some([hyphenated, digits])
}

/// A decimal number with as many places as its type is declared with.
fn with_places(value: &str, declared: &str) -> Option<String> {
    let places = sizes(declared).get(1).copied().unwrap_or(0).min(MOST_PLACES);
    let value = value.trim();
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_one = !digits.is_empty() && digits.bytes().chain(part.bytes()).all(|digit| digit.is_ascii_digit());
    let part = part.trim_end_matches('0');
    if !is_one || part.len() > places {
        return None;
    }
    Some(if places == 0 { whole.to_owned() } else { format!("{whole}.{part:0<places$}") })
}

/// The ways of writing a value that a type itself brings about: filled up with blanks or zeros, a UUID in both its forms.
fn by_type(value: &str, declared: &str) -> Vec<String> {
    let named = type_of(declared);
    let mut ways = Vec::new();
    let size = sizes(declared).first().copied();
    if let Some(size) = size.filter(|size| PADDED.contains(&named.as_str()) && *size <= MOST_PADDED) {
        ways.push(format!("{value:size$}"));
    }
    // Where there is no type for them, frameworks keep UUIDs as text of one of these lengths.
    let holds_uuids = named == "uuid" || TEXTS.contains(&named.as_str()) && matches!(size, Some(32 | 36));
    if let Some(forms) = uuid(value).filter(|_| holds_uuids) {
        ways.extend(forms);
    }
    // Without a scale PostgreSQL keeps the places that a value was given with.
    if DECIMALS.contains(&named.as_str()) && !sizes(declared).is_empty() {
        ways.extend(with_places(value, declared));
    }
    ways
}

/// The ways in which a record may have a value that is given so: few where the type is known well, since each costs a look.
fn written(value: &str, declared: &str) -> Vec<String> {
    let named = type_of(declared);
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
    for way in by_type(value, declared) {
        add(&|to| json::string(to, &way));
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
    /// Whether the ways in which it may be written are few enough to be looked up each.
    pub(super) fn can_be_hashed(&self) -> bool {
        self.ways.iter().map(Vec::len).try_fold(1_usize, usize::checked_mul).is_some_and(|ways| ways <= MOST_WAYS)
    }

    /// How the records may have it otherwise.
    pub(super) fn otherwise(&self) -> Option<String> {
        self.otherwise.clone()
    }

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
            Some((why, hint)) => Err(Error::usage_hint(why.clone(), hint.clone())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_looked_up_as_its_type_writes_it() {
        for (value, declared, way) in [
            ("ab", "character(4)", "\"ab  \""),
            ("5", "numeric(12,2)", "\"5.00\""),
            ("-5.250", "numeric(12,2)", "\"-5.25\""),
            ("5.0", "numeric(12)", "\"5\""),
            ("0F0E0D0C-0B0A-0908-0706-050403020100", "char(32)", "\"0f0e0d0c0b0a09080706050403020100\""),
            ("0f0e0d0c0b0a09080706050403020100", "uuid", "\"0f0e0d0c-0b0a-0908-0706-050403020100\""),
            ("{0f0e0d0c-0b0a-0908-0706-050403020100}", "uuid", "\"0f0e0d0c-0b0a-0908-0706-050403020100\""),
        ] {
            let ways = written(value, declared);
            assert!(ways.iter().any(|known| known == way), "{value} of {declared}: {ways:?}");
        }
        assert_eq!(with_places("5.255", "numeric(12,2)"), None);
        assert_eq!((written("ab", "text"), written("7", "bigint").len()), (vec!["\"ab\"".to_owned()], 1));
    }

    #[test]
    fn a_key_that_may_be_written_in_very_many_ways_is_still_one() {
        let ways = |columns: usize| Key {
            fields: Vec::new(),
            places: Vec::new(),
            ways: vec![vec!["1".to_owned(), "\"1\"".to_owned()]; columns],
            unlikely: None,
            otherwise: None,
        };
        assert!(ways(8).can_be_hashed() && !ways(9).can_be_hashed() && !ways(200).can_be_hashed());
    }
}
