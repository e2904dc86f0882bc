//! JSON written straight into a buffer: no tree of values for each row.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Integers up to this one are JSON numbers that every reader keeps exact.
const LARGEST_EXACT: u64 = 1 << 53;

/// How many bytes become Base64 at a time; a multiple of three, so that the pieces join.
pub(crate) const BASE64_PIECE: usize = 48 * 1024;

/// What has to be written for each byte inside a string: 0 itself, 1 a `\u00..`, else a backslash and this byte.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = 1;
        byte += 1;
    }
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[0x08] = b'b';
    table[0x0c] = b'f';
    table
};

/// Writes an integer: a number, or `{"$int": "…"}` past 2^53, where readers with doubles would change it.
pub(crate) fn integer(to: &mut Vec<u8>, value: i64) {
    let exact = value.unsigned_abs() <= LARGEST_EXACT;
    if !exact {
        to.extend_from_slice(b"{\"$int\":\"");
    }
    serde_json::to_writer(&mut *to, &value).expect("a number into a buffer");
    if !exact {
        to.extend_from_slice(b"\"}");
    }
}

/// Writes a real in its shortest form that reads back the same, always with a point or an exponent.
pub(crate) fn real(to: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        serde_json::to_writer(&mut *to, &value).expect("a number into a buffer");
    } else if value > 0.0 {
        to.extend_from_slice(b"{\"$real\":\"inf\"}");
    } else {
        to.extend_from_slice(b"{\"$real\":\"-inf\"}");
    }
}

/// Writes text: a string, or `{"$text": base64}` when it is not UTF-8.
pub(crate) fn text(to: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(valid) = std::str::from_utf8(bytes) {
        string(to, valid);
    } else {
        to.extend_from_slice(b"{\"$text\":\"");
        base64(to, bytes);
        to.extend_from_slice(b"\"}");
    }
}

/// Writes bytes as `{"$blob": base64}`.
pub(crate) fn blob(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(b"{\"$blob\":\"");
    base64(to, bytes);
    to.extend_from_slice(b"\"}");
}

/// Writes a string with its quotes.
pub(crate) fn string(to: &mut Vec<u8>, text: &str) {
    to.push(b'"');
    escaped(to, text.as_bytes());
    to.push(b'"');
}

/// Writes the inside of a string: UTF-8 or a piece of it.
pub(crate) fn escaped(to: &mut Vec<u8>, mut bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    while let Some(at) = first_to_escape(bytes) {
        to.extend_from_slice(&bytes[..at]);
        let byte = bytes[at];
        match ESCAPES[usize::from(byte)] {
            1 => {
                to.extend_from_slice(b"\\u00");
                to.push(HEX[usize::from(byte >> 4)]);
                to.push(HEX[usize::from(byte & 15)]);
            }
            letter => to.extend_from_slice(&[b'\\', letter]),
        }
        bytes = &bytes[at + 1..];
    }
    to.extend_from_slice(bytes);
}

/// Where the first byte is that a string cannot hold as it is: eight at a time as long as none of them can be.
fn first_to_escape(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // A byte of zero borrows from its highest bit; bytes from 0x80 on never count.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (eights, _) = bytes.as_chunks::<8>();
    let clean = eights.iter().take_while(|eight| {
        let word = u64::from_ne_bytes(**eight);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        control | zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) == 0
    });
    let from = clean.count() * 8;
    let at = bytes[from..].iter().position(|byte| ESCAPES[usize::from(*byte)] != 0)?;
    Some(from + at)
}

/// Writes Base64 without quotes. Pieces join only when each but the last is a multiple of three long.
pub(crate) fn base64(to: &mut Vec<u8>, bytes: &[u8]) {
    for piece in bytes.chunks(BASE64_PIECE) {
        let start = to.len();
        to.resize(start + piece.len().div_ceil(3) * 4, 0);
        let written = STANDARD.encode_slice(piece, &mut to[start..]).expect("sized for it");
        to.truncate(start + written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn read(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut bytes = Vec::new();
        write(&mut bytes);
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn every_character_reads_back_as_it_was() {
        let text: String = (0..0x3000).filter_map(char::from_u32).chain("😀\u{10ffff}".chars()).collect();
        assert_eq!(read(|to| string(to, &text)), Value::from(text));
    }

    #[test]
    fn numbers_that_a_double_would_change_are_tagged() {
        assert_eq!(read(|to| integer(to, 1 << 53)), Value::from(1_i64 << 53));
        assert_eq!(read(|to| integer(to, (1 << 53) + 1)), serde_json::json!({"$int": "9007199254740993"}));
        assert_eq!(read(|to| integer(to, i64::MIN)), serde_json::json!({"$int": "-9223372036854775808"}));
    }

    #[test]
    fn a_real_never_looks_like_an_integer() {
        for (value, shown) in [(1.0, "1.0"), (-0.0, "-0.0"), (1e300, "1e+300"), (0.1, "0.1"), (5e-324, "5e-324")] {
            let mut bytes = Vec::new();
            real(&mut bytes, value);
            let text = String::from_utf8(bytes).expect("text");
            assert!(text == shown || text == shown.replace('+', ""), "{text}");
            assert_eq!(text.parse::<f64>().expect("a number").to_bits(), value.to_bits());
        }
        assert_eq!(read(|to| real(to, f64::NEG_INFINITY)), serde_json::json!({"$real": "-inf"}));
    }

    #[test]
    fn long_bytes_join_to_one_base64_text() {
        let bytes: Vec<u8> = (0..200_001_u32).map(|number| number.to_le_bytes()[0]).collect();
        let Value::Object(object) = read(|to| blob(to, &bytes)) else { panic!("an object") };
        let text = object["$blob"].as_str().expect("text");
        assert_eq!(STANDARD.decode(text).expect("base64"), bytes);
    }
}
