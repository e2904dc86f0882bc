//! A part of an upload that the service copies by itself, under a condition where it takes one.

use aws_sdk_s3::types::CompletedPart;

use super::blank::marked;
use super::failure::{Failure, FailureKind, failure};
use super::s3::{S3, quoted, stored};

/// Which part of which upload comes from where.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartCopy<'a> {
    pub(super) upload: &'a str,
    pub(super) number: i32,
    /// As `x-amz-copy-source` has it.
    pub(super) source: &'a str,
    /// As `x-amz-copy-source-range` has it; none for all of it.
    pub(super) range: Option<&'a str>,
    /// How many bytes that are, which is what the patience goes by.
    pub(super) bytes: u64,
}

impl S3 {
    /// Copies one part. A condition that the service does not take is left out, and whoever asked compares the source
    /// afterwards, as is needed anyway: Ceph passes over it (its `RGWPutObj_ObjStore_S3::get_params`), Cloudflare R2 marks it
    /// as not implemented (<https://developers.cloudflare.com/r2/api/s3/api/>).
    pub(super) async fn copy_part(
        &self,
        key: &str,
        part: &PartCopy<'_>,
        condition: Option<String>,
    ) -> std::result::Result<CompletedPart, Failure> {
        let learned = &self.service.learned;
        let asked = condition.is_some() && learned.knows_part_conditions();
        if asked {
            match self.copy_part_once(key, part, condition).await {
                Err(failure)
                    if failure.kind == FailureKind::Unsupported || failure.mentions("x-amz-copy-source-if") => {}
                copied => return copied,
            }
        }
        let copied = self.copy_part_once(key, part, None).await;
        match &copied {
            Ok(_) if asked => learned.has_no_part_conditions(),
            Err(failure) if failure.kind == FailureKind::Unsupported => learned.has_no_part_copies(),
            Ok(_) | Err(_) => {}
        }
        copied
    }

    pub(super) async fn copy_part_once(
        &self,
        key: &str,
        part: &PartCopy<'_>,
        condition: Option<String>,
    ) -> std::result::Result<CompletedPart, Failure> {
        self.attempt(part.bytes, async || {
            let request = self.client().upload_part_copy().bucket(self.name()).key(marked(key));
            let request = request.upload_id(part.upload).part_number(part.number).copy_source(part.source);
            let request = request.set_copy_source_range(part.range.map(str::to_owned));
            let answer = request.set_copy_source_if_match(condition.clone()).send().await.map_err(failure)?;
            let result = answer.copy_part_result();
            let etag = stored(result.and_then(|result| result.e_tag()))?;
            Ok(CompletedPart::builder()
                .part_number(part.number)
                .e_tag(quoted(&etag))
                .set_checksum_crc32(result.and_then(|result| result.checksum_crc32()).map(str::to_owned))
                .set_checksum_crc64_nvme(result.and_then(|result| result.checksum_crc64_nvme()).map(str::to_owned))
                .build())
        })
        .await
    }
}
