//! Access control lists of objects: kept and answered, never asked when somebody reads.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html>

use s3s::{S3Error, S3ErrorCode, S3Result};

/// The group of everybody.
pub const EVERYBODY: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
/// The group of everybody with an account.
pub const EVERYBODY_KNOWN: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// What an object's list says; the owner's full control stands in it like any other grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl(pub Vec<Grant>);

/// One right of one grantee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub grantee: Grantee,
    /// `FULL_CONTROL`, `READ`, `WRITE`, `READ_ACP` or `WRITE_ACP`.
    pub permission: String,
}

/// Who has a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grantee {
    /// An account, by its canonical id.
    User(String),
    /// A group, by its address.
    Group(String),
    Email(String),
}

/// Whether lists can be set in a bucket at all; by default they cannot.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ownership {
    #[default]
    Enforced,
    Preferred,
    Writer,
}

/// The account that owns everything.
pub(crate) const OWNER: &str = "nexus-sandbox";

const PERMISSIONS: [&str; 5] = ["FULL_CONTROL", "READ", "WRITE", "READ_ACP", "WRITE_ACP"];

impl Default for Acl {
    fn default() -> Self {
        Self(vec![Grant::new(Grantee::User(OWNER.to_owned()), "FULL_CONTROL")])
    }
}

impl Grant {
    pub fn new(grantee: Grantee, permission: &str) -> Self {
        Self { grantee, permission: permission.to_owned() }
    }
}

impl Acl {
    /// The list that a canned name stands for.
    pub(crate) fn canned(name: &str) -> S3Result<Self> {
        let mut acl = Self::default();
        let group = |address: &str, permission| Grant::new(Grantee::Group(address.to_owned()), permission);
        match name {
            // Bucket and objects have one owner here, and nobody runs images.
            "private" | "bucket-owner-read" | "bucket-owner-full-control" | "aws-exec-read" => {}
            "public-read" => acl.0.push(group(EVERYBODY, "READ")),
            "public-read-write" => acl.0.extend(["READ", "WRITE"].map(|right| group(EVERYBODY, right))),
            "authenticated-read" => acl.0.push(group(EVERYBODY_KNOWN, "READ")),
            _ => return Err(invalid("The canned ACL is not valid.")),
        }
        Ok(acl)
    }

    /// The list that grant headers make: `id="…", uri="…"` by permission.
    pub(crate) fn granted(headers: &[(&str, String)]) -> S3Result<Self> {
        let mut grants = Vec::new();
        for (permission, value) in headers {
            for pair in value.split(',') {
                let (kind, name) =
                    pair.trim().split_once('=').ok_or_else(|| invalid("Argument format not recognized"))?;
                let name = name.trim_matches('"').to_owned();
                let grantee = match kind {
                    "id" => Grantee::User(name),
                    "uri" => Grantee::Group(name),
                    "emailAddress" => Grantee::Email(name),
                    _ => return Err(invalid("Argument format not recognized")),
                };
                grants.push(Grant::new(grantee, permission));
            }
        }
        Ok(Self(grants))
    }
}

/// Refuses a permission that there is not.
pub(crate) fn must_be_permission(name: &str) -> S3Result<()> {
    if PERMISSIONS.contains(&name) {
        return Ok(());
    }
    Err(S3Error::with_message(
        S3ErrorCode::MalformedACLError,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ))
}

fn invalid(message: &'static str) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message)
}
