//! Services that call themselves S3 compatible, each with the ways in which it is known to differ.
//!
//! Only what its maker writes, its source shows, its users report, or was seen on a running service stands here; of
//! what nobody says anything, the service behaves as Amazon S3 does, which need not be true.

use crate::options::{HeaderRefusal, MatchOfAbsent, Names, Quirks, Throttling};

/// A service, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personality {
    Aws,
    /// Cloudflare R2.
    R2,
    /// Backblaze B2.
    B2,
    MinIo,
    SeaweedFs,
    Garage,
    /// The gateway of Ceph.
    Ceph,
    Wasabi,
    /// Google Cloud Storage by its XML interface.
    Gcs,
}

impl Personality {
    pub const ALL: [Self; 9] = [
        Self::Aws,
        Self::R2,
        Self::B2,
        Self::MinIo,
        Self::SeaweedFs,
        Self::Garage,
        Self::Ceph,
        Self::Wasabi,
        Self::Gcs,
    ];

    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::R2 => "r2",
            Self::B2 => "b2",
            Self::MinIo => "minio",
            Self::SeaweedFs => "seaweedfs",
            Self::Garage => "garage",
            Self::Ceph => "ceph",
            Self::Wasabi => "wasabi",
            Self::Gcs => "gcs",
        }
    }

    /// The service of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|personality| personality.name() == name)
    }

    /// How the service differs from Amazon S3.
    pub fn quirks(self) -> Quirks {
        match self {
            Self::Aws => Quirks::default(),
            Self::R2 => r2(),
            Self::B2 => b2(),
            Self::MinIo => minio(),
            Self::SeaweedFs => seaweedfs(),
            Self::Garage => garage(),
            Self::Ceph => ceph(),
            Self::Wasabi => wasabi(),
            Self::Gcs => gcs(),
        }
    }
}

fn r2() -> Quirks {
    Quirks {
        // `ListObjectVersions not implemented`: seen by users of R2 with status 501; it is not among the
        // operations of https://developers.cloudflare.com/r2/api/s3/api/, like the others here, of which
        // `GetObjectTagging not implemented` was seen too: https://github.com/jhaals/yopass/issues/3657
        missing: &[
            "ListObjectVersions",
            "PutBucketVersioning",
            "GetObjectTagging",
            "PutObjectTagging",
            "DeleteObjectTagging",
            "PutObjectLockConfiguration",
            "GetObjectRetention",
            "PutObjectRetention",
            "GetObjectLegalHold",
            "PutObjectLegalHold",
        ],
        // `Header 'x-amz-tagging' with value '…' not implemented`:
        // https://github.com/openreplay/openreplay/issues/2018; locks are marked alike in
        // https://developers.cloudflare.com/r2/api/s3/api/, and so are the conditions on the source of a part.
        refused_headers: &[
            "x-amz-tagging",
            "x-amz-tagging-directive",
            "x-amz-object-lock-*",
            "UploadPartCopy x-amz-copy-source-if-*",
        ],
        header_refusal: HeaderRefusal::NotImplemented,
        // https://github.com/bitfoundation/bitplatform/issues/13362
        no_signed_trailers: true,
        // `All non-trailing parts must have the same length`: https://github.com/apache/opendal/issues/2904,
        // https://developers.cloudflare.com/r2/objects/multipart-objects/
        equal_parts: true,
        // Release notes of 2023-08-11 and of 2022-09-06:
        // https://developers.cloudflare.com/r2/platform/release-notes/
        failed_completion_aborts: true,
        idle_version_ids: true,
        ..Quirks::default()
    }
}

fn b2() -> Quirks {
    Quirks {
        // `Unsupported header 'x-amz-tagging' received for this API call.`, InvalidArgument:
        // https://github.com/velero-io/velero-plugin-for-aws/pull/304, and of checksums
        // https://github.com/iterate-ch/cyberduck/issues/16107,
        // https://backblaze.com/docs/cloud-storage-use-the-aws-sdk-for-python-with-backblaze-b2
        refused_headers: &["x-amz-tagging", "x-amz-checksum-*", "x-amz-sdk-checksum-algorithm"],
        header_refusal: HeaderRefusal::Unsupported,
        ..Quirks::default()
    }
}

fn minio() -> Quirks {
    Quirks {
        // `checkPreconditionsPUT` lets a write pass where there is no object:
        // https://github.com/minio/minio/blob/master/cmd/object-handlers-common.go
        match_of_absent: MatchOfAbsent::Writes,
        // https://github.com/minio/minio/issues/20649
        no_checksum_of_copied_parts: true,
        // `IsValidObjectName`: https://github.com/minio/minio/blob/master/cmd/object-api-utils.go
        names: Names::Paths,
        ..Quirks::default()
    }
}

/// All of it was seen on a running SeaweedFS 4.48 without keys for encryption.
fn seaweedfs() -> Quirks {
    Quirks {
        missing: &["GetPublicAccessBlock"],
        match_of_absent: MatchOfAbsent::Fails,
        unordered_listing: true,
        names: Names::AlteredPaths,
        drop_redirects: true,
        latin_metadata: true,
        no_own_checksum: true,
        no_checksum_of_copied_parts: true,
        copies_keep_checksum: true,
        no_checksum_in_attributes: true,
        failing_encryption: true,
        open_archives: true,
        unnamed_source_version: true,
        piecemeal_parts: true,
        bare_etags: &["CopyObject", "UploadPartCopy"],
        ..Quirks::default()
    }
}

fn garage() -> Quirks {
    Quirks {
        // "All endpoints that are missing on Garage will return a 501":
        // https://garagehq.deuxfleurs.fr/documentation/reference-manual/s3-compatibility/
        missing: &[
            "PutBucketVersioning",
            "ListObjectVersions",
            "GetObjectTagging",
            "PutObjectTagging",
            "DeleteObjectTagging",
            "GetObjectAcl",
            "PutObjectAcl",
            "GetObjectLockConfiguration",
            "PutObjectLockConfiguration",
            "GetObjectRetention",
            "PutObjectRetention",
            "GetObjectLegalHold",
            "PutObjectLegalHold",
            "GetBucketPolicyStatus",
            "GetPublicAccessBlock",
            "PutPublicAccessBlock",
        ],
        // What the header fields of a put say of conditions, tags, locks, encryption and class is not read, and
        // each write names a version: https://git.deuxfleurs.fr/Deuxfleurs/garage, src/api/s3/put.rs,
        // multipart.rs, copy.rs and list.rs, where every object is STANDARD.
        ignore_put_conditions: true,
        drop_tags: true,
        drop_locks: true,
        no_encryption: true,
        no_classes: true,
        idle_version_ids: true,
        ..Quirks::default()
    }
}

fn ceph() -> Quirks {
    Quirks {
        // `RGWPutObj_ObjStore_S3::get_params` reads no conditions on the source of a part, and only
        // https://github.com/ceph/ceph/pull/64830 brought those on a completion. Before
        // https://github.com/ceph/ceph/pull/44678 those on the source of a copy were not read either.
        ignore_part_conditions: true,
        ignore_completion_conditions: true,
        // https://github.com/ceph/ceph/blob/main/src/rgw/rgw_rest_s3.cc, `send_response` of both.
        bare_etags: &["UploadPartCopy", "CompleteMultipartUpload"],
        ..Quirks::default()
    }
}

fn wasabi() -> Quirks {
    Quirks {
        // https://docs.wasabi.com/docs/rest-api-introduction, "HTTP Error Codes".
        throttling: Throttling::RateLimit,
        ..Quirks::default()
    }
}

fn gcs() -> Quirks {
    Quirks {
        // Deletes of many: https://github.com/supabase/storage/issues/898. Parts cannot be copied
        // (https://issuetracker.google.com/issues/323465186, rclone's provider file): that they are refused is
        // known, with which code is not, and the one of the others stands for it.
        missing: &["DeleteObjects", "UploadPartCopy"],
        ..Quirks::default()
    }
}
