//! Keys that the SDK takes for none: those of blanks alone, which S3 takes like any other.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// What stands before such a key on its way through the SDK; noncharacters, so hardly ever part of a key.
const MARK: &str = "\u{fdd0}\u{fdd1}\u{fdd2}";
/// The same in a request's path.
const IN_A_PATH: &str = "%EF%B7%90%EF%B7%91%EF%B7%92";

/// The key as the SDK takes it; [`Unmarked`] makes it itself again before the request is signed.
///
/// A key that has the mark in it gets another one, so that what is taken away is always what was put there.
pub(super) fn marked(key: &str) -> String {
    if key.trim().is_empty() || key.contains(MARK) { format!("{MARK}{key}") } else { key.to_owned() }
}

/// Takes the first mark out of each request's path.
#[derive(Debug)]
pub(super) struct Unmarked;

impl Intercept for Unmarked {
    fn name(&self) -> &'static str {
        "Unmarked"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(exact) = without_mark(context.request().uri()) {
            context.request_mut().set_uri(exact)?;
        }
        Ok(())
    }
}

/// The URI without the first mark in its path, if there is one.
fn without_mark(uri: &str) -> Option<String> {
    let path = uri.split('?').next().unwrap_or(uri);
    let at = path.find(IN_A_PATH)?;
    Some(format!("{}{}", &uri[..at], &uri[at + IN_A_PATH.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_away_is_what_was_put_there() {
        let wire = |key: &str| {
            let path = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
            format!("http://host/bucket/{path}?prefix={IN_A_PATH}")
        };
        for key in [" ", "\n\t", "\u{2028}", MARK, &format!("a/{MARK} "), &format!("{MARK}{MARK}")] {
            let marked = marked(key);
            assert!(!marked.trim().is_empty() && marked != key);
            assert_eq!(without_mark(&wire(&marked)), Some(wire(key)), "{key:?}");
        }
        assert_eq!(marked(" a"), " a");
        assert_eq!(without_mark(&wire(" a")), None);
    }
}
