//! Checksums as Amazon S3 keeps them: one algorithm an object, over the whole object or over its parts.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto;
use s3s::{S3Error, S3ErrorCode, S3Result};

/// An algorithm that S3 can keep a checksum of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

/// What a checksum was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The object's bytes.
    FullObject,
    /// The checksums of the parts, one after the other.
    Composite,
}

/// A checksum in the form in which S3 sends it: base64, and `-N` behind it if it is a composite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    pub algorithm: Algorithm,
    pub span: Span,
    pub value: String,
}

impl Algorithm {
    /// All of them, in the order in which S3 documents them.
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// As it is spelled in `x-amz-checksum-algorithm`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header, or trailer, that carries a value of it.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// Reads the spelling of `x-amz-checksum-algorithm`.
    pub(crate) fn named(name: &str) -> S3Result<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            S3Error::with_message(S3ErrorCode::InvalidRequest, "Checksum algorithm provided is unsupported.")
        })
    }

    /// The digest of `bytes`, in base64.
    pub(crate) fn digest(self, bytes: &[u8]) -> String {
        let mut hasher = ChecksumHasher::default();
        match self {
            Self::Crc32 => hasher.crc32 = Some(Crc32::new()),
            Self::Crc32c => hasher.crc32c = Some(Crc32c::new()),
            Self::Crc64Nvme => hasher.crc64nvme = Some(Crc64Nvme::new()),
            Self::Sha1 => hasher.sha1 = Some(Sha1::new()),
            Self::Sha256 => hasher.sha256 = Some(Sha256::new()),
        }
        hasher.update(bytes);
        let sums = hasher.finalize();
        sums.checksum_crc32
            .or(sums.checksum_crc32c)
            .or(sums.checksum_crc64nvme)
            .or(sums.checksum_sha1)
            .or(sums.checksum_sha256)
            .unwrap_or_default()
    }

    /// The checksum of the whole of `bytes`.
    pub(crate) fn whole(self, bytes: &[u8]) -> Checksum {
        Checksum { algorithm: self, span: Span::FullObject, value: self.digest(bytes) }
    }

    /// The checksum of the checksums of `parts`, each in base64.
    pub(crate) fn composite(self, parts: &[String]) -> Checksum {
        let joined: Vec<u8> = parts.iter().flat_map(|part| BASE64.decode(part).unwrap_or_default()).collect();
        Checksum { algorithm: self, span: Span::Composite, value: format!("{}-{}", self.digest(&joined), parts.len()) }
    }
}

impl Checksum {
    /// Refuses a value that differs from this one, as `BadDigest`.
    pub(crate) fn must_equal(&self, sent: &str) -> S3Result<()> {
        if self.value == sent {
            return Ok(());
        }
        let name = self.algorithm.name();
        Err(S3Error::with_message(
            S3ErrorCode::BadDigest,
            format!("The {name} you specified did not match the calculated checksum."),
        ))
    }
}

impl Span {
    /// As S3 spells it in `x-amz-checksum-type`.
    pub(crate) fn dto(self) -> dto::ChecksumType {
        let name = match self {
            Self::FullObject => dto::ChecksumType::FULL_OBJECT,
            Self::Composite => dto::ChecksumType::COMPOSITE,
        };
        dto::ChecksumType::from_static(name)
    }
}

/// The MD5 of `bytes` as lower-case hexadecimal digits, which is the `ETag` of a single put.
pub(crate) fn md5_hex(bytes: &[u8]) -> String {
    hexadecimal(&Md5::checksum(bytes))
}

/// Refuses a `Content-MD5` that is malformed (`InvalidDigest`) or of other bytes (`BadDigest`) than those of this MD5.
pub(crate) fn content_md5_must_match(sent: &str, md5: [u8; 16]) -> S3Result<()> {
    let digest = BASE64.decode(sent).unwrap_or_default();
    if digest.len() != 16 {
        return Err(S3ErrorCode::InvalidDigest.into());
    }
    if digest == md5 {
        return Ok(());
    }
    Err(S3Error::with_message(S3ErrorCode::BadDigest, "The Content-MD5 you specified did not match what we received."))
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        digits.push(char::from(DIGITS[usize::from(byte >> 4)]));
        digits.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    digits
}

/// Reads the checksums that the five input fields of a request carry.
macro_rules! sent_checksums {
    ($input:expr) => {{
        use $crate::checksum::Algorithm;
        [
            (Algorithm::Crc32, $input.checksum_crc32.clone()),
            (Algorithm::Crc32c, $input.checksum_crc32c.clone()),
            (Algorithm::Crc64Nvme, $input.checksum_crc64nvme.clone()),
            (Algorithm::Sha1, $input.checksum_sha1.clone()),
            (Algorithm::Sha256, $input.checksum_sha256.clone()),
        ]
        .into_iter()
        .filter_map(|(algorithm, value)| value.map(|value| (algorithm, value)))
        .collect::<Vec<(Algorithm, String)>>()
    }};
}

/// Writes a value into the one of an answer's five output fields that is its algorithm's.
macro_rules! write_checksum {
    ($output:expr, $algorithm:expr, $value:expr) => {{
        use $crate::checksum::Algorithm;
        let value = Some($value);
        match $algorithm {
            Algorithm::Crc32 => $output.checksum_crc32 = value,
            Algorithm::Crc32c => $output.checksum_crc32c = value,
            Algorithm::Crc64Nvme => $output.checksum_crc64nvme = value,
            Algorithm::Sha1 => $output.checksum_sha1 = value,
            Algorithm::Sha256 => $output.checksum_sha256 = value,
        }
    }};
}

/// Writes an object's checksum, and its kind, into an answer.
macro_rules! write_object_checksum {
    ($output:expr, $checksum:expr) => {
        if let Some(checksum) = $checksum {
            $crate::checksum::write_checksum!($output, checksum.algorithm, checksum.value.clone());
            $output.checksum_type = Some(checksum.span.dto());
        }
    };
}

pub(crate) use {sent_checksums, write_checksum, write_object_checksum};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_the_published_ones() {
        let check = b"123456789";
        assert_eq!(Algorithm::Crc32.digest(check), BASE64.encode(0xcbf4_3926_u32.to_be_bytes()));
        assert_eq!(Algorithm::Crc32c.digest(check), BASE64.encode(0xe306_9283_u32.to_be_bytes()));
        assert_eq!(Algorithm::Crc64Nvme.digest(check), BASE64.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes()));
        assert_eq!(md5_hex(b""), "d41d8cd98f00b204e9800998ecf8427e");
    }
}
