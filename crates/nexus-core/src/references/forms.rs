//! The forms of a key by which it is found: as it is, in one Unicode form, and whatever its case.

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

/// The longest key that is folded, bytes: no service and no file system has one a tenth as long.
pub(super) const LONGEST: usize = 64 << 10;

/// Half a SHA-256.
pub(super) type Hash = [u8; 16];

/// Hashes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forms {
    /// In one case and one Unicode form.
    pub(super) fold: Hash,
    /// In one Unicode form.
    pub(super) nfc: Hash,
    /// As it is.
    pub(super) exact: Hash,
}

impl Forms {
    pub(super) fn of(key: &str) -> Self {
        let exact = half(key.as_bytes());
        if key.len() > LONGEST {
            return Self::same(exact);
        }
        if key.is_ascii() {
            let is_small = !key.bytes().any(|byte| byte.is_ascii_uppercase());
            let fold = if is_small { exact } else { half(key.to_ascii_lowercase().as_bytes()) };
            return Self { fold, nfc: exact, exact };
        }
        let nfc: String = key.nfc().collect();
        Self { fold: half(folded(&nfc).as_bytes()), nfc: half(nfc.as_bytes()), exact }
    }

    /// Of bytes that are no text: no key, which is text, has their hash.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self::same(half(bytes))
    }

    fn same(exact: Hash) -> Self {
        Self { fold: exact, nfc: exact, exact }
    }
}

/// Through capitals, so that `ß` and `SS`, and both small sigmas, are one.
fn folded(nfc: &str) -> String {
    let capital: String = nfc.chars().flat_map(char::to_uppercase).collect();
    // Capitals of composed letters may come apart.
    let small: String = capital.nfc().flat_map(char::to_lowercase).collect();
    small.nfc().collect()
}

fn half(bytes: &[u8]) -> Hash {
    let hash = Sha256::digest(bytes);
    hash[..size_of::<Hash>()].try_into().expect("half of it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_or_form_alone_are_alike_and_others_are_not() {
        for (one, other, same_form) in [
            ("A.jpg", "a.jpg", false),
            ("Befund-für.pdf", "Befund-fu\u{308}r.pdf", true),
            ("BEFUND-FÜR.pdf", "befund-fu\u{308}r.pdf", false),
            ("straße", "STRASSE", false),
            ("ΟΔΟΣ", "οδος", false),
            ("Kelvin", "\u{212a}elvin", true),
            ("가", "\u{1100}\u{1161}", true),
            // The Turkish capital comes apart when it is made small.
            ("İ.jpg", "i\u{307}.jpg", false),
        ] {
            let (one_forms, other_forms) = (Forms::of(one), Forms::of(other));
            assert_eq!(one_forms.fold, other_forms.fold, "{one} {other}");
            assert_ne!(one_forms.exact, other_forms.exact);
            assert_eq!(one_forms.nfc == other_forms.nfc, same_form, "{one} {other}");
        }
        for (one, other) in
            [("a", "b"), ("a", "a "), ("ﬁ", "ﬁx"), ("a.jpg", "a.jpeg"), ("o", "ö"), ("İ", "I"), ("", "a")]
        {
            assert_ne!(Forms::of(one).fold, Forms::of(other).fold, "{one} {other}");
        }
    }
}
