//! Lengths of time as a person writes them: `30d`, `12h`, `60s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time above zero, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u64);

/// The units, the longest first.
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// A thousand years: what is longer is a slip of the keyboard.
const LONGEST: u64 = 365_000 * 86_400;

impl Span {
    /// A span of so many seconds; they must not be zero.
    pub const fn of_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Its seconds.
    pub fn seconds(self) -> u64 {
        self.0
    }

    /// It as the standard library has it.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a length of time: write a number above zero and a unit, as in \"30d\", \"12h\" or \"60s\""
            )
        };
        let unit = text.chars().last().ok_or_else(wrong)?;
        let (_, seconds) = UNITS.into_iter().find(|(letter, _)| *letter == unit).ok_or_else(wrong)?;
        let digits = &text[..text.len() - unit.len_utf8()];
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        match number.checked_mul(seconds) {
            Some(0) => Err(wrong()),
            Some(total) if total <= LONGEST => Ok(Self(total)),
            _ => Err(format!("{text:?} is longer than a thousand years")),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

/// The longest unit that says it exactly, but never weeks: `14d` is easier to compare than `2w`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.into_iter().skip(1).find(|(_, seconds)| self.0.is_multiple_of(*seconds));
        let (letter, seconds) = unit.unwrap_or(('s', 1));
        write!(f, "{}{letter}", self.0 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_a_unit_is_a_length_of_time() {
        for (text, seconds) in [("30d", 2_592_000), ("12h", 43_200), ("60s", 60), ("5m", 300), ("2w", 1_209_600)] {
            assert_eq!(text.parse(), Ok(Span(seconds)), "{text}");
        }
        assert_eq!(Span(1_209_600).to_string(), "14d");
    }

    #[test]
    fn zero_bare_numbers_and_negatives_are_refused() {
        for text in ["", "0d", "30", "-1d", "d", "1.5h", "1 d", "1D", "99999999999999999999d", "1000000d", "5é"] {
            assert!(text.parse::<Span>().is_err(), "{text:?} was taken");
        }
    }
}
