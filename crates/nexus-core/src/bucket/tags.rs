//! Tags of an object: read, sent along, and looked at again where a service may have dropped them.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{Tag, Tagging};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Object;
use super::blank::marked;
use super::failure::{Failure, FailureKind, failure};
use super::s3::S3;

/// The tags of an object by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tags(BTreeMap<String, String>);

impl Tags {
    pub(super) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// Reads what [`Tags::header`] wrote.
    pub(super) fn read(header: Option<&String>) -> Self {
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = header.into_iter().flat_map(|text| text.split('&'));
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(name, value)| (plain(name), plain(value))).collect())
    }

    /// As `x-amz-tagging` has them; none where there are none.
    pub(super) fn header(&self) -> Option<String> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        (!pairs.is_empty()).then(|| pairs.join("&"))
    }

    fn set(&self) -> std::result::Result<Tagging, Failure> {
        let tag = |(name, value): (&String, &String)| Tag::builder().key(name).value(value).build();
        let set = self.0.iter().map(tag).collect::<std::result::Result<_, _>>().map_err(Failure::fatal)?;
        Tagging::builder().set_tag_set(Some(set)).build().map_err(Failure::fatal)
    }

    /// What a write failed with that sent these tags: that they were refused is told as what it is.
    pub(super) fn refused(&self, failure: Failure, into: &S3) -> Failure {
        let refused = matches!(failure.kind, FailureKind::Unsupported | FailureKind::Fatal);
        if self.0.is_empty() || !refused || !failure.mentions("x-amz-tagging") {
            return failure;
        }
        self.not_kept(into, &format!("refuses them: {failure}"))
    }

    fn not_kept(&self, into: &S3, how: &str) -> Failure {
        let service = into.endpoint().unwrap_or("Amazon S3");
        let what = format!(
            "it has {} tags ({}), and {service} {how}; take them off, leave it out with `exclude` under [files], or use a \
             service that keeps tags: docs/services.md",
            self.0.len(),
            self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        );
        Failure::fatal(what).unsupported()
    }
}

/// The tags of an object; none where its service knows none.
pub(super) async fn tags(from: &S3, object: &Object) -> std::result::Result<Tags, Failure> {
    tags_of(from, &object.key, object.side.version.as_deref()).await
}

async fn tags_of(from: &S3, key: &str, version: Option<&str>) -> std::result::Result<Tags, Failure> {
    let answer = from
        .attempt(0, async || {
            let request = from.client().get_object_tagging().bucket(from.name()).key(marked(key));
            request.set_version_id(version.map(str::to_owned)).send().await.map_err(failure)
        })
        .await;
    match answer {
        Ok(answer) => {
            let pairs = answer.tag_set().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned()));
            Ok(Tags(pairs.collect()))
        }
        Err(failure) if failure.kind == FailureKind::Unsupported || failure.says("NoSuchTagSet") => Ok(Tags::default()),
        Err(failure) => Err(failure),
    }
}

impl S3 {
    /// True when an object has these tags and no others.
    pub(super) async fn has_tags(&self, key: &str, tags: &Tags) -> std::result::Result<bool, Failure> {
        tags_of(self, key, None).await.map(|found| found == *tags)
    }
}

/// Fails unless an object has the tags that it was written with.
///
/// Garage reads no `x-amz-tagging` and says nothing about it (its src/api/s3/put.rs); `MiniStack` loses what is sent when an
/// upload begins, which was seen, and keeps what is set afterwards.
pub(super) async fn confirm_tags(into: &S3, key: &str, tags: &Tags) -> std::result::Result<(), Failure> {
    // What Amazon S3 does with them is documented.
    if tags.0.is_empty() || into.endpoint().is_none() || into.has_tags(key, tags).await? {
        return Ok(());
    }
    let set = tags.set()?;
    let tagged = into
        .attempt(0, async || {
            let request = into.client().put_object_tagging().bucket(into.name()).key(marked(key)).tagging(set.clone());
            request.send().await.map_err(failure)
        })
        .await;
    match tagged {
        Err(failure) if matches!(failure.kind, FailureKind::Unsupported | FailureKind::Fatal) => {
            Err(tags.not_kept(into, &format!("does not keep them: {failure}")))
        }
        Err(failure) => Err(failure),
        Ok(_) if into.has_tags(key, tags).await? => Ok(()),
        Ok(_) => Err(tags.not_kept(into, "drops them without a word")),
    }
}
