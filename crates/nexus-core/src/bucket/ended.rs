//! Answers that were cut short: without a length nothing else tells one from an answer that says less.

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// How some begin: the mark of UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Refuses a success whose XML does not end. The SDK's reader takes the end of the input for the end of every element, so that
/// a page of a listing that a proxy cut would be a page with fewer keys, and the last one.
#[derive(Debug)]
pub(super) struct Ended;

impl Intercept for Ended {
    fn name(&self) -> &'static str {
        "Ended"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        // The content of an object is no answer's text: it is read as it comes, and there is none of it here.
        match answer.body().bytes().filter(|_| answer.status().is_success()) {
            Some(text) if is_cut(text) => Err(format!("the answer was cut after {} bytes", text.len()).into()),
            _ => Ok(()),
        }
    }
}

/// True for the beginning of an XML document without its end. Only its first tag and its last are looked at.
pub(super) fn is_cut(text: &[u8]) -> bool {
    let mut rest = text.strip_prefix(MARK).unwrap_or(text).trim_ascii();
    if !rest.starts_with(b"<") {
        return false;
    }
    while rest.starts_with(b"<?") || rest.starts_with(b"<!") {
        let Some(end) = memchr::memchr(b'>', rest) else { return true };
        rest = rest[end + 1..].trim_ascii_start();
    }
    let Some(end) = memchr::memchr(b'>', rest).filter(|_| rest.starts_with(b"<")) else { return true };
    let (tag, content) = (&rest[1..end], &rest[end + 1..]);
    if tag.ends_with(b"/") && content.is_empty() {
        return false;
    }
    let name = tag.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()).unwrap_or(tag);
    let end = content.strip_suffix(b">").map(<[u8]>::trim_ascii_end).and_then(|content| content.strip_suffix(name));
    !end.is_some_and(|content| content.ends_with(b"</"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_cut_wherever_it_stops_before_its_end() {
        let whole = "<?xml version=\"1.0\"?>\n<Result xmlns=\"http://a/\"><IsTruncated>false</IsTruncated>\
                     <Contents><Key>a</Key></Contents><Contents/></Result>";
        for length in 1..whole.len() {
            assert!(is_cut(&whole.as_bytes()[..length]), "{}", &whole[..length]);
        }
        for whole in [
            whole,
            &format!("\n {whole}\r\n"),
            "<Result/>",
            "<a:Result>\n</a:Result >",
            "\u{feff}<R>ü</R>",
            "",
            "{\"a\": 1}",
        ] {
            assert!(!is_cut(whole.as_bytes()), "{whole}");
        }
    }
}
