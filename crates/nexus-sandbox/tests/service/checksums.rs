//! Checksums: verified when sent, kept, given back.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ObjectAttributes};
use nexus_sandbox::{Algorithm, Quirks};

use crate::rig::{BUCKET, quirky, refusal, strict};

#[tokio::test]
async fn mismatches_are_refused() {
    let rig = strict();
    let put = || rig.client.put_object().bucket(BUCKET).key("k").body(b"hello".to_vec().into());
    assert_eq!(refusal(put().checksum_crc32("AAAAAA==").send().await), "BadDigest");
    let wrong = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    assert_eq!(refusal(put().checksum_sha256(wrong).send().await), "BadDigest");
    assert_eq!(refusal(put().content_md5("1B2M2Y8AsgTpgAmY7PhCfg==").send().await), "BadDigest");
    assert_eq!(refusal(put().content_md5("short").send().await), "InvalidDigest");
    assert_eq!(rig.service.store().count(BUCKET), 0);
}

#[tokio::test]
async fn every_algorithm_is_verified_and_kept() {
    let rig = strict();
    for (asked, kept) in [
        (ChecksumAlgorithm::Crc32, Algorithm::Crc32),
        (ChecksumAlgorithm::Crc32C, Algorithm::Crc32c),
        (ChecksumAlgorithm::Crc64Nvme, Algorithm::Crc64Nvme),
        (ChecksumAlgorithm::Sha1, Algorithm::Sha1),
        (ChecksumAlgorithm::Sha256, Algorithm::Sha256),
    ] {
        let put = rig.client.put_object().bucket(BUCKET).key("k").checksum_algorithm(asked);
        put.body(b"hello".to_vec().into()).send().await.expect("a put");
        let object = rig.service.store().get(BUCKET, "k").expect("it");
        assert_eq!(object.checksum.as_ref().expect("a checksum").algorithm, kept);
    }
    let head = rig.client.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled);
    let sum = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    assert_eq!(head.send().await.expect("a head").checksum_sha256(), Some(sum));
    let attributes = rig.client.get_object_attributes().bucket(BUCKET).key("k");
    let attributes =
        attributes.object_attributes(ObjectAttributes::Checksum).object_attributes(ObjectAttributes::ObjectSize);
    let attributes = attributes.send().await.expect("attributes");
    assert_eq!(attributes.object_size(), Some(5));
    assert_eq!(attributes.checksum().and_then(|sums| sums.checksum_sha256()), Some(sum));
}

#[tokio::test]
async fn streamed_bodies_with_trailers_arrive_whole() {
    let rig = strict();
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("body");
    std::fs::write(&path, &bytes).expect("a file");
    let body = ByteStream::from_path(&path).await.expect("a stream");
    let put = rig.client.put_object().bucket(BUCKET).key("k").content_encoding("gzip").body(body);
    put.send().await.expect("a put");
    let object = rig.service.store().get(BUCKET, "k").expect("it");
    assert_eq!(object.body, bytes);
    assert_eq!(object.fields.content_encoding.as_deref(), Some("gzip"));
}

#[tokio::test]
async fn a_service_without_checksums_neither_verifies_nor_keeps_them() {
    let rig = quirky(Quirks { no_checksums: true, ..Quirks::default() });
    let put = rig.client.put_object().bucket(BUCKET).key("k").checksum_crc32("AAAAAA==");
    put.body(b"hello".to_vec().into()).send().await.expect("a put");
    assert_eq!(rig.service.store().get(BUCKET, "k").expect("it").checksum, None);
}
