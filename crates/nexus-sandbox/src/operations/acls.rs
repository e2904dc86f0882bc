//! Access control lists as requests set them and ask for them, and whether a bucket lets them.

use s3s::dto::{
    self, GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput, GetObjectAclInput, GetObjectAclOutput,
    ObjectOwnership, OwnershipControls, OwnershipControlsRule, Permission, PutBucketOwnershipControlsInput,
    PutBucketOwnershipControlsOutput, PutObjectAclInput, PutObjectAclOutput, Type,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::Operations;
use super::buckets::owner;
use crate::acl::{Acl, Grant, Grantee, Ownership, must_be_permission};

/// The one canned list that can be sent where lists cannot be set: it changes nothing.
const HARMLESS: &str = "bucket-owner-full-control";

/// The list that a request's headers name.
#[derive(Debug, Default)]
pub(super) struct AclHeaders {
    pub canned: Option<String>,
    /// Permissions and who gets them.
    pub grants: Vec<(&'static str, String)>,
}

/// Reads the headers that set a list from any of the writing requests.
macro_rules! sent_acl {
    ($input:expr) => {
        $crate::operations::acls::AclHeaders {
            canned: $input.acl.take().map(|acl| acl.as_str().to_owned()),
            grants: [
                ("FULL_CONTROL", $input.grant_full_control.take()),
                ("READ", $input.grant_read.take()),
                ("READ_ACP", $input.grant_read_acp.take()),
                ("WRITE_ACP", $input.grant_write_acp.take()),
            ]
            .into_iter()
            .filter_map(|(permission, grantees)| Some((permission, grantees?)))
            .collect(),
        }
    };
}

pub(super) use sent_acl;

impl Operations {
    pub(super) async fn get_object_acl(&self, request: S3Request<GetObjectAclInput>) -> S3Result<GetObjectAclOutput> {
        let input = request.input;
        let found = self.store.found(&input.bucket, &input.key, input.version_id.as_deref())?;
        let ownership = self.store.look(&input.bucket, |bucket| Ok(bucket.ownership))?;
        let acl = match ownership {
            Ownership::Enforced => Acl::default(),
            Ownership::Preferred | Ownership::Writer => found.object.acl.clone(),
        };
        Ok(GetObjectAclOutput {
            owner: Some(owner()),
            grants: Some(acl.0.into_iter().map(shown).collect()),
            request_charged: None,
        })
    }

    pub(super) async fn put_object_acl(&self, request: S3Request<PutObjectAclInput>) -> S3Result<PutObjectAclOutput> {
        let mut input = request.input;
        let mut headers = sent_acl!(input);
        headers.grants.extend(input.grant_write.take().map(|grantees| ("WRITE", grantees)));
        let policy = input.access_control_policy;
        if policy.is_some() && !headers.is_empty() {
            return Err(S3ErrorCode::UnexpectedContent.into());
        }
        let of_body = policy.and_then(|policy| policy.grants);
        let of_body =
            of_body.map(|grants| grants.into_iter().map(read).collect::<S3Result<_>>().map(Acl)).transpose()?;
        let says_something = of_body.as_ref().map_or(headers.say_something(), |acl| *acl != Acl::default());
        let acl = of_body.map_or_else(|| headers.acl(), |acl| Ok(Some(acl)))?;
        let acl = acl.ok_or_else(|| {
            S3Error::with_message(S3ErrorCode::MissingSecurityHeader, "Your request was missing a required header")
        })?;
        if says_something {
            self.must_take_acls(&input.bucket)?;
        }
        self.store.with_bucket(&input.bucket, |bucket| {
            bucket.change(&input.key, input.version_id.as_deref(), |object| {
                object.acl = acl;
                Ok(())
            })?;
            Ok(PutObjectAclOutput::default())
        })
    }

    pub(super) async fn get_bucket_ownership_controls(
        &self,
        request: S3Request<GetBucketOwnershipControlsInput>,
    ) -> S3Result<GetBucketOwnershipControlsOutput> {
        let name = match self.store.look(&request.input.bucket, |bucket| Ok(bucket.ownership))? {
            Ownership::Enforced => ObjectOwnership::BUCKET_OWNER_ENFORCED,
            Ownership::Preferred => ObjectOwnership::BUCKET_OWNER_PREFERRED,
            Ownership::Writer => ObjectOwnership::OBJECT_WRITER,
        };
        let rule = OwnershipControlsRule { object_ownership: ObjectOwnership::from_static(name) };
        Ok(GetBucketOwnershipControlsOutput { ownership_controls: Some(OwnershipControls { rules: vec![rule] }) })
    }

    pub(super) async fn put_bucket_ownership_controls(
        &self,
        request: S3Request<PutBucketOwnershipControlsInput>,
    ) -> S3Result<PutBucketOwnershipControlsOutput> {
        let input = request.input;
        let [rule] = input.ownership_controls.rules.as_slice() else {
            return Err(S3ErrorCode::MalformedXML.into());
        };
        let ownership = ownership(Some(&rule.object_ownership)).ok_or(S3ErrorCode::MalformedXML)?;
        self.store.with_bucket(&input.bucket, |bucket| {
            bucket.ownership = ownership;
            Ok(PutBucketOwnershipControlsOutput::default())
        })
    }

    /// The list of an object that is written now: as asked, or the owner's alone.
    pub(super) fn asked_acl(&self, bucket: &str, headers: &AclHeaders) -> S3Result<Acl> {
        let acl = headers.acl()?;
        if headers.say_something() {
            self.must_take_acls(bucket)?;
        }
        Ok(acl.unwrap_or_default())
    }

    /// Refuses to set a list in a bucket that has none but the owner's.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-ownership-error-responses.html>
    fn must_take_acls(&self, bucket: &str) -> S3Result<()> {
        match self.store.look(bucket, |bucket| Ok(bucket.ownership))? {
            Ownership::Preferred | Ownership::Writer => Ok(()),
            Ownership::Enforced => {
                Err(S3Error::with_message(S3ErrorCode::AccessControlListNotSupported, "The bucket does not allow ACLs"))
            }
        }
    }
}

impl AclHeaders {
    fn is_empty(&self) -> bool {
        self.canned.is_none() && self.grants.is_empty()
    }

    fn say_something(&self) -> bool {
        !self.grants.is_empty() || self.canned.as_deref().is_some_and(|name| name != HARMLESS)
    }

    fn acl(&self) -> S3Result<Option<Acl>> {
        match (&self.canned, self.grants.as_slice()) {
            (None, []) => Ok(None),
            (Some(name), []) => Acl::canned(name).map(Some),
            (None, grants) => Acl::granted(grants).map(Some),
            (Some(_), _) => Err(S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                "Specifying both Canned ACLs and Header Grants is not allowed",
            )),
        }
    }
}

/// The ownership that a name means; the default when none is given.
pub(super) fn ownership(name: Option<&ObjectOwnership>) -> Option<Ownership> {
    match name.map(ObjectOwnership::as_str) {
        None | Some(ObjectOwnership::BUCKET_OWNER_ENFORCED) => Some(Ownership::Enforced),
        Some(ObjectOwnership::BUCKET_OWNER_PREFERRED) => Some(Ownership::Preferred),
        Some(ObjectOwnership::OBJECT_WRITER) => Some(Ownership::Writer),
        Some(_) => None,
    }
}

fn shown(grant: Grant) -> dto::Grant {
    let (kind, id, uri, email_address) = match grant.grantee {
        Grantee::User(id) => (Type::CANONICAL_USER, Some(id), None, None),
        Grantee::Group(uri) => (Type::GROUP, None, Some(uri), None),
        Grantee::Email(address) => (Type::AMAZON_CUSTOMER_BY_EMAIL, None, None, Some(address)),
    };
    let grantee = dto::Grantee { display_name: None, email_address, id, type_: Type::from_static(kind), uri };
    dto::Grant { grantee: Some(grantee), permission: Some(Permission::from(grant.permission)) }
}

fn read(grant: dto::Grant) -> S3Result<Grant> {
    let (Some(grantee), Some(permission)) = (grant.grantee, grant.permission) else {
        return Err(S3ErrorCode::MalformedACLError.into());
    };
    must_be_permission(permission.as_str())?;
    let grantee = match (grantee.id, grantee.uri, grantee.email_address) {
        (Some(id), None, None) => Grantee::User(id),
        (None, Some(uri), None) => Grantee::Group(uri),
        (None, None, Some(address)) => Grantee::Email(address),
        _ => return Err(S3ErrorCode::MalformedACLError.into()),
    };
    Ok(Grant { grantee, permission: permission.as_str().to_owned() })
}
