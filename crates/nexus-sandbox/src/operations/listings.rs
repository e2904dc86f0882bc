//! Listings of objects, in both versions of the request.

use std::sync::Arc;

use s3s::dto::{
    CommonPrefix, EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object,
    ObjectStorageClass,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::buckets::owner;
use super::{Operations, signed};
use crate::listing::{Order, Page, PageQuery, Position, page};
use crate::object::StoredObject;
use crate::percent::encoded;

/// A page of objects, as readers see them.
type ObjectPage = Page<Arc<StoredObject>>;

impl Operations {
    pub(super) async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<ListObjectsV2Output> {
        let input = request.input;
        let limit = self.page_limit(input.max_keys)?;
        if input.start_after.is_some() && self.options.quirks.no_start_after {
            return Err(S3Error::with_message(S3ErrorCode::NotImplemented, "start-after is not implemented."));
        }
        let position = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => Position::of_token(token).ok_or_else(wrong_token)?,
            (None, Some(key)) => Position::behind_key(key),
            (None, None) => Position::default(),
        };
        let found = self.page(
            &input.bucket,
            &PageQuery {
                prefix: input.prefix.clone().unwrap_or_default(),
                delimiter: input.delimiter.clone().filter(|text| !text.is_empty()),
                position,
                limit,
            },
        )?;
        let next = match (&found.next, &input.continuation_token) {
            (Some(_), Some(given)) if self.options.quirks.repeat_token => Some(given.clone()),
            (next, _) => next.as_ref().map(Position::token),
        };
        let spelling = self.spelling(input.encoding_type.as_ref())?;
        let with_owner = input.fetch_owner == Some(true);
        Ok(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(spelling.of(&input.prefix.unwrap_or_default())),
            delimiter: input.delimiter.map(|text| spelling.of(&text)),
            start_after: input.start_after.map(|text| spelling.of(&text)),
            max_keys: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            key_count: i32::try_from(found.entries.len() + found.prefixes.len()).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(next.is_some()),
            next_continuation_token: next,
            common_prefixes: self.spelling_of_folders(spelling).prefixes(&found),
            contents: Some(spelling.contents(&found, with_owner)),
            encoding_type: input.encoding_type.filter(|_| !self.options.quirks.no_url_encoding),
            request_charged: None,
        })
    }

    pub(super) async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> S3Result<ListObjectsOutput> {
        let input = request.input;
        let limit = self.page_limit(input.max_keys)?;
        let marker = input.marker.clone().unwrap_or_default();
        let delimiter = input.delimiter.clone().filter(|text| !text.is_empty());
        let prefix = input.prefix.clone().unwrap_or_default();
        let found = self.page(
            &input.bucket,
            &PageQuery {
                position: Position::behind_marker(&marker, &prefix, delimiter.as_deref()),
                prefix,
                delimiter: delimiter.clone(),
                limit,
            },
        )?;
        let spelling = self.spelling(input.encoding_type.as_ref())?;
        Ok(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(spelling.of(&input.prefix.unwrap_or_default())),
            delimiter: input.delimiter.map(|text| spelling.of(&text)),
            marker: Some(spelling.of(&marker)),
            max_keys: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            is_truncated: Some(found.next.is_some()),
            // Amazon S3 names the next marker only when a delimiter was given.
            next_marker: found.next.as_ref().filter(|_| delimiter.is_some()).map(|next| spelling.of(&next.after)),
            common_prefixes: self.spelling_of_folders(spelling).prefixes(&found),
            contents: Some(spelling.contents(&found, true)),
            encoding_type: input.encoding_type.filter(|_| !self.options.quirks.no_url_encoding),
            request_charged: None,
        })
    }

    fn page(&self, bucket: &str, query: &PageQuery) -> S3Result<ObjectPage> {
        let order = self.listing_order();
        self.store.look(bucket, |bucket| Ok(page(&bucket.keys, query, order, |_, history| history.current().cloned())))
    }

    /// How this service spells keys, given what `encoding-type` asks for.
    pub(super) fn spelling(&self, asked: Option<&EncodingType>) -> S3Result<Spelling> {
        Spelling::new(asked.filter(|_| !self.options.quirks.no_url_encoding))
    }

    /// How it spells folders, given how it spells keys.
    fn spelling_of_folders(&self, keys: Spelling) -> Spelling {
        if self.options.quirks.plain_folders { Spelling::Plain } else { keys }
    }

    /// The order in which this service lists keys.
    pub(super) fn listing_order(&self) -> Order {
        let quirks = &self.options.quirks;
        match (quirks.unordered_listing, quirks.filtered_start) {
            (true, false) => Order::Walk,
            (true, true) => Order::FilteredWalk,
            (false, _) => Order::Bytes,
        }
    }

    /// How many entries a page may have, given what was asked for.
    pub(super) fn page_limit(&self, asked: Option<i32>) -> S3Result<usize> {
        let Some(asked) = asked else {
            return Ok(self.options.page_size);
        };
        let asked = usize::try_from(asked).map_err(|_| {
            S3Error::with_message(
                S3ErrorCode::InvalidArgument,
                "Argument maxKeys must be an integer between 0 and 2147483647",
            )
        })?;
        Ok(asked.min(self.options.page_size))
    }
}

/// How keys are spelled in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    Plain,
    Encoded,
}

impl Spelling {
    /// What `encoding-type` asks for.
    fn new(encoding_type: Option<&EncodingType>) -> S3Result<Self> {
        match encoding_type.map(EncodingType::as_str) {
            None => Ok(Self::Plain),
            Some(EncodingType::URL) => Ok(Self::Encoded),
            Some(_) => {
                Err(S3Error::with_message(S3ErrorCode::InvalidArgument, "Invalid Encoding Method specified in Request"))
            }
        }
    }

    /// A key, prefix or delimiter in this spelling.
    pub fn of(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Encoded => encoded(text),
        }
    }

    /// The common prefixes of a page; none is not an empty list, which some readers take amiss.
    pub fn prefixes<T>(self, page: &Page<T>) -> Option<Vec<CommonPrefix>> {
        let prefixes: Vec<_> =
            page.prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(self.of(prefix)) }).collect();
        (!prefixes.is_empty()).then_some(prefixes)
    }

    fn contents(self, page: &ObjectPage, with_owner: bool) -> Vec<Object> {
        page.entries.iter().map(|(key, object)| entry(self.of(key), object, with_owner)).collect()
    }
}

fn entry(key: String, object: &StoredObject, with_owner: bool) -> Object {
    Object {
        key: Some(key),
        e_tag: Some(s3s::dto::ETag::Strong(object.etag.clone())),
        last_modified: Some(object.last_modified.into()),
        size: Some(signed(object.size())),
        storage_class: Some(ObjectStorageClass::from(object.storage_class.clone())),
        checksum_algorithm: object.checksum.as_ref().map(|sum| vec![sum.algorithm.name().to_owned().into()]),
        checksum_type: object.checksum.as_ref().map(|sum| sum.span.dto()),
        owner: with_owner.then(owner),
        restore_status: None,
    }
}

fn wrong_token() -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, "The continuation token provided is incorrect")
}
