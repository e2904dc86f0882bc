//! Which S3 operation a request is, told from its first line and headers alone.
//!
//! The service needs it before the request is carried out, to decide whether a fault strikes.

use hyper::{HeaderMap, Method};

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Service,
    Bucket,
    Object,
}

/// The name of the operation as Amazon S3 documents it, or `Unknown`.
pub(crate) fn operation_name(method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> &'static str {
    let query = query.unwrap_or_default();
    match target(path) {
        Target::Service if method == Method::GET => "ListBuckets",
        Target::Service => "Unknown",
        Target::Bucket => bucket_operation(method, query),
        Target::Object => object_operation(method, query, headers),
    }
}

fn target(path: &str) -> Target {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.split_once('/') {
        _ if path.is_empty() => Target::Service,
        None | Some((_, "")) => Target::Bucket,
        Some(_) => Target::Object,
    }
}

fn bucket_operation(method: &Method, query: &str) -> &'static str {
    match *method {
        Method::GET if has(query, "list-type") => "ListObjectsV2",
        Method::GET if has(query, "uploads") => "ListMultipartUploads",
        Method::GET if has(query, "location") => "GetBucketLocation",
        Method::GET if has(query, "versioning") => "GetBucketVersioning",
        Method::GET if has(query, "versions") => "ListObjectVersions",
        Method::GET if has(query, "policyStatus") => "GetBucketPolicyStatus",
        Method::GET if has(query, "publicAccessBlock") => "GetPublicAccessBlock",
        Method::GET if has(query, "lifecycle") => "GetBucketLifecycleConfiguration",
        Method::GET if has(query, "object-lock") => "GetObjectLockConfiguration",
        Method::GET if has(query, "ownershipControls") => "GetBucketOwnershipControls",
        Method::GET => "ListObjects",
        Method::HEAD => "HeadBucket",
        Method::PUT if has(query, "versioning") => "PutBucketVersioning",
        Method::PUT if has(query, "object-lock") => "PutObjectLockConfiguration",
        Method::PUT if has(query, "lifecycle") => "PutBucketLifecycleConfiguration",
        Method::PUT if has(query, "ownershipControls") => "PutBucketOwnershipControls",
        Method::PUT if has(query, "publicAccessBlock") => "PutPublicAccessBlock",
        Method::PUT => "CreateBucket",
        Method::POST if has(query, "delete") => "DeleteObjects",
        Method::DELETE if has(query, "lifecycle") => "DeleteBucketLifecycle",
        Method::DELETE => "DeleteBucket",
        _ => "Unknown",
    }
}

fn object_operation(method: &Method, query: &str, headers: &HeaderMap) -> &'static str {
    let copies = headers.contains_key("x-amz-copy-source");
    let upload = has(query, "uploadId");
    match *method {
        Method::GET if has(query, "tagging") => "GetObjectTagging",
        Method::GET if has(query, "attributes") => "GetObjectAttributes",
        Method::GET if has(query, "acl") => "GetObjectAcl",
        Method::GET if has(query, "retention") => "GetObjectRetention",
        Method::GET if has(query, "legal-hold") => "GetObjectLegalHold",
        Method::GET if upload => "ListParts",
        Method::GET => "GetObject",
        Method::HEAD => "HeadObject",
        Method::PUT if upload && copies => "UploadPartCopy",
        Method::PUT if upload => "UploadPart",
        Method::PUT if has(query, "tagging") => "PutObjectTagging",
        Method::PUT if has(query, "acl") => "PutObjectAcl",
        Method::PUT if has(query, "retention") => "PutObjectRetention",
        Method::PUT if has(query, "legal-hold") => "PutObjectLegalHold",
        Method::PUT if copies => "CopyObject",
        Method::PUT => "PutObject",
        Method::POST if has(query, "uploads") => "CreateMultipartUpload",
        Method::POST if upload => "CompleteMultipartUpload",
        Method::DELETE if upload => "AbortMultipartUpload",
        Method::DELETE if has(query, "tagging") => "DeleteObjectTagging",
        Method::DELETE => "DeleteObject",
        _ => "Unknown",
    }
}

fn has(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some(name))
}
