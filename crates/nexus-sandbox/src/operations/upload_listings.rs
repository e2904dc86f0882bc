//! Listings of open uploads and of the parts they have.

use s3s::dto::{
    self, ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput,
    MultipartUpload, StorageClass,
};
use s3s::{S3Request, S3Result};

use super::{Operations, signed};
use crate::checksum::write_checksum;
use crate::upload::{Part, Upload};

impl Operations {
    pub(super) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<ListMultipartUploadsOutput> {
        let input = request.input;
        let spelling = self.spelling(input.encoding_type.as_ref())?;
        let limit = self.page_limit(input.max_uploads)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let marker = input.key_marker.clone().unwrap_or_default();
        let id_marker = input.upload_id_marker.clone();
        let mut uploads: Vec<(String, String, MultipartUpload)> = self.store.look(&input.bucket, |bucket| {
            Ok(bucket
                .uploads
                .iter()
                .filter(|((key, _), _)| key.starts_with(&prefix))
                .filter(|((key, id), _)| match &id_marker {
                    Some(seen) => (key, id) > (&marker, seen),
                    None => *key > marker,
                })
                .take(limit + 1)
                .map(|((key, id), upload)| (key.clone(), id.clone(), listed(spelling.of(key), id, upload)))
                .collect())
        })?;
        let truncated = uploads.len() > limit;
        uploads.truncate(limit);
        let last = uploads.last().filter(|_| truncated).cloned();
        Ok(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix.map(|text| spelling.of(&text)),
            key_marker: Some(spelling.of(&marker)),
            upload_id_marker: input.upload_id_marker,
            max_uploads: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            is_truncated: Some(truncated),
            next_key_marker: last.as_ref().map(|(key, _, _)| spelling.of(key)),
            next_upload_id_marker: last.map(|(_, id, _)| id),
            uploads: Some(uploads.into_iter().map(|(_, _, upload)| upload).collect()),
            encoding_type: input.encoding_type.filter(|_| !self.options.quirks.no_url_encoding),
            ..ListMultipartUploadsOutput::default()
        })
    }

    pub(super) async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<ListPartsOutput> {
        let input = request.input;
        let limit = self.page_limit(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0);
        self.store.with_bucket(&input.bucket, |bucket| {
            let upload = bucket.upload(&input.key, &input.upload_id)?;
            let mut parts: Vec<dto::Part> = upload
                .parts
                .range(after.saturating_add(1)..)
                .take(limit + 1)
                .map(|(number, part)| listed_part(*number, part))
                .collect();
            let truncated = parts.len() > limit;
            parts.truncate(limit);
            Ok(ListPartsOutput {
                bucket: Some(input.bucket.clone()),
                key: Some(input.key.clone()),
                upload_id: Some(input.upload_id.clone()),
                part_number_marker: Some(after),
                next_part_number_marker: parts.last().and_then(|part| part.part_number),
                max_parts: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
                is_truncated: Some(truncated),
                parts: Some(parts),
                storage_class: Some(StorageClass::from(upload.object.storage_class.clone())),
                ..ListPartsOutput::default()
            })
        })
    }
}

fn listed(key: String, id: &str, upload: &Upload) -> MultipartUpload {
    let checksum = upload.checksum.filter(|_| upload.checksum_asked);
    MultipartUpload {
        key: Some(key),
        upload_id: Some(id.to_owned()),
        initiated: Some(upload.initiated.into()),
        storage_class: Some(StorageClass::from(upload.object.storage_class.clone())),
        checksum_algorithm: checksum.map(|kind| kind.0.name().to_owned().into()),
        checksum_type: checksum.map(|kind| kind.1.dto()),
        owner: Some(super::buckets::owner()),
        initiator: None,
    }
}

fn listed_part(number: i32, part: &Part) -> dto::Part {
    let mut listed = dto::Part {
        part_number: Some(number),
        e_tag: Some(ETag::Strong(part.etag())),
        last_modified: Some(part.last_modified.into()),
        size: Some(signed(part.body.len() as u64)),
        ..dto::Part::default()
    };
    if let Some((algorithm, value)) = &part.checksum {
        write_checksum!(listed, algorithm, value.clone());
    }
    listed
}
