//! What a service answers when it is asked for a page, read without what the SDK's reader does for every element.
//!
//! The SDK asks, signs and tells errors; the text of a success goes past its reader: `docs/decisions/0017-pages-read-aside.md`.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use jiff::Timestamp;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

use crate::bucket::ended::is_cut;
use crate::bucket::failure::{Failure, said};
use crate::bucket::s3::bare;

/// What the SDK's reader gets instead: a page with nothing on it.
const NOTHING: &str = "<ListBucketResult/>";
const ROOT: &[u8] = b"ListBucketResult";

/// Takes the text of a success away before it is read.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Option<SdkBody>>>);

impl Intercept for Unread {
    fn name(&self) -> &'static str {
        "listings read aside"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        if answer.status().is_success() {
            let body = std::mem::replace(answer.body_mut(), SdkBody::from(NOTHING));
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
        Ok(())
    }
}

impl Unread {
    /// Reads what was taken away.
    ///
    /// # Errors
    ///
    /// A transient failure for an answer that broke off or is no page of a listing.
    pub(super) async fn read(&self) -> Result<Answer, Failure> {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let body = body.ok_or_else(|| Failure::transient("there was no answer to read"))?;
        let text: Bytes = ByteStream::new(body).collect().await.map_err(Failure::reading)?.into_bytes();
        if is_cut(&text) {
            return Err(Failure::transient(format!("the answer was cut after {} bytes", text.len())));
        }
        Answer::parse(&text).map_err(|why| match said(&text) {
            Some((code, message)) => Failure::inside_a_success(&code, &message),
            None => Failure::transient(format!("the answer is no page of a listing: {why}")),
        })
    }
}

/// A page as it is written, of either version of the request.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) contents: Vec<Line>,
    /// Prefixes of folders.
    pub(super) folders: Vec<String>,
    /// Keys and prefixes are spelled as in URLs.
    pub(super) encoded: bool,
    pub(super) truncated: Option<bool>,
    pub(super) token: Option<String>,
    pub(super) marker: Option<String>,
}

/// An object as a page has it.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) key: Option<String>,
    pub(super) size: Option<u64>,
    /// Without quotes.
    pub(super) etag: Option<String>,
    pub(super) modified: Option<Timestamp>,
    /// None for the usual one.
    pub(super) class: Option<String>,
}

/// What is open: only what lies one or two levels below the root says anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Contents,
    CommonPrefixes,
    Other,
}

/// An element whose text is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Key,
    Size,
    ETag,
    LastModified,
    StorageClass,
    Prefix,
    EncodingType,
    IsTruncated,
    Token,
    Marker,
    None,
}

impl Within {
    fn named(name: &[u8]) -> Self {
        match name {
            b"Contents" => Self::Contents,
            b"CommonPrefixes" => Self::CommonPrefixes,
            _ => Self::Other,
        }
    }
}

impl Field {
    fn of_page(name: &[u8]) -> Self {
        match name {
            b"EncodingType" => Self::EncodingType,
            b"IsTruncated" => Self::IsTruncated,
            b"NextContinuationToken" => Self::Token,
            b"NextMarker" => Self::Marker,
            _ => Self::None,
        }
    }

    fn within(within: Within, name: &[u8]) -> Self {
        match (within, name) {
            (Within::Contents, b"Key") => Self::Key,
            (Within::Contents, b"Size") => Self::Size,
            (Within::Contents, b"ETag") => Self::ETag,
            (Within::Contents, b"LastModified") => Self::LastModified,
            (Within::Contents, b"StorageClass") => Self::StorageClass,
            (Within::CommonPrefixes, b"Prefix") => Self::Prefix,
            _ => Self::None,
        }
    }
}

impl Answer {
    /// Reads `<ListBucketResult>` (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>), whatever its
    /// namespace.
    fn parse(text: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::from_reader(text);
        // `<Size/>` is `<Size></Size>`.
        reader.config_mut().expand_empty_elements = true;
        let mut answer = Self { contents: Vec::with_capacity(1_000), ..Self::default() };
        let (mut depth, mut ended) = (0_usize, false);
        let (mut within, mut field, mut content) = (Within::Other, Field::None, String::new());
        loop {
            match reader.read_event().map_err(|cause| cause.to_string())? {
                Event::Start(tag) => {
                    let name = tag.local_name();
                    match depth {
                        0 if ended || name.as_ref() != ROOT => {
                            return Err(format!("it begins with {:?}", String::from_utf8_lossy(tag.name().as_ref())));
                        }
                        0 => {}
                        1 => {
                            (within, field) = (Within::named(name.as_ref()), Field::of_page(name.as_ref()));
                            if within == Within::Contents {
                                answer.contents.push(Line::default());
                            }
                        }
                        2 => field = Field::within(within, name.as_ref()),
                        _ => field = Field::None,
                    }
                    depth += 1;
                    content.clear();
                }
                Event::Text(piece) if field != Field::None => {
                    content.push_str(&piece.decode().map_err(|cause| cause.to_string())?);
                }
                Event::CData(piece) if field != Field::None => {
                    content.push_str(&piece.decode().map_err(|cause| cause.to_string())?);
                }
                Event::GeneralRef(name) if field != Field::None => push_reference(&name, &mut content)?,
                Event::End(_) => {
                    answer.take(field, &content)?;
                    field = Field::None;
                    // The reader pairs ends with beginnings.
                    depth = depth.saturating_sub(1);
                    ended |= depth == 0;
                }
                Event::Eof if ended && depth == 0 => return Ok(answer),
                Event::Eof => return Err("it does not end".to_owned()),
                _ => {}
            }
        }
    }

    fn take(&mut self, field: Field, content: &str) -> Result<(), String> {
        let said = || Some(content.to_owned()).filter(|text| !text.is_empty());
        let of_page = match field {
            Field::Prefix => {
                self.folders.push(content.to_owned());
                true
            }
            Field::EncodingType => {
                self.encoded = content.trim() == "url";
                true
            }
            Field::IsTruncated => {
                self.truncated = match content.trim() {
                    "true" => Some(true),
                    "false" => Some(false),
                    "" => None,
                    other => return Err(format!("IsTruncated is {other:?}")),
                };
                true
            }
            Field::Token => {
                self.token = said();
                true
            }
            Field::Marker => {
                self.marker = said();
                true
            }
            _ => false,
        };
        match self.contents.last_mut() {
            Some(line) if !of_page => line.take(field, content),
            _ => Ok(()),
        }
    }
}

impl Line {
    fn take(&mut self, field: Field, content: &str) -> Result<(), String> {
        match field {
            Field::Key => self.key = Some(content.to_owned()),
            Field::Size => {
                let size = content.trim().parse();
                self.size = Some(size.map_err(|_| format!("the size of {:?} is {content:?}", self.key))?);
            }
            Field::ETag => self.etag = Some(bare(content)),
            Field::LastModified => {
                let time = content.trim().parse();
                self.modified = Some(time.map_err(|_| format!("the time of {:?} is {content:?}", self.key))?);
            }
            Field::StorageClass => {
                self.class = Some(content).filter(|class| !class.is_empty() && *class != "STANDARD").map(str::to_owned);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Appends what a reference such as `&quot;` or `&#34;` stands for.
fn push_reference(name: &BytesRef<'_>, to: &mut String) -> Result<(), String> {
    if let Some(letter) = name.resolve_char_ref().map_err(|cause| cause.to_string())? {
        to.push(letter);
        return Ok(());
    }
    let name = name.decode().map_err(|cause| cause.to_string())?;
    let known = resolve_predefined_entity(&name).ok_or_else(|| format!("nobody knows what &{name}; stands for"))?;
    to.push_str(known);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::failure::FailureKind;

    const PAGE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
        <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix></Prefix>\
        <MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
        <Contents><Key>a%26b&amp;c&#x41;<![CDATA[<d>]]></Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>\
        <ETag>&quot;9b2cf535f27731c974343645a3985328&quot;</ETag><Size>7</Size><Owner><ID>me</ID><Key>not this</Key></Owner>\
        <StorageClass>STANDARD_IA</StorageClass></Contents>\
        <Contents>\n  <Key> e </Key>\n  <Size>0</Size>\n  <StorageClass/></Contents>\
        <CommonPrefixes><Prefix>f/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>g/</Prefix></CommonPrefixes>\
        <NextContinuationToken>to ken+/=</NextContinuationToken><NextMarker/></ListBucketResult>\n";

    #[test]
    fn a_page_is_read_as_it_is_written() {
        let answer = Answer::parse(PAGE.as_bytes()).expect("a page");
        assert_eq!((answer.encoded, answer.truncated), (true, Some(true)));
        assert_eq!((answer.token.as_deref(), answer.marker.as_deref()), (Some("to ken+/="), None));
        assert_eq!(answer.folders, ["f/", "g/"]);
        let [first, second] = answer.contents.as_slice() else { panic!("{answer:?}") };
        assert_eq!((first.key.as_deref(), first.size), (Some("a%26b&cA<d>"), Some(7)));
        assert_eq!(first.etag.as_deref(), Some("9b2cf535f27731c974343645a3985328"));
        assert_eq!(first.modified, Some("2026-01-02T03:04:05.678Z".parse().expect("a time")));
        assert_eq!(first.class.as_deref(), Some("STANDARD_IA"));
        assert_eq!((second.key.as_deref(), second.size, second.class.as_deref()), (Some(" e "), Some(0), None));
    }

    #[test]
    fn an_error_inside_a_success_is_what_it_says() {
        let error = "<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>less, please</Message></Error>";
        assert_eq!(said(error.as_bytes()), Some(("SlowDown".to_owned(), "less, please".to_owned())));
        assert_eq!(Failure::inside_a_success("SlowDown", "less").kind, FailureKind::Throttled);
        assert_eq!(Failure::inside_a_success("NotImplemented", "no").kind, FailureKind::Unsupported);
        assert!(Failure::inside_a_success("NoSuchBucket", "gone").says("NoSuchBucket"));
        assert_eq!(said(PAGE.as_bytes()), None);
    }

    #[test]
    fn what_stands_around_a_page_and_within_it_is_read_as_xml_says() {
        let of = |text: &str| Answer::parse(text.as_bytes());
        let bom = of(
            "\u{feff}<?xml version=\"1.0\"?>\r\n<ListBucketResult>\r\n<IsTruncated>false</IsTruncated></ListBucketResult>\r\n",
        );
        assert_eq!(bom.expect("a page").truncated, Some(false));
        let old = of("<ListBucketResult><IsTruncated>true</IsTruncated><NextMarker>a/</NextMarker></ListBucketResult>");
        assert_eq!(old.expect("a page").marker.as_deref(), Some("a/"));
        let empty = of("<ListBucketResult><Contents/></ListBucketResult>").expect("a page");
        assert!(matches!(empty.contents.as_slice(), [Line { key: None, size: None, .. }]));
        let time = of(
            "<ListBucketResult><Contents><LastModified>2026-01-02T04:04:05+01:00</LastModified></Contents></ListBucketResult>",
        );
        assert_eq!(time.expect("a page").contents[0].modified, Some("2026-01-02T03:04:05Z".parse().expect("a time")));
        assert!(Answer::parse(b"<ListBucketResult><Contents><Key>\xff</Key></Contents></ListBucketResult>").is_err());
    }

    #[test]
    fn what_is_no_whole_page_is_none_at_all() {
        for length in 0..PAGE.trim_end().len() {
            assert!(Answer::parse(&PAGE.as_bytes()[..length]).is_err(), "{}", &PAGE[..length]);
        }
        for odd in [
            "<Error><Code>SlowDown</Code></Error>",
            "<ListBucketResult></ListBucketResult><ListBucketResult/>",
            "<ListBucketResult><Contents><Size>-1</Size></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><LastModified>soon</LastModified></Contents></ListBucketResult>",
            "<ListBucketResult><IsTruncated>perhaps</IsTruncated></ListBucketResult>",
            "<ListBucketResult><Contents><Key>&nbsp;</Key></Contents></ListBucketResult>",
            "<ListBucketResult><Contents></ListBucketResult>",
            "{\"a\": 1}",
        ] {
            assert!(Answer::parse(odd.as_bytes()).is_err(), "{odd}");
        }
        assert!(
            Answer::parse(b"<a:ListBucketResult xmlns:a='x'><a:IsTruncated>false</a:IsTruncated></a:ListBucketResult>")
                .is_ok()
        );
        assert!(Answer::parse(b"<ListBucketResult/>").expect("a page").truncated.is_none());
    }
}
