//! What no copy of an object has: who may do what with it, and where a website sends those who ask for it. Both are kept in the
//! listing where that is configured, and never given to a copy in a vault, which would be as public as its original.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/how-to-page-redirect.html>

use std::collections::BTreeMap;

use aws_sdk_s3::types::{AccessControlPolicy, Grant, Grantee, MetadataDirective, Owner, StorageClass, Type};

use super::blank::marked;
use super::failure::{Failure, FailureKind, failure};
use super::s3::{S3, bare, expiring, quoted};
use super::transfer::{copy_source, user_metadata};
use super::{Bucket, Object, Reader, Writer};
use crate::error::Result;

/// The name of what is granted, among a listing's headers: `FULL_CONTROL owner, READ uri:http://…`. An object whose line has it was
/// asked for both.
pub(crate) const GRANTS: &str = "x-amz-grants";
/// The header that says where a website sends those who ask for an object.
const REDIRECT: &str = "x-amz-website-redirect-location";
/// What an object has that nobody gave to anybody.
const PRIVATE: &str = "FULL_CONTROL owner";

/// Of what is kept beside an object's bytes, that which no copy has.
pub(crate) fn only(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    headers
        .iter()
        .filter(|(name, _)| [GRANTS, REDIRECT].contains(&name.as_str()))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

/// What is kept beside an object's bytes without that.
pub(crate) fn without(mut headers: BTreeMap<String, String>) -> BTreeMap<String, String> {
    headers.retain(|name, _| ![GRANTS, REDIRECT].contains(&name.as_str()));
    headers
}

/// Asks for both, and puts them among what is kept of an object; false when it is gone. Of an object that was asked before and not
/// written since the redirect is known: it changes with the object alone.
///
/// # Errors
///
/// [`Denied`](crate::error::Error::Denied) when the role may not ask: `s3:GetObjectAcl`; [`Unsupported`](crate::error::Error::Unsupported) where the service knows no lists.
pub(crate) async fn ask(source: &Reader, object: &Object, headers: &mut BTreeMap<String, String>) -> Result<bool> {
    let Bucket::S3(s3) = source.bucket() else { return Ok(true) };
    let asked_before = headers.remove(GRANTS).is_some();
    let what = || format!("cannot ask who may read s3://{}/{}", s3.name(), object.key);
    let version = object.side.version.as_deref();
    let listed = async {
        let (_, grants) = granted(s3, &object.key, version).await?;
        let redirect = if asked_before { headers.remove(REDIRECT) } else { redirect(s3, &object.key, version).await? };
        Ok((grants, redirect))
    };
    let (grants, redirect) = match listed.await {
        Ok(both) => both,
        Err(Failure { kind: FailureKind::Gone, .. }) => return Ok(false),
        Err(failure) => return Err(failure.into_error(what())),
    };
    headers.insert(GRANTS.to_owned(), grants);
    headers.extend(redirect.map(|redirect| (REDIRECT.to_owned(), redirect)));
    Ok(true)
}

/// Gives both to an object that was put back, where it has others. Answers the ETag that it has then, if it was written for that.
///
/// # Errors
///
/// [`Denied`](crate::error::Error::Denied) when the role may not: `s3:PutObjectAcl`; [`Service`](crate::error::Error::Service) where the bucket takes no lists.
pub(crate) async fn give(
    to: &Writer,
    key: &str,
    kept: &BTreeMap<String, String>,
    class: Option<&str>,
) -> Result<Option<String>> {
    let (Bucket::S3(s3), Some(wanted)) = (to.reader().bucket(), kept.get(GRANTS)) else { return Ok(None) };
    to.allow(key)?;
    let given = async {
        // It is written anew for the one, which takes the other away.
        let etag = lead(s3, key, kept.get(REDIRECT), class).await?;
        let (owner, grants) = match granted(s3, key, None).await {
            // Where nothing can be granted, nothing is.
            Err(failure) if failure.kind == FailureKind::Unsupported && wanted == PRIVATE => return Ok(etag),
            answer => answer?,
        };
        if grants != *wanted {
            grant(s3, key, &owner, wanted).await?;
            // Some services take a list and keep none.
            let (_, kept) = granted(s3, key, None).await?;
            if kept != *wanted {
                return Err(Failure::fatal(format!("the service took that, and says of it now: {kept}")));
            }
        }
        Ok(etag)
    };
    given.await.map_err(|failure: Failure| {
        failure.into_error(format!("cannot let those read s3://{}/{key} who could: {wanted}", s3.name()))
    })
}

/// Lets an object lead where it led, and looks whether it does; answers the ETag that it has then, if it was written for that.
async fn lead(
    s3: &S3,
    key: &str,
    wanted: Option<&String>,
    class: Option<&str>,
) -> std::result::Result<Option<String>, Failure> {
    if redirect(s3, key, None).await?.as_ref() == wanted {
        return Ok(None);
    }
    let etag = send_on(s3, key, wanted, class).await?;
    if redirect(s3, key, None).await?.as_ref() == wanted {
        return Ok(Some(etag));
    }
    let wanted = wanted.map_or("nowhere", String::as_str);
    Err(Failure::fatal(format!(
        "the service took that it leads to {wanted}, and does not keep it: set properties = \"copied\" under [files], or use another service"
    )))
}

/// The owner, and what is granted to whom, in words.
async fn granted(s3: &S3, key: &str, version: Option<&str>) -> std::result::Result<(String, String), Failure> {
    let ask = async || {
        let request = s3.client().get_object_acl().bucket(s3.name()).key(marked(key));
        request.set_version_id(version.map(str::to_owned)).send().await.map_err(failure)
    };
    let answer = s3.attempt(0, ask).await?;
    let owner = answer.owner().and_then(|owner| owner.id()).unwrap_or_default().to_owned();
    let words: Option<Vec<String>> = answer.grants().iter().map(|grant| in_words(grant, &owner)).collect();
    let mut words = words.ok_or_else(|| {
        Failure::fatal("its access control list has a grant without a permission or without a grantee")
    })?;
    words.sort();
    Ok((owner, words.join(", ")))
}

fn in_words(grant: &Grant, owner: &str) -> Option<String> {
    let (permission, grantee) = (grant.permission()?.as_str(), grant.grantee()?);
    let whom = match (grantee.id(), grantee.uri(), grantee.email_address()) {
        (Some(id), ..) if id == owner => "owner".to_owned(),
        (Some(id), ..) => format!("id:{id}"),
        (None, Some(uri), _) => format!("uri:{uri}"),
        (None, None, email) => format!("email:{}", email?),
    };
    Some(format!("{permission} {whom}"))
}

fn of_words(word: &str, owner: &str) -> Option<Grant> {
    let (permission, whom) = word.split_once(' ')?;
    let grantee = Grantee::builder();
    let grantee = match whom.split_once(':') {
        None => grantee.r#type(Type::CanonicalUser).id(owner),
        Some(("id", id)) => grantee.r#type(Type::CanonicalUser).id(id),
        Some(("uri", uri)) => grantee.r#type(Type::Group).uri(uri),
        Some((_, email)) => grantee.r#type(Type::AmazonCustomerByEmail).email_address(email),
    };
    Some(Grant::builder().permission(permission.into()).grantee(grantee.build().ok()?).build())
}

async fn grant(s3: &S3, key: &str, owner: &str, wanted: &str) -> std::result::Result<(), Failure> {
    let grants: Option<Vec<Grant>> = wanted.split(", ").map(|word| of_words(word, owner)).collect();
    let grants = grants.ok_or_else(|| Failure::fatal(format!("{wanted:?} says nothing that could be granted")))?;
    let policy =
        AccessControlPolicy::builder().owner(Owner::builder().id(owner).build()).set_grants(Some(grants)).build();
    s3.attempt(0, async || {
        let request = s3.client().put_object_acl().bucket(s3.name()).key(marked(key));
        request.access_control_policy(policy.clone()).send().await.map_err(failure)
    })
    .await
    .map(drop)
    .map_err(|failure| {
        let closed = failure.says("AccessControlListNotSupported") && wanted != PRIVATE;
        if closed {
            return Failure::fatal(
                "the bucket takes no access control lists (its object ownership is enforced): give access by a bucket policy, and set \
                 properties = \"copied\" under [files]",
            );
        }
        failure
    })
}

async fn redirect(s3: &S3, key: &str, version: Option<&str>) -> std::result::Result<Option<String>, Failure> {
    let ask = async || {
        let request = s3.client().head_object().bucket(s3.name()).key(marked(key));
        request.set_version_id(version.map(str::to_owned)).send().await.map_err(failure)
    };
    Ok(s3.attempt(0, ask).await?.website_redirect_location().map(str::to_owned))
}

/// Writes an object over itself, with all that it has and another redirect.
async fn send_on(s3: &S3, key: &str, to: Option<&String>, class: Option<&str>) -> std::result::Result<String, Failure> {
    let has = s3.head(key).await.map_err(Failure::of)?.ok_or_else(|| Failure::gone("it is gone"))?;
    let header = |name: &str| has.headers.get(name).cloned();
    let source = copy_source(s3, key, None);
    let condition = has.object.side.etag.as_deref().map(quoted);
    let answer = s3
        .attempt(0, async || {
            let request = s3.client().copy_object().bucket(s3.name()).key(marked(key)).copy_source(&source);
            request
                .set_copy_source_if_match(condition.clone())
                .metadata_directive(MetadataDirective::Replace)
                .set_content_type(header("content-type"))
                .set_cache_control(header("cache-control"))
                .set_content_disposition(header("content-disposition"))
                .set_content_encoding(header("content-encoding"))
                .set_content_language(header("content-language"))
                .set_metadata(user_metadata(&has.headers))
                .set_storage_class(class.map(StorageClass::from))
                .set_website_redirect_location(to.cloned())
                .customize()
                .mutate_request(expiring(header("expires")))
                .send()
                .await
                .map_err(failure)
        })
        .await?;
    let etag = answer.copy_object_result().and_then(|result| result.e_tag()).map(bare);
    etag.ok_or_else(|| Failure::fatal("the service answered success without an ETag"))
}
