//! Access control lists and website redirects: what an object says of itself and a copy does not carry.

use aws_sdk_s3::operation::get_object_acl::GetObjectAclOutput;
use aws_sdk_s3::types::{
    AccessControlPolicy, Grant, Grantee, MetadataDirective, ObjectCannedAcl, ObjectOwnership, OwnershipControls,
    OwnershipControlsRule, Permission, Type,
};
use nexus_sandbox::{EVERYBODY, Ownership, Versioning};

use crate::rig::{BUCKET, Rig, refusal, strict};

/// A strict service whose bucket takes lists.
fn listed() -> Rig {
    let rig = strict();
    rig.service.store().set_ownership(BUCKET, Ownership::Writer).expect("the bucket");
    rig
}

impl Rig {
    async fn acl(&self, key: &str, version: Option<&str>) -> GetObjectAclOutput {
        let get = self.client.get_object_acl().bucket(BUCKET).key(key).set_version_id(version.map(str::to_owned));
        get.send().await.expect("a list")
    }
}

/// Who has which right, as `grantee right`.
fn rights(acl: &GetObjectAclOutput) -> Vec<String> {
    let name = |grant: &Grant| {
        let grantee = grant.grantee().expect("a grantee");
        let who = grantee.id().or(grantee.uri()).unwrap_or("?").to_owned();
        format!("{who} {}", grant.permission().map_or("?", Permission::as_str))
    };
    acl.grants().iter().map(name).collect()
}

#[tokio::test]
async fn a_new_bucket_takes_no_lists_and_says_what_it_has() {
    let rig = strict();
    rig.put("k", "x").await;
    let put = |acl| rig.client.put_object_acl().bucket(BUCKET).key("k").acl(acl).send();
    assert_eq!(refusal(put(ObjectCannedAcl::PublicRead).await), "AccessControlListNotSupported");
    assert_eq!(refusal(put(ObjectCannedAcl::Private).await), "AccessControlListNotSupported");
    put(ObjectCannedAcl::BucketOwnerFullControl).await.expect("it says nothing new");
    let object = rig.client.put_object().bucket(BUCKET).key("k").acl(ObjectCannedAcl::PublicRead).send().await;
    assert_eq!(refusal(object), "AccessControlListNotSupported");
    assert_eq!(rights(&rig.acl("k", None).await), ["nexus-sandbox FULL_CONTROL"]);
    let rule = OwnershipControlsRule::builder().object_ownership(ObjectOwnership::ObjectWriter).build();
    let controls = OwnershipControls::builder().rules(rule.expect("a rule")).build().expect("a rule");
    let set = rig.client.put_bucket_ownership_controls().bucket(BUCKET).ownership_controls(controls);
    set.send().await.expect("it is set");
    put(ObjectCannedAcl::PublicRead).await.expect("now it is taken");
}

#[tokio::test]
async fn a_list_is_answered_as_it_was_set_by_name_by_header_or_by_body() {
    let rig = listed();
    rig.put("k", "x").await;
    assert_eq!(rights(&rig.acl("k", None).await), ["nexus-sandbox FULL_CONTROL"]);
    let put = || rig.client.put_object_acl().bucket(BUCKET).key("k");
    put().acl(ObjectCannedAcl::PublicRead).send().await.expect("a name");
    let public = ["nexus-sandbox FULL_CONTROL".to_owned(), format!("{EVERYBODY} READ")];
    assert_eq!(rights(&rig.acl("k", None).await), public);
    put().grant_read("id=\"a\", id=\"b\"").grant_write_acp("id=\"a\"").send().await.expect("headers");
    assert_eq!(rights(&rig.acl("k", None).await), ["a READ", "b READ", "a WRITE_ACP"]);
    let grantee = Grantee::builder().r#type(Type::CanonicalUser).id("c").build().expect("a grantee");
    let grant = Grant::builder().grantee(grantee).permission(Permission::ReadAcp).build();
    let policy = AccessControlPolicy::builder().grants(grant).build();
    put().access_control_policy(policy).send().await.expect("a body");
    assert_eq!(rights(&rig.acl("k", None).await), ["c READ_ACP"]);
    assert_eq!(refusal(put().send().await), "MissingSecurityHeader");
    let both = put().acl(ObjectCannedAcl::Private).grant_read("id=\"a\"").send().await;
    assert_eq!(refusal(both), "InvalidRequest");
    assert_eq!(refusal(put().acl("abc".into()).send().await), "InvalidArgument");
    assert_eq!(refusal(rig.client.get_object_acl().bucket(BUCKET).key("no").send().await), "NoSuchKey");
}

#[tokio::test]
async fn a_copy_is_private_unless_it_says_otherwise() {
    let rig = listed();
    let put = rig.client.put_object().bucket(BUCKET).key("k").acl(ObjectCannedAcl::PublicRead);
    put.send().await.expect("a put");
    let copy = || rig.client.copy_object().bucket(BUCKET).copy_source("clinic/k");
    copy().key("plain").send().await.expect("a copy");
    copy().key("public").acl(ObjectCannedAcl::PublicRead).send().await.expect("a copy");
    assert_eq!(rig.acl("k", None).await.grants().len(), 2);
    assert_eq!(rig.acl("plain", None).await.grants().len(), 1);
    assert_eq!(rig.acl("public", None).await.grants().len(), 2);
}

#[tokio::test]
async fn each_version_has_a_list_of_its_own() {
    let rig = listed();
    rig.service.store().set_versioning(BUCKET, Versioning::Enabled).expect("the bucket");
    let old = rig.put("k", "x").await.expect("an id");
    let put = rig.client.put_object_acl().bucket(BUCKET).key("k").version_id(&old).acl(ObjectCannedAcl::PublicRead);
    put.send().await.expect("it is set");
    rig.put("k", "y").await;
    assert_eq!(rig.acl("k", Some(&old)).await.grants().len(), 2);
    assert_eq!(rig.acl("k", None).await.grants().len(), 1);
}

#[tokio::test]
async fn a_website_redirect_is_answered_and_not_carried_by_a_copy() {
    let rig = strict();
    let put = |place: &str| rig.client.put_object().bucket(BUCKET).key("k").website_redirect_location(place).send();
    assert_eq!(refusal(put("elsewhere").await), "InvalidRedirectLocation");
    put("/elsewhere").await.expect("a put");
    let got = rig.client.get_object().bucket(BUCKET).key("k").send().await.expect("it");
    assert_eq!(got.website_redirect_location(), Some("/elsewhere"));
    let copy = || rig.client.copy_object().bucket(BUCKET).key("copy").copy_source("clinic/k");
    let redirect = || async {
        let head = rig.client.head_object().bucket(BUCKET).key("copy").send().await.expect("a head");
        head.website_redirect_location().map(str::to_owned)
    };
    copy().send().await.expect("a copy");
    assert_eq!(redirect().await, None);
    copy().metadata_directive(MetadataDirective::Replace).send().await.expect("a copy");
    assert_eq!(redirect().await, None);
    copy().website_redirect_location("https://example.org").send().await.expect("a copy");
    assert_eq!(redirect().await.as_deref(), Some("https://example.org"));
}
