//! One condition on a column, and what it means for a value of each kind.
//!
//! Numbers are compared as numbers, exactly and however long they are; text by its bytes in UTF-8, so that ISO dates come in
//! their order; what is text in a column whose declared type is one of numbers (PostgreSQL's `numeric`, large `bigint`s) as a number
//! where both are numbers. Blobs are given as `x'00ff'` or `\x00ff`. NULL fits `is null` and nothing else.

use std::cmp::Ordering;

use regex_lite::Regex;

use super::no_such_column;
use crate::database::source::{Field, field};
use crate::error::{Error, Result};
use crate::point::RecordTable;
use crate::records::fields;

/// The operators, longer ones before those that they begin with.
const OPERATORS: [&str; 7] = ["!=", "<=", ">=", "=", "~", "<", ">"];
/// Parts of the names of types whose text is a number.
const NUMERIC: [&str; 7] = ["int", "num", "dec", "real", "double", "float", "serial"];

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
    number: Option<Number>,
    blob: Option<Vec<u8>>,
}

impl Condition {
    /// That a column has a value.
    pub(super) fn equal(column: &str, value: &str) -> Self {
        Self { column: column.to_owned(), test: Test::Ordered(Given::new(value), &[Ordering::Equal]) }
    }

    /// Reads `column=value`, `column~regex`, `column<value` and the like, `column is null`, `column is not null`.
    ///
    /// Column names may hold anything: the longest name of the table's that it begins with counts.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a column that the table does not have, another operator, a regular expression that is none.
    pub fn parse(written: &str, table: &RecordTable) -> Result<Self> {
        let names = fields(table);
        let begun = names.iter().filter_map(|name| Some((name, written.strip_prefix(name.as_str())?.trim_start())));
        let begun = begun.filter(|(_, rest)| operator(rest).is_some()).max_by_key(|(name, _)| name.len());
        let Some((name, rest)) = begun else { return Err(unknown(written, table)) };
        let test = match operator(rest) {
            Some(Operator::IsNull) => Test::IsNull,
            Some(Operator::IsNotNull) => Test::IsNotNull,
            Some(Operator::Sign(sign)) => test(sign, &rest[sign.len()..])?,
            None => return Err(unknown(written, table)),
        };
        Ok(Self { column: name.clone(), test })
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
                given.order(&value, is_numeric(declared)).is_some_and(|order| orders.contains(&order))
            }
            Test::Unequal(given) => given.order(&value, is_numeric(declared)) != Some(Ordering::Equal),
            Test::Matches(regex) => text_of(&value).is_some_and(|text| regex.is_match(&text)),
        }
    }
}

enum Operator {
    IsNull,
    IsNotNull,
    Sign(&'static str),
}

/// The operator that a text begins with.
fn operator(rest: &str) -> Option<Operator> {
    let words: Vec<String> = rest.split_whitespace().take(4).map(str::to_ascii_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["is", "null"] => Some(Operator::IsNull),
        ["is", "not", "null"] => Some(Operator::IsNotNull),
        _ => OPERATORS.into_iter().find(|sign| rest.starts_with(sign)).map(Operator::Sign),
    }
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

fn is_numeric(declared: &str) -> bool {
    let declared = declared.to_ascii_lowercase();
    NUMERIC.iter().any(|part| declared.contains(part)) && !declared.contains("interval") && !declared.contains("point")
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
        Self { text: text.to_owned(), number: Number::parse(text.trim()), blob: hexadecimal(text) }
    }

    /// How a value lies to this one; none where the two cannot be compared.
    fn order(&self, value: &Field<'_>, numeric: bool) -> Option<Ordering> {
        match value {
            Field::Null => None,
            Field::Boolean(value) => {
                let given = match self.text.to_ascii_lowercase().as_str() {
                    "true" | "t" | "1" => true,
                    "false" | "f" | "0" => false,
                    _ => return None,
                };
                Some(value.cmp(&given))
            }
            Field::Number(text) => Number::parse(text).zip(self.number.as_ref()).map(|(value, given)| value.cmp(given)),
            Field::Integer(text) | Field::Real(text) => {
                Number::parse(text).zip(self.number.as_ref()).map(|(value, given)| value.cmp(given))
            }
            Field::Text(text) => {
                let numbers = Number::parse(text).zip(self.number.as_ref()).filter(|_| numeric);
                Some(match numbers {
                    Some((value, given)) => value.cmp(given),
                    None => text.as_bytes().cmp(self.text.as_bytes()),
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
    if digits.len() % 2 != 0 || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}

/// A decimal number of any length, compared exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Number {
    negative: bool,
    /// How many digits stand before the point; less than none for small ones.
    exponent: i64,
    /// Without zeros at either end; none of the number is zero.
    digits: Vec<u8>,
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if matches!(rest.to_ascii_lowercase().as_str(), "inf" | "infinity") {
            return Some(Self { negative, exponent: i64::MAX, digits: vec![b'1'] });
        }
        let (mantissa, power) = match rest.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power.parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit());
        if whole.len() + part.len() == 0 || !all_digits {
            return None;
        }
        let mut digits: Vec<u8> = whole.bytes().chain(part.bytes()).collect();
        let leading = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..leading);
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let before = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()?;
        let zero = digits.is_empty();
        Some(Self {
            negative: negative && !zero,
            exponent: if zero { i64::MIN } else { before + i64::from(power) },
            digits,
        })
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = || (self.exponent, &self.digits).cmp(&(other.exponent, &other.digits));
        match (self.negative, other.negative) {
            (false, false) => size(),
            (true, true) => size().reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
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
}
