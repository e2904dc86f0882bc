//! Numbers, times and names as a person reads them. Pure functions.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

pub use nexus_core::event::size;

/// A number with its thousands apart: `17,541`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun: `1 file`, `2 files`.
pub fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// How long something took: `0.3 s`, `12.4 s`, `3 min 20 s`.
pub fn took(milliseconds: u64) -> String {
    match milliseconds {
        0..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
        _ => format!("{} h {} min", milliseconds / 3_600_000, milliseconds % 3_600_000 / 60_000),
    }
}

/// How far apart two moments are, in the largest unit that fits: `3 days`.
pub fn distance(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().saturating_sub(from.as_second()).unsigned_abs();
    match seconds {
        0..60 => counted(seconds, "second"),
        60..3_570 => counted(rounded(seconds, 60), "minute"),
        3_570..171_000 => counted(rounded(seconds, 3_600), "hour"),
        _ => counted(rounded(seconds, 86_400), "day"),
    }
}

fn rounded(seconds: u64, unit: u64) -> u64 {
    (seconds + unit / 2) / unit
}

/// A moment to the second in UTC: `2025-11-15 06:42:33 UTC`.
pub fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The word that a value of a closed set is stored as: `left-out`.
pub fn word<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned));
    text.unwrap_or_else(|| "unknown".to_owned())
}

/// A text from outside on one line: control characters and those that turn the reading direction are spelled out.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || is_invisible(letter) {
            // Writing to a string cannot fail.
            let _ = write!(safe, "\\u{{{:x}}}", u32::from(letter));
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// Characters that change how their neighbours look without being seen themselves.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A word as a POSIX shell takes it.
pub fn shell_quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A command line as a POSIX shell takes it.
pub fn command_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(shell_quoted).collect::<Vec<_>>().join(" ")
}

/// A text whose URLs have lost their passwords: `postgres://clinic:***@db/clinic`.
pub fn without_passwords(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        safe.push_str(before);
        let end = after.find(|letter: char| letter.is_whitespace() || "\"'`".contains(letter)).unwrap_or(after.len());
        // A password may hold `@` and `/`: hiding too much of an address is better than showing any of one.
        match after[..end].rsplit_once('@') {
            Some((user, host)) => {
                let name = user.split_once(':').map_or(user, |(name, _)| name);
                let hidden = if user.contains(':') { ":***" } else { "" };
                let _ = write!(safe, "{name}{hidden}@{host}");
            }
            None => safe.push_str(&after[..end]),
        }
        rest = &after[end..];
    }
    safe.push_str(rest);
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_or_three_digits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (1_440_000, "1.4 MB"),
            (999_600, "1.0 MB"),
            (55_000_000, "55.0 MB"),
            (18_500_000_000, "18.5 GB"),
            (123_456_789, "123 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([count(0), count(999), count(1_000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn what_would_move_the_cursor_is_spelled_out() {
        assert_eq!(escaped("a\u{1b}[2Jb\n\u{202e}c"), r"a\u{1b}[2Jb\u{a}\u{202e}c");
    }

    #[test]
    fn a_quoted_word_is_one_word_to_a_shell() {
        assert_eq!(
            command_line(["nexus", "--vault", "s3://a/b c", "it's", ""]),
            r"nexus --vault 's3://a/b c' 'it'\''s' ''"
        );
    }

    #[test]
    fn passwords_leave_urls() {
        assert_eq!(without_passwords("at postgres://u:p@s/s@h/d s3://b/c@d"), "at postgres://u:***@h/d s3://b/c@d");
        assert_eq!(without_passwords("sqlite:////srv/db.sqlite3"), "sqlite:////srv/db.sqlite3");
    }
}
