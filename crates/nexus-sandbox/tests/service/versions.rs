//! Versions: what is kept when something is overwritten or deleted, and what the current state is.

use aws_sdk_s3::operation::delete_object::DeleteObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketVersioningStatus, CompletedMultipartUpload, CompletedPart, Delete, ObjectAttributes, ObjectIdentifier, Tag,
    Tagging, VersioningConfiguration,
};
use nexus_sandbox::{NULL_VERSION, Versioning};

use crate::rig::{BUCKET, Rig, refusal, strict};

/// A strict service whose bucket keeps versions.
fn versioned() -> Rig {
    let rig = strict();
    rig.set(Versioning::Enabled);
    rig
}

impl Rig {
    fn set(&self, versioning: Versioning) {
        self.service.store().set_versioning(BUCKET, versioning).expect("the bucket");
    }

    /// Puts an object and answers the version id that the service gave it.
    pub async fn put(&self, key: &str, body: &'static str) -> Option<String> {
        let put = self.client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(body.as_bytes()));
        put.send().await.expect("a put").version_id().map(str::to_owned)
    }

    /// The body of an object, or of one of its versions, or the code of the refusal.
    async fn body(&self, key: &str, version: Option<&str>) -> Result<String, String> {
        let get = self.client.get_object().bucket(BUCKET).key(key).set_version_id(version.map(str::to_owned));
        match get.send().await {
            Ok(got) => {
                let bytes = got.body.collect().await.expect("a body").into_bytes();
                Ok(String::from_utf8(bytes.to_vec()).expect("a text"))
            }
            Err(error) => Err(refusal::<(), _>(Err(error))),
        }
    }

    async fn delete(&self, key: &str, version: Option<&str>) -> DeleteObjectOutput {
        let delete = self.client.delete_object().bucket(BUCKET).key(key);
        delete.set_version_id(version.map(str::to_owned)).send().await.expect("a deletion")
    }

    /// The ids of all versions of a key, newest first.
    fn ids(&self, key: &str) -> Vec<String> {
        self.service.store().versions(BUCKET, key).into_iter().map(|version| version.id).collect()
    }
}

fn missing(code: &str) -> Result<String, String> {
    Err(code.to_owned())
}

#[tokio::test]
async fn a_bucket_says_whether_it_keeps_versions() {
    let rig = strict();
    let status = || async {
        let answer = rig.client.get_bucket_versioning().bucket(BUCKET).send().await;
        answer.expect("an answer").status().cloned()
    };
    assert_eq!(status().await, None);
    for wanted in [BucketVersioningStatus::Enabled, BucketVersioningStatus::Suspended] {
        let configuration = VersioningConfiguration::builder().status(wanted.clone()).build();
        let put = rig.client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(configuration);
        put.send().await.expect("it is set");
        assert_eq!(status().await, Some(wanted));
    }
    let none = VersioningConfiguration::builder().build();
    let put = rig.client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(none);
    assert_eq!(refusal(put.send().await), "IllegalVersioningConfigurationException");
}

#[tokio::test]
async fn a_bucket_that_never_kept_versions_names_none() {
    let rig = strict();
    assert_eq!(rig.put("k", "one").await, None);
    assert_eq!(rig.body("k", Some(NULL_VERSION)).await.as_deref(), Ok("one"));
    assert_eq!(rig.body("k", Some("made-up")).await, missing("InvalidArgument"));
    let gone = rig.delete("k", None).await;
    assert_eq!((gone.version_id(), gone.delete_marker()), (None, None));
    assert_eq!(rig.ids("k").len(), 0);
}

#[tokio::test]
async fn every_write_to_a_bucket_with_versions_keeps_the_one_before() {
    let rig = versioned();
    let put = rig.put("k", "one").await.expect("an id");
    let copy = rig.client.copy_object().bucket(BUCKET).key("k").copy_source("clinic/k");
    let copied = copy.metadata_directive("REPLACE".into()).send().await.expect("a copy");
    assert_eq!(copied.copy_source_version_id(), Some(put.as_str()));
    let copied = copied.version_id().expect("an id").to_owned();
    let completed = multipart(&rig, "k", "three").await.expect("an id");
    assert_eq!(rig.ids("k"), [completed.clone(), copied.clone(), put.clone()]);
    assert_eq!(rig.body("k", None).await.as_deref(), Ok("three"));
    for (id, body) in [(&put, "one"), (&copied, "one"), (&completed, "three")] {
        assert_eq!(rig.body("k", Some(id)).await.as_deref(), Ok(body));
        let head = rig.client.head_object().bucket(BUCKET).key("k").version_id(id).send().await.expect("a head");
        assert_eq!(head.version_id(), Some(id.as_str()));
    }
    assert_eq!(rig.service.store().count(BUCKET), 1);
}

async fn multipart(rig: &Rig, key: &str, body: &'static str) -> Option<String> {
    let create = rig.client.create_multipart_upload().bucket(BUCKET).key(key).send().await.expect("an upload");
    let id = create.upload_id().expect("an id");
    let part = rig.client.upload_part().bucket(BUCKET).key(key).upload_id(id).part_number(1);
    let part = part.body(ByteStream::from_static(body.as_bytes())).send().await.expect("a part");
    let part = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag().map(str::to_owned)).build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let complete = rig.client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(id).multipart_upload(parts);
    complete.send().await.expect("an object").version_id().map(str::to_owned)
}

#[tokio::test]
async fn what_was_there_before_is_the_null_version() {
    let rig = strict();
    rig.put("k", "old").await;
    rig.set(Versioning::Enabled);
    assert_eq!(rig.ids("k"), [NULL_VERSION]);
    let newer = rig.put("k", "new").await.expect("an id");
    assert_eq!(rig.ids("k"), [newer.as_str(), NULL_VERSION]);
    assert_eq!(rig.body("k", Some(NULL_VERSION)).await.as_deref(), Ok("old"));
    let head = rig.client.head_object().bucket(BUCKET).key("k").version_id(NULL_VERSION).send().await;
    assert_eq!(head.expect("a head").version_id(), Some(NULL_VERSION));
}

#[tokio::test]
async fn a_suspended_bucket_replaces_its_null_version_and_no_other() {
    let rig = versioned();
    let kept = rig.put("k", "kept").await.expect("an id");
    rig.set(Versioning::Suspended);
    assert_eq!(rig.put("k", "one").await.as_deref(), Some(NULL_VERSION));
    assert_eq!(rig.put("k", "two").await.as_deref(), Some(NULL_VERSION));
    assert_eq!(rig.ids("k"), [NULL_VERSION, kept.as_str()]);
    let gone = rig.delete("k", None).await;
    assert_eq!((gone.version_id(), gone.delete_marker()), (Some(NULL_VERSION), Some(true)));
    assert_eq!(rig.ids("k"), [NULL_VERSION, kept.as_str()]);
    assert_eq!(rig.body("k", None).await, missing("NoSuchKey"));
    assert_eq!(rig.body("k", Some(&kept)).await.as_deref(), Ok("kept"));
}

#[tokio::test]
async fn a_delete_writes_a_marker_whose_removal_brings_the_object_back() {
    let rig = versioned();
    let kept = rig.put("k", "kept").await.expect("an id");
    let deleted = rig.delete("k", None).await;
    let marker = deleted.version_id().expect("an id").to_owned();
    assert_eq!(deleted.delete_marker(), Some(true));
    assert_eq!(rig.ids("k"), [marker.clone(), kept.clone()]);
    assert_eq!((rig.service.store().count(BUCKET), rig.service.store().version_count(BUCKET, "")), (0, 2));
    let error = rig.client.get_object().bucket(BUCKET).key("k").send().await.expect_err("a refusal");
    let answer = error.raw_response().expect("an answer");
    assert_eq!(answer.status().as_u16(), 404);
    assert_eq!(answer.headers().get("x-amz-delete-marker"), Some("true"));
    assert_eq!(answer.headers().get("x-amz-version-id"), Some(marker.as_str()));
    let error = rig.client.head_object().bucket(BUCKET).key("k").version_id(&marker).send().await;
    let error = error.expect_err("a refusal");
    let answer = error.raw_response().expect("an answer");
    assert_eq!(answer.status().as_u16(), 405);
    assert_eq!(answer.headers().get("x-amz-delete-marker"), Some("true"));
    assert_eq!(rig.body("k", Some(&marker)).await, missing("MethodNotAllowed"));
    let removed = rig.delete("k", Some(&marker)).await;
    assert_eq!((removed.version_id(), removed.delete_marker()), (Some(marker.as_str()), Some(true)));
    assert_eq!(rig.body("k", None).await.as_deref(), Ok("kept"));
}

#[tokio::test]
async fn a_version_that_is_deleted_by_its_id_is_gone_and_the_others_stay() {
    let rig = versioned();
    let (one, two) = (rig.put("k", "one").await.expect("an id"), rig.put("k", "two").await.expect("an id"));
    let removed = rig.delete("k", Some(&two)).await;
    assert_eq!((removed.version_id(), removed.delete_marker()), (Some(two.as_str()), None));
    assert_eq!(rig.body("k", None).await.as_deref(), Ok("one"));
    assert_eq!(rig.body("k", Some(&two)).await, missing("NoSuchVersion"));
    rig.delete("k", Some(&two)).await;
    let bad = rig.client.delete_object().bucket(BUCKET).key("k").version_id("made-up").send().await;
    assert_eq!(refusal(bad), "InvalidArgument");
    rig.delete("k", Some(&one)).await;
    rig.client.delete_bucket().bucket(BUCKET).send().await.expect("an empty bucket");
}

#[tokio::test]
async fn a_bucket_with_old_versions_or_markers_is_not_empty() {
    let rig = versioned();
    rig.put("k", "one").await;
    rig.delete("k", None).await;
    assert_eq!(refusal(rig.client.delete_bucket().bucket(BUCKET).send().await), "BucketNotEmpty");
    let unseen = rig.client.list_objects_v2().bucket(BUCKET).send().await.expect("a page");
    assert_eq!(unseen.key_count(), Some(0));
}

#[tokio::test]
async fn conditions_on_writes_look_at_the_current_version_and_a_marker_counts_as_none() {
    let rig = versioned();
    let absent = || rig.client.put_object().bucket(BUCKET).key("k").if_none_match("*").send();
    absent().await.expect("nothing is there");
    assert_eq!(refusal(absent().await), "PreconditionFailed");
    let old = rig.service.store().get(BUCKET, "k").expect("it").etag.clone();
    let same = || rig.client.put_object().bucket(BUCKET).key("k").if_match(&old).body(ByteStream::from_static(b"x"));
    same().send().await.expect("it is as it was seen");
    assert_eq!(refusal(same().send().await), "PreconditionFailed");
    rig.delete("k", None).await;
    assert_eq!(refusal(same().send().await), "NoSuchKey");
    absent().await.expect("a marker is there");
}

#[tokio::test]
async fn old_versions_can_be_copied_whole_and_in_parts_and_markers_cannot() {
    let rig = versioned();
    let old = rig.put("k", "0123456789").await.expect("an id");
    rig.put("k", "new").await;
    let marker = rig.delete("k", None).await.version_id().expect("an id").to_owned();
    let copy =
        |id: &str| rig.client.copy_object().bucket(BUCKET).key("k").copy_source(format!("clinic/k?versionId={id}"));
    let copied = copy(&old).send().await.expect("onto itself, of an old version");
    assert_eq!(copied.copy_source_version_id(), Some(old.as_str()));
    assert_eq!(rig.body("k", None).await.as_deref(), Ok("0123456789"));
    assert_eq!(refusal(copy(&marker).send().await), "InvalidRequest");
    assert_eq!(refusal(copy("made-up").send().await), "InvalidArgument");
    let create = rig.client.create_multipart_upload().bucket(BUCKET).key("l").send().await.expect("an upload");
    let part = rig.client.upload_part_copy().bucket(BUCKET).key("l").part_number(1).copy_source_range("bytes=2-4");
    let part = part.upload_id(create.upload_id().expect("an id")).copy_source(format!("clinic/k?versionId={old}"));
    let part = part.send().await.expect("a part");
    assert_eq!(part.copy_source_version_id(), Some(old.as_str()));
    rig.delete("k", None).await;
    let current = rig.client.copy_object().bucket(BUCKET).key("l").copy_source("clinic/k").send().await;
    assert_eq!(refusal(current), "NoSuchKey");
}

#[tokio::test]
async fn tags_and_attributes_are_those_of_the_version() {
    let rig = versioned();
    let old = rig.put("k", "1").await.expect("an id");
    let new = rig.put("k", "22").await.expect("an id");
    let tag = Tag::builder().key("age").value("old").build().expect("a tag");
    let tagging = Tagging::builder().tag_set(tag).build().expect("a tag");
    let put = rig.client.put_object_tagging().bucket(BUCKET).key("k").version_id(&old).tagging(tagging);
    assert_eq!(put.send().await.expect("it is set").version_id(), Some(old.as_str()));
    for (id, tags, size) in [(&old, 1, 1), (&new, 0, 2)] {
        let got = rig.client.get_object_tagging().bucket(BUCKET).key("k").version_id(id).send().await;
        let got = got.expect("the tags");
        assert_eq!((got.version_id(), got.tag_set().len()), (Some(id.as_str()), tags));
        let asked = rig.client.get_object_attributes().bucket(BUCKET).key("k").version_id(id);
        let asked = asked.object_attributes(ObjectAttributes::ObjectSize).send().await.expect("the size");
        assert_eq!((asked.version_id(), asked.object_size()), (Some(id.as_str()), Some(size)));
    }
}

#[tokio::test]
async fn a_batch_deletes_versions_by_their_ids_and_writes_markers_for_the_rest() {
    let rig = versioned();
    let old = rig.put("a", "1").await.expect("an id");
    rig.put("b", "1").await;
    let named = |key: &str, id: Option<&str>| {
        let object = ObjectIdentifier::builder().key(key).set_version_id(id.map(str::to_owned));
        object.build().expect("a key")
    };
    let batch = |objects: Vec<ObjectIdentifier>| {
        let delete = Delete::builder().set_objects(Some(objects)).build().expect("keys");
        rig.client.delete_objects().bucket(BUCKET).delete(delete).send()
    };
    let wanted = vec![named("a", Some(&old)), named("b", None), named("a", Some("made-up"))];
    let answer = batch(wanted).await.expect("an answer");
    let [a, b] = answer.deleted() else { panic!("{answer:?}") };
    assert_eq!((a.version_id(), a.delete_marker()), (Some(old.as_str()), None));
    assert_eq!((b.version_id(), b.delete_marker()), (None, Some(true)));
    let marker = b.delete_marker_version_id().expect("an id").to_owned();
    let [error] = answer.errors() else { panic!("{answer:?}") };
    assert_eq!((error.code(), error.version_id()), (Some("InvalidArgument"), Some("made-up")));
    let answer = batch(vec![named("b", Some(&marker))]).await.expect("an answer");
    let [b] = answer.deleted() else { panic!("{answer:?}") };
    assert_eq!((b.delete_marker(), b.delete_marker_version_id()), (Some(true), Some(marker.as_str())));
    assert_eq!(rig.body("b", None).await.as_deref(), Ok("1"));
}

#[tokio::test]
async fn the_rights_to_a_version_are_not_those_to_the_newest() {
    let rig = versioned();
    let old = rig.put("k", "one").await.expect("an id");
    rig.service.deny("GetObjectVersion");
    rig.service.deny("DeleteObjectVersion");
    assert_eq!(rig.body("k", None).await.as_deref(), Ok("one"));
    assert_eq!(rig.body("k", Some(&old)).await, missing("AccessDenied"));
    let copy = rig.client.copy_object().bucket(BUCKET).key("l").copy_source(format!("clinic/k?versionId={old}"));
    assert_eq!(refusal(copy.send().await), "AccessDenied");
    let delete = rig.client.delete_object().bucket(BUCKET).key("k").version_id(&old).send().await;
    assert_eq!(refusal(delete), "AccessDenied");
    rig.delete("k", None).await;
    assert_eq!(rig.ids("k").len(), 2);
}

#[tokio::test]
async fn tests_look_into_the_store_as_requests_do() {
    let rig = versioned();
    let store = rig.service.store();
    let one = store.put(BUCKET, "k", "one").expect("the bucket");
    store.put(BUCKET, "k", "two").expect("the bucket");
    assert!(store.delete(BUCKET, "k") && !store.delete(BUCKET, "k"));
    let versions = store.versions(BUCKET, "k");
    assert_eq!(versions.iter().map(nexus_sandbox::Version::is_marker).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(versions[2].object.as_ref(), Some(&one));
    assert!(store.get(BUCKET, "k").is_none() && store.keys(BUCKET, "").is_empty());
    assert_eq!(store.keys_with_versions(BUCKET, ""), ["k"]);
    assert!(store.tamper_version(BUCKET, "k", &versions[2].id, "rot") && !store.tamper(BUCKET, "k", "rot"));
    assert_eq!(store.versions(BUCKET, "k")[2].object.as_ref().expect("an object").body, "rot");
    assert!(store.remove_version(BUCKET, "k", &versions[0].id));
    assert_eq!(rig.body("k", None).await.as_deref(), Ok("two"));
}
