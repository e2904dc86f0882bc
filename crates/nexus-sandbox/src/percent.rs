//! The percent encoding of `encoding-type=url`, which is the one of Java's `URLEncoder` but for `/`.
//!
//! A blank becomes `+`; letters, digits and `-_.*/` stay; every other byte becomes `%` and two digits.

/// Encodes as Amazon S3 does in listings.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                encoded.push('%');
                encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
                encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    encoded
}

/// Decodes one name or value of a query or of the tagging header; what is not UTF-8 is replaced.
pub(crate) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3);
        match (bytes[at], digits.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_blanks_as_plus_and_keeps_slashes() {
        assert_eq!(encoded("a b/c+d%é\u{1}(3)~*"), "a+b/c%2Bd%25%C3%A9%01%283%29%7E*");
    }

    #[test]
    fn decodes_what_it_encodes() {
        let text = "a b/c+d%é\n\u{1}(3)~*?#&=";
        assert_eq!(decoded(&encoded(text)), text);
        assert_eq!(decoded("100%"), "100%");
    }
}
