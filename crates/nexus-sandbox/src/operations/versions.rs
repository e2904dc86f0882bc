//! Whether a bucket keeps versions, and the listing of those it keeps.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>

use s3s::dto::{
    BucketVersioningStatus, DeleteMarkerEntry, ETag, GetBucketVersioningInput, GetBucketVersioningOutput,
    ListObjectVersionsInput, ListObjectVersionsOutput, ObjectVersion, ObjectVersionStorageClass,
    PutBucketVersioningInput, PutBucketVersioningOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::buckets::owner;
use super::listings::Spelling;
use super::{Operations, signed};
use crate::listing::{Page, PageQuery, Position, page};
use crate::object::StoredObject;
use crate::version::{History, Version, Versioning, must_be_version_id, serial_of};

/// A version in a listing.
#[derive(Debug)]
struct Listed {
    version: Version,
    newest: bool,
}

impl Operations {
    pub(super) async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<GetBucketVersioningOutput> {
        let status = self.store.look(&request.input.bucket, |bucket| Ok(bucket.versioning))?;
        let status = match status {
            Versioning::Never => None,
            Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
            Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
        };
        Ok(GetBucketVersioningOutput {
            status: status.map(BucketVersioningStatus::from_static),
            ..GetBucketVersioningOutput::default()
        })
    }

    pub(super) async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<PutBucketVersioningOutput> {
        let asked = request.input.versioning_configuration;
        if asked.mfa_delete.is_some_and(|state| state.as_str() == "Enabled") {
            return Err(S3Error::with_message(S3ErrorCode::NotImplemented, "MFA Delete is not implemented."));
        }
        let versioning = match asked.status.as_ref().map(BucketVersioningStatus::as_str) {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            Some(_) => return Err(S3ErrorCode::MalformedXML.into()),
            None => {
                return Err(S3Error::with_message(
                    S3ErrorCode::IllegalVersioningConfigurationException,
                    "The Versioning element must be specified",
                ));
            }
        };
        self.store.with_bucket(&request.input.bucket, |bucket| {
            if bucket.lock.is_some() && versioning != Versioning::Enabled {
                return Err(S3Error::with_message(
                    S3ErrorCode::InvalidBucketState,
                    "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
                ));
            }
            bucket.versioning = versioning;
            Ok(PutBucketVersioningOutput::default())
        })
    }

    pub(super) async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<ListObjectVersionsOutput> {
        let input = request.input;
        let limit = self.page_limit(input.max_keys)?;
        let marker = input.key_marker.clone().unwrap_or_default();
        let id_marker = input.version_id_marker.as_deref();
        must_be_markers(&marker, id_marker)?;
        let delimiter = input.delimiter.clone().filter(|text| !text.is_empty());
        let prefix = input.prefix.clone().unwrap_or_default();
        let position = match id_marker {
            Some(_) => Position::within_key(&marker),
            None => Position::behind_marker(&marker, &prefix, delimiter.as_deref()),
        };
        let query = PageQuery { prefix, delimiter, position, limit };
        let order = self.listing_order();
        let found: Page<Listed> = self.store.look(&input.bucket, |bucket| {
            Ok(page(&bucket.keys, &query, order, |key, history| listed(history, id_marker.filter(|_| key == marker))))
        })?;
        let spelling = self.spelling(input.encoding_type.as_ref())?;
        let last = found.entries.last().filter(|_| found.next.as_ref().is_some_and(|next| next.past.is_none()));
        let (versions, markers) = spelled(&found, spelling);
        Ok(ListObjectVersionsOutput {
            name: Some(input.bucket),
            prefix: Some(spelling.of(&query.prefix)),
            delimiter: input.delimiter.map(|text| spelling.of(&text)),
            key_marker: Some(spelling.of(&marker)),
            version_id_marker: Some(input.version_id_marker.clone().unwrap_or_default()),
            max_keys: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            is_truncated: Some(found.next.is_some()),
            next_key_marker: found.next.as_ref().map(|next| spelling.of(&next.after)),
            next_version_id_marker: last.map(|(_, listed)| listed.version.id.clone()),
            common_prefixes: spelling.prefixes(&found),
            versions: Some(versions),
            delete_markers: Some(markers),
            encoding_type: input.encoding_type.filter(|_| !self.options.quirks.no_url_encoding),
            request_charged: None,
        })
    }
}

/// Refuses markers that no page can have ended with.
fn must_be_markers(key: &str, version_id: Option<&str>) -> S3Result<()> {
    let message = match version_id {
        None => return Ok(()),
        Some("") => "A version-id marker cannot be empty.",
        Some(_) if key.is_empty() => "A version-id marker cannot be specified without a key marker.",
        Some(id) => return must_be_version_id(id),
    };
    Err(S3Error::with_message(S3ErrorCode::InvalidArgument, message))
}

/// The versions of a key, newest first: all, or those older than one that may be gone by now.
fn listed(history: &History, behind: Option<&str>) -> Vec<Listed> {
    // Of a null version that is gone nobody knows how old it was; most are older than all others.
    let before = behind.map(|id| {
        let present = history.version(id).map(|version| version.serial);
        present.or_else(|| serial_of(id)).unwrap_or(0)
    });
    let versions = history.newest_first().enumerate();
    versions
        .filter(|(_, version)| before.is_none_or(|serial| version.serial < serial))
        .map(|(index, version)| Listed { version: version.clone(), newest: index == 0 })
        .collect()
}

fn spelled(page: &Page<Listed>, spelling: Spelling) -> (Vec<ObjectVersion>, Vec<DeleteMarkerEntry>) {
    let (mut versions, mut markers) = (Vec::new(), Vec::new());
    for (key, Listed { version, newest }) in &page.entries {
        match &version.object {
            Some(object) => versions.push(entry(spelling.of(key), version, object, *newest)),
            None => markers.push(DeleteMarkerEntry {
                key: Some(spelling.of(key)),
                version_id: Some(version.id.clone()),
                is_latest: Some(*newest),
                last_modified: Some(version.last_modified.into()),
                owner: Some(owner()),
            }),
        }
    }
    (versions, markers)
}

fn entry(key: String, version: &Version, object: &StoredObject, newest: bool) -> ObjectVersion {
    ObjectVersion {
        key: Some(key),
        version_id: Some(version.id.clone()),
        is_latest: Some(newest),
        last_modified: Some(version.last_modified.into()),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        size: Some(signed(object.size())),
        storage_class: Some(ObjectVersionStorageClass::from(object.storage_class.clone())),
        checksum_algorithm: object.checksum.as_ref().map(|sum| vec![sum.algorithm.name().to_owned().into()]),
        checksum_type: object.checksum.as_ref().map(|sum| sum.span.dto()),
        owner: Some(owner()),
        restore_status: None,
    }
}
