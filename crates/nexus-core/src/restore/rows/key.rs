//! Keys of records as a person writes them, and values of records as they are compared.

use crate::database::source::object;
use crate::database::sqlite::ROWID_FIELD;
use crate::error::{Error, Result};
use crate::point::RecordTable;
use crate::records::fields;

use super::{Asked, FoundRow};

/// The longest text that may be a file's key, bytes.
const LONGEST_KEY: usize = 1_024;
/// Below it every number without decimals is one integer: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The names of the fields that tell a table's records apart; none: it has no key.
pub(super) fn key_names(table: &RecordTable) -> Vec<String> {
    if table.rowid { vec![ROWID_FIELD.to_owned()] } else { table.order.clone() }
}

/// Where fields are in a record.
pub(super) fn places(table: &RecordTable, names: &[String]) -> Option<Vec<usize>> {
    let fields = fields(table);
    names.iter().map(|name| fields.iter().position(|field| field == name)).collect()
}

/// The value that was asked for of each column of the key.
pub(super) fn wanted(table: &RecordTable, asked: &Asked) -> Result<Vec<String>> {
    let names = key_names(table);
    let shown = || {
        let fields: Vec<String> = names.iter().map(|name| format!("{name}=…")).collect();
        format!("--record {}", shell_quoted(&format!("{}/{}", table.name, fields.join(","))))
    };
    match names.as_slice() {
        [] => Err(Error::usage_hint(
            format!("{} has no primary key, so none of its records can be named", table.name),
            "restore the table with --table, or what its rows point at with --with-children",
        )),
        [name] => {
            let value = asked.key.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('='));
            Ok(vec![value.unwrap_or(&asked.key).to_owned()])
        }
        several => {
            let mut values = vec![None; several.len()];
            for piece in split(&asked.key, several) {
                let at = piece.split_once('=').and_then(|(name, value)| {
                    Some((several.iter().position(|known| known == name)?, value.to_owned()))
                });
                let Some((at, value)) = at else {
                    let what = format!("the key of {} is {}, not {piece:?}", table.name, several.join(", "));
                    return Err(Error::usage_hint(what, shown()));
                };
                if values[at].replace(value).is_some() {
                    return Err(Error::usage(format!("`{}` of {} is given twice", several[at], table.name)));
                }
            }
            let all: Option<Vec<String>> = values.into_iter().collect();
            let what =
                || format!("the key of {} is {}: {:?} lacks some of it", table.name, several.join(", "), asked.key);
            all.ok_or_else(|| Error::usage_hint(what(), shown()))
        }
    }
}

/// Parts a key at those commas after which a column of it is named.
fn split<'a>(key: &'a str, names: &[String]) -> Vec<&'a str> {
    let begins = |rest: &str| {
        names.iter().any(|name| rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('=')))
    };
    let (mut pieces, mut from) = (Vec::new(), 0);
    for (at, _) in key.match_indices(',') {
        if begins(&key[at + 1..]) {
            pieces.push(&key[from..at]);
            from = at + 1;
        }
    }
    pieces.push(&key[from..]);
    pieces
}

/// How a record is named, as `--record` takes it: `patients/42`, `pages/document_id=1,no=2`.
pub(super) fn name(table: &RecordTable, names: &[String], values: &[String]) -> String {
    let key = match (names, values) {
        ([_], [value]) => value.clone(),
        _ => names.iter().zip(values).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(","),
    };
    format!("{}/{key}", table.name)
}

/// A value as a person writes it, whether it is a number or a text: a foreign key may be declared otherwise than the key.
pub(super) fn plain(value: &str) -> String {
    match value.as_bytes().first() {
        Some(b'"') => serde_json::from_str(value).unwrap_or_else(|_| value.to_owned()),
        Some(b'{') => {
            let tagged = object(value).and_then(|fields| fields.into_iter().next());
            tagged.and_then(|(_, value)| serde_json::from_str(&value).ok()).unwrap_or_else(|| value.to_owned())
        }
        _ => value.to_owned(),
    }
}

/// A value as it is compared with others: a number without decimals is the integer, which SQLite takes it for.
pub(super) fn comparable(value: &str) -> String {
    if is_real(value)
        && let Ok(number) = value.parse::<f64>()
        && number.fract() == 0.0
        && number.abs() < EXACT
    {
        // Zero has no sign here.
        return format!("{:.0}", number + 0.0);
    }
    plain(value)
}

/// True for a number that is written with decimals or an exponent.
pub(super) fn is_real(value: &str) -> bool {
    value.starts_with(|first: char| first == '-' || first.is_ascii_digit()) && value.contains(['.', 'e', 'E'])
}

/// A word as a POSIX shell takes it: keys are somebody's texts, and commands are pasted.
pub(super) fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The texts in a row that may be keys of files.
pub(super) fn texts(row: &FoundRow) -> Vec<String> {
    let fields = object(&row.line).unwrap_or_default();
    let texts = fields.into_iter().filter(|(_, value)| value.starts_with('"')).map(|(_, value)| plain(&value));
    texts.filter(|text| (1..=LONGEST_KEY).contains(&text.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_parted_only_where_a_column_of_it_follows() {
        let names = ["a".to_owned(), "b".to_owned()];
        assert_eq!(split("a=x,y=1,b=2,3", &names), ["a=x,y=1", "b=2,3"]);
        assert_eq!(split("42", &names), ["42"]);
    }

    #[test]
    fn a_value_is_the_same_as_a_number_and_as_text() {
        for value in ["42", "\"42\"", "{\"$int\":\"42\"}"] {
            assert_eq!(plain(value), "42");
        }
        assert_eq!(plain("\"a\\u00e9\\n\""), "aé\n");
        assert_eq!(plain("null"), "null");
        for value in ["42", "42.0", "4.2e1", "\"42\""] {
            assert_eq!(comparable(value), "42", "{value}");
        }
        for (value, same) in [("-0.0", "0"), ("42.5", "42.5"), ("\"42.0\"", "42.0"), ("1e300", "1e300")] {
            assert_eq!(comparable(value), same, "{value}");
        }
    }

    #[test]
    fn a_key_that_is_pasted_is_one_word_of_the_shell() {
        assert_eq!(shell_quoted("doctor/1"), "'doctor/1'");
        assert_eq!(shell_quoted("doctor/O'Brien; $(x)"), r"'doctor/O'\''Brien; $(x)'");
    }
}
