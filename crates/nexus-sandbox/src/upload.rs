//! Multipart uploads: parts that become one object when they are completed.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::CompletedPart;
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::checksum::{Algorithm, Checksum, Span, hexadecimal, sent_checksums};
use crate::object::{NewObject, StoredObject};

/// The largest part number.
pub(crate) const LAST_PART: i32 = 10_000;

/// An upload that is neither completed nor aborted.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub initiated: SystemTime,
    /// What the object will be, but for its bytes.
    pub object: NewObject,
    /// The algorithm and kind of checksum that the object will have.
    pub checksum: Option<(Algorithm, Span)>,
    /// Whether the algorithm was asked for, or is the service's own choice.
    pub checksum_asked: bool,
    pub parts: BTreeMap<i32, Part>,
}

/// The size of the pieces, in bytes, that a copied part is kept in where its `ETag` counts them.
const PIECE: usize = 4 << 20;

/// One part of an upload.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub body: Bytes,
    pub md5: [u8; 16],
    /// Whether its bytes are those of another object.
    pub copied: bool,
    /// In how many pieces it is kept, where its `ETag` says so; 1 otherwise.
    pub pieces: usize,
    pub last_modified: SystemTime,
    /// In base64, of the upload's algorithm.
    pub checksum: Option<(Algorithm, String)>,
}

impl Part {
    /// The part's `ETag`, without quotes.
    pub fn etag(&self) -> String {
        match self.pieces {
            1 => hexadecimal(&self.md5),
            pieces => format!("{}-{pieces}", hexadecimal(&self.md5)),
        }
    }
}

impl Part {
    /// The same part as a service has it that keeps copies in pieces and takes the MD5 of their MD5s.
    pub fn piecemeal(mut self) -> Self {
        if self.body.len() > PIECE {
            let sums: Vec<u8> = self.body.chunks(PIECE).flat_map(Md5::checksum).collect();
            self.md5 = Md5::checksum(&sums);
            self.pieces = self.body.len().div_ceil(PIECE);
        }
        self
    }
}

impl Upload {
    /// The parts that a completion names, in its order, or why they cannot be had.
    pub fn chosen(&self, wanted: &[CompletedPart], smallest: u64) -> S3Result<Vec<&Part>> {
        if wanted.is_empty() {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let mut chosen = Vec::with_capacity(wanted.len());
        let mut before = 0;
        for entry in wanted {
            let number = entry.part_number.ok_or(S3ErrorCode::MalformedXML)?;
            if number <= before {
                return Err(S3Error::with_message(
                    S3ErrorCode::InvalidPartOrder,
                    "The list of parts was not in ascending order. Parts must be ordered by part number.",
                ));
            }
            before = number;
            let part = self.parts.get(&number).ok_or_else(invalid_part)?;
            self.must_be(part, entry)?;
            chosen.push(part);
        }
        let inner = &chosen[..chosen.len() - 1];
        if inner.iter().any(|part| (part.body.len() as u64) < smallest) {
            return Err(S3Error::with_message(
                S3ErrorCode::EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size",
            ));
        }
        Ok(chosen)
    }

    fn must_be(&self, part: &Part, entry: &CompletedPart) -> S3Result<()> {
        let etag = entry.e_tag.as_ref().ok_or(S3ErrorCode::MalformedXML)?;
        if etag.value() != part.etag() {
            return Err(invalid_part());
        }
        let sent = sent_checksums!(entry);
        let composite = matches!(self.checksum, Some((_, Span::Composite)));
        if composite && self.checksum_asked && sent.is_empty() {
            return Err(S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                "The complete request must include the checksum for each part.",
            ));
        }
        for claim in sent {
            if part.checksum.as_ref().is_some_and(|kept| kept.0 == claim.0 && *kept != claim) {
                return Err(invalid_part());
            }
        }
        Ok(())
    }

    /// The `ETag` of the whole: the MD5 of the parts' MD5s, a hyphen, their number.
    pub fn etag(parts: &[&Part]) -> String {
        let joined: Vec<u8> = parts.iter().flat_map(|part| part.md5).collect();
        format!("{}-{}", crate::checksum::md5_hex(&joined), parts.len())
    }

    /// The object that these parts make; it is as old as the upload, not as its completion.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
    pub fn completed(&self, parts: &[&Part], etag: String) -> StoredObject {
        let body = joined(parts);
        StoredObject {
            checksum: self.checksum_of(&body, parts),
            body,
            etag,
            last_modified: self.initiated,
            fields: self.object.fields.clone(),
            storage_class: self.object.storage_class.clone(),
            encryption: self.object.encryption.clone(),
            tags: self.object.tags.clone(),
            lock: self.object.lock,
            acl: self.object.acl.clone(),
            parts: parts.iter().map(|part| part.body.len() as u64).collect(),
        }
    }

    fn checksum_of(&self, body: &Bytes, parts: &[&Part]) -> Option<Checksum> {
        let (algorithm, span) = self.checksum?;
        if span == Span::FullObject {
            return Some(algorithm.whole(body));
        }
        let sums: Vec<String> = parts
            .iter()
            .map(|part| match &part.checksum {
                Some((kept, value)) if *kept == algorithm => value.clone(),
                _ => algorithm.digest(&part.body),
            })
            .collect();
        Some(algorithm.composite(&sums))
    }
}

fn joined(parts: &[&Part]) -> Bytes {
    if let [only] = parts {
        return only.body.clone();
    }
    let length = parts.iter().map(|part| part.body.len()).sum();
    let mut body = BytesMut::with_capacity(length);
    for part in parts {
        body.extend_from_slice(&part.body);
    }
    body.freeze()
}

fn invalid_part() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::InvalidPart,
        "One or more of the specified parts could not be found. The part might not have been uploaded, or the specified entity tag might not have matched the part's entity tag.",
    )
}
