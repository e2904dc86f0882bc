//! The tags of objects.

use std::collections::BTreeMap;

use s3s::dto::{
    DeleteObjectTaggingInput, DeleteObjectTaggingOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
    PutObjectTaggingInput, PutObjectTaggingOutput, Tag,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::Operations;
use crate::percent::decoded;

/// The most tags on an object.
const MOST_TAGS: usize = 10;

impl Operations {
    pub(super) async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<GetObjectTaggingOutput> {
        let input = request.input;
        let found = self.store.found(&input.bucket, &input.key, input.version_id.as_deref())?;
        Ok(GetObjectTaggingOutput {
            tag_set: found
                .object
                .tags
                .iter()
                .map(|(name, value)| Tag { key: Some(name.clone()), value: Some(value.clone()) })
                .collect(),
            version_id: found.version_id,
        })
    }

    pub(super) async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<PutObjectTaggingOutput> {
        let input = request.input;
        let mut tags = BTreeMap::new();
        for tag in input.tagging.tag_set {
            tags.insert(tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        }
        must_be_few(&tags)?;
        self.store.with_bucket(&input.bucket, |bucket| {
            let version_id = bucket.change(&input.key, input.version_id.as_deref(), |object| {
                object.tags = tags;
                Ok(())
            })?;
            Ok(PutObjectTaggingOutput { version_id })
        })
    }

    pub(super) async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<DeleteObjectTaggingOutput> {
        let input = request.input;
        self.store.with_bucket(&input.bucket, |bucket| {
            let version_id = bucket.change(&input.key, input.version_id.as_deref(), |object| {
                object.tags.clear();
                Ok(())
            })?;
            Ok(DeleteObjectTaggingOutput { version_id })
        })
    }

    /// The tags that a writing request sends in its header.
    pub(super) fn asked_tags(&self, header: Option<&str>) -> S3Result<BTreeMap<String, String>> {
        tags_of_header(header.filter(|_| !self.options.quirks.drop_tags))
    }
}

/// The tags of an `x-amz-tagging` header, which is written as a query is.
fn tags_of_header(header: Option<&str>) -> S3Result<BTreeMap<String, String>> {
    let tags = header
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect();
    must_be_few(&tags)?;
    Ok(tags)
}

fn must_be_few(tags: &BTreeMap<String, String>) -> S3Result<()> {
    if tags.len() <= MOST_TAGS {
        return Ok(());
    }
    Err(S3Error::with_message(S3ErrorCode::InvalidTag, "Object tags cannot be greater than 10"))
}
