//! All that content may be told by, computed as it passes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::listing::hex;
use crate::point::FileHash;

/// The MD5 of content as `Content-MD5` has it.
pub(crate) fn content_md5(content: &[u8]) -> String {
    BASE64.encode(Md5::digest(content))
}

/// What content is told by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// Its length and SHA-256.
    pub hash: FileHash,
    /// Its MD5, hexadecimal, which an ETag may be.
    pub md5: String,
    /// Its CRC64NVME, base64 of its eight bytes in network order, as S3 writes it
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>).
    pub crc64: String,
}

impl Hashes {
    /// Whether the content has a checksum as a listing writes it: `sha256:…`, `crc64nvme:…`; `None` for one of another kind.
    pub fn have(&self, checksum: &str) -> Option<bool> {
        match checksum.split_once(':')? {
            ("sha256", sha256) => Some(sha256 == self.hash.sha256),
            ("crc64nvme", crc64) => Some(crc64 == self.crc64),
            _ => None,
        }
    }
}

/// Computes [`Hashes`].
pub(crate) struct Hasher {
    bytes: u64,
    sha256: Sha256,
    md5: Md5,
    crc64: crc_fast::Digest,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        let crc64 = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        Self { bytes: 0, sha256: Sha256::new(), md5: Md5::new(), crc64 }
    }

    pub(crate) fn update(&mut self, content: &[u8]) {
        self.bytes += content.len() as u64;
        self.sha256.update(content);
        self.md5.update(content);
        self.crc64.update(content);
    }

    pub(crate) fn finish(self) -> Hashes {
        Hashes {
            hash: FileHash { bytes: self.bytes, sha256: hex(&self.sha256.finalize()) },
            md5: hex(&self.md5.finalize()),
            crc64: BASE64.encode(self.crc64.finalize().to_be_bytes()),
        }
    }
}

/// All that a file on this machine may be told by.
pub(crate) fn of_file(path: &std::path::Path) -> crate::error::Result<Hashes> {
    let failed = |cause| crate::error::Error::local(format!("cannot read `{}`", path.display()), cause);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut hasher = Hasher::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match std::io::Read::read(&mut file, &mut chunk).map_err(failed)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&chunk[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_compared_by_its_kind_and_one_of_another_kind_says_nothing() {
        let mut passing = Hasher::new();
        passing.update(b"1234");
        passing.update(b"56789");
        let hashes = passing.finish();
        // The check value of CRC-64/NVME in the catalogue of parametrised CRC algorithms.
        let crc64 = BASE64.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes());
        assert_eq!(hashes.have(&format!("crc64nvme:{crc64}")), Some(true));
        assert_eq!(hashes.have("crc64nvme:AAAAAAAAAAA="), Some(false));
        assert_eq!(hashes.have(&format!("sha256:{}", hashes.hash.sha256)), Some(true));
        assert_eq!((hashes.have("crc32:AAAAAA=="), hashes.have("?")), (None, None));
        assert_eq!((hashes.md5.as_str(), hashes.hash.bytes), ("25f9e794323b453885f5181f1b624d0b", 9));
    }
}
