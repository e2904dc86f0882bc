//! A decimal number that is compared as it is written, not as a machine would round it.

use std::cmp::Ordering;

/// A decimal number of any length, compared exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number {
    negative: bool,
    /// How many digits stand before the point; less than none for small ones.
    exponent: i64,
    /// Without zeros at either end; none of the number is zero.
    digits: Vec<u8>,
}

impl Number {
    /// Reads one as a person or a database writes it; none of what is no number.
    pub(super) fn parse(text: &str) -> Option<Self> {
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
