//! The key that a value of a column stands for.

use percent_encoding::percent_decode_str;

use super::forms::LONGEST;
use crate::error::{Error, Result};
use crate::point::references::Reference;

/// How the values of one column become keys.
pub(super) struct Keys {
    prefix: String,
    base: Option<Base>,
}

/// What is taken from the beginning of values.
struct Base {
    /// What stands between its `*`.
    pieces: Vec<String>,
    /// True for one of URLs of the web, whose paths are percent-encoded.
    is_url: bool,
}

impl Keys {
    /// Of a reference.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a base that would take everything, or whose end nobody can tell.
    pub(super) fn of(reference: &Reference) -> Result<Self> {
        let Reference { table, column, prefix, base } = reference;
        let base = match base.as_deref() {
            None => None,
            Some(text) if text.trim_matches('*').is_empty() => {
                return Err(Error::usage_hint(
                    format!("the base of `{column}` of `{table}` says nothing"),
                    "for example base = \"/srv/app/media/\", or \"https://*.example.org/media/\"",
                ));
            }
            Some(text) if text.ends_with('*') => {
                return Err(Error::usage_hint(
                    format!("the base `{text}` of `{column}` of `{table}` does not say where it ends"),
                    "write what follows the `*`, for example a `/`",
                ));
            }
            Some(text) => Some(Base::of(text)),
        };
        Ok(Self { prefix: prefix.clone(), base })
    }

    /// The key that a value stands for. A value that does not begin with the base is taken as it is.
    pub(super) fn key(&self, value: &str) -> String {
        // No key is as long as that, and going through it for each `*` takes its time.
        let base = self.base.as_ref().filter(|_| value.len() <= LONGEST);
        let rest = base.and_then(|base| base.strip(value));
        format!("{}{}", self.prefix, rest.as_deref().unwrap_or(value))
    }

    /// The same of bytes that are no text: no base begins them.
    pub(super) fn key_of_bytes(&self, value: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), value].concat()
    }
}

impl Base {
    fn of(text: &str) -> Self {
        let mut pieces: Vec<String> = text.split('*').map(str::to_owned).collect();
        // `/srv/media` is a folder: what lies in `/srv/media-old` does not lie in it.
        if let Some(last) = pieces.last_mut().filter(|last| last.ends_with(char::is_alphanumeric)) {
            last.push('/');
        }
        // A key in `s3://bucket/` is written as it is.
        let is_url = ["http://", "https://", "//"].iter().any(|scheme| text.starts_with(scheme));
        Self { pieces, is_url }
    }

    fn strip(&self, value: &str) -> Option<String> {
        let rest = after(value, &self.pieces)?;
        if !self.is_url {
            return Some(rest.to_owned());
        }
        // A question mark or a `#` of a name is encoded; a bare one begins what is no part of the path.
        let path = rest.split(['?', '#']).next().unwrap_or(rest);
        Some(percent_decode_str(path).decode_utf8().map_or_else(|_| path.to_owned(), std::borrow::Cow::into_owned))
    }
}

/// What follows the pieces in a value, between any two of which anything but `/` may stand.
fn after<'a>(value: &'a str, pieces: &[String]) -> Option<&'a str> {
    let (first, others) = pieces.split_first()?;
    let rest = value.strip_prefix(first.as_str())?;
    if others.is_empty() {
        return Some(rest);
    }
    let ends = rest.char_indices().take_while(|(_, letter)| *letter != '/').map(|(at, letter)| at + letter.len_utf8());
    std::iter::once(0).chain(ends).find_map(|end| after(&rest[end..], others))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(prefix: &str, base: &str, value: &str) -> String {
        let base = (!base.is_empty()).then(|| base.to_owned());
        let reference = Reference { table: "t".into(), column: "c".into(), prefix: prefix.into(), base };
        Keys::of(&reference).expect("a base").key(value)
    }

    #[test]
    fn a_value_is_stripped_of_its_base_and_gets_its_prefix() {
        for (prefix, base, value, expected) in [
            ("", "", "a b.jpg", "a b.jpg"),
            ("media/", "", "a/b.jpg", "media/a/b.jpg"),
            ("", "/srv/media", "/srv/media/a.jpg", "a.jpg"),
            ("", "/srv/media", "/srv/media-old/a.jpg", "/srv/media-old/a.jpg"),
            ("", "/srv/media/", "a%20b.jpg", "a%20b.jpg"),
            ("", "/", "/a.jpg", "a.jpg"),
            (
                "x/",
                "https://cdn.example.org/media/",
                "https://cdn.example.org/media/a%20%2B1.jpg?v=2#top",
                "x/a +1.jpg",
            ),
            ("", "https://cdn.example.org/", "https://cdn.example.org/%FF", "%FF"),
            ("", "https://*.example.org/m*/", "https://cdn-1.example.org/media/a.jpg", "a.jpg"),
            ("", "https://*.example.org/", "https://a/b.example.org/x", "https://a/b.example.org/x"),
            ("", "https://h/get?key=", "https://h/get?key=a%2Fb.jpg&x", "a/b.jpg&x"),
            ("", "//cdn/", "//cdn/a%20b.jpg?x", "a b.jpg"),
            ("m/", "s3://bucket/", "s3://bucket/100%25?#.jpg", "m/100%25?#.jpg"),
            ("", "é*à/", "ééàà/ü", "ü"),
        ] {
            assert_eq!(key(prefix, base, value), expected, "{prefix} {base} {value}");
        }
    }

    #[test]
    fn a_base_that_would_take_everything_or_has_no_end_is_refused() {
        for base in ["", "*", "**", "https://cdn/*"] {
            let base = Some(base.to_owned());
            let reference = Reference { table: "t".into(), column: "c".into(), prefix: String::new(), base };
            assert!(Keys::of(&reference).is_err());
        }
    }

    #[test]
    fn a_value_longer_than_any_key_is_not_searched_for_its_base() {
        let value = format!("a{}/", "b".repeat(LONGEST));
        assert_eq!(key("", "a*/", &value), value);
    }
}
