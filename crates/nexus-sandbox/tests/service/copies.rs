//! Copies: what they keep, what they drop, what they refuse.

use aws_sdk_s3::types::{MetadataDirective, ServerSideEncryption, StorageClass};
use nexus_sandbox::{NewObject, Quirks, ServiceOptions};

use crate::keys::awkward;
use crate::rig::{BUCKET, quirky, refusal, strict, with};

/// Percent-encodes everything but letters, digits and slashes.
fn source(key: &str) -> String {
    let encoded = key.bytes().map(|byte| match byte {
        b'/' => "/".to_owned(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    format!("{BUCKET}/{}", encoded.collect::<String>())
}

#[tokio::test]
async fn awkward_keys_can_be_copied() {
    let rig = strict();
    rig.service.store().create_bucket("vault");
    for key in awkward() {
        rig.service.store().put(BUCKET, &key, key.as_str()).expect("the bucket");
        let copy = rig.client.copy_object().bucket("vault").key(&key).copy_source(source(&key));
        let copied = copy.send().await.unwrap_or_else(|e| panic!("copy {key:?}: {e:?}"));
        let kept = rig.service.store().get("vault", &key).expect("a copy");
        assert_eq!(kept.body, key.as_bytes());
        let result = copied.copy_object_result().expect("a result");
        assert_eq!(result.e_tag(), Some(format!("\"{}\"", kept.etag).as_str()));
    }
}

#[tokio::test]
async fn a_copy_keeps_fields_and_tags_and_drops_class_and_encryption() {
    let rig = strict();
    let put = rig.client.put_object().bucket(BUCKET).key("k").body(b"x".to_vec().into());
    put.content_type("image/png")
        .cache_control("no-cache")
        .content_disposition("inline")
        .content_language("de")
        .metadata("who", "Zoë")
        .tagging("a=1&b=two+words")
        .storage_class(StorageClass::StandardIa)
        .server_side_encryption(ServerSideEncryption::Aes256)
        .send()
        .await
        .expect("a put");
    let copy = || rig.client.copy_object().bucket(BUCKET).copy_source("clinic/k");
    copy().key("l").send().await.expect("a copy");
    let (original, kept) = (rig.service.store().get(BUCKET, "k"), rig.service.store().get(BUCKET, "l"));
    let (original, kept) = (original.expect("it"), kept.expect("it"));
    assert_eq!(kept.fields, original.fields);
    assert_eq!(kept.fields.metadata["who"], "Zoë");
    assert_eq!(kept.tags["b"], "two words");
    assert_eq!(kept.etag, original.etag);
    assert_eq!(kept.checksum, original.checksum);
    assert_eq!((original.storage_class.as_str(), kept.storage_class.as_str()), ("STANDARD_IA", "STANDARD"));
    assert_eq!(kept.encryption.algorithm, None);
    let replaced = copy().key("m").metadata_directive(MetadataDirective::Replace).metadata("new", "1");
    replaced.send().await.expect("a copy");
    let kept = rig.service.store().get(BUCKET, "m").expect("it");
    assert_eq!(kept.fields.content_type, None);
    assert_eq!(kept.fields.metadata.len(), 1);
}

#[tokio::test]
async fn a_copy_obeys_the_conditions_on_its_source() {
    let rig = strict();
    let kept = rig.service.store().put(BUCKET, "k", "x").expect("the bucket");
    let copy = || rig.client.copy_object().bucket(BUCKET).key("l").copy_source("clinic/k");
    copy().copy_source_if_match(&kept.etag).send().await.expect("a match");
    let refused = copy().copy_source_if_match("abc").send().await;
    assert_eq!(refusal(refused), "PreconditionFailed");
    let refused = copy().copy_source_if_none_match(&kept.etag).send().await;
    assert_eq!(refusal(refused), "PreconditionFailed");
    let missing = rig.client.copy_object().bucket(BUCKET).key("l").copy_source("clinic/no");
    assert_eq!(refusal(missing.send().await), "NoSuchKey");
    let ignoring = quirky(Quirks { ignore_copy_conditions: true, ..Quirks::default() });
    ignoring.service.store().put(BUCKET, "k", "x").expect("the bucket");
    let copy = ignoring.client.copy_object().bucket(BUCKET).key("l").copy_source("clinic/k");
    copy.copy_source_if_match("abc").send().await.expect("no condition");
}

#[tokio::test]
async fn a_copy_onto_itself_must_change_something() {
    let rig = strict();
    rig.service.store().put(BUCKET, "k", "x").expect("the bucket");
    let copy = || rig.client.copy_object().bucket(BUCKET).key("k").copy_source("clinic/k");
    assert_eq!(refusal(copy().send().await), "InvalidRequest");
    copy().storage_class(StorageClass::StandardIa).send().await.expect("a change");
}

#[tokio::test]
async fn a_source_above_the_limit_is_refused() {
    let rig = with(ServiceOptions { copy_limit: 3, ..ServiceOptions::default() });
    rig.service.store().put(BUCKET, "k", NewObject::new("1234")).expect("the bucket");
    let copy = rig.client.copy_object().bucket(BUCKET).key("l").copy_source("clinic/k");
    assert_eq!(refusal(copy.send().await), "InvalidRequest");
}
