//! One condition on a column, and what it means for a value of each kind.
//!
//! Numbers are compared as numbers, exactly and however long they are; text by its bytes in UTF-8, so that ISO dates come in
//! their order; what is text in a column whose declared type is one of numbers (PostgreSQL's `numeric`, large `bigint`s) as a number
//! where both are numbers. Blobs are given as `x'00ff'` or `\x00ff`. NULL fits `is null` and nothing else.

use std::cmp::Ordering;

use regex_lite::Regex;

use super::no_such_column;
use super::number::Number;
use crate::database::source::{Field, field};
use crate::error::{Error, Result};
use crate::point::RecordTable;
use crate::records::fields;

/// The operators, longer ones before those that they begin with.
const OPERATORS: [&str; 7] = ["!=", "<=", ">=", "=", "~", "<", ">"];
/// What is taken for a sign by habit, and the sign that is meant.
const MISTAKEN: [(&str, &str); 4] = [("==", "="), ("=~", "~"), ("<>", "!="), ("!~", "")];
/// Words of the names of types whose text is a number.
const NUMERIC: [&str; 22] = [
    "int",
    "integer",
    "tinyint",
    "smallint",
    "mediumint",
    "bigint",
    "int2",
    "int4",
    "int8",
    "serial",
    "smallserial",
    "bigserial",
    "num",
    "number",
    "numeric",
    "dec",
    "decimal",
    "real",
    "float",
    "float4",
    "float8",
    "double",
];
/// Names of types whose numbers are 1 for true and 0 for false, where the database has no other.
const BOOLEAN: [&str; 2] = ["bool", "boolean"];
/// Where a moment has the `T` or the blank between its day and its time.
const BETWEEN: usize = 10;

/// A condition on one column.
#[derive(Debug, Clone)]
pub struct Condition {
    pub(super) column: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    IsNull,
    IsNotNull,
    /// Fits the orders for which the value is so to the one given.
    Ordered(Given, &'static [Ordering]),
    Unequal(Given),
    Matches(Regex),
}

/// A value as it was given.
#[derive(Debug, Clone)]
struct Given {
    text: String,
    /// The same with a blank where a moment has its `T`.
    moment: Option<String>,
    number: Option<Number>,
    truth: Option<bool>,
    blob: Option<Vec<u8>>,
}

/// What a column's declared type says of how its values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Numbers,
    Booleans,
    Other,
}

impl Condition {
    /// That a column has a value.
    pub(super) fn equal(column: &str, value: &str) -> Self {
        Self { column: column.to_owned(), test: Test::Ordered(Given::new(value), &[Ordering::Equal]) }
    }

    /// Reads `column=value`, `column~regex`, `column<value` and the like, `column is null`, `column is not null`.
    ///
    /// Column names may hold anything: the longest name of the table's that it begins with counts. A blank on either side of the
    /// sign belongs to neither side, where there is one before it.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a column that the table does not have, another operator, a regular expression that is none, and what is
    /// no number for a column of numbers.
    pub fn parse(written: &str, table: &RecordTable) -> Result<Self> {
        let names = fields(table);
        let begun = names.iter().filter_map(|name| Some((name, written.strip_prefix(name.as_str())?)));
        let begun = begun.filter(|(_, rest)| operator(rest).is_some()).max_by_key(|(name, _)| name.len());
        let Some((name, rest)) = begun else { return Err(unknown(written, table)) };
        let spaced = rest.starts_with(char::is_whitespace);
        let test = match operator(rest) {
            Some(Operator::IsNull) => Test::IsNull,
            Some(Operator::IsNotNull) => Test::IsNotNull,
            Some(Operator::Mistaken(sign, meant)) => return Err(mistaken(name, rest, (sign, meant))),
            Some(Operator::Sign(sign)) => {
                let value = &rest.trim_start()[sign.len()..];
                test(sign, if spaced { value.strip_prefix(' ').unwrap_or(value) } else { value })?
            }
            None => return Err(unknown(written, table)),
        };
        let condition = Self { column: name.clone(), test };
        let declared = table.columns.iter().find(|column| column.name == *name).map(|column| column.declared.as_str());
        condition.require_comparable(declared.unwrap_or_default())?;
        Ok(condition)
    }

    /// Refuses what no number of a column of numbers can be.
    fn require_comparable(&self, declared: &str) -> Result<()> {
        let (Test::Ordered(given, _) | Test::Unequal(given)) = &self.test else { return Ok(()) };
        // PostgreSQL has a number that is none.
        let is_number = given.number.is_some() || given.text.eq_ignore_ascii_case("nan");
        if sort(declared) != Sort::Numbers || is_number || given.blob.is_some() {
            return Ok(());
        }
        let name = &self.column;
        Err(Error::usage_hint(
            format!("{:?} is no number, and `{name}` is a column of numbers ({declared})", given.text),
            format!("what is text in it all the same is found by a regular expression: {name}~^abc$"),
        ))
    }

    /// The column.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// Whether a value fits, as a record has it; none: the record lacks the column. `declared` is the column's type.
    pub(super) fn fits(&self, value: Option<&str>, declared: &str) -> bool {
        let value = value.filter(|value| *value != "null");
        let Some(raw) = value else { return matches!(self.test, Test::IsNull) };
        // An older tool's records may hold arrays and objects: as they are written.
        let value = field(raw).unwrap_or(Field::Text(raw.into()));
        match &self.test {
            Test::IsNull => false,
            Test::IsNotNull => true,
            Test::Ordered(given, orders) => {
                given.order(&value, sort(declared)).is_some_and(|order| orders.contains(&order))
            }
            Test::Unequal(given) => given.order(&value, sort(declared)) != Some(Ordering::Equal),
            Test::Matches(regex) => text_of(&value).is_some_and(|text| regex.is_match(&text)),
        }
    }
}

enum Operator {
    IsNull,
    IsNotNull,
    Sign(&'static str),
    /// None that there is, and the one that is meant.
    Mistaken(&'static str, &'static str),
}

/// The operator that a text begins with, after blanks.
fn operator(rest: &str) -> Option<Operator> {
    let rest = rest.trim_start();
    if let Some((sign, meant)) = MISTAKEN.into_iter().find(|(sign, _)| rest.starts_with(sign)) {
        return Some(Operator::Mistaken(sign, meant));
    }
    let words: Vec<String> = rest.split_whitespace().take(4).map(str::to_ascii_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["is", "null"] => Some(Operator::IsNull),
        ["is", "not", "null"] => Some(Operator::IsNotNull),
        _ => OPERATORS.into_iter().find(|sign| rest.starts_with(sign)).map(Operator::Sign),
    }
}

/// Says which sign is meant by one that there is not.
fn mistaken(name: &str, rest: &str, (sign, meant): (&str, &str)) -> Error {
    let value = rest.trim_start().strip_prefix(sign).unwrap_or_default().trim_start();
    let what = format!("`{sign}` is no sign of a condition");
    let hint = match sign {
        "!~" => "there is none for what does not match: the rest is left by grep -v, or by jq".to_owned(),
        "<>" => format!("write {name}{meant}{value}"),
        _ => format!(
            "write {name}{meant}{value}; a value that begins with {} stands after blanks: \"{name} = {}{value}\"",
            &sign[1..],
            &sign[1..]
        ),
    };
    Error::usage_hint(what, hint)
}

fn test(sign: &str, value: &str) -> Result<Test> {
    let given = Given::new(value);
    Ok(match sign {
        "=" => Test::Ordered(given, &[Ordering::Equal]),
        "<" => Test::Ordered(given, &[Ordering::Less]),
        ">" => Test::Ordered(given, &[Ordering::Greater]),
        "<=" => Test::Ordered(given, &[Ordering::Less, Ordering::Equal]),
        ">=" => Test::Ordered(given, &[Ordering::Greater, Ordering::Equal]),
        "!=" => Test::Unequal(given),
        _ => {
            let refused = |cause: regex_lite::Error| {
                Error::usage_hint(
                    format!("`{value}` is no regular expression: {cause}"),
                    "a character that means itself is written after a backslash: name~Dr\\.",
                )
            };
            Test::Matches(Regex::new(value).map_err(refused)?)
        }
    })
}

/// Names the column that is not there, or that no operator follows it.
fn unknown(text: &str, table: &RecordTable) -> Error {
    let signs = text.char_indices().find(|(_, letter)| "=~<>!".contains(*letter)).map(|(at, _)| at);
    let spaced = text.to_ascii_lowercase().find(" is ");
    let Some(end) = signs.or(spaced) else {
        return Error::usage_hint(
            format!("`{text}` is no condition"),
            "write column=value, column~regex, column<value, column>=value, column!=value or \"column is null\"",
        );
    };
    let name = text[..end].trim();
    if fields(table).iter().any(|known| known == name) {
        return Error::usage_hint(
            format!("`{text}` is no condition on `{name}`"),
            format!(
                "write {name}=value, {name}~regex, {name}<value, {name}>=value, {name}!=value or \"{name} is null\""
            ),
        );
    }
    no_such_column(table, name)
}

/// Whether values of a declared type are numbers.
pub(super) fn is_numeric(declared: &str) -> bool {
    sort(declared) == Sort::Numbers
}

fn sort(declared: &str) -> Sort {
    // `numeric(12,2)`, `integer unsigned`, `double precision`; an array of numbers is none.
    let named = declared.split('(').next().unwrap_or_default();
    let is_of = |names: &[&str]| {
        named.split_ascii_whitespace().any(|word| names.iter().any(|name| word.eq_ignore_ascii_case(name)))
    };
    if declared.trim_end().ends_with(']') {
        Sort::Other
    } else if is_of(&NUMERIC) {
        Sort::Numbers
    } else if is_of(&BOOLEAN) {
        Sort::Booleans
    } else {
        Sort::Other
    }
}

/// A moment as ISO writes it with a `T`, with a blank instead: databases write it so.
fn with_blank(text: &str) -> Option<String> {
    let shaped = text.bytes().take(BETWEEN).enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    (shaped && text.as_bytes().get(BETWEEN) == Some(&b'T'))
        .then(|| format!("{} {}", &text[..BETWEEN], &text[BETWEEN + 1..]))
}

fn text_of<'a>(value: &'a Field<'a>) -> Option<std::borrow::Cow<'a, str>> {
    Some(match value {
        Field::Text(text) => text.as_ref().into(),
        Field::Number(text) => (*text).into(),
        Field::Integer(text) | Field::Real(text) => text.as_str().into(),
        Field::Boolean(true) => "true".into(),
        Field::Boolean(false) => "false".into(),
        Field::Null | Field::Blob(_) | Field::Bytes(_) => return None,
    })
}

impl Given {
    fn new(text: &str) -> Self {
        let truth = match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Some(true),
            "false" | "f" | "0" => Some(false),
            _ => None,
        };
        let (number, blob) = (Number::parse(text.trim()), hexadecimal(text));
        Self { text: text.to_owned(), moment: with_blank(text), number, truth, blob }
    }

    /// How a value lies to this one; none where the two cannot be compared.
    fn order(&self, value: &Field<'_>, sort: Sort) -> Option<Ordering> {
        match value {
            Field::Null => None,
            Field::Boolean(value) => self.truth.map(|given| value.cmp(&given)),
            // SQLite keeps them as 1 and 0.
            Field::Number("0" | "1") if sort == Sort::Booleans && self.truth.is_some() => {
                let truth = matches!(value, Field::Number("1"));
                self.truth.map(|given| truth.cmp(&given))
            }
            Field::Number(text) => Number::parse(text).zip(self.number.as_ref()).map(|(value, given)| value.cmp(given)),
            Field::Integer(text) | Field::Real(text) => {
                Number::parse(text).zip(self.number.as_ref()).map(|(value, given)| value.cmp(given))
            }
            Field::Text(text) => {
                let numbers = Number::parse(text).zip(self.number.as_ref()).filter(|_| sort == Sort::Numbers);
                // A moment is compared as the column writes it.
                let blank = text.as_bytes().get(BETWEEN) == Some(&b' ');
                let given = self.moment.as_ref().filter(|_| blank).unwrap_or(&self.text);
                Some(match numbers {
                    Some((value, given)) => value.cmp(given),
                    None => text.as_bytes().cmp(given.as_bytes()),
                })
            }
            Field::Bytes(bytes) => Some(bytes.as_slice().cmp(self.text.as_bytes())),
            Field::Blob(bytes) => self.blob.as_ref().map(|given| bytes.cmp(given)),
        }
    }
}

/// The bytes of `x'00ff'` or `\x00ff`.
pub(super) fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let quoted = text.strip_prefix("x'").or_else(|| text.strip_prefix("X'")).and_then(|rest| rest.strip_suffix('\''));
    let digits = quoted.or_else(|| text.strip_prefix("\\x"))?;
    if digits.len() % 2 != 0 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::RecordColumn;

    fn fits(condition: &str, value: &str, declared: &str) -> bool {
        let column = RecordColumn { name: "c".into(), declared: declared.into(), generated: false };
        let table = RecordTable { columns: vec![column], ..table() };
        Condition::parse(condition, &table).expect(condition).fits(Some(value), declared)
    }

    fn table() -> RecordTable {
        RecordTable {
            name: "t".into(),
            table: "t".into(),
            file: "t.json".into(),
            rows: 0,
            bytes: 0,
            sha256: String::new(),
            index: None,
            columns: Vec::new(),
            order: Vec::new(),
            rowid: false,
            sequence: None,
            sequences: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers_however_long_they_are() {
        for (condition, value) in [
            ("c=42", "42"),
            ("c=42", "42.0"),
            ("c=4.2e1", "42"),
            ("c<10", "9"),
            ("c>9007199254740992", r#"{"$int":"9007199254740993"}"#),
            ("c>=-1", "-1"),
            ("c<-1", "-1.5"),
            ("c>1e300", r#"{"$real":"inf"}"#),
            ("c=0", "-0.0"),
            ("c!=1", "2"),
            ("c!=abc", "2"),
            ("c>0.1", "0.10000000000000001"),
        ] {
            assert!(fits(condition, value, ""), "{condition} of {value}");
        }
        assert!(!fits("c=abc", "2", "") && !fits("c<5", "null", "") && !fits("c!=5", "null", ""));
        // Text of a column of numbers is a number; of another it is text.
        assert!(fits("c=42.5", "\"42.50\"", "numeric(10,2)") && !fits("c=42.5", "\"42.50\"", "text"));
        assert!(fits("c<9", "\"10\"", "text") && !fits("c<9", "\"10\"", "bigint"));
    }

    #[test]
    fn text_blobs_and_null_fit_as_they_are() {
        for (condition, value) in [
            ("c=a\nb\"", r#""a\nb\"""#),
            ("c~^Dr\\. ", "\"Dr. No\""),
            ("c~^4", "42"),
            ("c=x'00ff'", r#"{"$blob":"AP8="}"#),
            ("c>=2025-11-01", "\"2025-11-15 06:42:33\""),
            ("c=true", "true"),
            ("c is null", "null"),
            ("c IS NOT NULL", "\"\""),
            ("c=", "\"\""),
            ("c~1, 2", "[1, 2]"),
        ] {
            assert!(fits(condition, value, ""), "{condition} of {value}");
        }
        assert!(!fits("c=", "null", "") && !fits("c is null", "\"\"", ""));
    }

    #[test]
    fn the_longest_column_that_a_condition_begins_with_counts() {
        let column = |name: &str| RecordColumn { name: name.into(), declared: String::new(), generated: false };
        let table = RecordTable { columns: vec![column("a"), column("a=b"), column("is null")], ..table() };
        assert_eq!(Condition::parse("a=b=c", &table).expect("one").column(), "a=b");
        assert_eq!(Condition::parse("a=c", &table).expect("one").column(), "a");
        assert_eq!(Condition::parse("is null is null", &table).expect("one").column(), "is null");
        for (text, named) in
            [("b=1", "no column \"b\""), ("a", "no condition"), ("a+1", "no condition"), ("a~(", "regular")]
        {
            let error = Condition::parse(text, &table).expect_err(text).to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn truth_and_moments_are_compared_as_the_column_writes_them() {
        for (condition, value, declared) in [
            ("c=true", "1", "bool"),
            ("c=f", "0", "BOOLEAN"),
            ("c!=true", "0", "bool"),
            ("c=2025-11-15T06:42:33", "\"2025-11-15 06:42:33\"", "datetime"),
            ("c>2025-11-15T06", "\"2025-11-15 06:42:33\"", "datetime"),
            ("c=2025-11-15T06:42:33", "\"2025-11-15T06:42:33\"", "text"),
        ] {
            assert!(fits(condition, value, declared), "{condition} of {value}");
        }
        assert!(!fits("c=true", "1", "text") && !fits("c=true", "0", "bool") && !fits("c=true", "2", "bool"));
        // A later hour of the same day, whatever stands between them.
        assert!(!fits("c<2025-11-15T06", "\"2025-11-15 07:00:00\"", "datetime"));
    }

    #[test]
    fn a_blank_before_the_sign_takes_one_behind_it_with_it() {
        for condition in ["c = Smith", "c =Smith", "c=Smith", "c ~ ^Smi"] {
            assert!(fits(condition, "\"Smith\"", "text"), "{condition}");
        }
        assert!(fits("c= Smith", "\" Smith\"", "text") && fits("c = =x", "\"=x\"", "text"));
        assert!(fits("c =  Smith", "\" Smith\"", "text"));
    }

    #[test]
    fn what_another_language_writes_is_refused_with_what_is_meant() {
        let column = RecordColumn { name: "c".into(), declared: "integer unsigned".into(), generated: false };
        let table = RecordTable { columns: vec![column], ..table() };
        for (text, hint) in [
            ("c==1", "c=1"),
            ("c == 1", "c=1"),
            ("c=~^1", "c~^1"),
            ("c<>1", "c!=1"),
            ("c!~1", "grep -v"),
            ("c=abc", "c~"),
        ] {
            match Condition::parse(text, &table).expect_err(text) {
                Error::Usage { hint: Some(given), .. } => assert!(given.contains(hint), "{text}: {given}"),
                other => panic!("{text}: {other}"),
            }
        }
        assert!(Condition::parse("c=1e3", &table).is_ok() && Condition::parse("c~abc", &table).is_ok());
    }

    #[test]
    fn only_types_of_numbers_are_taken_for_some() {
        for declared in
            ["INTEGER", "bigint", "numeric(12,2)", "integer unsigned", "double precision", "UNSIGNED BIG INT"]
        {
            assert!(is_numeric(declared), "{declared}");
        }
        for declared in
            ["", "text", "document_number", "fingerprint", "interval", "point", "integer[]", "numeric(4,2)[]"]
        {
            assert!(!is_numeric(declared), "{declared}");
        }
        assert_eq!((hexadecimal("x'+f'"), hexadecimal("x'0f'")), (None, Some(vec![15])));
    }
}
