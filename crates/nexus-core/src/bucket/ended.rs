//! Answers that were cut short: without a length nothing else tells one from an answer that says less.

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

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

/// True for the beginning of an XML document without its end.
pub(super) fn is_cut(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let mut rest = text.trim_start_matches('\u{feff}').trim();
    if !rest.starts_with('<') {
        return false;
    }
    while let Some(behind) = rest.strip_prefix("<?").or_else(|| rest.strip_prefix("<!")) {
        let Some((_, after)) = behind.split_once('>') else { return true };
        rest = after.trim_start();
    }
    let Some((tag, content)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) else { return true };
    if tag.ends_with('/') && content.is_empty() {
        return false;
    }
    let name = tag.split_whitespace().next().unwrap_or(tag);
    let end = content.strip_suffix('>').map(str::trim_end).and_then(|content| content.strip_suffix(name));
    !end.is_some_and(|content| content.ends_with("</"))
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
        for whole in [whole, &format!("\n {whole}\r\n"), "<Result/>", "<a:Result>\n</a:Result >", "", "{\"a\": 1}"] {
            assert!(!is_cut(whole.as_bytes()), "{whole}");
        }
    }
}
