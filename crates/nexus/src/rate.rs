//! Bytes a second as a person writes them: `500k`, `20M`, `1G`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Bytes a second, above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate(u64);

/// The units, as `curl` and `rclone` read them: powers of 1,024.
const UNITS: [(char, u64); 4] = [('k', 1 << 10), ('m', 1 << 20), ('g', 1 << 30), ('t', 1 << 40)];

impl Rate {
    /// Bytes a second.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a number of bytes a second: write it as in \"500k\", \"20M\" or \"1G\", in powers of 1,024"
            )
        };
        let unit = text.chars().last().ok_or_else(wrong)?;
        let found = UNITS.into_iter().find(|(letter, _)| *letter == unit.to_ascii_lowercase());
        let (digits, unit) = match found {
            Some((letter, unit)) => (&text[..text.len() - letter.len_utf8()], unit),
            None => (text, 1),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(unit).filter(|bytes| *bytes > 0).map(Self).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.into_iter().rev().find(|(_, unit)| self.0.is_multiple_of(*unit));
        match unit {
            Some((letter, unit)) => write!(f, "{}{}", self.0 / unit, letter.to_ascii_uppercase()),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_with_or_without_a_unit() {
        let bytes = |text: &str| text.parse::<Rate>().map(Rate::bytes);
        assert_eq!((bytes("1500"), bytes("500k"), bytes("20M")), (Ok(1_500), Ok(512_000), Ok(20 << 20)));
        for wrong in ["", "k", "0", "0M", "-1", "1.5M", "20MB", "18446744073709551615G", "1 M", "½k"] {
            assert!(bytes(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_rate_is_shown_as_it_may_be_written() {
        for text in ["1500", "500K", "20M", "3G", "7T"] {
            assert_eq!(text.parse::<Rate>().expect("a rate").to_string(), text);
        }
    }
}
